# SPDX-License-Identifier: Apache-2.0
"""Conversions are each other's inverse and fail closed."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import Pose
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vla_control import ChunkMode
from vla_msgs.msg import ActionChunk
from vla_nodes import convert
from vla_nodes.convert import ConversionError, Reason
from vla_nodes.supervision.types import ControllerFault, Verdict

coordinate = st.floats(-10.0, 10.0)
component = st.floats(-1.0, 1.0)
FRAMES = {"base_frame": "base", "tool_frame": "tool"}


def rotation(quat: np.ndarray) -> np.ndarray:
    return convert.quat_xyzw_to_matrix(quat / np.linalg.norm(quat))


@settings(deadline=None)
@given(st.integers(0, 2**62))
def test_time_round_trip(stamp_ns: int) -> None:
    assume(stamp_ns < 2**31 * 10**9)
    assert convert.from_time(convert.to_time(stamp_ns)) == stamp_ns


@settings(deadline=None)
@given(st.tuples(coordinate, coordinate, coordinate), st.tuples(*[component] * 4))
def test_pose_round_trip(position: tuple[float, ...], quat: tuple[float, ...]) -> None:
    assume(np.linalg.norm(quat) > 1e-3)
    pose = np.eye(4)
    pose[:3, :3] = rotation(np.array(quat))
    pose[:3, 3] = position
    assert np.allclose(convert.from_pose(convert.to_pose(pose)), pose, atol=1e-12)


@pytest.mark.parametrize("axis", range(3))
def test_quaternion_of_half_turns(axis: int) -> None:
    turn = -np.eye(3)
    turn[axis, axis] = 1.0
    quat = convert.matrix_to_quat_xyzw(turn)
    assert abs(abs(quat[axis]) - 1.0) < 1e-12


@settings(deadline=None)
@given(st.integers(0, 6), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_pose_that_is_not_finite_is_refused(index: int, value: float) -> None:
    pose = convert.to_pose(np.eye(4))
    part = pose.position if index < 3 else pose.orientation
    setattr(part, "xyz"[index] if index < 3 else "xyzw"[index - 3], value)
    with pytest.raises(ConversionError) as caught:
        convert.from_pose(pose)
    assert caught.value.reason is Reason.NOT_FINITE


@settings(deadline=None)
@given(st.tuples(*[component] * 4))
def test_a_quaternion_off_the_unit_sphere_is_refused(quat: tuple[float, ...]) -> None:
    norm = float(np.linalg.norm(quat))
    assume(abs(norm - 1.0) > 2.0 * convert.QUATERNION_TOLERANCE)
    pose = Pose()
    o = pose.orientation
    o.x, o.y, o.z, o.w = quat
    with pytest.raises(ConversionError) as caught:
        convert.from_pose(pose)
    assert caught.value.reason is Reason.BAD_QUATERNION


def policy_chunk(steps: int = 4) -> SimpleNamespace:
    poses = np.repeat(np.eye(4)[None], steps, axis=0)
    for i in range(steps):
        angle = math.pi + 0.2 * (i - steps / 2)
        poses[i, :3, :3] = rotation(np.array([math.sin(angle / 2), 0, 0, math.cos(angle / 2)]))
        poses[i, 0, 3] = 0.1 * i
    return SimpleNamespace(
        stamp_ns=5_000_000_001,
        step_dt=0.05,
        commanded=poses,
        is_joint=False,
        gripper_opening=np.linspace(0.0, 0.08, steps),
        features=np.arange(6, dtype=np.float32).reshape(1, 2, 3),
        inference_id=9,
        policy_id="p",
        conditioned_steps=3,
    )


def chunk_message() -> ActionChunk:
    return convert.to_action_chunk(
        policy_chunk(), joint_names=("a", "b"), sequence=3, instruction_id=2, **FRAMES
    )


def test_a_policys_joint_positions_keep_their_columns_and_their_gripper() -> None:
    q = np.arange(8.0).reshape(4, 2)
    policy = SimpleNamespace(**{**vars(policy_chunk()), "commanded": q, "is_joint": True})
    message = convert.to_action_chunk(
        policy, joint_names=("a", "b"), sequence=3, instruction_id=2, **FRAMES
    )
    assert message.mode == ActionChunk.MODE_JOINT_POSITION
    assert (list(message.joint_names), len(message.poses)) == (["a", "b"], 0)
    chunk = convert.from_action_chunk(message, **FRAMES)
    np.testing.assert_array_equal(np.reshape(chunk.joint_values, q.shape), q)
    np.testing.assert_array_equal(chunk.gripper_opening, policy.gripper_opening)
    assert (chunk.stamp_ns, chunk.step_dt) == (policy.stamp_ns, 0.05)


def test_chunk_round_trip_keeps_values_stamp_and_numbers() -> None:
    message = chunk_message()
    message.boot_id, message.grant = 11, 12
    wrenches = np.arange(24.0).reshape(4, 6)
    message.wrenches = [convert.to_wrench(wrench) for wrench in wrenches]
    stiffness = np.arange(4 * 36.0)
    message.stiffness = stiffness.tolist()
    chunk = convert.from_action_chunk(message, **FRAMES)
    original = policy_chunk()
    assert chunk.stamp_ns == original.stamp_ns
    assert np.allclose(np.asarray(chunk.poses), original.commanded, atol=1e-12)
    assert np.allclose(np.asarray(chunk.gripper_opening), original.gripper_opening)
    assert (chunk.boot_id, chunk.grant, chunk.sequence) == (11, 12, 3)
    assert message.conditioned_steps == 3
    np.testing.assert_array_equal(chunk.wrenches, wrenches)
    np.testing.assert_array_equal(chunk.stiffness, stiffness)
    message.wrenches = []
    assert convert.from_action_chunk(message, **FRAMES).wrenches.shape == (0, 6)


def joint_message(values: object = None, **changes: object) -> ActionChunk:
    rows = np.arange(12.0).reshape(6, 2) if values is None else np.asarray(values)
    message = convert.to_joint_chunk(
        5 * convert.SECOND,
        rows,
        joint_names=["a", "b"],
        step_dt=0.05,
        base_frame=FRAMES["base_frame"],
        tool_frame=FRAMES["tool_frame"],
        sequence=4,
        policy_id="pad",
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_joint_chunk_round_trip_keeps_values_stamp_and_numbers() -> None:
    chunk = convert.from_action_chunk(joint_message(), **FRAMES)
    assert (chunk.stamp_ns, chunk.sequence, list(chunk.joint_names)) == (
        5 * convert.SECOND,
        4,
        ["a", "b"],
    )
    np.testing.assert_array_equal(
        np.reshape(chunk.joint_values, (6, 2)), np.arange(12.0).reshape(6, 2)
    )


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (Reason.WRONG_LENGTH, {"joint_names": ["a", "b", "c", "d", "e"]}),
        (Reason.WRONG_LENGTH, {"joint_names": []}),
        (Reason.UNSUPPORTED_MODE, {"poses": [Pose()]}),
        (Reason.UNSUPPORTED_MODE, {"mode": ActionChunk.MODE_POSE}),
        (Reason.WRONG_LENGTH, {"joint_values": []}),
        (Reason.WRONG_LENGTH, {"gripper_opening": [0.1]}),
        (Reason.NOT_FINITE, {"joint_values": [0.0, float("nan")]}),
    ],
)
def test_bad_joint_chunks_are_refused_by_name(reason: Reason, changes: dict[str, object]) -> None:
    with pytest.raises(ConversionError) as caught:
        convert.from_action_chunk(joint_message(**changes), **FRAMES)
    assert caught.value.reason is reason


def twist_chunk(**changes: object) -> ActionChunk:
    message = ActionChunk(header=convert.header(7, "base"), tool_frame="tool", step_dt=0.1)
    message.mode, message.twists = ActionChunk.MODE_TWIST, [convert.to_twist(range(6))] * 2
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_twists_reach_the_controller() -> None:
    chunk = convert.from_action_chunk(twist_chunk(), base_frame="base", tool_frame="tool")
    assert chunk.mode == ChunkMode.TWIST


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (Reason.UNSUPPORTED_MODE, {"poses": [Pose()]}),
        (Reason.UNSUPPORTED_MODE, {"mode": ActionChunk.MODE_POSE}),
        (Reason.WRONG_LENGTH, {"twists": []}),
        (Reason.WRONG_LENGTH, {"gripper_opening": [0.1]}),
        (Reason.NOT_FINITE, {"twists": [convert.to_twist([math.inf] * 6)]}),
    ],
)
def test_bad_twist_chunks_are_refused_by_name(reason: Reason, changes: dict[str, object]) -> None:
    with pytest.raises(ConversionError) as caught:
        convert.from_action_chunk(twist_chunk(**changes), base_frame="base", tool_frame="tool")
    assert caught.value.reason is reason


def test_quaternions_of_a_chunk_are_continuous_around_a_half_turn() -> None:
    quats = [
        np.array([p.orientation.x, p.orientation.y, p.orientation.z, p.orientation.w])
        for p in chunk_message().poses
    ]
    assert all(float(a @ b) > 0.0 for a, b in itertools.pairwise(quats))


def _set(name: str, value: object) -> object:
    return lambda message: setattr(message, name, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: setattr(m.header, "frame_id", "world"), Reason.WRONG_FRAME),
        (_set("tool_frame", "flange"), Reason.WRONG_FRAME),
        (_set("mode", ActionChunk.MODE_TWIST), Reason.UNSUPPORTED_MODE),
        (_set("mode", 200), Reason.UNSUPPORTED_MODE),
        (_set("step_dt", 0.0), Reason.BAD_STEP),
        (_set("step_dt", math.nan), Reason.BAD_STEP),
        (_set("poses", []), Reason.WRONG_LENGTH),
        (_set("gripper_opening", [0.01]), Reason.WRONG_LENGTH),
        (_set("gripper_max_force", [1.0] * 5), Reason.WRONG_LENGTH),
        (_set("gripper_opening", [math.nan] * 4), Reason.NOT_FINITE),
        (_set("wrenches", [convert.to_wrench([0.0] * 6)] * 3), Reason.WRONG_LENGTH),
        (_set("stiffness", [1.0] * (36 * 3)), Reason.WRONG_LENGTH),
        (_set("stiffness", [math.inf] * (36 * 4)), Reason.NOT_FINITE),
        (_set("wrenches", [convert.to_wrench([math.nan] * 6)] * 4), Reason.NOT_FINITE),
        (lambda m: setattr(m.poses[2].position, "x", math.inf), Reason.NOT_FINITE),
        (lambda m: setattr(m.poses[3].orientation, "w", 3.0), Reason.BAD_QUATERNION),
    ],
)
def test_bad_chunks_are_refused_by_name(change: object, reason: Reason) -> None:
    message = chunk_message()
    change(message)  # type: ignore[operator]
    with pytest.raises(ConversionError) as caught:
        convert.from_action_chunk(message, **FRAMES)
    assert caught.value.reason is reason


def test_image_round_trip() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    message = convert.to_image(1, "camera", rgb)
    assert (message.height, message.width, message.step) == (5, 7, 21)
    assert bytes(message.data) == rgb.tobytes()


def test_pinhole_sees_its_field_of_view() -> None:
    info = convert.pinhole(96, 96, math.radians(90.0))
    assert info.k[0] == pytest.approx(48.0)
    assert info.k[2] == 48.0


def test_unknown_numbers_are_read_the_safe_way() -> None:
    assert convert.known(Verdict, 1, Verdict.UNKNOWN) is Verdict.SUCCESS
    assert convert.known(Verdict, 77, Verdict.UNKNOWN) is Verdict.UNKNOWN
    assert convert.known(ControllerFault, 77, ControllerFault.NUMERIC) is ControllerFault.NUMERIC


def test_a_controllers_state_tells_of_a_chunk_that_is_slowed_down() -> None:
    import vla_control
    from vla_sim import robots

    robot = robots.get("panda")
    controller = vla_control.Controller(robot.description(), robot.controller_config())
    still = np.zeros(7)
    controller.activate(robot.home_q, still, 0)
    start = vla_control.RobotModel(robot.description()).forward_kinematics(robot.home_q)
    poses = np.tile(start, (16, 1, 1))
    s = np.linspace(0.0, 1.0, 16)
    poses[:, 1, 3] += 0.6 * s * s * (3.0 - 2.0 * s)  # 1.2 m/s where 1.0 is allowed
    chunk = vla_control.Chunk(0, 0.05, robot.base_frame, robot.tool_frame, poses)
    assert controller.push_chunk(chunk) is vla_control.RejectReason.NONE
    controller.update(robot.home_q, still, 1_000_000, 1e-3)
    state = controller.state()
    message = convert.to_controller_state(state, 5, "base", "tool", robot.joint_names)
    assert message.chunk_slowdown == state.chunk_slowdown
    assert 1.05 < message.chunk_slowdown < 1.5
    assert message.chunk_remaining == state.chunk_remaining
    assert message.stiffness_limited is False
