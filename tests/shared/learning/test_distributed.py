"""Two processes end where one does, within rounding."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from imitation_refinement.errors import InputError
from imitation_refinement.learning.config import ClassifierConfig, PretrainConfig, RefineConfig
from imitation_refinement.learning.distributed import (
    broadcast,
    gathered,
    join_processes,
    rank,
    share,
    summed,
    world_size,
)
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.learning.training import train_classifier, train_refiner
from imitation_refinement.progress import progress, say
from imitation_refinement.running.tracking import Tracker

ROOT = Path(__file__).parents[3]
OPTIMISER = {"epochs": 2, "batch_size": 21, "learning_rate": 1e-2, "device": "cpu"}
CLASSIFIER = {"depths": (1, 1), "widths": (8, 8), "stem_stride": 2, "embedding": 8, "dropout": 0.0}
REFINER = {"network": {"widths": (8, 8), "factor": 2}, "optimiser": OPTIMISER, "variant": "with_diversity"}

# Runs under torchrun: the first stage by its command line, then whatever else trains, here.
SCRIPT = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from components.pretrain_classifier.stage import STAGE
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parents[1])]
from conftest import toy_patterns
from test_distributed import trained
from imitation_refinement.learning.distributed import broadcast, rank, world_size
from imitation_refinement.progress import leads

folder = Path(sys.argv[2])
STAGE.main(sys.argv[3:])
states = trained(toy_patterns, folder)
assert world_size() == 2 and leads() == (rank() == 0)
assert broadcast(b"first" if leads() else b"") == b"first" and broadcast(b"" if leads() else b"x") == b""
save_file({name: state.contiguous() for name, state in states.items()}, folder / f"rank{rank()}.safetensors")
"""


class Cut(Exception):
    """Ends training after an epoch."""


def trained(toy: Callable[..., Any], folder: Path) -> dict[str, Tensor]:
    """Weights and losses of one training of each kind; the classifier's is cut once, and gone on from."""

    def silent(metrics: dict[str, float], epoch: int) -> None:
        """Reports nothing."""

    def cut(metrics: dict[str, float], epoch: int) -> None:
        if epoch == 1:
            raise Cut

    states = {}
    for norm in ("batch", "group"):
        config = PretrainConfig(network={**CLASSIFIER, "norm": norm}, optimiser=OPTIMISER)
        data = (toy(7, 0), toy(2, 1), config)  # 49 patterns in two batches of 22 to 27
        with pytest.raises(Cut):
            train_classifier(*data, cut, folder / norm)
        assert (folder / norm).exists()
        states[f"classifier, {norm} norm"] = train_classifier(*data, silent, folder / norm)
    torch.manual_seed(0)
    classifier = Classifier(ClassifierConfig(**CLASSIFIER))
    for supervision in ("targeted", "non_targeted"):
        config = RefineConfig(supervision=supervision, **REFINER)
        states[supervision] = train_refiner(classifier, toy(7, 2, True), toy(2, 3, True), config, silent)
    return {
        **{f"{kind}: {n}": t for kind, (model, _) in states.items() for n, t in model.state_dict().items()},
        **{
            f"{kind}: {n}": torch.tensor(values)
            for kind, (_, history) in states.items()
            for n, values in history.metrics.items()
        },
    }


def test_two_processes_as_one(toy: Any, toy_tables: dict[str, Path], tmp_path: Path) -> None:
    """Batches of odd sizes, both norms, the prototypes, a term that is no mean over patterns, and training cut once."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "one").mkdir()
    output = tmp_path / "stage.safetensors"
    stage = ["--ideal-dataset", str(toy_tables["ideal_dataset"]), "--classifier", str(output)]
    stage += ["--optimiser-epochs", "1", "--optimiser-device", "cpu", "--network-depths", "1", "--network-widths", "8"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*torchrun, str(tmp_path / "script.py"), str(Path(__file__).parent), str(tmp_path), *stage],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("56 learnt from") == 1, "only the first process speaks"
    assert output.exists() and not list(tmp_path.glob("*.checkpoint.safetensors"))
    first, second = (load_file(tmp_path / f"rank{n}.safetensors") for n in range(2))
    one = trained(toy, tmp_path / "one")
    assert first.keys() == second.keys() == one.keys()
    for name, expected in one.items():
        torch.testing.assert_close(first[name], expected, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        torch.testing.assert_close(first[name], second[name], rtol=1e-6, atol=1e-7)


def test_alone_nothing_is_shared() -> None:
    x = torch.rand(5, 2)
    assert (rank(), world_size(), share(5)) == (0, 1, slice(0, 5))
    assert gathered(x, 5) is x and summed(x) is x and broadcast(b"x") == b"x"
    assert join_processes("cpu") == torch.device("cpu")


def test_only_the_first_process_speaks_and_logs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("RANK", "1")
    say("a line")
    with Tracker.stage("a stage") as tracker:
        assert list(progress(range(2), "work")) == [0, 1] and not tracker.active
    assert capsys.readouterr().err == "" and not list(tmp_path.iterdir())
    monkeypatch.setenv("RANK", "0")
    say("a line")
    assert capsys.readouterr().err == "a line\n"


def test_shares_are_even_and_cover_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from imitation_refinement.learning import distributed

    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    for n in (4, 7, 33):
        parts = []
        for number in range(4):
            monkeypatch.setattr(distributed, "rank", lambda number=number: number)
            parts.append(np.arange(n)[share(n)])
        np.testing.assert_array_equal(np.concatenate(parts), np.arange(n))
        assert {len(part) for part in parts} <= {n // 4, -(-n // 4)}


def test_more_processes_than_patterns_of_a_batch(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from imitation_refinement.learning import distributed

    monkeypatch.setattr(distributed, "world_size", lambda: 30)
    config = PretrainConfig(network=CLASSIFIER, optimiser=OPTIMISER)
    with pytest.raises(InputError, match=r"torchrun: 30 processes can't share a batch of 2\d"):
        train_classifier(toy(7, 0), toy(2, 1), config, lambda metrics, epoch: None)
