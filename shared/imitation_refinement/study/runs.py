"""Finished runs as they were read: complete, in agreement with themselves, and of one experiment."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from imitation_refinement.errors import InputError
from imitation_refinement.files import is_file, parse_json, read_bytes
from imitation_refinement.options import config_error
from imitation_refinement.results.wording import block, learns_from_labels
from imitation_refinement.vocabulary import Architecture, Distance, Method, Supervision, Variant
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

# Options in which runs of one experiment may differ: the seed, and what changes how fast a run is but not its results.
PER_RUN = frozenset({"seed", "device", "compile", "workers", "threads", "shards", "shard"})
GENERATED = ("", "built-in")  # imperfect patterns that each seed draws for itself
AGAIN = "Run it again with `imitation-refinement run`."

IDENTITY = ("method", "pattern_id", "material", "crystal_system", "predicted")
# Fields of a row that are no measures of honesty; and the ends of those that are intervals and tests of one run alone.
COMPARISONS = frozenset(
    {"gain", "gain_over_baseline", "p_baseline", "gain_over_library", "p_library", "n_theory", *Distance}
)
OF_ONE_RUN = ("_low", "_high", "p_value")


class Row(BaseModel):
    """A row of ``results.json``, as far as it is needed here."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    method: Method
    classifier: Architecture | Literal[""] = ""
    supervision: Supervision | None = None
    variant: Variant = Variant.PLAIN
    labelled: int = 0
    n_train: int
    n_test: int
    accuracy: float
    best_baseline: str | None = None
    validation_accuracy: float | None = None
    calibration_error: float | None = None

    @model_validator(mode="after")
    def _whole(self) -> Row:
        if self.supervision is not None and not self.classifier:
            raise ValueError("a refiner's row must name its classifier")
        return self

    @property
    def in_table_1(self) -> bool:
        """Whether the row is a method of its own right: no ablation, no control, none with few labels."""
        return block(vars(self)).in_table_1

    @property
    def supervised(self) -> bool:
        """Whether the method learns from labels of imperfect patterns."""
        return learns_from_labels(vars(self))

    def measures(self) -> dict[str, float]:
        """What the row holds beyond accuracy, comparisons and distances: the measures of honesty."""
        extra = self.model_extra or {}
        return {
            key: float(value)
            for key, value in extra.items()
            if type(value) in (int, float) and key not in COMPARISONS and not key.endswith(OF_ONE_RUN)
        }


class Results(BaseModel):
    """``results.json``, as far as it is needed here."""

    model_config = ConfigDict(frozen=True, extra="allow")

    profile: str
    seed: int
    data: dict[str, dict[str, Any]]
    rows: list[Row] = Field(min_length=1)


@dataclass(frozen=True)
class Run:
    """A finished run as it was read.

    Attributes:
        folder: where it lies.
        results: its ``results.json``.
        options: its profile without seeds, flat: ``targeted.optimiser.epochs`` → 40.
        answers: one row a method and test pattern: ``method``, ``pattern_id``, ``material``, ``crystal_system``,
            ``predicted``, and the distances to theory, NaN where there are none.
    """

    folder: Path
    results: Results
    options: Mapping[str, Any]
    answers: pd.DataFrame

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.results.seed

    @cached_property
    def rows(self) -> dict[str, Row]:
        """The rows by name."""
        return {row.name: row for row in self.results.rows}


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads finished runs of one experiment, in the order of their seeds.

    Raises:
        InputError: if a run is not finished or contradicts itself, two have the same seed, or they differ in profile,
            data or methods.
    """
    if not folders:
        raise InputError("tables", "no run is given.", "Name the folders of finished runs, as runs/latest.")
    runs = sorted((read_run(Path(folder)) for folder in folders), key=lambda run: run.seed)
    for before, run in pairwise(runs):
        if before.seed == run.seed:
            raise InputError(run.folder, f"has seed {run.seed}, as {before.folder} has.", "Give one run a seed.")
    for run in runs[1:]:
        _check_same(runs[0], run)
    return runs


def read_run(folder: Path) -> Run:
    """Reads one finished run.

    Raises:
        InputError: if a file is missing or can't be used, or answers and results disagree.
    """
    try:
        results = Results.model_validate(_json(folder, "results.json"))
    except ValidationError as error:
        raise config_error(folder / "results.json", error) from None
    profile = _json(folder, "profile.json")
    run = Run(folder, results, dict(_flat(profile)), _answers(folder / "predictions.csv"))
    if len(run.rows) != len(results.rows):
        raise InputError(folder / "results.json", "holds two rows of one name.", AGAIN)
    _check_answers(run)
    return run


def _json(folder: Path, name: str) -> Any:
    path = folder / name
    if not is_file(path):
        raise InputError(
            folder, f"holds no {name}: no finished run.", "Give the folder of a finished run, as runs/latest."
        )
    try:
        return parse_json(read_bytes(path))
    except ValueError as error:
        raise InputError(path, f"is no JSON ({error}).", AGAIN) from None


def _flat(options: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Options without :data:`PER_RUN`, by dotted name."""
    if not isinstance(options, dict):
        return [(prefix.removesuffix("."), options)]
    return [pair for key, value in options.items() if key not in PER_RUN for pair in _flat(value, f"{prefix}{key}.")]


