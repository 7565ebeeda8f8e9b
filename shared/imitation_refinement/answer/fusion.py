"""One answer of two: the networks' and the search's, weighed by how sure the search is of its first candidate.

P(k) ∝ exp(a(s) log n_k + b(s) log v_k), a logarithmic opinion pool (Genest & Zidek, Stat. Sci. 1, 114, 1986) of the
networks' probabilities n and the vote v, whose weights are linear in the probability s that the first candidate is the
phase. Fitted by maximum likelihood, so that the answer is calibrated on what it was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

Vector = NDArray[np.float64]

LEAST = 1e-3  # a vote of nothing rules nothing out
RIDGE = 1e-3


@dataclass(frozen=True)
class Opinions:
    """What is known of one pattern before it is fused.

    Attributes:
        network: the networks' log-probabilities, shape (7,).
        vote: the search's vote, shape (7,).
        sure: the probability that the first candidate is the phase, 0 to 1.
    """

    network: Vector
    vote: Vector
    sure: float

    def inputs(self) -> Vector:
        """What the weights multiply, shape (4, 7)."""
        vote = np.log(np.maximum(self.vote, LEAST))
        return np.stack([self.network, self.sure * self.network, vote, self.sure * vote])


@dataclass(frozen=True)
class Fusion:
    """Fitted weights.

    Attributes:
        weights: of the networks, of them times s, of the vote, of it times s.
        fitted_on: what they were fitted on.
    """

    weights: tuple[float, float, float, float]
    fitted_on: str = ""

    def __call__(self, opinions: Opinions) -> Vector:
        """The probabilities of the seven crystal systems, shape (7,)."""
        return np.asarray(np.exp(log_softmax(np.asarray(self.weights) @ opinions.inputs())))


def fit(opinions: Sequence[Opinions], truth: NDArray[np.integer], fitted_on: str = "") -> Fusion:
    """The weights under which the true systems are most likely, with a small ridge towards equal parts.

    Args:
        opinions: of n patterns that no part has learnt.
        truth: their class indices, shape (n,).
        fitted_on: what they are, for the record.

    Raises:
        ValueError: if there are none.
    """
    if not len(opinions):
        raise ValueError("there is nothing to fit on")
    x, true = np.stack([o.inputs() for o in opinions]), np.asarray(truth, int)
    start = np.array([0.5, 0.0, 0.5, 0.0])
    right = x[np.arange(len(x)), :, true]

    def loss(w: Vector) -> tuple[float, Vector]:
        scores = np.einsum("c,nck->nk", w, x)
        total = logsumexp(scores, axis=1)
        share = np.exp(scores - total[:, None])
        value = float((total - right @ w).mean() + RIDGE * ((w - start) ** 2).sum())
        gradient = (np.einsum("nk,nck->nc", share, x) - right).mean(axis=0) + 2 * RIDGE * (w - start)
        return value, gradient

    found = minimize(loss, start, jac=True, method="L-BFGS-B").x.tolist()
    return Fusion((found[0], found[1], found[2], found[3]), fitted_on)
