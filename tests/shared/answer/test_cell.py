"""Cells and intensities fitted to patterns whose flaws are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imitation_refinement.answer.cell import Evidence, fit
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.pattern import prepare
from tests.shared.answer.conftest import CRYSTALS, measured


def fitted(library: Library, name: str, wavelength: float = 1.5406, **flaws: object):
    """The evidence, strain tensor and zero error of the true crystal."""
    pattern = prepare(*measured(name, wavelength, **flaws), wavelength)
    row = list(CRYSTALS).index(name)
    evidence, strains, zeros = fit(
        library, np.array([row]), pattern, np.zeros(1), np.zeros(1), np.full(1, 0.7, np.float32)
    )
    return evidence[0], strains[0] @ library.strains[row], zeros[0]


@pytest.mark.parametrize(
    ("name", "strain"),
    [
        ("NaCl", (0.004, 0.004, 0.004, 0, 0, 0)),
        ("TiO2", (0.004, 0.004, -0.003, 0, 0, 0)),
        ("Al2O3", (-0.002, -0.002, 0.004, 0, 0, 0)),
        ("BaSO4", (0.003, -0.003, 0.001, 0, 0, 0)),
        ("CaSO4", (0.002, -0.002, 0.001, 0, 0.002, 0)),
    ],
)
@pytest.mark.parametrize("zero", [0.0, 0.06])
def test_the_cell_and_the_zero_error_are_found(
    library: Library, name: str, strain: tuple[float, ...], zero: float
) -> None:
    evidence, found, at = fitted(library, name, strain=strain, zero_shift=zero)
    root = np.sqrt(2)
    assert found == pytest.approx(np.array(strain) * [1, 1, 1, root, root, root], abs=7e-4)
    assert at == pytest.approx(zero, abs=0.03)
    assert evidence[Evidence.MISFIT] < 0.02
    assert evidence[Evidence.STRAIN] == pytest.approx(100 * np.linalg.norm(found))


def test_a_true_crystal_explains_its_pattern(library: Library) -> None:
    evidence, _, _ = fitted(library, "BaSO4", noise=False)
    assert evidence[Evidence.THEORY] > 0.8  # a pattern less its mean is not all lines: 1 is not reached
    assert evidence[Evidence.EXPLAINED] > 0.9
    assert evidence[Evidence.MISSING] == 0
    assert evidence[Evidence.SCATTER] < 0.3
    assert evidence[Evidence.FREE_CELL] == 3
    assert evidence[Evidence.SEARCH] == pytest.approx(0.7)


def test_free_intensities_mend_texture(library: Library) -> None:
    flat, _, _ = fitted(library, "Al2O3", noise=False)
    textured, _, _ = fitted(library, "Al2O3", noise=False, march_r=0.4, texture_plane=3)
    assert textured[Evidence.SCATTER] > 2 * flat[Evidence.SCATTER]
    assert textured[Evidence.THEORY] < flat[Evidence.THEORY] - 0.02
    assert textured[Evidence.FREE] == pytest.approx(flat[Evidence.FREE], abs=0.02)
    assert textured[Evidence.THEORY] < textured[Evidence.HALF] < textured[Evidence.FREE]


def test_a_wrong_crystal_lacks_lines(library: Library) -> None:
    pattern = prepare(*measured("NaCl"), 1.5406)
    rows = np.array([list(CRYSTALS).index(name) for name in ("NaCl", "SiO2")])
    evidence, _, _ = fit(library, rows, pattern, np.zeros(2), np.zeros(2), np.zeros(2, np.float32))
    assert evidence[1, Evidence.MISSING] > 0.3 > evidence[0, Evidence.MISSING]
    assert evidence[1, Evidence.THEORY] < evidence[0, Evidence.THEORY] - 0.3


def test_lines_in_gaps_are_not_missed(library: Library) -> None:
    x, y = measured("NaCl", noise=False)
    kept = (x < 31) | (x > 33)  # without 200, the strongest
    pattern = prepare(x[kept], y[kept], 1.5406)
    evidence, _, _ = fit(library, np.array([0]), pattern, np.zeros(1), np.zeros(1), np.zeros(1, np.float32))
    assert evidence[0, Evidence.MISSING] == 0
    assert evidence[0, Evidence.THEORY] > 0.7


@pytest.mark.parametrize("wavelength", [0.165, 0.7093, 2.29])
def test_any_wavelength_does(library: Library, wavelength: float) -> None:
    evidence, found, _ = fitted(library, "TiO2", wavelength, strain=(0.003, 0.003, -0.003, 0, 0, 0))
    assert found[:3] == pytest.approx([0.003, 0.003, -0.003], abs=1e-3)
    assert evidence[Evidence.THEORY] > 0.7


def test_a_crystal_all_of_whose_lines_are_absent_lacks_all(library: Library) -> None:
    """What is above the background is a few points, none of them where a line is expected."""
    pattern = prepare(*measured("NaCl"), 1.5406)
    net = np.zeros_like(pattern.net)
    net[10] = 1
    row = np.array([list(CRYSTALS).index("NaCl")])
    found = fit(library, row, replace(pattern, net=net), np.zeros(1), np.zeros(1), np.zeros(1, np.float32))
    assert found[0][0, Evidence.MISSING] == 1 and found[0][0, Evidence.EXPLAINED] == 0
