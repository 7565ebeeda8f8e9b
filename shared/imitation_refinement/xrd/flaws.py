"""The flaws of a measurement: the ranges they are drawn from, and what was drawn.

:func:`draw` draws the :class:`Parameters` of one measurement from :class:`Ranges`; the virtual diffractometer applies
them. As JSON they travel with a pattern and give the same counts again, noise included.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from imitation_refinement.files import parse_json
from imitation_refinement.options import StageConfig

Range = tuple[float, float]
NO_SIZE = 1e6  # [nm]: crystallites of a millimetre, which broaden nothing
MAX_ORDER = 8


def within(low: float, high: float) -> AfterValidator:
    """Checks a range, first and last: it rises, and lies from ``low`` to ``high``."""

    def check(value: Range) -> Range:
        if value[1] < value[0]:
            raise ValueError("the second number must not be below the first")
        if value[0] < low or value[1] > high:
            raise ValueError(f"must lie within {low:g} and {high:g}")
        return value

    return AfterValidator(check)


class Ranges(StageConfig):
    """What each flaw is drawn from, uniformly, or where it says "log" with a uniform logarithm.

    A range such as 0 0 (for ``march_r`` 1 1) or a share of 0 switches an effect off.
    """

    u: Annotated[Range, within(0, 10)] = Field((0.0, 0.01), description="Caglioti U [°²]")
    w: Annotated[Range, within(0, 10)] = Field((0.001, 0.01), description="Caglioti W [°²], log")
    v_share: Annotated[Range, within(-1, 1)] = Field(
        (0.0, 0.8), description="Caglioti V as a share of -2√(UW), so that widths stay real"
    )
    size: Annotated[Range, within(0, NO_SIZE)] = Field((40.0, 1000.0), description="crystallite size [nm], log")
    microstrain: Annotated[Range, within(0, 0.1)] = Field((0.0, 0.001), description="microstrain ε")
    axial: Annotated[Range, within(0, 1)] = Field((0.0, 0.03), description="axial divergence H/L of sample and slit")
    ka2_ratio: Annotated[Range, within(0, 1)] = Field((0.48, 0.52), description="intensity of Kα2 to Kα1")
    ka2_share: float = Field(0.8, ge=0, le=1, description="share of patterns with Kα2")
    zero_shift: Annotated[Range, within(-5, 5)] = Field((-0.05, 0.05), description="zero shift of 2θ [°]")
    displacement: Annotated[Range, within(-5, 5)] = Field(
        (-0.15, 0.15), description="sample displacement below the axis [mm]"
    )
    radius: Annotated[Range, within(10, 2000)] = Field((150.0, 300.0), description="goniometer radius [mm]")
    transparency: Annotated[Range, within(0, 10)] = Field((0.0, 0.1), description="absorption length 1/µ [mm]")
    monochromator: Annotated[Range, within(0, 179)] = Field((0.0, 28.0), description="2θ of the monochromator [°]")
    march_r: Annotated[Range, within(0.01, 100)] = Field(
        (0.35, 2.2), description="March-Dollase r, log; below 1 plates, above 1 needles"
    )
    texture_share: float = Field(0.9, ge=0, le=1, description="share of patterns with preferred orientation")
    texture_planes: int = Field(4, ge=1, le=1000, description="the preferred plane is one of so many of largest d")
    strain: Annotated[Range, within(-0.1, 0.1)] = Field(
        (-0.004, 0.004), description="each component of the smooth strain of the cell"
    )
    b_iso: Annotated[Range, within(0, 100)] = Field((0.0, 1.5), description="overall Debye-Waller B [Å²]")
    background: Annotated[Range, within(0, 100)] = Field(
        (0.003, 0.1), description="mean polynomial background to highest peak, log"
    )
    background_order: int = Field(5, ge=0, le=MAX_ORDER, description="order of the background polynomial")
    background_shape: float = Field(0.5, ge=0, le=2, description="largest coefficient of order j, times j, to order 0")
    air: Annotated[Range, within(0, 100)] = Field((0.005, 0.3), description="air scatter at 5° to highest peak, log")
    air_power: Annotated[Range, within(0, 4)] = Field((1.0, 3.0), description="power of 1/2θ of the air scatter")
    air_share: float = Field(0.7, ge=0, le=1, description="share of patterns with air scatter")
    hump: Annotated[Range, within(0, 100)] = Field(
        (0.01, 0.15), description="height of the amorphous hump to highest peak, log"
    )
    hump_centre: Annotated[Range, within(0, 180)] = Field((15.0, 35.0), description="centre of the amorphous hump [°]")
    hump_fwhm: Annotated[Range, within(0.1, 180)] = Field((5.0, 15.0), description="width of the amorphous hump [°]")
    hump_share: float = Field(0.2, ge=0, le=1, description="share of patterns with an amorphous hump")
    fluorescence: Annotated[Range, within(0, 100)] = Field(
        (0.05, 0.8), description="fluorescence level to highest peak, log"
    )
    fluorescence_share: float = Field(0.2, ge=0, le=1, description="share of patterns with fluorescence")
    impurity: Annotated[Range, within(0, 100)] = Field(
        (0.02, 0.3), description="highest peak of the impurity to that of the phase, log"
    )
    impurity_share: float = Field(0.25, ge=0, le=1, description="share of patterns with an impurity phase")
    counts: Annotated[Range, within(0, 1e7)] = Field((150.0, 8000.0), description="counts of the highest peak, log")
    spikes: float = Field(0.2, ge=0, le=1000, description="mean number of detector spikes")
    spike: Annotated[Range, within(0, 100)] = Field((0.05, 0.5), description="height of a spike to highest peak")
    gaps: float = Field(0.05, ge=0, le=1000, description="mean number of detector gaps")
    gap: Annotated[Range, within(0, 180)] = Field((0.1, 1.0), description="width of a gap [°], its counts 0")
    first: Annotated[Range, within(0, 180)] = Field((5.0, 12.0), description="first 2θ where the range is cut [°]")
    last: Annotated[Range, within(0, 180)] = Field((60.0, 90.0), description="last 2θ where the range is cut [°]")
    cut_share: float = Field(0.2, ge=0, le=1, description="share of patterns cut at an end, each end by itself")

    @model_validator(mode="after")
    def _ordered(self) -> Ranges:
        if self.cut_share and self.first[1] >= self.last[0]:
            raise ValueError("first must end before last begins")
        return self


@dataclass(frozen=True)
class Parameters:
    """The flaws of one measurement; units as in :class:`Ranges`, levels relative to the highest peak of the phase.

    Attributes:
        texture_plane: number of the preferred plane among the lines of largest d.
        strain: tensor components 11, 22, 33, 23, 13, 12.
        polynomial: Chebyshev coefficients over the whole axis.
        impurity: what the impurity is called where the caller keeps it; None where there is none.
        spikes: (2θ [°], height) of each detector spike.
        gaps: (first 2θ [°], last 2θ [°]) of each gap.
        first, last: 2θ of the measured range [°]; 0 and 180 where it is not cut.
        seed: of the counting noise.
    """

    u: float = 0.0
    v: float = 0.0
    w: float = 0.002
    size: float = NO_SIZE
    microstrain: float = 0.0
    axial: float = 0.0
    ka2_ratio: float = 0.0
    zero_shift: float = 0.0
    displacement: float = 0.0
    radius: float = 200.0
    transparency: float = 0.0
    monochromator: float = 0.0
    march_r: float = 1.0
    texture_plane: int = 0
    strain: tuple[float, ...] = (0.0,) * 6
    b_iso: float = 0.0
    polynomial: tuple[float, ...] = (0.0,)
    air: float = 0.0
    air_power: float = 1.0
    hump: float = 0.0
    hump_centre: float = 25.0
    hump_fwhm: float = 10.0
    fluorescence: float = 0.0
    impurity_ratio: float = 0.0
    impurity: str | None = None
    counts: float = 10_000.0
    spikes: tuple[tuple[float, float], ...] = ()
    gaps: tuple[tuple[float, float], ...] = ()
    first: float = 0.0
    last: float = 180.0
    seed: int | None = None  # None: the expected counts, without noise

    def to_json(self) -> str:
        """The parameters as JSON."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Parameters:
        """The parameters that :meth:`to_json` wrote."""
        record = parse_json(text)
        for name in ("strain", "polynomial"):
            record[name] = tuple(record[name])
        for name in ("spikes", "gaps"):
            record[name] = tuple(tuple(pair) for pair in record[name])
        return cls(**record)

    def observed(self, two_theta: NDArray[np.float64]) -> slice:
        """The part of a rising axis that the cut range leaves."""
        return slice(*np.searchsorted(two_theta, (self.first, self.last)))


