import numpy as np
import pytest
from pymatgen.core import Composition

from components.collect_structures.content import Said, Verdict, read_formula, shown


def cell(**amounts: float) -> np.ndarray:
    atoms = np.zeros(99)
    for symbol, amount in amounts.items():
        atoms[Composition(symbol).elements[0].Z] = amount
    return atoms


FORMULAS = ["Ca (Zn.165 Fe.835) Si2 O6", "Al2 Cu O4", "K.5 O9.5 H7.5 U As", "(N H4)2 (S O4)", "C456 O0"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_as_pymatgen_reads_them(text: str) -> None:
    found = read_formula(text)
    expected = Composition(text.replace(" ", ""))
    assert found is not None
    assert dict(found.amounts) == pytest.approx({e.Z: n for e, n in expected.items() if n})
    assert found.mass == pytest.approx(expected.weight, rel=1e-6)


def test_deuterium_is_hydrogen_with_its_own_mass() -> None:
    found = read_formula("D2 O")
    assert found is not None and found.amounts == {1: 2.0, 8: 1.0}
    assert found.mass == pytest.approx(20.027, abs=2e-3)


@pytest.mark.parametrize("text", ["", "Xx2 O3", "Na(Cl", "Na)", "2Na", "Na+", "Cf Es", "C12 H16, H2O"])
def test_what_is_no_formula(text: str) -> None:
    assert read_formula(text) is None


SALT = Said(read_formula("Na Cl"), 4, 2.163)


@pytest.mark.parametrize(
    ("said", "atoms", "rank"),
    [
        (SALT, cell(Na=4, Cl=4), 0),
        (SALT, cell(Na=4, Cl=3.9), 1),
        (SALT, cell(Na=8, Cl=8), 2),
        (SALT, cell(Na=4, Cl=8), 3),
        (SALT, cell(Na=4, Br=4), 3),
        (Said(read_formula("Na Cl"), 4), cell(Na=8, Cl=8), 2),
        (Said(read_formula("Na Cl"), 2, 2.163), cell(Na=4, Cl=4), 1),
        (Said(read_formula("Na4 Cl4"), 4), cell(Na=4, Cl=4), 0),
        (Said(None, None, 2.163), cell(Na=8, Cl=8), 2),
        (Said(None, None, 2.0, measured=True), cell(Na=4, Cl=4), 0),
        (Said(), cell(Na=4, Cl=8), 0),
        (Said(read_formula("Na.999 Tl.001 Cl")), cell(Na=4, Cl=4), 1),
    ],
)
def test_contents_of_a_cell_of_salt(said: Said, atoms: np.ndarray, rank: int) -> None:
    assert said.verdict(atoms, 5.64**3).rank == rank


def test_hydrogen_is_counted_apart() -> None:
    brucite = Said(read_formula("Mg O2 H2"))
    assert brucite.verdict(cell(Mg=1, O=2), 40.0) == Verdict(hydrogen=2.0)
    assert brucite.verdict(cell(Mg=1, O=2, H=2), 40.0) == Verdict()
    assert brucite.verdict(cell(Mg=1, O=2, H=3), 40.0) == Verdict(hydrogen=-1.0)
    assert Said(read_formula("H")).verdict(cell(H=4), 50.0).rank == 0


def test_contents_as_text() -> None:
    assert shown(cell(Si=16, O=31.5)) == "O31.5 Si16"
