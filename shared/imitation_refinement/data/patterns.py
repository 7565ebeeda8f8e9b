"""Patterns from files: reading by form, checking, manifests, writing.

The forms of files are in :mod:`imitation_refinement.data.formats`. A pattern is on 2θ [°] whatever its file's axis is.

A folder may hold a ``manifest.csv``, one pattern a row: ``pattern`` (or ``file``), the name of the pattern's file, and,
each optional, ``pattern_id``, ``wavelength`` (in Å; or with its unit in the field or, as ``wavelength_nm``, in the
column's name; or a line's name as ``CuKa1``), ``structure`` (or ``cif``), the name of a CIF, ``formula``,
``space_group``, ``crystal_system`` and ``scan``, the number of one of a file's several scans.

A wavelength is taken from the manifest's row, else from the file, else from what was given for all (``--wavelength``).
Where two of them differ, it is said. Of a file with several scans one is chosen by its number, or all are taken.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.data.contracts import write_rejected
from imitation_refinement.data.formats import EXTENSIONS, format_of, is_meant, read_scans
from imitation_refinement.data.headers import ALIKE, COUNTS, axis_of, intensity_unit
from imitation_refinement.data.scans import Axis, AxisKind, Scan
from imitation_refinement.errors import InputError, shown
from imitation_refinement.files import decode, files_in, is_file, writing
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
MANIFEST_FIELDS = ("pattern_id", "wavelength", "structure", "formula", "space_group", "crystal_system", "scan")
ALL = "all"  # scans of a file
MOST_LISTED = 12  # scans of a file
LONGEST_ID = 500  # characters of a pattern's id
MOST_POINTS = 2_000_000  # of a pattern; a day's scan has 100,000
FINEST = 1e-6  # step [°]
LARGEST = 1e30  # intensity; sums of squares are finite, in single precision those of its root
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
        sigma: standard deviations of the intensity, from the file or of its counts, shape (n,); None where neither is
            known.
        unit: of the intensity: ``counts``, ``cps``, another as the file writes it; empty where it does not.
        wavelengths: [Å], ``wavelength`` and, where the file says that it was there, Kα2 behind it; empty where nothing
            says one.
        ka2_ratio: of Kα2 to Kα1, where the file says it.
    """

    pattern_id: str
    two_theta: NDArray[np.float64]
    intensity: NDArray[np.float64]
    wavelength: float | None = None
    crystal_system: CrystalSystem | None = None
    formula: str | None = None
    where: str = ""
    remarks: tuple[str, ...] = ()
    sigma: NDArray[np.float64] | None = None
    unit: str = ""
    wavelengths: tuple[float, ...] = ()
    ka2_ratio: float | None = None


def read_patterns(
    path: str | Path, wavelength: float | None = None, *, scan: str = "", axis: Axis | None = None
) -> tuple[list[Pattern], list[InputError]]:
    """The checked patterns of a file, or of a folder (of its manifest, where it has one).

    Args:
        path: what to read; the extension and the first bytes say the form.
        wavelength: [Å], for patterns that do not say theirs. What a file says itself comes first.
        scan: which of a file's several scans; see :func:`choose`.
        axis: of patterns that do not say theirs.

    Returns:
        The patterns that can be used, and one error for each that can't.

    Raises:
        InputError: if the path is not there, of no known form, has the wrong columns, or is an empty folder.
    """
    patterns: list[Pattern] = []
    rejected: list[InputError] = []
    for item in _scans(Path(path), scan):
        try:
            if isinstance(item, InputError):
                raise item
            patterns.append(pattern_of(item, wavelength, axis))
        except InputError as error:
            rejected.append(error)
    return patterns, rejected


