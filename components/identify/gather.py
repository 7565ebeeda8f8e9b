"""Gathers the answers of all shards in one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.identify.stage import counted
from imitation_refinement.answer.record import ANSWERED
from imitation_refinement.data.contracts import parts as parts_of
from imitation_refinement.data.contracts import read_batches, write_rejected, written
from imitation_refinement.errors import InputError
from imitation_refinement.options import StageConfig
from imitation_refinement.running.stage import Stage
from imitation_refinement.running.tracking import Tracker

ROWS = 10_000  # at a time


class GatherConfig(StageConfig):
    """There is nothing to choose."""


def run(paths: dict[str, Any], config: GatherConfig, tracker: Tracker) -> str:
    """Writes the rows of all shards, one shard after the other."""
    counts: dict[str, Counter[str]] = {"flag": Counter(), "crystal_system": Counter()}

    def batches() -> Iterator[pa.Table]:
        for path in paths["answers"]:
            for batch in read_batches(path, ANSWERED, ROWS):
                for name, counter in counts.items():
                    for found in pc.value_counts(batch[name]).to_pylist():
                        counter[found["values"]] += found["counts"]
                yield pa.Table.from_batches([batch], schema=ANSWERED)

    number = sum(pq.read_metadata(part).num_rows for path in paths["answers"] for part in parts_of(path))
    for _ in written(paths["gathered"], ANSWERED, batches(), number):
        pass
    tables = [pd.read_csv(path, keep_default_na=False) for path in paths["rejected"]]
    rejected = [InputError(*row) for table in tables for row in table.to_numpy().tolist()]
    write_rejected(paths["all_rejected"], rejected)
    systems = {f"system_{name}": n for name, n in counts["crystal_system"].items() if name}
    tracker.log_metrics({**counted(counts["flag"]), **systems, "rejected": len(rejected)})
    tracker.log_artifact(paths["all_rejected"], name="rejected.csv")
    return f"{counts['flag'].total()} patterns of {len(paths['answers'])} shards, {counts['flag']['']} with an answer"


STAGE = Stage(
    name="gather_answers",
    summary="Gathers the answers of all shards in one table.",
    inputs={"answers": "of each shard, as identify writes them (Parquet)", "rejected": "of each shard (CSV)"},
    outputs={"gathered": "all rows, as of one shard (Parquet)", "all_rejected": "what can't be used, and why (CSV)"},
    config=GatherConfig,
    run=run,
    lists=frozenset({"answers", "rejected"}),
)
