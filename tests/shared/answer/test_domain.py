"""What speaks against an answer."""

from __future__ import annotations

import numpy as np
import pytest

from imitation_refinement.answer import domain
from imitation_refinement.answer.domain import FEWEST_LINES, Kind
from imitation_refinement.answer.explain import lines_of, peaks_of
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.pattern import prepare
from imitation_refinement.answer.search import Search
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.peaks import Peaks
from tests.shared.answer.conftest import measured


def peaks(pattern: Pattern) -> Peaks:
    assert pattern.wavelength
    return peaks_of(pattern.two_theta, pattern.intensity, pattern.wavelength)


def virtual(name: str, wavelength: float = 1.5406, **flaws: object) -> Pattern:
    return Pattern(name, *measured(name, wavelength, **flaws), wavelength)  # type: ignore[arg-type]


def counted(expected: np.ndarray, seed: int = 0) -> Pattern:
    axis = np.arange(5, 90, 0.02)
    return Pattern("a", axis, np.random.default_rng(seed).poisson(expected(axis)).astype(float), 1.5406)


@pytest.mark.parametrize("name", ["NaCl", "TiO2", "BaSO4"])
@pytest.mark.parametrize("wavelength", [1.5406, 0.7093])
def test_crystals_have_nothing_against_them(name: str, wavelength: float) -> None:
    pattern = virtual(name, wavelength)
    found = peaks(pattern)
    assert len(found.position) >= FEWEST_LINES
    assert domain.without_lines(pattern, found) is None
    assert domain.broad_or_coarse(pattern, found) is None
    assert domain.searchable(pattern) is None and domain.calculated(pattern) is None


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_empty(seed: int) -> None:
    pattern = counted(lambda x: 300 + 200 * np.exp(-(x - 5) / 10), seed)  # air scatter, and nothing
    check = domain.without_lines(pattern, peaks(pattern))
    assert check is not None and check.kind is Kind.EMPTY and check.outside


@pytest.mark.parametrize("step", [0.01, 0.02, 0.03, 0.04, 0.047, 0.05, 0.055, 0.07, 0.1])
def test_noise_shows_no_lines_at_any_step(step: float) -> None:
    axis = np.arange(5, 90, step)
    for seed in range(5):
        counts = np.random.default_rng(seed).poisson(300, len(axis)).astype(float)
        assert len(peaks(Pattern("a", axis, counts, 1.5406)).position) < FEWEST_LINES


@pytest.mark.parametrize("seed", range(5))
def test_glass_is_amorphous(seed: int) -> None:
    pattern = counted(lambda x: 300 + 800 * np.exp(-(((x - 24) / 7) ** 2)), seed)
    check = domain.without_lines(pattern, peaks(pattern))
    assert check is not None and check.kind is Kind.AMORPHOUS


def test_lines_that_drown_in_noise() -> None:
    pattern = virtual("BaSO4", counts=60.0, polynomial=(6.0,), seed=3)
    check = domain.without_lines(pattern, peaks(pattern))
    assert check is not None and check.kind is Kind.NOISE and "measure it longer" in check.text


@pytest.mark.parametrize("wavelength", [1.5406, 0.7093])
def test_broad_lines_and_wide_steps(wavelength: float) -> None:
    scale = wavelength / 1.5406
    broad = virtual("NaCl", wavelength, w=(1.8 * scale) ** 2, counts=20000.0)
    check = domain.broad_or_coarse(broad, peaks(broad))
    assert check is not None and check.kind is Kind.WIDTH and "wide in 2θ" in check.text
    fine = virtual("NaCl", wavelength, w=(0.4 * scale) ** 2, counts=20000.0)
    every = slice(None, None, 20)  # 0.4° with copper
    coarse = Pattern("a", fine.two_theta[every], fine.intensity[every], wavelength)
    check = domain.broad_or_coarse(coarse, peaks(coarse))
    assert check is not None and "apart" in check.text
    assert domain.broad_or_coarse(fine, peaks(fine)) is None


def test_ranges_and_wavelengths() -> None:
    grid = Grid(axis="log_q", start=5, stop=90, points=256)
    whole = virtual("NaCl")
    part = (whole.two_theta > 30) & (whole.two_theta < 40)
    short = Pattern("a", whole.two_theta[part], whole.intensity[part], 1.5406)
    assert domain.measured_enough(whole, grid) is None
    check = domain.measured_enough(short, grid)
    share = np.log(np.sin(np.radians(20)) / np.sin(np.radians(15))) / np.log(
        np.sin(np.radians(45)) / np.sin(np.radians(2.5))
    )
    assert check is not None and check.kind is Kind.RANGE and f"covers {share:.0%} of" in check.text
    check = domain.searchable(Pattern("a", whole.two_theta, whole.intensity, 4.0))
    assert check is not None and check.kind is Kind.WAVELENGTH


@pytest.mark.parametrize(("name", "second"), [("NaCl", ""), ("TiO2", ""), ("NaCl", "TiO2"), ("ZnO", "KCl")])
def test_mixtures(library: Library, name: str, second: str) -> None:
    """In a small library all that is convincing is right."""
    pattern = virtual(name, second=second, impurity_ratio=0.6 if second else 0.0, counts=8000.0)
    search = Search(library)
    prepared = prepare(pattern.two_theta, pattern.intensity, 1.5406)
    first = search.answer(search.fitted(prepared)).candidates[0]
    low, high = pattern.two_theta[0], pattern.two_theta[-1]
    lines = lines_of(library, first, 1.5406, low, high)
    found = domain.second_phase(search, prepared, pattern, peaks(pattern), first, lines)
    if not second:
        assert first.formula == name and found is None
        return
    assert found is not None and {first.formula, found.formula} == {name, second}
    text = domain.mixture(first, found).text
    assert f"what {first.formula} ({first.space_group}) leaves unexplained is explained by {found.formula}" in text
