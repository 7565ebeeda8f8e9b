"""Splits that keep a material on one side, patterns on the grid, and what is left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from components.preprocess.split import grouped_split, groups_of, split_ideal
from components.preprocess.stage import STAGE
from imitation_refinement.data.contracts import (
    ideal_schema,
    measured_schema,
    null_rows,
    read_gridded,
    read_remarked,
    write_table,
)
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid

GRID = Grid(points=128)
N_IDEAL, N_IMPERFECT = 280, 140
SYSTEMS = [str(s) for s in CRYSTAL_SYSTEMS]


def ideal_columns() -> dict[str, Any]:
    """Two structures of each formula; every fourth formula is also measured."""
    rng = np.random.default_rng(0)
    patterns = rng.random((N_IDEAL, 128), dtype=np.float32)
    return {
        "material_id": [f"m{i:03}" for i in range(N_IDEAL)],
        "formula": [f"X{i // 2}" if i // 2 % 4 else f"Y{i // 8}" for i in range(N_IDEAL)],
        "crystal_system": [SYSTEMS[i // 2 % 7] for i in range(N_IDEAL)],
        "intensity": patterns / patterns.max(1, keepdims=True),
    }


def imperfect_columns() -> dict[str, Any]:
    """Two patterns of each formula, finer than the grid."""
    rng = np.random.default_rng(1)
    theory = rng.random((N_IMPERFECT, 128), dtype=np.float32)
    theory[::5] = np.nan
    return {
        "pattern_id": [f"p{i:03}" for i in range(N_IMPERFECT)],
        "formula": [f"Y{i // 2}" for i in range(N_IMPERFECT)],
        "crystal_system": [SYSTEMS[i // 2 % 7] for i in range(N_IMPERFECT)],
        "two_theta": [np.arange(5, 90, 0.1)] * N_IMPERFECT,
        "intensity": [rng.poisson(50, 850).astype(float) * (i + 1) for i in range(N_IMPERFECT)],
        "wavelength": [1.5406] * N_IMPERFECT,
        "origin": ["file"] * N_IMPERFECT,
        "theory_two_theta": [[20.0, 40.0]] * N_IMPERFECT,
        "theory_intensity": [[100.0, 50.0]] * N_IMPERFECT,
        "theory": theory,
    }


def part(columns: dict[str, Any], rows: slice) -> dict[str, Any]:
    return {name: values[rows] for name, values in columns.items()}


def write(folder: Path, ideal: dict[str, Any], imperfect: dict[str, Any], shards: int = 1) -> dict[str, Any]:
    """The tables in shards, as simulate writes them."""
    paths: dict[str, Any] = {"ideal": [], "imperfect": []}
    tables = [("ideal", ideal, ideal_schema), ("imperfect", imperfect, measured_schema)]
    for i in range(shards):
        for name, columns, schema in tables:
            rows = part(columns, slice(i, None, shards))
            if name == "imperfect":
                rows["theory"] = null_rows(rows["theory"])
            path = folder / f"{name}-{i}.parquet"
            write_table(path, rows, schema(GRID))
            paths[name].append(str(path))
    return paths


def preprocess(folder: Path, paths: dict[str, Any], **config: Any) -> dict[str, Any]:
    """Runs the stage; returns its tables."""
    out = {
        "ideal_dataset": folder / "out" / "ideal.parquet",
        "imperfect_dataset": folder / "out" / "imperfect.parquet",
        "manifest": folder / "out" / "manifest.csv",
        "rejected": folder / "out" / "rejected.csv",
    }
    STAGE.execute({**paths, **out}, config)
    found: dict[str, Any] = {"manifest": pd.read_csv(out["manifest"]), "rejected": pd.read_csv(out["rejected"])}
    for kind in ("ideal", "imperfect"):
        rows, grid, patterns = read_gridded(out[f"{kind}_dataset"], kind)
        assert grid == GRID
        found[kind] = rows
        found[f"{kind}_patterns"] = patterns
    return found


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, Any]:
    return preprocess(tmp_path, write(tmp_path, ideal_columns(), imperfect_columns()))


def by_split(rows: pd.DataFrame, column: str = "formula") -> dict[str, set[str]]:
    return {str(split): set(group[column]) for split, group in rows.groupby("split")}


def test_no_material_on_both_sides(whole: dict[str, Any]) -> None:
    for kind in ("ideal", "imperfect"):
        parts = by_split(whole[kind])
        assert {"train", "validation", "test"} <= set(parts)
        for a in parts:
            for b in parts:
                assert a == b or not parts[a] & parts[b], (kind, a, b)


def test_materials_of_the_imperfect_set_are_held_out_of_the_ideal_one(whole: dict[str, Any]) -> None:
    imperfect = set(whole["imperfect"]["formula"])
    rows = whole["ideal"]
    assert (rows["split"].eq("held_out") == rows["formula"].isin(imperfect)).all()
    assert rows["split"].eq("held_out").sum() > 20
    seen = rows["formula"][rows["split"] != "held_out"]
    assert not set(seen) & imperfect


def test_splits_are_nine_to_one_and_stratified(whole: dict[str, Any]) -> None:
    rows = whole["imperfect"]
    counts = rows["split"].value_counts()
    assert counts["test"] == pytest.approx(N_IMPERFECT / 10, abs=2)
    assert counts["validation"] == pytest.approx(N_IMPERFECT / 10, abs=2)
    for split in ("test", "validation"):
        assert Counter(rows["crystal_system"][rows["split"] == split]).keys() == set(SYSTEMS)


def test_patterns_have_their_maximum_at_1_and_keep_their_scale(whole: dict[str, Any]) -> None:
    rows, patterns = whole["imperfect"], whole["imperfect_patterns"]
    assert patterns["intensity"].max(1) == pytest.approx(1)
    columns = imperfect_columns()
    for i in (0, 7, 139):
        expected = GRID.resample(columns["two_theta"][i], columns["intensity"][i], 1.5406)
        np.testing.assert_allclose(patterns["intensity"][i] * rows["scale"][i], expected, rtol=1e-5)
    np.testing.assert_array_equal(patterns["theory"], columns["theory"])
    np.testing.assert_array_equal(whole["ideal_patterns"]["intensity"], ideal_columns()["intensity"])


def test_manifest_names_every_pattern(whole: dict[str, Any]) -> None:
    manifest = whole["manifest"]
    assert list(manifest) == ["table", "id", "formula", "crystal_system", "split", "identical_to"]
    ids = {"ideal": whole["ideal"]["material_id"], "imperfect": whole["imperfect"]["pattern_id"]}
    for table, rows in manifest.groupby("table"):
        assert sorted(rows["id"]) == sorted(ids[str(table)])
        split = dict(zip(ids[str(table)], whole[str(table)]["split"], strict=True))
        assert all(split[i] == s for i, s in zip(rows["id"], rows["split"], strict=True))
    assert len(whole["rejected"]) == 0


@pytest.mark.parametrize("shards", [2, 5])
def test_sharded_is_unsharded(whole: dict[str, Any], tmp_path: Path, shards: int) -> None:
    folder = tmp_path / "sharded"
    sharded = preprocess(folder, write(folder, ideal_columns(), imperfect_columns(), shards))
    for kind, key in (("ideal", "material_id"), ("imperfect", "pattern_id")):
        order, expected = sharded[kind][key].argsort(), whole[kind][key].argsort()
        pd.testing.assert_frame_equal(
            sharded[kind].iloc[order].reset_index(drop=True), whole[kind].iloc[expected].reset_index(drop=True)
        )
        for name, patterns in sharded[f"{kind}_patterns"].items():
            np.testing.assert_array_equal(patterns[order], whole[f"{kind}_patterns"][name][expected])


def test_remarks_of_all_shards_are_counted(tmp_path: Path) -> None:
    paths = write(tmp_path, ideal_columns(), imperfect_columns(), 3)
    for shard, remarked in zip(paths["ideal"], (4, 0, 7), strict=True):
        pq.write_table(pq.read_table(shard).cast(ideal_schema(GRID, remarked)), shard)
    preprocess(tmp_path, paths)
    assert read_remarked(tmp_path / "out" / "ideal.parquet") == 11


def test_seed(whole: dict[str, Any], tmp_path: Path) -> None:
    paths = write(tmp_path, ideal_columns(), imperfect_columns())
    again = preprocess(tmp_path / "again", paths)
    other = preprocess(tmp_path / "other", paths, seed=1)
    for kind in ("ideal", "imperfect"):
        assert again[kind]["split"].equals(whole[kind]["split"])
        assert not other[kind]["split"].equals(whole[kind]["split"])


def test_unlabelled_patterns_are_for_training_only(tmp_path: Path) -> None:
    imperfect = imperfect_columns()
    unlabelled = range(1, N_IMPERFECT, 4)  # the second one of every other material
    for i in unlabelled:
        imperfect["crystal_system"][i] = None
    for i in (1, 9):
        imperfect["formula"][i] = None
    found = preprocess(tmp_path, write(tmp_path, ideal_columns(), imperfect))
    rows = found["imperfect"]
    assert (rows["split"][rows["crystal_system"].isna()] == "train").all()
    told = set(rows["formula"][rows["split"] != "train"])
    assert not told & set(rows["formula"][rows["split"] == "train"])
    left_out = {f"p{i:03}" for i in unlabelled if imperfect["formula"][i] in told}
    assert left_out and set(found["rejected"]["item"]) == {f"pattern {i}" for i in left_out}
    assert found["rejected"]["reason"].str.contains("unlabelled").all()
    assert set(rows["pattern_id"]) | left_out == {f"p{i:03}" for i in range(N_IMPERFECT)}
    # A pattern of an unknown material is a material of its own.
    assert set(rows["formula"][rows["pattern_id"].isin(["p001", "p009"])]) == {"p001", "p009"}


def test_nothing_but_unlabelled_patterns(tmp_path: Path) -> None:
    imperfect = {**imperfect_columns(), "crystal_system": [None] * N_IMPERFECT}
    found = preprocess(tmp_path, write(tmp_path, ideal_columns(), imperfect))
    assert (found["imperfect"]["split"] == "train").all() and len(found["imperfect"]) == N_IMPERFECT


def test_patterns_that_miss_the_grid_are_listed(tmp_path: Path) -> None:
    imperfect = imperfect_columns()
    imperfect["two_theta"][3] = np.linspace(5, 15, 850)
    imperfect["wavelength"][4] = 0.2  # 5 to 90° there are 39° and more here
    imperfect["two_theta"][5] = np.linspace(100, 150, 850)
    imperfect["intensity"][6] = np.where(np.arange(850) < 840, 0.0, 1e-30)
    paths = write(tmp_path, ideal_columns(), imperfect)
    found = preprocess(tmp_path, paths, min_coverage=0.7)
    rejected = found["rejected"].set_index("item")
    assert set(rejected.index) == {"pattern p003", "pattern p004", "pattern p005"}
    assert rejected["reason"].str.contains("covers").all() and rejected["remedy"].notna().all()
    assert len(found["imperfect"]) == N_IMPERFECT - 3
    assert not {"p003", "p004", "p005"} & set(found["manifest"]["id"])


def test_a_gap_is_not_measured(tmp_path: Path) -> None:
    """A third of the axis is missing in one pattern, two thirds in another."""
    imperfect = imperfect_columns()
    for i, last in ((3, 55), (5, 75)):
        x, y = np.arange(5, 90, 0.1), imperfect["intensity"][i]
        there = (x < 20) | (x > last)
        imperfect["two_theta"][i], imperfect["intensity"][i] = x[there], y[there]
    found = preprocess(tmp_path, write(tmp_path, ideal_columns(), imperfect), min_coverage=0.5)
    assert found["rejected"]["item"].tolist() == ["pattern p005"]
    assert "without points from 20 to 75.1°, and covers 35 %" in found["rejected"]["reason"][0]
    (row,) = np.flatnonzero(found["imperfect"]["pattern_id"] == "p003")
    missing = (GRID.two_theta > 20.5) & (GRID.two_theta < 54.5)
    pattern = found["imperfect_patterns"]["intensity"][row]
    assert not pattern[missing].any() and pattern[GRID.two_theta < 19].min() > 0


def test_theory_peaks_go_to_the_grids_wavelength(tmp_path: Path) -> None:
    imperfect = imperfect_columns()
    imperfect["wavelength"][0] = 1.2
    imperfect["theory_two_theta"][0] = [20.0, 160.0]  # the second has no reflection at 1.5406 Å
    found = preprocess(tmp_path, write(tmp_path, ideal_columns(), imperfect))["imperfect"]
    expected = 2 * np.degrees(np.arcsin(np.sin(np.radians(10)) * 1.5406 / 1.2))
    assert found["theory_two_theta"][0] == pytest.approx([expected, 180])
    assert found["theory_two_theta"][1] == pytest.approx([20, 40])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda _, m: m.update(crystal_system=["cubist"] * N_IMPERFECT), "unknown crystal_system .*cubist"),
        (lambda _, m: m.update(intensity=[np.zeros(850)] * N_IMPERFECT), "no pattern is left.*p000.*zero everywhere"),
        (lambda _, m: m.update(formula=["Y"] * N_IMPERFECT), "1 materials can't be split 10 ways"),
        (lambda i, _: i.update(formula=["Y0"] * N_IDEAL), "every material is also in the imperfect set"),
    ],
)
def test_bad_input(tmp_path: Path, change: Any, named: str) -> None:
    ideal, imperfect = ideal_columns(), imperfect_columns()
    change(ideal, imperfect)
    paths = write(tmp_path, ideal, imperfect)
    with pytest.raises(InputError, match=named) as error:
        preprocess(tmp_path, paths)
    assert error.value.remedy or "zero" in named


def test_shards_of_another_grid(tmp_path: Path) -> None:
    paths = write(tmp_path, ideal_columns(), imperfect_columns())
    other = Grid(points=128, stop=80)
    write_table(tmp_path / "other.parquet", ideal_columns(), ideal_schema(other))
    with pytest.raises(InputError, match=r"other\.parquet: is on the grid"):
        preprocess(tmp_path, {**paths, "ideal": [*paths["ideal"], str(tmp_path / "other.parquet")]})


def test_grouped_split_by_hand() -> None:
    """Ten materials of two patterns, ten folds: one material each for test and validation."""
    groups = np.repeat([f"g{i}" for i in range(10)], 2)
    labels = np.array(["cubic"] * 20)
    split = grouped_split(groups, labels, 10, 0, "here")
    assert Counter(split) == {"train": 16, "test": 2, "validation": 2}
    with pytest.raises(InputError, match="here: 10 materials can't be split 11 ways"):
        grouped_split(groups, labels, 11, 0, "here")


def test_split_ideal_by_hand() -> None:
    groups = np.array([f"g{i}" for i in range(12)])
    split = split_ideal(groups, np.array(["cubic"] * 12), np.isin(groups, ["g0", "g11"]), 10, 0, "here")
    assert (split == "held_out").tolist() == [True, *[False] * 10, True]
    assert Counter(split) == {"held_out": 2, "train": 8, "test": 1, "validation": 1}
    assert len({id(part) for part in split}) == len(set(split))  # one text for all rows of a part: not 50 bytes each


def test_patterns_to_be_tested_on_alone_are_the_test_part(tmp_path: Path) -> None:
    columns = imperfect_columns()
    # The first 30 patterns are of 15 materials; the next two are of the first one, too, and one more has no label.
    columns["part"] = ["test"] * 30 + [None] * (N_IMPERFECT - 30)
    columns["formula"][30:32] = [columns["formula"][0]] * 2
    columns["crystal_system"][7] = None
    found = preprocess(tmp_path, write(tmp_path, ideal_columns(), columns))
    rows, parts = found["imperfect"], by_split(found["imperfect"], "pattern_id")
    assert parts["test"] == {f"p{i:03}" for i in range(30)} - {"p007"}
    assert set(found["rejected"]["item"]) == {"pattern p007", "pattern p030", "pattern p031"}
    materials = by_split(rows)
    assert not materials["test"] & (materials["train"] | materials["validation"])
    assert not materials["train"] & materials["validation"]
    assert len(parts["train"]) > 5 * len(parts["validation"]) > 0


def test_no_classifier_learns_a_material_that_is_kept_out(whole: dict[str, Any], tmp_path: Path) -> None:
    """Its pattern is in no part, its ideal patterns are held out, and nothing else is held out for it."""
    columns = imperfect_columns()
    unseen = sorted(by_split(whole["ideal"])["train"])[0]
    extra = {name: [*values, values[0]] for name, values in columns.items()}
    extra["theory"] = np.concatenate([columns["theory"], columns["theory"][:1]])
    extra["pattern_id"][-1], extra["formula"][-1] = "kept out", unseen
    extra["part"] = [None] * N_IMPERFECT + ["kept_out"]
    found = preprocess(tmp_path, write(tmp_path, ideal_columns(), extra))
    pd.testing.assert_frame_equal(found["imperfect"], whole["imperfect"])
    materials = by_split(found["ideal"])
    assert unseen in materials["held_out"] and not any(unseen in materials[s] for s in ("train", "validation", "test"))
    assert materials["held_out"] - {unseen} == by_split(whole["ideal"])["held_out"]
    assert set(found["manifest"]["id"]) == set(whole["manifest"]["id"])


def lined(rng: np.random.Generator) -> np.ndarray:
    """A pattern of six lines one point wide, like no other."""
    found = np.full(128, 1e-4, np.float32)
    found[rng.choice(128, 6, replace=False)] = rng.uniform(0.2, 1, 6)
    return found / found.max()


def test_what_is_the_theory_of_an_imperfect_pattern_is_held_out_whatever_its_name(tmp_path: Path) -> None:
    ideal, imperfect = ideal_columns(), imperfect_columns()
    pattern = lined(np.random.default_rng(3))
    ideal["formula"][2:4] = ["Q17", "Q17"]  # two structures of a material that is measured under another name
    ideal["intensity"][2] = imperfect["theory"][1] = pattern
    found = preprocess(tmp_path, write(tmp_path, ideal, imperfect))
    rows = found["ideal"]
    assert set(rows["split"][rows["formula"] == "Q17"]) == {"held_out"}


def test_one_material_under_two_names_is_on_one_side(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Solid solutions by their shares, lost hydrogen by the lines; other compounds with one pattern are told."""
    ideal, imperfect = ideal_columns(), imperfect_columns()
    rng = np.random.default_rng(4)
    materials = sorted(set(ideal["formula"]) - set(imperfect["formula"]))
    places = {name: [i for i, f in enumerate(ideal["formula"]) if f == name] for name in materials}
    names = iter(materials)
    pairs: dict[str, list[tuple[list[int], list[int]]]] = {"rounded": [], "hydrogen": [], "others": []}
    for kind, found in pairs.items():
        for k in range(12):
            one, other = places[next(names)], places[next(names)]
            if kind == "rounded":
                written = f"Mg0.{100 + 10 * k}Fe0.{400 - 10 * k}O0.5", f"Mg0.{101 + 10 * k}Fe0.{400 - 10 * k}O0.499"
            elif kind == "hydrogen":
                written = f"Mn{k + 1}(HO)7", f"Mn{k + 1}O7"
            else:
                written = f"W{k}", f"Q{k}"
            for rows, name in zip((one, other), written, strict=True):
                for row in rows:
                    ideal["formula"][row] = name
            if kind != "rounded":
                ideal["intensity"][one[0]] = ideal["intensity"][other[0]] = lined(rng)
            found.append((one, other))
    told = preprocess(tmp_path, write(tmp_path, ideal, imperfect))
    split, twin = told["ideal"]["split"], told["manifest"]["identical_to"][: len(told["ideal"])]
    for kind in ("rounded", "hydrogen"):
        assert all(len(set(split[[*one, *other]])) == 1 for one, other in pairs[kind])
    parted = [(one[0], other[0]) for one, other in pairs["others"] if split[one[0]] != split[other[0]]]
    assert parted
    assert f"on two sides of the split: {len(parted)} pairs, as m" in capfd.readouterr().err
    expected = {a: f"m{b:03}" for pair in parted for a, b in (pair, pair[::-1])}
    assert twin.dropna().to_dict() == expected


