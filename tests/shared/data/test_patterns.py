from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.patterns import (
    Pattern,
    check_coverage,
    check_pattern,
    choose,
    pattern_of,
    read_all,
    read_patterns,
    say_remarks,
    write_xy,
)
from imitation_refinement.data.scans import Axis, AxisKind, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.grid import Grid

ANGLES = np.linspace(10, 80, 100)
COUNTS = np.arange(100.0) + 5


def pattern(x=ANGLES, y=COUNTS, wavelength: float | None = 1.5406) -> Pattern:
    return Pattern("p", np.asarray(x, float), np.asarray(y, float), wavelength, where="somewhere")


def lines(separator: str = " ", point: str = ".", end: str = "\n") -> str:
    text = end.join(f"{x:.4f}{separator}{y:.1f}" for x, y in zip(ANGLES, COUNTS, strict=True))
    return text.replace(".", point) + end


def changed(values: np.ndarray, index: int, value: float) -> np.ndarray:
    out = values.copy()
    out[index] = value
    return out


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (pattern(y=changed(COUNTS, 3, np.nan)), "intensity is no finite number at 1 points, first point 4"),
        (pattern(x=changed(ANGLES, 3, np.inf)), "two_theta is no finite number"),
        (pattern(y=COUNTS - 7), r"2 of 100 intensities are negative, the lowest -2.*add 2"),
        (pattern(x=ANGLES[::-1]), "angles fall, from 80 to 10.*d spacings"),
        (pattern(x=np.roll(ANGLES, 50)), "do not rise at 1 points, first point 51"),
        (pattern(x=changed(ANGLES, 4, ANGLES[3])), "stand twice at 1 points, first point 5"),
        (pattern(x=ANGLES + 110), "not within 0 to 180"),
        (pattern(x=ANGLES - 11), "not within 0 to 180"),
        (pattern(x=ANGLES[:63], y=COUNTS[:63]), "has 63 points"),
        (pattern(x=ANGLES * 1e-310), "angles are .*e-311° apart"),
        (pattern(y=0 * COUNTS), "all intensities are zero"),
        (pattern(y=COUNTS[:-1]), "100 angles but 99 intensities"),
        (pattern(wavelength=None), "does not say its wavelength"),
        (pattern(wavelength=0.0), "wavelength of 0"),
    ],
)
def test_what_is_no_pattern_is_refused(bad: Pattern, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_pattern(bad)
    assert caught.value.where == "somewhere"
    assert caught.value.remedy


def test_own_wavelength_comes_first() -> None:
    assert check_pattern(pattern(), 0.7).wavelength == 1.5406
    assert check_pattern(pattern(wavelength=None), 0.7).wavelength == 0.7


def test_coverage() -> None:
    grid = Grid()  # 5 to 90°
    assert check_coverage(pattern(), grid) == pytest.approx(70 / 85)
    short = pattern(x=np.linspace(5, 30, 100))
    with pytest.raises(InputError, match="covers 29 % of the grid"):
        check_coverage(short, grid)
    assert check_coverage(short, grid, least=0.2) == pytest.approx(25 / 85)
    gap = np.concatenate([np.linspace(5, 20, 100), np.linspace(75, 90, 100)])  # 30 of 85°
    with pytest.raises(InputError, match="without points from 20 to 75°, and covers 35 % of the grid"):
        check_coverage(pattern(x=gap, y=gap), grid)
    assert check_coverage(pattern(x=gap, y=gap), grid, least=0.3) == pytest.approx(30 / 85)
    # Half the wavelength: by Bragg's law 2.5 to 15° is about 5 to 30° of the grid.
    assert check_coverage(pattern(x=np.linspace(2.5, 15, 100), wavelength=0.7703), grid, 0.2) == pytest.approx(
        (np.degrees(2 * np.arcsin(2 * np.sin(np.radians(7.5)))) - 5.0) / 85, abs=1e-3
    )


def test_written_xy_is_read_again(tmp_path: Path) -> None:
    write_xy(tmp_path / "out.xy", ANGLES, COUNTS / 3, ["refined", "wavelength 1.5406 Å"])
    ((found,), _) = read_patterns(tmp_path / "out.xy")
    np.testing.assert_allclose(found.two_theta, ANGLES, atol=1e-6)
    np.testing.assert_allclose(found.intensity, COUNTS / 3, rtol=1e-7)
    assert found.wavelength == 1.5406
    assert [p.name for p in tmp_path.iterdir()] == ["out.xy"]


def test_what_was_decided_is_a_remark_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.xy", "b.xy"):
        (tmp_path / name).write_text("# wavelength 1.5406\n" + lines())
    patterns, _ = read_patterns(tmp_path, 1.54059)  # the same, rounded
    assert not patterns[0].remarks
    patterns, _ = read_patterns(tmp_path, 0.7093)
    assert [p.wavelength for p in patterns] == [1.5406, 1.5406]
    (remark,) = patterns[0].remarks
    assert "own wavelength is 1.5406 Å, the one given for all 0.7093" in remark
    say_remarks(patterns)
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"note: {tmp_path / 'a.xy'} (and 1 more): {remark}"


def test_another_anode_than_the_wavelengths_is_a_remark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Anode material,Cu\n2theta,counts\n" + lines(","))
    for wavelength, said in ((1.54056, False), (1.5418, False), (1.39222, False), (0.7093, True)):
        ((found,), _) = read_patterns(tmp_path / "a.csv", wavelength)
        assert any("anode of Cu" in remark for remark in found.remarks) == said


def test_a_gap_is_a_remark(tmp_path: Path) -> None:
    rows = [line for line in lines().splitlines() if not 30 < float(line.split()[0]) < 40]
    (tmp_path / "a.xy").write_text("\n".join(rows))
    ((found,), _) = read_patterns(tmp_path, 1.5406)
    assert "nothing was measured from 29.798 to 40.404°" in found.remarks[0]


def test_folder_with_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.xy").write_text("# wavelength 0.7\n" + lines())
    (tmp_path / "b.xy").write_text("# wavelength 0.7\n" + lines())
    (tmp_path / "manifest.csv").write_text(
        "pattern;wavelength_angstrom;crystal_system;pattern_id\na.xy;1.5406;cubic;first\nb.xy;;;\nc.xy;1;;\na.xy;x;;\n"
    )
    patterns, errors = read_patterns(tmp_path)
    assert [(p.pattern_id, p.wavelength, p.crystal_system) for p in patterns] == [
        ("first", 1.5406, "cubic"),
        ("b", 0.7, None),
    ]
    assert "c.xy" in str(errors[0])
    assert "row 4" in str(errors[1])
    assert patterns[0].remarks == ("the manifest says a wavelength of 1.5406 Å, the file 0.7 Å; 1.5406 Å is taken",)
    assert not patterns[1].remarks


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("wavelength", "CuKα1"),
        ("radiation", "Cu K-alpha1"),
        ("wavelength_nm", "0.154056"),
        ("Wavelength (Å)", "1.54056"),
        ("lambda [pm]", "154.056"),
        ("wavelength", "0.154056 nm"),
    ],
)
def test_manifests_understand_names_and_units(tmp_path: Path, column: str, field: str) -> None:
    (tmp_path / "a.xy").write_text(lines())
    (tmp_path / "manifest.csv").write_text(f"file,{column}\na.xy,{field}\n", encoding="utf-8")
    ((found,), errors) = read_patterns(tmp_path)
    assert not errors and found.wavelength == pytest.approx(1.54056, rel=1e-12)


