"""Lattices as quadratic forms of Miller indices, and how well one explains the lines of a pattern.

1/d² = A h² + B k² + C l² + D hk + E hl + F kl, all with conventional axes (monoclinic: b unique; rhombohedral: on
hexagonal axes). What a lattice is worth is the logarithm of a likelihood ratio: of each line's place if it is one of
the lattice's, against its place by chance. A line that stands where the lattice has many lines says little, so that
large cells, which explain anything, gain nothing: what de Wolff's figure of merit is for (J. Appl. Cryst. 1, 108,
1968).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.xrd.jit import njit

Vector = NDArray[np.float64]

CENTRINGS = "PIFCABR"
MOST_POINTS = 1000  # a lattice of more lines in the range explains anything
NEAR = 4.0  # [°]: on either side of a line, where the lattice's lines are counted
MERGED = 0.02  # [°]: lines this close are one
NARROW = 0.7  # share of lines that scatter by the width itself, the others by three times as much
FARTHEST_ZERO = 0.4  # [°]


class Family(IntEnum):
    """What constrains the six coefficients; trigonal lattices are hexagonal ones, primitive or R."""

    CUBIC = 0
    TETRAGONAL = 1
    HEXAGONAL = 2
    ORTHORHOMBIC = 3
    MONOCLINIC = 4
    TRICLINIC = 5

    @property
    def centrings(self) -> str:
        """Letters of :data:`CENTRINGS` that the family has, monoclinic and orthorhombic ones in every setting."""
        return ("PIF", "PI", "PR", "PIFCAB", "PICA", "P")[self]

    @property
    def basis(self) -> Vector:
        """How the six coefficients follow from the free ones, shape (6, free)."""
        columns = {
            Family.CUBIC: ((0, 1, 2),),
            Family.TETRAGONAL: ((0, 1), (2,)),
            Family.HEXAGONAL: ((0, 1, 3), (2,)),
            Family.ORTHORHOMBIC: ((0,), (1,), (2,)),
            Family.MONOCLINIC: ((0,), (1,), (2,), (4,)),
            Family.TRICLINIC: ((0,), (1,), (2,), (3,), (4,), (5,)),
        }[self]
        found = np.zeros((6, len(columns)))
        for column, rows in enumerate(columns):
            found[list(rows), column] = 1
        return found

    @property
    def half(self) -> int:
        """Which indices need not be negative: 0 l alone, 1 k too (monoclinic), 2 all."""
        return {Family.TRICLINIC: 0, Family.MONOCLINIC: 1}.get(self, 2)


@dataclass(frozen=True)
class Lattice:
    """A lattice that was fitted to the lines of a pattern.

    Attributes:
        family: what its coefficients obey.
        centring: one of :data:`CENTRINGS`.
        form: A to F [1/Å²], shape (6,).
        zero_error: by which the lines stand at too high angles [°].
        score: log of the likelihood ratio, and of the zero error's probability.
        lines: of the lattice, in the range of the pattern's.
    """

    family: Family
    centring: str
    form: Vector
    zero_error: float
    score: float
    lines: int

    @property
    def reciprocal_metric(self) -> Vector:
        """G*, shape (3, 3) [1/Å²]."""
        return metric(self.form)

    @property
    def cell(self) -> tuple[float, float, float, float, float, float]:
        """a, b, c [Å], α, β, γ [°]."""
        g = np.linalg.inv(self.reciprocal_metric)
        lengths = np.sqrt(np.diag(g))
        cosines = [g[i, j] / (lengths[i] * lengths[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
        return (*lengths.tolist(), *np.degrees(np.arccos(cosines)).tolist())


def metric(form: Vector) -> Vector:
    """G* of a form, shape (3, 3)."""
    a, b, c, d, e, f = form
    return np.array([[a, d / 2, e / 2], [d / 2, b, f / 2], [e / 2, f / 2, c]])


PRIMITIVE = {
    "P": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "I": ((0, 1, 1), (1, 0, 1), (1, 1, 0)),
    "F": ((1, 1, 1), (1, 1, -1), (1, -1, 1)),
    "C": ((1, 1, 0), (1, -1, 0), (0, 0, 1)),
    "A": ((0, 1, 1), (0, 1, -1), (1, 0, 0)),
    "B": ((1, 0, 1), (1, 0, -1), (0, 1, 0)),
    "R": ((1, 0, 1), (-1, 1, 1), (0, -1, 1)),
}  # indices of vectors that span the lines that a centring leaves


def primitive_form(form: Vector, centring: str) -> Vector:
    """The form of a primitive cell of short reciprocal axes of the same lattice, the shortest first, shape (6,)."""
    rows = np.array(PRIMITIVE[centring], float)
    g = rows @ metric(form) @ rows.T
    changed = True
    while changed:
        changed = False
        for i, j in ((0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)):
            if whole := float(np.rint(g[i, j] / g[j, j] * (1 - 1e-9))):
                step = np.eye(3)
                step[i, j] = -whole
                g, changed = step @ g @ step.T, True
    order = np.argsort(np.diag(g))
    g = g[np.ix_(order, order)]
    return np.array([g[0, 0], g[1, 1], g[2, 2], 2 * g[0, 1], 2 * g[0, 2], 2 * g[1, 2]])


EXPONENTS = np.array([(2, 0, 0), (0, 2, 0), (0, 0, 2), (1, 1, 0), (1, 0, 1), (0, 1, 1)])  # of h, k, l beside A to F


def alike(form: Vector) -> list[Vector]:
    """Lattices that a triclinic one is easily taken for: of half the cell, and with an angle on the other side of 90°.

    Args:
        form: A to F of short reciprocal axes, as :func:`primitive_form` gives, shape (6,).
    """
    halves = [primitive_form(form * 2.0 ** EXPONENTS[:, axis], "P") for axis in range(3)]
    halves += [primitive_form(form, centring) for centring in "CABI"]
    return [one * sign for one in (form, *halves) for sign in (1, (1, 1, 1, 1, 1, -1))]


SMALL = np.array([v for v in np.ndindex(5, 5, 5) if v > (2, 2, 2)]) - 2  # one of each pair ±v, up to 2
LONG = np.array([v for v in np.ndindex(7, 7, 7) if v > (3, 3, 3)]) - 3  # and up to 3: a threefold axis may be as long
ASIDE = 0.006  # sine of the angle between an axis and its plane's normal, up to which it may be a twofold one
ALIKE = 0.01  # relative difference of axes that may be equally long


def higher(form: Vector) -> list[tuple[Family, str, Vector]]:
    """Lattices of higher symmetry that a primitive one nearly is: families, centrings and forms.

    A twofold axis is a lattice vector that stands upright on a plane of the lattice (Le Page, J. Appl. Cryst. 15, 255,
    1982). The lattice is then spanned, or some of its points are, by the axis and the plane; three axes at right angles
    span an orthorhombic one, or a tetragonal or cubic one where they are equally long; two at 120° and the vector
    across them a hexagonal one.

    Args:
        form: A to F of short reciprocal axes, as :func:`primitive_form` gives, shape (6,).
    """
    g = np.asarray(np.linalg.inv(metric(form)), float)
    dots = SMALL @ SMALL.T
    lengths = np.sqrt(np.einsum("ij,jk,ik->i", SMALL, g, SMALL))
    normals = np.sqrt(np.einsum("ij,jk,ik->i", SMALL, metric(form), SMALL))
    cosine = np.abs(dots) / (lengths[:, None] * normals)
    upright = (cosine > 1 - ASIDE**2 / 2) & np.isin(np.abs(dots), (1, 2))
    coprime = np.gcd.reduce(SMALL, axis=1) == 1
    axes = np.flatnonzero(upright.any(axis=1) & coprime)
    rows: list[tuple[Family, NDArray[np.int_]]] = []
    for axis in axes.tolist():
        plane = np.flatnonzero((SMALL @ SMALL[int(cosine[axis].argmax())] == 0) & coprime)
        plane = plane[np.argsort(lengths[plane], kind="stable")]
        if len(plane) >= 2:
            rows.append((Family.MONOCLINIC, SMALL[[plane[0], axis, plane[1]]]))
    between = SMALL[axes] @ g @ SMALL[axes].T / (lengths[axes][:, None] * lengths[axes])
    apart = np.abs(between)
    for i in range(len(axes)):
        for j in range(i):
            for k in range(j):
                if max(apart[i, j], apart[i, k], apart[j, k]) < 2 * ASIDE:
                    three = axes[[k, j, i]]
                    rows.append((Family.ORTHORHOMBIC, SMALL[three]))
                    rows += _squares(SMALL[three], lengths[three])
            if abs(apart[i, j] - 0.5) < 2 * ASIDE and abs(lengths[axes[i]] / lengths[axes[j]] - 1) < ALIKE:
                first, second = SMALL[axes[i]], SMALL[axes[j]] * (-1 if between[i, j] > 0 else 1)
                rows += [(Family.HEXAGONAL, np.array([first, second, across])) for across in _across(first, second, g)]
    found = [one for family, three in rows for one in _centred(family, three, g)]
    return list(
        {
            (family, centring, *form.round(6).tolist()): (family, centring, form) for family, centring, form in found
        }.values()
    )


def _squares(rows: NDArray[np.int_], lengths: Vector) -> list[tuple[Family, NDArray[np.int_]]]:
    """Tetragonal and cubic axes among three at right angles, shape (3, 3), of some lengths [Å], shape (3,)."""
    found = [
        (Family.TETRAGONAL, rows[order])
        for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1])
        if abs(lengths[order[0]] / lengths[order[1]] - 1) < ALIKE
    ]
    return [*found, (Family.CUBIC, rows)] if len(found) == 3 else found


def _across(first: NDArray[np.int_], second: NDArray[np.int_], g: Vector) -> list[NDArray[np.int_]]:
    """The shortest lattice vector at right angles to two others, if there is one, as a list."""
    lengths = np.sqrt(np.einsum("ij,jk,ik->i", LONG, g, LONG))
    sides = np.stack([first, second])
    cosine = np.abs(LONG @ g @ sides.T) / (lengths[:, None] * np.sqrt(np.einsum("ij,jk,ik->i", sides, g, sides)))
    right = np.flatnonzero((cosine < 2 * ASIDE).all(axis=1))
    return [LONG[right[lengths[right].argmin()]]] if len(right) else []


def _centred(family: Family, rows: NDArray[np.int_], g: Vector) -> list[tuple[Family, str, Vector]]:
    """The lattice that some vectors span with all points of a primitive one, if a centring of the family does.

    Args:
        family: what it is to be.
        rows: indices of the vectors, shape (3, 3).
        g: the primitive lattice's metric, shape (3, 3).
    """
    if round(abs(np.linalg.det(rows))) not in (1, 2, 3, 4):
        return []
    places = np.array(list(np.ndindex(4, 4, 4))) @ np.linalg.inv(rows) % 1
    inside = {tuple(place) for place in (np.rint(places * 12).astype(int) % 12).tolist()}
    centring = next((letter for letter, own in CENTRED if own == inside), None)
    if centring is None or centring not in family.centrings:
        return []
    reciprocal = np.linalg.inv(rows @ g @ rows.T)
    (a, d, e), (_, b, f), (_, _, c) = reciprocal
    form = np.array([a, b, c, 2 * d, 2 * e, 2 * f]) * (family.basis.sum(axis=1) > 0)
    return [(family, centring, form)]


CENTRED = [
    ("P", {(0, 0, 0)}),
    ("I", {(0, 0, 0), (6, 6, 6)}),
    ("C", {(0, 0, 0), (6, 6, 0)}),
    ("A", {(0, 0, 0), (0, 6, 6)}),
    ("B", {(0, 0, 0), (6, 0, 6)}),
    ("F", {(0, 0, 0), (6, 6, 0), (6, 0, 6), (0, 6, 6)}),
    ("R", {(0, 0, 0), (8, 4, 4), (4, 8, 8)}),
    ("R", {(0, 0, 0), (4, 8, 4), (8, 4, 8)}),  # reverse, of the same lines
]  # points of the cell, in twelfths of the axes


@njit(nogil=True)
def allowed(h: int, k: int, l: int, centring: int) -> bool:  # noqa: E741
    """Whether a centring, by its place in :data:`CENTRINGS`, leaves a line."""
    if centring == 1:
        return (h + k + l) % 2 == 0
    if centring == 2:
        return (h + k) % 2 == 0 and (k + l) % 2 == 0
    if centring == 3:
        return (h + k) % 2 == 0
    if centring == 4:
        return (k + l) % 2 == 0
    if centring == 5:
        return (h + l) % 2 == 0
    if centring == 6:
        return (-h + k + l) % 3 == 0
    return True


@njit(nogil=True)
def determinant(form: NDArray) -> float:
    """det G*, 1/V² [1/Å⁶]; 0 where the form is of no lattice."""
    a, b, c, d, e, f = form[0], form[1], form[2], form[3], form[4], form[5]
    if a <= 0 or a * b - d * d / 4 <= 0:
        return 0.0
    return a * (b * c - f * f / 4) - d / 2 * (d * c / 2 - f * e / 4) + e / 2 * (d * f / 4 - b * e / 2)


@njit(nogil=True, fastmath=True)
def points(form: NDArray, top: float, half: int, q: NDArray, hkl: NDArray) -> int:
    """1/d² up to ``top`` and Miller indices of a primitive lattice, one of each pair ±hkl, unsorted.

    Args:
        form: A to F.
        top: largest 1/d² [1/Å²].
        half: see :attr:`Family.half`.
        q: out, shape (n,).
        hkl: out, shape (n, 3).

    Returns:
        How many; n where there are more than there is room for; 0 where the form is of no lattice.
    """
    a, b, c, d, e, f = form[0], form[1], form[2], form[3], form[4], form[5]
    det = determinant(form)
    if det <= 1e-12:
        return 0
    least_l = det / (a * b - d * d / 4)  # of 1/d² per l² over all real h and k, and so on
    least_k = b - d * d / (4 * a)
    cross = f - d * e / (2 * a)
    n, l = 0, 0  # noqa: E741
    while l * l * least_l <= top:
        middle = -l * cross / (2 * least_k)
        reach = math.sqrt(max(top - l * l * least_l, 0.0) / least_k)
        k = math.ceil(middle - reach)
        if k < 0 and (half or l == 0):
            k = 0
        while k <= middle + reach:
            along = k * d + l * e
            fixed = k * k * b + l * l * c + k * l * f
            inside = top - (fixed - along * along / (4 * a))
            if inside >= 0:
                wide = math.sqrt(inside / a)
                h = math.ceil(-along / (2 * a) - wide)
                if h < 0 and (half == 2 or (half == 1 and l == 0)):
                    h = 0
                if l == 0 and k == 0:
                    h = 1
                while h <= -along / (2 * a) + wide:
                    if n == len(q):
                        return n
                    q[n] = h * h * a + h * along + fixed
                    hkl[n, 0], hkl[n, 1], hkl[n, 2] = h, k, l
                    n += 1
                    h += 1
            k += 1
        l += 1  # noqa: E741
    return n


@njit(nogil=True)
def _kept(n: int, q: NDArray, hkl: NDArray, centring: int) -> int:
    """Those of n points that a centring leaves, moved to the front; how many."""
    kept = 0
    for i in range(n):
        if allowed(hkl[i, 0], hkl[i, 1], hkl[i, 2], centring):
            q[kept] = q[i]
            hkl[kept, 0], hkl[kept, 1], hkl[kept, 2] = hkl[i, 0], hkl[i, 1], hkl[i, 2]
            kept += 1
    return kept


@njit(nogil=True)
def score(q: NDArray, two_theta: NDArray, chance: NDArray, wavelength: float, zero_error: float, width: float) -> float:
    """Log of the likelihood ratio of lines' places under a lattice and by chance.

    A line of the pattern is one of the lattice's with probability 1 − ``chance``, and then stands from the nearest as
    two Gaussians tell; by chance it stands anywhere between them, as many as there are about it.

    Args:
        q: rising 1/d² of the lattice's lines, shape (m,).
        two_theta: rising angles of the pattern's [°], shape (n,).
        chance: by which a line is none of the lattice, shape (n,).
        wavelength: [Å].
        zero_error: [°].
        width: σ of lines' places [°].
    """
    at, m = np.empty(len(q)), 0
    for value in q:
        sine = wavelength * math.sqrt(value) / 2
        if sine >= 0.999:
            break
        angle = 2 * math.degrees(math.asin(sine)) + zero_error
        if m == 0 or angle - at[m - 1] >= MERGED:
            at[m] = angle
            m += 1
    if m == 0:
        return -np.inf
    total, near, first, last = 0.0, 0, 0, 0
    root = math.sqrt(2 * math.pi)
    for i in range(len(two_theta)):
        here = two_theta[i]
        while near < m - 1 and abs(at[near + 1] - here) <= abs(at[near] - here):
            near += 1
        while first < m - 1 and at[first] < here - NEAR:
            first += 1
        while last < m and at[last] < here + NEAR:
            last += 1
        density = max((max(last - first, 0) + 1) / (min(NEAR, max(here - 3, 0.5)) + NEAR), 0.03)
        off = (at[near] - here) / width
        narrow, wide = math.exp(-off * off / 2), math.exp(-off * off / 18) / 3
        own = (NARROW * narrow + (1 - NARROW) * wide) / (width * root)
        total += math.log(chance[i] + (1 - chance[i]) * own / density)
    return total


@njit(nogil=True)
def solved(normal: NDArray, right: NDArray) -> NDArray:
    """The solution of a few normal equations, by Cholesky's factors: numpy's takes seconds to compile.

    Args:
        normal: positive definite, shape (n, n).
        right: shape (n,).
    """
    n = len(right)
    lower, x = np.zeros((n, n)), right.copy()
    for i in range(n):
        for j in range(i + 1):
            rest = normal[i, j]
            for k in range(j):
                rest -= lower[i, k] * lower[j, k]
            lower[i, j] = math.sqrt(max(rest, 1e-300)) if i == j else rest / lower[j, j]
        for k in range(i):
            x[i] -= lower[i, k] * x[k]
        x[i] /= lower[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            x[i] -= lower[k, i] * x[k]
        x[i] /= lower[i, i]
    return x


@njit(nogil=True)
def refined(
    free: NDArray,
    basis: NDArray,
    half: int,
    centring: int,
    zero_error: float,
    two_theta: NDArray,
    chance: NDArray,
    wavelength: float,
    widths: NDArray,
    zero: NDArray,
) -> tuple[float, NDArray, float, int]:
    """A lattice fitted to lines by weighted least squares, lines bound to the nearest of the lattice's.

    Args:
        free: coefficients to start from, shape (free,).
        basis, half: of the family.
        centring: its place in :data:`CENTRINGS`.
        zero_error: to start from [°].
        two_theta, chance: of the lines, shape (n,).
        wavelength: [Å].
        widths: of each step, how far from the lattice's lines still count [°]; the last is that of the score.
        zero: mean and standard deviation of zero errors [°].

    Returns:
        Score (−∞ where the lattice is none, or has too many lines), coefficients A to F, zero error, lines.
    """
    x, count, n = free.copy(), len(free), len(two_theta)
    q, hkl = np.empty(MOST_POINTS), np.empty((MOST_POINTS, 3), np.int64)
    top = (2 * math.sin(math.radians(two_theta[n - 1] + 0.6) / 2) / wavelength) ** 2
    slope, monomial = np.empty(count + 1), np.empty(6)
    form = basis @ x
    for width in widths:
        found = points(form, top, half, q, hkl)
        if found < 1 or found == MOST_POINTS:
            return -np.inf, form, zero_error, found
        found = _kept(found, q, hkl, centring)
        if found < 1:
            return -np.inf, form, zero_error, found
        order = np.argsort(q[:found])
        normal, right = np.zeros((count + 1, count + 1)), np.zeros(count + 1)
        near = 0
        for i in range(n):
            sine = math.sin(math.radians(two_theta[i] - zero_error) / 2)
            here = (2 * sine / wavelength) ** 2
            while near < found - 1 and abs(q[order[near + 1]] - here) <= abs(q[order[near]] - here):
                near += 1
            h, k, l = hkl[order[near], 0], hkl[order[near], 1], hkl[order[near], 2]  # noqa: E741
            per_q = math.degrees(wavelength / (2 * math.sqrt(here) * math.sqrt(1 - sine * sine)))
            off = (here - q[order[near]]) * per_q
            if abs(off) > 3 * width:
                continue
            weight = (1 - chance[i]) * math.exp(-off * off / (2 * width * width))
            monomial[0], monomial[1], monomial[2] = h * h, k * k, l * l
            monomial[3], monomial[4], monomial[5] = h * k, h * l, k * l
            for a in range(count):
                slope[a] = 0.0
                for b in range(6):
                    slope[a] += basis[b, a] * monomial[b] * per_q
            slope[count] = 1.0
            for a in range(count + 1):
                right[a] += weight * slope[a] * off
                for b in range(count + 1):
                    normal[a, b] += weight * slope[a] * slope[b]
        prior = (widths[-1] / zero[1]) ** 2
        normal[count, count] += prior
        right[count] -= prior * (zero_error - zero[0])
        for a in range(count):
            normal[a, a] = 1.0001 * normal[a, a] + 1e-9
        step = solved(normal, right)
        x += step[:count]
        zero_error += step[count]
        form = basis @ x
        if abs(zero_error) > FARTHEST_ZERO or determinant(form) <= 1e-12:
            return -np.inf, form, zero_error, 0
    found = points(form, top, half, q, hkl)
    if found < 1 or found == MOST_POINTS:
        return -np.inf, form, zero_error, found
    found = _kept(found, q, hkl, centring)
    off = (zero_error - zero[0]) / zero[1]
    value = score(np.sort(q[:found]), two_theta, chance, wavelength, zero_error, widths[-1])
    return value - off * off / 2, form, zero_error, found
