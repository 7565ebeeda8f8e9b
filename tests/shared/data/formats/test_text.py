"""Columns of text: separators, decimal signs, names of columns, axes. Values by hand, and by Bragg's law."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.patterns import Pattern, pattern_of
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError

ANGLES = np.linspace(10, 80, 100)
COUNTS = np.arange(100.0) + 5
WAVELENGTH = 1.5406


def lines(separator: str = " ", point: str = ".", end: str = "\n") -> str:
    text = end.join(f"{x:.4f}{separator}{y:.1f}" for x, y in zip(ANGLES, COUNTS, strict=True))
    return text.replace(".", point) + end


def rows(*columns: np.ndarray, separator: str = " ", form: str = ".9g") -> str:
    return "\n".join(separator.join(format(v, form) for v in row) for row in zip(*columns, strict=True)) + "\n"


def scan_of(folder: Path, content: str, name: str = "p.xy") -> Scan:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    (scan,) = read_scans(path)
    assert isinstance(scan, Scan)
    return scan


def pattern_in(folder: Path, content: str, name: str = "p.xy", wavelength: float | None = WAVELENGTH) -> Pattern:
    return pattern_of(scan_of(folder, content, name), wavelength)


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
        ("german_comma_blank.txt", lines("\t", ",").replace("\t", ", ")),
        ("german_quoted.csv", '"2Theta","Counts"\n' + re.sub(r"(\S+)\t(\S+)", r'"\1","\2"', lines("\t", ","))),
        ("closed.csv", "".join(f"{x:.4f};{y:.1f};\n" for x, y in zip(ANGLES, COUNTS, strict=True))),
        ("header.csv", "Angle;Counts\n" + lines(";", ",")),
        ("comments.xy", "# made by hand\n! and by foot\n\n" + lines() + "\n# the end\n"),
        ("byte_order_mark.xy", "\ufeff# head\n" + lines()),
        ("esd.xye", rows(ANGLES, COUNTS, COUNTS**0.5)),
        ("named.csv", "n,intensity,2theta [deg]\n" + rows(np.arange(100), COUNTS, ANGLES, separator=",")),
        ("numbered.csv", "No,2Theta,Counts\n" + rows(np.arange(1, 101), ANGLES, COUNTS, separator=",")),
        ("numbered.txt", rows(np.arange(1, 101), ANGLES, COUNTS)),
        ("calculated_first.csv", "2theta;Icalc;Iobs;bkg\n" + rows(ANGLES, 3 * COUNTS, COUNTS, COUNTS, separator=";")),
        ("angles.csv", "omega,2theta,d (A),counts\n" + rows(ANGLES / 2, ANGLES, 9 / ANGLES, COUNTS, separator=",")),
        ("own_name.csv", "2Theta,LaB6,error\n" + rows(ANGLES, COUNTS, COUNTS**0.5, separator=",")),
        ("export.csv", "Angle,TimePerStep,Intensity,ESD\n" + rows(ANGLES, 9 / ANGLES, COUNTS, COUNTS, separator=",")),
        ("highscore.csv", "Pos. [°2Th.],Iobs [cts]\n" + lines(",")),
        ("remark.xy", "# Sample A-1\n# corrected angle\n" + lines()),
        ("index.csv", ",2theta,intensity\n" + rows(np.arange(100), ANGLES, COUNTS, separator=",")),
        ("units.csv", "2Theta,Intensity\ndeg,counts\n" + lines(",")),
        ("excel.csv", "sep=;\n2Theta;Counts\n" + lines(";", ",")),
        ("degrees.txt", "# 2 Theta (deg)   Intensity (a. u.)\n" + lines()),
        ("half.txt", "# theta (deg)   I\n" + rows(ANGLES / 2, COUNTS)),
        ("radians.txt", "#  2th_rad   I\n" + rows(np.radians(ANGLES), COUNTS)),
        ("fit2d.chi", "lab6\n2-Theta Angle (Degrees)\nIntensity\n        100\n" + rows(ANGLES, COUNTS)),
    ],
)  # fmt: skip
def test_forms_all_read_the_same(tmp_path: Path, name: str, content: str) -> None:
    found = pattern_in(tmp_path, content, name)
    assert found.pattern_id == Path(name).stem
    np.testing.assert_allclose(found.two_theta, ANGLES, atol=1e-4)
    np.testing.assert_allclose(found.intensity, COUNTS)


def test_encodings(tmp_path: Path) -> None:
    head = "# Wellenlänge 1,54056 Å\n"
    for name, encoding in (("old.xy", "latin-1"), ("windows.xy", "utf-16"), ("new.xy", "utf-8")):
        (tmp_path / name).write_bytes((head + lines()).encode(encoding))
        (found,) = read_scans(tmp_path / name)
        assert isinstance(found, Scan) and found.wavelengths == (1.54056,)


SINE = np.sin(np.radians(ANGLES / 2))


@pytest.mark.parametrize(
    ("head", "axis"),
    [
        ("#   q_nm^-1   I", 40 * np.pi * SINE / WAVELENGTH),
        ("#   q_A^-1   I", 4 * np.pi * SINE / WAVELENGTH),
        ("Q (1/Å)  counts", 4 * np.pi * SINE / WAVELENGTH),
        ("# q / nm⁻¹ I / a.u.", 40 * np.pi * SINE / WAVELENGTH),
        ("#L q (1/A)  I", 4 * np.pi * SINE / WAVELENGTH),
        ("q I\n1/nm counts", 40 * np.pi * SINE / WAVELENGTH),
        ("# unit: q_nm^-1", 40 * np.pi * SINE / WAVELENGTH),
        ("x-axis = Q [Å⁻¹]", 4 * np.pi * SINE / WAVELENGTH),
        ("d(A) intensity", WAVELENGTH / 2 / SINE),
        ("d-spacing (nm)   I", WAVELENGTH / 20 / SINE),
        ("1/d (1/nm)   I", 20 * SINE / WAVELENGTH),
        ("sin(theta)/lambda (1/A)   I", SINE / WAVELENGTH),
        ("θ [rad]   I", np.arcsin(SINE)),
    ],
)
def test_other_axes_are_turned_into_two_theta(tmp_path: Path, head: str, axis: np.ndarray) -> None:
    """λ = 2 d sin θ, q = 2π / d; rising d is falling 2θ."""
    for order in (slice(None), slice(None, None, -1)) if head.startswith("d") else (slice(None),):
        found = pattern_in(tmp_path, head + "\n" + rows(axis[order], COUNTS[order], form=".12g"))
        np.testing.assert_allclose(found.two_theta, ANGLES, atol=1e-8)
        np.testing.assert_allclose(found.intensity, COUNTS)
        assert "turned into" in " ".join(found.remarks)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("lab6\nQ-Space\nIntensity\n   100", "its axis is 'Q-Space', not 2θ"),
        ("#  q   I", "its axis is 'q', not 2θ"),
        ("#  theta   I", "its axis is 'theta', not 2θ"),
        ("#  d*2_A^-2  I", "not 2θ"),
        ("#  s (1/nm)  I", "not 2θ"),
        ("Energy (keV) Counts", "not 2θ"),
        ("#  r_mm  I", "not 2θ"),
        ("x unit: rad", "not 2θ"),
        ("voltage current counts", "none is an angle"),
        ("voltage counts", "none is an angle"),
        ("# momentum transfer along the radius in 1/A and counts", "not 2θ"),
        ("# column 1: d-spacing (A), column 2: intensity", "not 2θ"),
        ("# angles in radians", "not 2θ"),
        ("2theta Icalc", "which one is the measured intensity is not said"),
    ],
)
def test_an_axis_without_a_way_to_two_theta_is_refused(tmp_path: Path, head: str, message: str) -> None:
    columns = (ANGLES, COUNTS, COUNTS) if head.startswith("voltage current") else (ANGLES, COUNTS)
    with pytest.raises(InputError, match=message) as caught:
        pattern_in(tmp_path, head + "\n" + rows(*columns))
    assert caught.value.remedy


def test_q_needs_the_wavelength_and_must_be_reached_by_it(tmp_path: Path) -> None:
    content = "# q_A^-1  I\n" + rows(np.linspace(1, 8.2, 100), COUNTS)
    with pytest.raises(InputError, match="does not say its wavelength"):
        pattern_in(tmp_path, content, wavelength=None)
    with pytest.raises(InputError, match=r"1 values of its axis 'q_A\^-1', the first 8.2, can't be reached"):
        pattern_in(tmp_path, content, wavelength=4 * np.pi / 8.15)
    at_reach = pattern_in(tmp_path, content, wavelength=4 * np.pi / 8.2 * (1 - 1e-12))
    assert at_reach.two_theta[-1] == pytest.approx(180, abs=1e-3)


def test_sigma_where_it_is_said(tmp_path: Path) -> None:
    third = np.linspace(1, 2, 100)
    for name, head, there in (
        ("a.xye", "", True),
        ("a.xy", "", False),
        ("a.xy", "# 2th_deg  I  sigma\n", True),
        ("a.csv", "2theta Iobs Icalc\n", False),
        ("a.csv", "2theta Iobs e.s.d.\n", True),
        ("a.xye", "2theta Iobs Icalc\n", False),
    ):
        found = scan_of(tmp_path, head + rows(ANGLES, COUNTS, third), name)
        assert (found.sigma is not None) == there, (name, head)
        if found.sigma is not None:
            np.testing.assert_allclose(found.sigma, third)
    assert scan_of(tmp_path, "2theta,I [cps]\n" + lines(",")).unit == "cps"


@pytest.mark.parametrize(
    ("first", "second", "separator", "expected"),
    [
        ("10.5", "1,234", ";", 1234.0),
        ("10,5", "1.234", ";", 1234.0),
        ("10,5", "1.234,5", ";", 1234.5),
        ("10.5", "1 234", "\t", 1234.0),
        ("10.5", "1'234.5", ";", 1234.5),
        ("10.5", '"1,234"', ",", 1234.0),
        ("10.5", "12,345", " ", 12345.0),
        ("10,5", "1,234", ";", 1.234),
        ("10,500", "1,234", " ", 1.234),
        ("10.5", "1.234", ";", 1.234),
        ("1.05e1", "1.234E+03", " ", 1234.0),
    ],
)
def test_decimal_signs_and_thousands(tmp_path: Path, first: str, second: str, separator: str, expected: float) -> None:
    found = scan_of(tmp_path, f"{first}{separator}{second}\n")
    assert (found.values[0], found.intensity[0]) == (10.5, expected)
    assert any("separated thousands" in remark for remark in found.remarks) == (expected >= 1234 and "E" not in second)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("10;1,234\n11;2,345\n", "a thousand or a decimal comma"),
        ("10.5;1\n10,6;2\n", "decimal points and decimal commas"),
        ("10.5 1 234\n10.6 987\n", "line 2.*2 fields where the lines above have 3"),
        ("10.5,1,234\n10.6,987\n", "line 2.*2 fields"),
        ("10.5 12,34\n", "line 1.*no angle and intensity"),
        ("1 2\n3 nan\n", "line 2.*no finite numbers"),
        ("# head\n" + lines() + "end of file\n", r"p\.xy, line 102.*no angle and intensity"),
        ("", "no line with an angle"),
        ("no numbers here\n", "no line with an angle"),
        (rows(np.arange(1, 101), COUNTS[::-1]), "counts the rows"),
        (rows(np.arange(1, 101), COUNTS[::-1], COUNTS), "counts the rows"),
    ],
)
def test_what_is_not_settled_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        scan_of(tmp_path, content)
    assert caught.value.remedy


def test_bytes_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InputError, match="no line with an angle"):
        list(read_scans(tmp_path / "bad.csv"))


def test_whole_degrees_that_are_named_are_no_row_numbers(tmp_path: Path) -> None:
    found = pattern_in(tmp_path, "2theta counts\n" + rows(np.arange(1, 101), COUNTS))
    assert found.two_theta.tolist() == list(range(1, 101))


@pytest.mark.parametrize(
    ("said", "wavelengths", "ratio"),
    [
        ("Ratio K-Alpha2/K-Alpha1,0.5", (1.540598, 1.544426), 0.5),
        ("Ratio K-Alpha2/K-Alpha1,0", (1.540598,), None),  # a monochromator's
        ("# Kα2/Kα1: 0.49", (1.540598, 1.544426), 0.49),
        ("# ratio of phases 0.3", (1.540598, 1.544426), None),
        ("", (1.540598, 1.544426), None),
    ],
)
def test_the_doublet_s_own_ratio(
    tmp_path: Path, said: str, wavelengths: tuple[float, ...], ratio: float | None
) -> None:
    """As HighScore exports it."""
    head = "[Measurement conditions]\nScan axis,Gonio\nAnode material,Cu\nK-Alpha1 wavelength,1.540598\n"
    head += f"K-Alpha2 wavelength,1.544426\n{said}\nMonochromator used,No\n[Scan points]\n"
    body = rows(ANGLES, np.full(100, 18.87), COUNTS, COUNTS**0.5, separator=",")
    found = scan_of(tmp_path, f"{head}Angle,TimePerStep,Intensity,ESD\n{body}", "a.csv")
    assert found.wavelengths == wavelengths and found.ratio == ratio and found.anode == "Cu"
    np.testing.assert_allclose(found.intensity, COUNTS)


def test_one_wrong_byte_in_a_long_file_is_found(tmp_path: Path) -> None:
    """No number may be matched in two ways, or the search for another takes as long as there are lines to the power."""
    x = np.linspace(10, 80, 3000)
    body = rows(x, np.arange(1000, 4000), form=".5f").replace(".00000", "")
    wrong = body.replace(" 2500\n", " 25\x1400\n")
    assert wrong != body
    with pytest.raises(InputError, match=r"line 1501: holds no angle and intensity"):
        scan_of(tmp_path, wrong)
