"""Bruker RAW: binary files of both versions, field by field; values by hand."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError

COUNTS = np.random.default_rng(6).poisson(250, 72)
ANGLES = 10 + 0.02 * np.arange(72)
TUBE = (1.54184, 1.5406, 1.54439, 1.39222, 0.5)


def raw3(
    ranges: Sequence[np.ndarray] = (COUNTS,), used: float = 1.5406, tube: tuple[float, ...] = TUBE, scan_type: int = 0
) -> bytes:
    """Version 3, RAW1.01: a header of 712 bytes, then for each range one of 304 and a float32 a point."""
    head = bytearray(712)
    head[:8] = b"RAW1.01\0"
    struct.pack_into("<ii", head, 8, 1, len(ranges))
    struct.pack_into("<f", head, 564, 217.5)
    head[326:331] = b"mica\0"
    head[608:610] = b"Cu"
    struct.pack_into("<5d", head, 616, *tube)
    out = bytes(head)
    for counts in ranges:
        block = bytearray(304)
        struct.pack_into("<ii", block, 0, 304, len(counts))
        struct.pack_into("<dd", block, 8, ANGLES[0] / 2, ANGLES[0])
        struct.pack_into("<d", block, 176, 0.02)
        struct.pack_into("<f", block, 192, 4.0)
        struct.pack_into("<i", block, 196, scan_type)
        struct.pack_into("<d", block, 240, used)
        struct.pack_into("<iii", block, 248, 0, 4, 0)
        out += bytes(block) + np.asarray(counts, "<f4").tobytes()
    return out


def raw4(
    ranges: Sequence[np.ndarray] = (COUNTS,), used: float = 1.5418, drive: bytes = b"2Theta", datum: int = 8
) -> bytes:
    """Version 4: 61 bytes, then segments of type, length and content, and ranges behind their markers."""
    out = (b"RAW4.00\0" + bytes(53))[:61]
    source = bytearray(160)
    struct.pack_into("<II", source, 0, 30, len(source))
    struct.pack_into("<5d", source, 72, 1.5418, *TUBE[1:])
    source[116:118] = b"Cu"
    sample = bytearray(60)
    struct.pack_into("<II", sample, 0, 10, len(sample))
    sample[12:20] = b"SAMPLEID"
    sample[36:40] = b"mica"
    out += bytes(source) + bytes(sample)
    for counts in ranges:
        block = bytearray(160)
        block[32:46] = b"Locked Coupled"
        struct.pack_into("<ddIf", block, 72, ANGLES[0], 0.02, len(counts), 4000.0)
        struct.pack_into("<ff", block, 100, 40.0, 40.0)
        struct.pack_into("<d", block, 112, used)
        stepped = bytearray(64)
        struct.pack_into("<III", stepped, 0, 50, 64, 1)
        stepped[12 : 12 + len(drive)] = drive
        struct.pack_into("<d", stepped, 56, ANGLES[0])
        struct.pack_into("<II", block, 136, datum, len(stepped))
        rows = b"".join(struct.pack("<f", count) + bytes(datum - 4) for count in counts)
        out += bytes(block) + bytes(stepped) + rows
    return out


def scans_of(folder: Path, data: bytes) -> list[Scan | InputError]:
    path = folder / "mica.raw"
    path.write_bytes(data)
    return list(read_scans(path))


@pytest.mark.parametrize("data", [raw3(), raw4(), raw4(datum=4), raw3(used=1.54184)], ids=["3", "4", "4-byte", "mean"])
def test_a_scan(tmp_path: Path, data: bytes) -> None:
    (found,) = scans_of(tmp_path, data)
    assert isinstance(found, Scan), found
    np.testing.assert_allclose(found.values, ANGLES)
    assert found.intensity.tolist() == COUNTS.tolist() and found.unit == "counts"
    assert found.anode == "Cu" and found.label == "mica" and found.remarks == ()
    assert found.wavelengths == (1.5406, 1.54439) and found.ratio == 0.5


def test_the_lines_that_are_there(tmp_path: Path) -> None:
    for options, wavelengths in (
        ({"tube": (1.5406, 1.5406, 0.0, 0.0, 0.0)}, (1.5406,)),
        ({"used": 1.39222}, (1.39222,)),
        ({"used": 0.7093}, (0.7093,)),  # another than the tube's: what the angles were measured with
    ):
        (found,) = scans_of(tmp_path, raw3(**options))
        assert isinstance(found, Scan) and found.wavelengths == wavelengths and found.ratio is None


@pytest.mark.parametrize("make", [raw3, raw4])
def test_every_range_is_a_scan(tmp_path: Path, make) -> None:
    found = scans_of(tmp_path, make([COUNTS, COUNTS + 1, COUNTS[:70] + 2]))
    assert [int(scan.intensity[0] - COUNTS[0]) for scan in found if isinstance(scan, Scan)] == [0, 1, 2]
    assert isinstance(found[2], Scan) and len(found[2].values) == 70


def test_counts_a_second(tmp_path: Path) -> None:
    (found,) = scans_of(tmp_path, raw4([COUNTS / 4]))
    assert isinstance(found, Scan) and found.unit == "" and found.sigma is not None
    np.testing.assert_allclose(found.sigma, np.sqrt(COUNTS) / 4)


def test_what_is_refused(tmp_path: Path) -> None:
    for data, message in ((raw3(scan_type=3), "rocking curve"), (raw4(drive=b"Phi"), "pole figure")):
        (error,) = scans_of(tmp_path, data)
        assert isinstance(error, InputError) and message in str(error)
    for data in (raw3()[:-8], raw4()[:-8]):
        for error in scans_of(tmp_path, data):
            assert isinstance(error, InputError)
    with pytest.raises(InputError, match="holds a header that is not whole"):
        scans_of(tmp_path, raw3()[:800])
    backwards = bytearray(raw3())
    struct.pack_into("<i", backwards, 12, 2**31 - 1)
    struct.pack_into("<i", backwards, 712 + 256, -304 - 4 * 72)
    with pytest.raises(InputError, match="holds a header that is not whole"):
        scans_of(tmp_path, bytes(backwards))
    with pytest.raises(InputError, match="is no Bruker RAW or GSAS powder data"):
        scans_of(tmp_path, b"\x01\x02" * 2000)


def raw1(ranges: Sequence[np.ndarray] = (COUNTS,)) -> bytes:
    """Version 1: for each range a header of 156 bytes, and a float32 a point."""
    out = b""
    for left, counts in zip(reversed(range(len(ranges))), ranges, strict=True):
        head = bytearray(156)
        head[:4] = b"RAW "
        struct.pack_into("<IffIIffff", head, 4, len(counts), 4.0, 0.02, 0, 0, ANGLES[0], -1e6, -1e6, -1e6)
        head[40:44] = b"mica"
        struct.pack_into("<ff", head, 72, 1.5406, 1.54439)
        struct.pack_into("<I", head, 152, left)
        out += bytes(head) + np.asarray(counts, "<f4").tobytes()
    return out


def test_older_versions_by_xylib(tmp_path: Path) -> None:
    pytest.importorskip("xylib", reason="no requirement: it has no wheels for this Python")
    found = scans_of(tmp_path, raw1([COUNTS, COUNTS + 1]))
    assert len(found) == 2
    for i, scan in enumerate(found):
        assert isinstance(scan, Scan)
        np.testing.assert_allclose(scan.values, ANGLES, atol=1e-5)
        assert scan.intensity.tolist() == (COUNTS + i).tolist() and scan.unit == "counts"
        assert scan.wavelengths == pytest.approx((1.5406, 1.54439), rel=1e-5) and scan.ratio is None
        assert scan.label == "mica" and "xylib alone" in scan.remarks[0]
    with pytest.raises(InputError, match=r"can't be read|says more points"):
        scans_of(tmp_path, raw1()[:-40])


@pytest.mark.parametrize(("magic", "version"), [(b"RAW ", 1), (b"RAW2", 2)])
def test_older_versions_without_xylib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, magic: bytes, version: int
) -> None:
    monkeypatch.setitem(sys.modules, "xylib", None)
    with pytest.raises(InputError, match=f"is Bruker RAW of version {version}, which xylib alone reads") as caught:
        scans_of(tmp_path, magic + bytes(3000))
    assert "pip install xylib-py-wheels==1.7.3" in caught.value.remedy
