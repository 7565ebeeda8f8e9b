"""Evaluate: every method on the imperfect test part, beside theory; tables, figures, report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.evaluate.config import EvaluateConfig
from components.evaluate.embedding import embedding_panels
from components.evaluate.report import format_table, write_report
from imitation_refinement import figures, metrics
from imitation_refinement.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.datasets import Dataset, read_ideal, read_imperfect
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest, write_text
from imitation_refinement.models import apply, load_classifier, load_refiner, probabilities
from imitation_refinement.networks import Classifier, Refiner
from imitation_refinement.progress import progress, say
from imitation_refinement.stage import Stage
from imitation_refinement.tracking import Tracker

REGISTERED_MODEL = "imitation-refinement"


@dataclass(frozen=True)
class Method:
    """A row of the results: patterns as a method leaves them, and the classifier that reads them.

    Attributes:
        method: ``raw``, ``dwt``, ``ir``, …
        classifier: the classifier's architecture.
        supervision: ``targeted``, ``non_targeted`` or None.
        n_train: imperfect patterns that it learned from.
        patterns: intensities of the test part, shape (n, points).
        probabilities: of the test part, shape (n, 7).
        validation_accuracy: on the validation part, NaN without one.
    """

    method: str
    classifier: str
    supervision: str | None
    n_train: int
    patterns: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    validation_accuracy: float

    @property
    def name(self) -> str:
        """``vgg-raw``, ``densenet-targeted``, …"""
        return f"{self.classifier}-{self.supervision or self.method}"


def run(paths: dict[str, Any], config: EvaluateConfig, tracker: Tracker) -> None:
    """Runs the stage; see :data:`STAGE` for the files."""
    classifiers = {digest(path): load_classifier(path) for path in paths["classifiers"]}
    grid = next(iter(classifiers.values()))[1]
    data = read_imperfect(paths["imperfect_dataset"], grid)
    test, validation = data.select("test"), data.select("validation")
    if not len(test.rows):
        raise InputError(paths["imperfect_dataset"], "has no test pattern.", "Give labelled patterns to test on.")
    denoised = read_imperfect(paths["dwt"], grid)
    if not denoised.rows["pattern_id"].equals(data.rows["pattern_id"]):
        raise InputError(paths["dwt"], "holds other patterns than the imperfect dataset.", "Run baselines again.")
    ideal = read_ideal(paths["ideal_dataset"])

    methods: list[Method] = []
    networks: dict[str, tuple[Classifier, Refiner | None]] = {}
    histories: dict[str, Any] = {}
    for classifier, _, about in classifiers.values():
        histories[classifier.config.architecture] = about["history"]
        for name, of in (("raw", data), ("dwt", denoised)):
            method = _method(name, None, 0, classifier, of.select("test"), of.select("validation"))
            methods.append(method)
            networks[method.name] = (classifier, None)
    for path in progress(paths["refiners"], "evaluate", unit="refiners"):
        refiner, _, about = load_refiner(path)
        if about["classifier_sha256"] not in classifiers:
            raise InputError(path, "was trained through another classifier.", "Give that classifier, too.")
        classifier = classifiers[str(about["classifier_sha256"])][0]
        refined = [
            Dataset(part.rows, grid, apply(refiner, part.intensity), part.theory, part.labels)
            for part in (test, validation)
        ]
        method = _method("ir", str(about["supervision"]), int(str(about["n_train"])), classifier, *refined)
        methods.append(method)
        networks[method.name] = (classifier, refiner)
        histories[method.name] = about["history"]
    methods.sort(key=lambda m: (m.classifier, ("raw", "dwt").index(m.method) if m.supervision is None else 9))

    rows = [_row(method, methods, test, config) for method in methods]
    results = {
        "profile": config.profile,
        "seed": config.seed,
        "data": _data_record(paths, config, ideal, data),
        "selected": _selected(methods),
        "ideal_accuracy": {c.config.architecture: _ideal_accuracy(c, ideal) for c, _, _ in classifiers.values()},
        "rows": rows,
    }
    drawn = _figures(methods, networks, test, ideal, rows, config)
    for name, history in histories.items():
        drawn[f"training-{name}"] = figures.training_curves_figure(history, name)
    folder = Path(paths["figures"])
    folder.mkdir(parents=True, exist_ok=True)
    saved = {name: folder / f"{name}.png" for name in drawn}
    for name, figure in drawn.items():
        figures.save_figure(figure, saved[name])
    tracker.log_artifact(folder, "figures")
    write_text(paths["results"], json.dumps(results, indent=2, allow_nan=False) + "\n")
    table = format_table(rows)
    write_text(paths["table"], table + "\n")
    write_text(paths["predictions"], _predictions(methods, test).to_csv(index=False))
    write_report(
        paths["report"], results, saved, {f"{name}, model": f"models/{name}.safetensors" for name in histories}
    )
    _register(methods, rows, networks, test, tracker)
    for name in ("results", "report", "predictions"):
        tracker.log_artifact(paths[name])
    for row, method in zip(rows, methods, strict=True):
        numbers = {k: v for k, v in row.items() if isinstance(v, float)}
        tracker.log_metrics({f"{method.name}.{k}": v for k, v in numbers.items()})
    say(table)


def _method(
    method: str, supervision: str | None, n_train: int, classifier: Classifier, test: Dataset, validation: Dataset
) -> Method:
    accuracy = float("nan")
    if len(validation.labels):
        predicted = probabilities(classifier, validation.intensity).argmax(1)
        accuracy = metrics.accuracy(validation.labels, predicted)
    told = probabilities(classifier, test.intensity)
    return Method(method, classifier.config.architecture, supervision, n_train, test.intensity, told, accuracy)


def _row(method: Method, methods: list[Method], test: Dataset, config: EvaluateConfig) -> dict[str, Any]:
    """One row of ``results.json``; what is no raw pattern is also compared with the raw ones, pattern by pattern."""
    raw = next(m for m in methods if m.method == "raw" and m.classifier == method.classifier)
    correct, correct_raw = (m.probabilities.argmax(1) == test.labels for m in (method, raw))
    low, high = metrics.bootstrap_interval(correct, config.seed, n_resamples=config.resamples)
    row: dict[str, Any] = {
        "method": method.method,
        "classifier": method.classifier,
        "supervision": method.supervision,
        "n_train": method.n_train,
        "n_test": len(correct),
        "accuracy": float(correct.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
    }
    row |= metrics.median_distances(method.patterns, _theory(test))
    row["n_theory"] = int(np.isfinite(_theory(test)[:, 0]).sum())
    if method is not raw:
        row |= metrics.compare(correct, correct_raw, config.seed)
    row["calibration_error"] = metrics.expected_calibration_error(method.probabilities, test.labels)
    row["validation_accuracy"] = None if np.isnan(method.validation_accuracy) else method.validation_accuracy
    return row


def _theory(data: Dataset) -> NDArray[np.float32]:
    assert data.theory is not None, "an imperfect dataset has a theory column"
    return data.theory


def _selected(methods: list[Method]) -> str:
    """The refiner that ``refine`` uses: the best on the validation part, never by the test part."""
    refiners = [m for m in methods if m.method == "ir"]
    return max(refiners, key=lambda m: -1.0 if np.isnan(m.validation_accuracy) else m.validation_accuracy).name


def _register(
    methods: list[Method],
    rows: list[dict[str, Any]],
    networks: Mapping[str, tuple[Classifier, Refiner | None]],
    test: Dataset,
    tracker: Tracker,
) -> None:
    """Registers the selected refiner in MLflow if it beats raw beyond noise; else a tag says why not."""
    name = _selected(methods)
    row = rows[[m.name for m in methods].index(name)]
    gain = f"{name} gains {row['gain']:+.1%} over raw ({row['gain_low']:+.1%} to {row['gain_high']:+.1%})"
    refiner = networks[name][1]
    if row["gain_low"] > 0 and refiner is not None:
        tracker.log_model(refiner, "selected", test.intensity[:2], REGISTERED_MODEL)
        tracker.set_tag("registration", f"registered: {gain}")
    else:
        tracker.set_tag("registration", f"refused: {gain}, which may be noise")


def _ideal_accuracy(classifier: Classifier, ideal: Dataset) -> float | None:
    """Accuracy on the ideal test part: how good the classifier is where nothing is flawed."""
    patterns, labels = ideal.part("test")
    return metrics.accuracy(labels, probabilities(classifier, patterns).argmax(1)) if len(labels) else None


def _data_record(paths: Mapping[str, Any], config: EvaluateConfig, ideal: Dataset, data: Dataset) -> dict[str, Any]:
    record = {}
    for name, source, path, dataset in (
        ("structures", config.structures, paths["ideal_dataset"], ideal),
        ("imperfect", config.imperfect, paths["imperfect_dataset"], data),
    ):
        counts = dataset.rows["split"].value_counts()
        record[name] = {"source": source, "sha256": digest(path)} | {
            f"n_{split}": int(counts.get(split, 0)) for split in ("train", "validation", "test", "held_out")
        }
    return record


def _predictions(methods: list[Method], test: Dataset) -> pd.DataFrame:
    """Every test pattern's answer by every method, with the probabilities of the seven systems."""
    parts = []
    for method in methods:
        part = pd.DataFrame(method.probabilities, columns=[str(s) for s in CRYSTAL_SYSTEMS]).round(6)
        part.insert(0, "predicted", [str(CRYSTAL_SYSTEMS[i]) for i in method.probabilities.argmax(1)])
        part.insert(0, "crystal_system", test.rows["crystal_system"])
        part.insert(0, "pattern_id", test.rows["pattern_id"])
        part.insert(0, "method", method.name)
        parts.append(part)
    return pd.concat(parts)


