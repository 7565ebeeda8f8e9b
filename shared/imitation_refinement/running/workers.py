"""What a process does that works for another one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def follow_parent() -> None:
    """Readies this process, which another one started: it ends when that one does, and leaves interrupts to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts all, and the first one ends the others
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a process that another one started"

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
