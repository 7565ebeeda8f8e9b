"""What becomes of work that is cut: kills, signals, full disks, missing rights, a wrong clock, two at once.

    python -m benchmarks.faults [--kills 20] [--stops 3] [--seed S] [--only NAME …] [--faults NAME …]
                                [--data FOLDER] [--fork] [--docker] [--short]

Each stage alone, ``refine``, ``identify``, ``batch run``, ``release`` and a whole run (``benchmarks/faults.toml``) are
done once undisturbed; then again, disturbed, until they end; all that they leave is compared by SHA-256. A table is
printed, a line a fault and what it was done to; the exit status is 1 if one does not hold. ``--short`` is for tests:
one stage, few moments.

With ``--docker`` each stage is a ``docker run`` of its image, and tasks of the whole run are containers; the other
commands have none. To a stage all is done by the engine, in its container, but for Ctrl-C, which goes to ``docker run``
as from a terminal. The process of a run is killed, stopped and given another clock as without containers: what it
leaves of them is looked for. ``make images`` has to come first, of the same revision.

A command spends most of its time on importing. With ``--fork`` each is a fork of this process, which has imported all
before: moments are those of the work itself. What is told to end, or has another clock, is a process of its own.

What needs root, or a tool, and is not had, is named as not tried: small disks are mounted (else limits on a file's size
stand for them), read only where nothing may be written, the clock is set back for its processes alone (``clock.c``).
"""

from __future__ import annotations

import argparse
import atexit
import importlib
import json
import multiprocessing
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pipelines.cli
from imitation_refinement.files import digest
from imitation_refinement.running.images import image
from imitation_refinement.running.interrupts import run_stage
from imitation_refinement.running.revision import REVISION_VARIABLE, revision
from pipelines.containers import RUN_LABEL
from pipelines.profiles import read_profile
from tests.pipelines.conftest import SMALL

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "benchmarks" / "faults.toml"
COMMAND = [str(Path(sys.executable).with_name("imitation-refinement"))]
END_S = 5.0  # for what was asked to end
# Of a run's folder: what says when and how, not what.
PASSING = re.compile(r"log\.txt|run\.json|tracking/.*|answers\.journal")
# What a report says of that.
WHEN_AND_WHERE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|\d{8}-\d{6}(-\d+)?|(/disk)?/(out\d+|reference-[a-z-]+)")
DOCKER_RUN = ["docker", "run"]
TOKEN = "FAULTS_TOKEN"  # in the environment of all that is started, by which it is found again


@dataclass
class Work:
    """Something that is done by one command.

    Attributes:
        name: of it.
        command: the command, with ``{out}`` for the folder that it writes to, ``{folder}`` for the one that holds it.
        again: what is typed after it was cut, with ``{out}``; the same by default.
        made: the folder of what is compared, of the one that it writes to.
        seconds: that it takes undisturbed.
        expected: what it makes undisturbed, SHA-256 by relative path.
        program: how many words of the command are what a stage calls ``python -m components.<stage>``.
    """

    name: str
    command: list[str]
    again: Callable[[Path], list[str]] | None = None
    made: Callable[[Path], Path] = lambda out: out
    seconds: float = 0.0
    expected: dict[str, str] = field(default_factory=dict)
    program: int = 3

    def first(self, out: Path) -> list[str]:
        """The command."""
        places = {"{out}": str(out), "{folder}": str(out.parent)}
        return [re.sub(r"\{(out|folder)\}", lambda found: places[found[0]], word) for word in self.command]

    def next(self, out: Path) -> list[str]:
        """The command that goes on; the first one where nothing was begun."""
        try:
            return self.again(out) if self.again else self.first(out)
        except StopIteration:
            return self.first(out)

    def told(self, command: str, out: Path) -> list[str]:
        """A command that it names, as it is typed here."""
        program, *words = shlex.split(command)
        if program == "imitation-refinement":
            return [*COMMAND, *words]
        return [*self.first(out)[: self.program], *words[2:]]

    def last(self, out: Path) -> float:
        """When it last wrote what it makes."""
        return max(path.stat().st_mtime for path in self.made(out).rglob("*") if path.is_file())

    def digests(self, out: Path) -> dict[str, str]:
        """SHA-256 of all that it made, by relative path."""
        made = self.made(out)
        files = [path for path in sorted(made.rglob("*")) if path.is_file()] if made.is_dir() else []
        names = {path.relative_to(made).as_posix(): path for path in files}
        return {name: _digest(path) for name, path in names.items() if not PASSING.fullmatch(name)}