def read_all(
    paths: Iterable[str], wavelength: str | None, *, scan: str = "", axis: str | None = None
) -> tuple[list[Pattern], list[InputError]]:
    """The checked patterns of several paths of a command line, and what can't be used; see :func:`read_patterns`.

    Args:
        paths: files or folders.
        wavelength: the option --wavelength: [Å], or with its unit, or a line's name; None where it is not given.
        scan: the option --scan: which of a file's several scans; see :func:`choose`.
        axis: the option --axis: of patterns that do not say theirs, as ``"q (1/nm)"``; None where it is not given.

    Raises:
        InputError: if a path can't be read at all, or an option can't be understood.
    """
    option = "--wavelength"
    given = None if wavelength is None else check_wavelength(parse_wavelength(wavelength, option), option)
    named = None if axis is None else parse_axis(axis, "--axis")
    _numbers(scan, "--scan")
    found = [read_patterns(path, given, scan=scan, axis=named) for path in paths]
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


def parse_axis(text: str, where: object) -> Axis:
    """The axis that a person names, with its unit: ``q (1/nm)``, ``d (Å)``, ``theta (deg)``, ``2theta``.

    Raises:
        InputError: if it is none with a way to 2θ.
    """
    found = axis_of(text)
    if found is None or found.kind is AxisKind.OTHER:
        remedy = "Write one as '2theta', '2theta (rad)', 'theta (deg)', 'q (1/nm)', 'q (1/Å)' or 'd (Å)'."
        raise InputError(where, f"{text!r} is no axis with a unit.", remedy)
    return found


def _scans(path: Path, scan: str = "") -> Iterator[Scan | InputError]:
    if is_file(path / MANIFEST):
        for row in read_manifest(path):
            try:
                yield manifest_scan(row)
            except InputError as error:
                yield error
        return
    for file in pattern_files(path):
        yield from file_scans(file, scan)


def file_scans(file: Path, scan: str = "") -> Iterator[Scan | InputError]:
    """The chosen scans of a file, an error in the place of one that can't be read, or of all if the file can't.

    Args:
        file: the file.
        scan: see :func:`choose`.
    """
    try:
        if format_of(file).rows:
            yield from read_scans(file)
        else:
            yield from choose(list(read_scans(file)), scan, file)
    except InputError as error:
        yield error


def choose(found: Sequence[Scan | InputError], scan: str, where: object) -> list[Scan | InputError]:
    """Those of a file's scans that are asked for; of several each has its number in its name.

    Args:
        found: all scans of the file in its order.
        scan: ``"all"``, or numbers from 1 as ``"2"`` or ``"1,3"``; empty asks for the only one.
        where: the file, for messages.

    Raises:
        InputError: if it holds several and none is asked for, or not the one that is; all are listed.
    """
    if len(found) == 1 and scan in ("", ALL):
        return list(found)
    numbers = range(1, len(found) + 1) if scan == ALL else _numbers(scan, "--scan")
    if missing := [number for number in numbers if not 1 <= number <= len(found)]:
        raise InputError(where, f"has no scan {missing[0]}. It holds {_listed(found)}.", "Choose one of these.")
    if not numbers:
        raise InputError(
            where,
            f"holds {_listed(found)}.",
            "Choose with --scan NUMBER, or --scan all, or in a manifest's column scan.",
        )
    chosen = []
    for number in numbers:
        item = found[number - 1]
        if isinstance(item, Scan) and len(found) > 1:
            item = replace(item, name=f"{item.name} scan {number}")
        chosen.append(item)
    return chosen


def _numbers(scan: str, where: object) -> list[int]:
    """The numbers of an option --scan; none for ``"all"`` and nothing.

    Raises:
        InputError: if it holds something else.
    """
    if scan in ("", ALL):
        return []
    fields = [field.strip() for field in scan.split(",")]
    if not all(field.isdecimal() and int(field) > 0 for field in fields):
        raise InputError(where, f"{scan!r} is no scan.", "Write its number, from 1, or several as 1,3, or all.")
    return list(dict.fromkeys(map(int, fields)))


def _listed(found: Sequence[Scan | InputError]) -> str:
    """The scans of a file by number, with what tells them apart."""
    shown = []
    for number, item in enumerate(found[:MOST_LISTED], 1):
        if isinstance(item, InputError):
            shown.append(f"{number} ({item.problem.rstrip('.')})")
            continue
        unit = "°" if item.axis.kind is AxisKind.TWO_THETA and item.axis.scale == 1 else f" {item.axis.name}"
        ends = f"{item.values[0]:g} to {item.values[-1]:g}{unit}, " if len(item.values) else ""
        ends += f"{len(item.values)} points"
        shown.append(f"{number} ({', '.join(filter(None, (item.label, ends)))})")
    rest = f", … {len(found)}" if len(found) > MOST_LISTED else ""
    return f"{len(found)} scan{'s' * (len(found) > 1)}: {', '.join(shown)}{rest}"


