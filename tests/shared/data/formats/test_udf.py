"""UDF: text as Philips and PANalytical write it; values by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError

COUNTS = np.random.default_rng(5).poisson(90, 101)


def write(
    folder: Path, counts: np.ndarray = COUNTS, second: str = "LabdaAlpha2, 1.54439,/\nRatioAlpha21, 0.50000,/\n"
) -> Path:
    lines = [", ".join(f"{c:7d}" for c in counts[i : i + 8]) for i in range(0, len(counts), 8)]
    path = folder / "quartz.udf"
    path.write_text(
        "SampleIdent,quartz,/\nTitle1,a, b, c,/\nTitle2,,/\nDiffrType,PW1800,/\nAnode,Cu,/\nLabdaAlpha1, 1.54056,/\n"
        f"{second}DataAngleRange,   5.0000,   7.0000,/\nScanStepSize,    0.020,/\nScanType,CONTINUOUS,/\nRawScan\n"
        + ",\n".join(lines)
        + "/\n",
        encoding="ascii",
    )
    return path


def test_a_scan(tmp_path: Path) -> None:
    (found,) = read_scans(write(tmp_path))
    assert isinstance(found, Scan), found
    np.testing.assert_allclose(found.values, 5 + 0.02 * np.arange(101))
    assert found.intensity.tolist() == COUNTS.tolist() and found.unit == "counts" and found.anode == "Cu"
    assert found.wavelengths == (1.54056, 1.54439) and found.ratio == 0.5


def test_a_ratio_of_nothing_is_no_doublet(tmp_path: Path) -> None:
    (found,) = read_scans(write(tmp_path, second="LabdaAlpha2, 1.54439,/\nRatioAlpha21, 0.00000,/\n"))
    assert isinstance(found, Scan) and found.wavelengths == (1.54056,)


def test_counts_that_are_fewer_than_the_angles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="101 points, but the data block holds 100"):
        list(read_scans(write(tmp_path, COUNTS[:-1])))
    path = write(tmp_path)
    path.write_text(path.read_text().replace("/\n", "\n").replace(",\n", ",/\n", 12))
    with pytest.raises(InputError, match="can't be read"):
        list(read_scans(path))
