"""Tables of more rows than a file holds: folders of files, read as one file is, and patterns that are mapped."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.baselines.config import NearestConfig
from components.baselines.nearest import nearest
from components.pretrain_classifier.stage import STAGE
from imitation_refinement.data import contracts, datasets
from imitation_refinement.data.contracts import ideal_schema, parts, read_grid, read_gridded, written
from imitation_refinement.data.datasets import read_ideal, read_imperfect, sample_ideal, split_counts
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid

SYSTEMS = [str(system) for system in CRYSTAL_SYSTEMS]
CONFIG = {
    "network": {"architecture": "vgg", "depths": [1, 1], "widths": [8, 8], "embedding": 8},
    "optimiser": {"epochs": 2, "batch_size": 14, "learning_rate": 1e-2, "device": "cpu"},
}


def pieces(path: Path, size: int) -> list[pa.Table]:
    table = pq.read_table(path)
    return [table.slice(start, size) for start in range(0, table.num_rows, size)]


@pytest.fixture
def sharded(toy_tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ideal dataset of 84 rows as a folder."""
    source, folder = toy_tables["ideal_dataset"], tmp_path / "sharded"
    monkeypatch.setattr(contracts, "ROWS_PER_FILE", 30)
    assert sum(1 for _ in written(folder, pq.read_schema(source), pieces(source, 8), 84)) == 84
    assert [(p.name, pq.read_metadata(p).num_rows) for p in parts(folder)] == [
        ("part-00000.parquet", 32),
        ("part-00001.parquet", 32),
        ("part-00002.parquet", 20),
    ]
    return folder


def test_a_folder_reads_as_the_file(
    sharded: Path, toy_tables: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "ROWS_AT_A_TIME", 7)
    source = toy_tables["ideal_dataset"]
    whole, found = read_ideal(source), read_ideal(sharded)
    assert whole.grid == found.grid == read_grid(sharded) and whole.rows.equals(found.rows)
    np.testing.assert_array_equal(whole.intensity, found.intensity)
    np.testing.assert_array_equal(whole.labels, found.labels)
    np.testing.assert_array_equal(read_gridded(sharded, "ideal")[2]["intensity"], whole.intensity)
    assert split_counts(sharded) == split_counts(source)
    for split in ("train", "validation", "test", "held_out"):
        for one in (source, sharded):
            alone, expected = read_ideal(one, split), whole.select(split)
            assert alone.rows.equals(expected.rows)
            np.testing.assert_array_equal(alone.part(split)[0], expected.intensity)
            np.testing.assert_array_equal(alone.part(split)[1], expected.labels)
    a, b = (sample_ideal(path, "train", 20, seed=3) for path in (source, sharded))
    assert a.rows.equals(b.rows)
    np.testing.assert_array_equal(a.intensity, b.intensity)
    imperfect = read_imperfect(toy_tables["imperfect_dataset"])
    one, other = (nearest(imperfect.intensity, whole.grid, path, NearestConfig()) for path in (source, sharded))
    for name, answers in one.items():
        np.testing.assert_array_equal(answers, other[name])


def test_training_on_shards_is_training_on_the_file(sharded: Path, toy_tables: dict[str, Path], tmp_path: Path) -> None:
    STAGE.execute({"ideal_dataset": toy_tables["ideal_dataset"], "classifier": tmp_path / "a"}, CONFIG)
    assert isinstance(read_ideal(sharded, "train").part("train")[0], np.memmap)
    STAGE.execute({"ideal_dataset": sharded, "classifier": tmp_path / "b"}, CONFIG)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_few_rows_stay_one_file(toy_tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = toy_tables["ideal_dataset"]
    monkeypatch.setattr(contracts, "ROWS_PER_FILE", 84)
    assert sum(1 for _ in written(tmp_path / "t", pq.read_schema(source), pieces(source, 30), 84)) == 84
    assert (tmp_path / "t").is_file() and pq.read_table(tmp_path / "t").equals(pq.read_table(source))
    assert list(written(tmp_path / "empty", pq.read_schema(source), [], 0)) == []
    assert pq.read_table(tmp_path / "empty").num_rows == 0


def test_a_folder_is_written_whole_or_not_at_all(sharded: Path, toy_tables: dict[str, Path], tmp_path: Path) -> None:
    source = toy_tables["ideal_dataset"]
    before, names = digest(sharded), sorted(p.name for p in tmp_path.iterdir())

    def broken() -> Any:
        yield from pieces(source, 40)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        list(written(sharded, pq.read_schema(source), broken(), 84))
    assert digest(sharded) == before and sorted(p.name for p in tmp_path.iterdir()) == names
    list(written(sharded, pq.read_schema(source), pieces(source, 40)[:1], 31))  # again, with less
    assert [p.name for p in parts(sharded)] == ["part-00000.parquet"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_files_that_do_not_belong_together(sharded: Path, tmp_path: Path) -> None:
    part = sharded / "part-00001.parquet"
    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata(Grid(points=128, stop=80).to_metadata()), part)
    for read in (read_ideal, read_grid, split_counts):
        with pytest.raises(InputError, match=r"part-00001\.parquet: is on the grid"):
            read(sharded)
    pq.write_table(table.drop_columns(["formula"]), part)
    with pytest.raises(InputError, match=r"part-00001\.parquet: has no column 'formula'"):
        read_ideal(sharded)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match=r"nothing: is a folder without \.parquet files"):
        read_ideal(tmp_path / "nothing")


