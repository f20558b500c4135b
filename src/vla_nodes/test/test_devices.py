# SPDX-License-Identifier: Apache-2.0
"""Gamepad, SpaceMouse, pedal and leader arm, by what the kernel and the joints say."""

from __future__ import annotations

import fcntl
import math
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from kernel import ABS, DROPPED, EVENT, KEY, REPORT, FakeDevice, Kernel
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState, Joy

import vla_control
from vla_msgs.msg import ControllerState, TeleopCommand
from vla_nodes.commands.teleop import overrides
from vla_nodes.node_tools import RELIABLE
from vla_nodes.parameters import ParameterError
from vla_nodes.teleop.clutch import Input, InputError
from vla_nodes.teleop.devices import Absent, beyond_dead_zone, evdev
from vla_nodes.teleop.devices.gamepad import Gamepad
from vla_nodes.teleop.devices.hand_held import HandHeldSettings
from vla_nodes.teleop.devices.leader import LeaderArm, LeaderSettings
from vla_nodes.teleop.devices.pedal import Pedal
from vla_nodes.teleop.devices.spacemouse import SpaceMouse
from vla_nodes.teleop_node import TeleopNode
from vla_sim import robots

SETTINGS = HandHeldSettings(
    speed=0.2, turning=0.5, dead_zone=0.1, in_tool=False, max_opening=0.08, unchanged_limit=1.0
)
FULL = 32767


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made = Kernel(tmp_path, monkeypatch)
    yield made
    for device in made.devices:
        if device.path.exists():
            device.unplug()


def twist_of(said: Input | Absent) -> np.ndarray:
    assert isinstance(said, Input), said
    assert said.twist is not None
    return said.twist


def test_requests_are_those_of_the_kernels_header() -> None:
    asked: list[int] = []

    class Listening:
        @staticmethod
        def ioctl(descriptor: int, request: int, argument: bytes) -> bytes:
            asked.append(request)
            return argument

    numbers = ((0x06, 256), (0x18, 96), (0x21, 96), (0x43, 24))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evdev, "fcntl", Listening)
        for number, size in numbers:
            evdev._ask(0, number, size)
    # EVIOCGNAME(256), EVIOCGKEY(96), EVIOCGBIT(EV_KEY, 96), EVIOCGABS(ABS_RX), EVIOCGRAB
    assert asked == [0x81004506, 0x80604518, 0x80604521, 0x80184543]
    assert evdev.GRAB == 0x40044590


def test_a_gamepad_asks_for_motion_only_while_its_button_is_held(kernel: Kernel) -> None:
    pad = kernel.gamepad()
    device = Gamepad(SETTINGS)
    assert device.poll(0.0) is Absent.RELEASED
    pad.push(Y=-FULL - 1)
    assert device.poll(0.1) is Absent.RELEASED, "a stick alone moves nothing"
    pad.press(evdev.LEFT_SHOULDER)
    np.testing.assert_allclose(twist_of(device.poll(0.2)), [0.2, 0, 0, 0, 0, 0])
    pad.release(evdev.LEFT_SHOULDER)
    assert device.poll(0.3) is Absent.RELEASED


@pytest.mark.parametrize(
    ("push", "axis", "sign"),
    [
        ({"Y": -FULL - 1}, 0, 1.0),  # away from the user is forward
        ({"X": -FULL - 1}, 1, 1.0),  # left
        ({"RY": -FULL - 1}, 2, 1.0),  # up
        ({"RX": -FULL - 1}, 5, 1.0),  # turns to the left
        ({"RX": FULL}, 5, -1.0),
        ({"HAT_X": 1}, 3, 1.0),
        ({"HAT_Y": -1}, 4, 1.0),
    ],
)
def test_the_sticks_of_a_gamepad(
    kernel: Kernel, push: dict[str, int], axis: int, sign: float
) -> None:
    pad = kernel.gamepad()
    device = Gamepad(SETTINGS)
    device.poll(0.0)
    pad.press(evdev.LEFT_SHOULDER)
    pad.push(**push)
    expected = np.zeros(6)
    expected[axis] = sign * (0.2 if axis < 3 else 0.5)
    np.testing.assert_allclose(twist_of(device.poll(0.1)), expected, atol=1e-12)


