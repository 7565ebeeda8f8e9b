"""Figures of the results: patterns, confusion, embeddings, training curves, accuracies.

Every function returns a new :class:`matplotlib.figure.Figure` and leaves Matplotlib's global state alone. Colours can
be told apart with any colour vision; each crystal system has one colour and one marker everywhere.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import cycle, groupby
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.files import writing
from imitation_refinement.results.metrics import coverage_accuracy, reliability
from imitation_refinement.results.wording import block, number, percent, row_label, share_interval
from imitation_refinement.vocabulary import Block, Method, Supervision
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, CrystalSystem

DPI = 160
LEAST_SHOWN = 0.1  # probability of a crystal system somewhere in a series

# Paul Tol's "bright" scheme, https://personal.sron.nl/~pault/, seven colours for seven systems.
SYSTEM_COLORS: dict[CrystalSystem, str] = dict(
    zip(CRYSTAL_SYSTEMS, ("#AA3377", "#EE6677", "#CCBB44", "#228833", "#66CCEE", "#4477AA", "#888888"), strict=True)
)
SYSTEM_MARKERS: dict[CrystalSystem, str] = dict(zip(CRYSTAL_SYSTEMS, ("v", "D", "s", "P", "^", "h", "o"), strict=True))

RAW, REFINED, THEORY, DIFFERENCE = "#4D4D4D", "#C8501E", "#0B6BA8", "#7A4FA3"
GRID, FAINT, INK = "#E3E6EA", "#9AA1AA", "#1F2430"

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a file name is no formula
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "figure.facecolor": "white",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
}

PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.0f} %")

Curve = tuple[str, str, NDArray[np.float64]]  # name, colour, intensity
P = ParamSpec("P")
R = TypeVar("R")


def _styled(function: Callable[P, R]) -> Callable[P, R]:
    @wraps(function)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with style.context(["default", STYLE]):
            return function(*args, **kwargs)

    return drawn


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure as PNG, SVG or PDF, by the path's suffix, whole or not at all."""
    with writing(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


@dataclass(frozen=True)
class PatternPlot:
    """One pattern before and after refinement.

    Attributes:
        two_theta: angles [°], shape (points,).
        raw: intensity as measured, shape (points,).
        refined: intensity after refinement, shape (points,).
        theory: theoretical intensity, shape (points,), where it is known.
        theory_peaks: angles of the theoretical peaks [°], shape (peaks,), where they are known.
        title: what the pattern is of.
        wavelength: of the angles [Å].
    """

    two_theta: ArrayLike
    raw: ArrayLike
    refined: ArrayLike
    theory: ArrayLike | None = None
    theory_peaks: ArrayLike | None = None
    title: str = ""
    wavelength: float | None = None


def pattern_figure(
    two_theta: ArrayLike,
    raw: ArrayLike,
    refined: ArrayLike,
    theory: ArrayLike | None = None,
    theory_peaks: ArrayLike | None = None,
    title: str = "",
    wavelength: float | None = None,
) -> Figure:
    """Raw, refined and theoretical pattern one above the other, the difference below, as in a Rietveld plot.

    With theory each pattern is scaled to maximum 1 and the difference is refined − theory (raw − theory behind it in
    grey), with ticks at the theoretical peaks. Without it raw and refined share one axis in their own unit, and the
    difference is refined − raw. Arguments as in :class:`PatternPlot`.
    """
    return patterns_figure([PatternPlot(two_theta, raw, refined, theory, theory_peaks, title, wavelength)])


@_styled
def patterns_figure(patterns: Sequence[PatternPlot], columns: int = 2) -> Figure:
    """Several patterns side by side, each as :func:`pattern_figure` draws it.

    Raises:
        ValueError: if there are no patterns.
    """
    if not patterns:
        raise ValueError("there are no patterns to draw")
    columns = min(columns, len(patterns))
    rows = -(-len(patterns) // columns)
    width, height = (7.6, 5.0) if columns == 1 else (5.6 * columns, 4.3 * rows)
    figure = _figure(width, height)
    cells = figure.subfigures(rows, columns, squeeze=False)
    for pattern, cell in zip(patterns, cells.flat, strict=False):
        _draw_pattern(cell, pattern)
    return figure


@_styled
def confusion_figure(matrix: ArrayLike, title: str = "") -> Figure:
    """Confusion matrix of the crystal systems: counts as numbers, the share of each true class (row) as shade.

    Args:
        matrix: counts, shape (7, 7); a row is a true class, as :func:`.metrics.confusion` gives.
        title: what was classified.
    """
    counts = np.asarray(matrix, int)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    figure = _figure(5.6, 4.4)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.55 else INK if count else "#C5CAD1"
        axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8.5)
    names = [str(system) for system in CRYSTAL_SYSTEMS]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), [f"{n} ({t})" for n, t in zip(names, totals[:, 0], strict=True)])
    axes.set(xlabel="predicted", ylabel="true (number of patterns)")
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=25, format=PERCENT)
    bar.set_label("share of the true class")
    bar.ax.spines["outline"].set_visible(False)
    return figure


