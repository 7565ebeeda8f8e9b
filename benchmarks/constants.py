"""Physical constants beside those of other libraries: form factors, f′ and f″, and the wavelengths of all named lines.

    python benchmarks/constants.py

Ours, gemmi's and pymatgen's are in this environment; xraydb, xraylib and periodictable are put into a temporary one.
Prints where a source differs from us by more than 1 % of a form factor, 0.1 electrons of f′ or f″ (energies within 3 %
of an edge are left out: theories put edges differently) or 1e-4 of a wavelength, and how many values were compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from pathlib import Path

import gemmi
import numpy as np
from pymatgen.analysis.diffraction.xrd import WAVELENGTHS as PYMATGEN_WAVELENGTHS

from components.simulate.form_factors import (
    MAX_Z,
    dispersion,
    free_hydrogen,
    it92_form_factor,
    pymatgen_form_factor,
)
from imitation_refinement.xrd.radiation import WAVELENGTHS

PACKAGES = ("xraydb==4.5.8", "xraylib==4.3.0", "periodictable==2.1.0")
S = (0.0, 0.25, 0.5, 0.75)  # sin θ / λ [1/Å]
LINES = ("CrKa1", "FeKa1", "CoKa1", "CuKa1", "MoKa1", "AgKa1", "CuKb1", "MoKb1", "CoKb1")
Table = dict[str, list[float | None]]  # by source, in the order that was asked for

# Runs in the temporary environment: elements, s and energies [eV] in, JSON of the sources' values out.
ASK = """
import json, sys
import periodictable, periodictable.cromermann as cromermann, xraydb, xraylib
asked = json.load(sys.stdin)
symbols = ["", *(xraylib.AtomicNumberToSymbol(z) for z in range(1, 99))]
def attempt(f):
    try:
        return float(f())
    except Exception:
        return None
def wavelength(line):
    element, name = line[:2], line[2:]
    lines = {"Ka1": xraylib.KL3_LINE, "Ka2": xraylib.KL2_LINE, "Kb1": xraylib.KM3_LINE}
    def one(name):
        z = xraylib.SymbolToAtomicNumber(element)
        energies = 1000 * xraylib.LineEnergy(z, lines[name]), xraydb.xray_lines(element)[name].energy
        return [asked["hc"] / energy for energy in energies]
    if name != "Ka":
        found = one(name)
    else:
        found = [(2 * first + second) / 3 for first, second in zip(one("Ka1"), one("Ka2"))]
    atom = getattr(periodictable, element)
    return [*found, {"Ka": atom.K_alpha, "Kb1": atom.K_beta1}.get(name)]
def henke(z, energy, part):
    return periodictable.elements[z].xray.scattering_factors(energy=energy / 1000)[part]
