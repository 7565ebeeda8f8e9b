"""Structures from files: one reader a form, all giving materials or the reason why not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from components.collect_structures.archives import ARCHIVE_SUFFIXES, cif_members
from components.collect_structures.cif import cif_files, read_block, read_blocks, read_single
from components.collect_structures.crystals import HEAVIEST, Crystal, Material, Reading, check_crystal, from_pymatgen
from components.collect_structures.duplicates import mark_duplicates
from components.collect_structures.labels import check_agreement, parse_space_group, space_group_of
from components.collect_structures.symmetry import is_higher, number_of
from components.collect_structures.workers import ordered_map
from imitation_refinement.data.contracts import open_table
from imitation_refinement.data.formats.parquet import EXTENSIONS as TABLES
from imitation_refinement.data.patterns import LONGEST_ID
from imitation_refinement.errors import InputError, shown
from imitation_refinement.files import as_text, files_in, is_file, parse_json, read_bytes
from imitation_refinement.progress import progress
from imitation_refinement.xrd.crystal import CrystalSystem

T = TypeVar("T")
Reader = Callable[[Mapping[str, Any], object], Reading | None]  # of a row; None where it has no structure

CONTRACT = ("lattice", "atomic_number", "occupancy", "position")
BATCH, IN_ONE = (
    64,
    3000,
)  # structures that a process reads at a time; so many are read by one: others take seconds to start
ID_COLUMNS = ("material_id", "id", "amcsd_id", "cod_id")


@dataclass(frozen=True)
class Entry:
    """A structure as it stands in a table or a database.

    Attributes:
        material_id: its name there.
        source: where it is from, as the column ``source`` says it.
        where: the same for messages.
        record: what a :data:`Reader` reads; ``space_group`` and ``crystal_system`` are its label, where they are.
    """

    material_id: str
    source: str
    where: str
    record: Mapping[str, Any]


def read_structures(path: Path, rejected: list[InputError], workers: int = 1) -> list[Material]:
    """The materials of Parquet tables (one or a folder) or CIFs (a folder, an archive, one); see :func:`gather`.

    Args:
        path: where they are.
        rejected: what can't be used is added to it.
        workers: processes that read more than IN_ONE structures; 0 for as many as there are cores.

    Raises:
        InputError: if nothing can be used, or the path is of no known form.
    """
    return gather(_source(path, workers), path, rejected)


def gather(items: Iterable[Material | InputError], where: object, rejected: list[InputError]) -> list[Material]:
    """The materials of a source. Those that come twice are marked, see :func:`mark_duplicates`.

    Args:
        items: the materials, or the reasons why not.
        where: the source.
        rejected: what can't be used is added to it.

    Raises:
        InputError: if nothing can be used.
    """
    materials: list[Material] = []
    seen: set[str] = set()
    refused: list[InputError] = []
    for item in items:
        if isinstance(item, InputError):
            refused.append(item)
        elif item.material_id in seen:
            refused.append(InputError(f"{where}, {item.material_id}", "this material_id stands twice.", "Rename one."))
        else:
            seen.add(item.material_id)
            materials.append(item)
    rejected.extend(refused)
    if not materials:
        raise InputError(where, f"holds no usable structure; the first of {len(refused)} reasons: {refused[0]}")
    return mark_duplicates(materials)


def _source(path: Path, workers: int) -> Iterator[Material | InputError]:
    if path.is_dir():
        tables = files_in(path, TABLES)
        return _tables(tables, workers) if tables else read_cif_folder(path, workers)
    if not is_file(path):
        raise InputError(path, "there is no such file or folder.", "Check the path.")
    if path.suffix.lower() == ".cif":
        return iter(read_cif(str(path), path.name, path))
    if path.name.lower().endswith(ARCHIVE_SUFFIXES):
        return read_cif_archive(path, workers)
    if path.suffix.lower() in TABLES:
        return read_structure_table(path, workers)
    raise InputError(
        path,
        f"has the unknown suffix {path.suffix!r}.",
        "Give a .parquet table, a folder of such tables, or a folder or archive of CIFs.",
    )


def _tables(paths: Iterable[Path], workers: int) -> Iterator[Material | InputError]:
    for path in paths:
        yield from read_structure_table(path, workers)


def read_cif_folder(folder: Path, workers: int = 1) -> Iterator[Material | InputError]:
    """The materials of all CIFs in a folder and the folders in it; names are relative paths.

    Raises:
        InputError: if there is no CIF.
    """
    files = cif_files(folder)
    named = ((str(file), file.relative_to(folder).as_posix(), file) for file in files)
    yield from _read_cifs(named, f"reading {folder.name}", len(files), workers)


def read_cif_archive(path: Path, workers: int = 1) -> Iterator[Material | InputError]:
    """The materials of all CIFs in a zip or tar archive; names are the members'.

    Raises:
        InputError: if it can't be read or holds no CIF.
    """
    named = ((f"{path}, {name}", name, content) for name, content in cif_members(path))
    yield from _read_cifs(named, f"reading {path.name}", None, workers)


def _read_cifs(
    cifs: Iterable[tuple[str, str, Path | bytes | InputError]], label: str, total: int | None, workers: int
) -> Iterator[Material | InputError]:
    read = chain.from_iterable(ordered_map(_read_batch, _batches(cifs), _processes(total, workers)))
    yield from chain.from_iterable(progress(read, label, total, "files"))


def _read_batch(cifs: Sequence[tuple[str, str, Path | bytes | InputError]]) -> list[list[Material | InputError]]:
    return [read_cif(*cif) for cif in cifs]


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    source = iter(items)
    while batch := list(islice(source, BATCH)):
        yield batch


def _processes(total: int | None, workers: int) -> int:
    """Processes that so many structures are read by."""
    return workers if total is None or total > IN_ONE else 1


def read_cif(where: object, name: str, content: Path | bytes | InputError) -> list[Material | InputError]:
    """The materials of a CIF, one a block with atoms, named after the file."""
    stem = shown(name[: -len(".cif")])
    if not 0 < len(stem) <= LONGEST_ID:
        problem = f"has a name of {len(name)} characters."
        return [InputError(where, problem, f"Give it one of {LONGEST_ID} at most.")]
    out: list[Material | InputError] = []
    if isinstance(content, InputError):
        return [content]
    try:
        blocks = read_blocks(as_text(read_bytes(content) if isinstance(content, Path) else content), where)
    except InputError as error:
        return [error]
    for block in blocks:
        single = len(blocks) == 1
        place = str(where) if single else f"{where}, block {block.name}"
        try:
            found = read_block(block, place)
            out.append(make_material(stem if single else f"{stem}:{block.name}", found, name, place))
        except InputError as error:
            out.append(error)
    return out


def make_material(material_id: str, found: Reading, source: str, where: object) -> Material:
    """A reading with its names.

    Raises:
        InputError: if it has no space group.
    """
    number = space_group_of(found.crystal, found.space_group, where)
    return Material(
        material_id, found.formula, number, found.crystal, source, "; ".join(dict.fromkeys(found.remarks)) or None
    )


def read_structure_table(path: Path, workers: int = 1) -> Iterator[Material | InputError]:
    """The materials of a Parquet table.

    It holds the structures as pymatgen's dictionaries in JSON (``structure_json``), as CIF text (``cif``), or in the
    columns of the STRUCTURES contract; ``material_id``, ``space_group`` and ``crystal_system`` where they are.

    Raises:
        InputError: if no column holds structures, or there are no rows.
    """
    table = open_table(path)
    read = structure_reader(table)
    if read is None:
        raise InputError(
            path,
            f"has no column of structures; it has {', '.join(table.column_names)}.",
            f"Name one structure_json or cif, or give the columns {', '.join(CONTRACT)}.",
        )
    if table.num_rows == 0:
        raise InputError(path, "has no rows.", "Give at least one structure.")
    column = next((name for name in ID_COLUMNS if name in table.column_names), None)
    rows = (_row(path, column, number, record) for number, record in enumerate(records(table), 1))
    return read_rows(read, rows, f"reading {path.name}", table.num_rows, workers)


def _row(path: Path, column: str | None, number: int, record: Mapping[str, Any]) -> Entry:
    name = record.get(column or "")
    material_id = f"{path.stem}-{number if name is None else name}" if name is None or _is_number(name) else str(name)
    material_id = shown(material_id, LONGEST_ID - 1).strip() or f"{path.stem}-{number}"
    return Entry(material_id, path.name, f"{path}, row {number} ({material_id})", record)


def read_rows(
    read: Reader, rows: Iterable[Entry], label: str, total: int, workers: int = 1
) -> Iterator[Material | InputError]:
    """The materials of rows, in their order.

    Args:
        read: what a process reads each with.
        rows: the rows.
        label: what the work is called.
        total: how many rows there are.
        workers: processes that read more than IN_ONE rows; 0 for as many as there are cores.
    """
    found = chain.from_iterable(ordered_map(partial(_read_rows, read), _batches(rows), _processes(total, workers)))
    return progress(found, label, total, "structures")


def _read_rows(read: Reader, rows: Sequence[Entry]) -> list[Material | InputError]:
    return [_read_row(read, row) for row in rows]


def _read_row(read: Reader, row: Entry) -> Material | InputError:
    try:
        found = read(row.record, row.where)
        if found is None:
            raise InputError(row.where, "has no structure.", "Give one or leave the row out.")
        label, system = label_of(row.record, row.where)
        return make_material(row.material_id, _labelled(found, label, system, row.where), row.source, row.where)
    except InputError as error:
        return error


def _labelled(found: Reading, label: int | None, system: CrystalSystem | None, where: object) -> Reading:
    """A reading with the space group that its row says first, unless its atoms have a higher crystal system.

    Raises:
        InputError: if the crystal system of the row is another than that of its space group.
    """
    own = found.space_group
    if label is None:
        number = space_group_of(found.crystal, own, where)
        check_agreement(number, system, where)
        return replace(found, space_group=number)
    implied = CrystalSystem.from_space_group(label)
    if own is not None and CrystalSystem.from_space_group(own) is implied:  # reading looked for more
        return replace(found, space_group=label)
    remarks = list(found.remarks)
    if own is not None:
        remarks.append(f"its row says space group {label}, its CIF {own}")
    atoms = number_of(found.crystal)
    if atoms is None or CrystalSystem.from_space_group(atoms) is implied:
        return replace(found, space_group=label, remarks=tuple(remarks))
    taken = atoms if is_higher(atoms, label) else label
    remarks.append(f"said to be {label}, but its atoms have space group {atoms} within 0.01 Å: taken as {taken}")
    return replace(found, space_group=taken, remarks=tuple(remarks))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) or str(value).isdigit()


def label_of(record: Mapping[str, Any], where: object) -> tuple[int | None, CrystalSystem | None]:
    """The space group and crystal system that a row's columns say.

    Raises:
        InputError: if one is unknown or they contradict each other.
    """
    number = parse_space_group(record.get("space_group"), where)
    text = record.get("crystal_system")
    system = CrystalSystem.parse(str(text), where) if text else None
    return number, check_agreement(number, system, where)


def records(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table, some at a time in memory."""
    for batch in table.to_batches(max_chunksize=512):
        yield from batch.to_pylist()


