"""The forms of files that patterns are read from: every module here is one.

A module has a docstring and ``FORMAT``, a :class:`.scans.Format`. It is found by being here; there
is no list to edit. A reader says what a file has and what had to be decided (``Scan.remarks``); it mends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from imitation_refinement.data.scans import Format, Scan
from imitation_refinement.errors import InputError

HEAD = 1 << 16  # bytes that a form is told by

FORMATS: tuple[Format, ...] = tuple(
    import_module(f"{__name__}.{name}").FORMAT for name in sorted(module.name for module in iter_modules(__path__))
)
EXTENSIONS: tuple[str, ...] = tuple(dict.fromkeys(e for form in FORMATS for e in form.extensions))


def format_of(path: Path) -> Format:
    """The form of a file, by its extension and its first bytes.

    Raises:
        InputError: if the file can't be read, or is of no known form, or of two.
    """
    known = [form for form in FORMATS if path.name.lower().endswith(form.extensions)]
    if not known:
        raise InputError(path, f"has the unknown suffix {path.suffix!r}.", f"Use one of: {', '.join(EXTENSIONS)}.")
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise InputError(path, f"can't be read ({error.strerror}).", "Check the path.") from None
    fitting = [form for form in known if form.matches(head)]
    fitting = [form for form in fitting if not form.last] or fitting
    if len(fitting) == 1:
        return fitting[0]
    names = " and ".join(form.name for form in fitting or known)
    problem = f"may be {names}." if fitting else f"is no {' or '.join(form.name for form in known)}."
    raise InputError(path, problem, "Give it in another form, as two columns of text.")


def is_meant(path: Path) -> bool:
    """Whether a file that stands in a folder is meant for a pattern; structures are CIFs, too."""
    known = [form for form in FORMATS if path.name.lower().endswith(form.extensions)]
    return any(form.found(path) for form in known)


def read_scans(path: Path) -> Iterator[Scan | InputError]:
    """The scans of a file in its order, unchecked; an error in the place of one that can't be read.

    Raises:
        InputError: if the file can't be read at all.
    """
    yield from format_of(path).read(path)