def _figures(
    methods: list[Method],
    networks: dict[str, tuple[Classifier, Refiner | None]],
    test: Dataset,
    ideal: Dataset,
    rows: list[dict[str, Any]],
    config: EvaluateConfig,
) -> dict[str, Any]:
    """The report's figures by name."""
    selected = next(m for m in methods if m.name == _selected(methods))
    drawn = {"accuracy": figures.accuracy_figure(rows)}
    drawn["patterns"] = figures.patterns_figure(
        [
            figures.PatternPlot(
                test.grid.two_theta,
                test.intensity[i],
                selected.patterns[i],
                None if np.isnan(_theory(test)[i, 0]) else _theory(test)[i],
                test.rows["theory_two_theta"][i],
                f"{test.rows['formula'][i]}, {test.rows['crystal_system'][i]}",
                test.grid.wavelength,
            )
            for i in _examples(selected, test, config.examples)
        ]
    )
    for method in methods:
        if method.method in ("raw", "ir"):
            matrix = metrics.confusion(test.labels, method.probabilities.argmax(1))
            drawn[f"confusion-{method.name}"] = figures.confusion_figure(matrix, _title(method))
    classifier, refiner = networks[selected.name]
    assert refiner is not None, "the selected method is a refiner"
    panels, prototypes = embedding_panels(
        classifier,
        {
            "ideal": ideal.part("test"),
            "raw": (test.intensity, test.labels),
            "refined": (selected.patterns, test.labels),
        },
        config.embedded,
        config.seed,
    )
    drawn["embedding"] = figures.embedding_figure(panels, prototypes)
    return drawn


