"""The common grid that every network sees, even in 2θ or in log q, and the way patterns get onto it and back.

On a log q axis (q = 4π sin θ / λ) a crystal whose lattice is a little larger gives the same pattern, shifted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from imitation_refinement.files import parse_json
from imitation_refinement.options import StageConfig

GAP = 5  # steps; a few points left out are drawn through, more were not measured
BESIDE = 12  # steps on either side that say how wide a step is
_LEAST_WIDTH = 1e-9  # of a grid cell; less is rounding
METADATA_KEY = b"imitation_refinement.grid"


class Grid(StageConfig):
    """An axis even in 2θ or in log q at one wavelength. It travels in the metadata of every gridded Parquet table."""

    axis: Literal["two_theta", "log_q"] = Field(
        "two_theta", description="what the points are even in: two_theta, log_q"
    )
    start: float = Field(5.0, gt=0, lt=180, description="first 2θ of the grid [°]")
    stop: float = Field(90.0, gt=0, lt=180, description="last 2θ of the grid [°]")
    points: int = Field(2048, ge=64, le=65536, description="number of points of the grid")
    wavelength: float = Field(1.5406, gt=0.05, lt=10, description="wavelength of the grid [Å]")

    @model_validator(mode="after")
    def _ordered(self) -> Grid:
        if self.stop <= self.start:
            raise ValueError("grid.stop must be larger than grid.start")
        return self

    @property
    def two_theta(self) -> NDArray[np.float64]:
        """The angles of the points, shape (points,), in degrees."""
        if self.axis == "two_theta":
            return np.linspace(self.start, self.stop, self.points)
        return np.clip(self.angle_at(np.arange(self.points)), self.start, self.stop)

    @property
    def step(self) -> float:
        """Distance of two points in degrees; on a log q axis the mean, see :attr:`widths`."""
        return (self.stop - self.start) / (self.points - 1)

    @property
    def edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """First and last 2θ of each point's cell [°], both of shape (points,): half a point below and above it."""
        if self.axis == "two_theta":
            return self.two_theta - self.step / 2, self.two_theta + self.step / 2
        index = np.arange(self.points)
        return self.angle_at(index - 0.5), self.angle_at(index + 0.5)

    @property
    def widths(self) -> NDArray[np.float64]:
        """How wide each point's cell is [°], shape (points,)."""
        if self.axis == "two_theta":
            return np.full(self.points, self.step)
        low, high = self.edges
        return high - low

    def angle_at(self, index: ArrayLike) -> NDArray[np.float64]:
        """2θ [°] at positions on the axis [points], which may lie between points and beyond the ends; any shape."""
        place = np.asarray(index, float)
        if self.axis == "two_theta":
            return np.asarray(self.start + self.step * place)
        low, high = np.log(np.sin(np.radians([self.start / 2, self.stop / 2])))
        return np.degrees(2 * np.arcsin(np.minimum(np.exp(low + (high - low) / (self.points - 1) * place), 1.0)))

    def index_of(self, two_theta: ArrayLike) -> NDArray[np.float64]:
        """Positions on the axis [points] of angles above 0 [°] at the grid's wavelength, any shape."""
        angles = np.asarray(two_theta, float)
        if self.axis == "two_theta":
            return np.asarray((angles - self.start) / self.step)
        low, high = np.log(np.sin(np.radians([self.start / 2, self.stop / 2])))
        return (np.log(np.sin(np.radians(angles / 2))) - low) * (self.points - 1) / (high - low)

    def to_metadata(self) -> dict[bytes, bytes]:
        """The grid as Parquet schema metadata; ``unit`` is that of ``start`` and ``stop``, on either axis."""
        record = {"axis": self.axis, "unit": "degree", **self.model_dump()}
        return {METADATA_KEY: json.dumps(record).encode()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None) -> Grid:
        """The grid in a Parquet schema's metadata.

        Raises:
            KeyError: if the metadata hold no grid.
            ValueError: if the axis is none of ours, or its ends are not in degrees.
        """
        record: dict[str, Any] = parse_json((metadata or {})[METADATA_KEY])
        if not isinstance(record, dict):
            raise ValueError("the grid is no JSON object")
        if (unit := record.pop("unit")) != "degree":
            raise ValueError(f"the ends of the grid axis {record['axis']} are in {unit}, not in degrees")
        return cls.model_validate(record)

    def coverage(self, two_theta: ArrayLike, wavelength: float) -> float:
        """Share of the grid, 0 to 1, that a pattern at ``wavelength`` [Å] covers with points; its gaps are left out."""
        angles = np.asarray(two_theta, float)
        ranges = [(angles[0], angles[-1])]
        for low, high in gaps(angles):
            ranges[-1:] = [(ranges[-1][0], low), (high, ranges[-1][1])]
        ends = convert_two_theta(np.array(ranges), wavelength, self.wavelength)
        inside = np.clip(np.nan_to_num(ends, nan=180.0), self.start, self.stop)
        if self.axis == "two_theta":
            return float((inside[:, 1] - inside[:, 0]).sum()) / (self.stop - self.start)
        places = self.index_of(inside)
        return float((places[:, 1] - places[:, 0]).sum()) / (self.points - 1)

    def resample(self, two_theta: ArrayLike, intensity: ArrayLike, wavelength: float) -> NDArray[np.float32]:
        """A pattern on this grid, shape (points,), in the pattern's own intensity units.

        Angles go through d by Bragg's law when the wavelengths differ. Where the input is finer than the grid, its
        mean over each grid cell is taken (counting noise shrinks as it should); where it is coarser, linear
        interpolation. Outside the input's range, and in its :func:`gaps`, the grid holds 0.

        Args:
            two_theta: rising angles [°], shape (n,).
            intensity: intensities, shape (n,).
            wavelength: the pattern's own wavelength [Å].
        """
        x = convert_two_theta(np.asarray(two_theta, float), wavelength, self.wavelength)
        seen = np.isfinite(x)
        gap = gap_steps(np.asarray(two_theta, float))[: max(int(seen.sum()) - 1, 0)]
        x, y = x[seen], np.asarray(intensity, float)[seen]
        if len(x) < 2:
            return np.zeros(self.points, np.float32)
        steps = np.diff(x)
        if self.axis == "two_theta":
            method = _interpolated if np.median(steps) >= self.step else _averaged
            return method(self, x, y, gap).astype(np.float32)
        # Points are close together at small angles and far apart at large ones: each is treated by its own.
        step = steps[np.clip(np.searchsorted(x, self.two_theta) - 1, 0, len(steps) - 1)]
        coarse = step >= self.widths
        return np.where(coarse, _interpolated(self, x, y, gap), _averaged(self, x, y, gap)).astype(np.float32)


