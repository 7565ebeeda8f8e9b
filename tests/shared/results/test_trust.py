"""How far a refiner is to be believed is said in words that follow from the numbers."""

from __future__ import annotations

from typing import Any

import pytest

from imitation_refinement.results.measures import FINE, LOOK, WARNING
from imitation_refinement.results.trust import cautions, headline, tone_of

Row = dict[str, Any]
SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")


def compare(gain: str, p: str, by: float, half: float, value: float) -> Row:
    return {gain: by, f"{gain}_low": by - half, f"{gain}_high": by + half, p: value}


GOOD = {
    "name": "vgg-targeted",
    "method": "ir",
    "classifier": "vgg",
    "supervision": "targeted",
    "accuracy": 0.7,
    "accuracy_low": 0.66,
    "accuracy_high": 0.74,
    "n_test": 700,
    "best_baseline": "nearest",
    "judge_accuracy": 0.6,
    "recalls": dict.fromkeys(SYSTEMS, 0.7) | {"cubic": 0.61},
    "calibration_error": 0.04,
    "reliability": {"n": [700], "confidence": [0.74], "accuracy": [0.7]},
    "predicted_counts": dict.fromkeys(SYSTEMS, 100),
    **compare("gain", "p_value", 0.2, 0.05, 1e-6),
    **compare("gain_over_baseline", "p_baseline", 0.1, 0.05, 1e-3),
    **compare("judge_gain", "judge_p_value", 0.15, 0.05, 1e-4),
    **{f"peak_{what}{when}": 0.9 for what in ("precision", "recall") for when in ("", "_raw")},
}
CONTROL = GOOD | {"name": "c", "variant": "shuffled_labels", **compare("gain", "p_value", 0.0, 0.05, 1.0)}
NEAREST = {"name": "nearest", "method": "nearest", "accuracy": 0.6}
NAMES = {"vgg-targeted": "VGG: IR, targeted", "nearest": "Nearest neighbour"}


def results(row: Row, **more: Any) -> dict[str, Any]:
    counts = dict.fromkeys(SYSTEMS, 100)
    return {"selected": row["name"], "rows": [NEAREST, row, CONTROL], "true_counts": counts, **more}


def test_nothing_warns_where_all_is_well() -> None:
    lines = cautions(results(GOOD))
    assert {tone for tone, _ in lines} == {FINE} and tone_of(GOOD, lines) == FINE
    text = " ".join(line for _, line in lines)
    for piece in ("recognises the refined patterns more often", "off by 4 points", "cubic most seldom, 61 %"):
        assert piece in text
    assert "in random order gains nothing: +0.0" in text and "No tested material was learnt from" in text


@pytest.mark.parametrize(
    ("fields", "tone", "said"),
    [
        ({"judge_gain": None, "judge_accuracy": None}, LOOK, "No second network was asked"),
        (compare("judge_gain", "judge_p_value", 0.01, 0.05, 0.8), WARNING, "may paint what its own network likes"),
        (compare("judge_gain", "judge_p_value", -0.1, 0.05, 0.001), WARNING, "less often than the measured ones"),
        ({"calibration_error": 0.3}, WARNING, "off by 30 points on average; mostly it is too sure of itself"),
        (
            {"calibration_error": 0.3, "reliability": {"n": [700], "confidence": [0.4], "accuracy": [0.7]}},
            WARNING,
            "mostly it is not sure enough of itself",
        ),
        ({"calibration_error": None}, LOOK, "gives no probabilities"),
        ({"recalls": GOOD["recalls"] | {"cubic": 0.02}}, WARNING, "Hardly ever recognised: cubic (2 of 100)."),
        ({"peak_recall": 0.8, "lost": 2.0, "lost_raw": 1.0}, WARNING, "it loses peaks that theory has"),
        ({"peak_precision": None}, LOOK, "no tested pattern has a known structure"),
        ({"n_test": 99}, WARNING, "Only 99 patterns were tested, each worth 1.0 points"),
        ({"n_test": 100}, LOOK, "may be anywhere within 66.0–74.0 %"),
        ({"n_test": 399}, LOOK, "399 patterns were tested, each worth 0.3 points"),
        ({"predicted_counts": {"cubic": 700}}, WARNING, "collapsed"),
    ],
)
def test_what_speaks_against_it(fields: Row, tone: str, said: str) -> None:
    row = GOOD | fields
    lines = cautions(results(row))
    (found,) = [line for line in lines if said in line[1]]
    assert found[0] == tone
    assert lines[0][0] == (tone if tone != FINE else FINE)  # the worst comes first
    assert tone_of(row, lines) == (LOOK if tone == WARNING else FINE)


def test_the_gates_own_bound_of_the_calibration_counts() -> None:
    reasons = [{"about": "calibration", "kept": False, "words": ""}]
    assert (WARNING, "don’t mean") in [
        (tone, "don’t mean")
        for tone, line in cautions(results(GOOD, gate={"reasons": reasons}))
        if "don’t mean" in line
    ]


def test_patterns_of_a_virtual_diffractometer_are_told() -> None:
    virtual = {"imperfect": {"source": "built-in"}}
    assert any("virtual diffractometer" in line for _, line in cautions(results(GOOD, data=virtual)))
    measured = {"imperfect": {"source": "built-in", "test": "rruff"}}
    assert not any("virtual diffractometer" in line for _, line in cautions(results(GOOD, data=measured)))


def test_no_control_and_one_that_gains() -> None:
    alone = {"selected": "vgg-targeted", "rows": [GOOD]}
    assert any("No refiner was trained on shuffled labels" in line for _, line in cautions(alone))
    gains = CONTROL | compare("gain", "p_value", 0.1, 0.05, 0.001)
    lines = cautions({"selected": "vgg-targeted", "rows": [GOOD, gains]})
    assert lines[0][0] == WARNING and "in random order gains, too: +10.0" in lines[0][1]
    assert cautions({"rows": [GOOD]}) == []


@pytest.mark.parametrize(
    ("fields", "tone", "said"),
    [
        ({}, FINE, "names the crystal system of 70.0 % of the test patterns: more than any method without refinement"),
        (
            compare("gain_over_baseline", "p_baseline", 0.1, 0.2, 0.3),
            LOOK,
            "names 60.0 %; the difference may be chance",
        ),
        (compare("gain_over_baseline", "p_baseline", -0.1, 0.05, 0.001), WARNING, "not worth its while"),
        ({"accuracy": 0.6, **compare("gain_over_baseline", "p_baseline", 0.0, 0.1, 1.0)}, LOOK, "So does Nearest"),
        ({"best_baseline": None}, FINE, "No method without refinement was tested beside it."),
    ],
)
def test_headline(fields: Row, tone: str, said: str) -> None:
    row = GOOD | fields
    assert said in headline(results(row), NAMES)
    assert tone_of(row, cautions(results(row))) == tone


def test_green_needs_more_than_raw() -> None:
    """What beats the raw patterns alone is not green."""
    row = GOOD | compare("gain_over_baseline", "p_baseline", 0.01, 0.05, 0.9)
    assert tone_of(row, []) == LOOK
    assert headline({"rows": [GOOD]}, NAMES) == "This run has selected no refiner."
