"""A table says the same as text, Markdown and HTML, and escapes what it is given."""

from __future__ import annotations

from pathlib import Path

from imitation_refinement.results.table import IN_WORDS, Table, data_uri, page

TABLE = Table(
    "Table 1",
    "What it is.",
    ("method", "points", IN_WORDS),
    [
        ("", [["raw <b>", "1.0", "–"]]),
        ("Adapted", [["IR|T\nsmall", "+22.0\np < 0.001, better", "worse"], ["DWT", "2", "within noise"]]),
    ],
    strong=frozenset({"DWT"}),
)
PLAIN = Table("", "", ("method", "points"), [("", [["raw", "1.0"]]), ("Adapted", [["refined", "+22.0"]])])


def test_text_is_aligned() -> None:
    assert PLAIN.as_text().splitlines() == [
        "method   points",
        "─" * 15,
        "raw         1.0",
        "Adapted:",
        "refined   +22.0",
    ]
    assert Table("Title", "", ("a",), []).as_text() == "Title\na\n─"


def test_markdown() -> None:
    assert PLAIN.as_markdown().splitlines() == [
        "| method | points |",
        "| :-- | --: |",
        "| raw | 1.0 |",
        "| *Adapted* |  |",
        "| refined | +22.0 |",
    ]
    assert "IR\\|T" in TABLE.as_markdown()


def test_html() -> None:
    text = TABLE.as_html()
    assert "raw &lt;b&gt;" in text and "<b>" not in text
    assert text.count("<tbody>") == 2 and '<th scope="rowgroup" colspan="3">Adapted</th>' in text
    assert '<tr class="strong">' in text and text.count("<tr") == 5
    assert '+22.0<span class="small good">p &lt; 0.001, better</span>' in text
    assert '<span class="tone bad">worse</span>' in text and '<span class="tone noise">within noise</span>' in text
    assert text.count('<td class="text">') == 6 and '<td class="text">–</td>' in text


def test_page_holds_tables_as_they_are_and_escapes_the_rest(tmp_path: Path) -> None:
    template = tmp_path / "own.html"
    template.write_text('{% extends "page.html" %}{% block main %}{{ note | unbroken }}{{ table }}{% endblock %}')
    text = page(template, note="<i> 5 %", table=TABLE)
    assert text.startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    assert "&lt;i&gt; 5\N{NO-BREAK SPACE}%" in text and TABLE.as_html() in text


def test_data_uri() -> None:
    assert data_uri("image/png", b"abc") == "data:image/png;base64,YWJj"
