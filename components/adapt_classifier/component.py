"""The KFP interface of the adapt_classifier stage."""

from typing import List  # noqa: UP035 (KFP reads this annotation)

from kfp import dsl

from imitation_refinement.running.images import image


@dsl.component(base_image=image("adapt_classifier"), install_kfp_package=False)
def adapt_classifier(
    classifiers: dsl.Input[List[dsl.Model]],  # noqa: UP006
    imperfect_dataset: dsl.Input[dsl.Dataset],
    adapted: dsl.Output[dsl.Model],
    task: dict,
    ideal_dataset: dsl.Input[dsl.Dataset] = None,  # only to who needs it: it may be large
) -> None:
    """One of the classifiers, brought to imperfect patterns; ``task`` names it, the run and its options."""
    from components.adapt_classifier.stage import STAGE
    from imitation_refinement.learning.model_files import model_called
    from imitation_refinement.running.stage import exit_on_input_error

    with exit_on_input_error():
        classifier = model_called(task["classifier"], [model.path for model in classifiers])
    STAGE.task(
        {
            "classifier": classifier,
            "ideal_dataset": ideal_dataset.path if ideal_dataset else "",
            "imperfect_dataset": imperfect_dataset.path,
            "adapted": adapted.path,
        },
        task["config"],
        task["label"],
    )
