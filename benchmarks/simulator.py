"""The simulator beside pymatgen's XRDCalculator: how much faster it is, and whether the peaks are the same.

    python benchmarks/simulator.py structures.parquet            speed, by cell size
    python benchmarks/simulator.py structures.parquet --check    every structure's peaks, the largest deviations listed
    python benchmarks/simulator.py structures.parquet --throughput 240000    table to data set, two threads

The table is what collect_structures writes. Speed is on one core and of process time, both sides interleaved on the
same structures, JIT warm-up left out. xrd-rust and gemmi are timed too where they are installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import resource
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.analysis.diffraction.xrd import XRDCalculator
from pymatgen.core import DummySpecies, Element, Lattice, Structure

from components.simulate import painting
from components.simulate.kernel import Structures, peaks, unsupported
from components.simulate.stage import STAGE
from imitation_refinement.data.contracts import PATTERNS, STRUCTURES, write_table
from imitation_refinement.progress import progress
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.line import Profile

WAVELENGTH, LOW, HIGH = 1.54184, 5.0, 90.0
GRID = Grid(points=4501, wavelength=WAVELENGTH)
SIZES = (5, 20, 50, 100, 10**9)


def to_pymatgen(structures: Structures, row: int) -> Structure:
    """Entries at one position become one mixed site; what is above an occupancy of 1 goes on a further site there."""
    part = slice(structures.offsets[row], structures.offsets[row + 1])
    sites: dict[tuple[float, ...], dict[Element | DummySpecies, float]] = {}
    for z, occupancy, position in zip(
        structures.atomic_number[part], structures.occupancy[part].tolist(), structures.position[part], strict=True
    ):
        layer, element = 0, Element.from_Z(int(z))
        while occupancy > 0:
            species = sites.setdefault((*position.tolist(), layer), {})
            room = 0.0 if element in species else min(occupancy, 1 - sum(species.values()))
            if room > 0:
                species[element] = room
                occupancy -= room
            layer += 1
    return Structure(Lattice(structures.lattice[row]), list(sites.values()), [place[:3] for place in sites])


def contenders(structures: Structures, objects: list[Structure]) -> dict[str, Callable[[], Any]]:
    calculator = XRDCalculator(WAVELENGTH)
    found: dict[str, Callable[[], Any]] = {
        "pymatgen": lambda: [calculator.get_pattern(s, two_theta_range=(LOW, HIGH)) for s in objects],
        "peaks, pymatgen mode": lambda: peaks(structures, WAVELENGTH, LOW, HIGH, "pymatgen"),
        "peaks, physical mode": lambda: peaks(structures, WAVELENGTH, LOW, HIGH),
        "4,501-point patterns": lambda: painting.paint(peaks(structures, WAVELENGTH, LOW, HIGH), GRID, Profile()),
        "from Structure objects": lambda: peaks(Structures.from_pymatgen(objects), WAVELENGTH, LOW, HIGH, "pymatgen"),
    }
    if importlib.util.find_spec("gemmi"):
        import gemmi

        small = [gemmi.SmallStructure() for _ in objects]
        for out, s in zip(small, objects, strict=True):
            out.cell = gemmi.UnitCell(*s.lattice.parameters)
            for site in s:
                for species, occupancy in site.species.items():
                    atom = gemmi.SmallStructure.Site()
                    atom.element, atom.occ = gemmi.Element(species.symbol), occupancy
                    atom.fract = gemmi.Fractional(*site.frac_coords)
                    out.add_site(atom)

        def run_gemmi() -> None:
            for s in small:
                calculator = gemmi.StructureFactorCalculatorX(s.cell)
                d_min = WAVELENGTH / 2 / np.sin(np.radians(HIGH / 2))
                for hkl in gemmi.make_miller_array(s.cell, gemmi.SpaceGroup("P 1"), d_min):
                    calculator.calculate_sf_from_small_structure(s, hkl.tolist())

        found[f"gemmi {version('gemmi')}, factors in P1"] = run_gemmi
    if importlib.util.find_spec("xrd_rust_calculator"):
        rust = importlib.import_module("xrd_rust_calculator").XRDCalculatorRust(wavelength=WAVELENGTH)
        found[f"xrd-rust {version('xrd-rust')}"] = lambda: [
            rust.get_pattern(s, two_theta_range=(LOW, HIGH)) for s in objects
        ]
    return found


def speed(structures: Structures, number: int, rounds: int) -> None:
    rng = np.random.default_rng(0)
    sizes = np.diff(structures.offsets)
    chosen = rng.choice(len(structures), min(number, len(structures)), replace=False)
    groups = {"all": chosen}
    low = 0
    for high in SIZES:
        name = f"≤{high} atoms" if high < SIZES[-1] else f">{SIZES[-2]} atoms"
        rows = np.flatnonzero((sizes > low) & (sizes <= high))
        groups[name] = rng.choice(rows, min(number // 4, len(rows)), replace=False)
        low = high
    rates: dict[str, dict[str, float]] = {}
    for group, rows in groups.items():
        if not len(rows):
            continue
        part = structures.select(rows)
        runners = contenders(part, [to_pymatgen(structures, int(row)) for row in rows])
        warm = contenders(part.select([0]), [to_pymatgen(structures, int(rows[0]))])
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        for run in warm.values():
            run()
        for _ in progress(range(rounds), f"{group}: {len(rows)} structures", rounds, "rounds"):
            for name, run in runners.items():
                repeats = 1 if name == "pymatgen" or "gemmi" in name or "rust" in name else 5
                start = time.process_time()
                for _ in range(repeats):
                    run()
                seconds[name].append((time.process_time() - start) / repeats)
        rates[group] = {name: len(rows) / float(np.median(values)) for name, values in seconds.items()}
        rates[group]["atoms"] = float(sizes[rows].mean())
    print(
        f"\npymatgen {version('pymatgen')}, {LOW:g} to {HIGH:g}°, {WAVELENGTH} Å, one core; structures/s (× pymatgen)"
    )
    names = list(next(iter(rates.values())))[:-1]
    print("| structures | mean atoms | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 2))
    for group, row in rates.items():
        cells = [f"{row[name]:,.0f} ({row[name] / row['pymatgen']:.0f}×)" for name in names]
        print(f"| {group} | {row['atoms']:.0f} | " + " | ".join(cells) + " |")


def check(structures: Structures, table: pa.Table) -> None:
    """Compares the peaks of every structure in pymatgen mode; a peak without a partner counts with its intensity."""
    calculator = XRDCalculator(WAVELENGTH)
    found = peaks(structures, WAVELENGTH, LOW, HIGH, "pymatgen")
    physical = peaks(structures, WAVELENGTH, LOW, HIGH)
    worst, exact, split = [], 0, []
    for i in progress(range(len(structures)), "comparing with pymatgen", len(structures), "structures"):
        expected = calculator.get_pattern(to_pymatgen(structures, i), two_theta_range=(LOW, HIGH))
        x, y = found[i]
        if len(x) == len(expected.x):
            angle, height = np.abs(x - expected.x).max(), np.abs(y - expected.y).max()
            relative = float((np.abs(y - expected.y) / expected.y).max())
            why = ""
        else:
            angle, height, relative = np.nan, *unmatched(x, y, expected.x, expected.y)
            why = f"{len(x)} peaks, pymatgen {len(expected.x)}: one on the edge of a bin or at the threshold"
        exact += len(x) == len(expected.x) and angle < 1e-6 and relative < 1e-6
        worst.append((height, relative, angle, table["material_id"][i].as_py(), table["formula"][i].as_py(), why))
        split.append((largest_split(*found[i], *physical[i]), table["formula"][i].as_py()))
    worst.sort(key=lambda row: (-row[0], -row[1]))
    print(f"\npymatgen {version('pymatgen')}: {exact} of {len(worst)} structures equal to 1e-6 in 2θ and intensity")
    print("| largest deviations | of 100 | relative | 2θ [°] | |\n|---|---|---|---|---|")
    for height, relative, angle, name, formula, why in worst[:12]:
        print(f"| {name} {formula} | {height:.1e} | {relative:.1e} | {angle:.1e} | {why} |")
    factors = np.array([s for s, _ in split])
    print(f"\nstrongest line split by pymatgen's bins: {(factors > 1.05).sum()} structures by more than 5 %; largest:")
    for factor, formula in sorted(split, reverse=True)[:5]:
        print(f"  {formula}: merged line {factor:.2f} times pymatgen's strongest")


def unmatched(x: Any, y: Any, xe: Any, ye: Any) -> tuple[float, float]:
    """The largest intensity difference between two peak lists summed over windows of 2e-5°."""
    both = np.sort(np.concatenate([x, xe]))
    starts = both[np.concatenate([[True], np.diff(both) > 2e-5])]
    a = np.bincount(np.searchsorted(starts, x + 1e-9), y, len(starts) + 1)
    b = np.bincount(np.searchsorted(starts, xe + 1e-9), ye, len(starts) + 1)
    difference = np.abs(a - b)
    return float(difference.max()), float((difference / np.maximum(np.maximum(a, b), 1e-3)).max())


def largest_split(x: Any, y: Any, x_merged: Any, y_merged: Any) -> float:
    """How much of a line at the strongest merged line pymatgen's bins hold together: their sum to their largest."""
    centre = x_merged[y_merged.argmax()]
    near = np.abs(x - centre) < 2e-4 * np.degrees(2 * np.tan(np.radians(centre / 2)))
    return float(y[near].sum() / y[near].max()) if near.any() else 1.0


