"""The classifier's embeddings in two dimensions, as in Figure 3 of the paper."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from imitation_refinement.learning.networks import Classifier

Panel = tuple[str, NDArray[np.float64], NDArray[np.int64]]


@torch.inference_mode()
def embedding_panels(
    classifier: Classifier,
    parts: Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]]],
    most: int,
    seed: int,
) -> tuple[list[Panel], list[NDArray[np.float64]]]:
    """One t-SNE of all parts and the prototypes together, so that the panels share their axes.

    Args:
        classifier: whose embedding F is shown.
        parts: title → intensities (n, points) with maximum 1 and class indices (n,).
        most: patterns of a part at most, drawn by ``seed``.
        seed: of the choice and of t-SNE.

    Returns:
        (title, coordinates (n, 2), class indices (n,)) a part; the prototypes (7, 2) once for each part.
    """
    rng = np.random.default_rng(seed)
    chosen = {}
    for title, (patterns, labels) in parts.items():
        if len(labels):
            index = np.sort(rng.permutation(len(labels))[:most])
            chosen[title] = (patterns[index], labels[index])
    device = classifier.prototypes.device
    embedded = [
        torch.cat([classifier.embed(batch.to(device)).cpu() for batch in torch.from_numpy(patterns).split(256)]).numpy()
        for patterns, _ in chosen.values()
    ]
    stacked = np.concatenate([classifier.prototypes.cpu().numpy(), *embedded]).astype(np.float64)
    xy = TSNE(perplexity=min(30.0, (len(stacked) - 1) / 3), init="pca", random_state=seed).fit_transform(stacked)
    prototypes, *coordinates = np.split(xy, np.cumsum([len(classifier.prototypes), *map(len, embedded[:-1])]))
    panels = [(title, c, labels) for (title, (_, labels)), c in zip(chosen.items(), coordinates, strict=True)]
    return panels, [prototypes] * len(panels)
