"""What a process does that works for another one."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from typing import Any


def following(ready: Callable[..., None], *given: Any) -> tuple[Callable[[bytes], None], tuple[bytes]]:
    """The initializer of a pool's processes, and its arguments, with which they end when this process does.

    What :func:`follow_parent` does is done before anything else of theirs is imported: that takes seconds, in which a
    process whose parent was killed would go on.

    Args:
        ready: readies a process; it need not follow its parent itself.
        given: its arguments.
    """
    return _begin, (pickle.dumps((ready, given)),)


def _begin(packed: bytes) -> None:
    follow_parent()
    ready, given = pickle.loads(packed)
    ready(*given)


def follow_parent() -> None:
    """Readies this process, which another one started: it ends when that one does, and leaves interrupts to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts all, and the first one ends the others
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a process that another one started"

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
