"""Patterns that nobody could tell apart: the key of a material that no way of writing its name breaks.

Of 15,310 structures (Materials Project, AMCSD) 2,400 pairs of other names are as alike as :data:`IDENTICAL`: solid
solutions, and compounds of one structure type with cells that agree within some 0.1 %. Of 13,300 pairs of one name and
space group, refined from other crystals, 2,800 are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from imitation_refinement.data.formula import but_for_hydrogen, difference

BIN = 0.075  # [°], width of the bins in which patterns are compared
IDENTICAL = 0.995  # cosine of √I in such bins
WITHOUT_HYDROGEN = 0.9  # the same, of two materials that differ in hydrogen alone
NEAR = 0.1  # share of the atoms that may differ between two refinements of one material
COARSE, COMPONENTS = 4, 12  # bins that are put together, and directions in which pairs are looked for
AT_A_TIME = 100_000  # pairs

Pairs = NDArray[np.intp]


def shapes(patterns: NDArray[np.float32], step: float) -> NDArray[np.float16]:
    """√I in bins of :data:`BIN`, each row of norm 1: their product is a cosine.

    Args:
        patterns: ideal patterns, not negative, shape (n, points).
        step: of their grid [°].

    Returns:
        Shape (n, bins).
    """
    width = min(max(1, round(BIN / step)), patterns.shape[1])
    bins = patterns.shape[1] // width
    root = np.sqrt(patterns[:, : bins * width].reshape(len(patterns), bins, width).mean(axis=2))
    return (root / np.maximum(np.linalg.norm(root, axis=1, keepdims=True), 1e-9)).astype(np.float16)


def identical_pairs(found: NDArray[np.float16]) -> Pairs:
    """Pairs of rows whose cosine is at least :data:`IDENTICAL`, shape (m, 2), the smaller row first.

    None is missed: a cosine c means a distance of √(2 − 2c), and no projection makes it larger, so that pairs are
    looked for in the few directions that the patterns differ most in.
    """
    if len(found) < 2:
        return np.empty((0, 2), np.intp)
    pairs = cKDTree(_projected(found)).query_pairs(np.sqrt(2 - 2 * IDENTICAL) + 1e-3, output_type="ndarray")
    return pairs[cosines(found, pairs) >= IDENTICAL]


def _projected(found: NDArray[np.float16]) -> NDArray[np.float32]:
    """The principal directions of neighbouring bins' means, shape (n, directions)."""
    bins = found.shape[1] // COARSE * COARSE
    if not bins:
        return found.astype(np.float32)
    coarse = found[:, :bins].reshape(len(found), -1, COARSE).sum(axis=2, dtype=np.float32) / np.sqrt(COARSE)
    centred = coarse - coarse.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ directions[:, -COMPONENTS:], np.float32)


def cosines(found: NDArray[np.float16], pairs: Pairs) -> NDArray[np.float32]:
    """The cosine of each pair, shape (m,)."""
    out = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), AT_A_TIME):
        one, other = pairs[start : start + AT_A_TIME].T
        out[start : start + AT_A_TIME] = np.einsum("ij,ij->i", found[one], found[other], dtype=np.float32)
    return out


def hydrogen_pairs(names: Sequence[str], found: NDArray[np.float16]) -> Pairs:
    """Pairs of rows that differ in hydrogen alone and look it: one may have lost it on its way, shape (m, 2)."""
    families: dict[str, list[int]] = defaultdict(list)
    family_of = but_for_hydrogen(names)
    for row, name in enumerate(names):
        if name in family_of:
            families[family_of[name]].append(row)
    apart = [(i, j) for rows in families.values() for i, j in combinations(rows, 2) if names[i] != names[j]]
    pairs = np.array(apart, np.intp).reshape(-1, 2)
    return pairs[cosines(found, pairs) >= WITHOUT_HYDROGEN]


def pairs_to_join(names: Sequence[str], found: NDArray[np.float16], identical: Pairs, of_all: bool = False) -> Pairs:
    """Pairs of rows that must not stand on two sides of a split, shape (m, 2).

    Args:
        names: the material of each row.
        found: their :func:`shapes`.
        identical: their :func:`identical_pairs`. They may be two refinements of one material where all but
            :data:`NEAR` of the atoms are the same.
        of_all: take all of them.
    """
    if not of_all:
        may_be_one = [difference(names[i], names[j]) <= NEAR for i, j in identical.tolist()]
        identical = identical[np.array(may_be_one, bool)]
    return np.concatenate([identical, hydrogen_pairs(names, found)])


def joined(groups: NDArray[np.str_], pairs: Pairs) -> NDArray[np.str_]:
    """The groups after those of each pair of rows have become one, each called by its first row, shape (n,)."""
    if not len(pairs):
        return groups
    names, first = np.unique(groups, return_index=True)
    edges = np.concatenate([np.stack([np.arange(len(groups)), first[np.searchsorted(names, groups)]], axis=1), pairs])
    graph = coo_array((np.ones(len(edges)), edges.T), shape=(len(groups), len(groups)))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    return groups[first[component]]
