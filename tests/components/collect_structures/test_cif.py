import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from scipy.optimize import linear_sum_assignment

from components.collect_structures.cif import element_of, expand, misfit, parse_operation, read_blocks, read_single
from components.collect_structures.crystals import ATOMIC_NUMBERS, Crystal, check_crystal
from imitation_refinement.errors import InputError

CELL = """data_test
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {c}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma {gamma}
"""
SITES = """loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


def cif(sites: str, symmetry: str, a: str = "5.64(2)", c: str = "5.64", gamma: str = "90") -> str:
    return CELL.format(a=a, c=c, gamma=gamma) + symmetry + SITES + sites


def assert_same(crystal: Crystal, structure: Structure) -> None:
    """The same species at the same places, in any order."""
    entries = [(e.Z, o, site.frac_coords) for site in structure for e, o in site.species.items()]
    assert len(crystal.numbers) == len(entries)
    step = crystal.positions[:, None] - np.array([p for _, _, p in entries])[None]
    distance = np.linalg.norm((step - np.round(step)) @ structure.lattice.matrix, axis=-1)
    distance[crystal.numbers[:, None] != np.array([z for z, _, _ in entries])[None]] = 99
    distance[np.abs(crystal.occupancy[:, None] - np.array([o for _, o, _ in entries])[None]) > 1e-3] = 99
    rows, columns = linear_sum_assignment(distance)
    assert distance[rows, columns].max() < 0.01
    np.testing.assert_allclose(np.sort(np.linalg.norm(crystal.lattice, axis=1)), sorted(structure.lattice.abc))


SPINEL = Structure.from_spacegroup(
    "Fd-3m", Lattice.cubic(8.08), ["Mg", "Al", "O"], [[0.25] * 3, [0.625] * 3, [0.3875] * 3]
)
QUARTZ = Structure.from_spacegroup(
    "P3_221", Lattice.hexagonal(4.913, 5.405), ["Si", "O"], [[0.47, 0, 2 / 3], [0.413, 0.267, 0.786]]
)
ALLOY = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(3.6), [{"Cu": 0.6, "Ni": 0.3, "Au": 0.1}, {"H": 0.25}], [[0, 0, 0], [0.25, 0.25, 0.25]]
)
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]]
)


@pytest.mark.parametrize("structure", [SPINEL, QUARTZ, ALLOY, RUTILE], ids=lambda s: s.reduced_formula)
@pytest.mark.parametrize("symmetric", [True, False])
def test_what_pymatgen_writes_is_read(structure: Structure, symmetric: bool) -> None:
    crystal, number = read_single(str(CifWriter(structure, symprec=0.01 if symmetric else None)), "x")
    check_crystal(crystal, "x")
    assert_same(crystal, structure)
    assert number == (structure.get_space_group_info()[1] if symmetric else None)  # P 1 says nothing


@pytest.mark.parametrize(
    "symmetry",
    [
        "_symmetry_space_group_name_H-M 'F m -3 m'\n",
        "_space_group_name_H-M_alt 'F m -3 m'\n_space_group_IT_number 225\n",
        "_space_group_IT_number 225\n",
        "_space_group_name_Hall '-F 4 2 3'\n",
    ],
)
def test_symmetry_by_name_or_number(symmetry: str) -> None:
    crystal, number = read_single(cif("Na1 0 0 0 1\nCl1 .5 .5 .5 1.000(3)\n", symmetry), "x")
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    assert_same(crystal, salt)
    assert number == 225


HEXAGONAL = {"a": "3.2", "c": "5.2", "gamma": "120", "symmetry": "_symmetry_space_group_name_H-M 'P 63/m m c'\n"}


def test_rounded_special_positions_do_not_multiply() -> None:
    crystal, _ = read_single(cif("Mg 0.333 0.667 0.25 1\n", **HEXAGONAL), "x")
    magnesium = Structure.from_spacegroup("P6_3/mmc", Lattice.hexagonal(3.2, 5.2), ["Mg"], [[1 / 3, 2 / 3, 0.25]])
    assert_same(crystal, magnesium)
    np.testing.assert_allclose(np.sort(crystal.positions[:, 0]), [1 / 3, 2 / 3], atol=1e-12)


def test_split_sites_near_an_element_stay_apart() -> None:
    text = cif("Cu 0.008 0 0 0.5\n", "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,-z\n")
    assert len(read_single(text, "x")[0].numbers) == 2  # 0.09 Å apart, half an atom each
    assert len(read_single(text.replace(" 0.5\n", " 1\n"), "x")[0].numbers) == 1


def test_odd_operations_of_pymatgen() -> None:
    """Translations that are no 24ths, operations listed twice: what pymatgen writes for some cells."""
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'x, y, z'\n'-x+1/74, -y, -z'\n'-x+1/74, -y, -z'\n"
    crystal, number = read_single(cif("Na 0.0068 0 0 1\nCl 0.25 0.25 0.25 1\n", operations), "x")
    assert sorted(crystal.numbers) == [11, 17, 17]
    assert number is None


def test_deuterium_is_hydrogen_and_mixed_sites_stand_twice() -> None:
    crystal, _ = read_single(cif("D1 0 0 0 0.25\nLi1 0 0 0 0.75\n", "_space_group_IT_number 221\n"), "x")
    assert sorted(zip(crystal.numbers.tolist(), crystal.occupancy, strict=True)) == [(1, 0.25), (3, 0.75)]


@pytest.mark.parametrize(
    ("type_symbol", "label", "listed", "expected"),
    [
        ("Fe3+", "X1", set(), "Fe"),
        ("FE", "", set(), "Fe"),
        ("O2-", "", set(), "O"),
        ("", "Fe1", set(), "Fe"),
        ("", "FE1", {"Fe", "O"}, "Fe"),
        ("", "OSi2", set(), "O"),
        ("", "BII", set(), "B"),
        ("", "Bi1", set(), "Bi"),
        ("", "CO1", {"C", "O", "Ca"}, "C"),
        ("", "Wat", set(), "O"),
        ("", "Ow3", set(), "O"),
        ("", "OH", set(), "O"),
        ("", "Hw1", set(), "H"),
        ("", "NH4", set(), "N"),
        ("D", "D1", set(), "H"),
    ],
)
def test_elements(type_symbol: str, label: str, listed: set[str], expected: str) -> None:
    assert element_of(type_symbol, label, listed, "x") == ATOMIC_NUMBERS[expected]


def test_operations() -> None:
    assert parse_operation("1/2+X,-y, z - .25")[:, 3].tolist() == [0.5, 0, -0.25]
    np.testing.assert_array_equal(parse_operation("x-y,x,-z")[:, :3], [[1, -1, 0], [1, 0, 0], [0, 0, -1]])
    for bad in ("x,y", "x,y,w", "x,x,z", "", "x,y,z+1/", "x;y;z"):
        with pytest.raises(ValueError, match="'"):
            parse_operation(bad)


@pytest.mark.parametrize("change", [{"c": "5.65"}, {"a": "5.63"}, {"gamma": "90.2"}])
def test_cells_that_are_nearly_as_symmetric_as_they_say(change: dict[str, str]) -> None:
    """As measured ones are: they stay as they are."""
    crystal, said = read_single(cif("Na 0 0 0 1\n", "_space_group_IT_number 225\n", **change), "x")
    assert said == 225 and len(crystal.numbers) == 4


def test_how_far_operations_change_a_cell() -> None:
    """By hand: a fourfold axis swaps a² and b², a mirror changes the sign of a·b."""
    fourfold, mirror = (parse_operation(text)[None] for text in ("-y,x,z", "-x,y,z"))
    cell = np.array([[3.0, 0, 0], [0, 4.0, 0], [0, 0, 5.0]])
    assert misfit(mirror, cell) == 0 and misfit(fourfold, cell) == pytest.approx(7 / 9)
    skewed = np.array([[3.0, 0, 0], [4 * np.cos(np.radians(89)), 4 * np.sin(np.radians(89)), 0], [0, 0, 5.0]])
    assert misfit(mirror, skewed) == pytest.approx(2 * np.cos(np.radians(89)))


def test_orbits_have_the_multiplicities_of_the_tables() -> None:
    """Fm-3m, International Tables A: 4a, 8c, 24e, 32f, 48i, 192l."""
    import gemmi

    group = gemmi.find_spacegroup_by_name("F m -3 m").operations()
    operations = np.array([parse_operation(op.triplet()) for op in group])
    sites = [(0, 0, 0), (0.25, 0.25, 0.25), (0.2, 0, 0), (0.1, 0.1, 0.1), (0.5, 0.2, 0.2), (0.1, 0.17, 0.29)]
    counts = [len(expand(operations, np.array(site, float), 5 * np.eye(3))) for site in sites]
    assert counts == [4, 8, 24, 32, 48, 192]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no cif at all", "is no readable CIF"),
        ("data_x\nloop_\n_a\n_b\n1\n", "is no readable CIF"),
        ("data_x\n_cell_length_a 5\n", "holds no atoms"),
        (cif("Na 0 0 0 1\n", ""), "says no symmetry"),
        (cif("Na 0 0 0 1\n", "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,q\n"), "unknown symmetry operation"),
        (
            cif("Na 0 0 0 1\n", "_symmetry_Int_Tables_number 2\nloop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n"),
            "lists only x,y,z but says space group 2",
        ),
        (cif("Na ? 0 0 1\n", "_space_group_IT_number 1\n"), "site 'Na' has a coordinate"),
        (cif("Na 0 0 0 1\n", "_space_group_IT_number 1\n", a="?"), "cell length or angle"),
        (
            cif("Na 0 0 0 1\n", "_symmetry_space_group_name_H-M 'P 63/m m c'\n"),
            r"operations that its cell \(5.64 5.64 5.64 90 90 90\) can't have",
        ),
        (cif("Na 0 0 0 1\n", "_space_group_IT_number 225\n", c="5.68"), "can't have"),
        (cif("Na 0 0 0 1\n", "_space_group_IT_number 47\n", gamma="89.3"), "can't have"),
        (cif("Qq1 0 0 0 1\n", "_space_group_IT_number 1\n"), "unknown element 'Qq1'"),
        (cif("Na 0 0 0 1\n", "_space_group_IT_number 1\n") * 2, "is no readable CIF"),
        (
            cif("Na 0 0 0 1\n", "_space_group_IT_number 1\n")
            + cif("Na 0 0 0 1\n", "_space_group_IT_number 1\n").replace("data_test", "data_more"),
            "holds 2 structures",
        ),
    ],
)
def test_bad_cifs_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_single(text, "there")
    assert caught.value.where == "there"


def test_blocks_without_atoms_are_passed_over() -> None:
    text = "data_global\n_journal_name 'A'\n" + cif("Na 0 0 0 1\n", "_space_group_IT_number 1\n")
    assert [block.name for block in read_blocks(text, "x")] == ["test"]
