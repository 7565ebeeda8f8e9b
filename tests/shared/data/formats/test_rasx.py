"""RASX: zip archives as SmartLab Studio II writes them; values by hand."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError

COUNTS = np.random.default_rng(2).poisson(200, 75).astype(float)
ANGLES = np.round(20 + 0.04 * np.arange(75), 4)


def write(
    folder: Path,
    scans: Sequence[np.ndarray] = (COUNTS,),
    unit: str = "counts",
    axis: str = "TwoThetaTheta",
    attenuator: float = 1,
    count: int = 75,
    wave: str = "Ka1",
    above: str = "",
) -> Path:
    path = folder / "corundum.rasx"
    with zipfile.ZipFile(path, "w") as archive:
        groups = ""
        for i, counts in enumerate(scans):
            groups += (
                f'<Data{i} Type="Profile"><ContentHashList Name="Profile{i}.txt"/>'
                f'<ContentHashList Name="MesurementConditions{i}.xml"/></Data{i}>'
            )
            rows = "".join(f"{x:.4f}\t{y:.9g}\t{attenuator:g}\r\n" for x, y in zip(ANGLES, counts, strict=True))
            archive.writestr(f"{above}Data{i}/Profile{i}.txt", ("\ufeff" + rows).encode())
            archive.writestr(
                f"{above}Data{i}/MesurementConditions{i}.xml",
                f'\ufeff<?xml version="1.0" encoding="utf-8"?><MeasurementConditions><HWConfigurations><XrayGenerator>'
                f"<TargetName>Co</TargetName><WaveType>{wave}</WaveType><WavelengthKbeta>0.162079</WavelengthKbeta>"
                "<WavelengthKalpha1>0.178896</WavelengthKalpha1><WavelengthKalpha2>0.179285</WavelengthKalpha2>"
                f"</XrayGenerator></HWConfigurations><ScanInformation><AxisName>{axis}</AxisName><Step>0.04</Step>"
                "<Speed>4</Speed><SpeedUnit>deg/min</SpeedUnit><PositionUnit>deg</PositionUnit>"
                f"<IntensityUnit>{unit}</IntensityUnit><DataCount>{count}</DataCount></ScanInformation><RASHeader>"
                "<Pair><string>*HW_XG_WAVE_LENGTH_UNIT</string><string>nm</string></Pair></RASHeader>"
                "</MeasurementConditions>".encode(),
            )
        archive.writestr(f"{above}root.xml", f'<?xml version="1.0"?><Root Version="1.1.0.0">{groups}</Root>')
    return path


@pytest.mark.parametrize("above", ["", "corundum/"])
def test_counts_and_wavelengths_in_their_unit(tmp_path: Path, above: str) -> None:
    (found,) = read_scans(write(tmp_path, above=above))
    assert isinstance(found, Scan), found
    np.testing.assert_allclose(found.values, ANGLES)
    assert found.intensity.tolist() == COUNTS.tolist() and found.unit == "counts" and found.anode == "Co"
    assert found.wavelengths == pytest.approx((1.78896, 1.79285)) and found.ratio is None


def test_the_beta_line_where_it_is_meant(tmp_path: Path) -> None:
    (found,) = read_scans(write(tmp_path, wave="Kb"))
    assert isinstance(found, Scan) and found.wavelengths == pytest.approx((1.62079,))


def test_every_profile_is_a_scan(tmp_path: Path) -> None:
    found = list(read_scans(write(tmp_path, [COUNTS + i for i in range(12)])))
    assert [int(scan.intensity[0] - COUNTS[0]) for scan in found if isinstance(scan, Scan)] == list(range(12))


def test_counts_that_are_none_and_counts_a_second(tmp_path: Path) -> None:
    (found,) = read_scans(write(tmp_path, [COUNTS * 1.2345]))
    assert isinstance(found, Scan) and found.unit == "" and found.sigma is None
    assert "says counts, but its intensities are no whole numbers" in found.remarks[0]
    (found,) = read_scans(write(tmp_path, [COUNTS / 0.6], unit="cps"))  # 0.04° at 4°/min take 0.6 s
    assert isinstance(found, Scan) and found.unit == "cps" and found.sigma is not None
    np.testing.assert_allclose(found.sigma, np.sqrt(COUNTS) / 0.6, rtol=1e-6)


def test_attenuators_are_warned_of(tmp_path: Path) -> None:
    (found,) = read_scans(write(tmp_path, attenuator=50))
    assert isinstance(found, Scan) and found.intensity.tolist() == COUNTS.tolist()
    assert any("attenuator" in remark and "not applied" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"axis": "Omega"}, "rocking"), ({"count": 80}, "holds 75 of the 80 points that DataCount says")],
)
def test_what_is_no_powder_pattern_or_not_whole(tmp_path: Path, options: dict, message: str) -> None:
    (error,) = read_scans(write(tmp_path, **options))
    assert isinstance(error, InputError) and message in str(error)


def test_an_axis_that_is_not_known_is_left_to_the_reader_of_it(tmp_path: Path) -> None:
    (found,) = read_scans(write(tmp_path, axis="Wobble"))
    assert isinstance(found, Scan)
    with pytest.raises(InputError, match="its axis is 'Wobble', not 2θ"):
        found.axis.two_theta(found.values, 1.5406, found.where)


def test_an_archive_without_profiles(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.rasx", "w") as archive:
        archive.writestr("root.xml", "<Root/>")
    with pytest.raises(InputError, match="holds no profile"):
        list(read_scans(tmp_path / "a.rasx"))