def _interpolated(grid: Grid, x: NDArray, y: NDArray, gap: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The pattern (x, y) at the points of a grid, linear between its own, shape (points,); 0 outside and in gaps."""
    axis = grid.two_theta
    out = np.interp(axis, x, y, left=0.0, right=0.0)
    for low, high in zip(x[:-1][gap], x[1:][gap], strict=True):
        out[(axis > low) & (axis < high)] = 0.0
    return out


def _averaged(grid: Grid, x: NDArray, y: NDArray, gap: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean of the pattern (x, y) over each cell of a grid, shape (points,); 0 outside and in gaps."""
    steps = np.diff(x)
    area = np.concatenate([[0.0], np.cumsum(np.where(gap, 0.0, steps * (y[1:] + y[:-1]) / 2))])
    low, high = (np.clip(edge, x[0], x[-1]) for edge in grid.edges)
    width = high - low
    if gap.any():
        missing = np.concatenate([[0.0], np.cumsum(np.where(gap, steps, 0.0))])
        width -= np.interp(high, x, missing) - np.interp(low, x, missing)
        width[width < _LEAST_WIDTH * grid.step] = 0
    inside = width > 0
    out = np.zeros(grid.points)
    out[inside] = (np.interp(high, x, area) - np.interp(low, x, area))[inside] / width[inside]
    return out


def gap_steps(two_theta: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which steps of rising angles [°], shape (n,), lead over a gap, where nothing was measured; shape (n - 1,).

    A gap is wider than :data:`GAP` times the steps on both of its sides, so that an axis with two or with slowly
    growing steps (even in q or d) has none.
    """
    steps = np.diff(two_theta)
    if len(steps) == 0 or steps.max() <= GAP * steps.min():
        return np.zeros(len(steps), bool)
    around = np.pad(steps, BESIDE, constant_values=np.inf)
    # The third smallest, since between two gaps there may be few points.
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(around, BESIDE), axis=1)[:, 2]
    left, right = windows[: len(steps)], windows[BESIDE + 1 :]  # of the steps before, and after
    usual = np.where(np.isinf(left), right, np.where(np.isinf(right), left, np.maximum(left, right)))
    return np.asarray(steps > GAP * usual)


def gaps(two_theta: ArrayLike) -> list[tuple[float, float]]:
    """The gaps in rising angles [°], each by the angles on its sides; see :func:`gap_steps`."""
    angles = np.asarray(two_theta, float)
    found = np.flatnonzero(gap_steps(angles))
    return [(float(angles[i]), float(angles[i + 1])) for i in found]


def convert_two_theta(two_theta: ArrayLike, wavelength: float, to_wavelength: float) -> NDArray[np.float64]:
    """2θ [°] of the same d spacings at another wavelength [Å]; NaN where the reflection can't be reached.

    Bragg's law, λ = 2 d sin θ.
    """
    angles = np.asarray(two_theta, float)
    if wavelength == to_wavelength:
        return angles
    sine = np.sin(np.radians(angles / 2)) * (to_wavelength / wavelength)
    with np.errstate(invalid="ignore"):
        return np.degrees(2 * np.arcsin(sine))
