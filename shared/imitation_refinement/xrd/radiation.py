"""X-ray lines of the usual anodes by name, and Kα doublets."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from imitation_refinement.errors import InputError

# Wavelengths [Å] of Bearden, Rev. Mod. Phys. 39, 78 (1967), silver's of Deslattes et al., Rev. Mod. Phys. 75, 35
# (2003); "Ka" is the mean of the doublet, weighted 2:1. As in pymatgen's XRDCalculator but for CoKb1, 1.63079 there.
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
ANODES = tuple(dict.fromkeys(name.partition("K")[0] for name in WAVELENGTHS))
HC = 12.398419843  # [keV Å], exact constants of the SI
LENGTHS = {"a": 1.0, "ang": 1.0, "angstrom": 1.0, "nm": 10.0, "pm": 0.01, "m": 1e10}  # [Å]
ENERGIES = {"kev": 1.0, "ev": 1e-3}  # [keV]
# What a name of a line may look like: Cu, CuKa, Cu Kα1, Cu K-alpha 1, CuKα₁, Cu K\\alpha_1, CuKb.
LINE = re.compile(
    r"(?P<anode>[a-z]{1,2})[\s_-]*(?:k[\s_-]*\\?(?P<family>alpha|α|a|beta|β|b)[\s_-]*(?P<number>1[\s_]*[+,/&]?[\s_]*2|[12])?)?",
    re.IGNORECASE,
)
KA2_RATIO = 0.5  # statistical weights of the 2p1/2 and 2p3/2 levels; measured: 0.50 to 0.52


def wavelength(radiation: str | float) -> float:
    """The wavelength [Å] of a line by its name, see :func:`line_name`, or of a number, which is taken as it is.

    Raises:
        InputError: if the name is not known or the number is not from 0.05 to 10 Å.
    """
    if isinstance(radiation, str):
        name = line_name(radiation)
        if name is None:
            remedy = f"Give a number in Å or one of: {', '.join(WAVELENGTHS)}."
            raise InputError("wavelength", f"unknown radiation {radiation!r}.", remedy)
        return WAVELENGTHS[name]
    if not 0.05 < radiation < 10:
        raise InputError("wavelength", f"{radiation} Å is not from 0.05 to 10 Å.", "Give it in Å.")
    return float(radiation)


def line_name(text: str) -> str | None:
    """The name in :data:`WAVELENGTHS` of a line as people write it; None where it is none.

    An anode alone, and both lines of its doublet together, are the mean of the doublet; Kβ is Kβ1.

    >>> line_name("Cu"), line_name("CuKα1"), line_name("mo k-alpha 2"), line_name("Co Kβ"), line_name("CuKα1,2")
    ('CuKa', 'CuKa1', 'MoKa2', 'CoKb1', 'CuKa')
    """
    found = LINE.fullmatch(unicodedata.normalize("NFKC", text).strip())
    if found is None:
        return None
    beta = (found["family"] or "a").lower() in ("beta", "β", "b")
    number = (found["number"] or ("1" if beta else ""))[:2]
    name = f"{found['anode'].capitalize()}K{'b' if beta else 'a'}{number if len(number) < 2 else ''}"
    return name if name in WAVELENGTHS else None


def unit_name(text: str) -> str:
    """A unit as :data:`LENGTHS` and :data:`ENERGIES` have it: small letters, no marks above, no plural.

    >>> unit_name("Å"), unit_name("Ångströms"), unit_name("keV"), unit_name("nm")
    ('a', 'angstrom', 'kev', 'nm')
    """
    plain = unicodedata.normalize("NFKD", text.strip().casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c)).rstrip(".")
    plain = plain.replace("angstroem", "angstrom")
    return "angstrom" if plain == "angstroms" else plain


def from_unit(value: float, unit: str) -> float | None:
    """A wavelength [Å] from a value in a unit of length or energy, λ = hc / E; None where the unit is not known.

    >>> from_unit(0.15406, "nm"), from_unit(1.652e-11, "m"), round(from_unit(8.0478, "keV"), 4)
    (1.5406, 0.1652, 1.5406)
    """
    name = unit_name(unit)
    if name in LENGTHS:
        return float(f"{value * LENGTHS[name]:.12g}")  # a shift of the decimal point changes no digit
    energy = value * ENERGIES.get(name, 0.0)
    return HC / energy if energy > 0 else None


def of_anode(wavelength: float, anode: str) -> bool:
    """Whether a wavelength [Å] is a line of an anode, within 0.1 %; also where the anode's lines are not known."""
    lines = [value for name, value in WAVELENGTHS.items() if name.startswith(f"{anode}K")]
    return not lines or any(abs(wavelength / line - 1) < 1e-3 for line in lines)


def parse_wavelength(text: str, where: object, unit: str = "") -> float:
    """The wavelength [Å] that a person wrote in an option, a table or a manifest.

    It is a number, in ``unit`` or else Å, a number with its unit, or the name of a line.

    >>> parse_wavelength("1.5406", ""), parse_wavelength("0.15406 nm", ""), parse_wavelength("MoKα1", "")
    (1.5406, 1.5406, 0.7093)

    Raises:
        InputError: if it is none of these.
    """
    number = re.fullmatch(r"\s*([+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*", text)
    if number:
        value = from_unit(float(number[1].replace(",", ".")), number[2] or unit or "a")
    else:
        name = line_name(text)
        value = WAVELENGTHS[name] if name else None
    if value is None:
        remedy = f"Give a number in Å, one with its unit (nm, pm, m, keV, eV), or one of: {', '.join(WAVELENGTHS)}."
        raise InputError(where, f"wavelength {text.strip()!r} is no wavelength.", remedy)
    return value


def wavelength_column(names: Sequence[str], where: object) -> tuple[str, str] | None:
    """The column of a table that holds the wavelength, and the unit that its name says; None where there is none.

    >>> wavelength_column(["id", "Wavelength [nm]"], ""), wavelength_column(["radiation", "file"], "")
    (('Wavelength [nm]', 'nm'), ('radiation', ''))

    Raises:
        InputError: if there are several, or the unit is not known.
    """
    pattern = re.compile(
        r"(?:x-?ray[\s_]*)?(wave[\s_]*length|lambda|λ|radiation)s?(?:[\s_]*[\[(]?[\s_]*([^\W\d_]+)[\s\])]*)?", re.I
    )
    found = [(name, match[2] or "") for name in names if (match := pattern.fullmatch(name.strip()))]
    found = [pair for pair in found if not pair[0].strip().lower().startswith("radiation")] or found
    if len(found) > 1:
        columns = ", ".join(name for name, _ in found)
        raise InputError(where, f"has several columns of wavelengths: {columns}.", "Leave one, named wavelength.")
    for name, unit in found:
        if unit and from_unit(1.0, unit) is None:
            raise InputError(where, f"has the column {name!r}: its unit is not known.", "Name it wavelength, in Å.")
    return found[0] if found else None


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
