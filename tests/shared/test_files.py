"""Whole or not at all."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitation_refinement.errors import InputError
from imitation_refinement.files import (
    alone,
    as_text,
    cell,
    digest,
    files_in,
    is_file,
    is_stray,
    output_folder,
    parse_json,
    read_bytes,
    recorded,
    refusal,
    sweep,
    unused_name,
    write_text,
    writing,
    writing_folder,
)


def test_a_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk"), writing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_block_leaves_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "sub" / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_good_block_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "größer θ"):
        with writing(path) as temporary:
            assert temporary.suffix == ".txt" and temporary.parent == path.parent
            temporary.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text
    write_text(path, "λ")
    assert path.read_bytes() == "λ".encode()
    assert list(path.parent.iterdir()) == [path]


def test_written_files_have_the_usual_rights(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
        (tmp_path / "b").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As a disk that is full: the system refuses more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with no_file_larger_than(1000), pytest.raises(InputError) as error:
        write_text(path, "new" * 1000)
    assert str(error.value).startswith(f"{path}: can't be written (File too large). Make room")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    folder = tmp_path / "folder"
    with no_file_larger_than(1000), pytest.raises(InputError, match="can't be written"), writing_folder(folder) as new:
        (new / "b").write_text("new" * 1000)
    assert list(tmp_path.iterdir()) == [path]


def test_a_library_that_hides_the_system_s_error(tmp_path: Path) -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with no_file_larger_than(1000), pytest.raises(InputError, match="File too large"), writing(tmp_path / "w") as new:
        save_file({"w": torch.zeros(4000)}, new)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SafetensorError, match="bad header"), writing(tmp_path / "w"):
        raise SafetensorError("bad header")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "x"), "w: can't be written (No space left on device)."),
        (OSError(errno.EDQUOT, "x"), "w: can't be written (Disk quota exceeded)."),
        (PermissionError(errno.EACCES, "x"), "w: can't be used (Permission denied)."),
        (OSError(errno.EROFS, "x"), "w: can't be used (Read-only file system)."),
        (FileNotFoundError(errno.ENOENT, "x"), ""),
        (ValueError("no space left"), ""),
    ],
)
def test_what_the_system_refuses(error: Exception, said: str) -> None:
    refused = refusal(error, "w")
    assert str(refused).startswith(said) if said else refused is None


def test_two_at_once_are_refused_and_a_killed_one_is_not_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with alone(lock, "here", "Wait."):
        with (
            pytest.raises(InputError, match=r"^here: is being written by another command\. Wait\.$"),
            alone(lock, "here", "Wait."),
        ):
            raise AssertionError("both were let in")
        assert lock.exists()
    assert not lock.exists()
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom imitation_refinement.files import alone\n"
        "with alone(Path(sys.argv[1]), 'x', ''):\n    os._exit(137)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(lock)]).returncode == 137
    assert lock.exists()
    with alone(lock, "here", "Wait."):
        pass
    assert not lock.exists()


def test_who_inherits_the_lock_keeps_others_out(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    code = "import sys; sys.stdin.read()"
    with alone(lock, "here", "") as handle:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=[handle])
        copy = lock.with_name("copy")
        os.link(lock, copy)  # as where the owner was killed, and could not take it along
    copy.replace(lock)
    with pytest.raises(InputError, match="another command"), alone(lock, "here", "", patience_s=0.2):
        pass
    assert child.stdin is not None
    child.stdin.close()
    child.wait()
    with alone(lock, "here", "", patience_s=5):
        pass


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "model", ".a.csv.notes", ".hidden.csv"):
        (tmp_path / name).touch()
    (tmp_path / ".a.csv.old_1234").mkdir()
    writers = [writing(tmp_path / "a.csv"), writing(tmp_path / "b.csv"), writing(tmp_path / "model")]
    left = [writer.__enter__() for writer in writers]
    sweep(tmp_path, "a.csv")
    assert [path.exists() for path in left] == [False, True, True]
    assert not (tmp_path / ".a.csv.old_1234").exists()
    sweep(tmp_path)
    assert [path.exists() for path in left] == [False, False, True]
    sweep(tmp_path, "model")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.csv.notes", ".hidden.csv", "a.csv", "b.csv", "model"]


def test_digest_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    path.write_bytes(os.urandom(3_000_000))
    assert digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_digest_of_a_folder(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, str]) -> str:
        for file, text in files.items():
            write_text(tmp_path / name / file, text)
        return digest(tmp_path / name)

    first = folder("1", {"a": "x", "sub/b": "y"})
    assert first == hashlib.sha256(b"a\0x" + b"sub/b\0y").hexdigest()
    assert first == folder("2", {"sub/b": "y", "a": "x"})
    assert first != folder("3", {"a": "x", "sub/c": "y"})
    assert first != folder("4", {"a": "x", "sub/b": "z"})


@pytest.mark.parametrize(
    "name",
    [
        ".a.xy",
        "._a.cif",
        ".DS_Store",
        "a.xy~",
        "a.xy.~1~",
        "#a.xy#",
        "~$a.csv",
        ".~lock.a.csv#",
        "Thumbs.db",
        "desktop.ini",
        "Desktop.INI",
        "a.swp",
        ".a.xy.swp",
        "a.xy.bak",
        "a.lock",
        "__MACOSX/a.cif",
        ".git/a.cif",
        "x/.ipynb_checkpoints/a.csv",
        "a.tmp",
        "Icon\r",
        "a (conflicted copy 1).xy",
    ],
)
def test_what_editors_and_systems_leave(name: str) -> None:
    assert is_stray(name)


@pytest.mark.parametrize(
    "name", ["a.xy", "a..xy", "a~b.xy", "backup.xy", "x/a.cif", "../a.cif", "./a.cif", "a#1.xy", "swp"]
)
def test_what_is_data(name: str) -> None:
    assert not is_stray(name)


def test_files_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.CIF", "a.cif", "c.txt", "a.cif~", "sub/d.cif", "sub/._d.cif"):
        (tmp_path / name).touch()
    for _ in range(2):
        assert files_in(tmp_path, (".cif",)) == [tmp_path / "a.cif", tmp_path / "b.CIF"]
    assert files_in(tmp_path, (".cif",), deep=True) == [tmp_path / n for n in ("a.cif", "b.CIF", "sub/d.cif")]
    said = capsys.readouterr().err.splitlines()  # once each
    assert [line.partition(": ")[2] for line in said] == [
        "1 hidden files and copies of editors or systems passed over (a.cif~)",
        "2 hidden files and copies of editors or systems passed over (a.cif~, sub/._d.cif)",
    ]


def test_a_folder_has_the_same_digest_with_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    before = digest(tmp_path)
    (tmp_path / ".DS_Store").touch()
    assert digest(tmp_path) == before


def test_text_of_any_encoding() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "latin-1"):
        assert as_text("1.54 Å".encode(encoding)) == "1.54 Å"


def test_output_folders_are_made_or_refused_before_the_work(tmp_path: Path) -> None:
    output_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        with pytest.raises(InputError, match="is no folder that can be written to"):
            output_folder(path)


ANY = st.text(st.characters(codec="utf-8"), max_size=400)


@given(st.lists(ANY, max_size=4))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_any_ids_are_names_of_files_that_stay_where_they_are(ids: list[str]) -> None:
    taken: set[str] = set()
    names = [unused_name(one, taken) for one in ids]
    assert len(set(names)) == len(ids) and set(names) == taken
    for name in names:
        assert name not in (".", "..") and not name.startswith((".", "-"))
        assert not set(name) & set("/\\\0\n:*?<>|\"'=")
        assert 0 < len(name.encode()) <= 120


@pytest.mark.parametrize(
    ("one", "name"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("CON", "CON_"),
        ("nul.txt", "nul.txt_"),
        ("", "pattern"),
        ("..", "pattern"),
        ("é" * 300, "é" * 50),
        ("NaCl (1)", "NaCl_(1)"),
    ],
)
def test_names_of_ids(one: str, name: str) -> None:
    assert unused_name(one, set()) == name


@given(ANY)
@settings(deadline=None, derandomize=True)
def test_no_cell_of_a_table_is_a_formula(text: str) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerow([cell(text)])
    (row,) = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    assert row[0] in (text, f"'{text}")  # nothing is lost
    if row[0] == text and text[:1] in ("=", "+", "-", "@", "\t", "\r"):
        float(text)  # a number may begin so


@pytest.mark.parametrize("text", ["=1+1", "=cmd|' /C calc'!A0", "+SUM(A1)", "-2+3", "@x", "\t=1", "--help"])
def test_formulas_have_an_apostrophe_before_them(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert [cell(value) for value in ("-1.5", "+2e3", "NaCl", -1.5, None)] == ["-1.5", "+2e3", "NaCl", -1.5, None]


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63)
LEAVES = st.none() | st.booleans() | NUMBERS | ANY
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(ANY, inner), max_leaves=20)


@given(JSON)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_json_of_finite_numbers_is_read_as_it_was_written(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text",
    ["NaN", "[Infinity]", "-Infinity", "1e400", '{"a": ' * 5000 + "1", "[" * 200_000, "9" * 400, "9" * 5000, "", "{"],
    ids=range(10),
)
def test_other_json_is_refused_as_one_kind_of_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@given(st.binary(max_size=200))
@settings(deadline=None, derandomize=True)
def test_any_bytes_are_json_or_no_json(data: bytes) -> None:
    try:
        value = parse_json(data)
    except ValueError:
        return
    assert not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is no record: it can't be read (No such file or directory). Make it."),
        ("{", "is no record (JSONDecodeError: "),
        ("[]", "is no record (TypeError: "),
        ("{}", "is no record (KeyError: 'name'). Make it."),
        ('{"name": "a"}', ""),
    ],
)
def test_what_is_no_record(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    told = ""
    try:
        with recorded(path, "is no record", "Make it."):
            assert parse_json(read_bytes(path))["name"] == "a"
    except InputError as error:
        told = str(error)
    assert told.startswith(f"{path}: {said}") if said else not told


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    assert read_bytes(path, 100) == bytes(100)
    with pytest.raises(InputError, match="is larger than 0 MiB"):
        read_bytes(path, 99)
    for odd in ("a" * 300, "a\0b"):
        assert not is_file(tmp_path / odd)
        with pytest.raises(InputError, match="can't be read"):
            read_bytes(tmp_path / odd)
