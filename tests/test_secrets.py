"""No secret of the environment is in a file that we write, in what we print, in a compiled pipeline or in MLflow."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from components.pretrain_classifier.stage import STAGE as PRETRAIN
from imitation_refinement.answer.batch import identify_files
from imitation_refinement.data.patterns import write_xy
from imitation_refinement.errors import InputError
from imitation_refinement.running.tracking import Tracker
from pipelines.cluster import read_cluster
from pipelines.compile import compile_pipeline
from pipelines.containers import inherited
from pipelines.profiles import read_profile
from tests.conftest import TINY_CLASSIFIER, write_toy_tables
from tests.shared.answer.conftest import measured, small_model

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("shared", "components", "pipelines", "web") for path in (ROOT / folder).rglob("*.py")]
SECRETS = {
    "MP_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "KFP_EXISTING_TOKEN",
    "KFP_COOKIES",
    "IMITATION_REFINEMENT_WEB_TOKEN",
}
NO_SECRETS = {
    *("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"),
    *("MLFLOW_RUN_ID", "MLFLOW_CONFIGURE_LOGGING", "MLFLOW_TRACKING_AUTH", "MLFLOW_WORKSPACE"),
    *("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "KFP_RUN_ID"),
    *("MP_API_ENDPOINT", "OMP_NUM_THREADS", "WORLD_SIZE", "RANK", "LOCAL_RANK"),
    *(f"IMITATION_REFINEMENT_{name}" for name in ("PROGRESS", "PORTABLE", "ERROR_FILE", "PROCESSES", "CHECKPOINTS")),
    # What is only told how to track, or where.
    "IMITATION_REFINEMENT_COMMAND",
    "IMITATION_REFINEMENT_JOURNAL",
    "IMITATION_REFINEMENT_PARENT_RUN",
    "IMITATION_REFINEMENT_REVISION",
    "IMITATION_REFINEMENT_RUN",
    "IMITATION_REFINEMENT_TRACKING_SECONDS",
    "MLFLOW_DISABLE_TELEMETRY",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
    "OMP_WAIT_POLICY",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    *(f"IMITATION_REFINEMENT_{name}" for name in ("TRAIN_JOB", "PARENT_RUN_ID")),
}
PLANTED = "Plant3dS3cret"


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, f"{PLANTED}{name}")
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://someone:{PLANTED}@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def assert_clean(folder: Path, *texts: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert [str(path) for path in files if PLANTED.encode() in path.read_bytes()] == []
    assert not any(PLANTED in text for text in texts)


def test_every_variable_that_is_read_is_known() -> None:
    """A new one has to be told here whether it holds a secret."""
    names = r"(?:MLFLOW|KFP|KF_PIPELINES|MP_API|IMITATION_REFINEMENT|OMP)_[A-Z_]+|WORLD_SIZE|(?:LOCAL_)?RANK"
    read = {name for path in SOURCES for name in re.findall(rf"[\"']({names})[\"']", path.read_text(encoding="utf-8"))}
    prefixes = {name for name in read if name.endswith("_")}  # of those that containers inherit
    assert read - prefixes <= SECRETS | NO_SECRETS
    assert read >= SECRETS


def test_a_tracked_stage_keeps_none(
    planted: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    tables = write_toy_tables(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{out}/mlflow.db")
    optimiser = {"epochs": 1, "batch_size": 14, "device": "cpu"}
    paths = {"ideal_dataset": tables["ideal_dataset"], "classifier": out / "vgg.safetensors"}
    with Tracker.parent("run", out, f"sqlite:///{out}/mlflow.db", out / "artifacts"):
        PRETRAIN.execute(paths, {"network": {**TINY_CLASSIFIER, "architecture": "vgg"}, "optimiser": optimiser})
    said = capfd.readouterr()
    assert (out / "mlflow.db").is_file()
    assert_clean(out, said.out, said.err)


def test_answers_and_their_page_keep_none(planted: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    small_model(tmp_path / "model")
    write_xy(tmp_path / "a.xy", *measured("NaCl"))
    out = tmp_path / "out"
    identify_files([str(tmp_path / "a.xy")], out, "1.5406", tmp_path / "model", processes=1)
    said = capfd.readouterr()
    assert_clean(out, said.out, said.err)


def test_a_compiled_pipeline_keeps_none_and_names_them(planted: None, callers_by_name: None, tmp_path: Path) -> None:
    out = tmp_path / "pipeline"
    out.mkdir()
    compile_pipeline(read_profile("smoke"), out / "pipeline.yaml", read_cluster(ROOT / "deploy/cluster.toml"))
    assert_clean(out)
    assert "MLFLOW_TRACKING_TOKEN" in (out / "pipeline.yaml").read_text()  # as what Kubernetes fills in


def test_a_container_gets_what_its_stage_needs_and_no_more(planted: None) -> None:
    given = inherited(os.environ)
    assert set(given) & SECRETS == {"MP_API_KEY"}


@pytest.mark.parametrize("scheme", ["http", "postgresql", "https"])
def test_an_address_with_a_password_is_not_repeated(scheme: str) -> None:
    """What a store or a client says of an address goes through the one message that a person reads."""
    said = f"can't reach {scheme}://someone:{PLANTED}@127.0.0.1:9/x."
    assert (
        str(InputError("MLFLOW_TRACKING_URI", said)) == f"MLFLOW_TRACKING_URI: can't reach {scheme}://…@127.0.0.1:9/x."
    )
