"""Preprocess: patterns on the common grid, maximum 1, in splits that keep a material on one side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.preprocess import alike
from components.preprocess.config import PreprocessConfig
from components.preprocess.split import TEST, TRAIN, grouped_split, groups_of, split_ideal
from imitation_refinement.data.contracts import (
    as_csv,
    gridded_schema,
    ideal_schema,
    matrix,
    measured_schema,
    null_rows,
    read_batches,
    read_columns,
    read_grid,
    read_remarked,
    read_sources,
    read_table,
    with_sources,
    write_rejected,
    write_table,
    written,
)
from imitation_refinement.data.datasets import scratch
from imitation_refinement.data.formula import but_for_hydrogen, one_material
from imitation_refinement.data.patterns import Pattern, check_coverage
from imitation_refinement.errors import InputError
from imitation_refinement.files import writing
from imitation_refinement.progress import progress, say
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid, convert_two_theta

ROWS_AT_A_TIME = 4096
IDENTITY = ("material_id", "formula", "crystal_system")
KEPT_OUT = "kept_out"  # the part of rows that are there for their material alone


def run(paths: dict[str, Any], config: PreprocessConfig, tracker: Tracker) -> str:
    """Runs the stage; see :data:`STAGE` for the files."""
    grid = read_grid(paths["imperfect"][0])
    imperfect, kept_out, rejected = _imperfect(paths["imperfect"], grid, config)
    schema = with_sources(gridded_schema(grid), read_sources(paths["imperfect"][0]))
    write_table(paths["imperfect_dataset"], imperfect, schema)
    ideal, twins = _ideal(paths["ideal"], imperfect, kept_out, grid, config)
    pairs_of = ideal.group_by(["formula", "split"]).aggregate([]).to_pydict()  # one each: a material is on one side
    split_of = dict(zip(pairs_of["formula"], pairs_of["split"], strict=True))
    _write_ideal(paths["ideal"], split_of, grid, paths["ideal_dataset"])
    _write_manifest(paths["manifest"], ideal, imperfect)
    write_rejected(paths["rejected"], rejected)
    counts = {
        f"{table}_{found['values']}": found["counts"]
        for table, splits in (("ideal", ideal["split"]), ("imperfect", pa.array(imperfect["split"])))
        for found in sorted(pc.value_counts(splits).to_pylist(), key=itemgetter("values"))
    }
    tracker.log_metrics(counts | {"identical_on_two_sides": twins})
    tracker.log_artifact(paths["manifest"], name="manifest.csv")
    say("patterns by split: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    training = (
        f"{counts.get('ideal_train', 0)} ideal and {counts.get('imperfect_train', 0)} imperfect patterns to learn from"
    )
    left_out = f"; {len(rejected)} left out" if rejected else ""
    return f"{training}, {counts.get('imperfect_test', 0)} to test on{left_out}"


def _write_manifest(path: Path, ideal: pa.Table, imperfect: Mapping[str, Any]) -> None:
    """Every id with its material, crystal system and split, a few thousand rows at a time."""
    names = ["table", "id", "formula", "crystal_system", "split", "identical_to"]

    def pieces() -> Iterator[pd.DataFrame]:
        for batch in ideal.rename_columns({"material_id": "id"}).to_batches(ROWS_AT_A_TIME):
            yield batch.to_pandas().assign(table="ideal")[names]
        columns = {name: imperfect[name] for name in ("formula", "crystal_system", "split")}
        yield pd.DataFrame(columns | {"id": imperfect["pattern_id"], "table": "imperfect"}).reindex(columns=names)

    with writing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for number, piece in enumerate(pieces()):
            stream.write(as_csv(piece, header=not number))


def _imperfect(
    shards: list[Path], grid: Grid, config: PreprocessConfig
) -> tuple[dict[str, Any], dict[str, Any], list[InputError]]:
    """Reads the imperfect patterns and puts them on the grid.

    Returns:
        The columns of the gridded table; the same of materials that no classifier may learn although none of these
        patterns is theirs (part ``kept_out``: rows for a name and a theory alone); why others were left out.
    """
    table = pa.concat_tables([read_table(shard, measured_schema(read_grid(shard, grid))) for shard in shards])
    kept_out = pc.fill_null(pc.equal(table["part"], KEPT_OUT), False)
    unseen, table = table.filter(kept_out), table.filter(pc.invert(kept_out))
    table = table.sort_by("pattern_id")
    theory = matrix(table["theory"], grid.points)
    rows = table.drop_columns(["theory"]).to_pandas()
    kept, patterns, scales, peaks, rejected = [], [], [], [], []
    for index, row in enumerate(progress(rows.itertuples(), "onto the grid", len(rows), "patterns")):
        where = f"pattern {row.pattern_id}"
        try:
            pattern = Pattern(row.pattern_id, row.two_theta, row.intensity, row.wavelength, where=where)
            check_coverage(pattern, grid, config.min_coverage)
        except InputError as error:
            rejected.append(error)
            continue
        gridded = grid.resample(row.two_theta, row.intensity, row.wavelength)
        if (scale := float(gridded.max())) <= 0:
            rejected.append(InputError(where, "is zero everywhere on the grid.", "Leave it out or measure it again."))
            continue
        kept.append(index)
        patterns.append(gridded / scale)
        scales.append(scale)
        peaks.append(_convert(row.theory_two_theta, row.wavelength, grid))
    if not kept:
        raise InputError(shards[0], f"no pattern is left; the first: {rejected[0]}")
    rows, theory = rows.iloc[kept], theory[kept]
    labels = rows["crystal_system"].to_numpy(object)
    if unknown := {str(x) for x in labels if x is not None and pd.notna(x)} - set(CRYSTAL_SYSTEMS):
        raise InputError(shards[0], f"unknown crystal_system {sorted(unknown)}.", f"Use {', '.join(CRYSTAL_SYSTEMS)}.")
    labelled = pd.notna(rows["crystal_system"]).to_numpy()
    alone = (rows["part"] == TEST).to_numpy()  # given to be tested on
    # A pattern of an unknown material is a material of its own.
    material = rows["formula"].where(rows["formula"].notna(), rows["pattern_id"]).to_numpy(str)
    intensity = np.stack(patterns)
    group = _groups(material, pd.isna(rows["formula"]).to_numpy(), intensity, theory, grid)
    split = np.full(len(rows), TRAIN, dtype="<U10")  # without a label: non-targeted training only
    split[alone] = TEST
    like_test = ~alone & np.isin(group, group[alone])
    free = labelled & ~alone & ~like_test
    if free.any():
        split[free] = grouped_split(group[free], labels[free].astype(str), config.folds, config.seed, shards[0])
        if alone.any():
            split[free & (split == TEST)] = TRAIN
    # Training would see a material that is tested on, or validated on where a pattern has no label.
    told = np.isin(group, group[labelled & (split != TRAIN)])
    reasons = (
        (alone & ~labelled, "is to be tested on, but unlabelled."),
        (like_test, "is of a material that is tested on alone, or looks like it."),
        (~alone & ~labelled & told, "is unlabelled, of a material of the test part."),
    )
    keep = np.ones(len(rows), bool)
    for leaking, problem in reasons:
        rejected += [
            InputError(f"pattern {i}", problem, "Give its crystal_system, or leave it out.")
            for i in rows["pattern_id"][keep & leaking]
        ]
        keep &= ~leaking
    columns: dict[str, Any] = {
        name: rows[name].to_numpy(object)[keep] for name in rows if name in gridded_schema(grid).names
    }
    columns |= {
        "formula": material[keep],
        "split": split[keep],
        "theory_two_theta": [p for p, k in zip(peaks, keep, strict=True) if k],
        "scale": np.asarray(scales)[keep],
        "intensity": intensity[keep],
        "theory": null_rows(theory[keep]),
    }
    return columns, {name: unseen[name] for name in ("formula", "theory")}, rejected


def _groups(
    material: NDArray[np.str_],
    unknown: NDArray[np.bool_],
    intensity: NDArray[np.float32],
    theory: NDArray[np.float32],
    grid: Grid,
) -> NDArray[np.str_]:
    """What must stay on one side: a material, patterns that look like it, and those whose theory is the same."""
    same = one_material(material)
    group = groups_of(np.array([same.get(name, name) for name in material]), unknown, intensity, grid.step)
    known = np.flatnonzero(~np.isnan(theory[:, 0]))
    found = alike.shapes(theory[known], grid.step)
    names, number = np.unique(material[known], return_inverse=True)
    pairs = alike.pairs_to_join(names.tolist(), number, found, alike.identical_pairs(found, number), of_all=True)
    pairs = known[pairs]
    if of_others := int((group[pairs[:, 0]] != group[pairs[:, 1]]).sum()):
        say(f"{of_others} pairs of materials of imperfect patterns have one theory: kept on one side")
    # Nothing but its name tells what a pattern without a structure is, and names lose their hydrogen.
    family_of = but_for_hydrogen(material)
    family = np.array([family_of.get(name, name) for name in material])
    first = {name: row for row, name in reversed(list(enumerate(family)))}
    unsure = np.flatnonzero(np.isin(family, family[np.isnan(theory[:, 0])]))
    by_name = np.array([(row, first[family[row]]) for row in unsure], np.intp).reshape(-1, 2)
    return alike.joined(group, np.concatenate([pairs, by_name]))


def _convert(two_theta: NDArray[np.float64] | None, wavelength: float, grid: Grid) -> NDArray[np.float64] | None:
    """Theoretical peaks at the grid's wavelength; out of its reach they stand at 180°."""
    if two_theta is None:
        return None
    return np.nan_to_num(convert_two_theta(two_theta, wavelength, grid.wavelength), nan=180.0)


