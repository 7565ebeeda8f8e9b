"""What model files say of themselves: safetensors' metadata. Light: neither torch nor the weights are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from imitation_refinement.errors import InputError
from imitation_refinement.files import parse_json

METADATA_KEY = "imitation_refinement"


def model_name(architecture: str, method: str, supervision: str = "", special: str = "") -> str:
    """What a model is called among those of a run: ``vgg``, ``vgg-standard``, ``densenet-targeted-with_ideal``, ….

    Args:
        architecture: of the classifier, or of the one that a refiner was trained through.
        method: of a classifier, or ``ir``.
        supervision: of a refiner.
        special: a refiner's variant, or how many labels it was given.
    """
    own = "" if method == "prototypical" else supervision or method
    return "-".join(part for part in (architecture, own, special) if part)


def name_of(path: str | Path) -> str:
    """What a model file says that it is, by :func:`model_name`; the weights are not read.

    Raises:
        InputError: if it is no model, or does not say.
    """
    record = record_of(path)
    about = record["about"]
    try:
        if record["kind"] == "Refiner":
            special = about["variant"] or (f"labelled_{about['labelled']}" if about["labelled"] else "")
            return model_name(about["classifier"], about["method"], about["supervision"], special)
        config = record["config"]
        return model_name(config.get("encoder", config)["architecture"], about["method"])
    except KeyError as error:
        raise InputError(path, f"does not say its {error}: an earlier version made it.", "Train it again.") from None


def model_tags(about: Mapping[str, Any]) -> dict[str, str]:
    """What a model is found by where models are kept, from what its file says (about); what is empty is left out."""
    names = ("method", "classifier", "supervision", "variant", "labelled")
    return {name: str(about[name]) for name in names if about.get(name)}


def model_called(name: str, paths: Iterable[str | Path]) -> str | Path:
    """Of several model files the one of that name, by :func:`name_of`.

    Raises:
        InputError: if there is none.
    """
    found = {name_of(path): path for path in paths}
    if name not in found:
        raise InputError(f"model {name}", f"is not among {', '.join(found) or 'none'}.", "Train that classifier, too.")
    return found[name]


def record_of(path: str | Path, kind: str = "model") -> dict[str, Any]:
    """What a model file says of itself: its kind, its config, its grid, and what else was kept with it (about).

    Args:
        path: the file.
        kind: what is looked for, for messages.

    Raises:
        InputError: if it is no model.
    """
    with usable(path, kind), safe_open(path, framework="np") as stored:
        record = parse_json((stored.metadata() or {})[METADATA_KEY])
        if not (isinstance(record, dict) and isinstance(record.get("about"), dict)):
            raise ValueError("it does not say what it is")
        return {name: record[name] for name in ("kind", "config", "grid", "about")}


@contextmanager
def usable(path: str | Path, kind: str) -> Iterator[None]:
    """Whatever keeps a file from being read as a model is one :class:`InputError`."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(path, "there is no such model.", "Check the path.") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValidationError, RuntimeError, ValueError) as error:
        raise InputError(path, f"is no usable model ({error}).", remedy(kind)) from None


def remedy(kind: str) -> str:
    """What to do where a file is no model of a kind."""
    return f"Give a {kind.lower()} that this program trained."
