"""RAS: text as Rigaku writes it; values by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError

COUNTS = np.random.default_rng(3).poisson(150, 70).astype(float)
ANGLES = np.round(5 + 0.02 * np.arange(70), 4)


def block(counts: np.ndarray = COUNTS, attenuator: float = 1, **said: str) -> str:
    header = {
        "FILE_COMMENT": "first",
        "HW_XG_TARGET_NAME": "Cu",
        "HW_XG_WAVE_LENGTH_ALPHA1": "1.540593",
        "HW_XG_WAVE_LENGTH_ALPHA2": "1.544414",
        "HW_XG_WAVE_LENGTH_BETA": "1.392246",
        "HW_XG_WAVE_LENGTH_UNIT": "Angstrom",
        "MEAS_DATA_COUNT": "70",
        "MEAS_SCAN_AXIS_X": "TwoThetaTheta",
        "MEAS_SCAN_STEP": "0.0200",
        "MEAS_SCAN_SPEED": "2.0000",
        "MEAS_SCAN_SPEED_UNIT": "deg/min",
        "MEAS_SCAN_UNIT_X": "deg",
        "MEAS_SCAN_UNIT_Y": "counts",
        **said,
    }
    lines = ["*RAS_HEADER_START", *(f'*{key} "{value}"' for key, value in header.items()), "*RAS_HEADER_END"]
    rows = [f"{x:.4f} {y:.6g} {attenuator:.4f}" for x, y in zip(ANGLES, counts, strict=True)]
    return "\n".join([*lines, "*RAS_INT_START", *rows, "*RAS_INT_END"]) + "\n"


def scans_of(folder: Path, *blocks: str) -> list[Scan | InputError]:
    path = folder / "topaz.ras"
    path.write_text("*RAS_DATA_START\n" + "".join(blocks) + "*RAS_DATA_END\n", encoding="utf-8")
    return list(read_scans(path))


def test_a_scan(tmp_path: Path) -> None:
    (found,) = scans_of(tmp_path, block())
    assert isinstance(found, Scan), found
    np.testing.assert_allclose(found.values, ANGLES)
    assert found.intensity.tolist() == COUNTS.tolist() and found.unit == "counts" and found.anode == "Cu"
    assert found.wavelengths == (1.540593, 1.544414) and found.ratio is None and found.remarks == ()


def test_every_block_is_a_scan_with_its_own_header(tmp_path: Path) -> None:
    found = scans_of(
        tmp_path,
        block(),
        block(COUNTS + 5, FILE_COMMENT="second", MEAS_COND_XG_WAVE_TYPE="Kb"),
        block(MEAS_SCAN_AXIS_X="Omega"),
    )
    assert isinstance(found[1], Scan) and found[1].label == "second" and found[1].wavelengths == (1.392246,)
    assert found[1].intensity.sum() == COUNTS.sum() + 5 * 70
    assert isinstance(found[2], InputError) and "rocking curve" in str(found[2])


def test_a_wavelength_s_unit(tmp_path: Path) -> None:
    said = {"HW_XG_WAVE_LENGTH_UNIT": "nm", "HW_XG_WAVE_LENGTH_ALPHA1": "0.0709300"}
    (found,) = scans_of(tmp_path, block(HW_XG_WAVE_LENGTH_ALPHA2="", **said))
    assert isinstance(found, Scan) and found.wavelengths == (0.7093,)
    (error,) = scans_of(tmp_path, block(HW_XG_WAVE_LENGTH_UNIT="parsec"))
    assert isinstance(error, InputError) and "'parsec', which is not known" in str(error)


def test_counts_a_second(tmp_path: Path) -> None:
    (found,) = scans_of(tmp_path, block(COUNTS / 0.6, MEAS_SCAN_UNIT_Y="cps"))  # 0.02° at 2°/min
    assert isinstance(found, Scan) and found.unit == "cps" and found.sigma is not None
    np.testing.assert_allclose(found.sigma, np.sqrt(COUNTS) / 0.6, rtol=1e-4)


def test_attenuators_are_warned_of(tmp_path: Path) -> None:
    (found,) = scans_of(tmp_path, block(attenuator=8))
    assert isinstance(found, Scan) and any("attenuator" in remark for remark in found.remarks)


def test_what_is_not_whole_is_refused(tmp_path: Path) -> None:
    (error,) = scans_of(tmp_path, block(MEAS_DATA_COUNT="71"))
    assert isinstance(error, InputError) and "holds 70 of the 71 points that *MEAS_DATA_COUNT says" in str(error)
    for error in scans_of(tmp_path, block(), block().replace("*RAS_INT_END\n", "")):
        assert isinstance(error, InputError)
    with pytest.raises(InputError, match="holds no block of points"):
        scans_of(tmp_path)