def _ideal(
    shards: list[Path], imperfect: Mapping[str, Any], kept_out: Mapping[str, Any], grid: Grid, config: PreprocessConfig
) -> tuple[pa.Table, int]:
    """Identity and split of every ideal pattern in the order of the shards' rows; near-identical pairs on two sides.

    Set aside are the materials of the imperfect patterns and those that are kept out, by name and by theory. What is
    left on two sides are other compounds that nobody could tell apart; ``identical_to`` names one.
    """
    tables = (read_columns(shard, ideal_schema(grid), IDENTITY) for shard in shards)
    rows = pa.concat_tables(tables).unify_dictionaries()
    apart = [*imperfect["formula"], *kept_out["formula"].to_pylist()]
    theories = pa.chunked_array([imperfect["theory"]]), kept_out["theory"]
    theory = np.concatenate([matrix(column, grid.points) for column in theories])
    known = np.flatnonzero(~np.isnan(theory[:, 0]))
    # In the order of the ids, so that sharded and unsharded data are split alike.
    order = pc.sort_indices(rows["material_id"]).to_numpy()
    rows, n = rows.take(order), len(rows)
    place = np.argsort(order)

    # A material is its number among the names, in their order; that of a theory that is set apart comes after all.
    names = sorted({*rows["formula"].unique().to_pylist(), *apart})
    material, own = _numbered(rows["formula"], names), _numbered(pa.array(apart, pa.string()), names)
    same = one_material(names)
    name_of = _numbered(pa.array([same.get(name, name) for name in names], pa.string()), names)
    family_of = but_for_hydrogen(names)
    unsure = {family_of[apart[i]] for i in np.flatnonzero(np.isnan(theory[:, 0])) if apart[i] in family_of}
    like_apart = np.array([family_of.get(name) in unsure for name in names], bool)
    by_name = (np.isin(name_of, name_of[own]) | like_apart)[material]

    # Ideal patterns first, then the theory of what is set apart.
    found = _shapes(shards, place, theory[known], grid)
    everything = np.concatenate([material, len(names) + own[known]])
    identical = alike.identical_pairs(found, everything)
    across = alike.pairs_to_join([*names, *names], everything, found, identical, of_all=True)
    by_theory = by_name.copy()
    by_theory[across[(across < n).sum(axis=1) == 1].min(axis=1)] = True
    identical = identical[(identical < n).all(axis=1)]
    within = alike.pairs_to_join(names, material, found[:n], identical)
    group = alike.joined(name_of[material], within)
    labels = _numbered(rows["crystal_system"], sorted(CRYSTAL_SYSTEMS))
    split = split_ideal(group, labels, by_theory, config.folds, config.seed, shards[0])
    if more := int(np.isin(group, group[by_theory]).sum() - np.isin(group, group[by_name]).sum()):
        say(f"{more} ideal patterns are set aside since they are the theory of imperfect ones of other names")

    parted = identical[split[identical[:, 0]] != split[identical[:, 1]]]
    ids, twin = rows["material_id"], np.full(n, -1)
    for one, other in (parted.T, parted.T[::-1]):
        twin[one] = other
    example = (
        f", as {ids[int(parted[0, 0])]} and {ids[int(parted[0, 1])]}: see identical_to in the manifest"
        if len(parted)
        else ""
    )
    say(f"near-identical ideal patterns of other compounds on two sides of the split: {len(parted)} pairs{example}")
    rows = rows.append_column("split", pa.array(split).dictionary_encode())
    rows = rows.append_column("identical_to", ids.take(pa.array(twin, mask=twin < 0)))
    return rows.take(place), len(parted)


