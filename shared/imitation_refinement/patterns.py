"""Patterns in files: ``.xy`` and ``.csv`` text, Parquet tables; reading, checking, writing.

Text files hold one pattern: two columns, 2θ [°] and intensity, and further ones that are ignored (``.xy`` files often
bring a standard deviation). Columns are separated by blanks, tabs, commas or semicolons; decimal commas are understood
with blanks, tabs and semicolons. Lines before the data and lines that begin with ``#``, ``!``, ``*`` or a quotation
mark are the header; where it names columns (``two_theta``, ``intensity``, …) these are taken. A header line such as
``# wavelength 1.5406 Å`` gives the wavelength. Text is UTF-8, with or without a byte order mark, or Latin-1.

A folder may hold a ``manifest.csv``, one pattern a row: ``pattern`` (or ``file``), the name of the pattern's file, and,
each optional, ``pattern_id``, ``wavelength`` (or ``wavelength_angstrom``) [Å], ``structure`` (or ``cif``), the name of
a CIF, ``formula``, ``space_group`` and ``crystal_system``.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.contracts import open_table
from imitation_refinement.crystal import CrystalSystem
from imitation_refinement.errors import InputError
from imitation_refinement.files import writing
from imitation_refinement.grid import Grid

TEXT_SUFFIXES = (".xy", ".xye", ".txt", ".dat", ".csv")
TABLE_SUFFIXES = (".parquet", ".pq")
FEWEST_POINTS = 64
LEAST_COVERAGE = 0.4  # of the grid
WAVELENGTHS = (0.05, 10.0)  # [Å]
ANGLE_NAMES = frozenset({"two_theta", "twotheta", "2theta", "2_theta", "2θ", "2th", "tth", "angle", "pos"})
INTENSITY_NAMES = frozenset({"intensity", "counts", "int", "yobs", "y_obs", "i"})

MANIFEST = "manifest.csv"
MANIFEST_FIELDS = ("pattern_id", "wavelength", "structure", "formula", "space_group", "crystal_system")
MANIFEST_ALIASES = {
    "file": "pattern",
    "filename": "pattern",
    "id": "pattern_id",
    "wavelength_angstrom": "wavelength",
    "cif": "structure",
    "spacegroup": "space_group",
    "space_group_number": "space_group",
}

T = TypeVar("T")
_COMMENT = ("#", "!", "*", "'", '"')
_WAVELENGTH = re.compile(r"(?:wave\s*length|lambda|λ)[^0-9]{0,24}([0-9]+[.,][0-9]+)\s*(nm)?", re.IGNORECASE)


@dataclass(frozen=True)
class Pattern:
    """One powder pattern as it was measured.

    Attributes:
        pattern_id: its name.
        two_theta: angles [°], shape (n,).
        intensity: counts or arbitrary units, shape (n,).
        wavelength: [Å]; None where nothing says it.
        crystal_system: None where it is unknown.
        formula: None where it is unknown.
        where: file and row, for messages; the name by default.
    """

    pattern_id: str
    two_theta: NDArray[np.float64]
    intensity: NDArray[np.float64]
    wavelength: float | None = None
    crystal_system: CrystalSystem | None = None
    formula: str | None = None
    where: str = ""


def read_patterns(path: str | Path, wavelength: float | None = None) -> tuple[list[Pattern], list[InputError]]:
    """The checked patterns of a text file, a Parquet table, or a folder (of its manifest, where it has one).

    Args:
        path: what to read; the suffix says the form.
        wavelength: [Å], for patterns that do not say theirs. What a file says itself comes first.

    Returns:
        The patterns that can be used, and one error for each that can't.

    Raises:
        InputError: if the path is not there, of no known form, has the wrong columns, or is an empty folder.
    """
    patterns: list[Pattern] = []
    rejected: list[InputError] = []
    for item in _read_unchecked(Path(path)):
        try:
            if isinstance(item, InputError):
                raise item
            patterns.append(check_pattern(item, wavelength))
        except InputError as error:
            rejected.append(error)
    return patterns, rejected


def _read_unchecked(path: Path) -> Iterator[Pattern | InputError]:
    if (path / MANIFEST).is_file():
        for row in read_manifest(path):
            yield _caught(manifest_pattern, row)
        return
    for file in pattern_files(path):
        if file.suffix.lower() in TABLE_SUFFIXES:
            yield from table_patterns(open_table(file), file)
        else:
            yield _caught(read_text_pattern, file)


def _caught(read: Callable[[T], Pattern], source: T) -> Pattern | InputError:
    try:
        return read(source)
    except InputError as error:
        return error


def pattern_files(path: Path) -> list[Path]:
    """The pattern files that a path stands for: itself, or those in the folder.

    Raises:
        InputError: if there is none.
    """
    known = (*TEXT_SUFFIXES, *TABLE_SUFFIXES)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in known and file.is_file())
        if not files:
            raise InputError(path, "is a folder without pattern files.", f"Put {', '.join(known)} files there.")
        return files
    if not path.is_file():
        raise InputError(path, "there is no such file.", "Check the path.")
    if path.suffix.lower() not in known:
        raise InputError(path, f"has the unknown suffix {path.suffix!r}.", f"Use one of: {', '.join(known)}.")
    return [path]


def check_pattern(pattern: Pattern, wavelength: float | None = None) -> Pattern:
    """A pattern that can be used, with its wavelength.

    Negative intensities are refused: counts have none, and after a background was subtracted the noise is no longer
    that of counting. Whoever wants such a pattern refined adds a constant first, knowingly.

    Args:
        pattern: what to check.
        wavelength: [Å], where the pattern does not say its own.

    Raises:
        InputError: naming what is wrong and the remedy.
    """
    where = pattern.where or pattern.pattern_id
    x, y = pattern.two_theta, pattern.intensity
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(where, f"has {x.size} angles but {y.size} intensities.", "Give one intensity an angle.")
    if len(x) < FEWEST_POINTS:
        raise InputError(where, f"has {len(x)} points.", f"Give at least {FEWEST_POINTS}.")
    for name, values in (("two_theta", x), ("intensity", y)):
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            raise InputError(
                where, f"{name} is no finite number at {len(bad)} points, first point {bad[0] + 1}.", "Remove them."
            )
    steps = np.diff(x)
    if len(bad := np.flatnonzero(steps <= 0)):
        i = int(bad[0])
        kind = "stand twice" if steps[i] == 0 else "do not rise"
        raise InputError(
            where,
            f"angles {kind} at {len(bad)} points, first point {i + 2}: {x[i + 1]:g}° after {x[i]:g}°.",
            "Sort the points by angle and give each angle once.",
        )
    if x[0] < 0 or x[-1] > 180:
        raise InputError(where, f"angles run from {x[0]:g} to {x[-1]:g}, not within 0 to 180°.", "Give 2θ in degrees.")
    if len(bad := np.flatnonzero(y < 0)):
        raise InputError(
            where,
            f"{len(bad)} of {len(y)} intensities are negative, the lowest {y.min():g}.",
            f"Give the raw counts, or, if the background was subtracted, add {-y.min():g} to every intensity.",
        )
    if y.max() == 0:
        raise InputError(where, "all intensities are zero.", "Give a measured pattern.")
    return _with_wavelength(pattern, wavelength, where)


def _with_wavelength(pattern: Pattern, wavelength: float | None, where: str) -> Pattern:
    value = wavelength if pattern.wavelength is None else pattern.wavelength
    if value is None:
        raise InputError(
            where, "does not say its wavelength.", "Give it in Å: in the file, in the table, or as an option."
        )
    if not WAVELENGTHS[0] <= value <= WAVELENGTHS[1]:
        low, high = WAVELENGTHS
        raise InputError(where, f"has a wavelength of {value:g} Å.", f"Give one from {low:g} to {high:g} Å.")
    return replace(pattern, wavelength=float(value), where=where)


def check_coverage(pattern: Pattern, grid: Grid, least: float = LEAST_COVERAGE) -> float:
    """Share of the grid that a pattern covers, 0 to 1.

    Args:
        pattern: a checked pattern, with its wavelength.
        grid: the grid it shall get onto.
        least: the share below which the pattern is refused.

    Raises:
        InputError: if the pattern covers less.
    """
    where = pattern.where or pattern.pattern_id
    if pattern.wavelength is None:
        raise InputError(where, "does not say its wavelength.", "Give it in Å.")
    share = grid.coverage(pattern.two_theta, pattern.wavelength)
    if share < least:
        raise InputError(
            where,
            f"runs from {pattern.two_theta[0]:g} to {pattern.two_theta[-1]:g}° at {pattern.wavelength:g} Å and covers "
            f"{100 * share:.0f} % of the grid ({grid.start:g} to {grid.stop:g}° at {grid.wavelength:g} Å).",
            f"Measure a wider range; at least {100 * least:.0f} % is needed.",
        )
    return share


def table_patterns(table: pa.Table, path: str | Path) -> Iterator[Pattern | InputError]:
    """The patterns of a table in its order, unchecked; an error in the place of a row that can't be read.

    Needs the columns ``pattern_id``, ``two_theta`` and ``intensity``; reads ``wavelength``, ``crystal_system`` and
    ``formula`` where they are.

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
    optional = [name for name in ("wavelength", "crystal_system", "formula") if name in table.column_names]
    return _table_patterns(table.select([*needed, *optional]), path)


