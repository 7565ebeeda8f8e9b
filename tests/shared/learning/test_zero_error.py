"""The zero error of patterns that are moved by a known one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from imitation_refinement.learning.config import RefineConfig
from imitation_refinement.learning.zero_error import with_zero_error, zero_error
from imitation_refinement.xrd.grid import Grid

GRID = Grid(start=10, stop=60, points=1024)


def made(n: int, seed: int, errors: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Patterns with a hump and noise, each moved by its error [°], and their theory."""
    rng, x = np.random.default_rng(seed), GRID.two_theta
    patterns, theories = [], []
    for error in errors[:n]:
        centres, heights = rng.uniform(15, 55, 8), rng.uniform(0.2, 1, 8)

        def lines(
            moved: float, centres: NDArray[np.float64] = centres, heights: NDArray[np.float64] = heights
        ) -> NDArray[np.float64]:
            return (heights[:, None] * np.exp(-0.5 * ((x - moved - centres[:, None]) / 0.08) ** 2)).sum(0)

        hump = 0.3 * np.exp(-0.5 * ((x - 25) / 8) ** 2)
        patterns.append(lines(error) + hump + 0.02 * rng.random(len(x)))
        theories.append(lines(0))
    return np.array(patterns, np.float32), np.array(theories, np.float32)


@pytest.mark.parametrize("value", [0.08, -0.11])
def test_finds_the_error_between_points_of_the_grid(value: float) -> None:
    errors = value + np.random.default_rng(1).normal(0, 0.02, 40)
    found = zero_error(*made(40, 0, errors), GRID)
    assert found.value == pytest.approx(np.median(errors), abs=GRID.step / 6)
    assert found.low <= found.value <= found.high
    assert found.certain
    assert found.n == 40


def test_no_error_is_not_certain() -> None:
    found = zero_error(*made(40, 0, np.random.default_rng(2).normal(0, 0.05, 40)), GRID)
    assert not found.certain
    assert "left as it is" in str(found)


def test_the_interval_holds_the_true_median_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(3)
    trials = [zero_error(*made(15, seed, rng.normal(0.1, 0.06, 15)), GRID) for seed in range(60)]
    covered = sum(found.low - GRID.step / 16 <= 0.1 <= found.high + GRID.step / 16 for found in trials)
    assert covered >= 51  # 57 expected, binomial


def test_patterns_without_theory_tell_nothing() -> None:
    patterns, theory = made(12, 0, np.full(12, 0.1))
    theory[3:] = np.nan
    assert zero_error(patterns, theory, GRID).n == 3
    assert not zero_error(patterns, theory, GRID).certain
    nothing = zero_error(patterns, np.full_like(theory, np.nan), GRID)
    assert nothing.n == 0
    assert not nothing.certain


def test_on_log_q_none_is_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    config = RefineConfig()
    grid = GRID.model_copy(update={"axis": "log_q"})
    assert with_zero_error(config, *made(10, 0, np.full(10, 0.1)), grid) == (config, None)
    assert "not looked for on a log q axis" in "".join(capsys.readouterr())
