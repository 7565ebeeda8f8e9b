"""MLflow's stores: found and made ready, and what they refuse said in a line with its remedy."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import sqlite3
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from imitation_refinement.errors import InputError
from imitation_refinement.files import sweep, writable
from imitation_refinement.running.tracking import ARTIFACT, EXPERIMENT

SQLITE = "sqlite:///"
SQLITE_DRIVERS = (SQLITE, "sqlite+pysqlite:///")
MAX_LINE = 300  # characters of what a store says
DIGEST = 36  # characters of a data set's digest that MLflow keeps
# A store that is silent is noticed soon, and is asked again by who knows what else there is to do.
LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def open_store(tracking_uri: str, artifacts: Path | None = None) -> tuple[Any, str]:
    """MLflow's client of a store, which is made if it is not there, and the id of the experiment.

    The experiment is the environment's: MLFLOW_EXPERIMENT_ID, MLFLOW_EXPERIMENT_NAME, or our own.

    Args:
        tracking_uri: ``sqlite:///…`` (:func:`sqlite_uri`) or a server.
        artifacts: the experiment's artifact folder when it is new.

    Raises:
        InputError: if the store can't be reached or refuses, or the experiment is deleted or unknown.
    """
    for name, value in LIMITS.items():
        os.environ.setdefault(name, value)
    with _alone(tracking_uri):
        _make(tracking_uri)
        client = _client(tracking_uri)
        return client, _experiment(client, artifacts.resolve().as_uri() if artifacts else None)


def sqlite_uri(path: Path) -> str:
    """The address of a SQLite store in a file, whose name may hold what an address must quote."""
    from sqlalchemy.engine import URL

    name = str(path.resolve())
    if _database(SQLITE + name) == Path(name):
        return SQLITE + name
    # Where the driver is named, MLflow doesn't make a folder of the quoted name.
    return URL.create("sqlite+pysqlite", database=name).render_as_string()


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for another store."""
    return _database(uri) if uri.startswith(SQLITE_DRIVERS) else None


def _database(uri: str) -> Path:
    from sqlalchemy.engine import make_url

    return Path(make_url(uri).database or "")


def status_of(error: Exception) -> int:
    """The HTTP status that an error of MLflow's client stands for; 0 where it is none's."""
    if found := re.search(r"failed with error code (\d{3})\b", str(error)):  # of a proxy, whose words MLflow quotes
        return int(found[1])
    response = getattr(error, "response", None)  # of what uploads artifacts
    return int(getattr(response, "status_code", 0) or getattr(error, "get_http_status_code", lambda: 0)())


def first_line(error: Exception) -> str:
    """What a store said, cut to a line, without the login that may stand in its address."""
    line = re.sub(r"(://)[^/\s]+@", r"\1", str(error).strip().partition("\n")[0]) or type(error).__name__
    return textwrap.shorten(line, MAX_LINE, placeholder=" …").rstrip(".")


def log_inputs(client: Any, run_id: str, data_sets: Sequence[tuple[Any, str]], models: Sequence[str] = ()) -> None:
    """Logs what a run was given.

    Args:
        client: MLflow's client.
        run_id: of the run.
        data_sets: MLflow's ``Dataset`` each with the context that it was used in.
        models: ids of logged models.
    """
    from mlflow import MlflowException
    from mlflow.entities import DatasetInput, InputTag, LoggedModelInput

    found = [DatasetInput(data, [InputTag("mlflow.data.context", context)]) for data, context in data_sets]
    for left in reversed(range(1 + len(found))):
        try:
            client.log_inputs(run_id, found, [LoggedModelInput(model) for model in models] or None)
            break
        except MlflowException as error:
            # Of two runs that log the same new data set at once the store refuses one, and knows it then.
            if not left or not any(word in str(error).lower() for word in ("unique", "duplicate")):
                raise


def why_silent(error: Exception) -> str:
    """Why a store takes nothing now, in few words where they are known."""
    status = status_of(error) if not isinstance(error, InputError) else 0
    if status in (401, 403):
        return f"it refuses the login, {status}"
    found = re.search(
        r"Connection refused|Read timed out|Name or service not known|Connection reset|Remote end closed|disk is full",
        str(error),
    )
    return found[0] if found else first_line(error)


def refusal(error: Exception, where: str = "MLFLOW_TRACKING_URI", remedy: str = "") -> InputError:
    """What a store says when it refuses, by its first line, with what can be done."""
    said, line = str(error), first_line(error)
    if (status := status_of(error)) in (401, 403):
        line = "it refuses the login, 401" if status == 401 else line
        remedy = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, as it wants."
    elif isinstance(error, ModuleNotFoundError):
        remedy = "Install that driver of the database, or give sqlite:///FILE or a server."
    elif "migrate-filestore" in said:
        line = line.partition(". ")[0]  # the rest is about the tool
        remedy = "Give sqlite:///FILE or a server; `mlflow migrate-filestore` moves what is in a folder."
    elif "mlflow db upgrade" in said:
        remedy = "Back the database up, then run `mlflow db upgrade` with its address."
    elif asked := re.search(r"\(host='([^']+)', port=(\d+)\)", said):
        line = f"{asked[1]}:{asked[2]} does not answer ({why_silent(error)})"
    remedy = remedy or "Start the server, or correct MLFLOW_TRACKING_URI, or unset it to run untracked."
    return InputError(where, f"can't be used: {line}.", remedy)


