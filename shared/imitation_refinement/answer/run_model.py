"""A run's networks as one model: a refiner with the classifier that it was trained through, or classifiers alone.

Light: what trains and logs models has none of what a search needs, which is imported where a pattern is answered to.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from imitation_refinement.data.patterns import LEAST_COVERAGE, Pattern, check_coverage
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest, parse_json, read_bytes, recorded, write_text
from imitation_refinement.learning.model_files import record_of
from imitation_refinement.learning.models import apply, load_classifier, load_refiner
from imitation_refinement.learning.networks import Classifier, Refiner
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid, convert_two_theta

if TYPE_CHECKING:
    from imitation_refinement.answer.domain import Check

RECORD, REFINER = "run_model.json", "refiner.safetensors"
VERSION = 1
REMEDY = "Give the folder that it was written to, whole."


@dataclass(frozen=True)
class RunModel:
    """What answers.

    Attributes:
        name: what it is called, as ``densenet-targeted``.
        classifiers: at least one, of one grid; where there is a refiner, the one that it was trained through.
        grid: of all.
        temperature: of the probabilities.
        refiner: what patterns go through before; None: they are classified as they were measured.
    """

    name: str
    classifiers: tuple[Classifier, ...]
    grid: Grid
    temperature: float = 1.0
    refiner: Refiner | None = None

    @classmethod
    def read(
        cls, name: str, classifiers: Sequence[Path], refiner: Path | None = None, temperature: float | None = None
    ) -> RunModel:
        """The model of some files.

        Args:
            name: what it is called.
            classifiers: their files.
            refiner: its file.
            temperature: of the probabilities, above 0; that in the refiner's file, or 1, without it.

        Raises:
            InputError: if a file is none, or they do not belong together.
        """
        if not classifiers:
            raise InputError(name, "has no classifier.", "Give at least one.")
        found = [load_classifier(path) for path in classifiers]
        grid = found[0][1]
        for path, (_, other, _) in zip(classifiers, found, strict=True):
            if other != grid:
                raise InputError(path, f"is on another grid than {classifiers[0]}.", "Give classifiers of one grid.")
        networks = tuple(network for network, _, _ in found)
        if refiner is None:
            return cls(name, networks, grid, temperature or 1.0)
        network, grid, about = load_refiner(refiner)
        if [digest(path) for path in classifiers] != [about.get("classifier_sha256")]:
            problem = f"was not trained through {', '.join(map(str, classifiers))}."
            raise InputError(refiner, problem, "Give a run whose models belong together.")
        return cls(name, networks, grid, temperature or float(str(about["temperature"])), network)

    @property
    def zero_error(self) -> float:
        """By how much patterns are moved down the axis [°]: the zero error of the instrument of the training."""
        return self.refiner.config.zero_error * self.grid.step if self.refiner else 0.0

    def keeping_angles(self) -> RunModel:
        """The same, leaving out the zero error of the instrument that the training patterns came from."""
        return replace(self, refiner=self.refiner.adjusted()) if self.refiner else self

    def probabilities(self, patterns: NDArray[np.floating]) -> NDArray[np.float64]:
        """Of the crystal systems, shape (n, 7), of intensities (maximum 1) of shape (n, points): softmax(mean / T)."""
        logits = np.mean([apply(classifier, patterns) for classifier in self.classifiers], axis=0)
        return (torch.from_numpy(logits) / self.temperature).softmax(1).numpy().astype(float)


@dataclass(frozen=True)
class Refined:
    """A pattern after refinement.

    Attributes:
        pattern: the pattern as it was given.
        intensity: refined, on the pattern's own angles and scale, shape (n,).
        probabilities: of the seven crystal systems, shape (7,).
        moved: by how much lines were moved, on the whole [°].
    """

    pattern: Pattern
    intensity: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    moved: float = 0.0

    @property
    def crystal_system(self) -> str:
        """The most probable crystal system."""
        return str(CRYSTAL_SYSTEMS[int(self.probabilities.argmax())])


def load_run(run: str | Path, name: str | None = None, keep_angles: bool = False) -> RunModel:
    """A refiner of a finished run with its classifier.

    Args:
        run: the run's folder, as ``runs/latest``.
        name: of the refiner, as ``densenet-targeted``; by default the one that did best on the validation part.
        keep_angles: leave out the zero error of the instrument that the training patterns came from.

    Raises:
        InputError: if the folder is no finished run or has no such refiner.
    """
    classifier, refiner = run_files(run, name)
    model = RunModel.read(refiner.stem, [classifier], refiner)
    return model.keeping_angles() if keep_angles else model


def run_files(run: str | Path, name: str | None = None) -> tuple[Path, Path]:
    """The files of a classifier and of a refiner of a finished run; arguments and errors as of :func:`load_run`."""
    run = Path(run)
    try:
        selected = str(parse_json(read_bytes(run / "results.json"))["selected"])
    except (InputError, ValueError, KeyError, TypeError):
        raise InputError(run, "is no finished run.", "Give the folder of one, as runs/latest.") from None
    path = run / "models" / f"{name or selected}.safetensors"
    if not path.exists():
        have = ", ".join(sorted(p.stem for p in (run / "models").glob("*-*.safetensors")))
        raise InputError(run, f"has no refiner {name or selected}.", f"It has: {have or 'none'}.")
    classifier = Path(str(record_of(path, "Refiner")["about"].get("classifier"))).name
    return run / "models" / f"{classifier}.safetensors", path


def refine_pattern(model: RunModel, pattern: Pattern) -> Refined:
    """Refines one pattern with a run's model; one without a refiner leaves it as it is, and classifies it.

    The refined pattern is interpolated (monotone cubic) from the model's grid to the pattern's own angles; outside the
    grid the pattern stays as it was measured.

    Args:
        model: of a run.
        pattern: a checked pattern with its wavelength.

    Raises:
        InputError: if the pattern covers too little of the model's grid.
    """
    check_coverage(pattern, model.grid)
    assert pattern.wavelength is not None, "a checked pattern has a wavelength"
    raw = model.grid.resample(pattern.two_theta, pattern.intensity, pattern.wavelength)
    scale = float(raw.max())
    if scale <= 0:
        raise InputError(pattern.where, "is zero everywhere on the model's grid.", "Measure it again.")
    if model.refiner is None:
        return Refined(pattern, np.array(pattern.intensity, float), model.probabilities(raw[None] / scale)[0])
    refined = apply(model.refiner, raw[None] / scale)
    angles = convert_two_theta(pattern.two_theta, pattern.wavelength, model.grid.wavelength)
    inside = (angles >= model.grid.start) & (angles <= model.grid.stop)
    intensity = np.array(pattern.intensity, float)
    curve = PchipInterpolator(model.grid.two_theta, refined[0].astype(float) * scale)
    intensity[inside] = np.maximum(curve(angles[inside]), 0)
    return Refined(pattern, intensity, model.probabilities(refined)[0], -model.zero_error)


def answer_pattern(model: RunModel, pattern: Pattern) -> tuple[Refined | None, tuple[Check, ...]]:
    """As :func:`refine_pattern`, and what speaks against the answer, as :func:`.identify.identify` says it.

    Args:
        model: of a run.
        pattern: a checked pattern with its wavelength.

    Returns:
        None, and why, where a pattern can't be answered to.
    """
    from imitation_refinement.answer import domain
    from imitation_refinement.answer.explain import peaks_of

    assert pattern.wavelength is not None, "a checked pattern has a wavelength"
    if (few := domain.measured_enough(pattern, model.grid, LEAST_COVERAGE)) is not None:
        return None, (few,)
    peaks = peaks_of(pattern.two_theta, pattern.intensity, pattern.wavelength)
    without = domain.without_lines(pattern, peaks)
    try:
        refined = refine_pattern(model, pattern)
    except InputError as error:  # nothing on the grid
        return None, (without or domain.Check(domain.Kind.EMPTY, f"{error.problem} {error.remedy}"),)
    checks = (
        without or domain.broad_or_coarse(pattern, peaks),
        domain.between_systems(refined.probabilities),
        domain.calculated(pattern),
    )
    return refined, tuple(check for check in checks if check is not None)


def write_run_model(
    folder: Path, name: str, classifiers: Sequence[Path], refiner: Path | None = None, temperature: float | None = None
) -> None:
    """Copies a model's files to a folder, with a record by which :func:`read_run_model` knows them.

    Args:
        folder: is made.
        name, classifiers, refiner, temperature: see :meth:`RunModel.read`.

    Raises:
        InputError: as :meth:`RunModel.read`.
    """
    model = RunModel.read(name, classifiers, refiner, temperature)
    folder.mkdir(parents=True)
    files = {f"classifier-{number}.safetensors": path for number, path in enumerate(classifiers, 1)}
    files |= {REFINER: refiner} if refiner else {}
    for kept, path in files.items():
        shutil.copyfile(path, folder / kept)
    record = {
        "version": VERSION,
        "name": name,
        "temperature": model.temperature,
        "digests": {kept: digest(folder / kept) for kept in files},
    }
    write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")


def read_run_model(folder: Path) -> RunModel:
    """The model in a folder that :func:`write_run_model` wrote.

    Raises:
        InputError: if there is none, or a file is missing, or another than the record names.
    """
    path = folder / RECORD
    with recorded(path, "is no record of a model", REMEDY):
        record = parse_json(read_bytes(path))
        version, name, temperature = record["version"], str(record["name"]), float(record["temperature"])
        digests = {Path(kept).name: str(value) for kept, value in record["digests"].items()}
    if version != VERSION:
        raise InputError(path, f"is of version {version}, and this program reads {VERSION}.", "Update the older one.")
    for kept, value in digests.items():
        if not (folder / kept).is_file() or digest(folder / kept) != value:
            raise InputError(folder / kept, f"is missing, or not the file that {path} names.", REMEDY)
    classifiers = [folder / kept for kept in sorted(digests, key=lambda kept: (len(kept), kept)) if kept != REFINER]
    return RunModel.read(name, classifiers, folder / REFINER if REFINER in digests else None, temperature)
