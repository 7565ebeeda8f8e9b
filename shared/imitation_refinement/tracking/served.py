"""A model as MLflow serves it: patterns of any length in, refined patterns and crystal systems out, or why not.

A row a pattern: ``two_theta`` [°] and ``intensity``, lists of one length, and ``wavelength`` [Å]. docs/serving.md shows
requests and answers. What is refused is refused with status 400 and a sentence that names row, field and remedy.

What is served is a run's classifier, several, or a refiner with its classifier (:mod:`.answer.run_model`), or a model
that ``imitation-refinement release`` made (:mod:`.answer.model`). Nothing is pickled: MLflow's folder holds our
safetensors and a file of code that loads them by this library.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient, MlflowException
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.models import Model as Entry
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext, save_model
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array
from numpy.typing import NDArray

from imitation_refinement import __version__
from imitation_refinement.answer.run_model import RECORD as RUN_RECORD
from imitation_refinement.answer.run_model import (
    RunModel,
    answer_pattern,
    read_run_model,
    run_files,
    write_run_model,
)
from imitation_refinement.data.patterns import Pattern, check_pattern
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.progress import say
from imitation_refinement.running.launch import environment
from imitation_refinement.running.stage import exit_on_input_error
from imitation_refinement.running.tracking import NOTE_TAG, without_login
from imitation_refinement.tracking.store import LIMITS, first_line, refusal, sqlite_file
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, N_CLASSES

if TYPE_CHECKING:
    from imitation_refinement.answer.domain import Check
    from imitation_refinement.answer.model import Model

ANGLES, INTENSITY, WAVELENGTH = FIELDS = ("two_theta", "intensity", "wavelength")
MOST_POINTS = 200_000  # of a pattern
MOST_ROWS = 1_000
SHOWN = 30  # characters of what is no number
CODE = Path(__file__).with_name("served_model.py")
FILES = "model"  # the artifact that holds our files
MOST_NOTE = 8000  # characters of it
EXAMPLE_STEP = 0.25  # [°]
MOST_KNOWN = 20  # registered models that are named
SILENCE = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}

_logger = logging.getLogger(__name__)


class Refusal(MlflowException):
    """A sentence that MLflow's server gives as it is: by itself it puts the data before the message."""

    @property
    def message(self) -> str:
        """The sentence."""
        return self._sentence

    @message.setter
    def message(self, text: str) -> None:
        self._sentence = getattr(self, "_sentence", text)


class Served(PythonModel):
    """The pyfunc."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the model, and answers once: kernels are compiled before anyone waits for them."""
        self.model = read(Path(context.artifacts[FILES]))
        _answer(self.model, pattern_of(example(self.model), "the example"), False)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """A row of :func:`columns` for each row of :data:`FIELDS`.

        Args:
            context: MLflow's.
            model_input: the patterns.
            params: ``keep_angles``: whether zero errors stay as they are.

        Raises:
            Refusal: if a pattern can't be used; or, as an error of this program, if an answer is no number.
        """
        keep_angles = bool((params or {}).get("keep_angles", False))
        try:
            patterns = [pattern_of(row, f"row {number}") for number, row in enumerate(_rows(model_input), 1)]
            rows = [_answer(self.model, pattern, keep_angles) for pattern in patterns]
        except InputError as error:
            raise Refusal(str(error), INVALID_PARAMETER_VALUE) from None
        except Exception:
            _logger.exception("a request could not be answered")
            raise Refusal(
                "The request could not be answered: an error of this program, whose message is where the server was "
                "started. Please report it with the patterns.",
                INTERNAL_ERROR,
            ) from None
        return pd.DataFrame(rows, columns=columns(self.model), dtype=object)


def columns(model: Model | RunModel) -> tuple[str, ...]:
    """What is said of a pattern; ``intensity`` and ``moved`` by a model with a refiner alone."""
    refined = () if model.refiner is None else (INTENSITY, "moved")
    first, second = ("crystal_system", "probability"), ("second_system", "second_probability")
    return (*refined, *first, *second, *(f"p_{system}" for system in CRYSTAL_SYSTEMS), "flag", "reason")


def read(folder: Path) -> Model | RunModel:
    """The model in a folder, of either kind.

    Raises:
        InputError: if it holds none.
    """
    if _record_in(folder) == RUN_RECORD:
        return read_run_model(folder)
    from imitation_refinement.answer.model import Model

    return Model.read(folder)


