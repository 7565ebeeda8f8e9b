"""MLflow's stores: made once, found, and refused in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.running.journal import SILENT
from imitation_refinement.running.tracking import EXPERIMENT, Tracker, Uploader
from imitation_refinement.tracking.store import open_store, sqlite_uri
from tests.servers import wait_for

START = """
import sys, time
from pathlib import Path
import mlflow, mlflow.store.tracking.sqlalchemy_store
from imitation_refinement.tracking.store import open_store

folder = Path(sys.argv[1])
(folder / f"{sys.argv[2]}.ready").touch()
while len(list(folder.glob("*.ready"))) < 3:
    time.sleep(0.001)
client, experiment = open_store(f"sqlite:///{folder / 'mlflow.db'}")
client.create_run(experiment, run_name=sys.argv[2])
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


def test_a_store_that_was_cut_while_it_was_made_is_made_anew(tmp_path: Path) -> None:
    """MLflow refuses one that has a part of its tables: `out-of-date database schema`."""
    file = tmp_path / "mlflow.db"
    script = "import sys; from imitation_refinement.tracking.store import open_store; open_store(sys.argv[1])"
    making = subprocess.Popen([sys.executable, "-c", script, sqlite_uri(file)], stderr=subprocess.DEVNULL)
    while not _half_made(tmp_path):
        assert making.poll() in (None, 0)
        time.sleep(0.001)
    making.kill()
    making.wait()
    _, experiment = open_store(sqlite_uri(file))
    assert experiment and [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_store_that_is_larger_than_files_may_be_is_told_with_its_name(tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    opened = f"from imitation_refinement.tracking.store import open_store; open_store('sqlite:///{tmp_path}/mlflow.db')"
    said = subprocess.run([sys.executable, "-c", f"{limited}\n{opened}"], capture_output=True, text=True).stderr
    assert f"{tmp_path}/mlflow.db: can't be written (disk I/O error). Make room, or lift the limit on file" in said
    assert list(tmp_path.iterdir()) == []


def _half_made(folder: Path) -> bool:
    with suppress(FileNotFoundError):  # it has just been renamed
        return any(path.stat().st_size > 50_000 for path in folder.rglob("*.db"))
    return False


class Refusal(BaseHTTPRequestHandler):
    """A server that knows nobody."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


def test_a_store_that_refuses_or_is_not_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        uri = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(InputError, match=r"^MLFLOW_TRACKING_URI: .*401.* Set MLFLOW_TRACKING_USERNAME"):
            open_store(uri)
        server.shutdown()
        thread.join()
    with pytest.raises(InputError, match=r"^MLFLOW_TRACKING_URI: can't be used: .*127\.0\.0\.1.* Start the server"):
        open_store(uri)


def test_a_stage_started_by_a_person_tells_so_before_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the uploader's own process, which may write down that the store is silent before it is ended."""
    told = Uploader._see_that_it_can

    def later(uploader: Uploader) -> None:
        try:
            told(uploader)
        finally:
            wait_for((tmp_path / "a.tracking" / SILENT).exists, 60)

    monkeypatch.setattr(Uploader, "_see_that_it_can", later)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"127\.0\.0\.1.* Start the server"), Tracker.stage("x", "", tmp_path / "a"):
        raise AssertionError("the block is not entered")
    assert not list(tmp_path.iterdir())


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


def test_an_experiment_that_is_deleted_or_unknown(client: Any, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted = client.create_experiment("gone")
    client.delete_experiment(deleted)
    for variable, value, said in (
        ("MLFLOW_EXPERIMENT_NAME", "gone", rf"gone: is deleted\. .*mlflow experiments restore -x {deleted}`"),
        ("MLFLOW_EXPERIMENT_ID", deleted, rf"{deleted}: is deleted\. .*mlflow experiments restore -x {deleted}`"),
        ("MLFLOW_EXPERIMENT_ID", "7777", r"7777: can't be used: No Experiment with id=7777.*in MLFLOW_EXPERIMENT_ID"),
        ("MLFLOW_EXPERIMENT_ID", "mine", r"mine: can't be used: .*integer.*in MLFLOW_EXPERIMENT_ID"),
        ("MLFLOW_EXPERIMENT_NAME", "x" * 501, r"can't be used: .*500.*in MLFLOW_EXPERIMENT_NAME"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(variable, value)
            with pytest.raises(InputError, match=said):
                open_store(uri)
            with pytest.raises(InputError, match=said), Tracker.stage("a stage"):
                raise AssertionError("the block is not entered")
    client.restore_experiment(deleted)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", deleted)
    with Tracker.stage("restored"):
        pass
    assert [run.info.run_name for run in client.search_runs([deleted])] == ["restored"]


def test_a_folder_whose_name_an_address_quotes(empty_store: Path, tmp_path: Path, inline: None) -> None:
    folder = tmp_path / "a b#c%20d?e=1;é&100%"
    folder.mkdir()
    (folder / "result.txt").write_text("right")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = sqlite_uri(folder / "mlflow.db")
    with Tracker.parent("a run", folder / "tracking", uri, folder / "artifacts") as tracker:
        tracker.log_artifact(folder / "result.txt")
    client, experiment = open_store(uri)
    (run,) = client.search_runs([experiment])
    assert {path.name for path in folder.iterdir()} == {"result.txt", "mlflow.db", "artifacts", "tracking"}
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    (logged,) = (folder / "artifacts").rglob("result.txt")
    assert logged.read_text() == "right" and [item.path for item in client.list_artifacts(run.info.run_id)]
