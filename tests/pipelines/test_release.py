"""A model made whole of built-in structures, by the command line, and used."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Structure

from components.collect_structures.builtin import builtin_materials
from components.collect_structures.crystals import Material, formula, from_pymatgen
from components.collect_structures.stage import tables, write_structures
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.model import RECORD, REFINER, Model
from imitation_refinement.data.formula import without_hydrogen
from imitation_refinement.data.patterns import Pattern, write_xy
from imitation_refinement.errors import InputError
from imitation_refinement.learning.models import learnt
from imitation_refinement.learning.stream_training import is_held_out
from imitation_refinement.xrd.bank import DERIVED, Bank
from pipelines.cli import main
from pipelines.release import (
    BANK,
    COLLECTED,
    DERIVED_FILE,
    MEASURED_FILE,
    MEASURED_LIBRARY,
    OPTIONS,
    TOGETHER,
    _made,
    _seeded,
    read_release,
    release,
)
from tests.pipelines.conftest import SMALL
from tests.shared.answer.conftest import CRYSTALS, measured

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
    assert glass["flag"] == "outside" and "lines of 7 times its noise" in glass["reason"]


def test_refine_uses_what_release_made(model: Path, patterns: Path, tmp_path: Path) -> None:
    salt, model_ = str(patterns / "NaCl.xy"), ["--wavelength", "CuKa1", "--model", str(model)]
    main(["refine", salt, *model_, "--output", str(tmp_path / "a")])
    main(["refine", salt, *model_, "--output", str(tmp_path / "b"), "--keep-angles"])
    one, kept = (pq.read_table(tmp_path / name / "refined.parquet").to_pylist()[0] for name in "ab")
    x, y = np.loadtxt(patterns / "NaCl.xy", unpack=True)
    np.testing.assert_allclose(one["two_theta"], x)
    assert sum(one["probabilities"]) == pytest.approx(1)
    top = x[int(np.argmax(y))]
    assert abs(x[int(np.argmax(kept["intensity"]))] - top) < 0.1
    assert "moved by" in (tmp_path / "a" / "NaCl.xy").read_text()
    assert "peaks where they were measured" in (tmp_path / "b" / "NaCl.xy").read_text()
    found = Model.read(model).refine(Pattern("NaCl", x, y, one["wavelength"]), 0.0)
    np.testing.assert_allclose(found.intensity, kept["intensity"], atol=1e-6)


def test_a_model_without_refiner_says_so(model: Path, patterns: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    record = json.loads((folder / RECORD).read_text())
    (folder / REFINER).write_bytes(b"other")
    with pytest.raises(InputError, match="SHA-256 differs"):
        Model.read(folder)
    del record["digests"][REFINER]
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match="has no refiner"):
        Model.read(folder).refine(Pattern("flat", np.arange(5, 90, 0.02), np.ones(4250), 1.5406))
    with pytest.raises(SystemExit):
        main(["refine", str(patterns), "--output", str(tmp_path / "out"), "--model", str(folder)])


def test_what_is_there_is_taken_as_it_is(model: Path, structures: Path, tmp_path: Path) -> None:
    """A stopped release goes on: what is missing is made again, the same; other options need another folder."""
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    before = (folder / RECORD).read_bytes()
    for name in (RECORD, "network-2.safetensors", "ranking.json", REFINER):
        (folder / name).unlink()
    options = json.loads((folder / OPTIONS).read_text())
    del options["refiner"]["weight_decay"]  # as of a version that had no such option
    (folder / OPTIONS).write_text(json.dumps(options))
    config = read_release(SMALL, structures=[str(structures)])
    release(folder, config)
    assert (folder / RECORD).read_bytes() == before
    with pytest.raises(InputError, match="begun with other options"):
        release(folder, config.model_copy(update={"seed": 1}))


def test_no_part_learns_what_is_kept_out(structures: Path, patterns: Path, tmp_path: Path) -> None:
    """And so many measurements that processes share them."""
    settings = [f"--set={setting}" for setting in (*SMALL, "networks=1", f"measurements={TOGETHER + 1}")]
    main(
        ["release", "--output", str(tmp_path), "--structures", str(structures), "--keep-out", str(patterns), *settings]
    )
    made = Model.read(tmp_path)
    names = set(map(without_hydrogen, made.search.library.formula.tolist()))
    assert without_hydrogen(KEPT_OUT) not in names and without_hydrogen("KCl") in names
    assert not learnt(made.networks, [KEPT_OUT]).any()
    assert made.about["formulas_kept_out"] == 2 and made.about["derived_crystals"] == 14


def test_the_whole_library_has_what_no_network_learns(structures: Path, patterns: Path, tmp_path: Path) -> None:
    settings = [f"--set={setting}" for setting in (*SMALL, "networks=1", "whole_library=true")]
    main(
        ["release", "--output", str(tmp_path), "--structures", str(structures), "--keep-out", str(patterns), *settings]
    )
    made = Model.read(tmp_path)
    searched, taught = made.search.library.formula.tolist(), Bank.load(tmp_path / BANK).formula.tolist()
    assert without_hydrogen(KEPT_OUT) in map(without_hydrogen, searched)
    assert without_hydrogen(KEPT_OUT) not in map(without_hydrogen, taught)
    # Nor what is made of it, or of what networks are judged on.
    given = pq.read_table(tmp_path / COLLECTED).to_pylist()
    formula_of = {row["material_id"]: row["formula"] for row in given}
    derived = pq.read_table(tmp_path / DERIVED_FILE)
    parents = [formula_of[source.removeprefix("derived from ")] for source in derived["source"].to_pylist()]
    assert len(parents) > 5 and without_hydrogen(KEPT_OUT) not in map(without_hydrogen, parents)
    assert not is_held_out(parents, 0.4).any() and is_held_out(list(formula_of.values()), 0.4).any()
    # What the fusion doubts by is made of what they are judged on alone, and in the library that it is searched in.
    measured = pq.read_table(tmp_path / MEASURED_FILE)
    parents = [formula_of[source.removeprefix("derived from ")] for source in measured["source"].to_pylist()]
    assert is_held_out(parents, 0.4).all() and without_hydrogen(KEPT_OUT) not in map(without_hydrogen, parents)
    there = Library.read(tmp_path / MEASURED_LIBRARY).material_id.tolist()
    assert set(there) == {*made.search.library.material_id.tolist(), *measured["material_id"].to_pylist()}
    told = f"{14 + 7} virtual measurements of "
    assert (
        told in made.fusion.fitted_on
        and told in made.lattice.fitted_on
        and "14 virtual" in made.search.ranking.fitted_on
    )
    assert not learnt(made.networks, [KEPT_OUT]).any()


def test_a_part_of_a_section_changes_that_part_alone() -> None:
    whole, config = read_release(), read_release(["stream.grid.points=4096", "stream.network.norm=none"])
    assert config.stream.grid == whole.stream.grid.model_copy(update={"points": 4096})
    assert config.stream.network == whole.stream.network.model_copy(update={"norm": "none"})
    assert whole.stream.grid.axis == "log_q" and whole.stream.network.architecture == "strided"


def test_the_last_networks_learn_no_random_crystals() -> None:
    config = read_release(["networks=3", "without_random=2"])
    flaws = [_seeded(config, number).flaws for number in range(3)]
    usual = config.stream.flaws
    assert [one.random_weight for one in flaws] == [usual.random_weight, 0, 0] and usual.random_weight > 0
    assert [one.derived_weight for one in flaws] == [usual.derived_weight] * 3 and usual.derived_weight > 0
    assert len({_seeded(config, number).seed for number in range(3)}) == 3


def test_of_parents_that_give_no_crystals_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no derived crystals.*--set derived=0"):
        _made(tmp_path / DERIVED_FILE, iter(()), "derived crystals", 10, DERIVED, [])
    assert not list(tmp_path.iterdir())


def test_bad_options_and_folders(model: Path, structures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"networks: .*greater than or equal to 1"):
        read_release(["networks=0"], structures=[str(structures)])
    assert read_release().structures == ("minerals", "bgmn", "materials-project-samples")
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
    (folder / RECORD).write_text(json.dumps(record | {"digests": None}))
    with pytest.raises(InputError, match="no record of a model"):
        Model.read(folder)
    (folder / RECORD).write_text(json.dumps(record | {"fusion": record["fusion"] | {"network": float("nan")}}))
    with pytest.raises(InputError, match="NaN is not finite"):
        Model.read(folder)
    (folder / "network-1.safetensors").unlink()
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match="is missing from the model"):
        Model.read(folder)
    with pytest.raises(InputError, match="no record of a model"):
        Model.read(tmp_path)


def test_patterns_of_one_name_are_told_apart(model: Path, patterns: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.copy(patterns / "BaSO4.xy", tmp_path / "other" / "NaCl.xy")
    same = [str(patterns / "NaCl.xy"), str(tmp_path / "other" / "NaCl.xy")]
    main(["identify", *same, "--wavelength", "1.5406", "--output", str(tmp_path), "--model", str(model)])
    found = pd.read_csv(tmp_path / "answers.csv", keep_default_na=False)
    assert list(found["pattern_id"]) == ["NaCl", "NaCl"]
    assert all(
        f"2 patterns have this name; this is {path}" in why for path, why in zip(same, found["reason"], strict=True)
    )


def test_too_few_structures_are_refused_before_anything_is_learnt(structures: Path, tmp_path: Path) -> None:
    table = pq.read_table(structures)
    one = tmp_path / "one.parquet"
    pq.write_table(table.slice(0, 1), one)
    config = read_release(SMALL, structures=[str(tmp_path / "none.parquet")])
    folder = tmp_path / "model"
    with pytest.raises(InputError, match="no such file"):
        release(folder, config)
    with pytest.raises(InputError, match="too few structures to hold some out"):  # and the misspelt source is no bar
        release(folder, config.model_copy(update={"structures": (str(one),)}))
    assert not list(folder.glob("network*"))


def test_what_is_to_be_kept_out_may_not_grow(model: Path, structures: Path, tmp_path: Path) -> None:
    folder, patterns = tmp_path / "model", tmp_path / "patterns.parquet"
    shutil.copytree(model, folder)
    config = read_release(SMALL, structures=[str(structures)], keep_out=str(patterns))
    (folder / OPTIONS).write_text(config.model_dump_json(indent=1) + "\n")
    pq.write_table(pa.table({"formula": [KEPT_OUT]}), patterns)
    with pytest.raises(InputError, match="holds 1 structures of the formulas in"):
        release(folder, config)


def test_networks_trained_beside_each_other_end_with_the_command(model: Path, structures: Path, tmp_path: Path) -> None:
    """A termination as `kill` sends it: to the one process that was started."""
    folder, long = tmp_path / "model", [*SMALL, "stream.samples=2100000", "stream.checkpoint_seconds=0"]
    folder.mkdir()
    for name in (COLLECTED, "library.parquet", BANK):
        shutil.copy(model / name, folder)
    settings = [f"--set={setting}" for setting in long]
    command = [sys.executable, "-c", "import os; os.sched_getaffinity = lambda _: {0, 1}; "]
    command[-1] += "from pipelines.cli import main; main()"
    started = subprocess.Popen(
        [*command, "release", "--output", str(folder), "--structures", str(structures), *settings],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        _until(lambda: len(list(folder.glob("network-*.checkpoint"))) == 2)
        started.terminate()
        code = started.wait(30)
        _until(lambda: not _lives(started.pid))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
    assert code == 128 + signal.SIGTERM


def _lives(group: int) -> bool:
    """Whether a process of a group is there."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = entry.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                return True
    return False


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 300  # a machine may be busy
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
