"""The zero error of an instrument: how far its patterns stand from theory along 2θ.

A misset detector arm or a specimen off the goniometer's axis moves all lines the same way, and usually all patterns of
one instrument. No crystal system is told by it, so a classifier gives no gradient that could teach a refiner to mend
it; the reflections of known structures do, as those of a standard do when a diffractometer is adjusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom

from imitation_refinement.learning.config import RefineConfig, UNetConfig
from imitation_refinement.learning.networks import opening
from imitation_refinement.progress import say
from imitation_refinement.xrd.grid import Grid

REACH = 0.4  # largest zero error that is looked for [°]
LEAST_PATTERNS = 10
FINER = 8  # positions between two points of the grid
BASELINE = UNetConfig().baseline


@dataclass(frozen=True)
class ZeroError:
    """A zero error of 2θ [°], positive where patterns stand at too high angles.

    Attributes:
        value: the median over patterns.
        low: lower end of the median's 95 % interval.
        high: its upper end.
        n: number of patterns.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def certain(self) -> bool:
        """Whether there are enough patterns, and their interval leaves 0 out."""
        return self.n >= LEAST_PATTERNS and not self.low <= 0 <= self.high

    def __str__(self) -> str:
        if not self.n:
            return "unknown, no structure is"
        said = f"{self.value:+.3f}° ({self.low:+.3f} to {self.high:+.3f}), {self.n} patterns of known structure"
        return said if self.certain else f"{said}: left as it is"


def zero_error(patterns: NDArray[np.float32], theory: NDArray[np.float32], grid: Grid) -> ZeroError:
    """The zero error of patterns whose theory is known.

    Of each pattern, without its baseline, the shift within ±0.4° at which its cross-correlation with theory is
    greatest; the interval of their median is that of order statistics (binomial).

    Args:
        patterns: intensities, shape (n, points).
        theory: theoretical patterns, the same shape; rows of NaN where there is none.
        grid: of both.
    """
    known = np.isfinite(theory[:, 0]) & (theory.max(axis=1) > 0)
    shifts = np.sort(_shifts(patterns[known], theory[known], grid))
    n = len(shifts)
    if not n:
        return ZeroError(0.0, 0.0, 0.0, 0)
    rank = int(binom.ppf(0.025, n, 0.5))
    return ZeroError(float(np.median(shifts)), float(shifts[max(rank - 1, 0)]), float(shifts[min(n - rank, n - 1)]), n)


def with_zero_error(
    config: RefineConfig, patterns: NDArray[np.float32], theory: NDArray[np.float32], grid: Grid
) -> tuple[RefineConfig, ZeroError | None]:
    """The options of a training with the zero error of its patterns, where it is asked for and certain.

    Args:
        config: the options; non-targeted training, which knows no structures, keeps them, and so does training on a
            log q axis, along which a zero error is no shift of all lines alike.
        patterns: as in :func:`zero_error`.
        theory: likewise.
        grid: likewise.

    Returns:
        The options, and what was found; None where nothing was looked for.
    """
    if not config.supervision.learns_from_labels or not config.zero_error:
        return config, None
    if grid.axis != "two_theta":
        say("the zero error of the patterns is not looked for on a log q axis, where it does not shift all lines alike")
        return config, None
    found = zero_error(patterns, theory, grid)
    if found.certain:
        network = config.network.model_copy(update={"zero_error": found.value / grid.step})
        config = config.model_copy(update={"network": network})
    return config, found


def _shifts(patterns: NDArray[np.float32], theory: NDArray[np.float32], grid: Grid) -> NDArray[np.float64]:
    """Each pattern's shift against theory [°], shape (n,)."""
    measured = torch.from_numpy(patterns)
    lines = (measured - opening(measured, BASELINE)).numpy()
    half = round(REACH / grid.step * FINER)
    lags = np.arange(-half, half + 1)
    found = np.empty(len(lines))
    for row, (line, known) in enumerate(zip(lines, theory, strict=True)):
        spectrum = np.fft.rfft(line) * np.fft.rfft(known).conj()
        found[row] = lags[np.fft.irfft(spectrum, FINER * grid.points)[lags].argmax()]
    return found * grid.step / FINER
