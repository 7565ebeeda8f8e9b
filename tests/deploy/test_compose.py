"""The team's MLflow server: what can be checked of its compose file without its images."""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
SETTINGS = dict(
    line.split("=", 1)
    for line in (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
SECRETS = {name for name, value in SETTINGS.items() if not value}


def test_every_image_has_an_exact_version() -> None:
    for service in SERVICES.values():
        assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+(-\w+)?", service["image"])


def test_the_server_is_the_locked_mlflow() -> None:
    lock = (DEPLOY.parent / "requirements.lock").read_text(encoding="utf-8")
    (version,) = re.findall(r"^mlflow==([\d.]+)$", lock, re.MULTILINE)
    file = (DEPLOY / "Dockerfile.mlflow").read_text(encoding="utf-8")
    for service in ("mlflow", "bucket"):
        assert SERVICES[service]["image"] == f"imitation-refinement/mlflow:{version}"
        assert (DEPLOY / SERVICES[service]["build"]["context"] / SERVICES[service]["build"]["dockerfile"]).is_file()
    (base,) = re.findall(r"^FROM (.+)$", file, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)
    assert "--constraint /requirements.lock" in file and re.search(r"^USER [1-9]", file, re.MULTILINE)


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
    assert context.params["backend_store_uri"] == "postgresql://mlflow@postgres/mlflow"
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
    assert found.database_uri in " ".join(SERVICES["mlflow"]["command"])
    assert (found.admin_password, found.auth_cache_ttl_seconds) == ("of the environment", 60)
    known = configparser.ConfigParser()
    known.read(DEPLOY / "auth.ini")
    assert set(known["mlflow"]) <= set(found._fields)


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