@_styled
def embedding_figure(
    panels: Sequence[tuple[str, ArrayLike, ArrayLike]], prototypes: Sequence[ArrayLike | None] | None = None
) -> Figure:
    """Embeddings in two dimensions, one panel a method, one colour and marker a crystal system.

    Args:
        panels: (title, coordinates of shape (n, 2), class indices of shape (n,), −1 where unknown) each.
        prototypes: for each panel the prototypes, shape (7, 2), in the same coordinates, drawn large; None for a panel
            without.

    Raises:
        ValueError: if there are no panels.
    """
    if not panels:
        raise ValueError("there are no embeddings to draw")
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(3.3 * columns if columns > 1 else 4.6, 3.3 * rows + 0.5)
    for index, (title, xy, labels) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set_title(title)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)
        _scatter(axes, np.asarray(xy, float), np.asarray(labels, int))
        if prototypes is not None and prototypes[index] is not None:
            _stars(axes, np.asarray(prototypes[index], float))
    handles = [
        Line2D([], [], linestyle="", marker=SYSTEM_MARKERS[s], color=SYSTEM_COLORS[s], markersize=6, label=str(s))
        for s in CRYSTAL_SYSTEMS
    ]
    if any((np.asarray(labels) < 0).any() for _, _, labels in panels):
        handles.append(Line2D([], [], linestyle="", marker="x", color=FAINT, markersize=5, label="unknown"))
    if prototypes is not None:
        star: dict[str, Any] = {"marker": "*", "color": "white", "markeredgecolor": INK, "markersize": 11}
        handles.append(Line2D([], [], linestyle="", label="prototype", **star))
    figure.legend(handles=handles, loc="outside lower center", ncols=4 if columns < 3 else 9, handletextpad=0.2)
    return figure


