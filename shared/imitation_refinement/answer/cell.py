"""A crystal fitted to a pattern: its cell within its symmetry, then its intensities; and what speaks for it.

The cell is moved by the mean shift of each line: to the centre of what the pattern shows around it, Comaniciu and Meer,
IEEE Trans. Pattern Anal. 24 (2002) 603, all lines bound together by the few strains that the symmetry allows and the
zero error. Windows narrow from step to step, so that a line finds its own peak before it would find a neighbour's.

Intensities are then set free by Le Bail's iteration (Le Bail, Powder Diffr. 20 (2005) 316): each line takes its share
of what the pattern has at each point. Texture makes true lines too weak or too strong; a wrong crystal needs lines
where nothing is.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from imitation_refinement.answer.library import Library, line_factors
from imitation_refinement.answer.pattern import FWHM, MEAN, POWER, STEP, Prepared
from imitation_refinement.xrd.jit import njit

LINES = 64  # of a crystal, the strongest
WINDOWS = np.array([0.2, 0.2, 0.12, 0.12, 0.08, 0.08])  # σ of each step [°] at REFERENCE
# A line of standard deviation s is σ² / (σ² + s²) of the way off its window's centre of mass; the step makes up for it.
LINE = math.hypot(FWHM, 0.1) / math.sqrt(POWER) / 2.3548
RELAXATION = np.minimum(1 + (LINE / WINDOWS) ** 2, 3.0)
STRAIN = 0.01  # σ of a strain that is expected
ZERO = 0.1  # σ of a zero error that is expected [°] at REFERENCE
PRIOR = 0.02 / 12  # weight of both, in that of all lines
PULL = 0.4  # power of the intensities by which lines pull at the cell
INSTRUMENT = 0.1  # width of a line before the smoothing [°] at REFERENCE
LE_BAIL = 3  # iterations
FLOOR = 0.003  # of the highest point, below which intensities are not told apart
ABSENT = 0.15  # of its expected intensity, below which a line is missing
SUBSTEPS = 8  # places of a line between two points


class Evidence(IntEnum):
    """The columns of :func:`fit`: what speaks for a crystal or against it."""

    THEORY = 0  # cosine of the painted pattern and the measured one less its mean, both to POWER; theory's intensities
    HALF = 1  # the same with the geometric mean of theory's and free intensities
    FREE = 2  # the same with free ones
    SCATTER = 3  # standard deviation of log(free / theory's intensity)
    MISSING = 4  # share of √(theory's intensity) on lines that are absent
    EXPLAINED = 5  # share of √I of the pattern under free intensities
    LOG_LINES = 6  # logarithm of one more than the lines in the range: many explain anything
    LOG_LINES_SQUARED = 7
    FREE_CELL = 8  # parameters of the cell
    STRAIN = 9  # |ε|, in %
    ROOT_STRAIN = 10  # its root, at most 1: the first tenths of a percent count most
    ZERO = 11  # |zero error| [°] at REFERENCE
    MISFIT = 12  # root mean square of what lines are still off [°] at REFERENCE
    SEARCH = 13  # cosine of the search


def fit(
    library: Library,
    rows: NDArray[np.intp],
    pattern: Prepared,
    strain: NDArray[np.float64],
    zero: NDArray[np.float64],
    cosine: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Crystals fitted to a pattern.

    Args:
        library: what they are of.
        rows: their rows, shape (k,).
        pattern: the pattern.
        strain: isotropic strains to start from, shape (k,).
        zero: zero errors to start from [°], shape (k,).
        cosine: of the search, shape (k,).

    Returns:
        :class:`Evidence`, shape (k, 14); strains in the basis ``library.strains``, (k, 6); zero errors [°], (k,).
    """
    scale = pattern.scale
    above = np.maximum(pattern.root - MEAN * pattern.root[pattern.seen].mean(), 0)
    mass = np.array([gaussian_filter1d(above, width / STEP) for width in WINDOWS])
    slope = np.gradient(mass, axis=1) / STEP
    width = math.hypot(FWHM, INSTRUMENT) / STEP
    half = int(1.3 * width) + 1
    offsets = (np.arange(SUBSTEPS)[:, None] + 0.5) / SUBSTEPS - 0.5
    shapes = np.exp(-4 * np.log(2) * ((np.arange(-half, half + 1) - offsets) / width) ** 2)
    evidence = np.zeros((len(rows), len(Evidence)))
    found, zeros = np.zeros((len(rows), 6)), np.zeros(len(rows))
    for k, row in enumerate(rows.tolist()):
        part = slice(library.offsets[row], library.offsets[row + 1])
        q = library.q[part].astype(float)
        intensity = library.amplitude[part].astype(float) ** 2 * line_factors(q, pattern.wavelength)
        if len(q) > LINES:
            strongest = np.sort(np.argpartition(-intensity, LINES)[:LINES])
            q, intensity, hkl = q[strongest], intensity[strongest], library.hkl[part][strongest]
        else:
            hkl = library.hkl[part]
        if not intensity.max(initial=0) > 0:
            continue
        free = int(library.n_strains[row])
        found[k, :free], zeros[k], places, misfit = _refined(
            q,
            _directions(hkl, library.reciprocal[row], library.strains[row, :free].astype(float)),
            (intensity / intensity.max()) ** PULL,
            strain[k],
            zero[k] / scale,
            pattern.wavelength,
            pattern.start / scale,
            scale,
            mass,
            slope,
        )
        _weigh(places, intensity / intensity.max(), pattern.net, pattern.root, pattern.seen, shapes, evidence[k])
        size = 100 * math.sqrt((found[k] ** 2).sum())
        evidence[k, Evidence.LOG_LINES_SQUARED] = evidence[k, Evidence.LOG_LINES] ** 2
        evidence[k, Evidence.FREE_CELL] = free
        evidence[k, Evidence.STRAIN] = size
        evidence[k, Evidence.ROOT_STRAIN] = math.sqrt(min(size, 1.0))
        evidence[k, Evidence.ZERO] = abs(zeros[k])
        evidence[k, Evidence.MISFIT] = misfit
        evidence[k, Evidence.SEARCH] = cosine[k]
    return evidence, found, zeros * scale


