"""Model files come back as they were; what is no model is refused and never run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from imitation_refinement.data.formula import NAMING
from imitation_refinement.errors import InputError
from imitation_refinement.learning.config import ClassifierConfig, UNetConfig
from imitation_refinement.learning.models import (
    METADATA_KEY,
    apply,
    check_unseen,
    fit_temperature,
    frozen,
    load_classifier,
    load_refiner,
    probabilities,
    save_model,
    use_device,
)
from imitation_refinement.learning.networks import Classifier, UNet
from imitation_refinement.xrd.grid import Grid

GRID = Grid(points=96)
CLASSIFIER = ClassifierConfig(depths=(1, 1), widths=(8, 8), embedding=8)
REFINER = UNetConfig(widths=(8, 8), factor=2)


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    model = Classifier(CLASSIFIER)
    model(torch.rand(16, 96))  # moves the batch-norm statistics away from their start
    return model.eval()


@pytest.fixture
def patterns() -> np.ndarray:
    return np.random.default_rng(0).random((300, 96), dtype=np.float32)


def test_classifier_round_trip(classifier: Classifier, patterns: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "models" / "c.safetensors"
    save_model(path, classifier, GRID, {"n_train": 5, "history": {"loss": [0.5]}})
    found, grid, about = load_classifier(path)
    assert grid == GRID and about == {"n_train": 5, "history": {"loss": [0.5]}}
    assert found.config == CLASSIFIER and not found.training
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    np.testing.assert_array_equal(apply(found, patterns), apply(classifier, patterns))
    assert [p.name for p in path.parent.iterdir()] == ["c.safetensors"]


def test_weights_of_half_precision(classifier: Classifier, patterns: np.ndarray, tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_model(whole, classifier, GRID, {}, ["NaCl"])
    save_model(half, classifier, GRID, {}, ["NaCl"], torch.float16)
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    found = load_classifier(half)[0]
    assert all(t.dtype != torch.float16 for t in found.state_dict().values())
    np.testing.assert_allclose(apply(found, patterns), apply(classifier, patterns), atol=0.02)
    check_unseen(half, ["KCl"])
    with pytest.raises(InputError, match="has learnt 1"):
        check_unseen(half, ["NaCl"])


def test_refiner_round_trip(patterns: np.ndarray, tmp_path: Path) -> None:
    model = UNet(REFINER).eval()
    nn.init.normal_(model.output.weight)
    save_model(tmp_path / "r.safetensors", model, GRID, {})
    found, grid, about = load_refiner(tmp_path / "r.safetensors")
    assert (grid, about, found.config) == (GRID, {}, REFINER)
    np.testing.assert_array_equal(apply(found, patterns), apply(model, patterns))


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_what_is_no_model_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    save_model(good, classifier, GRID, {})
    with safe_open(good, framework="pt") as stored:
        metadata = stored.metadata()
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    names = ("cut", "pickle", "torch", "text", "plain", "other", "config", "json", "less")
    bad = {name: tmp_path / f"{name}.safetensors" for name in names}
    bad["cut"].write_bytes(good.read_bytes()[:-100])
    bad["pickle"].write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    torch.save({"a": Trap(tmp_path / "sprung")}, bad["torch"])
    bad["text"].write_text("no model")
    save_file(tensors, bad["plain"])
    (text,) = metadata.values()
    save_file(tensors, bad["other"], {METADATA_KEY: text.replace('"widths": [8, 8]', '"widths": [8, 16]')})
    save_file(tensors, bad["config"], {METADATA_KEY: text.replace('"widths": [8, 8]', '"widths": "many"')})
    save_file(tensors, bad["json"], {METADATA_KEY: text[:-5]})
    save_file(dict(list(tensors.items())[1:]), bad["less"], metadata)
    for path in [*bad.values(), tmp_path]:
        with pytest.raises(InputError, match=path.name) as error:
            load_classifier(path)
        assert "Give a classifier" in error.value.remedy
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(InputError, match="holds a Classifier"):
        load_refiner(good)
    with pytest.raises(InputError, match="no such model"):
        load_refiner(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    ("name", "number"), [("output.weight", torch.nan), ("output.weight", -1e10), ("running_var", -0.5)]
)
def test_weights_that_give_no_numbers_are_refused(
    classifier: Classifier, tmp_path: Path, name: str, number: float
) -> None:
    state = classifier.state_dict()
    next(tensor for key, tensor in state.items() if key.endswith(name)).view(-1)[0] = number
    save_model(tmp_path / "c.safetensors", classifier, GRID, {})
    with pytest.raises(InputError, match="weights that no training gives"):
        load_classifier(tmp_path / "c.safetensors")


def test_frozen(classifier: Classifier) -> None:
    model = frozen(classifier.train())
    before = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    model(torch.rand(16, 96))
    assert not any(p.requires_grad for p in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Twentyfold(nn.Module):
    """Logits by hand."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 20


