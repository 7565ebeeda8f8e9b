"""Whether a pattern is one that a model can answer to: what speaks against it, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from imitation_refinement.answer.explain import LINE_NOISE, Lines, explained, lines_of, peaks_of
from imitation_refinement.answer.library import REFERENCE
from imitation_refinement.answer.pattern import WAVELENGTHS, Prepared, is_calculated
from imitation_refinement.answer.search import Candidate, Search
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.peaks import ABOVE_NOISE, Peaks, noise_level

LEAST_COVERAGE = 0.25  # of the networks' axis: from 12 to 30°, from 30 to 60°
STRONG = 0.05  # of the highest peak: lines that a phase must not leave unexplained
# Chosen on virtual mixtures and single phases, and on measured minerals: see docs/identify.md.
CONVINCING = 0.15  # probability of a candidate
FEWEST_LEFT = 2  # strong lines that the first candidate leaves
LEAST_SHARE = 0.75  # of these that the second explains
MASKED = 0.25  # on either side of the first candidate's lines [° at REFERENCE], what is left out
BROADEST = 1.4  # [° at REFERENCE]: of 70 virtual measurements with lines of 1.2° 76 % were right, of 1.8° 47 %
WIDEST_STEP = 0.3  # [° at REFERENCE]: so far 97 % were right, with lines of 0.1°
HUMP_STEP = 1.0  # [° at REFERENCE]
HUMP_NOISE = 8.0  # [σ] of such a mean
LEAST_HUMP = 0.02  # of the highest mean
LEAST_HUMP_WIDTH = 3  # such means, at half its prominence
UNSURE = 0.5  # a first answer that is less probable than all others together is none
FEWEST_LINES = 3  # so counted, 119 measured minerals show five or more, twenty patterns of noise and glass at most one


class Kind(StrEnum):
    """What speaks against an answer."""

    RANGE = "range"
    WAVELENGTH = "wavelength"
    NOISE = "noise"
    WIDTH = "width"
    AMORPHOUS = "amorphous"
    EMPTY = "empty"
    MIXTURE = "mixture"
    CALCULATED = "calculated"
    SYSTEMS = "systems"  # the first two are not told apart


@dataclass(frozen=True)
class Check:
    """One reason against an answer.

    Attributes:
        kind: what it is about.
        text: the reason in words, with what can be done.
        outside: whether the pattern is outside of what the model knows; a remark otherwise.
    """

    kind: Kind
    text: str
    outside: bool = True


class Flag(StrEnum):
    """Whether there is an answer."""

    ANSWERED = ""
    UNSURE = "unsure"
    OUTSIDE = "outside"

    @property
    def word(self) -> str:
        """What a person calls it, where no flag must have a name, too."""
        return self.value or "answered"

    @classmethod
    def of(cls, checks: Iterable[Check]) -> Flag:
        """What checks make of an answer."""
        told = tuple(checks)
        if any(check.outside for check in told):
            return cls.OUTSIDE
        return cls.UNSURE if any(check.kind is Kind.SYSTEMS for check in told) else cls.ANSWERED


def reason(checks: Iterable[Check]) -> str:
    """Why an answer is none, or what to mind, in words; may be empty."""
    return "; ".join(check.text for check in checks)


def searchable(pattern: Pattern) -> Check | None:
    """Why a pattern can't be searched at all, before anything is tried."""
    assert pattern.wavelength is not None
    low, high = WAVELENGTHS
    if low <= pattern.wavelength <= high:
        return None
    text = f"its wavelength, {pattern.wavelength:g} Å, is not from {low:g} to {high:g} Å, for which lines are known"
    return Check(Kind.WAVELENGTH, f"{text}: check its unit")


def measured_enough(pattern: Pattern, grid: Grid, least: float = LEAST_COVERAGE) -> Check | None:
    """Whether less of the networks' axis was measured than the share that an answer needs."""
    assert pattern.wavelength is not None
    share = grid.coverage(pattern.two_theta, pattern.wavelength)
    if share >= least:
        return None
    what = f"{'log q' if grid.axis == 'log_q' else '2θ'} from {grid.start:g} to {grid.stop:g}° at {grid.wavelength:g} Å"
    return Check(Kind.RANGE, f"covers {share:.0%} of what networks have learnt ({what}): measure a wider range")


def without_lines(pattern: Pattern, peaks: Peaks) -> Check | None:
    """Whether a pattern shows fewer lines than an answer needs, and what it shows instead.

    Args:
        pattern: as measured.
        peaks: of it, see :func:`.explain.peaks_of`.
    """
    assert pattern.wavelength is not None
    lines = len(peaks.position)
    if lines >= FEWEST_LINES:
        return None
    text = f"shows {lines} lines of {LINE_NOISE:g} times its noise"
    faint, hump = _faint_lines(pattern), _has_hump(pattern)
    if faint >= FEWEST_LINES:
        return Check(Kind.NOISE, f"{text}, and {faint} that hardly stand out of it: measure it longer")
    if hump:
        return Check(Kind.AMORPHOUS, f"{text}, and a hump: amorphous, or crystals of a few nanometres")
    if lines:
        return Check(Kind.NOISE, f"{text}: measure it longer, or a wider range")
    return Check(Kind.EMPTY, f"{text}, and no hump: empty, or measured too briefly")


