"""What a person sees of a run: a line a stage, warnings, where things are. All that is said goes to the run's log.

Kubeflow Pipelines and MLflow speak in this process, and the stages' output comes by way of it; so standard output and
standard error themselves lead to the log meanwhile, and the stages tell how far they are through a folder
(:class:`~imitation_refinement.progress.Channel`).
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from imitation_refinement.errors import InputError
from imitation_refinement.progress import CHANNEL_VARIABLE, Channel, say
from imitation_refinement.running.interrupts import TOLD, Stopped, guarded
from imitation_refinement.running.launch import environment

LABEL_WIDTH = 38  # characters; "train_refiner densenet_shuffled_labels"
TICK_S = 0.2
LAST_LINES = 15
CHANNEL = ".progress"  # in the run's folder


@dataclass
class Row:
    """What is known of a stage at work.

    Attributes:
        started: when it began, by the monotonic clock [s].
        result: what came of it.
        error: why it failed.
        bar: the number of its bar, in a terminal.
    """

    started: float = field(default_factory=time.monotonic)
    result: str = ""
    error: str = ""
    bar: TaskID | None = None


class Console:
    """Draws what the stages tell.

    Args:
        stream: where the person looks.
        channel: what the stages tell.
        log: the file of all that is said.
        shows: whether to draw at all; not where the person sees everything.
        resumed: the command that goes on with the run, which is told where it is stopped; empty if none does.
    """

    def __init__(self, stream: TextIO, channel: Channel, log: Path, shows: bool = True, resumed: str = "") -> None:
        self._stream, self._channel, self._log, self._shows = stream, channel, log, shows
        self._resumed = resumed
        self._rows: dict[str, Row] = {}  # of stages that have not ended well
        self._bars = _bars(stream) if shows and stream.isatty() else None
        self._over, self._one = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="console")

    def __enter__(self) -> Console:
        if self._bars:
            self._bars.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._over.set()
        self._thread.join()
        if self._bars:
            self._bars.stop()
        for label, row in self._rows.items():
            if error is not None:
                self._line(_row(label, row, _fate(row, error)))
        if isinstance(error, Exception) and not isinstance(error, InputError):
            self._last_lines()
        if isinstance(error, KeyboardInterrupt | Stopped) and self._resumed:
            text = _stopped(self._resumed)
            say(text)
            self._line(text)
            error.add_note(TOLD)

    def say(self, text: str) -> None:
        """One line for the person, and for the log."""
        say(text)
        self._drain()
        self._line(text)

    def _watch(self) -> None:
        over = False
        while not over:
            over = self._over.wait(TICK_S)
            self._drain()

    def _drain(self) -> None:
        with self._one:
            for event in self._channel.events():
                self._note(event)

    def _note(self, event: Mapping[str, Any]) -> None:
        label, row = event["stage"], self._rows.get(event["stage"])
        if event["event"] == "warning":
            self._line(f"WARNING: {label}: {event['text']}" if label else f"WARNING: {event['text']}")
        elif event["event"] == "begin":
            if row is not None:
                self._clear(row)
                self._line(f"WARNING: {label} is tried again" + (f": {row.error}" if row.error else ""))
            bar = self._bars.add_task(label, total=None, work="starts") if self._bars else None
            self._rows[label] = Row(bar=bar)
        elif row is None:
            return  # work that is no stage's
        elif event["event"] == "progress":
            if self._bars and row.bar is not None:
                done, total = event["done"], event["total"]
                work = f"{event['text']}: {done}" + (f" of {total}" if total else "")
                self._bars.update(row.bar, completed=done, total=total, work=work)
        elif event["event"] == "result":
            row.result = event["text"]
        elif event["event"] == "failure":
            row.error = event["text"]
        elif event["event"] == "end":
            self._clear(self._rows.pop(label))
            self._line(_row(label, row, row.result))

    def _clear(self, row: Row) -> None:
        if self._bars and row.bar is not None:
            self._bars.remove_task(row.bar)
            self._bars.refresh()

    def _line(self, text: str) -> None:
        if self._bars:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self._shows:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def _last_lines(self) -> None:
        """The log's last lines: those of the stages that failed, or of all where none is known."""
        starts = tuple(f"{label} | " for label in self._rows)
        last = deque[str](maxlen=LAST_LINES)
        with self._log.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.endswith(" | }\n"):
                    last.clear()  # KFP has listed a task's arguments
                elif line.strip() and line.startswith(starts or ""):
                    last.append(line.rstrip())
        self._line(f"the last lines of {self._log}:")
        for line in last:
            self._line(f"    {line}")


