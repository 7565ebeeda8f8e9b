"""The profile of lines in ideal and theoretical patterns, and the constant of their width by size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from imitation_refinement.options import StageConfig

REACH = 20  # profiles are cut this many widths from their centre
SCHERRER_K = 0.9  # for FWHM and roughly spherical crystallites; Langford and Wilson, J. Appl. Cryst. 11, 102 (1978)


class Profile(StageConfig):
    """A pseudo-Voigt of constant width: what a line of an ideal or theoretical pattern looks like."""

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