def draw(rng: np.random.Generator, ranges: Ranges, start: float = 5.0, stop: float = 90.0) -> Parameters:
    """The flaws of one measurement.

    Args:
        rng: the source of randomness; every effect draws whether it is used or not, so that effects can be switched
            off without a change of the others.
        ranges: what to draw from.
        start: first 2θ of the axis [°], where spikes and gaps may lie.
        stop: last 2θ of the axis [°].
    """
    numbers = iter(rng.random(64).tolist())

    def uniform(low_high: Range) -> float:
        return low_high[0] + next(numbers) * (low_high[1] - low_high[0])

    def log(low_high: Range) -> float:
        if low_high[0] <= 0:
            return uniform(low_high)
        return low_high[0] * (low_high[1] / low_high[0]) ** next(numbers)

    def sometimes(share: float, value: float, otherwise: float = 0.0) -> float:
        return value if next(numbers) < share else otherwise

    r = ranges
    u, w = uniform(r.u), log(r.w)
    level = log(r.background)
    wiggle = [uniform((-r.background_shape, r.background_shape)) / j for j in range(1, MAX_ORDER + 1)]
    return Parameters(
        u=u,
        v=-2 * uniform(r.v_share) * math.sqrt(u * w),
        w=w,
        size=log(r.size) or NO_SIZE,
        microstrain=uniform(r.microstrain),
        axial=uniform(r.axial),
        ka2_ratio=sometimes(r.ka2_share, uniform(r.ka2_ratio)),
        zero_shift=uniform(r.zero_shift),
        displacement=uniform(r.displacement),
        radius=uniform(r.radius),
        transparency=uniform(r.transparency),
        monochromator=uniform(r.monochromator),
        march_r=sometimes(r.texture_share, log(r.march_r), 1.0),
        texture_plane=int(next(numbers) * r.texture_planes),
        strain=tuple(uniform(r.strain) for _ in range(6)),
        b_iso=uniform(r.b_iso),
        polynomial=(level, *(level * c for c in wiggle[: r.background_order])),
        air=sometimes(r.air_share, log(r.air)),
        air_power=uniform(r.air_power),
        hump=sometimes(r.hump_share, log(r.hump)),
        hump_centre=uniform(r.hump_centre),
        hump_fwhm=uniform(r.hump_fwhm),
        fluorescence=sometimes(r.fluorescence_share, log(r.fluorescence)),
        impurity_ratio=sometimes(r.impurity_share, log(r.impurity)),
        counts=log(r.counts),
        first=sometimes(r.cut_share, uniform(r.first)),
        last=sometimes(r.cut_share, uniform(r.last), 180.0),
        spikes=tuple(
            (float(rng.uniform(start, stop)), float(rng.uniform(*r.spike))) for _ in range(rng.poisson(r.spikes))
        ),
        gaps=tuple(
            (at := float(rng.uniform(start, stop)), at + float(rng.uniform(*r.gap))) for _ in range(rng.poisson(r.gaps))
        ),
        seed=int(rng.integers(2**53)),
    )
