"""The stage on small tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from components.simulate import painting, stage
from components.simulate.config import SimulateConfig
from components.simulate.kernel import Peaks, Structures, peaks, reflections
from components.simulate.stage import STAGE
from imitation_refinement.data.contracts import (
    PATTERNS,
    STRUCTURES,
    ideal_schema,
    read_gridded,
    read_remarked,
    read_table,
    write_table,
)
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.diffractometer import measure
from imitation_refinement.xrd.flaws import Parameters
from imitation_refinement.xrd.grid import Grid, convert_two_theta
from imitation_refinement.xrd.line import Profile, pseudo_voigt

GRID = {"points": 1024}


def structure(a: float, second: int = 17) -> dict[str, Any]:
    """Caesium chloride's structure with another cell and another anion."""
    return {
        "lattice": (np.eye(3) * a).ravel().tolist(),
        "atomic_number": [55, second],
        "occupancy": [1.0, 0.9],
        "position": [0.0, 0, 0, 0.5, 0.5, 0.5],
        "formula": f"CsX{a}",
        "space_group": 221,
        "crystal_system": "cubic",
    }


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    structures = [{"material_id": f"m{i}", **structure(3.8 + 0.1 * i)} for i in range(9)]
    write_table(tmp_path / "structures.parquet", pd.DataFrame(structures), STRUCTURES)
    patterns: list[dict[str, Any]] = [
        {"pattern_id": f"v{i}", "origin": "virtual", **structure(4.0 + 0.05 * i)} for i in range(7)
    ]
    axis = np.linspace(10, 120, 500)
    seen = {"two_theta": axis, "intensity": np.ones(500), "origin": "file"}
    patterns.append({"pattern_id": "f0", "wavelength": 2.2897, **seen, **structure(4.1)})
    patterns.append({"pattern_id": "f1", "wavelength": 1.5406, **seen})
    frame = pd.DataFrame([{**dict.fromkeys(PATTERNS.names), **row} for row in patterns])
    write_table(tmp_path / "patterns.parquet", {name: list(frame[name]) for name in frame}, PATTERNS)
    return {"structures": tmp_path / "structures.parquet", "patterns": tmp_path / "patterns.parquet"}


def simulate(tables: dict[str, Path], folder: Path, **config: Any) -> dict[str, Path]:
    out = {name: folder / f"{name}.parquet" for name in ("ideal", "library", "imperfect")}
    out["rejected"] = folder / "rejected.csv"
    STAGE.execute({**tables, **out}, {"grid": GRID, "ranges": {"impurity_share": 0.7}, **config})
    return out


def plain_paint(grid: Grid, two_theta: NDArray, intensity: NDArray, profile: Profile) -> NDArray:
    """Every line over the whole axis, cut where the profile ends."""
    x = grid.two_theta[:, None] - two_theta
    y = np.where(np.abs(x) <= 20 * profile.fwhm, pseudo_voigt(x, profile.fwhm, profile.mixing), 0) @ intensity
    return y / y.max()


@pytest.mark.parametrize("mixing", [0.0, 0.5, 1.0])
def test_painting_against_the_profile_itself(mixing: float) -> None:
    grid, profile = Grid(), Profile(fwhm=0.2, mixing=mixing)
    two_theta = np.array([3.0, 20.001, 20.9, 89.99, 93.0, 360.0])
    intensity = np.array([50.0, 100, 30, 70, 90, 100])
    found = Peaks(np.array([0, 6, 6]), two_theta, intensity)
    painted = painting.paint(found, grid, profile)
    np.testing.assert_allclose(painted[0], plain_paint(grid, two_theta, intensity, profile), atol=5e-4)
    assert not painted[1].any()


def test_ideal_patterns(tables: dict[str, Path], tmp_path: Path) -> None:
    out = simulate(tables, tmp_path)
    rows, grid, patterns = read_gridded(out["ideal"], "ideal")
    assert grid == Grid(**GRID)
    assert pq.read_schema(out["ideal"]).equals(ideal_schema(grid))
    assert rows["material_id"].tolist() == [f"m{i}" for i in range(9)]
    assert rows["split"].isna().all()
    found = peaks(Structures.from_arrow(read_table(tables["structures"], STRUCTURES)), grid.wavelength, 2, 93)
    for i in range(9):
        np.testing.assert_allclose(patterns["intensity"][i], plain_paint(grid, *found[i], Profile()), atol=1e-3)
    assert (tmp_path / "rejected.csv").read_text() == "item,reason,remedy\n"