def test_what_a_manifest_leaves_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.xy", "b.xy", "._a.xy"):
        (tmp_path / name).write_text(lines())
    (tmp_path / "manifest.csv").write_text("pattern,wavelength,colour\na.xy,Cu,red\n")
    read_patterns(tmp_path)
    said = capsys.readouterr().err
    assert "columns that are not read: colour" in said and "does not name 1 pattern files beside it (b.xy)" in said
    assert "1 hidden files and copies of editors or systems passed over (._a.xy)" in said
    (tmp_path / "manifest.csv").write_text("pattern,file\na.xy,b.xy\n")
    with pytest.raises(InputError, match="several columns for pattern"):
        read_patterns(tmp_path)


def test_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without pattern files"):
        read_patterns(tmp_path)
    (tmp_path / "b.xy").write_text(lines())
    (tmp_path / "a.csv").write_text(lines(","))
    (tmp_path / "notes.md").write_text("no pattern")
    patterns, errors = read_patterns(tmp_path, wavelength=1.5406)
    assert [p.pattern_id for p in patterns] == ["a", "b"]
    assert not errors
    patterns, errors = read_patterns(tmp_path)
    assert (len(patterns), len(errors)) == (0, 2)


def test_hidden_files_and_copies_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.xy", "._a.xy", ".b.xy", "a.xy~", "#a.xy#", "~$a.csv", "a.sync-conflict-2026.xy", "desktop.ini"):
        (tmp_path / name).write_text(lines())
    patterns, errors = read_patterns(tmp_path, wavelength=1.5406)
    assert [p.pattern_id for p in patterns] == ["a"] and not errors
    assert f"{tmp_path}: 7 hidden files and copies of editors or systems passed over (#a.xy#, ._a.xy, .b.xy, …)" in (
        capsys.readouterr().err
    )
    assert len(read_patterns(tmp_path / ".b.xy", 1.5406)[0]) == 1  # it was named


