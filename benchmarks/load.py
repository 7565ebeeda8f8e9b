"""What the page and MLflow's server of a model bear: rate and latency under load, and what the ill-behaved get.

    python -m benchmarks.load [--seconds 120] [--clients 1 8 32] [--only page|mlflow] [--model FOLDER | --run DIR]

Each is started as users start it, and asked over and over for the pattern of docs/examples/ZnO.xy by so many clients at
once. Then two clients go on asking while others drip requests byte by byte, hold thousands of connections open, send
uploads of 100 MB and ten million points, or of the wrong type: what these get, and what the two notice of it. Memory is
that of all of a server's processes, shared pages counted once (PSS). The page serves FOLDER; MLflow serves that, or the
refiner that the run DIR selected.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks.default_run import memory
from imitation_refinement.answer.api import read
from imitation_refinement.running.stage import exit_on_input_error
from tests.servers import Process, free_port, started, wait_for

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "ZnO.xy"
START_S = 600.0
REPLY_S = 120.0
SLOW, FLOOD = 100, 2000  # connections
HUGE = 100 << 20  # bytes
POINTS = 10_000_000
DRIP_S = 1.0  # between two bytes
SHARE, LEAST_S = 4, 15.0  # of --seconds is an attack's time, or so long
MANY_FILES = 16_384


@dataclass
class Target:
    """A server that runs.

    Attributes:
        name: for people.
        port: of this machine.
        path: what is posted to.
        body: a pattern, as it takes it.
        kind: the body's type.
        server: that was started.
    """

    name: str
    port: int
    path: str
    body: bytes
    kind: str
    server: Process

    @property
    def memory(self) -> float:
        """[MB]."""
        return memory(psutil.Process(self.server.process.pid)) / 1e6

    def ask(self, body: bytes | None = None, kind: str | None = None) -> tuple[int, bytes]:
        """Status and answer of one request, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REPLY_S)
        try:
            headers = {"Content-Type": self.kind if kind is None else kind}
            connection.request("POST", self.path, self.body if body is None else body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@dataclass
class Asked:
    """What clients saw.

    Attributes:
        seconds: each answer's time.
        errors: what came instead of answers.
        elapsed: of all [s].
    """

    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    elapsed: float = 0.0

    @property
    def row(self) -> str:
        """Patterns a second, p50, p99, errors."""
        p50, p99 = np.percentile(self.seconds, (50, 99)) if self.seconds else (np.nan, np.nan)
        said = ", ".join(f"{n} × {what}" for what, n in self.errors.items()) or "0"
        return f"{len(self.seconds) / self.elapsed:.1f} | {p50 * 1e3:.0f} | {p99 * 1e3:.0f} | {said}"


def asked(target: Target, clients: int, seconds: float, stop: threading.Event | None = None) -> Asked:
    """So many clients, each of which asks again as soon as it has its answer."""
    found, lock = Asked(), threading.Lock()
    begun = time.monotonic()

    def client() -> None:
        while time.monotonic() - begun < seconds and not (stop and stop.is_set()):
            start = time.monotonic()
            try:
                status, text = target.ask()
                error = "" if status == 200 and b"NaN" not in text else str(status)
            except OSError as failure:
                error = type(failure).__name__
            with lock:
                if error:
                    found.errors[error] += 1
                else:
                    found.seconds.append(time.monotonic() - start)

    _together([client] * clients)
    found.elapsed = time.monotonic() - begun
    return found


def _together(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def drip(target: Target, seconds: float, head: bool) -> Counter[str]:
    """Connections that send a byte at a time: of their heads, or of bodies of which only the first byte is there."""
    begin = f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n"
    if not head:
        begin += f"Content-Type: {target.kind}\r\nContent-Length: {len(target.body)}\r\n\r\n"
    found: Counter[str] = Counter()
    held = [one for _ in range(SLOW) if (one := _opened(target, found)) is not None]
    for one in held:
        _sent(one, begin.encode())
    end = time.monotonic() + seconds
    while held and time.monotonic() < end:
        time.sleep(DRIP_S)
        for one in list(held):
            if not _sent(one, b"X"):
                found[_status(one)] += 1
                held.remove(one)
    for one in held:
        found["still open"] += 1
        one.close()
    return found


def flood(target: Target, seconds: float) -> Counter[str]:
    """Connections that send nothing."""
    found: Counter[str] = Counter()
    held = [one for _ in range(FLOOD) if (one := _opened(target, found)) is not None]
    time.sleep(seconds)
    for one in held:
        one.setblocking(False)
        found[_status(one)] += 1
    return found


def _opened(target: Target, found: Counter[str]) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", target.port), timeout=10)
    except OSError as error:
        found[f"not connected ({type(error).__name__})"] += 1
        return None


def _sent(connection: socket.socket, data: bytes) -> bool:
    """Whether a connection still takes data; not if an answer is there already."""
    try:
        connection.setblocking(False)
        with suppress(BlockingIOError):
            connection.recv(1, socket.MSG_PEEK)
            return False
        connection.send(data)
    except OSError:
        return False
    return True


def _status(connection: socket.socket) -> str:
    """What a connection was answered before it was closed."""
    try:
        head = connection.recv(64)
        return head.split(b" ")[1].decode() if head.startswith(b"HTTP") else "closed"
    except BlockingIOError:
        return "still open"
    except OSError:
        return "cut"
    finally:
        connection.close()


def repeated(target: Target, seconds: float, *tries: tuple[bytes, str]) -> Counter[str]:
    """Requests of such bodies and types, one after another."""
    found: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for body, kind in tries:
            try:
                status, text = target.ask(body, kind)
                found[f"{status} ({_sentence(text)})"] += 1
            except OSError as error:
                found[type(error).__name__] += 1
    return found


def _sentence(text: bytes) -> str:
    said = text.decode(errors="replace")
    with suppress(ValueError, KeyError, TypeError):
        said = json.loads(said)["message"]
    return re.sub(r"\s+", " ", said)[:90].replace("|", "/")


def attacks(target: Target) -> Iterator[tuple[str, Callable[[float], Counter[str]]]]:
    """What each of the ill-behaved does."""
    yield f"{SLOW} connections drip their heads", lambda seconds: drip(target, seconds, True)
    yield f"{SLOW} connections drip their bodies", lambda seconds: drip(target, seconds, False)
    yield f"{FLOOD} connections that send nothing", lambda seconds: flood(target, seconds)
    yield f"uploads of {HUGE >> 20} MB of zeros", lambda seconds: repeated(target, seconds, (bytes(HUGE), target.kind))
    many = json.dumps({"inputs": [{"two_theta": [0] * POINTS, "intensity": [0], "wavelength": 1}]}).encode()
    points = many if target.name == "mlflow" else b"0 0\n" * POINTS
    yield f"{POINTS:,} points", lambda seconds: repeated(target, seconds, (points, target.kind))
    kinds = ("text/plain", "multipart/form-data; boundary=x", "image/png", "")
    wrong = [(target.body, kind) for kind in kinds]
    yield "wrong content types", lambda seconds: repeated(target, seconds, *wrong)


def beside(target: Target, attack: Callable[[float], Counter[str]], seconds: float) -> tuple[Counter[str], Asked]:
    """What an attack of so many seconds gets, and what two others see meanwhile."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(asked, target, 2, START_S, stop)
        try:
            told = attack(seconds)
        finally:
            stop.set()
        return told, others.result()


def _answers(target: Target) -> bool:
    target.server.runs()
    with suppress(OSError):
        status, text = target.ask()
        if status == 200:
            return True
        raise SystemExit(f"{target.name} answers {status}: {text[:500].decode(errors='replace')}")
    return False


@contextmanager
def page(folder: Path, model: Path | None) -> Iterator[Target]:
    """The page, by its command."""
    words = ["web", "--port", "0", *(["--model", str(model)] if model else [])]
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", *words]
    with started(command, folder / "page.log") as server:

        def port() -> str:
            server.runs()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", server.log.read_text())
            return found[1] if found else ""

        wait_for(port, START_S)
        kind, path = "application/octet-stream", "/api/identify?name=a.xy"
        target = Target("page", int(port()), path, EXAMPLE.read_bytes(), kind, server)
        wait_for(lambda: _answers(target), START_S)
        yield target


@contextmanager
def mlflow(folder: Path, model: Path | None, run: Path | None, workers: int) -> Iterator[Target]:
    """A model behind MLflow's server."""
    given = ["--run", str(run)] if run else ["--model", str(model)] if model else []
    module, served = "imitation_refinement.tracking.served", folder / "served"
    subprocess.run([sys.executable, "-m", module, *given, "--output", str(served)], check=True, capture_output=True)
    port = free_port()
    words = ["models", "serve", "-m", str(served), "--env-manager", "local", "-p", str(port), "-w", str(workers)]
    pattern = read(EXAMPLE)
    row = {"two_theta": pattern.two_theta.tolist(), "intensity": pattern.intensity.tolist()}
    body = json.dumps({"dataframe_records": [{**row, "wavelength": pattern.wavelength}]}).encode()
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow looks for uvicorn there
    environment = {**os.environ, "PATH": here, "OMP_NUM_THREADS": "1"}
    with started([sys.executable, "-m", "mlflow", *words], folder / "mlflow.log", environment) as server:
        target = Target("mlflow", port, "/invocations", body, "application/json", server)
        wait_for(lambda: _answers(target), START_S)
        yield target


def report(target: Target, clients: list[int], seconds: float) -> None:
    """Both tables."""
    print(f"\n## {target.name}: {seconds:g} s each\n")
    print(
        "| clients | patterns/s | p50 [ms] | p99 [ms] | errors | memory before, after [MB] |\n|--:|--:|--:|--:|--:|--:|"
    )
    for number in clients:
        before = target.memory
        found = asked(target, number, seconds)
        print(f"| {number} | {found.row} | {before:.0f}, {target.memory:.0f} |", flush=True)
    print("\n| beside | get | patterns/s of two others | p50 [ms] | p99 [ms] | errors | memory after [MB] |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name, attack in attacks(target):
        told, others = beside(target, attack, max(seconds / SHARE, LEAST_S))
        got = "; ".join(f"{n} × {what}" for what, n in told.most_common())
        print(f"| {name} | {got} | {others.row} | {target.memory:.0f} |", flush=True)
    last = asked(target, 1, min(seconds, 5))
    print(f"\nAfterwards, one client: {last.row.replace(' | ', ', ')} (patterns/s, p50, p99, errors).", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--only", choices=("page", "mlflow"))
    parser.add_argument("--model", type=Path, metavar="FOLDER")
    parser.add_argument("--run", type=Path, metavar="DIR")
    parser.add_argument("--workers", type=int, default=1, help="of MLflow's server")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MANY_FILES), hard))
    print(f"{len(os.sched_getaffinity(0))} cores, which the clients share; load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name, exit_on_input_error():
        if options.only != "mlflow":
            with page(Path(name), options.model) as target:
                report(target, options.clients, options.seconds)
        if options.only != "page":
            with mlflow(Path(name), options.model, options.run, options.workers) as target:
                report(target, options.clients, options.seconds)


if __name__ == "__main__":
    main()
