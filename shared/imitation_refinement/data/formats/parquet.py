"""Parquet tables with one pattern a row.

Needs the columns ``pattern_id``, ``two_theta`` [°] and ``intensity`` (lists); reads ``wavelength`` (a number in Å, or
text as ``CuKa1`` or ``0.15406 nm``), ``crystal_system`` and ``formula`` where they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from imitation_refinement.data.contracts import open_table
from imitation_refinement.data.scans import Axis, AxisKind, Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CrystalSystem
from imitation_refinement.xrd.radiation import parse_wavelength, wavelength_column

EXTENSIONS = (".parquet", ".pq")
TWO_THETA = Axis(AxisKind.TWO_THETA, name="two_theta")


def read(path: Path) -> Iterator[Scan | InputError]:
    """The patterns of a table's file; see :func:`table_scans`."""
    return table_scans(open_table(path), path)


def table_scans(table: pa.Table, path: str | Path) -> Iterator[Scan | InputError]:
    """The patterns of a table in its order, unchecked; an error in the place of a row that can't be read.

    Raises:
        InputError: if a needed column is missing or the table is empty.
    """
    needed = ("pattern_id", "two_theta", "intensity")
    if missing := [name for name in needed if name not in table.column_names]:
        raise InputError(
            path,
            f"has no column {', '.join(map(repr, missing))}; it has {', '.join(table.column_names)}.",
            f"Name the columns {', '.join(needed)}, wavelength.",
        )
    if table.num_rows == 0:
        raise InputError(path, "has no rows.", "Give at least one pattern.")
    lines = wavelength_column(table.column_names, path)
    columns = dict.fromkeys((*needed, *(lines or ())[:1], "crystal_system", "formula"))
    return _rows(table.select([name for name in columns if name in table.column_names]), path, lines)


def _rows(table: pa.Table, path: str | Path, lines: tuple[str, str] | None) -> Iterator[Scan | InputError]:
    seen: set[str] = set()
    row = 0
    for batch in table.to_batches(max_chunksize=256):
        columns = {name: batch[name] for name in batch.schema.names}
        for i in range(batch.num_rows):
            row += 1
            record = {name: column[i] for name, column in columns.items()}
            try:
                scan = _row(record, path, row, lines)
                if scan.name in seen:
                    raise InputError(scan.where, "this pattern_id stands twice.", "Give each pattern its own.")
                seen.add(scan.name)
                yield scan
            except InputError as error:
                yield error


def _row(record: dict[str, Any], path: str | Path, row: int, lines: tuple[str, str] | None) -> Scan:
    name = record["pattern_id"].as_py()
    where = f"{path}, row {row} ({name})"
    if name is None or not str(name).strip():
        raise InputError(f"{path}, row {row}", "has no pattern_id.", "Give each pattern its own.")
    arrays = []
    for key in ("two_theta", "intensity"):
        values = getattr(record[key], "values", None)
        if not isinstance(values, pa.Array) or values.null_count:
            raise InputError(where, f"{key} is no list of numbers.", "Give one number a point.")
        try:
            arrays.append(values.to_numpy(zero_copy_only=False).astype(float))
        except (TypeError, ValueError):
            raise InputError(where, f"{key} is no list of numbers.", "Give one number a point.") from None
    given = {key: value.as_py() for key, value in record.items() if key not in ("two_theta", "intensity")}
    wavelength = as_wavelength(given[lines[0]], where, lines[1]) if lines else None
    system, formula = given.get("crystal_system"), given.get("formula")
    return Scan(
        str(name),
        arrays[0],
        arrays[1],
        TWO_THETA,
        wavelengths=() if wavelength is None else (wavelength,),
        crystal_system=CrystalSystem.parse(str(system), where) if system else None,
        formula=str(formula) if formula else None,
        where=where,
    )


def as_wavelength(value: object, where: object, unit: str = "") -> float | None:
    """A wavelength [Å] from a table's field, which is in ``unit`` or says its own; None where the field is empty.

    Raises:
        InputError: if the field holds no wavelength.
    """
    text = "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()
    return None if text.lower() in ("", "nan") else parse_wavelength(text, where, unit)


FORMAT = Format("Parquet table", EXTENSIONS, lambda head: True, read, rows=True)
