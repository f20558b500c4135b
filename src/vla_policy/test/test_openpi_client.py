# SPDX-License-Identifier: Apache-2.0
"""A policy behind openpi's protocol: asked as its contract says, read as its contract says."""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import JOINTS, FakeObservation
from servers import served
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from vla_policy.checkpoint import load_policy
from vla_policy.policy import NanoPi0Policy
from vla_policy.serving import openpi, openpi_client, openpi_contract
from vla_policy.serving.client import ClientConfig, ServerUnreachableError
from vla_policy.serving.connect import connect, is_remote
from vla_policy.serving.messages import MessageError, SchemaMismatchError
from vla_policy.serving.openpi_contract import fit_image, load_openpi_contract
from vla_policy.types import CheckpointError, ObservationMismatchError, PolicyError, RobotState

msgpack_numpy = pytest.importorskip("openpi_client.msgpack_numpy")
EXAMPLES = Path(openpi_contract.__file__).parent / "openpi_servers"
SHAPE = (480, 640, 3)
Infer = Callable[[dict[str, Any]], Any]


class Server:
    """What openpi's own server does: its encoding, its errors; ``infer`` makes the answers.

    ``infer`` may return bytes or text that are sent as they are, None for no answer at all, and
    raise ConnectionError to leave.
    """

    def __init__(self, infer: Infer, metadata: dict[str, Any]) -> None:
        self.infer = infer
        self.connections = 0
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self._metadata = metadata

    def serve(self, connection: Any) -> None:
        """One client."""
        self.connections += 1
        self.headers.append(connection.request.headers)
        connection.send(msgpack_numpy.packb(self._metadata))
        with suppress(ConnectionClosed, ConnectionError):
            for data in connection:
                self.requests.append(msgpack_numpy.unpackb(data))
                try:
                    answer = self.infer(self.requests[-1])
                except ConnectionError:
                    raise
                except Exception:
                    connection.send(traceback.format_exc())
                    connection.close(1011)
                    return
                if answer is not None:
                    raw = isinstance(answer, bytes | str)
                    connection.send(answer if raw else msgpack_numpy.packb(answer))


