"""The typed options of networks and training. Light: neither torch nor anything else slow is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    SerializeAsAny,
    model_validator,
)

from imitation_refinement.options import Seed, StageConfig
from imitation_refinement.vocabulary import Architecture, Supervision, Variant
from imitation_refinement.xrd.flaws import Ranges
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile

if TYPE_CHECKING:
    from imitation_refinement.learning.generator import Generator
    from imitation_refinement.learning.networks import Classifier, Refiner
    from imitation_refinement.learning.root_refiner import RootRefiner


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd, so that a convolution keeps the length")
    return value


Odd = Annotated[int, AfterValidator(_odd)]
Sizes = tuple[Annotated[int, Field(ge=1, le=8192)], ...]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Precision = Literal["auto", "float32", "bfloat16"]


# Of an architecture where none are given. The strided CNN's are for some 3,072 points: 0.65 million weights.
OWN_SIZES: dict[str, dict[str, Any]] = {
    Architecture.DENSENET: {"depths": (2, 2, 2), "widths": (16, 8)},
    Architecture.STRIDED: {
        "depths": (1, 1, 1, 1, 1, 1),
        "widths": (24, 32, 48, 64, 96, 128),
        "kernel": 7,
        "stem_stride": 4,
        "embedding": 160,
        "norm": "group",
        "dropout": 0.0,
        "positions": 24,
    },
}


class ClassifierConfig(StageConfig):
    """The architecture of a classifier."""

    architecture: Architecture = Field(Architecture.VGG, description="network family")
    depths: Sizes = Field(
        (1, 1, 2, 2), description="VGG: convolutions a stage; DenseNet: layers a block; strided: of each"
    )
    widths: Sizes = Field(
        (16, 32, 64, 64), description="VGG: channels a stage; DenseNet: (stem, growth); strided: of each"
    )
    kernel: Odd = Field(5, ge=3, le=31, description="convolution width [points], odd")
    stem_kernel: Odd = Field(15, ge=3, le=63, description="width of the first convolution [points], odd")
    stem_stride: int = Field(2, ge=1, le=8, description="stride of the first convolution")
    embedding: int = Field(64, ge=2, le=4096, description="m, dimensions of the embedding")
    norm: Literal["batch", "group", "weight", "none"] = Field(
        "batch", description="normalisation; group norm is faster on a CPU, weights standardised instead faster still"
    )
    positions: int = Field(
        0,
        ge=0,
        le=1024,
        description="length of the map that the dense head sees whole; 0: average and maximum of eight stretches of it",
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before the embedding")
    embedding_norm: bool = Field(
        False,
        description="embeddings of mean 0 and variance 1, so that distances stay what they are as weights grow",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_sizes(cls, data: Any) -> Any:
        """A DenseNet and a strided CNN have sizes of their own where none are given."""
        own = OWN_SIZES.get(str(data.get("architecture")), {}) if isinstance(data, dict) else {}
        return {**own, **data} if own else data

    @model_validator(mode="after")
    def _sizes_fit(self) -> ClassifierConfig:
        needed = 2 if self.architecture is Architecture.DENSENET else len(self.depths)
        if not self.depths or len(self.widths) != needed:
            raise ValueError(f"{self.architecture} of depths {self.depths} needs {needed} widths, not {self.widths}")
        return self

    def build(self) -> Classifier:
        """The network, with fresh weights."""
        from imitation_refinement.learning.networks import Classifier

        return Classifier(self)


class RefinerConfig(StageConfig):
    """A refiner's network: what all have in common. A subclass is a network, and knows what it builds.

    Where one is asked for, options name it by ``architecture``, one of :data:`REFINERS`; a U-Net by default.
    """

    zero_error: float = Field(
        0.0, ge=-64, le=64, description="how far patterns stand too high along 2θ [points]; set by targeted training"
    )

    def build(self) -> Refiner:
        """The network, with fresh weights."""
        raise NotImplementedError

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_class(cls, data: Any, handler: ModelWrapValidatorHandler[RefinerConfig]) -> RefinerConfig:
        if cls is not RefinerConfig or isinstance(data, RefinerConfig):
            return handler(data)
        name = data.get("architecture", "unet") if isinstance(data, dict) else "unet"
        if name not in REFINERS:
            raise ValueError(f"{name!r} is no architecture of a refiner; there are: {', '.join(REFINERS)}")
        return REFINERS[name].model_validate(data)


class UNetConfig(RefinerConfig):
    """The U-Net refiner."""

    architecture: Literal["unet"] = Field("unet", description="the network")
    widths: tuple[Annotated[int, Field(ge=4, le=8192, multiple_of=4)], ...] = Field(
        (16, 32, 64, 96), min_length=1, description="channels a level, multiples of 4"
    )
    kernel: Odd = Field(7, ge=3, le=31, description="convolution width [points], odd")
    factor: int = Field(4, ge=2, le=8, description="downsampling from level to level")
    baseline: Odd = Field(
        61, ge=3, le=1001, description="peaks narrower than this [points], odd, are no part of the baseline"
    )

    def build(self) -> Refiner:
        """The U-Net."""
        from imitation_refinement.learning.networks import UNet

        return UNet(self)


REFINERS: dict[str, type[RefinerConfig]] = {
    "unet": UNetConfig,
}


class RootRefinerConfig(StageConfig):
    """The refiner that learns from pairs: a U-Net on √I whose positions hold several points each."""

    widths: tuple[Annotated[int, Field(ge=4, le=8192, multiple_of=4)], ...] = Field(
        (32, 48, 64), min_length=1, description="channels a level, multiples of 4"
    )
    kernel: Odd = Field(5, ge=3, le=31, description="convolution width [positions], odd")
    factor: int = Field(4, ge=2, le=8, description="downsampling from level to level")
    fold: int = Field(8, ge=1, le=16, description="points of the axis that a position holds")
    positions: int = Field(24, ge=1, le=1024, description="length of the map that the zero error is told from")
    hidden: int = Field(64, ge=1, le=8192, description="units that the zero error is told by")

    def build(self, grid: Grid) -> RootRefiner:
        """The network on a grid, with fresh weights."""
        from imitation_refinement.learning.root_refiner import RootRefiner

        return RootRefiner(self, grid)


class OptimiserConfig(StageConfig):
    """How long and how fast to learn."""

    epochs: int = Field(10, ge=1, le=1_000_000, description="passes over the training part")
    least_steps: int = Field(
        0, ge=0, le=1_000_000_000, description="batches at least; few patterns are passed over more often for it"
    )
    batch_size: int = Field(64, ge=7, le=1_000_000, description="patterns a batch")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="Adam's largest step; it rises and falls over the run")
    weight_decay: float = Field(0.0, ge=0, le=100, description="AdamW's decoupled weight decay")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    precision: Precision = Field(
        "auto", description="of the networks while they learn; auto: bfloat16 on a GPU that has it, else float32"
    )
    compile: bool = Field(False, description="compile the networks by torch.compile: a minute first, then faster")
    seed: Seed = Field(0, description="seed of initial weights and batch order")


class PretrainConfig(StageConfig):
    """The classifier and its training."""

    method: Literal["prototypical", "standard", "augmented"] = Field(
        "prototypical",
        description="standard: without prototype loss and from another seed, so that it can judge what is refined "
        "through the prototypical one; augmented: prototypical, on ideal patterns with flaws drawn anew for each batch",
    )
    network: ClassifierConfig = ClassifierConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    prototype_weight: Weight = Field(0.1, description="λ, weight of the prototype loss; 0 gives a standard classifier")
    ranges: Ranges = Field(Ranges(), description="augmented: what the flaws are drawn from")
    profile: Profile = Field(Profile(), description="augmented: the lines of the ideal patterns")


class RefineConfig(StageConfig):
    """The refiner and its training."""

    supervision: Supervision = Field(Supervision.TARGETED, description="with labels or without")
    network: SerializeAsAny[RefinerConfig] = UNetConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    prediction_weight: Weight = Field(1.0, description="weight of ℓ_pred; the paper's is 1")
    regularisation_weight: Weight = Field(1.0, description="α, weight of ℓ_reg")
    prototype_weight: Weight = Field(0.1, description="β, weight of ℓ_proto")
    ideal_weight: Weight = Field(
        1.0, description="in the variant with_ideal alone: weight of the targeted loss of ideal patterns"
    )
    diversity_weight: Weight = Field(
        3.0, description="in the variant with_diversity alone: weight of SHOT's diversity term"
    )
    zero_error: bool = Field(
        True, description="targeted: whether the zero error of 2θ is found from training patterns of known structure"
    )
    feature_depth: int = Field(1, ge=0, le=2, description="Ψ: 0 the pattern, 1 or 2 the maps after that convolution")
    norm: float = Field(1.0, ge=1, le=100, description="p of ℓ_reg")
    variant: Variant = Field(
        Variant.PLAIN,
        description="an ablation of the loss, a term added that is no part of the paper, or the control that learns "
        "from shuffled labels",
    )
    labelled: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="labelled patterns to learn from, 0 for all; with fewer the last epoch's weights are kept",
    )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term of the loss, 0 of those that the variant has not."""
        added = [variant.adds for variant in Variant if variant.adds]
        missing = {self.variant.removes, *added} - {self.variant.adds}
        terms = ("prediction", "regularisation", "prototype", *added)
        return {term: 0.0 if term in missing else getattr(self, f"{term}_weight") for term in terms}

    @property
    def own_method(self) -> bool:
        """Whether the refiner is a method of its own right: no ablation, no control, all labels."""
        return self.variant.named_form and not self.labelled


