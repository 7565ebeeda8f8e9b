"""Nearest neighbours against SciPy's cosine distance, and where they are looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.distance import cdist

from components.baselines import nearest as module
from components.baselines.config import NearestConfig
from components.baselines.nearest import blurred, nearest, roots, without_background
from imitation_refinement.data.contracts import ideal_schema, write_table
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid

GRID = Grid(points=512)
AXIS = np.arange(GRID.points)
SYSTEMS = np.array([str(s) for s in CRYSTAL_SYSTEMS])


def lines(centres: NDArray, heights: NDArray) -> NDArray[np.float32]:
    """Patterns of Gaussian lines; centres in points, shape (n, lines)."""
    shape = np.exp(-(((AXIS - centres[..., None]) / 1.5) ** 2))
    patterns = (heights[..., None] * shape).sum(axis=1)
    return (patterns / patterns.max(axis=1, keepdims=True)).astype(np.float32)


def library(path: Path, n: int = 60) -> tuple[Path, NDArray, NDArray, NDArray[np.str_], NDArray[np.str_]]:
    """An ideal dataset of patterns with eight lines; every third is held out."""
    rng = np.random.default_rng(0)
    centres, heights = rng.uniform(20, 490, (n, 8)), rng.uniform(0.05, 1, (n, 8))
    systems, split = SYSTEMS[rng.integers(7, size=n)], np.array(["train", "validation", "held_out"] * (n // 3))
    columns: dict[str, Any] = {
        "material_id": [f"m{i}" for i in range(n)],
        "formula": [f"A{i}" for i in range(n)],
        "crystal_system": systems,
        "split": split,
        "intensity": lines(centres, heights),
    }
    write_table(path, columns, ideal_schema(GRID))
    return path, centres, heights, systems, split


def test_against_the_cosine_distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, centres, heights, systems, split = library(tmp_path / "ideal.parquet")
    rng = np.random.default_rng(1)
    patterns = lines(centres + rng.normal(0, 1.5, centres.shape), heights * rng.uniform(0.3, 1, heights.shape))
    patterns = patterns + 0.05 * rng.random(patterns.shape, dtype=np.float32)
    config = NearestConfig(blur=0.4, background=2.5)
    sigma = 0.4 / GRID.step
    clean = without_background(blurred(patterns, sigma), round(2.5 / GRID.step))
    ideal = gaussian_filter1d(lines(centres, heights), sigma, axis=1, truncate=3)
    distance = cdist(np.sqrt(clean), np.sqrt(ideal), "cosine")
    train = split == "train"
    expected = {
        "nearest": systems[train][distance[:, train].argmin(axis=1)],
        "nearest_in_library": systems[distance.argmin(axis=1)],
    }
    for rows in (4096, 7):  # a batch may well be without a row to learn from
        monkeypatch.setattr(module, "ROWS_AT_A_TIME", rows)
        found = nearest(patterns, GRID, path, config)
        for name, systems_found in expected.items():
            np.testing.assert_array_equal(found[name], systems_found)
    assert (found["nearest_in_library"] == systems).mean() > 0.9 > (found["nearest"] == systems).mean()


def test_shifted_lines_on_a_background_are_found(tmp_path: Path) -> None:
    path, centres, heights, systems, _ = library(tmp_path / "ideal.parquet")
    background = 3 * np.exp(-AXIS / 150) + np.exp(-(((AXIS - 200) / 90) ** 2))
    patterns = (lines(centres + 1.5, heights) + background).astype(np.float32)
    right = (nearest(patterns, GRID, path, NearestConfig())["nearest_in_library"] == systems).mean()
    assert right > 0.95


def test_background_is_removed_and_lines_stay() -> None:
    background = 2 + np.exp(-AXIS / 100) + 0.5 * np.exp(-(((AXIS - 200) / 100) ** 2))  # 10 points bend it by 0.005
    peaks = lines(np.array([[60.3, 200, 400.7]]), np.array([[1, 0.3, 0.6]]))
    found = without_background((peaks + background).astype(np.float32), 10)
    assert found.dtype == np.float32 and (found >= 0).all()
    np.testing.assert_allclose(found, peaks, atol=0.03)


def test_roots_and_blur_by_hand() -> None:
    found = roots(np.array([[9, 16, 0, 0], [0, 0, 0, 0]], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8, 0, 0], [0, 0, 0, 0]], rtol=1e-6)
    pattern = np.eye(1, 101, 50, dtype=np.float32)
    np.testing.assert_array_equal(blurred(pattern, 0.0), pattern)
    wide = blurred(pattern, 3.0)[0]
    assert wide.sum() == pytest.approx(1, rel=1e-5)
    assert np.sqrt(wide @ (np.arange(101) - 50) ** 2) == pytest.approx(3, rel=0.03)


def test_patterns_without_any_line_get_an_answer(tmp_path: Path) -> None:
    path, *_ = library(tmp_path / "ideal.parquet")
    found = nearest(np.ones((2, 512), np.float32), GRID, path, NearestConfig())
    assert set(found["nearest"]) <= set(SYSTEMS) and set(found["nearest_in_library"]) <= set(SYSTEMS)


def test_libraries_that_cannot_be_used(tmp_path: Path) -> None:
    path, *_ = library(tmp_path / "ideal.parquet")
    patterns = np.ones((1, 512), np.float32)
    with pytest.raises(InputError, match=r"ideal\.parquet: is on the grid"):
        nearest(patterns, Grid(points=512, stop=80), path, NearestConfig())
    columns: dict[str, Any] = {name: ["cubic"] for name in ("material_id", "formula", "crystal_system")}
    columns |= {"split": ["test"], "intensity": patterns}
    write_table(path, columns, ideal_schema(GRID))
    with pytest.raises(InputError, match="no row with split 'train'"):
        nearest(patterns, GRID, path, NearestConfig())
    with pytest.raises(InputError, match="no such file"):
        nearest(patterns, GRID, tmp_path / "nothing.parquet", NearestConfig())
