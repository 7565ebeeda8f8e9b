"""The virtual diffractometer: from the reflections of a structure to a pattern as an instrument would measure it.

``flaws.draw`` draws the parameters of one measurement, :func:`measure` applies them. The effects themselves, each with
the source of its formula, are in ``effects.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.xrd.effects import (
    add_spikes,
    air_scatter,
    amorphous_hump,
    axial_two_theta,
    blank_gaps,
    caglioti_fwhm,
    chebyshev,
    cut_range,
    debye_waller,
    displacement_shift,
    lorentz_polarisation,
    march_dollase,
    microstrain_fwhm,
    size_fwhm,
    strain_of,
    thompson_cox_hastings,
    transparency_shift,
)
from imitation_refinement.xrd.flaws import Parameters
from imitation_refinement.xrd.jit import njit
from imitation_refinement.xrd.line import REACH
from imitation_refinement.xrd.radiation import doublet

NEGLIGIBLE = 2e-5  # tails below this share of the strongest line are not painted
GAUSSIAN_REACH = 2.6  # widths at which a Gaussian has fallen below 1e-8
EXACT = 10  # expected counts below which the Poisson distribution is drawn from exactly
GRAZING = math.sin(0.99 * math.pi / 2)  # sin θ beyond which there are no lines
STRIDE = 4  # points of the axis between which the background is linear
MAX_NODES = 24  # lines that axial divergence is made of, at most; fewer where it spreads less than the line is wide


@dataclass(frozen=True)
class Reflections:
    """The reflections of one structure in a Friedel half-space, by lines of equal d.

    Attributes:
        reciprocal: rows a*, b*, c* [1/Å], shape (3, 3).
        d: spacing of each line [Å], falling, shape (n_lines,).
        starts: line i owns reflections ``starts[i]:starts[i + 1]``, shape (n_lines + 1,).
        hkl: Miller indices, shape (n_reflections, 3).
        f2: |F|² [electrons²], the mean over ±g, without the Lorentz–polarisation factor, shape (n_reflections,).
    """

    reciprocal: NDArray[np.float64]
    d: NDArray[np.float64]
    starts: NDArray[np.int64]
    hkl: NDArray[np.int16]
    f2: NDArray[np.float64]


def measure(
    reflections: Reflections,
    parameters: Parameters,
    two_theta: NDArray[np.float64],
    wavelength: float,
    impurity: Reflections | None = None,
) -> NDArray[np.float64]:
    """The counts of one measurement, whole numbers unless ``parameters.seed`` is None, shape (n,).

    Outside ``parameters.observed(two_theta)`` and in gaps they are 0.

    Args:
        reflections: of the phase, at least to the d that the last angle needs.
        parameters: the flaws; drawn, stored or chosen.
        two_theta: evenly spaced rising angles [°], shape (n,).
        wavelength: Kα1 (or the mean Kα) where there is a Kα2, else any [Å].
        impurity: reflections of the impurity phase; needed where ``parameters.impurity_ratio`` is not 0.

    Raises:
        ValueError: if the axis is not even, or the impurity is missing.
    """
    p, x = parameters, np.ascontiguousarray(two_theta, float)
    step = (x[-1] - x[0]) / (len(x) - 1)
    if not np.abs(np.diff(x) - step).max() < 1e-3 * step:
        raise ValueError("two_theta must be evenly spaced")
    if p.impurity_ratio and impurity is None:
        raise ValueError(f"the reflections of the impurity {p.impurity} are needed")
    expected = _phase(reflections, p, p.march_r, p.strain, x[0], step, len(x), wavelength)
    if p.impurity_ratio and impurity is not None:
        expected += p.impurity_ratio * _phase(impurity, p, 1.0, (0.0,) * 6, x[0], step, len(x), wavelength)
    add_background(p, expected, x[0], step)
    add_spikes(expected, x, p.spikes)
    expected *= p.counts
    counts = expected if p.seed is None else counted(np.random.default_rng(p.seed), expected)
    blank_gaps(counts, x, p.gaps)
    cut_range(counts, p.observed(x))
    return counts


def _phase(
    reflections: Reflections,
    p: Parameters,
    march_r: float,
    strain: tuple[float, ...],
    start: float,
    step: float,
    points: int,
    wavelength: float,
) -> NDArray[np.float64]:
    """The Bragg scattering of one phase with its own texture and strain, its maximum 1, shape (points,)."""
    d, strength = _strained_and_textured(
        reflections.reciprocal,
        reflections.d,
        reflections.starts,
        reflections.hkl,
        reflections.f2,
        march_r,
        p.texture_plane,
        np.asarray(strain),
    )
    return painted(d, strength, p, wavelength, start, step, points)


def painted(
    d: NDArray[np.float64],
    strength: NDArray[np.float64],
    p: Parameters,
    wavelength: float,
    start: float,
    step: float,
    points: int,
    negligible: float = NEGLIGIBLE,
) -> NDArray[np.float64]:
    """The lines of one phase, with their Kα2 where ``p`` has one, the highest point 1; 0 where there is no line.

    Args:
        d: spacings [Å], shape (n,).
        strength: Σ|F|² of each line, shape (n,).
        p: widths, shifts and factors of the lines.
        wavelength: Kα1 (or the mean Kα) where there is a Kα2, else any [Å].
        start, step: of the axis [°].
        points: of the axis.
        negligible: tails below this share of the strongest line are not painted.

    Returns:
        Shape (points,).
    """
    lines = doublet(wavelength) if p.ka2_ratio else None
    return _painted(
        d,
        strength,
        (*lines, p.ka2_ratio) if lines else (wavelength, wavelength, 0.0),
        (p.u, p.v, p.w, p.size, p.microstrain),
        p.axial,
        (p.zero_shift, p.displacement, p.radius, p.transparency),
        p.monochromator,
        p.b_iso,
        start,
        step,
        points,
        negligible,
    )


@njit()
def counted(rng: np.random.Generator, expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poisson counts of expected ones, shape (n,), four times as fast as NumPy's generator.

    Below ``EXACT`` by inversion; above by the normal quantile z with two Cornish–Fisher terms, rounded down:
    λ + √λ z + 1/3 + z²/6 − (z/36 + z³/72) / √λ. Giles, ACM Trans. Math. Softw. 42, 7 (2016), section 2.
    """
    out = np.empty_like(expected)
    for i in range(len(expected)):
        mean = expected[i]
        if mean < EXACT:
            left, term, count = rng.random(), math.exp(-mean), 0
            while left > term and count < 10 * EXACT:
                left -= term
                count += 1
                term *= mean / count
            out[i] = count
        else:
            z, root = rng.standard_normal(), math.sqrt(mean)
            out[i] = max(0.0, math.floor(mean + root * z + 1 / 3 + z * z / 6 - (z / 36 + z**3 / 72) / root))
    return out


