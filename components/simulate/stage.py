"""The simulate stage: ideal patterns of structures, and theory and virtual measurements of imperfect patterns."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.simulate import painting
from components.simulate.config import DISPERSION, SimulateConfig
from components.simulate.form_factors import MAX_Z
from components.simulate.kernel import Structures, peaks, unsupported
from components.simulate.library import entries
from components.simulate.virtual import Specimens, has_structure
from imitation_refinement.answer.library import LIBRARY
from imitation_refinement.data.contracts import (
    PATTERNS,
    STRUCTURES,
    ideal_schema,
    measured_schema,
    null_rows,
    read_batches,
    read_sources,
    read_table,
    to_table,
    with_sources,
    write_rejected,
    writer_of,
)
from imitation_refinement.errors import InputError
from imitation_refinement.files import writing
from imitation_refinement.progress import progress, say
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.xrd.grid import Grid, convert_two_theta
from imitation_refinement.xrd.line import REACH

CHUNK = 256  # rows at a time
GROUP = 8 << 20  # bytes of a row group of the output, at least: what is known of each, a reader has in memory
LEAST, MOST = 0.01, 179.9  # 2θ [°] that is asked for at all
OUT_OF_REACH = 360.0  # 2θ [°] of a line that the grid's wavelength can't reach: nowhere near the grid
T = TypeVar("T")
R = TypeVar("R")


def run(paths: dict[str, Any], config: SimulateConfig, tracker: Tracker) -> str:
    """Simulates one shard of both tables."""
    rejected: list[InputError] = []
    numbers = {}
    for work, source, target in (
        (_ideal, "structures", "ideal"),
        (_library, "structures", "library"),
        (_imperfect, "patterns", "imperfect"),
    ):
        if target not in paths:
            continue
        start = time.monotonic()
        written, bad = work(paths[source], paths[target], config)
        rate = written / (time.monotonic() - start)
        tracker.log_metrics(
            {f"{target}_patterns": written, f"{target}_rejected": len(bad), f"{target}_patterns_per_s": rate}
        )
        rejected += bad
        numbers[target] = written
    for error in rejected:
        say(f"left out: {error}")
    if "rejected" in paths:
        write_rejected(paths["rejected"], rejected)
    left_out = f"; {len(rejected)} left out" if rejected else ""
    return f"{numbers['ideal']} ideal and {numbers['imperfect']} imperfect patterns{left_out}"


def _ideal(source: Path, target: Path, config: SimulateConfig) -> tuple[int, list[InputError]]:
    """Ideal patterns of a shard of the structures; returns (patterns written, structures left out)."""
    grid, reach = config.grid, REACH * config.profile.fwhm
    remarks = [chunk["remark"] for _, chunk in _own_rows(source, config, ["remark"])]
    n_rows, remarked = sum(map(len, remarks)), sum(len(chunk) - chunk.null_count for chunk in remarks)
    schema = with_sources(ideal_schema(grid, remarked), read_sources(source))
    low, high = max(LEAST, grid.start - reach), min(MOST, grid.stop + reach)

    def simulate(part: tuple[int, pa.Table]) -> tuple[pa.Table, list[InputError]]:
        first, chunk = part
        if not (there := has_structure(chunk)).all():
            row = first + config.shards * int(np.flatnonzero(~there)[0])
            remedy = "Give the table that collect_structures writes."
            raise InputError(source, f"row {row} has no lattice or sites.", remedy)
        structures = Structures.from_arrow(chunk)
        usable = ~unsupported(structures, config.mode)
        found = peaks(structures.select(usable), grid.wavelength, low, high, config.mode)
        patterns = painting.paint(found, grid, config.profile)
        seen, rows = patterns.max(axis=1, initial=0) > 0, np.flatnonzero(usable)
        bad = [_no_factors(source, chunk["material_id"][int(i)], config) for i in np.flatnonzero(~usable)]
        bad += [_no_peaks(source, chunk["material_id"][int(i)], grid) for i in rows[~seen]]
        kept = chunk.select(["material_id", "formula", "crystal_system"]).take(rows[seen])
        columns = dict(zip(kept.column_names, kept.columns, strict=True))
        return to_table({**columns, "intensity": patterns[seen]}, schema), bad

    parts = _own_rows(source, config)
    return _stream(simulate, parts, n_rows, target, schema, "ideal patterns", config.threads)


def _library(source: Path, target: Path, config: SimulateConfig) -> tuple[int, list[InputError]]:
    """The lines of a shard's structures; returns (entries written, none left out that has an ideal pattern)."""

    def simulate(part: tuple[int, pa.Table]) -> tuple[pa.Table, list[InputError]]:
        _, chunk = part
        structures = Structures.from_arrow(chunk)
        usable = ~unsupported(structures)
        made = entries(chunk.filter(pa.array(usable)), structures.select(usable))
        return pa.Table.from_pylist(made, schema=LIBRARY), []

    schema = with_sources(LIBRARY, read_sources(source))
    n_rows = sum(len(chunk) for _, chunk in _own_rows(source, config, ["material_id"]))
    return _stream(simulate, _own_rows(source, config), n_rows, target, schema, "library", config.threads)


