"""What a stage says of itself goes to its journal, and MLflow is not needed for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from matplotlib.figure import Figure

from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.running import tracking
from imitation_refinement.running.journal import SILENT, Journal, journals
from imitation_refinement.running.launch import CHECKPOINTS_VARIABLE, RUN_VARIABLE
from imitation_refinement.running.tracking import JOURNAL_VARIABLE, PARENT_RUN_VARIABLE, Tracker, without_login


class Uploader:
    """In the place of the process; says what it was started for."""

    started: ClassVar[list[dict[str, Any]]] = []
    refusal: InputError | None = None

    def __init__(self, root: Path, journal: Any, uri: str, check: bool) -> None:
        self.started.append({"root": root, "uri": uri, "check": check})
        if self.refusal:
            raise self.refusal

    def finish(self, hurry: bool) -> None:
        self.started[-1]["hurry"] = hurry


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setattr(tracking, "Uploader", Uploader)
    monkeypatch.setattr(Uploader, "started", [])
    return Uploader.started


def events(folder: Path) -> list[dict[str, Any]]:
    (known,) = journals(folder)
    return [json.loads(line) for _, line in known.lines()]


def test_each_event(tmp_path: Path, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.example.com")
    (tmp_path / "a.txt").write_text("a")
    with Tracker.stage("a stage", beside=tmp_path / "out") as tracker:
        assert tracker.active and tracker.name == "a stage"
        tracker.log_params({"optimiser": {"epochs": 3}, "path": tmp_path})
        tracker.log_inputs({"data": tmp_path / "a.txt", "named": [Path("minerals")]})
        tracker.log_metrics({"loss": 1}, 2)
        tracker.log_figure(Figure(), "curve.png")
        tracker.log_artifact(tmp_path / "a.txt", "texts")
        tracker.log_table(pd.DataFrame({"x": [1.5]}), "rows.json")
        tracker.set_tag("k", "v")
        tracker.note("*text*")
        tracker.rename("another name")
        tracker.child("row", {"method": "ir"}, {"accuracy": 1}, {"a": {"b": 2}})
        tracker.log_model("refiner", {"refiner": tmp_path / "a.txt"}, "card", {"t": "u"}, {"loss": 2})
        tracker.register({"why": [1, 2]}, {"predictions": tmp_path / "a.txt"})
        tracker.above.set_tag("k", "w")
    found = events(tmp_path / "out.tracking")
    kinds = ["begin", "params", "inputs", "metrics", "artifact", "artifact", "table", "tag", "tag", "rename", "child"]
    kinds += ["model", "register", "tag", "end"]
    assert [event["kind"] for event in found] == kinds
    assert sorted(event["time"] for event in found) == [event["time"] for event in found]
    data = [event["data"] for event in found]
    assert data[0]["store"]["uri"] == "http://mlflow.example.com" and data[0]["tags"]["stage"] == "a stage"
    assert data[1] == {"optimiser.epochs": "3", "path": str(tmp_path)}
    assert [item["digest"] for item in data[2]["inputs"]] == [digest(tmp_path / "a.txt"), "minerals"]
    assert data[3] == {"step": 2, "values": {"loss": 1.0}}
    (journal,) = journals(tmp_path)
    files = [data[i]["file"] for i in (4, 5, 6)] + [data[11]["files"]["refiner"], data[12]["files"]["predictions"]]
    assert [Path(file).name for file in files] == ["curve.png", "a.txt", "rows.json", "a.txt", "a.txt"]
    assert all((journal.folder / file).stat().st_size for file in files)
    assert json.loads((journal.folder / files[2]).read_text()) == {"columns": ["x"], "data": [[1.5]]}
    assert data[8] == {"key": "mlflow.note.content", "value": "*text*"} and data[9] == {"name": "another name"}
    assert data[10]["params"] == {"a.b": "2"} and data[10]["metrics"] == {"accuracy": 1.0}
    assert data[11]["sha256"] == {"refiner": digest(tmp_path / "a.txt")} and data[11]["metrics"] == {"loss": 2.0}
    assert data[12]["evidence"] == {"why": [1, 2]}
    assert data[13] == {"key": "k", "value": "w", "above": True} and data[14] == {"status": "FINISHED"}
    uri = "http://me:secret@mlflow.example.com"
    assert started == [{"root": tmp_path / "out.tracking", "uri": uri, "check": True, "hurry": False}]


def test_who_uploads_and_where_journals_are(
    tmp_path: Path, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "sqlite:////nowhere.db"
    with Tracker.parent("whole", tmp_path / "tracking", uri, tmp_path / "artifacts"):
        assert os.environ[JOURNAL_VARIABLE] == str(tmp_path / "tracking")
        with Tracker.stage("one", beside=tmp_path / "out") as tracker:
            assert tracker.active
    assert [item["uri"] for item in started] == [uri]  # the parent's, for all
    assert not {PARENT_RUN_VARIABLE, JOURNAL_VARIABLE, "MLFLOW_TRACKING_URI"} & os.environ.keys()
    parent, child = journals(tmp_path)
    assert child.parent == parent.uuid and child.folder.parent == parent.folder.parent == tmp_path / "tracking"
    assert parent.about["store"]["artifacts"] == str(tmp_path / "artifacts")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.com")
    monkeypatch.setenv(RUN_VARIABLE, "abc")
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path / "lasting"))
    for options in ("{}", "{}", '{"shard": 1}'):
        with Tracker.stage("pod", options, tmp_path / "out"):
            pass
    assert not any(item["check"] for item in started[1:])  # nothing of tracking ends a stage of a pipeline
    pods = journals(tmp_path / "lasting" / "abc.tracking")
    assert {pod.about["pipeline"] for pod in pods} == {"abc"} and len({pod.about["task"] for pod in pods}) == 2


def test_how_a_run_ends(tmp_path: Path, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.com")
    for error, hurry in ((RuntimeError("no luck"), False), (KeyboardInterrupt(), True), (SystemExit(1), True)):
        with pytest.raises(type(error)) as raised, Tracker.stage("x", beside=tmp_path / type(error).__name__):
            raise error
        assert raised.value is error and started[-1]["hurry"] is hurry
        assert events(tmp_path / f"{type(error).__name__}.tracking")[-1]["data"] == {"status": "FAILED"}


@pytest.mark.parametrize(
    ("silent", "hurry", "left", "expected"),
    [(False, False, 30.0, 30.0), (True, False, 30.0, 2.0), (False, True, 30.0, 2.0), (False, False, 7.5, 7.5)],
)
def test_how_long_a_stage_waits_for_its_store(
    silent: bool,
    hurry: bool,
    left: float,
    expected: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is left of 30 s; 2 s for a store that has been found silent, or while a person waits."""
    journal = Journal(tmp_path / "tracking", "x")
    journal.append("begin", {"uuid": journal.uuid, "name": "x"})
    if silent:
        (tmp_path / "tracking" / SILENT).write_text("Connection refused")
    waited, killed = [], []

    class Process:
        def wait(self, seconds: float | None = None) -> None:
            waited.append(seconds)
            if seconds is not None:
                raise subprocess.TimeoutExpired("", seconds)

        def kill(self) -> None:
            killed.append(True)

    uploader = tracking.Uploader.__new__(tracking.Uploader)
    uploader._root, uploader._uuid, uploader._left = tmp_path / "tracking", journal.uuid, left
    uploader._process = Process()  # type: ignore[assignment]
    uploader.finish(hurry)
    assert waited == [expected, None] and killed == [True]
    why = " (Connection refused)" if silent else ""
    assert capsys.readouterr().err == (
        f"WARNING: 1 records of this run are not in MLflow{why}; they wait in {tmp_path}/tracking, "
        f"and `imitation-refinement sync {tmp_path}` uploads them\n"
    )


