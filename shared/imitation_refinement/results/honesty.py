"""Does a refiner mend patterns, or paint what its classifier likes to see?

A refiner learns through a fixed classifier and can raise its accuracy by features that no crystal has. What would give
it away: an independent judge, who does not see the gain; an ideal pattern that it changes; noise and amorphous humps
that become a confident crystal; peaks that theory does not have, or has and the refined pattern lacks; peaks narrower
than the instrument draws them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from imitation_refinement.learning.models import apply, probabilities
from imitation_refinement.learning.networks import Classifier, Refiner
from imitation_refinement.results import metrics
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile
from imitation_refinement.xrd.peaks import least_width, narrow_share, peak_precision_recall

Vector = NDArray[np.float64]
Patterns = NDArray[np.float32]

FAINT = 0.005  # of the strongest peak: an invisible feature that is counted all the same
N_EMPTY = 128  # patterns of noise, and of humps
COUNTS = (10.0, 10_000.0)  # least and greatest mean counts of an empty pattern
HUMP_FWHM = (5.0, 15.0)  # of an amorphous hump [°]
HUMP_COUNTS = (100.0, 10_000.0)  # least and greatest height of the highest hump
HUMP_GROUND = 0.1  # counts under the humps, as a share of their height


def noise_patterns(n: int, grid: Grid, seed: int) -> Patterns:
    """Counting noise on a flat level: nothing there. Shape (n, points), maximum 1.

    Poisson counts; a pattern's mean is log-uniform between the :data:`COUNTS`.

    Args:
        n: number of patterns.
        grid: their angles.
        seed: of the counts.
    """
    random = np.random.default_rng([seed, 0])
    level = _log_uniform(COUNTS, n, random)
    return _counted(np.broadcast_to(level, (n, grid.points)), random)


def hump_patterns(n: int, grid: Grid, seed: int) -> Patterns:
    """Amorphous scattering with counting noise: one or two humps, no crystal. Shape (n, points), maximum 1.

    Gaussians of FWHM 5 to 15° and centres in the lower two thirds of the axis, where glasses have theirs, the second
    0.2 to 1 times as high as the first or absent (one time in two), on a flat ground; Poisson counts of a height that
    is log-uniform between the :data:`HUMP_COUNTS`.

    Args:
        n: number of patterns.
        grid: their angles.
        seed: of the shapes and counts.
    """
    random = np.random.default_rng([seed, 1])
    span = grid.stop - grid.start
    centre = grid.start + span * random.uniform(0.1, 0.67, (n, 2, 1))
    fwhm = random.uniform(*HUMP_FWHM, (n, 2, 1))
    height = np.stack([np.ones(n), random.uniform(0.2, 1, n) * random.integers(0, 2, n)], axis=1)[:, :, None]
    humps = (height * np.exp(-4 * np.log(2) * ((grid.two_theta - centre) / fwhm) ** 2)).sum(axis=1)
    return _counted(_log_uniform(HUMP_COUNTS, n, random) * (humps + HUMP_GROUND), random)


def answer_entropy(probabilities: ArrayLike) -> Vector:
    """Shannon entropy −Σ p ln p of each answer as a share of ln (number of classes): 0 certain, 1 no idea.

    Args:
        probabilities: of each class, rows of sum 1, shape (n, classes).

    Returns:
        Shape (n,).
    """
    p = np.asarray(probabilities, float)
    logarithm = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -(p * logarithm).sum(axis=1) / np.log(p.shape[1])


def doubt(classifier: Classifier, temperature: float, patterns: Patterns) -> tuple[float, float]:
    """How unsure a classifier is of patterns: mean :func:`answer_entropy`, and mean probability of the answer.

    Args:
        classifier: gives the logits.
        temperature: that divides them.
        patterns: intensities, shape (n, points).
    """
    answers = probabilities(classifier, patterns, temperature)
    return float(answer_entropy(answers).mean()), float(answers.max(axis=1).mean())


def identity_error(refiner: nn.Module, ideal: Patterns) -> dict[str, float]:
    """How far R(x) is from x where nothing is to be mended.

    An ideal pattern has no zero error: the refiner is used without the one that it mends (:meth:`Refiner.adjusted
    <imitation_refinement.learning.networks.Refiner>`).

    Args:
        refiner: maps (n, points) to (n, points).
        ideal: ideal patterns, shape (n, points), n > 0.

    Returns:
        Medians ``identity_l1``, ``identity_l2`` (0 is best), ``identity_ncc`` (1 is best); see
        :mod:`~imitation_refinement.results.metrics`.
    """
    return _identity(apply(_adjusted(refiner), ideal), ideal)


def _identity(refined: Patterns, ideal: Patterns) -> dict[str, float]:
    distances = {"l1": metrics.l1, "l2": metrics.l2, "ncc": metrics.ncc}
    return {f"identity_{name}": float(np.median(distance(refined, ideal))) for name, distance in distances.items()}


def _adjusted(refiner: nn.Module) -> nn.Module:
    return refiner.adjusted() if isinstance(refiner, Refiner) else refiner


def honesty(
    refiner: nn.Module,
    classifier: Classifier,
    judge: Classifier | None,
    temperature: float,
    raw: Patterns,
    refined: Patterns,
    theory: Patterns,
    labels: NDArray[np.int64],
    ideal: tuple[Patterns, NDArray[np.int64]],
    grid: Grid,
    seed: int,
    profile: Profile | None = None,
) -> dict[str, float | None]:
    """Every measure of a refiner's honesty; None where it can't be computed.

    Args:
        refiner: maps (n, points) to (n, points).
        classifier: the one that it was trained through.
        judge: a classifier of another architecture and seed, trained on ideal patterns only, or None.
        temperature: of the classifier's probabilities.
        raw: test patterns, shape (n, points).
        refined: the same ones, refined.
        theory: their theoretical patterns, NaN rows where missing.
        labels: their class indices, negative where unknown, shape (n,).
        ideal: ideal patterns (m, points) and their class indices (m,).
        grid: of all patterns.
        seed: of the empty patterns and the bootstrap.
        profile: of ideal patterns.

    Returns:
        - ``judge_accuracy``, ``judge_accuracy_raw`` and the fields of :func:`.metrics.compare`,
          ``judge_gain``, ``judge_gain_low``, ``judge_gain_high``, ``judge_p_value``;
        - ``peak_precision``, ``peak_recall``, ``invented``, ``lost``: means over the patterns with theory, and the same
          of the raw ones, ``…_raw``; see :func:`~imitation_refinement.xrd.peaks.peak_precision_recall`;
          ``invented_faint`` and ``…_raw``: invented where 0.5 % of the strongest peak is enough to be judged, which
          counts what the eye would not see;
        - ``least_width`` [°], ``narrow_share``, ``narrow_share_raw``;
        - ``identity_l1``, ``identity_l2``, ``identity_ncc``, ``ideal_accuracy``, ``ideal_accuracy_refined``;
        - ``noise_entropy``, ``noise_confidence``, ``hump_entropy``, ``hump_confidence`` and ``…_raw``; see
          :func:`doubt`.
    """
    return (
        _judged(judge, raw, refined, labels, seed)
        | _peaks(raw, refined, theory, grid, profile)
        | _unchanged(refiner, classifier, *ideal)
        | _doubts(refiner, classifier, temperature, grid, seed)
    )


def _judged(
    judge: Classifier | None, raw: Patterns, refined: Patterns, labels: NDArray[np.int64], seed: int
) -> dict[str, float | None]:
    known = labels >= 0
    if judge is None or not known.any():
        names = ("accuracy", "accuracy_raw", "gain", "gain_low", "gain_high", "p_value")
        return {f"judge_{name}": None for name in names}
    correct, correct_raw = (probabilities(judge, x[known]).argmax(axis=1) == labels[known] for x in (refined, raw))
    gain = metrics.compare(correct, correct_raw, seed)
    return {
        "judge_accuracy": float(correct.mean()),
        "judge_accuracy_raw": float(correct_raw.mean()),
        **{f"judge_{name}": value for name, value in gain.items()},
    }


def _peaks(
    raw: Patterns, refined: Patterns, theory: Patterns, grid: Grid, profile: Profile | None
) -> dict[str, float | None]:
    limit = least_width(raw, grid, profile)
    found: dict[str, float | None] = {"least_width": limit}
    for patterns, suffix in ((refined, ""), (raw, "_raw")):
        scores = peak_precision_recall(patterns, theory, grid, measured=raw)
        faint = peak_precision_recall(patterns, theory, grid, least_height=FAINT, faint_height=FAINT / 4, measured=raw)
        found |= {
            f"peak_precision{suffix}": _mean(scores.precision),
            f"peak_recall{suffix}": _mean(scores.recall),
            f"invented{suffix}": _mean(scores.invented),
            f"lost{suffix}": _mean(scores.lost),
            f"invented_faint{suffix}": _mean(faint.invented),
            f"narrow_share{suffix}": narrow_share(patterns, grid, limit),
        }
    return found


def _unchanged(
    refiner: nn.Module, classifier: Classifier, ideal: Patterns, labels: NDArray[np.int64]
) -> dict[str, float | None]:
    if not len(ideal):
        names = ("identity_l1", "identity_l2", "identity_ncc", "ideal_accuracy", "ideal_accuracy_refined")
        return dict.fromkeys(names)
    refined = apply(_adjusted(refiner), ideal)
    accuracy, refined_accuracy = (
        metrics.accuracy(labels, probabilities(classifier, x).argmax(axis=1)) for x in (ideal, refined)
    )
    return {
        **_identity(refined, ideal),
        "ideal_accuracy": accuracy,
        "ideal_accuracy_refined": refined_accuracy,
    }


def _doubts(
    refiner: nn.Module, classifier: Classifier, temperature: float, grid: Grid, seed: int
) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, empty in (("noise", noise_patterns), ("hump", hump_patterns)):
        before = empty(N_EMPTY, grid, seed)
        for patterns, suffix in ((apply(refiner, before), ""), (before, "_raw")):
            entropy, confidence = doubt(classifier, temperature, patterns)
            found |= {f"{name}_entropy{suffix}": entropy, f"{name}_confidence{suffix}": confidence}
    return found


def _log_uniform(ends: tuple[float, float], n: int, random: np.random.Generator) -> Vector:
    low, high = np.log(ends)
    return np.exp(random.uniform(low, high, (n, 1)))


def _counted(expected: Vector, random: np.random.Generator) -> Patterns:
    counts = random.poisson(expected)
    return (counts / counts.max(axis=1, keepdims=True)).astype(np.float32)


def _mean(values: Vector) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
