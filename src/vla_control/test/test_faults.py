# SPDX-License-Identifier: Apache-2.0
"""Stop and reset, clocks that jump and joint states that are garbage."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from arm import (
    BASE,
    HOME,
    JOINTS,
    TOOL,
    Plant,
    assert_brakes_to_a_hold,
    long_glide,
    make_urdf,
    start_moving,
)

import vla_control as vc
from vla_control import Fault, Phase
from vla_control import RejectReason as R

SECOND = 1_000_000_000
MS = 1_000_000

Poison = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def phase(plant: Plant) -> Phase:
    return plant.controller.state().phase


def test_stop_holds_in_fault_until_reset_without_a_jump(plant: Plant) -> None:
    plant.wrench[:3] = [0.0, 0.0, 8.0]  # something pushes: contact force must be carried
    start_moving(plant)
    plant.controller.stop()
    before = plant.tau
    torques = []
    for _ in range(1500):
        torques.append(plant.step())
    state = plant.controller.state()
    assert (state.phase, state.fault) == (Phase.FAULT, Fault.STOP_REQUESTED)
    assert np.abs(np.diff([before, *torques], axis=0)).max() < 0.6
    rested = plant.q.copy()
    plant.run(0.5)
    np.testing.assert_allclose(plant.q, rested, atol=1e-5)
    assert plant.push(long_glide(plant)) is R.FAULT
    # Pushed by hand it springs back: stiffness, not damping alone.
    plant.wrench[:3] = [0.0, 15.0, 8.0]
    plant.run(0.5)
    assert np.abs(plant.q - rested).max() > 1e-3
    plant.wrench[:3] = [0.0, 0.0, 8.0]
    plant.run(1.0)
    np.testing.assert_allclose(plant.q, rested, atol=1e-3)
    before = plant.tau
    plant.controller.reset()
    after = plant.step()
    np.testing.assert_allclose(after, before, atol=1e-3)
    assert phase(plant) is Phase.HOLDING
    held = plant.pose
    plant.run(1.5)
    np.testing.assert_allclose(plant.pose[:3, 3], held[:3, 3], atol=1e-3)
    assert plant.push(long_glide(plant)) is R.NONE


def test_a_reset_while_the_arm_still_brakes_waits_until_it_stands(plant: Plant) -> None:
    start_moving(plant)
    before = plant.controller.state().reference_pose_tool_in_base[:3, 3]
    speed = np.linalg.norm(plant.controller.state().reference_twist_tool_in_base[:3])
    assert speed > 0.02
    plant.controller.stop()
    plant.run(0.01)
    plant.controller.reset()
    steps, cycles = [], 0
    while phase(plant) is Phase.FAULT:
        moved = np.abs(plant.dq).max()
        plant.step()
        after = plant.controller.state().reference_pose_tool_in_base[:3, 3]
        steps.append(np.linalg.norm(after - before))
        before, cycles = after, cycles + 1
        assert cycles < 600
    assert phase(plant) is Phase.HOLDING
    assert moved < 0.02, "it stood when it was released"
    assert max(steps[1:]) < 1.1e-3 * speed + 2e-5, "and its reference has not jumped"
    place = plant.controller.state().pose_tool_in_base[:3, 3]
    plant.run(0.5)
    settled = plant.controller.state().pose_tool_in_base[:3, 3]
    assert np.linalg.norm(settled - place) < 2e-3


def test_a_stop_wins_over_a_reset_of_the_same_cycle(plant: Plant) -> None:
    plant.controller.stop()
    plant.controller.reset()
    plant.run(0.01)
    assert phase(plant) is Phase.FAULT
    plant.controller.reset()
    plant.controller.stop()
    plant.run(0.01)
    assert phase(plant) is Phase.FAULT
    plant.controller.reset()
    plant.run(0.01)
    assert phase(plant) is Phase.HOLDING


@pytest.mark.parametrize("step_ns", [-1, -10 * SECOND, 51 * MS, 3600 * SECOND])
def test_a_clock_jump_brakes_from_where_the_reference_was(plant: Plant, step_ns: int) -> None:
    start_moving(plant)
    before = plant.controller.state()
    torque = plant.tau
    plant.step(advance_ns=step_ns)
    after = plant.controller.state()
    assert (after.phase, after.fault) == (Phase.FAULT, Fault.CLOCK_JUMP)
    np.testing.assert_allclose(
        after.reference_pose_tool_in_base, before.reference_pose_tool_in_base, atol=1e-12
    )
    np.testing.assert_allclose(
        after.reference_twist_tool_in_base, before.reference_twist_tool_in_base, atol=1e-12
    )
    assert np.abs(plant.tau - torque).max() < 1.0
    assert_brakes_to_a_hold(plant, 1.5)
    plant.controller.reset()
    plant.run(0.01)
    assert plant.push(long_glide(plant)) is R.NONE


def test_a_late_cycle_and_a_standing_clock_are_no_jump(plant: Plant) -> None:
    start_moving(plant)
    plant.step(advance_ns=50 * MS)
    assert phase(plant) is Phase.TRACKING
    plant.step(advance_ns=0)
    assert phase(plant) is Phase.TRACKING


def test_a_jump_does_not_keep_old_heartbeats_alive(supervised: Plant) -> None:
    plant = supervised
    plant.run(0.01)
    plant.beat = None
    plant.step(advance_ns=-5 * SECOND)
    plant.controller.reset()
    plant.run(0.01)
    assert plant.controller.state().heartbeat_lost


@pytest.mark.parametrize(
    "poison",
    [
        lambda q, dq: (np.full(7, np.nan), dq),
        lambda q, dq: (q, np.full(7, np.inf)),
        lambda q, dq: (q + 1e6, dq),
        lambda q, dq: (q, dq + 1e5),
        lambda q, dq: (q[:6], dq),
        lambda q, dq: (q, np.zeros(0)),
    ],
)
def test_bad_joint_states_are_survived_then_a_fault(plant: Plant, poison: Poison) -> None:
    start_moving(plant)
    before = plant.tau
    wrench = np.linalg.norm(plant.controller.state().wrench_command)
    assert wrench > 0.1
    q, dq = poison(plant.q, plant.dq)
    plant.step(q, dq)
    assert np.isfinite(plant.tau).all()
    assert np.abs(plant.tau - before).max() < 2.0
    # What is told of the task's wrench fades as the torque does.
    faded = np.linalg.norm(plant.controller.state().wrench_command)
    assert 0.9 * wrench < faded < wrench
    plant.run(0.05)
    assert phase(plant) is Phase.TRACKING  # a single bad sample is bridged
    for _ in range(12):
        tau = plant.step(*poison(plant.q, plant.dq))
        assert np.isfinite(tau).all()
    state = plant.controller.state()
    assert (state.phase, state.fault) == (Phase.FAULT, Fault.BAD_JOINT_STATE)
    for _ in range(200):
        tau = plant.step(*poison(plant.q, plant.dq))
    gravity = plant.kinematics.gravity(state.q)
    np.testing.assert_allclose(tau, gravity, atol=0.5)  # faded to what carries the weight
    # Measurements return: held where the arm then is, within every limit, and released by reset.
    torques = [tau]
    for _ in range(1000):
        torques.append(plant.step())
    assert np.isfinite(torques).all()
    assert np.abs(plant.dq).max() < 1e-2
    assert phase(plant) is Phase.FAULT
    plant.controller.reset()
    plant.run(0.1)
    assert phase(plant) is Phase.HOLDING
    assert plant.push(long_glide(plant)) is R.NONE
    plant.run(0.1)
    assert phase(plant) is Phase.TRACKING


def test_a_reset_during_bad_joint_states_waits_for_good_ones(plant: Plant) -> None:
    plant.run(0.01)
    nan = np.full(7, np.nan)
    for _ in range(20):
        plant.step(nan)
    plant.controller.reset()
    plant.step(nan)
    assert phase(plant) is Phase.FAULT
    plant.run(0.01)
    assert phase(plant) is Phase.HOLDING


def test_periods_that_cannot_be_are_replaced_by_the_nominal_one(plant: Plant) -> None:
    start_moving(plant)
    for period in (float("nan"), 0.0, -1.0, 1e9, float("inf")):
        plant.time_ns += MS
        tau = plant.controller.update(plant.q, plant.dq, plant.time_ns, period)
        assert np.isfinite(tau).all()
        assert np.abs(tau - plant.tau).max() < 2.0


def massless_wrist() -> vc.RobotDescription:
    """An arm whose links 5 and 6 weigh nothing: where its axes 5 and 7 align, nothing tells their
    inertias apart and the mass matrix is singular. Everywhere else it is an arm like any other."""
    urdf = make_urdf(offset=0.0)
    for link in ("link5", "link6"):
        pattern = rf'(<link name="{link}"><inertial>.*?)<mass.*?/><inertia.*?/>'
        nothing = (
            r'\g<1><mass value="0"/><inertia ixx="0" iyy="0" izz="0" ixy="0" ixz="0" iyz="0"/>'
        )
        urdf = re.sub(pattern, nothing, urdf, count=1)
    return vc.RobotDescription(urdf, JOINTS, BASE, TOOL)


def test_a_singular_mass_matrix_is_a_numeric_fault() -> None:
    plant = Plant(description=massless_wrist(), substeps=4)
    plant.run(0.05)
    assert phase(plant) is Phase.HOLDING  # the control: away from there it works
    before = plant.tau
    aligned = plant.q.copy()
    aligned[5] = 0.0
    torques = [plant.step(aligned, np.zeros(7)) for _ in range(20)]
    state = plant.controller.state()
    assert (state.phase, state.fault) == (Phase.FAULT, Fault.NUMERIC)
    assert np.isfinite(state.wrench_command).all()
    assert np.isfinite(torques).all()
    assert np.abs(np.diff([before, *torques], axis=0)).max() < 2.0
    # The joint hold needs no inverse of the mass matrix: it has taken over what was in force.
    torques = [plant.step(aligned, np.zeros(7)) for _ in range(100)]
    np.testing.assert_allclose(torques[-1], torques[0], atol=1e-6)
    # Away from there again it is held, and a reset releases it.
    plant.q, plant.dq = HOME.copy(), np.zeros(7)
    plant.run(0.1)
    assert phase(plant) is Phase.FAULT
    plant.controller.reset()
    plant.run(0.05)
    assert phase(plant) is Phase.HOLDING
