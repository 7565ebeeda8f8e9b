"""Uploads journals to MLflow: ``python -m imitation_refinement.tracking.upload FOLDER``, ``imitation-refinement sync``.

What is in a journal (:mod:`imitation_refinement.running.journal`) is told to the store as if the stage did it itself:
runs with their start and end, metrics with their steps and times. It can be stopped at any moment and begun again:
what was sent is noted after it was, and what is sent twice does no harm; a run is found by its journal's uuid, which
it has as a tag. With ``--follow`` it uploads while a journal is written, until that ends.

Three things can go wrong. The store does not take anything now (:class:`Silent`): all waits, and it is asked again
later. It refuses a single event for good: that is said, set aside in ``refused.jsonl``, and the rest goes on. It does
not know, or has deleted, the run that a journal is to go to (:class:`Held`): that journal waits, others go on.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import itertools
import json
import logging
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imitation_refinement.errors import InputError
from imitation_refinement.progress import say, warn
from imitation_refinement.running.journal import EVENTS, FILES, REFUSED, SAMPLE, SILENT, Known, journals, leave, waiting
from imitation_refinement.running.launch import environment
from imitation_refinement.running.tracking import NOTE_TAG, PATIENCE_S, PATIENCE_VARIABLE, without_login
from imitation_refinement.tracking import pipeline_run
from imitation_refinement.tracking.store import (
    DIGEST,
    first_line,
    log_inputs,
    open_store,
    refusal,
    sqlite_file,
    sqlite_uri,
    status_of,
    why_silent,
    with_links,
)

UUID_TAG = "journal"
TABLES = "mlflow.loggedArtifacts"  # the tag by which MLflow shows tables
REFUSALS = (400, 404, 409, 413, 415, 422)  # of an event; other errors are the store's
BATCH = 500  # metrics a request; MLflow takes 1,000
TICK_S, POLL_S, RETRY_S, MAX_RETRY_S = 0.2, 0.5, 1.0, 10.0
STORAGE = ("botocore", "boto3", "s3transfer", "google", "azure", "urllib3", "sqlalchemy")  # whose errors are outages
LOOSE = {"artifact", "table", "model"}  # events that may wait while later ones go on


class Silent(Exception):
    """The store takes nothing now."""


class Held(Exception):
    """A journal can't go on now; others can."""


class Refused(Exception):
    """The store will never take an event."""


@dataclass
class Store:
    """A store, and what is known of the runs in it.

    Attributes:
        client: MLflow's client.
        experiment: the id of the experiment.
        address: of the store, without login.
    """

    client: Any
    experiment: str
    address: str
    _runs: dict[str, str] = field(default_factory=dict)  # uuid → id of the run
    _said: set[str] = field(default_factory=set)

    def alive(self) -> bool:
        """Whether it answers a question."""
        try:
            self.client.search_experiments(max_results=1)
        except Exception:  # of any kind: it is asked why elsewhere
            return False
        return True

    def run_of(self, uuid: str) -> str | None:
        """The id of the run that has this uuid, if there is one."""
        if uuid not in self._runs:
            found = self.client.search_runs([self.experiment], f"tags.`{UUID_TAG}` = '{uuid}'", max_results=1)
            if not found:
                return None
            self._runs[uuid] = found[0].info.run_id
        return self._runs[uuid]

    def know(self, uuid: str, run_id: str) -> None:
        """Keeps which run it is."""
        self._runs[uuid] = run_id

    def tell(self, text: str) -> None:
        """Warns of something once."""
        if text not in self._said:
            self._said.add(text)
            warn(text)


