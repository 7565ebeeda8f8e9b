"""Figures show what they were given: curves, ticks, counts, intervals, units."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from imitation_refinement.results import figures
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

TWO_THETA = np.linspace(5, 90, 200)
RAW = 300 * np.exp(-(((TWO_THETA - 40) / 0.8) ** 2)) + 40
REFINED = 280 * np.exp(-(((TWO_THETA - 40) / 0.8) ** 2))
THEORY = np.exp(-(((TWO_THETA - 40.5) / 0.5) ** 2))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def curve(axes: Axes) -> np.ndarray:
    return np.asarray(axes.lines[-1].get_ydata())


def test_pattern_figure_stacks_raw_refined_theory_and_their_difference() -> None:
    figure = figures.pattern_figure(TWO_THETA, RAW, REFINED, THEORY, [2.0, 40.5, 73.0, 95.0], "NbGa3", 1.5406)
    raw, refined, theory, difference = figure.axes
    assert curve(raw) == pytest.approx(RAW / RAW.max())
    assert curve(refined) == pytest.approx(REFINED / REFINED.max())
    assert curve(theory) == pytest.approx(THEORY / THEORY.max())
    assert curve(difference) == pytest.approx(curve(refined) - curve(theory))
    (ticks,) = [c for c in theory.collections if isinstance(c, LineCollection)]
    assert [segment[0, 0] for segment in ticks.get_segments()] == [40.5, 73.0]  # those on the axis
    assert {"NbGa3", "2θ (°), λ = 1.5406 Å", "intensity / maximum", "refined − theory"} <= set(texts(figure))
    assert raw.get_xlim() == difference.get_xlim() == (5, 90)


def test_pattern_figure_without_theory_keeps_the_unit() -> None:
    figure = figures.pattern_figure(TWO_THETA, RAW, REFINED)
    raw, refined, difference = figure.axes
    assert curve(raw) == pytest.approx(RAW)
    assert curve(difference) == pytest.approx(REFINED - RAW)
    assert raw.get_ylim()[1] == refined.get_ylim()[1]
    assert {"2θ (°)", "intensity (unit of the raw pattern)", "refined − raw"} <= set(texts(figure))


def test_patterns_figure_and_names_that_look_like_formulas(tmp_path: Path) -> None:
    plots = [figures.PatternPlot(TWO_THETA, RAW, REFINED, title=f"a$_{k}") for k in range(3)]
    figure = figures.patterns_figure(plots)
    assert len(figure.axes) == 9
    figures.save_figure(figure, tmp_path / "new" / "patterns.png")
    assert (tmp_path / "new" / "patterns.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no patterns"):
        figures.patterns_figure([])


def test_dark_pattern_is_drawn() -> None:
    figures.pattern_figure(TWO_THETA, 0 * RAW, 0 * RAW, 0 * RAW).canvas.draw()


def test_confusion_figure_shows_counts_and_row_shares() -> None:
    matrix = np.diag(np.arange(7)) + np.eye(7, k=1, dtype=int)
    figure = figures.confusion_figure(matrix, "IR")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == [str(n) for n in matrix.ravel()]
    shares = np.asarray(axes.images[0].get_array())
    assert shares[2] == pytest.approx([0, 0, 2 / 3, 1 / 3, 0, 0, 0])
    assert [t.get_text() for t in axes.get_yticklabels()][:2] == ["triclinic (1)", "monoclinic (2)"]


def test_embedding_figure_keeps_one_colour_a_system() -> None:
    xy, labels = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 8 - 1
    figure = figures.embedding_figure([("raw", xy, labels), ("IR", -xy, labels)], [np.zeros((7, 2))] * 2)
    for axes, sign in zip(figure.axes, (1, -1), strict=True):
        for index, system in enumerate(CRYSTAL_SYSTEMS, 1):  # after the unknown ones
            drawn = axes.collections[index]
            assert np.asarray(drawn.get_offsets()) == pytest.approx(sign * xy[labels == index - 1])
            assert mpl.colors.to_hex(drawn.get_facecolor()[0]).upper() == figures.SYSTEM_COLORS[system]
    assert {*map(str, CRYSTAL_SYSTEMS), "unknown", "prototype", "raw", "IR"} <= set(texts(figure))


def test_colours_and_markers_are_all_different() -> None:
    assert len(set(figures.SYSTEM_COLORS.values())) == len(set(figures.SYSTEM_MARKERS.values())) == 7


def test_training_curves_pair_training_and_validation() -> None:
    history = {"train_loss": [3.0, 2.0], "validation_loss": [3.5, 2.5], "accuracy": [0.5, 0.75]}
    loss, accuracy = figures.training_curves_figure(history, "VGG").axes
    assert loss.get_legend() and not accuracy.get_legend()
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    assert list(loss.lines[1].get_ydata()) == [3.5, 2.5]
    assert list(accuracy.lines[0].get_xdata()) == [1, 2]
    with pytest.raises(ValueError, match="no training history"):
        figures.training_curves_figure({})


def test_accuracy_figure_has_a_point_and_an_interval_a_row() -> None:
    interval = {"accuracy_low": 0.4, "accuracy_high": 0.6}
    rows = [
        {"method": "raw", "classifier": "vgg", "supervision": None, "accuracy": 0.5, **interval},
        {"method": "ir", "classifier": "vgg", "supervision": "targeted", "accuracy": 0.55, **interval},
        {"method": "majority", "classifier": "", "accuracy": 0.45, **interval},
        {"method": "dwt", "classifier": "vgg", "accuracy": None},
    ]
    axes = figures.accuracy_figure(rows).axes[0]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [point.get_xdata()[0] for point in points] == [0.45, 0.5, 0.55]
    assert [list(line.get_xdata()) for line in axes.lines].count([0.4, 0.6]) == 3
    assert [list(line.get_xdata()) for line in axes.lines].count([0.5, 0.5]) == 2  # raw, behind what reads with VGG
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == [
        "Without a network",
        "Majority class",
        "Ideal or simulated patterns only",
        "VGG: Prototypical classifier (raw)",
        "Adapted with labels",
        "VGG: IR, targeted",
    ]


def test_learning_curve_is_in_order_of_labels() -> None:
    points = [{"n": n, "accuracy": a, "low": a - 0.1, "high": a + 0.05} for n, a in ((300, 0.8), (10, 0.5), (30, 0.6))]
    axes = figures.learning_curve_figure(points, raw=0.55).axes[0]
    raw, curve_line = axes.lines[0], axes.containers[0].lines[0]
    assert list(raw.get_ydata()) == [0.55, 0.55]
    assert list(curve_line.get_xdata()) == [10, 30, 300] and list(curve_line.get_ydata()) == [0.5, 0.6, 0.8]
    bars = axes.containers[0].lines[2][0].get_segments()
    assert bars[2][:, 1] == pytest.approx([0.7, 0.85])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["10", "30", "300"]
    with pytest.raises(ValueError, match="no learning curve"):
        figures.learning_curve_figure([])


def test_histogram_of_predictions_beside_the_truth() -> None:
    truth = {"cubic": 3, "triclinic": 5}
    figure = figures.predicted_histogram_figure({"raw": {"cubic": 8}, "IR": {"cubic": 4, "monoclinic": 4}}, truth)
    raw, refined = figure.axes
    assert [bar.get_height() for bar in raw.patches] == [0, 0, 0, 0, 0, 0, 8]
    assert [bar.get_height() for bar in refined.patches] == [0, 4, 0, 0, 0, 0, 4]
    (true,) = [c for c in raw.collections if isinstance(c, LineCollection)]
    assert [segment[0, 1] for segment in true.get_segments()] == [5, 0, 0, 0, 0, 0, 3]
    with pytest.raises(ValueError, match="no predictions"):
        figures.predicted_histogram_figure({}, truth)


def test_global_style_is_left_alone() -> None:
    before = dict(mpl.rcParams)
    figures.pattern_figure(TWO_THETA, RAW, REFINED)
    assert dict(mpl.rcParams) == before


def test_calibration_shows_reliability_and_the_surest() -> None:
    p = np.array([[0.95, 0.05], [0.85, 0.15], [0.4, 0.6], [0.35, 0.65]])
    truth = [0, 1, 1, 1]
    methods = [
        figures.Sureness("search", p, truth, "#228833"),
        figures.Sureness("raw", p[:1], truth[:1], "#000000", True),
    ]
    figure = figures.calibration_figure(methods)
    left, right = figure.axes
    line = left.lines[1]  # the first is the diagonal
    assert np.asarray(line.get_xdata()) == pytest.approx([0.6, 0.65, 0.85, 0.95])
    assert np.asarray(line.get_ydata()) == pytest.approx([1, 1, 0, 1])
    assert np.asarray(right.lines[0].get_xdata()) == pytest.approx([0.25, 0.5, 0.75, 1])
    assert np.asarray(right.lines[0].get_ydata()) == pytest.approx([1, 0.5, 2 / 3, 0.75])
    assert left.lines[2].get_linestyle() == "--"
    assert "raw (error 0.050)" in texts(figure)
    with pytest.raises(ValueError, match="no probabilities"):
        figures.calibration_figure([])


def test_accuracy_against_samples() -> None:
    figure = figures.samples_figure({"first": ([1e5, 2e5], [0.4, 0.5]), "second": ([1e5], [0.3])})
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and len(axes.lines) == 2
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0.4, 0.5]
    assert {"first", "second", "samples seen"} <= set(texts(figure))
    with pytest.raises(ValueError, match="no curve"):
        figures.samples_figure({})
