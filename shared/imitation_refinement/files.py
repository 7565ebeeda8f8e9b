"""Files: written whole or not at all, found without what editors leave beside them, read within bounds, their digests.

What a file holds may be anything: it is read up to :data:`MOST_BYTES`, JSON as finite numbers and not deeper than
Python can follow; ids become file names and cells of tables that do nothing (:func:`unused_name`, :func:`cell`).
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from imitation_refinement.errors import InputError
from imitation_refinement.progress import say, warn

SOURCES_KEY = b"sources"  # of a Parquet schema's metadata: where its content came from at first, JSON

# What editors and systems leave beside data: hidden files (macOS's ``._name`` among them), copies, locks.
_STRAY = re.compile(
    r"\..*|.*~|~\$.*|#.*#|__MACOSX|Thumbs\.db|ehthumbs\.db|desktop\.ini|Icon\r"
    r"|.*\.(?:swp|swo|bak|backup|old|orig|tmp|temp|part|partial|crdownload|lock|lck)"
    r"|.*\.sync-conflict-.*|.*conflicted copy.*",
    re.IGNORECASE | re.DOTALL,
)
_SHOWN = 3  # names of files that were passed over
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_UNLOCKABLE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_LOCK_TICK_S = 0.1
MOST_BYTES = 1 << 26  # of a file that is read whole; a text of a million points has half of it
_LONGEST_NAME = 100  # bytes of a file name made of an id; a system takes 255, and more is put around it
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # no file names on Windows
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of one


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well, and goes when it does not.

    Raises:
        InputError: if the disk is full or nothing may be written there; what was there stays.
    """
    target = Path(path)
    with writable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: str | Path) -> Iterator[Path]:
    """As :func:`writing`, a folder. One that is there already is replaced."""
    target = Path(path)
    with writable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o777 & ~umask)
            if target.is_dir():
                target.rename(temporary.with_suffix(".old"))
            temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(temporary.with_suffix(".old"), ignore_errors=True)


class Unwritable(InputError):
    """Nothing can be written to a place: the disk is full, or it may not be. What was to be written is not at fault."""


@contextmanager
def writable(path: object) -> Iterator[None]:
    """In the block ``path`` is written.

    Raises:
        Unwritable: if the disk is full, or the path may not be written.
    """
    try:
        yield
    except Exception as error:
        if (refused := refusal(error, path)) is None:
            raise
        raise refused from None


def refusal(error: Exception, where: object) -> Unwritable | None:
    """Bad input in the place of an error: of a full disk or a missing right. None for one of another kind.

    Args:
        error: of the system, or of a library that names the system's error in its text, as safetensors does.
        where: what was to be written.
    """
    if isinstance(error, OSError):
        number = error.errno
    else:
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else None
    if number in _FULL:
        remedy = "Make room, then give the command again; what was there before is as it was."
        return Unwritable(where, f"can't be written ({os.strerror(number)}).", remedy)
    if number in _FORBIDDEN:
        return Unwritable(where, f"can't be used ({os.strerror(number)}).", "Allow it, or give another place.")
    return None


@contextmanager
def alone(lock: Path, where: object, remedy: str, patience_s: float = 0.0) -> Iterator[int]:
    """Keeps others out of what is written in the block.

    Args:
        lock: a hidden file that stands for it; it goes with the block. A process that was killed holds it no more.
        where: what is written, for the message.
        remedy: for the message.
        patience_s: how long to wait for others.

    Yields:
        A handle: a process that inherits it keeps others out, too, as long as it lives.

    Raises:
        InputError: if another process works there, or nothing can be written there.
    """
    end = time.monotonic() + patience_s
    while True:
        with writable(where):
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(lock, handle):  # or its owner has just ended, and taken it along
                break
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(handle)
                raise InputError(where, "is being written by another command.", remedy) from None
            time.sleep(_LOCK_TICK_S)
        except OSError as error:
            if error.errno not in _UNLOCKABLE:
                raise
            warn(f"{where}: its file system knows no locks ({error.strerror}); let no other command write there")
            break
        os.close(handle)
    try:
        yield handle
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def sweep(folder: Path, name: str = "") -> None:
    """Removes what :func:`writing` or :func:`writing_folder` left when it was killed.

    Nobody else may be writing there meanwhile; see :func:`alone`.

    Args:
        folder: where.
        name: of the file or folder that was to be written; all files with a suffix if it is not given.
    """
    own = re.escape(name) + r"\.[a-z0-9_]{8}(\.\w+)?" if name else r".*(?P<suffix>\.\w+)\.[a-z0-9_]{8}(?P=suffix)"
    left = re.compile(rf"\.{own}", re.DOTALL)
    for other in folder.iterdir() if folder.is_dir() else ():
        if left.fullmatch(other.name) and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)
        elif left.fullmatch(other.name):
            other.unlink(missing_ok=True)


