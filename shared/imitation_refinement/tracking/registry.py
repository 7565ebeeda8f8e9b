"""The registry of models: what training made becomes a version, and after the gate champion or challenger.

The alias ``champion`` names one version. Two runs that end at the same time must not both take it from a third, and a
store has no lock; so a version is a ticket. It is made with its gate open, its number is the store's to give, and who
holds an open one waits for those before it, decides against the champion that they left, writes, and looks again: the
champion is the newest version whose gate says so. Who was taken for dead meanwhile finds its gate closed, and writes
nothing. What a person sets by hand stays until a later version beats it.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from imitation_refinement.errors import InputError
from imitation_refinement.results.gate import (
    CHALLENGER,
    CHAMPION,
    FIRST,
    Answers,
    Reason,
    against_champion,
    answers_of,
    other_data,
)
from imitation_refinement.tracking.pipeline_run import PARENT_TAG
from imitation_refinement.tracking.store import DIGEST, log_inputs, with_links

PATIENCE_S = 60.0  # for a registration that began before; one that is not done then is taken for dead
PAUSE_S = 0.2
GATE, OPEN = "gate", "open"  # the tag of a version that says what it is, and its value until that is decided
PREDICTIONS = "predictions.csv"  # of the run that evaluated a version
MOST = 5000  # characters of a version's tag that MLflow keeps


@dataclass(frozen=True)
class Evidence:
    """What ``evaluate`` knows of the model that it selected.

    Attributes:
        model: of the registry, the name.
        method: the row of the results, and of ``predictions.csv``.
        tested: the digest of the test part; see :func:`~imitation_refinement.results.gate.tested_digest`.
        reasons: what the gate found, but for the champion.
        metrics: of the test part.
        card: description of the version, Markdown.
        tags: what else the version is found by.
        seed: of the bootstrap.
    """

    model: str
    method: str
    tested: str
    reasons: tuple[Reason, ...]
    metrics: Mapping[str, float]
    card: str
    tags: Mapping[str, str]
    seed: int

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Evidence:
        """What a journal kept of :func:`dataclasses.asdict`."""
        return cls(**{**found, "reasons": tuple(Reason(**reason) for reason in found["reasons"])})


def register(client: Any, run_id: str, data: Mapping[str, Any], folder: Path) -> str:
    """Registers the model that a run selected, and moves the aliases; again, it goes on where it was cut.

    Args:
        client: MLflow's client of the store; the whole run is in it, ``predictions.csv`` among its artifacts.
        run_id: of the run that evaluated the model.
        data: of the journal's event: ``evidence``, :class:`Evidence`; the model's ``files`` and their ``sha256``.
        folder: of the journal.

    Returns:
        What became of it, in a line.
    """
    known = Evidence.from_json(data["evidence"])
    version = _version(client, run_id, known, data, folder)
    _link(client, version)
    if version.tags[GATE] == OPEN:
        _wait_for_those_before(client, known.model, int(version.version))
        _decide(client, known, version)
    _look_again(client, known.model, int(version.version))
    version = client.get_model_version(known.model, version.version)
    return f"{known.model}, version {version.version}: {version.tags[GATE]}"


def _version(client: Any, run_id: str, known: Evidence, data: Mapping[str, Any], folder: Path) -> Any:
    """The version of this model with this test, found, or made with its gate open."""
    from mlflow import MlflowException

    model = _logged(client, run_id, known, data, folder)
    source = f"models:/{model.model_id}"
    for version in _versions(client, known.model):
        if version.source == source and version.tags.get("tested_sha256") == known.tested:
            return version
    _log_numbers(client, run_id, model, known)
    try:
        client.create_registered_model(known.model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {
        **known.tags,
        **{f"reason.{reason.about}": _said(reason) for reason in known.reasons},
        "method": known.method,
        "tested_sha256": known.tested,
        "evaluated_by": run_id,
        GATE: OPEN,
    }
    made = client.create_model_version(
        known.model,
        source,
        run_id=model.source_run_id,
        tags=tags,
        description=with_links(known.card, client.get_run(run_id)),
        model_id=model.model_id,
    )
    return client.get_model_version(known.model, made.version)


def _link(client: Any, version: Any) -> None:
    """A model's page names its versions: a server sees to that, a store without one does not."""
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    model = client.get_logged_model(version.source.removeprefix("models:/"))
    known = json.loads(model.tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    own = {"name": version.name, "version": str(version.version)}
    if own not in ({**one, "version": str(one["version"])} for one in known):
        client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: json.dumps([*known, own])})


