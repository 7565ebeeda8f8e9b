"""Cells that keep their symmetry, and texture, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from imitation_refinement.xrd.bank import Bank
from imitation_refinement.xrd.crystal import CLASS_INDEX
from imitation_refinement.xrd.effects import march_dollase
from imitation_refinement.xrd.redrawn import spacings, strained_metric, textures

STRAIN = np.array([0.05, -0.04, 0.03, 0.02, -0.01, 0.06])
FREE = {"triclinic": 6, "monoclinic": 4, "orthorhombic": 3, "tetragonal": 2, "trigonal": 2, "hexagonal": 2, "cubic": 1}


def first(bank: Bank, system: str) -> tuple[Bank, np.ndarray]:
    one = bank.select(bank.label == CLASS_INDEX[system]).select([1])
    return one, one.operations


@pytest.mark.parametrize("system", FREE)
def test_symmetry_stays_and_all_else_is_free(toy_bank: Bank, system: str) -> None:
    bank, group = first(toy_bank, system)
    rng = np.random.default_rng(0)
    metrics = []
    for strain in (STRAIN, *rng.uniform(-0.06, 0.06, (8, 6))):
        metric = np.linalg.inv(strained_metric(bank.lattice[0], group, strain))
        moved = np.einsum("kij,jl,kml->kim", group.astype(float), metric, group.astype(float))
        np.testing.assert_allclose(moved, np.broadcast_to(metric, moved.shape), atol=1e-9)
        metrics.append(metric.ravel())
    assert np.linalg.matrix_rank(np.array(metrics), tol=1e-6) == FREE[system]


def test_a_triclinic_cell_is_strained_as_it_says(toy_bank: Bank) -> None:
    bank, group = first(toy_bank, "triclinic")
    e = STRAIN
    tensor = np.array([[e[0], e[5], e[4]], [e[5], e[1], e[3]], [e[4], e[3], e[2]]])
    rows = bank.lattice[0] @ (np.eye(3) + tensor)
    expected = 1 / np.linalg.norm(bank.hkl @ np.linalg.inv(rows).T, axis=1)
    np.testing.assert_allclose(spacings(bank.hkl, strained_metric(bank.lattice[0], group, STRAIN)), expected)


def test_equivalent_reflections_stay_one_line(toy_bank: Bank) -> None:
    bank, group = first(toy_bank, "hexagonal")
    metric = strained_metric(bank.lattice[0], group, STRAIN)
    moved = np.einsum("kij,nj->kni", group.astype(int), bank.hkl.astype(int))
    d = np.array([spacings(hkl, metric) for hkl in moved])
    np.testing.assert_allclose(d, np.broadcast_to(d[0], d.shape))


def test_texture_is_the_mean_over_equivalents(toy_bank: Bank) -> None:
    bank, group = first(toy_bank, "tetragonal")
    reciprocal = np.linalg.inv(bank.lattice[0]).T  # rows a*, b*, c*
    normals = bank.hkl @ reciprocal
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    plane = 1
    axes = np.einsum("kij,j->ki", group.astype(float), bank.hkl[plane].astype(float)) @ reciprocal
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    expected = [np.mean([march_dollase(float(min(1.0, abs(n @ a))), 0.6) for a in axes]) for n in normals]
    metric = strained_metric(bank.lattice[0], group, np.zeros(6))
    found = textures(bank.hkl, spacings(bank.hkl, metric), metric, group, plane, 0.6)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
