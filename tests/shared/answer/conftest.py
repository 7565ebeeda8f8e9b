"""Crystals, their lines, and patterns as they would be measured."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from components.simulate.kernel import Structures, reflections
from imitation_refinement.answer import lattice as lattices
from imitation_refinement.answer.fusion import Fusion
from imitation_refinement.answer.lattice import KINDS, LatticeVote
from imitation_refinement.answer.library import Library, record
from imitation_refinement.answer.model import LIBRARY, RANKING, write_record
from imitation_refinement.answer.ranking import Ranking
from imitation_refinement.learning.config import ClassifierConfig
from imitation_refinement.learning.models import save_model
from imitation_refinement.xrd.crystal import N_CLASSES
from imitation_refinement.xrd.diffractometer import Reflections, measure
from imitation_refinement.xrd.flaws import Parameters
from imitation_refinement.xrd.grid import Grid

# Space group, lattice, species, positions.
CRYSTALS: dict[str, tuple[int, Lattice, list[str], list[list[float]]]] = {
    "NaCl": (225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "KCl": (225, Lattice.cubic(6.29), ["K", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "ZnS": (216, Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "TiO2": (136, Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]),
    "SnO2": (136, Lattice.tetragonal(4.738, 3.187), ["Sn", "O"], [[0, 0, 0], [0.307, 0.307, 0]]),
    "Al2O3": (167, Lattice.hexagonal(4.759, 12.991), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]),
    "SiO2": (154, Lattice.hexagonal(4.913, 5.405), ["Si", "O"], [[0.47, 0, 2 / 3], [0.413, 0.267, 0.786]]),
    "ZnO": (186, Lattice.hexagonal(3.25, 5.207), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]),
    "BaSO4": (
        62,
        Lattice.orthorhombic(8.884, 5.457, 7.157),
        ["Ba", "S", "O", "O", "O"],
        [[0.184, 0.25, 0.158], [0.437, 0.75, 0.191], [0.587, 0.75, 0.106], [0.318, 0.75, 0.05], [0.419, 0.97, 0.312]],
    ),
    "CaSO4": (
        15,
        Lattice.monoclinic(6.284, 15.2, 6.523, 127.4),
        ["Ca", "S", "O", "O"],
        [[0, 0.0797, 0.25], [0, 0.577, 0.25], [0.083, 0.272, 0.591], [0.2, 0.38, 0.91]],
    ),
    "CuSO4": (
        2,
        Lattice.from_parameters(6.12, 10.69, 5.96, 97.6, 107.1, 77.4),
        ["Cu", "S", "O", "O", "O"],
        [[0, 0, 0], [0.013, 0.287, 0.636], [0.91, 0.152, 0.674], [0.243, 0.317, 0.796], [0.86, 0.38, 0.64]],
    ),
}


@pytest.fixture(scope="session", autouse=True)
def lattices_once() -> Iterator[None]:
    """Lattices of the same lines are looked for once: most of an answer's time, and tests ask of few patterns often."""
    known: dict[bytes, list[Any]] = {}
    look = lattices.index

    def index(*given: Any) -> list[Any]:
        asked = b"|".join(np.asarray(part).tobytes() for part in given)
        if asked not in known:
            known[asked] = look(*given)
        return list(known[asked])

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(lattices, "index", index)
        yield


@cache
def reflections_of(name: str) -> Reflections:
    group, lattice, species, positions = CRYSTALS[name]
    structure = Structure.from_spacegroup(group, lattice, species, positions)
    return reflections(Structures.from_pymatgen([structure]), 1.5406, 100)[0]


@pytest.fixture(scope="session")
def library() -> Library:
    """:func:`small_library`."""
    return small_library()


@cache
def small_library() -> Library:
    found = [record(reflections_of(name), f"id-{name}", name, CRYSTALS[name][0], "by hand") for name in CRYSTALS]
    return Library.of([row for row in found if row])


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:func:`small_model`."""
    return small_model(tmp_path_factory.mktemp("model"))


def small_model(folder: Path) -> Path:
    """A model in the form that release gives it: :func:`small_library`, and a small network that has learnt nothing."""
    small_library().write(folder / LIBRARY)
    Ranking.read().write(folder / RANKING)
    config = {"architecture": "strided", "depths": (1, 1), "widths": (8, 8), "embedding": 8, "positions": 8}
    torch.manual_seed(0)
    network = ClassifierConfig.model_validate(config).build().eval()
    save_model(folder / "network.safetensors", network, Grid(axis="log_q", points=256), {})
    ranking = Ranking.read()
    fusion = Fusion(ranking.mean, ranking.deviation, ranking.system, (0.1, 0.1), (-20.0, 0.1, 0.1), 1.0)
    lattice = LatticeVote(np.zeros((N_CLASSES, KINDS + 2)))
    write_record(folder, ["network.safetensors"], lattice, fusion, {})
    return folder


def measured(
    name: str, wavelength: float = 1.5406, noise: bool = True, second: str = "", **flaws: object
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles [°] and counts of a virtual measurement of one of :data:`CRYSTALS`, a second one its impurity."""
    scale = wavelength / 1.5406
    axis = np.arange(8 * scale, 90 * scale, 0.02 * scale)
    usual = {"w": 0.01 * scale**2, "polynomial": (0.05,), "counts": 3000.0, "seed": 1 if noise else None}
    impurity = reflections_of(second) if second else None
    return axis, measure(reflections_of(name), Parameters(**{**usual, **flaws}), axis, wavelength, impurity)
