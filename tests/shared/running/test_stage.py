"""Command lines, options, and what a stage needs."""

from __future__ import annotations

import ast
import errno
import importlib
import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from imitation_refinement.errors import InputError
from imitation_refinement.files import alone
from imitation_refinement.options import StageConfig
from imitation_refinement.progress import CHANNEL_VARIABLE, Channel
from imitation_refinement.running.images import STAGES
from imitation_refinement.running.stage import ERROR_FILE_VARIABLE, Stage, exit_on_input_error
from imitation_refinement.running.tracking import Tracker

ROOT = Path(__file__).parents[3]
TORCH = {"torch", "safetensors"}
CRYSTALS = {"pymatgen", "numba", "gemmi", "spglib"}
REFUSED = {
    "collect_structures": TORCH,
    "simulate": TORCH | {"pymatgen"},
    "preprocess": TORCH | CRYSTALS,
    "pretrain_classifier": CRYSTALS,
    "train_refiner": CRYSTALS,
    "adapt_classifier": CRYSTALS,
    "baselines": TORCH | CRYSTALS - {"numba"},
    "evaluate": CRYSTALS,
    "identify": CRYSTALS - {"numba", "gemmi"},
}


class Inner(StageConfig):
    width: int = Field(3, ge=1, description="how wide [mm]")
    kind: Literal["round", "square"] = Field("round", description="its shape")


class Options(StageConfig):
    inner: Inner = Inner()
    rate: float = Field(0.5, gt=0, description="share, 50 % by default")
    sizes: tuple[int, ...] = Field((1, 2), description="sizes")
    fast: bool = Field(False, description="hurry")


class Recorder:
    """A stage that keeps what it is given."""

    def __init__(self) -> None:
        self.paths: dict[str, Any] = {}
        self.config = Options()
        self.stage = Stage(
            name="toy",
            summary="Does nothing.",
            inputs={"source": "a file", "shards": "files", "extra": "another"},
            outputs={"result": "what comes out"},
            config=Options,
            run=self.run,
            optional=frozenset({"extra"}),
            lists=frozenset({"shards"}),
        )

    def run(self, paths: dict[str, Any], config: Options, tracker: Tracker) -> str:
        self.paths, self.config = paths, config
        if config.inner.width == 13:
            raise InputError("a.xy, line 3", "brings bad luck.", "Take 12.")
        return f"{config.inner.width} mm wide"


@pytest.fixture
def toy_stage() -> Recorder:
    return Recorder()


FILES = ["--source", "a", "--shards", "b", "c", "--result", "out/r"]


def test_defaults(toy_stage: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy_stage.stage.main(FILES)
    assert toy_stage.config == Options()
    assert toy_stage.paths == {"source": Path("a"), "shards": [Path("b"), Path("c")], "result": Path("out/r")}
    assert (tmp_path / "out").is_dir()


def test_what_came_of_it_is_told(
    toy_stage: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CHANNEL_VARIABLE, str(tmp_path))
    toy_stage.stage.main([*FILES, "--inner-width", "5", "--label", "toy of mine"])
    assert capsys.readouterr().err == "5 mm wide\n"
    assert list(Channel(tmp_path).events()) == [
        {"stage": "toy of mine", "event": "result", "text": "5 mm wide"},
        {"stage": "toy of mine", "event": "end"},
    ]
    with pytest.raises(InputError):
        toy_stage.stage.execute({"source": "a", "result": "r"}, {"inner": {"width": 13}})
    *_, failure = Channel(tmp_path).events()
    assert (failure["stage"], failure["event"]) == ("toy", "failure") and "brings bad luck" in failure["text"]


def test_every_kind_of_option(toy_stage: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--inner-width", "7", "--inner-kind", "square", "--rate", "0.25", "--sizes", "4", "5", "6", "--fast"]
    toy_stage.stage.main([*FILES, *options, "--extra", "x"])
    assert toy_stage.config == Options(inner=Inner(width=7, kind="square"), rate=0.25, sizes=(4, 5, 6), fast=True)
    assert toy_stage.paths["extra"] == Path("x")


def test_kfp_and_command_line_run_the_same(toy_stage: Recorder, tmp_path: Path) -> None:
    paths = {"source": "a", "shards": ["b"], "extra": "", "result": str(tmp_path / "r")}
    toy_stage.stage.task(paths, {"inner": {"width": 7}, "sizes": [4]})
    assert toy_stage.config == Options(inner=Inner(width=7), sizes=(4,))
    assert toy_stage.paths == {"source": Path("a"), "shards": [Path("b")], "result": tmp_path / "r"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--inner-width", "0"], "toy configuration: inner.width: .*greater than or equal to 1 .given: '0'"),
        (["--rate", "much"], "rate: .*valid number.*'much'"),
        (["--sizes", "1", "x"], r"sizes\.1: "),
        (["--inner-width", "13"], r"a\.xy, line 3: brings bad luck\. Take 12\."),
    ],
)
def test_bad_values_give_one_message_and_status_2(
    toy_stage: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], named: str
) -> None:
    with pytest.raises(SystemExit) as end:
        toy_stage.stage.main(["--source", "a", "--shards", "b", "--result", str(tmp_path / "r"), *options])
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and not captured.out
    assert re.search(named, captured.err), captured.err


