"""A cluster as one typed configuration, read from TOML, and what each task of the pipeline gets from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from kfp import kubernetes
from pydantic import AfterValidator, Field, ValidationError, model_validator

from components.collect_structures.config import NAMED_SOURCES
from imitation_refinement import __version__
from imitation_refinement.errors import InputError
from imitation_refinement.files import read_bytes
from imitation_refinement.options import StageConfig, config_error, merged
from imitation_refinement.running.images import STAGES, TORCH, TRAINING, StageName, repository
from imitation_refinement.running.launch import (
    CHECKPOINTS_VARIABLE,
    PROCESSES_VARIABLE,
    RUN_VARIABLE,
    TRAIN_JOB_VARIABLE,
)
from imitation_refinement.running.train_job import SECRETS, TrainJob
from pipelines.profiles import parse_toml

RUN_LABEL = "metadata.labels['pipeline/runid']"  # of every pod that Kubeflow Pipelines starts
UNITS = {"m": Decimal("0.001"), "": Decimal(1)}
UNITS |= {unit: Decimal(1000) ** n for n, unit in enumerate("KMGTPE", 1)}
UNITS |= {f"{unit}i": Decimal(1024) ** n for n, unit in enumerate("KMGTPE", 1)}


def _absolute(value: str) -> str:
    if not value.startswith("/") or value == "/" or ".." in value.split("/"):
        raise ValueError("must be an absolute path in the container, as /data")
    return value.rstrip("/")


def _no_latest(value: str) -> str:
    if value == "latest":
        raise ValueError("must not be latest, which names another image tomorrow")
    return value


Cpu = Annotated[str, Field(pattern=r"^(\d+(\.\d+)?|\d+m)$")]
Memory = Annotated[str, Field(pattern=r"^[1-9]\d*([KMGTPE]i?)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]  # of a Kubernetes object
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
MountPath = Annotated[str, AfterValidator(_absolute)]
Tag = Annotated[str, Field(pattern=r"^(\w[\w.-]{0,127})?$"), AfterValidator(_no_latest)]


class Toleration(StageConfig):
    """A taint of nodes that a stage's pods bear."""

    key: str = Field(min_length=1, description="the taint's key")
    operator: Literal["Equal", "Exists"] = Field("Exists", description="Equal compares the value, too")
    value: str | None = Field(None, description="the taint's value, for Equal")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(None, description="all if not given")

    @model_validator(mode="after")
    def _value_fits(self) -> Toleration:
        if (self.operator == "Equal") != (self.value is not None):
            raise ValueError("Equal needs a value, Exists has none")
        return self


class Secret(StageConfig):
    """One key of a Kubernetes secret as an environment variable. The secret's value is never in the pipeline."""

    name: Name = Field(description="the secret")
    key: str = Field(pattern=r"^[-\w.]+$", description="its key")
    variable: Variable = Field(description="the environment variable")
    optional: bool = Field(False, description="whether tasks start without it")
    stages: tuple[StageName, ...] = Field(STAGES, description="the stages that get it")


class Volume(StageConfig):
    """A persistent volume claim, mounted where a stage finds it. Its pods' user must be allowed to read and write."""

    claim: Name = Field(description="the claim's name, in the namespace of the runs")
    path: MountPath = Field(description="where it is mounted")
    sub_path: str = Field("", pattern=r"^([^/]+(/[^/]+)*)?$", description="folder in the volume that is mounted")