@njit(nogil=True, fastmath={"contract", "reassoc"})
def _strained_and_textured(
    reciprocal: NDArray,
    d: NDArray,
    starts: NDArray,
    hkl: NDArray,
    f2: NDArray,
    march_r: float,
    texture_plane: int,
    strain: NDArray,
) -> tuple[NDArray, NDArray]:
    """Spacings under strain and |F|² sums under texture of each line, both averaged over its equivalent reflections.

    The average over the equivalents of n·ε·n is that of the strain's part that keeps the crystal's symmetry: a line
    shifts, but never splits.
    """
    out_d, out_f2 = np.empty_like(d), np.zeros(len(d))
    normal, axis = np.empty(3), np.empty(3)
    plane = starts[texture_plane % len(d)]
    _normal(reciprocal, hkl[plane], axis)
    for i in range(len(d)):
        total, stretch = 0.0, 0.0
        for j in range(starts[i], starts[i + 1]):
            _normal(reciprocal, hkl[j], normal)
            total += f2[j]
            stretch += f2[j] * strain_of(normal, strain)
            cosine = normal[0] * axis[0] + normal[1] * axis[1] + normal[2] * axis[2]
            out_f2[i] += f2[j] * march_dollase(cosine, march_r)
        out_d[i] = d[i] * (1 + stretch / total)
    return out_d, out_f2


