"""The losses and the prototype update of imitation refinement (Bai et al., ICASSP 2019), each a pure function.

Symbols: n patterns in a batch, m embedding dimensions, k = 7 classes, L grid points.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def squared_distances(embedding: Tensor, prototypes: Tensor) -> Tensor:
    """d(F(x), c_k): squared Euclidean distance to every prototype, divided by √m.

    The paper leaves d open. Without the divisor the softmax over −d saturates in many dimensions: the distance of
    two unrelated embeddings grows like m, its spread like √m.

    Args:
        embedding: F(x), shape (n, m).
        prototypes: c, shape (k, m).

    Returns:
        Shape (n, k).
    """
    difference = embedding[:, None, :] - prototypes[None, :, :]
    return difference.square().sum(-1) / embedding.shape[1] ** 0.5


def prototype_loss(embedding: Tensor, prototypes: Tensor, labels: Tensor) -> Tensor:
    """ℓ_proto with labels: the batch mean of −log softmax_k(−d(F(x), c_k)) at the true class.

    Args:
        embedding: shape (n, m).
        prototypes: shape (k, m).
        labels: true classes, int64, shape (n,).
    """
    return F.cross_entropy(-squared_distances(embedding, prototypes), labels)


def entropy(logits: Tensor) -> Tensor:
    """The batch mean of the Shannon entropy of softmax(logits), in nats, 0 to ln k.

    The non-targeted ℓ_pred is ``entropy(C(R(x)))``, the non-targeted ℓ_proto ``entropy(-d(F(R(x)), c))``.

    Args:
        logits: shape (n, k).
    """
    log_p = F.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(1).mean()


def diversity(logits: Tensor) -> Tensor:
    """Minus the entropy of the batch's mean prediction, −ln k to 0; small where all classes are predicted.

    The information-maximisation term of SHOT (Liang et al., ICML 2020, Eq. 3). No part of the paper: weight 0 leaves
    it out.

    Args:
        logits: shape (n, k).
    """
    mean = F.softmax(logits, dim=1).mean(0)
    return (mean * mean.clamp_min(1e-12).log()).sum()


def regularisation(refined_features: Tensor, raw_features: Tensor, p: float) -> Tensor:
    """ℓ_reg = ‖Ψ(R(x)) − Ψ(x)‖_p, divided by N^(1/p) for N features, and averaged over the batch.

    The divisor makes it the power mean of the differences, so that α means the same for every grid and every Ψ.

    Args:
        refined_features: Ψ(R(x)), shape (n, …).
        raw_features: Ψ(x), the same shape.
        p: the norm's order, at least 1.
    """
    difference = (refined_features - raw_features).flatten(1).abs()
    if p == 1:
        return difference.mean()
    return (difference.pow(p).mean(1) + 1e-12).pow(1 / p).mean()  # the root has no slope at exactly 0


@torch.no_grad()
def update_prototypes(prototypes: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
    """The paper's batch-wise update, c_k ← (c_k + Σ_{y_i = k} F(x_i)) / (n_k + 1).

    Args:
        prototypes: c, shape (k, m).
        embedding: F(x) of the batch, shape (n, m).
        labels: classes of the batch, int64, shape (n,).

    Returns:
        The new prototypes, shape (k, m). A class that the batch lacks keeps its own.
    """
    return moved(prototypes, class_sums(embedding, labels, prototypes))


def class_sums(embedding: Tensor, labels: Tensor, prototypes: Tensor) -> Tensor:
    """Σ_{y_i = k} F(x_i) and, as the last column, n_k, shape (k, m + 1): of a part of a batch, to be added up."""
    sums = torch.zeros_like(prototypes).index_add_(0, labels, embedding.to(prototypes.dtype))
    # No bincount: on a GPU it waits for the device.
    counts = prototypes.new_zeros(len(prototypes)).index_add_(0, labels, prototypes.new_ones(len(labels)))
    return torch.cat([sums, counts[:, None]], dim=1)


def moved(prototypes: Tensor, sums: Tensor) -> Tensor:
    """The prototypes, shape (k, m), after :func:`update_prototypes` by a batch's :func:`class_sums`."""
    return (prototypes + sums[:, :-1]) / (sums[:, -1:] + 1)
