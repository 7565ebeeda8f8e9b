"""Checkpoints of training: what a killed run needs to go on from its last whole epoch.

A checkpoint is one safetensors file, written whole or not at all; nothing is unpickled. Random numbers need no room in
it: batches are drawn up front from the seed, and torch's generator is seeded anew each epoch (:func:`seed_epoch`).
On a CPU the weights in the end are those of an undisturbed training, bit for bit; on a GPU some sums have no fixed
order, and two undisturbed trainings differ by rounding, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from imitation_refinement.files import writing
from imitation_refinement.learning.distributed import broadcast, rank
from imitation_refinement.progress import leads, warn
from imitation_refinement.running.launch import lasting_file

RECORD, CHECKSUM = "record", "sha256"
Groups = Mapping[str, Mapping[str, Tensor]]


@contextmanager
def checkpoint_of(output: Path, label: str) -> Iterator[Path]:
    """Where the training that makes ``output`` keeps its checkpoint; it goes when the block ends well.

    That is beside the output, or in the folder that outlives a pod, where the cluster gives one; ``label`` tells it
    from those of other trainings there.
    """
    name = f"{output.name}.checkpoint.safetensors"
    path = lasting_file(name, label) or output.with_name(name)
    yield path
    if leads():
        path.unlink(missing_ok=True)
        for half_written in path.parent.glob(f".{path.name}.*"):  # by a process that was killed meanwhile
            half_written.unlink(missing_ok=True)


def identity(what: str, config: BaseModel, arrays: Iterable[NDArray[Any] | Tensor]) -> str:
    """SHA-256 of what a training comes from, hexadecimal.

    Args:
        what: the kind of training.
        config: its options.
        arrays: its data, the weights of frozen networks included.
    """
    sha = hashlib.sha256(f"{what}\n{config.model_dump_json()}\n".encode())
    for item in arrays:
        array = np.ascontiguousarray(item.detach().cpu().numpy() if isinstance(item, Tensor) else item)
        sha.update(f"{array.dtype} {array.shape}\n".encode())
        sha.update(array.data)
    return sha.hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint of one training.

    Attributes:
        path: the file.
        identity: what the training comes from, by :func:`identity`. The file of another training is not used.
    """

    path: Path
    identity: str

    def save(self, groups: Groups, record: Mapping[str, Any]) -> None:
        """Writes the state after an epoch; only the first of several processes does.

        Args:
            groups: tensors by name, in named groups (``state_dict`` of a module, :func:`optimiser_tensors`).
            record: everything else, JSON-serialisable.
        """
        if not leads():
            return
        content = json.dumps({"identity": self.identity, **record}).encode()
        tensors = {
            f"{group}/{name}": tensor.detach().cpu().contiguous()
            for group, members in groups.items()
            for name, tensor in members.items()
        }
        tensors[RECORD] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        checksum = torch.frombuffer(bytearray(_checksum(tensors)), dtype=torch.uint8)
        with writing(self.path) as temporary:
            save_file({**tensors, CHECKSUM: checksum}, temporary)

    def load(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
        """The groups and the record that were saved last; None where there is nothing to go on from.

        A file that is not of this training is left aside, and said so; the next :meth:`save` replaces it.
        """
        there = rank() == 0 and self.path.exists()
        content = broadcast(self.path.read_bytes() if there else b"")
        if not content:
            return None
        try:
            tensors = load(content)
            if bytes(tensors.pop(CHECKSUM).tolist()) != _checksum(tensors):
                raise ValueError("it is not as it was written: its SHA-256 differs")
            record = json.loads(bytes(tensors.pop(RECORD).tolist()))
            known = record.pop("identity")
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            warn(f"{self.path}: is no checkpoint ({error}); training starts anew")
            return None
        if known != self.identity:
            warn(f"{self.path}: is of other options or other data; training starts anew")
            return None
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, _, member = name.partition("/")
            groups.setdefault(group, {})[member] = tensor
        return groups, record


def _checksum(tensors: Mapping[str, Tensor]) -> bytes:
    """SHA-256 of tensors with their names, types and shapes: weights that a disk has damaged are not gone on with."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.digest()


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser has learnt of each parameter, as ``<parameter's number>.<name>`` → tensor."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": tensor for number, members in state.items() for name, tensor in members.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Gives an optimiser what :func:`optimiser_tensors` took from one like it."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        like = parameters[int(number)].detach()
        # In the layout of the parameter: a fused step goes through both by their order in memory.
        own = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
        state.setdefault(int(number), {})[name] = own
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def seed_epoch(seed: int, epoch: int) -> None:
    """Seeds torch's generators for one epoch of one process, so that it can be gone through alone."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, rank()]).generate_state(1, np.uint64)[0]))
