import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from components.collect_structures import structures
from components.collect_structures.imperfect import read_imperfect
from components.collect_structures.stage import STAGE
from components.collect_structures.structures import read_structures
from imitation_refinement.data.contracts import PATTERNS, STRUCTURES, read_table
from imitation_refinement.errors import InputError

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]]
)
ANGLES = np.linspace(10, 80, 100)
COUNTS = np.arange(100.0) + 5


def cif(structure: Structure, symprec: float | None = 0.01) -> str:
    return str(CifWriter(structure, symprec=symprec))


def write(path: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def patterns_table(path: Path, **columns: list) -> Path:
    n = len(next(iter(columns.values())))
    base = {"pattern_id": [f"p{i}" for i in range(n)], "two_theta": [ANGLES] * n, "intensity": [COUNTS] * n}
    return write(path, **(base | {"wavelength": [1.5406] * n} | columns))


# ---------------------------------------------------------------------------------------------------------------
# structures


def test_structure_json_table(tmp_path: Path) -> None:
    good = json.dumps(SALT.as_dict())
    path = write(
        tmp_path / "t.parquet",
        material_id=["a", "b", "c", "d", "e", "f", "a", "h"],
        structure_json=[good, good, "{}", "no json", None, good, good, json.dumps(RUTILE.as_dict())],
        space_group=[225, 225, 1, 1, 1, 999, 225, None],
        crystal_system=["cubic", "hexagonal", None, None, None, None, "cubic", "Tetragonal "],
    )
    rejected: list[InputError] = []
    found = read_structures(path, rejected)
    assert [(m.material_id, m.formula, m.space_group, m.crystal_system) for m in found] == [
        ("a", "NaCl", 225, "cubic"),
        ("h", "TiO2", 136, "tetragonal"),
    ]
    text = [str(e) for e in rejected]
    assert len(text) == 6
    for reason, expected in zip(
        text,
        (
            "row 2 (b): crystal_system is hexagonal, but space_group 225 is cubic",
            "row 3 (c): structure_json is no pymatgen structure (KeyError",
            "row 4 (d): structure_json is no pymatgen structure",
            "row 5 (e): has no structure",
            "row 6 (f): space_group 999 is no number from 1 to 230",
            "this material_id stands twice",
        ),
        strict=True,
    ):
        assert expected in reason


def test_cif_table_takes_what_the_columns_say_first(tmp_path: Path) -> None:
    path = write(
        tmp_path / "minerals.parquet",
        amcsd_id=[7, 8, 9],
        cif=[cif(SALT), cif(SALT, None), "nonsense"],
        space_group=[221, None, 1],
    )
    rejected: list[InputError] = []
    found = read_structures(path, rejected)
    assert [(m.material_id, m.space_group) for m in found] == [("minerals-7", 221), ("minerals-8", 225)]
    assert [e.where for e in rejected] == [f"{path}, row 3 (minerals-9)"]


def test_a_system_that_the_structure_has_not_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", cif=[cif(SALT), cif(SALT)], crystal_system=["cubic", "trigonal"])
    rejected: list[InputError] = []
    assert len(read_structures(path, rejected)) == 1
    assert "crystal_system is trigonal, but space_group 225 is cubic" in str(rejected[0])


def test_contract_table_is_read_again(tmp_path: Path) -> None:
    out = {name: tmp_path / name for name in ("collected_structures", "collected_patterns", "rejected")}
    STAGE.execute(out, {"n_structures": 14, "n_patterns": 7})
    rejected: list[InputError] = []
    path = (tmp_path / "collected_structures").rename(tmp_path / "again.parquet")
    found = read_structures(path, rejected)
    assert not rejected
    assert pa.table(pq.read_table(path))["material_id"].to_pylist() == [m.material_id for m in found]
    table = pq.read_table(path)
    longer = table.set_column(5, "atomic_number", [[[11]] * table.num_rows])
    pq.write_table(longer, path)
    assert all(len(m.crystal.numbers) == 1 for m in read_structures(path, rejected))
    assert {e.problem for e in rejected} == {"the structure's columns are of different lengths."}


def test_folder_of_tables(tmp_path: Path) -> None:
    salt, rutile = (json.dumps(s.as_dict()) for s in (SALT, RUTILE))
    write(tmp_path / "1.parquet", material_id=["a"], structure_json=[salt])
    write(tmp_path / "2.parquet", material_id=["b", "a"], structure_json=[rutile, rutile])
    (tmp_path / "README.md").write_text("what these are")
    rejected: list[InputError] = []
    found = read_structures(tmp_path, rejected)
    assert [(m.material_id, m.formula) for m in found] == [("a", "NaCl"), ("b", "TiO2")]
    assert len(rejected) == 1 and "stands twice" in str(rejected[0])


def test_folder_of_cifs(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "salt.cif").write_text(cif(SALT))
    (tmp_path / "sub" / "rutile.CIF").write_bytes(b"# M\xfcller\n" + cif(RUTILE).encode())
    (tmp_path / "sub" / "two.cif").write_text(cif(SALT) + cif(RUTILE))
    (tmp_path / "bad.cif").write_text("bad")
    (tmp_path / "notes.txt").write_text("")
    rejected: list[InputError] = []
    found = read_structures(tmp_path, rejected)
    assert [m.material_id for m in found] == ["salt", "sub/rutile", "sub/two:NaCl", "sub/two:TiO2"]
    assert [e.where for e in rejected] == [str(tmp_path / "bad.cif")]
    assert read_structures(tmp_path / "salt.cif", rejected)[0].space_group == 225


@pytest.mark.parametrize("read", [read_structures, read_imperfect])
def test_unusable_sources(tmp_path: Path, read) -> None:
    rejected: list[InputError] = []
    empty = tmp_path / "empty"
    empty.mkdir()
    wrong = write(tmp_path / "wrong.parquet", a=[1])
    for path, message in [
        (empty, "is a folder without"),
        (tmp_path / "nowhere", "no such file"),
        (wrong, "has no column"),
        (write(tmp_path / "none.parquet", cif=[], pattern_id=[], two_theta=[], intensity=[]), "has no rows"),
    ]:
        with pytest.raises(InputError, match=message):
            read(path, rejected)
    (tmp_path / "x.docx").write_text("")
    with pytest.raises(InputError, match="unknown suffix"):
        read(tmp_path / "x.docx", rejected)


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no usable structure; the first of 2 reasons: .*no readable CIF"):
        read_structures(write(tmp_path / "t.parquet", cif=["x", "y"]), [])
    with pytest.raises(InputError, match=r"holds no usable pattern; the first of 1 reasons: .*wavelength"):
        read_imperfect(patterns_table(tmp_path / "p.parquet", wavelength=[None]), [])


# ---------------------------------------------------------------------------------------------------------------
# imperfect patterns


def test_patterns_bring_a_structure_a_label_or_neither(tmp_path: Path) -> None:
    path = patterns_table(
        tmp_path / "p.parquet",
        cif=[cif(SALT), None, None, cif(SALT), cif(SALT), "bad", None, None],
        formula=[None, "Na2Cl2", "?", None, "(Na,K)Cl", None, None, "(Na,K)Cl"],
        space_group=[None, 62.0, None, None, 225, None, 225, 225],
        crystal_system=[None, None, None, "monoclinic", "cubic", None, "hexagonal", None],
    )
    rejected: list[InputError] = []
    rows = read_imperfect(path, rejected)
    assert [(r["pattern_id"], r["formula"], r["space_group"], r["crystal_system"], "lattice" in r) for r in rows] == [
        ("p0", "NaCl", 225, "cubic", True),
        ("p1", "NaCl", 62, "orthorhombic", False),
        ("p2", None, None, None, False),
        ("p3", "NaCl", None, "monoclinic", True),  # what the label says stays
        ("p4", "NaCl", 225, "cubic", True),  # what the structure holds, not what can't be understood
    ]
    assert all(r["origin"] == "file" and r["wavelength"] == 1.5406 for r in rows)
    assert [where in error.where for where, error in zip(("6 (p5)", "7 (p6)", "8 (p7)"), rejected, strict=True)]
    assert (
        rejected[2].problem == "formula '(Na,K)Cl' is not understood: the shares of Na and K on one site are not said."
    )


def test_folder_with_manifest(tmp_path: Path) -> None:
    lines = "\n".join(f"{x:.3f} {y}" for x, y in zip(ANGLES, COUNTS, strict=True))
    for name in "abcd":
        (tmp_path / f"{name}.xy").write_text(lines)
    (tmp_path / "a.cif").write_text(cif(SALT))
    (tmp_path / "manifest.csv").write_text(
        "pattern,structure,wavelength_angstrom,formula,space_group,crystal_system\n"
        "a.xy,a.cif,1.5406,NaCl,225,cubic\n"
        "b.xy,,1.5406,TiO2,,tetragonal\n"
        "c.xy,missing.cif,1.5406,,,\n"
        "d.xy,,,,,\n"
        "a.xy,a.cif,1.5406,NaCl,225,cubic\n"
    )
    rejected: list[InputError] = []
    rows = read_imperfect(tmp_path, rejected)
    assert [(r["pattern_id"], r["formula"], r["crystal_system"]) for r in rows] == [
        ("a", "NaCl", "cubic"),
        ("b", "TiO2", "tetragonal"),
    ]
    np.testing.assert_allclose(rows[0]["two_theta"], ANGLES, atol=1e-3)
    assert [e.problem.split(".")[0] for e in rejected] == [
        "can't be read (No such file or directory)",
        "does not say its wavelength",
        "this pattern_id stands twice",
    ]


# ---------------------------------------------------------------------------------------------------------------
# the stage


def outputs(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in ("collected_structures", "collected_patterns", "rejected")}


def test_stage_on_files(tmp_path: Path) -> None:
    structures = write(tmp_path / "s.parquet", cif=[cif(SALT), cif(RUTILE), "bad"])
    imperfect = patterns_table(tmp_path / "p.parquet", cif=[cif(SALT), None], crystal_system=[None, None])
    STAGE.execute(outputs(tmp_path) | {"structures": structures, "imperfect": imperfect}, {})
    library = read_table(tmp_path / "collected_structures", STRUCTURES).to_pylist()
    patterns = read_table(tmp_path / "collected_patterns", PATTERNS).to_pylist()
    assert [row["formula"] for row in library] == ["NaCl", "TiO2"]
    np.testing.assert_allclose(np.reshape(library[0]["lattice"], (3, 3)), 5.64 * np.eye(3), atol=1e-9)
    assert [row["crystal_system"] for row in patterns] == ["cubic", None]
    assert patterns[1]["lattice"] is None
    assert len(patterns[0]["position"]) == 3 * len(patterns[0]["atomic_number"]) == 24
    assert (tmp_path / "rejected").read_text().count("is no readable CIF") == 1


def test_stage_on_built_in_data_makes_specimens_to_be_measured(tmp_path: Path) -> None:
    STAGE.execute(outputs(tmp_path), {"n_structures": 14, "n_patterns": 7})
    patterns = read_table(tmp_path / "collected_patterns", PATTERNS).to_pylist()
    library = read_table(tmp_path / "collected_structures", STRUCTURES).to_pylist()
    assert [row["crystal_system"] for row in library] == sorted(
        (row["crystal_system"] for row in library), key=[row["crystal_system"] for row in patterns].index
    )
    assert {row["origin"] for row in patterns} == {"virtual"}
    assert all(row["two_theta"] is None and row["wavelength"] is None and row["lattice"] for row in patterns)
    assert (tmp_path / "rejected").read_text() == "item,reason,remedy\n"


def test_command_line_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"--{name.replace('_', '-')}={path}" for name, path in outputs(tmp_path).items()]
    with pytest.raises(SystemExit) as caught:
        STAGE.main([*arguments, f"--structures={tmp_path}"])
    assert caught.value.code == 2
    assert "is a folder without CIFs" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_patterns_to_be_tested_on_alone_are_marked(tmp_path: Path) -> None:
    given = {
        "structures": write(tmp_path / "s.parquet", material_id=["a"], cif=[cif(SALT)]),
        "imperfect": patterns_table(tmp_path / "p.parquet", cif=[cif(SALT)]),
        "test": patterns_table(tmp_path / "t.parquet", pattern_id=["t0"], cif=[cif(RUTILE)]),
    }
    paths = outputs(tmp_path) | given
    STAGE.execute(paths, {})
    rows = read_table(paths["collected_patterns"], PATTERNS).select(["pattern_id", "part"]).to_pylist()
    assert rows == [{"pattern_id": "p0", "part": None}, {"pattern_id": "t0", "part": "test"}]
    with pytest.raises(InputError, match="1 pattern_ids are also among those to train on, as p0"):
        STAGE.execute(paths | {"test": given["imperfect"]}, {})
    with pytest.raises(InputError, match="no imperfect patterns to train on"):
        STAGE.execute({name: path for name, path in paths.items() if name != "imperfect"}, {})