def connect(about: Mapping[str, Any], near: Path) -> Store:
    """The store that the environment names, or a journal.

    Args:
        about: what the journal says of it: ``uri``, ``artifacts``, ``experiment_id``, ``experiment_name``.
        near: where the journal is; a store in a file that is not there any more is looked for above.

    Raises:
        InputError: if it can't be used.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or str(about["uri"])
    artifacts = about.get("artifacts")
    if (file := sqlite_file(uri)) and not file.exists():
        for folder in near.resolve().parents:
            if (folder / file.name).is_file():  # moved together with the runs
                uri = sqlite_uri(folder / file.name)
                artifacts = artifacts and str(folder / Path(artifacts).name)
                break
    named = {"MLFLOW_EXPERIMENT_ID": about.get("experiment_id"), "MLFLOW_EXPERIMENT_NAME": about["experiment_name"]}
    given = {name: value for name, value in named.items() if value and not os.environ.get(name)}
    with environment(given):
        client, experiment = open_store(uri, Path(artifacts) if artifacts else None)
    return Store(client, experiment, without_login(uri))


class Replay:
    """Tells one journal to a store, from where it was left.

    Args:
        store: the store.
        known: the journal.
        others: all journals that stand with it.
        done: whether all of the run was sent. One that was sent in part goes to another store from the beginning.
    """

    def __init__(self, store: Store, known: Known, others: Sequence[Known], done: bool) -> None:
        self.store, self.known, self.others = store, known, others
        self.client, self.about = store.client, known.about
        sent = known.sent()
        self.sent: dict[str, Any] = sent if done or sent.get("store") == store.address else {}
        self._metrics: list[dict[str, Any]] = []  # events that go in one request
        self._end = 0  # of them
        self._time = 0  # of the last event
        self._files_wait = False

    @property
    def run_id(self) -> str:
        """The run in the store."""
        return str(self.sent["run_id"])

    def go_on(self, over: bool, again: bool = True) -> None:
        """Sends what is new.

        Args:
            over: whether nobody writes the journal any more, though its run may not have ended.
            again: whether to try what was put off.

        Raises:
            Silent: if the store takes nothing now.
            Held: if this journal can't go on now.
        """
        offset = int(self.sent.get("offset", 0))
        if offset > self.known.size:
            self.sent, offset = {}, 0
        if self.known.size > offset or self.sent.get("later"):
            self._see_that_the_run_is_there()
            offset = int(self.sent.get("offset", 0))
        for place, line in self.known.lines(offset):
            try:
                event = json.loads(line)
                self._time = int(event["time"])
            except (ValueError, KeyError, TypeError):  # written in part
                self._flush()
                self._note(offset=place)
                continue
            if event["kind"] in ("metrics", "system") and not event["data"].get("above"):
                self._metrics.append(event)
                self._end = place
                if sum(len(item["data"]["values"]) for item in self._metrics) >= BATCH:
                    self._flush()
                continue
            self._flush()
            self._take(event)
            self._note(offset=place, closed=False)
        self._flush()
        if over and not self.known.ended() and not self.sent.get("closed") and "run_id" in self.sent:
            if not self.about.get("run_id"):
                self._guard(lambda: self._close("FAILED", self.sent.get("time")))
            self._note(closed=True)
        if again:
            self._again()

    def _note(self, **changed: Any) -> None:
        self.sent = {**self.sent, "store": self.store.address, **changed}
        if "offset" in changed:
            self.sent["time"] = self._time
        self.known.note_sent(self.sent)

    def _see_that_the_run_is_there(self) -> None:
        """A store that was made anew has nothing of what the old one had."""
        if "run_id" not in self.sent or self.known.uuid in self.store._runs:
            return
        try:
            self._guard(lambda: self.client.get_run(self.run_id))
        except Refused:
            self.sent = {}
        else:
            self.store.know(self.known.uuid, self.run_id)

    def _flush(self) -> None:
        """Sends the metrics that were gathered; where the store refuses them together, one event after the other."""
        if not self._metrics:
            return
        events, self._metrics = self._metrics, []
        try:
            self._guard(lambda: self._log_metrics(events))
        except Refused:
            for event in events:
                self._take(event)
        self._note(offset=self._end)

    def _take(self, event: Mapping[str, Any]) -> None:
        """Does what an event says, sets it aside, or puts it off."""
        if self._files_wait and event["kind"] in LOOSE:
            self._put_off(event)
            return
        try:
            self._guard(lambda: self._do(event))
        except Refused as error:
            self._set_aside(event, error)
        except Silent:
            # Files may have a store of their own, and what it does not take holds up nothing else.
            if event["kind"] not in LOOSE or not self.store.alive():
                raise
            self._files_wait = True
            self._put_off(event)

    def _put_off(self, event: Mapping[str, Any]) -> None:
        self._note(later=[*self.sent.get("later", []), event])

    def _again(self) -> None:
        """Tries once more what was put off; the first that fails leaves the rest."""
        while (later := self.sent.get("later", [])) and not self._files_wait:
            try:
                self._guard(lambda event=later[0]: self._do(event))  # type: ignore[misc]
            except Refused as error:
                self._set_aside(later[0], error)
            except Silent:
                if not self.store.alive():
                    raise
                return
            self._note(later=later[1:])

    def _set_aside(self, event: Mapping[str, Any], reason: Refused) -> None:
        if event["kind"] == "begin":
            raise Held(str(reason))
        path, trace = self.known.folder / REFUSED, traceback.format_exception(reason.__cause__)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"reason": str(reason), "trace": "".join(trace), **event}) + "\n")
        self.store.tell(f"{self.about['name']}: MLflow refuses {event['kind']} ({reason}); that is kept in {path}")

    def _guard(self, action: Callable[[], object]) -> None:
        """Does something in the store; its error is one of ours.

        Raises:
            Silent: if the store takes nothing now.
            Refused: if it will never take this.
        """
        from mlflow import MlflowException
        from requests import RequestException

        try:
            action()
        except (Silent, Held, Refused):
            raise
        except (MlflowException, RequestException, OSError) as error:
            if status_of(error) in REFUSALS and self.store.alive():
                raise Refused(first_line(error)) from error
            raise Silent(why_silent(error)) from error
        except Exception as error:  # of a library below MLflow, or of ours: others go on
            if type(error).__module__.partition(".")[0] in STORAGE:
                raise Silent(why_silent(error)) from error
            raise Refused(f"{type(error).__name__}: {first_line(error)}") from error

    def _do(self, event: Mapping[str, Any]) -> None:
        kind, data, now = event["kind"], event["data"], int(event["time"])
        if kind == "begin":
            self._note(run_id=self._begin(data, now))
            self.store.know(self.known.uuid, self.run_id)
            return
        run_id = (self._above() if data.get("above") else None) or self.run_id
        if kind in ("metrics", "system"):
            self._log_metrics([event], run_id)
        elif kind == "params":
            self._log_params({key: value for key, value in data.items() if key != "above"}, run_id)
        elif kind == "inputs":
            self._log_inputs(data["inputs"], run_id)
        elif kind == "artifact":
            path = self._file(data["file"])
            log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
            log(run_id, str(path), data["folder"])
        elif kind == "table":
            self._log_table(self._file(data["file"]), run_id)
        elif kind == "tag":
            value = data["value"]
            if data["key"] == NOTE_TAG:
                value = with_links(value, self.client.get_run(self.run_id))
            self.client.set_tag(run_id, data["key"], value)
        elif kind == "rename":
            self.client.update_run(run_id, name=data["name"])
        elif kind == "child":
            self._child(data, now, run_id)
        elif kind == "model":
            if not self._has_model(data, run_id):
                importlib.import_module("imitation_refinement.tracking.served").log(
                    self.client, run_id, data, self.known.folder
                )
        elif kind == "register":
            self._register(data, run_id)
        elif kind == "end":
            if not self.about.get("run_id"):
                self._close(data["status"], now)
        else:
            raise Refused(f"{kind} is nothing that this version knows")

    def _file(self, name: str) -> Path:
        path = self.known.folder / name
        if not path.exists():
            raise Refused(f"{path} is not there any more")
        return path

    def _begin(self, data: Mapping[str, Any], now: int) -> str:
        """The run of the journal, found, made, or opened again."""
        if given := data.get("run_id"):
            run = self.client.get_run(given)
            if run.info.lifecycle_stage == "deleted":
                raise Held(f"MLFLOW_RUN_ID {given} is deleted")
            self.client.set_tag(given, "stage", data["name"])
            return str(given)
        found = self.store.run_of(self.known.uuid)
        if pipeline := data.get("pipeline"):
            if found:
                pipeline_run.reopen(self.client, self.store.experiment, pipeline)
                return found
            tags = {**data["tags"], UUID_TAG: self.known.uuid}
            return pipeline_run.enter(
                self.client, self.store.experiment, pipeline, data["name"], data["task"], tags, now
            )
        if found:
            self.client.update_run(found, status="RUNNING")
            return found
        above = {}
        if uuid := data.get("parent"):
            parent = self.store.run_of(uuid)
            if parent is None and any(other.uuid == uuid for other in self.others):
                raise Held("the run that this one is a part of is not there yet")
            above = {pipeline_run.PARENT_TAG: parent} if parent else {}
        return self._new_run(data["name"], {**data["tags"], **above}, self.known.uuid, now)

    def _new_run(self, name: str, tags: Mapping[str, str], uuid: str, now: int) -> str:
        run = self.client.create_run(
            self.store.experiment, start_time=now, run_name=name, tags={**tags, UUID_TAG: uuid}
        )
        return str(run.info.run_id)

    def _above(self) -> str | None:
        """The run that this one is a part of."""
        if uuid := self.about.get("parent"):
            return self.store.run_of(str(uuid))
        if pipeline := self.about.get("pipeline"):
            return pipeline_run.settle(self.client, self.store.experiment, str(pipeline))
        return self.client.get_run(self.run_id).data.tags.get(pipeline_run.PARENT_TAG) or None

    def _close(self, status: str, now: int | None) -> None:
        self.client.set_terminated(self.run_id, status, end_time=now)
        if pipeline := self.about.get("pipeline"):
            pipeline_run.leave(self.client, self.store.experiment, str(pipeline))

    def _log_metrics(self, events: Sequence[Mapping[str, Any]], run_id: str | None = None) -> None:
        from mlflow.entities import Metric

        found = [
            Metric(key, value, int(event["time"]), event["data"]["step"])
            for event in events
            for key, value in event["data"]["values"].items()
        ]
        for start in range(0, len(found), BATCH):
            self.client.log_batch(run_id or self.run_id, metrics=found[start : start + BATCH])

    def _log_params(self, params: Mapping[str, str], run_id: str) -> None:
        """MLflow never changes a value: an earlier one stays, which is said."""
        from mlflow.entities import Param

        known, new = self.client.get_run(run_id).data.params, []
        for key, value in params.items():
            if known.get(key, value) != value:
                self.store.tell(f"MLflow keeps {key} = {known[key]}, which was logged to this run before, not {value}")
            elif key not in known:
                new.append(Param(key, value))
        for start in range(0, len(new), 100):  # MLflow takes 100 parameters a batch
            self.client.log_batch(run_id, params=new[start : start + 100])

    def _log_inputs(self, inputs: Sequence[Mapping[str, Any]], run_id: str) -> None:
        from mlflow.entities import Dataset

        def data_set(item: Mapping[str, Any]) -> Any:
            about = (item["kind"], item["source"], item.get("schema"), item.get("profile"))
            return Dataset(item["name"], item["digest"][:DIGEST], *about)

        log_inputs(self.client, run_id, [(data_set(item), item["name"]) for item in inputs])

    def _log_table(self, path: Path, run_id: str) -> None:
        self.client.log_artifact(run_id, str(path), "tables")
        known = json.loads(self.client.get_run(run_id).data.tags.get(TABLES, "[]"))
        entry = {"path": f"tables/{path.name}", "type": "table"}
        if entry not in known:
            self.client.set_tag(run_id, TABLES, json.dumps([*known, entry]))

    def _child(self, data: Mapping[str, Any], now: int, run_id: str) -> None:
        from mlflow.entities import Metric, Param

        tags = {**data["tags"], pipeline_run.PARENT_TAG: run_id}
        child = self.store.run_of(data["uuid"]) or self._new_run(data["name"], tags, data["uuid"], now)
        metrics = [Metric(key, value, now, 0) for key, value in data["metrics"].items()]
        params = [Param(key, value) for key, value in data["params"].items()]
        for start in range(0, max(len(metrics), len(params)), 100):
            part = slice(start, start + 100)
            self.client.log_batch(child, metrics=metrics[part], params=params[part])
        self.client.set_terminated(child, "FINISHED", end_time=now)

    def _has_model(self, data: Mapping[str, Any], run_id: str) -> bool:
        """Whether this model was logged before that could be noted."""
        wanted = {f"{name}_sha256": value for name, value in data["sha256"].items()}
        outputs = self.client.get_run(run_id).outputs
        for output in outputs.model_outputs if outputs else ():
            model = self.client.get_logged_model(output.model_id)
            if model.name == data["name"] and wanted.items() <= model.tags.items() and str(model.status) == "READY":
                return True
        return False

    def _register(self, data: Mapping[str, Any], run_id: str) -> None:
        """After all that the other journals of the run have so far."""
        pipeline, parent = self.about.get("pipeline"), self.known.parent
        for other in self.others:
            alike = other.about.get("pipeline") == pipeline if pipeline else bool(parent) and other.parent == parent
            if alike and other.uuid != self.known.uuid and other.waiting():
                raise Held("registers its model when all else of the run is uploaded")
        # MLflow looks for the model of a new version in the store that the environment names, whatever the client's.
        with environment({"MLFLOW_TRACKING_URI": self.client.tracking_uri}):
            importlib.import_module("imitation_refinement.tracking.registry").register(
                self.client, run_id, data, self.known.folder
            )


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether no other process uploads a journal meanwhile."""
    try:
        stream = (folder / "lock").open("w")
    except FileNotFoundError:  # sent and removed by another
        yield False
        return
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield True


