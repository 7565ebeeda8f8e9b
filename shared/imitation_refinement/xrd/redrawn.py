"""Lines of a structure in another cell of its symmetry, with texture: what the stream paints. Compiled."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.xrd.effects import march_dollase
from imitation_refinement.xrd.jit import njit


@njit(nogil=True)
def strained_metric(lattice: NDArray, operations: NDArray, strain: NDArray) -> NDArray[np.float64]:
    """The reciprocal metric tensor of a strained cell that keeps its symmetry, shape (3, 3) [1/Å²].

    The metric tensor G = A (1 + ε) (1 + ε)ᵀ Aᵀ is averaged over the point group, Σ W G Wᵀ / k, and inverted: whatever
    the strain, a cubic cell stays cubic, and only what is free in a crystal system changes.

    Args:
        lattice: rows a, b, c [Å], shape (3, 3).
        operations: rotations W of the Laue group, shape (k, 3, 3).
        strain: tensor components 11, 22, 33, 23, 13, 12 of ε, shape (6,).
    """
    e = strain
    deformation = np.array([[1 + e[0], e[5], e[4]], [e[5], 1 + e[1], e[3]], [e[4], e[3], 1 + e[2]]])
    rows = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                rows[i, j] += lattice[i, k] * deformation[k, j]
    metric, mean = np.zeros((3, 3)), np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                metric[i, j] += rows[i, k] * rows[j, k]
    for w in operations:
        for i in range(3):
            for j in range(3):
                for k in range(3):
                    for m in range(3):
                        mean[i, j] += w[i, k] * w[j, m] * metric[k, m]
    mean /= len(operations)
    out = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            a, b, c, d = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
            out[j, i] = mean[a, c] * mean[b, d] - mean[a, d] * mean[b, c]
    return out / (mean[0, 0] * out[0, 0] + mean[0, 1] * out[1, 0] + mean[0, 2] * out[2, 0])


@njit(nogil=True, fastmath={"contract", "reassoc"})
def spacings(hkl: NDArray, reciprocal: NDArray) -> NDArray[np.float64]:
    """d [Å] of indices (n, 3) by a reciprocal metric tensor [1/Å²], shape (n,): 1/d² = h G* h."""
    out = np.empty(len(hkl))
    g = reciprocal
    for i in range(len(hkl)):
        h, k, ell = float(hkl[i, 0]), float(hkl[i, 1]), float(hkl[i, 2])
        square = h * h * g[0, 0] + k * k * g[1, 1] + ell * ell * g[2, 2]
        out[i] = 1 / math.sqrt(square + 2 * (h * k * g[0, 1] + h * ell * g[0, 2] + k * ell * g[1, 2]))
    return out


@njit(nogil=True, fastmath={"contract", "reassoc"})
def textures(
    hkl: NDArray, d: NDArray, reciprocal: NDArray, operations: NDArray, plane: int, march_r: float
) -> NDArray[np.float64]:
    """March–Dollase factors of lines, the mean over each line's equivalent reflections, shape (n,).

    Args:
        hkl: one reflection of each line, shape (n, 3).
        d: their spacings [Å], shape (n,).
        reciprocal: the reciprocal metric tensor [1/Å²].
        operations: rotations of the Laue group, shape (k, 3, 3).
        plane: which line's plane is preferred.
        march_r: March–Dollase r.
    """
    n, k = len(hkl), len(operations)
    axes = np.zeros((k, 3))  # the preferred plane's equivalents, times G* and the spacing
    for o in range(k):
        for i in range(3):
            index = 0.0
            for j in range(3):
                index += operations[o, i, j] * hkl[plane, j]
            for j in range(3):
                axes[o, j] += index * reciprocal[i, j] * d[plane]
    out = np.empty(n)
    for line in range(n):
        h, k_, ell = float(hkl[line, 0]), float(hkl[line, 1]), float(hkl[line, 2])
        total = 0.0
        for o in range(k):
            cosine = (h * axes[o, 0] + k_ * axes[o, 1] + ell * axes[o, 2]) * d[line]
            total += march_dollase(min(1.0, abs(cosine)), march_r)
        out[line] = total / k
    return out
