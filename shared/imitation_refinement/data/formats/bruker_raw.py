"""Bruker and Siemens RAW: binary, each range a scan.

The ranges and the lines of the tube are found as both libraries do: in RAW1.01 at fixed places, in RAW4 along a chain
of segments. Neither reads the two older versions, whose files begin with ``RAW `` and ``RAW2``: xylib does, where it is
installed; it is no requirement, as there are no wheels of it for this Python.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imitation_refinement.data.readers import (
    AGAIN,
    check_count,
    library,
    number,
    read_both,
    scan_of,
    scans,
    tube_lines,
)
from imitation_refinement.data.scans import Axis, Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import read_bytes

Tube = tuple[float, float, float, float, float]  # wavelengths of Kα, Kα1, Kα2, Kβ [Å], ratio of Kα2 to Kα1
Range = tuple[int, float]  # points, the wavelength of the angles [Å]

OLD = (b"RAW ", b"RAW2")  # versions 1 and 2
# RAW1.01: offsets in the file's header, then in that of a range.
RANGES, TUBE, HEADER = 12, 616, 712
POINTS, USED, DATUM, EXTRA = 4, 240, 252, 256
# RAW4: where the chain of segments begins; kinds of segments, and of markers that a range follows.
CHAIN, SOURCE, MARKERS = 61, 30, (0, 160)
START, NAME = 72, 88  # of a range's fields behind its marker, and of its drives behind these


def read(path: Path) -> Iterator[Scan | InputError]:
    """The scans of a file in its order.

    Raises:
        InputError: if it is not whole, or of an older version and xylib is not there.
    """
    data = read_bytes(path)
    if data.startswith(OLD):
        yield from _old(path, len(data), 2 if data.startswith(b"RAW2") else 1)
        return
    try:
        tube, ranges = _raw4(data) if data.startswith(b"RAW4") else _raw3(data)
    except struct.error:
        raise InputError(path, "holds a header that is not whole.", "Copy it again.") from None
    if not ranges:
        raise InputError(path, "holds no range.", AGAIN)

    def one(index: int, where: str) -> Scan:
        reading = read_both(path, where, "bruker_raw", index, scan=index)
        if reading.said.get("scan_count") != str(len(ranges)):
            problem = f"two readers disagree: it holds {reading.said.get('scan_count')} or {len(ranges)} ranges."
            raise InputError(where, problem, AGAIN)
        points, used = ranges[index]
        check_count(reading, str(points), where, "its header")
        mean, first, second, beta, ratio = tube or (0.0, 0.0, 0.0, 0.0, 0.0)
        lines = tube_lines(first, second, mean, beta, ratio, used or None)
        temperature = reading.said.get("temperature_k", "")
        label = ", ".join(filter(None, (reading.said.get("sample"), temperature and f"{float(temperature):g} K")))
        return scan_of(reading, path, where, lines, label=label)

    yield from scans(path, len(ranges), one)


def _old(path: Path, size: int, version: int) -> Iterator[Scan | InputError]:
    """The scans of a file of an older version, by xylib, which is told the form."""
    xylib = library(
        "xylib",
        path,
        f"is Bruker RAW of version {version}, which xylib alone reads.",
        "Save it as RAW4 or UXD in DIFFRAC, or install xylib: pip install xylib-py-wheels==1.7.3 (without a wheel for "
        "this Python it needs swig, Boost's headers and a C++ compiler).",
    )
    try:
        found = xylib.load_file(str(path), "bruker_raw")
    except RuntimeError as error:
        raise InputError(path, f"can't be read: {error}.", "Save it as RAW4 or UXD in DIFFRAC.") from None
    blocks = [found.get_block(i) for i in range(found.get_block_count())]
    if 4 * sum(block.get_point_count() for block in blocks) > size:
        raise InputError(path, "says more points than it holds.", "Copy it again.")

    def one(index: int, where: str) -> Scan:
        block = blocks[index]
        x, y = (
            np.array([column.get_value(i) for i in range(block.get_point_count())], float)
            for column in (block.get_column(1), block.get_column(2))
        )

        def said(key: str) -> str:
            return next((str(one.meta.get(key)) for one in (block, found) if one.meta.has_key(key)), "")

        first, second = (number(said(f"K_ALPHA{i}") or said(f"LAMDA{i}")) for i in (1, 2))
        wavelengths, ratio = tube_lines(first, second, ratio=number(said("INTENSITY_RATIO")))
        return Scan(
            path.stem,
            x,
            y,
            Axis(name="2θ"),
            unit="counts" if (y == np.round(y)).all() else "",
            wavelengths=wavelengths,
            ratio=ratio,
            anode=said("CEMICAL SYMBOL FOR TUBE ANODE").strip().capitalize(),  # as xylib spells it
            label=said("SAMPLE_NAME").strip(),
            remarks=("Bruker RAW of this version is read by xylib alone, without a second reader to compare with",),
            where=where,
        )

    yield from scans(path, len(blocks), one)


def _raw3(data: bytes) -> tuple[Tube, list[Range]]:
    (count,) = struct.unpack_from("<i", data, RANGES)
    ranges, place = [], HEADER
    for _ in range(count):
        length, points = struct.unpack_from("<ii", data, place)
        (used,) = struct.unpack_from("<d", data, place + USED)
        datum, extra = struct.unpack_from("<ii", data, place + DATUM)
        ranges.append((points, used))
        if min(length, points, datum) <= 0 or extra < 0:
            raise struct.error  # as where the file ends: no header of a range stands there
        place += length + extra + datum * points
    return struct.unpack_from("<5d", data, TUBE), ranges


def _raw4(data: bytes) -> tuple[Tube | None, list[Range]]:
    tube, ranges, place = None, [], CHAIN
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<II", data, place)
        if kind in MARKERS:
            start = place + START
            (points,) = struct.unpack_from("<I", data, start + 16)
            (used,) = struct.unpack_from("<d", data, start + 40)
            datum, drives = struct.unpack_from("<II", data, start + 64)
            ranges.append((points, used))
            place = start + NAME + drives + datum * points
            continue
        if kind == SOURCE:
            tube = struct.unpack_from("<5d", data, place + 72)
        place += max(length, 8)
    return tube, ranges


FORMAT = Format("Bruker RAW", (".raw",), lambda head: head.startswith((b"RAW1.01", b"RAW4", *OLD)), read)
