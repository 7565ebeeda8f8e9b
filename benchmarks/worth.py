"""What answers are worth, for the benchmarks that ask: shares with their intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from imitation_refinement.results.wording import percent, share_interval

FAMILY = np.array([0, 1, 2, 3, 4, 4, 5])  # trigonal and hexagonal together

Right = NDArray[np.bool_]


def share(right: ArrayLike) -> str:
    """A share in %, with Wilson's 95 % interval; a dash where there is nothing."""
    answers = np.asarray(right, bool)
    if not answers.size:
        return "–"
    interval = binomtest(int(answers.sum()), answers.size).proportion_ci(method="wilson")
    return f"{percent(answers.mean())} ({share_interval(interval.low, interval.high)})"


def verdicts(p: NDArray[np.floating], truth: NDArray[np.integer]) -> tuple[Right, Right, Right]:
    """Whether probabilities, shape (n, 7), name the system first; among two; and its family first; shape (n,) each."""
    order = np.argsort(-p, axis=1)
    among_two = (order[:, :2] == truth[:, None]).any(axis=1)
    return order[:, 0] == truth, among_two, FAMILY[order[:, 0]] == FAMILY[truth]


def phase_places(listed: list[list[int]], right: Right, phase: NDArray[np.intp]) -> tuple[NDArray[np.intp], Right]:
    """Of patterns whose phase is in a library: its place among the candidates; and which patterns these are.

    Args:
        listed: the library's rows of each pattern's candidates, the most probable first.
        right: which of the library's entries are each pattern's phase, shape (patterns, entries).
        phase: a number for each entry's phase, shape (entries,).

    Returns:
        Places from 0, that of a phase not listed far beyond, shape (k,); whether it is in the library, (patterns,).
    """
    inside = right.any(axis=1)
    places = []
    for i in np.flatnonzero(inside):
        found = np.isin(phase[listed[i]], phase[right[i]])
        places.append(int(found.argmax()) if found.any() else len(found) + 99)
    return np.array(places, np.intp), inside
