#!/usr/bin/env bash
# Dans_Diffraction 3.4.0: in its table of Sears, the neutron scattering length of indium is its cross section.
#
# neutron_scattering_length("In", "sears"), and so every neutron calculation with use_sears, has 2.08 fm. The same table
# has 5.39 for 113-In and 4.01 fm for 115-In: by their abundances, 4.29 and 95.71 %, 4.07 fm. gemmi 0.7.5 (Sears, too)
# and periodictable 2.1.0 have 4.065, and so has Dans_Diffraction's other, default table. 2.08 is the coherent cross
# section in barn that belongs to 4.065 fm: 4 pi 0.4065^2 = 2.08.
#
# Why it matters: a number of the right size doesn't show. What indium scatters is a quarter of what it should be, and
# the ratios of the lines of InSb or In2O3 change with it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    Dans_Diffraction==3.4.0 \
    periodictable==2.1.0 \
    gemmi==0.7.5 \
    numpy==2.4.6
"$work/environment/bin/python" -I -W ignore - <<'PYTHON'
import math

import gemmi
import periodictable
from Dans_Diffraction import fc


def length(name, table):
    return complex(fc.neutron_scattering_length(name, table)[0]).real


found, default = length("In", "sears"), length("In", "neutron data booklet")
isotopes = 0.0429 * length("113-In", "sears") + 0.9571 * length("115-In", "sears")
others = gemmi.Element("In").neutron92.calculate_sf(0), periodictable.In.neutron.b_c
print(f"In: {found} fm, by its isotopes {isotopes:.3f}, default table {default}; gemmi and periodictable {others}")
print(f"cross section of the default's: {4 * math.pi * (default / 10) ** 2:.3f} barn")
assert found == 2.08, "indium is mended"
assert abs(isotopes - 4.07) < 0.01 and all(abs(other - 4.065) < 0.01 for other in (default, *others))
assert abs(4 * math.pi * (default / 10) ** 2 - found) < 0.01
PYTHON
