"""Indexing: the lattices of each family that explain the lines of a pattern best.

Small indices are tried for a few of the first strong lines, as in TREOR (Werner, Eriksson and Westdahl, J. Appl. Cryst.
18, 367, 1985), by way of zones, as in ITO (Visser, J. Appl. Cryst. 2, 89, 1969): two or three lines give a plane of the
reciprocal lattice, and further lines all coefficients but one. For the last one all lines vote: each tells it by each
small index, and those of the lattice agree. What most lines agree on is moved to the lines by a step of least squares,
weighed, refined in a few steps on all lines, and the best of it under each centring, with the zero error. Zero errors
are tried in steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.xrd.jit import njit
from imitation_refinement.xrd.lattices import (
    CENTRINGS,
    Family,
    Lattice,
    Vector,
    alike,
    determinant,
    higher,
    points,
    primitive_form,
    refined,
    solved,
)

ZERO = np.array([0.03, 0.08])  # mean and standard deviation of zero errors [°]; measured lines stand too high
TRIED = (0.04, 0.09)  # zero errors [°]
FIRST, ZONE, BASE = 14, 20, 9  # lines that trial lattices explain; that zones do; that indices are tried for
TRIALS = 8000  # of a family and a zero error that are weighed
KEPT, MARGIN = 120, 10.0  # trial lattices of a family that are refined a little; how far they may be below the best
CANDIDATES = 10  # that are refined wholly
WIDTH = 0.04  # σ of lines' places while lattices are tried [°]: zero errors are off by half a step
FITTED = 0.1  # [°]: how far lines count, before a trial lattice is weighed
WIDTHS = np.array([0.06, 0.045, 0.03, 0.02, 0.015, 0.015])  # while lattices are refined
ROUGH, FINE = np.array([0.06, 0.03, 0.015]), WIDTHS[2:]  # a little, and after that
RECTANGLES, OBLIQUE, TRICLINIC = 80, 60, 12  # planes that are kept
PEAKS, FEWEST = (3, 12), 3  # of votes that are tried, at least and at most; lines that agree
VOTE, AROUND = 1.5, 16  # how far apart lines agree, in WIDTH; how many such make what agrees by chance
CAP, ZONE_CAP = 3.5, 2.5  # what one line may add
IN_ZONE = 0.4  # of lines are in a zone that is worth the name
PROJECTED = 1.3  # times as many lines as the volume alone tells: those of zones have lower multiplicities
LEAST, MOST = 1 / 1600, 0.3  # of 1/d² of an axis [1/Å²]
MULTIPLICITY = {  # of lines, by Laue class
    Family.CUBIC: 48,
    Family.TETRAGONAL: 16,
    Family.HEXAGONAL: 24,
    Family.ORTHORHOMBIC: 8,
    Family.MONOCLINIC: 4,
    Family.TRICLINIC: 2,
}
CUBIC = np.array([1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 16, 18, 19, 20, 21, 22, 24], float)  # h² + k² + l²
IN_PLANE = np.array(
    [(1, 0), (0, 1), (2, 0), (0, 2), (1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (4, 0), (0, 4), (3, 0), (0, 3)],
    float,
)
DIAGONAL = np.array([(1, 1), (-1, 1), (1, 2), (2, 1), (-1, 2), (-2, 1)], float)
BINS = 4096
PLACES = np.array([CENTRINGS.index(c) for c in "PCABIRF"])  # as _worth counts them


@cache
def monomials(family: Family) -> Vector:
    """Of small indices, by the free coefficients of a family, each once, shape (n, free)."""
    long = family in (Family.TETRAGONAL, Family.HEXAGONAL)
    hkl = np.array(list(np.ndindex(7, 7, 13))) - (3, 3, 6)
    kept = (hkl[:, :2] ** 2).sum(axis=1) + hkl[:, 2] ** 2 / (4 if long else 1) <= 9
    h, k, l = hkl[kept].T  # noqa: E741
    return np.unique(np.stack([h * h, k * k, l * l, h * k, h * l, k * l], axis=1) @ family.basis, axis=0)[1:]


Ways = Iterator[tuple[Vector, int, Vector, Vector]]  # what _voted takes


@dataclass(frozen=True)
class Lines:
    """The lines that lattices are tried on, at one zero error.

    Attributes:
        q: 1/d² [1/Å²], rising, shape (n,).
        per_q: degrees of 2θ per 1/d², shape (n,).
        gain: the most that each adds to the score, but for − log V, shape (n,).
        loss: what each adds where the lattice has none there, shape (n,).
        nearest: the line that is nearest to each bin of 1/d², shape (BINS,).
        top: 1/d² of the last bin's end.
    """

    q: Vector
    per_q: Vector
    gain: Vector
    loss: Vector
    nearest: NDArray[np.int64]
    top: float

    @classmethod
    def of(cls, two_theta: Vector, chance: Vector, wavelength: float, zero_error: float) -> Lines:
        """Those of a pattern, see :func:`index`."""
        sine = np.sin(np.radians((two_theta - zero_error) / 2))
        q = (2 * sine / wavelength) ** 2
        per_q = np.degrees(wavelength / (2 * np.sqrt(q) * np.sqrt(1 - sine**2)))
        density = PROJECTED * 2 * np.pi * np.sqrt(q) / per_q
        gain = np.log((1 - chance) / (WIDTH * math.sqrt(2 * math.pi)) / density)
        top = float(q[-1] + 3 * WIDTH / per_q[-1])
        bins = (np.arange(BINS) + 0.5) * top / BINS
        nearest = np.abs(bins[:, None] - q).argmin(axis=1)
        return cls(q, per_q, gain, np.log(chance), nearest, top)

    @property
    def arrays(self) -> tuple[Vector, Vector, Vector, Vector, NDArray[np.int64], float]:
        """What compiled functions take."""
        return self.q, self.per_q, self.gain, self.loss, self.nearest, self.top

    @cached_property
    def oblique(self) -> Vector:
        """The oblique planes that hold most of them, the best first, shape (n, 3)."""
        return _best(_parallelograms(self.q[:BASE], self.q), self, False, OBLIQUE)


def index(two_theta: Vector, chance: Vector, strong: NDArray[np.bool_], wavelength: float) -> list[Lattice]:
    """The best lattice of each family and centring, the best first.

    Args:
        two_theta: rising angles of lines [°], shape (n,), at least four.
        chance: by which a line is none of the phase's, between 0 and 1, shape (n,).
        strong: the lines that trial lattices are made of and explain, at least four, shape (n,).
        wavelength: [Å].
    """
    found: dict[tuple[Family, str], Lattice] = {}
    place, doubt = two_theta[strong], chance[strong]
    tried = [
        (
            Lines.of(place[:ZONE], doubt[:ZONE], wavelength, zero),
            Lines.of(place[:FIRST], doubt[:FIRST], wavelength, zero),
        )
        for zero in TRIED
    ]

    def fitted(
        family: Family, centring: str, form: Vector, zero: float, widths: Vector
    ) -> tuple[float, Vector, float, int]:
        basis = family.basis
        place = CENTRINGS.index(centring)
        free = form[basis.argmax(axis=0)]
        return refined(free, basis, family.half, place, zero, two_theta, chance, wavelength, widths, ZERO)

    def refine(family: Family, centrings: str, form: Vector, zero: float, widths: Vector) -> None:
        for centring in centrings:
            value, own, error, lines = fitted(family, centring, form, zero, widths)
            key = family, centring
            if np.isfinite(value) and (key not in found or value > found[key].score):
                found[key] = Lattice(family, centring, own, error, value, lines)

    for family in Family:
        rough = [fitted(family, *one, ROUGH) for one in _tried(family, tried)]
        for value, form, zero, _ in sorted(rough, key=lambda one: -one[0])[:CANDIDATES]:
            if np.isfinite(value):
                refine(family, family.centrings, form, zero, FINE)

    def best(family: Family) -> list[Lattice]:
        return sorted((one for one in found.values() if one.family is family), key=lambda one: -one.score)[:1]

    def primitive(lattice: Lattice) -> Vector:
        return primitive_form(lattice.form, lattice.centring)

    for lattice in [one for family in Family for one in best(family)]:  # each is a triclinic one, too
        refine(Family.TRICLINIC, "P", primitive(lattice), lattice.zero_error, WIDTHS)
    for lattice in best(Family.TRICLINIC):
        for form in alike(primitive(lattice)):
            refine(Family.TRICLINIC, "P", form, lattice.zero_error, WIDTHS)
    for lattice in best(Family.MONOCLINIC) + best(Family.TRICLINIC):
        for family, centring, form in higher(primitive(lattice)):
            refine(family, centring, form, lattice.zero_error, WIDTHS)
    return sorted(found.values(), key=lambda lattice: -lattice.score)


def _tried(family: Family, at_zeros: list[tuple[Lines, Lines]]) -> list[tuple[str, Vector, float]]:
    """Trial lattices of a family, conventional axes: centrings, forms and zero errors."""
    kept, values = np.zeros((KEPT, 8)), np.full(KEPT, -np.inf)
    log_m = math.log(MULTIPLICITY[family])
    for number, (zone, first) in enumerate(at_zeros):
        trials = _forms(family, zone)
        _weigh(trials, zone.arrays, first.arrays, family.basis, family.half, log_m, number, kept, values)
    near = np.isfinite(values) & (values > values.max() - MARGIN)
    return [(CENTRINGS[int(row[7])], row[:6], TRIED[int(row[6])]) for row in kept[near]]


def _forms(family: Family, lines: Lines) -> Vector:
    """Trial lattices of a family, those that most votes speak for, shape (n, 6)."""
    at = lines.q[:BASE]
    if family is Family.CUBIC:
        edges = (at[:, None] / CUBIC).ravel()
        return edges[(edges > LEAST / 2) & (edges < MOST), None] * family.basis.T
    made = {
        Family.TETRAGONAL: _with_one_axis,
        Family.HEXAGONAL: _with_one_axis,
        Family.ORTHORHOMBIC: _with_two_axes,
        Family.MONOCLINIC: _with_three,
        Family.TRICLINIC: _with_five,
    }[family](family, at, lines)
    forms, evidence = zip(*(_voted(monomials(family), lines, *one) for one in made), strict=True)
    every = np.concatenate(evidence)
    return np.concatenate(forms)[np.argsort(-every)[:TRIALS]] @ family.basis.T


def _voted(
    small: Vector, lines: Lines, partial: Vector, column: int, low: Vector, high: Vector
) -> tuple[Vector, Vector]:
    """Lattices whose last coefficient most lines agree on, shape (n, free), and the evidence for them, shape (n,).

    Args:
        small: see :func:`monomials`.
        lines: that vote.
        partial: coefficients, shape (m, free).
        column: the one that is not known.
        low, high: between which it is, shape (m,).
    """
    width = VOTE * WIDTH / float(np.median(lines.per_q))
    axis = bool((small[:, column] >= 0).all())
    # Lines of high indices tell small coefficients better.
    scale = np.sqrt(lines.top) if axis else np.sqrt(np.maximum(lines.top / high, 4)) / 2
    step = np.full(len(partial), width) / scale
    known = small[:, column] == 0
    order = np.argsort(known, kind="stable")
    peaks = int(np.clip(TRIALS // max(len(partial), 1), *PEAKS))
    forms, evidence = np.empty((peaks * len(partial), small.shape[1])), np.empty(peaks * len(partial))
    room = int(((np.sqrt(high) if axis else high - low) / step).max(initial=0)) + 3
    n = _vote(
        small[order],
        int((~known).sum()),
        lines.arrays,
        partial,
        column,
        low,
        high,
        axis,
        width,
        step,
        room,
        peaks,
        forms,
        evidence,
    )
    return forms[:n], evidence[:n]


@njit(nogil=True)
def _vote(
    small: NDArray,
    voting: int,
    lines: tuple,
    partial: NDArray,
    column: int,
    low: NDArray,
    high: NDArray,
    axis: bool,
    width: float,
    step: NDArray,
    room: int,
    peaks: int,
    forms: NDArray,
    evidence: NDArray,
) -> int:
    """Fills ``forms`` and ``evidence`` of :func:`_voted`, and gives how many there are.

    The first ``voting`` of the monomials hold the last coefficient. Evidence is how much more lines there are, in the
    plane that is known and where they agree, than by chance: log of a Poisson distribution's, without small terms.
    """
    at, _, _, _, nearest, top = lines
    votes, last, sums, before = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room), np.zeros(room + 1)
    rest, inside = np.empty(len(small)), np.empty(len(at), np.bool_)
    best, where = np.empty(peaks), np.empty(peaks, np.int64)
    n, found, per_bin, by = len(at), 0, len(nearest) / top, 1 / small[:voting, column]
    for p in range(len(partial)):
        inside[:] = False
        here, own = 0, 0
        for m in range(len(small)):
            rest[m] = 0.0
            for c in range(small.shape[1]):
                if c != column:
                    rest[m] += small[m, c] * partial[p, c]
            if m >= voting and rest[m] < top:
                here += 1
                i = nearest[min(int(rest[m] * per_bin), len(nearest) - 1)]
                if not inside[i] and abs(at[i] - rest[m]) < width:
                    inside[i] = True
                    own += 1
        expected = n * min(2 * width * here / top, 1.0)
        known = own * (math.log(own / expected) - 1) + expected if own > expected else 0.0
        start, end = (math.sqrt(low[p]), math.sqrt(high[p])) if axis else (low[p], high[p])
        per_step = 1 / step[p]
        bins = int((end - start) * per_step) + 2
        for b in range(bins):
            votes[b], last[b] = 0, -1
        for i in range(n):
            if inside[i]:
                continue
            for m in range(voting):
                x = (at[i] - rest[m]) * by[m]
                if x < low[p] or x >= high[p]:
                    continue
                place = int(((math.sqrt(x) if axis else x) - start) * per_step)
                for b in range(place, place + 2):  # of bins that overlap by half
                    if last[b] != i:
                        sums[b] = x if votes[b] == 0 else sums[b] + x
                        last[b] = i
                        votes[b] += 1
        for b in range(bins):
            before[b + 1] = before[b] + votes[b]
        best[:] = 0.0
        for b in range(bins):
            if votes[b] < FEWEST or votes[max(b - 1, 0)] > votes[b] or votes[min(b + 1, bins - 1)] > votes[b]:
                continue
            first, after = max(b - AROUND, 0), min(b + AROUND, bins)
            chance = (before[after] - before[first]) / (after - first)
            value = votes[b] * (math.log(votes[b] / chance) - 1) + chance
            worst = np.argmin(best)
            if value > best[worst]:
                best[worst], where[worst] = value, b
        for peak in range(peaks):
            if best[peak] > 0:
                for c in range(small.shape[1]):
                    forms[found, c] = partial[p, c]
                forms[found, column] = sums[where[peak]] / votes[where[peak]]
                evidence[found] = known + best[peak]
                found += 1
    return found


def _with_one_axis(family: Family, at: Vector, lines: Lines) -> Ways:
    """Tetragonal and hexagonal lattices: a line of one axis or of the plane across it."""
    small = monomials(family)
    for column in (0, 1):
        single = small[small[:, 1 - column] == 0, column]
        axis = _inside((lines.q[:, None] / single).ravel())
        partial = np.zeros((len(axis), 2))
        partial[:, column] = axis
        yield partial, 1 - column, *_range(axis, LEAST / 2, MOST, lines)


def _with_two_axes(family: Family, at: Vector, lines: Lines) -> Ways:
    """Orthorhombic lattices: two lines of a plane."""
    planes = _rectangles(at)
    planes = planes[planes[:, 0] >= planes[:, 1]]
    partial = np.column_stack([planes[:, :2], np.zeros(len(planes))])
    yield partial, 2, *_range(partial, LEAST, MOST, lines)


def _with_three(family: Family, at: Vector, lines: Lines) -> Ways:
    """Monoclinic lattices: two rectangular planes that share b*, or the plane across it.

    In the second, layers of odd k may stand half an axis, or half a diagonal, off: the plane is then every second
    line's.
    """
    planes = _best(_rectangles(at), lines, True, RECTANGLES)
    k, l = np.array([(k, l) for k in range(4) for l in (1, 2)]).T  # noqa: E741
    c = (at[:, None] - k**2 * planes[:, 1, None, None]) / l**2
    which, _, _ = ok = np.nonzero((c > LEAST) & (c < MOST))
    third = c[ok]
    partial = np.column_stack([planes[which, :2], third, np.zeros(len(third))])
    high = 1.5 * np.minimum(partial[:, 0], third)
    yield partial, 3, np.zeros(len(third)), high
    planes = lines.oblique
    a, c, e = planes.T
    whole = [(a, c, e), (a / 4, c, e / 2), (a, c / 4, e / 2), ((a + c + e) / 4, c, c + e / 2)]
    a, c, e = np.concatenate([np.stack(one) for one in whole], axis=1)
    partial = np.column_stack([a, np.zeros(len(a)), c, e])
    yield partial, 1, *_range(partial, LEAST, MOST, lines)


def _with_five(family: Family, at: Vector, lines: Lines) -> Ways:
    """Triclinic lattices: a plane, a line (0 0 l), and a line that tells its angle with one of the plane's axes."""
    planes = lines.oblique[:TRICLINIC]
    planes = np.concatenate([planes, planes[:, [1, 0, 2]]])
    third = np.concatenate([at, at / 4])
    h, l = np.array([(1, 1), (2, 1), (1, 2)]).T  # noqa: E741
    a, c = planes[:, 0, None, None, None], third[:, None, None]
    e = np.abs(lines.q[:, None] - h**2 * a - l**2 * c) / (h * l)
    which, axis, _, _ = ok = np.nonzero((e <= np.minimum(a, c)) & (c > LEAST))
    a, b, d = planes[which].T
    c = third[axis]
    partial = np.column_stack([a, b, c, d, e[ok], np.zeros(len(a))])
    high = np.minimum(b, c)
    yield partial, 5, -high, high


