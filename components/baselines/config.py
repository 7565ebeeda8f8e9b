"""Options of the baselines stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from imitation_refinement.config import StageConfig

ThresholdRule = Literal["bayes", "visu"]


class DwtConfig(StageConfig):
    """Options of the discrete wavelet transform baseline."""

    wavelet: str = Field("sym8", description="discrete wavelet, by PyWavelets' name")
    level: int = Field(4, ge=1, le=12, description="decomposition levels")
    rule: ThresholdRule = Field("bayes", description="threshold: BayesShrink or VisuShrink")
    anscombe: bool = Field(True, description="denoise after Anscombe's variance-stabilising transform of the counts")
