"""No model that the KFP interface takes is dropped, or given as another kind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from components.evaluate import kubeflow
from components.evaluate.component import evaluate
from components.evaluate.stage import STAGE
from imitation_refinement.running.stage import Stage
from pipelines.studies import OPTIONS, STUDIES

OF_CLASSIFIERS = ("pretrain", "pretrain_others", "adapt", "adapt_with_ideal")


@pytest.mark.parametrize("study", STUDIES)
def test_every_model_is_given_as_what_it_is(monkeypatch: pytest.MonkeyPatch, study: Any) -> None:
    given: list[Any] = []
    shown: list[Any] = []
    monkeypatch.setattr(Stage, "task", lambda self, *arguments: given.extend([self, *arguments]))
    monkeypatch.setattr(kubeflow, "show", lambda *arguments: shown.extend(arguments))
    spec = evaluate.component_spec
    kinds = {key: value.type for key, value in {**spec.inputs, **spec.outputs}.items()}
    loops = {key for key, kind in kinds.items() if kind.startswith("system.Model")}
    assert loops == set(OPTIONS)  # a loop of the pipeline that nobody measures would be a waste
    artifacts: dict[str, Any] = {
        key: SimpleNamespace(path=key) for key, kind in kinds.items() if kind.startswith("system.") and key not in loops
    }
    trained = {loop: [SimpleNamespace(path=f"{loop} {n}") for n in range(2)] for loop in STUDIES[study]}
    evaluate.python_func(
        **artifacts, **trained, structures="", imperfect="p", test="t", classifiers="r", config={"seed": 1}
    )
    stage, paths, config = given
    assert stage is STAGE and config == {
        "seed": 1,
        "structures": "built-in",
        "imperfect": "p",
        "test": "t",
        "classifiers_from": "r",
    }
    wanted = {loop: [f"{loop} {n}" for n in range(2)] for loop in trained}
    assert sorted(paths["classifiers"]) == sorted(p for loop in wanted if loop in OF_CLASSIFIERS for p in wanted[loop])
    assert sorted(paths["refiners"]) == sorted(p for loop in wanted if loop.startswith("refine") for p in wanted[loop])
    single = (STAGE.inputs.keys() | STAGE.outputs.keys()) - STAGE.lists
    assert {key: paths[key] for key in single} == {key: key for key in single}
    assert shown == ["results", "predictions", artifacts["metrics"], artifacts["classification"], "note"]
    shapes = {"metrics": "Metrics", "classification": "ClassificationMetrics", "note": "Markdown", "report": "HTML"}
    assert {key: kinds[key].partition("@")[0] for key in shapes} == {k: f"system.{v}" for k, v in shapes.items()}
