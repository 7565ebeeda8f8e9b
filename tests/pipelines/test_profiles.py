"""Profiles: typed, checked when read, every field named where it is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from components.simulate.config import SimulateConfig
from imitation_refinement.errors import InputError
from imitation_refinement.options import merged
from pipelines.cli import main
from pipelines.profiles import BUILT_IN, Profile, as_text, parse_toml, read_profile
from pipelines.studies import OPTIONS


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_profiles(name: str) -> None:
    profile = read_profile(name)
    assert profile.name == profile.evaluate.profile == name
    assert profile.vgg.network.architecture == "vgg" and profile.densenet.network.architecture == "densenet"
    assert profile.targeted.supervision == "targeted" and profile.non_targeted.supervision == "non_targeted"
    for classifier in (profile.vgg, profile.densenet):
        assert classifier.prototype_weight > 0  # each prototypical
    assert Profile.model_validate(json.loads(as_text(profile))) == profile


def test_portable_is_on_record() -> None:
    profile = read_profile("smoke", ["portable=true"])
    assert profile.portable and profile.evaluate.portable and '"portable": true' in as_text(profile)
    assert not read_profile("smoke").portable and not read_profile("smoke").evaluate.portable


def test_the_paper_s_sizes() -> None:
    paper = read_profile("paper")
    assert paper.vgg.network.depths == (2, 2, 4, 4, 4)
    assert paper.vgg.network.widths == (64, 128, 256, 512, 512)
    assert paper.densenet.network.depths == (6, 12, 24, 16)
    assert paper.densenet.network.widths[1] == 32
    assert paper.collect_structures.n_structures == 240_000
    assert paper.collect_structures.n_patterns == 1_494
    assert paper.preprocess.folds == 10


def test_the_default_run_has_the_sizes_asked_for() -> None:
    default = read_profile("default")
    assert default.collect_structures.n_structures >= 3_000
    assert default.collect_structures.n_patterns == 1_494


def test_one_seed_for_every_stage() -> None:
    profile = read_profile("smoke", ["seed=42"])
    seeds = [
        *(getattr(profile, stage).seed for stage in ("collect_structures", "simulate", "preprocess", "evaluate")),
        *(getattr(profile, stage).optimiser.seed for stage in ("vgg", "densenet", "targeted", "non_targeted")),
    ]
    assert seeds == [42] * 8
    own = read_profile("smoke", ["seed=42", "vgg.optimiser.seed=7"])
    assert (own.vgg.optimiser.seed, own.densenet.optimiser.seed) == (7, 42)
    for written in ('"42"', "42.0"):
        assert read_profile("smoke", [f"seed={written}"]) == profile


def test_single_settings() -> None:
    changed = read_profile(
        "smoke",
        ["targeted.optimiser.epochs=9", "vgg.network.norm=batch", "simulate.grid.stop = 80.5", "targeted.norm=2"],
    )
    plain = read_profile("smoke")
    assert changed.targeted.optimiser.epochs == 9 and changed.targeted.norm == 2
    assert changed.vgg.network.norm == "batch"
    assert changed.simulate.grid.stop == 80.5
    assert changed.non_targeted == plain.non_targeted and changed.densenet == plain.densenet


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nseed = 3\n[simulate]\nmode = "pymatgen"\n', encoding="utf-8")
    profile = read_profile(str(path), ["shards=2"])
    assert (profile.name, profile.seed, profile.shards, profile.simulate.mode) == ("mine", 3, 2, "pymatgen")
    assert profile.densenet.network.architecture == "densenet"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("speed=3", "speed: .*not permitted"),
        ("targeted.optimizer.epochs=3", r"targeted\.optimizer"),
        ("targeted.optimiser.epochs=0", r"targeted\.optimiser\.epochs: .*greater than or equal to 1 .given: 0"),
        ("targeted.optimiser.epochs=many", r"targeted\.optimiser\.epochs: .*'many'"),
        ("vgg.network.dropout=1", r"vgg\.network\.dropout"),
        ("vgg.network.kernel=4", r"vgg\.network\.kernel: must be odd"),
        ("vgg.network.widths=[8]", r"vgg\.network: .*needs 3 widths"),
        ("vgg.network.architecture=densenet", "architecture|needs 2 widths"),
        ("targeted.supervision=non_targeted", r"targeted\.supervision must be targeted"),
        ("simulate.grid.stop=3", r"simulate\.grid: grid\.stop must be larger"),
        ("simulate.grid.points=1", r"simulate\.grid\.points"),
        ("shards=0", "shards"),
        ("targeted=3", "targeted: .*valid dictionary"),
        ("vgg.network=3", r"vgg\.network: "),
        ("vgg.optimiser=true", r"vgg\.optimiser: "),
        ("name.first=1", r"setting name\.first=1: name is no section"),
        ("seed", "setting seed: has no '='"),
    ],
)
def test_bad_settings_name_the_field(setting: str, named: str) -> None:
    with pytest.raises(InputError, match=named) as error:
        read_profile("smoke", [setting])
    assert error.value.remedy


@pytest.mark.parametrize("seed", ["abc", "-1", "4294967296", "9007199254740993", "inf"])
def test_a_bad_seed_is_reported_once(seed: str) -> None:
    with pytest.raises(InputError) as error:
        read_profile("smoke", [f"seed={seed}"])
    assert str(error.value).count("seed") == 1


def _numbers(options: BaseModel, before: str = "") -> Iterator[tuple[str, str]]:
    """Each number among the options, or the last of several, by its dotted name and how it is written."""
    for name, value in options:
        last = value[-1] if isinstance(value, tuple) and value else value
        if isinstance(value, BaseModel):
            yield from _numbers(value, f"{before}{name}.")
        elif isinstance(last, int | float) and not isinstance(last, bool):
            others = "".join(f"{v}, " for v in value[:-1]) if isinstance(value, tuple) else ""
            yield before + name, f"[{others}{{}}]" if isinstance(value, tuple) else "{}"


def test_every_number_is_finite_and_one_that_doubles_hold() -> None:
    """Kubeflow Pipelines hands on doubles: 2⁵³ + 1 would arrive as 2⁵³, infinity ends a run that has begun."""
    profile = read_profile("smoke")
    numbers = dict(_numbers(profile))
    assert {"seed", "vgg.network.widths", "simulate.ranges.counts", "gta.gta.target_weight"} <= set(numbers)
    for name, form in numbers.items():
        for value in ("9007199254740993", "-9007199254740993", "inf", "nan"):
            data = parse_toml(f"{name} = {form.format(value)}".encode(), name)
            with pytest.raises(ValidationError, match=rf"(?m)^{re.escape(name)}(\.\d+)?$"):
                Profile.model_validate(merged(profile.model_dump(mode="json"), data))


@pytest.mark.parametrize("command", ["run", "compile", "submit"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--seed", "4294967296"], "seed: Input should be less than or equal to 4294967295"),
        (["--set", "vgg.prototype_weight=inf"], "vgg.prototype_weight: Input should be a finite number"),
        (["--set", "baselines.dwt.wavelets=['x8']"], "baselines.dwt.wavelets: 'x8' is no discrete wavelet"),
        (["--set", "simulate.ranges.strain=[-1, 1]"], "simulate.ranges.strain: must lie within -0.1 and 0.1"),
    ],
)
def test_commands_refuse_them_before_anything_is_made(
    command: str,
    given: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    output = {"run": ["--output", "runs"], "compile": ["--output", "p.yaml"], "submit": []}[command]
    with pytest.raises(SystemExit) as end:
        main([command, "--profile", "smoke", *given, *output])
    assert end.value.code == 2 and said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_no_profile(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"profile fast: there is no such profile\..*smoke, default, paper"):
        read_profile("fast")
    for content in (b"name = ", b"\xff\xfe\x00"):
        (tmp_path / "p.toml").write_bytes(content)
        with pytest.raises(InputError, match=r"p\.toml: is no TOML"):
            read_profile(str(tmp_path / "p.toml"))
    (tmp_path / "p.toml").write_text("seed = 1\n")
    with pytest.raises(InputError, match="name: "):
        read_profile(str(tmp_path / "p.toml"))


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_pipelines_parameters_are_the_profile(name: str) -> None:
    """KFP hands numbers on as floats; the stages read them all the same."""

    def floats(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: floats(v) for key, v in value.items()}
        if isinstance(value, list):
            return [floats(v) for v in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    profile = read_profile(name)
    parameters = profile.parameters()
    assert parameters["shards"] == list(range(profile.shards)) and parameters["n_shards"] == profile.shards
    json.dumps(parameters)
    trained = {
        task["label"]: OPTIONS[loop].model_validate(floats(task["config"]))
        for loop in OPTIONS
        for task in parameters[loop]
    }
    for name in ("vgg", "densenet"):
        assert trained[f"pretrain_classifier {name}"] == getattr(profile, name)
        for stage in ("targeted", "non_targeted"):
            assert trained[f"train_refiner {name}_{stage}"] == getattr(profile, stage)
    control = {"variant": "shuffled_labels"}
    assert trained["train_refiner densenet_shuffled_labels"] == profile.targeted.model_copy(update=control)
    assert len(trained) == (7 if profile.study == "main" else 2 + 4 + 14 + 2 + 2 + 2)
    assert SimulateConfig.model_validate(floats(parameters["simulate"])) == profile.simulate
