"""Several processes that train one network, as torchrun starts them.

Every process holds all data and draws the same batches. Of each it computes its share; gradients, batch-norm
statistics and embeddings are joined, so that the weights stay the same in all and become those that one process would
have found, within rounding (dropout and flaws apart, which every process draws for itself). Without torchrun there is
one process, and nothing here does anything.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from imitation_refinement.errors import InputError
from imitation_refinement.learning.models import use_device


def join_processes(device: str) -> torch.device:
    """The device of this process, after it has joined the others that torchrun started, if it did.

    Args:
        device: ``auto``, ``cpu``, ``cuda``; alone, also ``cuda:N``. GPUs talk by NCCL, CPUs by gloo.

    Raises:
        InputError: if there is no such device, or not one for each process of this machine.
    """
    found = use_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return found
    if found.type == "cuda":
        if found.index is not None:
            raise InputError("device", f"{device} is one GPU, but torchrun started several processes.", "Use auto.")
        found = use_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(found)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if found.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return found


def rank() -> int:
    """This process's number among those that train together, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def check_share(least: int) -> None:
    """Refuses more processes than the smallest batch, of ``least`` patterns, can be shared between.

    Raises:
        InputError: if there are more.
    """
    if least < world_size():
        raise InputError("torchrun", f"{world_size()} processes can't share a batch of {least}.", "Start fewer.")


def share(n: int) -> slice:
    """Which of ``n`` things this process takes; the processes' shares are even to within one."""
    return slice(n * rank() // world_size(), n * (rank() + 1) // world_size())


class _Sum(torch.autograd.Function):
    """Every process's input adds to every process's output, so the gradients add up, too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return summed(gradient)


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes; differentiable."""
    return tensor if world_size() == 1 else _Sum.apply(tensor)


def gathered(rows: Tensor, n: int) -> Tensor:
    """The rows of all processes; differentiable.

    Args:
        rows: this process's :func:`share` of ``n`` rows, shape (n of the share, …).
        n: rows of all processes together.

    Returns:
        Shape (n, …), the same in every process.
    """
    if world_size() == 1:
        return rows
    whole = rows.new_zeros((n, *rows.shape[1:]))
    whole[share(n)] = rows
    return summed(whole)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Adds up the gradients of all processes in place, in one message."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def broadcast(content: bytes) -> bytes:
    """What the first process holds."""
    if world_size() == 1:
        return content
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    size = torch.tensor([len(content)], device=device)
    dist.broadcast(size, 0)
    if not (n := int(size)):
        return b""
    data = torch.frombuffer(bytearray(content), dtype=torch.uint8) if rank() == 0 else torch.empty(n, dtype=torch.uint8)
    data = data.to(device)
    dist.broadcast(data, 0)
    return data.cpu().numpy().tobytes()


class _SharedBatchNorm(nn.SyncBatchNorm):
    """Batch norm over the batch of all processes on CPUs, where torch's own does not run."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        over, like = [0, *range(2, x.dim())], (1, -1, *(1,) * (x.dim() - 2))
        n = summed(x.new_tensor(float(x.numel() / x.shape[1])))
        mean = summed(x.sum(over)) / n
        centred = x - mean.view(like)
        variance = summed(centred.square().sum(over)) / n
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * n / (n - 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight / (variance + self.eps).sqrt()
        return centred * scale.view(like) + self.bias.view(like)


def share_batch_norm(model: nn.Module) -> None:
    """Puts batch norms of all processes' batches into a model that has others; its state keeps its names."""
    if world_size() == 1:
        return
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm) and not module.weight.is_cuda:
            module.__class__ = _SharedBatchNorm
