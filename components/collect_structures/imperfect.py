"""Imperfect patterns from files, each with its structure or label where it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from components.collect_structures.cif import read_single
from components.collect_structures.crystals import Reading
from components.collect_structures.labels import check_agreement, named, parse_space_group, space_group_of
from components.collect_structures.structures import Reader, label_of, records, structure_reader
from imitation_refinement.data.contracts import open_table
from imitation_refinement.data.formats.parquet import EXTENSIONS as TABLES
from imitation_refinement.data.formats.parquet import table_scans
from imitation_refinement.data.patterns import (
    MANIFEST,
    ManifestRow,
    Pattern,
    file_scans,
    manifest_scan,
    pattern_files,
    pattern_of,
    read_manifest,
    say_remarks,
)
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import decode
from imitation_refinement.progress import progress
from imitation_refinement.xrd.crystal import CrystalSystem

Row = dict[str, Any]
Labelled = tuple[Pattern, Reading | None, int | None, CrystalSystem | None]  # what pattern_row takes
UNSAID = (None, "", "?", ".")  # the last two as in a CIF


def read_imperfect(path: Path, rejected: list[InputError]) -> list[Row]:
    """Rows of the PATTERNS contract from a Parquet table, a folder with ``manifest.csv``, or pattern files.

    A structure brings its formula and, where no column says them, its space group and crystal system. What can't be
    used is added to ``rejected``.

    Raises:
        InputError: if nothing can be used, or the path is of no known form.
    """
    rows: list[Row] = []
    noted: list[Pattern] = []
    refused: list[InputError] = []
    seen: set[str] = set()
    for make in _source(path):
        try:
            labelled = make()
            row = pattern_row(*labelled)
            if row["pattern_id"] in seen:
                raise InputError(f"{path}, {row['pattern_id']}", "this pattern_id stands twice.", "Rename one.")
        except InputError as error:
            refused.append(error)
        else:
            seen.add(row["pattern_id"])
            rows.append(row)
            noted.append(labelled[0])
    say_remarks(noted)
    rejected.extend(refused)
    if not rows:
        raise InputError(path, f"holds no usable pattern; the first of {len(refused)} reasons: {refused[0]}")
    return rows


def _source(path: Path) -> Iterator[Callable[[], Labelled]]:
    """One function a pattern, which gives it with its label or raises why not."""
    if (path / MANIFEST).is_file():
        for row in progress(read_manifest(path), f"reading {path.name}", unit="patterns"):
            yield partial(_manifest_row, row)
        return
    for file in pattern_files(path):
        if file.suffix.lower() in TABLES:
            yield from _table_rows(file)
        else:
            for scan in file_scans(file):
                yield partial(_file_row, scan)


def _file_row(scan: Scan | InputError) -> Labelled:
    if isinstance(scan, InputError):
        raise scan
    return pattern_of(scan), None, None, None


def _manifest_row(row: ManifestRow) -> Labelled:
    found = pattern_of(manifest_scan(row))
    structure = None
    if row.structure:
        file = row.file.parent / row.structure
        structure = read_single(decode(file), file)
    return found, structure, parse_space_group(row.space_group, row.where), found.crystal_system


def _table_rows(path: Path) -> Iterator[Callable[[], Labelled]]:
    table = open_table(path)
    read = structure_reader(table)
    scans = table_scans(table, path)
    rest = table.select([name for name in table.column_names if name not in ("two_theta", "intensity")])
    pairs = zip(scans, records(rest), strict=True)
    for scan, record in progress(pairs, f"reading {path.name}", table.num_rows, "patterns"):
        yield partial(_table_row, scan, record, read)


def _table_row(
    scan: Scan | InputError,
    record: Mapping[str, Any],
    read: Reader | None,
) -> Labelled:
    if isinstance(scan, InputError):
        raise scan
    structure = read(record, scan.where) if read else None
    return pattern_of(scan), structure, *label_of(record, scan.where)


def pattern_row(
    pattern: Pattern,
    structure: Reading | None,
    space_group: int | None,
    system: CrystalSystem | None,
) -> Row:
    """A checked row of the PATTERNS contract. The material's name is what the structure holds, else what is said.

    Args:
        pattern: a checked pattern.
        structure: the crystal with what its source says, where there is one.
        space_group: what the label says.
        system: what the label says.

    Raises:
        InputError: if the structure or the label can't be used.
    """
    system = check_agreement(space_group, system, pattern.where)
    row: Row = {
        "pattern_id": pattern.pattern_id,
        "two_theta": pattern.two_theta,
        "intensity": pattern.intensity.astype(np.float32),
        "wavelength": pattern.wavelength,
        "origin": "file",
    }
    if structure is not None:
        row |= structure.crystal.columns() | {"formula": structure.formula}
        if system is None:
            space_group = space_group_of(structure.crystal, structure.space_group, pattern.where)
            system = CrystalSystem.from_space_group(space_group)
    else:
        row["formula"] = named(pattern.formula, pattern.where) if pattern.formula not in UNSAID else None
    return row | {"space_group": space_group, "crystal_system": system}
