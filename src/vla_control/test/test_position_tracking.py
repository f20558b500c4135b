# SPDX-License-Identifier: Apache-2.0
"""Motion output: how true the commanded joints are to the reference, and the limits they keep."""

from __future__ import annotations

import numpy as np
import pytest
from arm import HOME, make_config, make_description, moved
from drives import ACCELERATION, LIMIT, VELOCITY, Drives, assert_within_limits, motion_config
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_control as vc
from vla_control import Phase
from vla_control import RejectReason as R


def figure_eight(start: np.ndarray, times: np.ndarray) -> np.ndarray:
    """0.3 m x 0.15 m, level, at most 0.35 m/s, begun smoothly; turning with it."""
    poses = []
    for t in times:
        # The phase begins at rest and speeds up within half a second.
        s = t - 0.25 if t > 0.5 else t * t
        w = 0.35 / (0.15 * np.sqrt(2.0))
        offset = np.array([0.15 * np.sin(w * s), 0.075 * np.sin(2 * w * s), 0.0])
        poses.append(moved(start, offset, np.array([0.0, 0.0, 0.3 * np.sin(w * s)])))
    return np.array(poses)


def fly(drives: Drives, seconds: float = 5.0) -> np.ndarray:
    """Flies the figure in chunks of 16; m and rad between commanded tool and reference."""
    start, t0 = drives.pose, drives.time_ns * 1e-9
    errors = []
    while drives.time_ns * 1e-9 - t0 < seconds:
        times = drives.time_ns * 1e-9 - t0 + 0.05 * np.arange(16)
        assert drives.push(figure_eight(start, times)) is R.NONE
        for state in drives.run(0.4):
            wanted = state.reference_pose_tool_in_base
            tool = drives.kinematics.forward_kinematics(state.q_command)
            turn = vc.so3_log(wanted[:3, :3] @ tool[:3, :3].T)
            errors.append([np.linalg.norm(wanted[:3, 3] - tool[:3, 3]), np.linalg.norm(turn)])
    return np.array(errors)


@pytest.mark.parametrize("rate", [125.0, 500.0, 1000.0])
def test_the_command_is_where_the_reference_is(rate: float) -> None:
    drives = Drives(motion_config(rate=rate))
    errors = fly(drives)
    assert errors[:, 0].max() < 1e-4
    assert errors[:, 1].max() < 2e-4
    states = drives.run(0.1)
    assert not any(s.wrench_saturated or s.barrier_active for s in states)
    assert_within_limits(drives.log, drives.period)


def test_with_a_bounded_jerk_too() -> None:
    jerk = 500.0 * ACCELERATION
    drives = Drives(motion_config(rate=1000.0, tracking__max_jerk=jerk.tolist()))
    errors = fly(drives)
    assert errors[:, 0].max() < 1e-4
    assert_within_limits(drives.log, drives.period, jerk)


def test_a_tool_that_points_down_and_turns_through_pi() -> None:
    drives = Drives()
    down = drives.pose
    # About the axis of its own rotation vector, from 0.5 rad before a half turn to 0.5 rad beyond.
    axis = vc.so3_log(down[:3, :3])
    axis /= np.linalg.norm(axis)
    begin = (np.pi - 0.5) - np.linalg.norm(vc.so3_log(down[:3, :3]))
    ways = np.concatenate((np.linspace(0, begin, 8)[:-1], begin + np.linspace(0, 1.0, 16)))
    goals = [moved(down, np.zeros(3), way * axis) for way in ways]
    assert drives.push(np.array(goals)) is R.NONE
    drives.run(2.5)
    np.testing.assert_allclose(drives.tool, goals[-1], atol=1e-6)
    assert_within_limits(drives.log, drives.period)


def test_a_rest_is_a_rest() -> None:
    drives = Drives()
    drives.run(0.5)
    commands = np.array([entry[0] for entry in drives.log])
    np.testing.assert_allclose(commands, np.tile(HOME, (len(commands), 1)), atol=1e-12)
    assert not drives.controller.state().compliant


