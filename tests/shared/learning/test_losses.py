"""The losses against NumPy and SciPy, the prototype update by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax
from scipy.stats import entropy as scipy_entropy

from imitation_refinement.learning.losses import (
    class_sums,
    diversity,
    entropy,
    moved,
    prototype_loss,
    regularisation,
    squared_distances,
    update_prototypes,
)

RNG = np.random.default_rng(0)
EMBEDDING, PROTOTYPES = RNG.normal(size=(5, 16)), RNG.normal(size=(7, 16))
LABELS = np.array([0, 6, 3, 3, 1])


def test_squared_distances() -> None:
    found = squared_distances(torch.from_numpy(EMBEDDING), torch.from_numpy(PROTOTYPES))
    np.testing.assert_allclose(found, cdist(EMBEDDING, PROTOTYPES, "sqeuclidean") / 4, rtol=1e-12)
    by_hand = squared_distances(torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[1.0, 2, 3, 4], [0, 0, 3, 4]]))
    assert by_hand.tolist() == [[0, 2.5]]  # (1 + 4) / √4


def test_prototype_loss() -> None:
    found = prototype_loss(torch.from_numpy(EMBEDDING), torch.from_numpy(PROTOTYPES), torch.from_numpy(LABELS))
    log_p = log_softmax(-cdist(EMBEDDING, PROTOTYPES, "sqeuclidean") / 4, axis=1)
    assert float(found) == pytest.approx(-log_p[np.arange(5), LABELS].mean(), rel=1e-12)


def test_prototype_loss_pulls_an_embedding_to_its_prototype() -> None:
    embedding = torch.from_numpy(EMBEDDING).requires_grad_()
    prototypes, labels = torch.from_numpy(PROTOTYPES), torch.from_numpy(LABELS)
    before = squared_distances(embedding, prototypes).softmax(1)[range(5), labels]
    prototype_loss(embedding, prototypes, labels).backward()
    assert embedding.grad is not None
    moved = (embedding - 0.1 * embedding.grad).detach()
    assert (squared_distances(moved, prototypes).softmax(1)[range(5), labels] < before).all()


def test_entropy() -> None:
    logits = RNG.normal(size=(9, 7)) * 3
    expected = scipy_entropy(softmax(logits, axis=1), axis=1).mean()
    assert float(entropy(torch.from_numpy(logits))) == pytest.approx(expected, rel=1e-12)
    assert float(entropy(torch.zeros(4, 7))) == pytest.approx(np.log(7))


def test_entropy_of_a_sure_answer_is_zero_with_a_finite_slope() -> None:
    logits = torch.tensor([[1000.0, 0, 0, 0, 0, 0, -1000]], requires_grad=True)
    found = entropy(logits)
    found.backward()
    assert float(found.detach()) == 0
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_diversity() -> None:
    logits = RNG.normal(size=(9, 7)) * 3
    expected = -scipy_entropy(softmax(logits, axis=1).mean(0))
    assert float(diversity(torch.from_numpy(logits))) == pytest.approx(expected, rel=1e-9)
    one_class, all_classes = torch.eye(7)[[0] * 7] * 50, torch.eye(7) * 50
    assert float(diversity(all_classes)) == pytest.approx(-np.log(7))
    assert float(diversity(one_class)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [(3, 10), (3, 4, 5)])
def test_regularisation_is_the_power_mean_of_the_differences(shape: tuple[int, ...]) -> None:
    refined, raw = RNG.normal(size=shape), RNG.normal(size=shape)
    difference = np.abs(refined - raw).reshape(3, -1)
    for p in (1, 2, 3):
        # ‖·‖_p / N^(1/p), then the mean of the batch
        norms = np.linalg.norm(difference, ord=p, axis=1) / difference.shape[1] ** (1 / p)
        found = regularisation(torch.from_numpy(refined), torch.from_numpy(raw), p)
        assert float(found) == pytest.approx(norms.mean(), rel=1e-9)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0])
def test_regularisation_of_the_identity_is_nothing_with_a_finite_slope(p: float) -> None:
    refined = torch.ones(2, 8, requires_grad=True)
    found = regularisation(refined, torch.ones(2, 8), p)
    found.backward()
    assert float(found.detach()) == pytest.approx(0, abs=1e-5)
    assert refined.grad is not None and refined.grad.isfinite().all()


def test_prototype_update_by_hand() -> None:
    prototypes = torch.tensor([[0.0, 0], [1, 1], [5, 7]])
    embedding = torch.tensor([[2.0, 4], [3, 3], [4, 2]])
    found = update_prototypes(prototypes, embedding, torch.tensor([0, 1, 0]))
    # class 0: (0 + 2 + 4, 0 + 4 + 2) / 3; class 1: (1 + 3) / 2; class 2 is not in the batch
    assert found.tolist() == [[2, 2], [2, 2], [5, 7]]
    assert prototypes.tolist() == [[0, 0], [1, 1], [5, 7]]


def test_prototype_update_takes_no_part_in_the_gradient() -> None:
    embedding = torch.ones(3, 2, requires_grad=True)
    found = update_prototypes(torch.zeros(2, 2, requires_grad=True), embedding, torch.tensor([0, 1, 1]))
    assert not found.requires_grad


def test_sums_of_parts_of_a_batch_move_prototypes_as_the_batch_does() -> None:
    prototypes, labels = torch.from_numpy(PROTOTYPES), torch.arange(7).repeat(3)[torch.randperm(21)]
    embedding = torch.from_numpy(RNG.normal(size=(21, 16)))
    parts = zip(embedding.split(4), labels.split(4), strict=True)
    sums = torch.stack([class_sums(part, label, prototypes) for part, label in parts]).sum(dim=0)
    assert sums[:, -1].tolist() == [3] * 7
    torch.testing.assert_close(moved(prototypes, sums), update_prototypes(prototypes, embedding, labels))


def test_prototypes_settle_at_the_class_means_of_repeated_batches() -> None:
    prototypes = torch.from_numpy(PROTOTYPES)
    labels = torch.arange(7).repeat(3)
    embedding = torch.from_numpy(RNG.normal(size=(21, 16)))
    for _ in range(60):  # the old prototype's weight falls as 4^-n
        prototypes = update_prototypes(prototypes, embedding, labels)
    means = np.stack([embedding.numpy()[labels.numpy() == k].mean(0) for k in range(7)])
    np.testing.assert_allclose(prototypes, means, rtol=1e-9)
