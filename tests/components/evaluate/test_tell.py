"""What evaluate says to the whole run, as a store has it in the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.stage import tell
from imitation_refinement.running.journal import Journal
from imitation_refinement.running.tracking import PARENT_RUN_VARIABLE, Tracker
from imitation_refinement.tracking.upload import Upload

COMMON = {"accuracy_low": 0.2, "accuracy_high": 0.6, "n_test": 14, "n_train": 56, "labelled": 0, "variant": ""}
RAW = {"name": "vgg-raw", "method": "raw", "classifier": "vgg", "supervision": None, "accuracy": 0.25, **COMMON}
IR = RAW | {
    "name": "vgg-targeted",
    "method": "ir",
    "supervision": "targeted",
    "accuracy": 0.5,
    "calibration_error": 0.1,
}
IR |= {"gain": 0.25, "gain_low": 0.1, "gain_high": 0.4, "p_value": 0.01, "recalls": {"cubic": 0.5, "trigonal": 0.125}}
DATA = {"sha256": "0" * 64, "n_train": 56, "n_validation": 14, "n_test": 14, "n_held_out": 0}
RESULTS = {
    "profile": "toy",
    "seed": 3,
    "revision": "abc",
    "data": {"structures": {"source": "minerals", **DATA}, "imperfect": {"source": "built-in", **DATA}},
    "selected": "vgg-targeted",
    "gate": {"tested_sha256": "t", "reasons": [{"about": "judge", "kept": False, "words": "No judge."}]},
    "rows": [RAW, IR],
}


@pytest.fixture(scope="module")
def client(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('store'))}")


class Run:
    """Journals that belong together, and what a store has of them."""

    def __init__(self, client: Any, folder: Path, experiment: str) -> None:
        self.client, self.folder, self.experiment = client, folder, experiment
        self.store = {"uri": client.tracking_uri, "artifacts": str(folder / "a"), "experiment_name": experiment}

    def journal(self, name: str, **about: Any) -> Journal:
        journal = Journal(self.folder, name)
        journal.append("begin", {"uuid": journal.uuid, "name": name, "tags": {"stage": name}, **about})
        return journal

    def end(self, journal: Journal, results: Any = None) -> None:
        if results:
            tell(results, Tracker(journal, name="evaluate"))
        journal.append("end", {"status": "FINISHED"})
        journal.close()
        Upload(self.folder).once()

    def found(self) -> dict[str, Any]:
        experiment = self.client.get_experiment_by_name(self.experiment).experiment_id
        runs = self.client.search_runs([experiment])
        assert len({run.info.run_name for run in runs}) == len(runs)
        return {run.info.run_name: run for run in runs}


def test_the_whole_run_gets_name_note_numbers_and_a_run_a_method(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(client, tmp_path, "whole")
    whole = run.journal("before", store=run.store, kept=True)
    monkeypatch.setenv(PARENT_RUN_VARIABLE, whole.uuid)
    first = run.journal("evaluate", parent=whole.uuid)
    run.end(first, RESULTS)
    run.end(whole)
    name = "VGG: IR, targeted 50.0 % · toy, seed 3 · minerals and built-in"
    found = run.found()
    assert found.keys() == {name, "evaluate", "vgg-raw", "vgg-targeted"}
    parent, evaluated = found[name], found["evaluate"]
    assert parent.data.metrics == {
        "accuracy": 0.5,
        "accuracy_low": 0.2,
        "accuracy_high": 0.6,
        "gain": 0.25,
        "calibration_error": 0.1,
        "simple_accuracy": 0.25,
        "class_recall": 0.125,
    }
    assert parent.data.params == {
        "profile": "toy",
        "seed": "3",
        "structures": "minerals",
        "imperfect": "built-in",
        "test": "",
        "classifiers": "",
    }
    assert parent.data.tags["mlflow.user"] and parent.data.tags["revision"]
    note = parent.data.tags["mlflow.note.content"]
    place = f"#/experiments/{evaluated.info.experiment_id}/runs/{evaluated.info.run_id}/artifacts/"
    assert f"[report]({place}report.html)" in note and "- ✗ No judge." in note
    row = found["vgg-targeted"]
    assert row.data.tags["mlflow.parentRunId"] == parent.info.run_id and row.info.status == "FINISHED"
    wanted = {"method": "ir", "classifier": "vgg", "supervision": "targeted", "variant": "plain", "seed": "3"}
    assert (wanted | {"profile": "toy", "revision": "abc", "selected": "true"}).items() <= row.data.tags.items()
    assert row.data.metrics["gain"] == 0.25 and "gain" not in found["vgg-raw"].data.metrics
    asked = client.search_runs([row.info.experiment_id], "metrics.accuracy > 0.4 and tags.method = 'ir'")
    assert [one.info.run_name for one in asked] == ["vgg-targeted"]
    path = client.download_artifacts(evaluated.info.run_id, "tables/methods.json", str(tmp_path))
    table = json.loads(Path(path).read_text())
    place = table["columns"].index("accuracy")
    assert [line[place] for line in table["data"]] == [0.25, 0.5]
    assert json.loads(evaluated.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "tables/methods.json", "type": "table"}
    ]

    again = run.journal("evaluate again", parent=whole.uuid)  # a second attempt: the same methods, no run more
    run.end(again, RESULTS | {"rows": [RAW, IR | {"accuracy": 0.75}]})
    found = run.found()
    assert len(found) == 5 and found["vgg-targeted"].data.metrics["accuracy"] == 0.75


def test_a_stage_alone_says_it_of_itself(client: Any, tmp_path: Path) -> None:
    run = Run(client, tmp_path, "alone")
    run.end(run.journal("evaluate", store=run.store), RESULTS)
    found = run.found()
    name = "VGG: IR, targeted 50.0 % · toy, seed 3 · minerals and built-in"
    assert found.keys() == {name, "vgg-raw", "vgg-targeted"}
    assert found["vgg-raw"].data.tags["mlflow.parentRunId"] == found[name].info.run_id
    assert found[name].data.metrics["accuracy"] == 0.5
