#!/usr/bin/env bash
# pymatgen 2026.10.24: CifWriter's formula and Z contradict each other by the factor Z.
#
# In a CIF, _chemical_formula_sum is the formula of one unit and _cell_formula_units_Z says how many the cell holds.
# CifWriter writes the whole cell as the formula and, beside it, the Z of the reduced formula. For rock salt with four
# formula units in its cell: _chemical_formula_sum 'Na4 Cl4' and _cell_formula_units_Z 4, that is 16 sodium atoms. With
# or without symprec.
#
# Why it matters: who takes Z times the formula over the volume, as the dictionary says, gets four times the density
# (8.7 g/cm3 for salt's 2.2), and wrong masses in quantitative phase analysis and absorption.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    pymatgen==2026.10.24 \
    pymatgen-core==2026.10.16 \
    numpy==2.4.6
"$work/environment/bin/python" -I - <<'PYTHON'
import warnings

from pymatgen.core import Composition, Lattice, Structure
from pymatgen.io.cif import CifFile, CifWriter

warnings.simplefilter("ignore")
salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
for symprec in (None, 0.1):
    (block,) = CifFile.from_str(str(CifWriter(salt, symprec=symprec))).data.values()
    formula, units = block.data["_chemical_formula_sum"], int(block.data["_cell_formula_units_Z"])
    density = units * float(Composition(formula).weight) / 0.602214076 / float(block.data["_cell_volume"])
    print(f"symprec {symprec}: {formula!r}, Z = {units}: {density:.2f} g/cm3; the structure's {salt.density:.2f}")
    assert (formula, units) == ("Na4 Cl4", 4), "formula or Z has changed"
    assert abs(density / float(salt.density) - 4) < 0.01
PYTHON
