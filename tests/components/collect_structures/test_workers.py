import math
import signal
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import pytest

from components.collect_structures import workers as module
from components.collect_structures.workers import ordered_map
from tests.processes import ended
from tests.servers import wait_for

PROGRAM = """
import os
from components.collect_structures import workers

def work(item):
    return os.getpid()

if __name__ == "__main__":
    workers.STARTING = 0
    for pid in workers.ordered_map(work, iter(int, 1), 2):
        print(pid, flush=True)
"""


STARTING = """
import os
import time
from components.collect_structures import workers

def work(seconds):
    time.sleep(seconds)
    return os.getpid()

if __name__ == "__main__":
    workers.STARTING = 0.2
    print(os.getpid(), *workers.ordered_map(work, [0.3, 0, 0, 0, 0, 0], 2))
"""


@pytest.mark.parametrize(("workers", "starting"), [(1, 0), (2, 0), (2, 10)])
def test_in_order(workers: int, starting: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STARTING", starting)
    assert list(ordered_map(math.sqrt, range(30), workers)) == [math.sqrt(n) for n in range(30)]
    assert list(islice(ordered_map(math.sqrt, count(), workers), 3)) == [math.sqrt(n) for n in range(3)]


def test_who_works(tmp_path: Path) -> None:
    """This process while the others start, they from then on."""
    program = tmp_path / "program.py"
    program.write_text(STARTING)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    own, *found = map(int, done.stdout.split())
    assert found[0] == own and len(found) == 6 and own not in found[1:]


def test_workers_leave_when_their_parent_is_killed(tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    wait_for(lambda: ended(worker), 20)
