"""The paper's tables of several runs, one a seed: ours beside the paper's, as text, Markdown, HTML and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from imitation_refinement.files import writing
from imitation_refinement.results.figures import FAINT, INK, PERCENT, RAW, REFINED, STYLE, THEORY
from imitation_refinement.results.paper import CITATION, paper_ablation
from imitation_refinement.results.table import IN_WORDS, Table, data_uri, page
from imitation_refinement.results.wording import (
    MISSING,
    NOISE,
    SIGNIFICANT,
    change,
    classifier_label,
    distance,
    listed,
    measure_text,
    method_label,
    number,
    p_value,
    percent,
    points,
    points_interval,
    row_label,
    share_interval,
)
from imitation_refinement.study.findings import MISSED, REPRODUCED, UNKNOWN, Check, checks
from imitation_refinement.study.gathering import RESAMPLES, Experiment, Json, gather
from imitation_refinement.study.runs import GENERATED, read_runs
from imitation_refinement.vocabulary import Architecture, Distance, Measure, Method, Supervision, Variant
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

TEMPLATE = Path(__file__).with_name("tables.html")
TONES = {REPRODUCED: "good", NOISE: "noise", MISSED: "bad", UNKNOWN: "unknown"}  # classes of the style sheet
BLOCKS = ("Without labels of imperfect patterns", "With labels of imperfect patterns")

NOTES = (
    "Seeds differ in the split by material, in initial weights, and in every draw. The standard deviation is over "
    "seeds (n − 1).",
    "Intervals are 95 % percentile bootstrap intervals over the (seed, test pattern) pairs of all seeds, whole "
    f"materials resampled ({RESAMPLES:,} times): patterns of one material are alike, and a material may be in the test "
    "part of several seeds. McNemar’s exact test and Wilcoxon’s signed-rank test take the pairs as independent; their "
    "p is somewhat too small where materials repeat. A difference in accuracy is called more than noise where the test "
    f"says p < {SIGNIFICANT} and the interval excludes 0. No p is corrected for the number of comparisons.",
    "The paper gives one number each for DWT, ADDA and GTA and does not name the classifier; it stands under both. Its "
    "NCC (about 20.9) is on a scale that it does not define, its ℓ1 and ℓ2 on a grid of its own: compare the changes "
    "against raw, not the values.",
)


def write_tables(folders: Sequence[Path], output: Path | None = None) -> str:
    """Gathers finished runs and writes ``tables.md``, ``tables.json``, ``tables.html`` and figures, all or none.

    Args:
        folders: finished runs of one experiment, a seed each.
        output: where to; ``tables`` beside the first run by default.

    Returns:
        What the terminal shows: Tables 1 to 3, what was reproduced, and where the files are.

    Raises:
        InputError: if a run can't be used or doesn't belong to the others.
    """
    experiment = Experiment(gather(read_runs(folders)))
    output = output or Path(folders[0]).resolve().parent / "tables"
    tables, found = all_tables(experiment), checks(experiment)
    pictures = {name: _png(figure) for name, figure in figures(experiment).items()}
    content = experiment.content | {"checks": [vars(check) for check in found], "curves": learning_curves(experiment)}
    files = {f"{name}.png": picture for name, picture in pictures.items()} | {
        "tables.json": (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode(),
        "tables.md": as_markdown(experiment, tables, found, pictures).encode(),
        "tables.html": as_html(experiment, tables, found, pictures).encode(),
    }
    with ExitStack() as stack:  # all are written before the first takes its place
        places = {name: stack.enter_context(writing(output / name)) for name in files}
        for name, place in places.items():
            place.write_bytes(files[name])
    shown = [table.as_text() for table in tables if table.title.startswith("Table")]
    findings = "\n".join(f"{check.outcome:14}  {check.claim}" for check in found)
    return "\n\n".join([introduction(experiment), *shown, findings, f"tables: {output / 'tables.html'}"])


def introduction(experiment: Experiment) -> str:
    """Which runs these are."""
    content, seeds = experiment.content, experiment.seeds
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds ({', '.join(map(str, seeds))})"
    data = content["runs"][0]["data"]
    sources = [Path(str(data.get(name, {}).get("source", ""))).name for name in ("structures", "imperfect")]
    text = (
        f"Profile {content['profile']}, {which}: {content['pairs']} (seed, test pattern) pairs of "
        f"{content['materials']} materials. Structures: {sources[0] or 'built-in'}; "
        f"imperfect patterns: {sources[1] or 'built-in'}."
    )
    if sources[1] in GENERATED and len(seeds) > 1:
        text += " Each seed drew imperfect patterns of its own."
    return text if len(seeds) > 1 else f"{text} One seed has no standard deviation: it is written –."


def all_tables(experiment: Experiment) -> list[Table]:
    """Tables 1 to 3 as the paper sets them, with what belongs to them beneath, then honesty and predicted classes."""
    makers = (accuracies, comparisons, ablations, distances, distances_compared)
    classifiers = dict.fromkeys(m["classifier"] for m in _sorted(experiment.methods.values()) if m["honesty"])
    made = [*(make(experiment) for make in makers), *(honesty(experiment, c) for c in classifiers)]
    return [table for table in (*made, predicted(experiment)) if table.rows]


def accuracies(experiment: Experiment) -> Table:
    """Table 1: accuracy of every method, in blocks of equal supervision."""
    members = _sorted(m for m in experiment.methods.values() if m["in_table_1"])
    blocks = [(heading, [m for m in members if m["supervised"] == bool(k)]) for k, heading in enumerate(BLOCKS)]
    return Table(
        "Table 1. Accuracy on the imperfect test part",
        "Accuracy in %: mean ± standard deviation over seeds; 95 % interval; the paper’s mean of five runs. n: "
        "imperfect patterns that a method learns from. Supervision is equal within a block.",
        ("classifier", "method", "n", "accuracy", "95 %", "paper"),
        [(heading, [_accuracy_cells(m) for m in block]) for heading, block in blocks if block],
        texts=2,
    )


def comparisons(experiment: Experiment) -> Table:
    """Every method of Table 1 against raw; refiners against the best baseline, targeted against non-targeted."""
    rows = []
    for method in _sorted(m for m in experiment.methods.values() if m["in_table_1"]):
        others = [method["raw"], method["best_baseline"]]
        if method["supervision"] == Supervision.TARGETED:
            others.append(f"{method['classifier']}-{Supervision.NON_TARGETED}")
        found = [d for other in dict.fromkeys(others) if (d := experiment.differences.get((method["name"], other)))]
        rows += [_difference_cells(experiment, d) for d in found]
    return Table(
        "Table 1, compared",
        "Difference in accuracy on the same patterns in percentage points: mean ± standard deviation over seeds; 95 % "
        "interval; McNemar’s exact p; seeds in which the first is better. Best baseline: the method without refinement "
        "that is best on the test parts, those with the tested material in their library left out.",
        ("method", "against", "points", "95 %", "p", "seeds", "paper", IN_WORDS),
        [("", rows)],
        texts=2,
    )


def ablations(experiment: Experiment) -> Table:
    """Table 2: refiners without parts of their loss, or with one more."""
    groups = []
    for whole in experiment.refiners:
        key = whole["classifier"], whole["supervision"]
        parts = [
            m
            for m in experiment.methods.values()
            if (Variant(m["variant"]).removes or Variant(m["variant"]).adds)
            and (m["classifier"], m["supervision"]) == key
        ]
        rows = []
        for method in (*parts, whole):
            difference = experiment.differences.get((method["name"], whole["name"]))
            cells = _difference_cells(experiment, difference) if difference else [MISSING] * 8
            paper = percent(paper_ablation(method["name"]), 2)
            accuracy = _spread(method["accuracy"], percent), _interval(method["accuracy"])
            rows.append([Variant(method["variant"]).label, *accuracy, paper, *cells[2:6], cells[7]])
        groups += [(row_label(whole), rows)] if parts else []
    return Table(
        "Table 2. The refiner’s loss without its parts, or with one more",
        "Accuracy as in Table 1, then the difference to the whole loss.",
        ("loss", "accuracy", "95 %", "paper", "points", "95 %", "p", "seeds", IN_WORDS),
        groups,
    )


def distances(experiment: Experiment) -> Table:
    """Table 3: medians of the distances to theory."""
    rows = []
    for label, method in _of_table_3(experiment).items():
        cells = [label]
        for which in Distance:
            found = method["distances"].get(which, {"mean": None, "sd": None, "paper": None})
            cells += [_spread(found, partial(distance, which=which)), number(found["paper"], 3)]
        rows.append(cells)
    low, high = (listed([w.label for w in Distance if w.sign == sign]) for sign in (-1, 1))
    return Table(
        "Table 3. Median distance to theory",
        "Mean ± standard deviation over seeds of the median over test patterns, the paper’s beside it. "
        f"{low} are better when low, {high} when high.",
        ("method", *(head for which in Distance for head in (which.label, "paper"))),
        [("", rows)],
    )


def distances_compared(experiment: Experiment) -> Table:
    """What each method changes in the distances to theory, against raw."""
    rows = []
    for label, method in _of_table_3(experiment).items():
        for which, found in method["distances"].items():
            if "p" in found:
                rows.append(
                    [
                        label,
                        Distance(which).label,
                        change(found["change"]),
                        change(found["paper_change"]),
                        f"{percent(found['closer'], 0)} %",
                        p_value(found["p"]),
                        found["in_words"],
                    ]
                )
    return Table(
        "Table 3, compared",
        "Change of the median against raw, ours and the paper’s; share of the test patterns that come closer to "
        "theory; Wilcoxon’s signed-rank p of the pooled pairs.",
        ("method", "distance", "change", "paper", "closer", "p", IN_WORDS),
        [("", rows)],
        texts=2,
    )


def honesty(experiment: Experiment, classifier: str) -> Table:
    """Whether refiners mend or paint: one column a refiner through this classifier, one row a measure."""
    members = [m for m in experiment.methods.values() if m["classifier"] == classifier and not m["labelled"]]
    shown = _sorted(m for m in members if m["honesty"])
    known = {name for measure in Measure for name in (measure, measure.before)} | {"least_width"}
    others = dict.fromkeys(k for m in shown for k in m["honesty"] if k not in known)
    rows = []
    for measure in Measure:
        label = f"{measure.label}, {measure.unit}" if measure.unit else measure.label
        rows.append([f"{label} ({measure.good})", *(_measure(method["honesty"], measure) for method in shown)])
    for key in others:  # of another version
        found = (method["honesty"].get(key, {"mean": None, "sd": None}) for method in shown)
        rows.append([key.replace("_", " "), *(_spread(f, number) for f in found)])
    return Table(
        f"Honesty of the refiner, {Architecture(classifier).label}",
        "Mean ± standard deviation over seeds, in brackets the same before refinement. What is good stands behind each "
        "measure.",
        ("measure", *map(method_label, shown)),
        [("", [row for row in rows if set(row[1:]) - {MISSING}])],
    )


def predicted(experiment: Experiment) -> Table:
    """How often each class is predicted: a method that collapsed shows here."""
    truth = _shares(experiment.content["truth"])
    members = _sorted(m for m in experiment.methods.values() if m["in_table_1"])
    return Table(
        "Predicted classes",
        "Share of the pooled test patterns that a method gives to each crystal system, in %.",
        ("method", *map(str, CRYSTAL_SYSTEMS)),
        [("", [["true", *truth], *([row_label(m), *_shares(m["predicted"])] for m in members)])],
    )


def learning_curves(experiment: Experiment) -> dict[str, list[Json]]:
    """Accuracy of targeted refiners by the number of labelled patterns that they learned from, by classifier."""
    curves: dict[str, list[Json]] = {}
    for method in experiment.methods.values():
        if method["supervision"] == Supervision.TARGETED and not method["variant"]:
            labelled = method["labelled"] or method["n_train"]
            curves.setdefault(method["classifier"], []).append({"labelled": labelled} | method["accuracy"])
    return {name: sorted(points, key=lambda p: p["labelled"]) for name, points in curves.items() if len(points) > 1}


def figures(experiment: Experiment) -> dict[str, Figure]:
    """The tables' figures by name; those that have something to show."""
    drawn = {"table_1": accuracy_figure(experiment)}
    return drawn | ({"labels": labels_figure(experiment)} if learning_curves(experiment) else {})