class Resources(StageConfig):
    """What the pods of one stage ask for and may take."""

    cpu_request: Cpu = Field("1", description="cores that a node must have free, as 2 or 500m")
    cpu_limit: Cpu = Field("2", description="cores at most")
    memory_request: Memory = Field("2Gi", description="memory that a node must have free")
    memory_limit: Memory = Field("4Gi", description="memory at most; a pod that takes more is killed")
    gpus: int = Field(0, ge=0, le=64, description="GPUs a pod; of several, each gets a process, started by torchrun")
    nodes: int = Field(1, ge=1, le=1000, description="pods that share one training, as a TrainJob of Kubeflow Trainer")
    gpu_type: str = Field("nvidia.com/gpu", min_length=1, description="the node's name for them")
    node_selector: dict[str, str] = Field({}, description="labels that a node must have")
    tolerations: tuple[Toleration, ...] | None = Field(
        None, description="taints that its pods bear; if not given, that of nodes for its GPU type, where it has any"
    )
    shared_memory: Memory | None = Field(
        None, description="size of /dev/shm, part of the memory limit; the container runtime's own if not given"
    )
    retries: int = Field(2, ge=0, le=100, description="how often a pod that failed is replaced")
    backoff_s: int = Field(30, ge=0, le=3600, description="wait before the first retry [s]; it doubles each time")
    backoff_max_s: int = Field(600, ge=1, le=86_400, description="longest wait [s]")
    timeout_hours: float = Field(24, gt=0, le=24 * 365, description="a pod that runs longer is killed [h]")
    caching: bool | None = Field(None, description="as the cluster's, for this stage")

    @model_validator(mode="after")
    def _limits_hold_requests(self) -> Resources:
        for name in ("cpu", "memory"):
            request, limit = getattr(self, f"{name}_request"), getattr(self, f"{name}_limit")
            if amount(request) > amount(limit):
                raise ValueError(f"{name}_request {request} is above {name}_limit {limit}")
        if self.shared_memory and amount(self.shared_memory) >= amount(self.memory_limit):
            raise ValueError(f"shared_memory {self.shared_memory} leaves nothing of memory_limit {self.memory_limit}")
        return self

    @property
    def tolerated(self) -> tuple[Toleration, ...]:
        """The taints that the pods bear."""
        if self.tolerations is not None:
            return self.tolerations
        return (Toleration(key=self.gpu_type, effect="NoSchedule"),) if self.gpus else ()


# For the paper's 240,000 patterns of 4,501 points, 4.3 GB; see docs/cluster.md for more.
DEFAULTS: dict[str, dict[str, Any]] = {
    "collect_structures": {"cpu_request": "2", "cpu_limit": "8", "memory_limit": "8Gi"},
    "simulate": {"cpu_request": "2", "cpu_limit": "8", "memory_limit": "8Gi"},
    "preprocess": {"memory_limit": "8Gi"},
    "baselines": {"cpu_request": "2", "cpu_limit": "8", "memory_request": "4Gi", "memory_limit": "16Gi"},
    "evaluate": {"cpu_request": "2", "cpu_limit": "8", "memory_request": "4Gi", "memory_limit": "16Gi"},
    "identify": {"cpu_request": "2", "cpu_limit": "8", "memory_request": "4Gi", "memory_limit": "8Gi"},
} | {
    stage: {
        "cpu_request": "4",
        "cpu_limit": "8",
        "memory_request": "8Gi",
        "memory_limit": "32Gi",
        "shared_memory": "1Gi",
        "timeout_hours": 72,
    }
    for stage in TRAINING
}
MLFLOW = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
OPTIONAL_SECRETS = (
    Secret(
        name="materials-project",
        key="MP_API_KEY",
        variable="MP_API_KEY",
        optional=True,
        stages=("collect_structures",),
    ),
    *(Secret(name="mlflow", key=name, variable=name, optional=True) for name in MLFLOW),
)


