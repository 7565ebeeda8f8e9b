"""MLflow's pages in Chromium, on a store that the journal and the uploader made; and where runs are found.

The pictures of the pages are kept in the folder that SCREENSHOTS names.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest
from PIL import Image

from components.evaluate.report import write_report
from components.evaluate.stage import tell
from imitation_refinement.results.figures import accuracy_figure, save_figure
from imitation_refinement.results.gate import Reason
from imitation_refinement.running.journal import Journal
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.tracking import pages, registry, upload
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from pipelines import pages as ui
from pipelines.cli import main
from pipelines.local import ARTIFACTS, DATABASE, tracking_uri
from tests.servers import free_port
from tests.web import chromium

PROGRAM = chromium.find()
SYSTEMS = [str(system) for system in CRYSTAL_SYSTEMS]
START_S = 300.0
TEXT = "document.body.innerText.includes({})"


def compare(gain: str, p: str, by: float) -> dict[str, float]:
    return {gain: by, f"{gain}_low": by - 0.05, f"{gain}_high": by + 0.05, p: 0.001}


def row(method: str, accuracy: float, classifier: str = "vgg", supervision: str | None = None) -> dict[str, Any]:
    name = "-".join(filter(None, (classifier, supervision or method)))
    base = {"name": name, "method": method, "classifier": classifier, "supervision": supervision, "variant": ""}
    return {
        **base,
        **{"labelled": 0, "n_train": 600, "n_test": 140, "l1": 30.0, "l2": 2.0, "kl": 0.8, "ncc": 0.9},
        **{"accuracy": accuracy, "accuracy_low": accuracy - 0.07, "accuracy_high": accuracy + 0.07},
        **{"recalls": dict.fromkeys(SYSTEMS, accuracy), "calibration_error": 0.05 if classifier else None},
    }


def results(seed: int) -> dict[str, Any]:
    """Of a run whose refiner is right on 60 % and a bit."""
    refined = row("ir", 0.6 + seed / 100, supervision="targeted") | {"best_baseline": "nearest"}
    refined |= compare("gain", "p_value", 0.3) | compare("judge_gain", "judge_p_value", 0.2)
    refined |= compare("gain_over_baseline", "p_baseline", 0.1) | {"judge_accuracy": 0.5, "judge_accuracy_raw": 0.3}
    refined |= {f"peak_{what}{when}": 0.9 for what in ("precision", "recall") for when in ("", "_raw")}
    data = {"source": "built-in", "sha256": "ab" * 32, "n_train": 600, "n_test": 140}
    return {
        **{"profile": "toy", "seed": seed, "revision": "abc", "selected": refined["name"]},
        "data": {"structures": data, "imperfect": data},
        "true_counts": dict.fromkeys(SYSTEMS, 20),
        "gate": {"tested_sha256": "cd" * 32, "reasons": [{"about": "judge", "kept": True, "words": "It is seen."}]},
        "rows": [row("majority", 0.15, ""), row("nearest", 0.5, ""), row("raw", 0.3), refined],
    }


def journal(root: Path, name: str, **about: Any) -> tuple[Journal, Tracker]:
    made = Journal(root, name)
    made.append("begin", {"uuid": made.uuid, "name": name, "tags": {}, **about})
    return made, Tracker(made, name=name)


def finished_run(runs: Path, seed: int) -> None:
    """The journals of a run, as a pipeline run and its evaluation leave them."""
    folder, found = runs / f"run-{seed}", results(seed)
    root, files = folder / "tracking", folder / "files"
    files.mkdir(parents=True)
    store = {"uri": tracking_uri(runs), "artifacts": str(runs / ARTIFACTS), "experiment_id": None}
    whole, _ = journal(root, f"toy {seed}", kept=True, store={**store, "experiment_name": "imitation-refinement"})
    stage, tracker = journal(root, "evaluate", parent=whole.uuid)
    save_figure(accuracy_figure(found["rows"]), files / "accuracy.png")
    write_report(files / "report", found, {"accuracy": files / "accuracy.png"}, about={"run": folder.name})
    (files / "results").write_text(json.dumps(found))
    answers = {"pattern_id": [f"{i:03}" for i in range(140)], "crystal_system": SYSTEMS * 20, "predicted": SYSTEMS * 20}
    pd.DataFrame(answers | {"method": found["selected"]}).to_csv(files / "predictions", index=False)
    for name, suffix in (("results", ".json"), ("report", ".html"), ("predictions", ".csv")):
        tracker.log_artifact(files / name, name=name + suffix)
    tracker.log_artifact(files / "accuracy.png", "figures")
    tell(found, tracker)
    for part in (stage, whole):
        part.append("end", {"status": "FINISHED"})
        part.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, uploaded; the model that one has selected, registered."""
    runs = tmp_path_factory.mktemp("pages") / "runs"
    runs.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "IMITATION_REFINEMENT_"))]:
            monkeypatch.delenv(name)
        for seed in (0, 1):
            finished_run(runs, seed)
        assert upload.sync(runs) == 0
        client, experiment, evaluated = opened(runs)
        digests = {"classifier": "c", "refiner": "r"}
        tags = {f"{part}_sha256": sha for part, sha in digests.items()}
        model = client.create_logged_model(experiment, "vgg-targeted", evaluated, tags)
        client.finalize_logged_model(model.model_id, "READY")
        reasons = (Reason("judge", True, "It is seen."),)
        evidence = registry.Evidence(
            "imitation-refinement", "vgg-targeted", "cd" * 32, reasons, {"accuracy": 0.6}, "# A card", {"seed": "0"}, 0
        )
        data = {"evidence": asdict(evidence), "files": {}, "sha256": digests}
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(runs))
        registry.register(client, evaluated, data, runs)
    return runs


