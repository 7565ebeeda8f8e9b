"""Each stage alone in its image, as a user who is not in it, on files: `make test-docker`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from imitation_refinement import __version__
from imitation_refinement.data.patterns import write_xy
from tests.shared.answer.conftest import measured, small_model

pytestmark = pytest.mark.docker

USER = 12345  # nobody that an image knows
TRAINED = "--optimiser-epochs 1 --optimiser-batch-size 32"
# What each stage does with the files of those before it, relative to the mounted folder, and what it makes.
STAGES = {
    "collect-structures": "--collected-structures structures.parquet --collected-patterns patterns.parquet "
    "--rejected rejected.csv --n-structures 105 --n-patterns 105",
    "simulate": "--structures structures.parquet --patterns patterns.parquet --ideal shard.parquet "
    "--imperfect measured.parquet --library library.parquet --rejected unsimulated.csv --grid-points 256",
    "preprocess": "--ideal shard.parquet --imperfect measured.parquet --ideal-dataset ideal.parquet "
    "--imperfect-dataset imperfect.parquet --manifest manifest.csv --rejected rejected_patterns.csv",
    "pretrain-classifier": "--ideal-dataset ideal.parquet --classifier vgg.safetensors --network-depths 1 1 "
    f"--network-widths 8 8 --network-stem-stride 4 --network-embedding 8 --network-norm group {TRAINED}",
    "train-refiner": "--classifier vgg.safetensors --imperfect-dataset imperfect.parquet "
    f"--refiner vgg-targeted.safetensors --network-widths 8 8 {TRAINED}",
    "adapt-classifier": "--method finetuned --classifier vgg.safetensors --imperfect-dataset imperfect.parquet "
    f"--adapted vgg-finetuned.safetensors {TRAINED}",
    "baselines": "--imperfect-dataset imperfect.parquet --ideal-dataset ideal.parquet --library library.parquet "
    "--dwt dwt.parquet --answers answers.parquet --search search.csv",
    "evaluate": "--classifiers vgg.safetensors vgg-finetuned.safetensors --refiners vgg-targeted.safetensors "
    "--dwt dwt.parquet --answers answers.parquet --ideal-dataset ideal.parquet --imperfect-dataset imperfect.parquet "
    "--results results.json --table results.txt --report report.html --figures figures --predictions predictions.csv "
    "--resamples 100 --examples 1 --embedded 50",
    "identify": "--patterns salt.xy --model model --answers identified.parquet --rejected unidentified.csv "
    "--wavelength 1.5406",
}
MADE = {
    "collect-structures": ("structures.parquet", "patterns.parquet", "rejected.csv"),
    "simulate": ("shard.parquet", "measured.parquet", "library.parquet", "unsimulated.csv"),
    "preprocess": ("ideal.parquet", "imperfect.parquet", "manifest.csv", "rejected_patterns.csv"),
    "pretrain-classifier": ("vgg.safetensors",),
    "train-refiner": ("vgg-targeted.safetensors",),
    "adapt-classifier": ("vgg-finetuned.safetensors",),
    "baselines": ("dwt.parquet", "answers.parquet", "search.csv"),
    "evaluate": ("results.json", "results.txt", "report.html", "figures", "predictions.csv"),
    "identify": ("identified.parquet", "unidentified.csv"),
}
Finished = subprocess.CompletedProcess[str]


def image(stage: str) -> str:
    return f"imitation-refinement/{stage}-python:{__version__}"


def docker(*words: str) -> Finished:
    return subprocess.run(["docker", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def container(stage: str, data: Path, *words: str) -> tuple[str, ...]:
    """What a stage's container on the files of a folder is, to ``docker run`` and ``docker create``."""
    return ("--rm", "--init", "-u", f"{USER}:{USER}", "-v", f"{data}:/data", image(stage), *words)


def alone(stage: str, data: Path, *words: str, options: tuple[str, ...] = ()) -> Finished:
    """The line of docs/docker.md: one stage in Docker on the files of a folder."""
    return docker("run", *options, *container(stage, data, *words))


def alone_and_quoted(stage: str, data: Path, *words: str) -> Finished:
    """The same in two steps, the second of which says what the stage says, without the warnings of ``docker run``."""
    created = docker("create", *container(stage, data, *words))
    assert created.returncode == 0, created.stderr
    return docker("start", "--attach", created.stdout.strip())