@contextmanager
def running(infer: Infer, port: int = 0, **metadata: Any) -> Iterator[tuple[str, Server]]:
    """A server in threads; its address and itself."""
    server = Server(infer, metadata)
    with serve(server.serve, "127.0.0.1", port, close_timeout=0.1) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{listening.socket.getsockname()[1]}", server
        listening.shutdown()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes an example anew, for another server, with other entries."""

    def write_example(example: str, **changes: Any) -> Path:
        document = yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text(encoding="utf-8"))
        file = tmp_path / f"{example}.yaml"
        entries = {name: one for name, one in {**document, **changes}.items() if one != "gone"}
        file.write_text(yaml.safe_dump(entries), encoding="utf-8")
        return file

    return write_example


@pytest.fixture
def seen(observation: FakeObservation) -> FakeObservation:
    """An observation of larger cameras."""
    rng = np.random.default_rng(2)
    images = {n: rng.integers(0, 256, SHAPE, dtype=np.uint8) for n in ("scene", "wrist")}
    return dataclasses.replace(observation, images=images, gripper_opening=0.06)


def act(policy: Any, seen: FakeObservation) -> Any:
    return policy.act(policy.encode(seen), RobotState.of(seen))


def velocities(request: dict[str, Any]) -> dict[str, Any]:
    """A policy for DROID: joint i at a speed of its own, the gripper closing half-way."""
    del request
    actions = np.tile(np.append(0.1 * np.arange(7), 0.0), (10, 1)).astype(np.float32)
    actions[5:, 7] = 0.9
    return {"actions": actions, "policy_timing": {"infer_ms": np.float64(3.0)}}


# --- contracts ------------------------------------------------------------------------------------


def test_a_policy_for_droid_is_asked_and_read_in_its_own_terms(
    write: Callable[..., Path], seen: FakeObservation
) -> None:
    with running(velocities) as (address, server):
        chunk = act(connect(write("droid", server=address)), seen)
    (request,) = server.requests
    assert sorted(request) == [
        "observation/exterior_image_1_left",
        "observation/gripper_position",
        "observation/joint_position",
        "observation/wrist_image_left",
        "prompt",
    ]
    image = request["observation/exterior_image_1_left"]
    assert (image.shape, image.dtype) == ((224, 224, 3), np.uint8)
    np.testing.assert_array_equal(request["observation/joint_position"], seen.q)
    np.testing.assert_allclose(request["observation/gripper_position"], [0.25])
    assert request["prompt"] == seen.instruction
    # 1 is 3 rad/s for a fifteenth of a second; the first reference is one action ahead.
    steps = np.arange(1, 11)[:, None] * 0.2 * 0.1 * np.arange(7)
    np.testing.assert_allclose(chunk.commanded, seen.q + steps, atol=1e-6)
    np.testing.assert_allclose(chunk.gripper_opening, [0.08] * 5 + [0.0] * 5)
    assert (chunk.stamp_ns, chunk.is_joint) == (seen.stamp_ns, True)
    assert chunk.step_dt == pytest.approx(1.0 / 15.0)
    assert len(chunk.policy_id) == 16


def test_a_policy_for_libero_moves_the_tool(
    write: Callable[..., Path], seen: FakeObservation
) -> None:
    step = np.array([1.0, 0, 0, 0, 0, 0, 1.0])
    with running(lambda _: {"actions": np.tile(step, (10, 1))}) as (address, server):
        chunk = act(connect(write("libero", server=address)), seen)
    state = server.requests[0]["observation/state"]
    np.testing.assert_allclose(state[:3], [0.5, 0.0, 0.3])
    assert np.linalg.norm(state[3:6]) == pytest.approx(np.pi), "half a turn about x"
    np.testing.assert_allclose(state[6:], [0.03, -0.03])
    np.testing.assert_allclose(
        chunk.poses_tool_in_base[:, 0, 3], 0.5 + 0.05 * np.arange(1, 11), atol=1e-12
    )
    np.testing.assert_array_equal(chunk.gripper_opening, 0.0)


def test_a_server_without_a_name_is_known_by_what_it_says(write: Callable[..., Path]) -> None:
    def policy_id(metadata: dict[str, Any], **changes: Any) -> str:
        with running(velocities, **metadata) as (address, _):
            return connect(write("droid", server=address, **changes)).spec.policy_id

    known = policy_id({"checkpoint": "a"})
    assert policy_id({"checkpoint": "a"}) == known
    others = policy_id({"checkpoint": "b"}), policy_id({"checkpoint": "a"}, execute_steps=7)
    assert known not in others
    assert policy_id({"policy_id": "its own"}) == "its own"


@pytest.mark.parametrize("shape", [(480, 640), (96, 96), (300, 200), (224, 224)])
def test_images_are_fitted_as_openpi_fits_them(shape: tuple[int, int]) -> None:
    tools = pytest.importorskip("openpi_client.image_tools")
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = tools.resize_with_pad(image, 224, 224)
    np.testing.assert_array_equal(fit_image(image, 224), expected)


def test_it_is_the_policy_itself_behind_our_own_server(
    checkpoint: Path, observation: FakeObservation, write: Callable[..., Path], tmp_path: Path
) -> None:
    local = load_policy(checkpoint)
    assert isinstance(local, NanoPi0Policy)
    action = {"quantity": "pose", "relative_to": "observation", "rotation": "6d", "frame": "tool"}
    contract = {"sources": [], "step_dt": 0.05, "action": {**action, "gripper": {"unit": "m"}}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(contract), encoding="utf-8")
    more: dict[str, Any] = {
        "image_size": 96,
        "images": {openpi.IMAGE + name: name for name in ("scene", "wrist")},
        "state": {
            "observation/joint_position": ["joint_position"],
            "observation/joint_velocity": ["joint_velocity"],
            "observation/gripper_opening": ["gripper_opening"],
        },
        "action": "own.yaml",
        "horizon": 16,
    }
    with served(load_policy(checkpoint)) as (address, _):  # type: ignore[arg-type]
        file = write("droid", server=f"ws://{address}", **more)
        with pytest.raises(SchemaMismatchError, match="it wants observation/pose_tool_in_base"):
            connect(file)
        more["state"]["observation/pose_tool_in_base"] = ["pose"]
        file = write("droid", server=f"ws://{address}", **more)
        far = connect(file)
        expected = act(local, observation)
        chunk = act(far, observation)
    np.testing.assert_allclose(chunk.commanded, expected.commanded, atol=1e-6)
    np.testing.assert_allclose(chunk.gripper_opening, expected.gripper_opening, atol=1e-6)
    assert chunk.policy_id == expected.policy_id


@pytest.mark.parametrize("example", [path.stem for path in EXAMPLES.glob("*.yaml")])
def test_the_examples_can_be_read(example: str) -> None:
    contract = load_openpi_contract(EXAMPLES / f"{example}.yaml")
    assert (contract.spec.cameras, contract.spec.image_size) == (("scene", "wrist"), 224)
    assert contract.spec.joint_names == JOINTS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": "gone", "speed": 3}, "unknown speed, missing horizon; entries are server"),
        ({"image_size": 0}, "image_size is 0; valid: 1 to 4096"),
        ({"horizon": 2.5}, "horizon is 2.5; valid: 1 to"),
        ({"images": []}, r"images is \[\]; valid: a map"),
        ({"state": {"a": "position"}}, "state: a is 'position'; valid: a list"),
        ({"state": {"a": ["velocity"]}}, "part 'velocity' of the state; valid: joint_position"),
        ({"state": {"prompt": ["position"]}}, "stands for two things"),
        ({"action": "humanoid"}, "valid: droid_cartesian_position"),
        ({"joint_names": ["a"]}, "is for 7 joints, not 1"),
        ({"execute_steps": 11}, "execute_steps is 11"),
    ],
)
def test_contracts_that_cannot_be(
    write: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_openpi_contract(write("droid", **changes))


def test_what_names_a_server(tmp_path: Path, write: Callable[..., Path]) -> None:
    assert is_remote("ws://a:1")
    assert is_remote("wss://a:1")
    assert is_remote(tmp_path / "droid.yaml")
    assert not is_remote(tmp_path)
    with pytest.raises(CheckpointError, match="No such file"):
        connect(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="url is 'tcp://a'"):
        connect(write("droid", server="tcp://a"))
    with pytest.raises(SchemaMismatchError, match=r"is for the joints panda_joint1.*, not a, b"):
        connect(write("droid"), joint_names=("a", "b"))


# --- bad company ----------------------------------------------------------------------------------


def _bad(answer: Any) -> Infer:
    """Answers badly once, and well from then on."""
    told = iter([answer])
    return lambda request: next(told, velocities(request))


def _raise(error: Exception) -> Infer:
    first = iter([True])

    def infer(request: dict[str, Any]) -> dict[str, Any]:
        if next(first, False):
            raise error
        return velocities(request)

    return infer


@pytest.mark.parametrize(
    ("infer", "kind", "message"),
    [
        (_bad({"actions": np.zeros((10, 14))}), SchemaMismatchError, r"\(10, 14\).*\(10, 8\): 10"),
        (_bad({"actions": np.zeros((50, 8))}), SchemaMismatchError, r"\(50, 8\).*\(10, 8\)"),
        (_bad({"action": np.zeros((10, 8))}), SchemaMismatchError, "'actions'; it has action"),
        (_bad({"actions": [[0.0] * 8] * 10}), SchemaMismatchError, "no array"),
        (_bad({}), SchemaMismatchError, "it has nothing"),
        (_bad({"actions": np.full((10, 8), np.nan)}), MessageError, "joint_velocity/0 of step 0"),
        (_bad(b"\xc1garbage"), MessageError, "cannot be read"),
        (_bad(msgpack_numpy.packb(velocities({}))[:-9]), MessageError, "cannot be read"),
        (_bad(b""), MessageError, "cannot be read"),
        (_bad(b"\x80\x04\x95object"), MessageError, "cannot be read"),
        (_bad("some text"), PolicyError, "has failed: some text"),
        (_raise(KeyError("observation/state")), PolicyError, "failed: KeyError: 'observation/st"),
        (_bad(None), ServerUnreachableError, r"did not answer within 0\.3 s"),
    ],
)
def test_a_bad_answer_is_an_error_and_the_next_one_counts(
    write: Callable[..., Path], seen: FakeObservation, infer: Infer, kind: type, message: str
) -> None:
    with running(infer) as (address, _):
        policy = connect(write("droid", server=address), call_timeout=0.3)
        with pytest.raises(kind, match=message):
            act(policy, seen)
        assert act(policy, seen).commanded.shape == (10, 7)


def test_a_late_answer_is_not_taken_for_the_next_one(
    write: Callable[..., Path], seen: FakeObservation
) -> None:
    numbers = iter(range(9))

    def infer(request: dict[str, Any]) -> dict[str, Any]:
        number = next(numbers)
        time.sleep(0.4 * (number == 0))
        return {"actions": np.full((10, 8), 0.01 * number)}

    with running(infer) as (address, _):
        policy = connect(write("droid", server=address), call_timeout=0.2)
        with pytest.raises(ServerUnreachableError, match="did not answer"):
            act(policy, seen)
        for number in (1, 2):
            moved = act(policy, seen).commanded[0] - seen.q
            np.testing.assert_allclose(moved, 0.2 * 0.01 * number)


def test_a_server_that_leaves_an_idle_client_is_asked_again(
    write: Callable[..., Path], seen: FakeObservation
) -> None:
    with running(_raise(ConnectionError())) as (address, server):
        policy = connect(write("droid", server=address))
        assert act(policy, seen).commanded.shape == (10, 7)
        assert (server.connections, len(server.requests)) == (2, 2)


def test_attempts_to_connect_become_rarer(
    write: Callable[..., Path], seen: FakeObservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(velocities) as (address, _):
        policy = connect(write("droid", server=address))
    now = [100.0]
    monkeypatch.setattr("vla_policy.serving.client.time.monotonic", lambda: now[0])
    attempts = []
    assert isinstance(policy, openpi_client.OpenpiPolicy)
    tried = policy._connection._connect

    def counted() -> Any:
        attempts.append(now[0])
        return tried()

    monkeypatch.setattr(policy._connection, "_connect", counted)
    for _ in range(1000):  # 20 s of a node's looks
        with pytest.raises(ServerUnreachableError, match=r"no policy server|lost"):
            act(policy, seen)
        now[0] += 0.02
    pauses = np.diff(attempts)
    np.testing.assert_allclose(pauses[:6], [0.1, 0.2, 0.4, 0.8, 1.6, 3.2], atol=0.03)
    np.testing.assert_allclose(pauses[6:], 5.0, atol=0.03)
    with running(velocities, int(address.rsplit(":", 1)[1])):
        now[0] += 5.0
        assert act(policy, seen).commanded.shape == (10, 7)


def test_what_the_server_says_of_itself_is_compared(write: Callable[..., Path]) -> None:
    wanted = ["observation/exterior_image_1_left", "observation/tactile", "prompt"]
    with (
        running(velocities, observation=wanted, actions=["x", "y"]) as (address, _),
        pytest.raises(SchemaMismatchError) as caught,
    ):
        connect(write("droid", server=address))
    assert "it wants observation/tactile" in str(caught.value)
    assert "it does not know observation/wrist_image_left, observation/" in str(caught.value)
    assert "its actions are x, y, not joint_velocity/0" in str(caught.value)


def test_the_token_is_shown_as_openpi_shows_it(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLA_POLICY_TOKEN", "secret")
    with running(velocities) as (address, server):
        connect(write("droid", server=address))
        assert server.headers[0]["Authorization"] == "Api-Key secret"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {}}, "camera 'scene' is missing; found: none"),
        ({"images": dict.fromkeys(("scene", "wrist"), np.zeros(SHAPE[:2], np.uint8))}, "480, 640"),
        ({"images": dict.fromkeys(("scene", "wrist"), np.zeros(SHAPE))}, "float64"),
        ({"instruction": " "}, "instruction is empty"),
        ({"instruction": "x" * 10_000}, "10000 characters"),
        ({"q": np.zeros(6)}, r"q has shape \(6,\)"),
        ({"q": np.full(7, np.nan)}, "q is not finite"),
        ({"gripper_opening": np.inf}, "gripper_opening is not finite"),
    ],
)
def test_observations_that_do_not_fit_are_not_sent(
    write: Callable[..., Path], seen: FakeObservation, change: dict[str, Any], message: str
) -> None:
    with running(velocities) as (address, server):
        policy = connect(write("droid", server=address))
        with pytest.raises(ObservationMismatchError, match=message):
            act(policy, dataclasses.replace(seen, **change))
        assert not server.requests


def test_there_is_no_guidance(write: Callable[..., Path], seen: FakeObservation) -> None:
    with running(velocities) as (address, _):
        policy = connect(write("droid", server=address))
        context, state = policy.encode(seen), RobotState.of(seen)
        assert not policy.has_flow
        with pytest.raises(PolicyError, match="no guidance"):
            policy.act(context, state, lambda velocity: velocity)


def test_client_config_is_checked() -> None:
    with pytest.raises(ValueError, match="call_timeout is 0"):
        ClientConfig("ws://a", call_timeout=0.0)
