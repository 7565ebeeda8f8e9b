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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from imitation_refinement.errors import InputError
from imitation_refinement.progress import CHANNEL_VARIABLE, Channel, say
from pipelines.processes import environment, signals, stop

LABEL_WIDTH = 38  # characters; "train_refiner densenet_shuffled_labels"
TICK_S = 0.2
LAST_LINES = 15


@dataclass
class Row:
    """What is known of a stage at work.

    Attributes:
        started: when it began, by the monotonic clock [s].
        result: what came of it.
        error: why it failed.
        bar: how far it is, in a terminal.
    """

    started: float = field(default_factory=time.monotonic)
    result: str = ""
    error: str = ""
    bar: Any = None


class Console:
    """Draws what the stages tell.

    Args:
        stream: where the person looks.
        channel: what the stages tell.
        log: the file of all that is said.
        shows: whether to draw at all; not where the person sees everything.
    """

    def __init__(self, stream: TextIO, channel: Channel, log: Path, shows: bool = True) -> None:
        self._stream, self._channel, self._log, self._shows = stream, channel, log, shows
        self._rows: dict[str, Row] = {}  # of stages that have not ended well
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="console")

    def __enter__(self) -> Console:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._over.set()
        self._thread.join()
        for label, row in self._rows.items():
            if error is not None:
                self._line(_row(label, time.monotonic() - row.started, _fate(row, error)))
        if isinstance(error, Exception) and not isinstance(error, InputError):
            self._last_lines()

    def say(self, text: str) -> None:
        """One line for the person, and for the log."""
        say(text)
        self._line(text)

    def _watch(self) -> None:
        over = False
        while not over:
            over = self._over.wait(TICK_S)
            for event in self._channel.events():
                self._note(event)
            for row in self._rows.values():
                if row.bar is not None:
                    row.bar.refresh()
        for row in self._rows.values():
            _close(row)

    def _note(self, event: Mapping[str, Any]) -> None:
        label, row = event["stage"], self._rows.get(event["stage"])
        if event["event"] == "warning":
            self._line(f"WARNING: {label}: {event['text']}" if label else f"WARNING: {event['text']}")
        elif event["event"] == "begin":
            if row is not None:
                _close(row)
                self._line(f"WARNING: {label} is tried again" + (f": {row.error}" if row.error else ""))
            self._rows[label] = Row(bar=self._bar(label))
        elif row is None:
            return  # work that is no stage's
        elif event["event"] == "progress":
            if row.bar is not None:
                row.bar.total, row.bar.n = event["total"] or None, event["done"]
                of = f" of {event['total']}" if event["total"] else ""
                row.bar.set_postfix_str(f"{event['text']}: {event['done']}{of}", refresh=False)
        elif event["event"] == "result":
            row.result = event["text"]
        elif event["event"] == "failure":
            row.error = event["text"]
        elif event["event"] == "end":
            _close(self._rows.pop(label))
            self._line(_row(label, event["seconds"], row.result))

    def _bar(self, label: str) -> Any:
        if not (self._shows and self._stream.isatty()):
            return None
        known = os.get_terminal_size(self._stream.fileno()).columns  # a pseudo-terminal may have no size
        size: dict[str, Any] = {"dynamic_ncols": True} if known else {"ncols": 100, "nrows": 24}
        desc, form = f"{label:<{LABEL_WIDTH}}", "{desc} {bar:12} {elapsed}{postfix}"
        return tqdm(desc=desc, total=1, file=self._stream, leave=False, bar_format=form, **size)

    def _line(self, text: str) -> None:
        if self._shows:
            tqdm.write(text, file=self._stream)
            self._stream.flush()

    def _last_lines(self) -> None:
        """The log's last lines: those of the stages that failed, or of all where none is known."""
        starts = tuple(f"{label} | " for label in self._rows)
        with self._log.open(encoding="utf-8", errors="replace") as lines:
            said = (line.rstrip() for line in lines if line.strip() and line.startswith(starts or ""))
            last = deque(said, LAST_LINES)
        self._line(f"the last lines of {self._log}:")
        for line in last:
            self._line(f"    {line}")


@contextmanager
def console(folder: Path, verbose: bool = False) -> Iterator[Console]:
    """The console of a run; what is printed in the block goes to ``log.txt`` in the run's folder, and is seen if asked.

    Raises:
        Stopped: when this process is told to end.
    """
    channel, log = folder / ".progress", folder / "log.txt"
    channel.mkdir()
    try:
        with (
            environment({CHANNEL_VARIABLE: str(channel.resolve())}),
            captured(log, verbose) as person,
            Console(person, Channel(channel), log, shows=not verbose) as shown,
            signals(stop),
        ):
            yield shown
    finally:
        shutil.rmtree(channel)


def clock(seconds: float) -> str:
    """A time as a clock shows it: 1:02, or 1:01:02."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _row(label: str, seconds: float, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}} {clock(seconds):>7}   {text}".rstrip()


def _fate(row: Row, error: BaseException) -> str:
    """What became of a stage that did not end well; bad input is told once, at the end."""
    if not isinstance(error, Exception):
        return "stopped"
    return "failed" if isinstance(error, InputError) or not row.error else f"failed: {row.error}"


def _close(row: Row) -> None:
    if row.bar is not None:
        row.bar.close()


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
            _flush()
            for number, handle in before.items():
                os.dup2(handle, number)
            if tee:
                tee.join()
            for handle in before.values():
                os.close(handle)


def _copy(source: int, *targets: int) -> None:
    while chunk := os.read(source, 1 << 16):
        for target in targets:
            os.write(target, chunk)
    os.close(source)


def _text(handle: int) -> TextIO:
    return os.fdopen(handle, "w", buffering=1, encoding=sys.stderr.encoding, errors="replace")


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
