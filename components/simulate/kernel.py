"""The batched kernel: flat arrays of many structures in, peak lists or reflections out.

For each structure the reciprocal lattice points of one Friedel half-space are enumerated, their structure factors
summed from tables of exp(2πi h x), exp(2πi k y) and exp(2πi l z), and points of equal d merged into lines. All in
float64: float32 misses pymatgen's peaks by 6e-5. Of the symmetry only what is found in microseconds and pays at once is
used: a centring lattice and a centre of inversion, both to ``SYMMETRY`` in fractional coordinates. The space group is
not: finding it costs far more than the diffraction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from components.simulate.config import Mode
from components.simulate.form_factors import MAX_Z, form_factors
from imitation_refinement.xrd.diffractometer import Reflections
from imitation_refinement.xrd.grid import convert_two_theta
from imitation_refinement.xrd.jit import njit
from imitation_refinement.xrd.radiation import components

BIN = 1e-5  # pymatgen merges reflections whose 2θ [°] round to the same multiple of this
MERGE = 1e-4  # physical mode: relative tolerance in d; 0.01° at 2θ = 90°, far below any instrument's width
MOST = 179.9  # 2θ [°], where a range ends that a longer wavelength could not reach
THRESHOLD = 1e-5  # lines weaker than this share of the strongest are left out, in both modes
EQUAL = 1e-12  # relative difference of g² below which reflections differ by rounding alone
SYMMETRY = 1e-9  # fractional coordinates this close are equal; moves no intensity by more than 1e-7 of the strongest
RIGHT = 1e-10  # cosines of right angles; moves no line below 2θ = 175° by more than 1e-6°
# 2 arcsin(√z) / √z [°] for z from 0 to 1/4, to 2e-15, by falling power of z (mpmath's chebyfit).
ARC = (
    3.653135517483026, -1.8549385169706334, 2.2360787489185525, 0.7482028960754257, 1.3945951548666609,
    1.5910857863106727, 1.9892842134529676, 2.5636136800664517, 3.4815161280278417, 5.115694560781243,
    8.594366927403756, 19.098593171025463, 114.59155902616465,
)  # fmt: skip
# Translations [1/6 of a, b, c] of P, F, A, B, C, I, R obverse and R reverse; with 0 each list is a group.
SIXTHS: tuple[list[list[int]], ...] = (
    [],
    [[0, 3, 3], [3, 0, 3], [3, 3, 0]],
    [[0, 3, 3]],
    [[3, 0, 3]],
    [[3, 3, 0]],
    [[3, 3, 3]],
    [[4, 2, 2], [2, 4, 4]],
    [[2, 4, 2], [4, 2, 4]],
)
ORDERS = np.array([1 + len(translations) for translations in SIXTHS])
CENTRINGS = np.array([translations + [[0, 0, 0]] * (3 - len(translations)) for translations in SIXTHS]) / 6
ALLOWED = (np.einsum("ctx,xhkl->cthkl", np.rint(6 * CENTRINGS).astype(int), np.indices((6, 6, 6))) % 6 == 0).all(axis=1)
# No "nnan", "ninf": what is broken must show. What is called and fast, too, is inlined: of a function of its own numba
# keeps a second copy, optimised once more, and runs the one or the other, with other last bits, as it was just compiled
# or comes from the cache (seen in 0.68).
FAST = {"contract", "reassoc", "nsz", "arcp"}


@dataclass(frozen=True)
class Structures:
    """Many crystal structures as flat arrays; structure i owns entries ``offsets[i]:offsets[i + 1]``.

    A mixed site stands once for each species. Entries of one element are best neighbours, which is faster.

    Attributes:
        lattice: rows a, b, c [Å], shape (n, 3, 3).
        offsets: shape (n + 1,).
        atomic_number: shape (m,).
        occupancy: 0 to 1, shape (m,).
        position: fractional coordinates, shape (m, 3).
        b_iso: isotropic Debye–Waller factors B = 8π²⟨u²⟩ [Å²], shape (m,); 0 where none are known.
    """

    lattice: NDArray[np.float64]
    offsets: NDArray[np.int64]
    atomic_number: NDArray[np.int64]
    occupancy: NDArray[np.float64]
    position: NDArray[np.float64]
    b_iso: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Structures:
        """The structures of rows under the ``STRUCTURES`` or ``PATTERNS`` contract, none of them null.

        A column ``b_iso`` (a list of one B an entry) is used where the table has it.
        """
        numbers = _chunk(table["atomic_number"])
        lengths = numbers.value_lengths().to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = {name: _values(table[name]) for name in ("lattice", "occupancy", "position")}
        b_iso = _values(table["b_iso"]) if "b_iso" in table.column_names else np.zeros(offsets[-1])
        return cls(
            flat["lattice"].reshape(-1, 3, 3),
            offsets,
            numbers.flatten().to_numpy(zero_copy_only=False).astype(np.int64),
            flat["occupancy"],
            flat["position"].reshape(-1, 3),
            b_iso,
        )

    @classmethod
    def from_pymatgen(cls, structures: Iterable[Any]) -> Structures:
        """The same of pymatgen's ``Structure`` objects, which this stage itself never needs."""
        lattices: list[NDArray[np.float64]] = []
        lengths: list[int] = []
        numbers: list[int] = []
        occupancies: list[float] = []
        positions: list[NDArray[np.float64]] = []
        for structure in structures:
            before = len(numbers)
            lattices.append(structure.lattice.matrix)
            for site in structure.sites:
                amounts = site._species._data  # the public properties take half as long again
                positions += [site._frac_coords] * len(amounts)
                for element, occupancy in amounts.items():
                    numbers.append(element.Z)
                    occupancies.append(occupancy)
            lengths.append(len(numbers) - before)
        return cls(
            np.array(lattices, float).reshape(-1, 3, 3),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.array(numbers, np.int64),
            np.array(occupancies, float),
            np.concatenate([np.empty(0), *positions]).reshape(-1, 3),
            np.zeros(len(numbers)),
        )

    def select(self, which: ArrayLike) -> Structures:
        """The structures of some row numbers, in that order, or of a mask."""
        rows = np.arange(len(self))[np.array(which, dtype=bool if np.asarray(which).dtype == bool else np.int64)]
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        entries = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        sites = (self.atomic_number, self.occupancy, self.position, self.b_iso)
        return Structures(self.lattice[rows], offsets, *(values[entries] for values in sites))


