"""The refiner of a model trained on, through a frozen classifier, on measured patterns, with pairs beside.

Bai et al. (ICASSP 2019) train a refiner so that the classifier recognises what it refines: L_R = ℓ_pred + β ℓ_proto, of
labelled patterns (targeted) or by entropies (non-targeted). What keeps a pattern what it was is not their ℓ_reg but the
loss of pairs (:func:`.pair_training.losses`), half of each batch: there the right answer is known.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from imitation_refinement.learning.batches import class_covering_batches
from imitation_refinement.learning.config import Weight
from imitation_refinement.learning.losses import entropy
from imitation_refinement.learning.models import frozen
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.learning.pair_training import losses
from imitation_refinement.learning.pairs import pairs
from imitation_refinement.learning.root_refiner import RootRefiner
from imitation_refinement.learning.stream import Stream
from imitation_refinement.learning.training import rate_at
from imitation_refinement.options import Seed, StageConfig
from imitation_refinement.progress import progress
from imitation_refinement.vocabulary import Supervision
from imitation_refinement.xrd.line import Profile


class ThroughConfig(StageConfig):
    """How the refiner learns through the classifier."""

    supervision: Supervision = Field(Supervision.TARGETED, description="with labels or without")
    shuffled: bool = Field(False, description="the control: labels in random order")
    steps: int = Field(400, ge=1, le=10_000_000, description="batches")
    batch_size: int = Field(14, ge=7, le=65536, description="measured patterns a batch, and as many pairs")
    learning_rate: float = Field(3e-4, gt=0, le=10, description="AdamW's largest step; it rises, and falls to 0")
    prototype_weight: Weight = Field(0.1, description="β, weight of ℓ_proto")
    pair_weight: Weight = Field(1.0, description="weight of the pairs' loss")
    seed: Seed = Field(0, description="of the batches, and of the control's labels")


def train_through(
    refiner: RootRefiner,
    classifier: Classifier,
    seen: NDArray[np.float32],
    labels: NDArray[np.int64],
    stream: Stream,
    profile: Profile,
    config: ThroughConfig,
    report: Callable[[int, dict[str, float]], None] = lambda step, terms: None,
) -> RootRefiner:
    """Trains a refiner through a classifier, which is frozen here; changes the refiner that is given.

    Args:
        refiner: trained on pairs.
        classifier: of √I of the same grid, with its prototypes.
        seen: measured patterns, shape (n, 3, points); see :mod:`~imitation_refinement.xrd.refinable`.
        labels: class indices, shape (n,); not looked at without supervision.
        stream: of the pairs.
        profile: of their ideal patterns' lines.
        config: options.
        report: called with each step's number and terms.

    Returns:
        The refiner, in evaluation mode.
    """
    rng = np.random.default_rng(config.seed)
    targeted = config.supervision.learns_from_labels
    if config.shuffled:
        labels = rng.permutation(labels)
    frozen(classifier)
    optimiser = torch.optim.AdamW(refiner.parameters(), lr=config.learning_rate, weight_decay=0.0)
    refiner.train()
    batches: list[NDArray[np.int64]] = []
    for step in progress(range(config.steps), "learn through the classifier", config.steps, "batches"):
        if not batches:
            whole = np.array_split(rng.permutation(len(seen)), max(1, len(seen) // config.batch_size))
            batches = list(class_covering_batches(labels, config.batch_size, rng)) if targeted else whole
        own = batches.pop()
        embedding, logits = read(refiner, classifier, torch.from_numpy(seen[own]))
        of_prototypes = classifier.prototype_logits(embedding)
        if targeted:
            truth = torch.from_numpy(labels[own])
            prediction, prototype = F.cross_entropy(logits, truth), F.cross_entropy(of_prototypes, truth)
        else:
            prediction, prototype = entropy(logits), entropy(of_prototypes)
        pair = pairs(stream, step * config.batch_size, config.batch_size, profile)
        root, shift = refiner(pair.seen)
        of_pairs = losses(refiner.moved(root, shift), shift, pair)["loss"]
        loss = prediction + config.prototype_weight * prototype + config.pair_weight * of_pairs
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(refiner.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * rate_at(step, config.steps)
        optimiser.step()
        terms = {"prediction": prediction, "prototype": prototype, "pairs": of_pairs}
        report(step, {name: float(term.detach()) for name, term in terms.items()})
    return refiner.eval()


def read(refiner: RootRefiner, classifier: Classifier, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The classifier's embedding, (n, m), and logits, (n, 7), of what the refiner makes of patterns (n, 3, points)."""
    root, shift = refiner(seen)
    moved = refiner.moved(root, shift)
    embedding = classifier.embed(moved / moved.amax(1, keepdim=True).clamp_min(1e-6))
    return embedding, classifier.output(embedding)
