# SPDX-License-Identifier: Apache-2.0
"""A policy behind a server is the policy itself, and bad company does it no harm."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import trustme
from conftest import FakeObservation
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from vla_control import RobotModel
from vla_policy.checkpoint import load_policy
from vla_policy.continuation import Continuation
from vla_policy.interface import ActItem
from vla_policy.policy import NanoPi0Policy
from vla_policy.schedules import SCHEDULES, make_schedule
from vla_policy.serving import messages, openpi, wire
from vla_policy.serving.batching import Batcher
from vla_policy.serving.client import ClientConfig, RemotePolicy, ServerUnreachableError
from vla_policy.serving.server import PolicyServer, ServerConfig
from vla_policy.serving.service import InferItem, Service, Session
from vla_policy.types import ObservationMismatchError, PolicyError, RobotState
from vla_sim import robots

Change = Callable[[dict[str, Any]], None]


@contextmanager
def served(policy: NanoPi0Policy, **config: Any) -> Iterator[tuple[str, PolicyServer]]:
    """A server in a thread, on a free port; its address and itself."""
    server = PolicyServer(policy, ServerConfig(**{"port": 0, **config}))
    listening = threading.Event()
    ports: list[int] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def ready(port: int) -> None:
        ports.append(port)
        listening.set()

    thread = threading.Thread(target=loop.run_until_complete, args=(server.run(ready, stop),))
    thread.start()
    assert listening.wait(10.0)
    try:
        yield f"127.0.0.1:{ports[0]}", server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10.0)
        loop.close()


@pytest.fixture
def policy(checkpoint: Path) -> NanoPi0Policy:
    policy = load_policy(checkpoint)
    assert isinstance(policy, NanoPi0Policy)
    return policy


@pytest.fixture
def address(policy: NanoPi0Policy) -> Iterator[str]:
    with served(policy) as (address, _):
        yield address


def remote(address: str, expected: dict[str, Any] | None = None, **more: Any) -> RemotePolicy:
    config = ClientConfig(url=f"ws://{address}", **{"encode_ahead": True, **more})
    return RemotePolicy(config, expected)


def raw(address: str, path: str = messages.PATH) -> ClientConnection:
    return connect(f"ws://{address}{path}", compression=None, max_size=None, proxy=None)


@pytest.mark.parametrize("ahead", [False, True])
def test_it_is_the_policy_itself(
    address: str, checkpoint: Path, observation: FakeObservation, ahead: bool
) -> None:
    local, far = load_policy(checkpoint), remote(address, encode_ahead=ahead)
    assert far.spec == local.spec
    for seed in (0, 7):
        local.reset(seed)
        far.reset(seed)
        for _ in range(2):
            ours = local.act(local.encode(observation), RobotState.of(observation))
            theirs = far.act(far.encode(observation), RobotState.of(observation))
            for field in dataclasses.fields(ours):
                np.testing.assert_array_equal(
                    getattr(theirs, field.name), getattr(ours, field.name), field.name
                )


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_do_behind_a_server_what_they_do_here(
    address: str, checkpoint: Path, observation: FakeObservation, name: str, ahead: bool
) -> None:
    """Also those that need the flow (rtc) or another state than the observation's (vlash)."""
    arm = RobotModel(robots.get("panda").description())
    q = np.array([0.1, -0.4, 0.0, -2.2, 0.1, 1.9, 0.8])
    runs = []
    for policy in (load_policy(checkpoint), remote(address, encode_ahead=ahead)):
        policy.reset(4)
        plan = make_schedule(name, policy, 0.2, arm)
        runs.append([])
        for step in (0, 8, 19):  # the last one between two steps of the chunk before
            now = dataclasses.replace(
                observation,
                stamp_ns=50_000_000 * step + 1_000_000 * (step == 19),
                q=q + 0.01 * step,
                pose_tool_in_base=arm.forward_kinematics(q + 0.01 * step),
            )
            chunk = plan.act(policy, policy.encode(now), RobotState.of(now))
            runs[-1].append(plan.deliver(chunk, now.stamp_ns + 200_000_000))
    for ours, theirs in zip(*runs, strict=True):
        for field in dataclasses.fields(ours):
            np.testing.assert_array_equal(
                getattr(theirs, field.name), getattr(ours, field.name), field.name
            )
    assert runs[0][1].conditioned_steps == (4 if name.startswith("rtc") else 0)


