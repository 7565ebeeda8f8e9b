"""A finished run done again: what is compared, and when it is not begun."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.running.revision import revision
from pipelines import cli
from pipelines import reproduce as module
from pipelines.local import RUN, described
from pipelines.profiles import as_text, changed, read_profile
from pipelines.records import RunRecord
from pipelines.reproduce import compare, read_folder, reproduce

ROW = {"method": "ir", "n_test": 14, "accuracy": 1.0, "accuracy_low": 0.75, "l1": None, "recalls": {"cubic": 1.0}}
RESULTS = {
    "selected": "b",
    "rows": [{"name": name, **ROW, "reliability": {"n": [1, 2], "accuracy": [0.5, 1.0]}} for name in "abcd"],
}
Again = Callable[[dict[str, Any]], None]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with a source of its own."""
    folder, table = tmp_path / "finished", tmp_path / "patterns.csv"
    folder.mkdir()
    table.write_text("1")
    profile = read_profile("smoke", ["seed=3", "targeted.optimiser.epochs=2"])
    (folder / "profile.json").write_text(as_text(profile))
    sources = {"structures": "", "imperfect": str(table)}
    RunRecord(sources=sources, digests={str(table): digest(table)}, program="", threads="1").write(folder)
    (folder / "results.json").write_text(json.dumps(RESULTS))
    return folder


@pytest.fixture
def again(run: Path, monkeypatch: pytest.MonkeyPatch) -> Again:
    """Runs are done again in no time, with these results; the revision is one that nobody changed."""
    results = RESULTS | {"revision": "abc"}
    (run / "results.json").write_text(json.dumps(results))
    monkeypatch.setattr(module, "revision", lambda: "abc")
    made: dict[str, Any] = {}

    def run_locally(profile: Any, sources: Any, runs: Path, runner: str, verbose: bool) -> Path:
        assert profile.seed == 3 and profile.targeted.optimiser.epochs == 2 and runner == "subprocess"
        assert sources["imperfect"].endswith("patterns.csv")
        (runs / "new").mkdir(parents=True)
        (runs / "new" / "results.json").write_text(json.dumps(made or results))
        return runs / "new"

    monkeypatch.setattr(module, "run_locally", run_locally)
    return made.update


def test_all_numbers_agree(run: Path, again: Again, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["reproduce", str(run), "--output", str(tmp_path / "runs")])
    out = capsys.readouterr().out
    assert all(f"\n{name}: 9 of 9 numbers agree\n" in out for name in "abcd")
    assert "\nall 37 numbers agree\n" in out and " before, " not in out