def pattern_files(path: Path) -> list[Path]:
    """The pattern files that a path stands for: itself, or those in the folder.

    Raises:
        InputError: if there is none.
    """
    if path.is_dir():
        files = [file for file in files_in(path, EXTENSIONS) if is_meant(file)]
        if not files:
            raise InputError(path, "is a folder without pattern files.", f"Put {', '.join(EXTENSIONS)} files there.")
        return files
    if not is_file(path):
        raise InputError(path, "there is no such file.", "Check the path.")
    format_of(path)
    return [path]


def pattern_of(scan: Scan, wavelength: float | None = None, axis: Axis | None = None) -> Pattern:
    """The checked pattern of a scan, on 2θ.

    Args:
        scan: as its file has it.
        wavelength: [Å], where the scan does not say its own; where the two differ, it is a remark.
        axis: what the scan's values are, where it does not say so or in words that are not known; where the two
            differ, it is a remark.

    Raises:
        InputError: if its axis has no way to 2θ, or it can't be used; see :func:`check_pattern`.
    """
    own_axis, remarks = _own_axis(scan, axis, list(scan.remarks))
    if own_axis.kind is AxisKind.OTHER:  # no wavelength helps
        own_axis.two_theta(scan.values, None, scan.where)
    own = scan.wavelengths[0] if scan.wavelengths else None
    if own is not None and wavelength is not None and differ(own, wavelength):
        remarks.append(
            f"the pattern's own wavelength is {own:g} Å, the one given for all {wavelength:g}; {own:g} is taken"
        )
    used = check_wavelength(wavelength if own is None else own, scan.where or scan.name)
    if scan.anode and not of_anode(used, scan.anode):
        remarks.append(f"the file says an anode of {scan.anode}, which has no line at the wavelength used, {used:g} Å")
    x, y, sigma = own_axis.two_theta(scan.values, used, scan.where), scan.intensity, scan.sigma
    if own_axis.kind is not AxisKind.TWO_THETA:
        remarks.append(f"its axis {own_axis.name!r} was turned into 2θ at {used:g} Å")
    elif own_axis.scale != 1:
        remarks.append(f"its axis {own_axis.name!r} was turned into degrees")
    if own_axis.kind is AxisKind.D and x.shape == y.shape and (np.diff(x) < 0).all():
        x, y, sigma = x[::-1], y[::-1], None if sigma is None else sigma[::-1]
    if sigma is not None and not (sigma.shape == y.shape and np.isfinite(sigma).all() and (sigma >= 0).all()):
        remarks.append("its σ are left out: not all are finite and positive")
        sigma = None
    unit = intensity_unit(scan.unit)
    if sigma is None and unit == COUNTS and (y == np.round(y)).all():
        sigma = np.sqrt(np.maximum(y, 1))
    lines = scan.wavelengths if own is not None else (used,)
    pattern = Pattern(pattern_name(scan), x, y, used, scan.crystal_system, scan.formula, scan.where)
    pattern = replace(pattern, sigma=sigma, unit=unit, wavelengths=lines, ka2_ratio=scan.ratio)
    pattern = check_pattern(pattern)
    if found := gaps(pattern.two_theta):
        remarks.append(f"nothing was measured {_ranges(found)}; left out there, as outside the range")
    return replace(pattern, remarks=tuple(remarks))


def pattern_name(scan: Scan) -> str:
    """A scan's name as a pattern's id: what can't be printed is written as ``\\x1b``.

    Raises:
        InputError: if it is empty or longer than :data:`LONGEST_ID`.
    """
    where = scan.where or scan.name
    if len(scan.name) > LONGEST_ID:
        raise InputError(where, f"has a name of {len(scan.name)} characters.", f"Give it one of {LONGEST_ID} at most.")
    if not (name := shown(scan.name).strip()):
        raise InputError(where, "has an empty name.", "Give each pattern its own.")
    return name


