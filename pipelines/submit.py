"""A compiled pipeline onto a Kubeflow Pipelines server, its run started and watched."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp_server_api as api
import yaml

from imitation_refinement import __version__
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.progress import progress, say
from pipelines.cluster import Cluster, check_source
from pipelines.local import TaskFailed
from pipelines.server import Server

EXPERIMENT = "imitation-refinement"
PAGE = 200  # versions a request
POLL_S = 10.0
WATCH_TRIES = 12  # a run of days outlives an outage of minutes
DONE = ("SUCCEEDED", "SKIPPED")
ENDED = (*DONE, "FAILED", "CANCELED")


@dataclass(frozen=True)
class Submission:
    """A run that was started.

    Attributes:
        run_id: KFP's id of the run.
        version: the name of the pipeline's version.
        link: the run's page.
        tasks: the tasks to come: KFP's name → (what it is called, how many there are).
    """

    run_id: str
    version: str
    link: str
    tasks: dict[str, tuple[str, int]]


def run_parameters(parameters: Mapping[str, Any], sources: Mapping[str, str], cluster: Cluster) -> dict[str, Any]:
    """A run's parameters with its sources, which are paths on the cluster's data volume.

    Args:
        parameters: the profile's.
        sources: by :data:`~pipelines.profiles.SOURCES`; empty where there is none.
        cluster: where the run will be.

    Raises:
        InputError: if a source is a path that has no meaning there.
    """
    for name, path in sources.items():
        check_source(name, path, cluster)
    return {**parameters, **sources}


def submit(
    server: Server,
    package: Path,
    parameters: Mapping[str, Any],
    name: str,
    experiment: str = EXPERIMENT,
    mlflow_experiment: str = "",
) -> Submission:
    """Uploads a compiled pipeline as a version, unless that very one is there, and starts a run of it.

    Args:
        server: where to.
        package: the compiled pipeline, YAML.
        parameters: the run's parameters.
        name: what the run is called.
        experiment: KFP's experiment; made if it is not there.
        mlflow_experiment: the experiment that KFP's MLflow plugin logs to; the plugin's own default if empty.

    Raises:
        InputError: if the server refuses or is out of order; it says what was done before.
    """
    spec = next(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    done: list[str] = []
    with _told(done):
        pipeline = _pipeline(server, spec["pipelineInfo"], done)
        version = _version(server, pipeline, package, done)
        place = _experiment(server, experiment, done)
        run = _run(server, pipeline, version, place, name, parameters, mlflow_experiment)
    link = server.link(f"runs/details/{run.run_id}")
    return Submission(run.run_id, version.display_name, link, expected_tasks(spec, parameters))


def expected_tasks(spec: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """The tasks that a run will have: KFP's name → (what it is called, how many there are)."""
    found: dict[str, tuple[str, int]] = {}

    def walk(dag: Mapping[str, Any], values: Mapping[str, Any], times: int) -> None:
        for name, task in dag["tasks"].items():
            bound = task.get("inputs", {}).get("parameters", {})
            own = {key: values.get(source.get("componentInputParameter")) for key, source in bound.items()}
            given = own.get(task.get("parameterIterator", {}).get("items", {}).get("inputParameter"))
            many = times * (len(given) if isinstance(given, list) else 1)
            component = spec["components"][task["componentRef"]["name"]]
            if "dag" in component:
                walk(component["dag"], own, many)
            else:
                found[name] = (task["taskInfo"]["name"], found.get(name, ("", 0))[1] + many)

    walk(spec["root"]["dag"], parameters, 1)
    return found


def watch(
    server: Server, submission: Submission, interval: float = POLL_S, pause: Callable[[float], None] = time.sleep
) -> None:
    """Waits for a run's end, with a line for each change and a bar of the tasks done.

    Args:
        server: where it runs.
        submission: the run.
        interval: seconds between two looks.
        pause: waits that many seconds.

    Raises:
        TaskFailed: if the run ends without success; it names the tasks that failed.
        InputError: if the server refuses or is out of order; the run goes on meanwhile.
        SystemExit: 130 after an interrupt; the run goes on.
    """
    try:
        total = sum(count for _, count in submission.tasks.values())
        for _ in progress(_finished(server, submission, interval, pause), "tasks", total, "task"):
            pass
    except KeyboardInterrupt:
        say(f"no longer watched; the run goes on: {submission.link}")
        raise SystemExit(130) from None
    except InputError as error:
        remedy = f"{error.remedy} The run goes on: {submission.link}".strip()
        raise InputError(error.where, error.problem, remedy) from None


@contextmanager
def _told(done: list[str]) -> Iterator[None]:
    """Says of a failure what was done before it."""
    try:
        yield
    except InputError as error:
        before = f" Done before: {'; '.join(done)}." if done else ""
        remedy = f"{error.remedy} The run was not started.{before}".strip()
        raise InputError(error.where, error.problem, remedy) from None


def _pipeline(server: Server, info: Mapping[str, str], done: list[str]) -> Any:
    requests, name = server.client.pipelines, info["name"]

    def find() -> Any:
        listed = server.ask(
            requests.pipeline_service_list_pipelines, namespace=server.namespace, filter=_named(name)
        ).pipelines
        return next((p for p in listed or () if p.display_name == name), None)

    def make() -> Any:
        wanted = api.V2beta1Pipeline(
            name=name, display_name=name, description=info.get("description"), namespace=server.namespace
        )
        return server.once(requests.pipeline_service_create_pipeline, pipeline=wanted)

    pipeline, made = server.find_or_make(find, make)
    if made:
        done.append(f"the pipeline {name} was made")
    return pipeline


