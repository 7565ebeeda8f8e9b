"""Patterns measured one after the other, over time or temperature: their answers, and where these change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imitation_refinement.answer.domain import Flag
from imitation_refinement.answer.explain import RIVAL
from imitation_refinement.answer.identify import Identified, identify
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.pattern import prepare
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.grid import convert_two_theta

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 700  # of a row of the heat maps
REFINED = "refined"  # what is shown beside the measured patterns,
ABOVE_BASELINE = "above the baseline"  # and where a model has no refiner

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """Two neighbours among the answered patterns of a series whose answers differ.

    Attributes:
        before, after: their places in the series.
        at: half way between the two, in the series' unit.
        text: from what to what.
    """

    before: int
    after: int
    at: float
    text: str


@dataclass(frozen=True)
class Series:
    """The answers to a series of patterns.

    Attributes:
        answers: in the order in which they were given.
        at: when, or at which temperature, each was measured, rising, shape (n,).
        quantity: what ``at`` is, with its unit, as ``temperature (°C)``.
        cleaned: intensities of each pattern without its background, on its own angles, refined where the model can.
        cleaned_by: what they are, in words.
    """

    answers: tuple[Identified, ...]
    at: Vector
    quantity: str
    cleaned: tuple[Vector, ...]
    cleaned_by: str

    @property
    def changes(self) -> tuple[Change, ...]:
        """Where the answer changes: the crystal system, or the phase beyond what its rivals allow.

        Patterns without an answer are passed over.
        """
        sure = [i for i, one in enumerate(self.answers) if one.flag is Flag.ANSWERED]
        out = []
        for i, j in pairwise(sure):
            before, after = self.answers[i], self.answers[j]
            if before.crystal_system != after.crystal_system or not _may_be_one(before, after):
                text = f"{_named(before)} → {_named(after)}"
                out.append(Change(i, j, float((self.at[i] + self.at[j]) / 2), text))
        return tuple(out)

    def table(self) -> pd.DataFrame:
        """One row a pattern: ``at``, the answer, the phase, whether the answer is another than the one before."""
        changed = {change.after for change in self.changes}
        rows = []
        for i, one in enumerate(self.answers):
            first = one.candidates[0] if one.candidates else None
            rows.append(
                {
                    "at": float(self.at[i]),
                    "pattern_id": one.pattern.pattern_id,
                    "crystal_system": one.crystal_system and str(one.crystal_system),
                    "probability": round(one.probability, 4),
                    "flag": str(one.flag),
                    "formula": first and first.formula,
                    "space_group": first and first.space_group,
                    "strain": first and round(first.strain, 5),
                    "changed": i in changed,
                    "reason": one.reason,
                }
            )
        return pd.DataFrame(rows)

    def plot(self) -> Figure:
        """Heat maps of the measured and the cleaned patterns, the answers along them, and where these change."""
        from imitation_refinement.results.figures import series_figure

        wavelength = self.answers[0].pattern.wavelength
        angles = [_angles(one.pattern, wavelength) for one in self.answers]
        axis = np.linspace(min(np.nanmin(a) for a in angles), max(np.nanmax(a) for a in angles), POINTS)
        measured = [_row(axis, a, one.pattern.intensity) for a, one in zip(angles, self.answers, strict=True)]
        cleaned = [_row(axis, a, y) for a, y in zip(angles, self.cleaned, strict=True)]
        return series_figure(
            axis,
            {"measured": np.stack(measured), self.cleaned_by: np.stack(cleaned)},
            self.at,
            self.quantity,
            np.stack([one.probabilities for one in self.answers]),
            [one.flag is Flag.ANSWERED for one in self.answers],
            [(change.at, change.text) for change in self.changes],
            wavelength,
        )


def identify_series(
    model: Model,
    patterns: Sequence[Pattern],
    at: Sequence[float] | None = None,
    quantity: str = "",
    allowed: NDArray[np.bool_] | None = None,
) -> Series:
    """The answers to patterns measured one after the other.

    Args:
        model: what answers.
        patterns: checked patterns with their wavelengths.
        at: when, or at which temperature, each was measured, in any order; their numbers from 1 without it.
        quantity: what ``at`` is, with its unit.
        allowed: which crystals of the model's library may be candidates; all without it.

    Raises:
        InputError: if there is no pattern, or not one finite ``at`` for each.
    """
    if not patterns:
        raise InputError("series", "has no pattern.", "Give at least one.")
    places = np.arange(1.0, len(patterns) + 1) if at is None else np.asarray(at, float)
    if places.shape != (len(patterns),) or not np.isfinite(places).all():
        problem = f"has {len(patterns)} patterns, and not one finite number in `at` for each."
        raise InputError("series", problem, "Give the time or the temperature of each.")
    order = np.argsort(places, kind="stable")
    answers = tuple(identify(model, patterns[i], allowed) for i in order)
    clean, said = (_above_baseline, ABOVE_BASELINE) if model.refiner is None else (partial(_refined, model), REFINED)
    cleaned = tuple(clean(one) for one in answers)
    return Series(answers, places[order], quantity or ("number" if at is None else ""), cleaned, said)


def _refined(model: Model, one: Identified) -> Vector:
    """What the model's refiner makes of a pattern, on its own angles, shape (n,); 0 where it can't be refined."""
    try:
        return model.refine(one.pattern, one.zero_error).intensity
    except InputError:  # its answer says why
        return np.zeros(len(one.pattern.two_theta))


def _above_baseline(one: Identified) -> Vector:
    """What is above background and noise, on the pattern's own angles, shape (n,); 0 where it can't be searched."""
    pattern = one.pattern
    assert pattern.wavelength is not None
    try:
        prepared = prepare(pattern.two_theta, pattern.intensity, pattern.wavelength, pattern.where)
    except InputError:  # its answer says why
        return np.zeros(len(pattern.two_theta))
    return np.interp(pattern.two_theta, prepared.two_theta, prepared.net, left=0.0, right=0.0)


def _may_be_one(before: Identified, after: Identified) -> bool:
    """Whether the first phase of one is a rival, or the first, of the other."""
    return _has(after, before) or _has(before, after)


def _has(one: Identified, other: Identified) -> bool:
    first = other.candidates[0]
    least = RIVAL * one.candidates[0].score
    return any(
        (c.formula, c.space_group) == (first.formula, first.space_group) and c.score >= least for c in one.candidates
    )


def _named(one: Identified) -> str:
    first = one.candidates[0]
    return f"{one.crystal_system} {first.formula} ({first.space_group})"


def _angles(pattern: Pattern, wavelength: float | None) -> Vector:
    """The pattern's angles at the series' wavelength, that of its first pattern [°]."""
    assert pattern.wavelength is not None and wavelength is not None
    return convert_two_theta(pattern.two_theta, pattern.wavelength, wavelength)


def _row(axis: Vector, angles: Vector, intensity: Vector) -> Vector:
    """√(intensity / maximum) on the common axis, the highest near each point; NaN where nothing was measured."""
    inside = np.isfinite(angles)
    x, y = angles[inside], intensity[inside]
    step = axis[1] - axis[0]
    part = np.clip(((x - axis[0]) / step + 0.5).astype(int), 0, len(axis) - 1)
    out = np.interp(axis, x, y, left=np.nan, right=np.nan)
    highest = np.full(len(axis), -np.inf)
    np.maximum.at(highest, part, y)
    out = np.where(np.isfinite(highest), highest, out)
    return np.sqrt(np.maximum(out, 0) / max(float(y.max()), 1e-300))
