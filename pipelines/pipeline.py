"""The DAG: seven stages, both classifiers, a targeted and a non-targeted refiner for each.

The same component objects run locally in subprocesses and compile to YAML for a cluster. Every stage's options are
a pipeline parameter of their own, so that a run can change them without compiling anew.
"""

from kfp import dsl

from components.baselines.component import baselines as baselines_task
from components.collect_structures.component import collect_structures as collect_structures_task
from components.evaluate.component import evaluate as evaluate_task
from components.preprocess.component import preprocess as preprocess_task
from components.pretrain_classifier.component import pretrain_classifier
from components.simulate.component import simulate as simulate_task
from components.train_refiner.component import train_refiner

PIPELINE_NAME = "imitation-refinement"


@dsl.pipeline(name=PIPELINE_NAME, description="Refines flawed X-ray diffraction patterns until they look like theory.")
def imitation_refinement(
    structures: str = "",
    imperfect: str = "",
    shards: list = [0],  # noqa: B006 (KFP reads the default)
    n_shards: int = 1,
    collect_structures: dict = {},  # noqa: B006
    simulate: dict = {},  # noqa: B006
    preprocess: dict = {},  # noqa: B006
    vgg: dict = {},  # noqa: B006
    densenet: dict = {},  # noqa: B006
    targeted: dict = {},  # noqa: B006
    non_targeted: dict = {},  # noqa: B006
    baselines: dict = {},  # noqa: B006
    evaluate: dict = {},  # noqa: B006
) -> None:
    """The whole of imitation refinement.

    Args:
        structures: Parquet table or folder of CIFs; empty for the built-in prototypes.
        imperfect: Parquet table or folder with manifest.csv; empty for virtually measured specimens.
        shards: 0 to n_shards − 1; simulation fans out over them.
        n_shards: how many shards.
        collect_structures: options of that stage, as the following of theirs.
        simulate: options.
        preprocess: options.
        vgg: options of pretraining the VGG classifier.
        densenet: options of pretraining the DenseNet classifier.
        targeted: options of targeted refinement.
        non_targeted: options of non-targeted refinement.
        baselines: options.
        evaluate: options.
    """
    collected = collect_structures_task(structures=structures, imperfect=imperfect, config=collect_structures)
    with dsl.ParallelFor(shards, name="simulate-shards") as shard:
        simulated = simulate_task(
            structures=collected.outputs["collected_structures"],
            patterns=collected.outputs["collected_patterns"],
            shard=shard,
            shards=n_shards,
            config=simulate,
        )
        simulated.set_retry(2, backoff_duration="1s", backoff_factor=10)  # a shard that fails is retried alone
    data = preprocess_task(
        ideal=dsl.Collected(simulated.outputs["ideal"]),
        imperfect=dsl.Collected(simulated.outputs["imperfect"]),
        config=preprocess,
    )
    ideal_dataset, imperfect_dataset = data.outputs["ideal_dataset"], data.outputs["imperfect_dataset"]
    denoised = baselines_task(imperfect_dataset=imperfect_dataset, config=baselines)
    denoised.set_display_name("baselines: DWT")

    classifiers, refiners = {}, {}
    for name, options in (("vgg", vgg), ("densenet", densenet)):
        task = pretrain_classifier(ideal_dataset=ideal_dataset, label=f"pretrain_classifier {name}", config=options)
        task.set_display_name(f"pretrain {name}")
        classifiers[name] = task.outputs["classifier"]
        for supervision, refine_options in (("targeted", targeted), ("non_targeted", non_targeted)):
            task = train_refiner(
                classifier=classifiers[name],
                imperfect_dataset=imperfect_dataset,
                label=f"train_refiner {name} {supervision}",
                supervision=supervision,
                config=refine_options,
            )
            task.set_display_name(f"refine {name} {supervision}")
            refiners[f"{name}_{supervision}"] = task.outputs["refiner"]

    evaluate_task(
        **classifiers,
        **refiners,
        ideal_dataset=ideal_dataset,
        imperfect_dataset=imperfect_dataset,
        dwt=denoised.outputs["dwt"],
        structures=structures,
        imperfect=imperfect,
        config=evaluate,
    )
