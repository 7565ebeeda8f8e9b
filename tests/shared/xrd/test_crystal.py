"""Space groups and names of crystal systems."""

from __future__ import annotations

import pytest
import spglib

from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CLASS_INDEX, CRYSTAL_SYSTEMS, N_CLASSES, CrystalSystem


def test_every_space_group_against_its_point_group() -> None:
    """spglib's tables: point group → crystal system (International Tables A)."""
    systems = {
        "triclinic": "1 -1",
        "monoclinic": "2 m 2/m",
        "orthorhombic": "222 mm2 mmm",
        "tetragonal": "4 -4 4/m 422 4mm -42m -4m2 4/mmm",
        "trigonal": "3 -3 32 3m -3m",
        "hexagonal": "6 -6 6/m 622 6mm -6m2 -62m 6/mmm",
        "cubic": "23 m-3 432 -43m m-3m",
    }
    of_point_group = {symbol: system for system, symbols in systems.items() for symbol in symbols.split()}
    seen = set()
    for hall in range(1, 531):
        kind = spglib.get_spacegroup_type(hall)
        assert kind is not None
        seen.add(kind.number)
        assert CrystalSystem.from_space_group(kind.number) == of_point_group[kind.pointgroup_international]
    assert seen == set(range(1, 231))


@pytest.mark.parametrize("number", [0, 231, -1])
def test_no_space_group(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        CrystalSystem.from_space_group(number)


def test_names() -> None:
    assert CrystalSystem.parse(" Cubic\n", "here") is CrystalSystem.CUBIC
    with pytest.raises(InputError, match=r"row 3: unknown crystal_system 'rhombohedral'.*trigonal"):
        CrystalSystem.parse("rhombohedral", "row 3")


def test_classes() -> None:
    assert N_CLASSES == 7 and list(CLASS_INDEX.values()) == list(range(7))
    assert [CRYSTAL_SYSTEMS[CLASS_INDEX[s]] for s in CLASS_INDEX] == list(CrystalSystem)
