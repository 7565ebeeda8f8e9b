"""Each effect against its formula worked another way, and whole measurements."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import voigt_profile

from imitation_refinement.xrd import effects
from imitation_refinement.xrd.diffractometer import Reflections, counted, measure
from imitation_refinement.xrd.flaws import Parameters, Ranges, draw

AXIS = np.linspace(5, 90, 8501)
WAVELENGTH = 1.54056


def cubic(a: float = 5.0, lines: tuple[tuple[int, int, int], ...] = ((2, 0, 0),)) -> Reflections:
    """A cubic crystal with whole families of equal |F|²."""
    hkl, starts, d = [], [0], []
    for family in lines:
        orders, signs = set(itertools.permutations(family)), list(itertools.product((1, -1), repeat=3))
        members = {tuple(a * b for a, b in zip(order, sign, strict=True)) for order in orders for sign in signs}
        hkl += sorted(members)
        starts.append(len(hkl))
        d.append(a / math.sqrt(sum(v * v for v in family)))
    return Reflections(np.eye(3) / a, np.array(d), np.array(starts), np.array(hkl, np.int16), np.full(len(hkl), 10.0))


def centroid(y: np.ndarray) -> float:
    return float((AXIS * y).sum() / y.sum())


def position(parameters: Parameters, d: float = 2.5) -> float:
    return float(AXIS[measure(cubic(2 * d), parameters, AXIS, WAVELENGTH).argmax()])


def width(parameters: Parameters) -> float:
    y = measure(cubic(), parameters, AXIS, WAVELENGTH)
    above = AXIS[y >= y.max() / 2]
    return float(above[-1] - above[0])


def bragg(d: float, wavelength: float = WAVELENGTH) -> float:
    return math.degrees(2 * math.asin(wavelength / 2 / d))


def test_line_stands_where_bragg_says() -> None:
    assert position(Parameters()) == pytest.approx(bragg(2.5), abs=0.006)


def test_ka2_is_where_bragg_says_and_half_as_high() -> None:
    sharp = Parameters(w=0.0009, ka2_ratio=0.5)
    y = measure(cubic(2.4), sharp, AXIS, WAVELENGTH)
    second = bragg(1.2, 1.54439)
    assert second - bragg(1.2) > 0.2
    near = np.abs(AXIS - second) < 0.06
    assert AXIS[near][y[near].argmax()] == pytest.approx(second, abs=0.006)
    assert y[near].max() / y.max() == pytest.approx(0.5, abs=0.02)


def test_zero_shift_and_displacement_and_transparency() -> None:
    start = bragg(2.5)
    theta = math.radians(start / 2)
    assert position(Parameters(zero_shift=0.3)) == pytest.approx(start + 0.3, abs=0.006)
    expected = -math.degrees(2 * 0.5 * math.cos(theta) / 200)
    assert position(Parameters(displacement=0.5, radius=200)) == pytest.approx(start + expected, abs=0.006)
    expected = -math.degrees(math.sin(2 * theta) * 0.8 / (2 * 150))
    assert position(Parameters(transparency=0.8, radius=150)) == pytest.approx(start + expected, abs=0.006)


@pytest.mark.parametrize("below", [0.3, -0.3])
def test_displacement_is_that_of_a_specimen_below_the_axis(below: float) -> None:
    """By ruler: from radius R and elevation t a point below the axis is seen at (R sin t + s) / R cos t."""
    radius, true = 200.0, math.radians(20)
    seen = brentq(lambda t: (radius * math.sin(t) + below) / (radius * math.cos(t)) - math.tan(true), 0.1, 0.6)
    assert effects.displacement_shift(math.cos(true), below, radius) == pytest.approx(2 * (seen - true), rel=2e-3)


def test_widths_of_instrument_size_and_strain() -> None:
    theta = math.radians(bragg(2.5) / 2)
    u, v, w = 0.3, -0.02, 0.04
    expected = math.sqrt(u * math.tan(theta) ** 2 + v * math.tan(theta) + w)
    assert width(Parameters(u=u, v=v, w=w)) == pytest.approx(expected, abs=0.02)
    scherrer = math.degrees(0.9 * WAVELENGTH / (80 * math.cos(theta)))
    assert width(Parameters(w=1e-4, size=8)) == pytest.approx(scherrer, rel=0.03)
    assert width(Parameters(w=1e-4, microstrain=0.01)) == pytest.approx(math.degrees(0.04 * math.tan(theta)), rel=0.03)


@pytest.mark.parametrize(("gaussian", "lorentzian"), [(1.0, 0.0), (1.0, 0.5), (0.4, 1.0), (1e-4, 1.0)])
def test_thompson_cox_hastings_is_nearly_a_voigt(gaussian: float, lorentzian: float) -> None:
    fwhm, mixing = effects.thompson_cox_hastings(gaussian, lorentzian)
    x = np.linspace(-3, 3, 601)
    u = 2 * x / fwhm
    near = mixing * 2 / np.pi / fwhm / (1 + u**2)
    near += (1 - mixing) * 2 * np.sqrt(np.log(2) / np.pi) / fwhm * np.exp(-np.log(2) * u**2)
    exact = voigt_profile(x, gaussian / math.sqrt(8 * math.log(2)), lorentzian / 2)
    np.testing.assert_allclose(near, exact, atol=0.013 * exact.max())


def test_axial_divergence_against_the_published_integral() -> None:
    """Mean and extent of Finger, Cox and Jephcoat's D(2φ) for equal heights, by brute force."""
    axial, two_theta = 0.03, math.radians(12)
    u = (np.arange(200_000) + 0.5) / 200_000
    seen = np.degrees(np.arccos(np.cos(two_theta) * np.sqrt(1 + (2 * axial * u) ** 2)))
    mean = (seen * 2 * (1 - u)).sum() / (2 * (1 - u)).sum()
    d = WAVELENGTH / 2 / math.sin(two_theta / 2)
    y = measure(cubic(2 * d), Parameters(axial=axial, w=0.0004), AXIS, WAVELENGTH)
    assert centroid(y) == pytest.approx(mean, abs=0.004)
    farthest = effects.axial_two_theta(math.sin(two_theta / 2), axial, 1.0)
    assert math.degrees(farthest) == pytest.approx(seen.min(), abs=1e-4)
    assert AXIS[y > 0.02 * y.max()][0] < 12 - 0.25
    high = cubic(WAVELENGTH / math.sin(math.radians(80 / 2)))
    assert centroid(measure(high, Parameters(axial=axial, w=0.0004), AXIS, WAVELENGTH)) == pytest.approx(80, abs=0.02)


