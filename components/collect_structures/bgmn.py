"""Structure files of BGMN and Profex (``.str``), turned into CIF and checked as CIFs are.

A file names a setting of a space group, and gives each atom a Wyckoff letter with the coordinates that are free there.
What the letters mean in each of BGMN's settings is read from a table (``spg.json`` of autoXRD). A wrong origin or axis
would go unseen, so the operations are those of the one setting of gemmi's tables that has this symbol and under which
every Wyckoff position of BGMN's table has as many images as that says.

References:
    Doebelin and Kleeberg, Profex: a graphical user interface for the Rietveld refinement program BGMN, Journal of
    Applied Crystallography 48, 1573 (2015).
"""

from __future__ import annotations

import ast
import operator
import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray
from pymatgen.optimization.neighbors import find_points_in_spheres

from components.collect_structures.builtin import CONTACT, RADIUS
from components.collect_structures.cif import CELL, COORDINATES, OPERATIONS, read_block
from components.collect_structures.crystals import OCCUPANCY_SLACK, SAME_SITE, SYMBOLS, Crystal, Reading
from components.collect_structures.settings import Operations, operations_of
from imitation_refinement.errors import InputError, shown
from imitation_refinement.files import parse_json, read_bytes

EXTENSION = ".str"
REMEDY = "Correct the file or leave it out."
LONGEST = 200  # characters of an expression
MOST = 1000  # atoms that a file lists; real ones have up to two hundred
SAME = 2e-3  # of the cell: coordinates that are rounded differently
ANYWHERE = np.array([0.1357, 0.2468, 0.3911])  # free coordinates on no symmetry element
NAMED = ("SpacegroupNo", "HermannMauguin", "Setting", "Lattice", "UniqueAxis", "CellChoice", "OriginChoice")
LENGTHS, ANGLES = ("A", "B", "C"), ("ALPHA", "BETA", "GAMMA")
UNIQUE = {"a": "ALPHA", "b": "BETA", "c": "GAMMA"}
FREE = {  # what a file must say of a cell; one angle of a monoclinic or rhombohedral one comes on top
    "Triclinic": (*LENGTHS, *ANGLES),
    "Monoclinic": LENGTHS,
    "Orthorhombic": LENGTHS,
    "Tetragonal": ("A", "C"),
    "Trigonal": ("A", "C"),
    "Hexagonal": ("A", "C"),
    "Rhombohedral": ("A",),
    "Cubic": ("A",),
}
MODELS = ("RefMult", "DELTAsk", "B2", "layer", "LeBail", "GeneralCondition")  # of stacking faults, glasses, bare lines
COMMENT = re.compile(r"//[^\n]*")
UNCHECKED = "check wyckoff"  # a comment of files that were converted without knowing the letters
FULL = 0.95  # a crystal has a site that is at least so full
BOUNDS = re.compile(r"[_^].*", re.DOTALL)  # of a parameter: value_lowest^highest
HYDROGEN = re.compile(r"\(?[HD](?![A-Za-z])")
SPECIES = re.compile(r"([A-Z][A-Za-z]?)(?:[+-]\d*)?(?:\((.*)\))?", re.DOTALL)
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, IndexError)  # what a spoilt table of settings raises
OPERATORS: Mapping[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


@dataclass(frozen=True)
class Wyckoff:
    """A Wyckoff position: its first coordinates are ``matrix @ (x, y, z) + shift``.

    Attributes:
        matrix: shape (3, 3).
        shift: shape (3,).
        count: images in the cell.
    """

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]
    count: int

    def at(self, free: NDArray[np.float64]) -> NDArray[np.float64]:
        """The first coordinates for free ones, both of shape (..., 3)."""
        return np.asarray(free @ self.matrix.T + self.shift)


