"""Options of the collect_structures stage."""

from __future__ import annotations

from pydantic import Field

from imitation_refinement.config import StageConfig


class CollectConfig(StageConfig):
    """Options of the stage."""

    seed: int = Field(0, ge=0, description="seed of the built-in structures and of the choice of specimens")
    n_structures: int = Field(3500, ge=7, description="built-in ideal structures, over the seven crystal systems")
    n_patterns: int = Field(
        1494,
        ge=7,
        description="virtual specimens where no imperfect patterns are given; at most 30 % of given structures",
    )