def accuracy_figure(experiment: Experiment) -> Figure:
    """Table 1: mean and interval, the seeds as small dots, the paper's number as an open square."""
    members = _sorted(m for m in experiment.methods.values() if m["in_table_1"])[::-1]
    with style.context(["default", STYLE]):
        figure = _figure(7.6, 0.24 * len(members) + 0.9)
        axes = figure.add_subplot()
        for y, method in enumerate(members):
            accuracy, color = method["accuracy"], REFINED if method["method"] == Method.IR else RAW
            axes.plot([accuracy["low"], accuracy["high"]], [y, y], color=color, linewidth=1.6, zorder=2)
            axes.plot(accuracy["by_seed"], [y] * len(experiment.seeds), ".", color=FAINT, markersize=4, zorder=3)
            axes.plot(accuracy["mean"], y, "o", color=color, markersize=6, zorder=4)
            if method["paper"] is not None:
                axes.plot(
                    method["paper"], y, "s", markerfacecolor="none", markeredgecolor=THEORY, markersize=7, zorder=5
                )
        axes.set_yticks(range(len(members)), [row_label(method) for method in members])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.grid(axis="y", linewidth=0.4)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set_xlabel("accuracy on the imperfect test part")
        marks = (("o", INK, INK, "mean, 95 % interval"), (".", FAINT, FAINT, "a seed"), ("s", "none", THEORY, "paper"))
        for marker, face, edge, label in marks:
            axes.plot([], [], marker, markerfacecolor=face, markeredgecolor=edge, label=label)
        figure.legend(loc="outside upper right", ncols=3)
    return figure


