"""One MLflow run a pipeline run on a cluster, whatever the order in which its stages' processes do their work."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.running.journal import waiting
from imitation_refinement.running.launch import RUN_VARIABLE
from imitation_refinement.running.tracking import EXPERIMENT, Tracker
from imitation_refinement.tracking.pipeline_run import PARENT_TAG, RUN_TAG, TASK_TAG, enter, leave, settle

FLAT = {"supervision": "targeted", "optimiser.epochs": "3"}
RUN = "0b5d1f6e-9c1a-4a52-9f0e-3c1f2b7f6a11"


class Steps:
    """Threads that take turns by chance: at each step one goes on to its next request."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.gates: dict[int, tuple[threading.Semaphore, threading.Semaphore]] = {}
        self.failures: list[BaseException] = []

    def turn(self) -> None:
        """Waits for the next turn of this thread; a thread that takes none is not held up."""
        if gate := self.gates.get(threading.get_ident()):
            gate[1].release()
            gate[0].acquire()

    def run(self, bodies: Sequence[Callable[[], object]]) -> None:
        going = []
        for body in bodies:
            gate = threading.Semaphore(0), threading.Semaphore(0)
            ended = threading.Event()

            def start(body: Callable[[], object] = body, gate: Any = gate, ended: threading.Event = ended) -> None:
                self.gates[threading.get_ident()] = gate
                self.turn()
                try:
                    body()
                except BaseException as error:
                    self.failures.append(error)
                ended.set()
                gate[1].release()

            threading.Thread(target=start, daemon=True).start()
            gate[1].acquire()
            going.append((gate, ended))
        while going:
            (mine, its), ended = picked = self.chance.choice(going)
            mine.release()
            its.acquire()
            if ended.is_set():
                going.remove(picked)
        assert not self.failures, self.failures


class Store:
    """MLflow's client on a store in memory; each request is one step, and is done at once, as in a database."""

    def __init__(self, steps: Steps) -> None:
        self.steps, self.runs = steps, {}

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str], start_time: int | None = None) -> Any:
        self.steps.turn()
        n = len(self.runs)
        # Clocks of different machines differ, and ids have no order.
        early, id_ = self.steps.chance.randrange(2), f"{self.steps.chance.randrange(10)}-{n}"
        info = SimpleNamespace(run_id=id_, start_time=early, status="RUNNING")
        run = SimpleNamespace(info=info, data=SimpleNamespace(tags=dict(tags)), deleted=False)
        self.runs[info.run_id] = run
        return run

    def search_runs(self, experiments: list[str], condition: str, max_results: int = 1000) -> list[Any]:
        self.steps.turn()
        wanted = dict(re.findall(r"tags\.`?([\w.]+)`? = '([^']*)'", condition))
        status = re.search(r"status = '(\w+)'", condition)
        found = [
            run
            for run in self.runs.values()
            if not run.deleted
            and all(run.data.tags.get(key) == value for key, value in wanted.items())
            and (not status or run.info.status == status.group(1))
        ]
        return found[:max_results]

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.steps.turn()
        self.runs[run_id].data.tags[key] = value

    def delete_run(self, run_id: str) -> None:
        self.steps.turn()
        self.runs[run_id].deleted = True

    def set_terminated(self, run_id: str, status: str) -> None:
        self.update_run(run_id, status)

    def update_run(self, run_id: str, status: str) -> None:
        self.steps.turn()
        self.runs[run_id].info.status = status

    def tree(self) -> tuple[list[Any], list[Any]]:
        """Parents and children that are not deleted."""
        here = [run for run in self.runs.values() if not run.deleted]
        return [r for r in here if RUN_TAG in r.data.tags], [r for r in here if PARENT_TAG in r.data.tags]


def test_a_race_can_make_two_parents() -> None:
    """What the other tests would miss if their steps did not interleave: without a second look, parents remain."""
    steps = Steps(3)
    store = Store(steps)

    def once() -> None:
        if not store.search_runs(["1"], f"tags.`{RUN_TAG}` = '{RUN}'"):
            store.create_run("1", "pipeline", {RUN_TAG: RUN})

    steps.run([once] * 3)
    assert len(store.tree()[0]) > 1


