"""Libraries made of tables of structures, and rankings fitted on their virtual measurements."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.core import Structure

from imitation_refinement.answer.library import Library
from imitation_refinement.answer.search import Search
from imitation_refinement.data.contracts import STRUCTURES, write_table
from imitation_refinement.data.formula import stoichiometry
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, CrystalSystem
from pipelines.library import (
    UNFITTED,
    Materials,
    Measured,
    Without,
    cases,
    library_file,
    library_of,
    main,
    read_library,
    read_structures,
    representative,
    virtual_measurements,
)
from tests.shared.answer.conftest import CRYSTALS, small_library


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows: dict[str, list] = {field.name: [] for field in STRUCTURES}
    for name, (group, lattice, species, positions) in CRYSTALS.items():
        structure = Structure.from_spacegroup(group, lattice, species, positions)
        values = {
            "material_id": f"id-{name}",
            "formula": name,
            "space_group": group,
            "crystal_system": CrystalSystem.from_space_group(group).value,
            "lattice": structure.lattice.matrix.ravel(),
            "atomic_number": [site.specie.Z for site in structure],
            "occupancy": [1.0] * len(structure),
            "position": structure.frac_coords.ravel(),
            "source": "by hand",
            "remark": None,
        }
        for key, value in values.items():
            rows[key].append(value)
    rows["atomic_number"][-1] = [118] * len(rows["atomic_number"][-1])  # no form factors
    path = tmp_path_factory.mktemp("structures") / "structures.parquet"
    write_table(path, rows, STRUCTURES)
    return path


def test_bravais_lattices_count_as_often_as_a_library_has_them_by_hand() -> None:
    def groups(*numbers: int) -> pa.Table:
        return pa.table({"space_group": numbers})

    # Of four cubic ones, two are F (225) and two I (229); of the library's eight six are F, one is I, one P. A (38) and
    # C (36) are one lattice. What is not measured, P, nobody counts for.
    measured = [Measured(row, 0, np.empty(0), np.empty(0)) for row in (0, 1, 2, 0, 3, 4, 5)]
    held_out = groups(225, 229, 229, 36, 38, 62)
    library = groups(225, 225, 225, 216, 227, 196, 229, 221, 36, 62, 62, 62)
    found = representative(measured, held_out, library)
    assert found == pytest.approx([6 / 8 / 0.5, 1 / 8 / 0.5, 1 / 8 / 0.5, 6 / 8 / 0.5, 3 / 8, 3 / 8, 9 / 4])


def test_a_library_is_made_of_a_table(structures: Path) -> None:
    library = small_library()
    found = library_of(read_structures(structures))
    expected = library.select(np.arange(len(library) - 1))
    assert found.formula.tolist() == expected.formula.tolist()
    assert found.q == pytest.approx(expected.q, rel=1e-6)
    assert found.amplitude == pytest.approx(expected.amplitude, abs=1e-3)
    with pytest.raises(InputError, match="no such file"):
        read_structures(structures.with_name("none.parquet"))


def test_a_library_is_read_of_either_table(structures: Path, tmp_path: Path) -> None:
    made = read_library(structures)
    made.write(tmp_path / "library.parquet")
    assert read_library(tmp_path / "library.parquet").digest == made.digest
    with pytest.raises(InputError, match="no such file"):
        read_library(tmp_path / "none.parquet")


def test_a_library_is_taken_or_made_of_cifs_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `identify --library` is given: a library, or a folder of CIFs."""
    cifs, made = tmp_path / "cifs", tmp_path / "made"
    cifs.mkdir()
    for name in ("NaCl", "TiO2"):
        group, lattice, species, positions = CRYSTALS[name]
        Structure.from_spacegroup(group, lattice, species, positions).to(str(cifs / f"{name}.cif"))
    (cifs / "bad.cif").write_text("data_nothing\n")
    path = library_file(str(cifs), made)
    found = Library.read(path)
    assert path == made / "library.parquet" and sorted(found.formula.tolist()) == ["NaCl", "TiO2"]
    assert "bad.cif" in (made / "rejected_structures.csv").read_text()
    assert library_file(str(path), tmp_path / "other") == path and not (tmp_path / "other").exists()
    monkeypatch.setattr("pipelines.library.materials_of", None)  # nothing is read twice
    assert library_file(str(cifs), made) == path
    (cifs / "TiO2.cif").unlink()
    with pytest.raises(TypeError):  # but what has changed is
        library_file(str(cifs), made)


def test_materials_are_told_by_formula_and_space_group() -> None:
    library = small_library()
    found = Materials.of(library, ["TiO2", "TiH2O2", "MgO"], np.array([141, 136, 225]))
    row = library.formula.tolist().index("TiO2")
    assert not found.right.any()
    assert np.flatnonzero(found.own[0]).tolist() == np.flatnonzero(found.own[1]).tolist() == [row]
    assert not found.own[2].any()
    assert np.argwhere(Materials.of(library, ["TiO2"], np.array([136])).right).tolist() == [[0, row]]


def test_cases_are_searched_with_and_without_their_own(structures: Path) -> None:
    table = read_structures(structures)
    measured = virtual_measurements(table, 6, 1)
    found = list(cases(Search(library_of(table), UNFITTED), table, measured))
    assert len(found) == len(measured) and all(list(searched) == list(Without) for searched in found)
    assert [CRYSTAL_SYSTEMS[one.system] for one in measured] == list(CRYSTAL_SYSTEMS)[1:]
    formulas = [table["formula"][one.row].as_py() for one in measured]
    for i, formula in enumerate(formulas):
        known, unseen = found[i][Without.NOTHING], found[i][Without.MATERIAL]
        others = sum(stoichiometry(name) != stoichiometry(formula) for name in table["formula"].to_pylist())
        assert len(found[i][Without.KIND].evidence) == others
        assert known.right.sum() == 1 and not unseen.right.any()
        assert known.true_system == unseen.true_system == known.system[known.right][0]
        assert len(unseen.evidence) == len(known.evidence) - 1


def test_the_command_writes_a_library(structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["library", str(structures), str(tmp_path / "library.parquet")])
    main()
    assert Library.read(tmp_path / "library.parquet").digest == library_of(read_structures(structures)).digest
