"""The build definition has an image for every stage, as the components call them. No engine is needed."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from imitation_refinement import __version__
from imitation_refinement.errors import InputError
from imitation_refinement.running.images import TORCH
from pipelines.check import built_images

ROOT = Path(__file__).resolve().parents[2]
STAGES = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docker_{name}", ROOT / "docker" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build, install, lock = load("build"), load("install"), load("lock")


def test_every_component_has_its_image() -> None:
    components = [getattr(importlib.import_module(f"components.{stage}.component"), stage) for stage in STAGES]
    wanted = {component.component_spec.implementation.container.image for component in components}
    made = {f"{image.name}:{image.tags[0]}" for image in build.images(__version__, "abcdef123456")}
    assert made - wanted == {f"imitation-refinement/web-python:{__version__}"}
    assert made > wanted and len(wanted) == len(STAGES) >= 8


def test_every_image_has_a_target_that_runs_its_stage() -> None:
    ends = re.findall(r"FROM \S+ AS (\S+)\n(?:(?!FROM ).*\n)*?ENTRYPOINT \[(.*)\]", DOCKERFILE)
    page = '"imitation-refinement", "web", "--host", "0.0.0.0"'
    assert dict(ends) == {
        image.target: page if image.stage == build.PAGE else f'"python", "-m", "components.{image.stage}"'
        for image in build.images(__version__, "a")
    }
    for block in re.split(r"\n(?=FROM )", DOCKERFILE):
        if "ENTRYPOINT" in block:
            assert "\nUSER 10001:10001\n" in block and "image.description=" in block


def test_every_extra_of_a_stage_is_installed() -> None:
    named = re.findall(r"install\.py ((?:[a-z]+_?)+(?: [a-z_]+)*)$", DOCKERFILE.replace(" \\\n", "\n"), re.MULTILINE)
    installed = {extra for names in named for extra in names.split()}
    assert {*STAGES, "answer", "web"} <= installed


def test_the_images_with_torch_have_a_cuda_variant() -> None:
    extras = ConfigParser()
    extras.read(ROOT / "setup.cfg")
    with_torch = [s for s in STAGES if "torch==" in extras["options.extras_require"][s]]
    made = build.images("1.2.3", "abc", cuda=True)
    assert [image.stage for image in made] == sorted(TORCH) == with_torch
    assert all(image.tags == ("1.2.3-cuda", "abc-cuda") and image.torch == "" for image in made)


def test_the_compile_check_knows_what_is_built() -> None:
    built: dict[str, set[str]] = {}
    for image in [*build.images("1", "abc"), *build.images("1", "abc", cuda=True)]:
        built.setdefault(image.name, set()).update(tag.removeprefix("1") for tag in image.tags if tag.startswith("1"))
    del built[f"imitation-refinement/{build.PAGE}-python"]  # no task of a pipeline runs in it
    assert built_images() == built


def test_the_call_of_docker() -> None:
    image = next(i for i in build.images("1.2.3", "abc") if i.stage == "train_refiner")
    environment = {"DOCKER": "dock", "BASE_IMAGE": "b:1", "PIP_CONF": "/p", "BUILD_OPTIONS": "--pull --network=host"}
    words = build.command(image, environment)
    text = " ".join(words)
    assert words[:2] == ["dock", "build"] and words[-3:] == ["--pull", "--network=host", "."]
    assert "--target train-refiner " in text and "--secret id=pip_conf,src=/p" in text
    assert "--build-arg TORCH=+cpu --build-arg REVISION=abc --build-arg BASE_IMAGE=b:1 " in text
    assert "--tag imitation-refinement/train-refiner-python:1.2.3 " in text
    assert "--tag imitation-refinement/train-refiner-python:abc " in text
    assert "latest" not in text
    for label in ("version=1.2.3", "revision=abc", "licenses=Apache-2.0", "title=imitation-refinement train-refiner"):
        assert f"org.opencontainers.image.{label}" in words
    assert "latest" not in DOCKERFILE


def test_a_model_of_ones_own_is_added_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a layer on top, with the files of the model alone."""
    calls: list[tuple[list[str], str]] = []

    def run(words: list[str], **options: str) -> subprocess.CompletedProcess[str]:
        calls.append((words, options.get("input", "")))
        return subprocess.CompletedProcess(words, 0, "1000000\n")

    monkeypatch.setattr(build.subprocess, "run", run)
    monkeypatch.setenv("MODEL", str(tmp_path))
    (page,) = [image for image in build.images("1.2.3", "abc") if image.stage == build.PAGE]
    with pytest.raises(InputError, match=r"holds no model\. Name in MODEL"):
        build.build([page])
    (tmp_path / "model.json").write_text("{}")
    calls.clear()
    build.build([page])
    (first, _), (second, layer), _ = calls
    assert "--target web " in " ".join(first)
    tags = ["--tag", "imitation-refinement/web-python:1.2.3", "--tag", "imitation-refinement/web-python:abc"]
    assert second == ["docker", "build", "--file", "-", *tags, str(tmp_path)]
    assert layer.startswith("FROM imitation-refinement/web-python:1.2.3\n") and "structures.parquet" not in layer


def test_docker_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER", "no-such-docker")
    with pytest.raises(InputError, match=r"no-such-docker: there is no such command\. Install Docker"):
        build.build(build.images("1.2.3", "abc"))


