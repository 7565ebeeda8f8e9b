"""The pipeline's tasks in processes: what they are called, what they say, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from kfp.local import subprocess_task_handler

from imitation_refinement.running.interrupts import Stopped
from pipelines import processes
from pipelines.processes import TaskDied, death, relay, tasks
from pipelines.records import Call, Records
from tests.processes import ended
from tests.servers import wait_for


def executor_call(place: str, code: str = "pass", **parameters: Any) -> list[str]:
    """A command as KFP's of a lightweight component, which does what ``code`` says."""
    outputs = {"outputFile": str(Path("/runs/1/pipeline/made", place, "output.json"))}
    given = json.dumps({"inputs": {"parameterValues": parameters}, "outputs": outputs})
    source = f"def work(label: str = ''):\n{indent(code, '    ')}\n"
    return ["sh", "-c", "…", source, "--executor_input", given, "--function_to_execute", "work"]


NONE = Records({}, "")


def run(command: list[str]) -> int:
    """As KFP calls it."""
    return subprocess_task_handler.run_local_subprocess(full_command=command, env_vars={"TOLD": "a secret"})


def test_what_a_task_is_called() -> None:
    def label_of(place: str, **parameters: Any) -> str:
        return Call.of(executor_call(place, **parameters)).label

    assert label_of("train-refiner-3", label="train_refiner vgg_targeted") == "train_refiner vgg_targeted"
    assert label_of("for-loop-1-iteration-1/simulate", shard=1.0, shards=2.0) == "simulate 2 of 2"
    assert label_of("for-loop-1-iteration-0/simulate", shard=0.0, shards=1.0) == "simulate"
    assert label_of("collect-structures", config={}) == "collect_structures"
    assert label_of("train-refiner", task={"label": "train_refiner vgg", "config": {}}) == "train_refiner vgg"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (0, ""),
        (1, ""),
        (-9, "was killed (exit code 137, SIGKILL)"),
        (143, "was killed (exit code 143, SIGTERM)"),
        (255, ""),
    ],
)
def test_why_a_process_died(code: int, why: str) -> None:
    assert death(code).startswith(why) and bool(death(code)) == bool(why)


def test_what_tasks_say_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    omega = "ℓ₁\n".encode()
    relay([omega[:1], omega[1:] + b"two\nth", b"ree"], "simulate")
    assert capsys.readouterr().out == "simulate | ℓ₁\nsimulate | two\nsimulate | three\n"


def test_a_process_is_given_its_environment_and_heard(capsys: pytest.CaptureFixture[str]) -> None:
    before = subprocess_task_handler.run_local_subprocess
    code = "import os, sys; print(os.environ['TOLD'], flush=True); sys.exit('bad')"
    with tasks(NONE):
        assert run(executor_call("preprocess", code)) == 1
    assert capsys.readouterr().out == "preprocess | a secret\npreprocess | bad\n"
    assert subprocess_task_handler.run_local_subprocess is before


def test_the_failure_names_the_task_that_failed(tmp_path: Path) -> None:
    """KFP names the first of the pipeline at times."""
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(RuntimeError) as error, tasks(NONE):
        assert run(executor_call(str(tmp_path / "preprocess"), "raise SystemExit(1)")) == 1
        assert run(executor_call(str(tmp_path / "preprocess"))) == 0  # tried again
        assert run(executor_call("train-refiner-3", kill, label="train_refiner vgg")) != 0
        raise RuntimeError("Inner task failed: 'simulate'.")
    assert str(error.value).startswith("train_refiner vgg was killed (exit code 137, SIGKILL)")
    assert "simulate" not in str(error.value) and "preprocess" not in str(error.value)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)])
@pytest.mark.parametrize("deaf", [False, True])
def test_a_signal_ends_the_processes_and_starts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, kind: type[BaseException], deaf: bool
) -> None:
    monkeypatch.setattr(processes, "PATIENCE_S", 0.5 if deaf else 60.0)
    how = f"import signal; signal.signal({int(number)}, signal.SIG_IGN)\n" if deaf else ""
    code = (
        f"{how}import os, pathlib, time\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        f"try:\n    time.sleep(60)\nfinally:\n    pathlib.Path({str(tmp_path / 'tidy')!r}).touch()"
    )

    def send() -> None:
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    sender = threading.Thread(target=send)
    with pytest.raises(kind), tasks(NONE):
        sender.start()
        with pytest.raises(kind):
            run(executor_call("simulate", code))
        with pytest.raises(TaskDied, match="preprocess was not started"):
            run(executor_call("preprocess"))
        raise kind(number)
    sender.join()
    assert signal.getsignal(number) is before
    assert (tmp_path / "tidy").exists() == (number == signal.SIGINT and not deaf)  # an interrupt lets it end in order
    wait_for(lambda: ended(int((tmp_path / "pid").read_text())))


def test_a_task_that_was_stopped_is_not_tried_again(tmp_path: Path) -> None:
    """A thread of KFP waits and does that, where a task of a loop only failed; a person waits for the thread."""
    code = f"import pathlib, time; pathlib.Path({str(tmp_path / 'began')!r}).touch(); time.sleep(60)"
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run(executor_call("simulate", code))
        except TaskDied as error:
            errors.append(error)

    with pytest.raises(Stopped), tasks(NONE):
        thread = threading.Thread(target=work)
        thread.start()
        wait_for((tmp_path / "began").exists)
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            thread.join()
    assert [str(error) for error in errors] == ["simulate was stopped."]


def test_a_task_ends_with_the_run_that_is_killed(tmp_path: Path) -> None:
    """Nobody could stop it any more."""
    write = f"import os, pathlib, time; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
    command = executor_call("simulate", f"{write}\ntime.sleep(60)")
    code = (
        "from kfp.local import subprocess_task_handler as handler\n"
        "from pipelines.processes import tasks\nfrom pipelines.records import Records\n"
        f"with tasks(Records({{}}, '')):\n    handler.run_local_subprocess(full_command={command!r})"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    run.kill()
    run.wait()
    wait_for(lambda: ended(int((tmp_path / "pid").read_text())))
