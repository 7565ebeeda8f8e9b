"""Formulas as people write them; values by hand, and against pymatgen where it reads them right."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element

from imitation_refinement.data.formula import (
    SYMBOLS,
    difference,
    normal,
    one_material,
    parse,
    stoichiometry,
    without_hydrogen,
)

GYPSUM = {"Ca": 1, "S": 1, "O": 6, "H": 4}
HEMIHYDRATE = {"Ca": 2, "S": 2, "O": 9, "H": 2}
OLIVINE = {"Mg": 9, "Fe": 1, "Si": 5, "O": 20}
WUSTITE = {"Fe": 9, "O": 10}
HAEMATITE = {"Fe": 2, "O": 3}


def test_symbols_are_those_of_pymatgen() -> None:
    assert [Element.from_Z(z).symbol for z in range(1, len(SYMBOLS) + 1)] == SYMBOLS


@pytest.mark.parametrize(
    ("expected", "texts"),
    [
        (
            GYPSUM,
            "CaSO4.2H2O|CaSO4·2H2O|CaSO4*2H2O|CaSO4•2H2O|CaSO4⋅2H2O|CaSO4 · 2 H2O|CaSO4 2(H2O)|CaSO4 2H2O|CaSO4(H2O)2|"
            "CaSO4.(H2O)2|CaSO4.2(H2O)|CaSO4 dihydrate|CaSO4, 2H2O|CaSO4 x 2H2O|CaH4SO6|Ca1 H4 O6 S1|H8Ca2S2O12|"
            "CaSO₄·2H₂O|CaSO_{4} \\cdot 2H_{2}O|$\\mathrm{CaSO_4}\\cdot2\\mathrm{H_2O}$|CaSO_4_·2H_2_O|CaSO~4~·2H~2~O|"
            "[CaSO4(H2O)2]|CaSO<sub>4</sub>&middot;2H<sub>2</sub>O|CaSO4.2D2O|gypsum CaSO4.2H2O|Ca^2+^SO_4_^2-^·2H_2_O",
        ),
        (HEMIHYDRATE, "CaSO4.0.5H2O|CaSO4·½H2O|CaSO4.1/2H2O|2CaSO4.H2O|2CaSO4·H2O|CaSO4 hemihydrate|CaSO4·.5H2O"),
        ({"Cu": 1, "S": 1, "O": 9, "H": 10}, "CuSO4.5H2O|CuSO4 pentahydrate"),
        ({"Na": 2, "C": 1, "O": 13, "H": 20}, "Na2CO3.10H2O"),
        ({"Cd": 3, "S": 3, "O": 20, "H": 16}, "3CdSO4.8H2O|3CdSO4·8H2O"),
        ({"Mg": 9, "Fe": 1, "S": 10, "O": 110, "H": 140}, "Mg0.9Fe0.1SO4.7H2O"),
        ({"K": 1, "H": 4, "O": 2}, "K0.5H2O"),  # no hydrate of K0
        (OLIVINE, "(Mg0.9,Fe0.1)2SiO4|(Mg0.9Fe0.1)2SiO4|(Mg.9Fe.1)2(SiO4)|Mg1,8Fe0,2SiO4|(Mg0.90(2)Fe0.10(2))2SiO4"),
        (
            {"Ti": 1, "O": 2},
            "TiO2 (rutile)|TiO2(rutile)|TiO2 (Rutile)|rutile, TiO2|TiO2, syn|TiO2-rutile|Ti4+O2|Ti(IV)O2",
        ),
        ({"Si": 1, "O": 2}, "SiO2 quartz|Quartz SiO2|α-SiO2|beta-SiO2|SiO2 (low quartz)|Si O2|SiO2-II"),
        ({"Si": 1, "C": 1}, "3C-SiC|SiC-6H|SiC (moissanite)"),
        (
            HAEMATITE,
            "Fe3+2O3|Fe³⁺₂O₃|Fe^{3+}_2O_3|Fe<sup>3+</sup><sub>2</sub>O<sub>3</sub>|Fe(III)2O3|Fe 2 O 3|O3Fe2|⁵⁷Fe2O3",
        ),
        ({"Zn": 1, "Mn": 2, "O": 4}, "ZnMn3+2O4"),
        ({"Fe": 2, "Ge": 1, "O": 4}, "Fe2+2Ge4+O4"),
        ({"Na": 1, "Cl": 1}, "Na+Cl-|Na4Cl4|NaCl (s)"),
        ({"S": 1, "O": 4}, "SO4 2-|SO42-|[SO4]2-|SO₄²⁻"),
        ({"N": 1, "H": 4}, "NH4+|ND4+"),
        (WUSTITE, "Fe0.9O|Fe0.9□0.1O|□0.1Fe0.9O|Fe0.9[]0.1O|Fe0.9Vac0.1O|Fe0.9Va0.1O|Fe0.9[vac]0.1O|Fe₀.₉O"),
        ({"Ca": 5, "P": 3, "O": 13, "H": 1}, "Ca10(PO4)6(OH)2|Ca5(PO4)3(OH)|Ca_5_(PO_4_)_3_(OH)"),
        ({"K": 4, "Fe": 1, "C": 6, "N": 6, "H": 6, "O": 3}, "K4[Fe(CN)6].3H2O|K4{Fe[C N]6}·3H2O"),
        ({"Al": 2, "Si": 2, "O": 9, "H": 4}, "Al2O3.2SiO2.2H2O|Al2O3·2SiO2·2H2O|Al2Si2O5(OH)4"),
        ({"V": 1, "F": 3}, "VF3"),  # no vacancy
    ],
)
def test_many_ways_to_write_one_material(expected: dict[str, int], texts: str) -> None:
    for text in texts.split("|"):
        assert normal(parse(text)) == expected, text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(Mg,Fe)2SiO4", "the shares of Mg and Fe on one site are not said"),
        ("(Mg0.9,Fe)2SiO4", "the shares of Mg and Fe on one site are not said"),
        ("CaSO4.xH2O", "the amount 'x' is not said"),
        ("CaSO4·nH2O", "the amount 'n' is not said"),
        ("CaSO4 hydrate", "'hydrate' does not say how much"),
        ("YBa2Cu3O7-x", "the amount 'x' is not said"),
        ("YBa2Cu3O7-δ", "the amount 'δ' is not said"),
        ("LixCoO2", "the amount 'x' is not said"),
        ("Al2O3:Cr", "':' joins what is not said to be one compound"),
        ("Fe2O3 + SiO2", "'+' joins what is not said to be one compound"),
        ("Fe2O3, SiO2", "a comma joins what is not said to be one compound"),
        ("Fe-Ni", "'Fe-' joins what is not said to be one compound"),
        ("TiO2 doped with Nb", "'doped' does not say how much"),
        ("Al2O3.2SiO2", "the point of 'O3.2' may part two oxides or be a decimal point; write ·"),
        ("Fe+3", "'Fe+3' may mean a charge or an amount"),
        ("Cu(I)Cl", "'Cu(I)' may mean an element or not"),
        ("2CaO SiO2", "'2CaO SiO2' does not say what its number counts"),
        ("quartz", "names no element"),
        ("Q", "'Q' is no formula"),
        ("NACL", "'ACL' is no formula"),
        ("Ca(OH", "a bracket ( is not closed"),
        ("CaO)", "')' is no formula"),
        ("□", "names no element"),
        ("Ca0", "names no element"),
        ("CaO1/0", "'1/0' is no amount"),
        ("", "names no element"),
    ],
)
def test_what_does_not_say_its_amounts_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        parse(text)


def test_plain_formulas_are_read_as_pymatgen_reads_them() -> None:
    rng = np.random.default_rng(0)
    symbols = [symbol for symbol in SYMBOLS if symbol not in ("I", "V")]  # which may be oxidation states, too
    amounts = ["", "2", "3", "0.25", "1.5"]
    for _ in range(300):
        text = ""
        for _ in range(rng.integers(1, 5)):
            inner = "".join(f"{rng.choice(symbols)}{rng.choice(amounts)}" for _ in range(rng.integers(1, 4)))
            text += f"({inner}){rng.integers(2, 9)}" if rng.random() < 0.3 else inner
        expected = Composition(text).as_dict()
        assert {element: float(amount) for element, amount in parse(text).items()} == pytest.approx(expected), text


SIMPLE = ["Fe2O3", "D2O", "FeIII2O3", "TiO2F0", "CoCO3", "CN2H4", "VI2", "SnII2", "H0"]
SHARES = ["H0.2O0.8", "Mg0.12O0.5Si0.380", "O0.5H2O", "CaSO4.2H2O"]


@pytest.mark.parametrize("text", [*SIMPLE, *SHARES])
def test_the_simplest_names_are_read_as_all_others(text: str) -> None:
    def outcome(written: str) -> object:
        try:
            return parse(written)
        except ValueError as error:
            return str(error)

    assert outcome(text) == outcome(f" {text}"), "a space keeps it from being read at once"


@pytest.mark.parametrize("third", [1 / 3, 0.333, 0.3333, 0.33333])
@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ({"A": 1, "B": -1}, {"A": 1, "B": 2}),
        ({"A": 1, "B": -1, "O": 1}, {"A": 1, "B": 2, "O": 3}),
        ({"A": 2, "B": -2, "O": 3}, {"A": 2, "B": 4, "O": 9}),
        ({"A": 1, "B": -1, "Ti": 1, "O": 3}, {"A": 1, "B": 2, "Ti": 3, "O": 9}),
    ],
)
@pytest.mark.parametrize("cell", [1, 4, 7])
def test_thirds_as_files_round_them(third: float, amounts: dict[str, int], expected: dict[str, int], cell: int) -> None:
    shares = {"A": third, "B": round(1 - third, 6)}
    given = {element: cell * abs(n) * shares.get(element, 1) for element, n in amounts.items()}
    assert normal(given) == expected


def test_the_cell_does_not_matter() -> None:
    for share in np.arange(0.01, 1, 0.007):
        names = {str(normal({"Ba": n * share, "Co": n * (1 - share), "S": n})) for n in (1, 2, 3, 4, 6, 8, 12)}
        assert len(names) == 1


def test_solid_solutions_that_differ_by_more_than_files_round_stay_two() -> None:
    """In steps of 0.01 a formula unit, of two and of five atoms."""
    for anions in (1, 4):
        shares = [k / 100 for k in range(1, 100)]
        names = {str(normal({"Mg": x, "Fe": 1 - x, "O": anions})) for x in shares}
        assert len(names) == len(shares)
        written = ["".join(f"{e}{n}" for e, n in normal({"Mg": x, "Fe": 1 - x, "O": anions}).items()) for x in shares]
        assert one_material(written) == {}


def test_ordered_compounds_are_exact() -> None:
    assert normal({"C": 60, "H": 122}) == {"C": 30, "H": 61}
    assert normal({"Mg": 34, "Al": 24}) == {"Mg": 17, "Al": 12}
    assert normal({"Cu": Fraction(41, 3), "Sn": Fraction(11, 3)}) == {"Cu": 41, "Sn": 11}
    assert normal({"Y": 3, "Al": 5, "O": 12, "Nd": 1e-4}) == {"Y": 3, "Al": 5, "O": 12}  # a trace moves no line


def test_shares_without_small_whole_numbers_are_rounded_halves_up() -> None:
    found = normal({"A": 0.2471, "B": 0.7529, "O": 1})  # 0.12355, 0.37645, 0.5
    assert found == {"A": 0.124, "B": 0.376, "O": 0.5}
    halves = {str(normal({"A": n * 0.24700001, "B": n * 0.75299999, "O": n})) for n in (1, 3, 7)}
    assert halves == {str({"A": 0.124, "B": 0.377, "O": 0.5})}


def test_names_on_both_sides_of_a_rounding_boundary_are_one_material() -> None:
    names = ["Mg0.143Al0.208Fe0.077O0.572", "Mg0.143Al0.209Fe0.077O0.571", "Mg0.143Al0.211Fe0.075O0.571", "MgO", "?1.5"]
    assert one_material(names) == {names[1]: names[0]}
    assert one_material(["C30H61", "C31H63", "CaO"]) == {}  # whole numbers are exact


def test_difference_leaves_hydrogen_out() -> None:
    assert difference("Mn(HO)2", "MnO2") == 0
    assert difference("Ba2YCu3O7", "Ba2YCu3O6") == pytest.approx(7 / 13 - 6 / 12)
    assert difference("NaCl", "KCl") == pytest.approx(0.5)
    assert difference("NaCl", "p17") == 1
    assert without_hydrogen("Mn(HO)2") == without_hydrogen("MnO2") != without_hydrogen("Mn2O3")
    assert without_hydrogen("H2") == "H2"


def test_a_stoichiometry_is_the_amounts_alone() -> None:
    assert stoichiometry("CaO3Ti") == stoichiometry("F3KMn") == "1 1 3"
    assert stoichiometry("Mg0.5O") == "0.5 1" and stoichiometry("Si") == "1"


@given(st.text(st.sampled_from("NaClFeOSi0123456789.,()[]{}·* -+/x^_$\\\\²⁺□½\n\0é"), max_size=60))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_any_text_is_a_composition_or_none(text: str) -> None:
    try:
        amounts = parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert amounts and all(amount > 0 for amount in amounts.values())


def test_what_is_too_long_for_a_formula_is_none() -> None:
    for text in ("(" * 100_000, "NaCl" * 1000, "9" * 5000):
        with pytest.raises(ValueError, match="characters"):
            parse(text)
