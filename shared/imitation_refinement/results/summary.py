"""A run in few words, where runs are compared: its headline numbers, its name, its note, and a row a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imitation_refinement.results.gate import judge_gap, simple
from imitation_refinement.results.table import Table
from imitation_refinement.results.wording import (
    MISSING,
    Row,
    block,
    gain_of,
    number,
    p_value,
    percent,
    points,
    points_interval,
    row_label,
    share_interval,
)
from imitation_refinement.running.tracking import ARTIFACT
from imitation_refinement.vocabulary import Distance, Measure

# Of a row, where runs and methods are compared; few: MLflow's pages load every number of every run.
ROW_METRICS = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "gain",
    str(Measure.JUDGE_ACCURACY),
    "calibration_error",
    *map(str, Distance),
    str(Measure.PEAK_PRECISION),
    str(Measure.PEAK_RECALL),
)
NONE, PLAIN = "none", "plain"  # MLflow finds no run by a tag that is empty


@dataclass(frozen=True)
class MethodRun:
    """One row of the results as a run of its own.

    Attributes:
        name: of the run.
        tags: what it is found by.
        metrics: its numbers.
        params: what it is compared by.
    """

    name: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, Any]


def selected_row(results: Mapping[str, Any]) -> Row:
    """The row of the refiner that was selected, by the validation part."""
    return next(row for row in results["rows"] if row["name"] == results["selected"])


def best_simple(rows: Sequence[Row]) -> Row | None:
    """The simple method that is best on the test part: the bar of the registry; see :mod:`.gate`."""
    return max(simple(rows), key=lambda row: row["accuracy"], default=None)


def headline(results: Mapping[str, Any]) -> dict[str, float]:
    """About ten numbers of the selected model, with the bar that it must pass; those that are not known are left out.

    ``simple_accuracy`` is that of the best simple method, ``judge_gap`` the part of the gain that the judge doesn't
    see, ``class_recall`` that of the crystal system which is recognised most seldom.
    """
    row, bar = selected_row(results), best_simple(results["rows"])
    names = ("accuracy", "accuracy_low", "accuracy_high", "gain", str(Measure.JUDGE_ACCURACY), "calibration_error")
    found = {name: row.get(name) for name in names}
    found |= {
        "simple_accuracy": bar and bar["accuracy"],
        "judge_gap": judge_gap(row),
        "class_recall": min(row.get("recalls", {}).values(), default=None),
        str(Measure.PEAK_PRECISION): row.get(Measure.PEAK_PRECISION),
        str(Measure.PEAK_RECALL): row.get(Measure.PEAK_RECALL),
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def title(results: Mapping[str, Any]) -> str:
    """What a run was and what came of it, in a line: ``VGG: IR, targeted 49.3 % · default, seed 0 · built-in``."""
    row = selected_row(results)
    portable = ", portable" if results.get("portable") else ""
    what = f"{row_label(row)} {percent(row['accuracy'])} %"
    return f"{what} · {results['profile'] or 'no profile'}, seed {results['seed']}{portable} · {_sources(results)}"


def note(results: Mapping[str, Any], links: bool = True) -> str:
    """What a run was, on what data, what came of it and, by links, where more is to be found; Markdown."""
    row, bar = selected_row(results), best_simple(results["rows"])
    interval = share_interval(row["accuracy_low"], row["accuracy_high"])
    first = (
        f"**{row_label(row)}** is right on **{percent(row['accuracy'])} %** ({interval}) of {row['n_test']} imperfect "
        "test patterns of materials that no training has seen."
    )
    raw = f"Against the raw patterns: {gain_of(row)}." if row.get("gain") is not None else ""
    simple_one = f"The best simple method, {row_label(bar)}: {percent(bar['accuracy'])} %." if bar else ""
    lines = [" ".join(part for part in (first, raw, simple_one) if part), ""]
    lines += [f"- {line}" for line in _facts(results)]
    reasons = results.get("gate", {}).get("reasons", [])
    lines += [f"- {'✓' if reason['kept'] else '✗'} {reason['words']}" for reason in reasons]
    lines += ["", rows_table(results["rows"]).as_markdown()]
    if not links:
        return "\n".join(lines) + "\n"
    files = (("report", "report.html"), ("all numbers", "results.json"), ("each pattern's answers", "predictions.csv"))
    lines += ["", " · ".join(f"[{text}]({ARTIFACT}{name})" for text, name in files)]
    return "\n".join(lines) + "\n"


def rows_table(rows: Sequence[Row]) -> Table:
    """All methods with their own right, as a run's note shows them."""
    columns = ("method", "accuracy (95 %)", "gain over raw (95 %)", "p", "judge", "calibration error")

    def cells(row: Row) -> list[str]:
        interval = share_interval(row["accuracy_low"], row["accuracy_high"])
        gain = MISSING
        if row.get("gain") is not None:
            gain = f"{points(row['gain'])} ({points_interval(row['gain_low'], row['gain_high'])})"
        judged = percent(row.get(Measure.JUDGE_ACCURACY))
        error = number(row.get("calibration_error"))
        found = [row_label(row), f"{percent(row['accuracy'])} % ({interval})", gain, p_value(row.get("p_value"))]
        return [*found, judged if judged == MISSING else f"{judged} %", error]

    return Table("", "", columns, [("", [cells(row) for row in rows if block(row).in_table_1])])


def method_runs(results: Mapping[str, Any]) -> list[MethodRun]:
    """Each row of the results as a run: what MLflow's pages search, compare and draw."""
    return [_method_run(row, results) for row in results["rows"]]


def _method_run(row: Row, results: Mapping[str, Any]) -> MethodRun:
    labelled = f"labelled_{row['labelled']}" if row.get("labelled") else ""
    params = {
        "method": str(row["method"]),
        "classifier": row.get("classifier") or NONE,
        "supervision": row.get("supervision") or NONE,
        "variant": row.get("variant") or labelled or PLAIN,
        "profile": results["profile"] or NONE,
        "seed": str(results["seed"]),
    }
    selected = str(row["name"] == results["selected"]).lower()
    tags = params | {"revision": results["revision"], "selected": selected}
    metrics = {name: float(row[name]) for name in ROW_METRICS if row.get(name) is not None}
    return MethodRun(row["name"], tags, metrics, params | {"n_train": row["n_train"]})


def _sources(results: Mapping[str, Any]) -> str:
    """Where structures and imperfect patterns came from, each by its last name."""
    names = [
        str(results["data"][name]["source"]).rstrip("/").rpartition("/")[2] for name in ("structures", "imperfect")
    ]
    return " and ".join(dict.fromkeys(names))


def _facts(results: Mapping[str, Any]) -> list[str]:
    found = []
    for name, what in (("structures", "Structures"), ("imperfect", "Imperfect patterns")):
        data = results["data"][name]
        sizes = ", ".join(
            f"{data[f'n_{split}']} {split.replace('_', ' ')}"
            for split in ("train", "validation", "test", "held_out")
            if data.get(f"n_{split}")
        )
        own = f", tested on {data['test']}" if data.get("test") else ""
        found.append(f"{what}: {data['source']}{own} ({sizes}; SHA-256 {data['sha256'][:12]}…)")
    if "classifiers" in results["data"]:
        found.append(f"Classifiers: those of {results['data']['classifiers']['source']}")
    found.append(f"Profile {results['profile'] or MISSING}, seed {results['seed']}, revision {results['revision']}")
    return found
