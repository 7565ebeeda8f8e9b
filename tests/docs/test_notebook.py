"""The notebook of docs, run as it stands but for the model: a small one that tests make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.figure
import pytest

from tests.shared.answer.conftest import small_model

NOTEBOOK = Path(__file__).parents[2] / "docs" / "identify.ipynb"


def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    monkeypatch.chdir(NOTEBOOK.parent)
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert not cell["outputs"] and cell["execution_count"] is None  # nothing that was seen once
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, {cell['id']}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names["model"] = small_model(tmp_path)
    assert names["answer"].candidates[0].formula == "ZnS" and names["answer"].crystal_system == "cubic"
    assert all("Zn" in candidate.formula for candidate in names["zinc"].candidates)
    (change,) = names["series"].changes
    assert change.at == 675 and change.text == "cubic ZnS (216) → hexagonal ZnO (186)"
    assert "at 675 °C" in capsys.readouterr().out
    assert isinstance(names["series"].plot(), matplotlib.figure.Figure)
