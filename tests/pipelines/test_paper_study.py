"""Every task of the paper's study, once, and the tables of two of its runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from kfp.dsl.executor import Executor
from kfp.local import subprocess_task_handler

import components.simulate.kernel  # noqa: F401 (numba, as it is imported, looks for a `print` that KFP swaps meanwhile)
from imitation_refinement.progress import begin
from imitation_refinement.results import figures
from imitation_refinement.results.paper import PAPER_TABLE_1
from imitation_refinement.running.launch import environment
from pipelines import local, processes
from pipelines.cli import main
from pipelines.local import KEPT
from pipelines.records import Call, Records
from pipelines.studies import ABLATIONS, LABELLED, STUDIES

SETTINGS = ("study=paper", "evaluate.embedded=50")


@contextmanager
def tasks(records: Records, lock: int | None = None) -> Iterator[Any]:
    """Of :func:`pipelines.processes.tasks` but the first that adapts, which the smoke test has none of: the rest here.

    One at a time, in this process, which has imported all; one of its own takes seconds to.
    """
    alone, turn = {"adapt_classifier"}, threading.Lock()
    with processes.tasks(records, lock) as runner:
        process = subprocess_task_handler.run_local_subprocess

        def run(full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
            *_, source, _, given, _, function = full_command
            call, names = Call.of(full_command), dict[str, Any]()
            with turn, environment(env_vars or {}):
                if function in alone:
                    alone.remove(function)
                    return process(full_command, env_vars)
                begin(call.label)
                exec(compile(source, function, "exec", dont_inherit=True), names)
                Executor(json.loads(given), names[function]).execute()
                return records.note(call)

        with processes.replaced(subprocess_task_handler, "run_local_subprocess", run):
            yield runner


def test_the_study_from_structures_to_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "processes", SimpleNamespace(tasks=tasks))
    monkeypatch.setattr(figures, "DPI", 30)  # drawn faster
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    main(["run", "--profile", "smoke", "--output", str(tmp_path), *options])
    folder = tmp_path / "latest"
    for path in KEPT.values():
        assert (folder / path).exists(), path
    models = [path.stem for path in (folder / "models").iterdir()]
    assert len(models) == sum(len(tasks) for tasks in STUDIES["paper"].values())
    assert {"vgg-standard", "densenet-targeted-with_ideal", "vgg-finetuned", "densenet-gta"} <= set(models)
    rows = {row["name"]: row for row in json.loads((folder / "results.json").read_text())["rows"]}
    assert set(PAPER_TABLE_1) <= {*rows, "vgg-adda", "vgg-gta"}  # ours are on DenseNet, the paper does not say
    special = [*ABLATIONS, "shuffled_labels", *(f"labelled_{n}" for n in LABELLED)]
    assert {f"densenet-targeted-{name}" for name in special} <= set(rows)
    for form in ("targeted-with_ideal", "non_targeted-with_diversity"):
        for row in (rows[f"{c}-{form}"] for c in ("vgg", "densenet")):
            assert 0 <= row["judge_accuracy"] <= 1 and 0 <= row["ideal_accuracy_refined"] <= 1
    assert {f"{c}-{m}" for c in ("vgg", "densenet") for m in ("standard", "augmented", "finetuned")} <= set(rows)
    assert [rows[f"densenet-targeted-labelled_{n}"]["n_train"] for n in (10, 30)] == [10, 30]
    predicted = pd.read_csv(folder / "predictions.csv")
    assert predicted.groupby("method")["pattern_id"].nunique().eq(rows["densenet-raw"]["n_test"]).all()
    main(["tables", str(folder), "--output", str(tmp_path / "tables")])
    assert "DenseNet" in (tmp_path / "tables" / "tables.md").read_text()
