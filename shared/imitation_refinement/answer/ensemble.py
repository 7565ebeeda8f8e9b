"""Networks that learnt from the stream, asked together about a measured pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.errors import InputError
from imitation_refinement.learning.models import load_classifier
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.preparation import measured_input

# By how many points of the axis a pattern is moved before it is asked again: a lattice a little larger or smaller.
SHIFTS = (-4, -2, 0, 2, 4)


@dataclass(frozen=True)
class Ensemble:
    """Classifiers of one grid.

    Attributes:
        networks: in evaluation mode, at least one.
        grid: of all.
        often: how often each crystal system is met where they are asked, shape (7,), each more than 0. They have learnt
            all equally often, so that on their own they call too many triclinic.
    """

    networks: tuple[Classifier, ...]
    grid: Grid
    often: NDArray[np.float64]

    @classmethod
    def read(cls, paths: Sequence[str | Path], often: NDArray[np.float64]) -> Ensemble:
        """The classifiers of model files.

        Args:
            paths: of the files.
            often: see :class:`Ensemble`.

        Raises:
            InputError: if there is none, a file is no classifier, or they are on several grids.
        """
        if not paths:
            raise InputError("networks", "there is none.", "Train at least one.")
        found = [load_classifier(path) for path in paths]
        grid = found[0][1]
        for path, (_, other, _) in zip(paths, found, strict=True):
            if other != grid:
                raise InputError(path, f"is on another grid than {paths[0]}.", "Give networks of one grid.")
        return cls(tuple(network for network, _, _ in found), grid, often)

    @torch.no_grad()
    def log_probabilities(self, two_theta: ArrayLike, intensity: ArrayLike, wavelength: float) -> NDArray[np.float64]:
        """The seven crystal systems' log-probabilities by the networks and by how often each is met, shape (7,).

        Of the networks' own the mean is taken, over :data:`SHIFTS`.

        Args:
            two_theta: rising angles [°], shape (n,).
            intensity: as measured, shape (n,).
            wavelength: [Å].
        """
        seen = torch.from_numpy(measured_input(two_theta, intensity, wavelength, self.grid))
        x = torch.stack([_moved(seen, shift) for shift in SHIFTS])
        parts = [network(x).double().log_softmax(1) for network in self.networks]
        own = torch.cat(parts).mean(dim=0)
        return np.asarray((own + torch.from_numpy(self.often).log()).log_softmax(0).numpy())


def _moved(x: torch.Tensor, shift: int) -> torch.Tensor:
    """A pattern moved up its axis by so many points, shape (points,); 0 comes in."""
    out = torch.zeros_like(x)
    if shift >= 0:
        out[shift:] = x[: len(x) - shift]
    else:
        out[:shift] = x[-shift:]
    return out
