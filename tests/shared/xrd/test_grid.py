"""Patterns onto the grid: areas, interpolation, Bragg's law, metadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from imitation_refinement.xrd.grid import METADATA_KEY, Grid, convert_two_theta, gaps

GRID = Grid(start=10, stop=90, points=161)  # half a degree a step


def peaks(x: np.ndarray) -> np.ndarray:
    return 100 * np.exp(-(((x - 30) / 0.4) ** 2)) + 40 * np.exp(-(((x - 71.3) / 1.1) ** 2))


def test_axis() -> None:
    assert GRID.step == 0.5
    assert GRID.two_theta[[0, 1, -1]].tolist() == [10, 10.5, 90]


def test_bragg_by_hand() -> None:
    """Silicon's 111 line, d = 5.431 Å / √3, at Cu Kα1 and Mo Kα1."""
    d = 5.431 / np.sqrt(3)
    copper, molybdenum = (2 * np.degrees(np.arcsin(w / 2 / d)) for w in (1.5406, 0.7093))
    assert copper == pytest.approx(28.44, abs=0.01) and molybdenum == pytest.approx(12.98, abs=0.01)
    assert convert_two_theta(copper, 1.5406, 0.7093) == pytest.approx(molybdenum)
    assert convert_two_theta(convert_two_theta(GRID.two_theta, 1.2, 0.7), 0.7, 1.2) == pytest.approx(GRID.two_theta)


def test_out_of_reach_is_nan_and_the_same_wavelength_changes_nothing() -> None:
    out = convert_two_theta([20.0, 60, 90], 0.7, 1.5406)  # sin 30° · 2.2 > 1
    assert np.isfinite(out).tolist() == [True, False, False]
    assert convert_two_theta(GRID.two_theta, 1.5, 1.5).tolist() == GRID.two_theta.tolist()


@pytest.mark.parametrize("step", [0.01, 0.02, 0.05, 0.13])
def test_finer_patterns_keep_their_area(step: float) -> None:
    x = np.arange(8, 92, step)
    y = peaks(x)
    on_grid = GRID.resample(x, y, GRID.wavelength)
    assert on_grid.sum() * GRID.step == pytest.approx(np.trapezoid(y, x), rel=1e-3)
    assert on_grid.shape == (161,) and on_grid.dtype == np.float32


def test_finer_patterns_are_means_over_cells() -> None:
    x = np.arange(9, 91, 0.01)
    on_grid = GRID.resample(x, peaks(x), GRID.wavelength)
    means = [peaks(np.linspace(c - 0.25, c + 0.25, 2001)).mean() for c in GRID.two_theta]
    np.testing.assert_allclose(on_grid, means, atol=0.05)


def test_averaging_shrinks_counting_noise() -> None:
    x = np.arange(9, 91, 0.01)
    noise = np.random.default_rng(0).normal(100, 10, len(x))
    assert GRID.resample(x, noise, GRID.wavelength).std() == pytest.approx(10 / np.sqrt(50), rel=0.2)


def test_coarser_patterns_are_interpolated() -> None:
    x = np.arange(10, 91, 1.0)
    y = peaks(x)
    expected = np.interp(GRID.two_theta, x, y)
    np.testing.assert_allclose(GRID.resample(x, y, GRID.wavelength), expected, rtol=1e-6, atol=1e-9)


