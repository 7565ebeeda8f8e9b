"""What is judged about a pattern; whole answers are tested where models are made."""

import numpy as np
import pytest

from imitation_refinement.answer.identify import FEWEST_LINES, n_lines
from imitation_refinement.data.patterns import Pattern
from tests.shared.answer.conftest import measured


@pytest.mark.parametrize("name", ["NaCl", "TiO2", "BaSO4"])
def test_crystals_show_lines(name: str) -> None:
    x, y = measured(name)
    assert n_lines(Pattern("a", x, y, 1.5406)) >= FEWEST_LINES


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("hump", [0, 2000])
def test_noise_and_glass_show_none(seed: int, hump: float) -> None:
    axis = np.arange(5, 90, 0.02)
    expected = 300 + hump * np.exp(-(((axis - 24) / 7) ** 2))
    counts = np.random.default_rng(seed).poisson(expected).astype(float)
    assert n_lines(Pattern("a", axis, counts, 1.5406)) < FEWEST_LINES


@pytest.mark.parametrize("ends", [(0.0, 90.0), (1.0, 180.0), (0.0, 180.0)])
def test_patterns_may_begin_at_0_and_end_at_180(ends: tuple[float, float]) -> None:
    x, y = measured("BaSO4")
    axis = np.linspace(*ends, int((ends[1] - ends[0]) / 0.02) + 1)
    outside = np.random.default_rng(0).poisson(150, len(axis))
    counts = np.where((axis < x[0]) | (axis > x[-1]), outside, np.interp(axis, x, y))
    whole, usual = (n_lines(Pattern("a", *points, 1.5406)) for points in ((axis, counts), (x, y)))
    assert whole == pytest.approx(usual, rel=0.2)
