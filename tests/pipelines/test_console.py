"""What a person sees of a run, and what only the log has."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.progress import CHANNEL_VARIABLE, Channel
from imitation_refinement.running.interrupts import Stopped
from pipelines.console import Console, captured, clock, console

Tell = Callable[..., None]
TWICE = "import os; os.write(1, b'by the other\\n'); os.write(2, b'and its error\\n')"


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    """What a stage tells through the folder ``told``."""
    (tmp_path / "told").mkdir()

    def write(stage: str, event: str, **values: Any) -> None:
        with (tmp_path / "told" / "a.jsonl").open("a") as stream:
            stream.write(json.dumps({"stage": stage, "event": event, **values}) + "\n")

    return write


@pytest.fixture
def person() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def shown(tmp_path: Path, tell: Tell, person: io.StringIO) -> Console:
    arguments = ["simulate | {", "simulate |     'seed': 1", "simulate | }"]
    said = ["simulate | at it", "preprocess | at it, too", "simulate | no such atom", "", "KFP has ended"]
    (tmp_path / "log.txt").write_text("".join(f"{line}\n" for line in [*arguments, *said]))
    return Console(person, Channel(tmp_path / "told"), tmp_path / "log.txt")


def read_all(terminal: int) -> str:
    """What was written to the other end of a pseudo-terminal, which is closed."""
    found = b""
    with os.fdopen(terminal, "rb", buffering=0) as stream, suppress(OSError):  # its end is an error
        while chunk := stream.read(1 << 16):
            found += chunk
    return found.decode()


def columns(text: str) -> list[list[str]]:
    return [line.split(maxsplit=2) for line in text.splitlines()]


def test_a_line_a_stage(shown: Console, tell: Tell, person: io.StringIO) -> None:
    with shown:
        for label in ("simulate", "preprocess"):  # two at once
            tell(label, "begin")
            for done in range(50):
                tell(label, "progress", text="patterns", done=done, total=50)
        tell("preprocess", "result", text="7 patterns")
        tell("preprocess", "end")
        tell("simulate", "result", text="8 peaks")
        tell("simulate", "end")
    found = columns(person.getvalue())
    assert [(label, result) for label, _, result in found] == [("preprocess", "7 patterns"), ("simulate", "8 peaks")]


def test_warnings_and_what_is_tried_again(shown: Console, tell: Tell, person: io.StringIO) -> None:
    with shown:
        tell("", "warning", text="simulate was killed")
        for attempt in range(3):
            tell("simulate", "begin")
            tell("simulate", "warning", text="mind the step")
            if attempt:
                tell("simulate", "failure", text="ValueError: no")
        tell("simulate", "begin")
        tell("simulate", "end")
    *warnings, end = person.getvalue().splitlines()
    assert warnings == [
        "WARNING: simulate was killed",
        "WARNING: simulate: mind the step",
        "WARNING: simulate is tried again",
        "WARNING: simulate: mind the step",
        "WARNING: simulate is tried again: ValueError: no",
        "WARNING: simulate: mind the step",
        "WARNING: simulate is tried again: ValueError: no",
    ]
    assert end.startswith("simulate  ") and len(columns(end)[0]) == 2


def test_a_failure_and_the_last_it_said(shown: Console, tell: Tell, person: io.StringIO, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), shown:
        tell("simulate", "begin")
        tell("simulate", "failure", text="KeyError: 'Xx'")
        raise RuntimeError("failed")
    first, *rest = person.getvalue().splitlines()
    assert first.split(maxsplit=2)[::2] == ["simulate", "failed: KeyError: 'Xx'"]
    assert rest == [
        f"the last lines of {tmp_path / 'log.txt'}:",
        "    simulate | at it",
        "    simulate | no such atom",
    ]


def test_a_failure_before_any_stage_begins(shown: Console, person: io.StringIO) -> None:
    with pytest.raises(RuntimeError), shown:
        raise RuntimeError("failed")
    assert person.getvalue().splitlines()[-1] == "    KFP has ended"


@pytest.mark.parametrize(
    ("error", "fate"), [(InputError("a.cif", "is bad."), "failed"), (KeyboardInterrupt(), "stopped")]
)
def test_bad_input_and_interrupts_need_no_log(
    shown: Console, tell: Tell, person: io.StringIO, error: BaseException, fate: str
) -> None:
    with pytest.raises(type(error)), shown:
        tell("simulate", "begin")
        tell("simulate", "failure", text="InputError: a.cif: is bad.")
        raise error
    ((label, _, end),) = columns(person.getvalue())
    assert (label, end) == ("simulate", fate)


def test_bars_in_a_terminal(tell: Tell, tmp_path: Path) -> None:
    """Both stages at work have one, which goes when the stage ends; what stays are the same lines as in a file."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        shown = Console(terminal, Channel(tmp_path / "told"), tmp_path / "log.txt")
        for label in ("simulate", "preprocess"):
            tell(label, "begin")
            tell(label, "progress", text="patterns", done=4, total=8)
        tell("preprocess", "end")
        with shown:
            pass
    seen = read_all(ours)
    assert "simulate" in seen and "patterns: 4 of 8" in seen
    assert re.search(r"preprocess +\d:\d\d\r\n", seen)
    assert re.sub(r"\x1b\[[\d?]*[A-Za-z]", "", seen.rpartition("\n")[2]).strip() == ""  # no bar is left
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")  # the cursor is seen again


