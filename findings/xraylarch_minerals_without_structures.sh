#!/usr/bin/env bash
# xraylarch 0.9.66: more than half of the minerals that its database names have no structure in it.
#
# The wheel carries the American Mineralogist Crystal Structure Database as larch/xrd/amcsd_cif1.db, said to be trimmed
# of large structures and near-duplicates. Its table of minerals keeps all 4,116 names, and 2,411 of them have no entry
# left: kyanite, epidote, albite, muscovite, microcline and cordierite are not there at all, while forsterite has 58.
# Of the 9,275 entries that are left 180 have no right angle in their cells.
#
# Why it matters: a library made from it has no answer for common rock-forming minerals, and nothing says so; whoever
# looks a name up in its table of minerals finds it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check --no-deps xraylarch==0.9.66
"$work/environment/bin/python" -I - <<'PYTHON'
import sqlite3
from importlib.metadata import distribution

path = distribution("xraylarch").locate_file("larch/xrd/amcsd_cif1.db")
database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
query = "SELECT minerals.name, count(cif.id) FROM minerals LEFT JOIN cif ON cif.mineral_id = minerals.id GROUP BY minerals.id"
entries = {name.strip().lower(): count for name, count in database.execute(query)}
without = sum(count == 0 for count in entries.values())
print(f"{len(entries)} minerals, {without} without an entry, {sum(entries.values())} entries")
for name in ("kyanite", "epidote", "albite", "muscovite", "microcline", "cordierite", "quartz", "forsterite"):
    print(f"{name}: {entries[name]}")
print(database.execute("SELECT notes FROM version").fetchall())
angles = "SELECT count(*) FROM cif WHERE abs(alpha - 90) > 0.01 AND abs(beta - 90) > 0.01 AND abs(gamma - 90) > 0.01"
oblique = database.execute(angles).fetchone()[0]
print(f"entries without a right angle: {oblique}")
assert (len(entries), without, sum(entries.values())) == (4116, 2411, 9275), "the database is another one now"
assert oblique == 180
assert not any(entries[name] for name in ("kyanite", "epidote", "albite", "muscovite", "microcline", "cordierite"))
PYTHON
