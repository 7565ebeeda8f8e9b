"""The pipeline on this machine, through KFP's own local runners: every task a subprocess, or a Docker container."""

from __future__ import annotations

import builtins
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pandas as pd

from components.collect_structures.config import NAMED_SOURCES
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest, write_text
from imitation_refinement.learning.model_files import name_of
from imitation_refinement.running.launch import FOLDER_VARIABLE, environment
from imitation_refinement.running.portable import PORTABLE
from imitation_refinement.running.stage import ERROR_FILE_VARIABLE
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.tracking.store import find_artifacts, open_store, sqlite_uri
from pipelines import containers, processes
from pipelines.console import captured, clock, console
from pipelines.processes import replaced
from pipelines.profiles import SOURCES, Profile, as_text, changed

Runner = Literal["subprocess", "docker"]
# Output of a task → where it is kept, in the run's folder; models have names of their own.
KEPT = {
    "collect-structures/rejected": "data/rejected_structures.csv",
    "preprocess/ideal_dataset": "data/ideal.parquet",
    "preprocess/imperfect_dataset": "data/imperfect.parquet",
    "preprocess/manifest": "data/manifest.csv",
    "preprocess/rejected": "data/rejected_patterns.csv",
    "baselines/dwt": "data/dwt.parquet",
    "baselines/answers": "data/answers.parquet",
    "baselines/search": "data/dwt_search.csv",
    "evaluate/results": "results.json",
    "evaluate/table": "results.txt",
    "evaluate/report": "report.html",
    "evaluate/figures": "figures",
    "evaluate/predictions": "predictions.csv",
}
TRACKING = "tracking"  # the journals, in the run's folder
RUN = "run.json"  # in a run's folder: its sources, and their digests
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"  # of MLflow, in the folder of all runs
AT_ONCE = 2  # tasks of a loop that KFP's local runner works on
MODELS = ("classifier", "refiner", "adapted")  # outputs of trainings


class TaskFailed(Exception):
    """A task of the pipeline ended without success; the run's log says why."""


def tracking_uri(runs: Path) -> str:
    """The SQLite store of all runs in a folder."""
    return sqlite_uri(runs / DATABASE)


def run_locally(
    profile: Profile, sources: Mapping[str, str], runs: Path, runner: Runner = "subprocess", verbose: bool = False
) -> Path:
    """Runs the whole pipeline and keeps what it makes in ``runs/<time>/``.

    Args:
        profile: every option.
        sources: what it is given, by :data:`~pipelines.profiles.SOURCES`: paths, for ``structures`` also one of
            NAMED_SOURCES; empty or left out where there is none.
        runs: the folder of all runs.
        runner: what a task is: a subprocess, or a container of its stage's image.
        verbose: whether a person sees all that is said, not a line a stage.

    Returns:
        The run's folder; ``runs/latest`` points to it.

    Raises:
        InputError: if what was given can't be used.
        TaskFailed: if a task fails otherwise. The run's folder stays, for a look.
    """
    given = {}
    for name in SOURCES:
        path = sources.get(name, "")
        named = name == "structures" and path in NAMED_SOURCES
        if path and not named and not Path(path).exists():
            raise InputError(path, "there is no such file or folder.", f"Check what --{name.replace('_', '-')} names.")
        given[name] = str(Path(path).resolve()) if path and not named else path
    engine = containers.Engine(_images(profile)) if runner == "docker" else None
    started = time.monotonic()
    store, artifacts = opened_store(runs)
    folder = new_folder(runs)
    write_text(folder / "profile.json", as_text(profile))
    write_text(folder / RUN, json.dumps({"sources": given, "digests": source_digests(given)}, indent=1) + "\n")
    name = f"{profile.name} {folder.name}"
    with console(folder, verbose) as shown:
        shown.say(f"run {folder}: profile {profile.name}, seed {profile.seed}; all that is said goes to its log.txt")
        with Tracker.parent(name, folder / TRACKING, store, artifacts) as tracker:
            tracker.log_params(described(profile, given))
            for name in ("profile.json", RUN):
                tracker.log_artifact(folder / name)
            _run_pipeline(profile, given, folder, engine)
        for table in sorted((folder / "data").glob("rejected_*.csv")):
            if number := len(pd.read_csv(table)):
                shown.say(f"WARNING: {number} left out, listed in {table}")
        latest = runs / f".latest-{os.getpid()}"
        latest.symlink_to(folder.name)
        latest.replace(runs / "latest")
        shown.say(f"finished in {clock(time.monotonic() - started)}")
    return folder


