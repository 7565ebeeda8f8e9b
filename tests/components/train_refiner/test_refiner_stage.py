"""The stage from a classifier and a table to a refiner's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.train_refiner.stage import STAGE, shuffled, some_of_each
from imitation_refinement.data.datasets import UNLABELLED, read_imperfect
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.learning.config import ClassifierConfig, RefineConfig
from imitation_refinement.learning.models import apply, fit_temperature, load_classifier, load_refiner, save_model
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.xrd.grid import Grid

NETWORK = {"widths": [8, 8], "factor": 2}
OPTIMISER = {"epochs": 2, "batch_size": 14, "learning_rate": 1e-2, "device": "cpu"}


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    path = tmp_path / "vgg.safetensors"
    model = Classifier(ClassifierConfig(depths=(1, 1), widths=(8, 8), embedding=8))
    save_model(path, model, Grid(points=128), {})
    return path


def train(classifier: Path, table: Path, out: Path, ideal: Path | None = None, **config: Any) -> dict[str, Any]:
    """Runs the stage; returns what is kept with the refiner."""
    paths = {"classifier": classifier, "imperfect_dataset": table, "refiner": out}
    paths |= {"ideal_dataset": ideal} if ideal else {}
    STAGE.execute(paths, {"network": NETWORK, "optimiser": OPTIMISER, **config})
    return load_refiner(out)[2]


def with_labels(table: Path, out: Path, labels: list[str | None]) -> Path:
    """The table with other crystal systems."""
    found = pq.read_table(table)
    index = found.schema.get_field_index("crystal_system")
    pq.write_table(found.set_column(index, found.schema.field(index), pa.array(labels, pa.string())), out)
    return out


def test_what_is_kept_with_a_targeted_refiner(toy_tables: dict[str, Path], classifier: Path, tmp_path: Path) -> None:
    table = toy_tables["imperfect_dataset"]
    before = digest(classifier)
    about = train(classifier, table, tmp_path / "r.safetensors")
    assert about["classifier"] == "vgg" and about["classifier_sha256"] == before == digest(classifier)
    assert about["n_train"] == 56 and about["supervision"] == "targeted"
    training = RefineConfig.model_validate(about["training"])
    assert training == RefineConfig.model_validate({"network": NETWORK, "optimiser": OPTIMISER})
    refiner, grid, _ = load_refiner(tmp_path / "r.safetensors")
    patterns, labels = read_imperfect(table, grid).part("validation")
    expected = fit_temperature(load_classifier(classifier)[0], apply(refiner, patterns), labels)
    assert about["temperature"] == pytest.approx(expected)


def test_non_targeted_training_takes_nothing_from_labels(
    toy_tables: dict[str, Path], classifier: Path, tmp_path: Path
) -> None:
    table = toy_tables["imperfect_dataset"]
    labels = pq.read_table(table)["crystal_system"].to_pylist()
    tables = [
        table,
        with_labels(table, tmp_path / "wrong.parquet", labels[1:] + labels[:1]),
        with_labels(table, tmp_path / "fewer.parquet", [None] * 56 + labels[56:]),
    ]
    states, abouts = [], []
    for path in tables:
        abouts.append(train(classifier, path, tmp_path / "r", supervision="non_targeted"))
        states.append(load_refiner(tmp_path / "r")[0].state_dict())
    for state, about in zip(states, abouts, strict=True):
        assert about["n_train"] == 56 and about["temperature"] == 1 and about["supervision"] == "non_targeted"
        for name, tensor in states[0].items():
            np.testing.assert_array_equal(tensor, state[name])


def test_targeted_training_counts_the_labelled(toy_tables: dict[str, Path], classifier: Path, tmp_path: Path) -> None:
    table = toy_tables["imperfect_dataset"]
    labels = pq.read_table(table)["crystal_system"].to_pylist()
    some = with_labels(table, tmp_path / "some.parquet", [None] * 14 + labels[14:])
    assert train(classifier, some, tmp_path / "r")["n_train"] == 42
    none = with_labels(table, tmp_path / "none.parquet", [None] * len(labels))
    with pytest.raises(InputError, match=r"none\.parquet: no training pattern has a crystal_system.*non_targeted"):
        train(classifier, none, tmp_path / "r2")
    assert train(classifier, none, tmp_path / "r3", supervision="non_targeted")["n_train"] == 56


def test_files_that_do_not_fit(toy_tables: dict[str, Path], classifier: Path, tmp_path: Path) -> None:
    table = toy_tables["imperfect_dataset"]
    model = load_classifier(classifier)[0]
    save_model(tmp_path / "wide.safetensors", model, Grid(points=256), {})
    with pytest.raises(InputError, match=r"imperfect_dataset\.parquet: is on the grid .*128.*the model on .*256"):
        train(tmp_path / "wide.safetensors", table, tmp_path / "r")
    with pytest.raises(InputError, match=r"imperfect_dataset\.parquet: is no usable model"):
        train(table, table, tmp_path / "r")
    with pytest.raises(InputError, match=r"vgg\.safetensors: is no Parquet table"):
        train(classifier, classifier, tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"supervision": "both"}, "supervision"),
        ({"feature_depth": 3}, "feature_depth"),
        ({"norm": 0.5}, "norm"),
        ({"regularisation_weight": -1}, "regularisation_weight"),
        ({"network": {"widths": [10]}}, "network.widths"),
    ],
)
def test_bad_options(
    toy_tables: dict[str, Path], classifier: Path, tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        train(classifier, toy_tables["imperfect_dataset"], tmp_path / "r", **config)


def test_an_ablation_has_no_weight_for_what_it_leaves_out(
    toy_tables: dict[str, Path], classifier: Path, tmp_path: Path
) -> None:
    table = toy_tables["imperfect_dataset"]
    about = train(classifier, table, tmp_path / "a", variant="without_prototype")
    assert about["weights"]["prototype"] == 0 and about["variant"] == "without_prototype"
    train(classifier, table, tmp_path / "b", prototype_weight=0.0)
    states = [load_refiner(tmp_path / name)[0].state_dict() for name in "ab"]
    for name, tensor in states[0].items():
        np.testing.assert_array_equal(tensor, states[1][name])


def test_shuffled_labels_are_the_same_labels_elsewhere() -> None:
    labels = np.array([0, 0, 1, UNLABELLED, 2, 3, 4, 5, 6, 6, 6])
    mixed = shuffled(labels, np.random.default_rng(0))
    assert sorted(mixed) == sorted(labels) and (mixed != labels).any() and mixed[3] == UNLABELLED


def test_few_labels_hold_every_class_first() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2] + [UNLABELLED] * 20)
    chosen = some_of_each(labels, 5, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 5 and set(labels[chosen]) == {0, 1, 2}
    assert len(some_of_each(labels, 2, np.random.default_rng(0))) == 2


def test_few_labelled_patterns(toy_tables: dict[str, Path], classifier: Path, tmp_path: Path) -> None:
    about = train(classifier, toy_tables["imperfect_dataset"], tmp_path / "r", labelled=10)
    assert about["n_train"] == 10 and about["labelled"] == 10
    about = train(classifier, toy_tables["imperfect_dataset"], tmp_path / "r", labelled=1000)
    assert about["n_train"] == 56


def test_the_diversity_term_is_a_variant(toy_tables: dict[str, Path], classifier: Path, tmp_path: Path) -> None:
    table = toy_tables["imperfect_dataset"]
    given = {"supervision": "non_targeted", "variant": "with_diversity"}
    about = train(classifier, table, tmp_path / "r", **given)
    assert about["weights"]["diversity"] == 3 and about["variant"] == "with_diversity"
    assert "diversity_loss" in about["history"]
    about = train(classifier, table, tmp_path / "r", **given, diversity_weight=0.3)
    assert about["weights"]["diversity"] == 0.3


def test_ideal_patterns_beside_the_others_are_a_variant(
    toy_tables: dict[str, Path], classifier: Path, tmp_path: Path
) -> None:
    table, ideal = toy_tables["imperfect_dataset"], toy_tables["ideal_dataset"]
    about = train(classifier, table, tmp_path / "r", ideal, variant="with_ideal")
    assert about["weights"]["ideal"] == 1 and about["variant"] == "with_ideal"
    assert "ideal_loss" in about["history"]
    about = train(classifier, table, tmp_path / "r", ideal, variant="with_ideal", ideal_weight=0.3)
    assert about["weights"]["ideal"] == 0.3
    assert "ideal_loss" not in train(classifier, table, tmp_path / "r", ideal)["history"]
    with pytest.raises(InputError, match=r"variant with_ideal: asks for ideal patterns.*--ideal-dataset"):
        train(classifier, table, tmp_path / "none", variant="with_ideal")
    with pytest.raises(InputError, match=r"imperfect_dataset\.parquet"):
        train(classifier, table, tmp_path / "none", table, variant="with_ideal")
    assert not (tmp_path / "none").exists()
