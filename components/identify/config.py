"""Options of the identify stage."""

from __future__ import annotations

from pydantic import Field, model_validator

from imitation_refinement.options import StageConfig

MAX_SHARDS = 10_000


class IdentifyConfig(StageConfig):
    """Options of the identify stage."""

    wavelength: str = Field("", description="of patterns that do not say theirs: Å, with its unit, or a line's name")
    elements: str = Field(
        "", description="of the samples: 'Fe,O' only these may be there, '+Fe' must be, '-Pb' must not"
    )
    scan: str = Field("all", description="which of a file's several scans: its number, several as 1,3, or all")
    axis: str = Field("", description="of patterns that do not say theirs, with its unit, as 'q (1/nm)'")
    processes: int = Field(0, ge=0, le=1024, description="how many work; 0 for as many as there are cores")
    shard: int = Field(0, ge=0, lt=MAX_SHARDS, description="which shard of the files or rows, from 0")
    shards: int = Field(1, ge=1, le=MAX_SHARDS, description="number of shards; file i belongs to shard i modulo this")

    @model_validator(mode="after")
    def _shard_exists(self) -> IdentifyConfig:
        if self.shard >= self.shards:
            raise ValueError("shard must be below shards")
        return self
