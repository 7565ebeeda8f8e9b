"""The report of a run: results as tables for terminal and HTML, and what they say in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from imitation_refinement.errors import InputError
from imitation_refinement.files import write_text
from imitation_refinement.results.measures import FINE, LOOK, WARNING, findings, measured, measures_table
from imitation_refinement.results.paper import CITATION, paper_ablation, paper_accuracy, paper_change, paper_distance
from imitation_refinement.results.table import Table, data_uri, page
from imitation_refinement.results.trust import cautions, selected, tone_of
from imitation_refinement.results.trust import headline as first_sentence
from imitation_refinement.results.wording import (
    CLOSER,
    MISSING,
    NOISE,
    SIGNIFICANT,
    Row,
    block,
    change,
    classifier_label,
    distance,
    gain_of,
    p_equals,
    p_value,
    percent,
    points,
    points_interval,
    row_label,
    share_interval,
    words_of,
)
from imitation_refinement.vocabulary import Architecture, Block, Distance, Method, Supervision

TEMPLATE = Path(__file__).with_name("report.html")
IMAGE_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
TONES = {FINE: "good", LOOK: "noise", WARNING: "bad"}  # classes of the style sheet

# Sections of the report in order: identity, heading, starts of its figures' names, what is to be seen.
SECTIONS = (
    (
        "accuracy",
        "Table 1: accuracy",
        ("accuracy",),
        "On the imperfect test patterns, which no training has seen and by which nothing was chosen. The rows of a "
        "block were told equally much about imperfect patterns. A difference is called better or worse where the "
        f"paired test (p < {SIGNIFICANT}) and the interval of the paired difference agree, else {NOISE}.",
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
        "calibration",
        "Calibration",
        ("calibration",),
        "What a probability means. Left: how often answers are right, by the probability that they come with; on the "
        "grey line it is what it says, below it the method is too sure of itself. In brackets the expected calibration "
        "error, the mean distance from that line (Guo et al. 2017). Right: how often they are right where only the "
        "surest are given.",
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
        "The method without imitation refinement that is best on the test part itself, since search-match answers to "
        "no other: the hardest to beat, never the luckiest for us. Those with the tested material in their library "
        "know what no refiner may know, and are compared apart.",
    ),
    (
        "Imitation refinement",
        "IR trains a refiner through the frozen prototypical classifier, targeted with the labels of the imperfect "
        "patterns, non-targeted without; the classifier then reads the refined patterns.",
    ),
    *((which.label, which.meaning) for which in Distance),
)


def format_table(rows: Sequence[Row]) -> str:
    """Results as plain text with aligned columns, block by block, for the terminal; distances are medians."""
    columns = ("method", "accuracy (95 %)", "gain over raw", "p", *(which.label for which in Distance))

    def cells(row: Row) -> list[str]:
        found = [row_label(row), _accuracy(row), _gain(row), p_value(row.get("p_value"))]
        return [*found, *(distance(row.get(which), which) for which in Distance)]

    return Table("", "", columns, _groups(rows, cells)).as_text()


def accuracy_table(rows: Sequence[Row]) -> Table:
    """The paper's Table 1, with what it leaves out; its numbers beside ours."""
    shown = [row for row in rows if block(row).in_table_1]
    columns = ["method", "accuracy (95 %)", "paper", "gain over raw (95 %)"]
    baseline = any(row.get("best_baseline") for row in shown)
    if baseline:
        columns += ["gain over best baseline (95 %)"]

    def cells(row: Row) -> list[str]:
        found = [row_label(row), _accuracy(row), _paper(paper_accuracy(_name(row))), _tested(row)]
        return [*found, _tested(row, "gain_over_baseline", "p_baseline")] if baseline else found

    names = {row.get("name"): row_label(row) for row in rows}
    best = next((row["best_baseline"] for row in shown if row.get("best_baseline")), None)
    note = f"Best baseline: {names.get(best, best)}. " if best else ""
    note += "Paper: means of five runs, without intervals."
    return Table("", "", columns, _groups(shown, cells), note=note, strong=_refined(shown))


def ablation_table(rows: Sequence[Row]) -> Table:
    """The paper's Table 2, the shuffled-label control, and refinement with fewer labels."""
    varied = [row for row in rows if not block(row).in_table_1]
    whole = {(row.get("classifier"), row.get("supervision")) for row in varied}
    full = [row for row in rows if _plain(row) and (row.get("classifier"), row.get("supervision")) in whole]

    def cells(row: Row) -> list[str]:
        return [
            row_label(row),
            _whole(row, "n_train"),
            _accuracy(row),
            _paper(paper_ablation(_name(row))),
            _tested(row),
            _tested(row.get("against_plain") or {}),
        ]

    columns = ["method", "labels", "accuracy (95 %)", "paper", "gain over raw (95 %)", "against the whole (95 %)"]
    groups = [("The whole loss and all labels", [cells(row) for row in full])] if full else []
    return Table("", "", columns, [*groups, *_groups(varied, cells)] if varied else [], strong=_refined(rows))