@pytest.mark.parametrize("r", [0.4, 1.0, 1.8])
def test_march_dollase_keeps_the_mean_over_the_sphere(r: float) -> None:
    cosines = (np.arange(20_000) + 0.5) / 20_000
    assert np.mean([effects.march_dollase(c, r) for c in cosines]) == pytest.approx(1, abs=1e-4)
    assert effects.march_dollase(1.0, r) == pytest.approx(r**-3)
    assert effects.march_dollase(0.0, r) == pytest.approx(r**1.5)


def test_texture_averages_over_equivalents() -> None:
    """(100) plates of a cubic crystal: the six 200 mix r⁻³ with four times r^1.5, the 111 have cos² α = 1/3."""
    r, crystal = 0.6, cubic(5.0, ((1, 1, 1), (2, 0, 0)))
    narrow = {"w": 0.0025}

    def ratio(parameters: Parameters) -> float:
        y = measure(crystal, parameters, AXIS, WAVELENGTH)
        return float(y[np.abs(AXIS - bragg(2.5)) < 0.5].sum() / y[np.abs(AXIS - bragg(5 / math.sqrt(3))) < 0.5].sum())

    gain = ratio(Parameters(march_r=r, texture_plane=1, **narrow)) / ratio(Parameters(**narrow))
    expected = (r**-3 + 2 * r**1.5) / 3 / (r * r / 3 + 2 / (3 * r)) ** -1.5
    assert gain == pytest.approx(expected, rel=1e-3)


def test_strain_shifts_lines_by_its_symmetric_part() -> None:
    tensor = (0.006, -0.001, 0.001, 0.004, 0.0, 0.002)
    expected = bragg(2.5 * (1 + sum(tensor[:3]) / 3))
    assert position(Parameters(strain=tensor)) == pytest.approx(expected, abs=0.006)
    assert width(Parameters(strain=tensor)) == pytest.approx(width(Parameters()), abs=0.011)
    n = np.array([0.6, 0.0, 0.8])
    matrix = np.array([[0.006, 0.002, 0.0], [0.002, -0.001, 0.004], [0.0, 0.004, 0.001]])
    assert effects.strain_of(n, np.array(tensor)) == pytest.approx(n @ matrix @ n)


def test_thermal_factor_and_lorentz_polarisation() -> None:
    assert effects.debye_waller(1.25, 0.8) == pytest.approx(math.exp(-2 * 0.8 * 0.4**2))
    angle = math.radians(40)
    plain = (1 + math.cos(angle) ** 2) / 2 / (math.sin(angle / 2) ** 2 * math.cos(angle / 2))
    sine, cosine = math.sin(angle / 2), math.cos(angle / 2)
    assert effects.lorentz_polarisation(sine, cosine, 0.0) == pytest.approx(plain)
    a = math.cos(math.radians(26.6)) ** 2
    graphite = plain * 2 / (1 + a) * (1 + a * math.cos(angle) ** 2) / (1 + math.cos(angle) ** 2)
    assert effects.lorentz_polarisation(sine, cosine, math.radians(26.6)) == pytest.approx(graphite)


