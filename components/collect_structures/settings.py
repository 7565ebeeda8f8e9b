"""The space-group operations that a CIF may mean, best first.

Operations from their loop are what the positions were made for. A symbol names a group, and often not its setting: 24
groups have two origins in the International Tables (choice 1 and 2; the Inorganic Crystal Structure Database says
``S`` and ``Z``), seven rhombohedral ones two sets of axes (``H`` and ``R``). Which one is meant is not assumed here:
all are given, and the reader takes the one that the cell and the content bear out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import gemmi
import numpy as np
from numpy.typing import NDArray

from imitation_refinement.errors import InputError

TERM = re.compile(r"([+-]?)(?=[\dxyz.])(\d*\.?\d*)(?:/(\d+))?\*?([xyz]?)")
LISTED = "the listed operations"
OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
SYMBOLS_HM = ("_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_full")
SYMBOLS_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
# Origin: ":2", "(2)", "O2", "origin choice 2"; axes and origin of the ICSD: S, Z, H, R, also several.
SUFFIX = re.compile(r"\s*(?:(?::|\(|\bO|\borigin(?:\s+choice)?)\s*([12])\)?|[:(]?\s*([SZHR]{1,3})\)?)\s*$")


@dataclass(frozen=True, eq=False)
class Operations:
    """The operations of a space group in one setting.

    Attributes:
        matrices: rotation and translation in fractional coordinates, shape (k, 3, 4).
        number: of the space group; None where it is none of the tables'.
        centring: letter of the lattice; empty where the group is none of the tables'.
    """

    matrices: NDArray[np.float64]
    number: int | None
    centring: str

    @cached_property
    def rotations(self) -> NDArray[np.float64]:
        """The different rotations, shape (r, 3, 3)."""
        return np.array(list({matrix.tobytes(): matrix for matrix in self.matrices[:, :, :3] + 0.0}.values()))

    @cached_property
    def known(self) -> frozenset[bytes]:
        """The rotations, to be looked up."""
        return frozenset((rotation + 0.0).tobytes() for rotation in self.rotations)

    @cached_property
    def translations(self) -> NDArray[np.float64]:
        """The translations of the lattice in the cell, zero among them, shape (t, 3)."""
        pure = (self.matrices[:, :, :3] == np.eye(3)).all(axis=(1, 2))
        return self.matrices[pure, :, 3] % 1.0

    @cached_property
    def on_columns(self) -> NDArray[np.float64]:
        """The rotations side by side, shape (3, 3k): positions (n, 3) times it are the rotated ones."""
        return np.ascontiguousarray(self.matrices[:, :, :3].reshape(-1, 3).T)

    @cached_property
    def products(self) -> NDArray[np.intp] | None:
        """Which operation each is after each other, lattice translations aside, shape (k, k).

        None where they are no group: their translations may be rounded.
        """
        rotations, translations, k = self.matrices[:, :, :3], self.matrices[:, :, 3], len(self.matrices)
        after = rotations.reshape(-1, 3)  # one product of large matrices is faster than many of small ones
        turned = (after @ rotations.transpose(1, 0, 2).reshape(3, -1)).reshape(k, 3, k, 3).transpose(0, 2, 1, 3)
        moved = (after @ translations.T).reshape(k, 3, k).transpose(0, 2, 1) + translations[:, None]
        keys, wanted = _codes(rotations, translations), _codes(turned, moved)
        order = keys.argsort()
        place = order[np.searchsorted(keys, wanted, sorter=order) % len(keys)]
        return place if (keys[place] == wanted).all() and len(np.unique(keys)) == len(keys) else None

    @cached_property
    def _cosets(self) -> dict[bytes, NDArray[np.bool_] | None]:
        return {}

    def first_of_cosets(self, subgroup: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """The first operation of each left coset of a subgroup; None if the operations given are none.

        A position that a subgroup leaves where it is has one image for each of its cosets.

        Args:
            subgroup: which operations, shape (k,).

        Returns:
            Which operations, shape (k,).
        """
        key = subgroup.tobytes()
        if key not in self._cosets:
            self._cosets[key] = None
            products, members = self.products, np.flatnonzero(subgroup)
            if products is not None and subgroup[products[np.ix_(members, members)]].all():
                self._cosets[key] = products[:, members].min(axis=1) == np.arange(len(products))
        return self._cosets[key]

    @cached_property
    def averaging(self) -> NDArray[np.float64]:
        """Averages a metric tensor over the rotations, shape (9, 9): the mean of WᵀGW is this times G."""
        return np.einsum("rij,rkl->jlik", self.rotations, self.rotations).reshape(9, 9) / len(self.rotations)


def _codes(rotations: NDArray[np.float64], translations: NDArray[np.float64]) -> NDArray[np.int64]:
    """A whole number of each operation, the same where they differ by a translation of the lattice or by rounding."""
    # The odd shift keeps simple fractions, 0 and 1 above all, away from the edges of the cells.
    cells = (np.floor((translations + 0.000123457) % 1.0 * 1000) @ np.array([1e6, 1e3, 1.0])).astype(np.int64)
    whole = np.rint(rotations + 2).reshape(*rotations.shape[:-2], 9) @ 5.0 ** np.arange(9)
    return np.asarray(whole.astype(np.int64) * 10**9 + cells)


@dataclass(frozen=True)
class Setting:
    """A reading of what a file says about its symmetry.

    Attributes:
        operations: of the space group.
        name: what was taken, for a message.
        said: whether the file says this setting, not only the group.
        proven: whether it is only taken where the content bears it out.
    """

    operations: Operations
    name: str
    said: bool = True
    proven: bool = False


@dataclass(frozen=True)
class Symmetry:
    """What a file says about its symmetry.

    Attributes:
        tiers: settings that it may mean, made when they are asked for; those of one tier are equally good, an earlier
            tier goes before a later one.
        number: space group number that it says; None where it says none.
        symbol: Hermann–Mauguin symbol that it says, may be empty.
        named: space group number of the symbol; None where it is not understood.
    """

    tiers: Sequence[Callable[[], Sequence[Setting]]]
    number: int | None
    symbol: str
    named: int | None


def read_symmetry(values: Mapping[str, str], listed: Sequence[str], where: object, remedy: str) -> Symmetry:
    """What a file says about its symmetry.

    Args:
        values: tag → text of what stands in the file once.
        listed: the operations, as they stand there.
        where, remedy: for refusals.

    Raises:
        InputError: if it says no symmetry, or one that can't be understood.
    """
    numbers = [values.get(tag, "") for tag in NUMBERS]
    number = next((int(text) for text in numbers if re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= 230), None)
    symbol = next((values[tag] for tag in SYMBOLS_HM if values.get(tag)), "")
    hall = next((values[tag] for tag in SYMBOLS_HALL if values.get(tag)), "")
    try:
        given = operations_of(tuple(listed)) if listed else None
    except ValueError as error:
        raise InputError(where, f"has an unknown symmetry operation: {error}.", remedy) from None
    group, _ = _group(symbol)
    named = None if group is None else int(group.number)
    tiers: list[Callable[[], Sequence[Setting]]] = []
    if given is not None:
        claims = number or named
        alone = len(given.matrices) == 1 and claims not in (None, 1)
        setting = Setting(given, LISTED, proven=alone)
        tiers.append(lambda: [setting])
    elif by_hall := _hall(hall):
        from_hall = Setting(by_hall, f"the Hall symbol {hall}")
        tiers.append(lambda: [from_hall])
    if named is not None:
        tiers.append(partial(_named, symbol))
    if (known := named or number) is not None:
        if named is None:
            tiers.append(partial(_standard, known))
        tiers.append(partial(_others, known))
    if not tiers:
        text = f"says the space group {symbol!r}, which is not understood." if symbol else "says no symmetry."
        raise InputError(where, text, "Give _space_group_symop_operation_xyz or the H-M symbol.")
    return Symmetry(tiers, number, symbol, named)


@lru_cache(maxsize=4096)
def operations_of(triplets: tuple[str, ...]) -> Operations:
    """The operations of triplets such as ``-x+1/2,y,z``, quoted as in a CIF or not.

    Raises:
        ValueError: if one is none.
    """
    triplets = tuple(triplet.strip("'\" \n;") for triplet in triplets)
    matrices = np.array([parse_operation(triplet) for triplet in triplets])
    try:
        group = gemmi.GroupOps([gemmi.Op(triplet) for triplet in triplets])
        found = gemmi.find_spacegroup_by_ops(group)
    except (ValueError, RuntimeError):  # gemmi knows translations in 24ths only; others make no standard group
        found = None
    return Operations(matrices, found.number if found else None, found.centring_type() if found else "")


@lru_cache(maxsize=4096)
def parse_operation(triplet: str) -> NDArray[np.float64]:
    """A symmetry operation such as ``-x+1/2, y, 2x-z`` as a matrix, shape (3, 4).

    Raises:
        ValueError: if it is none.
    """
    matrix = np.zeros((3, 4))
    parts = re.sub(r"\s", "", triplet).lower().split(",")
    for row, part in enumerate(parts):
        if row > 2 or not part or TERM.sub("", part):
            raise ValueError(repr(triplet))
        for sign, value, below, axis in TERM.findall(part):
            size = float(value or 1) / float(below or 1) * (-1 if sign == "-" else 1)
            matrix[row, "xyz".index(axis) if axis else 3] += size
    if len(parts) != 3 or abs(np.linalg.det(matrix[:, :3])) < 0.5:
        raise ValueError(repr(triplet))
    return matrix


def _of_group(group: gemmi.SpaceGroup) -> Operations:
    return operations_of(tuple(op.triplet() for op in group.operations()))


@lru_cache(maxsize=512)
def _hall(symbol: str) -> Operations | None:
    """By the Hall symbol, which names the setting; None where it is none."""
    if not symbol:
        return None
    try:
        return operations_of(tuple(op.triplet() for op in gemmi.symops_from_hall(symbol)))
    except (ValueError, RuntimeError):
        return None


def _setting(group: gemmi.SpaceGroup, said: bool) -> Setting:
    choice = {"1": ", origin choice 1", "2": ", origin choice 2", "H": ", hexagonal axes", "R": ", rhombohedral axes"}
    return Setting(_of_group(group), group.hm + choice.get(group.ext, ""), said)


@lru_cache(maxsize=1024)
def _group(symbol: str) -> tuple[gemmi.SpaceGroup | None, str]:
    """The group of a Hermann–Mauguin symbol, and its suffix: letters and digits of origin and axes."""
    suffix = SUFFIX.search(symbol)
    if suffix and suffix.start() > 0:
        found = gemmi.find_spacegroup_by_name(symbol[: suffix.start()].replace("_", ""))
        if found is not None:
            return found, f"{suffix[1] or ''}{suffix[2] or ''}".translate(str.maketrans("SZ", "12"))
    return (gemmi.find_spacegroup_by_name(symbol.replace("_", "")) if symbol else None), ""


@lru_cache(maxsize=1024)
def _named(symbol: str) -> Sequence[Setting]:
    """The settings of a Hermann–Mauguin symbol that is known: the one that a suffix says, or all."""
    group, suffix = _group(symbol)
    assert group is not None
    same = [g for g in gemmi.spacegroup_table() if g.number == group.number and g.hm == group.hm]
    meant = [g for g in same if g.ext in suffix and g.ext != "\0"]
    return [_setting(g, len(meant or same) == 1) for g in meant or same]


@lru_cache(maxsize=256)
def _standard(number: int) -> Sequence[Setting]:
    """The standard setting of a number, with all its origins and axes."""
    standard = gemmi.find_spacegroup_by_number(number)
    same = [g for g in gemmi.spacegroup_table() if g.number == number and g.hm == standard.hm]
    return [_setting(group, len(same) == 1) for group in same]


@lru_cache(maxsize=256)
def _others(number: int) -> Sequence[Setting]:
    """All settings of a number that the tables have."""
    return [_setting(group, False) for group in gemmi.spacegroup_table() if group.number == number]
