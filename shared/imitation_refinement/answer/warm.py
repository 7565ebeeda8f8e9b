"""Compiles what answers need once, and caches it: ``python -m imitation_refinement.answer.warm``.

Otherwise the first answer takes a minute, in each of several processes at once.
"""

from __future__ import annotations

import numpy as np

from imitation_refinement.answer.lattice import lattices_of
from imitation_refinement.answer.library import Library, record
from imitation_refinement.answer.search import Search
from imitation_refinement.xrd.diffractometer import Reflections
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.preparation import measured_input

WAVELENGTH = 1.5406  # [Å]


def warm() -> None:
    """Takes a pattern of two crystals, one of few and one of many lines, through every kernel."""
    library = Library.of(filter(None, (_crystal(4.11, 3), _crystal(19.1, 8))))
    axis = np.arange(5, 90, 0.05)
    places = np.degrees(2 * np.arcsin(library.q[: library.offsets[1]].astype(float) * WAVELENGTH / (4 * np.pi)))
    counts = 50 + 1000 * np.exp(-(((axis[:, None] - places) / 0.1) ** 2)).sum(axis=1)
    Search(library)(axis, counts, WAVELENGTH)
    lattices_of(axis, counts, WAVELENGTH)
    measured_input(axis, counts, WAVELENGTH, Grid(axis="log_q"))


def _crystal(edge: float, most: int) -> dict[str, object] | None:
    """A primitive cubic one with an atom, its indices up to ``most``, as a library has it."""
    hkl = np.array([(h, k, m) for h in range(1, most) for k in range(h + 1) for m in range(k + 1)], np.int16)
    d = edge / np.linalg.norm(hkl, axis=1)
    hkl, d = hkl[np.argsort(-d)], np.sort(d)[::-1]
    lines = Reflections(np.eye(3) / edge, d, np.arange(len(d) + 1), hkl, np.linspace(9, 3, len(d)))
    return record(lines, f"made up of {edge} Å", "Po", 221)


if __name__ == "__main__":
    warm()
