"""The stream: patterns as a diffractometer would measure them, drawn on the fly from a bank of lines, without end.

Each sample takes a crystal system (all equally often), a structure of it, another cell of its symmetry and flaws line
by line; it is measured on an even 2θ axis, and prepared exactly as a measured pattern would be. A sample depends on the
bank, the options, the seed and its number alone: whoever draws it, in whatever order, gets the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imitation_refinement.data.contracts import open_table
from imitation_refinement.data.formula import normal, one_material, parse, without_hydrogen
from imitation_refinement.data.patterns import read_manifest
from imitation_refinement.errors import InputError
from imitation_refinement.progress import warn
from imitation_refinement.xrd.bank import DERIVED, GIVEN, RANDOM, Bank
from imitation_refinement.xrd.diffractometer import add_background, counted, painted
from imitation_refinement.xrd.effects import add_spikes
from imitation_refinement.xrd.flaws import Parameters, Range, Ranges, draw, within
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.preparation import even_input
from imitation_refinement.xrd.redrawn import spacings, strained_metric, textures

T = TypeVar("T")

BEYOND = 0.5  # [°] that is measured beyond the grid's ends
REACHING = 3.0  # [°]: lines so far beyond the axis still reach in by shift and tail
NEGLIGIBLE = 1e-4  # of the strongest line: what is below it would be lost in the noise of 30,000 counts


class StreamFlaws(Ranges):
    """What the stream's flaws are drawn from: wider than those of the virtual diffractometer, and some of its own."""

    zero_shift: Annotated[Range, within(-5, 5)] = Field((-0.15, 0.15), description="zero shift of 2θ [°]")
    w: Annotated[Range, within(0, 10)] = Field((0.001, 0.03), description="Caglioti W [°²], log")
    size: Annotated[Range, within(0, 1e6)] = Field((15.0, 1000.0), description="crystallite size [nm], log")
    microstrain: Annotated[Range, within(0, 0.1)] = Field((0.0, 0.003), description="microstrain ε")
    texture_share: float = Field(0.5, ge=0, le=1, description="share of patterns with preferred orientation")
    strain: Annotated[Range, within(-0.1, 0.1)] = Field(
        (-0.06, 0.06), description="each component of the strain of the cell, before its symmetry is kept"
    )
    counts: Annotated[Range, within(0, 1e7)] = Field((150.0, 30000.0), description="counts of the highest peak, log")
    first: Annotated[Range, within(0, 180)] = Field((3.0, 12.0), description="first 2θ where the range is cut [°]")
    last: Annotated[Range, within(0, 180)] = Field((50.0, 90.0), description="last 2θ where the range is cut [°]")
    cut_share: float = Field(0.3, ge=0, le=1, description="share of patterns cut at an end, each end by itself")
    line_texture: Annotated[Range, within(0, 3)] = Field(
        (0.0, 0.9), description="standard deviation of the logarithm of a factor on each line's intensity"
    )
    scale: Annotated[Range, within(-0.2, 0.2)] = Field((-0.04, 0.04), description="strain of all edges alike")
    redrawn_share: float = Field(0.15, ge=0, le=1, description="share of patterns whose cell is redrawn")
    redrawn: Annotated[Range, within(-0.2, 0.2)] = Field(
        (-0.15, 0.15), description="each component of the strain of a redrawn cell, in place of the usual one"
    )
    step: Annotated[Range, within(0.002, 0.2)] = Field((0.01, 0.05), description="step of the measurement [°], log")
    random_weight: float = Field(
        0.15, ge=0, le=1, description="how often a random crystal is drawn for once that a given one of its system is"
    )
    derived_weight: float = Field(0.15, ge=0, le=1, description="likewise, a derived crystal")


@dataclass(frozen=True)
class Measurement:
    """A pattern as it is measured.

    Attributes:
        start: first 2θ [°].
        step: of 2θ [°].
        counts: shape (n,).
        row: of the structure in the bank.
    """

    start: float
    step: float
    counts: NDArray[np.float64]
    row: int

    @property
    def two_theta(self) -> NDArray[np.float64]:
        """The angles [°], shape (n,)."""
        return np.asarray(self.start + self.step * np.arange(len(self.counts)), float)


