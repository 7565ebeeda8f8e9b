"""The stage on files: shards, what was killed, and all gathered."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from components.identify import stage as module
from components.identify.gather import STAGE as GATHER
from components.identify.stage import STAGE
from imitation_refinement.answer.journal import Journal
from imitation_refinement.answer.record import ANSWERED, COLUMNS
from imitation_refinement.data.patterns import write_xy
from imitation_refinement.errors import InputError
from tests.shared.answer.conftest import measured, small_model

NAMES = ("BaSO4", "KCl", "NaCl", "TiO2", "ZnO")


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patterns")
    for name in NAMES:
        write_xy(folder / f"{name}.xy", *measured(name))
    (folder / "empty.xy").write_text("")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def asked(patterns: Path, model: Path, output: Path, shard: int, shards: int) -> Path:
    paths = {"patterns": patterns, "model": model, "answers": output / f"{shard}", "rejected": output / f"{shard}.csv"}
    options = {"wavelength": "1.5406", "processes": 1, "shard": shard, "shards": shards}
    STAGE.execute(paths, options)
    return output / f"{shard}"


def test_shards_gathered_are_the_whole(patterns: Path, model: Path, tmp_path: Path) -> None:
    shards = [asked(patterns, model, tmp_path, shard, 3) for shard in range(3)]
    assert [pq.read_metadata(shard).num_rows for shard in shards] == [2, 2, 1]  # empty.xy is the sixth
    target = {"gathered": tmp_path / "all.parquet", "all_rejected": tmp_path / "all.csv"}
    GATHER.execute({"answers": shards, "rejected": [f"{shard}.csv" for shard in shards], **target}, {})
    (tmp_path / "whole").mkdir()
    whole = pq.read_table(asked(patterns, model, tmp_path / "whole", 0, 1))
    gathered = pq.read_table(target["gathered"])
    assert gathered.schema.equals(ANSWERED) and gathered.sort_by("pattern_id").equals(whole.sort_by("pattern_id"))
    assert [Path(item).name for item in pd.read_csv(target["all_rejected"])["item"]] == ["empty.xy"]
    for row in gathered.to_pylist():
        said = json.loads(row["record"])
        assert row["candidate_1_formula"] == row["pattern_id"] == said["candidates"][0]["formula"]
        assert {name: row[name] for name in COLUMNS if name in said} == {n: said[n] for n in COLUMNS if n in said}


def test_a_shard_that_was_killed_goes_on(
    patterns: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pq.read_table(asked(patterns, model, tmp_path, 0, 2))
    assert not list(tmp_path.glob("*.journal"))
    (tmp_path / "0").unlink()
    add, added = Journal.add, []

    def stop(journal: Journal, entry: object) -> None:
        if added:
            raise KeyboardInterrupt
        added.append(entry)
        add(journal, entry)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Journal, "add", stop)
        asked(patterns, model, tmp_path, 0, 2)
    assert not (tmp_path / "0").exists()
    monkeypatch.setattr(Journal, "add", lambda journal, entry: (added.append(entry), add(journal, entry)))
    assert pq.read_table(asked(patterns, model, tmp_path, 0, 2)).equals(whole) and len(added) == 3


def test_bad_input(patterns: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file or folder"):
        asked(tmp_path / "none", model, tmp_path, 0, 1)
    with pytest.raises(InputError, match="shard must be below shards"):
        asked(patterns, model, tmp_path, 2, 2)
    assert module.STAGE.optional == {"model", "library"}
