"""The library that patterns are searched in, made of structures, and the ranking that goes with it.

    python -m pipelines.library structures.parquet library.parquet

The table is what collect_structures writes. Here are, too, the virtual measurements that ``release`` searches in a
library, to fit what makes a true answer: with all its entries, and without those of what the pattern is of.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path

import gemmi
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.collect_structures.stage import materials_of, tables
from components.simulate.kernel import Structures, reflections, unsupported
from components.simulate.library import entries
from imitation_refinement import __version__
from imitation_refinement.answer.library import LIBRARY, REFERENCE, Library
from imitation_refinement.answer.pattern import prepare
from imitation_refinement.answer.ranking import Case, Ranking
from imitation_refinement.answer.search import Search
from imitation_refinement.data.contracts import STRUCTURES, open_table, parts, read_table, write_rejected
from imitation_refinement.data.formula import but_for_hydrogen, one_material, stoichiometry
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest, output_folder, write_text
from imitation_refinement.progress import progress, say
from imitation_refinement.running.stage import exit_on_input_error
from imitation_refinement.xrd.crystal import CLASS_INDEX, CrystalSystem
from imitation_refinement.xrd.diffractometer import Reflections, measure
from imitation_refinement.xrd.flaws import Ranges, draw

AT_A_TIME = 500  # structures
# Flaws of the patterns that the ranking is fitted on. Cells differ from the library's by strains from 0.1 to 2.5 %: in
# solid solutions, at other temperatures, and where the library's cell was calculated. Measured lines stand too high:
# see learning.pair_training.
RANGES = Ranges(cut_share=0.3, zero_shift=(-0.06, 0.14))
STRAINS = (0.25, 6.3)  # of RANGES.strain, log
TEXTURE = (0.0, 0.8)  # standard deviation of the logarithm of each line's intensity, beside the preferred orientation
AXIS = np.arange(5, 90.001, 0.02)
BEYOND = 95.0  # 2θ [°]: lines so far still reach in
UNFITTED = Ranking((), (), (), (), ())  # where only evidence is collected


def read_structures(path: Path) -> pa.Table:
    """A table of structures, in one file or several; those without form factors are left out, and it is said.

    Raises:
        InputError: if it breaks its contract, or none is left.
    """
    return _with_form_factors(pa.concat_tables([read_table(part, STRUCTURES) for part in parts(path)]), path)


def _with_form_factors(table: pa.Table, path: Path) -> pa.Table:
    """The structures of a table that have some; see :func:`read_structures`."""
    table = table.filter(pa.compute.is_valid(table["lattice"]))
    bad = unsupported(Structures.from_arrow(table))
    if bad.any():
        say(f"{path}: {int(bad.sum())} structures hold elements without form factors: left out")
    if bad.all():
        raise InputError(path, "has no structure with form factors.", "Give at least one.")
    return table.filter(pa.array(~bad))


def read_library(path: Path) -> Library:
    """A library, or one made of a table of structures.

    Raises:
        InputError: if it is neither.
    """
    is_library = set(LIBRARY.names) <= set(open_table(parts(path)[0]).column_names)
    return Library.read(path) if is_library else library_of(read_structures(path))


def library_file(source: str, folder: Path) -> Path:
    """The file of a library, made of structures where the source is none.

    Args:
        source: a library, or what collect_structures takes: a table, a folder or an archive of CIFs, a package's name.
        folder: where a library that is made is written; one that was made of the same source before is taken.

    Raises:
        InputError: if the source holds no structure that can be used.
    """
    path, made, note = Path(source), folder / "library.parquet", folder / "library.json"
    if path.suffix == ".parquet" and path.is_file() and set(LIBRARY.names) <= set(open_table(path).column_names):
        return path
    origin = {"source": source, "digest": digest(path) if path.exists() else "", "version": __version__}
    if made.is_file() and note.is_file() and note.read_text(encoding="utf-8") == json.dumps(origin):
        return made
    output_folder(folder)
    rejected: list[InputError] = []
    structures = pa.concat_tables(list(tables(materials_of(source, rejected))))
    write_rejected(folder / "rejected_structures.csv", rejected)
    found = library_of(_with_form_factors(structures, path))
    found.write(made)
    write_text(note, json.dumps(origin))
    say(f"{made}: {len(found)} crystals of {source}, {len(rejected)} left out")
    return made


def library_of(structures: pa.Table) -> Library:
    """The library of structures under the ``STRUCTURES`` contract, all of them with form factors."""
    return Library.of(_records(structures))


def _records(structures: pa.Table) -> Iterator[dict[str, object]]:
    crystals = Structures.from_arrow(structures)
    starts = range(0, len(structures), AT_A_TIME)
    for start in progress(starts, "library", unit=f"batches of {AT_A_TIME}"):
        part = np.arange(start, min(start + AT_A_TIME, len(structures)))
        yield from entries(structures.slice(start, AT_A_TIME), crystals.select(part))


@dataclass(frozen=True)
class Materials:
    """Which entries of a library are of which pattern's material.

    Attributes:
        right: entries of its formula and space group: the phase itself, shape (patterns, entries).
        own: entries of its formula, or one that differs in hydrogen alone: what *unseen* leaves out, the same shape.
    """

    right: NDArray[np.bool_]
    own: NDArray[np.bool_]

    @classmethod
    def of(cls, library: Library, formulas: list[str], space_groups: NDArray[np.int_]) -> Materials:
        """Of patterns by their formulas, in the tables' normal form, and space groups, shape (patterns,)."""
        names = [*library.formula.tolist(), *formulas]
        same = one_material(names)
        names = [same.get(name, name) for name in names]
        family_of = but_for_hydrogen(names)
        material, family = np.array(names), np.array([family_of.get(name, name) for name in names])
        n = len(library)
        equal = material[n:, None] == material[:n]
        return cls(
            equal & (np.asarray(space_groups)[:, None] == library.space_group),
            equal | (family[n:, None] == family[:n]),
        )


