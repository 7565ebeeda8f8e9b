"""Crystals from CIF text: read by gemmi, expanded by symmetry operations, compared with what the file says besides.

A CIF says most things twice. Here the content of the cell is held against formula, Z and density (:mod:`.content`), the
operations against the symbol, the cell against its symmetry. What contradicts is settled by an argument from the file,
and a remark says so, or the structure is refused with what was assumed; nothing is settled without a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from components.collect_structures.content import Said, Verdict, read_formula, shown
from components.collect_structures.crystals import (
    HEAVIEST,
    OCCUPANCY_SLACK,
    SAME_SITE,
    SYMBOLS,
    Crystal,
    Reading,
    check_crystal,
    close_pairs,
    volume_of,
)
from components.collect_structures.settings import LISTED, OPERATIONS, Operations, Setting, Symmetry, read_symmetry
from components.collect_structures.species import Species, shares_by_formula, species_of
from components.collect_structures.symmetry import cell_of, higher_symmetry
from imitation_refinement.errors import InputError
from imitation_refinement.files import files_in

ON_ELEMENT = 0.1  # [Å], a full site nearer to its own image than this lies on the symmetry element between them
SPLIT = 0.02  # [Å], the same for a site of at most half occupancy, which may be split about the element
EXACT = 1e-3  # [Å], images nearer than this are one for whoever counts them without a tolerance
FITS = 0.01  # how far operations may change the cell: half a percent of an edge, half a degree of an angle
ROUNDED = 2e-4  # the same of a cell that is as symmetric as its digits allow
MOST_IMAGES = 200_000  # of all sites by all operations
MOST_OPERATIONS = 1000  # that a file lists; a group has 192 at most
OVERFULL = 1.15  # atoms on a site whose refined or analysed amounts overshoot
CELL = tuple(f"_cell_{n}" for n in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"))
COORDINATES = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
READ = frozenset((*OPERATIONS, *COORDINATES))  # loops with one of these are read
NOTHING = ("", "?", ".")
HYDROGEN = ((1, 1.0),)  # what is on a site of hydrogen alone
DUMMY = "dum"  # _atom_site_calc_flag of a site that is no atom
REMEDY = "Correct the CIF or leave it out."


def read_blocks(text: str, where: object) -> list[gemmi.cif.Block]:
    """The blocks of a CIF that hold atoms.

    Raises:
        InputError: if the text is no CIF or no block holds atoms.
    """
    try:
        blocks = list(gemmi.cif.read_string(text))
    except (ValueError, RuntimeError) as error:
        raise InputError(where, f"is no readable CIF ({error}).", REMEDY) from None
    names = (COORDINATES[0], "_atom_site.fract_x")  # that of CIF 2, too
    found = [block for block in blocks if any(len(block.find_loop(name)) for name in names)]
    if not found:
        raise InputError(where, "holds no atoms with coordinates.", REMEDY)
    return found


def read_single(text: str, where: object) -> Reading:
    """The crystal of a CIF that holds one.

    Raises:
        InputError: if there are several, or as :func:`read_blocks` and :func:`read_block`.
    """
    blocks = read_blocks(text, where)
    if len(blocks) > 1:
        raise InputError(where, f"holds {len(blocks)} structures.", "Give each a CIF of its own.")
    return read_block(blocks[0], where)


@dataclass
class Sites:
    """The sites of a CIF, one entry a site and atom.

    Attributes:
        labels: of each entry, n.
        numbers: atomic numbers, shape (n,).
        occupancy: shape (n,).
        positions: fractional coordinates, shape (n, 3).
        hydrogen: hydrogen atoms on each entry's site that have no position, shape (n,).
        remarks: what was settled while they were read.
    """

    labels: list[str]
    numbers: NDArray[np.int16]
    occupancy: NDArray[np.float64]
    positions: NDArray[np.float64]
    hydrogen: NDArray[np.float64]
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Attempt:
    """What a setting makes of the sites: a crystal with its verdict, or the reason why not."""

    setting: Setting
    crystal: Crystal | None = None
    verdict: Verdict = field(default_factory=Verdict)
    remarks: tuple[str, ...] = ()
    hydrogen: float = 0.0
    refusal: InputError | None = None

    @property
    def rank(self) -> int:
        """The lower, the better; 4 where there is no crystal."""
        return 4 if self.crystal is None else self.verdict.rank


def read_block(block: gemmi.cif.Block, where: object) -> Reading:
    """The full unit cell of a CIF block, checked, with what the block says and what was settled.

    A block that says P 1 says nothing: programs write it where they do not know the symmetry.

    Raises:
        InputError: if there is no symmetry or one that the cell can't have, a coordinate is no number, an element is
            unknown, the content contradicts the formula in every setting that the file allows, two settings are
            equally good, or it is no crystal (:func:`check_crystal`).
    """
    values, columns = _contents(block)
    remarks: list[str] = []
    lattice, cell = _lattice(values, where, remarks)
    listed = next((columns[tag] for tag in OPERATIONS if tag in columns), None)
    listed = listed or [values[tag] for tag in OPERATIONS if values.get(tag)]
    if len(listed) > MOST_OPERATIONS:
        raise InputError(where, f"lists {len(listed):,} symmetry operations; no group has as many.", REMEDY)
    symmetry = read_symmetry(values, listed, where, REMEDY)
    said = _said(values, remarks)
    sites = _sites(columns, said, where)
    best = _settle(symmetry, sites, lattice, cell, said, where)
    assert best.crystal is not None
    remarks += [*sites.remarks, *best.remarks]
    operations = best.setting.operations
    number = operations.number or symmetry.number or symmetry.named
    if number == 1 and len(operations.matrices) == 1:
        number = symmetry.number if symmetry.number != 1 else None
    if number is not None:
        number = _label(number, symmetry, best, remarks)
    hydrogen = best.verdict.hydrogen if said.formula is not None else best.hydrogen
    if hydrogen > 0:
        remarks.append(f"{hydrogen:.4g} hydrogen atoms in the cell have no position")
    elif hydrogen < 0:
        remarks.append(f"holds {-hydrogen:.4g} hydrogen atoms more than its formula")
    return Reading(best.crystal, number, max(hydrogen, 0.0), tuple(dict.fromkeys(remarks)))


def _contents(block: gemmi.cif.Block) -> tuple[dict[str, str], dict[str, list[str]]]:
    """What stands in a block once, and in its loops, by the names of CIF 1 in lower case: CIF 2 has other dots."""
    values: dict[str, str] = {}
    columns: dict[str, list[str]] = {}
    for item in block:
        pair: Any = item.pair
        if pair is not None:
            values[pair[0].lower().replace(".", "_")] = _text(pair[1])
        elif item.loop is not None:
            names = [name.lower().replace(".", "_") for name in item.loop.tags]
            if any(name in READ for name in names):
                cells = item.loop.values
                for place, name in enumerate(names):
                    columns[name] = cells[place :: len(names)]
    return values, columns


def _text(value: str) -> str:
    """A CIF value without its quotes; empty where it is none."""
    return "" if value in NOTHING else str(gemmi.cif.as_string(value)) if value[0] in "'\"\n;" else value


def _number(text: str) -> float:
    """A CIF number without its standard uncertainty; NaN where it is none."""
    return float(gemmi.cif.as_number(text or "?"))


def _numbers(column: Sequence[str]) -> list[float]:
    try:
        return list(map(float, column))
    except ValueError:
        return [_number(text) for text in column]


def _lattice(
    values: dict[str, str], where: object, remarks: list[str]
) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """The lattice as rows a, b, c [Å], and lengths and angles. A comma is a decimal point, or ends the number."""
    cell = []
    for tag in CELL:
        text = values.get(tag, "")
        number = _number(text)
        if not np.isfinite(number) and text.count(",") == 1:
            number = _number(text.rstrip(",").replace(",", "."))
            remarks.append(f"{tag} {text!r} is read as {number:g}")
        if not number > 0:
            raise InputError(where, f"has a cell length or angle that is no positive number: {tag} {text!r}.", REMEDY)
        cell.append(number)
    return np.array(gemmi.UnitCell(*cell).orth.mat.tolist()).T, tuple(cell)


def _said(values: dict[str, str], remarks: list[str]) -> Said:
    text = values.get("_chemical_formula_sum", "")
    formula = read_formula(text) if text else None
    if text and formula is None:
        remarks.append(f"its formula {text!r} is not understood, so the content is not compared with it")
    units = _number(values.get("_cell_formula_units_z", ""))
    density, measured = _number(values.get("_exptl_crystal_density_diffrn", "")), False
    if not density > 0:
        density, measured = _number(values.get("_exptl_crystal_density_meas", "")), True
    return Said(formula, units if units > 0 else None, density if density > 0 else None, measured)


def _sites(columns: dict[str, list[str]], said: Said, where: object) -> Sites:
    """The sites of a block; what is no atom is left out.

    Raises:
        InputError: if a site's coordinates or occupancy are no numbers, or what is on it is unknown.
    """
    n = len(columns[COORDINATES[0]])
    blank = [""] * n
    if any(tag not in columns for tag in COORDINATES):
        raise InputError(where, "lacks a column of coordinates.", REMEDY)
    coordinates = [_numbers(columns[tag]) for tag in COORDINATES]
    labels = [_text(label) for label in columns.get("_atom_site_label", blank)]
    types = [_text(kind) for kind in columns.get("_atom_site_type_symbol", blank)]
    flags = columns.get("_atom_site_calc_flag", blank)
    shares = columns.get("_atom_site_occupancy", blank)
    occupancy = _numbers([text if text not in NOTHING else "1" for text in shares])
    listed = said.formula.symbols if said.formula else frozenset[str]()
    placed = [isfinite(sum(numbers)) for numbers in zip(*coordinates, occupancy, strict=True)]
    found: list[tuple[int, Species]] = []
    remarks: list[str] = []
    for row, (label, kind, share) in enumerate(zip(labels, types, occupancy, strict=True)):
        if flags[row].lower() == DUMMY:
            remarks.append(f"dummy site {label} is left out")
            continue
        species = species_of(kind, label, listed)
        if species is None:
            what = f"type symbol {kind!r}" if kind else "element"
            raise InputError(where, f"has the unknown {what} at site {label!r}.", REMEDY)
        if not placed[row]:
            if species.shares == HYDROGEN and columns[COORDINATES[0]][row] in NOTHING:
                remarks.append(f"hydrogen {label} has no position")
                continue
            raise InputError(where, f"site {label!r} has a coordinate or occupancy that is no number.", REMEDY)
        if not species.shares and not species.among:
            remarks.append(f"vacancy {label} is left out")
        elif share > 0:
            found.append((row, species))
        elif -share <= _uncertainty(shares[row]):
            remarks.append(f"site {label} of occupancy {shares[row]} is left out")
        else:
            raise InputError(where, f"site {label!r} has the occupancy {shares[row]}.", "Correct it or leave it out.")
    if not found:
        raise InputError(where, "has no atoms.", REMEDY)
    rows, kinds = [row for row, _ in found], [species for _, species in found]
    if any(species.among for species in kinds):
        kinds = _open_sites(kinds, [labels[row] for row in rows], said, remarks, where)
    sharing = [(row, number, share) for row, s in zip(rows, kinds, strict=True) for number, share in s.shares]
    positions = np.array(coordinates).T
    if 1 in (number for _, number, _ in sharing):
        remarks += _in_place(sharing, labels, positions)
    hydrogen = [h for s in kinds for h in (s.hydrogen, *[0] * (len(s.shares) - 1))]
    entries = [row for row, _, _ in sharing]
    on_site = np.array(occupancy)[entries]
    return Sites(
        [labels[row] for row in entries],
        np.array([number for _, number, _ in sharing], np.int16),
        on_site * [share for _, _, share in sharing],
        positions[entries],
        on_site * hydrogen,
        remarks,
    )


def _in_place(sharing: list[tuple[int, int, float]], labels: list[str], positions: NDArray[np.float64]) -> list[str]:
    """What is to be said of hydrogen that stands where another atom does."""
    heavy = {_key(positions[row]): labels[row] for row, number, _ in sharing if number > 1}
    there = dict.fromkeys(
        heavy[key] for row, number, _ in sharing if number == 1 and (key := _key(positions[row])) in heavy
    )
    return [f"hydrogen stands in the place of {', '.join(there)}"] if there else []


def _uncertainty(text: str) -> float:
    """The standard uncertainty of a CIF number, as 0.004 of ``-0.002(4)``; 0 where there is none."""
    found = re.fullmatch(r"[+-]?(\d*)\.?(\d*)\((\d+)\)", text)
    return float(found[3]) * 10.0 ** -len(found[2]) if found else 0.0


def _open_sites(
    kinds: list[Species], labels: list[str], said: Said, remarks: list[str], where: object
) -> list[Species]:
    """Sites whose shares are not said, with those that the formula gives.

    The elements of the formula that no other site holds share them, in the formula's proportions.
    """
    located = {number for species in kinds for number, _ in species.shares}
    wanted = {species.among for species in kinds if species.among}
    amounts = said.formula.amounts if said.formula is not None and len(wanted) == 1 else {}
    out = []
    for species, label in zip(kinds, labels, strict=True):
        if not species.among:
            out.append(species)
            continue
        shares = shares_by_formula(species.among, amounts, located)
        if shares is None:
            names = " ".join(SYMBOLS[number] for number in sorted(species.among))
            problem = f"does not say how much of what is on site {label!r} ({names})."
            raise InputError(where, problem, "Give each site its elements and their shares.")
        text = " ".join(f"{share:.3g} {SYMBOLS[number]}" for number, share in shares)
        remarks.append(f"site {label} holds {text}, by the formula")
        out.append(Species(shares))
    return out


def _settle(
    symmetry: Symmetry,
    sites: Sites,
    lattice: NDArray[np.float64],
    cell: tuple[float, ...],
    said: Said,
    where: object,
) -> Attempt:
    """The setting that the cell and the content bear out.

    Raises:
        InputError: if there is none, or two are equally good and differ.
    """
    failed: list[Attempt] = []
    first = 0  # attempts of the first tier
    for place, tier in enumerate(symmetry.tiers):
        attempts = [_attempt(setting, sites, lattice, cell, said, where) for setting in tier()]
        first = first or len(attempts)
        good = [attempt for attempt in attempts if attempt.rank < 2 and _proven(attempt, place, said)]
        failed += [attempt for attempt in attempts if attempt not in good]
        if not good:
            continue
        best = min(good, key=lambda attempt: attempt.rank)
        rivals = [a for a in good if a is not best and a.rank == best.rank and not _same(a, best)]
        if rivals and place > 0:
            continue
        if rivals:
            names = " or ".join(a.setting.name for a in (best, *rivals))
            raise InputError(
                where, f"does not say which it is: {names}.", "Give the operations, or the formula with Z or density."
            )
        why = f"{failed[0].setting.name}: {_reason(failed[0], said)}; " if place > 0 else ""
        if why or not best.setting.said:
            best = replace(best, remarks=(*best.remarks, f"{why}taken as {best.setting.name}"))
        return best
    return _unsettled(failed, first, symmetry, said, where)


def _proven(attempt: Attempt, place: int, said: Said) -> bool:
    """Whether the file bears a setting out, where it must: one that the file does not give first."""
    amount = attempt.verdict.density is True or attempt.verdict.amount is True
    if attempt.setting.proven:
        return amount
    return place == 0 or amount or said.formula is not None


def _same(one: Attempt, other: Attempt) -> bool:
    """Whether two settings make the same crystal."""
    a, b = one.crystal, other.crystal
    assert a is not None and b is not None
    if len(a.numbers) != len(b.numbers) or not np.allclose(a.lattice, b.lattice, atol=1e-6):
        return False
    step = a.positions[:, None] - b.positions[None]
    near = np.linalg.norm((step - np.round(step)) @ a.lattice, axis=-1) < SAME_SITE
    near &= (a.numbers[:, None] == b.numbers) & np.isclose(a.occupancy[:, None], b.occupancy)
    return bool(near.any(axis=0).all() and near.any(axis=1).all())


def _unsettled(failed: list[Attempt], equal: int, symmetry: Symmetry, said: Said, where: object) -> Attempt:
    """The first reading if only an amount contradicts what the file lists, else a refusal that says what was taken."""
    first = failed[0]
    if first.setting.said and first.rank == 2 and first.setting.name == LISTED and not first.setting.proven:
        return replace(first, remarks=(*first.remarks, _reason(first, said)))
    if first.setting.proven:
        claim = symmetry.number or symmetry.symbol
        raise InputError(where, f"lists only x,y,z but says space group {claim}.", REMEDY)
    best = min(failed[:equal], key=lambda attempt: attempt.rank)
    if equal > 1 and not best.setting.said:
        names = " or ".join(attempt.setting.name for attempt in failed[:equal])
        reasons = "; ".join(f"{a.setting.name}: {_reason(a, said)}" for a in failed[:equal])
        raise InputError(where, f"does not say which it is, {names}, and neither fits ({reasons}).", REMEDY)
    if best.refusal is not None:
        raise best.refusal
    raise InputError(where, f"{_reason(best, said)}; read with {best.setting.name}.", REMEDY)


def _reason(attempt: Attempt, said: Said) -> str:
    """Why a setting is not taken."""
    if attempt.crystal is None:
        assert attempt.refusal is not None
        return attempt.refusal.problem.rstrip(".")
    verdict = attempt.verdict
    atoms = _atoms(attempt.crystal)
    if verdict.composition > 0 and verdict.rank == 3 and said.formula:
        return f"holds {shown(atoms)} in the cell, but its formula is {said.formula.text}"
    if verdict.density is False:
        return f"holds {shown(atoms)} in the cell, but its density is {said.density:g} g/cm³"
    return f"holds {shown(atoms)} in the cell, but Z is {said.units:g}"


def _atoms(crystal: Crystal) -> NDArray[np.float64]:
    return np.asarray(np.bincount(crystal.numbers, crystal.occupancy, HEAVIEST + 1), float)


def _attempt(
    setting: Setting,
    sites: Sites,
    lattice: NDArray[np.float64],
    cell: tuple[float, ...],
    said: Said,
    where: object,
) -> Attempt:
    """What a setting makes of the sites."""
    operations, remarks = setting.operations, []
    off = misfit(operations, lattice)
    if off > FITS:
        text = " ".join(f"{value:g}" for value in cell)
        needed = " ".join(f"{value:.5g}" for value in cell_of(on_symmetry(operations, lattice)).parameters)
        problem = f"has symmetry operations that its cell ({text}) can't have; the nearest that can is ({needed})."
        return Attempt(setting, refusal=InputError(where, problem, REMEDY))
    if off > 1e-9:
        lattice = on_symmetry(operations, lattice)
        if off > ROUNDED:
            text = " ".join(f"{value:g}" for value in cell)
            remarks.append(f"its cell ({text}) is off its symmetry and put on it")
    if (images := len(sites.numbers) * len(operations.matrices)) > MOST_IMAGES:
        problem = f"has {len(sites.numbers):,} sites and {len(operations.matrices)} operations: {images:,} images."
        return Attempt(setting, refusal=InputError(where, problem, REMEDY))
    tolerance = np.where(sites.occupancy <= 0.5, SPLIT, ON_ELEMENT)
    orbits = expand(operations, sites.positions, lattice, tolerance)
    crystal = _crystal(sites, sites.occupancy, orbits, lattice)
    volume = volume_of(lattice)
    verdict = said.verdict(_atoms(crystal), volume)
    if verdict.rank > 0 and (orbits.merged > 1).any():
        crystal, verdict, more = _near_elements(sites, orbits, crystal, verdict, said, volume)
        remarks += more
    try:
        crystal, more = _checked(sites, orbits, crystal, where)
    except InputError as error:
        return Attempt(setting, refusal=error)
    if more:
        remarks += more
        verdict = replace(said.verdict(_atoms(crystal), volume), composition=0.0, density=None, amount=None)
    if verdict.rank == 1:
        remarks.append(_nearly(crystal, verdict, said))
    hydrogen = float(sites.hydrogen @ orbits.counts) if 1 not in sites.numbers else 0.0
    return Attempt(setting, crystal, verdict, tuple(remarks), hydrogen)


def _nearly(crystal: Crystal, verdict: Verdict, said: Said) -> str:
    assert said.formula is not None
    if verdict.composition <= 0.01 and not verdict.missing:
        return f"holds {shown(_atoms(crystal))} in the cell, but Z is {said.units:g}"
    return f"holds {shown(_atoms(crystal))} in the cell, not quite its formula {said.formula.text}"


def _crystal(sites: Sites, occupancy: NDArray[np.float64], orbits: Orbits, lattice: NDArray[np.float64]) -> Crystal:
    return Crystal(lattice, sites.numbers[orbits.site], occupancy[orbits.site], orbits.positions)


def _near_elements(
    sites: Sites, orbits: Orbits, crystal: Crystal, verdict: Verdict, said: Said, volume: float
) -> tuple[Crystal, Verdict, list[str]]:
    """A content that contradicts the file, where sites lie next to a symmetry element.

    Such a site and its image across the element are one (:func:`expand`). What the file counts tells what its
    occupancy means: where the file's content is had with each image counted, the shares of images that fit on one
    place add up (a site halved by a mirror next to it), and a formula that counts full images several times is wrong.
    """
    images = sites.occupancy * orbits.counts * orbits.merged
    counted = np.asarray(np.bincount(sites.numbers, images, HEAVIEST + 1), float)
    better = said.verdict(counted, volume)
    if better.rank >= verdict.rank:
        return crystal, verdict, []
    place = np.array([_key(position) for position in sites.positions])
    total = np.bincount(place_index := np.unique(place, return_inverse=True)[1], weights=sites.occupancy)[place_index]
    fits = (orbits.merged > 1) & (total * orbits.merged <= 1 + OCCUPANCY_SLACK)
    several = (orbits.merged > 1) & ~fits
    remarks = []
    if fits.any():
        names = ", ".join(dict.fromkeys(sites.labels[i] for i in np.flatnonzero(fits)))
        remarks.append(f"the shares of {names} on both sides of a symmetry element add up, as formula and density say")
    if several.any():
        names = ", ".join(dict.fromkeys(sites.labels[i] for i in np.flatnonzero(several)))
        remarks.append(f"its formula or density counts {names} once for each of several images of one atom")
    crystal = _crystal(sites, np.where(fits, sites.occupancy * orbits.merged, sites.occupancy), orbits, crystal.lattice)
    return crystal, better, remarks


def _key(position: NDArray[np.float64]) -> str:
    return " ".join(f"{x:.4f}" for x in position % 1.0)


def _checked(sites: Sites, orbits: Orbits, crystal: Crystal, where: object) -> tuple[Crystal, list[str]]:
    """A crystal that passed :func:`check_crystal`, and what had to be settled for it.

    An atom that is listed twice counts once. Amounts of refinements and analyses that overshoot a site by up to
    OVERFULL are scaled to one atom.

    Raises:
        InputError: as :func:`check_crystal`.
    """
    try:
        check_crystal(crystal, where, parents=np.cumsum(orbits.counts) - orbits.counts)
    except InputError:
        if not np.isfinite(crystal.positions).all():
            raise
        settled, remarks = _repaired(sites, orbits, crystal)
        try:
            check_crystal(settled, where)
        except InputError:
            check_crystal(crystal, where, [sites.labels[i] for i in orbits.site])  # raises, with the sites' names
        return settled, remarks
    return crystal, []


def _repaired(sites: Sites, orbits: Orbits, crystal: Crystal) -> tuple[Crystal, list[str]]:
    remarks = []
    first = np.unique(orbits.site, return_index=True)[1]
    pairs, distance = close_pairs(crystal)
    on: dict[int, list[int]] = {int(entry): [int(entry)] for entry in first}  # what is where a site's first entry is
    for a, b in pairs[distance < SAME_SITE].tolist():
        for entry, neighbour in ((a, b), (b, a)):
            if entry in on:
                on[entry].append(neighbour)
    crowded = [(site, sorted(on[int(entry)])) for site, entry in enumerate(first) if len(on[int(entry)]) > 1]
    dropped: set[int] = set()
    for site, there in crowded:
        for entry in (one for one in there if orbits.site[one] < site):
            other = int(orbits.site[entry])
            alike = (
                sites.numbers[site] == sites.numbers[other] and sites.occupancy[site] == sites.occupancy[other] > 0.5
            )
            if alike and other not in dropped and site not in dropped:
                dropped.add(site)
                remarks.append(f"{sites.labels[site]} is {sites.labels[other]} once more and counts once")
    kept = ~np.isin(orbits.site, sorted(dropped))
    occupancy = crystal.occupancy.copy()
    for site in range(len(first)):
        there = [entry for entry in on[int(first[site])] if kept[entry] and crystal.numbers[entry] > 1]
        total = crystal.occupancy[there].sum()
        if site not in dropped and 1 + OCCUPANCY_SLACK < total <= OVERFULL:
            occupancy[orbits.site == site] /= total
            remarks.append(f"site {sites.labels[site]} holds {total:.4g} atoms, scaled to one")
    return Crystal(crystal.lattice, crystal.numbers[kept], occupancy[kept], crystal.positions[kept]), remarks


def _label(number: int, symmetry: Symmetry, best: Attempt, remarks: list[str]) -> int:
    """The space group: of the operations, unless the symbol or the atoms tell another crystal system."""
    crystal = best.crystal
    assert crystal is not None
    for claim, name in ((symmetry.named, repr(symmetry.symbol)), (symmetry.number, "the number")):
        if claim not in (None, 1, number):
            remarks.append(f"{name} is space group {claim}, {best.setting.name} are {number}")
    found = higher_symmetry(crystal, number, best.setting.operations)
    if found is not None:
        remarks.append(f"said to be {number}, but its atoms have space group {found} within 0.01 Å: taken as {found}")
    return found or number


def on_symmetry(operations: Operations, lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """A lattice, rows a, b, c [Å], put on its symmetry: the metric tensor is averaged over the rotations, WᵀGW."""
    metric = (operations.averaging @ (lattice @ lattice.T).ravel()).reshape(3, 3)
    matrix: list[list[float]] = cell_of(np.linalg.cholesky(metric).astype(float)).orth.mat.tolist()
    return np.array(matrix).T


def misfit(operations: Operations, lattice: NDArray[np.float64]) -> float:
    """How far rotations change a cell that they should leave as it is: |WᵀGW − G|, in units of the edges' products.

    G is the metric tensor of the lattice, W a rotation; International Tables A, section 1.3.2.

    Args:
        operations: of the space group.
        lattice: rows a, b, c [Å].
    """
    metric = lattice @ lattice.T
    if np.abs(operations.averaging @ metric.ravel() - metric.ravel()).max() < 1e-9 * metric.max():
        return 0.0
    edges = np.sqrt(np.diag(metric))
    change = operations.rotations.transpose(0, 2, 1) @ metric @ operations.rotations - metric
    return float(np.abs(change / np.outer(edges, edges)).max())


@dataclass(frozen=True)
class Orbits:
    """All equivalent positions of n sites in the cell.

    Attributes:
        positions: fractional coordinates, each once, shape (m, 3).
        site: the site that each is an image of, shape (m,), ascending.
        counts: positions of each site, shape (n,).
        merged: images that each position stands for, which a count without tolerance would count apart, shape (n,).
    """

    positions: NDArray[np.float64]
    site: NDArray[np.intp]
    counts: NDArray[np.intp]
    merged: NDArray[np.intp]


def expand(
    operations: Operations,
    positions: NDArray[np.float64],
    lattice: NDArray[np.float64],
    tolerance: NDArray[np.float64] | float = ON_ELEMENT,
) -> Orbits:
    """All equivalent positions in the cell, each once.

    The operations that leave a position where it is, within the tolerance, put it exactly on their common element
    (the mean of its images is fixed by all of them). Its images then coincide exactly for the operations of one coset
    of these, or, where the operations are rounded (pymatgen writes translations such as 357/926), nearly.

    Args:
        operations: of the space group.
        positions: fractional coordinates, shape (n, 3).
        lattice: rows a, b, c [Å].
        tolerance: [Å], of each site, shape (n,), or of all.
    """
    n, k = len(positions), len(operations.matrices)
    translations = operations.matrices[:, :, 3]
    tolerances = np.full(n, tolerance)
    images = (positions @ operations.on_columns).reshape(n, k, 3) + translations
    step = images - positions[:, None]
    step -= np.rint(step)
    cartesian = step.reshape(-1, 3) @ lattice
    square = np.einsum("ij,ij->i", cartesian, cartesian).reshape(n, k)
    here = square < (tolerances * tolerances)[:, None]
    order = here.sum(axis=1)
    special = np.flatnonzero(order > 1)
    if len(special) == 0:
        return Orbits(images.reshape(-1, 3) % 1.0, np.repeat(np.arange(n), k), np.full(n, k), np.ones(n, np.intp))
    exact = positions[special] + np.einsum("nki,nk->ni", step[special], here[special]) / order[special, None]
    images[special] = (exact @ operations.on_columns).reshape(-1, k, 3) + translations
    kept = np.ones((n, k), bool)
    for site in special.tolist():
        first = operations.first_of_cosets(here[site])
        if first is None:
            apart = images[site][:, None] - images[site]
            near = np.linalg.norm((apart - np.rint(apart)) @ lattice, axis=-1) < tolerances[site]
            first = ~np.triu(near, 1).any(axis=0)
        kept[site] = first
    counts = kept.sum(axis=1)
    merged = np.maximum(order, 1) // np.maximum((square < EXACT * EXACT).sum(axis=1), 1)
    return Orbits(images[kept] % 1.0, np.repeat(np.arange(n), counts), counts, merged)


def cif_files(folder: Path) -> list[Path]:
    """The CIFs of a folder and the folders in it, sorted.

    Raises:
        InputError: if there is none.
    """
    files = files_in(folder, (".cif",), deep=True)
    if not files:
        raise InputError(folder, "is a folder without CIFs.", "Put .cif files there.")
    return files
