"""Search-match of gridded patterns against searches of the two libraries by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.baselines.search_match import search_match
from components.baselines.warm import warm
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.search import Search
from imitation_refinement.data.contracts import gridded_schema, ideal_schema, write_table
from imitation_refinement.data.datasets import Dataset, read_imperfect
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid
from tests.shared.answer.conftest import CRYSTALS, measured, small_library

GRID = Grid()
NAMES = ("TiO2", "BaSO4", "NaCl", "flat", "CaSO4")
SPLITS = ("test", "test", "test", "test", "train")
HELD_OUT = ("TiO2", "NaCl")


def system(name: str) -> str:
    row = small_library().formula.tolist().index(name)
    return str(CRYSTAL_SYSTEMS[small_library().system[row]])


@pytest.fixture
def patterns(tmp_path: Path) -> Dataset:
    rows = []
    for name in NAMES:
        x, y = measured(name) if name in CRYSTALS else (np.arange(10, 60, 0.02), np.full(2500, 3.0))
        rows.append(GRID.resample(x, y, 1.5406))
    columns: dict[str, Any] = {
        "pattern_id": NAMES,
        "formula": NAMES,
        "crystal_system": [system(name) if name in CRYSTALS else "cubic" for name in NAMES],
        "split": SPLITS,
        "scale": np.ones(len(NAMES)),
        "intensity": np.stack(rows) / np.max(rows, axis=1, keepdims=True),
    }
    columns |= dict.fromkeys(("theory_two_theta", "theory_intensity", "theory"), [None] * len(NAMES))
    write_table(tmp_path / "imperfect.parquet", columns, gridded_schema(GRID))
    return read_imperfect(tmp_path / "imperfect.parquet")


def ideal(path: Path, split: dict[str, str]) -> Path:
    """An ideal dataset of the small library's crystals, of whose patterns nothing is asked."""
    library = small_library()
    columns: dict[str, Any] = {
        "material_id": library.material_id,
        "formula": library.formula,
        "crystal_system": [str(CRYSTAL_SYSTEMS[i]) for i in library.system],
        "split": [split.get(name, "train") for name in library.formula.tolist()],
        "intensity": np.eye(len(library), GRID.points, dtype=np.float32),
    }
    write_table(path, columns, ideal_schema(GRID))
    return path


def test_each_library_is_searched_as_by_itself(
    patterns: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library, dataset = small_library(), ideal(tmp_path / "ideal.parquet", dict.fromkeys(HELD_OUT, "held_out"))
    library.write(tmp_path / "lines.parquet")
    found = search_match(patterns, [tmp_path / "lines.parquet"], dataset)
    assert found["search_in_library"].tolist()[:3] == [system(name) for name in NAMES[:3]]
    others = library.select(~np.isin(library.formula, HELD_OUT))
    for i in range(3):
        seen = patterns.intensity[i] > 0
        answer = Search(others)(GRID.two_theta[seen], patterns.intensity[i][seen], 1.5406)
        assert found["search"][i] == answer.crystal_system
    counts = pd.Series([str(CRYSTAL_SYSTEMS[i]) for i in others.system]).value_counts()
    assert counts[found["search"][3]] == counts.max()  # of a pattern without lines
    assert "search: 1 patterns show nothing to search" in capsys.readouterr().err
    assert found["search"][4] == found["search_in_library"][4] == ""  # to learn from


def test_libraries_that_cannot_be_used(patterns: Dataset, tmp_path: Path) -> None:
    library = small_library()
    library.write(tmp_path / "lines.parquet")
    dataset = ideal(tmp_path / "ideal.parquet", dict.fromkeys(library.formula.tolist(), "test"))
    with pytest.raises(InputError, match="no structure of the ideal dataset's split 'train'"):
        search_match(patterns, [tmp_path / "lines.parquet"], dataset)
    with pytest.raises(InputError, match="has no column 'space_group'"):
        search_match(patterns, [dataset], dataset)


def test_kernels_are_compiled() -> None:
    warm()


def test_shards_together_are_the_library(patterns: Dataset, tmp_path: Path) -> None:
    library, dataset = small_library(), ideal(tmp_path / "ideal.parquet", {"NaCl": "held_out"})
    shards = [tmp_path / f"lines-{k}.parquet" for k in range(3)]
    for k, shard in enumerate(shards):
        library.select(np.arange(k, len(library), 3)).write(shard)
    assert sum(len(Library.read(shard)) for shard in shards) == len(library)
    found = search_match(patterns, shards, dataset)
    assert found["search_in_library"].tolist()[:3] == [system(name) for name in NAMES[:3]]
