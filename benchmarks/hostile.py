"""Hostile input to every reader: more than ten thousand files, each read in a process that is watched.

    python -m benchmarks.hostile [--seed N] [--inputs N] [--minutes M] [--only KIND …] [--workers N] [--input KIND N]

Run it in the repository's root. What is read is made by `hostile_inputs`; the seed that is printed, the kind and the
number make one input again (`--input`). For each input it is asked for one of two outcomes:

    read     the answer, and every number of it is finite
    refused  one InputError of one line that names file and remedy; a command ends with status 2

and counted as a failure is everything else: a traceback (another exception), another status, an error without a remedy
or of several lines, numbers that are not finite, more than 20 s of the processor or 2 min in all, more than 2 GiB, a
process that died, a file written outside of the input's folder or left half-written in it, a program started, an
address asked for, something unpickled.
Prints what failed, and a Markdown table of counts; exit status 1 if anything did.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue

from benchmarks.hostile_readers import KINDS, LONGEST_S, MOST_BYTES, OUTCOMES, WAITED_S, make_specimens, work


@dataclass
class Counts:
    """What came of the inputs of a kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    largest: int = 0

    def failures(self) -> int:
        """How many were neither read nor refused."""
        return self.outcomes.total() - sum(self.outcomes[outcome] for outcome in OUTCOMES)


class Watched:
    """A process that reads, and is ended where it reads too long or takes too much."""

    def __init__(self, specimen_folder: str, root: str) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["benchmarks.hostile_readers"])
        self.specimens, self.root = specimen_folder, root
        self.start()

    def start(self) -> None:
        self.connection, theirs = self.context.Pipe()
        self.process = self.context.Process(target=work, args=(theirs, self.specimens), daemon=True)
        self.process.start()
        theirs.close()
        assert self.connection.recv() == "ready"
        self.usual = self.resident()

    def resident(self) -> int:
        with suppress(OSError, IndexError):
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return 0

    def busy(self) -> float:
        """Seconds of the processor that the process has had."""
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def ask(self, kind: str, seed: int, number: int) -> tuple[str, str, float, int]:
        self.connection.send((kind, seed, number, self.root))
        began: float | None = None
        spent = 0.0
        made_by = time.perf_counter() + 300
        while True:
            try:
                if self.connection.poll(0.05):
                    said = self.connection.recv()
                    if said[0] == "begin":
                        began, spent = time.perf_counter(), self.busy()
                        self.usual = self.resident()
                        continue
                    outcome, text, seconds, peak = said[1:]
                    if seconds > LONGEST_S:
                        outcome, text = "hang", f"hang: {seconds:.0f} s, then {outcome} {text[:200]}"
                    if peak - self.usual > MOST_BYTES:
                        outcome, text = (
                            "memory",
                            f"memory: {(peak - self.usual) / 2**30:.1f} GiB, then {outcome} {text[:200]}",
                        )
                    return outcome, text, seconds, max(peak - self.usual, 0)
            except (EOFError, ConnectionResetError):
                self.process.join(10)
                code = self.process.exitcode
                self.start()
                return "died", f"died: exit code {code}", 0.0, 0
            now = time.perf_counter()
            if began is not None and (self.busy() - spent > LONGEST_S + 1 or now - began > WAITED_S):
                return self.end("hang", now - began)
            if began is not None and self.resident() - self.usual > MOST_BYTES:
                return self.end("memory", now - began)
            if began is None and now > made_by:
                return self.end("not made", 0.0)

    def end(self, why: str, seconds: float) -> tuple[str, str, float, int]:
        self.process.kill()
        self.process.join()
        self.start()
        return why, f"{why}: ended after {seconds:.0f} s", seconds, 0

    def close(self) -> None:
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(5)


def plan(inputs: int, only: Sequence[str]) -> list[tuple[str, int]]:
    """How many inputs of each kind, in turns."""
    kinds = {kind: share for kind, (_, share) in KINDS.items() if not only or any(word in kind for word in only)}
    total = sum(kinds.values())
    numbers = {kind: max(1, round(inputs * share / total)) for kind, share in kinds.items()}
    return [(kind, number) for number in range(max(numbers.values())) for kind in kinds if number < numbers[kind]]


def run(asked: Sequence[tuple[str, int]], seed: int, workers: int, minutes: float) -> dict[str, Counts]:
    """What comes of inputs, counted; what fails is told as soon as it has."""
    counts: dict[str, Counts] = defaultdict(Counts)
    waiting: Queue[tuple[str, int]] = Queue()
    for item in asked:
        waiting.put(item)
    lock = threading.Lock()
    with tempfile.TemporaryDirectory(prefix="hostile-") as root:
        folder = Path(root, "specimens")
        folder.mkdir()
        os.environ["HOSTILE_SPECIMENS"] = str(folder)
        with redirect_stderr(io.StringIO()):
            make_specimens(folder)
        until = time.perf_counter() + 60 * minutes
        watched = [Watched(str(folder), root) for _ in range(workers)]

        def serve(process: Watched) -> None:
            with suppress(Empty):
                while time.perf_counter() < until:
                    kind, number = waiting.get_nowait()
                    outcome, text, seconds, peak = process.ask(kind, seed, number)
                    with lock:
                        found = counts[kind]
                        found.outcomes[outcome] += 1
                        found.longest, found.largest = max(found.longest, seconds), max(found.largest, peak)
                        if outcome not in OUTCOMES:
                            print(f"{outcome}: --seed {seed} --input {kind!r} {number}\n{text}\n", flush=True)

        threads = [threading.Thread(target=serve, args=(process,)) for process in watched]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for process in watched:
            process.close()
    return counts


def table(counts: dict[str, Counts]) -> Iterator[str]:
    """The counts as Markdown."""
    yield "| reader | inputs | read | refused | failures | longest, s | most memory, MiB |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    everything = Counts()
    for kind in KINDS:
        if kind in counts:
            found = counts[kind]
            everything.outcomes.update(found.outcomes)
            everything.longest = max(everything.longest, found.longest)
            everything.largest = max(everything.largest, found.largest)
            yield _line(kind, found)
    yield _line("all", everything)


def _line(name: str, found: Counts) -> str:
    numbers = (found.outcomes.total(), found.outcomes["read"], found.outcomes["refused"], found.failures())
    cells = [name, *(f"{n:,}" for n in numbers), f"{found.longest:.1f}", f"{found.largest / 2**20:.0f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=None, help="of all inputs (default: one that is drawn)")
    parser.add_argument("--inputs", type=int, default=12_000, metavar="N", help="about how many (default: 12000)")
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="KIND", help="kinds whose names hold one of these words"
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that read (default: 2)")
    parser.add_argument("--minutes", type=float, default=30, metavar="M", help="no more are begun then (default: 30)")
    parser.add_argument("--input", nargs=2, metavar=("KIND", "NUMBER"), help="this one alone, and what comes of it")
    arguments = parser.parse_args()
    seed = int.from_bytes(os.urandom(4)) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    asked = (
        [(arguments.input[0], int(arguments.input[1]))] if arguments.input else plan(arguments.inputs, arguments.only)
    )
    began = time.perf_counter()
    counts = run(asked, seed, arguments.workers, arguments.minutes)
    print("\n".join(table(counts)))
    done = sum(found.outcomes.total() for found in counts.values())
    failures = sum(found.failures() for found in counts.values())
    print(f"\n{done:,} inputs in {time.perf_counter() - began:.0f} s, {failures} failures")
    raise SystemExit(int(bool(failures)))


if __name__ == "__main__":
    main()