def output_folder(path: Path) -> None:
    """Makes a folder for what a command writes, before the work begins, if it is not there.

    Raises:
        InputError: if it can't be made or nothing can be written to it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        problem = f"is no folder that can be written to ({error.strerror})."
        raise InputError(path, problem, "Give another with --output.") from None


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 text file whole."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def unused_name(name: str, taken: set[str]) -> str:
    """A safe file name, without a suffix, for what is called so; ``taken`` are those in use, and this one then, too."""
    base = re.sub(r"[^\w.()+-]+", "_", name[: 4 * _LONGEST_NAME]).strip(".-") or "pattern"
    base = base.encode()[:_LONGEST_NAME].decode(errors="ignore")
    stem = base = f"{base}_" if _DEVICES.fullmatch(base) else base
    number = 1
    while stem in taken:
        number += 1
        stem = f"{base}-{number}"
    taken.add(stem)
    return stem


def cell(value: object) -> object:
    """A table's cell as it may stand in a CSV: text that a spreadsheet would take for a formula has ``'`` before it.

    >>> cell("=1+1"), cell("-0.5"), cell("NaCl"), cell(-0.5)
    ("'=1+1", '-0.5', 'NaCl', -0.5)
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def is_stray(path: str | PurePath) -> bool:
    """Whether a relative path is a hidden file, a copy or a lock of an editor or a system, or in such a folder."""
    return any(_STRAY.fullmatch(part) for part in PurePath(path).parts if part not in (".", ".."))


def say_passed_over(where: object, names: Iterable[str]) -> None:
    """Says once how many hidden files and copies of a folder or an archive were not read; nothing if there are none."""
    if found := sorted(names):
        shown = ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        _say_once(f"{where}: {len(found)} hidden files and copies of editors or systems passed over ({shown})")


@cache
def _say_once(text: str) -> None:  # the parts of a table are asked for several times
    say(text)


def files_in(folder: Path, suffixes: tuple[str, ...], deep: bool = False) -> list[Path]:
    """The files of a folder with one of the suffixes, sorted; hidden files and copies are passed over, and it is said.

    Args:
        folder: the folder.
        suffixes: as ``(".xy", ".tar.gz")``, in small letters; the names' own letters may be capital.
        deep: with the folders in it.
    """
    found, stray = [], []
    for place, _, names in os.walk(folder):
        inner = PurePath(place).relative_to(folder)
        passed_over = is_stray(inner)
        for name in names:
            if passed_over or _STRAY.fullmatch(name):
                stray.append((inner / name).as_posix())
            elif name.lower().endswith(suffixes):
                found.append(Path(place, name))
        if not deep:
            break
    say_passed_over(folder, (name for name in stray if is_file(folder / name)))
    return sorted(filter(is_file, found), key=lambda file: file.parts)


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; not if the path is none, as a name that is too long, or may not be looked at."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """A file's content.

    Raises:
        InputError: if it can't be read, or is larger than ``most`` bytes.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(path, f"can't be read ({reason}).", "Check the path.") from None
    if len(data) > most:
        raise InputError(path, f"is larger than {most >> 20} MiB.", "Give less at once: single scans, or a part.")
    return data


def as_text(data: bytes) -> str:
    """Bytes as UTF-8, with or without a byte order mark, as UTF-16 with one, or else as Latin-1."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decode(path: Path) -> str:
    """A text file; see :func:`as_text`.

    Raises:
        InputError: if it can't be read.
    """
    return as_text(read_bytes(path))


def parse_json(text: str | bytes) -> Any:
    """What a JSON document says.

    Raises:
        ValueError: if it is none, has a number that is not finite or beyond ±2⁶³, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_float=_finite, parse_int=_whole, parse_constant=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextmanager
def recorded(path: Path, problem: str, remedy: str) -> Iterator[None]:
    """In the block a JSON file is read that this program wrote.

    Args:
        path: the file, for the message.
        problem: what it is then, as ``is no record of a model``.
        remedy: for the message.

    Raises:
        InputError: if it can't be read, is no JSON, or has not what is looked for.
    """
    try:
        yield
    except InputError as error:
        raise InputError(path, f"{problem}: it {error.problem}", remedy) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, f"{problem} ({type(error).__name__}: {error}).", remedy) from None


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:40]} is not finite")
    return value


def _whole(text: str) -> int:
    if abs(value := int(text)) > 2**63:
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def digest(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents in sorted order; hexadecimal.

    As where a folder is read, hidden files and copies do not count.
    """
    root, sha = Path(path), hashlib.sha256()
    for file in [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file()):
        if is_stray(file.relative_to(root)):
            continue
        if file != root:
            sha.update(file.relative_to(root).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()
