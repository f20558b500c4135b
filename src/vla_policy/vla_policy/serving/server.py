# SPDX-License-Identifier: Apache-2.0
"""Serves a policy over a websocket: our protocol on ``/vla``, openpi's on any other path."""

from __future__ import annotations

import hmac
import http
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import WebSocketException

from ..continuation import Continuation
from ..interface import ActItem, BatchPolicy
from ..types import PolicyError, RobotState
from . import messages, openpi, wire
from .batching import Batcher
from .listener import Listener
from .service import InferItem, Service, Session
from .websocket import Websocket

logger = logging.getLogger("vla.serve")
HEALTH = "/healthz"
_SCHEMES = ("Bearer ", "Api-Key ")  # ours and openpi's
_OPEN_LIMIT = 10.0  # s, until a client has said who it is
_SEND_LIMIT = 10.0  # s, until it has read an answer
_STRANGERS = 64  # connections that may be there besides the clients, until that is known of them


@dataclass(frozen=True)
class ServerConfig:
    """Where and for whom a policy is served.

    Attributes:
        host: Address to listen on.
        port: 0 for any that is free.
        token: What clients must show; empty for none, on this machine only.
        certificate: PEM file of the certificate chain; with it the server speaks TLS.
        private_key: PEM file of its key.
        max_message_bytes: Longest message that is read.
        max_batch: Most clients that are computed for at once.
        max_connections: Most clients at once.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = ""
    certificate: str = ""
    private_key: str = ""
    max_message_bytes: int = 16 * 2**20
    max_batch: int = 8
    max_connections: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; valid: 0 to 65535")
        if not 1024 <= self.max_message_bytes <= wire.MAX_MESSAGE_BYTES:
            raise ValueError(
                f"max_message_bytes is {self.max_message_bytes}; valid: 1024 to "
                f"{wire.MAX_MESSAGE_BYTES}"
            )
        for name in ("max_batch", "max_connections"):
            if not 1 <= getattr(self, name) <= 1024:
                raise ValueError(f"{name} is {getattr(self, name)}; valid: 1 to 1024")
        if bool(self.certificate) != bool(self.private_key):
            raise ValueError("a certificate needs its private key, and the other way round")
        if not is_loopback(self.host) and not (self.token and self.certificate):
            raise ValueError(
                f"host is {self.host}: whoever can reach it would drive the robot's policy. "
                "Beyond this machine a token and a certificate are needed"
            )


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class PolicyServer:
    """Serves one policy to several clients, each in a thread of its own.

    Args:
        policy: That computes, in one of these threads at a time.
        config: Where and for whom.
    """

    def __init__(self, policy: BatchPolicy, config: ServerConfig) -> None:
        self._config = config
        self._service = Service(policy)
        self._batcher = Batcher(
            {
                "encode": self._service.encode,
                "act": self._service.act,
                "infer": self._service.infer,
            },
            max_batch=config.max_batch,
        )
        self._places = threading.Semaphore(config.max_connections)
        self._listener: Listener | None = None
        self._stopped = False

    @property
    def batcher(self) -> Batcher:
        """What has been computed, for those who measure."""
        return self._batcher

    def run(self, ready: Callable[[int], None] = lambda port: None) -> None:
        """Serves until ``stop`` is called.

        Args:
            ready: Called with the port once clients can connect.

        Raises:
            OSError: If the address cannot be used or the certificate cannot be read.
        """
        config, context = self._config, None
        if config.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(config.certificate, config.private_key)
        self._listener = Listener(
            config.host,
            config.port,
            self._talk,
            tls=context,
            max_connections=config.max_connections + _STRANGERS,
        )
        if self._stopped:
            self._listener.stop()
        else:
            ready(self._listener.port)
        self._listener.run()

    def stop(self) -> None:
        """Lets ``run`` return, before it was called, too. Any thread, and handlers of signals."""
        self._stopped = True
        if self._listener is not None:
            self._listener.stop()

    def _talk(self, connection: socket.socket) -> None:
        admitted = False

        def admit(request: Any) -> tuple[http.HTTPStatus, str] | None:
            nonlocal admitted
            refusal = self._refusal(request)
            if refusal is None:
                admitted = self._places.acquire(blocking=False)
                if not admitted:
                    return http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n"
            return refusal

        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.settimeout(_OPEN_LIMIT)
                connection.do_handshake()
            end = Websocket.accept(
                connection, admit, max_size=self._config.max_message_bytes, limit=_OPEN_LIMIT
            )
            if end is not None:
                self._serve(end)
        except (OSError, WebSocketException) as error:
            logger.info("no client: %s", error)
        finally:
            if admitted:
                self._places.release()

    def _refusal(self, request: Any) -> tuple[http.HTTPStatus, str] | None:
        if request.path == HEALTH:
            return http.HTTPStatus.OK, "OK\n"
        if self._config.token:
            shown = request.headers.get("Authorization", "")
            for scheme in _SCHEMES:
                shown = shown.removeprefix(scheme)
            if not hmac.compare_digest(shown.encode(), self._config.token.encode()):
                return http.HTTPStatus.UNAUTHORIZED, "wrong or missing token\n"
        return None

    def _serve(self, end: Websocket) -> None:
        session = Session()
        logger.info("a client has connected to %s", end.path)
        try:
            if end.path == messages.PATH:
                self._serve_ours(end, session)
            else:
                self._serve_openpi(end, session)
        except (OSError, WebSocketException) as gone:
            logger.info("a client has gone: %s", gone)
            end.linger()

    def _serve_ours(self, end: Websocket, session: Session) -> None:
        policy = self._service.policy
        served = messages.Served(policy.spec, policy.has_flow, self._config.max_message_bytes)
        end.send(wire.pack(messages.hello(served)), _SEND_LIMIT)
        while True:
            end.send(self._reply(end.receive(None), session), _SEND_LIMIT)

    def _reply(self, data: bytes | str, session: Session) -> bytes:
        # A function of its own, so that nothing holds the message while the next one arrives.
        number: Any = None
        try:
            request = wire.unpack(data)
            number = request.get("id")
            answer = self._answer(request, session)
        except (PolicyError, wire.WireError) as error:
            answer = {"error": messages.from_error(error)}
        except Exception as error:
            logger.exception("a request failed")
            answer = {"error": messages.from_error(error)}
        return wire.pack({"id": number, **answer})

    def _answer(self, request: dict[str, Any], session: Session) -> dict[str, Any]:
        call = request.get("call")
        if call == "reset":
            seed = request.get("seed")
            if not isinstance(seed, int) or seed < 0:
                raise messages.MessageError(f"seed is {seed!r}; valid: 0 or more")
            session.reset(seed)
            return {}
        if call == "encode":
            observation = messages.to_observation(request.get("observation"))
            context = self._batcher.submit("encode", (session, observation))
            return {"context": session.keep(context)}
        if call == "act":
            context = session.context(request.get("context"))
            state = messages.to_state(request.get("state"))
            item = ActItem(context, state, session.seed, self._continuation(request))
            return {"chunk": messages.from_chunk(self._batcher.submit("act", item))}
        if call == "infer":
            observation = messages.to_observation(request.get("observation"))
            state = RobotState.of(observation)
            if "state" in request:
                state = messages.to_state(request["state"])
            wanted = InferItem(session, observation, state, self._continuation(request))
            context, chunk = self._batcher.submit("infer", wanted)
            return {"context": session.keep(context), "chunk": messages.from_chunk(chunk)}
        raise messages.MessageError(f"no call {call!r}; valid: reset, encode, act, infer")

    def _continuation(self, request: Mapping[str, Any]) -> Continuation | None:
        policy = self._service.policy
        continuation = messages.to_continuation(request.get("continuation"), policy.spec)
        if continuation is not None and not policy.has_flow:
            raise PolicyError("this policy has no flow that could go on from another chunk")
        return continuation

    def _serve_openpi(self, end: Websocket, session: Session) -> None:
        end.send(wire.pack(openpi.metadata(self._service.policy.spec)), _SEND_LIMIT)
        while True:
            end.send(self._reply_openpi(end.receive(None), session), _SEND_LIMIT)

    def _reply_openpi(self, data: bytes | str, session: Session) -> bytes | str:
        began = time.monotonic()
        spec = self._service.policy.spec
        try:
            observation = openpi.to_observation(wire.unpack(data), spec, time.time_ns())
            state = RobotState.of(observation)
            wanted = InferItem(session, observation, state)
            _, chunk = self._batcher.submit("infer", wanted)
        except (PolicyError, wire.WireError) as error:
            return str(error)  # that a text means an error is the protocol's own convention
        answer = openpi.from_chunk(chunk, state, spec)
        answer["server_timing"] = {"infer_ms": 1e3 * (time.monotonic() - began)}
        return wire.pack(answer)
