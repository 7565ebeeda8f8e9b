"""A page with all answers of a batch, a sketch of each pattern beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imitation_refinement.answer.domain import Flag
from imitation_refinement.errors import InputError
from imitation_refinement.files import writing
from imitation_refinement.results.table import page_parts

TEMPLATE = Path(__file__).with_name("overview.html")
SHOWN = 3  # candidates of a pattern
MOST = 200  # of what was left out


def write_overview(
    path: Path, patterns: Iterable[Mapping[str, Any]], flags: Mapping[str, int], rejected: Sequence[InputError]
) -> None:
    """Writes the page, part by part, so that a hundred thousand patterns take no more memory than ten.

    Args:
        path: the file.
        patterns: the ``record`` (:mod:`.record`) and the ``sketch`` (:func:`.picture.sketch`) of each.
        flags: how many patterns have which flag.
        rejected: what was left out.
    """
    total = sum(flags.values())
    facts = {"patterns": total, **{flag.word: flags.get(flag, 0) for flag in Flag}, "left out": len(rejected)}
    content = {"total": total, "facts": facts, "patterns": patterns, "rejected": rejected, "shown": SHOWN, "most": MOST}
    with writing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(page_parts(TEMPLATE, **content))
