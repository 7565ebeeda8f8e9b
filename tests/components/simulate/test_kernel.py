"""The kernel against pymatgen, and its physical mode against a plain NumPy form of the same formulas."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

import gemmi
import numpy as np
import pytest
from monty.json import MontyDecoder
from numpy.typing import NDArray
from pymatgen.analysis.diffraction.xrd import ATOMIC_SCATTERING_PARAMS, WAVELENGTHS, XRDCalculator
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.groups import SpaceGroup

from components.simulate import kernel
from components.simulate.form_factors import (
    _interpolating,
    dispersion,
    form_factors,
    it92_form_factor,
    pymatgen_form_factor,
)
from components.simulate.kernel import Structures, peaks, reflections, unsupported
from imitation_refinement.errors import InputError
from imitation_refinement.xrd import radiation

CU = 1.54184


def flat(structures: list[Structure]) -> Structures:
    return Structures.from_pymatgen(structures)


@cache
def prototypes() -> list[Structure]:
    """AFLOW prototypes of every kind of lattice, up to 60 atoms, and made-up awkward ones."""
    library = files("pymatgen.analysis") / "prototypes" / "aflow_prototypes.json.gz"  # takes seconds to be read whole
    entries = json.loads(gzip.decompress(library.read_bytes()))[::9]
    chosen = [MontyDecoder().process_decoded(entry["snl"]).structure for entry in entries]
    mixed = Structure(
        Lattice.hexagonal(3.2, 5.2),
        [{"Mg": 0.7, "Al": 0.2}, {"Zn": 0.5, "O": 0.5}],
        [[1 / 3, 2 / 3, 0.25], [0.1, 0.2, 0.7]],
    )
    skewed = Structure(
        Lattice.from_parameters(5.1, 6.3, 7.7, 62, 118, 81), ["Sn", "S"], [[0.1, 0.2, 0.3], [0.7, 0.5, 0.9]]
    )
    return [s for s in chosen if len(s) <= 60] + [mixed, skewed]


@pytest.mark.parametrize(("wavelength", "low", "high"), [(CU, 5.0, 90.0), (WAVELENGTHS["MoKa1"], 3.0, 50.0)])
def test_same_peaks_as_pymatgen(wavelength: float, low: float, high: float) -> None:
    structures = prototypes()
    calculator = XRDCalculator(wavelength)
    found = peaks(flat(structures), wavelength, low, high, "pymatgen")
    assert len(structures) > 25
    for i, structure in enumerate(structures):
        expected = calculator.get_pattern(structure, two_theta_range=(low, high))
        two_theta, intensity = found[i]
        np.testing.assert_allclose(two_theta, expected.x, rtol=0, atol=1e-6)
        np.testing.assert_allclose(intensity, expected.y, rtol=1e-6, atol=1e-6)


def test_scattering_table_is_pymatgens() -> None:
    s2 = np.linspace(0, 0.4, 7)
    for symbol, parameters in ATOMIC_SCATTERING_PARAMS.items():
        z = gemmi.Element(symbol).atomic_number
        a, b = np.array(parameters).T
        expected = z - 41.78214 * s2 * (a * np.exp(-b * s2[:, None])).sum(axis=1)
        np.testing.assert_array_equal(pymatgen_form_factor(z, s2), expected)


def test_wavelengths_are_pymatgens_but_for_its_slip() -> None:
    differing = {name for name, value in WAVELENGTHS.items() if radiation.WAVELENGTHS[name] != value}
    assert radiation.WAVELENGTHS.keys() == WAVELENGTHS.keys() and differing == {"CoKb1"}


@pytest.mark.parametrize("wavelength", [CU, 0.5594])
def test_interpolation_of_form_factors(wavelength: float) -> None:
    from components.simulate.kernel import _interpolate

    rng = np.random.default_rng(0)
    for mode in ("pymatgen", "physical"):
        factors = form_factors(mode, wavelength)
        for z in (1, 8, 26, 56, 92):
            s = rng.uniform(0, 1 / wavelength, 200)
            got = [_interpolate(factors.table, z, x * factors.inverse_step) for x in s]
            exact = pymatgen_form_factor(z, s**2)
            if mode == "physical":
                exact = it92_form_factor(z, s**2) + dispersion(z, wavelength)[0]
            np.testing.assert_allclose(got, exact, rtol=1e-9, atol=1e-9)


def test_from_pymatgen_is_what_public_properties_say() -> None:
    """It reads private attributes, which are pymatgen's to rename."""
    structures = prototypes()
    entries = [
        (element.Z, occupancy, *site.frac_coords)
        for structure in structures
        for site in structure
        for element, occupancy in site.species.items()
    ]
    found = flat(structures)
    assert len(entries) > sum(map(len, structures))  # mixed sites are among them
    np.testing.assert_array_equal(found.atomic_number, [entry[0] for entry in entries])
    np.testing.assert_array_equal(found.occupancy, [entry[1] for entry in entries])
    np.testing.assert_array_equal(found.position, [entry[2:] for entry in entries])


