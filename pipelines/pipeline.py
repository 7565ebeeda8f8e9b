"""The DAG: what is trained, on what, and measured beside what.

The study ``main`` has both classifiers, a targeted and a non-targeted refiner for each, and a control. ``paper`` has
every method of the paper and those that a referee asks for. The same component objects run locally in subprocesses
and compile to YAML for a cluster. Every stage's options are a pipeline parameter of their own, so that a run can change
them without compiling anew.
"""

from dataclasses import dataclass
from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_context import Pipeline

from components.adapt_classifier.component import adda as adda_task
from components.adapt_classifier.component import finetune as finetune_task
from components.adapt_classifier.component import gta as gta_task
from components.baselines.component import baselines as baselines_task
from components.collect_structures.component import collect_structures as collect_structures_task
from components.evaluate.component import evaluate as evaluate_task
from components.evaluate.component import evaluate_paper as evaluate_paper_task
from components.preprocess.component import preprocess as preprocess_task
from components.pretrain_classifier.component import pretrain_classifier
from components.simulate.component import simulate as simulate_task
from components.train_refiner.component import train_refiner
from pipelines.cluster import Cluster, on_cluster
from pipelines.profiles import Study

PIPELINE_NAME = "imitation-refinement"
LABELLED = (10, 30, 100, 300)  # labelled patterns of the curve in the study "paper"; its last point is all of them
ABLATIONS = ("without_prediction", "without_prototype", "without_regularisation")


@dataclass(frozen=True)
class Dag:
    """A traced pipeline.

    Attributes:
        pipeline: what runs locally or is compiled.
        kept: (task, output) → where a local run keeps it, in the run's folder.
    """

    pipeline: Any
    kept: dict[tuple[str, str], str]


