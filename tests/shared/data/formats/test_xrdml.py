"""XRDML as PANalytical's schemas have it; values by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError

COUNTS = np.random.default_rng(0).poisson(400, 80)
ANGLES = np.linspace(10, 49.5, 80)


def scan_xml(data: str, axis: str = "Gonio", positions: str = "", extra: str = "") -> str:
    positions = positions or "<startPosition>10</startPosition><endPosition>49.5</endPosition>"
    return (
        f'<scan scanAxis="{axis}"><dataPoints><positions axis="2Theta" unit="deg">{positions}</positions>'
        '<positions axis="Chi" unit="deg"><commonPosition>1.5</commonPosition></positions>'
        f"<commonCountingTime>4</commonCountingTime>{extra}{data}</dataPoints></scan>"
    )


def counts_xml(values: np.ndarray = COUNTS, name: str = "counts", unit: str = "counts") -> str:
    return f'<{name} unit="{unit}">{" ".join(f"{v:g}" for v in values)}</{name}>'


def write(
    folder: Path,
    scans: Sequence[str],
    intended: str = "K-Alpha 1",
    unit: str = "Angstrom",
    scale: float = 1.0,
    ratio: str = "0.49",
    schema: str = "2.1",
) -> Path:
    lines = {"kAlpha1": 1.540598, "kAlpha2": 1.544426, "kBeta": 1.39225}
    path = folder / "quartz.xrdml"
    path.write_text(
        f'<?xml version="1.0"?><xrdMeasurements xmlns="http://www.xrdml.com/XRDMeasurement/{schema}">'
        f'<xrdMeasurement measurementType="Scan"><usedWavelength intended="{intended}">'
        + "".join(f'<{name} unit="{unit}">{value * scale:.9g}</{name}>' for name, value in lines.items())
        + f"<ratioKAlpha2KAlpha1>{ratio}</ratioKAlpha2KAlpha1></usedWavelength><incidentBeamPath><xRayTube>"
        f"<anodeMaterial>Cu</anodeMaterial></xRayTube></incidentBeamPath>{''.join(scans)}"
        "</xrdMeasurement></xrdMeasurements>",
        encoding="utf-8",
    )
    return path


def only(path: Path) -> Scan:
    (scan,) = read_scans(path)
    assert isinstance(scan, Scan), scan
    return scan


@pytest.mark.parametrize("schema", ["1.3", "2.1"])
def test_counts_with_the_doublet_s_own_ratio(tmp_path: Path, schema: str) -> None:
    found = only(write(tmp_path, [scan_xml(counts_xml())], schema=schema))
    np.testing.assert_allclose(found.values, ANGLES)
    assert found.intensity.tolist() == COUNTS.tolist() and found.unit == "counts"
    assert found.name == "quartz" and found.anode == "Cu" and found.remarks == ()
    assert found.wavelengths == (1.540598, 1.544426) and found.ratio == 0.49


@pytest.mark.parametrize(
    ("options", "wavelengths"),
    [
        ({"ratio": "0"}, (1.540598,)),  # a monochromator's
        ({"intended": "K-Beta"}, (1.39225,)),
        ({"intended": "K-Alpha"}, (1.540598, 1.544426)),
        ({"unit": "nm", "scale": 0.1}, (1.540598, 1.544426)),
    ],
)
def test_the_wavelength_that_is_meant(tmp_path: Path, options: dict, wavelengths: tuple[float, ...]) -> None:
    found = only(write(tmp_path, [scan_xml(counts_xml())], **options))
    assert found.wavelengths == pytest.approx(wavelengths, rel=1e-8)


def test_an_unknown_unit_of_wavelengths_is_refused(tmp_path: Path) -> None:
    (error,) = read_scans(write(tmp_path, [scan_xml(counts_xml())], unit="furlong"))
    assert isinstance(error, InputError) and "'furlong', which is not known" in str(error)


def test_counts_a_second_have_the_sigma_of_their_counts(tmp_path: Path) -> None:
    found = only(write(tmp_path, [scan_xml(counts_xml(COUNTS / 4, "intensities", "cps"))]))
    assert found.unit == "cps" and found.sigma is not None
    np.testing.assert_allclose(found.intensity, COUNTS / 4)
    np.testing.assert_allclose(found.sigma, np.sqrt(COUNTS) / 4)


def test_attenuators_are_applied_and_said(tmp_path: Path) -> None:
    factors = np.ones(80)
    factors[40:42] = 100
    extra = f"<beamAttenuationFactors>{' '.join(map(str, factors))}</beamAttenuationFactors>"
    found = only(write(tmp_path, [scan_xml(counts_xml(), extra=extra)]))
    np.testing.assert_allclose(found.intensity, COUNTS * factors)
    assert found.sigma is not None
    np.testing.assert_allclose(found.sigma[39:42], np.sqrt(COUNTS[39:42]) * factors[39:42])
    assert "attenuation" in found.remarks[0] and "quartz.xrdml" not in found.remarks[0]


def test_angles_one_by_one(tmp_path: Path) -> None:
    listed = ANGLES + 0.1 * np.sin(ANGLES)
    positions = f"<listPositions>{' '.join(f'{x:.6f}' for x in listed)}</listPositions>"
    np.testing.assert_allclose(
        only(write(tmp_path, [scan_xml(counts_xml(), positions=positions)])).values, listed, atol=1e-6
    )


def test_every_scan_is_there_and_rocking_curves_are_refused(tmp_path: Path) -> None:
    scans = [scan_xml(counts_xml()), scan_xml(counts_xml(), "Omega"), scan_xml(counts_xml(COUNTS[::-1]), "2Theta")]
    first, rocking, last = read_scans(write(tmp_path, scans))
    assert isinstance(first, Scan) and isinstance(last, Scan)
    assert last.intensity.tolist() == COUNTS[::-1].tolist()
    assert last.label == "2Theta, Chi 1.5" and last.where.endswith("quartz.xrdml, scan 3")
    assert isinstance(rocking, InputError) and "scan 2: can't be read" in str(rocking) and "rocking" in str(rocking)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-200], "is no whole XML"),
        (lambda text: text.replace("</counts>", " many</counts>"), "not a list of numbers"),
        (lambda text: text.replace("<scan ", "<pause ").replace("</scan>", "</pause>"), "holds no scan"),
    ],
)
def test_what_is_not_whole_is_refused(tmp_path: Path, damage, message: str) -> None:
    path = write(tmp_path, [scan_xml(counts_xml())])
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=message):
        for found in read_scans(path):
            raise found
