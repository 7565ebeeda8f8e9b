import gemmi
import numpy as np
import pytest

from components.collect_structures.settings import operations_of, parse_operation, read_symmetry
from imitation_refinement.errors import InputError


def names(**values: str) -> list[list[str]]:
    tags = {"symbol": "_space_group_name_h-m_alt", "number": "_space_group_it_number", "hall": "_space_group_name_hall"}
    found = read_symmetry({tags[key]: text for key, text in values.items()}, (), "x", "")
    return [[setting.name for setting in tier()] for tier in found.tiers]


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("F m -3 m", ["F m -3 m"]),
        ("F d -3 m", ["F d -3 m, origin choice 1", "F d -3 m, origin choice 2"]),
        ("Fd-3mZ", ["F d -3 m, origin choice 2"]),
        ("F d -3 m S", ["F d -3 m, origin choice 1"]),
        ("P 4/n m m :1", ["P 4/n m m, origin choice 1"]),
        ("R -3 m", ["R -3 m, hexagonal axes", "R -3 m, rhombohedral axes"]),
        ("R -3 m H", ["R -3 m, hexagonal axes"]),
        ("R 3 m R", ["R 3 m, rhombohedral axes"]),
        ("P2_1/c", ["P 1 21/c 1"]),
        ("P 2", ["P 1 2 1"]),
    ],
)
def test_settings_of_a_symbol(symbol: str, expected: list[str]) -> None:
    assert names(symbol=symbol)[0] == expected


def test_settings_of_a_number() -> None:
    assert names(number="225")[0] == ["F m -3 m"]
    assert names(number="129")[0] == ["P 4/n m m, origin choice 1", "P 4/n m m, origin choice 2"]


def test_a_hall_symbol_goes_first() -> None:
    assert names(hall="-P 4a 2a", symbol="P 4/n m m")[0] == ["the Hall symbol -P 4a 2a"]


@pytest.mark.parametrize("values", [{}, {"_space_group_name_h-m_alt": "Q 9"}])
def test_no_symmetry_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"symmetry|not understood"):
        read_symmetry(values, (), "x", "")


def test_operations_average_a_metric() -> None:
    """By hand: a fourfold axis along c swaps a² and b² and leaves c²."""
    operations = operations_of(("x,y,z", "-y,x,z", "-x,-y,z", "y,-x,z"))
    metric = np.diag([9.0, 16.0, 25.0])
    np.testing.assert_allclose(operations.averaging @ metric.ravel(), np.diag([12.5, 12.5, 25]).ravel())
    assert operations.number == 75 and operations.translations.tolist() == [[0, 0, 0]]
    centred = operations_of(("x,y,z", "x+1/2,y+1/2,z"))
    np.testing.assert_allclose(centred.translations, [[0, 0, 0], [0.5, 0.5, 0]])


def test_operations() -> None:
    assert parse_operation("1/2+X,-y, z - .25")[:, 3].tolist() == [0.5, 0, -0.25]
    np.testing.assert_array_equal(parse_operation("x-y,x,-z")[:, :3], [[1, -1, 0], [1, 0, 0], [0, 0, -1]])
    for bad in ("x,y", "x,y,w", "x,x,z", "", "x,y,z+1/", "x;y;z"):
        with pytest.raises(ValueError, match="'"):
            parse_operation(bad)


@pytest.mark.parametrize("symbol", ["P 1", "P 3 2 1", "R -3 c:H", "P 63/m m c", "F d -3 m:2"])
def test_products_are_those_of_gemmi(symbol: str) -> None:
    group = list(gemmi.find_spacegroup_by_name(symbol).operations())
    products = operations_of(tuple(op.triplet() for op in group)).products
    assert products is not None and products.shape == (len(group), len(group))
    rng = np.random.default_rng(0)
    for i, j in rng.integers(len(group), size=(50, 2)):
        assert group[products[i, j]].triplet() == (group[i] * group[j]).wrap().triplet()


def test_cosets_of_a_mirror_and_of_what_is_no_group() -> None:
    """P m m 2 by hand: x,y,z with its mirror at x = 0, and the two others."""
    operations = operations_of(("x,y,z", "-x,-y,z", "x,-y,z", "-x,y,z"))
    first = operations.first_of_cosets(np.array([True, False, False, True]))
    assert first is not None and first.tolist() == [True, True, False, False]
    assert operations.first_of_cosets(np.array([True, True, False, True])) is None
    assert operations_of(("x,y,z", "x+357/926,y,z")).products is None
