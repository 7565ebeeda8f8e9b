"""Processes that answer: what ends them, and that the next question is answered all the same."""

from __future__ import annotations

import asyncio
import json
import signal
from multiprocessing import Pipe
from pathlib import Path

import pytest

from imitation_refinement.data.patterns import write_xy
from imitation_refinement.errors import InputError
from tests.shared.answer.conftest import measured
from web import workers
from web.answer import Question
from web.workers import Busy, Unanswered, Worker, Workers, _work


def test_a_model_that_is_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its Ctrl-C
    here, there = Pipe()
    _work(there, tmp_path)
    error = here.recv()
    assert isinstance(error, InputError) and "is no record of a model" in str(error) and "release" in error.remedy


def test_what_takes_too_long_is_stopped_and_the_next_is_answered(model_folder: Path, tmp_path: Path) -> None:
    write_xy(tmp_path / "NaCl.xy", *measured("NaCl"))
    question = Question((tmp_path / "NaCl.xy").read_bytes(), "NaCl.xy", "CuKa1")
    worker = Worker(model_folder, seconds=0.0)
    try:
        with pytest.raises(Unanswered, match=r"NaCl\.xy: took longer than 0 s and was stopped\. Use .*command line"):
            worker.ask(question)
        assert not worker.alive
        worker.seconds = workers.START_S
        answered, text = worker.ask(question)
        assert answered and json.loads(text)["patterns"][0]["name"] == "NaCl"
        worker._process.kill()
        worker._process.join()
        worker._start = lambda: None  # type: ignore[method-assign]
        with pytest.raises(Unanswered, match="ended the process that answered it"):
            worker.ask(question)
    finally:
        worker.end()


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
