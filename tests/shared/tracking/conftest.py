"""Stores of the tests' own: empty ones, a real server, and uploaders within the test's process."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imitation_refinement.running import tracking
from imitation_refinement.running.journal import Journal
from imitation_refinement.running.launch import environment
from imitation_refinement.tracking.upload import Upload, follow, quiet, usable
from tests.servers import Server, free_port


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    """The address of a store of the test's own."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"


@pytest.fixture
def client(uri: str, monkeypatch: pytest.MonkeyPatch, inline: None) -> Any:
    """The client of a store of the test's own, which is set as for a stage."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return mlflow.MlflowClient(uri)


class Inline:
    """In the place of the uploader's process, which takes seconds to begin: at the end, here."""

    def __init__(self, root: Path, journal: Journal, uri: str, check: bool) -> None:
        self._root, self._given = root, {"MLFLOW_TRACKING_URI": uri}
        with environment(self._given):
            upload = Upload(root)
            (me,) = (known for known in tracking.journals(root) if known.uuid == journal.uuid)
            if check and (error := usable(upload, me)):
                raise error

    def finish(self, hurry: bool) -> None:
        with environment(self._given):
            Upload(self._root).once()


class Forked:
    """The same, while the journal is written, in a process that has all modules already."""

    def __init__(self, root: Path, journal: Journal, uri: str, check: bool) -> None:
        self._process = os.fork()
        if not self._process:
            try:
                os.environ["MLFLOW_TRACKING_URI"] = uri
                quiet()
                follow(root, journal.folder.name, False)
            finally:
                os._exit(0)

    def finish(self, hurry: bool) -> None:
        end = time.monotonic() + float(os.environ[tracking.PATIENCE_VARIABLE])
        while os.waitpid(self._process, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.kill(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
                return
            time.sleep(0.02)


@pytest.fixture(scope="session")
def uploads_here() -> type:
    """:class:`Inline`."""
    return Inline


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads happen in the test's own process, when a run has ended."""
    monkeypatch.setattr(tracking, "Uploader", Inline)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads happen while a run goes on, and begin at once."""
    import mlflow.system_metrics.system_metrics_monitor  # noqa: F401

    monkeypatch.setattr(tracking, "Uploader", Forked)


@pytest.fixture(scope="session")
def server(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that runs; who kills it starts it again."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "mlflow.db")
    server = Server(folder, free_port())
    server.start()
    yield server
    if server.running:
        server.kill()