def test_all_that_is_printed_goes_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.txt"
    with captured(log) as stream:
        os.write(1, b"by us\n")
        subprocess.run([sys.executable, "-c", TWICE], check=True)
        stream.write("for you\n")
    os.write(1, b"after\n")
    assert log.read_text() == "by us\nby the other\nand its error\n"
    assert capfd.readouterr() == ("after\n", "for you\n")


def test_all_that_is_printed_is_seen_if_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), captured(tmp_path / "log.txt", verbose=True):
        subprocess.run([sys.executable, "-c", TWICE], check=True)
        raise ValueError
    os.write(1, b"after\n")
    assert (tmp_path / "log.txt").read_text() == "by the other\nand its error\n"
    assert capfd.readouterr() == ("after\n", "by the other\nand its error\n")


def test_a_run_leaves_things_as_they_were(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handler, files = signal.getsignal(signal.SIGTERM), set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(Stopped) as end, console(tmp_path) as shown:
        assert Path(os.environ[CHANNEL_VARIABLE]).is_dir()
        shown.say("hello")
        os.write(1, b"not for you\n")
        signal.raise_signal(signal.SIGTERM)
    assert end.value.code == 143 and signal.getsignal(signal.SIGTERM) is handler
    assert CHANNEL_VARIABLE not in os.environ and [path.name for path in tmp_path.iterdir()] == ["log.txt"]
    assert set(os.listdir("/proc/self/fd")) == files  # noqa: PTH208
    seen = capfd.readouterr()
    assert "hello\n" in seen.err and "not for you" not in seen.err + seen.out


RUN = """
import sys, time
from pathlib import Path
from imitation_refinement.running import interrupts
from pipelines.console import console

class Lost:
    def __del__(self):
        begun.touch()
        time.sleep(60)  # an exception here is told, and ignored

interrupts.ORDERLY_S = 0.3
folder = Path(sys.argv[1])
begun = folder / "begun"
"""
SWALLOWED = """
from pipelines.processes import tasks
from pipelines.records import Records
with interrupts.stoppable([]), console(folder, resumed="ir run --resume x"), tasks(Records({}, "")):
    try:
        begun.touch()
        time.sleep(60)
    except BaseException:
        time.sleep(60)
"""
IMPORTED = """
(folder / "imported.py").write_text("import __main__\\nlost = __main__.Lost()\\ndel lost")
sys.path.insert(0, str(folder))
with interrupts.stoppable([]), console(folder, resumed="ir run --resume x"):
    import imported
"""


@pytest.mark.parametrize("text", [SWALLOWED, IMPORTED], ids=["swallowed", "imported"])
def test_a_run_that_does_not_heed_a_signal_ends_all_the_same(tmp_path: Path, text: str) -> None:
    """And the person is told how to go on."""
    command = [sys.executable, "-c", RUN + text, str(tmp_path)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "begun").exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.terminate()
    assert run.communicate()[1] == "stopped; go on with: ir run --resume x\n"
    assert run.returncode == 143


def test_times() -> None:
    assert [clock(s) for s in (0.2, 59.6, 3599.4, 3661)] == ["0:00", "1:00", "59:59", "1:01:01"]
