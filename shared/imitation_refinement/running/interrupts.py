"""How a command is ended by a person or a system: in order, with a word on how to go on."""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import CodeType, FrameType
from typing import Any

ORDERLY_S = 4.0  # that an end in order may take: of a run 2 for its tasks, and 2 for a store
AGAIN_S = 0.01  # after which a signal comes again that could not be heeded
# Short functions that C code calls, which loses an exception: numba, as it hands over the result of a compiled
# function, fails then with a SystemError; llvmlite, as it compiles, and an object's end tell it in a traceback.
LOSING = {"_numba_unpickle", "_raw_object_cache_notify", "_raw_object_cache_getbuffer", "__del__"}
TOLD = "the person knows how to go on"  # a note of what stopped a command
_asked: list[int] = []  # the signals that came
_again: list[int] = []  # those that come again


class Stopped(SystemExit):
    """The run was stopped by a signal; the exit status says by which."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def stop(number: int, frame: FrameType | None) -> None:
    """Ends what runs in this process, by a signal; soon, where an exception would be lost (:data:`LOSING`).

    Raises:
        KeyboardInterrupt: for an interrupt.
        Stopped: for another.
    """
    if any(code.co_name in LOSING for code in _codes(frame)):
        main = threading.main_thread().ident
        assert main is not None
        _again.append(number)
        threading.Timer(AGAIN_S, signal.pthread_kill, (main, number)).start()
        return
    _again.clear()
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


@contextmanager
def first(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """An interrupt or a termination in the block goes to ``handler``, then where it went before, or to :func:`stop`."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def both(number: int, frame: FrameType | None) -> None:
        if not _again:  # or everybody has heard of it
            handler(number, frame)
        (before[number] if callable(before[number]) else stop)(number, frame)

    for number in before:
        signal.signal(number, both)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def guarded(text: str, person: int = 2) -> Iterator[None]:
    """An interrupt or a termination in the block is an exception, and ends the process where that does not.

    In the middle of an import it ends at once, as if killed: an exception there may be lost, or leave a lock that other
    threads wait for. So it does after four seconds, where a library has swallowed the exception.

    Args:
        text: what is said where it ends so.
        person: the file, by its number, that it is said to.
    """

    def note(number: int, frame: FrameType | None) -> None:
        _asked.append(number)
        if any(code.co_filename.startswith("<frozen importlib") for code in _codes(frame)):
            end()
        signal.setitimer(signal.ITIMER_REAL, ORDERLY_S)

    def end(*_: object) -> None:
        os.write(person, f"{text}\n".encode())
        os._exit(128 + _asked[0])

    before = signal.signal(signal.SIGALRM, end)
    outermost = before is signal.SIG_DFL  # else the time runs on, for the block that this one is in
    if outermost:
        _asked.clear()
    try:
        with first(note):
            yield
    finally:
        if outermost:
            signal.setitimer(signal.ITIMER_REAL, 0)
            _asked.clear()
        signal.signal(signal.SIGALRM, before)


@contextmanager
def stoppable(command: Sequence[str]) -> Iterator[None]:
    """As :func:`guarded`, with one line that says how to go on.

    A block that has come to its end with the exception swallowed is not taken for whole.

    Args:
        command: the program and its arguments, which given again go on, or begin anew where little is lost; or nothing.
            It is not told where somebody has told it already (:data:`TOLD`).

    Raises:
        SystemExit: 130 after an interrupt, 143 after a termination.
    """
    text = f"stopped; go on with: {shlex.join(command)}" if command else "stopped"
    with guarded(text):
        try:
            yield
            check_stopped()
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | Stopped)
            if not (stopped or _asked):
                raise  # else a library, as it was imported, has made another error of the interrupt
            if TOLD not in getattr(error, "__notes__", ()):
                print(text, file=sys.stderr, flush=True)
            raise error if isinstance(error, Stopped) else Stopped(_asked[0] if _asked else signal.SIGINT) from None


def check_stopped() -> None:
    """Ends what runs in a block of :func:`guarded` that was told to end, where a library has swallowed the exception.

    Raises:
        Stopped: if it was.
    """
    if _asked:
        raise Stopped(_asked[0])


def _codes(frame: FrameType | None) -> Iterator[CodeType]:
    """What a frame runs, what has called it, and so on."""
    while frame:
        yield frame.f_code
        frame = frame.f_back


def run_stage(package: str) -> None:
    """Runs the command line of a stage, which can be stopped from the first moment on: its libraries take seconds.

    Args:
        package: of the stage, as ``components.simulate``.
    """
    alone = "WORLD_SIZE" not in os.environ  # torchrun ends what it started, without a word
    with stoppable(["python", "-m", package, *sys.argv[1:]]) if alone else nullcontext():
        importlib.import_module(f"{package}.stage").STAGE.main()
