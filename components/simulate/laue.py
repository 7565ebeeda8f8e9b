"""The Laue group of a crystal, found from its lattice and its |F|², and the lines that it makes of the reflections."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.xrd.crystal import CrystalSystem

# Proper rotations of two-, three-, four- and sixfold axes in the one or two Laue groups of each crystal system.
AXES: dict[CrystalSystem, tuple[tuple[int, int, int, int], ...]] = {
    CrystalSystem.TRICLINIC: ((0, 0, 0, 0),),
    CrystalSystem.MONOCLINIC: ((1, 0, 0, 0),),
    CrystalSystem.ORTHORHOMBIC: ((3, 0, 0, 0),),
    CrystalSystem.TETRAGONAL: ((1, 0, 2, 0), (5, 0, 2, 0)),
    CrystalSystem.TRIGONAL: ((0, 2, 0, 0), (3, 2, 0, 0)),
    CrystalSystem.HEXAGONAL: ((1, 2, 0, 2), (7, 2, 0, 2)),
    CrystalSystem.CUBIC: ((3, 8, 0, 0), (9, 8, 6, 0)),
}
TRACES = (-1, 0, 1, 2)  # 1 + 2 cos 2π/n of these rotations
# How well lattice (relative) and |F|² (share of their sum) must agree, from strict to lax: refined positions are off
# their symmetry by up to 0.01 Å, and cells by rounding.
TOLERANCES = ((1e-4, 1e-3), (1e-3, 0.01), (1e-3, 0.05), (5e-3, 0.05), (5e-3, 0.2))
LARGEST = 2  # entry of a rotation's matrix: enough for conventional and for reduced cells
INSIDE = 0.98  # of the sphere: what is nearer to its surface may have equivalents beyond it
_VECTORS = np.array(list(product(range(-LARGEST, LARGEST + 1), repeat=3)))

Operations = NDArray[np.int64]


def laue_group(
    lattice: NDArray[np.float64], hkl: NDArray[np.integer], f2: NDArray[np.float64], system: CrystalSystem
) -> Operations | None:
    """The proper rotations of the Laue group, those that keep lattice and |F|²; None where none fits the system.

    Args:
        lattice: rows a, b, c [Å], shape (3, 3).
        hkl: all reflections of a half-sphere but negligible ones, shape (n, 3).
        f2: their |F|², shape (n,).
        system: what the crystal is said to be.

    Returns:
        Matrices W with a'_i = Σ_j W_ij a_j and h' = W h, shape (k, 3, 3).
    """
    size = np.abs(hkl).max() * (3 * LARGEST) + 1
    table = _table(hkl, f2, int(np.abs(hkl).max()))
    g2 = np.einsum("ni,ij,nj->n", hkl, np.linalg.inv(lattice @ lattice.T), hkl)
    inside = g2 <= INSIDE**2 * g2.max()
    total = f2[inside].sum()
    for metric_tolerance, f2_tolerance in TOLERANCES:
        candidates = _rotations(lattice @ lattice.T, metric_tolerance)
        moved = np.einsum("kij,nj->kni", candidates, hkl[inside])
        assert np.abs(moved).max(initial=0) < size
        error = np.abs(_look_up(table, moved) - f2[inside]).sum(axis=1)
        found = candidates[error <= f2_tolerance * total]
        traces = np.trace(found, axis1=1, axis2=2)
        axes = tuple(int((traces == trace).sum()) for trace in TRACES)
        if axes in AXES[system] and _closed(found):
            return found
    return None


def lines_of(
    operations: Operations, hkl: NDArray[np.integer], f2: NDArray[np.float64]
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """One reflection of each line and the line's Σ|F|², of reflections (n, 3) and their |F|² (n,)."""
    moved = np.einsum("kij,nj->kni", operations, hkl.astype(np.int64))
    half = int(np.abs(moved).max())
    keys = np.abs(moved @ np.array([(2 * half + 1) ** 2, 2 * half + 1, 1])).max(axis=0)  # ±h have one |key|
    _, first, line = np.unique(keys, return_index=True, return_inverse=True)
    return hkl[first], np.bincount(line, f2).astype(np.float64)


def _rotations(metric: NDArray[np.float64], tolerance: float) -> Operations:
    """Integer matrices of determinant 1 that keep a metric tensor, shape (k, 3, 3)."""
    edges = np.sqrt(np.diag(metric))
    lengths = np.einsum("ni,ij,nj->n", _VECTORS, metric, _VECTORS)
    images = [_VECTORS[np.abs(lengths - metric[i, i]) <= 2 * tolerance * metric[i, i]] for i in range(3)]
    found = []
    for a in images[0]:
        for b in images[1][np.abs(images[1] @ metric @ a - metric[0, 1]) <= 2 * tolerance * edges[0] * edges[1]]:
            near_a = np.abs(images[2] @ metric @ a - metric[0, 2]) <= 2 * tolerance * edges[0] * edges[2]
            near_b = np.abs(images[2] @ metric @ b - metric[1, 2]) <= 2 * tolerance * edges[1] * edges[2]
            found += [(a, b, c) for c in images[2][near_a & near_b]]
    matrices = np.array(found, np.int64).reshape(-1, 3, 3)
    return matrices[np.linalg.det(matrices) > 0.5]


def _table(hkl: NDArray[np.integer], f2: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """|F|² by h, k, l from −half to half; 0 where there is no reflection."""
    table = np.zeros((2 * half + 1,) * 3)
    for sign in (1, -1):
        table[tuple((sign * hkl.astype(np.int64) + half).T)] = f2
    return table


def _look_up(table: NDArray[np.float64], hkl: NDArray[np.int64]) -> NDArray[np.float64]:
    """|F|² of indices of shape (..., 3); 0 beyond the table."""
    half = len(table) // 2
    there = np.asarray((np.abs(hkl) <= half).all(axis=-1))
    index = np.where(there[..., None], hkl + half, 0)
    return np.where(there, table[index[..., 0], index[..., 1], index[..., 2]], 0.0)


def _closed(operations: Operations) -> bool:
    """Whether the product of any two matrices is one of them; then the identity is, too."""
    known = {matrix.tobytes() for matrix in operations}
    products = np.einsum("aij,bjk->abik", operations, operations).reshape(-1, 3, 3)
    return {matrix.tobytes() for matrix in products} <= known
