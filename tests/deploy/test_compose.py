"""The team's MLflow server: what can be checked of its compose file without its images."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
sys.path.insert(0, str(DEPLOY / "mlflow_s3"))

from s3_through_server import S3ThroughServer  # noqa: E402

TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
SETTINGS = dict(
    line.split("=", 1)
    for line in (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
DATABASE = "postgresql+psycopg2://mlflow@postgres/mlflow"
SECRETS = {name for name, value in SETTINGS.items() if not value}


def test_every_image_has_an_exact_version() -> None:
    for service in SERVICES.values():
        assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+(-\w+)?", service["image"])


def test_the_server_is_the_locked_mlflow() -> None:
    lock = (DEPLOY.parent / "requirements.lock").read_text(encoding="utf-8")
    (version,) = re.findall(r"^mlflow==([\d.]+) ", lock, re.MULTILINE)
    file = (DEPLOY / "Dockerfile.mlflow").read_text(encoding="utf-8")
    for service in ("mlflow", "bucket"):
        assert SERVICES[service]["image"] == f"imitation-refinement/mlflow:{version}"
        assert (DEPLOY / SERVICES[service]["build"]["context"] / SERVICES[service]["build"]["dockerfile"]).is_file()
    (base,) = re.findall(r"^FROM (.+)$", file, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)
    assert re.search(r"^USER [1-9]", file, re.MULTILINE)


def test_the_image_installs_the_locks_versions() -> None:
    """pip takes no hashes with constraints of what is not named with its version; the drivers are in the lock, too."""
    file = (DEPLOY / "Dockerfile.mlflow").read_text(encoding="utf-8")
    (script,) = re.findall(r"RUN sed '(.+)' /requirements\.lock > /versions\.txt", file)
    lock = DEPLOY.parent / "requirements.lock"
    made = subprocess.run(["sed", script, lock], capture_output=True, text=True, check=True).stdout.splitlines()
    versions = [line for line in made if line != "#"]
    assert versions == re.findall(r"^[\w.-]+==\S+", lock.read_text(encoding="utf-8"), re.MULTILINE)
    (installed,) = re.findall(r"pip install --no-cache-dir --constraint /versions\.txt (.+)", file)
    known = {version.partition("==")[0].lower() for version in versions}
    names = [re.split(r"[\[=]", name.strip('"'))[0] for name in installed.split()]
    assert set(names) <= known and "psycopg2-binary" in names
    assert all(name in versions for name in installed.split() if "==" in name)


def resolved(argument: str) -> str:
    """An argument with the settings of the example."""
    return re.sub(r"\$\{(\w+)(:[-?][^}]*)?\}", lambda found: SETTINGS[found.group(1)], argument)


def test_mlflow_takes_its_command_line() -> None:
    """Every option is one of the locked version's, and has a value that it takes."""
    from mlflow.cli import server

    program, command, *arguments = map(resolved, SERVICES["mlflow"]["command"])
    assert (program, command) == ("mlflow", "server")
    context = server.make_context("server", arguments)
    assert context.params["host"] == "0.0.0.0" and context.params["serve_artifacts"]
    assert context.params["backend_store_uri"] == DATABASE
    assert context.params["artifacts_destination"] == "s3://mlflow"
    assert context.params["default_artifact_root"] is None  # so that files go through the server
    assert context.params["allowed_hosts"].endswith(SETTINGS["MLFLOW_ALLOWED_HOSTS"])
    assert context.params["app_name"] == "basic-auth"


def test_mlflow_reads_its_users_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.server.auth.config import read_auth_config

    variables = SERVICES["mlflow"]["environment"]
    mounts = [volume.split(":") for volume in SERVICES["mlflow"]["volumes"]]
    assert mounts == [["./auth.ini", variables["MLFLOW_AUTH_CONFIG_PATH"], "ro"]]
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(DEPLOY / "auth.ini"))
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "of the environment")
    found = read_auth_config()
    assert found.database_uri == DATABASE
    assert (found.admin_password, found.auth_cache_ttl_seconds) == ("of the environment", 60)
    known = configparser.ConfigParser()
    known.read(DEPLOY / "auth.ini")
    assert set(known["mlflow"]) <= set(found._fields)


def test_addresses_of_the_database_name_the_driver_that_is_installed() -> None:
    """SQLAlchemy 2.1 takes psycopg 3 where an address names none, and that the image does not have."""
    from sqlalchemy.engine import make_url

    assert make_url(DATABASE).get_driver_name() == "psycopg2"
    assert "psycopg2-binary==" in (DEPLOY / "Dockerfile.mlflow").read_text(encoding="utf-8")
    texts = [TEXT, (DEPLOY / "auth.ini").read_text(encoding="utf-8")]
    assert [re.findall(r"postgresql\S*://\S+", text) for text in texts] == [[DATABASE, DATABASE], [DATABASE]]


