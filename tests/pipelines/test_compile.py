"""The YAML for a cluster."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components

from imitation_refinement.config import PretrainConfig
from imitation_refinement.errors import InputError
from pipelines.cli import main
from pipelines.cluster import Cluster
from pipelines.compile import compile_pipeline
from pipelines.pipeline import ABLATIONS, LABELLED, dag
from pipelines.profiles import read_profile

STAGES = {
    "main": {
        "collect-structures": 1,
        "simulate": 1,
        "preprocess": 1,
        "pretrain-classifier": 2,
        "train-refiner": 5,
        "baselines": 1,
        "evaluate": 1,
    },
    "paper": {
        "collect-structures": 1,
        "simulate": 1,
        "preprocess": 1,
        "pretrain-classifier": 6,
        "train-refiner": 16,
        "adapt-classifier": 4,
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
    assert {"structures", "imperfect", "shards", "vgg", "targeted"} <= set(loaded.component_spec.inputs)


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
    (loop,) = (t for t in spec["root"]["dag"]["tasks"].values() if "parameterIterator" in t or "iterator" in str(t))
    assert loop["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--shards"}
    component = spec["components"][loop["componentRef"]["name"]]
    item = component["inputDefinitions"]["parameters"][loop["parameterIterator"]["itemInput"]]
    assert item["parameterType"] == "NUMBER_INTEGER"  # as simulate's shard is
    (shard,) = component["dag"]["tasks"].values()
    assert shard["retryPolicy"]["maxRetryCount"] == 2
    for name in ("ideal", "imperfect"):  # a list of shards, each a file of its own
        collected = component["outputDefinitions"]["artifacts"][f"pipelinechannel--simulate-{name}"]
        wanted = spec["components"]["comp-preprocess"]["inputDefinitions"]["artifacts"][name]
        assert collected["isArtifactList"] and wanted["isArtifactList"]
    shards = spec["root"]["inputDefinitions"]["parameters"]["shards"]["defaultValue"]
    assert shards == list(range(read_profile("paper").shards))


def test_each_refiner_waits_for_its_own_classifier(spec: dict[str, Any]) -> None:
    """The local run keeps each model under its row's name, and evaluate gets it under that name, too."""
    dag_tasks, kept = spec["root"]["dag"]["tasks"], dag("paper").kept
    sources = {}
    for name, task in dag_tasks.items():
        if name.startswith("train-refiner"):
            producer = task["inputs"]["artifacts"]["classifier"]["taskOutputArtifact"]
            constants = {
                k: v["runtimeValue"]["constant"] for k, v in task["inputs"]["parameters"].items() if "runtimeValue" in v
            }
            large = "ideal_dataset" in task["inputs"]["artifacts"]
            assert large == (constants["variant"] == "with_ideal"), "copied to who reads it alone"
            sources[Path(kept[name, "refiner"]).stem] = (
                Path(kept[producer["producerTask"], producer["outputArtifactKey"]]).stem,
                constants["supervision"],
                constants["variant"] or constants["labelled"],
            )
    plain = {f"{c}-{s}": (c, s, 0) for c in ("vgg", "densenet") for s in ("targeted", "non_targeted")}
    others = (*ABLATIONS, "shuffled_labels", *LABELLED)
    special = {
        f"densenet-targeted-{o if isinstance(o, str) else f'labelled_{o}'}": ("densenet", "targeted", o) for o in others
    }
    diverse = {f"{c}-non_targeted-with_diversity": (c, "non_targeted", "with_diversity") for c in ("vgg", "densenet")}
    kept_ideal = {f"{c}-targeted-with_ideal": (c, "targeted", "with_ideal") for c in ("vgg", "densenet")}
    assert sources == plain | special | diverse | kept_ideal
    (evaluated,) = (task for name, task in dag_tasks.items() if name.startswith("evaluate"))
    for name, artifact in evaluated["inputs"]["artifacts"].items():
        producer = artifact["taskOutputArtifact"]
        path = Path(kept[producer["producerTask"], producer["outputArtifactKey"]])
        if path.parent.name == "models":
            assert name.replace("-", "_") in path.stem.replace("-", "_").replace("non_targeted_", "").replace(
                "targeted_", ""
            )


def test_defaults_are_the_profile(spec: dict[str, Any]) -> None:
    defaults = spec["root"]["inputDefinitions"]["parameters"]
    profile = read_profile("paper")
    assert PretrainConfig.model_validate(defaults["vgg"]["defaultValue"]) == profile.vgg
    assert PretrainConfig.model_validate(defaults["densenet"]["defaultValue"]) == profile.densenet
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
