# SPDX-License-Identifier: Apache-2.0
"""An operator takes the arm from a running policy, moves it, and gives it back, over DDS."""

from __future__ import annotations

import itertools
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_loop import SOON, Watcher, assert_within_limits, position, seconds, speed
from geometry_msgs.msg import TwistStamped
from sensor_msgs.msg import JointState, Joy
from std_srvs.srv import Trigger

import vla_control
from vla_data.episode_reader import EpisodeReader
from vla_data.rows import read_rows, survey
from vla_msgs.msg import ControlOwner
from vla_msgs.srv import SetPaused
from vla_nodes.commands.convert import find_contract
from vla_nodes.teleop import keys
from vla_sim import robots

pytestmark = pytest.mark.timeout(300)

UP = (0.0, 0.0, 0.08)
PANDA = robots.get("panda")


class Device:
    """Publishes what an operator's hand would, at 50 Hz, until it is stopped."""

    def __init__(self, loop: Watcher) -> None:
        self.twists = loop.create_publisher(TwistStamped, "teleop/twist", 10)
        self.joys = loop.create_publisher(Joy, "joy", 10)
        self.message: Any = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="device")
        self._thread.start()

    def twist(self, linear: tuple[float, float, float]) -> None:
        message = TwistStamped()
        message.twist.linear.x, message.twist.linear.y, message.twist.linear.z = linear
        self.message = message

    def joy(self, up: float, *, held: bool) -> None:
        axes = [0.0] * 6
        axes[4] = up
        self.message = Joy(axes=axes, buttons=[0, 0, 0, 0, int(held), 0])

    def silent(self) -> None:
        self.message = None

    def close(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.02):
            message = self.message
            if message is not None:
                (self.joys if isinstance(message, Joy) else self.twists).publish(message)


@pytest.fixture
def loop(circle: Watcher) -> Iterator[Watcher]:
    """The running system at rest."""
    circle.begin_at_rest()
    yield circle
    circle.end_task()
    circle.wait("idle", lambda: circle.owner.state == ControlOwner.STATE_IDLE)


@pytest.fixture
def device(loop: Watcher) -> Iterator[Device]:
    device = Device(loop)
    yield device
    device.close()


@pytest.fixture
def teleop_node(request: pytest.FixtureRequest, domain: int, loop: Watcher) -> Iterator[None]:
    """The node as a process; its parameters are the test's."""
    parameters = [word for pair in request.param.items() for word in ("-p", ":=".join(pair))]
    process = subprocess.Popen(
        [sys.executable, "-m", "vla_nodes.teleop_node", "--ros-args", *parameters],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
    )
    try:
        loop.wait("teleop", lambda: loop.health.get("/teleop", (2, "", {}))[1] == "idle")
        yield
    finally:
        process.terminate()
        process.wait(SOON)
        loop.health.pop("/teleop", None)


def wait_for(loop: Watcher, state: int) -> None:
    loop.wait(f"state {state}", lambda: loop.owner.state == state)


def assert_rises(loop: Watcher, asked: float) -> None:
    """The arm goes up as it is told, and not faster."""
    began = len(loop.states)
    start = position(loop.state)[2]
    loop.wait("up", lambda: position(loop.state)[2] > start + 0.03)
    speeds = [s.reference_twist_tool_in_base.linear.z for s in loop.states[began:]]
    assert 0.8 * asked < max(speeds) < 1.05 * asked


def assert_rows_say_who_had_the_arm(loop: Watcher, bag: Path) -> None:
    """Policy, operator, policy; and the action is what the operator made of it."""
    loop.wait("metadata", (bag / "metadata.yaml").is_file)
    with EpisodeReader(bag) as reader:
        contract = find_contract([bag], str(Path(__file__).parent / "circle_system"), None)
        found = survey(reader, contract)
        rows = list(read_rows(reader, contract, found, 10, lambda q: np.eye(4)))
    sources = [row.control_source for row in rows]
    having = [source for source, _ in itertools.groupby(sources) if source != "none"]
    assert having == ["policy", "operator", "policy"]
    heights = [row.action[2] for row in rows if row.control_source == "operator"]
    assert max(heights) - min(heights) > 0.02


TWIST = {"input": "twist", "device": "pad"}