@dataclass(frozen=True)
class Peaks:
    """Peak lists of many structures; structure i owns entries ``offsets[i]:offsets[i + 1]``, by rising angle.

    Attributes:
        offsets: shape (n + 1,).
        two_theta: [°], shape (m,).
        intensity: integrated intensities with the Lorentz–polarisation factor, the largest of a structure 100; (m,).
    """

    offsets: NDArray[np.int64]
    two_theta: NDArray[np.float64]
    intensity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Angles and intensities of one structure."""
        part = slice(self.offsets[row], self.offsets[row + 1])
        return self.two_theta[part], self.intensity[part]


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _values(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return _chunk(column).flatten().to_numpy(zero_copy_only=False)


def peaks(
    structures: Structures,
    radiation: str | float,
    low: ArrayLike,
    high: ArrayLike,
    mode: Mode = "physical",
) -> Peaks:
    """Peak lists of many structures.

    Args:
        structures: n structures.
        radiation: a wavelength [Å], a line's name, or a doublet such as ``"CuKa1+CuKa2"``.
        low: first 2θ [°], one number or shape (n,).
        high: last 2θ [°], one number or shape (n,).
        mode: ``"physical"``: International Tables form factors with anomalous dispersion, averaged over ±g (Friedel's
            law does not hold with f″), Debye–Waller factors, lines within ``MERGE`` in d merged at their
            intensity-weighted mean. ``"hydride"``: the same with hydrogen as the free atom. ``"pymatgen"``: what
            pymatgen's XRDCalculator gives, Debye–Waller factors aside.

    Raises:
        ValueError: if an element has no form factor in this mode; check with :func:`unsupported` first.
        InputError: but in pymatgen mode, if the wavelength is not from 0.1 to 3 Å.
    """
    if unsupported(structures, mode).any():
        raise ValueError(f"no form factors for atomic numbers outside 1 to {MAX_Z[mode]}")
    low, high = (np.array(np.broadcast_to(x, len(structures)), float) for x in (low, high))
    lines = components(radiation)
    return (
        _single(structures, lines[0][0], low, high, mode)
        if len(lines) == 1
        else _several(structures, lines, low, high, mode)
    )


def reflections(structures: Structures, wavelength: float, high: float, mode: Mode = "physical") -> list[Reflections]:
    """The reflections of each structure for the virtual diffractometer, to 2θ = ``high`` [°] at ``wavelength`` [Å].

    Lines below ``THRESHOLD`` of the strongest, by |F|² with the Lorentz–polarisation factor, are left out.

    Raises:
        ValueError: if an element has no form factor in this mode; check with :func:`unsupported` first.
        InputError: but in pymatgen mode, if the wavelength is not from 0.1 to 3 Å.
    """
    if unsupported(structures, mode).any():
        raise ValueError(f"no form factors for atomic numbers outside 1 to {MAX_Z[mode]}")
    factors = form_factors(mode, wavelength)
    found = []
    for i in range(len(structures)):
        part = slice(structures.offsets[i], structures.offsets[i + 1])
        found.append(
            Reflections(
                *_reflections(
                    structures.lattice[i],
                    structures.atomic_number[part],
                    structures.occupancy[part],
                    structures.position[part],
                    structures.b_iso[part],
                    *factors,
                    wavelength,
                    high,
                )
            )
        )
    return found


def unsupported(structures: Structures, mode: Mode = "physical") -> NDArray[np.bool_]:
    """Which structures hold an element without form factors in a mode, shape (n,)."""
    bad = (structures.atomic_number < 1) | (structures.atomic_number > MAX_Z[mode])
    return (
        np.bincount(np.repeat(np.arange(len(structures)), np.diff(structures.offsets))[bad], minlength=len(structures))
        > 0
    )


def _single(structures: Structures, wavelength: float, low: NDArray, high: NDArray, mode: Mode) -> Peaks:
    factors = form_factors(mode, wavelength)
    offsets, two_theta, intensity = _peaks(
        structures.lattice,
        structures.offsets,
        structures.atomic_number,
        structures.occupancy,
        structures.position,
        structures.b_iso,
        *factors,
        wavelength,
        low,
        high,
        mode == "pymatgen",
    )
    return Peaks(offsets, two_theta, intensity)


def _several(
    structures: Structures, lines: tuple[tuple[float, float], ...], low: NDArray, high: NDArray, mode: Mode
) -> Peaks:
    """The lines of a radiation of several components (wavelength [Å], weight), by rising angle.

    A reflection has one intensity, that at the first wavelength, which its lines share by weight: so a doublet keeps
    its ratio wherever the range ends. In full, an integrated intensity goes with λ³ times the Lorentz–polarisation
    factor at its own angle; from Kα1 to Kα2 of copper the two leave 1.002 of each other at 2θ = 26°.
    """
    wavelengths = [wavelength for wavelength, _ in lines]
    to_first = partial(convert_two_theta, to_wavelength=wavelengths[0])
    least = np.min([to_first(low, wavelength) for wavelength in wavelengths], axis=0)
    most = np.max([np.nan_to_num(to_first(high, wavelength), nan=MOST) for wavelength in wavelengths], axis=0)
    found = _single(structures, wavelengths[0], least, most, mode)
    n, owners = len(found), np.repeat(np.arange(len(found)), np.diff(found.offsets))
    parts = []
    for wavelength, weight in lines:
        two_theta = convert_two_theta(found.two_theta, wavelengths[0], wavelength)
        inside = (two_theta >= low[owners]) & (two_theta <= high[owners])
        parts.append((owners[inside], two_theta[inside], weight * found.intensity[inside]))
    owner, two_theta, intensity = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((two_theta, owner))
    owner, two_theta, intensity = owner[order], two_theta[order], intensity[order]
    largest = np.zeros(n)
    np.maximum.at(largest, owner, intensity)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n))]).astype(np.int64)
    return Peaks(offsets, two_theta, 100 * intensity / largest[owner])


@njit(nogil=True)
def _reciprocal(lattice: NDArray) -> NDArray:
    """Rows a*, b*, c* [1/Å] with a·a* = 1: a* = b × c / V and so on."""
    out = np.empty((3, 3))
    for i in range(3):
        p, q = lattice[(i + 1) % 3], lattice[(i + 2) % 3]
        out[i, 0] = p[1] * q[2] - p[2] * q[1]
        out[i, 1] = p[2] * q[0] - p[0] * q[2]
        out[i, 2] = p[0] * q[1] - p[1] * q[0]
    volume = lattice[0, 0] * out[0, 0] + lattice[0, 1] * out[0, 1] + lattice[0, 2] * out[0, 2]
    for i in range(9):
        out[i // 3, i % 3] /= volume
    return out


@njit(nogil=True)
def _metric(rows: NDArray) -> NDArray:
    """Dot products of three vectors, shape (3, 3)."""
    out = np.empty((3, 3))
    for i in range(9):
        p, q = rows[i // 3], rows[i % 3]
        out[i // 3, i % 3] = p[0] * q[0] + p[1] * q[1] + p[2] * q[2]
    return out


@njit(nogil=True)
def _bounds(lattice: NDArray, g_max: float) -> tuple[int, int, int]:
    """Largest |h|, |k|, |l| within a sphere of radius ``g_max``: h = g·a, so |h| ≤ g |a|."""
    metric = _metric(lattice)
    return (
        int(g_max * math.sqrt(metric[0, 0]) + 1e-9),
        int(g_max * math.sqrt(metric[1, 1]) + 1e-9),
        int(g_max * math.sqrt(metric[2, 2]) + 1e-9),
    )


@njit(nogil=True)
def _l_range(h: int, k: int, metric: NDArray, g2_max: float) -> tuple[int, int]:
    """First and last l of the half-space with |g|² ≤ ``g2_max`` at (h, k); empty where the last is smaller."""
    linear = h * metric[0, 2] + k * metric[1, 2]
    constant = h * h * metric[0, 0] + 2 * h * k * metric[0, 1] + k * k * metric[1, 1]
    root = linear * linear - metric[2, 2] * (constant - g2_max)
    if root < 0:
        return 0, -1
    width = math.sqrt(root)
    first = math.ceil((-linear - width) / metric[2, 2] - 1e-9)
    last = math.floor((-linear + width) / metric[2, 2] + 1e-9)
    if h == 0 and k == 0:
        first = 1
    return first, last


@njit(nogil=True)
def _count(lattice: NDArray, g_max: float) -> int:
    """Number of reciprocal lattice points in the half-sphere."""
    metric = _metric(_reciprocal(lattice))
    h_max, k_max, _ = _bounds(lattice, g_max)
    total = 0
    for h in range(h_max + 1):
        for k in range(0 if h == 0 else -k_max, k_max + 1):
            first, last = _l_range(h, k, metric, g_max * g_max)
            total += max(0, last - first + 1)
    return total


@njit(nogil=True)
def _phases(position: NDArray, axis: int, n: int) -> tuple[NDArray, NDArray]:
    """cos and sin of 2π j x for j = 0 … n along one axis, each of shape (n + 1, atoms), by repeated rotation."""
    cosine, sine = np.empty((n + 1, len(position))), np.empty((n + 1, len(position)))
    for i in range(len(position)):
        angle = 2 * math.pi * position[i, axis]
        c, s = math.cos(angle), math.sin(angle)
        re, im = 1.0, 0.0
        for j in range(n + 1):
            cosine[j, i], sine[j, i] = re, im
            re, im = re * c - im * s, re * s + im * c
    return cosine, sine


@njit(nogil=True)
def _kinds(atomic_number: NDArray, b_iso: NDArray) -> tuple[NDArray, int]:
    """Where runs of entries of equal element and B begin, with the end behind the last, and the number of runs."""
    starts, n = np.empty(len(atomic_number) + 1, np.uint64), 0
    for i in range(len(atomic_number)):
        if i == 0 or atomic_number[i] != atomic_number[i - 1] or b_iso[i] != b_iso[i - 1]:
            starts[n] = i
            n += 1
    starts[n] = len(atomic_number)
    return starts, n


@njit(nogil=True)
def _image(kind: NDArray, last: NDArray, position: NDArray, i: int, x: float, y: float, z: float) -> int:
    """The entry of entry i's kind, whose last is ``last``, at (x, y, z) modulo the lattice, or −1."""
    own, j = kind[i], i  # images mostly follow each other
    for _ in range(last[own] + 1 - own):
        if kind[j] == own:
            dx, dy, dz = position[j, 0] - x, position[j, 1] - y, position[j, 2] - z
            if max(abs(dx - np.rint(dx)), abs(dy - np.rint(dy)), abs(dz - np.rint(dz))) < SYMMETRY:
                return j
        j = j + 1 if j < last[own] else own
    return -1


