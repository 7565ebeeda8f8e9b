"""Wavelet denoising, the classical baseline."""

from __future__ import annotations

import numpy as np
import pywt
from numpy.typing import NDArray

from components.baselines.config import DwtConfig, ThresholdRule


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


def dwt_denoise(patterns: NDArray[np.floating], scale: NDArray[np.floating], config: DwtConfig) -> NDArray[np.float32]:
    """Patterns with their wavelet details soft-thresholded.

    Args:
        patterns: intensities, shape (n, points).
        scale: what a pattern's intensities are multiplied by to be counts, shape (n,).
        config: wavelet, level, rule.

    Returns:
        Denoised intensities on the scale of ``patterns``, shape (n, points).
    """
    factor = np.asarray(scale, float)[:, None]
    signal = np.asarray(patterns, float) * factor
    values = anscombe(signal) if config.anscombe else signal
    coarse, *details = pywt.wavedec(values, config.wavelet, mode="symmetric", level=config.level, axis=1)
    sigma = noise_level(details[-1])
    kept = []
    for level in details:
        limit = threshold(level, sigma, config.rule)
        kept.append(np.sign(level) * np.maximum(np.abs(level) - limit, 0))
    values = pywt.waverec([coarse, *kept], config.wavelet, mode="symmetric", axis=1)[:, : patterns.shape[1]]
    out = inverse_anscombe(values) if config.anscombe else np.maximum(values, 0)
    return (out / factor).astype(np.float32)
