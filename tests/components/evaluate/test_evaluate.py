"""A small run's results, recomputed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from components.evaluate.drawings import examples
from components.evaluate.embedding import embedding_panels
from components.evaluate.methods import Entry
from components.evaluate.stage import STAGE
from imitation_refinement.data.contracts import ANSWERS, write_table
from imitation_refinement.data.datasets import Dataset, read_ideal, read_imperfect
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.learning.config import GeneratorConfig
from imitation_refinement.learning.generator import Generator
from imitation_refinement.learning.models import apply, load_classifier, load_refiner, probabilities, save_model
from imitation_refinement.results import figures
from imitation_refinement.vocabulary import Kind, Method
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid

FIELDS = {"name", "method", "classifier", "supervision", "variant", "labelled", "n_train", "n_test", "n_theory"}
FIELDS |= {"accuracy", "accuracy_low", "accuracy_high", "l1", "l2", "kl", "ncc"}
FIELDS |= {"gain", "gain_low", "gain_high", "p_value", "best_baseline", "against_plain"}
FIELDS |= {"gain_over_baseline", "gain_over_baseline_low", "gain_over_baseline_high", "p_baseline"}
FIELDS |= {"in_library", "gain_over_library", "gain_over_library_low", "gain_over_library_high", "p_library"}
FIELDS |= {
    "recalls",
    "predicted_counts",
    "calibration_error",
    "reliability",
    "accuracy_of_surest",
    "validation_accuracy",
}
ANSWERING = [str(method) for method in Method if method.kind is Kind.ANSWERS]
REFINERS = ["vgg-non_targeted", "densenet-targeted", "vgg-targeted"]
NAMES = [
    *ANSWERING,
    "densenet-raw",
    "densenet-dwt",
    "vgg-raw",
    "vgg-dwt",
    *REFINERS,
    "densenet-targeted-shuffled_labels",
]


@pytest.fixture
def results(toy_run: Path) -> dict[str, Any]:
    return json.loads((toy_run / "results.json").read_text())


@pytest.fixture
def rows(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in results["rows"]}


def test_a_row_for_each_method_and_classifier(results: dict[str, Any]) -> None:
    rows = results["rows"]
    assert [row["name"] for row in rows] == NAMES
    for row in rows:
        assert set(row) >= FIELDS
        assert row["n_test"] == 14 and row["n_theory"] == 13
        assert row["n_train"] == (56 if row["method"] in ("ir", "majority") else 0)
        assert 0 <= row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] <= 1
        assert sum(row["predicted_counts"].values()) == 14
    assert results["true_counts"] == dict.fromkeys(map(str, CRYSTAL_SYSTEMS), 2)


def test_the_record(results: dict[str, Any], toy_run: Path) -> None:
    assert results["profile"] == "toy" and results["seed"] == 3
    assert results["data"]["structures"]["with_remark"] == 3 and "with_remark" not in results["data"]["imperfect"]
    assert "with remark: 3" in (toy_run / "report.html").read_text()
    for name, table in (("structures", "ideal_dataset"), ("imperfect", "imperfect_dataset")):
        record = results["data"][name]
        assert record["sha256"] == digest(toy_run / f"{table}.parquet") and record["source"] == "built-in"
        assert [record[f"n_{split}"] for split in ("train", "validation", "test", "held_out")] == [56, 14, 14, 0]


def read_again(toy_run: Path, row: dict[str, Any], split: str = "test") -> tuple[Any, Any, Any]:
    """A row's patterns and labels of a split, and the logits of its classifier, by the files' own names."""
    data = read_imperfect(toy_run / ("dwt.parquet" if row["method"] == "dwt" else "imperfect_dataset.parquet"))
    patterns, labels = data.part(split)
    if row["method"] == "ir":
        name = f"{row['classifier']}-{row['variant'] or row['supervision']}"
        patterns = apply(load_refiner(toy_run / "models" / f"{name}.safetensors")[0], patterns)
    classifier = load_classifier(toy_run / "models" / f"{row['classifier']}.safetensors")[0]
    return patterns, labels, apply(classifier, patterns)


def test_accuracies_again(results: dict[str, Any], toy_run: Path) -> None:
    for row in results["rows"]:
        if row["classifier"]:
            for split, key in (("test", "accuracy"), ("validation", "validation_accuracy")):
                _, labels, logits = read_again(toy_run, row, split)
                assert row[key] == pytest.approx((logits.argmax(1) == labels).mean())
            _, labels, logits = read_again(toy_run, row)
            found = {system: int((logits.argmax(1) == k).sum()) for k, system in enumerate(map(str, CRYSTAL_SYSTEMS))}
            assert row["predicted_counts"] == found


def test_methods_without_a_network(rows: dict[str, dict[str, Any]]) -> None:
    assert [rows[name]["accuracy"] for name in ("majority", "nearest", "nearest_in_library")] == [2 / 14, 1, 1]
    for name in ANSWERING:
        row = rows[name]
        assert row["classifier"] == "" and row["gain"] is None and row["l1"] is None
        assert row["calibration_error"] is row["reliability"] is row["accuracy_of_surest"] is None
    for name in ("majority", "nearest", "nearest_in_library"):
        assert rows[name]["validation_accuracy"] == rows[name]["accuracy"]


def test_sureness_again(rows: dict[str, dict[str, Any]], toy_run: Path) -> None:
    """Calibration error and accuracy of the surest half, from the probabilities of predictions.csv."""
    table = pd.read_csv(toy_run / "predictions.csv")
    for name, row in rows.items():
        if row["reliability"] is None:
            continue
        part = table[table["method"] == name]
        sure = part[[str(s) for s in CRYSTAL_SYSTEMS]].max(axis=1)
        right = part["predicted"] == part["crystal_system"]
        bins = np.ceil(sure * 15)
        gaps = [abs(right[bins == b].mean() - sure[bins == b].mean()) * (bins == b).sum() for b in bins.unique()]
        assert row["calibration_error"] == pytest.approx(sum(gaps) / len(part), abs=1e-4)
        assert sum(row["reliability"]["n"]) == len(part)
        half = sure >= sure.sort_values(ascending=False).iloc[(len(part) + 1) // 2 - 1]
        assert row["accuracy_of_surest"]["0.5"] == pytest.approx(right[half].mean())


def test_gains_are_paired(rows: dict[str, dict[str, Any]], toy_run: Path) -> None:
    """McNemar's p and the gain, from the answers of the two rows alone."""
    table = pd.read_csv(toy_run / "predictions.csv")
    right = {name: (t["predicted"] == t["crystal_system"]).to_numpy() for name, t in table.groupby("method")}
    for name, row in rows.items():
        raw = f"{row['classifier']}-raw"
        if row["classifier"] and name != raw:
            only, other = (right[name] & ~right[raw]).sum(), (right[raw] & ~right[name]).sum()
            assert row["gain"] == pytest.approx((only - other) / 14)
            assert row["p_value"] == pytest.approx(binomtest(only, only + other).pvalue if only + other else 1)
        else:
            assert row["gain"] is None and row["p_value"] is None
        if row["method"] != "ir":
            assert row["best_baseline"] is None and row["gain_over_baseline"] is None
    in_library = ["nearest_in_library", "search_in_library"]
    others = [name for name in rows if rows[name]["method"] != "ir" and name not in in_library]
    for names, field, gain, p in (
        (others, "best_baseline", "gain_over_baseline", "p_baseline"),
        (in_library, "in_library", "gain_over_library", "p_library"),
    ):
        best = max(names, key=lambda name: right[name].sum())
        for name in ("densenet-targeted", "vgg-targeted", "vgg-non_targeted"):
            assert rows[name][field] == best
            assert rows[name][gain] == pytest.approx(rows[name]["accuracy"] - rows[best]["accuracy"])
            only, other = (right[name] & ~right[best]).sum(), (right[best] & ~right[name]).sum()
            assert rows[name][p] == pytest.approx(binomtest(only, only + other).pvalue if only + other else 1)
    for name in ("densenet-targeted", "vgg-targeted", "vgg-non_targeted"):
        assert rows[name]["against_plain"] is None
    control, whole = rows["densenet-targeted-shuffled_labels"], rows["densenet-targeted"]
    assert control["against_plain"]["gain"] == pytest.approx(control["accuracy"] - whole["accuracy"])