@njit(nogil=True)
def _maps(
    kind: NDArray,
    last: NDArray,
    position: NDArray,
    signs: tuple[float, float, float],
    x: float,
    y: float,
    z: float,
    own_inverse: bool,
    images: NDArray,
) -> bool:
    """Whether signs · r + (x, y, z) maps the structure onto itself; if so, ``images`` becomes each entry's image."""
    images[:] = -1
    a, b, c = signs
    for i in range(len(kind)):
        if images[i] < 0:
            j = _image(kind, last, position, i, a * position[i, 0] + x, b * position[i, 1] + y, c * position[i, 2] + z)
            if j < 0:
                return False
            images[i] = j
            if own_inverse:
                images[j] = i
    return True


@njit(nogil=True)
def _centring(kind: NDArray, count: NDArray, last: NDArray, position: NDArray, images: NDArray) -> int:
    """The row of ``CENTRINGS`` that holds for the structure, the images by each of its translations in ``images``."""
    common = 0  # divisor of the kinds' numbers of entries, as the order of the centring is
    for number in count:
        common = math.gcd(common, number)
    for centring in range(1, len(CENTRINGS)):
        t, found = 0, common % ORDERS[centring] == 0
        while found and t + 1 < ORDERS[centring]:
            x, y, z = CENTRINGS[centring, t]
            found = _maps(kind, last, position, (1.0, 1.0, 1.0), x, y, z, ORDERS[centring] != 3, images[t])
            t += 1
        if found:
            return centring
    return 0


