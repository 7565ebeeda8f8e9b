"""How long MLflow's table of runs takes to open with many runs: ``python -m benchmarks.many_runs results.json``.

From the results of one finished run (``runs/latest/results.json``) it makes folders of few and many pipeline runs, as
`imitation-refinement run` leaves them but for weights: journals with all that the stages say, put into a store by the
uploader. Then ``imitation-refinement ui`` serves both, and in turn the table's requests are timed, and, where Chromium
is, how long the page takes until its rows are there. Prints medians and their ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np

from components.evaluate.stage import tell
from imitation_refinement.learning.config import PretrainConfig, RefineConfig
from imitation_refinement.running.journal import Journal
from imitation_refinement.running.tracking import EXPERIMENT, Tracker
from imitation_refinement.tracking import pages, upload
from imitation_refinement.tracking.store import sqlite_uri
from tests.servers import free_port, started, wait_for

EPOCHS = 8
START_S = 600.0
ROWS = 100  # that MLflow's page asks for at first
# Options of what is trained; a run's other stages have fewer numbers.
TRAINED = {"pretrain_classifier": PretrainConfig(), "train_refiner": RefineConfig()}


def without_weights(client: Any, run_id: str, spec: Mapping[str, Any], folder: Path) -> None:
    """A logged model as the uploader makes one, but for its files."""
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    model = client.create_logged_model(run.info.experiment_id, spec["name"], run_id, dict(spec["tags"]))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    client.finalize_logged_model(model.model_id, "READY")


def write_run(root: Path, store: Mapping[str, Any], results: Mapping[str, Any], seed: int) -> None:
    """The journals of one pipeline run, its numbers moved a little by the seed."""
    rng = np.random.default_rng(seed)
    rows = [
        {k: v * rng.uniform(0.9, 1.1) if isinstance(v, float) else v for k, v in row.items()} for row in results["rows"]
    ]
    results = {**results, "seed": seed, "rows": rows}
    whole = Journal(root, f"run {seed}")
    whole.append("begin", {"uuid": whole.uuid, "name": f"run {seed}", "tags": {}, "kept": True, "store": store})
    names = [(stage, row["name"]) for row in rows if (stage := _stage(row))]
    for stage, name in [*names, ("evaluate", "evaluate")]:
        journal = Journal(root, f"{stage} {name}")
        about = {"uuid": journal.uuid, "name": f"{stage} {name}", "tags": {"stage": stage}, "parent": whole.uuid}
        journal.append("begin", about)
        tracker = Tracker(journal, name=name)
        if stage == "evaluate":
            tell(results, tracker)
        else:
            tracker.log_params(TRAINED[stage].model_dump())
            for epoch in range(EPOCHS):
                losses = {f"loss_{i}": float(rng.random()) for i in range(8)}
                tracker.log_metrics({**losses, "validation_accuracy": float(rng.random())}, epoch)
            tracker.log_model(name, {})
        journal.append("end", {"status": "FINISHED"})
        journal.close()
    whole.append("end", {"status": "FINISHED"})
    whole.close()


def _stage(row: Mapping[str, Any]) -> str:
    return {"raw": "pretrain_classifier", "ir": "train_refiner"}.get(str(row["method"]), "")


def make(runs: Path, number: int, results: Mapping[str, Any]) -> None:
    """A folder of so many runs; one that is whole already is taken as it is."""
    if (runs / "whole").exists():
        return
    runs.mkdir(parents=True, exist_ok=True)
    sys.modules["imitation_refinement.tracking.served"] = SimpleNamespace(log=without_weights)  # type: ignore[assignment]
    store = {
        "uri": sqlite_uri(runs / "mlflow.db"),
        "artifacts": str((runs / "mlartifacts").resolve()),
        "experiment_id": None,
        "experiment_name": EXPERIMENT,
    }
    start = time.monotonic()
    for seed in range(number):
        write_run(runs / f"run-{seed}" / "tracking", store, results, seed)
    upload.quiet()
    uploader = upload.Upload(runs)
    for seed in range(number):
        uploader.root = runs / f"run-{seed}" / "tracking"
        uploader.once()
        print(f"\r{seed + 1} of {number} runs", end="", file=sys.stderr, flush=True)
    left = upload.waiting(runs)
    assert not left, f"{left} records wait"
    (runs / "whole").touch()
    print(f"\r{number} runs uploaded in {time.monotonic() - start:.0f} s", file=sys.stderr)


@contextmanager
def served(runs: Path) -> Iterator[str]:
    """The address of ``imitation-refinement ui`` of a folder."""
    port = free_port()
    code = "import sys; from pipelines.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "ui", "--runs", str(runs.resolve()), "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with started(command, runs / "ui.log") as server:
        wait_for(lambda: server.answers(f"{address}/health"), START_S)
        yield address


def ask(address: str, path: str, body: Mapping[str, Any]) -> Any:
    """The answer of MLflow's server to its page's request."""
    request = urllib.request.Request(
        f"{address}/ajax-api/2.0/mlflow/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def table_requests(address: str, experiment: str) -> float:
    """Seconds that the requests of the table take: runs, and the experiment's models with all their numbers."""
    start = time.monotonic()
    body = {"experiment_ids": [experiment], "max_results": ROWS, "run_view_type": "ACTIVE_ONLY"}
    ask(address, "runs/search", {**body, "order_by": ["attributes.start_time DESC"]})
    ask(address, "logged-models/search", {"experiment_ids": [experiment]})
    return time.monotonic() - start


