"""Bruker DIFFRAC.MEASUREMENT BRML: a zip archive, each ``RawData`` of each ``Experiment`` in it a scan.

Both libraries see the first experiment alone, and fail where a folder stands above it: each scan is given to them in an
archive of its own. Bruker's automatic absorber is in the intensities already.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from imitation_refinement.data.readers import (
    AGAIN,
    inner,
    length,
    members,
    number,
    packed,
    read_both,
    scan_of,
    scans,
    tube_lines,
    xml_root,
)
from imitation_refinement.data.scans import Format, Scan
from imitation_refinement.errors import InputError

RAW_DATA = re.compile(r"(?P<above>(?:.*/)?)Experiment(?P<experiment>\d{1,9})/RawData(?P<number>\d{1,9})\.xml")


def read(path: Path) -> Iterator[Scan | InputError]:
    """The scans of a file, by experiment and number.

    Raises:
        InputError: if it is no whole archive, or holds no scan.
    """
    files = members(path)
    found = sorted(
        (match["above"], int(match["experiment"]), int(match["number"]), name)
        for name in files
        if (match := RAW_DATA.fullmatch(name))
    )
    if not found:
        raise InputError(path, "holds no Experiment with RawData.", AGAIN)

    def one(index: int, where: str) -> Scan:
        above, experiment, _, name = found[index]
        own = [entry for entry in found if entry[:2] == (above, experiment)]
        with packed(path.name, _alone(files, above, experiment, name)) as archive:
            reading = read_both(archive, where, "brml", own.index(found[index]), scan=own.index(found[index]))
        if reading.said.get("scan_count") != str(len(own)):
            problem = f"names {reading.said.get('scan_count')} scans, but holds {len(own)} in Experiment{experiment}."
            raise InputError(where, problem, AGAIN)
        root = xml_root(files[name], where)
        label = f"Experiment{experiment}, {reading.said.get('scan_axis', '')}".rstrip(", ")
        return scan_of(reading, path, where, _lines(root, where), label=label)

    yield from scans(path, len(found), one)


def _alone(files: dict[str, bytes], above: str, experiment: int, name: str) -> dict[str, bytes]:
    """One scan with the list of its experiment's, as Experiment0 of an archive without a folder above it."""
    old, new = f"Experiment{experiment}/", "Experiment0/"
    manifest = f"{above}{old}DataContainer.xml"
    out = {new + name.removeprefix(above + old): files[name]}
    if manifest in files:
        out[f"{new}DataContainer.xml"] = files[manifest].replace(old.encode(), new.encode())
    return out


def _lines(root: ET.Element, where: str) -> tuple[tuple[float, ...], float | None]:
    def value(name: str) -> float | None:
        element = inner(root, name)
        return None if element is None else length(element.get("Value"), element.get("Unit"), where)

    ratio = inner(root, "WaveLengthRatio")
    return tube_lines(
        value("WaveLengthAlpha1"),
        value("WaveLengthAlpha2"),
        value("WaveLengthAverage"),
        value("WaveLengthBeta"),
        None if ratio is None else number(ratio.get("Value")),
        value("WaveLength"),
    )


FORMAT = Format("Bruker BRML", (".brml",), lambda head: head.startswith(b"PK"), read)
