"""Search-match: which crystals of a library a pattern may be of, and of which crystal system it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.answer.cell import fit
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.match import SearchLines, cosines
from imitation_refinement.answer.pattern import Prepared, prepare
from imitation_refinement.answer.ranking import Case, Ranking, phase_shares
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, CrystalSystem

FITTED = 100  # crystals of the largest cosines, whose cells are refined


@dataclass(frozen=True)
class Candidate:
    """A phase that a pattern may be of, by the best of its entries.

    Attributes:
        row: of the entry in the library.
        material_id: of the entry.
        formula, space_group, crystal_system: of the phase.
        source: where the entry comes from.
        made: how the crystal was made from another; empty if it was not.
        reciprocal: the refined cell, rows a*, b*, c* [1/Å], shape (3, 3).
        strain: mean Δd/d of the refined cell against the entry's.
        zero_error: by which lines stand at too high angles [°].
        score: its share of the probability if the phase is in the library.
        probability: that it is the phase.
    """

    row: int
    material_id: str
    formula: str
    space_group: int
    crystal_system: CrystalSystem
    source: str
    made: str
    reciprocal: NDArray[np.float64]
    strain: float
    zero_error: float
    score: float
    probability: float


@dataclass(frozen=True)
class Answer:
    """What a search says of a pattern.

    Attributes:
        candidates: phases, the most probable first.
        systems: the vote, seven probabilities in the order of the crystal systems.
        evidence: of the crystals that were fitted, see :class:`.cell.Evidence`, shape (k, evidence).
        system: class index of each, shape (k,).
        margin: difference of the first two candidates' scores; 1 where there is one.
        coverage: share of the axis of log q that was measured.
    """

    candidates: tuple[Candidate, ...]
    systems: NDArray[np.float64]
    evidence: NDArray[np.float64]
    system: NDArray[np.int8]
    margin: float
    coverage: float

    @property
    def crystal_system(self) -> CrystalSystem:
        """The most probable crystal system."""
        return CRYSTAL_SYSTEMS[int(self.systems.argmax())]


@dataclass(frozen=True)
class Fitted:
    """The crystals that were fitted to a pattern; see :func:`.cell.fit`."""

    rows: NDArray[np.intp]
    evidence: NDArray[np.float64]
    strains: NDArray[np.float64]
    zeros: NDArray[np.float64]
    coverage: float


class Search:
    """Searches patterns in a library; what the library gives at a wavelength is kept for the next pattern."""

    def __init__(self, library: Library, ranking: Ranking | None = None) -> None:
        self.library, self.ranking = library, ranking or Ranking.read()
        self._lines: dict[float, SearchLines] = {}

    def __call__(
        self,
        two_theta: ArrayLike,
        intensity: ArrayLike,
        wavelength: float,
        allowed: NDArray[np.bool_] | None = None,
        candidates: int = 10,
        where: object = "pattern",
    ) -> Answer:
        """The answer to one pattern.

        Args:
            two_theta: rising angles [°], shape (n,).
            intensity: counts or arbitrary, with background, shape (n,).
            wavelength: [Å], 0.1 to 3.
            allowed: which crystals of the library may be found, see :func:`.library.of_elements`; all without it.
            candidates: phases that are given, at most.
            where: what messages name.

        Raises:
            InputError: if the pattern can't be searched, see :func:`.pattern.prepare`, or no crystal is allowed.
        """
        pattern = prepare(two_theta, intensity, wavelength, where)
        return self.answer(self.fitted(pattern, allowed), candidates)

    def matched(self, pattern: Prepared) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """Every crystal's cosine, strain and zero error; see :func:`.match.cosines`."""
        if pattern.wavelength not in self._lines:
            self._lines = {pattern.wavelength: SearchLines.of(self.library, pattern.wavelength)}
        return cosines(self._lines[pattern.wavelength], pattern)

    def fitted(
        self,
        pattern: Prepared,
        allowed: NDArray[np.bool_] | None = None,
        matched: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> Fitted:
        """The crystals of the largest cosines, fitted; ``matched`` is found unless it is given.

        Raises:
            InputError: if no crystal is allowed.
        """
        cosine, strain, zero = matched or self.matched(pattern)
        rows = np.arange(len(self.library)) if allowed is None else np.flatnonzero(allowed)
        if not len(rows):
            raise InputError("elements", "no crystal of the library is allowed.", "Allow more elements.")
        if len(rows) > FITTED:
            rows = rows[np.argpartition(-cosine[rows], FITTED)[:FITTED]]
        rows = rows[np.argsort(-cosine[rows], kind="stable")]
        coverage = float(pattern.on_log_q(0.0)[1].mean())
        return Fitted(rows, *fit(self.library, rows, pattern, strain[rows], zero[rows], cosine[rows]), coverage)

    def answer(self, found: Fitted, candidates: int = 10) -> Answer:
        """The answer that fitted crystals give."""
        library, rows = self.library, found.rows
        share = self.ranking.shares(found.evidence, library.mixed[rows])
        together = phase_shares(share, library.phase[rows])
        sure = self.ranking.sureness(found.evidence, together, found.coverage)
        order = np.lexsort((-share, -together))
        _, first = np.unique(library.phase[rows][order], return_index=True)
        best = order[np.sort(first)]
        scores = together[best]
        listed = []
        for k in best[:candidates].tolist():
            row = int(rows[k])
            system = CRYSTAL_SYSTEMS[int(library.system[row])]
            tensor = _tensor(found.strains[k] @ library.strains[row])
            listed.append(
                Candidate(
                    row,
                    str(library.material_id[row]),
                    str(library.formula[row]),
                    int(library.space_group[row]),
                    system,
                    str(library.source[row]),
                    str(library.made[row]),
                    library.reciprocal[row] @ (np.eye(3) - tensor),
                    float(np.trace(tensor) / 3),
                    float(found.zeros[k]),
                    float(together[k]),
                    float(sure[k]),
                )
            )
        margin = float(scores[0] - scores[1]) if len(scores) > 1 else 1.0
        systems = self.ranking.systems(found.evidence, library.system[rows])
        return Answer(tuple(listed), systems, found.evidence, library.system[rows], margin, found.coverage)

    def case(self, found: Fitted, right: NDArray[np.bool_], true_system: int) -> Case:
        """Fitted crystals as a case to fit a ranking on.

        Args:
            found: the crystals.
            right: which of the library's are the phase, shape (n,).
            true_system: index of the pattern's crystal system.
        """
        rows = found.rows
        phase, system = self.library.phase[rows], self.library.system[rows]
        return Case(found.evidence, phase, system, self.library.mixed[rows], right[rows], true_system, found.coverage)


def _tensor(strain: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric tensor of six components, 11, 22, 33, √2·23, √2·13, √2·12."""
    xx, yy, zz = strain[:3]
    yz, xz, xy = strain[3:] / np.sqrt(2)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
