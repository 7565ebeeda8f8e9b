"""The identify stage as components of Kubeflow Pipelines: the answers of a shard, and those of all gathered."""

from typing import List  # noqa: UP035 (KFP reads this annotation)

from kfp import dsl

from imitation_refinement.running.images import image


@dsl.component(base_image=image("identify"), install_kfp_package=False)
def identify(
    answers: dsl.Output[dsl.Dataset],
    rejected: dsl.Output[dsl.Artifact],
    patterns: str,
    model: str = "",
    library: str = "",
    config: dict = {},  # noqa: B006 (KFP reads the default)
    shard: int = 0,
    shards: int = 1,
) -> None:
    """Of which crystal system and phase the patterns of a shard are, or why it can't be said.

    Args:
        answers: a row a pattern, Parquet.
        rejected: what was left out and why, CSV.
        patterns: a pattern file, a folder of them, or a Parquet table.
        model: a model's folder; that of the software where empty.
        library: a library to search in; the model's where empty.
        config: options of the stage by name.
        shard: which shard, from 0.
        shards: how many there are.
    """
    from components.identify.stage import STAGE
    from imitation_refinement.running.stage import shard_name

    STAGE.task(
        {
            "patterns": patterns,
            "model": model,
            "library": library,
            "answers": answers.path,
            "rejected": rejected.path,
        },
        {**config, "shard": shard, "shards": shards},
        shard_name(STAGE.name, shard, shards),
    )


@dsl.component(base_image=image("identify"), install_kfp_package=False)
def gather_answers(
    answers: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    rejected: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    gathered: dsl.Output[dsl.Dataset],
    all_rejected: dsl.Output[dsl.Artifact],
) -> None:
    """The answers of all shards in one table."""
    from components.identify.gather import STAGE

    STAGE.task(
        {
            "answers": [shard.path for shard in answers],
            "rejected": [shard.path for shard in rejected],
            "gathered": gathered.path,
            "all_rejected": all_rejected.path,
        },
        {},
    )
