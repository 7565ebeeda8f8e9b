"""Structures from the Materials Project, through its own client ``mp-api``.

The key is in the environment variable MP_API_KEY, where the client itself reads it; it is in no option, message or log.
Structures come in pages, sorted by their ids. Each page is kept as a whole file as soon as it is there, so that a run
that was interrupted goes on where it stopped. Documents are taken as plain dictionaries: the client's document models
would refuse a whole page for one bad document, where :mod:`.structures` refuses the document.

The space group is what spglib finds at 0.01 Å, as for every structure that does not say its own: the database says what
it finds at 0.1 Å, which the pattern of a relaxed cell does not always bear out.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from components.collect_structures.config import MATERIALS_PROJECT, MaterialsProjectQuery
from components.collect_structures.crystals import Material
from components.collect_structures.structures import from_json, make_material
from imitation_refinement.data.contracts import open_table
from imitation_refinement.errors import InputError
from imitation_refinement.files import write_text, writing
from imitation_refinement.progress import progress, say, warn

T = TypeVar("T")

KEY_VARIABLE, ENDPOINT_VARIABLE = "MP_API_KEY", "MP_API_ENDPOINT"  # the client's own names
WHERE = "Materials Project"
PAGE = 500  # structures; the server gives at most 1000
ATTEMPTS = 7
FIRST_WAIT = 1.0  # [s], doubled from attempt to attempt: a minute in all
GNOME = "gnome_r2scan_statics"  # the part of the database that may not be used commercially (CC BY-NC)
LONGEST_REASON = 300  # characters
QUERY_FILE, PAGES = "query.json", "page-*.parquet"
KEY_REMEDY = f"Get a key at https://materialsproject.org/api and put it into the environment variable {KEY_VARIABLE}."


def fetch(query: MaterialsProjectQuery, folder: Path) -> Iterator[Material | InputError]:
    """The materials of the database that the query asks for, in the order of their ids.

    Pages that the folder holds from an earlier run, of the same query and database version, are not fetched again.

    Args:
        query: what to take.
        folder: where the pages are kept.

    Raises:
        InputError: if there is no key, it is refused, the client is not installed, or the database does not answer.
    """
    _check_key()
    client, failures = _client()
    version = client.db_version
    if not version:
        raise InputError(WHERE, "does not say its database version.", "Run again later.")
    total = _persistently(lambda: client.materials.summary.count(_criteria(query)), failures)
    wanted = min(total, query.max_structures or total)
    if wanted == 0:
        raise InputError(WHERE, "has no structure that the query asks for.", "Widen the filters.")
    say(f"{WHERE} {version}: {total} structures are as asked for, {wanted} are taken")
    _open_folder(folder, {"database": version, "total": total, "page": PAGE, **_criteria(query)})
    pages = [folder / f"page-{number:05d}.parquet" for number in range(1, -(-wanted // PAGE) + 1)]
    for number, path in enumerate(progress(pages, f"fetching from {WHERE}", unit="pages")):
        if not path.exists():
            size = min(PAGE, total - number * PAGE)
            _write_page(path, _persistently(partial(_page, client, query, number + 1, size), failures))
    for number, path in enumerate(progress(pages, f"reading {folder.name}", unit="pages")):
        yield from _materials(path, version, wanted - number * PAGE)


def remove_pages(folder: Path) -> None:
    """Removes the pages, with what a killed run left of one, and the folder if nothing else is in it."""
    for path in (*folder.glob(f"*{PAGES}"), *folder.glob(f"*{QUERY_FILE}*")):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _check_key() -> None:
    key = os.environ.get(KEY_VARIABLE, "")
    if not re.fullmatch(r"[A-Za-z0-9]{32}", key):
        problem = "is no key of the Materials Project (32 letters and digits)." if key else "is not set."
        raise InputError(KEY_VARIABLE, problem, KEY_REMEDY)


def _client() -> tuple[Any, tuple[type[Exception], ...]]:
    """The client, which has asked for the database version, and what it raises where the database does not answer."""
    try:
        from mp_api.client import MPRester
        from mp_api.client.core import MPRestError
    except ImportError:
        raise InputError(
            MATERIALS_PROJECT,
            "needs the package mp-api, which is not installed.",
            "Install imitation-refinement[materials_project].",
        ) from None
    failures = (MPRestError, OSError, ValueError, KeyError)  # its own, and what it lets through of requests and JSON
    endpoint = os.environ.get(ENDPOINT_VARIABLE)
    options = {"endpoint": endpoint, "use_document_model": False, "mute_progress_bars": True}
    return _persistently(partial(MPRester, **options), failures), failures


def _criteria(query: MaterialsProjectQuery) -> dict[str, Any]:
    """The query in the server's words."""
    criteria = {
        "energy_above_hull_min": 0,
        "energy_above_hull_max": query.max_energy_above_hull,
        "nsites_min": query.min_sites,
        "nsites_max": query.max_sites,
        "deprecated": False,
        "batch_id_not_eq": GNOME,
    }
    return criteria | ({"elements": ",".join(query.elements)} if query.elements else {})


