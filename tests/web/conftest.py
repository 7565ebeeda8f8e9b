"""The page by its command on a small model, and alone before workers that are none."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imitation_refinement.answer.cell import Evidence
from imitation_refinement.answer.fusion import Fusion
from imitation_refinement.answer.lattice import KINDS, LatticeVote
from imitation_refinement.answer.model import LIBRARY, RANKING, REFINER, Model, record_refiner, write_record
from imitation_refinement.answer.ranking import Ranking
from imitation_refinement.learning.config import ClassifierConfig, RootRefinerConfig
from imitation_refinement.learning.models import save_model
from imitation_refinement.xrd.crystal import N_CLASSES
from imitation_refinement.xrd.grid import Grid
from tests.shared.answer.conftest import lattices_once, small_library  # noqa: F401 (the former in force here, too)
from web import server
from web.answer import Question
from web.app import Access, make_app

START_S = 600.0


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of eleven crystals, and of a network and a refiner that have learnt nothing."""
    folder = tmp_path_factory.mktemp("web") / "model"
    folder.mkdir()
    small_library().write(folder / LIBRARY)
    Ranking.read().write(folder / RANKING)
    config = {"architecture": "strided", "depths": (1, 1), "widths": (8, 8), "embedding": 8, "positions": 8}
    torch.manual_seed(0)
    network, grid = ClassifierConfig.model_validate(config).build().eval(), Grid(axis="log_q", points=256)
    save_model(folder / "network-1.safetensors", network, grid, {})
    save_model(folder / REFINER, RootRefinerConfig(widths=(8, 12), hidden=8, positions=8).build(grid).eval(), grid, {})
    n = len(Evidence)
    weights = tuple(20.0 * (kind is Evidence.THEORY) for kind in Evidence)
    fusion = Fusion((0.0,) * n, (1.0,) * n, weights, (0.1, 0.1), (0.0, 0.1, 0.1))
    lattice = LatticeVote(np.zeros((N_CLASSES, KINDS + 2)))
    write_record(folder, ["network-1.safetensors"], lattice, fusion, {})
    record_refiner(folder)
    return folder


@pytest.fixture(scope="session")
def address(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where ``imitation-refinement web`` serves that model; ended by Ctrl-C."""
    words = ["web", "--model", str(model_folder), "--port", "0", "--workers", "1"]
    log = tmp_path_factory.mktemp("web") / "log.txt"
    with log.open("wb") as stream:
        command = [sys.executable, "-c", "from pipelines.cli import main; main()", *words]
        process = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_S
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield found[0]
        process.send_signal(signal.SIGINT)
        # 0 where what started the tests ignores Ctrl-C, as a shell has its background jobs do: uvicorn raises it again.
        assert process.wait(60) in (130, 0), log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()


class Answers:
    """Workers that answer with what they were asked, or as they are told."""

    def __init__(self, reply: Callable[[Question], tuple[bool, bytes]] | None = None) -> None:
        self.about, self.alive, self.asked = {"crystals": 1, "networks": 1}, True, list[Question]()
        self._reply = reply or (lambda question: (True, json.dumps({"length": len(question.data)}).encode()))

    async def ask(self, question: Question) -> tuple[bool, bytes]:
        self.asked.append(question)
        return self._reply(question)


@contextmanager
def served(answers: Any, access: Access | None = None) -> Iterator[str]:
    """The address of the page in this process."""
    listening = server._listen("127.0.0.1", 0)
    page = server.server(make_app(answers, access or Access()))
    thread = threading.Thread(target=page.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        page.should_exit = True
        thread.join()


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def page(answers: Answers) -> Iterator[str]:
    """The page's address before :class:`Answers`."""
    with served(answers) as address:
        yield address


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(server.TOKEN_VARIABLE, raising=False)
    assert server.TOKEN_VARIABLE not in os.environ


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Model:
    return Model.read(model_folder)
