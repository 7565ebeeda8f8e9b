"""The report of a run: results as tables for terminal and HTML, and what they say in words."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from components.evaluate.honest import (
    FINE,
    LOOK,
    WARNING,
    Measure,
    findings,
    gain_text,
    measured,
    measures_table,
    p_text,
    points,
    significant,
)
from imitation_refinement.errors import InputError
from imitation_refinement.figures import (
    BLOCKS,
    CLASSIFIER_LABELS,
    SUPERVISION_LABELS,
    block,
    classifier_label,
    method_label,
    row_label,
)
from imitation_refinement.files import write_text
from imitation_refinement.paper import PAPER_TABLE_1, PAPER_TABLE_2, PAPER_TABLE_3, paper_change

Row = Mapping[str, Any]

TEMPLATE = Path(__file__).with_name("report.html")
IMAGE_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
DISTANCES = {"l1": ("ℓ1", 2), "l2": ("ℓ2", 3), "kl": ("KL", 3), "ncc": ("NCC", 3)}  # name, decimals
TONES = {FINE: "better", LOOK: "noise", WARNING: "worse"}  # classes of the style sheet

# Sections of the report in order: identity, heading, starts of its figures' names, what is to be seen.
SECTIONS = (
    (
        "accuracy",
        "Table 1: accuracy",
        ("accuracy",),
        "On the imperfect test patterns, which no training has seen and by which nothing was chosen. The rows of a "
        "block were told equally much about imperfect patterns. A difference is called better or worse where the "
        "paired test (p < 0.05) and the interval of the paired difference agree, else within noise.",
    ),
    (
        "ablations",
        "Table 2: ablations, controls, fewer labels",
        ("labels",),
        "The refiner without parts of its loss, trained on shuffled labels, and with fewer labels than there are, each "
        "beside the whole one on the same patterns.",
    ),
    (
        "distances",
        "Table 3: distance to theory",
        ("pattern",),
        "Medians over the test patterns whose theory is known, and the change against the raw patterns. The paper’s "
        "grid is not ours and its NCC on a scale that it does not define: compare changes. Below: raw, refined and "
        "theoretical pattern; ticks mark the theoretical peaks. NbGa3 and Mn4Al11 are shown, as in the paper’s Figure "
        "4, where the test part holds them; the other patterns stand at even ranks of ℓ2 after refinement. Background "
        "and noise should go, peaks should stay where the ticks are; a refined peak without a tick is invented.",
    ),
    (
        "honesty",
        "Honesty of the refiners",
        ("predicted",),
        "A refiner that learns through a fixed classifier can cheat: paint what the classifier likes and nobody else "
        "would recognise. What would give it away was measured; values are before → after refinement. Below the table: "
        "how often each crystal system is predicted; a method that has collapsed to one class shows one tall bar.",
    ),
    (
        "confusion",
        "Confusion matrices",
        ("confusion",),
        "Rows are true, columns predicted crystal systems; numbers count patterns, the shade is the share of the row.",
    ),
    (
        "embedding",
        "Embeddings",
        ("embedding",),
        "Where a classifier puts the test patterns, in two dimensions by t-SNE. Distances between far groups mean "
        "little; whether a system stays together does. GTA’s classifier is another one, and has axes of its own.",
    ),
    ("training", "Training", ("training",), "Each quantity by epoch."),
    ("further", "Further figures", ("",), ""),
)

METRICS = (
    (
        "Accuracy",
        "Share of the test patterns whose crystal system is predicted rightly; 0 to 100 %, higher is better. The "
        "interval is the 95 % percentile bootstrap over test patterns (10,000 resamples). It holds the luck of which "
        "patterns are in the test, not the luck of one training: that takes several seeds.",
    ),
    (
        "Gain over raw, p",
        "Accuracy minus that of the raw patterns under the prototypical classifier of the same architecture, in "
        "percentage points, with the bootstrap interval of the paired difference; p by McNemar’s exact two-sided test "
        "on the same patterns.",
    ),
    (
        "Best baseline",
        "The one of the paper’s baselines (DWT, ADDA, GTA; either classifier) with the best accuracy on the validation "
        "part; it is not chosen by the test part, where another may be better.",
    ),
    (
        "Imitation refinement",
        "IR trains a refiner through the frozen prototypical classifier, targeted with the labels of the imperfect "
        "patterns, non-targeted without; the classifier then reads the refined patterns.",
    ),
    (
        "ℓ1",
        "Sum over the grid of |pattern − theory|, each scaled to maximum 1; 0 to the number of grid points, lower is "
        "better. It grows with the number of points: compare only on one grid.",
    ),
    ("ℓ2", "Euclidean norm of pattern − theory, each scaled to maximum 1; 0 to √points, lower is better."),
    (
        "KL",
        "Kullback–Leibler divergence of the pattern from theory, KL(theory ‖ pattern), in nats, each scaled to sum 1 "
        "and mixed with 1 % of a uniform distribution; 0 to ln(points / 0.01), lower is better.",
    ),
    (
        "NCC",
        "Zero-mean normalised cross-correlation at zero lag; −1 to 1, higher is better. The paper’s NCC (about 20.9) "
        "is on another scale that it does not define; compare changes, not values.",
    ),
)


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        columns: heads of the columns; the first is text.
        groups: heading (may be empty) and rows of (class of the style sheet, cells), each; the second line of a cell is
            small print.
        note: below the table.
    """

    columns: Sequence[str]
    groups: Sequence[tuple[str, Sequence[tuple[str, Sequence[str]]]]]
    note: str = ""


