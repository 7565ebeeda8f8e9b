"""Imperfect patterns from files, each with its structure or label where it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from components.collect_structures.cif import read_single
from components.collect_structures.crystals import Reading
from components.collect_structures.labels import check_agreement, normal_formula, parse_space_group, space_group_of
from components.collect_structures.structures import Reader, label_of, records, structure_reader
from imitation_refinement.crystal import CrystalSystem
from imitation_refinement.errors import InputError
from imitation_refinement.patterns import (
    MANIFEST,
    TABLE_SUFFIXES,
    ManifestRow,
    Pattern,
    check_pattern,
    decode,
    manifest_pattern,
    pattern_files,
    read_manifest,
    read_text_pattern,
    table_patterns,
)
from imitation_refinement.progress import progress
from imitation_refinement.tables import open_table

Row = dict[str, Any]


def read_imperfect(path: Path, rejected: list[InputError]) -> list[Row]:
    """Rows of the PATTERNS contract from a Parquet table, a folder with ``manifest.csv``, or pattern files.

    A structure brings its formula and, where no column says them, its space group and crystal system. What can't be
    used is added to ``rejected``.

    Raises:
        InputError: if nothing can be used, or the path is of no known form.
    """
    rows: list[Row] = []
    refused: list[InputError] = []
    seen: set[str] = set()
    for make in _source(path):
        try:
            row = make()
            if row["pattern_id"] in seen:
                raise InputError(f"{path}, {row['pattern_id']}", "this pattern_id stands twice.", "Rename one.")
        except InputError as error:
            refused.append(error)
        else:
            seen.add(row["pattern_id"])
            rows.append(row)
    rejected.extend(refused)
    if not rows:
        raise InputError(path, f"holds no usable pattern; the first of {len(refused)} reasons: {refused[0]}")
    return rows


def _source(path: Path) -> Iterator[Callable[[], Row]]:
    """One function a pattern, which makes its row or raises why not."""
    if (path / MANIFEST).is_file():
        for row in progress(read_manifest(path), f"reading {path.name}", unit="patterns"):
            yield partial(_manifest_row, row)
        return
    for file in pattern_files(path):
        if file.suffix.lower() in TABLE_SUFFIXES:
            yield from _table_rows(file)
        else:
            yield partial(_file_row, file)


def _file_row(file: Path) -> Row:
    return pattern_row(read_text_pattern(file), None, None, None)


def _manifest_row(row: ManifestRow) -> Row:
    found = manifest_pattern(row)
    structure = None
    if row.structure:
        file = row.file.parent / row.structure
        structure = read_single(decode(file), file)
    return pattern_row(found, structure, parse_space_group(row.space_group, row.where), found.crystal_system)


def _table_rows(path: Path) -> Iterator[Callable[[], Row]]:
    table = open_table(path)
    read = structure_reader(table)
    patterns = table_patterns(table, path)
    rest = table.select([name for name in table.column_names if name not in ("two_theta", "intensity")])
    pairs = zip(patterns, records(rest), strict=True)
    for pattern, record in progress(pairs, f"reading {path.name}", table.num_rows, "patterns"):
        yield partial(_table_row, pattern, record, read)


def _table_row(
    pattern: Pattern | InputError,
    record: Mapping[str, Any],
    read: Reader | None,
) -> Row:
    if isinstance(pattern, InputError):
        raise pattern
    structure = read(record, pattern.where) if read else None
    return pattern_row(pattern, structure, *label_of(record, pattern.where))


def pattern_row(
    pattern: Pattern,
    structure: Reading | None,
    space_group: int | None,
    system: CrystalSystem | None,
) -> Row:
    """A checked row of the PATTERNS contract.

    Args:
        pattern: the pattern as it was read.
        structure: the crystal with what its source says, where there is one.
        space_group: what the label says.
        system: what the label says.

    Raises:
        InputError: if the pattern, the structure, or the label can't be used.
    """
    pattern = check_pattern(pattern)
    system = check_agreement(space_group, system, pattern.where)
    row: Row = {
        "pattern_id": pattern.pattern_id,
        "two_theta": pattern.two_theta,
        "intensity": pattern.intensity.astype(np.float32),
        "wavelength": pattern.wavelength,
        "formula": normal_formula(pattern.formula) if pattern.formula else None,
        "origin": "file",
    }
    if structure is not None:
        row |= structure.crystal.columns() | {"formula": structure.formula}
        if system is None:
            space_group = space_group_of(structure.crystal, structure.space_group, pattern.where)
            system = CrystalSystem.from_space_group(space_group)
    return row | {"space_group": space_group, "crystal_system": system}
