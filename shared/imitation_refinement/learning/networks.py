"""The networks: 1-D VGG, DenseNet and strided classifiers with prototypes, and the U-Net refiner.

Every network takes patterns of shape (n, points): intensities, at least 0, whose maximum is 1. (On their square
roots, classifiers learn ideal patterns faster, but a few per cent of background then look like a different crystal,
and refinement through such a classifier was found to lose 10 to 15 points of accuracy.)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imitation_refinement.learning.config import ClassifierConfig, RefinerConfig, UNetConfig
from imitation_refinement.learning.losses import squared_distances
from imitation_refinement.running.portable import is_portable
from imitation_refinement.vocabulary import Architecture
from imitation_refinement.xrd.crystal import N_CLASSES

LEAST_GAIN = 0.03
STARTING_SHARE = math.log(0.95 / 0.05)  # U₁ of a fresh refiner
LEAST_ABOVE = 1e-6  # the root has no slope at 0


def square_root(x: Tensor) -> Tensor:
    """√x of float32; in a portable run correctly rounded, of what takes no gradient.

    torch's own, on a CPU, is MKL's, which begins with the processor's approximation of 1/√x: each vendor's is another.
    """
    return x.double().sqrt().float() if is_portable() else x.sqrt()


def _along(
    inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True, kind: type[nn.Conv2d] = nn.Conv2d
) -> nn.Conv2d:
    """A convolution along the 2θ axis.

    Sequences are images of height 1, (n, channels, 1, length), channels last in memory: one to three times as fast as
    Conv1d, which knows no such layout, on a CPU, and what a GPU's tensor cores take.
    """
    return kind(inputs, outputs, (1, kernel), (1, stride), (0, kernel // 2), bias=bias)


class _Standardised(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance γ² / fan-in in each output channel, γ learnt.

    Qiao et al., arXiv:1903.10520; started with γ = √2, which keeps the variance through a ReLU (Brock et al., ICML
    2021). It stands in for a norm of the activations, which costs as much again as the convolutions on a CPU and can't
    be had in half precision for nothing.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.gain = nn.Parameter(torch.full((self.out_channels, 1, 1, 1), math.sqrt(2)))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        scale = self.gain * torch.rsqrt(variance * self.weight[0].numel() + 1e-6)
        return F.conv2d(x, (self.weight - mean) * scale, self.bias, self.stride, self.padding)


def _images(channels: list[Tensor]) -> Tensor:
    """Channels of shape (n, points) as (n, channels, 1, points), channels last in memory."""
    return torch.stack(channels, dim=-1)[:, None].permute(0, 3, 1, 2)


def _norm(kind: str, channels: int) -> nn.Module:
    """Batch norm as in the paper, or group norm of up to eight groups, four times as fast on a CPU, or none here."""
    if kind in ("none", "weight"):
        return nn.Identity()
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(math.gcd(8, channels), channels)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, norm: str) -> nn.Sequential:
    own, kind = norm in ("none", "weight"), _Standardised if norm == "weight" else nn.Conv2d
    return nn.Sequential(_along(inputs, outputs, kernel, stride, own, kind), _norm(norm, outputs), nn.ReLU())


class _DenseLayer(nn.Module):
    """BN-ReLU-conv1-BN-ReLU-conv, its output joined to its input (Huang et al., CVPR 2017)."""

    def __init__(self, inputs: int, growth: int, kernel: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _norm(norm, inputs),
            nn.ReLU(),
            _along(inputs, 4 * growth, 1, bias=False),
            _norm(norm, 4 * growth),
            nn.ReLU(),
            _along(4 * growth, growth, kernel, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], dim=1)


def _vgg(config: ClassifierConfig) -> tuple[list[nn.Module], int]:
    """Stages of convolutions, each but the last followed by max pooling (Simonyan & Zisserman, ICLR 2015)."""
    layers: list[nn.Module] = []
    channels = 2
    for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
        for index in range(depth):
            first = stage == index == 0
            kernel, stride = (config.stem_kernel, config.stem_stride) if first else (config.kernel, 1)
            layers.append(_convolution(channels, width, kernel, stride, config.norm))
            channels = width
        layers.append(nn.MaxPool2d((1, 2)))
    return layers, channels


def _densenet(config: ClassifierConfig) -> tuple[list[nn.Module], int]:
    """Dense blocks with transitions that halve channels and length (Huang et al., CVPR 2017)."""
    stem, growth = config.widths
    layers: list[nn.Module] = [_convolution(2, stem, config.stem_kernel, config.stem_stride, config.norm)]
    layers.append(nn.MaxPool2d((1, 3), (1, 2), (0, 1)))
    channels = stem
    for block, depth in enumerate(config.depths):
        for _ in range(depth):
            layers.append(_DenseLayer(channels, growth, config.kernel, config.norm))
            channels += growth
        if block < len(config.depths) - 1:
            half = channels // 2
            layers.append(
                nn.Sequential(
                    _norm(config.norm, channels), nn.ReLU(), _along(channels, half, 1, bias=False), nn.AvgPool2d((1, 2))
                )
            )
            channels = half
    layers.append(nn.Sequential(_norm(config.norm, channels), nn.ReLU(), nn.MaxPool2d((1, 2))))
    return layers, channels


def _strided(config: ClassifierConfig) -> tuple[list[nn.Module], int]:
    """Convolutions alone, the first of each stage with a stride: nothing is pooled, so that positions stay known.

    Springenberg et al., ICLR 2015 workshop. Pooling tells that there is a line, but not quite where.
    """
    layers: list[nn.Module] = []
    channels = 2
    for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
        for index in range(depth):
            first = stage == index == 0
            kernel, stride = (config.stem_kernel, config.stem_stride) if first else (config.kernel, 2 - min(index, 1))
            layers.append(_convolution(channels, width, kernel, stride, config.norm))
            channels = width
    return layers, channels


LAYERS: dict[Architecture, Callable[[ClassifierConfig], tuple[list[nn.Module], int]]] = {
    Architecture.VGG: _vgg,
    Architecture.DENSENET: _densenet,
    Architecture.STRIDED: _strided,
}


class Classifier(nn.Module):
    """The prototypical classifier C = G∘F: F embeds a pattern in R^m, G is linear on the embedding.

    Attributes:
        prototypes: c_k, shape (7, m); a buffer, updated by :func:`.losses.update_prototypes`.
    """

    prototypes: Tensor

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        layers, channels = LAYERS[config.architecture](config)
        self.layers = nn.ModuleList(layers)
        # Average and maximum over eight stretches of the axis keep where the peaks are, at a small dense head; a map
        # that is short already is seen whole.
        # The embedding is linear: a squashed one has no slope where patterns are far from ideal.
        features = (config.positions or 16) * channels
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(features, config.embedding))
        self.output = nn.Linear(config.embedding, N_CLASSES)
        self.register_buffer("prototypes", torch.randn(N_CLASSES, config.embedding))
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)

    def _layers(self, x: Tensor, stop: int | None = None) -> Tensor:
        # A coordinate channel tells where on the 2θ axis a filter looks (Liu et al., NeurIPS 2018).
        where = torch.linspace(-1, 1, x.shape[1], device=x.device, dtype=x.dtype).expand_as(x)
        hidden = _images([x, where])
        for layer in self.layers[:stop]:
            hidden = layer(hidden)
        return hidden

    def convolution_features(self, x: Tensor, depth: int) -> Tensor:
        """Ψ(x): ``x`` itself (depth 0), or the feature maps after the first or second convolution (1, 2).

        Args:
            x: intensities, shape (n, points).
            depth: 0, 1 or 2.

        Returns:
            Shape (n, points) or (n, channels, length).
        """
        if depth == 0:
            return x
        if depth == 1:
            return self._layers(x, 1)
        second = [i for i, layer in enumerate(self.layers) if not isinstance(layer, nn.MaxPool2d)][1]
        hidden, layer = self._layers(x, second), self.layers[second]
        # A dense layer's first convolution ends at its second ReLU.
        return layer.body[:5](hidden) if isinstance(layer, _DenseLayer) else layer(hidden)

    def embed(self, x: Tensor) -> Tensor:
        """F(x), shape (n, m), of intensities of shape (n, points)."""
        hidden = self._layers(x)
        if self.config.positions:
            pooled = F.adaptive_avg_pool2d(hidden, (1, self.config.positions))
        else:
            pooled = torch.cat([F.adaptive_avg_pool2d(hidden, (1, 8)), F.adaptive_max_pool2d(hidden, (1, 8))], dim=1)
        embedding = self.head(pooled)
        return F.layer_norm(embedding.float(), embedding.shape[1:]) if self.config.embedding_norm else embedding

    def forward(self, x: Tensor) -> Tensor:
        """Class logits, shape (n, 7), of intensities of shape (n, points)."""
        return self.output(self.embed(x))

    def prototype_logits(self, embedding: Tensor) -> Tensor:
        """−d(F(x), c_k), shape (n, 7), of embeddings of shape (n, m)."""
        return -squared_distances(embedding, self.prototypes)


def opening(x: Tensor, width: int) -> Tensor:
    """The baseline under a pattern: its morphological opening, smoothed, at most the pattern itself.

    The greatest of the least intensities around every angle, so peaks narrower than ``width`` are left out of it
    (Perez-Pueyo et al., Appl. Spectrosc. 64, 595, 2010). Zeros before the first and after the last intensity were
    not measured: they are no part of any window, or the baseline would fall at the ends of what was.

    Args:
        x: intensities, shape (n, points).
        width: of the opening [points], odd.

    Returns:
        Shape (n, points); 0 where nothing was measured.
    """

    def padded(values: Tensor) -> Tensor:
        return F.pad(values[:, None], (width // 2, width // 2), mode="replicate")

    measured = (x.cumsum(1) > 0) & (x.flip(1).cumsum(1).flip(1) > 0)
    lowest = -F.max_pool1d(padded(-x.masked_fill(~measured, math.inf)), width, 1)[:, 0]
    opened = F.max_pool1d(padded(lowest.masked_fill(~measured, 0)), width, 1)[:, 0] * measured
    share = F.avg_pool1d(padded(measured.to(x.dtype)), width, 1)[:, 0]
    return torch.minimum(F.avg_pool1d(padded(opened), width, 1)[:, 0] / share.clamp_min(0.5 / width), x)


class Refiner(nn.Module):
    """R: refines patterns, after it has moved them by the zero error of the instrument that they come from.

    A subclass is a network: its :meth:`correct` does the rest.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config

    def adjusted(self) -> Refiner:
        """The same refiner, weights shared, for patterns of an instrument without zero error."""
        twin = copy.copy(self)
        twin.config = self.config.model_copy(update={"zero_error": 0.0})
        return twin

    def aligned(self, x: Tensor) -> Tensor:
        """Intensities, shape (n, points), moved down the axis by the zero error, linearly interpolated; 0 beyond."""
        whole = math.floor(self.config.zero_error)
        part = self.config.zero_error - whole
        if not whole and not part:
            return x
        pad = abs(whole) + 1
        wide, points = F.pad(x, (pad, pad)), x.shape[1]
        first = pad + whole
        return (1 - part) * wide[:, first : first + points] + part * wide[:, first + 1 : first + 1 + points]

    def correct(self, x: Tensor) -> Tensor:
        """Refined intensities, shape (n, points), of intensities of the same shape that are :meth:`aligned` already."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Refined intensities, shape (n, points), of intensities of the same shape."""
        return self.correct(self.aligned(x))


