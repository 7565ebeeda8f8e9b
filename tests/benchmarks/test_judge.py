"""What a judge of refiners learns from is what theory looks like."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.judge import IDEAL
from imitation_refinement.xrd.diffractometer import painted
from imitation_refinement.xrd.flaws import draw
from imitation_refinement.xrd.line import Profile, pseudo_voigt


@pytest.mark.parametrize("angle", [12.0, 40.0, 75.0])
def test_ideal_lines_are_those_of_theory(angle: float) -> None:
    drawn = draw(np.random.default_rng(0), IDEAL)
    d, step, profile = 1.5406 / (2 * np.sin(np.radians(angle / 2))), 0.002, Profile()
    x = angle - 1 + step * np.arange(1001)
    found = painted(np.array([d]), np.ones(1), drawn, 1.5406, x[0], step, len(x), 1e-6)
    line = pseudo_voigt(x - angle, profile.fwhm, profile.mixing)
    assert x[found.argmax()] == pytest.approx(angle, abs=step)
    np.testing.assert_allclose(found / found.max(), line / line.max(), atol=0.06)
    assert np.sum(found) / found.max() == pytest.approx(np.sum(line) / line.max(), rel=0.15)
