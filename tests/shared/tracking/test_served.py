"""A model behind MLflow's scoring server: what is answered, what is refused and how, from a store and from a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowException
from mlflow.pyfunc import scoring_server

from imitation_refinement.answer.domain import Flag, reason
from imitation_refinement.answer.identify import identify
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.run_model import answer_pattern, load_run, refine_pattern
from imitation_refinement.data.patterns import Pattern, write_xy
from imitation_refinement.files import digest
from imitation_refinement.running.launch import environment
from imitation_refinement.tracking import served
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from pipelines.cli import main
from tests.servers import Process, free_port, started, wait_for

NAME = "imitation-refinement"
ANGLES = np.arange(10, 80, 0.05).round(2)


def counts(places: tuple[float, ...] = (20, 33, 47, 61), angles: np.ndarray = ANGLES) -> np.ndarray:
    lines = sum(np.exp(-(((angles - place) / 0.2) ** 2)) for place in places)
    return np.random.default_rng(0).poisson(30 + 1000 * np.asarray(lines, float) * np.ones(len(angles)))


def row(**other: Any) -> dict[str, Any]:
    return {"two_theta": ANGLES.tolist(), "intensity": counts().tolist(), "wavelength": 1.5406} | other


def run_model(toy_run: Path, output: Path) -> Path:
    served.main(["--run", str(toy_run), "--output", str(output)])
    return output


@pytest.fixture(scope="module")
def folder(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_model(toy_run, tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Any:
    return mlflow.pyfunc.load_model(str(folder))


def ask(loaded: Any, body: Any, kind: str = "application/json") -> tuple[int, Any]:
    """Status and answer, as MLflow's server gives them."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        found = scoring_server.invocations(data, kind, loaded, loaded.metadata.get_input_schema())
    except MlflowException as error:
        return error.get_http_status_code(), json.loads(error.serialize_as_json())["message"]
    return found.status, json.loads(found.response)["predictions"] if found.status == 200 else found.response


def test_answers_are_those_of_the_run(toy_run: Path, loaded: Any) -> None:
    short = np.arange(15, 70, 0.2).round(2)
    other = {"two_theta": short.tolist(), "intensity": counts(angles=short).tolist(), "wavelength": 1.54}
    status, found = ask(loaded, {"dataframe_records": [row(), other]})
    assert status == 200 and len(found) == 2
    model = load_run(toy_run)
    for said, (angles, wavelength) in zip(found, ((ANGLES, 1.5406), (short, 1.54)), strict=True):
        pattern = Pattern("p", angles, counts(angles=angles).astype(float), wavelength)
        expected = refine_pattern(model, pattern)
        np.testing.assert_allclose(said["intensity"], expected.intensity, rtol=1e-6, atol=1e-6)
        told = np.array([said[f"p_{system}"] for system in CRYSTAL_SYSTEMS])
        np.testing.assert_allclose(told, expected.probabilities, atol=1e-6)
        order = np.argsort(-expected.probabilities)
        assert [said["crystal_system"], said["second_system"]] == [str(CRYSTAL_SYSTEMS[k]) for k in order[:2]]
        assert [said["probability"], said["second_probability"]] == pytest.approx(told[order[:2]].tolist())
        checks = answer_pattern(model, pattern)[1]
        assert (said["flag"], said["reason"]) == (Flag.of(checks), reason(checks))


def test_every_form_that_mlflow_takes_gives_the_same(loaded: Any) -> None:
    one = row()
    parquet = BytesIO()
    pd.DataFrame([one]).to_parquet(parquet)
    split = {"columns": list(one), "data": [list(one.values())]}
    bodies = ({"dataframe_records": [one]}, {"dataframe_split": split}, {"inputs": [one]}, {"instances": [one]})
    answers = [ask(loaded, body) for body in bodies]
    answers.append(ask(loaded, parquet.getvalue(), "application/vnd.apache.parquet"))
    assert answers[0][0] == 200 and all(answer == answers[0] for answer in answers)


