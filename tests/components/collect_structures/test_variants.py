from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from components.collect_structures import builtin, variants
from components.collect_structures.crystals import Crystal, Material, find_space_group, formula, from_pymatgen
from components.collect_structures.stage import STAGE
from components.collect_structures.symmetry import average, symmetric
from components.collect_structures.variants import SHIFT, STRAIN, _draw, parent_variants
from imitation_refinement.data.contracts import PATTERNS, STRUCTURES, read_table
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]]
)
QUARTZ = Structure.from_spacegroup(
    "P3_221", Lattice.hexagonal(4.913, 5.405), ["Si", "O"], [[0.47, 0, 2 / 3], [0.413, 0.267, 0.786]]
)
SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
GYPSUM_LIKE = Structure.from_spacegroup(
    "C2/c",
    Lattice.monoclinic(6.28, 15.2, 5.67, 114.1),
    ["Ca", "S", "O"],
    [[0.5, 0.08, 0.25], [0, 0.08, 0.75], [0.96, 0.13, 0.55]],
)
SKEW = Structure.from_spacegroup(
    "P-1", Lattice.from_parameters(5, 6, 7, 80, 95, 103), ["Na", "Cl"], [[0.1, 0.2, 0.3], [0.6, 0.3, 0.8]]
)
BARITE_LIKE = Structure.from_spacegroup(
    "Pnma",
    Lattice.orthorhombic(8.9, 5.5, 7.2),
    ["Ba", "S", "O"],
    [[0.18, 0.25, 0.16], [0.06, 0.75, 0.19], [0.08, 0.97, 0.31]],
)
WURTZITE = Structure.from_spacegroup(
    "P6_3mc", Lattice.hexagonal(3.82, 6.26), ["Zn", "S"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]]
)
# free cell parameters and free coordinates, from the International Tables
FREEDOM = [
    (SKEW, 2, 6, 6),
    (GYPSUM_LIKE, 15, 4, 5),  # Ca 4e, S 4e, O 8f
    (BARITE_LIKE, 62, 3, 7),  # Ba 4c, S 4c, O 8d
    (RUTILE, 136, 2, 1),
    (QUARTZ, 154, 2, 4),
    (WURTZITE, 186, 2, 2),
    (SALT, 225, 1, 0),
]


def material(structure: Structure, number: int, name: str = "parent") -> Material:
    crystal = from_pymatgen(structure.as_dict())
    return Material(name, formula(crystal), number, crystal, "test")


def crystals(table: pa.Table) -> list[Crystal]:
    return [
        Crystal(
            np.reshape(row["lattice"], (3, 3)),
            np.array(row["atomic_number"], np.int16),
            np.array(row["occupancy"]),
            np.reshape(row["position"], (-1, 3)),
        )
        for row in table.to_pylist()
    ]


def rank(rows: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(rows.reshape(len(rows), -1), tol=1e-6))


@pytest.mark.parametrize(("structure", "number", "cell", "coordinates"), FREEDOM, ids=lambda x: str(x)[:12])
def test_all_that_is_free_varies_and_nothing_else(
    structure: Structure, number: int, cell: int, coordinates: int
) -> None:
    found = symmetric(from_pymatgen(structure.as_dict()), number)
    assert found is not None
    lattices, positions, _ = _draw(found, 40, np.random.default_rng(0))
    strains = np.linalg.solve(found.crystal.lattice, lattices) - np.eye(3)
    np.testing.assert_allclose(strains, np.swapaxes(strains, 1, 2), atol=1e-12)
    assert rank(strains) == cell
    assert rank(positions - found.site_positions) == coordinates
    assert np.abs(np.linalg.eigvalsh(strains)).max() <= STRAIN
    assert np.linalg.norm((positions - found.site_positions) @ found.crystal.lattice, axis=-1).max() <= SHIFT


