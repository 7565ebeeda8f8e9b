"""How results are said: names of rows, numbers, intervals, p, and the one rule of what is more than noise.

What is not known is written –, and a minus is a true one. Rows are those of ``results.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imitation_refinement.vocabulary import Architecture, Block, Distance, Measure, Method, Supervision, Unit, Variant

Row = Mapping[str, Any]

MISSING = "–"
SIGNIFICANT = 0.05  # p below which a paired difference may be called more than noise
BETTER, WORSE, NOISE = "better", "worse", "within noise"
CLOSER, FARTHER = "closer", "farther"  # to theory


def method_label(row: Row) -> str:
    """What a row's method is called, its supervision and variant included: ``IR, targeted, 30 labels``."""
    parts = [Method(row["method"]).label]
    if row.get("supervision"):
        parts.append(Supervision(row["supervision"]).label)
    if row.get("variant"):
        parts.append(Variant(row["variant"]).label)
    if row.get("labelled"):
        parts.append(f"{row['labelled']} labels")
    return ", ".join(parts)


def classifier_label(row: Row) -> str:
    """What a row's classifier is called; – where a method has none."""
    return Architecture(row["classifier"]).label if row.get("classifier") else MISSING


def row_label(row: Row) -> str:
    """A row's classifier and method: ``DenseNet: IR, targeted``; without a classifier the method alone."""
    return f"{classifier_label(row)}: {method_label(row)}" if row.get("classifier") else method_label(row)


def block(row: Row) -> Block:
    """The block of the tables that a row stands in."""
    if row.get("labelled"):
        return Block.FEWER_LABELS
    if not Variant(row.get("variant") or "").named_form:
        return Block.VARIED
    return Supervision(row["supervision"]).block if row.get("supervision") else Method(row["method"]).block


def learns_from_labels(row: Row) -> bool:
    """Whether a row's method learns from labels of imperfect patterns."""
    word = Supervision(row["supervision"]) if row.get("supervision") else Method(row["method"])
    return word.learns_from_labels


def listed(names: Sequence[str]) -> str:
    """Names in a row: ``ℓ1, ℓ2 and KL``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def percent(share: float | None, digits: int = 1) -> str:
    """A share in per cent, without the sign: ``71.2``."""
    return MISSING if share is None else f"{100 * share:.{digits}f}"


def number(value: float | None, digits: int = 2) -> str:
    """A number: ``0.83``."""
    return MISSING if value is None else _signed(f"{value:.{digits}f}")


def distance(value: float | None, which: Distance) -> str:
    """A distance to theory, with its own decimals."""
    return number(value, which.decimals)


def points(difference: float | None) -> str:
    """A difference of shares in percentage points: ``+9.2``."""
    return MISSING if difference is None else _signed(f"{100 * difference:+.1f}")


def change(relative: float | None, digits: int = 1) -> str:
    """A relative change: ``−32.0 %``."""
    return MISSING if relative is None else _signed(f"{100 * relative:+.{digits}f} %")


def share_interval(low: float, high: float) -> str:
    """The interval of a share in per cent: ``62.0–78.0``."""
    return f"{percent(low)}–{percent(high)}"


def points_interval(low: float, high: float) -> str:
    """The interval of a difference in percentage points: ``+3.0 to +15.1``."""
    return f"{points(low)} to {points(high)}"


def p_value(p: float | None) -> str:
    """``0.012``; ``< 0.001`` below that."""
    return MISSING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """``p = 0.012``; ``p < 0.001`` below that."""
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def gain(difference: float, low: float, high: float, p: float) -> str:
    """A difference in accuracy: ``+9.2 (+6.1 to +12.0) points, p < 0.001``."""
    return f"{points(difference)} ({points_interval(low, high)}) points, {p_equals(p)}"


def in_words(low: float | None, high: float | None, p: float | None) -> str:
    """``better`` or ``worse`` where test and interval agree that a difference is more than noise.

    That is where McNemar's p is below :data:`SIGNIFICANT` and the 95 % interval excludes 0. Without a test or an
    interval nothing is called more than noise.
    """
    if p is None or low is None or high is None or p >= SIGNIFICANT or low * high <= 0:
        return NOISE
    return BETTER if low > 0 else WORSE


def gain_of(row: Row, gain_key: str = "gain", p_key: str = "p_value") -> str:
    """:func:`gain` of a row's fields."""
    return gain(row[gain_key], row[f"{gain_key}_low"], row[f"{gain_key}_high"], row[p_key])


def words_of(row: Row, gain_key: str = "gain", p_key: str = "p_value") -> str:
    """:func:`in_words` of a row's fields."""
    return in_words(row.get(f"{gain_key}_low"), row.get(f"{gain_key}_high"), row.get(p_key))


def measure_text(value: float | None, measure: Measure) -> str:
    """A measure of honesty in its unit, which is not written."""
    if measure.unit is Unit.PERCENT:
        return percent(value)
    return points(value) if measure.unit is Unit.POINTS else number(value)


def _signed(text: str) -> str:
    return text.replace("-", "−")
