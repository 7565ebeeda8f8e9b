"""A team's server as deploy/compose.yaml has it, on PostgreSQL and S3 and with passwords, and four runs at once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from benchmarks.team_server import BUCKET, Team, binaries, team_server
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.learning.config import PretrainConfig
from imitation_refinement.learning.models import save_model
from imitation_refinement.learning.training import train_classifier
from imitation_refinement.results.gate import Reason
from imitation_refinement.running.journal import waiting
from imitation_refinement.running.launch import environment
from imitation_refinement.running.tracking import EXPERIMENT, PATIENCE_VARIABLE, Tracker
from imitation_refinement.tracking import registry, served
from imitation_refinement.tracking.registry import Evidence
from imitation_refinement.tracking.store import open_store
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid

SHARED_MEMORY = Path("/dev/shm")
pytestmark = [
    pytest.mark.skipif(
        binaries() is None, reason="needs a PostgreSQL server: `apt-get install postgresql`, as .ci/run does"
    ),
    pytest.mark.skipif(
        not SHARED_MEMORY.is_dir() or shutil.disk_usage(SHARED_MEMORY).free < 64 << 20,
        reason="PostgreSQL needs room in /dev/shm to start",
    ),
]

N = 4
EPOCHS = 12
MODEL = "imitation-refinement"
RIGHT = [14, 20, 8, 17]  # of each system's twenty test patterns; the second run's refiner beats all
STAGES = ("pretrain_classifier", "evaluate")
ROWS = ("dwt", "ir")
TRUTH = np.repeat(np.arange(7), 20)
SMALL = {"architecture": "vgg", "depths": [1], "widths": [8], "stem_stride": 2, "embedding": 8, "norm": "batch"}
CONFIG = PretrainConfig.model_validate(
    {"network": SMALL, "optimiser": {"epochs": 1, "batch_size": 14, "learning_rate": 1e-2, "device": "cpu"}}
)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with team_server(tmp_path_factory.mktemp("team"), workers=1) as team:  # each takes seconds to begin
        yield team


def loss(i: int, epoch: int) -> float:
    return i + 1 / (1 + epoch)


def prepared(folder: Path, toy: Callable[..., Any]) -> list[Path]:
    """What each run works with: a data set that all have, its own classifier, its own answers."""
    (folder / "ideal.parquet").write_bytes(b"the same for all")
    x, y = toy(2, 1)
    model, _ = train_classifier((x, y), (x, y), CONFIG, lambda *_: None, folder / "checkpoint")
    systems = np.array([str(system) for system in CRYSTAL_SYSTEMS])
    runs = [folder / str(i) for i in range(N)]
    for i, run in enumerate(runs):
        run.mkdir()
        save_model(run / "vgg.safetensors", model, Grid(points=x.shape[1]), {"run": i})
        predicted = np.where(np.arange(140) % 20 < RIGHT[i], TRUTH, (TRUTH + 1) % 7)
        answers = {"crystal_system": systems[TRUTH], "method": f"ir-{i}", "predicted": systems[predicted]}
        pd.DataFrame({"pattern_id": [f"{k:03}" for k in range(140)], **answers}).to_csv(
            run / "predictions.csv", index=False
        )
    return runs


def pipeline(i: int, run: Path, login: dict[str, str]) -> None:
    """A run as `imitation-refinement run` has it, but for its work."""
    os.environ.update(login)
    uri = os.environ.pop("MLFLOW_TRACKING_URI")
    with Tracker.parent(f"run {i}", run / "tracking", uri) as whole:
        whole.log_params({"profile": "toy", "seed": i})
        with Tracker.stage("pretrain_classifier") as tracker:
            tracker.log_inputs({"ideal_dataset": run.parent / "ideal.parquet"})
            for epoch in range(EPOCHS):
                tracker.log_metrics({"loss": loss(i, epoch), "accuracy": epoch / EPOCHS}, epoch)
            tracker.log_figure(Figure((1, 1), 20), "curve.png")
            tracker.log_model("vgg", {"classifier": run / "vgg.safetensors"})
        with Tracker.stage("evaluate") as tracker:
            tracker.log_artifact(run / "predictions.csv")
            tracker.log_table(pd.DataFrame({"method": ROWS, "accuracy": [0.2, RIGHT[i] / 20]}), "methods.json")
            for method in ROWS:
                tracker.above.child(method, {"method": method, "seed": str(i)}, {"accuracy": RIGHT[i] / 20})
            tracker.above.log_metrics({"accuracy": RIGHT[i] / 20})
            reasons = (Reason("baseline", True, "It beats all."),)
            evidence = Evidence(MODEL, f"ir-{i}", "one test part", reasons, {"accuracy": RIGHT[i] / 20}, "", {}, 0)
            tracker.register(asdict(evidence), {"classifier": run / "vgg.safetensors"})


def test_four_runs_at_once_are_there_once(
    team: Team, tmp_path: Path, toy: Callable[..., Any], forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of another user, whose uploader sends it while it goes on."""
    import mlflow
    from mlflow.server.auth.client import AuthServiceClient

    runs = prepared(tmp_path, toy)
    monkeypatch.setenv(PATIENCE_VARIABLE, "120")
    monkeypatch.setattr(registry, "PATIENCE_S", 120.0)  # on a machine that is slow nobody is taken for dead
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with environment(team.login("admin", team.admin)):
        for i in range(N):
            AuthServiceClient(team.uri).create_user(f"user-{i}", f"password-of-{i}")
    fork = multiprocessing.get_context("fork")
    logins = [team.login(f"user-{i}", f"password-of-{i}") for i in range(N)]
    going = [fork.Process(target=pipeline, args=(i, runs[i], logins[i])) for i in range(N)]
    for process in going:
        process.start()
    for process in going:
        process.join()
    assert [process.exitcode for process in going] == [0] * N and waiting(tmp_path) == 0
    for name, value in team.login("user-0", "password-of-0").items():
        monkeypatch.setenv(name, value)
    client = mlflow.MlflowClient(team.uri)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    everything = client.search_runs([experiment])
    see_each_run(client, everything, runs, tmp_path)
    see_one_champion(client, everything, runs, team)
    see_tables(team, experiment)
    see_files(team, everything)


