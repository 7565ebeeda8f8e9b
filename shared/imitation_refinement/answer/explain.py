"""What an answer rests on: which peaks each candidate explains, which none does, and what can't be told apart here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from imitation_refinement.answer.library import MOST_Q, REFERENCE, Library, line_factors
from imitation_refinement.answer.pattern import FWHM, POWER
from imitation_refinement.answer.search import Candidate
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.peaks import Peaks, find_peaks
from imitation_refinement.xrd.radiation import WAVELENGTHS

Vector = NDArray[np.float64]

# In 2θ [°] at REFERENCE.
LINE_STEP = 0.05  # at which peaks are looked for, about: narrower steps show noise as lines
MOST_POINTS = 65_000  # at which peaks are looked for: a grid has no more
LAST = math.nextafter(180, 0)  # of a grid [°]
TOLERANCE = 0.15  # between a peak and a line that explains it
STEP = 0.05  # of the patterns that are compared
WINDOW = 10.0  # widths of ranges that might decide

LINE_NOISE = 7.0  # [σ] of a peak
LEAST_PEAK = 0.01  # of the highest peak: what is to be explained
LEAST_LINE = 0.005  # of the strongest line in the range: what may explain, and is shown
DOUBLET = 1e-4  # relative difference of wavelengths by which a Kα1 is known
ALIKE = 0.9  # cosine of two calculated patterns, intensities to POWER, above which texture and noise hide the rest
RIVAL = 0.1  # of the first candidate's score, from which on another is a rival


@dataclass(frozen=True)
class Lines:
    """A candidate's lines where a pattern was measured, by rising angle.

    Attributes:
        hkl: shape (n, 3).
        two_theta: with the fitted cell and zero error [°], shape (n,).
        intensity: as theory has them, the strongest 1, shape (n,).
    """

    hkl: NDArray[np.int8]
    two_theta: Vector
    intensity: Vector


@dataclass(frozen=True)
class Doubt:
    """Two candidates between which the pattern hardly decides.

    Attributes:
        first, second: numbers of the candidates, from 1.
        cosine: of what theory says of them in the measured range, intensities to the power 0.35.
        window: the range of 2θ [°] outside of the measured one in which they differ the most; None where none does.
        only_first, only_second: elements that one of them has and the other has not.
        text: all this in words.
    """

    first: int
    second: int
    cosine: float
    window: tuple[float, float] | None
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Explanation:
    """What candidates say of a pattern's peaks.

    Attributes:
        peaks: what is to be explained, by rising angle, heights as shares of the highest, (k,).
        lines: of each candidate.
        explained: which candidate explains which peak, shape (candidates, k).
        doubts: rivals of the first candidate.
    """

    peaks: Peaks
    lines: tuple[Lines, ...]
    explained: NDArray[np.bool_]
    doubts: tuple[Doubt, ...]

    @property
    def unexplained(self) -> NDArray[np.bool_]:
        """Which peaks no candidate explains, shape (k,)."""
        return np.asarray(~self.explained.any(axis=0))


def explain(
    library: Library, candidates: Sequence[Candidate], peaks: Peaks, wavelength: float, low: float, high: float
) -> Explanation:
    """What candidates say of a pattern.

    Args:
        library: what they were found in.
        candidates: the most probable first.
        peaks: of the pattern.
        wavelength: [Å].
        low, high: the measured range of 2θ [°].
    """
    lines = tuple(lines_of(library, one, wavelength, low, high) for one in candidates)
    found = [explained(peaks, one, wavelength) for one in lines]
    matrix = np.array(found).reshape(len(lines), len(peaks.position))
    return Explanation(peaks, lines, matrix, tuple(doubts(library, candidates, wavelength, low, high)))


def peaks_of(two_theta: Vector, intensity: Vector, wavelength: float, above_noise: float = LINE_NOISE) -> Peaks:
    """The peaks of a measured pattern.

    Args:
        two_theta: rising angles [°], shape (n,).
        intensity: shape (n,).
        wavelength: [Å].
        above_noise: least prominence, in σ of the noise.
    """
    x = np.asarray(two_theta, float)
    ends = (x > 0) & (x < 180)  # no line stands at 0 or 180°, and no grid begins or ends there
    x = x[ends]
    # A whole number of the pattern's own steps, no rounding above: means over one step, or values between two points,
    # are smoothed noise, which would seem to be less.
    own = float(np.median(np.diff(x))) * (1 - 1e-9)
    reach = float(x[-1] - x[0])
    usual = math.floor(LINE_STEP * wavelength / REFERENCE / own + 0.5)
    step = own * max(1, usual, math.ceil(reach / own / MOST_POINTS))
    points = max(64, math.floor(reach / step + 1e-6) + 1)
    stop = min(float(x[0] + (points - 1) * step), LAST)
    grid = Grid(start=float(x[0]), stop=stop, points=points, wavelength=wavelength)
    return find_peaks(grid.resample(x, intensity[ends], wavelength), grid, 0.0, above_noise)


def listed(peaks: Peaks) -> Peaks:
    """Those that are at least :data:`LEAST_PEAK` high: what is to be explained."""
    kept = peaks.height >= LEAST_PEAK
    return Peaks(peaks.position[kept], peaks.height[kept], peaks.fwhm[kept])


def strengths(library: Library, candidate: Candidate, wavelength: float) -> tuple[NDArray[np.int8], Vector, Vector]:
    """All lines of a candidate with its fitted cell: Miller indices (n, 3), q [1/Å] and intensities, (n,) each.

    Args:
        library: what it was found in.
        candidate: a candidate.
        wavelength: [Å]; lines beyond its reach have no intensity.
    """
    part = slice(library.offsets[candidate.row], library.offsets[candidate.row + 1])
    hkl = library.hkl[part]
    q = 2 * np.pi * np.linalg.norm(hkl.astype(float) @ candidate.reciprocal, axis=1)
    return hkl, q, library.amplitude[part].astype(float) ** 2 * line_factors(q, wavelength)


def lines_of(library: Library, candidate: Candidate, wavelength: float, low: float, high: float) -> Lines:
    """The lines of a candidate with its fitted cell and zero error.

    Args:
        library: what it was found in.
        candidate: a candidate.
        wavelength: [Å].
        low, high: the range of 2θ [°].
    """
    hkl, q, intensity = strengths(library, candidate, wavelength)
    sine = np.minimum(q * (wavelength / (4 * np.pi)), 1)
    angle = np.degrees(2 * np.arcsin(sine)) + candidate.zero_error
    inside = (angle >= low) & (angle <= high) & (intensity > 0)
    intensity = np.where(inside, intensity, 0)
    kept = np.flatnonzero(intensity > LEAST_LINE * intensity.max(initial=0))
    kept = kept[np.argsort(angle[kept], kind="stable")]
    return Lines(hkl[kept], angle[kept], intensity[kept] / intensity.max(initial=1e-300))


def explained(peaks: Peaks, lines: Lines, wavelength: float) -> NDArray[np.bool_]:
    """Which peaks lie where a candidate has a line, or where the line of its Kα2 is; shape (k,).

    Near is what lies within :data:`TOLERANCE`, or within half of a peak's width.
    """
    if not len(lines.two_theta) or not len(peaks.position):
        return np.zeros(len(peaks.position), bool)
    places = lines.two_theta
    if second := second_line(wavelength):
        sine = np.sin(np.radians(places / 2)) * (second / wavelength)
        places = np.concatenate([places, np.degrees(2 * np.arcsin(sine[sine < 1]))])
    distance = np.abs(peaks.position[:, None] - places).min(axis=1)
    near = TOLERANCE * wavelength / REFERENCE
    return np.asarray(distance <= np.maximum(near, np.nan_to_num(peaks.fwhm / 2, nan=0.0)))


def second_line(wavelength: float) -> float | None:
    """The wavelength [Å] of Kα2 where the given one is a Kα1."""
    for name, value in WAVELENGTHS.items():
        if name.endswith("Ka1") and abs(wavelength / value - 1) < DOUBLET:
            return WAVELENGTHS[f"{name[:-1]}2"]
    return None


def doubts(
    library: Library, candidates: Sequence[Candidate], wavelength: float, low: float, high: float
) -> list[Doubt]:
    """The rivals of the first candidate, whose patterns are alike in the measured range, and what would decide.

    Args:
        library: what they were found in.
        candidates: the most probable first.
        wavelength: [Å].
        low, high: the measured range of 2θ [°].
    """
    out = []
    for number, other in enumerate(candidates[1:], 2):
        if other.score >= RIVAL * candidates[0].score:
            doubt = _doubt(library, candidates[0], other, number, wavelength, low, high)
            if doubt.cosine >= ALIKE:
                out.append(doubt)
    return out


def _doubt(
    library: Library, first: Candidate, other: Candidate, number: int, wavelength: float, low: float, high: float
) -> Doubt:
    scale = wavelength / REFERENCE
    sine = min(MOST_Q * wavelength / (4 * math.pi), math.sin(math.radians(80)))
    last = max(math.degrees(2 * math.asin(sine)), high)
    axis = np.arange(STEP * scale, last, STEP * scale)
    a, b = (_painted(lines_of(library, one, wavelength, 0, last), axis, scale) for one in (first, other))
    seen = (axis >= low) & (axis <= high)
    squares = [float((curve[seen] ** 2).sum()) for curve in (a, b)]
    if min(squares) <= 0:
        cosine = 0.0
    else:
        a, b = a / math.sqrt(squares[0]), b / math.sqrt(squares[1])
        cosine = float((a[seen] * b[seen]).sum())
    window = _deciding(axis, (a - b) ** 2, seen, low, high, WINDOW * scale) if cosine >= ALIKE else None
    own, foreign = ({*re.findall("[A-Z][a-z]?", one.formula)} for one in (first, other))
    only = tuple(sorted(own - foreign)), tuple(sorted(foreign - own))
    text = _in_words(first, other, number, low, high, window, *only)
    return Doubt(1, number, cosine, window, *only, text)


def _painted(lines: Lines, axis: Vector, scale: float) -> Vector:
    """Intensities to POWER over an even axis from 0, of Gaussians as wide as the search's."""
    place = np.clip(np.rint(lines.two_theta / (STEP * scale)).astype(int) - 1, 0, len(axis) - 1)
    sticks = np.bincount(place, weights=lines.intensity, minlength=len(axis))
    return np.asarray(np.maximum(gaussian_filter1d(sticks, FWHM / 2.3548 / STEP), 0) ** POWER)


