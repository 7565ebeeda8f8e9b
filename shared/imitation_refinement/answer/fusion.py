"""One answer of three: the vote of the search's candidates, the networks', and the lattice's.

P(k) ∝ Σ_{i of k} exp(w·x_i + a·n_k) + exp(c + b·n_k): a conditional logit (McFadden, 1974) over the crystals that were
fitted, where the evidence x_i speaks for each and n_k, the log-probabilities of its crystal system by the networks and
by the lattice, and over seven more, one a system, that stand for a phase that is none of them and have these two alone
for them. Where one crystal fits far better than all others it outweighs them; where none does, they are heard. In the
end a temperature: measured patterns are harder than the virtual ones that all this is fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from imitation_refinement.answer.cell import Evidence
from imitation_refinement.answer.ranking import RIDGE, conditional_logit, spread
from imitation_refinement.answer.search import Answer
from imitation_refinement.xrd.crystal import N_CLASSES

Vector = NDArray[np.float64]

LEAST = 1e-4  # a probability of nothing rules nothing out
OTHERS = 2  # networks and lattice
START = (0.3, 0.3, 0.0, 0.5, 0.5)  # of a, c and b
# Of the probabilities, then scaled to 1: without it answers on simulated imperfect patterns are 6 points too sure, on
# measured ones up to 3 too unsure. With it they are off by at most 5 either way on both development sets.
POWER = 0.9


@dataclass(frozen=True)
class Opinions:
    """What is known of one pattern before it is fused.

    Attributes:
        network: the networks' log-probabilities, shape (7,).
        lattice: the lattice's, shape (7,).
        evidence: of the crystals that were fitted, see :class:`.cell.Evidence`, shape (k, evidence).
        system: class index of each, shape (k,).
        vote: the search's own, shape (7,).
    """

    network: Vector
    lattice: Vector
    evidence: Vector
    system: NDArray[np.int8]
    vote: Vector

    @classmethod
    def of(cls, network: Vector, lattice: Vector, answer: Answer) -> Opinions:
        """Those of the networks, the lattice and a search."""
        return cls(network, lattice, answer.evidence, answer.system, answer.systems)


@dataclass(frozen=True)
class Fusion:
    """Fitted weights.

    Attributes:
        mean, deviation: of each kind of evidence, by which it is standardised.
        evidence: w.
        others: a: of networks and lattice.
        none: c, and b of both.
        power: of the probabilities: one over the temperature.
        fitted_on: what they were fitted on.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    evidence: tuple[float, ...]
    others: tuple[float, ...]
    none: tuple[float, ...]
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
        return np.array([*self.evidence, *self.others, *self.none])

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
        names = ("mean", "deviation", "evidence", "others", "none")
        parts = {name: tuple(map(float, record[name])) for name in names}
        found = cls(**parts, power=float(record["power"]), fitted_on=str(record["fitted_on"]))
        sizes = [len(part) for part in parts.values()]
        if sizes != [len(Evidence)] * 3 + [OTHERS, OTHERS + 1]:
            raise ValueError("weights of too few or too many kinds of evidence")
        mean, deviation = found.mean, found.deviation
        if not np.isfinite([*found.weights, *mean, *deviation, found.power]).all() or min(*deviation, found.power) <= 0:
            raise ValueError("weights that are no finite numbers")
        return found


def fit(
    opinions: Sequence[Opinions],
    truth: NDArray[np.integer],
    counting: Vector | None = None,
    fitted_on: str = "",
    power: float = POWER,
) -> Fusion:
    """The weights under which the true systems are most likely, with a small ridge.

    Args:
        opinions: of n patterns that no part has learnt.
        truth: their class indices, shape (n,).
        counting: how much each pattern counts, shape (n,); equally without it.
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
    start = np.array([*[0.0] * len(Evidence), *START])
    ridge = np.array([RIDGE] * len(Evidence) + [0.0] * len(START))
    found = conditional_logit([x for x, _ in parts], right, counting, start, ridge).tolist()
    n = len(Evidence)
    evidence, others, none = (tuple(part) for part in (found[:n], found[n : n + OTHERS], found[n + OTHERS :]))
    return Fusion(tuple(mean.tolist()), tuple(deviation.tolist()), evidence, others, none, power, fitted_on)


def _inputs(opinions: Opinions, mean: Vector, deviation: Vector) -> tuple[Vector, NDArray[np.int_]]:
    """What weights are of, and each row's system: the crystals', then seven of none; (k + 7, weights), (k + 7,)."""
    k, n = len(opinions.system), len(Evidence)
    others = np.column_stack([opinions.network, opinions.lattice])
    x = np.zeros((k + N_CLASSES, n + 2 * OTHERS + 1))
    x[:k, :n] = (opinions.evidence - mean) / deviation
    x[:k, n : n + OTHERS] = others[opinions.system]
    x[k:, n + OTHERS], x[k:, n + OTHERS + 1 :] = 1, others
    return x, np.concatenate([opinions.system, np.arange(N_CLASSES)])
