"""A cluster's configuration, and what of it each task of the compiled pipeline has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.collect_structures.config import NAMED_SOURCES
from imitation_refinement import __version__
from imitation_refinement.errors import InputError
from imitation_refinement.running.images import STAGES, TRAINING
from imitation_refinement.running.portable import PORTABLE
from imitation_refinement.running.train_job import TrainJob
from pipelines.cli import main
from pipelines.cluster import Cluster, amount, check_source, read_cluster, stage_of
from pipelines.compile import compile_pipeline
from pipelines.pipeline import dag
from pipelines.profiles import read_profile

EXAMPLE = Path(__file__).parents[2] / "deploy" / "cluster.toml"


class Tasks:
    """A compiled pipeline's tasks by name: the task, its container, what Kubernetes gives it."""

    def __init__(self, path: Path) -> None:
        self.spec, platform = yaml.safe_load_all(path.read_text())
        self.platform = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        self.tasks = dict(self.spec["root"]["dag"]["tasks"])
        for name, component in self.spec["components"].items():
            for task, found in component.get("dag", {}).get("tasks", {}).items():
                self.tasks[task if task not in self.tasks else f"{task} of {name}"] = found
        self.names = [name for name in self.tasks if self.label(name)]

    def label(self, name: str) -> str:
        return self.spec["components"][self.tasks[name]["componentRef"]["name"]].get("executorLabel", "")

    def container(self, name: str) -> dict[str, Any]:
        return self.spec["deploymentSpec"]["executors"][self.label(name)]["container"]

    def environment(self, name: str) -> dict[str, str]:
        return {v["name"]: v["value"] for v in self.container(name).get("env", [])}

    def stage(self, name: str) -> str:
        return stage_of(self.container(name)["image"])


def compiled(folder: Path, cluster: Cluster, profile: str = "smoke") -> Tasks:
    path = folder / "pipeline.yaml"
    compile_pipeline(read_profile(profile), path, cluster)
    return Tasks(path)


