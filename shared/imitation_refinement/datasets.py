"""Preprocessed patterns as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imitation_refinement.crystal import CLASS_INDEX, CrystalSystem
from imitation_refinement.errors import InputError
from imitation_refinement.grid import Grid
from imitation_refinement.tables import check_schema, ideal_schema, matrix, read_grid, read_gridded

UNLABELLED = -1
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
        return self.intensity[chosen], self.labels[chosen]


def read_ideal(path: str | Path) -> Dataset:
    """The ideal dataset that preprocess writes.

    Raises:
        InputError: if the table breaks its contract or has no training pattern.
    """
    return _read(path, "ideal")


def read_imperfect(path: str | Path, grid: Grid | None = None) -> Dataset:
    """The imperfect dataset that preprocess writes.

    Args:
        path: the table.
        grid: the grid that it must be on, where a model asks for one.

    Raises:
        InputError: if the table breaks its contract, has no training pattern, or is on another grid.
    """
    data = _read(path, "imperfect")
    if grid is not None and data.grid != grid:
        raise InputError(
            path, f"is on the grid {data.grid}, the model on {grid}.", "Preprocess it on the model's grid."
        )
    return data


def split_counts(path: str | Path) -> dict[str, int]:
    """How many rows of a gridded table each split has; only that column is read."""
    read_grid(path)
    return pq.read_table(path, columns=["split"]).to_pandas()["split"].value_counts().to_dict()


def sample_ideal(path: str | Path, split: str, most: int, seed: int) -> Dataset:
    """At most ``most`` patterns of one split of the ideal dataset, drawn by ``seed``, in the order of the table.

    The table is read a few thousand rows at a time: it may be larger than memory.

    Raises:
        InputError: if the table breaks its contract.
    """
    grid = read_grid(path)
    with pq.ParquetFile(path) as table:
        check_schema(path, table.schema_arrow, ideal_schema(grid))
        of_split = np.flatnonzero(table.read(columns=["split"])["split"].to_numpy() == split)
        chosen = np.sort(np.random.default_rng(seed).permutation(of_split)[:most])
        parts, first = [], 0
        for batch in table.iter_batches(ROWS_AT_A_TIME):
            inside = chosen[(chosen >= first) & (chosen < first + len(batch))] - first
            parts.append(batch.take(pa.array(inside)))
            first += len(batch)
        found = pa.Table.from_batches(parts, table.schema_arrow)
    rows = found.drop_columns(["intensity"]).to_pandas()
    labels = _labels(rows.set_index(chosen), path)
    return Dataset(rows, grid, matrix(found["intensity"], grid.points), None, labels)


def _labels(rows: pd.DataFrame, path: str | Path) -> NDArray[np.int64]:
    labels = np.full(len(rows), UNLABELLED)
    for place, (row, name) in enumerate(rows["crystal_system"].items()):
        if isinstance(name, str):
            labels[place] = CLASS_INDEX[CrystalSystem.parse(name, f"{path}, row {row}")]
    return labels


def _read(path: str | Path, kind: str) -> Dataset:
    rows, grid, patterns = read_gridded(path, kind)
    labels = _labels(rows, path)
    if not (rows["split"] == "train").any():
        raise InputError(path, "has no row with split 'train'.", "Give the table that preprocess writes.")
    return Dataset(rows, grid, patterns["intensity"], patterns.get("theory"), labels)