def labels_figure(experiment: Experiment) -> Figure:
    """Accuracy against the number of labelled patterns: mean and standard deviation over seeds, raw as a dashed line.

    Raises:
        ValueError: if there is no curve.
    """
    curves = learning_curves(experiment)
    if not curves:
        raise ValueError("there is no accuracy by number of labels to draw")
    colors = dict(zip(sorted(curves), (REFINED, THEORY), strict=False))
    with style.context(["default", STYLE]):
        figure = _figure(6.4, 4.0)
        axes = figure.add_subplot()
        for name, curve in curves.items():
            label, color = Architecture(name).label, colors.get(name, RAW)
            x, mean = [p["labelled"] for p in curve], np.array([p["mean"] for p in curve])
            axes.plot(x, mean, "o-", color=color, markersize=4, linewidth=1.4, label=f"{label}, IR, targeted")
            if len(experiment.seeds) > 1:
                sd = np.array([p["sd"] for p in curve])
                axes.fill_between(x, mean - sd, mean + sd, color=color, alpha=0.15, linewidth=0)
            if raw := experiment.methods.get(f"{name}-raw"):
                axes.axhline(raw["accuracy"]["mean"], color=color, linestyle="--", linewidth=1, label=f"{label}, raw")
        ticks = sorted({p["labelled"] for curve in curves.values() for p in curve})
        axes.set_xscale("log")
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(PERCENT)
        axes.grid(axis="y")
        band = "; band: standard deviation over seeds" if len(experiment.seeds) > 1 else ""
        axes.set(xlabel=f"labelled imperfect patterns{band}", ylabel="accuracy on the imperfect test part")
        axes.legend()
    return figure