@dataclass(frozen=True)
class Setting:
    """A space group in one of BGMN's settings.

    Attributes:
        names: what a file calls it by, of NAMED.
        positions: by their Wyckoff letters.
    """

    names: Mapping[str, str]
    positions: Mapping[str, Wyckoff]

    @cached_property
    def triplets(self) -> tuple[str, ...]:
        """The operations, with those of the centring.

        Raises:
            ValueError: if no setting of gemmi's tables, or more than one, has this symbol and these Wyckoff positions.
        """
        number, symbol = int(self.names["SpacegroupNo"]), short(self.names["HermannMauguin"], self.names["Lattice"])
        groups = [g for g in gemmi.spacegroup_table() if g.number == number and g.hm.replace(" ", "") == symbol]
        fit = [ops for ops in (tuple(op.triplet() for op in g.operations()) for g in groups) if self._fits(ops)]
        if len(fit) != 1:
            text = f"{self.names['HermannMauguin']}, setting {self.names['Setting']}"
            raise ValueError(f"is in {text}, which {len(fit)} settings of the International Tables fit")
        return fit[0]

    def _fits(self, triplets: tuple[str, ...]) -> bool:
        operations = operations_of(triplets)
        return all(images(one.at(ANYWHERE), operations) == one.count for one in self.positions.values())


@dataclass
class Atom:
    """An atom as its file has it: what is on the site, and what is said of it by name."""

    species: str
    values: dict[str, str] = field(default_factory=dict)


class Numbers:
    """The numbers of what a file says by name; each expression is worked out once."""

    def __init__(self, said: Mapping[str, str]) -> None:
        self._said = said
        self._found: dict[str, float] = {}

    def __getitem__(self, name: str) -> float:
        """The number that a name stands for.

        Raises:
            ValueError: if the file does not say it, says it by itself, or says no number.
        """
        if name not in self._found:
            if name not in self._said:
                raise ValueError(f"does not say {shown(name)}")
            self._found[name] = np.nan  # until it is found: what leads back to it is no number
            self._found[name] = evaluated(self._said[name], self.__getitem__)
        return self._found[name]


def read_structure(text: str, table: Path, where: object) -> Reading:
    """The crystal of a structure file, checked as one of a CIF is.

    Of the settings that a file may mean the first is taken, as BGMN does, unless what the file says of the cell or of
    an atom contradicts it.

    Args:
        text: of the file.
        table: ``spg.json`` of autoXRD: BGMN's settings and their Wyckoff positions.
        where: the source, for messages.

    Raises:
        InputError: if it is no structure file, or a model that is no crystal (stacking faults, glass, bare lines); if
            a setting or an expression is not understood; if an atom contradicts its Wyckoff position in every setting
            that is meant; if atoms are too near; or as :func:`read_block`.
    """
    values, atoms = _contents(text, where)
    remarks: list[str] = []
    try:
        for setting in _settings(values, table):
            try:
                found = _read(values, atoms, setting, where)
            except ValueError as error:
                remarks.append(f"setting {setting.names['Setting']} {error}")
                continue
            if remarks:
                remarks.append(f"taken as setting {setting.names['Setting']}")
            _check_sites(found.crystal, where)
            return replace(found, remarks=(*remarks, *found.remarks))
    except ValueError as error:
        raise InputError(where, f"{error}.", REMEDY) from None
    raise InputError(where, f"{'; '.join(remarks)}.", REMEDY)


def _read(values: dict[str, str], atoms: Sequence[Atom], setting: Setting, where: object) -> Reading:
    """What a setting makes of a file; without its hydrogen, which X-rays hardly see, where that is what is wrong.

    Raises:
        ValueError: if the file contradicts the setting.
        InputError: as :func:`read_block`.
    """
    block = _cif(values, atoms, setting)
    heavy = [atom for atom in atoms if not HYDROGEN.match(atom.species)]
    try:
        return read_block(block, where)
    except InputError as error:
        if len(heavy) in (0, len(atoms)):
            raise
        found = read_block(_cif(values, heavy, setting), where)
        return replace(found, remarks=(f"{error.problem.rstrip('.')}: read without hydrogen", *found.remarks))