@contextmanager
def console(folder: Path, verbose: bool = False, resumed: str = "") -> Iterator[Console]:
    """The console of a run; what is printed in the block goes to ``log.txt`` in the run's folder, and is seen if asked.

    Args:
        folder: the run's.
        verbose: whether a person sees all that is said.
        resumed: the command that goes on with the run, which is said where it is stopped; empty if none does.

    Raises:
        KeyboardInterrupt: after an interrupt.
        Stopped: after a termination.
    """
    channel, log = folder / CHANNEL, folder / "log.txt"
    channel.mkdir()
    try:
        with (
            environment({CHANNEL_VARIABLE: str(channel.resolve())}),
            captured(log, verbose) as person,
            guarded(_stopped(resumed), person.fileno()),
            Console(person, Channel(channel), log, not verbose, resumed) as shown,
        ):
            yield shown
    finally:
        shutil.rmtree(channel, ignore_errors=True)


def _stopped(resumed: str) -> str:
    return f"stopped; go on with: {resumed}" if resumed else "stopped"


def clock(seconds: float) -> str:
    """A time as a clock shows it: 1:02, or 1:01:02."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _row(label: str, row: Row, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}} {clock(time.monotonic() - row.started):>7}   {text}".rstrip()


def _fate(row: Row, error: BaseException) -> str:
    """What became of a stage that did not end well; bad input is told once, at the end."""
    if not isinstance(error, Exception):
        return "stopped"
    return "failed" if isinstance(error, InputError) or not row.error else f"failed: {row.error}"


class _Clock(ProgressColumn):
    """How long a stage is at work."""

    def render(self, task: Task) -> Text:
        return Text(f"{clock(task.elapsed or 0.0):>7} ")


def _bars(stream: TextIO) -> Progress:
    """A bar for each stage at work; it goes when the stage ends."""
    whole = Column(no_wrap=True)
    return Progress(
        TextColumn(f"{{task.description:<{LABEL_WIDTH}}}", table_column=whole),
        _Clock(),
        BarColumn(12),
        TextColumn("{task.fields[work]}", table_column=whole, markup=False),
        console=Terminal(file=stream),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


@contextmanager
def captured(log: Path, verbose: bool = False) -> Iterator[TextIO]:
    """What this process and those that it starts print goes to a file in the block.

    Args:
        log: the file.
        verbose: whether it also goes where it went before, as standard error.

    Yields:
        Standard error as it was.
    """
    _flush()
    before = {number: os.dup(number) for number in (1, 2)}
    tee: threading.Thread | None = None
    with log.open("ab", buffering=0) as file, _text(os.dup(2)) as person:
        source, target = os.pipe() if verbose else (None, os.dup(file.fileno()))
        if source is not None:
            tee = threading.Thread(target=_copy, args=(source, file.fileno(), before[2]), name="tee")
            tee.start()
        for number in before:
            os.dup2(target, number)
        os.close(target)
        try:
            yield person
        finally:
            with suppress(OSError):  # of a disk that is full
                _flush()
            for number, handle in before.items():
                os.dup2(handle, number)
            if tee:
                tee.join()
            for handle in before.values():
                os.close(handle)


def _copy(source: int, log: int, person: int) -> None:
    """Copies to both; of a full disk's log what there is room for, so that nobody waits who speaks."""
    while chunk := os.read(source, 1 << 16):
        with suppress(OSError):
            os.write(log, chunk)
        os.write(person, chunk)
    os.close(source)


def _text(handle: int) -> TextIO:
    return os.fdopen(handle, "w", buffering=1, encoding=sys.stderr.encoding, errors="replace")


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
