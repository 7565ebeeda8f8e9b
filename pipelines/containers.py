"""The pipeline's tasks in Docker containers: what KFP's DockerRunner is given, and what it leaves to others.

It runs a container as the image's user, without this process's environment, tracking server and input files, and it
can take one that died for one that ended well. All that is seen to here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote, urlsplit

from imitation_refinement.errors import InputError
from imitation_refinement.progress import CHANNEL_VARIABLE, begin, say
from imitation_refinement.running.portable import PORTABLE
from imitation_refinement.running.tracking import EXPERIMENT
from pipelines import processes
from pipelines.processes import TaskDied, failure, label_of, note_end, relay, replaced, signals, stop

RUN_LABEL, TASK_LABEL = "imitation-refinement.run", "imitation-refinement.task"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HOST = "host.docker.internal"  # what Docker Desktop calls this machine
INHERITED = (
    *("MP_API_KEY", "MLFLOW_RUN_ID", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("OMP_WAIT_POLICY", "NUMBA_NUM_THREADS", *PORTABLE),
)
INHERITED_PREFIXES = ("IMITATION_REFINEMENT_", "MLFLOW_TRACKING_", "MLFLOW_HTTP_", "MLFLOW_SUPPRESS_")
SERVER_START_S = 120.0


PAGES_TOKEN = "IMITATION_REFINEMENT_WEB_TOKEN"  # of web.server, which no task is


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What of this process's environment the tasks need: tracking, keys, proxies, threads and processors."""
    given = {k: v for k, v in environment.items() if k in INHERITED or k.startswith(INHERITED_PREFIXES)}
    return {k: v for k, v in given.items() if k != PAGES_TOKEN}


def reached(uri: str, desktop: bool) -> tuple[str, dict[str, Any]]:
    """How a container reaches a tracking server.

    Args:
        uri: the server's address on this machine.
        desktop: whether the engine is Docker Desktop, whose containers are on a machine of their own.

    Returns:
        The address in a container, and further arguments of ``docker run``.
    """
    parts = urlsplit(uri)
    if parts.hostname not in LOOPBACK:
        return uri, {}
    if not desktop:
        return uri, {"network_mode": "host"}  # a server that listens on the loopback interface alone is reached, too
    login, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=f"{login}{at}{HOST}{port}").geturl(), {}


def death(code: int, out_of_memory: bool) -> str:
    """Why a container ended that did not end by itself; empty if it did.

    Args:
        code: its exit code.
        out_of_memory: whether the kernel stopped a process in it for that.
    """
    return f"ran out of memory (exit code {code})" if out_of_memory else processes.death(code)


def task_of(command: Sequence[str]) -> str:
    """The task's name in KFP's call of its executor, as ``for-loop-1/simulate``."""
    given = json.loads(command[list(command).index("--executor_input") + 1])
    *_, task, _file = Path(given["outputs"]["outputFile"]).parts
    return task


class Engine:
    """The Docker engine and the images that a run needs."""

    def __init__(self, images: Sequence[str]) -> None:
        """Asks the engine.

        Raises:
            InputError: if it is not to be had, or an image is not.
        """
        import docker

        try:
            self.client = docker.from_env()
            self.info = self.client.info()
        except docker.errors.DockerException as error:
            remedy = "Start Docker, name its socket in DOCKER_HOST, or ask to be let in (group docker)."
            raise InputError("Docker", f"can't be used ({error}).", remedy) from None
        self.images = list(images)
        for image in images:
            try:
                self.client.images.get(image)
            except docker.errors.ImageNotFound:
                raise InputError(f"image {image}", "is not on this machine.", "Run `make images`.") from None

    @property
    def desktop(self) -> bool:
        """Whether it is Docker Desktop."""
        return self.info.get("OperatingSystem") == "Docker Desktop"

    @property
    def user(self) -> str:
        """Who a task runs as, so that what it makes is this user's: a rootless engine's root is this user."""
        rootless = any("name=rootless" in option for option in self.info.get("SecurityOptions") or ())
        return "0:0" if rootless else f"{os.getuid()}:{os.getgid()}"

    def remove(self, run: str) -> None:
        """Removes the containers of a run, whatever they do."""
        import docker

        for container in self.client.containers.list(all=True, filters={"label": f"{RUN_LABEL}={run}"}):
            try:
                container.remove(force=True)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409):  # gone, or on its way
                    raise


