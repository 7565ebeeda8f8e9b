"""The collect_structures stage: structures and imperfect patterns from where they are into checked tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.collect_structures import materials_project
from components.collect_structures.builtin import builtin_materials, builtin_variants
from components.collect_structures.config import MATERIALS_PROJECT, MINERALS, NAMED_SOURCES, RANDOM, CollectConfig
from components.collect_structures.crystals import Material
from components.collect_structures.imperfect import Row, read_imperfect
from components.collect_structures.packaged import PACKAGES, read_database, read_packaged
from components.collect_structures.random_crystals import random_crystals
from components.collect_structures.specimens import hold_out, specimen_row
from components.collect_structures.structures import CONTRACT, gather, read_structures
from components.collect_structures.variants import variants
from imitation_refinement import __version__
from imitation_refinement.data.contracts import (
    PATTERNS,
    STRUCTURES,
    to_table,
    with_sources,
    write_rejected,
    write_table,
    written,
)
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.progress import progress, say
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

DATABASE = ".db"  # of minerals

ROW_GROUP, CHUNK = 4096, 512  # structures that are written, and turned into a table, at a time


Source = tuple[Iterator[pa.Table], int, list[Material]]  # tables of structures, their number, the specimens


@dataclass
class Collected:
    """What the stage writes.

    Attributes:
        library: tables of structures, made as they are asked for.
        total: number of structures in the library.
        rows: rows of the PATTERNS contract.
        rejected: what was left out.
    """

    library: Iterator[pa.Table]
    total: int
    rows: list[Row]
    rejected: list[InputError]


def collect(
    structures: str,
    imperfect: Path | None,
    pages: Path,
    config: CollectConfig,
    test: Path | None = None,
    keep_out: Path | None = None,
) -> Collected:
    """The structures, the imperfect patterns or the specimens in their place, and what was left out.

    Args:
        structures: a path, one of NAMED_SOURCES, or nothing for the built-in ones.
        imperfect: a path, or nothing for virtual specimens.
        pages: folder for what comes from the Materials Project.
        config: the stage's options.
        test: a path, or nothing: imperfect patterns to be tested on alone.
        keep_out: a path, or nothing: imperfect patterns whose materials no classifier learns.

    Raises:
        InputError: if a source gives nothing, or there are patterns to test on and none to train on.
    """
    rejected: list[InputError] = []
    if structures in NAMED_SOURCES and Path(structures).exists():
        problem = "is a source of that name, and a file or folder that is here, too."
        raise InputError(structures, problem, "Give the file's whole path, or start elsewhere for the source.")
    if test and not imperfect:
        raise InputError(test, "is given to test on, but no imperfect patterns to train on.", "Give both, or neither.")
    rows = read_imperfect(imperfect, rejected) if imperfect else []
    rows += _alone(read_imperfect(test, rejected), rows, test) if test else []
    unseen = _kept_out(read_imperfect(keep_out, rejected), rejected) if keep_out else []
    n_specimens = 0 if imperfect else config.n_patterns
    if not structures:
        library, total, specimens = _built_in(n_specimens, config)
    elif structures == RANDOM:
        library, total, specimens = _random(n_specimens, config)
    elif structures == MATERIALS_PROJECT:
        found = materials_project.fetch(config.materials_project, pages)
        library, total, specimens = _given(gather(found, structures, rejected), structures, n_specimens, config)
    else:
        materials = materials_of(structures, rejected, config.workers)
        library, total, specimens = _given(materials, structures, n_specimens, config)
    return Collected(library, total, [*(rows or (specimen_row(m) for m in specimens)), *unseen], rejected)


def materials_of(source: str, rejected: list[InputError], workers: int = 0) -> list[Material]:
    """The materials of a path or of a package; what is to be cited is said.

    Args:
        source: a path, of a database of minerals among others, or a key of PACKAGES.
        rejected: what can't be used is added to it.
        workers: processes that read many; 0 for as many as there are cores.

    Raises:
        InputError: if nothing can be used.
    """
    if Path(source).suffix.lower() == DATABASE:
        package, found = PACKAGES[MINERALS], read_database(Path(source), workers)
    elif source in PACKAGES:
        package, found = PACKAGES[source], read_packaged(source, workers)
    else:
        return read_structures(Path(source), rejected, workers)
    say(f"cite: {package.citation}")
    return gather(found, source, rejected)


def _alone(rows: list[Row], others: list[Row], where: Path) -> list[Row]:
    """Rows to be tested on alone."""
    if both := {row["pattern_id"] for row in rows} & {row["pattern_id"] for row in others}:
        raise InputError(where, f"{len(both)} pattern_ids are also among those to train on, as {min(both)}.", "Rename.")
    return [row | {"part": "test"} for row in rows]


def _kept_out(rows: list[Row], rejected: list[InputError]) -> list[Row]:
    """A row of each material that is kept out; what it is a pattern of, by name and structure, is all that matters."""
    for row in rows:
        if row["formula"] is None:
            problem = "has no formula, so its material can't be kept out."
            rejected.append(InputError(f"pattern {row['pattern_id']}", problem, "Give its formula or its structure."))
    one = {row["formula"]: row for row in rows if row["formula"] is not None}
    names = ("two_theta", "intensity", "wavelength", "formula", "origin", *CONTRACT)
    return [
        {name: row[name] for name in names if name in row} | {"pattern_id": f"kept out: {formula}", "part": "kept_out"}
        for formula, row in one.items()
    ]


def _built_in(n_specimens: int, config: CollectConfig) -> Source:
    parents, specimens = builtin_materials(config.n_structures, n_specimens, config.seed)
    more = builtin_variants(parents, config.n_structures, config.seed, config.workers)
    return chain(tables(parents), more), config.n_structures, specimens


def _random(n_specimens: int, config: CollectConfig) -> Source:
    specimens = list(random_crystals(n_specimens, config.seed, 1, workers=config.workers))
    formulas = {material.formula for material in specimens}
    library = random_crystals(config.n_structures, config.seed, 0, formulas, config.workers)
    return tables(library), config.n_structures, specimens


def _given(materials: list[Material], where: str, n_specimens: int, config: CollectConfig) -> Source:
    parents, specimens = hold_out(materials, n_specimens, config.seed) if n_specimens else (materials, [])
    if n_specimens and not specimens:
        raise InputError(
            where, f"has too few structures ({len(materials)}) to keep specimens from.", "Give more, or patterns."
        )
    total = max(len(parents), config.augment_to)
    more = variants([(parents, total - len(parents))], config.seed, config.workers)
    return chain(tables(parents), more), total, specimens


def run(paths: dict[str, Any], config: CollectConfig, tracker: Tracker) -> str:
    """Collects, checks and writes both tables and the list of what was left out."""
    output, structures = paths["collected_structures"], str(paths.get("structures", ""))
    kept = config.materials_project.pages
    pages = Path(kept) if kept else output.with_name(output.name + ".pages")
    collected = collect(structures, paths.get("imperfect"), pages, config, paths.get("test"), paths.get("keep_out"))
    origin = structures_origin(structures)
    schema = with_sources(STRUCTURES, {"structures": origin})
    counts, remarks = write_structures(output, collected.library, collected.total, schema)
    schema = with_sources(PATTERNS, _patterns_origins(paths, origin))
    write_table(paths["collected_patterns"], _columns(collected.rows), schema)
    write_rejected(paths["rejected"], collected.rejected)
    if not kept:
        materials_project.remove_pages(pages)
    total, left_out = counts.total(), len(collected.rejected)
    say("structures: " + ", ".join(f"{counts[system]} {system}" for system in CRYSTAL_SYSTEMS))
    kept_out = sum(row.get("part") == "kept_out" for row in collected.rows)
    patterns = len(collected.rows) - kept_out
    if remarks:
        say(f"{remarks} structures contradicted themselves and were settled; the column remark says how")
    tracker.log_metrics({"structures": total, "patterns": patterns, "rejected": left_out, "remarks": remarks})
    unseen = f", {kept_out} materials that no classifier learns" if kept_out else ""
    return f"{total} structures, {patterns} imperfect patterns{unseen}" + (f"; {left_out} left out" if left_out else "")


def structures_origin(source: str) -> str:
    """Where structures come from, and their version or digest: ``minerals (xraylarch 0.9.66)``.

    Args:
        source: a path, one of NAMED_SOURCES, or nothing for the built-in ones.
    """
    if package := PACKAGES.get(source):
        return f"{source} ({package.name} {package.version})"
    if source == MATERIALS_PROJECT:
        return source
    if source and source != RANDOM:
        return _file_origin(Path(source))
    return f"{source or 'built-in'} (imitation-refinement {__version__})"


def _patterns_origins(paths: Mapping[str, Any], structures: str) -> dict[str, str]:
    given = {name: _file_origin(paths[name]) for name in ("imperfect", "test", "keep_out") if name in paths}
    return {"imperfect": f"specimens measured virtually, of {structures}", **given}


def _file_origin(path: Path) -> str:
    """A file's or a folder's own name and digest, which are the same on every machine."""
    return f"{path.name} (SHA-256 {digest(path)[:16]})"


def write_structures(
    path: Path, found: Iterable[pa.Table], total: int, schema: pa.Schema = STRUCTURES
) -> tuple[Counter[str], int]:
    """Writes tables as they come, whole or not at all.

    Returns:
        How many structures of each crystal system there are, and how many have a remark.
    """
    remarks = 0
    counts: Counter[str] = Counter()

    def counted() -> Iterator[pa.Table]:
        for table in _row_groups(found):
            nonlocal remarks
            counts.update(table["crystal_system"].to_pylist())
            remarks += table.num_rows - table["remark"].null_count
            yield table

    for _ in progress(written(path, schema, counted(), total), "structures", total, "structures"):
        pass
    return counts, remarks


def _row_groups(found: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of at least ROW_GROUP; the last may be smaller."""
    part: list[pa.Table] = []
    for table in found:
        part.append(table)
        if sum(t.num_rows for t in part) >= ROW_GROUP:
            yield pa.concat_tables(part).combine_chunks()
            part = []
    if part:
        yield pa.concat_tables(part).combine_chunks()


def tables(materials: Iterable[Material]) -> Iterator[pa.Table]:
    """Materials under the STRUCTURES contract, so many at a time as are turned into a table."""
    source = iter(materials)
    while part := list(islice(source, CHUNK)):
        yield to_table(_columns([material.row() for material in part]), STRUCTURES)


def _columns(rows: list[Row]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


STAGE = Stage(
    name="collect_structures",
    summary="Collects crystal structures and imperfect patterns into checked tables; what can't be used is listed.",
    inputs={
        "structures": f"Parquet table, folder or archive of CIFs, or a name: {', '.join(NAMED_SOURCES)}; built-in "
        "structures without it",
        "imperfect": "Parquet table or folder with manifest.csv, .xy and .cif files; virtual specimens without it",
        "test": "as imperfect: patterns to be tested on alone; those of imperfect are then only trained on",
        "keep_out": "as imperfect: patterns of materials that no classifier learns, to be tested on in another run",
    },
    outputs={
        "collected_structures": "the structures, Parquet; very many are a folder of files",
        "collected_patterns": "the imperfect patterns, Parquet",
        "rejected": "what was left out and why, CSV",
    },
    config=CollectConfig,
    run=run,
    optional=frozenset({"structures", "imperfect", "test", "keep_out"}),
)
