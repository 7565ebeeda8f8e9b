#!/usr/bin/env bash
# crystals 1.7.0: the built-in samarium has two atoms in a cell for nine, 1.68 g/cm3 instead of 7.5.
#
# Crystal.from_database("Sm") reads a CIF that the wheel carries, by its header entry 9010999 of the Crystallography
# Open Database. It has a = 3.621 and c = 26.25 A, the cell of nine layers, with the group and the two atoms of
# hexagonal close packing (P 63/m m c, z = 1/4 and 3/4): layers 13 A apart. The CIF says 1.675 g/cm3 itself. Samarium
# is R -3 m with atoms at z = 0 and 0.222, nine in this cell: 9 x 150.36 / (0.60221 x 298.07) = 7.54 g/cm3.
# periodictable 2.1.0 has 7.52, and the American Mineralogist database has 7.540 for the structure of 1954.
#
# Why it matters: the file agrees with itself, and its operators with its atoms, so no check of a CIF stops it. Its
# (00l) are those with even l instead of those with l a multiple of 3, and all intensities are of no crystal. Of the
# package's other elements only bromine and phosphorus are off by more than a tenth, for they are other forms (solid,
# black) than those in the table.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    crystals==1.7.0 \
    spglib==2.8.0 \
    periodictable==2.1.0 \
    numpy==2.4.6
"$work/environment/bin/python" -I -W ignore - <<'PYTHON'
import warnings

import periodictable
from crystals import Crystal

warnings.simplefilter("ignore")


def density(crystal):
    mass = sum(periodictable.elements.symbol(atom.element).mass for atom in crystal)
    return mass / (0.602214 * crystal.volume)


off = []
for name in sorted(Crystal.builtins):
    crystal, known = Crystal.from_database(name), None
    if name in {element.symbol for element in periodictable.elements}:
        known = periodictable.elements.symbol(name).density
    if known and known > 0.1 and abs(density(crystal) / known - 1) > 0.1:
        off.append(name)
        print(f"{name}: {len(crystal)} atoms in {crystal.volume:.1f} A3, {density(crystal):.2f} for {known:.2f} g/cm3")
samarium = Crystal.from_database("Sm")
nine = 9 * periodictable.Sm.mass / (0.602214 * samarium.volume)
layers = sorted(round(float(atom.coords_fractional[2]), 3) for atom in samarium)
print(f"Sm: layers at z = {layers}; with nine atoms in this cell {nine:.2f} g/cm3")
print("off by more than a tenth:", off)
assert off == ["Br", "P", "Sm"], "other elements are off now"
assert len(samarium) == 2 and abs(density(samarium) - 1.675) < 0.01, "samarium is mended"
assert abs(nine - periodictable.Sm.density) < 0.1
PYTHON
