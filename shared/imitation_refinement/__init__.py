"""Imitation refinement of powder X-ray diffraction patterns (Bai et al., ICASSP 2019).

import imitation_refinement as ir

pattern = ir.read("sample.xy", wavelength="CuKa1")
answer = ir.identify(pattern)
answer.plot()
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imitation_refinement.answer.api import identify as identify
    from imitation_refinement.answer.api import read as read

__version__ = "0.1.0"

_API = ("identify", "read")  # imported where they are used: torch takes seconds

# Before anything loads OpenMP: threads that spin while they wait make torch twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(import_module("imitation_refinement.answer.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
