"""Whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from imitation_refinement.files import digest, write_text, writing


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
