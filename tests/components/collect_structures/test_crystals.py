from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import ArrayLike
from pymatgen.core import Composition, Lattice, Structure

from components.collect_structures.crystals import (
    CLOSEST,
    Crystal,
    check_crystal,
    close_pairs,
    find_space_group,
    formula,
    from_pymatgen,
    material_name,
)
from imitation_refinement.errors import InputError

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
MIXED = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), [{"Na": 0.7, "K": 0.3}, "Cl"], [[0] * 3, [0.5] * 3])


def test_pymatgen_dictionary_is_read_as_pymatgen_does() -> None:
    for structure in (SALT, MIXED):
        crystal = from_pymatgen(structure.as_dict())
        np.testing.assert_allclose(crystal.lattice, structure.lattice.matrix)
        expected = [(e.Z, o, *site.frac_coords) for site in structure for e, o in site.species.items()]
        np.testing.assert_allclose(np.c_[crystal.numbers, crystal.occupancy, crystal.positions], expected)
        assert Composition(formula(crystal)).fractional_composition.almost_equals(
            structure.composition.fractional_composition
        )
        check_crystal(crystal, "x")


def test_space_groups_with_and_without_mixed_sites() -> None:
    salt, mixed = from_pymatgen(SALT.as_dict()), from_pymatgen(MIXED.as_dict())
    assert find_space_group(salt) == find_space_group(mixed) == 225
    occupancy = mixed.occupancy.copy()
    sodium = np.flatnonzero((mixed.numbers == 11) | (mixed.numbers == 19))[:2]
    occupancy[sodium] = 0.9, 0.1  # one of the four mixed sites is another one now
    assert find_space_group(replace(mixed, occupancy=occupancy)) == 221


def test_close_pairs_against_all_images() -> None:
    rng = np.random.default_rng(0)
    lattice = np.array([[3.0, 0, 0], [1.2, 2.9, 0], [-0.8, 0.7, 2.5]])
    crystal = Crystal(lattice, np.full(40, 6, np.int16), np.full(40, 0.1), rng.uniform(-1, 2, (40, 3)))
    pairs, distance = close_pairs(crystal)
    images = np.stack(np.meshgrid(*[range(-4, 5)] * 3), -1).reshape(-1, 3)
    step = crystal.positions[:, None] - crystal.positions[None]
    every = np.linalg.norm((step[:, :, None] + images) @ lattice, axis=-1).min(axis=-1)
    i, j = np.nonzero(np.triu(every < CLOSEST, 1))
    assert len(i) > 10
    assert {tuple(sorted(p)) for p in pairs.tolist()} == set(zip(i.tolist(), j.tolist(), strict=True))
    np.testing.assert_allclose(distance, every[pairs[:, 0], pairs[:, 1]])


def crystal(
    lattice: ArrayLike = 5.0, numbers: tuple[int, ...] = (11, 17), occupancy: float = 1.0, second: ArrayLike = 0.5
) -> Crystal:
    n = len(numbers)
    cell = np.eye(3) * lattice if np.isscalar(lattice) else np.asarray(lattice, float)
    positions = np.linspace(0, 1, max(n, 1), endpoint=False)[:n, None] * np.ones(3)
    if n == 2:
        positions[1] = second
    return Crystal(cell, np.array(numbers, np.int16), np.full(n, occupancy, float), positions)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (crystal(numbers=()), "no atoms"),
        (crystal(second=np.nan), "no finite number"),
        (crystal(lattice=np.zeros((3, 3))), "absurd cell"),
        (crystal(lattice=[[5, 0, 0], [5, 0, 0], [0, 0, 5]]), "absurd cell"),
        (crystal(lattice=0.9), "absurd cell"),
        (crystal(lattice=900.0), "absurd cell"),
        (crystal(lattice=60.0), "Å³ an atom"),
        (crystal(lattice=1.6, numbers=(1, 1, 1)), "1.365 Å³ an atom"),
        (crystal(occupancy=1.2), "has Na with the occupancy 1.2, not within 0 to 1"),
        (crystal(occupancy=0.0), "has Na with the occupancy 0, not within"),
        (crystal(second=[0.05, 0, 0]), "has Na and Cl 0.250 Å apart"),
        (crystal(second=[0.99, 0, 0.01]), "has Na and Cl 0.071 Å apart"),
        (crystal(second=0.0), r"a site at \(0.0000, 0.0000, 0.0000\) with 2 atoms"),
    ],
)
def test_what_is_no_crystal_is_refused(bad: Crystal, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_crystal(bad, "x")


def test_half_atoms_may_be_close() -> None:
    check_crystal(crystal(second=[0.05, 0, 0], occupancy=0.5), "x")
    check_crystal(crystal(second=0.0, occupancy=0.5), "x")


def test_unknown_elements_are_named() -> None:
    record = SALT.as_dict()
    record["sites"][0]["species"][0]["element"] = "Xx"
    with pytest.raises(ValueError, match="unknown element 'Xx'"):
        from_pymatgen(record)


@pytest.mark.parametrize(
    "amounts",
    [
        {"Li": 4, "O": 4},
        {"O": 8},
        {"Fe": 6, "P": 4, "O": 16},
        {"Ca": 1, "S": 1, "O": 6, "H": 4},
        {"N": 2, "H": 8, "S": 1, "O": 4},
    ],
)
def test_names_are_pymatgens_reduced_formulas(amounts: dict[str, float]) -> None:
    assert material_name(amounts) == Composition(amounts).reduced_formula
