"""The MLflow run of a whole pipeline run on a cluster, where no process lives as long as the pipeline.

The stages of one run of Kubeflow Pipelines find their parent by its tag, and make it where it is not there yet. MLflow
can't make a run only if there is none, so two stages that begin at the same time may both make one. Each therefore
looks again after all that it writes: of several parents the oldest stays, the others' children become its own. Who
writes last looks last, and leaves one parent with all the children.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# As the MLflow plugin of Kubeflow Pipelines tags the parents and children that it makes.
RUN_TAG, PARENT_TAG = "kfp.pipeline_run_id", "mlflow.parentRunId"
TASK_TAG = "task"


def enter(
    client: Any,
    experiment: str,
    pipeline_run: str,
    name: str,
    task: str,
    tags: Mapping[str, str] | None = None,
    start_time: int | None = None,
) -> str:
    """Makes a stage's run below the one of its pipeline run.

    Args:
        client: MLflow's client.
        experiment: the experiment's id.
        pipeline_run: Kubeflow Pipelines' id of the run.
        name: the stage's run's name.
        task: what tells the stage from the pipeline's other tasks, and not from another attempt at it.
        tags: further ones of the stage's run.
        start_time: when the stage began [ms]; now by default.

    Returns:
        the run's id.
    """
    parent = settle(client, experiment, pipeline_run)
    # Another attempt at the same task has ended before this one began; if it was killed, it could not end its run.
    for killed in _children(client, experiment, parent, f"tags.{TASK_TAG} = '{task}' and {_is('RUNNING')}"):
        client.set_terminated(killed.info.run_id, "FAILED")
    own = {PARENT_TAG: parent, "stage": name, TASK_TAG: task, **(tags or {})}
    run = client.create_run(experiment, start_time=start_time, run_name=name, tags=own)
    reopen(client, experiment, pipeline_run, parent)
    return str(run.info.run_id)


def reopen(client: Any, experiment: str, pipeline_run: str, *seen: str) -> None:
    """Says that the run of the whole pipeline run goes on; see :func:`settle`."""
    client.update_run(settle(client, experiment, pipeline_run, *seen), status="RUNNING")


def leave(client: Any, experiment: str, pipeline_run: str) -> None:
    """Ends the run of the whole pipeline run where no stage runs; the next stage opens it again.

    It is FAILED where a task's last attempt failed, else FINISHED.
    """
    parent = settle(client, experiment, pipeline_run)
    if _children(client, experiment, parent, _is("RUNNING"), 1):
        return
    failed = {child.data.tags.get(TASK_TAG) for child in _children(client, experiment, parent, _is("FAILED"))}
    mended = [
        _children(client, experiment, parent, f"tags.{TASK_TAG} = '{task}' and {_is('FINISHED')}", 1) for task in failed
    ]
    client.set_terminated(parent, "FINISHED" if all(mended) else "FAILED")


def settle(client: Any, experiment: str, pipeline_run: str, *seen: str) -> str:
    """The one run of a pipeline run, found or made.

    Args:
        client: MLflow's client.
        experiment: the experiment's id.
        pipeline_run: Kubeflow Pipelines' id of the run.
        seen: parents that were settled on before.

    Returns:
        the run's id.
    """
    known = set(seen)
    while True:
        found = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{pipeline_run}'")
        if not found:
            client.create_run(experiment, run_name=f"pipeline {pipeline_run[:8]}", tags={RUN_TAG: pipeline_run})
            continue
        chosen = min(found, key=lambda run: (run.info.start_time, run.info.run_id)).info.run_id
        rivals = {run.info.run_id for run in found} - {chosen}
        known |= {chosen, *rivals}
        orphans = [child for other in known - {chosen} for child in _children(client, experiment, other)]
        for child in orphans:
            client.set_tag(child.info.run_id, PARENT_TAG, chosen)
        for rival in rivals:
            client.delete_run(rival)
        if not orphans and not rivals:
            return str(chosen)


def _children(client: Any, experiment: str, parent: str, that: str = "", most: int = 1000) -> list[Any]:
    condition = f"tags.{PARENT_TAG} = '{parent}'" + (f" and {that}" if that else "")
    return list(client.search_runs([experiment], condition, max_results=most))


def _is(status: str) -> str:
    return f"attributes.status = '{status}'"
