# SPDX-License-Identifier: Apache-2.0
"""Phases and ownership: activation, dead publishers and supervisors, grants, the gripper."""

from __future__ import annotations

import numpy as np
import pytest
from arm import (
    HOME,
    Plant,
    assert_brakes_to_a_hold,
    glide,
    long_glide,
    make_config,
    make_description,
    start_moving,
)

import vla_control as vc
from vla_control import Fault, Phase
from vla_control import RejectReason as R

SECOND = 1_000_000_000
MS = 1_000_000


def phase(plant: Plant) -> Phase:
    return plant.controller.state().phase


def test_activation_does_not_move_the_arm() -> None:
    for config in (make_config(), make_config(nullspace_posture=(HOME + 0.5).tolist())):
        plant = Plant(config=config)
        plant.run(1.0)
        np.testing.assert_allclose(plant.q, HOME, atol=1e-9)
        assert phase(plant) is Phase.HOLDING
        assert plant.controller.gripper_command() is None


def test_the_configured_posture_is_approached_only_while_tracking() -> None:
    # A displacement of the elbow: along the nullspace, so that the posture can be reached.
    model = vc.RobotModel(make_description())
    elbow = np.linalg.svd(model.jacobian(HOME))[2][-1]
    plant = Plant(config=make_config(nullspace_posture=(HOME + 0.4 * elbow).tolist()))
    plant.run(0.5)
    np.testing.assert_allclose(plant.q, HOME, atol=1e-9)
    hold = np.repeat(plant.pose[None], 40, axis=0)
    assert plant.push(hold) is R.NONE
    states = plant.run(1.9)
    assert 0.2 < (plant.q - HOME) @ elbow < 0.5
    errors = [s.reference_pose_tool_in_base[:3, 3] - s.pose_tool_in_base[:3, 3] for s in states]
    assert np.abs(errors).max() < 1e-3  # the tool stays while the elbow moves


def test_a_chunk_from_before_the_activation_never_moves_the_arm(plant: Plant) -> None:
    plant.run(0.1)
    chunk = plant.chunk(long_glide(plant))
    late = plant.chunk(long_glide(plant), stamp_ns=plant.time_ns - 1)
    pending = plant.chunk(long_glide(plant))
    assert plant.controller.push_chunk(pending) is R.NONE  # not taken up before the activation
    plant.controller.activate(plant.q, plant.dq, plant.time_ns)
    plant.run(0.1)
    assert phase(plant) is Phase.HOLDING
    assert plant.controller.push_chunk(late) is R.STALE
    assert plant.controller.push_chunk(chunk) is R.NONE  # observed at the activation


def test_inactive_gives_no_torque(plant: Plant) -> None:
    assert np.abs(plant.step()).max() > 1.0
    plant.controller.deactivate()
    tau = plant.controller.update(plant.q, plant.dq, plant.time_ns + MS, 1e-3)
    np.testing.assert_array_equal(tau, np.zeros(7))
    assert phase(plant) is Phase.INACTIVE
    for bad in (np.full(7, np.nan), np.zeros(6)):
        with pytest.raises(ValueError, match="inactive"):
            plant.controller.activate(bad, np.zeros(len(bad)), 0)
        assert phase(plant) is Phase.INACTIVE


def test_a_dead_publisher_leaves_the_arm_at_the_last_waypoint(plant: Plant) -> None:
    poses = long_glide(plant)
    plant.push(poses)
    states = plant.run(1.5)
    phases = [s.phase for s in states]
    assert [p for i, p in enumerate(phases) if i == 0 or p is not phases[i - 1]] in (
        [Phase.TRACKING, Phase.BRAKING, Phase.HOLDING],
        [Phase.TRACKING, Phase.HOLDING],
    )
    assert states[-1].sequence == 0
    assert states[-1].chunk_age == -1.0
    np.testing.assert_allclose(states[-1].reference_pose_tool_in_base, poses[-1], atol=1e-12)
    assert plant.push(long_glide(plant)) is R.NONE  # and a later chunk resumes
    plant.run(0.2)
    assert phase(plant) is Phase.TRACKING


def test_a_configured_chunk_timeout_is_a_fault() -> None:
    plant = Plant(config=make_config(chunk__timeout_s=0.3))
    plant.run(1.0)
    assert phase(plant) is Phase.HOLDING  # nothing was followed, nothing is missed
    plant.push(long_glide(plant))
    plant.run(0.75 + 0.25)
    assert phase(plant) is Phase.HOLDING
    plant.run(0.1)
    assert plant.controller.state().fault is Fault.CHUNK_TIMEOUT
    plant.controller.reset()
    plant.run(0.1)
    plant.push(long_glide(plant))
    plant.run(0.2)
    plant.controller.revoke()  # a pause is no timeout
    plant.run(1.5)
    assert phase(plant) is Phase.HOLDING


