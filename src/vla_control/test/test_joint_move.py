# SPDX-License-Identifier: Apache-2.0
"""Joint moves: within limits as planned and as driven, exact at the end, smooth at every seam."""

from __future__ import annotations

import numpy as np
import pytest
from arm import HOME, JOINTS, Plant, make_config, start_moving
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import vla_control as vc
from vla_control import RejectReason as R
from vla_control.joint_move import (
    SLOW,
    TOOL_SPEED,
    JointLimits,
    JointMove,
    JointMoveError,
    joint_move,
    present_reference,
)

Floats = NDArray[np.float64]
LIMITS = JointLimits.published([2.2] * 7, [10.0] * 7, [5000.0] * 7)
FAR = dict(zip(JOINTS, HOME + np.array([1.2, 0.7, -0.9, 0.8, 1.0, -0.9, 1.4]), strict=True))


@pytest.fixture
def arm() -> Plant:
    return Plant(config=make_config(chunk__accept_joint_positions=True))


def plan(plant: Plant, target: dict[str, float], **changes: object) -> JointMove:
    """A move from the reference in force."""
    state = plant.controller.state()
    q, dq = present_reference(
        plant.kinematics,
        plant.q,
        state.reference_pose_tool_in_base,
        state.reference_twist_tool_in_base,
    )
    arguments: dict[str, object] = {"dq": dq, **changes}
    return joint_move(plant.kinematics, LIMITS, q, target, **arguments)  # type: ignore[arg-type]


def drive(plant: Plant, move: JointMove, after: float = 1.0) -> list[vc.ControllerState]:
    """Sends the chunks when they are due; the state after every cycle."""
    began, states = plant.time_ns, []
    for chunk in move.chunks():
        states += plant.run(chunk.send_at - (plant.time_ns - began) * 1e-9)
        sent = plant.chunk(
            None,
            mode=vc.ChunkMode.JOINT_POSITION,
            joint_names=list(move.joint_names),
            joint_values=chunk.values,
            stamp_ns=began + round(1e9 * chunk.begin),
        )
        assert plant.controller.push_chunk(sent) is R.NONE
    states += plant.run(move.duration - (plant.time_ns - began) * 1e-9 + after)
    return states


def assert_smooth(states: list[vc.ControllerState]) -> None:
    """No step of the reference's acceleration: it changes by what a bounded jerk allows."""
    a = np.array([s.reference_acceleration_tool_in_base for s in states])
    assert np.linalg.norm(np.diff(a[:, :3], axis=0), axis=1).max() < 0.1  # 100 m/s^3
    assert np.linalg.norm(np.diff(a[:, 3:], axis=0), axis=1).max() < 0.3


def test_a_long_move_is_driven_in_several_chunks_without_a_seam(arm: Plant) -> None:
    move = plan(arm, FAR)
    chunks = move.chunks()
    assert len(chunks) >= 2
    assert all(len(chunk.values) <= vc.MAX_STEPS for chunk in chunks)
    states = drive(arm, move, after=3.0)  # the soft nullspace takes its time
    assert_smooth(states)
    assert all(s.chunk_slowdown == 1.0 for s in states)
    assert not any(s.torque_saturated or s.torque_rate_saturated for s in states)
    goal = np.array([FAR[name] for name in JOINTS])
    np.testing.assert_allclose(arm.q, goal, atol=0.02)
    np.testing.assert_allclose(arm.pose, arm.kinematics.forward_kinematics(goal), atol=2e-3)
    wanted = arm.kinematics.forward_kinematics(goal)
    np.testing.assert_allclose(states[-1].reference_pose_tool_in_base, wanted, atol=1e-6)
    # The arm itself keeps the limits, and the speed of the tool.
    dq = np.array([s.dq for s in states])
    ddq = np.diff(dq, axis=0) * 1e3
    assert (np.abs(dq).max(axis=0) < LIMITS.velocity).all()
    assert (np.abs(ddq).max(axis=0) < LIMITS.acceleration).all()
    speed = np.linalg.norm([s.twist_tool_in_base[:3] for s in states], axis=1)
    assert speed.max() < 1.1 * TOOL_SPEED


def test_cut_chunks_would_have_a_seam(arm: Plant) -> None:
    move = plan(arm, FAR)
    broken = JointMove(
        move.joint_names, move.positions.copy(), move.step_dt, move.duration, move.tool_speed
    )
    broken.positions[60:] += 0.2  # rad, between two steps
    with pytest.raises(AssertionError):
        assert_smooth(drive(arm, broken))


