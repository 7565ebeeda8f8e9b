"""The pipeline on this machine, through KFP's own local runners: every task a subprocess, or a Docker container."""

from __future__ import annotations

import builtins
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from components.collect_structures.config import NAMED_SOURCES
from imitation_refinement.errors import InputError
from imitation_refinement.files import alone, writable, write_text
from imitation_refinement.learning.model_files import name_of
from imitation_refinement.progress import say, warn
from imitation_refinement.running.launch import COMMAND_VARIABLE, FOLDER_VARIABLE, environment
from imitation_refinement.running.portable import PORTABLE
from imitation_refinement.running.stage import ERROR_FILE_VARIABLE
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.tracking.store import find_artifacts, open_store, sqlite_uri
from pipelines import containers, processes
from pipelines.console import CHANNEL, captured, clock, console
from pipelines.processes import replaced
from pipelines.profiles import (
    SOURCES,
    Profile,
    as_text,
    changed,
    first_difference,
    read_profile,
    stored_profile,
    with_changes,
)
from pipelines.records import (
    LOCK,
    LOCK_PATIENCE_S,
    RUN,
    Records,
    Runner,
    RunRecord,
    program,
    resume_command,
    source_digests,
)

COMMAND = ("imitation-refinement", "run")
BUSY = "Wait for it, or stop it."
PIPELINE, MADE = "pipeline", "made"  # in a run's folder: of its tasks' folders
FULL_BYTES = 1 << 16  # a disk with less has no room for a message
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
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"  # of MLflow, in the folder of all runs
AT_ONCE = 2  # tasks of a loop that KFP's local runner works on
MODELS = ("classifier", "refiner", "adapted")  # outputs of trainings


class TaskFailed(Exception):
    """A task of the pipeline ended without success; the run's log says why."""


def tracking_uri(runs: Path) -> str:
    """The SQLite store of all runs in a folder."""
    return sqlite_uri(runs / DATABASE)