def test_a_right_stick_may_be_on_z_and_rz(kernel: Kernel) -> None:
    wide = evdev.Range(0, 65535)
    codes = (evdev.X, evdev.Y, evdev.Z, evdev.RZ)
    places = dict.fromkeys(codes, 32768)
    keys = {evdev.SOUTH, evdev.EAST, evdev.LEFT_SHOULDER}
    pad = kernel.plug("Wireless", keys, ranges=dict.fromkeys(codes, wide), places=places)
    device = Gamepad(SETTINGS)
    device.poll(0.0)
    pad.press(evdev.LEFT_SHOULDER)
    np.testing.assert_allclose(twist_of(device.poll(0.1)), np.zeros(6), err_msg="as it was left")
    pad.push(RZ=0)
    np.testing.assert_allclose(twist_of(device.poll(0.2)), [0, 0, 0.2, 0, 0, 0], atol=1e-12)


def test_a_dead_zone_ends_without_a_step() -> None:
    values = np.array([0.0, 0.1, -0.1, 0.1001, -0.55, 1.0])
    expected = [0.0, 0.0, 0.0, 0.0001 / 0.9, -0.5, 1.0]
    np.testing.assert_allclose(beyond_dead_zone(values, 0.1), expected, atol=1e-12)
    assert np.isnan(beyond_dead_zone(np.array([np.nan]), 0.1)).all(), "what is no number stays so"


def test_the_gripper_follows_presses_however_short_and_only_while_held(kernel: Kernel) -> None:
    pad = kernel.gamepad()
    device = Gamepad(SETTINGS)
    pad.press(evdev.SOUTH)
    assert device.poll(0.0) is Absent.RELEASED
    pad.release(evdev.SOUTH)
    pad.press(evdev.LEFT_SHOULDER)
    held = device.poll(0.1)
    assert isinstance(held, Input)
    assert held.opening is None, "as it is"
    pad.press(evdev.EAST)
    pad.release(evdev.EAST)  # before anybody looks
    opened = device.poll(0.2)
    assert isinstance(opened, Input)
    assert opened.opening == 0.08
    pad.press(evdev.EAST, evdev.SOUTH)
    closed = device.poll(0.3)
    assert isinstance(closed, Input)
    assert closed.opening == 0.0, "both at once drop nothing"
    pad.release(evdev.LEFT_SHOULDER)
    device.poll(0.4)
    pad.press(evdev.LEFT_SHOULDER)
    again = device.poll(0.5)
    assert isinstance(again, Input)
    assert again.opening is None, "the next hold begins with the gripper as it is"


def test_unplugged_it_is_lost_and_plugged_in_again_it_has_to_be_let_go_first(
    kernel: Kernel,
) -> None:
    pad = kernel.gamepad()
    device = Gamepad(SETTINGS)
    device.poll(0.0)
    pad.press(evdev.LEFT_SHOULDER)
    pad.push(Y=-FULL)
    assert twist_of(device.poll(0.1)).any()
    pad.unplug()
    assert device.poll(0.11) is Absent.LOST
    assert device.problem.startswith("lost: Pad")
    back = kernel.gamepad(down={evdev.LEFT_SHOULDER}, places={evdev.Y: -FULL})
    assert device.poll(0.2) is Absent.LOST, "it looks once a second"
    assert device.poll(1.2) is Absent.LOST, "it is back, but nobody has let go"
    assert "has to be let go" in device.problem
    back.release(evdev.LEFT_SHOULDER)
    assert device.poll(1.3) is Absent.RELEASED
    assert device.problem == ""
    back.press(evdev.LEFT_SHOULDER)
    assert twist_of(device.poll(1.4)).any()


def test_a_motion_in_which_nothing_changes_is_not_believed_for_long(kernel: Kernel) -> None:
    pad = kernel.gamepad()
    device = Gamepad(SETTINGS)
    device.poll(0.0)
    pad.press(evdev.LEFT_SHOULDER)
    assert isinstance(device.poll(0.1), Input)
    assert isinstance(device.poll(60.0), Input), "a hold that asks for no motion may last"
    pad.push(X=FULL)
    assert twist_of(device.poll(61.0)).any()
    assert twist_of(device.poll(61.9)).any()
    assert device.poll(62.1) is Absent.LOST
    assert "nothing has changed" in device.problem
    pad.push(X=FULL - 5)
    assert device.poll(62.2) is Absent.LOST, "until it is let go"
    pad.release(evdev.LEFT_SHOULDER)
    assert device.poll(62.3) is Absent.RELEASED
    for_ever = Gamepad(replace(SETTINGS, unchanged_limit=0.0))
    device.close()
    pad.grabbed = False
    for_ever.poll(63.0)
    pad.press(evdev.LEFT_SHOULDER)
    assert twist_of(for_ever.poll(64.0)).any()
    assert twist_of(for_ever.poll(1e4)).any()


