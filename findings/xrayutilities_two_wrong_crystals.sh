#!/usr/bin/env bash
# xrayutilities 1.8.0: the predefined crystal CdSe is made of indium and antimony; Ag2Se has silver atoms 1.68 A apart.
#
# - materials.CdSe (wurtzite) has the name and the elastic constants of CdSe, but the atoms In and Sb, on the cell of
#   materials.InSbWZ to the last digit, a = 4.5712 A. By the package's own cubic CdSe_ZB (a = 6.052 A) the ideal
#   wurtzite cell has a = 6.052 / sqrt(2) = 4.279 A; published ones have 4.30 A. With Cu K-alpha1 the line (100) is at
#   22.4 degrees, and at 24.0 by that cell. The density doesn't give it away: 5.77 g/cm3 for 5.66, as published.
# - materials.Ag2Se has Ag-Ag at 1.68 A and Ag-Se at 2.11 A; the sums of the covalent radii are 2.90 and 2.65. By hand:
#   x + 1/2, -y + 1/2, -z brings the second silver to (0.228, 0.471, 0.639), and from there to the first, (0.107, 0.369,
#   0.456), are 0.52, 0.72 and 1.42 A. The coordinates are those that the American Mineralogist database gives for
#   naumannite (56, 1971, 1882), with the operators 1/2-x,1/2+y,1/2-z; 1/2+x,-y,-z; -x,1/2-y,1/2+z: group 19 from
#   another origin than the usual one, (1/4, 1/4, 0) off. With these operators Ag-Ag is 2.93 and Ag-Se 2.62 A at least.
#   Cell, group and density are right, intensities are not: |F|^2 of (110) is 193 times too large.
#
# Why it matters: nobody looks at the atoms of a predefined crystal, and patterns of these two look like any other.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    --only-binary xrayutilities \
    xrayutilities==1.8.0 \
    numpy==2.4.6
"$work/environment/bin/python" -I - <<'PYTHON'
import itertools
import math

import numpy as np
from xrayutilities import materials

cdse, other = materials.CdSe, materials.InSbWZ.lattice
angle = 2 * math.degrees(math.asin(1.5405929 / (2 * cdse.lattice.a * math.sqrt(0.75))))
expected = 2 * math.degrees(math.asin(1.5405929 / (2 * materials.CdSe_ZB.lattice.a / math.sqrt(2) * math.sqrt(0.75))))
print(f"{cdse.name}: {cdse.chemical_composition()}, a = {cdse.lattice.a}, {cdse.density / 1000:.2f} g/cm3")
print(f"its (100) at {angle:.2f}, by the cubic form at {expected:.2f} degrees")
assert cdse.name == "CdSe" and [atom.name for atom, *_ in cdse.lattice.base()] == ["In", "In", "Sb", "Sb"], "mended"
assert (cdse.lattice.a, cdse.lattice.c) == (other.a, other.c) and expected - angle > 1.5

CELLS = np.array(list(itertools.product((-1, 0, 1), repeat=3)))


AXES = np.array([materials.Ag2Se.lattice.GetPoint(*axis) for axis in np.eye(3)])
TURNS = np.array([(1, 1, 1), (-1, 1, -1), (1, -1, -1), (-1, -1, 1)])
SHIFTS = np.array([(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0, 0), (0, 0.5, 0.5)])


def nearest(atoms):
    found = {}
    for one, two in itertools.product(atoms, repeat=2):
        lengths = np.linalg.norm(((one[1] - two[1]) % 1 + CELLS) @ AXES, axis=1)
        pair = "-".join(sorted((one[0].name, two[0].name)))
        found[pair] = min(found.get(pair, 9), float(lengths[lengths > 1e-6].min()))
    return found


def square(atoms, hkl):
    return abs(sum(atom.num * np.exp(2j * np.pi * np.dot(hkl, place)) for atom, place in atoms)) ** 2


shipped = [(atom, np.array(place)) for atom, place, *_ in materials.Ag2Se.lattice.base()]
published = [(atom, place * turn + shift) for atom, place in shipped[::4] for turn, shift in zip(TURNS, SHIFTS)]
for name, each in (("as it is", shipped), ("with the published operators", published)):
    print(f"Ag2Se {name}:", {pair: round(length, 2) for pair, length in nearest(each).items()})
ratio = square(shipped, (1, 1, 0)) / square(published, (1, 1, 0))
print(f"|F|^2 of (110), with Z for the form factors: {ratio:.0f} times that with the published operators")
assert len(shipped) == len(published) == 12
assert nearest(shipped)["Ag-Ag"] < 1.7 and nearest(shipped)["Ag-Se"] < 2.2, "Ag2Se is mended"
assert nearest(published)["Ag-Ag"] > 2.9 and nearest(published)["Ag-Se"] > 2.6 and ratio > 100
PYTHON
