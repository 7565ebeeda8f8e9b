"""The typed options of networks and training. Light: neither torch nor anything else slow is imported."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd, so that a convolution keeps the length")
    return value


Odd = Annotated[int, AfterValidator(_odd)]
Sizes = tuple[Annotated[int, Field(ge=1)], ...]


class StageConfig(BaseModel):
    """A stage's options: typed, checked when read, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassifierConfig(StageConfig):
    """The architecture of a classifier."""

    architecture: Literal["vgg", "densenet"] = Field("vgg", description="network family")
    depths: Sizes = Field((1, 1, 2, 2), description="VGG: convolutions a stage; DenseNet: layers a block")
    widths: Sizes = Field((16, 32, 64, 64), description="VGG: channels a stage; DenseNet: (stem, growth)")
    kernel: Odd = Field(5, ge=3, le=31, description="convolution width [points], odd")
    stem_kernel: Odd = Field(15, ge=3, le=63, description="width of the first convolution [points], odd")
    stem_stride: int = Field(2, ge=1, le=8, description="stride of the first convolution")
    embedding: int = Field(64, ge=2, le=4096, description="m, dimensions of the embedding")
    norm: Literal["batch", "group"] = Field("batch", description="normalisation; group norm is faster on a CPU")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before the embedding")

    @model_validator(mode="before")
    @classmethod
    def _own_sizes(cls, data: Any) -> Any:
        """A DenseNet has sizes of its own where none are given."""
        if isinstance(data, dict) and data.get("architecture") == "densenet":
            return {"depths": (2, 2, 2), "widths": (16, 8), **data}
        return data

    @model_validator(mode="after")
    def _sizes_fit(self) -> ClassifierConfig:
        needed = len(self.depths) if self.architecture == "vgg" else 2
        if not self.depths or len(self.widths) != needed:
            raise ValueError(f"{self.architecture} of depths {self.depths} needs {needed} widths, not {self.widths}")
        return self


class RefinerConfig(StageConfig):
    """The architecture of the U-Net refiner."""

    widths: tuple[Annotated[int, Field(ge=4, multiple_of=4)], ...] = Field(
        (16, 32, 64, 96), min_length=1, description="channels a level, multiples of 4"
    )
    kernel: Odd = Field(7, ge=3, le=31, description="convolution width [points], odd")
    factor: int = Field(4, ge=2, le=8, description="downsampling from level to level")


class OptimiserConfig(StageConfig):
    """How long and how fast to learn."""

    epochs: int = Field(10, ge=1, description="passes over the training part")
    least_steps: int = Field(0, ge=0, description="batches at least; few patterns are passed over more often for it")
    batch_size: int = Field(64, ge=7, description="patterns a batch")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's largest step; it rises and falls over the run")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    seed: int = Field(0, ge=0, description="seed of initial weights and batch order")


class PretrainConfig(StageConfig):
    """The classifier and its training."""

    method: Literal["prototypical", "standard", "augmented"] = Field(
        "prototypical",
        description="standard: without prototype loss and from another seed, so that it can judge what is refined "
        "through the prototypical one; augmented: prototypical, on virtually measured patterns",
    )
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
    variant: Literal["", "without_prediction", "without_prototype", "without_regularisation", "shuffled_labels"] = (
        Field("", description="an ablation of the loss, or the control that learns from shuffled labels")
    )
    labelled: int = Field(
        0, ge=0, description="labelled patterns to learn from, 0 for all; with fewer the last epoch's weights are kept"
    )