def test_revocation_brakes_and_forgets(plant: Plant) -> None:
    start_moving(plant)
    older = plant.chunk(long_glide(plant), stamp_ns=plant.time_ns - 50 * MS)
    plant.controller.revoke()
    plant.step()
    assert phase(plant) is Phase.BRAKING
    assert plant.controller.push_chunk(older) is R.STALE
    assert_brakes_to_a_hold(plant)
    assert phase(plant) is Phase.HOLDING
    assert plant.push(long_glide(plant)) is R.NONE


def test_a_dead_supervisor_brakes_to_a_hold_and_a_living_one_resumes(supervised: Plant) -> None:
    plant = supervised
    start_moving(plant)
    beat, plant.beat = plant.beat, None
    plant.run(0.09)
    assert phase(plant) is Phase.TRACKING
    plant.run(0.02)
    assert phase(plant) is Phase.BRAKING
    assert plant.controller.state().heartbeat_lost
    assert plant.push(long_glide(plant), boot_id=7, grant=1) is R.OLD_GRANT
    assert_brakes_to_a_hold(plant)
    assert phase(plant) is Phase.HOLDING
    old = plant.chunk(long_glide(plant), boot_id=7, grant=1, stamp_ns=plant.time_ns - 2 * SECOND)
    plant.beat = beat
    plant.run(0.01)
    assert plant.controller.push_chunk(old) is R.STALE
    assert plant.push(long_glide(plant)) is R.NONE
    plant.run(0.1)
    assert phase(plant) is Phase.TRACKING


def test_nothing_moves_before_the_first_heartbeat() -> None:
    plant = Plant(config=make_config(heartbeat_timeout_s=0.1))
    plant.run(0.01)
    assert plant.push(long_glide(plant), boot_id=7, grant=1) is R.OLD_GRANT
    plant.beat = (7, 1)
    plant.run(0.01)
    assert plant.push(long_glide(plant)) is R.NONE


def test_stale_heartbeats_do_not_count(supervised: Plant) -> None:
    plant = supervised
    start_moving(plant)
    plant.beat = None
    stamp = plant.time_ns
    for _ in range(150):
        plant.controller.heartbeat(7, 1, stamp)  # the same old beat, again and again
        plant.step()
    assert plant.controller.state().heartbeat_lost


def test_a_restarted_supervisor_is_accepted_and_the_old_one_is_not(supervised: Plant) -> None:
    plant = supervised
    start_moving(plant)
    plant.beat = (8, 1)  # a new boot takes over while the chunk of the old one is followed
    plant.step()
    assert phase(plant) is Phase.BRAKING
    assert_brakes_to_a_hold(plant)
    assert plant.push(long_glide(plant), boot_id=7, grant=99) is R.OLD_GRANT
    plant.controller.heartbeat(7, 99, plant.time_ns)
    plant.beat = None
    plant.step()
    plant.beat = (8, 1)
    assert plant.controller.state().boot_id == 8
    assert plant.push(long_glide(plant), sequence=1) is R.NONE
    plant.run(0.1)
    state = plant.controller.state()
    assert (state.phase, state.boot_id, state.grant) == (Phase.TRACKING, 8, 1)


def test_a_new_grant_revokes_and_beats_of_the_old_boot_keep_nothing_alive(
    supervised: Plant,
) -> None:
    plant = supervised
    start_moving(plant)
    pending = plant.chunk(long_glide(plant))
    plant.beat = (7, 2)
    assert plant.controller.push_chunk(pending) is R.NONE  # the loop has not seen the grant yet
    plant.step()
    state = plant.controller.state()
    assert state.phase is Phase.BRAKING
    assert state.last_reject_reason is R.OLD_GRANT
    assert plant.push(long_glide(plant), stamp_ns=plant.time_ns - 5 * MS) is R.NONE
    plant.beat = (6, 50)
    plant.run(0.15)
    assert plant.controller.state().heartbeat_lost


