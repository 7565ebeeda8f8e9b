"""Processes that answer, so that the page stays alive: a bounded queue before them, time and memory limits on each."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import signal
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio.to_thread

from imitation_refinement.errors import InputError
from imitation_refinement.progress import say
from web.answer import Question

MEMORY = 2 << 30  # bytes that an answer may take beside the model
START_S = 600.0  # kernels may have to be compiled first
ANSWER_S = 30.0
MOST_WAITING = 64  # questions that are not answered yet


class Unanswered(Exception):
    """There is no answer to a question, and it is not the question's fault alone; the message says what to do."""


class Busy(Unanswered):
    """Too many others wait."""


class Worker:
    """A process with the model in it, which is started again after it was ended.

    Args:
        folder: of the model; the one that comes with the software without it.
        seconds: that an answer may take.

    Raises:
        InputError: if the model can't be used.
    """

    def __init__(self, folder: Path | None, seconds: float = ANSWER_S) -> None:
        self.folder, self.seconds = folder, seconds
        self.about: dict[str, Any] = {}
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self.folder), daemon=True)
        self._process.start()
        theirs.close()
        try:
            about = self._connection.recv() if self._connection.poll(START_S) else None
        except EOFError:
            about = None
        if not isinstance(about, dict):
            self.end()
            raise about or InputError("model", "was not read: the process ended.", "Look for its message above.")
        self.about = about

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def ask(self, question: Question) -> tuple[bool, bytes]:
        """The answer as JSON, or a sentence why there is none, and whether it is an answer.

        Raises:
            Unanswered: if it took too long, or the process ended.
        """
        if not self.alive:
            self._start()
        try:
            self._connection.send(question)
            if self._connection.poll(self.seconds):
                answered, text = self._connection.recv()
                return bool(answered), bytes(text)
            problem = f"took longer than {self.seconds:g} s and was stopped"
        except (EOFError, OSError):
            problem = "ended the process that answered it"
        self.end()
        remedy = "Use `imitation-refinement identify` on the command line, which has no such limit."
        raise Unanswered(f"{question.name}: {problem}. {remedy}")

    def end(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.kill()
        self._process.join()


class Workers:
    """Several workers and the queue before them; used from one event loop.

    Args:
        number: of processes.
        folder: of the model.

    Raises:
        InputError: if the model can't be used.
    """

    def __init__(self, number: int, folder: Path | None) -> None:
        self._all = [Worker(folder) for _ in range(number)]
        self._free: asyncio.LifoQueue[Worker] = asyncio.LifoQueue()
        for worker in self._all:
            self._free.put_nowait(worker)
        self.about = self._all[0].about
        self.waiting = 0

    @property
    def alive(self) -> bool:
        """Whether all processes run."""
        return all(worker.alive for worker in self._all)

    async def ask(self, question: Question) -> tuple[bool, bytes]:
        """As :meth:`Worker.ask`, of the next free one.

        Raises:
            Busy: if too many wait.
            Unanswered: see there.
        """
        if self.waiting >= MOST_WAITING:
            raise Busy("Too many patterns are waiting for their answers. Try again in some seconds.")
        self.waiting += 1
        try:
            worker = await self._free.get()
            try:
                return await anyio.to_thread.run_sync(worker.ask, question)
            finally:
                self._free.put_nowait(worker)
        finally:
            self.waiting -= 1

    def end(self) -> None:
        """Ends all processes."""
        for worker in self._all:
            worker.end()


def _work(connection: Connection, folder: Path | None) -> None:
    """A worker's process: says what the model is, or why there is none, then answers until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which ends this process
    import torch

    from imitation_refinement.answer.model import Model
    from imitation_refinement.answer.warm import warm
    from web.answer import about

    torch.set_num_threads(1)
    try:
        model = Model.read(folder)
        warm()
    except InputError as error:
        connection.send(error)
        return
    _limit_memory()
    with suppress(EOFError, BrokenPipeError):  # nobody asks any more
        connection.send(about(model))
        while True:
            connection.send(_reply(model, connection.recv()))


def _reply(model: Any, question: Question) -> tuple[bool, bytes]:
    from web.answer import answer

    try:
        return True, json.dumps(answer(model, question), allow_nan=False, ensure_ascii=False).encode()
    except InputError as error:
        return False, str(error).encode()
    except MemoryError:
        problem = f"needs more than {MEMORY >> 30} GB of memory."
        return False, f"{question.name}: {problem} Give fewer points.".encode()
    except Exception:  # of a program that is not perfect: told here in full, and there in a sentence
        say(traceback.format_exc())
        problem = "could not be answered: an error of this program, whose message is where it was started."
        return False, f"{question.name}: {problem} Please report it with the file.".encode()


def _limit_memory() -> None:
    """What the process takes beyond what it has now ends in a MemoryError, not in a machine without memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