def opened(runs: Path) -> tuple[Any, str, str]:
    """MLflow's client of the store, the experiment, and the evaluation of the run with seed 0."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri(runs))
    experiment = client.get_experiment_by_name("imitation-refinement").experiment_id
    (whole,) = client.search_runs(
        [experiment], "params.seed = '0' and params.profile = 'toy' and params.method IS NULL"
    )
    return client, experiment, child(client, experiment, whole.info.run_id, "evaluate").info.run_id


def child(client: Any, experiment: str, parent: str, name: str) -> Any:
    (found,) = client.search_runs(
        [experiment], f"tags.mlflow.parentRunId = '{parent}' and attributes.run_name = '{name}'"
    )
    return found


@pytest.fixture(scope="module")
def served(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The addresses that ``imitation-refinement ui`` prints; it is ended by Ctrl-C, and leaves no process."""
    port = free_port()
    log = tmp_path_factory.mktemp("ui") / "log.txt"
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "ui", "--runs", str(runs)]
    with log.open("wb") as stream:
        # A shell has its background jobs ignore Ctrl-C.
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    try:
        end = time.monotonic() + START_S
        while "Uvicorn running" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield dict(line.split(": ", 1) for line in log.read_text().splitlines() if line.startswith(("runs", "methods")))
        process.send_signal(signal.SIGINT)
        process.wait(60)
        with socket.socket() as gone:
            assert gone.connect_ex(("127.0.0.1", port)), "its worker has outlived it"
    finally:
        process.kill()
        process.wait()


@pytest.mark.browser
@pytest.mark.skipif(PROGRAM is None, reason=f"no Chromium: none of {', '.join(chromium.NAMES)} is on the path")
def test_pages(runs: Path, served: Mapping[str, str], tmp_path: Path) -> None:
    """Experiment, methods, run, comparison, artifacts, model: what each is to show is there."""
    assert PROGRAM is not None
    client, experiment, evaluated = opened(runs)
    parent = client.get_run(evaluated).data.tags["mlflow.parentRunId"]
    methods = [child(client, experiment, parent, name).info.run_id for name in ("nearest", "vgg-targeted")]
    shots = Path(os.environ.get("SCREENSHOTS") or tmp_path / "screenshots")
    shots.mkdir(parents=True, exist_ok=True)
    base = f"{served['runs'].partition('#')[0]}#/"
    ids = quote(json.dumps(methods))
    seen = (
        ("experiment", served["runs"], ("VGG: IR, targeted 60.0 %", "VGG: IR, targeted 61.0 %", "simple_accuracy")),
        ("methods", served["methods"], ("nearest", "vgg-raw", "judge_accuracy", "0.61")),
        (
            "run",
            f"{base}experiments/{experiment}/runs/{parent}?workflowType=machine_learning",
            ("best simple method, Nearest neighbour", "seed"),
        ),
        (
            "compare",
            f"{base}compare-runs?runs={ids}&experiments={quote(json.dumps([experiment]))}",
            ("Comparing 2 Runs", "Parallel Coordinates Plot", "calibration_error"),
        ),
        (
            "artifacts",
            f"{base}experiments/{experiment}/runs/{evaluated}/artifacts/report.html?workflowType=machine_learning",
            ("report.html", "results.json", "predictions.csv", "figures"),
        ),
        ("model", f"{base}models/imitation-refinement/versions/1", ("A card", "champion")),
    )
    with chromium.tab(PROGRAM, tmp_path / "profile") as tab:
        tab.resize(2400, 1000)
        for name, page, texts in seen:
            tab.go("about:blank")
            tab.go(page)
            for text in texts:
                tab.wait(TEXT.format(json.dumps(text)))
            tab.run("document.fonts.ready.then(() => new Promise(done => setTimeout(done, 300)))")
            tab.picture(shots / f"{name}.png", whole=False)
            end = time.monotonic() + chromium.PATIENCE_S
            while name == "artifacts" and blank(shots / f"{name}.png"):  # the report is in a frame that no script sees
                assert time.monotonic() < end, "MLflow does not show the report"
                tab.picture(shots / f"{name}.png", whole=False)
    assert {path.stem for path in shots.glob("*.png")} >= {name for name, *_ in seen}


