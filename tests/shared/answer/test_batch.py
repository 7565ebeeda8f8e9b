"""Many patterns: all of them answered, whatever one of them does, and whenever the command was stopped."""

from __future__ import annotations

import csv
import errno
import json
import shutil
import signal
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imitation_refinement.answer import batch
from imitation_refinement.answer.batch import JOURNAL, Answerer, Asked, Item, identify_files
from imitation_refinement.data.patterns import write_xy
from imitation_refinement.errors import InputError
from imitation_refinement.results import figures
from imitation_refinement.running.interrupts import Stopped, stoppable
from tests.shared.answer.conftest import measured

SALT, EVIL = "NaCl", "<b>Ti & O2"
WRITTEN = ("answers.csv", "answers.json", "rejected.csv", "overview.html")


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of three crystals, one whose name is HTML, and two that can't be read."""
    folder = tmp_path_factory.mktemp("patterns")
    for name, crystal in ((SALT, "NaCl"), (EVIL, "TiO2"), ("BaSO4", "BaSO4")):
        write_xy(folder / f"{name}.xy", *measured(crystal))
    (folder / "empty.xy").write_text("")
    (folder / "falling.xy").write_text("".join(f"{90 - 0.1 * i:.1f} 5\n" for i in range(100)))
    return folder


@pytest.fixture(autouse=True)
def drawn_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "DPI", 20)


def asked(model: Path, patterns: Path, output: Path, **options: Any) -> batch.Summary:
    return identify_files([str(patterns)], output, "1.5406", model, **({"pictures": False} | options))


def content(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in WRITTEN}


def test_tables_say_the_same_and_one_bad_file_stops_none(model_folder: Path, patterns: Path, tmp_path: Path) -> None:
    summary = asked(model_folder, patterns, tmp_path, pictures=True)
    assert (summary.answered, summary.rejected, summary.kept) == (3, 2, 0)
    said = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    rows = pd.read_csv(tmp_path / "answers.csv", keep_default_na=False)
    assert list(rows["pattern_id"]) == [one["pattern_id"] for one in said] == sorted([SALT, EVIL, "BaSO4"])
    assert list(rows["candidate_1_formula"]) == [one["candidates"][0]["formula"] for one in said]
    assert [(tmp_path / one["picture"]).read_bytes()[:4] for one in said] == [b"\x89PNG"] * 3
    assert len(list((tmp_path / "pictures").iterdir())) == 3
    rejected = pd.read_csv(tmp_path / "rejected.csv")
    assert [Path(item).name for item in rejected["item"]] == ["empty.xy", "falling.xy"]
    page = (tmp_path / "overview.html").read_text(encoding="utf-8")
    assert EVIL not in page and "&lt;b&gt;Ti &amp; O2" in page and page.count("<polyline") == 3


