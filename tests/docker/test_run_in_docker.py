"""The whole pipeline in containers, and containers that die: `make test-docker`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from imitation_refinement import __version__
from imitation_refinement.running.journal import waiting
from imitation_refinement.running.tracking import EXPERIMENT
from pipelines import containers
from pipelines.local import tracking_uri

pytestmark = pytest.mark.docker

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
COLLECT = f"imitation-refinement/collect-structures-python:{__version__}"


def start(runs: Path, *options: str) -> subprocess.Popen[str]:
    command = [str(COMMAND), "run", "--runner", "docker", "--profile", "smoke", "--output", str(runs), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, cwd=runs.parent
    )


def wait_for(found: Callable[[], str], process: subprocess.Popen[str]) -> str:
    """What a run has come to, while it runs."""
    while process.poll() is None:
        if answer := found():
            return answer
        time.sleep(0.1)
    raise AssertionError(process.communicate())


def containers_of(runs: Path, task: str) -> str:
    """The ids of the task's containers in the one run of a folder."""
    labels = [f"label={containers.RUN_LABEL}={path.resolve()}" for path in runs.glob("2*")]
    if not labels:
        return ""
    filters = [*labels, *([f"label={containers.TASK_LABEL}={task}"] if task else [])]
    words = ["docker", "ps", "--quiet", *(word for text in filters for word in ("--filter", text))]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_the_whole_pipeline(tmp_path: Path) -> None:
    """Killed in the middle, and gone on with: what is finished is kept, the container that was left is removed."""
    import mlflow

    runs = tmp_path / "runs"
    process = start(runs, "--set", "shards=2")
    left = wait_for(lambda: containers_of(runs, "preprocess"), process)
    process.kill()
    process.communicate()
    (cut,) = runs.glob("2*")
    resumed = [str(COMMAND), "run", "--resume", str(cut)]
    process = subprocess.Popen(resumed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, out[-4000:] + err[-4000:]
    kept = [line.split()[0] for line in err.splitlines() if line.endswith("was finished before, and is kept")]
    assert kept == ["collect_structures", "simulate", "simulate"]
    assert left not in subprocess.run(["docker", "ps", "-aq"], capture_output=True, text=True, check=True).stdout
    folder = runs / "latest"
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert {row["method"] for row in rows} >= {"raw", "dwt", "ir", "majority"}
    assert not (folder / "pipeline").exists() and not waiting(folder / "tracking")
    assert all(path.stat().st_uid == os.getuid() for path in runs.rglob("*"))
    client = mlflow.MlflowClient(tracking_uri(runs))  # the store of all runs, whatever ran them
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    everything = client.search_runs([experiment.experiment_id])
    (parent,) = (r for r in everything if "mlflow.parentRunId" not in r.data.tags)
    children = [r for r in everything if r is not parent]
    assert parent.info.status == "FINISHED"
    assert all(r.data.tags["mlflow.parentRunId"] == parent.info.run_id for r in children)
    whole = [r for r in children if r.info.status == "FINISHED" and "stage" in r.data.tags]  # others are methods'
    assert Counter(r.data.tags["stage"].split()[0] for r in whole) == TASKS
    for child in whole:
        trained = child.data.tags["stage"].split()[0] in ("pretrain_classifier", "train_refiner")
        assert not trained or client.list_artifacts(child.info.run_id, "figures")
    assert containers_of(runs, "") == ""


def test_bad_input_found_in_a_container_ends_with_one_message(tmp_path: Path) -> None:
    (tmp_path / "cifs").mkdir()
    (tmp_path / "cifs" / "bad.cif").write_text("data_x\n_cell_length_a oops\n")
    process = start(tmp_path / "runs", "--structures", str(tmp_path / "cifs"))
    out, err = process.communicate()
    assert process.returncode == 2, out[-4000:] + err[-4000:]
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert errors == err.splitlines()[-1:] and str(tmp_path / "cifs") in errors[0]


def test_a_container_that_is_killed_fails_the_run(tmp_path: Path) -> None:
    """KFP's own runner can take it for a success: it asks how the container ended after that is forgotten."""
    runs = tmp_path / "runs"
    process = start(runs)
    victim = wait_for(lambda: containers_of(runs, "collect-structures"), process)
    subprocess.run(["docker", "kill", victim], check=True, capture_output=True)
    _, err = process.communicate()
    assert process.returncode == 1, err[-4000:]
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "collect_structures was killed (exit code 137, SIGKILL)" in last
    assert not (runs / "latest").exists() and containers_of(runs, "") == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_containers(tmp_path: Path, number: signal.Signals) -> None:
    runs = tmp_path / "runs"
    process = start(runs)
    wait_for(lambda: containers_of(runs, "collect-structures"), process)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number
    assert f"stopped; go on with: imitation-refinement run --resume {next(runs.glob('2*'))}" in err
    assert containers_of(runs, "") == "" and not (runs / "latest").exists()


def test_a_container_that_runs_out_of_memory(capfd: pytest.CaptureFixture[str]) -> None:
    client = containers.Engine([COLLECT]).client
    eat = "x = [bytearray(b'x' * 2**20) for _ in range(512)]"
    arguments = {"entrypoint": "", "mem_limit": "48m", "memswap_limit": "48m"}
    code, why = containers.run_to_end(client, COLLECT, ["python", "-c", eat], "eater", **arguments)
    assert (code, why) == (137, "ran out of memory (exit code 137)")
    assert containers.run_to_end(client, COLLECT, ["python", "-c", "print('well')"], "well", entrypoint="") == (0, "")
    assert capfd.readouterr().out.endswith("well | well\n")
