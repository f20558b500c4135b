# SPDX-License-Identifier: Apache-2.0
"""Either end of a websocket: the library's protocol on a plain socket, in the caller's thread.

The library's own ends have an event loop or a second thread. A client that asks and then waits, and
a server that waits and then answers, need neither; they cost a tenth of a millisecond an exchange.
"""

from __future__ import annotations

import http
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from websockets import client as library
from websockets.exceptions import InvalidMessage
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

# Versions of a distribution's packages may be older and have its former name.
_Protocol: Any = getattr(library, "ClientProtocol", None) or library.ClientConnection
_READ_BYTES = 256 * 1024
_LINGER = 1.0  # s


class Websocket:
    """An open connection; one thread at a time. ``connect`` and ``accept`` make it.

    Args:
        protocol: The library's, of this end.
        connection: A connected socket, which is this object's from now on.
    """

    def __init__(self, protocol: Any, connection: socket.socket) -> None:
        self._protocol = protocol
        self._socket = connection
        self._opening: Any = None  # the other end's part of the handshake
        self._messages: deque[bytes | str] = deque()
        self._parts: list[Any] = []  # of a message whose end has not come yet
        self._is_text = False

    @classmethod
    def connect(
        cls,
        url: str,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None,
        *,
        max_size: int,
        limit: float,
    ) -> Websocket:
        """A connection to a server.

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
        end = time.monotonic() + limit
        uri = parse_uri(url)
        connection = socket.create_connection((uri.host, uri.port), limit)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                connection = tls.wrap_socket(connection, server_hostname=uri.host)
            made = cls(_Protocol(uri, max_size=max_size), connection)
            made._ask(headers, end)
        except BaseException:
            connection.close()
            raise
        return made

    @classmethod
    def accept(
        cls,
        connection: socket.socket,
        admit: Callable[[Any], tuple[http.HTTPStatus, str] | None],
        *,
        max_size: int,
        limit: float,
    ) -> Websocket | None:
        """A connection to a client; None if it was sent away.

        Args:
            connection: Has been accepted; the caller closes it if this fails.
            admit: From the client's request to what it is answered in place of a connection; None
                lets it in.
            max_size: Longest message that is read, bytes.
            limit: Longest time for all of it, s.

        Raises:
            OSError: If the connection is lost; ``TimeoutError`` if it takes too long.
            WebSocketException: If the client speaks something else.
        """
        from websockets.server import ServerProtocol  # what older versions lack

        end = time.monotonic() + limit
        protocol = ServerProtocol(max_size=max_size)
        made = cls(protocol, connection)
        while made._opening is None and protocol.handshake_exc is None:
            made._read(end)
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc
        refusal = admit(made._opening)
        answer = protocol.accept(made._opening) if refusal is None else protocol.reject(*refusal)
        protocol.send_response(answer)
        made._write(end)
        if protocol.state.name == "OPEN":
            return made
        made.linger()
        return None

    @property
    def path(self) -> str:
        """What a client asked for; of a server's end."""
        return str(self._opening.path)

    def exchange(self, message: bytes, limit: float) -> bytes | str:
        """Sends a message and waits for the next one, both together ``limit`` seconds at most.

        Raises:
            OSError: If the connection is lost; ``TimeoutError`` if it takes too long.
            WebSocketException: If it is closed.
        """
        end = time.monotonic() + limit
        self._send(message, end)
        return self._receive(end)

    def send(self, message: bytes | str, limit: float) -> None:
        """Sends a message; see ``exchange`` for what it raises."""
        self._send(message, time.monotonic() + limit)

    def receive(self, limit: float | None) -> bytes | str:
        """Waits for the next message, None = for ever; see ``exchange`` for what it raises."""
        return self._receive(None if limit is None else time.monotonic() + limit)

    def close(self) -> None:
        """Tells the other end, as far as it listens, and disconnects without waiting for it."""
        with suppress(Exception):  # whatever it is, the connection is given up
            self._protocol.send_close()
            self._write(time.monotonic())
        self._socket.close()

    def linger(self) -> None:
        """Disconnects once the other end has, or has had the time to read what it was told last.

        A system that closes a connection with bytes unread takes back what it has sent.
        """
        end = time.monotonic() + _LINGER
        with suppress(OSError):
            self._limit(end)
            while self._socket.recv(_READ_BYTES):
                self._limit(end)
        self._socket.close()

    def _ask(self, headers: Mapping[str, str], end: float) -> None:
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

    def _send(self, message: bytes | str, end: float) -> None:
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._write(end)

    def _receive(self, end: float | None) -> bytes | str:
        while not self._messages:
            if self._protocol.state.name != "OPEN":
                if self._protocol.state.name != "CLOSED":
                    self._protocol.receive_eof()  # nothing more is read
                raise self._protocol.close_exc
            self._read(end)
        return self._messages.popleft()

    def _read(self, end: float | None) -> None:
        self._limit(end)
        data = self._socket.recv(_READ_BYTES)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
            else:
                self._opening = event
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

    def _write(self, end: float | None) -> None:
        for data in self._protocol.data_to_send():
            if not data:  # how the protocol says that nothing will follow
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)
            rest = memoryview(data)
            while rest:
                self._limit(end)
                rest = rest[self._socket.send(rest) :]

    def _limit(self, end: float | None) -> None:
        """Lets what follows take until ``end``, and no time at all behind it; None = for ever."""
        self._socket.settimeout(None if end is None else max(end - time.monotonic(), 1e-6))
