"""The report of a run: results as tables for terminal, Markdown and HTML, and what they say in words."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from imitation_refinement.errors import InputError
from imitation_refinement.figures import CLASSIFIER_LABELS, SUPERVISION_LABELS, classifier_label, method_label
from imitation_refinement.files import write_text

Row = Mapping[str, Any]

TEMPLATE = Path(__file__).with_name("report.html")
IMAGE_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
SIGNIFICANT = 0.05  # p below which a paired difference is called more than noise

# Sections of the report in order: prefix of a figure's name, heading, what is to be seen.
SECTIONS = (
    (
        "accuracy",
        "Accuracy",
        "Points: share of the test patterns whose crystal system is recognised. Bars: 95 % bootstrap interval. Band: "
        "the interval of the raw patterns under the same classifier.",
    ),
    (
        "pattern",
        "Patterns",
        "Raw, refined and theoretical pattern of test materials; ticks mark the theoretical peaks. Below: refined "
        "minus theory, with raw minus theory in grey. Background and noise should go, peaks should stay where the "
        "ticks are; a peak of the refined pattern without a tick is invented.",
    ),
    (
        "confusion",
        "Confusion matrices",
        "Rows are true, columns predicted crystal systems; numbers count patterns, the shade is the share of the row.",
    ),
    (
        "embedding",
        "Embeddings",
        "Where the classifier puts the test patterns, in two dimensions by t-SNE. Distances between far groups mean "
        "little; whether a system stays together does.",
    ),
    ("training", "Training", "Each quantity by epoch."),
    ("", "Further figures", ""),
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
        "Accuracy minus that of the raw patterns under the same classifier, in percentage points, with the bootstrap "
        "interval of the paired difference; p by McNemar’s exact two-sided test on the same patterns.",
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
        "is on another scale that it does not define; the two can’t be compared.",
    ),
)


def _number(key: str, digits: int) -> Callable[[Row], str]:
    return lambda row: "–" if row.get(key) is None else f"{row[key]:.{digits}f}"


def _accuracy(row: Row) -> str:
    if row.get("accuracy") is None:
        return "–"
    return f"{_percent(row['accuracy'])} ({100 * row['accuracy_low']:.1f}–{100 * row['accuracy_high']:.1f})"


def _gain(row: Row) -> str:
    if row.get("gain") is None:
        return "–"
    return f"{_points(row['gain'])} ({_points(row['gain_low'])} to {_points(row['gain_high'])})"


def _p_value(row: Row) -> str:
    p = row.get("p_value")
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


Columns = dict[str, Callable[[Row], str]]
COLUMNS: Columns = {
    "classifier": classifier_label,
    "method": method_label,
    "accuracy (95 %)": _accuracy,
    "n": lambda row: "–" if row.get("n_test") is None else f"{row['n_test']}",
    "ℓ1": _number("l1", 2),
    "ℓ2": _number("l2", 3),
    "KL": _number("kl", 3),
    "NCC": _number("ncc", 3),
}
PAIRED_COLUMNS: Columns = {"gain over raw (95 %)": _gain, "p": _p_value}
TEXT_COLUMNS = ("classifier", "method")


def format_table(rows: Sequence[Row]) -> str:
    """Results as plain text with aligned columns, for the terminal; distances are medians."""
    cells = [list(COLUMNS), *_cells(rows, COLUMNS)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = ["<" if name in TEXT_COLUMNS else ">" for name in COLUMNS]
    lines = [
        "  ".join(f"{text:{side}{width}}" for text, side, width in zip(line, sides, widths, strict=True)).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])


def markdown_table(rows: Sequence[Row]) -> str:
    """Results as a Markdown table; distances are medians."""
    rules = [":--" if name in TEXT_COLUMNS else "--:" for name in COLUMNS]
    lines = [list(COLUMNS), rules, *_cells(rows, COLUMNS)]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


@dataclass(frozen=True)
class Verdict:
    """What a refinement did to accuracy and distances, against the raw patterns under the same classifier.

    Attributes:
        tone: ``better`` or ``worse`` if the two accuracies' intervals don't overlap; ``probably better`` or
            ``probably worse`` if they do, but the paired comparison is clear; else ``within noise``.
        subject: classifier and method.
        accuracy: what happened to the accuracy, in words.
        distances: what happened to the distances to theory, in words; empty where they are unknown.
    """

    tone: str
    subject: str
    accuracy: str
    distances: str


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """One verdict for each imitation refinement that has a raw row of the same classifier; targeted ones first."""
    raw = {row.get("classifier"): row for row in rows if row["method"] == "raw" and row.get("accuracy") is not None}
    refined = [
        row
        for row in rows
        if row["method"] == "ir" and row.get("accuracy") is not None and row.get("classifier") in raw
    ]
    refined.sort(key=lambda row: row.get("supervision") != "targeted")
    return [_verdict(row, raw[row.get("classifier")]) for row in refined]


def headline(rows: Sequence[Row]) -> str:
    """Whether targeted refinement beats the raw patterns beyond the interval, in one sentence."""
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
        figures: figures, or PNG, SVG or JPEG files, by name; the start of a name gives its section: ``accuracy``,
            ``pattern``, ``confusion``, ``embedding``, ``training``, others at the end.
        files: what lies where, by what it is (models, tables).

    Raises:
        InputError: if a figure's file can't be embedded.
    """
    rows = list(results["rows"])
    paired = any(row.get("gain") is not None for row in rows)
    columns = COLUMNS | PAIRED_COLUMNS if paired else COLUMNS
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        facts=_facts(results),
        data=results.get("data", {}),
        headline=headline(rows),
        verdicts=verdicts(rows),
        columns=list(columns),
        text_columns=TEXT_COLUMNS,
        table=list(zip(rows, _cells(rows, columns), strict=True)),
        sections=_sections(figures),
        metrics=METRICS,
        files=files or {},
        smallest_step=_smallest_step(rows),
    )
    write_text(path, text)


