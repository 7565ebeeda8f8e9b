"""What ideal patterns take as they become more: simulate, preprocess and a training, each as it is started by hand.

    python -m benchmarks.scale STRUCTURES [--numbers 10000 100000 1000000] [--points 1024] [--folder DIR]

STRUCTURES is a table that collect_structures writes. Each number of patterns is of variants of these: the same
formulas, cells larger or smaller by up to 2 %. 140 of them are measured by the virtual diffractometer, as there is no
training without imperfect patterns. The network is tiny, and sees each pattern once.

For each stage and number: peak memory of its processes, looked at twenty times a second, without and with the
files that it maps (anonymous and whole PSS; the system takes mapped pages back where others need room); processors'
time and wall time, what starting costs (a run of ten times fewer patterns than the first) taken off, and bytes written,
a pattern. Then the ratios of each number to the first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from imitation_refinement.data.contracts import PATTERNS, STRUCTURES, read_table, written
from imitation_refinement.progress import progress
from imitation_refinement.running.stage import exit_on_input_error

ROOT = Path(__file__).parents[1]
SPECIMENS = 140
STRAIN = 0.02
INTERVAL_S = 0.05
STAGES = ("simulate", "preprocess", "pretrain_classifier")


@dataclass(frozen=True)
class Cost:
    """Of a stage.

    Attributes:
        own: peak memory without mapped files [bytes].
        memory: with them [bytes].
        cpu: processors' time [s].
        wall: by the clock [s].
        size: written [bytes].
    """

    own: int
    memory: int
    cpu: float
    wall: float
    size: int


def structures(source: pa.Table, number: int, path: Path) -> None:
    """So many variants, each with its parent's formula: the cell changed alike in all directions."""
    rng = np.random.default_rng(0)

    def tables() -> Iterator[pa.Table]:
        for copy, start in enumerate(range(0, number, len(source))):
            part = source.slice(0, min(len(source), number - start))
            factors = 1 + rng.uniform(-STRAIN, STRAIN, len(part))
            cells = part["lattice"].combine_chunks().flatten().to_numpy().reshape(-1, 9) * factors[:, None]
            ids = [f"{name}#{copy}" for name in part["material_id"].to_pylist()]
            place = {name: part.schema.get_field_index(name) for name in ("lattice", "material_id")}
            part = part.set_column(place["lattice"], STRUCTURES.field("lattice"), pa.array(list(cells)))
            yield part.set_column(place["material_id"], STRUCTURES.field("material_id"), pa.array(ids)).cast(STRUCTURES)

    for _ in progress(written(path, STRUCTURES, tables(), number), "variants", number, "structures"):
        pass


def specimens(source: pa.Table, path: Path) -> None:
    """Structures that are still to be measured, of as many materials as there are."""
    some = source.take(np.linspace(0, len(source) - 1, SPECIMENS).astype(int))
    given = {name: some[name] for name in PATTERNS.names if name in some.column_names}
    given |= {"pattern_id": some["material_id"], "origin": pa.array(["virtual"] * len(some))}
    columns = [given.get(field.name, pa.nulls(len(some), field.type)) for field in PATTERNS]
    pq.write_table(pa.table(columns, schema=PATTERNS), path)


def commands(folder: Path, points: int) -> dict[str, list[object]]:
    """Each stage's command line; what it writes is in a folder called so."""
    made, dataset = folder / "simulate", folder / "preprocess"
    return {
        "simulate": [
            *("--structures", folder / "structures", "--patterns", folder / "specimens"),
            *("--ideal", made / "ideal", "--imperfect", made / "imperfect", "--grid-points", points),
        ],
        "preprocess": [
            *("--ideal", made / "ideal", "--imperfect", made / "imperfect"),
            *("--ideal-dataset", dataset / "ideal", "--imperfect-dataset", dataset / "imperfect"),
            *("--manifest", dataset / "manifest.csv", "--rejected", dataset / "rejected.csv"),
        ],
        "pretrain_classifier": [
            *("--ideal-dataset", dataset / "ideal", "--classifier", folder / "pretrain_classifier" / "c.safetensors"),
            *("--network-depths", 1, 1, "--network-widths", 8, 8, "--network-embedding", 8, "--network-stem-stride", 8),
            *("--optimiser-epochs", 1, "--optimiser-batch-size", 64, "--optimiser-device", "cpu"),
        ],
    }


def run(stage: str, words: Sequence[object], folder: Path) -> Cost:
    """A stage as it is started by hand, untracked."""
    (folder / stage).mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    command = [sys.executable, "-m", f"components.{stage}", *map(str, words)]
    own = whole = 0
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        cpu = 0.0
        while process.poll() is None:
            anonymous, memory, spent = used(process)
            own, whole, cpu = max(own, anonymous), max(whole, memory), max(cpu, spent)
            time.sleep(INTERVAL_S)
        wall = time.monotonic() - started
        if process.returncode:
            log.seek(0)
            sys.exit(log.read()[-4000:].decode(errors="replace") + f"\n{stage} failed")
    size = sum(path.stat().st_size for path in (folder / stage).rglob("*") if path.is_file())
    return Cost(own, whole, cpu, wall, size)


def used(process: psutil.Process) -> tuple[int, int, float]:
    """Anonymous and whole PSS [bytes] and processors' time [s] of a process and those that it started."""
    anonymous = whole = 0
    cpu = 0.0
    with suppress(psutil.NoSuchProcess):
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, OSError):  # it has just ended
                told = dict(
                    line.split(":") for line in Path(f"/proc/{one.pid}/smaps_rollup").read_text().splitlines()[1:]
                )
                anonymous += 1024 * int(told["Pss_Anon"].split()[0])
                whole += 1024 * int(told["Pss"].split()[0])
                times = one.cpu_times()
                cpu += times.user + times.system
    return anonymous, whole, cpu


def measured(source: pa.Table, number: int, points: int, place: Path | None) -> dict[str, Cost]:
    """All stages with so many patterns; what they write goes at the end."""
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        structures(source, number, folder / "structures")
        specimens(source, folder / "specimens")
        return {stage: run(stage, words, folder) for stage, words in commands(folder, points).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", type=Path)
    parser.add_argument("--numbers", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--folder", type=Path, help="for what is written; the one for temporary files by default")
    options = parser.parse_args()
    source = read_table(options.structures, STRUCTURES)
    first, *_ = options.numbers
    start = measured(source, first // 10, options.points, options.folder)
    print(f"{len(os.sched_getaffinity(0))} cores; load: {os.getloadavg()[0]:.1f}; {options.points} points")
    print("| stage | patterns | own memory, with mapped files [MB] | CPU, wall [ms] | bytes, a pattern | ratios |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    found: dict[str, list[tuple[float, ...]]] = {stage: [] for stage in STAGES}
    for number in options.numbers:
        for stage, cost in measured(source, number, options.points, options.folder).items():
            more = number - first // 10
            cpu, wall = (
                1e3 * (a - b) / more for a, b in ((cost.cpu, start[stage].cpu), (cost.wall, start[stage].wall))
            )
            row = (cost.own / 1e6, cost.memory / 1e6, cpu, wall, cost.size / number)
            found[stage].append(row)
            ratios = ", ".join(f"{now / then:.2f}" for now, then in zip(row, found[stage][0], strict=True))
            own, whole, *_, size = map(round, row)
            print(f"| {stage} | {number:,} | {own}, {whole} | {cpu:.3f}, {wall:.3f} | {size} | {ratios} |", flush=True)
    print(f"load afterwards: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
