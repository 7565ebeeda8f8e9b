"""A folder of runs that was moved or copied with its store."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.tracking.store import find_artifacts


@pytest.fixture
def runs(tmp_path: Path, empty_store: Path) -> Path:
    """A folder of runs whose name must be quoted in an address, with a run, a model and a version."""
    folder = tmp_path / "my runs"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


def client_of(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlflow

    uri = f"sqlite:///{runs / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return mlflow.MlflowClient(uri, uri)


def fill(client: Any, artifacts: Path) -> tuple[str, str]:
    """A run with an artifact, and a logged model with one that is a version of the registry's."""
    experiment = client.create_experiment("x", artifact_location=artifacts.resolve().as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "report", "report.html")
    model = client.create_logged_model(experiment, "m", run)
    made = artifacts.parent / "weights"
    made.write_text("weights")
    client.log_model_artifact(model.model_id, str(made))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("m")
    client.create_model_version("m", f"models:/{model.model_id}", run, model_id=model.model_id)
    return experiment, run


def read(client: Any, run: str, folder: Path) -> tuple[str, str]:
    """Both artifacts as the store finds them."""
    from mlflow.artifacts import download_artifacts

    report = Path(client.download_artifacts(run, "report.html", str(folder))).read_text()
    place = client.get_model_version_download_uri("m", "1")
    return report, Path(download_artifacts(f"{place}/weights", dst_path=str(folder))).read_text()


def test_a_moved_folder_finds_its_artifacts(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, run = fill(client_of(runs, monkeypatch), runs / "mlartifacts")
    find_artifacts(runs / "mlflow.db", runs / "mlartifacts")
    (tmp_path / "x").mkdir()
    moved = runs.rename(tmp_path / "elsewhere")
    find_artifacts(moved / "mlflow.db", moved / "mlartifacts")
    client = client_of(moved, monkeypatch)
    assert read(client, run, tmp_path / "x") == ("report", "weights")
    new = client.create_run(experiment)
    assert new.info.artifact_uri.startswith((moved / "mlartifacts").as_uri() + "/")
    with sqlite3.connect(moved / "mlflow.db") as store:
        assert "my%20runs" not in "".join(store.iterdump())


def test_a_copy_has_its_own_artifacts(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = fill(client_of(runs, monkeypatch), runs / "mlartifacts")
    copy = Path(shutil.copytree(runs, tmp_path / "copy"))
    find_artifacts(copy / "mlflow.db", copy / "mlartifacts")
    shutil.rmtree(runs)
    (tmp_path / "x").mkdir()
    assert read(client_of(copy, monkeypatch), run, tmp_path / "x") == ("report", "weights")


def test_artifacts_that_are_kept_elsewhere_stay_there(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk" / "mlartifacts"
    disk.mkdir(parents=True)
    _, run = fill(client_of(runs, monkeypatch), disk)
    (runs / "mlartifacts").mkdir()
    find_artifacts(runs / "mlflow.db", runs / "mlartifacts")
    (tmp_path / "x").mkdir()
    assert read(client_of(runs, monkeypatch), run, tmp_path / "x") == ("report", "weights")


def test_what_is_no_store(tmp_path: Path) -> None:
    find_artifacts(tmp_path / "mlflow.db", tmp_path / "mlartifacts")
    assert not (tmp_path / "mlflow.db").exists()
    with sqlite3.connect(tmp_path / "empty.db") as store:
        store.execute("CREATE TABLE other (a)")
    find_artifacts(tmp_path / "empty.db", tmp_path / "mlartifacts")
    (tmp_path / "mlflow.db").write_text("no database, whatever it is called" * 9)
    with pytest.raises(InputError, match=r"mlflow.db: can't be used"):
        find_artifacts(tmp_path / "mlflow.db", tmp_path / "mlartifacts")
