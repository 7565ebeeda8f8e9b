"""Whether a refiner may become the champion of the registry, or stays a challenger, with the reasons in words.

A champion has beaten, on the same test patterns and beyond the paired interval, the present one and the best of the
simple methods; an independent judge sees its gain, too; its probabilities are calibrated; and it knows each crystal
system better than guessing does. What can't be checked does not count as kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from imitation_refinement.options import StageConfig
from imitation_refinement.results import metrics
from imitation_refinement.results.wording import Row, listed, number, percent, points, points_interval, row_label
from imitation_refinement.vocabulary import Kind, Method
from imitation_refinement.xrd.crystal import CLASS_INDEX, CRYSTAL_SYSTEMS, N_CLASSES, CrystalSystem

CHAMPION, CHALLENGER = "champion", "challenger"
# What needs no refiner and no adaptation. Those with the tested material in their library know what no refiner may
# know (its classifier is refused where it has learnt a tested material), so they set no bar; the report shows them.
SIMPLE = frozenset(
    {method for method in Method if method.kind is Kind.ANSWERS} - {Method.NEAREST_IN_LIBRARY, Method.SEARCH_IN_LIBRARY}
    | {Method.STANDARD, Method.RAW, Method.ALIGNED, Method.DWT}
)


class Bounds(StageConfig):
    """What a champion must keep beside beating others."""

    judge_share: float = Field(
        0.5, ge=0, le=1, description="least share of a champion's gain over raw that an independent judge sees, too"
    )
    # Of 150 patterns with perfect probabilities, 95 of 100 draws have an error below 0.13, of 1,500 below 0.04.
    calibration_error: float = Field(0.15, ge=0, le=1, description="greatest calibration error of a champion")
    class_recall: float = Field(
        1 / N_CLASSES, ge=0, le=1, description="least recall of each crystal system of a champion; 1/7 is guessing"
    )


@dataclass(frozen=True)
class Answers:
    """A method's answers to the test patterns.

    Attributes:
        name: what it is called, for a person.
        pattern_ids: shape (n,), each once.
        truth: class indices, shape (n,).
        predicted: class indices, shape (n,).
        test: the digest of the test data; see :func:`tested_digest`.
    """

    name: str
    pattern_ids: Sequence[str]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    test: str


@dataclass(frozen=True)
class Reason:
    """One condition of a champion: what is asked, whether it is kept, and what was found, in words."""

    about: str
    kept: bool
    words: str


FIRST = Reason("champion", True, "There is no champion yet.")


@dataclass(frozen=True)
class Decision:
    """What a candidate becomes, :data:`CHAMPION` or :data:`CHALLENGER`, and why."""

    alias: str
    reasons: tuple[Reason, ...]

    @property
    def words(self) -> str:
        """The decision in a sentence: what was not kept, or that all was."""
        missed = [reason.words for reason in self.reasons if not reason.kept]
        return " ".join(missed) if missed else " ".join(reason.words for reason in self.reasons)


def decide(
    candidate: Answers,
    row: Row,
    baselines: Sequence[tuple[Row, Answers]],
    champion: Answers | None,
    bounds: Bounds,
    seed: int,
) -> Decision:
    """What a candidate becomes.

    Args:
        candidate: its answers.
        row: its row of the results.
        baselines: rows and answers of the run's simple methods (:data:`SIMPLE`).
        champion: the present champion's answers; None where there is no champion.
        bounds: of judge, calibration and recalls.
        seed: of the bootstrap.
    """
    reasons = (*standing(candidate, row, baselines, bounds, seed), against_champion(candidate, champion, seed))
    return Decision(CHAMPION if all(reason.kept for reason in reasons) else CHALLENGER, reasons)


def standing(
    candidate: Answers, row: Row, baselines: Sequence[tuple[Row, Answers]], bounds: Bounds, seed: int
) -> tuple[Reason, ...]:
    """All conditions but the present champion; arguments as for :func:`decide`."""
    return (
        _against_baselines(candidate, baselines, seed),
        _judged(row, bounds.judge_share),
        _calibrated(row, bounds.calibration_error),
        _recalls(candidate, bounds.class_recall),
    )


def against_champion(candidate: Answers, champion: Answers | None, seed: int) -> Reason:
    """Whether the candidate beats the present champion on the same test data beyond the paired interval."""
    if champion is None:
        return FIRST
    if champion.test != candidate.test:
        return other_data(champion.name)
    return _beats("champion", f"the champion, {champion.name}", candidate, champion, seed)


def other_data(champion: str) -> Reason:
    """A champion that was tested on other data can't be beaten."""
    return Reason("champion", False, f"The champion, {champion}, was tested on other test data: not comparable.")


def simple(rows: Sequence[Row]) -> list[Row]:
    """The rows that a champion must beat the best of."""
    return [row for row in rows if row["method"] in SIMPLE]


def recalls(answers: Answers) -> dict[str, float]:
    """The share of each crystal system's test patterns that are recognised; systems without one are left out."""
    counts = metrics.confusion(answers.truth, answers.predicted)
    return {
        str(system): float(row[k] / row.sum())
        for k, (system, row) in enumerate(zip(CRYSTAL_SYSTEMS, counts, strict=True))
        if row.sum()
    }