def test_clean_up_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(Uploader):
        def finish(self, hurry: bool) -> None:
            raise OSError("no more processes")

    monkeypatch.setattr(tracking, "Uploader", Fails)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.com")
    with pytest.raises(RuntimeError, match="no luck"), Tracker.stage("x", beside=tmp_path / "a"):
        raise RuntimeError("no luck")
    with Tracker.stage("x", beside=tmp_path / "b"):
        pass


def test_a_store_that_can_t_be_used_is_told_before_work_begins(
    tmp_path: Path, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.com")
    monkeypatch.setattr(Uploader, "refusal", InputError("MLFLOW_TRACKING_URI", "can't be used: 401.", "Sign in."))
    with pytest.raises(InputError, match="401"), Tracker.stage("x", beside=tmp_path / "a"):
        raise AssertionError("the block is not entered")
    assert not list(tmp_path.iterdir())


def test_a_journal_that_can_t_be_written_ends_no_stage(
    tmp_path: Path, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "_said", False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.com")
    (tmp_path / "a.tracking").write_text("no folder")
    with Tracker.stage("x", beside=tmp_path / "a") as tracker:
        tracker.log_metrics({"loss": 1})
        assert not tracker.active
    with Tracker.stage("x", beside=tmp_path / "b") as tracker:
        tracker.log_artifact(tmp_path / "nowhere")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"WARNING: not all is tracked: {tmp_path}/a.tracking")


def test_nothing_is_tracked_without_a_store(tmp_path: Path) -> None:
    code = (
        "import sys; from imitation_refinement.running.tracking import Tracker\n"
        "with Tracker.stage('x') as t:\n"
        "    assert not t.active; t.log_params({'a': 1}); t.log_inputs({}); t.log_metrics({'m': 1.0}, 1)\n"
        "    t.log_figure(None, 'f'); t.log_artifact(None); t.set_tag('a', 'b'); t.log_model('m', {}); t.note('n')\n"
        "    t.log_table(None, 't'); t.child('c', {}, {}); t.register({}); t.rename('r'); t.above.set_tag('a', 'b')\n"
        "assert not {'mlflow', 'torch', 'matplotlib', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tracked_stage_does_without_mlflow(tmp_path: Path) -> None:
    """It is the uploader's; the stage starts sooner, and nothing of it can fail there."""
    code = (
        "import os, sys; from pathlib import Path; from imitation_refinement.running.tracking import Tracker\n"
        "with Tracker.stage('x') as t:\n"
        "    assert t.active; t.log_params({'a': 1}); t.log_inputs({'i': Path('here')}); t.log_metrics({'m': 1.0}, 1)\n"
        "assert not {'mlflow', 'torch', 'matplotlib', 'pandas'} & set(sys.modules)\n"
    )
    given = {**os.environ, JOURNAL_VARIABLE: str(tmp_path), PARENT_RUN_VARIABLE: "0" * 32}
    subprocess.run([sys.executable, "-c", code], check=True, env=given)
    assert [event["kind"] for event in events(tmp_path)] == ["begin", "params", "inputs", "metrics", "end"]


def test_the_plugin_without_the_server_s_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kubeflow Pipelines' plugin gives the run's id, but, unless injectUserEnvVars is set, no address."""
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with Tracker.stage("train") as tracker:
        assert not tracker.active
    assert capsys.readouterr().err.startswith("WARNING: not tracked: MLFLOW_RUN_ID is set, MLFLOW_TRACKING_URI is not")


def test_an_address_is_shown_without_its_password() -> None:
    assert without_login("https://me:secret@a.example.com:1/x") == "https://a.example.com:1/x"
    assert without_login("http://localhost:5000") == "http://localhost:5000"
    assert (
        without_login("sqlite:////a@b/c d.db") == "sqlite:////a@b/c d.db" and without_login("http://[x") == "http://[x"
    )
