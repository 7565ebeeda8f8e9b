"""The model that comes with the software: whole, small, and it answers."""

from __future__ import annotations

import pytest

from imitation_refinement.answer.model import LIBRARY, Model, cited, folder_of
from tests.shared.answer.conftest import measured


@pytest.fixture(scope="module")
def released() -> Model:
    return Model.read()


def test_it_is_small(released: Model) -> None:
    files = {path.name: path.stat().st_size for path in folder_of().iterdir()}
    assert files.pop(LIBRARY) <= 15e6
    assert sum(files.values()) <= 12e6
    assert len(released.networks) >= 2 and released.refiner is not None


def test_it_says_what_to_cite() -> None:
    assert [name for text in cited() for name in ("Downs", "Doebelin", "Materials Project") if name in text]
    assert len(cited()) == 3


@pytest.mark.parametrize(("name", "formula", "system"), [("NaCl", "NaCl", "cubic"), ("BaSO4", "BaSO4", "orthorhombic")])
def test_it_knows_halite_and_barite(released: Model, name: str, formula: str, system: str) -> None:
    two_theta, counts = measured(name)
    found = released.search(two_theta, counts, 1.5406)
    assert formula in [candidate.formula for candidate in found.candidates]
    assert found.crystal_system == system
