"""The journal of a tracked run on disk: what a stage says of itself, until an uploader has told it to MLflow.

A folder a run: ``events.jsonl``, one event a line (``kind``, ``time`` in ms since 1970, ``data``), and ``files/``, the
artifacts. The first event is ``begin``, the last ``end``; a run that goes on later begins again in the same file. Who
writes holds a lock on ``events.jsonl``, which goes with the process, however that ends. The uploader
(:mod:`imitation_refinement.tracking.upload`) keeps what it has sent in ``sent.json`` and what the store refuses for
good in ``refused.jsonl``. Journals of runs that belong together stand side by side in one folder.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from imitation_refinement.files import write_text

EVENTS, FILES, SENT, REFUSED = "events.jsonl", "files", "sent.json", "refused.jsonl"
SAMPLE = b'{"kind": "system"'  # how the line of what the machine does begins; the uploader adds it
TAIL = 1 << 16  # bytes in which the last event is looked for
SILENT = "store-is-silent"  # a file beside the journals while their store does not answer; it says why


class Journal:
    """A run's journal, open for what happens next.

    Attributes:
        folder: of the journal.
        uuid: of the run, which the store keeps as a tag.
    """

    def __init__(self, root: Path, name: str, uuid: str = "") -> None:
        """Makes the journal, or opens it again.

        Args:
            root: the folder of journals that belong together.
            name: the run's name.
            uuid: of a journal that is there already.

        Raises:
            OSError: if it can't be written.
        """
        self.uuid = uuid or uuid4().hex
        self.folder = root.resolve() / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:60]}-{self.uuid[:8]}"
        if uuid:
            self.folder = next((known.folder for known in journals(root) if known.uuid == uuid), self.folder)
        with suppress(FileNotFoundError):  # the root was empty, and was removed by who emptied it
            self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        # At the end always, and a line a write: the uploader adds what it samples.
        self._stream = (self.folder / EVENTS).open("ab+", buffering=0)
        self._lock()
        size = self._stream.seek(0, os.SEEK_END)
        self._stream.seek(max(0, size - 1))
        self._torn = size > 0 and self._stream.read(1) != b"\n"  # by a process that was killed

    def _lock(self) -> None:
        for _ in range(100):
            try:
                fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # who looks whether it is held holds it for a moment
                time.sleep(0.01)
            except OSError:  # a file system without locks
                return
            else:
                return

    def append(self, kind: str, data: Mapping[str, Any]) -> None:
        """Writes an event; one that is written in part is none, as if it had not been.

        Raises:
            OSError: if it can't be written.
        """
        event = {"kind": kind, "time": int(time.time() * 1000), "data": data}
        line = b"\n" * self._torn + json.dumps(event, default=str).encode() + b"\n"
        written = self._stream.write(line)
        self._torn = 0 < written < len(line)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    def keep(self, path: Path, name: str = "") -> str:
        """Takes a file, or a folder, as it is now.

        Args:
            path: of it. A file that others have links to is not to be written to again, as those of
                :func:`imitation_refinement.files.writing` are not.
            name: what it is called there; as it is called already by default.

        Returns:
            Its path in the journal's folder.

        Raises:
            OSError: if it can't be read or kept.
        """
        place = self.place(name or path.name)
        try:
            if path.is_dir():
                shutil.copytree(path, place, copy_function=_take)
            else:
                _take(path, place)
        except OSError:
            shutil.rmtree(place.parent, ignore_errors=True)
            raise
        return place.relative_to(self.folder).as_posix()

    def place(self, name: str) -> Path:
        """A path of its own in ``files/`` for something of that name."""
        folder = self.folder / FILES / uuid4().hex[:12]
        (folder / name).parent.mkdir(parents=True)
        return folder / name

    def close(self) -> None:
        """Nothing more is written by this process."""
        self._stream.close()

    def discard(self) -> None:
        """Removes the journal of a run that was not begun."""
        self._stream.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def leave(root: Path) -> None:
    """Removes a folder of journals in which none is left, with what an uploader said of their store."""
    with suppress(OSError):  # another begins there
        if all(path.name == SILENT for path in root.iterdir()):
            (root / SILENT).unlink(missing_ok=True)
            root.rmdir()


def _take(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


@dataclass(frozen=True)
class Known:
    """A journal that is there, for who reads it.

    Attributes:
        folder: of it.
        time: when the run began [ms].
        about: the data of its first event.
    """

    folder: Path
    time: int
    about: Mapping[str, Any]

    @property
    def uuid(self) -> str:
        """Of the run."""
        return str(self.about["uuid"])

    @property
    def parent(self) -> str:
        """The uuid of the run that this one is a part of; empty where there is none."""
        return str(self.about.get("parent") or "")

    @property
    def whole(self) -> str:
        """The uuid of the run that it is a part of, or of itself."""
        return self.parent or self.uuid

    @property
    def size(self) -> int:
        """Bytes of the events so far; 0 where the journal was removed."""
        try:
            return (self.folder / EVENTS).stat().st_size
        except FileNotFoundError:
            return 0

    def lines(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Whole lines from a place on, each with the place after it; the half line of a writer is left."""
        with suppress(FileNotFoundError), (self.folder / EVENTS).open("rb") as stream:
            stream.seek(start)
            for line in stream:
                start += len(line)
                if not line.endswith(b"\n"):
                    return
                yield start, line

    def abandoned(self) -> bool:
        """Whether nobody writes it any more, though its run may not have ended: the lock of who did is gone."""
        try:
            with (self.folder / EVENTS).open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except OSError:  # held; or a file system without locks, where nobody knows
            return False
        return True

    def ended(self) -> bool:
        """Whether the last that its writer wrote is the run's end, or the journal was removed."""
        try:
            with (self.folder / EVENTS).open("rb") as stream:
                stream.seek(max(0, self.size - TAIL))
                lines = [line for line in stream.read().split(b"\n")[:-1] if not line.startswith(SAMPLE)]
        except FileNotFoundError:
            return True
        return bool(lines) and lines[-1].startswith(b'{"kind": "end"')

    def sent(self) -> dict[str, Any]:
        """What the uploader has noted: ``store``, ``run_id``, ``offset`` in bytes; empty where it has nothing."""
        try:
            return dict(json.loads((self.folder / SENT).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def note_sent(self, record: Mapping[str, Any]) -> None:
        """Keeps what was sent."""
        write_text(self.folder / SENT, json.dumps(record))

    def waiting(self) -> int:
        """How many events have not been sent."""
        sent = self.sent()
        return sum(1 for _ in self.lines(int(sent.get("offset", 0)))) + len(sent.get("later", ()))


def journals(root: Path) -> list[Known]:
    """The journals in a folder and below, all parents' before children's, whatever the clock was when they began."""
    found = []
    for path in root.rglob(EVENTS):
        # It may be removed meanwhile, or its writer killed before the first line was whole.
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError), path.open("rb") as stream:
            event = json.loads(stream.readline())
            found.append(Known(path.parent, int(event["time"]), {"uuid": event["data"]["uuid"], **event["data"]}))
    return sorted(found, key=lambda known: (bool(known.parent), known.time, known.folder.name))


def waiting(root: Path, uuid: str = "") -> int:
    """How many events of all journals in a folder and below have not been sent; of one run and its parts if asked."""
    return sum(known.waiting() for known in journals(root) if uuid in ("", known.whole))
