"""Pretrain classifier: on ideal patterns only, or with flaws put on them as the augmented baseline."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imitation_refinement.data.contracts import read_grid
from imitation_refinement.data.datasets import read_ideal
from imitation_refinement.errors import InputError
from imitation_refinement.files import writing
from imitation_refinement.learning.augmentation import Augmentation
from imitation_refinement.learning.checkpoints import checkpoint_of
from imitation_refinement.learning.config import PretrainConfig
from imitation_refinement.learning.model_files import model_name, model_tags, name_of
from imitation_refinement.learning.models import load_classifier, save_model
from imitation_refinement.learning.training import train_classifier
from imitation_refinement.progress import leads
from imitation_refinement.results.figures import training_curves_figure
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import Tracker

ANOTHER_SEED = 1000


def run(paths: dict[str, Any], config: PretrainConfig, tracker: Tracker) -> str:
    """Runs the stage; see :data:`STAGE` for the files. Killed and started again, it goes on from its checkpoint."""
    if "classifiers" in paths:
        return _take(paths, config, tracker)
    with checkpoint_of(paths["classifier"], tracker.name) as checkpoint:
        return _run(paths, config, tracker, checkpoint)


def _take(paths: dict[str, Any], config: PretrainConfig, tracker: Tracker) -> str:
    """The classifier that another run trained in this one's place, if it is what this would be and fits the data."""
    given = (
        Path(paths["classifiers"]) / "models" / f"{model_name(config.network.architecture, config.method)}.safetensors"
    )
    model, grid, about = load_classifier(given)
    found, wanted = (about.get("method"), model.config.architecture), (config.method, config.network.architecture)
    if found != wanted:
        raise InputError(given, f"is {found[1]}, {found[0]}, not {wanted[1]}, {wanted[0]}.", "Give that classifier.")
    if grid != (expected := read_grid(paths["ideal_dataset"])):
        raise InputError(given, f"is on the grid {grid}, the patterns on {expected}.", "Simulate on its grid.")
    with writing(paths["classifier"]) as temporary:
        shutil.copyfile(given, temporary)
    _log(paths["classifier"], about, f"Taken as it is from {given}.", tracker)
    return f"taken from {given} as it is"


def _log(path: Path, about: Mapping[str, Any], how: str, tracker: Tracker) -> None:
    card = f"A classifier of the seven crystal systems ({about['method']}), from ideal powder patterns. {how}\n"
    tracker.log_model(name_of(path), {"classifier": path}, card, model_tags(about))


def _run(paths: dict[str, Any], config: PretrainConfig, tracker: Tracker, checkpoint: Path) -> str:
    if config.method == "standard":
        optimiser = config.optimiser.model_copy(update={"seed": config.optimiser.seed + ANOTHER_SEED})
        config = config.model_copy(update={"prototype_weight": 0.0, "optimiser": optimiser})
    data = read_ideal(paths["ideal_dataset"], "train")
    train, validation = data.part("train"), read_ideal(paths["ideal_dataset"], "validation").part("validation")
    augmentation = Augmentation(data.grid, config.ranges, config.profile) if config.method == "augmented" else None
    model, history = train_classifier(train, validation, config, tracker.log_metrics, checkpoint, augmentation)
    if not leads():
        return ""
    about = {
        "training": config.model_dump(),
        "method": config.method,
        "n_train": len(train[1]),
        "history": history.metrics,
    }
    save_model(paths["classifier"], model, data.grid, about, data.rows["formula"])
    tracker.log_figure(training_curves_figure(history.metrics), "training.png")
    _log(paths["classifier"], about, f"Learnt from {len(train[1])} patterns.", tracker)
    right = 100 * history.metrics["validation_accuracy"][-1]
    return f"{right:.1f} % of {len(validation[1])} ideal validation patterns right, {len(train[1])} learnt from"


STAGE = Stage(
    name="pretrain_classifier",
    summary="Trains a classifier of the seven crystal systems, with a prototype each, on ideal patterns only.",
    inputs={
        "ideal_dataset": "gridded ideal patterns with their splits (Parquet)",
        "classifiers": "folder of a finished run, whose classifier of this kind is taken as it is",
    },
    outputs={"classifier": "the classifier with its prototypes (safetensors)"},
    config=PretrainConfig,
    run=run,
    distributed=True,
    optional=frozenset({"classifiers"}),
)
