"""What the answers of a model are worth, on patterns whose crystal systems and formulas are known.

    python benchmarks/identify.py patterns.parquet --model FOLDER
    python benchmarks/identify.py FOLDER_WITH_MANIFEST --model FOLDER --library structures.parquet --output DIR

Two protocols. *Known*: the whole library. *Unseen*: without the library's entries of the pattern's own formula (or one
that differs in hydrogen alone), and only patterns whose formula no network has learnt; train with `release --keep-out
PATTERNS` for these, and with `--set whole_library=true` for both protocols by one model. `--library` searches in
another library, of a STRUCTURES table. `--window 12 51` cuts each pattern to these angles, as they are with copper
(1.5406 Å), before anything sees it.

Needed is each pattern's crystal system; one without a formula counts as *known* alone, one without formula or space
group not for the phase. Patterns that are calculated (no noise at all) are left out. One that can't be read or searched
is no answer and counts as wrong. Intervals are Wilson's, 95 %; the calibration error is of the patterns answered, in
brackets what it would be on average if every probability were true: of few patterns it is not 0.

Beside the model: its search, networks and lattices alone, the entry of the largest cosine (nearest neighbour), the most
frequent crystal system of the patterns themselves (majority); with `--parts` also the vote of the ten largest cosines,
the first of the networks, and, by a model with a refiner, the answer to the refined pattern. `--output` writes
results.json (every number), answers.csv (each pattern's probabilities by each of these), and calibration.png.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from worth import Labelled, counted, phase_places, read_labelled, share, verdicts

from imitation_refinement.answer.fusion import Opinions
from imitation_refinement.answer.lattice import lattices_of
from imitation_refinement.answer.library import REFERENCE
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.pattern import is_calculated, prepare
from imitation_refinement.answer.search import Search
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.errors import InputError
from imitation_refinement.files import output_folder, write_text
from imitation_refinement.learning.models import learnt
from imitation_refinement.progress import progress
from imitation_refinement.results.figures import Sureness, calibration_figure, save_figure
from imitation_refinement.results.metrics import accuracy_of_surest, coverage_accuracy, reliability
from imitation_refinement.running.stage import exit_on_input_error
from imitation_refinement.xrd.crystal import CLASS_INDEX, CRYSTAL_SYSTEMS, N_CLASSES
from imitation_refinement.xrd.grid import convert_two_theta
from imitation_refinement.xrd.lattices import Lattice
from pipelines.library import Materials, read_library

SURENESS = (1.0, 0.9, 0.75, 0.5)  # of the patterns that are answered, the surest first
PROTOCOLS = ("known", "unseen")
ANSWER, SEARCH, NETWORKS, LATTICE = "answer", "search alone", "networks alone", "lattice alone"
NEAREST, MAJORITY = "nearest", "majority"
TEN, ONE, REFINED = "vote of ten", "one network", "answer, refined"
COLORS = {"known": "#0B6BA8", "unseen": "#C8501E"}
Probabilities = dict[str, dict[str, NDArray[np.float64]]]  # by protocol and name, shape (n, 7), 0 where there is none


@dataclass
class Asked:
    """What a model said of n patterns.

    Attributes:
        p: probabilities.
        listed: rows of the library of each pattern's candidates under *known*, the most probable first.
        seconds: that each answer took, of those answered.
        refused: by pattern, why there is no answer.
    """

    p: Probabilities
    listed: list[list[int]]
    seconds: list[float]
    refused: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", type=Path, help="a table with labels and formulas, or a folder with manifest.csv")
    parser.add_argument("--model", type=Path, help="that release made; that of the software without it")
    parser.add_argument("--library", type=Path, help="a STRUCTURES table, or a library, to search in instead")
    parser.add_argument("--window", type=float, nargs=2, metavar=("FIRST", "LAST"), help="2θ [°] with copper")
    parser.add_argument("--parts", action="store_true", help="the parts of search and networks, too")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for all numbers and a figure")
    parser.add_argument("--number", type=int, help="so many patterns, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.window and not 0 <= options.window[0] < options.window[1] <= 180:
        raise InputError("--window", "is no range of 2θ.", "Give the first and the last angle, as 12 51.")
    if options.output:
        output_folder(options.output)
    model = Model.read(options.model)
    if options.library:
        model = replace(model, search=Search(read_library(options.library), model.search.ranking))
    given = read_labelled(options.patterns)
    rows = given.rows
    if options.number and options.number < len(rows):
        chosen = np.random.default_rng(options.seed).choice(len(rows), options.number, replace=False)
        rows = [rows[i] for i in np.sort(chosen)]
    calculated = [r["pattern_id"] for r in rows if is_calculated(r["intensity"])]
    rows = [r for r in rows if r["pattern_id"] not in set(calculated)]
    if not rows:
        raise InputError(options.patterns, "has no pattern of known crystal system.", "Give a column crystal_system.")
    if options.window:
        rows = [cut(r, *options.window) for r in rows]
    own, right = materials(model, rows)
    asked = ask(model, rows, own, options.parts)
    truth = np.array([CLASS_INDEX[r["crystal_system"]] for r in rows])
    unread = len(given.refused)
    new = np.array([bool(r["formula"]) for r in rows]) & ~learnt(model.networks, [r["formula"] or "" for r in rows])
    among = {"known": np.ones(len(rows), bool), "unseen": new}
    results: dict[str, Any] = {
        "patterns": str(options.patterns),
        "window": options.window,
        "model": dict(model.about),
        "networks": len(model.networks),
        "library": {"crystals": len(model.search.library), "digest": model.search.library.digest},
        "n": len(rows) + unread,
        "unlabelled": given.unlabelled,
        "calculated": calculated,
        "refused": asked.refused | {str(error.where): error.problem for error in given.refused},
        "protocols": {name: judged(asked.p[name], truth, among[name], unread) for name in PROTOCOLS},
        "phase": phase(asked.listed, right, model.search.library.phase),
        "seconds": {"median": float(np.median(asked.seconds)), "90 %": float(np.quantile(asked.seconds, 0.9))}
        if asked.seconds
        else None,
        "pattern_ids": [r["pattern_id"] for r in rows],
    }
    told(results, given, asked)
    if options.output:
        write_text(options.output / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
        write_text(options.output / "answers.csv", answers(rows, asked.p, among).to_csv(index=False))
        drawn = [
            Sureness(name, p[given_], truth[which][given_], COLORS[name])
            for name, which in among.items()
            if (given_ := (p := asked.p[name][ANSWER][which]).max(axis=1) > 0).any()
        ]
        if drawn:
            save_figure(calibration_figure(drawn), options.output / "calibration.png")


def cut(row: dict[str, Any], first: float, last: float) -> dict[str, Any]:
    """A pattern's points between two angles [°], as they are at :data:`REFERENCE`."""
    x = np.asarray(row["two_theta"], float)
    there = convert_two_theta(x, float(row["wavelength"]), REFERENCE)
    inside = (there >= first) & (there <= last)  # NaN, beyond the reach of that wavelength, is outside
    return row | {"two_theta": x[inside], "intensity": np.asarray(row["intensity"], float)[inside]}


