"""The pipeline as one YAML file for a Kubeflow Pipelines cluster."""

from __future__ import annotations

from pathlib import Path

from kfp import compiler

from imitation_refinement.errors import InputError
from imitation_refinement.files import writing
from imitation_refinement.running.portable import PORTABLE
from pipelines.check import check_pipeline
from pipelines.cluster import Cluster
from pipelines.pipeline import dag
from pipelines.profiles import Profile


def compile_pipeline(profile: Profile, path: Path, cluster: Cluster | None = None) -> None:
    """Writes the pipeline, with the profile's options as its parameters' defaults.

    Args:
        profile: every option.
        path: the file, ``.yaml`` or ``.yml``.
        cluster: where it is to run; one with every default if not given.

    Raises:
        InputError: if the file is not called so, or a cluster could not run what the options make.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(path, "is no name for a pipeline.", "Call it something.yaml.")
    cluster = cluster or Cluster()
    if profile.portable:
        if cluster.cuda:
            raise InputError("profile", "is portable, and the cluster's cuda is on.", "Leave one of the two out.")
        cluster = cluster.model_copy(update={"environment": {**cluster.environment, **PORTABLE}})
    with writing(path) as temporary:
        compiler.Compiler().compile(
            dag(profile.study, cluster), str(temporary), pipeline_parameters=profile.parameters()
        )
        check_pipeline(temporary, path)
