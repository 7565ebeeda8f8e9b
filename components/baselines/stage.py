"""Baselines: what can be done with an imperfect pattern without a network.

Denoised patterns (DWT) come in the form of the imperfect dataset with other intensities. Majority class, nearest
neighbour and search-match give no more than an answer to each pattern. No choice is made on the test part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.baselines.config import BaselinesConfig
from components.baselines.dwt import dwt_denoise, search
from components.baselines.nearest import nearest
from components.baselines.search_match import search_match
from imitation_refinement.data.contracts import ANSWERS, gridded_schema, read_sources, with_sources, write_table
from imitation_refinement.data.datasets import UNLABELLED, Dataset, read_imperfect
from imitation_refinement.files import write_text
from imitation_refinement.progress import say, warn
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.vocabulary import Kind, Method
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

Answers = dict[Method, NDArray[np.str_]]


def run(paths: dict[str, Any], config: BaselinesConfig, tracker: Tracker) -> str:
    """Runs the stage; see :data:`STAGE` for the files."""
    data = read_imperfect(paths["imperfect_dataset"])
    _denoise(data, paths, config, tracker)
    answers: Answers = {}
    for baseline in BASELINES:
        answers |= baseline(data, paths["ideal_dataset"], config)
    answers |= search_match(data, paths["library"], paths["ideal_dataset"])
    identifiers = data.rows["pattern_id"]
    table = pd.concat(
        [pd.DataFrame({"pattern_id": identifiers, "method": m, "crystal_system": a}) for m, a in answers.items()]
    )
    schema = with_sources(ANSWERS, read_sources(paths["imperfect_dataset"]))
    write_table(paths["answers"], table[table["crystal_system"] != ""], schema)
    labelled = (data.rows["split"] == "validation").to_numpy() & (data.labels != UNLABELLED)
    truth = data.rows["crystal_system"].to_numpy()
    if not labelled.any():
        return f"{len(data.rows)} patterns denoised"
    asked = {method: answer for method, answer in answers.items() if answer[labelled].all()}
    right = {method: float(np.mean(answer[labelled] == truth[labelled])) for method, answer in asked.items()}
    tracker.log_metrics({f"{method}.validation_accuracy": share for method, share in right.items()})
    for method, share in right.items():
        say(f"{method}: {100 * share:.1f} % of the validation part right")
    return f"{100 * right[Method.NEAREST]:.1f} % of {labelled.sum()} validation patterns right by the nearest neighbour"


def _denoise(data: Dataset, paths: dict[str, Any], config: BaselinesConfig, tracker: Tracker) -> None:
    """Writes the denoised patterns and how they were chosen."""
    assert data.theory is not None
    scale, trial = data.rows["scale"].to_numpy(), (data.rows["split"] == "validation").to_numpy()
    chosen, table = search(data.intensity[trial], scale[trial], data.theory[trial], config.dwt)
    write_text(paths["search"], table.to_csv(index=False))
    tracker.log_artifact(paths["search"], name="dwt_search.csv")
    tracker.log_params({"dwt_chosen": asdict(chosen)})
    row = table[table["chosen"]].iloc[0]
    what = f"{chosen.wavelet}, level {chosen.level}, {chosen.rule}, Anscombe {'on' if chosen.anscombe else 'off'}"
    if np.isnan(row["median_l2"]):
        warn(f"dwt: no validation pattern has a theory; the first candidate is used UNTRIED: {what}")
    else:
        tracker.log_metrics({"dwt.validation_l2": row["median_l2"], "dwt.validation_l2_to_raw": row["to_raw"]})
        say(f"dwt: {what}, the best of {len(table)}; median ℓ2 to theory {row['to_raw']:.3f} of raw on validation")
    columns = {str(name): data.rows[name].to_numpy(object) for name in data.rows}
    columns["intensity"] = dwt_denoise(data.intensity, scale, chosen)
    schema = with_sources(gridded_schema(data.grid), read_sources(paths["imperfect_dataset"]))
    write_table(paths["dwt"], columns, schema)


def majority(data: Dataset, library: Path, config: BaselinesConfig) -> Answers:
    """The most frequent crystal system of the training part as everybody's, shape (n,); nothing without a label."""
    labels = data.labels[(data.rows["split"] == "train").to_numpy() & (data.labels != UNLABELLED)]
    if not len(labels):
        warn("no training pattern has a crystal_system; there is no majority class to answer with")
        return {}
    return {Method.MAJORITY: np.full(len(data.rows), str(CRYSTAL_SYSTEMS[np.bincount(labels).argmax()]))}


def nearest_neighbours(data: Dataset, library: Path, config: BaselinesConfig) -> Answers:
    """The crystal system of the most similar ideal pattern; see :func:`~components.baselines.nearest.nearest`."""
    return nearest(data.intensity, data.grid, library, config.nearest)


# What answers without a network: each is given the imperfect dataset, the ideal one's path, and the options, and says
# the crystal system of every pattern, shape (n,), by method.
BASELINES: tuple[Callable[[Dataset, Path, BaselinesConfig], Answers], ...] = (
    majority,
    nearest_neighbours,
)

STAGE = Stage(
    name="baselines",
    summary="Denoises imperfect patterns by wavelets (DWT); answers by majority, nearest neighbour and search-match.",
    inputs={
        "imperfect_dataset": "gridded imperfect patterns with their splits (Parquet)",
        "ideal_dataset": "gridded ideal patterns with their splits, the library of nearest neighbours (Parquet)",
        "library": "lines of the structures, the library of search-match, of one simulation or of all shards (Parquet)",
    },
    outputs={
        "dwt": "the imperfect patterns, denoised; without their theory (Parquet)",
        "answers": "crystal system of each imperfect pattern (by search-match, of the test part) by "
        + ", ".join(method for method in Method if method.kind is Kind.ANSWERS)
        + " (Parquet)",
        "search": "every candidate of the wavelet denoising and how it did on the validation part (CSV)",
    },
    config=BaselinesConfig,
    run=run,
    lists=frozenset({"library"}),
)