def _deciding(
    axis: Vector, squares: Vector, seen: NDArray[np.bool_], low: float, high: float, width: float
) -> tuple[float, float] | None:
    """The window beside the measured range that holds most of the difference; None where no window holds much.

    1 − cosine is half of the squares' sum over the measured range, whose norms are 1: as much as makes two patterns
    other than alike in it is much.
    """
    best, where = 2 * (1 - ALIKE), None
    starts = [*np.arange(low - width, 0, -width), *np.arange(high, axis[-1], width)]
    for start in starts:
        stop = min(start + width, low if start < low else axis[-1])
        inside = (axis >= start) & (axis < stop) & ~seen
        if (found := float(squares[inside].sum())) > best:
            best, where = found, (round(max(float(start), 0.0), 1), round(float(stop), 1))
    return where


def _in_words(
    first: Candidate,
    other: Candidate,
    number: int,
    low: float,
    high: float,
    window: tuple[float, float] | None,
    only_first: Sequence[str],
    only_second: Sequence[str],
) -> str:
    names = [f"{one.formula} ({one.space_group})" for one in (first, other)]
    text = f"1 {names[0]} and {number} {names[1]} look alike from {low:.4g} to {high:.4g}°"
    ways = []
    if window:
        ways.append(f"lines from {window[0]:g} to {window[1]:g}°")
    elements = [f"{', '.join(only)} (in {n} alone)" for n, only in ((1, only_first), (number, only_second)) if only]
    if elements:
        ways.append(f"an analysis for {' or '.join(elements)}")
    if ways:
        return f"{text}; {', or '.join(ways)} would decide"
    return f"{text}; neither another range of 2θ nor the elements would decide"
