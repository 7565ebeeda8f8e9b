"""What a tracking server that fails costs a run: the smoke profile beside servers that live, are killed, are stopped.

    python -m benchmarks.tracking [--after 40] [--rounds 1] [--profile smoke] [--set OPTION=VALUE]

Each round runs the pipeline three times in turn: its MLflow server undisturbed, killed for good, stopped for good so
many seconds after the run began. Prints the seconds of each, its ratio to the undisturbed one beside it (to be at most
1.3), its status, the lines in which it speaks of MLflow, how many records waited, and how many are left after the
server was back and `imitation-refinement sync` was called. The models of the three are compared by their SHA-256.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from imitation_refinement.files import digest
from imitation_refinement.running.journal import waiting
from tests.servers import Server, free_port

LIMIT = 1.3
FAULTS = {"undisturbed": None, "killed": signal.SIGKILL, "stopped": signal.SIGSTOP}
COMMAND = Path(sys.executable).with_name("imitation-refinement")


def measure(name: str, options: list[str], after: float) -> tuple[float, dict[str, str]]:
    """Seconds of a run whose server fails, and the digests of its models."""
    number = FAULTS[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        server = Server(folder, free_port())
        server.start()
        environment = {**os.environ, "MLFLOW_TRACKING_URI": server.uri}
        begun = time.monotonic()
        fault = threading.Timer(after, lambda: number and server.signal(number))
        fault.start()
        run = subprocess.run(
            [str(COMMAND), "run", *options, "--output", str(folder / "runs")],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        seconds = time.monotonic() - begun
        fault.cancel()
        waits = waiting(folder / "runs")
        said = [line for line in run.stderr.splitlines() if "MLflow" in line or "Traceback" in line]
        print(
            f"{name}: {seconds:.1f} s, status {run.returncode}, {waits} records wait", *said, sep="\n    ", flush=True
        )
        if number == signal.SIGKILL:
            server.process.wait()
            server.start()
        elif number:
            server.signal(signal.SIGCONT)
        if waits:
            command = [str(COMMAND), "sync", str(folder / "runs")]
            synced = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            print(f"    sync: status {synced.returncode}: {synced.stdout.strip()} {synced.stderr.strip()}", flush=True)
        server.kill()
        models = {path.name: digest(path) for path in sorted((folder / "runs" / "latest" / "models").glob("*"))}
        return seconds, models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--after", type=float, default=40.0, metavar="S", help="seconds until the server fails")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    given = parser.parse_args()
    options = ["--profile", given.profile, *(word for setting in given.set for word in ("--set", setting))]
    bad = False
    for _ in range(given.rounds):
        found = {name: measure(name, options, given.after) for name in FAULTS}
        base, models = found["undisturbed"]
        for name, (seconds, made) in found.items():
            same = made == models and bool(made)
            bad = bad or seconds > LIMIT * base or not same
            print(f"{name}: {seconds / base:.2f} times the undisturbed run; models the same to the bit: {same}")
    raise SystemExit(int(bad))


if __name__ == "__main__":
    main()
