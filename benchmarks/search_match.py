"""How good and how fast the search is, on patterns whose crystal system, formula and space group are known.

    python benchmarks/search_match.py patterns.parquet --library structures.parquet

Both are what collect_structures writes; a library that pipelines.library wrote does, too. Two protocols: *known*, with
all entries, and *unseen*, without those of the pattern's own formula (or one that differs in hydrogen alone). Where the
phase itself, its formula and space group, is in the library: how often it is first, and among ten phases. Intervals are
Wilson's, 95 %. Calculated patterns are left out. Set NUMBA_NUM_THREADS=1 for times on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from worth import phase_places, share, verdicts

from imitation_refinement.answer.library import Library
from imitation_refinement.answer.pattern import is_calculated, prepare
from imitation_refinement.answer.ranking import Ranking
from imitation_refinement.answer.search import Answer, Search
from imitation_refinement.data.contracts import PATTERNS, parts, read_table
from imitation_refinement.errors import InputError
from imitation_refinement.progress import progress
from imitation_refinement.results.metrics import expected_calibration_error
from imitation_refinement.running.stage import exit_on_input_error
from imitation_refinement.xrd.crystal import CLASS_INDEX
from pipelines.library import Materials, read_library


def table(answers: dict[str, list[Answer]], truth: np.ndarray, materials: Materials, library: Library) -> None:
    """Prints what the answers under both protocols are worth."""
    for protocol, found in answers.items():
        votes = np.stack([answer.systems for answer in found])
        names = ("crystal system", "system among two", "crystal family")
        for name, right in zip(names, verdicts(votes, truth), strict=True):
            print(f"| {protocol:6} | {name:28} | {share(right)} |")
        print(f"| {protocol:6} | {'calibration error, votes':28} | {expected_calibration_error(votes, truth):5.3f} |")
    listed = [[c.row for c in answer.candidates] for answer in answers["known"]]
    places, inside = phase_places(listed, materials.right, library.phase)
    print(f"| known  | {'phase first':28} | {share(places == 0)} |")
    print(f"| known  | {'phase among ten':28} | {share(places < 10)} |")
    sure = np.array([answer.candidates[0].probability for answer in answers["known"]])
    hit = np.zeros(len(sure), bool)
    hit[np.flatnonzero(inside)[places == 0]] = True
    print(f"| known  | {'first is the phase':28} | {share(hit)}; mean probability {100 * sure.mean():.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", type=Path, help="PATTERNS table (Parquet)")
    parser.add_argument("--library", type=Path, required=True, help="STRUCTURES table, or a library")
    parser.add_argument("--ranking", type=Path, help="coefficients; those of the software without it")
    parser.add_argument("--number", type=int, help="so many patterns, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    library = read_library(options.library)
    patterns = pa.concat_tables([read_table(part, PATTERNS) for part in parts(options.patterns)])
    needed = [patterns[name].is_valid() for name in ("two_theta", "wavelength", "formula", "crystal_system")]
    patterns = patterns.filter(np.logical_and.reduce([np.asarray(mask) for mask in needed]))
    if options.number and options.number < len(patterns):
        drawn = np.random.default_rng(options.seed).choice(len(patterns), options.number, replace=False)
        patterns = patterns.take(np.sort(drawn))
    columns = patterns.select(["pattern_id", "wavelength", "formula", "space_group", "crystal_system"]).to_pylist()
    groups = np.array([row["space_group"] or 0 for row in columns])
    materials = Materials.of(library, [row["formula"] for row in columns], groups)
    search = Search(library, Ranking.read(options.ranking))
    answers: dict[str, list[Answer]] = {"known": [], "unseen": []}
    used, times, left_out = [], [], []
    for i in progress(range(len(columns)), "search", unit="patterns"):
        x, y = (patterns[name][i].values.to_numpy().astype(float) for name in ("two_theta", "intensity"))
        name, wavelength = columns[i]["pattern_id"], columns[i]["wavelength"]
        if is_calculated(y):
            left_out.append(f"{name}: calculated")
            continue
        try:
            prepare(x, y, wavelength, name)
        except InputError as error:
            left_out.append(str(error))
            continue
        start = time.process_time()
        answers["known"].append(search(x, y, wavelength, where=name))
        times.append(1000 * (time.process_time() - start))
        answers["unseen"].append(search(x, y, wavelength, ~materials.own[i], where=name))
        used.append(i)
    print(f"{len(library)} entries, {library.digest[:16]}; {len(used)} patterns")
    for text in left_out:
        print(f"left out: {text}")
    if not used:
        problem = "has no pattern that can be used with its crystal system and formula."
        raise InputError(options.patterns, problem, "Give these in its columns.")
    truth = np.array([CLASS_INDEX[columns[i]["crystal_system"]] for i in used])
    table(answers, truth, Materials(materials.right[used], materials.own[used]), library)
    print(f"time a pattern: median {np.median(times[1:]):.0f} ms, 90 % {np.quantile(times[1:], 0.9):.0f} ms")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