@njit(nogil=True)
def _inversion(
    kind: NDArray, count: NDArray, last: NDArray, position: NDArray, images: NDArray
) -> tuple[bool, float, float, float]:
    """Whether there is a centre of inversion, and twice its position; the images by it in ``images``.

    That is the sum of an entry's position and its image's, so it is sought among the sums of the rarest kind.
    """
    signs = (-1.0, -1.0, -1.0)
    if _maps(kind, last, position, signs, 0.0, 0.0, 0.0, True, images):
        return True, 0.0, 0.0, 0.0
    return _mapped(kind, count, last, position, signs, True, images)


@njit(nogil=True)
def _mapped(
    kind: NDArray,
    count: NDArray,
    last: NDArray,
    position: NDArray,
    signs: tuple[float, float, float],
    own_inverse: bool,
    images: NDArray,
) -> tuple[bool, float, float, float]:
    """Whether signs · r and a translation map the structure onto itself, and the translation, by the rarest kind."""
    rarest = 0
    for i in range(len(kind)):
        if count[kind[i]] < count[kind[rarest]]:
            rarest = i
    for j in range(len(kind)):
        if kind[j] == kind[rarest]:
            x, y, z = (
                position[j, 0] - signs[0] * position[rarest, 0],
                position[j, 1] - signs[1] * position[rarest, 1],
                position[j, 2] - signs[2] * position[rarest, 2],
            )
            if _maps(kind, last, position, signs, x, y, z, own_inverse, images):
                return True, x, y, z
    return False, 0.0, 0.0, 0.0


