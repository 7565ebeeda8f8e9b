"""Numbers, intervals and verdicts as they are written, and the names of rows."""

from __future__ import annotations

import pytest

from imitation_refinement.results import wording
from imitation_refinement.vocabulary import Block, Distance, Measure


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.percent(0.7123), "71.2"),
        (wording.percent(0.8005, 2), "80.05"),
        (wording.percent(None), "–"),
        (wording.number(-0.5), "−0.50"),
        (wording.number(None), "–"),
        (wording.points(0.0917), "+9.2"),
        (wording.points(-0.02), "−2.0"),
        (wording.points(None), "–"),
        (wording.change(-0.324), "−32.4 %"),
        (wording.change(0.254, 0), "+25 %"),
        (wording.change(None), "–"),
        (wording.share_interval(0.62, 0.78), "62.0–78.0"),
        (wording.points_interval(-0.03, 0.151), "−3.0 to +15.1"),
        (wording.p_value(0.0123), "0.012"),
        (wording.p_value(0.0009), "< 0.001"),
        (wording.p_value(None), "–"),
        (wording.p_equals(0.0123), "p = 0.012"),
        (wording.p_equals(0.0009), "p < 0.001"),
        (wording.gain(0.092, 0.061, 0.12, 1e-4), "+9.2 (+6.1 to +12.0) points, p < 0.001"),
        (wording.distance(26.749, Distance.L1), "26.75"),
        (wording.distance(None, Distance.KL), "–"),
        (wording.measure_text(0.5, Measure.PEAK_RECALL), "50.0"),
        (wording.measure_text(0.5, Measure.JUDGE_GAIN), "+50.0"),
        (wording.measure_text(0.5, Measure.NOISE_ENTROPY), "0.50"),
        (wording.measure_text(0.5, Measure.LOST), "0.50"),
        (wording.listed(["a", "b", "c"]), "a, b and c"),
        (wording.listed(["a"]), "a"),
    ],
)
def test_written(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.01, 0.1, 0.01, "better"),
        (-0.1, -0.01, 0.01, "worse"),
        (-0.01, 0.1, 0.01, "within noise"),
        (0.01, 0.1, 0.2, "within noise"),
        (0.0, 0.1, 0.01, "within noise"),
    ],
)
def test_in_words(low: float, high: float, p: float, expected: str) -> None:
    assert wording.in_words(low, high, p) == expected


def test_without_a_test_or_an_interval_nothing_is_more_than_noise() -> None:
    assert wording.in_words(0.1, 0.2, None) == wording.in_words(None, None, 0.01) == "within noise"


@pytest.mark.parametrize(
    ("method", "supervision", "variant", "labelled", "label", "block"),
    [
        ("nearest", None, "", 0, "Nearest neighbour", 0),
        ("raw", None, "", 0, "Prototypical classifier (raw)", 1),
        ("adda", None, "", 0, "ADDA", 2),
        ("ir", "non_targeted", "", 0, "IR, non-targeted", 2),
        ("finetuned", None, "", 0, "Fine-tuned classifier", 3),
        ("ir", "targeted", "", 0, "IR, targeted", 3),
        ("ir", "targeted", "without_prototype", 0, "IR, targeted, without ℓ_proto", 4),
        ("ir", "targeted", "", 30, "IR, targeted, 30 labels", 5),
    ],
)
def test_each_row_has_its_label_and_block(
    method: str, supervision: str | None, variant: str, labelled: int, label: str, block: int
) -> None:
    classifier = "" if method == "nearest" else "vgg"
    row = {"method": method, "classifier": classifier, "supervision": supervision, "variant": variant}
    row |= {"labelled": labelled}
    assert wording.row_label(row) == (f"VGG: {label}" if classifier else label)
    assert wording.block(row) is list(Block)[block]