def _inside(axis: Vector) -> Vector:
    """Those that may be 1/d² of an axis."""
    return axis[(axis > LEAST) & (axis < MOST)]


def _range(partial: Vector, low: float, high: float, lines: Lines) -> tuple[Vector, Vector]:
    """Bounds of an axis for each partial lattice."""
    return np.full(len(partial), low), np.full(len(partial), min(high, lines.top))


def _rectangles(at: Vector) -> Vector:
    """Rectangular planes h² a + k² b that two lines give: a, b and 0, shape (n, 3)."""
    i, j = np.triu_indices(len(at), 1)
    m, n = np.triu_indices(len(IN_PLANE), 1)
    (h1, k1), (h2, k2) = IN_PLANE[np.r_[m, n]].T ** 2, IN_PLANE[np.r_[n, m]].T ** 2
    det = h1 * k2 - h2 * k1
    h1, k1, h2, k2, det = (one[det != 0] for one in (h1, k1, h2, k2, det))
    first, second = at[i][:, None], at[j][:, None]
    a, b = ((first * k2 - second * k1) / det).ravel(), ((h1 * second - h2 * first) / det).ravel()
    ok = (np.minimum(a, b) > LEAST) & (np.maximum(a, b) < MOST)
    return np.column_stack([a[ok], b[ok], np.zeros(ok.sum())])


