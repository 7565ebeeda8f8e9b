#!/usr/bin/env bash
# gemmi 0.7.5: an atom of unknown element scatters as oxygen.
#
# Without _atom_site_type_symbol gemmi takes the element from the label. A label that starts with no element it knows
# becomes element X: "KA1" (a potassium site), "M1" and "T1" (cation sites). Reading gives no error, and neither does
# StructureFactorCalculatorX: it counts X with the form factor of neutral oxygen, 8 electrons. For potassium it should
# be 19. StructureFactorCalculatorE, for electrons, does likewise.
#
# Why it matters: the letters after the element's name a kind of site in many mineral structures. Oxygen is a right
# guess for "OW1" and silently wrong for cations: test the sites for element X before computing intensities.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    gemmi==0.7.5
"$work/environment/bin/python" -I - <<'PYTHON'
import gemmi

CIF = '''data_sites
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
{label} 0 0 0
'''
INDICES = [(h, 0, 0) for h in range(5)]


def factors(label, calculator):
    small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(CIF.format(label=label)).sole_block())
    calculate = calculator(small.cell).calculate_sf_from_small_structure
    return small.sites[0].element.name, [calculate(small, hkl).real for hkl in INDICES]


for calculator in (gemmi.StructureFactorCalculatorX, gemmi.StructureFactorCalculatorE):
    _, oxygen = factors("O1", calculator)
    _, potassium = factors("K1", calculator)
    for label in ("KA1", "M1", "T1"):
        element, found = factors(label, calculator)
        print(f"{calculator.__name__}, {label}: element {element}, {[round(value, 2) for value in found]}")
        assert element == "X" and found == oxygen, "unknown atoms are treated otherwise now"
    assert potassium[0] > 1.5 * oxygen[0]
PYTHON