def changed(field: str, point: int, value: Any) -> dict[str, Any]:
    values = row()[field]
    values[point] = value
    return row(**{field: values})


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (row(wavelength=None), "wavelength is missing. Give it in Å"),
        ({k: v for k, v in row().items() if k != "wavelength"}, "wavelength is missing. Give it in Å"),
        (row(wavelength=float("nan")), "wavelength is missing. Give it in Å"),
        (row(wavelength="CuKa1"), 'wavelength is "CuKa1". Give a number in Å'),
        (row(wavelength=True), "wavelength is true. Give a number in Å"),
        (row(wavelength=float("inf")), "wavelength is Infinity. Give a number in Å"),
        (row(wavelength=15.4), "has a wavelength of 15.4 Å. Give one from"),
        (changed("intensity", 5, float("nan")), "intensity is no finite number at 1 points, first point 6. Remove"),
        (changed("two_theta", 5, float("inf")), "two_theta is no finite number at 1 points, first point 6. Remove"),
        (changed("intensity", 6, None), "intensity is null at point 7. Give intensities as a list of numbers"),
        (changed("intensity", 6, "7"), 'intensity is "7" at point 7. Give intensities as a list of numbers'),
        (changed("intensity", 6, True), "intensity is true at point 7. Give intensities as a list of numbers"),
        (changed("intensity", 6, [1]), "intensity is a list at point 7. Give intensities as a list of numbers"),
        (changed("intensity", 6, 10**400), "at point 7. Give intensities as a list of numbers"),
        (changed("intensity", 6, -1), "1 of 1400 intensities are negative, the lowest -1. Give the raw counts"),
        (row(intensity=counts()[1:].tolist()), "has 1400 angles but 1399 intensities. Give one intensity an angle"),
        (row(two_theta=ANGLES[::-1].tolist()), "angles fall, from 79.95 to 10. Sort the points by angle"),
        (changed("two_theta", 9, 3.0), "angles do not rise at 1 points, first point 10: 3° after 10.4°. Sort the"),
        (changed("two_theta", 9, 10.4), "angles stand twice at 1 points, first point 10: 10.4° after 10.4°. Sort"),
        (row(two_theta=(ANGLES + 150).tolist()), "angles run from 160 to 229.95, not within 0 to 180°"),
        (row(two_theta=[], intensity=[]), "has 0 points. Give at least 64"),
        (row(two_theta=5.0), "two_theta is 5.0. Give angles in degrees as a list of numbers"),
        (row(intensity="abc" * 99), 'intensity is "abcabc'),
        (row(intensity={"a": 1}), 'intensity is {"a": 1}. Give intensities as a list'),
        (row(intensity=[0] * len(ANGLES)), "all intensities are zero. Give a measured pattern"),
        (row(intensity=[0] * 300_000), "intensity has 300000 points. Send at most 200000"),
        ({}, "two_theta is missing. Give angles in degrees as a list"),
    ],
)
def test_a_row_that_can_not_be_used_is_named_with_its_remedy(loaded: Any, bad: dict[str, Any], said: str) -> None:
    status, message = ask(loaded, {"dataframe_records": [row(), bad]})
    assert status == 400
    assert message.startswith("row 2: ") and said in message and "\n" not in message and len(message) < 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"dataframe_records": []}, 'holds no pattern. Send {"dataframe_records": [{"two_theta": […]'),
        ({"dataframe_records": [1, 2]}, "holds no pattern. Send"),
        ({"dataframe_records": [{"angle": [1]}]}, "holds no pattern. Send"),
        ({"inputs": [[1, 2], [3, 4]]}, "holds no pattern. Send"),
        ({"inputs": row()}, "holds 1400 patterns. Send at most 1000, a row each"),
        ([], "The input must be a JSON dictionary"),
        ({}, "The input must be a JSON dictionary"),
        (b"nonsense", "Ensure that input is a valid JSON"),
        (b"\xff\xfe\x00", "Ensure that input is a valid JSON"),
    ],
)
def test_requests_without_a_pattern(loaded: Any, body: Any, said: str) -> None:
    status, message = ask(loaded, body)
    assert (status == 400 and said in message) or body == {}


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("text/plain", b"x", 415),
        ("application/json; charset=latin-1", b"{}", 415),
        ("text/csv", b'two_theta,intensity,wavelength\n"[1,2]","[1,2]",1.5', 400),
        ("application/vnd.apache.parquet", b"PAR1", 400),
    ],
)
def test_wrong_content_types(loaded: Any, kind: str, data: bytes, expected: int) -> None:
    assert ask(loaded, data, kind)[0] == expected


