"""A training on several nodes, as a TrainJob of Kubeflow Trainer: the same command line, started by torchrun on each.

The task that starts it waits with it, shows what its first node says, and fails for the reason that its pods fail for.
Inputs and outputs travel by a volume that all nodes see. Kubeflow's SDK (the extra ``train_job``) is imported only when
a job is started.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from imitation_refinement.errors import InputError
from imitation_refinement.files import writing
from imitation_refinement.options import StageConfig
from imitation_refinement.progress import say
from imitation_refinement.running.launch import (
    CHECKPOINTS_VARIABLE,
    ERROR_FILE_VARIABLE,
    RUN_VARIABLE,
    TRAIN_JOB_VARIABLE,
    command_line,
    lasting_file,
)

POLL_S = 10.0
PATIENCE = 30  # questions in a row that the cluster may leave unanswered
NODE = "node"  # what Trainer calls the container that trains
COMPLETE, FAILED = "Complete", "Failed"
SECRETS = "/var/run/imitation-refinement/secrets"
# Trainer lets nobody take a node's environment from a secret; files it may have.
ENTRY = 'for f in "$0"/*; do if [ -f "$f" ]; then export "${f##*/}=$(cat "$f")"; fi; done; exec "$@"'
PASSED_ON = (
    RUN_VARIABLE,
    CHECKPOINTS_VARIABLE,
    "MLFLOW_TRACKING_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_WORKSPACE",
    "IMITATION_REFINEMENT_PARENT_RUN_ID",
)


class TrainJob(StageConfig):
    """What the pods of a training on several nodes are.

    Attributes:
        runtime: Trainer's runtime, of the torch kind.
        image: the image of every node.
        nodes: how many.
        processes: on each node; one a GPU.
        resources: of each node, by Kubernetes' names, requested and limiting.
        environment: of every node.
        pod: the pods' spec, as far as it is not Trainer's: volumes, secrets, tolerations and so on.
        mounts: of the container that trains.
        timeout_s: after which the job is ended [s].
    """

    runtime: str
    image: str
    nodes: int
    processes: int
    resources: dict[str, str]
    environment: dict[str, str]
    pod: dict[str, Any]
    mounts: list[dict[str, Any]]
    timeout_s: int

    @classmethod
    def asked_for(cls) -> TrainJob | None:
        """The job that the environment asks this task for, if it does.

        Raises:
            InputError: if that is none.
        """
        text = os.environ.get(TRAIN_JOB_VARIABLE)
        if not text:
            return None
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InputError(TRAIN_JOB_VARIABLE, f"is no job ({error}).", "Compile the pipeline again.") from None

    def run(
        self,
        stage: str,
        inputs: Mapping[str, Path],
        outputs: Mapping[str, Path],
        options: Mapping[str, Any],
        label: str | None,
    ) -> None:
        """Runs a stage on the nodes, and brings its outputs here.

        A job of the same task that is still there, because this task's pod was replaced, is waited for.

        Args:
            stage: the stage's name.
            inputs: option name → file or folder.
            outputs: option name → file.
            options: the stage's options, JSON-serialisable.
            label: the name of the MLflow run, if any.

        Raises:
            InputError: if that is why the job failed, or there is no volume or no SDK.
            SystemExit: if the job failed otherwise.
        """
        shared = lasting_file("train-job", label or stage)
        if shared is None:
            raise InputError(CHECKPOINTS_VARIABLE, "is not set.", "A training on several nodes needs that volume.")
        name = "train-" + hashlib.sha256(shared.name.encode()).hexdigest()[:20]
        there = {key: shared / "inputs" / key for key in inputs} | {key: shared / key for key in outputs}
        error_file = shared / "error.json"
        arguments = command_line({key: str(path) for key, path in there.items()}, options, label)
        client = trainer_client()
        with _deleted_in_the_end(client, name):
            if _status(client, name) in (None, FAILED):
                _gone(client, name)
                error_file.unlink(missing_ok=True)
                for key, path in inputs.items():
                    _copy(path, there[key])
                client.train(**self.request(name, stage, arguments, error_file))
                say(f"TrainJob {name}: {self.nodes} nodes, {self.processes} processes each")
            reason = _waited_for(client, name)
            if reason is not None and error_file.exists():
                raise InputError(*json.loads(error_file.read_text(encoding="utf-8")))
            if reason is not None:
                print(f"error: TrainJob {name} failed: {reason}", file=sys.stderr, flush=True)
                raise SystemExit(1)
        for key, path in outputs.items():
            _copy(there[key], path)
        shutil.rmtree(shared)

    def request(self, name: str, stage: str, arguments: list[str], error_file: Path) -> dict[str, Any]:
        """What Kubeflow's client is asked for."""
        from kubeflow.trainer import CustomTrainerContainer
        from kubeflow.trainer.options import (
            ActiveDeadlineSeconds,
            ContainerPatch,
            JobSetSpecPatch,
            JobSetTemplatePatch,
            JobSpecPatch,
            JobTemplatePatch,
            Name,
            PodSpecPatch,
            PodTemplatePatch,
            ReplicatedJobPatch,
            RuntimePatch,
            TrainerArgs,
            TrainerCommand,
            TrainingRuntimeSpecPatch,
        )

        torchrun = ["python", "-m", "torch.distributed.run", "--nproc-per-node", str(self.processes)]
        told = {variable: os.environ[variable] for variable in PASSED_ON if variable in os.environ}
        pod = PodSpecPatch(**self.pod, containers=[ContainerPatch(NODE, volume_mounts=self.mounts)])
        job = ReplicatedJobPatch(NODE, JobTemplatePatch(spec=JobSpecPatch(template=PodTemplatePatch(spec=pod))))
        job_set = JobSetTemplatePatch(spec=JobSetSpecPatch(replicated_jobs=[job]))
        return {
            "runtime": self.runtime,
            "trainer": CustomTrainerContainer(
                image=self.image,
                num_nodes=self.nodes,
                resources_per_node=self.resources,
                env={**self.environment, **told, ERROR_FILE_VARIABLE: str(error_file)},
            ),
            "options": [
                Name(name),
                TrainerCommand(["sh", "-c", ENTRY, SECRETS]),
                TrainerArgs([*torchrun, "-m", f"components.{stage}", *arguments]),
                ActiveDeadlineSeconds(self.timeout_s),
                RuntimePatch(training_runtime_spec=TrainingRuntimeSpecPatch(template=job_set)),
            ],
        }