def store_of(runs: Path) -> str:
    """The store of all runs in a folder, which finds its artifacts there: the folder may have been moved.

    Raises:
        InputError: if it can't be read or written.
    """
    find_artifacts(runs / DATABASE, runs / ARTIFACTS)
    return tracking_uri(runs)


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
        TaskFailed: if a task fails otherwise. The run's folder stays: :func:`resume` goes on with it.
    """
    given = absolute(sources)
    engine = containers.Engine(_images(profile)) if runner == "docker" else None
    store = opened_store(runs)
    folder = new_folder(runs)
    with alone(folder / LOCK, folder, BUSY) as lock:
        write_text(folder / "profile.json", as_text(profile))
        record = RunRecord.begin(folder, given, _program(engine), threads(), runner)
        _finish(folder, profile, record, store, engine, lock, verbose)
    return folder


def resume(folder: Path, verbose: bool = False) -> Path:
    """Goes on with a run that was cut: what is finished is taken as it is.

    Args:
        folder: the run's.
        verbose: as of :func:`run_locally`, as are what is returned and raised.
    """
    with cut_run(folder) as (record, lock):
        if record.state != "finished":
            profile = stored_profile(folder / "profile.json")
            absolute(record.sources)
            engine = containers.Engine(_images(profile)) if record.runner == "docker" else None
            store = opened_store(folder.resolve().parent)
            _finish(folder, profile, record, store, engine, lock, verbose)
    return folder


@contextmanager
def cut_run(folder: Path) -> Iterator[tuple[RunRecord, int]]:
    """A run to go on with, its record and the handle that keeps others out; of one that is finished, that is said.

    Raises:
        InputError: if the folder is no run's, or another command works there.
    """
    RunRecord.read(folder)
    with alone(folder / LOCK, folder, BUSY, LOCK_PATIENCE_S) as lock:
        record = RunRecord.read(folder)
        if record.state == "finished":
            say(f"{folder} is finished: there is nothing to go on with")
        else:
            shutil.rmtree(folder / CHANNEL, ignore_errors=True)  # of the attempt that was cut
        yield record, lock


def check_same(
    folder: Path,
    profile: str | None,
    settings: Sequence[str],
    given: Mapping[str, str],
    runner: str | None,
    runs: Path | None,
) -> None:
    """Sees that options which are given with a run's folder are the run's own; what is empty is not given.

    Args:
        folder: the run's.
        profile: a profile's name or file, as :func:`~pipelines.profiles.read_profile` takes it.
        settings: likewise.
        given: sources.
        runner: what a task is.
        runs: the folder of all runs.

    Raises:
        InputError: if one is another, or the folder is no run's.
    """
    record, own = RunRecord.read(folder), stored_profile(folder / "profile.json")
    remedy = "Leave it out: a run goes on with its own options. For others begin a new run."
    if profile or settings:
        asked = read_profile(profile, settings) if profile else with_changes(own, settings)
        if name := first_difference(own.model_dump(mode="json"), asked.model_dump(mode="json")):
            raise InputError(f"profile, {name}", f"contradicts {folder}.", remedy)
    for name, path in given.items():
        if record.sources[name] != path:
            problem = f"contradicts {folder}, which has {record.sources[name] or 'none'}."
            raise InputError(f"--{name.replace('_', '-')} {path}", problem, remedy)
    if runner and runner != record.runner:
        raise InputError(f"--runner {runner}", f"contradicts {folder}, which has {record.runner}.", remedy)
    if runs and runs.resolve() != folder.resolve().parent:
        raise InputError(f"--output {runs}", f"contradicts {folder}, which is in another folder.", remedy)


def absolute(sources: Mapping[str, str]) -> dict[str, str]:
    """What a run is given, by :data:`~pipelines.profiles.SOURCES`, paths as absolute ones.

    Raises:
        InputError: if one is not there.
    """
    given = {}
    for name in SOURCES:
        path = sources.get(name, "")
        named = name == "structures" and path in NAMED_SOURCES
        if path and not named and not Path(path).exists():
            raise InputError(path, "there is no such file or folder.", f"Check what --{name.replace('_', '-')} names.")
        given[name] = str(Path(path).resolve()) if path and not named else path
    return given


def _program(engine: containers.Engine | None) -> str:
    return engine.program() if engine else program()


def _finish(
    folder: Path,
    profile: Profile,
    record: RunRecord,
    opened: tuple[str, Path | None],
    engine: containers.Engine | None,
    lock: int,
    verbose: bool,
) -> None:
    """All of a run's work that is not done yet."""
    import kfp.local  # noqa: F401 (before the work: an interrupt in the midst of it may come out as another error)

    pipeline = _dag(profile)
    started, given = time.monotonic(), record.sources
    command = resume_command(COMMAND, folder)
    name = f"{profile.name} {folder.resolve().name}"
    with console(folder, verbose, command) as shown:
        shown.say(f"run {folder}: profile {profile.name}, seed {profile.seed}; all that is said goes to its log.txt")
        now = changes(folder, record, _program(engine))
        with (
            environment({"OMP_NUM_THREADS": record.threads, COMMAND_VARIABLE: record.command}),
            Tracker.parent(name, folder / TRACKING, *opened) as tracker,
        ):
            tracker.log_params(described(profile, given))
            for name in ("profile.json", RUN):
                tracker.log_artifact(folder / name)
            if record.state == "begun":
                execute(
                    pipeline,
                    {**given, **profile.parameters()},
                    folder,
                    Records(now, command),
                    list(now),
                    engine,
                    profile.portable,
                    lock,
                )
                record = record.at("made")
                record.write(folder)
            keep(folder)
        for table in sorted((folder / "data").glob("rejected_*.csv")):
            if number := len(pd.read_csv(table)):
                shown.say(f"WARNING: {number} left out, listed in {table}")
        point_to(folder)
        record.at("finished").write(folder)
        shown.say(f"finished in {clock(time.monotonic() - started)}")


def changes(folder: Path, record: RunRecord, program: str) -> dict[str, str]:
    """SHA-256 of a run's sources as they are now, by path; what has changed since it was begun is said."""
    if record.program != program:
        warn(f"{folder} was begun by another version of the program: what that one finished is kept")
    now = source_digests(record.sources)
    for path in (path for path, found in record.digests.items() if now[path] != found):
        warn(f"{path} has changed since {folder} was begun: what comes of it is made anew")
    return now


def point_to(folder: Path) -> None:
    """Has ``latest`` beside a run's folder point to it."""
    own = folder.resolve()
    latest = own.parent / f".latest-{os.getpid()}"
    latest.symlink_to(own.name)
    latest.replace(own.parent / "latest")