def test_a_pattern_outside_of_what_is_known_is_said_to_be(loaded: Any) -> None:
    narrow = {"two_theta": np.linspace(30, 30.001, 500).tolist(), "intensity": [9, 7] * 250, "wavelength": 1.5406}
    ((said,), (noise,)) = (
        ask(loaded, {"inputs": [given]})[1]
        for given in (narrow, row(intensity=np.random.default_rng(1).poisson(50, len(ANGLES)).tolist()))
    )
    assert said["intensity"] is said["crystal_system"] is said["probability"] is None
    assert [said[f"p_{system}"] for system in CRYSTAL_SYSTEMS] == pytest.approx([1 / 7] * 7)
    assert said["flag"] == "outside" and "covers 0% of what networks have learnt" in said["reason"]
    assert noise["flag"] == "outside" and "lines of 7 times its noise" in noise["reason"]
    assert noise["crystal_system"] in CRYSTAL_SYSTEMS and len(noise["intensity"]) == len(ANGLES)


def test_an_answer_that_is_no_number_is_never_given(toy_run: Path) -> None:
    model = served.Served()
    model.model = replace(load_run(toy_run), temperature=float("nan"))
    with pytest.raises(served.Refusal, match="an error of this program") as refused:
        model.predict(None, pd.DataFrame([row()]))
    assert refused.value.get_http_status_code() == 500


def test_zero_errors_are_kept_on_demand(toy_run: Path) -> None:
    model, run = served.Served(), load_run(toy_run)
    assert run.refiner is not None
    moving = run.refiner.config.model_copy(update={"zero_error": 2.0}).build()
    moving.load_state_dict(run.refiner.state_dict())
    model.model = replace(run, refiner=moving.eval())
    frame = pd.DataFrame([row()])
    moved, kept = (model.predict(None, frame, {"keep_angles": keep}).iloc[0] for keep in (False, True))
    assert (moved["moved"], kept["moved"]) == (pytest.approx(-2 * run.grid.step), 0)
    expected = refine_pattern(run, Pattern("p", ANGLES, counts().astype(float), 1.5406))
    np.testing.assert_allclose(kept["intensity"], expected.intensity, rtol=1e-6)
    assert not np.allclose(moved["intensity"], kept["intensity"], rtol=0.05)


def test_the_model_that_comes_along(tmp_path: Path) -> None:
    served.save(None, tmp_path / "model", card="# About")
    assert (tmp_path / "model" / "README.md").read_text() == "# About"
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    status, (said,) = ask(loaded, {"inputs": [row()]})
    model, pattern = Model.read(), Pattern("p", ANGLES, counts().astype(float), 1.5406)
    told = identify(model, pattern)
    assert status == 200 and (said["flag"], said["reason"]) == (told.flag, told.reason)
    np.testing.assert_allclose([said[f"p_{s}"] for s in CRYSTAL_SYSTEMS], told.probabilities, rtol=1e-4)
    refined, kept = model.refine(pattern, told.zero_error), loaded.predict([row()], {"keep_angles": True}).iloc[0]
    np.testing.assert_allclose(said["intensity"], refined.intensity, rtol=1e-4, atol=1e-3)
    assert said["moved"] == pytest.approx(refined.moved, abs=1e-4) and refined.moved != 0 and kept["moved"] == 0


def test_what_can_not_be_saved(toy_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--model", str(tmp_path)], "is no record of a model"),
        (["--run", str(tmp_path)], "is no finished run"),
        (["--run", str(toy_run), "--name", "x"], "has no refiner x"),
    ):
        with pytest.raises(SystemExit) as ended:
            served.main([*words, "--output", str(tmp_path / "out")])
        assert ended.value.code == 2 and said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        served.main(["--run", str(toy_run), "--output", str(tmp_path)])
    assert "is there already" in capsys.readouterr().err


@dataclass
class Store:
    """A store with a run, its model, and that as the champion, which MLflow's server is started with meanwhile."""

    uri: str
    client: Any
    run_id: str
    model_id: str
    spec: dict[str, Any]
    address: str
    server: Process