class Upload:
    """Uploads all journals of a folder, again and again if asked.

    Args:
        root: the folder; journals may be further below.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.held: dict[Path, str] = {}  # journals that can't go on, and why
        self.busy: set[Path] = set()  # journals that another process uploads
        self._stores: dict[str, Store] = {}
        self._retry: dict[Path, float] = {}  # when to try again what a journal has put off

    def store_of(self, known: Known, others: Sequence[Known]) -> Store:
        """The store that a journal goes to.

        Raises:
            InputError: if it can't be used.
            Held: if nobody says which that is.
        """
        about = known.about.get("store")
        if about is None:
            about = next((other.about.get("store") for other in others if other.uuid == known.parent), None)
        if about is None:
            raise Held("the journal of the run that it is a part of is not here, which says where to upload")
        key = json.dumps(about, sort_keys=True)
        if key not in self._stores:
            self._stores[key] = connect(about, known.folder)
        return self._stores[key]

    def once(self) -> None:
        """Uploads what is new.

        Raises:
            Silent: if a store takes nothing now.
            InputError: if a store can't be used.
        """
        everything = journals(self.root)
        over = {known.uuid for known in everything if known.ended()}
        gone = {known.uuid for known in everything if known.uuid not in over and known.abandoned()}
        waits = {known.whole for known in everything if known.waiting()}
        self.held.clear()
        self.busy.clear()
        for known in everything:
            with _locked(known.folder) as mine:
                if not mine:
                    self.busy.add(known.folder)
                    continue
                try:
                    replay = Replay(self.store_of(known, everything), known, everything, known.whole not in waits)
                    # Whether a part of a run was killed or goes on, the whole's end tells.
                    dead = known.parent in over | gone if known.parent else known.uuid in gone
                    replay.go_on(dead, time.monotonic() >= self._retry.get(known.folder, 0.0))
                    if replay.sent.get("later"):
                        self._retry[known.folder] = time.monotonic() + MAX_RETRY_S
                except Held as error:
                    self.held[known.folder] = str(error)
        for known in everything:
            if known.whole in over | gone and not any(o.waiting() for o in everything if o.whole == known.whole):
                with _locked(known.folder) as mine:
                    if mine:
                        _tidy(known)


def _tidy(known: Known) -> None:
    """Removes what nobody needs of a journal that was sent: all of a stage's own, the files of a whole run's."""
    if (known.folder / REFUSED).exists():
        return
    if known.about.get("kept") or known.parent:
        shutil.rmtree(known.folder / FILES, ignore_errors=True)
        return
    shutil.rmtree(known.folder, ignore_errors=True)
    leave(known.folder.parent)


class Sampler(threading.Thread):
    """Adds to a journal what the machine does, as MLflow samples it, while the run goes on.

    Made by the thread that uploads: two threads that import MLflow at once find modules that are half there.

    Raises:
        ImportError: if MLflow can't sample here.
    """

    def __init__(self, known: Known) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        super().__init__(daemon=True, name="sampler")
        self._known, self._monitor, self.over = known, SystemMetricsMonitor(""), threading.Event()

    def run(self) -> None:
        """Samples until it is over."""
        monitor = self._monitor
        # Counted, as MLflow counts its own: a clock may be set back. A run that goes on counts on.
        steps = itertools.count(sum(line.startswith(SAMPLE) for _, line in self._known.lines()))
        while not self.over.is_set():
            monitor.collect_metrics()
            values = {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            for each in monitor.monitors:
                each.clear_metrics()
            event = {"kind": "system", "time": int(time.time() * 1000), "data": {"step": next(steps), "values": values}}
            line = json.dumps(event).encode() + b"\n"
            if self.over.is_set() or self._known.ended():
                return
            with suppress(OSError), (self._known.folder / EVENTS).open("ab", buffering=0) as stream:
                stream.write(line)
            self.over.wait(float(monitor.sampling_interval))


def follow(root: Path, name: str, check: bool) -> None:
    """Uploads the journals of a folder while one of them is written, and then what is left, as long as it is let.

    Args:
        root: the folder.
        name: of the folder of that journal.
        check: whether to say on standard output first whether the store can be used.
    """
    upload, starter = Upload(root), os.getppid()
    me = next((known for known in journals(root) if known.folder.name == name), None)
    if me is None:  # removed before this process had begun
        return
    if check:
        _answer(usable(upload, me))
    patience = float(os.environ.get(PATIENCE_VARIABLE) or PATIENCE_S)
    sampler: Sampler | None = None
    wanted = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() != "false"
    wait, silent, orphaned = RETRY_S, root / SILENT, 0.0

    def over() -> bool:
        return not (me.folder / EVENTS).exists() or me.ended() or me.abandoned() or os.getppid() != starter

    def left() -> list[int]:
        """Of each journal of this run, how much waits."""
        return [known.waiting() for known in journals(root) if known.whole == me.uuid]

    while True:
        last, before = over(), left()
        if wanted and not last:
            wanted = False  # once
            try:
                sampler = Sampler(me)
                sampler.start()
            except ImportError as error:
                say(f"what the machine does is not tracked ({error})")
        elif last and sampler:
            sampler.over.set()
        try:
            upload.once()
        except (Silent, InputError, OSError) as error:
            reason = str(error) if isinstance(error, Silent) else why_silent(error)
            if not silent.exists():
                say(f"MLflow's store takes nothing now: {reason}")
            with suppress(OSError):
                silent.write_text(reason, encoding="utf-8")
            pause, wait = wait, min(2 * wait, MAX_RETRY_S)
        else:
            silent.unlink(missing_ok=True)
            pause, wait = POLL_S, RETRY_S
            now = left()
            if last and (not any(now) or (upload.held and not upload.busy and now == before)):
                break
        if os.getppid() != starter:  # killed: nobody will end this process
            orphaned = orphaned or time.monotonic()
            if time.monotonic() - orphaned > patience:
                break
        asleep = time.monotonic()
        while time.monotonic() - asleep < pause and over() == last:
            time.sleep(TICK_S)
    for folder, reason in upload.held.items():
        warn(f"{folder} waits: {reason}")


def _answer(error: InputError | None) -> None:
    """Says to who started this process whether the store can be used; an error as its three parts."""
    with suppress(BrokenPipeError):  # who waited no longer
        print(json.dumps(error and [error.where, error.problem, error.remedy]), flush=True)
    os.dup2(2, 1)


def usable(upload: Upload, me: Known) -> InputError | None:
    """Why a journal's store can't be used, if it can't."""
    try:
        store = upload.store_of(me, [me])
        if given := me.about.get("run_id"):
            see_run(store, str(given))
    except InputError as error:
        return error
    return None


