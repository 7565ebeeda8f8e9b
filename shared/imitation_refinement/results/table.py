"""A table in words, written as text, Markdown or HTML, and the page that HTML ones stand on."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from imitation_refinement.results.wording import BETTER, CLOSER, FARTHER, WORSE

IN_WORDS = "in words"  # the head of a column of verdicts
# The last word of a verdict → its class in the style sheet; all others are "noise".
TONES = {BETTER: "good", CLOSER: "good", WORSE: "bad", FARTHER: "bad"}


@dataclass(frozen=True)
class Table:
    """A table in words, whatever it is written as.

    Attributes:
        title: its number and name.
        caption: what its numbers are.
        columns: heads of the columns; the first `texts` hold text.
        groups: heading, which may be empty, and rows of cells, each. In HTML a cell's second line is small print.
        texts: how many columns are text; so is the one called :data:`IN_WORDS`.
        note: below the table.
        strong: first cells of rows that stand out.
    """

    title: str
    caption: str
    columns: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Sequence[str]]]]
    texts: int = 1
    note: str = ""
    strong: frozenset[str] = frozenset()

    @property
    def rows(self) -> list[Sequence[str]]:
        """The rows of all groups."""
        return [row for _, rows in self.groups for row in rows]

    def is_text(self, column: int) -> bool:
        """Whether a column holds text."""
        return column < self.texts or self.columns[column] == IN_WORDS

    def as_text(self) -> str:
        """With aligned columns, for the terminal: title, heads, rows."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        sides = ["<" if self.is_text(k) else ">" for k in range(len(self.columns))]

        def line(cells: Sequence[str]) -> str:
            return "  ".join(f"{c:{s}{w}}" for c, s, w in zip(cells, sides, widths, strict=True)).rstrip()

        lines = [self.title] if self.title else []
        lines += [line(self.columns), "─" * (sum(widths) + 2 * len(widths) - 2)]
        for heading, rows in self.groups:
            lines += [f"{heading}:"] if heading else []
            lines += map(line, rows)
        return "\n".join(lines)

    def as_markdown(self) -> str:
        """Heads and rows alone."""
        rules = [":--" if self.is_text(k) else "--:" for k in range(len(self.columns))]
        lines: list[Sequence[str]] = [self.columns, rules]
        for heading, rows in self.groups:
            lines += [[f"*{heading}*", *[""] * (len(self.columns) - 1)]] if heading else []
            lines += rows
        return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)

    def as_html(self) -> str:
        """The ``<table>``, everything escaped; in a page's template it stands for itself, as ``{{ table }}``."""
        return _environment().get_template("table.html").render(table=self)

    __html__ = as_html


def page(template: Path, **content: Any) -> str:
    """A page that needs nothing else: a template that fills the blocks of ``page.html``, everything escaped.

    Args:
        template: the file; it begins with ``{% extends "page.html" %}``.
        content: what it shows.
    """
    return "".join(page_parts(template, **content))


def page_parts(template: Path, **content: Any) -> Iterator[str]:
    """As :func:`page`, part by part, for pages that are long."""
    return _environment(template.parent).get_template(template.name).generate(**content)


def data_uri(kind: str, content: bytes) -> str:
    """A file within a page.

    Args:
        kind: its media type, as ``image/png``.
        content: its bytes.
    """
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _environment(*folders: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    environment.filters["tone"] = lambda text: TONES.get(text.split()[-1], "noise") if text.split() else ""
    return environment
