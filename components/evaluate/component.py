"""The KFP interface of the evaluate stage."""

from typing import List  # noqa: UP035 (KFP reads this annotation)

from kfp import dsl

from imitation_refinement.running.images import image


@dsl.component(base_image=image("evaluate"), install_kfp_package=False)
def evaluate(
    pretrain: dsl.Input[List[dsl.Model]],  # noqa: UP006
    refine: dsl.Input[List[dsl.Model]],  # noqa: UP006
    dwt: dsl.Input[dsl.Dataset],
    answers: dsl.Input[dsl.Dataset],
    ideal_dataset: dsl.Input[dsl.Dataset],
    imperfect_dataset: dsl.Input[dsl.Dataset],
    results: dsl.Output[dsl.Artifact],
    table: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    figures: dsl.Output[dsl.Artifact],
    predictions: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    note: dsl.Output[dsl.Markdown],
    pretrain_others: dsl.Input[List[dsl.Model]] = None,  # noqa: UP006
    refine_with_ideal: dsl.Input[List[dsl.Model]] = None,  # noqa: UP006
    adapt: dsl.Input[List[dsl.Model]] = None,  # noqa: UP006
    adapt_with_ideal: dsl.Input[List[dsl.Model]] = None,  # noqa: UP006
    structures: str = "",
    imperfect: str = "",
    test: str = "",
    classifiers: str = "",
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """Accuracy, distance to theory, honesty, figures and report of all that the loops of the pipeline trained."""
    from components.evaluate.kubeflow import show
    from components.evaluate.stage import STAGE

    STAGE.task(
        {
            "classifiers": [
                model.path for loop in (pretrain, pretrain_others, adapt, adapt_with_ideal) for model in loop or []
            ],
            "refiners": [model.path for loop in (refine, refine_with_ideal) for model in loop or []],
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
    show(results.path, predictions.path, metrics, classification, note.path)