@njit(nogil=True)
def _normal(reciprocal: NDArray, hkl: NDArray, out: NDArray) -> None:
    """The unit normal of a plane, into ``out``."""
    h, k, ell = float(hkl[0]), float(hkl[1]), float(hkl[2])
    norm = 0.0
    for i in range(3):
        out[i] = h * reciprocal[0, i] + k * reciprocal[1, i] + ell * reciprocal[2, i]
        norm += out[i] * out[i]
    norm = 1 / math.sqrt(norm)
    for i in range(3):
        out[i] *= norm


@njit(nogil=True, error_model="numpy")
def _painted(
    d: NDArray,
    strength: NDArray,
    radiation: tuple[float, float, float],
    widths: tuple[float, float, float, float, float],
    axial: float,
    shifts: tuple[float, float, float, float],
    monochromator: float,
    b_iso: float,
    start: float,
    step: float,
    points: int,
    negligible: float,
) -> NDArray[np.float64]:
    """As :func:`painted`; ``radiation`` is two wavelengths [Å] and the intensity of the second to the first."""
    first, second, ratio = radiation
    out = np.zeros(points)
    _paint_lines(d, strength, 1.0, first, widths, axial, shifts, monochromator, b_iso, start, step, out, negligible)
    if ratio > 0:
        _paint_lines(
            d, strength, ratio, second, widths, axial, shifts, monochromator, b_iso, start, step, out, negligible
        )
    top = 0.0
    for value in out:
        top = value if value > top else top
    if top > 0:
        scale = 1 / top
        for i in range(points):
            out[i] *= scale
    return out


@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _paint_lines(
    d: NDArray,
    strength: NDArray,
    ratio: float,
    wavelength: float,
    widths: tuple[float, float, float, float, float],
    axial: float,
    shifts: tuple[float, float, float, float],
    monochromator: float,
    b_iso: float,
    start: float,
    step: float,
    out: NDArray,
    negligible: float,
) -> None:
    """Adds all lines at one wavelength to ``out``, whose point i is at ``start + i step`` degrees.

    What is below ``negligible`` of the strongest line is left out.
    """
    u, v, w, size, microstrain = widths
    zero_shift, displacement, radius, transparency = shifts
    n, largest = len(d), 0.0
    fwhm, mixing, height = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        sine = wavelength / (2 * d[i])
        if not sine < GRAZING:  # NaN included
            height[i] = 0.0
            continue
        cosine = math.sqrt(1 - sine * sine)
        factor = debye_waller(d[i], b_iso) * lorentz_polarisation(sine, cosine, math.radians(monochromator))
        gaussian = caglioti_fwhm(sine, cosine, u, v, w)
        lorentzian = size_fwhm(cosine, size, wavelength) + microstrain_fwhm(sine, cosine, microstrain)
        fwhm[i], mixing[i] = thompson_cox_hastings(gaussian, lorentzian)
        height[i] = ratio * strength[i] * factor / fwhm[i]
        largest = max(largest, height[i])
    for i in range(n):
        if height[i] <= negligible * largest:
            continue
        sine = wavelength / (2 * d[i])
        cosine = math.sqrt(1 - sine * sine)
        shift = displacement_shift(cosine, displacement, radius)
        shift += transparency_shift(sine, cosine, transparency, radius)
        offset = zero_shift + math.degrees(shift)
        spread = math.degrees(abs(axial_two_theta(sine, axial, 1.0) - 2 * math.asin(sine)))
        nodes = min(MAX_NODES, 1 + int(2 * spread / fwhm[i]))
        for node in range(nodes):
            share, weight = _axial_node(node / nodes, (node + 1) / nodes)
            centre = math.degrees(axial_two_theta(sine, axial, share)) + offset
            faint = negligible * largest * weight
            _add_line(
                out,
                (centre - start) / step,
                weight * height[i],
                fwhm[i] / step,
                mixing[i],
                faint,
            )


