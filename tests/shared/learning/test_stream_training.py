"""Training on the stream: it learns, and a killed training goes on to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from imitation_refinement.learning.stream_training import StreamConfig, is_held_out, split, train_on_stream
from imitation_refinement.xrd.bank import DERIVED, GIVEN, RANDOM, Bank
from imitation_refinement.xrd.grid import Grid

NETWORK = {"architecture": "strided", "depths": (1, 1, 1), "widths": (8, 16, 16), "embedding": 16, "positions": 16}
NETWORK |= {"norm": "group", "dropout": 0.1, "stem_stride": 4}
CONFIG = StreamConfig.model_validate(
    {
        "grid": Grid(axis="log_q", points=256),
        "network": NETWORK,
        "samples": 420,
        "batch_size": 21,
        "validation": 28,
        "validate_every": 105,
        "held_out": 0.4,
        "checkpoint_seconds": 0,
        "average": 0.9,
        "learning_rate": 1e-2,
        "device": "cpu",
    }
)


@pytest.fixture(scope="module")
def toy_bank(toy_bank: Bank) -> Bank:
    """The toy bank with five stoichiometries, each of all crystal systems."""
    return replace(toy_bank, formula=np.array([f"{name}{2 + i // 7}O" for i, name in enumerate(toy_bank.formula)]))


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_bit(toy_bank: Bank, tmp_path: Path) -> None:
    whole, history = train_on_stream(toy_bank, CONFIG, lambda metrics, samples: None)
    assert history.metrics["samples"] == [105, 210, 315, 420]
    seen: list[int] = []

    def killing(metrics: dict[str, float], samples: int) -> None:
        seen.append(samples)
        if samples == 315:
            raise Killed

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        train_on_stream(toy_bank, CONFIG, killing, path)
    shared = CONFIG.model_copy(update={"workers": 2})
    resumed, again = train_on_stream(toy_bank, shared, lambda metrics, samples: seen.append(samples), path)
    assert seen == [105, 210, 315, 105, 210, 315, 420]
    assert again.metrics == history.metrics
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_it_learns(toy_bank: Bank) -> None:
    config = CONFIG.model_copy(update={"samples": 1260, "validate_every": 315})
    model, history = train_on_stream(toy_bank, config, lambda metrics, samples: None)
    losses = history.metrics["loss"]
    assert losses[-1] < 0.9 * losses[0] and history.metrics["accuracy"][-1] > 0.3
    assert not model.training and model.prototypes.std() > 0


def test_a_formula_is_on_one_side(toy_bank: Bank) -> None:
    training, held_out = split(toy_bank, 0.4)
    assert not {*training.formula.tolist()} & {*held_out.formula.tolist()}
    assert len(training) + len(held_out) == len(toy_bank)
    abx3, others = ["Ca1Ti1O3", "CaO3Ti", "KNbO3", "F3KMn"], ["CaO4Ti2", "Ca0.5O3Ti0.5"]
    chosen = [is_held_out([*abx3, *others], share) for share in np.linspace(0, 1, 33)]
    assert {tuple(found[: len(abx3)]) for found in chosen} == {(False,) * 4, (True,) * 4}
    assert any(found.any() != found.all() for found in chosen)
    with pytest.raises(ValueError, match="too few structures"):
        split(toy_bank.select(range(7)), 0.5)
    for origin in (RANDOM, DERIVED):  # none of these says what networks are worth
        made = replace(held_out, origin=np.full(len(held_out), origin, np.int8))
        again, same = split(Bank.join([toy_bank, made]), 0.4)
        assert set(same.origin.tolist()) == {GIVEN} and len(same) == len(held_out)
        assert (again.origin == origin).sum() == len(made)


def test_batch_norm_is_refused() -> None:
    with pytest.raises(ValidationError, match="norm must be group or none"):
        StreamConfig.model_validate({"network": {"architecture": "strided", "norm": "batch"}})
