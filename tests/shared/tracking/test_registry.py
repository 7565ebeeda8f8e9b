"""Champions and challengers in a registry that a real server keeps."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest

from imitation_refinement.results.gate import Reason
from imitation_refinement.tracking import registry
from imitation_refinement.tracking.registry import Evidence, register
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

N = 140
TRUTH = np.repeat(np.arange(7), 20)
KEPT = (Reason("baseline", True, "It beats all."), Reason("judge", True, "The judge agrees."))


class Team:
    """What runs of one team log to a model of the registry, and what becomes of it."""

    def __init__(self, client: Any, folder: Path) -> None:
        self.client, self.folder, self.model = client, folder, f"model-{uuid4().hex[:8]}"
        self.experiment = client.create_experiment(f"of {self.model}")

    def trained(self, name: str, losses: tuple[float, ...] = (10.58, 4.14)) -> dict[str, str]:
        """A training's run with its logged model; the digests of its files."""
        run = self.client.create_run(self.experiment, run_name=f"train {name}")
        for step, loss in enumerate(losses):
            self.client.log_metric(run.info.run_id, "loss", loss, step=step)
        digests = {part: f"{part} of {name}" for part in ("classifier", "refiner")}
        tags = {f"{part}_sha256": sha for part, sha in digests.items()}
        model = self.client.create_logged_model(self.experiment, name, run.info.run_id, tags)
        self.client.finalize_logged_model(model.model_id, "READY")
        return digests

    def prepared(
        self, right: int, test: str = "a", reasons: tuple[Reason, ...] = KEPT
    ) -> tuple[str, dict[str, Any], Path]:
        """A run of evaluate that found ``right`` of each system's twenty; the run, the event, the journal's folder."""
        name = f"vgg-{right}-{uuid4().hex[:4]}"
        run = self.client.create_run(self.experiment, run_name="evaluate")
        predicted = np.where(np.arange(N) % 20 < right, TRUTH, (TRUTH + 1) % 7)
        systems = np.array([str(system) for system in CRYSTAL_SYSTEMS])
        own = {"pattern_id": [f"{i:03}" for i in range(N)], "crystal_system": systems[TRUTH]}
        rows = [{**own, "method": name, "predicted": systems[predicted]}, {**own, "method": "majority"}]
        path = self.folder / name / "predictions.csv"
        path.parent.mkdir()
        pd.concat([pd.DataFrame(row) for row in rows]).to_csv(path, index=False)
        self.client.log_artifact(run.info.run_id, str(path))
        evidence = Evidence(self.model, name, test, reasons, {"accuracy": right / 20}, f"# {name}", {"seed": "0"}, 0)
        data = {"evidence": asdict(evidence), "files": {}, "sha256": self.trained(name)}
        return run.info.run_id, data, path.parent

    def evaluated(self, right: int, test: str = "a", reasons: tuple[Reason, ...] = KEPT) -> Callable[[], str]:
        """What registers the model of such a run."""
        prepared = self.prepared(right, test, reasons)
        return lambda: register(self.client, *prepared)

    @property
    def aliases(self) -> dict[str, str]:
        return dict(self.client.get_registered_model(self.model).aliases)

    def version(self, number: int) -> Any:
        return self.client.get_model_version(self.model, str(number))