def dag(study: Study, cluster: Cluster | None = None) -> Dag:
    """The pipeline of a study, for a cluster, or without one for this machine."""
    kept: dict[tuple[str, str], str] = {}
    at_once = cluster.parallel_shards or None if cluster else None

    def keep(task: Any, **outputs: str) -> Any:
        for output, path in outputs.items():
            kept[task.name, output] = path
        return task

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
        vgg: dict = {},  # noqa: B006
        densenet: dict = {},  # noqa: B006
        targeted: dict = {},  # noqa: B006
        non_targeted: dict = {},  # noqa: B006
        finetuned: dict = {},  # noqa: B006
        adda: dict = {},  # noqa: B006
        gta: dict = {},  # noqa: B006
        baselines: dict = {},  # noqa: B006
        evaluate: dict = {},  # noqa: B006
    ) -> None:
        """The whole of imitation refinement.

        Args:
            structures: Parquet table or folder of CIFs, on a cluster on its data volume; materials-project or random;
                empty for the built-in prototypes.
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
            vgg: options of pretraining the VGG classifier.
            densenet: options of pretraining the DenseNet classifier.
            targeted: options of targeted refinement.
            non_targeted: options of non-targeted refinement.
            finetuned: options of fine-tuning a classifier on imperfect patterns.
            adda: options of Adversarial Discriminative Domain Adaptation.
            gta: options of Generate To Adapt.
            baselines: options.
            evaluate: options.
        """
        collected = collect_structures_task(
            structures=structures, imperfect=imperfect, test=test, keep_out=keep_out, config=collect_structures
        )
        keep(collected, rejected="data/rejected_structures.csv")
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
        keep(
            data,
            ideal_dataset="data/ideal.parquet",
            imperfect_dataset="data/imperfect.parquet",
            manifest="data/manifest.csv",
            rejected="data/rejected_patterns.csv",
        )
        ideal_dataset, imperfect_dataset = data.outputs["ideal_dataset"], data.outputs["imperfect_dataset"]
        denoised = baselines_task(ideal_dataset=ideal_dataset, imperfect_dataset=imperfect_dataset, config=baselines)
        keep(denoised, dwt="data/dwt.parquet", answers="data/answers.parquet", search="data/dwt_search.csv")
        models: dict[str, Any] = {}

        def classifier(name: str, options: Any, method: str = "prototypical") -> None:
            label = name if method == "prototypical" else f"{name}_{method}"
            task = pretrain_classifier(
                ideal_dataset=ideal_dataset,
                label=f"pretrain_classifier {label}",
                method=method,
                classifiers=classifiers,
                config=options,
            )
            made(task, "classifier", label, name if method == "prototypical" else f"{name}-{method}")

        def refiner(name: str, supervision: str, options: Any, variant: str = "", labelled: int = 0) -> None:
            label = f"{name}_{variant or (f'labelled_{labelled}' if labelled else supervision)}"
            task = train_refiner(
                classifier=models[name],
                imperfect_dataset=imperfect_dataset,
                label=f"train_refiner {label}",
                supervision=supervision,
                variant=variant,
                labelled=labelled,
                **({"ideal_dataset": ideal_dataset} if variant == "with_ideal" else {}),
                config=options,
            )
            special = variant or (f"labelled_{labelled}" if labelled else "")
            made(task, "refiner", label, f"{name}-{supervision}" + (f"-{special}" if special else ""))

        def made(task: Any, output: str, label: str, file: str) -> None:
            """Notes a model under the name that evaluate has for it and that of its file."""
            if cluster:  # the local runner warns that it has no use for it
                task.set_display_name(label.replace("_", " "))
            task.set_retry(1, backoff_duration="1s")  # training goes on from its last checkpoint
            keep(task, **{output: f"models/{file}.safetensors"})
            models[label] = task.outputs[output]

        for name, options in (("vgg", vgg), ("densenet", densenet)):
            classifier(name, options)
            refiner(name, "targeted", targeted)
            refiner(name, "non_targeted", non_targeted)
        refiner("densenet", "targeted", targeted, "shuffled_labels")
        if study == "paper":
            for name, options in (("vgg", vgg), ("densenet", densenet)):
                classifier(name, options, "standard")
                classifier(name, options, "augmented")
                task = finetune_task(
                    classifier=models[name],
                    imperfect_dataset=imperfect_dataset,
                    label=f"finetune {name}",
                    config=finetuned,
                )
                made(task, "adapted", f"{name}_finetuned", f"{name}-finetuned")
                refiner(name, "targeted", targeted, "with_ideal")
                refiner(name, "non_targeted", non_targeted, "with_diversity")
            for ablation in ABLATIONS:
                refiner("densenet", "targeted", targeted, ablation)
            for labelled in LABELLED:
                refiner("densenet", "targeted", targeted, labelled=labelled)
            both = {"ideal_dataset": ideal_dataset, "imperfect_dataset": imperfect_dataset}
            task = adda_task(classifier=models["densenet"], **both, label="adda", config=adda)
            made(task, "adapted", "adda", "densenet-adda")
            task = gta_task(classifier=models["densenet"], **both, label="gta", config=gta)
            made(task, "adapted", "gta", "densenet-gta")
            keep(task, generator="models/densenet-gta-generator.safetensors")
            models["gta_generator"] = task.outputs["generator"]
        measure = evaluate_paper_task if study == "paper" else evaluate_task
        evaluated = measure(
            **models,
            ideal_dataset=ideal_dataset,
            imperfect_dataset=imperfect_dataset,
            dwt=denoised.outputs["dwt"],
            answers=denoised.outputs["answers"],
            structures=structures,
            imperfect=imperfect,
            test=test,
            classifiers=classifiers,
            config=evaluate,
        )
        keep(
            evaluated,
            results="results.json",
            table="results.txt",
            report="report.html",
            figures="figures",
            predictions="predictions.csv",
        )
        if cluster:
            for task in Pipeline.get_default_pipeline().tasks.values():
                on_cluster(task, cluster)

    return Dag(imitation_refinement, kept)
