"""The KFP interface of the pretrain_classifier stage."""

from kfp import dsl

from imitation_refinement.running.images import image


@dsl.component(base_image=image("pretrain_classifier"), install_kfp_package=False)
def pretrain_classifier(
    ideal_dataset: dsl.Input[dsl.Dataset],
    classifier: dsl.Output[dsl.Model],
    task: dict,
    classifiers: str = "",
) -> None:
    """A classifier on ideal patterns, or as ``augmented`` with flaws on them; ``task`` names its run and its options.

    Where ``classifiers`` names the folder of a finished run, that run's classifier is taken instead.
    """
    from components.pretrain_classifier.stage import STAGE

    STAGE.task(
        {"ideal_dataset": ideal_dataset.path, "classifiers": classifiers, "classifier": classifier.path},
        task["config"],
        task["label"],
    )
