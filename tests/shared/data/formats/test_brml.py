"""BRML: zip archives as DIFFRAC writes them, with and without a folder above; values by hand."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError

COUNTS = np.random.default_rng(1).poisson(300, 70)
ANGLES = np.round(10 + 0.02 * np.arange(70), 4)
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
TUBE = (
    '<WaveLengthAlpha1 Unit="Å" Value="1.5406"/><WaveLengthAlpha2 Unit="Å" Value="1.54439"/>'
    '<WaveLengthAverage Unit="Å" Value="1.54184"/><WaveLengthBeta Unit="Å" Value="1.39222"/>'
    '<WaveLengthRatio Unit="" Value="0.5"/><TubeMaterial>Cu</TubeMaterial>'
)


def raw_data(
    counts: Sequence[int] = tuple(COUNTS), axis: str = "TwoTheta", factor: float = 1.0, tube: str = TUBE
) -> str:
    rows = "".join(f"<Datum>768,{factor:g},{x},{y * factor:g}</Datum>" for x, y in zip(ANGLES, counts, strict=True))
    return (
        f'<?xml version="1.0"?><RawData {XSI}><DataRoutes><DataRoute RouteFlag="Measured">'
        f'<ScanInformation ScanName="{axis} scan"><ScanAxes><ScanAxisInfo AxisId="{axis}" AxisName="{axis}" Unit="°">'
        f"<Start>{ANGLES[0]}</Start><Stop>{ANGLES[-1]}</Stop><Increment>0.02</Increment></ScanAxisInfo></ScanAxes>"
        f"</ScanInformation>{rows}<DataViews>"
        '<RawDataView xsi:type="FixedRawDataView" Start="0" Length="1" LogicName="MeasuredTime" Unit="s"/>'
        '<RawDataView xsi:type="FixedRawDataView" Start="1" Length="1" LogicName="AbsorptionFactor" Unit=""/>'
        '<RawDataView xsi:type="VaryingRawDataView" Start="2" Length="1"><Varying LogicName="ScanAxes">'
        f'<FieldDefinitions FieldName="{axis}" AxisId="{axis}"/></Varying></RawDataView>'
        '<RawDataView xsi:type="RecordedRawDataView" Start="3" Length="1"><Recording LogicName="ScanCounter">'
        '<Unit Prefix="None" Base="Counts"/></Recording></RawDataView></DataViews></DataRoute></DataRoutes>'
        f"<Tube>{tube}</Tube></RawData>"
    )


def write(folder: Path, experiments: Mapping[int, Sequence[str]], above: str = "") -> Path:
    path = folder / "silicon.brml"
    with zipfile.ZipFile(path, "w") as archive:
        for experiment, scans in experiments.items():
            inside = f"Experiment{experiment}"
            names = [f"{inside}/RawData{i}.xml" for i in range(len(scans))]
            listed = "".join(f"<string>{name}</string>" for name in names)
            archive.writestr(
                f"{above}{inside}/DataContainer.xml",
                f"<DataContainer><RawDataReferenceList>{listed}</RawDataReferenceList></DataContainer>",
            )
            for name, scan in zip(names, scans, strict=True):
                archive.writestr(above + name, scan)
    return path


@pytest.mark.parametrize("above", ["", "silicon/", "a/b/"])
def test_a_scan_with_a_folder_above_it_or_not(tmp_path: Path, above: str) -> None:
    (found,) = read_scans(write(tmp_path, {0: [raw_data()]}, above))
    assert isinstance(found, Scan), found
    np.testing.assert_allclose(found.values, ANGLES)
    assert found.intensity.tolist() == COUNTS.tolist() and found.unit == "counts" and found.anode == "Cu"
    assert found.wavelengths == (1.5406, 1.54439) and found.ratio == 0.5


def test_every_scan_of_every_experiment_is_there(tmp_path: Path) -> None:
    scans = {0: [raw_data(COUNTS)], 1: [raw_data(COUNTS + 1), raw_data(COUNTS + 2)], 10: [raw_data(COUNTS + 3)]}
    found = list(read_scans(write(tmp_path, scans)))
    assert [int(scan.intensity[0]) - int(COUNTS[0]) for scan in found if isinstance(scan, Scan)] == [0, 1, 2, 3]
    assert found[2].where.endswith("silicon.brml, scan 3")
    assert isinstance(found[3], Scan) and found[3].label == "Experiment10, TwoTheta scan"


def test_the_absorber_is_in_the_intensities_and_in_sigma(tmp_path: Path) -> None:
    (found,) = read_scans(write(tmp_path, {0: [raw_data(factor=10)]}))
    assert isinstance(found, Scan) and found.sigma is not None
    np.testing.assert_allclose(found.intensity, 10 * COUNTS)
    np.testing.assert_allclose(found.sigma, 10 * np.sqrt(COUNTS))
    assert "absorber" in found.remarks[0]


def test_the_wavelength_that_is_used(tmp_path: Path) -> None:
    tube = TUBE + '<WaveLength Unit="nm" Value="0.139222"/>'
    (found,) = read_scans(write(tmp_path, {0: [raw_data(tube=tube)]}))
    assert isinstance(found, Scan) and found.wavelengths == (1.39222,) and found.ratio is None


def test_a_rocking_curve_is_refused(tmp_path: Path) -> None:
    (error,) = read_scans(write(tmp_path, {0: [raw_data(axis="Theta")]}))
    assert isinstance(error, InputError) and "rocking curve" in str(error)


def test_what_is_not_whole_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {0: [raw_data()]})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match="is no whole archive"):
        list(read_scans(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(InputError, match="holds no Experiment"):
        list(read_scans(path))
    (error,) = read_scans(write(tmp_path, {0: [raw_data()[:2000]]}))
    assert isinstance(error, InputError) and "can't be read" in str(error)


def test_a_list_that_names_fewer_scans_than_there_are(tmp_path: Path) -> None:
    path = write(tmp_path, {0: [raw_data()]})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Experiment0/RawData1.xml", raw_data())
    for error in read_scans(path):
        assert isinstance(error, InputError) and ("names 1 scans, but holds 2" in str(error) or "read" in str(error))