@contextmanager
def tasks(engine: Engine, run: str, inputs: Sequence[str]) -> Iterator[Any]:
    """KFP's DockerRunner for the tasks of a run; its containers end with the block.

    Args:
        engine: the engine.
        run: the run's name.
        inputs: files and folders that the tasks read, as absolute paths; they see them read-only under the same.

    Raises:
        InputError: if containers do not reach the tracking server.
        RuntimeError: when a task fails.
    """
    from docker.types import Mount
    from kfp import local
    from kfp.local import docker_task_handler

    environment = inherited(os.environ)
    uri, network = reached(environment["MLFLOW_TRACKING_URI"], engine.desktop)
    environment["MLFLOW_TRACKING_URI"] = uri
    mounts = [Mount(path, path, type="bind", read_only=True) for path in inputs]
    written = [*_artifact_folders(), *([os.environ[CHANNEL_VARIABLE]] if CHANNEL_VARIABLE in os.environ else [])]
    mounts += [Mount(path, path, type="bind") for path in written]
    arguments = {
        "entrypoint": "",
        "user": engine.user,
        "environment": environment,
        "labels": {RUN_LABEL: run},
        "mounts": mounts,
        **network,
    }
    failed: dict[str, str] = {}
    stopped: list[int] = []

    def run_container(client: Any, image: str, command: list[str], volumes: Any, **given: Any) -> int:
        """In the place of KFP's function, which trusts a container that removes itself to wait for the question."""
        label = label_of(command)
        given["labels"] = {**given["labels"], TASK_LABEL: task_of(command)}
        if stopped:
            raise TaskDied(f"{label} was not started: the run was stopped.")
        begin(label)
        code, why = run_to_end(client, image, command, label, volumes=volumes, **given)
        if not stopped:
            note_end(failed, label, code, why)
        return code

    def stop_all(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        engine.remove(run)
        stop(number, frame)

    _see_that_tracking_is_reached(engine, arguments)
    with replaced(docker_task_handler, "run_docker_container", run_container), signals(stop_all):
        try:
            yield local.DockerRunner(**arguments)
        except RuntimeError as error:
            raise RuntimeError(failure(failed) or str(error)) from error
        finally:
            engine.remove(run)


def run_to_end(client: Any, image: str, command: Sequence[str], label: str, **arguments: Any) -> tuple[int, str]:
    """Runs a container, prints what it says under a label, and removes it after it was asked how it ended.

    Returns:
        Its exit code, and why it died (:func:`death`), if it did.
    """
    import docker

    container = client.containers.create(image, list(command), **arguments)
    try:
        container.start()
        relay(container.logs(stream=True, follow=True), label)
        code = container.wait()["StatusCode"]
        container.reload()
        return code, death(code, bool(container.attrs["State"]["OOMKilled"]))
    except docker.errors.NotFound:
        return 128 + signal.SIGKILL, "was removed while it ran"
    finally:
        try:
            container.remove(force=True)
        except docker.errors.APIError as error:
            if error.status_code not in (404, 409):
                raise


def _artifact_folders() -> list[str]:
    """The experiment's artifact folder on this machine, if that is where its artifacts are; stages write there."""
    import mlflow

    experiment = mlflow.MlflowClient().get_experiment_by_name(EXPERIMENT)
    location = urlsplit(experiment.artifact_location) if experiment else None
    if location is None or location.scheme != "file":
        return []
    folder = Path(unquote(location.path))
    return [str(folder)] if folder.is_dir() else []


def _see_that_tracking_is_reached(engine: Engine, arguments: Mapping[str, Any]) -> None:
    """Asks the tracking server from a container, before each task does and waits for its retries."""
    import docker

    uri = os.environ["MLFLOW_TRACKING_URI"]
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    question = f"import mlflow; mlflow.MlflowClient().get_experiment_by_name({EXPERIMENT!r})"
    given = {**arguments, "environment": {**arguments["environment"], **limits}}
    try:
        engine.client.containers.run(engine.images[0], ["python", "-c", question], remove=True, **given)
    except docker.errors.ContainerError as error:
        problem = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        remedy = f"It must listen where containers reach it, and allow the host name they use (as {HOST})."
        raise InputError(without_login(uri), f"can't be reached from a container ({problem}).", remedy) from None


def is_server(store: str) -> bool:
    """Whether a tracking address is a server's, and no store on this machine."""
    return store.partition(":")[0].lower() in ("http", "https", "databricks")


def without_login(uri: str) -> str:
    """An address without the user and the password that may stand in it."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextmanager
def tracking(store: str, log: Path) -> Iterator[str]:
    """The tracking server of a run: the one that ``store`` names, or one of our own on that store.

    Args:
        store: a server's address, or a store on this machine, as ``sqlite:///…``.
        log: where a server of our own writes what it does; removed if all went well.

    Raises:
        InputError: if MLflow can't serve the store.
    """
    if is_server(store):
        yield store
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = ",".join(f"{host}:{port}" for host in ("localhost", "127.0.0.1", HOST))
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--allowed-hosts", hosts]
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # six processes for what no run uses
            start_new_session=True,  # it outlives the interrupt of a terminal until the run's end is written
        )
    address = f"http://127.0.0.1:{port}"
    try:
        say(f"MLflow's server for the containers at {address}")
        _wait_for(server, address, store, log)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    log.unlink()


def _wait_for(server: subprocess.Popen[bytes], address: str, store: str, log: Path) -> None:
    end = time.monotonic() + SERVER_START_S
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise InputError(without_login(store), f"can't be served by MLflow; {log} says why.", "See whether it can be read.")
