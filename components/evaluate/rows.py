"""The rows of the results: accuracies with their intervals, paired tests, distances to theory, honesty."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from components.evaluate.config import EvaluateConfig
from components.evaluate.methods import Entry, Parts
from imitation_refinement.data.datasets import Dataset
from imitation_refinement.progress import progress
from imitation_refinement.results import gate, metrics
from imitation_refinement.results.honesty import honesty
from imitation_refinement.vocabulary import Distance, Measure, Method
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, N_CLASSES

SURENESS = (0.9, 0.75, 0.5)  # shares of the patterns, the surest first, whose accuracy is kept
Row = dict[str, Any]
Distances = Mapping[Distance, NDArray[np.float64]]


def result_rows(methods: Sequence[Entry], parts: Parts, ideal: Dataset, config: EvaluateConfig) -> list[Row]:
    """One row of ``results.json`` a method, all with the same statistics; those that don't apply are None.

    Args:
        methods: everything that is compared.
        parts: the imperfect patterns.
        ideal: ideal patterns that no training has seen.
        config: resamples and seed.
    """
    raw = {m.classifier: m for m in methods if m.method is Method.RAW}
    plain = {(m.classifier, m.supervision): m for m in methods if m.plain}
    baseline, in_library = best_baseline(methods, parts.test), best_baseline(methods, parts.test, knows_material=True)

    def row_of(method: Entry) -> Row:
        refined = method.method is Method.IR
        row = method.row() | _accuracy(method, parts.test, config)
        row |= _medians(distances(method, parts.test))
        row["n_theory"] = int(np.isfinite(theory(parts.test)[:, 0]).sum())
        row |= _against(method, raw.get(method.classifier), parts.test, config.seed, "gain", "p_value")
        row["best_baseline"] = baseline.name if refined and baseline else None
        row |= _against(
            method, baseline if refined else None, parts.test, config.seed, "gain_over_baseline", "p_baseline"
        )
        row["in_library"] = in_library.name if refined and in_library else None
        row |= _against(
            method, in_library if refined else None, parts.test, config.seed, "gain_over_library", "p_library"
        )
        whole = plain.get((method.classifier, method.supervision)) if refined and not method.plain else None
        row["against_plain"] = _against(method, whole, parts.test, config.seed, "gain", "p_value") if whole else None
        if method.usable or method.variant.control or (method.method is Method.GTA and method.refiner):
            row |= _honesty(method, judge(method, methods), parts.test, ideal, config.seed)
        row["predicted_counts"] = counts(method.predicted)
        row["recalls"] = gate.recalls(answers(method, parts.test))
        told = method.probabilities
        row |= _sureness(told, parts.test.labels)
        row["validation_accuracy"] = method.validation_accuracy
        return row

    # Methods do not touch each other: cores that the networks leave free compare another one.
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) // torch.get_num_threads())) as pool:
        return list(progress(pool.map(row_of, methods), "compare", len(methods), "methods"))


def _sureness(told: NDArray[np.float32] | None, truth: NDArray[np.int64]) -> Row:
    """Calibration of probabilities, shape (n, 7), and accuracy where only the surest are answered."""
    if told is None:
        return {"calibration_error": None, "reliability": None, "accuracy_of_surest": None}
    bins, sure = metrics.reliability(told, truth), told.max(axis=1)
    right = told.argmax(axis=1) == truth
    return {
        "calibration_error": bins.error,
        "reliability": {name: getattr(bins, name).tolist() for name in ("n", "confidence", "accuracy")},
        "accuracy_of_surest": {f"{part:g}": metrics.accuracy_of_surest(sure, right, part) for part in SURENESS},
    }


def best_baseline(methods: Sequence[Entry], test: Dataset, knows_material: bool = False) -> Entry | None:
    """The method without imitation refinement that is best on the test part; None where there is none.

    Search-match answers to the test part alone, so the validation part can't choose among all. The best of many on the
    test part is a lucky one: what a refiner gains over it is more likely too low than too high.

    Args:
        methods: all.
        test: the test part.
        knows_material: whether the best of those is asked for that may have the tested material in their library, or
            of the others.
    """
    known = [m for m in methods if m.method is not Method.IR and m.method.knows_material == knows_material]
    return max(known, key=lambda m: (m.predicted == test.labels).mean(), default=None)


def judge(method: Entry, methods: Sequence[Entry]) -> Entry | None:
    """Who judges refined patterns independently: a classifier of another architecture that saw ideal patterns only.

    The standard one, of another seed too, where it is given; else the prototypical one; None if neither is.
    """
    others = [m for m in methods if m.classifier and m.classifier != method.classifier]
    return next((m for name in (Method.STANDARD, Method.RAW) for m in others if m.method is name), None)


def theory(data: Dataset) -> NDArray[np.float32]:
    """Theoretical patterns of an imperfect dataset, shape (n, points), NaN where there is none."""
    assert data.theory is not None, "an imperfect dataset has a theory column"
    return data.theory


def distances(method: Entry, test: Dataset) -> Distances:
    """Each test pattern's distances to theory, shape (n,); nothing for a method that leaves patterns as they are."""
    return {} if method.patterns is None else metrics.distances(method.patterns, theory(test))


