"""The small search behind the defaults that the paper leaves open, on the validation part of a finished run.

    python benchmarks/search.py RUN --output docs/search.csv             the whole search, both kinds
    python benchmarks/search.py RUN --only targeted.norm --seeds 0 1 2   one option alone

One option at a time is changed from the run's profile and the network trained anew, on the run's own data; the test
part is not read. Classifiers are judged by ideal validation patterns, by the theory of the imperfect validation
materials (which no classifier has seen), and by those patterns as measured; refiners, through the run's own DenseNet,
by what the classifier makes of the refined validation patterns and of refined ideal ones, and by their distances to
theory. Each candidate is trained once a seed; the table holds means over seeds, and how many patterns they are of.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imitation_refinement.data.datasets import Dataset, read_ideal, read_imperfect
from imitation_refinement.files import write_text
from imitation_refinement.learning.config import PretrainConfig, RefineConfig
from imitation_refinement.learning.models import apply, load_classifier
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.learning.training import train_classifier, train_refiner
from imitation_refinement.learning.zero_error import with_zero_error
from imitation_refinement.progress import progress, say
from imitation_refinement.results import metrics

# Option → values that are tried; the profile's own is tried once for all.
CLASSIFIER: Mapping[str, Sequence[Any]] = {
    "prototype_weight": (0.0, 0.01, 1.0),
    "optimiser.learning_rate": (5e-4, 3e-3),
    "network.embedding": (16, 256),
}
REFINER: Mapping[str, Sequence[Any]] = {
    "regularisation_weight": (1.0, 100.0),
    "prototype_weight": (0.0, 0.1, 2.0),
    "norm": (1.0, 2.0),
    "feature_depth": (1, 2),
    "optimiser.learning_rate": (3e-4, 3e-3),
    "optimiser.least_steps": (100, 900),
}
IDEAL: Mapping[str, Sequence[Any]] = {"ideal_weight": (0.3, 3.0)}
DIVERSITY: Mapping[str, Sequence[Any]] = {"diversity_weight": (0.0, 0.3, 1.0), "optimiser.least_steps": (100,)}
SECTIONS = {"densenet": CLASSIFIER, "targeted": REFINER, "with_ideal": IDEAL, "with_diversity": DIVERSITY}


@dataclass(frozen=True)
class Data:
    """A run's training and validation parts, and its classifier."""

    ideal: Dataset
    imperfect: Dataset
    validation: Dataset
    classifier: Path


def changed(options: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Options with one of them, dotted, set to a value."""
    first, _, rest = name.partition(".")
    return {**options, first: changed(options[first], rest, value) if rest else value}


def candidates(options: Mapping[str, Any], tried: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, Any, Any]]:
    """(option, value, all options): the profile's own first."""
    yield "as in the profile", "", options
    for name, values in tried.items():
        for value in values:
            yield name, value, changed(options, name, value)


def classifier_scores(options: Mapping[str, Any], data: Data) -> dict[str, float]:
    """Accuracies of a classifier that is trained with these options."""
    train, validation = data.ideal.part("train"), data.ideal.part("validation")
    model, _ = train_classifier(train, validation, PretrainConfig.model_validate(options), lambda *_: None)
    theory = data.validation.theory
    assert theory is not None, "an imperfect dataset has a theory column"
    known = np.isfinite(theory[:, 0])
    return {
        "ideal_accuracy": _accuracy(model, *validation),
        "theory_accuracy": _accuracy(model, theory[known], data.validation.labels[known]),
        "accuracy": _accuracy(model, data.validation.intensity, data.validation.labels),
    }


def refiner_scores(options: Mapping[str, Any], data: Data) -> dict[str, float]:
    """Accuracy and median distances of a refiner that is trained with these options."""
    config = RefineConfig.model_validate(options)
    train, theory = data.imperfect.select("train"), data.validation.theory
    assert theory is not None and train.theory is not None, "an imperfect dataset has a theory column"
    config, _ = with_zero_error(config, train.intensity, train.theory, data.imperfect.grid)
    classifier, _, _ = load_classifier(data.classifier)
    both = [(part.intensity, part.labels) for part in (train, data.validation)]
    refiner, _ = train_refiner(classifier, both[0], both[1], config, lambda *_: None, ideal=data.ideal.part("train"))
    refined = apply(refiner, data.validation.intensity)
    found = metrics.distances(refined, theory)
    distances = {name: float(np.nanmedian(values)) for name, values in found.items()}
    ideal, labels = data.ideal.part("validation")
    return {
        "ideal_accuracy": _accuracy(classifier, apply(refiner.adjusted(), ideal), labels),
        "accuracy": _accuracy(classifier, refined, data.validation.labels),
        **distances,
    }


def _accuracy(model: Classifier, patterns: np.ndarray, labels: np.ndarray) -> float:
    return metrics.accuracy(labels, apply(model, patterns).argmax(1))


def search(run: Path, seeds: Sequence[int], only: str) -> pd.DataFrame:
    """The table of the search."""
    profile = json.loads((run / "profile.json").read_text(encoding="utf-8"))
    imperfect = read_imperfect(run / "data" / "imperfect.parquet")
    ideal = read_ideal(run / "data" / "ideal.parquet")
    data = Data(ideal, imperfect, imperfect.select("validation"), run / "models" / "densenet.safetensors")
    profile["with_ideal"] = changed(profile["targeted"], "variant", "with_ideal")
    profile["with_diversity"] = changed(profile["non_targeted"], "variant", "with_diversity")
    work = [
        (section, name, value, options)
        for section, tried in SECTIONS.items()
        for name, value, options in candidates(profile[section], tried)
        if only in f"{section}.{name}" or (not value and only.partition(".")[0] in section)
    ]
    rows = []
    for section, name, value, options in progress(work, "search", unit="candidates"):
        scores = classifier_scores if section == "densenet" else refiner_scores
        found = pd.DataFrame([scores(changed(options, "optimiser.seed", seed), data) for seed in seeds]).mean()
        of = {"n_seeds": len(seeds), "n_validation": len(data.validation.rows)}
        rows.append({"section": section, "option": name, "value": value, **of, **found.round(4)})
        say(", ".join(f"{key} {shown}" for key, shown in rows[-1].items()))
    return pd.DataFrame(rows)


def main() -> None:
    """Reads the command line, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run, as runs/latest")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the trainings (default: 0 1)")
    parser.add_argument("--only", default="", metavar="OPTION", help="as targeted.norm, or targeted for all of it")
    parser.add_argument("--output", type=Path, metavar="CSV", help="where the table goes, beside the terminal")
    arguments = parser.parse_args()
    table = search(arguments.run, arguments.seeds, arguments.only)
    print(table.to_string(index=False, na_rep="–"))
    if arguments.output:
        write_text(arguments.output, table.to_csv(index=False))


if __name__ == "__main__":
    main()
