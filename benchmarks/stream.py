"""The stream of flawed patterns: how fast it is, training from it, and what a trained model reaches on given patterns.

    python benchmarks/stream.py bank --structures a.parquet b.parquet --keep-out patterns.parquet --output bank.npz
    python benchmarks/stream.py speed --bank bank.npz            beside the augmented training of networks as large
    python benchmarks/stream.py train --bank bank.npz --output model.safetensors --set samples=300000
    python benchmarks/stream.py accuracy --model model.safetensors --patterns patterns.parquet

Structures and patterns are the tables that collect_structures writes; --keep-out also takes a folder with manifest.csv.
Whoever keeps out the patterns' formulas measures the protocol *unseen*.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from worth import share, verdicts

from components.simulate.bank import bank_of
from imitation_refinement.data.contracts import PATTERNS, read_table
from imitation_refinement.learning.augmentation import Augmentation
from imitation_refinement.learning.config import ClassifierConfig, OptimiserConfig, PretrainConfig
from imitation_refinement.learning.models import load_classifier, probabilities, save_model
from imitation_refinement.learning.stream import Stream, formulas_of, without
from imitation_refinement.learning.stream_training import StreamConfig, train_on_stream
from imitation_refinement.learning.training import Report, train_classifier
from imitation_refinement.progress import say
from imitation_refinement.xrd.bank import Bank
from imitation_refinement.xrd.crystal import CLASS_INDEX, CRYSTAL_SYSTEMS, N_CLASSES
from imitation_refinement.xrd.flaws import Ranges
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile
from imitation_refinement.xrd.preparation import measured_input
from pipelines.release import read_release

SHARE = 6  # the VGG learns a sixth of the samples, being as much slower


def make_bank(arguments: argparse.Namespace) -> None:
    bank, rejected = bank_of(arguments.structures)
    for error in rejected:
        say(f"left out: {error}")
    formulas = [name for path in arguments.keep_out for name in formulas_of(path)]
    kept = without(bank, formulas)
    kept.save(arguments.output)
    counts = ", ".join(f"{n} {CRYSTAL_SYSTEMS[i]}" for i, n in enumerate(np.bincount(kept.label, minlength=N_CLASSES)))
    print(f"{len(kept)} structures ({counts}); {len(bank) - len(kept)} kept out for {len(set(formulas))} formulas")


def configured(options: list[str]) -> StreamConfig:
    """The options of ``name=value`` and ``section.name=value``, as `release --set stream.name=value` takes them."""
    return read_release([f"stream.{option}" for option in options]).stream


def train(arguments: argparse.Namespace) -> None:
    config, start = configured(arguments.set), time.monotonic()
    bank = Bank.load(arguments.bank)

    def report(metrics: dict[str, float], samples: int) -> None:
        rest = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "samples")
        print(f"{samples:>10,} samples, {time.monotonic() - start:6.0f} s: {rest}", flush=True)

    model, history = train_on_stream(bank, config, report, Path(f"{arguments.output}.checkpoint.safetensors"))
    about = {"config": config.model_dump(mode="json"), "history": history.metrics}
    save_model(arguments.output, model, config.grid, about, bank.formula.tolist())


def accuracy(arguments: argparse.Namespace) -> None:
    model, grid, _ = load_classifier(arguments.model)
    for path in arguments.patterns:
        table = read_table(path, PATTERNS).to_pandas()
        table = table[table["crystal_system"].notna() & table["two_theta"].notna()]
        rows = zip(table["two_theta"], table["intensity"], table["wavelength"], strict=True)
        x = np.stack([measured_input(*row, grid) for row in rows])
        truth = np.array([CLASS_INDEX[name] for name in table["crystal_system"]])
        p = probabilities(model, x)
        right, both, family = verdicts(p, truth)
        each = ", ".join(f"{CRYSTAL_SYSTEMS[i][:5]} {right[truth == i].mean():.0%}" for i in np.unique(truth))
        print(
            f"{path.name}: {len(truth)} patterns, {share(right)} % right, first two {share(both)}, "
            f"families {share(family)}; mean confidence {p.max(axis=1).mean():.1%}; {each}"
        )


def alone_rate(stream: Stream, first: int, n: int) -> float:
    """Samples a second that one process draws."""
    start = time.perf_counter()
    stream.batch(first, n)
    return n / (time.perf_counter() - start)


def training_rate(train: Callable[[Report], object], n: int) -> float:
    """Samples a second between the two reports of a training, the second ``n`` samples after the first."""
    ends: list[float] = []
    train(lambda metrics, at: ends.append(time.perf_counter()))
    return n / (ends[1] - ends[0])


def as_large(network: ClassifierConfig) -> ClassifierConfig:
    """The default profile's VGG, widened to as many weights: what augmented training had before the strided network."""

    def weights(config: ClassifierConfig) -> int:
        return sum(values.numel() for values in config.build().parameters())

    vgg = [
        ClassifierConfig(widths=tuple(round(w * f) for w in (32, 48, 64, 64)), stem_stride=4, dropout=0.0)
        for f in np.arange(0.5, 6, 0.05)
    ]
    return min(vgg, key=lambda config: abs(weights(config) - weights(network)))


