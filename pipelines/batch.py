"""A pipeline of its own: patterns by the hundred thousand identified in shards, and their answers gathered."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_context import Pipeline
from pydantic import Field, ValidationError

from components.identify.component import gather_answers
from components.identify.component import identify as identify_task
from components.identify.config import MAX_SHARDS, IdentifyConfig
from imitation_refinement.errors import InputError
from imitation_refinement.files import alone, write_text
from imitation_refinement.options import StageConfig, config_error
from imitation_refinement.running.launch import COMMAND_VARIABLE, environment
from imitation_refinement.running.tracking import Tracker
from pipelines.cluster import Cluster, check_source, on_cluster
from pipelines.compile import write_pipeline
from pipelines.console import clock, console
from pipelines.local import BUSY, MADE, PIPELINE, TRACKING, changes, cut_run, execute, new_folder, opened_store, threads
from pipelines.local import COMMAND as WHOLE
from pipelines.records import LOCK, Records, RunRecord, program, resume_command

PIPELINE_NAME = "imitation-refinement-identify"
COMMAND = ("imitation-refinement", "batch", "run")
OPTIONS = "batch.json"  # in the run's folder
PATHS = ("patterns", "model", "library")  # of which the first must be there
GATHERED = {"gather-answers/gathered": "answers.parquet", "gather-answers/all_rejected": "rejected.csv"}


class BatchConfig(StageConfig):
    """Options of the pipeline."""

    patterns: str = Field("", description="a folder of pattern files, or a Parquet table")
    model: str = Field("", description="a model's folder; that of the software where empty")
    library: str = Field("", description="a library to search in instead of the model's")
    shards: int = Field(2, ge=1, le=MAX_SHARDS, description="parts that are answered side by side")
    identify: IdentifyConfig = Field(IdentifyConfig(), description="options of the stage")

    def parameters(self) -> dict[str, Any]:
        """The pipeline's parameters but for the paths."""
        options = self.identify.model_dump(mode="json", exclude={"shard", "shards"})
        return {"shards": list(range(self.shards)), "n_shards": self.shards, "identify": options}


def read_batch(**given: Any) -> BatchConfig:
    """The options, checked; what is empty or not given takes its default.

    Raises:
        InputError: if one is out of its range.
    """
    try:
        return BatchConfig.model_validate({name: value for name, value in given.items() if value not in ("", None)})
    except ValidationError as error:
        raise config_error("batch", error) from None


def dag(cluster: Cluster | None = None) -> Any:
    """The pipeline for a cluster, or without one for this machine."""
    at_once = cluster.parallel_shards or None if cluster else None

    @dsl.pipeline(name=PIPELINE_NAME, description="Says of which crystal system and phase patterns are.")
    def identify_patterns(
        patterns: str,
        model: str = "",
        library: str = "",
        shards: list[int] = [0],  # noqa: B006 (KFP reads the default)
        n_shards: int = 1,
        identify: dict = {},  # noqa: B006
    ) -> None:
        """Patterns identified in shards, and all answers in one table.

        Args:
            patterns: a folder of pattern files or a Parquet table, on a cluster on its data volume.
            model: a model's folder, likewise; that of the software where empty.
            library: a library to search in, likewise; the model's where empty.
            shards: 0 to n_shards − 1.
            n_shards: how many shards.
            identify: options of the stage.
        """
        with dsl.ParallelFor(shards, name="identify-shards", parallelism=at_once) as shard:
            answered = identify_task(
                patterns=patterns, model=model, library=library, config=identify, shard=shard, shards=n_shards
            )
            answered.set_retry(2, backoff_duration="1s", backoff_factor=10)  # a shard that fails is retried alone
        gather_answers(
            answers=dsl.Collected(answered.outputs["answers"]), rejected=dsl.Collected(answered.outputs["rejected"])
        )
        for task in Pipeline.get_default_pipeline().tasks.values():
            if cluster and task.container_spec:
                on_cluster(task, cluster)

    return identify_patterns