def _check_sites(crystal: Crystal, where: object) -> None:
    """Refuses what a wrong setting makes: atoms, hydrogen aside, that are both there and nearer than any bond.

    A file without formula says nothing else that would tell. Heavy atoms of all sites thinned out stand for a structure
    that is not known.

    Raises:
        InputError: if two atoms are nearer than the share CONTACT[0] of the sum of their covalent radii, or no site is
            full.
    """
    heavy = crystal.numbers > 1
    radius, share = RADIUS[crystal.numbers[heavy]], crystal.occupancy[heavy]
    lattice = np.ascontiguousarray(crystal.lattice)
    places = crystal.positions[heavy] @ lattice
    far = 2 * CONTACT[0] * radius.max(initial=SAME_SITE)
    one, other, _, distance = find_points_in_spheres(places, places, far, np.ones(3, int), lattice, 1e-8)
    on_site = np.bincount(one, share[other] * (distance < SAME_SITE))
    if on_site.max(initial=0) < FULL:
        raise InputError(where, "has no site that is full.", "Leave it out.")
    near = distance / (radius[one] + radius[other])
    near[(distance < SAME_SITE) | (share[one] + share[other] <= 1 + OCCUPANCY_SLACK)] = np.inf
    if near.min(initial=np.inf) < CONTACT[0]:
        pair = near.argmin()
        a, b = (SYMBOLS[crystal.numbers[heavy][entry]] for entry in (one[pair], other[pair]))
        raise InputError(where, f"has {a} and {b} {distance[pair]:.3f} Å apart.", REMEDY)


def _contents(text: str, where: object) -> tuple[dict[str, str], list[Atom]]:
    """What a file says by name: of the phase, and of each atom.

    Raises:
        InputError: if something is not understood, or there are no atoms.
    """
    if UNCHECKED in text.lower():
        raise InputError(where, "says of itself that its Wyckoff positions are to be checked.", "Leave it out.")
    values: dict[str, str] = {}
    atoms: list[Atom] = []
    for token in _tokens(text, where):
        name, said, value = token.partition("=")
        if name in MODELS or "[" in name or "LeBail" in value:
            raise InputError(where, f"is a model that is no crystal ({shown(token)}).", "Leave it out.")
        if name == "PARAM":
            name, said, value = value.partition("=")
            value = BOUNDS.sub("", value)
        if name == "E" and said:
            atoms.append(Atom(value))
        elif said:
            (atoms[-1].values if atoms else values)[name] = value.lstrip("=")
        elif not re.fullmatch(r"[\d.]+", token):  # a number alone says nothing, to BGMN too
            raise InputError(where, f"has {shown(token)!r}, which is no NAME=value.", REMEDY)
    if not 0 < len(atoms) <= MOST:
        raise InputError(where, f"lists {len(atoms):,} atoms, not 1 to {MOST:,}.", "Leave it out.")
    return values, atoms


def _tokens(text: str, where: object) -> Iterator[str]:
    """The parts of a file between blanks; blanks in brackets do not count."""
    depth, part = 0, ""
    for char in f"{COMMENT.sub('', text)} ":
        depth += (char == "(") - (char == ")")
        if depth < 0:
            break
        if not char.isspace():
            part += char
        elif depth == 0 and part:
            yield part
            part = ""
    if depth != 0:
        raise InputError(where, "has brackets that do not match.", REMEDY)


def _settings(values: Mapping[str, str], table: Path) -> list[Setting]:
    """The settings that a file may mean, in BGMN's order.

    Raises:
        ValueError: if there is none.
    """
    said = {name: values[name] for name in NAMED if name in values}
    if not {"SpacegroupNo", "HermannMauguin"} & set(said):
        raise ValueError("names no space group")
    found = [one for one in settings(table) if said.items() <= one.names.items()]
    if not found:
        text = " ".join(f"{name}={shown(value)}" for name, value in said.items())
        raise ValueError(f"names a setting that BGMN does not have: {text}")
    return found


@lru_cache(maxsize=4)
def settings(table: Path) -> tuple[Setting, ...]:
    """BGMN's settings, each once, in the order of their numbers.

    Raises:
        InputError: if the table is damaged.
    """
    found = {}
    try:
        for group in parse_json(read_bytes(table)).values():
            for one in group["settings"]:
                names = {name: one["setting"][name] for name in NAMED if name in one["setting"]}
                positions = {letter: _position(position) for letter, position in one["wyckoffs"].items()}
                order = (int(names["SpacegroupNo"]), int(names["Setting"]))
                found[order] = Setting(names, positions)
    except DAMAGED as error:
        problem = f"is no table of settings ({type(error).__name__}: {error})."
        raise InputError(table, problem, "Install its package again.") from None
    return tuple(found[order] for order in sorted(found))