def test_honesty_is_measured_under_the_other_architecture(
    results: dict[str, Any], rows: dict[str, dict[str, Any]], toy_run: Path
) -> None:
    assert results["judges"] == {"vgg": "densenet-raw", "densenet": "vgg-raw"}
    measured = {"vgg-non_targeted", "vgg-targeted", "densenet-targeted", "densenet-targeted-shuffled_labels"}
    assert {name for name, row in rows.items() if "judge_accuracy" in row} == measured
    for name in measured:
        row, other = rows[name], {"vgg": "densenet", "densenet": "vgg"}[rows[name]["classifier"]]
        patterns, labels, _ = read_again(toy_run, row)
        judge = load_classifier(toy_run / "models" / f"{other}.safetensors")[0]
        assert row["judge_accuracy"] == pytest.approx((apply(judge, patterns).argmax(1) == labels).mean())
        assert row["judge_accuracy_raw"] == rows[f"{other}-raw"]["accuracy"]
        for key in ("peak_precision", "peak_recall_raw", "identity_l1", "noise_entropy", "hump_entropy_raw"):
            assert isinstance(row[key], float)


def test_what_the_gate_says_of_the_selected_refiner(results: dict[str, Any], toy_run: Path) -> None:
    """Recalls from predictions.csv; the nearest neighbour knows all toys, which no refiner can beat."""
    table = pd.read_csv(toy_run / "predictions.csv")
    for row in results["rows"]:
        own = table[table["method"] == row["name"]]
        right = (own["predicted"] == own["crystal_system"]).groupby(own["crystal_system"]).mean()
        assert row["recalls"] == pytest.approx(right.to_dict())
    found = {reason["about"]: reason for reason in results["gate"]["reasons"]}
    assert list(found) == ["baseline", "judge", "calibration", "recalls"]
    assert not found["baseline"]["kept"] and "Nearest neighbour" in found["baseline"]["words"]
    data = read_imperfect(toy_run / "imperfect_dataset.parquet").select("test")
    order, sha = np.argsort(data.rows["pattern_id"].to_numpy(str)), hashlib.sha256()
    for i in order:
        sha.update(f"{data.rows['pattern_id'].iloc[i]}\0{data.labels[i]}\0".encode() + data.intensity[i].tobytes())
    assert results["gate"]["tested_sha256"] == sha.hexdigest()


