"""What results speak of, each said once: networks, methods, forms of refinement, distances, measures of honesty.

A member is the word that files and options use; its attributes say what a person reads, how its numbers are written
and where it stands. Tables, figures, reports and options are made from the members, in this order. Light: neither
torch nor anything else slow is imported.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

REFINER_CHANNELS = 3  # what a model's refiner sees of a pattern; see xrd.refinable


class Word(StrEnum):
    """A word with facts about it: a member is its value, and what its class's ``_describe`` makes of the rest."""

    def __new__(cls, value: str, *facts: Any) -> Self:  # noqa: D102
        member = str.__new__(cls, value)
        member._value_ = value
        member._describe(*facts)
        return member

    def _describe(self, *facts: Any) -> None:
        raise NotImplementedError


class Architecture(Word):
    """A family of classifiers.

    Attributes:
        label: what it is called.
        of_paper: whether it is one of the paper's two, which every run of the pipeline trains.
    """

    VGG = "vgg", "VGG", True
    DENSENET = "densenet", "DenseNet", True
    STRIDED = "strided", "Strided CNN"

    def _describe(self, label: str, of_paper: bool = False) -> None:
        self.label = label
        self.of_paper = of_paper


class Block(StrEnum):
    """A block of the tables, by its heading; the rows of one know equally much about imperfect patterns."""

    NO_NETWORK = "Without a network"
    IDEAL = "Ideal or simulated patterns only"
    WITHOUT_LABELS = "Adapted without labels"
    WITH_LABELS = "Adapted with labels"
    VARIED = "Ablations and controls"
    FEWER_LABELS = "With fewer labels"

    @property
    def in_table_1(self) -> bool:
        """Whether its rows are methods of their own right, as those of the paper's Table 1."""
        return self not in (Block.VARIED, Block.FEWER_LABELS)


class Kind(StrEnum):
    """What a method gives to be compared."""

    ANSWERS = "answers"  # the baselines stage answers, without a network
    CLASSIFIER = "classifier"  # a classifier that has seen no imperfect pattern reads them as they are
    ADAPTED = "adapted"  # a classifier reads them as they are, after it has learned from imperfect ones
    PATTERNS = "patterns"  # the prototypical classifier reads other patterns in their place


class Method(Word):
    """What answers to an imperfect pattern.

    Attributes:
        label: what it is called.
        kind: what it gives.
        block: where its rows stand; those of a refiner by their :class:`Supervision`.
        color: in figures.
        learns_from_labels: whether it learns from labels of imperfect patterns; a refiner by its :class:`Supervision`.
        patterns: what its patterns are called where they are the same for every classifier; empty for others.
        paper_baseline: whether it is one of those that the paper compares refinement with.
    """

    MAJORITY = "majority", "Majority class", Kind.ANSWERS, Block.NO_NETWORK, "#7F8894", True
    NEAREST = "nearest", "Nearest neighbour", Kind.ANSWERS, Block.NO_NETWORK, "#7F8894"
    NEAREST_IN_LIBRARY = (
        "nearest_in_library",
        "Nearest neighbour, material in library",
        Kind.ANSWERS,
        Block.NO_NETWORK,
        "#7F8894",
    )
    SEARCH = "search", "Search-match", Kind.ANSWERS, Block.NO_NETWORK, "#7F8894"
    SEARCH_IN_LIBRARY = (
        "search_in_library",
        "Search-match, material in library",
        Kind.ANSWERS,
        Block.NO_NETWORK,
        "#7F8894",
    )
    STANDARD = "standard", "Standard classifier", Kind.CLASSIFIER, Block.IDEAL, "#4D4D4D"
    RAW = "raw", "Prototypical classifier (raw)", Kind.CLASSIFIER, Block.IDEAL, "#4D4D4D", False, "Raw patterns"
    ALIGNED = (
        "aligned",
        "Raw, zero error mended",
        Kind.PATTERNS,
        Block.WITH_LABELS,
        "#4D4D4D",
        True,
        "Raw, zero error mended",
    )
    AUGMENTED = "augmented", "Augmented classifier", Kind.CLASSIFIER, Block.IDEAL, "#228833"
    DWT = "dwt", "DWT", Kind.PATTERNS, Block.IDEAL, "#228833", False, "DWT", True
    ADDA = "adda", "ADDA", Kind.ADAPTED, Block.WITHOUT_LABELS, "#AA3377", False, "", True
    GTA = "gta", "GTA", Kind.ADAPTED, Block.WITHOUT_LABELS, "#B8860B", False, "", True
    FINETUNED = "finetuned", "Fine-tuned classifier", Kind.ADAPTED, Block.WITH_LABELS, "#4477AA", True
    IR = "ir", "IR", Kind.PATTERNS, Block.WITH_LABELS, "#C8501E"

    def _describe(
        self,
        label: str,
        kind: Kind,
        block: Block,
        color: str,
        learns_from_labels: bool = False,
        patterns: str = "",
        paper_baseline: bool = False,
    ) -> None:
        self.label = label
        self.kind = kind
        self.block = block
        self.color = color
        self.learns_from_labels = learns_from_labels
        self.patterns = patterns
        self.paper_baseline = paper_baseline

    @property
    def knows_material(self) -> bool:
        """Whether the tested material may be in its library: no refiner may know that much."""
        return self in (Method.NEAREST_IN_LIBRARY, Method.SEARCH_IN_LIBRARY)

    @property
    def short(self) -> str:
        """What it is called among the methods of one classifier."""
        return "raw" if self is Method.RAW else self.label


