"""Evaluate: every method on the imperfect test part, beside theory; tables, figures, report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.evaluate.config import EvaluateConfig
from components.evaluate.drawings import draw, label, model_name
from components.evaluate.methods import Entry, Parts, read_methods
from components.evaluate.report import format_table, write_report
from components.evaluate.rows import counts, judge, predictions, result_rows
from imitation_refinement.data.contracts import as_csv, read_grid, read_remarked
from imitation_refinement.data.datasets import Dataset, sample_ideal, split_counts
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest, write_text
from imitation_refinement.learning.models import probabilities, use_device
from imitation_refinement.progress import say
from imitation_refinement.results import figures, metrics
from imitation_refinement.results.wording import points, points_interval
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.vocabulary import Method

REGISTERED_MODEL = "imitation-refinement"


def run(paths: dict[str, Any], config: EvaluateConfig, tracker: Tracker) -> str:
    """Runs the stage; see :data:`STAGE` for the files."""
    methods, parts = read_methods(paths, use_device(config.device))
    selected = _selected(methods, paths["refiners"][0])
    read_grid(paths["ideal_dataset"], parts.data.grid)
    ideal = sample_ideal(paths["ideal_dataset"], "test", config.ideal_patterns, config.seed)
    rows = result_rows(methods, parts, ideal, config)
    refiners = [m for m in methods if m.refiner is not None]
    judges = {m.classifier: found.name for m in refiners if (found := judge(m, methods))}
    results = {
        "profile": config.profile,
        "seed": config.seed,
        **({"portable": True} if config.portable else {}),
        "data": _data_record(paths, config, parts),
        "selected": selected.name,
        "judges": judges,
        "ideal_accuracy": {m.classifier: _ideal_accuracy(m, ideal) for m in methods if m.method is Method.RAW},
        "true_counts": counts(parts.test.labels),
        "rows": rows,
    }
    drawn = draw(methods, selected, rows, parts, ideal, config)
    folder = Path(paths["figures"])
    folder.mkdir(parents=True, exist_ok=True)
    saved = {name: folder / f"{name}.png" for name in drawn}
    for name, figure in drawn.items():
        figures.save_figure(figure, saved[name])
    tracker.log_artifact(folder, "figures")
    write_text(paths["results"], json.dumps(results, indent=2, allow_nan=False) + "\n")
    table = format_table(rows)
    write_text(paths["table"], table + "\n")
    write_text(paths["predictions"], as_csv(predictions(methods, parts.test)))
    write_report(paths["report"], results, saved, _files(methods))
    _register(selected, rows, parts.test, tracker)
    for name in ("results", "report", "predictions"):
        tracker.log_artifact(paths[name])
    for row in rows:
        tracker.log_metrics({f"{row['name']}.{k}": v for k, v in row.items() if isinstance(v, float)})
    say(table)
    best = next(row for row in rows if row["name"] == selected.name)
    right = f"{100 * best['accuracy']:.1f} % of {best['n_test']} test patterns right"
    return f"{right} by {selected.name} (selected)"


def _selected(methods: Sequence[Entry], where: Path) -> Entry:
    """The refiner that ``refine`` uses: the best on the validation part, never by the test part."""
    usable = [m for m in methods if m.usable]
    if not usable:
        raise InputError(where, "is an ablation or a control, and no other refiner is given.", "Give one that is not.")
    return max(usable, key=lambda m: -1.0 if m.validation_accuracy is None else m.validation_accuracy)


def _register(selected: Entry, rows: Sequence[Mapping[str, Any]], test: Dataset, tracker: Tracker) -> None:
    """Registers the selected refiner in MLflow if it beats raw beyond noise; else a tag says why not."""
    row = next(row for row in rows if row["name"] == selected.name)
    interval = points_interval(row["gain_low"], row["gain_high"])
    name, gain = selected.name, f"{points(row['gain'])} ({interval}) points over raw"
    if row["gain_low"] > 0 and selected.refiner is not None:
        tracker.log_model(selected.refiner.cpu(), "selected", test.intensity[:2], REGISTERED_MODEL)
        tracker.set_tag("registration", f"registered: {name} gains {gain}")
    else:
        tracker.set_tag("registration", f"refused: {name} gains {gain}, which may be noise")


def _ideal_accuracy(method: Entry, ideal: Dataset) -> float | None:
    """A classifier's accuracy on ideal test patterns: how good it is where nothing is flawed."""
    if method.reader is None or not len(ideal.labels):
        return None
    return metrics.accuracy(ideal.labels, probabilities(method.reader, ideal.intensity).argmax(1))


def _files(methods: Sequence[Entry]) -> dict[str, str]:
    """Where a run keeps the models that ``refine`` can use, and each pattern's answers."""
    kept = [m for m in methods if m.usable or m.method is Method.RAW]
    models = {f"{label(m)}, model": f"models/{model_name(m)}.safetensors" for m in kept}
    return {"answers to each test pattern": "predictions.csv", "all numbers": "results.json", **models}


def _data_record(paths: Mapping[str, Any], config: EvaluateConfig, parts: Parts) -> dict[str, Any]:
    record = {}
    for name, source, path, n in (
        ("structures", config.structures, paths["ideal_dataset"], split_counts(paths["ideal_dataset"])),
        ("imperfect", config.imperfect, paths["imperfect_dataset"], parts.data.rows["split"].value_counts()),
    ):
        record[name] = {"source": source, "sha256": digest(path)} | {
            f"n_{split}": int(n.get(split, 0)) for split in ("train", "validation", "test", "held_out")
        }
    if remarked := read_remarked(paths["ideal_dataset"]):
        record["structures"]["with_remark"] = remarked
    if config.test:
        record["imperfect"]["test"] = config.test
    if config.classifiers_from:
        record["classifiers"] = {"source": config.classifiers_from}
    return record


STAGE = Stage(
    name="evaluate",
    summary="Measures every method on the imperfect test part: accuracy, distance to theory, honesty, figures, report.",
    inputs={
        "classifiers": "classifiers of every kind (safetensors)",
        "refiners": "refiners trained through them, and variants (safetensors)",
        "dwt": "the imperfect patterns, denoised by the baselines stage (Parquet)",
        "answers": "answers of the methods without a network, by the baselines stage (Parquet)",
        "ideal_dataset": "gridded ideal patterns with their splits (Parquet)",
        "imperfect_dataset": "gridded imperfect patterns with their splits and theory (Parquet)",
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