def described(profile: Profile, given: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a run: profile, seed and sources, by the words of its evaluation, and what is not as usual."""
    sources = {name: given[name] or "built-in" for name in ("structures", "imperfect")}
    sources |= {name: given[name] for name in ("test", "keep_out", "classifiers")}
    return {"profile": profile.name, "seed": profile.seed, **sources, **changed(profile)}


def source_digests(given: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of the files and folders among the sources, by path; of a run its models alone."""
    paths = [(name, path) for name, path in given.items() if path and path not in NAMED_SOURCES]
    return {path: digest(Path(path) / "models" if name == "classifiers" else path) for name, path in paths}


def opened_store(runs: Path) -> tuple[str, Path | None]:
    """Where runs are tracked: MLFLOW_TRACKING_URI, or the store beside the runs, which is made if it is not there.

    Returns:
        Its address, and the folder of its artifacts where it is no server.

    Raises:
        InputError: if it refuses.
    """
    store = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri(runs)
    artifacts = None if is_server(store) else runs / ARTIFACTS
    if store == tracking_uri(runs):
        runs.mkdir(parents=True, exist_ok=True)
        find_artifacts(runs / DATABASE, runs / ARTIFACTS)
    with captured(Path(os.devnull)):  # MLflow tells of each table that it makes
        open_store(store, artifacts)
    if artifacts:
        artifacts.mkdir(parents=True, exist_ok=True)
    return store, artifacts


def is_server(store: str) -> bool:
    """Whether a tracking address is a server's, and no store on this machine."""
    return store.partition(":")[0].lower() in ("http", "https", "databricks")


def new_folder(runs: Path) -> Path:
    """A folder for a run, named by the time.

    Raises:
        InputError: if there are too many of this second.
    """
    name = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        try:
            (runs / (name + suffix)).mkdir(parents=True)
        except FileExistsError:
            continue
        return runs / (name + suffix)
    raise InputError(runs, "has a hundred runs of this second.", "Wait a moment.")


def _images(profile: Profile) -> list[str]:
    """The images of the profile's pipeline."""
    from pipelines.pipeline import dag

    executors = dag(profile.study).pipeline_spec.deployment_spec["executors"]
    return sorted({executor["container"]["image"] for executor in executors.values()})


def _run_pipeline(
    profile: Profile, given: dict[str, str], folder: Path, engine: containers.Engine | None = None
) -> None:
    """Runs the DAG below ``folder/pipeline``, moves what is kept to its place, and removes the rest."""
    from pipelines.pipeline import dag

    files = [path for path in given.values() if path and path not in NAMED_SOURCES]
    made = execute(dag(profile.study), {**given, **profile.parameters()}, folder, files, engine, profile.portable)
    kept = {made / output: path for output, path in KEPT.items()}
    kept |= {
        path: f"models/{name_of(path)}.safetensors" for output in MODELS for path in made.glob(f"for-loop-*/*/{output}")
    }
    for path, place in kept.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    # What each shard of the simulation left out, as one list.
    lists = [pd.read_csv(path) for path in sorted(made.glob("for-loop-*/simulate/rejected"))]
    write_text(folder / "data/rejected_simulated.csv", pd.concat(lists).to_csv(index=False))
    shutil.rmtree(made.parent)


def execute(
    pipeline: Any,
    arguments: Mapping[str, Any],
    folder: Path,
    files: Sequence[str],
    engine: containers.Engine | None = None,
    portable: bool = False,
) -> Path:
    """Runs a pipeline below ``folder/pipeline``.

    Args:
        pipeline: what :func:`kfp.dsl.pipeline` made.
        arguments: of it.
        folder: of the run.
        files: what containers must see.
        engine: of containers; processes without it.
        portable: whether numbers shall be those of any processor.

    Returns:
        The folder of what its tasks made.

    Raises:
        InputError: if a task was given what it can't use.
        TaskFailed: if one fails otherwise.
    """
    from kfp import local
    from kfp.dsl import constants
    from kfp.local import logging_utils

    root = (folder / "pipeline").resolve()
    root.mkdir()
    error_file = root / "error.txt"  # where containers see it
    tasks = containers.tasks(engine, folder.name, list(files)) if engine else processes.tasks()
    variables = {
        ERROR_FILE_VARIABLE: str(error_file),
        FOLDER_VARIABLE: folder.name,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads(),
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # gives back what a table took: 50 MB a task
    }
    with (
        environment({**variables, **(PORTABLE if portable else {})}),
        replaced(logging_utils, "color_text", lambda text, color: text),  # it goes to a file
        # KFP puts its own workspace for this path inside of any text; no path of ours has this name.
        replaced(constants, "WORKSPACE_MOUNT_PATH", f"/{uuid4().hex}"),
        replaced(builtins, "print", print),  # KFP swaps it while a task runs, and two at once leave it swapped
    ):
        try:
            with tasks as runner:
                local.init(runner, pipeline_root=str(root), enable_caching=False)
                pipeline(**arguments)
        except RuntimeError as error:
            if error_file.exists():
                raise InputError(*json.loads(error_file.read_text(encoding="utf-8"))) from None
            where = f"All that was said is in {folder / 'log.txt'}, what was made before in {root}."
            raise TaskFailed(f"{error} {where}") from error
    (made,) = root.iterdir()
    return made


def threads() -> str:
    """How many threads a task's networks get, OMP_NUM_THREADS: what that says, or the cores shared by tasks at once.

    Two trainings of one thread each are faster than one after the other with two.
    """
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, len(os.sched_getaffinity(0)) // AT_ONCE))
