"""Journals on disk: what is written is read again, whatever became of who wrote it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imitation_refinement.running.journal import EVENTS, Journal, journals, waiting


def begun(root: Path, name: str = "a stage", **about: str) -> Journal:
    journal = Journal(root, name)
    journal.append("begin", {"uuid": journal.uuid, "name": name, **about})
    return journal


def kinds(journal: Journal) -> list[str]:
    (known,) = (known for known in journals(journal.folder.parent) if known.uuid == journal.uuid)
    return [json.loads(line)["kind"] for _, line in known.lines()]


def test_events_in_their_order_with_their_places(tmp_path: Path) -> None:
    journal = begun(tmp_path, "train: a/b & ü")
    journal.append("metrics", {"step": 1, "values": {"loss": float("nan")}})
    journal.append("end", {"status": "FINISHED"})
    (known,) = journals(tmp_path)
    places = [place for place, _ in known.lines()]
    assert kinds(journal) == ["begin", "metrics", "end"] and places[-1] == known.size
    assert [json.loads(line)["kind"] for _, line in known.lines(places[0])] == ["metrics", "end"]
    assert known.uuid == journal.uuid and known.parent == "" and known.waiting() == 3 == waiting(tmp_path)
    assert known.folder.name == f"train-a-b--{journal.uuid[:8]}"


def test_the_half_line_of_a_killed_process_is_no_event(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.append("tag", {"key": "a", "value": "b"})
    journal.close()
    path = journal.folder / EVENTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert kinds(journal) == ["begin"]
    again = Journal(tmp_path, "a stage", journal.uuid)  # the run goes on
    again.append("begin", {"uuid": journal.uuid, "name": "a stage"})
    assert again.folder == journal.folder
    (known,) = journals(tmp_path)
    lines = [line for _, line in known.lines()]
    assert len(lines) == 3 and lines[1] == whole.splitlines(True)[1][:-3] + b"\n"
    assert [json.loads(lines[i])["kind"] for i in (0, 2)] == ["begin", "begin"]


def test_a_journal_that_was_not_begun_is_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "killed at once")
    (journal.folder / EVENTS).write_bytes(b'{"kind": "beg')
    (tmp_path / "other").mkdir()
    assert journals(tmp_path) == [] and waiting(tmp_path) == 0 and journals(tmp_path / "nowhere") == []


def test_whether_it_is_written_and_has_ended(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    (known,) = journals(tmp_path)
    assert not known.abandoned() and not known.ended()
    journal.append("end", {"status": "FAILED"})
    with (journal.folder / EVENTS).open("ab") as stream:
        stream.write(b'{"kind": "system", "time": 1, "data": {}}\n')  # a sample that came late
    assert known.ended() and not known.abandoned()
    journal.append("begin", {"uuid": journal.uuid, "name": "a stage"})  # it goes on
    assert not known.ended()
    journal.close()
    assert known.abandoned() and not known.ended()


def test_the_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from imitation_refinement.running.journal import Journal\n"
        "j = Journal(Path(sys.argv[1]), 'x'); j.append('begin', {'uuid': j.uuid}); print(flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        (known,) = journals(tmp_path)
        assert not known.abandoned()
        process.send_signal(signal.SIGKILL)
    assert known.abandoned() and not known.ended() and known.waiting() == 1


def test_files_are_kept_as_they_are(tmp_path: Path) -> None:
    from imitation_refinement.files import write_text

    journal = begun(tmp_path / "tracking")
    (tmp_path / "shards").mkdir()
    write_text(tmp_path / "a.txt", "first")
    write_text(tmp_path / "shards" / "0", "zero")
    one, folder = journal.keep(tmp_path / "a.txt"), journal.keep(tmp_path / "shards")
    write_text(tmp_path / "a.txt", "second")
    two = journal.keep(tmp_path / "a.txt")
    assert [(journal.folder / kept).read_text() for kept in (one, two)] == ["first", "second"]
    assert Path(one).name == "a.txt" and (journal.folder / folder / "0").read_text() == "zero"
    with pytest.raises(FileNotFoundError):
        journal.keep(tmp_path / "nowhere")
    assert len(list((journal.folder / "files").iterdir())) == 3


@pytest.mark.parametrize("later", [0, 60, -86_400])  # the clock may be set back in between
def test_a_parent_comes_before_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: float) -> None:
    parent = begun(tmp_path, "z")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + later)
    child = begun(tmp_path, "a", parent=parent.uuid)
    other = begun(tmp_path / "below", "b")
    found = journals(tmp_path)
    assert {known.uuid for known in found} == {parent.uuid, child.uuid, other.uuid}
    assert [known.uuid for known in found if known.uuid != other.uuid] == [parent.uuid, child.uuid]
    parent.append("tag", {})
    assert waiting(tmp_path, parent.uuid) == 3 and waiting(tmp_path) == 4


NO_ROOM = """
import json, resource, sys
from pathlib import Path
from imitation_refinement.running.journal import Journal, journals
from imitation_refinement.running.tracking import Tracker
root = Path(sys.argv[1])
journal = Journal(root, "x")
journal.append("begin", {"uuid": journal.uuid})
resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
tracker = Tracker(journal)
for step in range(9):
    tracker.log_metrics({"loss": 0.5}, step)
    tracker.set_tag("wide", "x" * 500)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
tracker.set_tag("last", "yes")
"""


def test_a_full_disk_ends_no_stage(tmp_path: Path) -> None:
    """The limit of a file's size is as real as a full disk, and needs no file system of its own."""
    ended = subprocess.run([sys.executable, "-c", NO_ROOM, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ended.stderr.count("WARNING: not all is tracked: ") == 1
    (known,) = journals(tmp_path)
    found = []
    for _, line in known.lines():
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append({"kind": "torn"})
    assert found[0]["kind"] == "begin" and found[-1]["data"] == {"key": "last", "value": "yes"}
    assert any(event["kind"] == "torn" for event in found)
