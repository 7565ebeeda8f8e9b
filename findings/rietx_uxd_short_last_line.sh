#!/usr/bin/env bash
# rietx 1.10.0: where the last line of a UXD block holds fewer counts than the others, every line is cut to its length.
#
# A block _COUNTS holds counts alone, several in a line (XCH writes eight), so that the last line is full only where their
# number is a multiple. rietx's reader makes a table of the lines, as wide as the shortest of them, and reads this row by
# row: 3001 counts in lines of eight are read as 376, every eighth one, from 5.00 to 12.50 instead of to 65.00 degrees.
# There is no error and no diagnostic. geddes 1.0.1 reads all.
#
# Why it matters: it is the layout that Bruker's own converter writes. What is read looks like a pattern.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    rietx==1.10.0 \
    geddes==1.0.1 \
    numpy==2.4.6
"$work/environment/bin/python" -I - "$work/scan.uxd" <<'PYTHON'
import sys
from pathlib import Path

import geddes
from rietx.io.readers import read_pattern

path = Path(sys.argv[1])
counts = [500 + i for i in range(3001)]
lines = [" ".join(map(str, counts[i : i + 8])) for i in range(0, len(counts), 8)]
head = ["_FILEVERSION=2", "_ANODE='Cu'", "_DRIVE='COUPLED'", "_STEPTIME=1.0", "_STEPSIZE=0.02", "_START=5.0", "_COUNTS"]
path.write_text("\n".join([*head, *lines]) + "\n")
notes = []
found, other = read_pattern(path, diagnostics=notes), geddes.read(str(path))
print(f"written: {len(counts)} counts, 5 to 65 degrees, {sum(counts)} in all")
print(f"rietx:   {len(found.intensity)} from {found.two_theta[0]:g} to {found.two_theta[-1]:g}, {sum(found.intensity):.0f}")
print(f"geddes:  {len(other.y)} from {other.x[0]:g} to {other.x[-1]:g}, {sum(other.y):.0f}; rietx says: {notes or 'nothing'}")
assert list(found.intensity) == counts[::8] and not notes, "it has changed"
assert list(other.y) == counts
PYTHON
