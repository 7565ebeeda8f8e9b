"""The stage from a classifier and tables to an adapted classifier's file, by each method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from components.adapt_classifier.stage import STAGE
from imitation_refinement.data.datasets import read_imperfect
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.learning.config import AdaptConfig, ClassifierConfig
from imitation_refinement.learning.models import apply, load_classifier, load_generator, save_model
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.xrd.grid import Grid

OPTIMISER = {"epochs": 2, "batch_size": 14, "device": "cpu"}
GTA = {"generator": {"noise": 4, "widths": [8, 8]}, "discriminator": [8, 8]}
METHODS = ("finetuned", "adda", "gta")


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    path = tmp_path / "vgg.safetensors"
    torch.manual_seed(0)
    save_model(path, Classifier(ClassifierConfig(depths=(1, 1), widths=(8, 8), embedding=8)), Grid(points=128), {})
    return path


def adapt(method: str, classifier: Path, tables: dict[str, Path], out: Path, **config: Any) -> dict[str, Any]:
    """Runs the stage; returns what is kept with the adapted classifier."""
    paths = {"classifier": classifier, **tables, "adapted": out}
    if method == "finetuned":
        del paths["ideal_dataset"]
    STAGE.execute(paths, {"method": method, "optimiser": OPTIMISER, "gta": GTA, **config})
    return load_classifier(out)[2]


def with_labels(table: Path, out: Path, labels: list[str | None]) -> Path:
    """The table with other crystal systems."""
    found = pq.read_table(table)
    index = found.schema.get_field_index("crystal_system")
    pq.write_table(found.set_column(index, found.schema.field(index), pa.array(labels, pa.string())), out)
    return out


@pytest.mark.parametrize("method", METHODS)
def test_what_is_kept(toy_tables: dict[str, Path], classifier: Path, tmp_path: Path, method: str) -> None:
    before = digest(classifier)
    about = adapt(method, classifier, toy_tables, tmp_path / "a")
    assert about["method"] == method and about["classifier"] == "vgg" and about["n_train"] == 56
    assert about["classifier_sha256"] == before == digest(classifier)
    expected = AdaptConfig.model_validate({"method": method, "optimiser": OPTIMISER, "gta": GTA})
    assert AdaptConfig.model_validate(about["training"]) == expected
    assert about.get("n_ideal") == (None if method == "finetuned" else 56)
    assert all(len(values) == 2 for values in about["history"].values())
    model, grid, _ = load_classifier(tmp_path / "a")
    patterns, labels = read_imperfect(toy_tables["imperfect_dataset"], grid).part("validation")
    accuracy = float((apply(model, patterns).argmax(1) == labels).mean())
    assert accuracy in (
        about["history"]["validation_accuracy"]
        if method == "finetuned"
        else about["history"]["validation_accuracy"][-1:]
    )
    assert not list(tmp_path.glob("*checkpoint*"))


def test_the_generators_file(toy_tables: dict[str, Path], classifier: Path, tmp_path: Path) -> None:
    adapt("gta", classifier, toy_tables, tmp_path / "a")
    generator, grid, about = load_generator(tmp_path / "a")
    assert about["method"] == "gta" and about["classifier_sha256"] == digest(classifier)
    model, found, _ = load_classifier(tmp_path / "a")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, generator.encoder.state_dict()[name]), name
    patterns = read_imperfect(toy_tables["imperfect_dataset"], grid).part("test")[0]
    refined = apply(generator, patterns)
    assert found == grid and refined.shape == patterns.shape
    assert (refined >= 0).all()
    np.testing.assert_allclose(refined.max(1), 1)


@pytest.mark.parametrize("method", ["adda", "gta"])
def test_no_label_of_an_imperfect_pattern_is_used(
    toy_tables: dict[str, Path], classifier: Path, tmp_path: Path, method: str
) -> None:
    table = toy_tables["imperfect_dataset"]
    labels = pq.read_table(table)["crystal_system"].to_pylist()
    tables = [
        table,
        with_labels(table, tmp_path / "wrong.parquet", labels[1:] + labels[:1]),
        with_labels(table, tmp_path / "none.parquet", [None] * len(labels)),
    ]
    states = []
    for path in tables:
        about = adapt(method, classifier, {**toy_tables, "imperfect_dataset": path}, tmp_path / "a")
        assert about["n_train"] == 56
        states.append((load_classifier if method == "adda" else load_generator)(tmp_path / "a")[0].state_dict())
    for state in states[1:]:
        for name, tensor in states[0].items():
            np.testing.assert_array_equal(tensor, state[name])


def test_fine_tuning_uses_the_labelled_patterns_alone(
    toy_tables: dict[str, Path], classifier: Path, tmp_path: Path
) -> None:
    table = toy_tables["imperfect_dataset"]
    labels = pq.read_table(table)["crystal_system"].to_pylist()
    some = with_labels(table, tmp_path / "some.parquet", [None] * 14 + labels[14:])
    assert adapt("finetuned", classifier, {**toy_tables, "imperfect_dataset": some}, tmp_path / "a")["n_train"] == 42
    none = with_labels(table, tmp_path / "none.parquet", [None] * len(labels))
    with pytest.raises(InputError, match=r"none\.parquet: no training pattern has a crystal_system.*adda or gta"):
        adapt("finetuned", classifier, {**toy_tables, "imperfect_dataset": none}, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_files_that_do_not_fit(toy_tables: dict[str, Path], classifier: Path, tmp_path: Path) -> None:
    model = load_classifier(classifier)[0]
    save_model(tmp_path / "wide", model, Grid(points=256), {})
    with pytest.raises(InputError, match=r"imperfect_dataset\.parquet: is on the grid .*128.*the model on .*256"):
        adapt("adda", tmp_path / "wide", toy_tables, tmp_path / "a")
    ideal = pq.read_table(toy_tables["ideal_dataset"])
    other = ideal.replace_schema_metadata(Grid(points=128, stop=80).to_metadata())
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet: is on the grid"):
        adapt("gta", classifier, {**toy_tables, "ideal_dataset": tmp_path / "other.parquet"}, tmp_path / "a")
    tables = {**toy_tables, "ideal_dataset": toy_tables["imperfect_dataset"]}
    with pytest.raises(InputError, match=r"imperfect_dataset\.parquet: has no column 'material_id'"):
        adapt("adda", classifier, tables, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("method", ["adda", "gta"])
def test_ideal_patterns_are_needed(toy_tables: dict[str, Path], classifier: Path, tmp_path: Path, method: str) -> None:
    paths = {"classifier": classifier, "imperfect_dataset": toy_tables["imperfect_dataset"], "adapted": tmp_path / "a"}
    with pytest.raises(InputError, match=f"ideal_dataset: is not given, but {method} needs ideal patterns"):
        STAGE.execute(paths, {"method": method})


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"method": "dann"}, "method: Input should be 'finetuned', 'adda' or 'gta'"),
        ({"optimiser": {"epochs": 0}}, "optimiser.epochs"),
        ({"optimiser": 3}, "optimiser"),
        ({"gta": {"generator": {"kernel": 4}}}, "gta.generator.kernel: must be odd"),
        ({"adda": {"beta1": 1}}, "adda.beta1"),
        ({"noise": 3}, "noise"),
    ],
)
def test_bad_options(
    toy_tables: dict[str, Path], classifier: Path, tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        adapt(classifier=classifier, tables=toy_tables, out=tmp_path / "a", **{"method": "finetuned", **config})
