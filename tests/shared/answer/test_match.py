"""The search's cosines against sums that are written out."""

from __future__ import annotations

import numpy as np
import pytest

from imitation_refinement.answer.library import Library, line_factors
from imitation_refinement.answer.match import (
    LEAST_SQUARE,
    LINES,
    PEAK,
    SHIFTS,
    STRIDE,
    TOLERANCE,
    ZEROS,
    SearchLines,
    cosines,
)
from imitation_refinement.answer.pattern import FWHM, LEAST_Q, LOG_STEP, POINTS, POWER, log_q, prepare
from imitation_refinement.xrd.effects import debye_waller, lorentz_polarisation
from tests.shared.answer.conftest import measured


def test_line_factors_are_those_of_the_diffractometer() -> None:
    q = np.array([1.0, 3.0, 5.0])
    expected = [
        2 * lorentz_polarisation(sine, np.sqrt(1 - sine**2), 0.0) * debye_waller(2 * np.pi / x, 0.5)
        for sine, x in zip(q * 0.7093 / (4 * np.pi), q, strict=True)
    ]
    assert line_factors(q, 0.7093) == pytest.approx(expected)
    assert line_factors(np.array([5.0]), 3.0) == 0


def test_lines_are_weighed_and_merged(library: Library) -> None:
    found = SearchLines.of(library, 1.5406)
    row = library.formula.tolist().index("TiO2")
    part = slice(library.offsets[row], library.offsets[row + 1])
    q = library.q[part].astype(float)
    intensity = library.amplitude[part].astype(float) ** 2 * line_factors(q, 1.5406)
    angle = np.degrees(2 * np.arcsin(q * 1.5406 / (4 * np.pi)))
    kept = q < 6.2 * np.exp(-SHIFTS * STRIDE * LOG_STEP)
    groups: list[list[int]] = []
    for line in np.flatnonzero(kept).tolist():
        if groups and angle[line] - angle[groups[-1][0]] < TOLERANCE:
            groups[-1].append(line)
        else:
            groups.append([line])
    together = np.array([intensity[g].sum() for g in groups])
    centre = np.array([np.average(np.log(q[g] / LEAST_Q) / LOG_STEP, weights=intensity[g]) for g in groups])
    angles = np.array([np.average(angle[g], weights=intensity[g]) for g in groups])
    weight = (together / together.max()) ** POWER
    lines = slice(found.offsets[row], found.offsets[row + 1])
    assert found.weight[lines] == pytest.approx(weight, rel=1e-5)
    assert found.place[lines] == pytest.approx(centre, abs=0.51)
    # The squares add up to the double sum over all pairs of lines that overlap.
    apart = np.abs(angles[:, None] - angles) / FWHM
    overlap = np.where(apart < 2, np.exp(-2 * np.log(2) * apart**2), 0)
    assert found.square[lines].sum() == pytest.approx(weight @ overlap @ weight, rel=1e-5)
    assert np.diff(found.offsets).max() <= LINES


def test_cosines_are_the_best_over_strains_and_zero_errors(library: Library) -> None:
    pattern = prepare(*measured("BaSO4"), 1.5406)
    lines = SearchLines.of(library, 1.5406)
    found, strain, zero = cosines(lines, pattern)
    rows, seen = pattern.on_log_q(ZEROS)
    padded = np.pad(rows, ((0, 0), (100, 100)))
    shifts = (np.arange(SHIFTS) - SHIFTS // 2) * STRIDE
    for i in range(len(library)):
        part = slice(lines.offsets[i], lines.offsets[i + 1])
        place, weight = lines.place[part].astype(int), lines.weight[part]
        inside = seen[place]
        norm = np.sqrt(LEAST_SQUARE + lines.square[part][inside].sum())
        # Even and odd points lie apart, so a shift starts at the even point below.
        sums = np.array(
            [[(weight * padded[z, place + 100 + s])[inside].sum() for s in shifts] for z in range(len(rows))]
        )
        assert found[i] == pytest.approx(PEAK * sums.max() / norm, rel=1e-4)
        z, s = np.unravel_index(sums.argmax(), sums.shape)
        assert (zero[i], strain[i]) == pytest.approx((ZEROS[z], -shifts[s] * LOG_STEP))
    assert library.formula[found.argmax()] == "BaSO4"
    assert 0.5 < found.max() < 1


@pytest.mark.parametrize("wavelength", [0.165, 0.7093, 2.29])
def test_a_strained_crystal_is_found_at_any_wavelength(library: Library, wavelength: float) -> None:
    x, y = measured("TiO2", wavelength, strain=(0.01, 0.01, 0.01, 0.0, 0.0, 0.0))
    found, strain, _ = cosines(SearchLines.of(library, wavelength), prepare(x, y, wavelength))
    assert library.formula[found.argmax()] == "TiO2"
    assert strain[found.argmax()] == pytest.approx(0.01, abs=0.003)


def test_the_axis_is_long_enough() -> None:
    assert log_q()[0] == LEAST_Q and POINTS % STRIDE == 0
