"""From evidence to probabilities: which crystal it is, whether it is one of the library, and the crystal system.

Two conditional logits (McFadden, 1974) over the crystals that were fitted: P(i) = exp(w·x_i) / Σ_j exp(w·x_j). The one
is fitted so that the phase itself has the probability, where it is there; the other so that crystals of its system have
it, whether it is there or not. A logistic regression says how sure the first is: the phase may not be in the library at
all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, softmax

from imitation_refinement.answer.cell import Evidence
from imitation_refinement.errors import InputError
from imitation_refinement.files import parse_json, read_bytes, recorded, write_text
from imitation_refinement.xrd.crystal import N_CLASSES

Vector = NDArray[np.float64]

RELEASED = Path(__file__).with_name("released")  # the folder of the model that comes with the software
RANKING = "ranking.json"  # in a model's folder
MIXED = 1.0  # off the logit of a solid solution: its formula is one of a continuum, a compound's stands for itself
RIDGE = 1e-3  # on weights of evidence in its standard deviations
LEAST_VOTE = 1e-3  # of what is right: a case where it has less is beyond help
SURE = ("intercept", "logit of the share", "theory", "explained", "missing", "coverage")


@dataclass(frozen=True)
class Case:
    """One search whose answer is known.

    Attributes:
        evidence: of the crystals that were fitted, shape (k, evidence).
        phase: a number for each crystal's phase, shape (k,).
        system: of each crystal, shape (k,).
        mixed: which of them are solid solutions, shape (k,).
        right: which of them are the phase, shape (k,); none where it is not in the library.
        true_system: the pattern's.
        coverage: share of the lines' range that was measured.
    """

    evidence: Vector
    phase: NDArray[np.intp]
    system: NDArray[np.int8]
    mixed: NDArray[np.bool_]
    right: NDArray[np.bool_]
    true_system: int
    coverage: float


@dataclass(frozen=True)
class Ranking:
    """Fitted coefficients.

    Attributes:
        mean, deviation: of each kind of evidence, by which it is standardised.
        phase: weights of the logit for the phase.
        system: weights of that for the crystal system.
        sure: coefficients of :data:`SURE`.
        fitted_on: what they were fitted on.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    phase: tuple[float, ...]
    system: tuple[float, ...]
    sure: tuple[float, ...]
    fitted_on: str = ""

    @classmethod
    def read(cls, path: str | Path | None = None) -> Ranking:
        """Coefficients from a file; those that come with the software without one.

        Raises:
            InputError: if the file does not hold them.
        """
        where = Path(path) if path else RELEASED / RANKING
        with recorded(where, "holds no coefficients", "Fit them again."):
            record = parse_json(read_bytes(where))
            names, sure = record.pop("evidence"), record.pop("sure_of")
            said = record.pop("fitted_on")
            found = cls(**{name: tuple(map(float, values)) for name, values in record.items()}, fitted_on=said)
        sizes = {len(values) for values in (found.mean, found.deviation, found.phase, found.system)}
        if names != [e.name.lower() for e in Evidence] or sizes != {len(Evidence)} or tuple(sure) != SURE:
            raise InputError(where, "holds coefficients of other evidence.", "Fit them again.")
        numbers = (*found.mean, *found.deviation, *found.phase, *found.system, *found.sure)
        if len(found.sure) != len(SURE) or not np.isfinite(numbers).all() or min(found.deviation) <= 0:
            raise InputError(where, "holds coefficients that are out of range.", "Fit them again.")
        return found

    def write(self, path: str | Path) -> None:
        """Writes the coefficients as JSON, with what each is of."""
        record = {"evidence": [e.name.lower() for e in Evidence], "sure_of": SURE, **asdict(self)}
        write_text(path, json.dumps(record, indent=1) + "\n")

    def standard(self, evidence: Vector) -> Vector:
        """Evidence in standard deviations from its mean, the same shape."""
        return np.asarray((evidence - self.mean) / self.deviation)

    def shares(self, evidence: Vector, mixed: NDArray[np.bool_]) -> Vector:
        """The probability of each crystal if the phase is one of them, shape (k,).

        Args:
            evidence: of each crystal, shape (k, evidence).
            mixed: which of them are solid solutions, shape (k,).
        """
        return np.asarray(softmax(self.standard(evidence) @ self.phase - MIXED * mixed))

    def systems(self, evidence: Vector, system: NDArray[np.int8]) -> Vector:
        """The vote: seven probabilities in the order of the crystal systems."""
        weights = softmax(self.standard(evidence) @ self.system)
        return np.bincount(system, weights=weights, minlength=N_CLASSES).astype(float)

    def sureness(self, evidence: Vector, share: Vector, coverage: float) -> Vector:
        """The probability that a crystal is the phase, which may be none of the library; shape (k,).

        Args:
            evidence: of each crystal, shape (k, evidence).
            share: of its phase, see :func:`phase_shares`, shape (k,).
            coverage: share of the lines' range that was measured.
        """
        return np.asarray(expit(_sure_inputs(evidence, share, coverage) @ self.sure))


def phase_shares(share: Vector, phase: NDArray[np.intp]) -> Vector:
    """Each crystal's share and those of the other entries of its phase, shape (k,)."""
    _, which = np.unique(phase, return_inverse=True)
    return np.asarray(np.bincount(which, weights=share)[which], float)