def _cells(rows: Sequence[Row], columns: Columns) -> list[list[str]]:
    return [[cell(row) for cell in columns.values()] for row in rows]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def _verdict(row: Row, raw: Row) -> Verdict:
    before, after = raw["accuracy"], row["accuracy"]
    change = f"{_percent(before)} → {_percent(after)}, {_points(after - before)} points."
    intervals = (
        f"({100 * row['accuracy_low']:.1f}–{100 * row['accuracy_high']:.1f} % against "
        f"{100 * raw['accuracy_low']:.1f}–{100 * raw['accuracy_high']:.1f} %)"
    )
    p = row.get("p_value")
    paired = "" if p is None else f" Paired on the same {row['n_test']} patterns: {_gain(row)} points, p {_p_text(p)}."
    if row["accuracy_low"] > raw["accuracy_high"]:
        tone, words = "better", f"The intervals do not overlap {intervals}."
    elif row["accuracy_high"] < raw["accuracy_low"]:
        tone, words = "worse", f"The intervals do not overlap {intervals}."
    elif p is not None and p < SIGNIFICANT and row["gain_low"] * row["gain_high"] > 0:
        tone = "probably better" if after > before else "probably worse"
        words = f"The intervals overlap {intervals}; pattern by pattern the difference is more than noise."
    else:
        tone, words = "within noise", f"The intervals overlap {intervals}: not to be told from noise."
    subject = f"{classifier_label(row)}, {SUPERVISION_LABELS.get(row.get('supervision') or '', 'refined')}"
    return Verdict(tone, subject, f"{change} {words}{paired}", _distances(row, raw))


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _distances(row: Row, raw: Row) -> str:
    changes = []
    for key, name, sign in (("l1", "ℓ1", -1), ("l2", "ℓ2", -1), ("kl", "KL", -1), ("ncc", "NCC", 1)):
        if row.get(key) is not None and raw.get(key) is not None:
            outcome = "closer" if sign * row[key] > sign * raw[key] else "no closer"
            changes.append(f"{name} {COLUMNS[name](raw)} → {COLUMNS[name](row)} ({outcome})")
    return f"Median distance to theory: {', '.join(changes)}." if changes else ""


def _smallest_step(rows: Sequence[Row]) -> str:
    sizes = [row["n_test"] for row in rows if row.get("n_test")]
    return f"{100 / min(sizes):.2f}" if sizes else ""


def _facts(results: Mapping[str, Any]) -> dict[str, str]:
    facts = {}
    for key, value in results.items():
        if key == "seconds":
            facts["time"] = "{} min {} s".format(*divmod(round(value), 60))
        elif isinstance(value, str | int | float):
            facts[key.replace("_", " ")] = str(value)
        elif key.endswith("accuracy") and isinstance(value, Mapping):
            known = [f"{CLASSIFIER_LABELS.get(k, k)} {_percent(v)}" for k, v in value.items() if v is not None]
            facts[key.replace("_", " ")] = ", ".join(known)
    for key, label in (("n_train", "training patterns"), ("n_test", "test patterns")):
        if found := {row[key] for row in results["rows"] if row.get(key)}:
            facts[label] = "–".join(str(n) for n in sorted(found))
    return facts


def _sections(figures: Mapping[str, Figure | Path]) -> list[dict[str, Any]]:
    left, found = dict(figures), []
    for prefix, title, caption in SECTIONS:
        names = [name for name in left if name.startswith(prefix)]
        images = [(name.replace("_", " "), _embedded(left.pop(name))) for name in names]
        if images:
            found.append({"id": prefix or "further", "title": title, "caption": caption, "images": images})
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