def _table_patterns(table: pa.Table, path: str | Path) -> Iterator[Pattern | InputError]:
    seen: set[str] = set()
    row = 0
    for batch in table.to_batches(max_chunksize=256):
        columns = {name: batch[name] for name in batch.schema.names}
        for i in range(batch.num_rows):
            row += 1
            record = {name: column[i] for name, column in columns.items()}
            try:
                pattern = _row_pattern(record, path, row)
                if pattern.pattern_id in seen:
                    raise InputError(pattern.where, "this pattern_id stands twice.", "Give each pattern its own.")
                seen.add(pattern.pattern_id)
                yield pattern
            except InputError as error:
                yield error


def _row_pattern(record: dict[str, Any], path: str | Path, row: int) -> Pattern:
    name = record["pattern_id"].as_py()
    where = f"{path}, row {row} ({name})"
    if name is None or not str(name).strip():
        raise InputError(f"{path}, row {row}", "has no pattern_id.", "Give each pattern its own.")
    arrays = []
    for key in ("two_theta", "intensity"):
        values = getattr(record[key], "values", None)
        if values is None or values.null_count:
            raise InputError(where, f"{key} is no list of numbers.", "Give one number a point.")
        try:
            arrays.append(values.to_numpy(zero_copy_only=False).astype(float))
        except (TypeError, ValueError):
            raise InputError(where, f"{key} is no list of numbers.", "Give one number a point.") from None
    given = {key: value.as_py() for key, value in record.items() if key not in ("two_theta", "intensity")}
    wavelength, system, formula = given.get("wavelength"), given.get("crystal_system"), given.get("formula")
    return Pattern(
        str(name),
        arrays[0],
        arrays[1],
        as_wavelength(wavelength, where),
        CrystalSystem.parse(str(system), where) if system else None,
        str(formula) if formula else None,
        where,
    )


