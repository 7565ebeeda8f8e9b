import math
import os
import signal
import subprocess
import sys
import time
from itertools import count, islice

import pytest

from components.collect_structures.workers import ordered_map

PROGRAM = """
import os
from components.collect_structures.workers import ordered_map

def work(item):
    return os.getpid()

if __name__ == "__main__":
    for pid in ordered_map(work, iter(int, 1), 2):
        print(pid, flush=True)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_in_order(workers: int) -> None:
    assert list(ordered_map(math.sqrt, range(30), workers)) == [math.sqrt(n) for n in range(30)]
    assert list(islice(ordered_map(math.sqrt, count(), workers), 3)) == [math.sqrt(n) for n in range(3)]


def test_workers_leave_when_their_parent_is_killed(tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 20
    while _lives(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _lives(worker)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
