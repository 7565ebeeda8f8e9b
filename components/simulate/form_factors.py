"""Scattering of X-rays by atoms, tabulated over s = sin θ / λ for the kernel's cubic interpolation."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.simulate.config import Mode

PYMATGEN_TABLE = Path(__file__).with_name("pymatgen_scattering.json")
MAX_Z = 98  # neither table goes beyond californium
POINTS = 1024  # cubics are then good to 1e-7 for Ag, 1e-9 for Cu radiation; a test holds it


class FormFactors(NamedTuple):
    """Form factors of all elements at one wavelength.

    Attributes:
        table: real part f0 + f′ [electrons] as cubics, shape (MAX_Z + 1, POINTS, 4): between s = i / inverse_step and
            the next, f = c0 + c1 t + c2 t² + c3 t³ with c = table[z, i] and t = s inverse_step − i.
        imaginary: f″ [electrons], shape (MAX_Z + 1,); zero throughout in pymatgen mode.
        inverse_step: cubics per unit of s [Å].
    """

    table: NDArray[np.float64]
    imaginary: NDArray[np.float64]
    inverse_step: float


def pymatgen_form_factor(atomic_number: int, s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """f(s) = Z − 41.78214 s² Σ a exp(−b s²) [electrons], of pymatgen's own table.

    De Graef and McHenry, Structure of Materials, 2nd ed. (2012), section 12.1.
    """
    a, b = np.asarray(_pymatgen_parameters()[atomic_number]).T
    return atomic_number - 41.78214 * s2 * np.sum(a[:, None] * np.exp(-b[:, None] * s2), axis=0)


def it92_form_factor(atomic_number: int, s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """f0(s) = c + Σ a exp(−b s²) of the neutral atom, International Tables C (1992), table 6.1.1.4, from gemmi."""
    import gemmi

    coefficients = gemmi.Element(atomic_number).it92
    a, b = np.asarray(coefficients.a), np.asarray(coefficients.b)
    return coefficients.c + np.sum(a[:, None] * np.exp(-b[:, None] * s2), axis=0)


def dispersion(atomic_number: int, wavelength: float) -> tuple[float, float]:
    """f′ and f″ [electrons] by Cromer and Liberman (J. Chem. Phys. 53, 1891, 1970), from gemmi; 0 beyond uranium."""
    import gemmi

    real, imaginary = gemmi.cromer_liberman(z=atomic_number, energy=gemmi.hc / wavelength)
    return float(real), float(imaginary)


@lru_cache(maxsize=16)
def form_factors(mode: Mode, wavelength: float) -> FormFactors:
    """The tables of all elements up to s = 1/λ, the most that the wavelength [Å] can reach."""
    step = 1 / wavelength / (POINTS - 1)
    s2 = (step * np.arange(-1.0, POINTS + 2)) ** 2
    values, imaginary = np.zeros((MAX_Z + 1, len(s2))), np.zeros(MAX_Z + 1)
    for z in range(1, MAX_Z + 1):
        if mode == "pymatgen":
            values[z] = pymatgen_form_factor(z, s2)
        else:
            real, imaginary[z] = dispersion(z, wavelength)
            values[z] = it92_form_factor(z, s2) + real
    return FormFactors(_cubics(values), imaginary, 1 / step)


def _cubics(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of Lagrange's cubic through each four neighbours, shape (n, points, 4) from (n, points + 3)."""
    before, here, after, behind = (values[:, i : values.shape[1] - 3 + i] for i in range(4))
    linear = after - before / 3 - here / 2 - behind / 6
    square = (before + after) / 2 - here
    return np.stack([here, linear, square, (behind - before) / 6 + (here - after) / 2], axis=-1)


@lru_cache(maxsize=1)
def _pymatgen_parameters() -> dict[int, list[list[float]]]:
    return {int(z): rows for z, rows in json.loads(PYMATGEN_TABLE.read_text(encoding="utf-8")).items()}