def _client(uri: str, file: Path | None = None) -> Any:
    """MLflow's client of a store that answers; ``file`` is named where the disk doesn't take it."""
    import mlflow

    try:
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # of MLflow, of SQLAlchemy, of a driver, of what parses addresses
        if file and (found := re.search("disk I/O error|disk is full", str(error))):  # no more is known of SQLite
            remedy = "Make room, or lift the limit on file sizes, then give the command again."
            raise InputError(file, f"can't be written ({found[0]}).", remedy) from None
        raise refusal(error) from None
    return client


def _make(tracking_uri: str) -> None:
    """Makes the file of a SQLite store that is not there yet, whole: MLflow goes on with none that it made in part."""
    file = sqlite_file(tracking_uri)
    if file is None or file.exists() or not file.parent.is_dir():
        return
    sweep(file.parent, file.name)
    with writable(file), tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        _client(sqlite_uri(made := Path(folder, file.name)), file)
        made.replace(file)


@contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """Lets one process of this machine at a time make a SQLite file: MLflow can't make the same one twice."""
    file = sqlite_file(tracking_uri)
    if file is None or not file.parent.is_dir():
        yield
        return
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _experiment(client: Any, artifacts: str | None = None) -> str:
    """The id of the experiment, which is made if it is not there; of several that make it at once, one does."""
    from mlflow import MlflowException

    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    where = f"MLFLOW_EXPERIMENT_ID {given}" if given else f"MLflow's experiment {name}"
    try:
        known = client.get_experiment(given) if given else client.get_experiment_by_name(name)
        if known is None:
            try:
                return str(client.create_experiment(name, artifact_location=artifacts))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                known = client.get_experiment_by_name(name)
    except MlflowException as error:
        remedy = "Name one of the store's in MLFLOW_EXPERIMENT_ID, or unset it." if given else ""
        raise refusal(error, where, remedy or "Name another in MLFLOW_EXPERIMENT_NAME.") from None
    if known.lifecycle_stage == "deleted":
        uri = client.tracking_uri
        store = f"MLFLOW_TRACKING_URI={shlex.quote(uri)} " if uri.startswith(SQLITE_DRIVERS) else ""
        restore = f"`{store}mlflow experiments restore -x {known.experiment_id}`"
        raise InputError(where, "is deleted.", f"Restore it by {restore}, or name another in MLFLOW_EXPERIMENT_NAME.")
    return str(known.experiment_id)


# Columns of MLflow's tables that hold where artifacts lie.
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


def find_artifacts(database: Path, artifacts: Path) -> None:
    """Has a store find its artifacts in a folder that was moved or copied with it: MLflow keeps absolute addresses.

    An address is changed where the old folder is gone, or a run's artifacts are in the new one, and both have one name.

    Args:
        database: the SQLite store; nothing is done where there is none.
        artifacts: the folder of the artifacts now.

    Raises:
        InputError: if the store can't be read or written.
    """
    if not database.is_file():
        return
    new = artifacts.resolve().as_uri()
    try:
        with closing(sqlite3.connect(database, timeout=30)) as store, store:
            tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "experiments" not in tables:
                return
            for (old,) in store.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall():
                if _was_moved(store, str(old or ""), artifacts):
                    for table, column in (place for place in _LOCATIONS if place[0] in tables):
                        within = f"{column} = ?1 OR substr({column}, 1, length(?1) + 1) = ?1 || '/'"
                        change = f"{column} = ?2 || substr({column}, length(?1) + 1)"
                        store.execute(f"UPDATE {table} SET {change} WHERE {within}", (old, new))
    except sqlite3.Error as error:
        raise InputError(database, f"can't be used ({error}).", "See whether it can be read and written.") from None


def _was_moved(store: sqlite3.Connection, old: str, artifacts: Path) -> bool:
    """Whether what was in the folder at an old address is in this one now."""
    if not old.startswith("file://") or old == artifacts.resolve().as_uri():
        return False
    before = Path(unquote(urlsplit(old).path))
    if before.name != artifacts.name:
        return False
    runs = store.execute("SELECT run_uuid FROM runs WHERE substr(artifact_uri, 1, length(?1) + 1) = ?1 || '/'", (old,))
    return not before.exists() or any((artifacts / run_id).exists() for (run_id,) in runs)


def with_links(markdown: str, run: Any) -> str:
    """A note whose links to artifacts (:data:`.running.tracking.ARTIFACT`) lead to those of a run."""
    place = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/"
    return markdown.replace(f"]({ARTIFACT}", f"]({place}")