def test_a_name_without_a_structure_may_have_lost_its_hydrogen(tmp_path: Path) -> None:
    """Every fifth pattern has no theory; adamite is measured twice and in the library, once without hydrogen."""
    ideal, imperfect = ideal_columns(), imperfect_columns()
    ideal["formula"][2:6] = ["Zn2AsHO5", "Zn2AsHO5", "Zn2AsO4", "Zn2AsO4"]
    for k in range(7):
        heavy = "Zn2AsO5" if k == 0 else f"Zn{k + 2}AsO5"
        imperfect["formula"][20 * k] = heavy
        imperfect["formula"][20 * k + 11] = heavy.replace("O5", "HO5")
        imperfect["crystal_system"][20 * k + 11] = imperfect["crystal_system"][20 * k]
    found = preprocess(tmp_path, write(tmp_path, ideal, imperfect))
    split = found["ideal"].groupby("formula")["split"].unique()
    assert split["Zn2AsHO5"].tolist() == ["held_out"] and "held_out" not in split["Zn2AsO4"]
    rows = found["imperfect"].set_index("pattern_id")["split"]
    assert all(rows[f"p{20 * k:03}"] == rows[f"p{20 * k + 11:03}"] for k in range(7))


def test_imperfect_patterns_of_one_theory_are_on_one_side(tmp_path: Path) -> None:
    imperfect = imperfect_columns()
    rng = np.random.default_rng(5)
    pairs = [(20 * k + 1, 20 * k + 12) for k in range(7)]
    for one, other in pairs:
        imperfect["theory"][one] = imperfect["theory"][other] = lined(rng)
        imperfect["crystal_system"][other] = imperfect["crystal_system"][one]
    rows = preprocess(tmp_path, write(tmp_path, ideal_columns(), imperfect))["imperfect"].set_index("pattern_id")
    assert all(rows["split"][f"p{one:03}"] == rows["split"][f"p{other:03}"] for one, other in pairs)
    assert len(set(rows["split"][[f"p{i:03}" for pair in pairs for i in pair]])) > 1


