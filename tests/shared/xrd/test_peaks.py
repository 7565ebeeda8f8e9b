"""Peaks of hand-made patterns, whose positions, widths and matches are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile, pseudo_voigt
from imitation_refinement.xrd.peaks import (
    find_peaks,
    least_width,
    match_peaks,
    narrow_share,
    noise_level,
    peak_precision_recall,
    peak_widths,
)

GRID = Grid()
X = GRID.two_theta
Lines = dict[float, float]  # position [°]: height


def paint(lines: Lines, fwhm: float = 0.2, mixing: float = 0.5) -> NDArray[np.float64]:
    top = pseudo_voigt(0, fwhm, mixing)
    return sum((h * pseudo_voigt(X - p, fwhm, mixing) / top for p, h in lines.items()), np.zeros_like(X))


def test_positions_and_heights_are_finer_than_the_grid() -> None:
    lines = {20.013: 0.5, 33.333: 1.0, 60.0071: 0.03}
    found = find_peaks(7 * paint(lines), GRID)
    assert found.position == pytest.approx(list(lines), abs=GRID.step / 10)
    assert found.height == pytest.approx([0.5, 1.0, 0.03], rel=0.05)  # heights between grid points
    assert find_peaks(paint(lines), GRID, 0.04).position == pytest.approx([20.013, 33.333], abs=0.005)


def test_a_background_changes_no_peak() -> None:
    pattern = paint({20.0: 1.0, 40.0: 0.03})
    plain, raised = find_peaks(pattern, GRID), find_peaks(pattern + 5, GRID)
    assert raised.position == pytest.approx(plain.position, abs=1e-6)
    assert raised.height == pytest.approx(plain.height, abs=1e-6)
    assert raised.fwhm == pytest.approx(plain.fwhm, abs=1e-6)


@pytest.mark.parametrize("mixing", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("fwhm", [0.15, 0.3, 1.0])
def test_fwhm_of_a_pseudo_voigt(fwhm: float, mixing: float) -> None:
    widths = find_peaks(paint(dict.fromkeys((12.0, 30.01, 50.02, 75.03), 1.0), fwhm, mixing), GRID).fwhm
    assert (widths > 0.95 * fwhm).all()
    assert (widths < (1.12 if fwhm < 0.2 else 1.05) * fwhm).all()  # the highest grid point is not the top


def test_width_of_a_peak_in_another_s_flank_is_not_told() -> None:
    found = find_peaks(paint({30.0: 1.0, 30.3: 0.6, 60.0: 1.0}), GRID)
    assert np.isfinite(found.fwhm).tolist() == [True, False, True]


def test_constant_and_dark_patterns_have_no_peak() -> None:
    for pattern in (np.zeros(GRID.points), np.full(GRID.points, 3.3)):
        assert len(find_peaks(pattern, GRID).position) == 0
        assert len(peak_widths([pattern], GRID)) == 0


def test_noise_has_hardly_a_peak_and_hides_none_above_it() -> None:
    random = np.random.default_rng(0)
    noise = random.poisson(100, (50, GRID.points)).astype(float)
    assert np.mean([noise_level(pattern) for pattern in noise]) == pytest.approx(10, rel=0.05)
    assert sum(len(find_peaks(pattern, GRID).position) for pattern in noise) <= 1
    seen = find_peaks(random.poisson(100 + 10_000 * paint({30.0: 1.0, 50.0: 0.03})), GRID)
    assert seen.position == pytest.approx([30.0, 50.0], abs=0.05)


def test_noise_is_told_from_lines_and_from_what_was_not_measured() -> None:
    random = np.random.default_rng(0)
    crowded = paint({p: random.uniform(0.1, 1) for p in np.arange(6, 89, 0.7)}, 0.15)
    assert noise_level(crowded) < 1e-3
    half = [np.where(X < 50, 0, random.normal(50, 2, GRID.points)) for _ in range(20)]
    assert np.mean([noise_level(pattern) for pattern in half]) == pytest.approx(2, rel=0.05)


def test_counting_noise_does_not_split_a_broad_line() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        assert len(find_peaks(random.poisson(20 + 2000 * paint({40.0: 1.0}, 3.0, 0.0)), GRID).position) == 1


@pytest.mark.parametrize("pattern", [np.zeros(5), np.full(GRID.points, np.nan)])
def test_what_is_no_pattern_is_refused(pattern: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="finite intensities"):
        find_peaks(pattern, GRID)


@pytest.mark.parametrize(
    ("found", "expected", "counts"),
    [
        ([10.0, 20.0, 30.0], [10.1, 20.0, 40.0], (2, 1, 1)),
        ([10.0, 10.1], [10.05], (1, 1, 0)),  # one to one
        ([10.0, 10.2], [10.15, 10.35], (2, 0, 0)),  # nearest first would match 10.2 to 10.15 alone
        ([], [10.0], (0, 0, 1)),
        ([10.0], [], (0, 1, 0)),
    ],
)
def test_matching(found: list[float], expected: list[float], counts: tuple[int, int, int]) -> None:
    assert match_peaks(found, expected, tolerance=0.2) == counts


def test_one_invented_and_one_lost_peak_by_hand() -> None:
    theory = paint({20.0: 1.0, 30.0: 0.5, 40.0: 0.3, 50.0: 0.2, 70.0: 0.01})
    # 20, 30, 40 found, 50 lost, 60 invented; theory's faint 70 vouches for a stronger one; 0.01 at 80 is not judged.
    pattern = paint({20.1: 1.0, 29.9: 0.5, 40.0: 0.3, 60.0: 0.1, 70.0: 0.04, 80.0: 0.01})
    scores = peak_precision_recall([pattern, theory], [theory, theory], GRID)
    assert scores.precision == pytest.approx([4 / 5, 1])
    assert scores.recall == pytest.approx([3 / 4, 1])
    assert (scores.invented.tolist(), scores.lost.tolist()) == ([1, 0], [1, 0])
    strict = peak_precision_recall([pattern], [theory], GRID, tolerance=0.05)
    assert strict.precision == pytest.approx([2 / 5])


def test_theory_is_not_asked_for_where_nothing_was_measured() -> None:
    theory = paint({20.0: 1.0, 80.0: 0.5})
    cut = np.where(X < 60, paint({20.0: 1.0}) + 0.01, 0)
    assert peak_precision_recall([cut], [theory], GRID).recall == pytest.approx([1])
    whole = peak_precision_recall([cut], [theory], GRID, measured=[theory + 0.01])
    assert whole.recall == pytest.approx([0.5])  # it was measured, and refinement erased it


def test_missing_theory_and_dark_patterns() -> None:
    theory = paint({20.0: 1.0})
    dark, missing = np.zeros_like(theory), np.full_like(theory, np.nan)
    scores = peak_precision_recall([theory, dark], [missing, theory], GRID, measured=[theory, theory])
    assert np.isnan([scores.precision[0], scores.recall[0], scores.invented[0], scores.lost[0]]).all()
    assert np.isnan(scores.precision[1])
    assert (scores.recall[1], scores.invented[1], scores.lost[1]) == (0, 0, 1)
    with pytest.raises(ValueError, match="shapes differ"):
        peak_precision_recall([theory], [theory, theory], GRID)


def test_least_width_is_the_narrower_of_painted_and_measured() -> None:
    broad, sharp = ([paint({20.0: 1.0, 40.0: 0.5}, fwhm)] for fwhm in (0.4, 0.12))
    assert least_width(broad, GRID) == pytest.approx(0.9 * 0.15)
    assert least_width(broad, GRID, Profile(fwhm=0.3)) == pytest.approx(0.9 * 0.3)
    assert least_width(sharp, GRID) == pytest.approx(0.9 * 0.12, rel=0.06)
    assert least_width(np.zeros_like(broad), GRID) == pytest.approx(0.9 * 0.15)


def test_share_of_peaks_that_are_too_narrow() -> None:
    pattern = paint({20.0: 1.0, 40.0: 0.5, 60.0: 0.5})
    spiked = pattern.copy()
    spiked[1500] += 0.5  # one point wide
    limit = least_width([pattern], GRID)
    assert narrow_share([pattern], GRID, limit) == 0
    assert narrow_share([pattern, spiked], GRID, limit) == pytest.approx(1 / 7)
    assert narrow_share(np.zeros((2, GRID.points)), GRID, limit) is None


def test_no_line_of_the_painted_width_is_too_narrow() -> None:
    painted = [paint({20 + d: 1.0, 60 + 2 * d: 0.7}, 0.15) for d in np.linspace(0, GRID.step, 9)]
    assert narrow_share(painted, GRID, least_width(painted, GRID)) == 0


def test_peaks_of_a_log_q_grid_are_in_degrees() -> None:
    grid = Grid(axis="log_q", points=8192)
    x = grid.two_theta
    pattern = np.exp(-np.log(2) * (2 * (x - 12.3) / 0.2) ** 2) + 0.6 * np.exp(-np.log(2) * (2 * (x - 70.2) / 0.4) ** 2)
    found = find_peaks(pattern, grid)
    np.testing.assert_allclose(found.position, [12.3, 70.2], atol=0.005)
    np.testing.assert_allclose(found.fwhm, [0.2, 0.4], rtol=0.05)
