"""A candidate as a CIF: what a library knows of a crystal, its cell, space group and lines. It keeps no atoms."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.answer.search import Candidate
from imitation_refinement.xrd.crystal import CrystalSystem

TOLERANCE = 1e-3  # relative, of edges, and of angles in radians
RIGHT, THIRD = 90.0, 120.0


def cell_of(reciprocal: NDArray[np.float64]) -> tuple[float, float, float, float, float, float]:
    """a, b, c [Å], α, β, γ [°] of a cell whose a*, b*, c* [1/Å] are the rows, shape (3, 3)."""
    rows = np.linalg.inv(reciprocal).T
    a, b, c = np.linalg.norm(rows, axis=1).tolist()
    unit = rows / np.array([[a], [b], [c]])
    cosines = [float(unit[i] @ unit[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    alpha, beta, gamma = np.degrees(np.arccos(np.clip(cosines, -1, 1))).tolist()
    return a, b, c, alpha, beta, gamma


def is_conventional(cell: tuple[float, ...], system: CrystalSystem) -> bool:
    """Whether a cell has the shape of its crystal system's conventional cell (a trigonal one's: on either axes).

    A primitive cell of a centred lattice has not: its space group's number says nothing about its axes.
    """
    a, b, c, alpha, beta, gamma = cell

    def same(*edges: float) -> bool:
        return max(edges) - min(edges) <= TOLERANCE * max(edges)

    def all_are(value: float, *angles: float) -> bool:
        return all(abs(angle - value) <= np.degrees(TOLERANCE) for angle in angles)

    right = all_are(RIGHT, alpha, beta, gamma)
    hexagonal = same(a, b) and all_are(RIGHT, alpha, beta) and all_are(THIRD, gamma)
    return {
        CrystalSystem.TRICLINIC: True,
        CrystalSystem.MONOCLINIC: sum(all_are(RIGHT, angle) for angle in (alpha, beta, gamma)) >= 2,
        CrystalSystem.ORTHORHOMBIC: right,
        CrystalSystem.TETRAGONAL: right and (same(a, b) or same(b, c) or same(a, c)),
        CrystalSystem.TRIGONAL: hexagonal or (same(a, b, c) and all_are(alpha, beta, gamma)),
        CrystalSystem.HEXAGONAL: hexagonal,
        CrystalSystem.CUBIC: right and same(a, b, c),
    }[system]


def cif(one: Candidate, hkl: NDArray[np.integer], q: NDArray[np.float64], pattern: str) -> str:
    """The refined cell, the space group and the lines of a candidate.

    Args:
        one: the candidate.
        hkl: Miller indices of its lines, shape (m, 3).
        q: where they stand [1/Å], shape (m,).
        pattern: what the cell was refined on.
    """
    cell = cell_of(one.reciprocal)
    conventional = is_conventional(cell, one.crystal_system)
    said = [
        "Made by imitation-refinement. There are NO ATOMS here: the library that patterns are searched in keeps cells,",
        "space groups and lines alone. Take the atoms from the entry's source:",
        f"{one.material_id}: {one.source}",
        *([f"made from another crystal: {one.made}"] if one.made else []),
        f"The cell was refined on {pattern}; against the entry's its mean strain is {one.strain:+.5f},",
        f"and the pattern's zero error {one.zero_error:+.4f} degrees. Its axes are those of the source:",
        "the setting may not be the standard one of the space group.",
    ]
    if not conventional:
        said.append(
            f"The cell is a primitive one. Space group {one.space_group}, of the conventional one, is no tag here."
        )
    lines = [
        *(f"# {_line(text)}" for text in said),
        f"data_{re.sub(r'[^A-Za-z0-9_.-]', '_', one.material_id)[:70] or 'candidate'}",
        f"_chemical_formula_sum {_quoted(_spaced(one.formula))}",
        *(
            f"_cell_{name} {value:.{digits}f}"
            for name, value, digits in zip(
                ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"),
                cell,
                (5, 5, 5, 4, 4, 4),
                strict=True,
            )
        ),
        f"_cell_volume {1 / abs(float(np.linalg.det(one.reciprocal))):.3f}",
        *([f"_space_group_IT_number {one.space_group}"] if conventional else []),
        f"_space_group_crystal_system {one.crystal_system}",
        "loop_",
        *(f"_refln_{name}" for name in ("index_h", "index_k", "index_l", "d_spacing")),
        *(f"{h} {k} {m} {d:.5f}" for (h, k, m), d in zip(hkl.tolist(), (2 * np.pi / q).tolist(), strict=True)),
    ]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    """Text on one line of ASCII, as CIF 1.1 wants it."""
    return " ".join(text.split()).encode("ascii", "replace").decode()


def _spaced(formula: str) -> str:
    """A formula as CIF has it: Fe2O3 as 'Fe2 O3'."""
    return " ".join(re.findall(r"[A-Z][a-z]?[\d.]*", formula)) or formula


def _quoted(text: str) -> str:
    return "'" + _line(text).replace("'", "") + "'"