def test_after_events_were_lost_it_is_asked_how_it_is(kernel: Kernel) -> None:
    pad = kernel.gamepad()
    device = Gamepad(SETTINGS)
    device.poll(0.0)
    pad.press(evdev.LEFT_SHOULDER)
    pad.push(Y=-FULL)
    assert twist_of(device.poll(0.1)).any()
    # The release of the button is among what was lost.
    pad.down.clear()
    late = EVENT.pack(0, 0, ABS, evdev.Y, FULL)
    pad.write(EVENT.pack(0, 0, *DROPPED) + late + EVENT.pack(0, 0, *REPORT))
    assert device.poll(0.2) is Absent.RELEASED
    pad.press(evdev.LEFT_SHOULDER)
    assert twist_of(device.poll(0.3))[0] > 0.19, "what came in the same frame does not count"


def test_a_frame_counts_as_a_whole_and_what_is_no_event_is_a_loss(kernel: Kernel) -> None:
    pad = kernel.gamepad()
    device = Gamepad(SETTINGS)
    device.poll(0.0)
    pad.write(EVENT.pack(0, 0, KEY, evdev.LEFT_SHOULDER, 1))
    assert device.poll(0.1) is Absent.RELEASED
    pad.write(EVENT.pack(0, 0, *REPORT))
    assert isinstance(device.poll(0.2), Input)
    pad.write(b"garbage")
    assert device.poll(0.3) is Absent.LOST


def test_the_right_device_is_found_and_the_wrong_ones_are_left_alone(kernel: Kernel) -> None:
    keyboard = kernel.plug("Keyboard", set(range(1, 200)))
    sensors = kernel.plug("Pad Motion Sensors", set(), ranges={evdev.X: evdev.Range(0, 9)})
    device = Gamepad(SETTINGS)
    assert device.poll(0.0) is Absent.LOST
    assert device.problem == "no gamepad is there"
    first, second = kernel.gamepad("One"), kernel.gamepad("Two")
    assert device.poll(1.0) is Absent.RELEASED, "plugged in later"
    named, by_path = Gamepad(SETTINGS, "Two"), Gamepad(SETTINGS, str(second.path))
    assert named.poll(1.0) is Absent.RELEASED
    assert by_path.poll(1.0) is Absent.LOST
    assert "in use by another program" in by_path.problem
    grabbed = [one.grabbed for one in (keyboard, sensors, first, second)]
    assert grabbed == [False, False, True, True]
    missing = Gamepad(SETTINGS, "Three")
    assert missing.poll(2.0) is Absent.LOST
    assert "called 'Three'" in missing.problem


