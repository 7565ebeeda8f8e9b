"""Structures that packages carry: small packages of the same form, made here."""

from __future__ import annotations

import json
import sqlite3
import sys
from base64 import b64encode
from configparser import ConfigParser
from contextlib import closing
from pathlib import Path

import gemmi
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from components.collect_structures.config import BGMN, MINERALS, NAMED_SOURCES, SAMPLES
from components.collect_structures.packaged import PACKAGES, find, mineral_cifs, read_packaged
from components.collect_structures.stage import STAGE, materials_of
from components.collect_structures.structures import gather
from imitation_refinement.data.contracts import STRUCTURES, read_table
from imitation_refinement.errors import InputError
from tests.components.collect_structures.test_bgmn import CUBIC, RUTILE_FILE, write_settings

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]]
)
CIF_TABLE = """
    CREATE TABLE cif (id integer primary key, mineral_id integer, spacegroup_id integer, formula text, a text, b text,
    c text, alpha text, beta text, gamma text, crystal_density text, atoms_sites text, atoms_x text, atoms_y text,
    atoms_z text, atoms_occupancy text, amcsd_url text)
"""
GROUP_TABLE = "CREATE TABLE spacegroups (id integer primary key, hm_notation text, symmetry_xyz text, category text)"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, version: str = "") -> list[Path]:
    """Puts the package of a source, without its files, where packages are found; gives the files' places."""
    package = PACKAGES[source]
    version = version or package.version
    metadata = folder / f"{package.name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(folder))
    files = [folder / file for file in package.files]
    files[0].parent.mkdir(parents=True)
    return files


def packed(values: list[float]) -> str:
    """Numbers as xraylarch keeps them: base64 of 32-bit integers, four millionths each."""
    return b64encode(np.round(4e6 * np.array(values)).astype("<i4").tobytes()).decode()


def operations(symbol: str) -> str:
    return json.dumps([operation.triplet() for operation in gemmi.SpaceGroup(symbol).operations()])


def write_minerals(path: Path) -> None:
    """Halite, rutile (in a variant of its symbol, with a hydrogen of no place), and a damaged halite."""
    salt = ("Na Cl", 5.64, 5.64, 5.64, 90, 90, 90, 2.163, '["Na", "Cl"]', *[packed([0, 0.5])] * 3, "0")
    rutile = ("Ti O2", 4.594, 4.594, 2.959, 90, 90, 90, 4.25, '["Ti", "O", "H"]')
    sites = (packed([0, 0.305, 2]), packed([0, 0.305, 2]), packed([0, 0, 2]), packed([1, 1, 3]))
    columns = "spacegroup_id, formula, a, b, c, alpha, beta, gamma, crystal_density, atoms_sites, "
    columns += "atoms_x, atoms_y, atoms_z, atoms_occupancy"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(CIF_TABLE)
        database.execute(GROUP_TABLE)
        groups = [(1, "F m -3 m", operations("F m -3 m")), (2, "P 42/m n m%var1", operations("P 42/m n m"))]
        database.executemany("INSERT INTO spacegroups (id, hm_notation, symmetry_xyz) VALUES (?, ?, ?)", groups)
        rows = [(3, 1, *salt), (12345, 2, *rutile, *sites), (40, 1, *salt[:-4], "?", *salt[-3:])]
        database.executemany(f"INSERT INTO cif (id, {columns}) VALUES (?{', ?' * 14})", rows)