@njit(nogil=True)
def _mirrored(
    axis: int, kind: NDArray, count: NDArray, last: NDArray, position: NDArray, metric: NDArray, images: NDArray
) -> bool:
    """Whether |F|² is the same at indices that differ in the sign of one alone.

    The axis has to stand at right angles to the others; then a mirror or glide plane across it does it, and so does a
    twofold or screw axis along it, as ±g are averaged.
    """
    p, q = (axis + 1) % 3, (axis + 2) % 3
    leaning = max(metric[axis, p] ** 2 / metric[p, p], metric[axis, q] ** 2 / metric[q, q])
    if leaning > RIGHT * RIGHT * metric[axis, axis]:
        return False
    for sign in (1.0, -1.0):
        x, y, z = (-sign if axis == 0 else sign), (-sign if axis == 1 else sign), (-sign if axis == 2 else sign)
        if _mapped(kind, count, last, position, (x, y, z), False, images)[0]:
            return True
    return False


@njit(nogil=True)
def _reduced(
    lattice: NDArray,
    atomic_number: NDArray,
    occupancy: NDArray,
    position: NDArray,
    b_iso: NDArray,
    mirrors: bool,
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray, int, bool, int]:
    """One entry for each set that a centring and a centre of inversion make equal, its occupancy times their number.

    If ``mirrors``, the axes are swapped so that what mirrors |F|² in one axis alone does it in the second.

    Returns:
        lattice; atomic_number, occupancy, position (from the centre of inversion, if there is one) and b_iso of those
        entries; the row of ``ALLOWED`` that says which reflections the centring leaves; whether there is a centre of
        inversion, and thus every structure factor real; in how many axes |F|² is mirrored.
    """
    n = len(atomic_number)
    # A kind goes by its first entry.
    kind, count, last = np.empty(n, np.int64), np.zeros(n, np.int64), np.empty(n, np.int64)
    for i in range(n):
        j = kind[i - 1] if i else 0
        if atomic_number[j] != atomic_number[i] or occupancy[j] != occupancy[i] or b_iso[j] != b_iso[i]:
            j = 0
            while atomic_number[j] != atomic_number[i] or occupancy[j] != occupancy[i] or b_iso[j] != b_iso[i]:
                j += 1
        kind[i] = j
        count[j] += 1
        last[j] = i
    images = np.empty((4, n), np.int64)
    mirrored = 0
    if mirrors:
        metric = _metric(lattice)
        if _mirrored(1, kind, count, last, position, metric, images[3]):  # two planes make a third
            mirrored = 3 if _mirrored(2, kind, count, last, position, metric, images[3]) else 1
        else:
            for axis in (2, 0):
                if mirrored == 0 and _mirrored(axis, kind, count, last, position, metric, images[3]):
                    mirrored, order = 1, np.array([1, 0, 2] if axis == 0 else [0, 2, 1])
                    lattice, position = lattice[order], position[:, order]
    centring = _centring(kind, count, last, position, images)
    inverse, x0, y0, z0 = _inversion(kind, count, last, position, images[3])
    z, o, r, b = np.empty(n, np.int64), np.empty(n), np.empty((n, 3)), np.empty(n)
    done = np.zeros(n, np.bool_)
    kept = 0
    for i in range(n):
        if done[i]:
            continue
        number = 0
        for t in range(ORDERS[centring]):
            j = images[t - 1, i] if t else i
            number += not done[j]
            done[j] = True
            if inverse:
                j = images[3, j]
                number += not done[j]
                done[j] = True
        z[kept], o[kept], b[kept] = atomic_number[i], number * occupancy[i], b_iso[i]
        r[kept, 0], r[kept, 1], r[kept, 2] = position[i, 0] - x0 / 2, position[i, 1] - y0 / 2, position[i, 2] - z0 / 2
        kept += 1
    return lattice, z[:kept], o[:kept], r[:kept], b[:kept], centring, inverse, mirrored