def _digest(path: Path) -> str:
    """SHA-256 of a file; of a report without when and where it was made."""
    if path.name not in ("report", "report.html"):
        return digest(path)
    return sha256(WHEN_AND_WHERE.sub("", path.read_text("utf-8")).encode()).hexdigest()


@dataclass
class Row:
    """A line of the table."""

    fault: str
    work: str
    cases: int
    held: int
    note: str = ""


class Faults:
    """The faults, and what was seen.

    Args:
        place: a folder for all.
        rng: draws moments.
        kills: how many moments.
        stops: how many of each signal that asks for an end.
        fork: whether commands are forks of this process.
        docker: whether containers are at work.
    """

    def __init__(
        self, place: Path, rng: random.Random, kills: int, stops: int, fork: bool = False, docker: bool = False
    ) -> None:
        self.place, self.rng, self.kills, self.stops, self.fork, self.docker = place, rng, kills, stops, fork, docker
        self.token = uuid.uuid4().hex
        self.rows: list[Row] = []
        self._number = 0

    def out(self, base: Path | None = None) -> Path:
        """A folder that is not there yet."""
        self._number += 1
        return (base or self.place) / f"out{self._number}"

    def start(self, command: Sequence[str], more: Mapping[str, str] | None = None, limit: int = 0) -> Running:
        """Starts a command, with more in its environment, and with a limit on a file's size."""
        self._number += 1
        log = self.place / f"said{self._number}.txt"
        name, environ = "", {**environment(), TOKEN: self.token}
        how: dict[str, Any] = {}
        if command[:2] == DOCKER_RUN:
            name = f"{self.place.name}-{self._number}"
            given = [word for key, value in (more or {}).items() for word in ("-e", f"{key}={value}")]
            limits = ["--ulimit", f"fsize={limit}"] if limit else []
            command = [*command[:2], "--name", name, *given, *limits, *command[2:]]
        else:
            environ |= more or {}
            if limit:
                how["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit,) * 2)
            if self.fork and not more:
                return Running(Fork(command, log, self.place, environ, **how), log, self.token, self.docker)
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=self.place,
                env=environ,
                process_group=0,  # not a session, which would be a scheduling group of its own, without our priority
                **how,
            )
        if name:
            return Contained(process, log, self.token, True, name)
        return Running(process, log, self.token, self.docker)

    def whole(self, work: Work) -> None:
        """Does something undisturbed: how long it takes, and what comes of it."""
        out, started = self.reference(work), time.monotonic()
        running = self.start(work.first(out))
        if running.wait() != 0:
            sys.exit(f"{work.name} fails undisturbed:\n{running.said()}")
        work.seconds, work.expected = time.monotonic() - started, work.digests(out)
        if self.fork:  # the others find imported what this one had to import
            for name in running.log.with_suffix(".modules").read_text().split():
                with suppress(Exception):
                    importlib.import_module(name)
        print(f"{work.name}: {work.seconds:.1f} s undisturbed, {len(work.expected)} files", flush=True)

    def ended(self, work: Work, out: Path) -> str:
        """Lets something end that was cut; what is wrong then, empty if nothing is."""
        return self.same(self.start(work.next(out)), work, out)

    @staticmethod
    def same(running: Running, work: Work, out: Path) -> str:
        """Waits for the end; what is wrong then, empty if nothing is."""
        if (code := running.wait()) != 0:
            return f"status {code}: {running.last()}"
        if not running.contained(1.0):
            return "containers are left"
        found = work.digests(out)
        wrong = sorted(n for n in {**found, **work.expected} if found.get(n) != work.expected.get(n))
        return f"{len(wrong)} files are others: {', '.join(wrong[:3])}" if wrong else ""

    def note(self, fault: str, work: str, problems: Sequence[str], note: str = "") -> None:
        """Adds a line to the table."""
        bad = [problem for problem in problems if problem]
        if not bad and self.docker and (left := containers_of(self.place)):
            bad = [f"{len(left)} containers are left"]
        row = Row(fault, work, len(problems), len(problems) - len(bad), "; ".join([*bad[:2], *filter(None, [note])]))
        self.rows.append(row)
        print(f"  {fault}, {work}: {row.held} of {row.cases} {row.note}", flush=True)

    def skipped(self, fault: str, why: str) -> None:
        """Says what was not tried."""
        self.rows.append(Row(fault, "–", 0, 0, f"not tried: {why}"))
        print(f"  {fault}: not tried: {why}", flush=True)

    # The faults.

    def killed(self, work: Work) -> None:
        """SIGKILL at random moments, each time gone on with; begun anew where it ends before all are used up."""
        # What keeps what it finished is cut often on its way; a stage at any moment of it.
        cuts, bad, outlived, most = 0, [], 0, (0.3 if work.again else 1.0) * work.seconds
        while cuts < self.kills:
            out = self.out()
            for attempt in range(min(self.kills - cuts, 7)):  # one after the other in the same folder
                moment = self.rng.uniform(0.05 * most, most)
                running = self.start(work.next(out))
                bad.append("" if running.killed(moment) else "processes are left")
                if (code := running.wait()) != 128 + signal.SIGKILL:  # it was faster, which is no case
                    bad.append(f"status {code}: {running.last()}" if code else "")
                    most = most if attempt else moment
                    break
                cuts += 1
                outlived += self.docker and bool(containers_of(self.place))
            bad.append(self.ended(work, out))
            shutil.rmtree(out, ignore_errors=True)
        bad = list(filter(None, bad))
        problems = [*bad, *[""] * (cuts - len(bad))]
        note = f"containers outlived {outlived}, and were removed by what went on" if outlived else ""
        self.note("SIGKILL at random moments, again and again", work.name, problems, note)

    def stopped(self, work: Work) -> None:
        """SIGTERM and Ctrl-C: ends soon, says the command that goes on, leaves no process, and that command works."""
        for number in (signal.SIGTERM, signal.SIGINT):
            problems, longest = [], 0.0
            while len(problems) < self.stops:
                out, running = self._at_work(work)
                asked, when = time.monotonic(), time.time()
                running.signal(number)
                code = running.wait(6 * END_S)
                took = time.monotonic() - asked
                if code == 0 and work.last(out) < when and work.digests(out) == work.expected:
                    shutil.rmtree(out)  # all was made before, which is no case
                    continue
                longest = max(longest, took)
                said = running.said()
                told = re.findall(r"stopped; go on with: (.*)", said)
                wrong = ""
                if took > END_S:
                    wrong = f"took {took:.1f} s"
                elif code != 128 + number:
                    wrong = f"status {code}"
                elif len(told) != 1 or "Traceback" in said:
                    wrong = f"says: {running.last()}"
                elif not running.gone(1.0):
                    wrong = "processes are left"
                elif not running.contained(1.0):
                    wrong = "containers are left"
                else:
                    wrong = self._told_works(work, out, told[0])
                problems.append(wrong)
                shutil.rmtree(out, ignore_errors=True)
            name = "SIGTERM" if number == signal.SIGTERM else "Ctrl-C"
            self.note(
                f"{name}: ends in {END_S:.0f} s, names the command that goes on",
                work.name,
                problems,
                f"{longest:.1f} s at most",
            )

    def _at_work(self, work: Work, more: Mapping[str, str] | None = None) -> tuple[Path, Running]:
        """Something in the middle of its work, and its folder; with more in its environment."""
        moment = work.seconds * self.rng.uniform(0.35, 0.9)
        while True:
            out = self.out()
            running = self.start(work.first(out), more)
            try:
                running.process.wait(moment)
            except subprocess.TimeoutExpired:
                return out, running
            moment /= 2  # it was faster

    def _told_works(self, work: Work, out: Path, told: str) -> str:
        running = self.start(work.told(told, out))
        if (code := running.wait()) != 0:
            return f"the command it names ends with {code}: {running.last()}"
        found = work.digests(out)
        return "" if found == work.expected else "the command it names makes something else"

    def full(self, work: Work) -> None:
        """A disk that fills up: one message, no traceback; with room again the same goes on to the same."""
        problems, sizes = [], [0.15, 0.5, 0.85]
        with small_disk(self.place / "disk") as disk:
            if disk is None:
                self.skipped("disk full", "no file system can be mounted here")
                return
            for share in sizes:
                out = self.out(disk)
                disk_size(disk, 1 << 30)
                out.mkdir()
                (out / "before.txt").write_text("here before")
                need = max(sum(p.stat().st_size for p in self.reference(work).rglob("*") if p.is_file()), 1 << 14)
                disk_size(disk, int(need * share) // 4096 * 4096 + 4096)
                running = self.start(work.first(out))
                if running.wait() == 0:  # it had room enough, which is no case
                    shutil.rmtree(out)
                    continue
                wrong = running.refused("No space left", "disk is full")
                if not wrong and (out / "before.txt").read_text() != "here before":
                    wrong = "what was there is gone"
                (out / "before.txt").unlink()
                disk_size(disk, 1 << 30)
                problems.append(wrong or self.ended(work, out))
                shutil.rmtree(out)
        self.note("disk full: one message, then room and again", work.name, problems)

    def reference(self, work: Work) -> Path:
        """The folder of what something makes undisturbed."""
        return self.place / f"reference-{re.sub(r'[^a-z]+', '-', work.name)}"

    def file_too_large(self, work: Work) -> None:
        """As a full disk, where none can be mounted: a limit on the size of a file."""
        if self.docker and work.again:
            self.skipped("a file too large", "a run's containers, which write its files, have the engine's limits")
            return
        files = [p.stat().st_size for p in self.reference(work).rglob("*") if p.is_file()]
        limit = max(files) // 2
        out = self.out()
        running = self.start(work.first(out), limit=limit)
        wrong = running.refused("File too large", "limit on file sizes") or self.ended(work, out)
        self.note("a file too large: one message, then again", work.name, [wrong])

    def forbidden(self, work: Work) -> None:
        """A folder that may not be written to: one message, before the work."""
        with small_disk(self.place / "disk") as disk:
            if disk:  # read only, for root as well
                subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
                out = disk
            else:
                out = self.out()
                out.mkdir(mode=0o555)
            wrong = self.start(work.first(out / "x")).refused("")
        self.note("no right to write", work.name, [wrong])

    def two(self, work: Work) -> None:
        """The same twice at once, into one folder: one is done, the other one refused, or both are.

        Runs have folders of their own, and both are done; then one of them that was cut is gone on with twice at once.
        """
        if not work.again:
            out = self.out()
            self._both(work, out, work.first(out), "two at once into one folder")
            return
        out = self.out()
        both = [self.start(work.first(out)) for _ in range(2)]
        problems = [f"status {code}: {one.last()}" for one in both if (code := one.wait()) != 0]
        made = sorted(path.parent for path in out.glob("2*/run.json"))
        problems += [f"{len(made)} folders"] * (len(made) != 2)
        problems += [f"{folder.name} is something else" for folder in made if work.digests(folder) != work.expected]
        self.note("two at once, each in a folder of its own", work.name, ["; ".join(problems)])
        shutil.rmtree(out)
        while True:
            out, running = self._at_work(work)
            left = "" if running.killed(0) else "processes are left"
            if any(out.glob("2*/run.json")):
                break
        self._both(work, out, work.next(out), "gone on with twice at once", left)

    def _both(self, work: Work, out: Path, command: Sequence[str], fault: str, wrong: str = "") -> None:
        """A command twice at once, of which one is done, the other one refused, or both are; what is wrong before."""
        both = [self.start(command) for _ in range(2)]
        codes = [running.wait() for running in both]
        if sorted(codes) not in ([0, 0], [0, 2]):
            wrong = f"status {codes}: {both[0].last()} {both[1].last()}"
        for running, code in zip(both, codes, strict=True):
            if code and "is being written by another command" not in running.said():
                wrong = f"says: {running.last()}"
        if not wrong and work.digests(out) != work.expected:
            wrong = "what is there is something else"
        self.note(fault, work.name, [wrong], "one refused" if 2 in codes else "both done")

    def clock(self, work: Work) -> None:
        """A clock that is set back by a day: while it is at work, and between a cut and what goes on.

        Forks have it where this process was started with it.
        """
        compiler = shutil.which("cc")
        if not compiler:
            self.skipped("clock set back by a day", "no C compiler is installed")
            return
        given = os.environ.get("FAULTS_CLOCK")
        clock = {} if given else clock_of(self.place, compiler)
        back = Path(given or clock["FAULTS_CLOCK"])
        note = "of the run's own process: its containers have the engine's clock" * (self.docker and bool(work.again))
        for when, cut in (("while it is at work", False), ("before it goes on", True)):
            out, running = self._at_work(work, clock)
            if cut:
                running.killed(0)
            back.touch()
            if cut:
                running = self.start(work.next(out), clock)
            wrong = self.same(running, work, out)
            if "cannot be preloaded" in running.said():  # by the image's C library
                wrong = "its clock was as it is"
            self.note(f"clock set back by a day, {when}", work.name, [wrong], note)
            back.unlink()
            shutil.rmtree(out)

    def replaced_model(self, work: Work) -> None:
        """A classifier replaced after it was trained: noticed, done again, and the result is the same."""
        out = self.out()
        running = self.start(work.first(out))
        trained = self._trained(running, out)
        running.killed(0)
        self._replace(work, trained)
        running = self.start(work.next(out))
        code, said = running.wait(), running.said()
        told = "is done again: its classifier was changed or replaced since" in said
        good = code == 0 and told and work.digests(out) == work.expected
        self.note(
            "a model file replaced between stages", work.name, ["" if good else f"status {code}: {running.last()}"]
        )

    def replaced_while_running(self, work: Work) -> None:
        """The same while the run is at it: refused, and the run goes on to the same by the command it names."""
        out = self.out()
        running = self.start(work.first(out))
        self._replace(work, self._trained(running, out))
        wrong = running.refused("it was changed or replaced since") or self.ended(work, out)
        self.note("a model file replaced while the run is at it", work.name, [wrong])

    def _trained(self, running: Running, out: Path) -> Path:
        """The record of the first classifier that is trained."""
        while running.process.poll() is None:
            for found in out.glob("2*/pipeline/made/for-loop-*/pretrain-classifier/record.json"):
                return found
            time.sleep(0.005)
        raise RuntimeError(f"no classifier was trained: {running.last()}")

    def _replace(self, work: Work, record: Path) -> None:
        """Has the other classifier of an undisturbed run in the place of one."""
        own = "vgg" if "vgg" in json.loads(record.read_text(encoding="utf-8"))["label"] else "densenet"
        other = {"vgg": "densenet", "densenet": "vgg"}[own]
        source = work.made(self.reference(work)) / "models" / f"{other}.safetensors"
        shutil.copyfile(source, record.with_name("other"))
        record.with_name("other").replace(record.with_name("classifier"))

    def finished_again(self, work: Work) -> None:
        """A finished run is gone on with: it says so."""
        out = self.reference(work)
        running = self.start(work.next(out))
        code, said = running.wait(), running.said()
        good = code == 0 and "is finished" in said
        self.note("a finished run gone on with", work.name, ["" if good else f"status {code}: {running.last()}"])

    def print_table(self) -> None:
        """The table, as Markdown."""
        print("\n| fault | of | cases | held | |\n|---|---|---|---|---|")
        for row in self.rows:
            print(f"| {row.fault} | {row.work} | {row.cases} | {row.held} | {row.note} |")


class Fork:
    """A command as a fork of this process, in which its modules are imported; used as a ``Popen``."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        folder: Path,
        environ: Mapping[str, str],
        preexec_fn: Callable[[], None] = lambda: None,
    ) -> None:
        def child() -> None:
            atexit._clear()
            os.setpgid(0, 0)
            os.chdir(folder)
            os.environ.update(environ)
            with log.open("wb") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            preexec_fn()
            try:
                _run(command)
                log.with_suffix(".modules").write_text("\n".join(sys.modules))
            finally:
                atexit._run_exitfuncs()

        self._process = multiprocessing.get_context("fork").Process(target=child)
        self._process.start()

    @property
    def pid(self) -> int:
        """Of it."""
        assert self._process.pid
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status; None before its end."""
        return self._process.exitcode

    poll = returncode.fget

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def wait(self, seconds: float | None = None) -> int:
        """Its exit status, once it has ended."""
        self._process.join(seconds)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("", seconds or 0)
        return self.returncode


def _run(command: Sequence[str]) -> None:
    """Runs a stage or ``imitation-refinement`` in this process."""
    module = command[2] if command[0] == sys.executable else ""
    sys.argv = list(command[2 if module else 0 :])
    if module:
        run_stage(module)
    else:
        pipelines.cli.main()


@dataclass
class Running:
    """A command at work."""

    process: subprocess.Popen[bytes] | Fork
    log: Path
    token: str
    docker: bool = False

    def wait(self, seconds: float = 1800) -> int:
        """Its exit status; as a shell's where a signal ended it, which one does after so long."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return code if code >= 0 else 128 - code

    def refused(self, *reasons: str) -> str:
        """Waits for its end, which is to be status 2 and one error with one of these reasons; what is wrong with it."""
        code, said = self.wait(), self.said()
        errors = re.findall(r"^error: .*", said, re.M)
        if code != 2 or len(errors) != 1 or "Traceback" in said:
            return f"status {code}, {len(errors)} errors, says: {self.last()}"
        return "" if any(reason in errors[0] for reason in reasons) else f"says: {errors[0]}"

    def killed(self, seconds: float) -> bool:
        """Kills it after so long, if it has not ended; whether all that it started ends soon."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.process.wait()
        return self.gone(END_S)  # containers of a run may outlive it: what goes on with it removes them

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.process.pid, number)

    def said(self) -> str:
        """All that it said."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def last(self) -> str:
        """The last line that it said."""
        return (self.said().strip().splitlines() or ["nothing"])[-1][:300]

    def gone(self, seconds: float) -> bool:
        """Whether all that it started ends within a time; what uploads to MLflow may take longer."""
        end = time.monotonic() + seconds
        while alive(self.token, self.process.pid):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def contained(self, seconds: float) -> bool:
        """Whether no container of the script is there within a time."""
        end = time.monotonic() + seconds
        while self.docker and containers_of(self.log.parent):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True


@dataclass
class Contained(Running):
    """A ``docker run`` at work, and its container, by its name."""

    name: str = ""

    def signal(self, number: int) -> None:
        """Sends its container a signal, as soon as there is one; a Ctrl-C to ``docker run``, as a terminal does."""
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
            return
        words = ["docker", "kill", "--signal", str(number), self.name]
        while self.process.poll() is None and subprocess.run(words, capture_output=True).returncode:
            time.sleep(0.05)


def containers_of(place: Path) -> list[str]:
    """The containers that were started from a folder: by their own name, or as the tasks of a run that is below it."""
    words = ["docker", "ps", "--all", "--format", f'{{{{.Names}}}} {{{{.Label "{RUN_LABEL}"}}}}']
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in said.splitlines() if place.name in line]


def environment() -> dict[str, str]:
    """Of all that is started: this checkout's packages come first, and its revision stays that of the beginning."""
    packages = f"{ROOT / 'shared'}:{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, "PYTHONPATH": packages, REVISION_VARIABLE: revision()}


