"""What a run keeps so that it goes on after it was cut: what it was given, and a record of each task that is finished.

A task's folder is the same in every attempt at its run. Beside its outputs lies, once they are whole, a record: what
the task is, the SHA-256 digests of its inputs and outputs, its arguments. A task whose record tells of the same inputs
and arguments, and whose outputs are still what it made, is not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from components.collect_structures.config import NAMED_SOURCES
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest, write_text
from imitation_refinement.options import StageConfig, config_error
from imitation_refinement.progress import passed, warn
from imitation_refinement.running.launch import COMMAND_VARIABLE
from imitation_refinement.running.stage import exit_on_input_error, shard_name

RUN, RECORD, LOCK = "run.json", "record.json", ".lock"
LOCK_PATIENCE_S = 5.0  # for the tasks of a run that was killed: they end when they notice
Runner = Literal["subprocess", "docker"]
Key = tuple[int, ...]


class RunRecord(StageConfig):
    """What a run was begun with, and how far it is; ``run.json`` in its folder."""

    command: str = Field("", description="what a person typed to begin it")
    runner: Runner = Field("subprocess", description="what a task is")
    sources: dict[str, str] = Field(description="what it was given: absolute paths, names, or nothing")
    digests: dict[str, str] = Field(description="SHA-256 of those that are files or folders, by their paths")
    program: str = Field(description="digest of the software, or of the images, that began it")
    threads: str = Field(description="OMP_NUM_THREADS of its tasks")
    state: Literal["begun", "made", "finished"] = Field("begun", description="made: all tasks are finished")

    @classmethod
    def begin(
        cls, folder: Path, sources: Mapping[str, str], program: str, threads: str, runner: Runner = "subprocess"
    ) -> RunRecord:
        """The record of a run that begins now, written in its folder."""
        record = cls(
            command=os.environ.get(COMMAND_VARIABLE, ""),
            runner=runner,
            sources=dict(sources),
            digests=source_digests(sources),
            program=program,
            threads=threads,
        )
        record.write(folder)
        return record

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record of a run.

        Raises:
            InputError: if there is none, or it is spoilt.
        """
        path = folder / RUN
        if not path.is_file():
            problem = f"holds no run that can be gone on with: it has no {RUN}."
            raise InputError(folder, problem, "Give the folder that the run named, as runs/20261129-101500.")
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, ValueError) as error:
            if isinstance(error, ValidationError):
                raise config_error(str(path), error) from None
            raise InputError(path, f"can't be read ({error}).", "Begin a new run.") from None

    def write(self, folder: Path) -> None:
        """Writes the record, whole."""
        write_text(folder / RUN, self.model_dump_json(indent=1) + "\n")

    def at(self, state: str) -> RunRecord:
        """The same run, further on."""
        return self.model_copy(update={"state": state})


def resume_command(command: Iterable[str], folder: Path) -> str:
    """What a person types to go on with a run."""
    return shlex.join([*command, "--resume", str(folder)])


