"""Once through every room of the house, as a user would."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from imitation_refinement.data.patterns import write_xy
from imitation_refinement.files import digest
from imitation_refinement.running.journal import journals
from imitation_refinement.running.tracking import EXPERIMENT
from imitation_refinement.vocabulary import Kind, Method
from pipelines import local
from pipelines.cli import main
from pipelines.local import KEPT, tracking_uri
from tests.pipelines.here import tasks_here

COMMAND = Path(sys.executable).with_name("imitation-refinement")
TASKS = {
    "collect_structures": 1,
    "simulate": 2,
    "preprocess": 1,
    "pretrain_classifier": 2,
    "train_refiner": 5,
    "baselines": 1,
    "evaluate": 1,
}


def run(runs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND), "run", "--profile", "smoke", "--output", str(runs), *options]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=runs.parent)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of a finished run, and what it printed."""
    runs = tmp_path_factory.mktemp("smoke") / "runs"
    process = run(runs, "--seed", "1", "--set", "shards=2")
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-4000:]
    return runs, process


@pytest.fixture
def folder(done: tuple[Path, Any]) -> Path:
    return done[0] / "latest"


def killed_when(there: Callable[[], bool], runs: Path, *options: str) -> None:
    """Begins a run and kills it when something is there."""
    command = [str(COMMAND), "run", "--profile", "smoke", "--output", str(runs), *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=runs.parent)
    while not there():
        assert process.poll() is None, "it ended before"
        time.sleep(0.02)
    process.kill()
    process.wait()