def alive(token: str, group: int = -1) -> list[int]:
    """The processes that were started with a token, or are of a group."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            started = (place / "environ").read_bytes()
            command = (place / "cmdline").read_bytes()
            state, _, of = (place / "stat").read_text().rpartition(") ")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if (token.encode() in started or int(of) == group) and state != "Z" and b"tracking.upload" not in command:
            found.append(int(place.name))
    return found


def clock_of(place: Path, compiler: str) -> dict[str, str]:
    """The environment of a process whose clock is a day back once the file ``FAULTS_CLOCK`` is there."""
    library = place / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, ROOT / "benchmarks" / "clock.c"], check=True)
    return {"LD_PRELOAD": str(library), "FAULTS_CLOCK": str(place / "set-back")}


@contextmanager
def small_disk(place: Path) -> Iterator[Path | None]:
    """A file system in memory whose size is set; None where none can be mounted."""
    place.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def disk_size(place: Path, size: int) -> None:
    """Sets how much it holds."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


MADE = ("collect", "simulate", "preprocess", "classifier", "refiner", "baselines")  # what stages begin with, in order


def in_container(stage: str, data: Path) -> list[str]:
    """A stage in its image, as docs/docker.md has it: the folder that it writes to, and the one that it reads from."""
    who = f"{os.getuid()}:{os.getgid()}"
    return [
        *DOCKER_RUN,
        "--rm",
        "--init",
        "-u",
        who,
        "-v",
        "{folder}:{folder}",
        "-v",
        f"{data}:{data}:ro",
        image(stage),
    ]


