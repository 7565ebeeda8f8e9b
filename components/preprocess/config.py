"""Options of the preprocess stage."""

from __future__ import annotations

from pydantic import Field

from imitation_refinement.data.patterns import LEAST_COVERAGE
from imitation_refinement.options import Seed, StageConfig


class PreprocessConfig(StageConfig):
    """Options of the preprocess stage."""

    folds: int = Field(10, ge=3, le=100, description="parts of a split: one test, one validation, the rest training")
    min_coverage: float = Field(
        LEAST_COVERAGE, gt=0, le=1, description="least share of the grid that a pattern must cover, 0 to 1"
    )
    seed: Seed = Field(0, description="seed of the splits")
