"""The library that patterns are searched in: the lines of many crystals, and how each cell may be strained.

A line is kept as its Miller indices and its amplitude √(Σ|F|²); where it stands follows from the cell. So a library is
valid at any wavelength, cells can be refined, and 15,000 crystals take some megabytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.data.contracts import read_table, write_table
from imitation_refinement.data.formula import SYMBOLS
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, N_CLASSES, CrystalSystem
from imitation_refinement.xrd.diffractometer import Reflections

MOST_Q = 6.2  # [1/Å]: to 2θ = 99° with copper; few measured patterns hold more beyond
REFERENCE = 1.5406  # [Å], the wavelength at which lines are compared by strength
MOST_LINES = 200  # of a crystal, the strongest; half of all crystals have fewer than 60
LARGEST_INDEX = 127
METADATA_KEY = b"imitation_refinement.library"
B_ISO = 0.5  # [Å²], of every crystal: a usual one at room temperature
EQUIVALENT = 1e-3  # relative difference of |F|² below which reflections of one line are equivalent
# Decimals, or 20 and more of an element that no molecule has so many of.
_MIXED = re.compile(r"\.|(?:(?!(?:H|C|N|O)\d)[A-Z][a-z]?|\))[2-9]\d|\d{3}")
# Free parameters of the cell, in the order of the crystal systems.
FREE = dict(zip(CRYSTAL_SYSTEMS, (6, 4, 3, 2, 2, 2, 1), strict=True))

LIBRARY = pa.schema(
    [
        pa.field("material_id", pa.string(), nullable=False),
        pa.field("formula", pa.string(), nullable=False),
        pa.field("space_group", pa.int16(), nullable=False),
        pa.field("crystal_system", pa.string(), nullable=False),
        pa.field("reciprocal", pa.list_(pa.float64()), nullable=False),  # nine numbers, rows a*, b*, c* [1/Å]
        pa.field("strains", pa.list_(pa.float32()), nullable=False),  # what the symmetry allows, six numbers each
        pa.field("hkl", pa.list_(pa.int8()), nullable=False),  # three numbers a line
        pa.field("amplitude", pa.list_(pa.float16()), nullable=False),  # √(Σ|F|²) of each line, the largest 1
        pa.field("source", pa.string()),
        pa.field("made", pa.string()),  # how the crystal was made from another; null: it is as the source has it
    ]
)


@dataclass(frozen=True)
class Library:
    """Many crystals as flat arrays; crystal i owns lines ``offsets[i]:offsets[i + 1]``, by rising q.

    Attributes:
        material_id, formula, source, made: texts, shape (n,); ``made`` is empty where nothing was.
        space_group: shape (n,).
        system: indices of :data:`CRYSTAL_SYSTEMS`, shape (n,).
        reciprocal: rows a*, b*, c* [1/Å], shape (n, 3, 3).
        strains: an orthonormal basis of the strains that keep the symmetry, the first the isotropic one, 0 beyond
            ``n_strains``; components 11, 22, 33, √2·23, √2·13, √2·12 on the axes of ``reciprocal``, shape (n, 6, 6).
        n_strains: the cell's free parameters, shape (n,).
        offsets: shape (n + 1,).
        hkl: of one of each line's reflections, shape (m, 3).
        amplitude: √(Σ|F|²) over the line's reflections, the largest of a crystal 1, shape (m,).
    """

    material_id: NDArray[np.str_]
    formula: NDArray[np.str_]
    space_group: NDArray[np.int16]
    system: NDArray[np.int8]
    source: NDArray[np.str_]
    made: NDArray[np.str_]
    reciprocal: NDArray[np.float64]
    strains: NDArray[np.float32]
    n_strains: NDArray[np.int8]
    offsets: NDArray[np.int64]
    hkl: NDArray[np.int8]
    amplitude: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def q(self) -> NDArray[np.float32]:
        """q = 2π/d [1/Å] of each line, shape (m,)."""
        owner = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        metric = 4 * np.pi**2 * np.einsum("nik,njk->nij", self.reciprocal, self.reciprocal)
        h = self.hkl.astype(np.float64)
        q2 = np.zeros(len(h))
        for i in range(3):
            for j in range(3):
                q2 += h[:, i] * h[:, j] * metric[owner, i, j]
        return np.sqrt(q2).astype(np.float32)

    @cached_property
    def elements(self) -> NDArray[np.bool_]:
        """Which elements of :data:`SYMBOLS` each crystal has, shape (n, elements)."""
        column = {symbol: i for i, symbol in enumerate(SYMBOLS)}
        out = np.zeros((len(self), len(SYMBOLS)), bool)
        for row, formula in enumerate(self.formula.tolist()):
            for symbol in re.findall("[A-Z][a-z]?", formula):
                out[row, column[symbol]] = True
        return out

    @cached_property
    def phase(self) -> NDArray[np.intp]:
        """A number for each formula and space group, equal for entries of one phase, shape (n,)."""
        names = np.char.add(np.char.add(self.formula, " "), self.space_group.astype(str))
        return np.unique(names, return_inverse=True)[1]

    @cached_property
    def often(self) -> NDArray[np.float64]:
        """How often each crystal system is taken to be met, shape (7,); all more than 0.

        Halfway between the crystals' shares and equal ones: databases have few triclinic crystals, 2 % of these, and
        the world more, 8 % of measured minerals.
        """
        shares = np.bincount(self.system, minlength=N_CLASSES) / len(self)
        return np.asarray((shares + 1 / N_CLASSES) / 2)

    @cached_property
    def mixed(self) -> NDArray[np.bool_]:
        """Whether a formula is one of a solid solution: its amounts are no small whole numbers, shape (n,)."""
        return np.array([bool(_MIXED.search(formula)) for formula in self.formula.tolist()])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that a search depends on, hexadecimal; the same however the file was compressed."""
        sha = hashlib.sha256("\0".join([*self.material_id, *self.formula]).encode())
        for array in (self.space_group, self.system, self.reciprocal, self.strains, self.offsets, self.hkl):
            sha.update(np.ascontiguousarray(array).tobytes())
        sha.update(self.amplitude.tobytes())
        return sha.hexdigest()

    @classmethod
    def of(cls, records: Iterable[dict[str, object]]) -> Library:
        """A library of rows under the :data:`LIBRARY` contract, as :func:`record` makes them.

        Raises:
            ValueError: if there are none.
        """
        return cls.from_arrow(pa.Table.from_pylist(list(records), schema=LIBRARY))

    @classmethod
    def read(cls, path: str | Path) -> Library:
        """A library that :meth:`write` wrote.

        Raises:
            InputError: if the file can't be read, or breaks the contract.
        """
        table = read_table(path, LIBRARY)
        remedy = "Make the library again: python -m pipelines.library."
        if any(column.null_count for name, column in zip(table.column_names, table.columns, strict=True)
               if not LIBRARY.field(name).nullable):  # fmt: skip
            raise InputError(path, "has empty cells.", remedy)
        try:
            found = cls.from_arrow(table)
        except ValueError as error:
            raise InputError(path, f"is no library: {error}.", remedy) from None
        if not np.isfinite(found.q).all() or found.q.min(initial=1) <= 0:
            raise InputError(path, "has lines that stand nowhere.", remedy)
        if found.digest != _written_digest(pq.read_schema(path)):
            raise InputError(path, "is not what was written: its digest differs.", remedy)
        return found

    def write(self, path: str | Path) -> None:
        """Writes the library as Parquet, whole or not at all, with its digest in the schema's metadata."""
        lines = [slice(a, b) for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)]
        columns = {
            "material_id": self.material_id,
            "formula": self.formula,
            "space_group": self.space_group,
            "crystal_system": [CRYSTAL_SYSTEMS[i].value for i in self.system],
            "reciprocal": list(self.reciprocal.reshape(-1, 9)),
            "strains": [s[:k].ravel() for s, k in zip(self.strains, self.n_strains, strict=True)],
            "hkl": [self.hkl[part].ravel() for part in lines],
            "amplitude": [self.amplitude[part].astype(np.float16) for part in lines],
            "source": [text or None for text in self.source],
            "made": [text or None for text in self.made],
        }
        metadata = {METADATA_KEY: self.digest.encode()}
        write_table(path, columns, LIBRARY.with_metadata(metadata))

    def select(self, which: ArrayLike) -> Library:
        """The crystals of some row numbers, in that order, or of a mask."""
        given = np.asarray(which)
        rows = np.flatnonzero(given) if given.dtype == bool else given.astype(np.intp)
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        lines = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        owned = {"offsets", "hkl", "amplitude"}
        rest = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name not in owned}
        return Library(**rest, offsets=offsets, hkl=self.hkl[lines], amplitude=self.amplitude[lines])

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Library:
        """A library of a table under the :data:`LIBRARY` contract.

        Raises:
            ValueError: if it has no row, or its lists don't fit together.
        """
        if not table.num_rows:
            raise ValueError("it has no crystal")

        def flat(name: str) -> tuple[NDArray[np.int64], NDArray]:
            column = table[name].combine_chunks()
            column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            return lengths, column.flatten().to_numpy(zero_copy_only=False)

        def texts(name: str) -> NDArray[np.str_]:
            return np.array([text or "" for text in table[name].to_pylist()])

        n = table.num_rows
        numbers, reciprocal = flat("reciprocal")
        n_strained, strained = flat("strains")
        n_indices, hkl = flat("hkl")
        n_lines, amplitude = flat("amplitude")
        names = {system.value: i for i, system in enumerate(CRYSTAL_SYSTEMS)}
        systems = table["crystal_system"].to_pylist()
        if not set(systems) <= set(names):
            raise ValueError(f"unknown crystal systems {sorted(set(systems) - set(names))}")
        if (numbers != 9).any() or (n_indices != 3 * n_lines).any() or (n_lines == 0).any():
            raise ValueError("lists of cells, indices and amplitudes don't fit together")
        n_strains = n_strained // 6
        if (n_strained % 6).any() or (n_strains < 1).any() or (n_strains > 6).any():
            raise ValueError("strains are not six numbers each, one to six a crystal")
        strains = np.zeros((n, 6, 6), np.float32)
        strains[np.arange(6) < n_strains[:, None]] = strained.reshape(-1, 6)
        return cls(
            texts("material_id"),
            texts("formula"),
            table["space_group"].to_numpy(),
            np.array([names[name] for name in systems], np.int8),
            texts("source"),
            texts("made"),
            reciprocal.reshape(n, 3, 3),
            strains,
            n_strains.astype(np.int8),
            np.concatenate([[0], np.cumsum(n_lines)]).astype(np.int64),
            hkl.reshape(-1, 3),
            amplitude.astype(np.float32),
        )


