"""What a network that learns from the stream sees of a pattern, drawn or measured: √I above the baseline, maximum 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.jit import njit

WINDOW = 2.5  # [°]: what is narrower is no part of the baseline
SMOOTH = 0.2  # [°]: the baseline is looked for in means over so much, or it would run along the lowest of the noise


@dataclass(frozen=True)
class Windows:
    """A grid's cells, and which of its points lie around each; arrays of shape (points,), ``last`` not included.

    Attributes:
        axis: 2θ of the points [°].
        low, high: 2θ where each point's cell begins and ends [°].
        first, last: within half of :data:`WINDOW`.
        near, far: within half of :data:`SMOOTH`.
    """

    axis: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    near: NDArray[np.int64]
    far: NDArray[np.int64]

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, grid: Grid) -> Windows:
        """Those of a grid."""
        axis, (low, high) = grid.two_theta, grid.edges
        ends = [np.searchsorted(axis, axis + half) for half in (-WINDOW / 2, WINDOW / 2, -SMOOTH / 2, SMOOTH / 2)]
        own = np.arange(grid.points)
        first, last, near, far = ends
        first, last = np.minimum(first, own), np.maximum(last, own + 1)
        return cls(axis, low, high, first, last, np.minimum(near, own), np.maximum(far, own + 1))


def measured_input(two_theta: ArrayLike, intensity: ArrayLike, wavelength: float, grid: Grid) -> NDArray[np.float32]:
    """A measured pattern as such a network sees it, shape (points,): 0 to 1, and 0 where nothing was measured.

    Args:
        two_theta: rising angles [°], shape (n,).
        intensity: counts or arbitrary, shape (n,).
        wavelength: the pattern's own wavelength [Å].
        grid: of the network.
    """
    w = Windows.of(grid)
    gridded = grid.resample(two_theta, intensity, wavelength).astype(np.float64)
    return root_above_baseline(gridded, w.first, w.last, w.near, w.far)


def even_input(start: float, step: float, intensity: NDArray[np.float64], grid: Grid) -> NDArray[np.float32]:
    """The same, ten times as fast, of a pattern at the grid's own wavelength, point i at ``start + i step`` [°]."""
    w = Windows.of(grid)
    gridded = _onto(start, step, intensity, w.axis, w.low, w.high)
    return root_above_baseline(gridded, w.first, w.last, w.near, w.far)


@njit(nogil=True)
def _onto(start: float, step: float, y: NDArray, axis: NDArray, low: NDArray, high: NDArray) -> NDArray[np.float64]:
    """As :meth:`Grid.resample <imitation_refinement.xrd.grid.Grid>`, of an even pattern without gaps."""
    n, end = len(y), start + step * (len(y) - 1)
    area = np.zeros(n)
    for i in range(1, n):
        area[i] = area[i - 1] + step * (y[i] + y[i - 1]) / 2
    out = np.zeros(len(axis))
    for i in range(len(axis)):
        if step >= high[i] - low[i]:
            if start <= axis[i] <= end:
                out[i] = _between(y, (axis[i] - start) / step)
            continue
        a, b = max(low[i], start), min(high[i], end)
        if b > a:
            out[i] = (_between(area, (b - start) / step) - _between(area, (a - start) / step)) / (b - a)
    return out


@njit(nogil=True)
def _between(y: NDArray, place: float) -> float:
    i = min(int(place), len(y) - 2)
    return y[i] + (y[i + 1] - y[i]) * (place - i)


@njit(nogil=True, error_model="numpy")
def root_above_baseline(x: NDArray, first: NDArray, last: NDArray, near: NDArray, far: NDArray) -> NDArray[np.float32]:
    """√ of what is above the baseline, scaled to maximum 1, of intensities (points,); see :class:`Windows`.

    The baseline is the morphological opening of the smoothed pattern, smoothed: the greatest of the least intensities
    around every angle (Perez-Pueyo et al., Appl. Spectrosc. 64, 595, 2010). Zeros before the first and after the last
    intensity were not measured and are no part of any window.
    """
    n = len(x)
    out = np.zeros(n, np.float32)
    begin, end = 0, n
    while begin < n and x[begin] == 0:
        begin += 1
    while end > begin and x[end - 1] == 0:
        end -= 1
    if begin == end:
        return out
    smooth = _moving_mean(x, near, far, begin, end)
    lowest = -_moving_greatest(-smooth, first, last, begin, end)
    opened = _moving_greatest(lowest, first, last, begin, end)
    baseline = _moving_mean(opened, first, last, begin, end)
    top = 0.0
    for i in range(begin, end):
        top = max(top, x[i] - baseline[i])
    if top > 0:
        for i in range(begin, end):
            out[i] = math.sqrt(max(0.0, x[i] - baseline[i]) / top)
    return out


@njit(nogil=True, error_model="numpy")
def _moving_mean(x: NDArray, first: NDArray, last: NDArray, begin: int, end: int) -> NDArray[np.float64]:
    """Means over each point's window, cut at ``begin`` and ``end``; 0 beyond these."""
    total = np.zeros(len(x) + 1)
    for i in range(begin, end):
        total[i + 1] = total[i] + x[i]
    out = np.zeros(len(x))
    for i in range(begin, end):
        a, b = np.uint64(max(first[i], begin)), np.uint64(min(last[i], end))
        out[i] = (total[b] - total[a]) / (b - a)
    return out


@njit(nogil=True)
def _moving_greatest(x: NDArray, first: NDArray, last: NDArray, begin: int, end: int) -> NDArray[np.float64]:
    """The greatest of each point's window, cut at ``begin`` and ``end``; 0 beyond these.

    A window is two stretches of 2^k points, k as large as fits, that overlap: the greatest of every such stretch are
    worked out first (Bender & Farach-Colton, LATIN 2000, the sparse table).
    """
    n, widest = end - begin, 1
    for i in range(begin, end):
        widest = max(widest, min(last[i], end) - max(first[i], begin))
    level = np.zeros(widest + 1, np.uint8)  # the largest k with 2^k points in so many
    for length in range(2, widest + 1):
        level[length] = level[length // 2] + 1
    greatest = np.empty((level[widest] + 1, n))
    greatest[0] = x[begin:end]
    for k in range(1, len(greatest)):
        half = 1 << (k - 1)
        before, after = greatest[k - 1], greatest[k - 1, half:]
        for i in range(len(after)):
            greatest[k, i] = before[i] if before[i] > after[i] else after[i]
    out = np.zeros(len(x))
    for i in range(begin, end):
        a, b = np.uint64(max(first[i], begin) - begin), np.uint64(min(last[i], end) - begin)
        k = level[b - a]
        left, right = greatest[k, a], greatest[k, b - (np.uint64(1) << np.uint64(k))]
        out[i] = left if left > right else right
    return out
