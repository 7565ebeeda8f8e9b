"""Patterns as they are searched."""

from __future__ import annotations

import numpy as np
import pytest

from imitation_refinement.answer.pattern import LOG_STEP, POINTS, is_calculated, log_q, prepare
from imitation_refinement.errors import InputError
from tests.shared.answer.conftest import measured


def test_a_larger_lattice_is_the_same_pattern_shifted() -> None:
    x = np.arange(5, 90, 0.01)
    steps, d = 6, np.array([4.1, 3.3, 2.6, 2.05, 1.7])

    def lines(spacings: np.ndarray) -> np.ndarray:
        places = np.degrees(2 * np.arcsin(1.5406 / (2 * spacings)))
        return np.exp(-(((x[:, None] - places) / 0.08) ** 2)).sum(axis=1)

    (one,), seen = prepare(x, lines(d), 1.5406).on_log_q(0.0)
    (larger,), _ = prepare(x, lines(d * np.exp(steps * LOG_STEP)), 1.5406).on_log_q(0.0)
    inside = slice(400, 2600)
    assert seen[inside].all()
    assert np.corrcoef(one[inside], np.roll(larger, steps)[inside])[0, 1] > 0.98
    assert np.corrcoef(one[inside], larger[inside])[0, 1] < 0.7


def test_a_zero_error_is_taken_off() -> None:
    x, y = measured("TiO2", noise=False)
    (found,), _ = prepare(x + 0.1, y, 1.5406).on_log_q(0.1)
    (true,), _ = prepare(x, y, 1.5406).on_log_q(0.0)
    assert np.abs(found - true).max() < 0.02 * true.max()


def test_lines_stand_at_their_q_at_any_wavelength() -> None:
    axis = log_q()
    assert len(axis) == POINTS
    for wavelength in (0.165, 0.7093, 1.5406, 2.29):
        prepared = prepare(*measured("NaCl", wavelength), wavelength)
        (found,), _ = prepared.on_log_q(0.0)
        strongest = axis[np.argmax(found * (axis > 2) * (axis < 2.5))]
        assert strongest == pytest.approx(2 * np.pi * 2 / 5.64, rel=2e-3)  # 200


def test_gaps_and_ends_are_not_covered() -> None:
    x, y = measured("NaCl")
    kept = (x < 40) | (x > 50)
    prepared = prepare(x[kept], y[kept], 1.5406)
    angles = prepared.start + prepared.step * np.arange(len(prepared.net))
    assert not prepared.seen[(angles > 40.1) & (angles < 49.9)].any()
    assert prepared.seen[(angles < 39.9) | (angles > 50.1)].all()
    (found,), seen = prepared.on_log_q(0.0)
    at = 2 * np.degrees(np.arcsin(np.minimum(log_q() * 1.5406 / (4 * np.pi), 1)))
    assert not seen[(at > 40.1) & (at < 49.9)].any() and not seen[at > 90].any()
    assert (found[~seen] == 0).all()


def test_neither_unit_nor_background_matters() -> None:
    x, y = measured("TiO2", noise=False)
    one = prepare(x, y, 1.5406).net
    other = prepare(x, 0.01 * (y + 500 + 3 * x), 1.5406).net
    assert other == pytest.approx(one, abs=0.01)


def test_calculated_patterns_are_told_from_measured_ones() -> None:
    for name in ("NaCl", "CaSO4"):
        for counts in (50.0, 3e3, 1e6):
            for background in (0.0, 0.002, 0.05):
                if background:
                    assert not is_calculated(measured(name, counts=counts, polynomial=(background,))[1])
                calculated = measured(name, noise=False, counts=counts, polynomial=(background,))[1]
                assert is_calculated(calculated)
                assert is_calculated(np.round(100 * calculated / calculated.max(), 2))
    assert not is_calculated(np.zeros(500))


@pytest.mark.parametrize(
    ("x", "y", "wavelength", "problem"),
    [
        (np.arange(5, 90, 0.1), np.ones(850), 5.0, "wavelength 5 Å"),
        (np.arange(5, 90, 0.1), np.full(850, np.nan), 1.5, "no numbers"),
        (np.arange(90, 5, -0.1), np.ones(850), 1.5, "don't rise"),
        (np.arange(5, 6, 0.1), np.ones(10), 1.5, "has 10 points"),
        (np.arange(5, 90, 0.1), np.ones(850), 1.5, "no line above"),
        (np.arange(30, 90, 0.1), np.ones(600), 0.2, "has 0 points"),
    ],
)
def test_what_cannot_be_searched_is_refused(x: np.ndarray, y: np.ndarray, wavelength: float, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        prepare(x, y[: len(x)], wavelength, "a.xy")
