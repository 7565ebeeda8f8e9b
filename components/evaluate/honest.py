"""What the measures of honesty say in words, and where something smells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imitation_refinement.figures import row_label
from imitation_refinement.peaks import TOLERANCE

Row = Mapping[str, Any]

SIGNIFICANT = 0.05  # p below which a paired difference is called more than noise
FALL = 0.02  # of a share: what is called a fall
ENTROPY_FALL = 0.05
SURE = 0.5  # entropy below which an answer to nothing is called sure
SAME = 0.95  # NCC of R(x) and x, for an ideal x, below which R is said to change it
COLLAPSED = 0.5  # effective number of predicted classes as a share of that of the true ones

FINE, LOOK, WARNING = "fine", "look", "warning"
TONES = (FINE, LOOK, WARNING)


@dataclass(frozen=True)
class Measure:
    """A line of the table of honesty: a field of the rows, the same before refinement, and what it is."""

    key: str
    before: str
    name: str
    explanation: str
    percent: bool = False


MEASURES = (
    Measure(
        "judge_accuracy",
        "judge_accuracy_raw",
        "Accuracy under the judge",
        "How often a classifier of another architecture and seed, which has seen ideal patterns only and took no part "
        "in the refiner’s training, is right; a gain that only the refiner’s own classifier sees is painted for it.",
        percent=True,
    ),
    Measure(
        "peak_precision",
        "peak_precision_raw",
        "Peak precision",
        f"Share of the pattern’s peaks that theory has within {TOLERANCE}°; it falls when peaks are invented.",
        percent=True,
    ),
    Measure(
        "peak_recall",
        "peak_recall_raw",
        "Peak recall",
        f"Share of theory’s peaks that the pattern has within {TOLERANCE}°; it falls when peaks are lost.",
        percent=True,
    ),
    Measure("invented", "invented_raw", "Peaks invented", "Peaks a pattern that theory does not have."),
    Measure("lost", "lost_raw", "Peaks lost", "Theory’s peaks that the pattern does not have."),
    Measure(
        "narrow_share",
        "narrow_share_raw",
        "Narrow features",
        "Share of the peaks that are narrower than the instrument allows: no crystal can have drawn them.",
        percent=True,
    ),
    Measure(
        "ideal_accuracy_refined",
        "ideal_accuracy",
        "Accuracy on ideal patterns",
        "How often ideal patterns are recognised after refinement, and before; there is nothing to mend in them.",
        percent=True,
    ),
    Measure(
        "identity_l1", "", "R(x) against x, ℓ1", "Median distance of a refined ideal pattern from itself; 0 is best."
    ),
    Measure(
        "identity_ncc",
        "",
        "R(x) against x, NCC",
        "Median correlation of a refined ideal pattern with itself; 1 is best.",
    ),
    Measure(
        "noise_entropy",
        "noise_entropy_raw",
        "Entropy on pure noise",
        "Entropy of the answer to counting noise without a pattern, 1 no idea, 0 certainty; it should stay high.",
    ),
    Measure(
        "hump_entropy",
        "hump_entropy_raw",
        "Entropy on amorphous humps",
        "The same for the broad humps of a glass, which has no crystal system; it should stay high.",
    ),
)


@dataclass(frozen=True)
class Finding:
    """What the measures say about one method.

    Attributes:
        tone: the worst of the lines' tones: ``fine``, ``look`` or ``warning``.
        subject: the method.
        lines: (tone, sentence) each.
    """

    tone: str
    subject: str
    lines: tuple[tuple[str, str], ...]


def measured(rows: Sequence[Row]) -> list[Row]:
    """The rows whose honesty was measured: refiners, then GTA, then controls."""
    found = [row for row in rows if "peak_precision" in row]
    return sorted(found, key=lambda row: (bool(row.get("variant")), row["method"] != "ir"))


def measures_table(rows: Sequence[Row]) -> list[tuple[Measure, list[str]]]:
    """Each measure and its values, one a row, as ``before → after``."""
    found = []
    for measure in MEASURES:
        cells = [_change(row, measure) for row in measured(rows)]
        if any(cell != "–" for cell in cells):
            found.append((measure, cells))
    return found


def findings(rows: Sequence[Row], truth: Mapping[str, int]) -> list[Finding]:
    """What smells, method by method: the shuffled-label control, those that were measured, what else has collapsed.

    Args:
        rows: all rows of the results.
        truth: crystal system → patterns of the test part that are it.
    """
    names = {str(row.get("name")): row_label(row) for row in rows}
    controls = [row for row in rows if row.get("variant") == "shuffled_labels"]
    found = [_finding(f"Control: {row_label(row)}", [_control(row)]) for row in controls]
    if not controls:
        text = "This run holds no refiner trained on shuffled labels: whether labels are what it learns from is open."
        found.append(_finding("Control: shuffled labels", [(LOOK, text)]))
    own = [row for row in measured(rows) if row not in controls]
    for row in own:
        lines = [_judged(row, names), *_painted(row), *_changed(row), *_sure(row), *_collapse(row, truth)]
        found.append(_finding(row_label(row), lines))
    others = [row for row in rows if row not in own and not row.get("variant") and not row.get("labelled")]
    collapsed = [(tone, f"{row_label(row)}: {text}") for row in others for tone, text in _collapse(row, truth)]
    return [*found, _finding("Other methods", collapsed)] if collapsed else found


def effective_classes(counts: Mapping[str, int]) -> float:
    """exp of the entropy of the counts' shares: 7 for seven classes equally often, 1 for a single one, 0 for none."""
    n = np.array([value for value in counts.values() if value > 0], float)
    return float(np.exp(-(n / n.sum() * np.log(n / n.sum())).sum())) if len(n) else 0.0


