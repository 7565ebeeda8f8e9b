"""The page in its image: as a user who is not in it, on a file system that can't be written to, behind a token."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from imitation_refinement import __version__
from imitation_refinement.data.patterns import write_xy
from tests.shared.answer.conftest import measured
from tests.web.conftest import model_folder  # noqa: F401

pytestmark = pytest.mark.docker

IMAGE = f"imitation-refinement/web-python:{__version__}"
TOKEN = "0123456789abcdef"
USER = 12345


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def page(model_folder: Path) -> Iterator[tuple[str, str]]:  # noqa: F811
    """Its address, and the container's id."""
    for path in (model_folder, *model_folder.parents[:3]):
        path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = str(found.getsockname()[1])
    options = ["--network=host", "--read-only", "--tmpfs", "/tmp", "-u", f"{USER}:{USER}"]
    options += ["-e", f"IMITATION_REFINEMENT_WEB_TOKEN={TOKEN}", "-v", f"{model_folder}:/model:ro"]
    started = docker("run", "-d", *options, IMAGE, "--model", "/model", "--port", port, "--workers", "1")
    assert started.returncode == 0, started.stderr
    identity = started.stdout.strip()
    try:
        end = time.monotonic() + 600
        while "The page: " not in (said := docker("logs", identity)).stderr:
            running = docker("inspect", "--format", "{{.State.Running}}", identity).stdout.strip() == "true"
            assert running and time.monotonic() < end, said.stdout + said.stderr
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/", identity
    finally:
        docker("rm", "--force", identity)


def test_a_pattern_is_answered(page: tuple[str, str], tmp_path: Path) -> None:
    address, _ = page
    write_xy(tmp_path / "NaCl.xy", *measured("NaCl"))
    headers = {"Content-Type": "application/octet-stream"}
    asked = {"params": {"name": "NaCl.xy", "wavelength": "CuKa1"}, "data": (tmp_path / "NaCl.xy").read_bytes()}
    refused = requests.post(f"{address}api/identify", headers=headers, **asked)  # type: ignore[arg-type]
    assert refused.status_code == 401
    headers["Authorization"] = f"Bearer {TOKEN}"
    found = requests.post(f"{address}api/identify", headers=headers, **asked)  # type: ignore[arg-type]
    assert found.status_code == 200, found.text
    assert "NaCl" in {candidate["formula"] for candidate in found.json()["patterns"][0]["candidates"]}


def test_its_health_is_asked_for(page: tuple[str, str]) -> None:
    """The image's own check, at the port that this container has."""
    address, identity = page
    (image,) = json.loads(docker("image", "inspect", IMAGE).stdout)
    kind, *words = image["Config"]["Healthcheck"]["Test"]
    assert kind == "CMD" and image["Config"]["ExposedPorts"] == {"8321/tcp": {}}
    port = address.rsplit(":", 1)[1].strip("/")
    for served, code in ((port, 0), ("1", 1)):
        process = docker("exec", identity, *(word.replace("8321", served) for word in words))
        assert process.returncode == code, process.stderr


def test_it_ends_when_it_is_stopped(page: tuple[str, str]) -> None:
    _, identity = page
    assert docker("stop", "--time", "60", identity).returncode == 0
    state = json.loads(docker("inspect", identity).stdout)[0]["State"]
    assert state["ExitCode"] != 137 and not state["OOMKilled"]  # by itself, not killed
    assert "Traceback" not in docker("logs", identity).stderr