@pytest.fixture
def team(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """With a real server."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return Team(mlflow.MlflowClient(server.uri), tmp_path)


def test_a_version_is_the_model_that_training_logged(team: Team) -> None:
    line = team.evaluated(14)()
    assert line == f"{team.model}, version 1: champion" and team.aliases == {"champion": "1"}
    version = team.version(1)
    model = team.client.get_logged_model(version.source.removeprefix("models:/"))
    assert model.source_run_id == version.run_id
    assert team.client.get_run(version.run_id).info.run_name == f"train {model.name}"
    assert version.description == f"# {model.name}" and version.tags["method"] == model.name
    assert version.tags["reason.baseline"] == "✓ It beats all." and version.tags["seed"] == "0"
    assert version.tags["reason.champion"] == "✓ There is no champion yet."
    numbers = {m.key: (m.step, m.value) for m in model.metrics}
    assert numbers["loss"] == (1, 4.14)  # not the first step's
    assert numbers["test_accuracy"] == (0, 0.7)
    (tested,) = [m for m in model.metrics if m.key == "test_accuracy"]
    assert (tested.dataset_name, tested.dataset_digest) == ("imperfect test part", "a")
    evaluated = team.client.get_run(version.tags["evaluated_by"])
    assert [found.model_id for found in evaluated.inputs.model_inputs] == [model.model_id]
    assert [found.dataset.digest for found in evaluated.inputs.dataset_inputs] == ["a"]


def test_of_two_runs_that_made_the_same_each_has_its_own(team: Team) -> None:
    """The same options make the same weights, to the bit: a version is the model of its own run, not of the last."""
    client = team.client
    wholes = [client.create_run(team.experiment, run_name=f"whole {i}").info.run_id for i in (1, 2)]
    run_id, data, folder = team.prepared(14)
    client.set_tag(run_id, "mlflow.parentRunId", wholes[0])
    team.trained(data["evidence"]["method"])  # of the second run, as `data` has it
    trained = client.search_runs([team.experiment], "attributes.run_name LIKE 'train %'", order_by=["start_time"])
    for run, whole in zip(trained, wholes, strict=True):
        client.set_tag(run.info.run_id, "mlflow.parentRunId", whole)
    register(client, run_id, data, folder)
    assert team.version(1).run_id == trained[0].info.run_id


def test_only_who_beats_the_champion_on_its_test_data_takes_its_place(team: Team) -> None:
    team.evaluated(10)()
    assert team.evaluated(10)().endswith("version 2: challenger")
    assert team.aliases == {"champion": "1", "challenger": "2"}
    assert "does not beat the champion, version 1 beyond noise: +0.0 (" in team.version(2).tags["reason.champion"]
    assert team.evaluated(13)().endswith("version 3: champion")
    assert team.aliases == {"champion": "3", "challenger": "2"}
    assert team.evaluated(20, test="b")().endswith("version 4: challenger")
    assert "other test data" in team.version(4).tags["reason.champion"]
    missed = (KEPT[0], Reason("judge", False, "It is painted."))
    assert team.evaluated(20, reasons=missed)().endswith("version 5: challenger")
    assert team.version(5).tags["reason.judge"] == "✗ It is painted." and team.aliases["champion"] == "3"


def test_registered_again_it_is_the_same_version(team: Team) -> None:
    again = team.evaluated(14)
    assert again() == again() and len(team.client.search_model_versions(f"name = '{team.model}'")) == 1


def cut_off(registration: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A registration that ends when its version is made and its gate still open."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(registry, "_decide", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        registration()


def test_what_was_cut_goes_on(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut after the version was made, and cut between its alias and its gate."""
    cut = team.evaluated(14)
    cut_off(cut, monkeypatch)
    assert team.version(1).tags["gate"] == "open" and not team.aliases
    team.client.set_registered_model_alias(team.model, "champion", "1")
    assert cut().endswith("version 1: champion") and team.aliases == {"champion": "1"}


def test_a_dead_registration_holds_up_nobody(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PATIENCE_S", 0.3)
    dead = team.evaluated(20)
    cut_off(dead, monkeypatch)
    assert team.evaluated(10)().endswith("version 2: champion")
    assert dead().endswith("version 1: challenger") and team.aliases["champion"] == "2"
    assert "did not come to an end" in team.version(1).tags["reason.champion"]


def test_a_champion_whose_registration_died_stays_one(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PATIENCE_S", 0.3)
    dead = team.evaluated(12)
    cut_off(dead, monkeypatch)
    team.client.set_registered_model_alias(team.model, "champion", "1")
    assert team.evaluated(12)().endswith("version 2: challenger")
    assert team.version(1).tags["gate"] == "champion" and team.aliases["champion"] == "1"


def test_who_was_slow_takes_nothing_from_who_came_after(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken for dead after it had seen its gate open: it writes, looks again, and gives back."""
    monkeypatch.setattr(registry, "PATIENCE_S", 0.3)
    slow, quick = team.evaluated(12), team.evaluated(10)
    seen, go_on = threading.Event(), threading.Event()
    plain = registry._said

    def said(reason: Reason) -> str:
        if threading.current_thread().name == "slow" and reason.about == "champion":
            seen.set()
            go_on.wait(20)
        return plain(reason)

    monkeypatch.setattr(registry, "_said", said)
    thread = threading.Thread(target=slow, name="slow")
    thread.start()
    assert seen.wait(20)
    assert quick().endswith("version 2: champion")
    go_on.set()
    thread.join(20)
    assert team.aliases["champion"] == "2"


def test_a_champion_that_a_person_sets_is_the_one_to_beat(team: Team) -> None:
    for right in (8, 12):
        team.evaluated(right)()
    assert team.aliases["champion"] == "2"
    team.client.set_registered_model_alias(team.model, "champion", "1")
    assert team.evaluated(8)().endswith("challenger") and team.aliases["champion"] == "1"
    assert team.evaluated(11)().endswith("version 4: champion") and team.aliases["champion"] == "4"


def test_a_champion_without_answers_stays(team: Team) -> None:
    team.evaluated(8)()
    team.client.set_model_version_tag(team.model, "1", "method", "gone")
    assert team.evaluated(20)().endswith("challenger")
    assert "can't be compared with the champion, version 1" in team.version(2).tags["reason.champion"]


def test_of_several_at_once_one_is_champion(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three that are better than the champion, and as good as each other: whoever is second is challenger."""
    monkeypatch.setattr(registry, "PATIENCE_S", 120.0)  # on a machine that is slow nobody is taken for dead
    team.evaluated(8)()
    several = [team.evaluated(right) for right in (14, 14, 14)]
    threads = [threading.Thread(target=each) for each in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    gates = [team.version(number).tags["gate"] for number in (1, 2, 3, 4)]
    assert gates == ["champion", "champion", "challenger", "challenger"] and team.aliases["champion"] == "2"


def test_a_model_that_no_training_logged_is_logged_from_the_journal(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {"classifier": "c", "refiner": "r"}
    logged = []

    def log(client: Any, run_id: str, spec: Any, folder: Path) -> None:
        logged.append((run_id, spec, folder))
        tags = {f"{part}_sha256": sha for part, sha in spec["sha256"].items()}
        model = client.create_logged_model(team.experiment, spec["name"], run_id, tags)
        client.finalize_logged_model(model.model_id, "READY")

    monkeypatch.setitem(sys.modules, "imitation_refinement.tracking.served", SimpleNamespace(log=log))
    run = team.client.create_run(team.experiment).info.run_id
    evidence = asdict(Evidence(team.model, "vgg-targeted", "a", KEPT, {}, "# card", {}, 0))
    data = {"evidence": evidence, "files": {"classifier": "files/c", "refiner": "files/r"}, "sha256": digests}
    assert register(team.client, run, data, tmp_path).endswith("version 1: champion")
    assert [(found, spec["files"], place) for found, spec, place in logged] == [(run, data["files"], tmp_path)]


PROCESS = """
import json, sys, time
from pathlib import Path
import mlflow
from imitation_refinement.tracking import registry

registry.PATIENCE_S = 120.0
uri, run_id, folder = sys.argv[1:]
data = json.loads(Path(folder, "data.json").read_text())
client = mlflow.MlflowClient(uri)
Path(folder, "ready").touch()
while len(list(Path(folder).parent.glob("*/ready"))) < 2:
    time.sleep(0.001)
print(registry.register(client, run_id, data, Path(folder)))
"""


def test_of_two_processes_at_once_one_is_champion(team: Team, server: Any) -> None:
    """No champion is there yet: the first is, and the other must beat it."""
    started = []
    for _ in range(2):
        run_id, data, folder = team.prepared(12)
        (folder / "data.json").write_text(json.dumps(data))
        command = [sys.executable, "-c", PROCESS, server.uri, run_id, str(folder)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    ended = [(*process.communicate(), process.returncode) for process in started]
    assert [code for *_, code in ended] == [0, 0], ended
    gates = [team.version(number).tags["gate"] for number in (1, 2)]
    assert gates == ["champion", "challenger"] and team.aliases == {"champion": "1", "challenger": "2"}
