"""Writes requirements.lock anew: exact versions, each with the SHA-256 of every file that may be installed of it.

    python3 -m venv new && new/bin/pip install -e '.[dev]'
    new/bin/pip freeze --all --exclude-editable --exclude pip | sed 's/+.*//' > freeze.txt
    uv pip compile --no-deps --universal --python-version 3.11 --format pylock.toml -o pylock.toml freeze.txt
    new/bin/python docker/lock.py freeze.txt pylock.toml [WHEEL …] > requirements.lock

Kept are wheels for CPython 3.11 to 3.13 on Linux (glibc), x86-64 and aarch64; of a package without any its source. A
WHEEL that the index has not, such as torch's without CUDA, is named as a file, and its hash stands beside the others'.
uv is asked for what the index lists (PEP 751); it is no requirement of anything else.
"""

from __future__ import annotations

import hashlib
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

PYTHONS = (11, 12, 13)
HEAD = """\
# Every package that runs, tests and checks this repository, exactly, with the SHA-256 of its wheels (CPython 3.11 to
# 3.13, Linux on x86-64 and aarch64). `make` and the images install them with --require-hashes; docker/lock.py makes it.
"""


def fits(tag: Tag) -> bool:
    """Whether a wheel's tag is one of the Pythons and machines that are meant."""
    machine = tag.platform == "any" or (
        tag.platform.startswith(("manylinux", "linux")) and tag.platform.endswith(("x86_64", "aarch64"))
    )
    if not machine:
        return False
    if tag.interpreter in ("py3", *(f"cp3{minor}" for minor in PYTHONS)) and not tag.abi.endswith("t"):
        return True
    return tag.abi == "abi3" and tag.interpreter.startswith("cp3") and int(tag.interpreter[3:]) <= max(PYTHONS)


def name_of(file: Mapping[str, Any]) -> str:
    """A distribution's file name."""
    return str(file.get("name") or unquote(file["url"].rsplit("/", 1)[1]))


def hashes(package: Mapping[str, Any]) -> list[str]:
    """SHA-256 of the wheels of a package that are meant, or of its source."""
    wheels = [file for file in package.get("wheels", ()) if any(map(fits, parse_wheel_filename(name_of(file))[3]))]
    return sorted({file["hashes"]["sha256"] for file in wheels or [package["sdist"]]})


def lines(freeze: str, lock: Mapping[str, Any], wheels: list[Path]) -> Iterator[str]:
    """The lock's lines.

    Raises:
        SystemExit: if a version of the one is not in the other.
    """
    known = {(canonicalize_name(p["name"]), p["version"]): p for p in lock["packages"]}
    beside = [(parse_wheel_filename(path.name)[:2], path) for path in wheels]
    for line in filter(None, map(str.strip, freeze.splitlines())):
        name, _, version = line.partition("==")
        key = canonicalize_name(name), version
        if key not in known:
            sys.exit(f"error: {line} is not in the pylock.toml: make both from one list.")
        own = [path for (wheel, of), path in beside if wheel == key[0] and of.public == version]
        found = hashes(known[key]) + [hashlib.sha256(path.read_bytes()).hexdigest() for path in own]
        yield " \\\n".join([line, *(f"    --hash=sha256:{digest}" for digest in dict.fromkeys(found))]) + "\n"


def main() -> None:
    """Writes the lock to standard output."""
    freeze, lock, *wheels = map(Path, sys.argv[1:])
    sys.stdout.write(HEAD)
    sys.stdout.writelines(lines(freeze.read_text(), tomllib.loads(lock.read_text()), wheels))


if __name__ == "__main__":
    main()
