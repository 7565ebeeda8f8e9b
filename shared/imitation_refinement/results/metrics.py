"""What results are measured by: distances of a pattern to theory, and statistics of right and wrong answers.

Pure NumPy functions. Distances take arrays of shape (n, points) on one grid and return shape (n,). A pattern without
positive intensity has no scale; it counts as zero everywhere, which each distance turns into a finite number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.vocabulary import Distance
from imitation_refinement.xrd.crystal import N_CLASSES

Vector = NDArray[np.float64]

UNIFORM_SHARE = 0.01  # of the uniform distribution that keeps KL finite


def l1(pattern: ArrayLike, theory: ArrayLike) -> Vector:
    """Sum over the grid of |pattern − theory|, each first scaled to maximum 1.

    0 is best, `points` the worst for intensities that are not negative. No unit. A sum over points: it grows in
    proportion to their number, so compare only values on the same grid. A pattern without positive intensity is as
    far as theory's own sum.

    Args:
        pattern: intensities, shape (n, points).
        theory: intensities on the same grid, shape (n, points).

    Returns:
        Shape (n,).

    Raises:
        ValueError: if the shapes differ or a value is not finite.
    """
    pattern, theory = _pair(pattern, theory)
    return np.abs(_to_maximum(pattern) - _to_maximum(theory)).sum(axis=1)


def l2(pattern: ArrayLike, theory: ArrayLike) -> Vector:
    """Euclidean norm of pattern − theory, each first scaled to maximum 1.

    0 is best, √points the worst for intensities that are not negative. No unit. It grows with the square root of the
    number of points. Arguments, shapes and errors as for :func:`l1`.
    """
    pattern, theory = _pair(pattern, theory)
    return np.linalg.norm(_to_maximum(pattern) - _to_maximum(theory), axis=1)


def kl(pattern: ArrayLike, theory: ArrayLike, uniform_share: float = UNIFORM_SHARE) -> Vector:
    """Kullback–Leibler divergence KL(theory ‖ pattern) = Σ t ln(t / p), in nats.

    Both are read as distributions over the grid: negative intensities count as 0, the rest is scaled to sum 1 and
    mixed with a uniform distribution, (1 − ε) x + ε / points, which keeps the divergence finite where the pattern is
    0. 0 is best, ln(points / ε) an upper bound: 12.2 at 2,048 points and ε = 0.01. A pattern without positive
    intensity is the uniform distribution.

    Args:
        pattern: intensities, shape (n, points).
        theory: intensities on the same grid, shape (n, points).
        uniform_share: ε, above 0 and below 1.

    Returns:
        Shape (n,).

    Raises:
        ValueError: if the shapes differ, a value is not finite, or ε is not between 0 and 1.
    """
    if not 0 < uniform_share < 1:
        raise ValueError(f"uniform_share {uniform_share} is not between 0 and 1")
    pattern, theory = _pair(pattern, theory)
    p, t = _to_distribution(pattern, uniform_share), _to_distribution(theory, uniform_share)
    # Terms t ln(t/p) − t + p are none of them negative, so that rounding can't make the sum so.
    return (t * np.log(t / p) - t + p).sum(axis=1).clip(min=0)


def ncc(pattern: ArrayLike, theory: ArrayLike) -> Vector:
    """Zero-mean normalised cross-correlation at zero lag: Pearson's correlation of pattern and theory.

    1 is best, −1 the worst, 0 where either is constant. No unit; scale and offset of the intensities don't matter, the
    number of points hardly. The paper's Table 3 gives NCC values of about 20.9, which no usual definition of a
    normalised correlation can reach, and does not say how they were scaled: ours is the textbook one and can't be
    compared with them. Arguments, shapes and errors as for :func:`l1`.
    """
    pattern, theory = _pair(pattern, theory)
    a = pattern - pattern.mean(axis=1, keepdims=True)
    b = theory - theory.mean(axis=1, keepdims=True)
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    constant = (np.ptp(pattern, axis=1) == 0) | (np.ptp(theory, axis=1) == 0)
    correlation = np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=~constant)
    return correlation.clip(-1, 1)


DISTANCES: Mapping[Distance, Callable[[ArrayLike, ArrayLike], Vector]] = {
    Distance.L1: l1,
    Distance.L2: l2,
    Distance.KL: kl,
    Distance.NCC: ncc,
}


def distances(pattern: ArrayLike, theory: ArrayLike) -> dict[Distance, Vector]:
    """Every :class:`Distance` of each pattern, shape (n,); NaN where a theory is missing (all NaN)."""
    pattern, theory = np.asarray(pattern), np.asarray(theory)
    known = ~np.isnan(theory).all(axis=1)
    found = {}
    for name in Distance:
        found[name] = np.full(len(pattern), np.nan)
        found[name][known] = DISTANCES[name](pattern[known], theory[known])
    return found


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of right answers, 0 to 1.

    Args:
        truth: class indices, shape (n,).
        predicted: class indices, shape (n,).

    Raises:
        ValueError: if there are none or the shapes differ.
    """
    truth, predicted = _answers(truth, predicted)
    return float((truth == predicted).mean())


