from collections import Counter
from pathlib import Path

import gemmi
import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from pyxtal.symmetry import Group as Tables

from components.collect_structures.builtin import RADIUS
from components.collect_structures.crystals import Material, check_crystal
from components.collect_structures.random_crystals import (
    COMPOUNDS,
    CONTACT_RANGE,
    LARGE,
    PACKING,
    SHARES,
    low_symmetry,
    random_crystal,
    random_crystals,
    space_group,
)
from components.collect_structures.stage import STAGE
from imitation_refinement.data.contracts import PATTERNS, STRUCTURES, read_table
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

GROUPS = (1, 2, 5, 15, 43, 62, 98, 142, 146, 148, 166, 167, 194, 199, 206, 214, 227, 228, 230)


@pytest.fixture(scope="module")
def made() -> list[Material]:
    return list(random_crystals(28, seed=1))


def as_structure(material: Material) -> Structure:
    crystal = material.crystal
    return Structure(crystal.lattice, crystal.numbers, crystal.positions)


def modulo(points: np.ndarray) -> set[tuple[float, ...]]:
    """Points of the cell as a set, away from its edges."""
    return {tuple(row) for row in np.round((points + 0.000123) % 1.0, 5)}


@pytest.mark.parametrize("number", GROUPS)
def test_wyckoff_positions_are_orbits_of_the_group(number: int) -> None:
    """Against gemmi's operations: the images of any atom of a position are all its atoms."""
    group, first = space_group(number), gemmi.find_spacegroup_by_number(number)
    standard = gemmi.find_spacegroup_by_name(f"{first.hm}:2") if first.ext == "1" else first  # origin choice 2
    operations = standard.operations()
    point = np.random.default_rng(number).uniform(0, 1, 3)
    back = group.primitive  # fractional in the primitive cell times this: in the conventional cell
    centring = abs(round(1 / np.linalg.det(group.primitive)))
    assert centring == len(operations.cen_ops)
    assert [p.letter for p in group.positions] == [w.letter for w in Tables(number).Wyckoff_positions]
    assert len(group.positions[0].maps) == len(operations.sym_ops)
    for position in group.positions:
        atoms = position.maps[:, :, :3] @ point + position.maps[:, :, 3]
        images = [operation.apply_to_xyz(list(atoms[0] @ back)) for operation in operations]
        assert modulo(atoms) == modulo(np.array(images) @ np.linalg.inv(back))
        assert len(modulo(atoms)) == len(atoms)
        moved = position.maps[:, :, :3] @ (point + 0.1) + position.maps[:, :, 3]
        assert position.fixed == (modulo(moved) == modulo(atoms))


def test_large_ones_are_of_low_symmetry() -> None:
    made = list(low_symmetry(50, seed=3))
    counts = Counter(m.crystal_system for m in made)
    assert [counts[system] for system in CRYSTAL_SYSTEMS] == [round(50 * share) for share in SHARES]
    sizes = [len(m.crystal.numbers) for m in made]
    assert np.median(sizes) > COMPOUNDS.atoms and max(sizes) <= LARGE.most
    assert [m.material_id for m in low_symmetry(50, seed=3)] == [m.material_id for m in made]
    for material in made[::10]:
        check_crystal(material.crystal, material.material_id)


def test_labels_are_what_pymatgen_finds(made: list[Material]) -> None:
    for material in made:
        analyzer = SpacegroupAnalyzer(as_structure(material), symprec=0.01, angle_tolerance=-1)
        assert analyzer.get_space_group_number() == material.space_group
        assert as_structure(material).composition.reduced_formula == material.formula
    assert np.mean([f"space group {m.space_group} drawn" in m.source for m in made]) > 0.5


def test_crystals_are_sensible(made: list[Material]) -> None:
    assert Counter(m.crystal_system for m in made) == dict.fromkeys(CRYSTAL_SYSTEMS, 4)
    for material in made:
        check_crystal(material.crystal, material.material_id)
        structure = as_structure(material)
        radii = RADIUS[list(structure.atomic_numbers)]
        packing = 4 / 3 * np.pi * (radii**3).sum() / structure.volume
        assert PACKING[0] < packing < PACKING[1]
        assert len(structure) <= COMPOUNDS.most
        pairs = structure.get_neighbor_list(4.0)
        closest = (pairs[3] / (radii[pairs[0]] + radii[pairs[1]])).min()
        assert CONTACT_RANGE[0] - 1e-6 < closest < CONTACT_RANGE[1] + 1e-6
    assert len({m.material_id for m in made}) == len(made)


def test_a_crystal_depends_on_its_index_alone(made: list[Material]) -> None:
    assert [m.material_id for m in made[:10]] == [f"random-1-0-{i}" for i in range(10)]
    for index in (3, 25):  # so that processes can share the work
        alone = random_crystal(1, 0, index)
        assert alone.source == made[index].source
        np.testing.assert_array_equal(alone.crystal.positions, made[index].crystal.positions)
    assert random_crystal(2, 0, 3).formula != made[3].formula or random_crystal(1, 1, 3).formula != made[3].formula


def test_formulas_to_avoid(made: list[Material]) -> None:
    avoid = {m.formula for m in made[:7]}
    others = list(random_crystals(7, seed=1, avoid=avoid))
    assert len(others) == 7
    assert not avoid & {m.formula for m in others}
    assert list(random_crystals(0, seed=1)) == []


def test_stage(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("collected_structures", "collected_patterns", "rejected")}
    STAGE.execute(paths | {"structures": "random"}, {"n_structures": 14, "n_patterns": 7, "seed": 1})
    library = read_table(paths["collected_structures"], STRUCTURES).to_pylist()
    specimens = read_table(paths["collected_patterns"], PATTERNS).to_pylist()
    assert Counter(row["crystal_system"] for row in library) == dict.fromkeys(CRYSTAL_SYSTEMS, 2)
    assert Counter(row["crystal_system"] for row in specimens) == dict.fromkeys(CRYSTAL_SYSTEMS, 1)
    assert not {row["formula"] for row in library} & {row["formula"] for row in specimens}
