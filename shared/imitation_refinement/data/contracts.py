"""The Parquet contracts between the stages: schemas, checked reading, whole writing.

Four tables travel through the pipeline:

* ``STRUCTURES``: crystal structures as flat arrays that read fast.
* ``PATTERNS``: imperfect patterns as they were measured, each with a structure where one is known.
* ``IDEAL``: gridded ideal patterns of the structures.
* ``GRIDDED``: gridded imperfect patterns with their gridded theory.

``IDEAL`` and ``GRIDDED`` carry their :class:`.grid.Grid` in the schema's metadata, ``IDEAL`` also how many of its
structures have a remark, where there are any. All four say there where their content came from at first. A table of
very many rows is a folder of Parquet files, the rows of one following those of the other by the files' names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imitation_refinement.errors import InputError
from imitation_refinement.files import SOURCES_KEY, cell, files_in, write_text, writing, writing_folder
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid

if TYPE_CHECKING:
    import pandas as pd  # takes a third of a second: processes that only read structures do without

REMARKED_KEY = b"structures_with_remark"  # of the schema's metadata
MOST_VALUES, LEAST_BITS = 1 << 26, 0.5  # of a table as a user gives it: more than so many need so many bits each
HEAVIEST = 118  # atomic number; what has no form factors is left out where it is simulated
MOST_EDGE = 600.0  # [Å] of a cell
REPEATED = ["formula", "crystal_system", "split"]  # texts of few values
ROWS_PER_FILE = 100_000  # of a table that grows with the data; with 4,501 points a pattern 1.8 GB before compression

# Columns that may be null are lists of any length: Arrow (25) can't read fixed-size lists with nulls from Parquet.
# A structure: one entry a site and species, so that a mixed site stands twice with its occupancies.
_STRUCTURE_FIELDS = [
    pa.field("lattice", pa.list_(pa.float64())),  # nine numbers, rows a, b, c [Å]
    pa.field("atomic_number", pa.list_(pa.int16())),
    pa.field("occupancy", pa.list_(pa.float64())),
    pa.field("position", pa.list_(pa.float64())),  # fractional, x y z of each entry in turn
]

STRUCTURES = pa.schema(
    [
        pa.field("material_id", pa.string(), nullable=False),
        pa.field("formula", pa.string(), nullable=False),  # reduced; the material that splits keep together
        pa.field("space_group", pa.int16(), nullable=False),
        pa.field("crystal_system", pa.string(), nullable=False),
        *_STRUCTURE_FIELDS,
        pa.field("source", pa.string()),  # where the structure comes from and how it was changed
        pa.field("remark", pa.string()),  # what contradicted in its source and how it was settled; null: nothing
    ]
)

PATTERNS = pa.schema(
    [
        pa.field("pattern_id", pa.string(), nullable=False),
        pa.field("two_theta", pa.list_(pa.float64())),  # [°]; null: still to be measured, virtually
        pa.field("intensity", pa.list_(pa.float32())),  # counts or arbitrary
        pa.field("wavelength", pa.float64()),  # [Å]
        pa.field("formula", pa.string()),
        pa.field("space_group", pa.int16()),
        pa.field("crystal_system", pa.string()),
        *_STRUCTURE_FIELDS,
        pa.field("origin", pa.string(), nullable=False),  # "file" or "virtual"
        pa.field("part", pa.string()),  # "test": to be tested on alone; "kept_out": see preprocess; null: split there
        pa.field("parameters", pa.string()),  # the virtual diffractometer's draw, JSON
        pa.field("theory_two_theta", pa.list_(pa.float64())),  # peaks of the structure [°] at `wavelength`
        pa.field("theory_intensity", pa.list_(pa.float64())),  # largest 100
    ]
)

_STRUCTURE = tuple(field.name for field in _STRUCTURE_FIELDS)

ANSWERS = pa.schema(  # of methods without a network, to every imperfect pattern, or to those of the test part
    [pa.field(name, pa.string(), nullable=False) for name in ("pattern_id", "method", "crystal_system")]
)

_SPLIT = pa.field("split", pa.string())  # train, validation, test, held_out; null before preprocessing


_THEORY = pa.field("theory", pa.list_(pa.float32()))  # one number a point of the grid; null without a structure


def _pattern(name: str, grid: Grid) -> pa.Field:
    return pa.field(name, pa.list_(pa.float32(), grid.points))


def ideal_schema(grid: Grid, remarked: int = 0) -> pa.Schema:
    """Schema of gridded ideal patterns; each ``intensity`` has its maximum at 1.

    Args:
        grid: of the patterns.
        remarked: structures with a remark among those that the patterns were simulated from.
    """
    fields = [STRUCTURES.field(name) for name in ("material_id", "formula", "crystal_system")]
    counted = {REMARKED_KEY: str(remarked).encode()} if remarked else {}
    return pa.schema([*fields, _SPLIT, _pattern("intensity", grid)], metadata=grid.to_metadata() | counted)


def measured_schema(grid: Grid) -> pa.Schema:
    """``PATTERNS``, every pattern there, with the gridded ``theory`` (maximum 1) of those that have a structure."""
    return pa.schema([*PATTERNS, _THEORY], metadata=grid.to_metadata())


def gridded_schema(grid: Grid) -> pa.Schema:
    """Schema of gridded imperfect patterns; ``intensity`` and ``theory`` have their maxima at 1.

    ``scale`` is the maximum in the pattern's own unit: ``scale * intensity`` are the counts again.
    """
    names = ("pattern_id", "formula", "crystal_system", "theory_two_theta", "theory_intensity")
    fields = [PATTERNS.field(name) for name in names]
    rest = [_SPLIT, pa.field("scale", pa.float64()), _pattern("intensity", grid), _THEORY]
    return pa.schema([*fields, *rest], metadata=grid.to_metadata())


def with_sources(schema: pa.Schema, sources: Mapping[str, str]) -> pa.Schema:
    """The same schema, which says where the content came from at first.

    Args:
        schema: of a table.
        sources: what it is of (``structures``, …) → source and version or digest, as no path of one machine tells.
    """
    metadata = {SOURCES_KEY: json.dumps(sources, ensure_ascii=False).encode()} if sources else {}
    return schema.with_metadata({**(schema.metadata or {}), **metadata})


def read_sources(path: str | Path) -> dict[str, str]:
    """Where the content of a table came from at first; nothing where it does not say."""
    return dict(json.loads((pq.read_schema(parts(path)[0]).metadata or {}).get(SOURCES_KEY, b"{}")))


def to_table(columns: pd.DataFrame | dict[str, Any], schema: pa.Schema) -> pa.Table:
    """Columns as a table under its contract. Columns that are missing become null.

    Two-dimensional NumPy arrays fill fixed-size list columns.
    """
    import pandas as pd

    def missing(value: object) -> bool:
        return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))

    n_rows = len(next(iter(columns.values()))) if isinstance(columns, dict) else len(columns)
    arrays = []
    for field in schema:
        values = columns.get(field.name)
        if values is None:
            arrays.append(pa.nulls(n_rows, field.type))
        elif isinstance(values, np.ndarray) and values.ndim == 2:
            flat = pa.array(np.ascontiguousarray(values).ravel(), field.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, values.shape[1]).cast(field.type))
        elif isinstance(values, pa.Array | pa.ChunkedArray):
            arrays.append(values.cast(field.type))
        else:
            arrays.append(pa.array([None if missing(v) else v for v in values], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def write_table(path: str | Path, columns: pd.DataFrame | dict[str, Any], schema: pa.Schema) -> None:
    """Writes a Parquet table under its contract, whole or not at all; see :func:`to_table` for the columns."""
    table = to_table(columns, schema)
    with writing(path) as temporary, writer_of(temporary, schema) as writer:
        writer.write_table(table)


def writer_of(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """What writes tables of a schema: dictionaries for texts alone, as those of numbers cost more than they spare."""
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=texts)


def written(path: str | Path, schema: pa.Schema, tables: Iterable[pa.Table], n_rows: int) -> Iterator[int]:
    """Writes tables as they come, whole or not at all: one Parquet file, or a folder of files of :data:`ROWS_PER_FILE`.

    Args:
        path: the file or the folder.
        schema: of the tables.
        tables: one is in memory at a time.
        n_rows: rows of all tables together; whether there are more than a file holds.

    Yields:
        Once a row, for whoever counts.
    """
    rest = iter(tables)

    def file(target: Path, first: Iterable[pa.Table], most: int) -> Iterator[int]:
        n = 0
        with writer_of(target, schema) as writer:
            for table in chain(first, rest):
                writer.write_table(table)
                yield from range(table.num_rows)
                n += table.num_rows
                if n >= most:
                    return

    if n_rows <= ROWS_PER_FILE:
        with writing(path) as temporary:
            yield from file(temporary, [], n_rows + 1)
        return
    with writing_folder(path) as folder:
        for number, table in enumerate(rest):
            yield from file(folder / f"part-{number:05}.parquet", [table], ROWS_PER_FILE)


def parts(path: str | Path) -> list[Path]:
    """The Parquet files of a table: itself, or those in a folder, in the order of their names.

    Raises:
        InputError: if the folder has none.
    """
    if not Path(path).is_dir():
        return [Path(path)]
    found = files_in(Path(path), (".parquet",))
    if not found:
        raise InputError(path, "is a folder without .parquet files.", "Give the table that the stage before writes.")
    return found


def read_batches(
    path: str | Path, schema: pa.Schema, rows: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """A table's rows, ``rows`` at a time at most, with all columns or some.

    Raises:
        InputError: if a file is not there, is no Parquet table, or breaks ``schema``'s contract.
    """
    for part in parts(path):
        # What is buffered before it is asked for, Arrow (25) keeps: in the end the whole file.
        with _readable(part), pq.ParquetFile(part, pre_buffer=False) as table:
            check_schema(part, table.schema_arrow, schema)
            first = 0
            for batch in table.iter_batches(rows, columns=columns):
                check_values(part, batch, schema, first)
                yield batch
                first += len(batch)
        pa.default_memory_pool().release_unused()  # mimalloc keeps what a file took: 0.1 GB


def read_columns(path: str | Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Some columns of a whole table; the contract of the others is checked, too.

    :data:`REPEATED` ones come as dictionaries, whose rows take four bytes.

    Raises:
        InputError: if a file breaks ``schema``'s contract.
    """
    found, repeated = [], [name for name in REPEATED if name in schema.names]
    for part in parts(path):
        with _readable(part):
            check_schema(part, (known := pq.read_metadata(part)).schema.to_arrow_schema(), schema)
            # Not `pq.read_table`: for a million rows it takes twice the memory (Arrow 25).
            with pq.ParquetFile(part, metadata=known, read_dictionary=repeated, pre_buffer=False) as table:
                found.append(table.read(columns=list(columns)))
            first = 0
            for batch in found[-1].to_batches():  # in pieces: texts are looked at as they are, not as dictionaries
                check_values(part, batch, schema, first)
                first += len(batch)
        pa.default_memory_pool().release_unused()
    return pa.concat_tables(found).unify_dictionaries()


