"""No model that the KFP interface takes is dropped, or given as another kind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from components.evaluate import component
from components.evaluate.stage import STAGE
from imitation_refinement.stage import Stage

VARIANTS = ("_targeted", "_with_", "_without_", "_labelled_", "_shuffled_labels")


@pytest.mark.parametrize(("name", "models"), [("evaluate", (2, 5, 0)), ("evaluate_paper", (10, 16, 1))])
def test_every_model_is_given_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch, name: str, models: tuple[int, int, int]
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(Stage, "task", lambda self, *arguments: given.extend([self, *arguments]))
    task = getattr(component, name)
    spec = task.component_spec
    artifacts = {
        key: SimpleNamespace(path=key)
        for key, value in {**spec.inputs, **spec.outputs}.items()
        if value.type.startswith("system.")
    }
    task.python_func(**artifacts, structures="", imperfect="p", test="t", classifiers="r", config={"seed": 1})
    stage, paths, config = given
    assert stage is STAGE and config == {
        "seed": 1,
        "structures": "built-in",
        "imperfect": "p",
        "test": "t",
        "classifiers_from": "r",
    }
    lists = [paths.get(key, []) for key in ("classifiers", "refiners", "generators")]
    assert tuple(map(len, lists)) == models
    classifiers, refiners, generators = lists
    declared = sorted(key for key, value in spec.inputs.items() if value.type.startswith("system.Model"))
    assert sorted([*classifiers, *refiners, *generators]) == declared
    assert all(any(kind in path for kind in VARIANTS) for path in refiners)
    assert not any(any(kind in path for kind in VARIANTS) for path in classifiers)
    assert generators in ([], ["gta_generator"])
    single = (STAGE.inputs.keys() | STAGE.outputs.keys()) - STAGE.lists
    assert {key: paths[key] for key in single} == {key: key for key in single}
