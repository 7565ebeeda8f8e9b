"""Patterns from files: reading by form, checking, manifests, writing.

The forms of files are in :mod:`imitation_refinement.data.formats`. A pattern is on 2θ [°] whatever its file's axis is.

A folder may hold a ``manifest.csv``, one pattern a row: ``pattern`` (or ``file``), the name of the pattern's file, and,
each optional, ``pattern_id``, ``wavelength`` (in Å; or with its unit in the field or, as ``wavelength_nm``, in the
column's name; or a line's name as ``CuKa1``), ``structure`` (or ``cif``), the name of a CIF, ``formula``,
``space_group`` and ``crystal_system``.

A wavelength is taken from the manifest's row, else from the file, else from what was given for all (``--wavelength``).
Where two of them differ, it is said.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.data.contracts import write_rejected
from imitation_refinement.data.formats import EXTENSIONS, format_of, read_scans
from imitation_refinement.data.headers import ALIKE
from imitation_refinement.data.scans import AxisKind, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import decode, files_in, writing
from imitation_refinement.progress import say
from imitation_refinement.xrd.crystal import CrystalSystem
from imitation_refinement.xrd.grid import Grid, gaps
from imitation_refinement.xrd.radiation import of_anode, parse_wavelength, wavelength_column

FEWEST_POINTS = 64
LEAST_COVERAGE = 0.4  # of the grid
WAVELENGTHS = (0.05, 10.0)  # [Å]
OTHER_AXIS = (
    "Give 2θ in degrees, or name the axis and its unit above the column, as 'q (1/nm)', 'd (Å)' or '2theta (rad)'."
)
MOST_REMARKS = 20  # that are said one by one

MANIFEST = "manifest.csv"
MANIFEST_FIELDS = ("pattern_id", "wavelength", "structure", "formula", "space_group", "crystal_system")
MANIFEST_ALIASES = {
    "file": "pattern",
    "filename": "pattern",
    "id": "pattern_id",
    "cif": "structure",
    "spacegroup": "space_group",
    "space_group_number": "space_group",
}


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
        remarks: what a person should know about how it was read.
    """

    pattern_id: str
    two_theta: NDArray[np.float64]
    intensity: NDArray[np.float64]
    wavelength: float | None = None
    crystal_system: CrystalSystem | None = None
    formula: str | None = None
    where: str = ""
    remarks: tuple[str, ...] = ()


def read_patterns(path: str | Path, wavelength: float | None = None) -> tuple[list[Pattern], list[InputError]]:
    """The checked patterns of a file, or of a folder (of its manifest, where it has one).

    Args:
        path: what to read; the extension and the first bytes say the form.
        wavelength: [Å], for patterns that do not say theirs. What a file says itself comes first.

    Returns:
        The patterns that can be used, and one error for each that can't.

    Raises:
        InputError: if the path is not there, of no known form, has the wrong columns, or is an empty folder.
    """
    patterns: list[Pattern] = []
    rejected: list[InputError] = []
    for item in _scans(Path(path)):
        try:
            if isinstance(item, InputError):
                raise item
            patterns.append(pattern_of(item, wavelength))
        except InputError as error:
            rejected.append(error)
    return patterns, rejected


def read_all(paths: Iterable[str], wavelength: str | None) -> tuple[list[Pattern], list[InputError]]:
    """The checked patterns of several paths of a command line, and what can't be used; see :func:`read_patterns`.

    Args:
        paths: files or folders.
        wavelength: the option --wavelength: [Å], or with its unit, or a line's name; None where it is not given.

    Raises:
        InputError: if a path can't be read at all, or the option is no wavelength.
    """
    option = "--wavelength"
    given = None if wavelength is None else check_wavelength(parse_wavelength(wavelength, option), option)
    found = [read_patterns(path, given) for path in paths]
    return [p for patterns, _ in found for p in patterns], [error for _, errors in found for error in errors]


def report_rejected(output: Path, paths: Sequence[str], rejected: Sequence[InputError], any_left: bool) -> None:
    """Writes ``rejected.csv`` and says each reason.

    Raises:
        InputError: if no pattern is left.
    """
    write_rejected(output / "rejected.csv", rejected)
    for reason in rejected:
        say(f"left out: {reason}")
    if not any_left:
        raise InputError(", ".join(paths), "no pattern can be used.", f"The reasons are in {output / 'rejected.csv'}.")


def _scans(path: Path) -> Iterator[Scan | InputError]:
    if (path / MANIFEST).is_file():
        for row in read_manifest(path):
            try:
                yield manifest_scan(row)
            except InputError as error:
                yield error
        return
    for file in pattern_files(path):
        yield from file_scans(file)


def file_scans(file: Path) -> Iterator[Scan | InputError]:
    """The scans of a file, an error in the place of one that can't be read, or of all if the file can't."""
    try:
        yield from read_scans(file)
    except InputError as error:
        yield error


