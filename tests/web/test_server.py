"""Where the page is served, and with which token."""

from __future__ import annotations

import socket

import pytest

from imitation_refinement.errors import InputError
from pipelines.cli import main
from web import server


def test_this_machines_own_interface_needs_no_token() -> None:
    assert [server._token(host) for host in ("127.0.0.1", "localhost", "::1", "127.3.2.1")] == [""] * 4


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "lab.example"])
def test_any_other_gets_one_that_can_not_be_guessed(host: str) -> None:
    one, other = server._token(host), server._token(host)
    assert len(one) >= 32 and one != other


def test_a_token_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(server.TOKEN_VARIABLE, "abcdef0123456789")
    assert server._token("0.0.0.0") == server._token("127.0.0.1") == "abcdef0123456789"
    for bad in ("short", "with spaces and so on", "ünwritable" * 3):
        monkeypatch.setenv(server.TOKEN_VARIABLE, bad)
        with pytest.raises(InputError, match=f"{server.TOKEN_VARIABLE}: .*16") as error:
            server._token("127.0.0.1")
        assert bad not in str(error.value)


def test_addresses_that_can_not_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words in (["--port", str(port)], ["--port", "99999"], ["--host", "no.such.host.invalid"]):
            with pytest.raises(SystemExit) as ended:
                main(["web", *words])
            assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("can't be listened to") == 3 and said.count("Give another with --host and --port.") == 3
