"""Submitting to a local server that answers Kubeflow Pipelines' v2beta1 interface, with its refusals and outages."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp.client as kfp_client
import kfp_server_api as api
import pytest
import yaml

from imitation_refinement import __version__
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from pipelines import server as server_module
from pipelines.cli import main
from pipelines.cluster import Cluster
from pipelines.compile import compile_pipeline
from pipelines.local import TaskFailed
from pipelines.profiles import read_profile
from pipelines.server import TRIES, Access, Server
from pipelines.submit import WATCH_TRIES, Submission, expected_tasks, run_parameters, submit, watch

PREFIX = "/apis/v2beta1/"
PAGE = "<!doctype html><html><body>Log in</body></html>"
Answer = tuple[int, Any]


def refusal(status: int, message: str = "") -> Answer:
    """An error as the server words it."""
    return status, {"error": message, "code": 1, "message": message}


class Kubeflow:
    """The state of a server, and what was asked of it."""

    def __init__(self) -> None:
        self.pipelines: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.experiments: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.uploads: list[bytes] = []
        self.health: dict[str, Any] = {"multi_user": False}
        self.faults: dict[tuple[str, str], list[Answer | None]] = {}  # request → what it answers first; None: as usual
        self.lost: set[tuple[str, str]] = set()  # requests that are done but answered with 503, once
        self.progress: list[dict[str, Any]] = []  # what a run is at each look, the last for ever
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.url = ""

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        """The answer to a request whose path is below the prefix."""
        key = (method, path)
        if waiting := self.faults.get(key) or self.faults.get(("*", "*")):
            fault = waiting[0] if len(waiting) == 1 and waiting[0] else waiting.pop(0)
            if fault is not None:
                return fault
        answer = self.usual(method, path, query, body)
        if key in self.lost:
            self.lost.remove(key)
            return refusal(503, "upstream reset")
        return answer

    def usual(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        match method, path.split("/"):
            case "GET", ["healthz"]:
                return 200, self.health
            case "GET", ["pipelines"]:
                return 200, {"pipelines": named(self.pipelines, query)}
            case "POST", ["pipelines"]:
                check(api.V2beta1Pipeline, body)
                return made(self.pipelines, "pipeline_id", body)
            case "GET", ["pipelines", pipeline, "versions"]:
                mine = [v for v in self.versions if v["pipeline_id"] == pipeline]
                start, size = int(query.get("page_token") or 0), 2  # smaller pages than asked for are allowed
                rest = {"next_page_token": str(start + size)} if len(mine) > start + size else {}
                return 200, {"pipeline_versions": mine[start : start + size], **rest}
            case "POST", ["pipelines", "upload_version"]:
                if any(v["display_name"] == query["name"] for v in self.versions):
                    return refusal(409, "already exists")
                self.uploads.append(body)
                asked = {"display_name": query["name"], "description": query["description"]}
                return made(self.versions, "pipeline_version_id", {**asked, "pipeline_id": query["pipelineid"]})
            case "GET", ["experiments"]:
                return 200, {"experiments": named(self.experiments, query)}
            case "POST", ["experiments"]:
                check(api.V2beta1Experiment, body)
                return made(self.experiments, "experiment_id", {"storage_state": "AVAILABLE", **body})
            case "GET", ["runs"]:
                return 200, {"runs": named(self.runs, query)}
            case "POST", ["runs"]:
                check(api.V2beta1Run, body)
                return made(self.runs, "run_id", {"state": "PENDING", **body})
            case "GET", ["runs", run]:
                (found,) = (r for r in self.runs if r["run_id"] == run)
                now = self.progress.pop(0) if len(self.progress) > 1 else self.progress[0]
                return 200, {**found, **now}
        return refusal(404, "Not Found")


def check(model: Any, body: dict[str, Any]) -> None:
    """The real server refuses fields that it does not know."""
    assert set(body) <= set(model.attribute_map.values()), body


def named(items: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    """What a filter by name leaves."""
    (wanted,) = json.loads(query["filter"])["predicates"]
    assert (wanted["operation"], wanted["key"]) == ("EQUALS", "display_name")
    return [i for i in items if i["display_name"] == wanted["stringValue"]]


def made(items: list[dict[str, Any]], key: str, body: dict[str, Any]) -> Answer:
    items.append({**body, key: f"{key}-{len(items)}"})
    return 200, items[-1]


def uploaded(headers: Any, body: bytes) -> bytes:
    """The file of a multipart form."""
    message = message_from_bytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
    (part,) = message.get_payload()
    assert part.get_param("name", header="content-disposition") == "uploadfile"
    assert part.get_filename().endswith(".yaml")
    return part.get_payload(decode=True)


def serve(kubeflow: Kubeflow, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(parts.query).items()}
            body: Any = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if body:
                form = "multipart" in self.headers["Content-Type"]
                body = uploaded(self.headers, body) if form else json.loads(body)
            path = parts.path.removeprefix(PREFIX)
            kubeflow.requests.append(
                (self.command, path, {**{k.lower(): v for k, v in self.headers.items()}, "query": parts.query})
            )
            status, answer = kubeflow.answer(self.command, path, query, body)
            page = isinstance(answer, str)
            data = (answer if page else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if page else "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status == 302:
                self.send_header("Location", f"{kubeflow.url}/login")
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        http.socket = context.wrap_socket(http.socket, server_side=True)
    kubeflow.url = f"http{'s' if context else ''}://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return http


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the person who runs the tests."""
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in ("KFP_EXISTING_TOKEN", "KFP_COOKIES", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(kfp_client.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))


