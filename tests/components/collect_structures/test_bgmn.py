"""Structure files of BGMN: small ones written here, against the same structures made by pymatgen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from components.collect_structures.bgmn import MOST, evaluated, read_structure, short
from components.collect_structures.crystals import Reading
from imitation_refinement.errors import InputError
from tests.components.collect_structures.test_cif import QUARTZ, RUTILE, SPINEL, assert_same

# Wyckoff positions of International Tables A: the first coordinates and how many there are.
SETTINGS = [
    ({"SpacegroupNo": "2", "HermannMauguin": "C-1", "Lattice": "Triclinic", "Setting": "2"}, {"i": ("x y z", 4)}),
    (
        {
            "SpacegroupNo": "14",
            "HermannMauguin": "P12_1/c1",
            "Lattice": "Monoclinic",
            "Setting": "1",
            "UniqueAxis": "b",
            "CellChoice": "1",
        },
        {"e": ("x y z", 4), "a": ("0 0 0", 2)},
    ),
    # International Tables have it with the screw axis through the origin; of these positions none lies on an axis.
    (
        {"SpacegroupNo": "17", "HermannMauguin": "P222_1", "Lattice": "Orthorhombic", "Setting": "2"},
        {"a": ("0 y 0", 2)},
    ),
    (
        {"SpacegroupNo": "136", "HermannMauguin": "P4_2/m2_1/n2/m", "Lattice": "Tetragonal", "Setting": "1"},
        {"a": ("0 0 0", 2), "f": ("x x 0", 4), "k": ("x y z", 16)},
    ),
    (
        {"SpacegroupNo": "154", "HermannMauguin": "P3_221", "Lattice": "Trigonal", "Setting": "1"},
        {"a": ("x 0 2/3", 3), "c": ("x y z", 6)},
    ),
    (
        {"SpacegroupNo": "167", "HermannMauguin": "R-32/c", "Lattice": "Trigonal", "Setting": "1"},
        {"a": ("0 0 1/4", 6), "b": ("0 0 0", 6), "e": ("x 0 1/4", 18)},
    ),
    (
        {"SpacegroupNo": "167", "HermannMauguin": "R-32/c", "Lattice": "Rhombohedral", "Setting": "2"},
        {"a": ("1/4 1/4 1/4", 2), "b": ("0 0 0", 2), "e": ("x -x+1/2 1/4", 6)},
    ),
    (
        {"SpacegroupNo": "225", "HermannMauguin": "F4/m-32/m", "Lattice": "Cubic", "Setting": "1"},
        {"a": ("0 0 0", 4), "b": ("1/2 1/2 1/2", 4), "c": ("1/4 1/4 1/4", 8)},
    ),
    (
        {
            "SpacegroupNo": "227",
            "HermannMauguin": "F4_1/d-32/m",
            "Lattice": "Cubic",
            "Setting": "1",
            "OriginChoice": "1",
        },
        {"a": ("0 0 0", 8), "d": ("5/8 5/8 5/8", 16), "e": ("x x x", 32)},
    ),
    (
        {
            "SpacegroupNo": "227",
            "HermannMauguin": "F4_1/d-32/m",
            "Lattice": "Cubic",
            "Setting": "2",
            "OriginChoice": "2",
        },
        {"a": ("1/8 1/8 1/8", 8), "d": ("1/2 1/2 1/2", 16), "e": ("x x x", 32)},
    ),
]


def write_settings(path: Path) -> Path:
    """BGMN's settings as autoXRD has them: by a number that says nothing here, with all that is not read left out."""

    def position(first: str, count: int) -> Mapping[str, object]:
        return {"N": str(count), "std_notations": [first]}

    groups = {
        str(number): {"settings": [{"setting": names, "wyckoffs": {k: position(*v) for k, v in positions.items()}}]}
        for number, (names, positions) in enumerate(SETTINGS)
    }
    path.write_text(json.dumps(groups))
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_settings(tmp_path_factory.mktemp("bgmn") / "spg.json")


def read(text: str, table: Path) -> Reading:
    return read_structure(text, table, "a.str")


