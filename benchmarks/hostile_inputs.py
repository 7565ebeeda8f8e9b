"""What ``benchmarks.hostile`` feeds to the readers: whole files of every kind, and what is done to them.

A specimen is written by the code that the tests of its form write it with. A mutator takes its bytes, or the file, and
a generator of random numbers; what it makes is told by the kind, the number of the input and the seed alone.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator

from tests.shared.answer.conftest import measured
from tests.shared.data.formats import (
    test_brml,
    test_bruker_raw,
    test_gsas,
    test_nexus,
    test_pdcif,
    test_ras,
    test_rasx,
    test_udf,
    test_uxd,
    test_xrdml,
)

ANGLES, COUNTS = (values[::4] for values in measured("NaCl"))

# ------------------------------------------------------------------------------------------------- ids and numbers

IDS = (
    "../x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "/absolute/path",
    "..",
    ".",
    "",
    " ",
    "-",
    "--help",
    "a/b/c",
    "a\\b",
    "a" * 300,
    "é" * 300,
    "a" * 100_000,
    "CON",
    "nul.txt",
    "COM1",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "=cmd|' /C calc'!A0",
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\tx",
    "a\nb",
    "a\rb",
    "a\x00b",
    "a\x1b[31mred",
    "a\u202eb",
    "\ud800",
    "{{7*7}}",
    "${jndi:x}",
    "%s%n",
    "'; DROP TABLE runs; --",
    "$(touch x)",
    "`touch x`",
    "nan",
    "NA",
    "None",
    "0",
)
NUMBERS = (
    b"nan", b"NaN", b"inf", b"-inf", b"Infinity", b"-1", b"-1e9", b"1e308", b"-1e308", b"1e400", b"1e-320", b"0",
    b"-0", b"", b"9" * 400, b"9" * 5000, b"0x1F", b"1_000", "١٢٣".encode(), b"1,5", b"--1", b"1e", b"true", b"[[1]]",
    b"\x00", b"<b>", b"=1+1", b"2147483647", b"-2147483648", b"4294967296", b"9223372036854775808", b"1e9", b"1e-9",
    b"0.5", b"10000000", b"180", b"181", b"?", b".", b"'", b'"', b"1/0", b"(", b")",
)  # fmt: skip
FLOATS = (
    np.nan,
    np.inf,
    -np.inf,
    -1.0,
    -1e9,
    1e308,
    -1e308,
    1e-320,
    0.0,
    1e30,
    1e-30,
    1e9,
    5e-324,
    1.7976931348623157e308,
)
NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")

Mutator = Callable[[bytes, Generator], bytes]


def some(rng: Generator, choices: Sequence[Any]) -> Any:
    return choices[int(rng.integers(len(choices)))]


# ------------------------------------------------------------------------------------------------- bytes


def truncated(data: bytes, rng: Generator) -> bytes:
    return data[: int(rng.integers(len(data) + 1))]


def flipped(data: bytes, rng: Generator) -> bytes:
    out = bytearray(data)
    for _ in range(int(2 ** rng.integers(0, 7))):
        out[int(rng.integers(len(out)))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def flipped_early(data: bytes, rng: Generator) -> bytes:
    """Headers are where lengths stand."""
    end = min(len(data), 400)
    return flipped(data[:end], rng) + data[end:]


def flipped_late(data: bytes, rng: Generator) -> bytes:
    """So are the ends of archives and of tables."""
    end = max(0, len(data) - 600)
    return data[:end] + flipped(data[end:], rng)


def with_nul(data: bytes, rng: Generator) -> bytes:
    out = bytearray(data)
    at, n = int(rng.integers(len(out))), int(2 ** rng.integers(0, 10))
    out[at : at + n] = bytes(min(n, len(out) - at))
    return bytes(out)


def cut_out(data: bytes, rng: Generator) -> bytes:
    a, b = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return data[:a] + data[b:]


def repeated(data: bytes, rng: Generator) -> bytes:
    a, b = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return data[:b] + data[a:b] * int(rng.integers(1, 4)) + data[b:]


def garbage(data: bytes, rng: Generator) -> bytes:
    noise = rng.integers(0, 256, int(2 ** rng.integers(0, 14)), np.uint8).tobytes()
    return some(rng, (noise, noise + data, data + noise))


def empty(data: bytes, rng: Generator) -> bytes:
    return some(rng, (b"", b"\n", b"\x00", b" ", b"\xff", data[:1], data[:8]))


def other_encoding(data: bytes, rng: Generator) -> bytes:
    text = data.decode("utf-8", "replace")
    kinds = ("utf-16", "utf-16-le", "utf-32", "utf-7", "cp037", "utf-8-sig", "shift_jis", "cp1252", "mac_roman")
    return text.encode(some(rng, kinds), "replace")


def other_lines(data: bytes, rng: Generator) -> bytes:
    return data.replace(b"\n", some(rng, (b"\r", b"\r\n", b"\n\n", b"", b"\x0b", b"\x0c", b"\x85", b" ")))


def shuffled_lines(data: bytes, rng: Generator) -> bytes:
    lines = data.split(b"\n")
    if some(rng, (True, False)):
        a = int(rng.integers(len(lines)))
        lines[a : a + 8] = lines[a : a + 8][::-1]
    else:
        rng.shuffle(lines)  # type: ignore[arg-type]
    return b"\n".join(lines)


def other_numbers(data: bytes, rng: Generator) -> bytes:
    """A few numbers replaced by hostile ones."""
    found = list(NUMBER.finditer(data))
    if not found:
        return flipped(data, rng)
    out = data
    for match in sorted({int(i) for i in rng.integers(len(found), size=int(2 ** rng.integers(0, 4)))}, reverse=True):
        a, b = found[match].span()
        out = out[:a] + some(rng, NUMBERS) + out[b:]
    return out


def one_number_everywhere(data: bytes, rng: Generator) -> bytes:
    """Every number, or those of the second half, the same: a constant pattern among others."""
    value, half = some(rng, NUMBERS), len(data) // 2 * int(rng.integers(2))
    return data[:half] + NUMBER.sub(lambda _: value, data[half:])


def long_line(data: bytes, rng: Generator) -> bytes:
    unit = some(rng, (b"1", b"1 ", b"1,", b"(", b"[", b"<a>", b"=", b"a", b"#", b" ", b"'", b"_", b"1.1.", b"\t", b"-"))
    filler = unit * int(some(rng, (1000, 30_000, 300_000)))
    at = data.find(b"\n", int(rng.integers(len(data) + 1))) + 1
    return data[:at] + filler + some(rng, (b"", b"\n", b"x\n")) + data[at:]


def hostile_words(data: bytes, rng: Generator) -> bytes:
    words = list(re.finditer(rb"[A-Za-z_]{3,}", data))
    if not words:
        return garbage(data, rng)
    a, b = some(rng, words).span()
    return data[:a] + str(some(rng, IDS)).encode("utf-8", "replace") + data[b:]


def binary_words(data: bytes, rng: Generator) -> bytes:
    """Some 4 or 8 bytes replaced by numbers that lengths and values should not be."""
    out = bytearray(data)
    np.seterr(over="ignore")
    for _ in range(int(2 ** rng.integers(0, 3))):
        number = some(rng, (-1, 0, 1, 2**31 - 1, -(2**31), 2**24, 10_000_000, 255, 65536))
        word = some(
            rng,
            (struct.pack("<i", number), np.float32(some(rng, FLOATS)).tobytes(), struct.pack("<d", some(rng, FLOATS))),
        )
        at = 4 * int(rng.integers(max(len(out) // 4 - 2, 1)))
        if some(rng, (True, False)):
            at %= 1100
        if at + len(word) <= len(out):
            out[at : at + len(word)] = word
    return bytes(out)


BYTES: tuple[Mutator, ...] = (
    truncated,
    flipped,
    flipped_early,
    flipped_late,
    with_nul,
    cut_out,
    repeated,
    garbage,
    empty,
)
TEXT: tuple[Mutator, ...] = (
    other_encoding, other_lines, shuffled_lines, other_numbers, other_numbers, one_number_everywhere, long_line,
    hostile_words,
)  # fmt: skip


def entities(data: bytes, rng: Generator) -> bytes:
    """XML that says entities: nine levels of ten, a large one many times, a file of this machine."""
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 9))
    kinds = (
        f'<!DOCTYPE x [<!ENTITY e0 "lol">{levels}]>',
        f'<!DOCTYPE x [<!ENTITY e8 "{"A" * 50_000}">]>',
        '<!DOCTYPE x [<!ENTITY e8 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">',
    )
    kind = some(rng, kinds)
    head, mark, rest = data.partition(b"?>")
    if not mark:
        head, mark, rest = b"", b"", data
    at = rest.find(b">", 1)
    used = b"&e8;" * int(some(rng, (1, 5, 2000))) if b"e8" in kind.encode() else b""
    return head + mark + kind.encode() + rest[: at + 1] + used + rest[at + 1 :]


def nested_xml(data: bytes, rng: Generator) -> bytes:
    depth = int(some(rng, (100, 5000, 200_000)))
    at = data.find(b">", data.find(b"<x")) + 1
    return data[:at] + b"<a>" * depth + b"</a>" * depth + data[at:]


def nested_json(data: bytes, rng: Generator) -> bytes:
    depth = int(some(rng, (50, 2000, 200_000)))
    opened, closed = some(rng, ((b"[", b"]"), (b'{"a":', b"}")))
    inner = opened * depth + b"1" + closed * depth
    found = list(re.finditer(rb":\s*", data))
    if not found or some(rng, (True, False, False)):
        return inner
    return data[: (at := some(rng, found).end())] + inner + data[at:]


def other_values(data: bytes, rng: Generator) -> bytes:
    """One value of a JSON document, of another kind."""
    record = json.loads(data)
    odd = (None, [], {}, "", "x", -1, 1e308, True, [[1]], {"a": 1}, float("nan"), 10**30, some(rng, IDS))
    for _ in range(int(rng.integers(1, 4))):
        place: Any = record
        while isinstance(place, dict | list) and len(place):
            key = some(rng, list(place)) if isinstance(place, dict) else int(rng.integers(len(place)))
            if rng.random() < 0.35 or not isinstance(place[key], dict | list):
                if rng.random() < 0.2:
                    del place[key]
                else:
                    place[key] = deepcopy(some(rng, odd))  # else the next one may put a list into itself
                break
            place = place[key]
    return json.dumps(record).encode("utf-8", "surrogatepass")


# ------------------------------------------------------------------------------------------------- archives


DEEDS = (0.18, 0.18, 0.18, 0.2, 0.08, 0.01, 0.07, 0.03, 0.005, 0.065)  # bombs take their time to be made


def repack(data: bytes, rng: Generator, mutate: Mutator) -> bytes:
    """A zip archive with one member mutated, renamed, doubled, left out, or turned into a bomb."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = list(members)
    which, deed = some(rng, names), int(rng.choice(10, p=DEEDS))
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            if name != which or deed > 5:
                archive.writestr(name, content)
            elif deed < 3:
                archive.writestr(name, mutate(content, rng))
            elif deed == 3:
                archive.writestr(str(some(rng, IDS)).encode("utf-8", "replace").decode()[:60_000] or "x", content)
        if deed == 5:
            archive.writestr(which, bytes(some(rng, (2**28 + 1, 2**20))))
        elif deed == 6:
            archive.writestr(which, members[which])
        elif deed == 7:
            for i in range(2000):
                archive.writestr(f"{i}.xml", b"<a/>")
        elif deed == 8:
            for i in range(12):
                archive.writestr(f"x{i}.bin", bytes(2**27))
        elif deed == 9:
            link = zipfile.ZipInfo("link.xml")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
    return out.getvalue()


