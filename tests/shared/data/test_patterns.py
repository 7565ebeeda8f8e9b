from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.patterns import (
    Pattern,
    check_coverage,
    check_pattern,
    read_patterns,
    say_remarks,
    write_xy,
)
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