class Cluster(StageConfig):
    """Where the pipeline runs, and what its tasks get there."""

    registry: str = Field(
        "", pattern=r"^([\w.-]+(:\d+)?(/[\w.-]+)*)?$", description="prefix of the images' names; none if empty"
    )
    tag: Tag = Field("", description="the images' tag, a version or a git revision; this version if empty")
    cuda: bool = Field(False, description="train on GPUs, in images with CUDA; one a pod unless the stage says others")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field("IfNotPresent", description="of images")
    pull_secrets: tuple[Name, ...] = Field((), description="secrets that let nodes pull images")
    environment: dict[Variable, str] = Field({}, description="environment variables of every task")
    secrets: tuple[Secret, ...] = Field(OPTIONAL_SECRETS, description="secrets as environment variables")
    caching: bool = Field(False, description="take a step's result from an earlier run with the same inputs and image")
    parallel_shards: int = Field(0, ge=0, le=10_000, description="shards that are simulated at a time at most; 0: all")
    data: Volume | None = Field(None, description="volume with structures and imperfect patterns, read by collection")
    checkpoints: Volume | None = Field(None, description="volume from which a new pod goes on with a training")
    trainer_runtime: Name = Field(
        "torch-distributed", description="Kubeflow Trainer's runtime of trainings on several nodes"
    )
    run_as_non_root: bool = Field(True, description="refuse images that would run as root")
    run_as_user: int | None = Field(
        None, ge=1, lt=2**31, description="user id of the processes; the image's if not given"
    )
    run_as_group: int | None = Field(
        None, ge=1, lt=2**31, description="group id of the processes; the image's if not given"
    )
    labels: dict[str, str] = Field({}, description="labels of every pod")
    annotations: dict[str, str] = Field({}, description="annotations of every pod")
    resources: dict[StageName, Resources] = Field({}, validate_default=True, description="by stage")

    @model_validator(mode="before")
    @classmethod
    def _fill_resources(cls, data: Any) -> Any:
        """Every stage's defaults, under what is given."""
        if not isinstance(data, dict) or not isinstance(data.get("resources", {}), dict):
            return data
        own = {stage: dict(DEFAULTS[stage]) for stage in STAGES}
        if data.get("cuda") is True:
            own = {stage: {**o, "gpus": 1} if stage in TRAINING else o for stage, o in own.items()}
        return {**data, "resources": merged(own, data.get("resources", {}))}

    @model_validator(mode="after")
    def _agrees(self) -> Cluster:
        for stage, own in self.resources.items():
            if own.gpus and stage not in TORCH:
                raise ValueError(f"resources.{stage}.gpus: no GPU is used there; {', '.join(TORCH)} can use one")
            if own.gpus and not self.cuda:
                raise ValueError(f"resources.{stage}.gpus: needs images with CUDA; set cuda = true")
            if own.nodes > 1 and stage not in TRAINING:
                raise ValueError(f"resources.{stage}.nodes: only {', '.join(TRAINING)} can share a training")
            if own.nodes > 1 and self.checkpoints is None:
                raise ValueError(f"resources.{stage}.nodes: needs checkpoints, a volume that all nodes can write")
            if own.gpus > 1 and stage not in TRAINING:
                raise ValueError(f"resources.{stage}.gpus: only one is used there")
        if not self.tag and any(self.cached(stage) for stage in STAGES):
            raise ValueError("caching: needs tag, a git revision, since a step is known again by its image's name")
        variables = [*self.environment, *(s.variable for s in self.secrets)]
        if twice := sorted({v for v in variables if variables.count(v) > 1} | ({*variables} & RESERVED)):
            raise ValueError(f"environment and secrets: {', '.join(twice)} is set twice, or by the pipeline itself")
        return self

    def cached(self, stage: StageName) -> bool:
        """Whether a step of a stage may be taken from an earlier run.

        Where the cluster's switch says so, all may but the first: what it reads changes without a new name.
        """
        own = self.resources[stage].caching
        return self.caching and stage not in ("collect_structures", "identify") if own is None else own

    def image(self, stage: StageName, cuda: bool) -> str:
        """The image that a stage's tasks run in, with CUDA or without."""
        prefix = f"{self.registry}/" if self.registry else ""
        suffix = "-cuda" if cuda else ""
        name = repository(stage)
        return f"{prefix}{name}:{self.tag or __version__}{suffix}"