class Supervision(Word):
    """Whether a refiner learns from labels of imperfect patterns.

    Attributes:
        label: what it is called.
        block: where the refiner's rows stand.
        learns_from_labels: whether it does.
    """

    TARGETED = "targeted", "targeted", Block.WITH_LABELS, True
    NON_TARGETED = "non_targeted", "non-targeted", Block.WITHOUT_LABELS, False

    def _describe(self, label: str, block: Block, learns_from_labels: bool) -> None:
        self.label = label
        self.block = block
        self.learns_from_labels = learns_from_labels


class Variant(Word):
    """What is changed in the refiner's training.

    Attributes:
        label: what it is called.
        removes: the term of the loss that is left out, as ``prediction`` of ``prediction_weight``; empty for none.
        adds: the term that the paper does not have; empty for none.
        control: whether it is trained to see that nothing is learned.
    """

    PLAIN = "", "as it is"
    WITHOUT_PREDICTION = "without_prediction", "without ℓ_pred", "prediction"
    WITHOUT_PROTOTYPE = "without_prototype", "without ℓ_proto", "prototype"
    WITHOUT_REGULARISATION = "without_regularisation", "without ℓ_reg", "regularisation"
    WITH_IDEAL = "with_ideal", "with ideal patterns", "", "ideal"
    WITH_DIVERSITY = "with_diversity", "with diversity", "", "diversity"
    SHUFFLED_LABELS = "shuffled_labels", "shuffled labels", "", "", True

    def _describe(self, label: str, removes: str = "", adds: str = "", control: bool = False) -> None:
        self.label = label
        self.removes = removes
        self.adds = adds
        self.control = control

    @property
    def named_form(self) -> bool:
        """Whether refiners of it are methods of their own right: no ablation, no control."""
        return not self.removes and not self.control


class Distance(Word):
    """A distance between a pattern and theory; :mod:`~imitation_refinement.results.metrics` has a function for each.

    Attributes:
        label: what it is called.
        decimals: that its numbers are written with.
        sign: +1 where more is better, −1 where less is.
        meaning: what it is, its range and its unit, in a sentence or two.
    """

    L1 = (
        "l1",
        "ℓ1",
        2,
        -1,
        "Sum over the grid of |pattern − theory|, each scaled to maximum 1; 0 to the number of grid points, lower is "
        "better. It grows with the number of points: compare only on one grid.",
    )
    L2 = (
        "l2",
        "ℓ2",
        3,
        -1,
        "Euclidean norm of pattern − theory, each scaled to maximum 1; 0 to √points, lower is better.",
    )
    KL = (
        "kl",
        "KL",
        3,
        -1,
        "Kullback–Leibler divergence of the pattern from theory, KL(theory ‖ pattern), in nats, each scaled to sum 1 "
        "and mixed with 1 % of a uniform distribution; 0 to ln(points / 0.01), lower is better.",
    )
    NCC = (
        "ncc",
        "NCC",
        3,
        1,
        "Zero-mean normalised cross-correlation at zero lag; −1 to 1, higher is better. The paper’s NCC (about 20.9) "
        "is on another scale that it does not define; compare changes, not values.",
    )

    def _describe(self, label: str, decimals: int, sign: int, meaning: str) -> None:
        self.label = label
        self.decimals = decimals
        self.sign = sign
        self.meaning = meaning