def test_a_context_that_was_inferred_from_can_be_acted_on_again(
    address: str, checkpoint: Path, observation: FakeObservation
) -> None:
    state = RobotState.of(observation)
    later = dataclasses.replace(state, q=state.q + 0.1)
    local, far = load_policy(checkpoint), remote(address, encode_ahead=False)
    contexts = [policy.encode(observation) for policy in (local, far)]
    for now in (state, later, state):
        ours, theirs = (p.act(c, now) for p, c in zip((local, far), contexts, strict=True))
        np.testing.assert_array_equal(theirs.commanded, ours.commanded)


def test_a_bad_observation_in_a_batch_of_whole_inferences_spoils_no_other(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    state, bad = RobotState.of(observation), dataclasses.replace(observation, instruction=" ")
    nan = dataclasses.replace(state, q=np.full(7, np.nan))
    session = Session()
    wanted = [
        InferItem(session, observation, state),
        InferItem(session, bad, state),
        InferItem(session, observation, nan),
    ]
    (context, chunk), *errors = Service(policy).infer(wanted)
    assert (context.inference_id, chunk.inference_id) == (0, 0)
    assert [type(error) for error in errors] == [ObservationMismatchError] * 2


def test_robots_that_go_on_from_chunks_of_their_own_share_a_batch(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    context, state = policy.encode(observation), RobotState.of(observation)
    plain = policy.act(context, state)
    items = [ActItem(context, state, 0)]
    for share in (0.0, 0.5, 1.0):
        weights = np.full(16, share)
        moved = plain.commanded + 0.02 * (np.arange(4) == 3)
        items.append(
            ActItem(context, state, 0, Continuation(moved, plain.gripper_opening, weights))
        )
    service = Service(policy)
    together = service.act(items)
    alone = [service.act([item])[0] for item in items]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.commanded, other.commanded, atol=1e-5)
    np.testing.assert_allclose(together[1].commanded, plain.commanded, atol=1e-5)
    assert np.abs(together[3].commanded - plain.commanded).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commanded": np.zeros((8, 7))}, r"references \(7,\)"),
        ({"commanded": np.full((8, 4, 4), np.nan)}, "finite"),
        ({"weights": np.zeros(15)}, r"weights \(15,\)"),
        ({"weights": np.full(16, 2.0)}, "between 0 and 1"),
        ({"gripper_opening": np.zeros(3)}, "openings"),
        ({"commanded": "poses"}, "cannot be used"),
        ({"max_weight": -1.0}, "max_weight is -1.0; valid: 0 or more"),
        ({"max_weight": np.nan}, "finite"),
    ],
)
def test_continuations_that_cannot_be_used(
    policy: NanoPi0Policy, change: dict[str, Any], message: str
) -> None:
    good = {
        "commanded": np.tile(np.eye(4), (8, 1, 1)),
        "gripper_opening": np.zeros(8),
        "weights": np.zeros(16),
        "max_weight": 5.0,
    }
    assert messages.to_continuation(good, policy.spec) is not None
    with pytest.raises(ObservationMismatchError, match=message):
        messages.to_continuation({**good, **change}, policy.spec)


