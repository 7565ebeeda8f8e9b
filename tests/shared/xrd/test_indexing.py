from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imitation_refinement.xrd.indexing import Lines, _fit, index, monomials
from imitation_refinement.xrd.lattices import Family, metric
from tests.shared.xrd.test_lattices import CELLS, all_lines, form_of

WAVELENGTH = 1.5406


def lines(family: Family, centring: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """The first lines of a cell, every third not seen, with a zero error and some scatter [°]."""
    q = all_lines(CELLS[family], centring, 0.5)
    q = q[np.sort(rng.permutation(len(q))[: 2 * len(q) // 3])][:30]
    exact = 2 * np.degrees(np.arcsin(WAVELENGTH * np.sqrt(q) / 2))
    return np.asarray(exact + 0.06 + 0.008 * rng.standard_normal(len(q)))


@pytest.mark.parametrize(
    ("family", "centring"),
    [
        (Family.CUBIC, "F"), (Family.TETRAGONAL, "P"), (Family.HEXAGONAL, "P"), (Family.HEXAGONAL, "R"),
        (Family.ORTHORHOMBIC, "P"), (Family.ORTHORHOMBIC, "F"), (Family.MONOCLINIC, "C"), (Family.TRICLINIC, "P"),
    ],
)  # fmt: skip
def test_a_cell_is_found_again(family: Family, centring: str) -> None:
    two_theta = lines(family, centring, np.random.default_rng(1))
    everything = np.ones(len(two_theta), bool)
    found = index(two_theta, np.full(len(two_theta), 0.1), everything, WAVELENGTH)
    assert found == sorted(found, key=lambda one: -one.score)
    of_family = [one for one in found if one.family is family]
    volume = CELLS[family].volume
    same = [one for one in of_family if np.prod(one.cell[:3]) > 0]
    right = [
        one
        for one in same
        if abs(1 / np.sqrt(np.linalg.det(one.reciprocal_metric)) / volume - 1) < 0.003
        and one.zero_error == pytest.approx(0.06, abs=0.03)
    ]
    assert right, [(one.centring, one.cell, round(one.score)) for one in of_family]
    assert right[0].score > found[0].score - 8, "nearly as good as any of fewer constraints"
    rest = [one.score for one in found if one.family < family and one.family is not Family.HEXAGONAL]
    assert right[0].score > max(rest, default=-np.inf) - 1, "better than any of more symmetry"


def test_lines_of_no_lattice_score_low() -> None:
    rng = np.random.default_rng(0)
    two_theta = np.sort(rng.uniform(10, 60, 25))
    found = index(two_theta, np.full(25, 0.1), np.ones(25, bool), WAVELENGTH)
    assert found[0].score < 30
    true = lines(Family.ORTHORHOMBIC, "P", rng)[:25]
    assert index(true, np.full(len(true), 0.1), np.ones(len(true), bool), WAVELENGTH)[0].score > 45


def test_monomials_by_hand() -> None:
    hexagonal = {tuple(one) for one in monomials(Family.HEXAGONAL).tolist()}
    assert {(1, 0), (0, 1), (3, 1), (7, 0), (0, 36)} <= hexagonal, "h² + k² + hk of 10, 11, 21 and of 00l"
    assert not hexagonal & {(0, 0), (2, 1), (5, 0)}, "no sums of that form"
    assert {(1, 0, 1, 1), (1, 0, 1, -1)} <= {tuple(one) for one in monomials(Family.MONOCLINIC).tolist()}


@pytest.mark.parametrize("family", [Family.CUBIC, Family.HEXAGONAL, Family.MONOCLINIC, Family.TRICLINIC])
def test_a_trial_lattice_moves_to_the_lines(family: Family) -> None:
    """Coefficients off by some tenths of a percent: a step leaves half of the lines' distances at most."""
    cell = CELLS[family]
    true, q = form_of(cell), all_lines(cell, "P", 1.0)[:16]
    two_theta = 2 * np.degrees(np.arcsin(WAVELENGTH * np.sqrt(q) / 2))
    given = Lines.of(two_theta, np.full(len(q), 0.1), WAVELENGTH, 0.0)
    hkl = np.array(list(np.ndindex(9, 9, 9))) - 4

    def distance(form: NDArray[np.float64]) -> float:
        own = np.einsum("ij,jk,ik->i", hkl, metric(form), hkl)
        return float(np.abs(own[:, None] - q).min(axis=0).mean())

    rng = np.random.default_rng(0)
    form = true + family.basis @ rng.normal(0, 0.002, family.basis.shape[1]) * true[:3].min()
    before = distance(form)
    _fit(form, given.arrays, family.basis, family.half, np.empty(400), np.empty((400, 3), np.int64))
    assert 0 < distance(form) < before / 2
    nothing = np.zeros(6)
    _fit(nothing, given.arrays, family.basis, family.half, np.empty(400), np.empty((400, 3), np.int64))
    assert not nothing.any(), "what is no lattice stays as it is"