def reference(
    structure: Structure, wavelength: float, b_iso: float, low: float, high: float
) -> tuple[NDArray, NDArray]:
    """All of reciprocal space, no tables, |F(g)|² of every g: two_theta and intensity, unmerged."""
    reciprocal = structure.lattice.reciprocal_lattice_crystallographic.matrix
    n = np.ceil(np.array(structure.lattice.abc) * 2 / wavelength).astype(int)
    hkl = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in n), indexing="ij"), -1).reshape(-1, 3)
    g = np.linalg.norm(hkl @ reciprocal, axis=1)
    inside = (g > 0) & (g * wavelength / 2 < 1)
    hkl, g = hkl[inside], g[inside]
    two_theta = np.degrees(2 * np.arcsin(g * wavelength / 2))
    inside = (two_theta >= low) & (two_theta <= high)
    hkl, g, two_theta = hkl[inside], g[inside], two_theta[inside]
    amplitude = np.zeros(len(g), complex)
    for site in structure:
        for species, occupancy in site.species.items():
            real, imaginary = dispersion(species.Z, wavelength)
            f = it92_form_factor(species.Z, (g / 2) ** 2) + real + 1j * imaginary
            thermal = np.exp(-b_iso * (g / 2) ** 2)
            amplitude += occupancy * f * thermal * np.exp(2j * np.pi * hkl @ site.frac_coords)
    theta = np.radians(two_theta / 2)
    lp = (1 + np.cos(2 * theta) ** 2) / (np.sin(theta) ** 2 * np.cos(theta))
    return two_theta, np.abs(amplitude) ** 2 * lp


def assert_like_reference(structure: Structure, b_iso: float) -> None:
    """Each line takes the reflections nearest to it, but the faintest lines are left out."""
    structures = flat([structure])
    structures.b_iso[:] = b_iso
    two_theta, intensity = reference(structure, CU, b_iso, 10, 85)
    x, y = peaks(structures, CU, 10, 85)[0]
    nearest = np.abs(two_theta[:, None] - x).argmin(axis=1)
    near = np.abs(two_theta - x[nearest]) < 0.03
    sums = np.bincount(nearest[near], intensity[near], len(x))
    np.testing.assert_allclose(y, 100 * sums / sums.max(), rtol=2e-4, atol=2e-3)
    assert intensity[~near].sum() < 1e-3 * sums.sum()


@pytest.mark.parametrize("b_iso", [0.0, 0.8])
def test_physical_mode_against_all_of_reciprocal_space(b_iso: float) -> None:
    acentric = Structure(
        Lattice.tetragonal(4.0, 4.4), ["Fe", "Co", "S"], [[0, 0, 0], [0.31, 0.17, 0.42], [0.6, 0.4, 0.1]]
    )
    for structure in (acentric, *prototypes()[::8]):
        assert_like_reference(structure, b_iso)