def distance_table(rows: Sequence[Row]) -> Table:
    """The paper's Table 3; raw and denoised patterns once, as they are the same for every classifier."""
    shown: dict[str, Row] = {}
    for row in rows:
        if any(row.get(which) is not None for which in Distance) and not row.get("labelled"):
            shown.setdefault(Method(row["method"]).patterns or row_label(row), row)
    ordered = sorted(shown.items(), key=lambda pair: (pair[1]["method"] != Method.RAW, bool(pair[1].get("variant"))))
    raw = next((row for _, row in ordered if row["method"] == Method.RAW), None)
    columns = ["method", "n", *(head for which in Distance for head in (which.label, "paper"))]
    lines = []
    for label, row in ordered:
        cells = [label, _whole(row, "n_theory")]
        for which in Distance:
            own = None
            if raw is not None and raw is not row and raw.get(which) and row.get(which) is not None:
                own = row[which] / raw[which] - 1
            paper = distance(paper_distance(_name(row), which), which)
            cells.append(_changed(distance(row.get(which), which), own))
            cells.append(_changed(paper, paper_change(_name(row), which)))
        lines.append(cells)
    return Table("", "", columns, [("", lines)] if lines else [], strong=_refined(rows))


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
    raw = {
        row.get("classifier"): row for row in rows if row["method"] == Method.RAW and row.get("accuracy") is not None
    }
    refined = [row for row in rows if _plain(row) and row.get("accuracy") is not None and row.get("classifier") in raw]
    refined.sort(key=lambda row: row.get("supervision") != Supervision.TARGETED)
    names = {row.get("name"): row_label(row) for row in rows}
    return [_verdict(row, raw[row.get("classifier")], names) for row in refined]


def headline(rows: Sequence[Row]) -> str:
    """Whether plain targeted refinement beats the raw patterns beyond the interval, in one sentence."""
    targeted = [row for row in rows if row.get("supervision") == Supervision.TARGETED or row["method"] == Method.RAW]
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


# What the selected refiner is compared with on the first screen, and the fields of its row that say how.
BEST, OVER_BEST = "the best method without refinement", ("gain_over_baseline", "p_baseline")
SAME, OVER_RAW = "the same network on patterns as measured", ("gain", "p_value")
KNOWS, OVER_LIBRARY = "the best that has the tested material", ("gain_over_library", "p_library")


@dataclass(frozen=True)
class Compared:
    """A line of the first screen: the selected refiner, or what it is compared with.

    Attributes:
        label: classifier and method.
        role: what it is here.
        share: accuracy with its interval, in words.
        ends: accuracy and the ends of its interval in per cent, for the bar.
        difference: what the selected refiner is ahead, its interval, p and in words; empty for itself.
    """

    label: str
    role: str
    share: str
    ends: tuple[float, float, float]
    difference: str


def compared(results: Mapping[str, Any]) -> list[Compared]:
    """The selected refiner and what it must be better than, each on the same test patterns."""
    row = selected(results)
    if row is None:
        return []
    kinds = (
        (BEST, OVER_BEST, lambda other: other["name"] == row.get("best_baseline")),
        (
            SAME,
            OVER_RAW,
            lambda other: (other["method"], other.get("classifier")) == (Method.RAW, row.get("classifier")),
        ),
        (KNOWS, OVER_LIBRARY, lambda other: other["name"] == row.get("in_library")),
    )
    found: dict[str, Compared] = {}
    for role, keys, is_it in kinds:
        other = next(filter(is_it, results["rows"]), None)
        if other is not None and row.get(keys[0]) is not None:
            before = found.get(other["name"])
            said = f"{before.role}; {role}" if before else role
            found[other["name"]] = _compared(other, said, _tested(row, *keys))
    return [_compared(row, "selected by the validation part", ""), *found.values()]


def _compared(row: Row, role: str, difference: str) -> Compared:
    low, high = row["accuracy_low"], row["accuracy_high"]
    ends = (100 * row["accuracy"], 100 * low, 100 * high)
    return Compared(
        row_label(row), role, f"{percent(row['accuracy'])} %\n{share_interval(low, high)}", ends, difference
    )


