"""Powder CIF: blocks with columns of angles, with ranges, with other axes; values by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.formats.pdcif import FORMAT
from imitation_refinement.data.scans import AxisKind, Scan
from imitation_refinement.errors import InputError

COUNTS = np.random.default_rng(8).poisson(350, 70)
ANGLES = 8 + 0.1 * np.arange(70)
SCAN = {"_pd_meas_2theta_scan": ANGLES, "_pd_meas_counts_total": COUNTS}
RANGE = "_pd_meas_2theta_range_min 8.0\n_pd_meas_2theta_range_max 14.9\n_pd_meas_2theta_range_inc 0.1\n"
WAVELENGTH = "_diffrn_radiation_wavelength 1.5406\n"


def loop(columns: dict[str, object]) -> str:
    values = [np.asarray(column) for column in columns.values()]
    rows = "\n".join(" ".join(str(v) for v in row) for row in zip(*values, strict=True))
    return "loop_\n" + "\n".join(columns) + "\n" + rows + "\n"


def scans_of(folder: Path, *blocks: str) -> list[Scan | InputError]:
    path = folder / "fluorite.cif"
    path.write_text("\n".join(f"data_{i}\n{block}" for i, block in enumerate(blocks)), encoding="utf-8")
    return list(read_scans(path))


def only(folder: Path, *blocks: str) -> Scan:
    (found,) = scans_of(folder, *blocks)
    assert isinstance(found, Scan), found
    return found


def test_columns(tmp_path: Path) -> None:
    found = only(tmp_path, WAVELENGTH + "_diffrn_source_target Cu\n" + loop(SCAN))
    np.testing.assert_allclose(found.values, ANGLES)
    assert found.intensity.tolist() == COUNTS.tolist() and found.unit == "counts"
    assert found.wavelengths == (1.5406,) and found.anode == "Cu" and found.sigma is None and found.remarks == ()


def test_ranges_prefer_the_ends_to_a_rounded_increment(tmp_path: Path) -> None:
    intensities = loop({"_pd_meas_intensity_total": COUNTS})
    np.testing.assert_allclose(only(tmp_path, RANGE + intensities).values, ANGLES)
    rounded = RANGE.replace("14.9", "14.95").replace("inc 0.1", "inc 0.10")  # 6.95/69 = 0.10072
    np.testing.assert_allclose(only(tmp_path, rounded + intensities).values, np.linspace(8, 14.95, 70))
    for last in ("24.9", "15.0", "14.8"):  # one point more or fewer is told as well
        (error,) = scans_of(tmp_path, RANGE.replace("14.9", last) + intensities)
        said = f"has 70 intensities for angles from 8 to {float(last):g}° by 0.1°"
        assert isinstance(error, InputError) and said in str(error)


def test_corrected_angles_come_first_and_it_is_said(tmp_path: Path) -> None:
    corrected = RANGE.replace("_meas_", "_proc_").replace("8.0", "7.98").replace("14.9", "14.88")
    found = only(tmp_path, RANGE + corrected + loop({"_pd_meas_intensity_total": COUNTS}))
    np.testing.assert_allclose(found.values, ANGLES - 0.02)
    assert "the corrected ones, from 7.98°; the measured ones begin at 8°" in found.remarks[0]
    found = only(tmp_path, loop(SCAN | {"_pd_proc_2theta_corrected": np.round(ANGLES - 0.01, 2)}))
    np.testing.assert_allclose(found.values, ANGLES - 0.01)
    assert "is _pd_proc_2theta_corrected, not _pd_meas_2theta_scan" in found.remarks[0]


def test_sigma(tmp_path: Path) -> None:
    sigma = np.round(np.sqrt(COUNTS) * 2, 2)
    total = {"_pd_meas_2theta_scan": ANGLES, "_pd_meas_intensity_total": COUNTS}
    for columns, expected in (
        (total | {"_pd_meas_intensity_total_su": sigma}, sigma),
        (total | {"_pd_proc_ls_weight": 1 / sigma**2}, sigma),
        (total | {"_pd_meas_intensity_total": [f"{c}.5(12)" for c in COUNTS]}, np.full(70, 1.2)),
    ):
        np.testing.assert_allclose(np.asarray(only(tmp_path, loop(columns)).sigma), expected)
    assert only(tmp_path, loop(total | {"_pd_proc_ls_weight": np.zeros(70)})).sigma is None


def test_digits_and_exponents_without_end_are_no_sigma(tmp_path: Path) -> None:
    """Such digits are also read soon: they took the square of their number."""
    for endless in ("1" * 40_000, f"1(2)e{'9' * 5000}"):
        counts = [f"{c}(3)" for c in COUNTS[:-1]] + [endless]
        found = only(tmp_path, loop(SCAN | {"_pd_meas_counts_total": counts}))
        assert found.sigma is None and found.intensity[:-1].tolist() == COUNTS[:-1].tolist()


def test_other_axes(tmp_path: Path) -> None:
    intensities = {"_pd_meas_intensity_total": COUNTS}
    q = 4 * np.pi * np.sin(np.radians(ANGLES / 2)) / 1.5406
    for tag, values, kind in (
        ("_pd_proc_recip_len_Q", q, AxisKind.Q),
        ("_pd_proc_d_spacing", 2 * np.pi / q, AxisKind.D),
    ):
        found = only(tmp_path, loop({tag: values} | intensities))
        assert found.axis.kind is kind
        np.testing.assert_allclose(found.axis.two_theta(found.values, 1.5406, ""), ANGLES)
    found = only(tmp_path, loop({"_pd_meas_time_of_flight": 1e4 + np.arange(70)} | intensities))
    with pytest.raises(InputError, match="its axis is 'time of flight"):
        found.axis.two_theta(found.values, 1.5406, "")
    (error,) = scans_of(tmp_path, loop(intensities))
    assert isinstance(error, InputError) and "but no 2θ, q or d for them" in str(error)


@pytest.mark.parametrize(
    ("said", "wavelengths", "ratio"),
    [
        ("_diffrn_radiation_wavelength 0.8257(3)\n", (0.8257,), None),
        (
            loop({"_diffrn_radiation_wavelength": [1.54439, 1.5406], "_diffrn_radiation_wavelength_wt": [0.5, 1.0]}),
            (1.5406, 1.54439),
            0.5,
        ),
        (
            loop({"_diffrn_radiation_wavelength": [1.5406, 1.54439], "_diffrn_radiation_wavelength_wt": [1.0, 0.0]}),
            (1.5406,),
            None,
        ),
        (loop({"_diffrn_radiation_wavelength": [1.5406, 1.54439]}), (1.5406, 1.54439), None),
        ("_diffrn_radiation_wavelength ?\n", (), None),
    ],
)
def test_wavelengths(tmp_path: Path, said: str, wavelengths: tuple[float, ...], ratio: float | None) -> None:
    for blocks in ((said + loop(SCAN),), (said, loop(SCAN))):  # in the block, or in one for the whole file
        found = only(tmp_path, *blocks)
        assert found.wavelengths == wavelengths and found.ratio == ratio


def test_every_block_with_a_pattern_is_a_scan_also_of_one_name(tmp_path: Path) -> None:
    found = scans_of(tmp_path, "_cell_length_a 5.4\n", loop(SCAN), loop(SCAN | {"_pd_meas_counts_total": COUNTS + 1}))
    assert [scan.label for scan in found if isinstance(scan, Scan)] == ["1", "2"]
    path = tmp_path / "fluorite.cif"
    path.write_text(path.read_text().replace("data_2", "data_1"))
    assert [int(s.intensity[0] - COUNTS[0]) for s in read_scans(path) if isinstance(s, Scan)] == [0, 1]


def test_neutrons_and_points_without_a_number(tmp_path: Path) -> None:
    found = only(tmp_path, "_diffrn_radiation_probe neutron\n" + loop(SCAN))
    assert "measured with neutrons" in found.remarks[0]
    dotted = [".", *map(str, COUNTS[1:])]
    assert np.isnan(only(tmp_path, loop(SCAN | {"_pd_meas_counts_total": dotted})).intensity[0])


def test_a_structure_is_no_pattern_and_of_no_account_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no powder pattern"):
        scans_of(tmp_path, "_cell_length_a 5.4\n")
    assert not FORMAT.found(tmp_path / "fluorite.cif")
    scans_of(tmp_path, loop(SCAN))
    assert FORMAT.found(tmp_path / "fluorite.cif")
    (tmp_path / "fluorite.cif").write_text("no CIF")
    with pytest.raises(InputError, match="is no whole CIF"):
        list(read_scans(tmp_path / "fluorite.cif"))
