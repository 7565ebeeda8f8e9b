"""Stoe RAW, which is told from other files of that name and refused: no description of it is public."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imitation_refinement.data.scans import Format, Scan
from imitation_refinement.errors import InputError


def read(path: Path) -> Iterator[Scan | InputError]:
    """Nothing.

    Raises:
        InputError: always, with what to do instead.
    """
    raise InputError(
        path,
        "is Stoe RAW, of which no description is public.",
        "Export it from WinXPOW as ASCII or as .xy, and give that.",
    )


FORMAT = Format("Stoe RAW", (".raw",), lambda head: head.startswith(b"RAW_"), read)
