"""The KFP interface of the baselines stage."""

from kfp import dsl

from imitation_refinement.running.images import image


@dsl.component(base_image=image("baselines"), install_kfp_package=False)
def baselines(
    imperfect_dataset: dsl.Input[dsl.Dataset],
    ideal_dataset: dsl.Input[dsl.Dataset],
    library: dsl.Input[list[dsl.Dataset]],
    dwt: dsl.Output[dsl.Dataset],
    answers: dsl.Output[dsl.Dataset],
    search: dsl.Output[dsl.Artifact],
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """Wavelet denoising, majority class, nearest ideal neighbour and search-match of the imperfect patterns."""
    from components.baselines.stage import STAGE

    STAGE.task(
        {
            "imperfect_dataset": imperfect_dataset.path,
            "ideal_dataset": ideal_dataset.path,
            "library": [shard.path for shard in library],
            "dwt": dwt.path,
            "answers": answers.path,
            "search": search.path,
        },
        config,
    )