def source_digests(sources: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of the files and folders among what a run is given, by path; of a run its classifiers alone."""
    found = {}
    for name, path in sources.items():
        if path and path not in NAMED_SOURCES:
            found[path] = digest(Path(path) / "models" if name == "classifiers" else path)
    return found


@cache
def program() -> str:
    """SHA-256 of the Python files that a task of a process may run."""
    import components
    import imitation_refinement

    sha = hashlib.sha256()
    for package in (components, imitation_refinement):
        (root,) = package.__path__
        for file in sorted(Path(root).rglob("*.py")):
            sha.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return sha.hexdigest()


@dataclass(frozen=True)
class Call:
    """KFP's call of its executor.

    Attributes:
        code: what is called, but for the arguments.
        parameters: the arguments that are no files.
        inputs: files by argument.
        outputs: files and folders by argument.
        output_file: what KFP's executor tells of them, JSON.
    """

    code: str
    parameters: dict[str, Any]
    inputs: dict[str, list[Path]]
    outputs: dict[str, Path]
    output_file: Path

    @classmethod
    def of(cls, command: Sequence[str]) -> Call:
        """The call in a command line."""
        words = list(command)
        place = words.index("--executor_input") + 1
        given = json.loads(words[place])
        code = "\n".join(words[:place] + words[place + 1 :]).replace(sys.executable, "python3")
        inputs, outputs = given["inputs"], given["outputs"]
        return cls(
            hashlib.sha256(code.encode()).hexdigest(),
            inputs.get("parameterValues", {}),
            {name: [Path(one["uri"]) for one in found["artifacts"]] for name, found in _artifacts(inputs)},
            {name: Path(found["artifacts"][0]["uri"]) for name, found in _artifacts(outputs)},
            Path(outputs["outputFile"]),
        )

    @property
    def folder(self) -> Path:
        """Where all that the task makes is."""
        return self.output_file.parent

    @property
    def label(self) -> str:
        """What the task is called: its label, or its stage, as ``simulate 1 of 2``."""
        stage = self.folder.name.replace("-", "_")
        if "shards" in self.parameters:
            return shard_name(stage, int(self.parameters["shard"]), int(self.parameters["shards"]))
        return str(self.parameters.get("task", self.parameters).get("label") or stage)


def _artifacts(side: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return side.get("artifacts", {}).items()


class Records:
    """The records of the tasks of one run.

    Args:
        sources: SHA-256 of what the run was given, by path: some arguments of tasks are such paths.
        resumed: the command that goes on with the run, for messages.
    """

    def __init__(self, sources: Mapping[str, str], resumed: str) -> None:
        self._sources, self.resumed = sources, resumed
        self._known: dict[Path, tuple[Key, str]] = {}  # of files, for as long as nobody writes to them

    def before(self, call: Call) -> int | None:
        """What is to be known before a task is run.

        Returns:
            0 if it need not be run: it was, on the same, and what it made is there. 2 if it can't be, for an input is
            not what the task made that made it; that is left where InputErrors are. None if it is to be run; it is
            said why, where it was before.
        """
        if status := _status(lambda: self._check_inputs(call)):
            return status
        path = call.folder / RECORD
        if not path.is_file():
            return None
        record, now = json.loads(path.read_text(encoding="utf-8")), self._asked(call)
        if why := _difference(record, now) or self._spoilt(record["outputs"], call):
            warn(f"{call.label} is done again: {why}")
            path.unlink()
            return None
        _tell_executor(call)
        passed(call.label, "was finished before, and is kept")
        return 0

    def note(self, call: Call) -> int:
        """Writes the record of a task that has just ended well; returns 0, or 2 if it can't be written, as above."""
        outputs = {name: self._digest(path) for name, path in call.outputs.items() if path.exists()}
        record = {**self._asked(call), "label": call.label, "outputs": outputs}
        return _status(lambda: write_text(call.folder / RECORD, json.dumps(record, indent=1) + "\n"))

    def _asked(self, call: Call) -> dict[str, Any]:
        """All that a task's outputs depend on."""
        given = [value for value in call.parameters.values() if isinstance(value, str)]
        return {
            "task": call.code,
            "arguments": call.parameters,
            "sources": {path: self._sources[path] for path in given if path in self._sources},
            "inputs": {name: list(map(self._digest, paths)) for name, paths in call.inputs.items()},
        }

    def _spoilt(self, outputs: Mapping[str, str], call: Call) -> str:
        for name, known in outputs.items():
            path = call.outputs[name]
            if not path.exists():
                return f"its {name} is gone"
            if self._digest(path) != known:
                return f"its {name} was changed or replaced since"
        return "" if call.output_file.is_file() else "what it told of its outputs is gone"

    def _check_inputs(self, call: Call) -> None:
        for path in (path for paths in call.inputs.values() for path in paths):
            record = path.parent / RECORD
            if not record.is_file():
                continue
            maker = json.loads(record.read_text(encoding="utf-8"))
            if self._digest(path) != maker["outputs"].get(path.name):
                problem = f"is not what {maker['label']} made: it was changed or replaced since."
                raise InputError(path, problem, f"`{self.resumed}` makes it anew.")

    def _digest(self, path: Path) -> str:
        """SHA-256, worked out once for a file that stays as it is."""
        if not path.is_file():
            return digest(path) if path.exists() else ""
        before = path.stat()
        key = (before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns)
        if path not in self._known or self._known[path][0] != key:
            self._known[path] = key, digest(path)
        return self._known[path][1]


def _status(work: Callable[[], None]) -> int:
    """0, or 2 where work that a task needs is refused: KFP's threads know no other errors."""
    try:
        with exit_on_input_error():
            work()
    except SystemExit as error:
        return int(str(error.code))
    return 0


def _difference(record: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In what a task's record differs from what is asked of it now; empty if in nothing."""
    said: dict[str, Callable[[str], str]] = {
        "arguments": lambda name: f"its {name} is another",
        "sources": lambda name: f"{name} has changed",
        "inputs": lambda name: f"its {name} has changed",
    }
    for part, tell in said.items():
        before, after = record.get(part, {}), now[part]
        for name in {**before, **after}:
            if before.get(name) != after.get(name):
                return tell(name)
    return "" if record.get("task") == now["task"] else "its interface is another"


def _tell_executor(call: Call) -> None:
    """Has what KFP's executor told name the outputs where they are: the run's folder may have been moved."""
    told = json.loads(call.output_file.read_text(encoding="utf-8"))
    for name, path in call.outputs.items():
        for one in told.get("artifacts", {}).get(name, {}).get("artifacts", []):
            one["uri"] = os.fspath(path)
    write_text(call.output_file, json.dumps(told))