def test_classifiers_of_another_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same specimens, so the same refiners come of them; of other specimens they have learnt the theory.

    The run is killed when it has the first refiners, and goes on: what comes of it is the same to the bit.
    """
    runs = tmp_path / "runs"

    def refined() -> bool:
        return any(runs.glob("2*/pipeline/made/*/train-refiner/record.json"))

    killed_when(refined, runs, "--seed", "1", "--classifiers", str(folder))
    (cut,) = runs.glob("2*")
    assert not (runs / "latest").exists()
    process = subprocess.run([str(COMMAND), "run", "--resume", str(cut)], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-4000:]
    kept = [line for line in process.stderr.splitlines() if line.endswith("was finished before, and is kept")]
    stages = Counter(line.split()[0] for line in kept)
    assert stages["collect_structures"] == stages["simulate"] == stages["preprocess"] == 1
    (parent,) = (journal for journal in journals(cut / "tracking") if not journal.parent)
    assert parent.about["name"] == f"smoke {cut.name}"  # one run in MLflow
    assert stages["pretrain_classifier"] == 2 and 1 <= stages["train_refiner"] < 5 and not stages["evaluate"]
    for name in ("vgg", "densenet", "vgg-targeted", "densenet-non_targeted"):
        found, expected = (path / "models" / f"{name}.safetensors" for path in (tmp_path / "runs/latest", folder))
        assert digest(found) == digest(expected), name
    results = json.loads((tmp_path / "runs/latest/results.json").read_text())
    assert results["data"]["classifiers"] == {"source": str(folder.resolve())}
    monkeypatch.setattr(local, "processes", SimpleNamespace(tasks=tasks_here()))
    again = ["run", "--profile", "smoke", "--output", str(runs), "--seed", "2", "--classifiers", str(folder)]
    with pytest.raises(SystemExit) as end:
        main(again)
    assert end.value.code == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert "has learnt" in last and "--keep-out" in last


def test_results(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    assert results["profile"] == "smoke" and results["seed"] == 1
    rows = results["rows"]
    refined = [f"{c}-{s}" for c in ("vgg", "densenet") for s in ("raw", "dwt", "targeted", "non_targeted")]
    others = [m for m in Method if m.kind is Kind.ANSWERS] + ["densenet-targeted-shuffled_labels"]
    assert sorted(r["name"] for r in rows) == sorted([*refined, *others])
    for row in rows:
        assert row["n_test"] > 5 and (row["n_train"] > 50) == (row["method"] in ("ir", "majority"))
        assert 0 <= row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] <= 1
        if row["classifier"]:
            assert all(np.isfinite(row[name]) for name in ("l1", "l2", "kl", "ncc"))
    for name, table in (("structures", "ideal"), ("imperfect", "imperfect")):
        assert results["data"][name]["sha256"] == digest(folder / "data" / f"{table}.parquet")


def test_the_run_s_folder(done: tuple[Path, Any], folder: Path) -> None:
    runs, _ = done
    assert (runs / "latest").is_symlink() and folder.resolve().parent == runs.resolve()
    for path in KEPT.values():
        assert (folder / path).exists(), path
    names = {path.name for path in folder.iterdir()}
    assert names == {path.split("/")[0] for path in KEPT.values()} | {
        "profile.json",
        "run.json",
        "data",
        "log.txt",
        "models",
        "tracking",
    }
    plain = [f"{c}{own}" for c in ("vgg", "densenet") for own in ("", "-targeted", "-non_targeted")]
    models = {path.name for path in (folder / "models").iterdir()}
    assert models == {f"{name}.safetensors" for name in (*plain, "densenet-targeted-shuffled_labels")}
    assert "</html>" in (folder / "report.html").read_text()
    assert json.loads((folder / "profile.json").read_text())["seed"] == 1
    assert {path.name for path in runs.iterdir()} >= {"latest", "mlflow.db", "mlartifacts"}


def test_what_the_user_reads_at_the_end(done: tuple[Path, subprocess.CompletedProcess[str]], folder: Path) -> None:
    runs, process = done
    table = (folder / "results.txt").read_text().rstrip("\n")
    assert process.stdout.endswith(
        f"{table}\n\nreport: {runs / folder.resolve().name / 'report.html'}\nMLflow: make ui RUNS={runs}\n"
    )
    first, *stages, last = process.stderr.splitlines()
    assert first.startswith(f"run {runs / folder.resolve().name}: profile smoke, seed 1; ")
    assert Counter(line.split()[0] for line in stages) == TASKS
    assert all(re.search(r"  \d+:\d\d   .*\d", line) for line in stages), stages
    assert last.startswith("finished in ")
    assert len((process.stdout + process.stderr).splitlines()) < 60


def test_the_log_has_all_that_was_said(folder: Path) -> None:
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    for label in ("simulate 1 of 2", "simulate 2 of 2", "train_refiner vgg_targeted", "evaluate"):
        said = [line for line in lines if line.startswith(f"{label} | ")]
        assert any(" done in " in line for line in said), label
    assert any("Running pipeline: 'imitation-refinement'" in line for line in lines)  # without codes of colours


def test_no_material_is_on_both_sides(folder: Path) -> None:
    manifest = pd.read_csv(folder / "data" / "manifest.csv")
    ideal, imperfect = (manifest[manifest["table"] == name] for name in ("ideal", "imperfect"))
    assert not set(ideal["formula"][ideal["split"] != "held_out"]) & set(imperfect["formula"])
    for rows in (ideal, imperfect):
        assert rows.groupby("formula")["split"].nunique().max() == 1
    for name in ("structures", "simulated", "patterns"):
        assert list(pd.read_csv(folder / "data" / f"rejected_{name}.csv")) == ["item", "reason", "remedy"]


def test_the_tree_in_mlflow(done: tuple[Path, Any], folder: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri(done[0]))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    everything = client.search_runs([experiment.experiment_id])
    (parent,) = (r for r in everything if "mlflow.parentRunId" not in r.data.tags)
    children = [r for r in everything if r is not parent]
    assert all(r.info.status == "FINISHED" for r in everything)
    assert all(r.data.tags["mlflow.parentRunId"] == parent.info.run_id for r in children)
    assert all({"mlflow.user", "revision"} <= r.data.tags.keys() for r in everything)
    results = json.loads((folder / "results.json").read_text())
    stages = [r for r in children if "stage" in r.data.tags]
    assert Counter(r.data.tags["stage"].split()[0] for r in stages) == TASKS
    for child in stages:
        stage, there = child.data.tags["stage"].split()[0], client.list_artifacts(child.info.run_id)
        assert child.data.params and f"{stage}.json" in {item.path for item in there}, stage
        named = {item.dataset.name: item.dataset for item in child.inputs.dataset_inputs}
        assert bool(named) == (stage != "collect_structures"), stage
        if stage == "evaluate":
            assert named.pop("imperfect test part").digest == results["gate"]["tested_sha256"][:36]
        assert all("built-in (" in data.source and data.schema and data.profile for data in named.values()), stage
        assert not {"classifier", "classifiers", "refiners"} & named.keys()
        trained = stage in ("pretrain_classifier", "train_refiner")
        assert bool(child.outputs and child.outputs.model_outputs) == trained, stage
        assert ("figures" in {item.path for item in there}) == (trained or stage == "evaluate"), stage
        if stage == "evaluate":
            kept = {"report.html", "results.json", "predictions.csv", "tables"}
            assert kept <= {item.path for item in there}


def test_no_artifact_is_logged_twice(done: tuple[Path, Any]) -> None:
    """But for what models need to stand alone, and options that two refiners share."""
    artifacts = done[0] / "mlartifacts"
    files = [p for p in artifacts.rglob("*") if p.is_file() and "models" not in p.relative_to(artifacts).parts]
    files = [path for path in files if path.name != "train_refiner.json"]
    assert files and len({path.read_bytes() for path in files}) == len(files)


def test_a_run_a_method_and_what_the_whole_says(done: tuple[Path, Any], folder: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri(done[0]))
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    results = json.loads((folder / "results.json").read_text())
    rows = {row["name"]: row for row in results["rows"]}
    found = client.search_runs([experiment], "tags.method != 'none'")
    assert {run.info.run_name for run in found} == rows.keys()
    for run in found:
        row = rows[run.info.run_name]
        assert all(row[name] == value for name, value in run.data.metrics.items())
        assert run.data.tags["seed"] == "1" and run.data.tags["profile"] == "smoke"
    wanted = {name for name, row in rows.items() if row["method"] == "ir" and row["accuracy"] > 0.1}
    asked = client.search_runs([experiment], "metrics.accuracy > 0.1 and tags.method = 'ir'")
    assert {run.info.run_name for run in asked} == wanted
    (whole,) = client.search_runs([experiment], "params.profile = 'smoke' and params.keep_out = ''")
    own = {name: value for name, value in whole.data.metrics.items() if not name.startswith("system/")}
    assert own["accuracy"] == rows[results["selected"]]["accuracy"] and 8 <= len(own) <= 11
    assert whole.data.params["seed"] == "1" and whole.data.params["shards"] == "2" and len(whole.data.params) == 8
    assert whole.info.run_name.endswith("· smoke, seed 1 · built-in")
    assert "/artifacts/report.html)" in whole.data.tags["mlflow.note.content"]
    (version,) = client.search_model_versions("name = 'imitation-refinement'")
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert version.tags["method"] == model.name == results["selected"] and version.run_id == model.source_run_id
    aliases = client.get_registered_model("imitation-refinement").aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {version.tags["gate"]: "1"}
    assert any(metric.key == "test_accuracy" for metric in model.metrics)


@pytest.mark.parametrize("model", ["vgg-targeted", "densenet-non_targeted"])
def test_the_run_refines_a_new_pattern(folder: Path, tmp_path: Path, model: str) -> None:
    angles = np.arange(8, 85, 0.05)
    peaks = 800 * np.exp(-(((angles - 31) / 0.2) ** 2)) + 500 * np.exp(-(((angles - 52) / 0.2) ** 2))
    counts = np.random.default_rng(0).poisson(peaks + 40)
    write_xy(tmp_path / "new.xy", angles, counts)
    arguments = ["refine", "--run", str(folder), "--model", model, "--wavelength", "CuKa1", str(tmp_path / "new.xy")]
    main([*arguments, "--output", str(tmp_path / "out")])
    (row,) = pq.read_table(tmp_path / "out" / "refined.parquet").to_pylist()
    assert row["two_theta"] == pytest.approx(angles.tolist())
    assert np.isfinite(row["intensity"]).all() and sum(row["probabilities"]) == pytest.approx(1)


def test_bad_input_ends_with_one_message(done: tuple[Path, Any], folder: Path, tmp_path: Path) -> None:
    """Found by a task, far inside of the pipeline."""
    runs, before = done[0], folder.resolve()
    (tmp_path / "cifs").mkdir()
    (tmp_path / "cifs" / "bad.cif").write_text("data_x\n_cell_length_a oops\n")
    process = run(runs, "--structures", str(tmp_path / "cifs"))
    assert process.returncode == 2, process.stderr[-4000:]
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert errors == process.stderr.splitlines()[-1:]
    assert str(tmp_path / "cifs") in errors[0] and "Traceback" not in process.stderr + process.stdout
    assert folder.resolve() == before  # `latest` stays with the last run that finished
