"""Structures from files."""

from __future__ import annotations

from pathlib import Path

from components.collect_structures.crystals import Material
from imitation_refinement.errors import InputError


def read_structures(path: Path, rejected: list[InputError]) -> list[Material]:
    """Materials."""
    raise InputError(path, "can't be read yet.")
