#!/usr/bin/env bash
# pymatgen 2026.10.24: the computed neutron patterns of a deuteride and of the hydride are the same.
#
# NDCalculator takes hydrogen's scattering length, -3.74 fm, for deuterium, without a warning. Deuterium's is +6.67 fm
# (periodictable 2.1.0): other sign, nearly twice the size. In the rock-salt cell of LiD the squared structure factor of
# 111 should be 3.3 times that of 200; pymatgen's line intensities are LiH's, where it is a tenth.
#
# Why it matters: samples are deuterated just for the neutrons' sake, and every computed line is then wrong.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    pymatgen==2026.10.24 \
    pymatgen-core==2026.10.16 \
    numpy==2.4.6 \
    periodictable==2.1.0
"$work/environment/bin/python" -I - <<'PYTHON'
import warnings

import numpy as np
import periodictable
from pymatgen.analysis.diffraction.neutron import NDCalculator
from pymatgen.core import Lattice, Structure


def intensities(hydrogen):
    structure = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.08), ["Li", hydrogen], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    pattern = NDCalculator(wavelength=1.54).get_pattern(structure, scaled=False, two_theta_range=(0, 90))
    return np.array(pattern.y)


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    hydride, deuteride = intensities("H"), intensities("D")
print("LiH", hydride.round(1), "LiD", deuteride.round(1))
assert np.array_equal(hydride, deuteride), "deuterium has a scattering length of its own now"
assert not any("euterium" in str(warning.message) for warning in caught), "there is a warning now"

# Odd hkl scatter with b(Li) - b, even hkl with b(Li) + b.
lithium = periodictable.Li.neutron.b_c
for name, atom in (("H", periodictable.H), ("D", periodictable.D)):
    length = atom.neutron.b_c
    ratio = ((lithium - length) / (lithium + length)) ** 2
    print(f"b({name}) = {length:.2f} fm: |F(111)/F(200)|^2 = {ratio:.2f}")
    assert (ratio > 3) == (name == "D")
PYTHON
