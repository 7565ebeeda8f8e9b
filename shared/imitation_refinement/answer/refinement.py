"""A refiner on measured patterns: no line without the noise's leave, and back on the pattern's own angles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from imitation_refinement.data.patterns import Pattern
from imitation_refinement.errors import InputError
from imitation_refinement.learning.root_refiner import MIDDLE, RootRefiner
from imitation_refinement.xrd.grid import Grid, convert_two_theta
from imitation_refinement.xrd.peaks import find_peaks
from imitation_refinement.xrd.preparation import WINDOW
from imitation_refinement.xrd.refinable import measured_channels, measured_significance

Vector = NDArray[np.float64]

LEAST = 3.0  # [σ] of a line
SURE = 6.0  # [σ]: what shows no such line shows none; the highest of 300 patterns of noise and humps was 5.2
NEAR = 0.08  # [°]: how far from where it stands out of the noise a line may have its top
FADE = 2.0  # [°] in which what is no line falls to 1/e at least: a plateau then has its top where a line may have one
FARTHEST = 0.12  # [°] that lines are moved: farther, and those that lean on another would be within WITHIN of none
WITHIN = 0.2  # [°]: no farther from a refined line, moved by the zero error, is one of the measured pattern


@dataclass(frozen=True)
class Refinement:
    """A refined pattern.

    Attributes:
        two_theta: the pattern's own angles [°], shape (n,).
        intensity: refined, the highest line as high as it was measured above its surroundings, shape (n,).
        on_grid: the same on the refiner's grid, the highest 1, shape (points,).
        moved: by how much lines were moved at 2θ = 40° [°].
    """

    two_theta: Vector
    intensity: Vector
    on_grid: Vector
    moved: float


@torch.no_grad()
def refine(refiner: RootRefiner, pattern: Pattern, zero_error: float | None = None) -> Refinement:
    """Refines one pattern; beyond the refiner's grid, and where no line stands out of the noise, nothing is left.

    Args:
        refiner: in evaluation mode.
        pattern: a checked pattern with its wavelength.
        zero_error: by which lines stand too high, as a lattice tells it [° at the grid's wavelength]; farther than
            :data:`FARTHEST` they are not moved. Without it the network tells a zero error and a displacement.

    Raises:
        InputError: if nothing of the pattern lies on the refiner's grid.
    """
    assert pattern.wavelength is not None, "a checked pattern has a wavelength"
    grid = refiner.grid
    gridded = grid.resample(pattern.two_theta, pattern.intensity, pattern.wavelength).astype(float)
    if not gridded.any():
        raise InputError(pattern.where, "has nothing where patterns are refined.", "Check the wavelength.")
    seen = measured_channels(pattern.two_theta, pattern.intensity, pattern.wavelength, grid, pattern.sigma)
    root, shift = refiner(torch.from_numpy(seen[None]))
    if zero_error is not None:
        shift = torch.tensor([[float(np.clip(zero_error, -FARTHEST, FARTHEST)), 0.0]])
    zero, displacement = shift[0].tolist()
    peaks = find_peaks(gridded, grid, 0.0, LEAST).position
    refined = floored(root[0].double().numpy() ** 2, grid, lines_of(pattern, peaks, grid, zero, displacement))
    highest = int(refined.argmax())
    moved = refiner.moved(torch.from_numpy(refined)[None], shift)[0].numpy()
    moved = floored(moved, grid, within(peaks, grid))
    on_grid = moved / moved.max() if moved.max() > 0 else moved
    angles = convert_two_theta(pattern.two_theta, pattern.wavelength, grid.wavelength)
    inside = (angles >= grid.start) & (angles <= grid.stop)
    intensity = np.zeros(len(angles))
    around = np.abs(grid.two_theta - grid.two_theta[highest]) <= WINDOW / 2
    height = gridded[highest] - gridded[around & (gridded > 0)].min(initial=gridded[highest])
    intensity[inside] = np.maximum(PchipInterpolator(grid.two_theta, on_grid)(angles[inside]), 0) * height
    return Refinement(pattern.two_theta, intensity, on_grid, -(zero + MIDDLE * displacement))


def floored(values: Vector, grid: Grid, lines: Vector) -> Vector:
    """Values whose local maxima all lie where lines may be, shape (points,).

    Between two lines values fall, from the one and from the other, to a valley, and never rise again: feet stay, peaks
    go. Without any line all is 0.

    Args:
        values: at least 0, shape (points,).
        grid: of the values.
        lines: first and last angle where each line may have its top [°], shape (k, 2).
    """
    if not len(lines):
        return np.zeros_like(values)
    axis = grid.two_theta
    change = np.zeros(grid.points + 1, int)
    np.add.at(change, np.searchsorted(axis, lines[:, 0]), 1)
    np.add.at(change, np.searchsorted(axis, lines[:, 1], side="right"), -1)
    free = np.cumsum(change[:-1]) > 0
    out = values.copy()
    ends = np.flatnonzero(np.diff(free.astype(np.int8), prepend=1, append=1))
    for first, last in zip(ends[::2], ends[1::2], strict=True):  # each stretch without lines
        begin, end = max(first - 1, 0), min(last + 1, grid.points)
        part = values[begin:end]
        falling = _falling(part, axis[begin:end]) if first else np.zeros_like(part)
        rising = _falling(part[::-1], axis[begin:end][::-1])[::-1] if last < grid.points else np.zeros_like(part)
        out[begin:end] = np.maximum(falling, rising)
    return out


def within(peaks: Vector, grid: Grid) -> Vector:
    """First and last angle that is within :data:`WITHIN` of each of some peaks, shape (k, 2)."""
    _, reach = _near_and_reach(peaks, grid)
    return np.stack([peaks - reach, peaks + reach], axis=1)


def _near_and_reach(angles: Vector, grid: Grid) -> tuple[Vector, Vector]:
    """:data:`NEAR`, and :data:`WITHIN` less a point, for tops are told to one; both so much that a point is near."""
    cell = np.interp(angles, grid.two_theta, grid.widths)
    near = np.maximum(NEAR, cell / 2)
    return near, np.maximum(WITHIN - cell, near)


def _falling(values: Vector, axis: Vector) -> Vector:
    """Values that fall from angle to angle [°], shape (n,): what lies below these is left, what rises is not."""
    fade = np.exp(-np.abs(axis - axis[0]) / FADE)
    return np.minimum(np.minimum.accumulate(values / fade) * fade, values)


def lines_of(pattern: Pattern, peaks: Vector, grid: Grid, zero: float = 0.0, displacement: float = 0.0) -> Vector:
    """First and last angle where each line of a pattern may have its top [° at the grid's wavelength], shape (k, 2).

    A line is a maximum of the pattern's significance of :data:`LEAST`, if one is of :data:`SURE`. It may be so near to
    that that, moved by the zero error, it is still within :data:`WITHIN` of a maximum of the pattern itself whose
    prominence is so many σ, too.

    Args:
        pattern: as measured.
        peaks: maxima of it on the grid, of a prominence of so many σ [°], shape (n,).
        grid: of the refiner.
        zero, displacement: that will be taken off [°].
    """
    assert pattern.wavelength is not None, "a checked pattern has a wavelength"
    axis, found = measured_significance(pattern.two_theta, pattern.intensity, pattern.wavelength, pattern.sigma)
    inner = found[1:-1]
    tops = 1 + np.flatnonzero((inner >= found[:-2]) & (inner > found[2:]) & (inner >= LEAST))
    if not len(peaks) or not (found[tops] >= SURE).any():
        return np.zeros((0, 2))
    angles = convert_two_theta(axis[tops], pattern.wavelength, grid.wavelength)
    angles = angles[(angles >= grid.start) & (angles <= grid.stop)]
    near, reach = _near_and_reach(angles, grid)
    nearest = peaks[np.abs(angles[:, None] - peaks).argmin(axis=1)]
    beside = nearest + zero + displacement * np.cos(np.radians(angles / 2))
    lines = np.stack([np.maximum(angles - near, beside - reach), np.minimum(angles + near, beside + reach)], axis=1)
    return np.asarray(lines[lines[:, 0] <= lines[:, 1]])