@njit(nogil=True)
def _directions(hkl: NDArray, reciprocal: NDArray, strains: NDArray) -> NDArray:
    """Δd/d of each line under each strain, n·ε·n, shape (lines, strains)."""
    out = np.empty((len(hkl), len(strains)))
    root = math.sqrt(2)
    for line in range(len(hkl)):
        x, y, z = 0.0, 0.0, 0.0
        for axis in range(3):
            h = float(hkl[line, axis])
            x += h * reciprocal[axis, 0]
            y += h * reciprocal[axis, 1]
            z += h * reciprocal[axis, 2]
        g2 = x * x + y * y + z * z
        for k in range(len(strains)):
            e = strains[k]
            diagonal = e[0] * x * x + e[1] * y * y + e[2] * z * z
            out[line, k] = (diagonal + root * (e[3] * y * z + e[4] * x * z + e[5] * x * y)) / g2
    return out


@njit(nogil=True)
def _value(row: NDArray, place: float) -> float:
    """A row between its points; 0 beyond its ends."""
    i = int(place)
    if place < 0 or i >= len(row) - 1:
        return 0.0
    return row[i] + (place - i) * (row[i + 1] - row[i])


@njit(nogil=True)
def _refined(
    q: NDArray,
    directions: NDArray,
    pull: NDArray,
    strain: float,
    zero: float,
    wavelength: float,
    start: float,
    scale: float,
    mass: NDArray,
    slope: NDArray,
) -> tuple[NDArray, float, NDArray, float]:
    """Strains, zero error, the lines' places on the pattern's points, and their misfit.

    Angles are 2θ [°] in units of ``scale``, so that widths are those at the reference. A window's mean shift is
    σ² mass′ / mass.
    """
    lines, free = directions.shape
    p = np.zeros(free + 1)
    p[0], p[free] = math.sqrt(3) * strain, zero  # the first strain is isotropic, and of norm 1
    places, j = np.empty(lines), np.empty(free + 1)
    misfit, weights = 0.0, 0.0
    for step in range(len(WINDOWS) + 1):
        window = min(step, len(WINDOWS) - 1)
        sigma2 = WINDOWS[window] ** 2
        normal, right, total = np.zeros((free + 1, free + 1)), np.zeros(free + 1), 0.0
        for line in range(lines):
            stretch = 0.0
            for k in range(free):
                stretch += directions[line, k] * p[k]
            sine = wavelength * q[line] * (1 - stretch) / (4 * math.pi)
            if sine >= 0.999:
                places[line] = -1e9
                continue
            theta = math.asin(sine)
            places[line] = (math.degrees(2 * theta) / scale + p[free] - start) / STEP
            here = _value(mass[window], places[line])
            if here <= 0:
                continue
            off = RELAXATION[window] * sigma2 * _value(slope[window], places[line]) / here
            weight = pull[line] * here
            if step == len(WINDOWS):
                misfit += weight * off * off
                weights += weight
                continue
            for k in range(free):
                j[k] = -2 * math.degrees(math.tan(theta)) / scale * directions[line, k]
            j[free] = 1.0
            total += weight
            for a in range(free + 1):
                right[a] += weight * j[a] * off
                for b in range(free + 1):
                    normal[a, b] += weight * j[a] * j[b]
        if step == len(WINDOWS) or total == 0:
            break
        for a in range(free + 1):
            prior = PRIOR * total * sigma2 / (STRAIN if a < free else ZERO) ** 2
            normal[a, a] += prior
            right[a] -= prior * p[a]
        p += np.linalg.solve(normal, right)
    return p[:free], float(p[free]), places, math.sqrt(misfit / weights) if weights > 0 else WINDOWS[-1]


