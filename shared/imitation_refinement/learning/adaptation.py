"""Other ways to bring a pretrained classifier to imperfect patterns: fine-tuning, ADDA, GTA.

The classifier that they are given is not changed. ADDA and GTA are unsupervised: their functions take imperfect
patterns without labels. The validation part is reported by epoch; only fine-tuning, which may see labels, chooses by
it. Checkpoints, precision and several processes are as in :mod:`imitation_refinement.learning.training`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from imitation_refinement.learning.batches import class_covering_batches
from imitation_refinement.learning.checkpoints import Checkpoint, optimiser_tensors, restore_optimiser, seed_epoch
from imitation_refinement.learning.config import AdaptConfig, GeneratorConfig, OptimiserConfig
from imitation_refinement.learning.distributed import (
    check_share,
    join_processes,
    share,
    share_batch_norm,
    sum_gradients,
    summed,
)
from imitation_refinement.learning.generator import UNKNOWN, Generator, Standardise
from imitation_refinement.learning.losses import update_prototypes
from imitation_refinement.learning.models import frozen
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.learning.training import (
    History,
    Labelled,
    Report,
    checkpoint_at,
    classifier_accuracy,
    fast,
    fit,
    intensities,
    precision,
    resumed,
    tensors,
)
from imitation_refinement.progress import progress
from imitation_refinement.running.portable import is_portable
from imitation_refinement.vocabulary import Method
from imitation_refinement.xrd.crystal import N_CLASSES

__all__ = ["ADAPTATIONS", "Discriminator", "Generator", "adda", "fine_tune", "gta"]

Patterns = NDArray[np.floating]
Plan = list[list[tuple[NDArray[np.int64], NDArray[np.int64]]]]


def fine_tune(
    classifier: Classifier,
    train: Labelled,
    validation: Labelled,
    config: AdaptConfig,
    report: Report,
    checkpoint: Path | None = None,
) -> tuple[Classifier, History]:
    """Goes on training all layers, by cross entropy, on labelled imperfect patterns.

    Batch norm learns the statistics of the imperfect patterns. The weights of the epoch with the lowest validation
    loss are kept (of the last one, where there is no validation part); then the prototypes take their update over the
    training part.

    Args:
        classifier: the pretrained one; not changed.
        train: imperfect intensities (n, points) with maximum 1, class indices (n,), all labelled.
        validation: the same.
        config: options.
        report: called with each epoch's metrics and its number.
        checkpoint: where the state is kept after each epoch, and gone on from; nowhere by default.

    Returns:
        The classifier, in evaluation mode on the CPU, and the metrics by epoch.
    """
    options = config.optimiser
    device = join_processes(options.device)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    model = copy.deepcopy(classifier).requires_grad_(True).to(device)
    share_batch_norm(model)
    (x, y), (vx, vy) = tensors(*train, device), tensors(*validation, device)
    forward = fast(model.forward, options)

    def loss_of(index: Tensor) -> dict[str, Tensor]:
        own = index[share(len(index))]
        with precision(options, device):
            logits = forward(x[own]).float()
        return {"loss": F.cross_entropy(logits, y[own])}

    def batches() -> Iterator[NDArray[np.int64]]:
        return class_covering_batches(train[1], options.batch_size, rng)

    def validate() -> dict[str, float]:
        if not len(vy):
            return {}
        logits = torch.cat([model(part) for part in vx.split(256)])
        accuracy = (logits.argmax(1) == vy).double().mean()
        return {"validation_loss": float(F.cross_entropy(logits, vy)), "validation_accuracy": float(accuracy)}

    kept = _checkpoint(checkpoint, config, [*train, *validation], classifier)
    history = fit(model, loss_of, batches, options, "fine-tune", validate, report, checkpoint=kept, keep_best=True)
    adapted = Classifier(classifier.config)  # without what compiling and several processes changed in the other
    adapted.load_state_dict(model.state_dict())
    embedding = _embed(adapted.eval(), x.cpu())
    adapted.prototypes.copy_(update_prototypes(adapted.prototypes, embedding, y.cpu()))
    return adapted, history


def adda(
    classifier: Classifier,
    ideal: Patterns,
    imperfect: Patterns,
    validation: Labelled,
    config: AdaptConfig,
    report: Report,
    checkpoint: Path | None = None,
) -> tuple[Classifier, History]:
    """Adversarial discriminative domain adaptation (Tzeng et al., CVPR 2017), Eq. 9.

    The target's encoder starts as the source's, which is frozen. Step by step the discriminator learns to tell the
    source's embeddings of ideal patterns from the target's embeddings of imperfect ones, and the target's encoder to
    have its embeddings taken for the source's (inverted labels). The source's head and prototypes are reused
    unchanged. No label is used. The last epoch's weights are kept: there is nothing to choose by.

    Batch norm: see :func:`_with_statistics`. Both encoders run in evaluation mode, so that the discriminator compares
    what will be used, and the answer to a pattern does not depend on its batch; no dropout. The discriminator sees
    embeddings standardised by the source's statistics.

    Args:
        classifier: the pretrained one, the source; not changed.
        ideal: intensities with maximum 1, shape (n, points).
        imperfect: the same.
        validation: labelled imperfect patterns; only reported.
        config: options.
        report: called with each epoch's metrics and its number.
        checkpoint: where the state is kept after each epoch, and gone on from; nowhere by default.

    Returns:
        The adapted classifier, in evaluation mode on the CPU, and the metrics by epoch.
    """
    options, sizes = config.optimiser, (classifier.config.embedding, *config.adda.hidden)
    device = join_processes(options.device)
    torch.manual_seed(options.seed)
    plan = _plan(len(ideal), len(imperfect), options)
    source = frozen(copy.deepcopy(classifier)).to(device)
    x = intensities(imperfect, device)
    model = _with_statistics(copy.deepcopy(source), x)
    encoder = [*model.layers.parameters(), *model.head.parameters()]
    for parameter in encoder:
        parameter.requires_grad_(True)
    drawn = np.unique(np.concatenate([rows for epoch in plan for rows, _ in epoch]))
    known = torch.zeros(len(ideal), sizes[0], device=device)  # the source's embeddings, as far as they are drawn
    known[drawn] = _embed(source, intensities(ideal[drawn], device))

    hidden = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    standardise = Standardise(sizes[0]).to(device).fit(known[drawn])
    discriminator = nn.Sequential(standardise, *hidden, nn.Linear(sizes[-1], 1)).to(device)
    judge = _adam(discriminator.parameters(), options, config.adda.beta1)
    deceive = _adam(encoder, options, config.adda.beta1)
    embed = fast(model.embed, options)

    def step(s: Tensor, t: Tensor, part: float) -> dict[str, Tensor]:
        with precision(options, device):
            embedding = embed(x[t])
            real, fake = discriminator(known[s]), discriminator(embedding.detach())
            judged = (_taken_for(real, True) + _taken_for(fake, False)) / 2
        _descend(judge, judged * part)
        with precision(options, device):
            deceived = _taken_for(discriminator(embedding), True)
        _descend(deceive, deceived * part)
        accuracy = ((real > 0).double().mean() + (fake <= 0).double().mean()) / 2
        return {"discriminator_loss": judged, "discriminator_accuracy": accuracy, "encoder_loss": deceived}

    state = _State({"model": model, "discriminator": discriminator}, {"judge": judge, "deceive": deceive})
    kept = _checkpoint(checkpoint, config, [ideal, imperfect], classifier)
    history = _adversarial("ADDA", model, state, plan, step, options, validation, report, kept)
    return frozen(model).cpu(), history


def gta(
    classifier: Classifier,
    ideal: Labelled,
    imperfect: Patterns,
    validation: Labelled,
    config: AdaptConfig,
    report: Report,
    checkpoint: Path | None = None,
) -> tuple[Generator, History]:
    """Generate To Adapt (Sankaranarayanan et al., CVPR 2018), Algorithm 1.

    Four networks: F and the label head C are the pretrained classifier's, and go on learning; G draws patterns from
    [F(x), one-hot label, noise], the label being the class of ideal patterns and "unknown" for all imperfect ones; D
    tells real from generated, and the class. A step updates, in this order,

    * D: real ideal patterns are real and of their class; generated ones, of both kinds, are not real;
    * G: what it draws of ideal patterns is taken for real and of their class;
    * C: cross entropy of ideal patterns; and F: the same + w (cross entropy under D of what is drawn of ideal
      patterns + α · what is drawn of imperfect ones is taken for real).

    The losses of G and F are the non-saturating ones, −log D(G), as in the authors' code. No label of an imperfect
    pattern is used, and the last epoch's weights are kept. At the end the prototypes take their update over the ideal
    patterns of the last epoch: F has moved.

    Batch norm: the authors' code passes the two kinds of pattern through F in batches of their own; so here each kind
    has its own statistics, see :func:`_with_statistics`, and the weights are shared. No dropout. Several processes draw
    noise of their own.

    Args:
        classifier: the pretrained one; not changed.
        ideal: intensities with maximum 1, shape (n, points), and class indices (n,).
        imperfect: intensities with maximum 1, shape (n, points).
        validation: labelled imperfect patterns; only reported.
        config: options.
        report: called with each epoch's metrics and its number.
        checkpoint: where the state is kept after each epoch, and gone on from; nowhere by default.

    Returns:
        The generator, in evaluation mode on the CPU, with the adapted classifier as its ``encoder``; the metrics by
        epoch.
    """
    options, weights = config.optimiser, config.gta
    device = join_processes(options.device)
    torch.manual_seed(options.seed)
    plan = _plan(len(ideal[0]), len(imperfect), options)
    own = GeneratorConfig(**weights.generator.model_dump(), encoder=classifier.config, points=imperfect.shape[1])
    generator = Generator(own).to(device)
    discriminator = Discriminator(weights.discriminator, own.points).to(device)
    (x, y), target = tensors(*ideal, device), intensities(imperfect, device)
    model, source = generator.encoder.eval(), copy.deepcopy(classifier).to(device).eval()
    model.load_state_dict(classifier.state_dict())
    _with_statistics(model, target)
    _share_weights(model, source)
    first, last = (torch.from_numpy(np.concatenate([s for s, _ in plan[i]])).to(device) for i in (0, -1))
    generator.standardise.fit(_embed(source, x[first]))

    judge = _adam(discriminator.parameters(), options, weights.beta1)
    draw = _adam([*generator.dense.parameters(), *generator.layers.parameters()], options, weights.beta1)
    encode = _adam(model.parameters(), options, weights.beta1)
    embed, embed_ideal, generate = (fast(f, options) for f in (model.embed, source.embed, generator.generate))

    def step(s: Tensor, t: Tensor, part: float) -> dict[str, Tensor]:
        n, labels = len(s), torch.cat([y[s], torch.full_like(t, UNKNOWN)])
        noise = torch.randn(len(labels), own.noise, device=device)
        with precision(options, device):
            embedding = torch.cat([embed_ideal(x[s]), embed(target[t])])
            drawn = generate(embedding.detach(), labels, noise)
            (real, classes), (fake, _) = discriminator(x[s]), discriminator(drawn.detach())
            judged = (
                _taken_for(real, True)
                + F.cross_entropy(classes, y[s])
                + _taken_for(fake[:n], False)
                + _taken_for(fake[n:], False)
            )
        _descend(judge, judged * part)

        with precision(options, device):
            fake, classes = discriminator(drawn[:n])
            deceived = _taken_for(fake, True) + F.cross_entropy(classes, y[s])
        _descend(draw, deceived * part)

        with precision(options, device):
            prediction = F.cross_entropy(model.output(embedding[:n]), y[s])
            fake, classes = discriminator(generate(embedding, labels, noise))
            answers = F.cross_entropy(classes[:n], y[s]) + weights.target_weight * _taken_for(fake[n:], True)
            encoded = prediction + weights.adversarial_weight * answers
        _descend(encode, encoded * part)
        return {
            "discriminator_loss": judged,
            "generator_loss": deceived,
            "encoder_loss": encoded,
            "prediction_loss": prediction,
        }

    modules = {"generator": generator, "discriminator": discriminator}
    state = _State(modules, {"judge": judge, "draw": draw, "encode": encode})
    kept = _checkpoint(checkpoint, config, [*ideal, imperfect], classifier)
    history = _adversarial("GTA", model, state, plan, step, options, validation, report, kept)
    model.prototypes.copy_(update_prototypes(model.prototypes, _embed(source, x[last]), y[last]))
    return frozen(generator).cpu(), history


Adaptation = Callable[
    [Classifier, Labelled, Labelled, Labelled, AdaptConfig, Report, Path | None], tuple[Classifier | Generator, History]
]
# What each method makes of a classifier, given ideal, imperfect and validation patterns with their labels, and how. One
# that learns from labels is given labelled imperfect patterns alone, and no ideal ones; the others see no such label.
ADAPTATIONS: dict[Method, Adaptation] = {
    Method.FINETUNED: lambda classifier, _, imperfect, *how: fine_tune(classifier, imperfect, *how),
    Method.ADDA: lambda classifier, ideal, imperfect, *how: adda(classifier, ideal[0], imperfect[0], *how),
    Method.GTA: lambda classifier, ideal, imperfect, *how: gta(classifier, ideal, imperfect[0], *how),
}


class Discriminator(nn.Module):
    """D of GTA: whether a pattern is real, and its class; strided convolutions, two linear heads.

    Group norm, as in the refiner: batch norm would tell real from generated batches by their statistics.
    """

    def __init__(self, widths: Sequence[int], points: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        length = points
        for inputs, outputs in pairwise((2, *widths)):
            layers += [
                nn.Conv1d(inputs, outputs, 9, 4, 4),
                nn.GroupNorm(math.gcd(8, outputs), outputs),
                nn.LeakyReLU(0.2),
            ]
            length = math.ceil(length / 4)
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.real, self.classes = nn.Linear(widths[-1] * length, 1), nn.Linear(widths[-1] * length, N_CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of being real, shape (n, 1), and of the classes, (n, 7), of intensities of shape (n, points)."""
        where = torch.linspace(-1, 1, x.shape[1], device=x.device, dtype=x.dtype).expand_as(x)
        hidden = self.layers(torch.stack([x, where], dim=1))
        return self.real(hidden), self.classes(hidden)


