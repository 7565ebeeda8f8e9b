"""The seven crystal systems and the materials they are counted by."""

from __future__ import annotations

from bisect import bisect_left
from enum import StrEnum

from imitation_refinement.errors import InputError


class CrystalSystem(StrEnum):
    """The seven crystal systems, from lowest to highest symmetry; the order is the class index."""

    TRICLINIC = "triclinic"
    MONOCLINIC = "monoclinic"
    ORTHORHOMBIC = "orthorhombic"
    TETRAGONAL = "tetragonal"
    TRIGONAL = "trigonal"
    HEXAGONAL = "hexagonal"
    CUBIC = "cubic"

    @classmethod
    def from_space_group(cls, number: int) -> CrystalSystem:
        """Crystal system of a space group number 1 to 230 (International Tables A).

        Raises:
            ValueError: if the number is not from 1 to 230.
        """
        if not 1 <= number <= 230:
            raise ValueError(f"space group {number} is not from 1 to 230")
        return CRYSTAL_SYSTEMS[bisect_left(LAST_GROUPS, number)]

    @classmethod
    def parse(cls, text: str, where: object) -> CrystalSystem:
        """The crystal system named by ``text``, in any case and with spaces around.

        Raises:
            InputError: naming ``where`` if the name is none of the seven.
        """
        try:
            return cls(text.strip().lower())
        except ValueError:
            raise InputError(where, f"unknown crystal_system {text!r}.", f"Use one of: {', '.join(cls)}.") from None


LAST_GROUPS = (2, 15, 74, 142, 167, 194, 230)  # of each system
CRYSTAL_SYSTEMS: tuple[CrystalSystem, ...] = tuple(CrystalSystem)
CLASS_INDEX: dict[str, int] = {system.value: index for index, system in enumerate(CRYSTAL_SYSTEMS)}
N_CLASSES = len(CRYSTAL_SYSTEMS)
