"""All that answers need, in one folder: a library, its ranking, networks, how their opinions are fused; a refiner."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imitation_refinement.answer.ensemble import Ensemble
from imitation_refinement.answer.fusion import Fusion
from imitation_refinement.answer.lattice import LatticeVote
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.ranking import RANKING, RELEASED, Ranking
from imitation_refinement.answer.refinement import Refinement, refine
from imitation_refinement.answer.search import Search
from imitation_refinement.data.patterns import Pattern
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest, parse_json, read_bytes, recorded, write_text
from imitation_refinement.learning.models import load_root_refiner
from imitation_refinement.learning.root_refiner import RootRefiner

RECORD, LIBRARY, REFINER = "model.json", "library.parquet", "refiner.safetensors"
VERSION = 4
NO_RECORD = "is no record of a model"
REMEDY = "Make it with `imitation-refinement release --output FOLDER`, and name the folder with --model."


@dataclass(frozen=True)
class Model:
    """What answers.

    Attributes:
        search: in the folder's library.
        ensemble: the networks.
        lattice: what lattices say of crystal systems.
        fusion: of the three.
        about: what the model was made of, for people.
        networks: the networks' files.
        refiner: of patterns; None in a model without.
    """

    search: Search
    ensemble: Ensemble
    lattice: LatticeVote
    fusion: Fusion
    about: Mapping[str, Any]
    networks: tuple[Path, ...] = ()
    refiner: RootRefiner | None = None

    def refine(self, pattern: Pattern, zero_error: float | None = None) -> Refinement:
        """A pattern refined; see :func:`.refinement.refine`.

        Raises:
            InputError: if the model has no refiner, or the pattern can't be refined.
        """
        if self.refiner is None:
            raise InputError("model", "has no refiner.", REMEDY)
        return refine(self.refiner, pattern, zero_error)

    @classmethod
    def read(cls, folder: str | Path | None = None) -> Model:
        """The model in a folder that :func:`write_record` finished; the one that comes with the software without one.

        Raises:
            InputError: if the folder holds none, a file of it is missing, or is not the one that the record names.
        """
        folder = folder_of(folder)
        path = folder / RECORD
        with recorded(path, NO_RECORD, REMEDY):
            record = parse_json(read_bytes(path))
            version, digests, about = record["version"], dict(record["digests"]), record["about"]
            if version != VERSION:
                raise InputError(path, f"is of version {version}, and this program reads {VERSION}.", REMEDY)
            fusion, lattice = Fusion.read(record["fusion"]), LatticeVote.read(record["lattice"])
            networks = [folder / Path(name).name for name in record["networks"]]
            refiners = [folder / REFINER] if REFINER in digests else []
        for file in (folder / LIBRARY, folder / RANKING, *networks, *refiners):
            if not file.is_file():
                raise InputError(file, "is missing from the model.", REMEDY)
            if digest(file) != digests.get(file.name):
                raise InputError(file, f"is not the file that {path} names: its SHA-256 differs.", REMEDY)
        search = Search(Library.read(folder / LIBRARY), Ranking.read(folder / RANKING))
        refiner = load_root_refiner(refiners[0])[0] if refiners else None
        return cls(
            search, Ensemble.read(networks, search.library.often), lattice, fusion, about, tuple(networks), refiner
        )


def folder_of(folder: str | Path | None = None) -> Path:
    """A model's folder; that of the one that comes with the software without one."""
    return Path(folder) if folder else RELEASED


def cited(folder: str | Path | None = None) -> list[str]:
    """What to cite of a model's structures, and their terms; of the one that comes with the software by default.

    Raises:
        InputError: if the folder holds no model.
    """
    path = folder_of(folder) / RECORD
    with recorded(path, NO_RECORD, REMEDY):
        return [str(text) for text in parse_json(read_bytes(path))["about"].get("cite", [])]


def write_record(
    folder: Path, networks: Sequence[str], lattice: LatticeVote, fusion: Fusion, about: Mapping[str, Any]
) -> None:
    """Finishes a folder with a library, a ranking and networks: writes which files belong together, by their digests.

    Args:
        folder: holds :data:`LIBRARY`, :data:`RANKING` and the networks.
        networks: their file names.
        lattice: what lattices say of crystal systems.
        fusion: of the three opinions.
        about: what the model was made of, for people; JSON.
    """
    names = (LIBRARY, RANKING, *networks)
    record = {
        "version": VERSION,
        "networks": list(networks),
        "lattice": lattice.record(),
        "fusion": fusion.record(),
        "digests": {name: digest(folder / name) for name in names},
        "about": dict(about),
    }
    write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")


def record_refiner(folder: Path) -> None:
    """Makes the refiner in a folder that :func:`write_record` finished a part of the model."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    record["digests"][REFINER] = digest(folder / REFINER)
    write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
