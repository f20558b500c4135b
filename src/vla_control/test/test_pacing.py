# SPDX-License-Identifier: Apache-2.0
"""What the arm cannot follow is slowed down as far as allowed, or rejected with the reason."""

from __future__ import annotations

import numpy as np
import pytest
from arm import HOME, Plant, glide, make_config, make_description, moved
from numpy.typing import NDArray

import vla_control as vc
from vla_control import RejectReason as R

Floats = NDArray[np.float64]
MS = 1_000_000
# Bent and all but stretched: an outward motion of the tool needs a fast elbow, or cannot be.
BENT = np.array([0.1, 0.575, -0.1, -1.1, 0.15, 0.3, 0.7])
STRETCHED = np.array([0.1, 0.25, -0.1, -0.45, 0.15, 0.3, 0.7])


def outward(plant: Plant, distance: float, steps: int = 16) -> Floats:
    """A motion away from the shoulder, which the elbow has to straighten for."""
    shoulder = np.array([0.0, 0.0, 0.33])
    away = plant.pose[:3, 3] - shoulder
    return glide(plant.pose, distance * away / np.linalg.norm(away), steps=steps)


def fast(plant: Plant, speed: float) -> Floats:
    """A motion of 16 steps of 50 ms whose mean speed is given."""
    return glide(plant.pose, np.array([0.6, 0.3, -0.742]) * 0.75 * speed)


def test_what_is_too_fast_is_slowed_down_uniformly_to_the_limits() -> None:
    plant = Plant(config=make_config(chunk__max_slowdown=5.0, max_linear_velocity=0.3))
    poses = fast(plant, 0.4)
    assert plant.push(poses) is R.NONE
    states = plant.run(3.0)
    slowdown = states[5].chunk_slowdown
    assert 1.5 < slowdown < 3.0  # 0.6 m/s at the peak
    speeds = [np.linalg.norm(s.reference_twist_tool_in_base[:3]) for s in states]
    assert 0.8 * 0.3 < max(speeds) <= 0.3 * 1.02
    accelerations = [np.linalg.norm(s.reference_acceleration_tool_in_base[:3]) for s in states]
    assert max(accelerations) <= 5.0 * 1.02
    # It is still the same path, to its end.
    np.testing.assert_allclose(states[-1].reference_pose_tool_in_base, poses[-1], atol=1e-9)
    start, end = poses[0, :3, 3], poses[-1, :3, 3]
    along = (end - start) / np.linalg.norm(end - start)
    for state in states[::20]:
        offset = state.reference_pose_tool_in_base[:3, 3] - start
        assert np.linalg.norm(offset - offset.dot(along) * along) < 1e-9
    assert states[-1].chunk_slowdown == 1.0  # none is followed any more


def test_without_leave_to_slow_down_it_is_rejected() -> None:
    plant = Plant(config=make_config(max_linear_velocity=0.3))
    assert plant.push(fast(plant, 0.4)) is R.TOO_FAST
    plant = Plant(config=make_config(max_linear_velocity=0.3, chunk__max_slowdown=1.4))
    assert plant.push(fast(plant, 0.4)) is R.TOO_FAST
    assert plant.controller.state().chunk_slowdown == 1.0


def test_a_chunk_slower_than_the_limits_is_untouched() -> None:
    references = []
    for changes in ({}, {"chunk__max_slowdown": 10.0, "chunk__joint_velocity_share": 0.9}):
        plant = Plant(config=make_config(**changes))
        assert plant.push(glide(plant.pose, [0.12, 0.05, -0.08], [0.0, 0.2, 0.3])) is R.NONE
        states = plant.run(1.0)
        assert all(s.chunk_slowdown == 1.0 for s in states)
        references.append([s.reference_pose_tool_in_base for s in states])
    np.testing.assert_array_equal(references[0], references[1])


def test_only_what_remains_of_a_late_chunk_is_slowed_down() -> None:
    plant = Plant(config=make_config(chunk__max_slowdown=5.0, max_linear_velocity=0.3))
    plant.run(0.4)
    late = 0.2
    poses = fast(plant, 0.3)
    assert plant.push(poses, stamp_ns=plant.time_ns - round(late * 1e9)) is R.NONE
    plant.step()
    slowdown = plant.controller.state().chunk_slowdown
    assert slowdown > 1.1
    remaining = plant.controller.state().chunk_remaining
    assert remaining == pytest.approx((0.75 - late) * slowdown, abs=3e-3)