def _rows(given: Any) -> Iterator[Mapping[str, Any]]:
    """A request's rows, by field.

    Raises:
        InputError: if there are none, or too many.
    """
    remedy = f'Send {{"dataframe_records": [{{"{ANGLES}": […], "{INTENSITY}": […], "{WAVELENGTH}": 1.5406}}]}}.'
    if not isinstance(given, pd.DataFrame) or not len(given):
        raise InputError("the request", "holds no pattern.", remedy)
    if len(given) > MOST_ROWS:
        raise InputError("the request", f"holds {len(given)} patterns.", f"Send at most {MOST_ROWS}, a row each.")
    names = [str(name) for name in given.columns]
    if twice := [name for name in FIELDS if names.count(name) > 1]:
        raise InputError("the request", f"has several columns {twice[0]}.", "Send one of each.")
    for cells in given.itertuples(index=False, name=None):
        yield dict(zip(names, cells, strict=True))


def _answer(model: Model | RunModel, pattern: Pattern, keep_angles: bool) -> list[Any]:
    """What :func:`columns` names of a checked pattern; None for what can't be said."""
    from imitation_refinement.answer.domain import Flag, reason

    refined, probabilities, checks, answered = _asked(model, pattern, keep_angles)
    said: list[Any] = []
    for k in np.argsort(-probabilities, kind="stable")[:2].tolist():
        said += [str(CRYSTAL_SYSTEMS[k]), float(probabilities[k])] if answered else [None, None]
    said += [*probabilities.tolist(), str(Flag.of(checks)), reason(checks)]
    if model.refiner is not None:
        said[:0] = [None, None] if refined is None else [refined[0].tolist(), refined[1] + 0.0]
    if not all(np.isfinite(part).all() for part in (probabilities, *(refined or ()))):
        raise FloatingPointError(f"{pattern.where}: an answer is no number")
    return said


def _asked(
    model: Model | RunModel, pattern: Pattern, keep_angles: bool
) -> tuple[tuple[NDArray[np.float64], float] | None, NDArray[np.float64], Sequence[Check], bool]:
    """Refined intensities with by how much lines were moved [°], probabilities, checks, and whether it is answered."""
    if isinstance(model, RunModel):
        found, checks = answer_pattern(model.keeping_angles() if keep_angles else model, pattern)
        if found is None:
            return None, np.full(N_CLASSES, 1 / N_CLASSES), checks, False
        return (found.intensity, found.moved), found.probabilities, checks, True
    from imitation_refinement.answer.identify import identify

    told = identify(model, pattern)
    refined = None
    if model.refiner is not None:
        try:
            made = model.refine(pattern, 0.0 if keep_angles else told.zero_error)
            refined = made.intensity, made.moved
        except InputError:  # nothing on the refiner's grid: then there is nothing for the answer either, which says so
            refined = None
    return refined, told.probabilities, told.checks, bool(told.candidates)


def pattern_of(row: Mapping[str, Any], where: str) -> Pattern:
    """The pattern of a request's row.

    Args:
        row: :data:`FIELDS`, whatever they hold.
        where: the row, for messages.

    Raises:
        InputError: if it can't be used.
    """
    two_theta = _numbers(row.get(ANGLES), where, ANGLES, "angles in degrees")
    intensity = _numbers(row.get(INTENSITY), where, INTENSITY, "intensities")
    wavelength: Any = row.get(WAVELENGTH)
    if _is_missing(wavelength):
        raise InputError(where, f"{WAVELENGTH} is missing.", "Give it in Å, as 1.5406; none is assumed.")
    if not _is_number(wavelength):
        raise InputError(where, f"{WAVELENGTH} is {_shown(wavelength)}.", "Give a number in Å, as 1.5406.")
    return check_pattern(Pattern(where, two_theta, intensity, float(wavelength)))


def _numbers(value: Any, where: str, field: str, what: str) -> NDArray[np.float64]:
    """A cell with a list of numbers, shape (n,)."""
    remedy = f"Give {what} as a list of numbers, one a point."
    if _is_missing(value):
        raise InputError(where, f"{field} is missing.", remedy)
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise InputError(where, f"{field} is {_shown(value)}.", remedy)
    if len(value) > MOST_POINTS:
        problem = f"{field} has {len(value)} points."
        raise InputError(where, problem, f"Send at most {MOST_POINTS}, as means over several steps.")
    try:
        found = np.asarray(value)
    except ValueError:  # lists of several lengths
        found = np.asarray(value, object)
    if found.ndim == 1 and found.dtype.kind in "iuf" and bool not in set(map(type, value)):
        return found.astype(float)
    bad = next((i for i, one in enumerate(value) if not _is_number(one)), 0)
    raise InputError(where, f"{field} is {_shown(value[bad])} at point {bad + 1}.", remedy)