def test_preprocess_makes_shards_of_many_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows, splits and order as in one file, and no more than a few thousand in memory."""
    from components.preprocess import stage

    rng, grid = np.random.default_rng(0), Grid(points=64)
    n = 280
    columns = {
        "material_id": [f"m{i:03}" for i in range(n)],
        "formula": [f"A{i // 2}" for i in range(n)],
        "crystal_system": list(np.resize(SYSTEMS, n)),
        "intensity": rng.random((n, 64), dtype=np.float32),
    }
    ideal = []
    for shard in range(3):
        ideal.append(tmp_path / f"ideal-{shard}")
        own = {name: values[shard::3] for name, values in columns.items()}
        contracts.write_table(ideal[-1], own, ideal_schema(grid))
    measured = {
        "pattern_id": [f"p{i}" for i in range(70)],
        "formula": [f"B{i}" for i in range(70)],
        "crystal_system": list(np.resize(SYSTEMS, 70)),
        "two_theta": [np.arange(5, 90, 0.5)] * 70,
        "intensity": [rng.poisson(50, 170).astype(float) for _ in range(70)],
        "wavelength": [1.5406] * 70,
        "origin": ["file"] * 70,
    }
    contracts.write_table(tmp_path / "imperfect", measured, contracts.measured_schema(grid))
    monkeypatch.setattr(stage, "ROWS_AT_A_TIME", 16)
    found = {}
    for name, most in (("file", 10**6), ("folder", 100)):
        monkeypatch.setattr(contracts, "ROWS_PER_FILE", most)
        out = tmp_path / name
        paths = {k: out / k for k in ("ideal_dataset", "imperfect_dataset", "manifest", "rejected")}
        stage.STAGE.execute({"ideal": ideal, "imperfect": [tmp_path / "imperfect"], **paths}, {})
        found[name] = paths
    assert found["file"]["ideal_dataset"].is_file() and len(parts(found["folder"]["ideal_dataset"])) == 3
    one, many = (read_gridded(found[name]["ideal_dataset"], "ideal") for name in ("file", "folder"))
    assert one[0].equals(many[0])
    np.testing.assert_array_equal(one[2]["intensity"], many[2]["intensity"])
    for name in ("imperfect_dataset", "manifest"):
        assert digest(found["file"][name]) == digest(found["folder"][name])


def test_a_full_disk_is_one_message_and_no_signal(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mapped has its room before it is written."""
    monkeypatch.setattr(datasets.tempfile, "tempdir", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"float32: can't be written \(File too large\)"):
            read_ideal(sharded, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.glob("*.float32"))


MAPPING = """
import sys
from pathlib import Path
from imitation_refinement.data import datasets
data = datasets.read_ideal(sys.argv[1], "train")
print(data.intensity.filename, float(data.intensity.sum()), flush=True)
data.intensity[:] = 0  # in this process alone
sys.stdin.read()
"""


def test_processes_share_what_is_mapped_and_leave_nothing(sharded: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-c", MAPPING, str(sharded)]
    started = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        for _ in range(2)
    ]
    said = [process.stdout.readline() for process in started if process.stdout]
    assert said[0] == said[1] and f" {float(read_ideal(sharded, 'train').intensity.sum())}\n" in said[0]
    assert len(list(temporary.glob("*.float32"))) == 1
    for process in started:
        process.communicate()
        assert process.returncode == 0
    assert list(temporary.iterdir()) == []
