"""Rigaku SmartLab Studio II RASX: a zip archive, each ``Data*/Profile*.txt`` in it a scan."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from imitation_refinement.data.headers import find_unit
from imitation_refinement.data.readers import (
    AGAIN,
    check_count,
    inner,
    length,
    members,
    packed,
    read_both,
    scan_of,
    scans,
    text_of,
    tube_lines,
    xml_root,
)
from imitation_refinement.data.scans import Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import as_text

PROFILE = re.compile(r"(?P<above>(?:.*/)?)Data(?P<group>\d{1,9})/Profile(?P<number>\d{1,9})\.txt")
CONDITIONS = re.compile(r"Mea?surementConditions\d+\.xml", re.IGNORECASE)
USED = {"ka1": "a1", "ka2": "a2", "ka": "a", "kb": "b", "kb1": "b"}


def read(path: Path) -> Iterator[Scan | InputError]:
    """The scans of a file, by number.

    Raises:
        InputError: if it is no whole archive, or holds no profile.
    """
    files = members(path)
    found = sorted(
        (int(match["group"]), int(match["number"]), match["above"], name)
        for name in files
        if (match := PROFILE.fullmatch(name))
    )
    if not found:
        raise InputError(path, "holds no profile (Data0/Profile0.txt).", AGAIN)
    above = found[0][2]

    def one(index: int, where: str) -> Scan:
        folder = found[index][3].rpartition("/")[0]
        if above:
            inside = {name.removeprefix(above): data for name, data in files.items() if name.startswith(above)}
            with packed(path.name, inside) as archive:
                reading = read_both(archive, where, "rasx", index, scan=index)
        else:
            reading = read_both(path, where, "rasx", index, scan=index)
        if reading.said.get("scan_count") != str(len(found)):
            problem = f"its list names {reading.said.get('scan_count')} scans, but it holds {len(found)} profiles."
            raise InputError(where, problem, AGAIN)
        names = [name for name in files if name.rpartition("/")[0] == folder and CONDITIONS.search(name)]
        if not names:
            return scan_of(reading, path, where, ((), None))
        root = xml_root(as_text(files[names[0]]).encode(), where)
        check_count(reading, text_of(inner(inner(root, "ScanInformation"), "DataCount")), where, "DataCount")
        return scan_of(reading, path, where, _lines(root, where))

    yield from scans(path, len(found), one)


def _lines(root: ET.Element, where: str) -> tuple[tuple[float, ...], float | None]:
    tube = inner(root, "XrayGenerator")
    header = inner(root, "RASHeader")
    unit = next((found for pair in header or () if (found := find_unit(" ".join(pair.itertext())))), "")

    def value(name: str) -> float | None:
        return length(text_of(inner(tube, name)), unit, where)

    used = USED.get(text_of(inner(tube, "WaveType")).lower())
    return tube_lines(value("WavelengthKalpha1"), value("WavelengthKalpha2"), beta=value("WavelengthKbeta"), used=used)


FORMAT = Format("Rigaku RASX", (".rasx",), lambda head: head.startswith(b"PK"), read)