def open_table(path: str | Path) -> pa.Table:
    """Any Parquet table.

    Raises:
        InputError: if the file is not there or is no Parquet table.
    """
    with _readable(path):
        _check_unpacked(path)
        table = pq.read_table(path)
        table.validate(full=True)  # texts that are no UTF-8, for one
        return table


def _check_unpacked(path: str | Path) -> None:
    """Refuses a table whose few bytes stand for more values than memory holds; patterns have some bits a value.

    Raises:
        InputError: if it is one.
    """
    found = pq.read_metadata(path)
    groups = map(found.row_group, range(found.num_row_groups))
    values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
    if values > MOST_VALUES and 8 * Path(path).stat().st_size < LEAST_BITS * values:
        problem = f"unpacks to {values:,} values from {Path(path).stat().st_size:,} bytes."
        raise InputError(path, problem, "Write the patterns alone, without what is empty.")


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(path, "there is no such file.", "Check the path.") from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise InputError(path, f"is not a readable Parquet table ({error}).", "Write it again.") from None


def read_table(path: str | Path, schema: pa.Schema) -> pa.Table:
    """A Parquet table that was written under ``schema``'s contract (the length of gridded patterns may differ).

    Raises:
        InputError: if the file can't be read, is empty, or a column is missing or of another kind.
    """
    table = open_table(path)
    check_schema(path, table.schema, schema)
    if table.num_rows == 0:
        raise InputError(path, "has no rows.", "Give at least one.")
    with _readable(path):
        check_values(path, table, schema)
    return table


