"""Pictures of answers, and a sketch that is small enough to stand in a table of thousands."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imitation_refinement.answer.identify import Identified
from imitation_refinement.results.figures import Sticks, candidates_figure

DRAWN = 5  # candidates
SKETCHED = 120  # points of a sketch
HEIGHT = 100  # of a sketch


def answer_figure(one: Identified) -> Figure:
    """The measured pattern, marks where no candidate explains a peak, and below it the lines of the candidates."""
    found, pattern = one.explanation, one.pattern
    sticks, unexplained = [], np.zeros(0)
    if found is not None:
        unexplained = found.peaks.position[found.unexplained]
        for candidate, lines in zip(one.candidates[:DRAWN], found.lines, strict=False):
            label = f"{candidate.formula} ({candidate.space_group}), {candidate.probability:.0%}"
            sticks.append(Sticks(lines.two_theta, lines.intensity, label))
    said = f"{one.crystal_system}, {one.probability:.0%}" if one.crystal_system else "no answer"
    title = f"{pattern.pattern_id}: {said}" + (f" ({one.flag})" if one.flag else "")
    given = (pattern.two_theta, pattern.intensity)
    return candidates_figure(*given, sticks, unexplained, title, one.reason, pattern.wavelength)


def sketch(two_theta: NDArray[np.float64], intensity: NDArray[np.float64]) -> list[int]:
    """Roots of the highest intensities of even parts of the range, 0 to :data:`HEIGHT`; shape (SKETCHED,)."""
    part = ((two_theta - two_theta[0]) / (two_theta[-1] - two_theta[0]) * SKETCHED).astype(int)
    highest = np.zeros(SKETCHED)
    np.maximum.at(highest, np.minimum(part, SKETCHED - 1), intensity - intensity.min())
    return [int(value) for value in np.rint(HEIGHT * np.sqrt(highest / max(float(highest.max()), 1e-300)))]