@pytest.mark.parametrize("teleop_node", [TWIST], indirect=True)
def test_the_operator_takes_over_moves_the_arm_and_the_policy_goes_on_from_there(
    loop: Watcher, device: Device, teleop_node: None
) -> None:
    loop.start_task()
    loop.wait_until_moving()
    began = seconds(loop.state)
    loop.wait("half a second of it", lambda: seconds(loop.state) > began + 0.5)
    grant = loop.owner.grant
    device.twist(UP)
    wait_for(loop, ControlOwner.STATE_TELEOP)
    assert loop.owner.reason == "granted to pad"
    assert loop.owner.instruction == "trace a circle", "the task waits"
    assert_rises(loop, UP[2])
    device.twist((0.0, 0.0, 0.0))
    loop.wait("still", lambda: speed(loop.state) < 0.01)
    left = position(loop.state)
    let_go = loop.create_client(Trigger, "teleop/let_go")
    device.silent()
    assert loop.call(let_go, Trigger.Request()).success
    wait_for(loop, ControlOwner.STATE_AUTONOMOUS)
    assert loop.owner.grant == grant + 2
    loop.wait_until_moving()
    assert abs(position(loop.state)[2] - left[2]) < 0.02, "from where the operator left it"
    assert_within_limits(loop.states)
    episode, began = loop.owner.episode_id, seconds(loop.state)
    loop.wait("a second of it", lambda: seconds(loop.state) > began + 1.0)
    loop.end_task()
    assert_rows_say_who_had_the_arm(loop, loop.bags / episode)


@pytest.mark.parametrize("teleop_node", [TWIST], indirect=True)
def test_a_device_that_falls_silent_or_talks_nonsense_leaves_a_hold(
    loop: Watcher, device: Device, teleop_node: None
) -> None:
    loop.start_task()
    for spoil in (device.silent, lambda: device.twist((float("nan"), 0.0, 0.0))):
        loop.wait_until_moving()
        device.twist(UP)
        wait_for(loop, ControlOwner.STATE_TELEOP)
        assert_rises(loop, UP[2])
        spoil()
        began = seconds(loop.state)
        loop.wait("at rest", lambda: abs(loop.state.reference_twist_tool_in_base.linear.z) < 1e-3)
        assert seconds(loop.state) - began < 5.0  # of simulated time, on a busy machine
        wait_for(loop, ControlOwner.STATE_PAUSED)
        assert loop.owner.reason == "pad is silent"
        loop.wait_until_holding()
        device.silent()  # after nonsense it has to be, for a moment
        loop.wait("idle", lambda: loop.health["/teleop"][1] == "idle")
        loop.call(loop.pause, SetPaused.Request(paused=False))
    loop.wait_until_moving()
    assert int(loop.health["/teleop"][2]["inputs rejected"]) > 0
    assert_within_limits(loop.states)


@pytest.mark.parametrize("teleop_node", [{"device": "gamepad"}], indirect=True)
def test_a_gamepad_moves_the_arm_only_while_its_button_is_held(
    loop: Watcher, device: Device, teleop_node: None
) -> None:
    device.joy(0.5, held=False)
    loop.wait("idle", lambda: loop.health["/teleop"][1] == "idle")
    start = position(loop.state)
    device.joy(0.5, held=True)
    wait_for(loop, ControlOwner.STATE_TELEOP)
    assert_rises(loop, 0.5 * 0.15)
    device.joy(0.5, held=False)
    wait_for(loop, ControlOwner.STATE_IDLE)
    loop.wait_until_holding()
    assert position(loop.state)[2] > start[2] + 0.02
    assert_within_limits(loop.states)


class Leader:
    """A second Panda that somebody moves by its first joint, and a button, at 50 Hz."""

    def __init__(self, loop: Watcher, q: list[float]) -> None:
        self.held = False
        self.rate = 0.0  # rad/s
        self.q = np.array(q)
        self._joints = loop.create_publisher(JointState, "leader/joint_states", 10)
        self._joys = loop.create_publisher(Joy, "joy", 10)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leader")
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()

    def tool(self) -> np.ndarray:
        """Where its tool is, m."""
        return np.array(vla_control.RobotModel(PANDA.description()).forward_kinematics(self.q))[
            :3, 3
        ]

    def _run(self) -> None:
        while not self._end.wait(0.02):
            self.q[0] += 0.02 * self.rate
            self._joys.publish(Joy(buttons=[0, 0, 0, 0, int(self.held)]))
            self._joints.publish(JointState(name=list(PANDA.joint_names), position=list(self.q)))


