"""Training that is killed goes on from its last whole epoch and ends as if nothing had been."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from components.pretrain_classifier.stage import STAGE as PRETRAIN
from components.train_refiner.stage import STAGE as TRAIN
from imitation_refinement.files import digest
from imitation_refinement.learning.checkpoints import (
    Checkpoint,
    checkpoint_of,
    identity,
    optimiser_tensors,
    restore_optimiser,
    seed_epoch,
)
from imitation_refinement.learning.config import OptimiserConfig, PretrainConfig, RefineConfig
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.learning.training import train_classifier, train_refiner
from imitation_refinement.running.stage import Stage

ROOT = Path(__file__).parents[3]
EPOCHS, BATCHES = 6, 4
OPTIONS = ["--optimiser-epochs", str(EPOCHS), "--optimiser-batch-size", "14", "--optimiser-learning-rate", "1e-2"]
OPTIONS += ["--optimiser-device", "cpu", "--network-widths", "8", "8"]

# Python runs a sitecustomize of its path as it starts. This one has the process killed in the middle of an epoch: at
# the second step after the third checkpoint is in place.
KILLER = """
import os, signal, sys
seen = {"checkpoints": 0, "steps": 0}
def watch(frame, event, argument):
    if event == "call" and frame.f_code.co_name == "clip_grad_norm_":
        seen["steps"] += 1
        if seen["steps"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
def count(event, values):
    if event == "os.rename" and str(values[1]).endswith(".checkpoint.safetensors"):
        seen["checkpoints"] += 1
        if seen["checkpoints"] == 3:
            sys.setprofile(watch)
sys.addaudithook(count)
"""


def killed(stage: Stage, arguments: list[str], folder: Path) -> None:
    """Runs the stage's command until it is killed."""
    (folder / "sitecustomize.py").write_text(KILLER)
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", f"components.{stage.name}", *arguments]
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.parametrize("stage", [PRETRAIN, TRAIN], ids=lambda stage: stage.name)
def test_a_killed_stage_goes_on(
    toy_tables: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: Stage
) -> None:
    """Batch norm and dropout in the classifier; the refiner keeps its best epoch, and only safetensors are written."""
    (tmp_path / "out").mkdir()
    whole, cut = tmp_path / "out/whole.safetensors", tmp_path / "out/cut.safetensors"
    options = [*OPTIONS, "--network-depths", "1", "1", "--network-dropout", "0.3"]
    options += ["--ideal-dataset", str(toy_tables["ideal_dataset"])]
    output = "--classifier"
    if stage is TRAIN:
        PRETRAIN.main([*options, "--classifier", str(tmp_path / "classifier")])
        options = [*OPTIONS, "--imperfect-dataset", str(toy_tables["imperfect_dataset"])]
        options += ["--classifier", str(tmp_path / "classifier")]
        output = "--refiner"
    stage.main([*options, output, str(whole)])
    killed(stage, [*options, output, str(cut)], tmp_path)
    left = cut.with_name("cut.safetensors.checkpoint.safetensors")
    assert left.exists() and not cut.exists()
    left.with_name(f".{left.name}.abc.safetensors").touch()  # as if killed while writing
    capsys.readouterr()
    stage.main([*options, output, str(cut)])
    said = capsys.readouterr().err
    assert f"goes on after epoch 3 of {EPOCHS}, from {left}" in said and f"{(EPOCHS - 3) * BATCHES} done" in said
    assert digest(cut) == digest(whole)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cut.safetensors", "whole.safetensors"]


class Cut(Exception):
    """Ends training at a step."""


Toy = Callable[..., tuple[np.ndarray, np.ndarray]]
NETWORK = {"depths": (1, 1), "widths": (8, 8), "stem_stride": 2, "embedding": 8, "dropout": 0.3}


@pytest.fixture
def cut_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Ends what trains next at its n-th step."""
    clip = nn.utils.clip_grad_norm_

    def arm(n: int) -> None:
        steps = iter(range(n))

        def step(*arguments: Any) -> Any:
            if next(steps, None) is None:
                monkeypatch.setattr(nn.utils, "clip_grad_norm_", clip)
                raise Cut
            return clip(*arguments)

        monkeypatch.setattr(nn.utils, "clip_grad_norm_", step)

    return arm


def classifier_run(toy: Toy, checkpoint: Path | None, reported: list[Any], **options: Any) -> dict[str, Any]:
    optimiser = OptimiserConfig(
        **{"epochs": 4, "batch_size": 14, "learning_rate": 1e-2, "device": "cpu", "seed": 5, **options}
    )
    config = PretrainConfig(network=NETWORK, optimiser=optimiser)
    model, history = train_classifier(
        toy(8, 0), toy(2, 1), config, lambda metrics, epoch: reported.append((epoch, dict(metrics))), checkpoint, noisy
    )
    return {**model.state_dict(), "history": history.metrics}


def noisy(patterns: torch.Tensor) -> torch.Tensor:
    return patterns + 0.1 * torch.rand_like(patterns)


def refiner_run(toy: Toy, checkpoint: Path | None, reported: list[Any], **options: Any) -> dict[str, Any]:
    optimiser = OptimiserConfig(
        **{"epochs": 4, "batch_size": 14, "learning_rate": 0.3, "device": "cpu", "seed": 5, **options}
    )
    torch.manual_seed(0)
    classifier = Classifier(PretrainConfig(network=NETWORK).network)
    config = RefineConfig(network={"widths": (8, 8), "factor": 2}, optimiser=optimiser, variant="with_ideal")
    model, history = train_refiner(
        classifier,
        toy(8, 0, flawed=True),
        toy(2, 1, flawed=True),
        config,
        lambda metrics, epoch: reported.append((epoch, dict(metrics))),
        checkpoint,
        toy(4, 2),
    )
    return {**model.state_dict(), "history": history.metrics}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(v, b[k]) if isinstance(v, torch.Tensor) else v == b[k] for k, v in a.items())


@pytest.mark.parametrize("run", [classifier_run, refiner_run])
@pytest.mark.parametrize("step", [1, 4, 7, 15])
def test_cut_at_any_step(toy: Toy, cut_at: Any, tmp_path: Path, run: Any, step: int) -> None:
    """Four batches an epoch: cut in the first one, right after it, in a later one, in the last."""
    undisturbed: list[Any] = []
    expected = run(toy, None, undisturbed)
    cut_at(step)
    with pytest.raises(Cut):
        run(toy, tmp_path / "c", [])
    assert (tmp_path / "c").exists() == (step >= 4)
    reported: list[Any] = []
    assert same(run(toy, tmp_path / "c", reported), expected)
    assert reported == undisturbed  # a run of MLflow begun anew still gets every epoch
    assert same(run(toy, tmp_path / "c", []), expected), "finished training is not done again"


def test_the_best_epoch_before_the_cut_is_kept(toy: Toy, cut_at: Any, tmp_path: Path) -> None:
    """At this rate training diverges: an epoch before the cut has the lowest validation loss."""
    expected = refiner_run(toy, None, [])
    losses = expected["history"]["validation_loss"]
    assert int(np.argmin(losses)) < 3
    cut_at(15)
    with pytest.raises(Cut):
        refiner_run(toy, tmp_path / "c", [])
    assert same(refiner_run(toy, tmp_path / "c", []), expected)


def test_another_training_is_not_gone_on_from(
    toy: Toy, cut_at: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c"

    def other(per_class: int, seed: int, flawed: bool = False) -> tuple[np.ndarray, np.ndarray]:
        patterns, labels = toy(per_class, seed, flawed)
        return patterns * np.float32(0.999), labels

    for patterns, options in ((toy, {"seed": 6}), (other, {})):
        cut_at(9)
        with pytest.raises(Cut):
            classifier_run(toy, path, [])
        capsys.readouterr()
        found = classifier_run(patterns, path, [], **options)
        assert f"{path}: is of other options or other data; training starts anew" in capsys.readouterr().err
        assert same(found, classifier_run(patterns, None, [], **options))


def test_a_file_that_is_no_checkpoint(toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c"
    for content in (b"anything", b"\x10\0\0\0\0\0\0\0"):
        path.write_bytes(content)
        assert same(classifier_run(toy, path, [], epochs=1), classifier_run(toy, None, [], epochs=1))
        assert f"{path}: is no checkpoint" in capsys.readouterr().err


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimiser = torch.optim.AdamW([parameter], lr=0.1)
    for _ in range(3):
        parameter.grad = torch.tensor([0.5, -3.0])
        optimiser.step()
    record = {"best_loss": math.inf, "history": {"loss": [0.1, math.nan, 1 / 3]}}
    checkpoint = Checkpoint(tmp_path / "c", "it")
    assert checkpoint.load() is None
    groups = {"model": {"w": parameter.detach(), "n": torch.tensor(7)}, "optimiser": optimiser_tensors(optimiser)}
    checkpoint.save({**groups, "best": {}}, record)
    loaded = checkpoint.load()
    assert loaded is not None
    found, told = loaded
    assert repr(told) == repr(record)
    assert {name: same(members, groups[name]) for name, members in found.items()} == dict.fromkeys(groups, True)

    copied = nn.Parameter(parameter.detach().clone())
    another = torch.optim.AdamW([copied], lr=0.1)
    restore_optimiser(another, found["optimiser"])
    for p, o in ((parameter, optimiser), (copied, another)):
        p.grad = torch.tensor([0.3, 0.2])
        o.step()
    assert torch.equal(parameter, copied)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_noticed_wherever_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """A weight with one bit changed would be gone on with, and nobody would know."""
    one = Checkpoint(tmp_path / "c.safetensors", "this training")
    one.save({"model": {"w": torch.rand(20, 10), "b": torch.tensor(3.0)}}, {"epoch": 2})
    data = bytearray(one.path.read_bytes())
    rng = np.random.default_rng(seed)
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    one.path.write_bytes(bytes(data))
    assert one.load() is None
    assert "training starts anew" in capsys.readouterr().err


def test_identity_tells_trainings_apart() -> None:
    config, x = OptimiserConfig(), np.arange(4, dtype=np.float32)
    assert identity("a", config, [x]) == identity("a", config, [torch.arange(4.0)])
    others = [
        identity("b", config, [x]),
        identity("a", OptimiserConfig(epochs=11), [x]),
        identity("a", config, [x[::-1]]),
        identity("a", config, [x.reshape(2, 2)]),
        identity("a", config, [x.astype(np.int32)]),
        identity("a", config, [x[:0]]),
        identity("a", config, []),
    ]
    assert len({identity("a", config, [x]), *others}) == 8


def test_the_checkpoint_stays_until_the_output_is_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"), checkpoint_of(tmp_path / "m", "m") as path:
        path.touch()
        raise OSError("disk")
    assert path.exists()
    with checkpoint_of(tmp_path / "m", "m") as again:
        assert again == path
    assert not list(tmp_path.iterdir())


def test_an_epoch_draws_the_same_numbers_whenever_it_comes() -> None:
    seed_epoch(3, 1)
    first = torch.rand(3)
    seed_epoch(3, 2)
    assert not torch.equal(first, torch.rand(3))
    seed_epoch(3, 1)
    assert torch.equal(first, torch.rand(3))