@pytest.mark.parametrize(
    ("space_group", "positions", "kept"),
    [
        ("Fm-3m", [[0, 0, 0], [0.25, 0.25, 0.25]], 2),  # 4 and 8 entries: F, and a centre of inversion
        ("F-43m", [[0, 0, 0], [0.1, 0.1, 0.1]], 5),
        ("Amm2", [[0, 0, 0.1], [0.5, 0, 0.3]], 2),
        ("I4/m", [[0, 0, 0], [0.11, 0.23, 0]], 3),
        ("C2/m", [[0.1, 0, 0.2], [0.3, 0, 0.7]], 2),
        ("R3m", [[0, 0, 0.1], [0.1, 0.25, 0.3]], 7),
        ("R-3m", [[0, 0, 0.1], [0.15, -0.15, 0.3]], 4),
        ("P-1", [[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]], 2),
    ],
)
@pytest.mark.parametrize("turn", ["", "off the centre", "axes exchanged"])
def test_centring_and_inversion_are_found_and_change_nothing(
    space_group: str, positions: list[list[float]], kept: int, turn: str
) -> None:
    from components.simulate.kernel import _reduced

    lattice = {"F": Lattice.cubic(5), "I": Lattice.tetragonal(5, 6), "R": Lattice.hexagonal(5, 11)}.get(
        space_group[0], Lattice.monoclinic(5, 6, 7, 100) if space_group == "C2/m" else Lattice.orthorhombic(5, 6, 7)
    )
    structure = Structure.from_spacegroup(space_group, lattice, ["Fe", "S"], positions)
    if turn == "off the centre":
        structure.translate_sites(range(len(structure)), [0.123, 0.31, 0.47])
    elif turn == "axes exchanged":  # A becomes B, R obverse becomes reverse
        structure = Structure(
            Lattice(structure.lattice.matrix[[1, 0, 2]]), structure.species, structure.frac_coords[:, [1, 0, 2]]
        )
    structures = flat([structure])
    sites = (structures.atomic_number, structures.occupancy, structures.position, structures.b_iso)
    _, left, number, *_ = _reduced(structures.lattice[0], *sites, False)
    assert len(left) == kept
    assert number.sum() == len(structure)
    assert_like_reference(structure, 0)