def _version(server: Server, pipeline: Any, package: Path, done: list[str]) -> Any:
    """The version of the pipeline with this content, made by this revision of the code."""
    start = f"{__version__}-{_revision() or 'no-git'}-"
    sha256 = digest(package)
    name = f"{start}{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{sha256[:8]}"

    def find() -> Any:
        token = ""
        while True:
            page = server.ask(
                server.client.pipelines.pipeline_service_list_pipeline_versions,
                pipeline_id=pipeline.pipeline_id,
                page_size=PAGE,
                page_token=token,
                sort_by="created_at desc",
            )
            for version in page.pipeline_versions or ():
                if version.display_name.startswith(start) and sha256 in (version.description or ""):
                    return version
            token = page.next_page_token or ""
            if not token:
                return None

    def make() -> Any:
        return server.once(
            server.client.pipeline_uploads.upload_pipeline_version,
            uploadfile=str(package),
            name=name,
            pipelineid=pipeline.pipeline_id,
            description=f"imitation-refinement {__version__}; sha256 {sha256}",
        )

    version, made = server.find_or_make(find, make)
    done.append(f"the pipeline's version {version.display_name} was {'uploaded' if made else 'there already'}")
    say(done[-1])
    return version


def _experiment(server: Server, name: str, done: list[str]) -> Any:
    requests = server.client.experiments

    def find() -> Any:
        listed = server.ask(
            requests.experiment_service_list_experiments, namespace=server.namespace, filter=_named(name)
        ).experiments
        return next((e for e in listed or () if e.display_name == name), None)

    def make() -> Any:
        wanted = api.V2beta1Experiment(display_name=name, namespace=server.namespace)
        return server.once(requests.experiment_service_create_experiment, experiment=wanted)

    experiment, made = server.find_or_make(find, make)
    if experiment.storage_state == "ARCHIVED":
        raise InputError(f"experiment {name}", "is archived.", "Restore it, or name another with --experiment.")
    if made:
        done.append(f"the experiment {name} was made")
    return experiment


def _run(
    server: Server,
    pipeline: Any,
    version: Any,
    experiment: Any,
    name: str,
    parameters: Mapping[str, Any],
    mlflow_experiment: str,
) -> Any:
    mark = f"imitation-refinement submit {uuid.uuid4()}"  # names are not unique
    wanted = api.V2beta1Run(
        experiment_id=experiment.experiment_id,
        display_name=name,
        description=mark,
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=pipeline.pipeline_id, pipeline_version_id=version.pipeline_version_id
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(parameters)),
        plugins_input={"mlflow": {"experiment_name": mlflow_experiment}} if mlflow_experiment else None,
    )

    def find() -> Any:
        listed = server.ask(
            server.client.runs.run_service_list_runs,
            namespace=server.namespace,
            experiment_id=experiment.experiment_id,
            sort_by="created_at desc",
            filter=_named(name),
        ).runs
        return next((r for r in listed or () if r.description == mark), None)

    return server.find_or_make(find, lambda: server.once(server.client.runs.run_service_create_run, run=wanted))[0]


def _named(name: str) -> str:
    """A list request's filter by name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _revision() -> str:
    """The git revision of this code, 12 digits; empty where it is installed without its repository."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _finished(
    server: Server, submission: Submission, interval: float, pause: Callable[[float], None]
) -> Iterator[None]:
    """Yields once for each task that is done, until the run ends."""
    told: dict[str, str] = {}
    finished = 0
    while True:
        run = server.ask(server.client.runs.run_service_get_run, tries=WATCH_TRIES, run_id=submission.run_id)
        details = list(run.run_details.task_details or ()) if run.run_details else []
        done = 0
        for name, (label, count) in submission.tasks.items():
            states = [d.state or "PENDING" for d in details if d.display_name in (name, label)]
            done += min(count, sum(state in DONE for state in states))
            if (text := _state(states, count)) != told.get(name, ""):
                told[name] = text
                say(f"{label}: {text}")
        yield from [None] * (done - finished)
        finished = max(done, finished)
        if run.state in ENDED:
            break
        pause(interval)
    if run.state not in DONE:
        raise TaskFailed(_failure(run, details, submission))


def _state(states: list[str], count: int) -> str:
    """The state of a task, or of the many that a loop makes of it."""
    if not states:
        return ""
    if count == 1:
        return states[-1].lower()
    parts = [f"{sum(s in DONE for s in states)} of {count} done"]
    parts += [f"{states.count(s)} {s.lower()}" for s in ("RUNNING", "FAILED") if s in states]
    return ", ".join(parts)


def _failure(run: Any, details: list[Any], submission: Submission) -> str:
    """Which tasks failed, and why as far as the server says."""
    ours = {key: label for name, (label, _) in submission.tasks.items() for key in (name, label)}
    failed = [d for d in details if d.state == "FAILED"]
    named = [d for d in failed if d.display_name in ours] or failed
    by_id = {d.task_id: d for d in details}
    lines = [f"the run ended as {run.state}."]
    for detail in named:
        family = [detail, *(by_id[c.task_id] for c in detail.child_tasks or () if c.task_id in by_id)]
        reasons = [d.error.message for d in family if d.error and d.error.message]
        pods = [c.pod_name for d in family for c in d.child_tasks or () if c.pod_name]
        lines.append(
            f"Task {ours.get(detail.display_name, detail.display_name)} failed"
            + (f": {reasons[0]}" if reasons else "; the server gives no reason")
            + (f" (kubectl logs {pods[-1]} -c main)." if pods else ".")
        )
    if run.error and run.error.message:
        lines.append(run.error.message)
    return f"{' '.join(lines)} Its log: {submission.link}"
