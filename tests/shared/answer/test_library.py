"""Libraries of lines: what symmetry allows, where lines stand, files, elements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from imitation_refinement.answer.library import MOST_LINES, MOST_Q, Library, allowed_strains, of_elements, record
from imitation_refinement.errors import InputError
from tests.shared.answer.conftest import CRYSTALS, reflections_of

# Components 11, 22, 33, 23, 13, 12 on Cartesian axes, c along z or, for monoclinic cells, b along y.
PLANE = [[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]
ALLOWED = {
    "NaCl": [[1, 1, 1, 0, 0, 0]],
    "TiO2": PLANE,
    "SiO2": PLANE,
    "ZnO": PLANE,
    "BaSO4": np.eye(6)[:3],
    "CaSO4": np.eye(6)[[0, 1, 2, 4]],
    "CuSO4": np.eye(6),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_strains_are_those_that_the_symmetry_allows(name: str) -> None:
    expected = np.asarray(ALLOWED[name], float)
    found = allowed_strains(reflections_of(name), len(expected))
    assert found @ found.T == pytest.approx(np.eye(len(expected)), abs=1e-6)
    # The same space: projected on it, the expected directions stay what they are.
    assert expected @ found.T @ found == pytest.approx(expected, abs=1e-6)
    assert found[0] == pytest.approx(np.array([1, 1, 1, 0, 0, 0]) / np.sqrt(3))


def test_lines_stand_where_the_lattice_says(library: Library) -> None:
    for row, (_, lattice, _, _) in enumerate(CRYSTALS.values()):
        part = slice(library.offsets[row], library.offsets[row + 1])
        d = [lattice.d_hkl(hkl) for hkl in library.hkl[part].tolist()]
        assert 2 * np.pi / np.array(d) == pytest.approx(library.q[part], rel=1e-6)
        assert library.q[part].max() <= MOST_Q
        assert library.amplitude[part].max() == 1


def test_the_strongest_lines_are_kept() -> None:
    reflections = reflections_of("CuSO4")
    row = record(reflections, "x", "CuSO4", 2)
    assert row is not None
    assert len(row["amplitude"]) == MOST_LINES < len(reflections.d)
    assert record(reflections, "x", "CuSO4", 2)["crystal_system"] == "triclinic"


def test_a_crystal_without_lines_is_none() -> None:
    reflections = reflections_of("NaCl")
    short = type(reflections)(
        reflections.reciprocal, *(getattr(reflections, n)[:0] for n in ("d", "starts", "hkl", "f2"))
    )
    assert record(short, "x", "NaCl", 225) is None


def test_what_is_written_is_read(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "library.parquet"
    library.write(path)
    found = Library.read(path)
    for name in library.__dataclass_fields__:
        assert np.array_equal(getattr(found, name), getattr(library, name)), name
    assert found.digest == library.digest


def test_a_changed_file_is_refused(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "library.parquet"
    library.write(path)
    table = pq.read_table(path)
    pq.write_table(table.slice(1).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(InputError, match="digest"):
        Library.read(path)
    pq.write_table(table.drop_columns(["hkl"]), path)
    with pytest.raises(InputError, match="no column 'hkl'"):
        Library.read(path)


def test_some_are_selected(library: Library) -> None:
    found = library.select([3, 0])
    assert found.formula.tolist() == ["TiO2", "NaCl"]
    assert np.array_equal(found.q, np.concatenate([library.q[slice(*library.offsets[i : i + 2])] for i in (3, 0)]))
    assert len(library.select(library.system == 6)) == 3


def test_phases_are_formula_and_space_group(library: Library) -> None:
    assert len(set(library.select([0, 1, 0, 2]).phase)) == 3


def test_no_crystal_system_is_impossible(library: Library) -> None:
    some = library.select(library.system < 3)
    counts = [int((some.system == k).sum()) for k in range(7)]
    assert 0 in counts and max(counts) > 0
    np.testing.assert_allclose(some.often, [n / len(some) / 2 + 1 / 14 for n in counts])


@pytest.mark.parametrize(
    ("formula", "mixed"),
    [("Mg2SiO4", False), ("C12H22O11", False), ("K4MoO8", False), ("Mg0.26Fe0.03Si0.14O0.57", True),
     ("Mg46Fe4(SiO4)25", True), ("Fe99O100", True), ("Al2(SO4)3", False)],
)  # fmt: skip
def test_solid_solutions_are_told_by_their_formulas(library: Library, formula: str, mixed: bool) -> None:
    assert replace(library.select([0]), formula=np.array([formula])).mixed.tolist() == [mixed]


def test_elements_are_filtered(library: Library) -> None:
    def formulas(**given: list[str]) -> list[str]:
        return library.formula[of_elements(library, **given)].tolist()

    assert formulas(must=["Zn"]) == ["ZnS", "ZnO"]
    assert formulas(must=["Zn"], excluded=["S"]) == ["ZnO"]
    assert formulas(may_only=["O", "Ti", "Sn"]) == ["TiO2", "SnO2"]
    assert formulas(must=["Al"], may_only=["O"]) == ["Al2O3"]
    with pytest.raises(InputError, match="'Xx' is no element"):
        formulas(must=["Xx"])
    with pytest.raises(InputError, match="Zn must be there and must not"):
        formulas(must=["Zn"], excluded=["Zn"])
