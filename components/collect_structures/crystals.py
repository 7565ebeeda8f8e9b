"""A crystal as flat arrays, and what every source checks and asks of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import hypot, isfinite, prod
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core.composition import Composition, reduce_formula

from imitation_refinement.data.formula import SYMBOLS as ELEMENT_SYMBOLS
from imitation_refinement.data.formula import normal
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CrystalSystem

warnings.filterwarnings("ignore", message="No Pauling electronegativity")  # pymatgen's only orders the elements

SYMPREC = 0.01  # [Å], tolerance of the symmetry search
SAME_SITE = 0.05  # [Å], entries nearer than this share one site
CLOSEST = 0.5  # [Å], atoms that are both there can't be nearer
OCCUPANCY_SLACK = 0.05  # refined occupancies overshoot 1 a little
EDGE_RANGE = (1.5, 500.0)  # [Å]
VOLUME_RANGE = (1.5, 1000.0)  # [Å³ per atom]
MOST_ATOMS = 5000  # entries of a cell; what follows takes seconds for so many, and for twice as many four times as long
LARGE = 1000  # entries; symmetry is searched by moyo alone then
AT_ONCE = 1 << 20  # pairs of entries that are compared at a time

HEAVIEST = len(ELEMENT_SYMBOLS)  # Cf, the last element with tabulated X-ray form factors
SYMBOLS = ["", *ELEMENT_SYMBOLS]
ATOMIC_NUMBERS = {symbol: z for z, symbol in enumerate(SYMBOLS) if z} | {"D": 1, "T": 1}


@dataclass(frozen=True)
class Crystal:
    """One unit cell; a site with several species has one entry a species.

    Attributes:
        lattice: rows a, b, c [Å], shape (3, 3).
        numbers: atomic numbers, shape (n,).
        occupancy: share of the site, 0 to 1, shape (n,).
        positions: fractional coordinates, shape (n, 3).
    """

    lattice: NDArray[np.float64]
    numbers: NDArray[np.int16]
    occupancy: NDArray[np.float64]
    positions: NDArray[np.float64]

    def columns(self) -> dict[str, Any]:
        """The structure columns of the contracts."""
        return {
            "lattice": self.lattice.ravel(),
            "atomic_number": self.numbers,
            "occupancy": self.occupancy,
            "position": self.positions.ravel(),
        }


@dataclass(frozen=True)
class Material:
    """A crystal with its names: one row of the STRUCTURES contract."""

    material_id: str
    formula: str
    space_group: int
    crystal: Crystal
    source: str
    remark: str | None = None  # what contradicted in the source and how it was settled

    @property
    def crystal_system(self) -> CrystalSystem:
        """The crystal system that the space group belongs to."""
        return CrystalSystem.from_space_group(self.space_group)

    def row(self) -> dict[str, Any]:
        """The material as a row of the STRUCTURES contract."""
        names = ("material_id", "formula", "space_group", "crystal_system", "source", "remark")
        return {name: getattr(self, name) for name in names} | self.crystal.columns()


@dataclass(frozen=True)
class Reading:
    """A checked crystal as a source gives it.

    Attributes:
        crystal: passed :func:`check_crystal`.
        space_group: what the source says; None where it says nothing.
        hydrogen: hydrogen atoms in the cell that the source names and gives no position.
        remarks: what contradicted in the source and how it was settled.
    """

    crystal: Crystal
    space_group: int | None = None
    hydrogen: float = 0.0
    remarks: tuple[str, ...] = ()

    @property
    def formula(self) -> str:
        """Reduced formula, with the hydrogen that has no position."""
        return formula(self.crystal, self.hydrogen)


def from_pymatgen(record: Mapping[str, Any]) -> Crystal:
    """A crystal from pymatgen's dictionary of a Structure, read directly: a Structure would cost ten times as much.

    Raises:
        KeyError, TypeError, ValueError: if the dictionary is none of a Structure's.
    """
    entries = [
        (species["element"], float(species["occu"]), site["abc"])
        for site in record["sites"]
        for species in site["species"]
    ]
    return Crystal(
        np.asarray(record["lattice"]["matrix"], float).reshape(3, 3),
        np.asarray([_atomic_number(symbol) for symbol, _, _ in entries], np.int16),
        np.asarray([occupancy for _, occupancy, _ in entries], float),
        np.asarray([position for _, _, position in entries], float).reshape(-1, 3),
    )


def _atomic_number(symbol: str) -> int:
    if symbol not in ATOMIC_NUMBERS:
        raise ValueError(f"unknown element {symbol!r}")
    return ATOMIC_NUMBERS[symbol]


def formula(crystal: Crystal, hydrogen: float = 0.0) -> str:
    """The name of the material, in its normal form; deuterium counts as hydrogen.

    ``hydrogen`` atoms in the cell have no position.
    """
    amounts = np.bincount(crystal.numbers, weights=crystal.occupancy)
    amounts[1] += hydrogen
    return material_name({SYMBOLS[z]: float(amounts[z]) for z in np.flatnonzero(amounts)})


def material_name(amounts: Mapping[str, float | Fraction]) -> str:
    """The one name of a composition: its normal form, written as a reduced formula."""
    return _written(tuple(normal(amounts).items()))


@lru_cache(maxsize=4096)
def _written(amounts: tuple[tuple[str, float], ...]) -> str:
    if not all(isinstance(amount, int) for _, amount in amounts):
        return str(Composition(dict(amounts)).reduced_formula)
    text = reduce_formula(dict(amounts))[0]  # what a Composition of whole numbers takes twice as long for
    return str(Composition.special_formulas.get(text, text))


def check_crystal(
    crystal: Crystal,
    where: object,
    names: Sequence[str] | None = None,
    parents: NDArray[np.intp] | None = None,
) -> None:
    """Refuses what is no crystal.

    Hydrogen may stand in the place of the atom that it is bound to: old structures of ammonium write it so.

    Args:
        crystal: one unit cell.
        where: the source, for messages.
        names: of each entry, for messages; elements and positions without them.
        parents: entries that all others are images of by symmetry: only their surroundings need to be looked at.

    Raises:
        InputError: if there are no atoms, numbers that are not finite, a cell without volume or of absurd size, an
            occupancy outside 0 to 1, a site with more than one atom, or atoms in one another.
    """
    remedy = "Correct the structure or leave it out."
    if len(crystal.numbers) == 0:
        raise InputError(where, "has no atoms.", remedy)
    if len(crystal.numbers) > MOST_ATOMS:
        problem = f"has {len(crystal.numbers):,} atoms in its cell, more than {MOST_ATOMS:,}."
        raise InputError(where, problem, "Give a primitive cell, or leave it out.")
    if not isfinite(crystal.lattice.sum() + crystal.occupancy.sum() + crystal.positions.sum()):
        raise InputError(where, "has a cell, position or occupancy that is no finite number.", remedy)
    edges = [hypot(*edge) for edge in crystal.lattice.tolist()]
    volume, share = volume_of(crystal.lattice), crystal.occupancy.tolist()
    if min(edges) < EDGE_RANGE[0] or max(edges) > EDGE_RANGE[1] or volume < 1e-3 * prod(edges):
        shown = ", ".join(f"{edge:.4g}" for edge in edges)
        raise InputError(where, f"has an absurd cell: edges {shown} Å, volume {volume:.4g} Å³.", remedy)
    if min(share) <= 0 or max(share) > 1 + OCCUPANCY_SLACK:
        entry = share.index(min(share) if min(share) <= 0 else max(share))
        name = _names(crystal, [entry], names)
        raise InputError(where, f"has {name} with the occupancy {share[entry]:.4g}, not within 0 to 1.", remedy)
    per_atom = volume / sum(share)
    if not VOLUME_RANGE[0] <= per_atom <= VOLUME_RANGE[1]:
        raise InputError(where, f"has {per_atom:.4g} Å³ an atom; a crystal has some 5 to 40.", remedy)
    large = parents is not None and len(parents) * len(crystal.numbers) > AT_ONCE
    if parents is None or large or _has_contacts(crystal, parents):
        _check_contacts(crystal, where, names, remedy)


def _names(crystal: Crystal, entries: Sequence[int], names: Sequence[str] | None) -> str:
    """What entries are called in a message."""
    if names:
        return " and ".join(names[entry] or SYMBOLS[crystal.numbers[entry]] for entry in entries)
    return " and ".join(SYMBOLS[crystal.numbers[entry]] for entry in entries)


def _has_contacts(crystal: Crystal, parents: NDArray[np.intp]) -> bool:
    """Whether anything may be nearer than CLOSEST to one of the entries, but for shares of exactly one site."""
    near = reach(crystal.lattice, CLOSEST)
    if near.max() >= 0.5:
        return True
    along = crystal.positions.T  # axis by axis: a reduction over three of them is slow
    apart = along[:, parents, None] - along[:, None]
    apart -= np.rint(apart)
    a, b, c = np.abs(apart) < near[:, None, None]
    close = a & b & c
    if np.count_nonzero(close) == len(parents):
        return False
    a, b, c = apart == 0
    same = a & b & c
    return bool((close > same).any() or (same @ crystal.occupancy).max() > 1 + OCCUPANCY_SLACK)


def reach(lattice: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """How far a distance [Å] reaches along the axes, in fractional units, by those of opposite faces, shape (3,)."""
    a, b, c = lattice.tolist()
    faces = [_cross(b, c), _cross(c, a), _cross(a, b)]
    return np.array([distance * hypot(*face) for face in faces]) / volume_of(lattice)


def volume_of(lattice: NDArray[np.float64]) -> float:
    """Volume of a cell [Å³], its lattice given as rows; NumPy takes several times as long for three of them."""
    a, b, c = lattice.tolist()
    x, y, z = _cross(b, c)
    return abs(a[0] * x + a[1] * y + a[2] * z)


def _cross(a: list[float], b: list[float]) -> tuple[float, float, float]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _check_contacts(crystal: Crystal, where: object, names: Sequence[str] | None, remedy: str) -> None:
    pairs, distance = close_pairs(crystal)
    if len(pairs) == 0:
        return
    same = distance < SAME_SITE
    heavy = crystal.numbers > 1
    on_heavy = np.zeros(len(heavy), bool)  # hydrogen in the place of another atom
    for column in (0, 1):
        np.logical_or.at(on_heavy, pairs[same, column], heavy[pairs[same, 1 - column]])
    counts = heavy | ~on_heavy
    total = crystal.occupancy.copy()  # of each entry's site
    for column in (0, 1):
        other = pairs[same, 1 - column]
        np.add.at(total, pairs[same, column], crystal.occupancy[other] * counts[other])
    total[~counts] = 0
    if total.max() > 1 + OCCUPANCY_SLACK:
        entry = int(total.argmax())
        at = ", ".join(f"{x:.4f}" for x in crystal.positions[entry])
        there = [*np.unique(pairs[same & (pairs == entry).any(axis=1)])]
        who = f" ({' and '.join(dict.fromkeys(names[i] for i in there))})" if names else ""
        raise InputError(where, f"has a site at ({at}) with {total.max():.4g} atoms{who}.", remedy)
    both = ~same & (crystal.occupancy[pairs].sum(axis=1) > 1 + OCCUPANCY_SLACK)
    if both.any():
        worst = int(np.where(both, distance, np.inf).argmin())
        raise InputError(where, f"has {_names(crystal, pairs[worst], names)} {distance[worst]:.3f} Å apart.", remedy)


def close_pairs(crystal: Crystal) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Entries nearer than CLOSEST to one another in the periodic crystal: index pairs (m, 2) and distances [Å] (m,)."""
    n, near = len(crystal.numbers), reach(crystal.lattice, CLOSEST)
    axis = near.argmin()
    wrapped = crystal.positions % 1.0
    order = wrapped[:, axis].argsort(kind="stable")
    along = wrapped[order, axis]
    # Along the axis, those after each entry and within reach of it, around the cell's end.
    ends = np.searchsorted(np.concatenate([along, along + 1.0]), along + min(near[axis], 0.499))
    counts = ends - np.arange(1, n + 1)
    found, first = [], 0
    while first < n:  # so many entries at a time that their pairs are few; of a usual crystal all
        last = max(first + 1, int(np.searchsorted(counts.cumsum(), counts[:first].sum() + AT_ONCE)))
        part, own = counts[first:last], np.arange(first, min(last, n))
        one = np.repeat(own, part)
        other = (np.arange(len(one)) - np.repeat(part.cumsum() - part - own - 1, part)) % n
        one, other = order[one], order[other]
        for k in range(3):  # most are far apart along another axis
            if k != axis and near[k] < 0.5:
                apart = wrapped[one, k] - wrapped[other, k]
                inside = np.abs(apart - np.rint(apart)) <= near[k]
                one, other = one[inside], other[inside]
        pairs = np.sort(np.stack([one, other], axis=1), axis=1)
        step = wrapped[pairs[:, 0]] - wrapped[pairs[:, 1]]
        distance = np.linalg.norm((step - np.round(step)) @ crystal.lattice, axis=1)
        close = distance < CLOSEST
        found.append((pairs[close], distance[close]))
        first = last
    return np.concatenate([pairs for pairs, _ in found]), np.concatenate([distance for _, distance in found])