RUTILE_FILE = """PHASE=Rutile // 21-1276
Formula=Ti_O2 //
SpacegroupNo=136 HermannMauguin=P4_2/m2_1/n2/m //
PARAM=A=0.4594_0.4548^0.4640 PARAM=C=0.2959_0.2929^0.2989 //
RP=4 k1=0 PARAM=k2=0_0^0.0001 B1=ANISO^0.01 GEWICHT=SPHAR6 //
GOAL:rutile=GEWICHT*ifthenelse(ifdef(d),
exp(my*d*3/4),1)
E=TI+4 Wyckoff=a TDS=0.0045
E=O-2 Wyckoff=f x=0.305 TDS=0.0053
"""
QUARTZ_FILE = """SpacegroupNo=154 HermannMauguin=P3_221 Setting=1 //
PARAM=A=0.4913 PARAM=C=0.5405 GAMMA=120 //
E=SI+4 Wyckoff=a x=0.47
E=O-2 Wyckoff=c PARAM=x=0.413_0.4^0.42 y=0.267 z=0.786
"""
CALCITE = Structure.from_spacegroup(
    "R-3c", Lattice.hexagonal(4.99, 17.06), ["Ca", "C", "O"], [[0] * 3, [0, 0, 0.25], [0.257, 0, 0.25]]
)
EDGE, ANGLE = 6.37498, 46.0837  # of calcite's rhombohedron, by the tables' formulas from the hexagonal cell above
SPINEL_CELL = "SpacegroupNo=227 HermannMauguin=F4_1/d-32/m {} PARAM=A=0.808 //\n"


def test_rutile(table: Path) -> None:
    found = read(RUTILE_FILE, table)
    assert_same(found.crystal, RUTILE)
    assert (found.formula, found.space_group, found.remarks) == ("TiO2", 136, ())


def test_quartz(table: Path) -> None:
    assert_same(read(QUARTZ_FILE, table).crystal, QUARTZ)


def test_calcite_on_both_axes(table: Path) -> None:
    atoms = "E=CA+2 Wyckoff=b\nE=C Wyckoff=a\nE=O-2 Wyckoff=e x={}\n"
    hexagonal = "SpacegroupNo=167 //\nPARAM=A=0.499 PARAM=C=1.706 //\n" + atoms.format(0.257)
    assert_same(read(hexagonal, table).crystal, CALCITE)
    # x, 0, 1/4 on hexagonal axes is x + 1/4, 1/4 − x, 1/4 on rhombohedral ones.
    primitive = CALCITE.get_primitive_structure()
    for angle in ("ALPHA", "GAMMA"):
        cell = f"SpacegroupNo=167 HermannMauguin=R-32/c //\nA={EDGE / 10} {angle}={ANGLE} //\n"
        found = read(cell + atoms.format(0.507), table)
        assert found.space_group == 167 and len(found.crystal.numbers) == len(primitive) == 10
        ours = Structure(found.crystal.lattice, found.crystal.numbers, found.crystal.positions)
        np.testing.assert_allclose(ours.lattice.parameters, [EDGE] * 3 + [ANGLE] * 3)
        assert np.sort(ours.distance_matrix.ravel()) == pytest.approx(
            np.sort(primitive.distance_matrix.ravel()), abs=1e-3
        )
        assert found.remarks == ("setting 1 is trigonal and does not say C", "taken as setting 2")


def test_spinel_at_both_origins(table: Path) -> None:
    """By the setting that the file says, or by its coordinates; without either the first origin, as BGMN has it."""
    atoms = "E=MG+2 Wyckoff=a\nE=AL+3 Wyckoff=d\nE=O-2 Wyckoff=e x={}\n"
    moved = SPINEL.copy().translate_sites(range(len(SPINEL)), [-0.125] * 3)  # the first origin is pymatgen's
    second = read(SPINEL_CELL.format("Setting=2") + atoms.format(0.2625), table)
    assert_same(second.crystal, moved)
    for said in ("Setting=1", ""):
        first = read(SPINEL_CELL.format(said) + atoms.format(0.3875), table)
        assert_same(first.crystal, SPINEL)
        assert first.remarks == ()
    in_full = "E=MG Wyckoff=a x=0.125 y=0.125 z=0.125\nE=AL Wyckoff=d\nE=O Wyckoff=e x=0.2625\n"
    found = read(SPINEL_CELL.format("") + in_full, table)
    assert_same(found.crystal, moved)
    assert found.remarks == (
        "setting 1 has MG on the Wyckoff position 'a', which is not at x=0.125 y=0.125 z=0.125",
        "taken as setting 2",
    )


