"""What a model's refiner is worth, on patterns whose structures are known: nearer to theory, or only prettier?

    python benchmarks/refiner.py FOLDER_WITH_MANIFEST --model FOLDER
    python benchmarks/refiner.py patterns.parquet --model FOLDER --number 300 --also control=control.safetensors
    python benchmarks/refiner.py patterns.parquet --model FOLDER --judge ideal=ideal.safetensors

Lines are moved by the zero error of the lattice that explains them best, as `refine` and `identify` do; and, in a table
of its own, by that which the network tells.

Distances to theory (medians; of the raw pattern, of the same with its baseline taken off, refined), peaks against
theory's, refined peaks without a raw one of 3 σ within 0.2°, and how many judges are right on raw and on refined
patterns: the model's networks, the vote of its search, the entry of its library with the largest cosine, and with
`--judge` more classifiers: benchmarks/judge.py makes one of ideal patterns alone, as the paper's. A refiner of
`release` has learnt through none of these. Where the model was trained with --keep-out PATTERNS they answer to
materials that they don't know. Then patterns of noise and of amorphous humps, in which nothing may be found.

`--also` names more refiners, as variants and controls. Intervals are 95 %, of a bootstrap over patterns; a gain's p is
McNemar's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from components.collect_structures.imperfect import read_imperfect
from components.simulate.kernel import Structures, peaks, unsupported
from components.simulate.painting import paint
from imitation_refinement.answer.lattice import lattices_of
from imitation_refinement.answer.model import Model
from imitation_refinement.answer.pattern import is_calculated, prepare
from imitation_refinement.answer.refinement import WITHIN, Refinement, refine
from imitation_refinement.data.contracts import PATTERNS, to_table
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.errors import InputError
from imitation_refinement.learning.models import load_classifier, load_root_refiner
from imitation_refinement.learning.networks import Classifier
from imitation_refinement.learning.root_refiner import RootRefiner
from imitation_refinement.progress import progress
from imitation_refinement.results import metrics
from imitation_refinement.running.stage import exit_on_input_error
from imitation_refinement.vocabulary import Distance
from imitation_refinement.xrd.crystal import CLASS_INDEX
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import REACH, Profile
from imitation_refinement.xrd.peaks import LEAST_HEIGHT, find_peaks, peak_precision_recall
from imitation_refinement.xrd.preparation import measured_input

Rows = NDArray[np.float64]
Judge = Callable[[Pattern, Rows], int]

JUDGES = ("networks", "search", "nearest")
SUPPORT = 3.0  # [σ] of a raw peak
EMPTY = 64  # patterns of noise, and of humps
AXIS = np.arange(5.0, 90.0, 0.02)  # theirs
RESAMPLES = 2000


def theory_of(row: dict[str, Any], grid: Grid) -> Rows | None:
    """The theoretical pattern on the grid, shape (points,); None where there is no structure, or none with lines."""
    if row.get("lattice") is None:
        return None
    structure = Structures.from_arrow(to_table({name: [row.get(name)] for name in PATTERNS.names}, PATTERNS))
    if unsupported(structure).any():
        return None
    reach = REACH * Profile().fwhm
    found = peaks(structure, grid.wavelength, max(grid.start - reach, 0.1), min(grid.stop + reach, 179.0))
    painted = paint(found, grid, Profile())[0].astype(float)
    return painted if painted.any() else None


def judges(model: Model) -> dict[str, Judge]:
    """Who says a pattern's crystal system: of the pattern on its own angles, and √I of it on the networks' grid."""

    def vote(pattern: Pattern, _: Rows) -> int:
        return int(model.search(pattern.two_theta, pattern.intensity, pattern.wavelength or 0).systems.argmax())

    def nearest(pattern: Pattern, _: Rows) -> int:
        prepared = prepare(pattern.two_theta, pattern.intensity, pattern.wavelength or 0)
        return int(model.search.library.system[int(model.search.matched(prepared)[0].argmax())])

    return dict(zip(JUDGES, (classifiers(model.ensemble.networks), vote, nearest), strict=True))


def classifiers(networks: Sequence[Classifier]) -> Judge:
    """What networks say together."""

    @torch.no_grad()
    def judge(_: Pattern, root: Rows) -> int:
        x = torch.from_numpy(root.astype(np.float32))[None]
        return int(torch.stack([network(x).log_softmax(1)[0] for network in networks]).mean(0).argmax())

    return judge


def asked(judge: Judge, pattern: Pattern, root: Rows) -> int:
    """A judge's answer; −1 where it has none."""
    try:
        return judge(pattern, root)
    except InputError:
        return -1


