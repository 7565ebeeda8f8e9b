"""Training loops: the prototypical classifier on ideal patterns, the refiner through the frozen classifier."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from imitation_refinement.batches import class_covering_batches
from imitation_refinement.config import OptimiserConfig, PretrainConfig, RefineConfig
from imitation_refinement.datasets import UNLABELLED
from imitation_refinement.losses import diversity, entropy, prototype_loss, regularisation, update_prototypes
from imitation_refinement.models import frozen, use_device
from imitation_refinement.networks import Classifier, Refiner
from imitation_refinement.progress import progress

Report = Callable[[dict[str, float], int], None]


@dataclass
class History:
    """Metrics by epoch: name → one number an epoch."""

    metrics: dict[str, list[float]] = field(default_factory=dict)

    def add(self, metrics: dict[str, float]) -> None:
        """Appends one epoch."""
        for name, value in metrics.items():
            self.metrics.setdefault(name, []).append(value)


def tensors(patterns: NDArray[np.floating], labels: NDArray[np.integer], device: torch.device) -> tuple[Tensor, Tensor]:
    """Intensities (n, points) and labels (n,) on the device."""
    return torch.from_numpy(patterns.astype(np.float32)).to(device), torch.from_numpy(labels.astype(np.int64)).to(
        device
    )


def train_classifier(
    train: tuple[NDArray[np.floating], NDArray[np.integer]],
    validation: tuple[NDArray[np.floating], NDArray[np.integer]],
    config: PretrainConfig,
    report: Report,
) -> tuple[Classifier, History]:
    """Cross entropy + λ prototype loss on ideal patterns only, prototypes updated batch by batch.

    The weights of the last epoch are kept. Afterwards the prototypes are set once more, from the final network, by
    the same update over the whole training part.

    Args:
        train: intensities (n, points) with maximum 1, class indices (n,).
        validation: the same; only reported.
        config: network and options.
        report: called with each epoch's metrics and its number.

    Returns:
        The classifier, in evaluation mode on the CPU, and the metrics by epoch.
    """
    options = config.optimiser
    device = use_device(options.device)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    model = Classifier(config.network).to(device)
    x, y = tensors(*train, device)
    history = History()

    def loss_of(index: Tensor) -> dict[str, Tensor]:
        embedding = model.embed(x[index])
        prediction = F.cross_entropy(model.output(embedding), y[index])
        prototype = prototype_loss(embedding, model.prototypes, y[index])
        model.prototypes.copy_(update_prototypes(model.prototypes, embedding.detach(), y[index]))
        return {
            "loss": prediction + config.prototype_weight * prototype,
            "prediction_loss": prediction,
            "prototype_loss": prototype,
        }

    def batches() -> Iterator[NDArray[np.int64]]:
        return class_covering_batches(train[1], options.batch_size, rng)

    def after_epoch(metrics: dict[str, float], epoch: int) -> None:
        metrics |= {"validation_accuracy": classifier_accuracy(model, *validation, device)}
        history.add(metrics)
        report(metrics, epoch)

    _fit(model, loss_of, batches, options, f"pretrain {config.network.architecture}", after_epoch)
    model.eval()
    with torch.no_grad():
        embedding = torch.cat([model.embed(part) for part in x.split(256)])
        model.prototypes.copy_(update_prototypes(model.prototypes, embedding, y))
    return model.cpu(), history


def refiner_losses(
    refiner: Refiner, classifier: Classifier, x: Tensor, labels: Tensor | None, config: RefineConfig
) -> dict[str, Tensor]:
    """L_R = ℓ_pred + α ℓ_reg + β ℓ_proto of one batch, and its terms.

    Targeted (labels given): cross entropy and prototype loss at the true class. Non-targeted (``labels`` None): the
    entropies of C(R(x)) and of p_k = softmax_k(−d(F(R(x)), c_k)).

    Args:
        refiner: R.
        classifier: the frozen C, with its prototypes.
        x: intensities, shape (n, points).
        labels: true classes, shape (n,), or None.
        config: weights, Ψ and p.

    Returns:
        ``loss`` and its unweighted terms, scalars.
    """
    refined = refiner(x)
    embedding = classifier.embed(refined)
    logits, prototype_logits = classifier.output(embedding), classifier.prototype_logits(embedding)
    if labels is None:
        prediction, prototype = entropy(logits), entropy(prototype_logits)
    else:
        prediction, prototype = F.cross_entropy(logits, labels), F.cross_entropy(prototype_logits, labels)
    depth = config.feature_depth
    with torch.no_grad():
        raw = classifier.convolution_features(x, depth)
    change = regularisation(classifier.convolution_features(refined, depth), raw, config.norm)
    terms = {"prediction_loss": prediction, "regularisation_loss": change, "prototype_loss": prototype}
    loss = (
        config.prediction_weight * prediction
        + config.regularisation_weight * change
        + config.prototype_weight * prototype
    )
    if config.diversity_weight:
        terms["diversity_loss"] = diversity(logits)
        loss = loss + config.diversity_weight * terms["diversity_loss"]
    return {"loss": loss, **terms}


def train_refiner(
    classifier: Classifier,
    train: tuple[NDArray[np.floating], NDArray[np.integer]],
    validation: tuple[NDArray[np.floating], NDArray[np.integer]],
    config: RefineConfig,
    report: Report,
) -> tuple[Refiner, History]:
    """Trains R through the frozen classifier on imperfect patterns.

    Targeted training uses the labelled patterns, in batches that hold every class, and keeps the weights of the
    epoch with the lowest validation loss. Non-targeted training sees no label at all, neither in its batches nor in
    what it keeps: the weights of the last epoch.

    Args:
        classifier: C with its prototypes; it is frozen here, batch-norm statistics included.
        train: intensities (n, points) with maximum 1, class indices (n,), :data:`UNLABELLED` where there is no label.
        validation: the same, all labelled.
        config: network and options.
        report: called with each epoch's metrics and its number.

    Returns:
        The refiner, in evaluation mode on the CPU, and the metrics by epoch.

    Raises:
        ValueError: if targeted training has no labelled pattern.
    """
    options, targeted = config.optimiser, config.supervision == "targeted"
    device = use_device(options.device)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    refiner = Refiner(config.network).to(device)
    frozen(classifier).to(device)
    patterns, labels = train
    if targeted:
        patterns, labels = patterns[labels != UNLABELLED], labels[labels != UNLABELLED]
        if not len(labels):
            raise ValueError("targeted training needs labelled patterns")
    x, y = tensors(patterns, labels, device)
    history, best, best_loss = History(), None, math.inf

    def loss_of(index: Tensor) -> dict[str, Tensor]:
        return refiner_losses(refiner, classifier, x[index], y[index] if targeted else None, config)

    def batches() -> Iterator[NDArray[np.int64]]:
        if targeted:
            return class_covering_batches(labels, options.batch_size, rng)
        return iter(np.array_split(rng.permutation(len(patterns)), max(1, round(len(patterns) / options.batch_size))))

    def after_epoch(metrics: dict[str, float], epoch: int) -> None:
        nonlocal best, best_loss
        if len(validation[1]):
            with torch.no_grad():
                vx, vy = tensors(*validation, device)
                losses = refiner_losses(refiner, classifier, vx, vy if targeted else None, config)
                accuracy = (classifier(refiner(vx)).argmax(1) == vy).double().mean()
            metrics |= {"validation_" + name: float(value) for name, value in losses.items()}
            metrics["validation_accuracy"] = float(accuracy)
            if targeted and metrics["validation_loss"] < best_loss:
                best, best_loss = copy.deepcopy(refiner.state_dict()), metrics["validation_loss"]
        history.add(metrics)
        report(metrics, epoch)

    _fit(refiner, loss_of, batches, options, f"refine {config.supervision}", after_epoch)
    if best is not None:
        refiner.load_state_dict(best)
    classifier.cpu()
    return refiner.cpu().eval(), history


def _fit(
    model: torch.nn.Module,
    loss_of: Callable[[Tensor], dict[str, Tensor]],
    batches: Callable[[], Iterator[NDArray[np.int64]]],
    options: OptimiserConfig,
    label: str,
    after_epoch: Report,
) -> None:
    """AdamW; the rate rises over a tenth of all steps and falls as a cosine to 0 (Loshchilov & Hutter, ICLR 2017)."""
    device = next(model.parameters()).device
    plan = [list(batches())]
    while len(plan) < max(options.epochs, math.ceil(options.least_steps / len(plan[0]))):
        plan.append(list(batches()))
    steps = sum(len(epoch) for epoch in plan)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    rise = max(1, steps // 10)

    def share(step: int) -> float:
        return (step + 1) / rise if step < rise else (1 + math.cos(math.pi * (step - rise) / (steps - rise + 1))) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
    work = ((epoch, index) for epoch, indices in enumerate(plan) for index in [*indices, None])
    totals: dict[str, float] = {}
    seen = 0
    for epoch, index in progress(work, label, steps + len(plan), "batches"):
        if index is None:
            model.eval()
            after_epoch({name: total / seen for name, total in totals.items()}, epoch)
            totals, seen = {}, 0
            continue
        model.train()
        losses = loss_of(torch.from_numpy(index).to(device))
        optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        seen += len(index)
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.0) + float(value.detach()) * len(index)


@torch.no_grad()
def classifier_accuracy(
    model: Classifier, patterns: NDArray[np.floating], labels: NDArray[np.integer], device: torch.device
) -> float:
    """Share of patterns (n, points) that the classifier gets right; NaN without any."""
    if not len(labels):
        return math.nan
    model.eval()
    x, y = tensors(patterns, labels, device)
    return float((torch.cat([model(part).argmax(1) for part in x.split(256)]) == y).double().mean())
