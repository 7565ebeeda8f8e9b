"""Progress without a terminal: plain lines; in one: a bar."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator

import pytest

from imitation_refinement import progress as module
from imitation_refinement.progress import progress, say


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock finds it two seconds on."""
    ticks = itertools.count(0, 2)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(ticks))


def test_plain_lines_with_rate_and_remaining_time(clock: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(10), "work", unit="items")) == list(range(10))
    err = capsys.readouterr().err.splitlines()
    # an item every 2 s, a line every 5 s at the earliest: after 6, 12 and 18 s
    assert err == [
        "work: 3 of 10, 14 s left, 0.5 items/s",
        "work: 6 of 10, 8 s left, 0.5 items/s",
        "work: 9 of 10, 2 s left, 0.5 items/s",
        "work: 10 done in 22.0 s, 0.5 items/s",
    ]


def test_unknown_total(clock: None, capsys: pytest.CaptureFixture[str]) -> None:
    def items() -> Iterator[int]:
        yield from range(4)

    assert list(progress(items(), "work")) == [0, 1, 2, 3]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "work: 3, 0.5 it/s"
    assert lines[-1].startswith("work: 4 done")


def test_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress([], "work")) == []
    assert capsys.readouterr().err.startswith("work: 0 done")


def test_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress(range(3), "work", unit="items")) == [0, 1, 2]
    err = capsys.readouterr().err
    assert "work: 100%" in err and "3/3" in err and "items/s" in err


def test_say_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say("a line")
    captured = capsys.readouterr()
    assert captured.err == "a line\n" and captured.out == ""
