"""The readers that ``benchmarks.hostile`` feeds, what is asked of each, and the process that they are watched in."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.random import Generator

from benchmarks import hostile_inputs as made
from components.collect_structures.bgmn import read_structure
from components.collect_structures.imperfect import read_imperfect
from components.collect_structures.stage import STAGE as COLLECT
from components.collect_structures.structures import read_structures
from components.preprocess.stage import STAGE as PREPROCESS
from components.simulate.stage import STAGE as SIMULATE
from imitation_refinement.answer.batch import identify_files
from imitation_refinement.answer.identify import identify
from imitation_refinement.answer.journal import Entry, Journal
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.ranking import Ranking
from imitation_refinement.answer.record import record, row
from imitation_refinement.answer.run_model import load_run, refine_pattern
from imitation_refinement.data.contracts import STRUCTURES, write_table
from imitation_refinement.data.datasets import read_ideal, sample_ideal
from imitation_refinement.data.datasets import read_imperfect as read_gridded_imperfect
from imitation_refinement.data.patterns import Pattern, read_patterns
from imitation_refinement.errors import InputError
from imitation_refinement.files import as_text
from imitation_refinement.learning.checkpoints import Checkpoint
from imitation_refinement.learning.models import (
    check_unseen,
    load_classifier,
    load_refiner,
    load_root_refiner,
)
from imitation_refinement.refine import refine_files
from imitation_refinement.study.tables import write_tables
from pipelines.check import check_pipeline
from pipelines.cli import main as command_line
from pipelines.cluster import read_cluster
from pipelines.compile import compile_pipeline
from pipelines.profiles import read_profile
from pipelines.release import read_release
from tests.components.collect_structures.test_bgmn import QUARTZ_FILE, RUTILE_FILE, write_settings
from tests.components.collect_structures.test_cif import cif as salt_like
from tests.conftest import run_toy, write_toy_tables
from tests.shared.answer.conftest import small_model
from web.answer import Question, answer

LONGEST_S, WAITED_S, MOST_BYTES = 20.0, 120.0, 2 << 30
OUTCOMES = ("read", "refused")
Check = Callable[[Path, Generator], None]  # reads what it makes in a folder; raises InputError or Failure

# ------------------------------------------------------------------------------------------------- what is asked for


class Failure(Exception):
    """What must not happen; the text says what kind of failure it is, a colon, and more."""


def finite(values: Any, what: str) -> None:
    """Every number below is finite."""
    try:
        json.dumps(values, allow_nan=False)
    except ValueError:
        raise Failure(f"no number: {what}") from None


def check_errors(errors: Sequence[InputError]) -> None:
    for error in errors:
        text = str(error)
        if "fault of the program" in text:
            raise Failure(f"traceback: {text[:300]}")
        if not error.remedy and "first of" not in error.problem:
            raise Failure(f"no remedy: {text[:300]}")
        if any(not (c.isprintable() or c == " ") for c in text):
            raise Failure(f"unprintable message: {text[:300]!r}")
        if len(text) > 4000:
            raise Failure(f"long message: {len(text)} characters, {text[:100]}")
        if len(error.where) < 2:
            raise Failure(f"no place: {text[:300]}")


def usable(pattern: Pattern) -> None:
    """A pattern that was let in must be one that all that follows can work with."""
    x, y = pattern.two_theta, pattern.intensity
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (np.diff(x) > 0).all() and y.min() >= 0 and y.max() > 0):
        raise Failure(f"unusable pattern: {pattern.where}")
    if not pattern.pattern_id.strip() or not pattern.pattern_id.isprintable() or len(pattern.pattern_id) > 500:
        raise Failure(f"unusable id: {pattern.pattern_id[:40]!r}")


@cache
def model() -> Model:
    return Model.read(specimens() / "model")


def answered(patterns: Sequence[Pattern], rejected: Sequence[InputError]) -> None:
    """The errors are as they should be, and so are the answers to the patterns, of which there is one at least."""
    check_errors(rejected)
    if not patterns:
        raise rejected[0]
    for pattern in patterns[:2]:
        usable(pattern)
        try:
            found = identify(model(), pattern)
        except InputError as error:
            check_errors([error])
            continue
        said = record(found)
        finite(said, "answer")
        finite(row(said), "row")
        with suppress(InputError):
            refined = refine_pattern(run_model(), pattern)
            finite([refined.intensity.tolist(), refined.probabilities.tolist()], "refined pattern")


@cache
def run_model() -> Any:
    return load_run(specimens() / "run")


# ------------------------------------------------------------------------------------------------- specimens


def specimens() -> Path:
    return Path(os.environ["HOSTILE_SPECIMENS"])


SITES = "Na1 0 0 0 1\nCl1 .5 .5 .5 1.000(3)\n"
TRIPLETS = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x,-y,-z'\n'y,x,z'\n"
CIFS = {
    "salt.cif": salt_like(SITES, "_space_group_IT_number 225\n_chemical_formula_sum 'Na Cl'\n"),
    "listed.cif": salt_like(SITES, f"_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 1\n{TRIPLETS}"),
    "mixed.cif": salt_like(
        "Fe1 0 0 0 0.5\nMg1 0 0 0 0.5\nO1 .5 .5 .5 1\n", "_symmetry_space_group_name_H-M 'F m -3 m'\n"
    ),
}


def make_specimens(folder: Path, whole: bool = True) -> None:
    """Whole files that take their time to make, once; those that take most of it only if ``whole``."""
    (folder / "model").mkdir()
    small_model(folder / "model")
    write_toy_tables(folder)
    write_settings(folder / "spg.json")
    for name, text in CIFS.items():
        (folder / name).write_text(text)
    sites = [{"species": [{"element": e, "occu": 1}], "abc": [x] * 3} for e, x in (("Na", 0.0), ("Cl", 0.5))]
    structure = {"lattice": {"matrix": [[5, 0, 0], [0, 5, 0], [0, 0, 5]]}, "sites": sites}
    texts = {"cif": list(CIFS.values()), "structure_json": [json.dumps(structure)] * 3}
    for name, column in texts.items():
        columns = {"material_id": ["a", "b", "c"], name: column, "space_group": [225, None, 225]}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    made.pattern_table(folder / "patterns.parquet", cif=[CIFS["salt.cif"], None, CIFS["mixed.cif"]])
    if not whole:
        return
    run_toy(folder / "run")
    (folder / "run" / "profile.json").write_text(json.dumps({"name": "toy", "seed": 3, "targeted": {"epochs": 3}}))
    compile_pipeline(read_profile("smoke"), folder / "pipeline.yaml", read_cluster(""))
    COLLECT.execute(
        {name: folder / f"{name}.out" for name in ("collected_patterns", "rejected")}
        | {"collected_structures": folder / "structures.parquet"},
        {"n_structures": 7, "n_patterns": 7},
    )


def copied(name: str, folder: Path) -> Path:
    source = specimens() / name
    if source.is_dir():
        return Path(shutil.copytree(source, folder / source.name))
    return Path(shutil.copy(source, folder))


# ------------------------------------------------------------------------------------------------- the readers


def pattern_form(kind: str) -> Check:
    def check(folder: Path, rng: Generator) -> None:
        path = made.mutated_pattern(kind, folder, rng)
        begin()
        found, rejected = read_patterns(path, 1.5406, scan="all")
        answered(found, rejected)

    return check


def table_of_patterns(folder: Path, rng: Generator) -> None:
    path = copied("patterns.parquet", folder)
    made.odd_table(path, rng)
    begin()
    found, rejected = read_patterns(path, 1.5406)
    answered(found, rejected)
    errors: list[InputError] = []
    rows = read_imperfect(path, errors)
    check_errors(errors)
    finite([[np.asarray(r[name]).tolist() for name in ("two_theta", "intensity")] for r in rows], "row")


def manifest(folder: Path, rng: Generator) -> None:
    inner = folder / "measured"
    inner.mkdir()
    for name in ("a.xy", "b.xy"):
        made._text(inner / name)
    copied("salt.cif", inner)
    text = "pattern,pattern_id,wavelength,structure,formula,space_group,crystal_system,scan\n"
    hostile = str(made.some(rng, made.IDS)).encode("utf-8", "replace").decode()
    odd = '"' + hostile.replace('"', '""') + '"'
    cells = ["a.xy", "first", "1.5406", "salt.cif", "NaCl", "225", "cubic", ""]
    if rng.random() < 0.6:
        cells[int(rng.integers(len(cells)))] = odd
    text += ",".join(cells) + "\n" + "b.xy,second,CuKa1,,,,,\n"
    data = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.5:
        data = made.some(rng, (*made.BYTES, *made.TEXT))(data, rng)
    (inner / "manifest.csv").write_bytes(data)
    begin()
    found, rejected = read_patterns(inner, 1.5406)
    answered(found, rejected)
    errors: list[InputError] = []
    read_imperfect(inner, errors)
    check_errors(errors)


def structures_of(path: Path) -> None:
    begin()
    rejected: list[InputError] = []
    try:
        found = read_structures(path, rejected)
    finally:
        check_errors(rejected)
    for one in found:
        finite(
            [one.crystal.lattice.tolist(), one.crystal.positions.tolist(), one.crystal.occupancy.tolist()], "crystal"
        )
        if not one.material_id.isprintable() or len(one.material_id) > 500:
            raise Failure(f"unusable id: {one.material_id[:40]!r}")
    out = path.parent / "structures.out"
    write_table(out, {k: [m.row()[k] for m in found] for k in found[0].row()}, STRUCTURES)


def one_cif(folder: Path, rng: Generator) -> None:
    path = copied(str(made.some(rng, list(CIFS))), folder)
    path.write_bytes(made.some(rng, (*made.BYTES, *made.TEXT, *made.TEXT))(path.read_bytes(), rng))
    structures_of(path)


def bgmn_file(folder: Path, rng: Generator) -> None:
    data = made.some(rng, (RUTILE_FILE, QUARTZ_FILE)).encode()
    data = made.some(rng, (*made.BYTES, *made.TEXT, *made.TEXT))(data, rng)
    begin()
    found = read_structure(as_text(data), specimens() / "spg.json", "a.str").crystal
    finite([found.lattice.tolist(), found.positions.tolist(), found.occupancy.tolist()], "crystal")


def archive_of_cifs(folder: Path, rng: Generator) -> None:
    structures_of(made.cif_archive(folder / "cifs", {n: t.encode() for n, t in CIFS.items()}, rng))


def table_of_structures(folder: Path, rng: Generator) -> None:
    names = ("cif.parquet", "structure_json.parquet", "structures.parquet")
    path = copied(str(made.some(rng, [name for name in names if (specimens() / name).exists()])), folder)
    if path.name == "structure_json.parquet" and rng.random() < 0.5:
        table = pq.read_table(path)
        texts = table["structure_json"].to_pylist()
        mutate = made.some(rng, (made.other_values, made.nested_json, made.other_numbers))
        texts[0] = mutate(texts[0].encode(), rng).decode("utf-8", "replace")
        pq.write_table(
            table.set_column(table.column_names.index("structure_json"), "structure_json", pa.array(texts)), path
        )
    else:
        made.odd_table(path, rng)
    structures_of(path)


TOML = (*made.BYTES, *made.TEXT, made.other_numbers, made.hostile_words)


def toml(folder: Path, rng: Generator, name: str) -> Path:
    source = Path("deploy/cluster.toml") if name == "cluster" else Path(f"pipelines/profiles/{name}.toml")
    path = folder / f"{name}.toml"
    data = (ROOT / source).read_bytes()
    if rng.random() < 0.1:
        path.write_bytes(b"a = " + b"[" * (n := int(made.some(rng, (50, 5000, 100_000)))) + b"]" * n + b"\n" + data)
    else:
        path.write_bytes(made.some(rng, TOML)(data, rng))
    return path


def profile(folder: Path, rng: Generator) -> None:
    path = toml(folder, rng, str(made.some(rng, ("smoke", "paper"))))
    names, values = ("seed", "targeted.optimiser.epochs", "", "name.x", "shards"), ("1e999", "[" * 5000, "-1")
    options = [f"{name}={made.some(rng, (*made.IDS, *values))}" for name in names]
    settings = [str(made.some(rng, options))] if rng.random() < 0.4 else []
    begin()
    if rng.random() < 0.2:
        read_release(settings)
    finite(read_profile(str(path), settings).parameters(), "profile")


def cluster(folder: Path, rng: Generator) -> None:
    path = toml(folder, rng, "cluster")
    begin()
    read_cluster(path)


def compiled(folder: Path, rng: Generator) -> None:
    path = copied("pipeline.yaml", folder)
    data = path.read_bytes()
    if rng.random() < 0.3:
        levels = [b"a0: &a0 [x]"] + [
            b"a%d: &a%d [%s]" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 10)
        ]
        odd = (
            b"\n".join(levels),
            b"a: &a [*a]",
            b"!!python/object/apply:os.system ['touch x']",
            b"a: &a {b: *a}",
            b"[" * 2000,
        )
        data = made.some(rng, (odd_one := made.some(rng, odd), odd_one + b"\n" + data, data + b"\n" + odd_one))
    else:
        data = made.some(rng, (*made.BYTES, *made.TEXT))(data, rng)
    path.write_bytes(data)
    begin()
    check_pipeline(path)


def finished_run(folder: Path, rng: Generator) -> None:
    path = copied("run", folder)
    name = str(made.some(rng, ("results.json", "results.json", "profile.json", "predictions.csv")))
    file = path / name
    of_json = (made.other_values, made.other_values, made.other_values, made.nested_json)
    mutators = (*made.BYTES, *made.TEXT, *(of_json if name.endswith("json") else ()))
    file.write_bytes(made.some(rng, mutators)(file.read_bytes(), rng))
    begin()
    load_run(path)
    write_tables([path], folder / "tables")
    finite(json.loads((folder / "tables/tables.json").read_text()), "tables")


def model_file(folder: Path, rng: Generator) -> None:
    kind = int(rng.integers(3))
    path = copied(
        ("run/models/vgg.safetensors", "run/models/vgg-targeted.safetensors", "model/network.safetensors")[kind], folder
    )
    data = path.read_bytes()
    if rng.random() < 0.4:  # the header, with its length put right
        n = int.from_bytes(data[:8], "little")
        head = json.loads(data[8 : 8 + n])
        inner = json.loads(head["__metadata__"]["imitation_refinement"])
        deed = rng.random()
        if deed < 0.5:
            text = made.some(rng, (made.other_values, made.nested_json, made.other_numbers))(
                json.dumps(inner).encode(), rng
            )
            head["__metadata__"]["imitation_refinement"] = text.decode("utf-8", "replace")
            new = json.dumps(head).encode()
        else:
            new = made.some(rng, (made.other_values, made.nested_json, made.other_numbers))(
                json.dumps(head).encode(), rng
            )
        data = len(new).to_bytes(8, "little") + new + data[8 + n :]
    else:
        data = made.some(rng, (*made.BYTES, made.binary_words, made.binary_words))(data, rng)
    path.write_bytes(data)
    begin()
    for load in (load_root_refiner, load_refiner) if kind == 1 else (load_classifier,):
        try:
            found, grid, about = load(path)
        except InputError as error:
            check_errors([error])
            failed: InputError = error
            continue
        with torch.no_grad():
            out = found(torch.rand(1, grid.points)).numpy()
        finite(out.tolist(), "output")
        json.dumps(about)
        check_unseen(path, ["NaCl"]) if kind == 0 else None
        return
    raise failed


def checkpoint(folder: Path, rng: Generator) -> None:
    path = folder / "checkpoint.safetensors"
    one = Checkpoint(path, "of this training")
    tensors = {"model": {"w": torch.rand(5, 7), "b": torch.rand(7)}, "optimiser": {"0.step": torch.tensor(3.0)}}
    one.save(tensors, {"epoch": 3, "history": [1.0, 2.0]})
    path.write_bytes(made.some(rng, (*made.BYTES, made.binary_words, made.binary_words))(path.read_bytes(), rng))
    begin()
    with redirect_stderr(io.StringIO()) as said:
        found = one.load()
    if found is None:
        raise InputError(
            path, "is left aside", said.getvalue().strip() or "nothing is to be done: the training begins anew."
        )
    for group, members in tensors.items():
        for name, tensor in members.items():
            if group not in found[0] or not torch.equal(found[0][group].get(name, torch.empty(0)), tensor):
                raise Failure("silent damage: a checkpoint's numbers have changed, and nobody says so")


def model_folder(folder: Path, rng: Generator) -> None:
    path = copied("model", folder)
    name = str(made.some(rng, ("model.json", "model.json", "ranking.json", "library.parquet")))
    file = path / name
    if name.endswith(".json"):
        mutators = (*made.BYTES, *made.TEXT, made.other_values, made.other_values, made.nested_json)
        file.write_bytes(made.some(rng, mutators)(file.read_bytes(), rng))
    else:
        made.odd_table(file, rng)
    begin()
    with suppress(InputError):
        Ranking.read(path / "ranking.json")
    with suppress(InputError):
        Library.read(path / "library.parquet")
    one = Model.read(path)
    found, _ = read_patterns(made._text(folder / "a.xy"), 1.5406)
    finite(record(identify(one, found[0])), "answer")


def journal(folder: Path, rng: Generator) -> None:
    path = folder / "answers.journal"
    asked = {"version": "1", "scan": "all"}
    with Journal(path, asked) as written:
        for i in range(5):
            written.add(Entry(f"k{i}", [{"record": {"pattern_id": f"p{i}"}}], [("w", "p", "r")]))
    path.write_bytes(made.some(rng, (*made.BYTES, *made.TEXT, made.nested_json))(path.read_bytes(), rng))
    begin()
    with redirect_stderr(io.StringIO()), Journal(path, asked) as again:
        keys = [f"k{i}" for i in range(5)]
        for entry in again.entries([key for key in keys if key in again]):
            [InputError(*why) for why in entry.rejected]
            entry.found[0]["record"]["pattern_id"] if entry.found else None
        again.add(Entry("new", [], []))


def stage_table(folder: Path, rng: Generator) -> None:
    kind = int(rng.integers(4))
    path = copied(
        ("ideal_dataset.parquet", "imperfect_dataset.parquet", "structures.parquet", "ideal_dataset.parquet")[kind],
        folder,
    )
    made.odd_table(path, rng)
    begin()
    if kind == 0:
        found = read_ideal(path)
        finite(found.intensity[:50].tolist(), "pattern")
        sample_ideal(path, "test", 5, 0)
    elif kind == 1:
        finite(read_gridded_imperfect(path).intensity[:50].tolist(), "pattern")
    elif kind == 2:
        names = ("ideal", "imperfect", "library", "rejected")
        patterns = copied("collected_patterns.out", folder)
        given = {"structures": path, "patterns": patterns, **{name: folder / f"{name}.made" for name in names}}
        with redirect_stderr(io.StringIO()):
            SIMULATE.execute(given, {"grid": {"points": 128}})
        for batch in pq.ParquetFile(folder / "ideal.made").iter_batches():
            finite(batch["intensity"].flatten().to_pylist(), "simulated pattern")
    else:
        names = ("ideal_dataset", "imperfect_dataset", "manifest", "rejected")
        given = {
            "ideal": [path],
            "imperfect": [copied("imperfect_dataset.parquet", folder)],
            **{n: folder / f"{n}.made" for n in names},
        }
        with redirect_stderr(io.StringIO()):
            PREPROCESS.execute(given, {})


def page(folder: Path, rng: Generator) -> None:
    kind = str(made.some(rng, list(made.PATTERNS)))
    data = made.mutated_pattern(kind, folder, rng).read_bytes()
    name = str(made.some(rng, (*made.IDS, *(f"{one}.xy" for one in made.IDS))))
    elements = tuple(str(made.some(rng, (*made.IDS, "Na", "Cl"))) for _ in range(int(rng.integers(0, 2))))
    wavelength = str(made.some(rng, ("1.5406", "CuKa1", "1.5406", *made.IDS)))
    begin()
    said = answer(model(), Question(data, name, wavelength, must=elements))
    finite(said, "answer")
    json.dumps(said, ensure_ascii=False).encode()


def ids(folder: Path, rng: Generator) -> None:
    """Hostile ids all the way into tables, pages, pictures and file names."""
    one = str(made.some(rng, made.IDS)).encode("utf-8", "replace").decode()
    two = str(made.some(rng, made.IDS)).encode("utf-8", "replace").decode()
    path = made.pattern_table(folder / "t.parquet", pattern_id=[one, two, one], formula=[one, None, two])
    out, before = folder / "out", Path.cwd()
    begin()
    with redirect_stderr(io.StringIO()):
        if rng.random() < 0.5:
            identify_files([str(path)], out, None, specimens() / "model", pictures=rng.random() < 0.1, processes=1)
        else:
            refine_files([str(path)], out, None, run=specimens() / "run")
    assert before == Path.cwd()
    check_outputs(out)


def check_outputs(out: Path) -> None:
    """No cell that a spreadsheet takes for a formula, no id as mark-up, nothing half-written."""
    import csv

    for file in out.rglob("*"):
        if not file.resolve().is_relative_to(out.resolve()):
            raise Failure(f"wrote outside: {file}")
        if file.suffix == ".csv":
            with file.open(encoding="utf-8", newline="") as stream:
                for line in csv.reader(stream):
                    for cell in line:
                        if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(cell):
                            raise Failure(f"formula: {file.name}: {cell[:60]!r}")
        if file.suffix == ".html":
            text = file.read_text(encoding="utf-8")
            for mark in ("<script>alert", "<img src=x", "<svg onload"):
                if mark in text:
                    raise Failure(f"mark-up: {file.name}: {mark}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def command(folder: Path, rng: Generator) -> None:
    """A whole command line on a hostile file: status 0 or 2, and one message."""
    kind = int(rng.integers(5))
    out = folder / "out"
    if kind < 2:
        path = made.mutated_pattern(str(made.some(rng, list(made.PATTERNS))), folder, rng)
        wavelength = str(made.some(rng, ("1.5406", "1.5406", *made.IDS[2:]))).encode("utf-8", "replace").decode()
        wavelength = wavelength.partition("\0")[0]  # no word of a command line goes on after it
        words = ["refine", str(path), "--run", str(specimens() / "run")]
        if kind == 1:
            words = ["identify", str(path), "--model", str(specimens() / "model"), "--no-pictures", "--processes", "1"]
        words += ["--wavelength", wavelength, "--output", str(out)]
    elif kind == 2:
        words = ["compile", "--profile", str(toml(folder, rng, "smoke")), "-o", str(folder / "p.yaml")]
    elif kind == 3:
        words = ["tables", str(folder / "run"), "--output", str(out)]
        file = copied("run", folder) / "results.json"
        file.write_bytes(made.some(rng, (*made.BYTES, made.other_values, made.nested_json))(file.read_bytes(), rng))
    else:
        path = copied(str(made.some(rng, list(CIFS))), folder)
        path.write_bytes(made.some(rng, (*made.BYTES, *made.TEXT))(path.read_bytes(), rng))
        words = ["--structures", str(path), "--n-patterns", "7"]
        for name in ("collected-structures", "collected-patterns", "rejected"):
            words += [f"--{name}", str(out / name)]
    begin()
    status: Any = 0
    with redirect_stderr(io.StringIO()) as said, redirect_stdout(io.StringIO()):
        try:
            (COLLECT.main if kind == 4 else command_line)(words)
        except SystemExit as error:
            status = error.code or 0
    check_said(status, said.getvalue())


def check_said(status: Any, text: str) -> None:
    """What a command said and how it ended."""
    if "Traceback" in text or "fault of the program" in text:
        raise Failure(f"traceback: {text[-300:]}")
    last = (text.rstrip().splitlines() or [""])[-1]
    if status == 2 and not last.startswith("error: ") and "usage:" not in text:
        raise Failure(f"no error line: {text[-300:]}")
    if status not in (0, 2):
        raise Failure(f"status {status}: {text[-300:]}")
    if status == 2:
        raise InputError("command", last, "see above.")


def large(folder: Path, rng: Generator) -> None:
    """Ten million points, a gigabyte of zeros in some kilobytes, thousands of atoms, folders that hold themselves."""
    kind = int(rng.integers(10))
    if kind < 4:
        path = folder / ("a.xy", "a.csv", "a.parquet", "a.nxs")[kind]
        made.many_points(path, 10_000_000)
    elif kind == 4:
        path = folder / "zeros.parquet"
        made.zeros_table(path, 40_000_000)
    elif kind == 5:
        path = made.symlink_loop(folder)
    elif kind == 6:
        path = folder / "big.brml"
        import zipfile

        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for i in range(20):
                archive.writestr(f"Experiment0/RawData{i}.xml", bytes(2**27 - 1))
    else:
        atoms = int((1000, 5000, 50_000)[kind - 7])
        rng = np.random.default_rng(1)
        places = rng.random((atoms, 3))
        rows = "".join(f"C{i} {x:.5f} {y:.5f} {z:.5f} 1\n" for i, (x, y, z) in enumerate(places))
        edge = f"{(atoms * 20) ** (1 / 3):.3f}"
        path = folder / "large.cif"
        path.write_text(salt_like(rows, "_space_group_IT_number 1\n", a=edge, c=edge))
    begin()
    if path.suffix == ".cif":
        structures_of(path)
        return
    found, rejected = read_patterns(path, 1.5406, scan="all")
    answered(found, rejected)


ROOT = Path(__file__).resolve().parents[1]
# kind → the check, and its share of the inputs in thousandths
KINDS: dict[str, tuple[Check, float]] = {
    **{f"pattern: {kind}": (pattern_form(kind), 30) for kind in made.PATTERNS},
    "patterns: Parquet table": (table_of_patterns, 60),
    "patterns: manifest": (manifest, 40),
    "structures: CIF": (one_cif, 100),
    "structures: BGMN": (bgmn_file, 60),
    "structures: archive": (archive_of_cifs, 30),
    "structures: Parquet table": (table_of_structures, 60),
    "profile, settings": (profile, 40),
    "cluster file": (cluster, 40),
    "compiled pipeline": (compiled, 5),
    "run: results.json, profile, predictions": (finished_run, 30),
    "model file (.safetensors)": (model_file, 40),
    "checkpoint": (checkpoint, 30),
    "model folder": (model_folder, 25),
    "journal": (journal, 15),
    "tables between stages": (stage_table, 40),
    "uploaded file": (page, 25),
    "ids into tables, pages, pictures": (ids, 8),
    "whole command": (command, 12),
    "very large": (large, 1.5),
}

# ------------------------------------------------------------------------------------------------- one process

_state: dict[str, Any] = {"folder": "", "events": [], "begin": None, "there": set()}
CACHES = (
    "numba",
    "copyreg",
    "builtins",
    "numpy",
    "collections",
    "components",
    "imitation_refinement",
)  # what numba's cache holds


def begin() -> None:
    """The input is made; from here the reader is watched."""
    gc_peak()
    _state["there"] = set(Path(_state["folder"]).rglob("*"))
    _state["begin"]()


def gc_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Notes what a reader does that none should."""
    folder, notes = _state["folder"], _state["events"]
    if not folder:
        return
    if event == "open" and isinstance(arguments[0], str | bytes | Path):
        _, mode, flags = arguments
        writes = any(c in mode for c in "wax+") if isinstance(mode, str) else (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        place = os.path.realpath(os.fsdecode(arguments[0]))
        if writes and not place.startswith((folder, "/dev/null", "/proc/")) and "__pycache__" not in place:
            notes.append(f"wrote outside: {place}")
    elif event == "os.remove" and isinstance(arguments[0], str | bytes | Path):
        place = os.path.realpath(os.fsdecode(arguments[0]))
        if not place.startswith(folder) and arguments[1] == -1:
            notes.append(f"removed outside: {place}")
    elif (event == "pickle.find_class" and not str(arguments[0]).startswith(CACHES)) or event in PROGRAMS:
        notes.append(f"ran code: {event} {str(arguments)[:200]}")


PROGRAMS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")


def work(connection: Connection, specimen_folder: str) -> None:
    """Answers (kind, seed, number) with (outcome, text, seconds, bytes) until it is told to end."""
    os.environ["HOSTILE_SPECIMENS"] = specimen_folder
    torch.set_num_threads(1)
    os.chdir(tempfile.gettempdir())
    sys.stderr = sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    warm = made._text(Path(tempfile.mkdtemp()) / "warm.xy")
    answered(*read_patterns(warm, 1.5406))
    size = next(
        int(line.split()[1]) << 10
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmSize")
    )
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES + (1 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_hook)
    connection.send("ready")
    while (asked := connection.recv()) is not None:
        connection.send(("done", *one(*asked, connection)))


def one(kind: str, seed: int, number: int, root: str, connection: Connection | None) -> tuple[str, str, float, int]:
    """What comes of one input."""
    folder = Path(tempfile.mkdtemp(dir=root, prefix="case-"))
    began = [time.process_time()]

    def tell() -> None:
        began[0] = time.process_time()
        if connection is not None:
            connection.send(("begin",))

    _state.update(folder=os.path.realpath(folder), events=[], begin=tell)
    (folder / "tmp").mkdir()
    tempfile.tempdir = str(folder / "tmp")
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), number])
    outcome, text = "read", ""
    try:
        KINDS[kind][0](folder, rng)
    except InputError as error:
        outcome, text = "refused", str(error)
        try:
            check_errors([error])
        except Failure as failure:
            outcome, text = str(failure).partition(":")[0], str(failure)
    except Failure as failure:
        outcome, text = str(failure).partition(":")[0], str(failure)
    except MemoryError:
        outcome, text = "memory", traceback.format_exc(limit=-4)
    except BaseException:
        outcome, text = "traceback", traceback.format_exc(limit=-6)
    seconds = time.process_time() - began[0]
    events = _state["events"]
    _state.update(folder="", events=[])
    tempfile.tempdir = None
    if events:
        outcome, text = events[0].partition(":")[0], "; ".join(events)
    left = [path.name for path in folder.rglob(".*") if path.is_file() and path not in _state["there"]]
    if left and outcome in OUTCOMES:
        outcome, text = "half-written", ", ".join(left[:5])
    peak = next(
        (
            int(line.split()[1]) << 10
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmHWM")
        ),
        0,
    )
    shutil.rmtree(folder, ignore_errors=True)
    return outcome, text, seconds, peak
