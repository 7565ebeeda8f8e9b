"""Metrics against values worked by hand and against SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from imitation_refinement.results import metrics
from imitation_refinement.vocabulary import Distance

RNG = np.random.default_rng(0)
PATTERN = RNG.gamma(0.5, size=(5, 64))
THEORY = RNG.gamma(0.3, size=(5, 64))


def test_l1_and_l2_by_hand() -> None:
    pattern, theory = [[0.0, 5.0, 10.0, 0.0]], [[2.0, 0.0, 0.0, 1.0]]  # scaled: 0 .5 1 0 and 1 0 0 .5
    assert metrics.l1(pattern, theory) == pytest.approx([3.0])
    assert metrics.l2(pattern, theory) == pytest.approx([np.sqrt(2.5)])


def test_kl_by_hand() -> None:
    # ε = 0.5 on two points: (1, 0) → (.75, .25) and (0, 1) → (.25, .75)
    expected = 0.75 * np.log(3) + 0.25 * np.log(1 / 3)
    assert metrics.kl([[0.0, 4.0]], [[3.0, 0.0]], uniform_share=0.5) == pytest.approx([expected])


def test_kl_against_scipy_and_its_bound() -> None:
    mixed = [0.99 * x / x.sum(axis=1, keepdims=True) + 0.01 / 64 for x in (THEORY, PATTERN)]
    assert metrics.kl(PATTERN, THEORY) == pytest.approx(scipy.stats.entropy(*mixed, axis=1))
    apart = metrics.kl(np.eye(2048)[[0]], np.eye(2048)[[1]])
    assert 11 < apart[0] < np.log(2048 / 0.01)


def test_ncc_is_pearson() -> None:
    expected = [scipy.stats.pearsonr(p, t).statistic for p, t in zip(PATTERN, THEORY, strict=True)]
    assert metrics.ncc(PATTERN, THEORY) == pytest.approx(expected)
    assert metrics.ncc(PATTERN, -PATTERN) == pytest.approx(-np.ones(5))


@pytest.mark.parametrize(("name", "best"), [("l1", 0), ("l2", 0), ("kl", 0), ("ncc", 1)])
def test_a_pattern_is_at_its_best_against_itself_at_any_scale(name: str, best: float) -> None:
    assert metrics.DISTANCES[name](7 * PATTERN, PATTERN) == pytest.approx(np.full(5, best), abs=1e-12)


def test_dark_pattern_is_defined() -> None:
    dark, theory = np.zeros((1, 4)), np.array([[0.0, 1.0, 0.5, 0.0]])
    assert metrics.l1(dark, theory) == pytest.approx([1.5])
    assert metrics.l2(dark, theory) == pytest.approx([np.sqrt(1.25)])
    assert metrics.ncc(dark, theory) == pytest.approx([0.0])
    assert metrics.kl(dark, theory) == pytest.approx(metrics.kl(np.ones((1, 4)), theory))


@pytest.mark.parametrize("name", metrics.DISTANCES)
def test_bad_arrays_are_refused(name: str) -> None:
    distance = metrics.DISTANCES[name]
    with pytest.raises(ValueError, match="both be"):
        distance(PATTERN, THEORY[:, 1:])
    with pytest.raises(ValueError, match="finite"):
        distance(np.where(PATTERN > 1, np.nan, PATTERN), THEORY)


def test_patterns_without_theory_have_no_distance() -> None:
    theory = THEORY.copy()
    theory[[1, 3]] = np.nan
    known = [0, 2, 4]
    found = metrics.distances(PATTERN, theory)
    assert list(found) == list(Distance)
    for name, values in found.items():
        assert values[known] == pytest.approx(metrics.DISTANCES[name](PATTERN[known], THEORY[known]))
        assert np.isnan(values[[1, 3]]).all()


def answers(n: int, right: int) -> NDArray[np.bool_]:
    return np.arange(n) < right


def test_bootstrap_interval_against_resampling() -> None:
    correct = answers(149, 110)
    rng = np.random.default_rng(5)
    resampled = rng.choice(correct, (20_000, 149)).mean(axis=1)
    assert metrics.bootstrap_interval(correct, seed=1) == pytest.approx(
        np.quantile(resampled, [0.025, 0.975]), abs=0.007
    )
    assert metrics.bootstrap_interval(correct, seed=1) == metrics.bootstrap_interval(correct[::-1], seed=1)
    assert metrics.bootstrap_interval(answers(9, 9), seed=1) == (1.0, 1.0)


def test_paired_difference_against_resampling() -> None:
    rng = np.random.default_rng(2)
    a = rng.random(200) < 0.8
    b = np.where(rng.random(200) < 0.8, a, rng.random(200) < 0.5)
    which = rng.integers(200, size=(20_000, 200))
    resampled = a[which].mean(axis=1) - b[which].mean(axis=1)
    gain, low, high = metrics.paired_bootstrap_difference(a, b, seed=3)
    assert gain == pytest.approx(a.mean() - b.mean())
    assert (low, high) == pytest.approx(tuple(np.quantile(resampled, [0.025, 0.975])), abs=0.006)


def test_mcnemar_by_hand() -> None:
    # a alone right 7 times, b alone once: 2 (C(8,0) + C(8,1)) / 2^8
    a = [True] * 7 + [False] + [True] * 20
    b = [False] * 7 + [True] + [True] * 20
    assert metrics.mcnemar(a, b) == metrics.mcnemar(b, a) == pytest.approx(2 * 9 / 256)
    assert metrics.mcnemar(a, a) == 1.0
    assert metrics.compare(a, b, seed=0)["gain"] == pytest.approx(6 / 28)


def test_confusion_and_accuracy_against_sklearn() -> None:
    truth, predicted = RNG.integers(7, size=(2, 300))
    matrix = metrics.confusion(truth, predicted)
    assert np.array_equal(matrix, confusion_matrix(truth, predicted, labels=range(7)))
    assert metrics.accuracy(truth, predicted) == pytest.approx(np.trace(matrix) / 300)
    with pytest.raises(ValueError, match="0 to 6"):
        metrics.confusion([0, 7], [0, 0])
    with pytest.raises(ValueError, match="no answers"):
        metrics.accuracy([], [])


def test_calibration_error() -> None:
    # Bin of 0.9: 1 of 2 right; bin of 0.6: 2 of 2 right. (2 · 0.4 + 2 · 0.4) / 4
    probabilities = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]
    assert metrics.expected_calibration_error(probabilities, [0, 1, 1, 1]) == pytest.approx(0.4)
    assert metrics.expected_calibration_error([[1.0, 0.0]], [0]) == 0


def test_reliability_by_hand() -> None:
    # Of ten bins: 0.35 (wrong) and 0.4 (right) are in that to 0.4, 0.95 (right) in the last, the upper end is in.
    probabilities = [[0.35, 0.33, 0.32], [0.3, 0.4, 0.3], [0.01, 0.04, 0.95]]
    found = metrics.reliability(probabilities, [1, 1, 2], bins=10)
    assert found.n.tolist() == [2, 1]
    assert found.confidence == pytest.approx([0.375, 0.95])
    assert found.accuracy == pytest.approx([0.5, 1.0])
    assert found.error == pytest.approx((2 * 0.125 + 0.05) / 3)
    with pytest.raises(ValueError, match="no answers"):
        metrics.reliability(np.empty((0, 7)), [])


def test_calibration_error_of_true_probabilities_against_drawing() -> None:
    confidence = np.concatenate([RNG.uniform(0.5, 1, 60), np.full(40, 0.97), [1.0]])
    p = np.column_stack([confidence, 1 - confidence])
    drawn = [metrics.reliability(p, RNG.random(len(p)) > confidence).error for _ in range(2000)]
    assert metrics.reliability(p, np.zeros(len(p), int)).chance == pytest.approx(np.mean(drawn), rel=0.03)


def test_coverage_and_accuracy_by_hand() -> None:
    # From the surest: right; two that are as sure, one of them right; wrong.
    confidence, correct = [0.5, 0.9, 0.7, 0.7], [False, True, True, False]
    given, right = metrics.coverage_accuracy(confidence, correct)
    assert given.tolist() == [0.25, 0.75, 1.0]
    assert right == pytest.approx([1, 2 / 3, 2 / 4])
    assert metrics.accuracy_of_surest(confidence, correct, 0.25) == 1
    assert metrics.accuracy_of_surest(confidence, correct, 0.5) == pytest.approx(2 / 3)  # no half can be cut off
    assert metrics.accuracy_of_surest(confidence, correct, 1.0) == 0.5
    with pytest.raises(ValueError, match="of confidence"):
        metrics.coverage_accuracy([0.5], correct)


def test_coverage_against_cutting_at_every_threshold() -> None:
    confidence, correct = RNG.integers(20, size=300) / 20, RNG.random(300) < 0.6
    given, right = metrics.coverage_accuracy(confidence, correct)
    for share, accuracy, least in zip(given, right, np.unique(confidence)[::-1], strict=True):
        assert share == pytest.approx((confidence >= least).mean())
        assert accuracy == pytest.approx(correct[confidence >= least].mean())