factors = [(z, s) for z in asked["elements"] for s in asked["s"]]
energies = [(z, e) for z in asked["elements"] for e in asked["energies"]]
lines = zip(*(wavelength(line) for line in asked["lines"]))
json.dump({
    "factors": {
        "xraydb": [attempt(lambda: xraydb.f0(symbols[z], s)[0]) for z, s in factors],
        "xraylib": [attempt(lambda: xraylib.FF_Rayl(z, s)) for z, s in factors],
        "periodictable": [attempt(lambda: cromermann.fxrayatstol(symbols[z], s)) for z, s in factors],
    },
    "real": {
        "xraydb": [attempt(lambda: xraydb.f1_chantler(symbols[z], e)) for z, e in energies],
        "xraylib": [attempt(lambda: xraylib.Fi(z, e / 1000)) for z, e in energies],
        "periodictable": [attempt(lambda: henke(z, e, 0) - z) for z, e in energies],
    },
    "imaginary": {
        "xraydb": [attempt(lambda: xraydb.f2_chantler(symbols[z], e)) for z, e in energies],
        "xraylib": [attempt(lambda: -xraylib.Fii(z, e / 1000)) for z, e in energies],
        "periodictable": [attempt(lambda: henke(z, e, 1)) for z, e in energies],
    },
    "edges": [[e.energy for e in xraydb.xray_edges(symbols[z]).values()] for z in asked["elements"]],
    "wavelengths": dict(zip(("xraylib", "xraydb", "periodictable"), lines)),
}, sys.stdout)
"""


def ask(elements: list[int], energies: list[float]) -> dict[str, Table]:
    """The other libraries' values, from an environment that is removed again."""
    question = {"elements": elements, "s": S, "energies": energies, "lines": list(WAVELENGTHS), "hc": gemmi.hc}
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", "--only-binary", ":all:", *PACKAGES], check=True)
        done = subprocess.run(
            [python, "-W", "ignore", "-c", ASK],
            input=json.dumps(question),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    answer: dict[str, Table] = json.loads(done.stdout)
    return answer


def show(title: str, names: list[str], ours: Iterable[float], others: Table, bar: float, relative: bool) -> None:
    """Prints, a source and element or line at a time, the largest disagreement above the bar."""
    mine, compared = np.asarray(list(ours), float), 0
    print(f"\n{title}: differs by more than {bar}{' of it' if relative else ' electrons'}")
    for source, values in others.items():
        theirs = np.array([np.nan if v is None else v for v in values], float)
        compared += int(np.isfinite(theirs).sum())
        off = (theirs - mine) / (mine if relative else 1)
        worst: dict[str, tuple[float, str]] = {}
        for name, value, own, other in zip(names, off, mine, theirs, strict=True):
            what = name.split(" ", 1)[0]
            if abs(value) > bar and abs(value) > abs(worst.get(what, (0.0, ""))[0]):
                worst[what] = value, f"{name}: {own:.6g}, {source} {other:.6g}"
        print(f"  {source}: {len(worst)}")
        for _, text in sorted(worst.values(), key=lambda item: -abs(item[0]))[:8]:
            print(f"    {text}")
    print(f"  {compared} values compared")


def main() -> None:
    elements = list(range(1, MAX_Z["physical"] + 1))
    symbols = {z: gemmi.Element(z).name for z in elements}
    energies = [gemmi.hc / WAVELENGTHS[line] for line in LINES]
    found = ask(elements, energies)

    names = [f"{symbols[z]} s={s}" for z in elements for s in S]
    squares = np.array(S) ** 2
    neutral = [it92_form_factor(z, squares) if z > 1 else free_hydrogen(squares) for z in elements]
    others = found["factors"] | {
        "pymatgen": np.concatenate([pymatgen_form_factor(z, squares) for z in elements]).tolist()
    }
    show("Form factors (hydrogen free)", names, np.concatenate(neutral), others, 0.01, relative=True)

    names = [f"{symbols[z]} {line}" for z in elements for line in LINES]
    near = [any(abs(e / edge - 1) < 0.03 for edge in edges) for edges in found["edges"] for e in energies]
    ours = np.array([dispersion(z, WAVELENGTHS[line]) for z in elements for line in LINES]).T
    raw = [gemmi.cromer_liberman(z=z, energy=e) for z in elements for e in energies]
    found["real"]["gemmi alone"], found["imaginary"]["gemmi alone"] = (list(part) for part in zip(*raw, strict=True))
    for title, part, mine in (("f′", "real", ours[0]), ("f″", "imaginary", ours[1])):
        table = {
            source: [None if close else v for v, close in zip(values, near, strict=True)]
            for source, values in found[part].items()
        }
        show(title, names, mine, table, 0.1, relative=False)

    lines = found["wavelengths"] | {"pymatgen": [PYMATGEN_WAVELENGTHS[line] for line in WAVELENGTHS]}
    show("Wavelengths", list(WAVELENGTHS), WAVELENGTHS.values(), lines, 1e-4, relative=True)


if __name__ == "__main__":
    sys.exit(main())
