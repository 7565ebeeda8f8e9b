"""Splits that are stratified by crystal system and never have one material on both sides."""

from __future__ import annotations

import warnings
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from imitation_refinement.errors import InputError

TRAIN, VALIDATION, TEST, HELD_OUT = "train", "validation", "test", "held_out"


def grouped_split(
    groups: NDArray[np.str_], labels: NDArray[np.str_], folds: int, seed: int, where: object
) -> NDArray[np.str_]:
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
    out = np.full(len(groups), TRAIN, dtype="<U10")
    with warnings.catch_warnings():
        # A class with fewer members than folds is spread as far as it goes; the manifest shows the counts.
        warnings.filterwarnings("ignore", message="The least populated class")
        try:
            parts = list(splitter.split(np.zeros(len(groups)), labels, groups))
        except ValueError as error:
            raise InputError(where, f"can't be split {folds} ways ({error}).", "Give more, or lower `folds`.") from None
    out[parts[0][1]] = TEST
    out[parts[1][1]] = VALIDATION
    return out


def split_ideal(
    groups: NDArray[np.str_],
    labels: NDArray[np.str_],
    imperfect_groups: Collection[str],
    folds: int,
    seed: int,
    where: object,
) -> NDArray[np.str_]:
    """As :func:`grouped_split`, with every material of the imperfect set set aside as ``held_out``.

    A classifier that has seen a material's ideal pattern knows the answer to its imperfect one.
    """
    held_out = np.isin(groups, np.asarray(sorted(imperfect_groups), dtype=str))
    out = np.full(len(groups), HELD_OUT, dtype="<U10")
    free = ~held_out
    if not free.any():
        raise InputError(where, "every material is also in the imperfect set.", "Give structures of other materials.")
    out[free] = grouped_split(groups[free], labels[free], folds, seed, where)
    return out