def check_schema(path: str | Path, found: pa.Schema, schema: pa.Schema) -> None:
    """Refuses a table without the columns of ``schema``'s contract (the length of gridded patterns may differ).

    Raises:
        InputError: if a column is missing or of another kind.
    """
    remedy = "Give the table that the stage before writes."
    for field in schema:
        if field.name not in found.names:
            raise InputError(path, f"has no column {field.name!r}; it has {', '.join(found.names)}.", remedy)
        if found.names.count(field.name) > 1:
            raise InputError(path, f"has {found.names.count(field.name)} columns {field.name!r}.", remedy)
        kind = found.field(field.name).type
        if kind != field.type and not (pa.types.is_fixed_size_list(kind) and pa.types.is_fixed_size_list(field.type)):
            raise InputError(path, f"column {field.name!r} is {kind}, not {field.type}.", remedy)


def check_values(path: str | Path, table: pa.Table | pa.RecordBatch, schema: pa.Schema, first: int = 0) -> None:
    """Refuses rows that no stage writes: damaged ones, and what was written by hand.

    Args:
        path: the file, for messages.
        table: its rows, with all columns or some.
        schema: the contract.
        first: the number of the first row in the file, from 0.

    Raises:
        InputError: if a field that must not be is empty, a number is not finite, a space group or a crystal system is
            none, or a structure's lists don't fit together or hold no crystal.
    """
    remedy = "Give the table that the stage before writes, as it is."

    def refuse(bad: NDArray[np.bool_] | pa.Array, problem: str) -> None:
        found = np.flatnonzero(np.asarray(bad))
        if len(found):
            raise InputError(f"{path}, row {first + int(found[0]) + 1}", problem, remedy)

    columns = {name: _whole(table[name]) for name in table.schema.names if name in schema.names}
    for name, column in columns.items():
        kind = column.type
        if not schema.field(name).nullable:
            refuse(column.is_null(), f"has no {name}.")
        if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            values = column.flatten()  # those of empty rows are left out
            refuse(_marked(column, values.is_null()), f"{name} has an empty place.")
            if pa.types.is_floating(kind.value_type):
                odd = ~np.isfinite(values.to_numpy(zero_copy_only=False))
                refuse(_marked(column, odd), f"{name} holds a number that is not finite.")
        elif pa.types.is_floating(kind):
            odd = ~np.isfinite(column.fill_null(0).to_numpy(zero_copy_only=False))
            refuse(odd, f"{name} is no finite number.")
    if "crystal_system" in columns:
        system = columns["crystal_system"]
        known = pc.is_in(system, pa.array([None, *(one.value for one in CRYSTAL_SYSTEMS)]))
        unknown = next(iter(system.filter(pc.invert(known)).to_pylist()), "")
        refuse(pc.invert(known), f"unknown crystal_system {unknown!r}.")
    if "space_group" in columns:
        group = columns["space_group"].fill_null(1).to_numpy(zero_copy_only=False)
        refuse((group < 1) | (group > 230), "space_group is not from 1 to 230.")
    if all(name in columns for name in _STRUCTURE):
        _check_structures(columns, refuse)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece, its texts not as a dictionary."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _lengths(column: pa.Array) -> NDArray[np.integer]:
    """How many values the rows of a column of lists have, shape (rows,); empty ones none."""
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0))


