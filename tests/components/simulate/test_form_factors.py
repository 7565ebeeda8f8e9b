"""Form factors and dispersion against tables that are not ours; benchmarks/constants.py compares every element."""

from __future__ import annotations

import json

import gemmi
import numpy as np
import pytest

from components.simulate.form_factors import (
    MAX_Z,
    POLES,
    dispersion,
    form_factors,
    free_hydrogen,
    it92_form_factor,
    pymatgen_form_factor,
)
from imitation_refinement.errors import InputError

# Z, energy [eV], f′, f″: rows of Cromer's own table (FPRIME of 1993; f1f2_CromerLiberman.dat in rietx 1.10.0).
CROMER = [
    (18, 5904.64, 0.332908, 1.50605),
    (26, 8059.95, -1.11587, 3.18975),
    (56, 17729.0, -0.311874, 2.22287),
    (58, 5389.55, -9.10114, 3.86561),
    (58, 8059.95, -1.79486, 9.63015),
    (58, 19183.1, -0.333596, 2.23584),
    (59, 12880.8, -0.0163409, 4.75215),
    (83, 8059.95, -3.88241, 8.90535),
    (83, 8866.96, -4.17882, 7.67193),
    (89, 18403.5, -6.71482, 7.76939),
    (90, 6468.95, -5.09834, 17.12),
    (92, 17437.2, -9.77041, 9.69583),
]
# Z, wavelength [Å], f′ and f″ of Chantler (xraydb 4.5.8) and of xraylib 4.3.0.
OTHERS = [
    (8, 1.54056, 0.045, 0.032, 0.052, 0.033),
    (14, 0.7093, 0.076, 0.069, 0.083, 0.072),
    (26, 1.54056, -1.201, 3.174, -1.106, 3.191),
    (26, 0.7093, 0.336, 0.836, 0.348, 0.85),
    (47, 0.559421, -1.674, 0.709, -1.644, 0.727),
    (58, 1.78896, -5.012, 12.1, -4.79, 12.242),
    (58, 0.63229, -0.438, 2.1, -0.376, 2.175),
    (78, 0.7093, -1.89, 8.296, -1.686, 8.457),
    (83, 1.54056, -4.26, 8.833, -4.119, 9.12),
    (83, 1.39222, -4.48, 7.617, -4.398, 7.787),
    (79, 0.12, -1.153, 2.135, -1.05, 2.158),
    (82, 0.12, -1.584, 2.424, -1.483, 2.457),
    (83, 0.11, -1.379, 2.196, -1.265, 2.224),
    (90, 0.105, -2.503, 2.673, -2.397, 2.718),
    (92, 0.1, -2.599, 2.666, -2.508, 2.712),
]
# Z: f0 at s = 0.25 and 0.5 of Waasmaier and Kirfel (xraydb 4.5.8), then of xraylib 4.3.0.
NEUTRAL = {
    8: (4.8081, 2.3379, 4.8047, 2.3351),
    14: (8.8595, 6.2396, 8.8521, 6.2324),
    26: (18.3594, 11.5085, 18.340, 11.468),
    50: (37.4593, 26.0854, 37.388, 25.932),
    56: (41.4456, 29.9411, 41.277, 29.775),
    79: (63.2248, 46.8919, 63.044, 46.480),
    92: (72.7204, 55.4249, 72.221, 54.842),
}


@pytest.mark.parametrize(("z", "energy", "real", "imaginary"), CROMER)
def test_dispersion_is_cromers_own(z: int, energy: float, real: float, imaginary: float) -> None:
    assert dispersion(z, gemmi.hc / energy) == pytest.approx((real, imaginary), rel=1e-3, abs=5e-3)


@pytest.mark.parametrize("row", OTHERS)
def test_dispersion_is_near_that_of_other_theories(row: tuple[float, ...]) -> None:
    real, imaginary = dispersion(int(row[0]), row[1])
    for other in (row[2:4], row[4:6]):
        assert real == pytest.approx(other[0], abs=0.4) and imaginary == pytest.approx(other[1], abs=0.35)


def test_no_pole_is_left_away_from_edges() -> None:
    """f′ at a pole of gemmi's, and on either side, is on the line through two points farther away."""
    seen = 0
    for name, poles in json.loads(POLES.read_text())["poles"].items():
        for pole in poles:
            energies = pole * (1 + np.array([-1e-3, -3e-4, -1e-4, -2e-6, 0.0, 2e-6, 1e-4, 3e-4, 1e-3]))
            if gemmi.hc / energies[-1] < 0.1 or gemmi.hc / energies[0] > 3:
                continue
            real, imaginary = np.array([dispersion(int(name), gemmi.hc / energy) for energy in energies]).T
            if (np.diff(imaginary) > 0).any():
                continue  # an edge
            line = np.interp(energies, energies[[0, -1]], real[[0, -1]])
            assert np.abs(real - line).max() < 0.03, (name, pole)
            seen += 1
    assert seen > 100


def test_dispersion_is_refused_where_there_is_none() -> None:
    assert dispersion(1, 1.5406) == dispersion(2, 0.7) == (0, 0)
    for z, wavelength in ((93, 1.5406), (26, 0.09), (26, 3.1), (0, 1.5)):
        with pytest.raises(InputError, match=f"no dispersion of element {z} at {wavelength}"):
            dispersion(z, wavelength)
    assert MAX_Z == {"physical": 92, "hydride": 92, "pymatgen": 98}


@pytest.mark.parametrize("z", NEUTRAL)
def test_form_factors_of_neutral_atoms(z: int) -> None:
    found = it92_form_factor(z, np.array([0.25, 0.5]) ** 2)
    np.testing.assert_allclose(found, NEUTRAL[z][:2], rtol=1e-3)
    np.testing.assert_allclose(found, NEUTRAL[z][2:], rtol=0.012)


def test_pymatgens_tin_scatters_too_much_and_ours_does_not() -> None:
    s2 = np.array([0.25])
    assert pymatgen_form_factor(50, s2)[0] == pytest.approx(1.134 * NEUTRAL[50][1], rel=2e-3)
    assert it92_form_factor(50, s2)[0] == pytest.approx(NEUTRAL[50][1], rel=1e-3)
    assert pymatgen_form_factor(26, s2)[0] == pytest.approx(NEUTRAL[26][1], rel=0.02)  # its other elements are right


def test_hydrogen_is_bonded_and_in_hydrides_free() -> None:
    """The bonded atom of International Tables, H′ of table 6.1.1.1; the free one of xraydb 4.5.8 and xraylib 4.3.0."""
    s2 = np.array([0.25, 0.5]) ** 2
    np.testing.assert_allclose(it92_form_factor(1, s2), [0.438, 0.103], atol=1e-3)
    np.testing.assert_allclose(free_hydrogen(s2), [0.3498, 0.0705], atol=2e-4)
    physical, hydride = form_factors("physical", 1.5406), form_factors("hydride", 1.5406)
    s2 = np.array([30.5 / hydride.inverse_step]) ** 2  # the middle of a polynomial's reach, where its first term is all
    assert (hydride.table[1, 30, 0], physical.table[1, 30, 0]) == pytest.approx(
        [free_hydrogen(s2)[0], it92_form_factor(1, s2)[0]], rel=1e-9
    )
    np.testing.assert_array_equal(hydride.table[2:], physical.table[2:])
