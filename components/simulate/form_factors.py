"""Scattering of X-rays by atoms, as polynomials in s = sin θ / λ for the kernel."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.simulate.config import DISPERSION, Mode
from imitation_refinement.errors import InputError

PYMATGEN_TABLE = Path(__file__).with_name("pymatgen_scattering.json")
# Of gemmi 0.7.5's f′ the energies [eV] of poles that reach 0.01 electrons farther than NARROW, and the K edges from
# Z = 79, as its binding energies and the nodes of its sums put them.
POLES = Path(__file__).with_name("cromer_liberman_poles.json")
MAX_Z: dict[Mode, int] = {
    "physical": 92,
    "hydride": 92,
    "pymatgen": 98,
}  # to uranium dispersion, to californium its table
NARROW = 1e-4  # of the energy, a third of a Kα line's width
BESIDE = 1e-5  # relative distance from a pole at which its residue is measured
NODES, WEIGHTS = (x / 2 for x in (np.polynomial.legendre.leggauss(5)[0] + 1, np.polynomial.legendre.leggauss(5)[1]))
BOHR = 0.529177  # a₀ [Å]
STEP = 0.01  # of s [1/Å], for which one polynomial stands
TERMS = 6  # of a polynomial: good to 1e-9; a test holds it


class FormFactors(NamedTuple):
    """Form factors of all elements at one wavelength.

    Attributes:
        table: real part f0 + f′ [electrons] as polynomials, shape (1 + largest Z, n, TERMS): from s = i / inverse_step
            to the next, f = Σ c_j t^j with c = table[z, i] and t = s inverse_step − i − ½.
        imaginary: f″ [electrons], shape (1 + largest Z,); zero throughout in pymatgen mode.
        inverse_step: polynomials per unit of s [Å].
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
    """f0(s) = c + Σ a exp(−b s²) of the neutral atom, International Tables C (1992), table 6.1.1.4, from gemmi.

    Hydrogen is the bonded atom there, contracted as in H2 (Stewart, Davidson and Simpson, J. Chem. Phys. 42, 3175,
    1965), as most structures have it: 0.438 at s = 0.25 Å⁻¹, where :func:`free_hydrogen` is 0.350.
    """
    import gemmi

    coefficients = gemmi.Element(atomic_number).it92
    a, b = np.asarray(coefficients.a), np.asarray(coefficients.b)
    return coefficients.c + np.sum(a[:, None] * np.exp(-b[:, None] * s2), axis=0)


