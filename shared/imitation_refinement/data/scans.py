"""A scan as its file has it, and the axes that scans are measured along, with their way to 2θ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CrystalSystem


class AxisKind(StrEnum):
    """What a scan's axis is; the value is how it is written in messages."""

    TWO_THETA = "2θ"
    THETA = "θ"
    Q = "q"  # 4π sin θ / λ
    INVERSE_D = "1/d"  # 2 sin θ / λ
    SINE = "sin θ / λ"
    D = "d"
    OTHER = "another axis"  # energy, time of flight, radius, ω, …: no way to 2θ from the file alone


@dataclass(frozen=True)
class Axis:
    """A scan's axis.

    Attributes:
        kind: what it is.
        scale: what one unit of the file is in °, Å⁻¹ or Å, by the kind.
        name: as the file names it; empty where it names none, and 2θ in degrees is all that is left to believe.
    """

    kind: AxisKind = AxisKind.TWO_THETA
    scale: float = 1.0
    name: str = ""

    def two_theta(self, values: NDArray[np.float64], wavelength: float | None, where: object) -> NDArray[np.float64]:
        """Values on this axis as 2θ [°], by λ = 2 d sin θ.

        Args:
            values: as the file has them, shape (n,).
            wavelength: [Å]; not needed for angles.
            where: the scan, for messages.

        Raises:
            InputError: if the wavelength is needed and missing, or if it can't reach some of the values.
        """
        if self.kind is AxisKind.TWO_THETA:
            return values * self.scale
        if self.kind is AxisKind.THETA:
            return values * (2 * self.scale)
        if self.kind is AxisKind.OTHER:
            raise InputError(
                where,
                f"its axis is {self.name!r}, not 2θ.",
                "Give the pattern over 2θ, or name the axis and its unit, above its column or with --axis, as "
                "'q (1/nm)', 'd (Å)' or 'theta (deg)'.",
            )
        if wavelength is None:
            raise InputError(
                where, f"its axis is {self.name!r}, and the wavelength for 2θ is not said.", "Give it, with its unit."
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse_d = _INVERSE_D[self.kind](values * self.scale)  # [Å⁻¹]
            sine = inverse_d * (wavelength / 2)
        if len(bad := np.flatnonzero(~(np.abs(sine) <= 1) & np.isfinite(values))):
            raise InputError(
                where,
                f"{len(bad)} values of its axis {self.name!r}, the first {values[bad[0]]:g}, can't be reached at "
                f"{wavelength:g} Å.",
                "Check the axis, its unit and the wavelength.",
            )
        return np.degrees(2 * np.arcsin(sine))


_INVERSE_D: dict[AxisKind, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    AxisKind.Q: lambda q: q / (2 * math.pi),
    AxisKind.INVERSE_D: lambda s: s,
    AxisKind.SINE: lambda s: 2 * s,
    AxisKind.D: lambda d: 1 / d,
}


@dataclass(frozen=True)
class Scan:
    """One scan as it stands in its file, unchecked.

    Attributes:
        name: of the pattern.
        values: along ``axis``, in the file's unit and order, shape (n,).
        intensity: shape (n,).
        axis: what ``values`` are.
        sigma: standard deviations of ``intensity``, shape (n,); None where the file does not say them.
        unit: of the intensity, as the file writes it; empty where it does not.
        wavelengths: [Å], the first the one that belongs to the angles, a doublet's second behind it; empty where the
            file does not say it.
        ratio: of the doublet's second line to its first; None where the file does not say it.
        anode: the element, as ``"Cu"``, where the file says it; it alone says no wavelength.
        crystal_system: None where it is unknown.
        formula: None where it is unknown.
        remarks: what a reader had to decide, for people.
        where: file and row, for messages.
        label: what the file calls the scan, to choose it by where there are several; may be empty.
    """

    name: str
    values: NDArray[np.float64]
    intensity: NDArray[np.float64]
    axis: Axis = Axis()
    sigma: NDArray[np.float64] | None = None
    unit: str = ""
    wavelengths: tuple[float, ...] = ()
    anode: str = ""
    crystal_system: CrystalSystem | None = None
    formula: str | None = None
    remarks: tuple[str, ...] = ()
    where: str = ""
    label: str = ""
    ratio: float | None = None


@dataclass(frozen=True)
class Format:
    """A form of files with patterns; each module of :mod:`imitation_refinement.data.formats` is one.

    Attributes:
        name: for people.
        extensions: in small letters, as ``(".xy",)``; files of a folder are known by them.
        matches: whether the first bytes of a file with such an extension are of this form.
        read: its scans, or the reason in the place of one that can't be read; raises InputError for the whole file.
        last: whether it is asked only where no other form matches.
        rows: whether its patterns are rows with names of their own, which are all meant, and not scans to choose from.
        found: whether a file with such an extension that stands in a folder is meant for a pattern; one that is named
            itself is.
    """

    name: str
    extensions: tuple[str, ...]
    matches: Callable[[bytes], bool]
    read: Callable[[Path], Iterator[Scan | InputError]]
    last: bool = False
    rows: bool = False
    found: Callable[[Path], bool] = lambda path: True
