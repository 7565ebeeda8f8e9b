"""The simulate stage as a component of Kubeflow Pipelines."""

from kfp import dsl

from imitation_refinement.running.images import image


@dsl.component(base_image=image("simulate"), install_kfp_package=False)
def simulate(
    structures: dsl.Input[dsl.Dataset],
    patterns: dsl.Input[dsl.Dataset],
    ideal: dsl.Output[dsl.Dataset],
    imperfect: dsl.Output[dsl.Dataset],
    library: dsl.Output[dsl.Dataset],
    rejected: dsl.Output[dsl.Artifact],
    config: dict = {},  # noqa: B006 (KFP wants a literal)
    shard: int = 0,
    shards: int = 1,
) -> None:
    """Ideal patterns and lines of structures, theory and virtual measurements of imperfect ones, of one shard."""
    from components.simulate.stage import STAGE
    from imitation_refinement.running.stage import shard_name

    STAGE.task(
        {
            "structures": structures.path,
            "patterns": patterns.path,
            "ideal": ideal.path,
            "imperfect": imperfect.path,
            "library": library.path,
            "rejected": rejected.path,
        },
        {**config, "shard": shard, "shards": shards},
        shard_name(STAGE.name, shard, shards),
    )