def _logged(client: Any, run_id: str, known: Evidence, data: Mapping[str, Any], folder: Path) -> Any:
    """The model that training logged, by its files' digests; logged now, from the journal, where none did."""
    digests = {f"{name}_sha256": str(sha) for name, sha in data["sha256"].items()}
    condition = " and ".join(f"tags.{name} = '{sha}'" for name, sha in sorted(digests.items()))
    run = client.get_run(run_id)
    experiment, whole = run.info.experiment_id, run.data.tags.get(PARENT_TAG)

    def found() -> list[Any]:
        # A refiner's classifier is a model of its own, too: only what has these files and no other.
        return [
            model
            for model in client.search_logged_models([experiment], condition)
            if {key for key in model.tags if key.endswith("_sha256")} == set(digests) and str(model.status) == "READY"
        ]

    models = found()
    if not models:
        served = importlib.import_module("imitation_refinement.tracking.served")
        spec = {"name": known.method, "card": known.card, "tags": dict(known.tags), "metrics": {}}
        served.log(client, run_id, {**spec, "files": data["files"], "sha256": data["sha256"]}, folder)
        models = found()

    def of_this_run(model: Any) -> bool:
        """Another run of the same options makes the same files."""
        made_by = model.source_run_id
        if not whole or not made_by:
            return False
        return made_by == run_id or client.get_run(made_by).data.tags.get(PARENT_TAG) == whole

    return max(models, key=lambda model: (of_this_run(model), model.creation_timestamp))


def _log_numbers(client: Any, run_id: str, model: Any, known: Evidence) -> None:
    """The model gets the last numbers of its training, and those of the test part with that data set's digest."""
    from mlflow.entities import Dataset, Metric

    there = {(metric.key, metric.step) for metric in model.metrics or []}
    if model.source_run_id and model.source_run_id != run_id:
        curves = [client.get_metric_history(model.source_run_id, key) for key in _curves(client, model)]
        last = [max(curve, key=lambda m: (m.step, m.timestamp)) for curve in curves]
        fresh = [
            Metric(m.key, m.value, m.timestamp, m.step, model_id=model.model_id)
            for m in last
            if (m.key, m.step) not in there
        ]
        if fresh:
            client.log_batch(model.source_run_id, metrics=fresh)
    digest, now = known.tested[:DIGEST], int(time.time() * 1000)
    data = Dataset("imperfect test part", digest, "named", known.tags.get("imperfect", "imperfect"))
    log_inputs(client, run_id, [(data, "test")], [model.model_id])
    own = [
        Metric(f"test_{key}", value, now, 0, model_id=model.model_id, dataset_name=data.name, dataset_digest=digest)
        for key, value in known.metrics.items()
    ]
    client.log_batch(run_id, metrics=own)


def _curves(client: Any, model: Any) -> list[str]:
    """The numbers by epoch of a model's training; those of the machine are none of its own."""
    metrics = client.get_run(model.source_run_id).data.metrics
    return [key for key in metrics if not key.startswith("system/")]


