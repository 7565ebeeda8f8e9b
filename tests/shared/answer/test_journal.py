import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitation_refinement.answer.journal import Entry, Journal
from imitation_refinement.errors import InputError

ENTRIES = [Entry("a", [{"n": 1}], []), Entry("ü", [], [("x", "is bad.", "Mend it.")]), Entry("c", [{"n": 3}], [])]


def test_entries_are_kept_and_read_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, {"q": 1}) as journal:
        for entry in ENTRIES[:2]:
            journal.add(entry)
        assert list(journal.entries(["ü", "a"])) == [ENTRIES[1], ENTRIES[0]]
    with Journal(path, {"q": 1}) as journal:
        assert "a" in journal and "c" not in journal
        journal.add(ENTRIES[2])
        assert list(journal.entries(["c", "a", "ü"])) == [ENTRIES[2], *ENTRIES[:2]]


def test_what_was_cut_at_any_place_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, {"q": 1}) as journal:
        for entry in ENTRIES:
            journal.add(entry)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with Journal(path, {"q": 1}) as journal:
            for entry in ENTRIES:
                if entry.key not in journal:
                    journal.add(entry)
            assert list(journal.entries([entry.key for entry in ENTRIES])) == ENTRIES
        assert path.read_bytes() == whole


def test_another_question_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal"
    with Journal(path, {"q": 1}) as journal:
        journal.add(ENTRIES[0])
    with Journal(path, {"q": 2}) as journal:
        assert "a" not in journal
    assert "are made anew" in capsys.readouterr().err


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "journal", {}),
        pytest.raises(InputError, match="is being written by another command"),
        Journal(tmp_path / "journal", {}),
    ):
        pass


def test_a_disk_that_fills_up_leaves_the_entries_before(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path, {"q": 1}) as journal:
        journal.add(ENTRIES[0])
        whole = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, before[1]))
        try:
            with pytest.raises(InputError, match=r"journal: can't be written \(File too large\)"):
                journal.add(Entry("b", [{"n": "x" * 1000}], []))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == whole and "b" not in journal
        journal.add(ENTRIES[1])
        assert list(journal.entries(["ü", "a"])) == [ENTRIES[1], ENTRIES[0]]


@given(st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_a_damaged_entry_is_made_anew(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    with Journal(path, {"q": 1}) as journal:
        for entry in ENTRIES:
            journal.add(entry)
    whole = path.read_bytes()
    begins = [0, *(i + 1 for i, byte in enumerate(whole) if byte == 10)]
    place = data.draw(st.integers(begins[1], len(whole) - 1).filter(lambda i: whole[i] != 10))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (10, whole[place])))
    path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
    damaged = sum(begin <= place for begin in begins[1:]) - 1
    with Journal(path, {"q": 1}) as journal:
        assert [entry.key in journal for entry in ENTRIES] == [i != damaged for i in range(len(ENTRIES))]
        journal.add(ENTRIES[damaged])
        assert list(journal.entries([entry.key for entry in ENTRIES])) == ENTRIES
