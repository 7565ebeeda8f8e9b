"""The report says what the rows say, escapes everything, and needs nothing outside itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.report import (
    ablation_table,
    accuracy_table,
    compared,
    distance_table,
    format_table,
    headline,
    verdicts,
    write_report,
)
from imitation_refinement.errors import InputError
from imitation_refinement.results.figures import accuracy_figure, save_figure
from imitation_refinement.results.table import Table

Row = dict[str, Any]


def row(method: str, accuracy: float, supervision: str | None = None, classifier: str = "vgg", **more: Any) -> Row:
    interval = {"accuracy": accuracy, "accuracy_low": accuracy - 0.08, "accuracy_high": accuracy + 0.08}
    distances = {"l1": 40.0, "l2": 2.0, "kl": 1.0, "ncc": 0.8}
    base = {"method": method, "classifier": classifier, "supervision": supervision, "n_train": 1345, "n_test": 149}
    name = f"{classifier}-{supervision or method}" if classifier else method
    return {"name": name, **base, **interval, **distances, **more}


RAW = row("raw", 0.50)
CLEAR = row("ir", 0.70, "targeted", l2=1.5, kl=1.25, gain=0.2, gain_low=0.12, gain_high=0.28, p_value=1e-6)
PAIRED = row("ir", 0.60, "targeted", gain=0.1, gain_low=0.03, gain_high=0.17, p_value=0.01)
NOISE = row("ir", 0.52, "targeted", gain=0.02, gain_low=-0.05, gain_high=0.09, p_value=0.7)
WORSE = row("ir", 0.30, "targeted")


@pytest.mark.parametrize(
    ("refined", "tone", "sentence"),
    [
        (CLEAR, "better", "beats the raw patterns beyond the 95 % interval with the classifier."),
        (PAIRED, "probably better", "in the paired comparison, but not beyond"),
        (NOISE, "within noise", "does not beat the raw patterns: the differences are within noise"),
        (WORSE, "worse", "with VGG they are recognised less often"),
        ({**PAIRED, "p_value": None}, "within noise", "within noise"),
    ],
)
def test_verdict(refined: Row, tone: str, sentence: str) -> None:
    (verdict,) = verdicts([RAW, refined])
    assert verdict.tone == tone
    assert sentence in headline([RAW, refined])


def test_verdict_in_words() -> None:
    (verdict,) = verdicts([RAW, CLEAR])
    assert verdict.subject == "VGG, targeted"
    assert "50.0 % → 70.0 %, +20.0 points" in verdict.accuracy
    assert "(62.0–78.0 % against 42.0–58.0 %)" in verdict.accuracy
    assert "+20.0 (+12.0 to +28.0) points, p < 0.001" in verdict.accuracy
    assert "ℓ2 2.000 → 1.500 (closer), KL 1.000 → 1.250 (no closer)" in verdict.distances


def test_headline_of_several_classifiers() -> None:
    other = {"classifier": "densenet"}
    assert "with either classifier" in headline([RAW, CLEAR, RAW | other, CLEAR | other])
    assert "with VGG, but not throughout" in headline([RAW, CLEAR, RAW | other, NOISE | other])
    assert "says nothing" in headline([RAW, CLEAR | {"supervision": "non_targeted"}])
    assert "says nothing" in headline([CLEAR, RAW | other])


def test_what_the_paired_test_does_not_see_is_noise_though_the_intervals_are_apart() -> None:
    apart = row("ir", 0.70, "targeted", gain=0.2, gain_low=0.1, gain_high=0.3, p_value=0.125)
    (verdict,) = verdicts([RAW, apart])
    assert verdict.tone == "within noise" and "do not overlap" in verdict.accuracy


def test_only_plain_refiners_have_verdicts() -> None:
    found = verdicts([RAW, CLEAR, CLEAR | {"variant": "shuffled_labels"}, CLEAR | {"labelled": 30}])
    assert [verdict.subject for verdict in found] == ["VGG, targeted"]


def test_comparison_with_the_best_baseline_in_words() -> None:
    against = {"best_baseline": "vgg-dwt", "gain_over_baseline": 0.03, "p_baseline": 0.4}
    against |= {"gain_over_baseline_low": -0.02, "gain_over_baseline_high": 0.08}
    (verdict,) = verdicts([RAW, row("dwt", 0.67), CLEAR | against])
    assert verdict.baseline == (
        "Against VGG: DWT, the best baseline: +3.0 (−2.0 to +8.0) points, p = 0.400: not to be told from noise."
    )
    clear = against | {"gain_over_baseline_low": 0.01, "p_baseline": 0.01}
    assert verdicts([RAW, CLEAR | clear])[0].baseline.endswith("better, by more than noise.")


def over(field: str, p: str, gain: float, half: float, value: float) -> Row:
    return {field: gain, f"{field}_low": gain - half, f"{field}_high": gain + half, p: value}


def selected_among(*others: Row, **fields: Any) -> Row:
    """Results whose selected refiner is CLEAR with these fields."""
    return {"selected": CLEAR["name"], "rows": [RAW, *others, CLEAR | fields]}


def test_the_first_screen_compares_with_the_best_whatever_it_is() -> None:
    nearest, library = row("nearest", 0.74, classifier=""), row("search_in_library", 0.9, classifier="")
    fields = {"best_baseline": "nearest", "in_library": "search_in_library"}
    fields |= over("gain_over_baseline", "p_baseline", -0.04, 0.06, 0.3)
    fields |= over("gain_over_library", "p_library", -0.2, 0.1, 0.001)
    lines = compared(selected_among(nearest, library, row("dwt", 0.6), **fields))
    assert [line.label for line in lines] == [
        "VGG: IR, targeted",
        "Nearest neighbour",
        "VGG: Prototypical classifier (raw)",
        "Search-match, material in library",
    ]
    assert lines[0].difference == "" and lines[0].share == "70.0 %\n62.0–78.0"
    assert lines[1].difference == "−4.0 (−10.0 to +2.0)\np = 0.300, within noise"
    assert lines[2].difference == "+20.0 (+12.0 to +28.0)\np < 0.001, better"
    assert lines[3].difference == "−20.0 (−30.0 to −10.0)\np = 0.001, worse"
    assert lines[3].ends == pytest.approx((90, 82, 98))
    assert compared({"rows": [RAW, CLEAR]}) == []


def test_raw_patterns_that_are_the_best_baseline_stand_once() -> None:
    fields = {"best_baseline": "vgg-raw", **over("gain_over_baseline", "p_baseline", 0.2, 0.08, 1e-6)}
    _, line = compared(selected_among(**fields))
    assert line.role == "the best method without refinement; the same network on patterns as measured"


def test_terminal_table_holds_every_number_and_aligns() -> None:
    table = format_table([RAW, row("dwt", 1.0, l1=None, l2=None, kl=None, ncc=None), CLEAR]).splitlines()
    assert table[2] == "Ideal or simulated patterns only:" and table[5] == "Adapted with labels:"
    assert " ".join(table[3].split()).startswith(
        "VGG: Prototypical classifier (raw) 50.0 % (42.0–58.0) – – 40.00 2.000 1.000 0.800"
    )
    assert "+20.0 (+12.0 to +28.0)" in table[6] and "< 0.001" in table[6]
    assert len({len(table[i]) for i in (0, 1, 3, 4, 6)}) == 1
    assert table[4].endswith("–")


def lines(table: Table) -> dict[str, list[str]]:
    return {label: cells for label, *cells in table.rows}


def test_table_1_has_the_papers_numbers_and_says_what_is_noise() -> None:
    rows = [RAW, CLEAR, NOISE | {"classifier": "densenet", "name": "densenet-targeted"}, row("majority", 0.2, None, "")]
    rows.append(CLEAR | {"variant": "without_prototype", "name": "vgg-targeted-without_prototype"})
    table = accuracy_table(rows)
    assert [heading for heading, _ in table.groups] == [
        "Without a network",
        "Ideal or simulated patterns only",
        "Adapted with labels",
    ]
    assert lines(table) == {
        "Majority class": ["20.0 % (12.0–28.0)", "–", "–"],
        "VGG: Prototypical classifier (raw)": ["50.0 % (42.0–58.0)", "69.01 %", "–"],
        "VGG: IR, targeted": ["70.0 % (62.0–78.0)", "73.98 %", "+20.0 (+12.0 to +28.0)\np < 0.001, better"],
        "DenseNet: IR, targeted": ["52.0 % (44.0–60.0)", "80.05 %", "+2.0 (−5.0 to +9.0)\np = 0.700, within noise"],
    }


def test_table_2_compares_with_the_whole_loss() -> None:
    whole = row("ir", 0.7, "targeted", "densenet", n_train=100)
    against = {"gain": -0.1, "gain_low": -0.2, "gain_high": -0.01, "p_value": 0.03}
    varied = whole | {"variant": "without_prototype", "name": "densenet-targeted-without_prototype"}
    few = whole | {"labelled": 30, "name": "densenet-targeted-labelled_30", "n_train": 30}
    table = lines(ablation_table([RAW, whole, varied | {"against_plain": against}, few]))
    assert table["DenseNet: IR, targeted"][2] == "80.05 %"
    assert table["DenseNet: IR, targeted, without ℓ_proto"][2:] == [
        "75.76 %",
        "–",
        "−10.0 (−20.0 to −1.0)\np = 0.030, worse",
    ]
    assert table["DenseNet: IR, targeted, 30 labels"][0] == "30"
    assert not ablation_table([RAW, CLEAR]).groups


def test_table_3_gives_changes_and_raw_once() -> None:
    densenet = {"classifier": "densenet", "name": "densenet-raw"}
    rows = [RAW, RAW | densenet, row("standard", 0.5, l1=None, l2=None, kl=None, ncc=None), CLEAR | {"n_theory": 140}]
    table = lines(distance_table(rows))
    assert list(table) == ["Raw patterns", "VGG: IR, targeted"]
    assert table["Raw patterns"][:3] == ["–", "40.00", "26.75"]
    assert table["VGG: IR, targeted"][:9] == [
        "140",
        "40.00\n+0 %",
        "26.20\n−2 %",
        "1.500\n−25 %",
        "1.603\n−7 %",
        "1.250\n+25 %",
        "11.686\n−4 %",
        "0.800\n+0 %",
        "20.956\n+0 %",
    ]


class Page(HTMLParser):
    """Collects what a browser would fetch, and the nesting of the tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "src":
                self.sources.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "id":
                self.ids.add(value or "")
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_stands_alone_and_escapes(tmp_path: Path) -> None:
    picture = tmp_path / "curves.svg"
    save_figure(accuracy_figure([RAW]), picture)
    results = {
        "profile": "<script>alert(1)</script>",
        "seed": 7,
        "seconds": 281.4,
        "rows": [RAW, CLEAR, row("majority", 0.2, classifier="", extra="ignored")],
        "data": {"imperfect": {"source": "<b>bold</b>", "sha256": "ab" * 32, "n_test": 149}},
        "more": {"nested": 1},
        "ideal_accuracy": {"vgg": 0.973, "densenet": None},
    }
    figures = {"training_vgg": picture, "accuracy": accuracy_figure([RAW, CLEAR]), "extra": picture}
    path = tmp_path / "report.html"
    about = {"date": "2026-11-29 11:02 UTC", "run": "r1", "revision": "abc", "command": "imitation-refinement run <x>"}
    fields = {"best_baseline": "majority", **over("gain_over_baseline", "p_baseline", 0.5, 0.1, 1e-9)}
    results |= {"selected": CLEAR["name"], "rows": [RAW, CLEAR | fields, results["rows"][2]]}
    write_report(path, results, figures, {"refiner": "models/<x>.safetensors"}, about)
    text = path.read_text()
    page = Page(text)
    assert not page.open
    assert not {"script", "link", "iframe", "b"} & set(page.tags)
    assert [re.match(r"data:image/[a-z+]+;base64,", source) is not None for source in page.sources] == [True] * 3
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert "url(" not in text and "@import" not in text
    first = text[: text.index("<nav")]
    for piece in (
        *("date 2026-11-29 11:02 UTC", "run r1", "revision abc", "<code>imitation-refinement run &lt;x&gt;</code>"),
        "more than any method without refinement, of which Majority class is the best",
        "+50.0 (+40.0 to +60.0) points",
        "Before you rely on it",
        "149 patterns were tested",
    ):
        assert piece.replace(" %", "\N{NO-BREAK SPACE}%") in first
    for piece in (
        "&lt;script&gt;",
        "&lt;b&gt;bold",
        "ab" * 32,
        "models/&lt;x&gt;",
        "4 min 41 s",
        "VGG 97.3 %",
        "no counting data",
    ):
        assert piece in text
    assert "Nothing was measured" in text and "no refiner trained on shuffled labels" in text
    assert (
        text.index('id="accuracy"')
        < text.index('id="distances"')
        < text.index('id="honesty"')
        < text.index('id="training"')
        < text.index('id="further"')
    )
    assert "beats the raw patterns beyond" in text


def test_report_without_figures_or_theory(tmp_path: Path) -> None:
    bare = {key: value for key, value in RAW.items() if key not in {"l1", "l2", "kl", "ncc"}}
    write_report(tmp_path / "report.html", {"rows": [bare | {"l1": None}]}, {})
    assert "says nothing about its gain" in (tmp_path / "report.html").read_text()


def test_bad_pictures_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    for name, message in (("notes.txt", "is no picture"), ("gone.png", "can't be read")):
        with pytest.raises(InputError, match=message):
            write_report(tmp_path / "report.html", {"rows": [RAW]}, {"accuracy": tmp_path / name})
    assert not list(tmp_path.iterdir())
