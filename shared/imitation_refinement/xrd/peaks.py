"""Peaks of patterns: where they are, how wide, and which of them theory knows.

What a peak is. A pattern is lightly smoothed by (1, 2, 1) / 4, which can make no new maximum. A local maximum is a peak
if its prominence, its height above the higher of the two valleys that part it from higher ground, is

- at least a stated share of the greatest prominence in the pattern, and
- at least :data:`ABOVE_NOISE` times σ, the noise of one point (:func:`noise_level`), which grows with the root of the
  intensity in the higher valley, as counting noise does.

Prominences stay when a constant is added to a pattern, so a background makes peaks neither appear nor vanish; without
background the greatest prominence is the maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile

Vector = NDArray[np.float64]
Indices = NDArray[np.intp]

ABOVE_NOISE = 5.0  # σ; of 500 patterns of Poisson noise on 2,048 points, 3 showed a peak
DIFFERENCES = 6  # order of the differences that tell noise from lines
LEAST_HEIGHT = 0.02  # of the strongest peak: what must not be invented, nor lost
FAINT_HEIGHT = 0.005  # of the strongest peak: what is enough to vouch for it
TOLERANCE = 0.2  # between a peak and theory's [°]; see peak_precision_recall
FOOT = 1.0  # on either side of a peak, where the lowest point is its foot [°]
FREE = 0.9  # prominence over height above the foot, from which on no neighbour hides a peak's width
WIDTH_HEIGHT = 0.1  # of the strongest peak: what widths are measured on
WIDTH_ABOVE_NOISE = 20.0  # σ: the same; at half height a point of noise then moves no flank
WIDTH_MARGIN = 0.9  # of a width: what a grid of few points a line, and noise, may take from it


@dataclass(frozen=True)
class Peaks:
    """Peaks of one pattern, by rising angle.

    Attributes:
        position: 2θ [°], shape (k,); the top of the parabola through the highest point and its neighbours.
        height: prominence as a share of the greatest one in the pattern, 0 to 1, shape (k,).
        fwhm: full width at half prominence [°], shape (k,); NaN where a neighbour hides the peak's foot. Up to a tenth
            too wide for a line of 3.6 points whose top falls between two.
    """

    position: Vector
    height: Vector
    fwhm: Vector


@dataclass(frozen=True)
class PeakScores:
    """Peaks of patterns against theory's; each of shape (n,), NaN where theory is missing.

    Attributes:
        precision: share of the pattern's peaks that theory has, 0 to 1; NaN where the pattern has none.
        recall: share of theory's peaks that the pattern has, 0 to 1; NaN where theory has none.
        invented: number of the pattern's peaks that theory lacks.
        lost: number of theory's peaks that the pattern lacks.
    """

    precision: Vector
    recall: Vector
    invented: Vector
    lost: Vector


def noise_level(pattern: ArrayLike) -> float:
    """σ of the noise of one point at the pattern's median intensity, in the pattern's units.

    1.4826 times the median of |differences of order 6|, over their norm for white noise, √(12 choose 6). Lines hardly
    reach differences of that order, and the median does not see a few strong ones: for nine in ten of 133 theoretical
    patterns, which have no noise, it is below 1.3e-4 of the maximum (by second differences, 9.5e-4). Noise that
    neighbours share, as after interpolation from wider steps than the grid's, is underestimated. Zeros at the ends,
    where nothing was measured, are left out.

    Args:
        pattern: intensities, shape (points,).
    """
    differences = np.diff(np.trim_zeros(np.asarray(pattern, float)), DIFFERENCES)
    if not len(differences):
        return 0.0
    return float(1.4826 * np.median(np.abs(differences)) / np.sqrt(comb(2 * DIFFERENCES, DIFFERENCES)))


def find_peaks(
    pattern: ArrayLike, grid: Grid, least_height: float = LEAST_HEIGHT, above_noise: float = ABOVE_NOISE
) -> Peaks:
    """Peaks of one pattern; the module's text says what a peak is.

    Args:
        pattern: intensities of any scale, shape (points,).
        grid: its angles.
        least_height: least prominence, as a share of the greatest one.
        above_noise: least prominence, in σ of the noise.

    Raises:
        ValueError: if the pattern is not on the grid or not finite.
    """
    raw = np.asarray(pattern, float)
    if raw.shape != (grid.points,) or not np.isfinite(raw).all():
        raise ValueError(f"a pattern must be {grid.points} finite intensities, not {raw.shape}")
    smooth = np.convolve(np.pad(raw, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    rounding = np.finfo(np.float32).eps * np.abs(raw).max()  # patterns come in single precision
    tops, properties = signal.find_peaks(smooth, prominence=rounding)
    heights = properties["prominences"]
    above = heights >= above_noise * noise_level(raw) * _growth(raw, smooth[tops] - heights)
    greatest = heights[above].max(initial=0)
    kept = above & (heights >= least_height * greatest)
    tops, heights = tops[kept], heights[kept]
    bases = properties["left_bases"][kept], properties["right_bases"][kept]
    steps = grid.widths[tops]
    feet = _feet(smooth, tops, np.rint(FOOT / steps).astype(np.intp))
    free = heights >= FREE * (smooth[tops] - feet)
    return Peaks(
        grid.angle_at(tops + summit(smooth, tops)),
        heights / (greatest or 1),
        np.where(free, steps * _widths(raw, smooth, tops, heights, bases), np.nan),
    )


def _feet(smooth: Vector, tops: Indices, reach: Indices) -> Vector:
    """The least of a pattern within ``reach`` [points] of each top, shape (k,)."""
    found = [smooth[max(0, i - n) : i + n + 1].min() for i, n in zip(tops, reach, strict=True)]
    return np.array(found, float)


def match_peaks(found: ArrayLike, expected: ArrayLike, tolerance: float = TOLERANCE) -> tuple[int, int, int]:
    """One-to-one matching of peaks no further apart than a tolerance.

    Of all such matchings, one with the most pairs: pairing from the left whatever is near enough finds it.

    Args:
        found: rising positions [°], shape (k,).
        expected: rising positions [°], shape (l,).
        tolerance: greatest distance of a pair [°].

    Returns:
        Counts: matched; invented, found without a partner; lost, expected without a partner.
    """
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    matched = i = j = 0
    while i < len(found) and j < len(expected):
        if abs(found[i] - expected[j]) <= tolerance:
            matched, i, j = matched + 1, i + 1, j + 1
        elif found[i] < expected[j]:
            i += 1
        else:
            j += 1
    return matched, len(found) - matched, len(expected) - matched


def peak_precision_recall(
    patterns: ArrayLike,
    theory: ArrayLike,
    grid: Grid,
    tolerance: float = TOLERANCE,
    least_height: float = LEAST_HEIGHT,
    faint_height: float = FAINT_HEIGHT,
    measured: ArrayLike | None = None,
) -> PeakScores:
    """How many peaks were invented, how many lost.

    A peak must reach `least_height` to be judged, but only `faint_height` to vouch for another: a peak of the pattern
    is invented if not even a faint one of theory is near, a peak of theory lost if not even a faint one of the pattern
    is. So a weak peak that texture made somewhat stronger or weaker is neither. Theory's peaks are read from the
    painted pattern, where lines that overlap are one, without a threshold of noise, and are asked for only where the
    pattern was measured.

    The tolerance is the one that best tells a material from another, on the validation part (133 patterns) of a
    simulated imperfect set whose patterns are displaced by 0.08° in the median and by 0.15° at 95 %: precision and
    recall of the raw patterns against their own theory, less those against another material's, are greatest from 0.18°
    to 0.2°. At 0.2° they are 0.97 and 0.91 against their own and, by chance, 0.27 and 0.20 against another's.

    Args:
        patterns: intensities of any scale, shape (n, points).
        theory: painted theoretical patterns, NaN rows where missing, shape (n, points).
        grid: their angles.
        tolerance: greatest distance of a peak from theory's [°].
        least_height: of a peak that is judged, as a share of the strongest one.
        faint_height: of a peak that vouches, as a share of the strongest one.
        measured: the patterns before refinement, whose zeros at the ends of the grid mean that nothing was measured
            there, shape (n, points); default the patterns themselves.

    Raises:
        ValueError: if the shapes differ or a pattern is not finite.
    """
    patterns, theory = np.asarray(patterns, float), np.asarray(theory, float)
    measured = patterns if measured is None else np.asarray(measured, float)
    if not patterns.shape == theory.shape == measured.shape:
        raise ValueError(f"shapes differ: patterns {patterns.shape}, theory {theory.shape}, measured {measured.shape}")
    scores = np.full((4, len(patterns)), np.nan)
    for row in np.flatnonzero(~np.isnan(theory).all(axis=1)):
        found = find_peaks(patterns[row], grid, faint_height)
        known = find_peaks(theory[row], grid, faint_height, above_noise=0)
        low, high = _measured_range(measured[row], grid)
        asked = (known.height >= least_height) & (known.position >= low) & (known.position <= high)
        judged = found.position[found.height >= least_height]
        right, invented, _ = match_peaks(judged, known.position, tolerance)
        kept, _, lost = match_peaks(found.position, known.position[asked], tolerance)
        precision = right / len(judged) if len(judged) else np.nan
        recall = kept / asked.sum() if asked.any() else np.nan
        scores[:, row] = precision, recall, invented, lost
    return PeakScores(*scores)


def peak_widths(patterns: ArrayLike, grid: Grid, least_height: float = WIDTH_HEIGHT) -> Vector:
    """FWHM [°] of all peaks of all patterns that stand clear of neighbours and noise, shape (k,).

    Args:
        patterns: intensities of any scale, shape (n, points).
        grid: their angles.
        least_height: of a peak that counts, as a share of its pattern's strongest one.
    """
    widths = [find_peaks(pattern, grid, least_height, WIDTH_ABOVE_NOISE).fwhm for pattern in np.asarray(patterns)]
    every = np.concatenate([np.empty(0), *widths])
    return every[np.isfinite(every)]


def least_width(raw_patterns: ArrayLike, grid: Grid, profile: Profile | None = None) -> float:
    """FWHM [°] below which a peak is narrower than the instrument allows.

    The narrower of two widths: that of the painted profile, which is what a refiner was asked to imitate, and the
    5 % quantile of the raw patterns' own, which the instrument has shown that it resolves; less a tenth, which a grid
    of few points a line, and noise, can take from a width. (No peak of theory falls below it, and about 1 % of the raw
    ones of a simulated imperfect set.)

    Args:
        raw_patterns: as measured, shape (n, points).
        grid: their angles.
        profile: of ideal patterns; default :class:`~imitation_refinement.xrd.line.Profile`.
    """
    painted = (profile or Profile()).fwhm
    shown = peak_widths(raw_patterns, grid)
    return WIDTH_MARGIN * float(min(painted, np.quantile(shown, 0.05) if len(shown) else painted))


def narrow_share(patterns: ArrayLike, grid: Grid, least_width: float) -> float | None:
    """Share of :func:`peak_widths` below `least_width` [°], 0 to 1; None where no peak has a width.

    Args:
        patterns: intensities of any scale, shape (n, points).
        grid: their angles.
        least_width: the limit [°], from :func:`least_width`.
    """
    widths = peak_widths(patterns, grid)
    return float((widths < least_width).mean()) if len(widths) else None


def _growth(pattern: Vector, level: Vector) -> Vector:
    """Counting noise at a level over that at the pattern's median, √(level / median); not below 1."""
    typical = np.median(np.trim_zeros(pattern)) if pattern.any() else 0.0
    return np.sqrt((level / typical).clip(min=1)) if typical > 0 else np.ones(len(level))


def summit(y: Vector, tops: Indices) -> Vector:
    """Where, in points from each top, the parabola through it and its neighbours is highest, −0.5 to 0.5."""
    before, at, after = y[tops - 1], y[tops], y[tops + 1]
    curvature = before - 2 * at + after
    flat = np.zeros(len(tops))
    return np.divide(before - after, 2 * curvature, out=flat, where=curvature < 0).clip(-0.5, 0.5)


def _widths(raw: Vector, smooth: Vector, tops: Indices, heights: Vector, bases: tuple[Indices, Indices]) -> Vector:
    """Width in points where each peak of the unsmoothed pattern is half its prominence high."""
    summits = tops - 1 + np.stack([raw[tops - 1], raw[tops], raw[tops + 1]]).argmax(axis=0)
    return signal.peak_widths(raw, summits, 0.5, (raw[summits] - smooth[tops] + heights, *bases))[0]


def _measured_range(pattern: Vector, grid: Grid) -> tuple[float, float]:
    """First and last angle [°] at which a pattern is not 0; an empty range if it is 0 everywhere."""
    seen = grid.two_theta[pattern != 0]
    return (float(seen[0]), float(seen[-1])) if len(seen) else (np.inf, -np.inf)
