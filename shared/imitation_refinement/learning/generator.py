"""GTA's generator: from a pattern's embedding back to a pattern (Sankaranarayanan et al., CVPR 2018)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imitation_refinement.learning.config import GeneratorConfig
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.xrd.crystal import N_CLASSES

CONTRAST = 4  # even a fresh generator's patterns are low nearly everywhere, as patterns are
UNKNOWN = N_CLASSES  # the label of patterns without one: the class after the last


class Standardise(nn.Module):
    """(f − mean) / deviation, dimension by dimension, by the statistics of embeddings that it was fitted to.

    A pretrained classifier's embeddings lie far from the origin; what follows would first have to learn where.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("deviation", torch.ones(dimensions))

    @torch.no_grad()
    def fit(self, embedding: Tensor) -> Standardise:
        """Takes the statistics of embeddings of shape (n, m); a dimension that hardly varies is not blown up."""
        self.mean.copy_(embedding.mean(0))
        deviation = embedding.std(0, correction=0)
        self.deviation.copy_(deviation.clamp_min(0.1 * float(deviation.mean()) + 1e-6))
        return self

    def forward(self, embedding: Tensor) -> Tensor:
        """Shape (n, m), of embeddings of the same shape."""
        return (embedding - self.mean) / self.deviation


class Generator(nn.Module):
    """G∘F: a pattern drawn anew from its embedding F(x), a label and noise.

    The label is one-hot of 8: the seven classes and "unknown", which stands for every imperfect pattern. A dense layer
    makes a short sequence of it, which fourfold upsampling and convolutions bring to the grid. What comes out is the
    logarithm of the intensity, less its maximum: patterns are in the data's range, 0 to 1, and reach its maximum.

    Attributes:
        encoder: the classifier whose F embeds patterns; adapted together with the generator.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        widths, kernel = config.widths, config.kernel
        self.encoder = Classifier(config.encoder)
        self.standardise = Standardise(config.encoder.embedding)
        self.start = math.ceil(config.points / 4 ** len(widths))
        self.dense = nn.Linear(config.encoder.embedding + N_CLASSES + 1 + config.noise, widths[0] * self.start)
        layers: list[nn.Module] = []
        for inputs, outputs in zip((widths[0], *widths[:-1]), widths, strict=True):
            layers += [
                nn.Upsample(scale_factor=4),
                nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
                nn.GroupNorm(math.gcd(8, outputs), outputs),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv1d(widths[-1], 1, kernel, padding=kernel // 2))

    def generate(self, embedding: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """Patterns from embeddings.

        Args:
            embedding: F(x), shape (n, m).
            labels: classes, :data:`UNKNOWN` for none, int64, shape (n,).
            noise: standard normal, shape (n, noise).

        Returns:
            Intensities with maximum 1, shape (n, points).
        """
        label = F.one_hot(labels, N_CLASSES + 1).to(embedding.dtype)
        hidden = self.dense(torch.cat([self.standardise(embedding), label, noise], dim=1))
        logarithm = CONTRAST * self.layers(hidden.unflatten(1, (-1, self.start)))[:, 0, : self.config.points].float()
        return (logarithm - logarithm.amax(1, keepdim=True)).exp()

    def forward(self, x: Tensor) -> Tensor:
        """The generated, "refined" patterns, shape (n, points), of intensities of the same shape.

        The label is "unknown" and the noise 0, its mean, so that a pattern always has the same answer.
        """
        labels = torch.full((len(x),), UNKNOWN, device=x.device)
        noise = torch.zeros(len(x), self.config.noise, device=x.device, dtype=x.dtype)
        return self.generate(self.encoder.embed(x), labels, noise)