def _marked(column: pa.Array, bad: NDArray[np.bool_] | pa.Array) -> NDArray[np.bool_]:
    """Rows of a column of lists of which a value is marked, shape (rows,)."""
    out = np.zeros(len(column), bool)
    out[np.searchsorted(np.cumsum(_lengths(column)), np.flatnonzero(np.asarray(bad)), side="right")] = True
    return out


def _check_structures(columns: Mapping[str, pa.Array], refuse: Callable[[NDArray[np.bool_], str], None]) -> None:
    lattice, numbers, occupancy = (columns[name] for name in _STRUCTURE[:3])
    there = lattice.is_valid().to_numpy(zero_copy_only=False)
    lengths = {name: _lengths(columns[name]) for name in _STRUCTURE}
    n = lengths["atomic_number"]
    refuse(
        (lengths["lattice"] != 9 * there)
        | (lengths["occupancy"] != n)
        | (lengths["position"] != 3 * n)
        | ((n > 0) != there),
        "the structure's columns don't fit together.",
    )
    z, share = (column.flatten().to_numpy(zero_copy_only=False) for column in (numbers, occupancy))
    refuse(_marked(numbers, (z < 1) | (z > HEAVIEST)), f"has an atomic number outside 1 to {HEAVIEST}.")
    refuse(_marked(occupancy, (share <= 0) | (share > 1.1)), "has an occupancy that is not within 0 to 1.")
    cells = lattice.flatten().to_numpy(zero_copy_only=False).reshape(-1, 3, 3)
    edges = np.linalg.norm(cells, axis=2)
    bad = np.zeros(len(there), bool)
    bad[there] = (edges.max(axis=1) > MOST_EDGE) | (np.abs(np.linalg.det(cells)) < 1e-4 * edges.prod(axis=1) + 1e-3)
    refuse(bad, "has an absurd cell.")


