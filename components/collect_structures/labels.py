"""What a structure or pattern is called: its space group and crystal system, from what is said and what is there."""

from __future__ import annotations

from components.collect_structures.crystals import LARGE, Crystal, find_space_group, material_name
from components.collect_structures.symmetry import number_of
from imitation_refinement.data.formula import parse
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CrystalSystem


def parse_space_group(value: object, where: object) -> int | None:
    """A space group number from a table's field; None where the field is empty.

    Raises:
        InputError: if it is no number from 1 to 230.
    """
    if value is None or value == "" or value != value:  # NaN is not itself
        return None
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if number not in range(1, 231):
        raise InputError(where, f"space_group {value!r} is no number from 1 to 230.", "Correct it or leave it empty.")
    return int(number)


def check_agreement(space_group: int | None, system: CrystalSystem | None, where: object) -> CrystalSystem | None:
    """The crystal system that both say.

    Raises:
        InputError: if they contradict each other.
    """
    if space_group is None:
        return system
    implied = CrystalSystem.from_space_group(space_group)
    if system not in (None, implied):
        raise InputError(
            where,
            f"crystal_system is {system}, but space_group {space_group} is {implied}.",
            "Correct one or leave it empty.",
        )
    return implied


def space_group_of(crystal: Crystal, said: int | None, where: object) -> int:
    """The space group that the source says, else the one that spglib finds, or moyo, for large cells.

    Raises:
        InputError: if nobody knows.
    """
    number = said or (number_of(crystal) if len(crystal.numbers) > LARGE else find_space_group(crystal))
    if number is None:
        raise InputError(where, "says no space group, and spglib finds none.", "Add space_group.")
    return number


def named(text: str, where: object) -> str:
    """The name of the material that a formula stands for, however it is written.

    Raises:
        InputError: if it is no formula, or does not say its amounts.
    """
    try:
        return material_name(parse(text))
    except ValueError as error:
        remedy = "Correct the formula, leave it empty, or give the structure."
        raise InputError(where, f"formula {text!r} is not understood: {error}.", remedy) from None
