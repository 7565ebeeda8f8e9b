"""An answer as a file has it: as a record for JSON, and as a row of ``answers.csv``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from imitation_refinement.answer.explain import Explanation
from imitation_refinement.answer.identify import Identified
from imitation_refinement.answer.search import Candidate
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.lattices import Family, Lattice

Record = dict[str, Any]

LISTED = 5  # candidates in the table
_OF_CANDIDATE = ("formula", "space_group", "id", "score", "probability", "strain", "zero_error", "made")
COLUMNS: tuple[str, ...] = (
    *("pattern_id", "crystal_system", "probability", "second_system", "second_probability"),
    *(f"p_{system}" for system in CRYSTAL_SYSTEMS),
    *("flag", "reason"),
    *(f"candidate_{number}_{name}" for number in range(1, LISTED + 1) for name in _OF_CANDIDATE),
)

_TYPES = {
    "space_group": pa.int16(),
    **dict.fromkeys(("probability", "second_probability", "score", "strain", "zero_error"), pa.float64()),
    **{f"p_{system}": pa.float64() for system in CRYSTAL_SYSTEMS},
}
# As answers.csv, with where each pattern comes from and the whole record as JSON.
ANSWERED = pa.schema(
    [
        *(pa.field(name, _TYPES.get(re.sub(r"candidate_\d_", "", name), pa.string())) for name in COLUMNS),
        pa.field("where", pa.string()),
        pa.field("record", pa.string()),
    ]
)


def record(one: Identified) -> Record:
    """All that is said of a pattern, in the types of JSON; docs/identify.md says what each entry is."""
    pattern = one.pattern
    first, second = one.order[:2] if one.candidates else (None, None)
    p = dict(zip(map(str, CRYSTAL_SYSTEMS), one.probabilities.round(4).tolist(), strict=True))
    found = one.explanation
    return {
        "pattern_id": pattern.pattern_id,
        "where": pattern.where,
        "wavelength": pattern.wavelength,
        "range": [round(float(pattern.two_theta[0]), 5), round(float(pattern.two_theta[-1]), 5)],
        "crystal_system": first and str(first),
        "probability": first and p[first],
        "second_system": second and str(second),
        "second_probability": second and p[second],
        "probabilities": p,
        "flag": str(one.flag),
        "reason": "; ".join(filter(None, (one.reason, *pattern.remarks))),
        "checks": [{"kind": str(c.kind), "outside": c.outside, "text": c.text} for c in one.checks],
        "remarks": list(pattern.remarks),
        "candidates": [_candidate(c) | _explains(found, number) for number, c in enumerate(one.candidates)],
        "second_phase": _candidate(one.second) if one.second else None,
        "lattices": _lattices(one.lattices),
        "peaks": _peaks(found),
        "not_told_apart": [
            {
                "candidates": [doubt.first, doubt.second],
                "cosine": round(doubt.cosine, 3),
                "range": list(doubt.window) if doubt.window else None,
                "elements": {str(doubt.first): list(doubt.only_first), str(doubt.second): list(doubt.only_second)},
                "text": doubt.text,
            }
            for doubt in (found.doubts if found else ())
        ],
    }


def _lattices(found: Sequence[Lattice]) -> list[Record]:
    """The best lattice of each family, the best first."""
    best: dict[Family, Lattice] = {}
    for one in found:
        best.setdefault(one.family, one)
    return [
        {
            "family": one.family.name.lower(),
            "centring": one.centring,
            "cell": [round(value, 4) for value in one.cell],
            "zero_error": round(one.zero_error, 4),
            "score": round(one.score, 2),
            "lines": one.lines,
        }
        for one in best.values()
    ]


def _candidate(one: Candidate) -> Record:
    return {
        "formula": one.formula,
        "space_group": one.space_group,
        "crystal_system": str(one.crystal_system),
        "id": one.material_id,
        "source": one.source or None,
        "made": one.made or None,
        "score": round(one.score, 5),
        "probability": round(one.probability, 5),
        "strain": round(one.strain, 5),
        "zero_error": round(one.zero_error, 5),
        "reciprocal_cell": one.reciprocal.round(7).tolist(),
    }


def _explains(found: Explanation | None, number: int) -> Record:
    if found is None:
        return {}
    return {"peaks_explained": int(found.explained[number].sum()), "lines_in_range": len(found.lines[number].two_theta)}


def _peaks(found: Explanation | None) -> list[Record]:
    """Each peak, with the candidates (from 1) that explain it: none if the list is empty."""
    if found is None:
        return []
    peaks = found.peaks
    return [
        {
            "two_theta": round(float(peaks.position[k]), 4),
            "height": round(float(peaks.height[k]), 4),
            "fwhm": None if np.isnan(peaks.fwhm[k]) else round(float(peaks.fwhm[k]), 4),
            "candidates": (np.flatnonzero(found.explained[:, k]) + 1).tolist(),
        }
        for k in range(len(peaks.position))
    ]


def row(said: Mapping[str, Any]) -> list[Any]:
    """A record as a row under :data:`COLUMNS`."""
    names = ("pattern_id", "crystal_system", "probability", "second_system", "second_probability")
    candidates: Sequence[Mapping[str, Any]] = said["candidates"][:LISTED]
    empty: list[Mapping[str, Any]] = [{}] * (LISTED - len(candidates))
    return [
        *(said[name] for name in names),
        *(said["probabilities"][system] for system in CRYSTAL_SYSTEMS),
        *(said["flag"], said["reason"]),
        *(one.get(name) for one in (*candidates, *empty) for name in _OF_CANDIDATE),
    ]


def tables(said: Iterable[Mapping[str, Any]], rows: int = 1000) -> Iterator[pa.Table]:
    """Records as tables under :data:`ANSWERED`, so many rows at a time."""
    rest = iter(said)
    while part := list(islice(rest, rows)):
        cells = [[*row(one), one["where"], json.dumps(one, ensure_ascii=False)] for one in part]
        columns = [
            pa.array(values, field.type) for values, field in zip(zip(*cells, strict=True), ANSWERED, strict=True)
        ]
        yield pa.Table.from_arrays(columns, schema=ANSWERED)