def as_wavelength(value: object, where: object) -> float | None:
    """A wavelength [Å] from a table's field; None where the field is empty.

    Raises:
        InputError: if the field holds no number.
    """
    if value is None or value == "":
        return None
    try:
        number = float(str(value))
    except ValueError:
        raise InputError(where, f"wavelength {value!r} is no number.", "Give it in Å.") from None
    return None if math.isnan(number) else number


@dataclass(frozen=True)
class ManifestRow:
    """One row of a ``manifest.csv``; fields that are empty or have no column are empty strings."""

    where: str
    file: Path
    pattern_id: str
    wavelength: str
    structure: str
    formula: str
    space_group: str
    crystal_system: str


def read_manifest(folder: Path) -> list[ManifestRow]:
    """The rows of a folder's ``manifest.csv``, separated by commas or semicolons.

    Raises:
        InputError: if it can't be read, has no column for the patterns' files, or no rows.
    """
    path = folder / MANIFEST
    lines = [line for line in decode(path).splitlines() if line.strip()]
    head = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=";" if head.count(";") > head.count(",") else ",")
    names = [name.strip().lower() for name in reader.fieldnames or []]
    reader.fieldnames = [MANIFEST_ALIASES.get(name, name) for name in names]
    if "pattern" not in reader.fieldnames:
        raise InputError(
            path, f"has no column 'pattern'; it has {', '.join(names) or 'none'}.", "Name the files there."
        )
    rows = []
    for number, record in enumerate(reader, 1):
        fields = {name: str(record.get(name) or "").strip() for name in MANIFEST_FIELDS}
        file = folder / record["pattern"].strip()
        fields["pattern_id"] = fields["pattern_id"] or file.stem
        rows.append(ManifestRow(f"{path}, row {number} ({fields['pattern_id']})", file, **fields))
    if not rows:
        raise InputError(path, "has no rows.", "Give at least one pattern.")
    return rows


def manifest_pattern(row: ManifestRow) -> Pattern:
    """The pattern that a manifest's row names, unchecked; what the row says comes before what the file says.

    Raises:
        InputError: if the file can't be read or the row holds no usable wavelength or crystal system.
    """
    if row.file.suffix.lower() not in TEXT_SUFFIXES:
        raise InputError(row.where, f"names {row.file.name!r}.", f"Name a file of {', '.join(TEXT_SUFFIXES)}.")
    found = read_text_pattern(row.file)
    wavelength = as_wavelength(row.wavelength, row.where)
    return replace(
        found,
        pattern_id=row.pattern_id,
        wavelength=found.wavelength if wavelength is None else wavelength,
        crystal_system=CrystalSystem.parse(row.crystal_system, row.where) if row.crystal_system else None,
        formula=row.formula or None,
        where=row.where,
    )


