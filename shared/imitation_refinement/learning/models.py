"""Model files: safetensors with the architecture and the grid in their metadata. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from imitation_refinement.data.formula import NAMING
from imitation_refinement.errors import InputError
from imitation_refinement.files import writing
from imitation_refinement.learning.config import ClassifierConfig, GeneratorConfig, RefinerConfig, RootRefinerConfig
from imitation_refinement.learning.generator import Generator
from imitation_refinement.learning.model_files import METADATA_KEY, record_of, remedy, usable
from imitation_refinement.learning.networks import Classifier, Refiner
from imitation_refinement.learning.root_refiner import RootRefiner
from imitation_refinement.xrd.grid import Grid

LARGEST = 1e9  # weight; NaN is not below it
MATERIALS = "materials"  # the tensor of what a classifier has learnt
N = TypeVar("N", bound=nn.Module)


def save_model(
    path: str | Path,
    model: Classifier | Refiner | Generator | RootRefiner,
    grid: Grid,
    about: Mapping[str, object],
    materials: Iterable[str] = (),
    precision: torch.dtype = torch.float32,
) -> None:
    """Writes a model whole.

    Args:
        path: the ``.safetensors`` file.
        model: the network.
        grid: the grid that it was trained on.
        about: what else should be kept with it (training options, seed, metrics); JSON-serialisable.
        materials: names of what it has learnt, for :func:`check_unseen`.
        precision: of the weights in the file; they are read as float32.
    """
    kind = next(family for family in (Classifier, Refiner, Generator, RootRefiner) if isinstance(model, family))
    record = {
        "kind": kind.__name__,
        "config": model.config.model_dump(),
        "grid": grid.model_dump(),
        "about": dict(about),
        "naming": NAMING,
    }
    with writing(path) as temporary:
        state = {name: _stored(tensor, precision) for name, tensor in model.state_dict().items()}
        state[MATERIALS] = torch.from_numpy(np.unique(_keys(set(materials))))
        # One entry: safetensors writes several in any order, and the same model should be the same file.
        save_file(state, temporary, metadata={METADATA_KEY: json.dumps(record)})


def _stored(tensor: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """A tensor of a model as its file keeps it."""
    kept = tensor.detach().cpu().contiguous()
    return kept.to(precision) if kept.is_floating_point() else kept


def load_classifier(path: str | Path) -> tuple[Classifier, Grid, dict[str, object]]:
    """A classifier with its prototypes, in evaluation mode; its grid; what was kept with it.

    GTA's is the encoder of its generator, whose file is taken, too.

    Raises:
        InputError: if the file is no classifier.
    """
    if record_of(path, "Classifier")["kind"] == Generator.__name__:
        generator, grid, about = load_generator(path)
        return generator.encoder, grid, about
    return _load(path, Classifier, lambda config, _: ClassifierConfig.model_validate(config).build())


def load_refiner(path: str | Path) -> tuple[Refiner, Grid, dict[str, object]]:
    """A refiner in evaluation mode; its grid; what was kept with it.

    Raises:
        InputError: if the file is no refiner.
    """
    return _load(path, Refiner, lambda config, _: RefinerConfig.model_validate(config).build())


def load_root_refiner(path: str | Path) -> tuple[RootRefiner, Grid, dict[str, object]]:
    """The refiner of a model that answers, in evaluation mode; its grid; what was kept with it.

    Raises:
        InputError: if the file is no such refiner.
    """
    return _load(path, RootRefiner, lambda config, grid: RootRefinerConfig.model_validate(config).build(grid))


def load_generator(path: str | Path) -> tuple[Generator, Grid, dict[str, object]]:
    """GTA's generator with its encoder, in evaluation mode; its grid; what was kept with it.

    Raises:
        InputError: if the file is no generator.
    """
    return _load(path, Generator, lambda config, _: GeneratorConfig.model_validate(config).build())


def check_unseen(path: str | Path, materials: Iterable[str]) -> None:
    """Refuses a classifier that has learnt the theory of what it is to be tested on.

    A file keeps 64 bits of each name's hash: among 10⁶ a new one passes for known with p = 10⁻¹³. Hashes know no
    tolerance: two files of one solid solution whose rounded shares make two names (:func:`~.formula.normal`) are seen
    by the preprocess stage alone, which compares all that is in one run.

    Args:
        path: a file that :func:`load_classifier` takes.
        materials: names of materials, in their normal form.

    Raises:
        InputError: if it has learnt one of them, or does not say.
    """
    names = sorted(set(materials))
    known = learnt([path], names)
    if known.any():
        problem = f"has learnt {known.sum()} of the materials that it is to be tested on, as {names[known.argmax()]}."
        raise InputError(path, problem, "Train it with --keep-out and the patterns of these.")


def learnt(paths: Iterable[str | Path], materials: Sequence[str]) -> NDArray[np.bool_]:
    """Which materials the theory of was learnt by at least one of some classifiers, shape (n,); see check_unseen.

    Args:
        paths: files that :func:`load_classifier` takes.
        materials: names of n materials, in their normal form.

    Raises:
        InputError: if a file does not say.
    """
    keys = _keys(materials)
    return np.logical_or.reduce([_knows(path, keys) for path in paths])


def _knows(path: str | Path, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    with safe_open(path, framework="np") as stored:
        if MATERIALS not in stored.keys():  # noqa: SIM118
            raise InputError(path, "does not say what it has learnt: an earlier version made it.", "Train it again.")
        if json.loads((stored.metadata() or {})[METADATA_KEY]).get("naming") != NAMING:
            problem = "calls the materials that it has learnt as an earlier version did; they can't be compared."
            raise InputError(path, problem, "Train it again.")
        return np.isin(keys, stored.get_tensor(MATERIALS))


def _keys(materials: Iterable[str]) -> NDArray[np.int64]:
    """64 bits of each name's hash."""
    return np.array(
        [int.from_bytes(blake2b(m.encode(), digest_size=8).digest(), signed=True) for m in materials], np.int64
    )


