"""What the header of a text file says: wavelengths, axes, columns. What it names and we don't know is refused."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from imitation_refinement.data.scans import Axis, AxisKind
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.radiation import (
    ANODES,
    ENERGIES,
    LENGTHS,
    LINE,
    WAVELENGTHS,
    from_unit,
    line_name,
    unit_name,
)

ALIKE = 2e-4  # relative; wavelengths that differ by less are one, rounded or tabulated differently
LOOSELY = 2e-3  # relative; energies are rounded to three or four digits, the mean of a doublet is not its first line

# ---------------------------------------------------------------------------------------------------- wavelengths

_NUMBER = r"[+-]?(?:\d+(?:[.,]\d+)?|\.\d+)(?:\.(?!\d))?(?:[eEdD][+-]?\d+)?"
_KEY = re.compile(
    r"wave[\s_-]*length[\s_-]*s?|wellenl(?:ä|ae|a)nge|longueur d.onde"
    r"|(?<![a-z/])(?<!/ )(?:lambda|lam|λ|wl)(?![a-z])"
    r"|(?:(?:photon|x-?ray|beam|incident|primary)[\s_]*|^\W*)energy(?![a-z])"
    r"|^\W*(?=k[\s_-]*(?:alpha|α|a|beta|β|b)[\s_-]*[12]?\W)",
    re.IGNORECASE,
)
_RADIATION = re.compile(r"radiation|x-?ray source|anode|tube|target", re.IGNORECASE)
_SYMBOL = rf"({'|'.join(ANODES)})(?=[\s_-]*k[\s_-]*\\?[αβab]|[^a-z]|$)"
_ANODE = re.compile(_SYMBOL, re.IGNORECASE)
_ANODE_KEY = re.compile(
    r"(?:anode|target|tube|x-?ray source|radiation)(?:[\s_]*(?:material|element|type))?\W{1,8}" + _SYMBOL, re.IGNORECASE
)
_LABEL = re.compile(
    r"(?:k[\s_-]*\\?(alpha|α|a|beta|β|b)|(?<![a-z])(alpha|α|beta|β))[\s_-]*([12]?)(?![a-z0-9]|[.,]\d)", re.IGNORECASE
)
_UNIT_LINE = re.compile(r"wave[\s_-]*length[\s_-]*units?\W+([^\W\d_]+)", re.IGNORECASE)
_INDEX = re.compile(  # WAVE_LENGTH1 = 1.54059
    r"_?([12])(?=\s*[:=(\[])|\s([12])(?=\s*(?:\([^)]*\)|\[[^\]]*\])?\s*[:=])|_?([12])(?=[\s,;\t]+\d)"
)
_NEXT_KEY = re.compile(r"(?:wave[\s_-]*length|lambda|λ|wl)_?([12])(?=\s*[:=(\[,])", re.IGNORECASE)
_POWER = re.compile(r"([\[(]\s*)(?:10\s*\^?\s*\{?\s*[-−]\s*|1e-)(9|10|12)\s*\}?\s*m(?=\s*[\])])", re.IGNORECASE)
_FILLER = re.compile(
    r"[\s:=,;/|\"'()\[\]{}#*~_-]+"
    r"|(?:of|used|is|in|the|x-?rays?|beam|radiation|mean|average|weighted|intended|incident|monochromatic|synchrotron"
    r"|value|energy|wave[\s_-]*length|lambda|λ|unit|line|and)(?![a-z])",
    re.IGNORECASE,
)
_UNIT = re.compile(r"[^\W\d_]+(?![^\W_])")
_VALUE = re.compile(_NUMBER + r"(?:\(\d+\))?")
_NEXT_FIELD = re.compile(r"\s*[,;|\t]\s*([^\W\d_]+)\s*(?=$|[,;|\t])")
_WORD_BEHIND = re.compile(r"\s*[(\[]?\s*([^\W\d_]+)\s*[)\]]?\s*(?P<end>$|[,;|/\t)\]\"'.])?")
# λ is also a filter or a detector; one that is followed so is a wavelength.
_CLEARLY = re.compile(r"\s*(?:[12]\s*)?[:=(\[,;\t]|\s*\d+[.,]\d|.*[:=]")


@dataclass(frozen=True)
class Statement:
    """A wavelength that a header says.

    Attributes:
        value: [Å].
        line: ``"a1"``, ``"a2"``, ``"a"`` (the mean), ``"b"``, ``"energy"``; empty where it says none.
    """

    value: float
    line: str = ""


def find_unit(line: str) -> str:
    """The unit of wavelengths that a header line says for others: ``*WAVE_LENGTH_UNIT "nm"``; empty if it says none."""
    found = _UNIT_LINE.search(unicodedata.normalize("NFKC", line))
    return found[1] if found else ""


def find_wavelengths(line: str, where: object, unit: str = "") -> list[Statement]:
    """The wavelengths that a header line says, in Å whatever its unit.

    A number without a unit is in ``unit``, or else in Å. ``keV`` and ``eV`` are photon energies, λ = hc / E.

    >>> [s.value for s in find_wavelengths("##X-RAY WAVELENGTH=1.541838", "")]
    [1.541838]
    >>> find_wavelengths("# Wavelength: 1.652e-11 m", "")
    [Statement(value=0.1652, line='')]

    Raises:
        InputError: if its unit is not known, or is missing where it can't be Å.
    """
    text = unicodedata.normalize("NFKC", line)
    text = _POWER.sub(lambda found: found[1] + {"9": "nm", "10": "Å", "12": "pm"}[found[2]], text)  # [10⁻¹⁰ m]
    key = _KEY.search(text)
    short = key is not None and re.fullmatch(r"lambda|lam|λ|wl", key[0], re.IGNORECASE)
    if key is None or (short and not _CLEARLY.match(text, key.end())):
        return _named_radiation(text) if _RADIATION.search(text) else []
    found: list[Statement] = []
    units: list[str] = []
    at, label, named = key.end(), "energy" if "energy" in key[0].lower() else "", ""
    if index := _INDEX.match(text, at):
        at, label = index.end(), "a" + (index[1] or index[2] or index[3])
    while at < len(text):
        if token := _LABEL.match(text, at):
            label = "a" + token[3] if (token[1] or token[2]).lower() in ("alpha", "α", "a") else "b"
        elif token := _NEXT_KEY.match(text, at):
            label = "a" + token[1]
        elif token := _ANODE.match(text, at):
            named = text[at:]
        elif token := _VALUE.match(text, at):
            own, end = _unit_behind(text, token.end(), line, where)
            if not own and text[token.end() :][:1].isalpha():
                break  # 2theta
            own = own or (units[min(len(found), len(units) - 1)] if units else "" if label == "energy" else unit)
            number = float(re.sub(r"\(.*", "", token[0]).replace(",", ".").lower().replace("d", "e"))
            if number > 0:  # 0 is a field that was left empty
                found.append(_statement(number, own, label, line, where))
            at = end
            continue
        elif (token := _UNIT.match(text, at)) and _is_unit(token[0]):
            units.append(token[0])
        elif not (token := _FILLER.match(text, at)):
            break
        at = token.end()
    if found or not named:
        return found
    alone = line_name(re.sub(r"[^\w]+$", "", named))
    return [Statement(WAVELENGTHS[alone], _label_of(alone))] if alone else _named_radiation(named)


def _is_unit(word: str) -> bool:
    return unit_name(word) in LENGTHS or unit_name(word) in ENERGIES


def _unit_behind(text: str, at: int, line: str, where: object) -> tuple[str, int]:
    """The unit behind a number, and where it ends. A word that stands there alone and is no known unit is refused."""
    field = _NEXT_FIELD.match(text, at)
    if field and _is_unit(field[1]):
        return field[1], field.end()
    word = _WORD_BEHIND.match(text, at)
    if word is None:
        return "", at
    if _is_unit(word[1]):
        return word[1], word.end(1)
    known = _LABEL.match(text, word.start(1)) or _ANODE.match(text, word.start(1)) or _FILLER.match(text, word.start(1))
    if known or word["end"] is None:
        return "", at
    raise InputError(
        where, f"says {line.strip()[:80]!r}: the unit {word[1]!r} is not known.", "Write Å, nm, pm, m or keV."
    )


def _statement(number: float, unit: str, label: str, line: str, where: object) -> Statement:
    if not unit and label == "energy":
        raise InputError(where, f"says {line.strip()[:80]!r} without a unit.", "Write keV or eV behind the number.")
    if not unit and any(abs(10 * number / value - 1) < ALIKE for value in WAVELENGTHS.values()):
        raise InputError(
            where,
            f"says {line.strip()[:80]!r} without a unit; {number:g} may be nm.",
            "Write the unit behind the number: Å, nm, pm or m.",
        )
    value = from_unit(number, unit or "a")
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise InputError(where, f"says {line.strip()[:80]!r}, which is no wavelength.", "Give it in Å, nm, pm or m.")
    if value is None:
        raise InputError(where, f"says its wavelengths in {unit!r}, which is not known.", "Write Å, nm, pm, m or keV.")
    return Statement(value, "energy" if unit_name(unit) in ENERGIES else label)


def _named_radiation(text: str) -> list[Statement]:
    """The wavelength of a line that a header names with its Kα or Kβ; an anode alone says none."""
    for found in LINE.finditer(text):
        standing_alone = not (found.start() and text[found.start() - 1].isalpha())
        if found["family"] and standing_alone and (name := line_name(found[0])):
            return [Statement(WAVELENGTHS[name], _label_of(name))]
    return []


def find_anode(line: str) -> str:
    """The anode that a header line names, as ``"Cu"``; empty where it names none.

    >>> find_anode("Anode material,Cu"), find_anode("# Radiation: Mo 40 kV"), find_anode("# copper")
    ('Cu', 'Mo', '')
    """
    found = _ANODE_KEY.search(line)
    return found[1].capitalize() if found else ""


_RATIO = re.compile(
    r"(?:(?P<word>ratio)|k[\s_-]*\\?(?:alpha|α|a)[\s_-]*2\s*/\s*k[\s_-]*\\?(?:alpha|α|a)[\s_-]*1)"
    rf".*?(?<![\w/.])(?P<value>{_NUMBER})\W*$",
    re.IGNORECASE,
)
_OF_LINES = re.compile(r"alpha|α|\bk[\s_-]*a|wave[\s_-]*length|lambda|λ", re.IGNORECASE)


def find_ratio(line: str) -> float | None:
    """The ratio of Kα2 to Kα1 that a header line says; None where it says none.

    >>> find_ratio("Ratio K-Alpha2/K-Alpha1,0.5"), find_ratio("# Kα2/Kα1: 0,49"), find_ratio("# ratio of phases 0.5")
    (0.5, 0.49, None)
    """
    text = unicodedata.normalize("NFKC", line)
    found = _RATIO.search(text)
    if found is None or (found["word"] and not _OF_LINES.search(text)):
        return None
    value = float(found["value"].replace(",", "."))
    return value if 0 <= value <= 1 else None


def _label_of(name: str) -> str:
    return name[3:].replace("b1", "b")


def choose_wavelengths(statements: Sequence[Statement]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """The wavelengths [Å] of a scan out of all that its header says, and what is to be said about the choice.

    The first is the one that is said without a line's name, else Kα1, else the mean Kα, else that of a photon energy.
    Kα2 comes behind its Kα1; Kα2 and Kβ alone are none.
    """
    by_line: dict[str, list[float]] = {}
    for statement in statements:
        by_line.setdefault(statement.line, []).append(statement.value)
    order = [line for line in ("", "a1", "a", "energy") if line in by_line]
    remarks = []
    if not order:
        if statements:
            remarks.append("the header names the wavelengths of Kα2 or Kβ alone; none of them is taken")
        return (), tuple(remarks)
    first, second = by_line[order[0]][0], by_line.get("a2", [None])[0]
    if second is None and order[0] == "" and len(by_line[""]) == 2 and 1e-3 < by_line[""][1] / first - 1 < 1e-2:
        second = by_line[""].pop()  # the lines of a doublet, one behind the other
    others = [(line, value) for line in order for value in by_line[line]]
    for line, value in others[1:]:
        if abs(value / first - 1) > (ALIKE if line == order[0] else LOOSELY):
            remarks.append(f"the header says wavelengths of {first:g} and {value:g} Å; {first:g} Å is taken")
    return (first,) if second is None else (first, second), tuple(dict.fromkeys(remarks))


# ---------------------------------------------------------------------------------------------------- axes

_DEGREES = {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "°": 1.0, "rad": math.degrees(1), "radian": math.degrees(1)}
_DEGREES |= {"radians": math.degrees(1), "mrad": math.degrees(1e-3), "cdeg": 0.01, "centidegrees": 0.01}
_PER = {"a": 1.0, "ang": 1.0, "angstrom": 1.0, "nm": 0.1, "pm": 100.0, "m": 1e-10}  # [Å⁻¹]
_ANGLES = (AxisKind.TWO_THETA, AxisKind.THETA)
_KINDS: tuple[tuple[AxisKind, str], ...] = (
    (
        AxisKind.TWO_THETA,
        r"(?:deg(?:rees?)?)?(?:2|two)[*x]?(?:theta|th|t)"
        r"(?:angles?|omega|theta|th|deg(?:rees?)?|corr(?:ected)?|obs|meas|scan|scale|pos(?:ition)?|axis|values?)*"
        r"|t?tth|ttheta|(?:diffraction|scattering)?angles?|pos(?:ition)?|(?:omega|theta)/?(?:2|two)theta",
    ),
    (AxisKind.THETA, r"(?:bragg(?:angles?)?)?(?:theta|th)|braggangles?"),
    (AxisKind.SINE, r"sin\(?theta\)?/lambda|stol|s=sin\(?theta\)?/lambda"),
    (AxisKind.INVERSE_D, r"1/d|d\*|dstar|d-1|reciprocald(?:spacing)?"),
    (AxisKind.Q, r"\|?q\|?(?:space|vector|values?|range|axis)?|(?:scatteringvector|momentumtransfer)q?"),
    (AxisKind.D, r"d(?:hkl|spacings?|space|values?|axis)?|(?:lattice|interplanar)spacings?|spacing"),
    (
        AxisKind.OTHER,
        r"energy|photonenergy|tof|timeofflight|time|channels?|chan(?:nel)?(?:no)?|pixels?|omega|phi|chi|psi|r|radius"
        r"|radialdistance|distance|d\*\^?2|q\^?2|(?:log10|log|ln)\(?[qd].*|q[xyz]|azimuth(?:alangle)?|temperature",
    ),
)


def axis_of(text: str) -> Axis | None:
    """The axis that a name stands for, ``2Theta [deg]``, ``q_nm^-1``, ``d(Å)``; None where it names none.

    2θ is in degrees where no unit stands. Any other kind needs its unit, and without one, or with one that is not
    known, there is no way to 2θ: its kind is then OTHER.
    """
    name, unit = _name_and_unit(text)
    kind = next((kind for kind, pattern in _KINDS if re.fullmatch(pattern, name)), None)
    if kind is None and re.fullmatch(r"2?th(?:eta)?", unit.lstrip("°")) and name in ("", "x"):
        kind = AxisKind.TWO_THETA
    if name == "s" and _scale(AxisKind.Q, unit):
        kind = AxisKind.OTHER  # 1/d, sin θ / λ and q are all written so
    if kind is None:
        return None
    shown = " ".join(text.split())
    scale = _scale(kind, unit)
    return Axis(AxisKind.OTHER if scale is None else kind, scale or 1.0, shown)


def _plain(text: str) -> str:
    """Small letters, no marks above them, θ and λ in words, no blanks."""
    text = unicodedata.normalize("NFKD", text).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c))
    for sign, word in (
        ("θ", "theta"),
        ("ϑ", "theta"),
        ("λ", "lambda"),
        ("ω", "omega"),
        ("−", "-"),
        ("⋅", ""),
        ("·", ""),
    ):
        text = text.replace(sign, word)
    return re.sub(r"[\s{}$\\]+", "", text)


def _name_and_unit(text: str) -> tuple[str, str]:
    plain = _plain(text.strip(" \"'#!*:"))
    bracket = re.fullmatch(r"(?!(?:log10|ln|log)[(\[])(.+?)[\[(<]([^\[(<]*)[\])>]\.?", plain)
    if bracket:
        return bracket[1] if bracket[1] == "d-1" else re.sub(r"[_\-.,:]+", "", bracket[1]), bracket[2]
    for separator in ("_", ",", "/"):  # pyFAI: q_nm^-1; IUCr: 2θ / °
        name, found, unit = plain.rpartition(separator) if separator == "/" else plain.partition(separator)
        if found and _is_axis_unit(unit):
            return re.sub(r"[_\-.]+", "", name), unit
    if word := re.fullmatch(r"(q|d)_?((?:inv|per).+)", plain):
        return word[1], word[2]
    if plain in ("d-1", "d^-1"):
        return "d-1", ""
    return re.sub(r"[_\-.:,]+", "", plain) if "/lambda" not in plain else plain, ""


def _is_axis_unit(unit: str) -> bool:
    if re.fullmatch(r"none|mm|kev|ev|us|µs|μs|ms|(?:a|nm)\^?-2", unit.strip("_")):
        return True
    return any(_scale(kind, unit) is not None for kind in (AxisKind.THETA, AxisKind.Q, AxisKind.D))


def _scale(kind: AxisKind, unit: str) -> float | None:
    """What a unit is in °, Å⁻¹ or Å; None where the unit is missing or not of this kind."""
    unit = unit.strip("_. ").replace("_", "")
    if kind is AxisKind.OTHER:
        return None
    if kind in _ANGLES:
        bare = re.sub(r"\.?(?:2|two)?[-_]?(?:theta|th)\.?$", "", unit)
        if kind is AxisKind.TWO_THETA and bare in ("", "°"):
            return 1.0
        return _DEGREES.get(bare if bare else unit)
    if kind is AxisKind.D:
        return LENGTHS.get(unit_name(unit))
    inverse = re.sub(r"\^|\*\*", "", unit)
    found = re.fullmatch(r"(?:1/|inverse|reciprocal|inv\.?|per)(.+)|(.+?)-1", inverse)
    if found is None:
        return None
    length = (found[1] or found[2]).replace("nanometers", "nm").replace("nanometres", "nm").replace("nanometer", "nm")
    return _PER.get(unit_name(length))


_AXIS_KEY = re.compile(
    r"^\W*(?:x[\s_-]*)?(axis|units?|label|abscissa|scan[\s_-]*axis|(?:radial|integration)[\s_-]*unit)[^:=]{0,12}[:=]\s*(.+)$",
    re.IGNORECASE,
)

_WORDS = re.compile(r"time|temperature|distance|phi|chi|omega|energy|pos(?:ition)?|angles?")  # may be titles, if alone


def find_axis(line: str) -> Axis | None:
    """The axis that a header line says by itself: ``# unit: q_A^-1``, ``x-axis = d (Å)``, FIT2D's ``Q-Space``."""
    text = unicodedata.normalize("NFKC", line).strip().strip("#!*'\" \t")
    if key := _AXIS_KEY.match(text):
        if found := axis_of(key[2]):
            return found
        unit = _plain(key[2])
        if _is_axis_unit(unit) and _scale(AxisKind.TWO_THETA, unit) != 1.0 and unit not in ("none",):
            return Axis(AxisKind.OTHER, 1.0, f"{key[2].strip()}, of an unnamed kind")
        return None
    return axis_of(text) if len(text) > 1 and not _WORDS.fullmatch(_plain(text)) else None


