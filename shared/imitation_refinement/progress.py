"""Progress of long work: a bar in a terminal, plain lines with rate and remaining time elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
PLAIN_INTERVAL_S = 5.0


def leads() -> bool:
    """Whether this process speaks and writes for all that torchrun started together; alone, it does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """One line for the person who watches, on standard error, without breaking a bar."""
    if not leads():
        return
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def progress(items: Iterable[T], label: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yields ``items`` while it shows how far the work is.

    Args:
        items: what to work through.
        label: what the work is called.
        total: how many items there are; ``len(items)`` where it has one.
        unit: what an item is called.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not leads():
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label, total=total, unit=f" {unit}", dynamic_ncols=True)
        return
    start = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL_S and done != total:
            last, rate = now, done / (now - start)
            rest = f" of {total}, {(total - done) / rate:.0f} s left" if total else ""
            say(f"{label}: {done}{rest}, {rate:.1f} {unit}/s")
    seconds = time.monotonic() - start
    say(f"{label}: {done} done in {seconds:.1f} s, {done / max(seconds, 1e-9):.1f} {unit}/s")
