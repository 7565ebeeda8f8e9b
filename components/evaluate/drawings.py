"""The figures of a run by name; the start of a name gives its section of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from components.evaluate.config import EvaluateConfig
from components.evaluate.embedding import embedding_panels
from components.evaluate.methods import Entry, Parts
from components.evaluate.rows import counts, theory
from imitation_refinement.data.datasets import Dataset
from imitation_refinement.data.formula import normal, parse
from imitation_refinement.results import figures, metrics
from imitation_refinement.results.wording import block, row_label
from imitation_refinement.vocabulary import Block, Method, Supervision

PAPER_MATERIALS = ("NbGa3", "Mn4Al11")  # Figure 4


def draw(
    methods: Sequence[Entry],
    selected: Entry,
    rows: Sequence[Mapping[str, Any]],
    parts: Parts,
    ideal: Dataset,
    config: EvaluateConfig,
) -> dict[str, Figure]:
    """Every figure of the report.

    Args:
        methods: everything that is compared.
        selected: the refiner that the patterns and embeddings are shown of.
        rows: their results.
        parts: the imperfect patterns.
        ideal: ideal patterns that no training has seen.
        config: how many patterns are shown.
    """
    test = parts.test
    drawn = {"accuracy": figures.accuracy_figure(rows)}
    shown = [m for m in methods if m.usable or m.method is Method.RAW or block(m.row()) is Block.WITHOUT_LABELS]
    shown.sort(key=lambda m: (m.classifier, m.method is not Method.RAW))
    histograms = {label(m): counts(m.predicted) for m in shown}
    drawn["predicted"] = figures.predicted_histogram_figure(histograms, counts(test.labels))
    drawn |= _learning_curves(rows)
    chosen = examples(selected, test, config.examples)
    drawn |= _calibration(shown, test)
    drawn["patterns"] = figures.patterns_figure([_plot(i, selected, test) for i in chosen])
    for method in methods:
        if method.method is Method.RAW or method.plain:
            matrix = metrics.confusion(test.labels, method.predicted)
            drawn[f"confusion-{method.name}"] = figures.confusion_figure(matrix, label(method))
    drawn |= _embeddings(methods, selected, test, ideal, config)
    for method in methods:
        if method.history and not method.variant and not method.labelled:
            drawn[f"training-{model_name(method)}"] = figures.training_curves_figure(method.history, label(method))
    return drawn


def _calibration(methods: Sequence[Entry], test: Dataset) -> dict[str, Figure]:
    """Reliability, and accuracy of the surest, of those that give probabilities; a figure a classifier."""
    found: dict[str, list[figures.Sureness]] = {}
    for m in methods:
        if m.probabilities is not None:
            dashed = m.supervision is Supervision.NON_TARGETED
            one = figures.Sureness(label(m), m.probabilities, test.labels, m.method.color, dashed)
            found.setdefault(m.classifier, []).append(one)
    return {f"calibration-{classifier}": figures.calibration_figure(own) for classifier, own in found.items()}


def label(method: Entry) -> str:
    """What a method is called in figures, as in tables."""
    return row_label(method.row())


def model_name(method: Entry) -> str:
    """The stem of the file that a run keeps a method's own network in."""
    return method.classifier if method.method is Method.RAW else method.name


def examples(selected: Entry, test: Dataset, count: int) -> list[int]:
    """Which test patterns are drawn, by a rule and not by looks.

    The first of each of the paper's materials that the test part holds; then, up to ``count``, at even ranks of ℓ2 to
    theory after refinement, of all patterns that have a theory (without any: the first ones).
    """
    of_paper = [_composition(name) for name in PAPER_MATERIALS]
    held = [_composition(str(name)) for name in test.rows["formula"]]
    chosen = [held.index(material) for material in of_paper if material in held][:count]
    known = np.setdiff1d(np.flatnonzero(np.isfinite(theory(test)[:, 0])), chosen)
    left = count - len(chosen)
    if selected.patterns is None or not len(known):
        return [*chosen, *(i for i in range(len(test.rows)) if i not in chosen)][:count]
    order = known[np.argsort(metrics.l2(selected.patterns[known], theory(test)[known]), kind="stable")]
    ranks = np.unique(np.linspace(0, len(order) - 1, left + 2).astype(int)[1:-1])
    return [*chosen, *(int(i) for i in order[ranks])]


def _composition(name: str) -> dict[str, int] | dict[str, float] | None:
    """The normal form of a formula; None for other texts."""
    try:
        return normal(parse(name))
    except ValueError:
        return None


def _plot(index: int, selected: Entry, test: Dataset) -> figures.PatternPlot:
    assert selected.patterns is not None, "a refiner has refined patterns"
    own = theory(test)[index]
    return figures.PatternPlot(
        test.grid.two_theta,
        test.intensity[index],
        selected.patterns[index],
        None if np.isnan(own[0]) else own,
        test.rows["theory_two_theta"][index],
        f"{test.rows['formula'][index]}, {test.rows['crystal_system'][index]}",
        test.grid.wavelength,
    )


def _learning_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Accuracy against labelled patterns, for each classifier that has refiners with fewer labels than there are."""
    found = {}
    for classifier in dict.fromkeys(row["classifier"] for row in rows if row["labelled"]):
        own = [row for row in rows if row["classifier"] == classifier]
        learned = [r for r in own if r["supervision"] == Supervision.TARGETED and not r["variant"]]
        points = [
            {"n": r["n_train"], "accuracy": r["accuracy"], "low": r["accuracy_low"], "high": r["accuracy_high"]}
            for r in learned
        ]
        raw = next((row["accuracy"] for row in own if row["method"] == Method.RAW), None)
        title = row_label({**learned[0], "labelled": 0})
        found[f"labels-{classifier}"] = figures.learning_curve_figure(points, raw, title)
    return found


def _embeddings(
    methods: Sequence[Entry], selected: Entry, test: Dataset, ideal: Dataset, config: EvaluateConfig
) -> dict[str, Figure]:
    """Ideal, raw and refined patterns in the selected refiner's classifier; GTA beside IR, the paper's Figure 3."""
    assert selected.reader is not None and selected.patterns is not None
    raw, refined = (test.intensity, test.labels), (selected.patterns, test.labels)
    panels, prototypes = embedding_panels(
        selected.reader,
        {"ideal": (ideal.intensity, ideal.labels), "raw": raw, f"refined: {label(selected)}": refined},
        config.embedded,
        config.seed,
    )
    drawn = {"embedding": figures.embedding_figure(panels, prototypes)}
    for gta in (m for m in methods if m.method is Method.GTA and m.reader is not None):
        of_same = [m for m in methods if m.plain and m.classifier == gta.classifier]
        if not of_same or gta.reader is None:
            continue
        best = max(of_same, key=lambda m: m.validation_accuracy or 0.0)
        assert best.reader is not None and best.patterns is not None
        panels, prototypes = embedding_panels(
            best.reader, {"raw": raw, label(best): (best.patterns, test.labels)}, config.embedded, config.seed
        )
        own, own_prototypes = embedding_panels(
            gta.reader, {f"{label(gta)} (own axes)": raw}, config.embedded, config.seed
        )
        figure = figures.embedding_figure([*own, *panels], [*own_prototypes, *prototypes])
        drawn[f"embedding-{gta.name}"] = figure
    return drawn