@pytest.fixture(scope="module")
def store(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    place = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{place / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, uri)
    experiment = client.create_experiment("e", artifact_location=(place / "mlartifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "a run", "report.html")
    files = {"classifier": "densenet.safetensors", "refiner": "densenet-targeted.safetensors"}
    spec = {"name": "densenet-targeted", "files": files, "card": "# What it is", "tags": {"seed": 3}}
    spec["metrics"] = {"accuracy": 0.75}
    model_id = served.log(client, run_id, spec, toy_run / "models")
    client.create_registered_model(NAME)
    with environment({"MLFLOW_TRACKING_URI": uri}):  # MLflow looks the model up there
        version = client.create_model_version(NAME, f"models:/{model_id}", run_id, model_id=model_id)
    client.set_registered_model_alias(NAME, "champion", version.version)
    port = free_port()
    words = ["models", "serve", "-m", f"models:/{NAME}@champion", "--env-manager", "local", "--port", str(port)]
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow looks for uvicorn there
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PATH": here}
    with started([sys.executable, "-m", "mlflow", *words], place / "log", env) as server:
        yield Store(uri, client, run_id, model_id, spec, f"http://127.0.0.1:{port}", server)


def test_a_model_is_logged_once_with_all_that_is_known_of_it(store: Store, toy_run: Path) -> None:
    assert served.log(store.client, store.run_id, store.spec, toy_run / "models") == store.model_id
    (model,) = store.client.search_logged_models([store.client.get_run(store.run_id).info.experiment_id])
    assert (model.name, model.source_run_id, str(model.status)) == ("densenet-targeted", store.run_id, "READY")
    files = {part: digest(toy_run / "models" / name) for part, name in store.spec["files"].items()}
    assert model.tags == {
        "seed": "3",
        "mlflow.note.content": "# What it is",
        **{f"{part}_sha256": value for part, value in files.items()},
    }
    assert [(metric.key, metric.value) for metric in model.metrics] == [("accuracy", 0.75)]
    assert [output.model_id for output in store.client.get_run(store.run_id).outputs.model_outputs] == [store.model_id]
    assert mlflow.active_run() is None and "MLFLOW_TRACKING_URI" not in os.environ
    with served.fetched(f"models:/{store.model_id}", store.uri) as folder:
        entry = mlflow.models.Model.load(str(folder.parents[1]))
    assert (entry.model_id, entry.run_id) == (store.model_id, store.run_id)
    assert entry.signature.inputs.input_names() == ["two_theta", "intensity", "wavelength"]
    assert entry.signature.outputs.input_names()[:2] == ["intensity", "moved"]
    assert len(json.dumps(served.example(load_run(toy_run)))) < 10_000


def test_a_classifier_alone_with_a_temperature(store: Store, toy_run: Path, tmp_path: Path) -> None:
    (tmp_path / "about.json").write_text('{"temperature": 2.5}')
    (tmp_path / "c.safetensors").write_bytes((toy_run / "models" / "vgg.safetensors").read_bytes())
    spec = {"name": "vgg", "files": {"classifier": "c.safetensors", "metadata": "about.json"}}
    run_id = store.client.create_run(store.client.get_run(store.run_id).info.experiment_id).info.run_id
    served.log(store.client, run_id, spec, tmp_path)
    with served.fetched(f"runs:/{run_id}/vgg", store.uri) as folder:
        model = served.read(folder)
    assert isinstance(model, served.RunModel) and model.temperature == 2.5 and model.refiner is None
    assert served.columns(model)[0] == "crystal_system"


@pytest.mark.parametrize("form", ["models:/{name}@champion", "models:/{name}/1", "runs:/{run}/densenet-targeted"])
def test_refine_takes_a_model_of_mlflow(
    store: Store, toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    write_xy(tmp_path / "a.xy", ANGLES, counts(), ["wavelength 1.5406 Å"])
    uri = form.format(name=NAME, run=store.run_id)
    main(["refine", str(tmp_path / "a.xy"), "--output", str(tmp_path / "out"), "--model", uri])
    (written,) = pq.read_table(tmp_path / "out" / "refined.parquet").to_pylist()
    expected = refine_pattern(
        load_run(toy_run, "densenet-targeted"), Pattern("a", ANGLES, counts().astype(float), 1.5406)
    )
    np.testing.assert_allclose(written["intensity"], expected.intensity, rtol=1e-6)


def test_the_store_beside_the_runs_is_taken_without_another(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of it finds the model beside itself, not where that was."""
    runs = tmp_path / "runs"
    shutil.copytree(Path(store.uri.removeprefix("sqlite:///")).parent, runs)
    write_xy(tmp_path / "a.xy", ANGLES, counts(), ["wavelength 1.5406 Å"])
    monkeypatch.chdir(tmp_path)
    main(["refine", "a.xy", "--output", "out", "--model", f"models:/{NAME}@champion"])
    assert (tmp_path / "out" / "a.xy").is_file()
    uri = f"sqlite:///{runs / 'mlflow.db'}"
    location = mlflow.MlflowClient(uri, uri).get_logged_model(store.model_id).artifact_location
    assert location.startswith((runs / "mlartifacts").as_uri() + "/")


def test_models_that_are_not_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store.client.log_text(store.run_id, "x", "text/a.txt")
    for tracking_uri, model, said in (
        (store.uri, f"models:/{NAME}@best", r"alias best not found). Known there by an alias: models:/"),
        (store.uri, "models:/other@champion", "name=other not found). Known there by an alias: models:/"),
        (store.uri, f"runs:/{store.run_id}/nothing", "can't be taken from"),
        (store.uri, f"runs:/{store.run_id}/text", "is no model of this program."),
        (store.uri, "models:/", "can't be taken from"),
        (f"sqlite:///{tmp_path}/none.db", f"models:/{NAME}@champion", "there is no such file"),
        ("http://me:secret@127.0.0.1:9", f"models:/{NAME}@champion", "can't be used"),
        ("", f"models:/{NAME}@champion", "MLFLOW_TRACKING_URI names no store, and no runs/ is here. Set it"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
        with pytest.raises(SystemExit) as ended:
            main(["refine", "a.xy", "--output", "out", "--model", model])
        err = capsys.readouterr().err
        assert ended.value.code == 2 and said in err and "Traceback" not in err and "secret" not in err
    assert not (tmp_path / "none.db").exists()


LIGHT = """
import sys
from pathlib import Path
from imitation_refinement.answer.run_model import write_run_model
from imitation_refinement.tracking import served
models, place = Path(sys.argv[1]), Path(sys.argv[2])
write_run_model(place / "m", "x", [models / "densenet.safetensors"], models / "densenet-targeted.safetensors")
served.save(place / "m", place / "out")
assert not {"kfp", "pymatgen", "numba", "matplotlib", "gemmi", "sklearn"} & set(sys.modules), "to log a model"
import mlflow, pandas as pd
loaded = mlflow.pyfunc.load_model(str(place / "out"))
said = loaded.predict(pd.DataFrame([served.example(served.read(place / "m"))]))
assert len(said["intensity"][0]) > 64
assert not {"kfp", "pymatgen"} & set(sys.modules), "to answer"
"""


def test_loads_without_kubeflow_and_pymatgen_and_unpickles_nothing(toy_run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIGHT, str(toy_run / "models"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = sorted(
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*.*")
        if path.suffix != ".pyc"
    )
    assert [name for name in written if name.startswith("artifacts")] == [
        "artifacts/model/classifier-1.safetensors",
        "artifacts/model/refiner.safetensors",
        "artifacts/model/run_model.json",
    ]
    assert {Path(name).suffix for name in written} == {".safetensors", ".json", ".py", ".yaml", ".txt"}
    requirements = (tmp_path / "out" / "requirements.txt").read_text()
    assert f"imitation-refinement[identify]=={served.__version__}" in requirements and "kfp" not in requirements


def test_mlflow_serves_the_champion(store: Store) -> None:
    wait_for(lambda: store.server.answers(f"{store.address}/ping"))
    status, said = posted(store.address, {"dataframe_records": [row()]})
    assert status == 200 and len(said["predictions"][0]["intensity"]) == len(ANGLES)
    status, said = posted(store.address, {"dataframe_records": [row(), row(wavelength=None)]})
    assert (status, said["message"][:29]) == (400, "row 2: wavelength is missing.")


def posted(address: str, body: Any) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