def judge_gap(row: Row) -> float | None:
    """How much of a refiner's gain over raw, 0 to 1, its own classifier sees and the judge does not; None unjudged."""
    if row.get("gain") is None or row.get("judge_gain") is None:
        return None
    return float(row["gain"] - row["judge_gain"])


def tested_digest(pattern_ids: Sequence[str], truth: NDArray[np.int64], intensity: NDArray[np.float32]) -> str:
    """SHA-256 of a test part, whatever its order and its file: patterns, shape (n, points), their ids and classes."""
    sha = hashlib.sha256()
    for i in np.argsort(np.asarray(pattern_ids, str), kind="stable"):
        sha.update(f"{pattern_ids[i]}\0{int(truth[i])}\0".encode())
        sha.update(np.ascontiguousarray(intensity[i], "<f4").tobytes())
    return sha.hexdigest()


def _against_baselines(candidate: Answers, baselines: Sequence[tuple[Row, Answers]], seed: int) -> Reason:
    """The best of the simple methods is taken by the test part: the hardest to beat, never the luckiest for us."""
    about = "baseline"
    if not baselines:
        return Reason(about, False, "There is no simple method to compare it with.")
    row, best = max(baselines, key=lambda pair: (pair[1].predicted == pair[1].truth).mean())
    return _beats(about, f"the best simple method, {row_label(row)}", candidate, best, seed)


def _beats(about: str, whom: str, candidate: Answers, other: Answers, seed: int) -> Reason:
    order, others = ({name: i for i, name in enumerate(x.pattern_ids)} for x in (candidate, other))
    if set(order) != set(others):
        return Reason(about, False, f"It was not tested on the patterns that {whom} was tested on: not comparable.")
    place = [others[name] for name in candidate.pattern_ids]
    if not np.array_equal(candidate.truth, other.truth[place]):
        return Reason(about, False, f"Test patterns have other crystal systems than where {whom} was tested.")
    right = candidate.predicted == candidate.truth
    difference, low, high = metrics.paired_bootstrap_difference(right, (other.predicted == other.truth)[place], seed)
    found = f"{points(difference)} ({points_interval(low, high)}) points on {len(right)} test patterns"
    if low > 0:
        return Reason(about, True, f"It beats {whom}: {found}.")
    verb = "does worse than" if high < 0 else "does not beat"
    return Reason(about, False, f"It {verb} {whom}{'' if high < 0 else ' beyond noise'}: {found}.")


def _judged(row: Row, least: float) -> Reason:
    about, gap = "judge", judge_gap(row)
    if gap is None:
        return Reason(about, False, "No independent judge has seen its patterns.")
    seen = f"its own classifier gains {points(row['gain'])} points, the judge {points(row['judge_gain'])}"
    if row["gain"] <= 0:
        return Reason(about, False, f"There is no gain to judge: {seen}.")
    if row["judge_gain"] >= least * row["gain"]:
        return Reason(about, True, f"An independent judge sees the gain, too: {seen}.")
    asked = f"less than {percent(least, 0)} % of it"
    return Reason(about, False, f"An independent judge sees {asked}, so it may be painted: {seen}.")


def _calibrated(row: Row, most: float) -> Reason:
    about, error = "calibration", row.get("calibration_error")
    if error is None:
        return Reason(about, False, "It gives no probabilities.")
    if error <= most:
        return Reason(about, True, f"Its probabilities mean what they say: calibration error {number(error)}.")
    found = f"calibration error {number(error)}, where {number(most)} is the most"
    return Reason(about, False, f"Its probabilities don't mean what they say: {found}.")


def _recalls(candidate: Answers, least: float) -> Reason:
    about, found = "recalls", recalls(candidate)
    low = [f"{system} {percent(share, 0)} %" for system, share in found.items() if share < least]
    if low:
        words = f"Crystal systems recognised too seldom: {listed(low)}, where {percent(least, 0)} % is the least."
        return Reason(about, False, words)
    untested = [str(system) for system in CRYSTAL_SYSTEMS if str(system) not in found]
    if untested:
        return Reason(about, False, f"No test pattern is {listed(untested)}: whether it knows these is open.")
    system = min(found, key=lambda name: found[name])
    return Reason(
        about, True, f"It knows all crystal systems; the worst is {system} with {percent(found[system], 0)} %."
    )


def answers_of(
    name: str, predictions: Mapping[str, Sequence[str]], test: str, where: object = "predictions"
) -> Answers:
    """The answers of one method from columns of ``predictions.csv``.

    Args:
        name: what it is called.
        predictions: columns ``pattern_id``, ``crystal_system`` and ``predicted`` of its rows.
        test: the digest of the test data.
        where: the file, for messages.

    Raises:
        InputError: if a crystal system is none.
    """
    truth, predicted = (
        np.array([CLASS_INDEX[CrystalSystem.parse(system, str(where))] for system in predictions[column]], np.int64)
        for column in ("crystal_system", "predicted")
    )
    return Answers(name, [str(i) for i in predictions["pattern_id"]], truth, predicted, test)
