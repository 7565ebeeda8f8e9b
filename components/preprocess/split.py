"""Splits that are stratified by crystal system and never have one material on both sides."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, grey_opening
from sklearn.model_selection import StratifiedGroupKFold

from components.preprocess.alike import joined
from imitation_refinement.errors import InputError

TRAIN, VALIDATION, TEST, HELD_OUT = "train", "validation", "test", "held_out"

# Of 227 pairs of measured patterns of one formula 206 are as alike as this, of those of two formulas one in 400.
ALIKE = 0.6
BLUR = 0.15  # standard deviation [°]: patterns of one material are moved and broadened each in its own way
BROAD = 2.5  # features that are broader than this [°] are background
ROWS_AT_A_TIME = 512


def grouped_split(
    groups: NDArray[Any], labels: NDArray[Any], folds: int, seed: int, where: object
) -> NDArray[np.object_]:
    """Training, validation and test part; one fold each for the last two.

    Args:
        groups: the material of each row, shape (n,).
        labels: the crystal system of each row, shape (n,).
        folds: parts that the rows are dealt into; 10 gives the paper's 9:1, the nine holding one for validation.
        seed: of the shuffle.
        where: what is split, for messages.

    Returns:
        ``train``, ``validation`` or ``test`` a row, shape (n,).

    Raises:
        InputError: if there are fewer materials than folds.
    """
    n_groups = len(np.unique(groups))
    if n_groups < folds:
        raise InputError(where, f"{n_groups} materials can't be split {folds} ways.", "Give more, or lower `folds`.")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    out = _filled(len(groups), TRAIN)
    with warnings.catch_warnings():
        # A class with fewer members than folds is spread as far as it goes; the manifest shows the counts.
        warnings.filterwarnings("ignore", message="The least populated class")
        try:
            for part, (_, rows) in zip((TEST, VALIDATION), splitter.split(labels, labels, groups), strict=False):
                out[rows] = part
        except ValueError as error:
            raise InputError(where, f"can't be split {folds} ways ({error}).", "Give more, or lower `folds`.") from None
    return out


def _filled(rows: int, part: str) -> NDArray[np.object_]:
    """One and the same text for each row: `np.full` makes a text of its own for each, 50 bytes (NumPy 2.4)."""
    out = np.empty(rows, object)
    out[:] = part
    return out


def groups_of(
    materials: NDArray[np.str_], unknown: NDArray[np.bool_], patterns: NDArray[np.float32], step: float
) -> NDArray[np.str_]:
    """What must stay on one side of a split: a material, and patterns of unknown material that look like it.

    Two patterns are alike if the correlation of their roots, blurred and without background, is above :data:`ALIKE`.
    Where a pattern of unknown material is like patterns of several, all are one group.

    Args:
        materials: the material of each row, one of its own where it is unknown, shape (n,).
        unknown: where it is, shape (n,).
        patterns: intensities with maximum 1, shape (n, points).
        step: of their grid [°].

    Returns:
        Shape (n,): a material of each group.
    """
    if not unknown.any():
        return materials
    broad = round(BROAD / step)
    lines = [gaussian_filter1d(np.sqrt(p - np.minimum(grey_opening(p, (broad,)), p)), BLUR / step) for p in patterns]
    shapes = np.array(lines) - np.mean(lines, axis=1, keepdims=True)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True) + 1e-9
    pairs = [np.empty((0, 2), np.intp)]
    for some in np.array_split(np.flatnonzero(unknown), range(ROWS_AT_A_TIME, unknown.sum(), ROWS_AT_A_TIME)):
        one, other = np.nonzero(shapes[some] @ shapes.T > ALIKE)
        pairs.append(np.stack([some[one], other], axis=1))
    return joined(materials, np.concatenate(pairs))


def split_ideal(
    groups: NDArray[Any],
    labels: NDArray[Any],
    held_out: NDArray[np.bool_],
    folds: int,
    seed: int,
    where: object,
) -> NDArray[np.object_]:
    """As :func:`grouped_split`, with the rows of the imperfect set's materials set aside as ``held_out``.

    A classifier that has seen a material's ideal pattern knows the answer to its imperfect one.
    """
    held_out = np.isin(groups, groups[held_out])
    out = _filled(len(groups), HELD_OUT)
    free = ~held_out
    if not free.any():
        raise InputError(where, "every material is also in the imperfect set.", "Give structures of other materials.")
    out[free] = grouped_split(groups[free], labels[free], folds, seed, where)
    return out
