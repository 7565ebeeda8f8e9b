"""What the measures of honesty say in words, and where something smells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imitation_refinement.results.table import Table
from imitation_refinement.results.wording import (
    BETTER,
    MISSING,
    NOISE,
    WORSE,
    Row,
    classifier_label,
    gain_of,
    measure_text,
    method_label,
    number,
    percent,
    row_label,
    words_of,
)
from imitation_refinement.vocabulary import Measure, Method, Variant

FALL = 0.02  # of a share: what is called a fall
ENTROPY_FALL = 0.05
SURE = 0.5  # entropy below which an answer to nothing is called sure
SAME = 0.95  # NCC of R(x) and x, for an ideal x, below which R is said to change it
COLLAPSED = 0.5  # effective number of predicted classes as a share of that of the true ones

FINE, LOOK, WARNING = "fine", "look", "warning"
TONES = (FINE, LOOK, WARNING)


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
    return sorted(found, key=lambda row: (bool(row.get("variant")), row["method"] != Method.IR))


def measures_table(rows: Sequence[Row], explained: bool = True) -> Table:
    """Rows of one classifier whose honesty was measured: a column each, their measures as ``before → after``.

    Args:
        rows: the rows; others are left out.
        explained: whether it is said below each measure what it is.
    """
    shown = measured(rows)
    lines = []
    for measure in Measure:
        cells = [_change(row, measure) for row in shown]
        if measure.meaning and set(cells) - {MISSING}:
            lines.append([f"{measure.label}\n{measure.meaning}" if explained else measure.label, *cells])
    return Table("", "", (classifier_label(shown[0]), *map(method_label, shown)), [("", lines)])


def findings(rows: Sequence[Row], truth: Mapping[str, int]) -> list[Finding]:
    """What smells, method by method: the shuffled-label control, those that were measured, what else has collapsed.

    Args:
        rows: all rows of the results.
        truth: crystal system → patterns of the test part that are it.
    """
    names = {str(row.get("name")): row_label(row) for row in rows}
    controls = [row for row in rows if row.get("variant") == Variant.SHUFFLED_LABELS]
    found = [_finding(f"Control: {row_label(row)}", [control(row)]) for row in controls]
    if not controls:
        text = "This run holds no refiner trained on shuffled labels: whether labels are what it learns from is open."
        found.append(_finding("Control: shuffled labels", [(LOOK, text)]))
    own = [row for row in measured(rows) if row not in controls]
    for row in own:
        lines = [judged(row, names), *painted(row), *_changed(row), *_sure(row), *collapse(row, truth)]
        found.append(_finding(row_label(row), lines))
    others = [row for row in rows if row not in own and not row.get("variant") and not row.get("labelled")]
    collapsed = [(tone, f"{row_label(row)}: {text}") for row in others for tone, text in collapse(row, truth)]
    return [*found, _finding("Other methods", collapsed)] if collapsed else found


def effective_classes(counts: Mapping[str, int]) -> float:
    """exp of the entropy of the counts' shares: 7 for seven classes equally often, 1 for a single one, 0 for none."""
    n = np.array([value for value in counts.values() if value > 0], float)
    return float(np.exp(-(n / n.sum() * np.log(n / n.sum())).sum())) if len(n) else 0.0


def _finding(subject: str, lines: Sequence[tuple[str, str]]) -> Finding:
    return Finding(max((tone for tone, _ in lines), key=TONES.index), subject, tuple(lines))


def control(row: Row) -> tuple[str, str]:
    """What the refiner of shuffled labels says: tone, sentence."""
    if row.get("gain") is None:
        return LOOK, "There is no raw row to compare it with."
    gain = f"{gain_of(row)} against raw"
    words = words_of(row)
    if words == NOISE:
        return FINE, f"Trained on labels that mean nothing, it gains nothing beyond noise: {gain}. So it should be."
    if words == BETTER:
        return WARNING, (
            f"Trained on labels that mean nothing, it still gains: {gain}. What the refiners gain is not all learned "
            "from labels; some of it is cleaning, or luck of the test part."
        )
    return FINE, f"Trained on labels that mean nothing, it loses: {gain}. No gain, as it should be."


