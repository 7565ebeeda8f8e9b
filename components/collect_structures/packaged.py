"""Structures that packages of PyPI carry, read from the files of the installed package.

The package is not imported, so nothing that it needs has to be there: ``pip install --no-deps`` is enough. No file is
unpickled: the one is an SQLite database, the others are CSV with CIFs and Python literals in it.
"""

from __future__ import annotations

import ast
import json
import sqlite3
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from components.collect_structures.bgmn import EXTENSION, read_structure
from components.collect_structures.cif import read_single
from components.collect_structures.config import BGMN, MINERALS, SAMPLES
from components.collect_structures.crystals import Material, Reading
from components.collect_structures.structures import Entry, Reader, from_json, read_rows
from imitation_refinement.errors import InputError
from imitation_refinement.files import decode, files_in

QUERY = """
    SELECT cif.id, formula, a, b, c, alpha, beta, gamma, crystal_density, atoms_sites, atoms_x, atoms_y, atoms_z,
           atoms_occupancy, hm_notation, symmetry_xyz
    FROM cif JOIN spacegroups ON spacegroups.id = cif.spacegroup_id ORDER BY cif.id
"""
SCALE = 4_000_000  # the database keeps a number as this multiple, a whole number
SIGNS = {2.0: "?", 3.0: "."}  # numbers that stand for signs
DAMAGED = (ValueError, KeyError, TypeError, AttributeError)  # what a spoilt entry of the database raises
NO_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)  # what ast.literal_eval raises


@dataclass(frozen=True)
class Package:
    """A package that carries structures.

    Attributes:
        name: on PyPI.
        version: the one that carries them; others have other data, or none.
        files: where they are in the package.
        citation: what to cite, and the terms.
        rows: ``rows(file, origin)``: the structures of a file; ``origin`` names the package and its version.
        read: what reads them.
    """

    name: str
    version: str
    files: tuple[str, ...]
    citation: str
    rows: Callable[[Path, str], list[Entry]]
    read: Reader

    @property
    def requirement(self) -> str:
        """As pip understands it."""
        return f"{self.name}=={self.version}"


def read_packaged(source: str, workers: int = 1) -> Iterator[Material | InputError]:
    """The materials that a package carries; one that several of its files hold is taken from the first.

    Args:
        source: a key of PACKAGES.
        workers: processes, as of :func:`read_rows`.

    Raises:
        InputError: if the package is not installed, in another version, or damaged.
    """
    package = PACKAGES[source]
    rows: dict[str, Entry] = {}
    for file in find(source):
        for row in package.rows(file, f"{package.name} {package.version}"):
            rows.setdefault(row.material_id, row)
    return read_rows(package.read, rows.values(), f"reading {source}", len(rows), workers)


def read_database(path: Path, workers: int = 1) -> Iterator[Material | InputError]:
    """The materials of a database of minerals as xraylarch keeps it, as the whole one, which no package carries.

    Raises:
        InputError: if the file is no such database.
    """
    rows = _minerals(path, path.name)
    return read_rows(PACKAGES[MINERALS].read, rows, f"reading {path.name}", len(rows), workers)


def find(source: str) -> list[Path]:
    """The files of a source, in the package that is installed.

    Args:
        source: a key of PACKAGES.

    Raises:
        InputError: if it is not there, in another version, or without these files.
    """
    package = PACKAGES[source]
    command = f"pip install --no-deps {package.requirement}"
    try:
        installed = distribution(package.name)
    except PackageNotFoundError:
        problem = f"the package {package.name} {package.version}, which carries them, is not installed."
        raise InputError(source, problem, f"Run: {command}") from None
    if installed.version != package.version:
        problem = f"{package.name} {package.version} carries them, and {installed.version} is installed."
        raise InputError(source, problem, f"Replace it, or take another environment, and run: {command}")
    files = [Path(str(installed.locate_file(file))) for file in package.files]
    for file in files:
        if not file.is_file():
            raise InputError(file, "is not there.", f"Run: {command} --force-reinstall")
    return files


def mineral_cifs() -> Iterator[tuple[str, str]]:
    """Name and text of each entry of the mineral database, as CIF.

    Raises:
        InputError: as :func:`find`, or if the database or an entry is damaged.
    """
    (file,) = find(MINERALS)
    for entry in PACKAGES[MINERALS].rows(file, ""):
        yield entry.material_id, _cif(entry.record, entry.where)