def _position(record: Mapping[str, Any]) -> Wyckoff:
    terms = record["std_notations"][0].split()
    places = [
        [evaluated(term, dict(zip("xyz", free, strict=True)).__getitem__) for term in terms]
        for free in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    ]
    shift, *along = np.array(places)
    return Wyckoff(np.array(along).T - shift[:, None], shift, int(record["N"]))


def short(symbol: str, lattice: str) -> str:
    """A full Hermann–Mauguin symbol as gemmi has it, without blanks.

    >>> short("P4_2/m2_1/n2/m", "Tetragonal"), short("F4_1/d-32/m", "Cubic"), short("P12_1/c1", "Monoclinic")
    ('P42/mnm', 'Fd-3m', 'P121/c1')
    """
    if lattice == "Cubic":
        symbol = re.sub(r"[24](_\d)?/", "", symbol)
    elif lattice != "Monoclinic":
        symbol = re.sub(r"(?<!_)2(_1)?/", "", symbol)
    return symbol.replace("_", "")


def images(position: NDArray[np.float64], operations: Operations) -> int:
    """How many places of the cell operations bring a position to, shape (3,)."""
    return len(operations.matrices) // max(1, int(_same(_moved(position, operations), position).sum()))


def _moved(position: NDArray[np.float64], operations: Operations) -> NDArray[np.float64]:
    return np.asarray(operations.matrices[:, :, :3] @ position + operations.matrices[:, :, 3])