def test_a_portable_run_tells_every_task(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    profile = read_profile("smoke", ["portable=true"])
    compile_pipeline(profile, path, Cluster(environment={"OMP_NUM_THREADS": "4", "TZ": "UTC"}))
    tasks = Tasks(path)
    assert tasks.names
    for name in tasks.names:
        assert {**PORTABLE, "TZ": "UTC"}.items() <= tasks.environment(name).items()
    with pytest.raises(InputError, match="cuda is on"):
        compile_pipeline(profile, path, Cluster(cuda=True))


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    return compiled(tmp_path_factory.mktemp("example"), read_cluster(EXAMPLE), "paper")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    return compiled(tmp_path_factory.mktemp("plain"), Cluster())


def test_the_example_shows_every_field() -> None:
    text = EXAMPLE.read_text()
    cluster = read_cluster(EXAMPLE)
    fields = {*Cluster.model_fields}
    for part in (cluster.resources["simulate"], cluster.secrets[0], cluster.data):
        fields |= {*type(part).model_fields}
    assert [f for f in sorted(fields) if not re.search(rf"^(# )?\[*{f}\b", text, re.MULTILINE)] == []
    for field in (
        "pull_policy",
        "caching",
        "parallel_shards",
        "run_as_non_root",
        "trainer_runtime",
    ):  # defaults that it tells
        told = re.search(rf"^# {field} = (\S+)", text, re.MULTILINE)
        assert told and told.group(1).strip('"').lower() == str(getattr(Cluster(), field)).lower()
    assert cluster.secrets == Cluster().secrets


def test_images(example: Tasks, plain: Tasks) -> None:
    for name in plain.names:
        stage = plain.stage(name).replace("_", "-")
        assert plain.container(name)["image"] == f"imitation-refinement/{stage}-python:{__version__}"
    for name in example.names:
        stage = example.stage(name)
        suffix = "-cuda" if stage in TRAINING else ""
        expected = f"registry.example.com/team/imitation-refinement/{stage.replace('_', '-')}-python:0.1.0{suffix}"
        assert example.container(name)["image"] == expected
    assert {example.stage(name) for name in example.names} == set(STAGES) - {
        "identify"
    }  # which has a pipeline of its own


@pytest.mark.parametrize("which", ["plain", "example"])
def test_every_task_has_the_settings(which: str, request: pytest.FixtureRequest) -> None:
    tasks: Tasks = request.getfixturevalue(which)
    cluster = Cluster() if which == "plain" else read_cluster(EXAMPLE)
    assert len(tasks.names) == len({tasks.label(name) for name in tasks.names})  # none shares another's settings
    for name in tasks.names:
        task, container, own = tasks.tasks[name], tasks.container(name), tasks.platform[tasks.label(name)]
        wanted = cluster.resources[tasks.stage(name)]
        resources = container["resources"]
        assert resources["resourceCpuRequest"] == wanted.cpu_request
        assert resources["resourceCpuLimit"] == wanted.cpu_limit
        assert resources["resourceMemoryRequest"] == wanted.memory_request
        assert resources["resourceMemoryLimit"] == wanted.memory_limit
        gpus = resources.get("accelerator", {})
        assert gpus.get("resourceCount", "0") == str(wanted.gpus)
        assert gpus.get("resourceType", wanted.gpu_type) == wanted.gpu_type
        assert own.get("nodeSelector", {}).get("labels", {}) == wanted.node_selector
        assert [t["key"] for t in own.get("tolerations", [])] == [t.key for t in wanted.tolerated]
        shared = [m for m in own.get("emptyDirMounts", []) if m["mountPath"] == "/dev/shm"]
        assert [(m["medium"], m["sizeLimit"]) for m in shared] == (
            [("Memory", wanted.shared_memory)] if wanted.shared_memory else []
        )
        assert task["retryPolicy"] == {
            "maxRetryCount": wanted.retries,
            "backoffDuration": f"{wanted.backoff_s}s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": f"{wanted.backoff_max_s}s",
        }
        assert own["activeDeadlineSeconds"] == str(int(wanted.timeout_hours * 3600))
        assert not task["cachingOptions"]  # off
        assert own["imagePullPolicy"] == cluster.pull_policy
        assert [s["secretName"] for s in own.get("imagePullSecret", [])] == list(cluster.pull_secrets)
        assert own["securityContext"] == {"runAsNonRoot": True}
        assert own.get("podMetadata", {}) == (
            {"labels": cluster.labels, "annotations": cluster.annotations} if cluster.labels else {}
        )
        assert cluster.environment.items() <= tasks.environment(name).items()


def test_gpus_bring_their_taint_and_training_alone_has_them(tmp_path: Path) -> None:
    cluster = Cluster.model_validate({"cuda": True, "resources": {"train_refiner": {"gpu_type": "amd.com/gpu"}}})
    tasks = compiled(tmp_path, cluster)
    for name in tasks.names:
        taints = tasks.platform[tasks.label(name)].get("tolerations", [])
        kind = {"pretrain_classifier": "nvidia.com/gpu", "train_refiner": "amd.com/gpu"}.get(tasks.stage(name))
        assert taints == ([{"key": kind, "operator": "Exists", "effect": "NoSchedule"}] if kind else [])
        assert ("accelerator" in tasks.container(name)["resources"]) == bool(kind)


def test_several_gpus_of_a_pod_get_a_process_each(example: Tasks) -> None:
    for name in example.names:
        expected = "4" if example.stage(name) == "pretrain_classifier" else None
        assert example.environment(name).get("IMITATION_REFINEMENT_PROCESSES") == expected


def test_several_nodes_are_a_job_that_the_task_waits_with(tmp_path: Path) -> None:
    given = {
        "cuda": True,
        "checkpoints": {"claim": "c", "path": "/checkpoints"},
        "resources": {"pretrain_classifier": {"nodes": 3, "gpus": 8, "node_selector": {"pool": "fast"}}},
    }
    tasks = compiled(tmp_path, Cluster.model_validate(given))
    for name in tasks.names:
        told = tasks.environment(name)
        if tasks.stage(name) != "pretrain_classifier":
            assert "IMITATION_REFINEMENT_TRAIN_JOB" not in told
            continue
        assert "IMITATION_REFINEMENT_PROCESSES" not in told
        job = TrainJob.model_validate_json(told["IMITATION_REFINEMENT_TRAIN_JOB"])
        assert (job.nodes, job.processes, job.resources["nvidia.com/gpu"]) == (3, 8, "8")
        assert job.image.endswith("-cuda") and job.pod["node_selector"] == {"pool": "fast"}
        own = tasks.platform[tasks.label(name)]  # it needs no GPU for waiting
        assert not {"nodeSelector", "tolerations", "emptyDirMounts"} & own.keys()
        assert not tasks.container(name)["image"].endswith("-cuda")
        assert "accelerator" not in tasks.container(name)["resources"]
        assert own["pvcMount"][0]["mountPath"] == "/checkpoints"
        assert own["activeDeadlineSeconds"] == str(72 * 3600)


def test_secrets_by_name_where_they_are_needed(plain: Tasks) -> None:
    for name in plain.names:
        secrets = plain.platform[plain.label(name)]["secretAsEnv"]
        assert all(secret["optional"] for secret in secrets)
        found = {(s["secretName"], pair["secretKey"], pair["envVar"]) for s in secrets for pair in s["keyToEnv"]}
        mlflow = {("mlflow", f"MLFLOW_TRACKING_{n}", f"MLFLOW_TRACKING_{n}") for n in ("USERNAME", "PASSWORD", "TOKEN")}
        key = {("materials-project", "MP_API_KEY", "MP_API_KEY")}
        assert found == mlflow | (key if plain.stage(name) == "collect_structures" else set())


def test_a_secret_that_must_be_there(tmp_path: Path) -> None:
    secret = {"name": "store", "key": "password", "variable": "AWS_SECRET_ACCESS_KEY", "stages": ["evaluate"]}
    tasks = compiled(tmp_path, Cluster.model_validate({"secrets": [secret]}))
    for name in tasks.names:
        found = tasks.platform[tasks.label(name)].get("secretAsEnv", [])
        assert [s.get("optional", False) for s in found] == ([False] if name == "evaluate" else [])


def test_data_and_checkpoints_are_mounted_where_they_are_used(example: Tasks) -> None:
    checkpoints = []
    for name in example.names:
        own, told = example.platform[example.label(name)], example.environment(name)
        mounts = [(m["constant"], m["mountPath"]) for m in own.get("pvcMount", [])]
        if example.stage(name) == "collect_structures":
            assert mounts == [("imitation-refinement-data", "/data")]
        elif example.stage(name) in TRAINING:
            assert mounts == [("imitation-refinement-checkpoints", "/checkpoints")]
            checkpoints.append(told["IMITATION_REFINEMENT_CHECKPOINTS"])
        else:
            assert mounts == []
        assert own["fieldPathAsEnv"] == [{"name": "KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}]
    assert set(checkpoints) == {"/checkpoints"} and len(checkpoints) == 2 + 2 + 2  # loops of each stage


def test_caching_by_stage(tmp_path: Path) -> None:
    given = {"caching": True, "tag": "0123456789ab", "resources": {"simulate": {"caching": False}}}
    tasks = compiled(tmp_path, Cluster.model_validate(given))
    cached = {tasks.stage(n) for n in tasks.names if tasks.tasks[n]["cachingOptions"].get("enableCache")}
    assert cached == set(STAGES) - {"simulate", "collect_structures", "adapt_classifier", "identify"}
    given = {"tag": "0123456789ab", "resources": {"collect_structures": {"caching": True}}}
    tasks = compiled(tmp_path, Cluster.model_validate(given))
    assert [n for n in tasks.names if tasks.tasks[n]["cachingOptions"].get("enableCache")] == ["collect-structures"]


def test_shards_at_a_time(tmp_path: Path, plain: Tasks) -> None:
    loop = plain.tasks["for-loop-1"]
    assert "iteratorPolicy" not in loop
    loop = compiled(tmp_path, Cluster(parallel_shards=5)).tasks["for-loop-1"]
    assert loop["iteratorPolicy"] == {"parallelismLimit": 5}


def test_a_local_run_has_nothing_of_it() -> None:
    pipeline = dag("main")
    assert not pipeline.platform_spec.platforms
    for executor in pipeline.pipeline_spec.deployment_spec["executors"].values():
        assert "env" not in executor["container"] and "resources" not in executor["container"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("registri = 'x'", "registri"),
        ("registry = 'https://registry.example.com'", "registry"),
        ("tag = 'latest'", "tag: must not be latest"),
        ("pull_policy = 'Sometimes'", "pull_policy"),
        ("caching = true", "caching: needs tag"),
        ("resources.simulate.gpus = 1", r"resources\.simulate\.gpus: no GPU is used there"),
        ("resources.train_refiner.gpus = 1", r"resources\.train_refiner\.gpus: needs images with CUDA"),
        ("cuda = true\nresources.evaluate.gpus = 2", r"resources\.evaluate\.gpus: only one"),
        ("resources.simulate.nodes = 2", r"resources\.simulate\.nodes: only pretrain_classifier"),
        ("resources.train_refiner.nodes = 2", r"resources\.train_refiner\.nodes: needs checkpoints"),
        ("resources.train.gpus = 1", r"resources\.train\b"),
        ("resources.simulate.cpu_request = '2 cores'", r"resources\.simulate\.cpu_request"),
        ("resources.simulate.cpu_request = '9000m'", r"cpu_request 9000m is above cpu_limit 8"),
        ("resources.simulate.memory_request = '9Gi'", r"memory_request 9Gi is above memory_limit 8Gi"),
        ("resources.train_refiner.shared_memory = '32Gi'", "leaves nothing of memory_limit"),
        ("resources.simulate.timeout_hours = 0", r"resources\.simulate\.timeout_hours"),
        ("resources.simulate.tolerations = [{ key = 'a', operator = 'Equal' }]", "Equal needs a value"),
        ("data = { claim = 'd', path = 'data' }", r"data\.path: must be an absolute path"),
        ("data = { claim = 'D!', path = '/data' }", r"data\.claim"),
        ("environment.KFP_RUN_ID = 'x'", "KFP_RUN_ID is set twice"),
        ("environment.MP_API_KEY = 'x'", "MP_API_KEY is set twice"),
        ("run_as_user = 0", "run_as_user"),
        ("secrets = [{ name = 'a', key = 'b', variable = 'C-D' }]", r"secrets\.0\.variable"),
        ("tag = ", "is no TOML"),
    ],
)
def test_bad_fields(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"^cluster {path}: .*{named}"):
        read_cluster(path)


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["compile", "--cluster", str(tmp_path / "c.toml"), "-o", str(tmp_path / "p.yaml")])
    assert end.value.code == 2 and not list(tmp_path.iterdir())
    assert capsys.readouterr().err.startswith(f"error: cluster {tmp_path / 'c.toml'}: can't be read (No such file")


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    main(["compile", "--profile", "smoke", "--cluster", str(EXAMPLE), "-o", str(tmp_path / "p.yaml")])
    assert "registry.example.com/team" in (tmp_path / "p.yaml").read_text()
    assert read_cluster("") == Cluster()


def test_quantities() -> None:
    assert amount("500m") * 2 == amount("1") and amount("1Gi") == 1024**3 and amount("1.5") * 2 == 3
    assert amount("1G") == 10**9


def test_sources_that_pods_can_see() -> None:
    volume = read_cluster(EXAMPLE)
    for source in ("", *NAMED_SOURCES, "/data", "/data/cifs"):
        check_source("structures", source, volume)
    for source in ("cifs", "/home/me/cifs", "/database", "/data/../etc"):
        with pytest.raises(InputError, match=rf"structures {source}: is not on the cluster's data volume, /data"):
            check_source("structures", source, volume)
    with pytest.raises(InputError, match=r"imperfect /data/x: .* no volume with data"):
        check_source("imperfect", "/data/x", Cluster())


def test_classifiers_are_where_pods_that_train_see_them() -> None:
    cluster = read_cluster(EXAMPLE)
    assert cluster.checkpoints
    check_source("classifiers", f"{cluster.checkpoints.path}/run", cluster)
    with pytest.raises(InputError, match=r"classifiers /data/run: is not on the cluster's checkpoints volume"):
        check_source("classifiers", "/data/run", cluster)
    with pytest.raises(InputError, match=r"classifiers /x: .* no volume with checkpoints"):
        check_source("classifiers", "/x", Cluster())
