"""Random crystals over all 230 space groups: any number of ideal structures in any class, without a database.

The way of Schopmans, Reischl and Friederich (Digital Discovery 2, 1414 (2023)): draw a space group, some elements,
Wyckoff positions for them, and free coordinates; fit the cell to the atoms' volumes. Here atoms that overlap are pushed
apart as far as their Wyckoff positions let them, and the tightest contact, in sums of covalent radii, is drawn from
what compounds have and sets the scale; what is then too thin or too dense is drawn again. The label is what spglib
finds at the end, which may be more than was drawn. The Wyckoff positions are pyxtal's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, product
from itertools import count as count_from

import gemmi
import numpy as np
from numpy.typing import NDArray

from components.collect_structures.builtin import FAMILY, RADIUS, UNWANTED, VOLUME, part_of
from components.collect_structures.crystals import ATOMIC_NUMBERS, Crystal, Material, find_space_group, formula
from components.collect_structures.workers import ordered_map
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, CrystalSystem

# The next three are about what the compounds of the Materials Project have, ranges as their 5th to 95th percentiles.
CONTACT_MEAN, CONTACT_SPREAD, CONTACT_RANGE = 0.93, 0.07, (0.8, 1.08)  # tightest contact in sums of covalent radii
PACKING = (0.2, 1.0)  # volume of the atoms as spheres of covalent radius in that of the cell
EDGE_SPREAD = 0.3  # standard deviation of the logarithm of free edges
TILT = (65.0, 115.0)  # [°], free angles of triclinic cells
BETA = (90.0, 125.0)  # [°], of monoclinic cells
GEOMETRIES = 4  # drawn at once for one choice of Wyckoff positions
DENSE = 0.6  # packing at which atoms that overlap are pushed apart
PUSHES, PUSH = 12, 0.3  # steps, and the share of an overlap that a step undoes
IN_ONE = 1000  # so many are made in this process: others take five seconds to start
CHUNK = 21  # crystals that are made at a time
ELEMENTS = np.array([ATOMIC_NUMBERS[symbol] for symbol in FAMILY if symbol not in UNWANTED], np.int16)
NEAR = np.array(list(product((-1, 0, 1), repeat=3)))
FAR = np.array(list(product((-2, -1, 0, 1, 2), repeat=3)))


@dataclass(frozen=True)
class Sizes:
    """How large crystals are made.

    Attributes:
        elements: shares of crystals of one, two, … elements; they sum to 1.
        atoms: median of their number in the primitive cell.
        spread: standard deviation of its logarithm.
        most: atoms in the primitive cell, at most.
    """

    elements: tuple[float, ...]
    atoms: float
    spread: float
    most: int


COMPOUNDS = Sizes((0.03, 0.32, 0.5, 0.12, 0.03), 10.0, 0.8, 60)  # about as the Materials Project's
SHARES = (0.32, 0.26, 0.16, 0.08, 0.08, 0.08, 0.02)  # of large ones, in the order of the crystal systems
LOW_SYMMETRY = 2  # their stream; 0 and 1 are the library's and the specimens'
LARGE = Sizes((0.01, 0.12, 0.37, 0.35, 0.15), 22.0, 0.7, 120)  # about as minerals


@dataclass(frozen=True)
class Position:
    """A Wyckoff position.

    Attributes:
        letter: Wyckoff letter.
        fixed: whether it has no free coordinate, so that it can be occupied only once.
        maps: from x, y, z to the fractional coordinates of its m atoms in the primitive cell, shape (m, 3, 4).
        inverse: from a displacement of the first atom to the nearest change of x, y, z that is free, shape (3, 3).
    """

    letter: str
    fixed: bool
    maps: NDArray[np.float64]
    inverse: NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """A space group: its number, the primitive cell's edges in conventional ones, shape (3, 3), Wyckoff positions."""

    number: int
    primitive: NDArray[np.float64]
    positions: tuple[Position, ...]