class AddaConfig(StageConfig):
    """Adversarial discriminative domain adaptation (Tzeng et al., CVPR 2017)."""

    hidden: Sizes = Field((500, 500), description="hidden units of the discriminator of embeddings")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's β1; β2 is 0.999")


class GeneratorOptions(StageConfig):
    """The generator's own layers."""

    noise: int = Field(64, ge=1, le=8192, description="dimensions of the noise; the paper's are 512")
    widths: Sizes = Field((32, 16, 8), min_length=1, description="channels after each fourfold upsampling")
    kernel: Odd = Field(5, ge=3, le=31, description="convolution width [points], odd")


class GeneratorConfig(GeneratorOptions):
    """The architecture of GTA's generator with its encoder."""

    encoder: ClassifierConfig = Field(ClassifierConfig(), description="the classifier that embeds patterns")
    points: int = Field(2048, ge=2, le=65536, description="points of a pattern")

    def build(self) -> Generator:
        """The network, with fresh weights."""
        from imitation_refinement.learning.generator import Generator

        return Generator(self)


class GtaConfig(StageConfig):
    """Generate To Adapt (Sankaranarayanan et al., CVPR 2018)."""

    generator: GeneratorOptions = GeneratorOptions()
    discriminator: Sizes = Field((16, 32, 64, 64), min_length=1, description="channels, each level a quarter as long")
    adversarial_weight: Weight = Field(0.1, description="weight of the discriminator's answers in the encoder's loss")
    target_weight: Weight = Field(0.3, description="α, weight of the imperfect patterns among these")
    beta1: float = Field(0.8, ge=0, lt=1, description="Adam's β1; β2 is 0.999")


