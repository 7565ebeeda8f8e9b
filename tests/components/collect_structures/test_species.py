import pytest

from components.collect_structures.crystals import ATOMIC_NUMBERS
from components.collect_structures.species import TETRAHEDRAL, Species, shares_by_formula, species_of


def holds(**shares: float) -> Species:
    return Species(tuple((ATOMIC_NUMBERS[symbol], share) for symbol, share in shares.items()))


@pytest.mark.parametrize(
    ("type_symbol", "label", "listed", "expected"),
    [
        ("Fe3+", "X1", "", "Fe"),
        ("FE", "", "", "Fe"),
        ("O2-", "", "", "O"),
        ("O-2", "", "", "O"),
        ("2H", "H1", "", "H"),
        ("D", "D1", "", "H"),
        ("", "Fe1", "", "Fe"),
        ("", "Fe3+M1", "", "Fe"),
        ("", "FE1", "Fe O", "Fe"),
        ("", "OSi2", "", "O"),
        ("", "BII", "", "B"),
        ("", "Bi1", "", "Bi"),
        ("", "CO1", "C O Ca", "C"),
        ("", "Ow3", "", "O"),
        ("", "Hw1", "", "H"),
        ("", "Ho1", "Ho O", "Ho"),
        ("", "V1", "V O", "V"),
    ],
)
def test_elements(type_symbol: str, label: str, listed: str, expected: str) -> None:
    assert species_of(type_symbol, label, frozenset(listed.split())) == holds(**{expected: 1.0})


@pytest.mark.parametrize(
    ("type_symbol", "label", "atom", "hydrogen"),
    [
        ("", "Wat", "O", 2), ("", "Wat2", "O", 2), ("", "O-H3", "O", 1), ("", "OH1", "O", 1), ("", "OH", "O", 1),
        ("", "NH4", "N", 4), ("H2O", "O1", "O", 2), ("OH", "O1", "O", 1), ("NH4", "N1", "N", 4),
    ],
)  # fmt: skip
def test_groups(type_symbol: str, label: str, atom: str, hydrogen: int) -> None:
    expected = Species(holds(**{atom: 1.0}).shares, hydrogen)
    assert species_of(type_symbol, label, frozenset(("O", "H", "N"))) == expected


@pytest.mark.parametrize(
    ("type_symbol", "expected"),
    [
        ("0.615(5)Cu + 0.385(5)Al", holds(Cu=0.615, Al=0.385)),
        ("0.5Fe3+ + 0.5Al3+", holds(Fe=0.5, Al=0.5)),
        ("Ca0.4Sr0.6", holds(Ca=0.4, Sr=0.6)),
        ("0.75Na + 0.25□", holds(Na=0.75)),
        ("Va", Species()),
        ("□", Species()),
        ("Mg/Fe", Species(among=frozenset((12, 26)))),
        ("(Mg,Fe)", Species(among=frozenset((12, 26)))),
        ("T", Species(among=TETRAHEDRAL)),
        ("Xx", None),
        ("M1", None),
        ("0.5Cu + 0.5Xx", None),
        ("0.9Cu + 0.9Al", None),
    ],
)
def test_mixtures_and_vacancies(type_symbol: str, expected: Species | None) -> None:
    assert species_of(type_symbol, "Na1", frozenset()) == expected


@pytest.mark.parametrize("label", ["T1", "T2O"])
def test_a_t_site_is_no_tritium(label: str) -> None:
    assert species_of("", label, frozenset(("Si", "Al", "O"))) == Species(among=TETRAHEDRAL)


def test_a_label_of_two_elements_is_both() -> None:
    assert species_of("", "Al,Cutet", frozenset()) == Species(among=frozenset((13, 29)))


def test_shares_of_a_t_site_by_the_formula() -> None:
    """Analcime, NaAlSi2O6.H2O: aluminium and silicon as 1 to 2."""
    amounts = {11: 1.0, 13: 1.0, 14: 2.0, 8: 7.0, 1: 2.0}
    assert shares_by_formula(TETRAHEDRAL, amounts, {8, 11}) == ((13, 1 / 3), (14, 2 / 3))
    assert shares_by_formula(TETRAHEDRAL, amounts, {8, 11, 13, 14}) is None
