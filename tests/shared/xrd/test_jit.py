"""A compiled function is that of the sources as they are, and is compiled once for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imitation_refinement.xrd.jit import sources_digest

LOOP = """
from imitation_refinement.xrd.jit import njit
from toy.effects.shifts import shift
@njit()
def total(n):
    out = 0.0
    for i in range(n):
        out += shift(i)
    return out
"""
SHIFT = """
from imitation_refinement.xrd.jit import njit
from toy.constants import SCALE
@njit()
def shift(i):
    return SCALE * i
"""
CALL = """
from toy.loop import total
print(total(5), sum(total.stats.cache_hits.values()))
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A package whose function calls one of another module, which reads a constant of a third."""
    package = tmp_path / "toy"
    (package / "effects").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "effects" / "__init__.py").touch()
    (package / "constants.py").write_text("SCALE = 1.0\n")
    (package / "unrelated.py").write_text("SCALE = 1.0\n")
    (package / "loop.py").write_text(LOOP)
    (package / "effects" / "shifts.py").write_text(SHIFT)
    return package


def _called(package: Path) -> tuple[float, int]:
    """What the function gives in a new process, and how often it came from the cache; that it is compiled is said."""
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(package.parent)!r}){CALL}"]
    ended = subprocess.run(words, check=True, capture_output=True, text=True)
    value, hits = ended.stdout.split()
    assert ended.stderr.count("compiling") == (hits == "0")
    return float(value), int(hits)


def test_new_where_any_source_is_new(toy: Path) -> None:
    assert _called(toy) == (10.0, 0)
    (toy / "unrelated.py").write_text("SCALE = 2.0\n")
    assert _called(toy) == (10.0, 1)  # not compiled again
    (toy / "constants.py").write_text("SCALE = 3.0\n")
    assert _called(toy) == (30.0, 0)
    shifts = toy / "effects" / "shifts.py"
    shifts.write_text(shifts.read_text().replace("SCALE * i", "SCALE + i"))
    assert _called(toy) == (25.0, 0)


def test_every_form_of_an_import_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is imported for the digest, so one in a function or for types alone counts, too."""
    package = tmp_path / "forms"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    names = ["from_package", "absolute", "relative", "module", "inner"]
    lines = [
        *("from forms import from_package", "from forms.absolute import X", "from .relative import X"),
        *("import forms.module, math", "def f():\n    from . import inner"),
    ]
    (package / "start.py").write_text("\n".join(lines))
    for name in names:
        (package / f"{name}.py").write_text("raise ImportError\n")
    seen = {sources_digest("forms.start")}
    for name in names:
        (package / f"{name}.py").write_text("raise ValueError\n")
        sources_digest.cache_clear()
        seen.add(sources_digest("forms.start"))
    assert len(seen) == 1 + len(names)