def _wait_for_those_before(client: Any, model: str, number: int) -> None:
    """Until no earlier version has its gate open; the gates of those that take too long are closed."""
    end = time.monotonic() + PATIENCE_S
    while earlier := [v for v in _versions(client, model) if int(v.version) < number and v.tags.get(GATE) == OPEN]:
        if time.monotonic() > end:
            for version in earlier:
                _take_for_dead(client, model, str(version.version))
            return
        time.sleep(PAUSE_S)


def _take_for_dead(client: Any, model: str, version: str) -> None:
    """Closes the gate of a version whose registration did not come to an end; it may have set its alias before."""
    if _champion(client, model) == version:
        client.set_model_version_tag(model, version, GATE, CHAMPION)
        return
    words = "✗ Its registration did not come to an end; what it would have been is not known."
    client.set_model_version_tag(model, version, "reason.champion", words)
    client.set_model_version_tag(model, version, GATE, CHALLENGER)


def _decide(client: Any, known: Evidence, version: Any) -> None:
    """Sets the alias of a version, and then closes its gate: who waits for that finds the alias."""
    champion, alias = _champion(client, known.model), CHAMPION
    if champion != str(version.version):  # else it was cut before its gate was closed
        against = _against(client, known, version, champion)
        alias = CHAMPION if all(reason.kept for reason in (*known.reasons, against)) else CHALLENGER
        if client.get_model_version(known.model, version.version).tags.get(GATE) != OPEN:
            return  # it took so long that a later one closed it
        client.set_model_version_tag(known.model, version.version, "reason.champion", _said(against))
        client.set_registered_model_alias(known.model, alias, version.version)
    client.set_model_version_tag(known.model, version.version, GATE, alias)


def _champion(client: Any, model: str) -> str | None:
    found = client.get_registered_model(model).aliases.get(CHAMPION)
    return None if found is None else str(found)


def _against(client: Any, known: Evidence, version: Any, champion: str | None) -> Reason:
    """How a version does beside the champion, whose answers its own run has."""
    if champion is None:
        return FIRST
    other, name = client.get_model_version(known.model, champion), f"version {champion}"
    if other.tags.get("tested_sha256") != known.tested:
        return other_data(name)
    try:
        own, its = _answers(client, version, "this version"), _answers(client, other, name)
    except InputError as error:
        return Reason("champion", False, f"It can't be compared with the champion, {name}: {error}")
    return against_champion(own, its, known.seed)


def _answers(client: Any, version: Any, name: str) -> Answers:
    """A version's answers to the test part, from the run that evaluated it.

    Raises:
        InputError: if that run has none, or no more.
    """
    from mlflow import MlflowException

    run_id, method = version.tags.get("evaluated_by", ""), version.tags.get("method", "")
    where = f"{PREDICTIONS} of run {run_id}"
    with TemporaryDirectory() as folder:
        try:
            table = pd.read_csv(client.download_artifacts(run_id, PREDICTIONS, folder), dtype={"pattern_id": str})
        except (MlflowException, OSError) as error:
            raise InputError(where, f"can't be read ({error}).", "Set the champion by hand.") from None
    own = table[table["method"] == method]
    if not len(own):
        raise InputError(where, f"has no answers of {method}.", "Set the champion by hand.")
    columns = {key: own[key].tolist() for key in ("pattern_id", "crystal_system", "predicted")}
    return answers_of(name, columns, version.tags.get("tested_sha256", ""), where)


def _look_again(client: Any, model: str, number: int) -> None:
    """After a version became champion: the newest of it and those after it that did is the one, whoever wrote last."""
    while True:
        found = [int(v.version) for v in _versions(client, model) if v.tags.get(GATE) == CHAMPION]
        if number not in found or _champion(client, model) == str(max(found)):
            return
        client.set_registered_model_alias(model, CHAMPION, str(max(found)))


def _versions(client: Any, model: str) -> list[Any]:
    return list(client.search_model_versions(f"name = '{model}'"))


def _said(reason: Reason) -> str:
    return f"{'✓' if reason.kept else '✗'} {reason.words}"[:MOST]
