"""What a refiner sees: the same of a pattern drawn and of one measured."""

from __future__ import annotations

import numpy as np

from imitation_refinement.learning.stream import Stream
from imitation_refinement.xrd.bank import Bank
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.noise import significance
from imitation_refinement.xrd.refinable import (
    LOUD,
    MOST_POINTS,
    even_channels,
    measured_channels,
    measured_significance,
)


def test_measured_and_drawn_patterns_are_seen_alike(toy_bank: Bank) -> None:
    grid = Grid(axis="log_q", points=3072)
    stream = Stream(toy_bank, grid)
    for number in range(8):
        found = stream.measurement(number)
        even = even_channels(found.start, found.step, found.counts, grid)
        measured = measured_channels(found.two_theta, found.counts, grid.wavelength, grid)
        assert even.shape == (3, 3072) and even.dtype == np.float32
        both = (even[0] > 1e-6) & (measured[0] > 1e-6)  # the last point measured may be 0 but for rounding
        assert both.sum() > 500
        np.testing.assert_allclose(even[:, both], measured[:, both], atol=2e-3)


def test_channels() -> None:
    axis, grid = np.arange(8, 80, 0.02), Grid(axis="log_q", points=3072)
    expected = 50 + 3000 * np.exp(-4 * np.log(2) * ((axis - 30) / 0.15) ** 2)
    counts = np.random.default_rng(0).poisson(expected).astype(float)
    root, smooth, found = measured_channels(axis, counts, 1.5406, grid)
    top = int(np.argmin(np.abs(grid.two_theta - 30)))
    assert root.max() == 1 and abs(int(root.argmax()) - top) <= 4
    assert 0.6 < smooth.max() < 1 and abs(int(smooth.argmax()) - top) <= 2
    beside = np.abs(grid.two_theta - 30) > 1
    assert smooth[beside].std() < root[beside].std()
    there = np.interp(30, axis, significance(counts, 0.02))
    assert np.isclose(found[top], np.arcsinh(there / LOUD), rtol=0.02)
    outside = (grid.two_theta < 7.9) | (grid.two_theta > 80.1)
    assert not np.stack([root, smooth, found])[:, outside].any()


def test_widths_go_with_the_wavelength() -> None:
    """The same lines at half the wavelength stand at about half the angle, and are as significant."""
    grid = Grid(axis="log_q", points=3072)
    axis = np.arange(8, 80, 0.02)
    counts = np.random.default_rng(1).poisson(50 + 500 * np.exp(-(((axis - 30) / 0.09) ** 2))).astype(float)
    half = np.degrees(2 * np.arcsin(np.sin(np.radians(axis / 2)) / 2))
    one, other = (measured_channels(x, counts, w, grid)[2] for x, w in ((axis, 1.5406), (half, 0.7703)))
    assert np.isclose(one.max(), other.max(), rtol=0.1)
    assert abs(int(one.argmax()) - int(other.argmax())) <= 2


def test_nothing_measured_is_nothing_seen() -> None:
    grid = Grid(axis="log_q", points=256)
    assert not measured_channels(np.arange(100, 120, 0.02), np.ones(1000), 1.5406, grid).any()


def test_points_that_lie_absurdly_close_take_no_more_time_than_others() -> None:
    """Kernels as wide as a line had millions of points, an axis from one cluster to another thousands of millions."""
    near = np.linspace(30, 30.001, 300)
    clusters = np.concatenate([np.linspace(low, low + 1e-6, 100) for low in (5.0, 90.0)])
    for angles in (near, clusters):
        axis, found = measured_significance(angles, np.random.default_rng(0).poisson(9, len(angles)), 1.5406)
        assert len(axis) <= MOST_POINTS + 1 and np.isfinite(found).all()
