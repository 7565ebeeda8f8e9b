"""What a diffractometer and a sample do to a powder pattern, one small function an effect.

Those of lines and background are scalar numba functions, called from the loops in ``diffractometer.py``. Those of lines
take sin θ and cos θ of a line's Bragg angle, which cost less than the angle; other angles are in radians and lengths in
Å unless a name says otherwise. What happens in the detector is done to whole patterns.
Zero shift, fluorescence and count scale are constants and have no function. The ranges that parameters are drawn from,
and their sources, stand beside the parameters in ``flaws.Ranges`` and in docs/simulator.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.xrd.jit import njit
from imitation_refinement.xrd.line import SCHERRER_K


@njit(nogil=True, error_model="numpy")
def lorentz_polarisation(sine: float, cosine: float, monochromator: float) -> float:
    """(1 + A cos² 2θ) / ((1 + A) sin² θ cos θ), A = cos² of the monochromator's 2θ [rad]; 0 is none.

    Azároff, Acta Cryst. 8, 701 (1955); without a monochromator International Tables C, section 6.2.
    """
    double, a = 1 - 2 * sine * sine, math.cos(monochromator) ** 2
    return (1 + a * double * double) / ((1 + a) * sine * sine * cosine)


@njit(nogil=True, error_model="numpy")
def debye_waller(d: float, b_iso: float) -> float:
    """exp(−2 B sin² θ / λ²) for intensities, B = 8π²⟨u²⟩ [Å²]; sin θ / λ = 1 / 2d. International Tables C, 6.1.1."""
    return math.exp(-b_iso / (2 * d * d))


@njit(nogil=True, error_model="numpy")
def march_dollase(cosine: float, r: float) -> float:
    """(r² cos² α + sin² α / r)^(−3/2), α the angle to the preferred direction; its mean over the sphere is 1.

    Dollase, J. Appl. Cryst. 19, 267 (1986), eq. 7. r < 1: plates, r > 1: needles, 1: none.
    """
    x = r * r * cosine * cosine + (1 - cosine * cosine) / r
    return 1 / (x * math.sqrt(x))


@njit(nogil=True, error_model="numpy")
def displacement_shift(cosine: float, displacement: float, radius: float) -> float:
    """−2 s cos θ / R [rad]: sample surface s [mm] below the goniometer's axis, radius R [mm].

    A surface that is too low is seen at smaller angles, one that is too high (s < 0) at larger ones.

    Klug and Alexander, X-ray Diffraction Procedures, 2nd ed. (1974), section 5-2.3.
    """
    return -2 * displacement * cosine / radius


@njit(nogil=True, error_model="numpy")
def transparency_shift(sine: float, cosine: float, depth: float, radius: float) -> float:
    """−sin 2θ / (2 μ R) [rad] with the absorption length 1/μ = ``depth`` [mm]. Klug and Alexander (1974), 5-2.3."""
    return -sine * cosine * depth / radius


@njit(nogil=True, error_model="numpy")
def caglioti_fwhm(sine: float, cosine: float, u: float, v: float, w: float) -> float:
    """√(U tan² θ + V tan θ + W), the Gaussian FWHM of the instrument in degrees, U, V, W in degrees².

    Caglioti, Paoletti and Ricci, Nucl. Instrum. 3, 223 (1958).
    """
    t = sine / cosine
    return math.sqrt(max(u * t * t + v * t + w, 1e-8))


@njit(nogil=True, error_model="numpy")
def size_fwhm(cosine: float, size: float, wavelength: float) -> float:
    """K λ / (D cos θ), the Lorentzian FWHM in degrees of crystallites of ``size`` D [nm]; infinite D is no effect.

    Scherrer (1918); K as in Langford and Wilson (1978).
    """
    return math.degrees(SCHERRER_K * wavelength / (10 * size * cosine))


@njit(nogil=True, error_model="numpy")
def microstrain_fwhm(sine: float, cosine: float, strain: float) -> float:
    """4 ε tan θ, the Lorentzian FWHM in degrees. Stokes and Wilson, Proc. Phys. Soc. 56, 174 (1944)."""
    return math.degrees(4 * strain * sine / cosine)


@njit(nogil=True, error_model="numpy")
def thompson_cox_hastings(gaussian: float, lorentzian: float) -> tuple[float, float]:
    """FWHM and Lorentzian share η of the pseudo-Voigt that stands for a Voigt of these two FWHM.

    Thompson, Cox and Hastings, J. Appl. Cryst. 20, 79 (1987), eqs. 4 and 5.
    """
    g, x = gaussian, lorentzian
    power = g**5 + 2.69269 * g**4 * x + 2.42843 * g**3 * x**2 + 4.47163 * g**2 * x**3 + 0.07842 * g * x**4 + x**5
    fwhm = power**0.2
    q = x / fwhm
    return fwhm, 1.36603 * q - 0.47719 * q**2 + 0.11116 * q**3


@njit(nogil=True)
def axial_two_theta(sine: float, axial: float, u: float) -> float:
    """Where a ray that leaves the equatorial plane by the share ``u`` (0 to 1) of the largest angle is seen [rad].

    cos 2φ = cos 2θ √(1 + h²/L²), h = 2 H u, for sample and slit of equal half height H, ``axial`` = H/L. u has the
    weight 2 (1 − u). Finger, Cox and Jephcoat, J. Appl. Cryst. 27, 892 (1994), eqs. 1 to 6, with h as the variable:
    their singularity at 2φ = 2θ drops out.
    """
    cosine = (1 - 2 * sine * sine) * math.sqrt(1 + (2 * axial * u) ** 2)
    return math.acos(min(1.0, max(-1.0, cosine)))


@njit(nogil=True)
def strain_of(direction: NDArray, tensor: NDArray) -> float:
    """Δd/d = n·ε·n, n a plane's unit normal, ε as (11, 22, 33, 23, 13, 12); Nye, Physical Properties of Crystals."""
    x, y, z = direction[0], direction[1], direction[2]
    return (
        tensor[0] * x * x
        + tensor[1] * y * y
        + tensor[2] * z * z
        + 2 * (tensor[3] * y * z + tensor[4] * x * z + tensor[5] * x * y)
    )


