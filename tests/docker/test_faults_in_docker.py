"""The script of faults, in short, on a stage in its container: `make test-docker`."""

from __future__ import annotations

import pytest

from benchmarks import faults

pytestmark = pytest.mark.docker


def test_a_stage_in_a_container_is_killed_and_told_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--docker", "--short", "--seed", "7", "--stops", "1", "--faults", "killed", "stopped"]
    status, said = faults.main(options), capsys.readouterr().out
    assert status == 0, said
    assert "| SIGKILL at random moments, again and again | stage collect_structures | 2 | 2 |  |" in said
    for name in ("SIGTERM", "Ctrl-C"):
        assert f"| {name}: ends in 5 s, names the command that goes on | stage collect_structures | 1 | 1 |" in said
