#!/usr/bin/env bash
# pyarrow 25.0.1 beside pandas 3.1.1: one Arrow scalar of a plain Python number imports pandas.
#
# Nothing here is pandas': pyarrow.scalar(1.0), pyarrow.array([1.0]) and pyarrow.parquet.read_table each bring some hundreds
# of pandas' modules into the process, where pandas is installed. A schema, a table of buffers, its rows as Python objects,
# writing it to Parquet, and reading it by ParquetFile do not.
# (Expected before it was run: arrays of lists do, which are looked at for pandas' missing values; a scalar, whose Python
# value has none, is a way around; reading is as writing.)
#
# Output seen:
#   table of buffers False
#   its rows False
#   write_table False
#   ParquetFile False
#   scalar True
#   array True
#   read_table True
#
# Why it matters: a command that only wants to read a small table waits for the import, a fifth to half of a second, and
# imports that are counted or forbidden (a stage without pandas in its list) are there all the same.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    pyarrow==25.0.1 \
    pandas==3.1.1 \
    numpy==2.4.6
cd "$work"
"$work/environment/bin/python" -I - <<'PYTHON'
import subprocess
import sys

BEGIN = """
import sys
import pyarrow as pa
import pyarrow.parquet as pq
numbers = pa.Array.from_buffers(pa.float64(), 2, [None, pa.py_buffer(bytes(16))])
table = pa.Table.from_arrays([numbers], schema=pa.schema([("value", pa.float64())]))
"""
CASES = {
    "table of buffers": ("", False),
    "its rows": ("assert table.to_pylist() == [{'value': 0.0}] * 2", False),
    "write_table": ("pq.write_table(table, 'table.parquet')", False),
    "ParquetFile": ("assert pq.ParquetFile('table.parquet').read() == table", False),
    "scalar": ("assert pa.scalar(1.0).as_py() == 1.0", True),
    "array": ("assert len(pa.array([1.0])) == 1", True),
    "read_table": ("assert pq.read_table('table.parquet') == table", True),
}
for name, (code, expected) in CASES.items():
    program = f"{BEGIN}{code}\nprint('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    print(name, done.stdout.strip())
    assert done.stdout.strip() == str(expected), f"{name} has changed"
PYTHON