@pytest.mark.parametrize(("structure", "number"), [case[:2] for case in FREEDOM], ids=lambda x: str(x)[:12])
def test_variants_have_the_space_group_exactly(structure: Structure, number: int) -> None:
    rng = np.random.default_rng(1)
    cell = Lattice(structure.lattice.matrix * (1 + rng.uniform(-1e-4, 1e-4, (3, 3))))
    places = structure.frac_coords + rng.uniform(-1e-4, 1e-4, (len(structure), 3))
    shaken = Structure(cell, structure.species, places)
    for crystal in crystals(parent_variants(material(shaken, number), 4, seed=0)):
        made = Structure(crystal.lattice, crystal.numbers, crystal.positions)
        for symprec in (0.01, 1e-5):  # the parent has it within 0.01 Å, the variants without a flaw
            assert SpacegroupAnalyzer(made, symprec, angle_tolerance=-1).get_space_group_number() == number
        assert made.composition == structure.composition
        assert (
            made.distance_matrix[np.triu_indices(len(made), 1)].min()
            > 0.85 * structure.distance_matrix[np.triu_indices(len(made), 1)].min()
        )


def test_rutile_by_hand() -> None:
    """Ti has no freedom; O at (x, x, 0) moves along the diagonal, its four images as the group says."""
    table = parent_variants(material(RUTILE, 136), 20, seed=0)
    for crystal in crystals(table):
        a, b, c = np.linalg.norm(crystal.lattice, axis=1)
        assert a == pytest.approx(b)
        assert abs(a / 4.594 - 1) <= STRAIN
        assert abs(c / 2.959 - 1) <= STRAIN
        np.testing.assert_allclose(crystal.positions[:2] % 1 % 1, [[0] * 3, [0.5] * 3], atol=1e-9)
        x = crystal.positions[2, 0]
        np.testing.assert_allclose(crystal.positions[2], [x, x, 0], atol=1e-9)
        expected = np.array([[x, x, 0], [-x, -x, 0], [0.5 - x, 0.5 + x, 0.5], [0.5 + x, 0.5 - x, 0.5]]) % 1
        found = crystal.positions[2:] % 1
        order = [np.lexsort(rows.round(6).T) for rows in (found, expected)]
        np.testing.assert_allclose(found[order[0]], expected[order[1]], atol=1e-9)
    assert table["source"][0].as_py().startswith("test; variant of parent: strain of ")


def test_average_over_a_group() -> None:
    """About a fourfold axis along z, by hand: xx and yy become their mean, what leads from z to the plane goes."""
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    group = np.array([np.linalg.matrix_power(quarter, n) for n in range(4)])
    tensor = np.array([[1.0, 2, 3], [2, 5, 4], [3, 4, 6]])
    np.testing.assert_allclose(average(tensor, group), np.diag([3, 3, 6]), atol=1e-12)
    np.testing.assert_allclose(average(np.array([tensor, 2 * tensor]), group)[1], np.diag([6, 6, 12]), atol=1e-12)


def test_symmetry_that_comes_on_top_is_drawn_again() -> None:
    near = Structure.from_spacegroup("Pmmm", Lattice.orthorhombic(4, 4.03, 6), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    parent = material(near, 47)
    found = symmetric(parent.crystal, 47)
    assert found is not None
    lattices, positions, _ = _draw(found, 100, np.random.default_rng(0))
    numbers = [
        find_space_group(Crystal(lattice, parent.crystal.numbers, np.ones(2), places))
        for lattice, places in zip(lattices, positions, strict=True)
    ]
    assert set(numbers) == {47, 123}  # some of the draws are tetragonal
    table = parent_variants(parent, 100, seed=0)
    assert table.num_rows == 100
    assert {find_space_group(crystal) for crystal in crystals(table)} == {47}


def test_entries_of_a_mixed_site_move_together() -> None:
    mixed = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", {"O": 0.6, "F": 0.4}], [[0] * 3, [0.305, 0.305, 0]]
    )
    for crystal in crystals(parent_variants(material(mixed, 136), 5, seed=0)):
        oxygen, fluorine = crystal.positions[crystal.numbers == 8], crystal.positions[crystal.numbers == 9]
        np.testing.assert_allclose(oxygen, fluorine)
        assert find_space_group(crystal) == 136
        assert formula(crystal) == formula(from_pymatgen(mixed.as_dict()))