def run_batch(config: BatchConfig, runs: Path, verbose: bool = False) -> Path:
    """Runs the pipeline on this machine, two shards at a time, each in a process.

    Args:
        config: the options.
        runs: the folder of all runs.
        verbose: whether a person sees all that is said, not a line a stage.

    Returns:
        The run's folder, with :data:`GATHERED`.

    Raises:
        InputError: if a path is not there, or a task can't use what it was given.
        TaskFailed: if a task fails otherwise. The run's folder stays: :func:`resume_batch` goes on with it.
    """
    given = _absolute(config)
    store = opened_store(runs)
    folder = new_folder(runs)
    with alone(folder / LOCK, folder, BUSY) as lock:
        write_text(folder / OPTIONS, config.model_copy(update=given).model_dump_json(indent=1) + "\n")
        record = RunRecord.begin(folder, given, program(), threads())
        _finish(folder, config, record, store, lock, verbose)
    return folder


def resume_batch(folder: Path, verbose: bool = False) -> Path:
    """Goes on with a run that was cut: patterns that have their answer are not asked again.

    Args:
        folder: the run's.
        verbose: as of :func:`run_batch`, as are what is returned and raised.
    """
    with cut_run(folder) as (record, lock):
        if record.state != "finished":
            if not (folder / OPTIONS).is_file():
                raise InputError(folder, "is no run of batch.", f"Give it to `{resume_command(WHOLE, folder)}`.")
            config = BatchConfig.model_validate_json((folder / OPTIONS).read_text(encoding="utf-8"))
            _absolute(config)
            store = opened_store(folder.resolve().parent)
            _finish(folder, config, record, store, lock, verbose)
    return folder


def _absolute(config: BatchConfig) -> dict[str, str]:
    """The paths of the options, absolute.

    Raises:
        InputError: if one is not there.
    """
    given = {}
    for name in PATHS:
        path = getattr(config, name)
        if (path or name == "patterns") and not Path(path).exists():
            raise InputError(path or name, "there is no such file or folder.", f"Check what {name} names.")
        given[name] = str(Path(path).resolve()) if path else ""
    return given


def _finish(
    folder: Path,
    config: BatchConfig,
    record: RunRecord,
    opened: tuple[str, Path | None],
    lock: int,
    verbose: bool,
) -> None:
    """All of a run's work that is not done yet."""
    started, given = time.monotonic(), record.sources
    command = resume_command(COMMAND, folder)
    with console(folder, verbose, command) as shown:
        shown.say(f"run {folder}: {config.shards} shards; all that is said goes to its log.txt")
        now = changes(folder, record, program())
        name = f"identify {folder.resolve().name}"
        with (
            environment({"OMP_NUM_THREADS": record.threads, COMMAND_VARIABLE: record.command}),
            Tracker.parent(name, folder / TRACKING, *opened) as tracker,
        ):
            tracker.log_params(config.model_dump(mode="json"))
            if record.state == "begun":
                execute(dag(), {**given, **config.parameters()}, folder, Records(now, command), list(now), lock=lock)
                record = record.at("made")
                record.write(folder)
            for output, name in GATHERED.items():
                if (made := folder / PIPELINE / MADE / output).exists():
                    made.replace(folder / name)
            shutil.rmtree(folder / PIPELINE, ignore_errors=True)
        record.at("finished").write(folder)
        shown.say(f"finished in {clock(time.monotonic() - started)}")


def compile_batch(config: BatchConfig, path: Path, cluster: Cluster | None = None) -> None:
    """Writes the pipeline as YAML for a cluster, with the options as its parameters' defaults.

    Args:
        config: the options; paths are those in the cluster's containers.
        path: the file, ``.yaml`` or ``.yml``.
        cluster: where it is to run; one with every default if not given.

    Raises:
        InputError: if the file is not called so, or a cluster could not run what the options make.
    """
    cluster = cluster or Cluster()
    write_pipeline(dag(cluster), {**config.parameters(), **paths_there(config, cluster)}, path)


def paths_there(config: BatchConfig, cluster: Cluster) -> Mapping[str, str]:
    """The paths that are given, if the cluster's pods see them.

    Raises:
        InputError: if one is not on its data volume.
    """
    given = {name: getattr(config, name) for name in PATHS if getattr(config, name)}
    for name, path in given.items():
        check_source(name, path, cluster)
    return given
