"""Diffractometers' files by libraries: rietx reads them, and geddes, written independently of it, must agree.

What the libraries leave out is here and in :mod:`imitation_refinement.data.formats`: scans are counted in the file
itself, and lines of the tube are taken from the file with their units and their ratio.
"""

from __future__ import annotations

import math
import re
import struct
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.data.scans import Axis, AxisKind, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import read_bytes
from imitation_refinement.xrd.radiation import from_unit

SAME = 1e-6  # relative; by how much sums of two readers may differ, one of which adds in single precision
SAME_ANGLE = 1e-4  # [°]; angles are written with four decimals, or made from start and step
LARGEST_MEMBER = 1 << 26  # bytes of one file in an archive; the largest scans have a few million
LARGEST_ARCHIVE = 1 << 28  # of all of them, unpacked
DEEPEST = 100  # elements of XML in one another; instruments write some ten
AGAIN = "Export it again from the instrument's software, or as two columns of text (.xy)."
INSTALL = "Install this software's extra `formats`: rietx, geddes, gemmi and h5py, in the versions of setup.cfg."

Points = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Reading:
    """One scan as the libraries read it.

    Attributes:
        values: along ``axis``, rising, shape (n,).
        intensity: shape (n,).
        sigma: of the file, or made from its counts and its counting time; shape (n,) or None.
        axis: 2θ in degrees, or what the file says instead.
        said: what rietx found in the header: ``anode``, ``sample``, ``intensity_unit``, …
        remarks: what a reader repaired or applied.
    """

    values: NDArray[np.float64]
    intensity: NDArray[np.float64]
    sigma: NDArray[np.float64] | None
    axis: Axis
    said: Mapping[str, str]
    remarks: tuple[str, ...]

    @property
    def unit(self) -> str:
        """Of the intensity: ``counts``, ``cps``, another that the file says, or nothing.

        Counts are whole numbers, but for what an attenuator has multiplied; a header that says counts of others is
        wrong, and where none stands whole numbers are counts.
        """
        said = self.said.get("intensity_unit", "").strip().lower()
        whole = bool((self.intensity == np.round(self.intensity)).all())
        if said in ("", "counts", "count"):
            return "counts" if whole and "scaled" not in self.said else ""
        return said


def read_both(path: Path, where: str, form: str, index: int = 0, **options: int) -> Reading:
    """One scan by rietx, compared with geddes's reading of it.

    Args:
        path: the file.
        where: file and scan, for messages.
        form: how rietx calls the form that the file is to be read as.
        index: of the scan in the file, from 0, as geddes counts.
        options: how rietx is told the scan: ``scan`` or ``bank``.

    Raises:
        InputError: if rietx can't read it, or the two differ.
    """
    found = by_rietx(path, where, form, **options)
    if found.axis.kind is AxisKind.TWO_THETA:
        compare((found.values, found.intensity), by_geddes(path, index), where, "rietx", "geddes")
    return found


def by_rietx(path: Path, where: str, form: str, **options: int) -> Reading:
    """One scan by rietx; what it repaired or applied is said.

    Raises:
        InputError: with its reason, if it can't, or takes the file for another form, as for plain columns.
    """
    read_pattern = library("rietx.io.readers", where).read_pattern
    notes: list[Any] = []
    try:
        with np.errstate(all="ignore"):
            found = read_pattern(path, diagnostics=notes, **options)
    except BaseException as error:  # whatever a parser stumbles over in a broken file
        _check_is_reason(error)
        raise InputError(where, f"can't be read: {_reason(error, path)}", AGAIN) from None
    said = {str(key): str(value) for key, value in found.metadata.items()}
    if not said.get("format", "").startswith(form):
        raise InputError(where, f"is taken for {said.get('format')} instead of {form}.", AGAIN)
    axis, remarks = Axis(name="2θ"), []
    for note in notes:
        if note.code == "PATTERN_INTENSITY_SCALED":
            said["scaled"] = note.message
            if said.get("intensity_unit", "").strip().lower() in ("counts", "count"):
                remarks.append("the file says counts, but its intensities are no whole numbers; σ is not known")
            elif "counter numbers" in note.message:
                remarks.append(
                    "its points were counted by several counters; whether they are sums or means is not said"
                )
        elif note.code == "PATTERN_X_AXIS_ASSUMED":
            if stated := said.get("scan_axis", ""):
                axis = Axis(AxisKind.OTHER, 1.0, stated)
            else:
                remarks.append("the file does not say what its axis is; 2θ in degrees is taken")
        elif note.code not in ("PATTERN_MULTISCAN_DEFAULTED", "PATTERN_X_AXIS_IMPLAUSIBLE"):
            # XRDML's <counts> are multiplied by the factor, its <intensities> were already
            applied = "It was applied to the intensities and to σ."
            remarks.append(_sentence(note.message.replace(applied, "Intensities and σ account for it."), path))
    if found.tof is not None:
        axis = Axis(AxisKind.OTHER, 1.0, "time of flight (µs)")
    return Reading(
        np.array(found.tof if found.two_theta is None else found.two_theta, float),
        np.array(found.intensity, float),
        None if found.sigma is None else np.array(found.sigma, float),
        axis,
        said,
        tuple(remarks),
    )


