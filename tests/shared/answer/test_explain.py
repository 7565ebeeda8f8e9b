"""What candidates say of a pattern, against Bragg's law by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from imitation_refinement.answer.explain import doubts, explain, explained, lines_of, listed, peaks_of
from imitation_refinement.answer.library import Library, record
from imitation_refinement.answer.search import Candidate
from imitation_refinement.xrd.crystal import CrystalSystem
from imitation_refinement.xrd.peaks import Peaks
from tests.shared.answer.conftest import measured, reflections_of

CUBIC = CrystalSystem.CUBIC
EDGE = 5.64


def candidate(library: Library, formula: str, larger: float = 0.0, zero: float = 0.0, score: float = 0.5) -> Candidate:
    row = library.formula.tolist().index(formula)
    reciprocal = library.reciprocal[row] / (1 + larger)
    name, group = str(library.material_id[row]), int(library.space_group[row])
    return Candidate(row, name, formula, group, CUBIC, "", "", reciprocal, larger, zero, score, 0.5)


def bragg(d: float, wavelength: float = 1.5406) -> float:
    return math.degrees(2 * math.asin(wavelength / (2 * d)))


def peaks(*positions: float, fwhm: float = 0.1) -> Peaks:
    return Peaks(np.array(positions), np.ones(len(positions)), np.full(len(positions), fwhm))


def test_lines_stand_where_the_fitted_cell_puts_them(library: Library) -> None:
    found = lines_of(library, candidate(library, "NaCl", 0.01, 0.05), 1.5406, 20, 60)
    edge = 1.01 * EDGE
    allowed = [(1, 1, 1), (2, 0, 0), (2, 2, 0), (3, 1, 1), (2, 2, 2)]
    expected = [bragg(edge / math.sqrt(sum(h * h for h in hkl))) + 0.05 for hkl in allowed]
    assert found.two_theta == pytest.approx(expected, abs=1e-3)
    assert [tuple(sorted(np.abs(hkl), reverse=True)) for hkl in found.hkl.tolist()] == allowed
    assert found.intensity.argmax() == 1 and found.intensity.max() == 1


def test_a_pattern_is_explained_by_its_own_crystal(library: Library) -> None:
    x, y = measured("NaCl", ka2_ratio=0.5)
    seen = listed(peaks_of(x, y, 1.54056))
    found = explain(library, [candidate(library, "NaCl"), candidate(library, "ZnS")], seen, 1.54056, x[0], x[-1])
    assert found.explained[0].all() and not found.unexplained.any()
    assert found.explained[1].mean() < 0.5


def test_lines_of_the_doublet_explain_where_the_wavelength_is_that_of_the_first(library: Library) -> None:
    second = bragg(EDGE / math.sqrt(20), 1.54439)  # 0.2° above the line 420 at Kα1
    lines = lines_of(library, candidate(library, "NaCl"), 1.54056, 20, 90)
    assert second - bragg(EDGE / math.sqrt(20), 1.54056) > 0.2
    assert explained(peaks(second), lines, 1.54056).all()
    assert not explained(peaks(second), lines, 1.54184).any()  # of the mean of both
    assert explained(peaks(second, fwhm=0.6), lines, 1.54184).all()  # the line lies within the peak


def test_what_differs_in_elements_alone_is_told_by_these() -> None:
    rows = [record(reflections_of("NaCl"), name, name, 225) for name in ("NaCl", "KBr")]
    library = Library.of([row for row in rows if row])
    both = [candidate(library, "NaCl"), candidate(library, "KBr", score=0.2)]
    (doubt,) = doubts(library, both, 1.5406, 20, 90)
    assert doubt.cosine == pytest.approx(1) and doubt.window is None
    assert (doubt.only_first, doubt.only_second) == (("Cl", "Na"), ("Br", "K"))
    assert "an analysis for Cl, Na (in 1 alone) or Br, K (in 2 alone) would decide" in doubt.text
    weak = [both[0], candidate(library, "KBr", score=0.04)]
    assert not doubts(library, weak, 1.5406, 20, 90)


def test_a_range_that_would_decide(library: Library) -> None:
    """Zincblende and rock salt of one line at the same place are alike where nothing else was measured."""
    place = bragg(EDGE / 2)
    larger = (EDGE / 2) * math.sqrt(3) / 5.41 - 1  # (111) of ZnS on (200) of NaCl
    both = [candidate(library, "NaCl"), candidate(library, "ZnS", larger)]
    (doubt,) = doubts(library, both, 1.5406, place - 2, place + 2)
    assert doubt.window is not None
    low, high = doubt.window
    assert high <= place - 2 + 0.1 or low >= place + 2 - 0.1
    there = [lines_of(library, one, 1.5406, low, high).two_theta for one in both]
    assert len(there[0]) != len(there[1]) or np.abs(there[0] - there[1]).max() > 0.2
    assert f"lines from {low:g} to {high:g}°" in doubt.text
    assert not doubts(library, both, 1.5406, 20, 90)  # the whole range decides


@pytest.mark.parametrize(
    ("low", "high", "step", "wavelength"), [(0, 180, 3, 1.54), (179, 180, 0.001, 1.54), (1, 170, 0.00217, 0.1)]
)
def test_peaks_at_the_ends_of_what_a_grid_holds(low: float, high: float, step: float, wavelength: float) -> None:
    angles = np.arange(low, high + step / 2, step)
    top = (low + high) / 2
    counts = 10 + 1000 * np.exp(-(((angles - top) / (10 * step)) ** 2))
    found = peaks_of(angles, np.random.default_rng(0).poisson(counts).astype(float), wavelength)
    assert np.abs(found.position - top).min() < 10 * step
