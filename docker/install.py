"""What fills an image's environment, called by the Dockerfile with the Python of the build's tools.

It stands beside setup.cfg and the locks there. Nothing is fetched whose SHA-256 is not in a lock.

gather   what requirements.lock names, in wheels; ``--torch`` torch, and what it needs with CUDA
sbom     installs the tool that lists what is in an image, in an environment of its own
build    this repository's own wheel
code     installs that wheel, and writes the list of what is in the environment, /opt/venv/sbom.cdx.json (CycloneDX)
NAME …   installs extras of setup.cfg by name; every_stage is what all stages need, kfp's executor included; of the
         packages whose files are all that is wanted, without what these need
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from configparser import ConfigParser
from pathlib import Path

TOOLS, ENVIRONMENT = Path(__file__).resolve().parent, Path("/opt/venv")
PIP_CONF = Path("/run/secrets/pip_conf")
WHEELS, BUILT = TOOLS / "wheels", TOOLS / "built"  # as the index has them; made here, of what it has no wheels of
LOCK, MORE, SBOM = (TOOLS / name for name in ("requirements.lock", "more.lock", "sbom.lock"))
HASHED = ("--require-hashes", "--no-deps", "--no-cache-dir", "--quiet")
FROM_WHEELS = ("--find-links", str(WHEELS), "--find-links", str(BUILT), "--no-index", "--no-cache-dir", "--quiet")
FILES_ALONE = ("minerals", "bgmn", "materials_project_samples")  # extras of packages that are read, not imported
CARRIED = ("autoxrd", "matminer", "xraylarch")  # what these are
# Parts of packages that nothing here imports: tests, what C and Cython are compiled against, Arrow's RPC, programs.
UNUSED = (
    "**/tests",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.pxi",
    "pyarrow/include",
    "pyarrow/src",
    "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.*.*.*",
    "pyarrow/libarrow_flight.so*",
    "pyarrow/_flight.*",
    "larch/bin",
    "torch/include",
    "torch/share",
)


def requirements() -> dict[str, list[str]]:
    """The requirements of each extra, and of every stage."""
    parser = ConfigParser()
    parser.read(TOOLS / "setup.cfg")
    lines = {name: value.split("\n") for name, value in parser["options.extras_require"].items()}
    found = {name: [line for line in value if line] for name, value in lines.items()}
    return {**found, "every_stage": parser["options"]["install_requires"].split("\n")[1:]}


def pip(*arguments: str) -> None:
    """Runs the build's pip; a pip.conf that was given is a secret."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if PIP_CONF.exists():
        environment["PIP_CONFIG_FILE"] = str(PIP_CONF)
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True, env=environment)


def entries(lock: Path) -> dict[str, str]:
    """The entries of a lock, each with its hashes, by the package's name in small letters."""
    found = re.finditer(r"^([\w.-]+)==[^\n]*(?:\n +[^\n]*)*", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return {match[1].lower(): match[0] for match in found}


def pip_locked(command: str, wanted: Iterable[str], *options: str) -> None:
    """Runs pip on entries of locks, which must have these hashes."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lines:
        lines.write("".join(f"{entry}\n" for entry in wanted))
        lines.flush()
        pip(command, *HASHED, *options, "--requirement", lines.name)


def fetch(wanted: Iterable[str], *options: str) -> None:
    """Downloads entries of locks, and makes wheels of those that have none, with the setuptools that is installed."""
    pip_locked("download", wanted, "--no-build-isolation", "--dest", str(WHEELS), *options)
    for source in sorted(WHEELS.glob("*.tar.gz")):
        pip("wheel", *FROM_WHEELS, "--no-deps", "--no-build-isolation", "--wheel-dir", str(BUILT), str(source))


def gather(torch: bool) -> None:
    """Downloads what the locks name, and notes the versions, by which it is installed later."""
    locked, more = entries(LOCK), entries(MORE)
    WHEELS.mkdir(exist_ok=True)
    BUILT.mkdir(exist_ok=True)
    if not torch:
        pip_locked("install", [locked["setuptools"]])
        fetch(entry for name, entry in locked.items() if name != "torch")
        fetch(more[name] for name in CARRIED)
        fetch(entries(SBOM).values())
        versions = [entry.split(maxsplit=1)[0] for entry in (*locked.values(), *more.values())]
        (TOOLS / "constraints.txt").write_text("".join(f"{version}\n" for version in versions), encoding="utf-8")
        return
    index, kind = os.environ.get("TORCH_INDEX"), os.environ["TORCH"]
    pinned = re.match(r"torch==[^\s+]+", locked["torch"])[0]
    wanted = [locked["torch"].replace(pinned, pinned + kind, 1)]
    wanted += [] if kind else [entry for name, entry in more.items() if name not in CARRIED]
    fetch(wanted, *(["--extra-index-url", index] if index else []))
    if not kind and (found := sorted(WHEELS.glob("torch-*+cpu-*"))):
        sys.exit(
            f"error: pip chose {found[0].name} for an image with CUDA. Let its settings name no wheels without it."
        )


def bill(target: Path) -> None:
    """Writes what is in the environment, as CycloneDX."""
    command = [str(TOOLS / "sbom/bin/cyclonedx-py"), "environment", "--output-reproducible", "--of", "JSON"]
    subprocess.run([*command, "--output-file", str(target), str(ENVIRONMENT / "bin/python")], check=True)


def install(*wanted: str) -> None:
    """Installs from the wheels alone and removes what nothing imports."""
    options = (*FROM_WHEELS, "--constraint", str(TOOLS / "constraints.txt"), "--no-compile")
    pip("--python", str(ENVIRONMENT / "bin/python"), "install", *options, *wanted)
    (packages,) = ENVIRONMENT.glob("lib/python*/site-packages")
    for pattern in UNUSED:
        for path in list(packages.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def main(command: str, *names: str) -> None:
    """Runs one of the commands above."""
    if command == "gather":
        gather("--torch" in names)
    elif command == "sbom":
        pip("--python", str(TOOLS / "sbom/bin/python"), "install", *HASHED, *FROM_WHEELS, "--requirement", str(SBOM))
    elif command == "build":
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
        pip("wheel", *options, "--wheel-dir", str(TOOLS / "own"), str(TOOLS / "source"))
    elif command == "code":
        install("--no-deps", *map(str, (TOOLS / "own").glob("*.whl")))
        bill(ENVIRONMENT / "sbom.cdx.json")
    else:
        wanted, extras = requirements(), (command, *names)
        install(*(line for name in extras if name not in FILES_ALONE for line in wanted[name]))
        if alone := [line for name in extras if name in FILES_ALONE for line in wanted[name]]:
            install("--no-deps", *alone)
        if command == "every_stage":
            install("--no-deps", "kfp")


if __name__ == "__main__":
    main(*sys.argv[1:])
