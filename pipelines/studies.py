"""What each study trains: the tasks of the pipeline's loops. One method or variant more is one line here.

KFP's local runner works on two tasks of a loop at once and takes them in order: the longest come first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Study = Literal["main", "paper"]
Loop = Literal["pretrain", "pretrain_others", "refine", "refine_with_ideal", "adapt", "adapt_with_ideal"]
LOOPS: tuple[Loop, ...] = get_args(Loop)

LABELLED = (300, 100, 30, 10)  # labelled patterns of the curve in the study "paper"; its last point is all of them
ABLATIONS = ("without_prediction", "without_prototype", "without_regularisation")
ARCHITECTURES = ("densenet", "vgg")


@dataclass(frozen=True)
class Training:
    """One task of a loop.

    Attributes:
        label: the name of its run in MLflow, of no other task.
        options: the section of the profile that holds its options.
        changes: what is different in it.
        classifier: what the classifier is called that it starts from, as
            :func:`~imitation_refinement.models.name_of` says; empty for none.
    """

    label: str
    options: str
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
