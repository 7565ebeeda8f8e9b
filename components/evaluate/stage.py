"""Evaluate: every method on the imperfect test part, beside theory; tables, figures, report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from components.evaluate.config import EvaluateConfig
from components.evaluate.drawings import draw, label, model_name
from components.evaluate.methods import Entry, Parts, read_methods
from components.evaluate.report import format_table, write_report
from components.evaluate.rows import answers, counts, judge, predictions, result_rows
from imitation_refinement.data.contracts import as_csv, read_grid, read_remarked
from imitation_refinement.data.datasets import Dataset, sample_ideal, split_counts
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest, write_text
from imitation_refinement.learning.models import probabilities, use_device
from imitation_refinement.progress import say
from imitation_refinement.results import figures, gate, metrics, summary
from imitation_refinement.running.launch import this_run
from imitation_refinement.running.revision import CHANGED, changed, identity, revision
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
        "revision": revision(),
        **({"portable": True} if config.portable else {}),
        "data": _data_record(paths, config, parts),
        "selected": selected.name,
        "judges": judges,
        "ideal_accuracy": {m.classifier: _ideal_accuracy(m, ideal) for m in methods if m.method is Method.RAW},
        "true_counts": counts(parts.test.labels),
        "gate": _standing(selected, methods, rows, parts.test, config),
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
    write_report(paths["report"], results, saved, _files(methods), _about(config))
    for name, suffix in (("results", ".json"), ("report", ".html"), ("predictions", ".csv")):
        tracker.log_artifact(paths[name], name=name + suffix)
    tell(results, tracker)
    _register(selected, results, methods, tracker)
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


def tell(results: Mapping[str, Any], tracker: Tracker) -> None:
    """Says to the whole run what came of it: its name, note, user, revision and numbers, and each method as a run."""
    whole, data = tracker.above, results["data"]
    tracker.log_table(pd.DataFrame([_flat_row(row) for row in results["rows"]]), "methods.json")
    whole.rename(summary.title(results))
    whole.note(summary.note(results))
    for key, value in identity().items():
        whole.set_tag(key, value)
    whole.log_params(
        {
            "profile": results["profile"],
            "seed": results["seed"],
            "structures": data["structures"]["source"],
            "imperfect": data["imperfect"]["source"],
            "test": data["imperfect"].get("test", ""),
            "classifiers": data.get("classifiers", {}).get("source", ""),
        }
    )
    whole.log_metrics(summary.headline(results))
    for run in summary.method_runs(results):
        whole.child(run.name, {**identity(), **run.tags}, run.metrics, run.params)


def _register(selected: Entry, results: Mapping[str, Any], methods: Sequence[Entry], tracker: Tracker) -> None:
    """Has the selected model registered; whether it becomes champion, what stands there by then decides, too."""
    data = results["data"]
    evidence = {
        "model": REGISTERED_MODEL,
        "method": selected.name,
        "tested": results["gate"]["tested_sha256"],
        "reasons": results["gate"]["reasons"],
        "metrics": summary.headline(results),
        "card": summary.note(results),
        "tags": {
            "profile": results["profile"] or summary.NONE,
            "seed": str(results["seed"]),
            "structures": data["structures"]["source"],
            "imperfect": data["imperfect"].get("test") or data["imperfect"]["source"],
            "revision": results["revision"],
        },
        "seed": results["seed"],
    }
    tracker.register(evidence, _model_files(selected, methods))


def _flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row fits in a cell."""
    return {key: value for key, value in row.items() if not isinstance(value, dict | list)}


def _model_files(selected: Entry, methods: Sequence[Entry]) -> dict[str, Path]:
    """The files that the selected refiner's model is made of: its own and its classifier's."""
    (reader,) = [m for m in methods if m.method is Method.RAW and m.classifier == selected.classifier]
    assert selected.file is not None and reader.file is not None, "a network has its file"
    return {"classifier": reader.file, "refiner": selected.file}


def _standing(
    selected: Entry, methods: Sequence[Entry], rows: Sequence[Mapping[str, Any]], test: Dataset, config: EvaluateConfig
) -> dict[str, Any]:
    """What the registry's gate asks of the selected refiner but for the champion, which only the registry knows."""
    by_name = {row["name"]: row for row in rows}
    tested = gate.tested_digest(test.rows["pattern_id"].tolist(), test.labels, test.intensity)
    simple = [(by_name[m.name], answers(m, test, tested)) for m in methods if m.method in gate.SIMPLE]
    found = gate.standing(answers(selected, test, tested), by_name[selected.name], simple, config.bounds, config.seed)
    return {"tested_sha256": tested, "reasons": [asdict(reason) for reason in found]}


def _about(config: EvaluateConfig) -> dict[str, str]:
    """Which run a report is of; not in the results, which are the same whenever and wherever they are made."""
    profile = {"profile": f"{config.profile}, seed {config.seed}"} if config.profile else {}
    short = f"{revision().removesuffix(CHANGED)[:12]}{CHANGED * changed(revision())}"
    return {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "revision": short, **profile, **this_run()}


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