def format_table(rows: Sequence[Row]) -> str:
    """Results as plain text with aligned columns, block by block, for the terminal; distances are medians."""
    heads = ["method", "accuracy (95 %)", "gain over raw", "p", *(name for name, _ in DISTANCES.values())]
    blocks = [
        (
            title,
            [[row_label(r), _accuracy(r), _gain(r), _p_value(r), *(_value(r, k) for k in DISTANCES)] for r in group],
        )
        for title, group in _blocks(rows)
    ]
    widths = [max(map(len, column)) for column in zip(heads, *(c for _, cells in blocks for c in cells), strict=True)]
    sides = ["<", *">" * (len(heads) - 1)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(f"{c:{side}{width}}" for c, side, width in zip(cells, sides, widths, strict=True)).rstrip()

    lines = [line(heads), "─" * (sum(widths) + 2 * len(widths) - 2)]
    for title, cells in blocks:
        lines += [f"{title}:", *map(line, cells)]
    return "\n".join(lines)


def accuracy_table(rows: Sequence[Row]) -> Table:
    """The paper's Table 1, with what it leaves out; its numbers beside ours."""
    shown = [row for row in rows if block(row) in BLOCKS[:4]]
    columns = ["method", "accuracy (95 %)", "paper", "gain over raw (95 %)"]
    baseline = any(row.get("best_baseline") for row in shown)
    if baseline:
        columns += ["gain over best baseline (95 %)"]

    def cells(row: Row) -> list[str]:
        found = [row_label(row), _accuracy(row), _paper(PAPER_TABLE_1, row), _tested(row)]
        return [*found, _tested(row, "gain_over_baseline", "p_baseline")] if baseline else found

    names = {row.get("name"): row_label(row) for row in rows}
    best = next((row["best_baseline"] for row in shown if row.get("best_baseline")), None)
    note = f"Best baseline on the validation part: {names.get(best, best)}. " if best else ""
    return Table(columns, _groups(shown, cells), note + "Paper: means of five runs, without intervals.")


def ablation_table(rows: Sequence[Row]) -> Table:
    """The paper's Table 2, the shuffled-label control, and refinement with fewer labels."""
    varied = [row for row in rows if block(row) in BLOCKS[4:]]
    whole = {(row.get("classifier"), row.get("supervision")) for row in varied}
    full = [row for row in rows if _plain(row) and (row.get("classifier"), row.get("supervision")) in whole]

    def cells(row: Row) -> list[str]:
        return [
            row_label(row),
            _whole(row, "n_train"),
            _accuracy(row),
            _paper(PAPER_TABLE_2, row),
            _tested(row),
            _tested(row.get("against_plain") or {}),
        ]

    columns = ["method", "labels", "accuracy (95 %)", "paper", "gain over raw (95 %)", "against the whole (95 %)"]
    groups = [("The whole loss and all labels", [(str(row["method"]), cells(row)) for row in full])] if full else []
    return Table(columns, [*groups, *_groups(varied, cells)] if varied else [])


def distance_table(rows: Sequence[Row]) -> Table:
    """The paper's Table 3; raw and denoised patterns once, as they are the same for every classifier."""
    shown: list[tuple[str, Row]] = []
    for row in rows:
        if any(row.get(key) is not None for key in DISTANCES) and not row.get("labelled"):
            shared = {"raw": "Raw patterns", "aligned": "Raw, zero error mended", "dwt": "DWT"}.get(row["method"])
            if shared is None or shared not in (label for label, _ in shown):
                shown.append((shared or row_label(row), row))
    shown.sort(key=lambda pair: (pair[1]["method"] != "raw", bool(pair[1].get("variant"))))
    raw = next((row for _, row in shown if row["method"] == "raw"), None)
    columns = ["method", "n"]
    for name, _ in DISTANCES.values():
        columns += [name, "paper"]
    lines = []
    for label, row in shown:
        cells = [label, _whole(row, "n_theory")]
        for key in DISTANCES:
            change = None if raw is None or raw is row or not raw.get(key) else row[key] / raw[key] - 1
            name = str(row.get("name"))
            paper = PAPER_TABLE_3.get(name)
            cells.append(_changed(_value(row, key), change))
            cells.append(_changed(f"{paper[key]:.{DISTANCES[key][1]}f}", paper_change(name, key)) if paper else "–")
        lines.append((str(row["method"]), cells))
    return Table(columns, [("", lines)] if lines else [])


@dataclass(frozen=True)
class Verdict:
    """What a refinement did to accuracy and distances, against the raw patterns under the same classifier.

    Attributes:
        tone: ``better`` or ``worse`` if the two accuracies' intervals don't overlap and the paired comparison, where
            there is one, is clear; ``probably better`` or ``probably worse`` if only the paired comparison is; else
            ``within noise``.
        subject: classifier and method.
        accuracy: what happened to the accuracy, in words.
        baseline: how it compares with the best baseline, in words; empty without one.
        distances: what happened to the distances to theory, in words; empty where they are unknown.
    """

    tone: str
    subject: str
    accuracy: str
    baseline: str
    distances: str


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """One verdict for each plain refinement that has a raw row of the same classifier; targeted ones first."""
    raw = {row.get("classifier"): row for row in rows if row["method"] == "raw" and row.get("accuracy") is not None}
    refined = [row for row in rows if _plain(row) and row.get("accuracy") is not None and row.get("classifier") in raw]
    refined.sort(key=lambda row: row.get("supervision") != "targeted")
    names = {row.get("name"): row_label(row) for row in rows}
    return [_verdict(row, raw[row.get("classifier")], names) for row in refined]


def headline(rows: Sequence[Row]) -> str:
    """Whether plain targeted refinement beats the raw patterns beyond the interval, in one sentence."""
    targeted = [row for row in rows if row.get("supervision") == "targeted" or row["method"] == "raw"]
    found = verdicts(targeted)
    if not found:
        return "This run holds no targeted refinement beside raw patterns: it says nothing about its gain."
    wins = [v for v in found if v.tone == "better"]
    if len(wins) == len(found):
        which = "either classifier" if len(found) == 2 else "the classifier" if len(found) == 1 else "every classifier"
        return f"Targeted refinement beats the raw patterns beyond the 95 % interval with {which}."
    if wins:
        names = ", ".join(v.subject.split(",")[0] for v in wins)
        return f"Targeted refinement beats the raw patterns beyond the 95 % interval with {names}, but not throughout."
    if any(v.tone == "probably better" for v in found):
        return (
            "Targeted refinement does better than the raw patterns in the paired comparison, but not beyond the "
            "separate 95 % intervals."
        )
    if losses := [v for v in found if "worse" in v.tone]:
        names = " and ".join(v.subject.split(",")[0] for v in losses)
        return f"Targeted refinement does not beat the raw patterns; with {names} they are recognised less often."
    return "Targeted refinement does not beat the raw patterns: the differences are within noise."


def write_report(
    path: str | Path,
    results: Mapping[str, Any],
    figures: Mapping[str, Figure | Path],
    files: Mapping[str, str | Path] | None = None,
) -> None:
    """Writes the report as one HTML file that needs nothing else: no network, script, font or neighbouring file.

    Args:
        path: the HTML file.
        results: the content of ``results.json``: ``rows``, ``data`` (name → facts, ``sha256`` among them), and facts of
            the run (``profile``, ``seed``, ``created``, ``seconds``, …; every scalar is shown, and accuracies by
            classifier such as ``ideal_accuracy``).
        figures: figures, or PNG, SVG or JPEG files, by name; the start of a name gives its section; see
            :data:`SECTIONS`.
        files: what lies where, by what it is (models, tables).

    Raises:
        InputError: if a figure's file can't be embedded.
    """
    rows = list(results["rows"])
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        facts=_facts(results),
        data=results.get("data", {}),
        headline=headline(rows),
        verdicts=verdicts(rows),
        findings=findings(rows, results.get("true_counts", {})),
        tones=TONES,
        measured=_measured(rows),
        sections=_sections(figures, rows),
        metrics=METRICS,
        files=files or {},
        smallest_step=_smallest_step(rows),
    )
    write_text(path, text)


