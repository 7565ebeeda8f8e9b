"""Rigaku RAS: text, each block from ``*RAS_INT_START`` to ``*RAS_INT_END`` a scan with the header above it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from imitation_refinement.data.readers import AGAIN, check_count, length, read_both, scan_of, scans, tube_lines
from imitation_refinement.data.scans import Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import decode

FIELD = re.compile(r'\*(\S+)\s+"(.*)"\s*')
USED = {"ka1": "a1", "ka2": "a2", "ka": "a", "kb": "b", "kb1": "b"}


def read(path: Path) -> Iterator[Scan | InputError]:
    """The scans of a file in its order.

    Raises:
        InputError: if it holds no block of points.
    """
    headers: list[dict[str, str]] = []
    header: dict[str, str] = {}
    for line in decode(path).splitlines():
        if line.startswith("*RAS_HEADER_START"):
            header = {}
        elif line.startswith("*RAS_INT_START"):
            headers.append(header)
        elif found := FIELD.fullmatch(line.strip()):
            header[found[1]] = found[2].strip()
    if not headers:
        raise InputError(path, "holds no block of points (*RAS_INT_START).", AGAIN)

    def one(index: int, where: str) -> Scan:
        reading = read_both(path, where, "ras", index, scan=index)
        if reading.said.get("scan_count") != str(len(headers)):
            raise InputError(where, f"holds {len(headers)} blocks, of which not all are whole.", AGAIN)
        check_count(reading, headers[index].get("MEAS_DATA_COUNT"), where, "*MEAS_DATA_COUNT")
        return scan_of(reading, path, where, _lines(headers[index], where))

    yield from scans(path, len(headers), one)


def _lines(header: Mapping[str, str], where: str) -> tuple[tuple[float, ...], float | None]:
    unit = header.get("HW_XG_WAVE_LENGTH_UNIT")

    def value(name: str) -> float | None:
        return length(header.get(f"HW_XG_WAVE_LENGTH_{name}"), unit, where)

    used = USED.get(header.get("MEAS_COND_XG_WAVE_TYPE", "").lower())
    return tube_lines(value("ALPHA1"), value("ALPHA2"), beta=value("BETA"), used=used)


FORMAT = Format("Rigaku RAS", (".ras",), lambda head: b"*RAS_" in head, read)
