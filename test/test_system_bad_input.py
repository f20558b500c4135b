# SPDX-License-Identifier: Apache-2.0
"""Bad input stops the inference by name, is counted in /diagnostics, and is forgotten when it ends.

One policy_node, with the committed policy in its own process or with one behind openpi's protocol;
its robot and its server are the test's, and do as they should but for one thing at a time.
"""

from __future__ import annotations

import array
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from vla_msgs.msg import ActionChunk, ControlOwner
from vla_nodes import convert
from vla_nodes.node_tools import IMAGES, LATCHED, RELIABLE
from vla_nodes.policy_node import PolicyNode
from vla_policy.serving import wire
from vla_sim import robots

SOON = 60.0  # s
RATE = 30.0  # Hz
ROBOT = robots.get("panda")
HORIZON = 10
# Changes a message before it is sent; None = it is not sent.
Spoil = Callable[[str, Any], Any]


class Robot(Node):
    """Cameras, joints and supervisor; ``spoil`` is what is wrong."""

    def __init__(self, context: Context) -> None:
        super().__init__("robot", context=context)
        self.spoil: Spoil = lambda topic, message: message
        self.health: tuple[bytes, str, dict[str, str]] = (DiagnosticStatus.STALE, "", {})
        self.told = 0
        self.chunks: list[ActionChunk] = []
        make = self.create_publisher
        self._outputs = {
            "scene": make(Image, "cameras/scene/image_raw", IMAGES),
            "wrist": make(Image, "cameras/wrist/image_raw", IMAGES),
            "joints": make(JointState, "joint_states", RELIABLE),
            "owner": make(ControlOwner, "control_owner", RELIABLE),
        }
        self._description = make(String, "robot_description", LATCHED)
        self._description.publish(String(data=ROBOT.urdf_xml))
        self._picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_health, RELIABLE)
        self.create_subscription(ActionChunk, "policy/action_chunk", self.chunks.append, RELIABLE)
        self.create_timer(1.0 / RATE, self._publish)

    def _publish(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        names = [*ROBOT.joint_names, "panda_finger_joint1", "panda_finger_joint2"]
        q = np.array([*ROBOT.home_q, 0.02, 0.02])
        messages = {
            "joints": convert.to_joint_state(now_ns, names, q, np.zeros(9)),
            "scene": convert.to_image(now_ns, "scene", self._picture),
            "wrist": convert.to_image(now_ns, "wrist", self._picture),
            "owner": ControlOwner(
                header=convert.header(now_ns),
                boot_id=1,
                grant=1,
                owner=ControlOwner.OWNER_POLICY,
                state=ControlOwner.STATE_AUTONOMOUS,
                instruction="touch the red cube",
                instruction_id=1,
            ),
        }
        for name, message in messages.items():
            spoiled = self.spoil(name, message)
            if spoiled is not None:
                self._outputs[name].publish(spoiled)

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "/policy":
                values = {pair.key: pair.value for pair in status.values}
                self.health = (status.level, status.message, values)
                self.told += 1

    def count(self, part: str) -> int:
        """How often something was wrong with a part."""
        return int(self.health[2].get(f"blocked: {part}", 0))

    def wait(self, what: str, predicate: Callable[[], Any]) -> None:
        """Waits until a predicate holds."""
        deadline = time.monotonic() + SOON
        while not predicate():
            assert time.monotonic() < deadline, f"{what}: not within {SOON} s; {self.health}"
            time.sleep(0.01)

    def infers(self) -> None:
        """Waits for two more chunks, the second of which began when all was well."""
        count = len(self.chunks)
        self.wait("chunks", lambda: len(self.chunks) >= count + 2)
        self.wait("health", lambda: self.health[0] == DiagnosticStatus.OK)


class Server:
    """Speaks openpi's protocol; ``answer`` makes the bytes or the text, None says nothing."""

    def __init__(self) -> None:
        self.answer: Callable[[], bytes | str | None] = good
        self._server = serve(self._serve, "127.0.0.1", 0, close_timeout=0.1)
        self.port = int(self._server.socket.getsockname()[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _serve(self, connection: Any) -> None:
        connection.send(wire.pack({}))
        with suppress(ConnectionClosed, ConnectionError):
            for _ in connection:
                answer = self.answer()
                if answer is not None:
                    connection.send(answer)

    def close(self) -> None:
        """Ends."""
        self._server.shutdown()


def good() -> bytes:
    """Actions that leave the tool where it is."""
    return wire.pack({"actions": np.zeros((HORIZON, 7), dtype=np.float32)})


def write_contract(file: Path, port: int) -> Path:
    """How the test's server is asked."""
    entries = {
        "server": f"ws://127.0.0.1:{port}",
        "robot": "panda",
        "joint_names": list(ROBOT.joint_names),
        "image_size": 64,
        "images": {"image": "scene", "wrist_image": "wrist"},
        "state": {"state": ["position", "rotation_vector", "finger_positions"]},
        "prompt": "prompt",
        "action": "libero",
        "max_opening": 0.08,
        "horizon": HORIZON,
        "execute_steps": 4,
        "latency_s": 0.0,
    }
    file.write_text(yaml.safe_dump(entries), encoding="utf-8")
    return file


def spin(executor: SingleThreadedExecutor) -> None:
    """Until the context is shut down."""
    with suppress(ExternalShutdownException):
        executor.spin()


class Rig:
    """A node, its robot and its server."""

    def __init__(self, robot: Robot, node: PolicyNode, server: Server) -> None:
        self.robot, self.node, self.server = robot, node, server

    def suffers(self, part: str, words: str) -> None:
        """Waits until what is wrong is counted and said; no chunk is sent then."""
        robot, before = self.robot, self.robot.count(part)
        robot.wait(part, lambda: robot.count(part) > before)
        assert robot.health[0] == DiagnosticStatus.WARN
        assert words in robot.health[1], robot.health
        count, told = len(robot.chunks), robot.told
        robot.wait("more diagnostics", lambda: robot.told > told + 2)
        assert len(robot.chunks) == count


@contextmanager
def running(checkpoint: str, domain: int, server: Server) -> Iterator[Rig]:
    """A node that infers; it must do so again at the end."""
    parameters = {"checkpoint": checkpoint, "server_timeout": 0.5, "diagnostics_rate": 10.0}
    arguments = [one for pair in parameters.items() for one in ("-p", "{}:={}".format(*pair))]
    rclpy.init(args=["--ros-args", *arguments], domain_id=domain)
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node, robot = PolicyNode(), Robot(context)
    threads = []
    for one, within in ((node, None), (robot, context)):
        executor = SingleThreadedExecutor(context=within)
        executor.add_node(one)
        threads.append(threading.Thread(target=spin, args=(executor,), daemon=True))
    try:
        node.trigger_configure()
        node.trigger_activate()
        for thread in threads:
            thread.start()
        robot.infers()
        yield Rig(robot, node, server)
        robot.infers()
    finally:
        node.close()
        rclpy.shutdown()
        rclpy.shutdown(context=context)
        for thread in threads:
            thread.join(SOON)


@contextmanager
def here(domain: int, folder: Path) -> Iterator[Rig]:
    """The committed policy, in the node's own process."""
    del folder
    server = Server()
    with running("nano_pi0", domain, server) as rig:
        yield rig
    server.close()


@contextmanager
def far(domain: int, folder: Path) -> Iterator[Rig]:
    """A policy behind openpi's protocol."""
    server = Server()
    with running(str(write_contract(folder / "server.yaml", server.port)), domain, server) as rig:
        yield rig
    server.close()


class Rigs:
    """One at a time: there is one default context in a process."""

    def __init__(self, domain: int, folder: Path) -> None:
        self._domain, self._folder = domain, folder
        self._make: Any = None
        self._stack = ExitStack()
        self._rig: Any = None

    def get(self, make: Any) -> Rig:
        """The one that runs, if it is of this kind, or a new one."""
        if make is not self._make:
            self.close()
            self._make = make
            self._rig = self._stack.enter_context(make(self._domain, self._folder))
        return self._rig  # type: ignore[no-any-return]

    def close(self) -> None:
        """Ends it."""
        self._stack.close()


@pytest.fixture(scope="module")
def rigs(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rigs]:
    made = Rigs(domain + 7, tmp_path_factory.mktemp("openpi"))
    yield made
    made.close()


# --- what a robot may say -------------------------------------------------------------------------


def of(name: str, change: Callable[[Any], Any]) -> Spoil:
    """Changes one of the messages."""
    return lambda topic, message: change(message) if topic == name else message


def without(name: str) -> Spoil:
    """Leaves one of the messages out."""
    return lambda topic, message: None if topic == name else message


def resized(message: Image) -> Image:
    """An image of another size."""
    return convert.to_image(
        convert.from_time(message.header.stamp), "scene", np.zeros((48, 64, 3), dtype=np.uint8)
    )


def encoded(encoding: str) -> Callable[[Image], Image]:
    """The same bytes under another name."""

    def change(message: Image) -> Image:
        message.encoding = encoding
        return message

    return change


def cut(message: Image) -> Image:
    """Half the bytes."""
    message.data = message.data[: len(message.data) // 2]
    return message


def aged(message: Any) -> Any:
    """A second old."""
    message.header.stamp = convert.to_time(convert.from_time(message.header.stamp) - 10**9)
    return message


def joint(index: int, value: float, field: str = "position") -> Callable[[JointState], JointState]:
    """One joint says something else."""

    def change(message: JointState) -> JointState:
        values = array.array("d", getattr(message, field))
        values[index] = value
        setattr(message, field, values)
        return message

    return change


def renamed(message: JointState) -> JointState:
    """A joint goes by another name."""
    message.name = ["other", *list(message.name)[1:]]
    return message


def instructed(text: str, number: int) -> Callable[[ControlOwner], ControlOwner]:
    """Another instruction."""

    def change(message: ControlOwner) -> ControlOwner:
        message.instruction, message.instruction_id = text, number
        return message

    return change


NAN = float("nan")
SENSED = {
    "encoding bgr8": (of("scene", encoded("bgr8")), "camera 'scene'", "has encoding 'bgr8'"),
    "16 bits": (of("scene", encoded("mono16")), "camera 'scene'", "mono16"),
    "half an image": (of("wrist", cut), "camera 'wrist'", "bytes"),
    "no camera": (without("wrist"), "camera 'wrist'", "stale"),
    "stale camera": (of("scene", aged), "camera 'scene'", "stale"),
    "no joints": (without("joints"), "joints", "stale"),
    "stale joints": (of("joints", aged), "joints", "stale"),
    "NaN position": (of("joints", joint(2, NAN)), "joints", "position of panda_joint3 is nan"),
    "NaN velocity": (of("joints", joint(0, NAN, "velocity")), "joints", "velocity of panda_joint1"),
    "infinite finger": (of("joints", joint(7, np.inf)), "gripper", "panda_finger_joint1 is inf"),
    "missing joint": (of("joints", renamed), "joints", "lacks panda_joint1"),
    "no instruction": (of("owner", instructed("  ", 7)), "instruction", "is empty"),
    "10,000 characters": (
        of("owner", instructed("x" * 10_000, 8)),
        "inference: ObservationMismatchError",
        "10000 characters",
    ),
}
SIZED = {"another size": (of("scene", resized), "camera 'scene'", "is 64x48 px")}


@pytest.mark.parametrize(
    ("make", "what"),
    [*((here, what) for what in {**SENSED, **SIZED}), *((far, what) for what in SENSED)],
)
def test_a_robot_that_is_not_as_it_should_be(rigs: Rigs, make: Any, what: str) -> None:
    rig = rigs.get(make)
    spoil, part, words = {**SENSED, **SIZED}[what]
    whole = rig.robot.spoil
    rig.robot.spoil = spoil
    try:
        rig.suffers(part, words)
    finally:
        rig.robot.spoil = whole
    rig.robot.infers()


# --- what a server may say ------------------------------------------------------------------------


def actions(value: Any) -> Callable[[], bytes]:
    """An answer with other actions."""
    return lambda: wire.pack({"actions": value})


def late() -> bytes:
    """Right, but after the node's patience has ended."""
    time.sleep(0.7)
    return good()


def leave() -> bytes:
    """Nothing: the connection ends."""
    raise ConnectionError


SAID = {
    "late": (late, "ServerUnreachableError", "did not answer within 0.5 s"),
    "never": (lambda: None, "ServerUnreachableError", "did not answer within 0.5 s"),
    "gone": (leave, "ConnectionLostError", "was lost"),
    "garbage": (lambda: b"\xc1garbage", "MessageError", "cannot be read"),
    "half a message": (lambda: good()[:-20], "MessageError", "cannot be read"),
    "an error": (lambda: "Traceback ...\nKeyError: 'state'", "PolicyError", "KeyError: 'state'"),
    "another shape": (actions(np.zeros((50, 32))), "SchemaMismatchError", "(50, 32)"),
    "no array": (actions("up"), "SchemaMismatchError", "no array 'actions'"),
    "NaN": (actions(np.full((HORIZON, 7), NAN)), "MessageError", "x of step 0"),
    "infinite": (actions(np.full((HORIZON, 7), np.inf)), "MessageError", "is inf"),
}


@pytest.mark.parametrize("what", SAID)
def test_a_server_that_is_not_as_it_should_be(rigs: Rigs, what: str) -> None:
    rig = rigs.get(far)
    answer, kind, words = SAID[what]
    rig.server.answer = answer
    try:
        rig.suffers(f"inference: {kind}", words)
    finally:
        rig.server.answer = good
    rig.robot.infers()
