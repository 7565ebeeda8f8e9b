from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from imitation_refinement.learning.augmentation import Augmentation
from imitation_refinement.xrd.diffractometer import Reflections, measure
from imitation_refinement.xrd.flaws import Parameters, Ranges
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile, pseudo_voigt

GRID = Grid(points=4096)
AXIS = GRID.two_theta
# Nothing but counts, so many that their noise is below 1e-3.
NONE = {
    "u": (0, 0),
    "w": (0.002, 0.002),
    "size": (1e6, 1e6),
    "microstrain": (0, 0),
    "axial": (0, 0),
    "ka2_share": 0,
    "zero_shift": (0, 0),
    "displacement": (0, 0),
    "transparency": (0, 0),
    "monochromator": (0, 0),
    "texture_share": 0,
    "strain": (0, 0),
    "b_iso": (0, 0),
    "background": (0, 0),
    "air_share": 0,
    "hump_share": 0,
    "fluorescence_share": 0,
    "impurity_share": 0,
    "counts": (1e7, 1e7),
    "spikes": 0,
    "gaps": 0,
    "cut_share": 0,
}
CUBIC = 5.43  # Å; its lines 111, 220, 311, 400, 331 stand far apart
HKL = np.array([[1, 1, 1], [2, 2, 0], [3, 1, 1], [4, 0, 0], [3, 3, 1]])


def augmentation(**flaws: Any) -> Augmentation:
    return Augmentation(GRID, Ranges.model_validate({**NONE, **flaws}), Profile())


def lines() -> Reflections:
    d = CUBIC / np.sqrt((HKL**2).sum(1))
    theta = np.arcsin(GRID.wavelength / 2 / d)
    factor = (1 + np.cos(2 * theta) ** 2) / (2 * np.sin(theta) ** 2 * np.cos(theta))
    f2 = np.array([1.0, 0.6, 0.4, 0.5, 0.3]) / factor  # areas of 1, 0.6, …
    return Reflections(np.eye(3) / CUBIC, d, np.arange(6), HKL.astype(np.int16), f2)


def ideal(centres: NDArray[np.float64], areas: NDArray[np.float64]) -> Tensor:
    """One pattern of pseudo-Voigt lines, shape (1, points)."""
    y = sum(a * pseudo_voigt(AXIS - c, 0.15, 0.5) for c, a in zip(centres, areas, strict=True))
    return torch.from_numpy((y / np.max(y)).astype(np.float32))[None]


def silicon() -> Tensor:
    return ideal(np.degrees(2 * np.arcsin(GRID.wavelength / 2 / lines().d)), np.array([1.0, 0.6, 0.4, 0.5, 0.3]))


def one(flawed: Augmentation, pattern: Tensor) -> NDArray[np.float64]:
    return flawed(pattern, torch.Generator().manual_seed(1))[0].double().numpy()