def _measured(rows: Sequence[Row]) -> list[tuple[str, list[str], list[tuple[Measure, list[str]]]]]:
    """Each classifier, its methods whose honesty was measured, and the measures of these."""
    groups: dict[str, list[Row]] = {}
    for row in measured(rows):
        groups.setdefault(classifier_label(row), []).append(row)
    return [(name, [method_label(row) for row in own], measures_table(own)) for name, own in groups.items()]


def _plain(row: Row) -> bool:
    """Imitation refinement as published, with all labels that there are."""
    return row["method"] == "ir" and not row.get("variant") and not row.get("labelled")


def _blocks(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    ordered = sorted(rows, key=lambda row: BLOCKS.index(block(row)))
    return [(title, list(group)) for title, group in groupby(ordered, block)]


def _groups(rows: Sequence[Row], cells: Any) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    return [(title, [(str(row["method"]), cells(row)) for row in group]) for title, group in _blocks(rows)]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _accuracy(row: Row) -> str:
    if row.get("accuracy") is None:
        return "–"
    return f"{_percent(row['accuracy'])} ({100 * row['accuracy_low']:.1f}–{100 * row['accuracy_high']:.1f})"


def _gain(row: Row, gain: str = "gain") -> str:
    if row.get(gain) is None:
        return "–"
    return f"{points(row[gain])} ({points(row[f'{gain}_low'])} to {points(row[f'{gain}_high'])})"


def _p_value(row: Row, key: str = "p_value") -> str:
    return "–" if row.get(key) is None else p_text(row[key]).removeprefix("= ")


def _tested(row: Row, gain: str = "gain", p_value: str = "p_value") -> str:
    """A paired difference; below it its p, and whether it is more than noise."""
    if row.get(gain) is None:
        return "–"
    p = "" if row.get(p_value) is None else f"p {p_text(row[p_value])}, "
    return f"{_gain(row, gain)}\n{p}{_words(row, gain, p_value)}"


def _words(row: Row, gain: str = "gain", p_value: str = "p_value") -> str:
    if row.get(gain) is None:
        return ""
    return ("better" if row[gain] > 0 else "worse") if significant(row, gain, p_value) else "within noise"


def _paper(table: Mapping[str, float], row: Row) -> str:
    value = table.get(str(row.get("name")))
    return "–" if value is None else f"{100 * value:.2f} %"


def _value(row: Row, key: str) -> str:
    return "–" if row.get(key) is None else f"{row[key]:.{DISTANCES[key][1]}f}"


def _whole(row: Row, key: str) -> str:
    return "–" if row.get(key) is None else f"{row[key]}"


def _changed(value: str, change: float | None) -> str:
    return value if change is None else f"{value}\n{round(100 * change):+d} %".replace("-", "−")


def _verdict(row: Row, raw: Row, names: Mapping[Any, str]) -> Verdict:
    before, after = raw["accuracy"], row["accuracy"]
    change = f"{_percent(before)} → {_percent(after)}, {points(after - before)} points."
    intervals = (
        f"({100 * row['accuracy_low']:.1f}–{100 * row['accuracy_high']:.1f} % against "
        f"{100 * raw['accuracy_low']:.1f}–{100 * raw['accuracy_high']:.1f} %)"
    )
    p = row.get("p_value")
    paired = "" if p is None else f" Paired on the same {row['n_test']} patterns: {gain_text(row)}."
    apart = row["accuracy_low"] > raw["accuracy_high"] or row["accuracy_high"] < raw["accuracy_low"]
    overlap = f"The intervals {'do not overlap' if apart else 'overlap'} {intervals}"
    outcome = "better" if after > before else "worse"
    if apart and (p is None or significant(row)):
        tone, words = outcome, f"{overlap}."
    elif significant(row):
        tone, words = f"probably {outcome}", f"{overlap}; pattern by pattern the difference is more than noise."
    else:
        tone, words = "within noise", f"{overlap}{'; pattern by pattern' if apart else ''}: not to be told from noise."
    subject = f"{classifier_label(row)}, {SUPERVISION_LABELS.get(row.get('supervision') or '', 'refined')}"
    return Verdict(tone, subject, f"{change} {words}{paired}", _against_baseline(row, names), _distances(row, raw))


def _against_baseline(row: Row, names: Mapping[Any, str]) -> str:
    best = row.get("best_baseline")
    if best is None or row.get("gain_over_baseline") is None:
        return ""
    gain, words = gain_text(row, "gain_over_baseline", "p_baseline"), _words(row, "gain_over_baseline", "p_baseline")
    outcome = "not to be told from noise" if words == "within noise" else f"{words}, by more than noise"
    return f"Against {names.get(best, best)}, the best baseline on the validation part: {gain}: {outcome}."


def _distances(row: Row, raw: Row) -> str:
    changes = []
    for key, (name, _) in DISTANCES.items():
        if row.get(key) is not None and raw.get(key) is not None:
            sign = 1 if key == "ncc" else -1
            outcome = "closer" if sign * row[key] > sign * raw[key] else "no closer"
            changes.append(f"{name} {_value(raw, key)} → {_value(row, key)} ({outcome})")
    return f"Median distance to theory: {', '.join(changes)}." if changes else ""


def _smallest_step(rows: Sequence[Row]) -> str:
    sizes = [row["n_test"] for row in rows if row.get("n_test")]
    return f"{100 / min(sizes):.2f}" if sizes else ""


def _facts(results: Mapping[str, Any]) -> dict[str, str]:
    facts = {}
    for key, value in results.items():
        if key == "seconds":
            facts["time"] = "{} min {} s".format(*divmod(round(value), 60))
        elif isinstance(value, str | int | float) and value != "":
            facts[key.replace("_", " ")] = str(value)
        elif key.endswith("accuracy") and isinstance(value, Mapping):
            known = [f"{CLASSIFIER_LABELS.get(k, k)} {_percent(v)}" for k, v in value.items() if v is not None]
            facts[key.replace("_", " ")] = ", ".join(known)
    for key, label in (("n_train", "imperfect training patterns"), ("n_test", "imperfect test patterns")):
        if found := {row[key] for row in results["rows"] if row.get(key) and (_plain(row) or key == "n_test")}:
            facts[label] = "–".join(str(n) for n in sorted(found))
    return facts


def _sections(figures: Mapping[str, Figure | Path], rows: Sequence[Row]) -> list[dict[str, Any]]:
    tables = {
        "accuracy": [table for table in [accuracy_table(rows)] if table.groups],
        "ablations": [table for table in [ablation_table(rows)] if table.groups],
        "distances": [table for table in [distance_table(rows)] if table.groups],
    }
    left, found = dict(figures), []
    for identity, title, prefixes, caption in SECTIONS:
        names = [name for name in left if name.startswith(prefixes)]
        images = [(name.replace("_", " "), _embedded(left.pop(name))) for name in names]
        if images or tables.get(identity) or identity == "honesty":
            section = {"id": identity, "title": title, "caption": caption, "images": images}
            found.append(section | {"tables": tables.get(identity, [])})
    return found


def _embedded(figure: Figure | Path) -> str:
    if isinstance(figure, Figure):
        buffer = BytesIO()
        figure.savefig(buffer, format="png")
        return _data_uri("image/png", buffer.getvalue())
    if figure.suffix not in IMAGE_TYPES:
        raise InputError(figure, "is no picture that a report can hold.", f"Give one of: {', '.join(IMAGE_TYPES)}.")
    try:
        return _data_uri(IMAGE_TYPES[figure.suffix], figure.read_bytes())
    except OSError as error:
        raise InputError(figure, f"can't be read ({error.strerror}).", "Draw the figure again.") from None


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