def _plan(n_ideal: int, n_imperfect: int, options: OptimiserConfig) -> Plan:
    """The batches of all epochs: rows of ideal patterns, and as many rows of imperfect ones.

    An epoch is a pass over the imperfect patterns; the ideal ones are passed over as often as it takes.
    """
    rng = np.random.default_rng(options.seed)
    batches = max(1, round(n_imperfect / options.batch_size))
    check_share(n_imperfect // batches)
    epochs = max(options.epochs, math.ceil(options.least_steps / batches))
    passes = [rng.permutation(n_ideal) for _ in range(math.ceil(epochs * n_imperfect / n_ideal))]
    ideal = np.concatenate(passes)[: epochs * n_imperfect].reshape(epochs, n_imperfect)
    return [
        list(zip(np.array_split(rows, batches), np.array_split(rng.permutation(n_imperfect), batches), strict=True))
        for rows in ideal
    ]


@dataclass(frozen=True)
class _State:
    """What learns, by name."""

    modules: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """Everything, for a checkpoint."""
        return {name: module.state_dict() for name, module in self.modules.items()} | {
            name: optimiser_tensors(optimiser) for name, optimiser in self.optimisers.items()
        }

    def restore(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Takes everything from a checkpoint."""
        for name, module in self.modules.items():
            module.load_state_dict(groups[name])
        for name, optimiser in self.optimisers.items():
            restore_optimiser(optimiser, groups[name])


def _adversarial(
    label: str,
    model: Classifier,
    state: _State,
    plan: Plan,
    step: Callable[[Tensor, Tensor, float], dict[str, Tensor]],
    options: OptimiserConfig,
    validation: Labelled,
    report: Report,
    checkpoint: Checkpoint | None,
) -> History:
    """Takes every step of the plan, the rates constant as in the papers; reports and keeps the state by epoch.

    A step takes this process's share of the rows of a batch, and how large a part of the batch that is.
    """
    device = next(model.parameters()).device
    groups, record, history = resumed(checkpoint, label, len(plan), report)
    done = record.get("epochs", 0)
    if groups:
        state.restore(groups)

    def work() -> Iterator[tuple[int, Tensor, bool]]:
        for epoch in range(done, len(plan)):
            seed_epoch(options.seed, epoch)
            rows = torch.from_numpy(np.concatenate(plan[epoch], axis=1)).to(device)
            batches = rows.split([len(s) for s, _ in plan[epoch]], dim=1)
            yield from ((epoch, batch, last == len(batches)) for last, batch in enumerate(batches, 1))

    totals = torch.zeros((), device=device)
    for epoch, batch, last in progress(work(), label, sum(map(len, plan[done:])), "batches"):
        own = batch[:, share(batch.shape[1])]
        part = own.shape[1] / batch.shape[1]
        values = step(own[0], own[1], part)
        totals = totals + torch.stack([value.detach() for value in values.values()]).double() * part
        if not last:
            continue
        metrics = dict(zip(values, (summed(totals) / len(plan[epoch])).tolist(), strict=True))
        totals = torch.zeros((), device=device)
        if len(validation[1]):
            metrics["validation_accuracy"] = classifier_accuracy(model, *validation, device)
        history.add(metrics)
        if checkpoint:
            checkpoint.save(state.groups(), {"epochs": epoch + 1, "history": history.metrics})
        report(metrics, epoch)
    return history


def _taken_for(logits: Tensor, real: bool) -> Tensor:
    """Binary cross entropy of logits, shape (n, 1), that should say "real" or "not"."""
    return F.softplus(-logits if real else logits).mean()


def _adam(parameters: Iterable[nn.Parameter], options: OptimiserConfig, beta1: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters,
        lr=options.learning_rate,
        betas=(beta1, 0.999),
        weight_decay=options.weight_decay,
        fused=is_portable() or None,  # its square roots are not MKL's: see networks.square_root
    )


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of the optimiser's own parameters; nothing else that the loss went through takes a gradient."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    optimiser.zero_grad(set_to_none=True)
    loss.backward(inputs=parameters)
    sum_gradients(parameters)
    optimiser.step()


@torch.no_grad()
def _embed(model: Classifier, x: Tensor) -> Tensor:
    return torch.cat([model.embed(part) for part in x.split(256)])


def _with_statistics(model: Classifier, x: Tensor) -> Classifier:
    """The model, its batch-norm statistics those of the patterns x, shape (n, points), from here on.

    AdaBN (Li et al., ICLR workshop 2017). What a network in training mode would do with imperfect patterns alone, but
    without the noise of small batches. With the pretraining's statistics, imperfect patterns lie so far from ideal
    ones that neither ADDA nor GTA brought them back: on simulated imperfect patterns (validation part, a small
    DenseNet, 0.11 before; one run each) ADDA reached 0.20 instead of 0.26, GTA 0.14 instead of 0.20.
    """
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    if norms:
        _embed(model, x)
    return model.eval()


def _share_weights(model: Classifier, other: Classifier) -> None:
    """Puts the parameters of a model in the place of another's, which keeps its own batch-norm statistics."""
    for name, parameter in model.named_parameters():
        path, _, own = name.rpartition(".")
        setattr(other.get_submodule(path), own, parameter)


def _checkpoint(
    path: Path | None, config: AdaptConfig, sources: Sequence[NDArray[np.generic]], classifier: Classifier
) -> Checkpoint | None:
    return checkpoint_at(path, "adapt", config, [*sources, *classifier.state_dict().values()])
