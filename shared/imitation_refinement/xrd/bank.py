"""A bank of lines: what the stream of flawed patterns is drawn from, made once from many structures.

A line is all reflections that the crystal's Laue group makes equal, so that it stays one line in whatever cell of that
symmetry, and two lines that only happen to fall together part when the cell is strained.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.errors import InputError
from imitation_refinement.files import writing

GIVEN, RANDOM, DERIVED = range(3)  # of databases; made up; of lower symmetry than a given one that it is made from


@dataclass(frozen=True)
class Bank:
    """Lines of n structures as flat arrays.

    Attributes:
        material_id: shape (n,).
        formula: normal forms (:mod:`imitation_refinement.data.formula`), shape (n,).
        label: crystal systems as class indices, shape (n,).
        space_group: international numbers, shape (n,).
        origin: whether it is given, random or derived (:data:`GIVEN`, …), shape (n,).
        lattice: rows a, b, c [Å], shape (n, 3, 3).
        operation_offsets: structure i owns operations from ``operation_offsets[i]`` on, shape (n + 1,).
        operations: proper rotations W of the Laue group: a'_i = Σ_j W_ij a_j, and indices h' = W h; shape (k, 3, 3).
        line_offsets: structure i owns lines from ``line_offsets[i]`` on, by falling d, shape (n + 1,).
        hkl: one reflection of each line, shape (m, 3).
        f2: Σ|F|² [electrons²] of the line's reflections in a Friedel half-space, shape (m,).
    """

    material_id: NDArray[np.str_]
    formula: NDArray[np.str_]
    label: NDArray[np.int8]
    space_group: NDArray[np.int16]
    origin: NDArray[np.int8]
    lattice: NDArray[np.float64]
    operation_offsets: NDArray[np.int64]
    operations: NDArray[np.int8]
    line_offsets: NDArray[np.int64]
    hkl: NDArray[np.int16]
    f2: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)

    def select(self, which: ArrayLike) -> Bank:
        """The structures of some row numbers, in that order, or of a mask."""
        rows = np.arange(len(self))[np.asarray(which)]
        operations, operation_offsets = _entries(self.operation_offsets, rows)
        lines, line_offsets = _entries(self.line_offsets, rows)
        return Bank(
            self.material_id[rows],
            self.formula[rows],
            self.label[rows],
            self.space_group[rows],
            self.origin[rows],
            self.lattice[rows],
            operation_offsets,
            self.operations[operations],
            line_offsets,
            self.hkl[lines],
            self.f2[lines],
        )

    @classmethod
    def join(cls, banks: Sequence[Bank]) -> Bank:
        """All structures of several banks, one bank after the other."""
        columns: dict[str, Any] = {}
        for name in (field.name for field in fields(cls)):
            parts = [getattr(bank, name) for bank in banks]
            columns[name] = _joined_offsets(parts) if name.endswith("_offsets") else np.concatenate(parts)
        return cls(**columns)

    def save(self, path: str | Path) -> None:
        """Writes the bank, compressed (NumPy's ``.npz``), whole or not at all."""
        with writing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> Bank:
        """The bank that :meth:`save` wrote; nothing is unpickled.

        Raises:
            InputError: if the file is no bank.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(**{field.name: stored[field.name] for field in fields(cls)})
        except FileNotFoundError:
            raise InputError(path, "there is no such file.", "Check the path.") from None
        except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
            raise InputError(path, f"is no bank of lines ({error}).", "Make it again.") from None


def _entries(offsets: NDArray[np.int64], rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The entries that some rows own, and the rows' new offsets."""
    lengths = np.diff(offsets)[rows]
    new = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.repeat(offsets[rows] - new[:-1], lengths) + np.arange(new[-1]), new


def _joined_offsets(parts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The offsets of arrays that are put one after the other."""
    lengths = np.concatenate([np.diff(part) for part in parts])
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
