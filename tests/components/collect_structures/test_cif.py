import gemmi
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from scipy.optimize import linear_sum_assignment

from components.collect_structures.cif import expand, misfit, on_symmetry, read_blocks, read_single
from components.collect_structures.crystals import Crystal, check_crystal
from components.collect_structures.settings import operations_of
from components.collect_structures.symmetry import cell_of
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
    found = read_single(str(CifWriter(structure, symprec=0.01 if symmetric else None)), "x")
    check_crystal(found.crystal, "x")
    assert_same(found.crystal, structure)
    assert found.remarks == ()
    assert found.space_group == (structure.get_space_group_info()[1] if symmetric else None)  # P 1 says nothing


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
    found = read_single(cif("Na1 0 0 0 1\nCl1 .5 .5 .5 1.000(3)\n", symmetry), "x")
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    assert_same(found.crystal, salt)
    assert found.space_group == 225


HEXAGONAL = {"a": "3.2", "c": "5.2", "gamma": "120", "symmetry": "_symmetry_space_group_name_H-M 'P 63/m m c'\n"}


def test_rounded_special_positions_do_not_multiply() -> None:
    crystal = read_single(cif("Mg 0.333 0.667 0.25 1\n", **HEXAGONAL), "x").crystal
    magnesium = Structure.from_spacegroup("P6_3/mmc", Lattice.hexagonal(3.2, 5.2), ["Mg"], [[1 / 3, 2 / 3, 0.25]])
    assert_same(crystal, magnesium)
    np.testing.assert_allclose(np.sort(crystal.positions[:, 0]), [1 / 3, 2 / 3], atol=1e-12)


def test_split_sites_near_an_element_stay_apart() -> None:
    text = cif("Cu 0.008 0 0 0.5\n", "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,-z\n")
    assert len(read_single(text, "x").crystal.numbers) == 2  # 0.09 Å apart, half an atom each
    assert len(read_single(text.replace(" 0.5\n", " 1\n"), "x").crystal.numbers) == 1


def test_odd_operations_of_pymatgen() -> None:
    """Translations that are no 24ths, operations listed twice: what pymatgen writes for some cells."""
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'x, y, z'\n'-x+1/74, -y, -z'\n'-x+1/74, -y, -z'\n"
    found = read_single(cif("Na 0.0068 0 0 1\nCl 0.25 0.25 0.25 1\n", operations), "x")
    assert sorted(found.crystal.numbers) == [11, 17, 17]
    assert found.space_group is None


def test_images_that_rounded_translations_keep_apart_are_one() -> None:
    """Two centres of inversion in the cell, their translations rounded apart by 0.003 Å: two sodium atoms, not four."""
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x+.01,-y,-z'\n'x+.5,y,z'\n'-x+.5105,-y,-z'\n"
    found = read_single(cif("Na 0.005 0 0 1\n", operations), "x")
    assert len(found.crystal.numbers) == 2


def test_deuterium_is_hydrogen_and_mixed_sites_stand_twice() -> None:
    crystal = read_single(cif("D1 0 0 0 0.25\nLi1 0 0 0 0.75\n", "_space_group_IT_number 221\n"), "x").crystal
    assert sorted(zip(crystal.numbers.tolist(), crystal.occupancy, strict=True)) == [(1, 0.25), (3, 0.75)]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"c": "5.65"}, True), ({"a": "5.63"}, True), ({"gamma": "90.2"}, True), ({"a": "5.6403"}, False)],
)
def test_cells_off_their_symmetry_are_put_on_it(change: dict[str, str], said: bool) -> None:
    """The lines of a cell that is off would be split where the label says that they are one."""
    found = read_single(cif("Na 0 0 0 1\n", "_space_group_IT_number 225\n", **change), "x")
    assert found.space_group == 225 and len(found.crystal.numbers) == 4
    np.testing.assert_allclose(found.crystal.lattice, np.eye(3) * found.crystal.lattice[0, 0], atol=1e-9)
    assert found.crystal.lattice[0, 0] == pytest.approx(5.64, abs=0.01)
    assert any("off its symmetry" in remark for remark in found.remarks) is said


