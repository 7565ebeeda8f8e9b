"""The YAML for a cluster."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components

from imitation_refinement.errors import InputError
from imitation_refinement.learning.config import PretrainConfig
from pipelines.cli import main
from pipelines.cluster import Cluster
from pipelines.compile import compile_pipeline
from pipelines.profiles import read_profile
from pipelines.studies import ABLATIONS, LABELLED, OPTIONS

# Of each stage, how often it is in the DAG: each time is a loop where it trains.
STAGES = {
    "main": {
        "collect-structures": 1,
        "simulate": 1,
        "preprocess": 1,
        "pretrain-classifier": 1,
        "train-refiner": 1,
        "baselines": 1,
        "evaluate": 1,
    },
    "paper": {
        "collect-structures": 1,
        "simulate": 1,
        "preprocess": 1,
        "pretrain-classifier": 2,
        "train-refiner": 2,
        "adapt-classifier": 2,
        "baselines": 1,
        "evaluate": 1,
    },
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_pipeline(read_profile("paper"), path, Cluster())
    found = next(yaml.safe_load_all(path.read_text()))
    found["path"] = path
    return found


def tasks(spec: dict[str, Any], dag: dict[str, Any]) -> list[tuple[str, str]]:
    """(task, image) of every task of a DAG and those in it."""
    found = []
    for name, task in dag["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            found += tasks(spec, component["dag"])
        else:
            executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]
            found.append((name, executor["container"]["image"]))
    return found


def test_kfp_loads_it_again(spec: dict[str, Any]) -> None:
    loaded = components.load_component_from_file(str(spec["path"]))
    assert loaded.name == "imitation-refinement"
    assert {"structures", "imperfect", "shards", "pretrain", "refine"} <= set(loaded.component_spec.inputs)


@pytest.mark.parametrize("profile", ["default", "paper"])
def test_all_stages_are_there(profile: str, tmp_path: Path) -> None:
    compile_pipeline(read_profile(profile), tmp_path / "p.yaml", Cluster())
    spec = next(yaml.safe_load_all((tmp_path / "p.yaml").read_text()))
    study = STAGES[read_profile(profile).study]
    stages = Counter()
    for _, image in tasks(spec, spec["root"]["dag"]):
        repository, _, _ = image.removeprefix("imitation-refinement/").partition(":")
        assert repository.endswith("-python")  # without "python" KFP warns
        stages[repository.removesuffix("-python")] += 1
    assert stages == study
    for executor in spec["deploymentSpec"]["executors"].values():
        command = " ".join(executor["container"]["command"])
        assert "pip install" not in command  # everything is in the image


def test_simulation_fans_out_and_is_collected(spec: dict[str, Any]) -> None:
    loop = spec["root"]["dag"]["tasks"]["for-loop-1"]
    assert loop["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--shards"}
    component = spec["components"][loop["componentRef"]["name"]]
    item = component["inputDefinitions"]["parameters"][loop["parameterIterator"]["itemInput"]]
    assert item["parameterType"] == "NUMBER_INTEGER"  # as simulate's shard is
    (shard,) = component["dag"]["tasks"].values()
    assert shard["retryPolicy"]["maxRetryCount"] == 2
    for name, stage in (("ideal", "preprocess"), ("imperfect", "preprocess"), ("library", "baselines")):
        collected = component["outputDefinitions"]["artifacts"][f"pipelinechannel--simulate-{name}"]
        wanted = spec["components"][f"comp-{stage}"]["inputDefinitions"]["artifacts"][name]  # a file a shard
        assert collected["isArtifactList"] and wanted["isArtifactList"]
    shards = spec["root"]["inputDefinitions"]["parameters"]["shards"]["defaultValue"]
    assert shards == list(range(read_profile("paper").shards))


def test_each_task_starts_from_a_classifier_that_is_trained(spec: dict[str, Any]) -> None:
    """The local run keeps each model under the name of its file, by which refiners know their classifiers."""
    dag_tasks = spec["root"]["dag"]["tasks"]
    defaults = {name: p.get("defaultValue") for name, p in spec["root"]["inputDefinitions"]["parameters"].items()}
    for loop in ("refine", "refine_with_ideal", "adapt", "adapt_with_ideal"):
        (task,) = (
            t for t in dag_tasks.values() if f"pipelinechannel--{loop}" in t.get("inputs", {}).get("parameters", {})
        )
        given = task["inputs"]["artifacts"]
        assert given["pipelinechannel--pretrain-Output"]["taskOutputArtifact"]["producerTask"] == "pretrain"
        assert any("ideal_dataset" in name for name in given) == loop.endswith("with_ideal"), (
            "copied to who reads it alone"
        )
        assert {task["classifier"] for task in defaults[loop]} <= {"vgg", "densenet"}
    refiners = {
        (task["classifier"], c["supervision"], c["variant"] or c["labelled"])
        for task in (*defaults["refine"], *defaults["refine_with_ideal"])
        for c in [task["config"]]
    }
    plain = {(c, s, 0) for c in ("vgg", "densenet") for s in ("targeted", "non_targeted")}
    special = {("densenet", "targeted", other) for other in (*ABLATIONS, "shuffled_labels", *LABELLED)}
    forms = (("targeted", "with_ideal"), ("non_targeted", "with_diversity"))
    assert refiners == plain | special | {(c, *form) for c in ("vgg", "densenet") for form in forms}
    assert {t["config"]["variant"] for t in defaults["refine_with_ideal"]} == {"with_ideal"}
    assert {t["config"]["method"] for t in defaults["adapt_with_ideal"]} == {"adda", "gta"}


def test_evaluate_waits_for_every_loop(spec: dict[str, Any]) -> None:
    given = spec["root"]["dag"]["tasks"]["evaluate"]["inputs"]["artifacts"]
    producers = [given[loop]["taskOutputArtifact"]["producerTask"] for loop in OPTIONS]
    assert len(set(producers)) == len(OPTIONS)
    assert all(name == "pretrain" or name.startswith("for-loop-") for name in producers)


def test_defaults_are_the_profile(spec: dict[str, Any]) -> None:
    defaults = spec["root"]["inputDefinitions"]["parameters"]
    profile = read_profile("paper")
    trained = {t["label"]: PretrainConfig.model_validate(t["config"]) for t in defaults["pretrain"]["defaultValue"]}
    assert trained == {f"pretrain_classifier {name}": getattr(profile, name) for name in ("vgg", "densenet")}
    assert defaults["collect_structures"]["defaultValue"]["n_structures"] == 240_000


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    main(["compile", "--profile", "smoke", "--seed", "5", "--set", "shards=3", "-o", str(path)])
    assert capsys.readouterr().out == f"pipeline: {path}\n"
    defaults = next(yaml.safe_load_all(path.read_text()))["root"]["inputDefinitions"]["parameters"]
    assert defaults["n_shards"]["defaultValue"] == 3
    assert defaults["preprocess"]["defaultValue"]["seed"] == 5
    assert [p.name for p in tmp_path.iterdir()] == ["p.yaml"]


def test_bad_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"pipeline\.json: is no name"):
        compile_pipeline(read_profile("smoke"), tmp_path / "pipeline.json", Cluster())
    with pytest.raises(SystemExit) as end:
        main(["compile", "--profile", "slow", "-o", str(tmp_path / "p.yaml")])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: profile slow: there is no such profile.")
    assert list(tmp_path.iterdir()) == []
