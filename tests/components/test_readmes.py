"""Every component's README has one shape, names the files of its stage and gives a command that the stage takes."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from imitation_refinement.running.stage import Stage

ROOT = Path(__file__).parents[2]
STAGES = sorted(path.parent.name for path in ROOT.glob("components/*/stage.py"))
HEADINGS = ["In", "Out", "Options", "Example"]


def section(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", STAGES)
def test_readme_says_what_the_stage_is(name: str) -> None:
    stage: Stage = import_module(f"components.{name}.stage").STAGE
    text = (ROOT / "components" / name / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE)[:4] == HEADINGS
    for heading, files in (("In", stage.inputs), ("Out", stage.outputs)):
        first_cells = " ".join(line.split("|")[1] for line in section(text, heading).splitlines() if line[:1] == "|")
        assert set(re.findall(r"`(\w+)`", first_cells)) == set(files)


@pytest.mark.parametrize("name", STAGES)
def test_readme_example_is_taken_by_the_command_line(name: str) -> None:
    stage: Stage = import_module(f"components.{name}.stage").STAGE
    text = (ROOT / "components" / name / "README.md").read_text(encoding="utf-8")
    command = section(text, "Example").split("```")[1].partition("\n")[2].replace("\\\n", " ")
    interpreter, flag, module, *arguments = shlex.split(command.splitlines()[0])
    assert (interpreter, flag, module) == ("python", "-m", f"components.{name}")
    parsed = vars(stage.parser().parse_args(arguments))
    assert all(parsed[output] for output in stage.outputs if output not in stage.optional)