def test_how_far_operations_change_a_cell() -> None:
    """By hand: a fourfold axis swaps a² and b², a mirror changes the sign of a·b."""
    identity = "x,y,z"
    fourfold = operations_of((identity, "-y,x,z", "-x,-y,z", "y,-x,z"))
    mirror = operations_of((identity, "-x,y,z"))
    cell = np.array([[3.0, 0, 0], [0, 4.0, 0], [0, 0, 5.0]])
    assert misfit(mirror, cell) == 0 and misfit(fourfold, cell) == pytest.approx(7 / 9)
    skewed = np.array([[3.0, 0, 0], [4 * np.cos(np.radians(89)), 4 * np.sin(np.radians(89)), 0], [0, 0, 5.0]])
    assert misfit(mirror, skewed) == pytest.approx(2 * np.cos(np.radians(89)))
    assert cell_of(on_symmetry(mirror, skewed)).parameters == pytest.approx((3, 4, 5, 90, 90, 90))
    assert cell_of(on_symmetry(fourfold, cell)).parameters == pytest.approx((12.5**0.5, 12.5**0.5, 5, 90, 90, 90))


def test_orbits_have_the_multiplicities_of_the_tables() -> None:
    """Fm-3m, International Tables A: 4a, 8c, 24e, 32f, 48i, 192l."""
    group = gemmi.find_spacegroup_by_name("F m -3 m").operations()
    operations = operations_of(tuple(op.triplet() for op in group))
    sites = [(0, 0, 0), (0.25, 0.25, 0.25), (0.2, 0, 0), (0.1, 0.1, 0.1), (0.5, 0.2, 0.2), (0.1, 0.17, 0.29)]
    orbits = expand(operations, np.array(sites, float), 5 * np.eye(3))
    assert orbits.counts.tolist() == [4, 8, 24, 32, 48, 192] == np.bincount(orbits.site).tolist()


def test_orbits_where_operations_are_rounded_or_two_elements_are_near() -> None:
    third = operations_of(("x,y,z", "-y,x-y,z+.3333", "-x+y,-x,z+.6667"))
    hexagonal = 9 * np.array([[1, 0, 0], [-0.5, 3**0.5 / 2, 0], [0, 0, 1]])
    orbits = expand(third, np.array([[0.0, 0, 0], [0.2, 0.1, 0.3]]), hexagonal)
    assert orbits.counts.tolist() == [3, 3]
    axes = operations_of(("x,y,z", "-x,-y,z", "x,-y,-z", "-x,y,-z"))
    # 0.08 Å from its images by the first two axes, 0.11 Å from that by the third: four images of one atom
    near = expand(axes, np.array([[0.008, 0.0, 0.008]]), 5 * np.eye(3))
    assert near.counts.tolist() == [1]


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
        (cif("Qq1 0 0 0 1\n", "_space_group_IT_number 1\n"), "unknown element at site 'Qq1'"),
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


# ---------------------------------------------------------------------------------------------------------------
# what a file says twice

IRON_SELENIDE = "Fe1 .75 .25 0 1\nSe1 .25 .25 .2669 1\n"  # origin choice 2 of P 4/n m m
SILICON = "Si1 .125 .125 .125 1\n"  # origin choice 2 of F d -3 m
SELENIDE_CELL = {"a": "3.7724", "c": "5.5217"}
SILICON_CELL = {"a": "5.4309", "c": "5.4309"}


def symmetry(symbol: str, *more: str) -> str:
    return f"_symmetry_space_group_name_H-M '{symbol}'\n" + "".join(line + "\n" for line in more)


