"""Tables of patterns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imitation_refinement.data.formats.parquet import table_scans
from imitation_refinement.data.patterns import read_patterns
from imitation_refinement.errors import InputError

ANGLES = np.linspace(10, 80, 100)
COUNTS = np.arange(100.0) + 5


def table(**columns: list) -> pa.Table:
    n = len(next(iter(columns.values())))
    return pa.table({"two_theta": [list(ANGLES)] * n, "intensity": [list(COUNTS)] * n} | columns)


def test_parquet_table(tmp_path: Path) -> None:
    rows = table(
        pattern_id=["a", "b", "b", "c", "d", "e"],
        wavelength=[1.5406, None, 1.0, float("nan"), 1.0, 1.0],
        crystal_system=["cubic", None, None, None, "round", " Hexagonal"],
        formula=["NaCl", None, None, None, None, None],
    )
    pq.write_table(rows, tmp_path / "t.parquet")
    patterns, errors = read_patterns(tmp_path / "t.parquet")
    assert [(p.pattern_id, p.crystal_system, p.formula) for p in patterns] == [
        ("a", "cubic", "NaCl"),
        ("e", "hexagonal", None),
    ]
    text = "\n".join(map(str, errors))
    assert len(errors) == 4
    for expected in (
        "row 2 (b): does not say",
        "row 3 (b): this pattern_id",
        "row 4 (c): does not",
        "unknown crystal_s",
    ):
        assert expected in text


def test_table_rows_that_are_no_lists_are_refused(tmp_path: Path) -> None:
    rows = pa.table({"pattern_id": ["a", None], "two_theta": [None, [1.0]], "intensity": [[1.0], [1.0]]})
    found = list(table_scans(rows, "t"))
    assert [str(e) for e in found] == [
        "t, row 1 (a): two_theta is no list of numbers. Give one number a point.",
        "t, row 2: has no pattern_id. Give each pattern its own.",
    ]
    words = pa.table({"pattern_id": ["a"], "two_theta": [["x"]], "intensity": [[1.0]]})
    assert "no list of numbers" in str(next(table_scans(words, "t")))


def test_wrong_columns_and_empty_tables_are_refused() -> None:
    with pytest.raises(InputError, match="has no column 'pattern_id', 'intensity'; it has two_theta"):
        table_scans(pa.table({"two_theta": [[1.0]]}), "t")
    with pytest.raises(InputError, match="no rows"):
        table_scans(table(pattern_id=["a"]).slice(0, 0), "t")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("wavelength", ["CuKa1", "Cu Kα1", "0.154056 nm", "1.54056 Å", "1.54056e-10 m", "1.54056"]),
        ("wavelength_nm", [0.154056] * 6),
        ("Wavelength [pm]", [154.056] * 6),
        ("radiation", ["CuKα1"] * 6),
    ],
)
def test_a_wavelength_is_read_with_its_unit_and_by_its_name(tmp_path: Path, column: str, values: list) -> None:
    pq.write_table(table(pattern_id=list("abcdef"), **{column: values}), tmp_path / "t.parquet")
    patterns, errors = read_patterns(tmp_path / "t.parquet")
    assert not errors and [p.wavelength for p in patterns] == pytest.approx([1.54056] * 6)


def test_wavelength_columns_that_say_two_things_are_refused() -> None:
    with pytest.raises(InputError, match="several columns of wavelengths: wavelength, lambda"):
        table_scans(table(pattern_id=["a"], **{"wavelength": [1.0], "lambda": [2.0]}), "t")
    with pytest.raises(InputError, match="'wavelength_mm': its unit is not known"):
        table_scans(table(pattern_id=["a"], wavelength_mm=[1.0]), "t")
