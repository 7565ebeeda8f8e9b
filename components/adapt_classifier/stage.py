"""Adapt classifier: what else brings a pretrained classifier to imperfect patterns; fine-tuning, ADDA, GTA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imitation_refinement.adaptation import adda, fine_tune, gta
from imitation_refinement.checkpoints import checkpoint_of
from imitation_refinement.config import AdaptConfig
from imitation_refinement.datasets import UNLABELLED, read_ideal, read_imperfect
from imitation_refinement.errors import InputError
from imitation_refinement.figures import training_curves_figure
from imitation_refinement.files import digest
from imitation_refinement.models import check_unseen, load_classifier, save_model
from imitation_refinement.progress import leads, say
from imitation_refinement.stage import Stage
from imitation_refinement.tables import read_grid
from imitation_refinement.tracking import Tracker
from imitation_refinement.training import Labelled


def run(paths: dict[str, Any], config: AdaptConfig, tracker: Tracker) -> None:
    """Runs the stage; see :data:`STAGE` for the files. Killed and started again, it goes on from its checkpoint."""
    if config.method != "finetuned" and "ideal_dataset" not in paths:
        raise InputError("ideal_dataset", f"is not given, but {config.method} needs ideal patterns.", "Give it.")
    with checkpoint_of(paths["adapted"], tracker.name) as checkpoint:
        _run(paths, config, tracker, checkpoint)


def _run(paths: dict[str, Any], config: AdaptConfig, tracker: Tracker, checkpoint: Path) -> None:
    source, grid, _ = load_classifier(paths["classifier"])
    data = read_imperfect(paths["imperfect_dataset"], grid)
    check_unseen(paths["classifier"], data.rows["formula"][data.rows["split"] == "test"])
    train: Labelled = data.part("train")
    validation = _labelled(data.part("validation"))
    about: dict[str, Any] = {
        "training": config.model_dump(),
        "method": config.method,
        "classifier": source.config.architecture,
        "classifier_sha256": digest(paths["classifier"]),
    }
    generator = None
    if config.method == "finetuned":
        train = _labelled(train)
        if not len(train[1]):
            raise InputError(
                paths["imperfect_dataset"],
                "no training pattern has a crystal_system, which fine-tuning learns from.",
                "Label some patterns, or adapt with method=adda or gta.",
            )
        model, history = fine_tune(source, train, validation, config, tracker.log_metrics, checkpoint)
    else:
        read_grid(paths["ideal_dataset"], grid)
        ideal = read_ideal(paths["ideal_dataset"], "train").part("train")
        about["n_ideal"] = len(ideal[1])
        if config.method == "adda":
            model, history = adda(source, ideal[0], train[0], validation, config, tracker.log_metrics, checkpoint)
        else:
            generator, history = gta(source, ideal, train[0], validation, config, tracker.log_metrics, checkpoint)
            model = generator.encoder
    if not leads():
        return
    about |= {"n_train": len(train[1]), "history": history.metrics}
    save_model(paths["adapted"], generator or model, grid, about)
    tracker.log_figure(training_curves_figure(history.metrics), "training.png")
    tracker.log_artifact(paths["adapted"], "classifier")
    accuracy = history.metrics.get("validation_accuracy")
    reached = f", validation accuracy {accuracy[-1]:.1%} on {len(validation[1])}" if accuracy else ""
    say(f"{config.method} of {source.config.architecture}: {len(train[1])} imperfect patterns{reached}")


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