def atoms(crystal: Crystal) -> dict[int, float]:
    amounts = np.bincount(crystal.numbers, weights=crystal.occupancy)
    return {int(z): round(float(amounts[z]), 3) for z in np.flatnonzero(amounts)}


@pytest.mark.parametrize("suffix", [":2", " :2", " Z", "Z", ":Z", " (2)", " O2", " origin choice 2"])
def test_origin_by_suffix(suffix: str) -> None:
    """Silicon has eight atoms in the cell, at origin choice 2 on 8a; at choice 1 the same place is 16c."""
    found = read_single(cif(SILICON, symmetry(f"F d -3 m{suffix}"), **SILICON_CELL), "x")
    assert atoms(found.crystal) == {14: 8} and found.remarks == ()
    other = suffix.replace("2", "1").replace("Z", "S")
    assert atoms(read_single(cif(SILICON, symmetry(f"F d -3 m{other}"), **SILICON_CELL), "x").crystal) == {14: 16}


@pytest.mark.parametrize(
    ("sites", "cell", "said"),
    [
        (IRON_SELENIDE, SELENIDE_CELL, symmetry("P 4/n m m", "_chemical_formula_sum 'Fe Se'")),
        (IRON_SELENIDE, SELENIDE_CELL, "_space_group_IT_number 129\n_chemical_formula_sum 'Fe Se'\n"),
        (SILICON, SILICON_CELL, symmetry("F d -3 m", "_chemical_formula_sum Si", "_cell_formula_units_Z 8")),
        (SILICON, SILICON_CELL, symmetry("F d -3 m", "_exptl_crystal_density_diffrn 2.33")),
        (SILICON, SILICON_CELL, symmetry("F d 3 m", "_exptl_crystal_density_meas 2.3")),
    ],
)
def test_origin_that_the_content_bears_out(sites: str, cell: dict[str, str], said: str) -> None:
    found = read_single(cif(sites, said, **cell), "x")
    assert atoms(found.crystal) in ({26: 2, 34: 2}, {14: 8})
    assert any("origin choice 2" in remark for remark in found.remarks)


def test_an_origin_that_nothing_tells_is_refused() -> None:
    with pytest.raises(InputError, match="F d -3 m, origin choice 1 or F d -3 m, origin choice 2"):
        read_single(cif(SILICON, symmetry("F d -3 m", "_chemical_formula_sum Si"), **SILICON_CELL), "x")


def test_axes_of_rhombohedral_groups_are_told_by_the_cell() -> None:
    """Calcite's group on both axes: Al2O3 with 12 aluminium atoms in the hexagonal cell, 4 in the rhombohedral one."""
    hexagonal = cif("Al 0 0 .352 1\nO .306 0 .25 1\n", symmetry("R -3 c"), "4.76", "12.99", "120")
    assert atoms(read_single(hexagonal, "x").crystal) == {8: 18, 13: 12}
    angles = "_cell_angle_alpha 55.28\n_cell_angle_beta 55.28\n_cell_angle_gamma 55.28\n"
    text = cif("Al .352 .352 .352 1\nO .556 -.056 .25 1\n", symmetry("R -3 c"), "5.13", "5.13")
    text = text.replace("_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n", angles)
    found = read_single(text, "x")
    assert atoms(found.crystal) == {8: 6, 13: 4} and found.space_group == 167


def test_another_compound_than_the_formula_is_refused() -> None:
    said = symmetry("F m -3 m", "_chemical_formula_sum 'Na2 Cl'")
    with pytest.raises(InputError, match="holds Na4 Cl4 in the cell, but its formula is Na2 Cl; read with F m -3 m"):
        read_single(cif("Na 0 0 0 1\nCl .5 .5 .5 1\n", said), "x")


