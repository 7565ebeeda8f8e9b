"""GSAS powder data: text in the layouts STD, ESD and FXYE; values by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.scans import AxisKind, Scan
from imitation_refinement.errors import InputError

COUNTS = np.random.default_rng(7).poisson(500, 73)
ANGLES = 12 + 0.05 * np.arange(73)
SIGMA = np.round(np.sqrt(COUNTS) * 1.5, 1)


def std(bank: int = 1, counts: np.ndarray = COUNTS, counters: str = "  ", declared: int | None = None) -> str:
    fields = [f"{counters}{count:6d}" for count in counts]
    rows = ["".join(fields[i : i + 10]) for i in range(0, len(fields), 10)]
    head = f"BANK {bank} {declared or len(counts)} {len(rows)} CONST 1200.0 5.0 0 0 STD"
    return "\n".join(f"{row:<80}" for row in [head, *rows]) + "\n"


def esd(bank: int = 1) -> str:
    fields = [f"{value:8.1f}" for pair in zip(COUNTS, SIGMA, strict=True) for value in pair]
    fields += [f"{0:8.1f}"] * (-len(fields) % 10)
    rows = ["".join(fields[i : i + 10]) for i in range(0, len(fields), 10)]
    return "\n".join([f"BANK {bank} 73 {len(rows)} CONS 1200.0 5.0 0 0 ESD".ljust(80), *rows]) + "\n"


def fxye(bank: int = 1, bintype: str = "CONS", x: np.ndarray = 100 * ANGLES) -> str:
    rows = [f"{a:.4f} {b:.1f} {c:.1f}" for a, b, c in zip(x, COUNTS, SIGMA, strict=True)]
    return "\n".join([f"BANK {bank} 73 73 {bintype} {x[0]:.2f} 5.0 0 0 FXYE", *rows]) + "\n"


def scans_of(folder: Path, *parts: str, name: str = "zincite.gsa") -> list[Scan | InputError]:
    path = folder / name
    path.write_text("zincite, by hand".ljust(80) + "\n" + "".join(parts), encoding="ascii")
    return list(read_scans(path))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (std(), "a.gsa"),
        (std(), "a.RAW"),
        (std(), "a.dat"),
        (esd(), "a.gda"),
        (fxye(), "a.fxye"),
        (fxye(), "a.xye"),
        (fxye().replace("BANK", "#BANK"), "a.fxye"),
    ],
)
def test_layouts_and_extensions(tmp_path: Path, text: str, name: str) -> None:
    (found,) = scans_of(tmp_path, text, name=name)
    assert isinstance(found, Scan), found
    np.testing.assert_allclose(found.values, ANGLES)
    assert found.intensity.tolist() == COUNTS.tolist() and found.wavelengths == ()
    if "STD" in text:
        assert found.sigma is None and found.unit == "counts"
    else:
        np.testing.assert_allclose(np.asarray(found.sigma), SIGMA)


def test_every_bank_is_a_scan(tmp_path: Path) -> None:
    found = scans_of(tmp_path, std(1), std(3, COUNTS + 1), std(2, COUNTS + 2))
    assert [int(scan.intensity[0] - COUNTS[0]) for scan in found if isinstance(scan, Scan)] == [0, 1, 2]
    assert [scan.label for scan in found if isinstance(scan, Scan)] == ["bank 1", "bank 3", "bank 2"]


def test_several_counters_are_no_counts(tmp_path: Path) -> None:
    (found,) = scans_of(tmp_path, std(counters=" 3"))
    assert isinstance(found, Scan) and found.unit == "" and "several counters" in found.remarks[0]
    assert found.intensity.tolist() == COUNTS.tolist()


def test_a_wavelength_in_long_remarks(tmp_path: Path) -> None:
    remarks = "# Calibrated wavelength = 4.13263E-01\n" + "# and more of this kind\n" * 400
    (found,) = scans_of(tmp_path, remarks, fxye())
    assert isinstance(found, Scan) and found.wavelengths == (0.413263,) and len(found.values) == 73


def test_fewer_points_than_the_bank_says(tmp_path: Path) -> None:
    (error,) = scans_of(tmp_path, std(declared=80))
    assert isinstance(error, InputError) and "holds 73 of the 80 points that BANK 1 says" in str(error)


def test_a_bank_of_a_number_without_end_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.gsa").write_text("by hand".ljust(80) + "\n" + std().replace("BANK 1 ", f"BANK {'9' * 5000} "))
    with pytest.raises(InputError, match="is no GSAS powder data"):
        list(read_scans(tmp_path / "a.gsa"))


@pytest.mark.parametrize("bintype", ["SLOG", "RALF"])
def test_times_of_flight_have_no_way_to_two_theta(tmp_path: Path, bintype: str) -> None:
    (found,) = scans_of(tmp_path, fxye(bintype=bintype, x=1000 + 20.0 * np.arange(73)))
    assert isinstance(found, Scan) and found.axis.kind is AxisKind.OTHER
    with pytest.raises(InputError, match="its axis is 'time of flight"):
        found.axis.two_theta(found.values, 1.5406, found.where)


def test_other_axes_are_refused(tmp_path: Path) -> None:
    (error,) = scans_of(tmp_path, fxye(bintype="EDS"))
    assert isinstance(error, InputError) and "photon energy" in str(error)
