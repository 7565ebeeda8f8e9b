"""Pairs: the ideal pattern is that of the flawed one's own cell; and training on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imitation_refinement.errors import InputError
from imitation_refinement.learning.config import RootRefinerConfig
from imitation_refinement.learning.models import load_classifier, load_root_refiner, save_model
from imitation_refinement.learning.pair_training import PairConfig, losses, train_on_pairs
from imitation_refinement.learning.pairs import Pairs, ideal_root, pairs
from imitation_refinement.learning.root_refiner import MIDDLE, RootRefiner
from imitation_refinement.learning.stream import Stream, StreamFlaws
from imitation_refinement.results import metrics
from imitation_refinement.xrd.bank import Bank
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile, pseudo_voigt

GRID = Grid(axis="log_q", points=512)
CONFIG = PairConfig(
    network=RootRefinerConfig(widths=(8, 12), hidden=8, positions=8),
    samples=96,
    batch_size=16,
    validation=14,
    validate_every=32,
    checkpoint_seconds=0,
    average=0.5,
    learning_rate=5e-3,
    device="cpu",
)


def test_the_ideal_pattern_is_of_the_same_cell(toy_bank: Bank) -> None:
    """Lines that are as narrow and untextured as can be stand where, and as high as, the ideal ones do."""
    none = dict.fromkeys(("u", "microstrain", "axial", "zero_shift", "displacement", "transparency"), (0.0, 0.0))
    none |= dict.fromkeys(("monochromator", "line_texture", "b_iso"), (0.0, 0.0))
    shares = ("ka2", "texture", "air", "hump", "fluorescence", "impurity", "cut")
    none |= {f"{name}_share": 0.0 for name in shares} | {"spikes": 0.0, "gaps": 0.0}
    flaws = StreamFlaws(**none, counts=(1e6, 1e6), background=(0.0, 0.0), w=(0.0225, 0.0225), size=(1e6, 1e6))
    grid = Grid(axis="log_q", points=3072)
    stream = Stream(toy_bank, grid, flaws)
    found = pairs(stream, 0, 14, Profile(mixing=0))
    x, rows = stream.batch(0, 14)
    assert torch.equal(found.seen[:, 0], x) and found.label.tolist() == toy_bank.label[rows.numpy()].tolist()
    ncc = metrics.ncc(found.seen[:, 0].double().numpy() ** 2, found.ideal.double().numpy() ** 2)
    assert np.median(ncc) > 0.99
    assert not found.shift.any()


def test_ideal_lines_by_hand() -> None:
    grid, profile = Grid(axis="log_q", points=3072), Profile()
    d, f2 = np.array([3.2, 1.9]), np.array([10.0, 25.0])
    theta = np.arcsin(grid.wavelength / (2 * d))
    height = f2 * (1 + np.cos(2 * theta) ** 2) / (np.sin(theta) ** 2 * np.cos(theta))
    centres = np.degrees(2 * theta)
    expected = sum(
        h * pseudo_voigt(grid.two_theta - c, profile.fwhm, profile.mixing) for h, c in zip(height, centres, strict=True)
    )
    np.testing.assert_allclose(ideal_root(d, f2, grid, profile) ** 2, expected / expected.max(), atol=3e-4)
    seen = grid.two_theta > 40
    cut = ideal_root(d, f2, grid, profile, seen)
    assert cut.max() == 1 and not cut[~seen].any()


def test_shifts_are_what_was_drawn(toy_bank: Bank) -> None:
    stream = Stream(toy_bank, GRID, StreamFlaws(zero_shift=(0.1, 0.1), displacement=(0.2, 0.2), radius=(200, 200)))
    np.testing.assert_allclose(pairs(stream, 0, 2, Profile()).shift, [[0.1, np.degrees(-0.4 / 200)]] * 2, rtol=1e-6)


def test_losses_are_the_distances_of_the_metrics() -> None:
    rng = np.random.default_rng(0)
    root, ideal = (rng.random((5, 64)).astype(np.float32) for _ in range(2))
    ideal /= ideal.max(axis=1, keepdims=True)
    pair = Pairs(torch.zeros(5, 3, 64), torch.from_numpy(ideal), torch.zeros(5, 2), torch.zeros(5, dtype=torch.long))
    found = losses(torch.from_numpy(root), torch.tensor([[0.05, 0.05]] * 5), pair)
    assert float(found["l1"]) == pytest.approx(metrics.l1(root**2, ideal**2).mean() / 40, rel=1e-5)
    assert float(found["l2"]) == pytest.approx(metrics.l2(root**2, ideal**2).mean() / 2.5, rel=1e-5)
    assert float(found["kl"]) == pytest.approx(metrics.kl(root**2, ideal**2).mean() / 0.7, rel=1e-4)
    assert float(found["shift"]) == pytest.approx((0.05 * (1 + MIDDLE) / 0.1) ** 2, rel=1e-5)
    assert float(found["loss"]) == pytest.approx(sum(float(v) for k, v in found.items() if k != "loss"), rel=1e-5)


class Killed(Exception):
    pass


def test_it_learns_and_goes_on_after_a_kill_to_the_bit(toy_bank: Bank, tmp_path: Path) -> None:
    # Five stoichiometries, each of all crystal systems.
    names = [f"{name}{2 + i // 7}O" for i, name in enumerate(toy_bank.formula)]
    toy_bank = replace(toy_bank, formula=np.array(names))
    whole, history = train_on_pairs(toy_bank, GRID, 0.4, CONFIG, lambda metrics, samples: None)
    assert history.metrics["samples"] == [32, 64, 96]
    assert history.metrics["validation_loss"][-1] < history.metrics["validation_loss"][0]

    def killing(metrics: dict[str, float], samples: int) -> None:
        if samples == 64:
            raise Killed

    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train_on_pairs(toy_bank, GRID, 0.4, CONFIG, killing, path)
    seen: list[int] = []
    resumed, again = train_on_pairs(toy_bank, GRID, 0.4, CONFIG, lambda metrics, at: seen.append(at), path)
    assert again.metrics == history.metrics and seen == [32, 64, 96]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_files_and_moves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    refiner = RootRefinerConfig(widths=(8, 12), hidden=8, positions=8).build(GRID).eval()
    path = tmp_path / "refiner.safetensors"
    save_model(path, refiner, GRID, {"method": "paired"})
    loaded, grid, about = load_root_refiner(path)
    assert grid == GRID and about["method"] == "paired"
    seen = torch.rand(2, 3, 512)
    for one, other in zip(refiner(seen), loaded(seen), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(InputError, match="holds a RootRefiner"):
        load_classifier(path)
    # A fresh one has gains of 1 and moves nothing.
    root, shift = refiner(seen)
    torch.testing.assert_close(root, seen[:, :2].mean(1))
    assert not shift.any()
    _moves(refiner)


def _moves(refiner: RootRefiner) -> None:
    """A line at 40.1° whose zero error is 0.1° comes to 40°, wherever it stands among the points."""
    grid = Grid(axis="log_q", points=4096)
    on_fine = RootRefinerConfig(widths=(8,), hidden=8, positions=8).build(grid)
    line = torch.from_numpy(np.exp(-(((grid.two_theta - 40.1) / 0.2) ** 2)))[None]
    moved = on_fine.moved(line, torch.tensor([[0.1, 0.0]]))[0].numpy()
    expected = np.exp(-(((grid.two_theta - 40.0) / 0.2) ** 2))
    np.testing.assert_allclose(moved, expected, atol=0.01)
    half = on_fine.moved(line, torch.tensor([[0.0, 0.1]]))[0].numpy()
    shift = (grid.two_theta * line[0].numpy()).sum() / line.sum().item() - (grid.two_theta * half).sum() / half.sum()
    assert shift == pytest.approx(0.1 * np.cos(np.radians(20)), abs=5e-3)
