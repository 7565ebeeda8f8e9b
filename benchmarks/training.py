"""How fast the networks of a profile are, forward and in training, on the device at hand.

    python benchmarks/training.py                                        the default profile, its own grid
    python benchmarks/training.py --profile paper --points 4501 --batch-size 256 --seconds 5
    python benchmarks/training.py --compile                              torch.compile, too: a minute a network first

Every variant of precision and compilation runs in the same process, one after the other, on random patterns. Forward is
the network alone, without gradients. Training is the stages' own code: losses, gradients, clipping, AdamW, patterns
from the device; its second epoch is timed, the first warms up. A refiner trains through the classifier beside it. The
row "augmented" is that classifier's training with flaws drawn for each batch.

On a GPU the last column is the time that the device computes, by torch's profiler, as a share of the unprofiled time of
as many steps: what is missing to 100 % is time that it waits for the host. Threads are torch's: set OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from imitation_refinement.learning.augmentation import Augmentation
from imitation_refinement.learning.config import OptimiserConfig
from imitation_refinement.learning.models import use_device
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.learning.training import Report, train_classifier, train_refiner
from imitation_refinement.xrd.crystal import N_CLASSES
from imitation_refinement.xrd.grid import Grid
from pipelines.profiles import read_profile

Patterns = tuple[np.ndarray, np.ndarray]
Train = Callable[[Patterns, OptimiserConfig, Report], object]
LEAST_STEPS = 3


def random_patterns(n: int, points: int) -> Patterns:
    """Patterns of shape (n, points), and a class each in turn."""
    rng = np.random.default_rng(0)
    return rng.random((n, points), np.float32) ** 8, np.arange(n) % N_CLASSES


def forward_rate(network: nn.Module, patterns: Tensor, low: bool, compiled: bool, seconds: float) -> float:
    """Patterns a second."""
    network = network.eval().to(patterns.device)
    function = torch.compile(network) if compiled else network

    def run() -> None:
        with torch.no_grad(), torch.autocast(patterns.device.type, torch.bfloat16, enabled=low):
            function(patterns)

    run()
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return len(patterns) / timer.blocked_autorange(min_run_time=seconds).median


def epoch_seconds(train: Train, options: OptimiserConfig, points: int, steps: int) -> float:
    """How long the second epoch of as many steps takes."""
    ends: list[float] = []
    train(
        random_patterns(options.batch_size * steps, points),
        options.model_copy(update={"epochs": 2, "least_steps": 0}),
        lambda metrics, epoch: ends.append(time.perf_counter()),  # metrics were read, so the device is done
    )
    return ends[1] - ends[0]


def device_seconds(train: Train, options: OptimiserConfig, points: int, steps: int) -> float:
    """How long the device computes in the second epoch of as many steps."""
    watch = profile(activities=[ProfilerActivity.CUDA])
    train(
        random_patterns(options.batch_size * steps, points),
        options.model_copy(update={"epochs": 2, "least_steps": 0}),
        lambda metrics, epoch: watch.stop() if epoch else watch.start(),
    )
    cuda = torch.autograd.DeviceType.CUDA
    return sum(row.self_device_time_total for row in watch.key_averages() if row.device_type == cuda) / 1e6


def training_rate(train: Train, options: OptimiserConfig, points: int, seconds: float) -> tuple[float, float]:
    """Patterns a second, and the share of the time that the device computes (NaN on a CPU)."""
    trial = epoch_seconds(train, options, points, LEAST_STEPS) / LEAST_STEPS
    steps = max(LEAST_STEPS, math.ceil(seconds / trial))
    took = epoch_seconds(train, options, points, steps) if steps > LEAST_STEPS else trial * LEAST_STEPS
    busy = device_seconds(train, options, points, steps) / took if use_device("auto").type == "cuda" else math.nan
    return options.batch_size * steps / took, busy


def networks(name: str, batch_size: int | None) -> Iterator[tuple[str, nn.Module, OptimiserConfig, Train]]:
    """Name, a fresh network, its options and how it is trained, of every network of a profile."""
    found = read_profile(name)

    def sized(options: OptimiserConfig) -> OptimiserConfig:
        return options.model_copy(update={"batch_size": batch_size} if batch_size else {})

    def nothing_like(patterns: Patterns) -> Patterns:
        return patterns[0][:0], patterns[1][:0]

    classifiers = {"vgg": found.vgg, "densenet": found.densenet}
    for label, config in classifiers.items():

        def pretrain(data: Patterns, options: OptimiserConfig, report: Report, config: Any = config) -> object:
            config = config.model_copy(update={"optimiser": options})
            return train_classifier(data, nothing_like(data), config, report)

        def augmented(data: Patterns, options: OptimiserConfig, report: Report, config: Any = config) -> object:
            flaws = Augmentation(Grid(points=data[0].shape[1]), config.ranges, config.profile)
            config = config.model_copy(update={"optimiser": options})
            return train_classifier(data, nothing_like(data), config, report, augmentation=flaws)

        yield label, Classifier(config.network), sized(config.optimiser), pretrain
        yield f"{label}, augmented", Classifier(config.network), sized(config.optimiser), augmented
    for label, config in classifiers.items():

        def refine(data: Patterns, options: OptimiserConfig, report: Report, network: Any = config.network) -> object:
            config = found.targeted.model_copy(update={"optimiser": options})
            return train_refiner(Classifier(network), data, nothing_like(data), config, report)

        yield f"refiner ({label})", found.targeted.network.build(), sized(found.targeted.optimiser), refine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="default", help="as of `imitation-refinement run` (default: default)")
    parser.add_argument("--points", type=int, help="points of a pattern (default: the profile's grid)")
    parser.add_argument("--batch-size", type=int, help="patterns a batch (default: the profile's)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number, about (default: 2)")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--only", nargs="+", metavar="NETWORK", help="of vgg, densenet, 'refiner (vgg)', …")
    arguments = parser.parse_args()

    points = arguments.points or read_profile(arguments.profile).simulate.grid.points
    device = use_device("auto")
    cuda = device.type == "cuda"
    print(f"{torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()}, ", end="")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {points} points; patterns/s")
    print(f"{'network':<20}{'batch':>6}  {'variant':<20}{'forward':>10}{'training':>10}{'device computes':>17}")
    compiled = (False, True) if arguments.compile else (False,)
    for name, network, options, train in networks(arguments.profile, arguments.batch_size):
        if arguments.only and name not in arguments.only:
            continue
        patterns = torch.from_numpy(random_patterns(options.batch_size, points)[0]).to(device)
        for precision in ("float32", "bfloat16"):
            for fast in compiled:
                torch.compiler.reset()
                variant = options.model_copy(update={"precision": precision, "compile": fast})
                forward = forward_rate(network, patterns, precision == "bfloat16", fast, arguments.seconds)
                training, busy = training_rate(train, variant, points, arguments.seconds)
                label = f"{precision}{', compiled' if fast else ''}"
                share = f"{busy:.0%}" if cuda else "-"
                print(
                    f"{name:<20}{options.batch_size:>6}  {label:<20}{forward:>10.0f}{training:>10.0f}{share:>17}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