def trainer_client() -> Any:
    """Kubeflow's client, in the pod's own namespace.

    Raises:
        InputError: if the SDK is not installed.
    """
    try:
        from kubeflow.trainer import TrainerClient
    except ModuleNotFoundError as error:
        raise InputError("train_job", f"needs a package that is not here ({error}).", "Install that extra.") from None
    return TrainerClient()


@contextmanager
def _deleted_in_the_end(client: Any, name: str) -> Iterator[None]:
    """Deletes the job however the block ends, also when this pod is told to go: nobody else would end it."""

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if _status(client, name) is not None:
            client.delete_job(name)


def _status(client: Any, name: str) -> str | None:
    """What a job's state is; None where there is no such job."""
    try:
        return str(client.get_job(name).status)
    except RuntimeError as error:
        if getattr(error.__cause__, "status", None) == 404:
            return None
        raise


def _gone(client: Any, name: str) -> None:
    """Deletes a job that failed before, if there is one, and waits until its name is free."""
    if _status(client, name) is None:
        return
    client.delete_job(name)
    for _ in range(PATIENCE):
        if _status(client, name) is None:
            return
        time.sleep(POLL_S)
    print(f"error: TrainJob {name}, which failed before, does not go", file=sys.stderr, flush=True)
    raise SystemExit(1)


def _waited_for(client: Any, name: str) -> str | None:
    """Waits until a job ends, showing its state and what its first node says.

    Returns:
        Why it failed; None if it did not.

    Raises:
        RuntimeError: if the cluster no longer answers, as TimeoutError.
    """
    shown: dict[str, int] = {}
    last, unanswered = "", 0
    while True:
        try:
            job = client.get_job(name)
            state = ", ".join([str(job.status), *(f"{step.name} {step.status}" for step in job.steps)])
            if state != last:
                say(f"TrainJob {name}: {state}")
            last, ended = state, job.status in (COMPLETE, FAILED)
            _show(client, job, shown, follow=not ended)
            if ended:
                return _reason(client, name) if job.status == FAILED else None
            unanswered = 0
        except (RuntimeError, TimeoutError) as error:
            unanswered += 1
            say(f"TrainJob {name}: the cluster does not answer ({error})")
            if unanswered == PATIENCE:
                raise
        time.sleep(POLL_S)


def _show(client: Any, job: Any, shown: dict[str, int], follow: bool) -> None:
    """Prints the lines of the first node's log that were not shown; ``shown`` counts them by pod."""
    pods = [step.pod_name for step in job.steps if step.name == f"{NODE}-0" and step.status not in (None, "Pending")]
    for pod in pods:
        for number, line in enumerate(client.get_job_logs(job.name, follow=follow), 1):
            if number > shown.get(pod, 0):
                print(line, file=sys.stderr, flush=True)
                shown[pod] = number


def _reason(client: Any, name: str) -> str:
    """Why a job's pods failed, and what Trainer says of the job."""
    from kubeflow.trainer.constants import constants

    backend, reasons = client.backend, []
    selector = constants.POD_LABEL_SELECTOR.format(trainjob_name=name)
    for pod in backend.core_api.list_namespaced_pod(backend.namespace, label_selector=selector).items:
        if pod.status.reason:  # the whole pod's, as Evicted
            reasons.append(f"{pod.metadata.name}: {pod.status.reason}: {pod.status.message or ''}")
        for container in pod.status.container_statuses or []:
            ended = container.state.terminated or container.last_state.terminated
            if ended and ended.exit_code:
                reasons.append(f"{pod.metadata.name}: {ended.reason}, exit status {ended.exit_code}")
    job = backend.custom_api.get_namespaced_custom_object(
        constants.GROUP, constants.VERSION, backend.namespace, constants.TRAINJOB_PLURAL, name
    )
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] == FAILED:
            reasons.append(f"{condition.get('reason', '')}: {condition.get('message', '')}")
    return "; ".join(reasons) or "its pods are gone"


def _copy(source: Path, target: Path) -> None:
    """Copies a file or a folder, whole or not at all; what is there already is left."""
    if target.is_dir() or (target.is_file() and target.parent.name == "inputs"):
        return
    if source.is_dir():
        half = target.with_name(f".{target.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(source, half)
        half.rename(target)
        return
    with writing(target) as temporary:
        shutil.copyfile(source, temporary)