def structure_reader(table: pa.Table) -> Reader | None:
    """How to read the structure of a table's row; None if no column holds structures."""
    names = table.column_names
    if "structure_json" in names:
        return from_json
    if "cif" in names:
        return _from_cif
    return _from_columns if all(name in names for name in CONTRACT) else None


def from_json(record: Mapping[str, Any], where: object) -> Reading | None:
    """The checked crystal of a row's ``structure_json``, which says no space group; None where there is none.

    Raises:
        InputError: if it is no pymatgen structure, or no crystal.
    """
    if record["structure_json"] in (None, "", "null"):
        return None
    try:
        crystal = from_pymatgen(parse_json(record["structure_json"]))
    except (KeyError, TypeError, ValueError) as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise InputError(
            where, f"structure_json is no pymatgen structure ({kind}{error}).", "Write it with Structure.to_json()."
        ) from None
    check_crystal(crystal, where)
    return Reading(crystal)


def _from_cif(record: Mapping[str, Any], where: object) -> Reading | None:
    return read_single(str(record["cif"]), where) if record["cif"] else None


def _from_columns(record: Mapping[str, Any], where: object) -> Reading | None:
    values = [record[name] for name in CONTRACT]
    if all(value is None for value in values):
        return None
    try:
        lattice, numbers, occupancy, position = (np.array(value, float) for value in values)
        if any(array.ndim != 1 for array in (lattice, numbers, occupancy, position)):
            raise ValueError("they are no lists")
        crystal = Crystal(lattice.reshape(3, 3), numbers.astype(np.int16), occupancy, position.reshape(-1, 3))
    except (TypeError, ValueError) as error:
        raise InputError(where, f"the structure's columns hold no numbers ({error}).", "Write it again.") from None
    if not len(crystal.numbers) == len(crystal.occupancy) == len(crystal.positions):
        raise InputError(where, "the structure's columns are of different lengths.", "Write it again.")
    if not np.isin(numbers, np.arange(1, HEAVIEST + 1)).all():
        raise InputError(where, f"has an atomic number outside 1 to {HEAVIEST}.", "Correct it or leave the row out.")
    check_crystal(crystal, where)
    return Reading(crystal)