@pytest.fixture
def kubeflow() -> Iterator[Kubeflow]:
    state = Kubeflow()
    http = serve(state)
    yield state
    http.shutdown()
    http.server_close()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "pipeline.yaml"
    compile_pipeline(read_profile("smoke"), path)
    return path


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def server(kubeflow: Kubeflow, pauses: list[float]) -> Server:
    return Server(Access(kubeflow.url), pause=pauses.append)


CLUSTER = Cluster.model_validate({"data": {"claim": "patterns", "path": "/data"}})
SOURCES = {"structures": "random", "imperfect": "/data/measured", "test": "", "keep_out": "", "classifiers": ""}
PARAMETERS = run_parameters(read_profile("smoke", ["seed=7", "shards=3"]).parameters(), SOURCES, CLUSTER)


def send(server: Server, package: Path, name: str = "first") -> Submission:
    return submit(server, package, PARAMETERS, name)


def detail(name: str, state: str, **more: Any) -> dict[str, Any]:
    return {"display_name": name, "task_id": f"id of {name}", "state": state, **more}


def looks(state: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"state": state, "run_details": {"task_details": list(tasks)}, **more}


def test_all_that_a_first_submission_makes(kubeflow: Kubeflow, server: Server, package: Path) -> None:
    submission = send(server, package)
    (pipeline,), (version,), (experiment,), (run,) = (
        kubeflow.pipelines,
        kubeflow.versions,
        kubeflow.experiments,
        kubeflow.runs,
    )
    assert pipeline["display_name"] == pipeline["name"] == "imitation-refinement"
    assert kubeflow.uploads == [package.read_bytes()]
    assert next(yaml.safe_load_all(kubeflow.uploads[0]))["pipelineInfo"]["name"] == "imitation-refinement"
    assert version["pipeline_id"] == pipeline["pipeline_id"]
    assert version["display_name"].startswith(f"{__version__}-") and digest(package) in version["description"]
    assert experiment["display_name"] == "imitation-refinement"
    assert run["display_name"] == "first" and run["experiment_id"] == experiment["experiment_id"]
    assert run["pipeline_version_reference"] == {
        "pipeline_id": pipeline["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    assert "pipeline_spec" not in run and "plugins_input" not in run
    assert submission.link == f"{kubeflow.url}/#/runs/details/{run['run_id']}"
    assert submission.version == version["display_name"]


def test_parameters_keep_their_types_and_nesting(kubeflow: Kubeflow, server: Server, package: Path) -> None:
    send(server, package)
    given = kubeflow.runs[0]["runtime_config"]["parameters"]
    assert given == {
        **read_profile("smoke", ["seed=7", "shards=3"]).parameters(),
        **SOURCES,
    }
    assert given["shards"] == [0, 1, 2] and type(given["n_shards"]) is int
    optimiser = given["refine"][0]["config"]["optimiser"]
    assert type(optimiser["epochs"]) is int and optimiser["seed"] == 7
    known = next(yaml.safe_load_all(package.read_text()))["root"]["inputDefinitions"]["parameters"]
    assert set(given) == set(known)


def test_a_second_submission_reuses_all_but_the_run(kubeflow: Kubeflow, server: Server, package: Path) -> None:
    assert send(server, package).version == send(server, package, "second").version
    assert [len(x) for x in (kubeflow.pipelines, kubeflow.versions, kubeflow.experiments)] == [1, 1, 1]
    assert [r["display_name"] for r in kubeflow.runs] == ["first", "second"]
    assert len(kubeflow.uploads) == 1


def test_other_content_is_another_version_of_the_same_pipeline(
    kubeflow: Kubeflow, server: Server, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for second, text in enumerate(("", "# b\n", "# c\n", "# d\n")):

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)  # noqa: B023

        monkeypatch.setattr("pipelines.submit.datetime", Clock)
        other = tmp_path / "other.yaml"
        other.write_text(package.read_text() + text)
        send(server, other)
        send(server, other)  # found on a later page, too
    assert len(kubeflow.pipelines) == 1 and len(kubeflow.uploads) == len(kubeflow.versions) == 4
    times = [v["display_name"].split("-")[-2] for v in kubeflow.versions]
    assert times == [f"20260101T00000{i}Z" for i in range(4)]
    used = [r["pipeline_version_reference"]["pipeline_version_id"] for r in kubeflow.runs]
    assert used == [v["pipeline_version_id"] for v in kubeflow.versions for _ in range(2)]


def test_the_version_names_the_revision(
    kubeflow: Kubeflow, server: Server, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new commit makes a version of its own; without a repository there is no revision to name."""
    for revision in ("0123456789ab", "ba9876543210", ""):
        monkeypatch.setattr("pipelines.submit._revision", lambda revision=revision: revision)
        send(server, package)
    names = [v["display_name"].rsplit("-", 2) for v in kubeflow.versions]
    assert all(name[2] == digest(package)[:8] for name in names)
    assert [name[0] for name in names] == [f"{__version__}-{r}" for r in ("0123456789ab", "ba9876543210", "no-git")]


def test_an_experiment_for_the_mlflow_plugin(kubeflow: Kubeflow, server: Server, package: Path) -> None:
    submit(server, package, PARAMETERS, "run", "another", "xrd")
    assert kubeflow.runs[0]["plugins_input"] == {"mlflow": {"experiment_name": "xrd"}}
    assert [e["display_name"] for e in kubeflow.experiments] == ["another"]


def test_an_archived_experiment_takes_no_run(kubeflow: Kubeflow, server: Server, package: Path) -> None:
    kubeflow.experiments.append(
        {"experiment_id": "old", "display_name": "imitation-refinement", "storage_state": "ARCHIVED"}
    )
    with pytest.raises(InputError, match=r"archived\. Restore it.*The run was not started\. Done before: the pipeline"):
        send(server, package)
    assert not kubeflow.runs


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(401, "no token"), r"does not accept the sign-in \(401: no token\).*--token-file"),
        ((401, PAGE), r"does not accept the sign-in \(401 Unauthorized\)"),
        (refusal(403, "User is not authorized"), r"does not allow that \(403: User is not authorized\).*--namespace"),
        ((403, "RBAC: access denied"), r"\(403: RBAC: access denied\)"),
        (refusal(404, "Not Found"), r"has no Kubeflow Pipelines of version 2 \(404.*Check --host"),
        ((404, PAGE), r"has no Kubeflow Pipelines of version 2 \(404"),
        (refusal(400, "Namespace cannot be empty"), r"refuses the request \(400: Namespace cannot be empty\)"),
        ((200, PAGE), r"answers with a web page instead of the API's JSON.*Sign in"),
        ((302, ""), r"redirects without an end.*Sign in"),
    ],
)
def test_refusals_are_one_message_and_not_asked_again(
    kubeflow: Kubeflow, pauses: list[float], answer: Answer, said: str
) -> None:
    kubeflow.faults["*", "*"] = [answer]
    with pytest.raises(InputError, match=said) as found:
        Server(Access(kubeflow.url), pause=pauses.append)
    assert str(found.value).startswith(kubeflow.url) and "<" not in str(found.value) and not pauses


def test_an_outage_that_ends(
    kubeflow: Kubeflow, pauses: list[float], package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each request is refused twice before it is answered; nothing is made twice."""
    busy = [refusal(503, "warming up"), (502, PAGE), None]
    everything = (
        ("GET", "healthz"),
        ("GET", "pipelines"),
        ("POST", "pipelines"),
        ("POST", "pipelines/upload_version"),
        ("GET", "experiments"),
        ("POST", "experiments"),
        ("GET", "runs"),
        ("POST", "runs"),
    )
    kubeflow.faults = {key: list(busy) for key in everything}
    send(Server(Access(kubeflow.url), pause=pauses.append), package)
    assert pauses == [1.0, 2.0] * len(everything)
    assert [len(x) for x in (kubeflow.pipelines, kubeflow.versions, kubeflow.experiments, kubeflow.runs)] == [1] * 4
    assert f"{kubeflow.url}: is out of order (503: warming up). Again in 1 s." in capsys.readouterr().err


def test_what_an_outage_hid_is_not_made_again(kubeflow: Kubeflow, server: Server, package: Path) -> None:
    """The server did it, but its answer was lost."""
    kubeflow.lost = {("POST", path) for path in ("pipelines", "pipelines/upload_version", "experiments", "runs")}
    submission = send(server, package)
    assert not kubeflow.lost
    assert [len(x) for x in (kubeflow.pipelines, kubeflow.versions, kubeflow.experiments, kubeflow.runs)] == [1] * 4
    assert submission.run_id == kubeflow.runs[0]["run_id"]


def test_an_outage_without_end(kubeflow: Kubeflow, server: Server, package: Path, pauses: list[float]) -> None:
    kubeflow.faults["POST", "runs"] = [refusal(503, "no healthy upstream")]
    with pytest.raises(InputError, match=r"out of order \(503: no healthy upstream\)\. Try again later") as found:
        send(server, package)
    assert len(pauses) == TRIES - 1 and pauses == sorted(pauses)
    version = kubeflow.versions[0]["display_name"]
    assert str(found.value).endswith(
        "The run was not started. Done before: the pipeline imitation-refinement was made; "
        f"the pipeline's version {version} was uploaded; the experiment imitation-refinement was made."
    )


def test_a_refusal_on_the_way_says_what_was_done(kubeflow: Kubeflow, server: Server, package: Path) -> None:
    kubeflow.faults["POST", "pipelines/upload_version"] = [refusal(400, "invalid spec")]
    with pytest.raises(InputError) as found:
        send(server, package)
    assert str(found.value) == (
        f"{kubeflow.url}: refuses the request (400: invalid spec). The run was not started. "
        "Done before: the pipeline imitation-refinement was made."
    )


def test_nobody_listens(
    pauses: list[float], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InputError, match=rf"{url}: can't be reached \(.*Connection refused\)\. Check the address"):
        Server(Access(url), pause=pauses.append)
    assert not pauses  # nobody waits for a wrong address
    captured = capfd.readouterr()
    assert not captured.out and not captured.err and not caplog.records


def test_a_name_that_does_not_exist(pauses: list[float]) -> None:
    with pytest.raises(InputError, match=r"can't be reached"):
        Server(Access("http://kubeflow.invalid"), pause=pauses.append)
    assert not pauses


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    monkeypatch.setattr(server_module, "TIMEOUT_S", (0.1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=r"does not answer within 0 s\. Try again later\."):
            Server(Access(url), tries=2, pause=pauses.append)
    assert pauses == [1.0]


@pytest.mark.parametrize("host", ["", "localhost:8080"])
def test_a_host_without_a_scheme(host: str) -> None:
    with pytest.raises(InputError, match=r"no address with http:// or https://\. Name the server with --host"):
        Server(Access(host))


def test_the_host_of_the_environment(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kubeflow.url + "/")
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example.com/pipeline/")
    found = Server(Access())
    assert found.host == kubeflow.url
    assert found.link("runs/details/1") == "https://kubeflow.example.com/pipeline/#/runs/details/1"


def sent(kubeflow: Kubeflow, name: str) -> str | None:
    """A header of the last request."""
    return kubeflow.requests[-1][2].get(name.lower())


def test_tokens(kubeflow: Kubeflow, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent(kubeflow, "Authorization") is None
    for number, variable in enumerate(("KF_PIPELINES_SA_TOKEN_PATH", "KFP_EXISTING_TOKEN")):
        secret = tmp_path / variable
        secret.write_text(f"secret-{number}\n")
        by_file = variable == "KF_PIPELINES_SA_TOKEN_PATH"
        monkeypatch.setenv(variable, str(secret) if by_file else f"secret-{number}")
        Server(Access(kubeflow.url))
        assert sent(kubeflow, "Authorization") == f"Bearer secret-{number}"
    renewed = tmp_path / "token"
    renewed.write_text("old\n")
    signed_in = Server(Access(kubeflow.url, token_file=str(renewed)))
    assert sent(kubeflow, "Authorization") == "Bearer old"
    renewed.write_text("new\n")  # as the kubelet does every hour
    signed_in.ask(signed_in.client.healthzs.healthz_service_get_healthz)
    assert sent(kubeflow, "Authorization") == "Bearer new"
    renewed.unlink()
    with pytest.raises(InputError, match=r"token: can't be read"):
        signed_in.ask(signed_in.client.healthzs.healthz_service_get_healthz)


def test_the_token_of_the_pod_this_runs_in(kubeflow: Kubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("of-the-pod")
    (tmp_path / "namespace").write_text("team-a\n")
    monkeypatch.setattr(server_module, "KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(server_module, "POD_NAMESPACE", tmp_path / "namespace")
    kubeflow.health = {"multi_user": True}
    assert Server(Access(kubeflow.url)).namespace == "team-a"
    assert sent(kubeflow, "Authorization") == "Bearer of-the-pod"
    assert Server(Access(kubeflow.url, namespace="mine")).namespace == "mine"


def test_cookies(kubeflow: Kubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_COOKIES", "authservice_session=a")
    Server(Access(kubeflow.url))
    assert sent(kubeflow, "Cookie") == "authservice_session=a"
    (tmp_path / "cookies").write_text("authservice_session=b\n")
    Server(Access(kubeflow.url, cookies_file=str(tmp_path / "cookies")))
    assert sent(kubeflow, "Cookie") == "authservice_session=b"


@pytest.mark.parametrize("field", ["token_file", "cookies_file", "ca_certificate"])
@pytest.mark.parametrize("text", [None, "", "two\nlines"])
def test_secrets_that_are_none(kubeflow: Kubeflow, tmp_path: Path, field: str, text: str | None) -> None:
    path = tmp_path / "secret"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as found:
        Server(Access(kubeflow.url, **{field: str(path)}))
    assert found.value.where == str(path) and "two" not in found.value.problem
    assert not kubeflow.requests


def test_several_users_need_a_namespace(kubeflow: Kubeflow, package: Path) -> None:
    kubeflow.health = {"multi_user": True}
    with pytest.raises(InputError, match=r"serves several users\. Name your namespace with --namespace\."):
        Server(Access(kubeflow.url))
    send(Server(Access(kubeflow.url, namespace="team-a")), package)
    assert kubeflow.pipelines[0]["namespace"] == kubeflow.experiments[0]["namespace"] == "team-a"
    lists = [q["query"] for m, path, q in kubeflow.requests if m == "GET" and path in ("pipelines", "experiments")]
    assert lists and all("namespace=team-a" in query for query in lists)


def test_certificates(tmp_path: Path, pauses: list[float]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubeflow")])
    day = datetime.now(UTC)
    import ipaddress

    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), day, day + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    authority, pair = tmp_path / "ca.pem", tmp_path / "pair.pem"
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair.write_bytes(authority.read_bytes() + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    kubeflow = Kubeflow()
    http = serve(kubeflow, context)
    with pytest.raises(InputError, match=r"certificate that can't be verified .* --ca-certificate"):
        Server(Access(kubeflow.url), pause=pauses.append)
    with pytest.raises(InputError, match=r"broke off the connection|can't be reached"):
        Server(Access(kubeflow.url.replace("https", "http")), pause=pauses.append)
    assert Server(Access(kubeflow.url, ca_certificate=str(authority))).namespace is None
    http.shutdown()
    http.server_close()
    assert not pauses


@pytest.mark.parametrize(("option", "path"), [("structures", "cifs"), ("imperfect", "./p.parquet"), ("test", "random")])
def test_sources_are_paths_in_the_cluster(option: str, path: str) -> None:
    with pytest.raises(InputError, match=rf"{option} {path}: is not on the cluster's data volume, /data"):
        run_parameters({}, {option: path}, CLUSTER)
    given = {"structures": "materials-project", "imperfect": "/data/p"}
    assert run_parameters({"a": 1}, given, CLUSTER) == {"a": 1, **given}


def test_the_tasks_to_come(package: Path) -> None:
    tasks = expected_tasks(next(yaml.safe_load_all(package.read_text())), PARAMETERS)
    assert tasks["simulate"] == ("simulate", 3) and tasks["train-refiner"] == ("train-refiner", 5)
    assert tasks["pretrain-classifier"] == ("pretrain-classifier", 2)  # a loop in a pipeline of its own
    assert sum(count for _, count in tasks.values()) == 14


@pytest.fixture
def started(kubeflow: Kubeflow, server: Server, package: Path) -> Submission:
    return send(server, package)


def test_a_run_is_watched_to_its_end(
    kubeflow: Kubeflow, server: Server, started: Submission, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    drivers = detail("root-driver", "SUCCEEDED"), detail("root", "RUNNING"), detail("executor", "RUNNING")
    shards = [detail("simulate", state) for state in ("SUCCEEDED", "SUCCEEDED", "RUNNING")]
    kubeflow.progress = [
        {"state": "PENDING"},
        looks("RUNNING", *drivers, detail("collect-structures", "RUNNING")),
        looks("RUNNING", *drivers, detail("collect-structures", "RUNNING")),
        looks("RUNNING", *drivers, detail("collect-structures", "SUCCEEDED"), *shards),
        looks("SUCCEEDED", *(detail(n, "SUCCEEDED") for n, (_, count) in started.tasks.items() for _ in range(count))),
    ]
    capsys.readouterr()
    watch(server, started, interval=7, pause=pauses.append)
    assert pauses == [7] * 4
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "collect-structures: running",
        "collect-structures: succeeded",
        "simulate: 2 of 3 done, 1 running",
    ]
    assert "simulate: 3 of 3 done" in lines and "train-refiner: 5 of 5 done" in lines
    assert lines[-1].startswith("tasks: 14 done")
    assert not any("driver" in line or "executor" in line for line in lines)


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_a_run_that_fails_names_the_task_and_its_error(
    kubeflow: Kubeflow, server: Server, started: Submission, state: str
) -> None:
    children = [{"task_id": "pod"}]
    pod = {"display_name": "executor", "task_id": "pod", "state": "FAILED", "child_tasks": [{"pod_name": "run-x-1"}]}
    kubeflow.progress = [
        looks(
            state,
            detail("preprocess", "SUCCEEDED"),
            detail("root", "FAILED"),
            detail("train-refiner", "FAILED", child_tasks=children),
            {**pod, "error": {"code": 13, "message": "OOMKilled (exit code 137)"}},
            error={"code": 13, "message": "child failed"},
        )
    ]
    with pytest.raises(TaskFailed) as found:
        watch(server, started)
    assert str(found.value) == (
        f"the run ended as {state}. Task train-refiner failed: OOMKilled (exit code 137) "
        f"(kubectl logs run-x-1 -c main). child failed Its log: {started.link}"
    )


def test_a_failure_that_the_server_does_not_explain(kubeflow: Kubeflow, server: Server, started: Submission) -> None:
    kubeflow.progress = [looks("FAILED", detail("evaluate", "FAILED"))]
    with pytest.raises(TaskFailed, match=r"Task evaluate failed; the server gives no reason\. Its log: http"):
        watch(server, started)
    kubeflow.progress = [looks("FAILED", detail("evaluate-driver", "FAILED"))]  # before the task itself began
    with pytest.raises(TaskFailed, match=r"Task evaluate-driver failed; the server gives no reason"):
        watch(server, started)


def test_an_outage_while_watching(kubeflow: Kubeflow, server: Server, started: Submission, pauses: list[float]) -> None:
    kubeflow.progress = [looks("SUCCEEDED")]
    look = ("GET", f"runs/{started.run_id}")
    kubeflow.faults[look] = [refusal(503)] * 8 + [None]
    watch(server, started)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    pauses.clear()
    kubeflow.faults[look] = [refusal(503)]
    with pytest.raises(InputError, match=rf"out of order.*The run goes on: {started.link}"):
        watch(server, started)
    assert len(pauses) == WATCH_TRIES - 1


def test_an_interrupt_leaves_the_run_going(
    kubeflow: Kubeflow, server: Server, started: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    kubeflow.progress = [looks("RUNNING")]
    with pytest.raises(SystemExit) as end:
        watch(server, started, pause=interrupt)
    assert end.value.code == 130
    assert f"no longer watched; the run goes on: {started.link}" in capsys.readouterr().err
    assert not [m for m, path, _ in kubeflow.requests if "terminate" in path]


def test_command_line(kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str]) -> None:
    kubeflow.progress = [looks("SUCCEEDED")]
    options = ["--profile", "smoke", "--seed", "5", "--set", "targeted.optimiser.epochs=3", "--structures", "random"]
    main(["submit", "--host", kubeflow.url, *options, "--name", "mine", "--wait"])
    out = capsys.readouterr().out
    assert out == f"run: {kubeflow.url}/#/runs/details/run_id-0\nsucceeded\n"
    (run,) = kubeflow.runs
    given = run["runtime_config"]["parameters"]
    assert run["display_name"] == "mine" and given["structures"] == "random" and given["preprocess"]["seed"] == 5
    assert given["refine"][0]["config"]["optimiser"]["epochs"] == 3
    main(["submit", "--host", kubeflow.url, "--profile", "smoke", "--seed", "2"])
    assert kubeflow.runs[1]["display_name"].startswith("smoke seed 2 20")
    assert len(kubeflow.pipelines) == 1


def test_exit_codes(kubeflow: Kubeflow, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kubeflow.progress = [looks("FAILED", detail("evaluate", "FAILED"))]
    with pytest.raises(SystemExit) as end:
        main(["submit", "--host", kubeflow.url, "--profile", "smoke", "--wait"])
    assert end.value.code == 1 and "error: the run ended as FAILED. Task evaluate failed" in capsys.readouterr().err
    (tmp_path / "cookies").write_text("session=very-secret")
    kubeflow.faults["*", "*"] = [refusal(401)]
    with pytest.raises(SystemExit) as end:
        main(["submit", "--host", kubeflow.url, "--cookies", str(tmp_path / "cookies")])
    captured = capsys.readouterr()
    assert end.value.code == 2 and captured.err.startswith(f"error: {kubeflow.url}: does not accept the sign-in")
    assert "very-secret" not in captured.out + captured.err
