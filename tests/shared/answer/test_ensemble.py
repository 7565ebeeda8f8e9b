from pathlib import Path

import numpy as np
import pytest
import torch

from imitation_refinement.answer.ensemble import SHIFTS, Ensemble
from imitation_refinement.errors import InputError
from imitation_refinement.learning.config import ClassifierConfig
from imitation_refinement.learning.models import save_model
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.preparation import measured_input
from tests.shared.answer.conftest import measured

GRID = Grid(axis="log_q", points=256)
OFTEN = np.array([0.02, 0.2, 0.2, 0.1, 0.1, 0.1, 0.28])


def network(seed: int, path: Path, grid: Grid = GRID) -> Path:
    config = {"architecture": "strided", "depths": (1, 1), "widths": (8, 8), "embedding": 8, "positions": 8}
    torch.manual_seed(seed)
    save_model(path, ClassifierConfig.model_validate(config).build().eval(), grid, {})
    return path


def test_networks_and_shifts_are_averaged(tmp_path: Path) -> None:
    """By NumPy: the mean of log-probabilities over both networks and all shifts, then Bayes' rule."""
    ensemble = Ensemble.read([network(seed, tmp_path / f"{seed}.safetensors") for seed in range(2)], OFTEN)
    x, y = measured("NaCl")
    seen = measured_input(x, y, 1.5406, GRID)
    parts = []
    for one in ensemble.networks:
        for shift in SHIFTS:
            moved = np.roll(seen, shift)
            moved[: max(shift, 0)] = 0
            moved[len(moved) + min(shift, 0) :] = 0
            with torch.no_grad():
                logits = one(torch.from_numpy(moved[None])).numpy()[0].astype(float)
            parts.append(logits - np.log(np.exp(logits).sum()))
    mean = np.mean(parts, axis=0) + np.log(OFTEN)
    expected = mean - np.log(np.exp(mean).sum())
    np.testing.assert_allclose(ensemble.log_probabilities(x, y, 1.5406), expected, atol=1e-5)


def test_what_is_no_ensemble_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is none"):
        Ensemble.read([], OFTEN)
    others = [network(0, tmp_path / "a.safetensors"), network(0, tmp_path / "b.safetensors", Grid(points=256))]
    with pytest.raises(InputError, match="on another grid than"):
        Ensemble.read(others, OFTEN)
