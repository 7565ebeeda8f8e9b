#!/usr/bin/env bash
# xraylib 4.3.0: four of its crystals, CsCl, PET, Beryl and Iron, are not the crystals of that name.
#
# Crystal_GetCrystal hands out cell and atoms, and Crystal_F_H_StructureFactor and Bragg_angle compute with them.
# - CsCl has one caesium and one chlorine, at 0 and 1/2, in a cube of 7.02 A: 6.08 A apart, 0.81 g/cm3 instead of 4.0.
#   By Shannon's radii in pymatgen the structure with these places has a = (1.74 + 1.81) 2 / sqrt(3) = 4.10 A. 7.02 fits
#   the other form, that of rock salt, with 2 (1.67 + 1.81) = 6.96 A, in whose cell there are four of each.
# - PET, pentaerythritol, the crystal of many spectrometers: the coordinates are in A, and taken as fractions. Oxygens
#   are 0.85 A apart, and nothing else is closer than 2 A. Divided by the cell, C-C is 1.51 and C-O 1.46 A, and the
#   central carbon has four neighbours. |F| of (002), the reflection it is cut for, is 60 and should be 92, with Z for
#   the form factors.
# - Beryl: of the 24 oxygens off the mirror plane, 12 have the z of the other 12. Each silicon has three neighbours
#   instead of four, and spglib finds P6. P 6/m c c by gemmi's operators, from the first atom of each kind, makes 58
#   atoms, too, and silicon has four neighbours.
# - Iron is the face-centred form, which is stable above 912 degrees Celsius, with a = 3.591 A: the structure factor of
#   (110), the strongest line of iron on a table, is 0. ElementDensity(26), 7.87 g/cm3, is that of the other form.
#
# Why it matters: angles, densities or structure factors of these four come out wrong without a word. In the other 34
# no density or distance between atoms stands out.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    xraylib==4.3.0 \
    gemmi==0.7.5 \
    spglib==2.8.0 \
    pymatgen==2026.10.24 \
    pymatgen-core==2026.10.16 \
    periodictable==2.1.0 \
    numpy==2.4.6
"$work/environment/bin/python" -I -W ignore - <<'PYTHON'
import itertools
import math

import gemmi
import numpy as np
import periodictable
import spglib
import xraylib
from pymatgen.core import Species

CELLS = np.array(list(itertools.product((-1, 0, 1), repeat=3)))


def read(name):
    crystal = xraylib.Crystal_GetCrystal(name)
    cell = gemmi.UnitCell(*(crystal[key] for key in ("a", "b", "c", "alpha", "beta", "gamma")))
    numbers = np.array([atom["Zatom"] for atom in crystal["atom"]])
    return crystal, np.array(cell.orth.mat.tolist()).T, numbers, np.array(
        [[atom[axis] for axis in "xyz"] for atom in crystal["atom"]]
    )


def density(axes, numbers):
    return sum(periodictable.elements[int(z)].mass for z in numbers) / (0.602214 * np.linalg.det(axes))


def lengths(axes, places, one):
    """Distances from one atom to all atoms, each at its nearest, itself left out."""
    found = np.linalg.norm((((places - places[one] + 0.5) % 1 - 0.5)[:, None] + CELLS) @ axes, axis=2)
    return np.delete(found.min(axis=1), one)


def square(numbers, places, hkl):
    return abs((numbers * np.exp(2j * math.pi * places @ np.array(hkl))).sum())


_, axes, numbers, places = read("CsCl")
caesium, apart = density(axes, numbers), lengths(axes, places, 0).min()
chlorine = Species("Cl", -1).get_shannon_radius("VI")
eight = 2 / math.sqrt(3) * (Species("Cs", 1).get_shannon_radius("VIII") + chlorine)
six = 2 * (Species("Cs", 1).get_shannon_radius("VI") + chlorine)
print(f"CsCl: {len(numbers)} atoms, a = {axes[0, 0]:.2f} A, Cs-Cl {apart:.2f} A, {caesium:.2f} g/cm3;", end=" ")
print(f"by radii {eight:.2f} A, {density(np.eye(3) * eight, numbers):.2f} g/cm3, or as rock salt {six:.2f} A")
assert len(numbers) == 2 and abs(caesium - 0.81) < 0.01 and abs(apart - 6.08) < 0.01, "CsCl is mended"
assert abs(eight - 4.10) < 0.02 and abs(six - 7.02) < 0.1

_, axes, numbers, places = read("PET")
first = np.r_[0:5, 10:14]  # the others are these, moved by half a cell
divided = places[first] / np.diag(axes)
better, kinds = np.r_[divided, divided + 0.5], np.r_[numbers[first], numbers[first]]
nearest = [sorted({f"{lengths(axes, each, one).min():.2f}" for one in range(18)}) for each in (places, better)]
print("PET: nearest atoms at", *nearest[0], "A; divided by the cell, at", *nearest[1], end=" ")
wrong, right = square(numbers, places, (0, 0, 2)), square(kinds, better, (0, 0, 2))
print(f"A; |F| of (002) {wrong:.1f} and {right:.1f}")
assert np.allclose(places[np.r_[5:10, 14:18]] - places[first], 0.5) and abs(wrong - 59.7) < 0.1, "PET is mended"
assert lengths(axes, places, 10).min() < 0.9 and abs(right - 92.3) < 0.1
assert np.allclose(np.sort(lengths(axes, better, 0))[:4], 1.506, atol=0.01)
assert all(np.sum(lengths(axes, better, one) < 1.55) == 4 for one in (0, 9) if kinds[one] == 6)

_, axes, numbers, places = read("Beryl")


def neighbours(axes, numbers, places):
    return [int(np.sum(lengths(axes, places, one) < 1.75)) for one in range(len(numbers)) if numbers[one] == 14]


made, kinds = [], []
for one in (0, 4, 10, 22, 34):
    orbit = []
    for operation in gemmi.SpaceGroup("P 6/m c c").operations():
        place = np.array(operation.apply_to_xyz(list(places[one])))
        if all(np.abs((place - other + 0.5) % 1 - 0.5).max() > 1e-3 for other in orbit):
            orbit.append(place)
    made += orbit
    kinds += [numbers[one]] * len(orbit)
made, kinds = np.array(made), np.array(kinds)
groups = [spglib.get_spacegroup((axes, *each), 0.01) for each in ((places, numbers), (made, kinds))]
print(f"Beryl: {len(numbers)} atoms, {groups[0]}, neighbours of Si", set(neighbours(axes, numbers, places)), end="; ")
print(f"by the group {len(kinds)} atoms, {groups[1]}, neighbours of Si", set(neighbours(axes, kinds, made)))
assert len(numbers) == len(kinds) == 58 and sorted(numbers) == sorted(kinds)
assert groups[0].startswith("P6 ") and set(neighbours(axes, numbers, places)) == {3}, "beryl is mended"
assert groups[1].startswith("P6/mcc") and set(neighbours(axes, kinds, made)) == {4}

crystal, axes, numbers, places = read("Iron")
factor = abs(xraylib.Crystal_F_H_StructureFactor(crystal, 8.0, 1, 1, 0, 1.0, 1.0))
name = spglib.get_spacegroup((axes, places, numbers))
both = f"{density(axes, numbers):.2f} and {xraylib.ElementDensity(26):.2f} g/cm3"
print(f"Iron: {name}, {both}, |F| of (110) {factor:.1f}")
assert name.startswith("Fm-3m") and len(numbers) == 4 and factor < 0.01, "iron is mended"
PYTHON
