"""Wavelet denoising against PyWavelets by hand, and what denoising must and must not do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pywt

from components.baselines.config import DwtConfig
from components.baselines.dwt import anscombe, dwt_denoise, inverse_anscombe, noise_level, threshold
from components.baselines.stage import STAGE
from imitation_refinement.errors import InputError
from imitation_refinement.tables import read_gridded

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
    found = dwt_denoise(y[None], np.array([1000.0]), DwtConfig(wavelet=wavelet, level=level, rule=rule))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)


def test_each_pattern_by_itself() -> None:
    y = np.stack([RNG.poisson(SMOOTH) / 1000, RNG.poisson(SMOOTH[::-1]) / 1000])
    scale = np.array([1000.0, 50.0])
    together = dwt_denoise(y, scale, DwtConfig())
    for i in range(2):
        np.testing.assert_allclose(dwt_denoise(y[i : i + 1], scale[i : i + 1], DwtConfig())[0], together[i], rtol=1e-6)


@pytest.mark.parametrize("points", [1000, 999, 512])
@pytest.mark.parametrize("level", [1.0, 300.0])
def test_a_constant_stays(points: int, level: float) -> None:
    y = np.full((2, points), 0.7)
    found = dwt_denoise(y, np.full(2, level), DwtConfig())
    assert found.shape == y.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, 0.7, rtol=1e-5)
    np.testing.assert_allclose(dwt_denoise(y, np.full(2, level), DwtConfig(anscombe=False)), 0.7, rtol=1e-5)


def test_noise_alone_is_smoothed() -> None:
    y = RNG.poisson(200, (5, 1000)) / 200
    found = dwt_denoise(y, np.full(5, 200.0), DwtConfig())
    assert (found.std(1) < 0.4 * y.std(1)).all()
    np.testing.assert_allclose(found.mean(1), y.mean(1), rtol=0.01)


@pytest.mark.parametrize("rule", ["bayes", "visu"])
def test_a_pattern_comes_nearer_to_what_it_is_without_noise(rule: str) -> None:
    truth = SMOOTH / 1000
    y = RNG.poisson(SMOOTH, (20, 1000)) / 1000
    found = dwt_denoise(y, np.full(20, 1000.0), DwtConfig(rule=rule))
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


def test_stage(toy_tables: dict[str, Path], tmp_path: Path) -> None:
    source = toy_tables["imperfect_dataset"]
    STAGE.execute({"imperfect_dataset": source, "dwt": tmp_path / "dwt.parquet"}, {"level": 3})
    before, grid, raw = read_gridded(source, "imperfect")
    after, same_grid, denoised = read_gridded(tmp_path / "dwt.parquet", "imperfect")
    assert grid == same_grid
    for name in ("pattern_id", "formula", "crystal_system", "split", "scale"):
        assert after[name].equals(before[name]), name
    expected = dwt_denoise(raw["intensity"], before["scale"].to_numpy(), DwtConfig(level=3))
    np.testing.assert_array_equal(denoised["intensity"], expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"wavelet": "sym99"}, "wavelet: 'sym99'"), ({"level": 0}, "level"), ({"rule": "best"}, "rule"), ({"x": 1}, "x")],
)
def test_bad_options(toy_tables: dict[str, Path], tmp_path: Path, options: dict[str, object], named: str) -> None:
    paths = {"imperfect_dataset": toy_tables["imperfect_dataset"], "dwt": tmp_path / "dwt.parquet"}
    with pytest.raises(InputError, match=named):
        STAGE.execute(paths, options)
    assert not paths["dwt"].exists()
