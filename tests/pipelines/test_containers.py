"""What KFP's DockerRunner leaves to us, as far as no engine is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import ImageNotFound, NotFound

import docker
from imitation_refinement.errors import InputError
from imitation_refinement.running.tracking import JOURNAL_VARIABLE
from pipelines import containers, local, processes
from pipelines.cli import main
from pipelines.profiles import read_profile
from pipelines.records import Records


@pytest.mark.parametrize(
    ("code", "out_of_memory", "words"),
    [
        (0, False, ""),
        (1, False, ""),
        (2, False, ""),
        (137, False, "was killed (exit code 137, SIGKILL)"),
        (137, True, "ran out of memory (exit code 137)"),
        (1, True, "ran out of memory (exit code 1)"),
        (143, False, "was killed (exit code 143, SIGTERM)"),
        (139, False, "was killed (exit code 139, SIGSEGV)"),
        (255, False, ""),
    ],
)
def test_why_a_container_died(code: int, out_of_memory: bool, words: str) -> None:
    why = containers.death(code, out_of_memory)
    assert why.startswith(words) and bool(why) == bool(words)


def test_what_the_tasks_inherit() -> None:
    needed = {
        "IMITATION_REFINEMENT_ERROR_FILE": "e",
        "OMP_NUM_THREADS": "2",
        "NUMBA_CPU_NAME": "haswell",
        "MP_API_KEY": "k",
        "MLFLOW_RUN_ID": "r",
    }
    others = {"HOME": "/home/me", "PATH": "/bin", "PYTHONPATH": ".", "MLFLOW_TRACKING_PASSWORD": "p", "AWS_SECRET": "t"}
    assert containers.inherited({**needed, **others}) == needed


NONE = Records({}, "")


def command(task: str) -> list[str]:
    given = {"inputs": {}, "outputs": {"outputFile": f"/runs/1/pipeline/imitation-refinement-1/{task}/output.json"}}
    return ["sh", "-ec", "…", "--executor_input", json.dumps(given), "--function_to_execute", "f"]


def test_the_task_of_a_call() -> None:
    assert containers.task_of(command("train-refiner-3")) == "train-refiner-3"
    assert containers.task_of(command("for-loop-1-iteration-0/simulate")) == "simulate"


class Container:
    """One that says what it is given to say."""

    def __init__(self, chunks: list[bytes], code: int, out_of_memory: bool = False, removed: bool = False) -> None:
        self.chunks, self.code, self.removed, self.removals, self.started = chunks, code, removed, 0, False
        self.attrs = {"State": {"OOMKilled": out_of_memory}}

    def start(self) -> None:
        self.started = True

    def logs(self, **_: object) -> Iterator[bytes]:
        yield from self.chunks

    def wait(self) -> dict[str, int]:
        if self.removed:
            raise NotFound("gone")
        return {"StatusCode": self.code}

    def reload(self) -> None: ...

    def remove(self, force: bool) -> None:
        self.removals += 1


def client_of(container: Container) -> Any:
    return SimpleNamespace(containers=SimpleNamespace(create=lambda *_, **__: container))


def test_a_container_is_asked_how_it_ended_and_then_removed(capsys: pytest.CaptureFixture[str]) -> None:
    omega = "ℓ₁\n".encode()
    container = Container([omega[:1], omega[1:]], 3)
    assert containers.run_to_end(client_of(container), "i", ["c"], "x") == (3, "")
    assert capsys.readouterr().out == "x | ℓ₁\n" and container.removals == 1
    assert containers.run_to_end(client_of(Container([], 137, True)), "i", ["c"], "x")[1].startswith(
        "ran out of memory"
    )


def test_a_container_that_was_removed_meanwhile_has_failed() -> None:
    """KFP's own function reports this as a success."""
    assert containers.run_to_end(client_of(Container([b"at work\n"], 0, removed=True)), "i", ["c"], "x") == (
        137,
        "was removed while it ran",
    )


