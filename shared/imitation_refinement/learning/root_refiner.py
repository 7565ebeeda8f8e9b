"""The refiner of a model: it learns from pairs, moves all lines by one zero error, and scales what was seen."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imitation_refinement.learning.config import RootRefinerConfig
from imitation_refinement.learning.networks import UShaped, _along
from imitation_refinement.vocabulary import REFINER_CHANNELS
from imitation_refinement.xrd.grid import Grid

MOST_GAIN = 2.0  # of √I: four times the intensity
MIDDLE = 0.94  # cos θ at 2θ = 40°, where shifts are compared
MOST_SHIFT = 0.08  # [°], of the zero error and of the displacement, each


class RootRefiner(UShaped):
    """R(x) = T(a x + b s): √I as measured, x, and smoothed, s, each with a gain at every angle, moved by T.

    The gains go from 0 to :data:`MOST_GAIN`; where neither x nor s shows anything, nothing can be painted. T moves the
    pattern by a zero error and a displacement, two numbers up to :data:`MOST_SHIFT` that a head tells from the U-Net's
    innermost map (Jaderberg et al., NeurIPS 2015, move images so): an instrument moves all lines together, so no line
    goes its own way. Kα2, whose lines stand beside the others', is a matter of gains.

    The U-Net works on an eighth of the length: eight neighbouring points are channels of one position (Shi et al., CVPR
    2016), and nothing is lost.
    """

    axis: Tensor
    cosine: Tensor

    def __init__(self, config: RootRefinerConfig, grid: Grid) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        widths, kernel, fold = config.widths, config.kernel, config.fold
        channels = self._shape(fold * (REFINER_CHANNELS + 1), widths, kernel, config.factor)
        self.gains = _along(channels, 2 * fold, kernel)
        nn.init.zeros_(self.gains.weight)
        self.gains.bias = nn.Parameter(torch.zeros(2 * fold))
        last = nn.Linear(config.hidden, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        inputs = config.positions * widths[-1]
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(inputs, config.hidden), nn.SiLU(), last)
        angles = torch.from_numpy(grid.two_theta)
        self.register_buffer("axis", angles, persistent=False)
        self.register_buffer("cosine", torch.cos(torch.deg2rad(angles / 2)), persistent=False)
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)

    def corrections(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Gains, shape (n, 2, points), and zero error and displacement [°], (n, 2), of what is seen (n, 3, points)."""
        n, _, points = seen.shape
        fold, multiple = self.config.fold, self.config.fold * self.config.factor ** (len(self.config.widths) - 1)
        where = torch.linspace(-1, 1, points, dtype=seen.dtype, device=seen.device).expand(n, 1, points)
        x = F.pad(torch.cat([seen, where], 1), (0, -points % multiple))
        positions = x.shape[2] // fold
        hidden = x.reshape(n, -1, positions, fold).transpose(2, 3).reshape(n, -1, 1, positions)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        innermost, hidden = self._through(hidden)
        shift = MOST_SHIFT * torch.tanh(self.head(F.adaptive_avg_pool2d(innermost, (1, self.config.positions))))
        raised = self.gains(hidden).reshape(n, 2, fold, positions).transpose(2, 3).reshape(n, 2, -1)[:, :, :points]
        return MOST_GAIN * torch.sigmoid(raised), shift

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Refined √I where it was measured, shape (n, points), and zero error and displacement [°], shape (n, 2).

        Args:
            seen: what :mod:`~imitation_refinement.xrd.refinable` gives, shape (n, 3, points).
        """
        gains, shift = self.corrections(seen)
        return (gains.float() * seen[:, :2]).sum(1) / 2, shift.float()

    def moved(self, values: Tensor, shift: Tensor) -> Tensor:
        """Values, shape (n, points), moved down the axis by zero errors and displacements [°], (n, 2); 0 comes in."""
        points = values.shape[1]
        delta = shift[:, :1].double() + shift[:, 1:].double() * self.cosine
        place = self._index(self.axis + delta).clamp(-1, points)
        before = place.detach().floor()
        share = (place - before).to(values.dtype)
        wide = F.pad(values, (1, 2))
        first = before.long() + 1
        return (1 - share) * wide.gather(1, first) + share * wide.gather(1, first + 1)

    def _index(self, angles: Tensor) -> Tensor:
        """Positions on the axis [points] of angles [°], as :meth:`.Grid.index_of`."""
        grid = self.grid
        if grid.axis == "two_theta":
            return (angles - grid.start) / grid.step
        low, high = np.log(np.sin(np.radians([grid.start / 2, grid.stop / 2])))
        sine = torch.sin(torch.deg2rad(angles.clamp(0.01, 179.99) / 2))
        return (sine.log() - low) * ((grid.points - 1) / (high - low))