@pytest.fixture
def minerals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed database of minerals."""
    (file,) = install(tmp_path / "site", monkeypatch, MINERALS)
    write_minerals(file)
    return file


def test_minerals(minerals: Path) -> None:
    rejected: list[InputError] = []
    salt, rutile = gather(read_packaged(MINERALS), MINERALS, rejected)
    assert [(m.material_id, m.space_group, m.source) for m in (salt, rutile)] == [
        ("amcsd-00003", 225, "AMCSD (xraylarch 0.9.66) 00003"),
        ("amcsd-12345", 136, "AMCSD (xraylarch 0.9.66) 12345"),
    ]
    for material, wanted in ((salt, SALT), (rutile, RUTILE)):
        assert material.formula == wanted.composition.reduced_formula
        found = material.crystal
        np.testing.assert_allclose(found.lattice, wanted.lattice.matrix, atol=1e-9)
        ours = {(int(z), *np.round(x % 1, 6)) for z, x in zip(found.numbers, found.positions, strict=True)}
        assert ours == {(site.specie.Z, *np.round(site.frac_coords % 1, 6)) for site in wanted}
    (damaged,) = rejected
    assert damaged.where == "AMCSD (xraylarch 0.9.66) 00040" and damaged.problem.startswith("is damaged (")


def test_minerals_as_cifs(minerals: Path) -> None:
    """Places that are unknown are signs, not numbers; a variant's symbol is the group's."""
    with pytest.raises(InputError, match=r"00040: is damaged"):
        list(mineral_cifs())
    with closing(sqlite3.connect(minerals)) as database, database:
        database.execute("DELETE FROM cif WHERE id = 40")
    salt, rutile = (text.splitlines() for _, text in mineral_cifs())
    assert salt[-1] == "Cl 0.500000 0.500000 0.500000" and rutile[-1] == "H ? ? ? ."
    assert "_symmetry_space_group_name_H-M 'P 42/m n m'" in rutile


def test_a_database_of_minerals_by_its_path(minerals: Path, tmp_path: Path) -> None:
    path = tmp_path / "amcsd_cif2.db"
    minerals.rename(path)
    rejected: list[InputError] = []
    found = materials_of(str(path), rejected, 1)
    assert [m.source for m in found] == ["AMCSD (amcsd_cif2.db) 00003", "AMCSD (amcsd_cif2.db) 12345"]
    assert len(rejected) == 1
    with pytest.raises(InputError, match=r"none\.db: is no database of minerals .*Check the path"):
        materials_of(str(tmp_path / "none.db"), [], 1)


def test_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A material of two data sets is the first one's; the space groups that they say are left."""
    files = install(tmp_path / "site", monkeypatch, SAMPLES)
    salt, rutile = (str(CifWriter(structure)) for structure in (SALT, RUTILE))
    for file, ids, texts in zip(
        files,
        (["mp-1"], ["mp-2", "mp-1"], ["mp-4", "mp-5"], ["mp-6", "mp-7"]),
        ([salt], [rutile, rutile], ["{'lattice': __import__('os')}", "nonsense"], [str(SALT.as_dict()), "{}"]),
        strict=True,
    ):
        rows = [f'0,{name},"{text.replace(chr(34), chr(34) * 2)}",1' for name, text in zip(ids, texts, strict=True)]
        file.write_text("\n".join(["# ref: a paper, 2015", "idx,material_id,structure,space_group", *rows]))
    rejected: list[InputError] = []
    found = gather(read_packaged(SAMPLES), SAMPLES, rejected)
    origin = "Materials Project (matminer 0.3.2, {}) {}"
    assert [(m.material_id, m.formula, m.space_group, m.source) for m in found] == [
        ("mp-1", "NaCl", 225, origin.format("elastic_tensor", "mp-1")),
        ("mp-2", "TiO2", 136, origin.format("piezoelectric_tensor", "mp-2")),
        ("mp-6", "NaCl", 225, origin.format("flla_2015", "mp-6") + "; duplicate of mp-1"),
    ]
    assert [e.where.split()[-1] for e in rejected] == ["mp-4", "mp-5", "mp-7"]
    for error, reason in zip(rejected, ("is no Python literal", "is no readable CIF", "KeyError"), strict=True):
        assert reason in error.problem
    files[1].write_text("material_id,formula\nmp-1,NaCl\n")
    with pytest.raises(InputError, match=r"piezoelectric_tensor.csv: is no data set of structures .*'structure'"):
        read_packaged(SAMPLES)


