from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.grid import Grid
from imitation_refinement.patterns import Pattern, check_coverage, check_pattern, read_patterns, write_xy

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
        (pattern(x=ANGLES[::-1]), "do not rise at 99 points"),
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


def test_unusable_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_patterns(tmp_path / "nothing.xy")
    (tmp_path / "x.raw").write_text("")
    with pytest.raises(InputError, match="unknown suffix"):
        read_patterns(tmp_path / "x.raw")
    (tmp_path / "x.parquet").write_text("no parquet")
    patterns, (error,) = read_patterns(tmp_path / "x.parquet")
    assert not patterns and "not a readable Parquet" in str(error)