@pytest.mark.parametrize(
    ("flaws", "parameters"),
    [
        ({"w": (0.03, 0.03)}, {"w": 0.03}),
        ({"w": (0.005, 0.005), "u": (0.02, 0.02), "v_share": (0, 0)}, {"w": 0.005, "u": 0.02}),
        ({"w": (0.02, 0.02), "u": (0.02, 0.02), "v_share": (0.5, 0.5)}, {"w": 0.02, "u": 0.02, "v": -0.02}),
        ({"w": (0.01, 0.01), "size": (30, 30)}, {"w": 0.01, "size": 30.0}),
        ({"w": (0.01, 0.01), "microstrain": (0.002, 0.002)}, {"w": 0.01, "microstrain": 0.002}),
        ({"w": (0.01, 0.01), "zero_shift": (0.12, 0.12)}, {"w": 0.01, "zero_shift": 0.12}),
        (
            {"w": (0.01, 0.01), "displacement": (0.2, 0.2), "radius": (180, 180)},
            {"w": 0.01, "displacement": 0.2, "radius": 180.0},
        ),
        (
            {"w": (0.01, 0.01), "transparency": (0.3, 0.3), "radius": (180, 180)},
            {"w": 0.01, "transparency": 0.3, "radius": 180.0},
        ),
        ({"w": (0.01, 0.01), "strain": (0.003, 0.003)}, {"w": 0.01, "strain": (0.003, 0.003, 0.003, 0.0, 0.0, 0.0)}),
        ({"w": (0.01, 0.01), "ka2_share": 1, "ka2_ratio": (0.5, 0.5)}, {"w": 0.01, "ka2_ratio": 0.5}),
        ({"w": (0.01, 0.01), "b_iso": (3, 3)}, {"w": 0.01, "b_iso": 3.0}),
        ({"w": (0.01, 0.01), "monochromator": (26.6, 26.6)}, {"w": 0.01, "monochromator": 26.6}),
        (
            {"w": (0.01, 0.01), "background": (0.1, 0.1), "background_shape": 0},
            {"w": 0.01, "polynomial": (0.1,)},
        ),
        (
            {"w": (0.01, 0.01), "air_share": 1, "air": (0.2, 0.2), "air_power": (2, 2)},
            {"w": 0.01, "air": 0.2, "air_power": 2.0},
        ),
        (
            {"w": (0.01, 0.01), "hump_share": 1, "hump": (0.3, 0.3), "hump_centre": (22, 22), "hump_fwhm": (9, 9)},
            {"w": 0.01, "hump": 0.3, "hump_centre": 22.0, "hump_fwhm": 9.0},
        ),
        ({"w": (0.01, 0.01), "fluorescence_share": 1, "fluorescence": (0.4, 0.4)}, {"w": 0.01, "fluorescence": 0.4}),
        (
            {"w": (0.01, 0.01), "cut_share": 1, "first": (30, 30), "last": (75, 75)},
            {"w": 0.01, "first": 30.0, "last": 75.0},
        ),
    ],
)
def test_each_flaw_is_that_of_the_virtual_diffractometer(flaws: dict[str, Any], parameters: dict[str, Any]) -> None:
    """It draws each line of the crystal by itself, on another path; here a pattern of the ideal lines is changed."""
    found = one(augmentation(**flaws), silicon())
    fine = np.linspace(5, 90, (GRID.points - 1) * 5 + 1)  # a grid point has the mean of its cell
    counts = measure(lines(), Parameters(**{"counts": 1.0, **parameters}), fine, GRID.wavelength)
    expected = GRID.resample(fine, counts, GRID.wavelength)
    np.testing.assert_allclose(found, expected / expected.max(), atol=0.03)
    assert np.corrcoef(found, expected)[0, 1] > 0.9985
    for first, last in ((27, 30), (46, 49), (55, 58), (68, 71), (75, 78)):  # areas, on what is there
        here = (first < AXIS) & (last > AXIS)
        assert found[here].sum() == pytest.approx((expected / expected.max())[here].sum(), rel=0.03, abs=0.01)


def test_without_flaws_a_line_has_the_least_width_and_its_place() -> None:
    found = one(augmentation(), ideal(np.array([40.0]), np.array([1.0])))
    half = AXIS[found > 0.5]
    assert abs(half.mean() - 40) < 0.01 and half[-1] - half[0] < 0.06
    assert found.max() == 1 and found.min() >= 0


@pytest.mark.parametrize("mixing", [0.0, 0.3, 1.0])
def test_sharpened_lines_do_not_ring(mixing: float) -> None:
    """Whatever the shape of the ideal lines, and on a grid so fine that most of their transform is rounding."""
    grid = Grid(points=9001)
    line = pseudo_voigt(grid.two_theta - 40, 0.15, mixing)
    pattern = torch.from_numpy((line / line.max()).astype(np.float32))[None]
    flawed = Augmentation(grid, Ranges.model_validate({**NONE, "w": (0.003, 0.003)}), Profile(mixing=mixing))
    found = one(flawed, pattern)
    assert np.isfinite(found).all()
    # Gaussian lines come out less sharp than asked: what float32 left of them is not enough.
    half = grid.two_theta[found > 0.5]
    assert 0.04 < half[-1] - half[0] < 0.08
    assert found[np.abs(grid.two_theta - 40) > 1.0].max() < 2e-3


def test_the_background_polynomial_is_of_the_asked_shape() -> None:
    flawed = augmentation(background=(0.2, 0.2), background_shape=0.5, background_order=4)
    patterns = flawed(ideal(np.array([40.0]), np.array([1.0])).repeat(300, 1), torch.Generator().manual_seed(0)).numpy()
    place = np.linspace(-1, 1, GRID.points)
    flat = np.abs(AXIS - 40) > 3
    levels = patterns[:, flat] * 1.0
    fitted = np.polynomial.chebyshev.chebfit(place[flat], levels.T, 4).T
    shape = fitted[:, 1:] / fitted[:, :1]
    assert (np.abs(shape) < 0.5 / np.arange(1, 5) + 0.02).all()
    assert (np.abs(shape).max(0) > 0.4 / np.arange(1, 5)).all()


