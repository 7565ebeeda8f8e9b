"""The script of faults, in short: a stage that is killed at random moments."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import faults


def test_a_killed_stage_ends_with_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["--short", "--seed", "7"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("seed 7\n")
    assert "| SIGKILL at random moments, again and again | stage collect_structures | 2 | 2 |  |" in said


def test_a_fork_is_killed_as_a_process_is() -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--short", "--fork", "--seed", "7"]
    said = subprocess.run(command, cwd=faults.ROOT, env=faults.environment(), capture_output=True, text=True)
    assert "| SIGKILL at random moments, again and again | stage collect_structures | 2 | 2 |  |" in said.stdout
    assert said.returncode == 0


def test_what_does_not_hold_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults.Faults, "whole", lambda self, work: setattr(work, "expected", {"a": "b"}))
    monkeypatch.setattr(faults.Faults, "killed", lambda self, work: self.note("kill", work.name, ["", "is another"]))
    assert faults.main(["--short"]) == 1
    assert "| kill | stage collect_structures | 2 | 1 | is another |" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
def test_the_clock_of_a_process_is_set_back(tmp_path: Path) -> None:
    clock = faults.clock_of(tmp_path, "cc")
    asked = "import datetime, time; print(time.time(), datetime.datetime.now().timestamp(), time.monotonic())"

    def told() -> list[float]:
        said = subprocess.run(
            [sys.executable, "-c", asked], env={**os.environ, **clock}, capture_output=True, text=True
        )
        return [float(number) for number in said.stdout.split()]

    before = told()
    Path(clock["FAULTS_CLOCK"]).touch()
    after = told()
    assert [round((b - a) / 3600) for a, b in zip(after, before, strict=True)] == [24, 24, 0]


# A run that, where it is gone on with, ends a second after another one has come that goes on with it.
RUN = """
import os, sys, time
from pathlib import Path

resumed = "--resume" in sys.argv
folder = Path(sys.argv[-1]) if resumed else Path(sys.argv[-1], f"2{os.getpid()}")
folder.mkdir(parents=True, exist_ok=True)
(folder / "run.json").touch()

from imitation_refinement.files import alone
from imitation_refinement.running.stage import exit_on_input_error

if resumed:
    folder.with_name(f"came-{os.getpid()}").touch()
with exit_on_input_error(), alone(folder / ".lock", folder, ""):
    end = time.monotonic() + 60
    while resumed and len(list(folder.parent.glob("came-*"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1)
    (folder / "result").write_text(CONTENT)
"""


@pytest.mark.parametrize(("content", "held"), [("'same'", 1), ("folder.name", 0)])
def test_two_runs_have_their_own_folders_and_one_is_gone_on_with_once(tmp_path: Path, content: str, held: int) -> None:
    command = [sys.executable, "-c", RUN.replace("CONTENT", content)]
    work = faults.Work(
        "run",
        [*command, "{out}"],
        lambda out: [*command, "--resume", str(next(out.glob("2*/run.json")).parent)],
        lambda out: next((path.parent for path in sorted(out.glob("2*/run.json"))), out),
        1.5,
        {"result": faults.sha256(b"same").hexdigest()},
    )
    found = faults.Faults(tmp_path, random.Random(0), 0, 0)
    found.two(work)
    assert [(row.fault, row.cases, row.held) for row in found.rows] == [
        ("two at once, each in a folder of its own", 1, held),
        ("gone on with twice at once", 1, held),
    ]
    assert "one refused" in found.rows[1].note


# A client of an engine with containers of others and of a folder, which tells what else it is given.
DOCKER = """#!/bin/sh
case $1 in
ps) echo "other " && echo "PLACE-1 " && echo "some_name PLACE/out3/20261129-101500" ;;
*) echo "$@" ;;
esac
"""


def test_a_stage_in_a_container_is_given_what_a_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER.replace("PLACE", tmp_path.name))
    (tmp_path / "bin" / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    work = faults.Work(
        "stage", ["docker", "run", "-v", "{folder}:{folder}", "image", "--made", "{out}/made"], program=5
    )
    found, out = faults.Faults(tmp_path, random.Random(0), 0, 0, docker=True), tmp_path / "out"
    running = found.start(work.first(out), {"LD_PRELOAD": "clock.so"}, limit=9)
    assert isinstance(running, faults.Contained) and running.wait() == 0
    mounted = f"-v {tmp_path}:{tmp_path} image"
    given = f"--name {running.name} -e LD_PRELOAD=clock.so --ulimit fsize=9"
    assert running.said() == f"run {given} {mounted} --made {out}/made\n"
    told = work.told("python -m components.stage --made /elsewhere", out)
    assert told == ["docker", "run", "-v", f"{tmp_path}:{tmp_path}", "image", "--made", "/elsewhere"]
    assert faults.containers_of(tmp_path) == [f"{tmp_path.name}-1", "some_name"] and not running.contained(0)