def test_virtual_patterns_come_again_from_their_parameters(tables: dict[str, Path], tmp_path: Path) -> None:
    out = simulate(tables, tmp_path)
    table = pq.read_table(out["imperfect"])
    assert Grid.from_metadata(table.schema.metadata) == Grid(**GRID)
    rows = {row["pattern_id"]: row for row in table.to_pylist()}
    assert len(rows) == 9
    structures = Structures.from_arrow(table.slice(0, 7))
    lines = dict(zip(list(rows)[:7], reflections(structures, 1.5406, 93), strict=True))
    axis = SimulateConfig().instrument.two_theta
    assert len(axis) == 4251
    drawn = [Parameters.from_json(rows[name]["parameters"]) for name in lines]
    assert any(p.impurity for p in drawn) and not all(p.impurity for p in drawn)
    for (name, phase), p in zip(lines.items(), drawn, strict=True):
        assert p.impurity != name
        impurity = (
            lines[p.impurity]
            if p.impurity in lines
            else reflections(Structures.from_arrow(table.slice(7, 1)), 1.5406, 93)[0]
        )
        counts = measure(phase, p, axis, 1.5406, impurity)
        seen = p.observed(axis)
        np.testing.assert_array_equal(rows[name]["intensity"], counts[seen].astype(np.float32))
        np.testing.assert_array_equal(rows[name]["two_theta"], axis[seen])


def test_theory_at_the_patterns_own_wavelength(tables: dict[str, Path], tmp_path: Path) -> None:
    table = pq.read_table(simulate(tables, tmp_path)["imperfect"])
    grid, row = Grid(**GRID), table.slice(7, 1).to_pylist()[0]
    d = 4.1 / np.sqrt([1, 2, 3, 4, 5])
    expected = np.degrees(2 * np.arcsin(2.2897 / 2 / d))
    np.testing.assert_allclose(row["theory_two_theta"][:5], expected, rtol=1e-9)
    assert max(row["theory_intensity"]) == 100
    on_grid = convert_two_theta(row["theory_two_theta"], 2.2897, grid.wavelength)
    painted = plain_paint(grid, on_grid, np.array(row["theory_intensity"]), Profile())
    np.testing.assert_allclose(row["theory"], painted, atol=1e-3)
    without = table.slice(8, 1).to_pylist()[0]
    assert without["theory"] is None and without["theory_two_theta"] is None and without["two_theta"] is not None


