"""The profile of ideal patterns, painted in plain NumPy; the simulate stage does the same in numba for many."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from imitation_refinement.grid import Grid, convert_two_theta

REACH = 20  # profiles are cut this many widths from their centre


class Profile(BaseModel):
    """A pseudo-Voigt of constant width: what a line of an ideal or theoretical pattern looks like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fwhm: float = Field(0.15, gt=0, le=5, description="full width at half maximum of an ideal line [°]")
    mixing: float = Field(0.5, ge=0, le=1, description="Lorentzian share of an ideal line; 0 is a Gaussian")


def pseudo_voigt(x: ArrayLike, fwhm: float, mixing: float) -> NDArray[np.float64]:
    """η L(x) + (1 − η) G(x), both of area 1 and width ``fwhm``; ``x`` is the distance from the centre, any shape.

    Wertheim et al., Rev. Sci. Instrum. 45, 1369 (1974).
    """
    u = 2 * np.asarray(x, float) / fwhm
    lorentzian = 2 / (np.pi * fwhm) / (1 + u**2)
    gaussian = 2 * np.sqrt(np.log(2) / np.pi) / fwhm * np.exp(-np.log(2) * u**2)
    return mixing * lorentzian + (1 - mixing) * gaussian


def paint(
    grid: Grid, two_theta: ArrayLike, intensity: ArrayLike, wavelength: float, profile: Profile | None = None
) -> NDArray[np.float32]:
    """A peak list as an ideal pattern on a grid, its maximum 1, shape (points,); all 0 where no peak comes near.

    Args:
        grid: the grid; peaks go through d to its wavelength.
        two_theta: peak positions [°], shape (n,).
        intensity: integrated intensities, any scale, shape (n,).
        wavelength: the peaks' own wavelength [Å].
        profile: the lines' shape; its defaults where left out.
    """
    profile = profile or Profile()
    centres = convert_two_theta(two_theta, wavelength, grid.wavelength)
    axis, out, reach = grid.two_theta, np.zeros(grid.points), REACH * profile.fwhm
    for centre, height in zip(centres, np.asarray(intensity, float), strict=True):
        if not np.isfinite(centre):
            continue  # the grid's wavelength can't reach this d
        part = slice(*np.searchsorted(axis, (centre - reach, centre + reach)))
        out[part] += height * pseudo_voigt(axis[part] - centre, profile.fwhm, profile.mixing)
    return (out / out.max() if out.any() else out).astype(np.float32)
