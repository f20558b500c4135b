# SPDX-License-Identifier: Apache-2.0
"""A client's end of a websocket: the library's protocol on a plain socket, in the caller's thread.

The library's own clients have an event loop or a second thread. A client that asks and then waits
needs neither, and they cost it a tenth of a millisecond an exchange.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from websockets import client as library
from websockets.exceptions import InvalidMessage
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

# Versions of a distribution's packages may be older and have its former name.
_Protocol: Any = getattr(library, "ClientProtocol", None) or library.ClientConnection
_READ_BYTES = 256 * 1024


class Websocket:
    """An open connection; one thread at a time.

    Args:
        url: ``ws://host:port/path`` or, with TLS, ``wss://``.
        headers: Of the request, besides the protocol's own.
        tls: Whom to trust; None without TLS.
        max_size: Longest message that is read, bytes.
        limit: Longest wait for the connection, s.

    Raises:
        OSError: If there is no connection; ``TimeoutError`` if it takes too long.
        WebSocketException: If the server refuses.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None,
        *,
        max_size: int,
        limit: float,
    ) -> None:
        end = time.monotonic() + limit
        uri = parse_uri(url)
        self._protocol = _Protocol(uri, max_size=max_size)
        self._messages: deque[bytes | str] = deque()
        self._parts: list[Any] = []  # of a message whose end has not come yet
        self._is_text = False
        self._socket = socket.create_connection((uri.host, uri.port), limit)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=uri.host)
            self._shake_hands(headers, end)
        except BaseException:
            self._socket.close()
            raise

    def exchange(self, message: bytes, limit: float) -> bytes | str:
        """Sends a message and waits for the next one, both together ``limit`` seconds at most.

        Raises:
            OSError: If the connection is lost; ``TimeoutError`` if it takes too long.
            WebSocketException: If it is closed.
        """
        end = time.monotonic() + limit
        self._protocol.send_binary(message)
        self._write(end)
        return self._receive(end)

    def receive(self, limit: float) -> bytes | str:
        """Waits for the next message; see ``exchange`` for what it raises."""
        return self._receive(time.monotonic() + limit)

    def close(self) -> None:
        """Tells the server, as far as it listens, and disconnects without waiting for it."""
        with suppress(Exception):  # whatever it is, the connection is given up
            self._protocol.send_close()
            self._write(time.monotonic())
        self._socket.close()

    def _shake_hands(self, headers: Mapping[str, str], end: float) -> None:
        protocol = self._protocol
        request = protocol.connect()
        request.headers.update(headers)
        protocol.send_request(request)
        self._write(end)
        while protocol.state.name == "CONNECTING" and protocol.handshake_exc is None:
            try:
                self._read(end)
            except (EOFError, ValueError) as error:  # of older versions
                raise InvalidMessage("no valid answer to the request") from error
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc

    def _receive(self, end: float) -> bytes | str:
        while not self._messages:
            if self._protocol.state.name != "OPEN":
                if self._protocol.state.name != "CLOSED":
                    self._protocol.receive_eof()  # nothing more is read
                raise self._protocol.close_exc
            self._read(end)
        return self._messages.popleft()

    def _read(self, end: float) -> None:
        self._limit(end)
        data = self._socket.recv(_READ_BYTES)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        with suppress(OSError):  # what had come before is still to be read
            self._write(end)

    def _take(self, frame: Frame) -> None:
        """Notes a message, or a part of one; pings and the closing are the protocol's."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._parts, self._is_text = [frame.data], frame.opcode is Opcode.TEXT
        elif frame.opcode is Opcode.CONT:
            self._parts.append(frame.data)
        else:
            return
        if frame.fin:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts = []
            self._messages.append(data.decode(errors="replace") if self._is_text else data)

    def _write(self, end: float) -> None:
        for data in self._protocol.data_to_send():
            if not data:  # how the protocol says that nothing will follow
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)
            rest = memoryview(data)
            while rest:
                self._limit(end)
                rest = rest[self._socket.send(rest) :]

    def _limit(self, end: float) -> None:
        """Lets what follows take until ``end``, and no time at all behind it."""
        self._socket.settimeout(max(end - time.monotonic(), 1e-6))