def _faint_lines(pattern: Pattern) -> int:
    assert pattern.wavelength is not None
    return len(peaks_of(pattern.two_theta, pattern.intensity, pattern.wavelength, ABOVE_NOISE).position)


def _has_hump(pattern: Pattern) -> bool:
    """Whether a pattern, in means over :data:`HUMP_STEP`, rises and falls again, by more than noise does."""
    assert pattern.wavelength is not None
    step = HUMP_STEP * pattern.wavelength / REFERENCE
    x, y = pattern.two_theta, pattern.intensity
    cell = ((x - x[0]) / step).astype(int)
    number = np.bincount(cell)
    means = np.bincount(cell, weights=y)[number > 0] / number[number > 0]
    scatter = noise_level(y) / np.sqrt(np.median(number[number > 0]))
    prominence = max(HUMP_NOISE * scatter, LEAST_HUMP * float(means.max()))
    return bool(len(signal.find_peaks(means, prominence=prominence, width=LEAST_HUMP_WIDTH)[0]))


def broad_or_coarse(pattern: Pattern, peaks: Peaks) -> Check | None:
    """Whether lines are so broad, or steps so wide, that lines can't be told from background and from each other.

    Args:
        pattern: as measured.
        peaks: of it.
    """
    assert pattern.wavelength is not None
    scale = pattern.wavelength / REFERENCE
    width = _usual_width(peaks)
    if width > BROADEST * scale:
        text = f"its lines are {width:.2g}° wide in 2θ, and those that the model knows at most {BROADEST * scale:.2g}°"
        return Check(Kind.WIDTH, f"{text}: crystals of a few nanometres, or too wide slits")
    step = float(np.median(np.diff(pattern.two_theta)))
    if step > WIDEST_STEP * scale:
        text = f"its points are {step:.2g}° apart, so that lines fall between them"
        return Check(Kind.WIDTH, f"{text}: measure in steps of {WIDEST_STEP * scale:.2g}° or less")
    return None


def _usual_width(peaks: Peaks) -> float:
    """Median width of the strong lines that stand alone [°]; 0 where none does."""
    known = peaks.fwhm[(peaks.height >= STRONG) & np.isfinite(peaks.fwhm)]
    return float(np.median(known)) if len(known) else 0.0


def second_phase(
    search: Search,
    prepared: Prepared,
    pattern: Pattern,
    peaks: Peaks,
    first: Candidate,
    lines: Lines,
    allowed: NDArray[np.bool_] | None = None,
) -> Candidate | None:
    """The phase that explains what the first candidate leaves, where both are convincing; None where none is.

    What lies on the first candidate's lines is left out, and the rest is searched again. On 240 virtual measurements
    and 119 minerals measured by others, see docs/identify.md, this found two of three mixtures, and none in one phase.

    Args:
        search: what the first candidate was found by.
        prepared: the pattern, as it was searched.
        pattern: as measured.
        peaks: of it.
        first: the first candidate.
        lines: its lines.
        allowed: which crystals may be found; all without it.
    """
    assert pattern.wavelength is not None
    strong = peaks.height >= STRONG
    left = strong & ~explained(peaks, lines, pattern.wavelength)
    if first.probability < CONVINCING or left.sum() < FEWEST_LEFT:
        return None
    axis = prepared.two_theta
    seen, reach = prepared.seen.copy(), MASKED * prepared.scale
    for angle in lines.two_theta:
        seen[slice(*np.searchsorted(axis, (angle - reach, angle + reach)))] = False
    net = np.where(seen, prepared.net, 0)
    if not net.max() > 0:
        return None
    rest = replace(prepared, net=net / net.max(), seen=seen)
    second = search.answer(search.fitted(rest, allowed), 1).candidates[0]
    low, high = float(pattern.two_theta[0]), float(pattern.two_theta[-1])
    its = explained(peaks, lines_of(search.library, second, pattern.wavelength, low, high), pattern.wavelength)
    found = left & its
    convincing = second.probability >= CONVINCING and found.sum() >= max(FEWEST_LEFT, LEAST_SHARE * left.sum())
    return second if convincing else None


def mixture(first: Candidate, second: Candidate) -> Check:
    """What is said of a pattern with two phases."""
    text = f"a mixture of phases: what {first.formula} ({first.space_group}) leaves unexplained is explained by "
    return Check(Kind.MIXTURE, f"{text}{second.formula} ({second.space_group}); the answer is for the former")


def between_systems(probabilities: NDArray[np.float64]) -> Check | None:
    """Whether the first crystal system is less probable than all others together; of probabilities of shape (7,)."""
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    if probabilities[first] >= UNSURE:
        return None
    text = f"{CRYSTAL_SYSTEMS[first]} and {CRYSTAL_SYSTEMS[second]} are not told apart"
    return Check(Kind.SYSTEMS, text, outside=False)


def calculated(pattern: Pattern) -> Check | None:
    """Whether a pattern has less noise than any measured one."""
    if not is_calculated(pattern.intensity):
        return None
    return Check(Kind.CALCULATED, "without noise: a calculated pattern, no measured one", outside=False)
