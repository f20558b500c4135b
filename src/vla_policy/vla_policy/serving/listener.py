# SPDX-License-Identifier: Apache-2.0
"""Accepts connections, each served by a thread of its own."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread, current_thread

logger = logging.getLogger("vla.serve")
_PAUSE = 0.1  # s, after an attempt that failed
_STOP_LIMIT = 30.0  # s, for what is being computed


class Listener:
    """Listens on an address.

    Args:
        host: Address.
        port: 0 for any that is free.
        serve: Called with each connection, in its thread; it is closed when that returns.
        tls: Certificate and key; None without TLS, whose handshake is ``serve``'s.
        max_connections: Most at once; more are closed at once.

    Raises:
        OSError: If the address cannot be used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        serve: Callable[[socket.socket], None],
        *,
        tls: ssl.SSLContext | None,
        max_connections: int,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        self._serve = serve
        self._tls = tls
        self._max_connections = max_connections
        self._stopped = False
        self._threads: dict[Thread, socket.socket] = {}

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def run(self) -> None:
        """Serves until ``stop`` is called, then ends every connection."""
        try:
            while not self._stopped:
                try:
                    self._accept()
                except (OSError, RuntimeError) as error:
                    # A client that has gone already; too many open files or threads.
                    if not self._stopped:
                        logger.warning("a client could not connect: %s", error)
                        time.sleep(_PAUSE)
        finally:
            self._socket.close()
            self._end_connections()

    def stop(self) -> None:
        """Lets ``run`` return. Any thread, and handlers of signals."""
        self._stopped = True
        with suppress(OSError):  # it wakes ``accept``
            self._socket.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        if len(self._threads) >= self._max_connections:
            logger.info("no client: too many connections")
            connection.close()
            return
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # In place of pings: the system notices a client whose machine is gone.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            thread = Thread(target=self._run_one, args=(connection,), name="client", daemon=True)
            self._threads[thread] = connection
            try:
                thread.start()
            except RuntimeError:
                del self._threads[thread]
                raise
        except BaseException:
            connection.close()
            raise

    def _run_one(self, connection: socket.socket) -> None:
        try:
            self._serve(connection)
        except Exception:  # one client's failure must not end the service
            logger.exception("a connection failed")
        finally:
            connection.close()
            self._threads.pop(current_thread(), None)

    def _end_connections(self) -> None:
        threads = dict(self._threads)
        for connection in threads.values():
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # TLS or not
        deadline = time.monotonic() + _STOP_LIMIT
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
