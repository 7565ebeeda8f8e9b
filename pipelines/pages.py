"""The command ``ui``: MLflow's pages of runs, wherever they are tracked."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import webbrowser
from pathlib import Path

from imitation_refinement.errors import InputError
from imitation_refinement.running.journal import journals
from imitation_refinement.running.tracking import without_login
from imitation_refinement.tracking import pages
from imitation_refinement.tracking.store import open_store
from pipelines.local import DATABASE, is_server, store_of

HOST = "127.0.0.1"
# One worker, and no queue of jobs, whose seven processes no page of runs uses.
WORKERS = ("--workers", "1")
ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def show(runs: Path, port: int, browser: bool) -> None:
    """Serves the pages of the runs of a folder, or says where they are served already. Returns in the latter case.

    Args:
        runs: the folder of runs.
        port: of this machine.
        browser: whether to open the page in a browser.

    Raises:
        InputError: if there are no runs, or the store refuses.
    """
    store = tracked_in(runs)
    if not store:
        raise InputError(runs, "holds no runs.", "Run `make run` first, or name the folder with --runs.")
    client, experiment = open_store(store)
    pages.prepare(client, experiment)
    server = without_login(store) if is_server(store) else f"http://{HOST}:{port}"
    page = pages.address(server, experiment)
    print(f"runs: {page}")
    print(f"methods: {pages.address(server, experiment, pages.METHODS)}", flush=True)
    if is_server(store):
        if browser:
            webbrowser.open(page)
        return
    if browser:
        subprocess.Popen([sys.executable, "-m", pages.__name__, server, page], start_new_session=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--host", HOST, "--port", str(port)]
    os.execve(sys.executable, [*command, *WORKERS], {**os.environ, **ENVIRONMENT})


def tracked_in(runs: Path) -> str:
    """Where the runs of a folder are tracked: beside them, or where the environment says, or where the last one was.

    Empty where it has no runs, and the environment names no store.

    Raises:
        InputError: if the store beside them can't be read or written.
    """
    if (runs / DATABASE).exists():
        return store_of(runs)
    if given := os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    told = [known.about["store"]["uri"] for known in journals(runs) if "store" in known.about] if runs.is_dir() else []
    return str(told[-1]) if told else ""


def hint(runs: Path) -> str:
    """How the pages of a run that has ended are found."""
    store = os.environ.get("MLFLOW_TRACKING_URI", "")
    if is_server(store):
        return without_login(store)
    given = "" if runs == Path("runs") else f" RUNS={shlex.quote(str(runs))}"
    return f"make ui{given}"
