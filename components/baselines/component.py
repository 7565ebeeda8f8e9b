"""The KFP interface of the baselines stage."""

from kfp import dsl

IMAGE = "imitation-refinement/baselines-python:0.1.0"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def baselines(
    imperfect_dataset: dsl.Input[dsl.Dataset],
    dwt: dsl.Output[dsl.Dataset],
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """Wavelet denoising of the imperfect patterns."""
    from components.baselines.stage import STAGE

    STAGE.task({"imperfect_dataset": imperfect_dataset.path, "dwt": dwt.path}, config)