def test_a_pattern_on_the_grid_stays() -> None:
    y = peaks(GRID.two_theta)
    np.testing.assert_allclose(GRID.resample(GRID.two_theta, y, GRID.wavelength), y, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("step", [0.02, 1.0])
def test_outside_the_range_it_is_zero(step: float) -> None:
    x = np.arange(30, 60 + step / 2, step)
    on_grid = GRID.resample(x, np.full(len(x), 7.0), GRID.wavelength)
    inside = (GRID.two_theta >= 30) & (GRID.two_theta <= 60)
    assert on_grid[inside] == pytest.approx(7)
    assert (on_grid[(GRID.two_theta < 29.7) | (GRID.two_theta > 60.3)] == 0).all()


@pytest.mark.parametrize("step", [0.01, 0.8])
def test_another_wavelength_moves_a_peak_by_bragg(step: float) -> None:
    x = np.arange(3, 45, step)
    at = 12.978
    on_grid = GRID.resample(x, np.exp(-(((x - at) / 0.5) ** 2)), 0.7093)
    expected = 2 * np.degrees(np.arcsin(np.sin(np.radians(at / 2)) * 1.5406 / 0.7093))
    assert GRID.two_theta[on_grid.argmax()] == pytest.approx(expected, abs=0.5)


def test_angles_out_of_the_grids_reach_are_left_out() -> None:
    x = np.arange(3, 170, 0.05)  # beyond 54° nothing of 0.7 Å exists at 1.5406 Å
    on_grid = GRID.resample(x, np.ones(len(x)), 0.7)
    assert np.isfinite(on_grid).all() and on_grid == pytest.approx(1)


@pytest.mark.parametrize("axis", ["two_theta", "log_q"])
def test_of_a_pattern_that_is_all_out_of_reach_nothing_is_left(axis: str) -> None:
    angles = np.linspace(10, 90, 300)
    found = Grid.model_validate({"axis": axis}).resample(angles, np.ones(300), 0.05)
    assert found.shape == (2048,) and not found.any()


def test_coverage() -> None:
    assert GRID.coverage([10, 90], 1.5406) == 1
    assert GRID.coverage([5, 170], 1.5406) == 1
    assert GRID.coverage([30, 50, 70], 1.5406) == 0.5
    assert GRID.coverage([91, 120], 1.5406) == 0
    assert GRID.coverage([2, 9], 1.5406) == 0
    # Mo Kα1 up to 2θ = 25.05° is Cu Kα1 up to 2 arcsin(sin 12.525° · 1.5406 / 0.7093) = 56.18°
    assert GRID.coverage([3, 25.05], 0.7093) == pytest.approx((56.18 - 10) / 80, abs=1e-3)
    assert GRID.coverage([3, 120], 0.7093) == 1
    assert GRID.coverage([100, 120], 0.7093) == 0


def test_metadata_round_trip(tmp_path: Path) -> None:
    grid = Grid(start=7.5, stop=61, points=777, wavelength=0.7093)
    table = pa.table({"a": [1]}).replace_schema_metadata(grid.to_metadata())
    pq.write_table(table, tmp_path / "t.parquet")
    assert Grid.from_metadata(pq.read_schema(tmp_path / "t.parquet").metadata) == grid
    assert b'"unit": "degree"' in grid.to_metadata()[METADATA_KEY]


def test_metadata_of_another_axis_are_refused() -> None:
    for metadata in (None, {}):
        with pytest.raises(KeyError):
            Grid.from_metadata(metadata)
    q_axis = {METADATA_KEY: Grid().to_metadata()[METADATA_KEY].replace(b"two_theta", b"q")}
    with pytest.raises(ValueError, match="two_theta"):
        Grid.from_metadata(q_axis)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("stop", {"start": 50, "stop": 50}),
        ("points", {"points": 10}),
        ("wavelength", {"wavelength": -1}),
        ("start", {"start": 0}),
        ("step", {"step": 0.1}),
    ],
)
def test_grids_that_are_none(field: str, options: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=field):
        Grid.model_validate(options)


def test_gaps_are_where_points_are_missing_not_where_steps_are_wide() -> None:
    fine, coarse = np.arange(10, 20.01, 0.02), np.arange(60, 80.01, 0.1)
    assert gaps(np.concatenate([fine, coarse])) == [pytest.approx((20, 60))]
    assert gaps(np.concatenate([fine, np.arange(20.2, 80, 0.2)])) == []  # ten times the step, but no point is missing
    assert gaps(np.delete(fine, [100, 101, 102])) == []
    assert gaps(np.delete(fine, np.arange(100, 106))) == [pytest.approx((fine[99], fine[106]))]
    assert gaps([10, 11, *np.arange(30, 40, 1.0)]) == [(11, 30)]
    windows = np.concatenate([start + np.arange(4) * 0.02 for start in range(10, 60)])
    assert len(gaps(windows)) == 49
    even_in_d = 2 * np.degrees(np.arcsin(1.5406 / 2 / np.arange(9, 1, -0.001)))
    even_in_q = 2 * np.degrees(np.arcsin(1.5406 / 4 / np.pi * np.arange(0.5, 8.1, 0.002)))
    assert gaps(even_in_d) == gaps(even_in_q) == gaps([5.0]) == []


