from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.grid import Grid
from imitation_refinement.patterns import (
    Pattern,
    check_coverage,
    check_pattern,
    find_wavelength,
    read_patterns,
    read_text_pattern,
    split_fields,
    table_patterns,
    write_xy,
)

ANGLES = np.linspace(10, 80, 100)
COUNTS = np.arange(100.0) + 5


def pattern(x=ANGLES, y=COUNTS, wavelength: float | None = 1.5406) -> Pattern:
    return Pattern("p", np.asarray(x, float), np.asarray(y, float), wavelength, where="somewhere")


def lines(separator: str = " ", point: str = ".", end: str = "\n") -> str:
    text = end.join(f"{x:.4f}{separator}{y:.1f}" for x, y in zip(ANGLES, COUNTS, strict=True))
    return text.replace(".", point) + end


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("blanks.xy", lines()),
        ("tabs.xy", lines("\t")),
        ("windows.xy", lines(end="\r\n")),
        ("comma.csv", lines(",")),
        ("comma_blank.txt", lines(", ")),
        ("semicolon.csv", lines(";")),
        ("german.csv", lines(";", ",")),
        ("german_blanks.xy", lines("  ", ",")),
        ("header.csv", "Angle;Counts\n" + lines(";", ",")),
        ("comments.xy", "# made by hand\n! and by foot\n\n" + lines() + "\n# the end\n"),
        ("byte_order_mark.xy", "\ufeff# head\n" + lines()),
        ("esd.xye", "\n".join(f"{x:.4f} {y:.1f} {y**0.5:.3f}" for x, y in zip(ANGLES, COUNTS, strict=True))),
        ("named.csv", "n,intensity,2theta [deg]\n" + "\n".join(f"{i},{COUNTS[i]},{ANGLES[i]:.4f}" for i in range(100))),
    ],
)
def test_text_forms_all_read_the_same(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    found = read_text_pattern(path)
    assert found.pattern_id == path.stem
    np.testing.assert_allclose(found.two_theta, ANGLES, atol=1e-4)
    np.testing.assert_allclose(found.intensity, COUNTS)


def test_latin_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "old.xy").write_bytes(b"# Wellenl\xe4nge, wavelength 1.54056 \xc5\n" + lines().encode())
    assert read_text_pattern(tmp_path / "old.xy").wavelength == 1.54056


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# wavelength 1.5406 Å", 1.5406),
        ("##X-RAY WAVELENGTH=1.541838", 1.541838),
        ("# Lambda (Å): 0,7093", 0.7093),
        ("# Wave length = 0.154056 nm", 1.54056),
        ("# λ=1.7890", 1.7890),
        ("# anode Cu", None),
        ("# scan 1.5 degrees", None),
    ],
)
def test_wavelength_in_header(line: str, expected: float | None) -> None:
    assert find_wavelength(line) == pytest.approx(expected)


def test_fields_keep_their_decimal_commas_apart() -> None:
    assert split_fields("5,01\t21,3") == ["5.01", "21.3"]
    assert split_fields("5.01,21.3,4") == ["5.01", "21.3", "4"]


def test_words_among_the_data_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "bad.xy").write_text("# head\n" + lines() + "end of file\n")
    with pytest.raises(InputError, match=r"bad\.xy, line 102"):
        read_text_pattern(tmp_path / "bad.xy")


def test_nan_in_text_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "bad.xy").write_text("1 2\n3 nan\n")
    with pytest.raises(InputError, match="line 2"):
        read_text_pattern(tmp_path / "bad.xy")


@pytest.mark.parametrize("content", [b"", b"no numbers here\n", bytes(range(256)) * 4])
def test_no_data_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(InputError, match="no line with an angle"):
        read_text_pattern(tmp_path / "bad.csv")


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
    found = read_text_pattern(tmp_path / "out.xy")
    np.testing.assert_allclose(found.two_theta, ANGLES, atol=1e-6)
    np.testing.assert_allclose(found.intensity, COUNTS / 3, rtol=1e-7)
    assert found.wavelength == 1.5406
    assert [p.name for p in tmp_path.iterdir()] == ["out.xy"]


def table(**columns: list) -> pa.Table:
    n = len(next(iter(columns.values())))
    return pa.table({"two_theta": [list(ANGLES)] * n, "intensity": [list(COUNTS)] * n} | columns)


def test_parquet_table(tmp_path: Path) -> None:
    rows = table(
        pattern_id=["a", "b", "b", "c", "d", "e"],
        wavelength=[1.5406, None, 1.0, float("nan"), 1.0, 1.0],
        crystal_system=["cubic", None, None, None, "round", " Hexagonal"],
        formula=["NaCl", None, None, None, None, None],
    )
    pq.write_table(rows, tmp_path / "t.parquet")
    patterns, errors = read_patterns(tmp_path / "t.parquet")
    assert [(p.pattern_id, p.crystal_system, p.formula) for p in patterns] == [
        ("a", "cubic", "NaCl"),
        ("e", "hexagonal", None),
    ]
    text = "\n".join(map(str, errors))
    assert len(errors) == 4
    for expected in (
        "row 2 (b): does not say",
        "row 3 (b): this pattern_id",
        "row 4 (c): does not",
        "unknown crystal_s",
    ):
        assert expected in text


def test_table_rows_that_are_no_lists_are_refused(tmp_path: Path) -> None:
    rows = pa.table({"pattern_id": ["a", None], "two_theta": [None, [1.0]], "intensity": [[1.0], [1.0]]})
    found = list(table_patterns(rows, "t"))
    assert [str(e) for e in found] == [
        "t, row 1 (a): two_theta is no list of numbers. Give one number a point.",
        "t, row 2: has no pattern_id. Give each pattern its own.",
    ]
    words = pa.table({"pattern_id": ["a"], "two_theta": [["x"]], "intensity": [[1.0]]})
    assert "no list of numbers" in str(next(table_patterns(words, "t")))


def test_wrong_columns_and_empty_tables_are_refused() -> None:
    with pytest.raises(InputError, match="has no column 'pattern_id', 'intensity'; it has two_theta"):
        table_patterns(pa.table({"two_theta": [[1.0]]}), "t")
    with pytest.raises(InputError, match="no rows"):
        table_patterns(table(pattern_id=["a"]).slice(0, 0), "t")


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
    with pytest.raises(InputError, match="not a readable Parquet"):
        read_patterns(tmp_path / "x.parquet")
