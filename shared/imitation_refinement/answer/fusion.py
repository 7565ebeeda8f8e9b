"""One answer of two: the vote of the search's candidates, and the networks'.

P(k) ∝ Σ_{i of k} exp(w·x_i + a n_k) + exp(c + b n_k): a conditional logit (McFadden, 1974) over the crystals that were
fitted, where the evidence x_i and the networks' log-probability n_k of its crystal system speak for each, and over
seven more, one a system, that stand for a phase that is none of them and have the networks alone for them. Where one
crystal fits far better than all others it outweighs the networks; where none does, they are heard. In the end a
temperature: measured patterns are harder than the virtual ones that all this is fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from imitation_refinement.answer.cell import Evidence
from imitation_refinement.answer.ranking import RIDGE, case_weights, conditional_logit, spread
from imitation_refinement.answer.search import Answer
from imitation_refinement.xrd.crystal import N_CLASSES

Vector = NDArray[np.float64]

LEAST = 1e-4  # a probability of nothing rules nothing out
START = (0.3, 0.0, 0.7)  # of a, c and b
# Of the probabilities, then scaled to 1: without it answers on simulated imperfect patterns are 10 points too sure, on
# measured ones not. Of powers from 0.6 to 1 the one whose largest calibration error on both development sets is least.
POWER = 0.75


@dataclass(frozen=True)
class Opinions:
    """What is known of one pattern before it is fused.

    Attributes:
        network: the networks' log-probabilities, shape (7,).
        evidence: of the crystals that were fitted, see :class:`.cell.Evidence`, shape (k, evidence).
        system: class index of each, shape (k,).
        vote: the search's own, shape (7,).
    """

    network: Vector
    evidence: Vector
    system: NDArray[np.int8]
    vote: Vector

    @classmethod
    def of(cls, network: Vector, answer: Answer) -> Opinions:
        """Those of the networks and a search."""
        return cls(network, answer.evidence, answer.system, answer.systems)


@dataclass(frozen=True)
class Fusion:
    """Fitted weights.

    Attributes:
        mean, deviation: of each kind of evidence, by which it is standardised.
        evidence: w.
        network: a.
        none: c and b.
        power: of the probabilities: one over the temperature.
        fitted_on: what they were fitted on.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    evidence: tuple[float, ...]
    network: float
    none: tuple[float, float]
    power: float = 1.0
    fitted_on: str = ""

    def __call__(self, opinions: Opinions) -> Vector:
        """The probabilities of the seven crystal systems, shape (7,)."""
        x, system = _inputs(opinions, np.array(self.mean), np.array(self.deviation))
        share = np.bincount(system, np.exp(log_softmax(x @ self.weights)), N_CLASSES)
        p = np.maximum(share, LEAST) ** self.power
        return np.asarray(p / p.sum())

    @property
    def weights(self) -> Vector:
        """All weights, in the order of the columns of what they are weights of."""
        return np.array([*self.evidence, self.network, *self.none])

    def record(self) -> dict[str, Any]:
        """What :meth:`read` reads."""
        return {"of": [kind.name.lower() for kind in Evidence], **asdict(self)}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Fusion:
        """The weights of a record.

        Raises:
            KeyError, TypeError, ValueError: if it holds none that are whole.
        """
        if record["of"] != [kind.name.lower() for kind in Evidence]:
            raise ValueError("weights of other evidence")
        mean, deviation, evidence = (tuple(map(float, record[name])) for name in ("mean", "deviation", "evidence"))
        c, b = map(float, record["none"])
        found = cls(
            mean,
            deviation,
            evidence,
            float(record["network"]),
            (c, b),
            float(record["power"]),
            str(record["fitted_on"]),
        )
        if {len(mean), len(deviation), len(evidence)} != {len(Evidence)}:
            raise ValueError("weights of too few or too many kinds of evidence")
        if not np.isfinite([*found.weights, *mean, *deviation, found.power]).all() or min(*deviation, found.power) <= 0:
            raise ValueError("weights that are no finite numbers")
        return found


def fit(
    opinions: Sequence[Opinions],
    truth: NDArray[np.integer],
    often: ArrayLike | None = None,
    fitted_on: str = "",
    power: float = POWER,
) -> Fusion:
    """The weights under which the true systems are most likely, with a small ridge.

    Args:
        opinions: of n patterns that no part has learnt.
        truth: their class indices, shape (n,).
        often: how often each system is met where answers are asked for, shape (7,); as in ``truth`` without it.
        fitted_on: what they are, for the record.
        power: of the probabilities, in the end.

    Raises:
        ValueError: if there are none.
    """
    if not len(opinions):
        raise ValueError("there is nothing to fit on")
    mean, deviation = spread([one.evidence for one in opinions])
    parts = [_inputs(one, mean, deviation) for one in opinions]
    right = [system == true for (_, system), true in zip(parts, np.asarray(truth), strict=True)]
    weights, start = case_weights(np.asarray(truth).tolist(), often), np.array([*[0.0] * len(Evidence), *START])
    ridge = np.array([RIDGE] * len(Evidence) + [0.0] * len(START))
    found = conditional_logit([x for x, _ in parts], right, weights, start, ridge).tolist()
    n = len(Evidence)
    a, c, b = found[n:]
    return Fusion(tuple(mean.tolist()), tuple(deviation.tolist()), tuple(found[:n]), a, (c, b), power, fitted_on)


def _inputs(opinions: Opinions, mean: Vector, deviation: Vector) -> tuple[Vector, NDArray[np.int_]]:
    """What weights are of, and each row's system: the crystals', then seven of none; shapes (k + 7, evidence + 3)."""
    k, n = len(opinions.system), len(Evidence)
    x = np.zeros((k + N_CLASSES, n + 3))
    x[:k, :n] = (opinions.evidence - mean) / deviation
    x[:k, n] = opinions.network[opinions.system]
    x[k:, n + 1], x[k:, n + 2] = 1, opinions.network
    return x, np.concatenate([opinions.system, np.arange(N_CLASSES)])
