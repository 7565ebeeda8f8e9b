"""Philips and PANalytical UDF: ``Name, value, /`` lines, then ``RawScan`` and the counts; one scan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imitation_refinement.data.readers import length, number, read_both, scan_of, tube_lines
from imitation_refinement.data.scans import Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import decode


def read(path: Path) -> Iterator[Scan | InputError]:
    """The one scan of a file.

    Raises:
        InputError: if it is not whole, or its counts are not as many as its angles.
    """
    where = str(path)
    reading = read_both(path, where, "udf")
    head = decode(path).partition("RawScan")[0]
    said = {key.strip(): rest.split(",")[0].strip() for key, _, rest in (s.partition(",") for s in head.splitlines())}
    first, second = (length(said.get(f"LabdaAlpha{i}"), None, where) for i in (1, 2))
    lines = tube_lines(first, second, ratio=number(said.get("RatioAlpha21")))
    yield scan_of(reading, path, where, lines)


FORMAT = Format("Philips UDF", (".udf",), lambda head: b"SampleIdent" in head or b"DataAngleRange" in head, read)