def read_text_pattern(path: str | Path) -> Pattern:
    """The pattern in a text file, unchecked; its name is the file's, without the suffix.

    Raises:
        InputError: naming the line that holds no numbers, or if there is no data.
    """
    text = decode(Path(path))
    columns: tuple[int, int] = (0, 1)
    wavelength: float | None = None
    x: list[float] = []
    y: list[float] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped:
            continue
        fields = split_fields(stripped)
        values = None if stripped.startswith(_COMMENT) else _numbers(fields, columns)
        if values is not None and not (math.isfinite(values[0]) and math.isfinite(values[1])):
            raise InputError(f"{path}, line {number}", f"holds no finite numbers: {stripped[:60]!r}.", "Remove it.")
        if values is not None:
            x.append(values[0])
            y.append(values[1])
        elif not x or stripped.startswith(_COMMENT):
            wavelength = wavelength or find_wavelength(stripped)
            columns = _named_columns(stripped) or columns
        else:
            raise InputError(
                f"{path}, line {number}",
                f"holds no angle and intensity: {stripped[:60]!r}.",
                "Give two columns of numbers; put # before remarks.",
            )
    if not x:
        raise InputError(path, "holds no line with an angle and an intensity.", "Give two columns of numbers.")
    return Pattern(Path(path).stem, np.array(x), np.array(y), wavelength, where=str(path))


def decode(path: Path) -> str:
    """A text file as UTF-8, with or without a byte order mark, or else as Latin-1.

    Raises:
        InputError: if it can't be read.
    """
    return as_text(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        InputError: if it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, f"can't be read ({error.strerror}).", "Check the path.") from None


def as_text(data: bytes) -> str:
    """Bytes as UTF-8, with or without a byte order mark, or else as Latin-1."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def split_fields(line: str) -> list[str]:
    """The fields of a line, with decimal points: separators are semicolons, else commas, else blanks.

    A comma inside of fields that blanks separate is a decimal comma.

    >>> split_fields("5,01; 21,5"), split_fields("5.01, 21.5"), split_fields("5,01 21,5")
    (['5.01', '21.5'], ['5.01', '21.5'], ['5.01', '21.5'])
    """
    if ";" in line:
        return [field.strip().replace(",", ".") for field in line.split(";")]
    fields = line.split()
    if "," not in line:
        return fields
    if len(fields) == 1 or any(field.startswith(",") or field.endswith(",") for field in fields):
        return [field.strip() for field in line.split(",")]
    return [field.replace(",", ".") for field in fields]


def _numbers(fields: list[str], columns: tuple[int, int]) -> tuple[float, float] | None:
    try:
        return float(fields[columns[0]]), float(fields[columns[1]])
    except (ValueError, IndexError):
        return None


def _named_columns(line: str) -> tuple[int, int] | None:
    """The places of the angle and the intensity in a header line that names both."""
    separators = r"[;,\t]" if re.search(r"[;,\t]", line) else r"\s+"
    fields = re.split(separators, line.lstrip("".join(_COMMENT) + " "))
    names = [re.sub(r"[\[(].*", "", field).strip(" \"'").lower() for field in fields]
    angle = [i for i, name in enumerate(names) if name in ANGLE_NAMES]
    intensity = [i for i, name in enumerate(names) if name in INTENSITY_NAMES]
    return (angle[0], intensity[0]) if angle and intensity else None


def find_wavelength(line: str) -> float | None:
    """The wavelength [Å] that a header line gives, in Å or nm.

    >>> find_wavelength("##X-RAY WAVELENGTH=1.541838"), find_wavelength("# wavelength: 0.154 nm")
    (1.541838, 1.54)
    """
    found = _WAVELENGTH.search(line)
    if found is None:
        return None
    value = float(found[1].replace(",", "."))
    return 10 * value if found[2] else value


def write_xy(path: str | Path, two_theta: ArrayLike, intensity: ArrayLike, header: Sequence[str] = ()) -> None:
    """Writes a pattern as ``.xy`` text, whole or not at all.

    Args:
        path: the file.
        two_theta: angles [°], shape (n,).
        intensity: intensities, shape (n,).
        header: lines to stand above, without ``#``; ``wavelength 1.5406 Å`` is read again by :func:`read_text_pattern`.
    """
    points = np.column_stack([np.asarray(two_theta, float), np.asarray(intensity, float)])
    with writing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(f"# {line}\n" for line in header)
        np.savetxt(stream, points, fmt=("%.6f", "%.8g"))
