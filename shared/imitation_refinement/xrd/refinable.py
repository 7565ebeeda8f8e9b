"""What a refiner sees of a pattern: √I above the baseline, the same smoothed, and how far that stands out of noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.vocabulary import REFINER_CHANNELS
from imitation_refinement.xrd.grid import Grid, convert_two_theta
from imitation_refinement.xrd.noise import FWHM, significance
from imitation_refinement.xrd.preparation import even_input, measured_input

REFERENCE = 1.5406  # [Å], where lines are as wide as FWHM; widths in 2θ go with the wavelength
SMOOTH = 0.12  # [° at the grid's wavelength]: full width at half maximum of what the second channel is smoothed by
FINEST = 500  # points a line's width, at most: 0.0003° at the wavelength of copper
MOST_POINTS = 1_000_000
LOUD = 3.0  # [σ]: from here on significance counts by its logarithm


@dataclass(frozen=True)
class Windows:
    """Which points of a grid lie within half of :data:`SMOOTH` around each, (points,); ``last`` is not included."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, grid: Grid) -> Windows:
        """Those of a grid."""
        axis, own = grid.two_theta, np.arange(grid.points)
        first, last = (np.searchsorted(axis, axis + half) for half in (-SMOOTH / 2, SMOOTH / 2))
        return cls(np.minimum(first, own), np.maximum(last, own + 1))


def measured_channels(
    two_theta: ArrayLike, intensity: ArrayLike, wavelength: float, grid: Grid, deviation: ArrayLike | None = None
) -> NDArray[np.float32]:
    """A measured pattern as a refiner sees it, shape (3, points); 0 where nothing was measured.

    Args:
        two_theta: rising angles [°], shape (n,).
        intensity: counts or arbitrary, shape (n,).
        wavelength: the pattern's own wavelength [Å].
        grid: of the refiner.
        deviation: standard deviation of each intensity, where the file says them, shape (n,).
    """
    root = measured_input(two_theta, intensity, wavelength, grid)
    axis, found = measured_significance(two_theta, intensity, wavelength, deviation)
    angles = convert_two_theta(axis, wavelength, grid.wavelength)
    reached = np.isfinite(angles)
    return _channels(root, np.interp(grid.two_theta, angles[reached], found[reached]), grid)


def measured_significance(
    two_theta: ArrayLike, intensity: ArrayLike, wavelength: float, deviation: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Even angles [°] at a measured pattern's usual step, and :func:`.noise.significance` there, shape (k,) each."""
    x, y = np.asarray(two_theta, float), np.asarray(intensity, float)
    fwhm, reach = FWHM * wavelength / REFERENCE, float(x[-1] - x[0])
    step = max(float(np.median(np.diff(x))), fwhm / FINEST, reach / MOST_POINTS)
    points = max(2, int(reach / step + 1.5))
    axis = np.linspace(x[0], x[-1], points)
    own = None if deviation is None else np.interp(axis, x, np.asarray(deviation, float))
    return axis, significance(np.interp(axis, x, y), float(axis[1] - axis[0]), fwhm, deviation=own)


def even_channels(start: float, step: float, intensity: NDArray[np.float64], grid: Grid) -> NDArray[np.float32]:
    """The same, of a pattern at the grid's own wavelength, point i at ``start + i step`` [°]."""
    found = significance(intensity, step, FWHM * grid.wavelength / REFERENCE)
    place = (grid.two_theta - start) / step
    return _channels(even_input(start, step, intensity, grid), np.interp(place, np.arange(len(found)), found), grid)


def _channels(root: NDArray[np.float32], found: NDArray[np.float64], grid: Grid) -> NDArray[np.float32]:
    out = np.empty((REFINER_CHANNELS, grid.points), np.float32)
    out[0] = root
    out[1] = np.sqrt(_mean(_mean(root.astype(float) ** 2, grid), grid))
    out[2] = np.arcsinh(found / LOUD)
    seen = np.flatnonzero(root)
    if not len(seen):
        return np.zeros_like(out)
    out[:, : seen[0]], out[:, seen[-1] + 1 :] = 0, 0
    return out


def _mean(values: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Means over each point's window, shape (points,): twice a box is a triangle, as wide at half its height."""
    windows = Windows.of(grid)
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((total[windows.last] - total[windows.first]) / (windows.last - windows.first))
