"""What is compiled before anybody asks is what an answer needs."""

from __future__ import annotations

from pathlib import Path

from imitation_refinement.answer import cell, match
from imitation_refinement.answer.identify import identify
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.warm import warm
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.xrd import indexing, lattices, preparation
from tests.shared.answer.conftest import measured


def compiled() -> dict[str, int]:
    """How many forms of each kernel there are."""
    found = {}
    for module in (cell, indexing, lattices, match, preparation):
        for name, value in vars(module).items():
            if hasattr(value, "nopython_signatures"):
                found[name] = len(value.signatures)
    return found


def test_an_answer_compiles_nothing_more(model_folder: Path) -> None:
    warm()
    before = compiled()
    assert sum(before.values()) > 5
    identify(Model.read(model_folder), Pattern("BaSO4", *measured("BaSO4"), 1.5406))
    assert compiled() == before