def test_the_posture_moves_without_the_tool() -> None:
    jacobian = vc.RobotModel(make_description()).jacobian(HOME)
    free = np.linalg.svd(jacobian)[2][-1]  # the joints' motion that leaves the tool alone
    drives = Drives(motion_config(nullspace_posture=(HOME + 0.3 * free).tolist()))
    start = drives.pose
    for _ in range(6):
        assert drives.push(np.repeat(start[None], 16, axis=0)) is R.NONE
        drives.run(0.5)
        np.testing.assert_allclose(drives.tool, start, atol=1e-4)
    assert (drives.log[-1][0] - HOME) @ free > 0.25
    assert_within_limits(drives.log, drives.period)


def test_chunks_of_joints_and_twists() -> None:
    drives = Drives(motion_config(chunk__accept_joint_positions=True, chunk__accept_twists=True))
    goal = HOME + np.array([0.1, 0.05, 0.0, -0.1, 0.05, 0.1, 0.0])
    ways = np.linspace(0, 1, 16)
    shares = (ways * ways * (3 - 2 * ways))[:, None]
    chunk = {
        "mode": vc.ChunkMode.JOINT_POSITION,
        "joint_names": drives.description.joint_names,
        "joint_values": HOME + shares * (goal - HOME),
    }
    assert drives.push(None, **chunk) is R.NONE  # type: ignore[arg-type]
    drives.run(2.5)
    wanted = drives.kinematics.forward_kinematics(goal)
    np.testing.assert_allclose(drives.tool, wanted, atol=1e-4)
    twists = np.tile([0.05, 0.0, 0.0, 0.0, 0.0, 0.0], (10, 1))
    assert drives.push(None, mode=vc.ChunkMode.TWIST, twists=twists) is R.NONE  # type: ignore[arg-type]
    drives.run(1.5)
    assert drives.tool[0, 3] - wanted[0, 3] > 0.02
    assert_within_limits(drives.log, drives.period)


def test_velocity_drives_are_told_the_way_back() -> None:
    drives = Drives(motion_config(tracking__velocity_feedback=5.0))
    drift = np.full(7, 0.02)
    # A drive that integrates what it is told, and drifts.
    for _ in range(1500):
        drives.time_ns += round(1e9 * drives.period)
        _, dq = drives.controller.update_motion(
            drives.q, np.zeros(7), drives.time_ns, drives.period
        )
        drives.q = drives.q + drives.period * (dq + drift)
    np.testing.assert_allclose(drives.q, HOME + drift / 5.0, atol=1e-4)


bound = st.floats(-4.0, 4.0, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    wishes=st.lists(
        st.tuples(st.lists(bound, min_size=7, max_size=7), st.integers(1, 80)),
        min_size=1,
        max_size=12,
    ),
    start=st.lists(st.floats(-LIMIT, LIMIT), min_size=7, max_size=7),
    factor=st.sampled_from([np.inf, 500.0, 100.0]),
)
def test_no_wish_breaks_a_limit(
    wishes: list[tuple[list[float], int]], start: list[float], factor: float
) -> None:
    period = 0.004
    jerk = factor * ACCELERATION
    limiter = vc.JointMotionLimiter(
        np.full(7, -LIMIT), np.full(7, LIMIT), VELOCITY, ACCELERATION, jerk, period
    )
    limiter.reset(np.array(start))
    log = [(np.array(start), np.zeros(7))]
    for wish, cycles in wishes:
        log += [limiter.advance(np.array(wish)) for _ in range(cycles)]
    assert_within_limits(log, period, None if np.isinf(factor) else jerk)


