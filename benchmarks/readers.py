"""Whether the readers of diffractometers' files say what the files' own headers say.

    python benchmarks/readers.py FOLDER

FOLDER holds files of diffractometers and a table SOURCES.tsv, separated by tabs: `file`, and `header_says`, which is
empty or JSON: `n`, the points of the first scan, `x`, its first and last angle, `sum` and `max` of its intensities,
`scans`, how many the file holds. Each file is read as `identify` does, with all scans. A row a file:

    right    the first scan is as the header says, and the file holds as many scans
    read     without an error; there is nothing to compare with
    refused  for the reason that stands beside it: judge whether it is true
    WRONG    read, and not as the header says

A scan that is read may still be of no use as a pattern, as one of few points; that stands beside it, too.
The time is that of the processor for one file, without that of importing the libraries. Exit status 1 if one is WRONG.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.patterns import pattern_of
from imitation_refinement.data.readers import library
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError
from imitation_refinement.running.stage import exit_on_input_error

SOURCES = "SOURCES.tsv"
GIVEN = 1.54056  # [Å] for files that do not say theirs
ANGLE = 5e-4  # [°], tables of headers are rounded
SHARE = 1e-6


def differences(scan: Scan, scans: int, said: dict[str, Any]) -> list[str]:
    """What a header says otherwise than the reader."""
    x, y = scan.values, scan.intensity
    read = {"n": len(x), "sum": y.sum(), "max": y.max(), "scans": scans}
    out = [
        f"{key} {read[key]:g}, header {said[key]:g}"
        for key in read
        if key in said and not math.isclose(read[key], said[key], rel_tol=SHARE)
    ]
    return out + [
        f"angle {x[i]:g}, header {end:g}"
        for i, end in zip((0, -1), said.get("x", ()), strict=False)
        if abs(x[i] - end) > ANGLE
    ]


def judge(path: Path, said: dict[str, Any]) -> tuple[str, str]:
    """The verdict on one file, and what it rests on."""
    try:
        found = list(read_scans(path))
    except InputError as error:
        return "refused", error.problem
    scans = [scan for scan in found if isinstance(scan, Scan)]
    notes = [item.problem for item in found if isinstance(item, InputError)]
    if not scans:
        return "refused", "; ".join(notes)
    for scan in scans:
        try:
            notes += pattern_of(scan, GIVEN).remarks
        except InputError as error:
            notes.append(f"of no use as a pattern: {error.problem}")
    first = scans[0]
    lines = " and ".join(f"{value:g}" for value in first.wavelengths) or "no wavelength"
    ratio = "" if first.ratio is None else f", ratio {first.ratio:g}"
    about = f"{len(found)} scans, " if len(found) > 1 else ""
    about += f"{len(first.values)} points, {first.values[0]:g} to {first.values[-1]:g}, {lines}{ratio}"
    wrong = differences(first, len(found), said)
    verdict = "WRONG" if wrong else "right" if said else "read"
    return verdict, "; ".join(dict.fromkeys((*wrong, about, *notes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder: Path = parser.parse_args().folder
    with exit_on_input_error():
        if not (folder / SOURCES).is_file():
            raise InputError(folder, f"has no {SOURCES}.", "Name the files and what their headers say there.")
        for name in ("rietx.io.readers", "geddes", "gemmi", "h5py"):
            library(name, folder)
    with (folder / SOURCES).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    counted: Counter[str] = Counter()
    print("| file | verdict | ms | what was read, or why not |\n|---|---|--:|---|")
    for row in rows:
        begun = time.process_time()
        verdict, why = judge(folder / row["file"], json.loads(row["header_says"] or "{}"))
        counted[verdict] += 1
        print(f"| {row['file']} | {verdict} | {1000 * (time.process_time() - begun):.0f} | {why} |")
    print(f"{len(rows)} files: " + ", ".join(f"{count} {verdict}" for verdict, count in counted.most_common()))
    raise SystemExit(int(counted["WRONG"] > 0))


if __name__ == "__main__":
    main()
