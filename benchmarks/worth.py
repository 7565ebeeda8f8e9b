"""What answers are worth, for the benchmarks that ask: labelled patterns, shares with their intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from components.collect_structures.imperfect import read_imperfect
from components.collect_structures.labels import check_agreement, named, parse_space_group
from imitation_refinement.data.contracts import open_table
from imitation_refinement.data.formats.parquet import EXTENSIONS as TABLES
from imitation_refinement.data.patterns import MANIFEST, read_manifest, read_patterns
from imitation_refinement.errors import InputError
from imitation_refinement.results.wording import percent, share_interval

FAMILY = np.array([0, 1, 2, 3, 4, 4, 5])  # trigonal and hexagonal together

Right = NDArray[np.bool_]


class Labelled(NamedTuple):
    """Patterns to ask about, and those that can't be asked.

    Attributes:
        rows: ``pattern_id``, ``two_theta`` [°], ``intensity``, ``wavelength`` [Å], ``crystal_system``, ``formula`` in
            its normal form and ``space_group``, the last two None where they are unknown.
        refused: why patterns can't be read.
        unlabelled: patterns of unknown crystal system.
    """

    rows: list[dict[str, Any]]
    refused: list[InputError]
    unlabelled: list[str]


def read_labelled(path: Path) -> Labelled:
    """The patterns of a table, of a folder with manifest.csv, or of files, with what they are of.

    Labels are those that the rows say, or that a structure beside them gives. A structure that can't be used costs
    nothing where the labels are said.

    Raises:
        InputError: if the path can't be read at all.
    """
    errors: list[InputError] = []
    rows: list[dict[str, Any]] = []
    try:
        rows = read_imperfect(path, errors)
    except InputError:
        if not errors:
            raise
    refused: list[InputError] = []
    if errors:
        patterns, refused = read_patterns(path)
        have, groups = {row["pattern_id"] for row in rows}, _space_groups(path)
        for p in patterns:
            if p.pattern_id in have:
                continue
            have.add(p.pattern_id)
            try:
                formula = named(p.formula, p.where) if p.formula else None
                group = parse_space_group(groups.get(p.pattern_id), p.where)
                system = check_agreement(group, p.crystal_system, p.where)
            except InputError as error:
                print(f"label not read: {error}")
                formula, group, system = None, None, p.crystal_system
            columns = {"two_theta": p.two_theta, "intensity": p.intensity, "wavelength": p.wavelength}
            labels = {"crystal_system": system, "formula": formula, "space_group": group}
            rows.append({"pattern_id": p.pattern_id} | columns | labels)
    labelled = [row for row in rows if row["crystal_system"]]
    return Labelled(labelled, refused, [row["pattern_id"] for row in rows if not row["crystal_system"]])


def _space_groups(path: Path) -> dict[str, object]:
    """What a manifest or a table says of each pattern's space group."""
    if (path / MANIFEST).is_file():
        return {row.pattern_id: row.space_group for row in read_manifest(path)}
    if path.suffix.lower() not in TABLES:
        return {}
    table = open_table(path)
    if not {"pattern_id", "space_group"} <= set(table.column_names):
        return {}
    return dict(zip(table["pattern_id"].to_pylist(), table["space_group"].to_pylist(), strict=True))


def share(right: ArrayLike) -> str:
    """A share in %, with Wilson's 95 % interval; a dash where there is nothing."""
    found = counted(right)
    return f"{percent(found['share'])} ({share_interval(found['low'], found['high'])})" if found["n"] else "–"


def counted(right: ArrayLike) -> dict[str, Any]:
    """How many are right, of how many, the share and Wilson's 95 % interval of it, 0 to 1; None of nothing."""
    answers = np.asarray(right, bool)
    out = {"right": int(answers.sum()), "n": int(answers.size)}
    if not answers.size:
        return out | dict.fromkeys(("share", "low", "high"))
    interval = binomtest(out["right"], out["n"]).proportion_ci(method="wilson")
    return out | {"share": out["right"] / out["n"], "low": float(interval.low), "high": float(interval.high)}


def verdicts(p: NDArray[np.floating], truth: NDArray[np.integer]) -> tuple[Right, Right, Right]:
    """Whether probabilities, shape (n, 7), name the system first; among two; and its family first; shape (n,) each.

    Probabilities of 0 throughout are no answer, and a truth below 0 is unknown: neither is right.
    """
    order = np.argsort(-p, axis=1, kind="stable")
    given = (p.max(axis=1) > 0) & (truth >= 0)
    among_two = (order[:, :2] == truth[:, None]).any(axis=1)
    return given & (order[:, 0] == truth), given & among_two, given & (FAMILY[order[:, 0]] == FAMILY[truth])


def phase_places(listed: list[list[int]], right: Right, phase: NDArray[np.intp]) -> tuple[NDArray[np.intp], Right]:
    """Of patterns whose phase is in a library: its place among the candidates; and which patterns these are.

    Args:
        listed: the library's rows of each pattern's candidates, the most probable first.
        right: which of the library's entries are each pattern's phase, shape (patterns, entries).
        phase: a number for each entry's phase, shape (entries,).

    Returns:
        Places from 0, that of a phase not listed far beyond, shape (k,); whether it is in the library, (patterns,).
    """
    inside = right.any(axis=1)
    places = []
    for i in np.flatnonzero(inside):
        found = np.isin(phase[listed[i]], phase[right[i]]) if listed[i] else np.zeros(0, bool)
        places.append(int(found.argmax()) if found.any() else len(found) + 99)
    return np.array(places, np.intp), inside
