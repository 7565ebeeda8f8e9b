"""What each study trains: the tasks of the pipeline's loops. One method or variant more is one line here.

KFP's local runner works on two tasks of a loop at once and takes them in order: the longest come first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from imitation_refinement.learning.config import AdaptConfig, PretrainConfig, RefineConfig, StageConfig
from imitation_refinement.vocabulary import Architecture, Variant

Study = Literal["main", "paper"]
Loop = Literal["pretrain", "pretrain_others", "refine", "refine_with_ideal", "adapt", "adapt_with_ideal"]
OPTIONS: dict[Loop, type[StageConfig]] = {
    "pretrain": PretrainConfig,
    "pretrain_others": PretrainConfig,
    "refine": RefineConfig,
    "refine_with_ideal": RefineConfig,
    "adapt": AdaptConfig,
    "adapt_with_ideal": AdaptConfig,
}

LABELLED = (300, 100, 30, 10)  # labelled patterns of the curve in the study "paper"; its last point is all of them
ABLATIONS = tuple(str(variant) for variant in Variant if variant.removes)
ARCHITECTURES = tuple(sorted(str(architecture) for architecture in Architecture if architecture.of_paper))


class Task(StageConfig):
    """One task of a loop, as the pipeline's parameter holds it."""

    label: str = Field(min_length=1, description="the name of its run in MLflow, of no other task")
    classifier: str = Field("", description="what the model file that it starts from says it is called; empty for none")
    config: dict[str, Any] = Field(description="the stage's options")


@dataclass(frozen=True)
class Training:
    """One task of a loop, before a profile gives it its options.

    Attributes:
        label: as :class:`Task`'s.
        section: of the profile, with its options.
        changes: what is different in it.
        classifier: as :class:`Task`'s.
    """

    label: str
    section: str
    changes: dict[str, Any] = field(default_factory=dict)
    classifier: str = ""


def _classifiers(method: str) -> list[Training]:
    own = "" if method == "prototypical" else f"_{method}"
    return [Training(f"pretrain_classifier {name}{own}", name, {"method": method}) for name in ARCHITECTURES]


def _refiner(classifier: str, supervision: str, variant: str = "", labelled: int = 0) -> Training:
    special = variant or (f"labelled_{labelled}" if labelled else supervision)
    changes = {"variant": variant, "labelled": labelled}
    return Training(f"train_refiner {classifier}_{special}", supervision, changes, classifier)


def _refiners(supervision: str, variant: str = "") -> list[Training]:
    return [_refiner(name, supervision, variant) for name in ARCHITECTURES]


_MAIN: dict[Loop, list[Training]] = {
    "pretrain": _classifiers("prototypical"),
    "refine": [
        *_refiners("targeted"),
        _refiner("densenet", "targeted", "shuffled_labels"),
        *_refiners("non_targeted"),
    ],
}
STUDIES: dict[Study, dict[Loop, list[Training]]] = {
    "main": _MAIN,
    "paper": {
        "pretrain": _MAIN["pretrain"],
        "pretrain_others": [*_classifiers("augmented"), *_classifiers("standard")],
        "refine": [
            *_MAIN["refine"],
            *_refiners("non_targeted", "with_diversity"),
            *(_refiner("densenet", "targeted", ablation) for ablation in ABLATIONS),
            *(_refiner("densenet", "targeted", labelled=labelled) for labelled in LABELLED),
        ],
        "refine_with_ideal": _refiners("targeted", "with_ideal"),
        "adapt": [Training(f"finetune {name}", "finetuned", classifier=name) for name in ARCHITECTURES],
        "adapt_with_ideal": [Training(method, method, classifier="densenet") for method in ("gta", "adda")],
    },
}
