"""Training of a prototypical classifier on the stream: every sample is new, and nothing is stored but the bank.

A killed training goes on from its last checkpoint, to the bit on a CPU: batch n is samples ``n b`` to ``(n + 1) b - 1``
of the stream, whoever draws them, and the learning rate goes by the number of the batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from imitation_refinement.data.formula import stoichiometry
from imitation_refinement.learning.checkpoints import (
    Checkpoint,
    identity,
    optimiser_tensors,
    restore_optimiser,
    seed_epoch,
)
from imitation_refinement.learning.config import ClassifierConfig, OptimiserConfig, Precision, Weight
from imitation_refinement.learning.losses import prototype_loss, update_prototypes
from imitation_refinement.learning.models import use_device
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.learning.stream import Stream, StreamFlaws, batches
from imitation_refinement.learning.training import History, Report, accuracy, precision, quick, rate_at
from imitation_refinement.options import Seed, StageConfig
from imitation_refinement.progress import progress, say
from imitation_refinement.vocabulary import Architecture
from imitation_refinement.xrd.bank import GIVEN, Bank
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid

Weights = tuple[Tensor, ...] | list[Tensor]
SALT = b"2"  # of the choice: with it no single kind, as ABX, is most of what is held out of the packages' structures
SPACE_GROUPS = 230
SETTLING = 32  # batches that prototypes are set by in the end


class StreamConfig(StageConfig):
    """What is learnt from the stream, for how long, and how."""

    grid: Grid = Field(Grid(axis="log_q", points=3072), description="the grid of the patterns")
    network: ClassifierConfig = ClassifierConfig(architecture=Architecture.STRIDED)
    flaws: StreamFlaws = StreamFlaws()
    samples: int = Field(3_000_000, ge=1, le=10_000_000_000, description="samples to learn from")
    batch_size: int = Field(63, ge=7, le=65536, description="samples a batch; each holds every class")
    learning_rate: float = Field(
        2e-3, gt=0, le=10, description="AdamW's largest step; it rises, and falls to last_rate of it"
    )
    last_rate: float = Field(0.3, ge=0, le=1, description="share of it that the last step has")
    weight_decay: float = Field(0.01, ge=0, le=100, description="AdamW's decoupled weight decay")
    prototype_weight: Weight = Field(0.1, description="λ, weight of the prototype loss")
    space_group_weight: Weight = Field(0.3, description="weight of the cross entropy of space groups, learnt beside")
    average: float = Field(
        0.999, ge=0, lt=1, description="decay a batch of the running mean of weights that is kept; less at first"
    )
    held_out: float = Field(
        0.05, gt=0, lt=1, description="share of the stoichiometries that are not learnt, to validate on"
    )
    validation: int = Field(1400, ge=7, le=1_000_000, description="samples to validate on, of held-out structures")
    validate_every: int = Field(50_000, ge=1, le=1_000_000_000, description="samples from one validation to the next")
    checkpoint_seconds: float = Field(60.0, ge=0, le=86_400, description="time from one checkpoint to the next [s]")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    precision: Precision = Field(
        "auto",
        description="of the network while it learns; auto: bfloat16 on a GPU that has it, or a CPU with AVX-512 BF16",
    )
    workers: int = Field(0, ge=0, le=1024, description="processes that draw samples; 0: the one that learns")
    seed: Seed = Field(0, description="seed of the weights and of the stream")

    @field_validator("network")
    @classmethod
    def _without_chance(cls, network: ClassifierConfig) -> ClassifierConfig:
        if network.norm == "batch":
            raise ValueError("norm must be group or none: the running mean of weights has no batch statistics")
        return network


def split(bank: Bank, share: float) -> tuple[Bank, Bank]:
    """A bank in two, to learn from and to validate on: the second has what :func:`is_held_out`, of given ones.

    Raises:
        ValueError: if a part lacks a crystal system that the other has.
    """
    held_out = is_held_out(bank.formula.tolist(), share) & (bank.origin == GIVEN)
    parts = bank.select(~held_out), bank.select(held_out)
    if lacking := {*parts[0].label.tolist()} ^ {*parts[1].label.tolist()}:
        names = ", ".join(CRYSTAL_SYSTEMS[label] for label in sorted(lacking))
        raise ValueError(f"too few structures to hold some out: {names}")
    return parts


def is_held_out(formulas: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Which formulas are of the ``share`` of all that is not learnt, shape (n,).

    All of one stoichiometry (ABX3 of CaTiO3 and NaNbO3) are held out together, by the hash of their amounts: isotypes
    of what has been learnt are told far more easily than what is new (65 and 53 % were seen), and say little of it.
    """
    digests = (blake2b(stoichiometry(f).encode(), digest_size=4, salt=SALT).digest() for f in formulas)
    hashes = [int.from_bytes(digest) / 2**32 for digest in digests]
    return np.array(hashes) < share


