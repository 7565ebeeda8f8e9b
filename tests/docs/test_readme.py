"""The README's results are called as everywhere else, and what pages link to or name is there."""

import re
from pathlib import Path

from imitation_refinement.results.wording import row_label
from imitation_refinement.vocabulary import Architecture, Method, Supervision, Variant

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def labels() -> set[str]:
    """What any row of a run's results may be called."""
    rows = [{"method": method} for method in Method]
    rows += [{"method": method, "classifier": which} for method in Method for which in Architecture]
    rows += [
        {"method": Method.IR, "classifier": which, "supervision": supervision, "variant": variant}
        for which in Architecture
        for supervision in Supervision
        for variant in Variant
    ]
    return {row_label(row) for row in rows}


def test_rows_of_results_have_the_names_of_the_vocabulary() -> None:
    table = README.split("| method | accuracy (95 %) |")[1].split("\n\n")[0].splitlines()[2:]
    names = [line.split(" | ")[0].removeprefix("| ") for line in table]
    assert len(names) == 7 and set(names) <= labels()


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("components/*/README.md")):
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), f"{page}: {link}"


def test_tests_that_are_named_are_there() -> None:
    found = re.findall(
        r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
    )
    assert len(found) > 20
    for path, name in found:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
