"""PANalytical and Malvern XRDML: every ``scan`` of every ``xrdMeasurement``.

Intensities are counts or counts a second as the element says; ``beamAttenuationFactors`` of ``counts`` are applied.
The wavelength is the one that ``usedWavelength`` says to be intended, Kα2 with the file's own ratio; the format's
schemas: http://www.xrdml.com/XRDMeasurement/.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from imitation_refinement.data.readers import (
    AGAIN,
    child,
    length,
    local,
    number,
    read_both,
    scan_of,
    scans,
    text_of,
    tube_lines,
    xml_root,
)
from imitation_refinement.data.scans import Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import read_bytes

INTENDED = {"kalpha1": "a1", "kalpha2": "a2", "kalpha": "a", "kbeta": "b"}


def read(path: Path) -> Iterator[Scan | InputError]:
    """The scans of a file in its order.

    Raises:
        InputError: if it is no whole XML document, or holds no scan.
    """
    root = xml_root(read_bytes(path), path)
    pairs = [
        (measurement, scan)
        for measurement in root
        if local(measurement) == "xrdMeasurement"
        for scan in measurement
        if local(scan) == "scan"
    ]
    if local(root) != "xrdMeasurements" or not pairs:
        raise InputError(path, "holds no scan of an xrdMeasurement.", AGAIN)

    def one(index: int, where: str) -> Scan:
        measurement, scan = pairs[index]
        found = read_both(path, where, "xrdml", index, scan=index)
        lines = _lines(child(measurement, "usedWavelength"), where)
        label = found.said.get("scan_axis", "") + _fixed(scan)
        return scan_of(found, path, where, lines, label=label)

    yield from scans(path, len(pairs), one)


def _lines(used: ET.Element | None, where: str) -> tuple[tuple[float, ...], float | None]:
    def value(name: str) -> float | None:
        element = child(used, name)
        return None if element is None else length(text_of(element), element.get("unit"), where)

    ratio = number(text_of(child(used, "ratioKAlpha2KAlpha1")))
    intended = re.sub(r"\W", "", (used.get("intended") or "") if used is not None else "").lower()
    return tube_lines(value("kAlpha1"), value("kAlpha2"), beta=value("kBeta"), ratio=ratio, used=INTENDED.get(intended))


def _fixed(scan: ET.Element) -> str:
    """What tells a scan from others over the same angles: the positions of axes that stand still."""
    points = child(scan, "dataPoints")
    standing = [
        f", {element.get('axis')} {text_of(common)}"
        for element in (points if points is not None else ())
        if local(element) == "positions" and (common := child(element, "commonPosition")) is not None
    ]
    return "".join(standing[:3])


FORMAT = Format("PANalytical XRDML", (".xrdml",), lambda head: b"xrdMeasurement" in head, read)
