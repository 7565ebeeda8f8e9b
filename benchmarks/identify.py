"""What the answers of a model are worth, on patterns whose crystal systems and formulas are known.

    python benchmarks/identify.py patterns.parquet --model FOLDER
    python benchmarks/identify.py FOLDER_WITH_MANIFEST --model FOLDER --library structures.parquet

Two protocols. *Known*: the whole library. *Unseen*: without the library's entries of the pattern's own formula (or one
that differs in hydrogen alone), and only patterns whose formula no network has learnt; train with `release --keep-out
PATTERNS` for these. `--library` searches in another library, of a STRUCTURES table, so that a model that was trained
with --keep-out can be tried under both. Intervals are Wilson's, 95 %. Calculated patterns are left out.

Beside the model: its networks alone, its search alone, the entry of the largest cosine (nearest neighbour), and the
most frequent crystal system of the patterns themselves (majority).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from worth import phase_places, share, verdicts

from components.collect_structures.imperfect import read_imperfect
from imitation_refinement.answer.fusion import Opinions
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.pattern import is_calculated, prepare
from imitation_refinement.answer.search import Search
from imitation_refinement.errors import InputError
from imitation_refinement.learning.models import learnt
from imitation_refinement.progress import progress
from imitation_refinement.results.metrics import expected_calibration_error
from imitation_refinement.running.stage import exit_on_input_error
from imitation_refinement.xrd.crystal import CLASS_INDEX, N_CLASSES
from pipelines.library import Materials, read_library

PARTS = (1.0, 0.9, 0.75, 0.5)  # of the patterns that are answered, the surest first


def row(protocol: str, name: str, p: NDArray[np.float64], truth: NDArray[np.int_]) -> None:
    """Prints what probabilities, shape (n, 7), are worth."""
    cells = [
        *map(share, verdicts(p, truth)),
        f"{expected_calibration_error(p, truth):.3f}" if len(truth) else "–",
    ]
    print(f"| {protocol:6} | {name:16} | {len(truth):5} | " + " | ".join(f"{cell:18}" for cell in cells) + " |")


def coverage(protocol: str, p: NDArray[np.float64], truth: NDArray[np.int_]) -> None:
    """Prints accuracy where only the surest are answered."""
    surest = np.argsort(-p.max(axis=1))
    right = (p.argmax(axis=1) == truth)[surest]
    cells = [f"{part:.0%}: {100 * right[: max(1, round(part * len(right)))].mean():.1f}" for part in PARTS]
    print(f"{protocol}, accuracy where only the surest are answered: " + ", ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", type=Path, help="a table with labels and formulas, or a folder with manifest.csv")
    parser.add_argument("--model", type=Path, help="that release made; that of the software without it")
    parser.add_argument("--library", type=Path, help="a STRUCTURES table, or a library, to search in instead")
    parser.add_argument("--number", type=int, help="so many patterns, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = Model.read(options.model)
    if options.library:
        model = replace(model, search=Search(read_library(options.library), model.search.ranking))
    library = model.search.library
    rejected: list[InputError] = []
    rows = [r for r in read_imperfect(options.patterns, rejected) if r["crystal_system"] and r["formula"]]
    if options.number and options.number < len(rows):
        chosen = np.random.default_rng(options.seed).choice(len(rows), options.number, replace=False)
        rows = [rows[i] for i in np.sort(chosen)]
    rows = [r for r in rows if not _left_out(r, rejected)]
    for error in rejected:
        print(f"left out: {error}")
    if not rows:
        problem = "has no pattern that can be used with its crystal system and formula."
        raise InputError(options.patterns, problem, "Give these in its columns.")
    truth = np.array([CLASS_INDEX[r["crystal_system"]] for r in rows])
    groups = np.array([r.get("space_group") or 0 for r in rows])
    materials = Materials.of(library, [r["formula"] for r in rows], groups)
    new = ~learnt(model.networks, [r["formula"] for r in rows])
    answers: dict[str, list[NDArray[np.float64]]] = {"known": [], "unseen": []}
    votes: dict[str, list[NDArray[np.float64]]] = {"known": [], "unseen": []}
    nearest: dict[str, list[NDArray[np.float64]]] = {"known": [], "unseen": []}
    networks, listed, times = [], [], []
    ids = {name: i for i, name in enumerate(library.material_id.tolist())}
    for i, r in enumerate(progress(rows, "identify", unit="patterns")):
        x, y, wavelength = np.asarray(r["two_theta"]), np.asarray(r["intensity"]), float(r["wavelength"])
        start = time.process_time()
        pattern = prepare(x, y, wavelength)
        matched = model.search.matched(pattern)
        network = model.ensemble.log_probabilities(x, y, wavelength)
        for protocol, allowed in (("known", np.ones(len(library), bool)), ("unseen", ~materials.own[i])):
            answer = model.search.answer(model.search.fitted(pattern, allowed, matched))
            opinions = Opinions.of(network, answer)
            answers[protocol].append(model.fusion(opinions))
            votes[protocol].append(answer.systems)
            first = int(np.where(allowed, matched[0], -1).argmax())
            nearest[protocol].append(np.eye(N_CLASSES)[library.system[first]])
            if protocol == "known":
                listed.append([ids[c.material_id] for c in answer.candidates])
                times.append(time.process_time() - start)
        networks.append(np.exp(network))
    print(f"{len(rows)} patterns of {options.patterns}; library of {len(library)}, {library.digest[:16]}")
    print(f"{int(new.sum())} of them of materials that no network has learnt: these are *unseen*\n")
    titles = ("crystal system, %", "first two", "families", "calibration error")
    print(f"| {'':6} | {'':16} | {'n':>5} | " + " | ".join(f"{title:18}" for title in titles) + " |")
    for protocol, which in (("known", np.ones(len(rows), bool)), ("unseen", new)):
        named = {
            "answer": answers[protocol],
            "search alone": votes[protocol],
            "networks alone": networks,
            "nearest": nearest[protocol],
        }
        for name, p in named.items():
            row(protocol, name, np.stack(p)[which], truth[which])
        frequency = np.bincount(truth[which], minlength=N_CLASSES) / max(1, which.sum())
        row(protocol, "majority", np.tile(frequency, (int(which.sum()), 1)), truth[which])
    print()
    for protocol, which in (("known", np.ones(len(rows), bool)), ("unseen", new)):
        if which.any():
            coverage(protocol, np.stack(answers[protocol])[which], truth[which])
    places, inside = phase_places(listed, materials.right, library.phase)
    print(f"phase in the library: {inside.sum()}; first {share(places == 0)}, among ten {share(places < 10)}")
    print(f"seconds a pattern, search and networks: median {np.median(times):.2f}, 90 % {np.quantile(times, 0.9):.2f}")


def _left_out(r: dict, rejected: list[InputError]) -> bool:
    """Whether a pattern can't be asked; the reason goes to ``rejected``."""
    if is_calculated(r["intensity"]):
        rejected.append(InputError(r["pattern_id"], "is calculated, not measured: it has no noise."))
        return True
    try:
        prepare(r["two_theta"], r["intensity"], float(r["wavelength"]))
    except InputError as error:
        rejected.append(InputError(r["pattern_id"], error.problem, error.remedy))
        return True
    return False


if __name__ == "__main__":
    with exit_on_input_error():
        main()
