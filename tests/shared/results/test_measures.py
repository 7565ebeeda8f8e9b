"""What smells is said, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from imitation_refinement.results.measures import (
    FINE,
    LOOK,
    WARNING,
    Finding,
    effective_classes,
    findings,
    measured,
    measures_table,
)
from imitation_refinement.vocabulary import Measure

Row = dict[str, Any]
TRUTH = {"cubic": 20, "trigonal": 20, "triclinic": 20}
GAIN = {"gain": 0.1, "gain_low": 0.04, "gain_high": 0.16, "p_value": 0.002}
JUDGED = {"judge": "vgg-standard", "judge_accuracy": 0.7, "judge_accuracy_raw": 0.6}
SEEN = {"judge_gain": 0.1, "judge_gain_low": 0.03, "judge_gain_high": 0.17, "judge_p_value": 0.01}
UNSEEN = {"judge_gain": 0.01, "judge_gain_low": -0.06, "judge_gain_high": 0.08, "judge_p_value": 0.9}
LOST = {"judge_gain": -0.1, "judge_gain_low": -0.17, "judge_gain_high": -0.03, "judge_p_value": 0.01}
CLEAN = {
    **dict.fromkeys(("peak_precision", "peak_precision_raw", "peak_recall", "peak_recall_raw"), 0.9),
    **dict.fromkeys(("invented", "invented_raw", "lost", "lost_raw"), 1.0),
    **{"narrow_share": 0.01, "narrow_share_raw": 0.01, "identity_l1": 0.5, "identity_ncc": 0.99},
    **{"ideal_accuracy": 0.95, "ideal_accuracy_refined": 0.95, "noise_entropy": 0.9, "noise_entropy_raw": 0.9},
    **{"hump_entropy": 0.9, "hump_entropy_raw": 0.9, "predicted_counts": TRUTH},
}
BASE = {"name": "densenet-targeted", "method": "ir", "classifier": "densenet", "supervision": "targeted", "variant": ""}
HONEST = {**BASE, **GAIN, **JUDGED, **SEEN, **CLEAN}
CONTROL = HONEST | {"name": "c", "variant": "shuffled_labels"}


def of(rows: list[Row], subject: str) -> Finding:
    (found,) = [finding for finding in findings(rows, TRUTH) if subject in finding.subject]
    return found


def test_an_honest_refiner_has_one_line() -> None:
    found = of([HONEST], "DenseNet: IR, targeted")
    assert found.tone == FINE
    assert [text for _, text in found.lines] == [
        "The judge (vgg-standard) sees the gain, too: +10.0 (+3.0 to +17.0) points, p = 0.010."
    ]


@pytest.mark.parametrize(
    ("changed", "tone", "text"),
    [
        (UNSEEN, WARNING, "Its own classifier sees a gain, +10.0 (+4.0 to +16.0) points, p = 0.002; the judge"),
        (LOST, WARNING, "recognises the patterns less often than raw ones: −10.0"),
        (UNSEEN | {"p_value": 0.3}, LOOK, "sees no gain beyond noise, nor does its own classifier"),
        ({"p_value": 0.3}, FINE, "sees a gain that its own classifier does not"),
        ({"judge_accuracy": None}, LOOK, "No independent judge was given"),
        ({"peak_precision": 0.8, "invented": 3.2}, WARNING, "90 → 80 %: it shows more peaks that theory does not have"),
        ({"peak_precision": 0.8, "invented": 3.2}, WARNING, "(1.0 → 3.2 invented a pattern)"),
        ({"peak_recall": 0.8}, WARNING, "Peak recall fell, 90 → 80 %: it loses peaks"),
        ({"narrow_share": 0.2}, WARNING, "narrower than the instrument allows became more: 1 → 20 %"),
        ({"ideal_accuracy_refined": 0.9}, WARNING, "Ideal patterns are recognised less often after refinement: 95.0 →"),
        ({"identity_ncc": 0.8}, WARNING, "NCC of R(x) and x 0.80"),
        ({"noise_entropy": 0.6}, WARNING, "surer of pure noise: entropy 0.90 → 0.60"),
        ({"hump_entropy": 0.2, "hump_entropy_raw": 0.2}, LOOK, "sure of amorphous humps, as it was before"),
        ({"predicted_counts": {"cubic": 60}}, WARNING, "60 of 60 patterns are called cubic, where 20 are"),
    ],
)
def test_what_smells(changed: Row, tone: str, text: str) -> None:
    found = of([HONEST | changed], "DenseNet: IR, targeted")
    assert found.tone == tone
    assert any(text in line for _, line in found.lines), found.lines


def test_small_changes_do_not_smell() -> None:
    changed = {"peak_precision": 0.89, "noise_entropy": 0.86, "ideal_accuracy_refined": 0.94, "identity_ncc": 0.96}
    assert of([HONEST | changed], "DenseNet: IR, targeted").tone == FINE


@pytest.mark.parametrize(
    ("changed", "tone", "text"),
    [
        ({}, WARNING, "it still gains: +10.0 (+4.0 to +16.0) points, p = 0.002"),
        ({"p_value": 0.3}, FINE, "gains nothing beyond noise"),
        ({"gain": -0.1, "gain_low": -0.2, "gain_high": -0.01}, FINE, "it loses: −10.0"),
        ({"gain": None}, LOOK, "no raw row"),
    ],
)
def test_the_control_must_not_gain(changed: Row, tone: str, text: str) -> None:
    found = of([CONTROL | changed], "Control")
    assert found.tone == tone and text in found.lines[0][1]


def test_without_a_control_that_is_said() -> None:
    assert of([HONEST], "Control").tone == LOOK
    assert len(findings([HONEST, CONTROL], TRUTH)) == 2


def test_other_methods_are_named_where_they_collapse() -> None:
    adda = {"name": "adda", "method": "adda", "classifier": "vgg", "predicted_counts": {"cubic": 58, "trigonal": 2}}
    fine = adda | {"name": "raw", "method": "raw", "predicted_counts": TRUTH}
    ((_, line),) = of([HONEST, adda, fine], "Other methods").lines
    assert line.startswith("VGG: ADDA: 58 of 60 patterns are called cubic")
    majority = {"name": "majority", "method": "majority", "classifier": "", "predicted_counts": {"cubic": 60}}
    assert len(findings([HONEST, fine, majority], TRUTH)) == 2  # the majority class is meant to be one


def test_gta_is_judged_by_its_patterns() -> None:
    gta = {**HONEST, **UNSEEN, "name": "g", "method": "gta", "supervision": None}
    found = of([gta | {"noise_entropy": None, "hump_entropy": None}], "DenseNet: GTA")
    assert found.tone == LOOK and "generated patterns no more often" in found.lines[0][1]


def test_measures_before_and_after() -> None:
    rows = [CONTROL, HONEST, HONEST | {"method": "gta", "noise_entropy": None}, {"method": "raw", "classifier": "vgg"}]
    assert [row["method"] for row in measured(rows)] == ["ir", "gta", "ir"] and measured(rows)[2] is rows[0]
    table = measures_table(rows, explained=False)
    assert table.columns == ("DenseNet", "IR, targeted", "GTA, targeted", "IR, targeted, shuffled labels")
    lines = {label: cells for label, *cells in table.rows}
    assert lines["Accuracy under the judge"] == ["60.0 → 70.0 %"] * 3
    assert lines["R(x) against ideal x, NCC"] == ["0.99"] * 3
    assert lines["Entropy on pure noise"] == ["0.90 → 0.90", "–", "0.90 → 0.90"]
    assert set(lines) == {measure.label for measure in Measure if measure.meaning}
    explained = [label.split("\n") for label, *_ in measures_table(rows).rows]
    assert explained == [[measure.label, measure.meaning] for measure in Measure if measure.meaning]


def test_effective_number_of_classes() -> None:
    assert effective_classes({"a": 3, "b": 3, "c": 0}) == pytest.approx(2)
    assert effective_classes({"a": 9}) == 1 and effective_classes({}) == 0
    shares = np.array([0.2, 0.8])
    assert effective_classes({"a": 2, "b": 8}) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