def write_report(
    path: str | Path,
    results: Mapping[str, Any],
    figures: Mapping[str, Figure | Path],
    files: Mapping[str, str | Path] | None = None,
    about: Mapping[str, str] | None = None,
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
        about: which run this was, by what it is: ``date``, ``run``, ``revision``, …; ``command`` stands alone.

    Raises:
        InputError: if a figure's file can't be embedded.
    """
    rows = list(results["rows"])
    row, lines = selected(results), cautions(results)
    names = {other["name"]: row_label(other) for other in rows}
    text = page(
        TEMPLATE,
        about=about or {},
        first=first_sentence(results, names),
        first_tone=TONES[tone_of(row, lines)] if row else "",
        compared=compared(results),
        cautions=lines,
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
        citation=CITATION,
    )
    write_text(path, text)


def _measured(rows: Sequence[Row]) -> list[Table]:
    """The measures of honesty, a table each classifier; the first says what they are."""
    groups: dict[str, list[Row]] = {}
    for row in measured(rows):
        groups.setdefault(classifier_label(row), []).append(row)
    return [measures_table(own, explained=not k) for k, own in enumerate(groups.values())]


def _plain(row: Row) -> bool:
    """Imitation refinement as published, with all labels that there are."""
    return row["method"] == Method.IR and not row.get("variant") and not row.get("labelled")


def _refined(rows: Sequence[Row]) -> frozenset[str]:
    """The names of the refiners' rows, which stand out."""
    return frozenset(row_label(row) for row in rows if row["method"] == Method.IR)


def _groups(rows: Sequence[Row], cells: Callable[[Row], list[str]]) -> list[tuple[str, list[list[str]]]]:
    found = ((title, [cells(row) for row in rows if block(row) is title]) for title in Block)
    return [(str(title), lines) for title, lines in found if lines]


def _name(row: Row) -> str:
    return str(row.get("name"))


def _accuracy(row: Row) -> str:
    if row.get("accuracy") is None:
        return MISSING
    return f"{percent(row['accuracy'])} % ({share_interval(row['accuracy_low'], row['accuracy_high'])})"


def _gain(row: Row, gain: str = "gain") -> str:
    if row.get(gain) is None:
        return MISSING
    return f"{points(row[gain])} ({points_interval(row[f'{gain}_low'], row[f'{gain}_high'])})"


def _tested(row: Row, gain: str = "gain", p: str = "p_value") -> str:
    """A paired difference; below it its p, and whether it is more than noise."""
    if row.get(gain) is None:
        return MISSING
    known = "" if row.get(p) is None else f"{p_equals(row[p])}, "
    return f"{_gain(row, gain)}\n{known}{words_of(row, gain, p)}"


def _paper(share: float | None) -> str:
    return MISSING if share is None else f"{percent(share, 2)} %"


def _whole(row: Row, key: str) -> str:
    return MISSING if row.get(key) is None else f"{row[key]}"


def _changed(value: str, relative: float | None) -> str:
    return value if relative is None else f"{value}\n{change(relative, 0)}"


def _verdict(row: Row, raw: Row, names: Mapping[Any, str]) -> Verdict:
    before, after = raw["accuracy"], row["accuracy"]
    moved = f"{percent(before)} % → {percent(after)} %, {points(after - before)} points."
    own, other = (share_interval(r["accuracy_low"], r["accuracy_high"]) for r in (row, raw))
    intervals = f"({own} % against {other} %)"
    p = row.get("p_value")
    paired = "" if p is None else f" Paired on the same {row['n_test']} patterns: {gain_of(row)}."
    significant = words_of(row) != NOISE
    apart = row["accuracy_low"] > raw["accuracy_high"] or row["accuracy_high"] < raw["accuracy_low"]
    overlap = f"The intervals {'do not overlap' if apart else 'overlap'} {intervals}"
    outcome = "better" if after > before else "worse"
    if apart and (p is None or significant):
        tone, words = outcome, f"{overlap}."
    elif significant:
        tone, words = f"probably {outcome}", f"{overlap}; pattern by pattern the difference is more than noise."
    else:
        tone, words = NOISE, f"{overlap}{'; pattern by pattern' if apart else ''}: not to be told from noise."
    subject = f"{classifier_label(row)}, {Supervision(row['supervision']).label}"
    return Verdict(tone, subject, f"{moved} {words}{paired}", _against_baseline(row, names), _distances(row, raw))


def _against_baseline(row: Row, names: Mapping[Any, str]) -> str:
    best = row.get("best_baseline")
    if best is None or row.get("gain_over_baseline") is None:
        return ""
    gain, words = (say(row, "gain_over_baseline", "p_baseline") for say in (gain_of, words_of))
    outcome = "not to be told from noise" if words == NOISE else f"{words}, by more than noise"
    return f"Against {names.get(best, best)}, the best baseline: {gain}: {outcome}."


def _distances(row: Row, raw: Row) -> str:
    changes = []
    for which in Distance:
        before, after = raw.get(which), row.get(which)
        if before is not None and after is not None:
            outcome = CLOSER if which.sign * after > which.sign * before else f"no {CLOSER}"
            changes.append(f"{which.label} {distance(before, which)} → {distance(after, which)} ({outcome})")
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
            known = [f"{Architecture(k).label} {percent(v)} %" for k, v in value.items() if v is not None]
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
        return data_uri("image/png", buffer.getvalue())
    if figure.suffix not in IMAGE_TYPES:
        raise InputError(figure, "is no picture that a report can hold.", f"Give one of: {', '.join(IMAGE_TYPES)}.")
    try:
        return data_uri(IMAGE_TYPES[figure.suffix], figure.read_bytes())
    except OSError as error:
        raise InputError(figure, f"can't be read ({error.strerror}).", "Draw the figure again.") from None
