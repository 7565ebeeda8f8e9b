"""Columns of text: ``.xy``, ``.xye``, ``.dat``, ``.txt``, ``.csv``, ``.chi``; one pattern a file.

Two columns, the axis and the intensity, and further ones. Fields are separated by semicolons, tabs, commas or blanks;
the first line of numbers settles by which, and every other line must have as many fields. Decimal commas and separated
thousands (``1.234,5``) are understood where the columns settle them. Lines before the data and lines that begin with
``#``, ``!``, ``*`` or a quotation mark are the header. Where a header line names the columns, these are taken, with the
axis and the unit that it names (2θ, θ, q, d, 1/d); otherwise the first column is 2θ [°]. A third column is σ where the
header says so, or in ``.xye`` without names. Wavelengths:
:func:`~imitation_refinement.data.headers.find_wavelengths`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.data.headers import (
    Columns,
    choose_wavelengths,
    find_anode,
    find_axis,
    find_columns,
    find_ratio,
    find_unit,
    find_wavelengths,
    mentions_other_axis,
    units_below,
)
from imitation_refinement.data.scans import Axis, AxisKind, Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import decode

EXTENSIONS = (".xy", ".xye", ".txt", ".dat", ".csv", ".chi")
LONGEST_LINE = 10_000  # characters; a table of a thousand columns has fewer
_REMARK = ("#", "!", "*", "'", '"')
_QUOTED_NUMBER = re.compile(r"""["']\s*[+-]?[.,]?\d[^"']*["']""")
_NUMERIC = re.compile(r"[+-]?(?:[.,'’\s]*\d[\d.,'’\s]*(?:[eEdD][+-]?\d+)?|nan|inf(?:inity)?)", re.IGNORECASE)
_GROUPED = r"[+-]?\d{{1,3}}(?:{0}\d{{3}})+(?:{1}\d*)?"
_PLAIN_LINES = re.compile(r"(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?:\n|$))+")
_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
SPACES = "\u00a0\u202f\u2009"


@dataclass(frozen=True)
class _Lines:
    """A text file cut into header and fields; numbers are those of the lines, from 1."""

    header: list[str]
    data: list[list[str]]
    numbers: list[int]
    separator: str
    row_above: str  # the last line above the data


def read(path: Path) -> Iterator[Scan | InputError]:
    """The one scan of a text file; its name is the file's, without the suffix.

    Raises:
        InputError: naming the line that holds no numbers; if there is no data; or if the header names an axis, a unit
            or columns that can't be used.
    """
    lines = _cut(decode(path), path)
    columns = _columns(lines, path)
    table = [list(column) for column in zip(*lines.data, strict=True)]
    i, j, k = columns.places
    decimal = _decimal([table[i], table[j]], path)
    x, y = (_numbers(table[place], decimal, lines, path) for place in (i, j))
    remarks = list(columns.remarks)
    if i == 0 and not columns.axis.name and _counts_rows(x):
        i, j, k = _behind_row_numbers(table, lines, path)
        x, y = (_numbers(table[place], decimal, lines, path) for place in (i, j))
        remarks.append("the first column counts the rows; the second is taken for 2θ, the third for the intensity")
    if not _plain("\n".join(table[j]), decimal) and (grouped := next(filter(_thousands(decimal), table[j]), None)):
        remarks.append(f"{grouped!r} is read with separated thousands")
    unit = next((unit for line in lines.header if (unit := find_unit(line))), "")
    statements = [s for line in lines.header for s in find_wavelengths(line, path, unit)]
    wavelengths, chosen = choose_wavelengths(statements)
    ratio = next((ratio for line in lines.header if (ratio := find_ratio(line)) is not None), None)
    if ratio == 0 or len(wavelengths) < 2:
        wavelengths, ratio = wavelengths[:1], None
    sigma = None if k is None else _numbers(table[k], decimal, lines, path)
    yield Scan(
        path.stem,
        x,
        y,
        columns.axis,
        sigma,
        columns.unit,
        wavelengths,
        next((anode for line in lines.header if (anode := find_anode(line))), ""),
        remarks=(*remarks, *chosen),
        where=str(path),
        ratio=ratio,
    )


def _cut(text: str, path: Path) -> _Lines:
    header: list[str] = []
    data: list[list[str]] = []
    numbers: list[int] = []
    separator, row_above = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped:
            continue
        if len(stripped) > LONGEST_LINE:
            problem = f"has {len(stripped)} characters, where a line of columns has fewer than {LONGEST_LINE}."
            raise InputError(f"{path}, line {number}", problem, "Give two columns of numbers, a point a line.")
        if stripped.startswith(_REMARK) and not _QUOTED_NUMBER.match(stripped):
            header.append(stripped)
            row_above = row_above if data else stripped
            continue
        found = separator or _separator(stripped)
        fields = _split(stripped, found)
        if not data and not (len(fields) > 1 and all(map(_NUMERIC.fullmatch, fields[:2]))):
            header.append(stripped)
            row_above = stripped
            continue
        if data and len(fields) != len(data[0]):
            words = not _NUMERIC.fullmatch(fields[0])
            problem = f"{len(fields)} fields where the lines above have {len(data[0])}"
            raise InputError(
                f"{path}, line {number}",
                f"holds {'no angle and intensity' if words else problem}: {stripped[:60]!r}.",
                "Give two columns of numbers; put # before remarks."
                if words
                else "Give every line as many fields, and thousands without separators.",
            )
        separator = found
        data.append(fields)
        numbers.append(number)
    if not data:
        raise InputError(path, "holds no line with an angle and an intensity.", "Give two columns of numbers.")
    return _Lines(header, data, numbers, separator, row_above)


def _separator(line: str) -> str:
    """What separates the fields of a line of numbers: a semicolon, else a tab, else a comma, else a blank.

    A comma inside of fields that blanks separate is a decimal comma.
    """
    for separator in (";", "\t"):
        if separator in line:
            return separator
    fields = line.split()
    if "," in line and (len(fields) == 1 or any(field[0] == "," or field[-1] == "," for field in fields)):
        decimal = len(fields) > 1 and all(re.fullmatch(r"[+-]?\d+,\d+,", field) for field in fields[:-1])
        return ", " if decimal else ","  # 5,01, 21,5
    if '"' in line and "," in line:
        return ","
    return " "


def _split(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    if separator == ", ":
        fields = re.split(r",\s+", line)
    elif '"' not in line:
        fields = line.split(separator)
    else:
        (fields,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    while len(fields) > 2 and not fields[-1].strip():
        fields.pop()  # a separator at the end of the line
    return [field.strip() for field in fields]


def _columns(lines: _Lines, path: Path) -> Columns:
    width = len(lines.data[0])
    header, row_above = lines.header, lines.row_above
    if len(header) > 1 and header[-1] == row_above:
        names, units = (_split(line.lstrip("#! "), lines.separator) for line in header[-2:])
        if with_units := units_below(names, units):
            row_above = ("\t" if lines.separator == " " else lines.separator).join(with_units)
            header = [*header[:-2], row_above]
    named = [
        columns
        for line in header
        if (columns := find_columns(line, lines.separator, width, line == row_above, path)) is not None
    ]
    if named:
        return named[-1]
    axes = [axis for line in lines.header if (axis := find_axis(line)) is not None]
    if not axes and (line := next(filter(mentions_other_axis, lines.header), "")):
        axes = [Axis(AxisKind.OTHER, 1.0, line[:80])]  # refused, unless --axis says what it is
    has_sigma = width == 3 and path.suffix.lower() == ".xye"
    return Columns(axes[-1] if axes else Axis(), (0, 1, 2 if has_sigma else None))


def _decimal(columns: Sequence[Sequence[str]], path: Path) -> str:
    """The decimal sign of a file, from the column of its axis, or else from that of its intensities.

    Raises:
        InputError: if they don't settle it.
    """
    for column in columns:
        mixed = next((field for field in column if "," in field and "." in field), "")
        if mixed:
            return max(",.", key=mixed.rfind)
        points, commas = (any(sign in field for field in column) for sign in ".,")
        if points and commas:
            problem = "has decimal points and decimal commas in one column."
            raise InputError(path, problem, "Write all numbers with one decimal sign.")
        if points:
            return "."
        if commas and column is columns[0]:
            return ","
        if commas:
            grouped = re.compile(_GROUPED.format(",", r"\."))
            if all(grouped.fullmatch(field) for field in column if "," in field):
                field = next(field for field in column if "," in field)
                remedy = "Write them without thousands separators, with decimal points."
                raise InputError(path, f"has intensities like {field!r}: a thousand or a decimal comma?", remedy)
            return ","
    return "."


def _thousands(decimal: str) -> Callable[[str], object]:
    """What tells whether a number's thousands are separated, by the other sign, a blank or an apostrophe."""
    other = re.escape(",."[decimal == ","])
    return re.compile(_GROUPED.format(rf"(?:{other}|[ '’{SPACES}])", re.escape(decimal))).fullmatch