def test_unusable_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_patterns(tmp_path / "nothing.xy")
    (tmp_path / "x.png").write_text("")
    with pytest.raises(InputError, match="unknown suffix"):
        read_patterns(tmp_path / "x.png")
    (tmp_path / "x.parquet").write_text("no parquet")
    patterns, (error,) = read_patterns(tmp_path / "x.parquet")
    assert not patterns and "not a readable Parquet" in str(error)


def ras(*offsets: float) -> str:
    """A file of several scans, of CuKα1."""
    rows = "\n".join(f"{x:.4f} {y:g}" for x, y in zip(ANGLES, COUNTS, strict=True))
    out = "*RAS_DATA_START\n"
    for i, offset in enumerate(offsets):
        out += f'*RAS_HEADER_START\n*FILE_COMMENT "at {300 + 10 * i} K"\n*MEAS_SCAN_AXIS_X "TwoThetaTheta"\n'
        out += '*HW_XG_WAVE_LENGTH_ALPHA1 "1.54056"\n*MEAS_SCAN_UNIT_Y "counts"\n*RAS_HEADER_END\n*RAS_INT_START\n'
        out += rows.replace(" 5\n", f" {5 + offset:g}\n", 1) + "\n*RAS_INT_END\n"
    return out + "*RAS_DATA_END\n"


def test_of_several_scans_one_is_chosen_or_all(tmp_path: Path) -> None:
    path = tmp_path / "series.ras"
    path.write_text(ras(0, 1, 2))
    patterns, (error,) = read_all([str(path)], None)
    assert not patterns
    assert "holds 3 scans: 1 (at 300 K, 10 to 80°, 100 points), 2 (at 310 K, 10 to 80°, 100 points), 3" in str(error)
    assert "--scan NUMBER, or --scan all" in error.remedy
    for scan, expected in (("2", [1]), ("3,1", [2, 0]), ("all", [0, 1, 2])):
        patterns, errors = read_all([str(path)], None, scan=scan)
        assert not errors and [p.intensity[0] - 5 for p in patterns] == expected
        assert [p.pattern_id for p in patterns] == [f"series scan {i + 1}" for i in expected]
    _, (error,) = read_all([str(path)], None, scan="4")
    assert "has no scan 4. It holds 3 scans: 1 (at 300 K" in str(error)
    for scan in ("0", "-1", "first", "1-3"):
        with pytest.raises(InputError, match=r"--scan: .* is no scan"):
            read_all([str(path)], None, scan=scan)


def test_the_only_scan_keeps_its_file_s_name(tmp_path: Path) -> None:
    (tmp_path / "one.ras").write_text(ras(0))
    for scan in ("", "all", "1"):
        ((found,), errors) = read_all([str(tmp_path / "one.ras")], None, scan=scan)
        assert not errors and found.pattern_id == "one"


def test_a_scan_that_can_t_be_read_keeps_its_number() -> None:
    scan = Scan("a", ANGLES, COUNTS)
    found = choose([scan, InputError("a", "is a rocking curve."), scan], "all", "a")
    assert [item.name for item in found if isinstance(item, Scan)] == ["a scan 1", "a scan 3"]
    assert isinstance(found[1], InputError)
    with pytest.raises(InputError, match=r"2 \(is a rocking curve\), 3"):
        choose(found, "", "a")
    with pytest.raises(InputError, match=r"holds 30 scans: 1 .*, 12 \(10 to 80°, 100 points\), … 30\."):
        choose([scan] * 30, "", "a")


def test_a_table_s_rows_are_no_scans_to_choose_from(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"pattern_id": ["a", "b"], "two_theta": [ANGLES] * 2, "intensity": [COUNTS] * 2})
    pq.write_table(table, tmp_path / "t.parquet")
    assert len(read_all([str(tmp_path / "t.parquet")], "Cu", scan="2")[0]) == 2


def test_a_manifest_names_scans(tmp_path: Path) -> None:
    (tmp_path / "series.ras").write_text(ras(0, 1))
    (tmp_path / "manifest.csv").write_text("pattern,pattern_id,scan\nseries.ras,cold,1\nseries.ras,hot,2\n")
    patterns, errors = read_patterns(tmp_path)
    assert not errors and [(p.pattern_id, p.intensity[0]) for p in patterns] == [("cold", 5), ("hot", 6)]
    (tmp_path / "manifest.csv").write_text('pattern,scan\nseries.ras,\nseries.ras,3\nseries.ras,"1,2"\n')
    _, errors = read_patterns(tmp_path)
    for message, error in zip(("holds 2 scans", "no scan 3", "names 2 scans"), errors, strict=True):
        assert message in str(error)


