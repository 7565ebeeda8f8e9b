"""Significance: of noise it is a standard normal number, of a line what counting says."""

from __future__ import annotations

import numpy as np
import pytest

from imitation_refinement.xrd.noise import FWHM, Noise, significance

AXIS = np.arange(5, 90, 0.02)
STEP = 0.02


def line(centre: float, height: float) -> np.ndarray:
    return height * np.exp(-4 * np.log(2) * ((AXIS - centre) / FWHM) ** 2)


@pytest.mark.parametrize("level", [3.0, 300.0])
@pytest.mark.parametrize("unit", [1.0, 1e-3])
def test_noise_is_standard_normal_whatever_the_unit(level: float, unit: float) -> None:
    counts = unit * np.random.default_rng(0).poisson(level, len(AXIS))
    found = significance(counts, STEP)
    assert found.std() == pytest.approx(1, abs=0.08) and found.mean() == pytest.approx(0, abs=0.05)
    assert found.max() < 5


def test_noise_of_counts() -> None:
    rng = np.random.default_rng(1)
    noise = Noise.of(rng.poisson(200 + line(30, 5000) + line(50, 3000)).astype(float), STEP)
    assert noise.flat == pytest.approx(200, rel=0.06) and noise.level == pytest.approx(200, rel=0.03)
    assert noise.variance(np.array([100.0, 5000.0])) == pytest.approx([noise.flat, 5000], rel=0.08)


def test_a_line_is_as_significant_as_its_counts() -> None:
    """Of many measurements of one line the mean is that of the expected counts by the variance of the sum."""
    rng, expected = np.random.default_rng(2), 400 + line(40, 100)
    at = int(np.argmin(np.abs(AXIS - 40)))
    found = [significance(rng.poisson(expected).astype(float), STEP)[at] for _ in range(60)]
    impulse = np.zeros(401)
    impulse[200] = 1
    # The kernel is what a unit impulse gives; the noise of a whole is told elsewhere.
    kernel = significance(impulse, STEP, noise=Noise(1.0, 1e9))
    kernel = kernel / np.sqrt((kernel**2).sum())
    window = expected[at - 200 : at + 201]
    theory = (kernel * window).sum() / np.sqrt((kernel**2 * window).sum())
    assert np.mean(found) == pytest.approx(theory, rel=0.06)
    assert np.std(found) == pytest.approx(1, abs=0.3)


def test_humps_slopes_and_levels_are_no_lines() -> None:
    hump = 300 * np.exp(-4 * np.log(2) * ((AXIS - 25) / 8) ** 2)
    counts = np.random.default_rng(3).poisson(100 + 5 * (90 - AXIS) + hump)
    assert significance(counts, STEP).max() < 5


def test_interpolated_points_share_their_noise() -> None:
    coarse = np.random.default_rng(4).poisson(500, len(AXIS) // 2).astype(float)
    fine = np.interp(AXIS, AXIS[::2][: len(coarse)], coarse)
    assert Noise.of(fine, 0.01).flat == pytest.approx(500, rel=0.25)


def test_known_deviations_count() -> None:
    """Twice the deviation is half the significance; where none is known it is told from the pattern."""
    counts = np.random.default_rng(5).poisson(400 + line(40, 300)).astype(float)
    told, known = (significance(counts, STEP, deviation=d) for d in (np.zeros(len(AXIS)), np.full(len(AXIS), 40.0)))
    np.testing.assert_array_equal(told, significance(counts, STEP))
    np.testing.assert_allclose(known, significance(counts, STEP, deviation=np.full(len(AXIS), 20.0)) / 2)
    at = int(np.argmin(np.abs(AXIS - 60)))
    assert known[at] == pytest.approx(told[at] / 2, rel=0.1)


def test_without_noise_and_without_points() -> None:
    assert significance(line(30, 1.0), STEP).max() > 100  # its own counts are its noise there
    assert np.isfinite(significance(np.zeros(100), STEP)).all()
    assert np.isfinite(significance(np.ones(5), STEP)).all()
