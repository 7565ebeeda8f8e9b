"""Options of the collect_structures stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from imitation_refinement.options import Seed, StageConfig

MINERALS, BGMN, SAMPLES = "minerals", "bgmn", "materials-project-samples"  # carried by packages
MATERIALS_PROJECT, RANDOM = "materials-project", "random"
NAMED_SOURCES = (MINERALS, BGMN, SAMPLES, MATERIALS_PROJECT, RANDOM)  # what `structures` may name besides a path
MOST = 10_000_000  # structures or patterns; all that is known is below two million

Symbol = Annotated[str, Field(pattern="^[A-Z][a-z]?$")]


class MaterialsProjectQuery(StageConfig):
    """Which structures to take from the Materials Project."""

    max_energy_above_hull: float = Field(
        0.1, ge=0, le=100, description="largest energy above the convex hull [eV/atom]"
    )
    min_sites: int = Field(1, ge=1, le=10_000, description="fewest sites in the primitive cell")
    max_sites: int = Field(200, ge=1, le=10_000, description="most sites in the primitive cell")
    elements: tuple[Symbol, ...] = Field((), description="elements that a structure must hold, as Na Cl; any if empty")
    max_structures: int = Field(
        0, ge=0, le=MOST, description="no more than this many, in the order of their ids; 0 for all"
    )
    pages: str = Field(
        "", description="folder that keeps what was fetched; if empty, one beside the output that goes at the end"
    )

    @model_validator(mode="after")
    def _ordered(self) -> MaterialsProjectQuery:
        if self.min_sites > self.max_sites:
            raise ValueError("min_sites must not be above max_sites")
        return self


class CollectConfig(StageConfig):
    """Options of the stage."""

    seed: Seed = Field(0, description="seed of structures that are made, of variants, and of the specimens' choice")
    n_structures: int = Field(
        3500,
        ge=7,
        le=MOST,
        description="ideal structures where none are given: built in (variants from some 8000 on) or random, over the "
        "seven crystal systems",
    )
    n_patterns: int = Field(
        1494,
        ge=7,
        le=MOST,
        description="virtual specimens where no imperfect patterns are given; at most 30 % of given structures",
    )
    augment_to: int = Field(
        0,
        ge=0,
        le=MOST,
        description="given structures are filled up to this number by variants of the same symmetry; 0: none",
    )
    materials_project: MaterialsProjectQuery = Field(
        MaterialsProjectQuery(), description="what to take from the Materials Project"
    )
    workers: int = Field(
        0,
        ge=0,
        le=1024,
        description="processes that read many structures, and make random crystals and variants; 0 for all cores",
    )
