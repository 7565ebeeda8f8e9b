"""The DAG: what is trained, on what, and measured beside what.

The study ``main`` has both classifiers, a targeted and a non-targeted refiner for each, and a control. ``paper`` has
every method of the paper and those that a referee asks for. What is trained is data: each loop runs over a parameter
that lists its tasks (:mod:`pipelines.studies`), so that trainings which do not wait for each other run side by side,
on a cluster and, two at a time, in KFP's local runner. A study without a loop's tasks has no such loop: the local
runner collects nothing from an empty one.
"""

from typing import Any, List  # noqa: UP035 (KFP reads this annotation)

from kfp import dsl
from kfp.dsl.pipeline_context import Pipeline

from components.adapt_classifier.component import adapt_classifier
from components.baselines.component import baselines as baselines_task
from components.collect_structures.component import collect_structures as collect_structures_task
from components.evaluate.component import evaluate as evaluate_task
from components.preprocess.component import preprocess as preprocess_task
from components.pretrain_classifier.component import pretrain_classifier
from components.simulate.component import simulate as simulate_task
from components.train_refiner.component import train_refiner
from pipelines.cluster import Cluster, on_cluster
from pipelines.studies import STUDIES, Study

PIPELINE_NAME = "imitation-refinement"


def dag(study: Study, cluster: Cluster | None = None) -> Any:
    """The pipeline of a study, for a cluster, or without one for this machine."""
    at_once = cluster.parallel_shards or None if cluster else None

    def settle() -> None:
        """Gives the tasks of the pipeline that is being traced what a cluster has for them."""
        for task in Pipeline.get_default_pipeline().tasks.values():
            if cluster and task.container_spec:  # a pipeline in it has none
                on_cluster(task, cluster)

    def trained(loop: str, tasks: Any, train: Any, **inputs: Any) -> Any:
        """What the tasks of a loop make."""
        with dsl.ParallelFor(tasks, name=loop.replace("_", "-")) as task:
            made = train(task=task, **inputs)
            made.set_retry(1, backoff_duration="1s")  # training goes on from its last checkpoint
        return dsl.Collected(made.output)

    # A pipeline of its own: KFP's compiler can't hand to one loop what another has collected.
    @dsl.pipeline(name="pretrain")
    def pretrained(
        ideal_dataset: dsl.Input[dsl.Dataset],
        tasks: list[dict],
        classifiers: str,
    ) -> List[dsl.Model]:  # noqa: UP006
        made = trained("pretrain", tasks, pretrain_classifier, ideal_dataset=ideal_dataset, classifiers=classifiers)
        settle()
        return made

    @dsl.pipeline(
        name=PIPELINE_NAME, description="Refines flawed X-ray diffraction patterns until they look like theory."
    )
    def imitation_refinement(
        structures: str = "",
        imperfect: str = "",
        test: str = "",
        keep_out: str = "",
        classifiers: str = "",
        shards: list[int] = [0],  # noqa: B006 (KFP reads the default)
        n_shards: int = 1,
        collect_structures: dict = {},  # noqa: B006
        simulate: dict = {},  # noqa: B006
        preprocess: dict = {},  # noqa: B006
        baselines: dict = {},  # noqa: B006
        pretrain: list[dict] = [],  # noqa: B006
        pretrain_others: list[dict] = [],  # noqa: B006
        refine: list[dict] = [],  # noqa: B006
        refine_with_ideal: list[dict] = [],  # noqa: B006
        adapt: list[dict] = [],  # noqa: B006
        adapt_with_ideal: list[dict] = [],  # noqa: B006
        evaluate: dict = {},  # noqa: B006
    ) -> None:
        """The whole of imitation refinement.

        Args:
            structures: Parquet table or folder of CIFs, on a cluster on its data volume; minerals, bgmn,
                materials-project-samples, materials-project or random; empty for the built-in prototypes.
            imperfect: Parquet table or folder with manifest.csv, on a cluster on its data volume; empty for virtually
                measured specimens.
            test: as imperfect, to be tested on alone; then no imperfect pattern is.
            keep_out: as imperfect, patterns of materials that no classifier learns.
            classifiers: the folder of a finished run whose classifiers are taken; empty to train them.
            shards: 0 to n_shards − 1; simulation fans out over them.
            n_shards: how many shards.
            collect_structures: options of that stage, as the following of theirs.
            simulate: options.
            preprocess: options.
            baselines: options.
            pretrain: the prototypical classifiers: label and options (config) of each.
            pretrain_others: classifiers that are compared with them.
            refine: the refiners, each with the name of its classifier, too.
            refine_with_ideal: refiners that learn from ideal patterns, too, which may be large.
            adapt: classifiers adapted to imperfect patterns; as refine.
            adapt_with_ideal: those that learn from ideal patterns, too.
            evaluate: options.
        """
        collected = collect_structures_task(
            structures=structures, imperfect=imperfect, test=test, keep_out=keep_out, config=collect_structures
        )
        with dsl.ParallelFor(shards, name="simulate-shards", parallelism=at_once) as shard:
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
        ideal = {"ideal_dataset": data.outputs["ideal_dataset"]}
        measured = {"imperfect_dataset": data.outputs["imperfect_dataset"]}
        library = dsl.Collected(simulated.outputs["library"])
        denoised = baselines_task(**ideal, **measured, library=library, config=baselines)
        prototypical = pretrained(**ideal, tasks=pretrain, classifiers=classifiers)
        through = {"classifiers": prototypical.output, **measured}
        models = {"pretrain": prototypical.output}
        for loop, tasks, train, inputs in (
            ("pretrain_others", pretrain_others, pretrain_classifier, {**ideal, "classifiers": classifiers}),
            ("refine", refine, train_refiner, through),
            ("refine_with_ideal", refine_with_ideal, train_refiner, {**through, **ideal}),
            ("adapt", adapt, adapt_classifier, through),
            ("adapt_with_ideal", adapt_with_ideal, adapt_classifier, {**through, **ideal}),
        ):
            if loop in STUDIES[study]:
                models[loop] = trained(loop, tasks, train, **inputs)
        evaluate_task(
            **models,
            **ideal,
            **measured,
            dwt=denoised.outputs["dwt"],
            answers=denoised.outputs["answers"],
            structures=structures,
            imperfect=imperfect,
            test=test,
            classifiers=classifiers,
            config=evaluate,
        )
        settle()

    return imitation_refinement
