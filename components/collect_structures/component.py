"""The stage as a Kubeflow component."""

from kfp import dsl

from imitation_refinement.running.images import image


@dsl.component(base_image=image("collect_structures"), install_kfp_package=False)
def collect_structures(
    collected_structures: dsl.Output[dsl.Dataset],
    collected_patterns: dsl.Output[dsl.Dataset],
    rejected: dsl.Output[dsl.Artifact],
    structures: str = "",
    imperfect: str = "",
    test: str = "",
    keep_out: str = "",
    config: dict = {},  # noqa: B006  # KFP reads the default from the signature
) -> None:
    """Crystal structures and imperfect patterns as checked tables, from files or built in.

    Args:
        collected_structures: the structures, Parquet; very many are a folder of files.
        collected_patterns: the imperfect patterns, Parquet.
        rejected: what was left out and why, CSV.
        structures: a Parquet table, a folder or archive of CIFs, minerals, bgmn, materials-project-samples,
            materials-project or random; built-in structures where empty.
        imperfect: a Parquet table or a folder with manifest.csv; virtual specimens where empty.
        test: as imperfect, to be tested on alone; then no imperfect pattern is.
        keep_out: as imperfect, patterns of materials that no classifier learns.
        config: options of the stage by name.
    """
    from components.collect_structures.stage import STAGE

    STAGE.task(
        {
            "structures": structures,
            "imperfect": imperfect,
            "test": test,
            "keep_out": keep_out,
            "collected_structures": collected_structures.path,
            "collected_patterns": collected_patterns.path,
            "rejected": rejected.path,
        },
        config,
    )