def materials(model: Model, rows: list[dict[str, Any]]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which crystals of the library are of each pattern's material, and which are its phase, (patterns, crystals)."""
    own, right = (np.zeros((len(rows), len(model.search.library)), bool) for _ in range(2))
    said = np.flatnonzero([bool(r["formula"]) for r in rows])
    if len(said):
        groups = np.array([rows[i]["space_group"] or 0 for i in said])
        found = Materials.of(model.search.library, [rows[i]["formula"] for i in said], groups)
        own[said], right[said] = found.own, found.right
    return own, right


def ask(model: Model, rows: list[dict[str, Any]], own: NDArray[np.bool_], parts: bool) -> Asked:
    """All answers of a model, on all cores; what can't be asked has none."""
    also = [TEN, ONE, *([REFINED] if model.refiner else [])] if parts else []
    names = [ANSWER, SEARCH, NETWORKS, LATTICE, NEAREST, *also]
    p: Probabilities = {name: {by: np.zeros((len(rows), N_CLASSES)) for by in names} for name in PROTOCOLS}
    asked = Asked(p, [[] for _ in rows], [], {})
    for i, one in enumerate(progress(_answers(model, names, rows, own), "identify", len(rows), "patterns")):
        if isinstance(one, str):
            asked.refused[rows[i]["pattern_id"]] = one
            continue
        said, listed, seconds = one
        for protocol in PROTOCOLS:
            for by in names:
                p[protocol][by][i] = said[protocol][by]
        asked.listed[i] = listed
        asked.seconds.append(seconds)
    return asked


def _answers(model: Model, names: list[str], rows: list[dict[str, Any]], own: NDArray[np.bool_]) -> Iterator[Any]:
    """What comes of each pattern by :func:`_ask`, in order; of a single one here: a process takes seconds."""
    cores = min(len(os.sched_getaffinity(0)), len(rows))
    if cores == 1:
        _begin(model, names)
        yield from map(_ask, rows, own)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, context, initializer=_begin, initargs=(model, names)) as pool:
        yield from pool.map(_ask, rows, own, chunksize=4)