def free_hydrogen(s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """f0(s) = (1 + (2π a₀ s)²)⁻² of the free atom's 1s electron, exact; for hydrides. International Tables C, 6.1.1."""
    return (1 + (2 * np.pi * BOHR) ** 2 * s2) ** -2


def dispersion(atomic_number: int, wavelength: float) -> tuple[float, float]:
    """f′ and f″ [electrons] by Cromer and Liberman, with the corrections of Kissel and Pratt; 0 for H and He.

    Cromer and Liberman, Acta Cryst. A37, 267 (1981); Kissel and Pratt, Acta Cryst. A46, 170 (1990). From gemmi, its f′
    mended by :func:`_real`. To 1e-3 electrons they are then Cromer's own table, and of Chantler's, another theory,
    within 0.4, but at edges: there any atom's f′ and f″ are wrong by what its neighbours do.

    Raises:
        InputError: if there is none: beyond uranium, or at a wavelength that is not from 0.1 to 3 Å.
    """
    import gemmi

    if not 1 <= atomic_number <= MAX_Z["physical"] or not DISPERSION[0] <= wavelength <= DISPERSION[1]:
        raise InputError(
            "wavelength",
            f"there is no dispersion of element {atomic_number} at {wavelength} Å.",
            f"Give {DISPERSION[0]} to {DISPERSION[1]} Å and elements to uranium, or choose mode pymatgen, without any.",
        )
    if atomic_number < 3:
        return 0.0, 0.0
    energy = gemmi.hc / wavelength
    around = [_real(atomic_number, energy * (1 + x)) for x in (-NARROW, 0, NARROW)]
    real = float(np.median(around))  # a pole too narrow to be listed is seen by one of three at most
    return real, float(gemmi.cromer_liberman(z=atomic_number, energy=energy)[1])


def _real(atomic_number: int, energy: float) -> float:
    """gemmi's f′ [electrons] at an energy [eV], without its wide poles and with what it lacks above some K edges.

    The principal value of ∫ E′² σ(E′) / (E² − E′²) dE′ is a Gauss–Legendre sum of (E_k² σ_k − E² σ(E)) / (E² − E_k²)
    over five energies E_k of each shell.

    - Where the table's σ_k is not σ(E_k), since the shell's binding energy was revised, a pole is left, far from any
      edge: f′ of Bi is −1397 at 1.5213 Å. Its residue is measured on both its sides, and the pole taken off.
    - Above the K edges of Z ≥ 79 the sum is without its second term: f′ of Bi at 0.12 Å is 97 too large. The poles
      that this leaves measure σ_k, from which σ(E) is interpolated.
    """
    import gemmi

    poles, k_edge = _poles(atomic_number)
    real = gemmi.cromer_liberman(z=atomic_number, energy=energy)[0]
    with np.errstate(divide="ignore", invalid="ignore"):  # at a pole itself
        real -= (_residues(atomic_number, poles) / (energy**2 - poles**2)).sum()
        if energy > k_edge:
            nodes, share = k_edge / np.sqrt(NODES), WEIGHTS / NODES**1.5
            logarithms = np.log(_residues(atomic_number, nodes) / (share * nodes**2))
            sigma = np.exp(np.polyval(np.polyfit(np.log(nodes / k_edge), logarithms, 4), np.log(energy / k_edge)))
            real -= (share * energy**2 * sigma / (energy**2 - nodes**2)).sum()
    return float(real)


def _residues(atomic_number: int, poles: NDArray[np.float64]) -> NDArray[np.float64]:
    """R [electrons eV²] of the poles [eV] where gemmi's f′ goes as R / (E² − pole²), from just above and just below."""
    import gemmi

    above, below = (
        np.array([gemmi.cromer_liberman(z=atomic_number, energy=energy)[0] for energy in (poles * (1 + x)).tolist()])
        for x in (BESIDE, -BESIDE)
    )
    return poles**2 * BESIDE * (above - below)


@lru_cache(maxsize=16)
def form_factors(mode: Mode, wavelength: float) -> FormFactors:
    """The tables of all elements up to s = 1/λ, the most that the wavelength [Å] can reach.

    Raises:
        InputError: but in pymatgen mode, if there is no dispersion at the wavelength.
    """
    places = np.cos(np.pi * (np.arange(TERMS) + 0.5) / TERMS) / 2  # Chebyshev's, where errors are nearly the least
    n = int(1 / wavelength / STEP) + 2
    s2 = (STEP * (np.arange(n)[:, None] + 0.5 + places).ravel()) ** 2
    values, imaginary = np.zeros((MAX_Z[mode] + 1, len(s2))), np.zeros(MAX_Z[mode] + 1)
    for z in range(1, MAX_Z[mode] + 1):
        if mode == "pymatgen":
            values[z] = pymatgen_form_factor(z, s2)
        else:
            real, imaginary[z] = dispersion(z, wavelength)
            values[z] = (free_hydrogen(s2) if mode == "hydride" and z == 1 else it92_form_factor(z, s2)) + real
    return FormFactors(_interpolating(places, values.reshape(-1, n, TERMS)), imaginary, 1 / STEP)


def _interpolating(places: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients c_j of the polynomials Σ c_j t^j through values at ``places``, those of one last in both; Lagrange.

    Number by number, for the same bits on every CPU, which linear algebra does not give.
    """
    out = np.zeros_like(values)
    for i, place in enumerate(places):
        basis = [1.0]  # Π (t − other) / (place − other), which is 1 here and 0 at the others
        for other in np.delete(places, i):
            pairs = zip([0.0, *basis], [*basis, 0.0], strict=True)
            basis = [(low - other * high) / (place - other) for low, high in pairs]
        out += values[..., i, None] * np.array(basis)
    return out


@lru_cache(maxsize=128)
def _poles(atomic_number: int) -> tuple[NDArray[np.float64], float]:
    """Of gemmi's f′ the poles, and the K edge where it ends what is right without help (infinite below Z = 79) [eV]."""
    known, z = json.loads(POLES.read_text(encoding="utf-8")), str(atomic_number)
    return np.array(known["poles"].get(z, []), float), known["k_edges"].get(z, np.inf)


@lru_cache(maxsize=1)
def _pymatgen_parameters() -> dict[int, list[list[float]]]:
    return {int(z): rows for z, rows in json.loads(PYMATGEN_TABLE.read_text(encoding="utf-8")).items()}
