from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import spglib
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from components.collect_structures import derived as module
from components.collect_structures.crystals import Crystal, Material, formula
from components.collect_structures.derived import Cell, Operations, derived_crystal, derived_crystals
from components.collect_structures.stage import tables
from imitation_refinement.data.contracts import STRUCTURES, to_table
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, CrystalSystem

PEROVSKITE = Structure.from_spacegroup(
    "Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
)
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
SPINEL = Structure.from_spacegroup(
    "Fd-3m:2", Lattice.cubic(8.08), ["Mg", "Al", "O"], [[0.125, 0.125, 0.125], [0.5, 0.5, 0.5], [0.262, 0.262, 0.262]]
)
WURTZITE = Structure.from_spacegroup(
    "P6_3mc", Lattice.hexagonal(3.25, 5.207), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
)


def material(structure: Structure, name: str) -> Material:
    numbers = np.array([site.specie.Z for site in structure], np.int16)
    crystal = Crystal(structure.lattice.matrix, numbers, np.ones(len(numbers)), structure.frac_coords % 1.0)
    return Material(name, formula(crystal), SpacegroupAnalyzer(structure).get_space_group_number(), crystal, "a test")


def as_structure(crystal: Crystal) -> Structure:
    return Structure(crystal.lattice, crystal.numbers, crystal.positions)


@pytest.fixture(scope="module")
def parents() -> pa.Table:
    given = {"perovskite": PEROVSKITE, "rutile": RUTILE, "spinel": SPINEL, "wurtzite": WURTZITE}
    return pa.concat_tables(tables([material(structure, name) for name, structure in given.items()]))


@pytest.fixture(scope="module")
def made(parents: pa.Table) -> list[Material]:
    return list(derived_crystals(parents, 60, seed=1))


def cell(structure: Structure) -> Cell:
    return Cell(structure.lattice.matrix, structure.frac_coords, np.array([s.specie.Z for s in structure], np.int16))


def test_labels_are_what_pymatgen_finds(made: list[Material]) -> None:
    for one in made:
        found = SpacegroupAnalyzer(as_structure(one.crystal), symprec=0.01, angle_tolerance=-1)
        assert found.get_space_group_number() == one.space_group, one.material_id
        assert found.get_crystal_system() == one.crystal_system
        assert one.formula == formula(one.crystal)


def test_as_many_of_each_system_as_were_wanted(made: list[Material]) -> None:
    counts = Counter(one.crystal_system for one in made)
    wanted = {system: share * 60 for system, share in zip(CRYSTAL_SYSTEMS, module.SHARES, strict=True)}
    assert all(counts[system] <= np.ceil(number) for system, number in wanted.items())
    assert counts[CrystalSystem.TRICLINIC] >= 15 and counts[CrystalSystem.MONOCLINIC] >= 15
    assert not counts[CrystalSystem.CUBIC]
    assert len({one.material_id for one in made}) == len(made)


def test_the_same_again(parents: pa.Table) -> None:
    first, again, others = (list(derived_crystals(parents, 10, seed)) for seed in (1, 1, 2))
    for one, other in zip(first, again, strict=True):
        assert one.material_id == other.material_id
        assert np.array_equal(one.crystal.positions, other.crystal.positions)
        assert np.array_equal(one.crystal.lattice, other.crystal.lattice)
    assert [one.formula for one in others] != [one.formula for one in first]


def test_what_is_made_looks_like_its_parent(made: list[Material], parents: pa.Table) -> None:
    """Atoms of one kind on the parent's sites: most are where they were, as one that knows no symmetry says."""
    given = {row["material_id"]: row for row in parents.to_pylist()}
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=12, primitive_cell=True, attempt_supercell=True)
    alike = []
    for one in made:
        row = given[one.source.removeprefix("derived from ")]
        parent = Structure(
            np.reshape(row["lattice"], (3, 3)), ["Po"] * len(row["atomic_number"]), np.reshape(row["position"], (-1, 3))
        )
        own = Structure(one.crystal.lattice, ["Po"] * len(one.crystal.numbers), one.crystal.positions)
        if len(own) % len(parent.get_primitive_structure()) == 0:  # else an orbit is empty
            alike.append(matcher.fit(parent, own, symmetric=True))
    assert len(alike) > 30 and np.mean(alike) > 0.8


