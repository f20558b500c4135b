# SPDX-License-Identifier: Apache-2.0
"""A console, what hears it in ROS, and what speaks to it like a page; for tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from websockets.sync.client import ClientConnection, connect

from vla_msgs.msg import (
    ControllerState,
    ControlOwner,
    EpisodeEvent,
    FailureStatus,
    HelpRequest,
    TeleopCommand,
)
from vla_nodes.console.link import ConsoleLink
from vla_nodes.console.server import Address, ConsoleServer
from vla_nodes.node_tools import LATCHED, RELIABLE
from vla_nodes.teleop.clutch import Bounds

SOON = 30.0  # s


def wait(what: str, predicate: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SOON
    while not predicate():
        assert time.monotonic() < deadline, f"no {what} within {SOON:g} s"
        time.sleep(0.01)


class Console:
    """A console, and a node that hears what it says."""

    def __init__(self, context: Context, address: Address, recordings: Path | None = None) -> None:
        self.node = Node("console", context=context)
        self.link = ConsoleLink(self.node, Bounds(speed=0.2, turning=0.5), 0.08)
        self.server = ConsoleServer(self.link, address, recordings=recordings)
        self.server.start()
        self.commands: list[TeleopCommand] = []
        self.notes: list[str] = []
        self._robot = Node("robot", context=context)
        self._states = self._robot.create_publisher(ControllerState, "controller/state", RELIABLE)
        self._robot.create_subscription(TeleopCommand, "teleop/command", self.commands.append, 100)
        self._robot.create_subscription(
            EpisodeEvent, "episode/events", lambda event: self.notes.append(event.text), RELIABLE
        )
        self.owners = self._robot.create_publisher(ControlOwner, "control_owner", RELIABLE)
        self.failures = self._robot.create_publisher(FailureStatus, "failure/status", RELIABLE)
        self.helps = self._robot.create_publisher(HelpRequest, "failure/help", LATCHED)
        self._robot.create_timer(0.02, lambda: self._states.publish(ControllerState()))
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(self.node)
        executor.add_node(self._robot)
        self._thread = threading.Thread(target=self._spin, args=(executor,))
        self._thread.start()

    def _spin(self, executor: SingleThreadedExecutor) -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def post(self, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=SOON)
        connection.request("POST", path, body, {"Origin": self.origin, **headers})
        return connection.getresponse()

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=SOON)
        connection.request("GET", path, headers=headers)
        return connection.getresponse()

    def session(self) -> str:
        """The cookie that an invitation is worth."""
        answer = self.post("/session", self.server.invitation().split("#")[1])
        assert answer.status == 200
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        return cookie.split(";")[0]

    def page(self, cookie: str | None = None, origin: str | None = None) -> ClientConnection:
        return connect(
            f"ws://127.0.0.1:{self.server.port}/ws",
            additional_headers={"Cookie": cookie or self.session()},
            origin=origin or self.origin,  # type: ignore[arg-type]
        )

    def close(self) -> None:
        self.server.stop()
        rclpy.shutdown(context=self.node.context)
        self._thread.join()


def say(page: ClientConnection, **said: Any) -> None:
    page.send(json.dumps(said))


def hear(page: ClientConnection, key: str) -> Any:
    """What the page is told next under this key."""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        told = page.recv(timeout=SOON)
        if isinstance(told, str) and key in (said := json.loads(told)):
            return said[key]
    raise AssertionError(f"nothing is said of {key}")


def sit(page: ClientConnection) -> None:
    say(page, kind="sit")
    while hear(page, "seat") != "mine":
        pass


def move(page: ClientConnection, clock: float = 0.0, **said: Any) -> None:
    """A motion upwards, as a page says it whose clock is so many s ahead."""
    motion = {
        "time": 1e3 * (time.monotonic() + clock),
        "twist": [0, 0, 1, 0, 0, 0],
        "opening": None,
    }
    say(page, kind="hold", **{**motion, **said})


def move_until_it_moves(console: Console, page: ClientConnection, **said: Any) -> None:
    def moves() -> bool:
        move(page, **said)
        return any(command.enabled for command in console.commands)

    wait("motion", moves)
