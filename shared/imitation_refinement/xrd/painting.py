"""Lines painted on an axis that may be even in anything. Compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.xrd.jit import njit

LANES = 64


@njit(nogil=True, fastmath={"nnan", "nsz"})  # else not vectorised; a NaN stays in the row
def largest(row: NDArray) -> np.float32:
    """The largest of a row, or 0: of ``LANES`` stretches side by side, as each comparison waits for the one before."""
    tops, whole = np.zeros(LANES, np.float32), len(row) // LANES * LANES
    for start in range(0, whole, LANES):
        part = row[start : start + LANES]
        for lane in range(LANES):
            tops[lane] = max(tops[lane], part[lane])
    top = np.float32(0.0)
    for value in tops:
        top = max(top, value)
    for value in row[whole:]:
        top = max(top, value)
    return top


@njit(nogil=True, fastmath={"contract", "reassoc", "arcp"})
def paint_uneven(
    offsets: NDArray,
    two_theta: NDArray,
    intensity: NDArray,
    centres: NDArray,
    axis: NDArray,
    fwhm: float,
    mixing: float,
    reach: float,
    out: NDArray,
) -> None:
    """Paints lines of many patterns on any rising axis, each pattern's maximum 1.

    Args:
        offsets: pattern i owns lines ``offsets[i]:offsets[i + 1]``, shape (n + 1,).
        two_theta: of the lines [°].
        intensity: of the lines, integrated.
        centres: the lines' places on the axis [points].
        axis: 2θ [°], shape (points,).
        fwhm, mixing: of :class:`~imitation_refinement.xrd.line.Profile`.
        reach: [°] beyond which a line is not painted.
        out: zeros, which become the patterns, shape (n, points).
    """
    n, points = len(offsets) - 1, len(axis)
    lorentzian, gaussian = mixing * 2 / np.pi / fwhm, (1 - mixing) * 2 * np.sqrt(np.log(2) / np.pi) / fwhm
    for i in range(n):
        row = out[i]
        for j in range(offsets[i], offsets[i + 1]):
            start = int(min(max(np.ceil(centres[j]), 0), points))
            for direction in (-1, 1):
                t = start if direction > 0 else start - 1
                while 0 <= t < points:
                    distance = axis[t] - two_theta[j]
                    if abs(distance) > reach:
                        break
                    u2 = (2 * distance / fwhm) ** 2
                    line = lorentzian / (1 + u2)
                    if u2 < 40:
                        line += gaussian * np.exp(-np.log(2) * u2)
                    row[t] += np.float32(intensity[j] * line)
                    t += direction
        top = largest(row)
        if top > 0:
            scale = np.float32(1.0) / top
            for t in range(points):
                row[t] *= scale
