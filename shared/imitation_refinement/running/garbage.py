"""Garbage collection in a process that imports much, works, and ends: what is imported is never garbage."""

from __future__ import annotations

import atexit
import gc

USUAL = gc.get_threshold()


def while_importing() -> None:
    """Hardly collects from now on, nor as the process ends: both walk all that was imported, two seconds a stage."""
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)


def imported() -> None:
    """Collects as usual again, but for what is there by now."""
    gc.freeze()
    gc.set_threshold(*USUAL)
