# SPDX-License-Identifier: Apache-2.0
"""Joint impedance: chunks of any mode followed joint by joint, and every transition smooth."""

from __future__ import annotations

import numpy as np
import pytest
from arm import HOME, JOINT_IMPEDANCE, JOINTS, Plant, glide, make_config, start_moving
from numpy.typing import NDArray

import vla_control as vc
from vla_control import RejectReason as R

Floats = NDArray[np.float64]
MS = 1_000_000
STIFFNESS = JOINT_IMPEDANCE["joint_stiffness"]
LAW = {
    **JOINT_IMPEDANCE,
    "chunk__accept_joint_positions": True,
    "chunk__accept_twists": True,
}
GOAL = HOME + np.array([0.2, 0.15, -0.2, 0.2, 0.15, -0.15, 0.2])
STEP = 0.05


def arm(**changes: object) -> Plant:
    return Plant(config=make_config(**{**LAW, **changes}))


def motion(goal: Floats, steps: int = 30, start: Floats = HOME) -> Floats:
    s = np.linspace(0.0, 1.0, steps)
    return start + (s**3 * (10 - 15 * s + 6 * s * s))[:, None] * (goal - start)


def push(plant: Plant, values: Floats, **changes: object) -> R:
    arguments: dict[str, object] = {
        "mode": vc.ChunkMode.JOINT_POSITION,
        "joint_names": JOINTS,
        "joint_values": values,
    }
    arguments.update(changes)
    return plant.controller.push_chunk(plant.chunk(None, **arguments))  # type: ignore[arg-type]


def column(states: list[vc.ControllerState], name: str) -> Floats:
    return np.array([getattr(state, name) for state in states])


def assert_twice_differentiable(states: list[vc.ControllerState], jerk: float = 2000.0) -> None:
    """The joint reference's derivatives are derivatives, and its acceleration has no step."""
    q, dq, ddq = (column(states, f"reference_{name}") for name in ("q", "dq", "ddq"))
    # What the trapezium rule errs by: a twelfth of the jerk times the squared period; at a kink of
    # the acceleration an eighth of the jerk times the period.
    np.testing.assert_allclose(np.diff(q, axis=0) * 1e3, (dq[1:] + dq[:-1]) / 2, atol=jerk * 1e-7)
    np.testing.assert_allclose(
        np.diff(dq, axis=0) * 1e3, (ddq[1:] + ddq[:-1]) / 2, atol=jerk * 1.3e-4
    )
    assert np.abs(np.diff(ddq, axis=0)).max() * 1e3 < jerk


def test_joint_positions_are_followed_joint_by_joint() -> None:
    plant = arm()
    values = motion(GOAL)
    assert push(plant, values) is R.NONE
    states = plant.run(1.45)
    for k in range(6, 28, 3):  # once the blend from rest is over
        np.testing.assert_allclose(states[50 * k - 1].reference_q, values[k], atol=1e-9)
        np.testing.assert_allclose(states[50 * k - 1].q, values[k], atol=2e-3)
    assert_twice_differentiable(states)
    states = plant.run(1.0)
    np.testing.assert_allclose(states[-1].reference_q, GOAL, atol=1e-12)
    np.testing.assert_allclose(plant.q, GOAL, atol=1e-3)
    assert states[-1].phase is vc.Phase.HOLDING


def test_the_impedance_law_follows_them_by_the_tool_only() -> None:
    """What the test above would miss if nothing had changed."""
    plant = arm(task_law=vc.TaskLawKind.IMPEDANCE)
    values = motion(GOAL)
    assert push(plant, values) is R.NONE
    states = plant.run(1.45)
    assert states[-1].reference_q.size == 0
    assert np.abs(states[800].q - values[16]).max() > 5e-3


def test_a_push_is_answered_with_the_stiffness_of_the_joints() -> None:
    plant = arm()
    plant.wrench[:] = [4.0, -3.0, 5.0, 0.1, 0.2, -0.3]
    plant.run(2.5)
    load = plant.kinematics.jacobian(plant.q).T @ plant.wrench
    np.testing.assert_allclose(np.array(STIFFNESS) * (plant.q - HOME), load, atol=0.02)


def test_every_mode_is_damped_as_asked_for() -> None:
    """Let go of with an error, no joint passes its place; at a third of the damping some do."""

    def overshoot(ratio: float) -> float:
        plant = arm(damping_ratio=ratio)
        plant.wrench[:3] = [10.0, 8.0, -6.0]
        plant.run(2.0)
        start = plant.q - HOME
        plant.wrench[:] = 0.0
        path = column(plant.run(1.0), "q") - HOME
        mode = path @ start / (start @ start)
        return float(-mode.min())

    assert overshoot(1.0) < 0.01
    assert overshoot(0.3) > 0.1


