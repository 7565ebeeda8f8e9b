"""Profiles: one typed configuration of a whole pipeline run, read from TOML and checked when read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from components.baselines.config import BaselinesConfig
from components.collect_structures.config import CollectConfig
from components.evaluate.config import EvaluateConfig
from components.preprocess.config import PreprocessConfig
from components.simulate.config import MAX_SHARDS, SimulateConfig
from imitation_refinement.errors import InputError
from imitation_refinement.files import is_file, read_bytes
from imitation_refinement.learning.config import AdaptConfig, PretrainConfig, RefineConfig
from imitation_refinement.options import Seed, StageConfig, config_error, flat, merged
from pipelines.studies import OPTIONS, STUDIES, Study, Task, Training

LARGEST_TOML = 1 << 16  # bytes; the longest profile has a tenth
BUILT_IN = ("smoke", "default", "paper", "paper-cpu")
ADAPTATIONS = ("finetuned", "adda", "gta")
SOURCES = ("structures", "imperfect", "test", "keep_out", "classifiers")  # what a run is given: paths, or nothing
# Stages whose options are a parameter of the pipeline.
PARAMETERS = ("collect_structures", "simulate", "preprocess", "baselines", "evaluate")


class Profile(StageConfig):
    """Every option of a run. ``seed`` goes to each stage that does not set its own."""

    name: str = Field(description="what the profile is called")
    study: Study = Field(
        "main", description="main: both classifiers and their refiners; paper: every method beside them"
    )
    seed: Seed = Field(0, description="seed of everything that is drawn")
    portable: bool = Field(
        False, description="whether any x86-64 processor repeats its numbers to the bit; slower, and without GPUs"
    )
    shards: int = Field(1, ge=1, le=MAX_SHARDS, description="parts that simulation fans out over")
    collect_structures: CollectConfig = CollectConfig()
    simulate: SimulateConfig = SimulateConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    vgg: PretrainConfig = PretrainConfig()
    densenet: PretrainConfig = PretrainConfig()
    targeted: RefineConfig = RefineConfig()
    non_targeted: RefineConfig = RefineConfig(supervision="non_targeted")
    finetuned: AdaptConfig = AdaptConfig()
    adda: AdaptConfig = AdaptConfig.model_validate({"method": "adda"})
    gta: AdaptConfig = AdaptConfig.model_validate({"method": "gta"})
    baselines: BaselinesConfig = BaselinesConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Gives the stages what belongs to the run: seed, name, flaws, and which network and supervision they are."""
        name = data.get("name", "")
        seed = {"seed": data["seed"]} if "seed" in data else {}
        try:
            TypeAdapter(dict[str, Seed]).validate_python(seed)
        except ValidationError:
            seed = {}  # a bad one is reported once
        run: dict[str, Any] = dict.fromkeys(("collect_structures", "simulate", "preprocess"), seed)
        run["evaluate"] = {**seed, "profile": name, "portable": data.get("portable", False)}
        simulated = data.get("simulate", {})
        known = simulated if isinstance(simulated, dict) else {}
        drawn = {key: known[key] for key in ("ranges", "profile") if key in known}
        run |= {n: {"optimiser": seed, "network": {"architecture": n}, **drawn} for n in ("vgg", "densenet")}
        run |= {stage: {"optimiser": seed, "supervision": stage} for stage in ("targeted", "non_targeted")}
        run |= {stage: {"optimiser": seed, "method": stage} for stage in ADAPTATIONS}
        return merged(run, data)

    @model_validator(mode="after")
    def _each_is_what_it_is_called(self) -> Profile:
        for name, part in (("vgg", self.vgg), ("densenet", self.densenet)):
            if part.network.architecture != name:
                raise ValueError(f"{name}.network.architecture must be {name}")
        for name, options in (("targeted", self.targeted), ("non_targeted", self.non_targeted)):
            if options.supervision != name:
                raise ValueError(f"{name}.supervision must be {name}")
        for name in ADAPTATIONS:
            if getattr(self, name).method != name:
                raise ValueError(f"{name}.method must be {name}")
        return self

    def parameters(self) -> dict[str, Any]:
        """The profile as the pipeline's parameters: options by stage, and the tasks of each loop with theirs."""
        stages = self.model_dump(include={*PARAMETERS}, mode="json")
        study = STUDIES[self.study]
        loops: dict[str, Any] = {loop: [self._task(t).model_dump() for t in study.get(loop, [])] for loop in OPTIONS}
        return {"shards": list(range(self.shards)), "n_shards": self.shards, **stages, **loops}

    def _task(self, training: Training) -> Task:
        options = getattr(self, training.section)
        config = type(options).model_validate({**options.model_dump(), **training.changes})
        return Task(label=training.label, classifier=training.classifier, config=config.model_dump(mode="json"))