def by_geddes(path: Path, index: int = 0) -> Points | None:
    """Angles and intensities of one scan by geddes; None where it does not read this kind."""
    read = library("geddes", path).read
    try:
        found = read(str(path), index=index)
    except BaseException as error:
        _check_is_reason(error)
        return None
    return np.array(found.x, float), np.array(found.y, float)


def compare(one: Points, other: Points | None, where: str, *readers: str) -> None:
    """Whether two readers agree on points, first and last angle and sum of intensities.

    Raises:
        InputError: if they do not, with what each says.
    """
    if other is None or not np.isfinite(one[1]).all():  # what is no number is refused with its place later
        return
    same = (
        len(one[0]) == len(other[0])
        and all(abs(one[0][i] - other[0][i]) <= SAME_ANGLE for i in (0, -1))
        and math.isclose(one[1].sum(), other[1].sum(), rel_tol=SAME, abs_tol=SAME)
    )
    if not same:
        said = " and ".join(
            f"{len(x)} points from {x[0]:g} to {x[-1]:g}° with {y.sum():.9g} in all ({reader})"
            if len(x)
            else f"none ({reader})"
            for reader, (x, y) in zip(readers, (one, other), strict=True)
        )
        raise InputError(where, f"two readers disagree: {said}.", AGAIN)


def scans(path: Path, count: int, read: Callable[[int, str], Scan]) -> Iterator[Scan | InputError]:
    """The scans of a file that holds ``count``, an error in the place of one that can't be read.

    Args:
        path: the file.
        count: as counted in the file.
        read: one by its index from 0 and what it is called in messages.
    """
    for index in range(count):
        where = str(path) if count == 1 else f"{path}, scan {index + 1}"
        try:
            yield read(index, where)
        except InputError as error:
            yield error


def scan_of(found: Reading, path: Path, where: str, lines: tuple[tuple[float, ...], float | None], **more: Any) -> Scan:
    """A reading as a scan of a file.

    Args:
        found: what the libraries read.
        path: the file, whose stem is the scan's name.
        where: file and scan, for messages.
        lines: wavelengths and ratio as of :func:`tube_lines`.
        more: further fields of the scan that come before what rietx said.
    """
    fields: dict[str, Any] = {
        "anode": found.said.get("anode", "").strip().capitalize(),
        "label": found.said.get("title") or found.said.get("sample") or "",
        "remarks": found.remarks,
        "unit": found.unit,
    }
    fields |= more
    wavelengths, ratio = lines
    return Scan(
        path.stem,
        found.values,
        found.intensity,
        found.axis,
        found.sigma,
        wavelengths=wavelengths,
        ratio=ratio,
        where=where,
        **fields,
    )


def check_count(found: Reading, stated: float | str | None, where: str, what: str) -> None:
    """Whether a scan has as many points as its header says.

    Raises:
        InputError: if it has not.
    """
    try:
        points = int(float(stated or ""))
    except ValueError:
        return
    if points != len(found.values):
        raise InputError(where, f"holds {len(found.values)} of the {points} points that {what} says.", AGAIN)


# ---------------------------------------------------------------------------------------------- lines of the tube


def tube_lines(
    first: float | None,
    second: float | None = None,
    mean: float | None = None,
    beta: float | None = None,
    ratio: float | None = None,
    used: float | str | None = None,
) -> tuple[tuple[float, ...], float | None]:
    """The wavelengths [Å] of a scan and Kα2's share of Kα1 out of what a file says of its tube.

    Args:
        first: of Kα1.
        second: of Kα2.
        mean: of Kα.
        beta: of Kβ.
        ratio: of Kα2 to Kα1; 0 where a monochromator takes Kα2 away.
        used: the one that belongs to the angles: its value, or ``"a1"``, ``"a2"``, ``"a"`` or ``"b"``.

    Returns:
        Kα1 with Kα2 behind it where that was there; the mean where the file knows no other; Kβ or Kα2 alone where these
        were meant; and the ratio of a doublet where it is said.

    >>> tube_lines(1.5406, 1.54439, 1.5418, 1.3922, 0.5, used=1.5418)
    ((1.5406, 1.54439), 0.5)
    >>> tube_lines(1.5406, 1.54439, ratio=0.0), tube_lines(1.5406, 1.54439, beta=1.3922, used="b")
    (((1.5406,), None), ((1.3922,), None))
    """
    first, second, mean, beta = (value if value else None for value in (first, second, mean, beta))
    named = {"a1": first, "a2": second, "a": mean, "b": beta}
    if isinstance(used, float) and used > 0:
        near = [key for key, value in named.items() if value is not None and abs(value / used - 1) < 1e-4]
        if not near:
            return (used,), None
        used = near[0]
    if used in ("a2", "b") and named[str(used)] is not None:
        return (named[str(used)] or 0.0,), None
    if first is None:
        return ((mean,) if mean else ()), None
    if second is None or ratio == 0:
        return (first,), None
    return (first, second), ratio


