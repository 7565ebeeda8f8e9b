"""Rotations of lattices against gemmi's, and strains that keep them."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from imitation_refinement.xrd.metric import ALIKE, metric_rotations, rotations, with_symmetry

STRAIN = np.array([0.02, -0.01, 0.015, 0.004, -0.006, 0.01])
CELLS = {
    "triclinic": ((5.1, 6.2, 7.3, 81.0, 95.0, 103.0), 1),
    "monoclinic": ((5.1, 6.2, 7.3, 90.0, 103.0, 90.0), 2),
    "orthorhombic": ((5.1, 6.2, 7.3, 90.0, 90.0, 90.0), 4),
    "tetragonal": ((5.1, 5.1, 7.3, 90.0, 90.0, 90.0), 8),
    "hexagonal": ((5.1, 5.1, 7.3, 90.0, 90.0, 120.0), 12),
    "cubic": ((5.1, 5.1, 5.1, 90.0, 90.0, 90.0), 24),
    "face-centred, reduced": ((4.0, 4.0, 4.0, 60.0, 60.0, 60.0), 24),
    "nearly cubic": ((5.1, 5.11, 5.095, 90.1, 89.95, 90.0), 24),
    "nearly tetragonal": ((5.1, 5.11, 7.3, 90.0, 90.1, 90.0), 8),
}


def lattice_of(cell: tuple[float, ...]) -> np.ndarray:
    """Rows a, b, c [Å], turned somehow: no axis lies along x."""
    turn, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))
    return np.array(gemmi.UnitCell(*cell).orth.mat.tolist()).T @ turn


def strained(lattice: np.ndarray, strain: np.ndarray) -> np.ndarray:
    e = strain
    return lattice @ (np.eye(3) + np.array([[e[0], e[5], e[4]], [e[5], e[1], e[3]], [e[4], e[3], e[2]]]))


@pytest.mark.parametrize("name", CELLS)
def test_as_many_rotations_as_gemmi_finds(name: str) -> None:
    cell, number = CELLS[name]
    found = metric_rotations(lattice_of(cell))
    operations = gemmi.find_lattice_symmetry(gemmi.UnitCell(*cell), "P", 1.0)
    assert len(found) == number == len(list(operations.sym_ops))
    moved = np.einsum("kij,jl,kml->kim", found, lattice_of(cell) @ lattice_of(cell).T, found)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=2 * ALIKE * 7.3**2)


@pytest.mark.parametrize("name", CELLS)
def test_a_strain_keeps_what_is_kept_and_leaves_how_far_it_is_off(name: str) -> None:
    lattice = lattice_of(CELLS[name][0])
    found = metric_rotations(lattice)
    after = strained(lattice, with_symmetry(STRAIN, lattice, found))

    def off(rows: np.ndarray) -> float:
        metric = rows @ rows.T
        return float(np.abs(np.einsum("kij,jl,kml->kim", found, metric, found) - metric).max() / metric.max())

    assert off(after) == pytest.approx(off(lattice), rel=0.1, abs=1e-12)
    assert len(rotations(after @ after.T, 2 * ALIKE)) >= len(found)
    assert np.linalg.det(after) / np.linalg.det(lattice) == pytest.approx(1 + STRAIN[:3].sum(), abs=1e-3)


def test_a_cell_without_symmetry_is_strained_as_it_is_told() -> None:
    lattice = lattice_of(CELLS["triclinic"][0])
    np.testing.assert_allclose(with_symmetry(STRAIN, lattice, metric_rotations(lattice)), STRAIN, atol=1e-12)


def test_a_cube_only_grows() -> None:
    lattice = lattice_of(CELLS["cubic"][0])
    found = with_symmetry(STRAIN, lattice, metric_rotations(lattice))
    np.testing.assert_allclose(found, [STRAIN[:3].mean()] * 3 + [0] * 3, atol=1e-12)


def test_where_rotations_are_no_group_fewer_are_taken() -> None:
    # b is alike to a, and c to b, but c is not to a: three fourfold axes would need it.
    lattice = lattice_of((5.0, 5.04, 5.08, 90.0, 90.0, 90.0))
    assert len(rotations(lattice @ lattice.T, 0.01)) not in (4, 8, 24)
    assert len(metric_rotations(lattice)) == 4
