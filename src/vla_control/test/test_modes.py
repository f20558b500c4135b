# SPDX-License-Identifier: Apache-2.0
"""Chunks of joint positions and of twists, and what is streamed for teleoperation."""

from __future__ import annotations

import numpy as np
import pytest
from arm import HOME, JOINT_IMPEDANCE, JOINTS, Plant, make_config
from numpy.typing import NDArray

import vla_control as vc
from vla_control import RejectReason as R

MS = 1_000_000
Floats = NDArray[np.float64]


@pytest.fixture
def arm() -> Plant:
    """An arm at rest that accepts every mode."""
    return Plant(config=make_config(chunk__accept_joint_positions=True, chunk__accept_twists=True))


def joint_motion(goal: Floats, steps: int = 30) -> Floats:
    s = np.linspace(0.0, 1.0, steps)
    s = s**3 * (10 - 15 * s + 6 * s * s)
    return HOME + s[:, None] * (goal - HOME)


def push_joints(plant: Plant, values: Floats, **changes: object) -> R:
    arguments: dict[str, object] = {
        "mode": vc.ChunkMode.JOINT_POSITION,
        "joint_names": JOINTS,
        "joint_values": values,
    }
    arguments.update(changes)
    return plant.controller.push_chunk(plant.chunk(None, **arguments))  # type: ignore[arg-type]


def push_twists(plant: Plant, twists: object, **changes: object) -> R:
    arguments: dict[str, object] = {"mode": vc.ChunkMode.TWIST, "twists": twists}
    arguments.update(changes)
    return plant.controller.push_chunk(plant.chunk(None, **arguments))  # type: ignore[arg-type]


GOAL = HOME + np.array([0.3, 0.2, -0.25, 0.3, 0.2, -0.2, 0.3])


def test_joint_positions_are_followed_by_the_tool_and_by_the_joints(arm: Plant) -> None:
    values = joint_motion(GOAL)
    assert push_joints(arm, values) is R.NONE
    states = arm.run(1.45)
    for k in range(6, 29, 4):  # once the blend from rest is over
        wanted = arm.kinematics.forward_kinematics(values[k])
        np.testing.assert_allclose(
            states[50 * k - 1].reference_pose_tool_in_base, wanted, atol=1e-6
        )
    arm.run(4.0)
    np.testing.assert_allclose(arm.pose, arm.kinematics.forward_kinematics(GOAL), atol=2e-3)
    # The redundant joint, too: the posture goes with the chunk.
    np.testing.assert_allclose(arm.q, GOAL, atol=0.02)


def test_the_posture_is_what_brings_the_redundant_joint_along() -> None:
    plant = Plant()  # the same poses without joint positions
    poses = np.array([plant.kinematics.forward_kinematics(q) for q in joint_motion(GOAL)])
    assert plant.push(poses) is R.NONE
    plant.run(5.5)
    assert np.abs(plant.q - GOAL).max() > 0.05


def test_joint_names_may_come_in_any_order(arm: Plant) -> None:
    order = [3, 0, 6, 1, 5, 2, 4]
    values = joint_motion(GOAL)
    names = [JOINTS[i] for i in order]
    assert push_joints(arm, values[:, order], joint_names=names) is R.NONE
    arm.run(1.6)
    wanted = arm.kinematics.forward_kinematics(GOAL)
    np.testing.assert_allclose(
        arm.controller.state().reference_pose_tool_in_base, wanted, atol=1e-9
    )


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (R.EMPTY, {"joint_values": None}),
        (R.BAD_SHAPE, {"joint_names": JOINTS[:6]}),
        (R.BAD_SHAPE, {"joint_names": []}),
        (R.BAD_SHAPE, {"joint_names": [*JOINTS[:6], JOINTS[0]]}),
        (R.BAD_SHAPE, {"joint_names": [*JOINTS[:6], "finger_joint"]}),
        (R.BAD_SHAPE, {"joint_values": np.zeros((5, 3))}),
        (R.BAD_SHAPE, {"twists": np.zeros((30, 6))}),
        (R.TOO_LONG, {"joint_values": np.tile(HOME, (65, 1))}),
        (R.NOT_FINITE, {"joint_values": np.tile(HOME * np.nan, (5, 1))}),
        (R.OUT_OF_WORKSPACE, {"joint_values": np.tile(HOME + 3.5, (5, 1))}),
        (R.TOO_FAST, {"joint_values": joint_motion(HOME + 1.0, steps=4)}),
        (R.BAD_SHAPE, {"mode": vc.ChunkMode.POSE}),
    ],
)
def test_bad_joint_chunks_are_rejected_for_their_reason(
    arm: Plant, reason: R, changes: dict[str, object]
) -> None:
    expected = R.EMPTY if changes.get("mode") is vc.ChunkMode.POSE else reason
    assert push_joints(arm, joint_motion(GOAL), **changes) is expected
    assert push_joints(arm, joint_motion(GOAL)) is R.NONE


