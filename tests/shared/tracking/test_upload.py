"""Journals as a store has them in the end: everything, once, as it was, however often the upload was broken off."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.running.journal import EVENTS, REFUSED, SENT, Journal, journals, waiting
from imitation_refinement.running.tracking import EXPERIMENT, PARENT_RUN_VARIABLE, Tracker
from imitation_refinement.tracking import upload
from imitation_refinement.tracking.upload import Upload, sync

PARENT_TAG = "mlflow.parentRunId"


@dataclass
class Tree:
    """A store with a parent run, a child that ended well and one that did not."""

    client: Any
    folder: Path
    uri: str
    events: list[dict[str, Any]]  # of the good one's journal
    runs: dict[str, Any]


@pytest.fixture(scope="module")
def tree(empty_store: Path, uploads_here: type, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    import mlflow

    from imitation_refinement.running import tracking

    folder = tmp_path_factory.mktemp("runs")
    (folder / "a.parquet").write_bytes(b"abc")
    (folder / "shards").mkdir()
    for i in range(2):
        (folder / "shards" / str(i)).write_text(str(i))
    uri = f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "Uploader", uploads_here)
        with Tracker.parent("whole run", folder / "run" / "tracking", uri, folder / "artifacts") as parent:
            parent.log_params({"name": "smoke"})
            with Tracker.stage("good one") as tracker:
                tell_everything(tracker, folder)
            with pytest.raises(RuntimeError, match="no luck"), Tracker.stage("bad one"):
                raise RuntimeError("no luck")
            (good,) = (known for known in journals(folder) if known.about["name"] == "good one")
            events = [json.loads(line) for _, line in good.lines()]
        assert PARENT_RUN_VARIABLE not in os.environ and "MLFLOW_TRACKING_URI" not in os.environ
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"a better name", "good one", "bad one", "method 1", "method 2"}
    yield Tree(client, folder, uri, events, runs)


def tell_everything(tracker: Tracker, folder: Path) -> None:
    tracker.log_params({"optimiser": {"epochs": 3}, "wide": "x" * 7000} | {f"p{i}": i for i in range(150)})
    shards = [folder / "shards" / "0", folder / "shards" / "1"]
    tracker.log_inputs({"imperfect": folder / "a.parquet", "shards": shards})
    for epoch, loss in enumerate((0.5, 0.25, 0.125)):
        tracker.log_metrics({"loss": loss, "accuracy": 1 - loss}, epoch)
    tracker.log_figure(Figure(), "curve.png")
    tracker.log_artifact(folder / "a.parquet")
    tracker.log_artifact(folder / "shards", "all")
    tracker.log_table(pd.DataFrame({"method": ["ir", "dwt"], "accuracy": [0.1 + 0.2, np.nan]}), "rows.json")
    tracker.log_table(pd.DataFrame({"x": [1]}), "more.json")
    tracker.set_tag("kind", "toy")
    tracker.note("*what it is*")
    tracker.child("method 1", {"method": "ir"}, {"accuracy": 0.5}, {"a": {"b": 1}})
    tracker.above.log_metrics({"accuracy": 0.75})
    tracker.above.note("**headline**")
    tracker.above.rename("a better name")
    tracker.above.child("method 2", {"method": "dwt"}, {"accuracy": 0.25})


def test_one_parent_with_its_children(tree: Tree) -> None:
    parent, good, bad = (tree.runs[name] for name in ("a better name", "good one", "bad one"))
    assert PARENT_TAG not in parent.data.tags
    for child in (good, bad):
        assert child.data.tags[PARENT_TAG] == parent.info.run_id
        assert child.data.tags["stage"] == child.info.run_name
    assert [run.info.status for run in (parent, good, bad)] == ["FINISHED", "FINISHED", "FAILED"]


def test_runs_begin_and_end_when_they_did(tree: Tree) -> None:
    info = tree.runs["good one"].info
    assert (info.start_time, info.end_time) == (tree.events[0]["time"], tree.events[-1]["time"])


def test_params(tree: Tree) -> None:
    params = tree.runs["good one"].data.params
    assert params["optimiser.epochs"] == "3" and params["p149"] == "149" and len(params) == 152
    assert set(params["wide"]) == {"x"}
    assert tree.runs["a better name"].data.params == {"name": "smoke"}


def test_inputs_with_their_digests(tree: Tree) -> None:
    found = {}
    for item in tree.runs["good one"].inputs.dataset_inputs:
        context = {tag.key: tag.value for tag in item.tags}["mlflow.data.context"]
        found[item.dataset.source] = (item.dataset.name, context, item.dataset.digest)
    files = {"a.parquet": "imperfect", "shards/0": "shards", "shards/1": "shards"}
    assert found == {
        str(tree.folder / file): (name, name, digest(tree.folder / file)[:36]) for file, name in files.items()
    }


def test_metrics_with_steps_and_times(tree: Tree) -> None:
    run = tree.runs["good one"]
    history = tree.client.get_metric_history(run.info.run_id, "loss")
    told = [event for event in tree.events if event["kind"] == "metrics" and "loss" in event["data"]["values"]]
    assert [(m.step, m.value) for m in history] == [(0, 0.5), (1, 0.25), (2, 0.125)]
    assert [m.timestamp for m in history] == [event["time"] for event in told]
    assert run.data.metrics == {"loss": 0.125, "accuracy": 0.875}


def test_artifacts(tree: Tree) -> None:
    run = tree.runs["good one"]

    def names(path: str = "") -> list[str]:
        return [item.path for item in tree.client.list_artifacts(run.info.run_id, path)]

    assert "a.parquet" in names() and names("figures") == ["figures/curve.png"] and names("all") == ["all/0", "all/1"]
    assert run.data.tags["kind"] == "toy" and run.data.tags["mlflow.note.content"] == "*what it is*"
    inside = Path(run.info.artifact_uri.removeprefix("file://"))
    assert inside.is_relative_to(tree.folder / "artifacts")
    assert (inside / "a.parquet").read_bytes() == b"abc" and (inside / "all" / "1").read_text() == "1"


def test_tables_as_mlflow_has_them(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tree.uri)
    frame = tree.client.load_table(
        tree.runs["good one"].info.experiment_id, "tables/rows.json", [tree.runs["good one"].info.run_id]
    )
    assert frame["method"].tolist() == ["ir", "dwt"] and frame["accuracy"][0] == 0.1 + 0.2
    assert np.isnan(frame["accuracy"][1])
    listed = json.loads(tree.runs["good one"].data.tags["mlflow.loggedArtifacts"])
    assert [item["path"] for item in listed] == ["tables/rows.json", "tables/more.json"]


def test_rows_are_runs_of_their_own(tree: Tree) -> None:
    parent, good, one, two = (tree.runs[n] for n in ("a better name", "good one", "method 1", "method 2"))
    assert one.data.tags[PARENT_TAG] == good.info.run_id and two.data.tags[PARENT_TAG] == parent.info.run_id
    assert one.data.metrics == {"accuracy": 0.5} and one.data.params == {"a.b": "1"} and one.info.status == "FINISHED"
    assert two.data.tags["method"] == "dwt"


def test_what_is_told_of_the_run_above(tree: Tree) -> None:
    parent = tree.runs["a better name"]
    assert parent.data.metrics == {"accuracy": 0.75} and parent.data.tags["mlflow.note.content"] == "**headline**"


def test_nothing_of_it_waits_and_no_file_is_kept_twice(tree: Tree) -> None:
    assert waiting(tree.folder) == 0 and not list(tree.folder.glob("run/tracking/*/files"))


def state(client: Any) -> list[Any]:
    """All that a store has of runs, but for ids."""
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    names = {run.info.run_id: run.info.run_name for run in runs}
    found = []
    for run in runs:
        id_ = run.info.run_id
        tags = {k: names.get(v, v) for k, v in run.data.tags.items()}
        metrics = [
            (m.key, m.step, m.timestamp, m.value)
            for key in run.data.metrics
            for m in client.get_metric_history(id_, key)
        ]
        inputs = sorted(item.dataset.digest for item in run.inputs.dataset_inputs)
        root = Path(run.info.artifact_uri.removeprefix("file://"))
        files = sorted((p.relative_to(root).as_posix(), digest(p)) for p in root.rglob("*") if p.is_file())
        times = run.info.start_time, run.info.end_time
        found.append([run.info.run_name, run.info.status, times, tags, run.data.params, metrics, inputs, files])
    return sorted(found, key=lambda item: item[0])


class Broken(Exception):
    """In the place of a kill."""


def queued(folder: Path, uri: str, patch: pytest.MonkeyPatch) -> Path:
    """Journals of a parent and a stage that nothing has uploaded."""
    from imitation_refinement.running import tracking

    class Idle:
        def __init__(self, *_: object) -> None: ...
        def finish(self, hurry: bool) -> None: ...

    (folder / "a.parquet").write_bytes(b"abc")
    (folder / "shards").mkdir(exist_ok=True)
    for i in range(2):
        (folder / "shards" / str(i)).write_text(str(i))
    patch.setattr(tracking, "Uploader", Idle)
    with Tracker.parent("whole run", folder / "tracking", uri, folder / "artifacts"), Tracker.stage("one") as tracker:
        tell_everything(tracker, folder)
    return folder / "tracking"


def test_broken_off_anywhere_and_begun_again(
    empty_store: Path, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed by chance after a request, before that could be noted; the store has the same in the end."""
    import mlflow

    root = queued(tmp_path, uri, monkeypatch)
    copy = tmp_path / "undisturbed"
    shutil.copytree(root, copy / "tracking")
    other = f"sqlite:///{shutil.copy(empty_store, copy / 'mlflow.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    Upload(copy).once()
    expected = state(mlflow.MlflowClient(other))
    assert waiting(copy) == 0 and len(expected) == 4

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    note, chance, breaks = upload.Known.note_sent, random.Random(1), 0

    def broken(self: Any, record: Any) -> None:
        nonlocal breaks
        if chance.random() < 0.4:
            breaks += 1
            raise Broken
        note(self, record)

    monkeypatch.setattr(upload.Known, "note_sent", broken)
    for _ in range(200):
        try:
            Upload(root).once()
            break
        except Broken:
            continue
    assert breaks > 10 and waiting(root) == 0
    assert state(mlflow.MlflowClient(uri)) == expected


