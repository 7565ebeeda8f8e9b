#!/usr/bin/env bash
# gemmi 0.7.5: a CIF with the plain symbol "F d -3 m" is read with origin choice 2, though gemmi's own
# find_spacegroup_by_name("F d -3 m") gives choice 1, and pymatgen 2026.10.24 and ase 3.29.0 read the CIF with choice 1.
#
# Silicon at (0, 0, 0) with no list of operators: gemmi 16 atoms in the cell, pymatgen and ase 8. At (1/8, 1/8, 1/8):
# gemmi 8, pymatgen and ase 16. Nothing tells of the choice.
#
# Why it matters: spinels, diamond, anatase and zircon have two origins. Two programs make two crystals of one file,
# with other lines and twice the density; and the same library answers in two ways, by what it is asked.
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

warnings.simplefilter("ignore")
CIF = '''data_silicon
_cell_length_a 5.43
_cell_length_b 5.43
_cell_length_c 5.43
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F d -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 Si {x} {x} {x}
'''

by_name = gemmi.find_spacegroup_by_name("F d -3 m").xhm()
for x, expected in ((0, (16, 8, 8)), (0.125, (8, 16, 16))):
    text = CIF.format(x=x)
    small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(text).sole_block())
    counts = (
        len(small.get_all_unit_cell_sites()),
        len(CifParser.from_str(text).parse_structures(primitive=False)[0]),
        len(ase.io.read(io.StringIO(text), format="cif")),
    )
    print(f"x = {x}: gemmi {small.spacegroup.xhm()}, by name {by_name}; atoms of gemmi, pymatgen, ase: {counts}")
    assert counts == expected and small.spacegroup.xhm() == "F d -3 m:2" and by_name == "F d -3 m:1"
PYTHON
