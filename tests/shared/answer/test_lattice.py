from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from imitation_refinement.answer.lattice import (
    DOUBLET,
    KINDS,
    LatticeVote,
    Lines,
    features,
    lattices_of,
)
from imitation_refinement.xrd.lattices import Family, Lattice


def painted(places: list[float], heights: list[float], scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian lines, 0.1° wide, of up to 10,000 counts on 50, counted."""
    x = np.arange(5 * scale, 70 * scale, 0.02 * scale)
    y = np.full(len(x), 50.0)
    for at, height in zip(places, heights, strict=True):
        y += 10_000 * height * np.exp(-4 * np.log(2) * ((x - at) / (0.1 * scale)) ** 2)
    return x, np.random.default_rng(0).poisson(y).astype(float)


def test_lines_are_where_they_were_painted() -> None:
    places, heights = [12.34, 20.005, 20.41, 33.337, 47.5], [0.3, 1.0, 0.05, 0.02, 0.6]
    found = Lines.of(*painted(places, heights), 1.5406)
    assert found.two_theta == pytest.approx(places, abs=0.006)
    assert found.chance[1] == found.chance.min() and found.chance[3] == found.chance.max() < 0.5
    assert found.strong.all(), "there are too few strong ones to leave any out"


def test_a_saturated_line_is_where_its_middle_is() -> None:
    x, y = painted([15.0, 22.0, 31.0, 44.0], [1.0, 1.0, 1.0, 1.0])
    y[np.abs(x - 22.0) < 0.31] = 60_000.0
    assert Lines.of(x, y, 1.5406).two_theta[1] == pytest.approx(22.0, abs=0.02)


def test_the_second_line_of_a_doublet_is_none() -> None:
    at = 55.0
    second = at + np.degrees(2 * DOUBLET * np.tan(np.radians(at / 2)))
    places = [20.0, 30.0, 40.0, at, second]
    assert Lines.of(*painted(places, [0.5, 0.5, 0.5, 1.0, 0.5]), 1.5406).two_theta == pytest.approx(
        places[:4], abs=0.01
    )
    assert len(Lines.of(*painted(places, [0.5, 0.5, 0.5, 1.0, 0.9]), 1.5406).two_theta) == 5, "too strong for one"


def test_a_pattern_at_another_wavelength_has_the_same_lines() -> None:
    places = [15.0, 25.0, 35.0, 48.0]
    wavelength = 0.7709  # half of copper's
    sines = np.sin(np.radians(np.array(places) / 2)) * wavelength / 1.5406
    here = (2 * np.degrees(np.arcsin(sines))).tolist()
    found = Lines.of(*painted(here, [1.0, 0.5, 0.5, 0.7], 0.5), wavelength)
    assert found.two_theta == pytest.approx(places, abs=0.03)  # Kα1's own wavelength is 1.54056


def test_lines_of_noise_and_of_next_to_nothing() -> None:
    x, y = painted([], [])
    assert len(Lines.of(x, y, 1.5406).two_theta) <= 2
    assert lattices_of(x, y, 1.5406) == []
    assert lattices_of(x[:20], y[:20], 1.5406) == []


def test_rock_salt_is_cubic() -> None:
    a, wavelength = 5.64, 1.5406
    sums = np.array([3, 4, 8, 11, 12, 16, 19, 20])
    places = 2 * np.degrees(np.arcsin(wavelength * np.sqrt(sums) / (2 * a)))
    first = lattices_of(
        *painted([p for p in places if p < 69], [0.3, 1, 0.7, 0.1, 0.3, 0.2, 0.1][: sum(places < 69)]), 1.5406
    )
    cubic = next(one for one in first if one.family is Family.CUBIC)
    assert cubic.cell[0] == pytest.approx(a, rel=2e-3) and cubic.centring == "F"


def lattice(family: Family, score: float, centring: str = "P") -> Lattice:
    return Lattice(family, centring, np.ones(6), 0.0, score, 10)


def test_features_by_hand() -> None:
    found = features(
        [lattice(Family.MONOCLINIC, 42.0), lattice(Family.ORTHORHOMBIC, 40.0), lattice(Family.HEXAGONAL, 30.0, "R")]
    )
    short = {Family.MONOCLINIC: 0.0, Family.ORTHORHOMBIC: 0.4, KINDS - 1: 2.4}
    assert found == pytest.approx([*(short.get(kind, 3.0) for kind in range(KINDS)), 4.2, 1.0])
    assert features([]) == pytest.approx([0.0] * (KINDS + 1) + [1.0])


def test_weights_that_made_the_systems_are_found_again() -> None:
    rng = np.random.default_rng(0)
    true = rng.standard_normal((7, KINDS + 2))
    given = [np.array([*rng.uniform(0, 3, KINDS), rng.uniform(0, 6), 1.0]) for _ in range(3000)]
    systems = np.array([rng.choice(7, p=np.exp(log_softmax(true @ one))) for one in given])
    vote = LatticeVote.fit(given, systems)
    p = np.exp([vote.of(one) for one in given])
    expected = np.exp([log_softmax(true @ one) for one in given])
    assert np.abs(p - expected).mean() < 0.03
    apart = np.exp(LatticeVote.apart(given, systems))
    assert np.abs(apart - expected).mean() < 0.04
    own, other = (np.log(each[np.arange(3000), systems]).mean() for each in (p, apart))
    assert own > other, "a fit is surer of what it was fitted on"


def test_a_pattern_that_counts_three_times_is_as_three() -> None:
    rng = np.random.default_rng(0)
    given, systems = [rng.uniform(0, 3, KINDS + 2) for _ in range(70)], np.arange(70) % 7
    counting = np.where(np.arange(70) < 7, 3.0, 1.0)
    thrice = LatticeVote.fit(given + 2 * given[:7], np.concatenate([systems, systems[:7], systems[:7]]))
    vote = LatticeVote.fit(given, systems, counting)
    assert vote.weights == pytest.approx(thrice.weights, abs=1e-3)
    assert np.abs(vote.weights - LatticeVote.fit(given, systems).weights).max() > 0.01
    fitted_without = LatticeVote.apart(given, systems, np.where(np.arange(70) % 2, counting, 0.0))
    assert np.isfinite(fitted_without).all()


def test_a_record_is_read_as_it_was_written() -> None:
    made = LatticeVote(np.arange(7.0 * (KINDS + 2)).reshape(7, -1) / 10, "nothing")
    again = LatticeVote.read(made.record())
    assert (again.weights == made.weights).all() and again.fitted_on == "nothing"
    broken: list[dict[str, Any]] = [{"weights": [[1.0]]}, {"weights": (made.weights * np.nan).tolist()}]
    for change in broken:
        with pytest.raises(ValueError, match="weights"):
            LatticeVote.read({**made.record(), **change})