def test_a_move_begins_at_a_moving_reference(arm: Plant) -> None:
    start_moving(arm)
    before = arm.controller.state()
    move = plan(arm, dict(zip(JOINTS, HOME, strict=True)))
    first = (move.positions[1] - move.positions[0]) / move.step_dt
    twist = arm.kinematics.jacobian(move.positions[0]) @ first
    assert twist[:3] @ before.reference_twist_tool_in_base[:3] > 0.0, "it does not jump to rest"
    states = drive(arm, move)
    assert_smooth([before, *states])
    np.testing.assert_allclose(arm.q, HOME, atol=0.02)


def test_short_moves_and_none_at_all(arm: Plant) -> None:
    here = arm.controller.state().q
    move = plan(arm, {})
    assert move.duration == pytest.approx(0.0, abs=1e-3)
    drive(arm, move)
    np.testing.assert_allclose(arm.q, here, atol=1e-3)
    move = plan(arm, {JOINTS[6]: HOME[6] + 0.05})
    drive(arm, move)
    np.testing.assert_allclose(arm.q[:6], here[:6], atol=3e-3)
    assert arm.q[6] == pytest.approx(HOME[6] + 0.05, abs=5e-3)


@pytest.mark.parametrize(
    ("words", "target", "changes"),
    [
        ("joint2 would be at 3.0000 rad; valid range", {"joint2": 3.0}, {}),
        ("joint2 would be at nan", {"joint2": float("nan")}, {}),
        ("no joint elbow; joints: joint1", {"elbow": 0.1}, {}),
        ("scaling is 0.0; valid range", {}, {"scaling": 0.0}),
        ("scaling is 1.5", {}, {"scaling": 1.5}),
        ("tool_speed is -1.0", {}, {"tool_speed": -1.0}),
        ("step_dt is 1.0", {}, {"step_dt": 1.0}),
        ("dq has the shape", {}, {"dq": [0.0]}),
        ("dq is .*finite", {}, {"dq": [np.nan] * 7}),
        # At 2 rad/s and 0.01 rad from the limit no brake is strong enough.
        ("joint1 would be at .*valid range", {"joint1": 2.8}, {"q": 2.89, "dq": [2.0] + [0] * 6}),
    ],
)
def test_what_cannot_be_is_named(
    arm: Plant, words: str, target: dict[str, float], changes: dict[str, object]
) -> None:
    arguments = dict(changes)
    q = HOME.copy()
    if "q" in arguments:
        q[0] = arguments.pop("q")
    with pytest.raises(JointMoveError, match=words):
        joint_move(arm.kinematics, LIMITS, q, target, **arguments)  # type: ignore[arg-type]


def test_limits_that_nobody_publishes_are_slow_rises() -> None:
    limits = JointLimits.published([3.0, 2.0], None, None)
    np.testing.assert_allclose(limits.acceleration, [12.0, 8.0])
    np.testing.assert_allclose(limits.jerk, [240.0, 160.0])
    slow = limits.slowed(0.5)
    np.testing.assert_allclose(slow.velocity, [1.5, 1.0])
    np.testing.assert_allclose(slow.acceleration, [3.0, 2.0])
    np.testing.assert_allclose(slow.jerk, [30.0, 20.0])


joints = st.lists(st.floats(-2.6, 2.6), min_size=7, max_size=7)
MODEL = Plant().kinematics


@settings(max_examples=60, deadline=None)
@given(start=joints, goal=joints, scaling=st.sampled_from([SLOW, 0.6, 1.0]))
def test_any_plan_keeps_the_limits_and_ends_at_the_target(
    start: list[float], goal: list[float], scaling: float
) -> None:
    target = dict(zip(JOINTS, goal, strict=True))
    move = joint_move(MODEL, LIMITS, start, target, scaling=scaling, tool_speed=0.6, step_dt=0.01)
    q = move.positions
    np.testing.assert_allclose(q[0], start, atol=1e-9)
    np.testing.assert_allclose(q[-1], goal, atol=1e-6)
    slow = LIMITS.slowed(scaling)
    dq = np.diff(q, axis=0) / move.step_dt
    ddq = np.diff(dq, axis=0)[:-1] / move.step_dt  # the last step is cut short
    assert (np.abs(dq) <= slow.velocity + 1e-6).all()
    assert (np.abs(ddq) <= slow.acceleration + 1e-4).all()
    assert move.tool_speed <= 0.6
    covered = np.concatenate([chunk.values[-1:] for chunk in move.chunks()])
    np.testing.assert_array_equal(covered[-1], q[-1])