@njit(nogil=True)
def chebyshev(x: float, coefficients: NDArray) -> float:
    """Σ c_j T_j(x) for x in [−1, 1] by Clenshaw's recurrence: the usual background of Rietveld programs (GSAS)."""
    after, after_that = 0.0, 0.0
    for j in range(len(coefficients) - 1, 0, -1):
        after, after_that = coefficients[j] + 2 * x * after - after_that, after
    return coefficients[0] + x * after - after_that


@njit(nogil=True, error_model="numpy")
def air_scatter(two_theta_deg: float, power: float) -> float:
    """(5° / 2θ)^n: 1 at 5°. n = 1 is the "one on X" background that TOPAS has for air scatter at low angles."""
    return (5.0 / two_theta_deg) ** power


@njit(nogil=True, error_model="numpy")
def amorphous_hump(two_theta_deg: float, centre: float, fwhm: float) -> float:
    """A broad Gaussian of height 1: the first halo of a glass or of the holder; all in degrees."""
    u = 2 * (two_theta_deg - centre) / fwhm
    return math.exp(-math.log(2) * u * u)


def add_spikes(intensity: NDArray, two_theta: NDArray, spikes: Iterable[tuple[float, float]]) -> None:
    """Adds each spike (angle [°], height) to the point nearest to it: a cosmic ray or a discharge in the detector.

    Args:
        intensity: shape (n,), changed in place.
        two_theta: evenly spaced angles [°], shape (n,).
        spikes: outside the axis they go to its end.
    """
    step = (two_theta[-1] - two_theta[0]) / (len(two_theta) - 1)
    for angle, height in spikes:
        intensity[min(max(round((angle - two_theta[0]) / step), 0), len(two_theta) - 1)] += height


def blank_gaps(counts: NDArray, two_theta: NDArray, gaps: Iterable[tuple[float, float]]) -> None:
    """No counts from first to last angle [°] of each gap: a dead strip of the detector, or the shutter closed.

    Args:
        counts: shape (n,), changed in place.
        two_theta: rising angles [°], shape (n,).
        gaps: first angle included, last not.
    """
    for first, last in gaps:
        counts[slice(*np.searchsorted(two_theta, (first, last)))] = 0


def cut_range(counts: NDArray, seen: slice) -> None:
    """No counts outside of ``seen``, what was scanned of an axis; ``counts``, shape (n,), are changed in place."""
    counts[: seen.start] = counts[seen.stop :] = 0
