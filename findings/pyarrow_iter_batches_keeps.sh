#!/usr/bin/env bash
# pyarrow 25.0.1: ParquetFile.iter_batches keeps the whole file in memory, a little more with each batch, and keeps it
# after the file was closed.
#
# A table of 60 row groups of 1,024 rows, 1,024 numbers (float32) a row, is read 1,024 rows at a time, each batch let go
# before the next: `pyarrow.total_allocated_bytes()` grows with what was read, to about the size of the file (261 MB),
# and is still there after `close()` and a garbage collection while the ParquetFile itself is referred to. With
# pre_buffer=False, or row group by row group through `iter_batches(…, row_groups=[g])`, it stays at some 15 MB.
#
# Guessed before the run: memory is that of the row group that is being read.
#
# Why it matters: whoever streams a table that is larger than memory by the function that is there for it is killed in
# the middle, and a program that reads many tables one after the other grows as long as it refers to their files.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    pyarrow==25.0.1 \
    numpy==2.4.6
cat >"$work/read.py" <<'PYTHON'
import gc
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUPS, ROWS, NUMBERS = 60, 1024, 1024
path = sys.argv[1]
schema = pa.schema([pa.field("numbers", pa.list_(pa.float32(), NUMBERS))])
with pq.ParquetWriter(path, schema, compression="zstd") as writer:
    for group in range(GROUPS):
        values = np.random.default_rng(group).random(ROWS * NUMBERS, dtype=np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values), NUMBERS)
        writer.write_table(pa.table([column], schema=schema))
        del values, column
gc.collect()
size = os.path.getsize(path)


def most(batches):
    """The most that is allocated while batches are read and let go, and after how many rows."""
    largest, rows = 0, 0
    for batch in batches:
        rows += len(batch)
        del batch
        largest = max(largest, pa.total_allocated_bytes() - before)
    return largest, rows


found = {}
for name, options in (("as it is", {}), ("pre_buffer=False", {"pre_buffer": False})):
    before = pa.total_allocated_bytes()
    table = pq.ParquetFile(path, **options)
    largest, rows = most(table.iter_batches(ROWS))
    table.close()
    gc.collect()
    found[name] = largest, pa.total_allocated_bytes() - before
    assert rows == GROUPS * ROWS
    del table
    gc.collect()
before = pa.total_allocated_bytes()
table = pq.ParquetFile(path)
largest, rows = most(batch for group in range(GROUPS) for batch in table.iter_batches(ROWS, row_groups=[group]))
found["group by group"] = largest, pa.total_allocated_bytes() - before
print(f"file of {size / 1e6:.0f} MB")
for name, (largest, left) in found.items():
    print(f"{name}: {largest / 1e6:.0f} MB at most, {left / 1e6:.0f} MB afterwards")
assert found["as it is"][0] > 0.8 * size and found["as it is"][1] > 0.8 * size
assert found["pre_buffer=False"][0] < 0.15 * size and found["group by group"][0] < 0.15 * size
PYTHON
"$work/environment/bin/python" "$work/read.py" "$work/table.parquet"