def test_poses_are_followed_through_the_inverse_kinematics() -> None:
    plant = arm()
    start = plant.pose
    poses = glide(start, [0.12, 0.1, -0.1], [0.2, 0.3, 0.4], steps=20)
    assert plant.push(poses) is R.NONE
    states = plant.run(1.2)
    for k in range(8, 19, 3):
        np.testing.assert_allclose(
            states[50 * k - 1].reference_pose_tool_in_base, poses[k], atol=2e-5
        )
        np.testing.assert_allclose(
            plant.kinematics.forward_kinematics(states[50 * k - 1].reference_q),
            states[50 * k - 1].reference_pose_tool_in_base,
            atol=1e-12,
        )
    assert_twice_differentiable(states)
    errors = column(states, "reference_q") - column(states, "q")
    assert np.abs(errors).max() < 5e-3
    states = plant.run(1.0)
    np.testing.assert_allclose(plant.pose, poses[-1], atol=1e-3)


def test_the_posture_moves_in_the_nullspace_of_poses() -> None:
    posture = HOME + np.array([0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0])
    ends = []
    for wanted in ([], list(posture)):
        plant = arm(nullspace_posture=wanted)
        for _ in range(4):
            assert plant.push(np.array([plant.pose] * 20)) is R.NONE
            plant.run(1.0)
        np.testing.assert_allclose(plant.pose, plant.kinematics.forward_kinematics(HOME), atol=2e-3)
        ends.append(plant.q)
    np.testing.assert_allclose(ends[0], HOME, atol=1e-3)
    assert np.abs(ends[1] - HOME).max() > 0.05


def test_modes_follow_one_another_without_a_step() -> None:
    plant = arm()
    states = []
    assert push(plant, motion(GOAL)) is R.NONE
    states += plant.run(0.6)
    pose = states[-1].reference_pose_tool_in_base
    twist = states[-1].reference_twist_tool_in_base
    ahead = np.array([pose] * 16)
    ahead[:, :3, 3] += STEP * np.arange(16)[:, None] * twist[:3] * 0.8
    assert plant.push(ahead) is R.NONE
    states += plant.run(0.4)
    twists = np.tile([0.05, 0.0, -0.05, 0.0, 0.1, 0.0], (10, 1))
    assert (
        plant.controller.push_chunk(plant.chunk(None, mode=vc.ChunkMode.TWIST, twists=twists))  # type: ignore[arg-type]
        is R.NONE
    )
    states += plant.run(0.3)
    now = states[-1].reference_q
    assert push(plant, motion(now + 0.1, 20, now)) is R.NONE
    states += plant.run(0.3)
    plant.controller.revoke()
    states += plant.run(1.0)
    assert_twice_differentiable(states)
    assert states[-1].phase is vc.Phase.HOLDING
    torques = column(states, "tau_command")
    assert np.abs(np.diff(torques, axis=0)).max() < 1.2
    assert not any(s.torque_saturated or s.torque_rate_saturated for s in states)


def test_seams_stay_within_the_bounds_of_tool_and_joints() -> None:
    plant = arm()
    rng = np.random.default_rng(2)
    start = plant.pose
    states = []
    for k in range(12):
        if k % 2:
            goal = HOME + rng.uniform(-0.05, 0.05, 7)
            q = plant.controller.state().reference_q
            result = push(plant, motion(goal, 20, q))
        else:
            poses = glide(start, rng.uniform(-0.03, 0.03, 3), rng.uniform(-0.1, 0.1, 3))
            result = plant.push(poses)
        assert result is R.NONE
        states += plant.run(0.15)
    tool = column(states, "reference_acceleration_tool_in_base")
    assert np.linalg.norm(tool[:, :3], axis=1).max() <= 5.0 * 1.02
    assert np.linalg.norm(tool[:, 3:], axis=1).max() <= 15.0 * 1.02
    assert np.abs(column(states, "reference_ddq")).max() <= 15.0 * 1.02
    assert_twice_differentiable(states)


@pytest.mark.parametrize(
    ("reason", "values", "changes"),
    [
        (R.TOO_FAST, motion(HOME + 1.0, steps=4), {}),
        (R.TOO_FAST, np.tile(HOME + 0.4, (10, 1)), {}),
        (R.OUT_OF_WORKSPACE, np.tile(HOME + 3.5, (5, 1)), {}),
        (R.NOT_FINITE, np.full((5, 7), np.nan), {}),
        (R.STALE, motion(GOAL), {"stamp_ns": -3000 * MS}),
    ],
)
def test_bad_joint_chunks_are_rejected(
    reason: R, values: Floats, changes: dict[str, object]
) -> None:
    plant = arm()
    assert push(plant, values, **changes) is reason
    assert push(plant, motion(GOAL)) is R.NONE