def described(profile: Profile, given: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a run: profile, seed and sources, by the words of its evaluation, and what is not as usual."""
    sources = {name: given[name] or "built-in" for name in ("structures", "imperfect")}
    sources |= {name: given[name] for name in ("test", "keep_out", "classifiers")}
    return {"profile": profile.name, "seed": profile.seed, **sources, **changed(profile)}


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
        store_of(runs)
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


def _dag(profile: Profile) -> Any:
    from pipelines.pipeline import dag

    return dag(profile.study)


def _images(profile: Profile) -> list[str]:
    """The images of the profile's pipeline."""
    executors = _dag(profile).pipeline_spec.deployment_spec["executors"]
    return sorted({executor["container"]["image"] for executor in executors.values()})


def keep(folder: Path) -> None:
    """Moves what is kept of a pipeline's outputs to its place in the run's folder, and removes the rest.

    Cut anywhere, it goes on when it is called again.
    """
    made = folder / PIPELINE / MADE
    kept = {made / output: path for output, path in KEPT.items()}
    kept |= {
        path: f"models/{name_of(path)}.safetensors" for output in MODELS for path in made.glob(f"for-loop-*/*/{output}")
    }
    for path, place in kept.items():
        target = folder / place
        if path.exists() and target.is_dir():
            shutil.rmtree(target)
        if path.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    # What each shard of the simulation left out, as one list.
    if lists := [pd.read_csv(path) for path in sorted(made.glob("for-loop-*/simulate/rejected"))]:
        write_text(folder / "data/rejected_simulated.csv", pd.concat(lists).to_csv(index=False))
    if made.is_dir():
        made.rename(made.with_name("kept"))  # or a removal that is cut would leave a part of those lists
    shutil.rmtree(made.parent, ignore_errors=True)


def execute(
    pipeline: Any,
    arguments: Mapping[str, Any],
    folder: Path,
    records: Records,
    files: Sequence[str] = (),
    engine: containers.Engine | None = None,
    portable: bool = False,
    lock: int | None = None,
) -> Path:
    """Runs a pipeline below ``folder/pipeline``; what is finished there is not run again.

    Args:
        pipeline: what :func:`kfp.dsl.pipeline` made.
        arguments: of it.
        folder: of the run.
        records: of its tasks.
        files: what containers must see.
        engine: of containers; processes without it.
        portable: whether numbers shall be those of any processor.
        lock: the handle of the run's lock, which processes hold, too.

    Returns:
        The folder of what its tasks made.

    Raises:
        InputError: if a task was given what it can't use.
        TaskFailed: if one fails otherwise.
    """
    from kfp import local
    from kfp.dsl import constants
    from kfp.local import executor_input_utils, logging_utils

    root = (folder / PIPELINE).resolve()
    workspace = root / "workspace"  # of KFP, which would have one among all temporary files, and leave it when killed
    with writable(folder):
        workspace.mkdir(parents=True, exist_ok=True)
    error_file = root / "error.txt"  # where containers see it
    error_file.unlink(missing_ok=True)
    running = (
        containers.tasks(engine, str(folder.resolve()), list(files), records)
        if engine
        else processes.tasks(records, lock)
    )
    variables = {
        ERROR_FILE_VARIABLE: str(error_file),
        FOLDER_VARIABLE: folder.resolve().name,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads(),
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # gives back what a table took: 50 MB a task
    }
    with (
        environment({**variables, **(PORTABLE if portable else {})}),
        replaced(logging_utils, "color_text", lambda text, color: text),  # it goes to a file
        # KFP names the folder by the time; a run that goes on finds what it made.
        replaced(executor_input_utils, "get_local_pipeline_resource_name", lambda name: MADE),
        # KFP puts its own workspace for this path inside of any text; no path of ours has this name.
        replaced(constants, "WORKSPACE_MOUNT_PATH", f"/{uuid4().hex}"),
        replaced(builtins, "print", print),  # KFP swaps it while a task runs, and two at once leave it swapped
    ):
        try:
            with running as runner:
                local.init(runner, pipeline_root=str(root), workspace_root=str(workspace), enable_caching=False)
                pipeline(**arguments)
        except RuntimeError as error:
            if error_file.exists():
                raise InputError(*json.loads(error_file.read_text(encoding="utf-8"))) from None
            if shutil.disk_usage(root).free < FULL_BYTES:
                raise InputError(root, "its disk is full.", f"Make room, then: {records.resumed}") from None
            where = f"All that was said is in {folder / 'log.txt'}, what was made before in {root}."
            raise TaskFailed(f"{error} {where} Go on with: {records.resumed}") from error
    return root / MADE


def threads() -> str:
    """How many threads a task's networks get, OMP_NUM_THREADS: what that says, or the cores shared by tasks at once.

    Two trainings of one thread each are faster than one after the other with two.
    """
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, len(os.sched_getaffinity(0)) // AT_ONCE))
