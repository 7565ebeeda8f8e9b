"""Training of the refiner that comes with a model, on pairs from the stream: every pair is new.

A killed training goes on from its last checkpoint, to the bit on a CPU; see :mod:`.stream_training`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from imitation_refinement.learning.checkpoints import Checkpoint, identity, optimiser_tensors, restore_optimiser
from imitation_refinement.learning.config import OptimiserConfig, Precision, RootRefinerConfig
from imitation_refinement.learning.models import use_device
from imitation_refinement.learning.pairs import Pairs, batches, pairs
from imitation_refinement.learning.root_refiner import MIDDLE, RootRefiner
from imitation_refinement.learning.stream import Stream, StreamFlaws
from imitation_refinement.learning.stream_training import split, towards
from imitation_refinement.learning.training import History, Report, precision, quick, rate_at
from imitation_refinement.options import Seed, StageConfig
from imitation_refinement.progress import progress, say
from imitation_refinement.xrd.bank import Bank
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile

# What raw patterns above their baselines have of each distance, about: they then weigh alike.
USUAL = {"root": 0.03, "l1": 40.0, "l2": 2.5, "kl": 0.7, "shift": 0.1}
UNIFORM_SHARE = 0.01  # keeps KL finite; as results.metrics


class PairConfig(StageConfig):
    """What the refiner learns from, for how long, and how."""

    network: RootRefinerConfig = RootRefinerConfig()
    flaws: StreamFlaws = Field(
        # Lines of 85 measured minerals, none of them a test pattern, stood +0.04° too high in the median (a quarter
        # below 0.00°, a quarter above +0.06°), Kα2 aside.
        StreamFlaws(zero_shift=(-0.04, 0.12), displacement=(-0.1, 0.1), fluorescence=(0.05, 3.0)),
        description="what the flaws of the patterns are drawn from",
    )
    profile: Profile = Field(Profile(), description="the lines of the ideal patterns")
    samples: int = Field(300_000, ge=0, le=10_000_000_000, description="pairs to learn from; 0: no refiner")
    batch_size: int = Field(16, ge=1, le=65536, description="pairs a batch")
    learning_rate: float = Field(2e-3, gt=0, le=10, description="AdamW's largest step; it rises, and falls to 0")
    weight_decay: float = Field(0.01, ge=0, le=100, description="AdamW's decoupled weight decay")
    average: float = Field(0.99, ge=0, lt=1, description="decay a batch of the running mean of weights that is kept")
    validation: int = Field(280, ge=1, le=1_000_000, description="pairs to validate on, of held-out structures")
    validate_every: int = Field(20_000, ge=1, le=1_000_000_000, description="pairs from one validation to the next")
    checkpoint_seconds: float = Field(60.0, ge=0, le=86_400, description="time from one checkpoint to the next [s]")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    precision: Precision = Field("auto", description="as of the stream")
    workers: int = Field(0, ge=0, le=1024, description="processes that draw pairs; 0: the one that learns")
    seed: Seed = Field(0, description="seed of the weights and of the stream")


def train_on_pairs(
    bank: Bank, grid: Grid, held_out: float, config: PairConfig, report: Report, checkpoint: Path | None = None
) -> tuple[RootRefiner, History]:
    """AdamW on the sum of :func:`losses`; what is validated and kept is the running mean of the weights.

    Args:
        bank: what is drawn from.
        grid: of the patterns.
        held_out: share of the formulas that is not learnt; see :func:`.stream_training.split`.
        config: options.
        report: called with each validation's metrics and the number of pairs seen, after a kill once more.
        checkpoint: where the state is kept every ``config.checkpoint_seconds``, and gone on from; nowhere by default.

    Returns:
        The refiner, in evaluation mode on the CPU, and the metrics of each validation.

    Raises:
        ValueError: if the bank has too few structures to hold some out.
    """
    device = use_device(config.device)
    options = OptimiserConfig(device=config.device, precision=quick(config.precision, device))
    learnt, others = split(bank, held_out)
    stream = Stream(learnt, grid, config.flaws, config.seed)
    validation = pairs(Stream(others, grid, config.flaws, config.seed + 1), 0, config.validation, config.profile)
    torch.manual_seed(config.seed)
    model = config.network.build(grid).to(device)
    mean = AveragedModel(model, multi_avg_fn=towards(config.average))
    averaged: RootRefiner = mean.module  # type: ignore[assignment]
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    same = config.model_copy(update={"workers": 0, "checkpoint_seconds": 0.0})  # whatever these are
    sources: list[Any] = [bank.hkl, bank.f2, bank.lattice, grid.two_theta]
    kept = Checkpoint(checkpoint, identity("pairs", same, sources)) if checkpoint else None
    done, history = 0, History()
    steps = -(-config.samples // config.batch_size)
    if kept and (found := kept.load()):
        groups, record = found
        model.load_state_dict(groups["model"])
        mean.load_state_dict(groups["mean"])
        restore_optimiser(optimiser, groups["optimiser"])
        done, history = record["batches"], History(record["history"])
        say(f"goes on after {done * config.batch_size} of {config.samples} pairs, from {checkpoint}")
        for row, samples in enumerate(history.metrics.get("samples", [])):
            report({name: values[row] for name, values in history.metrics.items()}, int(samples))
    every, saved = max(1, config.validate_every // config.batch_size), time.monotonic()
    model.train()
    drawn = batches(stream, config.profile, config.batch_size, done, steps, config.workers)
    for step, batch in enumerate(progress(drawn, "learn to refine", steps - done, "batches"), done):
        batch = Pairs(*(part.to(device) for part in batch))
        with precision(options, device):
            refined, shift = model(batch.seen)
        loss = losses(model.moved(refined, shift), shift, batch)["loss"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * rate_at(step, steps)
        optimiser.step()
        mean.update_parameters(model)
        last = step + 1 == steps
        if validated := (step + 1) % every == 0 or last:
            metrics = {"samples": float((step + 1) * config.batch_size), **_validated(averaged, validation, device)}
            history.add(metrics)
        if kept and (last or time.monotonic() - saved >= config.checkpoint_seconds):
            state = {"model": model.state_dict(), "mean": mean.state_dict(), "optimiser": optimiser_tensors(optimiser)}
            kept.save(state, {"batches": step + 1, "history": history.metrics})
            saved = time.monotonic()
        if validated:
            report(metrics, int(metrics["samples"]))
    result = config.network.build(grid)  # a module of its own: the mean's hangs on the device
    result.load_state_dict(averaged.state_dict())
    return result.eval(), history


def losses(refined: Tensor, shift: Tensor, pair: Pairs) -> dict[str, Tensor]:
    """What a refined batch is worth: batch means, each over :data:`USUAL`, and their sum, ``loss``.

    ``l1``, ``l2`` and ``kl`` (of the ideal pattern from the refined one) are those of
    :mod:`~imitation_refinement.results.metrics`, of intensities scaled to maximum 1; ``root`` is the mean of
    |√I − √I_ideal|, in which weak lines count; ``shift`` the squared error of the shift at 2θ = 40°.

    Args:
        refined: √I, moved, shape (n, points).
        shift: zero error and displacement as told [°], shape (n, 2).
        pair: what was refined, and what it should be.
    """
    points = refined.shape[1]
    root = refined / refined.amax(1, keepdim=True).clamp_min(1e-6)
    intensity, ideal = root.square(), pair.ideal.square()
    difference = intensity - ideal
    p, t = (
        (1 - UNIFORM_SHARE) * x / x.sum(1, keepdim=True).clamp_min(1e-6) + UNIFORM_SHARE / points
        for x in (intensity, ideal)
    )
    error = (shift - pair.shift) @ torch.tensor([1.0, MIDDLE], device=shift.device)
    terms = {
        "root": (root - pair.ideal).abs().mean(1) / USUAL["root"],
        "l1": difference.abs().sum(1) / USUAL["l1"],
        "l2": (difference.square().sum(1) + 1e-6).sqrt() / USUAL["l2"],
        "kl": (t * (t / p).log()).sum(1) / USUAL["kl"],
        "shift": (error / USUAL["shift"]).square(),
    }
    means = {name: term.mean() for name, term in terms.items()}
    return {"loss": torch.stack(list(means.values())).sum(), **means}


@torch.no_grad()
def _validated(model: RootRefiner, validation: Pairs, device: torch.device) -> dict[str, float]:
    """The losses of held-out pairs."""
    model.eval()
    pair = Pairs(*(part.to(device) for part in validation))
    refined, shift = model(pair.seen)
    return {f"validation_{name}": float(v) for name, v in losses(model.moved(refined, shift), shift, pair).items()}
