"""Servers that tests and benchmarks start: at a free port, waited for, ended with all that they have started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOCAL = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as free:
        free.bind((LOCAL, 0))
        return int(free.getsockname()[1])


def wait_for(happened: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        time.sleep(0.05)


@dataclass
class Process:
    """A server's process, in a session of its own.

    Attributes:
        log: the file that it writes to.
    """

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> Process:
        """Starts one; with this process's environment and in its folder by default."""
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        return cls(process, log)

    def runs(self) -> None:
        """Fails with what it said if it has ended."""
        assert self.process.poll() is None, self.log.read_text()

    def answers(self, address: str) -> bool:
        """Whether it answers there with success; fails if it has ended."""
        self.runs()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return True
        except OSError:
            return False

    def signal(self, number: int) -> None:
        """Sends a signal to it and to all that it has started."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself
            self.signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def started(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Iterator[Process]:
    """A server that ends with the block; that it answers is yet to be waited for."""
    server = Process.start(command, log, environment, folder)
    try:
        yield server
    finally:
        server.kill()


@dataclass
class Server:
    """A real MLflow server of one worker.

    Attributes:
        folder: of its database ``mlflow.db`` and its artifacts.
        port: at which it listens.
    """

    folder: Path
    port: int
    running: Process | None = None

    @property
    def uri(self) -> str:
        return f"http://{LOCAL}:{self.port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self.running is not None
        return self.running.process

    def start(self) -> None:
        # What `mlflow server` starts, without its command line, which takes as long again.
        command = [sys.executable, "-m", "uvicorn", "--port", str(self.port), "mlflow.server.fastapi_app:app"]
        store = {
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{self.folder / 'mlflow.db'}",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(self.folder / "artifacts"),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        running = self.running = Process.start(command, self.folder / "server.log", {**os.environ, **store})
        wait_for(lambda: running.answers(f"{self.uri}/health"))

    def signal(self, number: int) -> None:
        assert self.running is not None
        self.running.signal(number)

    def kill(self) -> None:
        assert self.running is not None
        self.running.kill()
        self.running = None
