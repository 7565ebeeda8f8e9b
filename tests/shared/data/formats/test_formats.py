"""The registry of forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from imitation_refinement.data import formats
from imitation_refinement.data.formats import EXTENSIONS, FORMATS, format_of
from imitation_refinement.data.scans import Format
from imitation_refinement.errors import InputError


def test_every_module_is_a_form() -> None:
    folder = Path(formats.__file__).parent
    assert len(FORMATS) == len([path for path in folder.glob("*.py") if path.stem != "__init__"])
    assert {".xy", ".xye", ".csv", ".parquet"} <= set(EXTENSIONS)
    assert all(extension == extension.lower() and extension[0] == "." for extension in EXTENSIONS)


def test_a_form_is_told_by_extension_and_first_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def form(name: str, mark: bytes, last: bool = False) -> Format:
        return Format(name, (".raw",), lambda head: mark in head, lambda path: iter(()), last)

    known = (form("STOE", b"STOE"), form("BANK", b"BANK"), form("any", b"", last=True))
    monkeypatch.setattr(formats, "FORMATS", known)
    path = tmp_path / "a.RAW"
    for content, name in ((b"STOE 1", "STOE"), (b"\nBANK 1", "BANK"), (b"1 2", "any")):
        path.write_bytes(content)
        assert format_of(path).name == name
    path.write_bytes(b"STOE BANK")
    with pytest.raises(InputError, match="may be STOE and BANK"):
        format_of(path)
    monkeypatch.setattr(formats, "FORMATS", known[:2])
    path.write_bytes(b"1 2")
    with pytest.raises(InputError, match="is no STOE or BANK"):
        format_of(path)
    with pytest.raises(InputError, match="unknown suffix"):
        format_of(tmp_path / "a.png")
