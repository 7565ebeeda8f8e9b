"""A model's answer to one uploaded file as the page takes it: plain values for JSON, every unit said.

All that the page knows of a model goes through :func:`answer`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from imitation_refinement.answer.domain import Flag
from imitation_refinement.answer.elements import Elements
from imitation_refinement.answer.explain import strengths
from imitation_refinement.answer.identify import Identified, identify
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.pattern import prepare
from imitation_refinement.answer.search import Candidate
from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.patterns import Pattern, check_wavelength, pattern_of
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.radiation import parse_wavelength
from web.cif import cell_of, cif

MOST_POINTS = 200_000
MOST_SCANS = 20  # of one file
LEAST_LINE = 1e-3  # of a candidate's strongest line


@dataclass(frozen=True)
class Question:
    """What the page asks.

    Attributes:
        data: the file's bytes.
        name: the file's name, whose extension says the form.
        wavelength: for scans that do not say theirs: [Å], or with its unit, or a line's name; empty: not given.
        must, may_only, excluded: symbols of elements; see :class:`.elements.Elements`.
    """

    data: bytes
    name: str
    wavelength: str = ""
    must: tuple[str, ...] = ()
    may_only: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


def answer(model: Model, question: Question) -> dict[str, Any]:
    """The answers to all scans of a file.

    Returns:
        ``patterns``, see :func:`_pattern`; ``rejected``, a sentence for each scan that can't be used; and
        ``asks_wavelength``, whether some scans were left out because nothing says their wavelength.

    Raises:
        InputError: if the wavelength or an element is none, or the file holds too much.
    """
    given = None
    if question.wavelength:
        given = check_wavelength(parse_wavelength(question.wavelength, "wavelength"), "wavelength")
    elements = Elements(question.must, question.may_only, question.excluded)
    allowed = None if elements == Elements() else elements.allowed(model.search.library)
    patterns, rejected, asks = [], [], False
    for scan in _scans(question.data, question.name):
        if not isinstance(scan, InputError) and not scan.wavelengths and given is None:
            asks = True
            continue
        try:
            if isinstance(scan, InputError):
                raise scan
            patterns.append(_pattern(model, identify(model, _bounded(pattern_of(scan, given)), allowed)))
        except InputError as error:
            rejected.append(str(error))
    return {"patterns": patterns, "rejected": rejected, "asks_wavelength": asks}


def about(model: Model) -> dict[str, Any]:
    """What the page says of the model."""
    return {"crystals": len(model.search.library), "networks": len(model.networks)}


def _scans(data: bytes, name: str) -> list[Scan | InputError]:
    """The scans of an uploaded file, told apart by number, whose messages name the file as the person does.

    Raises:
        InputError: if there are more than :data:`MOST_SCANS`.
    """
    found: list[Scan | InputError] = []
    with TemporaryDirectory(prefix="imitation-refinement-") as folder:
        path = Path(folder) / file_name(name)
        path.write_bytes(data)
        try:
            for scan in read_scans(path):
                found.append(scan)
                if len(found) > MOST_SCANS:
                    break
        except InputError as error:
            found.append(error)
        if len(found) > MOST_SCANS:
            remedy = "Split it, or use `imitation-refinement identify` on the command line."
            raise InputError(path.name, f"holds more than {MOST_SCANS} scans.", remedy)
        named = Counter(scan.name for scan in found if isinstance(scan, Scan))
    return [_named(scan, number, named, f"{folder}/") for number, scan in enumerate(found, 1)]


def _named(scan: Scan | InputError, number: int, named: Counter[str], folder: str) -> Scan | InputError:
    if isinstance(scan, InputError):
        return InputError(*(text.replace(folder, "") for text in (scan.where, scan.problem, scan.remedy)))
    name = f"{scan.name} scan {number}" if named[scan.name] > 1 else scan.name
    return replace(scan, name=name, where=scan.where.replace(folder, ""))


def file_name(name: str) -> str:
    """An uploaded file's name without what a path or a hidden file could be made of, at most 120 characters.

    >>> file_name("../../etc/.x y.XY"), file_name("C:\\\\data\\\\a<b>.raw"), file_name("..")
    ('x y.XY', 'a_b_.raw', 'pattern')
    """
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^\w.() +-]", "_", last).strip(". ")[-120:] or "pattern"


def _bounded(pattern: Pattern) -> Pattern:
    if len(pattern.two_theta) > MOST_POINTS:
        problem = f"has {len(pattern.two_theta)} points; the page takes {MOST_POINTS}."
        raise InputError(pattern.where, problem, "Use `imitation-refinement identify` on the command line.")
    return pattern


def _pattern(model: Model, found: Identified) -> dict[str, Any]:
    """One answer: the pattern on its own angles [°] and scale, probabilities by crystal system, candidates, and why."""
    pattern = found.pattern
    assert pattern.wavelength is not None, "a checked pattern has a wavelength"
    refined, said = _refined(model, found)
    opinions = {"answer": found.probabilities}
    if found.candidates:  # or it was not searched, and nobody has one
        opinions |= {"search": found.opinions.vote, "networks": np.exp(found.opinions.network)}
    told = found.explanation
    candidates = [
        _candidate(model.search.library, one, pattern.wavelength, pattern.pattern_id) for one in found.candidates
    ]
    if told is not None:
        for one, explained in zip(candidates, told.explained, strict=True):
            one["explains"] = int(explained.sum())
    return {
        "name": pattern.pattern_id,
        "wavelength": pattern.wavelength,
        "two_theta": _numbers(pattern.two_theta, 9),
        "intensity": _numbers(pattern.intensity),
        "baseline": _numbers(_baseline(pattern)),
        "refined": refined,
        "systems": [
            {"name": str(system)}
            | {
                name: round(float(opinions[name][i]), 4) if name in opinions else None
                for name in ("answer", "search", "networks")
            }
            for i, system in enumerate(CRYSTAL_SYSTEMS)
        ],
        "flag": str(found.flag),
        "why": [*_why(found), *said],
        "remarks": list(pattern.remarks),
        "peaks": len(told.peaks.position) if told else 0,
        "unexplained": _numbers(told.peaks.position[told.unexplained]) if told else [],
        "candidates": candidates,
    }


def _baseline(pattern: Pattern) -> NDArray[np.float64]:
    """The background on the pattern's own angles, shape (n,); NaN where no lines are looked for."""
    assert pattern.wavelength is not None, "a checked pattern has a wavelength"
    x = pattern.two_theta
    try:
        prepared = prepare(x, pattern.intensity, pattern.wavelength, pattern.where)
    except InputError:  # what is said of the answer
        return np.full(len(x), np.nan)
    return np.interp(x, prepared.two_theta, prepared.background, left=np.nan, right=np.nan)


