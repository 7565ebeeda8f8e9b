"""The nearest neighbour in a library of ideal patterns: what a search-match does, without any learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pybaselines.smooth import snip
from scipy.ndimage import gaussian_filter1d

from components.baselines.config import NearestConfig
from imitation_refinement.data.contracts import ideal_schema, matrix, parts, read_batches, read_grid
from imitation_refinement.data.datasets import ROWS_AT_A_TIME
from imitation_refinement.errors import InputError
from imitation_refinement.progress import progress
from imitation_refinement.vocabulary import Method
from imitation_refinement.xrd.grid import Grid


def without_background(patterns: NDArray[np.float32], half_width: int) -> NDArray[np.float32]:
    """Patterns above their SNIP background (Ryan et al., Nucl. Instrum. Methods B 34 (1988) 396), at least 0.

    Args:
        patterns: intensities, shape (n, points).
        half_width: of the widest window that is clipped [points]; wider than the lines.

    Returns:
        Shape (n, points).
    """
    backgrounds = (snip(pattern, max_half_window=half_width, decreasing=True)[0] for pattern in patterns)
    return np.stack([np.maximum(p - b, 0) for p, b in zip(patterns, backgrounds, strict=True)]).astype(np.float32)


def blurred(patterns: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Patterns convolved with a Gaussian of standard deviation ``sigma`` [points], shape (n, points)."""
    return gaussian_filter1d(patterns, sigma, axis=1, truncate=3) if sigma > 0 else patterns


def roots(patterns: NDArray[np.float32]) -> NDArray[np.float32]:
    """√I of patterns that are not negative, each of norm 1 (or 0 throughout), shape (n, points).

    The root lets weak lines count: the product of two such patterns is the cosine of their √I.
    """
    root = np.sqrt(patterns)
    norm = np.linalg.norm(root, axis=1, keepdims=True)
    return np.divide(root, norm, out=np.zeros_like(root), where=norm > 0)


def nearest(
    patterns: NDArray[np.float32], grid: Grid, library: Path, config: NearestConfig
) -> dict[Method, NDArray[np.str_]]:
    """The crystal system of the most similar ideal pattern.

    Args:
        patterns: imperfect patterns, shape (n, points).
        grid: what they are on.
        library: the ideal dataset; a few thousand rows are in memory at a time.
        config: blur and background.

    Returns:
        ``nearest``: among the ideal patterns of split ``train``, those that the classifiers have learned from.
        ``nearest_in_library``: among all, the measured materials' own included. Shape (n,) each.

    Raises:
        InputError: if the library breaks its contract, is on another grid or has no training pattern.
    """
    read_grid(library, grid)
    sigma = config.blur / grid.step
    half_width = min(max(1, round(config.background / grid.step)), (grid.points - 1) // 2)
    asked = roots(without_background(blurred(patterns, sigma), half_width))
    best = {name: np.full(len(patterns), -1.0, np.float32) for name in (Method.NEAREST, Method.NEAREST_IN_LIBRARY)}
    answers = {name: np.full(len(patterns), "", "<U16") for name in best}
    columns = ["crystal_system", "split", "intensity"]
    batches = read_batches(library, ideal_schema(grid), ROWS_AT_A_TIME, columns)
    total = sum(-(-pq.read_metadata(part).num_rows // ROWS_AT_A_TIME) for part in parts(library))
    for batch in progress(batches, "nearest neighbours", total, f"batches of {ROWS_AT_A_TIME}"):
        rows = pa.Table.from_batches([batch])
        systems = rows["crystal_system"].to_numpy().astype(str)
        train = rows["split"].to_numpy() == "train"
        similarity = asked @ roots(blurred(matrix(rows["intensity"], grid.points), sigma)).T
        allowed = {Method.NEAREST: np.flatnonzero(train), Method.NEAREST_IN_LIBRARY: np.arange(len(rows))}
        for name, eligible in allowed.items():
            if not len(eligible):
                continue
            top = eligible[similarity[:, eligible].argmax(axis=1)]
            value = similarity[np.arange(len(asked)), top]
            better = value > best[name]
            best[name][better], answers[name][better] = value[better], systems[top[better]]
    if (best[Method.NEAREST] < 0).any():
        raise InputError(library, "has no row with split 'train'.", "Give the table that preprocess writes.")
    return answers