def stage_works(data: Path, make: Sequence[str], docker: bool = False) -> list[Work]:
    """Each stage alone, on what those before it made.

    Args:
        data: the folder for that.
        make: what of it is made now; not in containers.
        docker: whether they are containers.
    """
    options = read_profile(str(PROFILE)).parameters()

    def options_of(name: str, **more: Any) -> list[str]:
        return ["--config", json.dumps({**options[name], **more})]

    def task(loop: str, number: int = 0) -> list[str]:
        return ["--config", json.dumps(options[loop][number]["config"])]

    made = {name: data / name for name in MADE}
    tables = {name: str(made["preprocess"] / name) for name in ("ideal_dataset", "imperfect_dataset")}
    classifier, refiner = str(made["classifier"] / "classifier"), str(made["refiner"] / "refiner")
    ideal, imperfect = (
        ["--ideal-dataset", tables["ideal_dataset"]],
        ["--imperfect-dataset", tables["imperfect_dataset"]],
    )
    simulated = {name: str(made["simulate"] / name) for name in ("ideal", "imperfect", "library")}
    adapt = {"method": "finetuned", "optimiser": options["refine"][0]["config"]["optimiser"]}
    collected = {n: str(made["collect"] / f"collected_{n}") for n in ("structures", "patterns")}
    plan: list[tuple[str, str, list[str], list[str]]] = [
        (
            "collect_structures",
            "collect",
            ["collected_structures", "collected_patterns", "rejected"],
            options_of("collect_structures"),
        ),
        (
            "simulate",
            "simulate",
            ["ideal", "imperfect", "library", "rejected"],
            ["--structures", collected["structures"], "--patterns", collected["patterns"], *options_of("simulate")],
        ),
        (
            "preprocess",
            "preprocess",
            ["ideal_dataset", "imperfect_dataset", "manifest", "rejected"],
            ["--ideal", simulated["ideal"], "--imperfect", simulated["imperfect"], *options_of("preprocess")],
        ),
        ("pretrain_classifier", "classifier", ["classifier"], [*ideal, *task("pretrain")]),
        ("train_refiner", "refiner", ["refiner"], ["--classifier", classifier, *imperfect, *task("refine")]),
        ("adapt_classifier", "", ["adapted"], ["--classifier", classifier, *imperfect, "--config", json.dumps(adapt)]),
        (
            "baselines",
            "baselines",
            ["dwt", "answers", "search"],
            [*ideal, *imperfect, "--library", simulated["library"], *options_of("baselines")],
        ),
        (
            "evaluate",
            "",
            ["results", "table", "report", "figures", "predictions"],
            [
                "--classifiers",
                classifier,
                "--refiners",
                refiner,
                *ideal,
                *imperfect,
                "--dwt",
                str(made["baselines"] / "dwt"),
                "--answers",
                str(made["baselines"] / "answers"),
                *options_of("evaluate"),
            ],
        ),
        (
            "identify",
            "",
            ["answers", "rejected"],
            ["--patterns", str(data / "patterns"), "--config", json.dumps({"processes": 1})],
        ),
    ]
    works = []
    for name, place, outputs, arguments in plan:
        given = [word for output in outputs for word in (f"--{output.replace('_', '-')}", f"{{out}}/{output}")]
        here = Work(f"stage {name}", [sys.executable, "-m", f"components.{name}", *arguments, *given])
        if place in make and not all((made[place] / output).exists() for output in outputs):
            subprocess.run(here.first(made[place]), check=True, env=environment(), capture_output=True)
        program = in_container(name, data)
        there = Work(here.name, [*program, *arguments, *given], program=len(program))
        works.append(there if docker else here)
    return works