def bootstrap_interval(
    correct: ArrayLike, seed: int, level: float = 0.95, n_resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval of an accuracy over patterns, both ends 0 to 1.

    A resample of n answers, k of them right, holds Binomial(n, k / n) right ones; that is drawn directly. All right or
    all wrong gives an interval without width (Efron and Tibshirani 1993, chapter 13).

    Args:
        correct: whether each answer is right, shape (n,).
        seed: of the resampling.
        level: share of the resamples inside.
        n_resamples: number of resamples.

    Raises:
        ValueError: if there are no answers.
    """
    (correct,) = _answers(correct)
    n = len(correct)
    rate = np.count_nonzero(correct) / n
    resampled = np.random.default_rng(seed).binomial(n, rate, n_resamples) / n
    return _percentiles(resampled, level)


def paired_bootstrap_difference(
    correct_a: ArrayLike, correct_b: ArrayLike, seed: int, level: float = 0.95, n_resamples: int = 10_000
) -> tuple[float, float, float]:
    """Accuracy of a − accuracy of b on the same patterns, and its percentile bootstrap interval, each −1 to 1.

    Patterns are resampled with both their answers, so that what is hard for both cancels. Only four kinds of pattern
    exist, hence a resample is one multinomial draw.

    Args:
        correct_a: whether each answer of a is right, shape (n,).
        correct_b: whether each answer of b is right, shape (n,).
        seed: of the resampling.
        level: share of the resamples inside.
        n_resamples: number of resamples.

    Returns:
        Difference, lower end, upper end.

    Raises:
        ValueError: if there are no answers or the shapes differ.
    """
    only_a, only_b, n = _discordant(correct_a, correct_b)
    shares = np.array([only_a, only_b, n - only_a - only_b]) / n
    drawn = np.random.default_rng(seed).multinomial(n, shares, n_resamples)
    return (only_a - only_b) / n, *_percentiles((drawn[:, 0] - drawn[:, 1]) / n, level)


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> float:
    """McNemar's exact two-sided p, 0 to 1, that a and b are right equally often on the same patterns.

    The binomial test of the patterns where just one of them is right (McNemar 1947); 1 where there are none.

    Args:
        correct_a: whether each answer of a is right, shape (n,).
        correct_b: whether each answer of b is right, shape (n,).

    Raises:
        ValueError: if there are no answers or the shapes differ.
    """
    from scipy.stats import binomtest  # here: only evaluation has SciPy

    only_a, only_b, _ = _discordant(correct_a, correct_b)
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def compare(correct: ArrayLike, baseline: ArrayLike, seed: int) -> dict[str, float]:
    """A method against a baseline on the same patterns: the fields ``gain…`` and ``p_value`` of a result row.

    ``gain``, ``gain_low`` and ``gain_high`` are :func:`paired_bootstrap_difference`, ``p_value`` is :func:`mcnemar`.
    """
    gain, low, high = paired_bootstrap_difference(correct, baseline, seed)
    return {"gain": gain, "gain_low": low, "gain_high": high, "p_value": mcnemar(correct, baseline)}


def confusion(truth: ArrayLike, predicted: ArrayLike, n_classes: int = N_CLASSES) -> NDArray[np.int64]:
    """Counts of each (true, predicted) pair of classes, shape (n_classes, n_classes); a row is a true class.

    Args:
        truth: class indices, shape (n,).
        predicted: class indices, shape (n,).
        n_classes: number of classes.

    Raises:
        ValueError: if there are none, the shapes differ, or an index is no class.
    """
    truth, predicted = _answers(truth, predicted)
    if min(truth.min(), predicted.min()) < 0 or max(truth.max(), predicted.max()) >= n_classes:
        raise ValueError(f"class indices must be from 0 to {n_classes - 1}")
    return np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


@dataclass(frozen=True)
class Reliability:
    """How often answers are right beside how sure they are, in bins of their probability; empty bins are left out.

    Attributes:
        n: answers of each bin, shape (bins,).
        confidence: their mean probability, 0 to 1, shape (bins,).
        accuracy: their share of right ones, 0 to 1, shape (bins,).
    """

    n: NDArray[np.int64]
    confidence: Vector
    accuracy: Vector

    @property
    def error(self) -> float:
        """Mean distance of confidence and accuracy over all answers, 0 (best) to 1."""
        return float((self.n * np.abs(self.accuracy - self.confidence)).sum() / self.n.sum())

    @property
    def chance(self) -> float:
        """What :attr:`error` of as many answers would be on average if their probabilities were true, 0 to 1.

        Few answers are seldom right as often as they are sure: a bin's mean deviation is a binomial's, 2 v (1 − p)
        P(v) with v = ⌊n p⌋ + 1 (De Moivre, *Miscellanea Analytica*, 1730).
        """
        from scipy.stats import binom

        v = np.floor(self.n * self.confidence) + 1
        deviation = 2 * v * (1 - self.confidence) * binom.pmf(v, self.n, self.confidence)
        return float(deviation.sum() / self.n.sum())


def reliability(probabilities: ArrayLike, truth: ArrayLike, bins: int = 15) -> Reliability:
    """Answers binned by the probability of the predicted class, in ``bins`` equal widths (Guo et al. 2017).

    Args:
        probabilities: of each class, shape (n, classes).
        truth: class indices, shape (n,).
        bins: number of bins.

    Raises:
        ValueError: if there are none or the shapes differ.
    """
    probabilities = np.asarray(probabilities, float)
    truth, predicted = _answers(truth, probabilities.argmax(axis=1))
    confidence = probabilities.max(axis=1)
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    n = np.bincount(which, minlength=bins)
    sums = (np.bincount(which, values, bins)[n > 0] / n[n > 0] for values in (confidence, truth == predicted))
    return Reliability(n[n > 0], *sums)


def expected_calibration_error(probabilities: ArrayLike, truth: ArrayLike, bins: int = 15) -> float:
    """Mean distance of confidence and accuracy, 0 (best) to 1: Guo et al. 2017, equation 3; see :func:`reliability`."""
    return reliability(probabilities, truth, bins).error


def coverage_accuracy(confidence: ArrayLike, correct: ArrayLike) -> tuple[Vector, Vector]:
    """Accuracy where only the surest are answered (the risk–coverage curve of El-Yaniv & Wiener, JMLR 11, 1605, 2010).

    Answers that are equally sure come together.

    Args:
        confidence: how sure each answer is, shape (n,).
        correct: whether it is right, shape (n,).

    Returns:
        Shares of the answers that are given, rising to 1; the share of these that are right; shape (k,) each, k ≤ n
        different values of confidence.

    Raises:
        ValueError: if there are no answers or the shapes differ.
    """
    (right,), sure = _answers(correct), np.asarray(confidence, float)
    if sure.shape != right.shape:
        raise ValueError(f"there are {len(right)} answers, and {sure.shape} of confidence")
    values, which = np.unique(-sure, return_inverse=True)
    given = np.bincount(which, minlength=len(values)).cumsum()
    return given / len(right), np.bincount(which, right, len(values)).cumsum() / given


def accuracy_of_surest(confidence: ArrayLike, correct: ArrayLike, share: float) -> float:
    """The share of right ones among the surest answers, the least part of :func:`coverage_accuracy` that is ``share``.

    Args:
        confidence: how sure each answer is, shape (n,).
        correct: whether it is right, shape (n,).
        share: of the answers that are given at least, above 0 to 1.
    """
    given, right = coverage_accuracy(confidence, correct)
    return float(right[np.searchsorted(given, share - 1e-9)])


def _pair(pattern: ArrayLike, theory: ArrayLike) -> tuple[Vector, Vector]:
    pattern, theory = np.asarray(pattern, float), np.asarray(theory, float)
    if pattern.shape != theory.shape or pattern.ndim != 2:
        raise ValueError(f"patterns {pattern.shape} and theory {theory.shape} must both be (n, points)")
    if not (np.isfinite(pattern).all() and np.isfinite(theory).all()):
        raise ValueError("patterns and theory must be finite")
    return pattern, theory


def _to_maximum(patterns: Vector) -> Vector:
    highest = patterns.max(axis=1, keepdims=True)
    return np.divide(patterns, highest, out=np.zeros_like(patterns), where=highest > 0)


def _to_distribution(patterns: Vector, uniform_share: float) -> Vector:
    weights = patterns.clip(min=0)
    total, points = weights.sum(axis=1, keepdims=True), weights.shape[1]
    shares = np.divide(weights, total, out=np.full_like(weights, 1 / points), where=total > 0)
    return (1 - uniform_share) * shares + uniform_share / points


def _answers(*arrays: ArrayLike) -> tuple[NDArray[np.int64], ...]:
    found = tuple(np.asarray(a).astype(np.int64) for a in arrays)
    if any(a.ndim != 1 or a.shape != found[0].shape for a in found):
        raise ValueError(f"answers must be one list each of the same length, not {[a.shape for a in found]}")
    if not len(found[0]):
        raise ValueError("there are no answers")
    return found


def _discordant(correct_a: ArrayLike, correct_b: ArrayLike) -> tuple[int, int, int]:
    a, b = (x.astype(bool) for x in _answers(correct_a, correct_b))
    return int((a & ~b).sum()), int((b & ~a).sum()), len(a)


def _percentiles(values: Vector, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
