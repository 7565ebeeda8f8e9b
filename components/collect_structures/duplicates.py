"""Materials that come twice, marked as such."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from components.collect_structures.crystals import Crystal, Material

CELL_TOLERANCE = 0.01  # relative, of the volume an atom and of the edges


def mark_duplicates(materials: list[Material]) -> list[Material]:
    """Says in ``source`` which earlier material a later one repeats: same formula, space group and cell.

    Cells are compared as they are given, by their volume an atom and their sorted edges, within CELL_TOLERANCE; the
    same crystal in another setting is not found.
    """
    first: dict[tuple[str, int], list[tuple[str, NDArray[np.float64]]]] = defaultdict(list)
    out = []
    for material in materials:
        known = first[material.formula, material.space_group]
        cell = cell_signature(material.crystal)
        twin = next((name for name, other in known if np.allclose(cell, other, rtol=CELL_TOLERANCE)), None)
        if twin is None:
            known.append((material.material_id, cell))
            out.append(material)
        else:
            out.append(replace(material, source=f"{material.source}; duplicate of {twin}"))
    return out


def cell_signature(crystal: Crystal) -> NDArray[np.float64]:
    """Volume an atom [Å³] and sorted edges [Å] of the cell, shape (4,)."""
    volume = abs(np.linalg.det(crystal.lattice)) / crystal.occupancy.sum()
    return np.array([volume, *np.sort(np.linalg.norm(crystal.lattice, axis=1))])
