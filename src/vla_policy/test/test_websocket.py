# SPDX-License-Identifier: Apache-2.0
"""The client's end of a websocket, against servers that say what they are told to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.sync.server import ServerConnection, serve

from vla_policy.serving.websocket import Websocket

Answer = Callable[[ServerConnection, bytes | str], None]


@contextmanager
def talking(answer: Answer, max_size: int = 2**20) -> Iterator[Websocket]:
    """A connection to a server that answers each message as it is told to."""

    def handler(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            for message in connection:
                answer(connection, message)

    with serve(handler, "127.0.0.1", 0, close_timeout=0.1, max_size=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        end = connect(server.socket, max_size=max_size)
        try:
            yield end
        finally:
            end.close()
            server.shutdown()


def connect(server: socket.socket, *, max_size: int = 1000, limit: float = 10.0) -> Websocket:
    """A connection to whoever listens there."""
    address = f"ws://127.0.0.1:{server.getsockname()[1]}"
    return Websocket.connect(address, {}, None, max_size=max_size, limit=limit)


def echo(connection: ServerConnection, message: bytes | str) -> None:
    connection.send(message)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_536, 5_000_000])
def test_messages_of_any_length(size: int) -> None:
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    with talking(echo, max_size=2**23) as end:
        assert end.exchange(message, 10.0) == message
        assert end.exchange(message, 10.0) == message


def test_a_message_in_parts_with_pings_between_them() -> None:
    def in_parts(connection: ServerConnection, message: bytes | str) -> None:
        connection.ping()
        connection.send([b"one ", b"", b"two ", b"three"])
        connection.ping()
        connection.send(["te", "xt"])

    with talking(in_parts) as end:
        assert end.exchange(b"", 10.0) == b"one two three"
        assert end.receive(10.0) == "text"


def test_the_last_message_before_the_server_leaves_is_read() -> None:
    def leave(connection: ServerConnection, message: bytes | str) -> None:
        connection.send("why")
        connection.close(1011, "something broke")

    with talking(leave) as end:
        assert end.exchange(b"", 10.0) == "why"
        for _ in range(2):
            with pytest.raises(ConnectionClosed, match="something broke"):
                end.receive(10.0)
        with pytest.raises(Exception, match="connection is"):
            end.exchange(b"", 10.0)


def test_a_message_that_is_too_long_is_not_read() -> None:
    with talking(echo, max_size=1000) as end:
        assert len(end.exchange(bytes(1000), 10.0)) == 1000
        with pytest.raises(ConnectionClosed, match="1009"):
            end.exchange(bytes(1001), 10.0)


@pytest.mark.parametrize("said", [b"", b"\x82", b"\x82\x7e\x01\x00half", b"\x8a\x00" * 3])
def test_silence_half_a_message_and_mere_pongs_end_with_the_limit(said: bytes) -> None:
    with talking(lambda connection, _: connection.socket.sendall(said)) as end:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            end.exchange(b"", 0.2)
        assert 0.15 < time.monotonic() - began < 5.0


def test_a_message_that_comes_byte_by_byte_ends_with_the_limit() -> None:
    go_on = threading.Event()

    def drip(connection: ServerConnection, message: bytes | str) -> None:
        connection.socket.sendall(b"\x82\x7e\x01\x00")
        while not go_on.wait(0.02):  # each byte well within the limit
            connection.socket.sendall(b"x")

    with talking(drip) as end:
        with pytest.raises(TimeoutError):
            end.exchange(b"", 0.3)
        go_on.set()


def test_garbage_in_place_of_a_message() -> None:
    def garbage(connection: ServerConnection, message: bytes | str) -> None:
        connection.socket.sendall(b"\xff" * 20)

    with talking(garbage) as end, pytest.raises(ConnectionClosed, match="1002"):
        end.exchange(b"", 10.0)


@pytest.mark.parametrize("said", [b"SSH-2.0\r\n", b"", b"HTTP/1.1 101 Fine\r\n"])
def test_a_server_that_speaks_something_else(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def say() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(said)

        threading.Thread(target=say, daemon=True).start()
        with pytest.raises((InvalidMessage, OSError)):
            connect(server)


def test_a_server_that_never_shakes_hands() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(TimeoutError):
        connect(server, limit=0.2)


def connected() -> tuple[socket.socket, socket.socket]:
    """A client's end and the server's, of which nothing has been said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


@contextmanager
def accepted() -> Iterator[tuple[socket.socket, Websocket]]:
    """A client's plain socket, and the server's end."""
    client, server = connected()
    with client, server:
        client.sendall(
            b"GET /path HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        end = Websocket.accept(server, lambda request: None, max_size=1000, limit=10.0)
        assert end is not None
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        yield client, end


def test_a_client_that_does_not_read_its_answer() -> None:
    with accepted() as (_, end):
        assert end.path == "/path"
        with pytest.raises(TimeoutError):
            end.send(bytes(2**26), 0.2)


def test_a_client_that_leaves_in_the_middle_of_a_message() -> None:
    with accepted() as (client, end):
        client.sendall(b"\x82\xff half")
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionClosed):
            end.receive(None)


@pytest.mark.parametrize(
    ("said", "problem"),
    [(b"\x82\x00", "1002"), (b"\xff" * 9, "1002"), (b"\x82\xfe\xff\xff", "1009")],
)
def test_a_client_that_says_what_is_no_message(said: bytes, problem: str) -> None:
    """Unmasked, garbage, too long."""
    with accepted() as (client, end):
        client.sendall(said + bytes(100))
        with pytest.raises(ConnectionClosed, match=problem):
            end.receive(None)


@pytest.mark.parametrize("said", [b"", b"GET", b"SSH-2.0\r\n\r\n", b"\x16\x03\x01" * 9])
def test_what_connects_and_is_no_client(said: bytes) -> None:
    client, end = connected()
    with client, end:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(InvalidMessage):
            Websocket.accept(end, lambda request: None, max_size=1000, limit=10.0)


def test_a_client_that_never_shakes_hands() -> None:
    client, end = connected()
    with client, end, pytest.raises(TimeoutError):
        Websocket.accept(end, lambda request: None, max_size=1000, limit=0.2)
