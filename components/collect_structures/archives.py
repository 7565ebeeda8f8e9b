"""CIFs in zip and tar archives, read in memory: nothing is unpacked to disk, so names can do no harm."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from imitation_refinement.errors import InputError
from imitation_refinement.files import is_stray, say_passed_over

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LARGEST_CIF = 16 * 2**20  # [bytes], unpacked
LARGEST_TOTAL = 8 * 2**30  # [bytes], unpacked
# A bomb is many times as large unpacked; CIFs are at most some fifty times.
MOST_TIMES, SMALL = 200, 64 * 2**20  # as large as packed; [bytes] below which that does not matter
MOST_MEMBERS = 1_000_000
BROKEN = (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, RuntimeError)

Opener = Callable[[], IO[bytes] | None]  # None: no file but a link


def cif_members(path: Path) -> Iterator[tuple[str, bytes | InputError]]:
    """The CIFs of an archive, in its order: each with its name and its content.

    An error stands in the place of a member that is a link, whose name leads out of the archive, that is larger than
    LARGEST_CIF, or that is damaged. What is no CIF counts as well: it has to be unpacked to get past it. Hidden files
    and copies of editors and systems are passed over, and it is said.

    Raises:
        InputError: if it is no archive, has more than MOST_MEMBERS members, or LARGEST_TOTAL bytes or MOST_TIMES as
            many as it is large, or holds no CIF.
    """
    found, total, unpacked = 0, 0, 0
    stray: list[str] = []
    try:
        for count, (name, size, read) in enumerate(_members(path)):
            unpacked += size
            if unpacked > max(SMALL, MOST_TIMES * path.stat().st_size):
                problem = f"unpacks to more than {MOST_TIMES} times its size."
                raise InputError(path, problem, "Pack the CIFs alone, or give them in a folder.")
            if count >= MOST_MEMBERS:
                raise InputError(path, f"has more than {MOST_MEMBERS:,} members.", "Split it.")
            if is_stray(name):
                stray.append(name)
                continue
            if not name.lower().endswith(".cif"):
                continue
            found += 1
            content = _read(read, f"{path}, {name}", name)
            if isinstance(content, bytes):
                total += len(content)
            if total > LARGEST_TOTAL:
                raise InputError(path, f"unpacks to more than {LARGEST_TOTAL / 2**30:.0f} GiB.", "Split it.")
            yield name, content
    except BROKEN as error:
        raise InputError(path, f"is no readable archive ({error}).", "Pack it again.") from None
    say_passed_over(path, stray)
    if not found:
        raise InputError(path, "is an archive without CIFs.", "Put .cif files there.")


def _read(read: Opener, where: str, name: str) -> bytes | InputError:
    """A member's content, or why not; no more is unpacked than LARGEST_CIF, whatever the archive says."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name.replace("\\", "/")).parts:
        return InputError(where, "its name leads out of the archive.", "Pack it again with relative names.")
    try:
        stream = read()
        if stream is None:
            return InputError(where, "is a link, not a file.", "Pack the file itself.")
        with stream:
            content = stream.read(LARGEST_CIF + 1)
    except BROKEN as error:
        return InputError(where, f"is damaged ({error}).", "Pack it again.")
    if len(content) > LARGEST_CIF:
        return InputError(where, f"unpacks to more than {LARGEST_CIF / 2**20:.0f} MiB.", "Give it apart.")
    return content


def _members(path: Path) -> Iterator[tuple[str, int, Opener]]:
    """The files of an archive: name, bytes that have to be unpacked for it, and what opens it."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    size = entry.file_size if entry.filename.lower().endswith(".cif") else 0
                    yield entry.filename, size, partial(_open_zip, archive, entry)
    else:
        with tarfile.open(path, "r|*") as archive:  # as a stream: one pass, each member unpacked once
            for member in archive:
                if not member.isdir():
                    yield member.name, member.size, partial(_open_tar, archive, member)


def _open_zip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes] | None:
    is_link = entry.external_attr >> 28 == 0o12  # the Unix mode's file type
    return None if is_link else archive.open(entry)


def _open_tar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
    return archive.extractfile(member) if member.isreg() else None
