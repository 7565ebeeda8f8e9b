"""The KFP interfaces of the adapt_classifier stage: one a method, each with the files that the method has."""

from kfp import dsl

IMAGE = "imitation-refinement/adapt-classifier-python:0.1.0"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finetune(
    classifier: dsl.Input[dsl.Model],
    imperfect_dataset: dsl.Input[dsl.Dataset],
    adapted: dsl.Output[dsl.Model],
    label: str,
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """The classifier, trained on with the labelled imperfect patterns; ``label`` names its run."""
    from components.adapt_classifier.stage import STAGE

    STAGE.task(
        {"classifier": classifier.path, "imperfect_dataset": imperfect_dataset.path, "adapted": adapted.path},
        {**config, "method": "finetuned"},
        label,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def adda(
    classifier: dsl.Input[dsl.Model],
    ideal_dataset: dsl.Input[dsl.Dataset],
    imperfect_dataset: dsl.Input[dsl.Dataset],
    adapted: dsl.Output[dsl.Model],
    label: str,
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """The classifier with an encoder adapted by ADDA, without labels; ``label`` names its run."""
    from components.adapt_classifier.stage import STAGE

    STAGE.task(
        {
            "classifier": classifier.path,
            "ideal_dataset": ideal_dataset.path,
            "imperfect_dataset": imperfect_dataset.path,
            "adapted": adapted.path,
        },
        {**config, "method": "adda"},
        label,
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gta(
    classifier: dsl.Input[dsl.Model],
    ideal_dataset: dsl.Input[dsl.Dataset],
    imperfect_dataset: dsl.Input[dsl.Dataset],
    adapted: dsl.Output[dsl.Model],
    generator: dsl.Output[dsl.Model],
    label: str,
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """The classifier adapted by GTA, without labels, and GTA's generator; ``label`` names its run."""
    from components.adapt_classifier.stage import STAGE

    STAGE.task(
        {
            "classifier": classifier.path,
            "ideal_dataset": ideal_dataset.path,
            "imperfect_dataset": imperfect_dataset.path,
            "adapted": adapted.path,
            "generator": generator.path,
        },
        {**config, "method": "gta"},
        label,
    )
