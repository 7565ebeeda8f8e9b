"""The lines of structures, as a library that patterns are searched in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from components.simulate.kernel import Structures, reflections
from imitation_refinement.answer.library import MOST_Q, REFERENCE, record

HIGH = float(np.degrees(2 * np.arcsin(MOST_Q * REFERENCE / (4 * np.pi))))  # 2θ [°] at REFERENCE


def entries(rows: pa.Table, crystals: Structures) -> list[dict[str, object]]:
    """Structures as rows under the ``LIBRARY`` contract, without those that have no line up to ``MOST_Q``.

    Args:
        rows: what they are called, under the ``STRUCTURES`` contract.
        crystals: the same, in that order, all with form factors.
    """
    columns = rows.select(["material_id", "formula", "space_group", "source"]).to_pylist()
    found = reflections(crystals, REFERENCE, HIGH)
    made = (record(lines, **row) for lines, row in zip(found, columns, strict=True))
    return [entry for entry in made if entry]
