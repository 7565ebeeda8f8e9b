"""A shard of the simulation whose process dies is done again, alone, and nothing of it shows in the data set."""

from __future__ import annotations

import builtins
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from kfp import components, local

from components.preprocess.stage import STAGE as PREPROCESS
from components.simulate.stage import STAGE as SIMULATE
from imitation_refinement.errors import InputError
from imitation_refinement.running.stage import ERROR_FILE_VARIABLE, exit_on_input_error
from pipelines import processes
from pipelines.compile import compile_pipeline
from pipelines.profiles import Profile, read_profile
from pipelines.records import Records

SHARDS = 3
FIRST_STAGES = ("collect-structures", "for-loop-1", "preprocess")

# Python runs a sitecustomize of its path as it starts. This one notes each attempt at a shard, and kills the first at
# shard 1 when one of its files is in place and the other is about to be.
KILLER = """
import os, sys

def die(event, values):
    if event == "os.rename" and os.path.basename(values[1]) == "imperfect":
        shard = os.path.dirname(values[1]).partition("iteration-")[2][0]
        with open(os.environ["ATTEMPTS"], "a+") as stream:
            stream.seek(0)
            first = shard not in stream.read().split()
            stream.write(shard + "\\n")
        if first and shard == "1":
            os._exit(137)

sys.addaudithook(die)
"""


def first_stages(profile: Profile, folder: Path) -> Any:
    """The pipeline as compiled, up to the collected data set."""
    compile_pipeline(profile, folder / "pipeline.yaml")
    spec = next(yaml.safe_load_all((folder / "pipeline.yaml").read_text()))
    tasks = spec["root"]["dag"]["tasks"]
    spec["root"]["dag"]["tasks"] = {name: tasks[name] for name in FIRST_STAGES}
    shard = spec["components"]["comp-for-loop-1"]["dag"]["tasks"]["simulate"]
    shard["retryPolicy"]["backoffDuration"] = "0s"  # a cluster may want half a minute to mend
    return components.load_component_from_text(yaml.safe_dump(spec))


def test_a_shard_that_dies_is_retried_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = read_profile("smoke", [f"shards={SHARDS}"])
    (tmp_path / "sitecustomize.py").write_text(KILLER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("ATTEMPTS", str(tmp_path / "attempts"))
    monkeypatch.setattr(builtins, "print", builtins.print)  # KFP may leave its own
    root = tmp_path / "root"
    with processes.tasks(Records({}, "")) as runner:
        local.init(runner, pipeline_root=str(root), enable_caching=False)
        first_stages(profile, tmp_path)()

    assert Counter((tmp_path / "attempts").read_text().split()) == {"0": 1, "1": 2, "2": 1}
    (made,) = root.iterdir()
    data = undisturbed(made / "collect-structures", profile, tmp_path / "undisturbed")
    for name, expected in data.items():
        found = pq.read_table(made / "preprocess" / name)
        assert found.num_rows > 100 and found.equals(pq.read_table(expected), check_metadata=True), name


def undisturbed(collected: Path, profile: Profile, folder: Path) -> dict[str, Path]:
    """The data set of the same structures and shards, none of which dies; name of an output → file."""
    options = profile.parameters()
    shards: dict[str, list[Path]] = {"ideal": [], "imperfect": []}
    for shard in range(SHARDS):
        out = {name: folder / f"{name}{shard}" for name in shards}
        sources = {name: collected / f"collected_{name}" for name in ("structures", "patterns")}
        SIMULATE.execute({**sources, **out}, {**options["simulate"], "shard": shard, "shards": SHARDS})
        for name, path in out.items():
            shards[name].append(path)
    data = {name: folder / name for name in ("ideal_dataset", "imperfect_dataset")}
    PREPROCESS.execute({**shards, **data, "manifest": folder / "m", "rejected": folder / "r"}, options["preprocess"])
    return data


def test_bad_input_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """KFP tries again whatever the reason; the first attempt's error stands, and no later attempt does any work."""
    monkeypatch.setenv(ERROR_FILE_VARIABLE, str(tmp_path / "error.txt"))
    tried = []
    for attempt in range(3):
        with pytest.raises(SystemExit) as end, exit_on_input_error():
            tried.append(attempt)
            raise InputError("a.parquet", f"is bad {attempt}.", "Mend it.")
        assert end.value.code == 2
    assert tried == [0]
    assert capsys.readouterr().err.count("error: a.parquet: is bad 0. Mend it.\n") == 1
    assert json.loads((tmp_path / "error.txt").read_text()) == ["a.parquet", "is bad 0.", "Mend it."]
