"""What a material is called: chemical formulas as people and files write them, in one normal form.

A name is a composition: amounts divided by their sum, whatever the cell, the order of the elements or the notation.
Deuterium and tritium count as hydrogen (the lines stand at the same places), charges, isotopes and vacancies count
nothing. What does not say its amounts (``(Mg,Fe)2SiO4``, ``xH2O``) is no composition and is refused.

Nothing here is heavier than NumPy: stages without pymatgen compare names, too.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

# By atomic number, up to the last element with tabulated X-ray form factors.
_TABLE = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf"
)
SYMBOLS = re.findall("[A-Z][a-z]?", _TABLE)
ELEMENTS = {symbol: symbol for symbol in SYMBOLS} | {"D": "H", "T": "H"}

# Files round occupancies: 1/3 is .333, too. A share of the atoms is moved by at most that.
ROUNDED = 4e-4
ROUNDED_ATOMS = 0.003  # the same of the atoms of a formula with small whole numbers
LONGEST = 500  # characters of a formula
WHOLE, LARGEST = 60, 1000  # atoms of a formula that rounded shares, and that exact ones, are turned into
EXACT = 1e-7  # of a share
DECIMALS = 3  # of a share in a name without small whole numbers
TRACE = 5e-4  # less of an element is left out of a name
SAME = 1e-3  # rounded shares that differ by no more are the same: one unit of the last decimal

NAMING = 2  # the version of this normal form; names of another one are not to be compared with these

Amounts = dict[str, Fraction]

_PREFIXES = "mono di tri tetra penta hexa hepta octa nona deca undeca dodeca"
_WATERS = {"hemi": "1/2", "sesqui": "3/2"} | {
    name: str(number) for number, name in enumerate(re.findall("[a-z]+", _PREFIXES), 1)
}
_UNSAID = re.compile("doped|and|or|with|plus|mixture|mixed|hydrate|hydrated|hydrous")  # words of unknown amounts
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:/\d+)?"
_ELEMENT = r"[A-Z][a-z]?"
# As Fe2O3 or Mg0.12O0.5Si0.38: most names. II may be an oxidation state.
_SIMPLEST = re.compile(rf"(?!.*II)(?:(?:{_ELEMENT}\d*)+|(?:{_ELEMENT}0\.\d+)+)", re.ASCII)
_GREEK = "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|kappa|lambda|omega"
_PHASE = rf"(?:[α-ω]|{_GREEK}|\d*[CHRTMO]\d?|[a-z])"  # of a polymorph or polytype
_ANIONS = {"O": "2", "S": "2", "Se": "2", "Te": "2", "N": "3", "P": "3", "F": "1", "Cl": "1", "Br": "1", "I": "1"}


def parse(text: str) -> Amounts:
    """The amount of each element in a formula.

    Understood are hydrates and adducts (``CaSO4.2H2O``, ``·``, ``*``, ``CaSO4 2(H2O)``, ``3CdSO4·8H2O``, ``CaSO4
    dihydrate``), nested brackets, fractions and decimals (comma or point), subscripts and charges (plain, Unicode,
    LaTeX, HTML, ``^2+^``, ``_2_``, ``~2~``), isotopes, vacancies (``□``, ``[]``, ``Vac``), oxidation states, and text
    (``TiO2 (rutile)``, ``quartz SiO2``, ``β-MnO2``).

    Raises:
        ValueError: if it is no formula, or does not say its amounts; the text is the reason.
    """
    if len(text) > LONGEST:
        raise ValueError(f"has {len(text)} characters")
    out: dict[str, Fraction] = defaultdict(Fraction)
    counts = re.findall(rf"({_ELEMENT})([\d.]*)", text) if _SIMPLEST.fullmatch(text) else []
    if counts and all(element in ELEMENTS for element, _ in counts):
        for element, count in counts:
            out[ELEMENTS[element]] += Fraction(count or 1)
    else:
        try:
            for part in _resolve_points(_plain(text)).split("·"):
                for factor, formula in _terms(part):
                    for element, amount in _Reader(formula).read().items():
                        out[element] += factor * amount
        except (ZeroDivisionError, RecursionError):
            raise ValueError("divides by zero, or has brackets without end") from None
    found = {element: amount for element, amount in out.items() if amount}
    if not found:
        raise ValueError("names no element")
    return found


def _plain(text: str) -> str:
    """A formula in ASCII with ``·`` between parts and ``□`` for vacancies, without charges and text."""
    text = html.unescape(text).strip().strip(",;")
    text = re.sub(r"<su([bp])>(.*?)</su\1>", lambda m: ("_" if m[1] == "b" else "^") + f"{{{m[2]}}}", text)
    text = re.sub(r"\\(?:cdot|bullet|ast|times)(?![A-Za-z])", "·", text)
    text = re.sub(r"\\(?:square|Box)(?![A-Za-z])", "□", text)
    text = re.sub(r"\\(?:mathrm|mathit|text|textrm|ce)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1", text)
    text = re.sub(r"\\[A-Za-z]+|\\,|\$", "", text)
    text = re.sub(r"(\d*)([¼½¾⅐-⅞])", lambda m: str(int(m[1] or 0) + _fraction(m[2])), text)
    text = re.sub(r"[⁰¹²³⁴-⁹]*[⁺⁻]", "", text)  # charges
    text = re.sub(r"(?<![A-Za-z])[⁰¹²³⁴-⁹]+(?=[A-Z])", "", text)  # isotopes
    text = re.sub(r"\^(?:\{\d*[+-]\d*\}|\d*[+-]\^?)", "", text)
    text = re.sub(r"\^(?:\{\d+\}|\d+\^?)(?=[A-Z])", "", text)
    text = re.sub(rf"_\{{\s*({_NUMBER})\s*\}}|_({_NUMBER})_?|~({_NUMBER})~", lambda m: m[1] or m[2] or m[3], text)
    text = unicodedata.normalize("NFKC", re.sub("[⁰¹²³⁴-⁹^]", "?", text))  # what is left of them is not understood
    text = re.sub(r"[•∙⋅‧*・×]|(?<=\s)[.x](?=\s+\d)", "·", text)
    text = re.sub("[−–—‐‑]", "-", text)
    text = re.sub(r"\[\s*\]|\[(?:box|vac|vacancy)\]|[☐◻]|(?:Vac|Va|\bvac)(?![a-z])", "□", text)
    text = re.sub(r"(?<=\d),(?=\d)", ".", text)  # decimal commas
    text = re.sub(r"(\.\d+)\(\d+\)", r"\1", text)  # standard uncertainties
    text = re.sub(r"[({](?:II|III|IV|VI|VII|VIII)[)}]|(?<=[A-Za-z)\]])III?(?![a-z])", "", text)  # oxidation states
    if found := re.search(rf"{_ELEMENT}\([IV]\)(?!\d)|\s\({_ELEMENT}\)(?![\d.])", text):
        raise ValueError(f"{found[0].strip()!r} may mean an element or not")
    if found := re.search(r"%|\s[+&]\s", text):
        raise ValueError(f"{found[0].strip()!r} joins what is not said to be one compound")
    return _without_charges(_without_text(text))


def _fraction(sign: str) -> Fraction:
    return Fraction(unicodedata.numeric(sign)).limit_denominator(10)


def _without_text(text: str) -> str:
    """Words and names of polymorphs left out; a word that says how much water there is becomes water."""
    text = re.sub(rf"^{_PHASE}'?\s*-\s*(?=[A-Z(\[])", "", text)
    text = re.sub(r"-\s*(?:\d+[CHRTMO]\d?|[IVX]+|(?!delta)[a-z]{3,})$", "", text)
    text = re.sub(r"\(([A-Za-z][A-Za-z .,'-]*)\)(?![\d.])", lambda m: f" {m[1]} " if _is_text(m[1]) else m[0], text)
    kept: list[str] = []
    listed = False  # whether a comma stands before a token
    for token in "".join(_outside_of_brackets(text)).split():
        word = token.strip(",;.")
        water = re.fullmatch("([a-z]+)hydrate", word.lower())
        if water and water[1] in _WATERS:
            kept.append(f"·{_WATERS[water[1]]}H2O")
        elif _UNSAID.fullmatch(word.lower()):
            raise ValueError(f"{word!r} does not say how much")
        elif not _is_text(word):
            if listed and kept and not re.match(r"[\d(]*[HD]2O", word):
                raise ValueError("a comma joins what is not said to be one compound")
            kept.append(token.strip(",;"))
        listed = token.endswith(",")
    return " ".join(kept)


def _outside_of_brackets(text: str) -> Iterable[str]:
    """The characters of a text, without the spaces in brackets."""
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth <= 0 or not character.isspace():
            yield character


def _is_text(words: str) -> bool:
    """Whether words are no formula: lower-case letters throughout, but for the first."""
    return all(re.fullmatch(r"[A-Z][a-z'-]{2,}|[a-z][a-z'-]+|[sglc]", word) for word in re.split("[ .,]+", words))


def _without_charges(text: str) -> str:
    """``Fe3+2O3`` as ``Fe2O3``; a number that may be an amount or a charge is refused."""
    if found := re.search(r"[A-Z][a-z]?[+-]\d", text):
        raise ValueError(f"{found[0]!r} may mean a charge or an amount")
    text = re.sub(r"(?<=\S)\s+(?:\d[+-](?=\s|·|$)|[+-]$)", "", text)  # SO4 2-
    text = re.sub(r"(\d)(\d)[+-](?!\w*-)", r"\1", text)  # SO42-: the last digit
    charged = bool(re.search(r"\+", text))

    def uncharged(found: re.Match[str]) -> str:
        symbol, digit, sign = found.groups()
        if not digit and sign == "-" and not charged and text[found.end() : found.end() + 1].isalpha():
            raise ValueError(f"{found[0]!r} joins what is not said to be one compound")
        if not digit or symbol in ")]":
            return symbol
        if ELEMENTS.get(symbol) == "H" or (sign == "-" and _ANIONS.get(symbol) not in (digit, None)):
            return symbol + digit  # NH4+, NO3-
        alone = found.start() == 0 and found.end() == len(text)
        if (sign == "+" and symbol != "O") or (sign == "-" and (charged or alone)):
            return symbol
        raise ValueError(f"{found[0]!r} may mean a charge or an amount")

    return re.sub(rf"({_ELEMENT}|[)\]])(\d?)([+-])(?=[A-Z(\[)\]·\d.\s]|$)", uncharged, text)


def _resolve_points(text: str) -> str:
    """A point that parts a hydrate or an adduct as ``·``; the others are decimal points."""
    text = re.sub(r"\.(?=[A-Z(\[□])", "·", text)
    text = re.sub(r"(\d)\.(?=\d*\.\d|\d+/\d)", r"\1·", text)  # CaSO4.0.5H2O

    def water(found: re.Match[str]) -> str:
        before = text[: found.start()]
        elements = re.findall(_ELEMENT, before.rpartition("·")[2])
        decimal = re.search(r"(?:^|\D)0$", before) or len(elements) < 2
        return found[0] if decimal else "·" + found[1]

    text = re.sub(r"\.(\d+)(?=\(?[HD]2O(?![\d.a-z]))", water, text)
    adduct = r"(O\d*)\.(\d+)(?=[A-Z][A-Za-z\d()]*O\d*(?:·|$))"  # Al2O3.2SiO2
    if len(re.findall(r"\.", text)) == 1 and (found := re.search(adduct, text)):
        if "·" not in text:
            raise ValueError(f"the point of {found[0]!r} may part two oxides or be a decimal point; write ·")
        text = re.sub(adduct, r"\1·\2", text)
    return text


def _terms(part: str) -> list[tuple[Fraction, str]]:
    """What stands between two ``·``, as (factor, formula): a number in front counts all that follows it."""
    terms: list[tuple[Fraction, str]] = []
    factor, counted = Fraction(1), 0
    for token in part.split():
        if re.fullmatch(_NUMBER, token) and terms and re.fullmatch(_ELEMENT, terms[-1][1]):
            terms[-1] = (terms[-1][0], terms[-1][1] + token)  # Fe 2 O 3
            continue
        number = re.match(_NUMBER, token)
        if number:
            factor, counted = Fraction(*map(Fraction, number[0].split("/"))), 0
        if rest := token[number.end() :] if number else token:
            counted += 1
            if factor != 1 and counted > 1:
                raise ValueError(f"{part.strip()!r} does not say what its number counts")
            terms.append((factor, rest))
    return terms


class _Reader:
    """Reads elements, brackets and amounts, from the left."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0

    def read(self) -> Amounts:
        out = self.units("")
        if self.place < len(self.text):
            self.refuse()
        return out

    def units(self, closing: str) -> Amounts:
        """Up to the closing bracket, or to the end."""
        out: dict[str, Fraction] = defaultdict(Fraction)
        members, said = 1, True  # of a list of elements that share a site; whether all say how much
        amount: Fraction | None = Fraction(1)
        while (head := self.text[self.place : self.place + 1]) and head != closing:
            if head in "([{":
                self.place += 1
                closed = ")]}"["([{".index(head)]
                inner = self.units(closed)
                if self.text[self.place : self.place + 1] != closed:
                    raise ValueError(f"a bracket {head} is not closed")
                self.place += 1
            elif head == "□":
                self.place, inner = self.place + 1, {}
            elif head == "," and closing:
                self.place, members, said = self.place + 1, members + 1, said and amount is not None
                continue
            else:
                inner = {self.element(): Fraction(1)}
            amount = self.amount()
            for element, count in inner.items():
                out[element] += count * (1 if amount is None else amount)
        if members > 1 and not (said and amount is not None):
            raise ValueError(f"the shares of {' and '.join(out)} on one site are not said")
        return out

    def element(self) -> str:
        for length in (2, 1):
            if (symbol := self.text[self.place : self.place + length]) in ELEMENTS:
                self.place += len(symbol)
                return ELEMENTS[symbol]
        return self.refuse()

    def amount(self) -> Fraction | None:
        found = re.compile(_NUMBER).match(self.text, self.place)
        if not found:
            return None
        self.place = found.end()
        above, _, below = found[0].partition("/")
        if below and not int(below):
            raise ValueError(f"{found[0]!r} is no amount")
        return Fraction(above) / int(below or 1)

    def refuse(self) -> str:
        rest = self.text[self.place :]
        if found := re.match(r"(?:\d*[+-])?([xyznmuvwα-ω](?![a-z])|delta)", rest):
            raise ValueError(f"the amount {found[1]!r} is not said")
        if rest[0] in "/:+,=%":
            raise ValueError(f"{rest[0]!r} joins what is not said to be one compound")
        raise ValueError(f"{rest!r} is no formula")


