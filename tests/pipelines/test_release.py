"""A model made whole of built-in structures, by the command line, and used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure

from components.collect_structures.builtin import builtin_materials
from components.collect_structures.crystals import Material, formula, from_pymatgen
from components.collect_structures.stage import tables, write_structures
from imitation_refinement.answer.model import RECORD, Model
from imitation_refinement.data.formula import without_hydrogen
from imitation_refinement.data.patterns import write_xy
from imitation_refinement.errors import InputError
from imitation_refinement.learning.models import learnt
from pipelines.cli import main
from pipelines.release import read_release, release
from tests.shared.answer.conftest import CRYSTALS, measured

SMALL = [
    'stream.grid={axis = "log_q", points = 256}',
    'stream.network={architecture = "strided", depths = [1, 1], widths = [8, 8], embedding = 8, positions = 8}',
    "stream.samples=105",
    "stream.batch_size=21",
    "stream.validation=14",
    "stream.held_out=0.4",
    "stream.device=cpu",
    "networks=2",
    "measurements=14",
]
KEPT_OUT = "NaCl"


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("structures") / "structures.parquet"
    parents, _ = builtin_materials(140, 0, 0)
    for name in ("NaCl", "KCl", "BaSO4"):
        group, lattice, species, positions = CRYSTALS[name]
        crystal = from_pymatgen(Structure.from_spacegroup(group, lattice, species, positions).as_dict())
        parents.append(Material(name, formula(crystal), group, crystal, "by hand"))
    write_structures(path, tables(parents), len(parents))
    return path


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two virtual measurements, and a pattern without lines."""
    folder = tmp_path_factory.mktemp("patterns")
    for name in ("NaCl", "BaSO4"):
        write_xy(folder / f"{name}.xy", *measured(name))
    axis = np.arange(5, 90, 0.02)
    write_xy(folder / "glass.xy", axis, np.random.default_rng(0).poisson(500 + 300 * np.exp(-(((axis - 25) / 8) ** 2))))
    lines = ["pattern,wavelength_angstrom,formula,crystal_system", f"NaCl.xy,1.5406,{KEPT_OUT},cubic"]
    (folder / "manifest.csv").write_text(
        "\n".join([*lines, "BaSO4.xy,1.5406,BaSO4,orthorhombic", "glass.xy,1.5406,,", ""])
    )
    return folder


@pytest.fixture(scope="module")
def model(structures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    release(folder, read_release(SMALL, structures=[str(structures)]))
    return folder


def test_identify_uses_what_release_made(model: Path, patterns: Path, tmp_path: Path) -> None:
    command = ["identify", str(patterns), "--output", str(tmp_path), "--model", str(model)]
    main(command)
    found = pd.read_csv(tmp_path / "answers.csv", keep_default_na=False).set_index("pattern_id")
    systems = [name for name in found if name.startswith("p_")]
    assert len(systems) == 7 and np.allclose(found[systems].astype(float).sum(axis=1), 1, atol=1e-3)
    salt = found.loc["NaCl"]  # not first: the ranking is of 14 measurements
    assert ("NaCl", 225) in [(salt[f"candidate_{i}_formula"], salt[f"candidate_{i}_space_group"]) for i in range(1, 6)]
    assert salt["probability"] >= salt["second_probability"] and salt["crystal_system"] != salt["second_system"]
    assert float(salt[f"p_{salt['crystal_system']}"]) == pytest.approx(float(salt["probability"]))
    glass = found.loc["glass"]
    assert glass["flag"] == "outside" and "lines of five times its noise" in glass["reason"]


def test_what_is_there_is_taken_as_it_is(model: Path, structures: Path, tmp_path: Path) -> None:
    """A stopped release goes on: what is missing is made again, the same; other options need another folder."""
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    before = (folder / RECORD).read_bytes()
    for name in (RECORD, "network-2.safetensors", "ranking.json"):
        (folder / name).unlink()
    config = read_release(SMALL, structures=[str(structures)])
    release(folder, config)
    assert (folder / RECORD).read_bytes() == before
    with pytest.raises(InputError, match="begun with other options"):
        release(folder, config.model_copy(update={"seed": 1}))


def test_no_part_learns_what_is_kept_out(structures: Path, patterns: Path, tmp_path: Path) -> None:
    settings = [f"--set={setting}" for setting in (*SMALL, "networks=1")]
    main(
        ["release", "--output", str(tmp_path), "--structures", str(structures), "--keep-out", str(patterns), *settings]
    )
    made = Model.read(tmp_path)
    names = set(map(without_hydrogen, made.search.library.formula.tolist()))
    assert without_hydrogen(KEPT_OUT) not in names and without_hydrogen("KCl") in names
    assert not learnt(made.networks, [KEPT_OUT]).any()
    assert made.about["formulas_kept_out"] == 2


def test_bad_options_and_folders(model: Path, structures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"networks: .*greater than or equal to 1"):
        read_release(["networks=0"], structures=[str(structures)])
    assert read_release().structures == ("minerals", "materials-project-samples")
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    record = json.loads((folder / RECORD).read_text())
    ranking = (folder / "ranking.json").read_text()
    (folder / "ranking.json").write_text(ranking + " ")
    with pytest.raises(InputError, match="SHA-256 differs"):
        Model.read(folder)
    (folder / "ranking.json").write_text(ranking)
    (folder / RECORD).write_text(json.dumps(record | {"version": 99}))
    with pytest.raises(InputError, match="version 99"):
        Model.read(folder)
    (folder / "network-1.safetensors").unlink()
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match="is missing from the model"):
        Model.read(folder)
    with pytest.raises(InputError, match="no record of a model"):
        Model.read(tmp_path)
    with pytest.raises(InputError, match="none comes with this version"):
        Model.read()