def pattern_files(path: Path) -> list[Path]:
    """The pattern files that a path stands for: itself, or those in the folder.

    Raises:
        InputError: if there is none.
    """
    if path.is_dir():
        files = files_in(path, EXTENSIONS)
        if not files:
            raise InputError(path, "is a folder without pattern files.", f"Put {', '.join(EXTENSIONS)} files there.")
        return files
    if not path.is_file():
        raise InputError(path, "there is no such file.", "Check the path.")
    format_of(path)
    return [path]


def pattern_of(scan: Scan, wavelength: float | None = None) -> Pattern:
    """The checked pattern of a scan, on 2θ.

    Args:
        scan: as its file has it.
        wavelength: [Å], where the scan does not say its own; where the two differ, it is a remark.

    Raises:
        InputError: if its axis has no way to 2θ, or it can't be used; see :func:`check_pattern`.
    """
    own = scan.wavelengths[0] if scan.wavelengths else None
    remarks = list(scan.remarks)
    if own is not None and wavelength is not None and differ(own, wavelength):
        remarks.append(
            f"the pattern's own wavelength is {own:g} Å, the one given for all {wavelength:g}; {own:g} is taken"
        )
    used = check_wavelength(wavelength if own is None else own, scan.where or scan.name)
    if scan.anode and not of_anode(used, scan.anode):
        remarks.append(f"the file says an anode of {scan.anode}, which has no line at the wavelength used, {used:g} Å")
    x, y = scan.axis.two_theta(scan.values, used, scan.where), scan.intensity
    if scan.axis.kind is not AxisKind.TWO_THETA:
        remarks.append(f"its axis {scan.axis.name!r} was turned into 2θ at {used:g} Å")
    elif scan.axis.scale != 1:
        remarks.append(f"its axis {scan.axis.name!r} was turned into degrees")
    if scan.axis.kind is AxisKind.D and x.shape == y.shape and (np.diff(x) < 0).all():
        x, y = x[::-1], y[::-1]
    pattern = Pattern(scan.name, x, y, used, scan.crystal_system, scan.formula, scan.where)
    pattern = check_pattern(pattern)
    if found := gaps(pattern.two_theta):
        remarks.append(f"nothing was measured {_ranges(found)}; left out there, as outside the range")
    return replace(pattern, remarks=tuple(remarks))


def _ranges(found: Sequence[tuple[float, float]]) -> str:
    shown = ", ".join(f"from {low:g} to {high:g}°" for low, high in found[:3])
    return shown + (f" and in {len(found) - 3} more gaps" if len(found) > 3 else "")


def differ(one: float, other: float) -> bool:
    """Whether two wavelengths are not the same one, rounded or tabulated differently."""
    return abs(one / other - 1) > ALIKE


def say_remarks(patterns: Iterable[Pattern]) -> None:
    """Says the remarks of patterns, those of one text together."""
    said: dict[str, list[str]] = {}
    for pattern in patterns:
        for remark in pattern.remarks:
            said.setdefault(remark, []).append(pattern.where or pattern.pattern_id)
    for remark, places in list(said.items())[:MOST_REMARKS]:
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        say(f"note: {places[0]}{more}: {remark}")
    if (rest := len(said) - MOST_REMARKS) > 0:
        say(f"note: {rest} more remarks of this kind")


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
    if (steps < 0).all():
        raise InputError(
            where,
            f"angles fall, from {x[0]:g} to {x[-1]:g}.",
            "Sort the points by angle; if they are no 2θ but d spacings, say so above the column, as 'd (Å)'.",
        )
    if len(bad := np.flatnonzero(steps <= 0)):
        i = int(bad[0])
        kind = "stand twice" if steps[i] == 0 else "do not rise"
        raise InputError(
            where,
            f"angles {kind} at {len(bad)} points, first point {i + 2}: {x[i + 1]:g}° after {x[i]:g}°.",
            "Sort the points by angle and give each angle once.",
        )
    if x[0] < 0 or x[-1] > 180:
        raise InputError(
            where,
            f"angles run from {x[0]:g} to {x[-1]:g}, not within 0 to 180°: this is no 2θ in degrees.",
            OTHER_AXIS,
        )
    if len(bad := np.flatnonzero(y < 0)):
        raise InputError(
            where,
            f"{len(bad)} of {len(y)} intensities are negative, the lowest {y.min():g}.",
            f"Give the raw counts, or, if the background was subtracted, add {-y.min():g} to every intensity.",
        )
    if y.max() == 0:
        raise InputError(where, "all intensities are zero.", "Give a measured pattern.")
    value = check_wavelength(wavelength if pattern.wavelength is None else pattern.wavelength, where)
    return replace(pattern, wavelength=value, where=where)


def check_wavelength(value: float | None, where: str) -> float:
    """A wavelength [Å] that can be used.

    Raises:
        InputError: if there is none or it is out of :data:`WAVELENGTHS`.
    """
    low, high = WAVELENGTHS
    if value is None:
        raise InputError(
            where, "does not say its wavelength.", "Give it: in the file, in the table, or as an option, in Å."
        )
    if not low <= value <= high:
        remedy = f"Give one from {low:g} to {high:g} Å, or its unit behind it, as nm, pm or m."
        raise InputError(where, f"has a wavelength of {value:g} Å.", remedy)
    return float(value)