@njit(nogil=True, inline="always")
def _scatter(
    lattice: NDArray,
    atomic_number: NDArray,
    occupancy: NDArray,
    position: NDArray,
    b_iso: NDArray,
    table: NDArray,
    imaginary: NDArray,
    inverse_step: float,
    g_max: float,
    hkl: NDArray,
    g2: NDArray,
    absent: bool,
    mirrors: bool,
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """The half-sphere: the values of |g|², rising; of each reflection which it has, and |F|²; their order by |g|².

    What a centring extinguishes is among them, behind the others, if ``absent``. ``hkl`` and ``g2`` are work space. If
    ``mirrors``, reflections that mirrors make equal are one, with |F|² times their number, and ``hkl`` tells nothing.

    With f = f0 + f′ + i f″, A = Σ (f0 + f′) o exp(2πi g·r) and B = Σ f″ o exp(2πi g·r), the mean of |F|² at g and −g is
    |A|² + |B|²: the cross terms change sign. Both halves together give twice that, a factor that scaling takes out.

    First the sums of o exp(2πi g·r) over the atoms of a kind: l and −l share the four sums of products of the (h, k)
    phase with cos and sin of 2π l z; about a centre of inversion two of them vanish. Then form factors, once for all
    reflections of equal |g|².
    """
    lattice, atomic_number, occupancy, position, b_iso, centring, inverse, mirrored = _reduced(
        lattice, atomic_number, occupancy, position, b_iso, mirrors
    )
    metric = _metric(_reciprocal(lattice))
    h_max, k_max, l_max = _bounds(lattice, g_max)
    h_cos, h_sin = _phases(position, 0, h_max)
    k_cos, k_sin = _phases(position, 1, k_max)
    l_cos, l_sin = _phases(position, 2, l_max)
    starts, n_kinds = _kinds(atomic_number, b_iso)
    n_atoms = len(occupancy)
    re, im = np.empty(n_atoms), np.empty(n_atoms)
    parts = 1 if inverse else 2  # of a sum: real, imaginary
    k_min = 0 if mirrored else -k_max
    most = (h_max + 1) * (k_max - k_min + 1) * (2 * l_max + 1)
    sums, number = np.empty((n_kinds, parts, most + 1)), np.empty(most if mirrored else 0)
    total = extinct = 0
    for h in range(h_max + 1):
        for k in range(0 if h == 0 else k_min, k_max + 1):
            first, last = _l_range(h, k, metric, g_max * g_max)
            allowed = ALLOWED[centring, h % 6, k % 6]
            if last < first or not (absent or centring == 0 or allowed.any()):
                continue
            sign = 1.0 if k >= 0 else -1.0
            for j in range(n_atoms):
                hc, hs, kc, ks = h_cos[h, j], h_sin[h, j], k_cos[abs(k), j], sign * k_sin[abs(k), j]
                re[j], im[j] = (hc * kc - hs * ks) * occupancy[j], (hc * ks + hs * kc) * occupancy[j]
            constant = h * h * metric[0, 0] + 2 * h * k * metric[0, 1] + k * k * metric[1, 1]
            linear = 2 * (h * metric[0, 2] + k * metric[1, 2])
            alike = 2.0 if h > 0 and k > 0 else 1.0
            before = total
            for ell in range(max(0, first, -last), max(last, -first) + 1):
                allowed_up = allowed_down = True
                if centring > 0:
                    allowed_up, allowed_down = allowed[ell % 6], allowed[-ell % 6]
                up, down = np.uint64(total), np.uint64(total)  # where only one is wanted, it overwrites the other
                if first <= ell <= last:
                    square = constant + ell * ell * metric[2, 2] + ell * linear
                    if allowed_up:
                        hkl[total, 0], hkl[total, 1], hkl[total, 2] = h, k, ell
                        g2[total] = square
                        total += 1
                        down += np.uint64(1)
                    elif absent:
                        extinct += 1
                        g2[-extinct] = square
                if mirrored < 3 and ell > 0 and first <= -ell <= last:
                    square = constant + ell * ell * metric[2, 2] - ell * linear
                    if allowed_down:
                        hkl[total, 0], hkl[total, 1], hkl[total, 2] = h, k, -ell
                        g2[total] = square
                        total += 1
                    elif absent:
                        extinct += 1
                        g2[-extinct] = square
                if np.uint64(total) == up:
                    continue
                row = np.uint64(ell)
                for kind in range(n_kinds):
                    re_cos = re_sin = im_cos = im_sin = 0.0
                    if inverse:
                        for j in range(starts[kind], starts[kind + 1]):
                            re_cos += re[j] * l_cos[row, j]
                            im_sin += im[j] * l_sin[row, j]
                    else:
                        for j in range(starts[kind], starts[kind + 1]):
                            re_cos += re[j] * l_cos[row, j]
                            re_sin += re[j] * l_sin[row, j]
                            im_cos += im[j] * l_cos[row, j]
                            im_sin += im[j] * l_sin[row, j]
                    sums[kind, 0, up] = re_cos - im_sin
                    sums[kind, 0, down] = re_cos + im_sin
                    if not inverse:
                        sums[kind, 1, up] = im_cos + re_sin
                        sums[kind, 1, down] = im_cos - re_sin
            if mirrored:
                for i in range(before, total):
                    number[i] = 2 * alike if mirrored == 3 and hkl[i, 2] > 0 and h + k > 0 else alike
    for i in range(extinct):
        g2[total + i] = g2[i - extinct]
    n = total + extinct
    keys, order = _sorted(g2, n, g_max * g_max * (1 + 1e-9))
    level, levels, n_levels = np.empty(n, np.uint32), np.empty(n), 0
    for i in range(n):
        n_levels += i == 0 or keys[i] > keys[i - 1] * (1 + EQUAL)
        level[order[i]], levels[n_levels - 1] = n_levels - 1, keys[i]
    levels = levels[:n_levels]
    steps, factors, damping = np.empty(n_levels), np.empty(n_levels), np.empty(n_levels)
    for i in range(n_levels):
        steps[i] = math.sqrt(levels[i]) / 2 * inverse_step
    amplitudes, f2 = np.zeros((2, parts, total)), np.zeros(n)  # of f0 + f′, of f″
    for kind in range(n_kinds):
        z, b = np.uint64(atomic_number[starts[kind]]), b_iso[starts[kind]] / 4
        for i in range(n_levels):
            factors[i] = _interpolate(table, z, steps[i])
        for i in range(n_levels if b != 0.0 else 0):
            damping[i] = math.exp(-b * levels[i])
            factors[i] *= damping[i]
        if inverse:
            for i in range(total):
                amplitudes[0, 0, i] += factors[level[i]] * sums[kind, 0, i]
        else:  # one look at a factor for both parts
            for i in range(total):
                factor = factors[level[i]]
                amplitudes[0, 0, i] += factor * sums[kind, 0, i]
                amplitudes[0, 1, i] += factor * sums[kind, 1, i]
        for part in range(parts if imaginary[z] != 0.0 else 0):
            if b == 0.0:
                for i in range(total):
                    amplitudes[1, part, i] += imaginary[z] * sums[kind, part, i]
            else:
                for i in range(total):
                    amplitudes[1, part, i] += imaginary[z] * damping[level[i]] * sums[kind, part, i]
    for which in range(2):
        for part in range(parts):
            for i in range(total):
                f2[i] += amplitudes[which, part, i] ** 2
    if mirrored:
        for i in range(total):
            f2[i] *= number[i]
    return levels, level, f2, order


@njit(nogil=True, inline="always")
def _interpolate(table: NDArray, z: int, x: float) -> float:
    """The form factor of element ``z`` at ``x`` steps of s."""
    i = np.uint64(x)  # unsigned, here and in _kinds: Numba then need not look for negative indices
    t = x - i - 0.5
    t2 = t * t
    low, middle = table[z, i, 0] + t * table[z, i, 1], table[z, i, 2] + t * table[z, i, 3]
    return low + t2 * (middle + t2 * (table[z, i, 4] + t * table[z, i, 5]))


@njit(nogil=True, error_model="numpy")
def _sorted(keys: NDArray, n: int, top: float) -> tuple[NDArray, NDArray]:
    """``keys[:n]`` (0 to ``top``) sorted, and their indices: buckets, then insertion; linear for evenly spread keys.

    Keys that differ by rounding alone (``EQUAL``) stay in the order in which they came.
    """
    scale = n / top
    ends = np.zeros(n + 2, np.int32)
    bucket = np.empty(n, np.uint32)
    for i in range(n):
        bucket[i] = np.uint32(min(keys[i] * scale, float(n)))
        ends[bucket[i] + np.uint32(1)] += 1
    for i in range(n + 1):
        ends[i + 1] += ends[i]
    order, out = np.empty(n, np.uint32), np.empty(n)
    for i in range(n):
        place = np.uint32(ends[bucket[i]])
        ends[bucket[i]] += 1
        order[place], out[place] = i, keys[i]
    for i in range(1, n):
        key = out[i]
        least = key * (1 + EQUAL)
        if out[i - 1] <= least:
            continue
        item, j = order[i], i - 1
        while j >= 0 and out[j] > least:
            out[j + 1], order[j + 1] = out[j], order[j]
            j -= 1
        out[j + 1], order[j + 1] = key, item
    return out, order


@njit(nogil=True, inline="always")
def _two_theta(sine2: float) -> float:
    """2θ [°] of sin²θ by a polynomial up to θ = 30°, beyond by θ = 90° − 2φ with sin²φ = (1 − sin θ) / 2.

    In a loop of its own it is vectorised, as a library's arc sine is not.
    """
    sine = math.sqrt(sine2)
    small = sine2 < 0.25
    z = sine2 if small else (1 - sine) / 2
    p = ARC[0]
    for i in range(1, len(ARC)):
        p = p * z + ARC[i]
    arc = math.sqrt(z) * p
    return arc if small else 180.0 - 2 * arc


@njit(nogil=True, error_model="numpy", fastmath=False)  # else its caller's: the largest would be 100 ± 1e-14
def _lines(
    levels: NDArray, level: NDArray, f2: NDArray, wavelength: float, low: float, binned: bool, x: NDArray, y: NDArray
) -> int:
    """Merges reflections of rising |g|² to lines from ``low`` [°] into ``x``, ``y`` and returns how many there are."""
    strengths = np.zeros(len(levels))
    for i in range(len(f2)):
        strengths[level[i]] += f2[i]
    for i in range(len(levels)):  # in a loop of its own it is vectorised
        sine2 = min(levels[i] * wavelength * wavelength / 4, 1.0)
        strengths[i] *= (1 + (1 - 2 * sine2) ** 2) / (sine2 * math.sqrt(1 - sine2))
        levels[i] = sine2
    placed, place, slope = 0, 0.0, 0.0  # the line whose place among bins is known, that, and bins per sin²θ
    lines, start, least = 0, -1.0, math.sin(math.radians(low / 2)) ** 2
    for i in range(len(levels)):
        sine2, strength = levels[i], strengths[i]
        if sine2 < least:
            continue
        if binned:
            # x is sin²θ of a line's first reflection; 2θ [rad] differs by more than sin²θ does.
            apart = sine2 - start > math.radians(BIN)
            if not apart:
                if placed < lines:
                    placed, place = lines, _two_theta(start) / BIN
                    slope = math.degrees(1 / BIN) / math.sqrt(start * (1 - start))
                beyond = place - np.rint(place) - 0.5 + slope * (sine2 - start)
                # of second order, or no number at 180°: then the angles themselves tell
                apart = beyond > 0 if abs(beyond) > 1e-3 else np.rint(_two_theta(sine2) / BIN) != np.rint(place)
            if apart:
                x[lines], y[lines] = sine2, 0.0
                start = sine2
                lines += 1
            y[lines - 1] += strength
        else:
            if start < 0 or sine2 > start * (1 + MERGE) ** 2:
                x[lines], y[lines] = 0.0, 0.0
                lines += 1
                start = sine2
            x[lines - 1] += strength * sine2
            y[lines - 1] += strength
    largest = 0.0
    for i in range(lines):
        largest = max(largest, y[i])
    kept = 0
    for i in range(lines):
        if y[i] > THRESHOLD * largest:
            x[kept] = x[i] if binned else min(1.0, x[i] / y[i])
            y[kept] = 100 * (y[i] / largest)
            kept += 1
    for i in range(kept):
        x[i] = _two_theta(x[i])
    return kept


@njit(nogil=True, fastmath=FAST)
def _peaks(
    lattice: NDArray,
    offsets: NDArray,
    atomic_number: NDArray,
    occupancy: NDArray,
    position: NDArray,
    b_iso: NDArray,
    table: NDArray,
    imaginary: NDArray,
    inverse_step: float,
    wavelength: float,
    low: NDArray,
    high: NDArray,
    binned: bool,
) -> tuple[NDArray, NDArray, NDArray]:
    """Peak lists of all structures as (offsets, two_theta, intensity)."""
    n, size = len(offsets) - 1, 0
    hkl, g2 = np.empty((size, 3), np.int32), np.empty(size)
    out = np.zeros(n + 1, np.int64)
    x, y = np.empty(64 * n), np.empty(64 * n)
    for i in range(n):
        part = slice(offsets[i], offsets[i + 1])
        h_max, k_max, l_max = _bounds(lattice[i], 2 * math.sin(math.radians(high[i] / 2)) / wavelength)
        most = (h_max + 1) * (2 * k_max + 1) * (2 * l_max + 1)
        if most > size:
            size = 2 * most
            hkl, g2 = np.empty((size, 3), np.int32), np.empty(size)
        if out[i] + most > len(x):
            more = np.empty(len(x) + most)
            x, y = np.concatenate((x, more)), np.concatenate((y, more))
        levels, level, f2, _ = _scatter(
            lattice[i],
            atomic_number[part],
            occupancy[part],
            position[part],
            b_iso[part],
            table,
            imaginary,
            inverse_step,
            2 * math.sin(math.radians(high[i] / 2)) / wavelength,
            hkl,
            g2,
            binned,  # pymatgen's bins have the angle of their first reflection, even where it is extinct
            True,
        )
        at = out[i]
        out[i + 1] = at + _lines(levels, level, f2, wavelength, low[i], binned, x[at:], y[at:])
    return out, x[: out[n]].copy(), y[: out[n]].copy()


@njit(nogil=True, fastmath=FAST)
def _reflections(
    lattice: NDArray,
    atomic_number: NDArray,
    occupancy: NDArray,
    position: NDArray,
    b_iso: NDArray,
    table: NDArray,
    imaginary: NDArray,
    inverse_step: float,
    wavelength: float,
    high: float,
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
    """One structure's (reciprocal, d, starts, hkl, f2), lines by falling d."""
    g_max = 2 * math.sin(math.radians(high / 2)) / wavelength
    most = _count(lattice, g_max)
    hkl, g2 = np.empty((most, 3), np.int32), np.empty(most)
    levels, level, f2, order = _scatter(
        lattice, atomic_number, occupancy, position, b_iso, table, imaginary, inverse_step, g_max, hkl, g2, False, False
    )
    n = len(f2)
    ends, strength = np.empty(n, np.int64), np.zeros(n)
    lines, i, least = 0, 0, 0.0
    while i < n:
        first, total = levels[level[order[i]]], 0.0
        while i < n and levels[level[order[i]]] <= first * (1 + MERGE) ** 2:
            total += f2[order[i]]
            i += 1
        sine2 = min(first * wavelength * wavelength / 4, 1 - 1e-9)
        strength[lines] = total * (1 + (1 - 2 * sine2) ** 2) / (sine2 * math.sqrt(1 - sine2))
        least = max(least, THRESHOLD * strength[lines])
        ends[lines] = i
        lines += 1
    d, starts = np.empty(lines), np.zeros(lines + 1, np.int64)
    out_hkl, out_f2 = np.empty((n, 3), np.int16), np.empty(n)
    kept = count = 0
    for line in range(lines):
        if strength[line] <= least:
            continue
        moment = total = 0.0
        for i in range(ends[line - 1] if line else 0, ends[line]):
            j = order[i]
            moment += f2[j] * levels[level[j]]
            total += f2[j]
            for axis in range(3):
                out_hkl[count, axis] = hkl[j, axis]
            out_f2[count] = f2[j]
            count += 1
        d[kept] = math.sqrt(total / moment)
        kept += 1
        starts[kept] = count
    return _reciprocal(lattice), d[:kept], starts[: kept + 1], out_hkl[:count].copy(), out_f2[:count].copy()