_OTHER_AXIS = re.compile(
    r"\b(?:nm|Å|ang\w*)\s?(?:\^\s?\{?\(?)?[-−]\s?1\b|\bA\s?\^\s?\{?\(?[-−]\s?1\b|1/(?:nm|Å|A|ang\w*)\b|(?:nm|Å|A)⁻¹"
    r"|\bradians?\b|\bd[\s-]?spacings?\b",
    re.IGNORECASE,
)


def mentions_other_axis(line: str) -> bool:
    """Whether a line speaks of d spacings, radians, or a unit of q, as nm⁻¹."""
    return _OTHER_AXIS.search(unicodedata.normalize("NFC", line)) is not None


def units_below(names: Sequence[str], units: Sequence[str]) -> list[str] | None:
    """Names of columns with the units that a line below them gives; None if it is no line of units.

    >>> units_below(["q", "intensity"], ["1/nm", "counts"]), units_below(["2theta", "I"], ["5", "40"])
    (['q [1/nm]', 'intensity [counts]'], None)
    """
    if len(names) != len(units) or not any(_is_axis_unit(_plain(unit)) for unit in units):
        return None
    return [f"{name} [{unit}]" if unit else name for name, unit in zip(names, units, strict=True)]


# ---------------------------------------------------------------------------------------------------- columns

