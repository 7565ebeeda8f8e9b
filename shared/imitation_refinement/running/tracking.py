"""Tracking: one parent run a pipeline run, one child run a stage. What a stage says goes to a journal on disk.

A stage never talks to MLflow: it writes to its journal (:mod:`imitation_refinement.running.journal`), which another
process uploads (:mod:`imitation_refinement.tracking.upload`), during the run and, where the store did not answer,
whenever ``imitation-refinement sync`` is told to. So no store holds up the work, or ends it.

Which run the journal is of, in this order: the one that ``MLFLOW_RUN_ID`` names (Kubeflow Pipelines' MLflow plugin sets
it); a child of the one whose journal ``IMITATION_REFINEMENT_PARENT_RUN`` names (the local runner sets it); where
``MLFLOW_TRACKING_URI`` is set, a child of the run of the pipeline run that ``KFP_RUN_ID`` names (the compiled pipeline
sets it), or a run of its own; else there is none. ``MLFLOW_EXPERIMENT_ID`` or ``MLFLOW_EXPERIMENT_NAME`` name another
experiment. Of several processes that torchrun started, the first writes.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.options import flat
from imitation_refinement.progress import leads, warn
from imitation_refinement.running.journal import SILENT, Journal, journals, leave, waiting
from imitation_refinement.running.launch import CHECKPOINTS_VARIABLE, RUN_VARIABLE, environment
from imitation_refinement.running.lineage import data_set, is_model, model_digest
from imitation_refinement.running.revision import identity

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

# Nobody is told what is run here.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

JOURNAL_VARIABLE = "IMITATION_REFINEMENT_JOURNAL"  # the folder of the journals of a run
PARENT_RUN_VARIABLE = "IMITATION_REFINEMENT_PARENT_RUN"  # the uuid of the journal that a stage's is a part of
PATIENCE_VARIABLE = "IMITATION_REFINEMENT_TRACKING_SECONDS"  # all waiting for the store, of a stage or a run
PATIENCE_S, IMPATIENCE_S = 30.0, 2.0  # the latter for a store that has been silent already, and after an interrupt
EXPERIMENT = "imitation-refinement"
MAX_PARAM_LENGTH = 6000  # MLflow's own limit
ARTIFACT = "artifact:"  # in a note, begins a link to an artifact of the run that wrote it; the uploader completes it
NOTE_TAG = "mlflow.note.content"  # shown as the run's description


class Tracker:
    """Writes what a stage says of itself to its journal; does nothing where no run is tracked.

    Where the journal can't be written, that is said once, and the work goes on.

    Attributes:
        name: what the run is called, or would be.
    """

    def __init__(self, journal: Journal | None = None, prefix: str = "", name: str = "", above: bool = False) -> None:
        self._journal, self._prefix, self.name, self._above = journal, prefix, name, above

    @property
    def active(self) -> bool:
        """Whether anything is logged."""
        return self._journal is not None

    @property
    def above(self) -> Tracker:
        """What is logged with this goes to the run that this one is a part of, to this one where it stands alone."""
        return Tracker(self._journal, name=self.name, above=True)

    @classmethod
    @contextmanager
    def stage(cls, name: str, options: str = "", beside: Path | None = None) -> Iterator[Tracker]:
        """The tracker of one stage; its run ends as FINISHED or FAILED with the block.

        Args:
            name: the run's name.
            options: the stage's options, which tell it from other tasks of that name.
            beside: what the stage makes first; the journal is kept beside it where no other folder is given.

        Raises:
            InputError: before the block, where a person started the stage: if MLFLOW_RUN_ID names no run of the store,
                the experiment is deleted or unknown, or the store can't be reached or refuses.
        """
        given, parent = os.environ.get("MLFLOW_RUN_ID"), os.environ.get(PARENT_RUN_VARIABLE)
        store, pipeline = os.environ.get("MLFLOW_TRACKING_URI"), os.environ.get(RUN_VARIABLE)
        if given and not store and not parent and leads():
            warn("not tracked: MLFLOW_RUN_ID is set, MLFLOW_TRACKING_URI is not (injectUserEnvVars of KFP's plugin)")
        if not (leads() and (store or parent)):
            yield cls(name=name)
            return
        about: dict[str, Any] = {"name": name, "tags": {"stage": name, **identity()}}
        prefix = ""
        if given:
            # Kubeflow Pipelines ends this run, and logs a component's parameters to it under their own names; where
            # somebody else made it, other stages log to it.
            about["run_id"], prefix = given, re.sub(r"[^\w\- ]", "_", name) + "."
        elif parent:
            about["parent"] = parent
        elif pipeline:
            task = sha256(f"{name} {options}".encode()).hexdigest()[:16]
            about |= {"pipeline": pipeline, "task": task}
        if not parent:
            about["store"] = _store(store or "")
        uri = "" if parent else store or ""
        with _journal(_root(beside), about, uri, check=not pipeline) as journal:
            yield cls(journal, prefix, name)

    @classmethod
    @contextmanager
    def parent(cls, name: str, folder: Path, tracking_uri: str, artifacts: Path | None = None) -> Iterator[Tracker]:
        """The run of a whole pipeline run; the stages' runs made meanwhile are its children.

        Args:
            name: the run's name.
            folder: of the journals, the stages' ones, too. Where it has this run's from before, the run goes on.
            tracking_uri: the store, ``sqlite:///…`` or a server, which is there.
            artifacts: the experiment's artifact folder when it is new.
        """
        uuid = next((known.uuid for known in journals(folder) if known.about.get("kept")), "")
        about = {"name": name, "tags": identity(), "kept": True, "store": _store(tracking_uri, artifacts)}
        with _journal(folder, about, tracking_uri, uuid=uuid) as journal:
            if journal is None:
                yield cls(name=name)
                return
            with environment({JOURNAL_VARIABLE: str(folder.resolve()), PARENT_RUN_VARIABLE: journal.uuid}):
                yield cls(journal, name=name)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs resolved options; nested ones as ``a.b``."""
        named = {key: str(value)[:MAX_PARAM_LENGTH] for key, value in flat(params, self._prefix)}
        self._append("params", named)

    def log_inputs(self, inputs: Mapping[str, Path | list[Path]]) -> None:
        """Logs the inputs: data sets with where they came from at first, schema, SHA-256 digest and what they hold.

        A model is no data set: its digest is a parameter.
        """
        with self._kept() as journal:
            if not journal:
                return
            found, models = [], {}
            for name, value in inputs.items():
                paths = value if isinstance(value, list) else [value]
                digests = [model_digest(path) for path in paths if is_model(path)]
                if digests:
                    models[f"{name}_sha256"] = ", ".join(digests)
                found += [data_set(name, path) for path in paths if not is_model(path)]
            if models:
                self.log_params(models)
            self._append("inputs", {"inputs": found})

    def log_json(self, content: Any, name: str) -> None:
        """Logs what JSON can say as a file."""
        with self._kept() as journal:
            if journal:
                place = journal.place(name)
                place.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
                self._append("artifact", {"file": place.relative_to(journal.folder).as_posix(), "folder": None})

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs numbers at a step."""
        self._append("metrics", {"step": int(step), "values": {key: float(value) for key, value in metrics.items()}})

    def log_figure(self, figure: Figure, name: str) -> None:
        """Logs a Matplotlib figure under ``figures/``."""
        with self._kept() as journal:
            if journal:
                place = journal.place(name)
                figure.savefig(place)
                file = place.relative_to(journal.folder).as_posix()
                self._append("artifact", {"file": file, "folder": "figures"})

    def log_artifact(self, path: Path, folder: str | None = None, name: str = "") -> None:
        """Logs a file, or what is in a folder, as it is now.

        Args:
            path: of it.
            folder: that it goes to.
            name: of a file there, its own by default; MLflow shows it by the suffix, which Kubeflow's files don't have.
        """
        with self._kept() as journal:
            if journal:
                self._append("artifact", {"file": journal.keep(path, name), "folder": folder})

    def log_table(self, frame: DataFrame, name: str) -> None:
        """Logs a table under ``tables/``, in the form that MLflow shows as one.

        Args:
            frame: the table; its index is left out.
            name: of the file, ``.json``.
        """
        with self._kept() as journal:
            if journal:
                place = journal.place(name)
                frame.to_json(place, orient="split", index=False, double_precision=15)
                self._append("table", {"file": place.relative_to(journal.folder).as_posix()})

    def set_tag(self, key: str, value: str) -> None:
        """Sets a tag of the run."""
        self._append("tag", {"key": key, "value": str(value)})

    def note(self, markdown: str) -> None:
        """Sets the run's description."""
        self.set_tag(NOTE_TAG, markdown)

    def rename(self, name: str) -> None:
        """Gives the run another name."""
        self._append("rename", {"name": name})

    def child(
        self, name: str, tags: Mapping[str, str], metrics: Mapping[str, float], params: Mapping[str, Any] | None = None
    ) -> None:
        """Logs a finished run below this one; with :attr:`above`, beside this one.

        Another attempt at this stage logs to the same run again, where it is a part of a whole.
        """
        with self._kept() as journal:
            if not journal:
                return
            whole = os.environ.get(PARENT_RUN_VARIABLE) or os.environ.get(RUN_VARIABLE) if self._above else None
            data = {
                "uuid": sha256(f"{whole or journal.uuid} {name}".encode()).hexdigest()[:32],
                "name": name,
                "tags": {key: str(value) for key, value in tags.items()},
                "metrics": {key: float(value) for key, value in metrics.items()},
                "params": {key: str(value)[:MAX_PARAM_LENGTH] for key, value in flat(params or {})},
            }
            self._append("child", data)

    def log_model(
        self,
        name: str,
        files: Mapping[str, Path],
        card: str = "",
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Logs a model that can be served (:mod:`imitation_refinement.tracking.served`).

        Args:
            name: the model's name in the run.
            files: what it is made of, by their part in it: ``classifier``, ``refiner``, ``metadata``.
            card: its description, Markdown.
            tags: of the model.
            metrics: of the model.
        """
        with self._kept() as journal:
            if journal:
                numbers = {key: float(value) for key, value in (metrics or {}).items()}
                about = {"name": name, "card": card, "tags": dict(tags or {}), "metrics": numbers}
                self._append("model", {**about, **_files(journal, files)})

    def register(self, evidence: Mapping[str, Any], files: Mapping[str, Path] | None = None) -> None:
        """Asks for a model to be registered (:mod:`imitation_refinement.tracking.registry`) when all else is uploaded.

        Args:
            evidence: what decides; JSON.
            files: of the model, and of the evidence, by name.
        """
        with self._kept() as journal:
            if journal:
                self._append("register", {"evidence": dict(evidence), **_files(journal, files or {})})

    def _append(self, kind: str, data: Mapping[str, Any]) -> None:
        with self._kept() as journal:
            if journal:
                journal.append(kind, {**data, "above": True} if self._above else data)

    @contextmanager
    def _kept(self) -> Iterator[Journal | None]:
        """The journal, if any; where it can't be written, it is said once."""
        try:
            yield self._journal
        except OSError as error:
            _say_unwritten(error)


def without_login(uri: str) -> str:
    """An address without the user and the password that may stand in it."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri


class Uploader:
    """The process that uploads the journals of a folder while one of them is written.

    Args:
        root: the folder.
        journal: the journal whose end it waits for.
        uri: of the store.
        check: whether to see first that the store can be used.

    Raises:
        InputError: if that was asked for, and it can't.
    """

    def __init__(self, root: Path, journal: Journal, uri: str, check: bool) -> None:
        self._root, self._uuid = root, journal.uuid
        self._left = float(os.environ.get(PATIENCE_VARIABLE) or PATIENCE_S)
        command = [sys.executable, "-m", "imitation_refinement.tracking.upload", str(root.resolve())]
        own = {**os.environ, "MLFLOW_TRACKING_URI": uri}
        self._process = subprocess.Popen(
            [*command, "--follow", journal.folder.name, *(["--check"] if check else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if check else subprocess.DEVNULL,
            env={name: value for name, value in own.items() if name != "MLFLOW_RUN_ID"},
            start_new_session=True,  # the interrupt of a terminal is not for it
        )
        if check:
            try:
                self._see_that_it_can()
            except BaseException:
                self._end(0)
                raise

    def _see_that_it_can(self) -> None:
        """Waits for its answer; where there is none yet, the work goes on, and so does the uploader."""
        started, stream = time.monotonic(), self._process.stdout
        assert stream is not None
        ready = bool(select.select([stream], [], [], self._left - IMPATIENCE_S)[0])
        answer = stream.readline() if ready else b""
        stream.close()
        self._left -= time.monotonic() - started
        if answer and (error := json.loads(answer)):
            raise InputError(*error)

    def finish(self, hurry: bool) -> None:
        """Waits for what is not uploaded yet, no longer than is left, and says what waits then.

        Args:
            hurry: whether a person waits for the end.
        """
        silent = self._root / SILENT
        self._end(min(self._left, IMPATIENCE_S) if hurry or silent.exists() else self._left)
        if left := waiting(self._root, self._uuid):
            place = self._root.parent if self._root.name == "tracking" else self._root
            why = f" ({silent.read_text(encoding='utf-8').strip()})" if silent.exists() else ""
            warn(
                f"{left} records of this run are not in MLflow{why}; they wait in {self._root}, "
                f"and `imitation-refinement sync {shlex.quote(str(place))}` uploads them"
            )
        leave(self._root)

    def _end(self, patience: float) -> None:
        try:
            self._process.wait(max(0.0, patience))
        except subprocess.TimeoutExpired:
            self._process.kill()  # what it has not noted as sent is sent again
            self._process.wait()


@contextmanager
def _journal(
    root: Path, about: Mapping[str, Any], uri: str, check: bool = False, uuid: str = ""
) -> Iterator[Journal | None]:
    """The journal of a run that ends with the block; None where it can't be written, which is said.

    Args:
        root: the folder of the run's journals.
        about: the run, see :mod:`imitation_refinement.tracking.upload`.
        uri: of the store where this process has it uploaded; empty where another does.
        check: whether that store must be of use.
        uuid: of the run, where it goes on.

    Raises:
        InputError: if it must, and is not.
    """
    try:
        journal = Journal(root, about["name"], uuid)
        journal.append("begin", {"uuid": journal.uuid, **about})
    except OSError as error:
        _say_unwritten(error)
        yield None
        return
    uploader = None
    try:
        uploader = Uploader(root, journal, uri, check) if uri else None
    except OSError as error:  # no process can be started; the journal waits
        _say_unwritten(error)
    except BaseException:
        journal.discard()
        leave(root)
        raise
    try:
        yield journal
    except BaseException as error:
        _close(journal, uploader, "FAILED", hurry=not isinstance(error, Exception))
        raise
    _close(journal, uploader, "FINISHED")


def _close(journal: Journal, uploader: Uploader | None, status: str, hurry: bool = False) -> None:
    """Ends a run; what goes wrong then hides no other error."""
    try:
        journal.append("end", {"status": status})
        journal.close()
        if uploader:
            uploader.finish(hurry)
    except OSError as error:
        _say_unwritten(error)


def _say_unwritten(error: OSError) -> None:
    global _said
    if not _said:
        _said = True
        warn(f"not all is tracked: {error.filename or 'the journal'} can't be written ({error.strerror or error})")


_said = False


def _root(beside: Path | None) -> Path:
    """Where a stage's journal goes."""
    if folder := os.environ.get(JOURNAL_VARIABLE):
        return Path(folder)
    lasting, run = os.environ.get(CHECKPOINTS_VARIABLE), os.environ.get(RUN_VARIABLE)
    if lasting and run:
        return Path(lasting) / f"{run}.tracking"
    return beside.with_name(f"{beside.name}.tracking") if beside else Path("tracking")


def _store(uri: str, artifacts: Path | None = None) -> dict[str, Any]:
    """Where a journal is to be uploaded, for who does it later."""
    return {
        "uri": without_login(uri),
        "artifacts": str(artifacts.resolve()) if artifacts else None,
        "experiment_id": os.environ.get("MLFLOW_EXPERIMENT_ID") or None,
        "experiment_name": os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT,
    }


def _files(journal: Journal, files: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    return {
        "files": {name: journal.keep(path) for name, path in files.items()},
        "sha256": {name: digest(path) for name, path in files.items()},
    }
