"""X-ray lines of the usual anodes by name, and Kα doublets."""

from __future__ import annotations

from imitation_refinement.errors import InputError

# Wavelengths [Å] of Bearden, Rev. Mod. Phys. 39, 78 (1967), silver's of Deslattes et al., Rev. Mod. Phys. 75, 35 (2003);
# "Ka" is the mean of the doublet, weighted 2:1. The same as in pymatgen's XRDCalculator but for CoKb1, 1.63079 there.
WAVELENGTHS: dict[str, float] = {
    "CuKa": 1.54184,
    "CuKa1": 1.54056,
    "CuKa2": 1.54439,
    "CuKb1": 1.39222,
    "MoKa": 0.71073,
    "MoKa1": 0.70930,
    "MoKa2": 0.71359,
    "MoKb1": 0.63229,
    "CrKa": 2.29100,
    "CrKa1": 2.28970,
    "CrKa2": 2.29361,
    "CrKb1": 2.08487,
    "FeKa": 1.93735,
    "FeKa1": 1.93604,
    "FeKa2": 1.93998,
    "FeKb1": 1.75661,
    "CoKa": 1.79026,
    "CoKa1": 1.78896,
    "CoKa2": 1.79285,
    "CoKb1": 1.62079,
    "AgKa": 0.560885,
    "AgKa1": 0.559421,
    "AgKa2": 0.563813,
    "AgKb1": 0.497082,
}
KA2_RATIO = 0.5  # statistical weights of the 2p1/2 and 2p3/2 levels; measured: 0.50 to 0.52


def wavelength(radiation: str | float) -> float:
    """The wavelength [Å] of a line by its name (``"CuKa1"``), or of a number, which is taken as it is.

    Raises:
        InputError: if the name is not known or the number is not from 0.05 to 10 Å.
    """
    if isinstance(radiation, str):
        if radiation not in WAVELENGTHS:
            remedy = f"Give a number in Å or one of: {', '.join(WAVELENGTHS)}."
            raise InputError("wavelength", f"unknown radiation {radiation!r}.", remedy)
        return WAVELENGTHS[radiation]
    if not 0.05 < radiation < 10:
        raise InputError("wavelength", f"{radiation} Å is not from 0.05 to 10 Å.", "Give it in Å.")
    return float(radiation)


def components(radiation: str | float) -> tuple[tuple[float, float], ...]:
    """The lines of a radiation as (wavelength [Å], weight), weights summing to 1.

    ``"CuKa1+CuKa2"`` (any anode) is the doublet at 2:1; any other name or number is one line of weight 1.
    """
    if isinstance(radiation, str) and "+" in radiation:
        first, second = (wavelength(name.strip()) for name in radiation.split("+", 1))
        return (first, 1 / (1 + KA2_RATIO)), (second, KA2_RATIO / (1 + KA2_RATIO))
    return ((wavelength(radiation), 1.0),)


def doublet(wavelength: float) -> tuple[float, float] | None:
    """Kα1 and Kα2 [Å] of the anode whose Kα1 or Kα mean is ``wavelength`` within 2e-4 of it; None for any other."""
    for name, value in WAVELENGTHS.items():
        if name.endswith(("Ka", "Ka1")) and abs(value / wavelength - 1) < 2e-4:
            scale, anode = wavelength / value, name.removesuffix("1")
            return scale * WAVELENGTHS[anode + "1"], scale * WAVELENGTHS[anode + "2"]
    return None