def reference(loop: Watcher) -> np.ndarray:
    """Where the controller's reference is, m."""
    p = loop.state.reference_pose_tool_in_base.position
    return np.array([p.x, p.y, p.z])


@pytest.fixture
def leader(loop: Watcher, domain: int, tmp_path: Path) -> Iterator[Leader]:
    """The arm by hand, and `vla teleop` that listens to it."""
    urdf = tmp_path / "leader.urdf"
    urdf.write_text(PANDA.urdf_xml)
    values = {
        "leader_urdf": str(urdf),
        "leader_joint_names": list(PANDA.joint_names),
        "leader_base_frame": PANDA.base_frame,
        "leader_tool_frame": PANDA.tool_frame,
    }
    words = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    process = subprocess.Popen(
        [sys.executable, "-m", "vla_nodes.commands.cli", "teleop", "--device", "leader", *words],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
    )
    leader = Leader(loop, [0.4, *PANDA.home_q[1:]])
    try:
        loop.wait("teleop", lambda: loop.health.get("/teleop", (2, "", {}))[1] == "idle")
        yield leader
    finally:
        leader.close()
        process.terminate()
        process.wait(SOON)
        loop.health.pop("/teleop", None)


def test_a_leader_arm_is_followed_from_wherever_it_is_and_not_where_it_jumps(
    loop: Watcher, leader: Leader
) -> None:
    leader.held = True
    wait_for(loop, ControlOwner.STATE_TELEOP)
    assert loop.owner.reason == "granted to leader"
    loop.wait("clutched", lambda: loop.granted)
    start, led = reference(loop), leader.tool()
    leader.rate = 0.1
    loop.wait("moved", lambda: np.linalg.norm(reference(loop) - start) > 0.03)
    leader.rate = 0.0
    moved = leader.tool() - led
    loop.wait("there", lambda: np.linalg.norm(reference(loop) - start - moved) < 0.002)
    leader.held = False
    wait_for(loop, ControlOwner.STATE_IDLE)
    loop.wait_until_holding()
    left = reference(loop)
    leader.q[0] -= 0.5  # moved without the arm, to have room
    leader.held = True
    wait_for(loop, ControlOwner.STATE_TELEOP)
    loop.granted.clear()
    loop.wait("clutched anew", lambda: len(loop.granted) > 5)
    assert np.linalg.norm(reference(loop) - left) < 0.005
    leader.q[0] += 0.5
    loop.wait("refused", lambda: "jumped by" in loop.health["/teleop"][1])
    wait_for(loop, ControlOwner.STATE_IDLE)
    loop.wait_until_holding()
    assert np.linalg.norm(reference(loop) - left) < 0.005
    assert_within_limits(loop.states)


def test_the_keyboard_of_a_terminal_takes_over_and_the_space_bar_gives_back(
    loop: Watcher, domain: int
) -> None:
    loop.start_task()
    loop.wait_until_moving()
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vla_nodes.commands.cli", "teleop"],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    held = threading.Event()
    held.set()
    end = threading.Event()

    def hold() -> None:
        while not end.wait(0.05):
            if held.is_set():
                os.write(ours, b"r")

    hand = threading.Thread(target=hold, name="hand")
    drain = threading.Thread(target=drained, args=(ours,), daemon=True)
    hand.start()
    drain.start()
    try:
        wait_for(loop, ControlOwner.STATE_TELEOP)
        assert loop.owner.reason == "granted to keyboard"
        assert_rises(loop, 0.1)
        held.clear()
        os.write(ours, keys.GO_ON.encode())
        wait_for(loop, ControlOwner.STATE_AUTONOMOUS)
        loop.wait_until_moving()
        os.write(ours, keys.QUIT.encode())
        assert process.wait(SOON) == 0
    finally:
        end.set()
        hand.join()
        process.kill()
        process.wait()
        os.close(ours)
    assert_within_limits(loop.states)


def drained(descriptor: int) -> None:
    """Reads what a terminal shows, so that its writer never waits."""
    while True:
        try:
            if not os.read(descriptor, 4096):
                return
        except OSError:
            return
