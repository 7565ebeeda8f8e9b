"""A task on a cluster: several processes where the environment asks for them, files that outlive its pod."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from components.pretrain_classifier.component import pretrain_classifier
from components.pretrain_classifier.stage import STAGE
from components.train_refiner.stage import STAGE as REFINER_STAGE
from imitation_refinement.errors import InputError
from imitation_refinement.learning.checkpoints import checkpoint_of
from imitation_refinement.learning.models import load_classifier
from imitation_refinement.running import launch
from imitation_refinement.running.launch import (
    CHECKPOINTS_VARIABLE,
    ERROR_FILE_VARIABLE,
    PROCESSES_VARIABLE,
    RUN_VARIABLE,
    command_line,
    lasting_file,
    processes,
)

NETWORK = {"architecture": "vgg", "depths": [1, 1], "widths": [8, 8], "embedding": 8, "dropout": 0.0}
CONFIG = {"network": NETWORK, "optimiser": {"epochs": 2, "batch_size": 21, "learning_rate": 1e-2, "device": "cpu"}}


def run_component(table: Path, output: Path, config: dict[str, Any]) -> None:
    """The component's body, as Kubeflow Pipelines runs it."""
    pretrain_classifier.python_func(
        SimpleNamespace(path=str(table)),
        SimpleNamespace(path=str(output)),
        {"label": "pretrain_classifier vgg", "classifier": "", "config": config},
    )


def test_a_pod_with_two_processes_trains_as_one_does(
    toy_tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    table = toy_tables["ideal_dataset"]
    one, two = tmp_path / "one", tmp_path / "two"
    run_component(table, one, CONFIG)
    monkeypatch.setenv(PROCESSES_VARIABLE, "2")
    capfd.readouterr()
    run_component(table, two, CONFIG)
    assert capfd.readouterr().err.count("56 learnt from") == 1
    (alone, grid, about), (together, other_grid, other_about) = load_classifier(one), load_classifier(two)
    assert grid == other_grid and about["training"] == other_about["training"]
    for name, expected in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], expected, rtol=1e-3, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".parquet") == ["one", "two"]


def test_bad_input_of_several_processes_is_said_as_of_one(
    toy_tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PROCESSES_VARIABLE, "2")
    monkeypatch.setenv(ERROR_FILE_VARIABLE, str(tmp_path / "error"))
    with pytest.raises(SystemExit) as end:
        run_component(tmp_path / "nothing", tmp_path / "model", CONFIG)
    assert end.value.code == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last == f"error: {tmp_path / 'nothing'}: there is no such file. Check the path."
    assert json.loads((tmp_path / "error").read_text())[0] == str(tmp_path / "nothing")
    with pytest.raises(SystemExit) as end:  # options are looked at before anything starts
        run_component(toy_tables["ideal_dataset"], tmp_path / "model", {"optimiser": {"epochs": 0}})
    assert end.value.code == 2


def test_a_process_that_dies_ends_the_task(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    died = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(launch.subprocess, "run", lambda *_, **__: died)
    monkeypatch.setenv(PROCESSES_VARIABLE, "3")
    with pytest.raises(SystemExit) as end:
        run_component(tmp_path / "table", tmp_path / "model", CONFIG)
    assert end.value.code == 1
    assert capfd.readouterr().err.splitlines()[-1] == "error: 3 processes of pretrain_classifier ended with status 1"


def test_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes() == 1
    monkeypatch.setenv(PROCESSES_VARIABLE, "4")
    assert processes() == 4
    monkeypatch.setenv("WORLD_SIZE", "4")  # torchrun has started this one
    assert processes() == 1
    monkeypatch.delenv("WORLD_SIZE")
    for text in ("0", "many", "-1", "1.5", ""):
        monkeypatch.setenv(PROCESSES_VARIABLE, text)
        with pytest.raises(InputError, match=PROCESSES_VARIABLE):
            processes()


def test_a_command_line_says_what_a_task_was_given(
    toy_tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(type(STAGE), "execute", lambda self, *given: seen.append((self.name, *given)))
    config = REFINER_STAGE.config.model_validate({"network": {"widths": [8, 8]}, "variant": "with_diversity"})
    paths = {"classifier": "c d", "imperfect_dataset": tmp_path, "refiner": "--r"}
    arguments = command_line({**paths, "more": None}, config.model_dump(mode="json"), "a label")
    arguments = [a if a != "--r" else "./--r" for a in arguments]
    REFINER_STAGE.main(arguments)
    ((name, given, options, label),) = seen
    assert (name, label) == ("train_refiner", "a label")
    made = {"classifier": "c d", "ideal_dataset": None, "imperfect_dataset": str(tmp_path), "refiner": "./--r"}
    assert given == made
    assert REFINER_STAGE.config.model_validate(options) == config
    assert command_line({"shards": ["a", "b"]}, {}, None) == ["--shards", "a", "b", "--config", "{}"]


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_options_that_are_no_json(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        STAGE.main(["--ideal-dataset", "a", "--classifier", "b", "--config", text])
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: --config: is no JSON")


def test_single_options_go_over_the_json(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(type(STAGE), "execute", lambda self, paths, config, label: seen.append((config, label)))
    given = json.dumps({"method": "standard", "optimiser": {"epochs": 3, "batch_size": 9}})
    STAGE.main(["--ideal-dataset", "a", "--classifier", "b", "--config", given, "--optimiser-epochs", "4"])
    assert seen == [({"method": "standard", "optimiser": {"epochs": "4", "batch_size": 9}}, None)]


def test_help_names_both() -> None:
    command = [sys.executable, "-m", "components.pretrain_classifier", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--config JSON" in text and "--label NAME" in text


def test_a_checkpoint_on_a_volume_is_its_run_s_and_its_task_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "pod" / "classifier"
    with checkpoint_of(output, "pretrain vgg") as path:
        assert path == tmp_path / "pod" / "classifier.checkpoint.safetensors"
    volume = tmp_path / "volume"
    volume.mkdir()
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(volume))
    with pytest.raises(InputError, match=f"{RUN_VARIABLE} is not"), checkpoint_of(output, "pretrain vgg"):
        pass
    seen = set()
    for run in ("11-aa", "22-bb"):
        for label in ("pretrain vgg", "pretrain vgg_standard"):  # iterations of one loop
            monkeypatch.setenv(RUN_VARIABLE, run)
            with pytest.raises(KeyboardInterrupt), checkpoint_of(output, label) as path:
                path.write_bytes(b"after an epoch")
                raise KeyboardInterrupt  # the pod is killed
            assert path.parent == volume and path.read_bytes()
            with checkpoint_of(tmp_path / "another pod" / "classifier", label) as again:  # in its place
                assert again == path and again.read_bytes()
            seen.add(path.name)
    assert len(seen) == 4 and not list(volume.iterdir())


def test_no_volume() -> None:
    assert lasting_file("x", "a label") is None