def _load(
    path: str | Path, kind: type[N], build: Callable[[dict[str, object], Grid], N]
) -> tuple[N, Grid, dict[str, object]]:
    record = record_of(path, kind.__name__)
    if record["kind"] != kind.__name__:
        raise InputError(path, f"holds a {record['kind']}.", remedy(kind.__name__))
    with usable(path, kind.__name__), safe_open(path, framework="pt") as stored:
        grid = Grid.model_validate(record["grid"])
        model = build(record["config"], grid)
        weights = {name: stored.get_tensor(name) for name in set(stored.keys()) - {MATERIALS}}
        if not all(_possible(name, weight) for name, weight in weights.items() if weight.is_floating_point()):
            raise ValueError("it has weights that no training gives")
        model.load_state_dict(weights)
    return model.eval(), grid, record["about"]


def _possible(name: str, weight: Tensor) -> bool:
    """Whether a training may have given these numbers: what is too large, or a variance below 0, makes outputs NaN."""
    usual = bool((weight.abs() < LARGEST).all())
    return usual and not (name.endswith("running_var") and bool((weight < 0).any()))


def frozen(model: N) -> N:
    """The model in evaluation mode (batch-norm statistics included) with no parameter that learns."""
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def apply(model: nn.Module, patterns: NDArray[np.floating], batch_size: int = 256) -> NDArray[np.float32]:
    """A model on patterns, batch by batch.

    Args:
        model: a network on intensities (maximum 1) of shape (n, points); it works where its parameters are.
        patterns: shape (n, points).
        batch_size: patterns at a time.

    Returns:
        What the model gives: refined intensities (n, points), or logits (n, 7).
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    tensor = torch.from_numpy(patterns.astype(np.float32))
    return torch.cat([model(batch.to(device)).cpu() for batch in tensor.split(batch_size)]).numpy()


def probabilities(
    classifier: Classifier, patterns: NDArray[np.floating], temperature: float = 1.0
) -> NDArray[np.float32]:
    """Class probabilities, shape (n, 7), of intensities of shape (n, points) (maximum 1)."""
    logits: Tensor = torch.from_numpy(apply(classifier, patterns))
    return (logits / temperature).softmax(1).numpy()


def fit_temperature(classifier: Classifier, patterns: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature T of softmax(logits / T) with the least cross entropy (Guo et al., ICML 2017).

    Args:
        classifier: gives the logits.
        patterns: held-out intensities (maximum 1), shape (n, points).
        labels: their true classes, shape (n,); at least one.
    """
    logits, truth = torch.from_numpy(apply(classifier, patterns)).double(), torch.from_numpy(labels)
    result = minimize_scalar(
        lambda log_t: float(torch.nn.functional.cross_entropy(logits / np.exp(log_t), truth)),
        bounds=(np.log(0.05), np.log(100)),
        method="bounded",
    )
    return float(np.exp(result.x))


def use_device(name: str) -> torch.device:
    """The device to train on: ``auto`` is a GPU if there is one.

    Raises:
        InputError: if the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError("device", f"{name!r} is no device.", "Use auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda" and (device.index or 0) >= (found := torch.cuda.device_count()):
        raise InputError("device", f"{name} is asked for but there are {found} GPUs.", "Use device=auto or cpu.")
    return device