def find_space_group(crystal: Crystal, symprec: float = SYMPREC) -> int | None:
    """Space group number that spglib finds; None where it finds none.

    Mixed sites are told apart by all that is on them.
    """
    kinds, first, _ = sites(crystal)
    return space_group_of_cell(crystal.lattice, crystal.positions[first], kinds, symprec)


def space_group_of_cell(
    lattice: NDArray[np.float64],
    positions: NDArray[np.float64],
    kinds: NDArray[np.integer],
    symprec: float = SYMPREC,
) -> int | None:
    """Space group number that spglib finds for sites of these kinds; None where it finds none."""
    try:
        found = spglib.get_symmetry_dataset((lattice, positions, kinds), symprec=symprec)
    except spglib.SpglibError:
        return None
    return None if found is None else int(found.number)


def sites(crystal: Crystal) -> tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.int_]]:
    """The sites of a crystal with n entries: what is on each, (m,); its first entry, (m,); each entry's site, (n,)."""
    n = len(crystal.numbers)
    if np.all(crystal.occupancy == 1):
        return crystal.numbers.astype(int), np.arange(n), np.arange(n)
    pairs, distance = close_pairs(crystal)
    first = np.arange(n)
    for i, j in pairs[distance < SAME_SITE]:
        first[max(i, j)] = min(first[i], first[j])
    content: dict[int, list[tuple[int, float]]] = {}
    for entry, site in enumerate(first):
        content.setdefault(int(site), []).append(
            (int(crystal.numbers[entry]), round(float(crystal.occupancy[entry]), 3))
        )
    labels = {species: index for index, species in enumerate(sorted({tuple(sorted(c)) for c in content.values()}), 1)}
    entries = np.array(list(content))
    return np.array([labels[tuple(sorted(c))] for c in content.values()]), entries, np.searchsorted(entries, first)
