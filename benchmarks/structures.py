"""How CIFs are read: what was read against what the file says besides, ours beside pymatgen's and gemmi's reading.

    python benchmarks/structures.py                        the mineral database of xraylarch 0.9.66, 9,275 entries
    python benchmarks/structures.py --sample 300           every so many of them; pymatgen takes 46 ms an entry
    python benchmarks/structures.py --cifs FOLDER          CIFs of your own
    python benchmarks/structures.py --names                which materials' names join unlike compounds, and the reverse

The database is the American Mineralogist Crystal Structure Database (cite it), the source `minerals` of
collect_structures: `pip install --no-deps xraylarch==0.9.66`. Each entry's formula and density were made from its
sites, so what a reader makes of the sites can be held against them.

*Different*: the content of the cell is not in the formula's proportions (more than 5 % of the atoms are others), or its
density, with the formula's hydrogen, is off by more than 5 %. *Silent*: different without a remark (ours), a warning
(pymatgen); gemmi has neither. *Said*: with one. *Refused*: no structure.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
from pymatgen.core import Composition, Element
from pymatgen.io.cif import CifParser

from components.collect_structures.cif import read_single
from components.collect_structures.crystals import material_name
from components.collect_structures.packaged import mineral_cifs
from imitation_refinement.data.formula import difference, one_material, parse
from imitation_refinement.errors import InputError

TOLERANCE = 0.05
Amounts = dict[str, float]
Found = tuple[Amounts, bool]  # the content of the cell, and whether something was said


def ours(text: str) -> Found:
    """Our reading."""
    try:
        found = read_single(text, "here")
    except InputError as error:
        raise ValueError(str(error)) from None
    amounts: Amounts = defaultdict(float)
    for number, occupancy in zip(found.crystal.numbers.tolist(), found.crystal.occupancy.tolist(), strict=True):
        amounts[Element.from_Z(number).symbol] += occupancy
    amounts["H"] += found.hydrogen
    return amounts, bool(found.remarks)


def pymatgen(text: str) -> Found:
    """pymatgen's reading, with its default options."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (structure,) = CifParser.from_str(text).parse_structures(primitive=False)
    amounts: Amounts = defaultdict(float)
    for element, amount in structure.composition.get_el_amt_dict().items():
        amounts["H" if element in "DT" else element] += amount
    return amounts, bool(caught)


def gemmi_(text: str) -> Found:
    """gemmi's reading as a small structure."""
    small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(text).sole_block())
    amounts: Amounts = defaultdict(float)
    sites = small.get_all_unit_cell_sites()
    if not sites:
        raise ValueError("no sites")
    for site in sites:
        amounts["H" if site.element.name in "DT" else site.element.name] += site.occ
    return amounts, False


READERS: dict[str, Callable[[str], Found]] = {"ours": ours, "pymatgen": pymatgen, "gemmi": gemmi_}


def different(amounts: Amounts, text: str) -> bool:
    """Whether a content differs from what its CIF says; see the module."""
    block = gemmi.cif.read_string(text).sole_block()
    formula = gemmi.cif.as_string(block.find_value("_chemical_formula_sum") or "?")
    if not formula.strip("?."):
        return False
    composition = Composition(formula)
    said, mass = composition.get_el_amt_dict(), float(composition.weight)  # deuterium as H, with its own mass
    symbols = sorted(set(said) | set(amounts))
    wanted, found = (np.array([table.get(symbol, 0.0) for symbol in symbols]) for table in (said, amounts))
    units = found.sum() / wanted.sum()
    if np.abs(found - units * wanted).sum() > TOLERANCE * found.sum():
        return True
    density = gemmi.cif.as_number(block.find_value("_exptl_crystal_density_diffrn") or "?")
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    cell = [gemmi.cif.as_number(block.find_value(f"_cell_{name}") or "?") for name in names]
    if not (density > 0 and np.isfinite(cell).all()):
        return False
    return bool(abs(1.660539 * units * mass / gemmi.UnitCell(*cell).volume / density - 1) > TOLERANCE)


def names(cifs: list[tuple[str, str]]) -> None:
    """Prints how the names that entries get go with the formulas that they state."""
    stated: dict[str, set[str]] = defaultdict(set)  # of each name
    given: dict[tuple[str, int | None], set[str]] = defaultdict(set)  # of each stated formula and space group
    entries = []
    for entry, text in cifs:
        formula = gemmi.cif.as_string(gemmi.cif.read_string(text).sole_block().find_value("_chemical_formula_sum"))
        try:
            found = read_single(text, entry)
            entries.append((found.formula, found.space_group, material_name(parse(formula.replace(" ", "")))))
        except (InputError, ValueError):
            continue
    same = one_material(name for own, _, formula in entries for name in (own, formula))
    for own, group, formula in entries:
        own, formula = same.get(own, own), same.get(formula, formula)
        stated[own].add(formula)
        given[formula, group].add(own)
    joined = {name: found for name, found in stated.items() if len(found) > 1}
    unlike = [name for name, found in joined.items() if max(difference(a, b) for a in found for b in found) > TOLERANCE]
    split = sum(len(found) > 1 for found in given.values())
    print(f"{len(entries)} entries; names of entries that state several formulas: {len(joined)}, of unlike compounds")
    print(f"(over 5 % of the atoms, hydrogen aside): {len(unlike)} ({', '.join(unlike)});")
    print(f"stated formulas with one space group and several names: {split}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifs", type=Path, help="folder of CIFs with one structure each, in place of the database")
    parser.add_argument("--sample", type=int, default=0, help="so many entries, evenly taken; 0 for all")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--list", action="store_true", help="names of what is refused or silently different")
    parser.add_argument("--names", action="store_true", help="compare names with stated formulas instead")
    arguments = parser.parse_args()
    if arguments.cifs:
        cifs = [(file.stem, file.read_text(errors="replace")) for file in sorted(arguments.cifs.rglob("*.cif"))]
    else:
        cifs = list(mineral_cifs())
    if arguments.sample:
        cifs = cifs[:: max(1, len(cifs) // arguments.sample)]
    if arguments.names:
        names(cifs)
        return
    print(f"{len(cifs)} CIFs\n{'':10}{'silent':>8}{'said':>8}{'refused':>9}{'ms an entry':>13}")
    for name in arguments.readers:
        counts: Counter[str] = Counter()
        listed, seconds = [], 0.0
        for entry, text in cifs:
            start = time.process_time()
            try:
                amounts, said = READERS[name](text)
            except Exception as error:  # whatever a reader raises, it refuses
                counts["refused"] += 1
                listed.append(f"{entry} refused: {error}")
                seconds += time.process_time() - start
            else:
                seconds += time.process_time() - start
                silent = not said and different(amounts, text)
                counts.update({"said": said, "silent": silent})
                listed += [f"{entry} silently different"] if silent else []
        row = f"{counts['silent']:8}{counts['said']:8}{counts['refused']:9}{1e3 * seconds / len(cifs):13.2f}"
        print(f"{name:10}{row}")
        print("\n".join(listed) if arguments.list else "", end="\n" if arguments.list else "")


if __name__ == "__main__":
    main()