def significant(row: Row, gain: str = "gain", p_value: str = "p_value") -> bool:
    """Whether paired test and interval agree that a gain or loss is more than noise."""
    p, low, high = (row.get(key) for key in (p_value, f"{gain}_low", f"{gain}_high"))
    return p is not None and low is not None and high is not None and p < SIGNIFICANT and low * high > 0


def points(difference: float) -> str:
    """A difference of accuracies in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def p_text(p: float) -> str:
    """``< 0.001``, ``= 0.034``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def gain_text(row: Row, gain: str = "gain", p_value: str = "p_value") -> str:
    """``+9.2 (+3.0 to +15.1) points, p = 0.004``."""
    low, high = points(row[f"{gain}_low"]), points(row[f"{gain}_high"])
    return f"{points(row[gain])} ({low} to {high}) points, p {p_text(row[p_value])}"


def _finding(subject: str, lines: Sequence[tuple[str, str]]) -> Finding:
    return Finding(max((tone for tone, _ in lines), key=TONES.index), subject, tuple(lines))


def _control(row: Row) -> tuple[str, str]:
    if row.get("gain") is None:
        return LOOK, "There is no raw row to compare it with."
    gain = f"{gain_text(row)} against raw"
    if not significant(row):
        return FINE, f"Trained on labels that mean nothing, it gains nothing beyond noise: {gain}. So it should be."
    if row["gain"] > 0:
        return WARNING, (
            f"Trained on labels that mean nothing, it still gains: {gain}. What the refiners gain is not all learned "
            "from labels; some of it is cleaning, or luck of the test part."
        )
    return FINE, f"Trained on labels that mean nothing, it loses: {gain}. No gain, as it should be."


