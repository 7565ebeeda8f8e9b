"""What a cluster tells a task by its environment, and how a task starts the processes that share its work.

Light: nothing slow is imported.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imitation_refinement.errors import InputError

ERROR_FILE_VARIABLE = "IMITATION_REFINEMENT_ERROR_FILE"  # where an InputError is left for the program that waits
PROCESSES_VARIABLE = "IMITATION_REFINEMENT_PROCESSES"  # how many share a task's work on its machine, one a GPU
CHECKPOINTS_VARIABLE = "IMITATION_REFINEMENT_CHECKPOINTS"  # folder that outlives a pod
RUN_VARIABLE = "KFP_RUN_ID"  # the pipeline's run, by the name that Kubeflow Pipelines gives it
FOLDER_VARIABLE = "IMITATION_REFINEMENT_RUN"  # the pipeline's run, by the name of its folder on this machine
COMMAND_VARIABLE = "IMITATION_REFINEMENT_COMMAND"  # what a person typed
TRAIN_JOB_VARIABLE = "IMITATION_REFINEMENT_TRAIN_JOB"  # the job on several nodes that is to do a task, JSON


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables in the block; what is started there inherits them."""
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def this_run() -> dict[str, str]:
    """Which run of the pipeline this process is a part of, and the command that started it, as far as it was told."""
    known = {"run": os.environ.get(FOLDER_VARIABLE) or os.environ.get(RUN_VARIABLE)}
    known |= {"command": os.environ.get(COMMAND_VARIABLE)}
    return {name: value for name, value in known.items() if value}


def lasting_file(name: str, label: str) -> Path | None:
    """Where a task keeps a file that a new pod in its place finds; None where no folder outlives the pod.

    Args:
        name: of the file.
        label: of the task, which no other task of its run has, nor another iteration of its loop.

    Raises:
        InputError: if there is such a folder, but no telling which run this is.
    """
    folder = os.environ.get(CHECKPOINTS_VARIABLE)
    if not folder:
        return None
    run = os.environ.get(RUN_VARIABLE)
    if not run:
        raise InputError(CHECKPOINTS_VARIABLE, f"is set, {RUN_VARIABLE} is not.", "Set both or none.")
    return Path(folder) / ".".join((run, re.sub(r"[^\w-]+", "-", label), name))


def processes() -> int:
    """How many processes are to share a task's work on this machine; 1 in a process that shares it already.

    Raises:
        InputError: if the environment's number is none.
    """
    text = "1" if "WORLD_SIZE" in os.environ else os.environ.get(PROCESSES_VARIABLE, "1")
    if not text.isdecimal() or int(text) < 1:
        raise InputError(PROCESSES_VARIABLE, f"is {text!r}, no number of processes.", "Set it to 1 or more.")
    return int(text)


def command_line(paths: Mapping[str, Any], config: Mapping[str, Any], label: str | None) -> list[str]:
    """A task as the command line of its stage: ``python -m components.<stage>`` and these arguments.

    Args:
        paths: option name → path, or list of paths; empty ones are left out.
        config: the stage's options, JSON-serialisable.
        label: the name of the MLflow run, if any.
    """
    arguments = []
    for name, value in paths.items():
        if value:
            arguments += ["--" + name.replace("_", "-"), *([value] if isinstance(value, str | Path) else value)]
    arguments += ["--config", json.dumps(dict(config))]
    return [str(argument) for argument in arguments] + (["--label", label] if label else [])


def torchrun(stage: str, arguments: Sequence[str], n_processes: int) -> None:
    """Runs a stage's command line in several processes of this machine.

    Args:
        stage: the stage's name.
        arguments: of its command line; see :func:`command_line`.
        n_processes: how many.

    Raises:
        InputError: if that is why a process ended.
        SystemExit: if a process ended badly otherwise.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes)]
    with tempfile.TemporaryDirectory() as folder:
        error_file = Path(folder) / "error.json"
        ended = subprocess.run(
            [*command, "-m", f"components.{stage}", *arguments],
            env={**os.environ, ERROR_FILE_VARIABLE: str(error_file)},
            check=False,
        )
        if error_file.exists():
            raise InputError(*json.loads(error_file.read_text(encoding="utf-8")))
    if ended.returncode:
        print(f"error: {n_processes} processes of {stage} ended with status {ended.returncode}", file=sys.stderr)
        raise SystemExit(1)