def _plain(text: str, decimal: str) -> str:
    """Lines of numbers with decimal points, or nothing if one of them has more than digits, a sign and an exponent."""
    if decimal == ",":
        text = "" if "." in text else text.replace(",", ".")
    return text if not text.endswith("\n") and _PLAIN_LINES.fullmatch(text) else ""


def _numbers(fields: Sequence[str], decimal: str, lines: _Lines, path: Path) -> NDArray[np.float64]:
    if plain := _plain("\n".join(fields), decimal):
        return np.array(list(map(float, plain.split("\n"))))
    is_grouped = _thousands(decimal)
    out = np.empty(len(fields))
    for row, field in enumerate(fields):
        text = field.replace("D", "E").replace("d", "e") if field[:1] not in "nN" else field
        if is_grouped(field):
            text = re.sub(rf"[ '’{SPACES}{',.'[decimal == ',']}]", "", field)
        text = text.replace(",", ".") if decimal == "," else text
        if _PLAIN.fullmatch(text) is None:
            raise InputError(
                f"{path}, line {lines.numbers[row]}",
                f"holds no angle and intensity: {' '.join(lines.data[row])[:60]!r}.",
                "Give two columns of numbers; put # before remarks.",
            )
        out[row] = float(text)
        if not np.isfinite(out[row]):
            shown = " ".join(lines.data[row])[:60]
            raise InputError(f"{path}, line {lines.numbers[row]}", f"holds no finite numbers: {shown!r}.", "Remove it.")
    return out


def _counts_rows(x: NDArray[np.float64]) -> bool:
    return len(x) > 2 and x[0] in (0, 1) and bool((np.diff(x) == 1).all())


def _behind_row_numbers(table: list[list[str]], lines: _Lines, path: Path) -> tuple[int, int, None]:
    """The columns of 2θ and intensity behind one of row numbers.

    Raises:
        InputError: if the second column can't be 2θ.
    """
    if len(table) > 2:
        x = _numbers(table[1], _decimal([table[1], table[2]], path), lines, path)
        if (np.diff(x) > 0).all() and x[0] >= 0 and x[-1] <= 180:
            return 1, 2, None
    raise InputError(
        path,
        "its first column counts the rows (1, 2, 3, …), which is no 2θ.",
        "Name the columns in a line above the data, as 2theta, intensity.",
    )


FORMAT = Format("columns of text", EXTENSIONS, lambda head: True, read, last=True)
