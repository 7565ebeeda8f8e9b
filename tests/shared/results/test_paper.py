from __future__ import annotations

import pytest

from imitation_refinement.results.paper import PAPER_TABLE_1, PAPER_TABLE_2, PAPER_TABLE_3, paper_change


def test_table_1() -> None:
    percent = {name: round(100 * share, 2) for name, share in PAPER_TABLE_1.items()}
    assert (percent["vgg-standard"], percent["vgg-raw"]) == (68.54, 69.01)
    assert (percent["densenet-standard"], percent["densenet-raw"]) == (67.74, 70.82)
    assert (percent["vgg-targeted"], percent["vgg-non_targeted"]) == (73.98, 71.63)
    assert (percent["densenet-targeted"], percent["densenet-non_targeted"]) == (80.05, 74.74)
    for classifier in ("vgg", "densenet"):
        assert [percent[f"{classifier}-{name}"] for name in ("dwt", "adda", "gta")] == [71.28, 73.78, 73.18]
    assert max(percent, key=lambda name: percent[name]) == "densenet-targeted"
    assert PAPER_TABLE_1["densenet-targeted"] - PAPER_TABLE_1["densenet-raw"] == pytest.approx(0.0923)


def test_table_2_ends_with_table_1_s_best() -> None:
    assert sorted(PAPER_TABLE_2.values()) == [0.7576, 0.7933, 0.8005]
    assert PAPER_TABLE_2["densenet-targeted"] == PAPER_TABLE_1["densenet-targeted"]


def test_table_3() -> None:
    assert set(PAPER_TABLE_3) <= set(PAPER_TABLE_1)
    assert all(list(row) == ["l1", "l2", "kl", "ncc"] for row in PAPER_TABLE_3.values())
    assert PAPER_TABLE_3["densenet-gta"]["l1"] == 90.914 and PAPER_TABLE_3["vgg-non_targeted"]["kl"] == 12.545
    assert min(row["l1"] for row in PAPER_TABLE_3.values()) == PAPER_TABLE_3["densenet-targeted"]["l1"] == 25.101


@pytest.mark.parametrize(
    ("name", "metric", "expected"),
    [
        ("densenet-targeted", "l1", -0.06),
        ("densenet-targeted", "l2", -0.03),
        ("vgg-targeted", "l2", -0.07),
        ("vgg-targeted", "kl", -0.04),
        ("densenet-targeted", "ncc", 0.08),
    ],
)
def test_changes_against_raw(name: str, metric: str, expected: float) -> None:
    assert paper_change(name, metric) == pytest.approx(expected, abs=0.005)


def test_no_change_of_raw_itself_or_of_what_the_paper_lacks() -> None:
    assert paper_change("densenet-raw", "l1") is None
    assert paper_change("densenet-finetuned", "l1") is None