def _own_rows(
    source: Path, config: SimulateConfig, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """A shard's rows of the structures, :data:`CHUNK` at a time, each after the number of its first in the table."""
    first = 0
    for batch in read_batches(source, STRUCTURES, CHUNK * config.shards, columns):
        own = np.arange((config.shard - first) % config.shards, len(batch), config.shards)
        if len(own):
            yield first + int(own[0]), pa.Table.from_batches([batch]).take(own)
        first += len(batch)
    if not first:
        raise InputError(source, "has no rows.", "Give at least one.")


def _imperfect(source: Path, target: Path, config: SimulateConfig) -> tuple[int, list[InputError]]:
    """A shard of the imperfect patterns, filled; returns (patterns written, rows left out)."""
    everything = read_table(source, PATTERNS)
    rows = np.arange(config.shard, everything.num_rows, config.shards)
    specimens = Specimens.of(everything, "pattern_id", config.mode)

    def fill(start: int) -> tuple[pa.Table, list[InputError]]:
        return _filled(everything, rows[start : start + CHUNK], specimens, source, config)

    starts = range(0, len(rows), CHUNK)
    schema = with_sources(measured_schema(config.grid), read_sources(source))
    return _stream(fill, starts, len(rows), target, schema, "imperfect patterns", config.threads)


def _filled(
    everything: pa.Table, rows: NDArray[np.int64], specimens: Specimens, source: Path, config: SimulateConfig
) -> tuple[pa.Table, list[InputError]]:
    """Some rows of the patterns' table, with measurements and theory where they were missing."""
    chunk = everything.take(rows)
    known = np.flatnonzero(has_structure(chunk))
    structures = Structures.from_arrow(chunk.take(known))
    usable = ~unsupported(structures, config.mode)
    structures, slots = structures.select(usable), {i: n for n, i in enumerate(known[usable].tolist())}
    bad = [_no_factors(source, chunk["pattern_id"][int(i)], config) for i in known[~usable]]
    virtual = np.flatnonzero(chunk["two_theta"].is_null().to_numpy())
    columns = {name: chunk[name].to_pylist() for name in ("wavelength", "parameters")}
    for name in ("two_theta", "intensity"):
        columns[name] = [v.values.to_numpy() if v.is_valid else None for v in chunk[name]]
    for i in virtual.tolist():
        if i in slots:
            row = int(rows[i])
            if (lines := specimens.lines(row, config)) is None:
                bad.append(_no_lines(source, chunk["pattern_id"][i], config))
                continue
            found = specimens.measure(row, lines, [config.seed, row], config)
            columns["two_theta"][i], columns["intensity"][i] = found.two_theta, found.counts
            columns["wavelength"][i] = config.instrument.wavelength
            columns["parameters"][i] = found.parameters.to_json()
        elif i not in known:
            problem = f"{chunk['pattern_id'][int(i)]} has neither angles nor a structure."
            bad.append(InputError(source, problem, "Give one of them."))
    for i, wavelength in [(i, columns["wavelength"][i]) for i in slots]:
        if config.mode != "pymatgen" and wavelength and not DISPERSION[0] <= wavelength <= DISPERSION[1]:
            bad.append(_no_dispersion(source, chunk["pattern_id"][i], wavelength))
            del slots[i]
    columns |= _theory(columns["two_theta"], columns["wavelength"], slots, structures, config)
    schema = measured_schema(config.grid)
    rest = {name: chunk[name] for name in PATTERNS.names if name in chunk.column_names and name not in columns}
    filled = to_table({**rest, **columns}, schema)
    return filled.filter(pc.is_valid(filled["two_theta"])), bad


def _theory(
    two_theta: list[NDArray[np.float64] | None],
    wavelengths: list[float | None],
    slots: dict[int, int],
    structures: Structures,
    config: SimulateConfig,
) -> dict[str, Any]:
    """The theory columns: peaks of the rows with a structure, and those painted on the grid.

    Peaks are at each row's own wavelength, over its own range and the grid's.
    """
    n, grid, reach = len(two_theta), config.grid, REACH * config.profile.fwhm
    angles: list[NDArray[np.float64] | None] = [None] * n
    heights: list[NDArray[np.float64] | None] = [None] * n
    painted = np.full((n, grid.points), np.nan, np.float32)
    spans = {i: axis[[0, -1]] for i in slots if (axis := two_theta[i]) is not None}
    for wavelength in sorted({w for i in spans if (w := wavelengths[i])}):
        rows = [i for i in spans if wavelengths[i] == wavelength]
        ends = convert_two_theta([grid.start, grid.stop], grid.wavelength, wavelength)
        ends = np.where(np.isfinite(ends), ends, MOST)
        low = np.minimum(ends[0], [spans[i][0] for i in rows]) - reach
        high = np.maximum(ends[1], [spans[i][1] for i in rows]) + reach
        part = structures.select([slots[i] for i in rows])
        found = peaks(part, wavelength, np.maximum(low, LEAST), np.minimum(high, MOST), config.mode)
        for slot, i in enumerate(rows):
            angles[i], heights[i] = found[slot]
        on_grid = np.nan_to_num(convert_two_theta(found.two_theta, wavelength, grid.wavelength), nan=OUT_OF_REACH)
        painted[rows] = painting.paint(replace(found, two_theta=on_grid), grid, config.profile)
    painted[painted.max(axis=1) == 0] = np.nan
    return {"theory_two_theta": angles, "theory_intensity": heights, "theory": null_rows(painted)}


def _stream(
    work: Callable[[T], tuple[pa.Table, list[InputError]]],
    parts: Iterable[T],
    total: int,
    target: Path,
    schema: pa.Schema,
    label: str,
    threads: int,
) -> tuple[int, list[InputError]]:
    """Works through ``parts`` in threads and writes each result in order; returns (rows written, rows left out).

    Only a few parts are in memory at a time.
    """
    bad: list[InputError] = []

    def rows() -> Iterator[int]:
        waiting: list[pa.Table] = []
        for table, errors in _in_threads(work, parts, threads or len(os.sched_getaffinity(0))):
            waiting.append(table)
            if sum(one.nbytes for one in waiting) >= GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()
            bad.extend(errors)
            yield from range(table.num_rows)
        if waiting:
            writer.write_table(pa.concat_tables(waiting))

    with writing(target) as temporary, writer_of(temporary, schema) as writer:
        written = sum(1 for _ in progress(rows(), label, total, "patterns"))
    return written, bad


def _in_threads(work: Callable[[T], R], parts: Iterable[T], threads: int) -> Iterator[R]:
    """``map(work, parts)`` in threads, in order, with at most twice as many results waiting as there are threads."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _no_factors(source: Path, identifier: pa.Scalar, config: SimulateConfig) -> InputError:
    last = MAX_Z[config.mode]
    problem = f"{identifier} holds an element without form factors; there are some for atomic numbers 1 to {last}."
    return InputError(source, problem, "Leave this structure out.")


def _no_dispersion(source: Path, identifier: pa.Scalar, wavelength: float) -> InputError:
    low, high = DISPERSION
    problem = (
        f"the theory of {identifier}, as there is no dispersion at {wavelength} Å; there is from {low} to {high} Å."
    )
    return InputError(source, problem, "Choose mode pymatgen for theory without dispersion.")


def _no_peaks(source: Path, identifier: pa.Scalar, grid: Grid) -> InputError:
    problem = f"{identifier} has no reflection between {grid.start} and {grid.stop}° at {grid.wavelength} Å."
    return InputError(source, problem, "Leave this structure out or widen the grid.")


def _no_lines(source: Path, identifier: pa.Scalar, config: SimulateConfig) -> InputError:
    last, wavelength = config.instrument.stop, config.instrument.wavelength
    problem = f"{identifier} has no reflection up to {last}° at {wavelength} Å, where it would be measured virtually."
    return InputError(source, problem, "Leave this structure out or give the virtual diffractometer more range.")


STAGE = Stage(
    name="simulate",
    summary="Simulates ideal patterns of structures, and theory and virtual measurements of imperfect patterns.",
    inputs={
        "structures": "structures (Parquet, from collect_structures)",
        "patterns": "imperfect patterns, measured or still to be measured virtually (Parquet, from collect_structures)",
    },
    outputs={
        "ideal": "gridded ideal patterns of the structures (Parquet)",
        "imperfect": "the imperfect patterns, all measured, with the theory of those that have a structure (Parquet)",
        "library": "lines of the structures, a library to search in (Parquet)",
        "rejected": "what was left out and why (CSV)",
    },
    optional=frozenset({"library", "rejected"}),
    config=SimulateConfig,
    run=run,
)
