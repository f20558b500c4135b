# SPDX-License-Identifier: Apache-2.0
"""Wrench cap, joint and workspace barriers, energy tank: on the plant, each with its control."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from arm import (
    BASE,
    HOME,
    JOINT_IMPEDANCE,
    JOINTS,
    TOOL,
    Plant,
    glide,
    make_config,
    make_urdf,
    start_moving,
)
from hypothesis import given
from hypothesis import strategies as st

import vla_control as vc
from vla_control import RejectReason as R

MARGIN = 0.05


def limited(joint: int, lower: float, upper: float) -> vc.RobotDescription:
    """The test arm with other limits of one joint (counted from 0)."""
    urdf = make_urdf()
    pattern = rf'(<joint name="{JOINTS[joint]}".*?<limit lower=)"-2.9" upper="2.9"'
    urdf = re.sub(pattern, rf'\g<1>"{lower}" upper="{upper}"', urdf, count=1, flags=re.DOTALL)
    return vc.RobotDescription(urdf, JOINTS, BASE, TOOL)


def test_the_wrench_is_capped_before_it_reaches_the_joints() -> None:
    def largest(**changes: object) -> tuple[float, float]:
        plant = Plant(config=make_config(**changes))
        plant.wrench[:] = [30.0, 0.0, 0.0, 0.0, 4.0, 0.0]
        plant.run(0.3)
        plant.wrench[:] = 0.0
        states = plant.run(0.3)
        assert any(s.wrench_saturated for s in states) == bool(changes)
        wrenches = np.array([s.wrench_command for s in states])
        return (
            float(np.linalg.norm(wrenches[:, :3], axis=1).max()),
            float(np.linalg.norm(wrenches[:, 3:], axis=1).max()),
        )

    force, torque = largest()
    assert force > 20.0
    assert torque > 2.0
    force, torque = largest(wrench_limits__force=12.0, wrench_limits__torque=1.5)
    assert force <= 12.0 + 1e-9
    assert torque <= 1.5 + 1e-9


@given(distance=st.floats(-1.0, 3.0), braking=st.floats(0.1, 100.0), reaction=st.floats(0.001, 0.2))
def test_the_braking_speed_stops_within_the_distance(
    distance: float, braking: float, reaction: float
) -> None:
    speed = vc.braking_speed(distance, braking, reaction)
    if distance <= 0.0:
        assert speed == 0.0
    else:
        assert speed * reaction + speed**2 / (2 * braking) == pytest.approx(distance)


@pytest.mark.parametrize("rate", [250.0, 1000.0])
@pytest.mark.parametrize(("joint", "room"), [(0, 0.1), (3, 0.1), (1, 0.1)])
def test_a_joint_thrown_at_its_limit_rests_before_it(joint: int, room: float, rate: float) -> None:
    soft = HOME[joint] + room

    def farthest(braking: float) -> float:
        plant = Plant(
            description=limited(joint, -2.9, soft + MARGIN),
            config=make_config(
                rate=rate,
                translational_stiffness=[50.0] * 3,
                rotational_stiffness=[2.0] * 3,
                damping_ratio=0.1,
                nullspace_stiffness=1.0,
                nullspace_damping_ratio=0.1,
                barrier__joint_braking=braking,
                barrier__joint_margin=MARGIN,
            ),
            rate=rate,
            substeps=round(4000 / rate),
        )
        plant.dq[joint] = vc.braking_speed(room, 15.0, 4 * max(0.02, 10 / rate))
        return max(s.q[joint] for s in plant.run(0.6))

    assert farthest(0.0) > soft + 0.01  # the control passes it
    assert farthest(15.0) <= soft


def test_a_reference_beyond_a_joint_limit_is_not_followed_to_it() -> None:
    upper = HOME[0] + 0.15

    def farthest(**changes: object) -> tuple[float, list[vc.ControllerState]]:
        plant = Plant(description=limited(0, -2.9, upper), config=make_config(**changes))
        pose = plant.pose
        swing = np.array([-pose[1, 3], pose[0, 3], 0.0]) * 0.45  # asks joint 1 for about 0.4 rad
        assert plant.push(glide(pose, swing, [0.0, 0.0, 0.4])) is R.NONE
        states = plant.run(1.5)
        return max(s.q[0] for s in states), states

    beyond, states = farthest()
    assert beyond > upper
    assert not any(s.barrier_active for s in states)
    rested, states = farthest(barrier__joint_braking=15.0, barrier__joint_margin=MARGIN)
    assert rested <= upper - MARGIN + 1e-3
    assert any(s.barrier_active for s in states)
    assert np.abs([s.dq for s in states[-50:]]).max() < 0.05


def test_the_joint_barrier_adds_no_energy() -> None:
    """Thrown at a limit, arm and spring together never have more than they began with."""
    joint, soft = 3, HOME[3] + 0.07
    plant = Plant(
        description=limited(joint, -2.9, soft + MARGIN),
        config=make_config(
            nullspace_stiffness=0.0, barrier__joint_braking=10.0, barrier__joint_margin=MARGIN
        ),
        substeps=4,
    )
    plant.dq[joint] = 1.2
    reference = plant.controller.state().reference_pose_tool_in_base
    energies, acted = [plant.kinetic_energy], False
    for _ in range(1000):
        plant.step()
        acted = acted or plant.controller.state().barrier_active
        error = reference[:3, 3] - plant.pose[:3, 3]
        turn = vc.so3_log(reference[:3, :3] @ plant.pose[:3, :3].T)
        energies.append(plant.kinetic_energy + 300.0 * error @ error + 15.0 * turn @ turn)
    assert acted
    assert max(energies) <= energies[0] * 1.01


def test_the_tool_rests_at_the_face_of_the_workspace() -> None:
    def farthest(braking: float) -> float:
        plant = Plant()
        face = plant.pose[0, 3] + 0.03
        plant = Plant(
            config=make_config(
                workspace_max=[face, 2.0, 2.0],
                translational_stiffness=[5.0] * 3,
                nullspace_stiffness=0.0,
                damping_ratio=0.1,
                barrier__workspace_braking=braking,
            )
        )
        jacobian = plant.kinematics.jacobian(plant.q)
        twist = np.array([0.25, 0.0, 0.0, 0.0, 0.0, 0.0])
        plant.dq = np.linalg.pinv(jacobian) @ twist
        return max(s.pose_tool_in_base[0, 3] for s in plant.run(0.6)) - face

    assert farthest(0.0) > 0.02  # the control leaves it
    # The rotation spring, much the stiffer one here, swings the tool a little after its rest.
    assert farthest(4.0) <= 1.5e-3


CAPACITY = 0.15
TANK = {"energy_tank__capacity": CAPACITY, "energy_tank__refill_power": 0.2}


def assert_within_budget(energies: list[float], rate: float = 1000.0) -> None:
    """No stretch of the run gives the arm more than the tank may hold and be refilled by."""
    budget = np.array(energies) - 0.2 * np.arange(len(energies)) / rate
    rises = budget - np.minimum.accumulate(budget)
    assert rises.max() <= CAPACITY * 1.05


def driven(plant: Plant, poses: np.ndarray, seconds: float) -> tuple[list[float], list[float]]:
    """Kinetic energy of the plant and level of the tank while it follows the poses."""
    assert plant.push(poses) is R.NONE
    energies, levels = [], []
    for _ in range(round(seconds * 1000)):
        plant.step()
        energies.append(plant.kinetic_energy)
        levels.append(plant.controller.state().tank_energy)
    return energies, levels


@pytest.mark.parametrize("law", [{}, JOINT_IMPEDANCE], ids=["impedance", "joint impedance"])
def test_the_tank_bounds_what_a_reference_gives_to_the_plant(law: dict[str, Any]) -> None:
    poses = glide(Plant().pose, [0.15, 0.14, -0.1])
    energies, _ = driven(Plant(config=make_config(**law)), poses, 0.6)
    with pytest.raises(AssertionError):  # the control breaks the budget
        assert_within_budget(energies)
    energies, levels = driven(Plant(config=make_config(**TANK, **law)), poses, 2.0)
    assert_within_budget(energies)
    assert min(levels) < 0.6 * CAPACITY
    assert min(levels) > -0.05 * CAPACITY
    assert max(levels) <= CAPACITY


def test_the_tank_bounds_what_growing_stiffness_gives_to_the_plant() -> None:
    def released(**changes: object) -> list[float]:
        plant = Plant(
            config=make_config(
                translational_stiffness=[100.0] * 3, gain_ramp_s=0.01, damping_ratio=0.1, **changes
            )
        )
        plant.wrench[0] = 12.0
        plant.run(0.6)  # drawn 0.1 m
        plant.wrench[:] = 0.0
        stiff = np.diag([3000.0] * 3 + [30.0] * 3)
        assert plant.controller.set_gains(vc.TaskGains(stiff, 0.1))
        energies = []
        for _ in range(400):
            plant.step()
            energies.append(plant.kinetic_energy)
        return energies

    with pytest.raises(AssertionError):
        assert_within_budget(released())
    assert_within_budget(released(**TANK))


def test_a_large_tank_changes_nothing() -> None:
    torques = []
    for capacity in (0.0, 50.0):
        plant = Plant(config=make_config(energy_tank__capacity=capacity))
        start_moving(plant)
        torques.append(plant.tau)
    np.testing.assert_allclose(torques[0], torques[1], atol=1e-12)


@pytest.mark.parametrize("blind", [0, 8])
def test_the_tank_books_what_the_plant_has_gained(blind: int) -> None:
    """Without friction what has left the tank is kinetic energy, Coriolis' share included.

    So it is where joint states are missing in between.
    """
    plant = Plant(config=make_config(energy_tank__capacity=50.0), substeps=4)
    assert plant.push(glide(plant.pose, [0.2, 0.25, -0.15], [0.0, 0.5, 0.8], steps=12)) is R.NONE
    booked, gained = [], []
    for cycle in range(600):
        gap = blind > 0 and cycle % 50 < blind
        plant.step(q=np.full(7, np.nan) if gap else None)
        if not gap and not (blind > 0 and cycle % 50 <= blind):
            booked.append(50.0 - plant.controller.state().tank_energy)
            gained.append(plant.kinetic_energy)
    assert max(gained) > 1.0
    # The torque of a cycle is booked in the next.
    error = np.abs(np.array(booked[1:]) - np.array(gained[:-1]))
    assert error.max() < (0.08 if blind else 0.03) * max(gained)


def test_the_joint_hold_is_paid_for_by_the_tank_and_never_scaled() -> None:
    plant = Plant(config=make_config(hold_stiffness=20.0, **TANK))
    plant.wrench[:3] = [25.0, 0.0, 25.0]
    plant.run(2.5)
    before = plant.q.copy()
    assert plant.controller.state().tank_energy > 0.9 * CAPACITY
    plant.controller.stop()
    levels = [state.tank_energy for state in plant.run(0.4)]
    assert plant.controller.state().phase is vc.Phase.FAULT
    # Its spring is drawn by far more than the tank has: all is taken, none is owed.
    assert min(levels) == pytest.approx(0.0, abs=1e-3)
    # It still holds against the push.
    assert np.abs(plant.q - before).max() < 0.01
    assert np.abs(plant.dq).max() < 0.02


def test_torque_falls_no_faster_than_its_rate_while_joint_states_are_missing() -> None:
    rates = {}
    for limit in (100.0, 1000.0):
        plant = Plant(config=make_config(torque_rate_limit=[limit] * 7))
        plant.wrench[:3] = [0.0, 30.0, 40.0]
        plant.run(0.8)
        before = plant.tau
        largest = 0.0
        for _ in range(9):
            tau = plant.step(q=np.full(7, np.nan))
            largest = max(largest, float(np.abs(tau - before).max()) * plant.rate)
            before = tau
        rates[limit] = largest
    assert rates[100.0] <= 100.0 * (1.0 + 1e-9)
    assert rates[1000.0] > 100.0  # the control: it would fall faster
