"""How fast the virtual diffractometer is, and how close it comes to measured patterns.

    python benchmarks/diffractometer.py structures.parquet
    python benchmarks/diffractometer.py structures.parquet --measured patterns.parquet

Both tables are what collect_structures writes. The second form takes patterns that have a structure, measures the same
structures virtually on the same axes, and prints the same statistics of both.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, percentile_filter
from scipy.signal import find_peaks, peak_widths

from components.simulate.kernel import Structures, reflections
from imitation_refinement.xrd.diffractometer import Reflections, measure
from imitation_refinement.xrd.flaws import Parameters, Ranges, draw

WAVELENGTH = 1.5406
EVERYTHING = {f"{name}_share": 1.0 for name in ("ka2", "texture", "air", "hump", "fluorescence", "impurity")} | {
    "spikes": 1.0,
    "gaps": 1.0,
}


def speed(found: list[Reflections], ranges: Ranges, repeats: int) -> list[float]:
    """Patterns a second, draw included, of some rounds over all structures on 4,501 points."""
    axis, rng = np.linspace(5, 90, 4501), np.random.default_rng(0)
    rates = []
    for _ in range(repeats):
        start = time.process_time()
        for i, phase in enumerate(found):
            measure(phase, draw(rng, ranges), axis, WAVELENGTH, found[i - 1])
        rates.append(len(found) / (time.process_time() - start))
    return rates


def statistics(x: NDArray, y: NDArray, phase: Reflections, wavelength: float) -> dict[str, float]:
    """What makes a pattern look measured; ``x`` is 2θ [°] and ``y`` counts, shape (n,)."""
    step = float(np.median(np.diff(x)))
    baseline = gaussian_filter1d(percentile_filter(y, 30, max(3, round(3 / step))), 1 / step)
    smooth = gaussian_filter1d(y, 0.02 / step)
    clean = smooth - baseline
    top = clean.max()
    flat = clean < 0.02 * top
    second = (y[2:] - 2 * y[1:-1] + y[:-2])[flat[1:-1]]
    noise = 1.4826 * np.median(np.abs(second)) / np.sqrt(6)
    peaks, _ = find_peaks(clean, height=0.15 * top, prominence=0.1 * top)
    widths = peak_widths(clean, peaks, 0.5)[0] * step
    theory = measure(phase, Parameters(w=0.01), np.linspace(x[0], x[-1], len(x)), wavelength)
    lines, _ = find_peaks(theory, height=0.05 * theory.max(), distance=max(1, round(0.6 / step)))
    window = round(0.3 / step)
    seen = np.array([clean[max(0, i - window) : i + window + 1].max() for i in lines])
    ratio = np.log10(np.maximum(seen, 0.002 * top) / theory[lines])
    return {
        "counts of highest peak": float(y.max()),
        "noise, of highest peak [%]": 100 * noise / top,
        "noise / sqrt(background)": noise / np.sqrt(max(np.median(y[flat]), 1)),
        "background, of highest peak [%]": 100 * float(np.median(baseline)) / top,
        "background share of all counts [%]": 100 * float(np.minimum(baseline, y).sum() / y.sum()),
        "background at 6° to median": float(np.interp(6, x, baseline) / max(np.median(baseline), 1e-9)),
        "peak width [°]": float(np.median(widths)) if len(widths) else np.nan,
        "lines' intensity to theory, spread [decades]": float(np.std(ratio)) if len(lines) > 2 else np.nan,
    }


def compare(path: Path, ranges: Ranges) -> None:
    table = pq.read_table(path)
    table = table.filter(table["lattice"].is_valid())
    found = reflections(Structures.from_arrow(table), WAVELENGTH, 95)
    rng = np.random.default_rng(1)
    real, virtual = [], []
    for i, phase in enumerate(found):
        x = table["two_theta"][i].values.to_numpy()
        y = table["intensity"][i].values.to_numpy().astype(float)
        wavelength = table["wavelength"][i].as_py()
        axis = np.linspace(x[0], x[-1], len(x))
        p = draw(rng, ranges, x[0], x[-1])
        seen = p.observed(axis)
        real.append(statistics(x, y, phase, wavelength))
        made = measure(phase, p, axis, wavelength, found[i - 1])
        virtual.append(statistics(axis[seen], made[seen], phase, wavelength))
    print(f"{len(real)} patterns; 10 %, median and 90 %")
    print(f"| {'':46} | {'measured':27} | {'virtual':27} |\n|{'-' * 48}|{'-' * 29}|{'-' * 29}|")
    for name in real[0]:
        cells = [np.nanpercentile([s[name] for s in part], (10, 50, 90)) for part in (real, virtual)]
        texts = ["".join(f"{v:9.3g}" for v in cell) for cell in cells]
        print(f"| {name:46} | {texts[0]:27} | {texts[1]:27} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", type=Path, help="STRUCTURES table (Parquet)")
    parser.add_argument("--measured", type=Path, help="PATTERNS table with measured patterns and their structures")
    parser.add_argument("--number", type=int, default=500, help="structures to measure")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.measured:
        compare(options.measured, Ranges())
        return
    structures = Structures.from_arrow(pq.read_table(options.structures))
    chosen = np.random.default_rng(0).choice(len(structures), min(options.number, len(structures)), replace=False)
    found = reflections(structures.select(chosen), WAVELENGTH, 93)
    print(f"{len(found)} structures, {np.mean([len(f.d) for f in found]):.0f} lines each, 4,501 points, one core")
    for name, ranges in (("every effect in every pattern", Ranges(**EVERYTHING)), ("default ranges", Ranges())):
        speed(found[:3], ranges, 1)
        rates = speed(found, ranges, options.repeats)
        print(f"{name}: median {np.median(rates):.0f}, best {max(rates):.0f} patterns/s")


if __name__ == "__main__":
    main()