def test_one_parent_whatever_the_order() -> None:
    for seed in range(300):
        steps = Steps(seed)
        store = Store(steps)
        steps.run([partial(enter, store, "1", RUN, "simulate", f"shard {shard}") for shard in range(4)])
        (parent,), children = store.tree()
        assert [child.data.tags[PARENT_TAG] for child in children] == [parent.info.run_id] * 4
        assert parent.info.status == "RUNNING"
        for child in children:
            store.set_terminated(child.info.run_id, "FINISHED")
        steps.run([partial(leave, store, "1", RUN)] * 2)
        assert parent.info.status == "FINISHED"


def test_a_parent_that_turns_up_while_others_are_merged() -> None:
    """Another stage settles on it, and deletes the parent that this one is about to settle on."""

    class Unlucky(Store):
        unlucky = True

        def set_tag(self, run_id: str, key: str, value: str) -> None:
            if self.unlucky:
                self.unlucky = False
                self.parent(0)
                settle(self, "1", RUN)
            super().set_tag(run_id, key, value)

        def parent(self, start_time: int) -> Any:
            run = self.create_run("1", "pipeline", {RUN_TAG: RUN})
            run.info.start_time = start_time
            return run

    store = Unlucky(Steps(0))
    store.parent(1)
    child = store.create_run("1", "stage", {PARENT_TAG: store.parent(2).info.run_id})
    chosen = settle(store, "1", RUN)
    (parent,), _ = store.tree()
    assert parent.info.start_time == 0 and parent.info.run_id == chosen == child.data.tags[PARENT_TAG]


def test_other_pipeline_runs_keep_their_parents() -> None:
    store = Store(Steps(0))
    first, second = settle(store, "1", RUN), settle(store, "1", "another")
    assert first != second and settle(store, "1", RUN) == first and settle(store, "1", "another") == second


def ended(store: Store, run: str, status: str) -> str:
    """The parent's status after a stage's run ended."""
    store.set_terminated(run, status)
    leave(store, "1", RUN)
    return store.runs[settle(store, "1", RUN)].info.status


def test_the_parent_ends_with_its_stages() -> None:
    store = Store(Steps(0))
    a, b = enter(store, "1", RUN, "vgg", "vgg"), enter(store, "1", RUN, "densenet", "densenet")
    assert ended(store, a, "FAILED") == "RUNNING"
    assert ended(store, b, "FINISHED") == "FAILED"
    again = enter(store, "1", RUN, "vgg", "vgg")  # a second attempt opens it again, and mends it
    assert store.runs[settle(store, "1", RUN)].info.status == "RUNNING"
    assert ended(store, again, "FINISHED") == "FINISHED"


def test_an_attempt_that_was_killed_is_ended_by_the_next() -> None:
    store = Store(Steps(0))
    killed, other = (enter(store, "1", RUN, "simulate", f"shard {n}") for n in range(2))
    again = enter(store, "1", RUN, "simulate", "shard 0")
    assert [store.runs[run].info.status for run in (killed, other, again)] == ["FAILED", "RUNNING", "RUNNING"]
    assert store.runs[killed].data.tags[TASK_TAG] == store.runs[again].data.tags[TASK_TAG]


STAGE = """
import os, sys, time
from pathlib import Path
from imitation_refinement.running.stage import Stage
from imitation_refinement.options import StageConfig
class Config(StageConfig):
    shard: int = 0
def run(paths, config, tracker):
    tracker.log_metrics({"shard": config.shard})
    return "done"
folder, shard = Path(sys.argv[1]), int(sys.argv[2])
(folder / f"ready-{shard}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
Stage("simulate", "", {}, {"out": ""}, Config, run).execute({"out": folder / f"out-{shard}"}, {"shard": shard})
"""


def test_processes_that_begin_at_the_same_time(client: Any, tmp_path: Path) -> None:
    environment = {**os.environ, RUN_VARIABLE: RUN}
    stages = [
        subprocess.Popen([sys.executable, "-c", STAGE, str(tmp_path), str(shard)], env=environment)
        for shard in range(2)
    ]
    while len(list(tmp_path.glob("ready-*"))) < 2:
        assert all(stage.poll() is None for stage in stages)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    assert [stage.wait(120) for stage in stages] == [0, 0]
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if PARENT_TAG not in run.data.tags)
    children = [run for run in runs if run is not parent]
    assert parent.data.tags[RUN_TAG] == RUN and parent.info.status == "FINISHED"
    assert {child.data.tags[PARENT_TAG] for child in children} == {parent.info.run_id}
    assert sorted(child.data.metrics["shard"] for child in children) == [0, 1]
    assert all(child.info.run_name == child.data.tags["stage"] == "simulate" for child in children)