CAPTIONS = {
    "table_1": "Table 1 as a figure. Dot and bar: mean and 95 % interval; small dots: seeds; square: the paper.",
    "labels": "Accuracy against the number of labelled imperfect patterns; band: standard deviation over seeds.",
}


def as_markdown(
    experiment: Experiment, tables: Sequence[Table], found: Sequence[Check], pictures: Mapping[str, Any]
) -> str:
    """Everything as Markdown; the figures lie beside it."""
    parts = ["# Tables", introduction(experiment), "## What was reproduced, what was not"]
    parts.append("\n".join(f"- **{check.outcome}**: {check.claim}. {check.detail}" for check in found))
    for table in tables:
        parts += [f"## {table.title}", table.caption, table.as_markdown()]
    parts += ["## Figures", *(f"![{CAPTIONS[name]}]({name}.png)" for name in pictures)]
    parts += ["## Notes", "\n".join(f"- {note}" for note in (*NOTES, f"The paper: {CITATION}."))]
    return "\n\n".join(parts) + "\n"


def as_html(
    experiment: Experiment, tables: Sequence[Table], found: Sequence[Check], pictures: Mapping[str, bytes]
) -> str:
    """Everything as one HTML file that needs nothing else."""
    return page(
        TEMPLATE,
        introduction=introduction(experiment),
        checks=found,
        tones=TONES,
        tables=tables,
        images={name: data_uri("image/png", picture) for name, picture in pictures.items()},
        captions=CAPTIONS,
        runs=[run | {"name": Path(run["folder"]).resolve().name} for run in experiment.content["runs"]],
        notes=NOTES,
        citation=CITATION,
    )


