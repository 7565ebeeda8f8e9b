"""``imitation-refinement web``: the page on a port of this machine, with bounds on connections."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
import socket
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from imitation_refinement.errors import InputError
from imitation_refinement.progress import say
from web.app import Access, make_app
from web.workers import Workers

TOKEN_VARIABLE = "IMITATION_REFINEMENT_WEB_TOKEN"
SHORTEST_TOKEN = 16
HEAD_S = 10.0  # until a request's head is there
CONNECTION_S = 180.0  # a connection's whole life: the longest upload, wait and answer, and its slowest download
MOST_OPEN = 512  # connections; one more, and the oldest is cut off
MOST_HEADLESS = 256  # connections that have not sent their request's head; one more, and the oldest gives way
GRACE_S = 0.05  # before they do
END_OF_HEAD = b"\r\n\r\n"


class Connection(H11Protocol):
    """A connection that is not waited for without an end; a flood of them gets into its own way alone."""

    _open: ClassVar[dict[Connection, None]] = {}  # by age
    _headless: ClassVar[dict[Connection, None]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clocks."""
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._tail, self._wire = b"", transport
        self._clocks = [loop.call_later(HEAD_S, self._give_up), loop.call_later(CONNECTION_S, transport.abort)]
        self._open[self] = self._headless[self] = None
        if len(self._open) > MOST_OPEN or len(self._headless) > MOST_HEADLESS:
            loop.call_later(GRACE_S, self._make_room)

    @classmethod
    def _make_room(cls) -> None:
        """The oldest give way. Of a thousand that were accepted at once, those that sent a head have been read now."""
        while len(cls._headless) > MOST_HEADLESS:
            next(iter(cls._headless))._give_up()
        while len(cls._open) > MOST_OPEN:
            oldest = next(iter(cls._open))
            del cls._open[oldest]
            oldest._wire.abort()

    def data_received(self, data: bytes) -> None:
        """Stops the first clock when the head is there."""
        if self in self._headless:
            self._tail += data
            if END_OF_HEAD in self._tail:
                self._has_head()
            self._tail = self._tail[-len(END_OF_HEAD) :]
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops both clocks."""
        self._has_head()
        self._clocks[1].cancel()
        self._open.pop(self, None)
        super().connection_lost(exc)

    def _has_head(self) -> None:
        self._headless.pop(self, None)
        self._clocks[0].cancel()

    def _give_up(self) -> None:
        self._has_head()
        self._open.pop(self, None)
        said = b"The request came too slowly and was given up. Try again."
        head = f"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\nContent-Length: {len(said)}\r\n"
        self._wire.write(head.encode() + b"Connection: close\r\n\r\n" + said)
        self._wire.close()


def serve(
    model: Path | None, host: str, port: int, allowed: Sequence[str] = (), workers: int = 0, browse: bool = False
) -> None:
    """Serves the page until it is stopped.

    Args:
        model: its folder; the one that comes with the software without it.
        host: an address of this machine.
        port: on it; 0: a free one.
        allowed: names that the page may be asked for by, beside addresses and ``localhost``.
        workers: processes that answer; 0: as many as there are cores, two at most.
        browse: whether to open the page in a browser.

    Raises:
        InputError: if the address can't be used, the model neither, or a token is too short.
    """
    token = _token(host)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    pool = Workers(workers or min(2, len(os.sched_getaffinity(0))), model)
    try:
        app = make_app(pool, Access(frozenset(name.lower() for name in (*allowed, host, socket.gethostname())), token))
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
        say(f"The page: {address} (Ctrl-C ends it)")
        if browse:
            webbrowser.open(address)
        server(app).run(sockets=[listening])
    finally:
        pool.end()
        listening.close()


def server(app: ASGIApp) -> uvicorn.Server:
    """What serves an app over :class:`Connection`, and writes no line a request."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


def _token(host: str) -> str:
    """What everybody must show: nothing on this machine's own interface, unless a token is given.

    Raises:
        InputError: if the one that is given is too short.
    """
    given = os.environ.get(TOKEN_VARIABLE, "")
    if given and (len(given) < SHORTEST_TOKEN or not given.isascii() or not given.isalnum()):
        problem = f"the token is not of {SHORTEST_TOKEN} and more letters and digits."
        raise InputError(TOKEN_VARIABLE, problem, "Leave it out, and one is made.")
    return given or ("" if _is_loopback(host) else secrets.token_hex(24))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        remedy = "Give another with --host and --port."
        raise InputError(f"{host}:{port}", f"can't be listened to ({error}).", remedy) from None
