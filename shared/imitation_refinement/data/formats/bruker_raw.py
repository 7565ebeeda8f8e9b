"""Bruker and Siemens RAW, versions RAW1.01 and RAW4: binary, each range a scan.

Their ranges and the lines of their tube are found as both libraries do: in RAW1.01 at fixed places, in RAW4 along a
chain of segments. The two older versions, whose files begin with ``RAW `` and ``RAW2``, are told and refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from imitation_refinement.data.readers import AGAIN, check_count, read_both, scan_of, scans, tube_lines
from imitation_refinement.data.scans import Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import read_bytes

Tube = tuple[float, float, float, float, float]  # wavelengths of Kα, Kα1, Kα2, Kβ [Å], ratio of Kα2 to Kα1
Range = tuple[int, float]  # points, the wavelength of the angles [Å]

OLD = (b"RAW ", b"RAW2")
# RAW1.01: offsets in the file's header, then in that of a range.
RANGES, TUBE, HEADER = 12, 616, 712
POINTS, USED, DATUM, EXTRA = 4, 240, 252, 256
# RAW4: where the chain of segments begins; kinds of segments, and of markers that a range follows.
CHAIN, SOURCE, MARKERS = 61, 30, (0, 160)
START, NAME = 72, 88  # of a range's fields behind its marker, and of its drives behind these


def read(path: Path) -> Iterator[Scan | InputError]:
    """The scans of a file in its order.

    Raises:
        InputError: if it is of an older version, or not whole.
    """
    data = read_bytes(path)
    if data.startswith(OLD) and not data.startswith(b"RAW1.01"):
        version = 2 if data.startswith(b"RAW2") else 1
        raise InputError(
            path,
            f"is Bruker RAW of version {version}, which is not read: no two readers of it can be compared.",
            "Save it as RAW4 or UXD in DIFFRAC, or turn it into .xy: xylib's `xyconv -t bruker_raw FILE OUT.xy` reads "
            "it (pip install xylib-py-wheels==1.7.3; needs swig, Boost and a C++ compiler).",
        )
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