def _sorted(methods: Iterable[Json]) -> list[Json]:
    """As in Table 1: without a classifier first, then by classifier, there in the order of :class:`Method`."""

    def key(method: Json) -> tuple[Any, ...]:
        classifier = list(Architecture).index(method["classifier"]) if method["classifier"] else -1
        supervision = method["supervision"] == Supervision.TARGETED
        return classifier, list(Method).index(method["method"]), supervision

    return sorted(methods, key=key)


def _of_table_3(experiment: Experiment) -> dict[str, Json]:
    """Methods with distances, by what their rows are called; patterns that no classifier changes stand there once."""
    members = _sorted(m for m in experiment.methods.values() if m["in_table_1"] and m["distances"])
    once: dict[str, Json] = {}
    for method in members:
        once.setdefault(Method(method["method"]).patterns or row_label(method), method)
    return once


def _accuracy_cells(method: Json) -> list[str]:
    accuracy = method["accuracy"]
    return [
        classifier_label(method),
        method_label(method),
        f"{method['n_train']:.0f}",
        _spread(accuracy, percent),
        _interval(accuracy),
        percent(method["paper"], 2),
    ]


def _difference_cells(experiment: Experiment, difference: Json) -> list[str]:
    a, b = (experiment.methods[difference[side]] for side in "ab")
    paper = None if a["paper"] is None or b["paper"] is None else a["paper"] - b["paper"]
    better = sum(gain > 0 for gain in difference["by_seed"])
    return [
        row_label(a),
        row_label(b),
        _spread(difference, points),
        points_interval(difference["low"], difference["high"]),
        p_value(difference["p"]),
        f"{better} of {len(difference['by_seed'])}",
        points(paper),
        difference["in_words"],
    ]


def _spread(found: Json, write: Callable[..., str]) -> str:
    """Mean ± standard deviation; the latter – where there is one seed."""
    if found["mean"] is None:
        return MISSING
    return f"{write(found['mean'])} ± {write(found['sd']).removeprefix('+')}"


def _interval(found: Json) -> str:
    return share_interval(found["low"], found["high"])


def _measure(measures: Mapping[str, Json], measure: Measure) -> str:
    found, raw = measures.get(measure), measures.get(measure.before)
    if found is None or found["mean"] is None:
        return MISSING
    write = partial(measure_text, measure=measure)
    return _spread(found, write) + (f" ({write(raw['mean'])})" if raw else "")


def _shares(counts: Mapping[str, int]) -> list[str]:
    total = sum(counts.values())
    return [percent(counts[str(system)] / total) for system in CRYSTAL_SYSTEMS]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
