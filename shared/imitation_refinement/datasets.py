"""Preprocessed patterns as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imitation_refinement.crystal import CLASS_INDEX, CrystalSystem
from imitation_refinement.errors import InputError
from imitation_refinement.grid import Grid
from imitation_refinement.tables import read_gridded

UNLABELLED = -1


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


def _read(path: str | Path, kind: str) -> Dataset:
    rows, grid, patterns = read_gridded(path, kind)
    labels = np.full(len(rows), UNLABELLED)
    for index, name in enumerate(rows["crystal_system"]):
        if isinstance(name, str):
            labels[index] = CLASS_INDEX[CrystalSystem.parse(name, f"{path}, row {index}")]
    if not (rows["split"] == "train").any():
        raise InputError(path, "has no row with split 'train'.", "Give the table that preprocess writes.")
    return Dataset(rows, grid, patterns["intensity"], patterns.get("theory"), labels)
