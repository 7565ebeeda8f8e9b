"""Stores that fail while a classifier learns: the work goes on, its weights are the same, and nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from imitation_refinement.files import digest
from imitation_refinement.learning.config import PretrainConfig
from imitation_refinement.learning.models import save_model
from imitation_refinement.learning.training import train_classifier
from imitation_refinement.options import StageConfig
from imitation_refinement.running.journal import SILENT, journals, waiting
from imitation_refinement.running.launch import CHECKPOINTS_VARIABLE, RUN_VARIABLE, environment
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import PATIENCE_VARIABLE, Tracker
from imitation_refinement.tracking import upload
from imitation_refinement.tracking.upload import sync
from imitation_refinement.xrd.grid import Grid
from tests.servers import wait_for

EPOCHS = 8
SMALL = {"architecture": "vgg", "depths": [1], "widths": [8], "stem_stride": 2, "embedding": 8, "norm": "batch"}
CONFIG = PretrainConfig.model_validate(
    {"network": SMALL, "optimiser": {"epochs": EPOCHS, "batch_size": 14, "learning_rate": 1e-2, "device": "cpu"}}
)


class Options(StageConfig):
    """Of the toy stage: none."""


def training(patterns: Any, fault: Callable[[], object]) -> Stage:
    """A stage that learns, in the middle of which something happens to the store."""

    def run(paths: dict[str, Any], config: Options, tracker: Tracker) -> str:
        def report(metrics: dict[str, float], epoch: int) -> None:
            if epoch == EPOCHS // 2:
                fault()
            tracker.log_metrics(metrics, epoch)

        x, y = patterns
        model, _ = train_classifier(
            (x[14:], y[14:]), (x[:14], y[:14]), CONFIG, report, paths["model"].with_suffix(".c")
        )
        save_model(paths["model"], model, Grid(points=x.shape[1]), {})
        tracker.log_artifact(paths["model"], "classifier")
        return "learnt"

    return Stage("learn", "", {}, {"model": "the classifier"}, Options, run)


@pytest.fixture(scope="module")
def patterns(toy: Callable[..., Any]) -> Any:
    return toy(6, 1)


@pytest.fixture(scope="module")
def undisturbed(patterns: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the weights where nothing is tracked."""
    path = tmp_path_factory.mktemp("undisturbed") / "model.safetensors"
    training(patterns, lambda: None).execute({"model": path}, {})
    return digest(path)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become fractions."""
    monkeypatch.setenv(PATIENCE_VARIABLE, "2.5")
    monkeypatch.setattr(upload, "POLL_S", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(upload, "RETRY_S", 0.2)
    monkeypatch.setattr(upload, "MAX_RETRY_S", 0.4)


def see_all_of_it(uri: str, model: Path) -> None:
    """The store has what the stage said, with the steps and times as they were; by the training's own record."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    run = client.search_runs(experiments, "attributes.run_name = 'learn'", order_by=["start_time DESC"])[0]
    assert run.info.status == "FINISHED" and run.data.tags["stage"] == "learn"
    times = []
    for name in ("loss", "validation_accuracy"):
        history = client.get_metric_history(run.info.run_id, name)
        assert [m.step for m in history] == list(range(EPOCHS))
        times += [m.timestamp for m in history]
    assert min(times) >= run.info.start_time and max(times) <= run.info.end_time
    kept = client.download_artifacts(run.info.run_id, f"classifier/{model.name}", str(model.parent.parent))
    assert digest(kept) == digest(model)


def see_what_waits(model: Path) -> list[dict[str, Any]]:
    """What is queued beside the model."""
    (known,) = journals(model.parent)
    assert known.folder.parent.name == f"{model.name}.tracking" and (known.folder.parent / SILENT).exists()
    events = [json.loads(line) for _, line in known.lines()]
    steps = [event["data"]["step"] for event in events if event["kind"] == "metrics"]
    assert steps == list(range(EPOCHS)) and events[-1]["data"] == {"status": "FINISHED"}
    assert 0 < known.waiting() < len(events)  # what was sent before is not waiting
    return events