def see_run(store: Store, run_id: str) -> None:
    """Sees that a run which somebody else made is there.

    Raises:
        InputError: if it is not, or is deleted.
    """
    from mlflow import MlflowException

    where = f"MLFLOW_RUN_ID {run_id}"
    try:
        run = store.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise refusal(error, where) from None
        remedy = "Let MLFLOW_TRACKING_URI name the server of Kubeflow Pipelines' MLflow plugin."
        raise InputError(where, "is no run of MLFLOW_TRACKING_URI's store.", remedy) from None
    if run.info.lifecycle_stage == "deleted":
        restore = f"Restore it by `mlflow runs restore --run-id {run_id}`, or unset MLFLOW_RUN_ID."
        raise InputError(where, "is deleted.", restore)


def sync(folder: Path) -> int:
    """Uploads what waits in a folder, as in a run's or that of all runs.

    Returns:
        How many events still wait.

    Raises:
        InputError: if there are no journals, or a store can't be used.
    """
    found = journals(folder)
    if not found:
        raise InputError(folder, "holds no journal of a run.", "Name a run's folder, or the one that was told.")
    quiet()
    before = left = waiting(folder)
    upload = Upload(folder)
    reason = ""
    try:
        upload.once()
        while upload.held and waiting(folder) < left:  # what was held may go on now
            left = waiting(folder)
            upload.once()
    except Silent as error:
        reason = f"MLflow's store takes nothing now: {error}"
    left = waiting(folder)
    print(f"{before - left} records uploaded" + (f", {left} wait" if left else ""))
    for place, why in [*upload.held.items(), *((place, "another process uploads it") for place in upload.busy)]:
        warn(f"{place} waits: {why}")
    if reason:
        warn(reason)
    for silent in folder.rglob(SILENT):
        if not left:
            silent.unlink(missing_ok=True)
    return left


def quiet() -> None:
    """MLflow and what it stands on say nothing by themselves: what matters is said here, in a line."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow

    for logger in (logging.getLogger(mlflow.__name__), *map(logging.getLogger, ("urllib3", "alembic", "requests"))):
        logger.setLevel(logging.CRITICAL)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the uploader; exits with 1 where something still waits, 2 where the store can't be used."""
    parser = argparse.ArgumentParser(prog="python -m imitation_refinement.tracking.upload", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="journals of runs")
    parser.add_argument("--follow", default="", metavar="NAME", help="a journal to be uploaded while it is written")
    parser.add_argument("--check", action="store_true", help="say first whether the store can be used")
    arguments = parser.parse_args(argv)
    if arguments.follow:
        quiet()
        follow(arguments.folder, arguments.follow, arguments.check)
        return
    try:
        left = sync(arguments.folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(1 if left else 0)


if __name__ == "__main__":
    main()
