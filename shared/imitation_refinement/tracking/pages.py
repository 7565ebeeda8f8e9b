"""MLflow's pages, opened on what is to be seen there: its classic face, with the columns chosen.

MLflow keeps a view, its columns, filter and order, as a tag of the experiment, which an address names
(``viewStateShareKey``); a view with a name stands in the page's list of views, too.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from imitation_refinement.results.summary import ROW_METRICS

VIEW_TAG = "mlflow.sharedViewState."
KIND = ("mlflow.experimentKind", "custom_model_development")  # no chats and prompts, which MLflow asks about else
START_S = 120.0


@dataclass(frozen=True)
class View:
    """What a page of runs shows.

    Attributes:
        key: in its address.
        name: in the list of views.
        columns: as MLflow calls them.
        order_by: the column that it is sorted by.
        ascending: whether the least comes first.
        filter: which runs; all by default.
    """

    key: str
    name: str
    columns: tuple[str, ...]
    order_by: str
    ascending: bool = False
    filter: str = ""


def _of(kind: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{kind}.`{name}`" for name in names)


RUNS = View(
    "runs",
    "Runs",
    (
        *_of("metrics", "accuracy", "simple_accuracy", "gain", "judge_gap", "calibration_error", "class_recall"),
        *_of("params", "profile", "seed", "structures", "imperfect"),
    ),
    "attributes.start_time",
)
METHODS = View(
    "methods",
    "Methods",
    (
        *_of("metrics", *ROW_METRICS),
        *_of("params", "method", "classifier", "supervision", "variant", "profile", "seed"),
        *_of("tags", "revision"),
    ),
    "metrics.`accuracy`",
    filter="tags.method LIKE '%'",  # runs of a method alone
)
VIEWS = (RUNS, METHODS)


def address(server: str, experiment: str, view: View = RUNS) -> str:
    """The page of an experiment with a view.

    Args:
        server: its address.
        experiment: its id.
        view: what is to be seen.
    """
    query = urlencode({"workflowType": "machine_learning", "viewStateShareKey": view.key})
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?{query}"


def prepare(client: Any, experiment: str) -> None:
    """Keeps the views with an experiment, if they are not there.

    Args:
        client: MLflow's client of the store.
        experiment: its id.
    """
    known = client.get_experiment(experiment).tags
    if KIND[0] not in known:
        client.set_experiment_tag(experiment, *KIND)
    for view in VIEWS:
        state = json.dumps(
            {
                "selectedColumns": view.columns,
                "orderByKey": view.order_by,
                "orderByAsc": view.ascending,
                "searchFilter": view.filter,
            }
        )
        if state != _state(known.get(VIEW_TAG + view.key)):
            now = int(time.time() * 1000)
            kept = {"name": view.name, "createdAt": now, "updatedAt": now, "state": state}
            client.set_experiment_tag(experiment, VIEW_TAG + view.key, json.dumps(kept))


def _state(tag: str | None) -> str:
    """What a view that is there shows; empty for another one's."""
    try:
        return str(json.loads(tag or "{}")["state"])
    except (ValueError, KeyError, TypeError):
        return ""


def open_when_served(server: str, page: str) -> None:
    """Opens a page in the browser as soon as its server answers.

    Args:
        server: its address.
        page: the page's.
    """
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{server}/health", timeout=5):
                webbrowser.open(page)
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)


if __name__ == "__main__":
    open_when_served(*sys.argv[1:])
