"""What is compared: each method's answers on the imperfect validation and test parts, read from its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imitation_refinement.data.contracts import ANSWERS, read_table
from imitation_refinement.data.datasets import UNLABELLED, Dataset, read_imperfect
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from imitation_refinement.learning.generator import Generator
from imitation_refinement.learning.models import (
    apply,
    check_unseen,
    load_classifier,
    load_generator,
    load_refiner,
    probabilities,
)
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.progress import progress
from imitation_refinement.results import metrics
from imitation_refinement.results.wording import block
from imitation_refinement.vocabulary import Block, Kind, Method, Supervision, Variant
from imitation_refinement.xrd.crystal import CLASS_INDEX, CrystalSystem
from imitation_refinement.xrd.grid import Grid

Patterns = NDArray[np.float32]
Labels = NDArray[np.int64]
History = Mapping[str, Sequence[float]]

PROTOTYPICAL = "prototypical"  # what the file of a classifier says whose answers to raw patterns are the row ``raw``


@dataclass(frozen=True)
class Parts:
    """The imperfect patterns that methods are compared on: the whole table, and two of its splits."""

    data: Dataset
    validation: Dataset
    test: Dataset


@dataclass(frozen=True)
class Entry:
    """What makes a row of the results: a method's answers to the test part, and who reads it.

    Attributes:
        method: what answers.
        predicted: class indices of the test part, shape (n,).
        classifier: the architecture that reads, empty without a network.
        supervision: of imitation refinement, None for other methods.
        variant: of imitation refinement.
        labelled: labelled patterns that it was given; 0: all, or none needed.
        n_train: imperfect patterns that it learned from.
        probabilities: of the test part, shape (n, 7); None for methods that give none.
        validation_accuracy: None without a validation part.
        patterns: the test patterns as the method shows them, shape (n, points); None where it leaves them as they are.
        reader: the classifier that answers.
        refiner: the network that makes ``patterns``.
        file: of the refiner, or of the classifier where there is none; None without a network.
        temperature: of ``probabilities``.
        history: of the training, by epoch.
    """

    method: Method
    predicted: Labels
    classifier: str = ""
    supervision: Supervision | None = None
    variant: Variant = Variant.PLAIN
    labelled: int = 0
    n_train: int = 0
    probabilities: NDArray[np.float32] | None = None
    validation_accuracy: float | None = None
    patterns: Patterns | None = None
    reader: Classifier | None = None
    refiner: nn.Module | None = None
    file: Path | None = None
    temperature: float = 1.0
    history: History = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``majority``, ``vgg-raw``, ``densenet-targeted-without_prototype``, ``densenet-targeted-labelled_30``, …"""
        labelled = f"labelled_{self.labelled}" if self.labelled else ""
        parts = (self.classifier, self.supervision or self.method, self.variant, labelled)
        return "-".join(part for part in parts if part)

    @property
    def plain(self) -> bool:
        """Whether it is imitation refinement as published, with all labels that there are."""
        return self.usable and not self.variant

    @property
    def usable(self) -> bool:
        """Whether it is imitation refinement in one of its forms: no ablation, no control, all labels."""
        return self.method is Method.IR and self.variant.named_form and not self.labelled

    def row(self) -> dict[str, Any]:
        """What the row of the results says about the method itself."""
        names = ("name", "method", "classifier", "supervision", "variant", "labelled", "n_train")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Reader:
    """A classifier and what its file says of it; GTA's with the generator that it embeds patterns for."""

    path: Path
    model: Classifier
    about: Mapping[str, Any]
    generator: Generator | None = None

    @property
    def method(self) -> Method:
        """What its answers to raw patterns are."""
        said = str(self.about["method"])
        return Method.RAW if said == PROTOTYPICAL else Method(said)

    @property
    def architecture(self) -> str:
        """The network's family."""
        return self.model.config.architecture


