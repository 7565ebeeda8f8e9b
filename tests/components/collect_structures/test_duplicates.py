import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from components.collect_structures.crystals import Material, formula, from_pymatgen
from components.collect_structures.duplicates import mark_duplicates
from components.collect_structures.symmetry import primitive_lattice

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
TILTED = Structure.from_spacegroup(
    "C2/m", Lattice.monoclinic(9.8, 4.1, 6.9, 112), ["Na", "Cl"], [[0.1, 0, 0.2], [0.4, 0, 0.7]]
)


def material(name: str, structure: Structure, number: int) -> Material:
    crystal = from_pymatgen(structure.as_dict())
    return Material(name, formula(crystal), number, crystal, "x")


def sources(*materials: Material) -> list[str]:
    return [m.source for m in mark_duplicates(list(materials))]


@pytest.mark.parametrize(("structure", "number"), [(SALT, 225), (TILTED, 12)], ids=["cubic", "monoclinic"])
def test_the_same_in_every_setting(structure: Structure, number: int) -> None:
    primitive = structure.get_primitive_structure()
    sheared = structure.copy()
    sheared.make_supercell([[1, 0, 0], [2, 1, 0], [0, 1, 1]])
    turned = Structure(structure.lattice.matrix[[2, 0, 1]], structure.species, structure.frac_coords[:, [2, 0, 1]])
    relaxed = primitive.copy()
    relaxed.scale_lattice(primitive.volume * 1.009)
    settings = [structure, primitive, sheared, turned, structure * (2, 1, 1), relaxed]
    found = sources(*(material(f"m{i}", s, number) for i, s in enumerate(settings)))
    assert found == ["x", *["x; duplicate of m0"] * 5]


def test_the_primitive_cell_of_salt() -> None:
    """The face-centred cubic lattice: edges a/√2, a quarter of the volume."""
    lattice = primitive_lattice(from_pymatgen((SALT * (2, 1, 1)).as_dict()))
    assert lattice is not None
    assert np.linalg.norm(lattice, axis=1) == pytest.approx([5.64 / 2**0.5] * 3)
    assert abs(np.linalg.det(lattice)) == pytest.approx(5.64**3 / 4)


def test_a_twin_that_has_lost_its_hydrogen_is_said_to_be_one_but_for_it() -> None:
    cell = Lattice.hexagonal(3.322, 4.734)  # Mn(OH)2
    bare = Structure.from_spacegroup("P-3m1", cell, ["Mn", "O"], [[0, 0, 0], [1 / 3, 2 / 3, 0.22]])
    whole = Structure.from_spacegroup(
        "P-3m1", cell, ["Mn", "O", "H"], [[0, 0, 0], [1 / 3, 2 / 3, 0.22], [1 / 3, 2 / 3, 0.43]]
    )
    wider = whole.copy()
    wider.scale_lattice(whole.volume * 1.05)
    found = sources(*(material(f"m{i}", s, 164) for i, s in enumerate((bare, whole, bare, whole, wider))))
    duplicates = ["x; but for hydrogen a duplicate of m0", "x; duplicate of m0", "x; duplicate of m1"]
    assert found == ["x", *duplicates, "x"]


def test_a_solid_solution_in_its_primitive_and_its_conventional_cell_is_one() -> None:
    mixed = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.2), [{"Ba": 0.7, "Co": 0.3}, "S"], [[0] * 3, [0.5] * 3])
    pair = material("a", mixed, 225), material("b", mixed.get_primitive_structure(), 225)
    assert {m.formula for m in pair} == {"Ba7Co3S10"}
    assert sources(*pair) == ["x", "x; duplicate of a"]


def test_others_are_none() -> None:
    wider = SALT.copy()
    wider.scale_lattice(SALT.volume * 1.02)
    other = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Br"], [[0] * 3, [0.5] * 3])
    longer = TILTED.copy()
    longer.lattice = Lattice(TILTED.lattice.matrix * np.array([[1.03], [1 / 1.03], [1]]))  # of the same volume
    found = sources(
        material("a", SALT, 225),
        material("b", wider, 225),
        material("c", other, 225),
        material("d", SALT, 221),
        material("e", TILTED, 12),
        material("f", longer, 12),
    )
    assert found == ["x"] * 6