def speed(arguments: argparse.Namespace) -> None:
    """The stream alone, training from it, and augmented training with the same network and with a VGG, in turn."""
    config = configured(arguments.set)
    points, size = config.grid.points, config.batch_size
    n = -(-arguments.samples // size) * size
    few = -(-n // SHARE // size) * size
    bank = Bank.load(arguments.bank)
    stream = Stream(bank, config.grid, config.flaws)
    short = {"samples": 2 * n, "validation": 7, "validate_every": n, "device": "cpu"}
    rng = np.random.default_rng(0)
    ideal = rng.random((n, points), np.float32) ** 8, np.arange(n) % N_CLASSES
    options = OptimiserConfig(epochs=2, batch_size=size, device="cpu")
    flaws = Augmentation(Grid(points=points), Ranges(), Profile())
    vgg = as_large(config.network)

    def from_stream(report: Report) -> None:
        train_on_stream(bank, config.model_copy(update=short), report)

    def from_table(network: ClassifierConfig, number: int) -> float:
        augmented = PretrainConfig(method="augmented", network=network, optimiser=options)
        x, y = ideal[0][:number], ideal[1][:number]
        return training_rate(
            lambda report: train_classifier((x, y), (x[:0], y[:0]), augmented, report, augmentation=flaws), number
        )

    print(f"{points} points, batches of {size}, {torch.get_num_threads()} threads; samples/s, in turn")
    print(f"augmented training: of the same network, and of a VGG of as many weights, {vgg.widths} channels")
    print(
        f"{'round':<8}{'stream alone':>14}{'stream training':>18}{'same network':>15}{'ratio':>8}{'VGG':>8}{'ratio':>8}"
    )
    stream.batch(0, size)
    for turn in range(arguments.rounds):
        alone = alone_rate(stream, turn * n, n)
        ours, same, large = training_rate(from_stream, n), from_table(config.network, n), from_table(vgg, few)
        columns = f"{same:>15.0f}{ours / same:>8.1f}{large:>8.0f}{ours / large:>8.1f}"
        print(f"{turn + 1:<8}{alone:>14.0f}{ours:>18.0f}{columns}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function, name in ((make_bank, "bank"), (speed, "speed"), (train, "train"), (accuracy, "accuracy")):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        if name == "bank":
            command.add_argument("--structures", type=Path, nargs="+", required=True)
            command.add_argument("--keep-out", type=Path, nargs="*", default=[])
        if name in ("speed", "train"):
            command.add_argument("--bank", type=Path, required=True)
            command.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
        if name in ("bank", "train"):
            command.add_argument("--output", type=Path, required=True)
        if name == "speed":
            command.add_argument("--samples", type=int, default=1890, help="that are timed at once")
            command.add_argument("--rounds", type=int, default=3)
        if name == "accuracy":
            command.add_argument("--model", type=Path, required=True)
            command.add_argument("--patterns", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
