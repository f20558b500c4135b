# SPDX-License-Identifier: Apache-2.0
"""Serves the console's page to whoever may have it. No ROS: that is `link`'s.

The page opens one WebSocket (`dialogue`), and fetches what does not hurry: recorded episodes
(`episodes`), and the pictures of a call for help.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from vla_nodes.console.access import Access
from vla_nodes.console.dialogue import Dialogue
from vla_nodes.console.episodes import EpisodeError, Library
from vla_nodes.console.link import ConsoleLink

PAGE = Path(__file__).parent / "page"
COOKIE = "vla_console"
MESSAGE_BYTES = 8192
NOBODY, STRANGER = 4401, 4403  # WebSocket close codes: no session, foreign origin
SECURITY = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob: data:; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}
log = logging.getLogger("vla_console")


@dataclass(frozen=True)
class Address:
    """Where the console listens.

    Attributes:
        host: Address to listen on.
        port: TCP; 0 = any that is free.
        names: Hosts under which browsers may know it, the one to print first.
        certificate: PEM file; None = HTTP.
        key: Of the certificate.
    """

    host: str
    port: int
    names: tuple[str, ...]
    certificate: Path | None = None
    key: Path | None = None

    def origin(self, name: str, port: int) -> str:
        """As browsers write it."""
        return f"{'https' if self.certificate else 'http'}://{name}:{port}"


class ConsoleServer:
    """Runs in a thread of its own."""

    def __init__(
        self,
        link: ConsoleLink,
        address: Address,
        token: str = "",
        recordings: Path | None = None,
    ) -> None:
        """Binds the port.

        Args:
            link: What it shows and commands.
            address: Where it listens.
            token: Of the first invitation; empty = it is drawn.
            recordings: Folder with the recorder's bags; None = none are shown.

        Raises:
            OSError: The port is taken, or may not be listened on.
        """
        self.access = Access()
        self._first_token = token
        self._link = link
        self._address = address
        self._library = Library(recordings)
        self._numbers = itertools.count(1)
        self._logged: set[str] = set()
        config = uvicorn.Config(
            self._app(),
            host=address.host,
            port=address.port,
            log_level="warning",
            ws_max_size=MESSAGE_BYTES,
            ws_ping_interval=1.0,
            ws_ping_timeout=2.0,
            server_header=False,
            lifespan="off",
            ssl_certfile=address.certificate,
            ssl_keyfile=address.key,
        )
        self._socket = config.bind_socket()
        self.port = int(self._socket.getsockname()[1])
        self._origins = {address.origin(name, self.port) for name in address.names}
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    def start(self) -> None:
        """Serves from here on.

        Raises:
            OSError: It could not begin.
        """
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OSError("the console's server did not start")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends all connections."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout=5.0)

    def invitation(self) -> str:
        """An address with a token that opens the page once."""
        origin = self._address.origin(self._address.names[0], self.port)
        token, self._first_token = self._first_token, ""
        return f"{origin}/#{self.access.invite(token)}"

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            await self._library.close()

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/session", self._open_session, methods=["POST"]),
                Route("/invitation", self._invite, methods=["POST"]),
                WebSocketRoute("/ws", self._speak),
                Route("/help/{index:int}", self._help),
                Route("/episodes", self._episodes),
                Route("/episodes/{episode:int}", self._episodes),
                Route("/episodes/{episode:int}/{camera:int}/{frame:int}", self._episodes),
                Mount("/", StaticFiles(directory=PAGE, html=True)),
            ],
            middleware=[Middleware(_SecurityHeaders)],
        )

    # --- sessions ---------------------------------------------------------------------------------

    def _refused(self, request: Request) -> Response | None:
        """The answer to whoever may not ask."""
        # Browsers name the origin of what may change something, and of nothing else of the page's.
        if (request.method != "GET" or "origin" in request.headers) and self._foreign(
            request.headers
        ):
            return JSONResponse({"error": "foreign origin"}, 403)
        if not self.access.knows(request.cookies.get(COOKIE)):
            return JSONResponse({"error": "no session"}, 401)
        return None

    def _foreign(self, headers: Any) -> bool:
        """Whether another site's page asks."""
        origin = headers.get("origin")
        if origin in self._origins:
            return False
        self.log_once(
            f"refused the origin {origin!r:.80}; valid: {', '.join(sorted(self._origins))}"
        )
        return True

    async def _open_session(self, request: Request) -> Response:
        if self._foreign(request.headers):
            return JSONResponse({"error": "foreign origin"}, 403)
        if self.access.knows(request.cookies.get(COOKIE)):
            return JSONResponse({})
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MESSAGE_BYTES:
                return JSONResponse({"error": "too long"}, 413)
        session = self.access.redeem(body.decode("ascii", "replace"))
        if session is None:
            return JSONResponse({"error": "the token is unknown, used or too old"}, 401)
        answer = JSONResponse({})
        answer.set_cookie(
            COOKIE,
            session,
            httponly=True,
            samesite="strict",
            secure=self._address.certificate is not None,
        )
        return answer

    async def _invite(self, request: Request) -> Response:
        return self._refused(request) or JSONResponse({"address": self.invitation()})

    # --- what does not hurry ----------------------------------------------------------------------

    async def _help(self, request: Request) -> Response:
        pictures, index = self._link.help_pictures, request.path_params["index"]
        if refused := self._refused(request):
            return refused
        if index >= len(pictures):
            return JSONResponse({"error": f"there is no picture {index}"}, 404)
        return Response(pictures[index], media_type="image/jpeg")

    async def _episodes(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        try:
            answer = await self._library.ask(**request.path_params)
        except EpisodeError as error:
            return JSONResponse({"error": str(error)}, 404)
        kind = "image/jpeg" if "frame" in request.path_params else "application/json"
        return Response(answer, media_type=kind)

    # --- one page ---------------------------------------------------------------------------------

    async def _speak(self, socket: WebSocket) -> None:
        if self._foreign(socket.headers):
            await socket.close(STRANGER)
            return
        session = socket.cookies.get(COOKIE)
        if not self.access.knows(session):
            await socket.close(NOBODY)
            return
        await socket.accept()
        page = Dialogue(
            self.access, self._link, socket, str(session), next(self._numbers), self.log_once
        )
        self._link.watchers += 1
        try:
            await page.run()
        except (WebSocketDisconnect, OSError, RuntimeError):
            pass  # it is gone; the supervisor notices that nobody holds the arm
        finally:
            self._link.watchers -= 1
            self.access.stand_up(page.number)

    def log_once(self, text: str) -> None:
        """Logs a line the first time."""
        if text not in self._logged and len(self._logged) < 100:
            self._logged.add(text)
            log.warning(text)


class _SecurityHeaders:
    """Adds what browsers need to know to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *SECURITY.items()]
            await send(message)

        await self._app(scope, receive, send_with_headers)
