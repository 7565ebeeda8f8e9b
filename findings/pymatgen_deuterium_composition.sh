#!/usr/bin/env bash
# pymatgen 2026.10.24: a composition tells deuterium from hydrogen in its mass and its hash, but in nothing else.
#
# Composition("LiD") prints as Li1 H1, equals Composition("LiH"), and gives {"Li": 1, "H": 1} as its dictionary; its
# mass is that of deuterium. So equal compositions have different hashes (a set keeps both, though Python asks equal
# objects for equal hashes), and the mass is lost on the way through a dictionary or a CIF: density 0.232 becomes 0.206.
# The mass itself is the bare nucleus's: 2.01355 for the atom's 2.01410 (gemmi and periodictable have the atom's). Two
# isotopes together are merged too: D, H and O in equal amounts give H2 O1.
#
# Why it matters: deuterated samples are common in neutron diffraction. Deduplication by equality merges them with the
# hydrides, by hash it doesn't; a structure written and read again is the hydride.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    pymatgen==2026.10.24 \
    pymatgen-core==2026.10.16 \
    numpy==2.4.6 \
    gemmi==0.7.5 \
    periodictable==2.1.0
"$work/environment/bin/python" -I - <<'PYTHON'
import warnings

import gemmi
import periodictable
from pymatgen.core import Composition, Element, Lattice, Structure
from pymatgen.io.cif import CifParser, CifWriter

warnings.simplefilter("ignore")
heavy, light = Composition("LiD"), Composition("LiH")
print(heavy, heavy.weight, "|", light, light.weight, "| members of a set of both:", len({heavy, light}))
assert heavy == light and hash(heavy) != hash(light) and len({heavy, light}) == 2
assert heavy.get_el_amt_dict() == {"Li": 1, "H": 1} and heavy.weight - light.weight > 1
assert abs(Composition(heavy.as_dict()).weight - light.weight) < 1e-9, "the dictionary keeps deuterium"
assert Composition({"D": 1, "H": 1, "O": 1}).formula == "H2 O1"

deuteride = Structure(Lattice.cubic(4), ["Li", "D"], [[0, 0, 0], [0.5, 0.5, 0.5]])
(again,) = CifParser.from_str(str(CifWriter(deuteride))).parse_structures(primitive=False)
print(f"density {deuteride.density:.3f}, after a CIF {again.density:.3f}")
assert again.density / deuteride.density < 0.9

mass, atom = float(Element("D").atomic_mass), periodictable.D.mass
print(f"mass of D: {mass:.5f}; periodictable {atom:.5f}; gemmi {gemmi.Element('D').weight:.5f}")
assert abs(atom - mass - 0.000549) < 1e-5, "the electron's mass is no longer missing"
assert abs(gemmi.Element("D").weight - atom) < 1e-4
PYTHON