def test_a_centred_triclinic_cell(table: Path) -> None:
    """Albite's, with two of its atoms."""
    sites = {"Na": [0.2683, 0.9886, 0.1459], "Al": [0.0090, 0.1685, 0.2081]}
    lattice = Lattice.from_parameters(8.14, 12.79, 7.16, 94.2, 116.6, 87.7)
    placed = [
        (element, np.array(sign) * position + shift)
        for element, position in sites.items()
        for sign in (1, -1)
        for shift in ([0, 0, 0], [0.5, 0.5, 0])
    ]
    text = "SpacegroupNo=2 HermannMauguin=C-1 //\nA=0.814 B=1.279 C=0.716 ALPHA=94.2 BETA=116.6 GAMMA=87.7 //\n"
    text += "".join(f"E={e.upper()} Wyckoff=i x={x} y={y} z={z}\n" for e, (x, y, z) in sites.items())
    found = read(text, table)
    assert_same(found.crystal, Structure(lattice, [e for e, _ in placed], [p for _, p in placed]))
    assert found.space_group == 2


CUBIC = "SpacegroupNo=225 //\nPARAM=A=0.42_0.41^0.43 //\n"


@pytest.mark.parametrize(
    ("site", "shares"),
    [
        ("E=(MG+2(0.75),FE+3(0.25)) Wyckoff=a", {"Mg": 0.75, "Fe": 0.25}),
        ("E=(MG+2,FE+2(p)) PARAM=p=0.1_0^0.5 Wyckoff=a", {"Mg": 0.9, "Fe": 0.1}),
        ("E=FE+2,MG+2(p) PARAM=p=0.1_0^0.5 Wyckoff=a", {"Fe": 0.9, "Mg": 0.1}),
        ("E=(MG(half*(1-q)),CA(1/5)) q=-(0.1+half) Wyckoff=a", {"Mg": 0.8, "Ca": 0.2}),
        ("E=(MG,FE(p)) p=0 Wyckoff=a", {"Mg": 1.0}),
        ("E=MG(0.6) Wyckoff=a E=D(0.4) Wyckoff=a", {"Mg": 0.6, "H": 0.4}),
    ],
)
def test_what_is_on_a_site(site: str, shares: dict[str, float], table: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), [shares, "O"], [[0] * 3, [0.5] * 3])
    assert_same(read(f"{CUBIC}half==0.5 //\n{site}\nE=O-2 Wyckoff=b\n", table).crystal, salt)


def test_coordinates_in_full_may_be_of_any_image(table: Path) -> None:
    for place in ("x=0.305 y=0.305 z=0", "x=0.195 y=0.805 z=0.5", "x=-0.305 y=0.695 z=1"):
        found = read(RUTILE_FILE.replace("x=0.305", place), table)
        assert_same(found.crystal, RUTILE)


def test_hydrogen_that_is_in_another_atom_is_left_out(table: Path) -> None:
    text = RUTILE_FILE.replace("Formula=Ti_O2 //", "") + "E=H Wyckoff=k x=0.31 y=0.29 z=0.05\n"
    found = read(text, table)
    assert_same(found.crystal, RUTILE)
    assert found.remarks[0].endswith("apart: read without hydrogen")


