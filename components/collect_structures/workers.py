"""Work in other processes, for what holds Python's lock: symmetry searches do."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import forkserver, get_context, parent_process
from time import monotonic
from typing import TypeVar

from imitation_refinement.running import garbage

A = TypeVar("A")
R = TypeVar("R")

STARTING = 0.4  # [s], so long do processes take to import
AHEAD = 8  # results a process that may wait to be taken


def ordered_map(work: Callable[[A], R], items: Iterable[A], workers: int) -> Generator[R]:
    """``map(work, items)``, in order, in processes; the items may be without end.

    Args:
        work: a function that can be pickled.
        items: its arguments.
        workers: processes; 1 for this one alone, 0 for as many as there are cores.
    """
    workers = workers or len(os.sched_getaffinity(0))
    if workers == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[R]] = deque()
    context = get_context("forkserver")
    context.set_forkserver_preload([getattr(work, "func", work).__module__])  # imported once, not by each process
    forkserver.ensure_running()
    rest, ready = iter(items), monotonic() + STARTING
    while monotonic() < ready:  # this process works while the others start
        one = list(islice(rest, 1))
        if not one:
            return
        yield work(one[0])
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        try:
            for item in rest:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """Ends this process when the one that started it is gone: a killed one would leave it waiting for ever."""
    garbage.imported()
    parent = parent_process()
    assert parent is not None, "runs in a process that another one started"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
