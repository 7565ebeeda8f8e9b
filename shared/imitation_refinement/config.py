"""The typed options of networks and training. Light: neither torch nor anything else slow is imported."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class StageConfig(BaseModel):
    """A stage's options: typed, checked when read, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassifierConfig(StageConfig):
    """The architecture of a classifier."""

    architecture: Literal["vgg", "densenet"] = Field("vgg", description="network family")
    depths: tuple[int, ...] = Field((1, 1, 2, 2), description="VGG: convolutions a stage; DenseNet: layers a block")
    widths: tuple[int, ...] = Field((16, 32, 64, 64), description="VGG: channels a stage; DenseNet: (stem, growth)")
    kernel: int = Field(5, ge=3, le=31, description="convolution width [points], odd")
    stem_kernel: int = Field(15, ge=3, le=63, description="width of the first convolution [points], odd")
    stem_stride: int = Field(2, ge=1, le=8, description="stride of the first convolution")
    embedding: int = Field(64, ge=2, le=4096, description="m, dimensions of the embedding")
    norm: Literal["batch", "group"] = Field("batch", description="normalisation; group norm is faster on a CPU")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before the embedding")


class RefinerConfig(StageConfig):
    """The architecture of the U-Net refiner."""

    widths: tuple[int, ...] = Field((16, 32, 64, 96), description="channels a level")
    kernel: int = Field(7, ge=3, le=31, description="convolution width [points], odd")
    factor: int = Field(4, ge=2, le=8, description="downsampling from level to level")


class OptimiserConfig(StageConfig):
    """How long and how fast to learn."""

    epochs: int = Field(10, ge=1, description="passes over the training part")
    batch_size: int = Field(64, ge=7, description="patterns a batch")
    learning_rate: float = Field(
        1e-3, gt=0, description="Adam's largest step; it rises and falls over the run (1cycle)"
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    seed: int = Field(0, ge=0, description="seed of initial weights and batch order")


class PretrainConfig(StageConfig):
    """The classifier and its training."""

    network: ClassifierConfig = ClassifierConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    prototype_weight: float = Field(
        0.1, ge=0, description="λ, weight of the prototype loss; 0 gives a standard classifier"
    )


class RefineConfig(StageConfig):
    """The refiner and its training."""

    supervision: Literal["targeted", "non_targeted"] = Field("targeted", description="with labels or without")
    network: RefinerConfig = RefinerConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    prediction_weight: float = Field(1.0, ge=0, description="weight of ℓ_pred; the paper's is 1, its ablation 0")
    regularisation_weight: float = Field(1.0, ge=0, description="α, weight of ℓ_reg")
    prototype_weight: float = Field(0.1, ge=0, description="β, weight of ℓ_proto")
    diversity_weight: float = Field(0.0, ge=0, description="weight of SHOT's diversity term; no part of the paper")
    feature_depth: int = Field(1, ge=0, le=2, description="Ψ: 0 the pattern, 1 or 2 the maps after that convolution")
    norm: float = Field(1.0, ge=1, description="p of ℓ_reg")
