"""The script of faults, in short: a stage that is killed at random moments."""

from __future__ import annotations

import os
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
