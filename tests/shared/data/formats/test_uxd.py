"""UXD: text as DIFFRAC-AT writes it; values by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.scans import AxisKind, Scan
from imitation_refinement.errors import InputError

COUNTS = np.random.default_rng(4).poisson(120, 71)
ANGLES = 10 + 0.05 * np.arange(71)
HEAD = "; by hand\n_FILEVERSION=2\n_SAMPLE='rutile'\n_WL1=1.540600\n_WL2=1.544390\n_WL3=1.392220\n_WLRATIO=0.470000\n"
HEAD += "_ANODE='Cu'\n"


def block(counts: np.ndarray = COUNTS, marker: str = "_COUNTS", drive: str = "COUPLED", extra: str = "") -> str:
    text = (
        f"; (Data for Range number 1)\n_DRIVE='{drive}'\n_STEPTIME=4.0\n_STEPSIZE=0.05\n_START=10.0\n{extra}{marker}\n"
    )
    if "2THETA" in marker:
        return text + "".join(f"  {x:.4f}   {y:g}\n" for x, y in zip(ANGLES, counts, strict=True))
    return text + "".join(" ".join(f"{y:10g}" for y in counts[i : i + 8]) + "\n" for i in range(0, len(counts), 8))


def scans_of(folder: Path, *blocks: str, head: str = HEAD) -> list[Scan | InputError]:
    path = folder / "rutile.uxd"
    path.write_text(head + "".join(blocks), encoding="latin-1")
    return list(read_scans(path))


@pytest.mark.parametrize("marker", ["_COUNTS", "_2THETACOUNTS"])
def test_counts_with_angles_or_without(tmp_path: Path, marker: str) -> None:
    """71 counts in lines of eight: the last line is a shorter one."""
    (found,) = scans_of(tmp_path, block(marker=marker))
    assert isinstance(found, Scan), found
    np.testing.assert_allclose(found.values, ANGLES, atol=1e-9)
    assert found.intensity.tolist() == COUNTS.tolist() and found.unit == "counts" and found.anode == "Cu"
    assert found.wavelengths == (1.5406, 1.54439) and found.ratio == 0.47 and found.label == "rutile, COUPLED"


def test_counts_a_second(tmp_path: Path) -> None:
    (found,) = scans_of(tmp_path, block(COUNTS / 4, "_2THETACPS"))
    assert isinstance(found, Scan) and found.unit == "cps" and found.sigma is not None
    np.testing.assert_allclose(found.sigma, np.sqrt(COUNTS) / 4)


def test_every_block_is_a_scan_and_keys_hold_until_they_are_set_again(tmp_path: Path) -> None:
    found = scans_of(
        tmp_path,
        block(),
        block(COUNTS + 1, extra="_RANGE_WL=1.392220\n"),
        block(drive="PHI"),
        block(drive="PSDSCAN"),
        block(drive="NOVEL"),
    )
    first, second, pole, detector, unknown = found
    assert isinstance(first, Scan) and isinstance(second, Scan) and second.intensity[0] == COUNTS[0] + 1
    assert first.wavelengths == (1.5406, 1.54439) and second.wavelengths == (1.39222,)
    assert isinstance(pole, InputError) and "pole figure" in str(pole)
    assert isinstance(detector, Scan) and detector.axis.kind is AxisKind.TWO_THETA
    assert isinstance(unknown, Scan) and unknown.axis.kind is AxisKind.OTHER and unknown.axis.name == "NOVEL"


def test_what_is_not_whole_is_refused(tmp_path: Path) -> None:
    (error,) = scans_of(tmp_path, block(extra="_STEPCOUNT=80\n"))
    assert isinstance(error, InputError) and "holds 71 of the 80 points that _STEPCOUNT says" in str(error)
    (error,) = scans_of(tmp_path, block().replace("_START=10.0\n", ""))
    assert isinstance(error, InputError) and "can't be read" in str(error)
    with pytest.raises(InputError, match="holds no block of counts"):
        scans_of(tmp_path)