COUNTS = "counts"


def intensity_unit(text: str) -> str:
    """A unit of intensities by one name however it is written: ``counts``, ``cps``; others as they stand.

    >>> intensity_unit("cts"), intensity_unit("Counts/s"), intensity_unit("a. u.")
    ('counts', 'cps', 'a. u.')
    """
    plain = re.sub(r"[\s._]+", "", text).casefold()
    if re.fullmatch(r"(?:counts?|cts?|cnts?)", plain):
        return COUNTS
    if re.fullmatch(r"cps|(?:counts?|cts?|cnts?)(?:/|per)s(?:ec(?:onds?)?)?", plain):
        return "cps"
    return text


_SIGMA = re.compile(
    r"(?:sigma|σ|esd|e\.?s\.?d\.?|std(?:dev)?|stddeviation|standarddeviation|err(?:or)?s?|unc(?:ertainty)?|di|dy|dintensity)"
    r"(?:i|y|intensity|\(?(?:i|y|intensity)\)?)?|(?:i|y|int|intensity|counts?)(?:sigma|esd|err(?:or)?s?|std|unc(?:ertainty)?)"
)
_COUNTED = re.compile(
    r"(?:i|y|int|intensit(?:y|ies|aet)|intensitat|counts?|cts|cps|countspersecond|signal)(?:\(?(?:obs|meas(?:ured)?|exp|raw|total|counts?|cts|cps)\)?)?"
    r"|(?:obs(?:erved)?|meas(?:ured)?|exp|raw|total)(?:i|y|int|intensity|counts?)?|counts?/s(?:ec)?"
)
_NO_MEASUREMENT = re.compile(
    r".*(?:calc|bkg|background|backgr|diff(?:erence)?|resid(?:ual)?|weight|time|temp(?:erature)?|monitor|phase|hkl|flag).*|bg|bck|w|y[cbd]"
)
_ROW_NUMBER = re.compile(r"no|nr|num(?:ber)?|index|idx|point|points|row|n|id|step|stepno|pointno|datapoint|")
_UNNAMED = ("x", "xobs", "xdata", "xvalue", "xvalues", "xaxis")