def page(address: str, experiment: str, tab: Any) -> float:
    """Seconds until the rows of the table are on the page that ``ui`` names."""
    tab.go("about:blank")
    start = time.monotonic()
    tab.go(pages.address(address, experiment))
    tab.wait("document.querySelectorAll('[role=row]').length > 5")
    return time.monotonic() - start


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path, help="results.json of a finished run")
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 300], metavar="N", help="runs of each folder")
    parser.add_argument(
        "--folder", type=Path, help="where the folders are kept, to be measured again (default: nowhere)"
    )
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each folder (default: 7)")
    arguments = parser.parse_args(argv)
    results = json.loads(arguments.results.read_text(encoding="utf-8"))
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(TemporaryDirectory()))
        for number in arguments.runs:
            make(folder / str(number), number, results)
        addresses = {number: stack.enter_context(served(folder / str(number))) for number in arguments.runs}
        experiments = {n: _experiment(address) for n, address in addresses.items()}
        measures = {"requests": table_requests, **_with_browser(stack)}
        medians: dict[str, list[float]] = {}
        for name, measure in measures.items():
            taken: dict[int, list[float]] = {number: [] for number in arguments.runs}
            for repeat in range(arguments.repeats + 1):  # the first warms up
                for number, address in addresses.items():
                    seconds = measure(address, experiments[number])
                    if repeat:
                        taken[number].append(seconds)
            medians[name] = [statistics.median(taken[number]) for number in arguments.runs]
        print(f"{'':10}" + "".join(f"{number:>8} runs" for number in arguments.runs) + "   ratio")
        for name, values in medians.items():
            print(f"{name:10}" + "".join(f"{value:11.2f} s" for value in values) + f"{values[-1] / values[0]:8.2f}")


def _experiment(address: str) -> str:
    found = ask(address, "experiments/search", {"max_results": 100})["experiments"]
    return str(next(each["experiment_id"] for each in found if each["name"] == EXPERIMENT))


def _with_browser(stack: ExitStack) -> dict[str, Any]:
    """The page's measure, where Chromium and what drives it are installed."""
    try:
        from tests.web import chromium
    except ImportError as error:
        print(f"without the page: {error}", file=sys.stderr)
        return {}
    program = chromium.find()
    if program is None:
        print("without the page: Chromium is not installed", file=sys.stderr)
        return {}
    profile = Path(stack.enter_context(TemporaryDirectory())) / "profile"
    tab = stack.enter_context(chromium.tab(program, profile))
    tab.resize(1400, 1000)
    return {"page": lambda address, experiment: page(address, experiment, tab)}


if __name__ == "__main__":
    main()