def test_the_gripper_stays_in_time_with_a_slowed_chunk() -> None:
    plant = Plant(config=make_config(chunk__max_slowdown=5.0, max_linear_velocity=0.3))
    opening = np.linspace(0.08, 0.005, 16)
    assert plant.push(fast(plant, 0.4), gripper_opening=opening) is R.NONE
    plant.run(0.5)
    state = plant.controller.state()
    step = int(0.5 / (0.05 * state.chunk_slowdown))
    assert step < 9
    assert state.gripper_opening_command == pytest.approx(opening[step])


def test_a_singularity_ahead_slows_the_chunk_down() -> None:
    """By as much as inverse kinematics along the path says, and the arm then keeps to it."""
    share = 0.25
    fastest, slowdowns = [], []
    for asked in (0.0, share):
        config = make_config(
            chunk__max_slowdown=20.0,
            chunk__joint_velocity_share=asked,
            translational_stiffness=[5000.0] * 3,
            rotational_stiffness=[300.0] * 3,
        )
        plant = Plant(config=config, q=BENT.copy(), substeps=4)
        limit = plant.kinematics.velocity_limit
        poses = outward(plant, 0.035)
        assert plant.push(poses) is R.NONE
        states = plant.run(2.0)
        slowdowns.append(states[5].chunk_slowdown)
        fastest.append(max(np.max(np.abs(s.dq) / limit) for s in states))
    assert fastest[0] > 1.2 * share
    assert fastest[1] < share
    assert slowdowns[0] == 1.0

    reference = vc.ChunkReference(poses[0], 0)
    reference.follow(poses, 0, 0.05, 0)
    times = range(250, 751, 10)
    q, path = BENT, []
    for t in times:
        q, converged = plant.kinematics.inverse_kinematics(reference.sample(t * MS).pose, q)
        assert converged
        path.append(q)
    needed = np.max(np.abs(np.diff(path, axis=0)) / 0.01 / limit)
    assert slowdowns[1] == pytest.approx(needed / share, rel=0.2)


def test_what_is_out_of_reach_is_rejected() -> None:
    for share, expected in ((0.0, R.NONE), (0.9, R.UNREACHABLE)):
        config = make_config(chunk__max_slowdown=20.0, chunk__joint_velocity_share=share)
        plant = Plant(config=config, q=STRETCHED.copy())
        assert plant.push(outward(plant, 0.15)) is expected
    state = plant.controller.state()
    assert state.last_reject_reason is R.UNREACHABLE
    assert plant.push(outward(plant, -0.1)) is R.NONE  # inward it goes


def test_a_joint_limit_ahead_is_rejected() -> None:
    q = HOME.copy()
    q[6] = 2.7  # of 2.9
    for share, expected in ((0.0, R.NONE), (0.9, R.UNREACHABLE)):
        plant = Plant(config=make_config(chunk__joint_velocity_share=share), q=q.copy())
        axis = plant.pose[:3, :3] @ np.array([0.0, 0.0, 1.0])
        sign = np.sign(
            plant.kinematics.jacobian(q)[3:, 6] @ axis
        )  # turns joint 7 towards its limit
        turned = [moved(plant.pose, np.zeros(3), 0.8 * f * sign * axis) for f in ramp(16)]
        assert plant.push(np.array(turned)) is expected
        back = [moved(plant.pose, np.zeros(3), -0.8 * f * sign * axis) for f in ramp(16)]
        assert plant.push(np.array(back)) is R.NONE


def ramp(steps: int) -> Floats:
    s = np.linspace(0.0, 1.0, steps)
    return s * s * (3 - 2 * s)


def test_settings_out_of_range_are_named() -> None:
    for name, value in (("max_slowdown", 0.5), ("joint_velocity_share", 1.5)):
        with pytest.raises(ValueError, match=f"chunk.{name}"):
            vc.Controller(make_description(), make_config(**{f"chunk__{name}": value}))