def test_killed_at_any_moment_it_goes_on(
    model_folder: Path, patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(model_folder, patterns, tmp_path)
    whole, journal = content(tmp_path), (tmp_path / JOURNAL).read_bytes()
    lines = journal.splitlines(keepends=True)
    for end in (len(lines[0]), len(lines[0]) + len(lines[1]) + 10, len(journal) - 1):  # at an end, and within a line
        for name in WRITTEN:
            (tmp_path / name).unlink()
        (tmp_path / JOURNAL).write_bytes(journal[:end])
        summary = asked(model_folder, patterns, tmp_path)
        assert summary.kept == journal[:end].count(b"\n") - 1
        assert content(tmp_path) == whole
    monkeypatch.setattr(batch, "identify", None)  # nothing is asked twice
    assert asked(model_folder, patterns, tmp_path).kept == 5
    assert content(tmp_path) == whole


def test_another_question_and_a_changed_file_are_answered_anew(
    model_folder: Path, patterns: Path, tmp_path: Path
) -> None:
    own = tmp_path / "patterns"
    shutil.copytree(patterns, own)
    output = tmp_path / "answers"
    asked(model_folder, own, output)
    write_xy(own / f"{SALT}.xy", *measured("KCl"))
    summary = asked(model_folder, own, output)
    said = {
        one["pattern_id"]: one["candidates"][0]["formula"] for one in json.loads((output / "answers.json").read_bytes())
    }
    assert summary.kept == 4 and said == {SALT: "KCl", EVIL: "TiO2", "BaSO4": "BaSO4"}
    summary = asked(model_folder, own, output, elements="+O")
    said = {
        one["pattern_id"]: one["candidates"][0]["formula"] for one in json.loads((output / "answers.json").read_bytes())
    }
    assert summary.kept == 0 and "O" in said[SALT] and said[EVIL] == "TiO2"


def test_a_fault_of_the_program_is_told_of_its_file(
    model_folder: Path, patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identify = batch.identify

    def fail(model: Any, pattern: Any, allowed: Any) -> Any:
        if pattern.pattern_id == SALT:
            raise ZeroDivisionError("by nothing")
        return identify(model, pattern, allowed)

    monkeypatch.setattr(batch, "identify", fail)
    assert asked(model_folder, patterns, tmp_path).answered == 2
    with (tmp_path / "rejected.csv").open(newline="") as stream:
        why = {Path(row["item"]).name: row["reason"] for row in csv.DictReader(stream)}
    assert why[f"{SALT}.xy"] == "could not be answered (ZeroDivisionError: by nothing)."


def test_an_interrupt_that_a_library_has_lost_is_no_fault_of_a_file(
    model_folder: Path, patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise SystemError("returned a result with an exception set") from None

    asked(model_folder, patterns, tmp_path / "whole")
    with monkeypatch.context() as broken, pytest.raises(Stopped), stoppable(["x"]):
        broken.setattr(batch, "identify", lost)
        asked(model_folder, patterns, tmp_path / "cut")
    asked(model_folder, patterns, tmp_path / "cut")
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_a_full_disk_is_no_fault_of_a_file(
    model_folder: Path, patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken, pytest.raises(InputError, match=r"can't be written \(No space left"):
        broken.setattr("matplotlib.figure.Figure.savefig", full)
        asked(model_folder, patterns, tmp_path, pictures=True)
    summary = asked(model_folder, patterns, tmp_path, pictures=True)
    assert (summary.answered, summary.rejected) == (3, 2)


def test_tables_and_paths_that_are_none(model_folder: Path, patterns: Path, tmp_path: Path) -> None:
    x, y = measured("NaCl")
    table = {"pattern_id": ["a", "b"], "two_theta": [x, x[:10]], "intensity": [y, y[:10]], "wavelength": [1.5406] * 2}
    pq.write_table(pa.table(table), tmp_path / "table.parquet")
    paths = [str(tmp_path / "table.parquet"), str(tmp_path / "none.xy"), str(patterns / f"{SALT}.xy")]
    summary = identify_files(paths, tmp_path / "out", "1.5406", model_folder, pictures=False)
    assert [one["pattern_id"] for one in summary.rows] == ["a", SALT] and summary.rejected == 2
    with pytest.raises(InputError, match="no pattern can be used"):
        identify_files([str(tmp_path / "none.xy")], tmp_path / "none", "1.5406", model_folder)
    assert not (tmp_path / "none" / "answers.csv").exists()


class Pool:
    """A pool that works at once, here, and dies of one item."""

    def __init__(self, *_: Any) -> None:
        self.dead = False

    def submit(self, work: Any, item: Item) -> Future:
        future: Future = Future()
        self.dead |= item.name == SALT
        if self.dead:
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(work(item))
        return future

    def shutdown(self, **_: Any) -> None:
        """Nothing to end."""


def test_a_process_that_dies_takes_its_item_alone(
    model_folder: Path, patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(batch, "_answerer", Answerer(Asked(model_folder, wavelength=1.5406)))
    assert asked(model_folder, patterns, tmp_path, processes=2).answered == 2
    rejected = pd.read_csv(tmp_path / "rejected.csv").set_index("item")
    assert len(rejected) == 3
    assert rejected.loc[str(patterns / f"{SALT}.xy"), "reason"].startswith("the process that answered it died")


def test_processes_give_what_one_gives(model_folder: Path, patterns: Path, tmp_path: Path) -> None:
    for processes in (1, 2):
        asked(model_folder, patterns, tmp_path / str(processes), processes=processes)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    with pytest.raises(InputError, match="leaves no crystal of the library"):
        asked(model_folder, patterns, tmp_path / "3", elements="+U")
    with pytest.raises(InputError, match="is no record of a model"):
        asked(patterns, patterns, tmp_path / "4")
