"""Compiles the kernels once and caches them beside their source: ``python -m components.simulate.warm``.

Otherwise the first run does, and each of several first shards on its own.
"""

from __future__ import annotations

import numpy as np

from components.simulate.kernel import Structures, peaks, reflections
from components.simulate.painting import paint
from imitation_refinement.xrd.diffractometer import measure
from imitation_refinement.xrd.flaws import Ranges, draw
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile


def warm() -> None:
    """Takes one small crystal through every kernel."""
    structures = Structures(
        lattice=4.11 * np.eye(3)[None],  # CsCl [Å]
        offsets=np.array([0, 2]),
        atomic_number=np.array([55, 17]),
        occupancy=np.ones(2),
        position=np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]),
        b_iso=np.zeros(2),
    )
    grid = Grid()
    for mode in ("physical", "pymatgen"):
        found = peaks(structures, grid.wavelength, grid.start, grid.stop, mode)
    paint(found, grid, Profile())
    lines = reflections(structures, grid.wavelength, grid.stop)[0]
    every = Ranges(ka2_share=1, texture_share=1, air_share=1, hump_share=1, fluorescence_share=1, impurity_share=1)
    measure(lines, draw(np.random.default_rng(0), every, grid.start, grid.stop), grid.two_theta, grid.wavelength, lines)


if __name__ == "__main__":
    warm()
