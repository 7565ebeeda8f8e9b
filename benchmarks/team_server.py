"""A team's MLflow server on this machine, as deploy/compose.yaml has it, and pipeline runs at once into it.

    python -m benchmarks.team_server [--runs 4] [--profile smoke] [--set OPTION=VALUE]

The server's command, its settings and users' file are those of deploy/; the images' work is done by Debian's PostgreSQL
(`apt-get install postgresql`) and by moto's S3. Each run is another user's. Prints how each ended and what of it is in
the server; the exit status is 1 if something is missing, or is there twice.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from imitation_refinement.running.journal import journals, waiting
from imitation_refinement.tracking.upload import UUID_TAG
from tests.servers import LOCAL, free_port, started, wait_for

DEPLOY = Path(__file__).parents[1] / "deploy"
COMMAND = Path(sys.executable).with_name("imitation-refinement")
NOBODY = 65534  # PostgreSQL refuses to be root's
DATABASE = "postgresql+psycopg2://mlflow@postgres/mlflow"  # of deploy/
BUCKET = "mlflow"


@dataclass(frozen=True)
class Team:
    """A server that runs.

    Attributes:
        uri: its address.
        admin: the password of ``admin``.
        database: how psycopg2 reaches its database.
        s3: the address of its store of files.
    """

    uri: str
    admin: str
    database: Mapping[str, Any]
    s3: str

    def login(self, user: str, password: str) -> dict[str, str]:
        """The environment of a user's client."""
        own = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
        return {"MLFLOW_TRACKING_URI": self.uri, **own}


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL server that is installed, on the path or where Debian has it."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    found = shutil.which("initdb")
    places += [Path(found).resolve().parent] if found else []
    return next((path for path in places if (path / "postgres").is_file()), None)


@contextmanager
def team_server(folder: Path, workers: int = 2) -> Iterator[Team]:
    """The server of deploy/compose.yaml, with all that it stands on.

    Args:
        folder: of its settings and logs.
        workers: of the server; compose.yaml has two.
    """
    password, ports = secrets.token_hex(8), [free_port() for _ in range(3)]
    database = {"host": LOCAL, "port": ports[0], "user": "mlflow", "password": password}
    s3 = f"http://{LOCAL}:{ports[1]}"
    with postgres(database), started(_s3(ports[1]), folder / "s3.log", folder=folder) as store:
        wait_for(lambda: store.answers(s3))
        team = Team(f"http://{LOCAL}:{ports[2]}", secrets.token_hex(8), {**database, "dbname": "mlflow"}, s3)
        command, environment = _mlflow(folder, team, workers)
        _bucket(environment)
        with started(command, folder / "mlflow.log", environment, folder) as server:
            wait_for(lambda: server.answers(f"{team.uri}/health"))
            yield team


@contextmanager
def postgres(database: Mapping[str, Any]) -> Iterator[None]:
    """A PostgreSQL server with an empty database ``mlflow``, which asks for a password."""
    import psycopg2

    programs, data = binaries(), Path(tempfile.mkdtemp(prefix="postgres"))
    assert programs, "no PostgreSQL here"
    (data / "password").write_text(str(database["password"]))
    other: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    for path in (data, data / "password") if other else ():
        os.chown(path, NOBODY, NOBODY)
    own = {"cwd": data, "env": {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}, **other}
    make = ["--auth=scram-sha-256", f"--username={database['user']}", f"--pwfile={data / 'password'}", "--no-sync"]
    run = ["-c", f"listen_addresses={LOCAL}", "-p", str(database["port"]), "-k", str(data), "-c", "fsync=off"]
    try:
        made = subprocess.run([programs / "initdb", "-D", data / "data", *make], capture_output=True, text=True, **own)
        assert made.returncode == 0, made.stderr
        with (data / "log").open("wb") as log:
            server = subprocess.Popen([programs / "postgres", "-D", data / "data", *run], stdout=log, stderr=log, **own)

        def ready() -> bool:
            assert server.poll() is None, (data / "log").read_text()
            try:
                connection = psycopg2.connect(**database, dbname="postgres")
            except psycopg2.OperationalError:
                return False
            connection.autocommit = True
            connection.cursor().execute("CREATE DATABASE mlflow")
            connection.close()
            return True

        try:
            wait_for(ready)
            yield
        finally:
            server.send_signal(signal.SIGINT)  # what is connected is let go
            server.wait()
    finally:
        shutil.rmtree(data)


