"""What is compiled before anybody asks is what an answer needs."""

from __future__ import annotations

from imitation_refinement.answer import cell, match
from imitation_refinement.answer.model import Model
from imitation_refinement.xrd import preparation
from tests.shared.answer.conftest import measured
from web.warm import warm


def compiled() -> dict[str, int]:
    """How many forms of each kernel there are."""
    found = {}
    for module in (cell, match, preparation):
        for name, value in vars(module).items():
            if hasattr(value, "nopython_signatures"):
                found[name] = len(value.signatures)
    return found


def test_an_answer_compiles_nothing_more(model: Model) -> None:
    warm()
    before = compiled()
    assert sum(before.values()) > 5
    x, y = measured("BaSO4")
    model.search(x, y, 1.5406)
    model.ensemble.log_probabilities(x, y, 1.5406)
    assert compiled() == before