def _same(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether positions, shape (..., 3), differ by whole cells, shape (...)."""
    apart = one - other
    return np.asarray((np.abs(apart - np.rint(apart)) < SAME).all(axis=-1))


def _cif(values: dict[str, str], atoms: Sequence[Atom], setting: Setting) -> gemmi.cif.Block:
    """A structure file as the block of a CIF.

    Raises:
        ValueError: if the file contradicts the setting, or something is not understood.
    """
    block = gemmi.cif.Block("bgmn")
    if formula := values.get("Formula"):
        block.set_pair("_chemical_formula_sum", gemmi.cif.quote(formula.replace("_", " ")))
    for tag, number in zip(CELL, _cell(values, setting), strict=True):
        block.set_pair(tag, f"{number:.8g}")
    loop = block.init_loop("", [OPERATIONS[0]])
    for triplet in setting.triplets:
        loop.add_row([gemmi.cif.quote(triplet)])
    loop = block.init_loop("", ["_atom_site_label", "_atom_site_type_symbol", *COORDINATES, "_atom_site_occupancy"])
    for atom in atoms:
        numbers = Numbers(ChainMap(atom.values, values))
        at = [f"{coordinate:.8f}" for coordinate in _placed(atom, numbers, setting)]
        for symbol, share in _shares(atom.species, numbers):
            if share:
                loop.add_row([symbol, symbol, *at, f"{share:.6g}"])
    return block


def _cell(values: Mapping[str, str], setting: Setting) -> list[float]:
    """Edges [Å] and angles [°]; what is not said is what the lattice makes it.

    Raises:
        ValueError: if one is missing or no number.
    """
    lattice = setting.names["Lattice"]
    numbers = Numbers(values)
    cell = {name: numbers[name] for name in (*LENGTHS, *ANGLES) if name in values}
    free = [*FREE[lattice]]
    if lattice == "Monoclinic":
        free.append(UNIQUE[setting.names["UniqueAxis"]])
    elif lattice == "Rhombohedral":  # any angle stands for all
        free.append(next((name for name in ANGLES if name in cell), "GAMMA"))
    if missing := [name for name in free if name not in cell]:
        raise ValueError(f"is {lattice.lower()} and does not say {missing[0]}")
    angle = cell[free[-1]] if lattice == "Rhombohedral" else 90.0
    usual = {"B": cell["A"], "C": cell["A"], "ALPHA": angle, "BETA": angle, "GAMMA": angle}
    if lattice in ("Trigonal", "Hexagonal"):
        usual["GAMMA"] = 120.0
    cell = usual | cell
    return [*(10 * cell[name] for name in LENGTHS), *(cell[name] for name in ANGLES)]


def _placed(atom: Atom, numbers: Numbers, setting: Setting) -> NDArray[np.float64]:
    """Fractional coordinates of an atom, shape (3,).

    Three coordinates may be those of any image of the Wyckoff position; fewer are its first ones.

    Raises:
        ValueError: if they contradict the Wyckoff position, or one is missing.
    """
    letter = atom.values.get("Wyckoff", "")
    name = f"{shown(atom.species)} on the Wyckoff position {shown(letter)!r}"
    if letter not in setting.positions:
        raise ValueError(f"has {name}, which is none")
    position, operations = setting.positions[letter], operations_of(setting.triplets)
    said = {axis: numbers[axis] for axis in "xyz" if axis in atom.values}
    for axis, used in zip("xyz", position.matrix.T, strict=True):
        if used.any() and axis not in said:
            raise ValueError(f"has {name} without {axis}")
    free = np.array([said.get(axis, 0.0) for axis in "xyz"]) % 1.0
    there = position.at(free)
    if len(said) == 3:
        moved = _moved(free, operations)
        contradicts, there = not _same(position.at(moved), moved).any(), free
    else:
        given = np.array([axis in said for axis in "xyz"])
        contradicts = not _same(np.where(given, free, there), there)
    if contradicts:
        text = " ".join(f"{axis}={value:g}" for axis, value in said.items())
        raise ValueError(f"has {name}, which is not at {text}")
    if (count := images(there, operations)) != position.count:
        raise ValueError(f"has {name}, whose {position.count} images fall on {count}")
    return there


def _shares(text: str, numbers: Numbers) -> list[tuple[str, float]]:
    """What is on a site, as ``(SI+4(0.75),AL+3(0.25))``; the one of several without a share has the rest.

    Raises:
        ValueError: if it is not understood.
    """
    inner = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    found = [SPECIES.fullmatch(part) for part in _parts(inner)]
    said = [
        (one[1].capitalize(), None if one[2] is None else evaluated(one[2], numbers.__getitem__))
        for one in found
        if one
    ]
    if len(said) < len(found) or sum(share is None for _, share in said) > 1:
        raise ValueError(f"has E={shown(text)}, which does not say what is on the site")
    rest = 1.0 - sum(share for _, share in said if share is not None)
    return [(symbol, rest if share is None else share) for symbol, share in said]


def _parts(text: str) -> list[str]:
    """What stands between the commas outside of brackets."""
    depth, out = 0, [""]
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            out.append("")
        else:
            out[-1] += char
    return out


def evaluated(text: str, named: Callable[[str], float]) -> float:
    """The number of an expression such as ``0.5*(1-p)``: numbers, names, ``+ - * /`` and brackets, nothing else.

    Args:
        text: the expression.
        named: the number that a name stands for.

    Raises:
        ValueError: if it is none, or not finite.
    """
    try:
        # Of a NUL some Pythons make a ValueError, which is none of the syntax.
        found = _number(ast.parse(text if len(text) <= LONGEST and "\0" not in text else "", mode="eval").body, named)
    except (SyntaxError, TypeError, ArithmeticError, MemoryError, RecursionError):
        found = np.nan
    if not isfinite(found):
        raise ValueError(f"has the expression {shown(text)!r}, which is no number")
    return found


def _number(node: ast.AST, named: Callable[[str], float]) -> float:
    match node:
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            return float(value)
        case ast.Name(name):
            return named(name)
        case ast.UnaryOp(sign, operand) if type(sign) in OPERATORS:
            return OPERATORS[type(sign)](_number(operand, named))
        case ast.BinOp(left, sign, right) if type(sign) in OPERATORS:
            return OPERATORS[type(sign)](_number(left, named), _number(right, named))
    raise TypeError(type(node).__name__)
