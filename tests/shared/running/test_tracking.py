"""The tree of runs in a store of its own, and nothing of MLflow without one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.running.tracking import EXPERIMENT, PARENT_RUN_VARIABLE, Tracker, open_store, sqlite_uri

EXAMPLE = np.random.default_rng(0).random((2, 64), dtype=np.float32)


@dataclass
class Store:
    """A store with a parent run, a child that ended well and one that did not."""

    client: Any
    folder: Path
    parent: Any
    good: Any
    bad: Any
    output: np.ndarray


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    import mlflow
    import torch

    from imitation_refinement.learning.config import UNetConfig
    from imitation_refinement.learning.networks import UNet

    folder = tmp_path_factory.mktemp("store")
    (folder / "a.parquet").write_bytes(b"abc")
    (folder / "shards").mkdir()
    for i in range(2):
        (folder / "shards" / str(i)).write_text(str(i))
    torch.manual_seed(0)
    model = UNet(UNetConfig(widths=(8, 8), factor=2)).eval()
    torch.nn.init.normal_(model.output.weight)
    with torch.no_grad():
        output = model(torch.from_numpy(EXAMPLE)).numpy()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with Tracker.parent("whole run", uri, folder / "artifacts") as parent:
        parent.log_params({"name": "smoke"})
        with Tracker.stage("good one") as tracker:
            tracker.log_params({"optimiser": {"epochs": 3}, "wide": "x" * 7000} | {f"p{i}": i for i in range(150)})
            shards = [folder / "shards" / "0", folder / "shards" / "1"]
            tracker.log_inputs({"imperfect": folder / "a.parquet", "shards": shards})
            for epoch, loss in enumerate((0.5, 0.25, 0.125)):
                tracker.log_metrics({"loss": loss, "accuracy": 1 - loss}, epoch)
            tracker.log_figure(Figure(), "curve.png")
            tracker.log_artifact(folder / "a.parquet")
            tracker.log_artifact(folder / "shards", "all")
            tracker.set_tag("kind", "toy")
            tracker.log_model(model, "refiner", EXAMPLE)
        with pytest.raises(RuntimeError, match="no luck"), Tracker.stage("bad one"):
            raise RuntimeError("no luck")
        client = mlflow.MlflowClient()
    assert PARENT_RUN_VARIABLE not in os.environ and "MLFLOW_TRACKING_URI" not in os.environ
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"whole run", "good one", "bad one"}
    return Store(client, folder, runs["whole run"], runs["good one"], runs["bad one"], output)


@pytest.fixture
def in_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that was told to track there."""
    import mlflow

    uri = f"sqlite:///{store.folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)


def test_one_parent_with_its_children(store: Store) -> None:
    assert "mlflow.parentRunId" not in store.parent.data.tags
    for child in (store.good, store.bad):
        assert child.data.tags["mlflow.parentRunId"] == store.parent.info.run_id
        assert child.data.tags["stage"] == child.info.run_name
    statuses = [run.info.status for run in (store.parent, store.good, store.bad)]
    assert statuses == ["FINISHED", "FINISHED", "FAILED"]


def test_params(store: Store) -> None:
    params = store.good.data.params
    assert params["optimiser.epochs"] == "3" and params["p149"] == "149" and len(params) == 152
    assert set(params["wide"]) == {"x"}
    assert store.parent.data.params == {"name": "smoke"}


def test_inputs_with_their_digests(store: Store) -> None:
    found = {}
    for item in store.good.inputs.dataset_inputs:
        context = {tag.key: tag.value for tag in item.tags}["mlflow.data.context"]
        found[item.dataset.source] = (item.dataset.name, context, item.dataset.digest)
    files = {"a.parquet": "imperfect", "shards/0": "shards", "shards/1": "shards"}
    assert found == {
        str(store.folder / file): (name, name, digest(store.folder / file)[:36]) for file, name in files.items()
    }


