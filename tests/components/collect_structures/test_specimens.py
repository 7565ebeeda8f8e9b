from collections import Counter

import numpy as np

from components.collect_structures.crystals import Crystal, Material
from components.collect_structures.specimens import hold_out, quotas

CRYSTAL = Crystal(np.eye(3), np.array([1], np.int16), np.ones(1), np.zeros((1, 3)))


def material(index: int, formula: str, space_group: int) -> Material:
    return Material(f"m{index}", formula, space_group, CRYSTAL, "made up")


def test_whole_formulas_are_held_out() -> None:
    groups = (225, 194, 14)
    materials = [material(i, f"A{i % 60}B", groups[i % 3]) for i in range(300)]
    library, specimens = hold_out(materials, 45, seed=0)
    assert len(library) + len(specimens) == 300
    assert not {m.formula for m in library} & {m.formula for m in specimens}
    counts = Counter(m.crystal_system.value for m in specimens)
    assert set(counts.values()) == {15}
    again = hold_out(materials, 45, seed=0)[1]
    assert [m.material_id for m in specimens] == [m.material_id for m in again]
    assert [m.material_id for m in specimens] != [m.material_id for m in hold_out(materials, 45, seed=1)[1]]


def test_no_more_than_the_largest_share() -> None:
    materials = [material(i, f"A{i}B", 225) for i in range(100)]
    assert len(hold_out(materials, 1494, seed=0)[1]) == 30


def test_quotas_are_even_as_far_as_there_are_enough() -> None:
    assert quotas(Counter(cubic=100, hexagonal=100, triclinic=10), 43) == {"cubic": 20, "hexagonal": 20, "triclinic": 3}
    assert sum(quotas(Counter(cubic=100, hexagonal=90), 31).values()) == 31
