"""What Kubeflow Pipelines shows of a run, and compares it with others by: numbers, curve, confusion matrix, note."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, roc_curve

from imitation_refinement.files import write_text
from imitation_refinement.results import summary
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

MAX_POINTS = 100  # of a curve: all of it stands in the artifact's metadata


def show(results: str | Path, predictions: str | Path, metrics: Any, classification: Any, note: str | Path) -> None:
    """Fills the artifacts that the pages of Kubeflow Pipelines draw, all of the selected refiner.

    Args:
        results: the stage's ``results.json``.
        predictions: its ``predictions.csv``.
        metrics: a ``dsl.Metrics``: :func:`~imitation_refinement.results.summary.headline`.
        classification: a ``dsl.ClassificationMetrics``: the confusion matrix, and the receiver operating
            characteristic of all its probabilities, each pattern's seven being seven answers to "is it this one?".
        note: the file of a ``dsl.Markdown``: what the run was and what came of it.
    """
    known = json.loads(Path(results).read_text(encoding="utf-8"))
    answers = pd.read_csv(predictions)
    answers = answers[answers["method"] == known["selected"]]
    for name, value in summary.headline(known).items():
        metrics.log_metric(name, value)
    systems = [str(system) for system in CRYSTAL_SYSTEMS]
    counts = confusion_matrix(answers["crystal_system"], answers["predicted"], labels=systems)
    classification.log_confusion_matrix(systems, counts.tolist())
    classification.log_roc_curve(*_curve(answers, systems))
    write_text(note, f"# {summary.title(known)}\n\n{summary.note(known, links=False)}")


def _curve(answers: pd.DataFrame, systems: Sequence[str]) -> tuple[list[float], list[float], list[float]]:
    """False and true positive rates and thresholds, none of them infinite: no run ends by its own curve."""
    true = answers["crystal_system"].to_numpy()[:, None] == np.array(systems)
    false_rate, true_rate, threshold = roc_curve(true.ravel(), answers[list(systems)].to_numpy().ravel())
    kept = np.unique(np.linspace(0, len(threshold) - 1, MAX_POINTS).round().astype(int))
    threshold = np.minimum(threshold, 1.0)  # the first is infinite: no answer is as sure
    return false_rate[kept].tolist(), true_rate[kept].tolist(), threshold[kept].tolist()
