"""The stream of flawed patterns: how fast it is, training from it, and what a trained model reaches on given patterns.

    python benchmarks/stream.py bank --structures a.parquet b.parquet --keep-out patterns.parquet --output bank.npz
    python benchmarks/stream.py speed --bank bank.npz            beside the augmented training of networks as large
    python benchmarks/stream.py train --bank bank.npz --output model.safetensors --set samples=300000
    python benchmarks/stream.py accuracy --model model.safetensors --patterns patterns.parquet
    python benchmarks/stream.py compare --bank bank.npz --patterns patterns.parquet --output comparison.csv
    python benchmarks/stream.py compared --output comparison.csv

Structures are the tables that collect_structures writes, patterns these or a folder with manifest.csv, and so is what
--keep-out takes. Whoever keeps out the patterns' formulas measures the protocol *unseen*.

``compare`` trains the same network on the same samples on log q with 3,072 points and √I, and with another axis (2θ),
number of points or input (I), and writes a line of the CSV for each; called again it goes on. ``--until 09:05`` ends it
at that time. ``compared`` says what each choice adds, all else equal. A bank without the patterns' formulas measures
*unseen*, one with them *known*.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor, nn
from worth import share, verdicts

from components.simulate.bank import bank_of
from imitation_refinement.data.patterns import Pattern, read_patterns
from imitation_refinement.errors import InputError
from imitation_refinement.files import write_text
from imitation_refinement.learning.augmentation import Augmentation
from imitation_refinement.learning.config import ClassifierConfig, OptimiserConfig, PretrainConfig
from imitation_refinement.learning.models import load_classifier, probabilities, save_model
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.learning.stream import Stream, formulas_of, without
from imitation_refinement.learning.stream_training import StreamConfig, train_on_stream
from imitation_refinement.learning.training import Report, train_classifier
from imitation_refinement.progress import say
from imitation_refinement.results.wording import points, points_interval
from imitation_refinement.running.stage import exit_on_input_error
from imitation_refinement.xrd.bank import Bank
from imitation_refinement.xrd.crystal import CLASS_INDEX, CRYSTAL_SYSTEMS, N_CLASSES
from imitation_refinement.xrd.flaws import Ranges
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile
from imitation_refinement.xrd.preparation import measured_input
from pipelines.release import read_release

AXES = {"axis": ("log_q", "two_theta"), "points": (3072, 4096), "input": ("root", "linear")}
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
        patterns = labelled(path)
        truth = truth_of(patterns)
        p = probabilities(model, seen(patterns, grid))
        right, both, family = verdicts(p, truth)
        each = ", ".join(f"{CRYSTAL_SYSTEMS[i][:5]} {right[truth == i].mean():.0%}" for i in np.unique(truth))
        print(
            f"{path.name}: {len(truth)} patterns, {share(right)} % right, first two {share(both)}, "
            f"families {share(family)}; mean confidence {p.max(axis=1).mean():.1%}; {each}"
        )


def labelled(path: Path) -> list[Pattern]:
    """The patterns of a table, or of a folder with manifest.csv, whose crystal system is said."""
    found, rejected = read_patterns(path)
    for error in rejected:
        say(f"left out: {error}")
    patterns = [pattern for pattern in found if pattern.crystal_system]
    if not patterns:
        raise InputError(path, "has no pattern with a crystal system.", "Give a column crystal_system.")
    return patterns


def truth_of(patterns: list[Pattern]) -> NDArray[np.int64]:
    """Class indices of labelled patterns, shape (n,)."""
    return np.array([CLASS_INDEX[str(pattern.crystal_system)] for pattern in patterns])


def seen(patterns: list[Pattern], grid: Grid) -> NDArray[np.float32]:
    """Measured patterns as networks see them, shape (n, points)."""
    return np.stack([measured_input(p.two_theta, p.intensity, p.wavelength or 0.0, grid) for p in patterns])


class LinearConfig(ClassifierConfig):
    """The same network, which sees the intensities and not their roots."""

    def build(self) -> Classifier:
        network = super().build()
        network.layers[0].register_forward_pre_hook(squared)
        return network


def squared(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Channels of shape (n, 2, 1, points), the first of them, √I, as I."""
    root, place = inputs[0].split(1, dim=1)
    return (torch.cat([root * root, place], dim=1),)


def variant(config: StreamConfig, axis: str, points: int, input: str, seed: int) -> StreamConfig:
    """The options of one training that is compared; all of one seed see the same samples but for their axis."""
    network: type[ClassifierConfig] = LinearConfig if input == "linear" else ClassifierConfig
    grid = config.grid.model_dump() | {"axis": axis, "points": points}
    return config.model_copy(
        update={"grid": Grid(**grid), "network": network(**config.network.model_dump()), "seed": seed}
    )


