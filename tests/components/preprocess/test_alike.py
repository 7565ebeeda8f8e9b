"""Near-identical patterns, against all pairs, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from components.preprocess import alike
from components.preprocess.alike import (
    IDENTICAL,
    cosines,
    hydrogen_pairs,
    identical_pairs,
    joined,
    pairs_to_join,
    shapes,
)

STEP = 0.02
AXIS = np.arange(10, 70, STEP)


def pattern(*lines: tuple[float, float]) -> np.ndarray:
    """Gaussian lines (2θ, height), full width 0.1°."""
    found = sum(height * np.exp(-4 * np.log(2) * ((AXIS - centre) / 0.1) ** 2) for centre, height in lines)
    return np.asarray(found / np.max(found), np.float32)


def drawn(n: int, seed: int) -> np.ndarray:
    """Patterns of eight lines each; the second half repeats the first with lines moved by up to 0.05°."""
    rng = np.random.default_rng(seed)
    lines = [(rng.uniform(12, 68, 8), rng.uniform(0.1, 1, 8)) for _ in range(n)]
    moved = [(centres + rng.uniform(0, 0.05) * rng.normal(size=8), heights) for centres, heights in lines]
    return np.stack([pattern(*zip(*pair, strict=True)) for pair in [*lines, *moved]])


@pytest.mark.parametrize(("rows", "in_cell"), [(4096, 512), (50, 512), (50, 7)])
def test_no_identical_pair_is_missed(rows: int, in_cell: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "ROWS_AT_A_TIME", rows)
    monkeypatch.setattr(alike, "ROWS_IN_CELL", in_cell)
    patterns = drawn(120, 0)
    found = shapes(patterns, STEP)
    binned = np.sqrt(patterns[:, : len(AXIS) // 4 * 4].reshape(len(patterns), -1, 4).mean(2).astype(float))
    binned /= np.linalg.norm(binned, axis=1, keepdims=True)
    cosine = binned @ binned.T
    expected = {(i, j) for i, j in zip(*np.nonzero(np.triu(cosine, 1) >= IDENTICAL), strict=True)}
    close = {(i, j) for i, j in zip(*np.nonzero(np.abs(np.triu(cosine, 1) - IDENTICAL) < 2e-4), strict=True)}
    in_order = identical_pairs(found, np.arange(len(found))).tolist()
    pairs = {(i, j) for i, j in in_order}
    assert in_order == sorted(in_order) and len(pairs) == len(in_order)
    assert pairs ^ expected <= close  # half precision
    assert 10 < len(pairs) < 120
    material = np.arange(len(found)) % 120 + 120 * (np.arange(len(found)) % 7 < 3)
    of_two = identical_pairs(found, material).tolist()
    assert of_two == [[i, j] for i, j in in_order if material[i] != material[j]] and len(of_two) > 5
    np.testing.assert_allclose(cosines(found, np.array([[0, 120], [3, 5]])), cosine[[0, 3], [120, 5]], atol=2e-3)


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows_make_no_pairs(rows: int) -> None:
    found = shapes(drawn(1, 0)[:rows], STEP)
    material = np.zeros(rows, int)
    assert identical_pairs(found, material).shape == hydrogen_pairs(["MnO2"], material, found).shape == (0, 2)
    assert pairs_to_join(["MnO2"], material, found, np.empty((0, 2), int)).shape == (0, 2)


def test_lost_hydrogen_and_other_compounds() -> None:
    """A refinement without its hydrogen has other weak lines; an isotypic compound has the same ones."""
    lines = [(20.0, 1.0), (30.0, 0.8), (41.0, 0.6)]
    other = [(22.0, 1.0), (33.0, 0.8), (47.0, 0.6)]
    weak = (50.0, 0.05)
    patterns = [pattern(*lines), pattern(*lines, weak), pattern(*lines), pattern(*other), pattern(*lines, weak)]
    names, material = ["Mn(HO)2", "MnO2", "InRh"], np.array([0, 1, 2, 1, 1])
    found = shapes(np.stack(patterns), STEP)
    identical = identical_pairs(found, material)
    assert identical.tolist() == [[0, 2]]
    assert hydrogen_pairs(names, material, found).tolist() == [[0, 1]]  # of each two materials one
    assert hydrogen_pairs(["MnO2"] * 3, material, found).tolist() == []
    assert pairs_to_join(names, material, found, identical).tolist() == [[0, 1]]
    assert sorted(pairs_to_join(names, material, found, identical, of_all=True).tolist()) == [[0, 1], [0, 2]]
    assert pairs_to_join(["Mg0.45Fe0.05O0.5", "CaO", "Mg0.44Fe0.06O0.5"], material, found, identical).tolist() == [
        [0, 2]
    ]  # 2 % of the atoms


def test_joined_groups_are_called_by_their_first_row() -> None:
    groups = np.array(["c", "a", "b", "a", "d", "e"])
    pairs = np.array([[3, 2], [4, 5]])
    assert joined(groups, pairs).tolist() == ["c", "a", "a", "a", "d", "d"]
    assert joined(groups, np.empty((0, 2), int)).tolist() == groups.tolist()