def length(text: str | None, unit: str | None, where: object) -> float | None:
    """A wavelength [Å] of a file's field in the unit that the file says, Å where it says none; None where it is empty.

    Raises:
        InputError: if the unit is not known.
    """
    value = number(text)
    if not value:
        return None
    found = from_unit(value, unit or "a")
    if found is None:
        raise InputError(where, f"says a wavelength in {unit!r}, which is not known.", "Give it in Å, nm, pm or m.")
    return found


def number(text: str | None) -> float | None:
    """A field's number; None where it holds none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# ---------------------------------------------------------------------------------------------- containers


def xml_root(data: bytes, where: object) -> ET.Element:
    """The root of an XML document.

    Raises:
        InputError: if it is none.
    """
    _check_no_doctype(data, where)
    try:
        return ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError) as error:  # the last two: of the encoding that it says
        raise InputError(where, f"is no whole XML ({error}).", AGAIN) from None


def _check_no_doctype(data: bytes, where: object) -> None:
    """Refuses an XML document with a type: no instrument writes one, and what it defines may stand for any amount.

    Raises:
        InputError: if it has one, or its elements lie in one another without end.
    """
    depth = 0

    def refuse(*_: object) -> None:
        raise InputError(where, "is XML with a document type (<!DOCTYPE>), which no instrument writes.", AGAIN)

    def begin(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise InputError(where, f"is XML of more than {DEEPEST} elements in one another.", AGAIN)

    def end(*_: object) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    with suppress(expat.ExpatError, ValueError, LookupError):  # said by who parses it
        parser.Parse(data, True)


def local(element: ET.Element) -> str:
    """An element's name without its namespace, whose version differs from file to file."""
    return element.tag.rpartition("}")[2]


def child(element: ET.Element | None, *names: str) -> ET.Element | None:
    """The element below that a path of names leads to; None where there is none."""
    for name in names:
        if element is None:
            return None
        element = next((one for one in element if local(one) == name), None)
    return element


def inner(element: ET.Element | None, name: str) -> ET.Element | None:
    """The first element of a name anywhere below; None where there is none."""
    return None if element is None else next((one for one in element.iter() if local(one) == name), None)


def text_of(element: ET.Element | None) -> str:
    """An element's text; empty where there is none."""
    return (element.text or "").strip() if element is not None else ""


def members(path: Path) -> dict[str, bytes]:
    """The files of a zip archive by their paths in it.

    Raises:
        InputError: if it is no whole archive, or one of its files is too large.
    """
    found: dict[str, bytes] = {}
    total = 0
    try:
        with zipfile.ZipFile(BytesIO(read_bytes(path))) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                name = info.filename.replace("\\", "/")
                if name in found:
                    raise InputError(path, f"holds {info.filename!r} twice.", AGAIN)
                with archive.open(info) as stream:
                    found[name] = stream.read(min(LARGEST_MEMBER, LARGEST_ARCHIVE - total) + 1)
                total += len(found[name])
                if len(found[name]) > LARGEST_MEMBER or total > LARGEST_ARCHIVE:
                    problem = f"its part {info.filename!r} is larger than {LARGEST_MEMBER >> 20} MiB."
                    if total > LARGEST_ARCHIVE:
                        problem = f"unpacks to more than {LARGEST_ARCHIVE >> 20} MiB."
                    raise InputError(path, problem, "Export the integrated scan alone.")
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError, struct.error) as error:
        raise InputError(path, f"is no whole archive ({error}).", "Copy it again.") from None
    return found


@contextmanager
def packed(name: str, files: Mapping[str, bytes]) -> Iterator[Path]:
    """A temporary zip archive of some files, under a name."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in files.items():
                archive.writestr(member, data)
        yield path


@contextmanager
def written(name: str, text: str) -> Iterator[Path]:
    """A temporary text file under a name."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        yield path


# ---------------------------------------------------------------------------------------------- libraries


def library(name: str, where: object, problem: str = "", remedy: str = INSTALL) -> Any:
    """A package that reads files, imported where it is needed: other stages run without them.

    Raises:
        InputError: if it is not installed, with what is said of that.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        problem = problem or f"needs a package that is not installed ({error.name})."
        raise InputError(where, problem, remedy) from None


def _check_is_reason(error: BaseException) -> None:
    """Raises what is no reason of a library: interrupts and ends. A panic of one in Rust is no Exception, but one."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error


def _reason(error: BaseException, path: Path) -> str:
    """A library's reason: its first sentences, without the file's name, of which a person has read the path."""
    text = " ".join(str(error).split()) or type(error).__name__
    return _sentence(text, path)


def _sentence(text: str, path: Path) -> str:
    text = re.sub(rf"^(?:Parse error: )?{re.escape(path.name)}(?:: | )", "", " ".join(text.split()))
    out = ""
    for sentence in re.split(r"(?<=[.;]) (?=[A-Z\d—])", text):
        if out and len(out) + len(sentence) > 240:
            break
        out = f"{out} {sentence}".strip()
    return out.rstrip(".") + "."


def joined(lines: Iterable[str]) -> str:
    """Lines as text, each with its end."""
    return "".join(f"{line}\n" for line in lines)