def test_distances_again(results: dict[str, Any], toy_run: Path) -> None:
    """By the definitions in words, over the test patterns that have a theory."""
    data = read_imperfect(toy_run / "imperfect_dataset.parquet").select("test")
    assert data.theory is not None
    known = np.isfinite(data.theory[:, 0])
    assert known.sum() == 13
    for row in results["rows"]:
        if not row["classifier"]:
            continue
        patterns, _, _ = read_again(toy_run, row)
        x, t = (v[known].astype(float) for v in (patterns, data.theory))
        x, t = (v / v.max(1, keepdims=True) for v in (x, t))
        assert row["l1"] == pytest.approx(np.median(np.abs(x - t).sum(1)), rel=1e-4)
        assert row["l2"] == pytest.approx(np.median(np.sqrt(((x - t) ** 2).sum(1))), rel=1e-4)
        assert row["ncc"] == pytest.approx(np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(x, t, strict=True)]))
        p, q = (0.99 * v / v.sum(1, keepdims=True) + 0.01 / v.shape[1] for v in (x, t))
        assert row["kl"] == pytest.approx(np.median((q * np.log(q / p)).sum(1)), rel=1e-4)
        assert row["n_theory"] == 13


def test_the_selected_refiner_is_chosen_by_the_validation_part(results: dict[str, Any], toy_run: Path) -> None:
    plain = [row for row in results["rows"] if row["method"] == "ir" and not row["variant"]]
    scores = {}
    for row in plain:
        _, labels, logits = read_again(toy_run, row, "validation")
        scores[row["name"]] = (logits.argmax(1) == labels).mean()
    assert scores[results["selected"]] == max(scores.values())


