"""What a run says that it was given."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from imitation_refinement.data.contracts import read_sources, with_sources
from imitation_refinement.files import digest
from imitation_refinement.running.lineage import data_set, is_model, model_digest


def test_models_are_known_whatever_they_are_called(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "models").mkdir(parents=True)
    model = run / "models" / "vgg.safetensors"
    save_file({"weight": np.zeros((2, 3), np.float32)}, model, {"imitation_refinement": "{}"})
    other = tmp_path / "classifier"  # as Kubeflow's artifacts, without a suffix
    other.write_bytes(model.read_bytes())
    assert is_model(model) and is_model(other) and is_model(run / "models") and is_model(run)
    assert model_digest(other) == model_digest(model) == sha256(model.read_bytes()).hexdigest()
    (tmp_path / "text").write_text('{"no": "model"}' * 9)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "table")
    assert not any(is_model(tmp_path / name) for name in ("text", "table", "nothing")) and not is_model(tmp_path)


def test_the_digest_of_a_folder_of_models_is_of_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in "ab":
        (tmp_path / "models" / f"{name}.safetensors").write_text(name)
    before = model_digest(tmp_path)
    (tmp_path / "log.txt").write_text("what is no model does not count")
    assert model_digest(tmp_path) == before
    (tmp_path / "models" / "b.safetensors").write_text("c")
    assert model_digest(tmp_path) != before


def test_a_table_says_where_it_came_from_what_it_has_and_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "artifact-1"
    split, system = ["train", "train", "test", None], ["cubic", "cubic", "cubic", "trigonal"]
    fields = [pa.field("split", pa.string()), pa.field("crystal_system", pa.string(), nullable=False)]
    schema = with_sources(pa.schema(fields, metadata={b"grid": b"1"}), {"structures": "minerals (xraylarch 0.9.66)"})
    pq.write_table(pa.table({"split": split, "crystal_system": system}, schema), path)
    assert read_sources(path) == {"structures": "minerals (xraylarch 0.9.66)"}
    assert pq.read_schema(path).metadata[b"grid"] == b"1"
    found = data_set("ideal_dataset", path)
    assert found["name"] == "ideal_dataset" and found["digest"] == digest(path)
    assert (found["kind"], found["source"]) == ("named", "structures: minerals (xraylarch 0.9.66)")
    assert json.loads(found["schema"])["mlflow_colspec"] == [
        {"name": "split", "type": "string", "required": False},
        {"name": "crystal_system", "type": "string", "required": True},
    ]
    profile = {"num_rows": 4, "splits": {"None": 1, "test": 1, "train": 2}, "classes": {"cubic": 3, "trigonal": 1}}
    assert json.loads(found["profile"]) == profile


def test_a_table_in_several_files_is_counted_whole(tmp_path: Path) -> None:
    for i in range(2):
        pq.write_table(pa.table({"crystal_system": ["cubic"] * (i + 1)}), tmp_path / f"part-{i}.parquet")
    found = data_set("ideal", tmp_path)
    assert json.loads(found["profile"]) == {"num_rows": 3, "classes": {"cubic": 3}}
    assert (found["kind"], found["source"]) == ("local", str(tmp_path))


def test_what_is_no_table_has_its_path_and_digest(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text("data_a")
    assert data_set("structures", tmp_path) == {
        "name": "structures",
        "digest": digest(tmp_path),
        "kind": "local",
        "source": str(tmp_path),
    }
    assert data_set("structures", Path("minerals"))["source"] == "minerals"