def test_no_atoms_are_nearer_than_in_compounds(made: list[Material]) -> None:
    for one in made:
        distances = as_structure(one.crystal).distance_matrix
        np.fill_diagonal(distances, np.inf)
        assert distances.min() > module.CLOSEST * 1.9, one.material_id


def test_an_orbit_may_be_left_empty_or_take_another_element(made: list[Material], parents: pa.Table) -> None:
    known = {row["material_id"]: row["formula"] for row in parents.to_pylist()}
    other = [one for one in made if one.formula != known[one.source.removeprefix("derived from ")]]
    assert 0.3 < len(other) / len(made) < 0.8


@pytest.mark.parametrize("structure", [PEROVSKITE, RUTILE, WURTZITE])
def test_operations_are_those_of_spglib(structure: Structure) -> None:
    own = cell(structure).repeated((2, 1, 1))
    found = Operations.of(own)
    assert found is not None
    expected = spglib.get_symmetry((own.lattice, own.positions, own.numbers), 0.01)
    assert len(found.rotations) == len(expected["rotations"])
    for rotation, translation, goes_to in zip(
        expected["rotations"], expected["translations"], found.goes_to, strict=True
    ):
        image = own.positions @ rotation.T + translation - own.positions[goes_to]
        assert np.abs(image - np.rint(image)).max() < 1e-6
        assert np.array_equal(own.numbers, own.numbers[goes_to])


def test_a_subgroup_is_closed() -> None:
    whole = Operations.of(cell(SPINEL).primitive() or cell(SPINEL))
    assert whole is not None
    assert len(whole.subgroup([]).rotations) == 1
    assert len(whole.subgroup(list(range(len(whole.rotations)))).rotations) == len(whole.rotations) == 48
    for few in ([5], [7, 20], [3, 11, 40]):
        kept = whole.subgroup(few)
        assert len(whole.rotations) % len(kept.rotations) == 0  # Lagrange
        known = {(r.tobytes(), g.tobytes()) for r, g in zip(kept.rotations, kept.goes_to, strict=True)}
        for r, g in zip(kept.rotations, kept.goes_to, strict=True):
            for other, to in zip(kept.rotations, kept.goes_to, strict=True):
                assert ((r @ other).tobytes(), g[to].tobytes()) in known


def test_a_larger_cell_is_the_same_crystal() -> None:
    larger = cell(RUTILE).repeated((2, 1, 3))
    assert len(larger.numbers) == 36
    assert StructureMatcher().fit(RUTILE, Structure(larger.lattice, larger.numbers, larger.positions))
    assert larger.distances().min() == pytest.approx(cell(RUTILE).distances().min())


def test_with_every_operation_kept_the_symmetry_is_that_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many at random that they give the group itself: atoms on fixed sites stay, the cell changes its size alone."""
    monkeypatch.setattr(module, "CELLS", [(1, 1, 1)])
    monkeypatch.setattr(module, "DECORATED", 0.0)
    found = derived_crystal(material(PEROVSKITE, "parent").crystal, 40, np.random.default_rng(0))
    assert found is not None
    assert SpacegroupAnalyzer(as_structure(found)).get_space_group_number() == 221


def test_parents_that_give_none(parents: pa.Table) -> None:
    assert list(derived_crystals(parents.slice(0, 0), 10, seed=0)) == []
    rows = parents.to_pylist()
    mixed = [row | {"occupancy": [0.5] * len(row["occupancy"])} for row in rows]
    columns = {name: [row[name] for row in mixed] for name in STRUCTURES.names}
    assert list(derived_crystals(to_table(columns, STRUCTURES), 10, seed=0)) == []
