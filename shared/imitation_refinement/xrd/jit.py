"""numba's compiled functions in a cache that knows every source they are made of.

A compiled function holds what it calls and the constants it reads, other modules' included, but numba's own cache looks
for changes in the function's file alone: after an edit of another one it gives the old code back.
"""

from __future__ import annotations

import ast
import hashlib
import multiprocessing
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

import numba
from numba.core import event

from imitation_refinement.progress import say

LIBRARY = __name__.partition(".")[0]


class Told(event.Listener):
    """Says that something is being compiled, the first time: it takes up to a minute in which nothing else is seen."""

    def __init__(self) -> None:
        self.said = multiprocessing.parent_process() is not None  # there the one that started it has said so

    def on_start(self, event: event.Event) -> None:
        """Before a function is compiled; not where the cache has it."""
        if not self.said:
            self.said = True
            say("compiling, once for this version and processor: up to a minute")

    def on_end(self, event: event.Event) -> None:
        """After it."""


event.register("numba:compile", Told())


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: ``numba.njit``, cached on disk until one of the sources of the function's module changes.

    The name that numba gives its cache files holds the function's, and that gets :func:`sources_digest`: other sources,
    other files. So two processes with other sources never write the same file, and none reads what it should not.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        function.__qualname__ += f"-{sources_digest(function.__module__)[:16]}"
        return numba.njit(cache=True, **options)(function)

    return compiled


@cache
def sources_digest(module: str) -> str:
    """SHA-256, in hexadecimal, of a module's source and those of all that it imports, and they in turn, of ours.

    Ours is what has the module's own top-level package or this one's: what others release is not edited.
    """
    ours, found, waiting = {module.partition(".")[0], LIBRARY}, set(), [module]
    sha = hashlib.sha256()
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] not in ours:
            continue
        found.add(name)
        if path := _file(name):
            source = path.read_bytes()
            sha.update(name.encode() + b"\0" + source + b"\0")
            waiting += sorted(_imported(name, path.name == "__init__.py", source))
    return sha.hexdigest()


def _file(module: str) -> Path | None:
    """A module's source, found without importing it; None where there is none: an imported name may be no module."""
    top, *inner = module.split(".")
    spec = find_spec(top)
    if not spec or not spec.submodule_search_locations:
        return Path(spec.origin) if spec and spec.origin and not inner else None
    for folder in spec.submodule_search_locations:
        path = Path(folder, *inner)
        for file in (path / "__init__.py", path.with_name(path.name + ".py")):
            if file.is_file():
                return file
    return None


def _imported(module: str, is_package: bool, source: bytes) -> set[str]:
    """All that a module may import."""
    package, found = module if is_package else module.rpartition(".")[0], set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            found |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return found
