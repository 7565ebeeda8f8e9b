"""What the page is told of a pattern: that of `identify`, in the pattern's own units."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest

from imitation_refinement.answer.identify import identify
from imitation_refinement.answer.model import Model
from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.patterns import Pattern, write_xy
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CrystalSystem
from tests.shared.answer.conftest import CRYSTALS, measured
from web import answer as module
from web.answer import Question, answer, file_name
from web.cif import cell_of, is_conventional


def xy(tmp_path: Path, name: str, **flaws: Any) -> bytes:
    write_xy(tmp_path / f"{name}.xy", *measured(name, **flaws))
    return (tmp_path / f"{name}.xy").read_bytes()


def test_the_answer_is_that_of_identify(model: Model, tmp_path: Path) -> None:
    data = xy(tmp_path, "BaSO4")
    (told,) = answer(model, Question(data, "BaSO4.xy", "1.5406"))["patterns"]
    json.dumps(told, allow_nan=False)
    x, y = np.loadtxt(tmp_path / "BaSO4.xy").T
    one = identify(model, Pattern("BaSO4", x, y, 1.5406))
    assert [system["answer"] for system in told["systems"]] == pytest.approx(one.probabilities, abs=1e-4)
    assert [system["search"] for system in told["systems"]] == pytest.approx(one.opinions.vote, abs=1e-4)
    assert told["flag"] == str(one.flag) and (told["name"], told["wavelength"]) == ("BaSO4", 1.5406)
    assert [c["id"] for c in told["candidates"]] == [c.material_id for c in one.candidates]
    np.testing.assert_allclose(told["two_theta"], x)
    np.testing.assert_allclose(told["intensity"], y, rtol=1e-6)


def test_the_baseline_is_the_background_that_was_drawn(model: Model, tmp_path: Path) -> None:
    x, lines = measured("NaCl", noise=False, polynomial=())
    hump = 400 + 300 * np.exp(-(((x - 25) / 15) ** 2))
    write_xy(tmp_path / "a.xy", x, lines + hump)
    (told,) = answer(model, Question((tmp_path / "a.xy").read_bytes(), "a.xy", "CuKa1"))["patterns"]
    baseline = np.array([np.nan if value is None else value for value in told["baseline"]])
    inside = (x > 12) & (x < 85)
    assert np.isfinite(baseline[inside]).all()
    assert np.median(np.abs(baseline - hump)[inside]) < 0.03 * 400


def test_the_refined_pattern_is_the_models(model: Model, tmp_path: Path) -> None:
    data = xy(tmp_path, "BaSO4")
    (told,) = answer(model, Question(data, "BaSO4.xy", "1.5406"))["patterns"]
    x, y = np.loadtxt(tmp_path / "BaSO4.xy").T
    pattern = Pattern("BaSO4", x, y, 1.5406)
    found = model.refine(pattern, identify(model, pattern).zero_error)
    assert found.intensity.max() > 0
    np.testing.assert_allclose(told["refined"], found.intensity, rtol=1e-5, atol=1e-9)
    assert any("moved" in sentence for sentence in told["why"])
    (told,) = answer(replace(model, refiner=None), Question(data, "BaSO4.xy", "1.5406"))["patterns"]
    assert told["refined"] is None and "This model has no refiner." in told["why"]


def test_lines_stand_where_the_cell_puts_them(model: Model, tmp_path: Path) -> None:
    """By the metric of the direct cell, whose edges and angles the page is told, and by d of the CIF."""
    (told,) = answer(model, Question(xy(tmp_path, "CaSO4"), "CaSO4.xy", "CuKa1"))["patterns"]
    one = next(c for c in told["candidates"] if c["formula"] == "CaSO4")
    a, b, c, *angles = one["cell"]
    ca, cb, cg = np.cos(np.radians(angles))
    metric = np.array(
        [[a * a, a * b * cg, a * c * cb], [a * b * cg, b * b, b * c * ca], [a * c * cb, b * c * ca, c * c]]
    )
    hkl = np.array([list(map(int, index.split())) for index in one["hkl"]])
    d = 1 / np.sqrt(np.einsum("ni,ij,nj->n", hkl, np.linalg.inv(metric), hkl))
    np.testing.assert_allclose(2 * np.pi / np.array(one["q"]), d, rtol=1e-4)
    assert max(one["height"]) == 1 and min(one["height"]) > 0
    assert one["cell"][:3] == pytest.approx(CRYSTALS["CaSO4"][1].abc, rel=5e-3)


def test_the_cif_has_a_cell_and_a_space_group_and_says_that_it_has_no_atoms(model: Model, tmp_path: Path) -> None:
    (told,) = answer(model, Question(xy(tmp_path, "TiO2"), "TiO2.xy", "CuKa1"))["patterns"]
    one = next(c for c in told["candidates"] if c["formula"] == "TiO2")
    block = gemmi.cif.read_string(one["cif"]).sole_block()
    structure = gemmi.make_small_structure_from_block(block)
    assert structure.cell.parameters == pytest.approx(one["cell"], abs=1e-4)
    assert not structure.sites and "NO ATOMS" in one["cif"]
    assert block.find_value("_space_group_IT_number") == "136" and one["symbol"] == "P42/mnm"
    rows = [list(row) for row in block.find("_refln_", ["index_h", "index_k", "index_l", "d_spacing"])]
    expected = [structure.cell.calculate_d(list(map(int, row[:3]))) for row in rows]
    assert len(rows) > 20 and [float(row[3]) for row in rows] == pytest.approx(expected, abs=1e-4)
    assert one["cif"].isascii()


@pytest.mark.parametrize(
    ("cell", "system", "fits"),
    [
        ((5, 5, 5, 90, 90, 90), "cubic", True),
        ((5, 5, 5, 60, 60, 60), "cubic", False),
        ((5, 5, 5, 60, 60, 60), "trigonal", True),
        ((5, 5, 9, 90, 90, 120), "trigonal", True),
        ((5, 5, 9, 90, 90, 120), "hexagonal", True),
        ((5, 5, 9, 90, 90, 90), "hexagonal", False),
        ((5, 5, 5, 109.47, 109.47, 109.47), "cubic", False),
        ((5, 6, 7, 90, 101, 90), "monoclinic", True),
        ((5, 5, 7, 95, 95, 101), "monoclinic", False),
        ((5, 5, 7, 90, 90, 101), "orthorhombic", False),
        ((5, 6, 7, 90, 90, 90), "orthorhombic", True),
        ((5, 6, 7, 81, 92, 103), "triclinic", True),
        ((5, 5, 7, 90, 90, 90), "tetragonal", True),
        ((5, 6, 7, 90, 90, 90), "tetragonal", False),
    ],
)
def test_a_primitive_cell_is_no_conventional_one(cell: tuple[float, ...], system: str, fits: bool) -> None:
    assert is_conventional(tuple(map(float, cell)), CrystalSystem(system)) is fits


def test_the_cell_of_a_reciprocal_lattice() -> None:
    lattice = CRYSTALS["CuSO4"][1]
    reciprocal = np.array(lattice.reciprocal_lattice_crystallographic.matrix)
    assert cell_of(reciprocal) == pytest.approx(lattice.parameters, rel=1e-9)


def test_a_wavelength_is_asked_for_and_never_assumed(model: Model, tmp_path: Path) -> None:
    data = xy(tmp_path, "NaCl")
    asked = answer(model, Question(data, "NaCl.xy"))
    assert asked == {"patterns": [], "rejected": [], "asks_wavelength": True}
    (told,) = answer(model, Question(b"# wavelength 1.5406 A\n" + data, "NaCl.xy"))["patterns"]
    assert told["wavelength"] == 1.5406
    (told,) = answer(model, Question(b"# wavelength 1.5406 A\n" + data, "NaCl.xy", "MoKa1"))["patterns"]
    assert told["wavelength"] == 1.5406 and any("0.7093" in remark for remark in told["remarks"])
    with pytest.raises(InputError, match=r"wavelength: .*'copper' is no wavelength"):
        answer(model, Question(data, "NaCl.xy", "copper"))


def test_elements_bound_the_candidates(model: Model, tmp_path: Path) -> None:
    data = xy(tmp_path, "NaCl")
    found = {
        c["formula"] for c in answer(model, Question(data, "a.xy", "Cu", excluded=("Cl",)))["patterns"][0]["candidates"]
    }
    assert found and not any("Cl" in formula for formula in found)
    found = {
        c["formula"] for c in answer(model, Question(data, "a.xy", "Cu", must=("Na",)))["patterns"][0]["candidates"]
    }
    assert found == {"NaCl"}
    with pytest.raises(InputError, match="'Xx' is no element"):
        answer(model, Question(data, "a.xy", "Cu", must=("Xx",)))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.xy", b"", "a.xy"),
        ("../../a.xy", b"1 2\n2 3\n", "points"),
        ("a.zzz", b"1 2\n", "unknown suffix"),
        ("a.parquet", b"PAR1", "a.parquet"),
        ("<script>.xy", b"\0" * 99, "_script_.xy"),
    ],
)
def test_what_can_not_be_read_is_said_by_the_files_own_name(name: str, data: bytes, said: str, model: Model) -> None:
    (sentence,) = answer(model, Question(data, name, "Cu"))["rejected"]
    assert (
        said in sentence and "/tmp" not in sentence and "imitation-refinement-" not in sentence and ".." not in sentence
    )


def test_files_are_not_kept(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = xy(tmp_path, "NaCl")
    (tmp_path / "NaCl.xy").unlink()
    answer(model, Question(data, "NaCl.xy", "Cu"))
    assert not list(tmp_path.iterdir())


def test_peaks_are_told_with_who_explains_them(model: Model, tmp_path: Path) -> None:
    (told,) = answer(model, Question(xy(tmp_path, "BaSO4"), "BaSO4.xy", "1.5406"))["patterns"]
    x, y = np.loadtxt(tmp_path / "BaSO4.xy").T
    found = identify(model, Pattern("BaSO4", x, y, 1.5406)).explanation
    assert found is not None and told["peaks"] == len(found.peaks.position) > 5
    assert [one["explains"] for one in told["candidates"]] == found.explained.sum(axis=1).tolist()
    assert told["unexplained"] == pytest.approx(found.peaks.position[~found.explained.any(axis=0)].tolist(), rel=1e-6)


def test_what_can_not_be_searched_is_shown_without_an_answer(model: Model, tmp_path: Path) -> None:
    """Five degrees at a wavelength that no line is looked for at."""
    write_xy(tmp_path / "a.xy", np.arange(5, 10, 0.02), 100 + np.arange(250) % 7)
    (told,) = answer(model, Question((tmp_path / "a.xy").read_bytes(), "a.xy", "5"))["patterns"]
    json.dumps(told, allow_nan=False)
    assert told["flag"] == "outside" and told["why"] and not told["candidates"]
    assert {system["search"] for system in told["systems"]} == {None}
    assert set(told["baseline"]) == {None}


def test_scans_of_one_name_are_told_apart(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = xy(tmp_path, "NaCl")
    scan = next(iter(read_scans(tmp_path / "NaCl.xy")))
    broken = InputError(tmp_path / "NaCl.xy", "its third scan is cut off.", "Measure it again.")
    monkeypatch.setattr(module, "read_scans", lambda path: iter([scan, scan, broken]))
    told = answer(model, Question(data, "NaCl.xy", "Cu"))
    assert [one["name"] for one in told["patterns"]] == ["NaCl scan 1", "NaCl scan 2"]
    assert len(told["rejected"]) == 1 and "cut off" in told["rejected"][0]


def test_too_many_points_and_scans(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = xy(tmp_path, "NaCl")
    monkeypatch.setattr(module, "MOST_POINTS", 1000)
    (sentence,) = answer(model, Question(data, "NaCl.xy", "Cu"))["rejected"]
    assert "points; the page takes 1000. Use `imitation-refinement identify`" in sentence
    monkeypatch.setattr(module, "MOST_SCANS", 0)
    with pytest.raises(InputError, match=r"NaCl\.xy: holds more than 0 scans\. Split it"):
        answer(model, Question(data, "NaCl.xy", "Cu"))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a.xy", "a.xy"),
        ("/etc/passwd", "passwd"),
        ("..", "pattern"),
        ("C:\\x\\b.raw", "b.raw"),
        ("._a.xy", "_a.xy"),
        ("é ü.xy", "é ü.xy"),
        ("a\nb.xy", "a_b.xy"),
        ("x" * 300 + ".xy", "x" * 117 + ".xy"),
        ("", "pattern"),
    ],
)
def test_names_of_files(name: str, kept: str) -> None:
    assert file_name(name) == kept
