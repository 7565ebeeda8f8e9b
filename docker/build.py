"""Builds the images of the stages and of the page from docker/Dockerfile and prints their sizes: ``make images``.

An image is called as :mod:`imitation_refinement.running.images` says and tagged with the version and the git revision.
Options come by environment: DOCKER, the docker command (default: docker); BASE_IMAGE and TORCH_INDEX,
as in the Dockerfile; PIP_CONF, a pip.conf that only the build sees; BUILD_OPTIONS, further options of docker build;
MODEL, the folder of a model that the page gets in the place of the one that comes with the software.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imitation_refinement import __version__
from imitation_refinement.errors import InputError
from imitation_refinement.running.images import STAGES, TORCH, repository
from imitation_refinement.running.stage import exit_on_input_error

ROOT = Path(__file__).resolve().parent.parent
PAGE = "web"
# What is added to the page's image where MODEL names a folder: what its record names, and nothing beside.
WITH_MODEL = """FROM {page}
COPY model.json library.parquet ranking.json *.safetensors /opt/model/
ENTRYPOINT ["imitation-refinement", "web", "--host", "0.0.0.0", "--model", "/opt/model"]
"""
HINT = (
    "BuildKit is needed (Docker 18.09 to 20.10, or any newer with the buildx plugin), and for torch without CUDA "
    "TORCH_INDEX, where pip finds PyTorch's CPU wheels: see docs/docker.md."
)


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        stage: the stage's name, as in ``components/<stage>``, or :data:`PAGE`.
        name: the image's name, without a tag.
        tags: its tags.
        labels: its OCI labels, but for the description, which the Dockerfile has.
        torch: the Dockerfile's argument TORCH.
    """

    stage: str
    name: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    torch: str

    @property
    def target(self) -> str:
        """The image's stage in the Dockerfile."""
        return self.stage.replace("_", "-")


def images(version: str, revision: str, cuda: bool = False) -> list[Image]:
    """The image of each stage and of the page; those of stages with torch alone if ``cuda``."""
    stages = sorted((*STAGES, PAGE))
    suffix = "-cuda" if cuda else ""
    made = []
    for stage in [s for s in stages if not cuda or s in TORCH]:
        target = stage.replace("_", "-")
        labels = {
            "title": f"imitation-refinement {target}{suffix}",
            "version": version,
            "revision": revision,
            "licenses": "Apache-2.0",
        }
        made.append(
            Image(
                stage,
                repository(stage),
                (f"{version}{suffix}", f"{revision}{suffix}"),
                {f"org.opencontainers.image.{key}": value for key, value in labels.items()},
                "" if cuda else "+cpu",
            )
        )
    return made


def command(image: Image, environment: Mapping[str, str]) -> list[str]:
    """The call of docker that builds an image from the repository's root."""
    arguments = {"TORCH": image.torch, "REVISION": image.labels["org.opencontainers.image.revision"]}
    arguments |= {key: environment[key] for key in ("BASE_IMAGE", "TORCH_INDEX") if environment.get(key)}
    words = [environment.get("DOCKER") or "docker", "build", "--file", "docker/Dockerfile", "--target", image.target]
    words += [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    words += [word for key, value in image.labels.items() for word in ("--label", f"{key}={value}")]
    words += [word for tag in image.tags for word in ("--tag", f"{image.name}:{tag}")]
    if environment.get("PIP_CONF"):
        words += ["--secret", f"id=pip_conf,src={environment['PIP_CONF']}"]
    return [*words, *shlex.split(environment.get("BUILD_OPTIONS", "")), "."]


def with_model(image: Image, environment: Mapping[str, str]) -> list[str]:
    """The call of docker that adds a model to the page's image; its Dockerfile, :data:`WITH_MODEL`, is its input.

    Raises:
        InputError: if the folder holds no model.
    """
    folder = Path(environment["MODEL"])
    if not (folder / "model.json").is_file():
        raise InputError(folder, "holds no model.", "Name in MODEL the folder that `release` made.")
    words = [environment.get("DOCKER") or "docker", "build", "--file", "-"]
    return [*words, *(word for tag in image.tags for word in ("--tag", f"{image.name}:{tag}")), str(folder)]


def revision() -> str:
    """The commit's first 12 hexadecimal digits; ``-changed`` follows if the work tree differs from it.

    Raises:
        InputError: if this is no git repository.
    """
    words = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=-changed"]
    try:
        return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise InputError(ROOT, "is no git repository, or git is not there.", "Build from a clone.") from None


def build(wanted: Sequence[Image]) -> None:
    """Builds images, one after the other, and prints their sizes.

    Raises:
        InputError: if docker is not there or does not build one; its own output says why.
    """
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    docker = environment.get("DOCKER") or "docker"
    for image in wanted:
        print(f"{image.name}:{image.tags[0]}", flush=True)
        try:
            subprocess.run(command(image, environment), cwd=ROOT, check=True, env=environment)
            if image.stage == PAGE and environment.get("MODEL"):
                words, layer = with_model(image, environment), WITH_MODEL.format(page=f"{image.name}:{image.tags[0]}")
                subprocess.run(words, input=layer, text=True, cwd=ROOT, check=True, env=environment)
        except FileNotFoundError:
            raise InputError(
                docker, "there is no such command.", "Install Docker, or name its command in DOCKER."
            ) from None
        except subprocess.CalledProcessError:
            raise InputError(f"image {image.name}", "was not built; docker says why above.", HINT) from None
    names = [f"{image.name}:{image.tags[0]}" for image in wanted]
    words = [docker, "image", "inspect", "--format", "{{.Size}}", *names]
    sizes = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    for name, size in zip(names, sizes, strict=True):
        print(f"{int(size) / 1e6:7.0f} MB  {name}")


def main() -> None:
    """Builds all images, or those whose stages are named."""
    parser = argparse.ArgumentParser(prog="make images", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stages", nargs="*", help="stages, as simulate, or web (default: all)")
    parser.add_argument("--cuda", action="store_true", help="the variants with CUDA of the images with torch")
    arguments = parser.parse_args()
    with exit_on_input_error():
        made = images(__version__, revision(), arguments.cuda)
        unknown = set(arguments.stages) - {image.stage for image in made}
        if unknown:
            raise InputError(", ".join(sorted(unknown)), "there is no such image.", f"Use {[i.stage for i in made]}.")
        build([image for image in made if not arguments.stages or image.stage in arguments.stages])


if __name__ == "__main__":
    main()
