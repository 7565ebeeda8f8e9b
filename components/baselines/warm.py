"""Compiles the search's kernels once and caches them beside their source: ``python -m components.baselines.warm``."""

from __future__ import annotations

import numpy as np

from imitation_refinement.answer.library import Library, record
from imitation_refinement.answer.search import Search
from imitation_refinement.xrd.diffractometer import Reflections


def warm() -> None:
    """Searches one pattern of a few lines in a library of one crystal."""
    hkl = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [2, 0, 0], [2, 1, 0]], np.int16)
    d = 4.11 / np.linalg.norm(hkl, axis=1)  # CsCl [Å]
    lines = Reflections(np.eye(3) / 4.11, d, np.arange(len(d) + 1), hkl, np.array([1.0, 5.0, 0.7, 2.0, 0.5]))
    entry = record(lines, "warm", "CsCl", 221)
    assert entry, "these lines are in the search's range"
    axis = np.arange(10, 80, 0.04)
    peaks = np.degrees(2 * np.arcsin(1.5406 / (2 * d)))
    counts = 20 + 1000 * np.exp(-(((axis[:, None] - peaks) / 0.1) ** 2)).sum(axis=1)
    Search(Library.of([entry]))(axis, counts, 1.5406)


if __name__ == "__main__":
    warm()
