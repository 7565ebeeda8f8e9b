"""A training on several nodes: the job that is asked of a Kubernetes API here, which runs its nodes as processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from kubeflow.trainer import KubernetesBackendConfig, TrainerClient
from kubeflow_trainer_api import models
from kubernetes import client as kubernetes

from components.pretrain_classifier.component import pretrain_classifier
from imitation_refinement.errors import InputError
from imitation_refinement.learning.models import load_classifier
from imitation_refinement.running import train_job
from imitation_refinement.running.train_job import ENTRY, TrainJob
from pipelines import cluster as clusters

TRAINER = "/apis/trainer.kubeflow.org/v1alpha1"
JOBS = f"{TRAINER}/namespaces/team/trainjobs"
PODS = "/api/v1/namespaces/team/pods"
CONFIG = {
    "network": {"architecture": "vgg", "depths": [1, 1], "widths": [8, 8], "embedding": 8, "dropout": 0.0},
    "optimiser": {"epochs": 2, "batch_size": 21, "learning_rate": 1e-2, "device": "cpu"},
}
CONTAINER = {"name": "node", "image": "pytorch/pytorch"}
POD_TEMPLATE = {"spec": {"containers": [CONTAINER]}}
RUNTIME = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "ClusterTrainingRuntime",
    "metadata": {"name": "torch-distributed", "labels": {"trainer.kubeflow.org/framework": "torch"}},
    "spec": {
        "mlPolicy": {"numNodes": 1, "torch": {}},
        "template": {
            "spec": {
                "replicatedJobs": [
                    {
                        "name": "node",
                        "template": {
                            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                            "spec": {"template": POD_TEMPLATE},
                        },
                    }
                ]
            }
        },
    },
}
OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


class Api:
    """As much of a cluster as a TrainJob needs: its state, and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[str]()
        self.job: dict[str, Any] | None = None
        self.made: dict[str, Any] = {}
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.runs = True  # whether a job's nodes run as processes here
        self.phase, self.container = "Running", dict[str, Any]()  # where they don't
        self.outages = 0
        self.bad_input: list[str] = []  # what the nodes say of it

    def create(self, job: dict[str, Any]) -> None:
        metadata = {**job["metadata"], "namespace": "team", "creationTimestamp": "2026-01-01T00:00:00Z"}
        self.job = self.made = {**job, "metadata": metadata}
        trainer = job["spec"]["trainer"]
        if self.bad_input:
            told = {variable["name"]: variable["value"] for variable in trainer["env"]}
            Path(told["IMITATION_REFINEMENT_ERROR_FILE"]).write_text(json.dumps(self.bad_input))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in range(trainer["numNodes"] if self.runs else 0):
            told = {variable["name"]: variable["value"] for variable in trainer["env"]}
            # As Trainer sets them for its torch runtimes.
            told |= {"PET_NNODES": str(trainer["numNodes"]), "PET_NODE_RANK": str(rank), "PET_NPROC_PER_NODE": "auto"}
            told |= {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}
            outer = {k: v for k, v in os.environ.items() if not k.startswith("IMITATION_REFINEMENT_")}
            outer["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{outer['PATH']}"  # the image's own python
            with (self.folder / f"node-{rank}.log").open("wb") as log:
                command = [*trainer["command"], *trainer["args"]]
                self.nodes.append(subprocess.Popen(command, env={**outer, **told}, stdout=log, stderr=log))

    def end(self) -> None:
        """A node that fails ends the others, as a JobSet does; and the test's end ends all."""
        for node in self.nodes:
            node.kill()
            node.wait()

    def status(self) -> dict[str, Any]:
        codes = [node.poll() for node in self.nodes]
        if any(codes):
            self.end()
        if any(codes) or self.phase == "Failed":
            failed = {"type": "Failed", "status": "True", "reason": "JobsFailed", "message": "jobset failed"}
            return {"conditions": [{**failed, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        if self.phase == "Succeeded" or (codes and None not in codes):
            done = {"type": "Complete", "status": "True", "reason": "JobsCompleted", "message": ""}
            return {"conditions": [{**done, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        return {}

    def pods(self) -> list[dict[str, Any]]:
        job = self.made
        found = []
        for rank in range(job["spec"]["trainer"]["numNodes"]):
            labels = {
                "jobset.sigs.k8s.io/replicatedjob-name": "node",
                "batch.kubernetes.io/job-completion-index": str(rank),
            }
            state = {"name": "node", "image": "", "imageID": "", "ready": True, "restartCount": 0}
            statuses = [{**state, "state": self.container}] if self.container else []
            found.append(
                {
                    "metadata": {"name": f"{job['metadata']['name']}-node-0-{rank}", "labels": labels},
                    "spec": {"containers": [CONTAINER]},
                    "status": {"phase": self.phase, "containerStatuses": statuses},
                }
            )
        return found

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if self.outages and path.startswith(JOBS) and method == "GET" and self.made:
            self.outages -= 1
            return 503, {"message": "try again"}
        if path == f"{TRAINER}/clustertrainingruntimes/torch-distributed":
            return 200, RUNTIME
        if method == "POST" and path == JOBS:
            self.create(body)
            return 201, self.job
        if path.startswith(JOBS + "/") and self.job and path == f"{JOBS}/{self.job['metadata']['name']}":
            found = {**self.job, "status": self.status()}
            if method == "DELETE":
                self.job = None
            return 200, found
        if path == PODS:
            return 200, {"kind": "PodList", "items": self.pods()}
        if path.startswith(PODS) and path.endswith("-0-0/log"):
            if self.nodes:
                self.nodes[0].wait()
                return 200, (self.folder / "node-0.log").read_text()
            return 200, "epoch 1\nepoch 2\n"
        return 404, {"message": "not found"}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The cluster, and a pod in it whose task is to be done by two nodes."""
    state = Api(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, found = state.answer(self.command, urlsplit(self.path).path, json.loads(body or b"null"))
            text = isinstance(found, str)
            content = found.encode() if text else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if text else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configuration = kubernetes.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    configuration.retries = False
    backend = KubernetesBackendConfig(namespace="team", client_configuration=configuration)
    monkeypatch.setattr(train_job, "trainer_client", lambda: TrainerClient(backend))
    monkeypatch.setattr(train_job, "POLL_S", 0.05)
    volume = tmp_path / "volume"
    volume.mkdir()
    monkeypatch.setenv("IMITATION_REFINEMENT_CHECKPOINTS", str(volume))
    monkeypatch.setenv("KFP_RUN_ID", "0b5e")
    monkeypatch.setenv("IMITATION_REFINEMENT_TRAIN_JOB", job(volume).model_dump_json())
    yield state
    server.shutdown()
    server.server_close()
    state.end()


def job(volume: Path, **more: Any) -> TrainJob:
    """The job as a cluster's configuration makes it."""
    given = {
        "registry": "registry.example.com",
        "pull_secrets": ["registry"],
        "environment": {"OMP_NUM_THREADS": "1"},
        "checkpoints": {"claim": "checkpoints", "path": str(volume), "sub_path": "xrd"},
        "run_as_user": 1000,
        "resources": {"pretrain_classifier": {"nodes": 2, "node_selector": {"pool": "fast"}, **more}},
    }
    if "gpus" in more:
        given["cuda"] = True
    return clusters.train_job("pretrain_classifier", clusters.Cluster.model_validate(given))


def run_component(table: Path, output: Path, config: Any = CONFIG) -> None:
    """The component's body, as Kubeflow Pipelines runs it."""
    pretrain_classifier.python_func(
        SimpleNamespace(path=str(table)),
        SimpleNamespace(path=str(output)),
        {"label": "l", "classifier": "", "config": config},
    )


def test_two_nodes_train_as_one_process_does(
    api: Api, toy_tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    run_component(toy_tables["ideal_dataset"], tmp_path / "pod" / "two")
    said = capfd.readouterr().err
    assert said.count("56 learnt from") == 1  # the first node's log; torchrun's own warnings beside it
    assert "2 nodes, 1 processes each" in said and "Complete" in said
    assert api.job is None and not list((tmp_path / "volume").iterdir())  # nothing is left
    monkeypatch.delenv("IMITATION_REFINEMENT_TRAIN_JOB")
    monkeypatch.delenv("IMITATION_REFINEMENT_CHECKPOINTS")
    run_component(toy_tables["ideal_dataset"], tmp_path / "one")
    (together, grid, _), (alone, other, _) = (load_classifier(tmp_path / n) for n in ("pod/two", "one"))
    assert grid == other
    for name, expected in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], expected, rtol=1e-3, atol=1e-5)


def test_the_manifest(api: Api, toy_tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what the SDK's types demand, and says what the configuration says."""
    api.runs, api.phase = False, "Failed"
    asked = job(tmp_path / "volume", gpus=4, gpu_type="nvidia.com/gpu")
    monkeypatch.setenv("IMITATION_REFINEMENT_TRAIN_JOB", asked.model_dump_json())
    monkeypatch.setenv("MLFLOW_RUN_ID", "m1")
    with pytest.raises(SystemExit):
        run_component(toy_tables["ideal_dataset"], tmp_path / "model")
    made = api.made
    del made["metadata"]["creationTimestamp"], made["metadata"]["namespace"]
    assert models.TrainerV1alpha1TrainJob.from_dict(made).to_dict() == made
    spec, trainer = made["spec"], made["spec"]["trainer"]
    assert spec["runtimeRef"]["name"] == "torch-distributed" and spec["activeDeadlineSeconds"] == 72 * 3600
    version = clusters.__version__
    assert trainer["image"] == f"registry.example.com/imitation-refinement/pretrain-classifier-python:{version}-cuda"
    assert trainer["numNodes"] == 2
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "4"}
    assert trainer["args"][:7] == [
        *["python", "-m", "torch.distributed.run", "--nproc-per-node", "4", "-m", "components.pretrain_classifier"]
    ]
    told = {variable["name"]: variable["value"] for variable in trainer["env"]}
    assert told["KFP_RUN_ID"] == "0b5e" and told["MLFLOW_RUN_ID"] == "m1" and told["OMP_NUM_THREADS"] == "1"
    assert not [name for name in told if name.startswith("PET_")]  # Trainer's own
    (patch,) = spec["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert node["name"] == "node" and pod["nodeSelector"] == {"pool": "fast"}
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": 1000}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (container,) = pod["containers"]
    assert container["name"] == "node" and "env" not in container  # which Trainer refuses
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["checkpoints"]["mountPath"] == str(tmp_path / "volume") and mounts["checkpoints"]["subPath"] == "xrd"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes.keys() == mounts.keys() == {"checkpoints", "shared-memory", "secrets"}
    assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert volumes["secrets"]["projected"]["sources"][0]["secret"] == {
        "name": "mlflow",
        "optional": True,
        "items": [{"key": "MLFLOW_TRACKING_USERNAME", "path": "MLFLOW_TRACKING_USERNAME"}],
    }


def test_a_secret_s_files_are_the_entry_point_s_environment(tmp_path: Path) -> None:
    (tmp_path / "TOKEN").write_text("a b$c\n")
    (tmp_path / "..data").mkdir()  # as Kubernetes lays secrets out
    command = [
        "sh",
        "-c",
        ENTRY,
        str(tmp_path),
        "python3",
        "-c",
        "import os, sys; print(os.environ['TOKEN'], sys.argv[1])",
    ]
    assert subprocess.run([*command, "x y"], capture_output=True, text=True, check=True).stdout == "a b$c x y\n"
    command[3] = str(tmp_path / "none")
    assert subprocess.run([*command[:4], "echo", "x"], capture_output=True, text=True, check=True).stdout == "x\n"


def test_it_fails_for_the_pods_reason(
    api: Api, toy_tables: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    api.runs, api.phase, api.container = False, "Failed", OOM
    with pytest.raises(SystemExit) as end:
        run_component(toy_tables["ideal_dataset"], tmp_path / "model")
    assert end.value.code == 1 and not (tmp_path / "model").exists()
    said = capfd.readouterr().err
    assert "epoch 1\nepoch 2\n" in said  # what the first node said before
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: TrainJob train-") and "jobset failed" in last
    assert "-node-0-1: OOMKilled, exit status 137" in last
    assert api.job is None  # deleted


def test_bad_input_on_the_nodes_is_bad_input(
    api: Api, toy_tables: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    api.runs, api.phase, api.bad_input = False, "Failed", ["table.parquet", "has no rows.", "Give one."]
    with pytest.raises(SystemExit) as end:
        run_component(toy_tables["ideal_dataset"], tmp_path / "model")
    assert end.value.code == 2 and api.job is None
    assert capfd.readouterr().err.strip().splitlines()[-1] == "error: table.parquet: has no rows. Give one."


def test_outages_are_borne(api: Api, toy_tables: dict[str, Path], tmp_path: Path, capfd: Any) -> None:
    api.runs, api.outages = False, 3

    def finish() -> None:
        (shared,) = (tmp_path / "volume").iterdir()
        (shared / "classifier").write_bytes(b"trained")
        api.phase = "Succeeded"

    timer = threading.Timer(1.0, finish)
    timer.start()
    run_component(toy_tables["ideal_dataset"], tmp_path / "model")
    assert capfd.readouterr().err.count("the cluster does not answer") == 3
    assert (tmp_path / "model").read_bytes() == b"trained"


def test_a_cluster_that_never_answers_again(
    api: Api, toy_tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_job, "PATIENCE", 3)
    api.runs, api.outages = False, 10**6
    with pytest.raises(RuntimeError, match="Failed to get TrainJob: team/train-"):
        run_component(toy_tables["ideal_dataset"], tmp_path / "model")


def test_a_pod_that_is_told_to_go_takes_the_job_along(api: Api, toy_tables: dict[str, Path], tmp_path: Path) -> None:
    api.runs = False
    threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(SystemExit) as end:
        run_component(toy_tables["ideal_dataset"], tmp_path / "model")
    assert end.value.code == 128 + signal.SIGTERM
    assert api.made and api.job is None


def test_a_new_pod_waits_for_the_job_that_is_there(api: Api, toy_tables: dict[str, Path], tmp_path: Path) -> None:
    """And replaces one that failed."""
    api.runs, api.phase = False, "Failed"
    with pytest.raises(SystemExit):
        run_component(toy_tables["ideal_dataset"], tmp_path / "model")
    failed = api.made
    api.asked.clear()
    api.job, api.phase = failed, "Succeeded"  # the pod before was killed, the job went on
    (shared,) = (tmp_path / "volume").iterdir()
    (shared / "classifier").write_bytes(b"trained")
    run_component(toy_tables["ideal_dataset"], tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"trained" and f"POST {JOBS}" not in api.asked
    api.asked.clear()
    api.job, api.phase = failed, "Failed"
    with pytest.raises(SystemExit):
        run_component(toy_tables["ideal_dataset"], tmp_path / "model")
    first_delete = next(n for n, a in enumerate(api.asked) if a.startswith("DELETE"))
    assert first_delete < api.asked.index(f"POST {JOBS}")


def test_no_volume_no_package_no_job(
    api: Api, toy_tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("IMITATION_REFINEMENT_TRAIN_JOB", '{"nodes": "many"}')
    with pytest.raises(InputError, match="IMITATION_REFINEMENT_TRAIN_JOB: is no job"):
        TrainJob.asked_for()
    monkeypatch.setenv("IMITATION_REFINEMENT_TRAIN_JOB", job(tmp_path).model_dump_json())
    monkeypatch.delenv("IMITATION_REFINEMENT_CHECKPOINTS")
    with pytest.raises(SystemExit) as end:
        run_component(toy_tables["ideal_dataset"], tmp_path / "model")
    assert end.value.code == 2 and "needs that volume" in capfd.readouterr().err
    monkeypatch.undo()
    monkeypatch.setitem(__import__("sys").modules, "kubeflow.trainer", None)
    with pytest.raises(InputError, match="train_job: needs a package that is not here"):
        train_job.trainer_client()
