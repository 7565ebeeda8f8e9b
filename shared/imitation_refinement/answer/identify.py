"""Which crystal system, and which phase: a model's answer to patterns, or why it gives none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imitation_refinement.answer.fusion import Opinions
from imitation_refinement.answer.library import REFERENCE
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.pattern import is_calculated
from imitation_refinement.answer.search import Candidate
from imitation_refinement.data.patterns import ALL, Pattern, read_all, report_rejected, say_remarks
from imitation_refinement.errors import InputError
from imitation_refinement.files import output_folder, write_text
from imitation_refinement.progress import progress, say
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, CrystalSystem
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.peaks import find_peaks

LEAST_COVERAGE = 0.25  # of the networks' axis: from 12 to 30°, from 30 to 60°
FEWEST_LINES = 3  # so counted, 119 measured minerals show five or more, twenty patterns of noise and glass at most one
LINE_NOISE = 7.0  # [σ]
LINE_STEP = 0.05  # [° at the wavelength of copper], at which they are counted: narrower steps show noise as lines
UNSURE = 0.5  # a first answer that is less probable than all others together is none
LISTED = 5  # candidates in the table


class Flag(StrEnum):
    """Whether there is an answer."""

    ANSWERED = ""
    UNSURE = "unsure"
    OUTSIDE = "outside"


@dataclass(frozen=True)
class Identified:
    """What is said of a pattern.

    Attributes:
        pattern: as it was given.
        probabilities: of the seven crystal systems, shape (7,).
        opinions: what they were fused from.
        candidates: phases, the most probable first.
        flag: whether this is an answer.
        reason: why not, or what to mind; may be empty.
    """

    pattern: Pattern
    probabilities: NDArray[np.float64]
    opinions: Opinions
    candidates: tuple[Candidate, ...]
    flag: Flag
    reason: str

    @property
    def order(self) -> tuple[CrystalSystem, ...]:
        """The crystal systems, the most probable first."""
        return tuple(CRYSTAL_SYSTEMS[i] for i in np.argsort(-self.probabilities, kind="stable"))


def identify(model: Model, pattern: Pattern, allowed: NDArray[np.bool_] | None = None) -> Identified:
    """The answer to one pattern.

    Args:
        model: what answers.
        pattern: a checked pattern with its wavelength.
        allowed: which crystals of the model's library may be candidates, shape (entries,); all without it.

    Raises:
        InputError: if the pattern can't be searched: no wavelength that lines are known for, too few points, nothing
            above the background.
    """
    assert pattern.wavelength is not None, "a checked pattern has a wavelength"
    given = (pattern.two_theta, pattern.intensity, pattern.wavelength)
    answer = model.search(*given, allowed, where=pattern.where)
    opinions = Opinions.of(model.ensemble.log_probabilities(*given), answer)
    probabilities = model.fusion(opinions)
    flag, reason = _judged(model, pattern, probabilities)
    return Identified(pattern, probabilities, opinions, answer.candidates, flag, reason)


def _judged(model: Model, pattern: Pattern, probabilities: NDArray[np.float64]) -> tuple[Flag, str]:
    """Whether a pattern is one that the model can answer to, and why not."""
    assert pattern.wavelength is not None
    grid = model.ensemble.grid
    share = grid.coverage(pattern.two_theta, pattern.wavelength)
    if share < LEAST_COVERAGE:
        what = f"log q from {grid.start:g} to {grid.stop:g}° at {grid.wavelength:g} Å"
        return Flag.OUTSIDE, f"covers {share:.0%} of what networks have learnt ({what}): measure a wider range"
    lines = n_lines(pattern)
    if lines < FEWEST_LINES:
        what = "amorphous, empty, or measured too briefly"
        return Flag.OUTSIDE, f"shows {lines} lines of {LINE_NOISE:g} times its noise: {what}"
    reason = "without noise: a calculated pattern, no measured one" if is_calculated(pattern.intensity) else ""
    first, second = np.argsort(-probabilities)[:2]
    if probabilities[first] < UNSURE:
        what = f"{CRYSTAL_SYSTEMS[first]} and {CRYSTAL_SYSTEMS[second]} are not told apart"
        return Flag.UNSURE, "; ".join(filter(None, (what, reason)))
    return Flag.ANSWERED, reason


def n_lines(pattern: Pattern) -> int:
    """How many lines of a measured pattern stand :data:`LINE_NOISE` times its noise high."""
    assert pattern.wavelength is not None
    x = np.asarray(pattern.two_theta, float)
    ends = (x > 0) & (x < 180)  # no line stands at 0 or 180°, and no grid begins or ends there
    x = x[ends]
    points = max(64, int((x[-1] - x[0]) / (LINE_STEP * pattern.wavelength / REFERENCE)) + 1)
    grid = Grid(start=float(x[0]), stop=float(x[-1]), points=points, wavelength=pattern.wavelength)
    found = find_peaks(grid.resample(x, pattern.intensity[ends], pattern.wavelength), grid, 0.0, LINE_NOISE)
    return len(found.position)


def identify_files(
    paths: Sequence[str],
    output: Path,
    wavelength: str | None = None,
    folder: str | Path | None = None,
    *,
    scan: str = ALL,
    axis: str | None = None,
) -> list[Identified]:
    """Identifies pattern files; writes ``answers.csv`` and ``rejected.csv``.

    Args:
        paths: files of :mod:`imitation_refinement.data.formats`, or folders of them.
        output: the folder for what is written.
        wavelength: [Å], or with its unit, or a line's name, for patterns that do not say theirs.
        folder: of a model; the one that comes with the software without it.
        scan: which of a file's several scans: its number, several as ``1,3``, or ``all``.
        axis: of patterns that do not say theirs, as ``q (1/nm)``.

    Raises:
        InputError: if the folder, the model or a path can't be used, or no pattern is left.
    """
    output_folder(output)
    model = Model.read(folder)
    patterns, rejected = read_all(paths, wavelength, scan=scan, axis=axis)
    patterns = _told_apart(patterns)
    say_remarks(patterns)
    found: list[Identified] = []
    for pattern in progress(patterns, "identify", unit="patterns"):
        try:
            found.append(identify(model, pattern))
        except InputError as error:
            rejected.append(error)
    report_rejected(output, paths, rejected, bool(found))
    write_text(output / "answers.csv", answers(found).to_csv(index=False))
    unsure = sum(one.flag is not Flag.ANSWERED for one in found)
    say(f"{output / 'answers.csv'}: {len(found)} patterns, {unsure} of them without a sure answer")
    return found


def _told_apart(patterns: Sequence[Pattern]) -> list[Pattern]:
    """The patterns, with a remark on those that share their names."""
    named = Counter(pattern.pattern_id for pattern in patterns)
    return [
        replace(one, remarks=(*one.remarks, f"{named[one.pattern_id]} patterns have this name; this is {one.where}"))
        if named[one.pattern_id] > 1
        else one
        for one in patterns
    ]


def answers(found: Sequence[Identified]) -> pd.DataFrame:
    """One row a pattern: the two most probable crystal systems, all probabilities, flag and reason, the candidates."""
    return pd.DataFrame([_row(one) for one in found])


def _row(one: Identified) -> dict[str, Any]:
    first, second = one.order[:2]
    p = dict(zip(CRYSTAL_SYSTEMS, one.probabilities.round(4).tolist(), strict=True))
    row: dict[str, Any] = {
        "pattern_id": one.pattern.pattern_id,
        "crystal_system": str(first),
        "probability": p[first],
        "second_system": str(second),
        "second_probability": p[second],
        **{f"p_{system}": value for system, value in p.items()},
        "flag": str(one.flag),
        "reason": "; ".join(filter(None, (one.reason, *one.pattern.remarks))),
    }
    for number in range(1, LISTED + 1):
        candidate = one.candidates[number - 1] if number <= len(one.candidates) else None
        for name in ("formula", "space_group", "id", "score", "probability", "strain", "zero_error", "made"):
            value = getattr(candidate, "material_id" if name == "id" else name) if candidate else None
            row[f"candidate_{number}_{name}"] = round(value, 5) if isinstance(value, float) else value
    return row
