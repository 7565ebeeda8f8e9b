"""Peak lists of many structures as ideal patterns on the grid, quickly."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from components.simulate.kernel import Peaks
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.jit import njit
from imitation_refinement.xrd.line import REACH, Profile, pseudo_voigt
from imitation_refinement.xrd.painting import largest, paint_uneven

PHASES = 64  # tabulated positions of a line between two grid points; linear between them, 1e-5 of the maximum


def paint(peaks: Peaks, grid: Grid, profile: Profile) -> NDArray[np.float32]:
    """Ideal patterns, shape (n, points), each with its maximum at 1; a row without peaks near the grid is 0.

    Angles are at the grid's own wavelength. All lines have one profile, cut at ``REACH`` widths, so it is tabulated
    once, at ``PHASES`` positions between two points, and added as it is. That is so on a grid even in 2θ; on another
    each line is worked out at its points.
    """
    out = np.zeros((len(peaks), grid.points), np.float32)  # NumPy's, unlike Numba's, is on huge pages where large
    if grid.axis != "two_theta":
        axis, centres = grid.two_theta, grid.index_of(peaks.two_theta)
        reach = REACH * profile.fwhm
        paint_uneven(
            peaks.offsets, peaks.two_theta, peaks.intensity, centres, axis, profile.fwhm, profile.mixing, reach, out
        )
        return out
    table, half = _tabulated(grid.step, profile.fwhm, profile.mixing)
    _paint(peaks.offsets, peaks.two_theta, peaks.intensity, grid.start, grid.step, table, half, out)
    return out


@lru_cache(maxsize=16)
def _tabulated(step: float, fwhm: float, mixing: float) -> tuple[NDArray[np.float32], int]:
    """A line at each of its ``PHASES`` places before a point of the grid, and how many points it reaches to a side."""
    half = int(np.ceil(REACH * fwhm / step)) + 1
    distance = step * (np.arange(-half, half + 2) - np.arange(PHASES + 1)[:, None] / PHASES)
    table = pseudo_voigt(distance, fwhm, mixing)
    table[np.abs(distance) > REACH * fwhm] = 0
    return table.astype(np.float32), half


@njit(nogil=True, fastmath={"contract", "reassoc"})
def _paint(
    offsets: NDArray,
    two_theta: NDArray,
    intensity: NDArray,
    start: float,
    step: float,
    table: NDArray,
    half: int,
    out: NDArray,
) -> None:
    phases, points = table.shape[0] - 1, out.shape[1]
    for i in range(len(offsets) - 1):
        row = out[i]
        for j in range(offsets[i], offsets[i + 1]):
            x = (two_theta[j] - start) / step
            centre = int(np.floor(x))
            phase = (x - centre) * phases
            p = min(int(phase), phases - 1)
            upper = np.float32((phase - p) * intensity[j])
            lower = np.float32(intensity[j]) - upper
            first, last = max(0, centre - half), min(points, centre + half + 2)
            if last <= first:
                continue
            target = row[first:last]
            before = table[p, first - centre + half : last - centre + half]
            after = table[p + 1, first - centre + half : last - centre + half]
            for t in range(len(target)):
                target[t] += lower * before[t] + upper * after[t]
        top = largest(row)
        if top > 0:
            scale = np.float32(1.0) / top
            for t in range(points):
                row[t] *= scale
