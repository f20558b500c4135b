# SPDX-License-Identifier: Apache-2.0
"""A policy behind a server, used as one in this process. Needs neither torch nor ROS."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from websockets.exceptions import WebSocketException

from ..continuation import Continuation
from ..interface import Context, Policy
from ..types import ActionChunk, ObservationLike, PolicyError, RobotState
from . import messages, wire
from .websocket import Websocket

if TYPE_CHECKING:
    from ..samplers import Guidance

MIN_PAUSE, MAX_PAUSE = 0.1, 5.0  # s between attempts to connect


class ServerUnreachableError(PolicyError):
    """There is no answer from the server."""


class ConnectionLostError(ServerUnreachableError):
    """The connection ended before the answer came."""


@dataclass(frozen=True)
class ClientConfig:
    """How a server is reached.

    Attributes:
        url: ``ws://host:port`` or, with TLS, ``wss://host:port``.
        token: That the server asks for; empty for none.
        certificates: PEM file of the authorities to trust; empty for the system's.
        connect_timeout: Longest wait for a connection, s.
        call_timeout: Longest wait for an answer, s.
        encode_ahead: Whether ``encode`` computes on the server already. That pays where several
            chunks are made of one context; without it the first one's request carries the
            observation, and all is one way there and back.
    """

    url: str
    token: str = ""
    certificates: str = ""
    connect_timeout: float = 5.0
    call_timeout: float = 2.0
    encode_ahead: bool = False

    def __post_init__(self) -> None:
        if not self.url.startswith(("ws://", "wss://")):
            raise ValueError(f"url is {self.url!r}; valid: ws://host:port or wss://host:port")
        for name in ("connect_timeout", "call_timeout"):
            if not 0.0 < getattr(self, name) <= 3600.0:
                raise ValueError(f"{name} is {getattr(self, name)} s; valid: above 0 to 3600")


class Connection:
    """A websocket that connects when it is needed and again after it was lost.

    After an answer that did not come in time the connection is given up: what comes late can then
    not be taken for the answer to something else. After an attempt that failed, the next one waits
    twice as long, up to ``MAX_PAUSE``; until then there is an error at once. One thread at a time.

    Args:
        config: How the server is reached.
        path: Of the protocol.
        scheme: In front of the token.
    """

    def __init__(self, config: ClientConfig, path: str, scheme: str = "Bearer") -> None:
        self._config = config
        self._url = config.url.rstrip("/") + path
        self._scheme = scheme
        self._pause = 0.0
        self._not_before = 0.0  # steady time, s
        self._why = ""
        self._socket: Websocket | None = None
        self.connections = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._socket is not None

    def open(self) -> dict[str, Any] | None:
        """Connects if there is no connection; returns the server's first message if it did.

        Raises:
            ServerUnreachableError: With the reason.
            MessageError: If what the server says is no message.
        """
        if self._socket is not None:
            return None
        wait = self._not_before - time.monotonic()
        if wait > 0.0:
            raise ServerUnreachableError(f"{self._why}; tried again in {wait:.1f} s")
        try:
            self._socket = self._connect()
            self.connections += 1
            first = wire.unpack(self._socket.receive(self._config.connect_timeout))
        except wire.WireError as error:
            self.refuse(f"{self._url}: {error}")
            raise messages.MessageError(self._why) from error
        except (OSError, WebSocketException) as error:
            self.refuse(f"no policy server at {self._url}: {_reason(error)}")
            raise ServerUnreachableError(self._why) from error
        self._pause = 0.0
        return first

    def refuse(self, why: str) -> None:
        """Gives the connection up as one that is of no use, and lets the next attempt wait."""
        self.close()
        self._why = why
        self._pause = min(max(2.0 * self._pause, MIN_PAUSE), MAX_PAUSE)
        self._not_before = time.monotonic() + self._pause

    def exchange(self, data: bytes) -> bytes | str:
        """Sends a message and returns the answer.

        Raises:
            ServerUnreachableError: If the connection is lost or no answer comes in time.
        """
        if self._socket is None:
            raise ServerUnreachableError(f"there is no connection to {self._url}")
        try:
            return self._socket.exchange(data, self._config.call_timeout)
        except TimeoutError as error:
            self.close()
            raise ServerUnreachableError(
                f"{self._url} did not answer within {self._config.call_timeout} s"
            ) from error
        except (OSError, WebSocketException) as error:
            self.close()
            raise ConnectionLostError(
                f"the connection to {self._url} was lost: {_reason(error)}"
            ) from error
        except BaseException:  # an interrupt: what is under way belongs to no later request
            self.close()
            raise

    def close(self) -> None:
        """Gives the connection up."""
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()

    def _connect(self) -> Websocket:
        config = self._config
        tls = None
        if config.url.startswith("wss://"):
            tls = ssl.create_default_context(cafile=config.certificates or None)
        return Websocket.connect(
            self._url,
            {"Authorization": f"{self._scheme} {config.token}"} if config.token else {},
            tls,
            max_size=wire.MAX_MESSAGE_BYTES,
            limit=config.connect_timeout,
        )


def _reason(error: Exception) -> str:
    """What is known of a failed connection, with the server's own words if it refused."""
    response = getattr(error, "response", None)
    body = getattr(response, "body", None)
    if response is not None and body:
        return f"{response.status_code} {body.decode(errors='replace').strip()}"
    return str(error) or type(error).__name__