RESERVED = {PROCESSES_VARIABLE, CHECKPOINTS_VARIABLE, RUN_VARIABLE, TRAIN_JOB_VARIABLE}
# What a task needs that starts a TrainJob and waits with it, in place of what it trains with.
WAITING = {
    "gpus": 0,
    "cpu_request": "500m",
    "cpu_limit": "2",
    "memory_request": "1Gi",
    "memory_limit": "4Gi",
    "shared_memory": None,
    "node_selector": {},
    "tolerations": (),
}


def amount(quantity: str) -> Decimal:
    """A Kubernetes quantity (``500m``, ``4Gi``) as a number."""
    digits = quantity.rstrip("mKMGTPEi")
    return Decimal(digits) * UNITS[quantity.removeprefix(digits)]


def read_cluster(path: str | Path) -> Cluster:
    """A cluster's configuration in a TOML file; the defaults where ``path`` is empty.

    Raises:
        InputError: if the file can't be read, or a field is unknown or out of its range.
    """
    if not str(path):
        return Cluster()
    where = f"cluster {path}"
    try:
        content = read_bytes(Path(path))
    except InputError as error:
        raise InputError(where, error.problem, "See deploy/cluster.toml for one.") from None
    try:
        return Cluster.model_validate(parse_toml(content, where))
    except ValidationError as error:
        raise config_error(where, error) from None


def check_source(name: str, source: str, cluster: Cluster) -> None:
    """Refuses files that the pods which read them can't see: those that train see the checkpoints, not the data.

    Args:
        name: the pipeline's parameter.
        source: its value.
        cluster: where the pipeline runs.

    Raises:
        InputError: if it is a path outside the volume of these pods.
    """
    if not source or (name == "structures" and source in NAMED_SOURCES):
        return
    field = "checkpoints" if name == "classifiers" else "data"
    volume = getattr(cluster, field)
    if volume is None:
        problem = f"is a path, and the cluster has no volume with {field}."
        raise InputError(f"{name} {source}", problem, f"Set {field} in the cluster's file, and copy the files there.")
    if not below(source, volume.path):
        problem = f"is not on the cluster's {field} volume, {volume.path}."
        raise InputError(f"{name} {source}", problem, f"Copy it there and name it {volume.path}/….")


def below(path: str, folder: str) -> bool:
    """Whether an absolute path is a folder or lies in it."""
    return ".." not in path.split("/") and f"{path}/".startswith(f"{folder}/")


def stage_of(image: str) -> StageName:
    """The stage of an image's name, whatever its registry and tag.

    Raises:
        ValueError: if it is none of this package's images.
    """
    found = re.search(r"(^|/)imitation-refinement/([a-z-]+)-python(:|$)", image)
    name = found.group(2).replace("-", "_") if found else ""
    for stage in STAGES:
        if stage == name:
            return stage
    raise ValueError(f"{image} is the image of no stage")


def on_cluster(task: Any, cluster: Cluster) -> None:
    """Gives a traced task its image, resources, environment, secrets, volumes, and rules."""
    stage = stage_of(task.container_spec.image)
    own = cluster.resources[stage]
    if own.nodes > 1:
        own = own.model_copy(update=WAITING)
    task.set_container_image(cluster.image(stage, bool(own.gpus)))
    task.set_caching_options(cluster.cached(stage))
    task.set_retry(own.retries, f"{own.backoff_s}s", 2.0, f"{own.backoff_max_s}s")
    _resources(task, own)
    for name, value in {**cluster.environment, **dict(_told(task, stage, cluster))}.items():
        task.set_env_variable(name, value)
    kubernetes.use_field_path_as_env(task, RUN_VARIABLE, RUN_LABEL)
    for secret in cluster.secrets:
        if stage in secret.stages:
            kubernetes.use_secret_as_env(task, secret.name, {secret.key: secret.variable}, secret.optional)
    for volume in _volumes(stage, cluster):
        kubernetes.mount_pvc(task, volume.claim, volume.path, volume.sub_path)
    kubernetes.set_image_pull_policy(task, cluster.pull_policy)
    if cluster.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.pull_secrets))
    kubernetes.set_security_context(task, cluster.run_as_user, cluster.run_as_group, cluster.run_as_non_root)
    for key, value in cluster.labels.items():
        kubernetes.add_pod_label(task, key, value)
    for key, value in cluster.annotations.items():
        kubernetes.add_pod_annotation(task, key, value)


