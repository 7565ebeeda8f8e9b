"""Which crystal system, and which phase: a model's answer to a pattern, or why it gives none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.answer import domain
from imitation_refinement.answer.cell import Evidence
from imitation_refinement.answer.domain import Check, Flag, Kind
from imitation_refinement.answer.explain import Explanation, explain, lines_of, listed, peaks_of
from imitation_refinement.answer.fusion import Opinions
from imitation_refinement.answer.lattice import lattices_of
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.pattern import prepare
from imitation_refinement.answer.search import Candidate
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, N_CLASSES, CrystalSystem
from imitation_refinement.xrd.lattices import Lattice

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Identified:
    """What is said of a pattern.

    Attributes:
        pattern: as it was given.
        probabilities: of the seven crystal systems, shape (7,); equal where the pattern can't be searched.
        opinions: what they were fused from.
        candidates: phases, the most probable first; none where the pattern can't be searched.
        checks: what speaks against an answer, or is to be minded.
        explanation: which peaks the candidates explain; None where the pattern can't be searched.
        second: the phase that explains what the first candidate leaves, in a mixture.
        lattices: the best of each family and centring that explain the lines, the best first, of no library.
    """

    pattern: Pattern
    probabilities: NDArray[np.float64]
    opinions: Opinions
    candidates: tuple[Candidate, ...]
    checks: tuple[Check, ...] = ()
    explanation: Explanation | None = None
    second: Candidate | None = None
    lattices: tuple[Lattice, ...] = ()

    @property
    def order(self) -> tuple[CrystalSystem, ...]:
        """The crystal systems, the most probable first."""
        return tuple(CRYSTAL_SYSTEMS[i] for i in np.argsort(-self.probabilities, kind="stable"))

    @property
    def crystal_system(self) -> CrystalSystem | None:
        """The most probable crystal system; None where the pattern can't be searched."""
        return self.order[0] if self.candidates else None

    @property
    def probability(self) -> float:
        """Of the most probable crystal system."""
        return float(self.probabilities.max())

    @property
    def zero_error(self) -> float | None:
        """By which lines stand too high, as the best lattice tells [° at :data:`.library.REFERENCE`]; None without."""
        return self.lattices[0].zero_error if self.lattices else None

    @property
    def flag(self) -> Flag:
        """Whether this is an answer."""
        return Flag.of(self.checks)

    @property
    def reason(self) -> str:
        """Why this is none, or what to mind, in words; may be empty."""
        return domain.reason(self.checks)

    def plot(self) -> Figure:
        """The pattern, the lines of its candidates below it, and the peaks that none explains."""
        from imitation_refinement.answer.picture import answer_figure

        return answer_figure(self)


def identify(model: Model, pattern: Pattern, allowed: NDArray[np.bool_] | None = None) -> Identified:
    """The answer to one pattern; one that can't be searched is told to be outside of what the model knows.

    Args:
        model: what answers.
        pattern: a checked pattern with its wavelength.
        allowed: which crystals of the model's library may be candidates, shape (entries,); all without it.

    Raises:
        InputError: if no crystal is allowed.
    """
    assert pattern.wavelength is not None, "a checked pattern has a wavelength"
    if (check := domain.searchable(pattern)) is not None:
        return _unanswered(pattern, check)
    given = (pattern.two_theta, pattern.intensity, pattern.wavelength)
    peaks = peaks_of(*given)
    without = domain.without_lines(pattern, peaks)
    try:
        prepared = prepare(*given, pattern.where)
    except InputError as error:  # too few points where lines are looked for, or nothing above the background
        few = domain.measured_enough(pattern, model.ensemble.grid)
        return _unanswered(pattern, few or without or Check(Kind.EMPTY, f"{error.problem} {error.remedy}"))
    found = model.search.answer(model.search.fitted(prepared, allowed))
    first = found.candidates[0]
    lattices = lattices_of(*given)
    opinions = Opinions.of(model.ensemble.log_probabilities(*given), model.lattice(lattices), found)
    probabilities = model.fusion(opinions)
    low, high = float(pattern.two_theta[0]), float(pattern.two_theta[-1])
    checks = [domain.measured_enough(pattern, model.ensemble.grid), without]
    second = None
    if without is None:
        checks.append(domain.broad_or_coarse(pattern, peaks))
        lines = lines_of(model.search.library, first, pattern.wavelength, low, high)
        second = domain.second_phase(model.search, prepared, pattern, peaks, first, lines, allowed)
        checks.append(domain.mixture(first, second) if second else None)
    checks += [domain.between_systems(probabilities), domain.calculated(pattern)]
    explanation = explain(model.search.library, found.candidates, listed(peaks), pattern.wavelength, low, high)
    told = tuple(check for check in checks if check is not None)
    return Identified(pattern, probabilities, opinions, found.candidates, told, explanation, second, tuple(lattices))


def _unanswered(pattern: Pattern, check: Check) -> Identified:
    """What is said of a pattern that can't be searched."""
    equal = np.full(N_CLASSES, 1 / N_CLASSES)
    nothing = Opinions(np.log(equal), np.log(equal), np.zeros((0, len(Evidence))), np.zeros(0, np.int8), equal)
    return Identified(pattern, equal, nothing, (), (check,))