def test_mlflow_knows_its_variables() -> None:
    import mlflow.environment_variables as known

    variables = {name for service in SERVICES.values() for name in service.get("environment", ())}
    assert [name for name in sorted(variables) if name.startswith("MLFLOW_") and not hasattr(known, name)] == []
    assert SERVICES["mlflow"]["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_the_image_has_the_class_that_serves_files() -> None:
    """The build sees what the Dockerfile copies and no more, and the entry point names a class that is there."""
    file = (DEPLOY / "Dockerfile.mlflow").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (\S+) ", file, re.MULTILINE)
    shown = (DEPLOY / "Dockerfile.mlflow.dockerignore").read_text(encoding="utf-8").split()
    assert shown == ["*", *(f"!{path}" for path in copied)]
    assert all((DEPLOY.parent / path).exists() for path in copied)
    project = tomllib.loads((DEPLOY / "mlflow_s3/pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"] == {
        "mlflow.artifact_repository": {"s3": f"{S3ThroughServer.__module__}:{S3ThroughServer.__name__}"}
    }
    assert project["tool"]["setuptools"]["py-modules"] == [S3ThroughServer.__module__]


def test_the_server_offers_no_address_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.server import ARTIFACTS_DESTINATION_ENV_VAR, SERVE_ARTIFACTS_ENV_VAR, handlers
    from mlflow.store.artifact import artifact_repository_registry
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    monkeypatch.setenv(SERVE_ARTIFACTS_ENV_VAR, "true")
    monkeypatch.setenv(ARTIFACTS_DESTINATION_ENV_VAR, "s3://mlflow")
    monkeypatch.setattr(handlers, "_get_tracking_store", lambda: None)
    registry = artifact_repository_registry._artifact_repository_registry._registry
    offers = []
    for repository in (S3ArtifactRepository, S3ThroughServer):
        monkeypatch.setitem(registry, "s3", repository)
        monkeypatch.setattr(handlers, "_artifact_repo", None)
        payload = handlers.build_server_info_payload()
        offers.append((payload["multipart_uploads_enabled"], payload["multipart_downloads_enabled"]))
    assert offers == [(True, True), (False, False)]  # MLflow's own, and ours


def test_files_reach_the_store(tmp_path: Path) -> None:
    """Each of its methods is that of the class behind it, for which a folder takes the store's place."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    store = S3ThroughServer("s3://mlflow/1")
    assert type(store._s3).__name__ == "S3ArtifactRepository" and store._s3.artifact_uri == "s3://mlflow/1"
    store._s3 = LocalArtifactRepository(str(tmp_path / "store"))
    (tmp_path / "folder").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "folder" / name).write_text(name, encoding="utf-8")
    store.log_artifact(str(tmp_path / "folder/a.txt"), "one")
    store.log_artifacts(str(tmp_path / "folder"), "two")
    assert [file.path for file in store.list_artifacts("two")] == ["two/a.txt", "two/b.txt"]
    (tmp_path / "down").mkdir()
    there = store.download_artifacts("two/b.txt", str(tmp_path / "down"))
    assert Path(there).read_text(encoding="utf-8") == "b.txt"
    store.delete_artifacts("two")
    assert [file.path for file in store.list_artifacts()] == ["one"]


def test_the_database_is_healthy_once_others_reach_it() -> None:
    """Its first start is by a server that listens on its own socket alone."""
    assert {"--host", "127.0.0.1"} <= set(SERVICES["postgres"]["healthcheck"]["test"])


def test_secrets_come_from_the_environment_alone() -> None:
    """Each is required, none has a default, and none is in a command line that others on the machine can read."""
    used = re.findall(r"\$\{(\w+)(:[-?])?", TEXT)
    assert {name for name, _ in used} == set(SETTINGS)
    assert (
        {name for name, _ in used if name in SECRETS}
        == SECRETS
        == {
            "POSTGRES_PASSWORD",
            "S3_SECRET_KEY",
            "MLFLOW_ADMIN_PASSWORD",
            "MLFLOW_SECRET_KEY",
        }
    )
    assert all(mark == ":?" for name, mark in used if name in SECRETS)
    for service in SERVICES.values():
        assert not any(name in str(service.get("command")) for name in SECRETS)
    ignored = (DEPLOY.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "deploy/.env" in ignored


def test_each_waits_for_what_it_needs() -> None:
    needs = SERVICES["mlflow"]["depends_on"]
    lasting = set(SERVICES) - {"bucket"}
    assert all("healthcheck" in SERVICES[name] and SERVICES[name]["restart"] == "unless-stopped" for name in lasting)
    assert {name: need["condition"] for name, need in needs.items()} == {
        "postgres": "service_healthy",
        "s3": "service_healthy",
        "bucket": "service_completed_successfully",
    }
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["mlflow"]
    mounted = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", ()) if not v.startswith(".")}
    assert mounted == set(COMPOSE["volumes"])


@pytest.mark.parametrize("there", [[], ["another"], ["another", "mlflow"]])
def test_the_bucket_is_made_once(there: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def client(service: str, endpoint_url: str) -> Any:
        assert (service, endpoint_url) == ("s3", "http://s3:7070")
        return SimpleNamespace(
            list_buckets=lambda: {"Buckets": [{"Name": name} for name in there]},
            create_bucket=lambda Bucket: there.append(Bucket),
        )

    monkeypatch.setitem(sys.modules, "boto3", SimpleNamespace(client=client))
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", SERVICES["bucket"]["environment"]["MLFLOW_S3_ENDPOINT_URL"])
    program, flag, code = SERVICES["bucket"]["command"]
    assert (program, flag) == ("python", "-c")
    exec(compile(code, "bucket", "exec"), {})
    assert there.count("mlflow") == 1