def throughput(table: pa.Table, number: int) -> None:
    """A table of ``number`` structures to the ideal data set, with the stage as it is, on two threads."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.parquet" for name in ("structures", "patterns", "ideal", "imperfect")}
        pq.write_table(table.take(np.arange(number) % table.num_rows), paths["structures"])
        first = {name: table[name].slice(0, 1) for name in table.column_names if name in PATTERNS.names}
        write_table(paths["patterns"], {"pattern_id": ["p"], "origin": ["virtual"], **first}, PATTERNS)
        start, cpu = time.monotonic(), time.process_time()
        STAGE.execute(paths, {"threads": 2})
        seconds, cpu = time.monotonic() - start, time.process_time() - cpu
        size = paths["ideal"].stat().st_size / 1e9
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{number:,} patterns of {Grid().points} points from table to data set: {seconds:.0f} s ({cpu:.0f} s of CPU),"
    )
    print(f"{number / seconds:,.0f} patterns/s, two threads, at most {memory:.1f} GB of memory, {size:.2f} GB written")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", type=Path, help="STRUCTURES table (Parquet)")
    parser.add_argument("--number", type=int, default=300, help="structures to time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="compare every structure's peaks with pymatgen's")
    parser.add_argument("--throughput", type=int, default=0, metavar="N", help="time N patterns, table to data set")
    options = parser.parse_args()
    table = pq.read_table(options.structures).cast(STRUCTURES)
    if options.throughput:
        throughput(table, options.throughput)
        return
    structures = Structures.from_arrow(table)
    if (known := ~unsupported(structures)).sum() < len(structures):  # physical mode ends at uranium
        structures, table = structures.select(known), table.filter(pa.array(known))
    if options.check:
        check(structures, table)
    else:
        speed(structures, options.number, options.rounds)


if __name__ == "__main__":
    main()
