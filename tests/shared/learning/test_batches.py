"""Every batch holds every class, every epoch holds every sample."""

from __future__ import annotations

import numpy as np
import pytest

from imitation_refinement.learning.batches import class_covering_batches

EVEN = np.repeat(np.arange(7), 30)
RARE = np.repeat(np.arange(7), [200, 100, 50, 20, 5, 2, 1])


@pytest.mark.parametrize("labels", [EVEN, RARE, np.array([3, 3, 5]), np.arange(7)])
@pytest.mark.parametrize("batch_size", [7, 16, 64, 1000])
def test_classes_and_samples_are_covered(labels: np.ndarray, batch_size: int) -> None:
    for seed in range(5):
        batches = list(class_covering_batches(labels, batch_size, np.random.default_rng(seed)))
        assert all(set(labels[batch]) == set(labels) for batch in batches)
        assert set(np.concatenate(batches)) == set(range(len(labels)))


@pytest.mark.parametrize("labels", [EVEN, RARE])
def test_batches_are_about_as_large_as_asked_and_shares_follow_the_data(labels: np.ndarray) -> None:
    batches = list(class_covering_batches(labels, 32, np.random.default_rng(0)))
    assert len(batches) == round(len(labels) / 32)
    sizes = np.array([len(batch) for batch in batches])
    assert np.ptp(sizes) <= 7  # at most one of each class more or less
    most = np.bincount(labels).argmax()
    shares = [np.sum(labels[batch] == most) for batch in batches]
    assert np.ptp(shares) <= 1


def test_only_a_class_with_too_few_samples_is_repeated() -> None:
    everything = np.concatenate(list(class_covering_batches(RARE, 32, np.random.default_rng(0))))
    counts = np.bincount(everything, minlength=len(RARE))
    assert (counts[RARE <= 3] == 1).all()
    n_batches = round(len(RARE) / 32)
    assert [counts[k == RARE].sum() for k in (4, 5, 6)] == [max(5, n_batches), n_batches, n_batches]


def test_order_comes_from_the_generator_alone() -> None:
    def epoch(seed: int) -> list[list[int]]:
        return [batch.tolist() for batch in class_covering_batches(EVEN, 32, np.random.default_rng(seed))]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)


def test_a_batch_that_cannot_hold_every_class_is_refused() -> None:
    with pytest.raises(ValueError, match="batch of 6"):
        list(class_covering_batches(EVEN, 6, np.random.default_rng(0)))
