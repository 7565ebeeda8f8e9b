"""The pipeline's tasks in processes of this machine: what KFP's SubprocessRunner leaves to others.

It tells nothing of a process that was killed, mixes what two tasks say at once, leaves processes behind when this one
is stopped, and has each task import everything anew. All that is seen to here, and what the containers' runner needs
of it, too.
"""

from __future__ import annotations

import codecs
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from imitation_refinement.progress import begin, warn
from imitation_refinement.running.interrupts import first
from pipelines.forking import PATIENCE_S, Forker, Task
from pipelines.records import Call, Records


class TaskDied(RuntimeError):
    """A task's process or container was killed, or never started; the message says which and why."""


def death(code: int) -> str:
    """Why a process ended that did not end by itself, from its exit code or a shell's; empty if it did."""
    number = -code if code < 0 else code - 128
    if number == signal.SIGKILL:
        return f"was killed (exit code {128 + number}, SIGKILL): by hand, or because this machine ran out of memory"
    if number in {int(s) for s in signal.Signals}:
        return f"was killed (exit code {128 + number}, {signal.Signals(number).name})"
    return ""


def note_end(failed: dict[str, str], label: str, code: int, why: str) -> None:
    """Notes how a task ended.

    Args:
        failed: label → why it died, empty if it ended by itself; of tasks whose last attempt failed. Changed.
        label: the task.
        code: its exit code.
        why: why it died (:func:`death`), if it did.
    """
    failed.pop(label, None)
    if code:
        failed[label] = why
    if why:
        warn(f"{label} {why}")


def failure(failed: Mapping[str, str]) -> str:
    """What became of tasks that failed, as :func:`note_end` knows them: KFP names another task at times."""
    return " ".join(f"{label} {why or 'failed'}." for label, why in failed.items())


def relay(chunks: Iterable[bytes], label: str) -> None:
    """Prints what a task says, line by line, each after the task's name: two may speak at once.

    A line that a full disk has no room for is lost; the task's own files tell of that.
    """
    decoder, rest = codecs.getincrementaldecoder("utf-8")(errors="replace"), ""
    for chunk in chunks:
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        _print("".join(f"{label} | {line}\n" for line in lines))
    if rest:
        _print(f"{label} | {rest}\n")


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@contextmanager
def tasks(records: Records, lock: int | None = None) -> Iterator[Any]:
    """KFP's SubprocessRunner for the tasks of a run; its processes end with the block, and with this process.

    Args:
        records: of the run's tasks: those that are finished are not run.
        lock: a handle that a task holds as long as it lives; see :func:`.files.alone`.

    Raises:
        RuntimeError: when a task fails.
        KeyboardInterrupt: after an interrupt.
        Stopped: after a termination.
    """
    from kfp import local
    from kfp.local import subprocess_task_handler

    running: set[Task] = set()
    stopped: list[int] = []
    failed: dict[str, str] = {}
    leash, held = os.pipe()  # nobody writes to it: who reads learns of our end, whatever that was
    forker = Forker(leash, () if lock is None else (lock,))

    def signal_all(number: int) -> None:
        for task in list(running):
            task.signal(number)

    # Of two tasks at once a thread of KFP waits for one; and what a script starts with `&` may be deaf to interrupts.
    last_resort = threading.Timer(PATIENCE_S, signal_all, [signal.SIGKILL])

    def run_process(full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
        """In the place of KFP's function."""
        call = Call.of(full_command)
        if stopped:
            raise TaskDied(f"{call.label} was not started: the run was stopped.")
        if (code := records.before(call)) is not None:
            return code
        begin(call.label)
        *_, source, _, given, _, function = full_command  # of KFP's executor
        task = forker.begin(source, function, given, {**os.environ, **(env_vars or {})})
        running.add(task)
        if stopped:  # meanwhile
            task.signal(signal.SIGTERM)
        try:
            relay(task.chunks(), call.label)
            code = task.code()
        finally:
            _see_it_end(task)
            running.discard(task)
        if stopped and code:
            raise TaskDied(f"{call.label} was stopped.")  # KFP waits, and tries it again, where it only failed
        if not stopped:
            note_end(failed, call.label, code, death(code))
        return code or records.note(call)

    def stop_all(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        if len(stopped) > 1:
            signal_all(signal.SIGKILL)
            return
        forker.stop()
        signal_all(number)
        last_resort.start()

    with replaced(subprocess_task_handler, "run_local_subprocess", run_process), first(stop_all):
        try:
            yield local.SubprocessRunner(use_venv=False)
        except RuntimeError as error:
            raise RuntimeError(failure(failed) or str(error)) from error
        finally:
            last_resort.cancel()
            forker.close()
            os.close(leash)
            os.close(held)


def _see_it_end(task: Task) -> None:
    """Waits for a task that was interrupted, and no longer than a person would."""
    if not task.ended(PATIENCE_S):
        task.signal(signal.SIGKILL)
    task.close()


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """A module's function is another in the block."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