def changed(profile: Profile) -> dict[str, Any]:
    """The options that differ from those of the built-in profile of that name, else from the defaults; ``a.b`` each.

    Seed and name, which every run says, are none of them, nor is what follows from them.
    """
    same = {"name": profile.name, "seed": profile.seed, "portable": profile.portable}
    if profile.name in BUILT_IN:
        plain = read_profile(profile.name, [f"seed={profile.seed}", f"portable={str(profile.portable).lower()}"])
    else:
        plain = Profile.model_validate(same)
    own, others = (dict(flat(x.model_dump(mode="json"))) for x in (profile, plain))
    return {key: value for key, value in own.items() if key not in others or others[key] != value}


def read_profile(name: str, settings: Sequence[str] = ()) -> Profile:
    """A built-in profile by name, or one in a TOML file, with single options changed.

    Args:
        name: one of :data:`BUILT_IN`, or the path of a TOML file.
        settings: ``option=value`` each, the option dotted (``targeted.optimiser.epochs=3``), the value as in TOML.

    Raises:
        InputError: if the profile or a setting can't be read, or an option is unknown or out of its range.
    """
    if name in BUILT_IN:
        content = (resources.files("pipelines") / "profiles" / f"{name}.toml").read_bytes()
    elif is_file(name):
        content = read_bytes(Path(name))
    else:
        raise InputError(f"profile {name}", "there is no such profile.", f"Use {', '.join(BUILT_IN)} or a TOML file.")
    data = with_settings(parse_toml(content, f"profile {name}"), settings)
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        raise config_error(f"profile {name}", error) from None


def parse_toml(content: bytes, where: str) -> dict[str, Any]:
    """A TOML file's content.

    Raises:
        InputError: if it is none; ``where`` names it.
    """
    if len(content) > LARGEST_TOML:
        raise InputError(where, f"is larger than {LARGEST_TOML >> 10} KiB.", "Leave out what is no option.")
    try:
        return tomllib.loads(content.decode())
    except RecursionError:
        raise InputError(where, "is nested too deeply.", "Correct it.") from None
    except ValueError as error:  # of TOML, of UTF-8, of a number with thousands of digits
        raise InputError(where, f"is no TOML ({error}).", "Correct that line.") from None


def with_settings(data: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """The same data with single options changed; see :func:`read_profile`."""
    for setting in settings:
        _set(data, setting)
    return data


def _set(data: dict[str, Any], setting: str) -> None:
    option, equals, text = setting.partition("=")
    if not equals:
        raise InputError(f"setting {setting}", "has no '='.", "Write option=value, as targeted.optimiser.epochs=3.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    *path, last = option.strip().split(".")
    for key in path:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise InputError(f"setting {setting}", f"{key} is no section.", "See the profile for its options.")
    data[last] = value


def as_text(profile: Profile) -> str:
    """The resolved profile as indented JSON."""
    return json.dumps(profile.model_dump(mode="json"), indent=2) + "\n"


def stored_profile(path: Path) -> Profile:
    """The resolved profile that :func:`as_text` wrote.

    Raises:
        InputError: if it can't be read, or is of a version with other options.
    """
    try:
        return Profile.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise config_error(str(path), error) from None
    except (OSError, ValueError) as error:
        raise InputError(path, f"can't be read ({error}).", "Begin a new run.") from None


def with_changes(profile: Profile, settings: Sequence[str]) -> Profile:
    """A resolved profile with single options changed; see :func:`read_profile`."""
    try:
        return Profile.model_validate(with_settings(profile.model_dump(mode="json"), settings))
    except ValidationError as error:
        raise config_error(f"profile {profile.name}", error) from None


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> str:
    """The dotted name of an option that differs in two resolved profiles; empty if none does."""
    for name in {**one, **other}:
        a, b = one.get(name), other.get(name)
        if a == b:
            continue
        inner = first_difference(a, b, f"{prefix}{name}.") if isinstance(a, dict) and isinstance(b, dict) else ""
        return inner or f"{prefix}{name}"
    return ""
