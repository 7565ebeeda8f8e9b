"""What fills an image's environment, called by the Dockerfile with the Python of the build's tools.

It stands beside setup.cfg and requirements.lock there.

gather   wheels of all that setup.cfg names, in the lock's versions; ``--torch`` those of the stages with torch
build    this repository's own wheel
code     installs that wheel
NAME …   installs extras of setup.cfg by name; every_stage is what all stages need, kfp's executor included; of the
         packages whose files are all that is wanted, without what these need
"""

import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

TOOLS, ENVIRONMENT = Path(__file__).resolve().parent, Path("/opt/venv")
PIP_CONF = Path("/run/secrets/pip_conf")
WHEELS = TOOLS / "wheels"
LOCKED = ("--constraint", str(TOOLS / "requirements.lock"), "--find-links", str(WHEELS), "--no-cache-dir", "--quiet")
TO_WHEELS, FROM_WHEELS = (*LOCKED, "--wheel-dir", str(WHEELS)), (*LOCKED, "--no-index")
FILES_ALONE = ("minerals", "materials_project_samples")  # extras of packages that are read, not imported
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


def gather(torch: bool) -> None:
    """Downloads wheels, and makes those of packages that have none."""
    wanted = requirements()
    executor = next(line for line in wanted["pipeline"] if line.startswith("kfp>"))
    stages = [name for name in wanted if name not in ("pipeline", "dev", *FILES_ALONE)]
    lines = {line for name in stages for line in wanted[name]}
    index = os.environ.get("TORCH_INDEX")
    if torch:
        lines = {line + os.environ["TORCH"] for line in lines if line.startswith("torch==")}
    else:
        lines = {line for line in lines if not line.startswith("torch==")} | {"setuptools"}
        pip("wheel", "--no-deps", *TO_WHEELS, executor, *(line for name in FILES_ALONE for line in wanted[name]))
    pip("wheel", *TO_WHEELS, *(["--extra-index-url", index] if index else []), *sorted(lines))
    if torch and not os.environ["TORCH"] and (found := sorted(WHEELS.glob("torch-*+cpu-*"))):
        sys.exit(
            f"error: pip chose {found[0].name} for an image with CUDA. Let its settings name no wheels without it."
        )


def install(*wanted: str) -> None:
    """Installs from the wheels alone and removes what nothing imports."""
    pip("--python", str(ENVIRONMENT / "bin/python"), "install", *FROM_WHEELS, "--no-compile", *wanted)
    (packages,) = ENVIRONMENT.glob("lib/python*/site-packages")
    for pattern in UNUSED:
        for path in list(packages.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def main(command: str, *names: str) -> None:
    """Runs one of the commands above."""
    if command == "gather":
        gather("--torch" in names)
    elif command == "build":
        pip("install", *FROM_WHEELS, "setuptools")
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
        pip("wheel", *options, "--wheel-dir", str(TOOLS / "own"), str(TOOLS / "source"))
    elif command == "code":
        install("--no-deps", *map(str, (TOOLS / "own").glob("*.whl")))
    else:
        wanted, extras = requirements(), (command, *names)
        install(*(line for name in extras if name not in FILES_ALONE for line in wanted[name]))
        if alone := [line for name in extras if name in FILES_ALONE for line in wanted[name]]:
            install("--no-deps", *alone)
        if command == "every_stage":
            install("--no-deps", "kfp")


if __name__ == "__main__":
    main(*sys.argv[1:])