@pytest.mark.parametrize("step", [0.02, 0.6])
def test_a_gap_is_not_measured(step: float) -> None:
    """7 everywhere but from 30 to 70°, on grids finer and coarser than the points; halves of 80° are covered."""
    x = np.concatenate([np.arange(10, 30 + step / 2, step), np.arange(70, 90 + step / 2, step)])
    on_grid = GRID.resample(x, np.full(len(x), 7.0), GRID.wavelength)
    seen = (GRID.two_theta <= x[x < 50][-1]) | (GRID.two_theta >= x[x > 50][0])
    np.testing.assert_allclose(on_grid[seen & (GRID.two_theta <= x[-1])], 7, rtol=1e-6)
    assert not on_grid[~seen & (abs(GRID.two_theta - 50) < 19.5)].any()
    assert GRID.coverage(x, GRID.wavelength) == pytest.approx(0.5, abs=0.01)


def test_a_gap_counts_at_the_grids_wavelength() -> None:
    """At half the wavelength 10 to 20° stand at 20.08 to 40.64° of the grid."""
    x = np.concatenate([np.arange(5, 10, 0.02), np.arange(20, 41, 0.02)])
    half = GRID.wavelength / 2
    low, high = (2 * np.degrees(np.arcsin(2 * np.sin(np.radians(a / 2)))) for a in (9.98, 20))
    end = 2 * np.degrees(np.arcsin(2 * np.sin(np.radians(x[-1] / 2))))
    assert GRID.coverage(x, half) == pytest.approx((low - 10.027 + end - high) / 80, abs=2e-3)


LOG_Q = Grid(axis="log_q", points=3072)


def test_a_log_q_axis_is_even_in_log_q() -> None:
    q = 4 * np.pi * np.sin(np.radians(LOG_Q.two_theta / 2)) / LOG_Q.wavelength
    steps = np.diff(np.log(q))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    assert LOG_Q.two_theta[[0, -1]] == pytest.approx([5.0, 90.0], abs=1e-12)


@pytest.mark.parametrize("grid", [Grid(), LOG_Q])
def test_places_and_angles_are_each_others_inverse(grid: Grid) -> None:
    places = np.array([0.0, 0.25, 17.5, grid.points - 1])
    np.testing.assert_allclose(grid.index_of(grid.angle_at(places)), places, atol=1e-9)
    low, high = grid.edges
    np.testing.assert_allclose(low[1:], high[:-1], atol=1e-9)
    assert grid.widths.sum() == pytest.approx(high[-1] - low[0])


def test_a_larger_lattice_is_the_same_pattern_shifted_on_log_q() -> None:
    d = np.array([4.1, 2.9, 1.7])
    angles = np.degrees(2 * np.arcsin(LOG_Q.wavelength / (2 * np.outer([1.0, 1.05], d))))
    shifts = np.diff(LOG_Q.index_of(angles), axis=0)[0]
    np.testing.assert_allclose(shifts, shifts[0], atol=1e-9)
    q_step = np.log(np.sin(np.radians(45)) / np.sin(np.radians(2.5))) / (LOG_Q.points - 1)
    assert shifts[0] == pytest.approx(-np.log(1.05) / q_step)


def test_resampling_onto_log_q_averages_where_points_are_dense_and_interpolates_where_they_are_not() -> None:
    x = np.arange(4.0, 95.0, 0.02)
    y = 100 + 3 * x
    found = LOG_Q.resample(x, y, 1.5406)
    low, high = LOG_Q.edges
    np.testing.assert_allclose(found, 100 + 3 * (low + high) / 2, rtol=1e-4)  # the mean of a line over a cell
    noise = LOG_Q.resample(x, np.random.default_rng(0).normal(size=len(x)), 1.5406)
    assert noise[-300:].std() < 0.6 < noise[:300].std()  # 4 to 5 points in a cell at the end
    cut = LOG_Q.resample(x[x > 30], y[x > 30], 1.5406)
    assert (cut[LOG_Q.two_theta < 30] == 0).all() and (cut[LOG_Q.two_theta > 30.1] > 0).all()


def test_coverage_of_a_log_q_axis_is_in_log_q() -> None:
    x = np.arange(20.0, 90.01, 0.02)
    expected = np.log(np.sin(np.radians(45)) / np.sin(np.radians(10)))
    expected /= np.log(np.sin(np.radians(45)) / np.sin(np.radians(2.5)))
    assert LOG_Q.coverage(x, 1.5406) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("grid", [Grid(), LOG_Q])
def test_metadata_carry_the_axis(grid: Grid) -> None:
    assert Grid.from_metadata(grid.to_metadata()) == grid
