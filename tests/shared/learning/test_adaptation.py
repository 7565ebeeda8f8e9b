"""Fine-tuning, ADDA and GTA on toy patterns: what learns, what stays, what sees labels, what comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from imitation_refinement.errors import InputError
from imitation_refinement.learning.adaptation import Discriminator, adda, fine_tune, gta
from imitation_refinement.learning.config import AdaptConfig, GeneratorConfig, PretrainConfig
from imitation_refinement.learning.generator import UNKNOWN, Generator, Standardise
from imitation_refinement.learning.models import apply, load_classifier, load_generator, load_refiner, save_model
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.learning.training import train_classifier
from imitation_refinement.xrd.grid import Grid

CLASSIFIER = {"depths": (1, 1), "widths": (8, 16), "stem_stride": 2, "embedding": 8, "dropout": 0.1}
GTA = {"generator": {"noise": 4, "widths": (16, 16), "kernel": 3}, "discriminator": (16, 16, 16)}
Toy = Callable[..., tuple[np.ndarray, np.ndarray]]
NOTHING = (np.empty((0, 128), np.float32), np.empty(0, np.int64))


def silent(metrics: dict[str, float], epoch: int) -> None:
    """Reports nothing."""


def config(method: str, options: Any = None, **optimiser: Any) -> AdaptConfig:
    optimiser = {"epochs": 2, "batch_size": 14, "device": "cpu", **optimiser}
    return AdaptConfig(method=method, optimiser=optimiser, gta=GTA, **(options or {}))


@pytest.fixture(scope="module")
def classifier(toy: Toy) -> Classifier:
    """Pretrained on ideal patterns; batch norm, so that the two kinds' statistics differ."""
    optimiser = {"epochs": 12, "batch_size": 14, "learning_rate": 1e-2, "device": "cpu"}
    return train_classifier(toy(20, 0), NOTHING, PretrainConfig(network=CLASSIFIER, optimiser=optimiser), silent)[0]


def state(model: nn.Module, part: str = "") -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith(part)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def accuracy(model: Classifier, patterns: np.ndarray, labels: np.ndarray) -> float:
    return float((apply(model, patterns).argmax(1) == labels).mean())


def adapted(method: str, model: Classifier, toy: Toy, **options: Any) -> tuple[nn.Module, dict[str, list[float]]]:
    """The method on small toy sets: 28 imperfect patterns, 70 ideal ones."""
    report, checkpoint = options.pop("report", silent), options.pop("checkpoint", None)
    validation, settings = options.pop("validation", toy(2, 4, True)), config(method, **options)
    ideal, imperfect = toy(10, 0), toy(4, 3, True)
    if method == "finetuned":
        found, history = fine_tune(model, imperfect, validation, settings, report, checkpoint)
    elif method == "adda":
        found, history = adda(model, ideal[0], imperfect[0], validation, settings, report, checkpoint)
    else:
        found, history = gta(model, ideal, imperfect[0], validation, settings, report, checkpoint)
    return found, history.metrics


