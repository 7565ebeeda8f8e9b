"""The stage from a table to a model file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.pretrain_classifier.stage import STAGE
from imitation_refinement.data.contracts import ideal_schema, write_table
from imitation_refinement.data.datasets import read_ideal
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.learning.augmentation import Augmentation
from imitation_refinement.learning.config import PretrainConfig
from imitation_refinement.learning.models import check_unseen, load_classifier, probabilities
from imitation_refinement.xrd.flaws import Ranges
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile

NETWORK = {"architecture": "vgg", "depths": [1, 1], "widths": [8, 8], "embedding": 8}
OPTIMISER = {"epochs": 8, "batch_size": 14, "learning_rate": 1e-2, "device": "cpu"}
CONFIG: dict[str, Any] = {"network": NETWORK, "optimiser": OPTIMISER}


def test_the_model_and_what_is_kept_with_it(toy_tables: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    STAGE.execute({"ideal_dataset": toy_tables["ideal_dataset"], "classifier": path}, CONFIG)
    model, grid, about = load_classifier(path)
    data = read_ideal(toy_tables["ideal_dataset"])
    assert grid == data.grid and about["n_train"] == len(data.part("train")[1]) == 56
    assert PretrainConfig.model_validate(about["training"]) == PretrainConfig.model_validate(CONFIG)
    learnt = data.rows["split"] == "train"
    check_unseen(path, data.rows["formula"][~learnt])
    for formula in data.rows["formula"][learnt]:
        with pytest.raises(InputError, match=f"has learnt 1 of the materials .* as {formula}"):
            check_unseen(path, [formula])
    patterns, labels = data.part("validation")
    right = float((probabilities(model, patterns).argmax(1) == labels).mean())
    history: Any = about["history"]
    assert history["validation_accuracy"][-1] == pytest.approx(right)
    assert history["loss"][-1] < history["loss"][0]
    assert right > 0.5


def test_again_is_the_same_file(toy_tables: dict[str, Path], tmp_path: Path) -> None:
    config = {**CONFIG, "optimiser": {**OPTIMISER, "epochs": 2}}
    for name in ("a", "b"):
        STAGE.execute({"ideal_dataset": toy_tables["ideal_dataset"], "classifier": tmp_path / name}, config)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_it_learns_from_the_training_part_alone(toy_tables: dict[str, Path], tmp_path: Path) -> None:
    """Other patterns in the other parts change nothing but what is reported."""
    config = {**CONFIG, "optimiser": {**OPTIMISER, "epochs": 2}}
    data = read_ideal(toy_tables["ideal_dataset"])
    other = data.intensity.copy()
    other[data.rows["split"] != "train"] = 1 - other[data.rows["split"] != "train"]
    columns = {name: data.rows[name].to_numpy(object) for name in data.rows} | {"intensity": other}
    write_table(tmp_path / "other.parquet", columns, ideal_schema(data.grid))
    models = []
    for table in (toy_tables["ideal_dataset"], tmp_path / "other.parquet"):
        STAGE.execute({"ideal_dataset": table, "classifier": tmp_path / "c"}, config)
        models.append(load_classifier(tmp_path / "c")[0].state_dict())
    for name, tensor in models[0].items():
        np.testing.assert_array_equal(tensor, models[1][name])


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"network": {**NETWORK, "architecture": "resnet"}}, "network.architecture"),
        ({"network": {**NETWORK, "widths": [8]}}, r"vgg of depths \(1, 1\) needs 2 widths"),
        ({"network": {**NETWORK, "kernel": 4}}, "network.kernel: must be odd"),
        ({"optimiser": {**OPTIMISER, "epochs": 0}}, "optimiser.epochs"),
        ({"optimiser": {**OPTIMISER, "device": "toaster"}}, "optimiser.device"),
        ({"optimizer": OPTIMISER}, "optimizer"),
    ],
)
def test_bad_options(toy_tables: dict[str, Path], tmp_path: Path, config: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        STAGE.execute({"ideal_dataset": toy_tables["ideal_dataset"], "classifier": tmp_path / "c"}, config)
    assert not (tmp_path / "c").exists()


def test_the_wrong_table(toy_tables: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"imperfect_dataset\.parquet: has no column 'material_id'"):
        STAGE.execute({"ideal_dataset": toy_tables["imperfect_dataset"], "classifier": tmp_path / "c"}, CONFIG)
    with pytest.raises(InputError, match="no such file"):
        STAGE.execute({"ideal_dataset": tmp_path / "nowhere", "classifier": tmp_path / "c"}, CONFIG)


def test_the_standard_classifier_has_another_seed_and_no_prototype_loss(
    toy_tables: dict[str, Path], tmp_path: Path
) -> None:
    config = {**CONFIG, "optimiser": {**OPTIMISER, "epochs": 1}}
    for name, method in (("p", "prototypical"), ("s", "standard")):
        paths = {"ideal_dataset": toy_tables["ideal_dataset"], "classifier": tmp_path / name}
        STAGE.execute(paths, {**config, "method": method})
    (_, _, plain), (_, _, standard) = (load_classifier(tmp_path / name) for name in "ps")
    assert plain["method"] == "prototypical" and standard["method"] == "standard"
    trained: Any = standard["training"]
    assert trained["prototype_weight"] == 0 and trained["optimiser"]["seed"] != 0
    assert digest(tmp_path / "p") != digest(tmp_path / "s")


def test_the_augmented_classifier_learns_what_is_flawed(toy_tables: dict[str, Path], tmp_path: Path) -> None:
    """Fluorescence far above the highest peak: only who has seen such patterns tells them."""
    flaws = {"fluorescence": (8, 8), "counts": (1e4, 1e4), "fluorescence_share": 1, "cut_share": 0, "impurity_share": 0}
    data = read_ideal(toy_tables["ideal_dataset"])
    ranges = Ranges.model_validate(flaws)
    torch.manual_seed(1)
    patterns, labels = data.part("train")
    flawed = Augmentation(data.grid, ranges, Profile())(torch.from_numpy(patterns)).numpy()
    right = {}
    for method in ("prototypical", "augmented"):
        paths = {"ideal_dataset": toy_tables["ideal_dataset"], "classifier": tmp_path / method}
        config = {**CONFIG, "optimiser": {**OPTIMISER, "epochs": 30}, "method": method, "ranges": flaws}
        STAGE.execute(paths, config)
        model, _, about = load_classifier(tmp_path / method)
        assert about["method"] == method
        right[method] = (probabilities(model, flawed).argmax(1) == labels).mean()
    assert right["augmented"] > right["prototypical"] + 0.2
    STAGE.execute({**paths, "classifier": tmp_path / "again"}, config)
    assert digest(tmp_path / "again") == digest(tmp_path / "augmented")


def test_the_classifier_of_another_run_is_taken_as_it_is(toy_tables: dict[str, Path], tmp_path: Path) -> None:
    data, models = {"ideal_dataset": toy_tables["ideal_dataset"]}, tmp_path / "run" / "models"
    config = {**CONFIG, "optimiser": {**OPTIMISER, "epochs": 1}}
    for name, method in (("vgg", "prototypical"), ("vgg-standard", "standard")):
        STAGE.execute({**data, "classifier": models / f"{name}.safetensors"}, {**config, "method": method})
    again = {**data, "classifiers": tmp_path / "run", "classifier": tmp_path / "c"}
    for name, method in (("vgg", "prototypical"), ("vgg-standard", "standard")):
        STAGE.execute(again, {**config, "method": method, "optimiser": {**OPTIMISER, "epochs": 9}})
        assert digest(tmp_path / "c") == digest(models / f"{name}.safetensors")
    (tmp_path / "c").unlink()
    with pytest.raises(InputError, match=r"vgg-augmented\.safetensors: there is no such model"):
        STAGE.execute(again, {**config, "method": "augmented"})
    shutil.copy(models / "vgg.safetensors", models / "densenet.safetensors")
    with pytest.raises(InputError, match=r"is vgg, prototypical, not densenet, prototypical"):
        STAGE.execute(again, {**config, "network": {"architecture": "densenet"}})
    rows = read_ideal(data["ideal_dataset"])
    columns = {name: rows.rows[name].to_numpy(object) for name in rows.rows} | {"intensity": rows.intensity}
    write_table(tmp_path / "wide.parquet", columns, ideal_schema(Grid(points=128, stop=80)))
    with pytest.raises(InputError, match=r"vgg\.safetensors: is on the grid"):
        STAGE.execute({**again, "ideal_dataset": tmp_path / "wide.parquet"}, config)
    assert not (tmp_path / "c").exists()