def read_methods(paths: Mapping[str, Any], device: torch.device) -> tuple[list[Entry], Parts]:
    """Every method of the run, in the order of the tables, and the patterns that they are compared on.

    Args:
        paths: the stage's inputs by name.
        device: that the networks run on.

    Raises:
        InputError: if a file can't be used, does not say what it is, or belongs to other files than those given.
    """
    readers, grid = _readers(paths["classifiers"], device)
    data = read_imperfect(paths["imperfect_dataset"], grid)
    parts = Parts(data, data.select("validation"), data.select("test"))
    if not len(parts.test.rows):
        raise InputError(paths["imperfect_dataset"], "has no test pattern.", "Give labelled patterns to test on.")
    for path in paths["classifiers"]:
        check_unseen(path, parts.test.rows["formula"])
    methods = [
        *_answers(paths["answers"], parts),
        *_raw(readers.values(), parts),
        *_denoised(paths["dwt"], readers.values(), parts),
        *_refined(paths["refiners"], readers, parts, device),
    ]
    for name, count in Counter(m.name for m in methods).items():
        if count > 1:
            raise InputError(name, f"stands for {count} of the models given.", "Give one model of each kind.")
    return sorted(methods, key=_order), parts


def _order(entry: Entry) -> tuple[int, str, int, str, int, int]:
    place, kind = list(Block).index(block(entry.row())), list(Method).index(entry.method)
    variant = list(Variant).index(entry.variant)
    return place, entry.classifier, kind, entry.supervision or "", variant, entry.labelled


def _said(path: Path, about: Mapping[str, Any], *names: str) -> None:
    """Refuses a model that does not say what it is: it can't be told from others."""
    for name in names:
        if name not in about:
            raise InputError(path, f"does not say its {name}: an earlier version made it.", "Train it again.")


def _on_grid(path: Path, grid: Grid, expected: Grid) -> None:
    if grid != expected:
        raise InputError(path, f"is on the grid {grid}, the other models on {expected}.", "Train all on one grid.")


def _readers(paths: Sequence[Path], device: torch.device) -> tuple[dict[str, Reader], Grid]:
    """The classifiers by the digests of their files, and the grid that all are on."""
    readers, grid = {}, None
    for path in paths:
        model, own, about = load_classifier(path)
        _said(path, about, "method", "history")
        _on_grid(path, own, grid := grid or own)
        generator = load_generator(path)[0].to(device) if about["method"] == Method.GTA else None
        reader = Reader(path, generator.encoder if generator else model.to(device), about, generator)
        if reader.method.kind is Kind.ADAPTED:
            _said(path, about, "n_train")
        readers[digest(path)] = reader
    assert grid is not None, "a stage has its inputs"
    return readers, grid


def _read(
    method: Method, reader: Reader, test: Patterns, validation: Patterns, parts: Parts, temperature: float = 1.0
) -> Entry:
    """A classifier's answers to patterns."""
    told = probabilities(reader.model, test, temperature)
    accuracy = None
    if len(validation):
        accuracy = metrics.accuracy(parts.validation.labels, probabilities(reader.model, validation).argmax(1))
    return Entry(
        method=method,
        predicted=told.argmax(1),
        classifier=reader.architecture,
        probabilities=told,
        validation_accuracy=accuracy,
        reader=reader.model,
        temperature=temperature,
    )


def _raw(readers: Iterable[Reader], parts: Parts) -> Iterator[Entry]:
    """Every classifier on the patterns as they are; the prototypical ones are the rows called ``raw``.

    GTA's answers are to these, too; what it shows are the patterns that its generator draws.
    """
    for reader in readers:
        found = _read(reader.method, reader, parts.test.intensity, parts.validation.intensity, parts)
        yield replace(
            found,
            n_train=int(reader.about["n_train"]) if reader.method.kind is Kind.ADAPTED else 0,
            patterns=parts.test.intensity if reader.method is Method.RAW else _generated(reader, parts),
            refiner=reader.generator,
            file=reader.path,
            history=reader.about["history"],
        )


def _generated(reader: Reader, parts: Parts) -> Patterns | None:
    return apply(reader.generator, parts.test.intensity) if reader.generator else None


