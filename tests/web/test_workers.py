"""Processes that answer: what ends them, and that the next question is answered all the same."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from imitation_refinement.errors import InputError
from web import workers
from web.answer import Question
from web.workers import Busy, Unanswered, Worker, Workers, _work


def test_a_model_that_is_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its Ctrl-C
    here, there = Pipe()
    _work(there, tmp_path)
    error = here.recv()
    assert isinstance(error, InputError) and "is no record of a model" in str(error) and "release" in error.remedy


def _echo(connection: Connection, folder: Path | None) -> None:
    """A worker's process without a model: it hangs, dies or answers as the file's name says."""
    connection.send({"crystals": 0})
    while question := connection.recv():
        if question.name == "hang":
            time.sleep(600)
        if question.name == "die":
            os._exit(1)
        connection.send((True, question.data))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_hangs_or_dies_is_said_and_the_next_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    forked = multiprocessing.get_context("fork")  # a spawned process would not know this module
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda _: forked)
    monkeypatch.setattr(workers, "_work", _echo)
    worker = Worker(None, seconds=0.2)
    try:
        assert worker.about == {"crystals": 0} and worker.alive
        with pytest.raises(Unanswered, match=r"hang: took longer than 0\.2 s and was stopped\. Use .*command line"):
            worker.ask(Question(b"", "hang"))
        assert not worker.alive
        worker.seconds = 60
        assert worker.ask(Question(b"abc", "a.xy")) == (True, b"abc")
        with pytest.raises(Unanswered, match="die: ended the process that answered it"):
            worker.ask(Question(b"", "die"))
        assert worker.ask(Question(b"def", "a.xy")) == (True, b"def")
    finally:
        worker.end()
    assert not worker.alive


class Slow:
    """A worker that answers when it is let."""

    about, alive = {}, True

    def __init__(self, folder: Path | None) -> None:
        self.ended = False

    def ask(self, question: Question) -> tuple[bool, bytes]:
        return True, question.data

    def end(self) -> None:
        self.ended = True


def test_too_many_that_wait_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "Worker", Slow)
    monkeypatch.setattr(workers, "MOST_WAITING", 5)

    async def ask_many() -> list[tuple[bool, bytes] | BaseException]:
        pool = Workers(2, None)
        asked = (pool.ask(Question(str(i).encode(), "a.xy")) for i in range(8))
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert pool.waiting == 0 and await pool.ask(Question(b"more", "a.xy")) == (True, b"more")
        return found

    found = asyncio.run(ask_many())
    assert found[:5] == [(True, str(i).encode()) for i in range(5)]
    assert all(isinstance(one, Busy) and "Try again" in str(one) for one in found[5:])
