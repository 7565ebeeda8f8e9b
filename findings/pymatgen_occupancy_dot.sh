#!/usr/bin/env bash
# pymatgen 2026.10.24: an atom whose occupancy is "." in the CIF vanishes; with "?" it stays.
#
# In CIF "." stands for a value that is not given, for which a default may hold, and _atom_site_occupancy's default is
# 1. pymatgen reads "." as 0 and drops the site, and reads "?" (unknown) as 1. With a formula in the file a warning
# tells of the wrong stoichiometry; without one nothing tells of the lost site. gemmi 0.7.5 reads 1 for both.
#
# Why it matters: TiO2 with one such oxygen becomes TiO, and its pattern that of another substance.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    pymatgen==2026.10.24 \
    pymatgen-core==2026.10.16 \
    numpy==2.4.6 \
    gemmi==0.7.5
"$work/environment/bin/python" -I - <<'PYTHON'
import warnings

import gemmi
from pymatgen.io.cif import CifParser

CIF = '''data_oxide
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_space_group_symop_operation_xyz
'x,y,z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Ti1 Ti 0 0 0 1
O1 O 0.5 0.5 0.5 1
O2 O 0.5 0.5 0 {occupancy}
'''

formulas = {}
for occupancy in (".", "?"):
    text = CIF.format(occupancy=occupancy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (structure,) = CifParser.from_str(text).parse_structures(primitive=False)
    messages = [str(warning.message) for warning in caught]
    formulas[occupancy] = structure.formula
    sites = gemmi.make_small_structure_from_block(gemmi.cif.read_string(text).sole_block()).sites
    print(f"{occupancy}: pymatgen {structure.formula}, gemmi {[site.occ for site in sites]}; warnings: {messages}")
    assert [site.occ for site in sites] == [1, 1, 1]
    assert not any("ccupanc" in message or "O2" in message for message in messages), "there is a warning now"
assert formulas == {".": "Ti1 O1", "?": "Ti1 O2"}, "the occupancy is read otherwise now"
PYTHON