def test_accuracy_on_ideal_patterns(results: dict[str, Any], toy_run: Path) -> None:
    patterns, labels = read_ideal(toy_run / "ideal_dataset.parquet").part("test")
    for name in ("vgg", "densenet"):
        classifier = load_classifier(toy_run / "models" / f"{name}.safetensors")[0]
        right = (probabilities(classifier, patterns).argmax(1) == labels).mean()
        assert results["ideal_accuracy"][name] == pytest.approx(right)


def test_predictions(results: dict[str, Any], rows: dict[str, dict[str, Any]], toy_run: Path) -> None:
    table = pd.read_csv(toy_run / "predictions.csv")
    assert len(table) == len(NAMES) * 14
    assert list(table)[:5] == ["method", "pattern_id", "material", "crystal_system", "predicted"]
    assert table["material"][0] == "B70" and table["pattern_id"][0] == "p70"
    systems = [str(s) for s in CRYSTAL_SYSTEMS]
    told = table[~table["method"].isin(ANSWERING)]
    assert told[systems].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)
    assert table[systems].drop(told.index).isna().all(axis=None)
    for name, part in table.groupby("method"):
        assert (part["predicted"] == part["crystal_system"]).mean() == pytest.approx(rows[str(name)]["accuracy"])
        for key in ("l1", "l2", "kl", "ncc"):
            expected = rows[str(name)][key]
            assert part[key].median() == pytest.approx(np.nan if expected is None else expected, rel=1e-4, nan_ok=True)


def test_probabilities_are_those_that_refine_tells(rows: dict[str, dict[str, Any]], toy_run: Path) -> None:
    """At the refiner's own temperature."""
    classifier = load_classifier(toy_run / "models" / "vgg.safetensors")[0]
    refiner, _, about = load_refiner(toy_run / "models" / "vgg-targeted.safetensors")
    patterns, _ = read_imperfect(toy_run / "imperfect_dataset.parquet").part("test")
    table = pd.read_csv(toy_run / "predictions.csv").query("method == 'vgg-targeted'")
    expected = probabilities(classifier, apply(refiner, patterns), float(str(about["temperature"])))
    np.testing.assert_allclose(table[[str(s) for s in CRYSTAL_SYSTEMS]], expected, atol=2e-6)


def test_report_table_and_figures(toy_run: Path) -> None:
    report = (toy_run / "report.html").read_text()
    for text in ("Table 1", "Table 2", "Table 3", "Control: DenseNet: IR, targeted, shuffled labels", "Peak precision"):
        assert text in report, text
    table = (toy_run / "results.txt").read_text()
    assert "DenseNet" in table and "VGG" in table and "Majority class" in table
    names = {path.stem for path in (toy_run / "figures").iterdir()}
    assert names == {
        "accuracy",
        "predicted",
        "patterns",
        "embedding",
        "calibration-vgg",
        "calibration-densenet",
        *(f"confusion-{name}" for name in NAMES if name.endswith(("raw", "targeted"))),
        *(f"training-{name}" for name in ("vgg", "densenet", *REFINERS)),
    }
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


def inputs(toy_run: Path) -> dict[str, Any]:
    models = toy_run / "models"
    return {
        "classifiers": [models / "vgg.safetensors", models / "densenet.safetensors"],
        "refiners": [models / "vgg-targeted.safetensors"],
        **{name: toy_run / f"{name}.parquet" for name in ("ideal_dataset", "imperfect_dataset", "dwt", "answers")},
    }


