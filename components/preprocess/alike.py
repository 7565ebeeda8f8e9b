"""Patterns that nobody could tell apart: the key of a material that no way of writing its name breaks.

Of 15,310 structures (Materials Project, AMCSD) 2,400 pairs of other names are as alike as :data:`IDENTICAL`: solid
solutions, and compounds of one structure type with cells that agree within some 0.1 %. Of 13,300 pairs of one name and
space group, refined from other crystals, 2,800 are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imitation_refinement.data.datasets import scratch
from imitation_refinement.data.formula import but_for_hydrogen, difference

BIN = 0.075  # [°], width of the bins in which patterns are compared
IDENTICAL = 0.995  # cosine of √I in such bins
WITHOUT_HYDROGEN = 0.9  # the same, of two materials that differ in hydrogen alone
NEAR = 0.1  # share of the atoms that may differ between two refinements of one material
COARSE = 4  # bins that are put together
COMPONENTS, FINE_COMPONENTS = 12, 64  # directions in which pairs are looked for, and those in which they are looked at
ROWS_AT_A_TIME, PAIRS_AT_A_TIME, ROWS_IN_CELL = 4096, 4096, 512

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


def identical_pairs(found: NDArray[np.float16], material: NDArray[np.integer]) -> Pairs:
    """Pairs of rows of two materials whose cosine is at least :data:`IDENTICAL`, in order, the smaller row first.

    None is missed: a cosine c means a distance of √(2 − 2c), and no projection makes it larger, so that pairs are
    looked for in the few directions that the patterns differ most in. A tree prunes little where distances are of the
    order of the patterns' spread; cells of rows that are close in three directions, each multiplied with those within
    reach, take a tenth of its time.

    Args:
        found: :func:`shapes`, shape (n, bins); they may be mapped, and are read a few at a time.
        material: of each row, shape (n,).

    Returns:
        Shape (m, 2).
    """
    if len(found) < 2:
        return np.empty((0, 2), np.intp)
    near = np.sqrt(2 - 2 * IDENTICAL) + 1e-3
    projected, order, cells = _cells(_projected(found))
    few = projected[:, :COMPONENTS]
    half = np.einsum("ij,ij->i", few, few) / 2
    low, high = (np.array([bound(few[cell], axis=0) for cell in cells]) for bound in (np.min, np.max))
    kept = []
    for number, cell in enumerate(cells):
        box, close = (low[number], high[number]), []
        for other in (cells[i] for i in number + _in_reach(box, (low[number:], high[number:]), near)):
            rows = other.start + _in_reach(box, (few[other], few[other]), near)
            # Half the squared distance, x²/2 + y²/2 − x·y, is within near²/2.
            likeness = few[cell] @ few[rows].T - half[rows]
            i, j = np.divmod(np.flatnonzero(likeness >= half[cell, None] - near**2 / 2), len(rows))
            close.append(np.stack([i + cell.start, rows[j]], axis=1))
        places = np.concatenate(close)
        one, two = order[places].T
        places = places[(places[:, 0] < places[:, 1]) & (material[one] != material[two])]
        one, two = places.T
        places = places[((projected[one] - projected[two]) ** 2).sum(axis=1) <= near**2]
        pairs = np.sort(order[places], axis=1)
        kept.append(pairs[cosines(found, pairs) >= IDENTICAL])
    together = np.concatenate(kept)
    return together[np.lexsort(together.T[::-1])]


def _in_reach(box: tuple[Any, Any], others: tuple[Any, Any], near: float) -> NDArray[np.intp]:
    """Which of other boxes, each given by its lowest and its highest corner, are within a distance of one."""
    gaps = np.maximum(np.maximum(others[0] - box[1], box[0] - others[1]), 0)
    return np.flatnonzero((gaps**2).sum(axis=1) <= near**2)


def _cells(projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.intp], list[slice]]:
    """The rows in an order in which those of a cell, which are close in the first three directions, are neighbours.

    Returns:
        The rows in this order, mapped; their numbers, shape (n,); the cells, of some :data:`ROWS_IN_CELL`.
    """
    parts, slabs = [np.arange(len(projected))], math.ceil((len(projected) / ROWS_IN_CELL) ** (1 / 3))
    for direction in projected.T[:3]:
        parts = [slab for part in parts for slab in np.array_split(part[np.argsort(direction[part])], slabs)]
    parts = [part for part in parts if len(part)]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    cells = [slice(end - len(part), end) for end, part in zip(ends, parts, strict=True)]
    ordered = scratch(projected.shape, np.float32)
    for cell, part in zip(cells, parts, strict=True):
        ordered[cell] = projected[part]
    return ordered, np.concatenate(parts), cells


def _projected(found: NDArray[np.float16]) -> NDArray[np.float32]:
    """The principal directions of neighbouring bins' means, the largest first, shape (n, directions); mapped."""
    bins = found.shape[1] // COARSE * COARSE
    if not bins:
        return found.astype(np.float32)
    parts = [slice(start, start + ROWS_AT_A_TIME) for start in range(0, len(found), ROWS_AT_A_TIME)]

    def coarse(part: slice) -> NDArray[np.float32]:
        together = found[part, :bins].reshape(-1, bins // COARSE, COARSE).sum(axis=2, dtype=np.float32)
        return np.asarray(together / np.float32(np.sqrt(COARSE)))

    mean = sum(coarse(part).sum(axis=0, dtype=np.float64) for part in parts) / len(found)
    spread = sum((centred := coarse(part) - mean).T @ centred for part in parts)
    _, directions = np.linalg.eigh(spread)
    chosen = directions[:, : -FINE_COMPONENTS - 1 : -1]
    out = scratch((len(found), chosen.shape[1]), np.float32)
    for part in parts:
        out[part] = (coarse(part) - mean) @ chosen
    return out


def cosines(found: NDArray[np.float16], pairs: Pairs) -> NDArray[np.float32]:
    """The cosine of each pair, shape (m,)."""
    out = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), PAIRS_AT_A_TIME):
        one, other = pairs[start : start + PAIRS_AT_A_TIME].T
        out[start : start + PAIRS_AT_A_TIME] = np.einsum("ij,ij->i", found[one], found[other], dtype=np.float32)
    return out