def compare(arguments: argparse.Namespace) -> None:
    config, bank = configured(arguments.set), Bank.load(arguments.bank)
    output: Path = arguments.output
    done = pd.read_csv(output).to_dict("records") if output.exists() else []
    patterns = {path.stem: labelled(path) for path in arguments.patterns}
    inputs = cache(lambda stem, grid: seen(patterns[stem], grid))
    end = datetime.combine(datetime.now(), datetime.strptime(arguments.until, "%H:%M").time())
    longest = 0.0
    first = tuple(values[0] for values in AXES.values())
    others = [(*first[:i], values[1], *first[i + 1 :]) for i, values in enumerate(AXES.values())]
    for seed, cell in itertools.product(range(arguments.seeds), [first, *others]):
        what = dict(zip(AXES, cell, strict=True)) | {"seed": seed, "samples": config.samples}
        if any(all(row[name] == value for name, value in what.items()) for row in done):
            continue
        if (end - datetime.now()).total_seconds() < longest:
            say(f"{output}: {len(done)} trainings; the next would not end by {arguments.until}")
            return
        start, own = time.monotonic(), variant(config, *cell, seed)
        checkpoint = output.with_name(f"{output.name}.{'-'.join(map(str, what.values()))}.checkpoint")
        model, history = train_on_stream(bank, own, lambda metrics, samples: None, checkpoint)
        row = what | {"held_out": round(history.metrics["validation_accuracy"][-1], 4)}
        for stem, found in patterns.items():
            right = probabilities(model, inputs(stem, own.grid)).argmax(1) == truth_of(found)
            row |= {f"{stem}_n": len(right), f"{stem}_right": int(right.sum())}
        longest = max(longest, time.monotonic() - start)
        done.append(row | {"seconds": round(time.monotonic() - start)})
        write_text(output, pd.DataFrame(done).to_csv(index=False))
        checkpoint.unlink(missing_ok=True)
        say(f"{output}: {row}")


def compared(arguments: argparse.Namespace) -> None:
    """Prints means over seeds of every combination, and what each choice adds where all else is equal."""
    table = pd.read_csv(arguments.output)
    stems = [*accuracies(table)]
    print(f"| axis | points | input | seeds | {' | '.join(stems)} |\n|---|--:|---|--:|{'--:|' * len(stems)}")
    for cell, rows in table.groupby(list(AXES), sort=False):
        found = accuracies(rows)
        cells = [f"{100 * found[stem].mean():.1f} ± {100 * found[stem].std():.1f}" for stem in stems]
        print(f"| {' | '.join(map(str, cell))} | {len(rows)} | {' | '.join(cells)} |")
    print(f"\n| | {' | '.join(stems)} |\n|---|{'--:|' * len(stems)}")
    for what, cells in differences(table).items():
        print(f"| {what} | {' | '.join(cells[stem] for stem in stems)} |")


def accuracies(table: pd.DataFrame) -> dict[str, pd.Series]:
    """The accuracies of each training by what they are of, 0 to 1."""
    stems = [name.removesuffix("_right") for name in table if name.endswith("_right")]
    return {stem: table[f"{stem}_right"] / table[f"{stem}_n"] for stem in stems} | {"held_out": table["held_out"]}


def differences(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What each choice adds in points, all else equal, by its name: what it is of → the difference."""
    found, table = {}, table.assign(**accuracies(table))
    for name, (first, second) in AXES.items():
        rest = [*(other for other in AXES if other != name), "seed", "samples"]
        pairs = table[table[name] == first].merge(table[table[name] == second], on=rest, suffixes=("", "_other"))
        what = f"{name}: {first} instead of {second} ({len(pairs)} pairs)"
        found[what] = {s: difference((pairs[s] - pairs[f"{s}_other"]).to_numpy()) for s in accuracies(table)}
    return found


def difference(values: NDArray[np.float64]) -> str:
    """The mean of paired differences of shares, in points, with Student's 95 % interval over the pairs."""
    if len(values) < 2:
        return "–"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{points(values.mean())} ({points_interval(values.mean() - half, values.mean() + half)})"


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
    functions = {"bank": make_bank, "speed": speed, "train": train, "accuracy": accuracy}
    for name, function in (functions | {"compare": compare, "compared": compared}).items():
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        if name == "bank":
            command.add_argument("--structures", type=Path, nargs="+", required=True)
            command.add_argument("--keep-out", type=Path, nargs="*", default=[])
        if name in ("speed", "train", "compare"):
            command.add_argument("--bank", type=Path, required=True)
            command.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
        if name in ("bank", "train", "compare", "compared"):
            command.add_argument("--output", type=Path, required=True)
        if name == "speed":
            command.add_argument("--samples", type=int, default=1890, help="that are timed at once")
            command.add_argument("--rounds", type=int, default=3)
        if name == "compare":
            command.add_argument("--seeds", type=int, default=3)
            command.add_argument("--until", default="23:59", metavar="HH:MM", help="no training that would end later")
        if name == "accuracy":
            command.add_argument("--model", type=Path, required=True)
        if name in ("accuracy", "compare"):
            command.add_argument("--patterns", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