@cache
def space_group(number: int) -> Group:
    """A space group in its standard setting (axis b, hexagonal axes, origin choice 2)."""
    from pyxtal.symmetry import Group as Tables  # two seconds

    operation = gemmi.find_spacegroup_by_number(number).centred_to_primitive()
    primitive = np.array(operation.rot).T / gemmi.Op.DEN
    generic = np.array([0.1234, 0.3579, 0.7113, 1.0])
    positions = []
    for entry in Tables(number).Wyckoff_positions:
        maps = np.linalg.inv(primitive.T) @ np.array([op.affine_matrix[:3] for op in entry.ops])
        cells = np.round((maps @ generic + 0.0001) % 1.0, 6)
        _, first = np.unique(cells, axis=0, return_index=True)
        maps = maps[np.sort(first)]
        positions.append(Position(entry.letter, entry.get_dof() == 0, maps, np.linalg.pinv(maps[0, :, :3])))
    return Group(number, primitive, tuple(positions))


SPACE_GROUPS = {
    system: [n for n in range(1, 231) if CrystalSystem.from_space_group(n) is system] for system in CRYSTAL_SYSTEMS
}


def random_crystals(
    count: int, seed: int, stream: int = 0, avoid: Collection[str] = frozenset(), workers: int = 0
) -> Iterator[Material]:
    """Random crystals, as many of each crystal system.

    Args:
        count: how many.
        seed: same seed and stream, same crystals, whatever the number of processes.
        stream: apart from one another, as for the library and for the specimens.
        avoid: formulas that none shall have.
        workers: processes; 0 for as many as there are cores.
    """
    wanted = {system: part_of(count, index) for index, system in enumerate(CRYSTAL_SYSTEMS)}
    indices = (range(start, start + CHUNK) for start in count_from(0, CHUNK))
    chunks = ordered_map(partial(_chunk, seed, stream, COMPOUNDS), indices, workers if count > IN_ONE else 1)
    with closing(chunks):
        for material in chain.from_iterable(chunks) if count else ():
            if wanted[material.crystal_system] and material.formula not in avoid:
                wanted[material.crystal_system] -= 1
                yield material
                if not any(wanted.values()):
                    return


