"""A finished run once more, by its own configuration and sources: which of its numbers come out the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from imitation_refinement.errors import InputError
from imitation_refinement.files import parse_json, read_bytes
from imitation_refinement.options import StageConfig, config_error
from imitation_refinement.running.launch import environment
from imitation_refinement.running.revision import changed, revision
from imitation_refinement.tracking.pipeline_run import PARENT_TAG
from pipelines.local import DATABASE, RUN, run_locally, source_digests, store_of, tracking_uri
from pipelines.profiles import Profile
from pipelines.records import Runner, RunRecord

RESULTS, PROFILE = "results.json", "profile.json"
ANYWAY = "--anyway"


@dataclass(frozen=True)
class Finished:
    """A finished run as it was kept.

    Attributes:
        name: what it was asked for by.
        profile: every option.
        sources: what it was given.
        digests: SHA-256 of those that are files, by path.
        runner: what its tasks were.
        results: its ``results.json``.
    """

    name: str
    profile: Profile
    sources: Mapping[str, str]
    digests: Mapping[str, str]
    runner: Runner
    results: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """A number that came out another: of which row, which one, before and now; None where it is missing."""

    row: str
    field: str
    before: Any
    now: Any


@dataclass(frozen=True)
class Comparison:
    """What came out of a run done again.

    Attributes:
        folder: of the new run.
        numbers: how many were compared, row by row.
        differences: those that are not the same to the bit.
    """

    folder: Path
    numbers: Mapping[str, int]
    differences: tuple[Difference, ...]

    def lines(self) -> list[str]:
        """For a person: each row, and each number that differs."""
        found = []
        for row, total in self.numbers.items():
            own = [d for d in self.differences if d.row == row]
            found.append(f"{row}: {total - len(own)} of {total} numbers agree")
            found += [f"  {d.field}: {_shown(d.before)} before, {_shown(d.now)} now" for d in own]
        total = sum(self.numbers.values())
        same = total - len(self.differences)
        return [*found, f"{same} of {total} numbers agree" if self.differences else f"all {total} numbers agree"]


def reproduce(run: str, runs: Path, anyway: bool = False, verbose: bool = False) -> Comparison:
    """Runs a finished run again and compares.

    Args:
        run: its folder, or the id of its run in MLflow or of one below it.
        runs: the folder of all runs, for the new one.
        anyway: whether to go on where revision or data are not the same.
        verbose: whether a person sees all that is said.

    Raises:
        InputError: if the run is not known or not finished, or what would run is another program or has other data.
        TaskFailed: if a task fails otherwise.
    """
    known = read_folder(Path(run)) if Path(run).is_dir() else read_tracked(run, runs)
    if not anyway and (others := [*_other_revision(known), *_other_data(known)]):
        raise InputError(run, " ".join(others), f"Bring these back, or compare all the same with {ANYWAY}.")
    folder = run_locally(known.profile, known.sources, runs, known.runner, verbose)
    return compare(known.results, json.loads((folder / RESULTS).read_text(encoding="utf-8")), folder)


def compare(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> Comparison:
    """The numbers of two runs' rows, one by one, and which model was selected."""
    rows: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for side, results in enumerate((before, now)):
        for row in results["rows"]:
            rows.setdefault(row["name"], ({}, {}))[side].update(_numbers(row))
        rows.setdefault("selected", ({}, {}))[side]["name"] = results["selected"]
    differences = [
        Difference(name, field, old.get(field), new.get(field))
        for name, (old, new) in rows.items()
        for field in dict.fromkeys([*old, *new])
        if field not in old or field not in new or old[field] != new[field]
    ]
    numbers = {name: len(old.keys() | new.keys()) for name, (old, new) in rows.items()}
    return Comparison(folder, numbers, tuple(differences))


def read_folder(folder: Path, name: str = "") -> Finished:
    """A finished run by its folder.

    Raises:
        InputError: if it is none, or was made by an earlier version.
    """
    found = {}
    for file in (PROFILE, RUN, RESULTS):
        if not (folder / file).is_file():
            problem = f"is no finished run that can be done again: it has no {file}."
            raise InputError(name or folder, problem, "Name the folder of a finished run, as runs/latest.")
        try:
            found[file] = parse_json(read_bytes(folder / file))
        except ValueError as error:
            raise InputError(folder / file, f"is no JSON ({error}).", "Bring it back, or run it anew.") from None
    where = name or str(folder)
    profile: Profile = _checked(Profile, found[PROFILE], f"{where}/{PROFILE}")
    record: RunRecord = _checked(RunRecord, found[RUN], f"{where}/{RUN}")
    return Finished(where, profile, record.sources, record.digests, record.runner, found[RESULTS])


def _checked(kind: type[StageConfig], found: Any, where: str) -> Any:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise config_error(where, error) from None


def read_tracked(run_id: str, runs: Path) -> Finished:
    """A finished run by what MLflow has of it: the server's that MLFLOW_TRACKING_URI names, or the store beside runs.

    Raises:
        InputError: if there is no such run, or MLflow has not all of it.
    """
    store = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri(runs)
    if store == tracking_uri(runs):
        if not (runs / DATABASE).exists():
            problem = f"is no folder, and there is no store of runs in {runs}."
            raise InputError(run_id, problem, "Name a run's folder, or the folder of all runs with --output.")
        store_of(runs)
    import mlflow
    from mlflow import MlflowException

    client = mlflow.MlflowClient(store)
    try:
        whole = client.get_run(run_id)
        while parent := whole.data.tags.get(PARENT_TAG):
            whole = client.get_run(parent)
        condition = f"tags.{PARENT_TAG} = '{whole.info.run_id}' and tags.stage = 'evaluate'"
        evaluated = client.search_runs([whole.info.experiment_id], condition)
        with TemporaryDirectory() as folder, environment({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}):
            for run, names in ((whole, (PROFILE, RUN)), *((run, (RESULTS,)) for run in evaluated[:1])):
                there = {item.path for item in client.list_artifacts(run.info.run_id)}
                for name in there.intersection(names):
                    client.download_artifacts(run.info.run_id, name, folder)
            return read_folder(Path(folder), f"run {run_id}")
    except MlflowException as error:
        problem = f"is no folder, and MLflow does not give such a run ({str(error).partition(chr(10))[0]})."
        raise InputError(run_id, problem, "Name a run's folder, or a run's id as MLflow shows it.") from None


def _other_revision(known: Finished) -> Iterator[str]:
    then, now = known.results.get("revision"), revision()
    if then is None:
        yield "does not say which revision made it."
    elif then != now:
        yield f"was made by revision {then}, this is {now}."
    elif changed(now):
        yield f"was made by {now}: which changes these were is not known."


def _other_data(known: Finished) -> Iterator[str]:
    now = source_digests({name: path for name, path in known.sources.items() if path and Path(path).exists()})
    for path, before in known.digests.items():
        if path not in now:
            yield f"{path} is not there any more."
        elif now[path] != before:
            yield f"{path} has other content: SHA-256 {now[path][:12]}…, it was {before[:12]}…."


def _numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All numbers in a row by their names, and where one is missing."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{prefix}[{index}]")
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield prefix, value


def _shown(value: Any) -> str:
    return "–" if value is None else repr(value)
