#!/usr/bin/env bash
# pymatgen 2026.10.24 and ase 3.29.0: a CIF that says origin choice 2 in its symbol is read with choice 1.
#
# Anatase with _space_group_name_H-M_alt 'I 41/a m d :2', the number 141 and no list of operators. Its cell holds Ti4
# O8, and gemmi 0.7.5 reads that. pymatgen and ase agree with each other on Ti8 O16: the stated origin is dropped
# without a word, even with the right formula in the file.
#
# Why it matters: two well-known programs that agree look like a confirmation. The density doubles and the pattern is of
# another crystal.
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

CIF = '''data_anatase
_chemical_formula_sum 'O2 Ti'
_cell_length_a 3.785
_cell_length_b 3.785
_cell_length_c 9.514
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'I 41/a m d :2'
_space_group_IT_number 141
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Ti1 Ti 0 0.75 0.125
O1 O 0 0.75 0.3331
'''

small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(CIF).sole_block())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    (structure,) = CifParser.from_str(CIF).parse_structures(primitive=False)
    atoms = ase.io.read(io.StringIO(CIF), format="cif")
messages = [str(warning.message) for warning in caught]
print("gemmi", small.spacegroup.xhm(), len(small.get_all_unit_cell_sites()), "atoms; pymatgen", structure.formula)
print("ase", atoms.get_chemical_formula(), "; warnings:", messages)
assert len(small.get_all_unit_cell_sites()) == 12 and small.spacegroup.xhm() == "I 41/a m d:2"
assert structure.formula == "Ti8 O16" and atoms.get_chemical_formula() == "O16Ti8", "choice 2 is heeded now"
assert not any("origin" in message or ":2" in message for message in messages), "there is a warning now"
PYTHON
