"""Series, against virtual ones whose cells and phases are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from imitation_refinement.answer.model import Model
from imitation_refinement.answer.series import POINTS, Series, identify_series
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.errors import InputError
from imitation_refinement.learning.root_refiner import RootRefiner
from tests.shared.answer.conftest import measured

TEMPERATURES = [300.0, 100.0, 200.0, 400.0]
EXPANSION = 2e-5
PHASES = {100.0: "NaCl", 200.0: "NaCl", 300.0: "TiO2", 400.0: "TiO2"}


def heated(temperature: float) -> Pattern:
    x, y = measured(PHASES[temperature], counts=8000.0)
    sine = np.sin(np.radians(x / 2)) / (1 + EXPANSION * temperature)
    return Pattern(f"{temperature:g}", np.degrees(2 * np.arcsin(sine)), y, 1.5406)


@pytest.fixture(scope="module")
def series(model_folder: Path) -> Series:
    glass = np.arange(8, 90, 0.02)
    counts = np.random.default_rng(0).poisson(300, len(glass)).astype(float)
    patterns = [*map(heated, TEMPERATURES), Pattern("empty", glass, counts, 1.5406)]
    return identify_series(Model.read(model_folder), patterns, [*TEMPERATURES, 250.0], "temperature (K)")


def test_answers_stand_in_the_order_of_temperature(series: Series) -> None:
    table = series.table()
    assert list(table["at"]) == [100, 200, 250, 300, 400]
    assert list(table["formula"].drop(2)) == ["NaCl", "NaCl", "TiO2", "TiO2"]
    assert table["flag"][2] == "outside"
    expected = [EXPANSION * at for at in table["at"].drop(2)]
    assert list(table["strain"].drop(2)) == pytest.approx(expected, abs=5e-4)


def test_where_the_answer_changes(series: Series) -> None:
    """What has no answer is no change, nor keeps one from being seen."""
    (change,) = series.changes
    assert (change.before, change.after, change.at) == (1, 3, 250)
    assert change.text == "cubic NaCl (225) → tetragonal TiO2 (136)"
    assert list(series.table()["changed"]) == [False, False, False, True, False]


def test_heat_maps(series: Series) -> None:
    figure = series.plot()
    measured_map, cleaned_map, along = figure.axes
    assert [measured_map.get_title("left"), cleaned_map.get_title("left")] == ["measured", "above the baseline"]
    for axes, least in ((measured_map, 0.05), (cleaned_map, 0.0)):
        values = np.asarray(axes.collections[0].get_array()).reshape(5, POINTS)
        top = np.nanargmax(values[0]) / (POINTS - 1) * 82 + 8
        assert top == pytest.approx(31.6, abs=0.3)  # (200) of rock salt at 100 K
        assert np.nanmax(values) == 1 and (np.nanmin(values[0]) >= least)
    assert measured_map.get_ylabel() == "temperature (K)" and len(along.lines) > 2


def test_what_is_no_series(model_folder: Path) -> None:
    model = Model.read(model_folder)
    with pytest.raises(InputError, match="has no pattern"):
        identify_series(model, [])
    for at in ([1.0], [1.0, float("nan")]):
        with pytest.raises(InputError, match="not one finite number"):
            identify_series(model, [heated(100.0), heated(200.0)], at)


def test_a_model_that_refines_shows_what_it_refined(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def double(model: Model, pattern: Pattern, zero_error: float | None) -> SimpleNamespace:
        if pattern.pattern_id == "200":
            raise InputError("200", "can't be refined.")
        assert zero_error is not None and abs(zero_error) < 0.1
        return SimpleNamespace(intensity=2 * pattern.intensity)

    monkeypatch.setattr(Model, "refine", double)
    model = replace(Model.read(model_folder), refiner=RootRefiner.__new__(RootRefiner))
    found = identify_series(model, [heated(100.0), heated(200.0)])
    assert found.cleaned_by == "refined" and found.quantity == "number"
    assert np.array_equal(found.cleaned[0], 2 * found.answers[0].pattern.intensity)
    assert not found.cleaned[1].any()
