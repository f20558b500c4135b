# SPDX-License-Identifier: Apache-2.0
"""Serves a policy over a websocket: our protocol on ``/vla``, openpi's on any other path."""

from __future__ import annotations

import asyncio
import hmac
import http
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ..continuation import Continuation
from ..interface import ActItem, BatchPolicy
from ..types import PolicyError, RobotState
from . import messages, openpi, wire
from .batching import Batcher
from .service import InferItem, Service, Session

logger = logging.getLogger("vla.serve")
HEALTH = "/healthz"
_SCHEMES = ("Bearer ", "Api-Key ")  # ours and openpi's


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
    """Serves one policy to several clients.

    Args:
        policy: That computes, in a thread of its own.
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
        self._connections = 0

    @property
    def batcher(self) -> Batcher:
        """What has been computed, for those who measure."""
        return self._batcher

    async def run(
        self, ready: Callable[[int], None] = lambda port: None, stop: asyncio.Event | None = None
    ) -> None:
        """Serves until it is cancelled or ``stop`` is set.

        Args:
            ready: Called with the port once clients can connect.
            stop: Ends the service.

        Raises:
            OSError: If the address cannot be used or the certificate cannot be read.
        """
        context = None
        if self._config.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._config.certificate, self._config.private_key)
        async with serve(
            self._serve,
            self._config.host,
            self._config.port,
            ssl=context,
            compression=None,
            max_size=self._config.max_message_bytes,
            max_queue=2,
            close_timeout=1.0,
            ping_interval=None,  # clients read only when they wait for an answer
            process_request=self._admit,
        ) as server:
            self._batcher.start()
            try:
                ready(_port(server))
                await (stop or asyncio.Event()).wait()
            finally:
                await asyncio.to_thread(self._batcher.stop)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == HEALTH:
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if self._config.token:
            shown = request.headers.get("Authorization", "")
            for scheme in _SCHEMES:
                shown = shown.removeprefix(scheme)
            if not hmac.compare_digest(shown.encode(), self._config.token.encode()):
                return connection.respond(http.HTTPStatus.UNAUTHORIZED, "wrong or missing token\n")
        if self._connections >= self._config.max_connections:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        path = connection.request.path if connection.request is not None else ""
        session = Session()
        # In place of pings: the system notices a client whose machine is gone.
        connection.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
        )
        self._connections += 1
        logger.info("a client has connected to %s", path)
        try:
            if path == messages.PATH:
                await self._serve_ours(connection, session)
            else:
                await self._serve_openpi(connection, session)
        except ConnectionClosed as closed:
            logger.info("a client has gone: %s", closed)
        finally:
            self._connections -= 1

    async def _serve_ours(self, connection: ServerConnection, session: Session) -> None:
        policy = self._service.policy
        served = messages.Served(policy.spec, policy.has_flow, self._config.max_message_bytes)
        await connection.send(wire.pack(messages.hello(served)))
        while True:
            await connection.send(await self._reply(await connection.recv(), session))

    async def _reply(self, data: bytes | str, session: Session) -> bytes:
        # A function of its own, so that nothing holds the message while the next one arrives.
        number: Any = None
        try:
            request = wire.unpack(data)
            number = request.get("id")
            answer = await self._answer(request, session)
        except (PolicyError, wire.WireError) as error:
            answer = {"error": messages.from_error(error)}
        except Exception as error:
            logger.exception("a request failed")
            answer = {"error": messages.from_error(error)}
        return wire.pack({"id": number, **answer})

    async def _answer(self, request: dict[str, Any], session: Session) -> dict[str, Any]:
        call = request.get("call")
        if call == "reset":
            seed = request.get("seed")
            if not isinstance(seed, int) or seed < 0:
                raise messages.MessageError(f"seed is {seed!r}; valid: 0 or more")
            session.reset(seed)
            return {}
        if call == "encode":
            observation = messages.to_observation(request.get("observation"))
            context = await self._batcher.submit("encode", (session, observation))
            return {"context": session.keep(context)}
        if call == "act":
            context = session.context(request.get("context"))
            state = messages.to_state(request.get("state"))
            item = ActItem(context, state, session.seed, self._continuation(request))
            return {"chunk": messages.from_chunk(await self._batcher.submit("act", item))}
        if call == "infer":
            observation = messages.to_observation(request.get("observation"))
            state = RobotState.of(observation)
            if "state" in request:
                state = messages.to_state(request["state"])
            wanted = InferItem(session, observation, state, self._continuation(request))
            context, chunk = await self._batcher.submit("infer", wanted)
            return {"context": session.keep(context), "chunk": messages.from_chunk(chunk)}
        raise messages.MessageError(f"no call {call!r}; valid: reset, encode, act, infer")

    def _continuation(self, request: Mapping[str, Any]) -> Continuation | None:
        policy = self._service.policy
        continuation = messages.to_continuation(request.get("continuation"), policy.spec)
        if continuation is not None and not policy.has_flow:
            raise PolicyError("this policy has no flow that could go on from another chunk")
        return continuation

    async def _serve_openpi(self, connection: ServerConnection, session: Session) -> None:
        await connection.send(wire.pack(openpi.metadata(self._service.policy.spec)))
        while True:
            await connection.send(await self._reply_openpi(await connection.recv(), session))

    async def _reply_openpi(self, data: bytes | str, session: Session) -> bytes | str:
        began = time.monotonic()
        spec = self._service.policy.spec
        try:
            observation = openpi.to_observation(wire.unpack(data), spec, time.time_ns())
            state = RobotState.of(observation)
            wanted = InferItem(session, observation, state)
            _, chunk = await self._batcher.submit("infer", wanted)
        except (PolicyError, wire.WireError) as error:
            return str(error)  # that a text means an error is the protocol's own convention
        answer = openpi.from_chunk(chunk, state, spec)
        answer["server_timing"] = {"infer_ms": 1e3 * (time.monotonic() - began)}
        return wire.pack(answer)


def _port(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])
