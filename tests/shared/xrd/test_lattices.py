from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from pymatgen.core import Lattice as PymatgenLattice

from imitation_refinement.xrd.lattices import (
    CENTRINGS,
    Family,
    Lattice,
    higher,
    metric,
    points,
    primitive_form,
    refined,
    score,
    solved,
)

CELLS = {
    Family.CUBIC: PymatgenLattice.cubic(5.43),
    Family.TETRAGONAL: PymatgenLattice.tetragonal(4.59, 2.96),
    Family.HEXAGONAL: PymatgenLattice.hexagonal(4.91, 5.41),
    Family.ORTHORHOMBIC: PymatgenLattice.orthorhombic(4.76, 10.2, 5.98),
    Family.MONOCLINIC: PymatgenLattice.monoclinic(9.75, 8.9, 5.25, 106),
    Family.TRICLINIC: PymatgenLattice.from_parameters(7.12, 7.85, 5.57, 90.1, 101.2, 106.0),
}
LEFT = {
    "P": lambda h, k, ell: True,
    "I": lambda h, k, ell: (h + k + ell) % 2 == 0,
    "F": lambda h, k, ell: h % 2 == k % 2 == ell % 2,
    "C": lambda h, k, ell: (h + k) % 2 == 0,
    "A": lambda h, k, ell: (k + ell) % 2 == 0,
    "B": lambda h, k, ell: (h + ell) % 2 == 0,
    "R": lambda h, k, ell: (-h + k + ell) % 3 == 0,
}  # International Tables A, reflection conditions


def form_of(lattice: PymatgenLattice) -> NDArray[np.float64]:
    g = lattice.reciprocal_lattice_crystallographic.metric_tensor
    return np.array([g[0, 0], g[1, 1], g[2, 2], 2 * g[0, 1], 2 * g[0, 2], 2 * g[1, 2]])


def all_lines(lattice: PymatgenLattice, centring: str, top: float) -> NDArray[np.float64]:
    """Distinct 1/d² of a lattice, by every index."""
    inverse, reach = lattice.reciprocal_lattice_crystallographic, 14
    hkl = np.array([i for i in np.ndindex(*(2 * reach + 1,) * 3) if i != (reach,) * 3]) - reach
    q = ((hkl @ inverse.matrix) ** 2).sum(axis=1)
    kept = q <= top
    return np.unique([round(v, 9) for v, i in zip(q[kept], hkl[kept], strict=True) if LEFT[centring](*i)])


@pytest.mark.parametrize("family", list(Family))
def test_points_are_those_of_every_index(family: Family) -> None:
    cell = CELLS[family]
    q, hkl = np.empty(5000), np.empty((5000, 3), np.int64)
    n = points(form_of(cell), 0.4, family.half, q, hkl)
    assert np.unique(q[:n].round(9)) == pytest.approx(all_lines(cell, "P", 0.4), abs=2e-9)
    inverse = cell.reciprocal_lattice_crystallographic
    assert ((hkl[:n] @ inverse.matrix) ** 2).sum(axis=1) == pytest.approx(q[:n])
    assert len({tuple(i) for i in hkl[:n].tolist()}) == n
    assert points(form_of(cell), 0.4, family.half, np.empty(3), np.empty((3, 3), np.int64)) == 3


@pytest.mark.parametrize("centring", CENTRINGS)
def test_a_primitive_cell_has_the_lines_that_a_centring_leaves(centring: str) -> None:
    cell = CELLS[Family.HEXAGONAL if centring == "R" else Family.ORTHORHOMBIC]
    form = primitive_form(form_of(cell), centring)
    q, hkl = np.empty(5000), np.empty((5000, 3), np.int64)
    n = points(form, 0.4, 0, q, hkl)
    assert np.unique(q[:n].round(8)) == pytest.approx(np.unique(all_lines(cell, centring, 0.4).round(8)), abs=2e-8)
    assert (np.diff(form[:3]) >= 0).all() and (np.abs(form[3:]) <= form[[0, 0, 1]] * (1 + 1e-6)).all(), "short axes"


