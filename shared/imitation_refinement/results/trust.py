"""How far the selected refiner of a run is to be believed, in words of who has measured the patterns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imitation_refinement.results.gate import Bounds
from imitation_refinement.results.measures import FINE, LOOK, TONES, WARNING, collapse, control, judged, painted
from imitation_refinement.results.summary import selected_row
from imitation_refinement.results.wording import (
    BETTER,
    WORSE,
    Row,
    gain_of,
    listed,
    percent,
    share_interval,
    words_of,
)
from imitation_refinement.vocabulary import Variant

FEW, ENOUGH = 100, 400  # patterns: half a 95 % interval is at most 10 points with the first, 5 with the second
SIMULATED = "built-in"  # the source of patterns that a virtual diffractometer measured

Line = tuple[str, str]  # tone, sentence


def selected(results: Mapping[str, Any]) -> Row | None:
    """The row of the refiner that was selected; None where the results name none."""
    return selected_row(results) if results.get("selected") else None


def cautions(results: Mapping[str, Any]) -> list[Line]:
    """What speaks for and against believing the selected refiner, what is worst first.

    Args:
        results: the content of ``results.json``.

    Returns:
        (tone, sentence) each; empty where no refiner was selected.
    """
    row = selected(results)
    if row is None:
        return []
    found = [
        _second_opinion(row),
        *_peaks(row),
        _percentages(row, results),
        *([_systems(row, results)] if row.get("recalls") else []),
        *collapse(row, results.get("true_counts", {})),
        _number(row),
        _control(results, row),
        *_kept_apart(results),
    ]
    return sorted(found, key=lambda line: -TONES.index(line[0]))


def tone_of(row: Row, lines: list[Line]) -> str:
    """What a glance shall say of a refiner: fine where it is better than raw and than others, and nothing warns."""
    against = [words_of(row), words_of(row, "gain_over_baseline", "p_baseline")]
    if WORSE in against:
        return WARNING
    unclear = against != [BETTER, BETTER] or any(tone == WARNING for tone, _ in lines)
    return LOOK if unclear else FINE


def _second_opinion(row: Row) -> Line:
    """The judge, whose name says little to who does not know networks."""
    tone, _ = judged(row, {})
    if row.get("judge_gain") is None:
        return tone, (
            "No second network was asked: whether the refined patterns look more like the crystal to anybody but the "
            "network that they were made for is open."
        )
    second, gain = "A second network, which took no part in the training,", gain_of(row, "judge_gain", "judge_p_value")
    words, own = words_of(row, "judge_gain", "judge_p_value"), words_of(row) == BETTER
    if words == BETTER:
        return tone, f"{second} recognises the refined patterns more often than the measured ones, too: {gain}."
    if words == WORSE:
        return tone, f"{second} recognises the refined patterns less often than the measured ones: {gain}."
    if own:
        return tone, (
            f"Only the network that the refiner learnt through sees a gain, {gain_of(row)}. {second} sees none beyond "
            f"noise: {gain}. The refiner may paint what its own network likes."
        )
    return tone, f"{second} sees no gain beyond noise, either: {gain}."


def _peaks(row: Row) -> list[Line]:
    if row.get("peak_precision") is None:
        return [(LOOK, "Whether peaks were invented or lost is open: no tested pattern has a known structure.")]
    if warnings := painted(row):
        return warnings
    shares = [
        f"{percent(row[f'{key}_raw'], 0)} → {percent(row[key], 0)} %" for key in ("peak_precision", "peak_recall")
    ]
    return [(FINE, f"No peaks are painted: {shares[0]} of the peaks are in theory, {shares[1]} of theory’s are there.")]


def _percentages(row: Row, results: Mapping[str, Any]) -> Line:
    """Calibration."""
    error = row.get("calibration_error")
    if error is None:
        return LOOK, "It gives no probabilities."
    bins = row.get("reliability") or {}
    signed = [n * (c - a) for n, c, a in zip(*(bins.get(k, ()) for k in ("n", "confidence", "accuracy")), strict=True)]
    side = "too sure of itself" if sum(signed) > 0 else "not sure enough of itself"
    off = f"off by {percent(error, 0)} points on average"
    kept = {reason["about"]: reason["kept"] for reason in results.get("gate", {}).get("reasons", ())}
    if kept.get("calibration", error <= Bounds().calibration_error):
        return FINE, f"Its probabilities are {off}: within the bound that a champion has to keep."
    return WARNING, f"Its probabilities don’t mean what they say: they are {off}; mostly it is {side}."


def _systems(row: Row, results: Mapping[str, Any]) -> Line:
    recalls, there = row["recalls"], results.get("true_counts", {})
    seldom = [
        f"{name} ({round(share * there[name])} of {there[name]})" if there.get(name) else name
        for name, share in recalls.items()
        if share < Bounds().class_recall
    ]
    untested = [name for name, n in there.items() if not n]
    if seldom:
        return WARNING, f"Hardly ever recognised: {listed(seldom)}."
    if untested:
        return LOOK, f"No test pattern is {listed(untested)}: whether it knows these is open."
    worst = min(recalls, key=lambda name: recalls[name])
    return FINE, f"It recognises every crystal system; {worst} most seldom, {percent(recalls[worst], 0)} %."


def _number(row: Row) -> Line:
    n = row["n_test"]
    interval = f"{share_interval(row['accuracy_low'], row['accuracy_high'])} %"
    if n >= ENOUGH:
        return FINE, f"{n} patterns were tested; the true share of right answers is likely within {interval}."
    tone, only = (WARNING, "Only ") if n < FEW else (LOOK, "")
    return tone, (
        f"{only}{n} patterns were tested, each worth {percent(1 / n)} points: the true share of right answers may be "
        f"anywhere within {interval}, and another training would give another number."
    )


def _control(results: Mapping[str, Any], row: Row) -> Line:
    controls = [other for other in results["rows"] if other.get("variant") == Variant.SHUFFLED_LABELS]
    if not controls:
        return LOOK, "No refiner was trained on shuffled labels: whether labels are what it learns from is open."
    nearest = min(controls, key=lambda other: other.get("classifier") != row.get("classifier"))
    tone, _ = control(nearest)
    if nearest.get("gain") is None:
        return tone, "The refiner of shuffled labels has nothing to be compared with."
    gains = "gains nothing" if tone == FINE else "gains, too"
    return tone, f"A refiner that learnt from labels in random order {gains}: {gain_of(nearest)}."


def _kept_apart(results: Mapping[str, Any]) -> list[Line]:
    found = [
        (
            FINE,
            "No tested material was learnt from: names and lines were compared when the data were split, and a network "
            "that knows one is refused.",
        )
    ]
    imperfect = results.get("data", {}).get("imperfect", {})
    if imperfect.get("source") == SIMULATED and not imperfect.get("test"):
        found.append(
            (
                LOOK,
                "The tested patterns come from a virtual diffractometer: nothing is said of real samples and "
                "instruments until measured ones are tested.",
            )
        )
    return found


def headline(results: Mapping[str, Any], names: Mapping[Any, str]) -> str:
    """What the selected refiner is worth beside the best method without refinement, in one or two sentences.

    Args:
        results: the content of ``results.json``.
        names: of rows, what a person calls them.
    """
    row = selected(results)
    if row is None:
        return "This run has selected no refiner."
    first = (
        f"{names[row['name']]}, the refiner that this run selected, names the crystal system of "
        f"{percent(row['accuracy'])} % of the test patterns"
    )
    rows = {other["name"]: other for other in results["rows"]}
    best = rows.get(row.get("best_baseline"))
    if best is None or row.get("gain_over_baseline") is None:
        return f"{first}. No method without refinement was tested beside it."
    other, share = names[best["name"]], f"{percent(best['accuracy'])} %"
    words = words_of(row, "gain_over_baseline", "p_baseline")
    if words == BETTER:
        return f"{first}: more than any method without refinement, of which {other} is the best with {share}."
    if words == WORSE:
        return f"{first}. {other}, without refinement, names {share}: refinement is not worth its while here."
    if row["accuracy"] == best["accuracy"]:
        return f"{first}. So does {other}, without refinement."
    return f"{first}. {other}, without refinement, names {share}; the difference may be chance."