@contextmanager
def disk_full(process: int, database: Path) -> Iterator[None]:
    """No file of the server's can grow any more, as on a full disk."""
    everyone = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    for each in everyone:
        resource.prlimit(each.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for each in everyone:
            resource.prlimit(each.pid, resource.RLIMIT_FSIZE, endless)


def test_a_stopped_server_that_goes_on(
    server: Any, patterns: Any, undisturbed: str, tmp_path: Path, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is uploaded within the stage's patience."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv(PATIENCE_VARIABLE, "60")
    path = tmp_path / "out" / "model.safetensors"
    again = threading.Timer(1.5, server.signal, [signal.SIGCONT])

    def stop() -> None:
        uploaded_so_far(path)
        server.signal(signal.SIGSTOP)
        again.start()

    training(patterns, stop).execute({"model": path}, {})
    again.join()
    assert digest(path) == undisturbed and waiting(tmp_path) == 0
    see_all_of_it(server.uri, path)


def test_a_server_stopped_for_good(
    server: Any, patterns: Any, undisturbed: str, tmp_path: Path, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    path = tmp_path / "out" / "model.safetensors"

    def stop() -> None:
        uploaded_so_far(path)
        server.signal(signal.SIGSTOP)

    try:
        training(patterns, stop).execute({"model": path}, {})
        assert digest(path) == undisturbed
        see_what_waits(path)
    finally:
        server.signal(signal.SIGCONT)
    synced(path)
    see_all_of_it(server.uri, path)


def test_a_full_disk_of_the_store(
    server: Any, patterns: Any, undisturbed: str, tmp_path: Path, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    path = tmp_path / "out" / "model.safetensors"
    full = disk_full(server.process.pid, server.folder / "mlflow.db")

    def fill() -> None:
        uploaded_so_far(path)
        full.__enter__()

    try:
        training(patterns, fill).execute({"model": path}, {})
    finally:
        full.__exit__(None, None, None)
    assert digest(path) == undisturbed
    see_what_waits(path)
    synced(path)
    see_all_of_it(server.uri, path)


class Proxy(BaseHTTPRequestHandler):
    """Hands on to a server what comes with the right token."""

    server: Any

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.answer(401, b"the token has expired")
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() in ("content-type", "accept")}
        request = urllib.request.Request(self.server.behind + self.path, body, headers, method=self.command)
        try:
            with urllib.request.urlopen(request) as found:
                self.answer(found.status, found.read(), found.headers.get("Content-Type", ""))
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read(), error.headers.get("Content-Type", ""))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_a_token_that_is_refused_halfway(
    server: Any,
    patterns: Any,
    undisturbed: str,
    tmp_path: Path,
    forked: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "out" / "model.safetensors"
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        proxy.behind, proxy.token = server.uri, "old"  # type: ignore[attr-defined]
        uri = f"http://127.0.0.1:{proxy.server_port}"
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "old")

        def expire() -> None:
            uploaded_so_far(path)
            proxy.token = "new"  # type: ignore[attr-defined]

        training(patterns, expire).execute({"model": path}, {})
        assert digest(path) == undisturbed
        see_what_waits(path)
        assert "401" in next(path.parent.rglob(SILENT)).read_text()
        with pytest.raises(upload.InputError, match="MLFLOW_TRACKING_TOKEN"):
            sync(path.parent)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "new")
        synced(path)
        see_all_of_it(uri, path)
        proxy.shutdown()
        thread.join()


def test_a_later_pod_uploads_what_an_earlier_one_could_not(
    uri: str, tmp_path: Path, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the volume that outlives pods."""
    import mlflow

    monkeypatch.setenv(RUN_VARIABLE, "a-run")
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path / "volume"))
    root = tmp_path / "volume" / "a-run.tracking"
    for name, address, seconds in (("first", "http://127.0.0.1:9", "1.5"), ("second", uri, "60")):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv(PATIENCE_VARIABLE, seconds)
        with Tracker.stage(name, beside=tmp_path / "pod" / name) as tracker:
            tracker.log_metrics({"loss": 0.5}, 3)
        assert (root / SILENT).exists() == (name == "first")
    client = mlflow.MlflowClient(uri)
    runs = {
        run.info.run_name: run for run in client.search_runs([e.experiment_id for e in client.search_experiments()])
    }
    assert set(runs) == {"first", "second", "pipeline a-run"} and {r.info.status for r in runs.values()} == {"FINISHED"}
    assert runs["first"].data.metrics == runs["second"].data.metrics == {"loss": 0.5}
    parent = runs["pipeline a-run"].info.run_id
    assert {runs[name].data.tags["mlflow.parentRunId"] for name in ("first", "second")} == {parent}
    assert not root.exists() and not (tmp_path / "pod").exists()


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_outages import training, uploaded_so_far

path, group = Path(sys.argv[2]), int(sys.argv[4])
with np.load(sys.argv[3]) as file:
    patterns = file["x"], file["y"]

def kill():
    uploaded_so_far(path)
    os.killpg(group, signal.SIGKILL)

training(patterns, kill).main(["--model", str(path)])
"""


def test_a_server_that_is_killed(server: Any, patterns: Any, undisturbed: str, tmp_path: Path) -> None:
    """The stage as a person starts it, with the uploader's own process: one plain message, status 0."""
    import numpy as np

    path = tmp_path / "out" / "model.safetensors"
    np.savez(tmp_path / "patterns.npz", x=patterns[0], y=patterns[1])
    group = server.process.pid
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), path, tmp_path / "patterns.npz", str(group)]
    ended = subprocess.run(
        command,
        env={**os.environ, "MLFLOW_TRACKING_URI": server.uri, PATIENCE_VARIABLE: "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    server.process.wait()
    assert ended.returncode == 0, ended.stderr
    assert digest(path) == undisturbed
    see_what_waits(path)
    left, root = waiting(tmp_path), path.with_name(f"{path.name}.tracking")
    (said,) = (line for line in ended.stderr.splitlines() if "MLflow" in line and not line.startswith("MLflow's store"))
    assert said.startswith(f"WARNING: {left} records of this run are not in MLflow (")
    assert said.endswith(f"they wait in {root}, and `imitation-refinement sync {root}` uploads them")
    assert "Traceback" not in ended.stderr
    server.start()
    synced(path)
    see_all_of_it(server.uri, path)


KILLS_ITSELF = """
import os, signal, sys, time
from pathlib import Path
from imitation_refinement.running.journal import journals
from imitation_refinement.running.tracking import Tracker

folder = Path(sys.argv[1])
with Tracker.parent("whole", folder / "tracking", sys.argv[2]), Tracker.stage("part") as tracker:
    tracker.log_metrics({"loss": 1}, 7)
    while not all(known.sent() for known in journals(folder)):
        time.sleep(0.05)
    tracker.log_metrics({"loss": 2}, 8)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_is_killed_has_failed(uri: str, tmp_path: Path) -> None:
    """Its uploader, which outlives it for that, says so; what was said before is there."""
    import mlflow

    ended = subprocess.run([sys.executable, "-c", KILLS_ITSELF, str(tmp_path), uri], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    client = mlflow.MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    wait_for(lambda: {run.info.status for run in client.search_runs(experiments)} == {"FAILED"}, 60)
    runs = client.search_runs(experiments)
    (part,) = (run for run in runs if run.info.run_name == "part")
    assert [m.step for m in client.get_metric_history(part.info.run_id, "loss")] == [7, 8] and len(runs) == 2


def uploaded_so_far(model: Path) -> None:
    """Waits until the uploader has sent all that there is yet."""
    wait_for(lambda: all(known.sent() and not known.waiting() for known in journals(model.parent)), 60)


def synced(model: Path) -> None:
    """Uploads what waits, by hand: a server that has just started may take its time."""
    with environment({"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}):
        assert sync(model.parent) == 0
    assert not list(model.parent.glob("*.tracking"))
