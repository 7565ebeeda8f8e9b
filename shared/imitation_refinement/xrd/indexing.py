"""Indexing: the lattices of each family that explain the lines of a pattern best.

Small indices are tried for a few of the first strong lines, as in TREOR (Werner, Eriksson and Westdahl, J. Appl. Cryst.
18, 367, 1985), by way of zones, as in ITO (Visser, J. Appl. Cryst. 2, 89, 1969): two or three lines give a plane of the
reciprocal lattice; those planes that hold most of the lines are taken, and further lines give the rest. What explains
the first lines best is refined on all lines, with the zero error, under each centring. Zero errors are tried in steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.xrd.jit import njit
from imitation_refinement.xrd.lattices import (
    CENTRINGS,
    Family,
    Lattice,
    Vector,
    determinant,
    higher,
    points,
    primitive_form,
    refined,
)

ZERO = np.array([0.03, 0.08])  # mean and standard deviation of zero errors [°]; measured lines stand too high
TRIED = (0.04, -0.02, 0.10)  # zero errors [°]
FIRST, ZONE, BASE = 14, 20, 9  # lines that trial lattices explain; that zones do; that indices are tried for
CANDIDATES = 24  # trial lattices of a family that are refined
WIDTH = 0.04  # σ of lines' places while lattices are tried [°]: zero errors are off by half a step
WIDTHS = np.array([0.06, 0.045, 0.03, 0.02, 0.015, 0.015])  # while they are refined
ZONES, MONOCLINIC_ZONES, OBLIQUE, TRICLINIC_ZONES = 80, 80, 60, 30  # that are kept
TRIPLES, CROSSES = 150, 4
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
SQUARES = np.array([(n, l) for n in (0, 1, 2, 4, 5, 8) for l in range(5) if n or l], float)  # noqa: E741
HEXAGONS = np.array([(n, l) for n in (0, 1, 3, 4, 7) for l in (0, 1, 2, 3, 4, 6) if n or l], float)  # noqa: E741
IN_PLANE = np.array(
    [(1, 0), (0, 1), (2, 0), (0, 2), (1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (4, 0), (0, 4), (3, 0), (0, 3)],
    float,
)
BELOW = np.array(
    [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2), (2, 2), (3, 0), (0, 3), (3, 1), (1, 3)], float
)
DIAGONAL = np.array([(1, 1), (-1, 1), (1, 2), (2, 1), (-1, 2), (-2, 1)], float)
OBLIQUE_BELOW = np.array(
    [(0, 0), (1, 0), (0, 1), (1, 1), (-1, 1), (2, 0), (0, 2), (1, 2), (-1, 2), (2, 1), (-2, 1)], float
)
BINS = 4096


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

    def refine(family: Family, centrings: str, form: Vector, zero: float) -> None:
        basis = family.basis
        free = np.linalg.lstsq(basis, form, rcond=None)[0]
        for centring in centrings:
            place = CENTRINGS.index(centring)
            value, own, error, lines = refined(
                free, basis, family.half, place, zero, two_theta, chance, wavelength, WIDTHS, ZERO
            )
            key = family, centring
            if np.isfinite(value) and (key not in found or value > found[key].score):
                found[key] = Lattice(family, centring, own, error, value, lines)

    for family in Family:
        for form, zero in _tried(family, tried):
            refine(family, family.centrings, form, zero)
    best: dict[Family, Lattice] = {}
    for lattice in found.values():
        if lattice.family not in best or lattice.score > best[lattice.family].score:
            best[lattice.family] = lattice
    for lattice in best.values():  # each is a triclinic lattice, too, and may be of a higher symmetry
        primitive = primitive_form(lattice.form, lattice.centring)
        refine(Family.TRICLINIC, "P", primitive, lattice.zero_error)
        if lattice.family >= Family.MONOCLINIC:
            for family, centring, form in higher(primitive):
                refine(family, centring, form, lattice.zero_error)
    return sorted(found.values(), key=lambda lattice: -lattice.score)


def _tried(family: Family, at_zeros: list[tuple[Lines, Lines]]) -> list[tuple[Vector, float]]:
    """Trial lattices of a family, conventional axes: forms and zero errors."""
    kept, values = np.zeros((CANDIDATES, 7)), np.full(CANDIDATES, -np.inf)
    log_m = math.log(MULTIPLICITY[family])
    for number, (zone, first) in enumerate(at_zeros):
        for forms in _forms(family, first.q, zone.arrays):
            _weigh(forms, first.arrays, family.half, log_m, number, kept, values)
    return [(row[:6].copy(), TRIED[int(row[6])]) for row in kept[np.isfinite(values)]]


def _forms(family: Family, at: Vector, zone: tuple[Any, ...]) -> Iterator[Vector]:
    """All trial lattices of a family, by each way to make them, forms of shape (n, 6).

    Args:
        family: the family.
        at: 1/d² of the lines that they are made of, shape (lines,).
        zone: :attr:`Lines.arrays` of those that planes are judged by.
    """
    base = min(BASE, len(at))
    if family is Family.CUBIC:
        yield _one_axis(at, base, CUBIC)
    elif family in (Family.TETRAGONAL, Family.HEXAGONAL):
        hexagonal = family is Family.HEXAGONAL
        yield _two_axes(at, base, HEXAGONS if hexagonal else SQUARES, hexagonal)
    elif family is Family.ORTHORHOMBIC:
        planes, _ = _rectangles(base, IN_PLANE, True, zone, ZONES)
        yield _on_rectangles(at, planes, base, BELOW)
    elif family is Family.MONOCLINIC:
        planes, worth = _rectangles(base, IN_PLANE, False, zone, MONOCLINIC_ZONES)
        yield _sheared(at, planes, worth, base, zone)
        planes, _ = _parallelograms(base, DIAGONAL, zone, OBLIQUE)
        yield _on_parallelograms(at, planes, base + 2, OBLIQUE_BELOW)
    else:
        planes, _ = _parallelograms(base, DIAGONAL, zone, TRICLINIC_ZONES)
        yield _leaning(at, planes, base, zone)


@njit(nogil=True, fastmath=True)
def _worth(form: NDArray, lines: tuple, half: int, log_m: float, worst: float, q: NDArray, hkl: NDArray) -> float:
    """About what :func:`.lattices.score` gives of a trial lattice, under the best centring; −∞ if below ``worst``."""
    at, per_q, gain, loss, nearest, top = lines
    det = determinant(form)
    if det <= 1e-12:
        return -np.inf
    chance = log_m + 0.5 * math.log(det)  # − log (V / m)
    n = len(at)
    most = 0.0
    for i in range(n):
        most += min(gain[i] + chance + 1.3863, CAP)  # log 4: of an F lattice a quarter of the lines is left
    if most <= worst:
        return -np.inf
    found = points(form, top, half, q, hkl)
    if found == 0 or found == len(q):
        return -np.inf
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
    sums = np.zeros(7)  # P, C, A, B, I, R, F
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
    best = sums[0]
    if half == 1:
        best = max(best, sums[1], sums[2], sums[4])
    elif half == 2:
        for c in range(1, 7):
            best = max(best, sums[c])
    return best


@njit(nogil=True)
def _weigh(forms: NDArray, lines: tuple, half: int, log_m: float, number: int, kept: NDArray, values: NDArray) -> None:
    """Keeps the best trial lattices in ``kept``, and what they are worth in ``values``, −∞ where there is none yet."""
    q, hkl = np.empty(400), np.empty((400, 3), np.int64)
    for form in forms:
        value = _worth(form, lines, half, log_m, values.min(), q, hkl)
        if value > -np.inf:
            _keep(kept, values, value, form, number)


@njit(nogil=True)
def _keep(kept: NDArray, values: NDArray, value: float, form: NDArray, number: int) -> None:
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
        values[place], kept[place, 6] = value, number
        for j in range(6):
            kept[place, j] = form[j]


@njit(nogil=True)
def _added(forms: NDArray, n: int, a: float, b: float, c: float, d: float, e: float, f: float) -> tuple[NDArray, int]:
    """The forms, n of which are filled, with one more."""
    if n == len(forms):
        larger = np.empty((2 * n, 6))
        for i in range(n):  # a slice's assignment takes seconds to compile
            for j in range(6):
                larger[i, j] = forms[i, j]
        forms = larger
    forms[n, 0], forms[n, 1], forms[n, 2], forms[n, 3], forms[n, 4], forms[n, 5] = a, b, c, d, e, f
    return forms, n + 1


@njit(nogil=True)
def _one_axis(at: NDArray, base: int, sums: NDArray) -> NDArray:
    """Cubic lattices: one line, whose h² + k² + l² is one of ``sums``."""
    forms, n = np.empty((1024, 6)), 0
    for i in range(base):
        for number in sums:
            edge = at[i] / number
            if LEAST / 2 < edge < MOST:
                forms, n = _added(forms, n, edge, edge, edge, 0.0, 0.0, 0.0)
    return forms[:n]


@njit(nogil=True)
def _two_axes(at: NDArray, base: int, sums: NDArray, hexagonal: bool) -> NDArray:
    """Tetragonal and hexagonal lattices: two lines n A + l² C, n and l of ``sums``."""
    forms, n = np.empty((1024, 6)), 0
    for i in range(base):
        for j in range(i + 1, base):
            for a in range(len(sums)):
                for b in range(len(sums)):
                    n1, n2, l1, l2 = sums[a, 0], sums[b, 0], sums[a, 1] ** 2, sums[b, 1] ** 2
                    det = n1 * l2 - n2 * l1
                    if det == 0:
                        continue
                    first, third = (at[i] * l2 - at[j] * l1) / det, (n1 * at[j] - n2 * at[i]) / det
                    if LEAST < first < MOST and LEAST / 2 < third < MOST:
                        forms, n = _added(forms, n, first, first, third, first if hexagonal else 0.0, 0.0, 0.0)
    return forms[:n]


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


@njit(nogil=True)
def _rectangles(base: int, indices: NDArray, ordered: bool, lines: tuple, most: int) -> tuple[NDArray, NDArray]:
    """Rectangular planes h² a + k² b that two lines give, and what they are worth; with a ≥ b if ``ordered``."""
    at = lines[0]
    planes, values = np.zeros((most, 3)), np.full(most, -np.inf)
    for i in range(base):
        for j in range(i + 1, base):
            for m in range(len(indices)):
                for n in range(len(indices)):
                    h1, k1, h2, k2 = indices[m, 0] ** 2, indices[m, 1] ** 2, indices[n, 0] ** 2, indices[n, 1] ** 2
                    det = h1 * k2 - h2 * k1
                    if det == 0:
                        continue
                    a, b = (at[i] * k2 - at[j] * k1) / det, (h1 * at[j] - h2 * at[i]) / det
                    if (ordered and a < b) or not (LEAST < a < MOST and LEAST < b < MOST):
                        continue
                    value = _in_plane(a, b, 0.0, lines, True)
                    if value > values.min():
                        _keep_plane(planes, values, value, a, b, 0.0)
    return planes[values > -np.inf], values[values > -np.inf]


@njit(nogil=True)
def _parallelograms(base: int, diagonals: NDArray, lines: tuple, most: int) -> tuple[NDArray, NDArray]:
    """Oblique planes h² a + l² c + hl d that three lines give, reduced (0 ≤ d ≤ a ≤ c), and what they are worth."""
    at = lines[0]
    planes, values = np.zeros((most, 3)), np.full(most, -np.inf)
    for i in range(base):
        for j in range(i + 1, base):
            for first in range(1, 3):
                for second in range(1, 3):
                    for other in range(len(at)):
                        if other in (i, j):
                            continue
                        for m in range(len(diagonals)):
                            a, c = at[i] / first**2, at[j] / second**2
                            h, l = diagonals[m, 0], diagonals[m, 1]  # noqa: E741
                            d = (at[other] - h * h * a - l * l * c) / (h * l)
                            if d * d >= 3.9 * a * c:
                                continue
                            for _ in range(20):  # Gauss's reduction
                                if a > c:
                                    a, c = c, a
                                whole = math.floor(d / (2 * a) + 0.5)
                                if whole == 0:
                                    break
                                c, d = c - whole * d + whole * whole * a, d - 2 * whole * a
                            a, c, d = min(a, c), max(a, c), abs(d)
                            if a < LEAST or c > MOST:
                                continue
                            value = _in_plane(a, c, d, lines, False)
                            if value > values.min():
                                _keep_plane(planes, values, value, a, c, d)
    return planes[values > -np.inf], values[values > -np.inf]


@njit(nogil=True)
def _on_rectangles(at: NDArray, planes: NDArray, base: int, below: NDArray) -> NDArray:
    """Orthorhombic lattices: a plane, and a line (h k l) with h and k of ``below`` and l up to 3."""
    forms, n = np.empty((1024, 6)), 0
    for plane in planes:
        for i in range(base):
            for m in range(len(below)):
                rest = at[i] - below[m, 0] ** 2 * plane[0] - below[m, 1] ** 2 * plane[1]
                for l in range(1, 4):  # noqa: E741
                    third = rest / (l * l)
                    if not LEAST < third < MOST:
                        continue
                    a, c = max(plane[0], plane[1], third), min(plane[0], plane[1], third)
                    forms, n = _added(forms, n, a, plane[0] + plane[1] + third - a - c, c, 0.0, 0.0, 0.0)
    return forms[:n]


@njit(nogil=True)
def _sheared(at: NDArray, planes: NDArray, worth: NDArray, base: int, zone: tuple) -> NDArray:
    """Monoclinic lattices of two rectangular planes, (h k 0) and (0 k l), which share b*; a line gives β*.

    That of the second plane's axis is (0 k 1) or (0 k 2), as c* may be any vector of its layer.
    """
    triples, best = np.zeros((TRIPLES, 3)), np.full(TRIPLES, -np.inf)
    for p in range(len(planes)):
        a, b = planes[p, 0], planes[p, 1]
        for i in range(base):
            for k in range(4):
                for l in range(1, 3):  # noqa: E741
                    c = (at[i] - k * k * b) / (l * l)
                    if not LEAST < c < MOST:
                        continue
                    value = worth[p] + _in_plane(c, b, 0.0, zone, True)
                    if value <= best.min():
                        continue
                    place = int(np.argmin(best))
                    for t in range(TRIPLES):  # a and c in either order
                        if abs(triples[t, 1] - b) < 0.003 * b:
                            same = abs(triples[t, 0] - a) < 0.003 * a and abs(triples[t, 2] - c) < 0.003 * c
                            other = abs(triples[t, 0] - c) < 0.003 * c and abs(triples[t, 2] - a) < 0.003 * a
                            if same or other:
                                place = t
                                break
                    if value > best[place]:
                        best[place], triples[place, 0], triples[place, 1], triples[place, 2] = value, a, b, c
    forms, n = np.empty((1024, 6)), 0
    for a, b, c in triples[best > -np.inf]:
        for i in range(min(12, len(at))):
            for k in range(4):
                for s in range(5):
                    h, l = 1 + (s == 1) + 2 * (s == 3), 1 + (s == 2) + 2 * (s == 4)  # noqa: E741
                    e = abs((at[i] - k * k * b - h * h * a - l * l * c) / (h * l))
                    if at[i] > k * k * b and 1e-5 <= e <= 1.5 * min(a, c):
                        forms, n = _added(forms, n, a, b, c, 0.0, e, 0.0)
    return forms[:n]


@njit(nogil=True)
def _on_parallelograms(at: NDArray, planes: NDArray, base: int, below: NDArray) -> NDArray:
    """Monoclinic lattices: a plane (h 0 l), and a line (h k l) with h and l of ``below`` and k up to 3.

    Layers of odd k may stand half an axis, or half a diagonal, off: the plane is then every second line's.
    """
    forms, n = np.empty((1024, 6)), 0
    for plane in planes:
        for off in range(4):
            a, c, e = plane[0], plane[1], plane[2]
            if off == 1:
                a, e = a / 4, e / 2
            elif off == 2:
                c, e = c / 4, e / 2
            elif off == 3:
                a, e = (a + c + e) / 4, c + e / 2
            for i in range(min(base, len(at))):
                for m in range(len(below)):
                    h, l = below[m, 0], below[m, 1]  # noqa: E741
                    if off and (l if off == 2 else h) % 2 == 0:
                        continue
                    rest = at[i] - (h * h * a + l * l * c + h * l * e)
                    for k in range(1, 4):
                        b = rest / (k * k)
                        if LEAST < b < MOST and not (off and k % 2 == 0):
                            forms, n = _added(forms, n, a, b, c, 0.0, e, 0.0)
    return forms[:n]


@njit(nogil=True)
def _slants(a: float, c: float, at: NDArray, zone: tuple) -> NDArray:
    """The cross terms d of the planes h² a + l² c + hl d that hold most lines, up to :data:`CROSSES`."""
    found, best = np.zeros(CROSSES), np.full(CROSSES, -np.inf)
    for i in range(min(12, len(at))):
        for s in range(3):
            h, l = 1 + (s == 1), 1 + (s == 2)  # noqa: E741
            d = abs((at[i] - h * h * a - l * l * c) / (h * l))
            if d > 1.02 * min(a, c):
                continue
            value = _in_plane(a, c, d, zone, False)
            place = int(np.argmin(best))
            for t in range(CROSSES):
                if best[t] > -np.inf and abs(found[t] - d) < 0.01 * min(a, c):
                    place = t
            if value > best[place]:
                best[place], found[place] = value, d
    return found[best > -np.inf]


@njit(nogil=True)
def _leaning(at: NDArray, planes: NDArray, base: int, zone: tuple) -> NDArray:
    """Triclinic lattices: a plane (h k 0), a line (0 0 l), and the two planes that it makes with the first's axes."""
    forms, n = np.empty((1024, 6)), 0
    for a, b, d in planes:
        for i in range(base):
            for l in range(1, 3):  # noqa: E741
                c = at[i] / (l * l)
                if c < LEAST or c < 0.3 * a:
                    continue
                second = _slants(b, c, at, zone)
                for e in _slants(a, c, at, zone):
                    for f in second:
                        for sign in (1, -1):
                            forms, n = _added(forms, n, a, b, c, d, e, sign * f)
    return forms[:n]