def test_a_rival_parent_gives_up_its_children(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a real store: a parent that an unlucky stage made at the same time."""
    monkeypatch.setenv(RUN_VARIABLE, RUN)
    with Tracker.stage("collect_structures"):
        pass
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    rival = client.create_run(experiment, tags={RUN_TAG: RUN}).info.run_id
    stray = client.create_run(experiment, tags={PARENT_TAG: rival}).info.run_id
    with pytest.raises(RuntimeError), Tracker.stage("evaluate"):
        raise RuntimeError
    parents = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{RUN}'")
    (parent,) = parents
    assert parent.info.run_id != rival and client.get_run(rival).info.lifecycle_stage == "deleted"
    assert client.get_run(stray).data.tags[PARENT_TAG] == parent.info.run_id
    assert parent.info.status == "RUNNING"  # as the stray still is
    client.set_terminated(stray)
    leave(client, experiment, RUN)
    assert client.get_run(parent.info.run_id).info.status == "FAILED"


def test_the_experiment_is_the_environment_s(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the team")
    with Tracker.stage("alone"):
        pass
    named = client.get_experiment_by_name("of the team").experiment_id
    assert [run.info.run_name for run in client.search_runs([named])] == ["alone"]
    other = client.create_experiment("by its id")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", other)
    monkeypatch.setenv(RUN_VARIABLE, RUN)
    with Tracker.stage("below"):
        pass
    assert {run.info.run_name for run in client.search_runs([other])} == {"below", f"pipeline {RUN[:8]}"}


@pytest.fixture
def plugin(client: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A task's run and its environment as Kubeflow Pipelines' MLflow plugin makes them."""
    experiment = client.create_experiment("KFP-Default")
    parent = client.create_run(experiment, run_name="smoke seed 0", tags={RUN_TAG: RUN}).info.run_id
    run = client.create_run(experiment, run_name="train-refiner-3", tags={PARENT_TAG: parent}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv(RUN_VARIABLE, RUN)
    return SimpleNamespace(experiment=experiment, parent=parent, run=run)


def test_the_plugin_s_tree_stays_as_it_is(client: Any, plugin: Any) -> None:
    from mlflow.entities import Param

    options = {"supervision": "targeted", "optimiser": {"epochs": 3}}
    with Tracker.stage("train_refiner densenet_targeted", "{}") as tracker:
        tracker.log_params(options)
        tracker.log_metrics({"loss": 0.5}, 2)
    # What the launcher logs after the task: the component's inputs, as JSON. MLflow refuses another value of a name.
    inputs = {"supervision": '"targeted"', "label": '"train_refiner densenet_targeted"', "config": "{}"}
    client.log_batch(plugin.run, params=[Param(key, value) for key, value in inputs.items()])
    assert len(client.search_runs([plugin.experiment])) == 2
    run = client.get_run(plugin.run)
    assert run.data.tags["stage"] == "train_refiner densenet_targeted"
    named = {f"train_refiner densenet_targeted.{key}": value for key, value in FLAT.items()}
    assert run.data.params == {**inputs, **named}
    assert run.data.metrics == {"loss": 0.5} and run.info.status == "RUNNING"
    assert run.info.run_name == "train-refiner-3"
    with Tracker.stage("train_refiner densenet_targeted", "{}") as tracker:
        tracker.log_params(options)  # a second attempt logs to the same run
    assert client.get_run(plugin.run).data.params == {**inputs, **named}
    assert client.get_run(plugin.parent).info.status == "RUNNING"


def test_a_run_of_another_server_ends_no_stage(
    client: Any, plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with Tracker.stage("train", beside=tmp_path / "out") as tracker:
        tracker.log_metrics({"loss": 1})
    assert waiting(tmp_path) == 3
    monkeypatch.delenv(RUN_VARIABLE)  # a person is told, before the work
    with (
        pytest.raises(InputError, match=r"is no run of MLFLOW_TRACKING_URI's store\."),
        Tracker.stage("train", beside=tmp_path / "out"),
    ):
        raise AssertionError("the block is not entered")