@pytest.mark.parametrize(
    ("family", "centring"),
    [
        *((Family.MONOCLINIC, c) for c in "PC"), *((Family.ORTHORHOMBIC, c) for c in "PIFC"),
        *((Family.TETRAGONAL, c) for c in "PI"), *((Family.HEXAGONAL, c) for c in "PR"),
        *((Family.CUBIC, c) for c in "PIF"),
    ],
)  # fmt: skip
def test_the_symmetry_of_a_primitive_cell_is_found(family: Family, centring: str) -> None:
    cell = CELLS[family]
    found = higher(primitive_form(form_of(cell), centring))
    same = family.centrings if family in (Family.MONOCLINIC, Family.ORTHORHOMBIC) else centring
    volumes = {1 / math.sqrt(np.linalg.det(metric(form))) for of, own, form in found if of is family and own in same}
    assert any(volume == pytest.approx(cell.volume) for volume in volumes)
    if family.value < Family.ORTHORHOMBIC:
        form = next(form for of, own, form in found if of is family and own == centring)
        assert form == pytest.approx(form_of(cell), abs=1e-9)
    if family is Family.ORTHORHOMBIC:
        form = next(form for of, _, form in found if of is family)
        assert sorted(form[:3]) == pytest.approx(sorted(form_of(cell)[:3])) and not form[3:].any()


def test_a_triclinic_cell_has_no_higher_symmetry() -> None:
    assert higher(primitive_form(form_of(CELLS[Family.TRICLINIC]), "P")) == []


def test_a_cell_in_words() -> None:
    cell = CELLS[Family.TRICLINIC]
    lattice = Lattice(Family.TRICLINIC, "P", form_of(cell), 0.0, 1.0, 10)
    assert lattice.cell == pytest.approx((*cell.abc, *cell.angles))


def test_a_score_by_hand() -> None:
    # Lattice lines at 20, 30, 40°; a pattern's at 20.01 and 35.
    wavelength, angles = 1.5406, np.array([20.0, 30.0, 40.0])
    q = (2 * np.sin(np.radians(angles / 2)) / wavelength) ** 2
    chance, width, expected = np.array([0.1, 0.3]), 0.02, 0.0
    for at, doubt in zip((20.01, 35.0), chance, strict=True):
        off = min(abs(angles - at)) / width
        own = 0.7 * math.exp(-(off**2) / 2) + 0.3 * math.exp(-(off**2) / 18) / 3
        density = (sum(abs(angles - at) < 4) + 1) / 8
        expected += math.log(doubt + (1 - doubt) * own / (width * math.sqrt(2 * math.pi)) / density)
    assert score(q, np.array([20.01, 35.0]), chance, wavelength, 0.0, width) == pytest.approx(expected)
    moved = score(q, np.array([20.06, 35.05]), chance, wavelength, 0.05, width)
    assert moved == pytest.approx(expected), "a zero error moves all lines"


@pytest.mark.parametrize(("family", "centring"), [(Family.TETRAGONAL, "I"), (Family.MONOCLINIC, "C")])
def test_a_cell_and_a_zero_error_are_refined(family: Family, centring: str) -> None:
    cell, wavelength = CELLS[family], 1.5406
    q = all_lines(cell, centring, 0.35)[:30]
    two_theta = 2 * np.degrees(np.arcsin(wavelength * np.sqrt(q) / 2)) + 0.05
    start = np.linalg.lstsq(family.basis, form_of(cell), rcond=None)[0] * 1.002
    value, form, zero, lines = refined(
        start,
        family.basis,
        family.half,
        CENTRINGS.index(centring),
        0.0,
        two_theta,
        np.full(len(q), 0.1),
        wavelength,
        np.array([0.2, 0.1, 0.05, 0.02, 0.02]),
        np.array([0.0, 0.5]),
    )
    assert form == pytest.approx(form_of(cell), rel=2e-4, abs=2e-6)
    assert zero == pytest.approx(0.05, abs=2e-3) and lines >= len(q) and value > 2 * len(q)


def test_normal_equations_are_solved() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 7):
        slopes = rng.standard_normal((30, n))
        right = rng.standard_normal(n)
        assert solved(slopes.T @ slopes, right) == pytest.approx(np.linalg.inv(slopes.T @ slopes) @ right)
