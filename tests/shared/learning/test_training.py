"""Training on toy patterns: what learns, what is frozen, what sees labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy as scipy_entropy
from torch import nn

from imitation_refinement.data.datasets import UNLABELLED
from imitation_refinement.learning.config import OptimiserConfig, PretrainConfig, RefineConfig
from imitation_refinement.learning.losses import squared_distances
from imitation_refinement.learning.models import apply, probabilities
from imitation_refinement.learning.networks import Classifier, Refiner
from imitation_refinement.learning.training import (
    History,
    _plan,
    quick,
    refiner_losses,
    train_classifier,
    train_refiner,
)
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

CLASSIFIER = {"depths": (1, 1), "widths": (8, 16), "stem_stride": 2, "embedding": 8, "dropout": 0.0}
REFINER = {"widths": (8, 16), "factor": 2}
Toy = Callable[..., tuple[np.ndarray, np.ndarray]]
NOTHING = (np.empty((0, 128), np.float32), np.empty(0, np.int64))


def silent(metrics: dict[str, float], epoch: int) -> None:
    """Reports nothing."""


def optimiser(**options: Any) -> OptimiserConfig:
    return OptimiserConfig(**{"epochs": 8, "batch_size": 14, "learning_rate": 1e-2, "device": "cpu", **options})


def pretrain(train: Any, validation: Any = NOTHING, network: Any = CLASSIFIER, **options: Any) -> Any:
    config = PretrainConfig(network=network, optimiser=optimiser(**options))
    return train_classifier(train, validation, config, silent)


def train(
    classifier: Classifier, data: Any, validation: Any = NOTHING, ideal: Any = None, **options: Any
) -> tuple[Refiner, History]:
    config = RefineConfig(
        **{"network": REFINER, "supervision": options.pop("supervision", "targeted"), **options.pop("weights", {})},
        optimiser=optimiser(**options),
    )
    return train_refiner(classifier, data, validation, config, silent, ideal=ideal)


@pytest.fixture(scope="module")
def classifier(toy: Toy) -> Classifier:
    return pretrain(toy(20, 0), toy(8, 1), epochs=12)[0]


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def accuracy(model: Classifier, patterns: np.ndarray, labels: np.ndarray) -> float:
    return float((probabilities(model, patterns).argmax(1) == labels).mean())


@pytest.mark.parametrize("architecture", ["vgg", "densenet"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_classifier_learns(toy: Toy, architecture: str, norm: str) -> None:
    network = {**CLASSIFIER, "architecture": architecture, "norm": norm, "widths": (8, 8)}
    reported: list[int] = []
    config = PretrainConfig(network=network, optimiser=optimiser(epochs=10))
    model, history = train_classifier(toy(20, 0), toy(8, 1), config, lambda _, epoch: reported.append(epoch))
    losses = history.metrics
    assert reported == list(range(10)) and all(len(values) == 10 for values in losses.values())
    assert losses["loss"][-1] < 0.5 * losses["loss"][0]
    np.testing.assert_allclose(
        losses["loss"], np.add(losses["prediction_loss"], 0.1 * np.array(losses["prototype_loss"])), rtol=1e-4
    )
    assert not model.training
    assert accuracy(model, *toy(8, 2)) > 0.9
    assert losses["validation_accuracy"][-1] == accuracy(model, *toy(8, 1))


def test_prototypes_end_at_the_classes_means(toy: Toy, classifier: Classifier) -> None:
    """The last update, over all 20 samples a class, leaves the old prototype a weight of 1/21."""
    patterns, labels = toy(20, 0)
    with torch.no_grad():
        embedding = classifier.embed(torch.from_numpy(patterns)).numpy()
    means = np.stack([embedding[labels == k].mean(0) for k in range(7)])
    distance = np.linalg.norm(classifier.prototypes.numpy() - means, axis=1)
    assert (distance < 0.2 * np.linalg.norm(means, axis=1)).all()
    nearest = np.linalg.norm(embedding[:, None] - classifier.prototypes.numpy(), axis=2).argmin(1)
    assert (nearest == labels).mean() > 0.9


def test_without_prototype_loss_it_is_a_standard_classifier(toy: Toy) -> None:
    config = PretrainConfig(network=CLASSIFIER, optimiser=optimiser(epochs=2), prototype_weight=0)
    _, history = train_classifier(toy(4, 0), NOTHING, config, silent)
    assert history.metrics["loss"] == pytest.approx(history.metrics["prediction_loss"])
    assert np.isnan(history.metrics["validation_accuracy"]).all()


def test_same_seed_same_weights(toy: Toy) -> None:
    networks = [{**CLASSIFIER, "dropout": 0.3}, {**CLASSIFIER, "architecture": "densenet", "widths": (8, 8)}]
    for network in networks:
        first, again, other = (
            state(pretrain(toy(4, 0), network=network, epochs=2, seed=seed)[0]) for seed in (1, 1, 2)
        )
        assert same(first, again) and not same(first, other)


@pytest.mark.parametrize("supervision", ["targeted", "non_targeted"])
def test_same_seed_same_refiner(toy: Toy, classifier: Classifier, supervision: str) -> None:
    data = toy(4, 3, flawed=True)
    first, again, other = (
        state(train(classifier, data, toy(2, 4, True), supervision=supervision, epochs=2, seed=seed)[0])
        for seed in (1, 1, 2)
    )
    assert same(first, again) and not same(first, other)


@pytest.mark.parametrize("supervision", ["targeted", "non_targeted"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_classifier_is_frozen(toy: Toy, supervision: str, norm: str) -> None:
    model, _ = pretrain(toy(8, 0), network={**CLASSIFIER, "norm": norm, "dropout": 0.3}, epochs=2)
    before = state(model)
    assert any("running_mean" in name for name in before) == (norm == "batch")
    model.train().zero_grad()
    refiner, _ = train(model, toy(8, 3, flawed=True), toy(2, 4, True), supervision=supervision, epochs=2)
    assert same(before, state(model))
    assert not model.training
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert not same(state(refiner.config.build()), state(refiner))


def test_targeted_refinement_mends_a_flaw(toy: Toy, classifier: Classifier) -> None:
    test, labels = toy(10, 5, flawed=True)
    raw = accuracy(classifier, test, labels)
    assert raw < 0.6 < 0.9 < accuracy(classifier, *toy(10, 5))
    weights = {"regularisation_weight": 0.1}
    refiner, history = train(classifier, toy(20, 3, True), toy(6, 4, True), epochs=25, weights=weights)
    refined = apply(refiner, test)
    assert accuracy(classifier, refined, labels) > raw + 0.25
    assert history.metrics["loss"][-1] < history.metrics["loss"][0]
    assert refined.shape == test.shape and (refined >= 0).all() and not refiner.training


def test_ideal_patterns_beside_the_others_stay_as_they_are(toy: Toy, classifier: Classifier) -> None:
    test, (ideal, labels) = toy(10, 5, flawed=True), toy(10, 6)
    changed, read = [], []
    for variant in ("", "with_ideal"):
        weights = {"regularisation_weight": 0.1, "variant": variant}
        refiner, _ = train(classifier, toy(20, 3, True), toy(6, 4, True), toy(20, 7), epochs=25, weights=weights)
        refined = apply(refiner, ideal)
        changed.append(np.abs(refined - ideal).mean())
        read.append(accuracy(classifier, refined, labels))
        assert accuracy(classifier, apply(refiner, test[0]), test[1]) > accuracy(classifier, *test) + 0.25
    assert changed[1] < 0.8 * changed[0] and read[1] >= max(read[0], 0.9)
    with pytest.raises(ValueError, match="ideal"):
        train(classifier, toy(4, 3, True), weights={"variant": "with_ideal"})


def test_targeted_training_keeps_the_epoch_of_the_lowest_validation_loss(toy: Toy, classifier: Classifier) -> None:
    x, y = toy(6, 4, flawed=True)
    refiner, history = train(classifier, toy(4, 3, True), (x, y), epochs=12)
    config = RefineConfig(network=REFINER)
    with torch.no_grad():
        kept = refiner_losses(refiner, classifier, torch.from_numpy(x), torch.from_numpy(y), config)["loss"]
    assert float(kept) == pytest.approx(min(history.metrics["validation_loss"]), rel=1e-5)


def test_non_targeted_training_sees_no_label(toy: Toy, classifier: Classifier) -> None:
    (x, y), (vx, vy) = toy(6, 3, flawed=True), toy(2, 4, flawed=True)
    rng = np.random.default_rng(0)
    answers = [
        state(train(classifier, (x, labels), (vx, told), supervision="non_targeted", epochs=3)[0])
        for labels, told in (
            (y, vy),
            (rng.permutation(y), rng.permutation(vy)),
            (np.full_like(y, UNLABELLED), np.zeros_like(vy)),
        )
    ]
    assert same(answers[0], answers[1]) and same(answers[0], answers[2])


def test_targeted_training_uses_the_labelled_patterns_alone(toy: Toy, classifier: Classifier) -> None:
    x, y = toy(6, 3, flawed=True)
    labels = np.where(np.arange(len(y)) < 21, y, UNLABELLED)
    few = state(train(classifier, (x[:21], y[:21]), epochs=2)[0])
    assert same(few, state(train(classifier, (x, labels), epochs=2)[0]))
    wrong = np.roll(y[:21], 1)
    assert not same(few, state(train(classifier, (x[:21], wrong), epochs=2)[0]))
    with pytest.raises(ValueError, match="labelled"):
        train(classifier, (x, np.full_like(y, UNLABELLED)))


@pytest.fixture
def batch(toy: Toy) -> tuple[torch.Tensor, torch.Tensor]:
    patterns, labels = toy(2, 6, flawed=True)
    return torch.from_numpy(patterns), torch.from_numpy(labels)


@pytest.fixture
def working(batch: object) -> Refiner:
    """A refiner that changes its input."""
    torch.manual_seed(0)
    model = RefineConfig(network=REFINER).network.build()
    nn.init.normal_(model.output.weight, std=0.05)
    return model


def losses(refiner: Refiner, classifier: Classifier, x: Any, labels: Any, **options: Any) -> dict[str, float]:
    found = refiner_losses(refiner, classifier, x, labels, RefineConfig(network=REFINER, **options))
    return {name: float(value.detach()) for name, value in found.items()}


def test_terms_of_targeted_refinement(working: Refiner, classifier: Classifier, batch: Any) -> None:
    x, labels = batch
    with torch.no_grad():
        refined = working(x)
        embedding = classifier.embed(refined)
        logits = classifier.output(embedding).numpy()
        distances = squared_distances(embedding, classifier.prototypes).numpy()
    rows = np.arange(len(labels))
    prediction = -log_softmax(logits, axis=1)[rows, labels].mean()
    prototype = -log_softmax(-distances, axis=1)[rows, labels].mean()
    change = (refined - x).abs().mean().item()
    found = losses(working, classifier, x, labels, feature_depth=0, regularisation_weight=3.0, prototype_weight=0.5)
    assert found["prediction_loss"] == pytest.approx(prediction, rel=1e-5)
    assert found["prototype_loss"] == pytest.approx(prototype, rel=1e-5)
    assert found["regularisation_loss"] == pytest.approx(change, rel=1e-5)
    assert found["loss"] == pytest.approx(prediction + 3 * change + 0.5 * prototype, rel=1e-5)
    ablation = losses(working, classifier, x, labels, feature_depth=0, prediction_weight=0.0, prototype_weight=0.0)
    assert ablation["loss"] == pytest.approx(ablation["regularisation_loss"])


def test_terms_of_non_targeted_refinement(working: Refiner, classifier: Classifier, batch: Any) -> None:
    x, _ = batch
    with torch.no_grad():
        embedding = classifier.embed(working(x))
        logits = classifier.output(embedding).numpy()
        distances = squared_distances(embedding, classifier.prototypes).numpy()
    found = losses(working, classifier, x, None, prototype_weight=0.5, regularisation_weight=0.0)
    prediction = scipy_entropy(softmax(logits, axis=1), axis=1).mean()
    prototype = scipy_entropy(softmax(-distances, axis=1), axis=1).mean()
    assert found["prediction_loss"] == pytest.approx(prediction, rel=1e-4)
    assert found["prototype_loss"] == pytest.approx(prototype, rel=1e-4, abs=1e-7)
    assert found["loss"] == pytest.approx(prediction + 0.5 * prototype, rel=1e-4)
    assert "diversity_loss" not in found
    with_diversity = losses(working, classifier, x, None, variant="with_diversity")
    assert with_diversity["diversity_loss"] == pytest.approx(-scipy_entropy(softmax(logits, axis=1).mean(0)), rel=1e-4)


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("norm", [1.0, 2.0])
def test_regularisation_compares_feature_maps(
    working: Refiner, classifier: Classifier, batch: Any, depth: int, norm: float
) -> None:
    x, labels = batch
    with torch.no_grad():
        maps = [classifier.convolution_features(v, depth).flatten(1) for v in (working(x), x)]
    expected = (maps[0] - maps[1]).abs().pow(norm).mean(1).pow(1 / norm).mean()
    found = losses(working, classifier, x, labels, feature_depth=depth, norm=norm)
    assert found["regularisation_loss"] == pytest.approx(float(expected), rel=1e-4)
    still = working.config.build()
    with torch.no_grad():
        still.output.bias[0] = -50  # takes nothing of the baseline away: the identity
    assert losses(still, classifier, x, labels, feature_depth=depth, norm=norm)["regularisation_loss"] < 1e-5


def test_classes_of_the_toy_are_the_crystal_systems(toy: Toy) -> None:
    assert set(toy(1, 0)[1]) == set(range(len(CRYSTAL_SYSTEMS)))


def test_an_epoch_of_few_patterns_is_several_passes() -> None:
    def plan(**options: int) -> list[int]:
        batches = _plan(lambda: iter([np.arange(8), np.arange(8)]), OptimiserConfig(batch_size=8, **options))
        return [len(epoch) for epoch in batches]

    assert plan(epochs=3) == [2, 2, 2]
    assert plan(epochs=1, least_steps=25) == [10, 10, 10]
    assert plan(epochs=1, least_steps=5) == [6]


@pytest.mark.parametrize(("has", "auto"), [(True, "bfloat16"), (False, "auto")])
def test_a_cpu_learns_in_bfloat16_only_where_it_has_it(has: bool, auto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    assert quick("auto", torch.device("cpu")) == auto
    assert quick("auto", torch.device("cuda")) == "auto"  # what a GPU has is looked at later
    assert quick("float32", torch.device("cpu")) == "float32" and quick("bfloat16", torch.device("cpu")) == "bfloat16"
