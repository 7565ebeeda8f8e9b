"""Three calls for a notebook or a script: ``ir.read``, ``ir.identify``, ``answer.plot()``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import overload

from imitation_refinement.answer.elements import Elements
from imitation_refinement.answer.identify import Identified
from imitation_refinement.answer.identify import identify as identify_one
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.search import Search
from imitation_refinement.answer.series import Series, identify_series
from imitation_refinement.data.patterns import ALL, Pattern, check_wavelength, parse_axis, read_patterns
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.radiation import parse_wavelength

KEPT = 4  # models that are not read again


def read(
    path: str | Path,
    wavelength: float | str | None = None,
    pattern_id: str | None = None,
    *,
    scan: str = ALL,
    axis: str | None = None,
) -> Pattern:
    """The pattern in a file.

    Args:
        path: a file of any form that docs/formats.md names.
        wavelength: [Å], or with its unit, or a line's name as ``CuKa1``, where the file does not say it.
        pattern_id: of a file with several, the one of this name.
        scan: of a file with several scans, the number of one, from 1.
        axis: where the file does not say it, with its unit, as ``q (1/nm)``.

    Raises:
        InputError: if the file can't be read or used, or holds several patterns of which none is named.
    """
    given = None if wavelength is None else check_wavelength(parse_wavelength(str(wavelength), "wavelength"), str(path))
    patterns, rejected = read_patterns(path, given, scan=scan, axis=parse_axis(axis, "axis") if axis else None)
    named = [one for one in patterns if pattern_id in (None, one.pattern_id)]
    if len(named) == 1:
        return named[0]
    if rejected and not patterns:
        raise rejected[0]
    names = ", ".join(one.pattern_id for one in patterns[:10]) + (", …" if len(patterns) > 10 else "")
    problem = f"has {len(patterns)} patterns: {names}."
    raise InputError(path, problem, f"Name one of them, as read(path, pattern_id={patterns[0].pattern_id!r}).")


@overload
def identify(
    patterns: Pattern,
    *,
    model: str | Path | Model | None = None,
    library: str | Path | Library | None = None,
    elements: str = "",
) -> Identified: ...


@overload
def identify(
    patterns: Sequence[Pattern],
    *,
    at: Sequence[float] | None = None,
    quantity: str = "",
    model: str | Path | Model | None = None,
    library: str | Path | Library | None = None,
    elements: str = "",
) -> Series: ...


def identify(
    patterns: Pattern | Sequence[Pattern],
    *,
    at: Sequence[float] | None = None,
    quantity: str = "",
    model: str | Path | Model | None = None,
    library: str | Path | Library | None = None,
    elements: str = "",
) -> Identified | Series:
    """The crystal system and the phase of a pattern, or of each of a series over time or temperature.

    Args:
        patterns: one, or several in the order of ``at``.
        at: when, or at which temperature, each of a series was measured; their numbers from 1 without it.
        quantity: what ``at`` is, with its unit, as ``temperature (°C)``.
        model: a model, or its folder; the one that comes with the software without it.
        library: a library, or its file, to search in instead of the model's.
        elements: what is known of the sample: ``Fe,O`` only these may be there, ``+Fe`` must be, ``-Pb`` must not.

    Raises:
        InputError: if an argument can't be used.
    """
    used = model if isinstance(model, Model) else _read_model(None if model is None else Path(model))
    if library is not None:
        searched = library if isinstance(library, Library) else _read_library(Path(library))
        used = replace(used, search=Search(searched, used.search.ranking))
    allowed = Elements.parse(elements).allowed(used.search.library) if elements else None
    if isinstance(patterns, Pattern):
        return identify_one(used, patterns, allowed)
    return identify_series(used, patterns, at, quantity, allowed)


_read_model = lru_cache(maxsize=KEPT)(Model.read)
_read_library = lru_cache(maxsize=KEPT)(Library.read)
