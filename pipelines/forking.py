"""A process that has imported what tasks need, and from which each is forked: imported anew, it takes a task seconds.

:class:`Forker` begins that process for a run, and tells it of tasks; the rest is what happens there. A task is forked
twice. The first is its keeper: it leads the task's process group, says how the task ended, and ends all that the task
started when the run does, whatever that was.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

PATIENCE_S = 2.0  # for a process that was asked to end; a person waits five seconds at most
STOPPING = {signal.SIGINT, signal.SIGTERM}
LATER = {"torch": "torch._dynamo"}  # what a library imports at first use: here where an optimiser is made


class Task:
    """A task that was begun.

    Args:
        said: of what it says, a pipe's end.
        told: likewise, of what its keeper tells of it.

    Attributes:
        group: its process group; 0 where it was never begun, for the process that tasks are forked from was killed.
    """

    def __init__(self, said: int, told: int) -> None:
        self._said, self._told = os.fdopen(said, "rb", 0), os.fdopen(told, "rb", 0)
        self.group = int(self._told.readline() or 0)

    def chunks(self) -> Iterator[bytes]:
        """What it says, until nobody can say any more."""
        while chunk := self._said.read(1 << 16):
            yield chunk

    def ended(self, patience: float) -> bool:
        """Whether it has ended, or does within so many seconds."""
        return self._told.closed or bool(select.select([self._told], [], [], patience)[0])

    def code(self) -> int:
        """Waits for its exit code, negative for a signal."""
        code = self._told.read()
        self.close()
        return int(code) if code else -signal.SIGKILL

    def signal(self, number: int) -> None:
        """Sends it, and all that it started, a signal."""
        with suppress(ProcessLookupError):
            if self.group:
                os.killpg(self.group, number)

    def close(self) -> None:
        """Waits for its end, and leaves nothing of it here."""
        self._said.close()
        if not self._told.closed:
            self._told.read()
            self._told.close()


class Forker:
    """Begins tasks, of any thread.

    Args:
        leash: a pipe to which nobody writes; when it is closed, tasks end.
        held: handles that a task has as long as it lives.
    """

    def __init__(self, leash: int, held: tuple[int, ...] = ()) -> None:
        self._requests, other = socket.socketpair()
        self._turn = threading.Lock()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", __name__, str(other.fileno()), str(leash)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[other.fileno(), leash, *held],
                start_new_session=True,  # a terminal's interrupts reach this process alone
            )

    def begin(self, source: str, function: str, given: str, environment: Mapping[str, str]) -> Task:
        """Begins a task.

        Args:
            source: of a KFP component.
            function: its name there.
            given: what KFP's executor is given, JSON.
            environment: of the task.
        """
        said, speak = os.pipe()
        status, tell = os.pipe()
        with tempfile.TemporaryFile() as request:
            request.write(json.dumps([source, function, given, dict(environment)]).encode())
            request.flush()
            with suppress(ConnectionError), self._turn:
                socket.send_fds(self._requests, [b"1"], [request.fileno(), speak, tell])
        os.close(speak)
        os.close(tell)
        return Task(said, status)

    def stop(self) -> None:
        """Begins no more tasks; those that were begun go on."""
        self._process.kill()

    def close(self) -> None:
        """Begins no more tasks, and leaves nothing behind."""
        self._requests.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:  # it imports
            self.stop()
            self._process.wait()


def serve(requests: socket.socket, leash: int) -> Callable[[], None]:
    """Forks a task for each request. Returns in a task's process, with what it is to do; else it does not return."""
    silence = os.open(os.devnull, os.O_WRONLY)
    _import(["kfp.dsl.executor"])
    while True:
        _, handles, *_ = socket.recv_fds(requests, 1, 3)
        _see_keepers_end()
        if not handles:  # nobody asks any more
            os._exit(0)
        with os.fdopen(handles[0], "rb") as request:
            request.seek(0)
            source, function, given, environment = json.load(request)
        speak, tell = handles[1:]
        _speak_to(speak)  # what is imported may have something to say
        os.close(speak)
        _import(_imported(ast.parse(source)))
        _import(later for name, later in LATER.items() if name in sys.modules)
        if not _fork():
            requests.close()
            _keep(tell, leash, silence)
            os.environ.clear()
            os.environ.update(environment)
            return partial(run_component, source, function, given)
        _speak_to(silence)
        os.close(tell)


def _see_keepers_end() -> None:
    """Else their time would be nobody's, and they would stay zombies."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _speak_to(handle: int) -> None:
    for number in (1, 2):
        os.dup2(handle, number)


def _import(names: Iterable[str]) -> None:
    """Imports what a task will, here, where the next ones find it."""
    for name in names:
        with suppress(Exception):  # the task meets the same one, and says it
            importlib.import_module(name)


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _fork() -> int:
    with warnings.catch_warnings():  # Python 3.12 counts threads; here one waits at the leash, NumPy's are idle
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _keep(tell: int, leash: int, silence: int) -> None:
    """Forks the task of this process, its keeper; returns in the task."""
    os.setpgid(0, 0)
    os.write(tell, b"%d\n" % os.getpid())
    if task := _fork():
        _speak_to(silence)
        _follow(leash)
        _, status = os.waitpid(task, 0)
        os.write(tell, b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(tell)
    os.close(silence)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where a script began the run with `&`
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _follow(leash: int) -> None:
    """Ends this process and its group when the leash is let go of."""

    def follow() -> None:
        os.read(leash, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()


def run_component(source: str, function: str, given: str) -> None:
    """What KFP's executor does with a component; see :meth:`Forker.begin`."""
    from kfp.dsl.executor import Executor

    names: dict[str, Any] = {}
    exec(compile(source, function, "exec", dont_inherit=True), names)
    Executor(json.loads(given), names[function]).execute()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # until a task can heed them, or its keeper ignores them
    _follow(int(sys.argv[2]))
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))()
