"""MLflow tracking: one parent run a pipeline run, one child run a stage.

Where the run goes, in this order: the run that ``MLFLOW_RUN_ID`` names (Kubeflow Pipelines' MLflow plugin sets it);
a child of the run that ``IMITATION_REFINEMENT_PARENT_RUN_ID`` names (the local runner sets it); where
``MLFLOW_TRACKING_URI`` is set, a child of the run of the pipeline run that ``KFP_RUN_ID`` names (the compiled pipeline
sets it), or a run of its own; else nowhere. ``MLFLOW_EXPERIMENT_ID`` or ``MLFLOW_EXPERIMENT_NAME`` name another
experiment. Of several processes that torchrun started, the first logs. MLflow is imported only when a run is tracked:
it costs seconds.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.progress import leads, warn
from imitation_refinement.running import pipeline_run
from imitation_refinement.running.launch import RUN_VARIABLE, environment

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# Nobody is told what is run here.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

PARENT_RUN_VARIABLE = "IMITATION_REFINEMENT_PARENT_RUN_ID"
SQLITE = "sqlite:///"
SQLITE_DRIVERS = (SQLITE, "sqlite+pysqlite:///")
EXPERIMENT = "imitation-refinement"
MAX_PARAM_LENGTH = 6000  # MLflow's own limit
MAX_LINE = 300  # of what a store says


def open_store(tracking_uri: str, artifacts: Path | None = None) -> tuple[Any, str]:
    """MLflow's client of a store, which is made if it is not there, and the id of the experiment.

    Args:
        tracking_uri: ``sqlite:///…`` (:func:`sqlite_uri`) or a server.
        artifacts: the experiment's artifact folder when it is new.

    Raises:
        InputError: if the store can't be reached or refuses, or the experiment is deleted or unknown.
    """
    with _alone(tracking_uri):
        client = _client(tracking_uri)
        return client, _experiment(client, artifacts.resolve().as_uri() if artifacts else None)


def sqlite_uri(path: Path) -> str:
    """The address of a SQLite store in a file, whose name may hold what an address must quote."""
    from sqlalchemy.engine import URL

    name = str(path.resolve())
    if _sqlite_file(SQLITE + name) == Path(name):
        return SQLITE + name
    # Where the driver is named, MLflow doesn't make a folder of the quoted name.
    return URL.create("sqlite+pysqlite", database=name).render_as_string()


def _sqlite_file(uri: str) -> Path:
    from sqlalchemy.engine import make_url

    return Path(make_url(uri).database or "")


def _refusal(error: Exception, where: str = "MLFLOW_TRACKING_URI", remedy: str = "") -> InputError:
    """What a store says when it refuses, by its first line, with what can be done."""
    said = str(error).strip()
    line = textwrap.shorten(said.partition("\n")[0], MAX_LINE, placeholder=" …").rstrip(".")
    code = getattr(error, "get_http_status_code", lambda: 0)()
    if code in (401, 403):
        remedy = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, as it wants."
    elif isinstance(error, ModuleNotFoundError):
        remedy = "Install that driver of the database, or give sqlite:///FILE or a server."
    elif "migrate-filestore" in said:
        line = line.partition(". ")[0]  # the rest is about the tool
        remedy = "Give sqlite:///FILE or a server; `mlflow migrate-filestore` moves what is in a folder."
    elif "mlflow db upgrade" in said:
        remedy = "Back the database up, then run `mlflow db upgrade` with its address."
    remedy = remedy or "Start the server, or correct MLFLOW_TRACKING_URI, or unset it to run untracked."
    return InputError(where, f"can't be used: {line}.", remedy)


@contextmanager
def _one_line() -> Iterator[None]:
    """What MLflow refuses in the block is one line with a remedy."""
    try:
        yield
    except Exception as error:
        from mlflow import MlflowException
        from requests import RequestException

        if not isinstance(error, MlflowException | RequestException):
            raise
        raise _refusal(error) from None


class Tracker:
    """Logs a stage to an MLflow run, or, without one, does nothing.

    Attributes:
        name: what the run is called, or would be.
    """

    def __init__(self, client: Any = None, run_id: str | None = None, prefix: str = "", name: str = "") -> None:
        self._client, self._run_id, self._prefix, self.name = client, run_id, prefix, name

    @property
    def active(self) -> bool:
        """Whether anything is logged."""
        return self._client is not None

    @classmethod
    @contextmanager
    def stage(cls, name: str, options: str = "") -> Iterator[Tracker]:
        """The tracker of one stage; its run ends as FINISHED or FAILED with the block.

        Args:
            name: the run's name.
            options: the stage's options, which tell it from other tasks of that name.

        Raises:
            InputError: if MLFLOW_RUN_ID names no run of the store, the experiment is deleted or unknown, or the store
                can't be reached or refuses; from the tracker's methods, too.
        """
        given, parent = os.environ.get("MLFLOW_RUN_ID"), os.environ.get(PARENT_RUN_VARIABLE)
        store, pipeline = os.environ.get("MLFLOW_TRACKING_URI"), os.environ.get(RUN_VARIABLE)
        if given and not store and leads():
            warn("not tracked: MLFLOW_RUN_ID is set, MLFLOW_TRACKING_URI is not (injectUserEnvVars of KFP's plugin)")
        if not (leads() and (store or (parent and not given))):
            yield cls(name=name)
            return
        client = _client()
        if given:
            # Kubeflow Pipelines ends this run, and logs a component's parameters to it under their own names; where
            # somebody else made it, other stages log to it.
            _mark(client, given, name)
            yield cls(client, given, re.sub(r"[^\w\- ]", "_", name) + ".", name)
            return
        if pipeline and not parent:
            experiment = _experiment(client)
            with _one_line():
                run_id = pipeline_run.enter(client, experiment, pipeline, name, options)
            with _ended_by_block(client, run_id, lambda: pipeline_run.leave(client, experiment, pipeline)):
                yield cls(client, run_id, name=name)
            return
        with _one_line():
            if parent:
                experiment = client.get_run(parent).info.experiment_id
                tags = {pipeline_run.PARENT_TAG: parent}
            else:
                experiment, tags = _experiment(client), {}
            run = client.create_run(experiment, run_name=name, tags={**tags, "stage": name})
        with _ended_by_block(client, run.info.run_id):
            yield cls(client, run.info.run_id, name=name)

    @classmethod
    @contextmanager
    def parent(cls, name: str, tracking_uri: str, artifacts: Path | None = None) -> Iterator[Tracker]:
        """The run of a whole pipeline run; the stages' runs made meanwhile are its children.

        Args:
            name: the run's name.
            tracking_uri: the store, ``sqlite:///…`` or a server; initialised here, before stages race for it.
            artifacts: the experiment's artifact folder when it is new.

        Raises:
            InputError: as :meth:`stage`.
        """
        import mlflow

        client, experiment = open_store(tracking_uri, artifacts)
        with environment({"MLFLOW_TRACKING_URI": tracking_uri}):
            mlflow.set_tracking_uri(tracking_uri)  # which sets that variable, too
            with _one_line():
                run = client.create_run(experiment, run_name=name)

            def end_children() -> None:
                # A process that was killed could not end its run.
                children = f"tags.mlflow.parentRunId = '{run.info.run_id}' and attributes.status = 'RUNNING'"
                for child in client.search_runs([experiment], children):
                    client.set_terminated(child.info.run_id, "FAILED")

            with (
                environment({PARENT_RUN_VARIABLE: run.info.run_id}),
                _ended_by_block(client, run.info.run_id, end_children),
            ):
                yield cls(client, run.info.run_id, name=name)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs resolved options; nested ones as ``a.b``.

        MLflow never changes a value: in a run that somebody else made an earlier one stays, with a warning.
        """
        if not self.active:
            return
        from mlflow.entities import Param

        with _one_line():
            known = self._client.get_run(self._run_id).data.params if self._prefix else {}
            flat = []
            for key, value in _flat(params, self._prefix):
                text = str(value)[:MAX_PARAM_LENGTH]
                if known.get(key, text) != text:
                    warn(f"MLflow keeps {key} = {known[key]}, which was logged to this run before, not {text}")
                else:
                    flat.append(Param(key, text))
            for start in range(0, len(flat), 100):  # MLflow takes 100 parameters a batch
                self._client.log_batch(self._run_id, params=flat[start : start + 100])

    @_one_line()
    def log_inputs(self, inputs: Mapping[str, Path | list[Path]]) -> None:
        """Logs the inputs as MLflow datasets: files with their SHA-256 digests, others by the name of their source."""
        if not self.active:
            return
        from mlflow import MlflowException
        from mlflow.entities import Dataset, DatasetInput, InputTag

        found = []
        for name, value in inputs.items():
            for path in value if isinstance(value, list) else [value]:
                content, kind = (digest(path), "local") if path.exists() else (str(path), "named")
                data = Dataset(name, content[:36], kind, str(path))  # MLflow keeps 36 characters of a digest
                found.append(DatasetInput(data, [InputTag("mlflow.data.context", name)]))
        for left in reversed(range(1 + len(found))):
            try:
                self._client.log_inputs(self._run_id, found)
                break
            except MlflowException as error:
                # Of two stages that log the same new data set at once the store refuses one, and knows it then.
                if not left or not any(word in str(error).lower() for word in ("unique", "duplicate")):
                    raise

    @_one_line()
    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs numbers at a step."""
        if self.active:
            import time

            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            self._client.log_batch(self._run_id, [Metric(k, float(v), now, step) for k, v in metrics.items()])

    @_one_line()
    def log_figure(self, figure: Figure, name: str) -> None:
        """Logs a Matplotlib figure under ``figures/``."""
        if self.active:
            self._client.log_figure(self._run_id, figure, f"figures/{name}")

    @_one_line()
    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Logs a file or a folder as it is."""
        if self.active:
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(self._run_id, str(path), folder)

    @_one_line()
    def set_tag(self, key: str, value: str) -> None:
        """Sets a tag of the run."""
        if self.active:
            self._client.set_tag(self._run_id, key, value)

    @_one_line()
    def log_model(
        self, model: torch.nn.Module, name: str, example: NDArray[Any], registered_name: str | None = None
    ) -> None:
        """Logs a PyTorch model (``pt2`` format) with its signature and an input example.

        Args:
            model: the module, in evaluation mode.
            name: the model's name in the run.
            example: float32 input, shape (n, points).
            registered_name: the model of the registry that this becomes a new version of, if any.
        """
        if not self.active:
            return
        import warnings

        import mlflow
        import torch
        from mlflow.models import infer_signature

        with torch.no_grad():
            output = model(torch.from_numpy(example))
        with mlflow.start_run(run_id=self._run_id), warnings.catch_warnings():
            # Of names that share memory torch writes the first; on a CPU that is all of it.
            warnings.filterwarnings("ignore", "No complete tensor found")
            mlflow.pytorch.log_model(
                model,
                name=name,
                signature=infer_signature(example, output.numpy()),
                input_example=example,
                registered_model_name=registered_name,
                pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", "numpy"],
            )