def test_background_is_the_sum_of_its_parts() -> None:
    p = Parameters(
        polynomial=(0.1, 0.02, -0.03), air=0.2, air_power=2.0, hump=0.1, hump_centre=22, hump_fwhm=8, fluorescence=0.3
    )
    far = cubic(5.0)
    y = (measure(far, p, AXIS, WAVELENGTH) - measure(far, Parameters(), AXIS, WAVELENGTH)) / p.counts
    x = 2 * (AXIS - 5) / 85 - 1
    expected = np.polynomial.chebyshev.chebval(x, p.polynomial) + 0.3 + 0.2 * (5 / AXIS) ** 2
    expected += 0.1 * np.exp(-4 * np.log(2) * ((AXIS - 22) / 8) ** 2)
    np.testing.assert_allclose(y, expected, atol=2e-5)


@pytest.mark.parametrize("mean", [0.3, 4.0, 9.9, 10.1, 50.0, 3000.0])
def test_counts_are_poisson(mean: float) -> None:
    n = 200_000
    counts = counted(np.random.default_rng(3), np.full(n, mean))
    assert counts.mean() == pytest.approx(mean, abs=5 * math.sqrt(mean / n))
    assert counts.var() == pytest.approx(mean, rel=0.02)
    assert stats.skew(counts) == pytest.approx(mean**-0.5, abs=0.03)
    k = np.arange(int(mean - 6 * math.sqrt(mean)), int(mean + 6 * math.sqrt(mean)) + 2)
    observed = np.searchsorted(np.sort(counts), k, side="right") / n
    assert np.abs(observed - stats.poisson.cdf(k, mean)).max() < 0.005


def test_spikes_gaps_and_cut_range() -> None:
    p = Parameters(polynomial=(0.1,), spikes=((50.0, 0.5),), gaps=((60.0, 61.0),), first=10.0, last=80.0)
    y = measure(cubic(), p, AXIS, WAVELENGTH)
    assert y[np.abs(AXIS - 50).argmin()] == pytest.approx(p.counts * 0.6, rel=0.01)
    assert not y[(AXIS > 60) & (AXIS < 61)].any()
    seen = p.observed(AXIS)
    assert AXIS[seen][0] == pytest.approx(10) and AXIS[seen][-1] == pytest.approx(80, abs=0.011)
    assert not y[: seen.start].any() and not y[seen.stop :].any() and y[seen][0] > 0


def test_impurity_has_its_share() -> None:
    p = Parameters(impurity_ratio=0.2, impurity="other")
    y = measure(cubic(5.0), p, AXIS, WAVELENGTH, cubic(3.0))
    assert y[np.abs(AXIS - bragg(1.5)) < 1].max() == pytest.approx(0.2 * y.max(), rel=0.02)
    with pytest.raises(ValueError, match="impurity other"):
        measure(cubic(), p, AXIS, WAVELENGTH)


def test_uneven_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="evenly"):
        measure(cubic(), Parameters(), np.concatenate([AXIS[:100], AXIS[101:]]), WAVELENGTH)


def test_stored_parameters_give_the_same_counts_again() -> None:
    ranges = Ranges(spikes=2, gaps=1)
    for seed in range(20):
        drawn = draw(np.random.default_rng([seed, 1]), ranges)
        assert drawn == draw(np.random.default_rng([seed, 1]), ranges)
        stored = Parameters.from_json(drawn.to_json())
        assert stored == drawn
        crystal = cubic(5.0, ((1, 1, 1), (2, 0, 0), (2, 2, 0)))
        first, again = (measure(crystal, p, AXIS, WAVELENGTH, cubic(4.0)) for p in (drawn, stored))
        np.testing.assert_array_equal(first, again)
        assert np.isfinite(first).all() and (first >= 0).all() and (first == np.round(first)).all()


def test_ranges_of_nothing_switch_everything_off() -> None:
    none = (0.0, 0.0)
    names = ("size", "microstrain", "axial", "zero_shift", "displacement", "transparency", "strain", "b_iso")
    ranges = Ranges(
        **dict.fromkeys(names, none), u=none, w=(0.002, 0.002), v_share=none, monochromator=none, background=none,
        march_r=(1, 1), ka2_share=0, air_share=0, hump_share=0, fluorescence_share=0, impurity_share=0, spikes=0,
        gaps=0, cut_share=0, counts=(10_000, 10_000),
    )  # fmt: skip
    drawn = draw(np.random.default_rng(0), ranges)
    plain = measure(cubic(), Parameters(), AXIS, WAVELENGTH)
    noisy = measure(cubic(), drawn, AXIS, WAVELENGTH)
    assert np.abs(noisy - plain).max() < 6 * 100
    assert not noisy[plain == 0].any()
    with pytest.raises(ValueError, match="counts"):
        Ranges(counts=(10, 1))