def test_an_axis_for_files_that_do_not_say_theirs(tmp_path: Path) -> None:
    q = 4 * np.pi * np.sin(np.radians(ANGLES / 2)) / 0.5
    path = tmp_path / "a.xy"
    rows = "\n".join(f"{x:.9f} {y}" for x, y in zip(q, COUNTS, strict=True))
    for header, axis, remark in (
        ("", "q (1/Å)", "turned into 2θ"),
        ("# q I\n", "q (1/Å)", "the file says an axis 'q'; 'q (1/Å)', as given, is taken"),
        ("# momentum transfer in 1/A\n", "q_A^-1", "as given, is taken"),
        ("# q_A^-1 I\n", "d (Å)", "its axis is 'q_A^-1', the one given for all 'd (Å)'; the first is taken"),
    ):
        path.write_text(header + rows)
        ((found,), errors) = read_all([str(path)], "0.5", axis=axis)
        assert not errors and remark in " ".join(found.remarks)
        np.testing.assert_allclose(found.two_theta, ANGLES, atol=1e-6)
    for axis in ("q", "furlongs", "energy (keV)"):
        with pytest.raises(InputError, match=r"--axis: .* is no axis with a unit"):
            read_all([str(path)], "0.5", axis=axis)


def test_sigma_is_the_file_s_or_that_of_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.xy"
    body = "\n".join(f"{x:.4f} {y:g} {2 * y**0.5:.6f}" for x, y in zip(ANGLES, COUNTS, strict=True))
    for names, unit, sigma in (
        ("2theta I sigma", "", 2 * COUNTS**0.5),
        ("2theta I[cts] bkg", "counts", COUNTS**0.5),
        ("2theta I[cps] bkg", "cps", None),
        ("2theta I bkg", "", None),
        ("2theta I[a.u.] bkg", "a.u.", None),
    ):
        path.write_text(f"# {names}\n{body}\n")
        ((found,), _) = read_patterns(path, 1.5406)
        assert found.unit == unit
        if sigma is None:
            assert found.sigma is None
        else:
            np.testing.assert_allclose(np.asarray(found.sigma), sigma, rtol=1e-6)
    path.write_text("# 2theta I sigma\n" + body.replace(f"{2 * COUNTS[3] ** 0.5:.6f}", "-1"))
    ((found,), _) = read_patterns(path, 1.5406)
    assert found.sigma is None and "its σ are left out" in found.remarks[0]


def test_sigma_and_intensity_are_turned_round_together(tmp_path: Path) -> None:
    rows = "\n".join(f"{x:.6f} {y} {y / 10}" for x, y in zip(3 - ANGLES / 50, COUNTS, strict=True))  # d falls
    (tmp_path / "a.xy").write_text("# d(A) I sigma\n" + "\n".join(rows.splitlines()[::-1]))
    ((found,), errors) = read_patterns(tmp_path / "a.xy", 1.0)
    assert not errors
    np.testing.assert_allclose(np.asarray(found.sigma), found.intensity / 10)


def test_a_doublet_s_lines_and_a_manifest_s_own(tmp_path: Path) -> None:
    scan = Scan("a", ANGLES, COUNTS, wavelengths=(1.54056, 1.54439), ratio=0.49)
    found = pattern_of(scan, 1.54056)
    assert (found.wavelength, found.wavelengths, found.ka2_ratio) == (1.54056, (1.54056, 1.54439), 0.49)
    found = pattern_of(Scan("a", ANGLES, COUNTS), 0.7093)
    assert (found.wavelengths, found.ka2_ratio) == ((0.7093,), None)
    (tmp_path / "a.ras").write_text(ras(0))
    (tmp_path / "manifest.csv").write_text("pattern,wavelength\na.ras,MoKα1\n", encoding="utf-8")
    ((found,), _) = read_patterns(tmp_path)
    assert (found.wavelength, found.wavelengths) == (0.7093, (0.7093,)) and "the file 1.54056 Å" in found.remarks[0]


def test_structures_beside_patterns_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.xy").write_text(lines())
    (tmp_path / "a.cif").write_text("data_a\n_cell_length_a 5.4\n")
    patterns, errors = read_patterns(tmp_path, 1.5406)
    assert [p.pattern_id for p in patterns] == ["a"] and not errors
    _, (error,) = read_patterns(tmp_path / "a.cif", 1.5406)
    assert "holds no powder pattern" in str(error)


def test_an_axis_that_a_diffractometer_says_in_other_words() -> None:
    scan = Scan("a", ANGLES, COUNTS, Axis(AxisKind.OTHER, 1.0, "Wobble"))
    for wavelength in (1.5406, None):  # which is not asked for in vain
        with pytest.raises(InputError, match=r"its axis is 'Wobble', not 2θ.*--axis"):
            pattern_of(scan, wavelength)
    found = pattern_of(scan, 1.5406, Axis(name="2theta"))
    assert found.remarks == ("the file says an axis 'Wobble'; '2theta', as given, is taken",)