def blank(picture: Path) -> bool:
    """Whether there is no ink where MLflow shows an artifact."""
    with Image.open(picture) as image:
        return bool(image.convert("L").crop((700, 250, 1600, 950)).getextrema()[0] > 128)


def test_a_model_names_its_version(runs: Path) -> None:
    """As on a server: the page of the model that training logged links to the registry."""
    client, experiment, _ = opened(runs)
    (model,) = client.search_logged_models([experiment])
    kept = json.loads(model.tags["mlflow.modelVersions"])
    assert kept == [{"name": "imitation-refinement", "version": "1"}]


def test_views_are_kept_once(runs: Path) -> None:
    client, experiment, _ = opened(runs)
    pages.prepare(client, experiment)
    before = client.get_experiment(experiment).tags
    assert before["mlflow.experimentKind"] == "custom_model_development"
    kept = json.loads(before[pages.VIEW_TAG + "methods"])
    assert kept["name"] == "Methods" and "metrics.`accuracy`" in json.loads(kept["state"])["selectedColumns"]
    pages.prepare(client, experiment)
    assert client.get_experiment(experiment).tags == before
    client.set_experiment_tag(experiment, pages.VIEW_TAG + "methods", "of another version")
    pages.prepare(client, experiment)
    assert json.loads(client.get_experiment(experiment).tags[pages.VIEW_TAG + "methods"])["state"] == kept["state"]


def test_the_view_of_methods_shows_methods_alone(runs: Path) -> None:
    client, experiment, _ = opened(runs)
    found = client.search_runs([experiment], pages.METHODS.filter, order_by=[f"{pages.METHODS.order_by} DESC"])
    names = [run.info.run_name for run in found]
    assert (
        sorted(names) == sorted(["majority", "nearest", "vgg-raw", "vgg-targeted"] * 2) and names[0] == "vgg-targeted"
    )
    columns = {column for run in found for kind in ("metrics", "params", "tags") for column in columns_of(run, kind)}
    assert set(pages.METHODS.columns) <= columns


def columns_of(run: Any, kind: str) -> list[str]:
    return [f"{kind}.`{name}`" for name in getattr(run.data, kind)]


def test_the_view_of_runs_has_its_columns(runs: Path) -> None:
    client, _, evaluated = opened(runs)
    whole = client.get_run(client.get_run(evaluated).data.tags["mlflow.parentRunId"])
    assert set(pages.RUNS.columns) <= {*columns_of(whole, "metrics"), *columns_of(whole, "params")}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A server whose experiment is 7; what was asked of it."""
    asked: list[str] = []

    def open_store(uri: str) -> tuple[Any, str]:
        asked.append(uri)
        experiment = SimpleNamespace(tags={})
        return SimpleNamespace(get_experiment=lambda _: experiment, set_experiment_tag=lambda *_: None), "7"

    monkeypatch.setattr(ui, "open_store", open_store)
    return lambda: asked


def test_runs_on_a_server_are_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.example:5000/")
    main(["ui", "--runs", str(tmp_path)])
    said = capsys.readouterr().out
    assert "runs: http://mlflow.example:5000/#/experiments/7/runs?workflowType=machine_learning" in said
    assert "secret" not in said and server() == ["http://me:secret@mlflow.example:5000/"]
    assert ui.hint(tmp_path) == "http://mlflow.example:5000/"


def test_runs_on_a_server_are_where_they_were_tracked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], server: Callable[[], list[str]]
) -> None:
    for name in ("old", "new"):
        made, _ = journal(tmp_path / name / "tracking", name, store={"uri": f"http://{name}.example"})
        made.close()
        time.sleep(0.002)
    main(["ui", "--runs", str(tmp_path)])
    assert "http://new.example/#/experiments/7/runs" in capsys.readouterr().out and server() == ["http://new.example"]


def test_hint_after_a_run_here(tmp_path: Path) -> None:
    assert ui.hint(Path("runs")) == "make ui" and ui.hint(tmp_path) == f"make ui RUNS={tmp_path}"
    assert not (tmp_path / DATABASE).exists() and ui.tracked_in(tmp_path / "none") == ""
