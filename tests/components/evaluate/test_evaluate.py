"""A small run's results, recomputed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.evaluate.embedding import embedding_panels
from components.evaluate.stage import STAGE
from imitation_refinement.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.datasets import read_ideal, read_imperfect
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.models import apply, load_classifier, load_refiner, probabilities

FIELDS = {"method", "classifier", "supervision", "n_train", "n_test", "accuracy", "accuracy_low", "accuracy_high"}
FIELDS |= {"l1", "l2", "kl", "ncc"}


@pytest.fixture
def results(toy_run: Path) -> dict[str, Any]:
    return json.loads((toy_run / "results.json").read_text())


def test_a_row_for_each_method_and_classifier(results: dict[str, Any]) -> None:
    rows = results["rows"]
    assert [(r["classifier"], r["method"], r["supervision"]) for r in rows] == [
        ("densenet", "raw", None),
        ("densenet", "dwt", None),
        ("densenet", "ir", "targeted"),
        ("vgg", "raw", None),
        ("vgg", "dwt", None),
        ("vgg", "ir", "non_targeted"),
        ("vgg", "ir", "targeted"),
    ]
    for row in rows:
        assert set(row) >= FIELDS
        assert row["n_test"] == 14 and row["n_train"] == (56 if row["method"] == "ir" else 0)
        assert 0 <= row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] <= 1


def test_the_record(results: dict[str, Any], toy_run: Path) -> None:
    assert results["profile"] == "toy" and results["seed"] == 3
    for name, table in (("structures", "ideal_dataset"), ("imperfect", "imperfect_dataset")):
        record = results["data"][name]
        assert record["sha256"] == digest(toy_run / f"{table}.parquet") and record["source"] == "built-in"
        assert [record[f"n_{split}"] for split in ("train", "validation", "test", "held_out")] == [56, 14, 14, 0]


def patterns_of(toy_run: Path, row: dict[str, Any]) -> Any:
    data = read_imperfect(toy_run / ("dwt.parquet" if row["method"] == "dwt" else "imperfect_dataset.parquet"))
    patterns, labels = data.part("test")
    if row["method"] == "ir":
        refiner = load_refiner(toy_run / "models" / f"{row['classifier']}-{row['supervision']}.safetensors")[0]
        patterns = apply(refiner, patterns)
    return patterns, labels


def test_accuracies_again(results: dict[str, Any], toy_run: Path) -> None:
    for row in results["rows"]:
        classifier = load_classifier(toy_run / "models" / f"{row['classifier']}.safetensors")[0]
        patterns, labels = patterns_of(toy_run, row)
        assert row["accuracy"] == pytest.approx((probabilities(classifier, patterns).argmax(1) == labels).mean())


def test_distances_again(results: dict[str, Any], toy_run: Path) -> None:
    """By the definitions in words, over the test patterns that have a theory."""
    data = read_imperfect(toy_run / "imperfect_dataset.parquet").select("test")
    assert data.theory is not None
    known = np.isfinite(data.theory[:, 0])
    assert known.sum() == 13
    for row in results["rows"]:
        patterns, _ = patterns_of(toy_run, row)
        x, t = (v[known].astype(float) for v in (patterns, data.theory))
        x, t = (v / v.max(1, keepdims=True) for v in (x, t))
        assert row["l1"] == pytest.approx(np.median(np.abs(x - t).sum(1)), rel=1e-4)
        assert row["l2"] == pytest.approx(np.median(np.sqrt(((x - t) ** 2).sum(1))), rel=1e-4)
        assert row["ncc"] == pytest.approx(np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(x, t, strict=True)]))
        p, q = (0.99 * v / v.sum(1, keepdims=True) + 0.01 / v.shape[1] for v in (x, t))
        assert row["kl"] == pytest.approx(np.median((q * np.log(q / p)).sum(1)), rel=1e-4)
        assert row["n_theory"] == 13


def test_the_selected_refiner_is_chosen_by_the_validation_part(results: dict[str, Any], toy_run: Path) -> None:
    data = read_imperfect(toy_run / "imperfect_dataset.parquet")
    patterns, labels = data.part("validation")
    scores = {}
    for row in results["rows"]:
        if row["method"] == "ir":
            name = f"{row['classifier']}-{row['supervision']}"
            classifier = load_classifier(toy_run / "models" / f"{row['classifier']}.safetensors")[0]
            refined = apply(load_refiner(toy_run / "models" / f"{name}.safetensors")[0], patterns)
            scores[name] = (probabilities(classifier, refined).argmax(1) == labels).mean()
            assert row["validation_accuracy"] == pytest.approx(scores[name])
    assert scores[results["selected"]] == max(scores.values())


def test_accuracy_on_ideal_patterns(results: dict[str, Any], toy_run: Path) -> None:
    patterns, labels = read_ideal(toy_run / "ideal_dataset.parquet").part("test")
    for name in ("vgg", "densenet"):
        classifier = load_classifier(toy_run / "models" / f"{name}.safetensors")[0]
        right = (probabilities(classifier, patterns).argmax(1) == labels).mean()
        assert results["ideal_accuracy"][name] == pytest.approx(right)


def test_predictions(results: dict[str, Any], toy_run: Path) -> None:
    table = pd.read_csv(toy_run / "predictions.csv")
    assert len(table) == 7 * 14
    systems = [str(s) for s in CRYSTAL_SYSTEMS]
    assert table[systems].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)
    right = (table["predicted"] == table["crystal_system"]).groupby(table["method"]).mean()
    for row in results["rows"]:
        assert right[f"{row['classifier']}-{row['supervision'] or row['method']}"] == pytest.approx(row["accuracy"])


def test_report_table_and_figures(toy_run: Path) -> None:
    assert "<html" in (toy_run / "report.html").read_text()
    table = (toy_run / "results.txt").read_text()
    assert "DenseNet" in table and "VGG" in table
    names = {path.stem for path in (toy_run / "figures").iterdir()}
    assert {"accuracy", "patterns", "embedding", "confusion-vgg-raw", "confusion-vgg-targeted"} <= names
    for path in (toy_run / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_embedding_panels_share_their_axes(toy_run: Path) -> None:
    classifier = load_classifier(toy_run / "models" / "vgg.safetensors")[0]
    data = read_ideal(toy_run / "ideal_dataset.parquet")
    parts = {"all": (data.intensity, data.labels), "few": data.part("test"), "none": data.part("held_out")}
    panels, prototypes = embedding_panels(classifier, parts, 20, seed=0)
    assert [(title, xy.shape, len(labels)) for title, xy, labels in panels] == [
        ("all", (20, 2), 20),
        ("few", (14, 2), 14),
    ]
    assert len(prototypes) == 2 and prototypes[0] is prototypes[1] and prototypes[0].shape == (7, 2)
    again, _ = embedding_panels(classifier, parts, 20, seed=0)
    np.testing.assert_array_equal(panels[0][1], again[0][1])


def evaluate(toy_run: Path, out: Path, **changed: Any) -> None:
    models = toy_run / "models"
    paths = {
        "classifiers": [models / "vgg.safetensors", models / "densenet.safetensors"],
        "refiners": [models / "vgg-targeted.safetensors"],
        "ideal_dataset": toy_run / "ideal_dataset.parquet",
        "imperfect_dataset": toy_run / "imperfect_dataset.parquet",
        "dwt": toy_run / "dwt.parquet",
        **{name: out / name for name in ("results", "table", "report", "figures", "predictions")},
    }
    STAGE.execute({**paths, **changed}, {"resamples": 100, "embedded": 50, "examples": 1})


def test_files_that_do_not_belong_together(toy_run: Path, tmp_path: Path, toy_tables: dict[str, Path]) -> None:
    models = toy_run / "models"
    with pytest.raises(InputError, match=r"vgg-targeted\.safetensors: was trained through another classifier"):
        evaluate(toy_run, tmp_path / "out", classifiers=[models / "densenet.safetensors"])
    with pytest.raises(InputError, match="holds a Refiner"):
        evaluate(toy_run, tmp_path / "out", classifiers=[models / "vgg-targeted.safetensors"])
    import pyarrow.parquet as pq

    table = pq.read_table(toy_run / "dwt.parquet")
    pq.write_table(table.slice(1), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet: holds other patterns"):
        evaluate(toy_run, tmp_path / "out", dwt=tmp_path / "other.parquet")
    imperfect = pq.read_table(toy_run / "imperfect_dataset.parquet")
    pq.write_table(imperfect.slice(0, 70), tmp_path / "untested.parquet")
    with pytest.raises(InputError, match=r"untested\.parquet: has no test pattern"):
        evaluate(toy_run, tmp_path / "out", imperfect_dataset=tmp_path / "untested.parquet")
    assert not list((tmp_path / "out").rglob("*"))