@contextmanager
def _ended_by_block(client: Any, run_id: str, after: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Ends the run as the block ends, and does what comes ``after``; a store that refuses then hides no other error."""
    try:
        yield
    except BaseException:
        try:
            with _one_line():
                client.set_terminated(run_id, "FAILED")
                after()
        except InputError as error:
            warn(str(error))
        raise
    with _one_line():
        client.set_terminated(run_id, "FINISHED")
        after()


def _client(uri: str | None = None) -> Any:
    """MLflow's client of a store that answers: one which can't be used is told before work begins."""
    import mlflow

    try:
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # of MLflow, of SQLAlchemy, of a driver, of what parses addresses
        raise _refusal(error) from None
    return client


@contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """Lets one process of this machine at a time make a SQLite file: MLflow can't make the same one twice."""
    parent = _sqlite_file(tracking_uri).parent if tracking_uri.startswith(SQLITE_DRIVERS) else None
    if parent is None or not parent.is_dir():
        yield
        return
    folder = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _experiment(client: Any, artifacts: str | None = None) -> str:
    """The id of the experiment, which is made if it is not there; of several that make it at once, one does."""
    from mlflow import MlflowException

    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    where = f"MLFLOW_EXPERIMENT_ID {given}" if given else f"MLflow's experiment {name}"
    try:
        known = client.get_experiment(given) if given else client.get_experiment_by_name(name)
        if known is None:
            try:
                return str(client.create_experiment(name, artifact_location=artifacts))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                known = client.get_experiment_by_name(name)
    except MlflowException as error:
        remedy = "Name one of the store's in MLFLOW_EXPERIMENT_ID, or unset it." if given else ""
        raise _refusal(error, where, remedy or "Name another in MLFLOW_EXPERIMENT_NAME.") from None
    if known.lifecycle_stage == "deleted":
        uri = client.tracking_uri
        store = f"MLFLOW_TRACKING_URI={shlex.quote(uri)} " if uri.startswith(SQLITE_DRIVERS) else ""
        restore = f"`{store}mlflow experiments restore -x {known.experiment_id}`"
        raise InputError(where, "is deleted.", f"Restore it by {restore}, or name another in MLFLOW_EXPERIMENT_NAME.")
    return str(known.experiment_id)


def _mark(client: Any, run_id: str, name: str) -> None:
    """Tags a run that somebody else made with the stage that logs to it."""
    from mlflow import MlflowException

    where = f"MLFLOW_RUN_ID {run_id}"
    try:
        if client.get_run(run_id).info.lifecycle_stage == "deleted":
            restore = f"Restore it by `mlflow runs restore --run-id {run_id}`, or unset MLFLOW_RUN_ID."
            raise InputError(where, "is deleted.", restore)
        client.set_tag(run_id, "stage", name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise _refusal(error, where) from None
        remedy = "Let MLFLOW_TRACKING_URI name the server of Kubeflow Pipelines' MLflow plugin."
        raise InputError(where, "is no run of MLFLOW_TRACKING_URI's store.", remedy) from None


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
