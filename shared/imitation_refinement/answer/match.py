"""The search: every crystal's cosine with a pattern, the best over strains and zero errors.

On a log q axis an isotropic strain is a shift. A crystal's lines are few, so its cosine at all shifts is a sum of few
pieces of the pattern: some 100 million products for 15,000 crystals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.answer.library import MOST_Q, REFERENCE, Library, line_factors
from imitation_refinement.answer.pattern import FWHM, LEAST_Q, LOG_STEP, POINTS, POWER, Prepared
from imitation_refinement.xrd.jit import njit

SHIFTS = 24  # a multiple of eight: as many fit a vector register
STRIDE = 2  # points of the axis between shifts: strains of ±2.4 % in steps of 0.2 %
ZEROS = np.linspace(-0.12, 0.12, 7)  # zero errors [°] at REFERENCE
LINES = 64  # of a crystal
TOLERANCE = 0.08  # lines this close in 2θ [°] at REFERENCE are one
LEAST_SQUARE = 0.1  # added to a crystal's squares: one or two lines in the range prove little
# A line of FWHM f to the power p is √(1/p) as wide, and ∫ of a Gaussian's square is its FWHM × √(π / (8 ln 2)).
PEAK = math.sqrt(FWHM / math.sqrt(POWER) * math.sqrt(math.pi / (8 * math.log(2))))


@dataclass(frozen=True)
class SearchLines:
    """A library's lines as the search takes them, at one wavelength; crystal i owns ``offsets[i]:offsets[i + 1]``.

    Attributes:
        offsets: shape (n + 1,).
        place: nearest point of the log q axis, shape (m,).
        weight: intensity to the power POWER, the largest of a crystal 1, shape (m,).
        square: what the line adds to the square of the crystal's norm, overlap with its neighbours included, (m,).
    """

    offsets: NDArray[np.int64]
    place: NDArray[np.int32]
    weight: NDArray[np.float32]
    square: NDArray[np.float32]

    @classmethod
    def of(cls, library: Library, wavelength: float) -> SearchLines:
        """A library's lines at a wavelength [Å]."""
        q = library.q.astype(float)
        intensity = library.amplitude.astype(float) ** 2 * line_factors(q, wavelength)
        reach = SHIFTS * STRIDE * LOG_STEP
        inside = (q > LEAST_Q * math.exp(reach)) & (q < MOST_Q * math.exp(-reach))
        place = np.log(q / LEAST_Q) / LOG_STEP
        angle = np.degrees(2 * np.arcsin(np.minimum(q * (REFERENCE / (4 * np.pi)), 1)))
        return cls(*_merged(library.offsets, place, np.where(inside, intensity, 0), angle))


def cosines(
    lines: SearchLines, pattern: Prepared
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Each crystal's cosine with a pattern, and the strain and zero error where it is the largest.

    Of a crystal only the lines count that lie where the pattern was measured.

    Returns:
        Cosines; isotropic strains Δd/d; zero errors [°]; shape (n,) each.
    """
    zeros = ZEROS * pattern.scale
    rows, seen = pattern.on_log_q(zeros)
    half = SHIFTS // 2
    # The shifts of one line lie side by side: even and odd points apart, room for shifts at both ends.
    apart = np.zeros((len(zeros), STRIDE, POINTS // STRIDE + SHIFTS + 1), np.float32)
    for parity in range(STRIDE):
        part = rows[:, parity::STRIDE]
        apart[:, parity, half : half + part.shape[1]] = part
    best, shift, zero = _search(lines.offsets, lines.place, lines.weight, lines.square, apart, seen)
    return best * np.float32(PEAK), -(shift - half) * STRIDE * LOG_STEP, zeros[zero]


@njit(nogil=True, fastmath=True)
def _search(
    offsets: NDArray, place: NDArray, weight: NDArray, square: NDArray, rows: NDArray, seen: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    n = len(offsets) - 1
    best, at_shift, at_zero = np.full(n, -1e9, np.float32), np.zeros(n, np.int64), np.zeros(n, np.int64)
    norm = np.empty(n, np.float32)
    used = weight.copy()
    for i in range(n):
        total = np.float32(LEAST_SQUARE)
        for j in range(offsets[i], offsets[i + 1]):
            if seen[place[j]]:
                total += square[j]
            else:
                used[j] = 0
        norm[i] = 1 / math.sqrt(total)
    sums = np.empty(SHIFTS, np.float32)
    for z in range(len(rows)):
        row = rows[z]
        for i in range(n):
            for s in range(SHIFTS):
                sums[s] = 0
            for j in range(offsets[i], offsets[i + 1]):
                first, w = place[j] // STRIDE, used[j]
                part = row[place[j] % STRIDE, first : first + SHIFTS]
                for s in range(SHIFTS):
                    sums[s] += w * part[s]
            highest, where = sums[0], 0
            for s in range(1, SHIFTS):
                if sums[s] > highest:
                    highest, where = sums[s], s
            if highest * norm[i] > best[i]:
                best[i], at_shift[i], at_zero[i] = highest * norm[i], where, z
    return best, at_shift, at_zero


@njit(nogil=True)
def _merged(
    offsets: NDArray, place: NDArray, intensity: NDArray, angle: NDArray
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Lines within TOLERANCE merged, the LINES strongest kept; then weights and their part of the norm."""
    n = len(offsets) - 1
    out_offsets = np.zeros(n + 1, np.int64)
    out_place, out_weight = np.empty(len(place), np.int32), np.empty(len(place), np.float32)
    out_square, where = np.empty(len(place), np.float32), np.empty(len(place))
    count = 0
    for i in range(n):
        begin, j = count, offsets[i]
        while j < offsets[i + 1]:
            first, total, moment, angles = angle[j], 0.0, 0.0, 0.0
            while j < offsets[i + 1] and angle[j] - first < TOLERANCE:
                total += intensity[j]
                moment += intensity[j] * place[j]
                angles += intensity[j] * angle[j]
                j += 1
            if total > 0:
                out_place[count], out_weight[count] = int(moment / total + 0.5), total
                where[count] = angles / total
                count += 1
        if count - begin > LINES:
            least = np.sort(out_weight[begin:count])[-LINES]
            kept = begin
            for k in range(begin, count):
                if out_weight[k] >= least:
                    out_place[kept], out_weight[kept], where[kept] = out_place[k], out_weight[k], where[k]
                    kept += 1
            count = kept
        largest = 0.0
        for k in range(begin, count):
            largest = max(largest, out_weight[k])
        for k in range(begin, count):
            out_weight[k] = (out_weight[k] / largest) ** POWER
            total = out_weight[k] ** 2
            m = k - 1
            while m >= begin and where[k] - where[m] < 2 * FWHM:
                distance = (where[k] - where[m]) / FWHM
                total += 2 * out_weight[k] * out_weight[m] * math.exp(-2 * math.log(2) * distance * distance)
                m -= 1
            out_square[k] = total
        out_offsets[i + 1] = count
    return out_offsets, out_place[:count].copy(), out_weight[:count].copy(), out_square[:count].copy()
