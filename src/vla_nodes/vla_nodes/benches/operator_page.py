# SPDX-License-Identifier: Apache-2.0
"""An operator's page without a browser, and a network between it and the console that can fail.

It says what the page's script says, as often. The network is a relay on this machine.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.request
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

PERIOD = 0.025  # s between two motions
PIECE = 65536  # bytes
ANSWERS = 10.0  # s


class Relay:
    """Carries connections to a port of this machine, until it does not.

    Attributes:
        port: Where it listens.
        cut: Nothing is carried, and nobody is told.
        delay: s by which each piece is carried later.
    """

    def __init__(self, target: int) -> None:
        """Listens; ``target`` is the port that it carries to."""
        self.cut = False
        self.delay = 0.0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def close(self) -> None:
        """Accepts nothing more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((here, there), (there, here)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                if self.delay > 0.0:
                    time.sleep(self.delay)
                while self.cut:
                    time.sleep(0.01)
                sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Page:
    """Takes the operator's seat once it is free, and holds the arm until it is closed."""

    def __init__(self, session: str, origin: str, port: int, up: float) -> None:
        """Connects.

        Args:
            session: Cookie of a session of the console.
            origin: As the console knows itself.
            port: Where it is reached.
            up: Share of the full speed upwards, -1 to 1.

        Raises:
            OSError: The console is not reached.
        """
        self._socket: ClientConnection = connect(
            f"ws://127.0.0.1:{port}/ws",
            origin=origin,  # type: ignore[arg-type]
            additional_headers={"Cookie": session},
            open_timeout=ANSWERS,
            compression=None,
        )
        self._up = up
        self._seated = False
        self._threads = [
            threading.Thread(target=target, name="page", daemon=True)
            for target in (self._hold, self._read)
        ]
        for thread in self._threads:
            thread.start()

    def vanish(self) -> None:
        """Is gone without a word, as a browser's tab that is closed at a bad moment."""
        with contextlib.suppress(OSError):
            self._socket.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(ANSWERS)

    def _say(self, message: dict[str, object]) -> None:
        self._socket.send(json.dumps({**message, "time": 1e3 * time.time()}))

    def _hold(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while True:
                if self._seated:
                    self._say({"kind": "hold", "twist": [0, 0, self._up, 0, 0, 0], "frame": "base"})
                else:
                    self._say({"kind": "sit"})
                time.sleep(PERIOD)

    def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while True:
                message = self._socket.recv()
                if isinstance(message, str):
                    self._seated = json.loads(message).get("seat", "") == "mine" or self._seated


def open_session(address: str) -> tuple[str, str, int]:
    """Redeems an invitation.

    Args:
        address: As the console prints it.

    Returns:
        Its cookie, the console's origin and its port.

    Raises:
        OSError: The console is not reached or refuses.
    """
    parts = urlsplit(address)
    origin = f"{parts.scheme}://{parts.netloc}"
    request = urllib.request.Request(
        f"{origin}/session", data=parts.fragment.encode(), headers={"Origin": origin}
    )
    with urllib.request.urlopen(request, timeout=ANSWERS) as answer:
        cookie = str(answer.headers["Set-Cookie"]).partition(";")[0]
    return cookie, origin, int(parts.port or 80)
