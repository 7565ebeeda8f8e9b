"""Variants: any number of structures from given ones, by small changes that keep the space group.

A variant strains its parent's cell and moves its atoms at random within what the space group leaves free: a random
tensor or displacement is averaged over the point group or the site symmetry (:mod:`.symmetry`). So all operations of
the space group are kept by construction. That none comes on top, as when a strain makes an orthorhombic cell nearly
tetragonal, is checked for every variant by a symmetry search; one that fails is drawn again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import moyopy
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.collect_structures.crystals import SYMPREC, Material, space_group_of_cell
from components.collect_structures.symmetry import Symmetric, average, scaled, symmetric
from imitation_refinement.errors import InputError
from imitation_refinement.tables import STRUCTURES, to_table

STRAIN = 0.02  # largest principal strain
SHIFT = 0.1  # [Å], longest displacement, about the amplitude of thermal motion at room temperature
SHIFT_SHARE = 0.05  # a displacement's share of the distance to the nearest site, so that atoms stay apart
TRIES = 3  # draws in the place of those that failed, before a parent is left with fewer variants

Search = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.integer]], int | None]


def variants(parents: Sequence[Material], total: int, seed: int) -> Iterator[pa.Table]:
    """Variants of the parents, as many of each as of the others, as tables under the STRUCTURES contract.

    A parent whose space group spglib does not find gives none, and the others more.

    Args:
        parents: what to vary.
        total: number of variants.
        seed: same seed, same variants.

    Raises:
        InputError: if no parent gives any.
    """
    left, given = list(parents), dict.fromkeys((p.material_id for p in parents), 0)
    while total > 0:
        if not left:
            raise InputError(
                "structures",
                f"no variants of these {len(parents)} can be made: spglib finds other space groups than they say.",
                "Correct space_group, or ask for no variants.",
            )
        willing = []
        for place, parent in enumerate(left):
            count = -(-total // (len(left) - place))
            if count == 0:
                break
            table = parent_variants(parent, count, seed, given[parent.material_id])
            if table.num_rows:
                yield table
            if table.num_rows == count:
                willing.append(parent)
            given[parent.material_id] += table.num_rows
            total -= table.num_rows
        left = willing


def parent_variants(parent: Material, count: int, seed: int, given: int = 0) -> pa.Table:
    """At most ``count`` variants of a parent, numbered from ``given`` + 1; fewer where its symmetry can't be kept."""
    exact = symmetric(parent.crystal, parent.space_group)
    search = _search(exact, parent.space_group) if exact else None
    if exact is None or search is None:
        return STRUCTURES.empty_table()
    name = int.from_bytes(hashlib.sha256(parent.material_id.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, name, given])
    parts, have = [], 0
    for _ in range(TRIES):
        lattices, positions, notes = _draw(exact, count - have, rng)
        good = [
            i
            for i, (lattice, places) in enumerate(zip(lattices, positions, strict=True))
            if search(lattice, places, exact.kinds) == parent.space_group
        ]
        parts.append(_table(parent, exact, lattices[good], positions[good], [notes[i] for i in good], given + have))
        have += len(good)
        if have == count:
            break
    return pa.concat_tables(parts)


def _draw(
    exact: Symmetric, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Lattices (count, 3, 3), fractional positions of the sites (count, m, 3), and what was changed."""
    tensors = rng.uniform(-1, 1, (count, 3, 3))
    sizes = rng.uniform(0, STRAIN, count)
    strains = scaled(average(tensors + np.swapaxes(tensors, 1, 2), exact.rotations), sizes)
    sites = exact.site_positions
    limits = np.minimum(SHIFT, SHIFT_SHARE * nearest_sites(exact))
    directions = rng.normal(size=(count, len(sites), 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    shifts = exact.displacements(directions * (limits * rng.uniform(0, 1, (count, len(sites))))[..., None])
    furthest = np.linalg.norm(shifts @ exact.crystal.lattice, axis=-1).max(axis=1)
    notes = [
        f"strain of {100 * size:.2f} %, atoms moved by up to {shift:.3f} Å"
        for size, shift in zip(sizes, furthest, strict=True)
    ]
    return exact.crystal.lattice @ (np.eye(3) + strains), sites + shifts, notes


def nearest_sites(exact: Symmetric) -> NDArray[np.float64]:
    """Distance [Å] of each site to the nearest other one, its own images among them, shape (m,)."""
    images = np.array(list(product((-1, 0, 1), repeat=3)))
    sites = exact.site_positions
    out = np.empty(len(sites))
    for origin in np.unique(exact.parent):
        step = sites - sites[origin]
        step -= np.round(step)
        distance = np.linalg.norm((step[:, None] + images) @ exact.crystal.lattice, axis=-1)
        distance[origin, len(images) // 2] = np.inf  # the site and itself
        out[exact.parent == origin] = distance.min()
    return out


def _search(exact: Symmetric, space_group: int) -> Search | None:
    """The fastest symmetry search that agrees with the label of the parent itself, if one does."""
    for search in (_moyo, space_group_of_cell):
        if search(exact.crystal.lattice, exact.site_positions, exact.kinds) == space_group:
            return search
    return None


def _moyo(lattice: NDArray[np.float64], positions: NDArray[np.float64], kinds: NDArray[np.integer]) -> int | None:
    """Space group number that moyo finds, five times as fast as spglib; None where it finds none."""
    cell = moyopy.Cell(lattice.tolist(), positions.tolist(), kinds.tolist())
    try:
        return moyopy.MoyoDataset(cell, symprec=SYMPREC).number
    except ValueError:
        return None


def _table(
    parent: Material,
    exact: Symmetric,
    lattices: NDArray[np.float64],
    positions: NDArray[np.float64],
    notes: list[str],
    given: int,
) -> pa.Table:
    count, entries = len(lattices), len(exact.site)
    columns = {
        "material_id": [f"{parent.material_id}#{given + i}" for i in range(1, count + 1)],
        "formula": [parent.formula] * count,
        "space_group": [parent.space_group] * count,
        "crystal_system": [parent.crystal_system] * count,
        "lattice": _lists(lattices, 9),
        "atomic_number": _lists(np.tile(parent.crystal.numbers, count), entries),
        "occupancy": _lists(np.tile(parent.crystal.occupancy, count), entries),
        "position": _lists(positions[:, exact.site], 3 * entries),
        "source": [f"{parent.source}; variant of {parent.material_id}: {note}" for note in notes],
    }
    return to_table(columns, STRUCTURES)


def _lists(values: NDArray[np.generic], width: int) -> pa.Array:
    """Lists of one width as a list column."""
    flat = np.ascontiguousarray(values).ravel()
    return pa.ListArray.from_arrays(np.arange(0, len(flat) + 1, width, dtype=np.int32), flat)