def _own_axis(scan: Scan, given: Axis | None, remarks: list[str]) -> tuple[Axis, list[str]]:
    """A scan's axis, which is the one given for all where the file says none or one that has no way to 2θ."""
    if given is None:
        return scan.axis, remarks
    if scan.axis.kind is AxisKind.OTHER:
        return given, [*remarks, f"the file says an axis {scan.axis.name!r}; {given.name!r}, as given, is taken"]
    if not scan.axis.name:
        return given, remarks
    if (given.kind, given.scale) != (scan.axis.kind, scan.axis.scale):
        remarks = [
            *remarks,
            f"its axis is {scan.axis.name!r}, the one given for all {given.name!r}; the first is taken",
        ]
    return scan.axis, remarks


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
    if len(x) > MOST_POINTS:
        raise InputError(where, f"has {len(x):,} points.", f"Give at most {MOST_POINTS:,}: sum neighbours.")
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
    if (step := float(np.median(steps))) < FINEST:
        raise InputError(where, f"angles are {step:g}° apart: this is no 2θ in degrees.", OTHER_AXIS)
    if len(bad := np.flatnonzero(y < 0)):
        raise InputError(
            where,
            f"{len(bad)} of {len(y)} intensities are negative, the lowest {y.min():g}.",
            f"Give the raw counts, or, if the background was subtracted, add {-y.min():g} to every intensity.",
        )
    if y.max() == 0:
        raise InputError(where, "all intensities are zero.", "Give a measured pattern.")
    if not 1 / LARGEST < y.max() < LARGEST:
        problem = f"its highest intensity is {y.max():g}."
        raise InputError(where, problem, f"Scale it to something from {1 / LARGEST:g} to {LARGEST:g}.")
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
    scan: str = ""


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
    try:
        records = list(reader)
    except csv.Error as error:
        raise InputError(path, f"is no whole table ({error}).", "Write it again, a pattern a row.") from None
    for number, record in enumerate(records, 1):
        values = {name: str(record.get(name) or "").strip() for name in MANIFEST_FIELDS}
        file = folder / str(record.get("pattern") or "").strip()
        values["pattern_id"] = values["pattern_id"] or file.stem
        rows.append(ManifestRow(f"{path}, row {number} ({values['pattern_id']})", file, unit, **values))
    if not rows:
        raise InputError(path, "has no rows.", "Give at least one pattern.")
    named = {row.file.resolve() for row in rows if is_file(row.file)} | {path.resolve()}
    if others := [file.name for file in files_in(folder, EXTENSIONS) if file.resolve() not in named and is_meant(file)]:
        more = ", …" if len(others) > 3 else ""
        say(f"note: {path}: does not name {len(others)} pattern files beside it ({', '.join(others[:3])}{more})")
    return rows


def manifest_scan(row: ManifestRow) -> Scan:
    """The scan that a manifest's row names; what the row says comes before what the file says, and it is a remark.

    Raises:
        InputError: if the file can't be read or holds several scans, or the row holds no usable wavelength or crystal
            system.
    """
    if not is_file(row.file):
        raise InputError(row.where, f"names {shown(row.file.name, 80)!r}, which is no file there.", "Check the name.")
    _numbers(row.scan, row.where)
    found, *others = choose(list(read_scans(row.file)), row.scan, row.where)
    if others:
        raise InputError(row.where, f"names {len(others) + 1} scans.", "Give each a row of its own.")
    if isinstance(found, InputError):
        raise found
    wavelengths, remarks, ratio = found.wavelengths, found.remarks, found.ratio
    if row.wavelength:
        value = parse_wavelength(row.wavelength, row.where, row.unit)
        if wavelengths and differ(value, wavelengths[0]):
            own = f"the manifest says a wavelength of {value:g} Å, the file {wavelengths[0]:g} Å; {value:g} Å is taken"
            remarks = (*remarks, own)
        wavelengths, ratio = (value,), None
    return replace(
        found,
        name=row.pattern_id,
        wavelengths=wavelengths,
        ratio=ratio,
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