def test_patterns_of_unknown_material_stay_with_those_they_look_like() -> None:
    """Three materials by their lines, measured with background, noise and a small displacement each."""
    rng, x = np.random.default_rng(0), np.linspace(5, 90, 2048)
    lines = [rng.uniform(10, 85, 12) for _ in range(3)]

    def measured(material: int) -> np.ndarray:
        centres = lines[material] + rng.normal(0, 0.05)
        peaks = rng.uniform(0.3, 1, (12, 1)) * np.exp(-0.5 * ((x - centres[:, None]) / 0.08) ** 2)
        pattern = peaks.sum(0) + rng.uniform(0, 0.3) * np.exp(-0.5 * ((x - 25) / 10) ** 2) + 0.02 * rng.random(len(x))
        return (pattern / pattern.max()).astype(np.float32)

    of = np.array([0, 0, 0, 1, 1, 2, 2])
    patterns = np.stack([measured(material) for material in of])
    names = np.array(["A", "p1", "p2", "B", "p4", "p5", "p6"])
    unknown = np.char.startswith(names, "p")
    groups = groups_of(names, unknown, patterns, x[1] - x[0])
    assert groups.tolist() == ["A", "A", "A", "B", "B", "p5", "p5"]
    assert groups_of(names, np.zeros(7, bool), patterns, x[1] - x[0]).tolist() == names.tolist()