def _numbered(values: pa.Array | pa.ChunkedArray, names: Sequence[str]) -> NDArray[np.int32]:
    """The place of each value among the names, shape (n,)."""
    return np.asarray(pc.index_in(values, value_set=pa.array(names, pa.string())).to_numpy())


def _shapes(
    shards: list[Path], place: NDArray[np.int64], theory: NDArray[np.float32], grid: Grid
) -> NDArray[np.float16]:
    """The shapes of all ideal patterns, each at its place, and of theory after them.

    They are in a file that goes with this process, of which the system keeps in memory what there is room for.
    """
    last = alike.shapes(theory, grid.step)
    found = scratch((len(place) + len(last), last.shape[1]), np.float16)
    found[len(place) :] = last
    first = 0
    for shard in shards:
        for batch in read_batches(shard, ideal_schema(read_grid(shard, grid)), ROWS_AT_A_TIME):
            patterns = matrix(pa.chunked_array([batch["intensity"]]), grid.points)
            found[place[first : first + len(batch)]] = alike.shapes(patterns, grid.step)
            first += len(batch)
    return found


def _write_ideal(shards: list[Path], split_of: Mapping[str, str], grid: Grid, path: Path) -> None:
    """Shards of the ideal schema with the splits of their materials, a few thousand rows at a time."""
    remarked = sum(read_remarked(shard) for shard in shards)
    schema = with_sources(ideal_schema(grid, remarked), read_sources(shards[0]))
    for shard in shards:
        read_grid(shard, grid)
    total = sum(pq.read_metadata(shard).num_rows for shard in shards)
    batches = (batch for shard in shards for batch in read_batches(shard, schema, ROWS_AT_A_TIME))
    tables = (_with_splits(batch, split_of, schema) for batch in batches)
    for _ in progress(written(path, schema, tables, total), "ideal patterns", total, "patterns"):
        pass


def _with_splits(batch: pa.RecordBatch, split_of: Mapping[str, str], schema: pa.Schema) -> pa.Table:
    """Rows with the splits of their materials."""
    table = pa.Table.from_batches([batch])
    split = pa.array([split_of[name] for name in table["formula"].to_pylist()], pa.string())
    return table.set_column(table.schema.get_field_index("split"), schema.field("split"), split).cast(schema)


STAGE = Stage(
    name="preprocess",
    summary="Puts patterns on the common grid, normalises them to maximum 1, and splits them by material, 9:1.",
    inputs={
        "ideal": "gridded ideal patterns, one or more shards (Parquet)",
        "imperfect": "imperfect patterns with their theory, one or more shards (Parquet)",
    },
    outputs={
        "ideal_dataset": "gridded ideal patterns with their splits (Parquet; very many are a folder of files)",
        "imperfect_dataset": "gridded imperfect patterns with their splits and theory (Parquet)",
        "manifest": "every id with its material, crystal system and split (CSV)",
        "rejected": "patterns left out, with the reason (CSV)",
    },
    config=PreprocessConfig,
    run=run,
    lists=frozenset({"ideal", "imperfect"}),
)