@dataclass(frozen=True)
class Columns:
    """Where a header line says that the columns are.

    Attributes:
        axis: what the first is.
        places: of the axis, the intensity and, where there is one, its standard deviation.
        unit: of the intensity, as it is written.
        remarks: what had to be decided.
    """

    axis: Axis
    places: tuple[int, int, int | None]
    unit: str = ""
    remarks: tuple[str, ...] = ()


def find_columns(line: str, separator: str, width: int, row: bool, where: object) -> Columns | None:
    """The columns that a header line names; None if it is no line of names.

    Args:
        line: the line.
        separator: of the data's fields; a blank for any white space.
        width: how many fields a line of data has.
        row: whether the line stands right above the data; with as many fields it is a line of names.
        where: the file, for messages.

    Raises:
        InputError: if it names an axis but not which column is the intensity, or the other way round.
    """
    if re.search(r"\w\s*[:=](?=\s|\w)", line) or axis_of(line):
        return None  # a key and its value, or one name alone
    for names in _splittings(line, separator):
        axes = {i: axis for i, name in enumerate(names) if (axis := axis_of(name))}
        kinds = [_column_kind(name) for name in names]
        counted = [i for i, kind in enumerate(kinds) if kind == "intensity" and i not in axes]
        same_width = len(names) == width
        if len(names) < 2 or len(names) > width or not (axes or counted):
            continue
        above = row and same_width and (counted[-1] > 0 if counted else False)
        if not ((axes and counted) or (0 in axes and same_width) or above):
            continue
        if not counted and mentions_other_axis(line) and axis_of(names[0]) == Axis(name=names[0]):
            continue  # prose, as "angles in radians"
        usable = [i for i, axis in axes.items() if axis.kind is not AxisKind.OTHER]
        best = sorted(usable or axes, key=lambda i: list(AxisKind).index(axes[i].kind))
        place = best[0] if best else next((i for i, name in enumerate(names) if _plain(name) in _UNNAMED), None)
        if place is None:
            raise InputError(
                where,
                f"names its columns {', '.join(names)}; none is an angle, q or d.",
                "Name one 2theta, with its unit.",
            )
        others = [i for i, kind in enumerate(kinds) if kind == "" and i != place and i not in axes]
        choice = counted or (others if len(others) == 1 else [])
        if not choice:
            raise InputError(
                where,
                f"names its columns {', '.join(names)}; which one is the measured intensity is not said.",
                "Name one column intensity, and leave out calculated ones.",
            )
        sigma = next((i for i, kind in enumerate(kinds) if kind == "sigma"), None)
        remarks = []
        if len(choice) > 1:
            remarks.append(f"of the columns {', '.join(names[i] for i in choice)} the first is taken for the intensity")
        unit = re.search(r"[\[(]([^\])]*)[\])]", names[choice[0]])
        axis = axes.get(place, Axis())
        return Columns(axis, (place, choice[0], sigma), unit[1] if unit else "", tuple(remarks))
    return None


