"""Options of the evaluate stage."""

from __future__ import annotations

from pydantic import Field

from imitation_refinement.options import Seed, StageConfig
from imitation_refinement.results.gate import Bounds


class EvaluateConfig(StageConfig):
    """Options of the evaluate stage."""

    resamples: int = Field(
        10_000, ge=100, le=1_000_000, description="bootstrap resamples of the accuracy's 95 % interval"
    )
    ideal_patterns: int = Field(
        2000, ge=50, le=1_000_000, description="most ideal test patterns that are read, drawn by the seed"
    )
    examples: int = Field(4, ge=1, le=12, description="patterns drawn beside theory")
    embedded: int = Field(300, ge=50, le=100_000, description="most patterns of each kind in the embedding figure")
    bounds: Bounds = Field(Bounds(), description="what a champion of the registry must keep")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    profile: str = Field("", description="name of the profile, for the record")
    portable: bool = Field(False, description="whether any x86-64 processor repeats the run's numbers, for the record")
    structures: str = Field("built-in", description="where the structures came from, for the record")
    imperfect: str = Field("built-in", description="where the imperfect patterns came from, for the record")
    test: str = Field("", description="where the patterns came from that were tested on alone, for the record")
    classifiers_from: str = Field("", description="the run that the classifiers were trained in, for the record")
    seed: Seed = Field(0, description="seed of bootstrap and embedding; the run's seed, for the record")