def read_gridded(path: str | Path, kind: str) -> tuple[pd.DataFrame, Grid, dict[str, NDArray[np.float32]]]:
    """A gridded table as (columns, grid, patterns).

    Args:
        path: the Parquet file.
        kind: ``"ideal"`` or ``"imperfect"``.

    Returns:
        The columns that are no patterns; the grid; and ``intensity`` (and ``theory``, NaN where there is none), each
        of shape (rows, points).

    Raises:
        InputError: if the table breaks its contract.
    """
    grid = read_grid(path)
    schema = ideal_schema(grid) if kind == "ideal" else gridded_schema(grid)
    table = pa.concat_tables([read_table(part, schema) for part in parts(path)])
    names = ["intensity"] if kind == "ideal" else ["intensity", "theory"]
    for name in names:
        if any(n != grid.points for n in pc.unique(pc.drop_null(pc.list_value_length(table[name]))).to_pylist()):
            problem = f"{name} has rows of other lengths than the grid's {grid.points} points."
            raise InputError(path, problem, "Give the table that the stage before writes.")
    patterns = {name: matrix(table[name], grid.points) for name in names}
    return table.drop_columns(names).to_pandas(), grid, patterns


def read_grid(path: str | Path, expected: Grid | None = None) -> Grid:
    """The grid of a gridded table.

    Raises:
        InputError: if it has none, or another than ``expected``, or its files don't share one.
    """
    first, *others = parts(path)
    grid = _grid_of_file(first, expected)
    for other in others:
        _grid_of_file(other, grid)
    return grid


def _grid_of_file(path: Path, expected: Grid | None) -> Grid:
    remedy = "Give the table that the stage before writes."
    try:
        grid = Grid.from_metadata(pq.read_schema(path).metadata)
    except FileNotFoundError:
        raise InputError(path, "there is no such file.", "Check the path.") from None
    except (KeyError, ValueError, OSError) as error:
        raise InputError(path, f"is no Parquet table with a grid in its metadata ({error}).", remedy) from None
    if expected is not None and grid != expected:
        raise InputError(path, f"is on the grid {grid}, not on {expected}.", "Make both with one grid.")
    return grid


def read_remarked(path: str | Path) -> int:
    """Structures with a remark among those that a table of ideal patterns was simulated from."""
    return int((pq.read_schema(parts(path)[0]).metadata or {}).get(REMARKED_KEY, b"0"))


def matrix(column: pa.ChunkedArray, width: int) -> NDArray[np.float32]:
    """A fixed-size list column as an array of shape (rows, width); rows that are null become NaN."""
    out = np.full((len(column), width), np.nan, np.float32)
    row = 0
    for chunk in column.chunks:
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        values = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)  # flatten skips null rows
        out[row : row + len(chunk)][valid] = values
        row += len(chunk)
    return out


def null_rows(patterns: NDArray[np.float32]) -> pa.Array:
    """An array of shape (rows, points) as a fixed-size list column in which rows of NaN are null."""
    missing = pa.array(np.isnan(patterns[:, 0]))
    return pa.FixedSizeListArray.from_arrays(pa.array(patterns.ravel()), patterns.shape[1], mask=missing)


def as_csv(table: pd.DataFrame, header: bool = True) -> str:
    """A table as the text of a CSV in which no spreadsheet finds a formula; see :func:`~.files.cell`."""
    texts = {name: table[name].map(cell) for name in table.columns if table[name].dtype.kind not in "biufc"}
    return table.assign(**texts).to_csv(index=False, header=header)


def write_rejected(path: str | Path, rejected: Sequence[InputError]) -> None:
    """The list of what was left out: ``item``, ``reason`` and ``remedy``, also where it is empty."""
    import pandas as pd

    rows = [{"item": e.where, "reason": e.problem, "remedy": e.remedy} for e in rejected]
    write_text(path, as_csv(pd.DataFrame(rows, columns=["item", "reason", "remedy"])))
