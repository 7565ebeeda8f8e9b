"""Flaws of a measurement put on whole ideal patterns, batch by batch, on the device that trains.

The virtual diffractometer (``diffractometer.py``) draws every line of a structure; this does to gridded patterns what
can be done without the structure, by the same formulas (``effects.py`` has their sources) and from the same
:class:`.flaws.Ranges`, in milliseconds a batch. A pattern does not tell its planes, so two effects
are stood in for: each part of the axis has a texture factor of its own (:data:`CORRELATION`), and strain is the same
for all lines. Axial divergence is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imitation_refinement.learning.networks import square_root
from imitation_refinement.xrd.flaws import Range, Ranges
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import SCHERRER_K, Profile
from imitation_refinement.xrd.radiation import doublet

CORRELATION = 0.5  # [°]: lines as far apart have texture factors of their own
NODES = 6  # angles at which line widths are worked out; between them patterns are blended
MEASURED_STEP = 0.02  # [°], of a measurement: a point of the grid has the counts of all steps in its cell
NARROWEST = 1.5  # [points]: no line can be narrower on a grid
SHARPEST = 1e3  # most that a spatial frequency is raised, where lines become narrower: float32 has no more to give


@dataclass(frozen=True)
class Augmentation:
    """Draws a new measurement of each ideal pattern.

    Attributes:
        grid: of the patterns.
        ranges: what the flaws are drawn from.
        profile: the lines of the ideal patterns.
    """

    grid: Grid
    ranges: Ranges
    profile: Profile

    @torch.no_grad()
    def __call__(self, patterns: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Patterns with flaws of their own each, shape (n, points), maximum 1; an impurity is the next pattern.

        Args:
            patterns: ideal intensities with maximum 1, shape (n, points), on any device.
            generator: source of all draws, on that device; torch's own by default.
        """
        if self.grid.axis != "two_theta":
            return self._by_even_axis(patterns, generator)
        r, draw = self.ranges, Draw(len(patterns), patterns.device, generator)
        two_theta = torch.as_tensor(self.grid.two_theta, dtype=patterns.dtype, device=patterns.device)
        impurity = patterns.roll(1, 0) * draw.sometimes(r.impurity_share, draw.log(r.impurity))
        x = self._textured(patterns, draw) + impurity
        x = self._shifted(self._broadened(x * self._envelope(two_theta, draw), two_theta, draw), two_theta, draw)
        x = x / x.amax(1, keepdim=True).clamp_min(1e-6) + self._background(two_theta, draw)
        x = x + (draw.point(x.shape) < r.spikes / x.shape[1]) * draw.uniform(r.spike)
        counts = draw.log(r.counts) * max(1.0, self.grid.step / MEASURED_STEP)
        x = torch.poisson(x * counts, generator)
        x = x * self._seen(two_theta, draw)
        return x / x.amax(1, keepdim=True).clamp_min(1.0)

    def _by_even_axis(self, patterns: Tensor, generator: torch.Generator | None) -> Tensor:
        """The same on a log q axis, by way of as many points even in 2θ: line widths and shifts are made there."""
        even = self.grid.model_copy(update={"axis": "two_theta"})
        there = _interpolated(patterns, self.grid.index_of(even.two_theta))
        flawed = Augmentation(even, self.ranges, self.profile)(there, generator)
        back = _interpolated(flawed, even.index_of(self.grid.two_theta))
        return back / back.amax(1, keepdim=True).clamp_min(1e-6)

    def _textured(self, patterns: Tensor, draw: Draw) -> Tensor:
        """March–Dollase factors (Dollase 1986, eq. 7) of planes that lie in any direction, each as likely."""
        march = draw.sometimes(self.ranges.texture_share, draw.log(self.ranges.march_r), 1.0)
        span = self.grid.step * (patterns.shape[1] - 1)
        cosine = draw.point((len(patterns), 1, math.ceil(span / CORRELATION) + 1))
        cosine = torch.nn.functional.interpolate(cosine, patterns.shape[1], mode="linear", align_corners=True)[:, 0]
        return patterns * (march**2 * cosine**2 + (1 - cosine**2) / march) ** -1.5

    def _envelope(self, two_theta: Tensor, draw: Draw) -> Tensor:
        """Thermal motion, and polarisation by a monochromator in place of none, shape (n, points)."""
        theta = torch.deg2rad(two_theta / 2)
        thermal = torch.exp(-2 * draw.uniform(self.ranges.b_iso) * (theta.sin() / self.grid.wavelength) ** 2)
        a, cosine = torch.deg2rad(draw.uniform(self.ranges.monochromator)).cos() ** 2, (2 * theta).cos() ** 2
        return thermal * (1 + a * cosine) / (1 + a) * 2 / (1 + cosine)

    def _broadened(self, x: Tensor, two_theta: Tensor, draw: Draw) -> Tensor:
        """Lines as wide as instrument, size and microstrain make them: the ratio of two pseudo-Voigts' transforms."""
        r, step, n = self.ranges, self.grid.step, x.shape[1]
        u, w = draw.uniform(r.u), draw.log(r.w)
        v = -2 * draw.uniform(r.v_share) * square_root(u * w)
        size, microstrain = draw.log(r.size), draw.uniform(r.microstrain)
        padded = n + math.ceil(8 * self.profile.fwhm / step)  # what leaves at one end must not come in at the other
        k = torch.fft.rfftfreq(padded, step, dtype=x.dtype, device=x.device)  # cycles a degree
        ideal = _transform(k, *(torch.full_like(u, value) for value in (self.profile.fwhm, self.profile.mixing)))
        ideal = ideal.clamp_min(1e-30)
        spectrum = torch.fft.rfft(x, padded)
        nodes = torch.linspace(0, n - 1, NODES).round().long().tolist()
        place = torch.arange(n, dtype=x.dtype, device=x.device)
        out = torch.zeros_like(x)
        for index, node in enumerate(nodes):
            theta = torch.deg2rad(two_theta[node] / 2)
            variance = u * theta.tan() ** 2 + v * theta.tan() + w + (0.68 * step) ** 2
            gaussian = square_root(variance.clamp_min(0))
            scherrer = SCHERRER_K * self.grid.wavelength / (10 * size * theta.cos())
            lorentzian = torch.rad2deg(scherrer + 4 * microstrain * theta.tan())
            fwhm, mixing = _thompson_cox_hastings(gaussian.clamp_min(NARROWEST * step), lorentzian)
            weight = torch.ones_like(place)
            if index > 0:
                weight = weight * ((place - nodes[index - 1]) / (node - nodes[index - 1])).clamp(0, 1)
            if index < NODES - 1:
                weight = weight * ((nodes[index + 1] - place) / (nodes[index + 1] - node)).clamp(0, 1)
            change = (_transform(k, fwhm, mixing) / ideal).clamp(max=SHARPEST)
            out += weight * torch.fft.irfft(spectrum * change, padded)[:, :n]
        return out.clamp_min(0)

    def _shifted(self, x: Tensor, two_theta: Tensor, draw: Draw) -> Tensor:
        """Lines where zero shift, displacement, transparency and strain put them, and their Kα2 beside them."""
        r, theta, degrees = self.ranges, torch.deg2rad(two_theta / 2), 180 / math.pi
        radius = draw.uniform(r.radius)
        shift = -2 * theta.cos() * draw.uniform(r.displacement) / radius
        shift = shift - (2 * theta).sin() * draw.uniform(r.transparency) / (2 * radius)
        strain = sum(draw.uniform(r.strain) for _ in range(3)) / 3
        shift = draw.uniform(r.zero_shift) + degrees * (shift - 2 * theta.tan() * strain)
        lines = doublet(self.grid.wavelength)
        out = self._moved(x, shift)
        ratio = draw.sometimes(r.ka2_share, draw.uniform(r.ka2_ratio))
        if lines:
            apart = 2 * (theta.sin() * (lines[1] / lines[0])).clamp(max=1).asin() - 2 * theta
            out = out + ratio * self._moved(x, shift + degrees * apart)
        return out

    def _moved(self, x: Tensor, shift: Tensor) -> Tensor:
        """Patterns moved along 2θ by a shift [°] that varies slowly, shape (n, points); 0 comes in at the ends."""
        n = x.shape[1]
        source = torch.arange(n, dtype=x.dtype, device=x.device) - shift / self.grid.step
        inside = (source >= 0) & (source <= n - 1)
        left = source.floor().clamp(0, n - 2)
        share = (source - left).clamp(0, 1)
        index = left.long()
        return (x.gather(1, index) * (1 - share) + x.gather(1, index + 1) * share) * inside

    def _background(self, two_theta: Tensor, draw: Draw) -> Tensor:
        """Chebyshev polynomial, air scatter, amorphous hump and fluorescence, to a highest peak of 1, (n, points)."""
        r = self.ranges
        place = torch.linspace(-1, 1, len(two_theta), dtype=two_theta.dtype, device=two_theta.device)
        wiggle = torch.ones_like(draw.uniform((0.0, 1.0)) * place)
        for j in range(1, r.background_order + 1):
            limit = r.background_shape / j
            wiggle = wiggle + draw.uniform((-limit, limit)) * (j * place.acos()).cos()
        air = draw.sometimes(r.air_share, draw.log(r.air)) * (5 / two_theta) ** draw.uniform(r.air_power)
        far = 2 * (two_theta - draw.uniform(r.hump_centre)) / draw.uniform(r.hump_fwhm)
        hump = draw.sometimes(r.hump_share, draw.log(r.hump)) * torch.exp(-math.log(2) * far**2)
        fluorescence = draw.sometimes(r.fluorescence_share, draw.log(r.fluorescence))
        return (draw.log(r.background) * wiggle).clamp_min(0) + air + hump + fluorescence

    def _seen(self, two_theta: Tensor, draw: Draw) -> Tensor:
        """What was scanned, and no dead strip of the detector, shape (n, points)."""
        r = self.ranges
        first = draw.sometimes(r.cut_share, draw.uniform(r.first))
        last = draw.sometimes(r.cut_share, draw.uniform(r.last), 180.0)
        gap = draw.uniform((self.grid.start, self.grid.stop))
        width = draw.sometimes(min(1.0, r.gaps), draw.uniform(r.gap))
        return (two_theta >= first) & (two_theta < last) & ((two_theta < gap) | (two_theta >= gap + width))


