"""Variants: any number of structures from given ones, by small changes that keep the space group.

A variant strains its parent's cell and moves its atoms at random within what the space group leaves free: a random
tensor or displacement is averaged over the point group or the site symmetry (:mod:`.symmetry`). So all operations of
the space group are kept by construction. That none comes on top, as when a strain makes an orthorhombic cell nearly
tetragonal, is checked for every variant by a symmetry search; one that fails is drawn again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.collect_structures.crystals import Material, space_group_of_cell
from components.collect_structures.symmetry import Symmetric, average, moyo_number, scaled, symmetric
from components.collect_structures.workers import ordered_map
from imitation_refinement.data.contracts import STRUCTURES, to_table
from imitation_refinement.errors import InputError
from imitation_refinement.progress import say

STRAIN = 0.02  # largest principal strain
SHIFT = 0.1  # [Å], longest displacement, about the amplitude of thermal motion at room temperature
SHIFT_SHARE = 0.05  # a displacement's share of the distance to the nearest site, so that atoms stay apart
IN_ONE = 5000  # so many are made in this process: others take five seconds to start
REMEDY = "Correct space_group, or ask for no variants."
TRIES = 3  # draws in the place of those that failed, before a parent is left with fewer variants

Search = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.integer]], int | None]


def variants(wanted: Sequence[tuple[Sequence[Material], int]], seed: int, workers: int = 0) -> Iterator[pa.Table]:
    """Variants of groups of parents, in a group as many of each, as tables under the STRUCTURES contract.

    A parent whose space group spglib does not find gives none, and the others of its group more.

    Args:
        wanted: the parents of a group, and the number of variants of them.
        seed: same seed, same variants, whatever the number of processes.
        workers: processes; 0 for as many as there are cores.

    Raises:
        InputError: if no parent of a group gives any.
    """
    rng, given = np.random.default_rng(seed), Counter[str]()
    workers = workers if sum(total for _, total in wanted) > IN_ONE else 1
    left = [(list(parents), total) for parents, total in wanted if total > 0]
    while left:
        jobs, groups = [], []
        for group, (parents, total) in enumerate(left):
            if not parents:
                raise InputError("structures", "no variant keeps the symmetry that they say.", REMEDY)
            share, rest = divmod(total, len(parents))
            shares = share + (rng.permutation(len(parents)) < rest)
            jobs += [(parent, int(n), given[parent.material_id]) for parent, n in zip(parents, shares, strict=True)]
            groups += [group] * len(parents)
        willing: list[list[Material]] = [[] for _ in left]
        missing = [total for _, total in left]
        for (parent, n, _), group, table in zip(
            jobs, groups, ordered_map(partial(_job, seed), jobs, workers), strict=True
        ):
            given[parent.material_id] += table.num_rows
            missing[group] -= table.num_rows
            if table.num_rows == n:
                willing[group].append(parent)
            if table.num_rows:
                yield table
        if barren := len({parent.material_id for parent, n, _ in jobs if n} - set(+given)):
            say(f"{barren} structures have no variants: spglib does not find their space group in their cells")
        left = [(parents, total) for parents, total in zip(willing, missing, strict=True) if total > 0]


def _job(seed: int, job: tuple[Material, int, int]) -> pa.Table:
    parent, count, given = job
    return parent_variants(parent, count, seed, given)


def parent_variants(parent: Material, count: int, seed: int, given: int = 0) -> pa.Table:
    """At most ``count`` variants of a parent, numbered from ``given`` + 1; fewer where its symmetry can't be kept."""
    if count == 0:
        return STRUCTURES.empty_table()
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
    for search in (moyo_number, space_group_of_cell):
        if search(exact.crystal.lattice, exact.site_positions, exact.kinds) == space_group:
            return search
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
