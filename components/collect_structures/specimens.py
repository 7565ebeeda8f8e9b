"""Specimens: materials that are kept from the ideal structures, to be measured virtually."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from components.collect_structures.crystals import Material

LARGEST_SHARE = 0.3  # of the given structures of a crystal system


def specimen_row(material: Material) -> dict[str, Any]:
    """A material as a row of the PATTERNS contract that the simulate stage measures virtually."""
    names = {name: getattr(material, name) for name in ("formula", "space_group", "crystal_system")}
    pattern_id = f"specimen-{material.material_id}"
    return {"pattern_id": pattern_id, "origin": "virtual"} | names | material.crystal.columns()


def hold_out(materials: list[Material], n_specimens: int, seed: int) -> tuple[list[Material], list[Material]]:
    """Splits given materials into a library and specimens of other formulas.

    The specimens are about even over the crystal systems, at most ``LARGEST_SHARE`` of each. A formula goes to one
    side with all its polymorphs.

    Returns:
        The library and the specimens, of which there may be fewer than ``n_specimens``.
    """
    by_formula: dict[str, list[Material]] = defaultdict(list)
    for material in materials:
        by_formula[material.formula].append(material)
    room = quotas(Counter(m.crystal_system.value for m in materials), n_specimens)
    names = sorted(by_formula)
    chosen: set[str] = set()
    for index in np.random.default_rng(seed).permutation(len(names)):
        needed = Counter(m.crystal_system.value for m in by_formula[names[index]])
        if all(room[system] >= count for system, count in needed.items()):
            room.subtract(needed)
            chosen.add(names[index])
    library = [m for m in materials if m.formula not in chosen]
    return library, [m for m in materials if m.formula in chosen]


def quotas(available: Counter[str], total: int) -> Counter[str]:
    """Specimens of each system: as even as ``LARGEST_SHARE`` of what there is allows, ``total`` in all."""
    limits = {system: int(LARGEST_SHARE * count) for system, count in available.items()}
    out: Counter[str] = Counter()
    left = total
    for place, system in enumerate(sorted(limits, key=lambda s: (limits[s], s))):
        out[system] = min(limits[system], left // (len(limits) - place))
        left -= out[system]
    return out
