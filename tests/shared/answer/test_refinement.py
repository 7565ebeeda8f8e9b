"""Refined patterns: no line without the noise's leave, and back on the pattern's own angles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imitation_refinement.answer.refinement import WITHIN, floored, refine
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.errors import InputError
from imitation_refinement.learning.config import RootRefinerConfig
from imitation_refinement.learning.root_refiner import RootRefiner
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.peaks import find_peaks
from tests.shared.answer.conftest import measured

GRID = Grid(axis="log_q", points=3072)
AXIS = np.arange(5, 90, 0.02)


@pytest.fixture(scope="module")
def refiner() -> RootRefiner:
    """An untrained one whose gains and shift are drawn: what the floor has to hold against."""
    torch.manual_seed(0)
    network = RootRefinerConfig(widths=(8, 12), hidden=8, positions=8).build(GRID).eval()
    torch.nn.init.normal_(network.gains.weight, std=3)
    torch.nn.init.normal_(network.head[-1].weight, std=0.5)
    return network


def test_the_floor_leaves_feet_and_takes_peaks() -> None:
    rng, centres = np.random.default_rng(0), np.array([20.0, 20.1, 45.0])
    values, lines = rng.random(GRID.points), np.stack([centres - 0.08, centres + 0.08], axis=1)
    found = floored(values, GRID, lines)
    assert (found <= values).all()
    inner = 1 + np.flatnonzero((found[1:-1] > found[:-2]) & (found[1:-1] > found[2:]))
    tops = GRID.two_theta[inner]
    assert len(tops) and np.abs(tops[:, None] - centres).min(axis=1).max() <= 0.08
    smooth = np.exp(-np.abs(GRID.two_theta[:, None] - centres)).max(axis=1)
    np.testing.assert_allclose(floored(smooth, GRID, lines), smooth, rtol=1e-9)
    assert not floored(values, GRID, np.zeros((0, 2))).any()


@pytest.mark.parametrize(("counts", "zero_error"), [(100.0, None), (3000.0, None), (1000.0, 0.12), (1000.0, -0.12)])
def test_no_refined_peak_is_without_one_of_three_sigma(
    refiner: RootRefiner, counts: float, zero_error: float | None
) -> None:
    for seed, name in enumerate(("NaCl", "BaSO4", "CuSO4")):
        x, y = measured(name, counts=counts, seed=seed, polynomial=(0.5,))
        refined = refine(refiner, Pattern(name, x, y, 1.5406), zero_error)
        raw = GRID.resample(x, y, 1.5406)
        lines, shown = find_peaks(refined.on_grid, GRID, 0, 0).position, find_peaks(raw, GRID, 0, 3).position
        assert len(lines) and np.abs(lines[:, None] - shown).min(axis=1).max() <= WITHIN
        assert refined.moved != 0


def test_noise_and_glass_come_out_empty(refiner: RootRefiner) -> None:
    rng = np.random.default_rng(1)
    hump = np.exp(-(((AXIS - 25) / 5) ** 2))
    for level in (2.0, 50.0, 5000.0):
        for expected in (np.full(len(AXIS), level), level * (0.2 + 3 * hump)):
            refined = refine(refiner, Pattern("empty", AXIS, rng.poisson(expected).astype(float), 1.5406))
            assert not refined.intensity.any() and not refined.on_grid.any()


def test_refined_patterns_are_on_the_patterns_own_angles() -> None:
    network = RootRefinerConfig(widths=(8, 12), hidden=8, positions=8).build(GRID).eval()  # gains of 1
    x, y = measured("NaCl", counts=2000.0)
    pattern = Pattern("NaCl", x, y, 1.5406)
    found = refine(network, pattern)
    assert found.intensity.shape == x.shape and found.moved == 0 and found.on_grid.max() == 1
    top = int(y.argmax())
    assert abs(x[int(found.intensity.argmax())] - x[top]) < 0.05
    assert found.intensity.max() == pytest.approx(y.max() - np.median(y), rel=0.15)
    torch.nn.init.constant_(network.head[-1].bias, 0.4)
    moved, kept = refine(network, pattern), refine(network, pattern, 0.0)
    assert moved.moved == pytest.approx(-0.08 * np.tanh(0.4) * 1.94, abs=1e-3) and kept.moved == 0
    np.testing.assert_allclose(kept.intensity, found.intensity)
    shift = (x * moved.intensity).sum() / moved.intensity.sum() - (x * kept.intensity).sum() / kept.intensity.sum()
    assert shift == pytest.approx(moved.moved, abs=0.02)


@pytest.mark.parametrize(("zero_error", "moved"), [(0.07, -0.07), (-0.1, 0.1), (0.35, -0.12)])
def test_lines_are_moved_by_the_zero_error_that_is_told(zero_error: float, moved: float) -> None:
    network = RootRefinerConfig(widths=(8, 12), hidden=8, positions=8).build(GRID).eval()
    x, y = measured("NaCl", counts=2000.0)
    found, kept = (refine(network, Pattern("NaCl", x, y, 1.5406), error) for error in (zero_error, 0.0))
    assert found.moved == pytest.approx(moved)
    now, before = (GRID.two_theta[one.on_grid.argmax()] for one in (found, kept))
    assert now - before == pytest.approx(moved, abs=0.03)  # the grid's step


def test_what_is_elsewhere_is_refused() -> None:
    network = RootRefinerConfig(widths=(8,), hidden=8, positions=8).build(GRID).eval()
    with pytest.raises(InputError, match="nothing where patterns are refined"):
        refine(network, Pattern("far", np.arange(100, 140, 0.02), np.ones(2000), 1.5406, where="far.xy"))