@_styled
def training_curves_figure(history: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Each quantity of a training against the epoch, training and validation in one panel.

    Args:
        history: one value an epoch for each quantity. ``train_x``, ``validation_x`` and ``x`` share the panel of x; a
            quantity with ``accuracy`` in its name is a share from 0 to 1 and shown in percent.
        title: what was trained.

    Raises:
        ValueError: if the history is empty.
    """
    if not history:
        raise ValueError("there is no training history to draw")
    by_quantity: dict[str, dict[str, Sequence[float]]] = {}
    for name, values in history.items():
        part, quantity = _part(name)
        by_quantity.setdefault(quantity, {})[part] = values
    columns = len(by_quantity) if len(by_quantity) <= 4 else 3
    rows = -(-len(by_quantity) // columns)
    figure = _figure(3.0 * columns + 0.6, 2.2 * rows + 0.3)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    for index, (quantity, parts) in enumerate(by_quantity.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        for part, values in parts.items():
            epochs = np.arange(1, len(values) + 1)
            color, line = (REFINED, "--") if part == "validation" else (THEORY, "-")
            marker = "o" if len(values) < 30 else ""
            y = np.asarray(values, float)
            axes.plot(epochs, y, line, color=color, marker=marker, markersize=3, linewidth=1.4, label=part)
        axes.set(xlabel="epoch", title=quantity.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(values) == 1:
            axes.set_xlim(0, 2)
        axes.grid(axis="y")
        if "accuracy" in quantity:
            axes.yaxis.set_major_formatter(PERCENT)
        if "validation" in parts:
            axes.legend()
    return figure


@_styled
def samples_figure(curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Accuracy against samples seen, on a logarithmic axis, each network a line.

    Args:
        curves: by name, numbers of samples and accuracies from 0 to 1, shape (k,) each.

    Raises:
        ValueError: if there are none.
    """
    if not curves:
        raise ValueError("there is no curve to draw")
    figure = _figure(6.4, 3.6)
    axes = figure.add_subplot()
    for (name, (samples, accuracy)), color in zip(curves.items(), cycle(SYSTEM_COLORS.values()), strict=False):
        marker = "o" if len(np.asarray(samples)) < 60 else ""
        axes.plot(samples, accuracy, color=color, marker=marker, markersize=3, linewidth=1.4, label=name)
    axes.set_xscale("log")
    axes.grid()
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set(xlabel="samples seen", ylabel="accuracy")
    figure.legend(loc="outside lower center", ncols=min(4, len(curves)))
    return figure


@_styled
def accuracy_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy of each row with its interval, block by block; a grey line marks raw under the same classifier.

    Args:
        rows: result rows with ``method``, ``classifier``, ``supervision``, ``variant``, ``labelled``, ``accuracy``,
            ``accuracy_low`` and ``accuracy_high``.

    Raises:
        ValueError: if no row has an accuracy.
    """
    drawn = [row for row in rows if row.get("accuracy") is not None]
    if not drawn:
        raise ValueError("there are no accuracies to draw")
    drawn.sort(key=lambda row: list(Block).index(block(row)))
    raw = {row.get("classifier"): row["accuracy"] for row in drawn if row["method"] == Method.RAW}
    n_lines = len(drawn) + 1.6 * len({block(row) for row in drawn})
    figure = _figure(9.0, 0.235 * n_lines + 0.7)
    axes = figure.add_subplot()
    labels: list[str] = []
    positions: list[float] = []
    y = 0.0
    for title, group in groupby(drawn, block):
        members = list(group)
        labels += [title, *map(row_label, members)]
        positions += [y + k for k in range(len(members) + 1)]
        for place, row in enumerate(members, 1):
            if (before := raw.get(row.get("classifier"))) is not None:
                axes.plot([before, before], [y + place - 0.42, y + place + 0.42], color="#B9BFC8", linewidth=1.6)
            _draw_accuracy(axes, y + place, row)
        y += len(members) + 1.6
    axes.set_yticks(positions, labels)
    for tick, label in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if label in list(Block) else "normal")
    axes.set_ylim(y - 0.9, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_xlabel("accuracy on the imperfect test patterns, 95 % bootstrap interval; grey: raw, same classifier")
    return figure


@_styled
def learning_curve_figure(points: Sequence[Mapping[str, float]], raw: float | None = None, title: str = "") -> Figure:
    """Accuracy against the number of labelled imperfect patterns, on a logarithmic axis.

    Args:
        points: ``n`` labelled patterns, ``accuracy``, and ``low`` and ``high`` of its interval; each.
        raw: accuracy of raw patterns, which needs no labels; a line.
        title: what learned.

    Raises:
        ValueError: if there are no points.
    """
    if not points:
        raise ValueError("there is no learning curve to draw")
    drawn = sorted(points, key=lambda point: point["n"])
    n, accuracy, low, high = (np.array([p[key] for p in drawn], float) for key in ("n", "accuracy", "low", "high"))
    figure = _figure(6.4, 3.6)
    axes = figure.add_subplot()
    if raw is not None:
        axes.axhline(raw, color=RAW, linewidth=1.2, linestyle="--", label="raw, no labels needed")
    axes.errorbar(
        n, accuracy, np.abs([low, high] - accuracy), color=REFINED, marker="o", markersize=5, capsize=3, label="refined"
    )
    axes.set_xscale("log")
    axes.set_xticks(n, [f"{count:.0f}" for count in n])
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.set(xlabel="labelled imperfect training patterns", ylabel="accuracy on the test part", title=title)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@dataclass(frozen=True)
class Sureness:
    """How sure a method's answers are, and whether they are right.

    Attributes:
        label: what the method is called.
        probabilities: of the classes, shape (n, classes).
        truth: class indices, shape (n,).
        color: of its lines.
        dashed: whether these are.
    """

    label: str
    probabilities: ArrayLike
    truth: ArrayLike
    color: str
    dashed: bool = False


@_styled
def calibration_figure(methods: Sequence[Sureness], bins: int = 10) -> Figure:
    """Reliability, and accuracy where only the surest are answered, each method a line.

    Left: accuracy of answers against their probability, see :func:`.metrics.reliability`; areas grow with the number of
    answers, and on the diagonal a probability means what it says. Right: see :func:`.metrics.coverage_accuracy`.

    Args:
        methods: at least one, of at least one answer each.
        bins: of the probability.

    Raises:
        ValueError: if there is no method.
    """
    if not methods:
        raise ValueError("there are no probabilities to draw")
    figure = _figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
    for method in methods:
        p, truth = np.asarray(method.probabilities, float), np.asarray(method.truth)
        found = reliability(p, truth, bins)
        look: dict[str, Any] = {"color": method.color, "linestyle": "--" if method.dashed else "-", "linewidth": 1.4}
        left.plot(found.confidence, found.accuracy, **look)
        left.scatter(found.confidence, found.accuracy, 4 + 160 * found.n / found.n.sum(), color=method.color, alpha=0.7)
        shares, accuracies = coverage_accuracy(p.max(axis=1), p.argmax(axis=1) == truth)
        name = f"{method.label} (error {number(reliability(p, truth).error, 3)})"
        right.plot(shares, accuracies, **look, label=name)
    left.set(xlabel="probability of the answer", ylabel="right", title="Reliability", xlim=(0, 1), ylim=(0, 1.02))
    right.set(xlabel="answered, the surest first", ylabel="right", title="Accuracy of the surest", xlim=(0, 1))
    right.set_ylim(top=1.02)
    for axes in (left, right):
        axes.xaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.grid()
        axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=min(3, len(methods)))
    return figure


@_styled
def predicted_histogram_figure(counts: Mapping[str, Mapping[str, int]], truth: Mapping[str, int]) -> Figure:
    """How often each crystal system is predicted, one panel a method; the steps are how often it is true.

    A method that has collapsed to one class shows one tall bar.

    Args:
        counts: title of a panel → crystal system → how many patterns are said to be it.
        truth: crystal system → how many patterns are it.

    Raises:
        ValueError: if there are no panels.
    """
    if not counts:
        raise ValueError("there are no predictions to draw")
    columns = min(3, len(counts))
    rows = -(-len(counts) // columns)
    figure = _figure(3.3 * columns + 0.5, 2.1 * rows + 0.9)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    systems = [str(system) for system in CRYSTAL_SYSTEMS]
    places = np.arange(len(systems))
    true = np.array([truth.get(system, 0) for system in systems])
    for axes, (title, found) in zip(grid.flat, counts.items(), strict=False):
        axes.bar(places, [found.get(s, 0) for s in systems], color=list(SYSTEM_COLORS.values()), width=0.8)
        axes.hlines(true, places - 0.46, places + 0.46, color=INK, linewidth=1.6)
        axes.set_title(title, fontsize=8.5)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xticks(places, systems, rotation=40, ha="right", rotation_mode="anchor")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in grid.flat[len(counts) :]:
        axes.set_visible(False)
    for column in range(columns):
        last = (len(counts) - 1 - column) // columns
        grid[last, column].tick_params(labelbottom=True)
    figure.supylabel("patterns predicted; black lines: true", fontsize=9)
    return figure


@dataclass(frozen=True)
class Sticks:
    """A phase's lines.

    Attributes:
        two_theta: [°], shape (n,).
        intensity: the strongest 1, shape (n,).
        label: what the phase is called.
    """

    two_theta: NDArray[np.float64]
    intensity: NDArray[np.float64]
    label: str


@_styled
def candidates_figure(
    two_theta: NDArray[np.float64],
    intensity: NDArray[np.float64],
    candidates: Sequence[Sticks],
    unexplained: NDArray[np.float64],
    title: str,
    note: str,
    wavelength: float | None,
) -> Figure:
    """A measured pattern above the lines of the phases that it may be of.

    A line is as long as the root of its intensity, so that weak ones are seen.

    Args:
        two_theta: rising angles [°], shape (n,).
        intensity: as measured, shape (n,).
        candidates: phases, each with a strip of its own.
        unexplained: 2θ of peaks that none of them explains [°], shape (k,).
        title: what the pattern is.
        note: what is to be minded; may be empty.
        wavelength: [Å].
    """
    figure = _figure(7.6, 3.1 + 0.34 * len(candidates))
    ratios = [8.0, *([0.9] * len(candidates))]
    axes, *strips = figure.subplots(len(ratios), sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    top = float(intensity.max()) or 1.0
    axes.plot(two_theta, intensity, color=RAW, linewidth=0.8)
    axes.set_xlim(two_theta[0], two_theta[-1])
    axes.set_ylim(0, 1.15 * top)
    axes.set_ylabel("intensity")
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.grid(axis="x")
    if len(unexplained):
        heights = np.interp(unexplained, two_theta, intensity) + 0.05 * top
        axes.plot(unexplained, heights, "v", color=REFINED, markersize=4, label="explained by no candidate")
        axes.legend(loc="upper right")
    axes.set_title("\n".join(filter(None, (title, textwrap.fill(note, 120)))))
    for place, (strip, sticks) in enumerate(zip(strips, candidates, strict=True), 1):
        strip.vlines(sticks.two_theta, 0, np.sqrt(sticks.intensity), color=THEORY, linewidth=0.9)
        strip.set_ylim(0, 1.1)
        strip.set_yticks([])
        strip.spines["left"].set_visible(False)
        box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 0.8}
        at: dict[str, Any] = {"xycoords": "axes fraction", "ha": "right", "va": "top", "fontsize": 7.5, "bbox": box}
        strip.annotate(f"{place}  {sticks.label}", (0.998, 1.0), **at)
    for upper in (axes, *strips)[:-1]:
        upper.tick_params(bottom=False)
    (axes, *strips)[-1].set_xlabel("2θ (°)" + (f", λ = {wavelength:g} Å" if wavelength else ""))
    return figure


@_styled
def series_figure(
    axis: NDArray[np.float64],
    maps: Mapping[str, NDArray[np.float64]],
    at: NDArray[np.float64],
    quantity: str,
    probabilities: NDArray[np.float64],
    sure: Sequence[bool],
    changes: Sequence[tuple[float, str]],
    wavelength: float | None,
) -> Figure:
    """Patterns over time or temperature as heat maps side by side, and the crystal systems' probabilities along them.

    Args:
        axis: 2θ [°], shape (points,).
        maps: a title, and for each pattern its intensities, 0 to 1, NaN where nothing was measured, (n, points).
        at: when, or at which temperature, each was measured, rising, shape (n,).
        quantity: what ``at`` is, with its unit.
        probabilities: shape (n, 7).
        sure: whether each is an answer.
        changes: where the answer changes, and from what to what.
        wavelength: of the axis [Å].
    """
    figure = _figure(4.4 * len(maps) + 3.0, 4.6)
    *images, last = figure.subplots(1, len(maps) + 1, sharey=True, width_ratios=[2.0] * len(maps) + [1.0])
    middles = (at[1:] + at[:-1]) / 2
    ends = (at[:1] * 1.5 - at[1:2] * 0.5, at[-1:] * 1.5 - at[-2:-1] * 0.5) if len(at) > 1 else (at - 0.5, at + 0.5)
    edges = np.concatenate([ends[0], middles, ends[1]])
    half = (axis[1] - axis[0]) / 2
    across = np.concatenate([axis - half, [axis[-1] + half]])
    for axes, (title, values) in zip(images, maps.items(), strict=True):
        axes.pcolormesh(across, edges, values, cmap="magma", vmin=0, vmax=1, rasterized=True)
        axes.set_title(title)
        axes.set_xlabel("2θ (°)" + (f", λ = {wavelength:g} Å" if wavelength else ""))
    images[0].set_ylabel(quantity)
    for index in np.flatnonzero(probabilities.max(axis=0) >= LEAST_SHOWN):
        system = CRYSTAL_SYSTEMS[int(index)]
        last.plot(probabilities[:, index], at, color=SYSTEM_COLORS[system], linewidth=1.0, label=str(system))
        for filled in (True, False):
            which = np.array(sure) == filled
            face = SYSTEM_COLORS[system] if filled else "white"
            marks: dict[str, Any] = {"markersize": 4, "color": SYSTEM_COLORS[system], "markerfacecolor": face}
            last.plot(probabilities[which, index], at[which], SYSTEM_MARKERS[system], **marks)
    last.set_xlim(-0.03, 1.03)
    last.xaxis.set_major_formatter(PERCENT)
    last.set_xlabel("probability (open: no answer)")
    last.set_title("crystal system")
    last.legend(loc="best")
    for place, text in changes:
        for axes in (*images, last):
            axes.axhline(place, color="white" if axes is not last else INK, linewidth=1.0, linestyle="--")
        box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.0}
        images[0].annotate(
            text, (0.99, place), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7, bbox=box
        )
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_pattern(figure: SubFigure, pattern: PatternPlot) -> None:
    x = np.asarray(pattern.two_theta, float)
    raw, refined = np.asarray(pattern.raw, float), np.asarray(pattern.refined, float)
    curves: list[Curve] = [("raw", RAW, raw), ("refined", REFINED, refined)]
    unit = "intensity (unit of the raw pattern)"
    if pattern.theory is not None:
        curves.append(("theory", THEORY, np.asarray(pattern.theory, float)))
        curves = [(name, color, _to_maximum(y)) for name, color, y in curves]
        unit = "intensity / maximum"
    stack = figure.subplots(len(curves) + 1, sharex=True, height_ratios=[1.0] * len(curves) + [0.75])
    top = max(float(np.nanmax(y)) for _, _, y in curves)
    top = top if top > 0 else 1.0
    for axes, (name, color, y) in zip(stack, curves, strict=False):
        axes.plot(x, y, color=color, linewidth=0.8)
        axes.set_ylim(min(0.0, float(np.nanmin(y))) - 0.05 * top, 1.12 * top)
        _name(axes, name, color)
    _draw_ticks(stack[-2], x, pattern.theory_peaks, top)
    _draw_difference(stack[-1], x, curves)
    for axes in stack:
        axes.yaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        axes.grid(axis="x")
    for axes in stack[:-1]:
        axes.tick_params(bottom=False)
        axes.spines["bottom"].set_visible(False)
    stack[0].set_xlim(x[0], x[-1])
    stack[0].set_title(pattern.title)
    stack[-1].set_xlabel("2θ (°)" + (f", λ = {pattern.wavelength:g} Å" if pattern.wavelength else ""))
    figure.supylabel(unit, fontsize=9)


def _draw_ticks(axes: Axes, x: NDArray[np.float64], theory_peaks: ArrayLike | None, top: float) -> None:
    peaks = np.asarray([] if theory_peaks is None else theory_peaks, float)
    peaks = peaks[(peaks >= x[0]) & (peaks <= x[-1])]
    if peaks.size:
        axes.set_ylim(-0.28 * top, 1.12 * top)
        axes.vlines(peaks, -0.22 * top, -0.08 * top, color=THEORY, linewidth=0.7)


def _draw_difference(axes: Axes, x: NDArray[np.float64], curves: Sequence[Curve]) -> None:
    patterns = {name: y for name, _, y in curves}
    axes.axhline(0, color=FAINT, linewidth=0.6)
    if "theory" in patterns:
        axes.plot(x, patterns["raw"] - patterns["theory"], color="#BFC4CB", linewidth=0.8)
        axes.plot(x, patterns["refined"] - patterns["theory"], color=DIFFERENCE, linewidth=0.8)
        _name(axes, "refined − theory", DIFFERENCE, "grey: raw − theory")
    else:
        axes.plot(x, patterns["refined"] - patterns["raw"], color=DIFFERENCE, linewidth=0.8)
        _name(axes, "refined − raw", DIFFERENCE)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.4 * (high - low))  # room for the names


def _name(axes: Axes, text: str, color: str, note: str = "") -> None:
    at: dict[str, Any] = {"xycoords": "axes fraction", "ha": "right", "va": "top", "fontsize": 8.5}
    axes.annotate(text, (0.995, 0.97), color=color, fontweight="bold", **at)
    if note:
        at["fontsize"] = 7.5
        axes.annotate(note, (0.995, 0.97), (0, -11), textcoords="offset points", color=FAINT, **at)


def _to_maximum(y: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = np.nanmax(y)
    return y / highest if highest > 0 else y


def _scatter(axes: Axes, xy: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    axes.scatter(xy[labels < 0, 0], xy[labels < 0, 1], s=8, color=FAINT, marker="x", linewidths=0.6)
    size = float(np.clip(4000 / max(len(xy), 1), 5, 26))
    for index, system in enumerate(CRYSTAL_SYSTEMS):
        points = xy[labels == index]
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=size,
            color=SYSTEM_COLORS[system],
            marker=SYSTEM_MARKERS[system],
            alpha=0.8,
            linewidths=0,
        )


def _stars(axes: Axes, prototypes: NDArray[np.float64]) -> None:
    for point, system in zip(prototypes, CRYSTAL_SYSTEMS, strict=True):
        axes.scatter(
            point[0], point[1], s=150, marker="*", color=SYSTEM_COLORS[system], edgecolors=INK, linewidths=0.8, zorder=3
        )


def _part(name: str) -> tuple[str, str]:
    for part in ("train", "validation"):
        if name.startswith(f"{part}_"):
            return part, name.removeprefix(f"{part}_")
    return "train", name


def _draw_accuracy(axes: Axes, y: float, row: Mapping[str, Any]) -> None:
    color = Method(row["method"]).color
    filled = row.get("supervision") != Supervision.NON_TARGETED
    axes.plot([row["accuracy_low"], row["accuracy_high"]], [y, y], color=color, linewidth=2, solid_capstyle="butt")
    axes.plot(row["accuracy"], y, "o", markersize=7, color=color, markerfacecolor=color if filled else "white")
    text = f"{percent(row['accuracy'])} %  ({share_interval(row['accuracy_low'], row['accuracy_high'])})"
    axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center", ha="left", fontsize=8.5)