def _begin(model: Model, names: list[str]) -> None:
    """Readies a process that asks."""
    torch.set_num_threads(1)
    _asking.update(model=model, names=names)


_asking: dict[str, Any] = {}  # of a process


def _ask(r: dict[str, Any], own: NDArray[np.bool_]) -> tuple[dict[str, dict[str, Any]], list[int], float] | str:
    """What is said of a pattern under each protocol, its candidates, and the answer's time; or the problem."""
    model, names = _asking["model"], _asking["names"]
    library = model.search.library
    x, y, wavelength = np.asarray(r["two_theta"]), np.asarray(r["intensity"]), float(r["wavelength"])
    out: dict[str, dict[str, Any]] = {}
    listed, seconds, start = [], 0.0, time.process_time()
    try:
        pattern = prepare(x, y, wavelength, r["pattern_id"])
        matched = model.search.matched(pattern)
        network = model.ensemble.log_probabilities(x, y, wavelength)
        lattices = lattices_of(x, y, wavelength)
        lattice = model.lattice(lattices)
        for protocol, allowed in (("known", np.ones(len(library), bool)), ("unseen", ~own)):
            answer = model.search.answer(model.search.fitted(pattern, allowed, matched))
            cosine = np.where(allowed, matched[0], -1)
            ten = np.argsort(-cosine, kind="stable")[:10]
            out[protocol] = {
                ANSWER: model.fusion(Opinions.of(network, lattice, answer)),
                SEARCH: answer.systems,
                NETWORKS: np.exp(network),
                LATTICE: np.exp(lattice),
                NEAREST: np.eye(N_CLASSES)[library.system[ten[0]]],
                TEN: np.bincount(library.system[ten], minlength=N_CLASSES) / len(ten),
            }
            if protocol == "known":
                listed = [c.row for c in answer.candidates]
                seconds = time.process_time() - start
    except InputError as error:
        return error.problem
    if ONE in names:
        first = replace(model.ensemble, networks=model.ensemble.networks[:1]).log_probabilities(x, y, wavelength)
        for protocol in PROTOCOLS:
            out[protocol][ONE] = np.exp(first)
    if REFINED in names:
        for protocol, found in zip(PROTOCOLS, of_refined(model, r, ~own, lattices), strict=True):
            out[protocol][REFINED] = found
    return out, listed, seconds


def of_refined(
    model: Model, r: dict[str, Any], left: NDArray[np.bool_], lattices: list[Lattice]
) -> NDArray[np.float64]:
    """The answers to a pattern that was refined first, with the whole library and with what is left, shape (2, 7).

    Its lines are moved by the zero error of the first of the pattern's own ``lattices``, as those of `refine` are. Of 0
    where nothing is left of the pattern: that is no answer.
    """
    x, wavelength = np.asarray(r["two_theta"], float), float(r["wavelength"])
    pattern = Pattern(r["pattern_id"], x, np.asarray(r["intensity"], float), wavelength, where=r["pattern_id"])
    try:
        refined = model.refine(pattern, lattices[0].zero_error if lattices else None).intensity
        prepared = prepare(x, refined, wavelength, r["pattern_id"])
        matched = model.search.matched(prepared)
        network = model.ensemble.log_probabilities(x, refined, wavelength)
        lattice = model.lattice(lattices_of(x, refined, wavelength))
        found = [model.search.answer(model.search.fitted(prepared, allowed, matched)) for allowed in (None, left)]
    except InputError:
        return np.zeros((len(PROTOCOLS), N_CLASSES))
    return np.stack([model.fusion(Opinions.of(network, lattice, answer)) for answer in found])


def judged(
    named: dict[str, NDArray[np.float64]], truth: NDArray[np.int_], which: NDArray[np.bool_], unread: int
) -> dict[str, Any]:
    """What probabilities are worth under one protocol, by their names; ``unread`` more patterns are wrong."""
    frequency = np.bincount(truth[which], minlength=N_CLASSES) / max(1, which.sum())
    named = named | {MAJORITY: np.tile(frequency, (len(truth), 1))}
    return {
        name: worth(
            np.concatenate([p[which], np.zeros((unread, N_CLASSES))]),
            np.concatenate([truth[which], np.full(unread, -1)]),
        )
        for name, p in named.items()
    }