def normal(amounts: Mapping[str, float | Fraction]) -> dict[str, int] | dict[str, float]:
    """A composition in its normal form: equal for equal materials, whatever cell or formula unit they come from.

    Small whole numbers that the shares of the atoms agree with, within what files round (:data:`ROUNDED`), or larger
    ones that they agree with exactly; otherwise the shares, rounded to :data:`DECIMALS`. What is less than
    :data:`TRACE` of the atoms is left out: it moves no line. Two solid solutions stay two where their shares differ by
    more than files round; shares on both sides of a rounding boundary make two names of one, and :func:`one_material`
    finds these.

    Raises:
        ValueError: if nothing is there.
    """
    total = sum(map(float, amounts.values()))
    present = {element: a for element, a in amounts.items() if float(a) >= TRACE * total}
    if not present:
        raise ValueError("names no element")
    elements = sorted(present)
    if all(amount == int(amount) for amount in present.values()):  # as most are: told at once
        divisor = gcd(*(int(amount) for amount in present.values()))
        if total <= WHOLE * divisor:  # so few that no rounded shares are nearer
            return {element: int(present[element]) // divisor for element in elements}
    shares = np.array([float(present[element]) for element in elements])
    shares /= shares.sum()
    for largest in (WHOLE, LARGEST):
        atoms = np.arange(1.0, largest + 1)  # those that are left, one share after the other
        for share in shares.tolist():
            off = np.abs(np.maximum(np.rint(atoms * share), 1) / atoms - share)
            atoms = atoms[off <= (np.minimum(ROUNDED, ROUNDED_ATOMS / atoms) if largest == WHOLE else EXACT)]
        if len(atoms):
            found = np.maximum(np.rint(atoms[0] * shares), 1).astype(int)
            divisor = int(np.gcd.reduce(found))
            return {element: int(n) // divisor for element, n in zip(elements, found, strict=True)}
    # Halves are rounded up, and a sum's last digits don't decide what is a half.
    rounded = np.floor(np.round(shares, 7) * 10**DECIMALS + 0.5 + 1e-6) / 10**DECIMALS
    return {element: float(x) for element, x in zip(elements, rounded, strict=True)}


def stoichiometry(name: str) -> str:
    """The amounts of a formula in normal form, without its elements: ``1 1 3`` of CaTiO3 and of NaNbO3."""
    amounts = re.findall(r"[A-Z][a-z]?([0-9.]*)", name)
    return " ".join(sorted(amount or "1" for amount in amounts))


def one_material(names: Iterable[str]) -> dict[str, str]:
    """For each name that is another's by rounding: the name that all of these go by, the first of them by alphabet.

    A name with decimals is compared with all, whole numbers are exact. Shares that differ by at most :data:`SAME` are
    the same, and so are all that are joined by such steps.

    Args:
        names: normal forms, as the tables have them. Others are passed over.
    """
    by_elements: dict[frozenset[str], list[tuple[str, NDArray[np.float64]]]] = defaultdict(list)
    unique = sorted(set(names))
    mixed = {frozenset(re.findall(_ELEMENT, name)) for name in unique if "." in name}
    for name in unique:
        elements = frozenset(re.findall(_ELEMENT, name))
        if elements in mixed:
            try:
                amounts = parse(name)
            except ValueError:
                continue
            shares = np.array([float(amounts[element]) for element in sorted(amounts)])
            by_elements[frozenset(amounts)].append((name, shares / shares.sum()))
    joined: dict[str, str] = {}
    for found in by_elements.values():
        own = [name for name, _ in found]
        shares = np.stack([x for _, x in found])
        first = np.arange(len(own))
        for i in (i for i, name in enumerate(own) if "." in name):
            near = np.flatnonzero(np.abs(shares - shares[i]).max(axis=1) <= SAME + EXACT)
            first[np.isin(first, first[near])] = first[near].min()
        joined |= {own[i]: own[j] for i, j in enumerate(first) if i != j}
    return joined


def difference(one: str, other: str) -> float:
    """The share of the atoms that differ between two compositions, 0 to 1; hydrogen, which X-rays hardly see, aside.

    1 where a name is no formula; of names that are equal 0.
    """
    if one == other:
        return 0.0
    try:
        first, second = _heavy_shares(one), _heavy_shares(other)
    except ValueError:
        return 1.0
    return sum(abs(first.get(element, 0.0) - second.get(element, 0.0)) for element in first | second) / 2


@lru_cache(maxsize=100_000)
def _heavy_shares(name: str) -> dict[str, float]:
    amounts = {element: float(amount) for element, amount in parse(name).items()}
    heavy = {element: amount for element, amount in amounts.items() if element != "H"} or amounts
    total = sum(heavy.values())
    return {element: amount / total for element, amount in heavy.items()}


def without_hydrogen(name: str) -> str:
    """What is equal for names that differ in hydrogen alone; the name itself where it is no formula."""
    try:
        amounts = parse(name)
    except ValueError:
        return name
    heavy = {element: amount for element, amount in amounts.items() if element != "H"}
    return repr(sorted(normal(heavy).items())) if heavy else name


def but_for_hydrogen(names: Iterable[str]) -> dict[str, str]:
    """For each name that differs from another in hydrogen alone: what all of these go by, the first by alphabet."""
    elements = {name: frozenset(re.findall(_ELEMENT, name)) for name in sorted(set(names))}
    hydrous = {found - {"H"} for found in elements.values() if "H" in found}
    families: dict[str, list[str]] = defaultdict(list)
    for name, found in elements.items():
        if found - {"H"} in hydrous:  # others need not be read
            families[without_hydrogen(name)].append(name)
    shared = [family for family in families.values() if len(family) > 1 and any("H" in elements[n] for n in family)]
    return {name: family[0] for family in shared for name in family}