@njit(nogil=True)
def _axial_node(a: float, b: float) -> tuple[float, float]:
    """The part of the density 2 (1 − u) from a to b as one node: the root of the mean of u², and the weight.

    The shift goes with u², so that the line's mean is right for any number of nodes.
    """
    weight = (2 * b - b * b) - (2 * a - a * a)
    moment = 2 * ((b**3 - a**3) / 3 - (b**4 - a**4) / 4)
    return math.sqrt(moment / weight), weight


@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "arcp"})
def _add_line(out: NDArray, centre: float, height: float, fwhm: float, mixing: float, negligible: float) -> None:
    """Adds a pseudo-Voigt of area ``height * fwhm``; centre and width in points.

    The Lorentzian is cut where it is negligible, at ``REACH`` widths at the latest. The Gaussian goes by the recurrence
    g(x + 1) = g(x) r(x), r(x + 1) = r(x) exp(−2a), which needs no exponential a point.
    """
    top = height * mixing * 2 / math.pi
    if top > negligible:
        reach = fwhm * min(float(REACH), 0.5 * math.sqrt(top / negligible - 1))
        first, last = max(0, math.ceil(centre - reach)), min(len(out), math.floor(centre + reach) + 1)
        if last > first:
            part, scale = out[first:last], 2 / fwhm
            for i in range(len(part)):
                x = (first + i - centre) * scale
                part[i] += top / (1 + x * x)
    top = height * (1 - mixing) * 2 * math.sqrt(math.log(2) / math.pi)
    if top > negligible:
        reach = GAUSSIAN_REACH * fwhm
        first, last = max(0, math.ceil(centre - reach)), min(len(out), math.floor(centre + reach) + 1)
        if last > first:
            part, a, x = out[first:last], 4 * math.log(2) / fwhm**2, first - centre
            g, ratio, change = top * math.exp(-a * x * x), math.exp(-a * (2 * x + 1)), math.exp(-2 * a)
            for i in range(len(part)):
                part[i] += g
                g *= ratio
                ratio *= change


def add_background(p: Parameters, expected: NDArray[np.float64], start: float, step: float) -> None:
    """Adds the background of one measurement to what is expected, shape (n,), point i at ``start + i step`` [°]."""
    _add_background(
        expected,
        start,
        step,
        np.asarray(p.polynomial),
        p.air,
        p.air_power,
        p.hump,
        p.hump_centre,
        p.hump_fwhm,
        p.fluorescence,
    )


@njit(nogil=True)
def _add_background(
    out: NDArray,
    start: float,
    step: float,
    polynomial: NDArray,
    air: float,
    air_power: float,
    hump: float,
    hump_centre: float,
    hump_fwhm: float,
    fluorescence: float,
) -> None:
    """Adds what varies slowly, worked out at every ``STRIDE``-th point; a polynomial that dips below 0 counts as 0."""
    n, before = len(out), 0.0
    for i in range(0, n + STRIDE - 1, STRIDE):
        two_theta = start + i * step
        level = max(0.0, chebyshev(2 * i / (n - 1) - 1, polynomial)) + fluorescence
        if air > 0:
            level += air * air_scatter(two_theta, air_power)
        if hump > 0:
            level += hump * amorphous_hump(two_theta, hump_centre, hump_fwhm)
        for j in range(max(0, i - STRIDE + 1), min(i + 1, n)):
            out[j] += level + (before - level) * (i - j) / STRIDE
        before = level
