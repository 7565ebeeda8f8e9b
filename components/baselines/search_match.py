"""Search-match: the crystal system by the search of :mod:`imitation_refinement.answer`, in the run's own structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imitation_refinement.answer.library import LIBRARY, Library
from imitation_refinement.answer.pattern import prepare
from imitation_refinement.answer.search import Search
from imitation_refinement.data.contracts import ideal_schema, read_columns, read_table
from imitation_refinement.data.datasets import Dataset
from imitation_refinement.errors import InputError
from imitation_refinement.progress import progress, warn
from imitation_refinement.vocabulary import Method
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, N_CLASSES

ASKED = "test"  # the part whose patterns are searched: nothing is chosen by these answers, so others need none


def search_match(data: Dataset, shards: Sequence[Path], ideal: Path) -> dict[Method, NDArray[np.str_]]:
    """The crystal system that a search of the structures' lines votes for.

    Args:
        data: imperfect patterns; those of the part :data:`ASKED` are searched.
        shards: the structures' lines, a table a shard.
        ideal: the ideal dataset, which says the structures' splits.

    Returns:
        ``search``: among the structures of split ``train``, those that the classifiers have learned from.
        ``search_in_library``: among all, the measured materials' own included. Shape (n,) each, empty where nothing was
        asked. A pattern that can't be searched is given the most frequent system of its library, and it is said.

    Raises:
        InputError: if a shard breaks its contract, or no structure of split ``train`` has lines.
    """
    rows = read_columns(ideal, ideal_schema(data.grid), ["material_id", "split"])
    splits = dict(zip(rows["material_id"].to_pylist(), rows["split"].to_pylist(), strict=True))
    library = _library(shards)
    library = library.select(np.array([name in splits for name in library.material_id.tolist()]))
    trained = np.array([splits[name] == "train" for name in library.material_id.tolist()], bool)
    if not trained.any():
        problem = "has no structure of the ideal dataset's split 'train'."
        raise InputError(shards[0], problem, "Give what simulate wrote for that dataset.")
    allowed = {Method.SEARCH: trained, Method.SEARCH_IN_LIBRARY: np.ones(len(library), bool)}
    usual = {m: np.bincount(library.system[a], minlength=N_CLASSES).argmax() for m, a in allowed.items()}
    found = {method: np.full(len(data.rows), "", "<U16") for method in allowed}
    search, unsearched = Search(library), 0
    asked = np.flatnonzero((data.rows["split"] == ASKED).to_numpy())
    for i in progress(asked.tolist(), "search-match", unit="patterns"):
        measured = np.flatnonzero(data.intensity[i])
        part = slice(measured[0], measured[-1] + 1)
        try:
            pattern = prepare(data.grid.two_theta[part], data.intensity[i, part], data.grid.wavelength)
        except InputError:
            unsearched += 1
            for method in allowed:
                found[method][i] = str(CRYSTAL_SYSTEMS[usual[method]])
            continue
        matched = search.matched(pattern)
        for method, which in allowed.items():
            found[method][i] = str(search.answer(search.fitted(pattern, which, matched)).crystal_system)
    if unsearched:
        warn(f"search: {unsearched} patterns show nothing to search; they are given the library's most frequent system")
    return found


def _library(shards: Sequence[Path]) -> Library:
    tables = [read_table(shard, LIBRARY) for shard in shards]
    try:
        return Library.from_arrow(pa.concat_tables(tables))
    except ValueError as error:
        raise InputError(shards[0], f"is no library: {error}.", "Give what simulate wrote.") from None
