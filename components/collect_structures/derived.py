"""Derived crystals: of lower symmetry than the given ones that they are made from.

Superstructures, ordered solid solutions and distorted phases keep a subgroup of their parent's operations
(Bärnighausen, MATCH 9, 139 (1980)). So does what is made here: of the operations of a given crystal's cell, or of one
up to eight times as large, a few and their products are kept; some of their orbits take another element of like radius,
or are left empty; cell and atoms are moved at random as they allow. The lines that come of it nearly have the parent's
symmetry, as those of many real crystals do, and of no random one. The label is what spglib finds in the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, product

import numpy as np
import pyarrow as pa
import spglib
from numpy.typing import NDArray

from components.collect_structures.builtin import RADIUS
from components.collect_structures.crystals import SYMPREC, Crystal, Material, find_space_group, formula
from components.collect_structures.random_crystals import CHUNK, ELEMENTS, shared_out
from components.collect_structures.symmetry import average, scaled
from components.collect_structures.workers import ordered_map
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, CrystalSystem

SHARES = (0.3, 0.32, 0.2, 0.09, 0.07, 0.02, 0.0)  # of crystals, in the order of the crystal systems
CELLS = [(1, 1, 1)] * 5 + list(product((1, 2), repeat=3)) + [(3, 1, 1), (1, 3, 1), (1, 1, 3)]
ATOMS = (4, 64)  # fewest and most in a cell
MOST_OPERATIONS = 1200
DECORATED, EMPTY = 0.6, 0.25  # share of crystals in which orbits are changed, of these that are left empty
LIKE = 0.12  # standard deviation of the radius of what takes an atom's place [Å]
MOVED = (0.03, 0.35)  # root mean square displacement before its symmetry is kept [Å]
STRAIN = (0.002, 0.06)  # largest principal strain
SCALE = (0.85, 1.15)  # of the cell's edges, for the atoms' volumes
CLOSEST = 0.75  # of the parent's shortest distance, or of LONG: nearer ones are made again
LONG = 2.6  # [Å]
PARENTS, TRIES = 64, 60  # at hand for CHUNK crystals; for one
IN_ONE = 1000  # so many are made in this process: others take five seconds to start
STREAM = 3  # of random numbers


@dataclass(frozen=True)
class Cell:
    """Lattice as rows [Å], shape (3, 3); fractional positions (n, 3); atomic numbers (n,)."""

    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int16]

    def distances(self) -> NDArray[np.float64]:
        """Between atoms and the nearest images of others [Å], shape (n, n), infinite on the diagonal."""
        out = self.from_atoms(self.positions)
        np.fill_diagonal(out, np.inf)
        return out

    def from_atoms(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distances [Å] of places, fractional, shape (k, 3), from the nearest images of atoms, shape (k, n)."""
        apart = places[:, None] - self.positions
        return np.asarray(np.linalg.norm((apart - np.rint(apart)) @ self.lattice, axis=-1))

    def primitive(self) -> Cell | None:
        """Its primitive cell; None where spglib finds none."""
        try:
            found = spglib.find_primitive((self.lattice, self.positions, self.numbers), SYMPREC)
        except spglib.SpglibError:
            return None
        return Cell(found[0], found[1] % 1.0, found[2].astype(np.int16)) if found else None

    def repeated(self, times: Sequence[int]) -> Cell:
        """One so many times as long along its edges."""
        shifts = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), axis=-1).reshape(-1, 3)
        positions = (self.positions[:, None] + shifts) / times
        return Cell(self.lattice * np.array(times)[:, None], positions.reshape(-1, 3), self.numbers.repeat(len(shifts)))


@dataclass(frozen=True)
class Operations:
    """Of a cell of n atoms: rotations (k, 3, 3) of fractional coordinates, and where each atom goes to (k, n)."""

    rotations: NDArray[np.int32]
    goes_to: NDArray[np.intp]

    @classmethod
    def of(cls, cell: Cell) -> Operations | None:
        """Those that spglib finds; None where it finds none, or very many."""
        try:
            found = spglib.get_symmetry((cell.lattice, cell.positions, cell.numbers), SYMPREC)
        except spglib.SpglibError:
            return None
        if not found or len(found["rotations"]) > MOST_OPERATIONS:
            return None
        images = cell.positions @ np.swapaxes(found["rotations"], 1, 2) + found["translations"][:, None]
        return cls(found["rotations"], np.array([cell.from_atoms(image).argmin(axis=1) for image in images]))

    def subgroup(self, few: Sequence[int]) -> Operations:
        """Some operations, and all that come of doing one after another.

        Raises:
            KeyError: if one of these is not there: what spglib found within its tolerance is no group.
        """
        pairs = zip(self.rotations, self.goes_to, strict=True)
        place = {(rotation.tobytes(), goes_to.tobytes()): i for i, (rotation, goes_to) in enumerate(pairs)}
        kept = [place[np.eye(3, dtype=self.rotations.dtype).tobytes(), np.arange(self.goes_to.shape[1]).tobytes()]]
        for one in kept:  # which grows
            for other in few:
                rotation = self.rotations[other] @ self.rotations[one]
                both = place[rotation.tobytes(), self.goes_to[other][self.goes_to[one]].tobytes()]
                if both not in kept:
                    kept.append(both)
        return Operations(self.rotations[kept], self.goes_to[kept])


