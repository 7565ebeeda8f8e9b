"""The KFP interface of the train_refiner stage."""

from kfp import dsl

IMAGE = "imitation-refinement/train-refiner-python:0.1.0"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_refiner(
    classifier: dsl.Input[dsl.Model],
    imperfect_dataset: dsl.Input[dsl.Dataset],
    refiner: dsl.Output[dsl.Model],
    label: str,
    supervision: str,
    variant: str = "",
    labelled: int = 0,
    ideal_dataset: dsl.Input[dsl.Dataset] = None,  # only to who needs it: it may be large
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """A refiner through the frozen classifier, targeted or not, or a variant of one; ``label`` names its run."""
    from components.train_refiner.stage import STAGE

    STAGE.task(
        {
            "classifier": classifier.path,
            **({"ideal_dataset": ideal_dataset.path} if ideal_dataset else {}),
            "imperfect_dataset": imperfect_dataset.path,
            "refiner": refiner.path,
        },
        {**config, "supervision": supervision, "variant": variant, "labelled": labelled},
        label,
    )
