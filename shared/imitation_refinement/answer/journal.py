"""The journal of a batch: each answer as it is made, so that a command that was killed goes on where it was."""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from imitation_refinement.errors import InputError
from imitation_refinement.files import writable
from imitation_refinement.progress import say


@dataclass(frozen=True)
class Entry:
    """What came of one item.

    Attributes:
        key: of the item; another one if it has changed.
        found: what was found in it, in its order; JSON.
        rejected: what could not be used of it: where, problem, remedy.
    """

    key: str
    found: list[dict[str, Any]]
    rejected: list[tuple[str, str, str]]


class Journal:
    """Entries in a file of JSON lines, the first of which says what was asked; read again by where they stand.

    Behind each entry stands its checksum. A half line at the end, of a process that was killed while it wrote, is taken
    off; one that is damaged is passed over, and its item is answered again. A journal of other questions is begun anew,
    and that is said.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        """Opens the journal.

        Args:
            path: the file; made if it is not there.
            asked: all that answers depend on but for the items themselves; JSON.

        Raises:
            InputError: if another process works with it.
        """
        self._path = path
        with writable(path):
            self._stream: BinaryIO = path.open("a+b")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._stream.close()
            problem = "is being written by another command."
            raise InputError(path.parent, problem, "Wait for it, or give another folder with --output.") from None
        self._places: dict[str, int] = {}
        head = json.dumps(asked, sort_keys=True).encode() + b"\n"
        self._stream.seek(0)
        if (begun := self._stream.readline()) == head:
            self._index()
        else:
            if begun:
                say(f"{path.parent}: its answers were made by other options or another model, and are made anew")
            self._stream.truncate(0)
            with writable(path):
                os.write(self._stream.fileno(), head)

    def _index(self) -> None:
        place = self._stream.tell()
        for line in self._stream:
            if not line.endswith(b"\n"):
                break
            if (found := _whole(line)) is not None:
                self._places[json.loads(found)["key"]] = place
            place += len(line)
        self._stream.truncate(place)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, entry: Entry) -> None:
        """Writes an entry, whole: the next process sees it, or nothing of it.

        Raises:
            InputError: if the disk is full; the entries before stay.
        """
        place = self._stream.seek(0, 2)
        line = json.dumps(vars(entry)).encode()
        left = memoryview(b"%b\t%08x\n" % (line, zlib.crc32(line)))
        with writable(self._path):
            try:
                while left:  # past the stream, which would try again when it is closed
                    left = left[os.write(self._stream.fileno(), left) :]
            except OSError:
                self._stream.truncate(place)
                raise
        self._places[entry.key] = place

    def entries(self, keys: Iterable[str]) -> Iterator[Entry]:
        """The entries of some keys in their order, each read from the file when its turn comes."""
        for key in keys:
            self._stream.seek(self._places[key])
            record = json.loads(self._stream.readline().partition(b"\t")[0])
            yield Entry(record["key"], record["found"], [(w, p, r) for w, p, r in record["rejected"]])


def _whole(line: bytes) -> bytes | None:
    """An entry's line without its checksum; None where it is not as it was written."""
    entry, _, checksum = line.rstrip(b"\n").rpartition(b"\t")
    return entry if checksum == b"%08x" % zlib.crc32(entry) else None