def test_of_two_publishers_the_owner_is_followed_and_the_other_leaves_no_trace() -> None:
    def torques(other: tuple[int, int] | None) -> np.ndarray:
        """While the owner, and `other` (boot id, grant) between its chunks, push all the time."""
        plant = Plant(config=make_config(heartbeat_timeout_s=0.1))
        plant.beat = (7, 2)
        plant.run(0.01)
        whole = glide(plant.pose, [0.12, 0.05, -0.08], steps=40)
        aside = glide(plant.pose, [-0.1, 0.1, 0.0])
        out = []
        for cycle in range(800):
            if cycle % 100 == 0:
                step = cycle // 50
                assert plant.push(whole[step : step + 16], sequence=2 * cycle + 1) is R.NONE
            if cycle % 100 == 50 and other is not None:
                boot_id, grant = other
                reason = plant.push(aside, boot_id=boot_id, grant=grant, sequence=2 * cycle + 2)
                assert reason is (R.NONE if other == plant.beat else R.OLD_GRANT)
            out.append(plant.step())
        assert phase(plant) is Phase.TRACKING
        return np.array(out)

    alone = torques(None)
    for other in ((7, 1), (6, 9), (0, 0)):
        np.testing.assert_array_equal(torques(other), alone)
    # The control: with the owner's grant the other would be followed.
    assert np.abs(torques((7, 2)) - alone).max() > 1.0


def test_a_configured_heartbeat_fault() -> None:
    plant = Plant(config=make_config(heartbeat_timeout_s=0.1, heartbeat_fault_s=0.4))
    plant.run(0.6)
    assert phase(plant) is Phase.HOLDING  # no supervisor yet is no loss
    plant.beat = (1, 1)
    plant.run(0.01)
    start_moving(plant)
    plant.beat = None
    plant.run(0.35)
    assert phase(plant) is not Phase.FAULT
    plant.run(0.1)
    assert plant.controller.state().fault is Fault.HEARTBEAT_LOST


def test_gripper_setpoints_share_the_time_of_the_poses(plant: Plant) -> None:
    plant.run(0.2)
    opening = np.linspace(0.08, 0.005, 16)
    force = np.linspace(10, 40, 16)
    stamp = plant.time_ns - 120 * MS
    plant.push(long_glide(plant), stamp_ns=stamp, gripper_opening=opening, gripper_max_force=force)
    for _ in range(900):
        plant.step()
        step = min((plant.time_ns - stamp) // (50 * MS), 15)  # the latest one not after now
        assert plant.controller.gripper_command() == (opening[step], force[step])
    # A chunk without gripper values leaves it, one out of range is clamped, a future one waits.
    plant.push(long_glide(plant))
    plant.step()
    assert plant.controller.gripper_command() == (opening[15], force[15])
    plant.push(long_glide(plant), gripper_opening=[0.5] * 16, stamp_ns=plant.time_ns + 20 * MS)
    plant.run(0.019)
    assert plant.controller.gripper_command() == (opening[15], force[15])
    plant.run(0.002)
    assert plant.controller.gripper_command() == (0.08, 20.0)


def test_the_gripper_keeps_its_command_when_the_chunk_is_revoked(plant: Plant) -> None:
    plant.push(long_glide(plant), gripper_opening=[0.01] * 8 + [0.08] * 8)
    plant.run(0.2)
    plant.controller.revoke()
    plant.run(1.0)
    assert plant.controller.gripper_command() == (0.01, 20.0)  # does not drop what it holds
    plant.controller.activate(plant.q, plant.dq, plant.time_ns)
    assert plant.controller.gripper_command() is None


def test_after_a_fault_the_gripper_is_left_alone_until_a_chunk_commands_it(plant: Plant) -> None:
    plant.push(long_glide(plant), gripper_opening=[0.01] * 16)
    plant.run(0.2)
    assert plant.controller.state().gripper_commanded
    plant.controller.stop()
    plant.step()
    state = plant.controller.state()
    assert not state.gripper_commanded
    assert state.gripper_opening_command == 0.01  # what it was told last
    plant.controller.reset()
    plant.run(1.0)
    assert plant.controller.state().phase is Phase.HOLDING
    assert plant.push(long_glide(plant)) is R.NONE  # says nothing of the gripper
    plant.run(0.2)
    assert plant.controller.gripper_command() is None
    plant.push(long_glide(plant), gripper_opening=[0.02] * 16)
    plant.run(0.2)
    assert plant.controller.gripper_command() == (0.02, 20.0)


def test_saturation_flags_tell_about_the_time_since_the_state_before(plant: Plant) -> None:
    plant.run(0.01)
    assert not plant.controller.state().wrench_saturated
    plant.controller.update(plant.q + 0.3, plant.dq, plant.time_ns + MS, 1e-3)
    plant.time_ns += MS
    for _ in range(5):
        plant.step()
    first, second = plant.controller.state(), plant.controller.state()
    assert first.wrench_saturated
    assert first.torque_rate_saturated
    assert not second.wrench_saturated
    assert not second.torque_rate_saturated
