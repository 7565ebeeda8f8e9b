"""Shapes, the identity, and what the refiner may not depend on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from scipy.ndimage import grey_opening, uniform_filter1d
from torch import Tensor, nn

from imitation_refinement.learning.config import ClassifierConfig, RefineConfig, RefinerConfig, UNetConfig
from imitation_refinement.learning.networks import Classifier, UNet, opening, square_root
from imitation_refinement.running.portable import PORTABLE_VARIABLE

CONFIGS = [
    {"architecture": "vgg", "depths": (1, 2), "widths": (8, 16), "embedding": 12},
    {"architecture": "vgg", "depths": (2, 1, 1), "widths": (8, 8, 16), "embedding": 12, "stem_stride": 4},
    {"architecture": "densenet", "depths": (2, 1), "widths": (16, 8), "embedding": 12},
    {"architecture": "strided", "depths": (1, 2, 1), "widths": (8, 8, 16), "embedding": 12},
]


def classifier(seed: int = 0, **options: Any) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(ClassifierConfig(**options)).eval()


def refiner(working: bool, seed: int = 0, **options: Any) -> UNet:
    torch.manual_seed(seed)
    model = UNet(UNetConfig(**options)).eval()
    if working:
        nn.init.normal_(model.output.weight)
    return model


def intensities(n: int, points: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((n, points), dtype=np.float32))


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("options", CONFIGS)
def test_classifier_shapes(options: dict[str, Any], norm: str) -> None:
    model = classifier(norm=norm, **options)
    for points in (256, 301):
        x = intensities(3, points)
        assert model(x).shape == (3, 7)
        assert model.embed(x).shape == (3, 12)
        assert model.prototype_logits(model.embed(x)).shape == (3, 7)
    assert model.prototypes.shape == (7, 12)
    assert "prototypes" in model.state_dict()
    assert "prototypes" not in dict(model.named_parameters())
    kinds = {type(module) for module in model.modules()} & {nn.BatchNorm2d, nn.GroupNorm}
    assert kinds == {nn.BatchNorm2d if norm == "batch" else nn.GroupNorm}


@pytest.mark.parametrize("options", CONFIGS)
def test_logits_are_linear_on_the_embedding(options: dict[str, Any]) -> None:
    model, x = classifier(**options), intensities(3, 256)
    torch.testing.assert_close(model(x), model.output(model.embed(x)))
    assert isinstance(model.output, nn.Linear)


def test_paper_sizes() -> None:
    """VGG-19 has 16 convolutions beside its dense layers, DenseNet-121 two a layer of 58 and one a transition of 3."""
    vgg = classifier(architecture="vgg", depths=(2, 2, 4, 4, 4), widths=(4, 4, 4, 4, 4))
    assert sum(isinstance(m, nn.Conv2d) for m in vgg.modules()) == 16
    densenet = classifier(architecture="densenet", depths=(6, 12, 24, 16), widths=(4, 4))
    assert sum(isinstance(m, nn.Conv2d) for m in densenet.modules()) >= 1 + 2 * 58 + 3


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("options", CONFIGS)
def test_features_are_those_after_the_first_and_second_convolution(options: dict[str, Any], norm: str) -> None:
    model, x = classifier(norm=norm, **options), intensities(2, 256)
    seen: list[tuple[nn.Module, Tensor]] = []
    leaves = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm | nn.ReLU)]
    handles = [m.register_forward_hook(lambda m, _, out: seen.append((m, out.clone()))) for m in leaves]
    model.embed(x)
    for handle in handles:
        handle.remove()
    convolutions = [i for i, (module, _) in enumerate(seen) if isinstance(module, nn.Conv2d)]
    for depth in (1, 2):
        after = next(out for module, out in seen[convolutions[depth - 1] :] if isinstance(module, nn.ReLU))
        torch.testing.assert_close(model.convolution_features(x, depth), after)
    assert model.convolution_features(x, 0) is x


@pytest.mark.parametrize("points", [64, 100, 129, 513])
@pytest.mark.parametrize("options", [{}, {"widths": (8, 8, 8), "factor": 2}, {"widths": (8, 12), "factor": 8}])
def test_fresh_refiner_takes_most_of_the_baseline_away(options: dict[str, Any], points: int) -> None:
    x = intensities(2, points)
    expected = x - 0.95 * opening(x, 61)
    torch.testing.assert_close(refiner(False, **options)(x), expected)
    torch.testing.assert_close(refiner(False, **options).train()(x), expected)


def test_opening_is_scipys_smoothed() -> None:
    x = intensities(3, 200)
    expected = uniform_filter1d(grey_opening(x.numpy(), (1, 21), mode="nearest"), 21, axis=1, mode="nearest")
    torch.testing.assert_close(opening(x, 21), torch.from_numpy(np.minimum(expected, x.numpy())))


def test_opening_knows_where_a_pattern_was_measured() -> None:
    """The baseline of a cut pattern is that of its measured part alone, up to its ends."""
    whole = 0.3 + 0.1 * intensities(3, 200)
    cut = torch.zeros(3, 300)
    cut[:, 40:240] = whole
    found = opening(cut, 21)
    torch.testing.assert_close(found[:, 40:240], opening(whole, 21), rtol=0, atol=0.03)
    torch.testing.assert_close(found[:, 50:230], opening(whole, 21)[:, 10:-10])
    assert (found[:, :40] == 0).all() and (found[:, 240:] == 0).all()
    assert (opening(torch.zeros(2, 64), 21) == 0).all()


def test_opening_follows_a_slope_and_passes_under_peaks() -> None:
    slope = torch.linspace(0.1, 0.5, 300)[None]
    torch.testing.assert_close(opening(slope, 31)[:, 31:-31], slope[:, 31:-31], rtol=0, atol=0.05)
    peaks = slope.clone()
    peaks[:, 100:105] += 0.4
    torch.testing.assert_close(opening(peaks, 31), opening(slope, 31), rtol=0, atol=0.03)


@pytest.mark.parametrize("points", [64, 129])
def test_refined_intensities_have_the_inputs_shape_and_are_not_negative(points: int) -> None:
    model, x = refiner(True, widths=(8, 8, 8), factor=4), intensities(3, points)
    refined = model(x)
    assert refined.shape == x.shape
    assert (refined >= 0).all() and (refined > 0).any() and not torch.equal(refined, x)


@pytest.mark.parametrize("training", [False, True])
def test_refinement_does_not_depend_on_the_batch(training: bool) -> None:
    model = refiner(True, widths=(8, 8)).train(training)
    x = intensities(4, 128)
    alone = torch.cat([model(row[None]) for row in x])
    torch.testing.assert_close(model(x), alone, rtol=1e-4, atol=1e-5)


def test_a_fresh_refiner_learns() -> None:
    model, x = refiner(False, widths=(8, 8)).train(), intensities(2, 64)
    model(x).square().mean().backward()
    gradient = model.output.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0


@pytest.mark.parametrize("zero_error", [0.0, 2.0, 0.25, -1.5, -3.0])
def test_refiner_moves_patterns_by_the_zero_error(zero_error: float) -> None:
    x = intensities(2, 128)
    model = UNet(UNetConfig(zero_error=zero_error))
    points = np.arange(128)
    expected = np.stack([np.interp(points + zero_error, points, row, left=np.nan, right=np.nan) for row in x.numpy()])
    inside = np.isfinite(expected)
    np.testing.assert_allclose(model.aligned(x).numpy()[inside], expected[inside], rtol=1e-5)
    torch.testing.assert_close(model(x), model.correct(model.aligned(x)))
    torch.testing.assert_close(model.adjusted()(x), model.correct(x))


def test_options_name_the_refiner_that_they_build() -> None:
    without = RefinerConfig.model_validate({"widths": [8, 8]})  # as before there was a choice
    assert (
        without == UNetConfig(widths=(8, 8)) == RefinerConfig.model_validate({"architecture": "unet", "widths": (8, 8)})
    )
    assert type(without.build()) is UNet
    assert RefineConfig(network=without).model_dump()["network"] == without.model_dump()
    for options, message in (
        ({"architecture": "resnet"}, "network\n.*'resnet' is no architecture of a refiner; there are: unet"),
        ({"widths": [3]}, "network.widths.0\n"),
        ({"depth": 3}, "network.depth\n"),
    ):
        with pytest.raises(ValidationError, match=message):
            RefineConfig.model_validate({"network": options})


def test_the_root_of_a_portable_run_is_correctly_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(square_root(x), x.sqrt())
    monkeypatch.setenv(PORTABLE_VARIABLE, "1")
    np.testing.assert_array_equal(square_root(x).numpy(), np.sqrt(x.numpy()))


def test_standardised_weights_have_no_mean_and_a_variance_of_their_fan_in() -> None:
    torch.manual_seed(0)
    model = classifier(architecture="strided", norm="weight")
    layer = model.layers[1][0]
    with torch.no_grad():
        layer.weight.mul_(3).add_(0.5)
        layer.gain[:] = torch.linspace(1, 2, 32)[:, None, None, None]
        x = torch.randn(2, 24, 1, 50)
        w = layer.weight.flatten(1)
        w = (w - w.mean(1, keepdim=True)) / (w.std(1, keepdim=True, correction=0) * math.sqrt(w.shape[1]))
        w = (layer.gain[:, :, 0, 0] * w).reshape(layer.weight.shape)
        torch.testing.assert_close(layer(x), F.conv2d(x, w, layer.bias, (1, 2), (0, 3)), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(m, nn.GroupNorm) for m in model.modules())


def test_strided_has_its_own_sizes_and_keeps_positions() -> None:
    model = classifier(architecture="strided")
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.65e6, rel=0.05)
    assert not any(isinstance(m, nn.MaxPool2d | nn.AvgPool2d) for m in model.modules())
    x = intensities(2, 3072)
    hidden = model._layers(x)
    assert hidden.shape == (2, 128, 1, 24)  # as long as the head is: nothing is pooled
    torch.testing.assert_close(model.embed(x), model.head(hidden))
    assert not any(isinstance(m, nn.GroupNorm) for m in classifier(architecture="strided", norm="none").modules())