def test_a_wish_reaches_the_limit_and_stops_there() -> None:
    limiter = vc.JointMotionLimiter([-1.0], [1.0], [2.0], [5.0], [np.inf], 0.002)
    limiter.reset([0.0])
    q = [limiter.advance([2.0])[0][0] for _ in range(2000)]
    assert 0.999 < q[-1] <= 1.0
    assert max(np.abs(np.diff(q))) / 0.002 > 1.9  # the control: it was as fast as it may be


@settings(max_examples=40, deadline=None)
@given(
    moves=st.lists(
        st.tuples(
            st.lists(st.floats(-0.4, 0.4), min_size=3, max_size=3),
            st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3),
            st.sampled_from(["chunk", "stop", "revoke", "reset", "jump", "nan"]),
            st.integers(5, 120),
        ),
        min_size=2,
        max_size=8,
    )
)
def test_random_chunks_and_events_never_break_a_limit(
    moves: list[tuple[list[float], list[float], str, int]],
) -> None:
    drives = Drives(
        motion_config(
            max_linear_velocity=5.0,
            max_angular_velocity=10.0,
            max_linear_acceleration=50.0,
            max_angular_acceleration=100.0,
            chunk__max_blend_time=2.0,
            tracking__max_deviation=[0.2] * 7,
        )
    )
    start = drives.pose
    for offset, turn, event, cycles in moves:
        steps = np.linspace(0.2, 1.0, 8)
        drives.push(
            np.array([moved(start, f * np.array(offset), f * np.array(turn)) for f in steps])
        )
        nan = np.full(7, np.nan)
        if event in ("stop", "revoke", "reset"):
            getattr(drives.controller, event)()
        drives.step(advance_ns=-1_000_000_000 if event == "jump" else None)
        for _ in range(cycles):
            drives.step(q=nan if event == "nan" else None)
        drives.controller.reset()
        drives.run(0.1)
    assert_within_limits(drives.log, drives.period)


def test_through_a_singularity_no_joint_runs_away() -> None:
    drives = Drives()
    start = drives.pose
    # Outward until the arm is stretched: no more than the reach is possible.
    far = start[:3, 3] / np.linalg.norm(start[:3, 3])
    for _ in range(4):
        reached = drives.tool
        drives.push(np.array([moved(reached, 0.02 * k * far) for k in range(16)]))
        drives.run(0.6)
    states = drives.run(1.5)
    assert_within_limits(drives.log, drives.period)
    assert states[-1].phase in (Phase.FAULT, Phase.HOLDING)


def test_what_motion_output_needs_is_said() -> None:
    def fails(match: str, **changes: object) -> None:
        with pytest.raises(ValueError, match=match):
            vc.Controller(make_description(), motion_config(**changes))

    fails("tracking.max_acceleration is not set", tracking__max_acceleration=[])
    fails("has 2 values; needs 7", tracking__max_acceleration=[1.0, 2.0])
    fails(r"tracking.max_acceleration\[0\] = 0 is outside", tracking__max_acceleration=[0.0] * 7)
    fails("averaged over", tracking__max_jerk=[1.0] * 7)
    fails("no chosen force can be exerted", force__axes=[False, False, True, False, False, False])
    with pytest.raises(ValueError, match="the output is TORQUE"):
        vc.Controller(make_description(), make_config(admittance__sensor_frame="tool_tip"))


def test_each_output_leaves_the_other_alone() -> None:
    motion = vc.Controller(make_description(), motion_config())
    motion.activate(HOME, np.zeros(7), 0)
    np.testing.assert_array_equal(motion.update(HOME, np.zeros(7), 1, 0.002), np.zeros(7))
    torque = vc.Controller(make_description(), make_config())
    torque.activate(HOME, np.zeros(7), 0)
    q, dq = torque.update_motion(HOME + 0.1, np.zeros(7), 1, 0.001)
    np.testing.assert_array_equal(q, HOME + 0.1)
    np.testing.assert_array_equal(dq, np.zeros(7))
    assert torque.state().compliant
