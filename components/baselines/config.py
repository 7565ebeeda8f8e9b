"""Options of the baselines stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from imitation_refinement.options import StageConfig

ThresholdRule = Literal["bayes", "visu"]


def _discrete(names: tuple[str, ...]) -> tuple[str, ...]:
    import pywt  # only where wavelets are named: whoever reads a profile need not wait for it

    if unknown := [name for name in names if name not in pywt.wavelist(kind="discrete")]:
        raise ValueError(f"{unknown[0]!r} is no discrete wavelet; use names of PyWavelets, as sym8")
    return names


class DwtConfig(StageConfig):
    """Candidates of the discrete wavelet transform; a list of one is a choice.

    Every combination is tried on the validation part. The first of each list is used where nothing can be tried.
    """

    wavelets: Annotated[tuple[str, ...], AfterValidator(_discrete)] = Field(
        ("sym8", "sym4", "db4", "coif3"), min_length=1, description="discrete wavelets, by PyWavelets' names"
    )
    levels: tuple[Annotated[int, Field(ge=1, le=12)], ...] = Field(
        (4, 3, 5, 6), min_length=1, description="decomposition levels"
    )
    rules: tuple[ThresholdRule, ...] = Field(
        ("bayes", "visu"), min_length=1, description="thresholds: BayesShrink, VisuShrink"
    )
    anscombe: tuple[bool, ...] = Field(
        (True, False), min_length=1, description="denoise after Anscombe's variance-stabilising transform of the counts"
    )


class NearestConfig(StageConfig):
    """How patterns are compared with the ideal library."""

    # Chosen without the test part of 1,328 simulated imperfect patterns: blurs of 0.12 to 0.2° raise the right answers
    # from 33 to 38 % (44 % where the material is in the library); windows from 0.7 to 1.5° do equally well.
    blur: float = Field(0.15, ge=0, le=2, description="standard deviation of the blur that forgives small shifts [°]")
    background: float = Field(1.0, gt=0, le=20, description="half width of what the background (SNIP) clips [°]")


class BaselinesConfig(StageConfig):
    """Options of the baselines stage."""

    dwt: DwtConfig = DwtConfig()
    nearest: NearestConfig = NearestConfig()
