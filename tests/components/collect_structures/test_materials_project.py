"""The real mp-api client against a server on this machine that speaks the Materials Project's protocol."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from pymatgen.core import Structure

from components.collect_structures import materials_project
from components.collect_structures.config import CollectConfig, MaterialsProjectQuery
from components.collect_structures.crystals import Material
from components.collect_structures.materials_project import fetch
from components.collect_structures.stage import STAGE
from imitation_refinement.data.contracts import PATTERNS, STRUCTURES, read_table
from imitation_refinement.errors import InputError

KEY = "k3y" * 10 + "ab"
METALS = ("Li", "Na", "K", "Rb", "Cs", "Cu", "Ag", "Au")
HALOGENS = ("F", "Cl", "Br")


def document(index: int) -> dict[str, Any]:
    """A rock salt of its own; the further along, the further above the hull and the larger."""
    edge = (5 + 0.05 * index) / 2
    species = [METALS[index % 8], HALOGENS[index // 8 % 3]]
    salt = Structure([[0, edge, edge], [edge, 0, edge], [edge, edge, 0]], species, [[0] * 3, [0.5] * 3])
    return {
        "material_id": f"mp-{100 + index}",
        "structure": salt.as_dict(),
        "energy_above_hull": 0.004 * index,
        "nsites": 2,
        "deprecated": False,
    }


DOCUMENTS = [document(i) for i in range(24)]
BAD = [
    DOCUMENTS[0] | {"material_id": "mp-200", "structure": None},
    DOCUMENTS[0] | {"material_id": "mp-201", "structure": {"lattice": 5}},
]
HIDDEN = [
    DOCUMENTS[0] | {"material_id": "mp-001", "nsites": 999},
    DOCUMENTS[0] | {"material_id": "mp-002", "energy_above_hull": 0.5},
    DOCUMENTS[0] | {"material_id": "mp-003", "deprecated": True},
]


class Server(ThreadingHTTPServer):
    """Answers /heartbeat and /materials/summary/ as the Materials Project does, faults injected.

    Attributes:
        faults: what to answer instead, one a request: a status, "cut" for a broken connection, "garbled" for no JSON;
            None answers well.
        last_page: the last page that it gives.
        heartbeats, pages: faults of heartbeats; the pages asked for, in turn.
    """

    def __init__(self, version: str = "2026.10.01") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.version, self.last_page = version, 99
        self.faults: list[Any] = []
        self.heartbeats: list[Any] = []
        self.pages: list[int] = []
        self.queries: list[dict[str, str]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/heartbeat":
            version = {"version": "0.87.3", "db_version": self.server.version, "access_controlled_batch_ids": []}
            self.answer(self.server.heartbeats.pop(0) if self.server.heartbeats else None, version)
        elif parts.path == "/materials/summary/":
            self.summary({name: values[0] for name, values in parse_qs(parts.query).items()})
        else:
            self.answer(404, {})

    def summary(self, query: dict[str, str]) -> None:
        self.server.queries.append(query)
        fault = self.server.faults.pop(0) if self.server.faults else None
        if self.headers.get("x-api-key") != KEY:
            fault = 403
        page = int(query.get("_page", 0))
        if page:
            self.server.pages.append(page)
        if page > self.server.last_page:
            fault = 500
        found = [
            d
            for d in DOCUMENTS + BAD + HIDDEN
            if float(query["energy_above_hull_min"]) <= d["energy_above_hull"] <= float(query["energy_above_hull_max"])
            and int(query["nsites_min"]) <= d["nsites"] <= int(query["nsites_max"])
            and str(d["deprecated"]) == query["deprecated"]
            and set(query.get("elements", "").split(",")) - {""} <= elements(d)
        ]
        if "_sort_fields" in query:
            found.sort(key=lambda d: d[query["_sort_fields"]])
        size = int(query.get("_per_page", 100))
        names = query.get("_fields", "material_id").split(",")
        part = [{name: d[name] for name in names} for d in found[size * max(page - 1, 0) :][:size]]
        self.answer(fault, {"data": part, "meta": {"total_doc": len(found), "max_limit": 1000}})

    def answer(self, fault: Any, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        if isinstance(fault, int):
            body = json.dumps({"detail": f"no {fault}, your key is {self.headers.get('x-api-key')}"}).encode()
        elif fault == "garbled":
            body = b"<html>"
        self.send_response(fault if isinstance(fault, int) else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, *args: Any) -> None:
        pass


def elements(document: dict[str, Any]) -> set[str]:
    sites = (document["structure"] or {}).get("sites", [])
    return {species["element"] for site in sites for species in site["species"]}


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts servers; the newest is the endpoint. Pages of ten, no waits."""
    started = []

    def start(version: str = "2026.10.01") -> Server:
        server = Server(version)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        started.append(server)
        monkeypatch.setenv("MP_API_ENDPOINT", server.endpoint)
        return server

    monkeypatch.setenv("MP_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(materials_project, "PAGE", 10)
    monkeypatch.setattr(materials_project, "FIRST_WAIT", 0.0)
    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def fetched(folder: Path, **query: Any) -> tuple[list[Material], list[InputError]]:
    items = list(fetch(MaterialsProjectQuery(**query), folder))
    return [i for i in items if isinstance(i, Material)], [i for i in items if isinstance(i, InputError)]


def ids(materials: list[Material]) -> list[str]:
    return [material.material_id for material in materials]


def test_all_pages_come_in_order(serve: Any, tmp_path: Path) -> None:
    server = serve()
    found, refused = fetched(tmp_path / "pages")
    assert ids(found) == [d["material_id"] for d in DOCUMENTS]
    assert {(m.space_group, m.source) for m in found} == {(225, "Materials Project 2026.10.01")}
    assert [m.formula for m in found[:2]] == ["LiF", "NaF"]
    assert [(e.where, e.problem.split(" (")[0]) for e in refused] == [
        ("Materials Project, mp-200", "has no structure."),
        ("Materials Project, mp-201", "structure_json is no pymatgen structure"),
    ]
    assert server.pages == [1, 2, 3]
    assert server.queries[-1]["batch_id_not_eq"] == "gnome_r2scan_statics"
    assert KEY not in json.dumps(server.queries)


def test_filters(serve: Any, tmp_path: Path) -> None:
    serve()
    expected = [d["material_id"] for d in DOCUMENTS if "Cl" in elements(d) and d["energy_above_hull"] <= 0.05]
    assert ids(fetched(tmp_path / "a", elements=["Cl"], max_energy_above_hull=0.05)[0]) == expected
    assert len(fetched(tmp_path / "b", max_structures=13)[0]) == 13
    with pytest.raises(InputError, match="Widen the filters"):
        fetched(tmp_path / "c", min_sites=3, max_sites=9)


@pytest.mark.parametrize("faults", [[None, 500, 500, 429], ["garbled", None, "cut", None, "cut", 503, 502]], ids=str)
def test_faults_are_overcome(serve: Any, tmp_path: Path, faults: list[Any]) -> None:
    server = serve()
    server.faults, server.heartbeats = list(faults), [503, "garbled"]
    assert ids(fetched(tmp_path / "pages")[0]) == [d["material_id"] for d in DOCUMENTS]
    assert not server.faults


def test_a_run_goes_on_where_it_stopped(serve: Any, tmp_path: Path) -> None:
    server = serve()
    whole = fetched(tmp_path / "whole")
    server.pages.clear()
    server.last_page = 2
    folder = tmp_path / "pages"
    with pytest.raises(InputError, match=r"does not answer: .*status code 500.*Run again later") as caught:
        fetched(folder)
    assert KEY not in str(caught.value)
    assert server.pages == [1, 2, *[3] * materials_project.ATTEMPTS]
    assert sorted(p.name for p in folder.iterdir()) == ["page-00001.parquet", "page-00002.parquet", "query.json"]
    (folder / ".page-00003.parquet.x1y2.parquet").write_bytes(b"what a killed run leaves")
    server.pages.clear()
    server.last_page = 99
    found, refused = fetched(folder)
    assert server.pages == [3]
    assert [m.row().keys() for m in found] == [m.row().keys() for m in whole[0]]
    for one, other in zip(found, whole[0], strict=True):
        assert all(str(one.row()[name]) == str(other.row()[name]) for name in one.row())
    assert [str(e) for e in refused] == [str(e) for e in whole[1]]
    materials_project.remove_pages(folder)
    assert not folder.exists()


def test_pages_of_another_version_or_query_are_fetched_anew(serve: Any, tmp_path: Path) -> None:
    serve()
    fetched(tmp_path)
    server = serve("2027.01.01")
    assert {m.source for m in fetched(tmp_path)[0]} == {"Materials Project 2027.01.01"}
    assert server.pages == [1, 2, 3]
    fetched(tmp_path, elements=["Cl"])
    assert server.pages == [1, 2, 3, 1]
    (tmp_path / "query.json").unlink()
    with pytest.raises(InputError, match="unknown origin"):
        fetched(tmp_path)


def test_a_refused_key_is_named_and_not_shown(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    wrong = KEY[::-1]
    monkeypatch.setenv("MP_API_KEY", wrong)
    with pytest.raises(InputError, match=r"refuses the key \(status 403\).*MP_API_KEY") as caught:
        fetched(tmp_path)
    assert len(server.queries) == 1
    assert wrong not in str(caught.value) + "".join(capsys.readouterr())
    for key, problem in (("", "is not set"), ("short", "is no key"), (KEY + "\n", "is no key")):
        monkeypatch.setenv("MP_API_KEY", key)
        with pytest.raises(InputError, match=problem) as caught:
            fetched(tmp_path)
        assert "short" not in str(caught.value)
    assert len(server.queries) == 1


def test_a_refused_query_is_not_repeated(serve: Any, tmp_path: Path) -> None:
    server = serve()
    server.faults = [422]
    with pytest.raises(InputError, match="refuses the query") as caught:
        fetched(tmp_path)
    assert len(server.queries) == 1
    assert KEY not in str(caught.value)


def test_without_the_client(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve()
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    with pytest.raises(InputError, match=r"Install imitation-refinement\[materials_project\]"):
        fetched(tmp_path)


def test_stage(serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serve()
    paths = {name: tmp_path / name for name in ("collected_structures", "collected_patterns", "rejected")}
    STAGE.execute(paths | {"structures": "materials-project"}, {"n_patterns": 7, "augment_to": 40})
    library = read_table(paths["collected_structures"], STRUCTURES).to_pylist()
    specimens = read_table(paths["collected_patterns"], PATTERNS).to_pylist()
    assert (len(library), len(specimens)) == (40, 7)
    assert all("Materials Project 2026.10.01" in row["source"] for row in library)
    assert not {row["formula"] for row in library} & {row["formula"] for row in specimens}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(paths)  # the pages are gone
    written = (
        capsys.readouterr().err + paths["rejected"].read_text() + str(pq.read_table(paths["collected_structures"]))
    )
    assert "2026.10.01" in written
    assert KEY not in written
    assert "key" not in str(CollectConfig().model_dump())
