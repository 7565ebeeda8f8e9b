"""The Parquet contracts: what is written is read, what breaks them is refused by file and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imitation_refinement.data.contracts import (
    PATTERNS,
    STRUCTURES,
    gridded_schema,
    ideal_schema,
    matrix,
    measured_schema,
    null_rows,
    open_table,
    parts,
    read_batches,
    read_grid,
    read_gridded,
    read_table,
    to_table,
    write_rejected,
    write_table,
)
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.grid import Grid

GRID = Grid(points=64)
RNG = np.random.default_rng(0)
STRUCTURE: dict[str, Any] = {
    "material_id": ["a", "b"],
    "formula": ["NaCl", "Si"],
    "space_group": [225, 227],
    "crystal_system": ["cubic", "cubic"],
    "lattice": [np.eye(3).ravel() * 5.64, (np.eye(3) * 5.43).ravel().tolist()],
    "atomic_number": [[11, 17], [14]],
    "occupancy": [[1.0, 1.0], [0.5]],
    "position": [[0.0, 0, 0, 0.5, 0.5, 0.5], [0.0, 0, 0]],
}


def test_structures_round_trip(tmp_path: Path) -> None:
    write_table(tmp_path / "s.parquet", STRUCTURE, STRUCTURES)
    table = read_table(tmp_path / "s.parquet", STRUCTURES)
    assert table.schema.equals(STRUCTURES)
    rows = table.to_pylist()
    assert rows[0]["lattice"] == [5.64, 0, 0, 0, 5.64, 0, 0, 0, 5.64]
    assert rows[1]["atomic_number"] == [14] and rows[1]["source"] is None
    assert [p.name for p in tmp_path.iterdir()] == ["s.parquet"]


def test_missing_values_of_every_kind_become_null(tmp_path: Path) -> None:
    columns = pd.DataFrame(
        {
            "pattern_id": ["a", "b", "c"],
            "origin": ["file"] * 3,
            "wavelength": [1.5, np.nan, None],
            "formula": ["Si", None, pd.NA],
            "two_theta": [[1.0, 2.0], None, float("nan")],
        }
    )
    write_table(tmp_path / "p.parquet", columns, PATTERNS)
    table = read_table(tmp_path / "p.parquet", PATTERNS)
    for name in ("wavelength", "formula", "two_theta", "crystal_system"):
        assert table[name].null_count == (3 if name == "crystal_system" else 2), name


def imperfect(n: int = 5) -> dict[str, Any]:
    theory = RNG.random((n, 64), dtype=np.float32)
    theory[::2] = np.nan
    return {
        "pattern_id": [f"p{i}" for i in range(n)],
        "formula": ["Si"] * n,
        "crystal_system": ["cubic", None] + ["trigonal"] * (n - 2),
        "split": ["train"] * n,
        "scale": np.arange(n) + 1.0,
        "intensity": RNG.random((n, 64), dtype=np.float32),
        "theory": null_rows(theory),
    }


def test_gridded_round_trip(tmp_path: Path) -> None:
    columns = imperfect()
    write_table(tmp_path / "i.parquet", columns, gridded_schema(GRID))
    rows, grid, patterns = read_gridded(tmp_path / "i.parquet", "imperfect")
    assert grid == GRID
    np.testing.assert_array_equal(patterns["intensity"], columns["intensity"])
    theory = matrix(pa.chunked_array([columns["theory"]]), 64)
    np.testing.assert_array_equal(patterns["theory"], theory)
    assert np.isnan(patterns["theory"]).all(1).tolist() == [True, False, True, False, True]
    assert rows["scale"].tolist() == [1, 2, 3, 4, 5]
    assert "intensity" not in rows and rows["crystal_system"].isna().tolist() == [False, True, False, False, False]


def test_ideal_round_trip(tmp_path: Path) -> None:
    columns = {name: STRUCTURE[name] for name in ("material_id", "formula", "crystal_system")}
    intensity = RNG.random((2, 64), dtype=np.float32)
    write_table(tmp_path / "i.parquet", {**columns, "intensity": intensity}, ideal_schema(GRID))
    rows, _, patterns = read_gridded(tmp_path / "i.parquet", "ideal")
    np.testing.assert_array_equal(patterns["intensity"], intensity)
    assert list(patterns) == ["intensity"] and rows["split"].isna().all()


@pytest.mark.parametrize("null", [[], [0], [2, 3], [0, 1, 2, 3, 4]])
def test_rows_without_a_pattern_are_nan(tmp_path: Path, null: list[int]) -> None:
    values = RNG.random((5, 64), dtype=np.float32)
    values[null] = np.nan
    table = pa.table({"a": null_rows(values).cast(pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    np.testing.assert_array_equal(matrix(pq.read_table(tmp_path / "t.parquet")["a"], 64), values)
    np.testing.assert_array_equal(matrix(table["a"].slice(1, 3), 64), values[1:4])


def broken(tmp_path: Path, name: str, table: pa.Table) -> Path:
    pq.write_table(table, tmp_path / name)
    return tmp_path / name


def test_broken_contracts_name_file_and_column(tmp_path: Path) -> None:
    good = to_table(STRUCTURE, STRUCTURES)
    path = broken(tmp_path, "less.parquet", good.drop_columns(["position"]))
    with pytest.raises(InputError, match=r"less\.parquet: has no column 'position'; it has material_id, .*the table"):
        read_table(path, STRUCTURES)
    kind = good.set_column(2, "space_group", pa.array(["Fm-3m", "Fd-3m"]))
    with pytest.raises(InputError, match=r"kind\.parquet: column 'space_group' is string, not int16"):
        read_table(broken(tmp_path, "kind.parquet", kind), STRUCTURES)
    with pytest.raises(InputError, match=r"none\.parquet: has no rows"):
        read_table(broken(tmp_path, "none.parquet", good.slice(0, 0)), STRUCTURES)
    more = good.append_column("note", pa.array(["x", "y"]))
    assert read_table(broken(tmp_path, "more.parquet", more), STRUCTURES).num_rows == 2


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("occupancy", [None], "occupancy has an empty place"),
        ("occupancy", [np.inf], "occupancy holds a number that is not finite"),
        ("occupancy", [1.2], "has an occupancy that is not within 0 to 1"),
        ("atomic_number", [119], "has an atomic number outside 1 to 118"),
        ("position", [0.0, 0.0], "the structure's columns don't fit together"),
    ],
)
def test_damaged_values_are_told_by_their_row(
    tmp_path: Path, column: str, value: list[float | None], said: str
) -> None:
    first, last = ({name: values[i] for name, values in STRUCTURE.items()} for i in (0, 1))
    without = first | dict.fromkeys(("lattice", "atomic_number", "occupancy", "position"))
    table = pa.Table.from_pylist([first, without, first, last | {column: value}], STRUCTURES)
    path = broken(tmp_path, "s.parquet", table)
    with pytest.raises(InputError, match=rf"s\.parquet, row 4: {said}"):
        read_table(path, STRUCTURES)
    batches = read_batches(path, STRUCTURES, 3)
    assert next(batches).num_rows == 3
    with pytest.raises(InputError, match=rf"s\.parquet, row 4: {said}"):
        next(batches)


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("two_theta,intensity\n")
    (tmp_path / "empty.parquet").touch()
    write_table(tmp_path / "good.parquet", STRUCTURE, STRUCTURES)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "good.parquet").read_bytes()[:-20])
    for name in ("text", "empty", "cut"):
        for read in (open_table, read_grid):
            with pytest.raises(InputError, match=rf"{name}\.parquet: is no"):
                read(tmp_path / f"{name}.parquet")
    for read in (open_table, read_grid):
        with pytest.raises(InputError, match="no such file"):
            read(tmp_path / "nowhere.parquet")
    with pytest.raises(InputError, match=r"good\.parquet: is no Parquet table with a grid"):
        read_gridded(tmp_path / "good.parquet", "ideal")


def test_another_grid_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "i.parquet", imperfect(), gridded_schema(GRID))
    assert read_grid(tmp_path / "i.parquet", GRID) == GRID
    with pytest.raises(InputError, match=r"i\.parquet: is on the grid .*points=64.*points=128"):
        read_grid(tmp_path / "i.parquet", Grid(points=128))


def test_nothing_is_written_where_the_columns_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write_table(path, STRUCTURE, STRUCTURES)
    before = path.read_bytes()
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write_table(path, {**STRUCTURE, "space_group": ["many", "few"]}, STRUCTURES)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_schemas_carry_the_grid() -> None:
    for schema in (ideal_schema(GRID), gridded_schema(GRID), measured_schema(GRID)):
        assert Grid.from_metadata(schema.metadata) == GRID
    for schema in (ideal_schema(GRID), gridded_schema(GRID)):
        assert schema.field("intensity").type == pa.list_(pa.float32(), 64)


def test_rejected_list(tmp_path: Path) -> None:
    write_rejected(tmp_path / "r.csv", [InputError("a.cif, row 1", 'has "quotes", and commas.', "Remove them.")])
    (row,) = pd.read_csv(tmp_path / "r.csv").to_dict("records")
    assert row == {"item": "a.cif, row 1", "reason": 'has "quotes", and commas.', "remedy": "Remove them."}
    write_rejected(tmp_path / "r.csv", [])
    assert (tmp_path / "r.csv").read_text() == "item,reason,remedy\n"


def test_parts_pass_hidden_files_over(tmp_path: Path) -> None:
    for name in ("part-1.parquet", "part-0.parquet", "._part-0.parquet", ".part-2.parquet.x", "part-0.parquet~"):
        (tmp_path / name).touch()
    assert [path.name for path in parts(tmp_path)] == ["part-0.parquet", "part-1.parquet"]


def test_of_a_long_table_a_few_rows_are_in_memory(tmp_path: Path) -> None:
    """Nothing that was read is kept; row groups of uneven sizes."""
    grid, path = Grid(points=512), tmp_path / "long.parquet"
    schema, names = ideal_schema(grid), [f"m{i:05}" for i in range(16_384)]
    with pq.ParquetWriter(path, schema) as writer:
        for start, stop in ((0, 300), (300, 301), *((i, i + 256) for i in range(301, 16_384, 256))):
            own = names[start:stop]
            columns = {"material_id": own, "formula": own, "crystal_system": ["cubic"] * len(own)}
            columns["intensity"] = np.ones((len(own), grid.points), np.float32)
            writer.write_table(to_table(columns, schema))
    before, most, found = pa.total_allocated_bytes(), 0, []
    for batch in read_batches(path, schema, 512):
        assert len(batch) <= 512
        found += batch["material_id"].to_pylist()
        most = max(most, pa.total_allocated_bytes() - before)
    assert found == names and most < 8 << 20  # of 32 MiB
    with pytest.raises(InputError, match=r"row 16384: unknown crystal_system 'x'"):
        broken = pq.read_table(path).to_pydict() | {"crystal_system": ["cubic"] * 16_383 + ["x"]}
        broken["intensity"] = np.ones((16_384, grid.points), np.float32)
        pq.write_table(to_table(broken, schema), path, row_group_size=1000)
        list(read_batches(path, schema, 1500))


def test_texts_alone_have_dictionaries(tmp_path: Path) -> None:
    """Those of intensities made a table of patterns larger by half."""
    columns = {"material_id": ["a", "b"], "formula": ["Si", "Si"], "crystal_system": ["cubic", "cubic"]}
    patterns = RNG.random((2, GRID.points), dtype=np.float32)
    write_table(tmp_path / "t", columns | {"intensity": patterns}, ideal_schema(GRID))
    group = pq.read_metadata(tmp_path / "t").row_group(0)
    found = {(one := group.column(i)).path_in_schema: "RLE_DICTIONARY" in one.encodings for i in range(5)}
    assert found.pop("intensity.list.element") is False and found["formula"] and found["material_id"]