def _parallelograms(at: Vector, others: Vector) -> Vector:
    """Oblique planes h² a + l² c + hl d that three lines give, reduced (0 ≤ d ≤ a ≤ c), shape (n, 3)."""
    i, j = np.triu_indices(len(at), 1)
    s, t = np.array([(1, 1), (1, 2), (2, 1), (2, 2)]).T ** 2
    a, c = (at[i][:, None] / s)[:, :, None, None], (at[j][:, None] / t)[:, :, None, None]
    h, l = DIAGONAL.T  # noqa: E741
    d = (others[:, None] - h * h * a - l * l * c) / (h * l)
    a, c, d = (one[d * d < 3.9 * a * c] for one in np.broadcast_arrays(a, c, d))
    for _ in range(20):  # Gauss's reduction
        a, c = np.minimum(a, c), np.maximum(a, c)
        whole = np.floor(d / (2 * a) + 0.5)
        if not whole.any():
            break
        c, d = c - whole * d + whole**2 * a, d - 2 * whole * a
    ok = (a > LEAST) & (c < MOST)
    return np.column_stack([a, c, np.abs(d)])[ok]


def _best(planes: Vector, lines: Lines, rectangular: bool, most: int) -> Vector:
    """The planes that hold most lines, the best first, shape (n, 3)."""
    kept, values = np.zeros((most, 3)), np.full(most, -np.inf)
    _choose(planes, lines.arrays, rectangular, kept, values)
    return kept[np.argsort(-values)][: int((values > -np.inf).sum())]