def fit(cases: Sequence[Case], fitted_on: str = "", often: ArrayLike | None = None) -> Ranking:
    """Coefficients fitted on searches whose answer is known.

    The logit for the phase is fitted on the cases whose phase was found, which say what makes a true phase; the vote
    and how sure the first is, on all.

    Args:
        cases: the searches.
        fitted_on: what they are, for the record.
        often: how often each crystal system is met where answers are asked for, shape (7,), for the vote; as in the
            cases without it.

    Raises:
        ValueError: if no case has its phase among the crystals fitted.
    """
    known = [case for case in cases if case.right.any()]
    if not known:
        raise ValueError("no case has its phase among its crystals")
    mean, deviation = spread([case.evidence for case in cases])
    phase = conditional_logit([(case.evidence - mean) / deviation for case in known], [case.right for case in known])
    weights = case_weights([case.true_system for case in cases], often)
    inputs = [(case.evidence - mean) / deviation for case in cases]
    system = conditional_logit(inputs, [case.system == case.true_system for case in cases], weights)
    zeros = (0.0,) * len(SURE)
    found = Ranking(tuple(mean), tuple(deviation), tuple(phase), tuple(system), zeros, fitted_on)
    rows, answers = [], []
    for case in cases:
        share = phase_shares(found.shares(case.evidence, case.mixed), case.phase)
        first = int(share.argmax())
        rows.append(_sure_inputs(case.evidence[[first]], share[[first]], case.coverage))
        answers.append(case.right[case.phase == case.phase[first]].any())
    return replace(found, sure=tuple(_logistic(np.concatenate(rows), np.array(answers))))


def _sure_inputs(evidence: Vector, share: Vector, coverage: float) -> Vector:
    odds = np.log(np.clip(share, 1e-6, 1 - 1e-6) / np.clip(1 - share, 1e-6, 1))
    columns = (odds, *(evidence[:, e] for e in (Evidence.THEORY, Evidence.EXPLAINED, Evidence.MISSING)))
    return np.column_stack([np.ones(len(evidence)), *columns, np.full(len(evidence), coverage)])


def spread(evidence: Sequence[Vector]) -> tuple[Vector, Vector]:
    """Mean and standard deviation of each kind of evidence, of crystals of all cases, shape (evidence,) each."""
    everything = np.concatenate(evidence)
    return everything.mean(axis=0), np.maximum(everything.std(axis=0), 1e-9)


def case_weights(truth: Sequence[int], often: ArrayLike | None = None) -> Vector:
    """Weights of cases that sum to 1, under which each class weighs as ``often`` says; shape (n,).

    Args:
        truth: class indices, n of them.
        often: shape (7,); equal weights without it.
    """
    labels = np.asarray(truth, int)
    wanted = np.ones(len(labels))
    if often is not None:
        wanted = np.asarray(often, float)[labels] / np.bincount(labels, minlength=N_CLASSES)[labels]
    return np.asarray(wanted / wanted.sum())


def conditional_logit(
    inputs: Sequence[Vector],
    right: Sequence[NDArray[np.bool_]],
    weights: Vector | None = None,
    start: Vector | None = None,
    ridge: ArrayLike = RIDGE,
) -> Vector:
    """Weights w that make −log Σ_{right} P smallest on average, P(i) = exp(w·x_i) / Σ_j exp(w·x_j), with a ridge.

    Args:
        inputs: of the choices of n cases, shape (k, c) each.
        right: which of them are right, shape (k,) each. Cases where none is, or all are, tell nothing.
        weights: of the cases, shape (n,); equal without them.
        start: shape (c,); 0 without it.
        ridge: on the squares of w, a number or shape (c,).

    Returns:
        Shape (c,).
    """
    weights, factor = np.ones(len(inputs)) if weights is None else weights, np.asarray(ridge, float)
    told = [i for i, r in enumerate(right) if r.any() and not r.all()]
    first = np.zeros(inputs[0].shape[1]) if start is None else np.asarray(start, float)
    if not told:  # as with one crystal system alone: nothing speaks against the ridge
        return first
    x, chosen = np.concatenate([inputs[i] for i in told]), np.concatenate([right[i] for i in told])
    counts = np.array([len(inputs[i]) for i in told])
    starts, weight = np.cumsum(counts) - counts, weights[told] / weights[told].sum()

    def loss(w: Vector) -> tuple[float, Vector]:
        score = x @ w
        score = np.exp(score - np.repeat(np.maximum.reduceat(score, starts), counts))
        total, true = np.add.reduceat(score, starts), np.add.reduceat(score * chosen, starts)
        share = np.maximum(true / total, LEAST_VOTE)
        kept = np.where(true / total > LEAST_VOTE, weight, 0)
        pull = np.repeat(kept / total, counts) - chosen * np.repeat(kept / np.maximum(true, 1e-300), counts)
        return float(np.sum(factor * w**2) - weight @ np.log(share)), (score * pull) @ x + 2 * factor * w

    return np.asarray(minimize(loss, first, jac=True, method="L-BFGS-B").x)


def _logistic(x: Vector, y: NDArray[np.bool_]) -> Vector:
    """Coefficients of a logistic regression, with a ridge."""
    sign = np.where(y, 1.0, -1.0)

    def loss(w: Vector) -> tuple[float, Vector]:
        margin = sign * (x @ w)
        gradient = -(expit(-margin) * sign) @ x / len(y)
        return float(np.logaddexp(0, -margin).mean() + RIDGE * w @ w), gradient + 2 * RIDGE * w

    return np.asarray(minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x)
