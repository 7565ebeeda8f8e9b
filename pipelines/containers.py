"""The pipeline's tasks in Docker containers: what KFP's DockerRunner is given, and what it leaves to others.

It runs a container as the image's user, without this process's environment and input files, and it
can take one that died for one that ended well. All that is seen to here.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

from imitation_refinement.errors import InputError
from imitation_refinement.progress import CHANNEL_VARIABLE, begin
from imitation_refinement.running.interrupts import first
from imitation_refinement.running.portable import PORTABLE
from imitation_refinement.running.tracking import JOURNAL_VARIABLE
from pipelines import processes
from pipelines.processes import TaskDied, failure, note_end, relay, replaced
from pipelines.records import Call, Records

RUN_LABEL, TASK_LABEL = "imitation-refinement.run", "imitation-refinement.task"
INHERITED = (
    *("MP_API_KEY", "MLFLOW_RUN_ID", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("OMP_WAIT_POLICY", "NUMBA_NUM_THREADS", *PORTABLE),
)
INHERITED_PREFIX = "IMITATION_REFINEMENT_"


PAGES_TOKEN = "IMITATION_REFINEMENT_WEB_TOKEN"  # of web.server, which no task is


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What of this process's environment the tasks need: where they tell of themselves, keys, proxies, processors."""
    given = {k: v for k, v in environment.items() if k in INHERITED or k.startswith(INHERITED_PREFIX)}
    return {k: v for k, v in given.items() if k != PAGES_TOKEN}


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
    def user(self) -> str:
        """Who a task runs as, so that what it makes is this user's: a rootless engine's root is this user."""
        rootless = any("name=rootless" in option for option in self.info.get("SecurityOptions") or ())
        return "0:0" if rootless else f"{os.getuid()}:{os.getgid()}"

    def program(self) -> str:
        """SHA-256 of the images that a run needs."""
        found = [self.client.images.get(image).id for image in self.images]
        return sha256("\n".join(found).encode()).hexdigest()

    def remove(self, run: str) -> None:
        """Removes the containers of a run, by its folder, whatever they do."""
        import docker

        for container in self.client.containers.list(all=True, filters={"label": f"{RUN_LABEL}={run}"}):
            try:
                container.remove(force=True)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409):  # gone, or on its way
                    raise


@contextmanager
def tasks(engine: Engine, run: str, inputs: Sequence[str], records: Records) -> Iterator[Any]:
    """KFP's DockerRunner for the tasks of a run; its containers end with the block.

    Args:
        engine: the engine.
        run: the run's folder, by which its containers are known.
        inputs: files and folders that the tasks read, as absolute paths; they see them read-only under the same.
        records: of the run's tasks: those that are finished are not run.

    Raises:
        RuntimeError: when a task fails.
    """
    from docker.types import Mount
    from kfp import local
    from kfp.local import docker_task_handler

    mounts = [Mount(path, path, type="bind", read_only=True) for path in inputs]
    written = [os.environ[name] for name in (CHANNEL_VARIABLE, JOURNAL_VARIABLE) if name in os.environ]
    mounts += [Mount(path, path, type="bind") for path in written]
    arguments = {
        "entrypoint": "",
        "user": engine.user,
        "environment": inherited(os.environ),
        "labels": {RUN_LABEL: run},
        "mounts": mounts,
    }
    failed: dict[str, str] = {}
    stopped: list[int] = []
    removals: list[threading.Thread] = []

    def run_container(client: Any, image: str, command: list[str], volumes: Any, **given: Any) -> int:
        """In the place of KFP's function, which trusts a container that removes itself to wait for the question."""
        call = Call.of(command)
        label = call.label
        given["labels"] = {**given["labels"], TASK_LABEL: task_of(command)}
        if stopped:
            raise TaskDied(f"{label} was not started: the run was stopped.")
        if (status := records.before(call)) is not None:
            return status
        begin(label)
        code, why = run_to_end(client, image, command, label, lambda: not stopped, volumes=volumes, **given)
        if stopped and code:
            raise TaskDied(f"{label} was stopped.")  # KFP waits, and tries it again, where it only failed
        if not stopped:
            note_end(failed, label, code, why)
        return code or records.note(call)

    def stop_all(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        # Not here: what ends this process in time is set up once this is done.
        removals.append(threading.Thread(target=engine.remove, args=[run]))
        removals[-1].start()

    engine.remove(run)  # those of an attempt that was killed
    with replaced(docker_task_handler, "run_docker_container", run_container), first(stop_all):
        try:
            yield local.DockerRunner(**arguments)
        except RuntimeError as error:
            raise RuntimeError(failure(failed) or str(error)) from error
        finally:
            for removal in removals:
                removal.join()
            engine.remove(run)  # those that were still being made


def run_to_end(
    client: Any,
    image: str,
    command: Sequence[str],
    label: str,
    wanted: Callable[[], bool] = lambda: True,
    **arguments: Any,
) -> tuple[int, str]:
    """Runs a container, prints what it says under a label, and removes it after it was asked how it ended.

    One that was still being made when the others were removed (:meth:`Engine.remove`) is not started.

    Args:
        client: of the engine.
        image: the container's.
        command: in it.
        label: for what it says.
        wanted: whether it is, once it is made.
        arguments: of the container.

    Returns:
        Its exit code, and why it died (:func:`death`), if it did.
    """
    import docker

    container = client.containers.create(image, list(command), **arguments)
    try:
        if not wanted():
            return 128 + signal.SIGKILL, "was removed before it ran"
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