@pytest.mark.parametrize(
    ("space_group", "axes"),
    [
        ("P2/m", 1), ("Pc", 1), ("P2_1", 1), ("C2/c", 1), ("P222", 3), ("Pna2_1", 3), ("Cmcm", 3), ("Fdd2", 3),
        ("P-4", 1), ("I4_1/a", 1), ("P4/mmm", 3), ("P3", 0), ("R-3m", 0), ("P6_3", 1), ("P6/mmm", 1), ("P2_13", 3),
        ("P-1", 0), ("P1", 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_mirrors_are_found_and_change_nothing(space_group: str, axes: int, order: tuple[int, int, int]) -> None:
    from components.simulate.kernel import _reduced

    system = SpaceGroup(space_group).crystal_system
    cell = {
        "triclinic": (5, 6, 7, 90, 90, 90), "monoclinic": (5, 6, 7, 90, 103, 90), "orthorhombic": (5, 6, 7, 90, 90, 90),
        "tetragonal": (5, 5, 7, 90, 90, 90), "trigonal": (5, 5, 7, 90, 90, 120), "hexagonal": (5, 5, 7, 90, 90, 120),
        "cubic": (5, 5, 5, 90, 90, 90),
    }[system]  # fmt: skip
    made = Structure.from_spacegroup(
        space_group, Lattice.from_parameters(*cell), ["Fe", "S"], [[0.11, 0.07, 0.23], [0.32, 0.41, 0.19]]
    )
    turned = list(order)
    structure = Structure(Lattice(made.lattice.matrix[turned]), made.species, made.frac_coords[:, turned])
    structures = flat([structure])
    sites = (structures.atomic_number, structures.occupancy, structures.position, structures.b_iso)
    assert _reduced(structures.lattice[0], *sites, True)[-1] == axes
    assert_like_reference(structure, 0)
    expected = XRDCalculator(CU).get_pattern(structure, two_theta_range=(5, 90))
    two_theta, intensity = peaks(structures, CU, 5, 90, "pymatgen")[0]
    np.testing.assert_allclose(two_theta, expected.x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(intensity, expected.y, rtol=1e-6, atol=1e-6)


def test_nearly_mirrored_is_not_mirrored() -> None:
    """An angle of 90.001°, or an atom 1e-6 off its image: not all is taken together."""
    from components.simulate.kernel import _reduced

    made = Structure.from_spacegroup("Pmmm", Lattice.orthorhombic(5, 6, 7), ["Fe"], [[0.1, 0.2, 0.3]])
    for angle, off, axes in ((90, 0, 3), (90.001, 0, 1), (90, 1e-6, 0)):
        positions = made.frac_coords.copy()
        positions[0] += off
        one = flat([Structure(Lattice.from_parameters(5, 6, 7, 90, angle, 90), made.species, positions)])
        sites = (one.atomic_number, one.occupancy, one.position, one.b_iso)
        assert _reduced(one.lattice[0], *sites, True)[-1] == axes, (angle, off)


def test_angles_are_those_of_the_arc_sine() -> None:
    from components.simulate.kernel import _two_theta

    sine2 = np.concatenate([np.linspace(0, 1, 1001), [1e-9, 0.25 - 1e-12, 0.25, 0.25 + 1e-12, 1 - 1e-9]])
    found = [_two_theta(float(one)) for one in sine2]
    np.testing.assert_allclose(found, np.degrees(2 * np.arcsin(np.sqrt(sine2))), rtol=2e-14)


def test_bins_are_those_of_rounded_angles() -> None:
    """Pairs of reflections less than a hundredth of a bin from a bin's edge, and farther ones."""
    from components.simulate.kernel import BIN, _lines

    rng = np.random.default_rng(0)
    x, y = np.empty(2), np.empty(2)
    for _ in range(3000):
        first = rng.uniform(0.5, 179.9)
        second = first + BIN * rng.choice([rng.uniform(0, 1.5), 0.5 - first / BIN % 1 + rng.normal(0, 1e-3)])
        levels = np.sin(np.radians(np.sort([first, second]) / 2)) ** 2
        if levels[0] == levels[1]:
            continue
        bins = np.rint(np.degrees(2 * np.arcsin(np.sqrt(levels))) / BIN)
        level, f2 = np.arange(2, dtype=np.uint32), np.full(2, 1e-9)
        assert _lines(levels * 1.0, level, f2, 2.0, 0.1, True, x, y) == len(np.unique(bins)), (first, second)


def test_what_a_centring_extinguishes_moves_no_line() -> None:
    """A primitive cell and its F cell: the same lines from a half-sphere without and with extinct reflections."""
    cell = Structure.from_spacegroup("F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    (x, y), (x_primitive, y_primitive) = (
        peaks(flat([s]), CU, 5, 90, "pymatgen")[0] for s in (cell, cell.get_primitive_structure())
    )
    np.testing.assert_allclose(x, x_primitive, rtol=1e-9)
    np.testing.assert_allclose(y, y_primitive, rtol=1e-6)


def test_nearly_symmetric_is_not_symmetric() -> None:
    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5), ["Fe", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    structure.translate_sites([0], [1e-3, 2e-3, 5e-3])
    x, _ = peaks(flat([structure]), CU, 5, 90)[0]
    assert np.abs(x - np.degrees(2 * np.arcsin(CU / 2 / 5))).min() < 0.01  # (100), which F forbids
    assert_like_reference(structure, 0)


def test_friedel_pairs_differ_and_are_averaged() -> None:
    """Zinc blende at the Zn edge: |F(111)|² and |F(-1-1-1)|² differ, the line holds their mean."""
    structure = Structure.from_spacegroup("F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    wavelength = 1.2834
    s2 = np.array([3 / (4 * 5.41**2)])
    zinc, sulphur = (it92_form_factor(z, s2)[0] + complex(*dispersion(z, wavelength)) for z in (30, 16))
    plus, minus = abs(4 * (zinc + 1j * sulphur)) ** 2, abs(4 * (zinc - 1j * sulphur)) ** 2
    assert abs(plus / minus - 1) > 0.05
    found = reflections(flat([structure]), wavelength, 60)[0]
    np.testing.assert_allclose(found.d[0], 5.41 / np.sqrt(3), rtol=1e-12)
    np.testing.assert_allclose(found.f2[: found.starts[1]], (plus + minus) / 2, rtol=1e-6)


def test_structure_factors_are_gemmis_once_it_counts_special_positions_once() -> None:
    """Calcite at 0.71 Å, where f″ is negligible; gemmi would count atoms on axes several times over."""
    lattice = Lattice.hexagonal(4.99, 17.06)
    calcite = Structure.from_spacegroup("R-3c", lattice, ["Ca", "C", "O"], [[0, 0, 0], [0, 0, 0.25], [0.257, 0, 0.25]])
    text = """data_calcite
_cell_length_a 4.99\n_cell_length_b 4.99\n_cell_length_c 17.06
_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 120
_symmetry_space_group_name_H-M 'R -3 c:H'
loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z
Ca1 Ca 0 0 0\nC1 C 0 0 0.25\nO1 O 0.257 0 0.25
"""
    small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(text).sole_block())
    calculator = gemmi.StructureFactorCalculatorX(small.cell)
    for symbol, z in (("Ca", 20), ("C", 6), ("O", 8)):
        calculator.addends.set(gemmi.Element(symbol), dispersion(z, 0.71)[0])
    wrong = abs(calculator.calculate_sf_from_small_structure(small, [1, 0, 4])) ** 2
    small.change_occupancies_to_crystallographic()
    found = reflections(flat([calcite]), 0.71, 20)[0]
    ours = {tuple(hkl): f2 for hkl, f2 in zip(found.hkl.tolist(), found.f2.tolist(), strict=True)}
    for hkl in ((1, 0, 4), (0, 1, 2), (1, 1, 0), (1, 1, 3)):
        expected = abs(calculator.calculate_sf_from_small_structure(small, list(hkl))) ** 2
        assert ours[hkl] == pytest.approx(expected, rel=0.005)
    assert wrong > 4 * ours[1, 0, 4]


def test_nearly_degenerate_lines_are_one() -> None:
    """A cell that is cubic but for 1e-5 has the peaks of the cubic cell."""
    cubic = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    relaxed = Structure(Lattice.orthorhombic(4.2, 4.2 * (1 + 1e-5), 4.2 * (1 - 1e-5)), cubic.species, cubic.frac_coords)
    found = peaks(flat([cubic, relaxed]), CU, 5, 90)
    np.testing.assert_allclose(found[1][0], found[0][0], atol=2e-3)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-3)


def test_doublet_has_both_lines_at_two_to_one() -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    both = peaks(flat([salt]), "CuKa1+CuKa2", 5, 90)[0]
    first, second = (peaks(flat([salt]), name, 5, 90)[0] for name in ("CuKa1", "CuKa2"))
    np.testing.assert_allclose(both[0], np.sort(np.concatenate([first[0], second[0]])))
    np.testing.assert_allclose(both[1].max(), 100)
    np.testing.assert_allclose(both[1][np.isclose(both[0], second[0][1])], [50], rtol=1e-6)
    np.testing.assert_allclose(both[1][[0, 1]], first[1][0] * np.array([1, 0.5]), rtol=1e-6)


@pytest.mark.parametrize("high", [35.2, 90.0])
def test_doublet_keeps_its_ratio_where_the_range_ends_within_a_doublet(high: float) -> None:
    """Corundum: the second line of the strongest doublet, 104, is beyond 35.2°."""
    corundum = Structure.from_spacegroup(
        "R-3c", Lattice.hexagonal(4.7587, 12.9929), ["Al", "O"], [[0, 0, 0.3522], [0.3063, 0, 0.25]]
    )
    (_, first), (_, second) = (peaks(flat([corundum]), name, 5, 30)[0] for name in ("CuKa1", "CuKa2"))
    assert len(first) == len(second) == 1  # 012
    two_theta, intensity = peaks(flat([corundum]), "CuKa1+CuKa2", 5, high)[0]
    wavelengths, d = np.array([1.54056, 1.54439]), (4 / 3 / 4.7587**2 + 4 / 12.9929**2) ** -0.5
    sine = wavelengths / 2 / d
    np.testing.assert_allclose(two_theta[:2], np.degrees(2 * np.arcsin(sine)), atol=1e-9)
    np.testing.assert_allclose(intensity[1] / intensity[0], 0.5, rtol=1e-9)
    full = wavelengths**3 * (1 + (1 - 2 * sine**2) ** 2) / (sine**2 * np.sqrt(1 - sine**2))
    assert full[1] / full[0] == pytest.approx(1, rel=3e-3)  # with each line's own λ³ and Lorentz–polarisation factor


def test_doublet_with_one_line_in_range() -> None:
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0, 0, 0]])
    two_theta, intensity = peaks(flat([copper]), "CuKa1+CuKa2", 40, 43.35)[0]
    assert len(two_theta) == 1 and intensity.tolist() == [100]
    assert len(peaks(flat([copper]), "CuKa1+CuKa2", 10, 40)[0][0]) == 0