def evaluate(toy_run: Path, out: Path, **changed: Any) -> list[dict[str, Any]]:
    outputs = {name: out / name for name in ("results", "table", "report", "figures", "predictions")}
    options = {"resamples": 100, "embedded": 50, "examples": 1}
    STAGE.execute({**inputs(toy_run), **outputs, **changed}, options)
    return json.loads((out / "results").read_text())["rows"]


def test_every_method_of_the_paper(toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "DPI", 30)  # drawn faster
    given = write_paper_models(toy_run, tmp_path)
    rows = {row["name"]: row for row in evaluate(toy_run, tmp_path / "out", **given)}
    kinds = ("standard", "augmented", "finetuned")
    assert set(rows) == {
        *(name for name in NAMES if name not in ("vgg-non_targeted",)),
        *(f"{architecture}-{kind}" for architecture in ("vgg", "densenet") for kind in kinds),
        "densenet-adda",
        "densenet-gta",
        "densenet-targeted-without_prototype",
        "densenet-targeted-labelled_10",
    }
    for name, row in rows.items():
        shown = row["method"] in ("raw", "dwt", "ir", "gta")
        assert (row["l1"] is not None) == shown, name
        assert row["n_train"] == {"finetuned": 33, "adda": 44, "gta": 44, "ir": 56, "majority": 56}.get(
            row["method"], 0
        )
    # Standard classifiers judge where there are any; GTA by its patterns alone, which are not what its answers are to.
    assert rows["vgg-targeted"]["judge"] == "densenet-standard" and rows["densenet-gta"]["judge"] == "vgg-standard"
    assert {"peak_precision", "identity_l1", "judge_gain"} <= set(rows["densenet-gta"])
    assert not {"noise_entropy", "ideal_accuracy"} & set(rows["densenet-gta"])
    assert "judge" not in rows["densenet-targeted-without_prototype"]
    assert rows["densenet-gta"]["accuracy"] == rows["densenet-raw"]["accuracy"]  # the same weights, on raw patterns
    assert rows["densenet-targeted-without_prototype"]["against_plain"]["gain"] == 0
    others = [row for row in rows.values() if row["method"] != "ir" and not row["name"].endswith("in_library")]
    best = rows[rows["vgg-targeted"]["best_baseline"]]
    assert best in others and best["accuracy"] == max(row["accuracy"] for row in others)
    names = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"labels-densenet", "embedding", "embedding-densenet-gta", "training-densenet-adda"} <= names


def write_paper_models(toy_run: Path, folder: Path) -> dict[str, list[Path]]:
    """The toy run's models under the names of other methods, and a generator that has learned nothing."""
    models = toy_run / "models"

    def write(name: str, model: Any, grid: Any, about: dict[str, Any]) -> Path:
        save_model(folder / f"{name}.safetensors", model, grid, about)
        return folder / f"{name}.safetensors"

    classifiers = [models / "vgg.safetensors", models / "densenet.safetensors"]
    for path in list(classifiers):
        model, grid, about = load_classifier(path)
        for kind in ("standard", "augmented", "finetuned"):
            known = about | {"method": kind} | ({"n_train": 33} if kind == "finetuned" else {})
            classifiers.append(write(f"{path.stem}-{kind}", model, grid, known))
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(encoder=model.config, points=grid.points))
    generator.encoder.load_state_dict(model.state_dict())
    for kind, made in (("adda", model), ("gta", generator)):  # of the last one, DenseNet
        classifiers.append(write(kind, made, grid, about | {"method": kind, "n_train": 44}))
    refiners = [models / f"{n}.safetensors" for n in ("vgg-targeted", "densenet-targeted", "densenet-shuffled_labels")]
    refiner, _, about = load_refiner(refiners[1])
    for variant, labelled in (("without_prototype", 0), ("", 10)):
        known = about | {"variant": variant, "labelled": labelled}
        refiners.append(write(f"densenet-{variant or labelled}", refiner, grid, known))
    return {"classifiers": classifiers, "refiners": refiners}


