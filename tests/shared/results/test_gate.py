"""What becomes champion and what does not, on answers that can be counted by hand."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.results import gate
from imitation_refinement.results.gate import CHALLENGER, CHAMPION, Answers, Bounds, answers_of, decide
from imitation_refinement.vocabulary import Method

N = 140  # test patterns, twenty of each system
TRUTH = np.repeat(np.arange(7), 20)
IDS = [f"p{i}" for i in range(N)]


def answers(name: str, right: int, test: str = "a") -> Answers:
    """``right`` of each system's twenty are recognised; the others are taken for the next system."""
    predicted = np.where(np.arange(N) % 20 < right, TRUTH, (TRUTH + 1) % 7)
    return Answers(name, IDS, TRUTH, predicted, test)


def row(**changes: Any) -> dict[str, Any]:
    """A refiner's row that keeps all bounds: 14 of 20 recognised, 40 points more than raw."""
    found = {"method": "ir", "classifier": "vgg", "supervision": "targeted", "accuracy": 0.7, "gain": 0.4}
    return found | {"judge_gain": 0.3, "calibration_error": 0.05} | changes


NEAREST = ({"method": "nearest", "classifier": "", "accuracy": 0.4}, answers("nearest", 8))
RAW = ({"method": "raw", "classifier": "vgg", "accuracy": 0.3}, answers("vgg-raw", 6))
CANDIDATE = answers("vgg-targeted", 14)


def decided(candidate: Answers = CANDIDATE, champion: Answers | None = None, **changes: Any) -> gate.Decision:
    return decide(candidate, row(**changes), [RAW, NEAREST], champion, Bounds(), seed=0)


def missed(decision: gate.Decision) -> list[str]:
    return [reason.about for reason in decision.reasons if not reason.kept]


def test_the_first_that_keeps_all_bounds_is_champion() -> None:
    decision = decided()
    assert decision.alias == CHAMPION and missed(decision) == []
    assert [reason.about for reason in decision.reasons] == [
        "baseline",
        "judge",
        "calibration",
        "recalls",
        "champion",
    ]
    assert "the best simple method, Nearest neighbour: +30.0 (" in decision.words
    assert decision.words.endswith("There is no champion yet.")


@pytest.mark.parametrize(
    ("changes", "about", "words"),
    [
        ({"judge_gain": 0.19}, "judge", "sees less than 50 % of it, so it may be painted"),
        ({"judge_gain": None}, "judge", "No independent judge"),
        ({"gain": -0.1, "judge_gain": 0.1}, "judge", "no gain to judge"),
        ({"calibration_error": 0.16}, "calibration", "calibration error 0.16, where 0.15 is the most"),
        ({"calibration_error": None}, "calibration", "no probabilities"),
    ],
)
def test_a_bound_that_is_not_kept(changes: dict[str, Any], about: str, words: str) -> None:
    decision = decided(**changes)
    assert decision.alias == CHALLENGER and missed(decision) == [about]
    assert words in decision.words


def test_bounds_are_kept_at_their_ends() -> None:
    assert decided(judge_gain=0.2, calibration_error=0.15).alias == CHAMPION


def test_the_best_simple_method_must_be_beaten_beyond_the_interval() -> None:
    """Two more right of 140: the paired interval of +1.4 points holds 0, so of one that is worse."""
    close = ({"method": "search", "classifier": "", "accuracy": 0.7}, answers("search", 14))
    predicted = CANDIDATE.predicted.copy()
    predicted[[14, 34]] = TRUTH[[14, 34]]
    decision = decide(replace(CANDIDATE, predicted=predicted), row(), [RAW, close], None, Bounds(), 0)
    assert missed(decision) == ["baseline"]
    assert "does not beat the best simple method, Search-match beyond noise: +1.4 (0.0 to" in decision.words.replace(
        "+0.0", "0.0"
    )
    better = ({"method": "search", "classifier": "", "accuracy": 0.9}, answers("search", 18))
    decision = decide(CANDIDATE, row(), [RAW, better], None, Bounds(), 0)
    assert "does worse than the best simple method, Search-match: −20.0 (" in decision.words
    assert missed(decide(CANDIDATE, row(), [], None, Bounds(), 0)) == ["baseline"]