def _judged(row: Row, names: Mapping[str, str]) -> tuple[str, str]:
    if row.get("judge_accuracy") is None:
        return LOOK, "No independent judge was given: whether the gain is painted for its own classifier is open."
    gain = gain_text(row, "judge_gain", "judge_p_value")
    by = f"The judge ({names.get(row['judge'], row['judge'])})" if row.get("judge") else "The judge"
    clear = significant(row, "judge_gain", "judge_p_value")
    if clear and row["judge_gain"] < 0:
        return WARNING, f"{by} recognises the patterns less often than raw ones: {gain}."
    if row["method"] == "gta":
        return (
            (FINE, f"{by} recognises the generated patterns more often than raw ones: {gain}.")
            if clear
            else (
                LOOK,
                f"{by} recognises the generated patterns no more often than raw ones: {gain}.",
            )
        )
    own = significant(row) and row["gain"] > 0
    if clear:
        seen = "sees the gain, too" if own else "sees a gain that its own classifier does not"
        return FINE, f"{by} {seen}: {gain}."
    if own:
        return WARNING, (
            f"Its own classifier sees a gain, {gain_text(row)}; {by[0].lower() + by[1:]} sees none beyond noise: "
            f"{gain}. The gain may be painted for that classifier."
        )
    return LOOK, f"{by} sees no gain beyond noise, nor does its own classifier: {gain}."


def _painted(row: Row) -> list[tuple[str, str]]:
    found = []
    for key, many, words in (
        ("peak_precision", "invented", "it shows more peaks that theory does not have"),
        ("peak_recall", "lost", "it loses peaks that theory has"),
    ):
        before, after = row.get(f"{key}_raw"), row.get(key)
        if before is not None and after is not None and after < before - FALL:
            number = f"{row[f'{many}_raw']:.1f} → {row[many]:.1f} {many} a pattern"
            name = key.replace("_", " ").capitalize()
            found.append((WARNING, f"{name} fell, {100 * before:.0f} → {100 * after:.0f} %: {words} ({number})."))
    narrow, narrow_before = row.get("narrow_share"), row.get("narrow_share_raw")
    if narrow is not None and narrow > (narrow_before or 0.0) + FALL:
        change = f"{100 * (narrow_before or 0.0):.0f} → {100 * narrow:.0f} % of the peaks"
        found.append((WARNING, f"Features narrower than the instrument allows became more: {change}."))
    return found


def _changed(row: Row) -> list[tuple[str, str]]:
    found = []
    before, after = row.get("ideal_accuracy"), row.get("ideal_accuracy_refined")
    if before is not None and after is not None and after < before - FALL:
        change = f"{100 * before:.1f} → {100 * after:.1f} %"
        found.append((WARNING, f"Ideal patterns are recognised less often after refinement: {change}."))
    if (same := row.get("identity_ncc")) is not None and same < SAME:
        found.append(
            (WARNING, f"It changes ideal patterns, in which nothing is to be mended: NCC of R(x) and x {same:.2f}.")
        )
    return found


def _sure(row: Row) -> list[tuple[str, str]]:
    found = []
    for key, what in (("noise_entropy", "pure noise"), ("hump_entropy", "amorphous humps")):
        before, after = row.get(f"{key}_raw"), row.get(key)
        if before is None or after is None:
            continue
        change = f"entropy {before:.2f} → {after:.2f} of 1"
        if after < before - ENTROPY_FALL:
            found.append((WARNING, f"It makes the classifier surer of {what}: {change}."))
        elif after < SURE:
            found.append((LOOK, f"The classifier is sure of {what}, as it was before refinement: {change}."))
    return found


def _collapse(row: Row, truth: Mapping[str, int]) -> list[tuple[str, str]]:
    counts = row.get("predicted_counts") or {}
    said, true = effective_classes(counts), effective_classes(truth)
    if not counts or not row.get("classifier") or said >= COLLAPSED * true:
        return []
    system = max(counts, key=lambda name: counts[name])
    return [
        (
            WARNING,
            f"{counts[system]} of {sum(counts.values())} patterns are called {system}, where {truth.get(system, 0)} "
            f"are: the predictions have collapsed (onto {said:.1f} of {true:.1f} classes, effective numbers).",
        )
    ]


def _change(row: Row, measure: Measure) -> str:
    values = [row[key] for key in (measure.before, measure.key) if row.get(key) is not None]
    if row.get(measure.key) is None:
        return "–"
    if measure.percent:
        return " → ".join(f"{100 * value:.1f}" for value in values) + " %"
    return " → ".join(f"{value:.2f}" for value in values)