def test_another_store_gets_all_and_what_was_sent_is_sent(
    empty_store: Path, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    root = queued(tmp_path, uri, monkeypatch)
    stores = [f"sqlite:///{shutil.copy(empty_store, tmp_path / f'{name}.db')}" for name in ("whole", "other", "third")]
    shutil.copytree(root, tmp_path / "copy")

    def upload_to(store: str, folder: Path) -> list[Any]:
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", store)
            Upload(folder).once()
        return state(mlflow.MlflowClient(store))

    expected = upload_to(stores[0], tmp_path / "copy")
    with monkeypatch.context() as patch, pytest.raises(Broken):
        patch.setattr(upload.Replay, "_log_table", lambda *_: (_ for _ in ()).throw(Broken))
        patch.setattr(upload.Replay, "_guard", lambda self, action: action())
        Upload(root).once()  # to the store of the journal, broken off halfway
    assert waiting(root) > 0 and len(expected) == 4
    assert upload_to(stores[1], root) == expected and waiting(root) == 0
    assert upload_to(stores[2], root) == []


def test_runs_that_were_moved_with_their_store(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    (tmp_path / "runs" / "1").mkdir(parents=True)
    store = shutil.move(tmp_path / "mlflow.db", tmp_path / "runs" / "mlflow.db")
    queued(tmp_path / "runs" / "1", f"sqlite:///{store}", monkeypatch)
    moved = (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert sync(moved / "1") == 0
    assert len(state(mlflow.MlflowClient(f"sqlite:///{moved / 'mlflow.db'}"))) == 4
    assert not (tmp_path / "runs").exists()


def test_the_half_line_of_a_killed_stage(client: Any, tmp_path: Path) -> None:
    """What was written whole is uploaded; the run is said to have failed."""
    journal = Journal(tmp_path / "j", "killed")
    store = {"uri": client.tracking_uri, "artifacts": str(tmp_path / "a"), "experiment_name": EXPERIMENT}
    journal.append("begin", {"uuid": journal.uuid, "name": "killed", "tags": {}, "store": store})
    journal.append("metrics", {"step": 3, "values": {"loss": 0.5}})
    journal.append("tag", {"key": "cut", "value": "off"})
    path = journal.folder / EVENTS
    path.write_bytes(path.read_bytes()[:-5])
    Upload(tmp_path).once()
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == "RUNNING" and run.data.metrics == {"loss": 0.5} and "cut" not in run.data.tags
    last = json.loads(path.read_bytes().splitlines()[1])["time"]
    journal.close()  # as the kernel does
    Upload(tmp_path).once()
    (run,) = client.search_runs([run.info.experiment_id])
    assert (run.info.status, run.info.end_time) == ("FAILED", last)


def test_a_killed_child_does_not_run_for_ever(client: Any, tmp_path: Path, uri: str) -> None:
    with Tracker.parent("whole", tmp_path / "tracking", uri, tmp_path / "artifacts"):
        child = Journal(tmp_path / "tracking", "killed")
        about = {"name": "killed", "tags": {}, "parent": os.environ[PARENT_RUN_VARIABLE]}
        child.append("begin", {"uuid": child.uuid, **about})
        somebody_else_s = client.create_run("0").info.run_id
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    found = {run.info.run_name: run.info.status for run in client.search_runs([experiment])}
    assert found == {"whole": "FINISHED", "killed": "FAILED"}
    assert client.get_run(somebody_else_s).info.status == "RUNNING"


def test_a_run_that_goes_on_is_one_run(client: Any, tmp_path: Path, uri: str) -> None:
    with pytest.raises(KeyboardInterrupt), Tracker.parent("whole", tmp_path / "t", uri, tmp_path / "a") as tracker:
        tracker.log_params({"seed": 1})
        raise KeyboardInterrupt
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    (cut,) = client.search_runs([experiment])
    assert cut.info.status == "FAILED"
    with Tracker.parent("whole", tmp_path / "t", uri, tmp_path / "a") as tracker:
        tracker.log_params({"seed": 1})
        tracker.log_metrics({"accuracy": 1})
    (whole,) = client.search_runs([experiment])
    assert whole.info.run_id == cut.info.run_id and whole.info.status == "FINISHED"
    assert whole.data.metrics == {"accuracy": 1} and whole.info.start_time == cut.info.start_time


def test_what_the_store_refuses_is_set_aside_and_said_once(
    client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracker.stage("a stage", beside=tmp_path / "out.bin") as tracker:
        tracker.log_metrics({"good": 1}, 1)
        tracker.log_metrics({"bad\nname": 1}, 2)
        tracker.log_metrics({"good": 2}, 3)
        tracker.set_tag("k" * 5000, "v")
        tracker.set_tag("after", "it")
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    (run,) = client.search_runs([experiment])
    assert [m.step for m in client.get_metric_history(run.info.run_id, "good")] == [1, 3]
    assert run.data.tags["after"] == "it" and run.info.status == "FINISHED" and len(run.data.metrics) == 1
    (kept,) = tmp_path.glob(f"out.bin.tracking/*/{REFUSED}")
    assert [json.loads(line)["kind"] for line in kept.read_text().splitlines()] == ["metrics", "tag"]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("WARNING")]
    assert len(said) == 2 and all("MLflow refuses" in line and str(kept) in line for line in said)


def test_a_folder_of_artifacts_that_fills_up_holds_up_nothing_else(
    client: Any, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = tmp_path / "artifacts"
    with Tracker.parent("whole", tmp_path / "t", uri, artifacts) as tracker:
        (tmp_path / "a.txt").write_text("a")
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    shutil.rmtree(artifacts, ignore_errors=True)
    artifacts.write_text("no folder")  # so nothing can be written there
    with Tracker.parent("whole", tmp_path / "t", uri, artifacts) as tracker:
        tracker.log_artifact(tmp_path / "a.txt")
        tracker.log_metrics({"accuracy": 1})
    (run,) = client.search_runs([experiment])
    assert run.data.metrics == {"accuracy": 1} and run.info.status == "FINISHED" and waiting(tmp_path) == 1
    artifacts.unlink()
    assert sync(tmp_path / "t") == 0
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["a.txt"]


def test_a_given_run_is_logged_to_and_left_open(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubeflow Pipelines' plugin makes a task's run, names it, and ends it itself."""
    experiment = client.create_experiment("of a cluster", artifact_location=str(tmp_path / "cluster"))
    run = client.create_run(experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    with Tracker.stage("inside", beside=tmp_path / "x") as tracker:
        tracker.log_metrics({"x": 1})
    with pytest.raises(RuntimeError), Tracker.stage("inside", beside=tmp_path / "x"):
        raise RuntimeError
    (found,) = client.search_runs([experiment])
    assert found.info.run_id == run.info.run_id and found.data.metrics == {"x": 1}
    assert found.info.status == "RUNNING" and not list(tmp_path.glob("x.tracking/*"))


def test_a_stage_alone_with_a_store_has_a_run_of_its_own(client: Any, tmp_path: Path) -> None:
    with Tracker.stage("alone", beside=tmp_path / "model") as tracker:
        tracker.log_params({"a": 1})
        tracker.above.log_metrics({"accuracy": 1})
        assert list(tmp_path.glob("model.tracking/alone-*"))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (found,) = client.search_runs([experiment.experiment_id])
    assert PARENT_TAG not in found.data.tags and found.info.status == "FINISHED"
    assert found.data.metrics == {"accuracy": 1}
    assert not list(tmp_path.glob("model.tracking/*"))  # nothing is left of what was uploaded


def test_a_run_that_several_calls_log_to_keeps_what_it_has(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = client.create_run(client.create_experiment("mine")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    for name, seed in (("simulate", 0), ("preprocess", 5), ("simulate", 1), ("train: a/b&c", 2)):
        with Tracker.stage(name, beside=tmp_path / "x") as tracker:
            tracker.log_params({"seed": seed, "n": 7, f"only with {seed}": True})
    params = client.get_run(run).data.params
    seeds = {key: value for key, value in params.items() if key.endswith(".seed")}
    assert seeds == {"simulate.seed": "0", "preprocess.seed": "5", "train_ a_b_c.seed": "2"}
    assert params["simulate.only with 1"] == "True"
    said = "WARNING: MLflow keeps simulate.seed = 0, which was logged to this run before, not 1\n"
    assert capsys.readouterr().err == said
    client.delete_run(run)
    with pytest.raises(InputError, match=rf"^MLFLOW_RUN_ID {run}: is deleted\."), Tracker.stage("simulate"):
        raise AssertionError("the block is not entered")


def test_a_run_that_is_deleted_meanwhile_ends_no_stage(
    client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracker.stage("x", beside=tmp_path / "x") as tracker:
        tracker.set_tag("a", "b")
        Upload(tmp_path).once()
        (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
        client.delete_run(run.info.run_id)
        tracker.set_tag("kind", "toy")
    assert "MLflow refuses tag" in capsys.readouterr().err
    (kept,) = tmp_path.glob(f"x.tracking/*/{REFUSED}")
    assert "toy" in kept.read_text()


def test_nothing_to_sync(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="holds no journal"):
        sync(tmp_path)
    with pytest.raises(SystemExit) as end:
        upload.main([str(tmp_path)])
    assert end.value.code == 2 and capsys.readouterr().err.startswith(f"error: {tmp_path}: holds no journal")


def test_two_uploaders_at_once_are_kept_apart(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = queued(tmp_path, uri, monkeypatch)
    with upload._locked(next(root.iterdir())) as mine:
        assert mine
        other = Upload(root)
        other.once()
        assert len(other.busy) == 1
    assert sync(root) == 0
    assert all((known.folder / SENT).exists() for known in journals(root))


def test_models_and_what_is_registered_are_handed_on(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the modules for that; registered is what all other parts of the run have been uploaded before."""
    import mlflow

    (tmp_path / "w.bin").write_bytes(b"weights")
    with monkeypatch.context() as patch:
        queued(tmp_path, uri, patch)
        with Tracker.parent("whole run", tmp_path / "tracking", uri), Tracker.stage("late") as tracker:
            tracker.register({"why": 1}, {"refiner": tmp_path / "w.bin"})
            tracker.log_model("selected", {"refiner": tmp_path / "w.bin"}, "card", {"a": "b"}, {"loss": 1})
            tracker.set_tag("after", "it")
    calls: list[tuple[str, Any]] = []
    client = mlflow.MlflowClient(uri)

    def log(at: Any, run_id: str, spec: dict[str, Any], folder: Path) -> None:
        calls.append(("log", spec))
        tags = {f"{name}_sha256": value for name, value in spec["sha256"].items()}
        made = at.create_logged_model(at.get_run(run_id).info.experiment_id, spec["name"], run_id, tags)
        at.finalize_logged_model(made.model_id, "READY")
        at.log_outputs(run_id, [mlflow.entities.LoggedModelOutput(made.model_id, 0)])
        if len(calls) < 3:
            raise Broken  # before it could be noted

    def register(at: Any, run_id: str, spec: dict[str, Any], folder: Path) -> None:
        assert (folder / spec["files"]["refiner"]).read_bytes() == b"weights"
        others = at.search_runs([at.get_run(run_id).info.experiment_id], "attributes.run_name = 'one'")
        calls.append(("register", (spec["evidence"], others[0].info.status)))

    for name, function in (("served", log), ("registry", register)):
        module = SimpleNamespace(**{function.__name__: function})
        monkeypatch.setitem(sys.modules, f"imitation_refinement.tracking.{name}", module)
        monkeypatch.setattr(f"imitation_refinement.tracking.{name}", module, raising=False)
    monkeypatch.setattr(upload.Replay, "_guard", lambda self, action: action())
    with pytest.raises(Broken):
        Upload(tmp_path).once()
    assert sync(tmp_path) == 0
    assert [kind for kind, _ in calls] == ["register", "log"]  # the model was there already
    assert calls[0][1] == ({"why": 1}, "FINISHED")
    assert calls[1][1]["card"] == "card" and calls[1][1]["metrics"] == {"loss": 1.0}
    (late,) = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.after = 'it'")
    assert len(late.outputs.model_outputs) == 1


def test_two_runs_log_the_same_new_inputs_at_once(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for name in ("a", "b"):
        journal = Journal(tmp_path / name, name)
        store = {"uri": uri, "artifacts": str(tmp_path / "artifacts"), "experiment_id": "0", "experiment_name": "x"}
        journal.append("begin", {"uuid": journal.uuid, "name": name, "tags": {}, "store": store})
        for i in range(20):
            found = [{"name": n, "digest": f"{n}{i}", "kind": "local", "source": f"{n}{i}"} for n in ("new", "too")]
            journal.append("inputs", {"inputs": found})
        journal.close()
    both = []
    for name in ("a", "b"):
        both.append(os.fork())  # not from the beginning: the libraries take seconds
        if not both[-1]:
            try:
                (tmp_path / name / "ready").touch()
                while len(list(tmp_path.glob("*/ready"))) < 2:
                    time.sleep(0.001)
                Upload(tmp_path / name).once()
                os._exit(0)
            finally:
                os._exit(1)
    assert [os.waitpid(process, 0)[1] for process in both] == [0, 0]
    runs = mlflow.MlflowClient(uri).search_runs(["0"])
    assert [len(run.inputs.dataset_inputs) for run in runs] == [40, 40] and not waiting(tmp_path)
    assert not list(tmp_path.rglob(REFUSED))


def test_the_uploader_needs_only_what_every_image_has(tmp_path: Path) -> None:
    code = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("scipy", "sklearn", "matplotlib", "torch", "numba", "jinja2", "kfp"):
            raise ImportError(f"no {name}")

sys.meta_path.insert(0, Absent())
import imitation_refinement.tracking.upload
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_samples_of_the_machine_are_counted_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a run that goes on count on; a day less on the clock makes no step negative."""
    journal = Journal(tmp_path, "a stage")
    journal.append("begin", {"uuid": journal.uuid, "name": "a stage"})
    (known,) = journals(tmp_path)
    now = time.time()

    def steps(number: int) -> list[int]:
        """Of all samples, when there are so many."""
        sampler = upload.Sampler(known)
        taken = itertools.count(1)
        sampler.over = SimpleNamespace(is_set=lambda: False, wait=lambda _: next(taken) == number and sys.exit())
        with pytest.raises(SystemExit):
            sampler.run()
        events = [json.loads(line) for _, line in known.lines()]
        assert all(event["data"]["values"] for event in events if event["kind"] == "system")
        return [event["data"]["step"] for event in events if event["kind"] == "system"]

    assert steps(2) == [0, 1]
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    assert steps(3) == [0, 1, 2, 3, 4]