def test_the_present_champion_must_be_beaten_on_the_same_test_data() -> None:
    assert decided(champion=answers("version 3", 10)).alias == CHAMPION
    tie = decided(champion=answers("version 3", 14))
    assert tie.alias == CHALLENGER and missed(tie) == ["champion"]
    assert "does not beat the champion, version 3 beyond noise: +0.0 (+0.0 to +0.0) points" in tie.words
    other = decided(champion=answers("version 3", 2, test="b"))
    assert missed(other) == ["champion"] and "other test data" in other.words


def test_answers_are_paired_by_their_patterns() -> None:
    """The champion's answers in another order are the same answers; where they are of others, they are none."""
    order = np.random.default_rng(0).permutation(N)
    champion = answers("version 3", 13)
    mixed = replace(
        champion,
        pattern_ids=[IDS[i] for i in order],
        truth=TRUTH[order],
        predicted=champion.predicted[order],
    )
    assert decided(champion=mixed).words == decided(champion=champion).words
    foreign = replace(champion, pattern_ids=[f"q{i}" for i in range(N)])
    assert missed(decided(champion=foreign)) == ["champion"]
    relabelled = replace(champion, truth=(TRUTH + 1) % 7)
    assert missed(decided(champion=relabelled)) == ["champion"]


def test_each_system_must_be_known_better_than_by_guessing() -> None:
    predicted = CANDIDATE.predicted.copy()
    predicted[TRUTH == 2] = 3
    predicted[40:42] = 2  # two of twenty: 10 %, below one in seven
    blind = decided(replace(CANDIDATE, predicted=predicted))
    assert missed(blind) == ["recalls"] and "orthorhombic 10 %, where 14 % is the least" in blind.words
    assert gate.recalls(replace(CANDIDATE, predicted=predicted))["orthorhombic"] == 0.1
    predicted[42] = 2  # 15 %
    assert decided(replace(CANDIDATE, predicted=predicted)).alias == CHAMPION


def test_a_system_that_is_not_tested_is_open() -> None:
    kept = TRUTH != 6

    def part(whole: Answers) -> Answers:
        ids = [name for name, here in zip(IDS, kept, strict=True) if here]
        return Answers(whole.name, ids, TRUTH[kept], whole.predicted[kept], whole.test)

    baselines = [(about, part(found)) for about, found in (RAW, NEAREST)]
    decision = decide(part(CANDIDATE), row(), baselines, None, Bounds(), 0)
    assert missed(decision) == ["recalls"] and "No test pattern is cubic" in decision.words


def test_simple_methods_do_not_know_the_tested_materials() -> None:
    found = [r["method"] for r in gate.simple([{"method": str(method)} for method in Method])]
    assert found == ["majority", "nearest", "search", "standard", "raw", "aligned", "dwt"]


def test_judge_gap() -> None:
    assert gate.judge_gap(row()) == pytest.approx(0.1)
    assert gate.judge_gap(row(judge_gain=None)) is None and gate.judge_gap({"gain": None, "judge_gain": 0.1}) is None


def test_the_digest_of_a_test_part_knows_no_order() -> None:
    rng = np.random.default_rng(0)
    patterns = rng.random((3, 8), dtype=np.float32)
    ids, truth = ["b", "a", "c"], np.array([1, 0, 2])
    sha = hashlib.sha256()
    for i in (1, 0, 2):
        sha.update(f"{ids[i]}\0{truth[i]}\0".encode() + patterns[i].tobytes())
    found = gate.tested_digest(ids, truth, patterns)
    assert found == sha.hexdigest()
    order = [2, 0, 1]
    assert gate.tested_digest([ids[i] for i in order], truth[order], patterns[order]) == found
    assert gate.tested_digest(ids, truth[[1, 0, 2]], patterns) != found
    assert gate.tested_digest(ids, truth, patterns + 1) != found


def test_answers_from_a_table() -> None:
    columns = {"pattern_id": ["1", "2"], "crystal_system": ["cubic", "triclinic"], "predicted": ["cubic", "cubic"]}
    found = answers_of("x", columns, "digest")
    assert found.truth.tolist() == [6, 0] and found.predicted.tolist() == [6, 6] and found.pattern_ids == ["1", "2"]
    with pytest.raises(InputError, match="unknown crystal_system 'round'"):
        answers_of("x", columns | {"predicted": ["cubic", "round"]}, "digest")