@dataclass(frozen=True)
class Measured:
    """A virtual measurement of one of some structures.

    Attributes:
        row: of the structure.
        system: index of its crystal system.
        two_theta: angles [°], shape (n,).
        counts: shape (n,).
    """

    row: int
    system: int
    two_theta: NDArray[np.float64]
    counts: NDArray[np.float64]


def virtual_measurements(structures: pa.Table, number: int, seed: int) -> list[Measured]:
    """Measurements at :data:`REFERENCE` of structures, equally many of each crystal system that is there.

    Args:
        structures: what to measure; each may be another's impurity.
        number: of measurements.
        seed: of the choice and the flaws.
    """
    rng = np.random.default_rng(seed)
    groups = structures["space_group"].to_pylist()
    systems = np.array([CLASS_INDEX[CrystalSystem.from_space_group(group)] for group in groups])
    present = np.unique(systems)
    chosen = np.array([rng.choice(np.flatnonzero(systems == present[i % len(present)])) for i in range(number)])
    impurities = rng.integers(len(structures), size=number)
    crystals = Structures.from_arrow(structures)
    out = []
    for start in range(0, number, AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        found = reflections(crystals.select(chosen[part]), REFERENCE, BEYOND)
        others = reflections(crystals.select(impurities[part]), REFERENCE, BEYOND)
        for row, phase, impurity in zip(chosen[part].tolist(), found, others, strict=True):
            out.append(Measured(row, int(systems[row]), *_virtual(rng, phase, impurity)))
    return out


def representative(measured: Sequence[Measured], structures: pa.Table, library: pa.Table) -> NDArray[np.float64]:
    """By what each measurement counts, for each Bravais lattice to do so as often in its system as a library has it.

    What is held out has few stoichiometries: half of its cubic structures may be centred I, where one of eight is.

    Args:
        measured: of ``structures``.
        structures: rows with a space group.
        library: rows that say how often each Bravais lattice is met.

    Returns:
        Shape (n,), of mean 1 in each crystal system whose lattices are all measured.
    """
    groups = structures["space_group"].to_pylist()
    kinds = [_bravais(groups[one.row]) for one in measured]
    own, met = Counter(kinds), Counter(map(_bravais, library["space_group"].to_pylist()))
    of_own, of_met = (Counter(system for system, _ in counts.elements()) for counts in (own, met))
    counting = {k: met[k] / n * of_own[k[0]] / of_met[k[0]] for k, n in own.items()}
    return np.array([counting[kind] for kind in kinds])


@cache
def _bravais(space_group: int) -> tuple[str, str]:
    """A space group's crystal system and the centring of its lattice, one face as another."""
    centring = gemmi.find_spacegroup_by_number(space_group).centring_type()
    return str(CrystalSystem.from_space_group(space_group)), "C" if centring in "ABC" else centring


class Without(StrEnum):
    """What is left out of the library when a virtual measurement is searched."""

    NOTHING = "nothing"
    MATERIAL = "the entries of its material"
    KIND = "those of its stoichiometry, its isotypes among them"


def cases(search: Search, structures: pa.Table, measured: Sequence[Measured]) -> Iterator[dict[Without, Case]]:
    """Each virtual measurement searched with each of :class:`Without` that leaves a library.

    Args:
        search: the library; its ranking is not used.
        structures: what was measured.
        measured: see :func:`virtual_measurements`; nothing comes of one of which nothing can be searched.
    """
    formulas, groups = (structures[name].take([one.row for one in measured]) for name in ("formula", "space_group"))
    materials = Materials.of(search.library, formulas.to_pylist(), groups.to_numpy())
    kinds = np.array([stoichiometry(name) for name in search.library.formula.tolist()])
    for i, one in enumerate(measured):
        try:
            pattern = prepare(one.two_theta, one.counts, REFERENCE)
        except InputError:  # drawn with so much background that nothing is left: no pattern to learn from
            yield {}
            continue
        matched = search.matched(pattern)
        left = ~materials.own[i]
        allowed = (None, left, left & (kinds != stoichiometry(formulas[i].as_py())))
        yield {
            without: search.case(search.fitted(pattern, which, matched), materials.right[i], one.system)
            for without, which in zip(Without, allowed, strict=True)
            if which is None or which.any()
        }


def _virtual(
    rng: np.random.Generator, phase: Reflections, impurity: Reflections
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles and counts of one measurement."""
    drawn = draw(rng, RANGES)
    strain = np.exp(rng.uniform(*np.log(STRAINS)))
    drawn = replace(drawn, strain=tuple(strain * component for component in drawn.strain))
    factors = np.exp(rng.uniform(*TEXTURE) * rng.standard_normal(len(phase.d)))
    textured = replace(phase, f2=phase.f2 * np.repeat(factors, np.diff(phase.starts)))
    counts = measure(textured, drawn, AXIS, REFERENCE, impurity)
    seen = drawn.observed(AXIS)
    return AXIS[seen], counts[seen]


def main() -> None:
    """Reads the command line and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", type=Path, help="STRUCTURES table (Parquet)")
    parser.add_argument("output", type=Path, help="the library (Parquet)")
    options = parser.parse_args()
    structures = read_structures(options.structures)
    library = library_of(structures)
    library.write(options.output)
    say(f"{options.output}: {len(library)} crystals, {options.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