def _refined(model: Model, one: Identified) -> tuple[list[float | None] | None, list[str]]:
    """The refined pattern's intensities on the pattern's own angles, None without, and what is to be said of it."""
    if model.refiner is None:
        return None, ["This model has no refiner."]
    try:
        found = model.refine(one.pattern, one.zero_error)
    except InputError as error:
        return None, [f"Not refined: it {error.problem}"]
    moved = f"and moved its lines by {found.moved:+.3f}° at 2θ = 40°" if found.moved else "and moved no line"
    return _numbers(found.intensity), [f"The refiner took off what is no line, {moved}."]


def _why(found: Identified) -> list[str]:
    """What the answer rests on, in sentences."""
    said = [f"{check.text[0].upper()}{check.text[1:]}." for check in found.checks]
    if not found.candidates:
        return said
    if found.flag is Flag.OUTSIDE:
        said.append("The numbers are shown all the same; do not rely on them.")
    opinions = found.opinions
    search, network, lattice = (
        (str(CRYSTAL_SYSTEMS[int(values.argmax())]), float(values.max()))
        for values in (opinions.vote, np.exp(opinions.network), np.exp(opinions.lattice))
    )
    voices = (
        f"The search in the library votes {search[0]} ({search[1]:.0%}), the networks {network[0]} ({network[1]:.0%})"
    )
    voices += f", the lattices that fit {lattice[0]} ({lattice[1]:.0%})"
    said.append(f"{voices}{'' if search[0] == network[0] == lattice[0] else ': they disagree'}.")
    first = found.candidates[0]
    said.append(
        f"The first candidate is {first.formula}, space group {_symbol(first.space_group)}: it is the phase with a "
        f"probability of {first.probability:.0%}, and has {first.score:.0%} of what all candidates share if the "
        "phase is in the library."
    )
    if found.explanation is not None:
        total, none = len(found.explanation.peaks.position), int(found.explanation.unexplained.sum())
        said.append(
            f"Of {total} peaks {none or 'none'} {'are' if none > 1 else 'is'} without a candidate that explains it."
        )
        said += [f"{doubt.text}." for doubt in found.explanation.doubts]
    return said


def _symbol(space_group: int) -> str:
    """A space group's short symbol in its standard setting."""
    found = gemmi.find_spacegroup_by_number(space_group)
    return str(found.short_name()) if found else str(space_group)


def _candidate(library: Library, one: Candidate, wavelength: float, pattern: str) -> dict[str, Any]:
    """A candidate with its lines: q [1/Å] of the refined cell, relative intensities, and Miller indices."""
    hkl, q, intensity = strengths(library, one, wavelength)
    seen = intensity > LEAST_LINE * intensity.max()
    hkl, q, intensity = hkl[seen], q[seen], intensity[seen]
    return {
        "id": one.material_id,
        "formula": one.formula,
        "space_group": one.space_group,
        "symbol": _symbol(one.space_group),
        "crystal_system": str(one.crystal_system),
        "source": one.source,
        "made": one.made,
        "score": round(one.score, 4),
        "probability": round(one.probability, 4),
        "strain": round(one.strain, 6),
        "zero_error": round(one.zero_error, 5),
        "cell": [round(value, 5) for value in cell_of(one.reciprocal)],
        "q": _numbers(q),
        "height": _numbers(intensity / max(intensity.max(initial=0), 1e-30), 4),
        "hkl": [" ".join(map(str, index)) for index in hkl.tolist()],
        "cif": cif(one, hkl, q, pattern),
    }


def _numbers(values: NDArray[np.floating] | Iterable[float], digits: int = 7) -> list[float | None]:
    """Values with so many significant digits; None where there is none."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in np.asarray(values).tolist()]