def _s3(port: int) -> list[str]:
    return [sys.executable, "-m", "moto.server", "-H", LOCAL, "-p", str(port)]


def _mlflow(folder: Path, team: Team, workers: int) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of compose.yaml's service ``mlflow``, with the places of this machine."""
    settings = {
        "POSTGRES_PASSWORD": team.database["password"],
        "S3_SECRET_KEY": secrets.token_hex(8),
        "MLFLOW_ADMIN_PASSWORD": team.admin,
        "MLFLOW_SECRET_KEY": secrets.token_hex(8),
        "MLFLOW_ALLOWED_HOSTS": "mlflow.example.com",
    }
    here = DATABASE.replace("@postgres/", f"@{LOCAL}:{team.database['port']}/")
    places = {
        DATABASE: here,
        "http://s3:7070": team.s3,
        "--workers=2": f"--workers={workers}",
        "--host=0.0.0.0": f"--host={LOCAL}",
        "--port=5000": f"--port={team.uri.rpartition(':')[2]}",
        "/etc/mlflow/auth.ini": str(folder / "auth.ini"),
    }

    def put(text: str) -> str:
        text = re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", lambda m: settings.get(m[1]) or m[2], text)
        for old, new in places.items():
            text = text.replace(old, new)
        return text

    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["mlflow"]
    (folder / "auth.ini").write_text(put((DEPLOY / "auth.ini").read_text(encoding="utf-8")), encoding="utf-8")
    # What the image has installed of deploy/mlflow_s3: the module, and the entry point by which MLflow finds it.
    project = tomllib.loads((DEPLOY / "mlflow_s3" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copy(DEPLOY / "mlflow_s3" / "s3_through_server.py", folder)
    known = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    known.mkdir()
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [
        f"[{group}]\n" + "".join(f"{name} = {what}\n" for name, what in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (known / "entry_points.txt").write_text("\n".join(points))
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    own = {name: put(value) for name, value in service["environment"].items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
    return [sys.executable, "-m", *map(put, service["command"])], {**kept, **own, "PYTHONPATH": path}


def _bucket(environment: Mapping[str, str]) -> None:
    import boto3

    address, key = environment["MLFLOW_S3_ENDPOINT_URL"], environment["AWS_SECRET_ACCESS_KEY"]
    login = {"aws_access_key_id": environment["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": key}
    boto3.client("s3", endpoint_url=address, region_name="us-east-1", **login).create_bucket(Bucket=BUCKET)


def faults(client: Any, folder: Path) -> list[str]:
    """What of the journals below a folder is not in the store exactly once, and what there is of nobody."""
    (experiment,) = client.search_experiments(filter_string="name != 'Default'")
    everything = _pages(lambda token: client.search_runs([experiment.experiment_id], page_token=token))
    by_uuid = {}
    for run in everything:
        by_uuid.setdefault(run.data.tags.get(UUID_TAG), []).append(run)
    found = [f"{run.info.run_name} is {run.info.status}" for run in everything if run.info.status != "FINISHED"]
    if left := waiting(folder):
        found.append(f"{left} records wait")
    expected: list[str] = []
    for known in journals(folder):
        events = [json.loads(line) for _, line in known.lines()]
        expected += [known.uuid, *(event["data"]["uuid"] for event in events if event["kind"] == "child")]
        runs = by_uuid.get(known.uuid, [])
        if len(runs) == 1:
            found += [f"{known.about['name']}: {fault}" for fault in _differences(client, runs[0], events)]
    found += [
        f"{uuid} is there {len(by_uuid.get(uuid, []))} times" for uuid in expected if len(by_uuid.get(uuid, [])) != 1
    ]
    if len(everything) != len(expected):
        found.append(f"{len(everything)} runs, not {len(expected)}")
    print(f"    {len(everything)} runs, of {len(journals(folder))} journals")
    return found


def _differences(client: Any, run: Any, events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Where a run is not what its journal's own lines say."""
    own = [event for event in events if not event["data"].get("above")]
    told = Counter(
        (key, event["data"]["step"], event["time"], value)
        for event in own
        if event["kind"] in ("metrics", "system")
        for key, value in event["data"]["values"].items()
    )
    stored: Counter[Any] = Counter()
    for key in {key for key, *_ in told}:
        history = client.get_metric_history(run.info.run_id, key)
        stored.update((m.key, m.step, m.timestamp, m.value) for m in history if not m.model_id)
    if told != stored:
        yield f"{(told - stored).total()} numbers are missing, {(stored - told).total()} too many"
    for event in own:
        if event["kind"] == "artifact":
            place, name = event["data"]["folder"], Path(event["data"]["file"]).name
            there = {Path(item.path).name for item in client.list_artifacts(run.info.run_id, place)}
            if not (name in there or (there and place and "." not in name)):  # of a folder what is in it is logged
                yield f"{name} is missing in {place or 'the run'}"
    models = sum(event["kind"] == "model" for event in own)
    if len(run.outputs.model_outputs) != models:
        yield f"{len(run.outputs.model_outputs)} models, not {models}"


def _pages(ask: Callable[[str | None], Any]) -> list[Any]:
    found, token = [], None
    while True:
        page = ask(token)
        found += page
        token = page.token
        if not token:
            return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    given = parser.parse_args()
    if binaries() is None:
        raise SystemExit("error: no PostgreSQL server here. Install Debian's: apt-get install postgresql")
    options = ["--profile", given.profile, *(word for setting in given.set for word in ("--set", setting))]
    with tempfile.TemporaryDirectory() as place, team_server(Path(place)) as team:
        folder = Path(place) / "users"
        raise SystemExit(int(bool(_try(team, folder, given.runs, options))))


def _try(team: Team, folder: Path, number: int, options: Sequence[str]) -> list[str]:
    import mlflow
    from mlflow.server.auth.client import AuthServiceClient

    os.environ.update(team.login("admin", team.admin))
    for i in range(number):
        AuthServiceClient(team.uri).create_user(f"user-{i}", f"password-of-{i}")

    def run(i: int, password: str) -> subprocess.Popen[str]:
        command = [str(COMMAND), "run", *options, "--seed", str(i), "--output", str(folder / f"user-{i}")]
        environment = {**os.environ, **team.login(f"user-{i}", password)}
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)

    refused = run(0, "a wrong password")
    print("a wrong password:", refused.communicate()[1].strip(), f"(status {refused.returncode})", flush=True)
    begun = time.monotonic()
    with ThreadPoolExecutor(number) as pool:
        ended = list(
            pool.map(lambda p: (p.communicate()[1], p.returncode), [run(i, f"password-of-{i}") for i in range(number)])
        )
    print(f"{number} runs at once: {time.monotonic() - begun:.0f} s")
    found = [f"run {i} ended with {status}: {said[-2000:]}" for i, (said, status) in enumerate(ended) if status]
    for i, (said, _) in enumerate(ended):
        lines = [line for line in said.splitlines() if "MLflow" in line or "Traceback" in line]
        print(f"run {i}:", *lines, sep="\n    ")
    client = mlflow.MlflowClient(team.uri)
    found += faults(client, folder)
    for model in client.search_registered_models():
        print(f"    {model.name}: {dict(model.aliases)}")
        for version in client.search_model_versions(f"name = '{model.name}'"):
            print(f"    version {version.version}: {version.tags['method']}, gate {version.tags['gate']}")
            if version.tags["gate"] == "open":
                found.append(f"version {version.version} is not decided")
    print(*(found or ["everything is there, once"]), sep="\n")
    return found


if __name__ == "__main__":
    main()
