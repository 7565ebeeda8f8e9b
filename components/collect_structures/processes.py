"""Work in other processes, for what holds Python's lock: symmetry searches do."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")

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
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