def counts(classes: NDArray[np.int64]) -> dict[str, int]:
    """How many patterns each crystal system has."""
    found = np.bincount(classes, minlength=N_CLASSES)
    return {str(system): int(n) for system, n in zip(CRYSTAL_SYSTEMS, found, strict=True)}


def answers(method: Entry, test: Dataset, tested: str = "") -> gate.Answers:
    """A method's answers to the test part, for the gate; ``tested`` is its digest."""
    return gate.Answers(method.name, test.rows["pattern_id"].tolist(), test.labels, method.predicted, tested)


def predictions(methods: Sequence[Entry], test: Dataset) -> pd.DataFrame:
    """Every test pattern's answer by every method: probabilities of the systems, distances to theory."""
    parts = []
    for method in methods:
        told = (
            method.probabilities if method.probabilities is not None else np.full((len(test.rows), N_CLASSES), np.nan)
        )
        answers = {
            "method": method.name,
            "pattern_id": test.rows["pattern_id"],
            "material": test.rows["formula"],
            "crystal_system": test.rows["crystal_system"],
            "predicted": [str(CRYSTAL_SYSTEMS[i]) for i in method.predicted],
        }
        own = distances(method, test)
        shown = {str(system): told[:, k] for k, system in enumerate(CRYSTAL_SYSTEMS)}
        shown |= {name: own.get(name, np.full(len(test.rows), np.nan)) for name in Distance}
        parts.append(pd.DataFrame(answers | {name: np.round(values, 6) for name, values in shown.items()}))
    return pd.concat(parts)


def _accuracy(method: Entry, test: Dataset, config: EvaluateConfig) -> Row:
    correct = method.predicted == test.labels
    low, high = metrics.bootstrap_interval(correct, config.seed, n_resamples=config.resamples)
    return {"n_test": len(correct), "accuracy": float(correct.mean()), "accuracy_low": low, "accuracy_high": high}


def _medians(found: Distances) -> Row:
    return {
        name: float(np.nanmedian(found[name])) if name in found and np.isfinite(found[name]).any() else None
        for name in Distance
    }


def _against(method: Entry, other: Entry | None, test: Dataset, seed: int, gain: str, p_value: str) -> Row:
    """A method against another on the same patterns; None where there is no other, or it is the method itself."""
    names = {"gain": gain, "gain_low": f"{gain}_low", "gain_high": f"{gain}_high", "p_value": p_value}
    if other is None or other is method:
        return dict.fromkeys(names.values())
    found = metrics.compare(method.predicted == test.labels, other.predicted == test.labels, seed)
    return {names[key]: value for key, value in found.items()}


def _honesty(method: Entry, by: Entry | None, test: Dataset, ideal: Dataset, seed: int) -> Row:
    assert method.refiner is not None and method.reader is not None and method.patterns is not None
    found = honesty(
        method.refiner,
        method.reader,
        by.reader if by else None,
        method.temperature,
        test.intensity,
        method.patterns,
        theory(test),
        test.labels,
        (ideal.intensity, ideal.labels),
        test.grid,
        seed,
    )
    if method.method is Method.GTA:  # its answers are to raw patterns, not to those that its generator draws
        answers = {key for measure in Measure if measure.of_answers for key in (measure, measure.before)}
        found = {name: value for name, value in found.items() if name not in answers}
    return {"judge": by.name if by else None, **found}
