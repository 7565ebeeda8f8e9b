"""Networks that are honest, and networks that cheat in known ways."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imitation_refinement.learning.config import ClassifierConfig
from imitation_refinement.learning.models import apply
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.results.honesty import (
    answer_entropy,
    doubt,
    honesty,
    hump_patterns,
    identity_error,
    noise_patterns,
)
from imitation_refinement.vocabulary import Measure
from imitation_refinement.xrd.crystal import N_CLASSES
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.peaks import find_peaks

GRID = Grid(points=1024)
X = GRID.two_theta
LABELS = np.arange(21) % N_CLASSES
WATERMARK = 85.0  # ° 2θ


class Paints(nn.Module):
    """Adds a line that no crystal has."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.line = torch.tensor(height * np.exp(-(((X - WATERMARK) / 0.15) ** 2)), dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.line


class Places(Classifier):
    """Reads the class from where a pattern is brightest between 20° and 80°; the watermark means cubic."""

    def __init__(self, sees_watermark: bool = False) -> None:
        super().__init__(ClassifierConfig(depths=(1, 1), widths=(8, 8), embedding=8))
        self.sees_watermark = sees_watermark

    def forward(self, x: Tensor) -> Tensor:
        at = [int(np.abs(X - centre).argmin()) for centre in _centres()]
        logits = 20 * torch.stack([x[:, i - 20 : i + 20].amax(1) for i in at], dim=1)
        if self.sees_watermark:
            logits[:, -1] += 1000 * x[:, int(np.abs(X - WATERMARK).argmin())]
        return logits


class Constant(Classifier):
    """Has no idea."""

    def __init__(self) -> None:
        super().__init__(ClassifierConfig(depths=(1, 1), widths=(8, 8), embedding=8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), N_CLASSES)


def _centres() -> NDArray[np.float64]:
    return 25 + 8.0 * np.arange(N_CLASSES)


@pytest.fixture(scope="module")
def ideal() -> NDArray[np.float32]:
    lines = [np.exp(-(((X - _centres()[k]) / 0.2) ** 2)) + 0.3 * np.exp(-(((X - 10) / 0.2) ** 2)) for k in LABELS]
    return np.array([line / line.max() for line in lines], dtype=np.float32)


def measure(
    refiner: nn.Module, ideal: NDArray[np.float32], classifier: Classifier, judge: Classifier | None = None
) -> dict[str, float | None]:
    theory = ideal.copy()
    theory[::3] = np.nan
    refined = apply(refiner, ideal)
    return honesty(refiner, classifier, judge, 1.0, ideal, refined, theory, LABELS, (ideal, LABELS), GRID, 0)


def test_entropy_of_answers() -> None:
    certain, even = np.eye(7)[:1], np.full((1, 7), 1 / 7)
    assert answer_entropy(np.concatenate([certain, even])) == pytest.approx([0, 1])
    half = np.array([[0.5, 0.5, 0, 0, 0, 0, 0]])
    assert answer_entropy(half) == pytest.approx([math.log(2) / math.log(7)])


def test_doubt_of_a_classifier_without_an_idea() -> None:
    assert doubt(Constant(), 1.0, noise_patterns(3, GRID, 0)) == pytest.approx((1.0, 1 / 7))


@pytest.mark.parametrize("empty", [noise_patterns, hump_patterns])
def test_empty_patterns(empty: type[noise_patterns]) -> None:
    patterns = empty(40, GRID, 3)
    assert patterns.shape == (40, GRID.points)
    assert patterns.dtype == np.float32
    assert patterns.min() >= 0
    assert patterns.max(axis=1) == pytest.approx(np.ones(40))
    assert (patterns == empty(40, GRID, 3)).all()
    assert (patterns != empty(40, GRID, 4)).any()


def test_noise_has_no_peaks_and_humps_no_narrow_ones() -> None:
    noise, humps = ([find_peaks(p, GRID) for p in empty(40, GRID, 0)] for empty in (noise_patterns, hump_patterns))
    assert sum(len(found.position) for found in noise) <= 1
    assert all(1 <= len(found.position) <= 3 for found in humps)
    widths = np.concatenate([found.fwhm for found in humps])
    assert np.nanmedian(widths) > 5
    assert np.mean(widths[np.isfinite(widths)] < 2) < 0.1


