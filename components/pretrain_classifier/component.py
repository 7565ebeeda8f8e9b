"""The KFP interface of the pretrain_classifier stage."""

from kfp import dsl

IMAGE = "imitation-refinement/pretrain-classifier-python:0.1.0"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pretrain_classifier(
    ideal_dataset: dsl.Input[dsl.Dataset],
    classifier: dsl.Output[dsl.Model],
    label: str,
    method: str = "prototypical",
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """A classifier on ideal patterns, or as ``augmented`` with flaws on them; ``label`` names its run."""
    from components.pretrain_classifier.stage import STAGE

    STAGE.task(
        {"ideal_dataset": ideal_dataset.path, "classifier": classifier.path}, {**config, "method": method}, label
    )