def _title(method: Method) -> str:
    row = {"classifier": method.classifier, "method": method.method, "supervision": method.supervision}
    return f"{figures.classifier_label(row)}: {figures.method_label(row)}"


def _examples(method: Method, test: Dataset, count: int) -> list[int]:
    """Which patterns are drawn, by a rule and not by looks: at even ranks of ℓ2 to theory after refinement."""
    known = np.flatnonzero(np.isfinite(_theory(test)[:, 0]))
    if not len(known):
        return list(range(min(count, len(test.rows))))
    order = known[np.argsort(metrics.l2(method.patterns[known], _theory(test)[known]), kind="stable")]
    return [int(i) for i in order[np.unique(np.linspace(0, len(order) - 1, count + 2).astype(int)[1:-1])]]


STAGE = Stage(
    name="evaluate",
    summary="Measures every method on the imperfect test part: accuracy, distance to theory, figures, report.",
    inputs={
        "classifiers": "classifiers with their prototypes (safetensors)",
        "refiners": "refiners trained through them (safetensors)",
        "ideal_dataset": "gridded ideal patterns with their splits (Parquet)",
        "imperfect_dataset": "gridded imperfect patterns with their splits and theory (Parquet)",
        "dwt": "the imperfect patterns, denoised by the baselines stage (Parquet)",
    },
    outputs={
        "results": "results (JSON)",
        "table": "the results' table (text)",
        "report": "report that stands alone (HTML)",
        "figures": "folder of figures (PNG)",
        "predictions": "every test pattern's answer by every method (CSV)",
    },
    config=EvaluateConfig,
    run=run,
    lists=frozenset({"classifiers", "refiners"}),
)