def train_on_stream(
    bank: Bank, config: StreamConfig, report: Report, checkpoint: Path | None = None
) -> tuple[Classifier, History]:
    """Cross entropy + λ prototype loss on the stream, prototypes updated batch by batch (Bai et al., 2019).

    AdamW; the rate rises over a tenth of all steps and falls as a cosine (Loshchilov & Hutter, ICLR 2017) to
    ``config.last_rate`` of its largest. What is validated is the running mean of the weights (Polyak & Juditsky, SIAM
    J. Control Optim. 30, 838, 1992), and the mean that told most of the held-out structures' patterns right is kept:
    with rates near 0 a network learns the given structures by heart. Its prototypes are set once more in the end, from
    the last batches.

    Args:
        bank: what is drawn from; a share of its formulas is held out.
        config: options.
        report: called with each validation's metrics and the number of samples seen, after a kill once more: a figure
            of ``validation_accuracy`` against ``samples``.
        checkpoint: where the state is kept every ``config.checkpoint_seconds``, and gone on from; nowhere by default.

    Returns:
        The classifier, in evaluation mode on the CPU, and the metrics of each validation.

    Raises:
        ValueError: if the bank has too few structures to hold some out.
    """
    device = use_device(config.device)
    options = OptimiserConfig(device=config.device, precision=quick(config.precision, device))
    training, held_out = split(bank, config.held_out)
    stream = Stream(training, config.grid, config.flaws, config.seed)
    vx, rows = Stream(held_out, config.grid, config.flaws, config.seed + 1).batch(0, config.validation)
    vy = torch.from_numpy(held_out.label.astype(np.int64))[rows].to(device)
    systems, groups = (torch.from_numpy(column.astype(np.int64)) for column in (training.label, training.space_group))
    torch.manual_seed(config.seed)
    model = config.network.build().to(device)
    # A head of its own while it learns: what tells space groups apart, centring and absent lines, tells systems, too.
    beside = torch.nn.Linear(config.network.embedding, SPACE_GROUPS + 1).to(device)
    learning = torch.nn.ModuleDict({"model": model, "beside": beside})
    mean = AveragedModel(model, multi_avg_fn=towards(config.average))
    averaged: Classifier = mean.module  # type: ignore[assignment]
    optimiser = torch.optim.AdamW(
        learning.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    same = config.model_copy(update={"workers": 0, "checkpoint_seconds": 0.0})  # whatever these are
    kept = Checkpoint(checkpoint, identity("stream", same, [bank.hkl, bank.f2, bank.lattice])) if checkpoint else None
    found = kept.load() if kept else None
    done, history = 0, History()
    best = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
    steps = -(-config.samples // config.batch_size)
    if found:
        states, record = found
        learning.load_state_dict(states["model"])
        mean.load_state_dict(states["mean"])
        best = {name: tensor.to(device) for name, tensor in states["best"].items()}
        restore_optimiser(optimiser, states["optimiser"])
        done, history = record["batches"], History(record["history"])
        say(f"goes on after {done * config.batch_size} of {config.samples} samples, from {checkpoint}")
        for row, samples in enumerate(history.metrics.get("samples", [])):
            report({name: values[row] for name, values in history.metrics.items()}, int(samples))
    every = max(1, config.validate_every // config.batch_size)
    saved, totals = time.monotonic(), torch.zeros(2, dtype=torch.float64, device=device)
    if found:
        totals += torch.tensor(record["totals"], dtype=torch.float64, device=device)
    model.train()
    drawn = batches(stream, config.batch_size, done, steps, config.workers)
    for step, (x, rows) in enumerate(progress(drawn, "learn", steps - done, "batches"), done):
        seed_epoch(config.seed, step)
        x, y = x.to(device), systems[rows].to(device)
        with precision(options, device):
            embedding = model.embed(x)
        embedding = embedding.float()
        logits = model.output(embedding)
        loss = F.cross_entropy(logits, y)
        loss = loss + config.prototype_weight * prototype_loss(embedding, model.prototypes, y)
        if config.space_group_weight:
            loss = loss + config.space_group_weight * F.cross_entropy(beside(embedding), groups[rows].to(device))
        model.prototypes.copy_(update_prototypes(model.prototypes, embedding.detach(), y))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _rate(step, steps, config.last_rate)
        optimiser.step()
        mean.update_parameters(model)
        totals += torch.stack([loss.detach().double(), (logits.argmax(1) == y).double().mean()])
        last = step + 1 == steps
        if validated := (step + 1) % every == 0 or last:
            counted = (step % every) + 1
            metrics = {
                "samples": float((step + 1) * config.batch_size),
                "loss": float(totals[0]) / counted,
                "accuracy": float(totals[1]) / counted,
                "validation_accuracy": accuracy(averaged.eval(), vx, vy),
            }
            totals.zero_()
            if metrics["validation_accuracy"] > max(history.metrics.get("validation_accuracy", [0.0])):
                best = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
            history.add(metrics)
        if kept and (last or time.monotonic() - saved >= config.checkpoint_seconds):
            state = {
                "model": learning.state_dict(),
                "mean": mean.state_dict(),
                "best": best,
                "optimiser": optimiser_tensors(optimiser),
            }
            kept.save(state, {"batches": step + 1, "history": history.metrics, "totals": totals.tolist()})
            saved = time.monotonic()
        if validated:
            report(metrics, int(metrics["samples"]))
    averaged.load_state_dict(best)
    trained = _settled(averaged, config, stream, steps, device)
    result = config.network.build()  # a module of its own: the mean's hangs on the device
    result.load_state_dict(trained.state_dict())
    return result.eval(), history


def _rate(step: int, steps: int, last: float) -> float:
    """As :func:`.rate_at`, but falling to a share of the largest rate."""
    rate = rate_at(step, steps)
    return rate if step < steps // 10 else last + (1 - last) * rate


def towards(decay: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """A running mean whose decay is min(``decay``, (1 + n) / (10 + n)) at step n: else a short one is its start."""

    @torch.no_grad()
    def update(mean: Weights, current: Weights, n: Tensor | int) -> None:
        torch._foreach_lerp_(mean, current, 1 - min(decay, (1 + int(n)) / (10 + int(n))))

    return update


@torch.no_grad()
def _settled(model: Classifier, config: StreamConfig, stream: Stream, steps: int, device: torch.device) -> Classifier:
    """The model with prototypes set by its own embeddings of the last batches."""
    model.eval()
    parts = batches(stream, config.batch_size, max(0, steps - SETTLING), steps)
    label = torch.from_numpy(stream.bank.label.astype(np.int64))
    found = [(model.embed(x.to(device)), label[rows].to(device)) for x, rows in parts]
    embedding, labels = (torch.cat(part) for part in zip(*found, strict=True))
    model.prototypes.copy_(update_prototypes(model.prototypes, embedding, labels))
    return model
