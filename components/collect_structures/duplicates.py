"""Materials that come twice, marked as such."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import spglib
from numpy.typing import NDArray

from components.collect_structures.crystals import SYMPREC, Crystal, Material, sites

CELL_TOLERANCE = 0.01  # relative, of the volume an atom and of the edges


@dataclass
class Cell:
    """A crystal's cell, to be compared with others'; what is costly is found when it is asked for."""

    crystal: Crystal

    @cached_property
    def volume(self) -> float:
        """Volume an atom [Å³]."""
        return float(abs(np.linalg.det(self.crystal.lattice)) / self.crystal.occupancy.sum())

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """Edges as given [Å], sorted, shape (3,)."""
        return np.sort(np.linalg.norm(self.crystal.lattice, axis=1))

    @cached_property
    def reduced_edges(self) -> NDArray[np.float64]:
        """Edges of the Niggli-reduced primitive cell [Å], sorted, shape (3,): the same in every setting."""
        kinds, first, _ = sites(self.crystal)
        try:
            found = spglib.find_primitive((self.crystal.lattice, self.crystal.positions[first], kinds), SYMPREC)
            lattice = spglib.niggli_reduce(found[0]) if found else None
        except spglib.SpglibError:
            lattice = None
        return self.edges if lattice is None else np.sort(np.linalg.norm(lattice, axis=1))

    def is_like(self, other: Cell) -> bool:
        """Whether both are the same within CELL_TOLERANCE, in whatever setting they are given."""
        return _near(self.volume, other.volume) and (
            _near(self.edges, other.edges) or _near(self.reduced_edges, other.reduced_edges)
        )


def _near(one: NDArray[np.float64] | float, other: NDArray[np.float64] | float) -> bool:
    return bool(np.all(np.abs(one - other) <= CELL_TOLERANCE * np.abs(other)))


def mark_duplicates(materials: list[Material]) -> list[Material]:
    """Says in ``source`` which earlier material a later one repeats: same formula, space group and cell.

    Cells are reduced only where formula, space group and volume an atom agree already and the edges do not.
    """
    first: dict[tuple[str, int], list[tuple[str, Cell]]] = defaultdict(list)
    out = []
    for material in materials:
        known, cell = first[material.formula, material.space_group], Cell(material.crystal)
        twin = next((name for name, other in known if cell.is_like(other)), None)
        if twin is None:
            known.append((material.material_id, cell))
            out.append(material)
        else:
            out.append(replace(material, source=f"{material.source}; duplicate of {twin}"))
    return out
