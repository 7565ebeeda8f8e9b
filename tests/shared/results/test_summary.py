"""What of a run's results goes where runs are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imitation_refinement.results import summary


@pytest.fixture
def results(toy_run: Path) -> dict[str, Any]:
    return json.loads((toy_run / "results.json").read_text())


def test_headline_is_about_the_selected_model(results: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in results["rows"]}
    row, found = rows[results["selected"]], summary.headline(results)
    assert 8 <= len(found) <= 11
    for name in ("accuracy", "accuracy_low", "accuracy_high", "gain", "judge_accuracy", "calibration_error"):
        assert found[name] == row[name]
    assert found["judge_gap"] == pytest.approx(row["gain"] - row["judge_gain"])
    assert found["simple_accuracy"] == 1.0  # the nearest ideal neighbour knows all toys
    assert found["class_recall"] == min(row["recalls"].values())


def test_a_run_a_row_with_numbers_and_tags(results: dict[str, Any]) -> None:
    runs = {run.name: run for run in summary.method_runs(results | {"revision": "abc-changed"})}
    assert list(runs) == [row["name"] for row in results["rows"]]
    wanted = {"accuracy", "accuracy_low", "accuracy_high", "gain", "judge_accuracy", "calibration_error"}
    wanted |= {"l1", "l2", "kl", "ncc", "peak_precision", "peak_recall"}
    rows = {row["name"]: row for row in results["rows"]}
    refined = runs["densenet-targeted"]
    assert set(refined.metrics) == wanted
    assert all(refined.metrics[name] == rows["densenet-targeted"][name] for name in wanted)
    tags = {"method": "ir", "classifier": "densenet", "supervision": "targeted", "variant": "plain"}
    tags |= {"profile": "toy", "seed": "3", "revision": "abc-changed"}
    assert tags.items() <= refined.tags.items()
    assert runs["densenet-targeted-shuffled_labels"].tags["variant"] == "shuffled_labels"
    nearest = runs["nearest"]
    assert set(nearest.metrics) == {"accuracy", "accuracy_low", "accuracy_high"}
    assert nearest.tags["classifier"] == nearest.tags["supervision"] == "none"
    assert [name for name, run in runs.items() if run.tags["selected"] == "true"] == [results["selected"]]
    assert all(value for run in runs.values() for value in run.tags.values())


def test_few_labels_are_a_variant(results: dict[str, Any]) -> None:
    row = next(row for row in results["rows"] if row["method"] == "ir")
    (run,) = summary.method_runs(results | {"rows": [row | {"labelled": 30, "variant": ""}]})
    assert run.tags["variant"] == "labelled_30"


def test_the_name_says_what_it_was(results: dict[str, Any]) -> None:
    row = summary.selected_row(results)
    label = {"vgg": "VGG", "densenet": "DenseNet"}[row["classifier"]] + ": IR, " + row["supervision"].replace("_", "-")
    assert summary.title(results) == f"{label} {100 * row['accuracy']:.1f} % · toy, seed 3 · built-in"
    data = {name: {**results["data"][name], "source": f"/data/{name}.parquet"} for name in ("structures", "imperfect")}
    named = summary.title(results | {"data": data, "portable": True})
    assert named.endswith("· toy, seed 3, portable · structures.parquet and imperfect.parquet")


def test_the_note_says_what_on_what_and_what_came_of_it(results: dict[str, Any]) -> None:
    text = summary.note(results | {"revision": "abc"})
    row = summary.selected_row(results)
    assert f"**{100 * row['accuracy']:.1f} %**" in text and "of 14 imperfect test patterns" in text
    assert "- Structures: built-in (56 train, 14 validation, 14 test; SHA-256 " in text
    assert "- Profile toy, seed 3, revision abc" in text
    for reason in results["gate"]["reasons"]:
        assert f"- {'✓' if reason['kept'] else '✗'} {reason['words']}" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 12  # heads, and all rows but the control
    assert "[report](artifact:report.html)" in text
