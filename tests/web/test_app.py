"""Who may ask, how much and how fast; what is refused, in which words; and that others go on."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests

from tests.web.conftest import Answers, served
from web import app, server
from web.answer import Question
from web.app import Access
from web.workers import Busy, Unanswered

FILE = {"Content-Type": "application/octet-stream"}


def post(
    address: str, data: bytes = b"1 2\n", headers: dict[str, str] | None = None, **query: str
) -> requests.Response:
    return requests.post(
        f"{address}api/identify", data, params={"name": "a.xy", **query}, headers=FILE | (headers or {})
    )


def test_a_file_is_asked_about_as_it_was_given(page: str, answers: Answers) -> None:
    reply = post(page, b"abc", wavelength="CuKa1", must="Fe, O", excluded="Pb")
    assert reply.status_code == 200 and reply.json() == {"length": 3}
    (question,) = answers.asked
    assert (question.data, question.name, question.wavelength) == (b"abc", "a.xy", "CuKa1")
    assert (question.must, question.may_only, question.excluded) == (("Fe", "O"), (), ("Pb",))


def test_every_answer_lets_a_browser_ask_nobody_else(page: str) -> None:
    for path in ("", "main.js", "style.css", "plotly.min.js", "api/about", "health", "nowhere"):
        headers = requests.get(page + path).headers
        policy = dict(part.split(maxsplit=1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'" and policy["script-src"] == policy["connect-src"] == "'self'"
        assert "http" not in " ".join(policy.values()) and policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff" and "server" not in headers


def test_pages_load_nothing_from_elsewhere(page: str) -> None:
    for path in ("", "main.js", "figure.js", "downloads.js", "elements.js", "physics.js", "style.css"):
        text = requests.get(page + path).text
        assert "//cdn" not in text and not [word for word in text.split() if word.startswith(("http://", "https://"))]


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost:{port}", True),
        ("127.0.0.1", True),
        ("[::1]:1", True),
        ("10.1.2.3:99", True),
        ("lab.example", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("[", False),
        ("localhost.", False),
    ],
)
def test_a_foreign_name_that_points_here_is_refused(host: str, known: bool) -> None:
    """Otherwise a page of that name could read the answers: DNS rebinding."""
    with served(Answers(), Access(frozenset({"lab.example"}))) as address:
        host = host.format(port=urlsplit(address).port)
        reply = requests.get(f"{address}api/about", headers={"Host": host})
    assert reply.status_code == (200 if known else 421)
    if reply.status_code == 421:
        assert reply.text.startswith("This server is not ") and "--allow-host" in reply.text


def test_another_sites_page_is_refused(page: str, answers: Answers) -> None:
    assert post(page, headers={"Origin": "https://evil.example"}).status_code == 403
    assert post(page, headers={"Origin": "null"}).status_code == 403
    assert not answers.asked
    assert post(page, headers={"Origin": page.rstrip("/")}).status_code == 200


def test_the_token() -> None:
    answers = Answers()
    with served(answers, Access(token="right" * 5)) as address:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{app.COOKIE}=wrongé"}):
            reply = post(address, headers={name: value.encode("latin-1") for name, value in headers.items()})  # type: ignore[misc]
            assert reply.status_code == 401 and "printed, token and all" in reply.text
        assert requests.get(address).status_code == requests.get(f"{address}?token=wrong").status_code == 401
        assert (
            requests.get(f"{address}main.js?token={'right' * 5}").status_code == 401
        )  # a script's address is no place
        assert not answers.asked
        assert requests.get(f"{address}health").text == "well"
        assert post(address, headers={"Authorization": "Bearer " + "right" * 5}).status_code == 200
        with requests.Session() as browser:
            assert browser.get(f"{address}?token={'right' * 5}").url == address
            assert browser.get(f"{address}main.js").status_code == 200
            (cookie,) = browser.cookies
            assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "strict"


def test_what_is_no_question(page: str, answers: Answers) -> None:
    said = [
        (requests.post(f"{page}api/identify?name=a.xy", data={"a": "b"}), 415, "Send the file's bytes as they are"),
        (requests.post(f"{page}api/identify?name=a.xy", files={"f": b"1"}), 415, "application/octet-stream"),
        (requests.post(f"{page}api/identify", b"1", headers=FILE), 400, "Say the file's name"),
        (post(page, name="a" * 301), 414, "Shorten the file's name"),
        (requests.get(f"{page}api/identify"), 405, "POST a file"),
        (requests.get(f"{page}../../etc/passwd"), 404, "Open /."),
        (requests.get(f"{page}%2e%2e/app.py"), 404, "Open /."),
    ]
    for reply, status, sentence in said:
        assert (
            reply.status_code == status
            and sentence in reply.text
            and reply.headers["content-type"].startswith("text/plain")
        )
    assert not answers.asked


@pytest.mark.parametrize("told", [True, False])
def test_a_file_that_is_too_large(page: str, answers: Answers, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MOST_BYTES", 2 << 20)
    large = b"1" * (3 << 20)
    data = large if told else (large[i : i + 100_000] for i in range(0, len(large), 100_000))
    reply = requests.post(f"{page}api/identify?name=a.xy", data, headers=FILE)
    assert reply.status_code == 413 and "larger than 2 MB" in reply.text and "identify" in reply.text
    assert not answers.asked and post(page).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Busy("Try again."), 503, "Try again."),
        (Unanswered("a: took long."), 500, "a: took long."),
        (KeyError("secret"), 500, "An error of this program"),
    ],
)
def test_what_is_not_answered_is_said_in_a_sentence(error: Exception, status: int, said: str) -> None:
    def reply(question: object) -> tuple[bool, bytes]:
        raise error

    with served(Answers(reply)) as address:
        found = post(address)
    assert found.status_code == status and found.text.startswith(said) and "secret" not in found.text
    assert found.headers["content-security-policy"]


def test_health_says_when_a_worker_has_ended(page: str, answers: Answers) -> None:
    answers.alive = False
    assert requests.get(f"{page}health").status_code == 503


def connect(address: str, sent: bytes = b"") -> socket.socket:
    parts = urlsplit(address)
    assert parts.hostname and parts.port
    opened = socket.create_connection((parts.hostname, parts.port), timeout=60)
    opened.sendall(sent)
    return opened


def read(opened: socket.socket) -> str:
    """All that comes until the other side closes or cuts."""
    found = b""
    with suppress(ConnectionResetError):
        while part := opened.recv(1 << 20):
            found += part
    return found.decode()


def head(length: int) -> bytes:
    lines = ["POST /api/identify?name=a.xy HTTP/1.1", "Host: localhost", "Content-Type: application/octet-stream"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", head(9)[:-2], head(9) + b"1234"])
def test_who_sends_too_slowly_is_given_up(
    page: str, answers: Answers, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    monkeypatch.setattr(app, "UPLOAD_S", 0.2)
    with connect(page, sent) as slow:
        said = read(slow)
    assert said.startswith("HTTP/1.1 408 ") and "too slowly and was given up" in said
    assert not answers.asked


def test_who_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTION_S", 0.3)
    large = b"1" * (64 << 20)  # more than fits between the two
    with served(Answers(lambda question: (True, large))) as address, connect(address, head(1) + b"1") as slow:
        time.sleep(1)
        assert len(read(slow)) < len(large)


def test_a_flood_of_silent_connections_gets_into_its_own_way(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_HEADLESS", 4)
    flood = [connect(page, b"GET") for _ in range(12)]
    assert post(page).status_code == 200
    assert "200 OK" not in read(flood[0])  # cut off, and told why if that came in time
    for one in flood:
        one.close()


def test_who_is_being_answered_does_not_give_way_to_silent_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted before the flood, with its head sent in the same moment as the flood came."""
    monkeypatch.setattr(server, "MOST_HEADLESS", 4)
    monkeypatch.setattr(server, "MOST_OPEN", 8)
    flooded = threading.Event()

    def reply(question: Question) -> tuple[bool, bytes]:
        flooded.wait(10)  # the event loop's own thread: all that comes meanwhile is accepted at once
        return True, b"{}"

    with served(Answers(reply)) as address:
        asked = [connect(address, head(1) + b"1") for _ in range(2)]
        flood = [connect(address, b"") for _ in range(40)]
        flooded.set()
        for one in asked:
            assert read(one).startswith("HTTP/1.1 200 ")
        for one in flood:
            one.close()


def test_a_flood_of_those_who_read_nothing_gets_into_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_OPEN", 4)
    large = b"1" * (64 << 20)
    answers = Answers(lambda question: (True, large if question.data == b"1" else b"{}"))
    with served(answers) as address:
        flood = [connect(address, head(1) + b"1") for _ in range(8)]
        assert post(address, b"22").json() == {}
        time.sleep(3 * server.GRACE_S)
        assert len(read(flood[0])) < len(large)
        for one in flood:
            one.close()


def test_a_flood_of_slow_files_gets_into_its_own_way(
    page: str, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "MOST_UPLOADS", 3)
    flood = [connect(page, head(10) + b"12345") for _ in range(6)]
    for first in flood[:3]:
        assert read(first).startswith("HTTP/1.1 408 ")
    assert post(page).status_code == 200 and len(answers.asked) == 1
    flood[-1].sendall(b"67890")
    assert read(flood[-1]).startswith("HTTP/1.1 200 ")
    for one in flood:
        one.close()
