from collections import Counter

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from components.collect_structures.builtin import (
    BREAKING,
    VARIATION,
    builtin_materials,
    decorations,
    draw_strain,
    is_specimen,
    load_prototypes,
    scale_factor,
    shortest_contacts,
)
from components.collect_structures.crystals import SYMBOLS, Crystal, Material
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS


@pytest.fixture(scope="module")
def built() -> tuple[list[Material], list[Material]]:
    return builtin_materials(211, 71, seed=3)


def as_structure(material: Material) -> Structure:
    crystal = material.crystal
    return Structure(Lattice(crystal.lattice), [SYMBOLS[z] for z in crystal.numbers], crystal.positions)


def test_counts_are_even(built: tuple[list[Material], list[Material]]) -> None:
    for part, total in zip(built, (211, 71), strict=True):
        counts = Counter(m.crystal_system for m in part)
        assert len(part) == total
        assert set(counts) == set(CRYSTAL_SYSTEMS)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_specimens_share_no_formula_with_the_library(built: tuple[list[Material], list[Material]]) -> None:
    library, specimens = built
    assert not {m.formula for m in library} & {m.formula for m in specimens}
    names = [m.material_id for m in library + specimens]
    assert len(set(names)) == len(names)


def test_labels_and_contacts_agree_with_pymatgen(built: tuple[list[Material], list[Material]]) -> None:
    for material in built[0][::6] + built[1][::6]:
        structure = as_structure(material)
        assert (
            SpacegroupAnalyzer(structure, symprec=0.01, angle_tolerance=-1).get_space_group_number()
            == material.space_group
        )
        assert structure.composition.reduced_formula == material.formula
        assert structure.is_valid(tol=0.7)
        assert 5 <= structure.volume / len(structure) <= 100


def test_strained_ones_say_so(built: tuple[list[Material], list[Material]]) -> None:
    strained = [m for m in built[0] if "breaks symmetry" in m.source]
    assert {m.crystal_system.value for m in strained} == {"triclinic", "monoclinic"}
    assert all(m.material_id.endswith(m.crystal_system) and "in the prototype" in m.source for m in strained)


def test_same_seed_same_structures(built: tuple[list[Material], list[Material]]) -> None:
    again = builtin_materials(28, 7, seed=5)
    for a, b in zip(builtin_materials(28, 7, seed=5)[0], again[0], strict=True):
        assert a.material_id == b.material_id
        np.testing.assert_array_equal(a.crystal.lattice, b.crystal.lattice)
    assert {m.material_id for m in builtin_materials(28, 7, seed=6)[0]} != {m.material_id for m in again[0]}


def test_too_many_specimens_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    few = load_prototypes()[:2]
    monkeypatch.setattr("components.collect_structures.builtin.load_prototypes", lambda: few)
    with pytest.raises(InputError, match=r"give \d+ \w+ specimens, not 50.*Ask for fewer"):
        builtin_materials(7, 350, seed=0)


def test_specimens_are_drawn_at_their_share() -> None:
    drawn = np.mean([is_specimen(f"A{i}B", 0.3, 0) for i in range(4000)])
    assert abs(drawn - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)


def rock_salt() -> Crystal:
    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    numbers = np.array(structure.atomic_numbers, np.int16)
    return Crystal(structure.lattice.matrix, numbers, np.ones(len(numbers)), structure.frac_coords)


def test_scale_keeps_the_contact_in_covalent_radii() -> None:
    contacts = shortest_contacts(rock_salt())
    assert contacts[0, 1] == pytest.approx(2.82)
    assert contacts[0, 0] == pytest.approx(5.64 / np.sqrt(2))
    # Cordero: Na 1.66, Cl 1.02, K 2.03, Br 1.20 Å. Na–Cl touch first (2.82 / 2.68 against 3.99 / 3.32 of Na–Na).
    factor = scale_factor(np.array([11, 17]), np.array([19, 35]), contacts)
    assert factor == pytest.approx((2.03 + 1.20) / (1.66 + 1.02), rel=1e-6)


def test_strains_keep_or_break_symmetry() -> None:
    prototypes = {p.label: p for p in load_prototypes()}
    rng = np.random.default_rng(0)
    cubic, hexagonal = prototypes["AB_cF8_225_a_b"], prototypes["A_hP2_194_c"]
    for _ in range(5):
        strain, size = draw_strain(cubic, rng)
        np.testing.assert_allclose(strain, strain[0, 0] * np.eye(3), atol=1e-12)
        assert abs(strain[0, 0]) == pytest.approx(size)
        assert size <= VARIATION
        cell = Lattice(hexagonal.crystal.lattice @ (np.eye(3) + draw_strain(hexagonal, rng)[0]))
        assert cell.a == pytest.approx(cell.b)
        assert cell.gamma == pytest.approx(120) or cell.gamma == pytest.approx(60)


def test_broken_symmetry_has_the_size_it_says() -> None:
    from components.collect_structures.builtin import _lowered

    cubic = next(p for p in load_prototypes() if p.label == "AB_cF8_225_a_b")
    lowered = _lowered(cubic, CRYSTAL_SYSTEMS[0], np.random.default_rng(0))
    assert lowered is not None
    strain, size = draw_strain(lowered, np.random.default_rng(1))
    deviator = strain - np.trace(strain) / 3 * np.eye(3)  # what a cubic group would average out
    assert np.abs(np.linalg.eigvalsh(deviator)).max() == pytest.approx(size)
    assert BREAKING[0] <= size <= BREAKING[1]


def test_decorations_stop_when_exhausted() -> None:
    elemental = next(p for p in load_prototypes() if p.label == "A_cF4_225_a")  # Cu
    found = list(decorations(elemental, np.random.default_rng(0)))
    assert {m.formula for m in found} == {"Cu", "Ag", "Au"}