METHODS = ("finetuned", "adda", "gta")


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_weights_and_the_source_stays(toy: Toy, classifier: Classifier, method: str) -> None:
    before = state(classifier)
    first, again, other = (state(adapted(method, classifier, toy, seed=seed)[0]) for seed in (1, 1, 2))
    assert same(first, again) and not same(first, other)
    assert same(before, state(classifier))
    assert all(parameter.grad is None for parameter in classifier.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_metrics_of_every_epoch(toy: Toy, classifier: Classifier, method: str) -> None:
    reported: list[int] = []
    model, history = adapted(method, classifier, toy, epochs=3, report=lambda _, epoch: reported.append(epoch))
    assert reported == [0, 1, 2] and all(len(values) == 3 for values in history.values())
    assert all(np.isfinite(values).all() for values in history.values())
    found = model.encoder if isinstance(model, Generator) else model
    assert isinstance(found, Classifier) and not model.training and found.config == classifier.config
    if method != "finetuned":
        assert history["validation_accuracy"][-1] == accuracy(found, *toy(2, 4, True))
    assert "validation_accuracy" not in adapted(method, classifier, toy, validation=NOTHING)[1]


def test_few_patterns_are_passed_over_more_often(toy: Toy, classifier: Classifier) -> None:
    assert len(adapted("adda", classifier, toy, epochs=1, least_steps=5)[1]["encoder_loss"]) == 3  # of two batches


@pytest.mark.parametrize("method", ["adda", "gta"])
def test_validation_labels_choose_nothing(toy: Toy, classifier: Classifier, method: str) -> None:
    x, y = toy(2, 4, True)
    states = [state(adapted(method, classifier, toy, validation=part)[0]) for part in ((x, y), (x, 6 - y), NOTHING)]
    assert same(states[0], states[1]) and same(states[0], states[2])


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_training_ends_as_an_undisturbed_one(
    toy: Toy, classifier: Classifier, method: str, tmp_path: Path
) -> None:
    whole, history = adapted(method, classifier, toy, epochs=4)

    def kill(metrics: dict[str, float], epoch: int) -> None:
        if epoch == 2:
            raise Killed

    path = tmp_path / "c.safetensors"
    with pytest.raises(Killed):
        adapted(method, classifier, toy, epochs=4, report=kill, checkpoint=path)
    reported: list[int] = []
    resumed, again = adapted(
        method, classifier, toy, epochs=4, report=lambda _, epoch: reported.append(epoch), checkpoint=path
    )
    assert same(state(whole), state(resumed)) and history == again and reported == [0, 1, 2, 3]


def test_fine_tuning_mends_and_keeps_the_best_epoch(toy: Toy, classifier: Classifier) -> None:
    test, labels = toy(10, 5, flawed=True)
    raw = accuracy(classifier, test, labels)
    assert raw < 0.6 < 0.9 < accuracy(classifier, *toy(10, 5))
    train, (vx, vy) = toy(12, 3, True), toy(4, 4, True)
    model, history = fine_tune(classifier, train, (vx, vy), config("finetuned", epochs=12, learning_rate=1e-2), silent)
    assert accuracy(model, test, labels) > raw + 0.25
    logits = torch.from_numpy(apply(model, vx))
    kept = float(nn.functional.cross_entropy(logits, torch.from_numpy(vy)))
    assert kept == pytest.approx(min(history.metrics["validation_loss"]), rel=1e-5)
    with torch.no_grad():
        embedding = model.embed(torch.from_numpy(train[0]))
    means = torch.stack([embedding[torch.from_numpy(train[1]) == k].mean(0) for k in range(7)])
    torch.testing.assert_close(model.prototypes, (classifier.prototypes + 12 * means) / 13)


def test_adda_adapts_the_encoder_alone(toy: Toy, classifier: Classifier) -> None:
    model, _ = adapted("adda", classifier, toy)
    for part, stays in (("output", True), ("prototypes", True), ("layers", False), ("head", False)):
        assert same(state(classifier, part), state(model, part)) == stays, part


def test_adda_keeps_a_still_encoder_where_there_is_nothing_to_learn_with(toy: Toy) -> None:
    """Group norm and no rate to speak of: what comes out is the source."""
    torch.manual_seed(0)
    source = Classifier(PretrainConfig(network={**CLASSIFIER, "norm": "group"}).network).eval()
    model, _ = adapted("adda", source, toy, learning_rate=1e-12)
    np.testing.assert_allclose(apply(model, toy(2, 9)[0]), apply(source, toy(2, 9)[0]), atol=1e-4)


def half_flawed(toy: Toy, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The toy's patterns, the flaw at a little more than half its strength: the source gets about half of them."""
    (ideal, labels), (flawed, _) = toy(per_class, seed), toy(per_class, seed, True)
    patterns = 0.4 * ideal + 0.6 * flawed
    return patterns / patterns.max(1, keepdims=True), labels


def test_adda_brings_imperfect_patterns_to_their_classes(toy: Toy, classifier: Classifier) -> None:
    """On patterns that were not trained on, and without a label."""
    test, labels = half_flawed(toy, 10, 5)
    assert accuracy(classifier, test, labels) < 0.75
    imperfect, settings = half_flawed(toy, 20, 3)[0], config("adda", epochs=15, learning_rate=2e-4)
    model, history = adda(classifier, toy(20, 0)[0], imperfect, NOTHING, settings, silent)
    assert accuracy(model, test, labels) > 0.9
    # In the end the discriminator knows little: its loss is near ln 2.
    assert history.metrics["discriminator_loss"][-1] == pytest.approx(np.log(2), abs=0.15)


def test_batch_norm_takes_the_statistics_of_imperfect_patterns(toy: Toy, classifier: Classifier) -> None:
    imperfect = torch.from_numpy(toy(4, 3, True)[0])
    reference = copy.deepcopy(classifier).train()
    norm = next(layer for layer in reference.modules() if isinstance(layer, nn.BatchNorm2d))
    norm.momentum = 1.0
    with torch.no_grad():
        reference.embed(imperfect)
    for method in ("adda", "gta"):
        model, _ = adapted(method, classifier, toy)
        model = model.encoder if isinstance(model, Generator) else model
        found = next(layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))
        torch.testing.assert_close(found.running_mean, norm.running_mean)
        torch.testing.assert_close(found.running_var, norm.running_var)


def test_gta_draws_ideal_patterns_and_adapts_the_encoder(toy: Toy, classifier: Classifier) -> None:
    (x, y), settings = toy(20, 0), config("gta", epochs=12, learning_rate=2e-3)
    generator, history = gta(classifier, (x, y), half_flawed(toy, 10, 3)[0], NOTHING, settings, silent)
    test, labels = half_flawed(toy, 10, 5)
    assert accuracy(generator.encoder, test, labels) > accuracy(classifier, test, labels) + 0.1
    assert history.metrics["prediction_loss"][-1] < 0.5
    # What is drawn of an ideal pattern is most like the mean of its own class: one in seven by chance.
    with torch.no_grad():
        drawn = generator.generate(
            generator.encoder.embed(torch.from_numpy(x)), torch.from_numpy(y), torch.zeros(140, 4)
        )
    means = np.stack([x[y == k].mean(0) for k in range(7)])
    likeness = np.corrcoef(drawn.numpy(), means)[:140, 140:]
    assert (likeness.argmax(1) == y).mean() > 0.5


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    model = Generator(GeneratorConfig(**GTA["generator"], encoder=CLASSIFIER, points=100))
    model.encoder(torch.rand(16, 100))  # moves the batch-norm statistics away from their start
    return model.eval()


def test_what_the_generator_gives(generator: Generator) -> None:
    x = np.random.default_rng(0).random((9, 100), dtype=np.float32)
    drawn = apply(generator, x)
    assert drawn.shape == x.shape and drawn.dtype == np.float32
    assert (drawn >= 0).all()
    np.testing.assert_allclose(drawn.max(1), 1)
    np.testing.assert_array_equal(drawn, apply(generator, x))
    np.testing.assert_allclose(drawn[:4], apply(generator, x[:4]), atol=1e-6)  # of what comes beside it, nothing
    embedding, noise = generator.encoder.embed(torch.from_numpy(x)), torch.zeros(9, 4)
    unknown = generator.generate(embedding, torch.full((9,), UNKNOWN), noise).detach().numpy()
    np.testing.assert_allclose(drawn, unknown, atol=1e-6)


@pytest.mark.parametrize("changed", ["label", "noise", "embedding"])
def test_the_generator_listens_to_all_that_it_is_given(generator: Generator, changed: str) -> None:
    torch.manual_seed(1)
    given = {"embedding": torch.randn(3, 8), "label": torch.tensor([0, 1, 2]), "noise": torch.randn(3, 4)}
    first = generator.generate(*given.values())
    given[changed] = torch.tensor([3, 4, 5]) if changed == "label" else torch.randn_like(given[changed])
    assert (first - generator.generate(*given.values())).abs().amax(1).min() > 1e-4


def test_generator_round_trip(generator: Generator, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((5, 100), dtype=np.float32)
    save_model(tmp_path / "g", generator, Grid(points=100), {"method": "gta"})
    found, grid, about = load_generator(tmp_path / "g")
    assert (grid, about, found.config) == (Grid(points=100), {"method": "gta"}, generator.config)
    np.testing.assert_array_equal(apply(found, x), apply(generator, x))
    encoder, _, _ = load_classifier(tmp_path / "g")
    np.testing.assert_array_equal(apply(encoder, x), apply(generator.encoder, x))
    with pytest.raises(InputError, match="holds a Generator"):
        load_refiner(tmp_path / "g")


def test_standardise() -> None:
    embedding = torch.randn(200, 4) * torch.tensor([1.0, 5.0, 0.1, 0.0]) + torch.tensor([0.0, 9.0, -3.0, 2.0])
    found = Standardise(4).fit(embedding)(embedding)
    torch.testing.assert_close(found.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[:, :2].std(0, correction=0), torch.ones(2))
    assert (found[:, 2:].std(0) <= 1.01).all()  # what hardly varies is not blown up


@pytest.mark.parametrize("points", [2, 128, 2047])
def test_the_discriminator_takes_any_length(points: int) -> None:
    real, classes = Discriminator((4, 4, 4), points)(torch.rand(3, points))
    assert real.shape == (3, 1) and classes.shape == (3, 7)


def test_each_method_has_its_own_pace() -> None:
    assert AdaptConfig(method="gta", optimiser={"seed": 3}).optimiser.learning_rate == 5e-4
    assert AdaptConfig(method="adda").optimiser.learning_rate == 1e-4
    assert AdaptConfig(method="adda", optimiser={"learning_rate": 1e-5}).optimiser.learning_rate == 1e-5
    assert AdaptConfig.model_validate(AdaptConfig(method="gta").model_dump()) == AdaptConfig(method="gta")