HOSTILE = "__import__('os').system('touch x')"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("E=TI+4 Wyckoff=a TDS=0.0045\nE=O-2 Wyckoff=f x=0.305 TDS=0.0053\n", "", "lists 0 atoms"),
        ("E=TI+4", "E=TI+4 Wyckoff=a\n" * MOST + "E=TI", r"lists 1,002 atoms, not 1 to 1,000"),
        ("RP=4", "RefMult=2", r"is a model that is no crystal \(RefMult=2\)"),
        ("RP=4", "GEWICHT[1]=0.5", r"is a model that is no crystal \(GEWICHT\[1\]"),
        ("PHASE=Rutile", "PHASE=Rutile,_LeBail", "is a model that is no crystal"),
        ("TDS=0.0053", "// check Wyckoff", "are to be checked"),
        ("TDS=0.0053", "(0.33)", r"has '\(0\.33\)', which is no NAME=value"),
        ("k1=0", "k1=(0", "has brackets that do not match"),
        ("k1=0", "k1=0)", "has brackets that do not match"),
        ("SpacegroupNo=136 HermannMauguin=P4_2/m2_1/n2/m", "", "names no space group"),
        ("P4_2/m2_1/n2/m", "P4/m", "does not have: SpacegroupNo=136 HermannMauguin=P4/m"),
        ("=136 HermannMauguin=P4_2/m2_1/n2/m", "=17 B=0.5", "is in P222_1, setting 2, which 0 settings of the Inter"),
        ("=136 HermannMauguin=P4_2/m2_1/n2/m", "=14", "is monoclinic and does not say B"),
        ("PARAM=C=0.2959_0.2929^0.2989", "", "is tetragonal and does not say C"),
        ("PARAM=C=0.2959_0.2929^0.2989", "C=0.2959 GAMMA=91", "has symmetry operations that its cell"),
        ("Wyckoff=f", "Wyckoff=m", "has O-2 on the Wyckoff position 'm', which is none"),
        ("Wyckoff=f", "", "has O-2 on the Wyckoff position '', which is none"),
        ("x=0.305", "y=0.305", "has O-2 on the Wyckoff position 'f' without x"),
        ("x=0.305", "x=0.305 y=0.3", "'f', which is not at x=0.305 y=0.3"),
        ("x=0.305", "x=0.305 y=0.4 z=0", "'f', which is not at x=0.305 y=0.4 z=0"),
        ("Wyckoff=f x=0.305", "Wyckoff=k x=0.305 y=0.305 z=0", "'k', whose 16 images fall on 4"),
        ("x=0.305", "x=p", "does not say p"),
        ("x=0.305", "x=p p=q q=p", "has the expression 'p', which is no number"),
        ("x=0.305", "x=1/0", "has the expression '1/0', which is no number"),
        ("x=0.305", "x=9**9", "which is no number"),
        ("x=0.305", f"x={HOSTILE}", "which is no number"),
        ("x=0.305", f"x={'-' * 190}1", "has O-2 on the Wyckoff position 'f', whose 4 images fall on 2"),
        ("x=0.305", "x=" + "(" * 9000 + "1" + ")" * 9000, "which is no number"),
        ("E=O-2", "E=(O-2,F-1)", r"has E=\(O-2,F-1\), which does not say what is on the site"),
        ("E=O-2", "E=(O-2(0.5),f-1)", "which does not say what is on the site"),
        ("E=O-2", "E=XX", "has the unknown type symbol 'Xx'"),
        ("x=0.305", "x=0.18", r"has (O and Ti|Ti and O) 1\.1\d+ Å apart"),
        ("Formula=Ti_O2", "Formula=Ti_O", "but its formula is Ti O"),
    ],
)
def test_refusals(old: str, new: str, reason: str, table: Path) -> None:
    assert RUTILE_FILE.count(old) == 1
    with pytest.raises(InputError, match=f"a.str: .*{reason}"):
        read(RUTILE_FILE.replace(old, new), table)


def test_heavy_atoms_alone_are_no_structure(table: Path) -> None:
    with pytest.raises(InputError, match="has no site that is full"):
        read(f"{CUBIC}E=PB(0.833) Wyckoff=a\n", table)


@pytest.mark.parametrize("content", ["", "{}{", "[1]", '{"1": {"settings": [{"setting": {}, "wyckoffs": {}}]}}'])
def test_a_damaged_table(content: str, tmp_path: Path) -> None:
    path = tmp_path / "spg.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"spg\.json: is no table of settings .* Install its package again"):
        read(RUTILE_FILE, path)


@pytest.mark.parametrize(
    ("symbol", "lattice", "expected"),
    [
        ("P2_1/n2_1/m2_1/a", "Orthorhombic", "Pnma"),
        ("P4_2/m2_1/n2/m", "Tetragonal", "P42/mnm"),
        ("P6_3/m2/m2/c", "Hexagonal", "P63/mmc"),
        ("R-32/c", "Trigonal", "R-3c"),
        ("F4_1/d-32/m", "Cubic", "Fd-3m"),
        ("P2_1/a-3", "Cubic", "Pa-3"),
        ("C12/m1", "Monoclinic", "C12/m1"),
        ("P2_12_12_1", "Orthorhombic", "P212121"),
    ],
)
def test_short_symbols(symbol: str, lattice: str, expected: str) -> None:
    assert short(symbol, lattice) == expected


def test_expressions() -> None:
    named = {"p": 0.25, "x": -2.0}.__getitem__
    assert evaluated("0.5*(1-p)/2", named) == 0.1875
    assert evaluated("-x+1/4", named) == 2.25


@given(st.text(max_size=60) | st.text("0123456789.+-*/()pe_,^", max_size=60))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    try:
        assert np.isfinite(evaluated(text, lambda name: 0.5))
    except ValueError as error:
        assert str(error).startswith("has the expression")
