"""A pattern as it is searched: above its background and noise, smoothed to a common width, on 2θ and on log q.

Lines are taken to be as wide as copper radiation makes them at :data:`REFERENCE`; widths and steps in 2θ go with the
wavelength, so that a pattern at any wavelength is treated as the same pattern at that of copper.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d, grey_opening, uniform_filter1d

from imitation_refinement.answer.library import MOST_Q, REFERENCE
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.grid import Grid, gaps
from imitation_refinement.xrd.noise import MOST_COUNTS

Vector = NDArray[np.float64]

# In 2θ [°] at REFERENCE.
STEP = 0.04
FWHM = 0.2  # of the smoothing; of 0.12, 0.15, 0.2 and 0.3 the best on measured and simulated patterns
BACKGROUND = 2.5  # width of the opening; wider than lines
FINE = 0.35  # width of what is smoothed away before the opening, so that noise does not pull it down
POWER = 0.35  # of the intensities: lets weak lines count, and texture less
WAVELENGTHS = (0.1, 3.0)  # [Å]
FEWEST = 64  # points

LEAST_Q = 0.25  # [1/Å]
POINTS = 3072  # of the log q axis
LOG_STEP = np.log(MOST_Q / LEAST_Q) / (POINTS - 1)  # 0.1 %
MEAN = 0.5  # of the mean is taken off: an expected line where nothing is counts against a crystal

# What tells calculated patterns.
ROUNDINGS = 4  # variances of rounding; one count or more scatters by 12
MANY_ZEROS = 0.3  # share of the points
SOLITARY = 1e-3  # share of the points above 0 that stand alone


@dataclass(frozen=True)
class Prepared:
    """A pattern ready to be searched.

    Attributes:
        wavelength: [Å].
        start: first 2θ [°].
        step: between points [°].
        net: intensities above background and noise, the largest 1, shape (n,).
        seen: where it was measured, shape (n,).
        background: as it was taken off, in the pattern's own units, shape (n,).
    """

    wavelength: float
    start: float
    step: float
    net: Vector
    seen: NDArray[np.bool_]
    background: Vector

    @cached_property
    def root(self) -> Vector:
        """``net`` to the power :data:`POWER`, shape (n,)."""
        return np.asarray(self.net**POWER)

    @property
    def scale(self) -> float:
        """Widths in 2θ, in those at :data:`REFERENCE`."""
        return self.wavelength / REFERENCE

    @property
    def two_theta(self) -> Vector:
        """Angles of the points [°], shape (n,)."""
        return np.asarray(self.start + self.step * np.arange(len(self.net)), float)

    def on_log_q(self, zeros: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """``root`` less :data:`MEAN` of its mean on :func:`log_q`, its norm 1, for each zero error taken off.

        The norm is that over 2θ [°] at :data:`REFERENCE`, so that all wavelengths give the same.

        Args:
            zeros: zero errors [°], by which lines stand at too high angles, shape (k,).

        Returns:
            Shape (k, POINTS), 0 where nothing was measured; and where something was, without a zero error, (POINTS,).
        """
        reference = _two_theta(log_q(), REFERENCE)
        spacing = np.gradient(np.nan_to_num(reference, nan=180.0))
        angles = _two_theta(log_q(), self.wavelength)
        out = []
        for zero in np.atleast_1d(np.asarray(zeros, float)):
            values, seen = self._at(angles + zero)
            values = np.where(seen, values - MEAN * values[seen].mean() if seen.any() else 0, 0)
            norm = np.sqrt((values**2 * spacing).sum())
            out.append(values / norm if norm > 0 else values)
        return np.array(out, np.float32), self._at(angles)[1]

    def _at(self, angles: Vector) -> tuple[Vector, NDArray[np.bool_]]:
        """``root`` and ``seen`` at other angles [°]."""
        place = np.nan_to_num((angles - self.start) / self.step, nan=-1.0)
        inside = (place >= 0) & (place <= len(self.net) - 1)
        nearest = np.where(inside, np.rint(place), 0).astype(np.intp)
        return np.interp(place, np.arange(len(self.net)), self.root), inside & self.seen[nearest]


def log_q() -> Vector:
    """The axis on which a lattice that is a little larger is the same pattern shifted [1/Å], shape (POINTS,)."""
    return np.asarray(LEAST_Q * np.exp(LOG_STEP * np.arange(POINTS)))


def prepare(two_theta: ArrayLike, intensity: ArrayLike, wavelength: float, where: object = "pattern") -> Prepared:
    """A pattern ready to be searched.

    Args:
        two_theta: rising angles [°], shape (n,); even or not, with gaps or not.
        intensity: counts or arbitrary, shape (n,).
        wavelength: [Å].
        where: what messages name.

    Raises:
        InputError: if the wavelength is out of range, values are missing or not finite, angles don't rise, less than
            :data:`FEWEST` points lie where lines are looked for, or nothing is above the background.
    """
    x, y = np.asarray(two_theta, float), np.asarray(intensity, float)
    if not WAVELENGTHS[0] <= wavelength <= WAVELENGTHS[1]:
        problem = f"wavelength {wavelength:g} Å is not from {WAVELENGTHS[0]:g} to {WAVELENGTHS[1]:g} Å."
        raise InputError(where, problem, "Check its unit.")
    if x.shape != y.shape or x.ndim != 1 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(where, "has angles or intensities that are missing or no numbers.", "Give one for the other.")
    if (np.diff(x) <= 0).any():
        raise InputError(where, "has angles that don't rise.", "Sort them, each once.")
    scale = wavelength / REFERENCE
    last = _two_theta(np.array([1.02 * MOST_Q]), wavelength)[0]
    used = (x > 0) & (x < (179.9 if np.isnan(last) else last))
    x, y = x[used], y[used]
    points = int((x[-1] - x[0]) / (STEP * scale)) + 1 if len(x) > 1 else 0
    if min(len(x), points) < FEWEST:
        problem = f"has {min(len(x), points)} points from 0 to {MOST_Q:g} 1/Å, where lines are looked for."
        raise InputError(where, problem, f"Give at least {FEWEST}; check the wavelength.")
    start, step = float(x[0]), STEP * scale
    grid = Grid(start=start, stop=start + (points - 1) * step, points=points, wavelength=wavelength)
    axis = grid.two_theta
    seen = np.ones(points, bool)
    for low, high in gaps(x):
        seen &= (axis <= low) | (axis >= high)
    values = grid.resample(x, y, wavelength).astype(float)
    values = np.interp(axis, axis[seen], values[seen])  # gaps drawn through, so that none looks like an edge
    smooth = gaussian_filter1d(values, _sigma(FWHM))
    width = round(BACKGROUND / STEP)
    background = uniform_filter1d(grey_opening(gaussian_filter1d(values, _sigma(FINE)), (width,)), width)
    rough = smooth - gaussian_filter1d(smooth, 3 * _sigma(FWHM))
    noise = 1.4826 * np.median(np.abs(rough[seen]))
    net = np.where(seen, np.maximum(smooth - background - noise, 0), 0)
    if not net.max() > 0:
        raise InputError(where, "has no line above its background.", "Measure it again, or longer.")
    return Prepared(float(wavelength), start, step, net / net.max(), seen, background)


def is_calculated(intensity: ArrayLike) -> bool:
    """Whether a pattern has less noise than any measured one: then it was calculated.

    Told on its flat parts, the lower half of its intensities, by sixth differences, which lines hardly reach. Counts I
    scatter by √I; in units of the highest point, scatter² / I is 1 / (its counts). What scatters less than
    :data:`MOST_COUNTS` of them and the rounding of the file would make it was not measured. Where much of a pattern is
    exactly 0, single counts stand alone in a measured one, and in a calculated one none does.

    Args:
        intensity: as measured, not smoothed, at even steps, shape (n,).
    """
    y = np.asarray(intensity, float)
    if len(y) < FEWEST or not y.max() > 0:
        return False
    y = y / y.max()
    zero = y <= 0
    if zero.mean() > MANY_ZEROS:
        alone = ~zero[1:-1] & zero[:-2] & zero[2:]
        return bool(alone.sum() < SOLITARY * (~zero).sum())
    scatter2 = np.diff(y, 6) ** 2 / 924  # (12 choose 6): the variance of white noise stays 1
    level = y[3:-3]
    flat = (level > 0) & (level <= np.median(level[level > 0]))
    rounding = float(np.diff(np.unique(y)).min(initial=1)) ** 2 / 12
    # 0.455: the median of χ² with one degree of freedom.
    return bool(np.median(scatter2[flat] / (level[flat] / MOST_COUNTS + rounding)) / 0.455 < ROUNDINGS)


def _sigma(fwhm: float) -> float:
    """Standard deviation [points] of a full width at half maximum [° at REFERENCE]."""
    return fwhm / 2.3548 / STEP


def _two_theta(q: Vector, wavelength: float) -> Vector:
    """2θ [°] of q [1/Å]; NaN beyond the wavelength's reach."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.degrees(2 * np.arcsin(q * (wavelength / (4 * np.pi)))))
