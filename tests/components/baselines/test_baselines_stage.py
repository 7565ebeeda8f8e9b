"""The stage's three tables, and that nothing of the test part gets into a choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.baselines.config import NearestConfig
from components.baselines.dwt import Denoiser, dwt_denoise
from components.baselines.nearest import nearest
from components.baselines.stage import STAGE
from imitation_refinement.data.contracts import ANSWERS, read_gridded, read_table
from imitation_refinement.errors import InputError
from imitation_refinement.vocabulary import Kind, Method

OPTIONS = {"dwt": {"levels": [3, 2], "wavelets": ["sym4", "haar"]}}


def baselines(tables: dict[str, Path], folder: Path, config: dict[str, Any] = OPTIONS) -> dict[str, Path]:
    out = {"dwt": folder / "dwt.parquet", "answers": folder / "answers.parquet", "search": folder / "search.csv"}
    STAGE.execute({**tables, "library": [tables["library"]], **out}, config)
    return out


def changed(path: Path, column: str, values: Any, out: Path) -> Path:
    """The table with another column."""
    table = pq.read_table(path)
    index = table.schema.get_field_index(column)
    field = table.schema.field(index)
    pq.write_table(table.set_column(index, field, pa.array(values, field.type)), out)
    return out


def test_stage(toy_tables: dict[str, Path], tmp_path: Path) -> None:
    out = baselines(toy_tables, tmp_path)
    before, grid, raw = read_gridded(toy_tables["imperfect_dataset"], "imperfect")
    after, same_grid, denoised = read_gridded(out["dwt"], "imperfect")
    assert grid == same_grid
    for name in ("pattern_id", "formula", "crystal_system", "split", "scale"):
        assert after[name].equals(before[name]), name
    table = pd.read_csv(out["search"])
    assert len(table) == 2 * 2 * 2 * 2
    (row,) = table[table["chosen"]].itertuples()
    assert row.median_l2 == table["median_l2"].min()
    chosen = Denoiser(row.wavelet, row.level, row.rule, row.anscombe)
    expected = dwt_denoise(raw["intensity"], before["scale"].to_numpy(), chosen)
    np.testing.assert_array_equal(denoised["intensity"], expected)

    answers = read_table(out["answers"], ANSWERS).to_pandas()
    assert list(answers) == ["pattern_id", "method", "crystal_system"]
    by_method = {str(name): part for name, part in answers.groupby("method")}
    assert by_method.keys() == {method for method in Method if method.kind is Kind.ANSWERS}
    found = nearest(raw["intensity"], grid, toy_tables["ideal_dataset"], NearestConfig())
    for method, part in by_method.items():
        searched = before["split"] == "test" if str(method).startswith("search") else before["split"] != ""
        assert part["pattern_id"].tolist() == before["pattern_id"][searched].tolist()
        if method in found:
            assert part["crystal_system"].tolist() == found[method].tolist()
    assert set(by_method["majority"]["crystal_system"]) == {"triclinic"}  # all are as many; the first of them


def test_majority_of_the_training_part_alone(toy_tables: dict[str, Path], tmp_path: Path) -> None:
    source = toy_tables["imperfect_dataset"]
    rows = pq.read_table(source).to_pandas()
    labels = np.where(rows["split"] == "train", rows["crystal_system"], "cubic")
    some = rows.index[(rows["split"] == "train") & (rows["crystal_system"] != "trigonal")]
    labels[some[:6]], labels[some[6:20]] = "trigonal", None
    out = baselines({**toy_tables, "imperfect_dataset": changed(source, "crystal_system", labels, source)}, tmp_path)
    answers = pd.read_parquet(out["answers"]).query("method == 'majority'")
    assert set(answers["crystal_system"]) == {"trigonal"} and len(answers) == len(rows)


def test_nothing_of_the_test_part_is_looked_at(toy_tables: dict[str, Path], tmp_path: Path) -> None:
    table = pq.read_table(toy_tables["imperfect_dataset"])
    test = table["split"].to_numpy() == "test"
    theory = [None if t else v for t, v in zip(test, table["theory"].to_pylist(), strict=True)]
    labels = ["cubic" if t else v for t, v in zip(test, table["crystal_system"].to_pylist(), strict=True)]
    one = baselines(toy_tables, tmp_path / "one")
    source = changed(toy_tables["imperfect_dataset"], "theory", theory, tmp_path / "other.parquet")
    source = changed(source, "crystal_system", labels, tmp_path / "another.parquet")
    other = baselines({**toy_tables, "imperfect_dataset": source}, tmp_path / "other")
    assert one["search"].read_text() == other["search"].read_text()
    assert pq.read_table(one["answers"]).equals(pq.read_table(other["answers"]))


def test_what_is_missing_is_said_loudly(
    toy_tables: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = toy_tables["imperfect_dataset"]
    n = pq.read_metadata(source).num_rows
    changed(source, "theory", [None] * n, source)
    changed(source, "crystal_system", [None] * n, source)
    out = baselines(toy_tables, tmp_path)
    said = capsys.readouterr().err
    assert (
        "WARNING: dwt: no validation pattern has a theory; the first candidate is used UNTRIED: sym4, level 3" in said
    )
    assert "WARNING: no training pattern has a crystal_system; there is no majority class" in said
    table = pd.read_csv(out["search"])
    assert table["median_l2"].isna().all() and table["chosen"].tolist() == [True] + [False] * 15
    others = {method for method in Method if method.kind is Kind.ANSWERS and method is not Method.MAJORITY}
    assert set(pd.read_parquet(out["answers"])["method"]) == others


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dwt": {"wavelets": ["sym99"]}}, r"dwt\.wavelets: 'sym99' is no discrete wavelet"),
        ({"dwt": {"wavelets": []}}, r"dwt\.wavelets"),
        ({"dwt": {"levels": [0]}}, r"dwt\.levels"),
        ({"dwt": {"levels": [9]}}, r"dwt\.levels"),
        ({"dwt": {"rules": ["best"]}}, r"dwt\.rules"),
        ({"nearest": {"blur": -1}}, r"nearest\.blur"),
        ({"nearest": {"background": 0}}, r"nearest\.background"),
        ({"x": 1}, "x"),
    ],
)
def test_bad_options(toy_tables: dict[str, Path], tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        baselines(toy_tables, tmp_path / "out", options)
    assert not list((tmp_path / "out").glob("*"))