def test_a_container_that_was_being_made_as_the_run_was_stopped_is_not_started(engine: Any) -> None:
    """A thread of KFP makes it; what removes the others has not seen it, and waits for the thread."""
    import signal

    from kfp.local import docker_task_handler

    late = Container([b"at work for long\n"], 0)

    def create(*_: object, **__: object) -> Container:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return late

    client = SimpleNamespace(containers=SimpleNamespace(create=create))
    with pytest.raises(KeyboardInterrupt), containers.tasks(engine, "run-1", [], NONE) as runner:
        arguments = runner.container_run_args
        with pytest.raises(processes.TaskDied, match="simulate was stopped"):  # or KFP would wait, and try it again
            docker_task_handler.run_docker_container(client, "i", command("simulate"), {}, **arguments)
        raise KeyboardInterrupt
    assert (late.started, late.removals) == (False, 1)


class FakeEngine:
    """An engine with a client of our own."""

    images = ("an-image",)
    user = "7:8"

    def __init__(self) -> None:
        self.removed: list[str] = []

    def remove(self, run: str) -> None:
        self.removed.append(run)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@localhost:5000")
    monkeypatch.setenv(JOURNAL_VARIABLE, str(tmp_path))
    return FakeEngine()


def test_the_runner_that_kfp_gets(engine: Any, tmp_path: Path) -> None:
    with containers.tasks(engine, "run-1", ["/data/cifs"], NONE) as runner:
        arguments = runner.container_run_args
    assert arguments["entrypoint"] == "" and arguments["user"] == "7:8" and "network_mode" not in arguments
    # They write to the run's journals, and need neither the store nor the way to it.
    assert arguments["environment"][JOURNAL_VARIABLE] == str(tmp_path) and "secret" not in str(arguments)
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in arguments["mounts"]] == [
        ("/data/cifs", "/data/cifs", True),
        (str(tmp_path), str(tmp_path), False),
    ]
    assert engine.removed == ["run-1", "run-1"]


def test_a_death_is_part_of_the_runs_failure(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kfp.local import docker_task_handler

    before = docker_task_handler.run_docker_container
    monkeypatch.setattr(containers, "run_to_end", lambda *_, **__: (137, "was killed (exit code 137)"))
    message = r"^evaluate was killed \(exit code 137\)\.$"
    with pytest.raises(RuntimeError, match=message), containers.tasks(engine, "run-1", [], NONE) as runner:
        arguments = runner.container_run_args
        assert docker_task_handler.run_docker_container(None, "i", command("evaluate"), {}, **arguments) == 137
        raise RuntimeError("evaluate failed.")
    assert docker_task_handler.run_docker_container is before


def test_an_interrupt_ends_the_containers_and_starts_no_more(engine: Any) -> None:
    import signal

    from kfp.local import docker_task_handler

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), containers.tasks(engine, "run-1", [], NONE) as runner:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(processes.TaskDied, match="simulate was not started"):
            arguments = runner.container_run_args
            docker_task_handler.run_docker_container(None, "i", command("simulate"), {}, **arguments)
        raise KeyboardInterrupt
    assert engine.removed == ["run-1", "run-1", "run-1"]  # of another attempt; those at work; those that came late
    assert signal.getsignal(signal.SIGINT) is before


def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(SystemExit) as end:
        main(["run", "--runner", "docker", "--profile", "smoke", "--output", str(tmp_path / "runs")])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: Docker: can't be used (") and "Start Docker" in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def info_client(info: dict[str, Any], **images: Any) -> Any:
    return lambda: SimpleNamespace(info=lambda: info, images=SimpleNamespace(**images))


def test_an_image_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImageNotFound(name)

    monkeypatch.setattr(docker, "from_env", info_client({}, get=missing))
    with pytest.raises(InputError, match=r"image a:1: is not on this machine\. Run `make images`\."):
        containers.Engine(["a:1"])


def test_who_a_task_runs_as(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "from_env", info_client({"SecurityOptions": ["name=seccomp,profile=default"]}))
    assert containers.Engine([]).user == f"{os.getuid()}:{os.getgid()}"
    monkeypatch.setattr(docker, "from_env", info_client({"SecurityOptions": ["name=rootless"]}))
    assert containers.Engine([]).user == "0:0"


def test_the_images_of_a_run_are_those_of_its_components() -> None:
    images = local._images(read_profile("smoke"))
    assert len(images) == 7 and all(name.endswith(":0.1.0") for name in images)
    assert "imitation-refinement/simulate-python:0.1.0" in images