@dataclass(frozen=True)
class Draw:
    """Random numbers of a batch, shape (n, 1)."""

    n: int
    device: torch.device
    generator: torch.Generator | None

    def point(self, shape: tuple[int, ...]) -> Tensor:
        """Uniform from 0 to 1, of any shape."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def uniform(self, low_high: Range) -> Tensor:
        """Uniform in a range."""
        return low_high[0] + self.point((self.n, 1)) * (low_high[1] - low_high[0])

    def log(self, low_high: Range) -> Tensor:
        """With a uniform logarithm in a range; uniform if that begins at 0."""
        if low_high[0] <= 0:
            return self.uniform(low_high)
        return low_high[0] * (low_high[1] / low_high[0]) ** self.point((self.n, 1))

    def sometimes(self, share: float, value: Tensor, otherwise: float = 0.0) -> Tensor:
        """The value in a share of the patterns."""
        return torch.where(self.point((self.n, 1)) < share, value, otherwise)


def _interpolated(x: Tensor, places: NDArray[np.float64]) -> Tensor:
    """Patterns of shape (n, points) at places between their points, shape (len(places),), linearly."""
    n = x.shape[1]
    place = torch.as_tensor(places, dtype=x.dtype, device=x.device).clamp(0, n - 1)
    left = place.floor().clamp(max=n - 2)
    share, index = place - left, left.long()
    return x[:, index] * (1 - share) + x[:, index + 1] * share


def _transform(k: Tensor, fwhm: Tensor, mixing: Tensor) -> Tensor:
    """The Fourier transform of a pseudo-Voigt of area 1 at k [1/°], shape (n, len(k)): those of its two parts."""
    lorentzian = torch.exp(-math.pi * fwhm * k)
    return mixing * lorentzian + (1 - mixing) * torch.exp(-((math.pi * fwhm * k) ** 2) / (4 * math.log(2)))


def _thompson_cox_hastings(g: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`imitation_refinement.xrd.effects.thompson_cox_hastings`, of tensors."""
    power = g**5 + 2.69269 * g**4 * x + 2.42843 * g**3 * x**2 + 4.47163 * g**2 * x**3 + 0.07842 * g * x**4 + x**5
    fwhm = power**0.2
    q = x / fwhm
    return fwhm, 1.36603 * q - 0.47719 * q**2 + 0.11116 * q**3
