"""Crystals from CIF text: read by gemmi, expanded by the file's own symmetry operations."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from components.collect_structures.crystals import ATOMIC_NUMBERS, Crystal
from imitation_refinement.errors import InputError
from imitation_refinement.files import files_in

ON_ELEMENT = 0.1  # [Å], a full site nearer to its own image than this lies on the symmetry element between them
SPLIT = 0.02  # [Å], the same for a site of at most half occupancy, which may be split about the element
FITS = 0.01  # how far operations may change the cell: half a percent of an edge, half a degree of an angle
ALIASES = {"Wat": "O", "WAT": "O"}  # water by name, as old mineral data have it
CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
SITE = ["fract_x", "fract_y", "fract_z", "?occupancy", "?label", "?type_symbol"]
OPERATIONS = ("_space_group_symop_operation_xyz", "_space_group_symop.operation_xyz", "_symmetry_equiv_pos_as_xyz")
SYMBOLS_HM = ("_space_group_name_H-M_alt", "_symmetry_space_group_name_H-M")
SYMBOLS_HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
NUMBERS = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
TERM = re.compile(r"([+-]?)(?=[\dxyz.])(\d*\.?\d*)(?:/(\d+))?\*?([xyz]?)")
REMEDY = "Correct the CIF or leave it out."


def read_blocks(text: str, where: object) -> list[gemmi.cif.Block]:
    """The blocks of a CIF that hold atoms.

    Raises:
        InputError: if the text is no CIF or no block holds atoms.
    """
    try:
        blocks = list(gemmi.cif.read_string(text))
    except (ValueError, RuntimeError) as error:
        raise InputError(where, f"is no readable CIF ({error}).", REMEDY) from None
    found = [block for block in blocks if len(block.find_loop("_atom_site_fract_x"))]
    if not found:
        raise InputError(where, "holds no atoms with coordinates.", REMEDY)
    return found


def read_single(text: str, where: object) -> tuple[Crystal, int | None]:
    """The crystal of a CIF that holds one, and the space group that it says.

    Raises:
        InputError: if there are several, or as :func:`read_blocks` and :func:`read_block`.
    """
    blocks = read_blocks(text, where)
    if len(blocks) > 1:
        raise InputError(where, f"holds {len(blocks)} structures.", "Give each a CIF of its own.")
    return read_block(blocks[0], where)


def read_block(block: gemmi.cif.Block, where: object) -> tuple[Crystal, int | None]:
    """The full unit cell of a CIF block, and the space group number that the block says.

    A block that says P 1 says nothing: programs write it where they do not know the symmetry.

    Raises:
        InputError: if there is no symmetry or one that the cell can't have, a coordinate is no number, or an element
            is unknown.
    """
    operations, number = read_symmetry(block, where)
    cell = [_number(block.find_value(f"_cell_{name}")) for name in CELL]
    if not np.isfinite(cell).all() or min(cell) <= 0:
        raise InputError(where, "has a cell length or angle that is no positive number.", REMEDY)
    lattice = np.array(gemmi.UnitCell(*cell).orth.mat.tolist()).T
    if misfit(operations, lattice) > FITS:
        shown = " ".join(f"{value:g}" for value in cell)
        raise InputError(where, f"has symmetry operations that its cell ({shown}) can't have.", REMEDY)
    listed = set(re.findall(r"[A-Z][a-z]?", block.find_value("_chemical_formula_sum") or ""))
    numbers, occupancies, orbits = [], [], []
    for row in block.find("_atom_site_", SITE):
        position = np.array([_number(row[i]) for i in range(3)])
        label, type_symbol = (_text(row[i]) if row.has(i) else "" for i in (4, 5))
        occupancy = _number(row[3]) if row.has(3) and row[3] not in ("?", ".") else 1.0
        if not np.isfinite(position).all() or not np.isfinite(occupancy):
            raise InputError(where, f"site {label!r} has a coordinate or occupancy that is no number.", REMEDY)
        numbers.append(element_of(type_symbol, label, listed, where))
        occupancies.append(occupancy)
        orbits.append(expand(operations, position, lattice, SPLIT if occupancy <= 0.5 else ON_ELEMENT))
    counts = [len(orbit) for orbit in orbits]
    crystal = Crystal(
        lattice,
        np.repeat(np.array(numbers, np.int16), counts),
        np.repeat(np.array(occupancies), counts),
        np.concatenate(orbits),
    )
    return crystal, number if number != 1 else None


def _number(text: str | None) -> float:
    """A CIF number without its standard uncertainty; NaN where it is none."""
    return float(gemmi.cif.as_number(text or "?"))


def _text(value: str) -> str:
    return gemmi.cif.as_string(value) if value not in ("?", ".") else ""


def read_symmetry(block: gemmi.cif.Block, where: object) -> tuple[NDArray[np.float64], int | None]:
    """The symmetry operations, shape (k, 3, 4), and the space group number as far as it is said.

    Operations come from their loop, else from the Hermann–Mauguin or Hall symbol, else from the number, in the
    standard setting. The number is the one that the operations have, else the one that the block says.

    Raises:
        InputError: if the block says no symmetry, or one that can't be understood.
    """
    values = [_text(block.find_value(tag) or "?") for tag in NUMBERS]
    said = next((int(v) for v in values if v.isdigit() and 1 <= int(v) <= 230), None)
    for tag in OPERATIONS:
        if triplets := tuple(_text(v) for v in block.find_values(tag)):
            try:
                operations, number = _operations(triplets)
            except ValueError as error:
                raise InputError(where, f"has an unknown symmetry operation: {error}.", REMEDY) from None
            if number == 1 and said not in (None, 1):
                raise InputError(where, f"lists only x,y,z but says space group {said}.", REMEDY)
            return operations, number or said
    found = _named_group(block)
    if found is None and said is not None:
        found = gemmi.find_spacegroup_by_number(said)
    if found is None:
        raise InputError(
            where, "says no symmetry that is understood.", "Give _space_group_symop_operation_xyz or the H-M symbol."
        )
    return _operations(tuple(op.triplet() for op in found.operations()))[0], found.number


def _named_group(block: gemmi.cif.Block) -> gemmi.SpaceGroup | None:
    """The space group by its Hall symbol, which names the setting, or else by its Hermann–Mauguin symbol."""
    for tag in SYMBOLS_HALL:
        if name := _text(block.find_value(tag) or "?"):
            try:
                return gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(name))
            except (ValueError, RuntimeError):  # no Hall symbol: the other names may do
                break
    alpha, gamma = (_number(block.find_value(f"_cell_angle_{name}")) for name in ("alpha", "gamma"))
    for tag in SYMBOLS_HM:
        if name := _text(block.find_value(tag) or "?"):
            return gemmi.find_spacegroup_by_name(name, alpha, gamma)
    return None


@lru_cache(maxsize=4096)
def _operations(triplets: tuple[str, ...]) -> tuple[NDArray[np.float64], int | None]:
    matrices = np.array([parse_operation(triplet) for triplet in triplets])
    try:
        found = gemmi.find_spacegroup_by_ops(gemmi.GroupOps([gemmi.Op(triplet) for triplet in triplets]))
    except (ValueError, RuntimeError):  # gemmi knows translations in 24ths only; others make no standard group
        found = None
    return matrices, found.number if found else None


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


def misfit(operations: NDArray[np.float64], lattice: NDArray[np.float64]) -> float:
    """How far operations change a cell that they should leave as it is: |Wᵀ G W − G|, in units of the edges' products.

    G is the metric tensor of the lattice, W an operation's rotation; International Tables A, section 1.3.2.

    Args:
        operations: rotation and translation in fractional coordinates, shape (k, 3, 4).
        lattice: rows a, b, c [Å].
    """
    metric, rotations = lattice @ lattice.T, operations[:, :, :3]
    edges = np.sqrt(np.diag(metric))
    change = rotations.transpose(0, 2, 1) @ metric @ rotations - metric
    return float(np.abs(change / np.outer(edges, edges)).max())


def expand(
    operations: NDArray[np.float64],
    position: NDArray[np.float64],
    lattice: NDArray[np.float64],
    tolerance: float = ON_ELEMENT,
) -> NDArray[np.float64]:
    """All equivalent positions in the cell, each once, shape (m, 3).

    The operations that leave the position where it is, within the tolerance, put it exactly on their common element
    (the mean of its images is fixed by all of them). Its images then coincide exactly, or, where the operations are
    rounded (pymatgen writes translations such as 357/926), nearly.

    Args:
        operations: rotation and translation in fractional coordinates, shape (k, 3, 4).
        position: fractional coordinates, shape (3,).
        lattice: rows a, b, c [Å].
        tolerance: [Å].
    """
    step = operations[:, :, :3] @ position + operations[:, :, 3] - position
    step -= np.round(step)
    here = np.linalg.norm(step @ lattice, axis=1) < tolerance
    exact = position + step[here].mean(axis=0) if here.any() else position
    images = (operations[:, :, :3] @ exact + operations[:, :, 3]) % 1.0
    # The odd shift keeps decimal and simple fractions, 0 and 1 above all, away from the edges of the cells.
    cells = np.floor((images + 0.000123457) % 1.0 * 10_000).astype(np.int64)
    _, first = np.unique(cells @ np.array([10**10, 10**5, 1]), return_index=True)
    images = images[np.sort(first)]
    if len(images) * here.sum() == len(operations):
        return images
    step = images[:, None] - images[None]
    near = np.linalg.norm((step - np.round(step)) @ lattice, axis=-1) < tolerance
    return images[~np.triu(near, 1).any(axis=0)]


def element_of(type_symbol: str, label: str, listed: set[str], where: object) -> int:
    """Atomic number of a site, from its type symbol or else its label.

    Labels are read with their case (``BI`` is a boron, ``Bi1`` a bismuth); where a formula lists the elements, the
    first reading that it lists is taken. Deuterium counts as hydrogen.

    Raises:
        InputError: if no element can be read.
    """
    typed = re.match(r"[A-Za-z]{0,2}", type_symbol)
    symbol = typed[0].capitalize() if typed else ""
    if symbol in ATOMIC_NUMBERS:
        return ATOMIC_NUMBERS[symbol]
    letters = re.match(r"[A-Za-z]*", label or type_symbol)
    name = letters[0] if letters else ""
    readings = [ALIASES.get(name[:3], ""), name[:2], name[:1], name[:2].capitalize()]
    known = [reading for reading in readings if reading in ATOMIC_NUMBERS]
    for reading in [r for r in known if r in listed] + known:
        return ATOMIC_NUMBERS[reading]
    raise InputError(where, f"has the unknown element {type_symbol or label!r}.", REMEDY)


def cif_files(folder: Path) -> list[Path]:
    """The CIFs of a folder and the folders in it, sorted.

    Raises:
        InputError: if there is none.
    """
    files = files_in(folder, (".cif",), deep=True)
    if not files:
        raise InputError(folder, "is a folder without CIFs.", "Put .cif files there.")
    return files
