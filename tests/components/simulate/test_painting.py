"""Ideal patterns painted on a log q grid; the even one is tested with the stage and the kernel."""

from __future__ import annotations

import numpy as np

from components.simulate.kernel import Peaks
from components.simulate.painting import paint
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile, pseudo_voigt


def test_on_log_q_the_profile_stands_at_the_points_angles() -> None:
    grid = Grid(axis="log_q", points=2048)
    found = Peaks(np.array([0, 2]), np.array([20.013, 61.5]), np.array([100.0, 40.0]))
    axis, profile = grid.two_theta, Profile()
    expected = sum(
        height * pseudo_voigt(axis - angle, profile.fwhm, profile.mixing) * (abs(axis - angle) <= 20 * profile.fwhm)
        for angle, height in ((20.013, 100.0), (61.5, 40.0))
    )
    np.testing.assert_allclose(paint(found, grid, profile)[0], expected / expected.max(), atol=1e-6)


def test_the_highest_point_is_found_wherever_it_is() -> None:
    """The first, some, and the last of 197 points, which are no multiple of the stretches they are looked for in."""
    grid = Grid(points=197, start=10, stop=29.6)
    for point in (0, 63, 64, 130, 191, 192, 196):
        found = Peaks(np.array([0, 1]), np.array([grid.two_theta[point]]), np.array([3.0]))
        row = paint(found, grid, Profile())[0]
        assert row.argmax() == point and row.max() == 1