def cif_archive(path: Path, cifs: dict[str, bytes], rng: Generator) -> Path:
    """An archive of CIFs with hostile names, links, bombs and broken members; ``path`` has its suffix yet to come."""
    kind = some(rng, (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))
    target = path.with_name(path.name + kind)
    entries = list(cifs.items())
    for _ in range(int(rng.integers(0, 4))):
        name = str(some(rng, IDS)).encode("utf-8", "replace").decode()
        entries.append((name + some(rng, ("", ".cif", ".cif", ".CIF")), some(rng, list(cifs.values()))))
    deed = int(rng.choice(8, p=(0.05, 0.03, 0.02, 0.2, 0.2, 0.2, 0.2, 0.1)))
    if deed == 0:
        entries.append(("bomb.cif", bytes(2**28 if kind == ".zip" else 2**24 + 1)))
    elif deed == 1:
        entries += [(f"zeros{i}.bin", bytes(2**26)) for i in range(10 if kind in (".zip", ".tgz", ".tar.gz") else 1)]
    elif deed == 2:
        entries += [(f"b{i}.cif", b"data_x\nloop_\n_a\n" + b"1\n" * 2_000_000) for i in range(3)]
    elif deed == 3:
        entries += entries
    if kind == ".zip":
        with warnings.catch_warnings(), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            warnings.simplefilter("ignore")
            for name, content in entries:
                archive.writestr(name[:60_000].replace("\x00", "_") or "x", content)
            if deed == 4:
                link = zipfile.ZipInfo("link.cif")
                link.external_attr = 0o120777 << 16
                archive.writestr(link, "/etc/passwd")
    else:
        mode: Any = "w" if kind == ".tar" else "w:" + {".tgz": "gz"}.get(kind, kind.rpartition(".")[2])
        with tarfile.open(target, mode) as archive:
            for name, content in entries:
                info = tarfile.TarInfo(name.replace("\x00", "_") or "x")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            if deed == 4:
                for type_, to in (
                    (tarfile.SYMTYPE, "/etc/passwd"),
                    (tarfile.LNKTYPE, "a.cif"),
                    (tarfile.CHRTYPE, ""),
                    (tarfile.FIFOTYPE, ""),
                ):
                    info = tarfile.TarInfo(f"link{type_.decode()}.cif")
                    info.type, info.linkname, info.devmajor, info.devminor = type_, to, 1, 5
                    archive.addfile(info)
    if deed >= 5:
        target.write_bytes(some(rng, BYTES)(target.read_bytes(), rng))
    elif rng.random() < 0.05:
        target.write_bytes(gzip.compress(target.read_bytes()))
    return target


