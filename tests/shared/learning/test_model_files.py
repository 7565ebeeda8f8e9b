"""What a model file says that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.learning.config import ClassifierConfig, GeneratorConfig, UNetConfig
from imitation_refinement.learning.generator import Generator
from imitation_refinement.learning.model_files import model_called, name_of
from imitation_refinement.learning.models import save_model
from imitation_refinement.learning.networks import Classifier, UNet
from imitation_refinement.xrd.grid import Grid

VGG = ClassifierConfig(depths=(1, 1), widths=(8, 8), embedding=8)
DENSENET = ClassifierConfig(architecture="densenet", depths=(1,), widths=(8, 8), embedding=8)
REFINER: dict[str, Any] = {"method": "ir", "classifier": "vgg", "supervision": "targeted", "variant": "", "labelled": 0}


def write(path: Path, model: Any, about: dict[str, Any]) -> Path:
    save_model(path, model, Grid(points=128), about)
    return path


@pytest.mark.parametrize(
    ("config", "method", "expected"),
    [
        (VGG, "prototypical", "vgg"),
        (DENSENET, "standard", "densenet-standard"),
        (DENSENET, "adda", "densenet-adda"),
    ],
)
def test_classifiers(tmp_path: Path, config: ClassifierConfig, method: str, expected: str) -> None:
    assert name_of(write(tmp_path / "m", Classifier(config), {"method": method})) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "vgg-targeted"),
        ({"classifier": "densenet", "supervision": "non_targeted"}, "densenet-non_targeted"),
        ({"variant": "with_ideal"}, "vgg-targeted-with_ideal"),
        ({"labelled": 30}, "vgg-targeted-labelled_30"),
    ],
)
def test_refiners(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    refiner = UNet(UNetConfig(widths=(8, 8)))
    assert name_of(write(tmp_path / "m", refiner, REFINER | changes)) == expected


def test_a_generator_is_its_encoder_s(tmp_path: Path) -> None:
    generator = Generator(GeneratorConfig(encoder=DENSENET, points=128, noise=4, widths=(8,)))
    assert name_of(write(tmp_path / "m", generator, {"method": "gta", "classifier": "densenet"})) == "densenet-gta"


def test_the_one_of_a_name(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, Classifier(VGG), {"method": name}) for name in ("standard", "prototypical")]
    assert model_called("vgg", paths) == paths[1] and model_called("vgg-standard", paths) == paths[0]
    with pytest.raises(InputError, match="model densenet: is not among vgg-standard, vgg"):
        model_called("densenet", paths)


def test_files_that_do_not_say(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such model"):
        name_of(tmp_path / "nothing")
    (tmp_path / "text").write_text("no model")
    with pytest.raises(InputError, match="is no usable model"):
        name_of(tmp_path / "text")
    with pytest.raises(InputError, match="does not say its 'method': an earlier version"):
        name_of(write(tmp_path / "old", Classifier(VGG), {}))
