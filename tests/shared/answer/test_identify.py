"""One pattern's answer, and how files have it; many patterns are tested in test_batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.answer.domain import Flag
from imitation_refinement.answer.identify import identify
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.picture import SKETCHED, sketch
from imitation_refinement.answer.record import COLUMNS, record, row
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from tests.shared.answer.conftest import measured


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return Model.read(model_folder)


def test_a_crystal_of_the_library(model: Model) -> None:
    found = identify(model, Pattern("salt", *measured("NaCl"), 1.5406))
    first = found.candidates[0]
    assert (first.formula, found.crystal_system, found.flag) == ("NaCl", "cubic", Flag.ANSWERED)
    assert found.probability == found.probabilities.max() and found.explanation is not None
    assert found.explanation.explained[0].all() and found.second is None
    said = record(found)
    assert json.loads(json.dumps(said)) == said
    assert said["candidates"][0]["peaks_explained"] == len(said["peaks"]) and 1 in said["peaks"][0]["candidates"]
    (cubic,) = (one for one in said["lattices"] if one["family"] == "cubic")
    assert cubic["cell"][0] == pytest.approx(5.64, rel=0.01) and cubic["centring"] == "F"
    shifted = identify(model, Pattern("salt", measured("NaCl")[0] + 0.05, measured("NaCl")[1], 1.5406))
    assert found.zero_error is not None and shifted.zero_error == pytest.approx(found.zero_error + 0.05, abs=0.02)
    cells = dict(zip(COLUMNS, row(said), strict=True))
    assert cells["crystal_system"] == "cubic" and cells["probability"] == cells["p_cubic"]
    assert cells["candidate_1_id"] == "id-NaCl" and cells["candidate_1_space_group"] == 225
    assert sum(cells[f"p_{system}"] for system in CRYSTAL_SYSTEMS) == pytest.approx(1, abs=1e-3)
    title = found.plot().axes[0].get_title("left")
    assert "salt: cubic" in title


def test_a_mixture_is_no_answer(model: Model) -> None:
    given = measured("NaCl", second="TiO2", impurity_ratio=0.6, counts=8000.0)
    found = identify(model, Pattern("two", *given, 1.5406))
    said = record(found)
    assert found.flag is Flag.OUTSIDE and "a mixture of phases" in found.reason
    assert {found.candidates[0].formula, said["second_phase"]["formula"]} == {"NaCl", "TiO2"}


@pytest.mark.parametrize(
    ("points", "wavelength", "kind"),
    [(slice(None), 4.0, "wavelength"), (slice(3000, 3080), 1.5406, "range")],
)
def test_what_can_not_be_searched_is_told_in_its_row(model: Model, points: slice, wavelength: float, kind: str) -> None:
    x, y = measured("NaCl")
    found = identify(model, Pattern("a", x[points], y[points], wavelength))
    said = record(found)
    assert found.flag is Flag.OUTSIDE and said["checks"][0]["kind"] == kind
    cells = dict(zip(COLUMNS, row(said), strict=True))
    assert cells["flag"] == "outside" and cells["reason"]
    assert cells["candidate_1_formula"] is None or kind == "range"
    assert "no answer" in found.plot().axes[0].get_title("left") or kind == "range"


def test_a_sketch_shows_the_highest_of_each_part() -> None:
    axis = np.linspace(0, 12, 1201)
    counts = np.where(np.isclose(axis, 3.05), 400.0, 100.0) + np.where(np.isclose(axis, 9.05), 75.0, 0.0)
    found = sketch(axis, counts)
    assert len(found) == SKETCHED and found[30] == 100 and found[90] == 50 and sum(found) == 150