def test_counting_noise_is_that_of_poisson() -> None:
    flawed = augmentation(fluorescence_share=1, fluorescence=(1, 1), counts=(100, 100))
    patterns = flawed(ideal(np.array([40.0]), np.array([1.0])).repeat(50, 1), torch.Generator().manual_seed(0)).numpy()
    flat = patterns[:, AXIS > 60]  # 100 counts in a step of 0.02°, 2.08 steps a cell; maximum 1
    factor = 100 * GRID.step / 0.02 / flat.mean(1)
    assert (flat.var(1) * factor**2).mean() == pytest.approx(100 * GRID.step / 0.02, rel=0.03)


def test_texture_leaves_the_mean_of_all_lines() -> None:
    """March and Dollase's factor has the mean 1 over all directions, and lies between its extremes."""
    centres = np.arange(10.0, 86.0, 2.0)
    pattern = ideal(centres, np.ones(len(centres)))
    flawed = augmentation(texture_share=1, march_r=(0.6, 0.6), w=(0.01, 0.01), fluorescence_share=0)
    plain = one(augmentation(w=(0.01, 0.01)), pattern)
    found = flawed(pattern.repeat(200, 1), torch.Generator().manual_seed(0)).double().numpy()
    at = np.searchsorted(AXIS, centres)
    heights = np.stack([found[:, i - 3 : i + 4].max(1) / plain[i - 3 : i + 4].max() for i in at], 1)
    assert heights.max() == pytest.approx(1, abs=0.05)
    ratio = heights.min(1)  # of the weakest to the strongest: at most r^1.5 / r^-3
    assert (ratio > 0.6**1.5 / 0.6**-3 * 0.7).all() and ratio.mean() < 0.3


def test_an_impurity_is_another_pattern_of_the_batch() -> None:
    patterns = torch.cat([ideal(np.array([30.0]), np.array([1.0])), ideal(np.array([60.0]), np.array([1.0]))])
    found = augmentation(impurity_share=1, impurity=(0.25, 0.25))(patterns).numpy()
    near = [np.abs(AXIS - angle) < 0.5 for angle in (30, 60)]
    for own, other, pattern in ((0, 1, found[0]), (1, 0, found[1])):
        assert pattern[near[own]].max() == 1 and pattern[near[other]].max() == pytest.approx(0.25, abs=0.02)


def test_spikes_and_gaps() -> None:
    pattern = ideal(np.array([40.0]), np.array([1.0])).repeat(400, 1)
    spiked = augmentation(spikes=2.0, spike=(0.3, 0.3))(pattern, torch.Generator().manual_seed(0)).numpy()
    far = np.abs(AXIS - 40) > 2
    assert (spiked[:, far] > 0.2).sum() / 400 == pytest.approx(2, abs=0.3)
    flat = {"fluorescence_share": 1, "fluorescence": (0.5, 0.5), "counts": (1e6, 1e6)}
    gaps = augmentation(gaps=1, gap=(2, 2), **flat)(pattern, torch.Generator().manual_seed(0)).numpy()
    assert ((gaps == 0).sum(1) * GRID.step).mean() == pytest.approx(2, abs=0.1)


def test_every_pattern_has_flaws_of_its_own_and_a_seed_gives_them_again() -> None:
    flawed = Augmentation(GRID, Ranges(), Profile())
    pattern = silicon().repeat(64, 1)
    found, again, other = (flawed(pattern, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(found, again) and not torch.equal(found, other)
    assert len(torch.unique(found, dim=0)) == 64
    assert found.shape == pattern.shape and found.isfinite().all() and found.min() >= 0
    assert torch.equal(found.amax(1), torch.ones(64))


def test_on_log_q_flaws_are_those_of_an_even_axis() -> None:
    grid = Grid(axis="log_q", points=8192)
    x, centre = grid.two_theta, 40.0
    pattern = pseudo_voigt(x - centre, Profile().fwhm, Profile().mixing)
    given = torch.from_numpy((pattern / pattern.max()).astype(np.float32))[None]
    ranges = Ranges.model_validate({**NONE, "zero_shift": (0.2, 0.2), "w": (0.04, 0.04)})
    found = Augmentation(grid, ranges, Profile())(given)[0].numpy()
    assert x[found.argmax()] == pytest.approx(centre + 0.2, abs=0.01)
    above = x[found >= found.max() / 2]
    assert np.ptp(above) == pytest.approx(0.2, abs=0.02)  # Caglioti: √W
    assert found.max() == 1