def derived_crystals(parents: pa.Table, count: int, seed: int, workers: int = 0) -> Iterator[Material]:
    """Crystals derived from given ones, most of them of low symmetry.

    Args:
        parents: under the STRUCTURES contract; those with mixed sites or many atoms are not used.
        count: how many, at most, as :data:`SHARES` of them of each crystal system; fewer where parents give none.
        seed: same seed and parents, same crystals, whatever the number of processes.
        workers: processes; 0 for as many as there are cores.
    """
    given = [one for one in map(_parent, parents.to_pylist()) if one]
    if not given:
        return
    system = np.array([one.crystal_system for one in given])
    names, frequent = np.unique(system, return_counts=True)
    # Of many systems, but not of few parents over and over.
    weight = 1 / np.sqrt(frequent[np.searchsorted(names, system)])
    systems = [name for name, n in zip(CRYSTAL_SYSTEMS, shared_out(count, SHARES), strict=True) for _ in range(n)]

    def jobs() -> Iterator[tuple[int, list[CrystalSystem], list[Material]]]:
        for start in range(0, len(systems), CHUNK):
            rng = np.random.default_rng([seed, STREAM, start])
            chosen = rng.choice(len(given), PARENTS, p=weight / weight.sum())
            yield start, systems[start : start + CHUNK], [given[i] for i in chosen]

    with closing(ordered_map(partial(_chunk, seed), jobs(), workers if count > IN_ONE else 1)) as made:
        yield from chain.from_iterable(made)


def _parent(row: dict[str, object]) -> Material | None:
    lattice, numbers, occupancy, positions = (
        np.array(row[name], float) for name in ("lattice", "atomic_number", "occupancy", "position")
    )
    if (occupancy < 1).any() or len(numbers) > ATOMS[1]:
        return None
    crystal = Crystal(lattice.reshape(3, 3), numbers.astype(np.int16), occupancy, positions.reshape(-1, 3))
    return Material(str(row["material_id"]), str(row["formula"]), int(str(row["space_group"])), crystal, "")


def _chunk(seed: int, job: tuple[int, Sequence[CrystalSystem], Sequence[Material]]) -> list[Material]:
    first, systems, parents = job
    out = []
    for index, system in enumerate(systems, first):
        rng = np.random.default_rng([seed, STREAM, index, 1])
        for _ in range(TRIES):
            parent = parents[int(rng.integers(len(parents)))]
            few = int(rng.integers(0, 2) if system == CRYSTAL_SYSTEMS[0] else rng.integers(1, 4))
            crystal = derived_crystal(parent.crystal, few, rng)
            number = find_space_group(crystal) if crystal else None
            if crystal and number and CrystalSystem.from_space_group(number) is system:
                source = f"derived from {parent.material_id}"
                out.append(Material(f"derived-{seed}-{index}", formula(crystal), number, crystal, source))
                break
    return out


def derived_crystal(parent: Crystal, few: int, rng: np.random.Generator) -> Crystal | None:
    """A crystal that keeps ``few`` operations of a cell of its parent, and what comes of them; None where none does."""
    cell = Cell(parent.lattice, parent.positions, parent.numbers).primitive()
    if cell is None:
        return None
    times = [own for own in CELLS if ATOMS[0] <= np.prod(own) * len(cell.numbers) <= ATOMS[1]]
    if not times:
        return None
    cell = cell.repeated(times[rng.integers(len(times))])
    operations = Operations.of(cell)
    if operations is None:
        return None
    n = len(operations.rotations)
    try:
        kept = operations.subgroup(rng.choice(n, min(few, n), replace=False).tolist())
    except KeyError:
        return None
    numbers = _decorated(cell.numbers, kept, rng) if rng.random() < DECORATED else cell.numbers
    moved = _moved(cell, kept, rng)
    there = numbers > 0
    volumes = [float((RADIUS[z] ** 3).sum()) for z in (numbers[there], cell.numbers[there])]
    scale = np.clip((volumes[0] / volumes[1]) ** (1 / 3), *SCALE)
    made = Cell(moved.lattice * scale, moved.positions[there], numbers[there])
    if made.distances().min() < CLOSEST * min(cell.distances().min(), LONG):
        return None
    found = made.primitive()
    return Crystal(found.lattice, found.numbers, np.ones(len(found.numbers)), found.positions) if found else None


def _decorated(numbers: NDArray[np.int16], kept: Operations, rng: np.random.Generator) -> NDArray[np.int16]:
    """Atomic numbers with one or two orbits changed, of elements that have several; 0 where there is no atom now."""
    out, orbit = numbers.copy(), kept.goes_to.min(axis=0)
    several = [first for first in np.unique(orbit) if (numbers == numbers[first]).sum() > (orbit == first).sum()]
    for first in rng.permutation(several)[: rng.integers(1, 3)].astype(int):
        own = orbit == first
        empty = rng.random() < EMPTY and own.sum() < len(numbers) / 4
        weight = np.exp(-0.5 * ((RADIUS[ELEMENTS] - RADIUS[numbers[first]]) / LIKE) ** 2) * (numbers[first] != ELEMENTS)
        out[own] = 0 if empty else rng.choice(ELEMENTS, p=weight / weight.sum())
    return out


def _moved(cell: Cell, kept: Operations, rng: np.random.Generator) -> Cell:
    """The cell strained, and its atoms displaced, as the operations let them."""
    back = np.linalg.inv(cell.lattice)
    size = np.exp(rng.uniform(*np.log(MOVED))) / np.sqrt(3)
    drawn = size * rng.normal(size=cell.positions.shape) @ back
    shifts = np.zeros_like(drawn)
    for rotation, goes_to in zip(kept.rotations, kept.goes_to, strict=True):
        shifts[goes_to] += drawn @ rotation.T / len(kept.rotations)
    cartesian = cell.lattice.T @ kept.rotations @ np.linalg.inv(cell.lattice.T)
    tensor = rng.uniform(-1, 1, (3, 3))
    strain = scaled(average(tensor + tensor.T, cartesian), np.exp(rng.uniform(*np.log(STRAIN))))
    return Cell(cell.lattice @ (np.eye(3) + strain), cell.positions + shifts, cell.numbers)