def patterns(folder: Path, number: int, rng: random.Random) -> None:
    """Pattern files: the examples of the documentation, counted over again."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    for i in range(number):
        source = ROOT / "docs" / "examples" / ("ZnO.xy", "ZnS.xy")[i % 2]
        lines = []
        for line in source.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if len(words) > 1 and re.fullmatch(r"[\d.eE+-]+", words[0]):
                counts = float(words[1])
                lines.append(f"{words[0]} {max(0.0, rng.gauss(counts, max(counts, 1.0) ** 0.5)):.1f}")
            else:
                lines.append(line)
        (folder / f"{source.stem}-{i:02}.xy").write_text("\n".join(lines) + "\n", encoding="utf-8")


def works(data: Path, docker: bool, chosen: Sequence[str]) -> list[Work]:
    """All that is done, or what is chosen of it."""
    given = str(data / "patterns")
    wavelength = ["--wavelength", "CuKa1"]

    def resumed(*verb: str) -> Callable[[Path], list[str]]:
        return lambda out: [*COMMAND, *verb, "--resume", str(next(p.parent for p in out.glob("2*/run.json")))]

    def run_folder(out: Path) -> Path:
        return next((path for path in sorted(out.glob("2*")) if (path / "run.json").exists()), out)

    structures = data / "structures.parquet"  # that they are a table, release knows by the name
    if not structures.is_symlink():
        structures.symlink_to(data / "collect" / "collected_structures")
    runner = ["--runner", "docker"] if docker else []
    settings = (*SMALL, "networks=1", "stream.samples=2100", "stream.checkpoint_seconds=0", "refiner.samples=640")
    release = ["--structures", str(structures), *(f"--set={setting}" for setting in settings)]
    without = {"stage collect_structures", "stage identify", "refine", "identify", "batch run", "run"}
    more = set(chosen) - without
    everything = [
        *stage_works(data, MADE if more - {"release"} or not chosen else MADE[: len(more)], docker),
        Work("refine", [*COMMAND, "refine", given, "--output", "{out}", *wavelength]),
        Work("identify", [*COMMAND, "identify", given, "--output", "{out}", *wavelength]),
        Work(
            "batch run",
            [*COMMAND, "batch", "run", given, "--output", "{out}", *wavelength],
            resumed("batch", "run"),
            run_folder,
        ),
        Work("release", [*COMMAND, "release", "--output", "{out}", *release]),
        Work(
            "run",
            [*COMMAND, "run", "--profile", str(PROFILE), "--set", "shards=2", "--output", "{out}", *runner],
            resumed("run"),
            run_folder,
        ),
    ]
    if docker:
        everything = [work for work in everything if work.command[:2] == DOCKER_RUN or work.name == "run"]
    return [work for work in everything if not chosen or work.name in chosen]


def main(argv: Sequence[str] | None = None) -> int:
    """Does all, prints the table; 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="random moments of each")
    parser.add_argument("--stops", type=int, default=3, help="of each, by SIGTERM and by Ctrl-C")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="as 'run' or 'stage simulate'")
    parser.add_argument("--faults", nargs="+", default=[], metavar="NAME", help="as killed stopped full")
    parser.add_argument("--data", type=Path, help="folder that keeps what stages begin with, for another time")
    parser.add_argument("--fork", action="store_true")
    parser.add_argument("--docker", action="store_true")
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args(argv)
    rng = random.Random(arguments.seed)
    print(f"seed {arguments.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        place = Path(folder).resolve()
        data = (arguments.data or place / "data").absolute()
        patterns(data / "patterns", 5, rng)
        kills = 2 if arguments.short else arguments.kills
        faults = Faults(place, rng, kills, arguments.stops, arguments.fork, arguments.docker)
        chosen = ["stage collect_structures"] if arguments.short else arguments.only
        for work in works(data, arguments.docker, chosen):
            if arguments.faults != ["forbidden"]:  # which asks what is said alone
                faults.whole(work)
            alone = [
                faults.killed,
                faults.stopped,
                faults.full,
                faults.file_too_large,
                faults.forbidden,
                faults.two,
                faults.clock,
            ]
            of_run = [faults.replaced_model, faults.replaced_while_running, faults.finished_again]
            if arguments.short and not arguments.faults:
                alone = [faults.killed]
            for fault in [*alone, *(of_run if work.name == "run" else [])]:
                if not arguments.faults or fault.__name__ in arguments.faults:
                    fault(work)
        faults.print_table()
        if alive(faults.token):
            print("processes are left")
            return 1
    print(f"{time.monotonic() - started:.0f} s; seed {arguments.seed}")
    return int(any(row.held < row.cases for row in faults.rows))


if __name__ == "__main__":
    sys.exit(main())