def test_twists_move_the_tool_and_end_at_rest(arm: Plant) -> None:
    start = arm.pose
    twist = np.array([0.1, -0.05, 0.02, 0.0, 0.1, 0.3])
    assert push_twists(arm, np.tile(twist, (20, 1))) is R.NONE
    states = arm.run(2.0)
    np.testing.assert_allclose(states[700].reference_twist_tool_in_base, twist, atol=1e-6)
    end = states[-1].reference_pose_tool_in_base
    np.testing.assert_allclose(end[:3, 3], start[:3, 3] + twist[:3], atol=1e-3)
    turn = vc.so3_log(end[:3, :3] @ start[:3, :3].T)
    np.testing.assert_allclose(turn, twist[3:], atol=1e-3)
    np.testing.assert_array_equal(states[-1].reference_twist_tool_in_base, np.zeros(6))
    assert states[-1].phase is vc.Phase.HOLDING


def test_a_late_chunk_of_twists_begins_where_the_arm_is(arm: Plant) -> None:
    arm.run(0.4)
    start = arm.controller.state().reference_pose_tool_in_base
    twist = np.array([0.2, 0.0, 0.0, 0.0, 0.0, 0.0])
    stamp = arm.time_ns - 200 * MS
    assert push_twists(arm, np.tile(twist, (20, 1)), stamp_ns=stamp) is R.NONE
    states = arm.run(2.0)
    moved = states[-1].reference_pose_tool_in_base[:3, 3] - start[:3, 3]
    np.testing.assert_allclose(moved, [0.2 * 0.8, 0, 0], atol=1e-3)  # what is past is not made up


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (R.EMPTY, {"twists": None}),
        (R.TOO_LONG, {"twists": np.zeros((64, 6))}),
        (R.NOT_FINITE, {"twists": np.full((5, 6), np.inf)}),
        (R.TOO_FAST, {"twists": np.tile([2.0, 0, 0, 0, 0, 0], (5, 1))}),
        (R.TOO_FAST, {"twists": np.tile([0, 0, 0, 5.0, 0, 0], (5, 1))}),
        (R.OUT_OF_WORKSPACE, {"twists": np.tile([0.5, 0, 0, 0, 0, 0], (60, 1)), "step_dt": 0.2}),
        (R.OUT_OF_WORKSPACE, {"twists": np.full((5, 6), 1e300)}),
        (R.BAD_SHAPE, {"joint_names": JOINTS}),
        (R.STALE, {"stamp_ns": -600 * MS}),
    ],
)
def test_bad_twist_chunks_are_rejected_for_their_reason(
    arm: Plant, reason: R, changes: dict[str, object]
) -> None:
    arguments: dict[str, object] = {"twists": np.tile([0.1, 0, 0, 0, 0, 0], (10, 1))}
    arguments.update(changes)
    assert push_twists(arm, arguments.pop("twists"), **arguments) is reason
    assert push_twists(arm, [[0.1, 0, 0, 0, 0, 0]]) is R.NONE


