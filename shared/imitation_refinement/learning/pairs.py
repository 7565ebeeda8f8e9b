"""Pairs from the stream: a pattern as it would be measured, and the ideal one of the same crystal in the same cell."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imitation_refinement.learning.stream import REACHING, Stream, in_order
from imitation_refinement.vocabulary import REFINER_CHANNELS
from imitation_refinement.xrd.flaws import Parameters
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import REACH, Profile
from imitation_refinement.xrd.painting import paint_uneven
from imitation_refinement.xrd.refinable import even_channels

Vector = NDArray[np.float64]


class Pairs(NamedTuple):
    """A batch of pairs.

    Attributes:
        seen: what the refiner sees, shape (n, 3, points); see :mod:`~imitation_refinement.xrd.refinable`.
        ideal: √I of the ideal pattern, its maximum 1, 0 where nothing was measured, shape (n, points).
        shift: by how much lines stand at too high angles [°]: alike everywhere, and in proportion to cos θ; (n, 2).
        label: class indices, shape (n,).
    """

    seen: Tensor
    ideal: Tensor
    shift: Tensor
    label: Tensor


def pairs(stream: Stream, first: int, n: int, profile: Profile) -> Pairs:
    """Pairs ``first`` to ``first + n - 1`` of a stream; the flawed one is the stream's sample of that number."""
    points = stream.grid.points
    seen, ideal = np.empty((n, REFINER_CHANNELS, points), np.float32), np.empty((n, points), np.float32)
    shift, label = np.empty((n, 2), np.float32), np.empty(n, np.int64)
    for i in range(n):
        found = stream.measurement(first + i)
        seen[i] = even_channels(found.start, found.step, found.counts, stream.grid)
        d, f2, p = stream.ideal(first + i)
        ideal[i] = ideal_root(d, f2, stream.grid, profile, seen[i, 0] > 0)
        shift[i] = shift_of(p)
        label[i] = stream.bank.label[found.row]
    return Pairs(*map(torch.from_numpy, (seen, ideal, shift, label)))


def shift_of(p: Parameters) -> tuple[float, float]:
    """The zero error [°], and what displacement adds times cos θ [°]."""
    return p.zero_shift, float(np.degrees(-2 * p.displacement / p.radius))


def ideal_root(
    d: Vector, f2: Vector, grid: Grid, profile: Profile, seen: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """√I of the ideal pattern of lines, its maximum 1, shape (points,).

    Args:
        d: spacings [Å], shape (n,).
        f2: Σ|F|² of each line, shape (n,).
        grid: of the pattern.
        profile: of its lines.
        seen: points between the first and the last of which something was measured; all without it.
    """
    reach = REACH * profile.fwhm
    sine = grid.wavelength / (2 * d)
    near = sine < np.sin(np.radians(min(grid.stop + REACHING, 179.0) / 2))
    theta = np.arcsin(sine[near])
    strength = f2[near] * (1 + np.cos(2 * theta) ** 2) / (np.sin(theta) ** 2 * np.cos(theta))
    angles = np.degrees(2 * theta)
    painted = np.zeros((1, grid.points), np.float32)
    paint_uneven(
        np.array([0, len(angles)]),
        angles,
        strength,
        grid.index_of(angles),
        grid.two_theta,
        profile.fwhm,
        profile.mixing,
        reach,
        painted,
    )
    painted = painted[0]
    if seen is not None:
        inside = np.flatnonzero(seen)
        if not len(inside):
            return np.zeros(grid.points, np.float32)
        painted[: inside[0]], painted[inside[-1] + 1 :] = 0, 0
    top = painted.max()
    return np.sqrt(painted / top if top > 0 else painted)


def batches(stream: Stream, profile: Profile, size: int, first: int, last: int, workers: int = 0) -> Iterator[Pairs]:
    """Batches ``first`` to ``last - 1`` of ``size`` pairs each, in order; see :func:`.stream.in_order`."""
    return in_order(partial(pairs, stream, profile=profile), size, first, last, workers)
