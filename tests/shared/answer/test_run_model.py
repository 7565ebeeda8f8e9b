"""A run's networks as one model: what belongs together, several asked at once, and what is said of a pattern."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from imitation_refinement.answer.domain import Flag, Kind
from imitation_refinement.answer.run_model import (
    RECORD,
    RunModel,
    answer_pattern,
    load_run,
    read_run_model,
    refine_pattern,
    write_run_model,
)
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.errors import InputError
from imitation_refinement.learning.models import load_classifier

ANGLES = np.arange(5, 90, 0.05)


def pattern(places: tuple[float, ...] = (20, 33, 47, 61), wavelength: float = 1.5406) -> Pattern:
    lines = sum(np.exp(-(((ANGLES - place) / 0.2) ** 2)) for place in places)
    counts = np.random.default_rng(0).poisson(30 + 1000 * np.asarray(lines, float) * np.ones(len(ANGLES)))
    return Pattern("p", ANGLES, counts.astype(float), wavelength)


@pytest.fixture(scope="module")
def models(toy_run: Path) -> Path:
    return toy_run / "models"


def test_a_folder_keeps_a_runs_model(toy_run: Path, models: Path, tmp_path: Path) -> None:
    files = (models / "densenet.safetensors", models / "densenet-targeted.safetensors")
    write_run_model(tmp_path / "m", "mine", files[:1], files[1])
    kept, own = read_run_model(tmp_path / "m"), load_run(toy_run, "densenet-targeted")
    assert (kept.name, kept.grid, kept.temperature) == ("mine", own.grid, own.temperature)
    one, other = refine_pattern(kept, pattern()), refine_pattern(own, pattern())
    np.testing.assert_array_equal(one.intensity, other.intensity)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_several_classifiers_are_the_mean_of_their_log_probabilities(models: Path) -> None:
    paths = [models / "vgg.safetensors", models / "densenet.safetensors"]
    x = np.random.default_rng(0).random((3, 128), np.float32)
    found = RunModel.read("both", paths, temperature=2.0).probabilities(x)
    with torch.no_grad():
        parts = [np.log((load_classifier(path)[0](torch.from_numpy(x)) / 2).softmax(1).numpy()) for path in paths]
    expected = np.exp(np.mean(parts, axis=0))
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), rtol=1e-4)


def test_a_classifier_alone_leaves_the_pattern_as_it_is(models: Path) -> None:
    model = RunModel.read("vgg", [models / "vgg.safetensors"])
    found = refine_pattern(model, pattern())
    np.testing.assert_array_equal(found.intensity, pattern().intensity)
    assert found.moved == 0 and found.probabilities.sum() == pytest.approx(1)
    assert model.keeping_angles() is model


def test_files_that_do_not_belong_together(models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was not trained through"):
        RunModel.read("x", [models / "vgg.safetensors"], models / "densenet-targeted.safetensors")
    with pytest.raises(InputError, match="has no classifier"):
        RunModel.read("x", [])
    write_run_model(tmp_path / "m", "x", [models / "vgg.safetensors"])
    (tmp_path / "m" / "classifier-1.safetensors").write_bytes((models / "densenet.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"classifier-1\.safetensors: is missing, or not the file"):
        read_run_model(tmp_path / "m")
    for text, said in (("{", "no record"), ("[]", "no record"), ('{"version": 9}', "no record")):
        (tmp_path / "m" / RECORD).write_text(text)
        with pytest.raises(InputError, match=said):
            read_run_model(tmp_path / "m")


def test_a_newer_record_is_told(models: Path, tmp_path: Path) -> None:
    write_run_model(tmp_path / "m", "x", [models / "vgg.safetensors"])
    path = tmp_path / "m" / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(InputError, match="is of version 2, and this program reads 1"):
        read_run_model(tmp_path / "m")


def test_what_speaks_against_an_answer(toy_run: Path) -> None:
    model = load_run(toy_run)
    found, checks = answer_pattern(model, pattern())
    assert found is not None and Flag.of(checks) is not Flag.OUTSIDE
    narrow = Pattern("p", np.linspace(30, 40, 500), np.full(500, 9.0), 1.5406)
    found, checks = answer_pattern(model, narrow)
    assert found is None and [check.kind for check in checks] == [Kind.RANGE] and "2θ from 5 to 90°" in checks[0].text
    flat = Pattern("p", ANGLES, np.random.default_rng(1).poisson(50, len(ANGLES)).astype(float), 1.5406)
    found, checks = answer_pattern(model, flat)
    assert found is not None and checks[0].kind in (Kind.EMPTY, Kind.NOISE) and Flag.of(checks) is Flag.OUTSIDE
    beyond = np.where(ANGLES < 60, 0.0, 7.0)
    found, checks = answer_pattern(model, Pattern("p", ANGLES, np.where(ANGLES > 89.99, 1.0, 0 * beyond), 1.5406))
    assert Flag.of(checks) is Flag.OUTSIDE
