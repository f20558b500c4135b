# SPDX-License-Identifier: Apache-2.0
"""Serves the console's page, and speaks with it. No ROS: that is `link`'s.

The page opens one WebSocket. Downwards go snapshots (JSON, 10 Hz), events (JSON), and pictures
(binary: a byte with the length of the camera's name, eight with the time at which it was received,
ms since the epoch, the name, JPEG), each after the one before has been acknowledged: a slow link
gets fewer, not older ones. Upwards go commands (JSON), checked here; none is believed for its size
or its rate, and a motion that comes much later after it was sent than others did is dropped: the
arm does not do now what was asked for then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import math
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from vla_nodes.console.access import Access, Allowance, Punctuality
from vla_nodes.console.link import SNAPSHOT_RATE, ConsoleLink
from vla_nodes.teleop.clutch import Input, InputError
from vla_nodes.teleop.corrections import understand

PAGE = Path(__file__).parent / "page"
COOKIE = "vla_console"
MESSAGE_BYTES = 8192
TEXT_LENGTH = 500  # of an instruction or a note
RATE, BURST = 150.0, 150.0  # messages per s of one page
LATE = 0.15  # s that a motion may take longer than the quickest message of its page
NOBODY, STRANGER = 4401, 4403  # WebSocket close codes: no session, foreign origin
SECURITY = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob: data:; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}
log = logging.getLogger("vla_console")


class CommandError(ValueError):
    """A message of the page that means nothing here; the text says why."""


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

    def __init__(self, link: ConsoleLink, address: Address, token: str = "") -> None:
        """Binds the port.

        Args:
            link: What it shows and commands.
            address: Where it listens.
            token: Of the first invitation; empty = it is drawn.

        Raises:
            OSError: The port is taken, or may not be listened on.
        """
        self.access = Access()
        self._first_token = token
        self._link = link
        self._address = address
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
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/session", self._open_session, methods=["POST"]),
                Route("/invitation", self._invite, methods=["POST"]),
                WebSocketRoute("/ws", self._speak),
                Mount("/", StaticFiles(directory=PAGE, html=True)),
            ],
            middleware=[Middleware(_SecurityHeaders)],
        )

    # --- sessions ---------------------------------------------------------------------------------

    def _foreign(self, headers: Any) -> bool:
        """Whether another site's page asks."""
        origin = headers.get("origin")
        if origin in self._origins:
            return False
        self.log_once(f"refused the origin {origin!r}; valid: {', '.join(sorted(self._origins))}")
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
        if self._foreign(request.headers):
            return JSONResponse({"error": "foreign origin"}, 403)
        if not self.access.knows(request.cookies.get(COOKIE)):
            return JSONResponse({"error": "no session"}, 401)
        return JSONResponse({"address": self.invitation()})

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
        page = _Page(self, self._link, socket, str(session), next(self._numbers))
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