def see_each_run(client: Any, everything: list[Any], runs: list[Path], folder: Path) -> None:
    assert len(everything) == N * (1 + len(STAGES) + len(ROWS))
    assert {run.info.status for run in everything} == {"FINISHED"}
    for i, own in enumerate(runs):
        (parent,) = (run for run in everything if run.info.run_name == f"run {i}")
        below = [run for run in everything if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        by_name = {run.info.run_name: run for run in below}
        assert sorted(run.info.run_name for run in below) == sorted([*STAGES, *ROWS])
        assert parent.data.params == {"profile": "toy", "seed": str(i)}
        assert parent.data.metrics["accuracy"] == by_name["ir"].data.metrics["accuracy"] == RIGHT[i] / 20
        assert {by_name[row].data.tags["seed"] for row in ROWS} == {str(i)}
        trained, evaluated = by_name["pretrain_classifier"], by_name["evaluate"]
        curve = client.get_metric_history(trained.info.run_id, "loss")
        assert [(m.step, m.value) for m in curve if not m.model_id] == [(e, loss(i, e)) for e in range(EPOCHS)]
        (data,) = trained.inputs.dataset_inputs
        assert data.dataset.digest == digest(folder / "ideal.parquet")[:36]
        (model,) = trained.outputs.model_outputs
        assert client.get_logged_model(model.model_id).tags["classifier_sha256"] == digest(own / "vgg.safetensors")
        (folder / f"down-{i}").mkdir()
        there = client.download_artifacts(evaluated.info.run_id, "predictions.csv", str(folder / f"down-{i}"))
        assert digest(there) == digest(own / "predictions.csv")
        tables = client.load_table(evaluated.info.experiment_id, "tables/methods.json", [evaluated.info.run_id])
        assert tables["accuracy"].tolist() == pytest.approx([0.2, RIGHT[i] / 20])
        assert [item.path for item in client.list_artifacts(trained.info.run_id, "figures")] == ["figures/curve.png"]


def see_one_champion(client: Any, everything: list[Any], runs: list[Path], team: Team) -> None:
    """In the order of their numbers each version met the best before it."""
    versions = sorted(client.search_model_versions(f"name = '{MODEL}'"), key=lambda version: int(version.version))
    assert sorted(version.tags["method"] for version in versions) == [f"ir-{i}" for i in range(N)]
    right = [RIGHT[int(version.tags["method"].removeprefix("ir-"))] for version in versions]
    expected = ["champion" if r == max(right[: k + 1]) else "challenger" for k, r in enumerate(right)]
    assert [version.tags["gate"] for version in versions] == expected
    best = versions[right.index(max(RIGHT))]
    aliases = client.get_registered_model(MODEL).aliases
    assert aliases["champion"] == best.version
    (trained,) = (run for run in everything if run.info.run_id == best.run_id)
    assert trained.info.run_name == "pretrain_classifier"
    with served.fetched(f"models:/{MODEL}@champion", team.uri) as folder:
        assert digest(runs[RIGHT.index(max(RIGHT))] / "vgg.safetensors") in {digest(p) for p in folder.iterdir()}


def see_tables(team: Team, experiment: str) -> None:
    """What PostgreSQL holds, counted by itself."""
    import psycopg2

    connection = psycopg2.connect(**team.database)
    with connection.cursor() as cursor:

        def rows(query: str) -> list[Any]:
            cursor.execute(query)
            return list(cursor.fetchall())

        whole = N * (1 + len(STAGES) + len(ROWS))
        assert rows("SELECT status, count(*) FROM runs GROUP BY status") == [("FINISHED", whole)]
        curves = "SELECT count(*), count(DISTINCT (run_uuid, step)) FROM metrics WHERE key = 'loss'"
        assert rows(curves) == [(N * EPOCHS, N * EPOCHS)]
        assert rows(f"SELECT count(*) FROM datasets WHERE experiment_id = {experiment} AND name = 'ideal_dataset'") == [
            (1,)
        ]
        assert rows("SELECT count(*), count(DISTINCT name) FROM registered_models") == [(1, 1)]
        assert rows("SELECT count(*) FROM logged_models") == [(N,)]
        assert rows("SELECT count(*) FROM users") == [(1 + N,)]
    connection.close()


def see_files(team: Team, everything: list[Any]) -> None:
    """What the bucket holds, counted by itself: each run's files, at its own place."""
    import boto3

    login = {"aws_access_key_id": "mlflow", "aws_secret_access_key": "any"}
    s3 = boto3.client("s3", endpoint_url=team.s3, region_name="us-east-1", **login)
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    names = Counter(Path(key).name for key in keys)
    once = ("predictions.csv", "methods.json", "curve.png", "MLmodel", "classifier-1.safetensors")
    assert {name: names[name] for name in once} == dict.fromkeys(once, N)
    places = {f"{run.info.experiment_id}/{run.info.run_id}" for run in everything}
    models = {f"{run.info.experiment_id}/models" for run in everything}
    assert {"/".join(key.split("/")[:2]) for key in keys} <= places | models


def test_a_wrong_password_is_one_sentence(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in team.login("admin", "a wrong password").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError, match=r"^MLFLOW_TRACKING_URI: can't be used: it refuses the login, 401\. Set "
    ) as error:
        open_store(team.uri)
    assert "\n" not in str(error.value) and "a wrong password" not in str(error.value)
