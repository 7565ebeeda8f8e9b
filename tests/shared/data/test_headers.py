"""What a header line says. Wavelengths by hand; λ [Å] = 12.398419843 / E [keV]."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imitation_refinement.data.headers import (
    Statement,
    axis_of,
    choose_wavelengths,
    find_anode,
    find_axis,
    find_columns,
    find_ratio,
    find_unit,
    find_wavelengths,
)
from imitation_refinement.data.scans import AxisKind
from imitation_refinement.errors import InputError


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# wavelength 1.5406 Å", [1.5406]),
        ("##X-RAY WAVELENGTH=1.541838", [1.541838]),
        ("# Lambda (Å): 0,7093", [0.7093]),
        ("# Wave length = 0.154056 nm", [1.54056]),
        ("# λ=1.7890", [1.7890]),
        ("# Wavelength: 1.652e-11 m", [0.1652]),
        ("# Wavelength: 1e-10 m", [1.0]),
        ("# Wavelength: 1.5406E-10m", [1.5406]),
        ("# wavelength (m): 1.5406e-10", [1.5406]),
        ("# Wavelength [10^-10 m]: 1.5406", [1.5406]),
        ("# wavelength in nm: 0.154056", [1.54056]),
        ("wavelength_nm: 0.04", [0.4]),
        ("# wavelength: 154.06 pm", [1.5406]),
        ("# incident wavelength 0.41 angstroms, step 0.02", [0.41]),
        ("wavelength/energy: 8.048 keV", [12.398419843 / 8.048]),
        ("# Photon energy 17479.4 eV", [12.398419843 / 17.4794]),
        ("wavelength/energy [A/keV]: 1.5406/8.048", [1.5406, 12.398419843 / 8.048]),
        ("Wavelength Ka1 [A]: 1.5406", [1.5406]),
        ("*WAVE_LENGTH1 = 1.54059", [1.54059]),
        ("Wellenlänge: 1,5406 Å", [1.5406]),
        ("wavelength 1.54059(2) Å", [1.54059]),
        ("# wavelength 1 Å", [1.0]),
        ("Wavelength,0.1,nm", [1.0]),
        ("Wavelength;1.5406;Å;fixed", [1.5406]),
        ("# lambda = 1.5406 A, 2theta = 5-90", [1.5406]),
        ("wavelength: Cu Kα1", [1.54056]),
        ("wavelength: Cu", [1.54184]),
        ("# Radiation: Mo K-alpha", [0.71073]),
        ("# anode Cu", []),
        ("# Radiation: Cu 40 kV 30 mA", []),
        ("# scan 1.5 degrees", []),
        ("# detector: Lambda 750k", []),
        ("# Threshold energy 8 keV", []),
        ("# Wavelength: None m", []),
        ("# wavelength 0", []),
        ("# sin(theta)/lambda (1/A)  I", []),
    ],
)
def test_wavelengths(line: str, expected: list[float]) -> None:
    assert [statement.value for statement in find_wavelengths(line, "f")] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("# wavelength 15.406 mm", "the unit 'mm' is not known"),
        ("# wavelength: 1.5406 inch", "the unit 'inch' is not known"),
        ("# wavelength: 0.154056", "without a unit; 0.154056 may be nm"),
        ("# energy: 8.048", "without a unit"),
    ],
)
def test_units_that_are_missing_or_unknown_are_refused(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        find_wavelengths(line, "f")
    assert caught.value.remedy


def chosen(*lines: str) -> tuple[tuple[float, ...], str]:
    wavelengths, remarks = choose_wavelengths([s for line in lines for s in find_wavelengths(line, "f")])
    return wavelengths, "; ".join(remarks)


def test_the_line_that_the_angles_belong_to_is_chosen() -> None:
    doublet = (1.54056, 1.54439)
    assert chosen("Kalpha2 = 1.54439", "Kbeta: 1.39222", "Kalpha1 = 1.54056") == (doublet, "")
    assert chosen("# Wavelengths: Ka2 1.54439 Ka1 1.54056 Kb 1.39222") == (doublet, "")
    assert chosen("# lambda1=1.54056 lambda2=1.54439 ratio=0.5") == (doublet, "")
    assert chosen("*WAVE_LENGTH2 = 1.54439", "*WAVE_LENGTH1 = 1.54056") == (doublet, "")
    assert chosen("K-Alpha1 wavelength,1.54056", "K-Alpha2 wavelength,1.54439", "Ratio K-Alpha2/K-Alpha1,0.5") == (
        doublet,
        "",
    )
    assert chosen("# Wavelength (Angstroms): 1.54056, 1.54439") == (doublet, "")
    assert chosen("# wavelength 1.5406", "# wavelength 1.54056 Å", "# energy 8.05 keV") == ((1.5406,), "")
    assert chosen("K-Alpha1 [Å],1.54056", "K-Alpha [Å],1.54184", "K-Beta [Å],1.39222") == ((1.54056,), "")
    assert chosen() == ((), "")


def test_rigakus_keys_with_a_unit_of_their_own() -> None:
    """``ALPHA1`` without K; the unit stands in another line."""
    unit = find_unit('*HW_XG_WAVE_LENGTH_UNIT "nm"')
    lines = ('*HW_XG_WAVE_LENGTH_ALPHA1 "0.1540593"', '*HW_XG_WAVE_LENGTH_BETA "0.1392250"')
    found = [s for line in lines for s in find_wavelengths(line, "f", unit)]
    assert found == [Statement(1.540593, "a1"), Statement(1.39225, "b")]
    assert find_unit("# wavelength 1.5406 Å") == ""
    with pytest.raises(InputError, match="says its wavelengths in 'furlongs'"):
        find_wavelengths("wavelength 0.1540593", "f", "furlongs")


def test_contradictions_are_said() -> None:
    assert "Kα2 or Kβ alone" in chosen("Kalpha2 = 1.54439")[1]
    wavelengths, remarks = chosen("# wavelength 1.5406", "# wavelength 0.7093")
    assert wavelengths == (1.5406,)
    assert remarks == "the header says wavelengths of 1.5406 and 0.7093 Å; 1.5406 Å is taken"
    assert "1.5406 and 0.709" in chosen("# wavelength 1.5406", "# energy 17.48 keV")[1]
    assert choose_wavelengths([Statement(1.5406), Statement(1.5407)])[1] == ()


@pytest.mark.parametrize(
    ("name", "kind", "scale"),
    [
        ("2Theta", AxisKind.TWO_THETA, 1),
        ("2θ / °", AxisKind.TWO_THETA, 1),
        ("Pos. [°2Th.]", AxisKind.TWO_THETA, 1),
        ("2th_rad", AxisKind.TWO_THETA, 57.29577951308232),
        ("θ (deg)", AxisKind.THETA, 1),
        ("Bragg angle θ / deg", AxisKind.THETA, 1),
        ("q_nm^-1", AxisKind.Q, 0.1),
        ("Q (Å⁻¹)", AxisKind.Q, 1),
        ("q / nm$^{-1}$", AxisKind.Q, 0.1),
        ("Q (inverse nanometers)", AxisKind.Q, 0.1),
        ("scattering vector q [1/Å]", AxisKind.Q, 1),
        ("d(A)", AxisKind.D, 1),
        ("d-spacing (nm)", AxisKind.D, 10),
        ("1/d (1/nm)", AxisKind.INVERSE_D, 0.1),
        ("sin(theta)/lambda (1/A)", AxisKind.SINE, 1),
        ("q", AxisKind.OTHER, 1),
        ("d", AxisKind.OTHER, 1),
        ("q (mm)", AxisKind.OTHER, 1),
        ("time of flight", AxisKind.OTHER, 1),
        ("s (1/nm)", AxisKind.OTHER, 1),
        ("d*2_A^-2", AxisKind.OTHER, 1),
    ],
)
def test_axes(name: str, kind: AxisKind, scale: float) -> None:
    axis = axis_of(name)
    assert axis is not None and (axis.kind, axis.name) == (kind, name)
    assert axis.scale == pytest.approx(scale)


@pytest.mark.parametrize("name", ["counts", "I", "sigma", "LaB6", "sample 3", "dataset"])
def test_what_is_no_axis(name: str) -> None:
    assert axis_of(name) is None


WORDS = st.sampled_from(
    ["wavelength", "lambda", "λ", "Kα1", "2theta", "q", "d", "(1/nm)", "[Å]", "energy", "keV", "ratio", "I", "#"]
)
LINES = st.lists(WORDS | st.text(st.characters(codec="utf-8"), max_size=20) | st.floats().map(str), max_size=8)


@given(LINES.map(" ".join))
@example("# wavelength 1e400 Å")
@example("wavelength = " + "9" * 400)
@example("wavelength ١٫٥ Å")
@settings(deadline=None, derandomize=True, max_examples=200)
def test_any_line_says_finite_wavelengths_or_is_refused(line: str) -> None:
    try:
        statements = find_wavelengths(line, "x")
    except InputError as error:
        assert error.remedy
    else:
        assert all(math.isfinite(s.value) and s.value > 0 for s in statements)
    for find in (find_axis, find_ratio, find_unit, find_anode, axis_of):
        find(line)
    try:
        find_columns(line, " ", 3, True, "x")
    except InputError as error:
        assert error.remedy
