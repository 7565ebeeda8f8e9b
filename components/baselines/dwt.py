"""Wavelet denoising, the classical baseline, and its choice on validation patterns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import pandas as pd
import pywt
from numpy.typing import NDArray

from components.baselines.config import DwtConfig, ThresholdRule
from imitation_refinement.errors import InputError
from imitation_refinement.progress import progress, say
from imitation_refinement.results.metrics import l2


@dataclass(frozen=True)
class Denoiser:
    """One way to denoise.

    Attributes:
        wavelet: discrete wavelet, by PyWavelets' name.
        level: decomposition levels.
        rule: threshold.
        anscombe: whether counts are first given nearly unit variance.
    """

    wavelet: str = "sym8"
    level: int = 4
    rule: ThresholdRule = "bayes"
    anscombe: bool = True


def anscombe(counts: NDArray[np.floating]) -> NDArray[np.float64]:
    """2 √(x + 3/8): Poisson counts with nearly unit variance (Anscombe, Biometrika 35 (1948) 246). Any shape."""
    return 2 * np.sqrt(np.asarray(counts, float) + 3 / 8)


def inverse_anscombe(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The algebraic inverse of :func:`anscombe`, at least 0. Any shape."""
    return np.maximum((np.maximum(values, 0) / 2) ** 2 - 3 / 8, 0)


def noise_level(details: NDArray[np.floating]) -> NDArray[np.float64]:
    """σ = median |d| / 0.6745 of the finest details (Donoho & Johnstone, Biometrika 81 (1994) 425).

    Args:
        details: finest detail coefficients, shape (n, length).

    Returns:
        Shape (n, 1).
    """
    return np.median(np.abs(details), axis=1, keepdims=True) / 0.6745


def threshold(details: NDArray[np.floating], sigma: NDArray[np.floating], rule: ThresholdRule) -> NDArray[np.float64]:
    """Threshold of one level's details.

    ``visu``: σ √(2 ln N) (Donoho & Johnstone 1994). ``bayes``: σ² / √max(⟨d²⟩ − σ², 0), infinite where the details
    are noise alone (Chang, Yu & Vetterli, IEEE Trans. Image Process. 9 (2000) 1532).

    Args:
        details: shape (n, length).
        sigma: noise level, shape (n, 1).
        rule: which.

    Returns:
        Shape (n, 1).
    """
    if rule == "visu":
        return sigma * np.sqrt(2 * np.log(details.shape[1]))
    signal = np.sqrt(np.maximum(np.mean(np.square(details), axis=1, keepdims=True) - sigma**2, 0))
    return np.divide(sigma**2, signal, out=np.full_like(signal, np.inf), where=signal > 0)


def dwt_denoise(patterns: NDArray[np.floating], scale: NDArray[np.floating], denoiser: Denoiser) -> NDArray[np.float32]:
    """Patterns with their wavelet details soft-thresholded.

    Args:
        patterns: intensities, shape (n, points).
        scale: what a pattern's intensities are multiplied by to be counts, shape (n,).
        denoiser: wavelet, level, rule.

    Returns:
        Denoised intensities on the scale of ``patterns``, shape (n, points).
    """
    factor = np.asarray(scale, float)[:, None]
    signal = np.asarray(patterns, float) * factor
    values = anscombe(signal) if denoiser.anscombe else signal
    coarse, *details = pywt.wavedec(values, denoiser.wavelet, mode="symmetric", level=denoiser.level, axis=1)
    sigma = noise_level(details[-1])
    kept = []
    for level in details:
        limit = threshold(level, sigma, denoiser.rule)
        kept.append(np.sign(level) * np.maximum(np.abs(level) - limit, 0))
    values = pywt.waverec([coarse, *kept], denoiser.wavelet, mode="symmetric", axis=1)[:, : patterns.shape[1]]
    out = inverse_anscombe(values) if denoiser.anscombe else np.maximum(values, 0)
    return (out / factor).astype(np.float32)


def candidates(config: DwtConfig, points: int) -> list[Denoiser]:
    """Every combination of the options' lists, in their order, that has room on a grid of ``points``.

    Raises:
        InputError: if no combination has room.
    """
    room = {name: pywt.dwt_max_level(points, name) for name in config.wavelets}
    pairs = list(product(config.wavelets, config.levels))
    if deep := [f"{name} {level}" for name, level in pairs if level > room[name]]:
        say(f"dwt: left out, as {points} points are too few for these levels: {', '.join(deep)}")
    found = [
        Denoiser(name, level, rule, anscombe)
        for (name, level), rule, anscombe in product(pairs, config.rules, config.anscombe)
        if level <= room[name]
    ]
    if not found:
        raise InputError("dwt.levels", f"need more than the grid's {points} points.", "Use lower levels.")
    return found


def search(
    patterns: NDArray[np.floating],
    scale: NDArray[np.floating],
    theory: NDArray[np.floating],
    config: DwtConfig,
) -> tuple[Denoiser, pd.DataFrame]:
    """The candidate whose denoised patterns have the smallest median ℓ2 to theory; the first one without any theory.

    Args:
        patterns: validation patterns, shape (n, points).
        scale: as for :func:`dwt_denoise`, shape (n,).
        theory: their theory, NaN where there is none, shape (n, points).
        config: the candidates.

    Returns:
        The chosen one; and a row for each candidate: its fields, ``median_l2`` (NaN without any theory), the same
        ``to_raw`` patterns' and whether it is ``chosen``.

    Raises:
        InputError: as :func:`candidates`.
    """
    tried = candidates(config, patterns.shape[1])
    known = ~np.isnan(theory).all(axis=1)
    patterns, scale, theory = patterns[known], scale[known], theory[known]
    table = pd.DataFrame([asdict(denoiser) for denoiser in tried])
    table["median_l2"] = np.nan
    if known.any():
        table["median_l2"] = [
            np.median(l2(dwt_denoise(patterns, scale, denoiser), theory))
            for denoiser in progress(tried, "dwt: candidates on the validation part", unit="candidates")
        ]
        best = int(table["median_l2"].argmin())
        table["to_raw"] = table["median_l2"] / np.median(l2(patterns, theory))
    else:
        best = 0
        table["to_raw"] = np.nan
    table["chosen"] = table.index == best
    return tried[best], table
