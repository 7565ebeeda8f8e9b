"""What stands on a site of a CIF: from its type symbol, or else from its label.

A type symbol is what the file says, so one that is not understood is refused, never replaced by a guess from the label.
Labels are read only where there is no type symbol, as in old mineral data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from components.collect_structures.crystals import ATOMIC_NUMBERS

Shares = tuple[tuple[int, float], ...]

# Atoms that tetrahedra of frameworks are built around: what a T site may hold.
TETRAHEDRAL = frozenset((4, 5, 12, 13, 14, 15, 22, 23, 24, 26, 27, 30, 31, 32, 33))  # Be B Mg Al Si P Ti to As
GROUPS = {"WAT": ("O", 2), "H2O": ("O", 2), "OH2": ("O", 2), "HOH": ("O", 2), "D2O": ("O", 2), "H3O": ("O", 3)} | {
    "OH": ("O", 1), "HO": ("O", 1), "OD": ("O", 1), "NH4": ("N", 4), "ND4": ("N", 4), "NH3": ("N", 3), "NH2": ("N", 2),
    "NH": ("N", 1), "CH3": ("C", 3), "CH2": ("C", 2), "CH": ("C", 1)
}  # fmt: skip
VACANCY = re.compile(r"(?:□|◻|☐|\[\]|Vac?|VAC?|vac?)\d*$")
ELEMENT = re.compile(r"(?:\d{1,3}(?=[A-Z]))?([A-Za-z]{1,2})[\d.]*[+-]*[\d.]*$")  # isotope, symbol, charge or number
PLAIN = re.compile(r"([A-Z][a-z]?)\d*$")  # as Si1, O: most labels
AMOUNT = r"(\d*\.\d+|\d+)(?:\(\d+\))?"
PARTNER = r"([A-Z][a-z]?|□|Vac?)(?:\d?[+-](?=\s*(?:[+,;/&]|$)))?"
SHARE_FIRST = re.compile(rf"\s*[+,;/&]?\s*{AMOUNT}\s*\*?\s*{PARTNER}")
SHARE_LAST = re.compile(rf"\s*[+,;/&]?\s*([A-Z][a-z]?|□|Vac?):?\s*{AMOUNT}")
TOGETHER = re.compile(r"\(?[A-Z][a-z]?\d?[+-]?(?:(?:\s*[/,&;]\s*|\s+\+\s+)[A-Z][a-z]?\d?[+-]?)+")


@dataclass(frozen=True)
class Species:
    """What is on a site.

    Attributes:
        shares: atomic number and share of each atom; empty for a vacancy.
        hydrogen: hydrogen atoms that are said by name and have no position: two of a ``Wat``.
        among: the elements that share the site in amounts that are not said; of a T site all of TETRAHEDRAL.
    """

    shares: Shares = ()
    hydrogen: int = 0
    among: frozenset[int] = frozenset()


@lru_cache(maxsize=4096)
def species_of(type_symbol: str, label: str, listed: frozenset[str]) -> Species | None:
    """What a site holds; None where it is not understood.

    Args:
        type_symbol: an element, with its charge or not; a group such as ``H2O``; a mixture as the Pauling File writes
            it (``0.6Cu + 0.4Al``); a vacancy; empty if the file has none.
        label: read only without a type symbol.
        listed: symbols in the file's formula, which decide between the readings of a label.
    """
    return _by_type(type_symbol, listed) if type_symbol else _by_label(label, listed)


def _by_type(text: str, listed: frozenset[str]) -> Species | None:
    if VACANCY.match(text):
        return Species()
    if text == "T" and "T" not in listed:
        return Species(among=TETRAHEDRAL)
    if (found := ELEMENT.match(text)) and (symbol := found[1].capitalize()) in ATOMIC_NUMBERS:
        return _element(symbol)
    if group := GROUPS.get(text.upper().replace("-", "")):
        return Species(((ATOMIC_NUMBERS[group[0]], 1.0),), group[1])
    return _mixture(text)


def _mixture(text: str) -> Species | None:
    """Atoms that share a site, with their shares, or without."""
    for pattern, amount, symbol in ((SHARE_FIRST, 1, 2), (SHARE_LAST, 2, 1)):
        terms, place = [], 0
        while found := pattern.match(text, place):
            terms.append((found[symbol], float(found[amount])))
            place = found.end()
        if terms and not text[place:].strip(" )"):
            shares = tuple((ATOMIC_NUMBERS.get(name, 0), share) for name, share in terms if not VACANCY.match(name))
            known = all(number for number, _ in shares) and sum(share for _, share in terms) <= 1.05
            return Species(shares) if known else None
    return _together(text) if TOGETHER.fullmatch(text.rstrip(")")) else None


def _together(text: str) -> Species | None:
    names = re.findall(r"[A-Z][a-z]?", text)
    known = [ATOMIC_NUMBERS[name] for name in names if name in ATOMIC_NUMBERS]
    return Species(among=frozenset(known)) if len(known) == len(names) else None


def _by_label(label: str, listed: frozenset[str]) -> Species | None:
    """By the label, with its case (``BI`` is a boron, ``Bi1`` a bismuth); the first reading that the formula lists."""
    if (plain := PLAIN.match(label)) and plain[1] in listed and plain[1] != "T":
        return _element(plain[1])
    if found := TOGETHER.match(label):
        return _together(found[0])
    if VACANCY.match(label) and "V" not in listed:
        return Species()
    if re.match(r"T(?![a-z])", label) and "T" not in listed:
        return Species(among=TETRAHEDRAL)
    letters = re.match(r"[A-Za-z]*", label)
    name = letters[0] if letters else ""
    group = _group(label)
    if group and not (len(name) > 1 and name[:2] in listed):
        return Species(((ATOMIC_NUMBERS[group[0]], 1.0),), group[1])
    readings = [name[:2], name[:1], name[:2].capitalize()]
    known = [reading for reading in readings if reading in ATOMIC_NUMBERS]
    for reading in [r for r in known if r in listed] + known:
        return _element(reading)
    return None


@cache
def _element(symbol: str) -> Species:
    return Species(((ATOMIC_NUMBERS[symbol], 1.0),))


def _group(label: str) -> tuple[str, int] | None:
    """A group by name. The number after ``OH`` or ``O-H`` counts the sites, that after ``NH`` or ``CH`` the atoms."""
    if found := re.match(r"Wat|WAT|H2O|D2O|H3O|HOH", label):
        return GROUPS[found[0].upper()]
    if found := re.match(r"O-?[HD](?![a-z])", label):
        return GROUPS["OH"]
    if found := re.match(r"([NC])-?[HD]([2-4]?)(?![a-z\d])", label):
        return GROUPS.get(f"{found[1]}H{found[2]}")
    return None


def shares_by_formula(among: Iterable[int], amounts: Mapping[int, float], located: set[int]) -> Shares | None:
    """The shares of elements on sites that do not say them, where the formula does: those that no other site holds.

    None where the formula lists none of them, or other sites hold them all.
    """
    elements = [number for number in sorted(among) if number in amounts and number not in located]
    total = sum(amounts[number] for number in elements)
    return tuple((number, amounts[number] / total) for number in elements) if elements else None
