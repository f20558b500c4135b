# SPDX-License-Identifier: Apache-2.0
"""What is said over one page's WebSocket. No ROS: that is `link`'s.

Downwards go snapshots (JSON, 10 Hz), events (JSON), and pictures (binary: a byte with the length of
the camera's name, eight with the time at which it was taken, ms since the epoch, the name, JPEG),
each after the one before has been acknowledged: a slow link gets fewer, not older ones. Upwards go
commands (JSON), checked here; none is believed for its size or its rate, and a motion that comes
much later after it was sent than others did is dropped: the arm does not do now what was asked for
then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from vla_nodes.console.access import Access, Allowance, Punctuality
from vla_nodes.console.link import SNAPSHOT_RATE, ConsoleLink
from vla_nodes.teleop.clutch import Input, InputError
from vla_nodes.teleop.corrections import understand

TEXT_LENGTH = 500  # of an instruction or a note
RATE, BURST = 150.0, 150.0  # messages per s of one page
STOPS = 10.0  # per s of one page, whatever else it sends
LATE = 0.15  # s that a motion may take longer than the quickest message of its page


class CommandError(ValueError):
    """A message of the page that means nothing here; the text says why."""


class Dialogue:
    """With one open page."""

    def __init__(
        self,
        access: Access,
        link: ConsoleLink,
        socket: WebSocket,
        session: str,
        number: int,
        log: Callable[[str], None],
    ) -> None:
        """Begins nothing.

        Args:
            access: Who has the seat.
            link: What the page sees and commands.
            socket: Accepted.
            session: Of the page.
            number: Of the page, no other has it.
            log: Takes a line for people.
        """
        self.number = number
        self._access = access
        self._log = log
        self._link = link
        self._socket = socket
        self._session = session
        self._allowance = Allowance(RATE, BURST)
        self._stops = Allowance(STOPS, STOPS)
        self._told: set[str] = set()  # what of this page has been logged
        self._punctuality = Punctuality(LATE)
        self._shown: dict[str, int] = {}  # number of the picture shown, by camera
        self._event = 0  # number of the last one told
        self._awaited: set[str] = set()  # cameras whose last picture is on its way
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Speaks until the page is gone."""
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
        await self._send(json.dumps({"course": list(self._link.course.copy())}))
        while True:
            access = self._access
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
                    head = struct.pack(">Bd", len(name), 1e3 * frame.taken)
                    await self._send(head + name + frame.jpeg)
            await asyncio.sleep(0.01)

    async def _hear(self) -> None:
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            said = _parsed(received)
            if not self._may_say(said):
                self._log_once("too much", "sends too much: some of it is ignored")
                continue
            try:
                if said is None:
                    raise CommandError("a message is a JSON object")
                answer = self._obey(said)
            except (CommandError, InputError) as error:
                self._log_once("nonsense", f"says what means nothing: {error}"[:TEXT_LENGTH])
                answer = {"error": str(error)}
            if answer:
                await self._send(json.dumps(answer))

    def _may_say(self, said: dict[str, Any] | None) -> bool:
        """Whether the page has not said too much; a stop is heard through any flood."""
        stops = said is not None and said.get("kind") == "stop"
        return (self._stops if stops else self._allowance).take(time.monotonic())

    def _log_once(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._log(f"page {self.number} {text}")

    def _obey(self, said: dict[str, Any]) -> dict[str, Any]:
        """Does what a message asks for. Returns what the page shall hear at once."""
        kind = said.get("kind")
        if kind == "shown":
            self._awaited.discard(_text(said, "camera"))
            return {}
        if kind == "ping":
            return {"pong": _number(said, "time"), "clock": 1e3 * time.time()}
        if kind == "stop":  # anyone may
            tell = self._teller("stop")
            self._link.post(lambda: self._link.stop(tell))
            return {}
        if kind == "sit":
            if not self._access.sit_down(self._session, self.number):
                raise CommandError("somebody else operates; the seat is theirs until they leave it")
            return {}
        if not self._access.seated(self.number):
            raise CommandError("take the operator's seat first")
        if kind == "stand":
            self._link.post(self._link.let_go)
            self._access.stand_up(self.number)
        elif kind == "hold":
            self._hold(said)
        elif kind == "let_go":
            self._link.post(self._link.let_go)
        else:
            self._command(str(kind), said)
        return {}

    def _hold(self, said: dict[str, Any]) -> None:
        if self._punctuality.late(1e-3 * _number(said, "time"), time.monotonic()):
            self._log_once("late", "says motions late: they are dropped")
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
            instruction, task = _instruction(said), _text(said, "task")
            limit = _number(said, "time_limit")
            if not 0.0 < limit <= 3600.0:
                raise CommandError(f"the time limit is {limit:g} s; valid: up to 3600")
            link.post(lambda: link.start(instruction, task, limit, tell))
        elif kind in ("pause", "resume"):
            link.post(lambda: link.pause(kind == "pause", tell))
        elif kind == "reset":
            link.post(lambda: link.reset(tell))
        elif kind == "instruct":
            instruction, task = _instruction(said), _text(said, "task")
            link.post(lambda: link.instruct(instruction, task, tell))
        elif kind == "instead":
            instruction = _instruction(said)
            link.post(lambda: link.instead(instruction, tell))
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


def _parsed(received: Message) -> dict[str, Any] | None:
    """The JSON object that a message is, if it is one."""
    text = received.get("text")
    try:
        said = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _number(said: dict[str, Any], key: str) -> float:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CommandError(f"{key} is no finite number")
    return float(value)


def _instruction(said: dict[str, Any]) -> str:
    instruction = _text(said, "instruction")
    if not instruction:
        raise CommandError("the instruction is empty")
    return instruction


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