def test_select_and_unsupported() -> None:
    light = [s for s in prototypes() if max(element.Z for element in s.composition.elements) <= 92]
    structures = flat(light[:4])
    some = structures.select([3, 1])
    whole, part = peaks(structures, CU, 5, 90), peaks(some, CU, 5, 90)
    for row, original in enumerate((3, 1)):
        np.testing.assert_array_equal(part[row][1], whole[original][1])
    structures.atomic_number[structures.offsets[2]] = 93  # of pymatgen's table there are 98, of dispersion 92
    assert unsupported(structures).tolist() == [False, False, True, False]
    assert not unsupported(structures, "pymatgen").any()
    with pytest.raises(ValueError, match="atomic numbers"):
        peaks(structures, CU, 5, 90)
    assert len(structures.select(~unsupported(structures))) == 3


def test_radiations_by_name() -> None:
    assert radiation.wavelength("MoKa1") == 0.7093 and radiation.wavelength(1.2) == 1.2
    (first, strong), (second, weak) = radiation.components("CuKa1+CuKa2")
    assert (first, second) == (1.54056, 1.54439) and strong == 2 * weak and strong + weak == pytest.approx(1)
    assert radiation.doublet(1.5406) == pytest.approx((1.5406, 1.54443), abs=1e-5)
    assert radiation.doublet(1.5418) == pytest.approx((1.54052, 1.54435), abs=1e-5)
    assert radiation.doublet(0.9) is None
    for bad in ("CuK", 15.4):
        with pytest.raises(InputError, match="wavelength"):
            radiation.wavelength(bad)


