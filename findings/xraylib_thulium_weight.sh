#!/usr/bin/env bash
# xraylib 4.3.0: the atomic weight of thulium is that of erbium.
#
# AtomicWeight(69) is 167.27, as is AtomicWeight(68); thulium's is 168.934 (periodictable 2.1.0, gemmi 0.7.5; it has
# but one stable isotope, of mass number 169). No other element up to uranium is off by as much, but for those without
# a stable isotope. What is made with it is 1 % off: CompoundParser gives Tm2O3 382.54 instead of 385.87 g/mol, and all
# cross sections in barn per atom (CSb_...) are 1 % too low, while those in cm2/g are right.
#
# Why it matters: nothing shows at the weight of a heavy element that it is its neighbour's. Densities from a cell,
# weight fractions and absorption per atom of thulium's compounds are all off by it, in one direction.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    xraylib==4.3.0 \
    periodictable==2.1.0 \
    gemmi==0.7.5 \
    numpy==2.4.6
"$work/environment/bin/python" -I - <<'PYTHON'
import gemmi
import periodictable
import xraylib

off = []
for z in range(1, 93):
    found, expected = xraylib.AtomicWeight(z), periodictable.elements[z].mass
    assert abs(gemmi.Element(z).weight / expected - 1) < 0.0015, "the two others differ"
    if abs(found / expected - 1) > 0.004:
        off.append(periodictable.elements[z].symbol)
        print(f"{off[-1]}: xraylib {found}, periodictable {expected:.3f}, gemmi {gemmi.Element(z).weight:.3f}")
oxide, right = xraylib.CompoundParser("Tm2O3")["molarMass"], periodictable.formula("Tm2O3").mass
barn = xraylib.CSb_Photo(69, 20.0) / xraylib.CS_Photo(69, 20.0) * 0.602214
print(f"Er {xraylib.AtomicWeight(68)}; Tm2O3 {oxide:.2f} for {right:.2f} g/mol; weight in barn per cm2/g: {barn:.2f}")
assert "Tm" in off and set(off) <= {"Tm", "Tc", "Pm", "Po", "At", "Rn", "Fr", "Ra", "Ac"}, off
assert xraylib.AtomicWeight(69) == xraylib.AtomicWeight(68) == 167.27, "thulium is mended"
assert abs(oxide - right + 3.33) < 0.02 and abs(barn - 167.27) < 0.01
PYTHON