def test_operations_that_lack_a_centring() -> None:
    """The symbol has it, and the density bears it out: 2.16 g/cm³ by four formula units of 58.44 u in 179.4 Å³."""
    group = gemmi.find_spacegroup_by_name("P m -3 m").operations()
    loop = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'{op.triplet()}'\n" for op in group)
    said = symmetry("F m -3 m", "_chemical_formula_sum 'Na Cl'", "_exptl_crystal_density_diffrn 2.163")
    found = read_single(cif("Na 0 0 0 1\nCl .5 .5 .5 1\n", said + loop), "x")
    assert atoms(found.crystal) == {11: 4, 17: 4} and found.space_group == 225
    assert any("taken as F m -3 m" in remark for remark in found.remarks)


def test_operations_against_the_symbol() -> None:
    """La2NiO4 by the operations of an orthorhombic subgroup: the atoms are tetragonal, as the symbol (spglib: 139)."""
    group = gemmi.find_spacegroup_by_name("F m m m").operations()
    loop = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'{op.triplet()}'\n" for op in group)
    sites = "La 0 0 .361 1\nNi 0 0 0 1\nO1 .25 .25 0 1\nO2 0 0 .174 1\n"
    found = read_single(cif(sites, symmetry("F 4/m m m") + loop, "5.47", "12.66"), "x")
    assert found.space_group == 139
    assert any("is space group 139, the listed operations are 69" in remark for remark in found.remarks)
    lower = read_single(
        cif(sites.replace("O2 0 0 .174 1", "O2 .02 0 .174 .5"), symmetry("F m m m") + loop, "5.47", "12.66"), "x"
    )
    assert lower.space_group == 69 and lower.remarks == ()


def test_atoms_of_a_higher_system_than_the_label() -> None:
    """Perovskite in Pmmm with three equal edges is cubic."""
    sites = "Ca 0 0 0 1\nTi .5 .5 .5 1\nO1 .5 .5 0 1\nO2 .5 0 .5 1\nO3 0 .5 .5 1\n"
    found = read_single(cif(sites, symmetry("P m m m"), "3.9", "3.9"), "x")
    assert found.space_group == 221 and "atoms have space group 221" in found.remarks[0]
    longer = read_single(cif(sites, symmetry("P m m m"), "3.9", "3.95"), "x")
    assert longer.space_group == 123
    moved = cif(sites.replace("Ti .5 .5 .5", "Ti .5 .5 .52"), symmetry("P m m 2"), "3.9", "3.9")
    assert read_single(moved, "x").space_group == 99


def test_a_finer_lattice_has_a_higher_system() -> None:
    """A doubled cubic cell, labelled tetragonal."""
    sites = "Cs1 0 0 0 1\nCs2 0 0 .5 1\nCl1 .5 .5 .25 1\n"
    assert read_single(cif(sites, symmetry("P 4/m m m"), "4.12", "8.24"), "x").space_group == 221


GEHLENITE = (
    "Ca .338 .162 .511 1\nAl1 0 0 0 1\nAl2 .1434 .3556 .954 {0}\nSi2 .1434 .3556 .954 {0}\n"
    "O1 .5 0 .177 1\nO2 .143 .357 .284 1\nO3 .088 .168 .808 1\n"
)


def test_a_site_halved_by_a_mirror_next_to_it() -> None:
    """Ca2Al2SiO7, two formula units; the T2 site on the mirror x + y = 1/2 as two images 0.008 Å apart."""
    said = symmetry("P -4 21 m", "_chemical_formula_sum 'Al2 Ca2 O7 Si'", "_cell_formula_units_Z 2")
    found = read_single(cif(GEHLENITE.format(".25"), said, "7.69", "5.07"), "x")
    assert atoms(found.crystal) == {8: 14, 13: 4, 14: 2, 20: 4}
    assert any("Al2, Si2" in remark for remark in found.remarks)
    whole = read_single(cif(GEHLENITE.format(".5"), said, "7.69", "5.07"), "x")
    assert atoms(whole.crystal) == atoms(found.crystal) and whole.remarks == ()


