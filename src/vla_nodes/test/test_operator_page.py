# SPDX-License-Identifier: Apache-2.0
"""The network that can fail, between an operator's page and the console."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from vla_nodes.benches.operator_page import Relay


def test_a_relay_carries_carries_later_and_carries_nothing() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def echo() -> None:
        there, _ = listener.accept()
        while piece := there.recv(100):
            there.sendall(piece)

    threading.Thread(target=echo, daemon=True).start()
    relay = Relay(int(listener.getsockname()[1]))
    with socket.create_connection(("127.0.0.1", relay.port)) as here:
        here.settimeout(30.0)
        here.sendall(b"one")
        assert here.recv(100) == b"one"
        relay.delay = 0.1
        began = time.monotonic()
        here.sendall(b"two")
        assert here.recv(100) == b"two"
        assert time.monotonic() - began >= 0.2, "there and back"
        relay.cut, relay.delay = True, 0.0
        here.sendall(b"three")
        here.settimeout(0.3)
        with pytest.raises(TimeoutError):
            here.recv(100)
        relay.cut = False
        here.settimeout(30.0)
        assert here.recv(100) == b"three", "what was on its way comes"
    relay.close()
    listener.close()
