#!/usr/bin/env bash
# diffpy.structure 3.3.1: of 514 settings two are of another space group than their number says; "A2" is one of them.
#
# Setting 2005, "A2", has its twofold axis along a and the lattice centred on A: that is P 2 (No. 3) of half the cell,
# not No. 5. Setting 3004, "I 1 21 1", is C 2 (No. 5): in a lattice centred I a screw axis has a twofold one beside it.
# The other 512 are of the type that the last three digits of their number tell, by spglib 2.8.0.
#
# GetSpaceGroup("A2") and ("A 2") give the first one. gemmi 0.7.5 takes the same names for A 1 2 1, axis b, which
# diffpy.structure has, too, as 4005, under its full name alone. A cell with b unique and beta other than 90 degrees has
# not the operations that "A2" stands for: they change its metric tensor, at 105 degrees by 0.4 of its largest element.
#
# Why it matters: old CIFs and tables write A 2 for what is A 1 2 1. Expanded by diffpy.structure, the atoms are in
# other places, as many as they should be, so that neither count nor density tells; and who groups by number % 1000
# finds I 1 21 1 among P 21.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    diffpy.structure==3.3.1 \
    gemmi==0.7.5 \
    spglib==2.8.0 \
    numpy==2.4.6
"$work/environment/bin/python" -I -W ignore - <<'PYTHON'
import gemmi
import numpy as np
import spglib
from diffpy.structure import Lattice
from diffpy.structure.spacegroups import GetSpaceGroup, SpaceGroupList


def parts(group):
    found = list(group.iter_symops())
    return np.array([np.rint(op.R) for op in found], "intc"), np.array([op.t for op in found], float)


others = {}
for group in SpaceGroupList:
    number = spglib.get_spacegroup_type_from_symmetry(*parts(group)).number
    if number != group.number % 1000:
        others[group.number] = (group.pdb_name, number)
print(f"{len(SpaceGroupList)} settings; of another type than their number says: {others}")
assert others == {2005: ("A 2 1 1", 3), 3004: ("I 1 21 1", 5)}, "mended"

metric = Lattice(9, 5, 7, 90, 105, 90).metrics
for name in ("A2", "A 2", "A 1 2 1"):
    group, known = GetSpaceGroup(name), gemmi.find_spacegroup_by_name(name)
    rotations, _ = parts(group)
    change = max(float(np.abs((r.T @ metric @ r - metric) / metric.max()).max()) for r in rotations)
    where = sorted(tuple(np.round((r @ (0.1, 0.2, 0.3) + t) % 1, 3).tolist()) for r, t in zip(*parts(group)))
    theirs = sorted(tuple(round(x % 1, 3) for x in op.apply_to_xyz([0.1, 0.2, 0.3])) for op in known.operations())
    print(f"{name}: {group.number}, {group.pdb_name}; gemmi {known.hm}; metric changes by {change:.2f}; {where}")
    print(f"  by gemmi: {theirs}")
    assert known.hm == "A 1 2 1" and len(where) == len(theirs) == 4
    wrong = name != "A 1 2 1"
    assert (where != theirs) is wrong and (change > 0.2) is wrong, "mended"
PYTHON
