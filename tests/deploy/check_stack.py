"""Tries the MLflow server of deploy/compose.yaml while it runs: python tests/deploy/check_stack.py

It says what holds, deletes what it made, and ends with 1 after the first thing that does not hold. `admin` logs in with
MLFLOW_TRACKING_PASSWORD, or without it with the password of deploy/.env.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import mlflow
from mlflow.server.auth.client import AuthServiceClient

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ADDRESS = "http://localhost:5000"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
NAMES = ("POSTGRES_PASSWORD", "S3_SECRET_KEY", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY")


def holds(what: str, true: bool, instead: object = "") -> None:
    print(f"ok      {what}" if true else f"FAILED  {what}: {instead}", flush=True)
    if not true:
        sys.exit(1)


def output(*command: str) -> str:
    found = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if found.returncode:
        sys.exit(f"{' '.join(command)}: {found.stderr.strip()}")
    return found.stdout


def compose(*arguments: str) -> str:
    return output("docker", "compose", *arguments)


def status(path: str, headers: dict[str, str]) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(ADDRESS + path, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        sys.exit(f"no server at {ADDRESS}: {error}")


def log_in(user: str, password: str) -> None:
    os.environ.update(MLFLOW_TRACKING_USERNAME=user, MLFLOW_TRACKING_PASSWORD=password)


def check_refusals() -> None:
    for path in ("/", SEARCH, "/signup", "/api/2.0/mlflow-artifacts/artifacts", "/get-artifact"):
        holds(f"{path} asks for a password", (found := status(path, {})) == 401, found)
    wrong = {"Authorization": "Basic YWRtaW46d3JvbmctcGFzc3dvcmQ="}
    holds("a wrong password is refused", (found := status(SEARCH, wrong)) == 401, found)
    with urllib.request.urlopen(f"{ADDRESS}/api/3.0/mlflow/server-info", timeout=30) as answer:
        offers = {name: value for name, value in json.load(answer).items() if name.startswith("multipart")}
    holds("files go through the server", len(offers) == 2 and not any(offers.values()), offers)
    holds("another Host is refused", (found := status(SEARCH, {"Host": "other.example.org"})) == 403, found)


def check_run(user: str, experiment: str) -> str:
    """What a client logs is there for it again, and where compose.yaml says."""
    text = f"of {user}"
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(experiment_id=experiment) as run:
        file = Path(folder) / "notes.txt"
        file.write_text(text, encoding="utf-8")
        mlflow.log_param("who", user)
        mlflow.log_metric("loss", 0.5, step=1)
        mlflow.log_artifact(str(file), "sub")
    run_id = run.info.run_id
    found = mlflow.get_run(run_id)
    holds(f"{user} logs a run", (found.data.params, found.data.metrics) == ({"who": user}, {"loss": 0.5}), found.data)
    with tempfile.TemporaryDirectory() as folder:
        there = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="sub/notes.txt", dst_path=folder)
        holds(f"{user} reads its file", Path(there).read_text(encoding="utf-8") == text)
    folder = f"/data/mlflow/{experiment}/{run_id}/artifacts/sub"
    holds("the file is in the bucket", "notes.txt" in compose("exec", "-T", "s3", "ls", folder).split(), folder)
    query = f"select status from runs where run_uuid = '{run_id}'"
    rows = compose("exec", "-T", "postgres", "psql", "--username", "mlflow", "--tuples-only", "--command", query)
    holds("the run is in PostgreSQL", rows.strip() == "FINISHED", rows)
    return run_id


def check_secrets(settings: dict[str, str]) -> None:
    """The engine's own machine alone: that of a Docker Desktop has processes of its own."""
    values = [settings[name] for name in NAMES]
    lines = [
        path.read_bytes().decode(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
    ]
    holds("no command line has a secret", not any(value in line for value in values for line in lines))
    logs = compose("logs", "--no-color")
    holds("no log has a secret", not any(value in logs for value in values))
    containers = json.loads(output("docker", "inspect", *compose("ps", "--all", "--quiet").split()))
    images = output("docker", "image", "inspect", *{container["Image"] for container in containers})
    holds("no image has a secret", not any(value in images for value in values))
    ports = []
    for container in containers:
        container["Config"].pop("Env")
        ports += [port for found in container["NetworkSettings"]["Ports"].values() for port in found or ()]
    rest = json.dumps(containers)
    holds("`docker inspect` has secrets in environments alone", not any(value in rest for value in values))
    bound = {(port["HostIp"], port["HostPort"]) for port in ports}
    holds("one port is open", bound == {(settings["MLFLOW_BIND"] or "127.0.0.1", "5000")}, bound)


def main() -> None:
    file = DEPLOY / ".env"
    if not file.is_file():
        sys.exit(f"{file} is not there: deploy/compose.yaml says how it is made")
    lines = file.read_text(encoding="utf-8").splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    admin = os.environ.get("MLFLOW_TRACKING_PASSWORD", settings["MLFLOW_ADMIN_PASSWORD"])
    name = f"check-{secrets.token_hex(4)}"
    os.environ.update(MLFLOW_HTTP_REQUEST_MAX_RETRIES="2", MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")
    mlflow.set_tracking_uri(ADDRESS)
    check_refusals()
    check_secrets(settings)
    log_in("admin", admin)
    login = b64encode(f"admin:{admin}".encode()).decode()
    found = status(SEARCH, {"Authorization": f"Basic {login}"})
    holds(
        "admin's password is accepted",
        found == 200,
        f"{found}; if it was changed, MLFLOW_TRACKING_PASSWORD says the new one",
    )
    users, client = AuthServiceClient(ADDRESS), mlflow.MlflowClient()
    users.create_user(name, password := secrets.token_hex(8))
    experiment = client.create_experiment(name)
    try:
        check_run("admin", experiment)
        log_in(name, password)
        check_run(name, experiment)
    finally:
        log_in("admin", admin)
        client.delete_experiment(experiment)
        users.delete_user(name)
    print("all holds")


if __name__ == "__main__":
    main()