def test_unknown_options_and_missing_files(toy_stage: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, named in ((["--speed", "3"], "--speed"), (["--inner-kind", "oval"], "--inner-kind")):
        with pytest.raises(SystemExit) as end:
            toy_stage.stage.main([*FILES, *arguments])
        assert end.value.code == 2 and named in capsys.readouterr().err
    with pytest.raises(SystemExit):
        toy_stage.stage.main(["--source", "a", "--result", "r"])
    assert "--shards" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"toy configuration: inner\.height: .*not permitted"):
        toy_stage.stage.execute({"result": "r"}, {"inner": {"height": 1}})


def test_an_error_is_left_for_the_program_that_started_the_stage(
    toy_stage: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ERROR_FILE_VARIABLE, str(tmp_path / "error.txt"))
    with pytest.raises(SystemExit):
        toy_stage.stage.task({"result": str(tmp_path / "r")}, {"inner": {"width": 13}})
    assert json.loads((tmp_path / "error.txt").read_text()) == ["a.xy, line 3", "brings bad luck.", "Take 12."]


def test_two_at_once_into_one_output_are_refused_and_what_a_killed_one_left_is_swept(
    toy_stage: Recorder, tmp_path: Path
) -> None:
    result, others = tmp_path / "r.csv", (tmp_path / ".other.csv.12345678.csv", tmp_path / ".hidden")
    for path in (tmp_path / ".r.csv.12345678.csv", *others):
        path.touch()
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / ".a.png.12345678.png").touch()
    lock = tmp_path / ".r.csv.lock"
    with alone(lock, result, ""), pytest.raises(InputError, match=r"r\.csv: is being written by another command"):
        toy_stage.stage.execute({"result": result}, {})
    assert not toy_stage.paths
    toy_stage.stage.execute({"result": result}, {})
    assert toy_stage.paths == {"result": result} and sorted(tmp_path.iterdir()) == sorted((*others, folder))
    toy_stage.stage.execute({"result": folder}, {})
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 2), (errno.EACCES, 2), (errno.ENOENT, None)])
def test_a_full_disk_is_one_message(number: int, status: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BaseException) as end, exit_on_input_error():
        raise OSError(number, os.strerror(number), "out/r")
    if status is None:
        assert isinstance(end.value, OSError)
    else:
        (line,) = capsys.readouterr().err.splitlines()
        assert isinstance(end.value, SystemExit) and end.value.code == status
        assert line.startswith("error: out/r: can't be ") and os.strerror(number) in line


def test_help_tells_options_units_and_defaults(toy_stage: Recorder) -> None:
    text = " ".join(toy_stage.stage.parser().format_help().split())
    for part in (
        "--inner-width VALUE how wide [mm] (default: 3)",
        "--inner-kind {round,square} its shape (default: round)",
        "share, 50 % by default (default: 0.5)",
        "--fast, --no-fast hurry",
        "another (optional)",
    ):
        assert part in text, part


@pytest.mark.parametrize("name", STAGES)
def test_help_of_each_stage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    stage = importlib.import_module(f"components.{name}.stage").STAGE
    with pytest.raises(SystemExit) as end:
        stage.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert f"python -m components.{name}" in text
    for option in (*stage.inputs, *stage.outputs):
        assert "--" + option.replace("_", "-") in text
    assert stage.name == name


@pytest.mark.parametrize("name", STAGES)
def test_the_component_has_the_stages_inputs_and_outputs(name: str) -> None:
    """What the KFP interface names is what the stage knows, so that neither drops a file of the other."""
    stage = importlib.import_module(f"components.{name}.stage").STAGE
    module = importlib.import_module(f"components.{name}.component")
    spec = getattr(module, name).component_spec
    shown = {"metrics", "classification", "note"} if name == "evaluate" else set()  # for Kubeflow's page alone
    assert set(spec.outputs) == set(stage.outputs) | shown
    inputs = {key: value.type for key, value in spec.inputs.items()}
    artifacts = {key for key, kind in inputs.items() if kind.startswith("system.") or key in stage.inputs}
    if models := {key for key in artifacts if inputs[key].startswith("system.Model")}:  # what loops have collected
        of_models = {"evaluate": {"classifiers", "refiners"}}
        artifacts = artifacts - models | of_models.get(name, {"classifier"})
    assert artifacts == set(stage.inputs)