# ------------------------------------------------------------------------------------------------- tables


def odd_list(rng: Generator, values: Any) -> Any:
    """A pattern's angles or intensities as they should not be."""
    x = np.array(values, float)
    at = int(rng.integers(len(x))) if len(x) else 0
    kind = int(rng.integers(15))
    if kind < 4 and len(x):
        x[at : at + int(some(rng, (1, 5, 10_000)))] = some(rng, FLOATS)
        return x.tolist()
    return (
        [], [1.0], [7.0] * len(x), (x * some(rng, FLOATS)).tolist(), x[::-1].tolist(), None, x.tolist()[:at],
        np.repeat(x, 2).tolist(), rng.permutation(x).tolist(), (x * 1e-310).tolist(), (x + 1e17).tolist(),
    )[kind - 4]  # fmt: skip


def odd_column(rng: Generator, column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A table's column as another type."""
    n, values = len(column), column.to_pylist()
    makers: tuple[Callable[[], Any], ...] = (
        lambda: pa.nulls(n),
        lambda: pa.array(range(n)),
        lambda: pa.array(["x"] * n),
        lambda: pa.array([b"\xff\x00"] * n),
        lambda: pa.array([[["1"]]] * n),
        lambda: pa.array([[[1.0]]] * n),
        lambda: pa.array([{"a": 1.0}] * n),
        lambda: pa.array([[{"a": 1.0}]] * n),
        lambda: pa.array([True] * n),
        lambda: pa.array([0] * n, pa.timestamp("ns")),
        lambda: pa.array([str(value)[:50] for value in values]).dictionary_encode(),
        lambda: (
            pa.array([[str(v) for v in value] if isinstance(value, list) else ["y"] for value in values])
            if isinstance(values[0], list)
            else pa.array(["y"] * n)
        ),
        lambda: pa.array([[1.5]] * n, pa.large_list(pa.float32())),
        lambda: pa.array([None, *values[1:]], column.type),
        lambda: pa.array([some(rng, FLOATS) for _ in values]),
    )
    return some(rng, makers)()


def odd_table(path: Path, rng: Generator) -> None:
    """A Parquet file, as a table with hostile cells, or hostile bytes."""
    if rng.random() < 0.3:
        path.write_bytes(some(rng, (*BYTES, binary_words, flipped_late))(path.read_bytes(), rng))
        return
    table = pq.read_table(path)
    for _ in range(int(rng.integers(1, 3))):
        name = some(rng, table.column_names)
        i, column, deed = table.column_names.index(name), table[name], rng.random()
        if deed < 0.1:
            table = table.drop_columns([name]) if len(table.column_names) > 1 else table
        elif deed < 0.2:
            table = table.set_column(i, str(some(rng, IDS)).encode("utf-8", "replace").decode()[:500], column)
        elif deed < 0.25:
            table = table.append_column(name, column)
            break
        elif deed < 0.5:
            made = odd_column(rng, column)
            table = table.set_column(i, name, made)
        else:
            values = column.to_pylist()
            if not values:
                continue
            row = int(rng.integers(len(values)))
            kind = column.type
            try:
                values[row] = odd_value(rng, values[row], kind)
                table = table.set_column(i, pa.field(name, kind), pa.array(values, kind))
            except (pa.ArrowException, ValueError, TypeError, OverflowError):
                table = table.set_column(i, name, odd_column(rng, column))
    if rng.random() < 0.05:
        table = table.slice(0, 0)
    try:
        pq.write_table(table, path, compression=some(rng, ("zstd", "snappy", "gzip", "none")))
    except pa.ArrowException:
        path.write_bytes(flipped(path.read_bytes(), rng))


def odd_value(rng: Generator, value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        made = odd_list(rng, value or [])
        return [int(v) for v in made] if made is not None and pa.types.is_integer(kind.value_type) else made
    if pa.types.is_floating(kind):
        return some(rng, (*FLOATS, None))
    if pa.types.is_integer(kind):
        return some(rng, (-1, 0, 1, 231, 32767, -32768, None))
    text = some(rng, (*IDS, None))
    if value and rng.random() < 0.5 and len(str(value)) > 60:  # a CIF, or JSON
        return some(rng, (*BYTES, *TEXT))(str(value).encode(), rng).decode("utf-8", "replace")
    return None if text is None else text.encode("utf-8", "replace").decode()


# ------------------------------------------------------------------------------------------------- large ones


def many_points(path: Path, points: int) -> None:
    """A file of so many points, in the form that its extension says."""
    x = np.linspace(5, 90, points)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"pattern_id": ["x"], "two_theta": [x], "intensity": [x]}), path)
    elif path.suffix == ".nxs":
        test_nexus.write(path.parent, x, x).rename(path)
    else:
        block = "".join(f"{value:.6f} 10\n" for value in np.linspace(5, 90, 1000))
        with path.open("w") as stream:
            for _ in range(points // 1000):
                stream.write(block)


def zeros_table(path: Path, points: int) -> None:
    """A small Parquet file of many equal values."""
    half = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(points, np.float32)), points)
    columns = {
        "pattern_id": pa.array(["x"]),
        "two_theta": half.cast(pa.list_(pa.float32())),
        "intensity": half.cast(pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


# ------------------------------------------------------------------------------------------------- whole patterns


def _text(path: Path, separator: str = " ", head: str = "# wavelength 1.5406 Å\n") -> Path:
    rows = "".join(f"{x:.4f}{separator}{y:g}\n" for x, y in zip(ANGLES, COUNTS, strict=True))
    path.write_text(head + rows, encoding="utf-8")
    return path


def _written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pattern_table(path: Path, **more: list[Any]) -> Path:
    columns = {
        "pattern_id": ["a", "b", "c"],
        "two_theta": [ANGLES.tolist()] * 3,
        "intensity": [COUNTS.tolist(), (COUNTS + 1).tolist(), (COUNTS[::-1]).tolist()],
        "wavelength": [1.5406, 1.5406, 0.7093],
        "crystal_system": ["cubic", None, "cubic"],
        "formula": ["NaCl", None, "KCl"],
        **more,
    }
    pq.write_table(pa.table(columns), path)
    return path


# kind → (writes a whole file into a folder, mutators of its bytes)
XML = (*BYTES, *TEXT, entities, entities, nested_xml)
ANY, BINARY = (*BYTES, *TEXT), (*BYTES, binary_words, binary_words, binary_words)
PATTERNS: dict[str, tuple[Callable[[Path], Path], tuple[Mutator, ...]]] = {
    "xy": (lambda f: _text(f / "a.xy"), ANY),
    "csv": (lambda f: _text(f / "a.csv", ";", "2theta (deg);intensity (counts)\n"), ANY),
    "chi": (lambda f: _text(f / "a.chi", "  ", "a\n2-Theta Angle (Degrees)\nIntensity\n   900\n"), ANY),
    "xrdml": (lambda f: test_xrdml.write(f, [test_xrdml.scan_xml(test_xrdml.counts_xml())]), XML),
    "brml": (lambda f: test_brml.write(f, {0: [test_brml.raw_data()]}), (*BYTES, *XML)),
    "rasx": (test_rasx.write, (*BYTES, *XML)),
    "raw3": (lambda f: _written(f / "a.raw", test_bruker_raw.raw3()), BINARY),
    "raw4": (lambda f: _written(f / "b.raw", test_bruker_raw.raw4()), BINARY),
    "ras": (lambda f: _written(f / "a.ras", f"*RAS_DATA_START\n{test_ras.block()}*RAS_DATA_END\n"), ANY),
    "uxd": (lambda f: _written(f / "a.uxd", test_uxd.HEAD + test_uxd.block()), ANY),
    "udf": (test_udf.write, ANY),
    "gsas std": (lambda f: _written(f / "a.gsa", "by hand".ljust(80) + "\n" + test_gsas.std()), ANY),
    "gsas fxye": (lambda f: _written(f / "a.fxye", "by hand".ljust(80) + "\n" + test_gsas.fxye()), ANY),
    "pdcif": (
        lambda f: _written(f / "p.cif", "data_0\n" + test_pdcif.WAVELENGTH + test_pdcif.loop(test_pdcif.SCAN)),
        ANY,
    ),
    "nexus": (
        lambda f: test_nexus.write(f, beam={"incident_wavelength": (0.4959, "angstrom")}),
        (*BINARY, hostile_words),
    ),
}
ZIPPED = ("brml", "rasx")


def mutated_pattern(kind: str, folder: Path, rng: Generator) -> Path:
    """A file of a form, written and mutated."""
    write, mutators = PATTERNS[kind]
    path = write(folder)
    mutate = some(rng, mutators)
    data = path.read_bytes()
    again = kind in ZIPPED and mutate not in BYTES
    path.write_bytes(repack(data, rng, mutate) if again else mutate(data, rng))
    if rng.random() < 0.05:
        odd = str(some(rng, IDS)).replace("/", "_").replace("\x00", "_")
        name = odd.encode("utf-8", "replace")[:200].decode("utf-8", "ignore") + path.suffix
        path = path.rename(folder / name)
    return path


def symlink_loop(folder: Path) -> Path:
    """A folder that holds itself, a link to itself, a link to a device, a pipe, and one whole pattern."""
    inner = folder / "loop"
    inner.mkdir()
    (inner / "again").symlink_to(inner)
    (inner / "self.xy").symlink_to(inner / "self.xy")
    (inner / "zero.xy").symlink_to("/dev/zero")
    os.mkfifo(inner / "pipe.xy")
    _text(inner / "whole.xy")
    return inner
