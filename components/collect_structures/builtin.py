"""The built-in structures: AFLOW prototypes decorated with other elements.

The 288 prototypes that pymatgen ships (Mehl et al., Comput. Mater. Sci. 136, S1 (2017)) are decorated as chemists look
for isostructural compounds: each element is replaced by one of its family, different elements by different ones. The
cell is scaled so that the shortest contact, in units of the sum of covalent radii (Cordero et al., Dalton Trans. 2832
(2008), as gemmi has them), stays as in the prototype, and varied by a random strain that keeps the symmetry, since the
axial ratios of isostructural compounds differ. There are few triclinic and monoclinic prototypes: random strains that
break the symmetry of other prototypes give more of them. Every structure is labelled by what spglib finds at the end.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import combinations_with_replacement, product

import gemmi
import numpy as np
import pyarrow as pa
import spglib
from numpy.typing import NDArray

from components.collect_structures.crystals import (
    SYMBOLS,
    SYMPREC,
    Crystal,
    Material,
    find_space_group,
    formula,
    from_pymatgen,
)
from components.collect_structures.symmetry import average, scaled
from components.collect_structures.variants import variants
from imitation_refinement.errors import InputError
from imitation_refinement.progress import progress
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, CrystalSystem

MAX_ATOMS = 60  # in the cell as AFLOW gives it
VARIATION = 0.02  # largest symmetry-keeping strain
BREAKING = (0.015, 0.04)  # smallest and largest symmetry-breaking strain: a line at 40° splits by 0.6 to 1.7°
CONTACT = (0.65, 1.3)  # shortest contact in sums of covalent radii; a few prototypes as shipped are faulty beyond it
VOLUME = (5.0, 100.0)  # [Å³ per atom], what solids at ordinary pressure have
FEWEST_PROTOTYPES = 40  # a system with fewer is topped up with strained ones of higher symmetry
FULL_LIBRARY = 5000  # with so many, at 1,494 specimens, the system with the fewest has enough of both
MOST_PARENTS = 3000  # of a system, of which variants are made; there are 14,000 cubic ones, found ever more slowly
MISSES = 60  # a prototype is exhausted when so many draws in a row gave nothing new
SPLIT_SYMPREC = 0.03  # [Å], a strained structure must keep its system at this tolerance, too

# Elements that replace one another: same valence, or at least one oxidation state in common.
FAMILIES = (
    "H",
    "Li Na K Rb Cs",
    "Be Mg Ca Sr Ba",
    "Sc Y La Ce Pr Nd Sm Gd Tb Dy Ho Er Tm Lu Yb Eu Th U Np Pu Ac Pa Am Cf",
    "Ti Zr Hf V Nb Ta Cr Mo W",
    "Mn Fe Co Ni Ru Rh Pd Re Os Ir Pt Tc",
    "Cu Ag Au",
    "Zn Cd Hg",
    "Al Ga In Tl",
    "Si Ge Sn Pb",
    "B C N",
    "P As Sb Bi",
    "O S Se Te Po",
    "F Cl Br I",
)
UNWANTED = frozenset(["Ac", "Pa", "Am", "Cf", "Np", "Pu", "Po", "Tc", "Tl"])  # replaced, never put in
FAMILY = {symbol: names.split() for names in FAMILIES for symbol in names.split()}
RADIUS = np.array([0.0, *(gemmi.Element(symbol).covalent_r for symbol in SYMBOLS[1:])])  # [Å] by atomic number


@dataclass(frozen=True)
class Prototype:
    """A prototype to be decorated.

    Attributes:
        label: AFLOW's label.
        note: where it comes from, for the ``source`` column.
        crystal: the structure with its original elements.
        system: the crystal system that its decorations shall have.
        rotations: Cartesian point operations that every strain keeps, shape (k, 3, 3).
        broken: the point operations of the prototype where the strain breaks them, else None.
    """

    label: str
    note: str
    crystal: Crystal
    system: CrystalSystem
    rotations: NDArray[np.float64]
    broken: NDArray[np.float64] | None = None


def builtin_materials(n_ideal: int, n_specimens: int, seed: int) -> tuple[list[Material], list[Material]]:
    """The built-in library and the built-in specimens, no formula in both, each about even over the seven systems.

    Args:
        n_ideal: number of ideal structures. The prototypes give at most MOST_PARENTS of a system, of some systems
            fewer; variants stand in for the rest, see :func:`builtin_variants`.
        n_specimens: number of specimens of other formulas.
        seed: same seed, same structures.

    Raises:
        InputError: if the prototypes don't give so many specimens.
    """
    share = n_specimens / (min(n_ideal, FULL_LIBRARY) + n_specimens)
    natives = load_prototypes()
    out: tuple[list[Material], list[Material]] = ([], [])
    classes = progress(list(enumerate(CRYSTAL_SYSTEMS)), "built-in structures", unit="systems")
    for index, system in classes:
        wanted = [min(part_of(n_ideal, index), MOST_PARENTS), part_of(n_specimens, index)]
        found = _fill(_pool(natives, system, seed), wanted, share, seed, index)
        if not found[0] or len(found[1]) < wanted[1]:
            raise InputError(
                "n_patterns",
                f"the built-in prototypes give {len(found[1])} {system} specimens, not {wanted[1]}.",
                "Ask for fewer, or give structures of your own.",
            )
        for part, more in zip(out, found, strict=True):
            part.extend(more)
    return out


def builtin_variants(library: list[Material], n_ideal: int, seed: int, workers: int = 0) -> Iterator[pa.Table]:
    """Variants that fill the built-in library up to ``n_ideal``, as even over the systems as it should be."""
    parents = [[material for material in library if material.crystal_system is system] for system in CRYSTAL_SYSTEMS]
    return variants([(part, part_of(n_ideal, i) - len(part)) for i, part in enumerate(parents)], seed, workers)


@cache
def load_prototypes() -> tuple[Prototype, ...]:
    """The AFLOW prototypes of at most MAX_ATOMS atoms that are in order, with the crystal system that spglib finds.

    The file is read directly: importing pymatgen's module of the same content takes four seconds.
    """
    file = files("pymatgen.analysis") / "prototypes" / "aflow_prototypes.json.gz"
    out = []
    for record in json.loads(gzip.decompress(file.read_bytes())):
        crystal, tags = from_pymatgen(record["snl"]), record["tags"]
        if len(crystal.numbers) > MAX_ATOMS or not all(symbol in FAMILY for symbol in _elements(crystal)):
            continue
        if not CONTACT[0] <= tightest(np.unique(crystal.numbers), shortest_contacts(crystal)) <= CONTACT[1]:
            continue
        symmetry = spglib.get_symmetry_dataset((crystal.lattice, crystal.positions, crystal.numbers), symprec=SYMPREC)
        transposed = crystal.lattice.T
        rotations = transposed @ symmetry.rotations @ np.linalg.inv(transposed)
        note = f"AFLOW {tags['aflow']}" + (f" ({tags['mineral']})" if tags["mineral"] else "")
        system = CrystalSystem.from_space_group(symmetry.number)
        out.append(Prototype(tags["aflow"], note, crystal, system, rotations))
    return tuple(out)


def _elements(crystal: Crystal) -> list[str]:
    return [SYMBOLS[z] for z in np.unique(crystal.numbers)]


def part_of(total: int, index: int) -> int:
    """The share of class ``index`` in ``total``, as even as whole numbers allow."""
    return total // len(CRYSTAL_SYSTEMS) + (index < total % len(CRYSTAL_SYSTEMS))


def _pool(natives: tuple[Prototype, ...], system: CrystalSystem, seed: int) -> list[Prototype]:
    """The prototypes of one system, in random order; triclinic and monoclinic ones topped up by strained ones."""
    index = CRYSTAL_SYSTEMS.index(system)
    rng = np.random.default_rng([seed, index])
    pool = [p for p in natives if p.system is system]
    if system in (CrystalSystem.TRICLINIC, CrystalSystem.MONOCLINIC):
        lowered = [_lowered(p, system, rng) for p in natives if CRYSTAL_SYSTEMS.index(p.system) > index]
        usable = [p for p in lowered if p is not None]
        pool += [usable[i] for i in rng.permutation(len(usable))[: max(0, FEWEST_PROTOTYPES - len(pool))]]
    return [pool[i] for i in rng.permutation(len(pool))]


def _lowered(parent: Prototype, system: CrystalSystem, rng: np.random.Generator) -> Prototype | None:
    """The prototype whose strains keep no symmetry (triclinic), or one of its twofold axes (monoclinic), if any."""
    kept = [np.eye(3)]
    if system is CrystalSystem.MONOCLINIC:
        proper = parent.rotations * np.linalg.det(parent.rotations)[:, None, None]
        twofold = np.flatnonzero(np.isclose(np.trace(proper, axis1=1, axis2=2), -1))  # 1 + 2 cos 180°
        if len(twofold) == 0:
            return None
        kept.append(proper[rng.choice(twofold)])
    note = f"{parent.note}, {parent.system} in the prototype"
    return replace(parent, note=note, system=system, rotations=np.array(kept), broken=parent.rotations)


def _fill(
    pool: list[Prototype], wanted: list[int], share: float, seed: int, index: int
) -> tuple[list[Material], list[Material]]:
    """Decorations in turn from each prototype until both parts have as many as wanted, or the pool is exhausted."""
    parts: tuple[list[Material], list[Material]] = ([], [])
    seen: set[str] = set()

    def open_to(name: str) -> bool:
        part = is_specimen(name, share, seed)
        return len(parts[part]) < wanted[part]

    sources = deque(decorations(p, np.random.default_rng([seed, index, i]), open_to) for i, p in enumerate(pool))
    while sources and any(len(part) < n for part, n in zip(parts, wanted, strict=True)):
        source = sources.popleft()
        material = next(source, None)
        if material is None:
            continue
        sources.append(source)
        if material.material_id not in seen:
            seen.add(material.material_id)
            parts[is_specimen(material.formula, share, seed)].append(material)
    return parts


def is_specimen(name: str, share: float, seed: int) -> bool:
    """Whether a formula belongs to the specimens: a fair draw that depends on the formula and the seed alone."""
    draw = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(draw[:8], "big") < share * 2**64


def decorations(
    prototype: Prototype, rng: np.random.Generator, open_to: Callable[[str], bool] = lambda name: True
) -> Iterator[Material]:
    """Different decorations of a prototype that have its crystal system, until no new ones turn up.

    Args:
        prototype: what to decorate.
        rng: the source of chance.
        open_to: whether a formula is wanted; unwanted ones cost no symmetry search.
    """
    original = np.unique(prototype.crystal.numbers)
    choices = [
        [gemmi.Element(symbol).atomic_number for symbol in FAMILY[SYMBOLS[z]] if symbol not in UNWANTED]
        for z in original
    ]
    contacts = shortest_contacts(prototype.crystal)
    tried: set[tuple[int, ...]] = set()
    misses = 0
    while misses < MISSES:
        misses += 1
        chosen = tuple(int(rng.choice(c)) for c in choices)
        if chosen in tried or len(set(chosen)) < len(chosen):
            continue
        tried.add(chosen)
        numbers = np.array(chosen, np.int16)[np.searchsorted(original, prototype.crystal.numbers)]
        name = formula(replace(prototype.crystal, numbers=numbers))
        if not open_to(name):
            continue
        tensor, size = draw_strain(prototype, rng)
        lattice = scale_factor(original, np.array(chosen), contacts) * prototype.crystal.lattice @ (np.eye(3) + tensor)
        if not VOLUME[0] <= abs(np.linalg.det(lattice)) / len(numbers) <= VOLUME[1]:
            continue
        crystal = replace(prototype.crystal, lattice=lattice, numbers=numbers)
        number = find_space_group(crystal)
        if number is None or CrystalSystem.from_space_group(number) is not prototype.system:
            continue
        if prototype.broken is not None and not _visibly(crystal, prototype.system):
            continue
        misses = 0
        kind = "breaks" if prototype.broken is not None else "keeps"
        suffix = f"-{prototype.system}" if prototype.broken is not None else ""
        yield Material(
            f"builtin-{prototype.label}-{name}{suffix}",
            name,
            number,
            crystal,
            f"{prototype.note}; elements replaced, cell scaled, strain of {100 * size:.1f} % that {kind} symmetry",
        )


def _visibly(crystal: Crystal, system: CrystalSystem) -> bool:
    number = find_space_group(crystal, SPLIT_SYMPREC)
    return number is not None and CrystalSystem.from_space_group(number) is system


def draw_strain(prototype: Prototype, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """A random strain tensor, shape (3, 3), that keeps the prototype's ``rotations``, and its size.

    A tensor averaged over a group of rotations, mean of R ε Rᵀ, is invariant under it. What the full group keeps and
    what breaks it have sizes of their own; a size is the largest principal strain. The larger one is returned.
    """
    draw = rng.uniform(-1, 1, (3, 3))
    tensor = average(draw + draw.T, prototype.rotations)
    keeping = tensor if prototype.broken is None else average(tensor, prototype.broken)
    size = rng.uniform(0, VARIATION)
    strain = scaled(keeping, size)
    if prototype.broken is not None:
        size = rng.uniform(*BREAKING)
        strain = strain + scaled(tensor - keeping, size)
    return strain, size


def shortest_contacts(crystal: Crystal) -> dict[tuple[int, int], float]:
    """Shortest distance [Å] of each pair of elements, by their places in the sorted atomic numbers."""
    images = np.array(list(product((-1, 0, 1), repeat=3)))
    step = crystal.positions[:, None] - crystal.positions[None]
    step -= np.round(step)
    distance = np.linalg.norm((step[:, :, None] + images) @ crystal.lattice, axis=-1)
    distance[distance < 1e-3] = np.inf  # an atom and itself
    nearest = distance.min(axis=-1)
    places = [np.flatnonzero(crystal.numbers == z) for z in np.unique(crystal.numbers)]
    pairs = combinations_with_replacement(range(len(places)), 2)
    return {(i, j): float(nearest[np.ix_(places[i], places[j])].min()) for i, j in pairs}


def scale_factor(
    original: NDArray[np.integer], chosen: NDArray[np.integer], contacts: dict[tuple[int, int], float]
) -> float:
    """Factor on the lattice that keeps the shortest contact in units of the sum of covalent radii.

    Args:
        original: the prototype's atomic numbers, sorted, each once.
        chosen: what replaces them, in the same order.
        contacts: as :func:`shortest_contacts` gives them.
    """
    return tightest(original, contacts) / tightest(chosen, contacts)


def tightest(numbers: NDArray[np.integer], contacts: dict[tuple[int, int], float]) -> float:
    """The shortest contact in sums of the two covalent radii."""
    return float(min(d / (RADIUS[numbers[i]] + RADIUS[numbers[j]]) for (i, j), d in contacts.items()))
