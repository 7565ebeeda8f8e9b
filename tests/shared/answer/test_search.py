"""Patterns searched from end to end in a small library."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice

from imitation_refinement.answer.library import Library, of_elements
from imitation_refinement.answer.search import Search
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CrystalSystem
from tests.shared.answer.conftest import CRYSTALS, measured


@pytest.fixture(scope="module")
def search(library: Library) -> Search:
    return Search(library)


@pytest.mark.parametrize("name", CRYSTALS)
def test_each_crystal_is_found_in_its_own_pattern(search: Search, name: str) -> None:
    answer = search(*measured(name, zero_shift=0.03, strain=(0.002,) * 3 + (0.0,) * 3), 1.5406)
    assert answer.candidates[0].formula == name
    assert answer.crystal_system == CrystalSystem.from_space_group(CRYSTALS[name][0])
    assert answer.candidates[0].strain == pytest.approx(0.002, abs=1e-3)
    assert answer.systems.sum() == pytest.approx(1)


def test_a_candidate_says_what_it_is_of(search: Search) -> None:
    answer = search(*measured("TiO2", strain=(0.004, 0.004, -0.003, 0, 0, 0)), 1.5406)
    first = answer.candidates[0]
    assert (first.material_id, first.space_group, first.source, first.made) == ("id-TiO2", 136, "by hand", "")
    direct = Lattice(np.linalg.inv(first.reciprocal).T)
    assert direct.abc == pytest.approx([4.594 * 1.004, 4.594 * 1.004, 2.959 * 0.997], rel=1e-3)
    scores = [candidate.score for candidate in answer.candidates]
    assert scores == sorted(scores, reverse=True)
    assert answer.margin == pytest.approx(scores[0] - scores[1])
    assert all(0 <= candidate.probability <= 1 for candidate in answer.candidates)
    assert len({candidate.formula for candidate in answer.candidates}) == len(answer.candidates) == 10


def test_entries_of_one_phase_are_one_candidate(library: Library) -> None:
    doubled = Search(library.select([0, 3, 3, 3, 5]))
    answer = doubled(*measured("TiO2"), 1.5406)
    assert [c.formula for c in answer.candidates].count("TiO2") == 1
    assert sum(c.score for c in answer.candidates) == pytest.approx(1)


def test_only_what_is_allowed_is_found(search: Search, library: Library) -> None:
    pattern = measured("TiO2")
    answer = search(*pattern, 1.5406, ~of_elements(library, must=["Ti"]))
    assert "TiO2" not in {candidate.formula for candidate in answer.candidates}
    assert answer.candidates[0].probability < search(*pattern, 1.5406).candidates[0].probability
    with pytest.raises(InputError, match="no crystal of the library is allowed"):
        search(*pattern, 1.5406, np.zeros(len(library), bool))


def test_wavelengths_may_change_from_pattern_to_pattern(search: Search) -> None:
    for wavelength in (0.7093, 1.5406, 0.165, 1.5406):
        assert search(*measured("Al2O3", wavelength), wavelength).candidates[0].formula == "Al2O3"