@dataclass
class _Remote:
    """A context on the server, or the observation that it is to be made of.

    Attributes:
        observation: Until it has been sent.
        connection: That knows the context.
        number: Of the context there.
    """

    observation: ObservationLike | None = None
    connection: int = 0
    number: int = 0


class RemotePolicy(Policy):
    """A policy behind this suite's own protocol.

    Connects at once; after the connection was lost, with the next observation. A server that then
    serves something that does not fit is an error, other weights of the same shape are not.

    Args:
        config: How the server is reached.
        expected: See ``messages.check_schema``.

    Raises:
        ServerUnreachableError: If there is no server.
        SchemaMismatchError: If it serves something else, listing every difference.
    """

    def __init__(self, config: ClientConfig, expected: Mapping[str, Any] | None = None) -> None:
        self._expected = dict(expected or {})
        self._connection = Connection(config, messages.PATH)
        self._encode_ahead = config.encode_ahead
        self._seed = 0
        self._count = 0
        self._request = 0
        self._known: messages.Served | None = None
        # Those who encode and those who act share the connection.
        self._lock = threading.Lock()
        self._connect()

    def close(self) -> None:
        """Disconnects."""
        self._connection.close()

    def reset(self, seed: int = 0) -> None:
        """Restarts the inference count; see ``Policy.reset``."""
        self._seed, self._count = seed, 0
        with self._lock:
            self._connect()
            self._call("reset", seed=seed)

    def encode(self, observation: ObservationLike) -> Context:
        """Encodes images and instruction on the server; see ``Policy.encode``."""
        remote = _Remote(observation)
        if self._encode_ahead:
            message = messages.from_observation(observation)
            with self._lock:
                self._connect()
                self._encoded(remote, self._call("encode", observation=message))
        context = Context(
            stamp_ns=int(observation.stamp_ns),
            instruction=observation.instruction,
            inference_id=self._count,
            prefix=remote,
        )
        self._count += 1
        return context

    def act(
        self,
        context: Context,
        state: RobotState,
        guidance: Guidance | Continuation | None = None,
    ) -> ActionChunk:
        """A chunk for an encoded context; see ``Policy.act``. The server takes continuations."""
        if guidance is not None and not isinstance(guidance, Continuation):
            raise PolicyError(
                "a policy behind a server takes continuations, and no function of its flow"
            )
        remote: _Remote = context.prefix
        values: dict[str, Any] = {}
        if remote.observation is None or not messages.is_state_of(state, remote.observation):
            values["state"] = messages.from_state(state)
        if guidance is not None:
            values["continuation"] = messages.from_continuation(guidance)
        with self._lock:
            if remote.observation is not None:
                self._connect()
                observation = messages.from_observation(remote.observation)
                answer = self._call("infer", observation=observation, **values)
                self._encoded(remote, answer)
            elif remote.connection == self._connection.connections and self._connection.is_open:
                answer = self._call("act", context=remote.number, **values)
            else:
                raise ServerUnreachableError(
                    "the connection was lost since the observation was encoded"
                )
        return messages.to_chunk(answer.get("chunk"), self.spec)

    def _encoded(self, remote: _Remote, answer: Mapping[str, Any]) -> None:
        """Notes where a context is; its observation is not needed any more."""
        number = answer.get("context")
        if not isinstance(number, int):
            raise messages.MessageError(f"the server's context is {number!r}, not a number")
        remote.observation = None
        remote.connection, remote.number = self._connection.connections, number

    def _connect(self) -> None:
        first = self._connection.open()
        if first is None:
            return
        try:
            served = messages.read_hello(first)
            messages.check_schema(served, self._expected)
            if self._known is not None:
                messages.check_schema(served, _shape_of(self._known))
        except PolicyError as error:
            self._connection.refuse(str(error))
            raise
        self._known = served
        self.spec, self.has_flow = served.spec, served.has_flow
        if self._seed:
            self._call("reset", seed=self._seed)

    def _call(self, call: str, **values: Any) -> dict[str, Any]:
        self._request += 1
        data = wire.pack({"id": self._request, "call": call, **values})
        if self._known is not None and len(data) > self._known.max_message_bytes:
            raise PolicyError(
                f"a message of {len(data)} bytes; the server reads at most "
                f"{self._known.max_message_bytes}"
            )
        try:
            answer = wire.unpack(self._connection.exchange(data))
        except wire.WireError as error:
            self._connection.close()
            raise messages.MessageError(f"the server's answer cannot be read: {error}") from error
        if "error" in answer:
            raise messages.to_error(answer["error"])
        if answer.get("id") != self._request:
            self._connection.close()
            raise messages.MessageError(
                f"the server answered request {answer.get('id')!r}, not {self._request}"
            )
        return answer


def _shape_of(served: messages.Served) -> dict[str, Any]:
    """What must stay when a server comes back: everything but the weights."""
    shape = {**vars(served.spec), "has_flow": served.has_flow}
    del shape["policy_id"]
    return shape
