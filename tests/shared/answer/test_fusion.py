from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from imitation_refinement.answer.cell import Evidence
from imitation_refinement.answer.fusion import Fusion, Opinions, fit

N = len(Evidence)


def fusion(others: tuple[float, float], none: tuple[float, float, float], **weights: float) -> Fusion:
    own = tuple(weights.get(kind.name.lower(), 0.0) for kind in Evidence)
    return Fusion((0.5,) * N, (2.0,) * N, own, others, none)


def opinions(rng: np.random.Generator, crystals: int = 12) -> Opinions:
    network, lattice = (log_softmax(2 * rng.standard_normal(7)) for _ in range(2))
    evidence = 2 * rng.standard_normal((crystals, N)) + 0.5
    return Opinions(network, lattice, evidence, rng.integers(0, 7, crystals).astype(np.int8), np.full(7, 1 / 7))


def test_a_fusion_by_hand() -> None:
    one = opinions(np.random.default_rng(0), 3)
    made = fusion((0.4, 0.3), (-1.0, 0.8, 0.6), theory=1.5, scatter=-0.5)
    total = np.zeros(7)
    for evidence, system in zip((one.evidence - 0.5) / 2, one.system, strict=True):
        score = 1.5 * evidence[Evidence.THEORY] - 0.5 * evidence[Evidence.SCATTER]
        score += 0.4 * one.network[system] + 0.3 * one.lattice[system]
        total[system] += np.exp(score)
    total += np.exp(-1.0 + 0.8 * one.network + 0.6 * one.lattice)
    np.testing.assert_allclose(made(one), total / total.sum(), rtol=1e-3)
    np.testing.assert_allclose(replace(made, power=0.5)(one), np.sqrt(total) / np.sqrt(total).sum(), rtol=1e-3)
    alone = fusion((0.0, 0.0), (50.0, 1.0, 0.0))(one)  # as good as certainly none of them: the networks' answer
    np.testing.assert_allclose(alone, softmax(one.network), atol=1e-3)


def test_weights_that_made_the_answers_are_found_again() -> None:
    rng = np.random.default_rng(0)
    made, found, truth = fusion((0.5, 0.4), (0.5, 0.9, 0.7), theory=1.2, missing=-0.8), [], []
    for _ in range(3000):
        found.append(opinions(rng))
        truth.append(rng.choice(7, p=made(found[-1])))
    again = fit(found, np.array(truth), power=1.0)
    scaled = np.array(again.evidence) / again.deviation * 2
    assert scaled == pytest.approx(made.evidence, abs=0.15)
    assert again.others == pytest.approx((0.5, 0.4), abs=0.15)
    assert again.none[1:] == pytest.approx((0.9, 0.7), abs=0.3)
    confident = np.mean([again(o).max() for o in found])
    right = np.mean([again(o).argmax() == t for o, t in zip(found, truth, strict=True)])
    assert confident == pytest.approx(right, abs=0.03), "fitted by likelihood, so calibrated"


def test_what_does_not_count_is_not_learnt_from() -> None:
    rng = np.random.default_rng(1)
    made, wrong = fusion((0.5, 0.4), (0.5, 0.9, 0.7), theory=1.2), fusion((0.0, 0.0), (0.5, -0.9, -0.7), theory=-1.2)
    found = [opinions(rng) for _ in range(600)]
    truth = np.array([rng.choice(7, p=(made if i % 2 else wrong)(one)) for i, one in enumerate(found)])
    again = fit(found, truth, np.arange(600) % 2.0, power=1.0)
    alone = fit(found[1::2], truth[1::2], power=1.0)
    for one in found[:20]:
        assert again(one) == pytest.approx(alone(one), abs=0.02)


def test_a_record_is_read_as_it_was_written() -> None:
    made = fusion((0.4, 0.3), (-1.0, 0.8, 0.6), theory=1.5)
    assert Fusion.read(made.record()) == made
    broken: list[dict[str, Any]] = [
        {"of": ["other"]}, {"deviation": [0.0] * N}, {"evidence": [1.0]}, {"others": [float("nan"), 1.0]},
        {"none": [1.0]}, {"power": 0.0},
    ]  # fmt: skip
    for change in broken:
        with pytest.raises(ValueError, match=r"."):
            Fusion.read({**made.record(), **change})


def test_nothing_to_fit_on() -> None:
    with pytest.raises(ValueError, match="nothing to fit on"):
        fit([], np.array([], int))
