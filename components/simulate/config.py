"""Options of the simulate stage."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from imitation_refinement.options import Seed, StageConfig
from imitation_refinement.xrd.flaws import Ranges
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile

Mode = Literal["physical", "hydride", "pymatgen"]
MAX_SHARDS = 10_000
DISPERSION = (0.1, 3.0)  # wavelengths [Å] at which there are f′ and f″, which all modes but pymatgen need


class Instrument(StageConfig):
    """Where the virtual diffractometer measures."""

    start: float = Field(5.0, gt=0, lt=180, description="first 2θ that the virtual diffractometer measures [°]")
    stop: float = Field(90.0, gt=0, lt=180, description="last 2θ that the virtual diffractometer measures [°]")
    step: float = Field(0.02, gt=0.001, le=0.2, description="step of the virtual diffractometer [°]")
    wavelength: float = Field(1.5406, gt=0.05, lt=10, description="wavelength of the virtual diffractometer [Å]")

    @model_validator(mode="after")
    def _ordered(self) -> Instrument:
        if self.stop < self.start + 100 * self.step:
            raise ValueError("the range must hold at least 100 steps")
        return self

    @property
    def two_theta(self) -> NDArray[np.float64]:
        """The axis in degrees, 4,251 points by default."""
        return self.start + self.step * np.arange(round((self.stop - self.start) / self.step) + 1.0)


class SimulateConfig(StageConfig):
    """Options of the simulate stage."""

    grid: Grid = Field(Grid(), description="the grid of the ideal patterns")
    profile: Profile = Field(Profile(), description="the lines of the ideal patterns")
    mode: Mode = Field(
        "physical",
        description="physical, hydride (with hydrogen as the free atom), or pymatgen (XRDCalculator's peaks)",
    )
    instrument: Instrument = Field(Instrument(), description="the axis of the virtual diffractometer")
    ranges: Ranges = Field(Ranges(), description="the flaws that the virtual diffractometer draws")
    seed: Seed = Field(0, description="seed of the virtual diffractometer")
    shard: int = Field(0, ge=0, lt=MAX_SHARDS, description="which shard of the rows to simulate, from 0")
    shards: int = Field(1, ge=1, le=MAX_SHARDS, description="number of shards; row i belongs to shard i modulo this")
    threads: int = Field(0, ge=0, le=1024, description="threads; 0 for as many as there are cores")

    @model_validator(mode="after")
    def _shard_exists(self) -> SimulateConfig:
        if self.shard >= self.shards:
            raise ValueError("shard must be below shards")
        return self

    @model_validator(mode="after")
    def _dispersion_known(self) -> SimulateConfig:
        for name, wavelength in (("grid", self.grid.wavelength), ("instrument", self.instrument.wavelength)):
            if self.mode != "pymatgen" and not DISPERSION[0] <= wavelength <= DISPERSION[1]:
                low, high = DISPERSION
                raise ValueError(f"{name}.wavelength must be from {low} to {high} Å, unless mode is pymatgen")
        return self