def test_structure_files_of_bgmn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are found by suffixes in letters of either size; those of one name have their folders' before it."""
    (table,) = install(tmp_path / "site", monkeypatch, BGMN)
    write_settings(table)
    salt = f"{CUBIC}E=NA+1 Wyckoff=a\nE=CL-1 Wyckoff=b // of the sea, 10 \xb5m\n"
    folder = table.parents[1] / "BGMN-Templates" / "Structures"
    for name, text in {"Minerals/Halite.str": salt, "BGMN/RUTILE.STR": RUTILE_FILE, "Salts/Halite.str": "E=CL"}.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text, encoding="latin-1")
    (folder / "Minerals" / "Halite.sav").write_text("no structure")
    rejected: list[InputError] = []
    found = gather(read_packaged(BGMN), BGMN, rejected)
    assert [(m.material_id, m.formula, m.source) for m in found] == [
        ("bgmn-RUTILE", "TiO2", "BGMN (autoXRD 0.0.7) BGMN/RUTILE.STR"),
        ("bgmn-Minerals-Halite", "NaCl", "BGMN (autoXRD 0.0.7) Minerals/Halite.str"),
    ]
    (without,) = rejected
    assert (without.where, without.problem) == ("BGMN (autoXRD 0.0.7) Salts/Halite.str", "names no space group.")


@pytest.mark.parametrize("source", PACKAGES)
def test_packages_that_are_not_there(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message ends with the command that brings the data."""
    requirement = PACKAGES[source].requirement
    with monkeypatch.context() as without:
        without.setattr(sys, "path", [str(tmp_path)])
        with pytest.raises(InputError, match=f"{source}: the package .* is not installed. Run: .*{requirement}$"):
            find(source)
    install(tmp_path / "without", monkeypatch, source)
    with pytest.raises(InputError, match=rf"is not there. Run: .*{requirement} --force-reinstall$"):
        find(source)
    install(tmp_path / "other", monkeypatch, source, "2026.1")
    with pytest.raises(InputError, match=rf"carries them, and 2026\.1 is installed. .* run: .*{requirement}$"):
        find(source)


def test_no_database(minerals: Path) -> None:
    minerals.write_bytes(b"SQLite format 3\0 and nothing else" * 100)
    with pytest.raises(InputError, match=r"amcsd_cif1\.db: is no database of minerals \(.*\)\. Check the path"):
        read_packaged(MINERALS)


def test_the_stage_says_what_to_cite(
    minerals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pattern = {"pattern_id": ["p"], "two_theta": [np.linspace(10, 80, 100)], "intensity": [np.arange(100.0) + 5]}
    pq.write_table(pa.table(pattern | {"wavelength": [1.5406], "crystal_system": ["cubic"]}), "p.parquet")
    out = {name: tmp_path / name for name in STAGE.outputs}
    given = out | {"structures": MINERALS, "imperfect": tmp_path / "p.parquet"}
    STAGE.execute(given, {})
    assert capsys.readouterr().err.count(f"cite: {PACKAGES[MINERALS].citation}\n") == 1
    library = read_table(out["collected_structures"], STRUCTURES).to_pylist()
    assert [row["source"] for row in library] == [f"AMCSD (xraylarch 0.9.66) {name}" for name in ("00003", "12345")]
    assert "AMCSD (xraylarch 0.9.66) 00040,is damaged" in out["rejected"].read_text()
    (tmp_path / MINERALS).mkdir()
    with pytest.raises(InputError, match=r"minerals: is a source of that name, and a file or folder"):
        STAGE.execute(given, {})


def test_packages_have_an_extra_each() -> None:
    setup = ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    assert set(PACKAGES) < set(NAMED_SOURCES)
    for source, package in PACKAGES.items():
        assert setup["options.extras_require"][source.replace("-", "_")].split() == [package.requirement]
