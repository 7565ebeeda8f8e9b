"""Wavelet denoising against PyWavelets by hand, and what denoising must and must not do."""

from __future__ import annotations

import numpy as np
import pytest
import pywt

from components.baselines.config import DwtConfig
from components.baselines.dwt import (
    Denoiser,
    anscombe,
    candidates,
    dwt_denoise,
    inverse_anscombe,
    noise_level,
    search,
    threshold,
)
from imitation_refinement.errors import InputError

AXIS = np.arange(1000)
RNG = np.random.default_rng(0)
SMOOTH = 1000 * np.exp(-(((AXIS - 300) / 15) ** 2)) + 400 * np.exp(-(((AXIS - 600) / 25) ** 2)) + 50


@pytest.mark.parametrize(("wavelet", "level"), [("sym8", 4), ("db4", 3), ("haar", 5)])
@pytest.mark.parametrize("rule", ["bayes", "visu"])
def test_one_pattern_by_hand(wavelet: str, level: int, rule: str) -> None:
    y = RNG.poisson(SMOOTH) / 1000
    values = 2 * np.sqrt(y * 1000 + 3 / 8)
    coarse, *details = pywt.wavedec(values, wavelet, mode="symmetric", level=level)
    sigma = np.median(np.abs(details[-1])) / 0.6745
    kept = []
    for d in details:
        signal = np.sqrt(max(np.mean(d**2) - sigma**2, 0))
        bayes = sigma**2 / signal if signal > 0 else np.inf
        limit = bayes if rule == "bayes" else sigma * np.sqrt(2 * np.log(len(d)))
        kept.append(np.zeros_like(d) if np.isinf(limit) else pywt.threshold(d, limit, "soft"))
    values = pywt.waverec([coarse, *kept], wavelet, mode="symmetric")[:1000]
    expected = np.maximum((np.maximum(values, 0) / 2) ** 2 - 3 / 8, 0) / 1000
    found = dwt_denoise(y[None], np.array([1000.0]), Denoiser(wavelet=wavelet, level=level, rule=rule))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)


def test_each_pattern_by_itself() -> None:
    y = np.stack([RNG.poisson(SMOOTH) / 1000, RNG.poisson(SMOOTH[::-1]) / 1000])
    scale = np.array([1000.0, 50.0])
    together = dwt_denoise(y, scale, Denoiser())
    for i in range(2):
        np.testing.assert_allclose(dwt_denoise(y[i : i + 1], scale[i : i + 1], Denoiser())[0], together[i], rtol=1e-6)


@pytest.mark.parametrize("points", [1000, 999, 512])
@pytest.mark.parametrize("level", [1.0, 300.0])
def test_a_constant_stays(points: int, level: float) -> None:
    y = np.full((2, points), 0.7)
    found = dwt_denoise(y, np.full(2, level), Denoiser())
    assert found.shape == y.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, 0.7, rtol=1e-5)
    np.testing.assert_allclose(dwt_denoise(y, np.full(2, level), Denoiser(anscombe=False)), 0.7, rtol=1e-5)


def test_noise_alone_is_smoothed() -> None:
    y = RNG.poisson(200, (5, 1000)) / 200
    found = dwt_denoise(y, np.full(5, 200.0), Denoiser())
    assert (found.std(1) < 0.4 * y.std(1)).all()
    np.testing.assert_allclose(found.mean(1), y.mean(1), rtol=0.01)


@pytest.mark.parametrize("rule", ["bayes", "visu"])
def test_a_pattern_comes_nearer_to_what_it_is_without_noise(rule: str) -> None:
    truth = SMOOTH / 1000
    y = RNG.poisson(SMOOTH, (20, 1000)) / 1000
    found = dwt_denoise(y, np.full(20, 1000.0), Denoiser(rule=rule))
    error = [np.linalg.norm(v - truth, axis=1) for v in (y, found)]
    assert np.median(error[1]) < 0.7 * np.median(error[0])
    assert abs(found.max(1) - 1.05).max() < 0.1
    assert (found >= 0).all()