def record(
    reflections: Reflections,
    material_id: str,
    formula: str,
    space_group: int,
    source: str | None = None,
    made: str | None = None,
) -> dict[str, object] | None:
    """One crystal as a row under the :data:`LIBRARY` contract; None where it has no line up to :data:`MOST_Q`.

    Kept are the :data:`MOST_LINES` that copper radiation sees strongest.

    Args:
        reflections: at least to :data:`MOST_Q`.
        material_id: its name.
        formula: reduced.
        space_group: its number, which gives the crystal system.
        source: where the crystal comes from.
        made: how it was made from another, if it was.
    """
    system = CrystalSystem.from_space_group(space_group)
    if not len(reflections.d):
        return None
    f2 = np.add.reduceat(reflections.f2, reflections.starts[:-1])
    line = np.repeat(np.arange(len(f2)), np.diff(reflections.starts))
    first = np.lexsort((-reflections.f2, line))[reflections.starts[:-1]]  # the strongest reflection of each line
    q = 2 * np.pi / reflections.d
    hkl = reflections.hkl[first]
    seen = np.where(
        (q <= MOST_Q) & (np.abs(hkl).max(axis=1) <= LARGEST_INDEX),
        f2 * line_factors(np.minimum(q, MOST_Q), REFERENCE),
        0,
    )
    kept = np.sort(np.argsort(-seen, kind="stable")[: min(MOST_LINES, int((seen > 0).sum()))])
    if not len(kept):
        return None
    amplitude = np.sqrt(f2[kept] / f2[kept].max())
    return {
        "material_id": material_id,
        "formula": formula,
        "space_group": space_group,
        "crystal_system": system.value,
        "reciprocal": reflections.reciprocal.ravel(),
        "strains": allowed_strains(reflections, FREE[system]).astype(np.float32).ravel(),
        "hkl": hkl[kept].astype(np.int8).ravel(),
        "amplitude": amplitude.astype(np.float16),
        "source": source,
        "made": made,
    }


