"""The report says what the rows say, escapes everything, and needs nothing outside itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.report import format_table, headline, markdown_table, verdicts, write_report
from imitation_refinement.errors import InputError
from imitation_refinement.figures import accuracy_figure, save_figure

Row = dict[str, Any]


def row(method: str, accuracy: float, supervision: str | None = None, classifier: str = "vgg", **more: Any) -> Row:
    interval = {"accuracy": accuracy, "accuracy_low": accuracy - 0.08, "accuracy_high": accuracy + 0.08}
    distances = {"l1": 40.0, "l2": 2.0, "kl": 1.0, "ncc": 0.8}
    base = {"method": method, "classifier": classifier, "supervision": supervision, "n_train": 1345, "n_test": 149}
    return {**base, **interval, **distances, **more}


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


def test_tables_hold_every_number_and_align() -> None:
    table = format_table([RAW, row("dwt", 1.0, l1=None, l2=None, kl=None, ncc=None)]).splitlines()
    assert " ".join(table[2].split()) == "VGG Raw pattern 50.0 % (42.0–58.0) 149 40.00 2.000 1.000 0.800"
    assert len({len(line) for line in table}) == 1
    assert table[3].endswith("–")
    markdown = markdown_table([RAW]).splitlines()
    assert markdown[2] == "| VGG | Raw pattern | 50.0 % (42.0–58.0) | 149 | 40.00 | 2.000 | 1.000 | 0.800 |"
    assert len({line.count("|") for line in markdown}) == 1


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
    write_report(path, results, figures, {"refiner": "models/<x>.safetensors"})
    text = path.read_text()
    page = Page(text)
    assert not page.open
    assert not {"script", "link", "iframe", "b"} & set(page.tags)
    assert [re.match(r"data:image/[a-z+]+;base64,", source) is not None for source in page.sources] == [True] * 3
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert "url(" not in text and "@import" not in text
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
    assert text.index('id="accuracy"') < text.index('id="training"') < text.index('id="further"')
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