def test_a_device_that_may_not_be_read_is_told(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.gamepad()

    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(f"not {path}")

    monkeypatch.setattr(evdev.os, "open", refuse)
    device = Gamepad(SETTINGS)
    assert device.poll(0.0) is Absent.LOST
    assert device.problem == f"no gamepad is there; 1 in {kernel.folder} may not be read"


@pytest.mark.parametrize("relative", [False, True])
def test_a_spacemouse_moves_the_tool_as_the_cap_is_moved(kernel: Kernel, relative: bool) -> None:
    cap = kernel.spacemouse(relative=relative)
    device = SpaceMouse(SETTINGS)
    device.poll(0.0)
    cap.press(evdev.BUTTON_0)
    moved = {}
    for number, axis in enumerate(("X", "Y", "Z", "RX", "RY", "RZ")):
        cap.push(**{axis: 350})
        moved[axis] = twist_of(device.poll(number + 1.0))
        cap.push(**{axis: 0})
        device.poll(number + 1.2)
    right, back, down = (moved[axis] for axis in ("X", "Y", "Z"))
    np.testing.assert_allclose(right, [0, -0.2, 0, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(back, [-0.2, 0, 0, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(down, [0, 0, -0.2, 0, 0, 0], atol=1e-12)
    for push, turn in (("X", "RX"), ("Y", "RY"), ("Z", "RZ")):
        np.testing.assert_allclose(moved[turn][3:] / 0.5, moved[push][:3] / 0.2, atol=1e-12)


def test_a_relative_cap_that_says_nothing_is_at_rest(kernel: Kernel) -> None:
    cap = kernel.spacemouse(relative=True)
    device = SpaceMouse(SETTINGS)
    device.poll(0.0)
    cap.press(evdev.BUTTON_0)
    cap.push(X=-350)
    assert twist_of(device.poll(1.0))[1] == pytest.approx(0.2)
    assert twist_of(device.poll(1.08))[1] == pytest.approx(0.2), "between two reports"
    assert not twist_of(device.poll(1.2)).any()
    assert isinstance(device.poll(9.0), Input), "it is held still"


def test_the_right_button_of_a_spacemouse_closes_first(kernel: Kernel) -> None:
    cap = kernel.spacemouse(relative=False)
    device = SpaceMouse(SETTINGS)
    device.poll(0.0)
    cap.press(evdev.BUTTON_0)
    openings = []
    for number in range(3):
        cap.press(evdev.BUTTON_1)
        said = device.poll(number + 1.0)
        cap.release(evdev.BUTTON_1)
        assert isinstance(said, Input)
        openings.append(said.opening)
    assert openings == [0.0, 0.08, 0.0]


def test_a_pedal_is_held_by_any_key_and_lost_when_it_is_unplugged(kernel: Kernel) -> None:
    pedal = kernel.plug("Foot Switch", {30, 31}, down={30})
    device = Pedal("Foot")
    assert device.poll(0.0) is Absent.LOST, "plugged in while somebody stands on it"
    pedal.release(30)
    assert device.poll(0.1) is Absent.RELEASED
    pedal.press(31)
    assert device.poll(0.2) is True
    assert pedal.grabbed, "and types nothing anywhere"
    pedal.unplug()
    assert device.poll(0.3) is Absent.LOST
    assert "lost" in device.problem


# --- a leader arm ---------------------------------------------------------------------------------

ROBOT = robots.get("panda")
LEADER = LeaderSettings(
    urdf="",
    joint_names=tuple(ROBOT.joint_names),
    base_frame=ROBOT.base_frame,
    tool_frame=ROBOT.tool_frame,
    gripper_joint="panda_finger_joint1",
    gripper_closed=0.0,
    gripper_open=0.04,
    max_opening=0.085,
)
HOME = dict(zip(ROBOT.joint_names, (0.0, -0.4, 0.0, -2.0, 0.0, 1.6, 0.8), strict=True))


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> LeaderSettings:
    path = tmp_path_factory.mktemp("leader") / "leader.urdf"
    path.write_text(ROBOT.urdf_xml)
    return replace(LEADER, urdf=str(path))


def test_a_leader_says_where_its_tool_is_and_how_far_its_gripper_is_open(
    leader: LeaderSettings,
) -> None:
    arm = LeaderArm(leader)
    description = vla_control.RobotDescription(
        ROBOT.urdf_xml, list(ROBOT.joint_names), ROBOT.base_frame, ROBOT.tool_frame
    )
    expected = vla_control.RobotModel(description).forward_kinematics(np.array(list(HOME.values())))
    shuffled = dict(reversed([*HOME.items(), ("panda_finger_joint1", 0.01), ("other", math.nan)]))
    said = arm.said(shuffled)
    np.testing.assert_allclose(said.pose, expected, atol=1e-12)
    assert said.opening == pytest.approx(0.085 / 4)
    for position, opening in ((-1.0, 0.0), (0.05, 0.085)):
        assert arm.said({**HOME, "panda_finger_joint1": position}).opening == opening
    without = LeaderArm(replace(leader, gripper_joint=""))
    assert without.said(HOME).opening is None
    backwards = LeaderArm(replace(leader, gripper_closed=0.04, gripper_open=0.0))
    assert backwards.said({**HOME, "panda_finger_joint1": 0.01}).opening == pytest.approx(0.06375)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "says nothing of 'panda_joint1'"),
        (HOME, "says nothing of 'panda_finger_joint1'"),
        ({**HOME, "panda_joint3": math.nan}, "'panda_joint3' is at nan"),
        ({**HOME, "panda_finger_joint1": math.inf}, "is at inf"),
    ],
)
def test_a_leader_that_talks_nonsense_is_refused(
    leader: LeaderSettings, said: dict[str, float], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        LeaderArm(leader).said(said)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"urdf": "/nowhere.urdf"}, "/nowhere.urdf"),
        ({"tool_frame": "hook"}, "hook"),
        ({"joint_names": ("elbow",)}, "elbow"),
        ({"gripper_open": 0.0}, "leader_gripper_open is 0.0"),
    ],
)
def test_a_leader_that_is_not_described_well_is_named(
    leader: LeaderSettings, change: dict[str, object], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        LeaderArm(replace(leader, **change))  # type: ignore[arg-type]


# --- the node -------------------------------------------------------------------------------------


class Rig:
    """teleop_node, and a robot that hears what it says."""

    def __init__(self, context: Context, **parameters: object) -> None:
        given = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = TeleopNode(context=context, parameter_overrides=given)
        self.commands: list[TeleopCommand] = []
        self.robot = Node("robot", context=context)
        self.robot.create_subscription(TeleopCommand, "teleop/command", self.commands.append, 100)
        self.states = self.robot.create_publisher(ControllerState, "controller/state", RELIABLE)
        self.robot.create_timer(0.02, self._publish)
        self.said: list[tuple[Any, Any]] = []  # publisher and message, again and again
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._executor.add_node(self.robot)

    def _publish(self) -> None:
        self.states.publish(ControllerState())
        for publisher, message in self.said:
            publisher.publish(message)

    def until(self, what: str, predicate: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30.0
        while not predicate():
            assert time.monotonic() < deadline, what
            self._executor.spin_once(timeout_sec=0.05)

    def until_claimed(self) -> TeleopCommand:
        self.until("a claim", lambda: bool(self.commands) and self.commands[-1].enabled)
        return self.commands[-1]

    def until_silent(self) -> None:
        self.until("silence", lambda: not self.commands[-1].enabled)


@pytest.fixture
def context() -> Iterator[Context]:
    made = Context()
    rclpy.init(context=made)
    yield made
    rclpy.shutdown(context=made)


def test_the_node_claims_the_arm_for_a_gamepad_until_that_is_unplugged(
    kernel: Kernel, context: Context
) -> None:
    rig = Rig(context, input="gamepad")
    node = rig.node
    rig.until("a word", lambda: node.problem == "no gamepad is there")
    pad = kernel.gamepad()
    rig.until("the gamepad", lambda: node.problem == "")
    pad.press(evdev.LEFT_SHOULDER)
    pad.push(RY=-FULL - 1)
    command = rig.until_claimed()
    assert command.device == "gamepad"
    assert command.twist.linear.z == pytest.approx(0.15)
    pad.unplug()
    rig.until_silent()
    assert "lost: Pad" in node.problem
    node.close()


def test_the_node_claims_the_arm_for_a_leader_while_its_button_is_held(
    leader: LeaderSettings, context: Context
) -> None:
    rig = Rig(
        context,
        input="leader",
        device="arm",
        leader_urdf=leader.urdf,
        leader_joint_names=list(leader.joint_names),
        leader_base_frame=leader.base_frame,
        leader_tool_frame=leader.tool_frame,
    )
    joints = rig.robot.create_publisher(JointState, "leader/joint_states", 10)
    joys = rig.robot.create_publisher(Joy, "joy", 10)
    state = JointState(name=list(HOME), position=list(HOME.values()))
    rig.said = [(joints, state), (joys, Joy(buttons=[0] * 5))]
    rig.until("a word", lambda: bool(rig.commands))
    assert not rig.commands[-1].enabled
    rig.said = [(joints, state), (joys, Joy(buttons=[0, 0, 0, 0, 1]))]
    command = rig.until_claimed()
    assert (command.device, command.use_pose, command.use_gripper) == ("arm", True, False)
    rig.said = [(joints, state)]  # the button says nothing any more
    rig.until_silent()
    rig.said = [(joints, state), (joys, Joy(buttons=[0, 0, 0, 0, 1]))]
    rig.until_claimed()
    rig.said = [(joints, JointState(name=["a"])), *rig.said[1:]]
    rig.until_silent()
    assert "0 positions of 1 joints" in rig.node.driver.problem


def test_the_node_turns_a_joy_into_motion_without_a_step_at_its_dead_zone(
    context: Context,
) -> None:
    rig = Rig(context, dead_zone=0.5, in_tool=True)
    joys = rig.robot.create_publisher(Joy, "joy", 10)
    axes = [0.0, 0.75, 0.0, -0.4, 1.0, 0.0]
    rig.said = [(joys, Joy(axes=axes, buttons=[0, 1, 0, 0, 1, 0]))]
    command = rig.until_claimed()
    assert command.device == "joy"
    linear, angular = command.twist.linear, command.twist.angular
    assert (linear.x, linear.z) == pytest.approx((0.075, 0.15))
    assert (linear.y, angular.z) == (0.0, 0.0)
    assert command.gripper_opening == pytest.approx(0.08)
    rig.said = [(joys, Joy(axes=[math.nan] * 6, buttons=[0, 0, 0, 0, 1, 0]))]
    rig.until_silent()
    assert "nan" in rig.node.driver.problem


# --- the command line -----------------------------------------------------------------------------


def test_parameters_of_the_command_line_are_those_of_the_node() -> None:
    names = '["a", "b"]'
    found = overrides("leader", {"speed": 0.1}, [f"leader_joint_names={names}", "scale=2"])
    assert {one.name: one.value for one in found} == {
        "input": "leader",
        "speed": 0.1,
        "leader_joint_names": ["a", "b"],
        "scale": 2,
    }
    for bad in ("scale", "scale=[1"):
        with pytest.raises(ParameterError, match="NAME=VALUE"):
            overrides("joy", {}, [bad])


# --- the kernel's own virtual device --------------------------------------------------------------

UINPUT = Path("/dev/uinput")


@pytest.mark.skipif(
    not os.access(UINPUT, os.W_OK), reason="no virtual devices: /dev/uinput cannot be written"
)
def test_a_virtual_gamepad_of_the_kernel() -> None:
    name = f"vla virtual pad {os.getpid()}"
    descriptor = os.open(UINPUT, os.O_WRONLY | os.O_NONBLOCK)
    set_event, set_key, set_axis = 0x40045564, 0x40045565, 0x40045567
    setup, axis_setup, create, destroy = 0x405C5503, 0x401C5504, 0x5501, 0x5502

    def say(*events: tuple[int, int, int]) -> None:
        os.write(descriptor, b"".join(EVENT.pack(0, 0, *one) for one in (*events, REPORT)))

    def until(device: Gamepad, kind: type | Absent) -> Input | Absent:
        deadline = time.monotonic() + 20.0
        while True:
            said = device.poll(time.monotonic())
            if said is kind or (isinstance(kind, type) and isinstance(said, kind)):
                return said
            assert time.monotonic() < deadline, device.problem
            time.sleep(0.01)

    try:
        for event in (KEY, ABS):
            fcntl.ioctl(descriptor, set_event, event)
        for key in (evdev.SOUTH, evdev.EAST, evdev.LEFT_SHOULDER):
            fcntl.ioctl(descriptor, set_key, key)
        for axis in (evdev.X, evdev.Y, evdev.RX, evdev.RY):
            fcntl.ioctl(descriptor, set_axis, axis)
            reach = struct.pack("@Hxx6i", axis, 0, -32768, 32767, 0, 0, 0)
            fcntl.ioctl(descriptor, axis_setup, reach)
        fcntl.ioctl(descriptor, setup, struct.pack("@4H80sI", 3, 1, 1, 1, name.encode(), 0))
        fcntl.ioctl(descriptor, create)
        device = Gamepad(SETTINGS, name)
        until(device, Absent.RELEASED)
        say((KEY, evdev.LEFT_SHOULDER, 1), (ABS, evdev.Y, -32768))
        np.testing.assert_allclose(twist_of(until(device, Input))[0], 0.2, rtol=1e-3)
        fcntl.ioctl(descriptor, destroy)
        until(device, Absent.LOST)
    finally:
        os.close(descriptor)


def test_the_fake_kernel_is_one_that_can_say_no(kernel: Kernel) -> None:
    pad: FakeDevice = kernel.gamepad()
    pad.grabbed = True
    device = Gamepad(SETTINGS)
    assert device.poll(0.0) is Absent.LOST
    assert "in use" in device.problem