def test_each_parent_gives_as_many_and_always_the_same() -> None:
    parents = [material(s, n, f"m{i}") for i, (s, n, *_) in enumerate(FREEDOM)]
    table = pa.concat_tables(variants.variants([(parents[:3], 11), (parents[3:], 4)], seed=5))
    names = table["material_id"].to_pylist()
    assert len(set(names)) == 15
    counts = [sum(name.startswith(f"m{i}#") for name in names) for i in range(7)]
    assert sum(counts[:3]) == 11
    assert set(counts[:3]) == {3, 4}
    assert counts[3:] == [1, 1, 1, 1]
    assert set(zip(table["formula"].to_pylist(), table["space_group"].to_pylist(), strict=True)) == {
        (m.formula, m.space_group) for m in parents
    }
    again = pa.concat_tables(variants.variants([(parents[:3], 11), (parents[3:], 4)], seed=5))
    assert again.equals(table)
    alone = parent_variants(parents[6], 1, seed=5)
    assert alone.equals(table.slice(14, 1))
    assert not parent_variants(parents[6], 1, seed=6).equals(alone)


def test_parents_without_their_symmetry_give_none(capsys: pytest.CaptureFixture[str]) -> None:
    wrong, double = material(SALT, 221, "wrong"), material(SALT * (2, 1, 1), 225, "double")
    table = pa.concat_tables(variants.variants([([wrong, double, material(SALT, 225, "right")], 7)], seed=0))
    assert table["material_id"].to_pylist() == [f"right#{i}" for i in (1, 2, 3, 4, 5, 6, 7)]
    assert "2 structures have no variants" in capsys.readouterr().err
    with pytest.raises(InputError, match="no variant keeps the symmetry"):
        list(variants.variants([([wrong], 1)], seed=0))


def test_stage_fills_given_structures_up(tmp_path: Path) -> None:
    source = tmp_path / "given.parquet"
    given = []
    for metal in ("Li", "Mg", "Fe", "Ni"):
        for structure, *_ in FREEDOM:
            given.append(structure.copy())
            given[-1].replace_species({structure[0].specie: metal})
    columns = {
        "material_id": [f"m{i}" for i in range(28)],
        "structure_json": [structure.to_json() for structure in given],
        "space_group": [number for _, number, *_ in FREEDOM] * 4,
    }
    pq.write_table(pa.table(columns), source)
    paths = {name: tmp_path / name for name in ("collected_structures", "collected_patterns", "rejected")}
    STAGE.execute(paths | {"structures": source}, {"n_patterns": 7, "augment_to": 60})
    library = read_table(paths["collected_structures"], STRUCTURES).to_pylist()
    held_out = {row["formula"] for row in read_table(paths["collected_patterns"], PATTERNS).to_pylist()}
    parents = [row for row in library if "#" not in row["material_id"]]
    assert len(library) == 60
    assert len(parents) == 21
    assert not {row["formula"] for row in library} & held_out
    assert all("variant of" in row["source"] for row in library if row not in parents)
    STAGE.execute(paths | {"structures": source}, {"n_patterns": 7})
    assert read_table(paths["collected_structures"], STRUCTURES).num_rows == 21


def test_stage_goes_beyond_the_prototypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "MOST_PARENTS", 3)
    paths = {name: tmp_path / name for name in ("collected_structures", "collected_patterns", "rejected")}
    STAGE.execute(paths, {"n_structures": 71, "n_patterns": 7})
    library = read_table(paths["collected_structures"], STRUCTURES).to_pylist()
    systems = [row["crystal_system"] for row in library]
    assert [systems.count(system) for system in CRYSTAL_SYSTEMS] == [11, *[10] * 6]
    parents = {row["material_id"]: row for row in library if "#" not in row["material_id"]}
    assert len(parents) == 21
    for row in library:
        parent = parents[row["material_id"].split("#")[0]]
        assert (row["formula"], row["space_group"]) == (parent["formula"], parent["space_group"])
        assert row is parent or row["lattice"] != parent["lattice"]
