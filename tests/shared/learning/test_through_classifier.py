"""A refiner trained on through a frozen classifier: the classifier stays, its answers to what is refined get better."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from imitation_refinement.learning.config import ClassifierConfig, RootRefinerConfig
from imitation_refinement.learning.pairs import pairs
from imitation_refinement.learning.stream import Stream
from imitation_refinement.learning.through_classifier import ThroughConfig, read, train_through
from imitation_refinement.vocabulary import Supervision
from imitation_refinement.xrd.bank import Bank
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile

GRID = Grid(axis="log_q", points=256)


@pytest.mark.parametrize("supervision", list(Supervision))
def test_the_refiner_learns_what_the_classifier_wants(toy_bank: Bank, supervision: Supervision) -> None:
    torch.manual_seed(0)
    refiner = RootRefinerConfig(widths=(8, 12), hidden=8, positions=8).build(GRID)
    options = {"architecture": "strided", "depths": (1, 1), "widths": (8, 8), "embedding": 8, "positions": 8}
    classifier = ClassifierConfig.model_validate(options).build()
    stream = Stream(toy_bank, GRID)
    measured = pairs(stream, 1000, 14, Profile())
    seen, labels = measured.seen.numpy(), measured.label.numpy()
    before = copy.deepcopy(classifier.state_dict())
    terms: list[dict[str, float]] = []
    config = ThroughConfig(supervision=supervision, steps=12, learning_rate=5e-3, pair_weight=0.1)
    trained = train_through(
        refiner, classifier, seen, labels, stream, Profile(), config, lambda step, found: terms.append(found)
    )
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert terms[-1]["prediction"] < terms[0]["prediction"]
    assert not trained.training and read(trained, classifier, measured.seen)[1].shape == (14, 7)


def test_the_control_sees_each_label_with_another_pattern(toy_bank: Bank) -> None:
    """Shuffled labels give another refiner than true ones, and the same in every run."""
    stream = Stream(toy_bank, GRID)
    measured = pairs(stream, 1000, 21, Profile())
    options = {"architecture": "strided", "depths": (1, 1), "widths": (8, 8), "embedding": 8, "positions": 8}
    found = []
    for shuffled in (False, True, True):
        torch.manual_seed(0)
        refiner = RootRefinerConfig(widths=(8, 12), hidden=8, positions=8).build(GRID)
        classifier = ClassifierConfig.model_validate(options).build()
        config = ThroughConfig(shuffled=shuffled, steps=2)
        train_through(refiner, classifier, measured.seen.numpy(), measured.label.numpy(), stream, Profile(), config)
        found.append(refiner.gains.weight.detach().numpy())
    assert not np.array_equal(found[0], found[1]) and np.array_equal(found[1], found[2])