def line_factors(q: NDArray, wavelength: float) -> NDArray:
    """What turns Σ|F|² into a powder line's intensity without a monochromator, shape of ``q`` [1/Å].

    (1 + cos² 2θ) / (sin² θ cos θ) · exp(−2 B sin² θ / λ²), B = :data:`B_ISO`; International Tables C, 6.2 and 6.1.1.
    Beyond the wavelength's reach 0.
    """
    sine = q * (wavelength / (4 * np.pi))
    s2 = np.minimum(sine * sine, 1 - 1e-6)
    factor = (1 + (1 - 2 * s2) ** 2) / (s2 * np.sqrt(1 - s2)) * np.exp(-2 * B_ISO * (q / (4 * np.pi)) ** 2)
    return np.where(sine < 1, factor, 0)


def _written_digest(schema: pa.Schema) -> str:
    return (schema.metadata or {}).get(METADATA_KEY, b"").decode()


def allowed_strains(reflections: Reflections, free: int) -> NDArray[np.float64]:
    """The strains under which equivalent reflections stay at one d, an orthonormal basis, shape (free, 6).

    Δd/d = n·ε·n for the unit normal n. Reflections of one line with equal |F|² are equivalent by symmetry, so ε must
    leave the difference of their n·ε·n at 0. The ``free`` directions that do so best are taken: no setting of the cell
    and no table of groups is needed. The isotropic strain, always allowed, comes first. Components as in
    :class:`Library`.
    """
    g = reflections.hkl @ reflections.reciprocal
    n = g / np.linalg.norm(g, axis=1, keepdims=True)
    x, y, z = n.T
    root = np.sqrt(2)
    products = np.stack([x * x, y * y, z * z, root * y * z, root * x * z, root * x * y], axis=1)
    line = np.repeat(np.arange(len(reflections.d)), np.diff(reflections.starts))
    first = np.lexsort((-reflections.f2, line))[reflections.starts[:-1]][line]
    strongest = reflections.f2[first]
    weight = np.where(reflections.f2 > (1 - EQUIVALENT) * strongest, np.sqrt(strongest / strongest.max()), 0)
    broken = (products - products[first]) * weight[:, None]
    cost = broken.T @ broken
    isotropic = np.array([1, 1, 1, 0, 0, 0]) / np.sqrt(3)
    cost = cost / max(np.trace(cost), 1e-30) - np.outer(isotropic, isotropic)  # lowest, so that it is the first
    basis = np.linalg.eigh(cost)[1][:, :free].T
    basis[0] = isotropic
    return np.asarray(basis)


def of_elements(
    library: Library, must: Sequence[str] = (), may_only: Sequence[str] = (), excluded: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """Which crystals have all elements of ``must``, none of ``excluded`` and, if ``may_only`` says any, no others.

    Elements of ``must`` need not be repeated in ``may_only``.

    Returns:
        Shape (n,).

    Raises:
        InputError: if a symbol is no element's, or one is both in ``must`` and ``excluded``.
    """
    column = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    for symbol in (*must, *may_only, *excluded):
        if symbol not in column:
            raise InputError("elements", f"{symbol!r} is no element with form factors.", "Give symbols, as Fe.")
    if both := set(must) & set(excluded):
        raise InputError("elements", f"{', '.join(sorted(both))} must be there and must not.", "Leave one out.")
    has = library.elements
    out = has[:, [column[s] for s in must]].all(axis=1) & ~has[:, [column[s] for s in excluded]].any(axis=1)
    if may_only:
        others = [i for symbol, i in column.items() if symbol not in {*may_only, *must}]
        out &= ~has[:, others].any(axis=1)
    return np.asarray(out)