def _is_number(value: Any) -> bool:
    """Whether a value is a number that is no truth value, and none of hundreds of digits."""
    try:
        return isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) and math.isfinite(float(value))
    except OverflowError:
        return False


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _shown(value: Any) -> str:
    """What stands where something else should, in short."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return "a list"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def example(model: Model | RunModel) -> dict[str, Any]:
    """A small pattern that the model can answer to: three lines above noise, over half of its axis."""
    grid = model.grid if isinstance(model, RunModel) else model.ensemble.grid
    low, middle, high = grid.angle_at(np.array([0.2, 0.45, 0.7]) * (grid.points - 1))
    angles = np.arange(low, high, EXAMPLE_STEP).round(2)
    lines = np.array([(low + middle) / 2, middle, (middle + high) / 2])
    counts = 30 + 1000 * np.exp(-(((angles[:, None] - lines) / (1.5 * EXAMPLE_STEP)) ** 2)).sum(axis=1)
    drawn = np.random.default_rng(0).poisson(counts).astype(float)
    return {ANGLES: angles.tolist(), INTENSITY: drawn.tolist(), WAVELENGTH: grid.wavelength}


def signature(model: Model | RunModel) -> ModelSignature:
    """What MLflow checks, and shows.

    Inputs are of any type, for MLflow's own check takes no whole numbers for a list of numbers, names no row, and looks
    at every number in Python; :func:`pattern_of` checks them.
    """
    text = ("crystal_system", "second_system", "flag", "reason")
    kinds = dict.fromkeys(text, DataType.string) | {INTENSITY: Array(DataType.double)}
    outputs = [ColSpec(kinds.get(name, DataType.double), name, required=False) for name in columns(model)]
    return ModelSignature(
        Schema([ColSpec(AnyType(), name, required=False) for name in FIELDS]),
        Schema(outputs),
        ParamSchema([ParamSpec("keep_angles", DataType.boolean, False)]),
    )


def save(folder: Path | None, output: Path, card: str = "", entry: Entry | None = None) -> None:
    """Writes a model as MLflow serves it.

    Args:
        folder: of a model that ``release`` made, or that :func:`.run_model.write_run_model` wrote; the model that comes
            with the software without it.
        output: the folder, which is made.
        card: its description, Markdown.
        entry: what MLflow knows of it already.

    Raises:
        InputError: if the folder holds no model, or the output can't be made.
    """
    if folder is None:
        from imitation_refinement.answer.model import folder_of

        folder = folder_of()
    model = read(folder)
    if output.exists():
        raise InputError(output, "is there already.", "Give a folder that is not.")
    with environment(SILENCE), TemporaryDirectory() as place:
        kept = Path(place) / FILES
        kept.mkdir()
        for name in _names(folder):
            shutil.copyfile(folder / name, kept / name)
        save_model(
            output,
            python_model=CODE,
            artifacts={FILES: str(kept)},
            signature=signature(model),
            input_example=pd.DataFrame([example(model)]),
            pip_requirements=[f"imitation-refinement[identify]=={__version__}"],
            mlflow_model=entry,
        )
    if card:
        (output / "README.md").write_text(card, encoding="utf-8")


def _names(folder: Path) -> list[str]:
    """The files of a model's folder that belong to the model, its record first."""
    record = _record_in(folder)
    digests = json.loads((folder / record).read_text(encoding="utf-8"))["digests"]
    return [record, *digests]


def _record_in(folder: Path) -> str:
    """The name of the record in a folder, of whichever kind of model."""
    if (folder / RUN_RECORD).is_file():
        return RUN_RECORD
    from imitation_refinement.answer.model import RECORD

    return RECORD


