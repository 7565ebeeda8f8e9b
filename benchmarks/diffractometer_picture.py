"""Pictures of the virtual diffractometer.

    python benchmarks/diffractometer_picture.py docs/diffractometer.png
    python benchmarks/diffractometer_picture.py compared.png --measured patterns.parquet

The first shows each effect alone on rutile; the second eight random draws beside eight measured patterns of the same
materials (PATTERNS table of collect_structures), which stays with whoever has the data.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq

from components.simulate.kernel import Structures, reflections
from imitation_refinement.xrd.diffractometer import measure
from imitation_refinement.xrd.flaws import Parameters, Ranges, draw

WAVELENGTH = 1.54056
CLEAN = Parameters(w=0.006, counts=2000.0)
EFFECTS: dict[str, tuple[dict[str, object], tuple[float, float]]] = {
    "instrument: Caglioti U 0.05, V −0.02, W 0.02 °²": ({"u": 0.05, "v": -0.02, "w": 0.02}, (52, 72)),
    "crystallite size 15 nm": ({"size": 15.0}, (20, 80)),
    "microstrain 0.4 %": ({"microstrain": 0.004}, (20, 80)),
    "axial divergence H/L 0.05": ({"axial": 0.05}, (26, 29)),
    "Kα₂ at half of Kα₁": ({"ka2_ratio": 0.5}, (62, 70)),
    "zero shift 0.15°": ({"zero_shift": 0.15}, (26, 45)),
    "sample displacement 0.4 mm": ({"displacement": 0.4}, (26, 45)),
    "transparency, 1/µ 0.8 mm": ({"transparency": 0.8}, (26, 45)),
    "texture: March–Dollase r 0.5 along (110)": ({"march_r": 0.5}, (20, 80)),
    "smooth strain of the cell, 1 %": ({"strain": (0.012, 0.012, -0.006, 0, 0, 0)}, (26, 72)),
    "thermal motion, B 3 Å²": ({"b_iso": 3.0}, (20, 80)),
    "polynomial background": ({"polynomial": (0.15, -0.08, 0.04, 0.02)}, (5, 90)),
    "air scatter": ({"air": 0.4, "air_power": 1.5}, (5, 90)),
    "amorphous hump": ({"hump": 0.2, "hump_centre": 22.0, "hump_fwhm": 10.0}, (5, 90)),
    "fluorescence": ({"fluorescence": 0.3}, (5, 90)),
    "impurity: rock salt at 30 %": ({"impurity_ratio": 0.3}, (20, 80)),
    "counting noise, 200 counts": ({"counts": 200.0, "seed": 1, "polynomial": (0.05,)}, (5, 90)),
    "detector spikes": ({"spikes": ((33.0, 0.5), (71.0, 0.3))}, (20, 80)),
    "detector gap": ({"gaps": ((53.5, 55.0),), "polynomial": (0.1,)}, (50, 60)),
    "range cut at both ends": ({"first": 25.0, "last": 60.0, "polynomial": (0.05,)}, (5, 90)),
    "all together, one draw": ({}, (5, 90)),
}


def crystals() -> Structures:
    """Rutile (a 4.594, c 2.959 Å, u 0.305) and rock salt (a 5.640 Å), textbook values."""
    u = 0.305
    titanium = [[0, 0, 0], [0.5, 0.5, 0.5]]
    oxygen = [[u, u, 0], [-u, -u, 0], [0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5]]
    faces = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return Structures(
        np.array([np.diag([4.594, 4.594, 2.959]), np.eye(3) * 5.64]),
        np.array([0, 6, 14]),
        np.array([22, 22, 8, 8, 8, 8, 11, 11, 11, 11, 17, 17, 17, 17]),
        np.ones(14),
        np.concatenate([titanium, oxygen, faces, faces + 0.5]),
        np.zeros(14),
    )


def effects(path: Path) -> None:
    rutile, salt = reflections(crystals(), WAVELENGTH, 95)
    axis = np.linspace(5, 90, 8501)
    clean = measure(rutile, CLEAN, axis, WAVELENGTH)
    figure, panels = plt.subplots(7, 3, figsize=(15, 16), layout="constrained")
    for panel, (name, (change, (low, high))) in zip(panels.flat, EFFECTS.items(), strict=True):
        p = replace(CLEAN, **change) if change else draw(np.random.default_rng(8), Ranges(impurity_share=1))
        flawed = measure(rutile, p, axis, WAVELENGTH, salt)
        part = (axis >= low) & (axis <= high)
        seen = np.zeros_like(part)
        seen[p.observed(axis)] = True
        panel.plot(axis[part], clean[part] / CLEAN.counts, color="0.7", lw=2.0, label="without")
        shown = np.where(seen, flawed / p.counts, np.nan)
        panel.plot(axis[part], shown[part], color="C3", lw=0.8, label="with")
        panel.set_title(name, fontsize=10)
        panel.set_xlim(low, high)
        panel.set_ylim(-0.03, None)
        panel.tick_params(labelsize=8)
    panels[0, 0].legend(frameon=False, fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel("2θ [°], Cu Kα₁")
    figure.supylabel("intensity, highest peak of the phase = 1")
    figure.savefig(path, dpi=80)


def compared(path: Path, source: Path, number: int = 8) -> None:
    table = pq.read_table(source)
    table = table.filter(table["lattice"].is_valid())
    rows = np.linspace(0, table.num_rows - 1, number).astype(int)
    found = reflections(Structures.from_arrow(table.take(rows)), WAVELENGTH, 95)
    figure, panels = plt.subplots(number, 2, figsize=(15, 2.2 * number), layout="constrained")
    for i, row in enumerate(rows.tolist()):
        x, y = (table[name][row].values.to_numpy() for name in ("two_theta", "intensity"))
        axis = np.linspace(x[0], x[-1], len(x))
        p = draw(np.random.default_rng([3, row]), Ranges(), x[0], x[-1])
        seen = p.observed(axis)
        panels[i, 0].plot(x, y, lw=0.6, color="k")
        panels[i, 0].set_title(f"{table['formula'][row]}: measured", fontsize=9)
        counts = measure(found[i], p, axis, table["wavelength"][row].as_py(), found[i - 1])
        panels[i, 1].plot(axis[seen], counts[seen], lw=0.6, color="C3")
        panels[i, 1].set_title("a virtual measurement of the same structure", fontsize=9)
        panels[i, 1].set_xlim(panels[i, 0].get_xlim())
    for panel in panels[-1]:
        panel.set_xlabel("2θ [°]")
    figure.supylabel("counts")
    figure.savefig(path, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--measured", type=Path, help="PATTERNS table with measured patterns and their structures")
    options = parser.parse_args()
    if options.measured:
        compared(options.picture, options.measured)
    else:
        effects(options.picture)


if __name__ == "__main__":
    main()