class _Page:
    """One open page."""

    def __init__(
        self, server: ConsoleServer, link: ConsoleLink, socket: WebSocket, session: str, number: int
    ) -> None:
        self.number = number
        self._server = server
        self._link = link
        self._socket = socket
        self._session = session
        self._allowance = Allowance(RATE, BURST)
        self._punctuality = Punctuality(LATE)
        self._shown: dict[str, int] = {}  # number of the picture shown, by camera
        self._event = 0  # number of the last one told
        self._awaited: set[str] = set()  # cameras whose last picture is on its way
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        tasks = [asyncio.create_task(part()) for part in (self._hear, self._tell, self._show)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, message: str | bytes) -> None:
        async with self._sending:
            if isinstance(message, str):
                await self._socket.send_text(message)
            else:
                await self._socket.send_bytes(message)

    async def _tell(self) -> None:
        while True:
            access = self._server.access
            seat = "mine" if access.seated(self.number) else "taken" if access.taken else "free"
            await self._send(f'{{"seat":"{seat}","robot":{self._link.snapshot}}}')
            for event in self._link.events.copy():
                if event["number"] > self._event:
                    self._event = event["number"]
                    await self._send(json.dumps({"event": event}))
            await asyncio.sleep(1.0 / SNAPSHOT_RATE)

    async def _show(self) -> None:
        while True:
            for topic in sorted(self._link.frames):
                frame = self._link.frames.get(topic)
                if frame is None or topic in self._awaited:
                    continue
                if self._shown.get(topic) != frame.number:
                    self._shown[topic] = frame.number
                    self._awaited.add(topic)
                    name = topic.encode()[:255]
                    head = struct.pack(">Bd", len(name), 1e3 * frame.received)
                    await self._send(head + name + frame.jpeg)
            await asyncio.sleep(0.01)

    async def _hear(self) -> None:
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            if not self._allowance.take(time.monotonic()):
                self._server.log_once(f"page {self.number} sends too much: some of it is ignored")
                continue
            try:
                answer = self._obey(_parsed(received))
            except (CommandError, InputError) as error:
                self._server.log_once(f"page {self.number}: {error}")
                answer = {"error": str(error)}
            if answer:
                await self._send(json.dumps(answer))

    def _obey(self, said: dict[str, Any]) -> dict[str, Any]:
        """Does what a message asks for. Returns what the page shall hear at once."""
        kind = said.get("kind")
        if kind == "shown":
            self._awaited.discard(_text(said, "camera"))
            return {}
        if kind == "ping":
            return {"pong": _number(said, "time")}
        if kind == "stop":  # anyone may
            tell = self._teller("stop")
            self._link.post(lambda: self._link.stop(tell))
            return {}
        if kind == "sit":
            if not self._server.access.sit_down(self._session, self.number):
                raise CommandError("somebody else operates; the seat is theirs until they leave it")
            return {}
        if not self._server.access.seated(self.number):
            raise CommandError("take the operator's seat first")
        if kind == "stand":
            self._link.post(self._link.let_go)
            self._server.access.stand_up(self.number)
        elif kind == "hold":
            self._hold(said)
        elif kind == "let_go":
            self._link.post(self._link.let_go)
        else:
            self._command(str(kind), said)
        return {}

    def _hold(self, said: dict[str, Any]) -> None:
        if self._punctuality.late(1e-3 * _number(said, "time"), time.monotonic()):
            self._server.log_once(f"page {self.number}: motions come late and are dropped")
            return
        twist = said.get("twist")
        if not isinstance(twist, list) or len(twist) != 6:
            raise CommandError("a motion has six numbers, each from -1 to 1")
        parts = [_number({"twist": value}, "twist") for value in twist]
        if max(abs(part) for part in parts) > 1.0:
            raise CommandError("a motion has six numbers, each from -1 to 1")
        bounds = self._link.bounds
        scale = np.repeat([bounds.speed, bounds.turning], 3)
        opening = said.get("opening")
        motion = Input(
            twist=np.array(parts) * scale,
            in_tool=said.get("frame") == "tool",
            opening=None if opening is None else self._link.max_opening * _share(said, "opening"),
        )
        self._link.post(lambda: self._link.hold(motion))

    def _command(self, kind: str, said: dict[str, Any]) -> None:
        link, tell = self._link, self._teller(kind)
        if kind == "start":
            instruction, task = _text(said, "instruction"), _text(said, "task")
            limit = _number(said, "time_limit")
            if not instruction:
                raise CommandError("the instruction is empty")
            if not 0.0 < limit <= 3600.0:
                raise CommandError(f"the time limit is {limit:g} s; valid: up to 3600")
            link.post(lambda: link.start(instruction, task, limit, tell))
        elif kind == "instruct":
            instruction, task = _text(said, "instruction"), _text(said, "task")
            if not instruction:
                raise CommandError("the instruction is empty")
            link.post(lambda: link.instruct(instruction, task, tell))
        elif kind in ("pause", "resume"):
            link.post(lambda: link.pause(kind == "pause", tell))
        elif kind == "reset":
            link.post(lambda: link.reset(tell))
        elif kind in ("success", "failure"):
            link.post(lambda: tell(link.judge(kind == "success")))
        elif kind == "correct":
            text = _text(said, "text")
            correction = understand(text)
            link.post(lambda: link.correct(text, correction, tell))
        elif kind == "note":
            text = _text(said, "text")
            if not text:
                raise CommandError("the note is empty")
            link.post(lambda: link.note(text))
        else:
            raise CommandError(f"{kind!r} is no command")

    def _teller(self, kind: str) -> Callable[[str], None]:
        """What the node's thread calls with how a command went."""
        loop = asyncio.get_running_loop()

        def tell(problem: str) -> None:
            answer = json.dumps({"error": f"{kind}: {problem}"} if problem else {"done": kind})
            with contextlib.suppress(RuntimeError):  # the server has ended
                asyncio.run_coroutine_threadsafe(self._tell_once(answer), loop)

        return tell

    async def _tell_once(self, answer: str) -> None:
        with contextlib.suppress(WebSocketDisconnect, OSError, RuntimeError):
            await self._send(answer)


def _parsed(received: Message) -> dict[str, Any]:
    text = received.get("text")
    try:
        said = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise CommandError("a message is a JSON object")
    return said


def _number(said: dict[str, Any], key: str) -> float:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CommandError(f"{key} is no finite number")
    return float(value)


def _share(said: dict[str, Any], key: str) -> float:
    value = _number(said, key)
    if not 0.0 <= value <= 1.0:
        raise CommandError(f"{key} is {value:g}; valid: 0 to 1")
    return value


def _text(said: dict[str, Any], key: str) -> str:
    value = said.get(key, "")
    if not isinstance(value, str) or len(value) > TEXT_LENGTH:
        raise CommandError(f"{key} is no text of at most {TEXT_LENGTH} characters")
    return " ".join(value.split())


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
