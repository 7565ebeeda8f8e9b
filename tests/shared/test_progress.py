"""Progress without a terminal: plain lines; in one: a bar; and what the program that started this one is told."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imitation_refinement import progress as module
from imitation_refinement.progress import CHANNEL_VARIABLE, Channel, begin, progress, result, say, stage, warn


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


def test_a_warning_says_that_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    warn("mind the step")
    assert capsys.readouterr().err == "WARNING: mind the step\n"


@pytest.fixture
def channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Channel:
    monkeypatch.setenv(CHANNEL_VARIABLE, str(tmp_path))
    return Channel(tmp_path)


def test_the_program_that_started_this_one_is_told(clock: None, channel: Channel) -> None:
    begin("a")
    with stage("a"):
        list(progress(iter("xy"), "read", total=2))
        warn("mind the step")
        result("two letters")
    assert list(channel.events()) == [
        {"stage": "a", "event": "begin"},
        *({"stage": "a", "event": "progress", "text": "read", "done": n, "total": 2} for n in range(3)),
        {"stage": "a", "event": "warning", "text": "mind the step"},
        {"stage": "a", "event": "result", "text": "two letters"},
        {"stage": "a", "event": "end"},
    ]
    assert list(channel.events()) == []
    with pytest.raises(ValueError), stage("b"):
        raise ValueError("no\nmore")
    assert list(channel.events()) == [{"stage": "b", "event": "failure", "text": "ValueError: no"}]


def test_a_line_is_read_when_it_is_whole(channel: Channel, tmp_path: Path) -> None:
    line = json.dumps({"stage": "", "event": "warning", "text": "ℓ₁"}, ensure_ascii=False).encode() + b"\n"
    with (tmp_path / "other.jsonl").open("wb", buffering=0) as stream:
        stream.write(line + line[:-4])
        assert [event["text"] for event in channel.events()] == ["ℓ₁"]
        stream.write(line[-4:])
        assert [event["text"] for event in channel.events()] == ["ℓ₁"]


def test_two_processes_write_files_of_their_own(channel: Channel, tmp_path: Path) -> None:
    warn("here")
    there = "from imitation_refinement.progress import warn; warn('there')"
    subprocess.run([sys.executable, "-c", there], env={**os.environ}, check=True, capture_output=True)
    assert {event["text"] for event in channel.events()} == {"here", "there"}
    assert len(list(tmp_path.iterdir())) == 2


def test_who_starts_others_is_read_before_them(channel: Channel, tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        with (tmp_path / name).open("a") as stream:
            stream.write(json.dumps({"text": text}) + "\n")

    write("z.jsonl", "first")
    assert [event["text"] for event in channel.events()] == ["first"]
    write("a.jsonl", "third")
    write("z.jsonl", "second")
    assert [event["text"] for event in channel.events()] == ["second", "third"]


def test_nobody_listens_any_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CHANNEL_VARIABLE, str(tmp_path / "gone"))
    with stage("a"):
        warn("mind the step")
    assert not (tmp_path / "gone").exists()


def test_of_processes_together_one_tells(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with stage("a"):
        warn("mind the step")
    assert list(channel.events()) == []