@njit(nogil=True)
def _paint(places: NDArray, heights: NDArray, shapes: NDArray, seen: NDArray, out: NDArray) -> None:
    """Lines on points, into ``out``; 0 where nothing was measured."""
    half = shapes.shape[1] // 2
    out[:] = 0
    for line in range(len(places)):
        centre = math.floor(places[line] + 0.5)
        if heights[line] <= 0 or centre < half or centre >= len(out) - half:
            continue
        shape = shapes[min(int((places[line] - centre + 0.5) * SUBSTEPS), SUBSTEPS - 1)]
        for i in range(len(shape)):
            if seen[centre - half + i]:
                out[centre - half + i] += heights[line] * shape[i]


@njit(nogil=True)
def _le_bail(places: NDArray, heights: NDArray, shapes: NDArray, net: NDArray, painted: NDArray) -> None:
    """One of Le Bail's iterations on ``heights``: each line's share of what the pattern has at each point."""
    half = shapes.shape[1] // 2
    for line in range(len(places)):
        centre = math.floor(places[line] + 0.5)
        if heights[line] <= 0 or centre < half or centre >= len(net) - half:
            heights[line] = 0
            continue
        shape = shapes[min(int((places[line] - centre + 0.5) * SUBSTEPS), SUBSTEPS - 1)]
        ratio, area = 0.0, 0.0
        for i in range(len(shape)):
            if painted[centre - half + i] > 1e-12:
                ratio += shape[i] * net[centre - half + i] / painted[centre - half + i]
                area += shape[i]
        heights[line] *= ratio / area if area > 0 else 0.0


@njit(nogil=True, fastmath=True)
def _weigh(
    places: NDArray,
    intensity: NDArray,
    net: NDArray,
    root: NDArray,
    seen: NDArray,
    shapes: NDArray,
    out: NDArray,
) -> None:
    """The evidence of intensities, into ``out``."""
    lines, points = len(places), len(net)
    expected, painted = intensity.copy(), np.empty(points)
    for line in range(lines):
        point = math.floor(places[line] + 0.5)
        if places[line] < 0 or point >= points or not seen[point]:
            expected[line] = 0.0
    _paint(places, expected, shapes, seen, painted)
    product, square = 0.0, 0.0
    for i in range(points):
        product += math.sqrt(painted[i] * net[i])
        square += painted[i]
    if not square > 0:
        return
    if not product > 0:  # lines in the range, and nothing where they are
        out[4] = 1.0
        return
    # The scale by which √(theory) fits √I best.
    expected *= (product / square) ** 2
    free = expected.copy()
    for _ in range(LE_BAIL):
        _paint(places, free, shapes, seen, painted)
        _le_bail(places, free, shapes, net, painted)
    weights, first, second, missing, inside = 0.0, 0.0, 0.0, 0.0, 0
    for line in range(lines):
        if expected[line] > 0:
            inside += 1
            weight = math.sqrt(expected[line])
            ratio = math.log((free[line] + FLOOR) / (expected[line] + FLOOR))
            weights += weight
            first += weight * ratio
            second += weight * ratio * ratio
            if free[line] < ABSENT * expected[line]:
                missing += weight
    out[3] = math.sqrt(max(second / weights - (first / weights) ** 2, 0.0))
    out[4] = missing / weights
    out[6] = math.log(inside + 1.0)
    mean, count = 0.0, 0
    for i in range(points):
        if seen[i]:
            mean += root[i]
            count += 1
    mean /= count
    total = 0.0
    for i in range(points):
        if seen[i]:
            total += (root[i] - mean) ** 2
    for kind in range(3):
        heights = expected if kind == 0 else np.sqrt(expected * free) if kind == 1 else free
        _paint(places, heights, shapes, seen, painted)
        product, square = 0.0, 0.0
        for i in range(points):
            if painted[i] > 1e-6:
                value = painted[i] ** POWER
                product += value * (root[i] - mean)
                square += value * value
        out[kind] = product / math.sqrt(square * total) if square > 0 else 0.0
    explained, everything = 0.0, 0.0
    for i in range(points):
        own = math.sqrt(net[i])
        everything += own
        explained += min(own, math.sqrt(painted[i]))
    out[5] = explained / everything