class UShaped(nn.Module):
    """The middle of a 1-D U-Net: encoders, and decoders that join what the encoder of their length saw.

    Ronneberger et al., MICCAI 2015. Group norm: what becomes of a pattern does not depend on the batch it comes in.
    """

    def _shape(self, channels: int, widths: Sequence[int], kernel: int, factor: int) -> int:
        """Adds the layers for so many input channels; the channels that they give."""
        self.encoders, self.decoders, self.joins = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            stride = 1 if level == 0 else factor
            self.encoders.append(nn.Sequential(_block(channels, width, kernel, stride), _block(width, width, kernel)))
            channels = width
        for width in reversed(widths[:-1]):
            self.joins.append(_along(channels, width, 1))
            self.decoders.append(_block(2 * width, width, kernel))
            channels = width
        return channels

    def _through(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The innermost and the last map, (n, channels, 1, …), of a map whose length the strides divide."""
        skips = []
        for encoder in self.encoders:
            hidden = encoder(hidden)
            skips.append(hidden)
        innermost = skips.pop()
        for join, decoder in zip(self.joins, self.decoders, strict=True):
            skip = skips.pop()
            up = F.interpolate(join(hidden), size=skip.shape[-2:], mode="bilinear", align_corners=False)
            hidden = decoder(torch.cat([up, skip], dim=1))
        return innermost, hidden


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    width = max(kernel, 2 * stride + 1)
    return nn.Sequential(_along(inputs, outputs, width, stride), nn.GroupNorm(4, outputs), nn.SiLU())


class UNet(UShaped, Refiner):
    """A 1-D U-Net (Ronneberger et al., MICCAI 2015) that predicts what of the baseline goes, and a gain.

    R(x) = g(x) · (x − w(x) b(x)), where b is the baseline (:func:`opening`), w = σ(U₁) the share of it that goes, and
    g = f + 2 (1 − f) σ(U₂) with f = 0.03 a gain from f to 2 − f, at every angle. U's last convolution starts without
    weights: a fresh refiner takes 95 % of the baseline away, and leaves an ideal pattern, which has hardly any, as it
    is.

    So a refiner fades background and noise and evens out texture, keeps what is left where it was measured, never
    erases it, and can't paint a peak where nothing was seen. (An additive correction, max(0, x + U(x)), reached the
    same accuracy on the validation part but put exact zeros over weak peaks: KL to theory rose well above the raw
    one's. A gain alone took thousands of batches to find the background, and spoilt peaks on the way.)

    U sees the pattern, its baseline, and the root of what is above it, where weak peaks show.
    """

    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        channels = self._shape(3, config.widths, config.kernel, config.factor)
        self.output = _along(channels, 2, config.kernel)
        nn.init.zeros_(self.output.weight)
        self.output.bias = nn.Parameter(torch.tensor([STARTING_SHARE, 0.0]))
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)

    def corrections(self, x: Tensor, baseline: Tensor) -> Tensor:
        """U₁ and U₂, shape (n, 2, points), of intensities and their baseline of shape (n, points)."""
        points = x.shape[1]
        multiple = self.config.factor ** (len(self.config.widths) - 1)
        above = square_root(x - baseline + LEAST_ABOVE)
        hidden = _images([F.pad(v, (0, -points % multiple)) for v in (x, baseline, above)])
        return self.output(self._through(hidden)[1])[:, :, 0, :points]

    def correct(self, x: Tensor) -> Tensor:
        """As :meth:`Refiner.correct`."""
        baseline = opening(x, self.config.baseline)
        share, gain = torch.sigmoid(self.corrections(x, baseline)).unbind(1)
        return (LEAST_GAIN + 2 * (1 - LEAST_GAIN) * gain) * (x - share * baseline)
