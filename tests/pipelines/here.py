"""Tasks of a local run in the test's own process, which has imported all; one of their own takes seconds to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from kfp.local import subprocess_task_handler

import components.simulate.kernel  # noqa: F401 (numba, as it is imported, looks for a `print` that KFP swaps meanwhile)
from imitation_refinement.progress import begin
from imitation_refinement.running.launch import environment
from pipelines import processes
from pipelines.forking import run_component
from pipelines.records import Call, Records


def tasks_here(*apart: str) -> Callable[..., AbstractContextManager[Any]]:
    """In the place of :func:`pipelines.processes.tasks`; one task at a time.

    Args:
        apart: components of which the first task has a process of its own all the same.
    """

    @contextmanager
    def tasks(records: Records, lock: int | None = None) -> Iterator[Any]:
        alone, turn = set(apart), threading.Lock()
        with processes.tasks(records, lock) as runner:
            process = subprocess_task_handler.run_local_subprocess

            def run(full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
                *_, source, _, given, _, function = full_command
                call = Call.of(full_command)
                with turn, environment(env_vars or {}):
                    if function in alone:
                        alone.remove(function)
                        return process(full_command, env_vars)
                    begin(call.label)
                    try:
                        run_component(source, function, given)
                    except SystemExit as error:
                        return int(str(error.code))
                    return records.note(call)

            with processes.replaced(subprocess_task_handler, "run_local_subprocess", run):
                yield runner

    return tasks
