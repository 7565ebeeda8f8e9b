"""Files: written whole or not at all, found without what editors leave beside them, read as text, their digests."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath

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
    stem = base = re.sub(r"[^\w.()+-]+", "_", name).strip(".") or "pattern"
    number = 1
    while stem in taken:
        number += 1
        stem = f"{base}-{number}"
    taken.add(stem)
    return stem


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
    say_passed_over(folder, (name for name in stray if (folder / name).is_file()))
    return sorted((file for file in found if file.is_file()), key=lambda file: file.parts)


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        InputError: if it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, f"can't be read ({error.strerror}).", "Check the path.") from None


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