def test_metrics_by_step(store: Store) -> None:
    history = store.client.get_metric_history(store.good.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 0.5), (1, 0.25), (2, 0.125)]
    assert store.good.data.metrics == {"loss": 0.125, "accuracy": 0.875}


def test_artifacts(store: Store) -> None:
    def names(path: str = "") -> list[str]:
        return [item.path for item in store.client.list_artifacts(store.good.info.run_id, path)]

    assert "a.parquet" in names() and names("figures") == ["figures/curve.png"] and names("all") == ["all/0", "all/1"]
    assert store.good.data.tags["kind"] == "toy"
    inside = Path(store.good.info.artifact_uri.removeprefix("file://"))
    assert inside.is_relative_to(store.folder / "artifacts")


def test_the_model_loads_again_and_gives_the_same(store: Store, in_store: None) -> None:
    import mlflow
    import torch

    (logged,) = store.good.outputs.model_outputs
    about = mlflow.models.get_model_info(f"models:/{logged.model_id}")
    signature = about.signature
    assert signature.inputs.inputs[0].shape == (-1, 64) and signature.outputs.inputs[0].shape == (-1, 64)
    assert signature.inputs.inputs[0].type == np.float32
    assert about.saved_input_example_info is not None
    model = mlflow.pytorch.load_model(f"models:/{logged.model_id}")
    with torch.no_grad():
        found = model(torch.from_numpy(EXAMPLE))
    np.testing.assert_allclose(found, store.output, rtol=1e-5, atol=1e-6)


def test_a_second_pipeline_run_uses_the_same_experiment(store: Store) -> None:
    with Tracker.parent("again", f"sqlite:///{store.folder / 'mlflow.db'}", store.folder / "elsewhere") as tracker:
        assert tracker.active
    experiment = store.client.get_experiment_by_name(EXPERIMENT)
    assert len(store.client.search_runs([experiment.experiment_id])) == 4


def test_a_killed_child_does_not_run_for_ever(tmp_path: Path) -> None:
    import mlflow

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with Tracker.parent("whole", store, tmp_path / "artifacts"):
        client, tags = mlflow.MlflowClient(), {"mlflow.parentRunId": os.environ[PARENT_RUN_VARIABLE]}
        experiment = client.get_run(os.environ[PARENT_RUN_VARIABLE]).info.experiment_id
        killed, somebody_else_s = (client.create_run(experiment, tags=given).info.run_id for given in (tags, {}))
    assert client.get_run(killed).info.status == "FAILED"
    assert client.get_run(somebody_else_s).info.status == "RUNNING"