def _answers(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header = next(csv.reader(stream), [])
        if missing := [name for name in (*IDENTITY, *Distance) if name not in header]:
            raise InputError(path, f"has no column {missing[0]}: an older version wrote it.", AGAIN)
        # Only an empty field is missing: NaN and NA may be formulas.
        answers = pd.read_csv(
            path,
            usecols=[*IDENTITY, *Distance],
            dtype=dict.fromkeys(IDENTITY, "str") | dict.fromkeys(Distance, "float64"),
            keep_default_na=False,
            na_values={metric: [""] for metric in Distance},
        )
    except OSError:
        raise InputError(
            path.parent, f"holds no {path.name}: no finished run.", "Give the folder of a finished run, as runs/latest."
        ) from None
    except ValueError as error:
        raise InputError(path, f"can't be read ({error}).", AGAIN) from None
    for column in ("crystal_system", "predicted"):
        if unknown := sorted(set(answers[column]) - {str(system) for system in CRYSTAL_SYSTEMS}):
            raise InputError(path, f"column {column} holds {unknown[0]!r}, which is no crystal system.", AGAIN)
    return answers


def _check_answers(run: Run) -> None:
    """Every row has its answers, to the same patterns, and they add up to its accuracy."""
    path = run.folder / "predictions.csv"
    groups = dict(list(run.answers.groupby("method")))
    first: pd.DataFrame | None = None
    for name, row in run.rows.items():
        given = groups.get(name)
        if given is None:
            raise InputError(path, f"holds no answers of {name}, a row of results.json.", AGAIN)
        if len(given) != row.n_test:
            raise InputError(path, f"holds {len(given)} answers of {name}, results.json {row.n_test}.", AGAIN)
        truth = given.set_index("pattern_id")[["material", "crystal_system"]].sort_index()
        if not truth.index.is_unique:
            raise InputError(path, f"answers a pattern twice for {name}.", AGAIN)
        first = truth if first is None else first
        if not truth.equals(first):
            raise InputError(path, f"holds answers of {name} to other patterns than those of the first row.", AGAIN)
        if row.best_baseline and row.best_baseline not in run.rows:
            raise InputError(run.folder / "results.json", f"has no row {row.best_baseline}, which {name} names.", AGAIN)
        accuracy = float((given["predicted"] == given["crystal_system"]).mean())
        if abs(accuracy - row.accuracy) > 1e-6:
            raise InputError(
                path, f"gives {name} an accuracy of {accuracy:.4f}, results.json {row.accuracy:.4f}.", AGAIN
            )


def _check_same(first: Run, run: Run) -> None:
    """Two runs differ in their seed only."""
    if first.results.profile != run.results.profile:
        problem = f"is of profile {run.results.profile}, {first.folder} of {first.results.profile}."
        raise InputError(run.folder, problem, "Gather runs of one profile.")
    names = [*first.options, *(name for name in run.options if name not in first.options)]
    missing = "not set"
    differing = [
        f"{name} is {run.options.get(name, missing)}, not {first.options.get(name, missing)}"
        for name in names
        if run.options.get(name, missing) != first.options.get(name, missing)
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        problem = f"has other options than {first.folder}: {'; '.join(differing[:3])}{more}."
        raise InputError(run.folder, problem, "Gather runs that differ in their seed only.")
    here, there = _sources(run), _sources(first)
    if here != there:
        name = next(name for name in (*there, *here) if here.get(name) != there.get(name))
        problem = f"has other data than {first.folder}: {name} is {here.get(name)}, not {there.get(name)}."
        raise InputError(run.folder, problem, "Gather runs on the same data.")
    if first.rows.keys() != run.rows.keys():
        name = min(first.rows.keys() ^ run.rows.keys())
        has, lacks = (run, first) if name in run.rows else (first, run)
        raise InputError(lacks.folder, f"holds no row {name}, which {has.folder} holds.", "Gather runs of one study.")
    if not _generated(run):
        _check_same_patterns(first, run)


def _generated(run: Run) -> bool:
    return str(run.results.data.get("imperfect", {}).get("source", "")) in GENERATED


def _sources(run: Run) -> dict[str, Any]:
    """What the data record says of where data came from. Digests and counts of *split* tables differ by seed.

    So do classifiers that were taken from another run: each seed has its own.
    """
    return {
        f"{name}.{key}": value
        for name, facts in run.results.data.items()
        if name != "classifiers"
        for key, value in facts.items()
        if key != "sha256" and not key.startswith("n_") and not (key == "source" and "source_sha256" in facts)
    }


def _check_same_patterns(first: Run, run: Run) -> None:
    """What both were tested on is the same in both, and the whole is as large."""
    counts = [
        sum(v for k, v in r.results.data.get("imperfect", {}).items() if k.startswith("n_")) for r in (first, run)
    ]
    if counts[0] != counts[1]:
        problem = f"has {counts[1]} imperfect patterns, {first.folder} {counts[0]}."
        raise InputError(run.folder, problem, "Gather runs on the same data.")
    truths = [r.answers.drop_duplicates("pattern_id").set_index("pattern_id") for r in (first, run)]
    here, there = (t[["material", "crystal_system"]] for t in truths)
    both = here.index.intersection(there.index)
    differs = (here.loc[both] != there.loc[both]).any(axis=1)
    if differs.any():
        problem = f"has another material or system for pattern {both[differs][0]} than {first.folder}."
        raise InputError(run.folder, problem, "Gather runs on the same data.")
