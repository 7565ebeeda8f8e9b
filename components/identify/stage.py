"""The identify stage: which crystal system and which phase, of the patterns of a folder or a table, or of a shard."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.identify.config import IdentifyConfig
from imitation_refinement.answer.batch import Asked, answer_all
from imitation_refinement.answer.domain import Flag
from imitation_refinement.answer.journal import Journal
from imitation_refinement.answer.record import ANSWERED, tables
from imitation_refinement.data.contracts import write_rejected, written
from imitation_refinement.errors import InputError
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import Tracker


def run(paths: dict[str, Any], config: IdentifyConfig, tracker: Tracker) -> str:
    """Answers one shard; an attempt that was killed in this place is gone on with."""
    start = time.monotonic()
    if not paths["patterns"].exists():
        raise InputError(paths["patterns"], "there is no such file or folder.", "Check what patterns names.")
    asked = Asked.of(
        paths.get("model"), paths.get("library"), config.wavelength, config.elements, config.scan, config.axis
    )
    target: Path = paths["answers"]
    unfinished = target.with_name(f"{target.name}.journal")
    flags: Counter[str] = Counter()
    with Journal(unfinished, asked.fingerprint()) as journal:
        shard = (config.shard, config.shards)
        keys, kept = answer_all([str(paths["patterns"])], asked, journal, config.processes or None, shard)
        rejected, number = [], 0
        for entry in journal.entries(keys):
            rejected += [InputError(*why) for why in entry.rejected]
            number += len(entry.found)

        def records() -> Iterator[dict[str, Any]]:
            for entry in journal.entries(keys):
                for one in entry.found:
                    flags[one["record"]["flag"]] += 1
                    yield one["record"]

        for _ in written(target, ANSWERED, tables(records()), number):
            pass
    write_rejected(paths["rejected"], rejected)
    unfinished.unlink()
    rate = (len(keys) - kept) / (time.monotonic() - start)
    tracker.log_metrics({**counted(flags), "rejected": len(rejected), "files_per_s": rate})
    return f"{flags.total()} patterns answered, {flags[Flag.ANSWERED]} of them surely; {len(rejected)} left out"


def counted(flags: Counter[str]) -> dict[str, float]:
    """How many patterns have which flag, as metrics."""
    return {"patterns": flags.total(), **{flag.word: flags[flag] for flag in Flag}}


STAGE = Stage(
    name="identify",
    summary="Says of which crystal system and phase patterns are, or why it can't be said.",
    inputs={
        "patterns": "a pattern file, a folder of them, or a Parquet table",
        "model": "a model that `imitation-refinement release` made; that of the software without it",
        "library": "a library to search in instead of the model's",
    },
    outputs={
        "answers": "a row a pattern: the columns of answers.csv, its file, all that is said of it as JSON (Parquet)",
        "rejected": "what can't be used, and why (CSV)",
    },
    config=IdentifyConfig,
    run=run,
    optional=frozenset({"model", "library"}),
)
