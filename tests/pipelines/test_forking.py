"""The process that tasks are forked from: what it imports, who ends with whom."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest

from pipelines.forking import Forker, Task
from tests.processes import ended
from tests.servers import wait_for


@pytest.fixture
def forker() -> Iterator[Forker]:
    leash, held = os.pipe()
    found = Forker(leash)
    yield found
    found.close()
    os.close(leash)
    os.close(held)


def begin(forker: Forker, folder: Path, code: str, environment: dict[str, str] | None = None) -> Task:
    """A task that does what ``code`` says, in an environment where modules of ``folder`` are found."""
    source = f"def work():\n{indent(code, '    ')}\n"
    return forker.begin(source, "work", given(folder), {**os.environ, **(environment or {})})


def given(folder: Path) -> str:
    """What KFP's executor is given for a component without arguments."""
    return json.dumps({"inputs": {}, "outputs": {"outputFile": str(folder / "output.json")}})


def said(task: Task) -> tuple[str, int]:
    """What a task says, and its exit code."""
    return b"".join(task.chunks()).decode(), task.code()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that tells who imports it, and can be found by what is begun in the test."""
    path = tmp_path / "told_when_imported.py"
    path.write_text("import os\nprint('imported by', os.getpid())\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return path


def test_a_module_is_imported_once_for_all_tasks(module: Path, tmp_path: Path, forker: Forker) -> None:
    code = "import told_when_imported\nimport os\nprint('task', os.getpid(), os.getpgrp())"
    (first, _), (second, _) = (said(begin(forker, tmp_path, code)) for _ in range(2))
    imported, task = first.splitlines()
    assert imported.startswith("imported by ")
    pid, group = task.split()[1:]
    assert len({imported.split()[-1], pid, group}) == 3  # the process that it is forked from, itself, its keeper
    assert [line.split()[0] for line in second.splitlines()] == ["task"]


def test_a_task_says_what_an_import_fails_with(tmp_path: Path, forker: Forker) -> None:
    text, code = said(begin(forker, tmp_path, "from no_such_package import anything"))
    assert "ModuleNotFoundError: No module named 'no_such_package'" in text and code == 1
    assert said(begin(forker, tmp_path, "print('next')")) == ("next\n", 0)


def test_a_task_has_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forker: Forker) -> None:
    code = "import os\nprint(os.environ.get('TOLD'), os.environ.get('LEFT'))"
    assert said(begin(forker, tmp_path, code, {"TOLD": "a secret"})) == ("a secret None\n", 0)
    monkeypatch.setenv("LEFT", "now")
    assert said(begin(forker, tmp_path, code)) == ("None now\n", 0)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("raise SystemExit(7)", 7),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", -9),
        ("import signal\nsignal.raise_signal(signal.SIGTERM)", -15),
        ("import signal\nsignal.raise_signal(signal.SIGINT)", -2),
        ("import subprocess\nsubprocess.run(['true'], check=True)", 0),
    ],
)
def test_how_a_task_ended(tmp_path: Path, forker: Forker, code: str, found: int) -> None:
    assert said(begin(forker, tmp_path, code))[1] == found


def test_what_a_task_does_at_its_end_is_done(tmp_path: Path, forker: Forker) -> None:
    code = "import atexit\natexit.register(print, 'tidied')\nprint('done', end=' ')"
    assert said(begin(forker, tmp_path, code)) == ("done tidied\n", 0)


def test_a_signal_reaches_what_a_task_has_started(tmp_path: Path, forker: Forker) -> None:
    task = begin(
        forker, tmp_path, "import subprocess\nsubprocess.run(['sh', '-c', 'echo ready; sleep 60; echo woken'])"
    )
    chunks = task.chunks()
    assert next(chunks) == b"ready\n"
    task.signal(signal.SIGTERM)
    assert b"woken" not in b"".join(chunks)
    assert task.code() == -signal.SIGTERM


def test_two_tasks_at_once_are_told_apart(tmp_path: Path, forker: Forker) -> None:
    slow = begin(forker, tmp_path, "import sys\nsys.stdin.read()\nimport time\ntime.sleep(0.3)\nprint('slow')")
    fast = begin(forker, tmp_path, "print('fast')")
    assert said(fast) == ("fast\n", 0)
    assert not slow.ended(0)
    assert said(slow) == ("slow\n", 0)
    assert slow.ended(0)


def test_no_task_is_begun_by_one_that_was_stopped(tmp_path: Path, forker: Forker) -> None:
    running = begin(forker, tmp_path, "import time\ntime.sleep(0.5)\nprint('on')")
    forker.stop()
    late = begin(forker, tmp_path, "print('late')")
    assert late.group == 0 and said(late) == ("", -signal.SIGKILL)
    late.signal(signal.SIGKILL)  # reaches nobody
    assert said(running) == ("on\n", 0)


def test_all_end_with_the_process_that_is_killed(module: Path, tmp_path: Path) -> None:
    """While a task works, and another's imports go on."""
    note = "import os, time\nopen({!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    module.write_text(note.format(str(tmp_path / "importing")))
    work = indent(note.format(str(tmp_path / "working")), "    ")
    code = (
        "import os\nfrom pipelines.forking import Forker\nforker = Forker(os.pipe()[0])\n"
        f"for body in ({work!r}, '    import told_when_imported'):\n"
        f"    forker.begin('def work():\\n' + body, 'work', {given(tmp_path)!r}, os.environ)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code])
    paths = [tmp_path / name for name in ("working", "importing")]
    wait_for(lambda: all(path.exists() and path.read_text() for path in paths))
    run.kill()
    run.wait()
    wait_for(lambda: all(ended(int(path.read_text())) for path in paths))


def test_a_task_may_start_processes_of_its_own(tmp_path: Path, forker: Forker) -> None:
    """Spawned ones import the main module: it must do nothing there."""
    pool = "from multiprocessing import get_context\nwith get_context('spawn').Pool(1) as pool:\n"
    code = pool + "    print(pool.map(abs, [-3]))"
    assert said(begin(forker, tmp_path, code)) == ("[3]\n", 0)
