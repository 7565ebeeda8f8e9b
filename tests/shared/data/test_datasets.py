"""Preprocessed tables as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from imitation_refinement.data import datasets
from imitation_refinement.data.datasets import UNLABELLED, read_ideal, read_imperfect, sample_ideal, split_counts
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid


def replaced(path: Path, column: str, values: pa.Array) -> Path:
    table = pq.read_table(path)
    index = table.schema.get_field_index(column)
    pq.write_table(table.set_column(index, table.schema.field(column), values), path)
    return path


def test_ideal(toy_tables: dict[str, Path]) -> None:
    data = read_ideal(toy_tables["ideal_dataset"])
    rows = pq.read_table(toy_tables["ideal_dataset"]).to_pylist()
    assert data.theory is None and data.grid.points == 128
    assert [CRYSTAL_SYSTEMS[k] for k in data.labels] == [row["crystal_system"] for row in rows]
    np.testing.assert_array_equal(data.intensity, np.array([row["intensity"] for row in rows], np.float32))


def test_splits(toy_tables: dict[str, Path]) -> None:
    data = read_imperfect(toy_tables["imperfect_dataset"])
    assert data.theory is not None
    names = data.rows["split"].to_numpy(str)
    for split in ("train", "validation", "test"):
        chosen = np.flatnonzero(names == split)
        part, selected = data.part(split), data.select(split)
        assert len(part[1]) == len(chosen) > 0
        np.testing.assert_array_equal(part[0], data.intensity[chosen])
        np.testing.assert_array_equal(selected.intensity, data.intensity[chosen])
        np.testing.assert_array_equal(selected.theory, data.theory[chosen])
        assert selected.rows["pattern_id"].tolist() == [f"p{i}" for i in chosen]
        assert (selected.labels == part[1]).all()
    assert len(data.part("held_out")[1]) == 0


def test_a_pattern_without_label_or_theory(toy_tables: dict[str, Path]) -> None:
    path = toy_tables["imperfect_dataset"]
    systems = pq.read_table(path)["crystal_system"].to_pylist()
    data = read_imperfect(replaced(path, "crystal_system", pa.array([None, *systems[1:]])))
    assert data.labels[0] == UNLABELLED and (data.labels[1:] != UNLABELLED).all()
    assert data.theory is not None
    assert np.isnan(data.theory[-1]).all() and np.isfinite(data.theory[:-1]).all()


def test_unknown_class_names_the_row(toy_tables: dict[str, Path]) -> None:
    path = toy_tables["ideal_dataset"]
    systems = pq.read_table(path)["crystal_system"].to_pylist()
    replaced(path, "crystal_system", pa.array([*systems[:5], "amorphous", *systems[6:]]))
    with pytest.raises(InputError, match=r"ideal_dataset\.parquet, row 6: unknown crystal_system 'amorphous'"):
        read_ideal(path)


def test_no_training_pattern(toy_tables: dict[str, Path]) -> None:
    path = toy_tables["ideal_dataset"]
    splits = pq.read_table(path)["split"]
    replaced(path, "split", pc.replace_substring(splits, "train", "held_out").combine_chunks())
    with pytest.raises(InputError, match="no row with split 'train'"):
        read_ideal(path)


def test_the_grid_a_model_asks_for(toy_tables: dict[str, Path]) -> None:
    path = toy_tables["imperfect_dataset"]
    assert read_imperfect(path, Grid(points=128)).grid == Grid(points=128)
    with pytest.raises(InputError, match=r"imperfect_dataset\.parquet: is on the grid .* the model on"):
        read_imperfect(path, Grid(points=256))


def test_a_sample_is_read_without_the_rest(toy_tables: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = toy_tables["ideal_dataset"]
    patterns, labels = read_ideal(path).part("test")
    monkeypatch.setattr(datasets, "ROWS_AT_A_TIME", 5)
    everything = sample_ideal(path, "test", 100, seed=0)
    np.testing.assert_array_equal(everything.intensity, patterns)
    np.testing.assert_array_equal(everything.labels, labels)
    few = sample_ideal(path, "test", 5, seed=1)
    where = [int(np.flatnonzero((patterns == x).all(1))[0]) for x in few.intensity]
    assert where == sorted(set(where)) and len(where) == 5
    np.testing.assert_array_equal(few.labels, labels[where])
    assert where != [int(np.flatnonzero((patterns == x).all(1))[0]) for x in sample_ideal(path, "test", 5, 2).intensity]
    assert sample_ideal(path, "held_out", 5, 0).intensity.shape == (0, 128)
    assert split_counts(path) == {"train": 56, "validation": 14, "test": 14}


def test_a_bad_sample_names_the_row(toy_tables: dict[str, Path]) -> None:
    path = toy_tables["ideal_dataset"]
    systems = pq.read_table(path)["crystal_system"].to_pylist()
    replaced(path, "crystal_system", pa.array([*systems[:-1], "amorphous"]))
    with pytest.raises(InputError, match=rf"ideal_dataset\.parquet, row {len(systems)}: unknown crystal_system"):
        sample_ideal(path, "test", 100, 0)
    pq.write_table(pq.read_table(path).drop_columns(["formula"]), path)
    with pytest.raises(InputError, match="has no column 'formula'"):
        sample_ideal(path, "test", 100, 0)