def test_numbers_that_differ_are_named(
    run: Path, again: Again, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = json.loads((run / "results.json").read_text())
    results["rows"][2]["accuracy"] = 0.25
    results["rows"][2]["recalls"]["cubic"] = 0.125
    del results["rows"][3]["accuracy_low"]
    again(results)
    with pytest.raises(SystemExit, match="1"):
        cli.main(["reproduce", str(run), "--output", str(tmp_path / "runs")])
    out = capsys.readouterr().out
    assert "\n  accuracy: 1.0 before, 0.25 now\n  recalls.cubic: 1.0 before, 0.125 now\n" in out
    assert "c: 7 of 9 numbers agree" in out and "\n  accuracy_low: 0.75 before, – now\n" in out
    assert "\n34 of 37 numbers agree\n" in out


def test_a_row_more_and_another_choice_differ() -> None:
    one = {"selected": "a", "rows": [{"name": "a", "accuracy": 0.5, "curve": [1, 2.5], "usable": True, "l1": None}]}
    two = {"selected": "b", "rows": [*one["rows"], {"name": "b", "accuracy": 1.0}]}
    assert compare(one, one, Path()).differences == () and compare(one, one, Path()).numbers == {"a": 4, "selected": 1}
    found = compare(one, two, Path())
    assert [(d.row, d.field, d.before, d.now) for d in found.differences] == [
        ("selected", "name", "a", "b"),
        ("b", "accuracy", None, 1.0),
    ]


def test_another_revision_is_not_begun(run: Path, again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "revision", lambda: "def")
    with pytest.raises(InputError, match=r"made by revision abc, this is def\..*--anyway"):
        reproduce(str(run), run.parent / "runs")
    assert reproduce(str(run), run.parent / "runs", anyway=True).differences == ()


def test_a_changed_work_tree_is_none_that_can_be_had_again(
    run: Path, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = json.loads((run / "results.json").read_text()) | {"revision": "abc-changed"}
    (run / "results.json").write_text(json.dumps(results))
    monkeypatch.setattr(module, "revision", lambda: "abc-changed")
    with pytest.raises(InputError, match="which changes these were is not known"):
        reproduce(str(run), run.parent / "runs")


def test_other_data_are_not_begun(run: Path, again: Again) -> None:
    (run.parent / "patterns.csv").write_text("2")
    with pytest.raises(
        InputError, match=r"patterns.csv has other content: SHA-256 d4735e3a265e…, it was 6b86b273ff34…"
    ):
        reproduce(str(run), run.parent / "runs")
    (run.parent / "patterns.csv").unlink()
    with pytest.raises(InputError, match=r"patterns.csv is not there any more"):
        reproduce(str(run), run.parent / "runs")


@pytest.mark.parametrize("file", ["profile.json", "run.json", "results.json"])
def test_what_is_no_finished_run(run: Path, file: str) -> None:
    (run / file).write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        read_folder(run)
    (run / file).unlink()
    with pytest.raises(InputError, match=f"it has no {file}"):
        read_folder(run)


def test_a_run_is_known_by_its_id_in_mlflow(run: Path, tmp_path: Path, empty_store: Path) -> None:
    import mlflow

    runs = tmp_path / "runs"
    with pytest.raises(InputError, match="there is no store of runs in"):
        module.read_tracked("abc", runs)
    runs.mkdir()
    client = mlflow.MlflowClient(f"sqlite:///{shutil.copy(empty_store, runs / 'mlflow.db')}")
    experiment = client.create_experiment("x", artifact_location=(runs / "mlartifacts").as_uri())
    whole = client.create_run(experiment).info.run_id
    below = {"mlflow.parentRunId": whole, "stage": "evaluate"}
    evaluated = client.create_run(experiment, tags=below).info.run_id
    row = client.create_run(experiment, tags={"mlflow.parentRunId": whole}).info.run_id
    for run_id, file in ((whole, "profile.json"), (whole, RUN), (evaluated, "results.json")):
        client.log_artifact(run_id, str(run / file))
    for run_id in (whole, evaluated, row):
        found = module.read_tracked(run_id, runs)
        assert found.profile.seed == 3 and found.results == json.loads((run / "results.json").read_text())
    moved = runs.rename(tmp_path / "elsewhere")
    assert module.read_tracked(whole, moved).profile.seed == 3
    runs = moved
    with pytest.raises(InputError, match="MLflow does not give such a run"):
        module.read_tracked("0" * 32, runs)


def test_a_run_is_described_by_what_is_not_as_usual() -> None:
    profile = read_profile("smoke", ["seed=3", "targeted.optimiser.epochs=2", "preprocess.folds=5"])
    assert changed(profile) == {"targeted.optimiser.epochs": 2, "preprocess.folds": 5}
    given = {"structures": "minerals", "imperfect": "", "test": "", "keep_out": "", "classifiers": ""}
    assert described(profile, given) == {
        "profile": "smoke",
        "seed": 3,
        **given,
        "imperfect": "built-in",
        "targeted.optimiser.epochs": 2,
        "preprocess.folds": 5,
    }
    assert changed(read_profile("paper", ["portable=true"])) == {}
    assert revision()