def test_apply_in_batches_is_apply_at_once(patterns: np.ndarray) -> None:
    found = apply(Twentyfold(), patterns, batch_size=64)
    np.testing.assert_allclose(found, 20 * patterns, rtol=1e-6)
    np.testing.assert_array_equal(found, apply(Twentyfold(), patterns, batch_size=1000))


def test_probabilities(classifier: Classifier, patterns: np.ndarray) -> None:
    logits = apply(classifier, patterns).astype(float)
    for temperature in (1.0, 2.5):
        expected = np.exp(logits / temperature)
        expected /= expected.sum(1, keepdims=True)
        np.testing.assert_allclose(probabilities(classifier, patterns, temperature), expected, atol=1e-6)


@pytest.mark.parametrize("share_right", [0.4, 0.7, 0.95])
def test_temperature_against_all_temperatures(share_right: float) -> None:
    rng = np.random.default_rng(1)
    intensities = rng.random((200, 7))
    logits = 20 * intensities.astype(np.float32).astype(float)
    labels = np.where(rng.random(200) < share_right, logits.argmax(1), rng.integers(7, size=200))

    def cross_entropy(temperature: float) -> float:
        log_p = logits / temperature - np.log(np.exp(logits / temperature).sum(1, keepdims=True))
        return -log_p[np.arange(200), labels].mean()

    grid = np.geomspace(0.1, 90, 4000)
    best = min(grid, key=cross_entropy)
    found = fit_temperature(Twentyfold(), intensities, labels)
    assert found == pytest.approx(best, rel=5e-3)
    assert cross_entropy(found) <= cross_entropy(best) + 1e-6


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert use_device("auto") == use_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1", "toaster"):
        with pytest.raises(InputError, match=name):
            use_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert use_device("auto") == torch.device("cuda")
    with pytest.raises(InputError, match="1 GPU"):
        use_device("cuda:1")


def test_a_classifier_that_knows_the_answers_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_model(path, classifier, GRID, {}, ["TiO2", "NaCl", "NaCl", "Al2O3"])
    assert load_classifier(path)[0].state_dict().keys() == classifier.state_dict().keys()
    check_unseen(path, ["CsCl", "Ti2O", "CsCl"])
    check_unseen(path, [])
    with pytest.raises(InputError, match=r"c\.safetensors: has learnt 2 of the materials .* as Al2O3\."):
        check_unseen(path, ["NaCl", "CsCl", "Al2O3", "NaCl"])
    save_model(path, classifier, GRID, {})
    check_unseen(path, ["NaCl"])
    state = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    with safe_open(path, framework="pt") as stored:
        save_file(state, path, stored.metadata())
    load_classifier(path)
    with pytest.raises(InputError, match="does not say what it has learnt"):
        check_unseen(path, ["NaCl"])


def test_names_of_another_version_are_not_compared(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_model(path, classifier, GRID, {}, ["Ba2.8Co1.2S4"])
    with safe_open(path, framework="pt") as stored:
        tensors, record = {n: stored.get_tensor(n) for n in stored.keys()}, json.loads(stored.metadata()[METADATA_KEY])  # noqa: SIM118
    assert record.pop("naming") == NAMING
    for naming in ({}, {"naming": NAMING - 1}):
        save_file(tensors, path, {METADATA_KEY: json.dumps(record | naming)})
        load_classifier(path)
        with pytest.raises(InputError, match=r"as an earlier version did; they can't be compared\. Train it again"):
            check_unseen(path, ["Ba7Co3S10"])
