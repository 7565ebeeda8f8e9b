"""The pipeline that identifies very many patterns: as YAML for a cluster, and run on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from imitation_refinement.data.patterns import write_xy
from imitation_refinement.errors import InputError
from pipelines.batch import compile_batch, read_batch
from pipelines.cli import main
from pipelines.cluster import Cluster, Volume
from tests.shared.answer.conftest import measured, small_model


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    path = tmp_path_factory.mktemp("compiled") / "batch.yaml"
    cluster = Cluster(data=Volume(claim="patterns", path="/data"), parallel_shards=4)
    config = read_batch(patterns="/data/many", shards=9, identify={"elements": "+Fe", "wavelength": "CuKa1"})
    compile_batch(config, path, cluster)
    pipeline, platform = yaml.safe_load_all(path.read_text())
    return pipeline, platform


def test_shards_fan_out_and_are_gathered(spec: tuple[dict[str, Any], dict[str, Any]]) -> None:
    pipeline, _ = spec
    loop = pipeline["root"]["dag"]["tasks"]["for-loop-1"]
    assert loop["iteratorPolicy"]["parallelismLimit"] == 4
    assert loop["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--shards"}
    (task,) = pipeline["components"][loop["componentRef"]["name"]]["dag"]["tasks"].values()
    assert task["retryPolicy"]["maxRetryCount"] == 2
    given = pipeline["root"]["dag"]["tasks"]["gather-answers"]["inputs"]["artifacts"]
    assert {name: source["taskOutputArtifact"]["producerTask"] for name, source in given.items()} == {
        "answers": "for-loop-1",
        "rejected": "for-loop-1",
    }
    images = {e["container"]["image"].partition(":")[0] for e in pipeline["deploymentSpec"]["executors"].values()}
    assert images == {"imitation-refinement/identify-python"}


def test_defaults_are_what_was_given_and_the_volume_is_mounted(spec: tuple[dict[str, Any], dict[str, Any]]) -> None:
    pipeline, platform = spec
    defaults = {k: v.get("defaultValue") for k, v in pipeline["root"]["inputDefinitions"]["parameters"].items()}
    assert defaults["patterns"] == "/data/many" and defaults["shards"] == list(range(9)) and defaults["n_shards"] == 9
    assert defaults["identify"] == {"wavelength": "CuKa1", "elements": "+Fe", "scan": "all", "axis": "", "processes": 0}
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert all(e["pvcMount"][0]["mountPath"] == "/data" for e in executors.values())


def test_what_a_cluster_can_not_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no name for a pipeline"):
        compile_batch(read_batch(), tmp_path / "batch.txt")
    with pytest.raises(InputError, match="the cluster has no volume with data"):
        compile_batch(read_batch(patterns="/data/many"), tmp_path / "batch.yaml")
    with pytest.raises(InputError, match=r"shards: .*greater than or equal to 1"):
        read_batch(shards=0)
    assert not list(tmp_path.iterdir())


def test_it_runs_on_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, runs = tmp_path / "patterns", tmp_path / "runs"
    folder.mkdir()
    for name in ("NaCl", "TiO2"):
        write_xy(folder / f"{name}.xy", *measured(name))
    (tmp_path / "model").mkdir()
    model = small_model(tmp_path / "model")
    options = ["--model", str(model), "--wavelength", "1.5406", "--shards", "1", "--output", str(runs)]
    main(["batch", "run", str(folder), *options])
    (made,) = runs.glob("2*")
    assert capsys.readouterr().out.splitlines()[-1] == f"answers: {made / 'answers.parquet'}"
    table = pq.read_table(made / "answers.parquet", columns=["pattern_id", "candidate_1_formula"])
    assert table.to_pylist() == [{"pattern_id": n, "candidate_1_formula": n} for n in ("NaCl", "TiO2")]
    assert sorted(p.name for p in made.iterdir()) == ["answers.parquet", "log.txt", "rejected.csv", "tracking"]
    with pytest.raises(SystemExit):
        main(["batch", "run", str(folder / "none"), *options])
