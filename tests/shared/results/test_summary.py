"""What of a run's results goes where runs are compared."""

from __future__ import annotations

from typing import Any

import pytest

from imitation_refinement.results import summary

NUMBERS = {"accuracy_low": 0.25, "accuracy_high": 0.75, "n_test": 14, "n_train": 0, "labelled": 0, "variant": ""}
NEAREST = {"name": "nearest", "method": "nearest", "classifier": "", "supervision": None, "accuracy": 0.4375, **NUMBERS}
RAW = NEAREST | {"name": "densenet-raw", "method": "raw", "classifier": "densenet", "accuracy": 0.25, "l1": 40.0}
TARGETED = RAW | {
    "name": "densenet-targeted",
    "method": "ir",
    "supervision": "targeted",
    "accuracy": 0.5,
    "n_train": 56,
    "gain": 0.25,
    "gain_low": 0.125,
    "gain_high": 0.375,
    "p_value": 0.01,
    "judge_accuracy": 0.375,
    "judge_gain": 0.1875,
    "calibration_error": 0.0625,
    "l1": 20.0,
    "l2": 2.0,
    "kl": 1.0,
    "ncc": 0.5,
    "peak_precision": 0.9,
    "peak_recall": 0.8,
    "recalls": {"cubic": 0.5, "trigonal": 0.25},
    "reliability": {"n": [1, 2]},
}
CONTROL = TARGETED | {"name": "densenet-targeted-shuffled_labels", "variant": "shuffled_labels", "accuracy": 0.125}
FEW = TARGETED | {"name": "densenet-targeted-labelled_30", "labelled": 30, "accuracy": 0.3}
SIZES = {"sha256": "0123456789abcdef" * 4, "n_train": 56, "n_validation": 14, "n_test": 14, "n_held_out": 0}


@pytest.fixture
def results() -> dict[str, Any]:
    return {
        "profile": "toy",
        "seed": 3,
        "revision": "abc-changed",
        "data": {name: {"source": "built-in", **SIZES} for name in ("structures", "imperfect")},
        "selected": "densenet-targeted",
        "gate": {
            "reasons": [
                {"about": "baseline", "kept": False, "words": "It does not beat it."},
                {"about": "judge", "kept": True, "words": "The judge sees it."},
            ]
        },
        "rows": [NEAREST, RAW, TARGETED, CONTROL, FEW],
    }


def test_headline_is_about_the_selected_model(results: dict[str, Any]) -> None:
    assert summary.headline(results) == {
        "accuracy": 0.5,
        "accuracy_low": 0.25,
        "accuracy_high": 0.75,
        "gain": 0.25,
        "judge_accuracy": 0.375,
        "calibration_error": 0.0625,
        "simple_accuracy": 0.4375,
        "judge_gap": 0.0625,
        "class_recall": 0.25,
        "peak_precision": 0.9,
        "peak_recall": 0.8,
    }


def test_a_run_a_row_with_numbers_and_tags(results: dict[str, Any]) -> None:
    runs = {run.name: run for run in summary.method_runs(results)}
    assert list(runs) == [row["name"] for row in results["rows"]]
    wanted = {"accuracy", "accuracy_low", "accuracy_high", "gain", "judge_accuracy", "calibration_error"}
    wanted |= {"l1", "l2", "kl", "ncc", "peak_precision", "peak_recall"}
    refined = runs["densenet-targeted"]
    assert refined.metrics == {name: TARGETED[name] for name in wanted}
    assert refined.tags == {
        "method": "ir",
        "classifier": "densenet",
        "supervision": "targeted",
        "variant": "plain",
        "profile": "toy",
        "seed": "3",
        "revision": "abc-changed",
        "selected": "true",
    }
    assert refined.params["n_train"] == 56
    assert runs["densenet-targeted-shuffled_labels"].tags["variant"] == "shuffled_labels"
    assert runs["densenet-targeted-labelled_30"].tags["variant"] == "labelled_30"
    nearest = runs["nearest"]
    assert set(nearest.metrics) == {"accuracy", "accuracy_low", "accuracy_high"}
    assert nearest.tags["classifier"] == nearest.tags["supervision"] == "none"
    assert all(value for run in runs.values() for value in run.tags.values())


def test_the_name_says_what_it_was(results: dict[str, Any]) -> None:
    assert summary.title(results) == "DenseNet: IR, targeted 50.0 % · toy, seed 3 · built-in"
    data = {name: {**results["data"][name], "source": f"/data/{name}.parquet"} for name in ("structures", "imperfect")}
    named = summary.title(results | {"data": data, "portable": True})
    assert named.endswith("· toy, seed 3, portable · structures.parquet and imperfect.parquet")


def test_the_note_says_what_on_what_and_what_came_of_it(results: dict[str, Any]) -> None:
    text = summary.note(results)
    assert text.startswith(
        "**DenseNet: IR, targeted** is right on **50.0 %** (25.0–75.0) of 14 imperfect test patterns"
    )
    assert "Against the raw patterns: +25.0 (+12.5 to +37.5) points, p = 0.010." in text
    assert "The best simple method, Nearest neighbour: 43.8 %." in text
    assert "- Structures: built-in (56 train, 14 validation, 14 test; SHA-256 0123456789ab…)" in text
    assert "- Profile toy, seed 3, revision abc-changed" in text
    assert "- ✗ It does not beat it.\n- ✓ The judge sees it.\n" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3 and "| DenseNet: IR, targeted | 50.0 % (25.0–75.0) |" in table[-1]
    assert "[report](artifact:report.html)" in text