@pytest.mark.parametrize(
    ("formulas", "count", "first"),
    [
        (["NbGa3", "Cu", "Mn4Al11"], 2, [0, 2]),
        (["Cu", "Al11Mn4", "Ga6Nb2", "NbGa3"], 2, [2, 1]),  # in any order, and as a multiple
        (["Cu", "Mn4Al10", "p1", "NbGa3"], 1, [3]),
        (["Cu", "NaCl", "p1", "Fe"], 2, []),
    ],
)
def test_the_papers_materials_are_drawn_first(formulas: list[str], count: int, first: list[int]) -> None:
    n = len(formulas)
    theory = np.eye(n, 64, dtype=np.float32)
    test = Dataset(pd.DataFrame({"formula": formulas}), Grid(points=64), theory, theory, np.zeros(n, int))
    selected = Entry(Method.IR, np.zeros(n, int), patterns=theory)
    chosen = examples(selected, test, count)
    assert chosen[: len(first)] == first and len(chosen) == len(set(chosen)) == count


def resaved(path: Path, out: Path, kind: Any = load_classifier, **changed: Any) -> Path:
    model, grid, about = kind(path)
    about = {**about, **changed}
    save_model(out, model, grid, {key: value for key, value in about.items() if value is not None})
    return out


def test_models_must_say_what_they_are(toy_run: Path, tmp_path: Path) -> None:
    models, out = toy_run / "models", tmp_path / "out"
    vgg, densenet = models / "vgg.safetensors", models / "densenet.safetensors"
    old = resaved(vgg, tmp_path / "old.safetensors", method=None)
    with pytest.raises(InputError, match=r"old\.safetensors: does not say its method.*Train it again"):
        evaluate(toy_run, out, classifiers=[old, densenet])
    path = models / "vgg-targeted.safetensors"
    old = resaved(path, tmp_path / "r.safetensors", load_refiner, variant=None)
    with pytest.raises(InputError, match=r"r\.safetensors: does not say its variant"):
        evaluate(toy_run, out, refiners=[old])
    standard = resaved(vgg, tmp_path / "s.safetensors", method="standard")
    through = resaved(path, tmp_path / "t.safetensors", load_refiner, classifier_sha256=digest(standard))
    with pytest.raises(InputError, match=r"t\.safetensors: was trained through s\.safetensors, which is standard"):
        evaluate(toy_run, out, classifiers=[vgg, standard, densenet], refiners=[through])
    again = resaved(path, tmp_path / "again.safetensors", load_refiner, note=1)
    with pytest.raises(InputError, match="vgg-targeted: stands for 2 of the models given"):
        evaluate(toy_run, out, refiners=[path, again])
    variant = resaved(path, tmp_path / "v.safetensors", load_refiner, variant="without_prediction")
    with pytest.raises(InputError, match="is an ablation or a control"):
        evaluate(toy_run, out, refiners=[variant])
    assert not list(out.rglob("*"))


def test_answers_must_be_to_these_patterns(toy_run: Path, tmp_path: Path) -> None:
    answers = pd.read_parquet(toy_run / "answers.parquet")
    for table, message in (
        (answers[answers["pattern_id"] != "p75"], "majority has no answer to 'p75'"),
        (pd.concat([answers, answers.tail(1)]), "search_in_library answers 'p83' twice"),
        (answers.assign(method="oracle"), "unknown method 'oracle'"),
        (answers.assign(crystal_system="amorphous"), "unknown crystal_system 'amorphous'"),
    ):
        write_table(tmp_path / "a.parquet", table, ANSWERS)
        with pytest.raises(InputError, match=message):
            evaluate(toy_run, tmp_path / "out", answers=tmp_path / "a.parquet")


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
