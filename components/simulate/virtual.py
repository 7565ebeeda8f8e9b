"""Virtual measurements of the structures of a table, each with another one of them as impurity where one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.simulate.config import Mode, SimulateConfig
from components.simulate.kernel import Structures, reflections, unsupported
from imitation_refinement.xrd.diffractometer import Reflections, measure
from imitation_refinement.xrd.flaws import Parameters, draw

STRUCTURE_COLUMNS = ("lattice", "atomic_number", "occupancy", "position")
BEYOND = 3.0  # lines this far after the last angle [°] still reach in by shift, strain and tail


@dataclass(frozen=True)
class Measurement:
    """What the virtual diffractometer saw: angles [°] and counts of the measured range, and the flaws it drew."""

    two_theta: NDArray[np.float64]
    counts: NDArray[np.float64]
    parameters: Parameters


@dataclass(frozen=True)
class Specimens:
    """The rows of a whole table that can be measured; a shard holds them all, as each may be another's impurity.

    Attributes:
        structures: those with sites and form factors, n of them.
        rows: their rows in the table, rising, shape (n,).
        names: what they are called as impurities, shape (n,).
    """

    structures: Structures
    rows: NDArray[np.int64]
    names: pa.ChunkedArray

    @classmethod
    def of(cls, table: pa.Table, name: str, mode: Mode) -> Specimens:
        """The specimens of a table of structures or patterns; the column ``name`` names them."""
        known = np.flatnonzero(has_structure(table))
        columns = [c for c in (*STRUCTURE_COLUMNS, "b_iso") if c in table.column_names]
        structures = Structures.from_arrow(table.select(columns).take(known))
        usable = ~unsupported(structures, mode)
        return cls(structures.select(usable), known[usable], table[name].take(known[usable]))

    def lines(self, row: int, config: SimulateConfig) -> Reflections | None:
        """The reflections of a row within the reach of the virtual diffractometer; None where it has none there."""
        return self._lines(self._slot(row), config)

    def _slot(self, row: int) -> int:
        return int(np.searchsorted(self.rows, row))

    def _lines(self, slot: int, config: SimulateConfig) -> Reflections | None:
        instrument = config.instrument
        high = min(179.0, instrument.two_theta[-1] + BEYOND)
        found = reflections(self.structures.select([slot]), instrument.wavelength, high, config.mode)[0]
        return found if len(found.d) else None

    def measure(self, row: int, lines: Reflections, seed: Sequence[int], config: SimulateConfig) -> Measurement:
        """The virtual measurement of a row with its ``lines``; it depends on the whole table and the seed alone."""
        rng, instrument = np.random.default_rng(seed), config.instrument
        parameters = draw(rng, config.ranges, instrument.start, instrument.stop)
        impurity = None
        if parameters.impurity_ratio and len(self.rows) > 1:
            partner = int(rng.integers(len(self.rows) - 1))
            partner += partner >= self._slot(row)
            impurity = self._lines(partner, config)
        if impurity is None:
            parameters = replace(parameters, impurity_ratio=0.0)
        else:
            parameters = replace(parameters, impurity=self.names[partner].as_py())
        two_theta = instrument.two_theta
        counts = measure(lines, parameters, two_theta, instrument.wavelength, impurity)
        seen = parameters.observed(two_theta)
        return Measurement(two_theta[seen], counts[seen], parameters)


def has_structure(table: pa.Table) -> NDArray[np.bool_]:
    """Which rows hold a structure, shape (rows,)."""
    return np.logical_and.reduce([table[name].is_valid().to_numpy() for name in STRUCTURE_COLUMNS])
