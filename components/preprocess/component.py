"""The KFP interface of the preprocess stage."""

from kfp import dsl

from imitation_refinement.running.images import image


@dsl.component(base_image=image("preprocess"), install_kfp_package=False)
def preprocess(
    ideal: dsl.Input[list[dsl.Dataset]],
    imperfect: dsl.Input[list[dsl.Dataset]],
    ideal_dataset: dsl.Output[dsl.Dataset],
    imperfect_dataset: dsl.Output[dsl.Dataset],
    manifest: dsl.Output[dsl.Artifact],
    rejected: dsl.Output[dsl.Artifact],
    config: dict = {},  # noqa: B006 (KFP reads the default)
) -> None:
    """Common grid, normalisation and grouped, stratified splits."""
    from components.preprocess.stage import STAGE

    STAGE.task(
        {
            "ideal": [shard.path for shard in ideal],
            "imperfect": [shard.path for shard in imperfect],
            "ideal_dataset": ideal_dataset.path,
            "imperfect_dataset": imperfect_dataset.path,
            "manifest": manifest.path,
            "rejected": rejected.path,
        },
        config,
    )
