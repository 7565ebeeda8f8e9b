"""Processes that work for another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.processes import ended
from tests.servers import wait_for

POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    from imitation_refinement.running.workers import following
    from slow import ready

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), *following(ready, "readied")) as pool:
        print(pool.submit(int, "7").result())
"""
SLOW = """
import multiprocessing, os, time
from pathlib import Path

if multiprocessing.current_process().name != "MainProcess":
    Path("part").write_text(str(os.getpid()))
    Path("part").replace("importing")
    time.sleep(SECONDS)

def ready(text):
    Path(text).touch()
"""


def _start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A process with a pool of one, which imports for so long."""
    (folder / "slow.py").write_text(SLOW.replace("SECONDS", str(seconds)))
    (folder / "pool.py").write_text(POOL)
    return subprocess.Popen([sys.executable, "pool.py"], cwd=folder, stdout=subprocess.PIPE, text=True)


def test_a_pool_is_readied(tmp_path: Path) -> None:
    process = _start(tmp_path, 0)
    assert process.communicate(timeout=60)[0] == "7\n"
    assert (tmp_path / "readied").exists()


def test_who_still_imports_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    process, importing = _start(tmp_path, 120), tmp_path / "importing"
    end = time.monotonic() + 60
    while not importing.exists() and time.monotonic() < end:
        time.sleep(0.05)
    worker = int(importing.read_text())
    process.kill()
    process.communicate()
    try:
        wait_for(lambda: ended(worker), 20)
    finally:
        if not ended(worker):
            os.kill(worker, signal.SIGKILL)