def _minerals(file: Path, origin: str) -> list[Entry]:
    """The entries of the American Mineralogist Crystal Structure Database as xraylarch keeps them."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            records = [dict(row) for row in database.execute(QUERY)]
    except sqlite3.Error as error:
        raise InputError(
            file, f"is no database of minerals ({error}).", "Check the path, or install its package again."
        ) from None
    out = []
    for record in records:
        source = f"AMCSD ({origin}) {record['id']:05}"
        out.append(Entry(f"amcsd-{record['id']:05}", source, source, record))
    return out


def _read_mineral(record: Mapping[str, Any], where: object) -> Reading:
    return read_single(_cif(record, where), where)


def _cif(record: Mapping[str, Any], where: object) -> str:
    """An entry as CIF, as xraylarch itself writes it.

    Raises:
        InputError: if the entry is damaged.
    """
    try:
        return _written(record)
    except DAMAGED as error:
        raise InputError(where, f"is damaged ({error}).", "Install its package again.") from None


def _written(record: Mapping[str, Any]) -> str:
    lines = [
        "data_global",
        f"_chemical_formula_sum '{record['formula']}'",
        *(f"_cell_length_{name} {record[name]}" for name in "abc"),
        *(f"_cell_angle_{name} {record[name]}" for name in ("alpha", "beta", "gamma")),
        f"_exptl_crystal_density_diffrn {record['crystal_density']}",
        f"_symmetry_space_group_name_H-M '{record['hm_notation'].split('%var')[0]}'",
        "loop_\n_space_group_symop_operation_xyz",
        *(f"'{operation}'" for operation in json.loads(record["symmetry_xyz"])),
    ]
    columns = {"label": json.loads(record["atoms_sites"])} | {
        name: _decoded(record[f"atoms_{key}"])
        for name, key in (("fract_x", "x"), ("fract_y", "y"), ("fract_z", "z"), ("occupancy", "occupancy"))
        if record[f"atoms_{key}"] not in (None, "0")
    }
    lines += ["loop_", *(f"_atom_site_{name}" for name in columns)]
    return "\n".join([*lines, *(" ".join(site) for site in zip(*columns.values(), strict=True)), ""])


def _decoded(text: str) -> list[str]:
    numbers = (np.frombuffer(b64decode(text), np.int32) / SCALE).tolist()
    return [SIGNS.get(number, f"{number:f}") for number in numbers]


def _bgmn(file: Path, origin: str) -> list[Entry]:
    """The structure files of BGMN and Profex, beside the table of settings that says how to read them.

    Each is named after its file, with its folder where several have that name.
    """
    folder = file.parents[1] / "BGMN-Templates" / "Structures"
    files = files_in(folder, (EXTENSION,), deep=True)
    stems = Counter(path.stem for path in files)
    out = []
    for path in files:
        name = path.stem if stems[path.stem] == 1 else f"{path.parent.name}-{path.stem}"
        source = f"BGMN ({origin}) {path.relative_to(folder).as_posix()}"
        out.append(Entry(f"bgmn-{name}", source, source, {"file": path, "settings": file}))
    return out


def _read_bgmn(record: Mapping[str, Any], where: object) -> Reading:
    return read_structure(decode(record["file"]), record["settings"], where)


def _samples(file: Path, origin: str) -> list[Entry]:
    """The structures of a data set of matminer.

    Their space groups are left: the Materials Project's are of 0.1 Å, see :mod:`.materials_project`.
    """
    import pandas as pd  # a quarter of a second, that other sources need not wait for

    try:
        table = pd.read_csv(file, comment="#", usecols=["material_id", "structure"], dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(file, f"is no data set of structures ({reason}).", "Install its package again.") from None
    origin = f"Materials Project ({origin}, {file.stem})"
    return [
        Entry(name, f"{origin} {name}", f"{origin} {name}", {"structure": text})
        for name, text in zip(table["material_id"], table["structure"], strict=True)
    ]


def _read_sample(record: Mapping[str, Any], where: object) -> Reading | None:
    """A structure as CIF, or as pymatgen's dictionary, written as a Python literal."""
    text = record["structure"]
    if not text.startswith("{"):
        return read_single(text, where)
    try:
        structure = ast.literal_eval(text)
    except NO_LITERAL as error:
        raise InputError(where, f"is no Python literal ({error}).", "Install its package again.") from None
    return from_json({"structure_json": json.dumps(structure)}, where)


PACKAGES = {
    MINERALS: Package(
        "xraylarch",
        "0.9.66",
        ("larch/xrd/amcsd_cif1.db",),
        "Downs and Hall-Wallace, The American Mineralogist Crystal Structure Database, American Mineralogist 88, 247 "
        "(2003), and the papers of the entries that are shown",
        _minerals,
        _read_mineral,
    ),
    BGMN: Package(
        "autoXRD",
        "0.0.7",
        ("autoXRD/dara/data/spglib_db/spg.json",),
        "Doebelin and Kleeberg, Profex, Journal of Applied Crystallography 48, 1573 (2015); as autoXRD (MIT) carries "
        "them, Szymanski et al., Chemistry of Materials 33, 4204 (2021)",
        _bgmn,
        _read_bgmn,
    ),
    SAMPLES: Package(
        "matminer",
        "0.3.2",
        tuple(
            f"matminer/datasets/{name}.csv"
            for name in ("elastic_tensor", "piezoelectric_tensor", "dielectric_constant", "flla_2015")
        ),
        "Jain et al., The Materials Project, APL Materials 1, 011002 (2013), CC BY 4.0; data sets: de Jong et al., "
        "Scientific Data 2, 150009 and 150053 (2015); Petousis et al., Scientific Data 4, 160134 (2017); Faber et al., "
        "International Journal of Quantum Chemistry 115, 1094 (2015); by way of Ward et al., matminer, Computational "
        "Materials Science 152, 60 (2018)",
        _samples,
        _read_sample,
    ),
}