def test_interpolating_is_polyfit() -> None:
    places, values = np.array([-0.4, -0.1, 0.05, 0.3]), np.array([[1.0, 2.0, -1.0, 0.5], [0.0, 3.0, 1.0, 7.0]])
    expected = [np.polynomial.polynomial.polyfit(places, row, 3) for row in values]
    np.testing.assert_allclose(_interpolating(places, values), expected, rtol=1e-9)


def test_one_structure_and_many_take_the_same_compiled_function() -> None:
    many = flat(prototypes()[:2])
    peaks(many, CU, 5.0, 90.0)
    signatures = kernel._peaks.signatures
    one = peaks(many.select([1]), CU, 5.0, 90.0)
    assert kernel._peaks.signatures == signatures and len(one) == 1


def test_the_same_bits_just_compiled_and_from_the_cache(tmp_path: Path) -> None:
    code = """
import hashlib, numpy as np
from components.simulate.kernel import Structures, peaks, reflections
rng = np.random.default_rng(0)
sites = rng.integers(1, 30, 40)
many = Structures(
    np.eye(3) * rng.uniform(3, 12, (40, 1, 3)) + rng.uniform(-0.5, 0.5, (40, 3, 3)), np.append(0, np.cumsum(sites)),
    rng.integers(1, 90, sites.sum()), np.ones(sites.sum()), rng.random((sites.sum(), 3)), np.zeros(sites.sum()))
found = peaks(many, 1.54184, 5, 90)
parts = [found.two_theta, found.intensity, *(lines.f2 for lines in reflections(many, 1.54184, 90))]
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, cached = (
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert list(tmp_path.rglob("kernel._peaks*.nbc")) and len(compiled) == 65 and cached == compiled
