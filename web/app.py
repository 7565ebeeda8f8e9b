"""The page's requests: who may ask, how much and how long, and what each answer is allowed to do in a browser.

Nothing is kept: a file lives as long as its request does. Whatever is refused is refused in one sentence of plain text.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imitation_refinement import __version__
from imitation_refinement.data.formats import EXTENSIONS
from imitation_refinement.data.formula import SYMBOLS
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.radiation import WAVELENGTHS
from web.answer import MOST_POINTS, Question
from web.workers import Busy, Unanswered, Workers

MOST_BYTES = 16 << 20  # of a file
DRAINED = 64  # times as much is read and thrown away: a sender that is cut off does not read why
UPLOAD_S = 20.0
MOST_UPLOADS = 64  # at a time; one more, and the oldest gives way
MOST_NAME = 300  # characters of a file's name, and of every other option
UPLOADED = "application/octet-stream"  # what no form of another site can send without being asked first
COOKIE = "imitation-refinement"
HEADERS: Mapping[str, str] = {
    # Nothing but this server is asked for anything. Styles may stand in the page: Plotly writes its own there.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Connection": "close",  # a connection is one request: none is kept waiting for others
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        hosts: names that the page may be asked for by, in small letters, beside addresses and ``localhost``.
        token: what everybody must show; empty: nobody need.
    """

    hosts: frozenset[str] = frozenset()
    token: str = ""

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server; one that a foreign name was made to point here with does not.

        >>> Access().knows("127.0.0.1:80"), Access().knows("evil.example"), Access().knows("[::1]:8000")
        (True, False, True)
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def admits(self, shown: str) -> bool:
        """Whether a token is the one."""
        return not self.token or hmac.compare_digest(shown.encode(), self.token.encode())


class Guard:
    """Lets nobody in whom :class:`Access` does not, no other site's page, and adds :data:`HEADERS` to every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, by the ASGI protocol."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (self._refusal(Request(scope)) or self.app)(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self.access.knows(host):
            said = f"This server is not {host[:MOST_NAME]!r}. Ask by its address, or start it with --allow-host NAME."
            return PlainTextResponse(said, 421)
        if origin is not None and urlsplit(origin).netloc != host:
            return PlainTextResponse("Another site's page may not ask here. Open this page itself.", 403)
        if request.url.path == "/health" or self.access.admits(_shown(request.headers, request.cookies)):
            return None
        if request.url.path == "/" and self.access.admits(request.query_params.get("token", "")):
            entered = RedirectResponse("/", 303)
            entered.set_cookie(COOKIE, self.access.token, httponly=True, samesite="strict")
            return entered
        said = "The token is missing or wrong. Open the address that `imitation-refinement web` printed, token and all."
        return PlainTextResponse(said, 401)


def _shown(headers: Headers, cookies: Mapping[str, str]) -> str:
    bearer = headers.get("authorization", "")
    return bearer[7:] if bearer.lower().startswith("bearer ") else cookies.get(COOKIE, "")


class Uploads:
    """Files on their way in, each within :data:`UPLOAD_S`; when too many come at once, the slowest gives way."""

    def __init__(self) -> None:
        self._begun: dict[asyncio.Timeout, None] = {}

    async def read(self, request: Request) -> bytes:
        """A request's body.

        Raises:
            HTTPException: if it is of another type, too large, or too slow.
        """
        if request.headers.get("content-type") != UPLOADED:
            raise HTTPException(415, f"Send the file's bytes as they are, as {UPLOADED}.")
        data, size = bytearray(), 0
        try:
            async with asyncio.timeout(UPLOAD_S) as patience:
                self._begun[patience] = None
                if len(self._begun) > MOST_UPLOADS:
                    oldest = next(iter(self._begun))
                    del self._begun[oldest]
                    oldest.reschedule(asyncio.get_running_loop().time())
                try:
                    async for part in request.stream():
                        size += len(part)
                        if size <= MOST_BYTES:
                            data += part
                        elif size > DRAINED * MOST_BYTES:
                            break
                finally:
                    self._begun.pop(patience, None)
        except TimeoutError:
            raise HTTPException(408, "The file came too slowly and was given up. Try again.") from None
        if size > MOST_BYTES:
            said = f"The file is larger than {MOST_BYTES >> 20} MB, which is all the page takes. Split it, or use "
            raise HTTPException(413, said + "`imitation-refinement identify` on the command line.")
        return bytes(data)


def make_app(workers: Workers, access: Access) -> ASGIApp:
    """The page.

    Args:
        workers: who answers.
        access: who may ask.
    """
    static = Path(str(files("web") / "static"))
    plotly = Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js")))
    about = {
        **workers.about,
        "version": __version__,
        "extensions": EXTENSIONS,
        "elements": SYMBOLS,
        "lines": WAVELENGTHS,
        "most_bytes": MOST_BYTES,
        "most_points": MOST_POINTS,
    }
    uploads = Uploads()

    async def identify(request: Request) -> Response:
        question = _question(request)
        data = await uploads.read(request)
        if await request.is_disconnected():
            raise ClientDisconnect
        answered, text = await workers.ask(Question(data, *question))
        if not answered:
            return PlainTextResponse(text, 422)
        return Response(text, media_type="application/json")

    async def health(request: Request) -> Response:
        return PlainTextResponse(
            "well" if workers.alive else "a process that answers has ended", 200 if workers.alive else 503
        )

    async def described(request: Request) -> Response:
        return Response(json.dumps(about, ensure_ascii=False), media_type="application/json")

    def serves(path: Path) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            return FileResponse(path, headers={"Cache-Control": "no-cache"})

        return serve

    pages = {path.name: path for path in static.iterdir() if path.suffix in {".js", ".css", ".svg"}}
    pages |= {"plotly.min.js": plotly, "": static / "index.html"}
    app = Starlette(
        routes=[
            *(Route(f"/{name}", serves(path)) for name, path in sorted(pages.items())),
            Route("/health", health),
            Route("/api/about", described),
            Route("/api/identify", identify, methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: _said,
            InputError: lambda request, error: PlainTextResponse(str(error), 422),
            Busy: lambda request, error: PlainTextResponse(str(error), 503, {"Retry-After": "5"}),
            Unanswered: lambda request, error: PlainTextResponse(str(error), 500),
            Exception: lambda request, error: PlainTextResponse(
                "An error of this program, whose message is where it was started. Please report it.", 500
            ),
        },
    )
    return Guard(app, access)


def _question(request: Request) -> tuple[str, str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The options of a question: the file's name, the wavelength, elements by commas or spaces."""
    given = request.query_params
    if any(
        len(value) > (MOST_NAME if name in ("name", "wavelength") else 5 * MOST_NAME) for name, value in given.items()
    ):
        raise HTTPException(414, f"An option is longer than {MOST_NAME} characters. Shorten the file's name.")
    if not given.get("name"):
        raise HTTPException(400, "Say the file's name as ?name=; its extension says the form.")
    must, may_only, excluded = (
        tuple(given.get(name, "").replace(",", " ").split()) for name in ("must", "may_only", "excluded")
    )
    return given["name"], given.get("wavelength", ""), must, may_only, excluded


async def _said(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    plain = {404: "There is no such page here. Open /.", 405: "That is asked with another method; POST a file."}
    return PlainTextResponse(plain.get(error.status_code, error.detail), error.status_code, error.headers)