class Unit(StrEnum):
    """What a measure's numbers are written in."""

    NONE = ""
    PERCENT = "%"
    POINTS = "points"
    A_PATTERN = "a pattern"


class Measure(Word):
    """A measure of a refiner's honesty; :func:`~imitation_refinement.results.honesty.honesty` gives their numbers.

    Attributes:
        label: what it is called.
        unit: of its numbers as they are written; shares are kept as 0 to 1.
        good: the best value, or where it should be.
        before: the field that has the same before refinement; empty where there is none.
        meaning: what it is, for the report of a run, which shows those that have one.
        of_answers: whether it is about the classifier's answers to refined patterns, not about these themselves.
    """

    JUDGE_ACCURACY = (
        "judge_accuracy",
        "Accuracy under the judge",
        Unit.PERCENT,
        "above raw",
        "judge_accuracy_raw",
        "How often a classifier of another architecture and seed, which has seen ideal patterns only and took no part "
        "in the refiner’s training, is right; a gain that only the refiner’s own classifier sees is painted for it.",
    )
    JUDGE_GAIN = "judge_gain", "Gain under the judge", Unit.POINTS, "above 0"
    PEAK_PRECISION = (
        "peak_precision",
        "Peak precision",
        Unit.PERCENT,
        "100",
        "peak_precision_raw",
        "Share of the pattern’s peaks that theory has within 0.2°; it falls when peaks are invented.",
    )
    PEAK_RECALL = (
        "peak_recall",
        "Peak recall",
        Unit.PERCENT,
        "100",
        "peak_recall_raw",
        "Share of theory’s peaks that the pattern has within 0.2°; it falls when peaks are lost.",
    )
    INVENTED = (
        "invented",
        "Peaks invented",
        Unit.A_PATTERN,
        "0",
        "invented_raw",
        "Peaks a pattern that theory does not have.",
    )
    INVENTED_FAINT = "invented_faint", "Peaks invented, faint ones too", Unit.A_PATTERN, "0", "invented_faint_raw"
    LOST = "lost", "Peaks lost", Unit.A_PATTERN, "0", "lost_raw", "Theory’s peaks that the pattern does not have."
    NARROW_SHARE = (
        "narrow_share",
        "Narrow features",
        Unit.PERCENT,
        "0",
        "narrow_share_raw",
        "Share of the peaks that are narrower than the instrument allows: no crystal can have drawn them.",
    )
    IDEAL_ACCURACY = (
        "ideal_accuracy_refined",
        "Accuracy on ideal patterns",
        Unit.PERCENT,
        "as raw",
        "ideal_accuracy",
        "How often ideal patterns are recognised after refinement, and before; there is nothing to mend in them.",
        True,
    )
    IDENTITY_L1 = (
        "identity_l1",
        "R(x) against ideal x, ℓ1",
        Unit.NONE,
        "0",
        "",
        "Median distance of a refined ideal pattern from itself; 0 is best.",
    )
    IDENTITY_L2 = "identity_l2", "R(x) against ideal x, ℓ2", Unit.NONE, "0"
    IDENTITY_NCC = (
        "identity_ncc",
        "R(x) against ideal x, NCC",
        Unit.NONE,
        "1",
        "",
        "Median correlation of a refined ideal pattern with itself; 1 is best.",
    )
    NOISE_ENTROPY = (
        "noise_entropy",
        "Entropy on pure noise",
        Unit.NONE,
        "near 1",
        "noise_entropy_raw",
        "Entropy of the answer to counting noise without a pattern, 1 no idea, 0 certainty; it should stay high.",
        True,
    )
    HUMP_ENTROPY = (
        "hump_entropy",
        "Entropy on amorphous humps",
        Unit.NONE,
        "near 1",
        "hump_entropy_raw",
        "The same for the broad humps of a glass, which has no crystal system; it should stay high.",
        True,
    )
    NOISE_CONFIDENCE = (
        "noise_confidence",
        "Confidence in pure noise",
        Unit.PERCENT,
        "low",
        "noise_confidence_raw",
        "",
        True,
    )
    HUMP_CONFIDENCE = (
        "hump_confidence",
        "Confidence in amorphous humps",
        Unit.PERCENT,
        "low",
        "hump_confidence_raw",
        "",
        True,
    )

    def _describe(
        self, label: str, unit: Unit, good: str, before: str = "", meaning: str = "", of_answers: bool = False
    ) -> None:
        self.label = label
        self.unit = unit
        self.good = good
        self.before = before
        self.meaning = meaning
        self.of_answers = of_answers