def test_anscombe_makes_the_variance_of_counts_one() -> None:
    for mean in (5, 50, 5000):
        assert anscombe(RNG.poisson(mean, 100_000)).var() == pytest.approx(1, abs=0.06)
    counts = np.array([0, 1, 10.5, 1e6])
    np.testing.assert_allclose(inverse_anscombe(anscombe(counts)), counts, atol=1e-9)
    assert inverse_anscombe(np.array([-3.0, 0, 1])).tolist() == [0, 0, 0]


def test_noise_level_and_thresholds() -> None:
    details = RNG.normal(0, 3, (4, 20_001))
    sigma = noise_level(details)
    assert sigma == pytest.approx(np.full((4, 1), 3), rel=0.03)
    assert threshold(details, sigma, "visu") == pytest.approx(sigma * 4.451, rel=1e-3)  # √(2 ln 20,001)
    assert np.isinf(threshold(details / 2, sigma, "bayes")).all()
    strong = RNG.normal(0, 5, (4, 20_001))
    assert threshold(strong, np.full((4, 1), 3.0), "bayes") == pytest.approx(np.full((4, 1), 9 / 4), rel=0.05)


def noisy(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patterns of few counts, their scale and what they are without noise."""
    truth = np.tile(SMOOTH / 1050, (n, 1))
    scale = np.full(n, 300.0)
    return RNG.poisson(truth * scale[:, None]) / scale[:, None], scale, truth


def test_search_takes_the_smallest_median_distance_to_theory() -> None:
    patterns, scale, theory = noisy(9)
    theory[4] = np.nan  # the rest decides
    config = DwtConfig(wavelets=("haar", "sym8"), levels=(4, 1), rules=("visu", "bayes"), anscombe=(False, True))
    chosen, table = search(patterns, scale, theory, config)
    assert len(table) == 16 and list(table["chosen"]).count(True) == 1
    known = np.arange(9) != 4

    def distance(a: np.ndarray) -> float:
        unit = [x / x.max(axis=1, keepdims=True) for x in (a[known].astype(float), theory[known])]
        return float(np.median(np.sqrt(((unit[0] - unit[1]) ** 2).sum(axis=1))))

    for row in table.itertuples():
        found = dwt_denoise(patterns, scale, Denoiser(row.wavelet, row.level, row.rule, row.anscombe))
        assert row.median_l2 == pytest.approx(distance(found), rel=1e-5)
        assert row.to_raw == pytest.approx(distance(found) / distance(patterns), rel=1e-5)
    best = table.loc[table["median_l2"].idxmin()]
    assert best["chosen"] and best["to_raw"] < 0.7
    assert chosen == Denoiser(best["wavelet"], best["level"], best["rule"], best["anscombe"])
    assert chosen.level == 4


def test_without_theory_the_first_candidate_is_taken() -> None:
    patterns, scale, theory = noisy(3)
    config = DwtConfig(wavelets=("db4", "sym8"), levels=(2, 4), rules=("visu",), anscombe=(False, True))
    for nothing in (slice(None), slice(0)):  # no theory, no validation pattern
        chosen, table = search(patterns[nothing], scale[nothing], np.full_like(theory, np.nan)[nothing], config)
        assert chosen == Denoiser("db4", 2, "visu", False)
        assert table["median_l2"].isna().all() and table["chosen"].tolist() == [True] + [False] * 7


def test_candidates(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(candidates(DwtConfig(), 2048)) == 64 and candidates(DwtConfig(), 2048)[0] == Denoiser()
    assert not capsys.readouterr().err
    found = candidates(DwtConfig(wavelets=("sym8", "haar"), rules=("bayes",), anscombe=(True,)), 128)
    assert {(d.wavelet, d.level) for d in found} == {("sym8", 3), ("haar", 4), ("haar", 3), ("haar", 5), ("haar", 6)}
    assert "left out, as 128 points are too few for these levels: sym8 4, sym8 5, sym8 6" in capsys.readouterr().err
    with pytest.raises(InputError, match="need more than the grid's 64 points"):
        candidates(DwtConfig(wavelets=("sym8",), levels=(4, 5)), 64)