def _column_kind(name: str) -> str:
    plain = _plain(name.strip(" \"'"))
    bare = re.sub(r"[_\-.,:]+", "", re.sub(r"[\[(](?!obs|i\b|y\b|meas).*", "", plain))
    if _SIGMA.fullmatch(bare):
        return "sigma"
    if _COUNTED.fullmatch(bare):
        return "intensity"
    if _NO_MEASUREMENT.fullmatch(bare) or _ROW_NUMBER.fullmatch(bare):
        return "other"
    return ""


def _splittings(line: str, separator: str) -> list[list[str]]:
    """The ways to split a line of names: as the data, then by what separates in it."""
    text = unicodedata.normalize("NFC", line.strip().lstrip("#!*'% \t"))
    text = re.sub(
        r"(?<![\w(\[])(2|two|d|scattering|diffraction|time of)[ -]"
        r"(th(?:eta)?|θ|ϑ|spacings?|space|value|vector|angle|flight)\b",
        r"\1\2",
        text,
        flags=re.IGNORECASE,
    )
    unit = r"(?:nm|Å|A)\s?(?:\^?\{?[-−]1\}?|⁻¹)|1/(?:nm|Å|A)\b|(?:rad|deg|degrees|radians)\b"
    text = re.sub(r"^L\s+", "", text)  # SPEC's #L
    text = re.sub(rf"(?<=[^\W\d_])\s*/\s*(?={unit}|°|nm|Å|a\.u|arb)|(?<=[\wθϑ])\s+(?={unit})", "_", text)  # q / nm⁻¹
    text = re.sub(r"\s*([\[(][^\])]*[\])])", lambda found: found[1].replace(" ", ""), text)
    ways = [separator, ";", "\t", ","]
    out = [
        [name.strip(" \"'") for name in text.split(way)] for way in dict.fromkeys(ways) if way != " " and way in text
    ]
    return [*out, re.split(r"\s{2,}", text), text.split()]