def test_a_formula_that_counts_images_of_one_atom() -> None:
    """An oxygen 0.02 Å off a mirror twice in the formula: TiO2 stays TiO2."""
    said = symmetry("P 42/m n m", "_chemical_formula_sum 'Ti O4'")
    found = read_single(cif("Ti 0 0 0 1\nO .303 .307 0 1\n", said, "4.594", "2.959"), "x")
    assert atoms(found.crystal) == {8: 4, 22: 2}
    assert any("counts O once for each of several images" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("sites", "hydrogen", "formula"),
    [
        ("Mn 0 0 0 1\nO-H .333333 .666667 .22 1\n", 2, "Mn(HO)2"),
        ("Mn 0 0 0 1\nOH1 .333333 .666667 .22 1\n", 2, "Mn(HO)2"),
        ("Mn 0 0 0 1\nO .333333 .666667 .22 1\nH .333333 .666667 .42 1\n", 0, "Mn(HO)2"),
    ],
)
@pytest.mark.parametrize("said", ["_chemical_formula_sum 'H2 Mn O2'", ""])
def test_hydrogen_without_position_is_in_the_formula(sites: str, hydrogen: float, formula: str, said: str) -> None:
    found = read_single(cif(sites, symmetry("P -3 m 1", said), "3.32", "4.73", "120"), "x")
    assert found.hydrogen == pytest.approx(hydrogen) and found.formula == formula
    assert any("no position" in remark for remark in found.remarks) is bool(hydrogen)


def test_water_by_label() -> None:
    said = symmetry("P b m n", "_chemical_formula_sum 'Cl2 Cu H4 O2'")
    text = cif("Cu 0 0 0 1\nCl .24 0 .38 1\nWat 0 .24 0 1\n", said, "7.41", "3.75")
    assert read_single(text.replace("_cell_length_b 7.41", "_cell_length_b 8.09"), "x").formula == "CuH4(ClO)2"


@pytest.mark.parametrize(
    ("site", "what"),
    [
        ("Fe1 .25 .25 .25 0.000", "site Fe1 of occupancy 0.000 is left out"),
        ("Fe1 .25 .25 .25 -0.002(4)", "site Fe1 of occupancy -0.002"),
        ("Vac1 .25 .25 .25 0.5", "vacancy Vac1 is left out"),
        ("H1 ? ? ? 1", "hydrogen H1 has no position"),
    ],
)
def test_what_is_no_atom_is_left_out(site: str, what: str) -> None:
    """Not the structure: MgO stays."""
    found = read_single(cif(f"Mg 0 0 0 1\nO .5 .5 .5 1\n{site}\n", symmetry("F m -3 m"), "4.2112", "4.2112"), "x")
    assert atoms(found.crystal) == {8: 4, 12: 4}
    assert any(remark.startswith(what) for remark in found.remarks)


def test_dummy_sites_are_left_out() -> None:
    text = cif("Mg 0 0 0 1 d\nO .5 .5 .5 1 d\nO9 .25 .25 .25 1 dum\n", symmetry("F m -3 m"), "4.2112", "4.2112")
    found = read_single(text.replace("_atom_site_occupancy\n", "_atom_site_occupancy\n_atom_site_calc_flag\n"), "x")
    assert atoms(found.crystal) == {8: 4, 12: 4} and found.remarks == ("dummy site O9 is left out",)


def typed(sites: str, said: str) -> str:
    text = cif(sites, said, "8.0", "8.0")
    return text.replace("_atom_site_label\n", "_atom_site_label\n_atom_site_type_symbol\n")


def test_mixed_types_of_the_pauling_file() -> None:
    sites = "Al,Cutet '0.615(5)Cu + 0.385(5)Al' .125 .125 .125 1\nCu,Aloct '0.807Al + 0.193Cu' .5 .5 .5 1\n"
    sites += "O O .2625 .2625 .2625 1\n"
    found = read_single(typed(sites, symmetry("F d -3 m :2")), "x")
    assert atoms(found.crystal) == {8: 32, 13: 15.992, 29: 8.008}


