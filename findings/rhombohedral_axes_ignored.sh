#!/usr/bin/env bash
# pymatgen 2026.10.24 and ase 3.29.0: hexagonal operators are applied to a cell with rhombohedral axes.
#
# Arsenic with _space_group_name_H-M_alt 'R -3 m', a = 4.132 A and alpha = 54.13 degrees, no list of operators. That
# cell holds 2 atoms (5.8 g/cm3). gemmi 0.7.5 sees by the angles that the axes are rhombohedral and gives 2. pymatgen
# and ase take the operators of the hexagonal setting all the same, and agree on 36 atoms and 104 g/cm3. Neither
# mentions the axes.
#
# Why it matters: cells of bismuth, calcite or corundum are published with such axes and the plain symbol.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    pymatgen==2026.10.24 \
    pymatgen-core==2026.10.16 \
    numpy==2.4.6 \
    gemmi==0.7.5 \
    ase==3.29.0
"$work/environment/bin/python" -I - <<'PYTHON'
import io
import warnings

import ase.io
import gemmi
from pymatgen.io.cif import CifParser

CIF = '''data_arsenic
_chemical_formula_sum 'As'
_cell_length_a 4.132
_cell_length_b 4.132
_cell_length_c 4.132
_cell_angle_alpha 54.13
_cell_angle_beta 54.13
_cell_angle_gamma 54.13
_space_group_name_H-M_alt 'R -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
As1 As 0.227 0.227 0.227
'''

small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(CIF).sole_block())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    (structure,) = CifParser.from_str(CIF).parse_structures(primitive=False)
    atoms = ase.io.read(io.StringIO(CIF), format="cif")
messages = [str(warning.message) for warning in caught]
print("gemmi", small.spacegroup.xhm(), len(small.get_all_unit_cell_sites()), "atoms; pymatgen", len(structure))
print(f"ase {len(atoms)}; density of pymatgen's {structure.density:.1f}; warnings: {messages}")
assert small.spacegroup.xhm() == "R -3 m:R" and len(small.get_all_unit_cell_sites()) == 2
assert len(structure) == len(atoms) == 36, "the axes are heeded now"
assert not any("rhombohedral" in message or "axes" in message for message in messages), "there is a warning now"
PYTHON
