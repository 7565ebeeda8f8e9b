"""Train refiner: a U-Net on imperfect patterns, through the frozen classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.data.contracts import read_grid
from imitation_refinement.data.datasets import UNLABELLED, read_ideal, read_imperfect
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.learning.checkpoints import checkpoint_of
from imitation_refinement.learning.config import RefineConfig
from imitation_refinement.learning.model_files import model_tags, name_of
from imitation_refinement.learning.models import (
    apply,
    check_unseen,
    fit_temperature,
    load_classifier,
    probabilities,
    save_model,
)
from imitation_refinement.learning.training import Labelled, train_refiner
from imitation_refinement.learning.zero_error import with_zero_error
from imitation_refinement.progress import leads, say
from imitation_refinement.results.figures import training_curves_figure
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.vocabulary import Method, Variant
from imitation_refinement.xrd.grid import Grid


def run(paths: dict[str, Any], config: RefineConfig, tracker: Tracker) -> str:
    """Runs the stage; see :data:`STAGE` for the files. Killed and started again, it goes on from its checkpoint."""
    with checkpoint_of(paths["refiner"], tracker.name) as checkpoint:
        return _run(paths, config, tracker, checkpoint)


def _run(paths: dict[str, Any], config: RefineConfig, tracker: Tracker, checkpoint: Path) -> str:
    classifier, grid, _ = load_classifier(paths["classifier"])
    data = read_imperfect(paths["imperfect_dataset"], grid)
    check_unseen(paths["classifier"], data.rows["formula"][data.rows["split"] == "test"])
    learning, validation = data.select("train"), data.part("validation")
    assert learning.theory is not None, "an imperfect dataset has a theory column"
    train, theory, truth = (learning.intensity, learning.labels), learning.theory, validation[1]
    labelled = int((train[1] != UNLABELLED).sum())
    targeted = config.supervision.learns_from_labels
    if targeted and not labelled:
        raise InputError(
            paths["imperfect_dataset"],
            "no training pattern has a crystal_system, which targeted refinement learns from.",
            "Label some patterns, or train with supervision=non_targeted.",
        )
    rng = np.random.default_rng(config.optimiser.seed)
    if config.variant is Variant.SHUFFLED_LABELS:
        train, validation = ((x, shuffled(y, rng)) for x, y in (train, validation))
    if targeted and 0 < config.labelled < labelled:
        chosen = some_of_each(train[1], config.labelled, rng)
        train, theory = (train[0][chosen], train[1][chosen]), theory[chosen]
        labelled = len(chosen)
    config, found = with_zero_error(config, train[0], theory, grid)
    if found:
        say(f"zero error of 2θ: {found}")
    ideal = _ideal(paths, grid) if config.weights["ideal"] else None
    refiner, history = train_refiner(classifier, train, validation, config, tracker.log_metrics, checkpoint, ideal)
    if not leads():
        return ""
    n_train = labelled if targeted else len(train[1])
    # Only labels tell how sure to be; without them the classifier's own confidence stands.
    refined = apply(refiner, validation[0]) if len(validation[1]) else validation[0]
    calibrated = targeted and len(validation[1])
    temperature = fit_temperature(classifier, refined, validation[1]) if calibrated else 1.0
    about = {
        "training": config.model_dump(),
        "weights": config.weights,
        "method": Method.IR,
        "classifier": classifier.config.architecture,
        "classifier_sha256": digest(paths["classifier"]),
        "supervision": config.supervision,
        "variant": config.variant,
        "labelled": config.labelled,
        "n_train": n_train,
        "temperature": temperature,
        "zero_error": found and asdict(found),
        "history": history.metrics,
    }
    save_model(paths["refiner"], refiner, grid, about)
    tracker.log_figure(training_curves_figure(history.metrics), "training.png")
    files = {"classifier": paths["classifier"], "refiner": paths["refiner"]}
    tracker.log_model(name_of(paths["refiner"]), files, _card(about), model_tags(about))
    known = truth != UNLABELLED
    if not known.any():
        return f"{n_train} patterns learnt from"
    right = probabilities(classifier, refined[known]).argmax(1) == truth[known]
    return f"{100 * right.mean():.1f} % of {known.sum()} validation patterns right, {n_train} learnt from"


def _card(about: Mapping[str, Any]) -> str:
    """What the model is, for whoever finds it in MLflow."""
    how = f"{about['supervision'].label} ({about['variant'].label})"
    through = f"{about['classifier']} classifier, SHA-256 {about['classifier_sha256']}"
    return (
        "A refiner with the classifier that it was trained through: imperfect powder patterns in, patterns that look "
        f"like theory out, and their crystal system.\n\n- Imitation refinement, {how}; learnt from {about['n_train']} "
        f"patterns\n- {through}\n- Temperature of the probabilities: {about['temperature']:.3g}\n"
    )


def _ideal(paths: dict[str, Any], grid: Grid) -> Labelled:
    """The ideal patterns that classifiers learn from, too."""
    if "ideal_dataset" not in paths:
        raise InputError("variant with_ideal", "asks for ideal patterns, and none are given.", "Give --ideal-dataset.")
    read_grid(paths["ideal_dataset"], grid)
    return read_ideal(paths["ideal_dataset"], "train").part("train")


def shuffled(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The labels, shape (n,), dealt out anew among the patterns that have one."""
    out = labels.copy()
    known = labels != UNLABELLED
    out[known] = rng.permutation(labels[known])
    return out


def some_of_each(labels: NDArray[np.int64], number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of ``number`` labelled patterns drawn at random, one of every class first as far as they reach."""
    order = rng.permutation(np.flatnonzero(labels != UNLABELLED))
    _, first = np.unique(labels[order], return_index=True)
    rest = np.delete(order, first)
    return np.concatenate([order[np.sort(first)], rest])[:number]


STAGE = Stage(
    name="train_refiner",
    summary="Trains a U-Net that refines imperfect patterns, through a frozen classifier; targeted or non-targeted.",
    inputs={
        "classifier": "the classifier with its prototypes (safetensors)",
        "ideal_dataset": "gridded ideal patterns with their splits (Parquet), for the variant with_ideal",
        "imperfect_dataset": "gridded imperfect patterns with their splits (Parquet)",
    },
    outputs={"refiner": "the refiner (safetensors)"},
    config=RefineConfig,
    run=run,
    distributed=True,
    optional=frozenset({"ideal_dataset"}),
)