def outside(stage: str, data: Path, *words: str) -> Finished:
    command = [sys.executable, "-m", f"components.{stage.replace('-', '_')}", *words]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=data)


def untimed(text: str) -> str:
    """Messages without how long each step took."""
    return re.sub(r"done in .*", "done", text)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of that user, with a pattern and a model, which no stage before the one that asks it makes."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "model").mkdir()
    small_model(folder / "model")
    write_xy(folder / "salt.xy", *measured("NaCl"))
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    os.chown(folder, USER, USER)
    return folder


@pytest.fixture(scope="module")
def finished(data: Path) -> dict[str, Finished]:
    """What became of all stages, one after the other."""
    return {stage: alone(stage, data, *words.split(), options=("--network=none",)) for stage, words in STAGES.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_on_files(stage: str, finished: dict[str, Finished], data: Path) -> None:
    process = finished[stage]
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]
    for name in MADE[stage]:
        made = data / name
        assert (made.stat().st_uid, made.stat().st_gid) == (USER, USER), name
        assert made.stat().st_size > 0, name
    assert "Traceback" not in process.stderr


def test_the_results_are_those_of_a_whole_run(finished: dict[str, Finished], data: Path) -> None:
    rows = json.loads((data / "results.json").read_text())["rows"]
    assert {row["method"] for row in rows} >= {"ir", "dwt", "majority", "nearest"}


@pytest.mark.parametrize("stage", STAGES)
def test_help_is_that_outside_docker(stage: str, data: Path) -> None:
    process, other = alone(stage, data, "--help"), outside(stage, data, "--help")
    assert (process.returncode, process.stdout) == (0, other.stdout), process.stderr
    assert process.stdout.startswith("usage: python -m components.")


@pytest.mark.parametrize("stage", STAGES)
def test_bad_input_ends_as_outside_docker(stage: str, finished: dict[str, Finished], data: Path) -> None:
    """A file that is not there; and an option that is not one."""
    words = STAGES[stage].split()
    if stage == "collect-structures":
        words += ["--structures", "nowhere.parquet"]
    else:
        words[next(i for i, word in enumerate(words) if "." in word)] = "nowhere.parquet"  # the first file
    process, other = alone_and_quoted(stage, data, *words), outside(stage, data, *words)
    assert process.returncode == other.returncode == 2, process.stderr
    assert untimed(process.stderr) == untimed(other.stderr)
    assert process.stderr.splitlines()[-1].startswith("error: nowhere.parquet: ")
    process, other = alone_and_quoted(stage, data, "--nonsense"), outside(stage, data, "--nonsense")
    assert process.returncode == other.returncode == 2 and process.stderr == other.stderr


