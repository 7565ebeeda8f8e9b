"""What a CIF says about the content of its cell, beside the sites: formula, formula units, density.

A structure stands twice in a CIF: its sites and operations give the content of the cell, and the chemical formula, the
number of formula units (Z) and the calculated density say it again. A wrong origin, axes, occupancies or elements
almost always change the content, so the second is the test of the first. Hydrogen is apart: X-rays hardly see it, so
structures of old have none; the formula names it all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from components.collect_structures.crystals import ATOMIC_NUMBERS, HEAVIEST, SYMBOLS

LONGEST = 2000  # characters of a formula
AGREES = 0.01  # share of the atoms that may be others than the formula's: rounded amounts
DIFFERS = 0.05  # a larger share is another compound
AMOUNT = 0.02  # relative, of the formula units in the cell
DENSITY = 0.03  # relative, of a calculated density
MEASURED = 0.1  # relative, of a measured one
HYDROGEN = 0.005  # of all atoms, hydrogen that may be too much or too little

MASSES = np.array([0.0] + [float(Element.from_Z(z).atomic_mass) for z in range(1, HEAVIEST + 1)])
DEUTERIUM, TRITIUM = 2.0141, 3.0160  # [u]
PER_A3 = 1.660539  # [g/cm³] of 1 u/Å³
TOKEN = re.compile(r"([A-Z][a-z]?)|([(\[])|([)\]])|(\d*\.?\d+)|(\s+)")


@dataclass(frozen=True)
class Formula:
    """A chemical formula.

    Attributes:
        amounts: atoms of each atomic number in a formula unit; deuterium counts as hydrogen.
        mass: of a formula unit [u], deuterium with its own.
        symbols: as the formula lists them.
        text: as the file has it.
    """

    amounts: Mapping[int, float]
    mass: float
    symbols: frozenset[str]
    text: str


@lru_cache(maxsize=1024)
def read_formula(text: str) -> Formula | None:
    """A formula such as ``Ca (Zn.165 Fe.835) Si2 O6``; None where it is none, or an element has no form factor."""
    if len(text) > LONGEST:
        return None
    levels: list[dict[str, float]] = [{}]
    last: dict[str, float] = {}
    place = 0
    for found in TOKEN.finditer(text):
        if found.start() != place:
            return None
        place = found.end()
        symbol, opened, closed, amount, _ = found.groups()
        if opened:
            levels.append({})
        elif amount:
            if not last:
                return None
            _add(levels[-1], last, float(amount) - 1)
        elif (closed and len(levels) == 1) or (symbol and symbol not in ATOMIC_NUMBERS):
            return None
        if symbol or closed:
            last = {symbol: 1.0} if symbol else levels.pop()
            _add(levels[-1], last, 1)
        else:
            last = last if found[5] else {}
    atoms = {symbol: amount for symbol, amount in levels[0].items() if amount > 0}
    if place < len(text) or len(levels) > 1 or not atoms:
        return None
    amounts: dict[int, float] = {}
    mass = 0.0
    for symbol, amount in atoms.items():
        number = ATOMIC_NUMBERS[symbol]
        amounts[number] = amounts.get(number, 0.0) + amount
        mass += amount * {"D": DEUTERIUM, "T": TRITIUM}.get(symbol, MASSES[number])
    return Formula(amounts, mass, frozenset(atoms), text.strip())


def _add(level: dict[str, float], atoms: Mapping[str, float], times: float) -> None:
    for symbol, amount in atoms.items():
        level[symbol] = level.get(symbol, 0.0) + times * amount


@dataclass(frozen=True)
class Verdict:
    """How a content agrees with what is said.

    Attributes:
        composition: the share of the atoms, hydrogen apart, that are others than the formula's; 0 without a formula.
        missing: elements of the formula that are not there, hydrogen apart.
        amount: whether as many formula units are there as Z says, None where it is not said.
        density: whether the density is as said, None where it is not said.
        hydrogen: hydrogen atoms of the formula without a site in the cell; negative where there are too many.
    """

    composition: float = 0.0
    missing: tuple[str, ...] = ()
    amount: bool | None = None
    density: bool | None = None
    hydrogen: float = 0.0

    @property
    def rank(self) -> int:
        """0: agrees; 1: nearly; 2: the density or the number of formula units is another; 3: another compound."""
        if self.composition > DIFFERS:
            return 3
        if (self.density is False) or (self.density is None and self.amount is False):
            return 2
        return int(self.composition > AGREES or bool(self.missing) or self.amount is False)


@dataclass(frozen=True)
class Said:
    """What a file says about the content of its cell.

    Attributes:
        formula: None where there is none that is understood.
        units: formula units in the cell (Z), None where it is not said.
        density: [g/cm³], None where it is not said.
        measured: whether the density was measured rather than calculated.
    """

    formula: Formula | None = None
    units: float | None = None
    density: float | None = None
    measured: bool = False

    def verdict(self, atoms: NDArray[np.float64], volume: float) -> Verdict:
        """How atoms in a cell agree with what is said.

        Args:
            atoms: number of atoms of each atomic number in the cell, shape (HEAVIEST + 1,).
            volume: of the cell [Å³].
        """
        if self.formula is None:
            return Verdict(density=self._dense(float(atoms @ MASSES), volume))
        there = {z: float(atoms[z]) for z in np.flatnonzero(atoms).tolist()}
        formula = self.formula.amounts
        heavy = [z for z in there if z > 1], [z for z in formula if z > 1]
        if not all(heavy):  # hydrogen counts where there is nothing else
            heavy = list(there), list(formula)
        total = sum(there[z] for z in heavy[0])
        units = total / sum(formula[z] for z in heavy[1])
        off = sum(abs(there.get(z, 0.0) - units * formula.get(z, 0.0)) for z in {*heavy[0], *heavy[1]})
        hydrogen = units * formula.get(1, 0.0) - there.get(1, 0.0)
        return Verdict(
            off / total,
            tuple(SYMBOLS[z] for z in sorted(heavy[1]) if z not in there),
            # pymatgen writes the formula of the cell beside the Z of the reduced one.
            min(abs(units / self.units - 1), abs(units - 1)) <= AMOUNT if self.units else None,
            self._dense(units * self.formula.mass, volume),
            hydrogen if abs(hydrogen) > HYDROGEN * units * sum(formula.values()) else 0.0,
        )

    def _dense(self, mass: float, volume: float) -> bool | None:
        if not self.density:
            return None
        off = abs(PER_A3 * mass / volume / self.density - 1)
        return bool(off <= (MEASURED if self.measured else DENSITY))


def shown(atoms: NDArray[np.float64]) -> str:
    """The content of a cell as text, as ``Si16``."""
    return " ".join(f"{SYMBOLS[number]}{atoms[number]:.5g}" for number in np.flatnonzero(atoms > 1e-6))
