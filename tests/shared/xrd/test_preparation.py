"""The input of networks that learn from the stream, against SciPy's morphology."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import grey_opening, uniform_filter1d

from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.preparation import SMOOTH, WINDOW, even_input, measured_input

LOG_Q = Grid(axis="log_q", points=3072)


def scan(start: float, stop: float, step: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x = start + step * np.arange(int((stop - start) / step) + 1)
    expected = 40 + 300 / x + sum(h * np.exp(-(((x - c) / 0.1) ** 2)) for h, c in ((900, 22.0), (400, 41.3), (250, 70)))
    return x, np.random.default_rng(seed).poisson(expected).astype(float)


def test_on_an_even_axis_it_is_scipys_opening() -> None:
    grid = Grid(points=4251)  # 0.02° a step
    x, y = scan(5, 90, 0.02)
    found = measured_input(x, y, grid.wavelength, grid)
    width, smooth = round(WINDOW / grid.step), round(SMOOTH / grid.step)
    pattern = grid.resample(x, y, grid.wavelength).astype(float)
    opened = grey_opening(uniform_filter1d(pattern, smooth), width)
    expected = np.maximum(pattern - uniform_filter1d(opened, width), 0)
    inner = slice(3 * width, -3 * width)
    # One window of even length is a point longer than SciPy's: noise of a point may be at its end.
    np.testing.assert_allclose(found[inner], np.sqrt(expected / expected.max())[inner], atol=0.03)
    assert np.median(np.abs(found - np.sqrt(expected / expected.max()))[inner]) < 0.002


@pytest.mark.parametrize("grid", [LOG_Q, Grid(points=2048), Grid(points=8192)])
@pytest.mark.parametrize(("start", "stop", "step"), [(4.5, 90.5, 0.02), (12.0, 61.0, 0.05), (5.0, 95.0, 0.01)])
def test_drawn_patterns_are_prepared_as_measured_ones(grid: Grid, start: float, stop: float, step: float) -> None:
    x, y = scan(start, stop, step)
    np.testing.assert_allclose(even_input(start, step, y, grid), measured_input(x, y, grid.wavelength, grid), atol=2e-5)


def test_range_and_scale() -> None:
    x, y = scan(12.0, 61.0, 0.02)
    found = measured_input(x, y, LOG_Q.wavelength, LOG_Q)
    axis = LOG_Q.two_theta
    assert found.dtype == np.float32 and found.max() == 1 and found.min() == 0
    assert (found[(axis < 11.9) | (axis > 61.1)] == 0).all()
    np.testing.assert_allclose(measured_input(x, 7 * y, LOG_Q.wavelength, LOG_Q), found, atol=1e-5)
    np.testing.assert_array_equal(measured_input(x, 0 * y, LOG_Q.wavelength, LOG_Q), 0)


def test_another_wavelength_is_the_same_pattern() -> None:
    x = np.arange(5.0, 90.0, 0.01)
    y = 10 + sum(900 * np.exp(-(((x - c) / 0.12) ** 2)) for c in (22.0, 41.3, 70))
    molybdenum = 0.7093
    other = np.degrees(2 * np.arcsin(np.sin(np.radians(x / 2)) * molybdenum / 1.5406))
    found = measured_input(other, y, molybdenum, LOG_Q), measured_input(x, y, 1.5406, LOG_Q)
    assert np.abs(found[0] - found[1])[10:-10].max() < 0.02