def unsupported_peaks(refined: Rows, raw: Rows, grid: Grid) -> NDArray[np.int_]:
    """Refined peaks without a raw one of :data:`SUPPORT` σ within 0.2°, of each pattern, shape (n,)."""
    found = []
    for own, measured in zip(refined, raw, strict=True):
        lines, shown = find_peaks(own, grid, LEAST_HEIGHT, 0).position, find_peaks(measured, grid, 0, SUPPORT).position
        far = np.abs(lines[:, None] - shown).min(axis=1, initial=np.inf) > WITHIN
        found.append(int(far.sum()))
    return np.array(found)


def median(values: Rows, rng: np.random.Generator) -> str:
    """A median with its interval."""
    drawn = np.nanmedian(rng.choice(values, (RESAMPLES, len(values))), axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{np.nanmedian(values):.3g} ({low:.3g}–{high:.3g})"


def mean(values: Rows, rng: np.random.Generator) -> str:
    """A mean with its interval."""
    known = values[np.isfinite(values)]
    low, high = np.quantile(rng.choice(known, (RESAMPLES, len(known))).mean(axis=1), (0.025, 0.975))
    return f"{known.mean():.3g} ({low:.3g}–{high:.3g})"


def empty_patterns(rng: np.random.Generator) -> dict[str, list[Pattern]]:
    """Counting noise on a flat level, and amorphous humps."""
    found: dict[str, list[Pattern]] = {"flat noise": [], "amorphous humps": []}
    for i in range(EMPTY):
        level = np.exp(rng.uniform(np.log(1), np.log(1e4)))
        hump = np.exp(-4 * np.log(2) * ((AXIS - rng.uniform(15, 40)) / rng.uniform(5, 15)) ** 2)
        for name, expected in (("flat noise", np.ones(len(AXIS))), ("amorphous humps", 0.2 + 5 * hump)):
            counts = rng.poisson(level * expected).astype(float)
            found[name].append(Pattern(f"{name} {i}", AXIS, counts, 1.5406))
    return found


def report(
    name: str,
    refiner: RootRefiner,
    patterns: list[Pattern],
    zero_errors: Sequence[float | None],
    above: Rows,
    raw: Rows,
    theory: Rows,
    truth: Rows,
    judged: dict[str, tuple[Judge, NDArray[np.bool_]]],
    seed: int,
) -> None:
    """Prints what one refiner is worth."""
    grid, rng = refiner.grid, np.random.default_rng(seed)
    start = time.process_time()
    work = list(zip(patterns, zero_errors, strict=True))
    refined: list[Refinement] = [refine(refiner, *one) for one in progress(work, name, unit="patterns")]
    took = (time.process_time() - start) / len(patterns)
    on_grid = np.stack([one.on_grid for one in refined])
    shown = {"raw": raw, "baseline off": above, "refined": on_grid}
    print(f"\n{name}: {len(patterns)} patterns, {1e3 * took:.1f} ms each (processor time)")
    print(f"| {'median, to theory':18} | " + " | ".join(f"{what:22}" for what in shown) + " |")
    for distance in Distance:
        values = [metrics.DISTANCES[distance](found, theory) for found in shown.values()]
        print(f"| {distance.value:18} | " + " | ".join(f"{median(v, rng):22}" for v in values) + " |")
    scores = {what: peak_precision_recall(found, theory, grid, measured=raw) for what, found in shown.items()}
    print(f"| {'mean, peaks':18} | " + " | ".join(f"{what:22}" for what in shown) + " |")
    for field in ("precision", "recall", "invented", "lost"):
        cells = [mean(getattr(score, field), rng) for score in scores.values()]
        print(f"| {field:18} | " + " | ".join(f"{cell:22}" for cell in cells) + " |")
    alone = [unsupported_peaks(found, raw, grid) for found in shown.values()]
    print(f"| {f'below {SUPPORT:g} σ, in all':18} | " + " | ".join(f"{int(n.sum()):<22}" for n in alone) + " |")
    print(f"moved by {median(np.array([one.moved for one in refined]), rng)}° in the median")
    cleaned = [replace(p, intensity=one.intensity) for p, one in zip(patterns, refined, strict=True)]
    for judge, (says, raw_right) in judged.items():
        answers = [asked(says, p, root) for p, root in zip(cleaned, np.sqrt(on_grid), strict=True)]
        right = np.array(answers) == truth
        gain = metrics.compare(right, raw_right, seed)
        print(
            f"judge {judge}: raw {100 * raw_right.mean():.1f} %, refined {100 * right.mean():.1f} %, "
            f"gain {100 * gain['gain']:+.1f} ({100 * gain['gain_low']:+.1f} to {100 * gain['gain_high']:+.1f}) points, "
            f"p {gain['p_value']:.3f}",
            flush=True,
        )
    for what, empties in empty_patterns(rng).items():
        lines = [len(find_peaks(refine(refiner, pattern).on_grid, grid, 0, 0).position) for pattern in empties]
        print(f"{what}: {sum(lines)} peaks in {len(empties)} refined patterns")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", type=Path, help="a table with structures, or a folder with manifest.csv and CIFs")
    parser.add_argument("--model", type=Path, help="that release made; that of the software without it")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FILE", help="another refiner; repeatable")
    parser.add_argument("--judges", nargs="+", default=JUDGES, choices=JUDGES)
    parser.add_argument("--judge", action="append", default=[], metavar="NAME=FILE", help="a classifier; repeatable")
    parser.add_argument("--number", type=int, help="so many patterns, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = Model.read(options.model)
    refiners = {"model": model.refiner} if model.refiner else {}
    for name, _, file in (text.partition("=") for text in options.also):
        refiners[name] = load_root_refiner(file)[0]
    if not refiners:
        raise InputError(options.model or "model", "has no refiner.", "Make one by release, or give --also NAME=FILE.")
    grid = model.ensemble.grid
    if any(refiner.grid != grid for refiner in refiners.values()):
        raise InputError("--also", "a refiner is on another grid than the model.", "Give those of one grid.")
    rejected: list[InputError] = []
    rows = read_imperfect(options.patterns, rejected)
    if options.number and options.number < len(rows):
        chosen = np.random.default_rng(options.seed).choice(len(rows), options.number, replace=False)
        rows = [rows[i] for i in np.sort(chosen)]
    found = [(row, theory_of(row, grid)) for row in rows]
    kept = [
        (row, theory)
        for row, theory in found
        if theory is not None and row["crystal_system"] and not is_calculated(row["intensity"])
    ]
    if not kept:
        raise InputError(options.patterns, "has no measured pattern with its structure.", "Give some.")
    patterns = [
        Pattern(
            row["pattern_id"],
            np.asarray(row["two_theta"], float),
            np.asarray(row["intensity"], float),
            row["wavelength"],
        )
        for row, _ in kept
    ]
    raw = np.stack([grid.resample(p.two_theta, p.intensity, p.wavelength or 0) for p in patterns]).astype(float)
    raw /= raw.max(axis=1, keepdims=True)
    truth = np.array([CLASS_INDEX[row["crystal_system"]] for row, _ in kept])
    print(f"{options.patterns}: {len(kept)} of {len(rows)} patterns have a structure and noise; {len(rejected)} unread")
    above = np.stack([measured_input(p.two_theta, p.intensity, p.wavelength or 0, grid) for p in patterns])
    asking = {name: judges(model)[name] for name in options.judges}
    for name, _, file in (text.partition("=") for text in options.judge):
        classifier, its, _ = load_classifier(file)
        if its != grid:
            raise InputError(file, "is on another grid than the model.", "Give one that learnt from the same stream.")
        asking[name] = classifiers([classifier])
    judged = {}
    for name, says in asking.items():
        answers = [asked(says, p, root) for p, root in zip(patterns, above, strict=True)]
        judged[name] = says, np.array(answers) == truth
    theory = np.stack([theory for _, theory in kept])
    told = [lattices_of(p.two_theta, p.intensity, p.wavelength or 0) for p in progress(patterns, "lattices")]
    by_lattice = [found[0].zero_error if found else None for found in told]
    for name, refiner in refiners.items():
        for moved_by, errors in (("lattice", by_lattice), ("network", [None] * len(patterns))):
            called = f"{name}, zero error by {moved_by}"
            report(
                called, refiner, patterns, errors, above.astype(float) ** 2, raw, theory, truth, judged, options.seed
            )


if __name__ == "__main__":
    with exit_on_input_error():
        main()
