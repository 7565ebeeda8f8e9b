"""Bruker and Siemens UXD: text, each block of counts a scan; keys hold for the blocks below until they are set again.

``_2THETACOUNTS``, ``_COUNTS``, ``_2THETACPS`` and ``_CPS`` open a block. Counts without angles stand several in a line,
of which the last may be shorter: rietx cuts every line to the shortest, so it is given one count a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from imitation_refinement.data.readers import (
    AGAIN,
    check_count,
    joined,
    length,
    number,
    read_both,
    scan_of,
    scans,
    tube_lines,
    written,
)
from imitation_refinement.data.scans import Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import decode

KEY = re.compile(r"_\+?(\w+)\s*=\s*(.*)")
BLOCK = re.compile(r"_(2THETA)?(COUNTS|CPS)")
TWO_THETA = ("PSDSCAN", "PSDFIXEDSCAN")  # drives of position-sensitive detectors


def read(path: Path) -> Iterator[Scan | InputError]:
    """The scans of a file in its order.

    Raises:
        InputError: if it holds no block of counts.
    """
    lines, headers = _blocks(decode(path))
    if not headers:
        raise InputError(path, "holds no block of counts (_COUNTS, _2THETACOUNTS, _CPS, _2THETACPS).", AGAIN)
    text = joined(lines)

    def one(index: int, where: str) -> Scan:
        said = headers[index]
        with written(path.name, text) as plain:
            reading = read_both(plain, where, "uxd", index, scan=index)
        if reading.said.get("scan_count") != str(len(headers)):
            raise InputError(where, f"holds {len(headers)} blocks, of which not all are whole.", AGAIN)
        check_count(reading, said.get("STEPCOUNT"), where, "_STEPCOUNT")
        label = ", ".join(filter(None, (said.get("SAMPLE"), said.get("DRIVE"))))
        return scan_of(reading, path, where, _lines(said, where), label=label)

    yield from scans(path, len(headers), one)


def _blocks(text: str) -> tuple[list[str], list[dict[str, str]]]:
    """The lines of a file as rietx reads them all, and the keys that hold for each block.

    Where no angles stand it is given one count a line, and ``COUPLED`` for other drives that step 2θ.
    """
    lines: list[str] = []
    headers: list[dict[str, str]] = []
    keys: dict[str, str] = {}
    alone = False
    for stripped in map(str.strip, text.splitlines()):
        line = stripped
        if block := BLOCK.fullmatch(line):
            alone = block[1] is None
            headers.append(dict(keys))
        elif key := KEY.fullmatch(line):
            keys[key[1].upper()] = value = key[2].strip("'\" ")
            if key[1].upper() == "DRIVE" and value.upper() in TWO_THETA:
                line = "_DRIVE='COUPLED'"
        elif alone and line and not line.startswith((";", "_")):
            lines += line.split()
            continue
        lines.append(line)
    return lines, headers


def _lines(said: Mapping[str, str], where: str) -> tuple[tuple[float, ...], float | None]:
    first, second, beta, used = (
        length(said.get(key), said.get("WL_UNIT"), where) for key in ("WL1", "WL2", "WL3", "RANGE_WL")
    )
    mean = length(said.get("ALPHA_AVERAGE"), said.get("WL_UNIT"), where)
    return tube_lines(first, second, mean, beta, number(said.get("WLRATIO")), used)


FORMAT = Format("Bruker UXD", (".uxd",), lambda head: b"_FILEVERSION" in head, read)
