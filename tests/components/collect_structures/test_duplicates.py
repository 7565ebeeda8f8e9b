import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from components.collect_structures.crystals import Material, formula, from_pymatgen
from components.collect_structures.duplicates import mark_duplicates

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