def test_a_server_without_a_flow_cannot_chunk_in_real_time(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    policy.has_flow = False
    with served(policy) as (address, _):
        far = remote(address)
        with pytest.raises(ValueError, match="'rtc' needs a policy with a flow"):
            make_schedule("rtc", far, 0.1)
        with pytest.raises(messages.SchemaMismatchError, match="has_flow: the server has False"):
            remote(address, {"has_flow": True})
        context, state = far.encode(observation), RobotState.of(observation)
        rest = Continuation(np.tile(np.eye(4), (8, 1, 1)), np.zeros(8), np.zeros(16))
        with pytest.raises(PolicyError, match="no flow"):
            far.act(context, state, rest)
        with pytest.raises(PolicyError, match="no function of its flow"):
            far.act(context, state, lambda velocity: velocity)
        far.act(context, state)


def test_encoding_and_acting_may_be_two_threads(address: str, observation: FakeObservation) -> None:
    far, state = remote(address, call_timeout=30.0), RobotState.of(observation)
    contexts = [far.encode(observation)]

    def encode() -> int:
        for _ in range(20):
            contexts.append(far.encode(observation))
            time.sleep(0.02)  # as images come
        return len(contexts)

    with ThreadPoolExecutor(1) as pool:
        encoded = pool.submit(encode)
        acted = 0
        while not encoded.done() or acted < 20:
            assert np.isfinite(far.act(contexts[-1], state).commanded).all()
            acted += 1
        assert encoded.result() == 21


def test_robots_that_share_a_server_do_not_disturb_each_other(
    policy: NanoPi0Policy, checkpoint: Path, observation: FakeObservation
) -> None:
    local = load_policy(checkpoint)
    local.reset(3)
    expected = [
        local.act(local.encode(observation), RobotState.of(observation)).poses_tool_in_base
        for _ in range(4)
    ]
    with served(policy) as (address, server):

        def robot(_: int) -> list[Any]:
            far = remote(address, call_timeout=30.0)
            far.reset(3)
            return [
                far.act(far.encode(observation), RobotState.of(observation)).poses_tool_in_base
                for _ in range(4)
            ]

        with ThreadPoolExecutor(6) as pool:
            for poses in pool.map(robot, range(6)):
                np.testing.assert_allclose(poses, expected, atol=1e-5)
        assert server.batcher.items == 48
        assert server.batcher.batches < 48, "nothing was computed together"


@pytest.mark.parametrize("on_the_loop", [False, True])
def test_an_inference_lets_other_robots_connect(
    policy: NanoPi0Policy,
    observation: FakeObservation,
    monkeypatch: pytest.MonkeyPatch,
    on_the_loop: bool,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    infer = Service.infer

    def slow(service: Service, requests: Any) -> Any:
        begun.set()
        assert go_on.wait(20.0)
        return infer(service, requests)

    async def compute_here(batcher: Batcher, kind: str, item: Any) -> Any:
        (result,) = batcher._results(kind, [item])
        return result

    monkeypatch.setattr(Service, "infer", slow)
    if on_the_loop:  # the positive control
        monkeypatch.setattr(Batcher, "submit", compute_here)
    with served(policy) as (address, _), ThreadPoolExecutor(1) as pool:
        busy = remote(address, encode_ahead=False, call_timeout=30.0)
        state = RobotState.of(observation)
        chunk = pool.submit(lambda: busy.act(busy.encode(observation), state))
        try:
            assert begun.wait(10.0)
            if on_the_loop:
                with pytest.raises(ServerUnreachableError, match="no policy server"):
                    remote(address, connect_timeout=0.5)
            else:
                remote(address, connect_timeout=10.0).reset(1)
        finally:
            go_on.set()
        assert np.isfinite(chunk.result().commanded).all()


def test_a_bad_observation_in_a_batch_spoils_no_other(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    bad = dataclasses.replace(observation, instruction=" ")
    with served(policy) as (address, _):

        def robot(number: int) -> str:
            far = remote(address, call_timeout=30.0)
            try:
                far.encode(bad if number % 2 else observation)
            except ObservationMismatchError as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(robot, range(12)))
    assert all(bool(answer) == bool(number % 2) for number, answer in enumerate(answers))


def test_a_client_needs_neither_torch_nor_ros() -> None:
    code = (
        "import sys, vla_policy.serving.client, vla_policy.schedules; "
        "print(sorted({'torch', 'transformers', 'rclpy', 'mujoco'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
    with served(policy, max_message_bytes=50_000) as (address, server):
        far = remote(address)
        with pytest.raises(PolicyError, match="bytes; the server reads at most 50000"):
            far.encode(observation)
        assert server.batcher.items == 0


def test_a_message_that_is_too_long_ends_that_connection_alone(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    with served(policy, max_message_bytes=100_000) as (address, _):
        with raw(address) as connection:
            connection.recv()
            connection.send(b"\x00" * 200_000)
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=5.0)
        remote(address).encode(observation)


# --- the wire -------------------------------------------------------------------------------------

ARRAYS = st.sampled_from(["<f8", "<f4", "|u1", "<i8", "|b1"]).flatmap(
    lambda dtype: st.lists(st.integers(0, 4), max_size=3).map(
        lambda shape: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    )
)


@given(ARRAYS)
def test_arrays_come_out_as_they_went_in(array: Any) -> None:
    back = wire.unpack(wire.pack({"array": array}))["array"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.array(["a"]), np.zeros(1, "c8"), {1, 2}, object()]
)
def test_what_could_carry_code_is_not_sent(value: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.pack({"value": value})


def _array(**changes: Any) -> bytes:
    value = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f8", b"shape": [1]}
    value.update({key.encode(): change for key, change in changes.items()})
    return bytes(msgpack.packb({"value": value}))


@pytest.mark.parametrize(
    "data",
    [
        _array(dtype="|O"),
        _array(dtype="<U2"),
        _array(dtype="f8,f8"),
        _array(dtype=5),
        _array(shape=[2]),
        _array(shape=[-1]),
        _array(shape=[2**40, 0]),
        _array(shape=[1] * 9),
        _array(data="text"),
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        msgpack.packb({"value": msgpack.ExtType(1, b"x")}),
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 100_000,
    ],
)
def test_messages_that_are_none(data: bytes) -> None:
    assert wire.unpack(_array())["value"] == 0.0
    with pytest.raises(wire.WireError):
        wire.unpack(data)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    with suppress(wire.WireError):
        assert isinstance(wire.unpack(data), dict)


# --- openpi's protocol ----------------------------------------------------------------------------


def openpi_observation(observation: FakeObservation) -> dict[str, Any]:
    return {
        **{openpi.IMAGE + name: image for name, image in observation.images.items()},
        "observation/joint_position": observation.q,
        "observation/joint_velocity": observation.dq,
        "observation/gripper_opening": observation.gripper_opening,
        "observation/pose_tool_in_base": observation.pose_tool_in_base,
        "prompt": observation.instruction,
    }


def test_an_openpi_client_gets_the_policys_actions(
    address: str, checkpoint: Path, observation: FakeObservation
) -> None:
    client = pytest.importorskip("openpi_client.websocket_client_policy")
    host, port = address.split(":")
    far = client.WebsocketClientPolicy(host, int(port))
    told = far.get_server_metadata()
    assert set(told["observation"]) == set(openpi_observation(observation))
    local = load_policy(checkpoint)
    chunk = local.act(local.encode(observation), RobotState.of(observation))
    spec = local.spec
    expected = spec.action.encode(
        observation.pose_tool_in_base, chunk.poses_tool_in_base, chunk.gripper_opening
    )
    answer = far.infer(openpi_observation(observation))
    np.testing.assert_allclose(answer["actions"], expected, atol=1e-6)
    assert answer["server_timing"]["infer_ms"] > 0.0
    with pytest.raises(RuntimeError, match="lacks prompt"):
        far.infer({k: v for k, v in openpi_observation(observation).items() if k != "prompt"})