def _imports(path: Path, everywhere: bool) -> set[str]:
    """Modules that a file imports as it is imported, or, ``everywhere``, in its functions, too."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.FunctionDef | ast.Lambda) and not everywhere:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def _source(module: str) -> Path | None:
    folder = ROOT if module.split(".")[0] in ("components", "pipelines") else ROOT / "shared"
    path = folder / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def third_party(stage: str, lazily: bool) -> set[str]:
    """Top-level names of the packages that a stage's code imports; ``lazily``: also in its own modules' functions."""
    todo, seen, outside = [f"components.{stage}.stage", f"components.{stage}.__main__"], set(), set()
    while todo:
        module = todo.pop()
        if module in seen or (source := _source(module)) is None:
            continue
        seen.add(module)
        for name in _imports(source, lazily and module.startswith(f"components.{stage}.")):
            top = name.split(".")[0]
            if top in ("components", "imitation_refinement", "pipelines"):
                todo += [name, name.rpartition(".")[0]]
            elif top not in sys.stdlib_module_names:
                outside.add(top)
    return outside


def _names(requirements: str) -> set[str]:
    lines = (line.strip() for line in requirements.splitlines())
    return {re.split(r"[\[<>=!~; ]", line)[0].lower() for line in lines if line}


@pytest.mark.parametrize("name", STAGES)
def test_the_extra_covers_what_the_stage_imports(name: str) -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = config["options.extras_require"]
    providers = packages_distributions()
    stated = _names(config["options"]["install_requires"]) | _names(extras[name])
    for lazily in (False, True):
        if lazily and name == "collect_structures":  # one of its sources has an extra of its own
            stated |= _names(extras["materials_project"])
        for package in third_party(name, lazily):
            assert {d.lower() for d in providers[package]} & stated, f"{package} is in no requirement of {name}"
        assert not third_party(name, lazily) & (REFUSED[name] | {"kfp"})


# Runs a module as `python -m` does, where some packages can't be imported.
REFUSING = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError(name + " is refused")
sys.meta_path.insert(0, Refuse())
{code}
"""


def run_refusing(refused: set[str], code: str) -> None:
    script = REFUSING.format(refused=sorted(refused), code=code)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "names",
    [("collect_structures",), ("baselines",), ("pretrain_classifier", "train_refiner", "adapt_classifier", "evaluate")],
)
def test_stages_import_without_the_others_packages(names: tuple[str, ...]) -> None:
    (refused,) = {frozenset(REFUSED[name]) for name in names}
    code = "".join(f"import components.{name}.stage as s; s.STAGE.parser().format_help(); " for name in names)
    run_refusing(set(refused) | {"kfp", "mlflow", "mp_api"}, code)


def test_simulate_and_preprocess_run_without_the_others_packages(tmp_path: Path) -> None:
    from imitation_refinement.data.contracts import PATTERNS, STRUCTURES, write_table

    n = 8

    def lattices(smallest: float) -> list[list[float]]:
        return [[a, 0, 0, 0, a, 0, 0, 0, a] for a in (smallest + 0.1 * i for i in range(n))]

    structures: dict[str, Any] = {
        "formula": [f"X{i}" for i in range(n)],
        "space_group": [221] * n,
        "crystal_system": ["cubic"] * n,
        "lattice": lattices(3.8),
        "atomic_number": [[55, 17]] * n,
        "occupancy": [[1.0, 1.0]] * n,
        "position": [[0.0, 0, 0, 0.5, 0.5, 0.5]] * n,
    }
    ids = [f"m{i}" for i in range(n)]
    write_table(tmp_path / "s.parquet", {**structures, "material_id": ids}, STRUCTURES)
    held = {**structures, "formula": [f"Y{i}" for i in range(n)], "lattice": lattices(3.85)}  # with other lines
    write_table(tmp_path / "p.parquet", {**held, "pattern_id": ids, "origin": ["virtual"] * n}, PATTERNS)

    def run(stage: str, arguments: str) -> None:
        argv = [f"components.{stage}", *arguments.format(tmp_path).split()]
        code = f"sys.argv = {argv!r}; runpy.run_module('components.{stage}', run_name='__main__')"
        run_refusing(REFUSED[stage] | {"kfp", "mlflow"}, code)

    run(
        "simulate",
        "--structures {0}/s.parquet --patterns {0}/p.parquet --ideal {0}/ideal.parquet "
        "--imperfect {0}/imperfect.parquet --grid-points 256",
    )
    run(
        "preprocess",
        "--ideal {0}/ideal.parquet --imperfect {0}/imperfect.parquet --ideal-dataset {0}/i.parquet "
        "--imperfect-dataset {0}/p2.parquet --manifest {0}/m.csv --rejected {0}/r.csv --folds 3",
    )
    assert len((tmp_path / "m.csv").read_text().splitlines()) == 1 + 2 * n
