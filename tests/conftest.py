"""What several test files need: small gridded tables whose classes are easy to tell, and a small finished run."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the networks here are too small to share

import numpy as np
import pytest
from numpy.typing import NDArray

from imitation_refinement.data.contracts import gridded_schema, ideal_schema, null_rows, write_table
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, N_CLASSES
from imitation_refinement.xrd.grid import Grid

Patterns = tuple[NDArray[np.float32], NDArray[np.int64]]
GRID = Grid(points=128)
TINY_CLASSIFIER = {"depths": [1, 1], "widths": [8, 8], "stem_stride": 2, "embedding": 8, "norm": "batch"}
TINY_REFINER = {"widths": [8, 8], "factor": 2}


def _untrack(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "IMITATION_REFINEMENT_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test logs to a store, or reports to a program, of the person who runs it."""
    _untrack(monkeypatch)


def _stack() -> list[tuple[Any, ...]]:
    """As :func:`inspect.stack`, without the source of each frame."""
    frames, frame = [], sys._getframe(1)
    while frame:
        frames.append((frame, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return frames


@pytest.fixture(scope="session")
def callers_by_name() -> Iterator[None]:
    """KFP asks who calls a task by a stack with sources, for which all modules are looked through each time."""
    from kfp.dsl import pipeline_task

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(pipeline_task, "inspect", SimpleNamespace(stack=_stack))
        yield


def toy_patterns(per_class: int, seed: int, flawed: bool = False) -> Patterns:
    """Two peaks whose place tells the class, maximum 1; the flaw is one large hump in the same place everywhere."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(N_CLASSES), per_class)
    axis = np.arange(GRID.points)
    centres = 12 + 12 * labels[:, None] + np.array([0, 30]) + rng.normal(0, 0.5, (len(labels), 2))
    heights = rng.uniform(0.6, 1, (len(labels), 2))
    patterns = (heights[..., None] * np.exp(-(((axis - centres[..., None]) / 2) ** 2))).sum(1)
    if flawed:
        patterns = patterns + 2 * np.exp(-(((axis - 40) / 15) ** 2)) + rng.uniform(0, 0.05, patterns.shape)
    return (patterns / patterns.max(1, keepdims=True)).astype(np.float32), labels


@pytest.fixture(scope="session")
def toy() -> Callable[..., Patterns]:
    """:func:`toy_patterns`."""
    return toy_patterns


def write_toy_tables(folder: Path, per_class: int = 12) -> dict[str, Path]:
    """The two tables that preprocess writes, in miniature, and the lines of some of the ideal one's structures."""
    paths = {name: folder / f"{name}.parquet" for name in ("ideal_dataset", "imperfect_dataset")}
    paths["library"] = write_toy_library(folder / "library.parquet")
    ideal, labels = toy_patterns(per_class, 1)
    splits = np.repeat(["train", "validation", "test"], [len(labels) - 4 * N_CLASSES, 2 * N_CLASSES, 2 * N_CLASSES])
    systems = [str(CRYSTAL_SYSTEMS[k]) for k in labels]
    columns: dict[str, Any] = {
        "material_id": [f"m{i}" for i in range(len(labels))],
        "formula": [f"A{i}" for i in range(len(labels))],
        "crystal_system": systems,
        "split": splits,
        "intensity": ideal,
    }
    write_table(paths["ideal_dataset"], columns, ideal_schema(GRID, remarked=3))
    flawed, _ = toy_patterns(per_class, 2, flawed=True)
    theory = toy_patterns(per_class, 2)[0]
    theory[-1] = np.nan  # the last test pattern has none
    columns = {
        "pattern_id": [f"p{i}" for i in range(len(labels))],
        "formula": [f"B{i}" for i in range(len(labels))],
        "crystal_system": systems,
        "theory_two_theta": [[20.0, 50.0]] * (len(labels) - 1) + [None],
        "theory_intensity": [[100.0, 60.0]] * (len(labels) - 1) + [None],
        "split": splits,
        "scale": np.full(len(labels), 1000.0),
        "intensity": flawed,
        "theory": null_rows(theory),
    }
    write_table(paths["imperfect_dataset"], columns, gridded_schema(GRID))
    return paths


def write_toy_library(path: Path) -> Path:
    """Lines of a crystal of each system, the first seven structures of the ideal table, of :func:`toy_cell`."""
    from imitation_refinement.answer.library import Library, record
    from imitation_refinement.xrd.diffractometer import Reflections

    hkl = np.array([h for h in np.ndindex(3, 3, 3) if any(h)], np.int16)
    entries = []
    for i, (system, group) in enumerate(zip(CRYSTAL_SYSTEMS, (1, 3, 16, 75, 146, 168, 195), strict=True)):
        reciprocal = np.linalg.inv(toy_cell(str(system), 3.4 + 0.2 * i)).T
        d = 1 / np.linalg.norm(hkl @ reciprocal, axis=1)
        order = np.argsort(-d, kind="stable")
        lines = Reflections(reciprocal, d[order], np.arange(len(d) + 1), hkl[order], np.ones(len(d)))
        entries.append(record(lines, f"m{i}", f"A{i}", group))
    Library.of([entry for entry in entries if entry]).write(path)
    return path


@pytest.fixture
def toy_tables(tmp_path: Path) -> dict[str, Path]:
    """:func:`write_toy_tables` in the test's own folder."""
    return write_toy_tables(tmp_path)


def toy_cell(system: str, edge: float) -> NDArray[np.float64]:
    """Rows a, b, c of a lattice [Å] that has the whole symmetry of a crystal system and no more; trigonal: R."""
    a, b, c, beta = edge, 1.17 * edge, 1.43 * edge, np.radians(107)
    tilted = [a * np.cos(np.radians(96)), 0.1 * b, b]
    rows = {
        "triclinic": [[a, 0, 0], [0.13 * a, b, 0], tilted],
        "monoclinic": [[a, 0, 0], [0, b, 0], [c * np.cos(beta), 0, c * np.sin(beta)]],
        "orthorhombic": np.diag([a, b, c]),
        "tetragonal": np.diag([a, a, c]),
        "trigonal": a * np.array([[1, 0.2, 0.2], [0.2, 1, 0.2], [0.2, 0.2, 1]]),
        "hexagonal": [[a, 0, 0], [-a / 2, a * np.sqrt(0.75), 0], [0, 0, c]],
        "cubic": np.diag([a, a, a]),
    }
    return np.array(rows[system], float)


@pytest.fixture(scope="session")
def toy_structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of structures, each one atom in the :func:`toy_cell` of its system: five of each, all elements apart."""
    from imitation_refinement.data.contracts import STRUCTURES
    from imitation_refinement.data.formula import SYMBOLS

    path = tmp_path_factory.mktemp("structures") / "structures.parquet"
    cells = [(system, 3.4 + 0.31 * i) for i in range(5) for system in CRYSTAL_SYSTEMS]
    columns: dict[str, Any] = {
        "material_id": [f"s{i}" for i in range(len(cells))],
        "formula": [SYMBOLS[20 + i] for i in range(len(cells))],
        "space_group": [1] * len(cells),
        "crystal_system": [str(system) for system, _ in cells],
        "lattice": [toy_cell(*cell).ravel() for cell in cells],
        "atomic_number": [[21 + i] for i in range(len(cells))],
        "occupancy": [[1.0]] * len(cells),
        "position": [[0.0, 0.0, 0.0]] * len(cells),
    }
    write_table(path, columns, STRUCTURES)
    return path


@pytest.fixture(scope="session")
def toy_bank(toy_structures: Path) -> Any:
    """The bank of :func:`toy_structures`."""
    from components.simulate.bank import bank_of

    return bank_of([toy_structures])[0]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A file or folder that is made once for all of pytest's processes."""
    place = factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    path, done = place / name, place / f"{name}.done"
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(path)
            done.touch()
    return path


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:func:`run_toy`."""
    from imitation_refinement.results import figures

    def make(run: Path) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            _untrack(monkeypatch)
            monkeypatch.setattr(figures, "DPI", 30)  # drawn faster
            run_toy(run)

    return once(tmp_path_factory, "toy_run", make)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of MLflow whose tables are made: that takes seconds, and processes that do it at once fail."""
    import mlflow

    return once(
        tmp_path_factory, "empty.db", lambda path: mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    )


def run_toy(run: Path) -> None:
    """A small run from both tables to the report, stage by stage, laid out as a finished run is."""
    from components.baselines.stage import STAGE as baselines
    from components.evaluate.stage import STAGE as evaluate
    from components.pretrain_classifier.stage import STAGE as pretrain
    from components.train_refiner.stage import STAGE as train

    models = run / "models"
    models.mkdir(parents=True)
    tables = write_toy_tables(run)
    optimiser = {"epochs": 12, "batch_size": 14, "learning_rate": 1e-2, "device": "cpu"}
    for name in ("vgg", "densenet"):
        network = {**TINY_CLASSIFIER, "architecture": name}
        paths = {"ideal_dataset": tables["ideal_dataset"], "classifier": models / f"{name}.safetensors"}
        pretrain.execute(paths, {"network": network, "optimiser": optimiser})
    for supervision, name in (("targeted", "vgg"), ("non_targeted", "vgg"), ("targeted", "densenet")):
        paths = {
            "classifier": models / f"{name}.safetensors",
            "imperfect_dataset": tables["imperfect_dataset"],
            "refiner": models / f"{name}-{supervision}.safetensors",
        }
        train.execute(paths, {"supervision": supervision, "network": TINY_REFINER, "optimiser": optimiser})
    path = models / "densenet-shuffled_labels.safetensors"
    paths = {
        "classifier": models / "densenet.safetensors",
        "imperfect_dataset": tables["imperfect_dataset"],
        "refiner": path,
    }
    train.execute(paths, {"variant": "shuffled_labels", "network": TINY_REFINER, "optimiser": optimiser})
    made = {name: run / f"{name}.parquet" for name in ("dwt", "answers")}
    candidate = {"wavelets": ["sym8"], "levels": [3], "rules": ["bayes"], "anscombe": [True]}
    paths = {**tables, "library": [tables["library"]], **made, "search": run / "search.csv"}
    baselines.execute(paths, {"dwt": candidate})
    evaluate.execute(
        {
            "classifiers": [models / "vgg.safetensors", models / "densenet.safetensors"],
            "refiners": sorted(models.glob("*-*.safetensors")),
            **tables,
            **made,
            "results": run / "results.json",
            "table": run / "results.txt",
            "report": run / "report.html",
            "figures": run / "figures",
            "predictions": run / "predictions.csv",
        },
        {"resamples": 500, "examples": 2, "embedded": 50, "profile": "toy", "seed": 3},
    )
