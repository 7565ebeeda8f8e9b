"""Adapt classifier: what else brings a pretrained classifier to imperfect patterns; fine-tuning, ADDA, GTA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imitation_refinement.data.contracts import read_grid
from imitation_refinement.data.datasets import UNLABELLED, read_ideal, read_imperfect
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.learning.adaptation import ADAPTATIONS, Generator
from imitation_refinement.learning.checkpoints import checkpoint_of
from imitation_refinement.learning.config import AdaptConfig
from imitation_refinement.learning.model_files import model_tags, name_of
from imitation_refinement.learning.models import check_unseen, load_classifier, probabilities, save_model
from imitation_refinement.learning.training import Labelled
from imitation_refinement.progress import leads
from imitation_refinement.results.figures import training_curves_figure
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.vocabulary import Method


def run(paths: dict[str, Any], config: AdaptConfig, tracker: Tracker) -> str:
    """Runs the stage; see :data:`STAGE` for the files. Killed and started again, it goes on from its checkpoint."""
    if not Method(config.method).learns_from_labels and "ideal_dataset" not in paths:
        raise InputError("ideal_dataset", f"is not given, but {config.method} needs ideal patterns.", "Give it.")
    with checkpoint_of(paths["adapted"], tracker.name) as checkpoint:
        return _run(paths, config, tracker, checkpoint)


def _run(paths: dict[str, Any], config: AdaptConfig, tracker: Tracker, checkpoint: Path) -> str:
    source, grid, _ = load_classifier(paths["classifier"])
    data = read_imperfect(paths["imperfect_dataset"], grid)
    check_unseen(paths["classifier"], data.rows["formula"][data.rows["split"] == "test"])
    method = Method(config.method)
    train: Labelled = data.part("train")
    validation = _labelled(data.part("validation"))
    about: dict[str, Any] = {
        "training": config.model_dump(),
        "method": method,
        "classifier": source.config.architecture,
        "classifier_sha256": digest(paths["classifier"]),
    }
    ideal: Labelled = (train[0][:0], train[1][:0])
    if method.learns_from_labels:
        train = _labelled(train)
        if not len(train[1]):
            raise InputError(
                paths["imperfect_dataset"],
                f"no training pattern has a crystal_system, which {method} learns from.",
                "Label some patterns, or adapt with method=adda or gta.",
            )
    else:
        read_grid(paths["ideal_dataset"], grid)
        ideal = read_ideal(paths["ideal_dataset"], "train").part("train")
        about["n_ideal"] = len(ideal[1])
    made, history = ADAPTATIONS[method](source, ideal, train, validation, config, tracker.log_metrics, checkpoint)
    generator = made if isinstance(made, Generator) else None
    model = made.encoder if isinstance(made, Generator) else made
    if not leads():
        return ""
    about |= {"n_train": len(train[1]), "history": history.metrics}
    save_model(paths["adapted"], generator or model, grid, about)
    tracker.log_figure(training_curves_figure(history.metrics), "training.png")
    if generator:  # which is not served
        tracker.log_artifact(paths["adapted"], "classifier", "generator.safetensors")
    else:
        card = (
            f"A classifier of the seven crystal systems, adapted to imperfect powder patterns ({method.label}), of "
            f"which it learnt from {about['n_train']}.\n"
        )
        tracker.log_model(name_of(paths["adapted"]), {"classifier": paths["adapted"]}, card, model_tags(about))
    if not len(validation[1]):
        return f"{len(train[1])} patterns learnt from"
    right = probabilities(model, validation[0]).argmax(1) == validation[1]
    return f"{100 * right.mean():.1f} % of {len(right)} validation patterns right, {len(train[1])} learnt from"


def _labelled(part: Labelled) -> Labelled:
    known = part[1] != UNLABELLED
    return part[0][known], part[1][known]


STAGE = Stage(
    name="adapt_classifier",
    summary="Adapts a pretrained classifier to imperfect patterns, by their labels (finetuned) or without (adda, gta).",
    inputs={
        "classifier": "the pretrained classifier with its prototypes (safetensors)",
        "ideal_dataset": "gridded ideal patterns with their splits (Parquet); for adda and gta",
        "imperfect_dataset": "gridded imperfect patterns with their splits (Parquet)",
    },
    outputs={
        "adapted": "the adapted classifier, of gta its generator with it as encoder (safetensors)",
    },
    config=AdaptConfig,
    run=run,
    distributed=True,
    optional=frozenset({"ideal_dataset"}),
)