@njit(nogil=True)
def _choose(planes: NDArray, lines: tuple, rectangular: bool, kept: NDArray, values: NDArray) -> None:
    """Keeps the best planes in ``kept``, and what they are worth in ``values``."""
    for plane in planes:
        value = _in_plane(plane[0], plane[1], plane[2], lines, rectangular)
        if value > values.min():
            _keep_plane(kept, values, value, plane[0], plane[1], plane[2])


@njit(nogil=True, fastmath=True)
def _most(form: NDArray, lines: tuple, log_m: float) -> float:
    """The most that :func:`_worth` can give of a trial lattice; −∞ if it is none."""
    det = determinant(form)
    if det <= 1e-12:
        return -np.inf
    chance, most = log_m + 0.5 * math.log(det), 0.0
    for gain in lines[2]:
        most += min(gain + chance + 1.3863, CAP)  # log 4: of an F lattice a quarter of the lines is left
    return most


@njit(nogil=True, fastmath=True)
def _worth(
    form: NDArray, lines: tuple, half: int, log_m: float, worst: float, q: NDArray, hkl: NDArray
) -> tuple[float, int]:
    """About what :func:`.lattices.score` gives of a trial lattice, under the best centring; −∞ if below ``worst``."""
    at, per_q, gain, loss, nearest, top = lines
    if _most(form, lines, log_m) <= worst:
        return -np.inf, 0
    chance = log_m + 0.5 * math.log(determinant(form))  # − log (V / m)
    n = len(at)
    found = points(form, top, half, q, hkl)
    if found == 0 or found == len(q):
        return -np.inf, 0
    off, parity = np.full(n, 3.0), np.zeros(n, np.int64)
    per_bin = len(nearest) / top
    for p in range(found):
        i = nearest[min(int(q[p] * per_bin), len(nearest) - 1)]
        distance = abs(q[p] - at[i]) * per_q[i] / WIDTH
        if distance < off[i]:
            off[i] = distance
            h, k, l = hkl[p, 0], hkl[p, 1], hkl[p, 2]  # noqa: E741
            kept = 0
            if (h + k) % 2 == 0:
                kept += 1
            if (k + l) % 2 == 0:
                kept += 2
            if (h + l) % 2 == 0:
                kept += 4
            if (h + k + l) % 2 == 0:
                kept += 8
            if (-h + k + l) % 3 == 0:
                kept += 16
            parity[i] = kept
    sums = np.zeros(7)  # of PLACES
    for i in range(n):
        if off[i] >= 3:
            for c in range(7):
                sums[c] += loss[i]
            continue
        here = gain[i] + chance
        for c in range(7):
            more, bits = 0.0, 0
            if c == 6:
                more, bits = 1.3863, 7
            elif c == 5:
                more, bits = 1.0986, 16
            elif c > 0:
                more, bits = 0.6931, 1 << (c - 1)
            value = loss[i]
            if parity[i] & bits == bits:
                value = max(value, min(here + more, CAP) - off[i] * off[i] / 2)
            sums[c] += value
    best = 0
    for c in range(1, 5 if half == 1 else 7):
        if half > 0 and sums[c] > sums[best] and (half == 2 or c != 3):
            best = c
    return sums[best], PLACES[best]


