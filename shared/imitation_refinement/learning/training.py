"""Training loops: the prototypical classifier on ideal patterns, the refiner through the frozen classifier.

Data stay on the device, and nothing is read back from it within an epoch. The networks run in ``options.precision``,
losses and weights are float32. Under torchrun several processes share each batch; see
:mod:`imitation_refinement.learning.distributed`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from imitation_refinement.data.datasets import UNLABELLED
from imitation_refinement.learning.batches import class_covering_batches
from imitation_refinement.learning.checkpoints import (
    Checkpoint,
    identity,
    optimiser_tensors,
    restore_optimiser,
    seed_epoch,
)
from imitation_refinement.learning.config import OptimiserConfig, Precision, PretrainConfig, RefineConfig
from imitation_refinement.learning.distributed import (
    check_share,
    gathered,
    join_processes,
    share,
    share_batch_norm,
    sum_gradients,
    summed,
)
from imitation_refinement.learning.losses import (
    class_sums,
    diversity,
    entropy,
    moved,
    prototype_loss,
    regularisation,
    update_prototypes,
)
from imitation_refinement.learning.models import frozen
from imitation_refinement.learning.networks import Classifier, Refiner
from imitation_refinement.options import StageConfig
from imitation_refinement.progress import progress, say
from imitation_refinement.vocabulary import Variant

SHORTEST_EPOCH = 10  # batches, where least_steps asks for as many

Report = Callable[[dict[str, float], int], None]
Labelled = tuple[NDArray[np.floating], NDArray[np.integer]]
Batches = Callable[[], Iterator[NDArray[np.int64]]]


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
    return intensities(patterns, device), torch.from_numpy(labels.astype(np.int64)).to(device)


def intensities(patterns: NDArray[np.floating], device: torch.device) -> Tensor:
    """Intensities, shape (n, points), on the device."""
    return torch.from_numpy(patterns.astype(np.float32)).to(device)


def held(patterns: NDArray[np.floating], device: torch.device) -> Tensor:
    """Intensities, shape (n, points), on the device, or, where they would take more than half of it, where they are."""
    there = torch.from_numpy(np.asarray(patterns, np.float32))
    if device.type == "cuda" and there.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        say(f"{len(there)} patterns stay in the machine's memory: they would take more than half of the GPU's")
        return there
    return there.to(device)


def train_classifier(
    train: Labelled,
    validation: Labelled,
    config: PretrainConfig,
    report: Report,
    checkpoint: Path | None = None,
    augmentation: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Classifier, History]:
    """Cross entropy + λ prototype loss on ideal patterns only, prototypes updated batch by batch.

    The weights of the last epoch are kept. Afterwards the prototypes are set once more, from the final network, by
    the same update over the whole training part.

    Args:
        train: intensities (n, points) with maximum 1, class indices (n,).
        validation: the same; only reported.
        config: network and options.
        report: called with each epoch's metrics and its number.
        checkpoint: where the state is kept after each epoch, and gone on from; nowhere by default.
        augmentation: what training patterns go through each time they are seen, validation patterns once; (n, points)
            to the same shape, by torch's own random numbers.

    Returns:
        The classifier, in evaluation mode on the CPU, and the metrics by epoch.
    """
    options = config.optimiser
    device = join_processes(options.device)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    model = config.network.build().to(device)
    share_batch_norm(model)
    x, vx = held(train[0], device), held(validation[0], device)
    y, vy = (torch.from_numpy(part[1].astype(np.int64)).to(device) for part in (train, validation))
    if augmentation and len(vx):
        vx = torch.cat([augmentation(part.to(device)).to(vx.device) for part in vx.split(256)])
    embed = fast(model.embed, options)

    def seen(patterns: Tensor) -> Tensor:
        patterns = patterns.to(device)
        return augmentation(patterns) if augmentation else patterns

    def loss_of(index: Tensor) -> dict[str, Tensor]:
        own = index[share(len(index))]
        with precision(options, device):
            embedding = embed(seen(x[own.to(x.device)])).float()
        prediction = F.cross_entropy(model.output(embedding), y[own])
        prototype = prototype_loss(embedding, model.prototypes, y[own])
        whole = gathered(embedding.detach(), len(index))
        model.prototypes.copy_(update_prototypes(model.prototypes, whole, y[index]))
        return {
            "loss": prediction + config.prototype_weight * prototype,
            "prediction_loss": prediction,
            "prototype_loss": prototype,
        }

    def batches() -> Iterator[NDArray[np.int64]]:
        return class_covering_batches(train[1], options.batch_size, rng)

    def validate() -> dict[str, float]:
        return {"validation_accuracy": accuracy(model, vx, vy)}

    label = f"pretrain {config.network.architecture}"
    kept = checkpoint_at(checkpoint, "classifier", config, [*train, *validation])
    history = fit(model, loss_of, batches, options, label, validate, report, checkpoint=kept)
    seed_epoch(options.seed, len(history.metrics["loss"]))
    with torch.no_grad():
        sums = F.pad(torch.zeros_like(model.prototypes), (0, 1))
        for part, label in zip(*(rows[share(len(x))].split(256) for rows in (x, y)), strict=True):
            sums += class_sums(model.embed(seen(part)), label, model.prototypes)
        model.prototypes.copy_(moved(model.prototypes, summed(sums)))
    trained = config.network.build()  # without what compiling and several processes changed in the other
    trained.load_state_dict(model.state_dict())
    return trained.eval(), history


def refiner_losses(
    refiner: Refiner,
    classifier: Classifier,
    x: Tensor,
    labels: Tensor | None,
    config: RefineConfig,
    batch: int | None = None,
    respond: Callable[..., tuple[Tensor, Tensor, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """L_R = ℓ_pred + α ℓ_reg + β ℓ_proto of one batch, and its terms.

    Targeted (labels given): cross entropy and prototype loss at the true class. Non-targeted (``labels`` None): the
    entropies of C(R(x)) and of p_k = softmax_k(−d(F(R(x)), c_k)).

    Args:
        refiner: R.
        classifier: the frozen C, with its prototypes.
        x: intensities, shape (n, points), aligned (:meth:`.Refiner.aligned`).
        labels: true classes, shape (n,), or None.
        config: weights, Ψ and p.
        batch: patterns of the whole batch, where ``x`` is this process's share of it.
        respond: :func:`_responses`, compiled.

    Returns:
        ``loss`` and its unweighted terms, scalars.
    """
    with precision(config.optimiser, x.device):
        embedding, refined, raw = (respond or _responses)(refiner, classifier, x, config.feature_depth)
    embedding = embedding.float()
    logits, prototype_logits = classifier.output(embedding), classifier.prototype_logits(embedding)
    if labels is None:
        prediction, prototype = entropy(logits), entropy(prototype_logits)
    else:
        prediction, prototype = F.cross_entropy(logits, labels), F.cross_entropy(prototype_logits, labels)
    change = regularisation(refined.float(), raw.float(), config.norm)
    terms, weights = {"prediction": prediction, "regularisation": change, "prototype": prototype}, config.weights
    if weights["diversity"]:
        terms["diversity"] = diversity(logits if batch is None else gathered(logits, batch))
    loss = sum((weights[name] * term for name, term in terms.items()), x.new_zeros(()))
    return {"loss": loss, **{f"{name}_loss": term for name, term in terms.items()}}


def _responses(refiner: Refiner, classifier: Classifier, x: Tensor, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """F(R(x)), Ψ(R(x)) and Ψ(x)."""
    refined = refiner.correct(x)
    with torch.no_grad():
        raw = classifier.convolution_features(x, depth)
    return classifier.embed(refined), classifier.convolution_features(refined, depth), raw


def train_refiner(
    classifier: Classifier,
    train: Labelled,
    validation: Labelled,
    config: RefineConfig,
    report: Report,
    checkpoint: Path | None = None,
    ideal: Labelled | None = None,
) -> tuple[Refiner, History]:
    """Trains R through the frozen classifier on imperfect patterns.

    Targeted training uses the labelled patterns, in batches that hold every class, and keeps the weights of the
    epoch with the lowest validation loss; where it may use some of the labels alone (``config.labelled``), the last
    ones, since choosing would use others'. Non-targeted training sees no label at all, neither in its batches nor in
    what it keeps: the weights of the last epoch.

    In the variant ``with_ideal`` half as many ideal patterns, drawn at random, go with each batch under the targeted
    loss: what is ideal already is to stay so, and to be read as before (as Taigman et al., ICLR 2017, ask with L_TID
    and L_CONST of a generator that is given what it should make).

    Args:
        classifier: C with its prototypes; it is frozen here, batch-norm statistics included.
        train: intensities (n, points) with maximum 1, class indices (n,), :data:`UNLABELLED` where there is no label.
        validation: the same, all labelled.
        config: network and options.
        report: called with each epoch's metrics and its number.
        checkpoint: where the state is kept after each epoch, and gone on from; nowhere by default.
        ideal: ideal patterns and their classes, as ``train``; for the variant ``with_ideal``.

    Returns:
        The refiner, in evaluation mode on the CPU, and the metrics by epoch.

    Raises:
        ValueError: if targeted training has no labelled pattern, or ``with_ideal`` no ideal one.
    """
    options, targeted = config.optimiser, config.supervision.learns_from_labels
    device = join_processes(options.device)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    refiner = config.network.build().to(device)
    frozen(classifier).to(device)
    patterns, labels = train
    if targeted:
        patterns, labels = patterns[labels != UNLABELLED], labels[labels != UNLABELLED]
        if not len(labels):
            raise ValueError("targeted training needs labelled patterns")
    (x, y), (vx, vy) = tensors(patterns, labels, device), tensors(*validation, device)
    x, vx = refiner.aligned(x), refiner.aligned(vx)
    respond = fast(_responses, options)
    ideal_weight = config.weights["ideal"]
    if ideal_weight:
        if ideal is None or not len(ideal[1]):
            raise ValueError("with_ideal needs ideal patterns")
        ideal_x, ideal_y = held(ideal[0], device), torch.from_numpy(ideal[1].astype(np.int64)).to(device)
        as_published = config.model_copy(update={"variant": Variant.PLAIN})

    def loss_of(index: Tensor) -> dict[str, Tensor]:
        own = index[share(len(index))]
        losses = refiner_losses(
            refiner, classifier, x[own], y[own] if targeted else None, config, len(index), respond=respond
        )
        if ideal_weight:
            drawn = torch.randint(len(ideal_y), (max(1, len(own) // 2),), device=ideal_x.device)
            given = ideal_x[drawn].to(device), ideal_y[drawn.to(device)]
            of_ideal = refiner_losses(refiner, classifier, *given, as_published, respond=respond)
            losses["ideal_loss"] = of_ideal["loss"]
            losses["loss"] = losses["loss"] + ideal_weight * of_ideal["loss"]
        return losses

    def batches() -> Iterator[NDArray[np.int64]]:
        if targeted:
            return class_covering_batches(labels, options.batch_size, rng)
        return iter(np.array_split(rng.permutation(len(patterns)), max(1, round(len(patterns) / options.batch_size))))

    def validate() -> dict[str, float]:
        if not len(vy):
            return {}
        losses = refiner_losses(refiner, classifier, vx, vy if targeted else None, config)
        accuracy = (classifier(refiner.correct(vx)).argmax(1) == vy).double().mean()
        return {"validation_" + name: float(value) for name, value in {**losses, "accuracy": accuracy}.items()}

    # Without labels in what training comes from, none can change where it goes on.
    sources = [*train, *validation] if targeted else [patterns, validation[0]]
    sources += [*ideal] if ideal_weight and ideal else []
    kept = checkpoint_at(checkpoint, "refiner", config, [*sources, *classifier.state_dict().values()])
    label = f"refine {config.supervision}"
    keep_best = targeted and not config.labelled
    history = fit(refiner, loss_of, batches, options, label, validate, report, checkpoint=kept, keep_best=keep_best)
    classifier.cpu()
    return refiner.cpu().eval(), history


def fit(
    model: nn.Module,
    loss_of: Callable[[Tensor], dict[str, Tensor]],
    batches: Batches,
    options: OptimiserConfig,
    label: str,
    validate: Callable[[], dict[str, float]],
    report: Report,
    *,
    checkpoint: Checkpoint | None = None,
    keep_best: bool = False,
) -> History:
    """AdamW; the rate rises over a tenth of all steps and falls as a cosine to 0 (Loshchilov & Hutter, ICLR 2017).

    Args:
        model: what learns, on its device; in evaluation mode afterwards.
        loss_of: ``loss`` and other batch means, scalars, of a whole batch's indices (int64, on the device). Of several
            processes each gives the means over its :func:`~imitation_refinement.learning.distributed.share`.
        batches: one epoch's batches, drawn anew at each call; all are drawn before the first step.
        options: how long and how fast.
        label: what the progress is called.
        validate: the metrics that come after an epoch, without gradients, the model in evaluation mode.
        report: called with each epoch's metrics and its number; those before a kill once more.
        checkpoint: kept after each epoch, and gone on from.
        keep_best: whether the weights of the lowest ``validation_loss`` are kept, not the last ones.

    Returns:
        The metrics by epoch.
    """
    device = next(model.parameters()).device
    plan = _plan(batches, options)
    steps = sum(len(epoch) for epoch in plan)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
    )
    groups, record, history = resumed(checkpoint, label, len(plan), report)
    best, best_loss, done = groups.get("best", {}), record.get("best_loss", math.inf), record.get("epochs", 0)
    if groups:
        model.load_state_dict(groups["model"])
        restore_optimiser(optimiser, groups["optimiser"])

    def work() -> Iterator[tuple[int, Tensor, bool]]:
        for epoch in range(done, len(plan)):
            seed_epoch(options.seed, epoch)
            model.train()
            sizes = [len(batch) for batch in plan[epoch]]
            indices = torch.from_numpy(np.concatenate(plan[epoch])).to(device).split(sizes)
            yield from ((epoch, index, last == len(sizes)) for last, index in enumerate(indices, 1))

    step = sum(len(epoch) for epoch in plan[:done])
    totals, seen = torch.zeros((), device=device), 0
    for epoch, index, last in progress(work(), label, steps - step, "batches"):
        own = len(range(len(index))[share(len(index))])
        losses = loss_of(index)
        optimiser.zero_grad(set_to_none=True)
        (losses["loss"] * (own / len(index))).backward()
        sum_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * rate_at(step, steps)
        optimiser.step()
        step += 1
        seen += len(index)
        totals = totals + torch.stack([value.detach() for value in losses.values()]).double() * own
        if not last:
            continue
        model.eval()
        means = (summed(totals) / seen).tolist()
        totals, seen = torch.zeros((), device=device), 0
        with torch.no_grad():
            metrics = {**dict(zip(losses, means, strict=True)), **validate()}
        if keep_best and metrics.get("validation_loss", math.inf) < best_loss:
            best, best_loss = copy.deepcopy(model.state_dict()), metrics["validation_loss"]
        history.add(metrics)
        if checkpoint:
            checkpoint.save(
                {"model": model.state_dict(), "optimiser": optimiser_tensors(optimiser), "best": best},
                {"epochs": epoch + 1, "best_loss": best_loss, "history": history.metrics},
            )
        report(metrics, epoch)
    if best:
        model.load_state_dict(best)
    model.eval()
    return history


def resumed(
    checkpoint: Checkpoint | None, label: str, epochs: int, report: Report
) -> tuple[Mapping[str, Mapping[str, Tensor]], Mapping[str, Any], History]:
    """What a checkpoint holds, and its epochs reported once more; all empty where there is nothing to go on from.

    Args:
        checkpoint: of the training.
        label: what the progress is called.
        epochs: of the whole training.
        report: called with the metrics of each epoch done, and its number.

    Returns:
        The checkpoint's groups of tensors, its record, and the metrics by epoch.
    """
    if not checkpoint or not (found := checkpoint.load()):
        return {}, {}, History()
    groups, record = found
    history, done = History(record["history"]), record["epochs"]
    say(f"{label}: goes on after epoch {done} of {epochs}, from {checkpoint.path}")
    for epoch in range(done):
        report({name: values[epoch] for name, values in history.metrics.items()}, epoch)
    return groups, record, history


def _plan(batches: Batches, options: OptimiserConfig) -> list[list[NDArray[np.int64]]]:
    """The batches of all epochs, ``options.epochs`` of them or as many as ``options.least_steps`` asks.

    Where few patterns are passed over often for that, an epoch is several passes: each ends with a validation.
    """

    def epoch() -> list[NDArray[np.int64]]:
        found = list(batches())
        while len(found) < min(SHORTEST_EPOCH, options.least_steps):
            found += batches()
        return found

    plan = [epoch()]
    while len(plan) < max(options.epochs, math.ceil(options.least_steps / len(plan[0]))):
        plan.append(epoch())
    check_share(min(len(batch) for epoch in plan for batch in epoch))
    return plan


def rate_at(step: int, steps: int) -> float:
    """The learning rate at a step, as a share of the largest."""
    rise = max(1, steps // 10)
    return (step + 1) / rise if step < rise else (1 + math.cos(math.pi * (step - rise) / (steps - rise + 1))) / 2


def precision(options: OptimiserConfig, device: torch.device) -> torch.autocast:
    """The block in which networks run in ``options.precision``."""
    fits = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    low = options.precision == "bfloat16" or (options.precision == "auto" and fits)
    return torch.autocast(device.type, torch.bfloat16, enabled=low)


def quick(precision: Precision, device: torch.device) -> Precision:
    """What ``auto`` is of networks without norms: on a CPU bfloat16 if it has AVX-512 BF16.

    It is twice as fast there as float32; emulated it is seven times as slow.
    """
    has = device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)
    return "bfloat16" if precision == "auto" and has else precision


def fast(function: Callable[..., Any], options: OptimiserConfig) -> Callable[..., Any]:
    """The function, compiled if ``options.compile`` says so."""
    if not options.compile:
        return function
    compiled = torch.compile(function)

    def run(*arguments: Any) -> Any:
        for argument in arguments:
            if isinstance(argument, Tensor):
                torch._dynamo.maybe_mark_dynamic(argument, 0)  # batches differ in size: one compilation for all
        return compiled(*arguments)

    return run


def checkpoint_at(path: Path | None, what: str, config: StageConfig, sources: list[Any]) -> Checkpoint | None:
    """The checkpoint of a training with these options on these arrays, if it is to be kept anywhere."""
    return Checkpoint(path, identity(what, config, sources)) if path else None


def classifier_accuracy(
    model: Classifier, patterns: NDArray[np.floating], labels: NDArray[np.integer], device: torch.device
) -> float:
    """Share of patterns (n, points) that the classifier gets right; NaN without any."""
    return accuracy(model.eval(), *tensors(patterns, labels, device))


@torch.no_grad()
def accuracy(model: Classifier, x: Tensor, y: Tensor) -> float:
    """Share of patterns (n, points) that a classifier in evaluation mode gets right, on the labels' device; or NaN."""
    if not len(y):
        return math.nan
    # Counted batch by batch: results that are kept between large arrays that go leave holes in memory.
    right = y.new_zeros(())
    for part, label in zip(x.split(256), y.split(256), strict=True):
        right += (model(part.to(y.device)).argmax(1) == label).sum()
    return float(right) / len(y)