def test_shares_that_are_not_said() -> None:
    """By the formula where it has the elements nowhere else, else refused."""
    sites = "M1 'Mg/Fe' 0 0 0 1\nO1 O .5 .5 .5 1\n"
    with pytest.raises(InputError, match=r"how much of what is on site 'M1' \(Mg Fe\)"):
        read_single(typed(sites, symmetry("F m -3 m")), "x")
    found = read_single(typed(sites, symmetry("F m -3 m", "_chemical_formula_sum 'Mg0.75 Fe0.25 O'")), "x")
    assert atoms(found.crystal) == {8: 4, 12: 3, 26: 1}
    assert found.remarks == ("site M1 holds 0.75 Mg 0.25 Fe, by the formula",)


def test_an_unknown_type_symbol_is_not_guessed_from_the_label() -> None:
    with pytest.raises(InputError, match="unknown type symbol 'Xx' at site 'Na1'"):
        read_single(typed("Na1 Xx 0 0 0 1\n", symmetry("F m -3 m")), "x")


def test_names_of_cif_2() -> None:
    text = cif("Na1 0 0 0 1\nCl1 .5 .5 .5 1\n", "_space_group_IT_number 225\n_chemical_formula_sum 'Na Cl'\n")
    for old in ("_cell_", "_atom_site_", "_space_group_", "_chemical_formula_"):
        text = text.replace(old, old[:-1] + ".")
    assert atoms(read_single("#\\#CIF_2.0\n" + text, "x").crystal) == {11: 4, 17: 4}


def test_hydrogen_in_the_place_of_its_nitrogen() -> None:
    """As old structures of ammonium have it: NH4Cl, one formula unit."""
    said = symmetry("P m -3 m", "_chemical_formula_sum 'N H4 Cl'")
    sites = "N 0 0 0 1\nH1 0 0 0 1\nH2 0 0 0 1\nH3 0 0 0 1\nH4 0 0 0 1\nCl .5 .5 .5 1\n"
    found = read_single(cif(sites, said, "3.87", "3.87"), "x")
    assert atoms(found.crystal) == {1: 4, 7: 1, 17: 1} and found.formula == "H4NCl"
    assert found.remarks == ("hydrogen stands in the place of N",)


def test_an_atom_that_is_listed_twice_counts_once() -> None:
    found = read_single(cif("Cs 0 0 0 1\nCl1 .5 .5 .5 1\nCl2 -.5 .5 .5 1\n", symmetry("P m -3 m"), "4.1", "4.1"), "x")
    assert atoms(found.crystal) == {17: 1, 55: 1} and found.remarks == ("Cl2 is Cl1 once more and counts once",)


def test_sites_that_overshoot_a_little_are_scaled() -> None:
    found = read_single(cif("Pt 0 0 0 .6\nPd 0 0 0 .5\n", symmetry("F m -3 m"), "3.99", "3.99"), "x")
    assert atoms(found.crystal) == {46: round(4 * 5 / 11, 3), 78: round(4 * 6 / 11, 3)}
    assert "holds 1.1 atoms" in found.remarks[0]
    with pytest.raises(InputError, match=r"with 1.3 atoms \(Pt and Pd\)"):
        read_single(cif("Pt 0 0 0 .8\nPd 0 0 0 .5\n", symmetry("F m -3 m"), "3.99", "3.99"), "x")


def test_commas_in_the_cell() -> None:
    found = read_single(cif("Na 0 0 0 1\n", symmetry("F m -3 m"), "5,64", "5.64,"), "x")
    assert cell_of(found.crystal.lattice).parameters == pytest.approx((5.64, 5.64, 5.64, 90, 90, 90))
    assert len(found.remarks) == 3