def worth(p: NDArray[np.float64], truth: NDArray[np.int_]) -> dict[str, Any]:
    """What probabilities, shape (n, 7), are worth; rows of 0 are no answers, a truth of −1 is unknown."""
    right, both, family = verdicts(p, truth)
    out = {"system": counted(right), "first two": counted(both), "family": counted(family)}
    out["by system"] = {str(s): counted(right[truth == k]) for k, s in enumerate(CRYSTAL_SYSTEMS)}
    sure, given = p.max(axis=1), p.max(axis=1) > 0
    if not given.any():
        names = ("calibration error", "calibration error by chance", "reliability", "coverage", "surest")
        return out | dict.fromkeys(names)
    bins = reliability(p[given], truth[given])
    shares, accuracies = coverage_accuracy(sure, right)
    return out | {
        "calibration error": bins.error,
        "calibration error by chance": bins.chance,
        "reliability": {name: getattr(bins, name).tolist() for name in ("n", "confidence", "accuracy")},
        "coverage": {"answered": shares.tolist(), "accuracy": accuracies.tolist()},
        "surest": {f"{part:g}": accuracy_of_surest(sure, right, part) for part in SURENESS},
    }


def phase(listed: list[list[int]], right: NDArray[np.bool_], phases: NDArray[np.intp]) -> dict[str, Any]:
    """Of the patterns whose phase is in the library, how often it is first, and among ten."""
    places, _ = phase_places(listed, right, phases)
    return {"first": counted(places == 0), "among ten": counted(places < 10)}


def answers(rows: list[dict[str, Any]], p: Probabilities, among: dict[str, NDArray[np.bool_]]) -> pd.DataFrame:
    """A row for each pattern, protocol and name: the seven probabilities."""
    parts = []
    for protocol, named in p.items():
        which = np.flatnonzero(among[protocol])
        labels = {name: [rows[i][name] for i in which] for name in ("pattern_id", "formula", "crystal_system")}
        for name, found in named.items():
            columns = {f"p_{s}": found[which, k].round(6) for k, s in enumerate(CRYSTAL_SYSTEMS)}
            parts.append(pd.DataFrame(labels | {"protocol": protocol, "by": name} | columns))
    return pd.concat(parts)


def told(results: dict[str, Any], given: Labelled, asked: Asked) -> None:
    """Prints what matters of the results."""
    for name, ids in (("of unknown crystal system", given.unlabelled), ("calculated: no noise", results["calculated"])):
        if ids:
            print(f"left out, {name}: {len(ids)} ({', '.join(ids[:5])}{', …' if len(ids) > 5 else ''})")
    for where, problem in results["refused"].items():
        print(f"counted as wrong: {where}: {problem}")
    library = results["library"]
    print(
        f"{results['n']} patterns of {results['patterns']}; library of {library['crystals']}, {library['digest'][:16]}"
    )
    if results["window"]:
        print("cut to {:g}–{:g}° (copper) before anything saw them".format(*results["window"]))
    n = {protocol: rows[ANSWER]["system"]["n"] for protocol, rows in results["protocols"].items()}
    print(f"{n['unseen']} of them of materials that no network has learnt, or not read: these are *unseen*\n")
    titles = ("crystal system, %", "first two", "families", "calibration error")
    print(f"| {'':6} | {'':16} | {'n':>5} | " + " | ".join(f"{title:18}" for title in titles) + " |")
    for protocol, rows in results["protocols"].items():
        for name, row in rows.items():
            errors = [number(row[key]) for key in ("calibration error", "calibration error by chance")]
            cells = [*(said(row[key]) for key in ("system", "first two", "family")), " (".join(errors) + ")"]
            print(f"| {protocol:6} | {name:16} | {n[protocol]:5} | " + " | ".join(f"{c:18}" for c in cells) + " |")
    print()
    for protocol, rows in results["protocols"].items():
        each = ", ".join(f"{s} {said(row)}" for s, row in rows[ANSWER]["by system"].items() if row["n"])
        print(f"{protocol}, by crystal system: {each or '–'}")
    for protocol, rows in results["protocols"].items():
        surest = rows[ANSWER]["surest"] or {}
        cells = ", ".join(f"{float(part):.0%}: {100 * right:.1f}" for part, right in surest.items())
        print(f"{protocol}, accuracy where only the surest are answered: {cells or '–'}")
    found = results["phase"]
    print(f"phase in the library: {found['first']['n']}; first {said(found['first'])}, ", end="")
    print(f"among ten {said(found['among ten'])}")
    if seconds := results["seconds"]:
        print(
            "seconds a pattern, search, networks and lattices: median {median:.2f}, 90 % {90 %:.2f}".format(**seconds)
        )


def said(found: dict[str, Any]) -> str:
    return share(np.arange(found["n"]) < found["right"])


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    with exit_on_input_error():
        main()