def hydrogen_pairs(names: Sequence[str], material: NDArray[np.integer], found: NDArray[np.float16]) -> Pairs:
    """Rows of materials that differ in hydrogen alone and look it: one may have lost it on its way, shape (m, 2).

    Args:
        names: of the materials; one name may be that of several, whose rows make no pairs.
        material: of each row, its number among the names, shape (n,).
        found: the rows' :func:`shapes`.

    Returns:
        One pair of rows of each two such materials.
    """
    families: dict[str, list[int]] = defaultdict(list)
    family_of = but_for_hydrogen(names)
    for number, name in enumerate(names):
        if name in family_of:
            families[family_of[name]].append(number)
    order = np.argsort(material, kind="stable")
    first = np.searchsorted(material[order], np.arange(len(names) + 1))
    pairs = []
    for family in families.values():
        rows = {number: order[first[number] : first[number + 1]] for number in family}
        for one, other in combinations((number for number in family if len(rows[number])), 2):
            if names[one] != names[other]:
                pairs += _lookalikes(found, rows[one], rows[other])
    return np.array(pairs, np.intp).reshape(-1, 2)


def _lookalikes(found: NDArray[np.float16], some: NDArray[np.intp], others: NDArray[np.intp]) -> list[tuple[int, int]]:
    """The first of some rows and of others that are as alike as :data:`WITHOUT_HYDROGEN`; nothing if none are."""
    for one in some.tolist():
        for start in range(0, len(others), ROWS_AT_A_TIME):
            part = others[start : start + ROWS_AT_A_TIME]
            alike = found[part].astype(np.float32) @ found[one].astype(np.float32) >= WITHOUT_HYDROGEN
            if alike.any():
                return [(one, int(part[alike.argmax()]))]
    return []


def pairs_to_join(
    names: Sequence[str],
    material: NDArray[np.integer],
    found: NDArray[np.float16],
    identical: Pairs,
    of_all: bool = False,
) -> Pairs:
    """Pairs of rows whose materials must not stand on two sides of a split, one of each two materials, shape (m, 2).

    Args:
        names: of the materials.
        material: of each row, its number among the names, shape (n,).
        found: the rows' :func:`shapes`.
        identical: their :func:`identical_pairs`. They may be two refinements of one material where all but
            :data:`NEAR` of the atoms are the same.
        of_all: take all of them.
    """
    _, first = np.unique(np.sort(material[identical], axis=1), axis=0, return_index=True)
    identical = identical[first]
    if not of_all:
        may_be_one = [difference(names[i], names[j]) <= NEAR for i, j in material[identical].tolist()]
        identical = identical[np.array(may_be_one, bool)]
    return np.concatenate([identical, hydrogen_pairs(names, material, found)])


def joined(groups: NDArray[Any], pairs: Pairs) -> NDArray[Any]:
    """The groups after those of each pair of rows have become one, each called by its first row, shape (n,)."""
    if not len(pairs):
        return groups
    names, first = np.unique(groups, return_index=True)
    number = np.searchsorted(names, groups)
    graph = coo_array((np.ones(len(pairs)), number[pairs].T), shape=(len(names), len(names)))
    n, component = connected_components(graph, directed=False)
    row = np.full(n, len(groups))
    np.minimum.at(row, component, first)
    return groups[row[component[number]]]