def _resources(task: Any, own: Resources) -> None:
    task.set_cpu_request(own.cpu_request).set_cpu_limit(own.cpu_limit)
    task.set_memory_request(own.memory_request).set_memory_limit(own.memory_limit)
    if own.gpus:
        task.set_accelerator_type(own.gpu_type).set_accelerator_limit(own.gpus)
    for key, value in own.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for taint in own.tolerated:
        kubernetes.add_toleration(task, taint.key, taint.operator, taint.value, taint.effect)
    if own.shared_memory:
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", "Memory", own.shared_memory)
    kubernetes.set_timeout(task, round(own.timeout_hours * 3600))


def _told(task: Any, stage: StageName, cluster: Cluster) -> Iterator[tuple[str, str]]:
    """What a task is told by its environment; see :mod:`imitation_refinement.running.launch`."""
    own = cluster.resources[stage]
    if own.nodes > 1:
        yield TRAIN_JOB_VARIABLE, train_job(stage, cluster).model_dump_json()
    elif own.gpus > 1:
        yield PROCESSES_VARIABLE, str(own.gpus)
    if stage in TRAINING and cluster.checkpoints:
        yield CHECKPOINTS_VARIABLE, cluster.checkpoints.path


def train_job(stage: StageName, cluster: Cluster) -> TrainJob:
    """A stage's training on several nodes: its pods as they would be on one, by Kubernetes' names."""
    own = cluster.resources[stage]
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if cluster.checkpoints:
        volumes.append({"name": "checkpoints", "persistentVolumeClaim": {"claimName": cluster.checkpoints.claim}})
        mounts.append({"name": "checkpoints", "mountPath": cluster.checkpoints.path})
        if cluster.checkpoints.sub_path:
            mounts[-1]["subPath"] = cluster.checkpoints.sub_path
    if own.shared_memory:
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": own.shared_memory}})
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})
    if secrets := [secret for secret in cluster.secrets if stage in secret.stages]:
        sources = [
            {"secret": {"name": s.name, "optional": s.optional, "items": [{"key": s.key, "path": s.variable}]}}
            for s in secrets
        ]
        volumes.append({"name": "secrets", "projected": {"sources": sources}})
        mounts.append({"name": "secrets", "mountPath": SECRETS, "readOnly": True})
    security = {
        "runAsNonRoot": cluster.run_as_non_root,
        "runAsUser": cluster.run_as_user,
        "runAsGroup": cluster.run_as_group,
    }
    pod = {
        "volumes": volumes,
        "security_context": {name: value for name, value in security.items() if value is not None},
        "image_pull_secrets": [{"name": name} for name in cluster.pull_secrets],
        "node_selector": own.node_selector,
        "tolerations": [taint.model_dump(exclude_none=True) for taint in own.tolerated],
    }
    return TrainJob(
        runtime=cluster.trainer_runtime,
        image=cluster.image(stage, bool(own.gpus)),
        nodes=own.nodes,
        processes=max(1, own.gpus),
        resources={"cpu": own.cpu_limit, "memory": own.memory_limit}
        | ({own.gpu_type: str(own.gpus)} if own.gpus else {}),
        environment=cluster.environment,
        pod={name: value for name, value in pod.items() if value},
        mounts=mounts,
        timeout_s=round(own.timeout_hours * 3600),
    )


def _volumes(stage: StageName, cluster: Cluster) -> list[Volume]:
    wanted = [(stage in ("collect_structures", "identify"), cluster.data), (stage in TRAINING, cluster.checkpoints)]
    return [volume for needed, volume in wanted if needed and volume]
