"""How long the default run takes, and how much memory, in two checkouts: ``python benchmarks/default_run.py OLD NEW``.

Each is a checkout with its own ``.venv`` (``make .venv/ready``), or a revision of this repository: of that a worktree
is made, and its environment. The runs are made in turn, so that both see the same machine. Printed are the medians of
the wall time and of the peak memory, their ratios, and whether both wrote the same results.

Memory is the sum of the proportional set sizes (PSS: shared pages are counted once) of all processes of a run, looked
at every half second; its peak between two looks is not seen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
INTERVAL_S = 0.5


@dataclass(frozen=True)
class Measured:
    """One run: its wall time [s], the peak of its processes' memory [bytes], its results."""

    seconds: float
    peak: int
    results: dict[str, Any]


def main() -> None:
    """Runs both in turn and compares them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkouts", nargs=2, metavar="CHECKOUT", help="old and new: folders, or revisions")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each (default: 3)")
    parser.add_argument("--profile", default="default", help="profile of the runs (default: default)")
    parser.add_argument("--old-threads", metavar="N", help="OMP_NUM_THREADS of the old one's runs (default: not set)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="default-run-") as folder:
        checkouts = [checkout(name, Path(folder)) for name in arguments.checkouts]
        threads = (arguments.old_threads, None)
        measured: tuple[list[Measured], list[Measured]] = ([], [])
        for number in range(arguments.runs):
            for place, runs, own in zip(checkouts, measured, threads, strict=True):
                runs.append(run(place, arguments.profile, own, Path(folder) / f"runs-{len(runs)}-{place.name}"))
                print(f"{number + 1}. {place}: {runs[-1].seconds:.1f} s, {runs[-1].peak / 2**20:.0f} MiB", flush=True)
    old, new = (median(runs) for runs in measured)
    for name, (seconds, peak) in zip(arguments.checkouts, (old, new), strict=True):
        print(f"{name}: median {seconds:.1f} s, peak {peak / 2**20:.0f} MiB")
    print(f"new / old: time {new[0] / old[0]:.3f}, memory {new[1] / old[1]:.3f}")
    print("results: " + compared(measured[0][0].results, measured[1][0].results))


def checkout(name: str, folder: Path) -> Path:
    """The folder of a checkout; of a revision, a new worktree with its environment."""
    if Path(name).is_dir():
        return Path(name).resolve()
    place = folder / f"revision-{name}"
    subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(place), name], check=True)
    subprocess.run(["make", "-C", str(place), ".venv/ready"], check=True)
    return place


def run(place: Path, profile: str, threads: str | None, output: Path) -> Measured:
    """The command of a checkout, in its own folder and environment."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    environment |= {"OMP_NUM_THREADS": threads} if threads else {}
    command = [str(place / ".venv/bin/imitation-refinement"), "run", "--profile", profile, "--output", str(output)]
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process = psutil.Popen(command, cwd=place, env=environment, stdout=log, stderr=subprocess.STDOUT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory(process))
            time.sleep(INTERVAL_S)
        seconds = time.monotonic() - started
        if process.returncode:
            log.seek(0)
            sys.exit(log.read()[-4000:].decode(errors="replace") + f"\n{place}: the run failed")
    return Measured(seconds, peak, json.loads((output / "latest" / "results.json").read_text(encoding="utf-8")))


def memory(process: psutil.Process) -> int:
    """PSS of a process and all that it started [bytes]."""
    total = 0
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in tree:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended
            continue
    return total


def median(runs: list[Measured]) -> tuple[float, float]:
    """Of wall times and of peaks."""
    return statistics.median(r.seconds for r in runs), statistics.median(r.peak for r in runs)


def compared(old: Any, new: Any, place: str = "") -> str:
    """``the same``, or the first place where two results differ."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        pairs = [(f"{place}.{key}", old[key], new[key]) for key in old]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{place}[{n}]", *pair) for n, pair in enumerate(zip(old, new, strict=True))]
    else:
        return "the same" if old == new else f"differ first at {place.strip('.') or 'the top'}: {old!r}, {new!r}"
    return next((told for where, a, b in pairs if (told := compared(a, b, where)) != "the same"), "the same")


if __name__ == "__main__":
    main()
