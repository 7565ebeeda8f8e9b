"""Which elements candidates may have, as a person writes it: ``Fe,O``, ``+Fe``, ``-Pb``."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.answer.library import Library, of_elements
from imitation_refinement.errors import InputError

REMEDY = "Write Fe,O for these alone, +Fe for one that must be there, -Pb for one that must not."
WHERE = "--elements"


@dataclass(frozen=True)
class Elements:
    """What is known of a sample's elements.

    Attributes:
        must: all of these are there.
        may_only: no others than these, and those of ``must``, are there; any may be if it is empty.
        excluded: none of these is there.
    """

    must: tuple[str, ...] = ()
    may_only: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Elements:
        """What a person wrote: symbols separated by commas or blanks; with + they must be there, with - they must not.

        >>> Elements.parse("+Fe,O -Pb")
        Elements(must=('Fe',), may_only=('O',), excluded=('Pb',))

        Raises:
            InputError: if a part is no symbol with or without a sign.
        """
        signed: dict[str, list[str]] = {"+": [], "": [], "-": []}
        for part in re.split(r"[,;\s]+", text.strip().replace("−", "-")):
            found = re.fullmatch(r"([+-]?)([A-Za-z]{1,2})", part)
            if not found:
                raise InputError(WHERE, f"{part!r} is no element.", REMEDY)
            signed[found[1]].append(found[2].capitalize())
        return cls(tuple(signed["+"]), tuple(signed[""]), tuple(signed["-"]))

    def allowed(self, library: Library) -> NDArray[np.bool_]:
        """Which crystals of a library may be candidates, shape (n,).

        Raises:
            InputError: if a symbol is no element's, one must and must not be there, or no crystal is left.
        """
        found = of_elements(library, self.must, self.may_only, self.excluded)
        if not found.any():
            raise InputError(WHERE, "leaves no crystal of the library.", "Allow more elements.")
        return found