def check_coverage(pattern: Pattern, grid: Grid, least: float = LEAST_COVERAGE) -> float:
    """Share of the grid that a pattern covers, 0 to 1; what lies in a gap of its points is not covered.

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
        found = gaps(pattern.two_theta)
        raise InputError(
            where,
            f"runs from {pattern.two_theta[0]:g} to {pattern.two_theta[-1]:g}° at {pattern.wavelength:g} Å"
            f"{f', without points {_ranges(found)},' if found else ''} and covers {100 * share:.0f} % of the grid "
            f"({grid.start:g} to {grid.stop:g}° at {grid.wavelength:g} Å).",
            f"Measure a wider range; at least {100 * least:.0f} % is needed. Or check the wavelength, and "
            "that the axis is 2θ in degrees.",
        )
    return share


@dataclass(frozen=True)
class ManifestRow:
    """One row of a ``manifest.csv``; fields that are empty or have no column are empty strings."""

    where: str
    file: Path
    unit: str  # of the wavelength, where the column's name says it
    pattern_id: str
    wavelength: str
    structure: str
    formula: str
    space_group: str
    crystal_system: str


def read_manifest(folder: Path) -> list[ManifestRow]:
    """The rows of a folder's ``manifest.csv``, separated by commas, semicolons or tabs.

    Raises:
        InputError: if it can't be read, has no column for the patterns' files, or no rows.
    """
    path = folder / MANIFEST
    lines = [line for line in decode(path).splitlines() if line.strip()]
    head = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=max(",;\t", key=head.count))
    names = [name.strip().lower() for name in reader.fieldnames or []]
    lines_column = wavelength_column(names, path)
    unit = lines_column[1] if lines_column else ""
    aliases = MANIFEST_ALIASES | ({lines_column[0]: "wavelength"} if lines_column else {})
    reader.fieldnames = fields = [aliases.get(name, name) for name in names]
    if "pattern" not in fields:
        raise InputError(
            path, f"has no column 'pattern'; it has {', '.join(names) or 'none'}.", "Name the files there."
        )
    if twice := sorted({name for name in fields if name and fields.count(name) > 1}):
        raise InputError(path, f"has several columns for {', '.join(twice)}.", "Leave one of each.")
    if unknown := [name for name in fields if name and name not in ("pattern", *MANIFEST_FIELDS)]:
        say(f"note: {path}: columns that are not read: {', '.join(unknown)}")
    rows = []
    for number, record in enumerate(reader, 1):
        values = {name: str(record.get(name) or "").strip() for name in MANIFEST_FIELDS}
        file = folder / str(record.get("pattern") or "").strip()
        values["pattern_id"] = values["pattern_id"] or file.stem
        rows.append(ManifestRow(f"{path}, row {number} ({values['pattern_id']})", file, unit, **values))
    if not rows:
        raise InputError(path, "has no rows.", "Give at least one pattern.")
    named = {row.file.resolve() for row in rows} | {path.resolve()}
    if others := [file.name for file in files_in(folder, EXTENSIONS) if file.resolve() not in named]:
        more = ", …" if len(others) > 3 else ""
        say(f"note: {path}: does not name {len(others)} pattern files beside it ({', '.join(others[:3])}{more})")
    return rows


def manifest_scan(row: ManifestRow) -> Scan:
    """The scan that a manifest's row names; what the row says comes before what the file says, and it is a remark.

    Raises:
        InputError: if the file can't be read or holds several scans, or the row holds no usable wavelength or crystal
            system.
    """
    if not row.file.is_file():
        raise InputError(row.where, f"names {row.file.name!r}, which is no file there.", "Check the name.")
    found, *others = read_scans(row.file)
    if others:
        raise InputError(
            row.where, f"names {row.file.name!r}, which holds {len(others) + 1} scans.", "Give each a file."
        )
    if isinstance(found, InputError):
        raise found
    wavelengths, remarks = found.wavelengths, found.remarks
    if row.wavelength:
        value = parse_wavelength(row.wavelength, row.where, row.unit)
        if wavelengths and differ(value, wavelengths[0]):
            own = f"the manifest says a wavelength of {value:g} Å, the file {wavelengths[0]:g} Å; {value:g} Å is taken"
            remarks = (*remarks, own)
        wavelengths = (value,)
    return replace(
        found,
        name=row.pattern_id,
        wavelengths=wavelengths,
        crystal_system=CrystalSystem.parse(row.crystal_system, row.where) if row.crystal_system else None,
        formula=row.formula or None,
        remarks=remarks,
        where=row.where,
    )


def write_xy(path: str | Path, two_theta: ArrayLike, intensity: ArrayLike, header: Sequence[str] = ()) -> None:
    """Writes a pattern as ``.xy`` text, whole or not at all.

    Args:
        path: the file.
        two_theta: angles [°], shape (n,).
        intensity: intensities, shape (n,).
        header: lines to stand above, without ``#``; ``wavelength 1.5406 Å`` is read again.
    """
    points = np.column_stack([np.asarray(two_theta, float), np.asarray(intensity, float)])
    with writing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(f"# {line}\n" for line in header)
        np.savetxt(stream, points, fmt=("%.6f", "%.8g"))
