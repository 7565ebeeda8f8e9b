"""The KFP interfaces of the evaluate stage, one a study: KFP has no list of artifacts from separate tasks."""

from kfp import dsl

IMAGE = "imitation-refinement/evaluate-python:0.1.0"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    vgg: dsl.Input[dsl.Model],
    densenet: dsl.Input[dsl.Model],
    vgg_targeted: dsl.Input[dsl.Model],
    vgg_non_targeted: dsl.Input[dsl.Model],
    densenet_targeted: dsl.Input[dsl.Model],
    densenet_non_targeted: dsl.Input[dsl.Model],
    densenet_shuffled_labels: dsl.Input[dsl.Model],
    dwt: dsl.Input[dsl.Dataset],
    answers: dsl.Input[dsl.Dataset],
    ideal_dataset: dsl.Input[dsl.Dataset],
    imperfect_dataset: dsl.Input[dsl.Dataset],
    results: dsl.Output[dsl.Artifact],
    table: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    figures: dsl.Output[dsl.Artifact],
    predictions: dsl.Output[dsl.Artifact],
    structures: str = "",
    imperfect: str = "",
    test: str = "",
    classifiers: str = "",
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """Accuracy, distance to theory, honesty, figures and report of the main study's methods."""
    from components.evaluate.stage import STAGE

    STAGE.task(
        {
            "classifiers": [vgg.path, densenet.path],
            "refiners": [
                vgg_targeted.path,
                vgg_non_targeted.path,
                densenet_targeted.path,
                densenet_non_targeted.path,
                densenet_shuffled_labels.path,
            ],
            "dwt": dwt.path,
            "answers": answers.path,
            "ideal_dataset": ideal_dataset.path,
            "imperfect_dataset": imperfect_dataset.path,
            "results": results.path,
            "table": table.path,
            "report": report.path,
            "figures": figures.path,
            "predictions": predictions.path,
        },
        {
            **config,
            "structures": structures or "built-in",
            "imperfect": imperfect or "built-in",
            "test": test,
            "classifiers_from": classifiers,
        },
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_paper(
    vgg: dsl.Input[dsl.Model],
    densenet: dsl.Input[dsl.Model],
    vgg_targeted: dsl.Input[dsl.Model],
    vgg_non_targeted: dsl.Input[dsl.Model],
    densenet_targeted: dsl.Input[dsl.Model],
    densenet_non_targeted: dsl.Input[dsl.Model],
    densenet_shuffled_labels: dsl.Input[dsl.Model],
    vgg_standard: dsl.Input[dsl.Model],
    densenet_standard: dsl.Input[dsl.Model],
    vgg_augmented: dsl.Input[dsl.Model],
    densenet_augmented: dsl.Input[dsl.Model],
    vgg_finetuned: dsl.Input[dsl.Model],
    densenet_finetuned: dsl.Input[dsl.Model],
    adda: dsl.Input[dsl.Model],
    gta: dsl.Input[dsl.Model],
    gta_generator: dsl.Input[dsl.Model],
    vgg_with_ideal: dsl.Input[dsl.Model],
    densenet_with_ideal: dsl.Input[dsl.Model],
    vgg_with_diversity: dsl.Input[dsl.Model],
    densenet_with_diversity: dsl.Input[dsl.Model],
    densenet_without_prediction: dsl.Input[dsl.Model],
    densenet_without_prototype: dsl.Input[dsl.Model],
    densenet_without_regularisation: dsl.Input[dsl.Model],
    densenet_labelled_10: dsl.Input[dsl.Model],
    densenet_labelled_30: dsl.Input[dsl.Model],
    densenet_labelled_100: dsl.Input[dsl.Model],
    densenet_labelled_300: dsl.Input[dsl.Model],
    dwt: dsl.Input[dsl.Dataset],
    answers: dsl.Input[dsl.Dataset],
    ideal_dataset: dsl.Input[dsl.Dataset],
    imperfect_dataset: dsl.Input[dsl.Dataset],
    results: dsl.Output[dsl.Artifact],
    table: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    figures: dsl.Output[dsl.Artifact],
    predictions: dsl.Output[dsl.Artifact],
    structures: str = "",
    imperfect: str = "",
    test: str = "",
    classifiers: str = "",
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """The same of every method of the paper, its ablations, and what it leaves out."""
    from components.evaluate.stage import STAGE

    STAGE.task(
        {
            "classifiers": [
                vgg.path,
                densenet.path,
                vgg_standard.path,
                densenet_standard.path,
                vgg_augmented.path,
                densenet_augmented.path,
                vgg_finetuned.path,
                densenet_finetuned.path,
                adda.path,
                gta.path,
            ],
            "refiners": [
                vgg_targeted.path,
                vgg_non_targeted.path,
                densenet_targeted.path,
                densenet_non_targeted.path,
                densenet_shuffled_labels.path,
                vgg_with_ideal.path,
                densenet_with_ideal.path,
                vgg_with_diversity.path,
                densenet_with_diversity.path,
                densenet_without_prediction.path,
                densenet_without_prototype.path,
                densenet_without_regularisation.path,
                densenet_labelled_10.path,
                densenet_labelled_30.path,
                densenet_labelled_100.path,
                densenet_labelled_300.path,
            ],
            "generators": [gta_generator.path],
            "dwt": dwt.path,
            "answers": answers.path,
            "ideal_dataset": ideal_dataset.path,
            "imperfect_dataset": imperfect_dataset.path,
            "results": results.path,
            "table": table.path,
            "report": report.path,
            "figures": figures.path,
            "predictions": predictions.path,
        },
        {
            **config,
            "structures": structures or "built-in",
            "imperfect": imperfect or "built-in",
            "test": test,
            "classifiers_from": classifiers,
        },
    )
