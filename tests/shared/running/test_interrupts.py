"""How a command is ended: in order, with the command that goes on."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from llvmlite.binding import ExecutionEngine
from numba.core import serialize  # noqa: TID251

from imitation_refinement.running.interrupts import LOSING, TOLD, Stopped, first, stoppable

STAGE = """
import time
from pathlib import Path

class STAGE:
    def main():
        try:
            Path("begun").touch()
            time.sleep(60)
        finally:
            Path("tidy").touch()
"""
DEAF = """
import threading, time
from pathlib import Path
from imitation_refinement.running import interrupts

interrupts.ORDERLY_S = 0.3

class STAGE:
    def main():
        lock = threading.Lock()
        lock.acquire()
        threading.Thread(target=lock.acquire).start()
        try:
            Path("begun").touch()
            time.sleep(60)
        except BaseException:
            lock.acquire()
"""
IMPORTED = """
import time
from pathlib import Path

class Lost:
    def __del__(self):
        Path("begun").touch()
        time.sleep(60)  # an exception here is told, and ignored

lost = Lost()
del lost
"""
MAIN = "from imitation_refinement.running.interrupts import run_stage\nrun_stage(__package__)\n"


def stopped_stage(folder: Path, text: str, number: signal.Signals) -> tuple[int, str]:
    """The status of a stage that is stopped once it has begun, and what it says."""
    (folder / "toy").mkdir()
    for name, content in (("__init__", ""), ("stage", text), ("__main__", MAIN)):
        (folder / "toy" / f"{name}.py").write_text(content)
    command = [sys.executable, "-m", "toy", "--output", "my file"]
    paths = os.pathsep.join([str(folder), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths}
    stage = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    while not (folder / "begun").exists():
        assert stage.poll() is None
        time.sleep(0.01)
    stage.send_signal(number)
    _, said = stage.communicate()
    return stage.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_that_is_stopped_names_the_command_that_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    told = "stopped; go on with: python -m toy --output 'my file'\n"
    assert stopped_stage(tmp_path, STAGE, number) == (128 + number, told)
    assert (tmp_path / "tidy").exists()


@pytest.mark.parametrize("text", [DEAF, IMPORTED], ids=["swallowed", "imported"])
def test_a_stage_that_does_not_heed_it_ends_all_the_same(tmp_path: Path, text: str) -> None:
    """As where a library swallows the exception, or a thread waits for ever."""
    told = "stopped; go on with: python -m toy --output 'my file'\n"
    assert stopped_stage(tmp_path, text, signal.SIGTERM) == (143, told)


def test_an_interrupt_that_a_library_has_made_another_error_of(capsys: pytest.CaptureFixture[str]) -> None:
    """As pydantic does while a class is built."""
    with pytest.raises(Stopped) as end, stoppable(["x", "a b"]):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("can't build it") from None
    assert end.value.code == 130
    assert capsys.readouterr().err == "stopped; go on with: x 'a b'\n"


def test_an_interrupt_that_a_library_has_lost(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Stopped) as end, stoppable(["x"]), suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert end.value.code == 130
    assert capsys.readouterr().err == "stopped; go on with: x\n"


class Sends:
    """What sends a signal to its process when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return signal.raise_signal, (signal.SIGTERM,)


class Dies:
    """What sends a signal to its process in its end."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    "deed", [lambda: serialize._numba_unpickle(0, pickle.dumps(Sends()), b""), Dies], ids=["numba", "end"]
)
def test_where_an_exception_is_lost_it_comes_later(deed: Callable[[], object]) -> None:
    """Numba's is called where a signal comes while a compiled function is at work."""
    done = False
    with pytest.raises(Stopped), first(lambda *_: None):
        deed()
        done = True
        while True:
            time.sleep(0.01)
    assert done
    assert LOSING - {"__del__"} <= {*vars(serialize), *vars(ExecutionEngine)}


def test_what_was_told_is_not_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Stopped), stoppable(["x"]):
        error = KeyboardInterrupt()
        error.add_note(TOLD)
        raise error
    assert capsys.readouterr().err == ""


def test_other_errors_pass_and_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ValueError, match="other"), stoppable(["x"]):
        raise ValueError("other")
    heard: list[str] = []
    with (
        pytest.raises(Stopped) as end,
        first(lambda *_: heard.append("outer")),
        first(lambda *_: heard.append("inner")),
    ):
        signal.raise_signal(signal.SIGTERM)
    assert end.value.code == 143 and heard == ["inner", "outer"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
