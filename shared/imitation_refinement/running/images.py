"""The stages' images: who has one, what it is called, and which hold PyTorch and so come with CUDA, too."""

from __future__ import annotations

from typing import Literal, get_args

from imitation_refinement import __version__

StageName = Literal[
    "collect_structures",
    "simulate",
    "preprocess",
    "pretrain_classifier",
    "train_refiner",
    "adapt_classifier",
    "baselines",
    "evaluate",
    "identify",
]
STAGES: tuple[StageName, ...] = get_args(StageName)
TRAINING: tuple[StageName, ...] = ("pretrain_classifier", "train_refiner", "adapt_classifier")
TORCH: tuple[StageName, ...] = (*TRAINING, "evaluate", "identify")


def repository(stage: str) -> str:
    """An image's name without registry and tag; KFP's local runner warns where "python" is not in it."""
    return f"imitation-refinement/{stage.replace('_', '-')}-python"


def image(stage: str) -> str:
    """The image of this version."""
    return f"{repository(stage)}:{__version__}"
