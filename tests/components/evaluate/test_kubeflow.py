"""What Kubeflow Pipelines compares runs by is what the results say, and nothing that ends a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kfp import dsl

from components.evaluate import kubeflow
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for part in value.values() for n in numbers(part)]
    if isinstance(value, list):
        return [n for part in value for n in numbers(part)]
    return [value] if isinstance(value, int | float) else []


def test_numbers_curve_matrix_and_note(toy_run: Path, tmp_path: Path) -> None:
    metrics, classification = dsl.Metrics(), dsl.ClassificationMetrics()
    kubeflow.show(toy_run / "results.json", toy_run / "predictions.csv", metrics, classification, tmp_path / "note")
    results = json.loads((toy_run / "results.json").read_text())
    row = next(row for row in results["rows"] if row["name"] == results["selected"])
    assert metrics.metadata["accuracy"] == row["accuracy"] and metrics.metadata["gain"] == row["gain"]
    assert all(map(math.isfinite, numbers({**metrics.metadata, **classification.metadata})))
    json.dumps([metrics.metadata, classification.metadata], allow_nan=False)

    answers = pd.read_csv(toy_run / "predictions.csv").query("method == @row['name']")
    matrix = classification.metadata["confusionMatrix"]
    names = [spec["displayName"] for spec in matrix["annotationSpecs"]]
    found = pd.crosstab(answers["crystal_system"], answers["predicted"])
    for i, line in enumerate(matrix["rows"] if "rows" in matrix else matrix["row"]):
        for j, count in enumerate(line["row"]):
            there = names[i] in found.index and names[j] in found.columns
            assert count == (found.loc[names[i], names[j]] if there else 0)

    points = classification.metadata["confidenceMetrics"]
    assert 2 < len(points) <= kubeflow.MAX_POINTS
    told = answers[[str(system) for system in CRYSTAL_SYSTEMS]].to_numpy()
    true = answers["crystal_system"].to_numpy()[:, None] == np.array([str(system) for system in CRYSTAL_SYSTEMS])
    for point in points[1:-1]:
        over = told >= point["confidenceThreshold"]
        assert point["recall"] == pytest.approx(over[true].mean())
        assert point["falsePositiveRate"] == pytest.approx(over[~true].mean())
    assert points[0]["confidenceThreshold"] <= 1 and points[0]["recall"] == 0

    text = (tmp_path / "note").read_text()
    assert text.startswith("# ") and "right on" in text and "artifact:" not in text
