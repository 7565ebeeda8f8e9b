"""Batches that hold every class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def class_covering_batches(
    labels: NDArray[np.integer], batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """One epoch of batches, each with at least one sample of every class that occurs.

    Every sample comes at least once; a class with fewer samples than there are batches repeats its own.

    Args:
        labels: classes, shape (n,).
        batch_size: samples a batch, about: a batch has as many of each class as its share of the data asks.
        rng: source of the order.

    Yields:
        Indices of a batch, shuffled.

    Raises:
        ValueError: if the batch can't hold one of every class.
    """
    classes = np.unique(labels)
    if batch_size < len(classes):
        raise ValueError(f"a batch of {batch_size} can't hold all {len(classes)} classes")
    n_batches = max(1, round(len(labels) / batch_size))
    batches: list[list[NDArray[np.int64]]] = [[] for _ in range(n_batches)]
    for label in classes:
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < n_batches:
            members = np.resize(members, n_batches)
        # The larger shares start at another batch for each class, so that batches stay even.
        start = int(rng.integers(n_batches))
        for index, share in enumerate(np.array_split(members, n_batches)):
            batches[(index + start) % n_batches].append(share)
    for shares in batches:
        yield rng.permutation(np.concatenate(shares))