def judged(row: Row, names: Mapping[str, str]) -> tuple[str, str]:
    """What the judge says of a refiner, whose names a person reads in ``names``: tone, sentence."""
    if row.get("judge_accuracy") is None:
        return LOOK, "No independent judge was given: whether the gain is painted for its own classifier is open."
    gain = gain_of(row, "judge_gain", "judge_p_value")
    by = f"The judge ({names.get(row['judge'], row['judge'])})" if row.get("judge") else "The judge"
    words = words_of(row, "judge_gain", "judge_p_value")
    if words == WORSE:
        return WARNING, f"{by} recognises the patterns less often than raw ones: {gain}."
    if row["method"] == Method.GTA:
        if words == BETTER:
            return FINE, f"{by} recognises the generated patterns more often than raw ones: {gain}."
        return LOOK, f"{by} recognises the generated patterns no more often than raw ones: {gain}."
    own = words_of(row) == BETTER
    if words == BETTER:
        seen = "sees the gain, too" if own else "sees a gain that its own classifier does not"
        return FINE, f"{by} {seen}: {gain}."
    if own:
        return WARNING, (
            f"Its own classifier sees a gain, {gain_of(row)}; {by[0].lower() + by[1:]} sees none beyond noise: "
            f"{gain}. The gain may be painted for that classifier."
        )
    return LOOK, f"{by} sees no gain beyond noise, nor does its own classifier: {gain}."


def painted(row: Row) -> list[tuple[str, str]]:
    """Peaks that were invented, lost, or too narrow for the instrument, as warnings."""
    found = []
    for key, many, words in (
        ("peak_precision", "invented", "it shows more peaks that theory does not have"),
        ("peak_recall", "lost", "it loses peaks that theory has"),
    ):
        before, after = row.get(f"{key}_raw"), row.get(key)
        if before is not None and after is not None and after < before - FALL:
            count = f"{number(row[f'{many}_raw'], 1)} → {number(row[many], 1)} {many} a pattern"
            fall = f"{Measure(key).label} fell, {percent(before, 0)} → {percent(after, 0)} %"
            found.append((WARNING, f"{fall}: {words} ({count})."))
    narrow, narrow_before = row.get("narrow_share"), row.get("narrow_share_raw")
    if narrow is not None and narrow > (narrow_before or 0.0) + FALL:
        change = f"{percent(narrow_before or 0.0, 0)} → {percent(narrow, 0)} % of the peaks"
        found.append((WARNING, f"Features narrower than the instrument allows became more: {change}."))
    return found


def _changed(row: Row) -> list[tuple[str, str]]:
    found = []
    before, after = row.get("ideal_accuracy"), row.get("ideal_accuracy_refined")
    if before is not None and after is not None and after < before - FALL:
        change = f"{percent(before)} → {percent(after)} %"
        found.append((WARNING, f"Ideal patterns are recognised less often after refinement: {change}."))
    if (same := row.get("identity_ncc")) is not None and same < SAME:
        found.append(
            (WARNING, f"It changes ideal patterns, in which nothing is to be mended: NCC of R(x) and x {number(same)}.")
        )
    return found


def _sure(row: Row) -> list[tuple[str, str]]:
    found = []
    for key, what in (("noise_entropy", "pure noise"), ("hump_entropy", "amorphous humps")):
        before, after = row.get(f"{key}_raw"), row.get(key)
        if before is None or after is None:
            continue
        change = f"entropy {number(before)} → {number(after)} of 1"
        if after < before - ENTROPY_FALL:
            found.append((WARNING, f"It makes the classifier surer of {what}: {change}."))
        elif after < SURE:
            found.append((LOOK, f"The classifier is sure of {what}, as it was before refinement: {change}."))
    return found


def collapse(row: Row, truth: Mapping[str, int]) -> list[tuple[str, str]]:
    """Whether a method calls nearly everything by a few names, as a warning."""
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
    if row.get(measure) is None:
        return MISSING
    values = [row[key] for key in (measure.before, measure) if row.get(key) is not None]
    written = " → ".join(measure_text(value, measure) for value in values)
    return f"{written} {measure.unit}".rstrip()
