# SPDX-License-Identifier: Apache-2.0
"""Who may connect to a policy server, and bad company that does it or its clients no harm."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from conftest import FakeObservation
from servers import raw, remote, served
from websockets.exceptions import ConnectionClosed

from vla_policy.checkpoint import load_policy
from vla_policy.policy import NanoPi0Policy
from vla_policy.serving import messages, server, wire
from vla_policy.serving.client import ClientConfig, RemotePolicy, ServerUnreachableError
from vla_policy.serving.server import ServerConfig
from vla_policy.types import PolicyError, RobotState

Change = Callable[[dict[str, Any]], None]


# --- who may connect ------------------------------------------------------------------------------


def test_a_wrong_schema_lists_every_difference(address: str) -> None:
    expected = {"joint_names": ("a", "b"), "image_size": 224, "robot": "panda"}
    with pytest.raises(messages.SchemaMismatchError) as caught:
        remote(address, expected)
    assert "joint_names: the server has ('panda_joint1'" in str(caught.value)
    assert "image_size: the server has 96, needed is 224" in str(caught.value)
    assert "robot" not in str(caught.value)


def test_a_token_is_asked_for(policy: NanoPi0Policy) -> None:
    with served(policy, token="secret") as (address, _):
        for token in ("", "wrong", "secret2"):
            with pytest.raises(ServerUnreachableError, match="401 wrong or missing token"):
                remote(address, token=token)
        assert remote(address, token="secret").spec.robot == "panda"


def test_tls_with_a_certificate_of_ones_own(
    policy: NanoPi0Policy, tmp_path: Path, observation: FakeObservation
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key, trusted = (str(tmp_path / name) for name in ("chain.pem", "key.pem", "ca.pem"))
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(trusted)
    with served(policy, certificate=chain, private_key=key) as (address, _):
        far = RemotePolicy(ClientConfig(f"wss://{address}", certificates=trusted))
        far.encode(observation)
        with pytest.raises(ServerUnreachableError, match="CERTIFICATE"):
            RemotePolicy(ClientConfig(f"wss://{address}"))
        with pytest.raises(ServerUnreachableError):
            remote(address)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"host": "0.0.0.0"}, "token and a certificate"),
        ({"host": "192.168.1.5", "token": "t"}, "token and a certificate"),
        ({"certificate": "c.pem"}, "private key"),
        ({"port": 70000}, "port is 70000"),
        ({"max_message_bytes": 2**40}, "max_message_bytes"),
    ],
)
def test_unsafe_or_wrong_settings_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerConfig(**config)


# --- connections that are lost --------------------------------------------------------------------


def test_no_server(unused_port: int) -> None:
    with pytest.raises(ServerUnreachableError, match="no policy server at"):
        remote(f"127.0.0.1:{unused_port}")


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_server_that_comes_back_is_used_again(
    policy: NanoPi0Policy, checkpoint: Path, observation: FakeObservation, unused_port: int
) -> None:
    with served(policy, port=unused_port) as (address, _):
        far = remote(address)
        far.reset(5)
        first = far.encode(observation)
    with pytest.raises(ServerUnreachableError):
        far.encode(observation)
    with served(load_policy(checkpoint), port=unused_port):  # type: ignore[arg-type]
        with pytest.raises(PolicyError, match="connection was lost"):
            far.act(first, RobotState.of(observation))
        chunk = far.act(far.encode(observation), RobotState.of(observation))
    local = load_policy(checkpoint)
    local.reset(5)
    again = local.act(local.encode(observation), RobotState.of(observation))
    np.testing.assert_array_equal(chunk.poses_tool_in_base, again.poses_tool_in_base)


@contextmanager
def liar(*answers: bytes | None) -> Iterator[str]:
    """A server that says what it is told to; None = nothing."""
    from websockets.sync.server import serve

    def handler(connection: Any) -> None:
        told = iter(answers)
        first = next(told)
        if first is not None:
            connection.send(first)
        with suppress(ConnectionClosed):
            for _ in connection:
                answer = next(told, None)
                if answer is not None:
                    connection.send(answer)

    with serve(handler, "127.0.0.1", 0, close_timeout=0.1) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()


def hello(policy: NanoPi0Policy) -> bytes:
    """The first message of a server of this policy."""
    return wire.pack(messages.hello(messages.Served(policy.spec, policy.has_flow, 2**20)))


def test_a_server_that_never_answers(policy: NanoPi0Policy, observation: FakeObservation) -> None:
    with liar(hello(policy)) as address:
        far = remote(address, call_timeout=0.2)
        with pytest.raises(ServerUnreachableError, match=r"did not answer within 0\.2 s"):
            far.encode(observation)
    with liar(None) as address, pytest.raises(ServerUnreachableError):
        remote(address, connect_timeout=0.2)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xc1garbage",
        wire.pack({"id": 99, "context": 0}),
        wire.pack({"id": 1, "context": "zero"}),
        wire.pack({"id": 1}),
        wire.pack({"id": 1, "error": 5}),
    ],
)
def test_a_server_that_answers_garbage(
    policy: NanoPi0Policy, observation: FakeObservation, answer: bytes
) -> None:
    with liar(
        wire.pack(messages.hello(messages.Served(policy.spec, True, 2**20))), answer
    ) as address:
        far = remote(address)
        with pytest.raises(PolicyError):
            far.encode(observation)


@pytest.mark.parametrize(
    "first", [b"garbage", wire.pack({}), wire.pack({"protocol": "vla-policy", "version": 1})]
)
def test_a_server_of_another_kind(first: bytes) -> None:
    with liar(first) as address, pytest.raises(PolicyError):
        remote(address)


def _nan(chunk: dict[str, Any]) -> None:
    chunk["commanded"] = np.full((16, 4, 4), np.nan)


def _short(chunk: dict[str, Any]) -> None:
    chunk["gripper_opening"] = np.zeros(3)


def _slow(chunk: dict[str, Any]) -> None:
    chunk["step_dt"] = 0.5


def _lacking(chunk: dict[str, Any]) -> None:
    del chunk["features"]


@pytest.mark.parametrize("change", [_nan, _short, _slow, _lacking])
def test_chunks_that_a_policy_must_not_give_are_refused(
    policy: NanoPi0Policy, observation: FakeObservation, change: Change
) -> None:
    chunk = policy.act(policy.encode(observation), RobotState.of(observation))
    good = wire.unpack(wire.pack(messages.from_chunk(chunk)))
    assert messages.to_chunk(good, policy.spec).policy_id == chunk.policy_id
    change(good)
    with pytest.raises(messages.MessageError):
        messages.to_chunk(good, policy.spec)


def test_clients_beyond_the_most_are_refused(policy: NanoPi0Policy) -> None:
    with served(policy, max_connections=1) as (address, _):
        first = remote(address)
        with pytest.raises(ServerUnreachableError, match="503 too many clients"):
            remote(address)
        first.close()
        _until_served(address)


def test_connections_that_say_nothing_do_not_stay(
    policy: NanoPi0Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_STRANGERS", 3)
    monkeypatch.setattr(server, "_OPEN_LIMIT", 3.0)
    with served(policy, max_connections=1) as (address, _):
        host, port = address.split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(4)]
        with pytest.raises(ServerUnreachableError):
            remote(address)
        _until_served(address)
        for one in silent:
            one.close()


def _until_served(address: str) -> None:
    """Waits until a client finds a place."""
    deadline = time.monotonic() + 20.0
    while True:
        with suppress(ServerUnreachableError):
            remote(address).close()
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- clients that behave badly --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"call": "fly"}, "no call 'fly'"),
        ({"call": "reset", "seed": -1}, "seed is -1"),
        ({"call": "encode"}, "cannot be used"),
        ({"call": "encode", "observation": {"q": 1}}, "cannot be used"),
        ({"call": "act", "context": 0}, "context 0 is not known"),
    ],
)
def test_requests_that_cannot_be_answered(
    address: str, request_: dict[str, Any], message: str
) -> None:
    with raw(address) as connection:
        connection.recv()
        connection.send(wire.pack({"id": 1, **request_}))
        answer = wire.unpack(connection.recv())
        assert answer["id"] == 1
        assert message in answer["error"]["message"]
        connection.send(wire.pack({"id": 2, "call": "reset", "seed": 0}))
        assert wire.unpack(connection.recv()) == {"id": 2}


def test_garbage_and_half_a_message_leave_the_server_running(
    address: str, observation: FakeObservation
) -> None:
    with raw(address) as connection:
        connection.recv()
        for garbage in (b"", b"\xc1", b"\x00" * 100, wire.pack({"id": 1})[:-1], "text"):
            connection.send(garbage)
            assert "error" in wire.unpack(connection.recv())
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(b"GET /v1 HTTP/1.1\r\nHost:")
    remote(address).encode(observation)


def test_a_message_that_the_server_would_not_read_is_not_sent(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    with served(policy, max_message_bytes=50_000) as (address, serving):
        far = remote(address)
        with pytest.raises(PolicyError, match="bytes; the server reads at most 50000"):
            far.encode(observation)
        assert serving.batcher.items == 0


def test_a_message_that_is_too_long_ends_that_connection_alone(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    with served(policy, max_message_bytes=100_000) as (address, _):
        with raw(address) as connection:
            connection.recv()
            connection.send(b"\x00" * 200_000)
            with pytest.raises(ConnectionClosed, match="1009"):
                connection.recv(timeout=5.0)
        remote(address).encode(observation)
