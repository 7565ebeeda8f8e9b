"""The Laue groups and lines of a bank against what symmetry says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.simulate.bank import bank_of
from components.simulate.kernel import Structures, reflections
from components.simulate.laue import laue_group, lines_of
from imitation_refinement.data.contracts import STRUCTURES, read_table, write_table
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.bank import Bank
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, CrystalSystem

LARGEST_ORDERS = (1, 2, 4, 8, 6, 12, 24)  # proper rotations of a lattice's own point group


def test_groups_of_lattices(toy_bank: Bank) -> None:
    orders = np.diff(toy_bank.operation_offsets)
    assert orders.tolist() == [LARGEST_ORDERS[label] for label in toy_bank.label]


def quartz() -> Structures:
    """α-quartz, P3₁21: Si on 3a, O on 6c; Laue group -3m, though its lattice is hexagonal."""
    a, c, u, (x, y, z) = 4.9137, 5.4047, 0.4697, (0.4135, 0.2669, 0.1191 - 1 / 3)
    silicon = [[u, 0, 1 / 3], [0, u, 2 / 3], [-u, -u, 0]]
    oxygen = [[x, y, z], [-y, x - y, z + 1 / 3], [y - x, -x, z + 2 / 3]]
    oxygen += [[y, x, -z], [x - y, -y, -z + 2 / 3], [-x, y - x, -z + 1 / 3]]
    lattice = np.array([[[a, 0, 0], [-a / 2, a * np.sqrt(0.75), 0], [0, 0, c]]])
    numbers = np.array([14] * 3 + [8] * 6)
    return Structures(lattice, np.array([0, 9]), numbers, np.ones(9), np.array(silicon + oxygen), np.zeros(9))


def test_intensities_tell_a_trigonal_crystal_in_a_hexagonal_lattice() -> None:
    structures = quartz()
    found = reflections(structures, 1.5406, 100.0)[0]
    hkl = found.hkl.astype(np.int64)
    group = laue_group(structures.lattice[0], hkl, found.f2, CrystalSystem.TRIGONAL)
    assert group is not None and len(group) == 6
    assert laue_group(structures.lattice[0], hkl, found.f2, CrystalSystem.HEXAGONAL) is None
    lines, f2 = lines_of(group, hkl, found.f2)
    assert f2.sum() == pytest.approx(found.f2.sum())
    # 101 and 011 (rhombohedron and its opposite) are two lines at one d: three reflections each in a half-sphere.
    d = 1 / np.sqrt(
        np.einsum("ni,ij,nj->n", lines, np.linalg.inv(structures.lattice[0] @ structures.lattice[0].T), lines)
    )
    strongest = np.sort(f2[np.isclose(d, 3.343, atol=2e-3)])
    assert len(strongest) == 2
    of = {tuple(abs(h)): value for h, value in zip(hkl, found.f2, strict=True)}
    assert strongest == pytest.approx(sorted(3 * v for v in (of[1, 0, 1], of[0, 1, 1])), rel=1e-6)


def test_lines_of_equal_d_by_chance_are_two(toy_bank: Bank) -> None:
    cubic = toy_bank.select(toy_bank.label == CRYSTAL_SYSTEMS.index(CrystalSystem.CUBIC)).select([0])
    sums = (cubic.hkl.astype(int) ** 2).sum(axis=1)
    assert (sums == 9).sum() == 2  # 300 and 221
    assert (np.diff(sums) >= 0).all()


def test_what_is_left_out_is_said(toy_structures: Path, tmp_path: Path) -> None:
    table = read_table(toy_structures, STRUCTURES).to_pandas().iloc[:14].reset_index(drop=True)
    table["crystal_system"] = ["cubic", *table["crystal_system"][1:]]
    table["atomic_number"] = [table["atomic_number"][0], np.array([99], np.int16), *table["atomic_number"][2:]]
    path = tmp_path / "s.parquet"
    write_table(path, table, STRUCTURES)
    bank, rejected = bank_of([path])
    assert len(bank) == 12
    assert len(rejected) == 2
    assert any("s0 have another symmetry than cubic" in str(error) for error in rejected)
    assert any("s1 holds an element" in str(error) for error in rejected)
    write_table(path, table.iloc[:2], STRUCTURES)
    with pytest.raises(InputError, match="no structure is left"):
        bank_of([path])
