# SPDX-License-Identifier: Apache-2.0
"""Policy servers, and clients of them, for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from vla_policy.policy import NanoPi0Policy
from vla_policy.serving import messages
from vla_policy.serving.client import ClientConfig, RemotePolicy
from vla_policy.serving.server import PolicyServer, ServerConfig


@contextmanager
def served(policy: NanoPi0Policy, **config: Any) -> Iterator[tuple[str, PolicyServer]]:
    """A server in a thread, on a free port; its address and itself."""
    server = PolicyServer(policy, ServerConfig(**{"port": 0, **config}))
    listening = threading.Event()
    ports: list[int] = []

    def ready(port: int) -> None:
        ports.append(port)
        listening.set()

    thread = threading.Thread(target=server.run, args=(ready,))
    thread.start()
    assert listening.wait(10.0)
    try:
        yield f"127.0.0.1:{ports[0]}", server
    finally:
        server.stop()
        thread.join(10.0)


def remote(address: str, expected: dict[str, Any] | None = None, **more: Any) -> RemotePolicy:
    config = ClientConfig(url=f"ws://{address}", **{"encode_ahead": True, **more})
    return RemotePolicy(config, expected)


def raw(address: str, path: str = messages.PATH) -> ClientConnection:
    return connect(f"ws://{address}{path}", compression=None, max_size=None, proxy=None)
