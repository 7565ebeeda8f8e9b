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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.progress import leads, warn
from imitation_refinement.running import pipeline_run
from imitation_refinement.running.launch import RUN_VARIABLE

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# Nobody is told what is run here.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

PARENT_RUN_VARIABLE = "IMITATION_REFINEMENT_PARENT_RUN_ID"
SQLITE = "sqlite:///"
EXPERIMENT = "imitation-refinement"
MAX_PARAM_LENGTH = 6000  # MLflow's own limit


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
            InputError: if MLFLOW_RUN_ID names no run of the store, or the store can't be reached or refuses.
        """
        given, parent = os.environ.get("MLFLOW_RUN_ID"), os.environ.get(PARENT_RUN_VARIABLE)
        store, pipeline = os.environ.get("MLFLOW_TRACKING_URI"), os.environ.get(RUN_VARIABLE)
        if given and not store and leads():
            warn("not tracked: MLFLOW_RUN_ID is set, MLFLOW_TRACKING_URI is not (injectUserEnvVars of KFP's plugin)")
        if not (leads() and (store or (parent and not given))):
            yield cls(name=name)
            return
        import mlflow

        client = mlflow.MlflowClient()
        _greet(client)
        if given:
            # Kubeflow Pipelines ends this run, and logs a component's parameters to it under their own names.
            _mark(client, given, name)
            yield cls(client, given, "config.", name)
            return
        if pipeline and not parent:
            experiment = _experiment(client)
            run_id = pipeline_run.enter(client, experiment, pipeline, name, options)
            try:
                with _ended_by_block(client, run_id):
                    yield cls(client, run_id, name=name)
            finally:
                pipeline_run.leave(client, experiment, pipeline)
            return
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
            InputError: if the store can't be reached or refuses.
        """
        import mlflow

        before = {key: os.environ.get(key) for key in ("MLFLOW_TRACKING_URI", PARENT_RUN_VARIABLE)}
        mlflow.set_tracking_uri(tracking_uri)
        with _alone(tracking_uri):
            client = mlflow.MlflowClient(tracking_uri)
            _greet(client)
            experiment = _experiment(client, artifacts.resolve().as_uri() if artifacts else None)
        run = client.create_run(experiment, run_name=name)
        os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
        os.environ[PARENT_RUN_VARIABLE] = run.info.run_id
        try:
            with _ended_by_block(client, run.info.run_id):
                yield cls(client, run.info.run_id, name=name)
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value
            # A process that was killed could not end its run.
            children = f"tags.mlflow.parentRunId = '{run.info.run_id}' and attributes.status = 'RUNNING'"
            for child in client.search_runs([experiment], children):
                client.set_terminated(child.info.run_id, "FAILED")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs resolved options; nested ones as ``a.b``."""
        if self.active:
            from mlflow.entities import Param

            flat = [Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in _flat(params, self._prefix)]
            for start in range(0, len(flat), 100):  # MLflow takes 100 parameters a batch
                self._client.log_batch(self._run_id, params=flat[start : start + 100])

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

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs numbers at a step."""
        if self.active:
            import time

            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            self._client.log_batch(self._run_id, [Metric(k, float(v), now, step) for k, v in metrics.items()])

    def log_figure(self, figure: Figure, name: str) -> None:
        """Logs a Matplotlib figure under ``figures/``."""
        if self.active:
            self._client.log_figure(self._run_id, figure, f"figures/{name}")

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Logs a file or a folder as it is."""
        if self.active:
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(self._run_id, str(path), folder)

    def set_tag(self, key: str, value: str) -> None:
        """Sets a tag of the run."""
        if self.active:
            self._client.set_tag(self._run_id, key, value)

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
def _ended_by_block(client: Any, run_id: str) -> Iterator[None]:
    """Ends the run as the block ends."""
    try:
        yield
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def _greet(client: Any) -> None:
    """Asks the store for anything, so that one which can't be used is told by one line, before work begins."""
    from mlflow import MlflowException

    try:
        client.search_experiments(max_results=1)
    except MlflowException as error:
        said = str(error).partition("\n")[0]
        remedy = "Start the server, or correct MLFLOW_TRACKING_URI, or unset it to run untracked."
        if error.get_http_status_code() in (401, 403):
            remedy = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, as it wants."
        raise InputError("MLFLOW_TRACKING_URI", f"can't be used: {said}.", remedy) from None


@contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """Lets one process of this machine at a time make a SQLite file: MLflow can't make the same one twice."""
    parent = Path(tracking_uri.removeprefix(SQLITE)).parent
    if not tracking_uri.startswith(SQLITE) or not parent.is_dir():
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

    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            known = client.get_experiment_by_name(name)
    return str(known.experiment_id)


def _mark(client: Any, run_id: str, name: str) -> None:
    """Tags a run that somebody else made with the stage that logs to it."""
    from mlflow import MlflowException

    try:
        client.set_tag(run_id, "stage", name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        remedy = "Let MLFLOW_TRACKING_URI name the server of Kubeflow Pipelines' MLflow plugin."
        raise InputError(f"MLFLOW_RUN_ID {run_id}", "is no run of MLFLOW_TRACKING_URI's store.", remedy) from None


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
