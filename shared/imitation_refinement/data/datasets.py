"""Preprocessed patterns as arrays."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from imitation_refinement.data.contracts import (
    ideal_schema,
    matrix,
    parts,
    read_batches,
    read_columns,
    read_grid,
    read_gridded,
)
from imitation_refinement.errors import InputError
from imitation_refinement.files import writable, writing
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid

UNLABELLED = -1  # pandas' code of what is in no category
ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Dataset:
    """A gridded table in memory.

    Attributes:
        rows: ids, materials, labels, splits; one row a pattern.
        grid: the common grid.
        intensity: patterns with maximum 1, shape (n, points).
        theory: theoretical patterns with maximum 1, NaN where there is none, shape (n, points); None for ideal tables.
        labels: class indices, :data:`UNLABELLED` where there is none, shape (n,).
    """

    rows: pd.DataFrame
    grid: Grid
    intensity: NDArray[np.float32]
    theory: NDArray[np.float32] | None
    labels: NDArray[np.int64]

    def select(self, split: str) -> Dataset:
        """The rows of one split."""
        chosen = (self.rows["split"] == split).to_numpy()
        theory = None if self.theory is None else self.theory[chosen]
        return Dataset(
            self.rows[chosen].reset_index(drop=True), self.grid, self.intensity[chosen], theory, self.labels[chosen]
        )

    def part(self, split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Patterns and class indices of one split."""
        chosen = (self.rows["split"] == split).to_numpy()
        if chosen.all():  # as read_ideal reads one split: no copy of what may be large
            return self.intensity, self.labels
        return self.intensity[chosen], self.labels[chosen]


def read_ideal(path: str | Path, split: str | None = None) -> Dataset:
    """The ideal dataset that preprocess writes, or one split of it.

    The table is read a few thousand rows at a time, and the patterns go to a file that is mapped (:func:`mapped`): a
    process needs no more memory for more of them.

    Raises:
        InputError: if the table breaks its contract or has no training pattern.
    """
    grid = read_grid(path)
    schema = ideal_schema(grid)
    rows, chosen = _rows(path, schema, split)
    shape = (len(rows), grid.points)

    def fill(out: NDArray[np.float32]) -> None:
        first = done = 0
        for batch in read_batches(path, schema, ROWS_AT_A_TIME, ["intensity"]):
            found = matrix(pa.chunked_array([batch["intensity"]]), grid.points)[chosen[first : first + len(batch)]]
            out[done : done + len(found)] = found
            first, done = first + len(batch), done + len(found)

    intensity = mapped(f"{split} {[(str(p.resolve()), *_state(p)) for p in parts(path)]}", shape, fill)
    return Dataset(rows, grid, intensity, None, _labels(rows))


def _rows(path: str | Path, schema: pa.Schema, split: str | None) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """All columns of a split but the patterns, and which rows of the table are of it."""
    table = read_columns(path, schema, [name for name in schema.names if name != "intensity"])
    if not len(table):
        raise InputError(path, "has no rows.", "Give at least one.")
    rows = table.to_pandas()
    _check_training(path, rows["split"])
    chosen = np.ones(len(table), bool) if split is None else (rows["split"] == split).to_numpy()
    return rows[chosen].reset_index(drop=True), chosen


def mapped(
    key: str, shape: tuple[int, ...], fill: Callable[[NDArray[np.float32]], None]
) -> np.memmap[Any, np.dtype[np.float32]]:
    """An array in a file of the folder for temporary files (``TMPDIR``), filled once for all processes of this machine.

    The system keeps in memory what is used of it, as far as there is room. The file goes with the first process that
    has it; the others keep what they have mapped.

    Args:
        key: what is in it.
        shape: of the array.
        fill: fills it.

    Returns:
        The array; what is written to it stays in this process.

    Raises:
        InputError: if the disk is full.
    """
    name = hashlib.sha256(f"{key} {shape}".encode()).hexdigest()[:32]
    path = Path(tempfile.gettempdir()) / f"imitation-refinement-{os.getuid()}-{name}.float32"
    for left in (path, path.with_suffix(".lock")):
        atexit.register(left.unlink, missing_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            with writing(path) as temporary, temporary.open("r+b") as file:
                fill(mapped_file(file, np.float32, shape))
        return np.memmap(path, np.float32, "c", shape=shape)


def mapped_file(file: BinaryIO, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """An array in an empty file that is open for writing, which takes all its room on the disk here.

    Raises:
        OSError: if the disk is full; what is mapped without room ends the process as it is written.
    """
    os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape) * np.dtype(dtype).itemsize))
    return np.memmap(file, dtype, "r+", shape=shape)


def scratch(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros in a file without a name in the folder for temporary files, which goes with the array.

    The system keeps in memory what is used of it, as far as there is room.

    Raises:
        InputError: if the disk is full.
    """
    with writable(tempfile.gettempdir()), tempfile.TemporaryFile() as file:
        return np.asarray(mapped_file(file, dtype, shape))  # whose every slice costs less


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def read_imperfect(path: str | Path, grid: Grid | None = None) -> Dataset:
    """The imperfect dataset that preprocess writes.

    Args:
        path: the table.
        grid: the grid that it must be on, where a model asks for one.

    Raises:
        InputError: if the table breaks its contract, has no training pattern, or is on another grid.
    """
    rows, own, patterns = read_gridded(path, "imperfect")
    _check_training(path, rows["split"])
    if grid is not None and own != grid:
        raise InputError(path, f"is on the grid {own}, the model on {grid}.", "Preprocess it on the model's grid.")
    return Dataset(rows, own, patterns["intensity"], patterns["theory"], _labels(rows))


def split_counts(path: str | Path) -> dict[str, int]:
    """How many rows of a gridded table each split has; only that column is read."""
    read_grid(path)
    tables = [pq.read_table(part, columns=["split"]) for part in parts(path)]
    return pa.concat_tables(tables).to_pandas()["split"].value_counts().to_dict()


def sample_ideal(path: str | Path, split: str, most: int, seed: int) -> Dataset:
    """At most ``most`` patterns of one split of the ideal dataset, drawn by ``seed``, in the order of the table.

    The table is read a few thousand rows at a time: it may be larger than memory.

    Raises:
        InputError: if the table breaks its contract.
    """
    grid = read_grid(path)
    schema = ideal_schema(grid)
    of_split = np.flatnonzero(read_columns(path, schema, ["split"])["split"].to_numpy() == split)
    chosen = np.sort(np.random.default_rng(seed).permutation(of_split)[:most])
    found, first = [], 0
    for batch in read_batches(path, schema, ROWS_AT_A_TIME, schema.names):
        inside = chosen[(chosen >= first) & (chosen < first + len(batch))] - first
        found.append(batch.take(pa.array(inside)))
        first += len(batch)
    sample = pa.Table.from_batches(found) if found else schema.empty_table()
    rows = sample.drop_columns(["intensity"]).to_pandas()
    return Dataset(rows, grid, matrix(sample["intensity"], grid.points), None, _labels(rows))


def _labels(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Class indices of rows as the contract has them: another name than the seven was refused as it was read."""
    return pd.Categorical(rows["crystal_system"], CRYSTAL_SYSTEMS).codes.astype(np.int64)


def _check_training(path: str | Path, splits: pd.Series) -> None:
    if not (splits == "train").any():
        raise InputError(path, "has no row with split 'train'.", "Give the table that preprocess writes.")