def _denoised(path: Path, readers: Iterable[Reader], parts: Parts) -> Iterator[Entry]:
    """The wavelet-denoised patterns, read by the prototypical classifiers."""
    table = read_imperfect(path, parts.data.grid)
    if not table.rows["pattern_id"].equals(parts.data.rows["pattern_id"]):
        raise InputError(path, "holds other patterns than the imperfect dataset.", "Run baselines again.")
    test, validation = table.part("test")[0], table.part("validation")[0]
    for reader in readers:
        if reader.method is Method.RAW:
            yield replace(_read(Method.DWT, reader, test, validation, parts), patterns=test)


def _refined(
    paths: Sequence[Path], readers: Mapping[str, Reader], parts: Parts, device: torch.device
) -> Iterator[Entry]:
    """Imitation refinement: each refiner with the classifier that it was trained through."""
    for path in progress(paths, "refine", unit="refiners"):
        refiner, grid, about = load_refiner(path)
        known = (
            "method",
            "supervision",
            "variant",
            "labelled",
            "classifier_sha256",
            "n_train",
            "temperature",
            "history",
        )
        _said(path, about, *known)
        _on_grid(path, grid, parts.data.grid)
        reader, history = _reader_of(path, about, readers, Method.RAW), cast(History, about["history"])
        refiner.to(device)
        if refiner.config.zero_error and not about["variant"] and not about["labelled"]:
            aligned = [refiner.aligned(torch.from_numpy(p.intensity)).numpy() for p in (parts.test, parts.validation)]
            row = _read(Method.ALIGNED, reader, aligned[0], aligned[1], parts)
            yield replace(row, n_train=int(str(about["n_train"])), patterns=aligned[0])
        test, validation = (apply(refiner, part.intensity) for part in (parts.test, parts.validation))
        yield replace(
            _read(Method.IR, reader, test, validation, parts, float(str(about["temperature"]))),
            supervision=Supervision(str(about["supervision"])),
            variant=Variant(str(about["variant"])),
            labelled=int(str(about["labelled"])),
            n_train=int(str(about["n_train"])),
            patterns=test,
            refiner=refiner,
            file=path,
            history=history,
        )


def _reader_of(path: Path, about: Mapping[str, Any], readers: Mapping[str, Reader], method: Method) -> Reader:
    reader = readers.get(str(about["classifier_sha256"]))
    if reader is None:
        raise InputError(path, "was trained through another classifier.", "Give that classifier, too.")
    if reader.method is not method:
        wanted = PROTOTYPICAL if method is Method.RAW else method
        problem = f"was trained through {reader.path.name}, which is {reader.about['method']}."
        raise InputError(path, problem, f"Give one of a {wanted} one.")
    return reader


def _answers(path: Path, parts: Parts) -> Iterator[Entry]:
    """Methods without a network, which give no more than an answer to each pattern."""
    remedy = "Run baselines again."
    known = {str(method): method for method in Method if method.kind is Kind.ANSWERS}
    for name, rows in read_table(path, ANSWERS).to_pandas().groupby("method"):
        if (method := known.get(str(name))) is None:
            raise InputError(path, f"answers by an unknown method {name!r}.", remedy)
        told = rows.set_index("pattern_id")["crystal_system"]
        if not told.index.is_unique:
            raise InputError(path, f"{method} answers {told.index[told.index.duplicated()][0]!r} twice.", remedy)
        found = []
        for part in (parts.test, parts.validation):
            asked = part.rows["pattern_id"]
            if part is parts.validation and not asked.isin(told.index).any():  # nothing is chosen by this method
                found.append(np.empty(0, np.int64))
                continue
            if len(missing := asked[~asked.isin(told.index)]):
                raise InputError(path, f"{method} has no answer to {missing.iloc[0]!r}.", remedy)
            systems = told.loc[asked]
            found.append(np.array([CLASS_INDEX[CrystalSystem.parse(s, f"{path}, {i}")] for i, s in systems.items()]))
        test, validation = found
        labelled = (parts.data.rows["split"] == "train").to_numpy() & (parts.data.labels != UNLABELLED)
        yield Entry(
            method=method,
            predicted=test,
            n_train=int(labelled.sum()) if method.learns_from_labels else 0,
            validation_accuracy=metrics.accuracy(parts.validation.labels, validation) if len(validation) else None,
        )