def test_a_stage_ends_when_it_is_told_so_at_once(data: Path) -> None:
    """Without ``--init`` the first process of a container is deaf to a signal that it does not yet listen to."""
    name = f"told-at-once-{os.getpid()}"
    words = ("--name", name, *container("collect-structures", data, *STAGES["collect-structures"].split()))
    process = subprocess.Popen(["docker", "run", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while docker("kill", "--signal", "TERM", name).returncode and process.poll() is None:
        time.sleep(0.01)
    asked = time.monotonic()
    assert process.wait(60) == 143 and time.monotonic() - asked < 5


@pytest.mark.parametrize("stage", [*STAGES, "web"])
def test_what_an_image_is(stage: str) -> None:
    (found,) = json.loads(docker("image", "inspect", image(stage)).stdout)
    config = found["Config"]
    assert config["User"] == "10001:10001"
    assert "PYTHONDONTWRITEBYTECODE=1" in config["Env"]  # what a limit on file sizes cuts off is taken for whole
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["version"] == __version__ and labels["licenses"] == "Apache-2.0" and len(labels["revision"]) >= 12
    assert labels["title"] == f"imitation-refinement {stage}" and labels["description"]
    assert any(tag.endswith(f":{labels['revision']}") for tag in found["RepoTags"])
    assert not any(tag.endswith(":latest") for tag in found["RepoTags"])
    limit = {"simulate": 630e6}.get(stage, 1.6e9)  # 12 MB of it the model that comes with the code, a layer of all
    assert found["Size"] < limit


# What must not be in any image, and packages that a stage does not need.
FOREIGN = {
    "collect-structures": ("torch",),
    "simulate": ("torch", "pymatgen", "sklearn"),
    "preprocess": ("torch", "pymatgen"),
    "pretrain-classifier": ("pymatgen", "numba", "nvidia"),
    "train-refiner": ("pymatgen", "numba", "nvidia"),
    "adapt-classifier": ("pymatgen", "numba", "nvidia"),
    "baselines": ("torch", "pymatgen"),
    "evaluate": ("pymatgen", "numba", "nvidia"),
    "identify": ("pymatgen", "sklearn", "nvidia"),
    "web": ("pymatgen", "sklearn", "nvidia"),
}
LOOK = """
import importlib.util, json, os, shutil, sys
caches = [os.environ["HOME"]] + [os.environ["NUMBA_CACHE_DIR"]] * bool(importlib.util.find_spec("numba"))
print(json.dumps({
    "packages": [name for name in sys.argv[2:] if importlib.util.find_spec(name)],
    "missing": [name for name in sys.argv[1].split() if not importlib.util.find_spec(name)],
    "tools": [name for name in ("gcc", "cc", "make", "ld", "git") if shutil.which(name)],
    "files": [path for path in ("/run/secrets/pip_conf", "/tools/wheels", "/root/.cache") if os.path.exists(path)],
    "settings": [name for name in os.environ if name.startswith(("PIP_", "MLFLOW_"))],
    "unwritable": [path for path in caches if not os.access(path, os.W_OK)],
}))
"""


@pytest.mark.parametrize("stage", FOREIGN)
def test_what_is_in_an_image(stage: str) -> None:
    needed = "kubeflow torch" if stage in ("pretrain-classifier", "train-refiner", "adapt-classifier") else ""
    words = ("python", "-c", LOOK, needed, *FOREIGN[stage], "pip", "pytest")
    process = docker("run", "--rm", "-u", f"{USER}:{USER}", "--entrypoint", words[0], image(stage), *words[1:])
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == {
        "packages": [],
        "missing": [],
        "tools": [],
        "files": [],
        "settings": [],
        "unwritable": [],
    }


@pytest.mark.parametrize("stage", ["collect-structures", "simulate", "pretrain-classifier", "evaluate"])
def test_a_stage_needs_no_more_than_its_data_and_tmp(stage: str, finished: dict[str, Finished], data: Path) -> None:
    """As a cluster's policy may have it: a read-only root file system, no capability, nobody's user."""
    options = ("--network=none", "--read-only", "--tmpfs", "/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    assert finished[stage].returncode == 0
    process = alone(stage, data, *STAGES[stage].split(), options=options)
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("stage", FOREIGN)
def test_an_image_lists_what_is_in_it(stage: str) -> None:
    process = docker("run", "--rm", "--entrypoint", "cat", image(stage), "/opt/venv/sbom.cdx.json")
    assert process.returncode == 0, process.stderr
    bill = json.loads(process.stdout)
    found = {one["name"].lower(): one["version"] for one in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX" and found["imitation-refinement"] == __version__
    assert {"numpy", "pyarrow", "pydantic"} <= set(found) and not set(FOREIGN[stage]) & set(found)


@pytest.mark.parametrize("stage", FOREIGN)
def test_no_layer_says_what_the_build_was_told(stage: str) -> None:
    """The pip.conf may hold an index's password."""
    settings = os.environ.get("PIP_CONF")
    told = re.findall(r"https?://\S+", Path(settings).read_text()) if settings else []
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image(stage))
    assert history.returncode == 0 and history.stdout
    inspected = docker("image", "inspect", image(stage)).stdout
    assert [address for address in told if address in history.stdout + inspected] == []


class Asked(BaseHTTPRequestHandler):
    """Notes who asks, and refuses."""

    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Asked) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("stage", ["simulate", "train-refiner"])
def test_the_tracking_server_and_its_credentials_come_by_environment(
    stage: str, finished: dict[str, Finished], server: ThreadingHTTPServer, data: Path
) -> None:
    Asked.seen.clear()
    settings = {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.server_port}",
        "MLFLOW_TRACKING_USERNAME": "ann",
        "MLFLOW_TRACKING_PASSWORD": "secret",
    }
    options = ["--network=host", *(word for k, v in settings.items() for word in ("-e", f"{k}={v}"))]
    process = alone(stage, data, *STAGES[stage].split(), options=tuple(options))
    assert process.returncode != 0 and "403" in process.stderr
    assert Asked.seen and set(Asked.seen) == {"Basic " + b64encode(b"ann:secret").decode()}
