"""How far a pattern stands out of its noise: what may be called a line, and what may not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

Vector = NDArray[np.float64]

FWHM = 0.15  # [° at the wavelength of copper] of the lines that are looked for
SURROUNDINGS = (4.0, 8.0)  # times as wide: what a line stands on
FEWEST = (7, 13)  # points of the surroundings
LEAST_SIGMA = 0.6  # [points]: a narrower Gaussian is none on the axis
DIFFERENCES = 6  # order of the differences that tell noise from lines
LEVEL = 25  # points that the level is the mean of
TRIMMED = 0.75  # of the squares: the rest may be of lines
TRIMMED_CHI2 = 0.3686  # mean of the lowest so many of χ² with one degree of freedom
SMOOTHED = 0.03  # [°]: noise of every second point is told where these are no farther apart
MOST_COUNTS = 1e8  # in a pattern's highest point; less noise than these have is none


@dataclass(frozen=True)
class Noise:
    """Variance of one point's noise: ``flat``, and in proportion to the level above ``level``, as counts scatter.

    Attributes:
        flat: in the flat parts [intensity²].
        level: of the flat parts [intensity].
    """

    flat: float
    level: float

    @classmethod
    def of(cls, intensity: ArrayLike, step: float) -> Noise:
        """The noise of a pattern, told on the lower half of its intensities by sixth differences, free of lines.

        Where files hold smoothed or interpolated intensities neighbours share their noise: then it is told on every
        second point, too, and the larger counts.

        Args:
            intensity: at even steps, shape (n,).
            step: [°].
        """
        y = np.asarray(intensity, float)
        level = uniform_filter1d(y, LEVEL)
        parts = [(y, level)]
        if 2 * step <= SMOOTHED:
            parts.append((y[::2], level[::2]))
        flat = max(_flat_variance(*part) for part in parts)
        flat = max(flat, float(np.abs(y).max(initial=0)) ** 2 / MOST_COUNTS, np.finfo(float).tiny)
        usual = float(np.median(level[level <= np.median(level)]))
        return cls(flat, max(usual, math.sqrt(flat)))

    def variance(self, level: Vector) -> Vector:
        """Of points at a level [intensity], any shape."""
        return np.asarray(self.flat * np.maximum(level / self.level, 1))


def significance(
    intensity: ArrayLike,
    step: float,
    fwhm: float = FWHM,
    noise: Noise | None = None,
    deviation: ArrayLike | None = None,
) -> Vector:
    """How many standard deviations what is as wide as a line stands above its surroundings, shape (n,).

    A Gaussian as wide as a line, less means over :data:`SURROUNDINGS` times as much, which have its sum and its second
    moment: so level, slope and curvature of the background count for nothing, and humps neither. Over the standard
    deviation that counting noise gives that sum. Peaks are looked for so in spectra of all kinds (Mariscotti, Nucl.
    Instrum. Methods 50, 309, 1967).

    Args:
        intensity: at even steps, shape (n,).
        step: [°].
        fwhm: of a line [°].
        noise: of a point; told from the pattern itself without it.
        deviation: standard deviation of each point, where it is known; 0 where it is not, shape (n,).
    """
    y = np.asarray(intensity, float)
    noise = noise or Noise.of(y, step)
    sigma = max(fwhm / math.sqrt(8 * math.log(2)) / step, LEAST_SIGMA)
    widths = [2 * round(times * fwhm / step / 2) + 1 for times in SURROUNDINGS]
    near, far = (max(width, least) for width, least in zip(widths, FEWEST, strict=True))
    line = gaussian_filter1d(y, sigma, mode="nearest", truncate=3)
    of_near, of_far = ((width**2 - 1) / 12 for width in (near, far))
    share = (of_far - sigma**2) / (of_far - of_near)
    rest = 1 - share
    around = share * uniform_filter1d(y, near, mode="nearest") + rest * uniform_filter1d(y, far, mode="nearest")
    # Σ k² of a Gaussian of area 1 less the means, both of which hold it, and the wider the narrower.
    squares = 1 / (2 * math.sqrt(math.pi) * sigma) + (share**2 - 2 * share) / near
    squares += (rest**2 + 2 * share * rest - 2 * rest) / far
    variance = noise.variance(line)
    if deviation is not None:
        known = gaussian_filter1d(np.asarray(deviation, float) ** 2, sigma, mode="nearest", truncate=3)
        variance = np.where(known > 0, known, variance)
    return np.asarray((line - around) / np.sqrt(variance * squares))


def _flat_variance(y: Vector, level: Vector) -> float:
    """The variance of a point in the lower half of a pattern, shape (n,); 0 of too few points."""
    if len(y) <= 2 * DIFFERENCES:
        return 0.0
    half = DIFFERENCES // 2
    scatter = np.diff(y, DIFFERENCES) ** 2 / comb(2 * DIFFERENCES, DIFFERENCES)
    middle = level[half:-half]
    squares = scatter[middle <= np.median(middle)]
    kept = max(1, round(TRIMMED * len(squares)))
    return float(np.partition(squares, kept - 1)[:kept].mean()) / TRIMMED_CHI2