def test_an_image_that_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER", "false")
    with pytest.raises(InputError, match=r"adapt-classifier-python: was not built; .*TORCH_INDEX"):
        build.build(build.images("1.2.3", "abc"))


def entries_of(call: tuple[str, ...]) -> str:
    return Path(call[call.index("--requirement") + 1]).read_text(encoding="utf-8")


def test_all_that_is_fetched_has_its_hash_in_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for lock in ("requirements.lock", "docker/more.lock", "docker/sbom.lock"):
        (tmp_path / Path(lock).name).write_text((ROOT / lock).read_text())
    for name in ("LOCK", "MORE", "SBOM"):
        monkeypatch.setattr(install, name, tmp_path / getattr(install, name).name)
    monkeypatch.setattr(install, "TOOLS", tmp_path)
    monkeypatch.setattr(install, "WHEELS", tmp_path / "wheels")
    monkeypatch.setattr(install, "BUILT", tmp_path / "built")
    asked: list[tuple[tuple[str, ...], str]] = []
    monkeypatch.setattr(install, "pip", lambda *words: asked.append((words, entries_of(words))))
    monkeypatch.setenv("TORCH", "+cpu")
    install.gather(torch=False)
    (first, setuptools), (_, locked), (_, carried), (_, listing) = asked
    assert first[0] == "install" and re.match(r"setuptools==\S+ \\\n +--hash=sha256:", setuptools)
    assert "\npymatgen==2026.10.24 " in locked and "\ntorch==" not in locked
    assert all(f"{name} " in carried for name in ("autoxrd==0.0.7", "xraylarch==0.9.66", "matminer==0.3.2"))
    assert "cyclonedx-bom==" in listing
    assert "torch==2.13.0\n" in (tmp_path / "constraints.txt").read_text()
    install.gather(torch=True)
    monkeypatch.setenv("TORCH", "")
    install.gather(torch=True)
    cpu, cuda = (text for _, text in asked[4:])
    assert cpu.startswith("torch==2.13.0+cpu ") and "nvidia" not in cpu
    assert cuda.startswith("torch==2.13.0 ") and "\nnvidia-cudnn-cu13==" in cuda
    for words, text in asked:
        assert {"--require-hashes", "--no-deps"} <= set(words)
        assert all(
            re.search(r"^ +--hash=sha256:[0-9a-f]{64}", one, re.M) for one in re.split(r"\n(?=\S)", text.strip())
        )


def test_every_lock_says_what_setup_cfg_pins() -> None:
    locked = {**install.entries(ROOT / "docker/more.lock"), **install.entries(ROOT / "requirements.lock")}
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    wanted = [parser["options"]["install_requires"], *parser["options.extras_require"].values()]
    lines = [
        line for text in wanted for line in text.split("\n") if line and not line.startswith("imitation-refinement")
    ]
    for line in lines:
        requirement = Requirement(line)
        entry = locked.get(requirement.name.lower())
        assert entry, f"{line} is in no lock"
        assert requirement.specifier.contains(re.split(r"==|\s", entry)[1]), line


@pytest.mark.parametrize("minor", range(10, 15))
def test_make_takes_the_pythons_that_the_lock_has_wheels_for(minor: int, tmp_path: Path) -> None:
    for file in ("requirements.lock", "docker/more.lock", "setup.cfg"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    says_that_it_is_one = f"import sys; sys.version_info = (3, {minor}, 0); exec(sys.argv[2])"
    python = f"PYTHON={sys.executable} -c '{says_that_it_is_one}'"  # an environment it can't make: there make ends
    made = subprocess.run(
        ["make", "--file", ROOT / "Makefile", ".venv/ready", python], cwd=tmp_path, capture_output=True, text=True
    )
    assert made.returncode
    assert ("is needed: make PYTHON=" in made.stderr) == (minor not in lock.PYTHONS)


def test_a_base_image_may_be_named_by_its_digest() -> None:
    base = "python@sha256:" + "0" * 64
    words = build.command(build.images("1.2.3", "abc")[0], {"BASE_IMAGE": base})
    assert f"BASE_IMAGE={base}" in words


def test_packages_that_are_read_and_not_imported_bring_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(install, "TOOLS", ROOT)
    monkeypatch.setattr(install, "install", lambda *words: calls.append(words))
    install.main("collect_structures", "minerals")
    assert calls[0] == tuple(install.requirements()["collect_structures"])
    assert calls[1:] == [("--no-deps", "xraylarch==0.9.66")]


@pytest.mark.parametrize(("torch", "wheel", "fits"), [("", "+cpu", False), ("", "", True), ("+cpu", "+cpu", True)])
def test_an_image_with_cuda_has_no_torch_without_it(
    torch: str, wheel: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip takes 2.13.0+cpu for 2.13.0 where its settings know such a wheel."""
    monkeypatch.setattr(install, "LOCK", ROOT / "requirements.lock")
    monkeypatch.setattr(install, "MORE", ROOT / "docker/more.lock")
    monkeypatch.setattr(install, "WHEELS", tmp_path)
    monkeypatch.setattr(install, "BUILT", tmp_path / "built")
    monkeypatch.setattr(install, "pip", lambda *_: (tmp_path / f"torch-2.13.0{wheel}-cp311-cp311-any.whl").touch())
    monkeypatch.setenv("TORCH", torch)
    if fits:
        install.gather(torch=True)
    else:
        with pytest.raises(SystemExit, match=r"error: pip chose torch-2\.13\.0\+cpu.* for an image with CUDA"):
            install.gather(torch=True)
