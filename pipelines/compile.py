"""The pipeline as one YAML file for a Kubeflow Pipelines cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    cluster = cluster or Cluster()
    if profile.portable:
        if cluster.cuda:
            raise InputError("profile", "is portable, and the cluster's cuda is on.", "Leave one of the two out.")
        cluster = cluster.model_copy(update={"environment": {**cluster.environment, **PORTABLE}})
    write_pipeline(dag(profile.study, cluster), profile.parameters(), path)


def write_pipeline(pipeline: Any, parameters: Mapping[str, Any], path: Path) -> None:
    """Writes a pipeline as YAML, whole, once it is checked.

    Args:
        pipeline: what :func:`kfp.dsl.pipeline` made.
        parameters: its parameters' defaults.
        path: the file, ``.yaml`` or ``.yml``.

    Raises:
        InputError: if the file is not called so, or a cluster could not run it.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(path, "is no name for a pipeline.", "Call it something.yaml.")
    with writing(path) as temporary:
        compiler.Compiler().compile(pipeline, str(temporary), pipeline_parameters=dict(parameters))
        check_pipeline(temporary, path)
