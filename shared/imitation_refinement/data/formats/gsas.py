"""GSAS powder data, layouts STD, ESD and FXYE: text, each ``BANK`` a scan.

Banks in centidegrees of 2θ; times of flight, energies and others are refused. The format does not say a wavelength, but
remarks above the data may. Larson and Von Dreele, Los Alamos report LAUR 86-748 (2004).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from imitation_refinement.data.headers import choose_wavelengths, find_unit, find_wavelengths
from imitation_refinement.data.readers import AGAIN, check_count, read_both, scan_of, scans, written
from imitation_refinement.data.scans import Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import decode

EXTENSIONS = (".gsas", ".gsa", ".gda", ".gss", ".xra", ".fxye", ".std", ".esd", ".raw", ".dat", ".txt", ".xye")
BANK = re.compile(r"^(#?)[ \t]*BANK[ \t]+(\d{1,9})[ \t]+(\d{1,9})[ \t]+\d+[ \t]+[A-Za-z]", re.MULTILINE)

FAR = 3000  # characters above the first BANK that rietx surely looks past


def read(path: Path) -> Iterator[Scan | InputError]:
    """The banks of a file in its order.

    Raises:
        InputError: if it holds none.
    """
    text = decode(path)
    found = list(BANK.finditer(text))
    banks = [bank for bank in found if not bank[1]] or found  # those behind a # are none beside others
    if not banks:
        raise InputError(path, "holds no BANK.", AGAIN)
    header = [line for line in text[: banks[0].start()].splitlines() if line.strip()]
    unit = next((unit for line in header if (unit := find_unit(line))), "")
    wavelengths, chosen = choose_wavelengths([s for line in header for s in find_wavelengths(line, path, unit)])

    begin = banks[0].start()
    long_remarks = begin > FAR and "TIME_MAP" not in text[:begin]
    body = f"{path.stem:80}\n{text[begin:]}" if long_remarks else text

    def one(index: int, where: str) -> Scan:
        number, points = int(banks[index][2]), banks[index][3]
        with written(path.name, body) as file:
            reading = read_both(file, where, "gsas", index, bank=number)
        check_count(reading, points, where, f"BANK {number}")
        remarks = (*reading.remarks, *chosen)
        return scan_of(reading, path, where, (wavelengths, None), label=f"bank {number}", remarks=remarks)

    yield from scans(path, len(banks), one)


def _matches(head: bytes) -> bool:
    return BANK.search(head.decode("latin-1")) is not None or head.startswith(b"TIME_MAP")


FORMAT = Format("GSAS powder data", EXTENSIONS, _matches, read)
