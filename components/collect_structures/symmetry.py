"""The symmetry of a crystal: the crystal put exactly on it, and the changes that it allows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import acos, degrees, gcd, sqrt

import gemmi
import moyopy
import numpy as np
import spglib
from numpy.typing import NDArray

from components.collect_structures.crystals import LARGE, SYMPREC, Crystal, reach, sites, space_group_of_cell
from components.collect_structures.settings import Operations
from imitation_refinement.xrd.crystal import CrystalSystem

logging.getLogger("moyo").setLevel(logging.ERROR)  # it warns of supercells, which are asked for on purpose

OBLIQUITY = 0.5  # [°], by which a lattice may miss a twofold axis to be looked at
# Rotations of the lattice that each crystal system has at least: the order of its holohedry without inversion.
ROTATIONS = {
    CrystalSystem.TRICLINIC: 1, CrystalSystem.MONOCLINIC: 2, CrystalSystem.ORTHORHOMBIC: 4,
    CrystalSystem.TRIGONAL: 6, CrystalSystem.TETRAGONAL: 8, CrystalSystem.HEXAGONAL: 12, CrystalSystem.CUBIC: 24,
}  # fmt: skip
SYMPRECS = (SYMPREC, 0.03, 0.1)  # [Å], tried in turn until spglib finds the space group that a source says


@dataclass(frozen=True)
class Symmetric:
    """A crystal that is exactly invariant under its space group, with what it takes to change it within the group.

    Attributes:
        crystal: the crystal: n entries on m sites.
        kinds: what is on each site, shape (m,).
        site: the site of each entry, shape (n,).
        rotations: Cartesian point operations, orthogonal, shape (g, 3, 3).
        parent: the site that each site is an image of, shape (m,).
        maps: fractional displacement of each site for one of its parent: the projection on what the parent's site
            symmetry leaves free, then the operation that leads from the parent here; shape (m, 3, 3).
    """

    crystal: Crystal
    kinds: NDArray[np.int_]
    site: NDArray[np.int_]
    rotations: NDArray[np.float64]
    parent: NDArray[np.intp]
    maps: NDArray[np.float64]

    @property
    def site_positions(self) -> NDArray[np.float64]:
        """Fractional coordinates of the sites, shape (m, 3)."""
        _, first = np.unique(self.site, return_index=True)
        return self.crystal.positions[first]

    def displacements(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """The displacements of all sites that follow from those of the parents.

        Averaged over its site symmetry, a displacement lies along the free parameters of the Wyckoff position.

        Args:
            draws: Cartesian displacements [Å], of which the parents' are used, shape (k, m, 3).

        Returns:
            Fractional displacements, shape (k, m, 3); none is longer than its parent's draw.
        """
        fractional = draws[:, self.parent] @ np.linalg.inv(self.crystal.lattice)
        return np.asarray(np.einsum("mij,kmj->kmi", self.maps, fractional))


def symmetric(crystal: Crystal, space_group: int) -> Symmetric | None:
    """The crystal put exactly on its symmetry; None where spglib does not find the space group within SYMPRECS.

    Positions and cell are averaged over the operations that spglib finds for this cell. A supercell that has not all
    of the point group gives None, too.
    """
    kinds, first, site = sites(crystal)
    positions = crystal.positions[first]
    found, symprec = _dataset((crystal.lattice, positions, kinds), space_group)
    if found is None:
        return None
    rotations, translations = found.rotations.astype(float), found.translations
    point_group = np.unique(found.rotations, axis=0)
    if len(point_group) < len(gemmi.find_spacegroup_by_number(space_group).operations().sym_ops):
        return None
    parent = np.asarray(found.equivalent_atoms, np.intp)
    exact, maps = np.empty_like(positions), np.empty((len(positions), 3, 3))
    for origin in np.unique(parent):
        orbit = np.flatnonzero(parent == origin)
        images = rotations @ positions[origin] + translations
        step = images[:, None] - positions[orbit]
        distance = np.linalg.norm((step - np.round(step)) @ crystal.lattice, axis=-1)
        target = distance.argmin(axis=1)
        here = images[orbit[target] == origin] - positions[origin]
        centre = positions[origin] + (here - np.round(here)).mean(axis=0)
        reached, leads = np.unique(target, return_index=True)  # one operation from the parent to each site
        if len(reached) < len(orbit) or distance.min(axis=1).max() > 5 * symprec:
            return None
        images = rotations[leads] @ centre + translations[leads]
        exact[orbit] = images - np.round(images - positions[orbit])
        maps[orbit] = rotations[leads] @ rotations[orbit[target] == origin].mean(axis=0)
    lattice, cartesian = _exact_lattice(crystal.lattice, point_group)
    return Symmetric(replace(crystal, lattice=lattice, positions=exact[site]), kinds, site, cartesian, parent, maps)


def _dataset(
    cell: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int_]], space_group: int
) -> tuple[spglib.SpglibDataset | None, float]:
    """What spglib finds at the first tolerance at which it finds this space group, and the tolerance."""
    for symprec in SYMPRECS:
        try:
            found = spglib.get_symmetry_dataset(cell, symprec=symprec)
        except spglib.SpglibError:
            continue
        if found is not None and found.number == space_group:
            return found, symprec
    return None, np.nan


def _exact_lattice(
    lattice: NDArray[np.float64], rotations: NDArray[np.int_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The nearest lattice that the point group leaves exactly as it is, and the group's Cartesian rotations.

    S, the mean of CᵀC over the nearly orthogonal Cartesian forms C of the rotations, obeys CᵀSC = S; so √S C √S⁻¹ is
    orthogonal, and it is the Cartesian form of the rotation in the lattice stretched by √S.
    """
    cartesian = lattice.T @ rotations @ np.linalg.inv(lattice.T)
    values, vectors = np.linalg.eigh(np.mean(np.swapaxes(cartesian, 1, 2) @ cartesian, axis=0))
    stretch = vectors * np.sqrt(values) @ vectors.T
    return lattice @ stretch, stretch @ cartesian @ np.linalg.inv(stretch)


