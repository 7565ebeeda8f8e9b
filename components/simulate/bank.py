"""Makes the bank of lines that training draws from out of tables of structures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.simulate.config import Mode
from components.simulate.kernel import Structures, reflections, unsupported
from components.simulate.laue import laue_group, lines_of
from imitation_refinement.data.contracts import STRUCTURES, read_table
from imitation_refinement.errors import InputError
from imitation_refinement.progress import progress
from imitation_refinement.xrd.bank import GIVEN, Bank
from imitation_refinement.xrd.crystal import CLASS_INDEX, CRYSTAL_SYSTEMS
from imitation_refinement.xrd.diffractometer import Reflections

WAVELENGTH = 1.5406  # [Å], of the dispersion corrections
HIGH = 115.0  # 2θ [°] at it: lines to 0.91 Å, which a cell that is 19 % larger brings to 90°
LEAST = 1e-4  # of the strongest line, with the Lorentz–polarisation factor: weaker ones are left out
CHUNK = 64


def bank_of(paths: Iterable[str | Path], mode: Mode = "physical", origin: int = GIVEN) -> tuple[Bank, list[InputError]]:
    """The bank of all structures of some tables under the ``STRUCTURES`` contract, and what was left out and why.

    Args:
        paths: of the tables.
        mode: of the simulator.
        origin: GIVEN, RANDOM or DERIVED of :mod:`imitation_refinement.xrd.bank`.

    Raises:
        InputError: if a table breaks its contract, or no structure is left.
    """
    tables = [(path, read_table(path, STRUCTURES)) for path in paths]
    rows, rejected = [], []
    work = ((path, table, at) for path, table in tables for at in range(0, table.num_rows, CHUNK))
    total = sum(-(-table.num_rows // CHUNK) for _, table in tables)
    for path, table, start in progress(work, "bank of lines", total, f"{CHUNK} structures"):
        found, bad = _part(path, table.slice(start, CHUNK), mode, origin)
        rows += found
        rejected += bad
    if not rows:
        raise InputError(", ".join(str(path) for path, _ in tables), f"no structure is left; the first: {rejected[0]}")
    return Bank.join(rows), rejected


def _part(path: str | Path, table: pa.Table, mode: Mode, origin: int) -> tuple[list[Bank], list[InputError]]:
    structures = Structures.from_arrow(table)
    usable = np.flatnonzero(~unsupported(structures, mode))
    names = {name: table[name].to_pylist() for name in ("material_id", "formula", "crystal_system", "space_group")}
    names["origin"] = [origin] * table.num_rows
    banks, rejected = [], []
    for i in np.setdiff1d(np.arange(table.num_rows), usable).tolist():
        problem = f"{names['material_id'][i]} holds an element without form factors."
        rejected.append(InputError(path, problem, "Leave this structure out."))
    for i in usable.tolist():
        own = structures.select([i])
        one = reflections(own, WAVELENGTH, HIGH, mode)[0]
        columns = {name: values[i] for name, values in names.items()}
        made = _bank(one, own.lattice[0], columns) if len(one.d) else None
        if made is None:
            problem = f"the |F|² of {columns['material_id']} have another symmetry than {columns['crystal_system']}."
            rejected.append(InputError(path, problem, "Leave this structure out, or correct its crystal_system."))
        else:
            banks.append(made)
    return banks, rejected


def _bank(found: Reflections, lattice: np.ndarray, names: dict[str, Any]) -> Bank | None:
    """The bank of one structure; None where its reflections do not have the symmetry that it is said to have."""
    label = CLASS_INDEX[names["crystal_system"]]
    hkl = found.hkl.astype(np.int64)
    operations = laue_group(lattice, hkl, found.f2, CRYSTAL_SYSTEMS[label])
    if operations is None:
        return None
    line_hkl, f2 = lines_of(operations, hkl, found.f2)
    d = 1 / np.sqrt(np.einsum("ni,ij,nj->n", line_hkl, np.linalg.inv(lattice @ lattice.T), line_hkl))
    sine = np.minimum(WAVELENGTH / (2 * d), 1 - 1e-9)
    strength = f2 * (1 + (1 - 2 * sine**2) ** 2) / (sine**2 * np.sqrt(1 - sine**2))
    order = np.argsort(-d, kind="stable")
    order = order[strength[order] >= LEAST * strength.max()]
    return Bank(
        np.array([names["material_id"]]),
        np.array([names["formula"]]),
        np.array([label], np.int8),
        np.array([names["space_group"]], np.int16),
        np.array([names["origin"]], np.int8),
        lattice[None],
        np.array([0, len(operations)], np.int64),
        operations.astype(np.int8),
        np.array([0, len(order)], np.int64),
        line_hkl[order].astype(np.int16),
        f2[order].astype(np.float32),
    )