@njit(nogil=True)
def _weigh(
    forms: NDArray,
    more: tuple,
    lines: tuple,
    basis: NDArray,
    half: int,
    log_m: float,
    number: int,
    kept: NDArray,
    values: NDArray,
) -> None:
    """Keeps the best trial lattices in ``kept``, and what they are worth in ``values``, −∞ where there is none yet.

    Each is fitted to ``more`` lines first: what a few lines tell is off by more than all of them are.
    """
    q, hkl = np.empty(400), np.empty((400, 3), np.int64)
    for form in forms:
        if _most(form, lines, log_m) <= values.min():
            continue
        _fit(form, more, basis, half, q, hkl)
        value, centring = _worth(form, lines, half, log_m, values.min(), q, hkl)
        if value > -np.inf:
            _keep(kept, values, value, form, number, centring)


@njit(nogil=True, fastmath=True)
def _fit(form: NDArray, lines: tuple, basis: NDArray, half: int, q: NDArray, hkl: NDArray) -> None:
    """Moves a trial lattice, in place, to where its lines are nearer to the pattern's: a step of least squares."""
    at, per_q, _, _, nearest, top = lines
    found = points(form, top, half, q, hkl)
    if found == 0 or found == len(q):
        return
    n, count = len(at), basis.shape[1]
    off, which = np.full(n, 3 * FITTED), np.full(n, -1, np.int64)
    per_bin = len(nearest) / top
    for p in range(found):
        i = nearest[min(int(q[p] * per_bin), len(nearest) - 1)]
        distance = abs(q[p] - at[i]) * per_q[i]
        if distance < off[i]:
            off[i], which[i] = distance, p
    normal, right, slope = np.zeros((count, count)), np.zeros(count), np.empty(count)
    for i in range(n):
        p = which[i]
        if p < 0:
            continue
        weight = math.exp(-off[i] * off[i] / (2 * FITTED * FITTED)) * per_q[i]
        h, k, l = hkl[p, 0], hkl[p, 1], hkl[p, 2]  # noqa: E741
        for c in range(count):
            slope[c] = per_q[i] * (
                basis[0, c] * h * h
                + basis[1, c] * k * k
                + basis[2, c] * l * l
                + basis[3, c] * h * k
                + basis[4, c] * h * l
                + basis[5, c] * k * l
            )
        for c in range(count):
            right[c] += weight * slope[c] * (at[i] - q[p])
            for d in range(count):
                normal[c, d] += weight * slope[c] * slope[d] / per_q[i]
    for c in range(count):
        normal[c, c] = 1.01 * normal[c, c] + 1e-9
    step = solved(normal, right)
    for c in range(count):
        for j in range(6):
            form[j] += basis[j, c] * step[c]