def test_a_given_run_is_logged_to_and_left_open(store: Store, in_store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubeflow Pipelines' plugin makes a task's run, names it, and ends it itself."""
    experiment = store.client.create_experiment("of a cluster", artifact_location=str(store.folder / "cluster"))
    run = store.client.create_run(experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    monkeypatch.setenv(PARENT_RUN_VARIABLE, store.parent.info.run_id)
    with Tracker.stage("inside") as tracker:
        tracker.log_metrics({"x": 1})
    with pytest.raises(RuntimeError), Tracker.stage("inside"):
        raise RuntimeError
    (found,) = store.client.search_runs([experiment])
    assert found.info.run_id == run.info.run_id and found.data.metrics == {"x": 1}
    assert found.info.status == "RUNNING"


def test_a_stage_alone_with_a_store_has_a_run_of_its_own(store: Store, in_store: None) -> None:
    with Tracker.stage("alone") as tracker:
        tracker.log_params({"a": 1})
    experiment = store.client.get_experiment_by_name(EXPERIMENT)
    (found,) = store.client.search_runs([experiment.experiment_id], "attributes.run_name = 'alone'")
    assert "mlflow.parentRunId" not in found.data.tags and found.info.status == "FINISHED"


def test_nothing_is_tracked_and_mlflow_not_imported_without_a_store(tmp_path: Path) -> None:
    code = (
        "import sys; from imitation_refinement.running.tracking import Tracker\n"
        "with Tracker.stage('x') as t:\n"
        "    assert not t.active; t.log_params({'a': 1}); t.log_inputs({}); t.log_metrics({'m': 1.0}, 1)\n"
        "    t.log_figure(None, 'f'); t.log_artifact(None); t.set_tag('a', 'b'); t.log_model(None, 'm', None)\n"
        "assert not {'mlflow', 'torch', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


RACE = """
import sys, time
from pathlib import Path
import mlflow
from imitation_refinement.running.tracking import Tracker

uri, folder, other = sys.argv[1:]
client = mlflow.MlflowClient(uri)
tracker = Tracker(client, client.create_run("0").info.run_id)
Path(folder, f"{other}.ready").touch()
while len(list(Path(folder).glob("*.ready"))) < 2:
    time.sleep(0.001)
start = time.time() // 0.5 * 0.5 + 1
for i in range(10):  # both at the same moments
    time.sleep(max(0, start + i * 0.2 - time.time()))
    tracker.log_inputs({"new": Path(folder, f"{i}.txt"), "too": Path(folder, f"{i}.csv")})
"""


def test_two_stages_log_the_same_new_inputs_at_once(tmp_path: Path) -> None:
    import mlflow

    for i in range(10):
        (tmp_path / f"{i}.txt").write_text(f"text {i}")
        (tmp_path / f"{i}.csv").write_text(f"table {i}")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    client.search_experiments()
    command = [sys.executable, "-c", RACE, uri, str(tmp_path)]
    both = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in ("a", "b")]
    assert [(p.communicate()[1], p.returncode)[1] for p in both] == [0, 0]
    runs = client.search_runs(["0"])
    assert [len(run.inputs.dataset_inputs) for run in runs] == [20, 20]


START = """
import sys, time
from pathlib import Path
import mlflow, mlflow.store.tracking.sqlalchemy_store
from imitation_refinement.running.tracking import Tracker

folder = Path(sys.argv[1])
(folder / f"{sys.argv[2]}.ready").touch()
while len(list(folder.glob("*.ready"))) < 3:
    time.sleep(0.001)
with Tracker.parent(sys.argv[2], f"sqlite:///{folder / 'mlflow.db'}"):
    pass
"""


def test_pipeline_runs_that_begin_at_once_in_a_new_store(tmp_path: Path) -> None:
    import mlflow

    names = ("a", "b", "c")
    command = [sys.executable, "-c", START, str(tmp_path)]
    all_three = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in names]
    ended = [(p.communicate()[1], p.returncode) for p in all_three]
    assert [code for _, code in ended] == [0, 0, 0], ended
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == list(names)


class Refusal(BaseHTTPRequestHandler):
    """A server that knows nobody."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


def test_a_store_that_refuses_or_is_not_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        uri = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(uri)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(InputError, match=r"^MLFLOW_TRACKING_URI: .*401.* Set MLFLOW_TRACKING_USERNAME"):
            Tracker.stage("a stage").__enter__()
        with pytest.raises(InputError, match="401"):
            Tracker.parent("a run", uri).__enter__()
        server.shutdown()
        thread.join()
    with pytest.raises(InputError, match=r"^MLFLOW_TRACKING_URI: can't be used: .*127\.0\.0\.1.* Start the server"):
        Tracker.stage("a stage").__enter__()
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("{folder}/mlruns", "filesystem.* Give sqlite:///FILE or a server; `mlflow migrate-filestore`"),
        ("file://{folder}/mlruns", "filesystem.* Give sqlite:///FILE or a server"),
        ("mssql+pymssql://user@127.0.0.1:1/x", "pymssql.* Install that driver of the database"),
        ("foo://x", r"'foo://x'.* correct MLFLOW_TRACKING_URI"),
        ("sqlite:/x.db", "Could not parse.* correct MLFLOW_TRACKING_URI"),
        ("sqlite+nothing:///x.db", "nothing.* correct MLFLOW_TRACKING_URI"),
        ("sqlite:///{folder}/text.db", "not a database.* correct MLFLOW_TRACKING_URI"),
        ("http://[x", "Invalid.* correct MLFLOW_TRACKING_URI"),
        ("http://127.0.0.1:port", "Invalid url.* correct MLFLOW_TRACKING_URI"),
    ],
)
def test_what_is_no_store_is_one_line(uri: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    uri = uri.format(folder=tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match=rf"(?s)^MLFLOW_TRACKING_URI: can't be used: .*{said}") as error:
        open_store(uri)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["text.db"]


def test_an_experiment_that_is_deleted_or_unknown(
    store: Store, in_store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{store.folder / 'mlflow.db'}"
    deleted = store.client.create_experiment("gone")
    store.client.delete_experiment(deleted)
    for variable, value, said in (
        ("MLFLOW_EXPERIMENT_NAME", "gone", rf"gone: is deleted\. .*mlflow experiments restore -x {deleted}`"),
        ("MLFLOW_EXPERIMENT_ID", deleted, rf"{deleted}: is deleted\. .*mlflow experiments restore -x {deleted}`"),
        ("MLFLOW_EXPERIMENT_ID", "7777", r"7777: can't be used: No Experiment with id=7777.*in MLFLOW_EXPERIMENT_ID"),
        ("MLFLOW_EXPERIMENT_ID", "mine", r"mine: can't be used: .*integer.*in MLFLOW_EXPERIMENT_ID"),
        ("MLFLOW_EXPERIMENT_NAME", "x" * 501, r"can't be used: .*500.*in MLFLOW_EXPERIMENT_NAME"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(variable, value)
            for tracker in (Tracker.stage("a stage"), Tracker.parent("a run", uri)):
                with pytest.raises(InputError, match=said), tracker:
                    raise AssertionError("the block is not entered")
    store.client.restore_experiment(deleted)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", deleted)
    with Tracker.stage("restored"):
        pass
    assert [run.info.run_name for run in store.client.search_runs([deleted])] == ["restored"]


def test_a_run_that_several_calls_log_to_keeps_what_it_has(
    store: Store, in_store: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = store.client.create_run(store.client.create_experiment("mine")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    for name, seed in (("simulate", 0), ("preprocess", 5), ("simulate", 1), ("train: a/b&c", 2)):
        with Tracker.stage(name) as tracker:
            tracker.log_params({"seed": seed, "n": 7, f"only with {seed}": True})
    params = store.client.get_run(run).data.params
    seeds = {key: value for key, value in params.items() if key.endswith(".seed")}
    assert seeds == {"simulate.seed": "0", "preprocess.seed": "5", "train_ a_b_c.seed": "2"}
    assert params["simulate.only with 1"] == "True"
    said = "WARNING: MLflow keeps simulate.seed = 0, which was logged to this run before, not 1\n"
    assert capsys.readouterr().err == said
    store.client.delete_run(run)
    with pytest.raises(InputError, match=rf"^MLFLOW_RUN_ID {run}: is deleted\."), Tracker.stage("simulate"):
        raise AssertionError("the block is not entered")


def test_what_the_store_refuses_later_is_one_line(
    store: Store, in_store: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"^MLFLOW_TRACKING_URI: can't be used: .*deleted"), Tracker.stage("x") as it:
        store.client.delete_run(it._run_id)
        it.set_tag("kind", "toy")
    assert "deleted" in capsys.readouterr().err  # that its end could not be noted either


def test_a_folder_whose_name_an_address_quotes(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c%20d?e=1;é&100%"
    folder.mkdir()
    (folder / "result.txt").write_text("right")
    uri = sqlite_uri(folder / "mlflow.db")
    with Tracker.parent("a run", uri, folder / "artifacts") as tracker:
        tracker.log_artifact(folder / "result.txt")
    client, experiment = open_store(uri)
    (run,) = client.search_runs([experiment])
    assert {path.name for path in folder.iterdir()} == {"result.txt", "mlflow.db", "artifacts"}
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    (logged,) = (folder / "artifacts").rglob("result.txt")
    assert logged.read_text() == "right" and [item.path for item in client.list_artifacts(run.info.run_id)]