def log(client: Any, run_id: str, spec: Mapping[str, Any], folder: Path) -> str:
    """Logs a model of a run as a LoggedModel; one that was logged before is not logged again.

    Args:
        client: MLflow's.
        run_id: of the run that made it.
        spec: ``name``; ``files``, by their part: ``classifier`` (or several parts whose names begin so), ``refiner``,
            ``metadata`` (JSON, of which ``temperature`` counts where there is no refiner), as paths in ``folder``;
            and, each optional, ``card`` (Markdown), ``tags``, ``metrics``.
        folder: of the files.

    Returns:
        The LoggedModel's id.

    Raises:
        InputError: if the files are no model.
    """
    files = {part: folder / path for part, path in sorted(spec["files"].items())}
    digests = {f"{part}_sha256": digest(path) for part, path in files.items()}
    name = str(spec["name"])
    run = client.get_run(run_id)
    logged = _logged(client, run, name, digests)
    if logged is not None and logged.status == LoggedModelStatus.READY:
        return str(logged.model_id)
    card = str(spec.get("card", ""))
    with TemporaryDirectory() as place:
        made, output = Path(place) / "made", Path(place) / "output"
        classifiers = [path for part, path in files.items() if part.startswith("classifier")]
        write_run_model(made, name, classifiers, files.get("refiner"), _temperature(files))
        if logged is None:
            tags = {**dict(spec.get("tags") or {}), **digests, **({NOTE_TAG: card[:MOST_NOTE]} if card else {})}
            logged = client.create_logged_model(
                run.info.experiment_id, name, run_id, {key: str(value) for key, value in tags.items()}
            )
            client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        own = {"model_uuid": logged.model_id, "model_id": logged.model_id}
        save(made, output, card, Entry(artifact_path=logged.artifact_location, run_id=run_id, **own))
        client.log_model_artifacts(logged.model_id, str(output))
    now, given = int(time.time() * 1000), spec.get("metrics") or {}
    metrics = [Metric(key, float(value), now, 0, model_id=logged.model_id) for key, value in given.items()]
    if metrics:
        client.log_batch(run_id, metrics=metrics)
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    return str(logged.model_id)


def _logged(client: Any, run: Any, name: str, digests: Mapping[str, str]) -> Any:
    """The run's LoggedModel of a name and of these files, whole or begun; None if there is none."""
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    same = [one for one in found if one.name == name and digests.items() <= one.tags.items()]
    return min(same, key=lambda one: (one.status != LoggedModelStatus.READY, one.creation_timestamp), default=None)


def _temperature(files: Mapping[str, Path]) -> float | None:
    """Of a model without a refiner, where its metadata say it."""
    if "refiner" in files or "metadata" not in files:
        return None
    try:
        found = json.loads(files["metadata"].read_text(encoding="utf-8")).get("temperature")
        return None if found is None else float(found)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(files["metadata"], f"holds no metadata ({error}).", "Give JSON.") from None


@contextmanager
def fetched(uri: str, tracking_uri: str) -> Iterator[Path]:
    """The folder of a model's files, which were taken from a store; it goes when the block ends.

    Args:
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``runs:/RUN_ID/NAME``.
        tracking_uri: of the store.

    Raises:
        InputError: if the store can't be used, holds no such model, or not one of ours.
    """
    shown = without_login(tracking_uri)
    if (file := sqlite_file(tracking_uri)) is not None and not file.is_file():
        raise InputError(shown, "there is no such file.", "Correct MLFLOW_TRACKING_URI.")
    with environment({**SILENCE, **LIMITS, "MLFLOW_TRACKING_URI": tracking_uri}), TemporaryDirectory() as place:
        try:
            known = MlflowClient(tracking_uri, tracking_uri).search_registered_models(max_results=MOST_KNOWN)
        except Exception as error:  # of MLflow, of SQLAlchemy, of a driver, of what parses addresses
            raise refusal(error) from None
        aliases = ", ".join(f"models:/{one.name}@{alias}" for one in known for alias in sorted(one.aliases))
        remedy = f"Known there by an alias: {aliases or 'none'}."
        try:
            path = download_artifacts(
                artifact_uri=uri, dst_path=place, tracking_uri=tracking_uri, registry_uri=tracking_uri
            )
        except Exception as error:  # of MLflow, and of whatever keeps its artifacts
            raise InputError(uri, f"can't be taken from {shown} ({first_line(error)}).", remedy) from None
        folder = Path(path) / "artifacts" / FILES
        if not (folder / _record_in(folder)).is_file():
            raise InputError(uri, "is no model of this program.", remedy)
        yield folder


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a model to a folder that ``mlflow models serve`` takes."""
    parser = argparse.ArgumentParser(prog="python -m imitation_refinement.tracking.served", description=main.__doc__)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the folder, which is made")
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", help="that `release` made (default: the one that comes along)"
    )
    parser.add_argument("--run", type=Path, metavar="DIR", help="a finished run, whose refiner is taken instead")
    parser.add_argument("--name", metavar="NAME", help="of the run's refiner (default: the one the run selected)")
    given = parser.parse_args(argv)
    with exit_on_input_error(), TemporaryDirectory() as place:
        folder = given.model
        if given.run:
            classifier, refiner = run_files(given.run, given.name)
            folder = Path(place) / FILES
            write_run_model(folder, refiner.stem, [classifier], refiner)
        save(folder, given.output)
        say(f"model: {given.output}; serve it by `mlflow models serve -m {given.output} --env-manager local`")


if __name__ == "__main__":
    main()