@dataclass(frozen=True)
class _Rows:
    """A crystal system's rows in a bank, by origin, and up to which random number each is drawn."""

    parts: tuple[NDArray[np.intp], ...]
    ends: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.intp], origin: NDArray[np.int8], flaws: StreamFlaws) -> _Rows:
        weights = {RANDOM: flaws.random_weight, DERIVED: flaws.derived_weight, GIVEN: 1.0}
        every = {kind: rows[origin[rows] == kind] for kind in weights}
        drawn = [kind for kind, own in every.items() if weights[kind] * len(own)]
        if not drawn:  # else there would be none of this system
            return cls((rows,), np.ones(1))
        often = np.cumsum([weights[kind] * len(every[kind]) for kind in drawn])
        return cls(tuple(every[kind] for kind in drawn), often / often[-1])

    def draw(self, rng: np.random.Generator) -> int:
        part = int(np.searchsorted(self.ends, rng.random(), "right")) if len(self.parts) > 1 else 0
        return int(self.parts[part][rng.integers(len(self.parts[part]))])


@dataclass(frozen=True)
class Stream:
    """Samples by number.

    Attributes:
        bank: lines of at least one structure.
        grid: of the patterns.
        flaws: what flaws are drawn from.
        seed: of all draws.
    """

    bank: Bank
    grid: Grid
    flaws: StreamFlaws = field(default_factory=StreamFlaws)
    seed: int = 0
    _of_class: dict[int, _Rows] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        label = self.bank.label
        rows = {int(k): _Rows.of(np.flatnonzero(label == k), self.bank.origin, self.flaws) for k in np.unique(label)}
        object.__setattr__(self, "_of_class", rows)

    def measurement(self, number: int) -> Measurement:
        """Sample ``number`` before it is prepared. Of as many samples as there are classes each has another one."""
        rng, p, step, row = self._begun(number)
        start, stop = max(self._ends[0], p.first), min(self._ends[1], p.last)
        expected = np.zeros(int((stop - start) / step) + 1)
        self._add_phase(expected, row, p, rng, start, step, 1.0)
        if p.impurity_ratio:
            other = int(rng.integers(len(self.bank)))
            self._add_phase(expected, other, p, rng, start, step, p.impurity_ratio)
        add_background(p, expected, start, step)
        if spikes := [spike for spike in p.spikes if start <= spike[0] <= stop]:
            add_spikes(expected, start + step * np.arange(len(expected)), spikes)
        expected *= p.counts
        return Measurement(start, step, counted(rng, expected), row)

    def ideal(self, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64], Parameters]:
        """What sample ``number`` is of: spacings [Å] and Σ|F|² in its cell, untextured, (n,) each; and its flaws."""
        rng, p, _, row = self._begun(number)
        d, _ = self._lines(row, p, rng)
        return d, self.bank.f2[self.bank.line_offsets[row] : self.bank.line_offsets[row + 1]].astype(float), p

    def sample(self, number: int) -> tuple[NDArray[np.float32], int]:
        """Sample ``number``: the prepared pattern, shape (points,), and the row of its structure in the bank."""
        found = self.measurement(number)
        return even_input(found.start, found.step, found.counts, self.grid), found.row

    def batch(self, first: int, n: int) -> tuple[Tensor, Tensor]:
        """Samples ``first`` to ``first + n - 1``: patterns (n, points), rows of their structures (n,)."""
        patterns, rows = np.empty((n, self.grid.points), np.float32), np.empty(n, np.int64)
        for i in range(n):
            patterns[i], rows[i] = self.sample(first + i)
        return torch.from_numpy(patterns), torch.from_numpy(rows)

    @property
    def _ends(self) -> tuple[float, float]:
        """First and last 2θ that is measured [°]."""
        return max(self.grid.start - BEYOND, 0.5), min(self.grid.stop + BEYOND, 179.0)

    def _begun(self, number: int) -> tuple[np.random.Generator, Parameters, float, int]:
        """What a sample begins with: its random numbers, flaws, step [°] and structure."""
        rng = np.random.default_rng([self.seed, number])
        classes = list(self._of_class)
        own = self._of_class[classes[number % len(classes)]]
        p = draw(rng, self.flaws, *self._ends)
        step = _log_uniform(rng, self.flaws.step)
        return rng, p, step, own.draw(rng)

    def _add_phase(
        self,
        expected: NDArray[np.float64],
        row: int,
        p: Parameters,
        rng: np.random.Generator,
        start: float,
        step: float,
        height: float,
    ) -> None:
        """Adds one phase, its highest point at ``height``, to what is expected on the axis."""
        d, strength = self._lines(row, p, rng)
        ends = np.radians([max(start - REACHING, 0.1) / 2, min(start + step * len(expected) + REACHING, 179.9) / 2])
        longest, shortest = self.grid.wavelength / (2 * np.sin(ends))
        near = (d < longest) & (d > shortest)
        d, strength = d[near], strength[near]
        expected += height * painted(d, strength, p, self.grid.wavelength, start, step, len(expected), NEGLIGIBLE)

    def _lines(
        self, row: int, p: Parameters, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Spacings [Å] and Σ|F|² of a structure's lines, in a cell of its own and with texture, each of shape (n,)."""
        bank, flaws = self.bank, self.flaws
        own = slice(bank.line_offsets[row], bank.line_offsets[row + 1])
        operations = bank.operations[bank.operation_offsets[row] : bank.operation_offsets[row + 1]]
        hkl = bank.hkl[own]
        strain = rng.uniform(*flaws.strain, 6)
        if rng.random() < flaws.redrawn_share:
            strain = rng.uniform(*flaws.redrawn, 6)
        strain[:3] += rng.uniform(*flaws.scale)
        metric = strained_metric(bank.lattice[row], operations, strain)
        d = spacings(hkl, metric)
        factor = np.exp(rng.uniform(*flaws.line_texture) * rng.standard_normal(len(d)))
        if p.march_r != 1:
            factor *= textures(hkl, d, metric, operations, p.texture_plane % len(d), p.march_r)
        return d, bank.f2[own].astype(float) * factor


class _Batches(Dataset[T]):
    """Batches by number, for torch's loader."""

    def __init__(self, draw: Callable[[int, int], T], size: int) -> None:
        self.draw, self.size = draw, size

    def __getitem__(self, number: int) -> T:
        return self.draw(number * self.size, self.size)


def in_order(draw: Callable[[int, int], T], size: int, first: int, last: int, workers: int = 0) -> Iterator[T]:
    """Batches ``first`` to ``last - 1`` of ``size`` samples each, in order, made by so many processes (0: by this one).

    Args:
        draw: ``draw(first, n)``: the batch of samples ``first`` to ``first + n - 1``.
        size: samples a batch.
        first, last: numbers of batches.
        workers: processes; the batches are the same whatever their number.
    """
    loader = DataLoader(_Batches(draw, size), sampler=range(first, last), batch_size=None, num_workers=workers)
    yield from loader


def batches(stream: Stream, size: int, first: int, last: int, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a stream, see :func:`in_order`: batch n is samples ``n size`` to ``(n + 1) size - 1``."""
    return in_order(stream.batch, size, first, last, workers)


def formulas_of(path: Path) -> list[str]:
    """The formulas that patterns are said to have, as they are written: those whose structures are to be kept out.

    What is no formula is left out, and it is said.

    Args:
        path: a Parquet table with a column ``formula``, or a folder with ``manifest.csv``.

    Raises:
        InputError: if it can't be read or says no formula that can be read.
    """
    if path.is_dir():
        found = [row.formula for row in read_manifest(path)]
    else:
        table = open_table(path)
        found = table["formula"].to_pylist() if "formula" in table.column_names else []
    read = [name for name in found if name and _name(str(name))]
    if not read:
        raise InputError(path, "says no formula.", "Give a table with a column formula, or a folder with manifest.csv.")
    if unread := [name for name in found if name not in read]:
        warn(
            f"{path}: {len(unread)} of {len(found)} formulas are empty or can't be read, as {unread[0]!r}: not kept out"
        )
    return read


def without(bank: Bank, formulas: Iterable[str]) -> Bank:
    """The bank without structures of these formulas; see :func:`apart_from`."""
    return bank.select(apart_from(bank.formula.tolist(), formulas))


def apart_from(names: Sequence[str], formulas: Iterable[str]) -> NDArray[np.bool_]:
    """Which materials are none of some formulas, nor differ from one in hydrogen or rounding alone.

    Args:
        names: of n materials, in normal form.
        formulas: however they are written; what is no formula is nobody's.

    Returns:
        Shape (n,).
    """
    kept_out = {name for text in set(formulas) if (name := _name(text))}
    every = sorted({*names, *kept_out})
    same = one_material(every)
    key = {name: without_hydrogen(same.get(name, name)) for name in every}
    forbidden = {key[name] for name in kept_out}
    return np.array([key[name] not in forbidden for name in names], bool)


def _name(text: str) -> str:
    """A formula in a form that the bank's can be compared with; empty where it is none."""
    try:
        return "".join(f"{element}{amount:g}" for element, amount in normal(parse(text)).items())
    except ValueError:
        return ""


def _log_uniform(rng: np.random.Generator, low_high: Range) -> float:
    return float(low_high[0] * (low_high[1] / low_high[0]) ** rng.random())
