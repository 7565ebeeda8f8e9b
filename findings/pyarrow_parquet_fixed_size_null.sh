#!/usr/bin/env bash
# pyarrow 25.0.1: a Parquet file that it wrote itself can't be read again when a row of a fixed-size list is missing.
#
# A column of type list_(float32, 2) with one null among its rows: write_table succeeds, read_table raises ArrowInvalid
# "Expected all lists to be of size=2 but index 3 had size=0" (the row counted from 1). Rows of NaN, and nulls within a
# row, are read; so is the same table as Feather, and the same rows as lists of variable size.
#
# Why it matters: patterns on one grid are natural fixed-size lists, and a missing pattern a natural null. The loss
# shows only on reading, and takes the whole column with it: write a row of NaN, or check for nulls before writing.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    pyarrow==25.0.1
"$work/environment/bin/python" -I - <<'PYTHON'
import io

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet


def through_parquet(column):
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"pattern": column}), buffer)
    buffer.seek(0)
    return parquet.read_table(buffer)["pattern"].to_pylist()


fixed = pa.list_(pa.float32(), 2)
rows = [[1.0, 2.0], [3.0, 4.0], None]
try:
    read = through_parquet(pa.array(rows, type=fixed))
except pa.ArrowInvalid as error:
    print("Parquet:", error)
    assert "size=0" in str(error)
else:
    raise SystemExit(f"the file can be read now: {read}")

assert through_parquet(pa.array(rows, type=pa.list_(pa.float32()))) == rows
assert through_parquet(pa.array([[1.0, None], [3.0, 4.0]], type=fixed)) == [[1.0, None], [3.0, 4.0]]
assert str(through_parquet(pa.array([[float("nan")] * 2], type=fixed))) == "[[nan, nan]]"
buffer = io.BytesIO()
feather.write_feather(pa.table({"pattern": pa.array(rows, type=fixed)}), buffer)
buffer.seek(0)
read = feather.read_table(buffer)["pattern"].to_pylist()
print("Feather:", read)
assert read == rows
PYTHON
