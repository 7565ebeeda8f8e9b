"""Seeds and numbers: what every draw takes, and what Kubeflow Pipelines' doubles hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from sklearn.model_selection import StratifiedGroupKFold

from imitation_refinement.options import Seed, StageConfig

LAST = 2**32 - 1


def test_the_last_seed_works_wherever_one_is_drawn_with() -> None:
    assert TypeAdapter(Seed).validate_python(float(LAST)) == LAST  # as Kubeflow Pipelines hands it on
    np.random.default_rng([LAST, 3])
    torch.Generator().manual_seed(LAST)
    labels = np.arange(8) % 2

    def split(seed: int) -> int:
        return len(list(StratifiedGroupKFold(2, shuffle=True, random_state=seed).split(labels, labels, np.arange(8))))

    assert split(LAST) == 2
    with pytest.raises(ValueError, match="eed"):
        split(LAST + 1)


@pytest.mark.parametrize("seed", [-1, LAST + 1, 2**53 + 1, 0.5, float("inf"), float("nan")])
def test_what_is_no_seed(seed: float) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Seed).validate_python(seed)


class Options(StageConfig):
    share: float = 0.5
    pair: tuple[float, float] = (0.0, 1.0)


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan"), "inf"])
def test_numbers_are_finite_also_within_a_range(bad: float) -> None:
    for given in ({"share": bad}, {"pair": (0.0, bad)}):
        with pytest.raises(ValidationError, match="finite"):
            Options.model_validate(given)