def average(tensors: NDArray[np.float64], rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of R ε Rᵀ over a group: the part of a tensor that the group leaves alone.

    Args:
        tensors: shape (..., 3, 3).
        rotations: Cartesian, orthogonal, shape (g, 3, 3).
    """
    projection = np.einsum("gij,gkl->ikjl", rotations, rotations).reshape(9, 9) / len(rotations)
    return (tensors.reshape(-1, 9) @ projection.T).reshape(tensors.shape)


def scaled(tensors: NDArray[np.float64], sizes: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Symmetric tensors, shape (..., 3, 3), with ``sizes``, shape (...), as their largest principal values."""
    largest = np.abs(np.linalg.eigvalsh(tensors)).max(axis=-1)
    return tensors * (sizes / np.maximum(largest, 1e-9))[..., None, None]


def higher_symmetry(crystal: Crystal, space_group: int, operations: Operations) -> int | None:
    """The space group that the atoms have within SYMPREC, where it is of a higher crystal system than the one said.

    A pattern is made of the atoms, and shows their symmetry: no classifier can learn a lower label. Higher is a system
    with more rotations of the lattice. A search costs a millisecond, so most crystals are told without one: a higher
    system needs a rotation of the lattice, or a finer lattice, that the operations do not have and that maps the atoms.

    Args:
        crystal: one unit cell.
        space_group: that is said.
        operations: that made the crystal.
    """
    rotations = _rotations(space_group)
    if rotations == ROTATIONS[CrystalSystem.CUBIC]:
        return None
    if not _may_be_higher(crystal, operations, rotations):
        return None
    found = number_of(crystal)
    return found if found and _rotations(found) > rotations else None


def number_of(crystal: Crystal) -> int | None:
    """Space group number that moyo, or else spglib, finds within SYMPREC; None where both find none.

    Of more than :data:`LARGE` sites moyo alone is asked: spglib takes half a minute for 5,000, moyo two seconds.
    """
    kinds, first, _ = sites(crystal)
    cell = (crystal.lattice, crystal.positions[first], kinds)
    return moyo_number(*cell) or (None if len(first) > LARGE else space_group_of_cell(*cell))


def is_higher(one: int, other: int) -> bool:
    """Whether a space group is of a higher crystal system than another."""
    return _rotations(one) > _rotations(other)


@cache
def _rotations(space_group: int) -> int:
    return ROTATIONS[CrystalSystem.from_space_group(space_group)]


def moyo_number(lattice: NDArray[np.float64], positions: NDArray[np.float64], kinds: NDArray[np.integer]) -> int | None:
    """Space group number that moyo finds, five times as fast as spglib; None where it finds none."""
    found = _moyo(lattice, positions, kinds)
    return found.number if found else None


def primitive_lattice(crystal: Crystal) -> NDArray[np.float64] | None:
    """A primitive cell's lattice, rows a, b, c [Å], as moyo finds it within SYMPREC; None where it finds none."""
    kinds, first, _ = sites(crystal)
    found = _moyo(crystal.lattice, crystal.positions[first], kinds)
    return np.array(found.prim_std_cell.basis) if found else None


def _moyo(
    lattice: NDArray[np.float64], positions: NDArray[np.float64], kinds: NDArray[np.integer]
) -> moyopy.MoyoDataset | None:
    cell = moyopy.Cell(lattice.tolist(), positions.tolist(), kinds.tolist())
    try:
        return moyopy.MoyoDataset(cell, symprec=SYMPREC)
    except ValueError:
        return None


def _may_be_higher(crystal: Crystal, operations: Operations, rotations: int) -> bool:
    """Whether a rotation of the lattice or a translation that is not among the operations may map the atoms.

    Each is tried on some atoms of each kind, so a few pass that map not all.
    """
    if not operations.centring or len(crystal.numbers) > LARGE:  # a search takes less time then
        return True
    names = crystal.numbers * 1000 + (crystal.occupancy * 999).astype(int)
    finer = gcd(*Counter(names.tolist()).values()) > len(operations.translations)
    lattice = gemmi.find_lattice_symmetry(cell_of(crystal.lattice), operations.centring, OBLIQUITY).sym_ops
    if not finer and len(lattice) <= rotations:
        return False
    kinds = sorted((crystal.positions[names == name] for name in set(names.tolist())), key=len)
    near = reach(crystal.lattice, 5 * SYMPREC)
    if finer and _maps(np.eye(3), kinds, near, operations.translations):
        return True
    if len(lattice) <= rotations:
        return False
    return any(_maps(matrix, kinds, near) for matrix in _more(operations, tuple(op.triplet() for op in lattice)))


@lru_cache(maxsize=4096)
def _more(operations: Operations, rotations: tuple[str, ...]) -> list[NDArray[np.float64]]:
    """Of the rotations and their products with inversion, those that are not among the operations.

    One of each coset: a crystal that has the operations has all of a coset or none.
    """
    known, out = set(operations.known), []
    for op in map(gemmi.Op, rotations):
        for matrix in (np.array(op.rot) / op.DEN + 0.0, np.array(op.rot) / -op.DEN + 0.0):  # without -0.0
            if matrix.tobytes() not in known:
                out.append(matrix)
                known.update(other.tobytes() for other in operations.rotations @ matrix + 0.0)
    return out


def cell_of(lattice: NDArray[np.float64]) -> gemmi.UnitCell:
    """Lengths and angles of a lattice."""
    metric = lattice @ lattice.T
    (aa, ab, ac), (_, bb, bc), (_, _, cc) = metric.tolist()
    a, b, c = sqrt(aa), sqrt(bb), sqrt(cc)
    cosines = (bc / (b * c), ac / (a * c), ab / (a * b))
    return gemmi.UnitCell(a, b, c, *(round(degrees(acos(max(-1.0, min(1.0, x)))), 10) for x in cosines))


def _maps(
    rotation: NDArray[np.float64],
    kinds: Sequence[NDArray[np.float64]],
    near: NDArray[np.float64],
    but: NDArray[np.float64] | None = None,
) -> bool:
    """Whether a rotation with some translation takes the first and the last atom of each kind to atoms of the kind.

    Args:
        rotation: in fractional coordinates.
        kinds: fractional coordinates of the atoms of each kind, the rarest first.
        near: fractional differences that count as none, shape (3,).
        but: translations that do not count, shape (t, 3).
    """
    steps = kinds[0] - rotation @ kinds[0][0]
    if but is not None:
        apart = steps[:, None] - but
        steps = steps[~(np.abs(apart - np.rint(apart)) < near).all(axis=2).any(axis=1)]
    for alike in kinds:
        for atom in (alike[0], alike[-1]):
            if len(steps) == 0:
                return False
            apart = (rotation @ atom + steps)[:, None] - alike
            apart -= np.rint(apart)
            inside = np.abs(apart) < near
            steps = steps[(inside[..., 0] & inside[..., 1] & inside[..., 2]).any(axis=1)]
    return len(steps) > 0
