"""Logits fitted on data that were drawn from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from imitation_refinement.answer.cell import Evidence
from imitation_refinement.answer.ranking import MIXED, SURE, Case, Ranking, fit, phase_shares
from imitation_refinement.errors import InputError

WEIGHTS = np.zeros(len(Evidence))
WEIGHTS[[Evidence.THEORY, Evidence.SCATTER]] = 2.0, -1.0


def drawn(number: int, known: bool = True) -> list[Case]:
    """Cases whose phase, if it is there, is drawn by a conditional logit of :data:`WEIGHTS`."""
    rng = np.random.default_rng(3)
    out = []
    for _ in range(number):
        evidence = rng.standard_normal((20, len(Evidence)))
        right = np.zeros(20, bool)
        if known:
            right[rng.choice(20, p=softmax(evidence @ WEIGHTS))] = True
        system = rng.integers(0, 7, 20).astype(np.int8)
        true = int(system[right][0]) if known else int(system[0])
        out.append(Case(evidence, np.arange(20), system, np.zeros(20, bool), right, true, 0.8))
    return out


def test_weights_are_found_again() -> None:
    found = fit(drawn(500))
    assert np.array(found.phase) / found.deviation == pytest.approx(WEIGHTS, abs=0.25)
    assert found.system[Evidence.THEORY] > 1 and found.system[Evidence.SCATTER] < -0.5


def test_who_is_never_right_is_never_sure() -> None:
    found = fit(drawn(100) + drawn(100, known=False))
    evidence = drawn(1)[0].evidence
    share = found.shares(evidence, np.zeros(20, bool))
    sure = found.sureness(evidence, share, 0.8)
    assert share.sum() == pytest.approx(1)
    assert (sure < 0.75).all()
    assert fit(drawn(100)).sureness(evidence, share, 0.8)[share.argmax()] > sure[share.argmax()]
    with pytest.raises(ValueError, match="no case"):
        fit(drawn(3, known=False))


def test_votes_and_shares_are_softmaxes() -> None:
    ranking = fit(drawn(50))
    case = drawn(1)[0]
    x = (case.evidence - ranking.mean) / ranking.deviation
    expected = np.bincount(case.system, weights=softmax(x @ ranking.system), minlength=7)
    assert ranking.systems(case.evidence, case.system) == pytest.approx(expected)
    mixed = np.arange(20) < 5
    assert ranking.shares(case.evidence, mixed) == pytest.approx(softmax(x @ ranking.phase - MIXED * mixed))


def test_entries_of_one_phase_share() -> None:
    assert phase_shares(np.array([0.5, 0.2, 0.3]), np.array([7, 4, 7])) == pytest.approx([0.8, 0.2, 0.8])


def test_coefficients_are_read_as_they_were_written(tmp_path: Path) -> None:
    ranking = fit(drawn(20), "a test")
    ranking.write(tmp_path / "ranking.json")
    assert Ranking.read(tmp_path / "ranking.json") == ranking
    text = (tmp_path / "ranking.json").read_text()
    flat = json.dumps(json.loads(text) | {"deviation": [0.0] * len(Evidence)})
    for broken, problem in (
        ("{}", "holds no coefficients"),
        (text.replace('"theory"', '"other"'), "other evidence"),
        (flat, "out of range"),
    ):
        (tmp_path / "ranking.json").write_text(broken)
        with pytest.raises(InputError, match=problem):
            Ranking.read(tmp_path / "ranking.json")
    with pytest.raises(InputError, match="holds no coefficients"):
        Ranking.read(tmp_path / "none.json")


def test_the_softwares_own_coefficients_say_what_is_expected() -> None:
    own = Ranking.read()
    assert len(own.sure) == len(SURE)
    assert own.phase[Evidence.THEORY] > 0 > own.phase[Evidence.SCATTER]
    assert own.phase[Evidence.STRAIN] < 0
    assert replace(own, fitted_on="") != own


def test_where_every_crystal_is_of_one_system_all_votes_are_for_it() -> None:
    rng = np.random.default_rng(0)
    right = np.arange(5) == 0
    alike = [
        Case(rng.normal(size=(5, len(Evidence))), np.arange(5), np.full(5, 6, np.int8), ~right & False, right, 6, 1.0)
        for _ in range(8)
    ]
    assert fit(alike).systems(alike[0].evidence, alike[0].system) == pytest.approx([0, 0, 0, 0, 0, 0, 1])
