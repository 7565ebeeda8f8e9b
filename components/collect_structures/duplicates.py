"""Materials that come twice, marked as such."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from math import hypot

import numpy as np
import spglib
from numpy.typing import NDArray

from components.collect_structures.crystals import Crystal, Material, volume_of
from components.collect_structures.symmetry import primitive_lattice
from imitation_refinement.data.formula import but_for_hydrogen, one_material

CELL_TOLERANCE = 0.01  # relative, of the volume an atom and of the edges


@dataclass
class Cell:
    """A crystal's cell, to be compared with others'; what is costly is found when it is asked for."""

    crystal: Crystal

    @cached_property
    def volume(self) -> float:
        """Volume an atom [Å³], hydrogen aside."""
        heavy = self.crystal.occupancy[self.crystal.numbers > 1].sum() or self.crystal.occupancy.sum()
        return volume_of(self.crystal.lattice) / float(heavy)

    @cached_property
    def edges(self) -> list[float]:
        """The three edges as given [Å], sorted."""
        return _edges(self.crystal.lattice)

    @cached_property
    def reduced_edges(self) -> list[float]:
        """The three edges of the Niggli-reduced primitive cell [Å], sorted: the same in every setting."""
        primitive = primitive_lattice(self.crystal)
        try:
            lattice = None if primitive is None else spglib.niggli_reduce(primitive)
        except spglib.SpglibError:
            lattice = None
        return self.edges if lattice is None else _edges(lattice)

    def is_like(self, other: Cell) -> bool:
        """Whether both are the same within CELL_TOLERANCE, in whatever setting they are given."""
        return _near([self.volume], [other.volume]) and (
            _near(self.edges, other.edges) or _near(self.reduced_edges, other.reduced_edges)
        )


def _edges(lattice: NDArray[np.float64]) -> list[float]:
    return sorted(hypot(*edge) for edge in lattice.tolist())


def _near(one: list[float], other: list[float]) -> bool:
    return all(abs(a - b) <= CELL_TOLERANCE * b for a, b in zip(one, other, strict=True))


def mark_duplicates(materials: list[Material]) -> list[Material]:
    """Says in ``source`` which earlier material a later one repeats: same name, space group and cell.

    A name stands for those that rounding makes of it. Names that differ in hydrogen alone are compared, too, since one
    structure may have lost it: such a twin is said to be one but for hydrogen. Cells are reduced only where all else
    agrees already and the edges do not.
    """
    same = one_material(material.formula for material in materials)
    family_of = but_for_hydrogen(same.get(material.formula, material.formula) for material in materials)
    first: dict[tuple[str, int], list[tuple[Material, Cell]]] = defaultdict(list)
    out = []
    for material in materials:
        name = same.get(material.formula, material.formula)
        known, cell = first[family_of.get(name, name), material.space_group], Cell(material.crystal)
        alike = [other for other, its in known if cell.is_like(its)]
        twin = next((other for other in alike if same.get(other.formula, other.formula) == name), None)
        if twin is None:
            known.append((material, cell))
            twin = next(iter(alike), None)
            note = f"; but for hydrogen a duplicate of {twin.material_id}" if twin else ""
        else:
            note = f"; duplicate of {twin.material_id}"
        out.append(replace(material, source=material.source + note) if note else material)
    return out
