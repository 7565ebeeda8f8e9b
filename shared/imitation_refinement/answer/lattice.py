"""What a pattern's lattice says of its crystal system: indexing, and a logit of how well each family explains it.

No structure is needed for it, and none is learnt: it knows what no library has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks
from scipy.special import log_softmax

from imitation_refinement.answer.library import REFERENCE
from imitation_refinement.answer.ranking import conditional_logit
from imitation_refinement.xrd.crystal import N_CLASSES
from imitation_refinement.xrd.grid import Grid, convert_two_theta
from imitation_refinement.xrd.indexing import index
from imitation_refinement.xrd.lattices import Lattice
from imitation_refinement.xrd.noise import Noise
from imitation_refinement.xrd.peaks import summit

Vector = NDArray[np.float64]

# In 2θ [°] at REFERENCE, as lattices.
STEP = 0.02
FWHM = 0.1  # of the smoothing
FIRST, LAST = 2.0, 70.0  # of lines: beyond, too many overlap
ABOVE_NOISE = 7.0  # [σ of what is smoothed] from a line down to the valleys beside it
LEAST, STRONG = 0.008, 0.02  # of the highest line: of a line, and of one that trial lattices are made of
FEWEST, ENOUGH, MOST = 4, 12, 40  # lines; strong ones, if there are as many; the strongest that are taken
DOUBLET = 0.00249  # Δλ / λ of copper's Kα2, which half of the lines' height stands at
DOUBLET_RATIO, DOUBLET_OFF, DOUBLET_APART = (1.3, 4.0), 0.04, 0.08  # heights; how near [°]; from where it is told [°]
KINDS = 7  # of lattices: the six families, hexagonal ones primitive or R
WORST, UNIT = 15.0, 5.0  # how far below the best a score counts, and in what unit
MOST_SCORE = 60.0
RIDGE = 1e-3  # on weights
PARTS = 5  # that opinions are fitted on all others of, to be fused
WEAK, CHANCE, DECADE = 0.4, (0.06, 0.4), 0.32 / 1.2  # chances of lines: of 1 % of the highest; bounds; less by decade


@dataclass(frozen=True)
class Lines:
    """The lines of a pattern that a lattice is looked for in, by rising angle.

    Attributes:
        two_theta: at :data:`REFERENCE` [°], shape (n,).
        chance: by which each is of an impurity, or none, shape (n,).
        strong: which of them trial lattices are made of, shape (n,).
    """

    two_theta: Vector
    chance: Vector
    strong: NDArray[np.bool_]

    @classmethod
    def of(cls, two_theta: ArrayLike, intensity: ArrayLike, wavelength: float) -> Lines:
        """Those of a measured pattern.

        Args:
            two_theta: rising angles [°], shape (n,).
            intensity: as measured, shape (n,).
            wavelength: [Å].
        """
        x = convert_two_theta(two_theta, wavelength, REFERENCE)
        near = np.isfinite(x) & (x > FIRST) & (x < LAST + 2)
        x, y = x[near], np.asarray(intensity, float)[near]
        points = int((x[-1] - x[0]) / STEP) if len(x) > 1 else 0
        if points < 64:
            return cls(np.empty(0), np.empty(0), np.empty(0, bool))
        grid = Grid(start=float(x[0]), stop=float(x[0]) + points * STEP, points=points + 1, wavelength=REFERENCE)
        values = grid.resample(x, y, REFERENCE).astype(float)
        sigma = FWHM / 2.3548 / STEP
        smooth = gaussian_filter1d(values, sigma)
        tops, told = find_peaks(smooth, prominence=np.finfo(np.float32).eps * np.abs(smooth).max())
        height = told["prominences"]
        # Noise is told on the pattern's own points: between them it is smoothed already.
        own = float(np.median(np.diff(x)))
        variance = Noise.of(y, own).variance(smooth[tops] - height) * own / (2 * math.sqrt(math.pi) * sigma * STEP)
        real = height > ABOVE_NOISE * np.sqrt(variance)
        highest = height[real].max(initial=0)
        real &= height >= LEAST * highest
        tops, height = tops[real], height[real]
        place = grid.two_theta[tops] + STEP * summit(smooth, tops)
        kept = (place < LAST) & ~_second_of_doublet(place, height)
        place, height = place[kept], height[kept] / (highest or 1)
        if len(place) > MOST:
            strongest = np.sort(np.argpartition(-height, MOST)[:MOST])
            place, height = place[strongest], height[strongest]
        strong = height >= min(STRONG, float(np.sort(height)[-ENOUGH:].min(initial=1)))
        chance = np.clip(WEAK - DECADE * (np.log10(height) + 2), *CHANCE)
        return cls(place, chance, strong)


def _second_of_doublet(place: Vector, height: Vector) -> NDArray[np.bool_]:
    """Which lines stand, with half the height, where the Kα2 of another one does, shape (n,)."""
    shift = np.degrees(2 * DOUBLET * np.tan(np.radians(place / 2)))
    ratio = height[:, None] / height
    off = np.abs(place - place[:, None] - shift[:, None])
    low, high = DOUBLET_RATIO
    return np.asarray(
        ((off < DOUBLET_OFF) & (ratio > low) & (ratio < high) & (shift[:, None] > DOUBLET_APART)).any(axis=0)
    )


def lattices_of(two_theta: ArrayLike, intensity: ArrayLike, wavelength: float) -> list[Lattice]:
    """The best lattice of each family and centring, the best first; none where there are too few lines.

    Args:
        two_theta: rising angles [°], shape (n,).
        intensity: as measured, shape (n,).
        wavelength: [Å].
    """
    lines = Lines.of(two_theta, intensity, wavelength)
    if len(lines.two_theta) < FEWEST:
        return []
    return index(lines.two_theta, lines.chance, lines.strong, REFERENCE)


@dataclass(frozen=True)
class LatticeVote:
    """A multinomial logit of crystal systems on what lattices of each kind explain.

    Attributes:
        weights: shape (7, :func:`features`' length).
        fitted_on: what they were fitted on.
    """

    weights: Vector
    fitted_on: str = ""

    def __call__(self, lattices: Sequence[Lattice]) -> Vector:
        """The seven crystal systems' log-probabilities, shape (7,)."""
        return self.of(features(lattices))

    def of(self, given: Vector) -> Vector:
        """Those that :func:`features` of lattices give."""
        return np.asarray(log_softmax(self.weights @ given))

    @classmethod
    def fit(
        cls, given: Sequence[Vector], truth: NDArray[np.integer], counting: Vector | None = None, fitted_on: str = ""
    ) -> LatticeVote:
        """The weights under which the true systems are most likely, with a small ridge.

        Args:
            given: :func:`features` of n patterns' lattices.
            truth: their class indices, shape (n,).
            counting: how much each pattern counts, shape (n,); equally without it.
            fitted_on: what they are, for the record.
        """
        inputs = [np.asarray(np.kron(np.eye(N_CLASSES), one), float) for one in given]
        right = [np.arange(N_CLASSES) == true for true in truth]
        found = conditional_logit(inputs, right, counting, ridge=RIDGE)
        return cls(found.reshape(N_CLASSES, -1), fitted_on)

    @classmethod
    def apart(cls, given: Sequence[Vector], truth: NDArray[np.integer], counting: Vector | None = None) -> list[Vector]:
        """Log-probabilities of each pattern by weights fitted without it: :meth:`fit`'s own are too sure."""
        part, counting = np.arange(len(given)) % PARTS, np.ones(len(given)) if counting is None else counting
        votes = []
        for left in range(PARTS):
            others = np.flatnonzero(part != left)
            votes.append(cls.fit([given[i] for i in others.tolist()], truth[others], counting[others]))
        return [votes[p].of(one) for one, p in zip(given, part, strict=True)]

    def record(self) -> dict[str, Any]:
        """What :meth:`read` reads."""
        return {"weights": self.weights.tolist(), "fitted_on": self.fitted_on}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> LatticeVote:
        """The weights of a record.

        Raises:
            KeyError, TypeError, ValueError: if it holds none that are whole.
        """
        weights = np.array([[float(w) for w in row] for row in record["weights"]])
        if weights.shape != (N_CLASSES, len(features([]))) or not np.isfinite(weights).all():
            raise ValueError("weights of other kinds of lattices, or no finite numbers")
        return cls(weights, str(record["fitted_on"]))


def features(lattices: Sequence[Lattice]) -> Vector:
    """What lattices tell of a pattern: how far each kind's best falls short of the best of all, and that one's score.

    Args:
        lattices: as :func:`lattices_of` gives; there may be none.

    Returns:
        Shape (KINDS + 2,): shortfalls in units of :data:`UNIT`, the best score in tens, and 1.
    """
    best = np.full(KINDS, -np.inf)
    for one in lattices:
        kind = KINDS - 1 if one.centring == "R" else int(one.family)
        best[kind] = max(best[kind], one.score)
    highest = float(best.max())
    if not np.isfinite(highest):
        return np.array([0.0] * (KINDS + 1) + [1.0])
    short = np.minimum(highest - best, WORST) / UNIT
    return np.array([*short, min(max(highest, 0.0), MOST_SCORE) / 10, 1.0])
