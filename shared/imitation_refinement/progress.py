"""What a person is told while work goes on: lines, bars, what came of it.

On standard error: a bar in a terminal, plain lines elsewhere. Where :data:`CHANNEL_VARIABLE` names a folder, the
program that started this one is told, too: by JSON lines in a file of this process's own (:class:`Channel`).
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
CHANNEL_VARIABLE = "IMITATION_REFINEMENT_PROGRESS"
CHANNEL_INTERVAL_S = 0.2
PLAIN_INTERVAL_S = 5.0
_FILE = f"{uuid.uuid4().hex}.jsonl"  # containers may share the host's name and the process's number
_stage = ""  # what this process works at


def leads() -> bool:
    """Whether this process speaks and writes for all that torchrun started together; alone, it does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """One line for the person who watches, on standard error, without breaking a bar.

    It is not said where that is a file on a full disk: work goes on, and what it writes itself tells of that.
    """
    if not leads():
        return
    try:
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def warn(text: str) -> None:
    """As :func:`say`, for what somebody should know who sees no more than the console of a whole run."""
    say(f"WARNING: {text}")
    _tell("warning", text=text)


def result(text: str) -> None:
    """As :func:`say`, for what came of a stage."""
    say(text)
    _tell("result", text=text)


def passed(label: str, text: str) -> None:
    """Tells that a stage had been done before, and what is said of it."""
    say(f"{label}: {text}")
    _tell("begin", label)
    _tell("result", label, text=text)
    _tell("end", label)


def begin(label: str) -> None:
    """Tells that a stage begins, before its process is started: that takes seconds to read the libraries."""
    _tell("begin", label)


@contextmanager
def stage(label: str) -> Iterator[None]:
    """A stage's work; all that this process tells meanwhile is of that stage."""
    global _stage
    _stage = label
    try:
        yield
    except BaseException as error:
        _tell("failure", text=f"{type(error).__name__}: {error}".partition("\n")[0])
        raise
    else:
        _tell("end")
    finally:
        _stage = ""


def progress(items: Iterable[T], label: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yields ``items`` while it shows how far the work is.

    Args:
        items: what to work through.
        label: what the work is called.
        total: how many items there are; ``len(items)`` where it has one.
        unit: what an item is called.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not leads():
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label, total=total, unit=f" {unit}", dynamic_ncols=True)
        return
    start = last = told = time.monotonic()
    done = 0
    _tell("progress", text=label, done=done, total=total)
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - told >= CHANNEL_INTERVAL_S or done == total:
            told = now
            _tell("progress", text=label, done=done, total=total)
        if now - last >= PLAIN_INTERVAL_S and done != total:
            last, rate = now, done / (now - start)
            rest = f" of {total}, {(total - done) / rate:.0f} s left" if total else ""
            say(f"{label}: {done}{rest}, {rate:.1f} {unit}/s")
    seconds = time.monotonic() - start
    say(f"{label}: {done} done in {seconds:.1f} s, {done / max(seconds, 1e-9):.1f} {unit}/s")


def _tell(event: str, label: str | None = None, **values: Any) -> None:
    """One line to the program that started this one, if it listens; one that has ended listens no more.

    Nor does it where the disk is full: what the stage itself writes there tells of that.
    """
    folder = os.environ.get(CHANNEL_VARIABLE)
    if not folder or not leads():
        return
    line = json.dumps({"stage": _stage if label is None else label, "event": event, **values}) + "\n"
    with suppress(OSError):
        handle = os.open(Path(folder) / _FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


class Channel:
    """What processes tell through a folder.

    Args:
        folder: the folder, which is there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}  # bytes of each file

    def events(self) -> Iterator[dict[str, Any]]:
        """What was told since the last call: ``stage``, ``event``, and that event's own entries."""
        new = sorted({*self._folder.glob("*.jsonl")} - {*self._read})
        for path in (*self._read, *new):  # who starts others is read before them
            with path.open("rb") as stream:
                stream.seek(self._read.get(path, 0))
                whole = stream.read().rpartition(b"\n")  # the last line may still be written
            self._read[path] = self._read.get(path, 0) + len(whole[0]) + len(whole[1])
            for line in whole[0].splitlines():
                yield json.loads(line)