@njit(nogil=True)
def _keep(kept: NDArray, values: NDArray, value: float, form: NDArray, number: int, centring: int) -> None:
    """Keeps a trial lattice if it is among the best; those nearly alike once."""
    size = abs(form[0]) + abs(form[1]) + abs(form[2])
    place = int(np.argmin(values))
    for i in range(len(values)):
        if abs(values[i] - value) < 0.3:
            apart = 0.0
            for j in range(6):
                apart = max(apart, abs(kept[i, j] - form[j]))
            if apart < 0.0015 * size:
                place = i
                break
    if value > values[place]:
        values[place], kept[place, 6], kept[place, 7] = value, number, centring
        for j in range(6):
            kept[place, j] = form[j]


@njit(nogil=True, fastmath=True)
def _in_plane(a: float, c: float, d: float, lines: tuple, rectangular: bool) -> float:
    """What lines gain that lie in a plane h² a + l² c + hl d of the reciprocal lattice; others cost nothing.

    A rectangular one may be centred; then lines off the centring cost something.
    """
    at, per_q, _, _, nearest, top = lines
    det = 4 * a * c - d * d
    if det <= 0:
        return -np.inf
    density = 1.2 * math.pi / math.sqrt(det)
    if rectangular:
        density /= 2
    n = len(at)
    off, odd = np.full(n, 3.0), np.zeros(n, np.bool_)
    per_bin = len(nearest) / top
    least, l = c - d * d / (4 * a), 0  # noqa: E741
    while l * l * least <= top:
        middle = -l * d / (2 * a)
        reach = math.sqrt(max(top - l * l * least, 0.0) / a)
        h = math.ceil(middle - reach) if l > 0 and not rectangular else 0
        while h <= middle + reach:
            q = h * h * a + l * l * c + h * l * d
            i = nearest[min(int(q * per_bin), len(nearest) - 1)]
            distance = abs(q - at[i]) * per_q[i] / WIDTH
            if distance < off[i]:
                off[i], odd[i] = distance, (h + l) % 2 != 0
            h += 1
        l += 1  # noqa: E741
    total, centred = 0.0, 0.0
    for i in range(n):
        if off[i] < 3:
            own = IN_ZONE * math.exp(-off[i] * off[i] / 2) * per_q[i] / (WIDTH * 2.5066 * density)
            total += min(math.log(1 - IN_ZONE + own), ZONE_CAP) if own > IN_ZONE else 0.0
            if odd[i]:
                centred -= 0.3
            elif 2 * own > IN_ZONE:
                centred += min(math.log(1 - IN_ZONE + 2 * own), ZONE_CAP)
    return max(total, centred) if rectangular else total


@njit(nogil=True)
def _keep_plane(planes: NDArray, values: NDArray, value: float, a: float, c: float, d: float) -> None:
    """As :func:`_keep`, of planes."""
    place = int(np.argmin(values))
    for i in range(len(values)):
        if abs(values[i] - value) >= 0.5 or abs(planes[i, 0] - a) >= 0.004 * a or abs(planes[i, 1] - c) >= 0.004 * c:
            continue
        if abs(planes[i, 2] - d) < 0.004 * (a + c):
            place = i
            break
    if value > values[place]:
        values[place], planes[place, 0], planes[place, 1], planes[place, 2] = value, a, c, d