def test_poses_out_of_reach_are_rejected() -> None:
    plant = arm()
    away = np.array([0.5, 0.2, 0.1])
    assert plant.push(glide(plant.pose, 1.2 * away, steps=60)) is R.UNREACHABLE
    assert plant.push(glide(plant.pose, 0.1 * away)) is R.NONE


def test_a_chunk_that_is_too_fast_for_a_joint_is_slowed_down() -> None:
    goal = HOME.copy()
    goal[6] += 1.2  # turns the tool about its own axis
    limits = {"max_joint_velocity": [2.5] * 6 + [0.8], "chunk__max_slowdown": 6.0}
    plant = arm(**limits)
    assert push(plant, motion(goal, 20)) is R.NONE
    states = plant.run(2.5)
    assert states[0].chunk_slowdown > 1.5
    assert 0.7 < np.abs(column(states, "reference_dq")[:, 6]).max() <= 0.8 * 1.001
    assert (
        push(arm(max_joint_velocity=limits["max_joint_velocity"]), motion(goal, 20)) is R.TOO_FAST
    )


def test_gains_change_without_a_jump_and_take_effect() -> None:
    plant = arm()
    plant.wrench[:3] = [4.0, 3.0, -5.0]
    plant.run(1.5)
    task = np.diag([600.0] * 3 + [30.0] * 3)
    other = np.array([150.0, 500.0, 300.0, 200.0, 30.0, 90.0, 60.0])
    assert plant.controller.set_gains(vc.TaskGains(task, 0.8, other))
    torques = column(plant.run(2.5), "tau_command")
    assert np.abs(np.diff(torques, axis=0)).max() < 0.15
    load = plant.kinematics.jacobian(plant.q).T @ plant.wrench
    np.testing.assert_allclose(other * (plant.q - HOME), load, atol=0.02)
    for bad in (np.full(7, 1e4), np.full(7, -1.0), np.full(7, np.nan), np.ones(6)):
        assert not plant.controller.set_gains(vc.TaskGains(task, 1.0, bad))


def test_stop_and_reset_do_not_make_the_torque_jump() -> None:
    plant = arm()
    start_moving(plant)
    plant.wrench[:3] = [0.0, 3.0, 6.0]
    before = plant.tau
    plant.controller.stop()
    torques = np.array([before] + [plant.step() for _ in range(1500)])
    assert np.abs(np.diff(torques, axis=0)).max() < 0.8
    assert plant.controller.state().phase is vc.Phase.FAULT
    before = plant.tau
    plant.controller.reset()
    np.testing.assert_allclose(plant.step(), before, atol=2e-3)
    assert plant.controller.state().phase is vc.Phase.HOLDING
    assert push(plant, motion(plant.q + 0.05, 20, plant.q)) is R.NONE


def test_the_wrench_cap_and_the_error_clip_hold() -> None:
    plant = arm(wrench_limits__force=15.0, max_joint_error=0.05)
    plant.wrench[:3] = [30.0, 0.0, 0.0]
    states = plant.run(0.4)
    force = np.linalg.norm(column(states, "wrench_command")[:, :3], axis=1)
    assert force.max() <= 15.0 + 1e-9
    assert any(s.wrench_saturated for s in states)
    free = arm()
    free.wrench[:3] = [30.0, 0.0, 0.0]
    force = np.linalg.norm(column(free.run(0.4), "wrench_command")[:, :3], axis=1)
    assert force.max() > 20.0


def test_a_tare_carries_an_unknown_load() -> None:
    plant = arm()
    plant.carry((0.6, (0.0, 0.0, 0.05)))
    plant.run(1.5)
    sunk = np.abs(plant.q - HOME).max()
    plant.controller.tare()
    plant.run(3.0)
    state = plant.controller.state()
    assert state.tares == 1
    assert state.payload_mass == pytest.approx(0.6, abs=0.02)
    assert np.abs(plant.q - HOME).max() < 0.1 * sunk


def test_the_integral_takes_out_what_friction_leaves() -> None:
    ends = []
    for gain in (0.0, 5.0):
        plant = arm(integral__gain=gain, integral__max_force=30.0, integral__max_torque=4.0)
        plant.friction = (0.3, 0.3)
        plant.push(glide(plant.pose, [0.1, 0.05, -0.05]))
        plant.run(2.5)
        state = plant.controller.state()
        error = state.reference_pose_tool_in_base[:3, 3] - state.pose_tool_in_base[:3, 3]
        ends.append(float(np.linalg.norm(error)))
    assert ends[0] > 5e-4
    assert ends[1] < 0.6 * ends[0]


def test_motion_output_has_no_joint_impedance() -> None:
    with pytest.raises(ValueError, match="JOINT_IMPEDANCE commands torques"):
        arm(output=vc.OutputKind.MOTION)