def test_materials_that_are_kept_out_have_a_row_each(tmp_path: Path) -> None:
    """Whatever their patterns are called, and with a structure of theirs; those of no known formula are listed."""
    given = {
        "structures": write(tmp_path / "s.parquet", material_id=["a"], cif=[cif(SALT)]),
        "imperfect": patterns_table(tmp_path / "p.parquet", cif=[cif(SALT)]),
        "keep_out": patterns_table(
            tmp_path / "k.parquet", pattern_id=["p0", "p1", "p2"], cif=[cif(RUTILE), cif(RUTILE), None]
        ),
    }
    paths = outputs(tmp_path) | given
    STAGE.execute(paths, {})
    table = read_table(paths["collected_patterns"], PATTERNS)
    rows = table.select(["pattern_id", "formula", "part"]).to_pylist()
    assert rows == [
        {"pattern_id": "p0", "formula": "NaCl", "part": None},
        {"pattern_id": "kept out: TiO2", "formula": "TiO2", "part": "kept_out"},
    ]
    assert table["lattice"].is_valid().to_pylist() == [True, True]
    assert 'pattern p2,"has no formula' in paths["rejected"].read_text()


def test_labels_that_the_atoms_do_not_have(tmp_path: Path) -> None:
    """Salt labelled orthorhombic is cubic; rutile labelled cubic keeps its label; both are said (spglib: 225, 136)."""
    salt, rutile = (json.dumps(s.as_dict()) for s in (SALT, RUTILE))
    path = write(
        tmp_path / "t.parquet",
        material_id=["a", "b", "c", "d"],
        structure_json=[salt, salt, rutile, rutile],
        space_group=[225, 62, 221, 127],
    )
    found = read_structures(path, [])
    assert [m.space_group for m in found] == [225, 225, 221, 127]
    assert [m.remark is not None for m in found] == [False, True, True, False]
    assert "said to be 221, but its atoms have space group 136" in (found[2].remark or "")


def test_many_are_read_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, refusals among them."""
    monkeypatch.setattr(structures, "IN_ONE", 2)
    texts = [cif(SALT), "nonsense", cif(RUTILE), cif(SALT)]
    path = write(tmp_path / "t.parquet", material_id=list("abcd"), cif=texts)
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.cif").write_text(text)
    rejected: list[InputError] = []
    assert [m.formula for m in read_structures(path, rejected, 2)] == ["NaCl", "TiO2", "NaCl"]
    path.unlink()
    assert [m.material_id for m in read_structures(tmp_path, rejected, 2)] == ["0", "2", "3"]
    assert [e.where for e in rejected] == [f"{path}, row 2 (b)", str(tmp_path / "1.cif")]
