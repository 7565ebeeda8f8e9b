"""The KFP interface of the evaluate stage."""

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
    ideal_dataset: dsl.Input[dsl.Dataset],
    imperfect_dataset: dsl.Input[dsl.Dataset],
    dwt: dsl.Input[dsl.Dataset],
    results: dsl.Output[dsl.Artifact],
    table: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    figures: dsl.Output[dsl.Artifact],
    predictions: dsl.Output[dsl.Artifact],
    structures: str = "",
    imperfect: str = "",
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """Accuracy, distance to theory, figures and report of every method."""
    from components.evaluate.stage import STAGE

    STAGE.task(
        {
            "classifiers": [vgg.path, densenet.path],
            "refiners": [m.path for m in (vgg_targeted, vgg_non_targeted, densenet_targeted, densenet_non_targeted)],
            "ideal_dataset": ideal_dataset.path,
            "imperfect_dataset": imperfect_dataset.path,
            "dwt": dwt.path,
            "results": results.path,
            "table": table.path,
            "report": report.path,
            "figures": figures.path,
            "predictions": predictions.path,
        },
        {**config, "structures": structures or "built-in", "imperfect": imperfect or "built-in"},
    )