def shared_out(count: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in the proportion of the shares, which sum to 1; the numbers sum to ``count``."""
    return [int(n) for n in np.diff(np.rint(count * np.cumsum([0, *shares])))]


def low_symmetry(count: int, seed: int, workers: int = 0) -> Iterator[Material]:
    """Large random crystals, most of them triclinic and monoclinic: what databases have few of, and networks need.

    Args:
        count: how many, as :data:`SHARES` of them of each crystal system.
        seed: same seed, same crystals, whatever the number of processes.
        workers: processes; 0 for as many as there are cores.
    """
    systems = len(CRYSTAL_SYSTEMS)
    indices = [systems * k + system for system, n in enumerate(shared_out(count, SHARES)) for k in range(n)]
    chunks = [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]
    one = partial(_chunk, seed, LOW_SYMMETRY, LARGE)
    with closing(ordered_map(one, chunks, workers if count > IN_ONE else 1)) as made:
        yield from chain.from_iterable(made)


def _chunk(seed: int, stream: int, sizes: Sizes, indices: Sequence[int]) -> list[Material]:
    return [random_crystal(seed, stream, index, sizes) for index in indices]


def random_crystal(seed: int, stream: int, index: int, sizes: Sizes = COMPOUNDS) -> Material:
    """The random crystal of this index, of the crystal system ``index`` modulo 7."""
    rng = np.random.default_rng([seed, stream, index])
    system = CRYSTAL_SYSTEMS[index % len(CRYSTAL_SYSTEMS)]
    while True:
        group = space_group(int(rng.choice(SPACE_GROUPS[system])))
        occupied = _occupied(group, rng, sizes)
        crystal = _fitted(group, occupied, rng) if occupied else None
        number = find_space_group(crystal) if crystal else None
        if crystal is None or number is None or CrystalSystem.from_space_group(number) is not system:
            continue
        name = formula(crystal)
        letters = " ".join(position.letter for _, position in occupied)
        return Material(
            f"random-{seed}-{stream}-{index}",
            name,
            number,
            crystal,
            f"random crystal: space group {group.number} drawn, Wyckoff positions {letters}",
        )


def _occupied(group: Group, rng: np.random.Generator, sizes: Sizes) -> list[tuple[int, Position]]:
    """Elements on Wyckoff positions, each element at least once; empty where it does not work out."""
    n_elements = 1 + int(rng.choice(len(sizes.elements), p=sizes.elements))
    elements = rng.choice(ELEMENTS, n_elements, replace=False)
    wanted = sizes.atoms * np.exp(rng.normal(0, sizes.spread))
    room, free, placed = min(2 * wanted, sizes.most), list(group.positions), 0
    out: list[tuple[int, Position]] = []
    while len(out) < n_elements or placed < wanted:
        fitting = [p for p in free if placed + len(p.maps) <= room]
        if not fitting:
            return out if len(out) >= n_elements else []
        position = fitting[int(rng.integers(len(fitting)))]
        placed += len(position.maps)
        if position.fixed:
            free.remove(position)
        element = elements[len(out)] if len(out) < n_elements else rng.choice(elements)
        out.append((int(element), position))
    return out


def _fitted(group: Group, occupied: list[tuple[int, Position]], rng: np.random.Generator) -> Crystal | None:
    """The densest of some random geometries, if its density is sensible at the shortest contact that was drawn."""
    counts = [len(position.maps) for _, position in occupied]
    numbers = np.repeat(np.array([element for element, _ in occupied], np.int16), counts)
    first = np.cumsum([0, *counts[:-1]])
    radii = RADIUS[numbers[first], None] + RADIUS[numbers]
    spheres = 4 / 3 * np.pi * (RADIUS[numbers] ** 3).sum()
    lattices = group.primitive @ _cells(CrystalSystem.from_space_group(group.number), rng)
    lattices *= np.cbrt(spheres / DENSE / np.abs(np.linalg.det(lattices)))[:, None, None]
    free = rng.uniform(0, 1, (GEOMETRIES, len(occupied), 3))
    positions = _pushed_apart(lattices, occupied, free, first, radii)
    contacts = _tightest(lattices, positions, first, radii, NEAR)
    wanted = np.clip(rng.normal(CONTACT_MEAN, CONTACT_SPREAD, GEOMETRIES), *CONTACT_RANGE)
    volumes = np.abs(np.linalg.det(lattices)) * (wanted / np.maximum(contacts, 1e-3)) ** 3
    packing, per_atom = spheres / volumes, volumes / len(numbers)
    good = (packing > PACKING[0]) & (packing < PACKING[1]) & (per_atom > VOLUME[0]) & (per_atom < VOLUME[1])
    if not good.any():
        return None
    best = int(np.where(good, packing, 0).argmax())
    chosen = slice(best, best + 1)
    if _tightest(lattices[chosen], positions[chosen], first, radii, FAR)[0] < contacts[best] * (1 - 1e-6):
        return None
    scale = wanted[best] / contacts[best]
    return Crystal(lattices[best] * scale, numbers, np.ones(len(numbers)), positions[best] % 1.0)


def _pushed_apart(
    lattices: NDArray[np.float64],
    occupied: list[tuple[int, Position]],
    free: NDArray[np.float64],
    first: NDArray[np.int_],
    radii: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Positions of all atoms, (t, n, 3), from the orbits' x, y, z, (t, o, 3), the free ones moved out of overlaps."""
    positions = _placed(occupied, free)
    if all(position.fixed for _, position in occupied):
        return positions
    for _ in range(PUSHES):
        pushes = _repulsion(lattices, positions, first, radii) @ np.linalg.inv(lattices)
        steps = [pushes[:, orbit] @ position.inverse.T for orbit, (_, position) in enumerate(occupied)]
        free = free + np.stack(steps, axis=1)
        positions = _placed(occupied, free)
    return positions


def _placed(occupied: list[tuple[int, Position]], free: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractional positions of all atoms, (t, n, 3), from the x, y, z of each orbit, (t, o, 3)."""
    orbits = [
        np.einsum("mij,tj->tmi", position.maps[:, :, :3], free[:, i]) + position.maps[:, :, 3]
        for i, (_, position) in enumerate(occupied)
    ]
    return np.concatenate(orbits, axis=1)


def _repulsion(
    lattices: NDArray[np.float64], positions: NDArray[np.float64], first: NDArray[np.int_], radii: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far [Å] to push each orbit's first atom from those that it overlaps, shape (t, o, 3)."""
    steps, shifts, squared = _contacts(lattices, positions, first, NEAR)
    cell, orbit, atom, image = np.nonzero(squared < radii[..., None] ** 2)
    step = steps[cell, orbit, atom] + shifts[cell, image]
    distance = np.sqrt(np.maximum(squared[cell, orbit, atom, image], 1e-6))
    push = PUSH * ((radii[orbit, atom] - distance) / distance)[:, None] * step
    out = np.zeros((len(lattices), len(first), 3))
    np.add.at(out, (cell, orbit), push)
    return out


def _cells(system: CrystalSystem, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random conventional cells of a crystal system and about unit edges, shape (GEOMETRIES, 3, 3)."""
    a, b, c = np.exp(rng.normal(0, EDGE_SPREAD, (3, GEOMETRIES)))
    angles = np.full((3, GEOMETRIES), 90.0)
    if system is CrystalSystem.TRICLINIC:
        angles = rng.uniform(*TILT, (3, GEOMETRIES))
    elif system is CrystalSystem.MONOCLINIC:
        angles[1] = rng.uniform(*BETA, GEOMETRIES)
    elif system is not CrystalSystem.ORTHORHOMBIC:
        b = a
        if system is CrystalSystem.CUBIC:
            c = a
        elif system is not CrystalSystem.TETRAGONAL:
            angles[2] = 120.0
    cosine = np.cos(np.radians(angles))
    sine = np.sin(np.radians(angles[2]))
    zero = np.zeros(GEOMETRIES)
    x, y = c * cosine[1], c * (cosine[0] - cosine[1] * cosine[2]) / sine
    rows = [[a, zero, zero], [b * cosine[2], b * sine, zero], [x, y, np.sqrt(c**2 - x**2 - y**2)]]
    return np.moveaxis(np.array(rows), -1, 0)


def _tightest(
    lattices: NDArray[np.float64],
    positions: NDArray[np.float64],
    first: NDArray[np.int_],
    radii: NDArray[np.float64],
    images: NDArray[np.int_],
) -> NDArray[np.float64]:
    """The shortest contact of each geometry in sums of covalent radii, shape (t,).

    Args:
        lattices: shape (t, 3, 3).
        positions: fractional, shape (t, n, 3).
        first: one atom of each orbit, shape (o,); the contacts of the others are the same.
        radii: sums of covalent radii [Å], shape (o, n).
        images: neighbouring cells, shape (c, 3), the cell itself in the middle.
    """
    squared = _contacts(lattices, positions, first, images)[2].min(-1)
    return np.asarray(np.sqrt((np.maximum(squared, 0) / radii**2).min((1, 2))))


def _contacts(
    lattices: NDArray[np.float64], positions: NDArray[np.float64], first: NDArray[np.int_], images: NDArray[np.int_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps to the first atoms from all, (t, o, n, 3), shifts to the images, (t, c, 3), and squares of their sums.

    The squares [Å²] have the shape (t, o, n, c), and are infinite for an atom and itself.
    """
    step = positions[:, first, None] - positions[:, None]
    shape = step.shape[:3]
    flat = (step - np.round(step)).reshape(len(lattices), -1, 3) @ lattices
    shifts = images @ lattices
    squared = 2 * flat @ np.swapaxes(shifts, 1, 2)  # expanded: a third of the time of squaring all sums
    squared += (flat**2).sum(-1)[..., None] + (shifts**2).sum(-1)[:, None]
    squared = squared.reshape(*shape, len(images))
    squared[:, np.arange(len(first)), first, len(images) // 2] = np.inf
    return flat.reshape(*shape, 3), shifts, squared