def test_streamed_twists_are_followed_evenly_and_time_out_into_a_hold(arm: Plant) -> None:
    """Teleoperation: each command is one twist that lasts until it would be stale."""
    twist = np.array([0.15, 0.0, -0.05, 0.0, 0.0, 0.2])
    states = []
    for _ in range(40):  # 20 Hz
        assert push_twists(arm, [twist], step_dt=0.2) is R.NONE
        states += arm.run(0.05)
    velocities = np.array([s.reference_twist_tool_in_base for s in states])
    np.testing.assert_allclose(velocities[500:], np.tile(twist, (1500, 1)), atol=2e-3)
    accelerations = np.array([s.reference_acceleration_tool_in_base for s in states])
    assert np.linalg.norm(accelerations[:, :3], axis=1).max() <= 5.0 * 1.02
    jerk = np.linalg.norm(np.diff(accelerations[:, :3], axis=0), axis=1) * 1e3
    assert jerk.max() < 300.0  # m/s^3
    # The stream stops: after its 0.2 s the arm is at rest.
    end = arm.run(0.5)
    assert end[-1].phase is vc.Phase.HOLDING
    np.testing.assert_array_equal(end[-1].reference_twist_tool_in_base, np.zeros(6))
    travel = (
        end[-1].reference_pose_tool_in_base[0, 3] - states[-1].reference_pose_tool_in_base[0, 3]
    )
    assert 0.0 < travel <= 0.15 * 0.2


def streamed(
    plant: Plant, twist: np.ndarray, rate: int, late: float = 0.0, steps: int = 1
) -> np.ndarray:
    """Velocity of the reference along `twist`, in shares of it, while it is said for a second."""
    shares = []
    plant.run(0.1)
    for _ in range(rate):
        stamp = plant.time_ns - round(late * 1e9)
        twists = np.tile(twist, (steps, 1))
        assert push_twists(plant, twists, step_dt=0.1 / steps, stamp_ns=stamp) is R.NONE
        for state in plant.run(round(1000 / rate) / 1000):
            shares.append(state.reference_twist_tool_in_base @ twist / (twist @ twist))
    return np.array(shares)


@pytest.mark.parametrize("law", [{}, JOINT_IMPEDANCE], ids=["task", "joint"])
@pytest.mark.parametrize(("rate", "late"), [(20, 0.0), (20, 0.03), (33, 0.0), (50, 0.0)])
def test_a_stream_of_twists_is_approached_without_overshoot(
    law: dict[str, object], rate: int, late: float
) -> None:
    for twist in ([0.0, 0.0, 0.1, 0.0, 0.0, 0.0], [0.15, 0.1, -0.15, 0.0, 0.0, 0.6]):
        plant = Plant(config=make_config(chunk__accept_twists=True, **law))
        shares = streamed(plant, np.array(twist), rate, late)
        assert shares.max() <= (1.001 if not law else 1.01)
        assert np.diff(shares).min() >= (-1e-5 if not law else -1e-3)
        assert shares[300] > 0.9
        assert shares[-1] > 0.97


def test_what_several_twists_lose_of_their_way_is_made_up_for(arm: Plant) -> None:
    """The positive control of the overshoot's bound."""
    assert streamed(arm, np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0]), 50, steps=2).max() > 1.05


@pytest.mark.parametrize("law", [{}, JOINT_IMPEDANCE], ids=["task", "joint"])
def test_twists_that_come_too_late_to_be_held_never_move_the_arm_backwards(
    law: dict[str, object],
) -> None:
    plant = Plant(config=make_config(chunk__accept_twists=True, **law))
    shares = streamed(plant, np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0]), 20, late=0.06)
    assert shares.min() > -0.01
    assert 0.1 < shares.max() < 1.05


def test_a_reversed_twist_stays_within_the_limits(arm: Plant) -> None:
    peak = 0.0
    for sign in (1.0, -1.0, 1.0):
        for _ in range(8):
            assert push_twists(arm, [[0.3 * sign, 0, 0, 0, 0, 0]], step_dt=0.2) is R.NONE
            for state in arm.run(0.05):
                peak = max(
                    peak, float(np.linalg.norm(state.reference_acceleration_tool_in_base[:3]))
                )
    assert 2.0 < peak <= 5.0 * 1.02


def test_modes_must_be_switched_on() -> None:
    plant = Plant()
    assert push_twists(plant, [[0.1, 0, 0, 0, 0, 0]]) is R.UNSUPPORTED_MODE
    assert push_joints(plant, joint_motion(GOAL)) is R.UNSUPPORTED_MODE