def test_sharded_is_unsharded(tables: dict[str, Path], tmp_path: Path) -> None:
    whole = simulate(tables, tmp_path, seed=5)
    shards = [simulate(tables, tmp_path / str(i), seed=5, shard=i, shards=3) for i in range(3)]
    for name, key in (("ideal", "material_id"), ("imperfect", "pattern_id")):
        parts = [pq.read_table(shard[name]).to_pylist() for shard in shards]
        for i, row in enumerate(pq.read_table(whole[name]).to_pylist()):
            assert parts[i % 3][i // 3][key] == row[key]
            assert parts[i % 3][i // 3] == row
    other = simulate(tables, tmp_path / "other", seed=6)
    assert pq.read_table(other["imperfect"])["parameters"] != pq.read_table(whole["imperfect"])["parameters"]


def test_remarks_are_counted(tables: dict[str, Path], tmp_path: Path) -> None:
    remarks = [None, "its cell is put on its symmetry", None, None, "a vacancy is left out", None, None, "x", None]
    table = read_table(tables["structures"], STRUCTURES)
    table = table.set_column(table.column_names.index("remark"), "remark", pa.array(remarks))
    pq.write_table(table, tmp_path / "remarked.parquet")
    tables = {**tables, "structures": tmp_path / "remarked.parquet"}
    shards = [simulate(tables, tmp_path / str(i), shard=i, shards=3)["ideal"] for i in range(3)]
    assert [read_remarked(shard) for shard in shards] == [0, 3, 0]
    assert pq.read_schema(shards[0]).metadata == Grid(**GRID).to_metadata()


def test_structures_in_several_files(tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As collect_structures writes very many; each shard looks for its rows a few at a time."""
    monkeypatch.setattr(stage, "CHUNK", 2)
    table, folder = read_table(tables["structures"], STRUCTURES), tmp_path / "folder"
    folder.mkdir()
    for number, rows in enumerate((slice(0, 4), slice(4, 5), slice(5, 9))):
        pq.write_table(table[rows], folder / f"part-{number:05}.parquet")
    for shard in range(4):
        one, other = (
            simulate({**tables, "structures": path}, tmp_path / f"{shard}{path.name}", shard=shard, shards=4)["ideal"]
            for path in (tables["structures"], folder)
        )
        assert pq.read_table(one).equals(pq.read_table(other))


@pytest.mark.parametrize(("least", "groups"), [(1 << 20, 1), (1, 5)])
def test_row_groups_are_of_some_size(
    tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int, groups: int
) -> None:
    monkeypatch.setattr(stage, "CHUNK", 2)
    monkeypatch.setattr(stage, "GROUP", least)
    found = pq.ParquetFile(simulate(tables, tmp_path)["ideal"])
    assert (found.metadata.num_rows, found.num_row_groups) == (9, groups)


def test_what_cannot_be_simulated_is_listed(tables: dict[str, Path], tmp_path: Path) -> None:
    frame = pd.DataFrame(
        [
            {"material_id": "good", **structure(4.0)},
            {"material_id": "heavy", **structure(4.0, second=104)},
            {"material_id": "tiny", **structure(0.5)},
        ]
    )
    write_table(tables["structures"], frame, STRUCTURES)
    patterns = [
        {"pattern_id": "nothing", "origin": "virtual"},
        {"pattern_id": "v", "origin": "virtual", **structure(4.0)},
    ]
    columns = pd.DataFrame([{**dict.fromkeys(PATTERNS.names), **row} for row in patterns])
    write_table(tables["patterns"], {name: list(columns[name]) for name in columns}, PATTERNS)
    out = simulate(tables, tmp_path)
    assert pq.read_table(out["ideal"])["material_id"].to_pylist() == ["good"]
    assert pq.read_table(out["imperfect"])["pattern_id"].to_pylist() == ["v"]
    listed = out["rejected"].read_text()
    for name in ("heavy", "tiny", "nothing"):
        assert name in listed
    with pytest.raises(InputError, match="shard"):
        simulate(tables, tmp_path, shard=2, shards=2)


def test_a_wavelength_without_dispersion_costs_the_theory_alone(tables: dict[str, Path], tmp_path: Path) -> None:
    seen = {"two_theta": np.linspace(40, 170, 500), "intensity": np.ones(500), "origin": "file", **structure(4.1)}
    patterns = [{"pattern_id": f"at {w}", "wavelength": w, **seen} for w in (1.5406, 3.5)]
    frame = pd.DataFrame([{**dict.fromkeys(PATTERNS.names), **row} for row in patterns])
    write_table(tables["patterns"], {name: list(frame[name]) for name in frame}, PATTERNS)
    out = simulate(tables, tmp_path)
    assert pq.read_table(out["imperfect"])["theory"].is_valid().to_pylist() == [True, False]
    assert "the theory of at 3.5, as there is no dispersion at 3.5 Å" in out["rejected"].read_text()
    out = simulate(tables, tmp_path, mode="pymatgen")
    assert pq.read_table(out["imperfect"])["theory"].null_count == 0
    with pytest.raises(InputError, match=r"instrument.wavelength must be from 0.1 to 3.0 Å"):
        simulate(tables, tmp_path, instrument={"wavelength": 0.08})


def test_neither_torch_nor_pymatgen_nor_numba_for_the_options() -> None:
    """A stage imports its own dependencies only; its options can be read without numba."""
    code = "import sys, {}; assert not {{'torch', 'pymatgen', 'matplotlib'{}}} & set(sys.modules)"
    for module, more in (("components.simulate.stage", ""), ("components.simulate.config", ", 'numba'")):
        subprocess.run([sys.executable, "-c", code.format(module, more)], check=True)
