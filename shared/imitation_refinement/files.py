"""Files: written whole or not at all, found without what editors leave beside them, read within bounds, their digests.

What a file holds may be anything: it is read up to :data:`MOST_BYTES`, JSON as finite numbers and not deeper than
Python can follow; ids become file names and cells of tables that do nothing (:func:`unused_name`, :func:`cell`).
"""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from imitation_refinement.errors import InputError
from imitation_refinement.progress import say

SOURCES_KEY = b"sources"  # of a Parquet schema's metadata: where its content came from at first, JSON

# What editors and systems leave beside data: hidden files (macOS's ``._name`` among them), copies, locks.
_STRAY = re.compile(
    r"\..*|.*~|~\$.*|#.*#|__MACOSX|Thumbs\.db|ehthumbs\.db|desktop\.ini|Icon\r"
    r"|.*\.(?:swp|swo|bak|backup|old|orig|tmp|temp|part|partial|crdownload|lock|lck)"
    r"|.*\.sync-conflict-.*|.*conflicted copy.*",
    re.IGNORECASE | re.DOTALL,
)
_SHOWN = 3  # names of files that were passed over
MOST_BYTES = 1 << 26  # of a file that is read whole; a text of a million points has half of it
_LONGEST_NAME = 100  # bytes of a file name made of an id; a system takes 255, and more is put around it
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # no file names on Windows
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of one


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well, and goes when it does not."""
    target = Path(path)
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