def _page(client: Any, query: MaterialsProjectQuery, number: int, size: int) -> list[dict[str, Any]]:
    """The documents of a page, from 1.

    Raises:
        ValueError: if there are not as many as expected.
    """
    documents = client.materials.summary.search(
        energy_above_hull=(0, query.max_energy_above_hull),
        num_sites=(query.min_sites, query.max_sites),
        elements=list(query.elements) or None,
        deprecated=False,
        include_gnome=False,
        fields=["material_id", "structure"],
        num_chunks=1,
        chunk_size=PAGE,
        _page=number,
        _sort_fields="material_id",
    )
    if len(documents) != size:
        raise ValueError(f"page {number} holds {len(documents)} structures, not {size}")
    return list(documents)


def _persistently(call: Callable[[], T], failures: tuple[type[Exception], ...]) -> T:
    """What the call gives, tried again with doubled waits while the database does not answer.

    Raises:
        InputError: if it does not answer in ATTEMPTS, or refuses the key or the query.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except failures as error:
            reason = _reason(error)
        status = re.search(r"status code (\d{3})", reason)
        code = int(status[1]) if status else 0
        if code in (401, 403):
            raise InputError(WHERE, f"refuses the key (status {code}).", KEY_REMEDY)
        if code in (400, 404, 422):
            raise InputError(WHERE, f"refuses the query: {reason}.", "Change the filters, or update mp-api.")
        if attempt < ATTEMPTS:
            wait = FIRST_WAIT * 2 ** (attempt - 1)
            warn(f"{WHERE}: {reason}; attempt {attempt + 1} of {ATTEMPTS} in {wait:.0f} s")
            time.sleep(wait)
    raise InputError(
        WHERE, f"does not answer: {reason}.", "Run again later: the pages that are there are not fetched again."
    )


def _reason(error: Exception) -> str:
    """An error in one line, without the key, whatever the server may have put into it."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).replace(os.environ[KEY_VARIABLE], "…")
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "…"


def _open_folder(folder: Path, asked: dict[str, Any]) -> None:
    """Makes the folder ready for the pages of a query; pages of another query or database version go.

    Raises:
        InputError: if it holds pages that say no query.
    """
    file = folder / QUERY_FILE
    text = json.dumps(asked, indent=1)
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        say(f"{folder} holds pages of another query or database version; they are fetched anew")
        remove_pages(folder)
    if not file.is_file() and any(folder.glob(PAGES)):
        raise InputError(folder, f"holds pages of unknown origin, without {QUERY_FILE}.", "Name another folder.")
    write_text(file, text)


def _write_page(path: Path, documents: list[dict[str, Any]]) -> None:
    columns = {
        "material_id": [str(document.get("material_id")) for document in documents],
        "structure_json": [json.dumps(document.get("structure")) for document in documents],
    }
    with writing(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def _materials(path: Path, version: str, most: int) -> Iterator[Material | InputError]:
    for record in open_table(path).slice(0, most).to_pylist():
        where = f"{WHERE}, {record['material_id']}"
        try:
            found = from_json(record, where)
            if found is None:
                raise InputError(where, "has no structure.", "Nothing to do: it is left out.")
            yield make_material(record["material_id"], found, f"{WHERE} {version}", where)
        except InputError as error:
            yield error
