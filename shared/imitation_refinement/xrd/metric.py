"""Rotations that keep a lattice, whatever its atoms do, and strains that keep these rotations."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

ALIKE = 5e-3  # relative: a metric that a rotation keeps so well may be no accident, and then outlasts a strain
LARGEST = 2  # entry of a rotation's matrix: enough for conventional and for reduced cells
_VECTORS = np.array(list(product(range(-LARGEST, LARGEST + 1), repeat=3)))
_TENSOR = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
_ROW, _COLUMN = np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1])

Operations = NDArray[np.int64]


def rotations(metric: NDArray[np.float64], tolerance: float) -> Operations:
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


def closed(operations: Operations) -> bool:
    """Whether the product of any two matrices is one of them; then the identity is, too."""
    known = {matrix.tobytes() for matrix in operations}
    products = np.einsum("aij,bjk->abik", operations, operations).reshape(-1, 3, 3)
    return {matrix.tobytes() for matrix in products} <= known


def metric_rotations(lattice: NDArray[np.float64]) -> Operations:
    """The rotations of a lattice whose metric tensor they keep to :data:`ALIKE`, or, where these are no group, to less.

    Args:
        lattice: rows a, b, c [Å], shape (3, 3).

    Returns:
        As :func:`rotations`; at least the identity.
    """
    tolerance = ALIKE
    while not closed(found := rotations(lattice @ lattice.T, tolerance)):
        tolerance /= 2
    return found


def with_symmetry(strain: ArrayLike, lattice: NDArray[np.float64], operations: Operations) -> NDArray[np.float64]:
    """What of a strain keeps some rotations: Σ Rᵀ ε R / k, R = A⁻¹ W A.

    Args:
        strain: tensor components 11, 22, 33, 23, 13, 12 of ε, shape (6,).
        lattice: A, rows a, b, c [Å], shape (3, 3).
        operations: matrices W with a'_i = Σ_j W_ij a_j, shape (k, 3, 3).

    Returns:
        Shape (6,).
    """
    e = np.asarray(strain, float)
    turned = np.linalg.inv(lattice) @ operations @ lattice
    mean = (turned.transpose(0, 2, 1) @ e[_TENSOR] @ turned).mean(axis=0)
    return np.asarray((mean[_ROW, _COLUMN] + mean[_COLUMN, _ROW]) / 2)
