"""The collect_structures stage: structures and imperfect patterns from where they are into checked tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from components.collect_structures.builtin import builtin_materials
from components.collect_structures.config import CollectConfig
from components.collect_structures.crystals import Material
from components.collect_structures.imperfect import read_imperfect
from components.collect_structures.specimens import hold_out, specimen_row
from components.collect_structures.structures import read_structures
from imitation_refinement.crystal import CRYSTAL_SYSTEMS
from imitation_refinement.errors import InputError
from imitation_refinement.progress import say
from imitation_refinement.stage import Stage
from imitation_refinement.tables import PATTERNS, STRUCTURES, write_rejected, write_table
from imitation_refinement.tracking import Tracker


def collect(
    structures: Path | None, imperfect: Path | None, config: CollectConfig
) -> tuple[list[Material], list[dict[str, Any]], list[InputError]]:
    """The library, the rows of the PATTERNS contract, and what was left out.

    Raises:
        InputError: if a source gives nothing.
    """
    rejected: list[InputError] = []
    given = read_structures(structures, rejected) if structures else None
    if imperfect:
        rows = read_imperfect(imperfect, rejected)
        library = given if given is not None else builtin_materials(config.n_structures, 0, config.seed)[0]
        return library, rows, rejected
    if given is not None:
        library, specimens = hold_out(given, config.n_patterns, config.seed)
        if not specimens:
            raise InputError(
                structures, f"has too few structures ({len(given)}) to keep specimens from.", "Give more, or patterns."
            )
    else:
        library, specimens = builtin_materials(config.n_structures, config.n_patterns, config.seed)
    return library, [specimen_row(m) for m in specimens], rejected


def run(paths: dict[str, Any], config: CollectConfig, tracker: Tracker) -> None:
    """Collects, checks and writes both tables and the list of what was left out."""
    library, rows, rejected = collect(paths.get("structures"), paths.get("imperfect"), config)
    write_rejected(paths["rejected"], rejected)
    write_table(paths["collected_structures"], _columns([m.row() for m in library]), STRUCTURES)
    write_table(paths["collected_patterns"], _columns(rows), PATTERNS)
    counts = Counter(m.crystal_system for m in library)
    say(f"structures: {len(library)} (" + ", ".join(f"{counts[system]} {system}" for system in CRYSTAL_SYSTEMS) + ")")
    say(f"imperfect patterns: {len(rows)}; left out: {len(rejected)}, listed in {paths['rejected']}")
    tracker.log_metrics({"structures": len(library), "patterns": len(rows), "rejected": len(rejected)})


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


STAGE = Stage(
    name="collect_structures",
    summary="Collects crystal structures and imperfect patterns into checked tables; what can't be used is listed.",
    inputs={
        "structures": "Parquet table or folder of CIFs; built-in structures without it",
        "imperfect": "Parquet table or folder with manifest.csv, .xy and .cif files; virtual specimens without it",
    },
    outputs={
        "collected_structures": "the structures, Parquet",
        "collected_patterns": "the imperfect patterns, Parquet",
        "rejected": "what was left out and why, CSV",
    },
    config=CollectConfig,
    run=run,
    optional=frozenset({"structures", "imperfect"}),
)