ADAPTATION_DEFAULTS: dict[str, dict[str, Any]] = {
    "finetuned": {"epochs": 10, "batch_size": 32, "learning_rate": 3e-4},
    "adda": {"epochs": 15, "batch_size": 64, "learning_rate": 1e-4},
    "gta": {"epochs": 6, "batch_size": 16, "learning_rate": 5e-4},
}


class AdaptConfig(StageConfig):
    """What else can be done with a pretrained classifier and imperfect patterns: the paper's baselines, and one more.

    Where the optimiser's epochs, batch size or learning rate are not given, they are the method's own
    (:data:`ADAPTATION_DEFAULTS`).
    """

    method: Literal["finetuned", "adda", "gta"] = Field(
        "finetuned",
        description="finetuned learns from the imperfect patterns' labels, adda and gta see none; sets the defaults of "
        + "; ".join(f"{m}: {', '.join(f'{k} {v}' for k, v in own.items())}" for m, own in ADAPTATION_DEFAULTS.items()),
    )
    optimiser: OptimiserConfig = OptimiserConfig(**ADAPTATION_DEFAULTS["finetuned"])
    adda: AddaConfig = AddaConfig()
    gta: GtaConfig = GtaConfig()

    @model_validator(mode="before")
    @classmethod
    def _own_pace(cls, data: Any) -> Any:
        """Each method has its own length and rate of learning where none is given."""
        if not isinstance(data, dict):
            return data
        own = ADAPTATION_DEFAULTS.get(str(data.get("method", "finetuned")), {})
        given = data.get("optimiser", {})
        return {**data, "optimiser": {**own, **given}} if isinstance(given, dict) else data