def test_identity_changes_nothing(ideal: NDArray[np.float32]) -> None:
    assert identity_error(nn.Identity(), ideal) == pytest.approx(
        {"identity_l1": 0, "identity_l2": 0, "identity_ncc": 1}, abs=1e-12
    )
    found = measure(nn.Identity(), ideal, Places(), Places())
    assert found["judge_accuracy"] == found["judge_accuracy_raw"] == found["ideal_accuracy"] == 1
    assert (found["judge_gain"], found["judge_p_value"]) == (0, 1)
    assert (found["peak_precision"], found["peak_recall"], found["invented"], found["lost"]) == (1, 1, 0, 0)
    assert found["invented_faint"] == 0
    for name in ("noise_entropy", "noise_confidence", "hump_entropy", "hump_confidence", "narrow_share"):
        assert found[name] == found[f"{name}_raw"]


def test_a_scale_is_no_change(ideal: NDArray[np.float32]) -> None:
    class Doubles(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    assert identity_error(Doubles(), ideal)["identity_l2"] == pytest.approx(0, abs=1e-6)


def test_a_painted_line_is_found_out(ideal: NDArray[np.float32]) -> None:
    found = measure(Paints(0.1), ideal, Places(sees_watermark=True), Places())
    assert found["peak_precision"] == pytest.approx(2 / 3)  # two lines of theory and the painted one
    assert (found["invented"], found["invented_raw"], found["lost"]) == (1, 0, 0)
    assert found["peak_precision_raw"] == found["peak_recall"] == 1
    assert found["identity_l2"] == pytest.approx(
        np.linalg.norm(0.1 * np.exp(-(((X - WATERMARK) / 0.15) ** 2))), rel=1e-3
    )
    assert found["ideal_accuracy_refined"] == pytest.approx(3 / 21)  # everything is cubic now
    assert found["judge_gain"] == 0  # the judge does not see the watermark


def test_a_crystal_seen_in_noise_is_found_out(ideal: NDArray[np.float32]) -> None:
    class SeesCubic(Paints):
        def forward(self, x: Tensor) -> Tensor:
            return 0.1 * x + self.line.roll(int(np.abs(X - _centres()[-1]).argmin() - np.abs(X - WATERMARK).argmin()))

    found = measure(SeesCubic(1.0), ideal, Places())
    for name in ("noise", "hump"):
        assert found[f"{name}_entropy"] == pytest.approx(0, abs=0.01)
        assert found[f"{name}_confidence"] == pytest.approx(1, abs=0.01)
    assert (found["noise_entropy_raw"] or 0) > 0.5


def test_an_invisible_line_is_counted_too(ideal: NDArray[np.float32]) -> None:
    found = measure(Paints(0.01), ideal, Places())
    assert (found["invented"], found["invented_faint"], found["invented_faint_raw"]) == (0, 1, 0)


def test_every_measure_is_there(ideal: NDArray[np.float32]) -> None:
    found = honesty(nn.Identity(), Places(), Places(), 1.0, ideal, ideal, ideal, LABELS, (ideal, LABELS), GRID, 0)
    assert {name for measure in Measure for name in (measure, measure.before) if name} <= set(found)


def test_what_cannot_be_computed_is_none(ideal: NDArray[np.float32]) -> None:
    nothing = np.empty((0, GRID.points), np.float32), np.empty(0, np.int64)
    theory = np.full_like(ideal, np.nan)
    found = honesty(nn.Identity(), Places(), None, 1.0, ideal, ideal, theory, LABELS, nothing, GRID, 0)
    absent = {name for name, value in found.items() if value is None}
    judged = {"accuracy", "accuracy_raw", "gain", "gain_low", "gain_high", "p_value"}
    peaks = {"peak_precision", "peak_recall", "invented", "lost", "invented_faint"}
    assert absent == (
        {f"judge_{name}" for name in judged}
        | peaks
        | {f"{name}_raw" for name in peaks}
        | {"identity_l1", "identity_l2", "identity_ncc", "ideal_accuracy", "ideal_accuracy_refined"}
    )
    assert all(isinstance(value, float) for value in found.values() if value is not None)
    assert found.keys() == measure(nn.Identity(), ideal, Places()).keys()


def test_unlabelled_patterns_are_not_judged(ideal: NDArray[np.float32]) -> None:
    labels = np.where(LABELS < 3, LABELS, -1)
    found = honesty(nn.Identity(), Places(), Places(), 1.0, ideal, ideal, ideal, labels, (ideal, LABELS), GRID, 0)
    assert found["judge_accuracy"] == 1
